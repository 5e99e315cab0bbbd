"""compare: paired by patient, of evaluations by the same rules alone, and no winner where the interval holds 0."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import here
from scans import CHANNELS, brightness_model, lgg_folder

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import compare_paired
from brainseg_keras.inference import Predictor
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports import compare, evaluate
from brainseg_keras.reports.compare import favors

#: What `evaluate` is called with beside a split of all.
WAYS = {
    "pixels": {},
    "wide": {"tolerance": 3.0},
    "mm": {"spacing": (5, 0.9, 0.9)},
    "thick": {"spacing": (6, 0.9, 0.9)},
}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A folder with an evaluation of each way, and one of a higher threshold."""
    root = tmp_path_factory.mktemp("scored")
    source = open_source(lgg_folder(root / "kaggle_3m"))
    model = brightness_model()

    def predictor(threshold):
        chosen = Postprocessing(threshold=threshold)
        return Predictor(model).adapted(preprocessing=Preprocessing(60), channels=CHANNELS, postprocessing=chosen)

    for name, way in WAYS.items():
        evaluate(predictor(0.4), source, split="all", output=root / name, **way)
    evaluate(predictor(0.99), source, split="all", output=root / "worse")
    evaluate(predictor(0.4), source, split="val", output=root / "val")
    return root


@pytest.fixture
def copy(scored, tmp_path):
    """Copy an evaluation, and put something else into its report or its table."""

    def make(name, *, table=None, **entries):
        folder = shutil.copytree(scored / name, tmp_path / f"{name}_{len(list(tmp_path.iterdir()))}")
        report = json.loads((folder / "report.json").read_text()) | entries
        (folder / "report.json").write_text(json.dumps(report))
        if table is not None:
            table(pd.read_csv(folder / "per_patient.csv")).to_csv(folder / "per_patient.csv", index=False)
        return folder

    return make


def test_a_patient_that_trained_one_of_both_is_refused(scored, copy):
    def trained(rows):
        return rows.assign(role=["train", *rows.role[1:]])

    first = pd.read_csv(scored / "pixels" / "per_patient.csv").patient[0]
    for pair in ((scored / "pixels", copy("worse", table=trained)), (copy("pixels", table=trained), scored / "worse")):
        with pytest.raises(InputError, match=rf"{first} trained the network of .*Compare on patients that neither"):
            compare(*pair)
    assert compare(copy("pixels", table=trained), copy("worse", table=trained))["dice"].n == 6


def test_comparison_is_by_patient_whatever_the_order(scored, copy):
    shuffled = copy("worse", table=lambda rows: rows.sample(frac=1, random_state=0))
    result = compare(scored / "pixels", shuffled / "per_patient.csv")
    first, second = (
        pd.read_csv(scored / name / "per_patient.csv").set_index("patient") for name in ("pixels", "worse")
    )
    for name in ("dice", "hd95", "surface_dice"):
        assert result[name].difference == pytest.approx((first[name] - second[name]).mean())
        assert result[name].n == 6


@pytest.mark.parametrize(
    ("one", "other", "words", "cure"),
    [
        ("pixels", "mm", "unit is 'pixels' and 'mm'", "--spacing"),
        ("pixels", "mm", "distances is '2-D slice by slice, pixels' and '3-D, mm'", "--spacing"),
        ("mm", "thick", "with a spacing of 5.0,0.9,0.9, and 3-D with 6.0,0.9,0.9", "--spacing"),
        ("pixels", "wide", "surface_dice_tolerance is 2.0 and 3.0", "--tolerance"),
        ("pixels", "val", "split is 'all' and 'val'", "--split"),
    ],
)
def test_other_rules_are_refused_with_both_files_and_the_cure(scored, one, other, words, cure):
    for first, second in ((one, other), (other, one)):
        code, _, err = here("compare", str(scored / first), str(scored / second / "per_patient.csv"))
        said = " ".join(err.split())
        assert code == 2
        name = "per_patient.csv" if {one, other} == {"mm", "thick"} else "report.json"
        assert f"{scored / first / name} and {scored / second / name}" in said
        assert f"the same {cure}" in said
    assert words in " ".join(here("compare", str(scored / one), str(scored / other))[2].split())


@pytest.mark.parametrize(
    "entry", ["split", "unit", "distances", "surface_dice_tolerance", "empty_rule", "surface_rule"]
)
def test_each_rule_has_to_be_the_same_and_said(scored, copy, entry):
    with pytest.raises(
        InputError, match=rf"not scored alike: {entry} is .* and 'another'\. Evaluate both with the same"
    ):
        compare(scored / "pixels", copy("pixels", **{entry: "another"}))
    silent = copy("pixels")
    report = json.loads((silent / "report.json").read_text())
    del report[entry]
    (silent / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match=rf"report\.json does not say {entry}\. Evaluate again"):
        compare(silent, scored / "pixels")


