"""Settings that do not go together, and what only some networks and losses take, refused. Loads nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from brainseg_keras.errors import InputError
from brainseg_keras.files import expand
from brainseg_keras.registry import ARCHITECTURES, BALANCED, LOSS_OPTIONS, LOSSES, NORMS, RECURRENT, TARGETS, UPS

#: Settings that are arguments of every recipe, and of the recurrent ones; where they are None, it has its own.
RECIPE = ("filters", "depth", "up", "norm")
RECURRENT_RECIPE = ("recurrence", "norm_per_step")
#: Settings that are options of a loss; the same.
LOSS = tuple(dict.fromkeys(option for options in LOSS_OPTIONS.values() for option in options))
#: Settings that take one of a few words.
WORDS = {
    "precision": ("auto", "float32", "mixed_float16", "mixed_bfloat16"),
    "target": TARGETS,
    "up": UPS,
    # In YAML `null` is the recipe's own.
    "norm": (*NORMS, "none"),
    "reduce_over": ("image", "batch"),
    "freeze": ("encoder", "backbone"),
    "validation": ("patients", "none"),
}


def check_recipe(architecture: str, given: Mapping[str, Any]) -> None:
    """Refuse an unknown architecture, and arguments that it does not take.

    Args:
        architecture: Its name.
        given: The settings of `RECURRENT_RECIPE` that are not None.

    Raises:
        InputError: They are refused.

    Example:
        >>> check_recipe("r2_unet", {"recurrence": 3})
    """
    ARCHITECTURES.check("architecture", architecture)
    if given and architecture not in RECURRENT:
        raise InputError(
            f"{architecture} takes no {' and no '.join(given)}; {', '.join(RECURRENT)} do. Leave {_flags(given)} out, "
            "or give another --architecture."
        )


def check_loss(loss: str, given: Mapping[str, Any]) -> None:
    """Refuse an unknown loss, and options that it does not take.

    Args:
        loss: Its name.
        given: The settings of `LOSS` that are not None.

    Raises:
        InputError: They are refused.

    Example:
        >>> check_loss("tversky", {"alpha": 0.2})
    """
    LOSSES.check("loss", loss)
    known = LOSS_OPTIONS[loss]
    if other := [name for name in given if name not in known]:
        raise InputError(
            f"The loss {loss} takes {', '.join(known) or 'no options'}. Received: {', '.join(other)}. Leave "
            f"{_flags(other)} out, or give another --loss."
        )


def loss_arguments(loss: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments of a loss: an alpha that is given shall count, which in a focal loss takes class balancing.

    Args:
        loss: Its name.
        given: As for `check_loss`.

    Returns:
        What `get_loss` takes.

    Example:
        >>> loss_arguments("binary_focal", {"alpha": 0.8})
        {'alpha': 0.8, 'apply_class_balancing': True}
    """
    return dict(given) | ({"apply_class_balancing": True} if "alpha" in given and loss in BALANCED else {})


def check_supervision(depth: int | None, freeze: str | None) -> None:
    """Refuse deep supervision of a decoder that has no lower level, or that is not trained.

    Args:
        depth: Number of halvings; None where the recipe has its own.
        freeze: What is not trained, or None.

    Raises:
        InputError: It is refused.

    Example:
        >>> check_supervision(depth=2, freeze="encoder")
    """
    if depth == 1:
        raise InputError(
            "deep_supervision judges levels of the decoder below the full resolution, and with depth=1 there is none. "
            "Give --depth 2 or more, or leave --deep-supervision out."
        )
    if freeze == "backbone":
        raise InputError(
            "deep_supervision teaches the decoder, which freeze=backbone leaves as it is. Leave --deep-supervision out "
            "or give --freeze encoder."
        )


def check_validation(validation: str, given: Mapping[str, Any]) -> None:
    """Refuse settings that need validation patients where there are none.

    Args:
        validation: `patients` or `none`.
        given: Those of `folds` and `patience` that are not None.

    Raises:
        InputError: They are refused.

    Example:
        >>> check_validation("none", {})
    """
    if validation == "none" and given:
        raise InputError(
            f"With --validation none all patients train, and no epoch is better than another. Received: "
            f"{', '.join(f'{name}={value}' for name, value in given.items())}. Leave {_flags(given)} out, or "
            "--validation none."
        )


def check_paths(name: str, paths: Sequence[Any]) -> list[str]:
    """Expand the paths of a setting that takes several.

    Args:
        name: Of the setting.
        paths: What was given.

    Returns:
        The paths.

    Raises:
        InputError: None, something else, or one twice.

    Example:
        >>> check_paths("teacher", ["runs/five"])
        ['runs/five']
    """
    if not paths or not all(isinstance(path, str) for path in paths) or len(set(paths)) < len(paths):
        raise InputError(f"{name} is one path or more, each once. Received: {list(paths)!r}.")
    return [expand(path, name) for path in paths]


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
