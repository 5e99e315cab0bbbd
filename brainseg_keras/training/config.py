"""What one training run is made of; flags and YAML say the same. Loads without Keras."""

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from brainseg_keras import ranges
from brainseg_keras.errors import InputError
from brainseg_keras.files import expand, write_text
from brainseg_keras.ranges import Range
from brainseg_keras.registry import LOSSES, NORMS, UPS
from brainseg_keras.training import options

#: Channels of the deepest level: a kernel of more would take gigabytes.
WIDEST = 8192
_WEIGHT, _PRICE = Range(0.0, 1000.0), Range(0.0, 10.0)


def _option(default: Any, text: str, within: Range | None = None, *, is_path: bool = False) -> Any:
    return field(default=default, metadata={"help": text, "within": within, "is_path": is_path})


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

    data: str = _option(
        "phantom", "Folder of MRI slices, manifest (.csv), packed data (.h5), or the word phantom.", is_path=True
    )
    format: str | None = _option(None, "Layout of a folder, such as lgg or nifti (docs/data.md). Detected by default.")
    root: str | None = _option(None, "Folder of the images that a manifest lists, if they moved.", is_path=True)
    modalities: str | None = _option(None, "Sequences to read, such as FLAIR or T1ce,FLAIR. All by default.")
    labels: str | None = _option(None, "What labels mean: brats2020, brats2023, brats2015, msd or binary.")
    image_pattern: str | None = _option(None, "How images are named: a regular expression with the group patient.")
    label_pattern: str | None = _option(None, "How labels of NIfTI volumes are named: the same.")
    folds: int | None = _option(
        None, "Cross-validation: so many runs below -o, each tested on another part.", ranges.TESTED_FOLDS
    )
    fold: int | None = _option(
        None, "Train one of the folds alone, which tests this part.", Range(1, ranges.FOLDS.high)
    )
    validation: str = _option("patients", "patients (they choose the epoch), or none (all train; the last epoch).")
    target: str = _option("tumour", "tumour (one mask), classes (softmax) or regions (nested, sigmoid).")
    context: int = _option(0, "Neighboring slices on each side as further channels (2.5-D).", ranges.CONTEXT)
    architecture: str = _option("attention_res_unet", "Name of the network; `brainseg models` lists them.")
    filters: int | None = _option(None, "Width of the first level; default: the recipe's.", Range(1, 512))
    depth: int | None = _option(None, "Number of halvings; default: the recipe's.", Range(1, 8))
    separable: bool = _option(False, "Separable 3x3 convolutions in the blocks.")
    dropout: float = _option(0.0, "Share of feature maps dropped after each block.", Range(0.0, 0.9))
    up: str | None = _option(None, f"Up-sampling: {', '.join(UPS[:-1])} or {UPS[-1]}; default: the recipe's.")
    norm: str | None = _option(None, f"Normalization: {', '.join(NORMS)} or none; default: the recipe's.")
    recurrence: int | None = _option(None, "Times that a recurrent convolution feeds itself back.", Range(0, 16))
    norm_per_step: bool | None = _option(None, "A normalization for each step of a recurrent convolution.")
    loss: str = _option("dice_focal", f"{', '.join(list(LOSSES)[:-1])} or {list(LOSSES)[-1]}.")
    dice_weight: float | None = _option(None, "Loss: weight of Dice in a sum.", _WEIGHT)
    focal_weight: float | None = _option(None, "Loss: weight of the focal loss in a sum.", _WEIGHT)
    bce_weight: float | None = _option(None, "Loss: weight of cross-entropy in a sum.", _WEIGHT)
    tversky_weight: float | None = _option(None, "Loss: weight of Tversky in a sum.", _WEIGHT)
    alpha: float | None = _option(
        None,
        "Loss: price of false positives; in binary_focal and dice_focal weight of tumour, 1 - alpha of the rest.",
        _PRICE,
    )
    beta: float | None = _option(None, "Loss: price of missed pixels.", _PRICE)
    gamma: float | None = _option(None, "Loss: exponent.", _PRICE)
    smooth: float | None = _option(None, "Loss: pixels added to an overlap and its size.", Range(0.001, 1000.0))
    reduce_over: str | None = _option(None, "Loss: an overlap of each image, or of the whole batch.")
    deep_supervision: bool = _option(False, "Judge lower levels of the decoder too, by heads that best.keras drops.")
    epochs: int = _option(50, "Passes over the training slices.", Range(1, 100_000))
    max_minutes: float | None = _option(
        None, "Stop after so many minutes; the learning rate falls to meet it.", Range(0.01, 100_000.0)
    )
    size: int = _option(256, "Side of the network's input in pixels.", Range(16, 8192))
    batch_size: int = _option(8, "Slices in a batch.", ranges.BATCH_SIZE)
    learning_rate: float = _option(1e-3, "Peak learning rate, after warm-up and before the cosine.", Range(1e-12, 10.0))
    warmup: float = _option(0.03, "Share of training in which the learning rate rises.", Range(0.0, 0.9))
    weight_decay: float = _option(0.0, "Decoupled weight decay (AdamW); 0 is Adam.", ranges.SHARE)
    ema: float = _option(
        0.0,
        "Momentum of a moving average of the weights, which is then scored and kept; 0 is off.",
        Range(0.0, 0.99999),
    )
    tumour_share: float = _option(0.5, "Share of the training slices that show tumour.", ranges.SHARE)
    balance_patients: bool = _option(False, "Draw tumour slices so that each patient comes equally often.")
    augment: bool = _option(True, "Augment the training slices.")
    rotate: float = _option(ranges.ROTATE.usual, "Augmentation: largest angle in degrees.", ranges.ROTATE)
    flip: float = _option(ranges.FLIP.usual, "Augmentation: probability of a left-right flip.", ranges.FLIP)
    zoom: float = _option(ranges.ZOOM.usual, "Augmentation: largest change of scale.", ranges.ZOOM)
    shift: float = _option(ranges.SHIFT.usual, "Augmentation: largest shift, as a share of the side.", ranges.SHIFT)
    intensity: float = _option(
        ranges.INTENSITY.usual, "Augmentation: largest change of gain and gamma.", ranges.INTENSITY
    )
    noise: float = _option(ranges.NOISE.usual, "Augmentation: largest noise; tissue is 1.", ranges.NOISE)
    stand_in: float = _option(
        ranges.STAND_IN.usual,
        "Augmentation: share of slices in which FLAIR stands in for other sequences.",
        ranges.STAND_IN,
    )
    darken: float = _option(
        ranges.DARKEN.usual, "Augmentation: share of tumours that are darkened in part.", ranges.DARKEN
    )
    paste: float = _option(
        ranges.PASTE.usual,
        "Augmentation: share of slices given another slice's tumour.",
        ranges.PASTE,
    )
    bias_field: float = _option(
        ranges.BIAS_FIELD.usual, "Augmentation: largest logarithm of a smooth bias field.", ranges.BIAS_FIELD
    )
    low_resolution: float = _option(
        ranges.LOW_RESOLUTION.usual,
        "Augmentation: share of slices made 1.5 to 3 times as coarse.",
        ranges.LOW_RESOLUTION,
    )
    elastic: float = _option(
        ranges.ELASTIC.usual,
        "Augmentation: largest elastic displacement, as a share of the side.",
        ranges.ELASTIC,
    )
    inner_tissue: bool = _option(
        False, "Measure the tissue level within the head, its rim of scalp and skull left out."
    )
    blur: float = _option(0.0, "Gaussian blur of each slice, standard deviation in pixels.", ranges.BLUR)
    clahe: float = _option(0.0, "Clip limit of adaptive histogram equalization; 0 is off.", ranges.CLAHE)
    patience: int | None = _option(
        None, "Stop after so many epochs without a better validation score.", Range(1, 100_000)
    )
    precision: str = _option("auto", "auto, float32, mixed_float16 or mixed_bfloat16.")
    seed: int = _option(0, "Of weights, order, augmentation, folds, and the split of data that have none.", ranges.SEED)
    deterministic: bool = _option(False, "Same bits from the same seed; slower.")
    profile: str | None = _option(None, "Steps to record for TensorBoard's profiler, such as 20-30.")
    init: str | None = _option(
        None, "Weights to start from: a run, a .keras or .weights.h5 file, or a shipped name.", is_path=True
    )
    freeze: str | None = _option(None, "Layers of init that stay as they are: encoder, or backbone (all but the head).")
    adapt: bool = _option(False, "Take weights of other channels or another target; what cannot stay is new.")
    teacher: list | None = _option(  # noqa: RUF009 (there is no list that instances could share)
        None, "Run, folds or file whose answers are learned beside the truth; may be repeated.", is_path=True
    )
    teacher_weight: float = _option(0.5, "Share of the teachers' answers in what is learned.", ranges.SHARE)

    def __post_init__(self) -> None:
        """Refuse values out of range, before anything is read."""
        if isinstance(self.teacher, str):
            # In YAML, one needs no list.
            object.__setattr__(self, "teacher", [self.teacher])
        kinds = get_type_hints(type(self))
        for entry in dataclasses.fields(self):
            self._check_field(entry, getattr(kinds[entry.name], "__args__", (kinds[entry.name],)))
        if self.fold is not None and not self.fold <= (self.folds or 0):
            raise InputError(
                f"fold is a whole number from 1 to folds. Received: fold={self.fold}, folds={self.folds}. Say how many "
                "there are: --folds."
            )
        window = re.fullmatch(r"(\d{1,9})-(\d{1,9})", "1-1" if self.profile is None else self.profile)
        if not window or not 1 <= int(window[1]) <= int(window[2]):
            raise InputError(f"profile is two steps from 1 on, such as 20-30. Received: {self.profile!r}.")
        # The default of most recipes: 64 filters, four halvings.
        widest = (self.filters or 64) * 2 ** (self.depth or 4)
        if widest > WIDEST:
            raise InputError(
                f"filters double with each halving, to at most {WIDEST}. Received: filters={self.filters}, "
                f"depth={self.depth}, which makes {widest}. Give fewer --filters, or a smaller --depth."
            )
        for name, known in options.WORDS.items():
            if getattr(self, name) not in (None, *known):
                raise InputError(f"{name} is one of {', '.join(known)}. Received: {getattr(self, name)!r}.")
        options.check_recipe(self.architecture, self._given(options.RECURRENT_RECIPE))
        options.check_loss(self.loss, self._given(options.LOSS))
        if self.deep_supervision:
            options.check_supervision(self.depth, self.freeze)
        if self.init is None and (self.freeze or self.adapt):
            name = "freeze" if self.freeze else "adapt"
            raise InputError(f"{name} is about the weights of --init, and none are given. Leave --{name} out.")
        options.check_validation(self.validation, self._given(("folds", "patience")))

    def _given(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def recipe_arguments(self) -> dict[str, Any]:
        """What was chosen of the recipe's arguments, apart from shapes."""
        given = self._given(("separable", "dropout", *options.RECIPE, *options.RECURRENT_RECIPE))
        return given | ({"norm": None} if self.norm == "none" else {})

    @property
    def loss_options(self) -> dict[str, Any]:
        """What was chosen of the loss' options."""
        return options.loss_arguments(self.loss, self._given(options.LOSS))

    def _check_field(self, entry: dataclasses.Field, allowed: tuple[type, ...]) -> None:
        name, value, within = entry.name, getattr(self, entry.name), entry.metadata["within"]
        if value is None and type(None) in allowed:
            return
        if within:
            within.check(name, value)
            object.__setattr__(self, name, allowed[0](value))
        elif not isinstance(value, allowed):
            wanted = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in allowed)
            raise InputError(f"{name} is {wanted}. Received: {value!r}.")
        elif isinstance(value, list):
            object.__setattr__(self, name, options.check_paths(name, value))
        elif entry.metadata["is_path"]:
            object.__setattr__(self, name, expand(value, name))

    def check_data(self, slices: int, channels: int) -> None:
        """Refuse batches that the data cannot fill, or the memory cannot hold.

        Args:
            slices: How many there are to train on.
            channels: Of the network's input.

        Raises:
            InputError: There are fewer slices than stand in a batch, or a batch is larger than the free memory.
        """
        from brainseg_keras.data.decode.memory import free_memory

        if self.batch_size > slices:
            raise InputError(
                f"A batch holds at most all training slices, {slices}. Received: batch_size={self.batch_size}. Give a "
                "smaller --batch-size, or more data."
            )
        needed = 4 * self.batch_size * self.size**2 * channels
        there = free_memory()
        if needed > there:
            raise InputError(
                f"A batch takes {needed / 2**30:.0f} GiB, and {there / 2**30:.0f} are free. Received: "
                f"batch_size={self.batch_size}, size={self.size}, {channels} channels (context={self.context}). Give a "
                "smaller --batch-size, --size or --context."
            )

    @classmethod
    def help(cls) -> dict[str, str]:
        """Give one line on each field.

        Returns:
            Field names, their meaning and their range.

        Example:
            >>> TrainingConfig.help()["batch_size"]
            'Slices in a batch (1 to 4096).'
        """
        texts = {entry.name: entry.metadata for entry in dataclasses.fields(cls)}
        return {
            name: about["within"].describe(about["help"]) if about["within"] else about["help"]
            for name, about in texts.items()
        }

    @classmethod
    def from_given(cls, **given: Any) -> "TrainingConfig":
        """Make a configuration in which what is left open of the network is as the weights of `init` have it.

        Args:
            **given: Fields and values.

        Returns:
            The configuration; the rest is as by default.

        Raises:
            InputError: A value out of its range, or a damaged run.json beside the weights.

        Example:
            >>> TrainingConfig.from_given(init="lgg", size=64).filters
            16
        """
        if isinstance(given.get("init"), str) and cls.help().keys() - given.keys():
            from brainseg_keras.training.origin import beside_weights, network_settings

            if spec := beside_weights(expand(given["init"], "init")):
                given = network_settings(spec) | given
        return cls(**given)

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
            values = yaml.safe_load(Path(expand(path, "config")).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path} cannot be read as YAML ({error}). See docs/training.md for an example."
            ) from error
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no settings. Expected lines like `epochs: 50`.")
        unknown = sorted(map(str, values.keys() - cls.help().keys()))
        if unknown:
            raise InputError(f"{path}: unknown settings {', '.join(unknown)}. Known: {', '.join(cls.help())}.")
        try:
            return cls.from_given(**(values | overrides))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def to_yaml(self, path: str | Path) -> None:
        """Write the configuration with each field's meaning beside it.

        Args:
            path: The file to write; one that is there is replaced if it was written here.

        Raises:
            InputError: Another one is there.
        """
        texts = self.help()
        lines = [
            yaml.safe_dump({name: value}, default_flow_style=False, width=math.inf).strip() + f"  # {texts[name]}"
            for name, value in dataclasses.asdict(self).items()
        ]
        write_text(path, "\n".join(lines) + "\n", mark=texts["data"])
