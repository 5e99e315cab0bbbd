"""PatientValidation: the score of `brainseg train`, Dice per patient, as a callback of a plain `fit`."""

from pathlib import Path
from typing import Any

import keras

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.ranges import Range
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.validation import PatientScores, PatientValidator


class PatientValidation(keras.callbacks.Callback):
    """Scores whole validation patients at the end of an epoch of a plain `fit`, as `brainseg train` does.

    The `val_dice` of `fit` pools the pixels of a batch at the network's size: a large tumour outweighs five small ones.
    This is the Dice of each patient over its whole volume, at the files' own resolution. It goes into the logs of the
    epoch, and so to the history, to TensorBoard and to `ModelCheckpoint`, where these stand behind it in the list:
    `val_patient_dice` (the mean), `val_patient_dice_median`, `val_patient_dice_min`, `val_patient_iou` and, of several
    regions, `val_patient_dice_whole_tumour` and so on. The weights are scored as they stand, without their average.

    Args:
        data: A folder of MRI slices, a manifest CSV, a packed `.h5`, or `phantom`: what `make_dataset` was given.
        split: Whose patients are scored.
        size: Side of the network's input in pixels; this and what follows as given to `make_dataset`.
        validation_freq: Epochs from one score to the next.
        batch_size: Slices in a prediction.
        blur: Standard deviation of a Gaussian blur in stored pixels; 0 for none.
        clahe: Clip limit of CLAHE; 0 for none.
        inner_tissue: Measure the tissue level without the rim of the head.
        target: What the network answers: `tumour`, `classes` or `regions`.
        context: Neighboring slices on each side that it sees.
        split_seed: Of the split by patient, where neither the data nor this package fixes one.
        **layout: How a folder is read, as in `make_dataset`.

    Raises:
        InputError: Data that cannot be read, or at the start of `fit` a model of another shape.

    Example:
        >>> from brainseg_keras import DiceLoss, make_dataset, res_unet
        >>> model = res_unet((32, 32, 3), filters=2, depth=1)
        >>> model.compile("adam", loss=DiceLoss())
        >>> patients = PatientValidation("phantom", size=32)
        >>> history = model.fit(make_dataset("phantom", size=32), epochs=1, verbose=0, callbacks=[patients])
        >>> len(patients.scores.dice), "val_patient_dice" in history.history
        (3, True)
    """

    def __init__(
        self,
        data: str | Path,
        *,
        split: str = "val",
        size: int = 256,
        validation_freq: int = 1,
        batch_size: int = 16,
        blur: float = 0.0,
        clahe: float = 0.0,
        inner_tissue: bool = False,
        target: str = "tumour",
        context: int = 0,
        split_seed: int = 0,
        **layout: Any,
    ):
        super().__init__()
        Range(1, 10**6).check("validation_freq", validation_freq)
        source, wanted = open_source(data, seed=split_seed, **layout), Target(target)
        wanted.check(source.classes, str(data))
        #: What the network sees and answers; `Predictor(model, spec=...)` takes it.
        self.spec = NetworkSpec(
            tuple(source.channels), wanted, Preprocessing(size, blur, clahe, inner_tissue), context, data=str(data)
        )
        self._validator = PatientValidator(source, self.spec, split=split, panel=0, worst=0, batch_size=batch_size)
        self._frequency = validation_freq
        #: What the last validation found: `scores.dice` has each patient's.
        self.scores: PatientScores | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse a model that the data do not fit."""
        model = self.model
        inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"PatientValidation scores a functional model with one input and one output. Received: {model.name!r} "
                f"with {len(inputs)} and {len(outputs)}. Build it with keras.Model(inputs, outputs)."
            )
        self.spec.check(tuple(inputs[0].shape[1:]), outputs[0].shape[-1], repr(model.name))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Score the patients, and add to the logs."""
        if (epoch + 1) % self._frequency:
            return
        self.scores = self._validator.score(self.model)
        found = self.scores.logs()
        kept = [name for name in found if name.startswith("val_dice") or name == "val_iou"]
        if logs is not None:
            logs.update({name.replace("val_", "val_patient_", 1): found[name] for name in kept})
