"""The weights that a run starts from: where they lie, what they are of, and how they come into its network."""

from collections.abc import Iterable
from pathlib import Path

import keras

from brainseg_keras.errors import InputError, reading
from brainseg_keras.information import RESTORE
from brainseg_keras.models import names
from brainseg_keras.models.adaptation import Fit, compare_weights, take_weights
from brainseg_keras.models.shipped import announce, list_pretrained, shipped_file
from brainseg_keras.models.weights import stored_weights
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.options import RECIPE, RECURRENT_RECIPE
from brainseg_keras.training.origin import beside_weights, network_settings


def find_weights(init: str) -> Path:
    """Find the file of the weights that a run starts from.

    Args:
        init: As in the configuration.

    Returns:
        Its path.

    Raises:
        InputError: It is not there.
    """
    if init in list_pretrained():
        return shipped_file(init)
    path = Path(init) / "best.keras" if Path(init).is_dir() else Path(init)
    if not path.is_file():
        raise InputError(
            f"--init: there is no file {path}. Give the folder of a run, a .keras or .weights.h5 file, or a shipped "
            f"name: {', '.join(list_pretrained())}."
        )
    return path


def take_initial(model: keras.Model, spec: NetworkSpec, init: str, *, adapt: bool) -> tuple[Fit, str]:
    """Give a network the weights that a run starts from.

    Args:
        model: The network.
        spec: What it is.
        init: As in the configuration.
        adapt: Whether other channels or another target are taken as far as they fit.

    Returns:
        What fits, and a line that says it.

    Raises:
        InputError: Weights of another network; or, without `adapt`, of other channels or another target.
    """
    before, stored = beside_weights(init), stored_weights(find_weights(init))
    seen, wanted = (None if known is None else _image_channels(known) for known in (before, spec))
    fit = compare_weights(
        model,
        stored,
        same_channels=seen is None or seen == wanted,
        same_answer=before is None or before.target == spec.target,
    )
    if fit.other:
        count = len(fit.other) + len(fit.kept) + len(fit.mixed) + len(fit.new)
        raise InputError(
            f"--init {init} is another network: {len(fit.other)} of {count} layers have other names or shapes, such as "
            f"{', '.join(fit.other[:3])}. --adapt takes other channels and targets, not another architecture, width or "
            f"depth. {_made_with(before, spec)}"
        )
    if (fit.mixed or fit.new) and not adapt:
        theirs = _shape_in_words(before) if before else "another number of channels or classes"
        raise InputError(
            f"--init {init} has {theirs}; this run has {_shape_in_words(spec)}. Give --adapt: what both have stays, "
            "and the rest is new. Or give data and a --target as those weights had."
        )
    origins = None if seen is None else [seen.index(channel) if channel in seen else None for channel in wanted]
    # A run.json of another network names channels that these weights do not have.
    with reading(init, RESTORE):
        take_weights(model, stored, fit, origins)
    if init in list_pretrained():
        announce(init)
    return fit, _fit_in_words(init, fit, before, spec)


def frozen_layers(model: keras.Model, part: str | None, fit: Fit | None) -> tuple[str, ...]:
    """Name the layers that are not trained: those of a part of the network that took all of their weights.

    Args:
        model: The network.
        part: `encoder`, `backbone` (all but the head), or None.
        fit: What it took.

    Returns:
        The names, in the network's order.
    """
    if part is None or fit is None:
        return ()
    belongs = names.is_encoder if part == "encoder" else lambda name: not names.is_head(name)
    kept = set(fit.kept)
    return tuple(layer.name for layer in model.layers if layer.name in kept and belongs(layer.name))


def freeze(model: keras.Model, layers: Iterable[str], *, frozen: bool = True) -> None:
    """Let layers stay as they are, their kernels and the statistics of their normalizations; or let them learn again.

    Args:
        model: The network; one that is compiled already is to be compiled again.
        layers: Their names.
        frozen: Whether they stay.
    """
    for name in layers:
        model.get_layer(name).trainable = not frozen


def _image_channels(spec: NetworkSpec) -> list[tuple[int, str]]:
    """Say what each channel of the network's image is: of which neighboring slice, and which sequence."""
    return [(step, name) for step in range(-spec.context, spec.context + 1) for name in spec.channels]


def _shape_in_words(spec: NetworkSpec) -> str:
    context = f" with context {spec.context}" if spec.context else ""
    return f"the channels {', '.join(spec.channels)}{context} and the target {spec.target.name}"


def _made_with(before: NetworkSpec | None, spec: NetworkSpec) -> str:
    if before is None:
        return "Give the --architecture, --filters and --depth that it was made with."
    theirs, own, flags = network_settings(before), network_settings(spec), []
    for name in ("architecture", "separable", *RECIPE, *RECURRENT_RECIPE):
        value, flag = theirs.get(name), f"--{name.replace('_', '-')}"
        if value != own.get(name):
            flags.append(f"no {flag}" if value in (None, False) else flag if value is True else f"{flag} {value}")
    return f"Give what it was made with: {', '.join(flags)}."


def _fit_in_words(init: str, fit: Fit, before: NetworkSpec | None, spec: NetworkSpec) -> str:
    parts = [f"{len(fit.kept)} layers kept"]
    if fit.mixed:
        known = [name for name in spec.channels if before and name in before.channels]
        fresh = [name for name in spec.channels if name not in known]
        what = [f"{', '.join(known)} kept"] if known else []
        what += [f"{', '.join(fresh)} as the mean of the old"] if fresh else []
        parts.append(f"{', '.join(fit.mixed)} by channel ({', '.join(what)})")
    if fit.new:
        parts.append(f"{', '.join(fit.new)} new")
    return f"Weights of {init}: {'; '.join(parts)}."
