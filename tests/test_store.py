"""The packed store: what comes out is what went in, or nothing was written."""

import hashlib
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest

from brainseg_keras.data.phantom.brats import write_brats_phantom
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.store import StoredVolumes, write_store
from brainseg_keras.data.volumes import Volume, iterate_volumes, select_patients
from brainseg_keras.errors import InputError


class Made:
    """Volumes from memory, of any dtype; the last patient may fail."""

    channels = ("FLAIR", "T1")
    classes = ("tumour",)

    def __init__(self, dtype="uint8", fails=False):
        rng = np.random.default_rng(0)
        self._images = {p: (200 * rng.random((4, 6, 8, 2))).astype(dtype) for p in ("A", "B")}
        self._masks = {p: (rng.random((4, 6, 8)) > 0.5).astype("uint8") for p in ("A", "B")}
        self._fails = fails
        common = {"dataset": "made", "image": "", "mask": "", "tumour_pixels": 1, "image_sha256": "", "mask_sha256": ""}
        self.table = pd.DataFrame(
            [
                common | {"patient": p, "slice": n, "split": s}
                for p, s in (("A", "train"), ("B", "val"))
                for n in range(4)
            ]
        )

    def volume(self, patient):
        if self._fails and patient == "B":
            raise InputError("B is broken")
        spacing = (5.0, 0.9, 0.9) if patient == "A" else None
        intensity = np.ones((2, 2), "float32")
        return Volume(patient, self._images[patient], self._masks[patient], (0, 1, 2, 3), intensity, spacing)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_round_trip_is_exact(tmp_path, dtype):
    source = Made(dtype)
    stored = StoredVolumes(write_store(source, tmp_path / "data.h5"))
    assert (stored.channels, stored.classes) == (source.channels, source.classes)
    for patient in ("A", "B"):
        ours, theirs = stored.volume(patient), source.volume(patient)
        assert ours.images.dtype == dtype
        assert ours.slices == theirs.slices
        assert ours.spacing == theirs.spacing
        for field in ("images", "masks", "intensity"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


def test_half_precision_only_on_request_and_not_for_bytes(tmp_path):
    halved = StoredVolumes(write_store(Made("float32"), tmp_path / "a.h5", float16=True)).volume("A")
    assert halved.images.dtype == np.float16
    np.testing.assert_allclose(halved.images, Made("float32").volume("A").images, rtol=2**-11)
    assert StoredVolumes(write_store(Made(), tmp_path / "b.h5", float16=True)).volume("A").images.dtype == np.uint8


@pytest.mark.parametrize(("dtype", "value"), [("uint16", 65535), ("float32", -70000.0)])
def test_values_beyond_half_precision_are_refused(tmp_path, dtype, value):
    source = Made(dtype)
    source.volume("B").images[1, 2, 3, 0] = value
    with pytest.raises(InputError, match=r"ends at 65504, and an image of patient B .*without --float16"):
        write_store(source, tmp_path / "data.h5", float16=True)
    assert not list(tmp_path.iterdir())
    assert StoredVolumes(write_store(source, tmp_path / "data.h5")).volume("B").images[1, 2, 3, 0] == value


def test_names_that_look_like_numbers_stay_names(tmp_path):
    source = Made()
    names = {"A": "007", "B": "1e5"}
    source.table = source.table.assign(patient=source.table.patient.map(names))
    source._images = {names[p]: images for p, images in source._images.items()}
    source._masks = {names[p]: masks for p, masks in source._masks.items()}
    stored = StoredVolumes(write_store(source, tmp_path / "data.h5"))
    assert select_patients(stored, "all") == ["007", "1e5"]
    np.testing.assert_array_equal(stored.volume("007").images, source.volume("007").images)


def test_a_fresh_process_reads_the_same_bytes(tmp_path):
    file = write_store(Made("float32"), tmp_path / "data.h5")
    code = (
        "import hashlib, sys; from brainseg_keras.data.store import StoredVolumes; "
        "volume = StoredVolumes(sys.argv[1]).volume('B'); "
        "print(volume.images.dtype, hashlib.sha256(volume.images.tobytes() + volume.masks.tobytes()).hexdigest())"
    )
    answer = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True).stdout
    volume = Made("float32").volume("B")
    assert answer.split() == ["float32", hashlib.sha256(volume.images.tobytes() + volume.masks.tobytes()).hexdigest()]


