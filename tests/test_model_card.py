"""benchmarks/model_card.py and lgg_weights.py: every figure of the card is its files', each patient once a group."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_folds import change_record, write_folds
from scans import lgg_folder

from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import summarize
from brainseg_keras.reports import out_of_fold
from brainseg_keras.training import FoldsFolder, RunFolder

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import lgg_weights
import model_card

COUNT = 9
SITES = ("CS", "DU", "HT")


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """A finished cross-validation of patients from three institutions, scored; read it, do not write to it."""
    made = tmp_path_factory.mktemp("made")
    data = lgg_folder(made / "kaggle_3m", patients=COUNT)
    for number, folder in enumerate(sorted(data.iterdir())):
        name = folder.name.replace("XX", SITES[number % 3])
        for file in list(folder.iterdir()):
            file.rename(file.with_name(file.name.replace(folder.name, name)))
        folder.rename(data / name)
    folder = write_folds(made / "folds", data)
    out_of_fold(folder, tune=True)
    return folder


@pytest.fixture(scope="module")
def people(folds, tmp_path_factory):
    """Sex and age as the set's data.csv has them, with gaps, one patient missing and one who is not scored."""
    names = pd.read_csv(folds / "evaluation" / "out_of_fold" / "per_patient.csv").patient
    table = pd.DataFrame({"Patient": names.str.replace(r"_\d{8}$", "", regex=True)})
    table["gender"] = [1, 2, 1, 2, 1, 2, 1, np.nan, 2]
    table["age_at_initial_pathologic"] = [39, 40, 54, 55, 20, 80, np.nan, 41, 42]
    table = pd.concat([table.iloc[:-1], pd.DataFrame({"Patient": ["TCGA_ZZ_9999"], "gender": [1]})])
    file = tmp_path_factory.mktemp("people") / "data.csv"
    table.to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def card(folds, people, tmp_path_factory):
    output = tmp_path_factory.mktemp("card") / "model_card.md"
    model_card.main(["--folds", str(folds), "--table", str(people), "-o", str(output)])
    return output


def table_of(folds):
    return pd.read_csv(folds / "evaluation" / "out_of_fold" / "per_patient.csv")


