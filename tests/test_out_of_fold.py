"""Out of fold: each patient once, by the network that never met it; choices that are fitted on the other folds."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import here
from hand_folds import LEVELS, change_record, write_folds, write_run
from scans import lgg_folder

from brainseg_keras.data.manifest import write_manifest
from brainseg_keras.data.roles import MetPatient
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.splits import assign_folds
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import worst_tenth
from brainseg_keras.inference import Predictor
from brainseg_keras.postprocessing import Postprocessing, read_choice
from brainseg_keras.reports import compare, evaluate, out_of_fold
from brainseg_keras.reports.grid import CHOICES, DEFAULT
from brainseg_keras.reports.out_of_fold import _choose_across
from brainseg_keras.training import FoldsFolder, RunFolder, TrainingConfig

COUNT = 7


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return lgg_folder(tmp_path_factory.mktemp("data") / "kaggle_3m", patients=COUNT)


@pytest.fixture(scope="module")
def source(data):
    return open_source(data)


@pytest.fixture(scope="module")
def folds(data, tmp_path_factory):
    """A finished cross-validation with its report; read it, do not write to it."""
    folder = write_folds(tmp_path_factory.mktemp("made") / "folds", data)
    out_of_fold(folder, tune=True)
    return folder


@pytest.fixture
def own(folds, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(folds, tmp_path / "folds")


def table_of(folder):
    return pd.read_csv(folder / "evaluation" / "out_of_fold" / "per_patient.csv").set_index("patient")


def report_of(folder):
    return json.loads((folder / "evaluation" / "out_of_fold" / "report.json").read_text())


def runs_of(folder):
    return [RunFolder(folder / f"fold{number}") for number in (1, 2, 3)]


# ---- what is scored


def test_each_patient_is_scored_once_by_the_run_that_kept_it_apart(folds, source):
    """`evaluate` on each run by itself finds the same rows: it too goes by the run's own split."""
    table, names = table_of(folds), set(source.table.patient)
    assert set(table.index) == names and len(table) == COUNT
    parts = []
    for number, run in enumerate(runs_of(folds), 1):
        roles = {known.name: known.role for known in run.read_record().spec.roles.patients}
        mine = table.index[table.fold == number]
        assert {roles[name] for name in mine} == {"test"} and set(roles) == names
        alone = evaluate(Predictor(run.path), source, split="test")
        parts.append(alone.per_patient.set_index("patient"))
        assert sorted(parts[-1].index) == sorted(mine)
        row = report_of(folds)["folds"][number - 1]
        assert (row["n"], row["run"]) == (len(mine), str(run.path))
        assert row["mean"] == pytest.approx(parts[-1].dice.mean())
    whole = pd.concat(parts).sort_index()
    pd.testing.assert_frame_equal(
        table[whole.columns.drop("spacing")], whole.drop(columns="spacing"), check_exact=False
    )
    assert table.dice.nunique() > COUNT // 2


def test_the_figures_are_those_of_the_rows(folds):
    report, table = report_of(folds), table_of(folds)
    dice = report["patients"]["dice"]
    assert (dice["n"], dice["mean"], dice["median"]) == (
        COUNT,
        *map(pytest.approx, (table.dice.mean(), table.dice.median())),
    )
    tp, wrong = table.tp.sum(), (table.fp + table.fn).sum()
    assert report["pooled_pixels"]["dice"] == pytest.approx(2 * tp / (2 * tp + wrong))
    assert report["worst_tenth"]["mean"] == pytest.approx(table.dice.min()) and report["worst_tenth"]["n"] == 1
    assert report["split"] == "out_of_fold" and report["headline"] == ["test"]
    assert report["role"].startswith("out of fold")
    slices = pd.read_csv(folds / "evaluation" / "out_of_fold" / "per_slice.csv")
    assert slices.groupby("patient").tp.sum().to_dict() == table.tp.to_dict()
    page = (folds / "evaluation" / "out_of_fold" / "report.html").read_text()
    assert "<h2>Dice by fold</h2>" in page and "Worst tenth of the patients: mean Dice" in page


def test_the_worst_tenth_is_rounded_up_and_has_no_interval():
    found = worst_tenth([0.9, 0.1, 0.8, 0.2, *[0.7] * 17])
    assert (found.n, found.mean, found.low) == (3, pytest.approx((0.1 + 0.2 + 0.7) / 3), None)