def test_a_damaged_byte_is_noticed(tmp_path):
    """Not read as other pixels: each chunk bears a checksum."""
    file = write_store(Made("float32"), tmp_path / "data.h5")
    with h5py.File(file) as content:
        offset = content["volumes/B/images"].id.get_chunk_info(2).byte_offset
    damaged = bytearray(file.read_bytes())
    damaged[offset + 20] ^= 8
    file.write_bytes(damaged)
    StoredVolumes(file).volume("A")
    with pytest.raises(InputError, match=r"data\.h5: patient B cannot be read, the file is damaged.*Pack it again"):
        StoredVolumes(file).volume("B")


def test_store_of_files_equals_the_files(phantom, tmp_path):
    files = open_source(phantom)
    stored = open_source(write_store(files, tmp_path / "phantom.h5"))
    pd.testing.assert_frame_equal(stored.table, files.table, check_dtype=False)
    for split in ("train", "val", "test", "all"):
        assert select_patients(stored, split) == select_patients(files, split)
    for ours, theirs in zip(iterate_volumes(stored, "all"), iterate_volumes(files, "all"), strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.masks, theirs.masks)
        np.testing.assert_array_equal(ours.intensity, theirs.intensity)
        assert ours.slices == theirs.slices == tuple(range(1, 9))


def test_a_chunk_is_a_slice(tmp_path):
    with h5py.File(write_store(Made(), tmp_path / "data.h5")) as file:
        assert file["volumes/A/images"].chunks == (1, 6, 8, 2)
        assert file["volumes/A/masks"].chunks == (1, 6, 8)


