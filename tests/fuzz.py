"""The fuzzer over every reader: a corpus of small files, damaged from a seed, read here or in a worker with limits."""

import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mutations import mutate

from brainseg_keras.data.decode.brats_slices import read_brats_mask, read_brats_slice
from brainseg_keras.data.decode.dicom import dicom_series, read_dicom
from brainseg_keras.data.decode.images import read_image, read_mask
from brainseg_keras.data.decode.nifti import read_nifti
from brainseg_keras.data.formats import lgg
from brainseg_keras.data.manifest import read_manifest
from brainseg_keras.data.scans import find_scans
from brainseg_keras.data.sources import list_slices, source_of
from brainseg_keras.errors import InputError

#: Of a worker: seconds of the processor for one file, and bytes of address space.
SECONDS, MEMORY = 10, 4 * 2**30
#: Seconds after which a worker that computes nothing is given up; long, since a busy machine stands still for a while.
_PATIENCE = 300


@dataclass(frozen=True)
class Target:
    """A reader and what it is tried on.

    `make` writes files into a folder, `read` gets the folder and the one that was damaged. A reader of a data set may
    name the patient or the set in its message; one of a file names the file.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path, Path], Any]
    of_set: bool = False


# ---- what is read


def _pictures(folder):
    from scans import PICTURES

    for name, write in PICTURES.items():
        if not name.endswith(".dcm"):
            write(folder / name)


def _masks(folder):
    from PIL import Image
    from scans import disc

    for name in ("mask.png", "mask.tif", "mask.bmp"):
        Image.fromarray(disc((40, 44), 9) * np.uint8(255)).save(folder / name)


def _volumes(folder):
    import nibabel
    from scans import nifti_file

    nifti_file(folder / "head.nii", "LPS")
    nifti_file(folder / "head.nii.gz", "PIR")
    values = np.random.default_rng(0).integers(0, 200, (20, 24, 3, 2), dtype=np.int16)
    scaled = nibabel.Nifti1Image(values, np.diag([1, 1, 4, 1]))
    scaled.header.set_slope_inter(0.5, 10)
    scaled.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a word"))
    nibabel.save(scaled, folder / "scaled.nii")
    nibabel.save(nibabel.Nifti2Image(values[..., 0], np.eye(4)), folder / "second.nii")


def _there_and_back(folder, file):
    volume = read_nifti(file)
    volume.frame.write(np.zeros(volume.images.shape[:3], np.uint8), folder / f".back{''.join(file.suffixes)}")


def _series(folder):
    from scans import dicom_file, slice_of

    for number in range(3):
        dicom_file(folder / f"slice{number}.dcm", slice_of((24, 30)), number=number)


def _read_series(folder, file):
    for series in dicom_series(sorted(folder.glob("*.dcm"))):
        read_dicom(series)


def _brats_slices(folder):
    from brainseg_keras.data.phantom.brats import write_brats_phantom

    made = write_brats_phantom(folder / "made", patients=1, slices=6, size=32)
    for file in made.glob("*.h5"):
        file.rename(folder / file.name)


def _lgg(folder):
    from brainseg_keras.data.phantom.lgg import write_phantom

    write_phantom(folder, patients=1, slices=6, size=32)


def _read_lgg(folder, file):
    if file.name == "data.csv":
        lgg.read_clinical(file)
    _read_set(folder, "lgg")


def _manifest(folder):
    from brainseg_keras.data.manifest import write_manifest
    from brainseg_keras.data.phantom.lgg import write_phantom

    table, _ = lgg.read_lgg(write_phantom(folder / "made", patients=2, slices=6, size=32), checksums=True)
    write_manifest(table.assign(split="train"), folder / "manifest.csv")


def _nifti_set(folder):
    from volumes import write_patient

    for number in range(2):
        write_patient(folder, f"P_{number}", seed=number)


def _msd(folder):
    from volumes import head, write_volume

    (folder / "dataset.json").write_text(json.dumps({"name": "brain", "modality": {"0": "FLAIR"}}), encoding="utf-8")
    pixels, labels = head(0)
    write_volume(folder / "imagesTr" / "B_1.nii.gz", pixels)
    write_volume(folder / "labelsTr" / "B_1.nii.gz", np.array([0, 2, 1, 3], np.uint8)[labels])


def _pairs(folder):
    from test_pairs import write_pair

    for number in (1, 2):
        write_pair(folder, f"A_{number}", seed=number, values=(0, 1, 2, 4), image_ending=(".png", ".jpg")[number - 1])


def _read_set(folder, format, **options):
    table, root = list_slices(folder, format=format, checksums=True, **options)
    source_of(table, root).volume(table.patient.iloc[-1])


def _folder_of_scans(folder):
    from scans import PICTURES

    _volumes(folder)
    _series(folder)
    _brats_slices(folder)
    for name in ("gray.png", "color.tiff"):
        PICTURES[name](folder / name)


def _read_scans(folder, file):
    for scan in find_scans([folder]):
        if file in scan.files:
            try:
                scan.read()
            except InputError:
                scan.without_unreadable()
                raise


TARGETS = {
    "read_image": Target(_pictures, lambda folder, file: read_image(file)),
    "read_mask": Target(_masks, lambda folder, file: read_mask(file)),
    "read_nifti": Target(_volumes, _there_and_back),
    "read_dicom": Target(_series, lambda folder, file: read_dicom([file])),
    "dicom_series": Target(_series, _read_series),
    "read_brats_slice": Target(_brats_slices, lambda folder, file: read_brats_slice(file)),
    "read_brats_mask": Target(_brats_slices, lambda folder, file: read_brats_mask(file)),
    "read_manifest": Target(_manifest, lambda folder, file: read_manifest(file)),
    "find_scans": Target(_folder_of_scans, _read_scans, of_set=True),
    "brats": Target(_brats_slices, lambda folder, file: _read_set(folder, "brats-h5"), of_set=True),
    "lgg": Target(_lgg, _read_lgg, of_set=True),
    "nifti": Target(_nifti_set, lambda folder, file: _read_set(folder, "nifti"), of_set=True),
    "msd": Target(_msd, lambda folder, file: _read_set(folder, "msd"), of_set=True),
    "pairs": Target(_pairs, lambda folder, file: _read_set(folder, "pairs", labels="brats2020"), of_set=True),
}


def _never_end(folder, file):
    while True:
        pass


#: Readers that fail, to try the fuzzer itself.
FAULTY = {
    "hangs": Target(_masks, _never_end),
    "dies": Target(_masks, lambda folder, file: os.abort()),
    "eats": Target(_masks, lambda folder, file: bytearray(2 * MEMORY)),
    "raises": Target(_masks, lambda folder, file: {}["width"]),
    "names nothing": Target(_masks, lambda folder, file: read_image("another.png")),
}


# ---- trying it


def make_corpus(folder: Path) -> None:
    """Write the files of every target, each in a folder of its name."""
    for name, target in (TARGETS | FAULTY).items():
        (folder / name).mkdir(parents=True)
        target.make(folder / name)
        # What others were made of.
        shutil.rmtree(folder / name / "made", ignore_errors=True)


def try_case(corpus: Path, name: str, seed: int) -> str | None:
    """Damage a file of a target as the seed says, read it, and restore it.

    Returns what went wrong: an exception that is not an InputError, or a message that does not name the file.
    """
    folder, target = corpus / name, (TARGETS | FAULTY)[name]
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    file = files[rng.integers(len(files))]
    whole = file.read_bytes()
    try:
        file.write_bytes(mutate(whole, file.name, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder, file)
    except InputError as error:
        named = file.name in str(error) or (target.of_set and str(folder) in str(error))
        return None if named else f"{file.name}: not named in the message: {error}"
    except Exception as error:
        return f"{file.name}: {type(error).__name__}: {error}"
    finally:
        file.write_bytes(whole)
    return None


class Worker:
    """A process that tries cases; it is ended and started anew when one takes too long or takes it down."""

    def __init__(self, corpus: Path):
        self._whole, self._corpus = corpus, corpus.with_name(corpus.name + "_damaged")
        self._process = None
        shutil.copytree(self._whole, self._corpus)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def try_case(self, name: str, seed: int) -> str | None:
        """As the function, and with limits of time and memory."""
        if self._process is None:
            self._start()
        self._pipe.send((name, seed))
        try:
            if self._pipe.poll(_PATIENCE):
                return self._pipe.recv()
            said = f"did not answer within {_PATIENCE} s"
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            slow = code == -signal.SIGPROF
            said = f"took longer than {SECONDS} s" if slow else f"ended the process, exit code {code}"
        self._end()
        # Nobody put the damaged file back.
        shutil.rmtree(self._corpus / name)
        shutil.copytree(self._whole / name, self._corpus / name)
        return said

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(self._corpus, theirs), daemon=True)
        self._process.start()
        theirs.close()
        # It has loaded its readers.
        self._pipe.recv()

    def _end(self):
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _work(corpus: Path, pipe) -> None:
    import resource

    import nibabel  # noqa: F401
    import pydicom  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            case = pipe.recv()
            # Nobody handles its signal, so that it ends the process also in the midst of a library's C code.
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            said = try_case(corpus, *case)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(said)
