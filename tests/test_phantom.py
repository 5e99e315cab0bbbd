"""The phantom: the same from the same seed, real files, and harder than a threshold."""

import filecmp
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainseg_keras.data.formats.lgg import read_clinical
from brainseg_keras.data.phantom import brats as phantom_brats
from brainseg_keras.data.phantom import lgg as phantom_module
from brainseg_keras.data.phantom.lgg import phantom_volume, write_phantom
from brainseg_keras.data.sources import cached_phantom, open_source
from brainseg_keras.data.volumes import iterate_volumes
from brainseg_keras.errors import InputError

SMALL = {"slices": 8, "size": 48}


def test_same_seed_same_files_and_more_patients_change_none(tmp_path):
    few = write_phantom(tmp_path / "few", patients=2, seed=5, **SMALL)
    more = write_phantom(tmp_path / "more", patients=3, seed=5, **SMALL)
    for folder in sorted(path for path in few.iterdir() if path.is_dir()):
        names = [file.name for file in folder.iterdir()]
        assert filecmp.cmpfiles(folder, more / folder.name, names, shallow=False)[0] == names
    images, masks = phantom_volume(5, 1, **SMALL)
    folder = few / "PHANTOM_DU_0002_20000101"
    np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{folder.name}_5.tif")), images[4])
    np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{folder.name}_5_mask.tif")), masks[4] * 255)
    assert (phantom_volume(5, 0, **SMALL)[0] != phantom_volume(6, 0, **SMALL)[0]).any()
    assert (phantom_volume(5, 0, **SMALL)[0] != phantom_volume(5, 1, **SMALL)[0]).any()
    assert (phantom_volume(5, 1, **SMALL)[0] != phantom_volume(6, 0, **SMALL)[0]).any(), "seeds share no patients"


def test_files_are_those_of_the_lgg_layout(phantom):
    folders = sorted(path for path in phantom.iterdir() if path.is_dir())
    assert len(folders) == 6
    for folder in folders:
        images = sorted(folder.glob("*[0-9].tif"))
        assert {file.name for file in images} == {f"{folder.name}_{n}.tif" for n in range(1, 9)}
        for file in images:
            image, mask = Image.open(file), Image.open(file.with_name(f"{file.stem}_mask.tif"))
            assert (image.mode, mask.mode, image.size, mask.size) == ("RGB", "L", (48, 48), (48, 48))
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert len(read_clinical(phantom / "data.csv")) == 6


def test_every_patient_has_a_tumour_and_slices_without():
    sizes, contrasts, levels = [], [], []
    for index in range(12):
        images, masks = phantom_volume(0, index, slices=20, size=64)
        shown = masks.any(axis=(1, 2))
        assert 0 < shown.sum() < 20
        # One tumour in neighboring slices, as in a head.
        assert np.ptp(np.flatnonzero(shown)) + 1 == shown.sum()
        sizes.append(masks.sum())
        brain = images[..., 1][(images[..., 1] > 20) & (masks == 0)]
        levels.append(np.median(brain))
        contrasts.append(np.median(images[..., 1][masks > 0]) / np.median(brain))
    assert max(sizes) > 3 * min(sizes)
    assert min(contrasts) > 1.15
    assert max(contrasts) > 1.25 * min(contrasts)
    assert max(levels) > 1.35 * min(levels), "scanners differ in gain"


def dice(answer, truth):
    return 2 * (answer & truth).sum() / max(1, answer.sum() + truth.sum())


@pytest.mark.parametrize("scaled", [False, True], ids=["raw", "by percentiles"])
def test_no_threshold_of_flair_comes_near(scaled):
    """The best single threshold, chosen on the training patients, fails on the validation patients."""
    source = open_source("phantom")

    def volumes(split):
        for volume in iterate_volumes(source, split):
            flair = volume.images[..., 1].astype("float32")
            low, high = np.percentile(flair, (1, 99)) if scaled else (0, 255)
            yield (flair - low) / (high - low), volume.masks > 0

    train, val = list(volumes("train")), list(volumes("val"))
    assert (len(train), len(val)) == (24, 3)
    assert train[0][0].shape == (20, 128, 128)

    def mean_dice(pairs, threshold):
        return np.mean([dice(flair > threshold, truth) for flair, truth in pairs])

    best = max(np.linspace(0.05, 1.5, 59), key=lambda threshold: mean_dice(train, threshold))
    assert 0.05 < mean_dice(val, best) < 0.60


def test_an_existing_data_set_is_left_alone(own_phantom):
    before = sorted(file.name for file in own_phantom.rglob("*"))
    with pytest.raises(InputError, match="exists already"):
        write_phantom(own_phantom.parent, patients=1, **SMALL)
    assert sorted(file.name for file in own_phantom.rglob("*")) == before
    assert [path.name for path in own_phantom.parent.iterdir()] == ["kaggle_3m"]


@pytest.mark.parametrize("numbers", [{"patients": 0}, {"slices": 2}, {"size": 16}])
def test_numbers_too_small_are_refused_and_leave_nothing(tmp_path, numbers):
    with pytest.raises(InputError, match="Received"):
        write_phantom(tmp_path / "new", **{"patients": 1} | SMALL | numbers)
    assert not (tmp_path / "new").exists()


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    made = phantom_module.phantom_volume

    def fail(seed, index, **numbers):
        if index == 2:
            raise OSError("disk full")
        return made(seed, index, **numbers)

    monkeypatch.setattr(phantom_module, "phantom_volume", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantom(tmp_path / "new", patients=3, **SMALL)
    assert not list((tmp_path / "new").iterdir())


def test_the_cache_names_the_generator_and_is_filled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "cache"))
    written = []

    def write(dest):
        written.append(dest)
        return real(dest, patients=1, **SMALL)

    real = phantom_module.write_phantom
    monkeypatch.setattr(phantom_module, "write_phantom", write)
    first = cached_phantom()
    assert cached_phantom() == first
    assert written == [first]
    code = b"".join(Path(module.__file__).read_bytes() for module in (phantom_module, phantom_brats))
    assert first == tmp_path / "cache" / f"phantom-lgg-{hashlib.sha256(code).hexdigest()[:12]}"


@pytest.mark.slow
def test_two_processes_at_once_share_one_phantom(tmp_path):
    code = "from brainseg_keras.data.sources import cached_phantom; print(cached_phantom())"
    setting = os.environ | {"BRAINSEG_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=setting, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(answers) == 1
    root = Path(answers.pop().strip())
    assert [path.name for path in root.iterdir()] == ["kaggle_3m"]
    assert len(list(root.glob("*/*/*_mask.tif"))) == 600
