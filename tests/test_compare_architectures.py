"""examples/compare_architectures.py: its rows, its table from reports alone, and two rows that were interrupted."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from brainseg_keras.cli import app
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import compare_paired, summarize
from brainseg_keras.registry import ARCHITECTURES, LOSSES, RECURRENT
from brainseg_keras.training.config import TrainingConfig

sys.path.append(str(Path(__file__).resolve().parent.parent / "examples"))

import compare_architectures as example
import zoo_table


def options(*words):
    return example.parse([str(word) for word in words])


def test_there_is_a_row_for_every_network_and_for_the_losses():
    rows = {row.name: row for row in example.all_rows()}
    networks = [row.settings for row in rows.values() if row.group == "network"]
    assert {(row["architecture"], row["separable"]) for row in networks} == {
        (name, separable) for name in ARCHITECTURES for separable in (False, True)
    }
    assert {row["architecture"] for row in networks if row.get("norm_per_step")} == set(RECURRENT)
    assert [rows[f"{name}-shared-norm"].settings for name in RECURRENT] == [{"architecture": n} for n in RECURRENT]
    losses = {row.settings["loss"] for row in rows.values() if row.group == "loss"}
    assert losses <= set(LOSSES) and len(losses) == 7
    assert [name for name, row in rows.items() if row.settings.get("deep_supervision")] == ["deep-supervision"]
    assert [row.name for row in rows.values() if row.group == "other package"] == [
        "keras_unet_collection",
        "medicai",
        "monai",
    ]


def test_the_commands_are_those_of_brainseg(tmp_path):
    """Each is read by the real command line, and makes the settings that a stopped run is checked against."""
    train = get_command(app).commands["train"]
    given = options("--minutes", 3, "-o", tmp_path, "--filters", 8)
    for row in example.all_rows():
        trainings = example.stages(row, given) if row.group != "other package" else []
        assert sum(settings["max_minutes"] for _, settings in trainings) in (0, 3)
        for run, settings in trainings:
            words = example.train_words(settings, run, given)
            read = train.make_context("train", words[1:]).params
            assert read["output"] == str(run) and read["filters"] == 8
            wanted = TrainingConfig(**settings)
            said = {name: value for name, value in read.items() if hasattr(wanted, name) and value is not None}
            assert {name: getattr(wanted, name) for name in said} == said
            assert set(settings) <= set(said)


def write_report(folder, name, group, dices, **more):
    """A row's report.json, of patients A, B, C and so on."""
    table = [{"patient": chr(65 + index), "dice": dice} for index, dice in enumerate(dices)]
    scores = ("dice", "iou", "precision", "recall", "pixel_accuracy", "hd95")
    patients = {score: vars(summarize(dices, bounds=(0, 1))) for score in scores}
    row = {"name": name, "group": group, "title": f"`{name}`", "minutes": 3, "filters": 8, "size": 64}
    row |= {"batch_size": 4, "seed": 0}
    run = {"machine": {"processor": "a processor", "cores": 2}, "gflops": 1.5, "config": {"separable": False}}
    content = {
        "row": row | more.get("row", {}),
        "run": run | {"parameters": 1000, "ms_a_slice": 2.0} | more.get("run", {}),
        "report": {"split": "test", "role": "test, chose nothing", "unit": "mm", "patients": patients},
        "per_patient": table,
    }
    (folder / name).mkdir()
    (folder / name / "report.json").write_text(json.dumps(content))


def test_the_table_is_sorted_and_stands_in_the_readme(tmp_path, capsys):
    write_report(tmp_path, "unet", "network", [0.5, 0.6, 0.7])
    best = {"parameters": 9000, "ms_a_slice": 1.0}
    write_report(tmp_path, "attention_res_unet", "network", [0.7, 0.8, 0.9], run=best)
    write_report(tmp_path, "loss-dice", "loss", [0.9, 0.9, 0.9])
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{zoo_table.BEGIN}\nold\n{zoo_table.END}\nafter\n")
    assert example.main(options("--table", "-o", tmp_path, "--readme", readme)) == 0
    text = readme.read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert [line[:2] for line in lines] == [
        ["network", "Dice, mean"],
        ["`attention_res_unet`", "0.800"],
        ["`unet`", "0.600"],
        ["loss", "Dice, mean"],
        ["`loss-dice`", "0.900"],
        ["`dice_focal`", "0.800"],
    ]
    assert {len(line) for line in lines} == {13}
    assert lines[1][9:] == ["9,000", "1.5", "1.0", "3"]
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "3 minutes each" in text and "test, chose nothing" in text
    # Every patient is 0.2 worse: no interval of the difference holds 0.
    assert compare_paired([0.7, 0.8, 0.9], [0.5, 0.6, 0.7]).low > 0
    assert "does not tell 0 from it" in text and "attention_res_unet has fewest parameters" in text
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["unet", "attention_res_unet", "loss-dice"]
    # Once more over itself: nothing changes.
    example.main(options("--table", "-o", tmp_path, "--readme", readme))
    assert readme.read_text() == text
    assert str(tmp_path / "table.md") in capsys.readouterr().out


