"""DICOM series to segment."""

from collections.abc import Sequence
from pathlib import Path

from brainseg_keras.data.decode.dicom import dicom_series, is_dicom, read_dicom
from brainseg_keras.data.formats.base import Group, Pixels, ScanFormat


class Dicom(ScanFormat):
    """Series, their slices in one folder."""

    endings = (".dcm",)

    def recognizes(self, file: Path) -> bool:
        """Know a file by its mark: series are often named by numbers with dots, whose last part is not an ending."""
        return is_dicom(file)

    def group(self, files: Sequence[Path], folder: Path) -> list[Group]:
        """Sort files into series."""
        return [self.slices(series) for series in dicom_series(files)]

    def decode(self, files: Sequence[Path]) -> Pixels:
        """Read a series."""
        return Pixels(*read_dicom(files))