def test_a_spacing_of_float32_is_the_same_and_one_that_was_given_is_that_of_the_file(scored, copy):
    given = copy("mm", spacing="of each volume", table=lambda rows: rows.assign(spacing="5.0,0.8999999761581421,0.9"))
    assert compare(scored / "mm", given)["dice"].n == 6
    # A patient of one slice among volumes.
    flat = copy("mm", table=lambda rows: rows.assign(distances=np.where(rows.index == 2, "2-D", "3-D")))
    with pytest.raises(InputError, match=r"TCGA_XX_0002_20000101 otherwise: 3-D .* and 2-D"):
        compare(scored / "mm", flat)


def test_other_patients_and_other_masks_are_refused(scored, copy, tmp_path):
    names = sorted(pd.read_csv(scored / "pixels" / "per_patient.csv").patient)
    fewer = copy("pixels", table=lambda rows: rows[~rows.patient.isin(names[1:5])])
    for pair in ((scored / "pixels", fewer), (fewer, scored / "pixels")):
        said = rf"different patients: 4 are in one of them only, such as {', '.join(names[1:4])}\. "
        with pytest.raises(InputError, match=said):
            compare(*pair)
    for change in (1, -1):
        changed = copy(
            "pixels", table=lambda rows, by=change: rows.assign(fn=rows.fn + by * (rows.patient == names[2]))
        )
        with pytest.raises(InputError, match=rf"other masks for {names[2]}: the size"):
            compare(scored / "pixels", changed)
    with pytest.raises(InputError, match=r"holds no per_patient\.csv"):
        compare(scored / "pixels", tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("per_patient.csv", "a,b\n1,2\n", "not what `brainseg evaluate` writes"),
        (
            "per_patient.csv",
            "patient,role,tp,fn,dice,spacing,distances\nP,test,1,1,1,wide,3-D\n",
            "the spacing|could not convert",
        ),
        ("report.json", "no json", "cannot be read"),
        ("report.json", "[]", "does not say split, unit"),
        ("report.json", None, "is missing, which says the units and rules"),
    ],
)
def test_what_cannot_be_read_is_named(scored, copy, name, content, words):
    folder = copy("pixels")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=words) as refused:
        compare(folder / "per_patient.csv", scored / "pixels")
    assert str(folder / name) in str(refused.value)


def favored(name, differences):
    return favors(name, compare_paired(differences, [0.0] * len(differences)))


def test_nobody_is_favored_where_the_interval_holds_0():
    clear, turned = [0.2, 0.3, 0.25, 0.2, 0.3, 0.28], [-0.2, -0.3, -0.25, -0.2, -0.3, -0.28]
    assert (favored("dice", clear), favored("dice", turned)) == ("first", "second")
    # Of distances less is better.
    assert (favored("hd95", clear), favored("hd95", turned)) == ("second", "first")
    for name in ("dice", "hd95"):
        assert favored(name, [0.2, -0.3, 0.25, 0.2, -0.3, 0.28]) == "none"
        assert favored(name, [0.0] * 6) == "none"
        # Two patients have no interval.
        assert favored(name, [0.2, 0.3]) == "none"


def said_of(*arguments):
    code, out, err = here("compare", *map(str, arguments))
    assert code == 0, err
    return out


def test_the_table_and_the_json_say_what_is_favored(scored, copy):
    noise = np.array([0.02, -0.03, 0.01, -0.02, 0.03, -0.01])
    other = copy("pixels", table=lambda rows: rows.assign(dice=rows.dice + noise, iou=rows.iou - 0.1 + noise / 10))
    found = json.loads(said_of(scored / "pixels", other, "--json"))
    assert found["dice"]["favors"] == "none" and found["dice"]["low"] < 0 < found["dice"]["high"]
    assert found["iou"]["favors"] == "first" and 0 < found["iou"]["p_bootstrap"] < 0.05
    rows = [line for line in said_of(scored / "pixels", other).splitlines() if "│" in line]
    words = {line.split("│")[1].strip(): line.split("│")[-2].strip() for line in rows}
    assert words["dice"] == "none" and words["iou"] == "first"


def test_one_patient_is_compared_without_interval_and_p(scored):
    val = scored / "val"
    dice = json.loads(said_of(val, val, "--json"), parse_constant=pytest.fail)["dice"]
    assert (dice["n"], dice["low"], dice["high"], dice["p_bootstrap"], dice["favors"]) == (1, None, None, None, "none")
    assert "an interval needs 3, the p of a bootstrap 6" in said_of(val, val)
    report = json.loads((val / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["patients"]["dice"]["low"] is None
    assert "none: too few patients" in (val / "report.html").read_text()
