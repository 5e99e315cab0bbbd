"""Streaming scores for `fit` and `evaluate`: pixels counted over everything since the last reset, then one ratio."""

import keras  # noqa: F401  Before the files of this room: Keras, once loaded, loads them (see _registration.py).
import lazy_loader

from brainseg_keras.registry import METRICS

__getattr__, __dir__, _names = lazy_loader.attach(__name__, submod_attrs=METRICS.public_names())
__all__ = ["METRICS", *_names]
