"""The BraTS 2020 HDF5 slices: as shared, written and read back, and what is refused."""

import shutil

import h5py
import numpy as np
import pytest
from commands import brainseg
from volumes import write_patient

from brainseg_keras.data.formats.brats_h5 import read_brats
from brainseg_keras.data.phantom.brats import brats_phantom_volume, write_brats_phantom
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.store import write_store
from brainseg_keras.data.writing import write_brats_slices
from brainseg_keras.errors import InputError

FOLDER = "BraTS2020_training_data/content/data"


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    return write_brats_phantom(tmp_path_factory.mktemp("brats"), patients=3, slices=8, size=48, seed=5)


@pytest.fixture
def own(slices, tmp_path):
    return shutil.copytree(slices, tmp_path / FOLDER)


def test_a_file_is_as_the_shared_set_has_it(slices, tmp_path):
    written = write_brats_slices(open_source(slices), tmp_path)
    assert slices.as_posix().endswith(FOLDER) and written.as_posix().endswith(FOLDER)
    with h5py.File(written / "volume_1_slice_4.h5") as file:
        assert file["image"].shape == (48, 48, 4) and file["image"].dtype == np.float64
        assert file["mask"].shape == (48, 48, 3) and file["mask"].dtype == np.uint8
        assert file["mask"][:].sum(axis=-1).max() == 1
        volume = brats_phantom_volume(5, 0, slices=8, size=48)
        np.testing.assert_array_equal(file["image"][:], volume.images[4])
        np.testing.assert_array_equal(file["mask"][..., 1] == 1, volume.masks[4] == 2)


@pytest.mark.parametrize("depth", range(4), ids=["data", "content", "BraTS2020_training_data", "its parent"])
def test_found_from_any_folder_above(slices, depth):
    path = [slices, slices.parent, slices.parents[1], slices.parents[2]][depth]
    table, root = read_brats(path)
    assert root == slices
    assert table.patient.value_counts().tolist() == [8, 8, 8]
    assert open_source(path).channels == ("T1", "T1ce", "T2", "FLAIR")


def test_the_table_beside_them_is_not_needed_and_not_in_the_way(own):
    (own / "meta_data.csv").write_text("slice_path,target\n/kaggle/volume_9_slice_0.h5,0\n")
    (own / "BraTS20 Training Metadata.csv").write_text("nothing of use\n")
    assert read_brats(own)[0].patient.nunique() == 3


def test_numbers_are_sorted_as_numbers(tmp_path):
    folder = write_brats_phantom(tmp_path, patients=1, slices=12, size=32)
    rows = read_brats(folder)[0]
    assert rows.slice.tolist() == list(range(12))


def test_volumes_of_nifti_survive_slices_and_store(tmp_path):
    for number in range(3):
        write_patient(tmp_path / "nifti", f"P_{number}", seed=number, images=("_flair", "_t1", "_t1ce", "_t2"))
    before = open_source(tmp_path / "nifti")
    read = open_source(write_brats_slices(before, tmp_path / "h5"))
    stored = open_source(write_store(read, tmp_path / "packed.h5"))
    assert stored.classes == before.classes
    for patient in before.table.patient.unique():
        first, last = before.volume(patient), stored.volume(patient)
        order = [before.channels.index(name) for name in stored.channels]
        np.testing.assert_array_equal(last.images, first.images[..., order])
        np.testing.assert_array_equal(last.masks, first.masks)
        assert last.images.dtype == first.images.dtype == np.float32
        assert last.spacing == first.spacing == (4.0, 2.0, 1.0)


def test_one_millimeter_where_the_file_does_not_say(own):
    for file in own.glob("volume_1_*.h5"):
        with h5py.File(file, "r+") as content:
            del content["image"].attrs["spacing"]
    assert open_source(own).volume("volume_1").spacing == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.0, 1.0, 1.0), (np.nan, 1.0, 1.0), "one", -2.0])