def test_disagreement_and_confidence_are_those_of_the_two_answers(folds, source):
    table = table_of(folds)
    for patient, row in table.iterrows():
        predictor = Predictor(folds / f"fold{row.fold:.0f}")
        volume = source.volume(patient)
        plain = predictor.probabilities(volume.images, volume.intensity)[..., 0]
        turned = predictor.probabilities(volume.images[:, :, ::-1], volume.intensity)[:, :, ::-1, 0]
        first, second = plain > 0.5, turned > 0.5
        assert row.disagreement == pytest.approx(1 - 2 * (first & second).sum() / (first.sum() + second.sum()))
        assert row.confidence == pytest.approx(plain[first].mean(), abs=1e-6)
        assert row.volume_pred == first.sum() and row.volume_true == (volume.masks > 0).sum()
    assert (table.disagreement > 0.05).any()


def test_calibration_is_fitted_on_the_other_folds(folds, source):
    """The error before is that of the pooled pixels; each fold is calibrated without its own."""
    calibration = report_of(folds)["calibration"]
    truth, chance = [], []
    for patient, row in table_of(folds).iterrows():
        volume = source.volume(patient)
        truth.append((volume.masks > 0).ravel())
        answer = Predictor(folds / f"fold{row.fold:.0f}").probabilities(volume.images, volume.intensity)
        chance.append(answer.ravel())
    truth, chance = np.concatenate(truth), np.concatenate(chance)
    bins = np.minimum((chance * 10).astype(int), 9)
    gaps = [abs(chance[bins == b].sum() - truth[bins == b].sum()) for b in np.unique(bins)]
    assert calibration["n"] == COUNT and len(calibration["errors"]) == 3
    assert calibration["before"] == pytest.approx(sum(gaps) / len(chance), abs=2e-3)
    assert 0 < calibration["after"] < 0.5


# ---- choices made across folds


def test_each_fold_is_tuned_on_the_others():
    """By hand: A alone likes the first choice, B and C the second. A is scored by what B and C choose."""
    first, second = (CHOICES.index(Postprocessing(threshold)) for threshold in (0.3, 0.7))
    scores = np.zeros((3, len(CHOICES)))
    scores[:, first], scores[:, second], scores[:, DEFAULT] = (0.9, 0.2, 0.2), (0.5, 0.8, 0.8), (0.4, 0.4, 0.1)
    table = pd.DataFrame({"patient": ["A", "B", "C"], "fold": [1, 2, 3]})
    tuned = _choose_across(table, scores)
    assert table.dice_tuned.tolist() == [0.5, 0.8, 0.8]
    assert {fold: choice["threshold"] for fold, choice in tuned["by_fold"].items()} == {"1": 0.7, "2": 0.7, "3": 0.7}
    assert (tuned["dice"]["mean"], tuned["dice"]["n"]) == (pytest.approx(0.7), 3)
    assert tuned["against_default"]["difference"] == pytest.approx(0.7 - 0.3)
    assert tuned["ships"]["threshold"] == 0.7
    # A and B in one fold are scored by what C chooses alone, which likes the first now; C by what both choose.
    scores[2, [first, second]] = 0.8, 0.1
    table = pd.DataFrame({"patient": ["A", "B", "C"], "fold": [1, 1, 2]})
    tuned = _choose_across(table, scores)
    assert {fold: choice["threshold"] for fold, choice in tuned["by_fold"].items()} == {"1": 0.3, "2": 0.7}
    assert table.dice_tuned.tolist() == [0.9, 0.2, 0.1] and tuned["ships"]["threshold"] == 0.3


def test_what_was_tuned_is_scored_as_it_would_be_used(folds, source):
    tuned, table = report_of(folds)["tuned"], table_of(folds)
    for number, run in enumerate(runs_of(folds), 1):
        chosen = Predictor(run.path).adapted(postprocessing=Postprocessing(**tuned["by_fold"][str(number)]))
        alone = evaluate(chosen, source, split="test").per_patient.set_index("patient")
        assert table.dice_tuned[alone.index].to_dict() == pytest.approx(alone.dice.to_dict())
    assert tuned["dice"]["mean"] == pytest.approx(table.dice_tuned.mean())
    assert tuned["dice"]["mean"] > table.dice.mean()


def test_the_choice_that_ships_says_on_whom_it_was_made(folds, source):
    choice, tuning = read_choice(folds)
    assert dataclasses.asdict(choice) == report_of(folds)["tuned"]["ships"]
    assert str(tuning).startswith(f"out-of-fold patients (brainseg out-of-fold: the best of 340 settings, n = {COUNT})")
    assert set(tuning.patients) == set(source.table.patient) and all(tuning.patients.values())
    record = json.loads((folds / "postprocess.json").read_text())
    assert record["mean_dice_out_of_fold"] == report_of(folds)["tuned"]["dice"]["mean"]
    # The runs themselves are left alone.
    assert not list(folds.glob("fold*/postprocess.json"))


