"""train --folds: a run for each fold in one folder, each on the split of `data split`; it goes on where it stopped."""

import dataclasses
import io
import json
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from commands import here
from hand_folds import change_record, write_folds
from rich.console import Console
from runs import tiny
from scans import lgg_folder
from test_stopping import press

from brainseg_keras.data.roles import Roles, splits_of
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.splits import assign_folds
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor
from brainseg_keras.reports import evaluate
from brainseg_keras.training import FoldsFolder, RunFolder, TrainingConfig, resume_folds, train, train_folds
from brainseg_keras.training.folds import is_finished, unfinished
from brainseg_keras.training.setup import open_data
from brainseg_keras.training.stopping import StopGuard

ROOT = Path(__file__).resolve().parent.parent
SILENT = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """A finished cross-validation of networks that were not trained; read it, do not write to it."""
    made = tmp_path_factory.mktemp("made")
    return write_folds(made / "folds", lgg_folder(made / "kaggle_3m", patients=7))


@pytest.fixture
def own(folds, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(folds, tmp_path / "folds")


# ---- the split of a fold


def test_folds_of_the_lgg_set_are_the_committed_ones_whatever_its_fixed_split_says(tmp_path):
    committed = pd.read_csv(ROOT / "data_manifests" / "lgg_folds.csv").set_index("patient").fold
    manifest = ROOT / "data_manifests" / "lgg.csv"
    first = tmp_path / pd.read_csv(manifest, nrows=1).image[0]
    first.parent.mkdir()
    first.touch()
    for fold in range(1, 6):
        config = TrainingConfig(data=str(manifest), root=str(tmp_path), folds=5, fold=fold)
        splits = splits_of(open_data(config, Roles(), SILENT))
        assert set(splits.index[splits == "test"]) == set(committed.index[committed == fold])
        assert set(splits.index[splits == "val"]) == set(committed.index[committed == fold % 5 + 1])
        assert (splits == "train").sum() == 88 - (splits != "train").sum()


@pytest.mark.parametrize("kind", ["folder", "packed", "phantom"])
def test_any_data_are_split_as_data_split_does(kind, phantom, store, caplog):
    data = {"folder": phantom, "packed": store, "phantom": "phantom"}[kind]
    for fold, expected in enumerate(assign_folds(open_source(data).table, folds=4, seed=9), 1):
        config = TrainingConfig(data=str(data), folds=4, fold=fold, seed=9)
        assert splits_of(open_data(config, Roles(), SILENT)).to_dict() == splits_of(Table(expected)).to_dict()


class Table:
    def __init__(self, table):
        self.table = table


def test_patients_whom_the_fixed_split_does_not_name_are_in_a_fold(phantom, tmp_path, caplog):
    """They would be in no split: `train` says so, and a fold takes them."""
    folder = shutil.copytree(phantom, tmp_path / "kaggle_3m")
    stranger = sorted(path for path in folder.iterdir() if path.is_dir())[0]
    known = folder / "TCGA_CS_4941_19960909"
    for file in list(shutil.copytree(stranger, known).iterdir()):
        file.rename(file.with_name(file.name.replace(stranger.name, known.name)))
    (folder / "data.csv").unlink(missing_ok=True)
    assert (splits_of(open_source(folder)) == "").sum() == 6 and "left out" in caplog.text
    caplog.clear()
    splits = splits_of(open_data(TrainingConfig(data=str(folder), folds=3, fold=1), Roles(), SILENT))
    assert set(splits) == {"train", "val", "test"} and "left out" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 2}, "from 3 to 1000: with two folds nobody is left to test. Received: 2"),
        (
            {"fold": 1},
            r"fold is a whole number from 1 to folds\. Received: fold=1, folds=None\. Say how many there are",
        ),
        ({"fold": 4, "folds": 3}, "Received: fold=4, folds=3"),
    ],
)
def test_folds_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**settings)


def test_one_fold_and_all_folds_are_two_functions(tmp_path):
    with pytest.raises(InputError, match="train_folds"):
        train(TrainingConfig(folds=3), output=tmp_path / "run")
    for settings in ({}, {"folds": 3, "fold": 1}):
        with pytest.raises(InputError, match=r"together by folds=K alone\. Received: folds="):
            train_folds(TrainingConfig(**settings), output=tmp_path / "folds")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--folds=6"], "the number of patients, 5. Received: 6. Make fewer"),
        (["--architecture=no"], "no"),
        (["--batch-size=999"], "A batch"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_and_binds_nobody(store, tmp_path, flags, message):
    words = ["train", "--data", str(store), "--architecture=res_unet", "--filters=2", "--depth=1", "--size=16"]
    words += ["--folds=3", *flags, "-o", str(tmp_path / "out")]
    code, _, err = here(*words)
    assert code == 2 and message in err
    assert not list(tmp_path.iterdir())


# ---- a folder that is there


def test_finished_folds_are_left_alone_and_scored(own):
    before = {file: file.read_bytes() for file in own.glob("fold*/*") if file.is_file()}
    code, out, err = here("train", "--resume", str(own))
    assert code == 0, err
    assert [f"Fold {number} of 3: is finished" in err for number in (1, 2, 3)] == [True] * 3
    assert "n = 7 (out of fold, each patient by the one run that kept it apart)" in out
    assert (own / "evaluation" / "out_of_fold" / "report.html").is_file()
    assert {file: file.read_bytes() for file in before} == before
    code, out, err = here("train", "--resume", str(own), "--json")
    assert json.loads(out)["patients"]["dice"]["n"] == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 2}, r"epochs \(1 and 2\)"),
        ({"data": "other"}, "data .*and 'other'"),
        ({"seed": 3}, r"seed \(0 and 3\)"),
    ],
)
def test_another_recipe_in_the_same_folder_is_refused(own, changes, said):
    config = FoldsFolder(own).read_config()
    assert unfinished(train_folds(config, output=own, console=SILENT)) == []
    with pytest.raises(InputError, match=rf"differ in {said}.*--resume {own}, or give another -o"):
        train_folds(dataclasses.replace(config, **changes), output=own, console=SILENT)
    with pytest.raises(InputError, match=r"differ in folds \(3 and 4\)"):
        train_folds(dataclasses.replace(config, folds=4), output=own, console=SILENT)
    change_record(RunFolder(own / "fold3"), config=dataclasses.replace(config, fold=3, **changes))
    with pytest.raises(InputError, match="fold3 says and what is wanted differ in"):
        resume_folds(own, console=SILENT)


