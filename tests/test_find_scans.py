"""What is found in folders: nothing is passed over silently, and no result is taken for a scan."""

import numpy as np
import pytest
from PIL import Image
from scans import CHANNELS, GRAY, PICTURES, brightness_model, dicom_file, nifti_file

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.scans import find_scans
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor, predict


def found(*inputs):
    return [[file.name for file in scan.files] for scan in find_scans(inputs)]


def written(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model()).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)


def test_names_of_masks_tables_and_hidden_files_are_passed_over(tmp_path):
    for name in ("a.png", "a_mask.png", "b-seg.png", "c_label.tif", ".hidden.png"):
        PICTURES["gray.png"](tmp_path / name)
    (tmp_path / "data.csv").write_text("x")
    (tmp_path / ".cache").mkdir()
    PICTURES["gray.png"](tmp_path / ".cache" / "d.png")
    assert [scan.files[0].name for scan in find_scans([tmp_path])] == ["a.png"]


@pytest.mark.parametrize(
    "names",
    [
        ("a.nii", "a.nii.gz"),
        ("a.png", "a.jpg"),
        ("a.nii.gz", "a.png"),
        ("a.tif", "A.TIFF"),
        ("a_flair.nii", "a_flair.nii.gz"),
    ],
)
def test_files_of_one_name_are_both_segmented(names, predictor, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (*names, "other.nii.gz"):
        if ".nii" in name:
            nifti_file(folder / name, "RAS")
        else:
            Image.fromarray(GRAY).save(folder / name)
    done = predict([folder], tmp_path / "out", predictor=predictor, overlays=False)
    assert sorted(row.file for row in done.summary.itertuples()) == sorted(
        str(folder / name) for name in (*names, "other.nii.gz")
    )
    masks = [
        f"{name}_mask" + (".nii.gz" if name.endswith(".gz") else ".nii" if ".nii" in name else ".png") for name in names
    ]
    assert written(tmp_path / "out") == sorted([*masks, "other_mask.nii.gz", "ledger", "ledger.csv", "summary.csv"])
    # By itself none is in doubt.
    assert [str(scan.outputs[0]) for scan in find_scans([folder / "other.nii.gz"])] == ["other"]


def test_volumes_beside_pictures_and_slices(tmp_path):
    for number in (1, 2):
        Image.fromarray(GRAY).save(tmp_path / f"{tmp_path.name}_{number}.tif")
    PICTURES["gray.png"](tmp_path / "scan.png")
    nifti_file(tmp_path / "scan.nii.gz", "RAS")
    nifti_file(tmp_path / "volume.nii", "RAS")
    dicom_file(tmp_path / "one.dcm", GRAY)
    files = sorted(name for names in found(tmp_path) for name in names)
    assert files == sorted(path.name for path in tmp_path.iterdir())


def test_a_volume_without_a_sequence_does_not_hide_one_with_it(tmp_path):
    """Of P1 there is one of each, which do not belong together; both are scans."""
    for name in ("P1", "P1_flair"):
        nifti_file(tmp_path / f"{name}.nii.gz", "RAS")
    assert sorted(found(tmp_path)) == [["P1.nii.gz"], ["P1_flair.nii.gz"]]


def test_what_is_passed_over_beside_sequences_is_said(tmp_path, caplog):
    for name in ("P1_flair", "P1_t1", "brainmask", "P2"):
        nifti_file(tmp_path / f"{name}.nii.gz", "RAS")
    assert found(tmp_path) == [["P1_flair.nii.gz", "P1_t1.nii.gz"]]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "2 volumes that name no sequence are passed over" in message
    assert "P2.nii.gz" in message
    assert found(tmp_path / "P2.nii.gz") == [["P2.nii.gz"]]


def test_dicom_files_are_known_by_their_mark(tmp_path):
    """A series is often named by its identifier, whose last number looks like an ending."""
    for number in (1, 2):
        dicom_file(tmp_path / f"1.2.840.{number}", GRAY, number=number)
    (tmp_path / "notes.1").write_text("x")
    assert found(tmp_path) == [["1.2.840.1", "1.2.840.2"]]


def test_without_pydicom_the_rest_is_done(predictor, tmp_path, monkeypatch):
    dicom_file(tmp_path / "a.dcm", GRAY)
    PICTURES["gray.png"](tmp_path / "b.png")
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    done = predict([tmp_path], tmp_path / "out", predictor=predictor)
    assert len(done.summary) == 1
    assert "pydicom is missing" in done.failures[str(tmp_path / "a.dcm")]


@pytest.mark.parametrize("index", [".", "masks", "deep/er"])
def test_a_second_call_does_not_feed_on_the_results_of_the_first(index, predictor, tmp_path):
    for name in ("a.png", "probability_2.png", "an_overlay.png"):
        PICTURES["gray.png"](tmp_path / name)
    for name in ("b_flair.nii.gz", "c.nii"):
        nifti_file(tmp_path / name, "RAS")
    Image.fromarray(np.dstack([GRAY] * 3)).save(tmp_path / "color.png")
    before = found(tmp_path)
    assert len(before) == 6
    rows = []
    for _ in range(2):
        assert found(tmp_path) == before
        done = predict([tmp_path], tmp_path / index, predictor=predictor, probabilities=True)
        assert not done.failures
        rows.append(done.summary.file.tolist())
    assert rows[0] == rows[1]
    # Nor on those of attention maps.
    for name in ("a_dec0_att.png", "a_grad_cam.png", "a_attention.png", "c_dec1_att.nii"):
        (tmp_path / index / name).write_bytes(b"a map")
    assert found(tmp_path) == before


def test_only_masks_is_said_to_be_no_image(tmp_path):
    PICTURES["gray.png"](tmp_path / "a_mask.png")
    with pytest.raises(InputError, match=r"No image in .*\*_mask.* are passed over"):
        find_scans([tmp_path])


def test_what_was_found_is_not_looked_for_again(tmp_path):
    PICTURES["gray.png"](tmp_path / "a.png")
    scans = find_scans([tmp_path])
    assert find_scans(scans) == scans