def test_a_runs_own_postprocessing_is_used_and_said(own, source):
    content = {"threshold": 0.9, "flip": True, "patients": [], "chosen_on": "validation patients"}
    (own / "fold2" / "postprocess.json").write_text(json.dumps(content))
    before, found = table_of(own), out_of_fold(own)
    table = found.per_patient.set_index("patient")
    alone = evaluate(Predictor(own / "fold2"), source, split="test").per_patient.set_index("patient")
    assert table.dice[alone.index].to_dict() == alone.dice.to_dict() != before.dice[alone.index].to_dict()
    assert [choice["threshold"] for choice in found.report["postprocessing"]["by_fold"]] == [0.5, 0.9, 0.5]
    assert "as in each fold" in (own / "evaluation" / "out_of_fold" / "report.html").read_text()


# ---- two recipes


def test_two_cross_validations_are_compared_patient_by_patient(folds, data, source, tmp_path):
    """Also where the second one drew other folds."""
    other = write_folds(tmp_path / "other", data, levels=[level + 0.3 for level in LEVELS], seed=5)
    out_of_fold(other)
    compared = compare(folds, other)["dice"]
    differences = table_of(folds).dice - table_of(other).dice
    assert compared.n == COUNT and compared.difference == pytest.approx(differences.mean())
    assert (table_of(folds).fold != table_of(other).fold).any()
    evaluate(Predictor(folds / "fold1"), source, split="all", include_seen=True, output=tmp_path / "all")
    with pytest.raises(InputError, match="split is 'out_of_fold' and 'all'"):
        compare(folds, tmp_path / "all")


def test_runs_that_were_trained_by_hand_on_lists_of_folds(folds, data, source, tmp_path):
    """In any order, and whichever of the lists --data names; the report goes where it is told."""
    runs = []
    for number, table in enumerate(assign_folds(source.table, folds=3), 1):
        write_manifest(table, tmp_path / f"fold{number}.csv")
        config = TrainingConfig(data=str(tmp_path / f"fold{number}.csv"), root=str(data), epochs=1)
        runs.append(str(write_run(tmp_path / f"run{number}", config, LEVELS[number - 1]).path))
    out = tmp_path / "report"
    words = ["out-of-fold", runs[2], runs[0], runs[1], "--data", str(data), "-o", str(out), "--tune"]
    code, printed, err = here(*words)
    assert code == 0, err
    table = pd.read_csv(out / "per_patient.csv").set_index("patient")
    assert table.dice.to_dict() == table_of(folds).dice.to_dict()
    assert (out / "postprocess.json").is_file() and f"n = {COUNT} (out of fold" in printed
    assert out_of_fold(runs).report["patients"] == json.loads((out / "report.json").read_text())["patients"]
    code, _, err = here("out-of-fold", *runs, "--data", str(data))
    assert code == 2 and "say where the report goes: -o FOLDER" in err
    code, _, err = here("out-of-fold", str(folds), "--root", str(data), "-o", str(tmp_path / "x"))
    assert code == 2 and "--root says how --data is read. Give --data too" in err


def test_the_command_prints_each_fold_and_json(own):
    code, out, err = here("out-of-fold", str(own))
    assert code == 0, err
    means = report_of(own)["folds"]
    assert [f"Fold {row['fold']}: Dice {row['mean']:.3f}" in out for row in means] == [True] * 3
    assert "Worst tenth" in out and "Expected calibration error" in out and "Tuned" not in out
    code, out, _ = here("out-of-fold", str(own), "--json")
    assert code == 0 and json.loads(out) == report_of(own)


# ---- what is refused


def test_a_fold_that_is_missing_or_not_finished_is_named(own):
    shutil.rmtree(own / "fold2")
    with pytest.raises(
        InputError, match=rf"1 are missing or not finished: {own}/fold2\. Train them: .*--resume {own}$"
    ):
        out_of_fold(own)
    run = RunFolder(own / "fold3")
    change_record(run, progress=run.read_record().progress._replace(stopped="interrupted", step=3))
    with pytest.raises(InputError, match=rf"2 are missing .*{own}/fold2, {own}/fold3"):
        out_of_fold(own)
    code, _, err = here("out-of-fold", str(own / "fold1"), str(own / "fold3"), "-o", str(own / "report"))
    assert code == 2 and f"Train them: brainseg train --resume {own}/fold3" in err
    with pytest.raises(InputError, match=r"2 of 7 patients are tested by none of the 2 runs"):
        out_of_fold([own / "fold1", *write_third(own)])


