"""evaluate: every figure recomputed from the mask files; and the commands from tuning to comparison."""

import base64
import html
import io
import json
import re

import numpy as np
import pandas as pd
import plain
import pytest
from commands import brainseg
from PIL import Image
from scans import CHANNELS, brightness_model, lgg_folder
from sklearn.metrics import average_precision_score, classification_report

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.manifest import write_manifest
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.volumes import iterate_volumes
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports import evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lgg_folder(tmp_path_factory.mktemp("data") / "kaggle_3m")


@pytest.fixture(scope="module")
def source(folder):
    return open_source(folder)


@pytest.fixture(scope="module")
def predictor():
    model = brightness_model()
    chosen = Postprocessing(threshold=0.4, smallest_component=8)
    return Predictor(model).adapted(preprocessing=Preprocessing(60), channels=CHANNELS, postprocessing=chosen)


@pytest.fixture(scope="module")
def evaluated(predictor, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return evaluate(predictor, source, split="all", output=folder), folder


def ratio(numerator, denominator, wrong):
    return numerator / denominator if denominator else float(wrong == 0)


def overlap_by_hand(truth, answer):
    tp, fp = int((truth & answer).sum()), int((~truth & answer).sum())
    fn, tn = int((truth & ~answer).sum()), int((~truth & ~answer).sum())
    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "dice": ratio(2 * tp, 2 * tp + fp + fn, fp + fn),
        "iou": ratio(tp, tp + fp + fn, fp + fn),
        "precision": ratio(tp, tp + fp, fp + fn),
        "recall": ratio(tp, tp + fn, fp + fn),
        "specificity": ratio(tn, tn + fp, fp + fn),
        "pixel_accuracy": (tp + tn) / truth.size,
        "volume_true": tp + fn,
        "volume_pred": tp + fp,
        "volume_error": fp - fn,
    }


def surfaces_and_lesions_by_hand(truth, answer):
    sides = [np.array(side) for side in plain.distances_by_slice(truth, answer)]
    pooled = np.concatenate(sides)
    lesions, marked = plain.parts(truth), plain.parts(answer)
    found = sum(any(lesion & part for part in marked) for lesion in lesions)
    right = sum(any(lesion & part for lesion in lesions) for part in marked)
    return {
        "hd95": max(np.percentile(side, 95) for side in sides),
        "average_surface_distance": pooled.mean(),
        "surface_dice": (pooled <= 2).mean(),
        "lesions": len(lesions),
        "lesions_found": found,
        "lesions_invented": len(marked) - right,
        "lesion_recall": ratio(found, len(lesions), len(marked)),
        "lesion_precision": ratio(right, len(marked), len(lesions)),
    }


@pytest.fixture(scope="module")
def files(predictor, folder, tmp_path_factory):
    """Masks and 16-bit probabilities as `predict` writes them, read back with Pillow: truth, answer, probability."""
    written = tmp_path_factory.mktemp("predicted")
    predict([folder], written, predictor=predictor, overlays=False, probabilities=True)

    def read(patient, kind):
        where, ending = (folder, "_mask.tif") if kind == "truth" else (written, f"_{kind}.png")
        stack = [np.array(Image.open(where / patient / f"{patient}_{n}{ending}")) for n in range(1, 9)]
        return np.stack(stack)

    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return {
        name: (read(name, "truth") > 0, read(name, "mask") > 0, read(name, "probability") / 65535) for name in names
    }


