"""The networks: `build_model("unet", ...)` by name, or the recipes in `architectures` directly.

To add an architecture: write its recipe in `architectures.py`, name it in `ARCHITECTURES` below, and add its golden
row to `tests/test_models.py`. The tests, `list_models` and the tables follow.
"""

import difflib
import inspect
from typing import Any

import keras

from brainseg_keras.errors import InputError
from brainseg_keras.models import architectures

ARCHITECTURES = {
    recipe.__name__: recipe
    for recipe in (
        architectures.unet,
        architectures.attention_unet,
        architectures.res_unet,
        architectures.attention_res_unet,
        architectures.r2_unet,
        architectures.ar2_unet,
        architectures.mod_r2au_net,
    )
}


def list_models() -> list[str]:
    """Return the names that `build_model` knows.

    Example:
        >>> "attention_res_unet" in list_models()
        True
    """
    return list(ARCHITECTURES)


def build_model(name: str, **kwargs: Any) -> keras.Model:
    """Build a registered architecture by name.

    Args:
        name: One of `list_models()`.
        **kwargs: The recipe's arguments, such as `input_shape`, `filters` or `separable`. The name of the Keras
            model is the architecture's; to choose another, call the recipe itself.

    Returns:
        The `keras.Model` that the recipe builds.

    Raises:
        InputError: When the name or an argument is unknown, or the recipe refuses a value.

    Example:
        >>> build_model("unet", input_shape=(64, 64, 1), filters=8).name
        'unet'
    """
    recipe = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if recipe is None:
        raise InputError(
            f"architecture must be one of {', '.join(ARCHITECTURES)}. Received: {name!r}."
            f"{_closest(str(name), ARCHITECTURES)}"
        )
    known = [parameter for parameter in inspect.signature(recipe).parameters if parameter != "name"]
    for argument in kwargs:
        if argument not in known:
            raise InputError(
                f"{name} takes no argument {argument!r}. It takes {', '.join(known)}.{_closest(argument, known)}"
            )
    return recipe(**kwargs)


def _closest(word, names):
    match = difflib.get_close_matches(word.lower().replace("-", "_"), names, n=1)
    return f" Did you mean {match[0]!r}?" if match else ""
