"""Where data are found: beside a manifest or below its root, and the phantom in the user's cache."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainseg_keras.data.manifest import COLUMNS, write_manifest
from brainseg_keras.data.phantom import lgg as phantom
from brainseg_keras.data.sources import cached_phantom, list_slices, open_source
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