def test_of_networks_that_are_alike_the_cheapest_is_named(tmp_path):
    write_report(tmp_path, "unet", "network", [0.9, 0.7, 0.8, 0.6], run={"parameters": 10, "ms_a_slice": 9.0})
    write_report(tmp_path, "res_unet", "network", [0.7, 0.9, 0.65, 0.8], run={"parameters": 99, "ms_a_slice": 1.0})
    text = zoo_table.markdown(zoo_table.read_reports(tmp_path, [row.name for row in example.all_rows()]))
    assert "Highest mean of the networks: res_unet. Of 1 others" in text
    assert "does not tell 1 from it; of these and itself unet has fewest parameters, res_unet has the least" in text


@pytest.mark.parametrize(
    ("other", "words"), [({"minutes": 4}, "differ in minutes"), ({"size": 128}, "differ in"), (None, "no row's report")]
)
def test_what_does_not_make_one_table_is_refused(other, words, tmp_path):
    if other:
        write_report(tmp_path, "unet", "network", [0.5, 0.6, 0.7])
        write_report(tmp_path, "res_unet", "network", [0.5, 0.6, 0.7], row=other)
    with pytest.raises(InputError, match=words):
        example.main(options("--table", "-o", tmp_path))
    assert not (tmp_path / "table.md").exists()


def test_a_readme_without_a_place_is_refused(tmp_path):
    write_report(tmp_path, "unet", "network", [0.5, 0.6, 0.7])
    readme = tmp_path / "README.md"
    readme.write_text("no place\n")
    with pytest.raises(InputError, match="no place for the table"):
        example.main(options("--table", "-o", tmp_path, "--readme", readme))
    assert readme.read_text() == "no place\n"


@pytest.mark.slow
def test_two_rows_through_an_interruption(phantom, tmp_path):
    command = [sys.executable, example.__file__, "--data", str(phantom)]
    command += ["--minutes", "0.15", "--filters", "4", "--size", "32", "--batch-size", "4", "-o", "runs"]
    rows = ["--rows", "res_unet", "loss-binary_focal-then-dice_focal"]
    first = tmp_path / "runs" / "res_unet"

    def begin(*more):
        # In the background of a script Ctrl-C is ignored, and what is started there inherits that.
        heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(
            [*command, *more], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ, preexec_fn=heed
        )

    process = begin(*rows)
    while process.poll() is None and not (first / "run.json").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 130 and "the same command goes on" in said, said
    assert not (first / "report.json").exists() and not (tmp_path / "runs" / "table.md").exists()
    process = begin(*rows)
    said = process.communicate(timeout=400)[1]
    assert process.returncode == 0, said
    began = {name: (tmp_path / "runs" / name / "run.json").read_text() for name in rows[1:]}
    # The seconds before the interruption count.
    record = json.loads(began["res_unet"])
    assert record["progress"]["stopped"] == "time" and record["progress"]["seconds"] < 2 * 9
    assert json.loads(began[rows[2]])["config"]["init"] == f"runs/{rows[2]}-first"
    # Done is done: the third time nothing is trained, and the table is the same.
    table = (tmp_path / "runs" / "table.md").read_text()
    process = begin(*rows)
    process.communicate(timeout=200)
    assert process.returncode == 0 and (tmp_path / "runs" / "table.md").read_text() == table
    assert began == {name: (tmp_path / "runs" / name / "run.json").read_text() for name in rows[1:]}
    # Other minutes do not go into the same rows.
    process = begin(*rows, "--minutes", "7")
    assert "trained with other settings: max_minutes (0.15 and 7.0)" in process.communicate(timeout=200)[1]
    assert process.returncode == 2
    check_figures(tmp_path / "runs", rows[1:])


def check_figures(folder, names):
    """Figures of the table from the counts of pixels in per_patient.csv."""
    rows = {row["name"]: row for row in json.loads((folder / "table.json").read_text())["rows"]}
    assert list(rows) == names
    for name in names:
        table = pd.read_csv(folder / name / "evaluation" / "test" / "per_patient.csv")
        tp, fp, fn = (table[count].to_numpy() for count in ("tp", "fp", "fn"))
        dice = np.where(tp + fp + fn > 0, 2 * tp / np.maximum(2 * tp + fp + fn, 1), 1.0)
        assert rows[name]["dice_mean"] == pytest.approx(dice.mean())
        assert rows[name]["dice_median"] == pytest.approx(np.median(dice))
        assert rows[name]["n"] == len(table) and set(table.role) == {"test"}
        assert rows[name]["hd95"] == pytest.approx(table.hd95.mean())
        assert rows[name]["gflops"] > 0 and rows[name]["ms_a_slice"] > 0
    assert f"{rows[names[0]]['dice_mean']:.3f}" in (folder / "table.md").read_text()
