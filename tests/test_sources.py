"""Where data are found: beside a manifest or below its root, and the phantom in the user's cache."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainseg_keras.data.manifest import COLUMNS, write_manifest
from brainseg_keras.data.phantom import lgg as phantom
from brainseg_keras.data.sources import cached_phantom, list_slices, open_source
from brainseg_keras.data.volumes import FileVolumes, PatientPixels, SelectedChannels, Volume
from brainseg_keras.errors import InputError


def pairs_folder(root, patients=3, slices=2):
    for name, pixels in (("images", 90), ("masks", 0)):
        (root / name).mkdir(parents=True)
        for patient in range(patients):
            for number in range(1, slices + 1):
                picture = np.full((16, 16), pixels, np.uint8)
                picture[4:8, 4:8] = 255
                Image.fromarray(picture).save(root / name / f"P{patient}_{number}.png")
    return root


@pytest.mark.parametrize("slices", [1, 2])
def test_a_manifest_stands_beside_its_images_or_says_their_root(slices, tmp_path):
    """Also of one slice alone."""
    data = pairs_folder(tmp_path / "data", patients=1, slices=slices)
    table = list_slices(data)[0].assign(split="train")
    write_manifest(table, data / "beside.csv")
    (tmp_path / "elsewhere").mkdir()
    write_manifest(table, tmp_path / "elsewhere" / "m.csv")
    for source in (open_source(data / "beside.csv"), open_source(tmp_path / "elsewhere" / "m.csv", root=data)):
        assert source.volume("P0").images.shape == (slices, 16, 16, 1)
    with pytest.raises(InputError, match=r"elsewhere/images/P0_1\.png, which is not there.*--root DIR"):
        open_source(tmp_path / "elsewhere" / "m.csv")
    with pytest.raises(InputError, match="which is not there"):
        open_source(data / "beside.csv", root=tmp_path / "elsewhere")


def test_progress_is_shown_of_the_patients_of_a_folder(phantom):
    shown = []
    source = open_source(phantom, progress=lambda names: (shown.append(name) or name for name in names))
    assert shown == sorted(set(source.table.patient))


def test_splits_of_a_seed_say_so_and_written_ones_do_not(phantom, tmp_path):
    """Those of a run come before the former, however the channels are chosen."""
    write_manifest(open_source(phantom).table, tmp_path / "m.csv")
    for modalities in (None, "FLAIR"):
        assert open_source(phantom, modalities=modalities).seeded
        assert not open_source(tmp_path / "m.csv", root=phantom, modalities=modalities).seeded


class Halves:
    """A head that T1 shows on its left alone, and FLAIR on its left at 100 and on the larger right at 60."""

    table, channels, classes = pd.DataFrame({"patient": ["P"]}), ("T1", "FLAIR", "T1ce"), ("tumour",)

    def volume(self, patient):
        images = np.zeros((2, 20, 20, 3), np.uint8)
        images[:, 2:18, 2:8] = 50, 100, 200
        images[:, 2:18, 8:18, 1] = 60
        return Volume(patient, images, np.zeros((2, 20, 20), np.uint8), (4, 5), np.ones((3, 2)), (5.0, 1.0, 1.0))


def test_chosen_channels_are_read_by_name_each_with_its_own_range():
    """Where the head is, the channels that are read decide together."""
    for names, ranges in (
        (("T1ce", "T1"), [[0, 200], [0, 50]]),
        (("FLAIR",), [[0, 60]]),
        (("FLAIR", "T1"), [[0, 100], [0, 50]]),
    ):
        source, whole = SelectedChannels(Halves(), names), Halves().volume("P")
        assert (source.channels, source.classes, source.seeded) == (names, ("tumour",), False)
        volume = source.volume("P")
        for index, name in enumerate(names):
            np.testing.assert_array_equal(volume.images[..., index], whole.images[..., Halves.channels.index(name)])
        assert volume.images.shape[-1] == len(names) and volume.images.flags.c_contiguous
        assert volume.intensity.tolist() == ranges
        assert (volume.slices, volume.spacing, volume.patient) == ((4, 5), (5.0, 1.0, 1.0), "P")


def test_pixels_that_are_no_numbers_are_refused_with_the_patient_and_a_file():
    def read(rows, root, channels):
        return PatientPixels(np.full((1, 4, 4, 1), np.nan), np.zeros((1, 4, 4), np.uint8))

    row = {"patient": "P", "slice": 1, "image": "a.tif", "mask": "b.tif", "image_sha256": "", "mask_sha256": ""}
    source = FileVolumes(pd.DataFrame([row]), "data", ("FLAIR",), read=read)
    with pytest.raises(InputError, match=r"Patient P, data/a\.tif: The image holds NaN or infinite"):
        source.volume("P")


@pytest.mark.parametrize("names", [["FLAIR", "T2"], ["FLAIR", "FLAIR"], []])
def test_channels_that_are_absent_or_doubled_are_refused(names):
    with pytest.raises(InputError, match="takes each of T1, FLAIR, T1ce at most once"):
        SelectedChannels(Halves(), names)


def test_where_every_patient_is_damaged_the_table_is_empty(tmp_path):
    data = pairs_folder(tmp_path / "data")
    for mask in (data / "masks").iterdir():
        mask.write_bytes(b"none")
    skipped = {}
    table, root = list_slices(data, skipped=skipped)
    assert list(table.columns) == list(COLUMNS) and table.empty
    assert root == data and len(skipped) == 3 and all("masks/P" in text for text in skipped.values())


@pytest.fixture
def made(monkeypatch):
    """The phantom's folders as they are asked for; nothing is drawn."""
    folders = []

    def write(folder):
        folders.append(folder)
        (folder / "kaggle_3m").mkdir(parents=True)

    monkeypatch.setattr(phantom, "write_phantom", write)
    return folders