def write_third(folder):
    config = RunFolder(folder / "fold1").read_record().config
    return [write_run(folder / "again", dataclasses.replace(config, fold=3), 1.5).path]


def test_runs_of_two_recipes_are_refused_and_what_differs_is_said(own):
    run = RunFolder(own / "fold3")
    before = run.read_record()
    change_record(run, config=dataclasses.replace(before.config, size=64, epochs=1))
    with pytest.raises(InputError, match=r"fold1 and .*fold3 are of two recipes: they differ in size \(256 and 64\)"):
        out_of_fold(own)
    free = {"data": "elsewhere", "seed": 3, "profile": "1-2", "format": "lgg"}
    change_record(run, config=dataclasses.replace(before.config, **free))
    assert out_of_fold(own).report["patients"]["dice"]["n"] == COUNT
    change_record(run, config=before.config, spec=dataclasses.replace(before.spec, channels=("a", "b", "c")))
    with pytest.raises(InputError, match="differ in channels"):
        out_of_fold(own)


def test_a_patient_who_is_tested_twice_is_refused(own):
    with pytest.raises(InputError, match=r"3 patients are tested by more than one run, such as .* and .*fold1\. Give"):
        out_of_fold([own / "fold1", own / "fold2", own / "fold3", shutil.copytree(own / "fold1", own.parent / "fold1")])


def with_patients(run, change):
    """Change what a run says of its patients."""
    spec = run.read_record().spec
    roles = dataclasses.replace(spec.roles, patients=tuple(map(change, spec.roles.patients)))
    change_record(run, spec=dataclasses.replace(spec, roles=roles))


def test_a_patient_whom_the_run_has_met_under_another_name_is_refused(own):
    """One stands in the data twice: it trains as A what it tests as B."""
    run, other = RunFolder(own / "fold1"), RunFolder(own / "fold2")
    tested = next(known.name for known in run.read_record().spec.roles.patients if known.role == "test")
    pixels = other.read_record().spec.roles.named(tested).slices
    trained = next(known.name for known in run.read_record().spec.roles.patients if known.role == "train")
    with_patients(run, lambda known: dataclasses.replace(known, slices=pixels) if known.name == trained else known)
    with pytest.raises(
        InputError, match=rf"1 patients had a part in the very run that tests them \({tested} as {trained}\)"
    ):
        out_of_fold(own)


def test_weights_that_met_a_patient_before_are_no_fold(own):
    """As after `--init` from a network that trained on whom this fold keeps apart, or from one of unknown origin."""
    run = RunFolder(own / "fold2")
    spec = run.read_record().spec
    tested = next(known.name for known in spec.roles.patients if known.role == "test")
    earlier = dataclasses.replace(spec.roles, patients=(*spec.roles.patients, MetPatient(tested, "train")))
    change_record(run, spec=dataclasses.replace(spec, roles=earlier))
    with pytest.raises(InputError, match=rf"had a part in the very run that tests them \({tested}\)"):
        out_of_fold(own)
    change_record(run, spec=dataclasses.replace(spec, roles=dataclasses.replace(spec.roles, complete=False)))
    with pytest.raises(InputError, match=rf"{own}/fold2 began with weights of which nothing says who trained them"):
        out_of_fold(own)


def test_other_pixels_and_patients_that_are_not_there_are_refused(own, data, source, tmp_path):
    others = lgg_folder(tmp_path / "others", patients=COUNT + 1)
    with pytest.raises(InputError, match=r"1 of 8 patients are tested by none of the 3 runs"):
        out_of_fold(own, open_source(others))
    gone = sorted(source.table.patient.unique())[0]
    table = source.table[source.table.patient != gone]
    write_manifest(table, tmp_path / "fewer.csv")
    with pytest.raises(InputError, match=rf"test 1 patients that the data lack: {gone}"):
        out_of_fold(own, open_source(tmp_path / "fewer.csv", root=data))
    with_patients(
        RunFolder(own / "fold1"), lambda known: dataclasses.replace(known, slices=("0" * 16,) if known.slices else ())
    )
    with pytest.raises(InputError, match=r"The pixels of \d patients are not those that the runs were trained with"):
        out_of_fold(own)


def test_a_folder_that_is_no_cross_validation_is_named(own, tmp_path):
    with pytest.raises(InputError, match=r"fold1 holds no folds \(no folds\.json in it\)"):
        out_of_fold(own / "fold1")
    FoldsFolder(own).info.write_text('{"folds": 3}')
    with pytest.raises(InputError, match=r"folds\.json is damaged .*give the run folders themselves"):
        out_of_fold(own)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match="brainseg did not make it"):
        out_of_fold([own / "fold1", own / "fold2", own / "fold3"], output=tmp_path)
