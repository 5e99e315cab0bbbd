"""What only some networks and losses take, refused where it is given to another. Loads nothing."""

from collections.abc import Iterable, Mapping
from typing import Any

from brainseg_keras.errors import InputError
from brainseg_keras.registry import ARCHITECTURES, BALANCED, LOSS_OPTIONS, LOSSES, RECURRENT

#: Settings that are arguments of every recipe, and of the recurrent ones; where they are None, it has its own.
RECIPE = ("filters", "depth", "up", "norm")
RECURRENT_RECIPE = ("recurrence", "norm_per_step")
#: Settings that are options of a loss; the same.
LOSS = tuple(dict.fromkeys(option for options in LOSS_OPTIONS.values() for option in options))


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


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