def test_the_phantom_is_kept_in_the_users_cache(made, monkeypatch, tmp_path):
    monkeypatch.delenv("BRAINSEG_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    first, again = cached_phantom(), cached_phantom()
    assert first == again and made == [first]
    assert first.parent == tmp_path / ".cache" / "brainseg_keras" and first.name.startswith("phantom-lgg-")
    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "own"))
    assert cached_phantom().parent == tmp_path / "own"
    assert len(made) == 2


def test_where_no_cache_can_be_made_the_phantom_is_temporary(made, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert cached_phantom().parent == tmp_path / "temporary"


def test_another_process_may_make_the_phantom_meanwhile(monkeypatch, tmp_path):
    def beaten(folder):
        (folder / "kaggle_3m").mkdir(parents=True)
        raise InputError("exists already")

    def failed(folder):
        raise InputError("no room")

    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "first"))
    monkeypatch.setattr(phantom, "write_phantom", beaten)
    assert (cached_phantom() / "kaggle_3m").is_dir()
    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "second"))
    monkeypatch.setattr(phantom, "write_phantom", failed)
    with pytest.raises(InputError, match="no room"):
        cached_phantom()


def test_there_are_phantoms_of_three_formats():
    with pytest.raises(InputError, match=r"lgg, brats-h5, nifti\. Received: 'msd'"):
        cached_phantom("msd")


def test_a_manifest_of_another_kind_is_refused(tmp_path):
    data = pairs_folder(tmp_path / "data", patients=1)
    table = list_slices(data)[0].assign(split="train", dataset="holiday")
    write_manifest(table, data / "m.csv")
    with pytest.raises(InputError, match=r"A manifest's dataset is lgg.*Received: 'holiday'"):
        open_source(data / "m.csv")
    assert pd.read_csv(data / "m.csv").dataset.eq("holiday").all()
    write_manifest(table.assign(dataset=["pairs:binary", "lgg"]), data / "two.csv")
    with pytest.raises(InputError, match=r"A manifest is of one dataset\. Received: lgg, pairs:binary\."):
        open_source(data / "two.csv")