def test_every_figure_is_that_of_the_mask_files(evaluated, files):
    """Counted with NumPy and pixel by pixel (tests/plain.py): nothing of the package but `predict`."""
    _, report_folder = evaluated
    report = json.loads((report_folder / "report.json").read_text())
    table = pd.read_csv(report_folder / "per_patient.csv").set_index("patient")
    expected = pd.DataFrame(
        {
            name: overlap_by_hand(truth, answer) | surfaces_and_lesions_by_hand(truth, answer)
            for name, (truth, answer, _) in files.items()
        }
    ).T
    # Nothing is left out but the words.
    assert set(table) - set(expected) == {"role", "slices", "spacing", "distances"}
    assert set(table.distances) == {"2-D"} and table.spacing.isna().all() and set(table.slices) == {8}
    pd.testing.assert_frame_equal(
        table.loc[expected.index, expected.columns].astype(float),
        expected.astype(float),
        rtol=0,
        atol=1e-9,
        check_names=False,
    )
    assert expected.lesions_invented.sum() > 0 and expected.surface_dice.nunique() > 3
    assert set(report["patients"]) <= set(expected)
    for name, summary in report["patients"].items():
        assert summary["n"] == len(files) == 6
        assert summary["mean"] == pytest.approx(expected[name].mean(), abs=1e-9), name
        assert summary["median"] == pytest.approx(expected[name].median(), abs=1e-9), name
        assert summary["sd"] == pytest.approx(expected[name].std(ddof=1), abs=1e-9), name
    tp, fp, fn, tn = expected[["tp", "fp", "fn", "tn"]].sum().astype(int)
    assert report["confusion"]["pixels"] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    full, marked = (np.concatenate([masks[index].ravel() for masks in files.values()]) for index in (0, 1))
    pooled = {name: report["pooled_pixels"][name] for name in ("dice", "iou", "precision", "recall", "specificity")}
    assert pooled == pytest.approx({name: overlap_by_hand(full, marked)[name] for name in pooled}, abs=1e-12)
    ours = report["classification_report"]["pixels"]["tumour"]
    theirs = classification_report(full, marked, target_names=["background", "tumour"], output_dict=True)
    assert ours == pytest.approx(theirs["tumour"])
    assert 0.2 < expected.dice.mean() < 1, "a test on masks that are all right or all wrong shows little"


def test_every_slice_is_that_of_the_mask_files(evaluated, files):
    report = json.loads((evaluated[1] / "report.json").read_text())
    slices = pd.read_csv(evaluated[1] / "per_slice.csv").set_index(["patient", "slice"])
    dices, empties = [], []
    for patient, (truths, answers, _) in files.items():
        for number, (truth, answer) in enumerate(zip(truths, answers, strict=True), 1):
            expected = overlap_by_hand(truth, answer)
            for name in ("tp", "fp", "fn", "tn", "dice", "iou"):
                assert slices[name][patient, number] == pytest.approx(expected[name], abs=1e-12)
            dices.append(expected["dice"])
            empties.append(not truth.any() and not answer.any())
    dices, empties = np.array(dices), np.array(empties)
    means = report["slices"]
    assert means["both_empty_skipped"] == {"mean": pytest.approx(dices[~empties].mean()), "n": (~empties).sum()}
    assert means["both_empty_is_0"]["mean"] == pytest.approx(dices[~empties].sum() / len(empties))
    assert means["both_empty_is_1"] == {"mean": pytest.approx(dices.mean()), "n": len(empties)}
    assert 0 < empties.sum() < len(empties)


def test_precision_and_calibration_are_those_of_the_probability_files(evaluated, files):
    """Of 16 bits each, where the report counts in thousandths."""
    truth, chance = (np.concatenate([arrays[index].ravel() for arrays in files.values()]) for index in (0, 2))
    report = evaluated[0].report
    assert report["average_precision"] == pytest.approx(average_precision_score(truth, chance), abs=2e-3)
    bins = np.minimum((chance * 10).astype(int), 9)
    gaps = [abs(chance[bins == b].mean() - truth[bins == b].mean()) * (bins == b).sum() for b in np.unique(bins)]
    assert report["expected_calibration_error"] == pytest.approx(sum(gaps) / len(chance), abs=1e-4)
    assert 0.3 < report["average_precision"] < 0.99 and report["expected_calibration_error"] > 1e-3


