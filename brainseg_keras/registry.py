"""The lists of what can be called by name: networks, losses, metrics and engines.

Tests, tables, messages, `--help` and the names of `brainseg_keras` follow them. They stand here and not in their rooms
because they are read before Keras is loaded.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from brainseg_keras.errors import InputError


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

    def check(self, what: str, name: Any) -> None:
        """Refuse what is not the name of an entry.

        Args:
            what: What to call it in the message.
            name: The word.

        Raises:
            InputError: It is refused; the message has the names, and the nearest.
        """
        if not isinstance(name, str) or name not in self:
            raise InputError(f"{what} must be one of {', '.join(self)}. Received: {name!r}.{closest(self, name)}")

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
#: Recipes that take `recurrence` and `norm_per_step`; what else a training can set all of them take.
RECURRENT = ("r2_unet", "ar2_unet", "mod_r2au_net")
#: Words for ways of up-sampling and of normalization.
UPS = ("nearest_conv", "nearest", "transposed")
NORMS = ("batch", "group", "instance")
#: What `--loss` may name. The pure function beside a class is called `<name>_loss`.
LOSSES = Registry(
    "brainseg_keras.losses",
    {
        "binary_focal": "focal.BinaryFocalLoss",
        "bce": "focal.BCELoss",
        "dice": "overlap.DiceLoss",
        "dice_focal": "compound.DiceFocalLoss",
        "jaccard": "overlap.JaccardLoss",
        "tversky": "overlap.TverskyLoss",
        "focal_tversky": "overlap.FocalTverskyLoss",
        "bce_dice": "compound.BCEDiceLoss",
        "tversky_focal": "compound.TverskyFocalLoss",
    },
)
#: Losses in which `alpha` weighs tumour, where class balancing is applied.
BALANCED = ("binary_focal", "dice_focal")
_FOCAL, _OVERLAP = ("alpha", "gamma"), ("smooth", "reduce_over")
#: What a training can set of each loss.
LOSS_OPTIONS = {
    "binary_focal": _FOCAL,
    "bce": (),
    "dice": _OVERLAP,
    "dice_focal": ("dice_weight", "focal_weight", *_FOCAL, *_OVERLAP),
    "jaccard": _OVERLAP,
    "tversky": ("alpha", "beta", *_OVERLAP),
    "focal_tversky": ("alpha", "beta", "gamma", *_OVERLAP),
    "bce_dice": ("bce_weight", "dice_weight", *_OVERLAP),
    "tversky_focal": ("tversky_weight", "focal_weight", "alpha", "beta", "gamma", *_OVERLAP),
}
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
#: What `--target` may name, see `Target`.
TARGETS = ("tumour", "classes", "regions")
#: What can run a trained network, and `auto`, which takes the fastest of them (inference/engines/).
ENGINES = ("auto", "keras", "onnx", "openvino")


def closest(names: Mapping[str, Any] | list[str] | tuple[str, ...], word: str) -> str:
    """Ask, as the end of a message, whether the nearest of the names was meant; empty if none is near."""
    # Slow to load, and needed by a mistake alone.
    import difflib

    match = difflib.get_close_matches(str(word).lower().replace("-", "_"), names, n=1)
    return f" Did you mean {match[0]!r}?" if match else ""
