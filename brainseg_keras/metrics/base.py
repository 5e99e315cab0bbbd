"""Streaming scores for `fit` and `evaluate`: pixels counted over everything since the last reset, then one ratio.

`y_pred` holds probabilities (batch, [depth,] height, width, channels). With one channel a pixel is tumour where
`y_pred > threshold`; with several the largest channel wins, or, where they do not exclude each other (nested regions,
`exclusive=False`), each is thresholded on its own. `y_true` has the same shape, or a last axis of 1 or none. Where it
is the share of a pixel that is tumour, the pixel counts as tumour above one half, or as the class of the largest share.

The empty rule, as in `evaluation.scores`: 0/0 is 1 if nothing is wrong (no false positive, no false negative), else 0.
So a perfect silence scores 1, and finding nothing where there is something has precision 0.

Counts are exact. A float32 that counts pixels stops at 2**24, which is 256 slices of 256x256, and JAX has no int64 by
default; so each count is two float32 numbers, high x 2**16 + low, and holds up to 2**40 pixels.
"""

from typing import Any

import keras
from keras import ops

from brainseg_keras.errors import InputError
from brainseg_keras.shapes import with_channels

_BASE = 65536.0


class CountingMetric(keras.metrics.Metric):
    """tp, fp, fn and tn for each class; a subclass turns them into a score.

    Its arguments are those of `DiceCoefficient`, whose docstring describes them for all.
    """

    #: What the score is called in logs, unless told.
    default_name: str

    def __init__(
        self,
        threshold: float = 0.5,
        num_classes: int = 1,
        class_id: int | None = None,
        include_background: bool = False,
        exclusive: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name or self.default_name, dtype=dtype)
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold must be between 0 and 1. Received: threshold={threshold!r}.")
        if not isinstance(num_classes, int) or num_classes < 1:
            raise InputError(f"num_classes must be a whole number, 1 or more. Received: num_classes={num_classes!r}.")
        if class_id is not None and class_id not in range(num_classes):
            raise InputError(f"class_id must be None or 0..{num_classes - 1}. Received: class_id={class_id!r}.")
        self.threshold = float(threshold)
        self.num_classes = num_classes
        self.class_id = class_id
        self.include_background = bool(include_background)
        self.exclusive = bool(exclusive)
        # float32 whatever the metric's dtype: half precision could not hold a count.
        shape = (4, num_classes)
        self.low = self.add_variable(shape, "zeros", dtype="float32", name="low")
        self.high = self.add_variable(shape, "zeros", dtype="float32", name="high")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch.

        Args:
            y_true: masks, (batch, [depth,] height, width, channels), or with a last axis of 1 or none.
            y_pred: probabilities, (batch, [depth,] height, width, channels).
            sample_weight: (batch,), or one weight per pixel in the shape of the mask. Weighted counts are not exact.

        Raises:
            InputError: shapes do not match.
        """
        truth, answer = self._one_hot(y_true, y_pred)
        both = truth * answer
        cells = ops.stack([both, answer - both, truth - both, 1.0 - truth - answer + both])
        # Axis 0 tells the four counts apart, 1 the images, 2 the rows.
        if sample_weight is None:
            # A row (or slice) of float32 ones sums exactly; then integers carry on, up to 2**31 pixels a batch.
            rows = ops.sum(cells, axis=tuple(range(3, len(cells.shape) - 1)))
            counts = ops.sum(ops.cast(rows, "int32"), axis=(1, 2))
            high = counts // int(_BASE)
            low = ops.cast(counts - high * int(_BASE), "float32")
            high = ops.cast(high, "float32")
        else:
            cells = cells * self._pixel_weights(sample_weight, truth)
            counts = ops.sum(cells, axis=tuple(range(1, len(cells.shape) - 1)))
            high = ops.floor(counts / _BASE)
            low = counts - high * _BASE
        low = self.low + low
        carry = ops.floor(low / _BASE)
        self.low.assign(low - carry * _BASE)
        self.high.assign(self.high + high + carry)

    def _one_hot(self, y_true, y_pred):
        """Truth and answer as float32 zeros and ones, (batch, *space, num_classes)."""
        y_pred, y_true = ops.convert_to_tensor(y_pred), ops.convert_to_tensor(y_true)
        received, y_true = tuple(y_true.shape), with_channels(y_true, y_pred)
        shape, wide = tuple(y_pred.shape), tuple(y_true.shape)
        if shape[-1] != self.num_classes:
            raise InputError(
                f"num_classes must be the number of channels. Received: num_classes={self.num_classes}, "
                f"y_pred.shape={shape}. Build {type(self).__name__}(num_classes={shape[-1]})."
            )
        if not self.exclusive and wide[-1] != shape[-1]:
            raise InputError(
                "channels that overlap need a y_true of as many channels; label numbers say one class a pixel. "
                f"Received: y_true.shape={received}, y_pred.shape={shape}."
            )
        if self.num_classes == 1 or not self.exclusive:
            # After the cast: compared in half precision, 0.50006 would be 0.5.
            answer = ops.cast(y_pred, "float32") > self.threshold
            return ops.cast(ops.cast(y_true, "float32") > 0.5, "float32"), ops.cast(answer, "float32")
        labels = ops.squeeze(y_true, -1) if wide[-1] == 1 else ops.argmax(ops.cast(y_true, "float32"), axis=-1)
        truth = ops.one_hot(ops.cast(labels, "int32"), self.num_classes, dtype="float32")
        return truth, ops.one_hot(ops.argmax(y_pred, axis=-1), self.num_classes, dtype="float32")

    def _pixel_weights(self, sample_weight, truth):
        weights = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
        rank, received = len(truth.shape), tuple(weights.shape)
        if len(received) == 1:
            weights = ops.reshape(weights, (-1,) + (1,) * (rank - 1))
        elif len(received) == rank - 1:
            weights = ops.expand_dims(weights, -1)
        if len(weights.shape) != rank or any(
            size not in (1, None) and known not in (size, None)
            for size, known in zip(weights.shape, (*truth.shape[:-1], 1), strict=True)
        ):
            raise InputError(
                "sample_weight must be (batch,) or one weight per pixel, in the shape of the mask. "
                f"Received: sample_weight.shape={received}, y_pred.shape={tuple(truth.shape)}."
            )
        return weights

    def counts(self) -> tuple[Any, Any, Any, Any]:
        """tp, fp, fn and tn, each (num_classes,)."""
        counts = self.high * _BASE + self.low
        return counts[0], counts[1], counts[2], counts[3]

    def ratio(self, numerator: Any, denominator: Any) -> Any:
        """numerator / denominator under the empty rule."""
        _, fp, fn, _ = self.counts()
        empty = ops.cast(fp + fn == 0, "float32")
        return ops.where(denominator > 0, numerator / ops.where(denominator > 0, denominator, 1.0), empty)

    def score(self) -> Any:
        """(num_classes,) scores."""
        raise NotImplementedError

    def result(self) -> Any:
        """The score so far: of `class_id`, else the mean over classes (without the background, unless included)."""
        return self.mean(self.score())

    def mean(self, scores: Any) -> Any:
        """One number of the scores of the classes."""
        if self.class_id is not None:
            scores = scores[self.class_id]
        elif self.num_classes > 1 and self.exclusive and not self.include_background:
            scores = scores[1:]
        return ops.cast(ops.mean(scores), self.dtype)

    def get_config(self) -> dict:
        names = ("threshold", "num_classes", "class_id", "include_background", "exclusive")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
