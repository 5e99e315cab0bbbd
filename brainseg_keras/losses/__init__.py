"""Losses for masks: registered classes for `compile`, the pure functions beside them, and their names for `--loss`."""

import inspect
from typing import Any

import keras  # Before the files of this room: Keras, once loaded, loads them (see _registration.py).
import lazy_loader

from brainseg_keras.errors import InputError
from brainseg_keras.registry import LOSSES

__getattr__, __dir__, _names = lazy_loader.attach(__name__, submod_attrs=LOSSES.public_names("{name}_loss"))
__all__ = ["LOSSES", "get_loss", *_names]


def get_loss(name: str, **kwargs: Any) -> keras.losses.Loss:
    """The loss that `--loss name` means.

    Args:
        name: a key of `LOSSES`, such as "dice_focal".
        **kwargs: options of that class.

    Returns:
        An instance of the class.

    Raises:
        InputError: no such loss, no such option, or an option out of range.

    Example:
        >>> get_loss("dice_focal", focal_weight=2).name
        'dice_focal_loss'
    """
    LOSSES.check("loss", name)
    accepted = inspect.signature(LOSSES[name]).parameters
    unknown = [key for key in kwargs if key not in accepted]
    if unknown:
        raise InputError(f"the options of loss {name!r} are {', '.join(accepted)}. Received: {', '.join(unknown)}.")
    return LOSSES[name](**kwargs)