def test_slices_are_counted_by_what_they_show_and_what_was_marked(evaluated):
    found, folder = evaluated
    slices = pd.read_csv(folder / "per_slice.csv")
    counts = {"tp": 0, "fp": 0, "fn": 0, "tn": 0}
    for row in slices.itertuples():
        shows, marked = row.tp + row.fn > 0, row.tp + row.fp > 0
        counts[("t" if shows == marked else "f") + ("p" if marked else "n")] += 1
    assert found.report["confusion"]["slices"] == counts
    assert counts["tp"] > 0 and counts["tn"] > 0 and counts["fp"] != counts["fn"]
    table = found.report["classification_report"]["slices"]["tumour"]
    assert table["support"] == counts["tp"] + counts["fn"]
    assert table["precision"] == pytest.approx(counts["tp"] / (counts["tp"] + counts["fp"]))
    assert table["recall"] == pytest.approx(counts["tp"] / (counts["tp"] + counts["fn"]))


def test_the_answer_of_nothing_stands_beside(evaluated, source):
    nothing = evaluated[0].report["all_background"]
    volumes = list(iterate_volumes(source, "all"))
    accuracy = [1 - (volume.masks > 0).mean() for volume in volumes]
    assert nothing["patients"]["dice"]["mean"] == 0
    assert nothing["patients"]["pixel_accuracy"]["mean"] == pytest.approx(np.mean(accuracy))
    empty = [not mask.any() for volume in volumes for mask in volume.masks]
    assert nothing["slices"]["both_empty_is_1"]["mean"] == pytest.approx(np.mean(empty))


def test_report_says_what_was_chosen_and_on_whom(evaluated, predictor, source, folder, tmp_path):
    """What a patient was to the network comes from its run, and not from the name of the split."""
    found, _ = evaluated
    assert found.report["postprocessing"] == {
        "threshold": 0.4,
        "smallest_component": 8,
        "largest_component": False,
        "flip": False,
        "chosen_on": "given, not tuned",
        "calibration": "none",
    }
    assert found.report["unit"] == "pixels"
    # Of a lone model nobody knows, whatever the split is called.
    for split in ("train", "val", "test", "all"):
        role = evaluate(predictor, source, split=split).report["role"]
        assert role == "roles unknown, nothing says which patients trained this network"
    run = tmp_path / "run"
    run.mkdir()
    brightness_model().save(run / "best.keras")
    names = sorted(source.table.patient.unique())
    met = dict(zip(names, ("train", "train", "val", "test"), strict=False))
    info = {
        "channels": list(CHANNELS),
        "preprocessing": {"size": 60, "blur": 0.0, "clahe": 0.0},
        "roles": {"complete": True, "patients": [{"name": name, "role": role} for name, role in met.items()]},
    }
    (run / "run.json").write_text(json.dumps(info))
    report = evaluate(Predictor(run), source, split="all", output=tmp_path / "all").report
    assert {name: role for role, group in report["groups"].items() for name in group["names"]} == {
        **met,
        **dict.fromkeys(names[4:], "unseen"),
    }
    assert report["role"] == "test, chose nothing; unseen, the network has never met these patients"
    assert report["patients"]["dice"]["n"] == 3
    groups = tables_of((tmp_path / "all" / "report.html").read_text())[1]
    assert groups[0][:3] + groups[0][-1:] == ["role", "what these patients did", "n", "in the rest"]
    assert {(row[0], row[2], row[-1]) for row in groups[1:]} == {
        ("train", "2", "no"),
        ("val", "1", "no"),
        ("test", "1", "yes"),
        ("unseen", "2", "yes"),
    }
    for row in groups[1:]:
        dice = report["groups"][row[0]]["patients"]["dice"]
        assert (float(row[3]), float(row[5])) == pytest.approx((dice["mean"], dice["median"]), abs=6e-4)
    # A manifest that calls others its test patients does not make them so.
    table = source.table.assign(split=source.table.patient.map(lambda name: "test" if name in names[:3] else "train"))
    write_manifest(table, tmp_path / "own.csv")
    own = open_source(tmp_path / "own.csv", root=folder)
    with pytest.raises(InputError) as refused:
        evaluate(Predictor(run), own, split="test")
    assert f"2 trained {run} ({names[0]}, {names[1]}), 1 chose the checkpoint of {run} ({names[2]})" in str(
        refused.value
    )
    report = evaluate(Predictor(run), own, split="test", include_seen=True).report
    assert report["role"] == "validation, chose the checkpoint" and report["patients"]["dice"]["n"] == 1
    assert report["groups"]["train"]["patients"]["dice"]["n"] == 2


