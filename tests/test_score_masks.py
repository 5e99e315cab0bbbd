"""score_masks: masks of another program are scored as those of a network are."""

import json

import numpy as np
import pandas as pd
import pytest
from scans import CHANNELS, brightness_model, lgg_folder

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.roles import MetPatient, Roles
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.reports import compare, evaluate, score_masks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lgg_folder(tmp_path_factory.mktemp("data") / "kaggle_3m")


@pytest.fixture(scope="module")
def source(folder):
    return open_source(folder)


@pytest.fixture(scope="module")
def names(source):
    return sorted(source.table.patient.unique())


def save_masks(folder, source, names, change=lambda mask: mask):
    folder.mkdir(exist_ok=True)
    for name in names:
        np.save(folder / f"{name}.npy", change(source.volume(name).masks > 0))
    return folder


def test_masks_that_predict_wrote_score_as_evaluate_scores_the_network(folder, source, tmp_path):
    predictor = Predictor(brightness_model()).adapted(preprocessing=Preprocessing(60), channels=CHANNELS)
    network = evaluate(predictor, source, split="all", output=tmp_path / "network")
    predict([folder], tmp_path / "masks", predictor=predictor, overlays=False)
    files = score_masks(tmp_path / "masks", source, split="all", output=tmp_path / "files")
    pd.testing.assert_frame_equal(files.per_patient, network.per_patient)
    pd.testing.assert_frame_equal(files.per_slice, network.per_slice)
    assert files.report["patients"] == network.report["patients"]
    assert 0.2 < files.report["patients"]["dice"]["mean"] < 1
    # What is written can be compared: two programs, the same patients.
    assert compare(tmp_path / "network", tmp_path / "files")["dice"].difference == 0


def test_arrays_are_counted_pixel_by_pixel(source, names, tmp_path):
    """Each mask moved down by two rows, and one patient missed."""
    masks = save_masks(tmp_path / "masks", source, names[1:], lambda mask: np.roll(mask, 2, axis=1))
    save_masks(masks, source, names[:1], np.zeros_like)
    table = score_masks(masks, source, split="all").per_patient.set_index("patient")
    for name in names:
        truth, answer = source.volume(name).masks > 0, np.load(masks / f"{name}.npy")
        both, one = int((truth & answer).sum()), int(truth.sum() + answer.sum())
        assert table.dice[name] == pytest.approx(2 * both / one)
        assert table.tp[name] == both
    assert table.dice[names[0]] == 0 and 0.3 < table.dice[names[1:]].min() < 1


def test_the_report_says_what_the_masks_are_and_has_no_probabilities(source, names, tmp_path):
    masks = save_masks(tmp_path / "masks", source, names)
    roles = Roles((MetPatient(names[0], "train"), *(MetPatient(name, "test") for name in names[1:])))
    score_masks(masks, source, split="all", roles=roles, output=tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["average_precision"] is None and report["expected_calibration_error"] is None
    assert report["headline"] == ["test"] and report["patients"]["dice"]["n"] == len(names) - 1
    assert report["groups"]["train"]["names"] == [names[0]]
    assert "masks as they were given" in report["postprocessing"]["chosen_on"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Dice against tumour volume" in page and "Calibration" not in page
    unknown = score_masks(masks, source, split="all").report
    assert unknown["headline"] == ["unknown"] and unknown["patients"]["dice"]["mean"] == 1


def test_numbers_and_flags_are_the_same_mask(source, names, tmp_path):
    kinds = {"flags": bool, "bytes": np.uint8, "floats": np.float32}
    found = [
        score_masks(save_masks(tmp_path / kind, source, names, lambda m, t=t: m.astype(t)), source, split="all").report
        for kind, t in kinds.items()
    ]
    assert [report["patients"]["dice"]["mean"] for report in found] == [1, 1, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.unlink(), "has no mask of"),
        (lambda file: file.write_bytes(b"mask"), "cannot be read"),
        (lambda file: np.save(file, np.full((8, 60, 60), 0.5)), "Threshold probabilities"),
        (lambda file: np.save(file, np.full((8, 60, 60), np.nan)), "Threshold probabilities"),
        (lambda file: np.save(file, np.array(["a"] * 8)), "other values than 0 and 1"),
        (lambda file: np.save(file, np.zeros((8, 30, 30), bool)), r"\(8, 30, 30\). Expected that of its slices"),
    ],
)
def test_bad_masks_are_refused_by_name(change, words, source, names, tmp_path):
    masks = save_masks(tmp_path / "masks", source, names)
    change(masks / f"{names[2]}.npy")
    with pytest.raises(InputError, match=words) as refused:
        score_masks(masks, source, split="all", output=tmp_path / "report")
    assert names[2] in str(refused.value)
    assert not (tmp_path / "report").exists()


def test_no_folder_of_masks_is_a_message(source, tmp_path):
    with pytest.raises(InputError, match="No such folder of masks"):
        score_masks(tmp_path / "nowhere", source)
