"""Models of the Hugging Face Hub, `hf://owner/name`, which Keras fetches and loads."""

from typing import TYPE_CHECKING, Any

from brainseg_keras.errors import InputError, first_line, optional_import

if TYPE_CHECKING:
    import keras

HUB = "hf://"


def on_hub(model: Any) -> bool:
    """Say whether a model's name is that of one on the Hub.

    Example:
        >>> on_hub("hf://owner/name"), on_hub("runs/lgg")
        (True, False)
    """
    return isinstance(model, str) and model.startswith(HUB)


def load_from_hub(address: str) -> "keras.Model":
    """Load a model that was saved with `model.save("hf://owner/name")`.

    Args:
        address: `hf://owner/name`. What was fetched once is read from the Hub's cache where there is no network.

    Returns:
        The model, not compiled.

    Raises:
        InputError: Another form of address, `huggingface_hub` is missing, or a model that cannot be fetched or read.

    Example:
        >>> load_from_hub("hf://name")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: A model on the Hub is hf://owner/name. Received: hf://name.
    """
    owner, _, name = address.removeprefix(HUB).partition("/")
    if not on_hub(address) or not owner or not name or "/" in name:
        raise InputError(f"A model on the Hub is hf://owner/name. Received: {address}.")
    optional_import("huggingface_hub", "hub")
    import keras

    try:
        return keras.saving.load_model(address, compile=False)
    except Exception as error:  # whatever the network, the Hub's client or Keras raise
        raise InputError(
            f"{address} cannot be loaded ({first_line(error)}). Check the name and the connection, or download the "
            "model and give its .keras file."
        ) from error
