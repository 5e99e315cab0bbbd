"""Data sets made from formulas, in the layouts of the real ones."""

from brainseg_keras.data.phantom.brats import write_brats_phantom
from brainseg_keras.data.phantom.lgg import write_phantom

__all__ = ["write_brats_phantom", "write_phantom"]
