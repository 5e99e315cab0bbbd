"""All formats. A new one is a class in a file of this folder, and a line in the list here."""

from brainseg_keras.data.formats.base import FolderFormat, ScanFormat
from brainseg_keras.data.formats.brats_h5 import BratsSlices
from brainseg_keras.data.formats.dicom import Dicom
from brainseg_keras.data.formats.lgg import Lgg
from brainseg_keras.data.formats.msd import Decathlon
from brainseg_keras.data.formats.nifti import Nifti
from brainseg_keras.data.formats.pairs import Pairs
from brainseg_keras.data.formats.pictures import Pictures

#: In the order in which folders are asked, and files: the first that fits is taken.
FORMATS: tuple[FolderFormat | ScanFormat, ...] = (
    Lgg(),
    Pictures(),
    Dicom(),
    BratsSlices(),
    Decathlon(),
    Pairs(),
    Nifti(),
)
#: Layouts of folders to train on, by name.
FOLDER_FORMATS: dict[str, FolderFormat] = {
    format.name: format for format in FORMATS if isinstance(format, FolderFormat)
}
#: Kinds of files to segment.
SCAN_FORMATS: tuple[ScanFormat, ...] = tuple(each for each in FORMATS if isinstance(each, ScanFormat))
