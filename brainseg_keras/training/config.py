"""What one training run is made of; flags and YAML say the same. Loads without Keras."""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from brainseg_keras.errors import InputError
from brainseg_keras.files import write_text

TARGETS = ("tumour", "classes", "regions")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run. Each field is a flag of `brainseg train` and a key of its YAML.

    Args:
        data: A folder of MRI slices, a manifest, a packed `.h5`, or `phantom`. The rest of the fields carry their
            meaning, units and defaults in `TrainingConfig.help()`, which is also what `brainseg train --help` prints.

    Raises:
        InputError: A value out of its range.

    Example:
        >>> TrainingConfig(architecture="res_unet", filters=8).batch_size
        8
    """

    data: str = _option("phantom", "Folder of MRI slices, manifest (.csv), packed data (.h5), or the word phantom.")
    format: str | None = _option(None, "Layout of a folder: lgg, brats-h5, nifti, msd or pairs. Detected by default.")
    root: str | None = _option(None, "Folder of the images that a manifest lists, if they moved.")
    modalities: str | None = _option(None, "Sequences to read, such as FLAIR or T1ce,FLAIR. All by default.")
    labels: str | None = _option(None, "What labels mean: brats2020, brats2023, brats2015, msd or binary.")
    image_pattern: str | None = _option(None, "How images are named: a regular expression with the group patient.")
    label_pattern: str | None = _option(None, "How labels of NIfTI volumes are named: the same.")
    target: str = _option("tumour", "tumour (one mask), classes (softmax) or regions (nested, sigmoid).")
    context: int = _option(0, "Neighbouring slices on each side as further channels (2.5-D).")
    architecture: str = _option("attention_res_unet", "Name of the network; `brainseg models` lists them.")
    filters: int | None = _option(None, "Width of the first level; default: as published.")
    depth: int | None = _option(None, "Number of halvings; default: as published.")
    separable: bool = _option(False, "Separable 3x3 convolutions in the blocks.")
    dropout: float = _option(0.0, "Share of feature maps dropped after each block.")
    loss: str = _option("dice_focal", "binary_focal, dice, dice_focal, jaccard, tversky, focal_tversky or bce_dice.")
    epochs: int = _option(50, "Passes over the training slices.")
    max_minutes: float | None = _option(None, "Stop after so many minutes; the learning rate falls to meet it.")
    size: int = _option(256, "Side of the network's input in pixels.")
    batch_size: int = _option(8, "Slices in a batch.")
    learning_rate: float = _option(1e-3, "Peak learning rate, after warm-up and before the cosine.")
    warmup: float = _option(0.03, "Share of training in which the learning rate rises.")
    weight_decay: float = _option(0.0, "Decoupled weight decay (AdamW); 0 is Adam.")
    ema: float = _option(0.0, "Momentum of a moving average of the weights, which is then scored and kept; 0 is off.")
    tumour_share: float = _option(0.5, "Share of each batch that shows tumour.")
    augment: bool = _option(True, "Augment the training slices.")
    rotate: float = _option(15.0, "Augmentation: largest angle in degrees.")
    flip: float = _option(0.5, "Augmentation: probability of a left-right flip.")
    zoom: float = _option(0.15, "Augmentation: largest change of scale.")
    shift: float = _option(0.06, "Augmentation: largest shift, as a share of the side.")
    intensity: float = _option(0.2, "Augmentation: largest change of gain and gamma.")
    noise: float = _option(0.03, "Augmentation: largest noise; tissue is 1.")
    stand_in: float = _option(0.0, "Augmentation: share of slices in which FLAIR stands in for other sequences.")
    blur: float = _option(0.0, "Gaussian blur of each slice, standard deviation in pixels.")
    clahe: float = _option(0.0, "Clip limit of adaptive histogram equalisation; 0 is off.")
    patience: int | None = _option(None, "Stop after so many epochs without a better validation score.")
    precision: str = _option("auto", "auto, float32, mixed_float16 or mixed_bfloat16.")
    seed: int = _option(0, "Of weights, order and augmentation.")
    deterministic: bool = _option(False, "Same bits from the same seed; slower.")
    profile: str | None = _option(None, "Steps to record for TensorBoard's profiler, such as 20-30.")
    init: str | None = _option(None, "Weights to start from: a .keras or .weights.h5 file.")

    def __post_init__(self) -> None:
        """Refuse values out of range, before anything is read."""
        for name, kinds in get_type_hints(type(self)).items():
            self._check_type(name, kinds)
        for name, low, high in (
            ("filters", 1, None),
            ("depth", 1, 8),
            ("context", 0, 8),
            ("epochs", 1, None),
            ("size", 16, 8192),
            ("batch_size", 1, None),
            ("patience", 1, None),
            ("dropout", 0, 0.9),
            ("warmup", 0, 0.9),
            ("ema", 0, 0.99999),
            ("tumour_share", 0, 1),
            ("flip", 0, 1),
            ("stand_in", 0, 1),
            ("weight_decay", 0, None),
            ("seed", 0, None),
        ):
            value = getattr(self, name)
            if value is not None and (value < low or (high is not None and value > high)):
                wanted = f"at least {low}" if high is None else f"between {low} and {high}"
                raise InputError(f"{name} is {wanted}. Received: {value}.")
        for name in ("learning_rate", "max_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is above 0. Received: {value}.")
        window = re.fullmatch(r"(\d+)-(\d+)", self.profile or "1-1")
        if not window or not 1 <= int(window[1]) <= int(window[2]):
            raise InputError(f"profile is two steps from 1 on, such as 20-30. Received: {self.profile!r}.")
        for name, known in (("precision", PRECISIONS), ("target", TARGETS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is one of {', '.join(known)}. Received: {getattr(self, name)!r}.")

    def _check_type(self, name: str, kinds: Any) -> None:
        value = getattr(self, name)
        allowed = getattr(kinds, "__args__", (kinds,))
        if float in allowed and isinstance(value, int) and not isinstance(value, bool):
            object.__setattr__(self, name, float(value))
        elif not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            wanted = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in allowed)
            raise InputError(f"{name} is {wanted}. Received: {value!r}.")

    @classmethod
    def help(cls) -> dict[str, str]:
        """Give one line on each field.

        Returns:
            Field names and their meaning.

        Example:
            >>> TrainingConfig.help()["batch_size"]
            'Slices in a batch.'
        """
        return {entry.name: entry.metadata["help"] for entry in dataclasses.fields(cls)}

    @classmethod
    def from_yaml(cls, path: str | Path, **overrides: Any) -> "TrainingConfig":
        """Read a configuration.

        Args:
            path: YAML file of fields and values.
            **overrides: Fields that win over the file.

        Returns:
            The configuration.

        Raises:
            InputError: The file is missing, no YAML, or names unknown fields.

        Example:
            >>> import tempfile
            >>> file = tempfile.mkdtemp() + "/config.yaml"
            >>> TrainingConfig(epochs=3).to_yaml(file)
            >>> TrainingConfig.from_yaml(file, size=64).epochs
            3
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} cannot be read as YAML ({error}). See docs/training.md for an example."
            ) from error
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no settings. Expected lines like `epochs: 50`.")
        unknown = sorted(map(str, values.keys() - cls.help().keys()))
        if unknown:
            raise InputError(f"{path}: unknown settings {', '.join(unknown)}. Known: {', '.join(cls.help())}.")
        return cls(**(values | overrides))

    def to_yaml(self, path: str | Path) -> None:
        """Write the configuration with each field's meaning beside it.

        Args:
            path: The file to write.
        """
        texts = self.help()
        lines = [
            yaml.safe_dump({name: value}, default_flow_style=False).strip() + f"  # {texts[name]}"
            for name, value in dataclasses.asdict(self).items()
        ]
        write_text(path, "\n".join(lines) + "\n")