def test_a_failure_leaves_nothing_or_the_old_file(tmp_path):
    with pytest.raises(InputError, match="B is broken"):
        write_store(Made(fails=True), tmp_path / "data.h5")
    assert not list(tmp_path.iterdir())
    write_store(Made(), tmp_path / "data.h5")
    before = (tmp_path / "data.h5").read_bytes()
    with pytest.raises(InputError, match="B is broken"):
        write_store(Made(fails=True), tmp_path / "data.h5")
    assert (tmp_path / "data.h5").read_bytes() == before


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupt(patients):
        yield patients[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(Made(), tmp_path / "data.h5", progress=interrupt)
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
from pathlib import Path
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.store import StoredVolumes, write_store
source, folder, sizes = open_source(sys.argv[1]), Path(sys.argv[2]), map(int, sys.argv[3:])
for size in sizes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        write_store(source, folder / "data.h5")
    except OSError as error:
        print(error.strerror, Path(error.filename).name, sorted(path.name for path in folder.iterdir()))
    else:
        print("written")
"""


def test_a_full_disk_is_an_error_and_no_crash(phantom, tmp_path):
    """HDF5 ends the process in a segmentation fault when it cannot close its file: the disk is full at any byte."""
    whole = write_store(open_source(phantom), tmp_path / "whole.h5").stat().st_size
    (tmp_path / "full").mkdir()
    sizes = [0, 1, 100, 1000, 2048, *range(5000, whole, whole // 12), whole - 1, whole]
    command = [sys.executable, "-c", FULL, phantom, tmp_path / "full", *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *failed, last = done.stdout.splitlines()
    assert failed == ["File too large data.h5 []"] * (len(sizes) - 1)
    assert last == "written"
    assert (tmp_path / "full" / "data.h5").stat().st_size == whole


FULL_SLICES = """
import resource, sys
from pathlib import Path
from brainseg_keras.data import open_source
from brainseg_keras.data.writing import write_brats_slices

source = open_source(sys.argv[1])
for size in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        write_brats_slices(source, sys.argv[2])
    except OSError as error:
        print(error.strerror, Path(error.filename).name, list(Path(sys.argv[2]).iterdir()))
"""


def test_a_full_disk_under_single_slices_is_an_error_too(tmp_path):
    slices = write_brats_phantom(tmp_path / "given", patients=3, slices=6, size=32)
    largest = max(file.stat().st_size for file in slices.rglob("*.h5"))
    (tmp_path / "full").mkdir()
    command = [sys.executable, "-c", FULL_SLICES, slices, tmp_path / "full", *map(str, (100, 2048, largest // 2))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["File too large BraTS2020_training_data []"] * 3


def test_a_disk_without_room_is_refused_after_the_first_patient(tmp_path, monkeypatch):
    import shutil
    from types import SimpleNamespace

    read = []
    source = Made("float32")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(InputError, match=r"data\.h5 takes about .* MB more, and its disk has 0\.0 MB free. Make room"):
        write_store(source, tmp_path / "data.h5", progress=lambda names: (read.append(name) or name for name in names))
    assert read == ["A"]
    assert not list(tmp_path.iterdir())


def test_somebody_elses_file_is_not_replaced(tmp_path):
    with h5py.File(tmp_path / "volume_1_slice_2.h5", "w") as file:
        file["image"] = np.zeros(3)
    before = (tmp_path / "volume_1_slice_2.h5").read_bytes()
    with pytest.raises(InputError, match=r"volume_1_slice_2\.h5 is there, and brainseg did not make it"):
        write_store(Made(), tmp_path / "volume_1_slice_2.h5")
    assert (tmp_path / "volume_1_slice_2.h5").read_bytes() == before


def damaged(name, *, remove=False, **attributes):
    def damage(file):
        if remove:
            del file[name]
        for key, value in attributes.items():
            file[name].attrs[key] = value

    return damage


def replace(name, value):
    def damage(file):
        del file[name]
        file[name] = value

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        damaged("manifest", remove=True),
        replace("manifest", "patient,slice\nA,1\n"),
        replace("manifest", b"\xff\xfe"),
        replace("manifest", 3),
        damaged("/", channels="["),
        damaged("/", classes=3),
    ],
)
def test_a_damaged_head_is_named(tmp_path, damage):
    path = write_store(Made(), tmp_path / "data.h5")
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(InputError, match=r"data\.h5: its list of slices cannot be read.*Pack it again"):
        StoredVolumes(path)


@pytest.mark.parametrize(
    "damage",
    [
        damaged("volumes/B", remove=True),
        damaged("volumes/B/masks", remove=True),
        damaged("volumes/B", slices=3),
        damaged("volumes/B", slices=[1]),
        damaged("volumes/B", slices=[1, 2, 3, 4, 5]),
        damaged("volumes/B", intensity="bright"),
        damaged("volumes/B", intensity=np.ones((3, 2))),
        damaged("volumes/B", intensity=np.array([[0, 1], [0, np.nan]])),
        damaged("volumes/B", intensity=np.array([[0, np.inf], [0, 1]])),
        damaged("volumes/B", spacing=["a", "b", "c"]),
        replace("volumes/B/images", np.zeros((2, 2))),
        replace("volumes/B/images", np.full((4, 6, 8, 2), np.nan)),
        replace("volumes/B/images", np.where(np.arange(384).reshape(4, 6, 8, 2) == 9, np.inf, 0)),
        replace("volumes/B/images", np.zeros((4, 6, 8, 3))),
        replace("volumes/B/masks", np.zeros((1, 6, 8), np.uint8)),
        replace("volumes/B/masks", np.zeros((4, 6, 8), np.int16)),
    ],
)
def test_a_damaged_volume_is_named(tmp_path, damage):
    path = write_store(Made(), tmp_path / "data.h5")
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(InputError, match=r"data\.h5: patient B cannot be read, the file is damaged.*Pack it again"):
        StoredVolumes(path).volume("B")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"No such file: .*absent\.h5.*brainseg data pack"):
        StoredVolumes(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("no store")
    with pytest.raises(InputError, match=r"text\.h5 cannot be read as HDF5"):
        StoredVolumes(tmp_path / "text.h5")
    whole = write_store(Made(), tmp_path / "data.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        StoredVolumes(tmp_path / "cut.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = np.zeros(3)
    with pytest.raises(InputError, match=r"other\.h5 is not a packed data set of version 2.*brainseg data pack"):
        StoredVolumes(tmp_path / "other.h5")


def test_split_without_patients_is_refused():
    with pytest.raises(InputError, match="No patient in the split 'test'"):
        select_patients(Made(), "test")
    with pytest.raises(InputError, match="train, val, test or all"):
        select_patients(Made(), "validation")
