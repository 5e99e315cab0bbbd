"""evaluate, tune and compare: every figure recomputed from the mask files, choices on validation patients alone."""

import json
import re

import keras
import numpy as np
import pandas as pd
import pytest
from commands import brainseg
from PIL import Image
from scans import CHANNELS, brightness_model, lgg_folder
from sklearn.metrics import classification_report

from brainseg_keras.data.preprocessing import Preprocessing
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.volumes import Volume, iterate_volumes, select_patients
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Postprocessing, Predictor, predict
from brainseg_keras.reports import compare, evaluate, tune


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
    return Predictor(model, preprocessing=Preprocessing(60), channels=CHANNELS, postprocessing=chosen)


@pytest.fixture(scope="module")
def evaluated(predictor, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return evaluate(predictor, source, split="all", output=folder), folder


def ratio(numerator, denominator, wrong):
    return numerator / denominator if denominator else float(wrong == 0)


def test_every_figure_is_that_of_the_mask_files(evaluated, predictor, folder, tmp_path):
    """Predict to PNG, read both masks back with Pillow, count with NumPy: nothing of the package but `predict`."""
    _, report_folder = evaluated
    predict([folder], tmp_path, predictor=predictor, overlays=False)
    table = pd.read_csv(report_folder / "per_patient.csv").set_index("patient")
    slices = pd.read_csv(report_folder / "per_slice.csv").set_index(["patient", "slice"])
    dices, slice_dices, empties = {}, [], []
    pooled = np.zeros(4, int)
    for patient in sorted(path for path in folder.iterdir() if path.is_dir()):
        counts = np.zeros(4, int)
        for number in range(1, 9):
            name = f"{patient.name}_{number}_mask"
            truth = np.array(Image.open(patient / f"{name}.tif")) > 0
            answer = np.array(Image.open(tmp_path / patient.name / f"{name}.png")) > 0
            tp, fp, fn = (truth & answer).sum(), (~truth & answer).sum(), (truth & ~answer).sum()
            counts += (tp, fp, fn, (~truth & ~answer).sum())
            slice_dices.append(ratio(2 * tp, 2 * tp + fp + fn, 0))
            empties.append(not truth.any() and not answer.any())
            assert slices.dice[patient.name, number] == pytest.approx(slice_dices[-1], abs=1e-12)
        tp, fp, fn, tn = counts
        row = table.loc[patient.name]
        assert row[["tp", "fp", "fn", "tn"]].tolist() == counts.tolist()
        expected = {
            "dice": ratio(2 * tp, 2 * tp + fp + fn, fp + fn),
            "iou": ratio(tp, tp + fp + fn, fp + fn),
            "precision": ratio(tp, tp + fp, fp + fn),
            "recall": ratio(tp, tp + fn, fp + fn),
            "specificity": ratio(tn, tn + fp, fp + fn),
            "pixel_accuracy": (tp + tn) / counts.sum(),
            "volume_error": fp - fn,
        }
        assert row[list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)
        dices[patient.name] = expected["dice"]
        pooled += counts
    report = json.loads((report_folder / "report.json").read_text())
    values = list(dices.values())
    assert report["patients"]["dice"]["n"] == len(values) == 6
    assert report["patients"]["dice"]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert report["patients"]["dice"]["median"] == pytest.approx(np.median(values), abs=1e-12)
    assert report["patients"]["dice"]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    tp, fp, fn, tn = pooled.tolist()
    assert report["confusion"]["pixels"] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    assert report["pooled_pixels"]["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-12)
    full = np.repeat([1, 0, 1, 0], [tp, fp, fn, tn])
    marked = np.repeat([1, 1, 0, 0], [tp, fp, fn, tn])
    expected = classification_report(full, marked, target_names=["background", "tumour"], output_dict=True)
    assert report["classification_report"]["pixels"]["tumour"] == pytest.approx(expected["tumour"])
    slice_dices, empties = np.array(slice_dices), np.array(empties)
    assert report["slices"]["both_empty_skipped"]["n"] == (~empties).sum() < len(empties)
    assert report["slices"]["both_empty_skipped"]["mean"] == pytest.approx(slice_dices[~empties].mean())
    assert report["slices"]["both_empty_is_0"]["mean"] == pytest.approx(slice_dices[~empties].sum() / len(empties))
    assert report["slices"]["both_empty_is_1"]["n"] == len(empties)
    assert 0.2 < np.mean(values) < 1, "a test on masks that are all right or all wrong shows little"


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


def test_report_says_what_was_chosen_and_on_whom(evaluated, predictor, source):
    found, _ = evaluated
    assert found.report["postprocessing"]["threshold"] == 0.4
    assert found.report["role"].startswith("mixed")
    assert evaluate(predictor, source, split="test").report["role"] == "test, chose nothing"
    assert evaluate(predictor, source, split="val").report["role"] == "validation, chose the checkpoint"
    assert found.report["unit"] == "pixels"


def test_the_page_stands_alone_and_shows_the_extremes(evaluated):
    found, folder = evaluated
    page = (folder / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    order = found.per_patient.sort_values("dice").patient.tolist()
    for patient in (*order[:3], *order[-3:]):
        assert f"{patient}: Dice" in page
    assert page.count("data:image/png;base64,") == 3 + len(found.pictures)
    assert f"n = {len(order)}" in page


def test_spacing_turns_distances_into_millimetres(predictor, source, evaluated):
    wide = evaluate(predictor, source, split="all", spacing=(3, 3, 3), tolerance=6)
    np.testing.assert_allclose(wide.per_patient.hd95, 3 * evaluated[0].per_patient.hd95)
    np.testing.assert_allclose(wide.per_patient.surface_dice, evaluated[0].per_patient.surface_dice)
    np.testing.assert_allclose(wide.per_patient.volume_true, 0.027 * evaluated[0].per_patient.volume_true)
    assert wide.report["unit"] == "mm"


class Shifted:
    """Patients with one pixel of tumour, each bright in a place that lies elsewhere along one axis."""

    PLACES = {"P_0": (2, 0, 0), "P_1": (0, 3, 0), "P_2": (0, 0, 4)}  # noqa: RUF012
    table = pd.DataFrame({"patient": list(PLACES), "split": "test"})
    channels, classes = CHANNELS, ("tumour",)

    def __init__(self, spacing):
        self.spacing = spacing

    def volume(self, patient):
        truth, bright = np.zeros((4, 16, 16), np.uint8), np.full((4, 16, 16), 80, np.uint8)
        truth[1, 5, 5] = 1
        slices, rows, columns = self.PLACES[patient]
        bright[1 + slices, 5 + rows, 5 + columns] = 240
        images = np.repeat(bright[..., np.newaxis], 3, axis=-1)
        intensity = np.array([[0.0, 80.0]] * 3)
        return Volume(patient, images, truth, (1, 2, 3, 4), intensity, self.spacing)


@pytest.mark.parametrize("given", [None, (5, 2, 1)])
def test_each_axis_has_a_size_of_its_own(given):
    """2 slices of 5 mm, 3 rows of 2 mm, 4 columns of 1 mm, whether the file says so or, before it, the user."""
    source = Shifted((1, 1, 1) if given else (5, 2, 1))
    found = evaluate(
        Predictor(brightness_model(), preprocessing=Preprocessing(16), channels=CHANNELS),
        source,
        spacing=given,
        tolerance=5,
    )
    assert found.per_patient.hd95.tolist() == found.per_patient.average_surface_distance.tolist() == [10, 6, 4]
    assert found.per_patient.surface_dice.tolist() == [0, 0, 1]
    assert found.per_patient.volume_true.tolist() == pytest.approx([0.01] * 3)
    assert found.per_patient.volume_pred.tolist() == pytest.approx([0.01] * 3)
    assert found.report["unit"] == "mm" and found.report["surface_dice_tolerance"] == 5
    assert found.report["spacing"] == ([5.0, 2.0, 1.0] if given else "of each volume")


# ---- tuning


class Recording:
    """A source that remembers whom it was asked for."""

    def __init__(self, source):
        self.table, self.channels, self.classes, self._source = source.table, source.channels, source.classes, source
        self.asked = []

    def volume(self, patient):
        self.asked.append(patient)
        return self._source.volume(patient)


def test_tuning_reads_validation_patients_alone_and_finds_the_best_of_all(source, tmp_path):
    network = Predictor(brightness_model(), preprocessing=Preprocessing(60), channels=CHANNELS)
    recording = Recording(source)
    tuned = tune(network, recording, output=tmp_path)
    assert sorted(set(recording.asked)) == select_patients(source, "val")
    best = tuned.table.mean_dice.max()
    chosen = tuned.table[
        (tuned.table[list(Postprocessing.names())] == pd.Series(vars(tuned.postprocessing))).all(axis=1)
    ]
    assert chosen.mean_dice.item() >= best - 1e-3
    again = Predictor(
        network.model, preprocessing=Preprocessing(60), channels=CHANNELS, postprocessing=tuned.postprocessing
    )
    assert evaluate(again, source, split="val").report["patients"]["dice"]["mean"] == pytest.approx(
        chosen.mean_dice.item()
    )
    assert network.postprocessing == Postprocessing()
    record = json.loads((tmp_path / "postprocess.json").read_text())
    assert record["chosen_on"] == "validation patients"
    assert record["patients"] == select_patients(source, "val")
    assert Postprocessing.read(tmp_path, {}) == tuned.postprocessing


class Spotted:
    """Two validation patients with a tumour and spots of several sizes, of uneven brightness."""

    table = pd.DataFrame({"patient": ["P_0", "P_1"], "split": "val"})
    channels, classes = CHANNELS, ("tumour",)

    def volume(self, patient):
        rng = np.random.default_rng(int(patient[-1]))
        truth, bright = np.zeros((4, 32, 32), bool), np.zeros((4, 32, 32), bool)
        truth[1:4, 6:18, 6:18], bright[1:4, 5:17, 7:19] = True, True
        bright[0:2, 24:30, 3:9] = bright[3, 24:27, 24:27] = bright[0, 2:4, 28:30] = True
        images = np.where(bright, rng.integers(120, 145, bright.shape), 80).astype(np.uint8)
        images = np.repeat(images[..., np.newaxis], 3, axis=-1)
        return Volume(patient, images, truth.astype(np.uint8), (1, 2, 3, 4), np.array([[0.0, 80.0]] * 3))


def test_everything_that_is_tried_is_scored_as_it_would_be_used():
    """The answer has parts of several sizes, so that the largest, the smallest and those below a size differ."""
    image = keras.Input((32, 32, 3))
    # Looks at the pixel to the left, so that a mirrored slice is answered otherwise.
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="left")(image))
    kernel = np.zeros((3, 3, 3, 1), "float32")
    kernel[1, 0] = 20 / 3
    model.get_layer("left").set_weights([kernel, np.array([-20 * 1.6], "float32")])
    network = Predictor(model, preprocessing=Preprocessing(32), channels=CHANNELS)
    table = tune(network, Spotted()).table
    assert len(table) == 340
    scores = np.zeros((340, 2))
    for column, volume in enumerate(map(Spotted().volume, ("P_0", "P_1"))):
        truth, maps = volume.masks > 0, {}
        for flip in (False, True):
            network.postprocessing = Postprocessing(flip=flip)
            maps[flip] = network.probabilities(volume.images, volume.intensity)
        for place, row in enumerate(table.to_dict("records")):
            network.postprocessing = Postprocessing(**{name: row[name] for name in Postprocessing.names()})
            answer = network.masks(maps[row["flip"]]) > 0
            hit, wrong = (truth & answer).sum(), (truth ^ answer).sum()
            scores[place, column] = 2 * hit / (2 * hit + wrong)
    np.testing.assert_allclose(table.mean_dice, scores.mean(axis=1), atol=1e-12)
    assert (np.diff(table.mean_dice) <= 0).all()
    assert len(set(table.mean_dice)) > 30
    settled = table[(table.threshold == 0.5) & ~table.flip].set_index(["largest_component", "smallest_component"])
    assert settled.mean_dice[True, 0] > settled.mean_dice[False, 30] > settled.mean_dice[False, 0]


@pytest.mark.parametrize(("count", "warned"), [(1, "on 1 validation patient:"), (5, "on 5 validation"), (6, None)])
def test_a_choice_on_few_patients_says_so(count, warned, tmp_path):
    few = Spotted()
    few.table = pd.DataFrame({"patient": [f"P_{number}" for number in range(count)], "split": "val"})
    tuned = tune(
        Predictor(brightness_model(), preprocessing=Preprocessing(16), channels=CHANNELS), few, output=tmp_path
    )
    record = json.loads((tmp_path / "postprocess.json").read_text())
    assert record == tuned.record and (record["n"], record["tried"]) == (count, 340)
    assert (record["warning"] is None) == (warned is None)
    assert not warned or f"Chosen among 340 settings {warned}" in record["warning"]


def test_what_was_tuned_is_used_and_said(source, tmp_path):
    brightness_model(level=1.05).save(tmp_path / "best.keras")
    info = {"channels": list(CHANNELS), "preprocessing": {"size": 60, "blur": 0.0, "clahe": 0.0}}
    (tmp_path / "run.json").write_text(json.dumps(info))
    assert Predictor(tmp_path).postprocessing == Postprocessing()
    tune(Predictor(tmp_path), source)
    network = Predictor(tmp_path)
    assert network.postprocessing != Postprocessing()
    report = evaluate(network, source, split="val").report
    # One patient of the phantom validates.
    said = report["postprocessing"]["chosen_on"]
    assert said.startswith("validation patients (brainseg tune: the best of 340 settings, n = 1). Chosen among 340 ")
    assert report["role"] == "validation, chose the checkpoint and the postprocessing"


def test_components_are_three_dimensional():
    chance = np.zeros((3, 8, 8))
    chance[0:3, 1, 1] = chance[1, 5:7, 5] = 0.9
    assert Postprocessing(smallest_component=3)(chance).sum() == 3
    assert Postprocessing(largest_component=True)(chance)[:, 1, 1].all()
    assert Postprocessing(largest_component=True)(chance).sum() == 3
    assert Postprocessing(threshold=0.95)(chance).sum() == 0


@pytest.mark.parametrize("text", ["no json", '{"threshold": 7}', '{"threshold": "x"}'])
def test_a_damaged_choice_is_named(text, tmp_path):
    (tmp_path / "postprocess.json").write_text(text)
    with pytest.raises(InputError, match=r"postprocess\.json is not what brainseg tune writes"):
        Postprocessing.read(tmp_path, {})


# ---- comparing


def test_comparison_is_by_patient_whatever_the_order(evaluated, predictor, source, tmp_path):
    _, folder = evaluated
    worse = Predictor(
        predictor.model,
        preprocessing=Preprocessing(60),
        channels=CHANNELS,
        postprocessing=Postprocessing(threshold=0.99),
    )
    evaluate(worse, source, split="all", output=tmp_path / "worse")
    table = pd.read_csv(tmp_path / "worse" / "per_patient.csv")
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "worse" / "per_patient.csv", index=False)
    result = compare(folder, tmp_path / "worse" / "per_patient.csv")["dice"]
    first = pd.read_csv(folder / "per_patient.csv").set_index("patient").dice
    expected = (first - table.set_index("patient").dice).mean()
    assert result.difference == pytest.approx(expected)
    assert result.n == 6


