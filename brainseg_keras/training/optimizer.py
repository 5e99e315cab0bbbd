"""Adam that says how large its gradients are."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("brainseg_keras")
class MeasuredAdam(keras.optimizers.Adam):
    """Adam, with weight decay apart from the gradient (AdamW) if asked for, that keeps the norm of its gradients.

    Args:
        *args: As those of `keras.optimizers.Adam`.
        **kwargs: The same.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
        >>> optimizer = MeasuredAdam(1e-3)
        >>> model.compile(optimizer, loss="mse")
        >>> _ = model.fit(ops.ones((1, 1)), ops.zeros((1, 1)), verbose=0)
        >>> round(float(adam_of(model).gradient_norm), 3)  # the loss w + b squared has the gradient 2 by each
        2.828
    """

    def build(self, variables: list) -> None:
        """Make the moments, and a place for the norm."""
        super().build(variables)
        #: Norm of all gradients together, averaged over the last ten steps or so.
        self.gradient_norm = self.add_variable((), name="gradient_norm", initializer="zeros")

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        """Take a step and note the norm; on every backend, and after the scale of float16 is taken out."""
        super().apply(grads, trainable_variables)
        if keras.backend.backend() != "tensorflow":
            self._note(grads, first=ops.equal(self.iterations, 1))

    def _all_reduce_sum_gradients(self, grads_and_vars: list) -> list:
        """Note the norm on TensorFlow, where each device has gradients of its own until they are added up here."""
        summed = super()._all_reduce_sum_gradients(grads_and_vars)
        self._note([gradient for gradient, _ in summed], first=ops.equal(self.iterations, 0))
        return summed

    def _note(self, gradients: list, first: Any) -> None:
        present = [gradient for gradient in gradients if gradient is not None]
        norm = ops.sqrt(sum(ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in present))
        self.gradient_norm.assign(ops.where(first, norm, 0.9 * self.gradient_norm + 0.1 * norm))

    def finalize_variable_values(self, var_list: list) -> None:
        """Leave the weights that are trained: Keras would put their average in their place whenever `fit` ends."""

    def average_into(self, variables: list) -> None:
        """Put the moving average of the weights into other variables of the same order: copies, on one device."""
        for variable, average in zip(variables, self._model_variables_moving_average, strict=True):
            variable.assign(np.array(ops.convert_to_numpy(average)))


def adam_of(model: keras.Model) -> MeasuredAdam:
    """Give the optimizer of a compiled model, also from behind the loss scale of float16."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)