def test_the_page_stands_alone_and_shows_the_extremes(evaluated):
    found, folder = evaluated
    page = (folder / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    order = found.per_patient.sort_values("dice").patient.tolist()
    for patient in (*order[:3], *order[-3:]):
        assert f"{patient}: Dice" in page
    codes = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(codes) == 3 + len(found.pictures)
    colors = [
        {color for _, color in Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB").getcolors(10**5)}
        for code in codes
    ]
    assert min(map(len, colors)) > 20
    # Of each patient what is tumour and what was marked.
    assert all({(60, 220, 90), (255, 70, 60)} <= own for own in colors[3:])
    assert f"n = {len(order)}" in page
    assert "2-D slice by slice, pixels" in page and "volumes in voxels" in page


def tables_of(page):
    """Every table of a page, as rows of text."""
    return [
        [
            [html.unescape(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)]
            for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table.*?</table>", page, re.DOTALL)
    ]


def test_the_tables_of_the_page_are_those_of_the_report(evaluated):
    folder = evaluated[1]
    report = json.loads((folder / "report.json").read_text())
    tables = tables_of((folder / "report.html").read_text())
    patients, slices, pooled, confusion, by_pixel, by_slice, each = tables
    header, *rows = patients
    assert header == ["score", "n", "mean", "median", "sd", "95 % interval", "all background"]
    assert [row[0] for row in rows] == list(report["patients"])
    nothing = report["all_background"]["patients"]
    for (name, n, *numbers, interval, none), found in zip(rows, report["patients"].values(), strict=True):
        assert n == "6" and [float(number) for number in numbers] == pytest.approx(
            [found[key] for key in ("mean", "median", "sd")], abs=6e-4
        )
        assert [float(end) for end in interval.split(" to ")] == pytest.approx([found["low"], found["high"]], abs=6e-4)
        assert (none == "") == (name not in nothing)
        assert none == "" or float(none) == pytest.approx(nothing[name]["mean"], abs=6e-4)
    assert slices[0] == ["rule", "mean Dice", "n", "all background"]
    assert {row[0].replace(" ", "_"): int(row[2]) for row in slices[1:]} == {
        rule: found["n"] for rule, found in report["slices"].items()
    }
    for rule, mean, _, none in slices[1:]:
        key = rule.replace(" ", "_")
        expected = report["slices"][key]["mean"], report["all_background"]["slices"][key]["mean"] or 0
        assert (float(mean), float(none or 0)) == pytest.approx(expected, abs=6e-4)
    assert pooled[0] == ["score", "172,800 pixels of 6 patients"]
    expected = report["pooled_pixels"] | {
        "average precision": report["average_precision"],
        "expected calibration error": report["expected_calibration_error"],
    }
    assert (expected.pop("pixels"), expected.pop("patients")) == (6 * 8 * 60 * 60, 6)
    assert {name: float(value) for name, value in pooled[1:]} == pytest.approx(expected, abs=6e-4)
    assert confusion[0] == ["counted by", "tp", "fp", "fn", "tn"]
    assert {row[0]: dict(zip(confusion[0][1:], map(int, row[1:]), strict=True)) for row in confusion[1:]} == report[
        "confusion"
    ]
    for table, by, names in ((by_pixel, "pixels", ["background", "tumour"]), (by_slice, "slices", ["none", "tumour"])):
        assert table[0] == [by, "precision", "recall", "f1-score", "support"]
        assert [row[0] for row in table[1:]] == [*names, "macro avg", "weighted avg"]
        for name, *shares, support in table[1:]:
            found = report["classification_report"][by][name]
            assert [*map(float, shares)] == pytest.approx([found[key] for key in table[0][1:4]], abs=6e-4)
            assert support == str(int(found["support"]))
    rows = pd.read_csv(folder / "per_patient.csv").set_index("patient").sort_values("dice")
    assert [row[0] for row in each[1:]] == rows.index.tolist()
    for name, *cells in each[1:]:
        for column, cell in zip(each[0][1:], cells, strict=True):
            expected = rows[column][name]
            assert cell == expected if column == "role" else float(cell) == pytest.approx(expected, abs=6e-4)
    assert {"role", "dice", "hd95", "lesions", "volume_true", "volume_pred"} < set(each[0])


def test_spacing_turns_distances_into_millimeters_and_3d(predictor, source, evaluated, files):
    found = evaluated[0]
    wide, small = (
        evaluate(predictor, source, split="all", spacing=(step, step, step), tolerance=2 * step) for step in (3, 1)
    )
    np.testing.assert_allclose(wide.per_patient.hd95, 3 * small.per_patient.hd95)
    np.testing.assert_allclose(wide.per_patient.surface_dice, small.per_patient.surface_dice)
    np.testing.assert_allclose(wide.per_patient.volume_true, 0.027 * found.per_patient.volume_true)
    for name, row in small.per_patient.set_index("patient").iterrows():
        forth, back = plain.every_distance(*files[name][:2], (1, 1, 1))
        assert row.hd95 == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    # From slice to slice the tumour's radius changes: in 2-D there is less surface, and it lies further away.
    assert (small.per_patient.surface_dice > found.per_patient.surface_dice).all()
    assert set(wide.per_patient.distances) == {"3-D"} and set(found.per_patient.distances) == {"2-D"}
    keys = ("unit", "volume_unit", "distances", "spacing")
    assert [wide.report[key] for key in keys] == ["mm", "ml", "3-D, mm", [3.0, 3.0, 3.0]]
    assert [found.report[key] for key in keys] == ["pixels", "voxels", "2-D slice by slice, pixels", None]


# ---- the commands


@pytest.mark.slow
def test_commands_from_tuning_to_comparison(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    brightness_model().save(run / "best.keras")
    info = {"channels": list(CHANNELS), "preprocessing": {"size": 60, "blur": 0.0, "clahe": 0.0}}
    (run / "run.json").write_text(json.dumps(info))
    before = brainseg("evaluate", "--model", run, "--data", folder, "--split", "val", "-o", "before", cwd=tmp_path)
    assert before.returncode == 0, before.stderr
    assert re.search(r"Dice per patient 0\.\d{3} \(95 % interval none: too few patients\), .* n = 1", before.stdout)
    tuned = brainseg("tune", "--model", run, "--data", folder, "--json", cwd=tmp_path)
    assert tuned.returncode == 0, tuned.stderr
    assert json.loads(tuned.stdout)["tried"] > 100
    assert "Warning: Chosen among 340 settings on 1 validation patient: " in tuned.stderr
    after = brainseg("evaluate", "--model", run, "--data", folder, "--split", "val", "--json", cwd=tmp_path)
    assert after.returncode == 0, after.stderr
    report = json.loads(after.stdout)
    assert report["postprocessing"]["threshold"] == json.loads(tuned.stdout)["threshold"]
    assert (run / "evaluation" / "val" / "report.html").is_file()
    compared = brainseg("compare", run, "before", "--json", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    dice = json.loads(compared.stdout)["dice"]
    assert dice["difference"] >= 0
    # Of one patient.
    assert (dice["low"], dice["high"], dice["p_bootstrap"], dice["favors"]) == (None, None, None, "none")
