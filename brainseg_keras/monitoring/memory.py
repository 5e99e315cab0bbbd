"""How much memory a run takes."""

import sys

import keras


def memory_use() -> dict[str, float]:
    """Measure the peak of this process and of the first accelerator, so far.

    Returns:
        `memory_mb`, where the system says it, and `device_memory_mb`, where there is an accelerator.

    Example:
        >>> all(value > 0 for value in memory_use().values())
        True
    """
    found = {}
    try:
        import resource
    except ImportError:
        # Windows has no such module, and nothing in the standard library says it there.
        pass
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["memory_mb"] = peak / (2**20 if sys.platform == "darwin" else 2**10)
    device = _device_peak()
    return found | ({"device_memory_mb": device / 2**20} if device else {})


def _device_peak() -> int:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"] if tf.config.list_physical_devices("GPU") else 0
    if backend == "jax":
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return 0
