"""The lists of what can be called by name: networks, losses, metrics and engines.

Tests, tables, messages, `--help` and the names of `brainseg_keras` follow them. They stand here and not in their rooms
because they are read before Keras is loaded.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any


class Registry(Mapping):
    """A mapping from names to functions or classes, each imported when it is first asked for.

    Args:
        room: The package that the entries are in.
        entries: What a name stands for, `"file.function"` within the room.

    Example:
        >>> Registry("brainseg_keras", {"closest": "registry.closest"})["closest"](("dice", "iou"), "dise")
        " Did you mean 'dice'?"
    """

    def __init__(self, room: str, entries: Mapping[str, str]) -> None:
        self._room = room
        self._entries = {name: tuple(entry.rsplit(".", 1)) for name, entry in entries.items()}

    def __getitem__(self, name: str) -> Any:
        file, attribute = self._entries[name]
        return getattr(import_module(f"{self._room}.{file}"), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # Mapping's own would import it

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def public_names(self, beside: str | None = None) -> dict[str, list[str]]:
        """Return the files of the room, each with what it holds.

        Args:
            beside: How what stands beside each entry is called, such as "{name}_loss".
        """
        files: dict[str, list[str]] = {}
        for name, (file, attribute) in self._entries.items():
            files.setdefault(file, []).extend([attribute] if beside is None else [attribute, beside.format(name=name)])
        return files


#: The recipes of the networks.
ARCHITECTURES = Registry(
    "brainseg_keras.models.recipes",
    {
        "unet": "plain.unet",
        "attention_unet": "attention.attention_unet",
        "res_unet": "residual.res_unet",
        "attention_res_unet": "residual.attention_res_unet",
        "r2_unet": "recurrent.r2_unet",
        "ar2_unet": "recurrent.ar2_unet",
        "mod_r2au_net": "recurrent.mod_r2au_net",
    },
)
#: What `--loss` may name. The pure function beside a class is called `<name>_loss`.
LOSSES = Registry(
    "brainseg_keras.losses",
    {
        "binary_focal": "focal.BinaryFocalLoss",
        "dice": "overlap.DiceLoss",
        "dice_focal": "compound.DiceFocalLoss",
        "jaccard": "overlap.JaccardLoss",
        "tversky": "overlap.TverskyLoss",
        "focal_tversky": "overlap.FocalTverskyLoss",
        "bce_dice": "compound.BCEDiceLoss",
    },
)
#: The columns of a history, in their order.
METRICS = Registry(
    "brainseg_keras.metrics",
    {
        "dice": "overlap.DiceCoefficient",
        "iou": "overlap.IntersectionOverUnion",
        "precision": "pixels.PixelPrecision",
        "recall": "pixels.PixelRecall",
        "pixel_accuracy": "pixels.PixelAccuracy",
    },
)
#: What can run a trained network, and `auto`, which takes the fastest of them (inference/engines/).
ENGINES = ("auto", "keras", "onnx", "openvino")


def closest(names: Mapping[str, Any] | list[str] | tuple[str, ...], word: str) -> str:
    """Ask, as the end of a message, whether the nearest of the names was meant; empty if none is near."""
    # Slow to load, and needed by a mistake alone.
    import difflib

    match = difflib.get_close_matches(str(word).lower().replace("-", "_"), names, n=1)
    return f" Did you mean {match[0]!r}?" if match else ""
