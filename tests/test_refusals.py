"""Predicting among bad files and bad usage: what is wrong is named, and the rest is done."""

import json
import re
import struct
import zlib

import cv2
import numpy as np
import pandas as pd
import pytest
from commands import brainseg
from PIL import Image
from scans import CHANNELS, GRAY, PICTURES, brightness_model, nifti_file

from brainseg_keras.data.preprocessing import Preprocessing
from brainseg_keras.data.scans import find_scans
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor, predict


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model(), preprocessing=Preprocessing(64), channels=CHANNELS)


def truncated(path):
    PICTURES["gray.png"](path)
    path.write_bytes(path.read_bytes()[:200])


def huge(path):
    """A header that promises 20,000 x 20,000 pixels, and no pixels."""
    content = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + content
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    path.write_bytes(head + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)))


def nan_volume(path):
    nifti_file(path, "RAS", fill=np.nan)


def pages(path):
    Image.fromarray(GRAY).save(path, save_all=True, append_images=[Image.fromarray(GRAY)])


BAD = {
    "text.png": (lambda path: path.write_text("no picture"), "Cannot decode"),
    "empty.png": (lambda path: path.write_bytes(b""), "Cannot decode"),
    "empty.tif": (lambda path: path.write_bytes(b""), "Cannot decode"),
    "truncated.png": (truncated, "Cannot decode"),
    "dot.png": (lambda path: Image.new("L", (1, 1), 9).save(path), "1 x 1 pixels"),
    "huge.png": (huge, "20000|Cannot decode"),
    "wide.png": (lambda path: Image.new("1", (8200, 20)).save(path), "8200 x 20"),
    "black.png": (lambda path: Image.new("L", (64, 64)).save(path), "nothing to see"),
    "pages.tif": (pages, "2 pictures"),
    "nan.nii.gz": (nan_volume, "NaN"),
    "text.nii": (lambda path: path.write_text("no volume"), "as NIfTI"),
    "empty.nii.gz": (lambda path: path.write_bytes(b""), "as NIfTI"),
    "text.dcm": (lambda path: path.write_text("no slice"), "as DICOM"),
    "text.h5": (lambda path: path.write_text("no slice"), "as a BraTS slice"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_the_others_go_on(name, predictor, tmp_path):
    make, words = BAD[name]
    make(tmp_path / name)
    PICTURES["gray.png"](tmp_path / "good.png")
    done = predict([tmp_path], tmp_path / "out", predictor=predictor)
    assert [row.file for row in done.summary.itertuples()] == [str(tmp_path / "good.png")]
    (file, message), *others = done.failures.items()
    assert not others
    assert file.endswith(name)
    assert name in message
    assert re.search(words, message)


def test_a_bad_slice_does_not_cost_its_patient(own_phantom, predictor, tmp_path):
    patient = sorted(path for path in own_phantom.iterdir() if path.is_dir())[0]
    bad = patient / f"{patient.name}_3.tif"
    bad.write_bytes(bad.read_bytes()[:300])
    done = predict([own_phantom], tmp_path / "out", predictor=predictor, overlays=False)
    assert list(done.failures) == [str(bad)]
    assert len(done.summary) == 6 * 8 - 1
    assert not (tmp_path / "out" / patient.name / f"{bad.stem}_mask.png").exists()
    assert (tmp_path / "out" / patient.name / f"{patient.name}_4_mask.png").is_file()


def test_only_bad_files_are_an_error(predictor, tmp_path):
    BAD["text.png"][0](tmp_path / "text.png")
    with pytest.raises(InputError, match="None of the 1 inputs"):
        predict([tmp_path / "text.png"], tmp_path / "out", predictor=predictor)
    assert not (tmp_path / "out").exists()


def test_names_of_masks_tables_and_hidden_files_are_passed_over(tmp_path):
    for name in ("a.png", "a_mask.png", "b-seg.png", "c_label.tif", ".hidden.png"):
        PICTURES["gray.png"](tmp_path / name)
    (tmp_path / "data.csv").write_text("x")
    (tmp_path / ".cache").mkdir()
    PICTURES["gray.png"](tmp_path / ".cache" / "d.png")
    assert [scan.files[0].name for scan in find_scans([tmp_path])] == ["a.png"]


def test_two_results_of_one_name_are_refused_before_anything_starts(predictor, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        PICTURES["gray.png"](tmp_path / folder / "slice.png")
    with pytest.raises(InputError, match="would both be written to slice"):
        predict([tmp_path / "a", tmp_path / "b"], tmp_path / "out", predictor=predictor)
    PICTURES["gray.png"](tmp_path / "a" / "slice.jpg")
    with pytest.raises(InputError, match=r"slice\.jpg and .*slice\.png"):
        find_scans([tmp_path / "a"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "words"), [("absent", "No such file"), ("empty", "No image in"), ("notes.txt", "kind")]
)
def test_what_cannot_be_an_input_is_refused(path, words, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=words):
        find_scans([tmp_path / path])


# ---- the command


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    brightness_model().save(folder / "bright.keras")
    info = {"channels": list(CHANNELS), "preprocessing": {"size": 64, "blur": 0.0, "clahe": 0.0}}
    (folder / "bright.json").write_text(json.dumps(info))
    return folder / "bright.keras"


def test_command_writes_a_summary_and_says_by_its_code_that_one_failed(model_file, tmp_path):
    for name in ("gray.png", "colour.tiff"):
        PICTURES[name](tmp_path / name)
    BAD["text.png"][0](tmp_path / "text.png")
    done = brainseg("predict", ".", "--model", model_file, "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "text.png" in done.stderr
    content = json.loads(done.stdout)
    assert [row["file"] for row in content["results"]] == ["colour.tiff", "gray.png"]
    assert list(content["failures"]) == ["text.png"]
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert summary.tumour_pixels.tolist() == [row["tumour_pixels"] for row in content["results"]]
    again = brainseg("predict", "gray.png", "--model", model_file, "-o", "second", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("predict absent.png -o out", "No such file or folder: absent.png"),
        ("predict slice.png --model nowhere -o out", "No model at nowhere"),
        ("predict slice.png --model slice.png -o out", "No model at slice.png"),
        ("predict slice.png -o out --threshold 2 --model MODEL", "--threshold is a number from 0.001 to 0.999"),
        ("predict slice.png -o out --batch-size 0 --model MODEL", "--batch-size is a whole number from 1 to 4096"),
    ],
)
def test_wrong_usage_ends_with_a_message_and_code_2(arguments, words, model_file, tmp_path):
    cv2.imwrite(str(tmp_path / "slice.png"), GRAY)
    done = brainseg(*arguments.replace("MODEL", str(model_file)).split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
