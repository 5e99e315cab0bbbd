"""What may be expected of the networks of a cross-validation: fitted on the other folds, kept, and said by each run."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import here
from hand_folds import write_folds
from scans import lgg_folder
from scipy.special import expit
from scipy.stats import spearmanr

from brainseg_keras.data.roles import MetPatient, Roles
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.expectation import fit_expectation, scan_features
from brainseg_keras.export import export
from brainseg_keras.inference import Predictor
from brainseg_keras.reports import evaluate, out_of_fold
from brainseg_keras.reports.expect import expect_across
from brainseg_keras.training import RunFolder

FOLDS, COUNT = (1, 2, 3), 15


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return lgg_folder(tmp_path_factory.mktemp("data") / "kaggle_3m", patients=COUNT, slices=6)


@pytest.fixture(scope="module")
def kept(data, tmp_path_factory):
    """A finished cross-validation with its expectations, and what the command printed; read it, do not write to it."""
    folder = write_folds(tmp_path_factory.mktemp("made") / "folds", data)
    code, printed, err = here("out-of-fold", str(folder), "--expect")
    assert code == 0, err
    return folder, printed


@pytest.fixture
def own(kept, tmp_path):
    """A copy that a test may damage, before anything was kept."""
    folder = shutil.copytree(kept[0], tmp_path / "folds")
    for file in folder.rglob("expectation.json"):
        file.unlink()
    shutil.rmtree(folder / "evaluation")
    return folder


def table_of(folder):
    return pd.read_csv(folder / "evaluation" / "out_of_fold" / "per_patient.csv")


def report_of(folder):
    return json.loads((folder / "evaluation" / "out_of_fold" / "report.json").read_text())


def expectation_in(folder):
    return json.loads((folder / "expectation.json").read_text())


def largest_ratio(rows):
    """Of ten patients the tenth, ceil(0.9 x 11), and of 15 the 15th."""
    ratio = rows.volume_true / rows.volume_pred
    return np.maximum(ratio, 1 / ratio).max()


# ---- what is kept


def test_each_run_knows_what_the_other_folds_taught(kept):
    folder, table = kept[0], table_of(kept[0])
    assert (table.volume_pred > 0).all()
    for number in FOLDS:
        found, others = expectation_in(folder / f"fold{number}"), table[table.fold != number]
        alone = fit_expectation(others).to_info()
        assert found["n"] == len(others) == 10
        assert found["line"] == pytest.approx(alone["line"], rel=1e-4)
        # None where a fold's curve is flat.
        assert [found[name] for name in ("spearman", "coverage")] == [alone[name] for name in ("spearman", "coverage")]
        assert found["factor"] == pytest.approx(largest_ratio(others))
        assert (found["bound"], found["fitted_on"]) == (0.7, "out-of-fold patients")
    assert len({tuple(expectation_in(folder / f"fold{number}")["line"]) for number in FOLDS}) == 3
    of_all = expectation_in(folder)
    assert of_all["n"] == COUNT and of_all["factor"] == pytest.approx(largest_ratio(table))


def test_usual_is_what_the_training_patients_of_the_run_are(kept, data):
    source = open_source(data)
    features = {
        name: scan_features(source.volume(name).images, ("T1", "FLAIR", "T1ce"))
        for name in source.table.patient.unique()
    }
    for place in (*(kept[0] / f"fold{number}" for number in FOLDS), kept[0]):
        trained = list(features) if place == kept[0] else trained_by(place)
        assert len(trained) == (COUNT if place == kept[0] else 5)
        rows = pd.DataFrame([features[name] for name in trained])
        margin = 0.1 * (rows.max() - rows.min())
        for name, (low, high) in expectation_in(place)["usual"].items():
            assert (low, high) == pytest.approx((rows[name].min() - margin[name], rows[name].max() + margin[name]))
        assert set(expectation_in(place)["usual"]) == set(rows)


def trained_by(run):
    return [known.name for known in RunFolder(run).read_record().spec.roles.patients if known.role == "train"]


def test_the_report_sets_what_the_others_let_expect_beside_what_came(kept):
    folder, table = kept[0], table_of(kept[0])
    told = report_of(folder)["expectation"]
    expected, held = [], []
    for row in table.itertuples():
        known = expectation_in(folder / f"fold{row.fold}")
        first, second, third = known["line"]
        expected.append(expit(first + second * row.disagreement + third * (1 - row.confidence)))
        assert row.expected_dice == pytest.approx(expected[-1], rel=1e-5)
        assert row.volume_low == pytest.approx(row.volume_pred / known["factor"])
        assert row.volume_high == pytest.approx(row.volume_pred * known["factor"])
        held.append(row.volume_low <= row.volume_true <= row.volume_high)
        said = "" if pd.isna(row.remarks) else row.remarks
        assert ("is below 0.7" in said) == (expected[-1] < 0.7)
    assert told["n"] == told["volume_n"] == COUNT and told["volume_held"] == sum(held)
    assert told["volume_coverage"] == pytest.approx(np.mean(held))
    assert told["spearman"] == pytest.approx(spearmanr(expected, table.dice).statistic)
    words = f"Expected Dice per patient {np.mean(expected):.3f}, true {table.dice.mean():.3f}"
    page = (folder / "evaluation" / "out_of_fold" / "report.html").read_text()
    assert words in page and words in kept[1]
    assert f"in {sum(held)} of {COUNT} patients ({100 * np.mean(held):.0f} %)" in kept[1]


def test_a_run_says_to_those_it_tests_what_the_report_said(kept, data):
    """By the same numbers, since nobody whom a run tests had a part in what it expects."""
    table, columns = table_of(kept[0]).set_index("patient"), ["expected_dice", "volume_low", "volume_high"]
    for number in FOLDS:
        found = evaluate(Predictor(kept[0] / f"fold{number}"), open_source(data), split="test")
        alone = found.per_patient.set_index("patient")
        pd.testing.assert_frame_equal(alone[columns], table.loc[alone.index, columns], check_exact=False)
        assert found.report["expectation"]["n"] == 5


def test_an_exported_file_carries_it(kept, tmp_path):
    export(kept[0] / "fold1", tmp_path / "fold.onnx")
    there = expectation_in(kept[0] / "fold1")
    beside = json.loads((tmp_path / "fold.onnx.json").read_text())["expectation"]
    assert beside == {name: there[name] for name in beside} and set(beside) >= {"line", "factor", "coverage", "usual"}
    known = Predictor(tmp_path / "fold.onnx").spec.expectation
    assert known == Predictor(kept[0] / "fold1").spec.expectation and known.factor == there["factor"]


def test_nobody_has_a_part_in_what_is_expected_of_the_network_that_tests_him():
    rng = np.random.default_rng(0)
    count, names = 30, [f"P{index}" for index in range(30)]
    table = pd.DataFrame({"patient": names, "fold": np.arange(count) % 3 + 1, "dice": rng.uniform(0.5, 1, count)})
    table = table.assign(disagreement=rng.uniform(0, 0.5, count), confidence=rng.uniform(0.5, 1, count))
    table = table.assign(volume_true=rng.uniform(5, 9, count), volume_pred=rng.uniform(5, 9, count))
    features = {name: {"share of head": float(index)} for index, name in enumerate(names)}
    roles = [
        Roles(tuple(MetPatient(name, "test" if index % 3 == fold else "train") for index, name in enumerate(names)))
        for fold in range(3)
    ]
    before, tested = expect_across(table.copy(), features, roles), table.fold == 2
    other = table.assign(
        dice=table.dice.where(~tested, 0.1), volume_true=table.volume_true.where(~tested, 3 * table.volume_true)
    )
    after = expect_across(other, features | {"P1": {"share of head": 99.0}}, roles)
    assert after.by_fold[1] == before.by_fold[1]
    for ours, theirs in ((after.by_fold[0], before.by_fold[0]), (after.of_all, before.of_all)):
        assert ours.line != theirs.line and ours.factor > theirs.factor and ours.usual != theirs.usual


# ---- what is refused


def test_without_being_asked_nothing_is_kept(own):
    found = out_of_fold(own)
    assert found.report["expectation"]["n"] == COUNT and not list(own.rglob("expectation.json"))


def test_too_few_patients_are_no_reason_to_score_nothing(tmp_path):
    few = lgg_folder(tmp_path / "kaggle_3m", patients=6, slices=6)
    folder = write_folds(tmp_path / "folds", few)
    code, _, err = here("out-of-fold", str(folder), "--expect")
    assert (
        code == 2 and "patients of all other folds, 10 or more. Received: 6 patients, of whom one fold tests 2" in err
    )
    assert not list(folder.rglob("expectation.json")) and not (folder / "evaluation").exists()
    code, out, err = here("out-of-fold", str(folder))
    assert code == 0, err
    why = "An expectation takes 10 out-of-fold patients or more. Received: 4."
    assert report_of(folder)["expectation"] == {"n": 0, "why_not": why} and f"is not known. {why}" in out
    assert "expected_dice" not in table_of(folder)


def test_somebody_elses_file_and_another_calibration_are_refused(own):
    other = own / "fold2" / "expectation.json"
    other.write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"fold2/expectation\.json is there, and brainseg did not make it"):
        out_of_fold(own, expect=True)
    other.unlink()
    (own / "fold3" / "calibration.json").write_text('{"temperature": 0.5, "bias": 0.0}')
    with pytest.raises(InputError, match=r"fold3 has a calibration of its own\. Remove its calibration\.json"):
        out_of_fold(own, expect=True)
    assert not list(own.rglob("expectation.json"))
    assert not math.isnan(out_of_fold(own).report["expectation"]["expected_dice"])