def rows_of(text, start):
    """Cells of the rows of a table in Markdown that begin so."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith(start)
    ]


def test_each_patient_is_once_in_each_kind_of_group(card):
    text = card.read_text()
    for kind in ("institution", "sex", "age", "size"):
        rows = rows_of(text, f"| {kind}:")
        assert sum(int(cells[1]) for cells in rows) == COUNT, kind
    found = {cells[0]: int(cells[1]) for cells in rows_of(text, "| ") if cells[0].startswith(("sex", "age"))}
    # The last patient is not in the table of people; of one the sex and of one the age are missing there.
    assert found == {
        "sex: code 1": 4,
        "sex: code 2": 3,
        "sex: unknown": 2,
        "age: 0 to 39": 2,
        "age: 40 to 54": 3,
        "age: 55 and above": 2,
        "age: unknown": 2,
    }


def test_figures_of_the_groups_are_those_of_their_patients(card, folds):
    text, table = card.read_text(), table_of(folds)
    for site in SITES:
        dice = table.dice[table.patient.str.startswith(f"TCGA_{site}")]
        (cells,) = rows_of(text, f"| institution: {site}, {model_card.INSTITUTIONS[site]} ")
        wanted = summarize(dice.tolist(), bounds=(0, 1))
        assert cells[1:3] == [str(len(dice)), f"{dice.mean():.3f}"]
        assert cells[3:] == [f"{wanted.low:.3f} to {wanted.high:.3f}", f"{dice.median():.3f}", f"{dice.min():.3f}"]
    sizes = [cells[0].removeprefix("size: ").replace(",", "").split(" to ") for cells in rows_of(text, "| size:")]
    ends = [float(end) for pair in sizes for end in pair]
    assert ends == sorted(ends) and (ends[0], ends[-1]) == (table.volume_true.min(), table.volume_true.max())


def test_the_headline_the_folds_and_the_failures_are_those_of_the_report(card, folds):
    text, table = card.read_text(), table_of(folds)
    report = json.loads((folds / "evaluation" / "out_of_fold" / "report.json").read_text())
    (cells,) = rows_of(text, "| dice ")
    assert cells[1] == f"{table.dice.mean():.3f}" and cells[4] == str(COUNT)
    for number in (1, 2, 3):
        (cells,) = rows_of(text, f"| {number} |")
        assert cells[1:3] == [str((table.fold == number).sum()), f"{table.dice[table.fold == number].mean():.3f}"]
    worst = table.loc[table.dice.idxmin()]
    (cells,) = rows_of(text, "| TCGA_")
    assert cells[:2] == [worst.patient, f"{worst.dice:.3f}"]
    too_little = worst.recall < worst.precision
    assert f"In {int(too_little)} of 1 too little is marked" in text
    told = report["calibration"]
    assert f"{told['before']:.3f} as it is, {told['after']:.3f} with a temperature and a bias" in text
    assert report["role"] in text and "68 train, 10 val, 10 test" in text
    assert "those of networks that were trained on folds of the same set" in " ".join(text.split())


def test_the_card_is_the_same_each_time_and_holds_no_image(card, folds, people, tmp_path):
    model_card.main(["--folds", str(folds), "--table", str(people), "-o", str(tmp_path / "model_card.md")])
    for name in ("model_card.md", "model_card.svg"):
        assert (tmp_path / name).read_bytes() == card.with_name(name).read_bytes()
    assert re.findall(r"!\[[^]]*\]\(([^)]*)\)", card.read_text()) == ["model_card.svg"]
    assert "<image" not in card.with_suffix(".svg").read_text(), "drawn, and no pixels"
    assert "{" not in card.read_text(), "a field that was not filled"


def test_without_tables_it_says_so(folds, tmp_path):
    report = folds / "evaluation" / "out_of_fold"
    words = ["--report", str(report), "--robustness", str(tmp_path / "none"), "-o", str(tmp_path / "card.md")]
    model_card.main(words)
    text = (tmp_path / "card.md").read_text()
    assert "Sex and age were not at hand." in text and "Not measured for these weights." in text
    assert [cells[:2] for cells in rows_of(text, "| sex:")] == [["sex: unknown", str(COUNT)]]


def test_weights_of_all_patients_say_whose_figures_these_are():
    row = {"name": "A", "role": "train"}
    words = model_card.training_words({"roles": {"complete": True, "patients": [row, row | {"name": "B"}]}})
    assert words.startswith("All 2 patients trained the network") and "those of its twins" in words


def test_what_is_no_out_of_fold_report_is_refused(folds, tmp_path):
    with pytest.raises(InputError, match=r"holds no report that can be read.*Run brainseg out-of-fold"):
        model_card.read_report(tmp_path)
    report = folds / "evaluation" / "out_of_fold"
    content = json.loads((report / "report.json").read_text())
    (tmp_path / "per_patient.csv").write_bytes((report / "per_patient.csv").read_bytes())
    for change in ({"split": "test"}, {"patients": {}}):
        (tmp_path / "report.json").write_text(json.dumps(content | change))
        with pytest.raises(InputError, match="is damaged"):
            model_card.read_report(tmp_path)


def test_a_run_on_all_patients_ships_with_what_its_twins_found_out_of_fold(folds, tmp_path):
    config = FoldsFolder(folds).read_config()
    run = RunFolder(tmp_path / "all")
    record = RunFolder(folds / "fold1").read_record()
    on_all = dataclasses.replace(config, folds=None, validation="none")
    met = tuple(dataclasses.replace(known, role="train") for known in record.spec.roles.patients)
    spec = dataclasses.replace(record.spec, roles=dataclasses.replace(record.spec.roles, patients=met))
    run.write_record(dataclasses.replace(record, config=on_all, spec=spec))
    found = lgg_weights.spec_on_all(run.path, folds)
    told = json.loads((folds / "evaluation" / "out_of_fold" / "report.json").read_text())
    assert (found.calibration.temperature, found.calibration.bias) == (
        told["calibration"]["temperature"],
        told["calibration"]["bias"],
    )
    ships, calibration = told["tuned"]["ships"], found.calibration
    logit = np.log(ships["threshold"] / (1 - ships["threshold"])) / calibration.temperature + calibration.bias
    wanted = np.clip(1 / (1 + np.exp(-logit)), 0.001, 0.999)
    assert found.postprocessing.threshold == pytest.approx(wanted), "the same pixels as it was chosen on"
    assert found.postprocessing.flip == ships["flip"] and {known.role for known in found.roles.patients} == {"train"}
    with pytest.raises(InputError, match="kept patients apart"):
        lgg_weights.spec_on_all(folds / "fold1", folds)
    change_record(run, config=dataclasses.replace(on_all, epochs=7))
    with pytest.raises(InputError, match=r"two recipes: they differ in epochs \(1 and 7\)"):
        lgg_weights.spec_on_all(run.path, folds)
