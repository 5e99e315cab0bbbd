"""Real volumes, where BRAINSEG_BRATS names the folder that holds `msd_task01` and `brats2015`."""

import json

import nibabel
import numpy as np
import pytest
from commands import brainseg

from brainseg_keras.data.checking.checks import check_data
from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.store import write_store

OLD = {
    "labels": "brats2015",
    "image_pattern": r"(?P<patient>[^/]+)/(?P<modality>[A-Za-z0-9]+)_subtrMeanDivStd\.nii\.gz",
    "label_pattern": r"(?P<patient>[^/]+)/OTMultiClass\.nii\.gz",
}


def labels_of(file, numbers):
    """Labels of a file as slices, by nibabel alone; LPS is rows down and columns to the right."""
    image = nibabel.as_closest_canonical(nibabel.load(file))
    shown = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    return np.array(numbers, np.uint8)[shown.round().astype(int)]


def test_decathlon_patients_are_read_whole(brats, tmp_path):
    source = open_source(brats / "msd_task01", labels="msd")
    assert source.channels == ("FLAIR",) and source.classes == CLASSES
    assert sorted(source.table.drop_duplicates("patient").split) == ["test", "train", "val"]
    stored = open_source(write_store(source, tmp_path / "msd.h5"))
    for patient in source.table.patient.unique():
        first, last = source.volume(patient), stored.volume(patient)
        np.testing.assert_array_equal(first.images, last.images)
        np.testing.assert_array_equal(first.masks, last.masks)
        assert last.spacing == pytest.approx((1.2109375, 1.875, 1.875))
        truth = labels_of(brats / "msd_task01" / f"{patient}_label.nii.gz", (0, 2, 1, 3))
        np.testing.assert_array_equal(last.masks, truth)


def test_old_patients_are_read_in_names_of_their_own(brats):
    folder = brats / "brats2015"
    with pytest.raises(ValueError, match="at least three patients"):
        open_source(folder, **OLD)
    findings = check_data(folder, **OLD)
    assert {finding.check for finding in findings} <= {"split", "bright-background"}


def test_from_volumes_to_masks_with_the_same_affine(brats, tmp_path):
    assert not brainseg("data", "pack", brats / "msd_task01", "--labels", "msd", "-o", "m.h5", cwd=tmp_path).returncode
    network = ("--architecture", "res_unet", "--filters", 4, "--size", 64)
    done = brainseg(
        "train", "--data", "m.h5", "--target", "classes", *network, "--epochs", 2, "-o", "run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(brainseg("evaluate", "--model", "run", "--data", "m.h5", "--json", cwd=tmp_path).stdout)
    assert list(report["regions"]) == ["whole tumour", "tumour core", "enhancing tumour"]
    assert report["unit"] == "mm"
    file = brats / "msd_task01" / "BRATS_468_flair.nii.gz"
    done = brainseg("predict", file, "--model", "run", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    image, mask = nibabel.load(file), nibabel.load(tmp_path / "out" / "BRATS_468_flair_mask.nii.gz")
    np.testing.assert_array_equal(image.affine, mask.affine)
    assert image.shape == mask.shape and set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2, 3}
