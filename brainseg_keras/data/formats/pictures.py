"""Lone pictures to segment: PNG, JPEG, TIFF or BMP."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainseg_keras.data.decode.images import PICTURES, read_image
from brainseg_keras.data.formats.base import Pixels, ScanFormat, check_shapes


class Pictures(ScanFormat):
    """Pictures, each a scan of its own."""

    endings = PICTURES

    def decode(self, files: Sequence[Path]) -> Pixels:
        """Read pictures as slices."""
        images = [read_image(file) for file in files]
        check_shapes(images, files)
        return Pixels(np.stack(images))
