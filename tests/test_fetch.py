"""brainseg data fetch against a stand-in for the download, in the same process and as a command."""

import os
import shutil
import subprocess
import sys

import pytest

from brainseg_keras.data import fetch as fetch_module
from brainseg_keras.data.fetch import HANDLES, fetch, lgg_checksums, patient_checksum
from brainseg_keras.data.formats.lgg import read_lgg
from brainseg_keras.data.manifest import read_manifest
from brainseg_keras.data.phantom.brats import write_brats_phantom
from brainseg_keras.data.splits import fixed_split
from brainseg_keras.errors import IncompleteError, InputError

MANIFEST = "data_manifests/lgg.csv"


def test_the_checksums_are_those_of_the_manifest(request):
    table = read_manifest(request.config.rootpath / MANIFEST)
    own = table.groupby("patient")[["slice", "image_sha256", "mask_sha256"]].apply(patient_checksum)
    assert own.to_dict() == lgg_checksums().to_dict()
    assert len(fixed_split("lgg")) == 88


def test_a_set_that_is_not_known_is_not_asked_for():
    with pytest.raises(InputError, match=r"Known data sets are lgg, brats2020\. Received: 'brats1999'"):
        fetch("brats1999", download=pytest.fail)


@pytest.fixture
def known(phantom, monkeypatch):
    """The phantom takes the place of the set: its checksums are the ones that are known."""
    table, _ = read_lgg(phantom, checksums=True)
    sums = table.groupby("patient")[["slice", "image_sha256", "mask_sha256"]].apply(patient_checksum)
    monkeypatch.setattr(fetch_module, "lgg_checksums", lambda: sums)
    return sums


def test_a_whole_download_is_checked_and_found(known, phantom, tmp_path):
    shutil.copytree(phantom, tmp_path / "versions" / "2" / "kaggle_3m")
    asked = []

    def download(handle):
        asked.append(handle)
        return str(tmp_path / "versions" / "2")

    found = fetch("lgg", download=download)
    assert asked == [HANDLES["lgg"]]
    assert (found.root, found.patients, found.checked) == (tmp_path / "versions" / "2" / "kaggle_3m", 6, 6)


def test_what_is_missing_or_changed_is_named(known, own_phantom):
    gone, also_gone, other, also_other, *_ = sorted(folder for folder in own_phantom.iterdir() if folder.is_dir())
    for folders, what in (((other, also_other), "other"), ((gone, also_gone), "missing")):
        for folder in folders:
            if what == "missing":
                shutil.rmtree(folder)
            else:
                shutil.copy(next(folder.glob("*_5.tif")), next(folder.glob("*_1.tif")))
        with pytest.raises(IncompleteError) as error:
            fetch("lgg", download=lambda handle: str(own_phantom.parent))
        assert f" 2 {what} (first: {folders[0].name})" in str(error.value)
    assert f"missing (first: {gone.name}), 2 other (first: {other.name}). Remove" in str(error.value)


def test_brats_is_counted(tmp_path):
    write_brats_phantom(tmp_path, patients=1, slices=8, size=32)
    with pytest.raises(IncompleteError, match=r"holds 8 slices of BraTS 2020\. Expected 57195"):
        fetch("brats2020", download=lambda handle: str(tmp_path))


def test_an_empty_download_is_no_set(tmp_path):
    with pytest.raises(IncompleteError, match="holds no LGG data"):
        fetch("lgg", download=lambda handle: str(tmp_path))


@pytest.mark.parametrize("error", [ConnectionError("no route to host"), RuntimeError("401 Client Error\nmore")])
def test_without_network_or_token_the_cure_is_said(error):
    def download(handle):
        raise error

    with pytest.raises(InputError, match=r"(?s)could not be downloaded \(.*Make an API token on kaggle\.com") as said:
        fetch("lgg", download=download)
    assert "more" not in str(said.value)


def run(tmp_path, *arguments, path=None):
    command = [sys.executable, "-c", "from brainseg_keras.cli import main; main()", "data", "fetch", *arguments]
    setting = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run(command, cwd=tmp_path, env=setting, capture_output=True, text=True, timeout=120)


def test_the_command_with_a_kagglehub_of_its_own(tmp_path):
    write_brats_phantom(tmp_path / "data", patients=1, slices=8, size=32)
    (tmp_path / "lib").mkdir()
    code = f"def dataset_download(handle):\n    return {str(tmp_path / 'data')!r}\n"
    (tmp_path / "lib" / "kagglehub.py").write_text(code)
    done = run(tmp_path, "brats2020", path=tmp_path / "lib")
    assert done.returncode == 1 and "Expected 57195" in done.stderr and "Traceback" not in done.stderr


def test_the_command_without_kagglehub(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "kagglehub.py").write_text("raise ImportError('none')\n")
    done = run(tmp_path, "lgg", path=tmp_path / "lib")
    assert done.returncode == 2 and "pip install 'brainseg_keras[kaggle]'" in done.stderr