def test_other_patients_and_other_masks_are_refused(evaluated, tmp_path):
    _, folder = evaluated
    table = pd.read_csv(folder / "per_patient.csv")
    table.iloc[1:].to_csv(tmp_path / "fewer.csv", index=False)
    with pytest.raises(InputError, match="different patients"):
        compare(folder, tmp_path / "fewer.csv")
    table.assign(fn=table.fn + 1).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(InputError, match="other masks"):
        compare(folder, tmp_path / "other.csv")
    (tmp_path / "text.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not what `brainseg evaluate` writes"):
        compare(folder, tmp_path / "text.csv")
    with pytest.raises(InputError, match=r"holds no per_patient\.csv"):
        compare(folder, tmp_path / "absent")


# ---- the commands


@pytest.mark.slow
def test_commands_from_tuning_to_comparison(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    brightness_model().save(run / "best.keras")
    info = {"channels": list(CHANNELS), "preprocessing": {"size": 60, "blur": 0.0, "clahe": 0.0}}
    (run / "run.json").write_text(json.dumps(info))
    before = brainseg("evaluate", run, "--data", folder, "--split", "val", "-o", "before", cwd=tmp_path)
    assert before.returncode == 0, before.stderr
    assert re.search(r"Dice per patient 0\.\d{3} \(95 % interval .* n = 1", before.stdout)
    tuned = brainseg("tune", run, "--data", folder, "--json", cwd=tmp_path)
    assert tuned.returncode == 0, tuned.stderr
    assert json.loads(tuned.stdout)["tried"] > 100
    assert "Warning: Chosen among 340 settings on 1 validation patient: " in tuned.stderr
    after = brainseg("evaluate", run, "--data", folder, "--split", "val", "--json", cwd=tmp_path)
    assert after.returncode == 0, after.stderr
    report = json.loads(after.stdout)
    assert report["postprocessing"]["threshold"] == json.loads(tuned.stdout)["threshold"]
    assert (run / "evaluation" / "val" / "report.html").is_file()
    compared = brainseg("compare", run, "before", "--json", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    assert json.loads(compared.stdout)["dice"]["difference"] >= 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("evaluate nowhere", "No run folder (with best.keras) at nowhere"),
        ("evaluate nowhere -o out", "No model at nowhere"),
        ("evaluate lgg --spacing 1,2", "three numbers from 0.001 to 1000.0"),
        ("tune nowhere -o out", "No model at nowhere"),
        ("compare a b", "holds no per_patient.csv"),
        ("evaluate", "say where the results go"),
    ],
)
def test_wrong_usage_ends_with_a_message_and_code_2(arguments, words, tmp_path):
    done = brainseg(*arguments.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
