"""Networks by name: those of the list `ARCHITECTURES`, and those with the weights that ship."""

import inspect
from typing import TYPE_CHECKING, Any

from brainseg_keras.errors import InputError
from brainseg_keras.models.hub import load_from_hub, on_hub
from brainseg_keras.models.shipped import pretrained_info
from brainseg_keras.registry import ARCHITECTURES, closest

if TYPE_CHECKING:
    import keras


def list_models() -> list[str]:
    """Return the names that `build_model` knows.

    Example:
        >>> "attention_res_unet" in list_models()
        True
    """
    return list(ARCHITECTURES)


def build_model(name: str, **kwargs: Any) -> "keras.Model":
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
    ARCHITECTURES.check("architecture", name)
    recipe = ARCHITECTURES[name]
    known = [parameter for parameter in inspect.signature(recipe).parameters if parameter != "name"]
    for argument in kwargs:
        if argument not in known:
            raise InputError(
                f"{name} takes no argument {argument!r}. It takes {', '.join(known)}.{closest(known, argument)}"
            )
    return recipe(**kwargs)


def load_pretrained(name: str = "lgg") -> "keras.Model":
    """Build a network with the weights that ship with the package, or load one from the Hugging Face Hub.

    Args:
        name: One of `list_pretrained()`, or `hf://owner/name`.

    Returns:
        The model, not compiled; with shipped weights in float32.

    Raises:
        InputError: An unknown name, a file that is not the one that was shipped, or a model that cannot be fetched.

    Example:
        >>> load_pretrained("lgg").output_shape
        (None, 128, 128, 1)
    """
    if on_hub(name):
        return load_from_hub(name)
    info = pretrained_info(name)
    return build_model(info["architecture"], **info["arguments"] | {"weights": name})