def test_settings_of_folds_stay(own):
    code, _, err = here("train", "--resume", str(own), "--epochs", "9")
    assert code == 2 and "Folds keep their settings. Received: epochs. Leave them out" in err


def test_a_folder_of_something_else_is_refused(own, tmp_path):
    config = FoldsFolder(own).read_config()
    with pytest.raises(InputError, match="fold1 holds a run and no folds"):
        train_folds(config, output=own / "fold1", console=SILENT)
    (tmp_path / "folds.json").write_text("[]")
    with pytest.raises(InputError, match="brainseg did not make it"):
        train_folds(config, output=tmp_path, console=SILENT)
    with pytest.raises(InputError, match=r"holds no folds .*Give the folder of brainseg train --folds"):
        resume_folds(tmp_path / "none", console=SILENT)


@pytest.mark.parametrize(
    ("stopped", "step", "row", "finished"),
    [
        (None, 4, "1,4", True),
        ("time", 3, "1,3", True),
        ("patience", 3, "1,3", True),
        ("interrupted", 3, "1,2", False),
        ("interrupted", 4, "1,4", True),
        (None, 4, "0,0", False),
        (None, 2, "1,4", False),
    ],
)
def test_a_run_is_finished_at_its_last_epoch_its_time_or_its_patience(own, stopped, step, row, finished):
    """A row beyond what was kept was written before a kill; a step beyond the last row is within an epoch."""
    run = RunFolder(own / "fold1")
    change_record(run, progress=run.read_record().progress._replace(stopped=stopped, step=step))
    run.history.write_text(f"epoch,step\n{row}\n")
    assert is_finished(run) == finished
    run.best.unlink()
    assert not is_finished(run)
    change_record(run, progress=None)
    assert not is_finished(run)


# ---- trained


def weights_of(run):
    return keras.saving.load_model(run.best).get_weights()


@pytest.mark.slow
def test_stopped_and_continued_folds_are_as_if_each_had_been_trained_alone(store, tmp_path):
    """Ctrl-C in the first step of the second fold; the runs end with the weights of `train --fold`, bit for bit."""
    settings = {"filters": 2, "depth": 1, "size": 16, "batch_size": 8, "epochs": 1, "learning_rate": 0.02}
    config, begun, count = tiny(store, folds=3, **settings), [], StopGuard.on_train_batch_end

    def counted(self, batch, logs=None):
        if self._progression.step == 0:
            begun.append(1)
            if len(begun) == 2:
                press(signal.SIGINT)
        count(self, batch, logs)

    said = Console(file=io.StringIO(), width=300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopGuard, "on_train_batch_end", counted)
        folder = train_folds(config, output=tmp_path / "folds", console=said)
    assert unfinished(folder) == [2, 3] and not (folder.path / "fold3").exists()
    assert f"Go on with all folds: brainseg train --resume {folder.path}" in said.file.getvalue()
    first = RunFolder(folder.path / "fold1").best.read_bytes()
    code, out, err = here("train", "--resume", str(folder.path))
    assert code == 0, err
    assert "Fold 1 of 3: is finished" in err and RunFolder(folder.path / "fold1").best.read_bytes() == first
    assert unfinished(folder) == [] and "n = 5 (out of fold" in out
    table = pd.read_csv(folder.path / "evaluation" / "out_of_fold" / "per_patient.csv").set_index("patient")
    source = open_source(store)
    for number, run in enumerate(folder.runs(), 1):
        alone = train(dataclasses.replace(config, fold=number), output=tmp_path / f"alone{number}", console=SILENT)
        for ours, theirs in zip(weights_of(run), weights_of(alone), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        rows = evaluate(Predictor(alone.path), source, split="test").per_patient.set_index("patient")
        assert set(rows.index) == set(table.index[table.fold == number]) and set(rows.role) == {"test"}
        np.testing.assert_allclose(table.dice[rows.index], rows.dice, atol=1e-12)


@pytest.mark.slow
def test_killed_folds_go_on_by_the_same_command(store, tmp_path):
    import forks

    words = ("train", "--data", store, "--architecture=res_unet", "--filters=2", "--depth=1", "--size=16", "--epochs=2")
    words += ("--deterministic", "--folds=3", "-o", "out")
    for watched in ("fold1/best.keras", "fold2/run.json"):
        answer = forks.brainseg(*words, cwd=tmp_path, kill_after=0.05, watch=watched)
        assert answer.code == -signal.SIGKILL
    answer = forks.brainseg(*words, cwd=tmp_path)
    assert answer.code == 0, answer.stderr
    assert "n = 5 (out of fold" in answer.stdout and "retracing" not in answer.stderr
    whole = train_folds(FoldsFolder(tmp_path / "out").read_config(), output=tmp_path / "whole", console=SILENT)
    for ours, theirs in zip(FoldsFolder(tmp_path / "out").runs(), whole.runs(), strict=True):
        for mine, other in zip(weights_of(ours), weights_of(theirs), strict=True):
            np.testing.assert_array_equal(mine, other)
