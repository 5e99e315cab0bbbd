"""What a format is: one of folders to train on, one of files to segment, or both; `registry.py` lists them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from brainseg_keras.data.decode.nifti import NiftiFrame
from brainseg_keras.data.labels import BINARY
from brainseg_keras.data.manifest import Progress
from brainseg_keras.data.volumes import PatientReader, read_pictures
from brainseg_keras.errors import InputError


class Contents(NamedTuple):
    """What a data set holds, and how a patient of it is read."""

    channels: Sequence[str]
    classes: Sequence[str] = BINARY  # names of the labels from 1 on
    read: PatientReader = read_pictures


class FolderFormat:
    """A layout of folders that hold images with their masks: data to train on."""

    #: What `--format` and the column `dataset` of a manifest call it.
    name: ClassVar[str]
    #: How its files are named, for messages.
    layout: ClassVar[str]
    #: Keywords of `open_source` on which its list of slices hangs.
    list_options: ClassVar[tuple[str, ...]] = ()
    #: Of these, such as name it when they are given together.
    named_by: ClassVar[tuple[str, ...]] = ()
    #: The folder that its phantom makes; None where there is no phantom.
    phantom: ClassVar[str | None] = None

    @property
    def options(self) -> tuple[str, ...]:
        """Keywords of `open_source` that it takes; sequences are chosen in all, here or when they are read."""
        return tuple(dict.fromkeys(("modalities", *self.list_options)))

    def detect(self, folder: Path) -> bool:
        """Say whether a folder has this layout."""
        raise NotImplementedError

    def list_slices(
        self,
        folder: Path,
        *,
        checksums: bool = False,
        skipped: dict[str, str] | None = None,
        progress: Progress = iter,
        **options: Any,
    ) -> tuple[pd.DataFrame, Path]:
        """List the slices of a folder.

        Args:
            folder: The folder.
            checksums: Also read the images and fill the sha256 columns.
            skipped: Filled with the patients whose files are wrong, and why; None refuses them.
            progress: Wraps the list of patients, to show how far it is.
            **options: Those of `list_options` that were given.

        Returns:
            Rows of a manifest with an empty `split`, and the folder to which their paths are relative.

        Raises:
            InputError: Another layout, or files that are wrong.
        """
        raise NotImplementedError

    def contents(self, table: pd.DataFrame, root: Path, scheme: str, modalities: Sequence[str] | None) -> Contents:
        """Say what a table lists.

        Args:
            table: Rows of a manifest.
            root: Folder to which their paths are relative.
            scheme: Of the labels, what stands behind the name in the column `dataset`.
            modalities: Sequences that were asked for, or None.

        Returns:
            Channels, classes and the reader of a patient.
        """
        raise NotImplementedError

    def files(self, entry: str) -> list[str]:
        """Give the files of an entry in the column `image` of a manifest."""
        return [entry]

    def orientation(self, path: Path) -> str:
        """Say which way the axes of a mask's file run; empty where the format leaves no choice."""
        return ""

    def write_phantom(self, dest: str | Path, **numbers: int) -> Path:
        """Write a phantom in this layout, whole or not at all.

        Args:
            dest: Folder to write into; it gets the folder `phantom`.
            **numbers: `patients`, `slices`, `size` and `seed`, as of `write_phantom`.

        Returns:
            The folder of the patients or slices.

        Raises:
            InputError: It exists already, or a number out of its range.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Pixels:
    """What stands in a scan's files.

    Args:
        images: Array of shape `(slices, height, width, channels)`.
        channels: Names of the sequences, or None where the files do not say.
        spacing: Millimeters between slices, rows and columns, or None.
        frame: Of a NIfTI volume: what brings a mask back into its file's own array.
    """

    images: np.ndarray
    channels: tuple[str, ...] | None = None
    spacing: tuple[float, float, float] | None = None
    frame: NiftiFrame | None = None


class Group(NamedTuple):
    """Files of one folder that are one scan."""

    files: tuple[Path, ...]  # slices in order, or one file a sequence
    outputs: tuple[str, ...]  # names of the results, without ending: one a slice file, or one a volume
    channels: tuple[str, ...] | None = None  # sequence of each file of a volume, where the names say


class ScanFormat:
    """Files that hold a scan to segment."""

    #: Of its files, in lower case.
    endings: ClassVar[tuple[str, ...]]
    #: Whether a scan is all that stands in a folder of the patient's name, of which its results keep the name.
    own_folder: ClassVar[bool] = False

    def claims(self, file: Path) -> bool:
        """Say by its name whether a file is of this format."""
        return file.name.lower().endswith(self.endings)

    def recognizes(self, file: Path) -> bool:
        """Say by its content whether a file is of this format, whose name nobody claims."""
        return False

    def stem(self, file: Path) -> str:
        """Give a file's name without this format's ending."""
        lengths = [len(ending) for ending in self.endings if file.name.lower().endswith(ending)]
        return file.name[: -max(lengths)] or file.name if lengths else file.name

    def group(self, files: Sequence[Path], folder: Path) -> list[Group]:
        """Sort files into scans; none is decoded.

        Args:
            files: Of this format, sorted.
            folder: In which they lie.

        Returns:
            A group a scan; here a file each.
        """
        return [self.slices([file]) for file in files]

    def slices(self, files: Sequence[Path]) -> Group:
        """Make a scan of files that are a slice each."""
        return Group(tuple(files), tuple(self.stem(file) for file in files))

    def decode(self, files: Sequence[Path]) -> Pixels:
        """Read a scan.

        Args:
            files: As `group` gave them.

        Returns:
            All its pixels.

        Raises:
            InputError: A file that cannot be read, or sizes that differ.
        """
        raise NotImplementedError

    def mask_ending(self, file: Path) -> str:
        """Give the ending of the masks and maps that are written for a file."""
        return ".png"


def check_shapes(arrays: Sequence[np.ndarray], files: Sequence[Path]) -> None:
    """Refuse slices or sequences that do not fit together.

    Args:
        arrays: What stands in the files.
        files: The files.

    Raises:
        InputError: One is of another shape than the first.
    """
    for array, file in zip(arrays, files, strict=True):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"{file} is of shape {array.shape}, but {files[0]} of {arrays[0].shape}. Bring them to one size and "
                "one number of channels, or take one out."
            )
