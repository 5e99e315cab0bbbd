"""Which number format a run computes in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras


def choose_precision(wanted: str, *, separable: bool) -> str:
    """Resolve `auto`: float16 on a GPU, bfloat16 on a CPU that multiplies it (AMX), else float32.

    Args:
        wanted: A dtype policy, or `auto`.
        separable: Whether the network has depthwise convolutions, which are slower in bfloat16 on a CPU.

    Returns:
        Name of a Keras dtype policy.

    Example:
        >>> choose_precision("float32", separable=False)
        'float32'
    """
    if wanted != "auto":
        return wanted
    if _has_gpu():
        return "mixed_float16"
    return "mixed_bfloat16" if _has_amx() and not separable else "float32"


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


def _has_amx() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "amx_bf16" in cpuinfo.read_text(encoding="utf-8", errors="replace")
