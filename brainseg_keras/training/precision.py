"""Which number format a run computes in."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from brainseg_keras.training.machine import processor_flags, read_cpuinfo


def choose_precision(wanted: str, *, separable: bool, float16: bool = True) -> str:
    """Resolve `auto`: float16 on a GPU, bfloat16 on a CPU that multiplies it (AMX), else float32.

    Args:
        wanted: A dtype policy, or `auto`.
        separable: Whether the network has depthwise convolutions, which are slower in bfloat16 on a CPU.
        float16: Whether that can be: not where TensorFlow trains on several GPUs, which then take float32.

    Returns:
        Name of a Keras dtype policy.

    Example:
        >>> choose_precision("float32", separable=False)
        'float32'
    """
    if wanted != "auto":
        return wanted
    found = fitting_precision(gpu=_has_gpu(), cpuinfo=read_cpuinfo(), separable=separable)
    return found if float16 or found != "mixed_float16" else "float32"


def fitting_precision(*, gpu: bool, cpuinfo: str, separable: bool) -> str:
    """Say what `auto` means on a machine.

    Args:
        gpu: Whether it has one.
        cpuinfo: Content of its /proc/cpuinfo; empty where there is none.
        separable: Whether the network has depthwise convolutions.

    Returns:
        Name of a Keras dtype policy.

    Example:
        >>> fitting_precision(gpu=False, cpuinfo="flags : fpu sse2 avx2", separable=False)
        'float32'
    """
    if gpu:
        return "mixed_float16"
    # AMX multiplies bfloat16 in tiles; avx512_bf16 alone has instructions for it and no gain.
    has_amx = "amx_bf16" in processor_flags(cpuinfo)
    return "mixed_bfloat16" if has_amx and not separable else "float32"


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build layers under a dtype policy, and leave the global one as it was.

    Args:
        name: Name of a Keras dtype policy.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _has_gpu() -> bool:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import torch

    return torch.cuda.is_available()