def test_spacing_that_is_none_is_refused(own, spacing):
    for file in own.glob("volume_1_*.h5"):
        with h5py.File(file, "r+") as content:
            content["image"].attrs["spacing"] = spacing
    with pytest.raises(InputError, match=r"volume_1_slice_0\.h5"):
        open_source(own).volume("volume_1")


def rewrite(file, name, values):
    with h5py.File(file, "r+") as content:
        del content[name]
        content[name] = values


def nested(folder):
    mask = np.zeros((48, 48, 3), np.uint8)
    mask[10:20, 10:20, 1] = 1
    mask[12:15, 12:15, 2] = 1
    rewrite(folder / "volume_2_slice_3.h5", "mask", mask)


REFUSED = [
    (nested, "volume_2_slice_3.*overlap", "subtract"),
    (lambda f: (f / "volume_2_slice_3.h5").unlink(), "slices 3 of volume_2 are missing", "Download"),
    (lambda f: (f / "volume_2_slice_3.h5").write_bytes(b"\x89HDF"), "volume_2_slice_3", "download it again"),
    (lambda f: rewrite(f / "volume_2_slice_3.h5", "mask", np.full((48, 48, 3), 255)), "255", "Expected 0 and 1"),
    (lambda f: rewrite(f / "volume_2_slice_3.h5", "mask", np.zeros((48, 48))), r"\(48, 48\)", "one channel a class"),
    (lambda f: rewrite(f / "volume_2_slice_3.h5", "image", np.zeros((48, 48, 2))), r"\(48, 48, 2\)", "T1ce"),
    (lambda f: rewrite(f / "volume_2_slice_3.h5", "image", np.full((48, 48, 4), np.nan)), "volume_2", "NaN"),
]


@pytest.mark.parametrize(("damage", "said", "cure"), REFUSED)
def test_refusals_name_the_file_and_the_cure(own, damage, said, cure):
    damage(own)
    with pytest.raises(InputError, match=rf"(?s){said}.*{cure}"):
        open_source(own).volume("volume_2")


def test_the_command_writes_one_phantom_in_both_forms(tmp_path):
    done = brainseg(
        "data", "phantom", "p", "--modalities", "4", "--patients", "3", "--slices", "8", "--size", "48", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    first, second = open_source(tmp_path / "p"), open_source(tmp_path / "p" / "nifti")
    assert first.channels == second.channels and first.classes == second.classes
    for patient in ("volume_1", "volume_3"):
        one, other = first.volume(patient), second.volume(patient)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.masks, other.masks)
        assert one.spacing == other.spacing == (4.0, 1.0, 1.0)


def test_the_phantom_shows_what_its_labels_say():
    """Enhancing tumour is bright after contrast agent and edema in FLAIR; patients do not depend on their number."""
    alone = brats_phantom_volume(3, 5, slices=12, size=64)
    np.testing.assert_array_equal(alone.images, brats_phantom_volume(3, 5, slices=12, size=64).images)
    for index in range(6):
        volume = brats_phantom_volume(3, index, slices=12, size=64)
        assert set(np.unique(volume.masks)) == {0, 1, 2, 3}
        mean = {label: volume.images[volume.masks == label].mean(axis=0) for label in range(4)}
        t1, t1ce, _, flair = range(4)
        assert mean[3][t1ce] > mean[2][t1ce] and mean[3][t1ce] > mean[1][t1ce]
        assert mean[2][flair] > mean[1][flair] and mean[2][t1] < mean[2][flair]
        assert np.isfinite(volume.images).all()


def test_only_what_brats_holds_is_written(phantom, tmp_path):
    with pytest.raises(InputError, match="Received: T1, FLAIR, T1ce with tumour"):
        write_brats_slices(open_source(phantom), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept(slices):
    with pytest.raises(InputError, match="exists already"):
        write_brats_phantom(slices.parents[2], patients=1, slices=8, size=48)


def test_a_folder_without_slices_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no BraTS slices"):
        read_brats(tmp_path)
