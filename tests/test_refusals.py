"""Predicting among bad files and bad usage: what is wrong is named, and the rest is done."""

import json
import os
import re
import stat
import subprocess
import sys

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from bad_files import BAD, encapsulated_postscript
from commands import brainseg, fresh_brainseg
from PIL import Image
from scans import CHANNELS, GRAY, PICTURES, brightness_model, nifti_file

from brainseg_keras.data.decode.images import read_image
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.scans import find_scans
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor, predict


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model()).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)


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
    table = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("file")
    assert table.loc[file].error == message
    assert table.loc[file].drop("error").isna().all()
    good = table.loc[str(tmp_path / "good.png")]
    assert good.isna().to_dict() == {name: name in ("tumour_ml", "error") for name in table.columns}
    assert good.tumour_size == done.summary.tumour_size[0] > 0


def test_ghostscript_is_not_asked(monkeypatch, tmp_path):
    """A file of EPS that is called .png: Pillow would start the program `gs` on it."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    encapsulated_postscript(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png as PNG, JPEG, TIFF or BMP"):
        read_image(tmp_path / "a.png")
    assert not (tmp_path / "started").exists()


def test_the_memory_that_counts_is_what_the_process_may_take(tmp_path):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "from brainseg_keras.data.decode.memory import check_fits, free_memory\n"
        "assert free_memory() <= 2**30\n"
        "check_fits('small', (2**26,))\n"
        "check_fits('large', (2**26 + 1,))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "InputError: large says that its shape is (67108865,), which is 0.3 GB" in done.stderr


NAMES = {
    "no UTF-8": (b"caf\xe9.png", "caf%E9"),
    "no UTF-8, in a folder": (b"\xff/a.png", "%FF/a"),
    "as long as it can be": ("n" * 243 + ".png", "n" * 243),
    "another script": ("\u8133\u816b\u7624.png", "\u8133\u816b\u7624"),
    "markup": ("[/bold]{0}%s.png", "[/bold]{0}%s"),
    "a quote and a line": ('a"b\n,c.png', 'a"b\n,c'),
}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_segmented_and_listed(name, predictor, tmp_path):
    given, result = NAMES[name]
    file = tmp_path / "in" / os.fsdecode(given)
    file.parent.mkdir(parents=True)
    PICTURES["gray.png"](file)
    done = predict([tmp_path / "in"], tmp_path / "out", predictor=predictor)
    written = tmp_path / "out" / f"{result}_mask.png"
    assert np.array(Image.open(written)).any()
    (row,) = pd.read_csv(tmp_path / "out" / "summary.csv").itertuples()
    assert row.mask == done.summary["mask"][0] == str(written).replace("\n", "%0A")
    assert row.tumour_size > 0
    assert result.replace("\n", "%0A") in row.file
    # And again, over what is there.
    predict([tmp_path / "in"], tmp_path / "out", predictor=predictor)
    assert len(pd.read_csv(tmp_path / "out" / "summary.csv")) == 1


@pytest.mark.parametrize(("length", "kind"), [(244, "png"), (251, "png"), (244, "nii.gz"), (248, "nii.gz")])
def test_a_name_too_long_for_its_results_is_a_row(length, kind, predictor, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    name = "n" * length + f".{kind}"
    if kind == "png":
        PICTURES["gray.png"](folder / name)
    else:
        nifti_file(folder / name, "RAS")
    PICTURES["gray.png"](folder / "good.png")
    done = predict([folder], tmp_path / "out", predictor=predictor)
    assert "more than 255 bytes. Rename it" in done.failures[str(folder / name)]
    table = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("file")
    assert "255 bytes" in table.loc[str(folder / name)].error
    written = sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert written == ["good_mask.png", "good_overlay.png", "ledger", "ledger.csv", "summary.csv"]


def test_bad_names_in_a_patients_folder_cost_that_slice_alone(predictor, tmp_path):
    patient = tmp_path / ("P" * 240)
    patient.mkdir()
    for number in (1, 10000):
        Image.fromarray(GRAY + np.uint8(number % 7)).save(patient / f"{patient.name}_{number}.tif")
    done = predict([patient], tmp_path / "out", predictor=predictor)
    assert len(done.summary) == 1
    assert list(done.failures) == [str(patient / f"{patient.name}_10000.tif")]


def test_a_scan_on_which_the_network_fails_is_a_row(tmp_path):
    """This one takes no slice whose edge is bright."""

    @keras.saving.register_keras_serializable("tests")
    class Picky(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            with tf.control_dependencies([tf.debugging.assert_less(x[:, 32, 2], 0.5, message="bright edge")]):
                return tf.identity(x[..., :1])

    image = keras.Input((None, None, 3))
    network = Predictor(keras.Model(image, Picky()(image))).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)
    PICTURES["color.png"](tmp_path / "good.png")
    bright = GRAY.copy()
    bright[:, :10] = 200
    Image.fromarray(bright).save(tmp_path / "bad.png")
    done = predict([tmp_path], tmp_path / "out", predictor=network)
    assert [row.file for row in done.summary.itertuples()] == [str(tmp_path / "good.png")]
    assert list(done.failures) == [str(tmp_path / "bad.png")]
    assert done.failures[str(tmp_path / "bad.png")].startswith(f"{tmp_path / 'bad.png'}: ")


def test_a_picture_that_predict_did_not_make_is_not_replaced(predictor, tmp_path):
    """Masks drawn by hand lie where a call with -o in the folder itself would write."""
    for name in ("a", "b"):
        PICTURES["gray.png"](tmp_path / f"{name}.png")
    Image.fromarray(np.full(GRAY.shape, 255, np.uint8)).save(tmp_path / "a_mask.png")
    nifti_file(tmp_path / "c.nii.gz", "RAS")
    nifti_file(tmp_path / "c_mask.nii.gz", "RAS")
    PICTURES["gray.png"](tmp_path / "d.png")
    (tmp_path / "d_overlay.png").mkdir()
    before = {name: (tmp_path / name).read_bytes() for name in ("a_mask.png", "c_mask.nii.gz")}
    for _ in range(2):
        done = predict([tmp_path], tmp_path, predictor=predictor)
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
        assert [row.file for row in done.summary.itertuples()] == [str(tmp_path / "b.png")]
        assert sorted(done.failures) == [str(tmp_path / name) for name in ("a.png", "c.nii.gz", "d.png")]
        assert not (tmp_path / "d_mask.png").exists()
        assert "brainseg did not make it" in done.failures[str(tmp_path / "a.png")]


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
    assert not (tmp_path / "out" / "summary.csv").exists()
    assert pd.read_csv(tmp_path / "out" / "ledger.csv").status.tolist() == ["failed"]


def test_two_results_of_one_name_are_refused_before_anything_starts(predictor, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        PICTURES["gray.png"](tmp_path / folder / "slice.png")
    with pytest.raises(InputError, match="would both be written to slice"):
        predict([tmp_path / "a", tmp_path / "b"], tmp_path / "out", predictor=predictor)
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
    for name in ("gray.png", "color.tiff"):
        PICTURES[name](tmp_path / name)
    BAD["text.png"][0](tmp_path / "text.png")
    done = brainseg("predict", ".", "--model", model_file, "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "text.png" in done.stderr
    content = json.loads(done.stdout)
    assert [row["file"] for row in content["results"]] == ["color.tiff", "gray.png"]
    assert list(content["failures"]) == ["text.png"]
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert summary.tumour_size[:2].tolist() == [row["tumour_size"] for row in content["results"]]
    assert summary.file.tolist() == ["color.tiff", "gray.png", "text.png"]
    assert summary.error[2] == content["failures"]["text.png"]
    assert (tmp_path / "out" / "summary.csv").read_text().splitlines()[1].split(",")[1].isdigit()
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


@pytest.mark.parametrize("locale", ["C", "C.utf8"])
def test_names_in_any_locale(locale, model_file, tmp_path, monkeypatch):
    """Also where Python takes file names for ASCII, and one of the names is not UTF-8 either."""
    for name in ("hirn\u00e4.png".encode(), b"hirn\xe4.png"):
        PICTURES["gray.png"](tmp_path / os.fsdecode(name))
    (tmp_path / "\u00e9.nii").write_text("no volume")
    for name, value in {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    done = fresh_brainseg("predict", ".", "--model", model_file, "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len(json.loads(done.stdout)["results"]) == 2
    written = {os.fsencode(path.name) for path in (tmp_path / "out").glob("*_mask.png")}
    assert written == {"hirn\u00e4_mask.png".encode(), b"hirn%E4_mask.png"}
    table = pd.read_csv(tmp_path / "out" / "summary.csv", keep_default_na=False)
    assert sorted(table["mask"]) == ["", "out/hirn%E4_mask.png", "out/hirn\u00e4_mask.png"]
    assert sorted(table.file) == ["hirn%E4.png", "hirn\u00e4.png", "\u00e9.nii"]
