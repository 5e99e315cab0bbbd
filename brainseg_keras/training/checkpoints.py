"""What a run goes on from, or is used by: best.keras, last.keras with its optimizer, and run.json."""

from dataclasses import replace

import keras

from brainseg_keras.errors import reading
from brainseg_keras.training.progress import Progression
from brainseg_keras.training.record import BestEpoch, Progress, RunRecord
from brainseg_keras.training.run import RunFolder, random_states


class Checkpoints:
    """Keeps the networks of a run, and the record that tells of them.

    Args:
        run: Where to keep them.
        record: What is known of the run; its progress is that of last.keras.
    """

    def __init__(self, run: RunFolder, record: RunRecord):
        self.record = record
        self.run = run

    def keep_best(self, plain: keras.Model, best: BestEpoch) -> None:
        """Write a network that is not compiled to best.keras, and note what chose it."""
        self.run.write_model(plain, self.run.best)
        self.record = replace(self.record, validation=best)

    def keep_last(self, model: keras.Model, progression: Progression) -> None:
        """Write run.json and last.keras.

        What a resumed run goes by is last.keras, the last to be written: after a kill between the two files it is the
        one that `previous` tells of.
        """
        before = self.record.progress
        sums = [] if progression.whole else model.metrics_variables
        progress = Progress(
            step=progression.step,
            # By way of NumPy: a variable on several devices is no number.
            iterations=int(keras.ops.convert_to_numpy(model.optimizer.iterations)),
            random_states=random_states(model),
            seconds=round(progression.elapsed, 1),
            sums=[keras.ops.convert_to_numpy(variable).tolist() for variable in sums],
            stopped=progression.stopped,
            previous=before and before._replace(previous=None),
        )
        self.record = replace(self.record, progress=progress)
        self.run.write_record(self.record)
        self.run.write_model(model, self.run.last)

    def restore_sums(self, model: keras.Model, step: int) -> None:
        """Let the loss of an epoch that was interrupted at this step go on from what it had summed up."""
        kept = self.record.progress
        if not kept or kept.step != step or not kept.sums:
            return
        if len(model.metrics_variables) < len(kept.sums):
            # On one device Keras makes the variables of a metric at its first use.
            nothing = [keras.ops.zeros((1, *tensor.shape[1:])) for tensor in model.outputs]
            model.compute_metrics(None, nothing[0], nothing if len(nothing) > 1 else nothing[0])
        with reading(self.run.info, "Restore it; without the entry `sums` the epoch's loss is of its rest alone."):
            for variable, value in zip(model.metrics_variables, kept.sums, strict=True):
                variable.assign(value)
