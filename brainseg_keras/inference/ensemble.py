"""Several networks as one: the mean of their probabilities, what they have in common, and whom any of them has met."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from brainseg_keras.calibration import Calibration
from brainseg_keras.data.roles import Roles
from brainseg_keras.errors import InputError
from brainseg_keras.inference.runner import Network
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.spec import NetworkSpec

#: What the members have to agree in: with it they see the same pixels and answer the same question.
_SHARED = ("channels", "target", "context", "preprocessing")
_log = logging.getLogger(__name__)


def average(networks: Sequence[Network]) -> Network:
    """Make one network of several: the mean of their probabilities, each counting alike.

    Probabilities are averaged and not logits: exported files answer in nothing else, a probability that float32 rounds
    to 1 has no logit, and so mirror images are averaged too. One member that is very sure then counts as one; in a mean
    of logits it would outvote all others.

    Args:
        networks: The members.

    Returns:
        A function of a batch.

    Example:
        >>> half = average([lambda batch: 0 * batch, lambda batch: 0 * batch + 1])
        >>> half(np.ones((1, 1, 1, 1), "float32")).item()
        0.5

    Reference:
        Lakshminarayanan, Pritzel, Blundell 2017, arXiv:1612.01474 (deep ensembles).
    """

    def call(batch: np.ndarray) -> np.ndarray:
        total = np.array(networks[0](batch), np.float32)
        for network in networks[1:]:
            total += network(batch)
        total /= len(networks)
        return total

    return call


def average_model(models: Sequence[Any]) -> Any:
    """Make one Keras model of several: a flat graph of their layers, and the mean of their answers.

    Args:
        models: Functional models from one picture to one picture; they are left as they are.

    Returns:
        A `keras.Model` of copies of their layers, whose names begin with `member1_` and so on.

    Example:
        >>> from brainseg_keras import res_unet
        >>> both = average_model([res_unet((32, 32, 3), filters=4, depth=2) for _ in range(2)])
        >>> both.output_shape, both.layers[-1].name
        ((None, 32, 32, 1), 'mask')
    """
    import keras

    # The size of one that is fixed, since the others take any.
    shapes = [tuple(model.input_shape[1:]) for model in models]
    image = keras.Input(next((shape for shape in shapes if shape[0]), shapes[0]), name="image")
    answers = []
    for number, model in enumerate(models, 1):
        copied = keras.models.clone_model(
            model,
            input_tensors=keras.tree.map_structure(lambda _: image, model.input),
            clone_function=lambda layer, number=number: _renamed(layer, f"member{number}_"),
        )
        copied.set_weights(model.get_weights())
        answers.append(copied.outputs[0])
    return keras.Model(image, keras.layers.Average(name="mask")(answers), name="ensemble")


def _renamed(layer: Any, prefix: str) -> Any:
    return layer.__class__.from_config(layer.get_config() | {"name": prefix + layer.name})


def join_specs(specs: Mapping[str, NetworkSpec]) -> NetworkSpec:
    """Describe an ensemble: what its members have in common, and the patients that any of them has met.

    Calibration, postprocessing and what was expected of the masks were chosen for each member by itself, and are not
    the ensemble's.

    Args:
        specs: Of the members, by name.

    Returns:
        The description.

    Raises:
        InputError: They differ in what they see or in what they are asked for.

    Example:
        >>> join_specs({"a": NetworkSpec(("T1",)), "b": NetworkSpec(("FLAIR",))})
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: The networks of an ensemble see the same and answer the same. ...
    """
    (first, spec), *others = specs.items()
    for name, other in others:
        said = [_difference(part, spec, other) for part in _SHARED if getattr(spec, part) != getattr(other, part)]
        if said:
            raise InputError(
                f"The networks of an ensemble see the same and answer the same. {first} and {name} differ in "
                f"{'; '.join(said)}. Give networks of one recipe, or use them one by one."
            )
    lost = [name for name, one in specs.items() if one.tuning or one.calibration.changes]
    if lost:
        _log.warning(
            "What was tuned or calibrated for single networks is not used in their ensemble: %s.", ", ".join(lost)
        )
    common = {part: _common([getattr(one, part) for one in specs.values()]) for part in ("architecture", "data")}
    alike = {part: _common([getattr(one, part) for one in specs.values()]) or {} for part in ("arguments", "versions")}
    licenses = sorted({one.license for one in specs.values() if one.license})
    return replace(
        spec,
        **common,
        **alike,
        manifest_sha256=_common([one.manifest_sha256 for one in specs.values()]),
        license=" and ".join(licenses) or None,
        postprocessing=Postprocessing(),
        tuning=None,
        calibration=Calibration(),
        expectation=None,
        roles=Roles.union([one.roles for one in specs.values()]),
    )


def _common(values: Sequence[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else None


def _difference(part: str, first: NetworkSpec, second: NetworkSpec) -> str:
    """Say how two networks differ in one of the parts."""
    one, other = getattr(first, part), getattr(second, part)
    if part == "preprocessing":
        pairs = zip(dataclasses.asdict(one).items(), dataclasses.asdict(other).values(), strict=True)
        return ", ".join(f"{name} ({value} and {else_})" for (name, value), else_ in pairs if value != else_)
    if part == "target":
        one, other = one.name, other.name
    if part == "channels":
        one, other = ", ".join(one), ", ".join(other)
    return f"{part} ({one} and {other})"
