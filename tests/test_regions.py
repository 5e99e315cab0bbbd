"""Several classes from training to NIfTI: scores of each region, tuning, prediction in the file's own array."""

import dataclasses
import json

import keras
import nibabel
import numpy as np
import pandas as pd
import pytest
from commands import brainseg
from test_reports import tables_of
from volumes import head, write_patient

from brainseg_keras import TrainingConfig, train
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.labels import region_masks
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import score_patient
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports import evaluate, tune


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three patients whose labels show in the brightness: tissue 80, then 180, 200 and 220."""
    root = tmp_path_factory.mktemp("volumes")
    for number in range(3):
        write_patient(root / f"P_{number}", f"P_{number}", seed=number)
    return root


def classifier(folder):
    """A run of a network that reads the labels off the first channel's brightness, and is sometimes wrong."""
    image = keras.Input((None, None, 2))
    answer = keras.layers.Conv2D(4, 1, activation="softmax", name="c")(image)
    model = keras.Model(image, answer)
    # Logits are lines in brightness x (tissue is 1): the envelope changes at 1.6, 2.29 and 2.55, off the middle,
    # so that some pixels are wrong.
    slopes = np.array([0, 60, 100, 140], "float32")
    edges = [1.6, 2.29, 2.55]
    bias = np.concatenate([[0], -np.cumsum(np.diff(slopes) * edges)]).astype("float32")
    kernel = np.zeros((1, 1, 2, 4), "float32")
    kernel[0, 0, 0] = slopes
    model.get_layer("c").set_weights([kernel, bias])
    folder.mkdir()
    model.save(folder / "best.keras")
    info = {
        "channels": ["FLAIR", "T1ce"],
        "target": "classes",
        "preprocessing": {"size": 32, "blur": 0.0, "clahe": 0.0},
    }
    (folder / "run.json").write_text(json.dumps(info))
    return folder


def test_each_region_is_scored_as_by_hand(folder, tmp_path):
    predictor, source = Predictor(classifier(tmp_path / "run")), open_source(folder)
    found = evaluate(predictor, source, split="all", output=tmp_path / "report")
    table = pd.read_csv(tmp_path / "report" / "per_region.csv")
    assert len(table) == 9 and len(found.per_patient) == 3
    for patient in ("P_0", "P_1", "P_2"):
        volume = source.volume(patient)
        # The source has T1ce before FLAIR; the network wants FLAIR first.
        images = volume.images[..., ::-1]
        answer = predictor.masks(predictor.probabilities(images))
        assert 0.5 < (answer == volume.masks).mean() < 1
        for name, truth in region_masks(volume.masks).items():
            expected = score_patient(truth, region_masks(answer)[name], spacing=(4, 2, 1))
            (row,) = table[(table.patient == patient) & (table.region == name)].to_dict("records")
            assert {key: row[key] for key in expected} == pytest.approx(expected)
    report = found.report
    assert report["unit"] == "mm" and report["spacing"] == "of each volume"
    for name, scores in report["regions"].items():
        assert scores["dice"]["mean"] == pytest.approx(table[table.region == name].dice.mean())
        assert scores["dice"]["n"] == 3
    whole = table[table.region == "whole tumour"].reset_index(drop=True)
    pd.testing.assert_series_equal(whole.dice, found.per_patient.dice)
    page = (tmp_path / "report" / "report.html").read_text()
    (shown,) = (rows for rows in tables_of(page) if rows[0][0] == "region")
    assert "Regions, as BraTS scores them" in page
    assert [row[0] for row in shown[1:]] == list(report["regions"]) and {row[-1] for row in shown[1:]} == {"3"}
    for name, *cells, _ in shown[1:]:
        for column, cell in zip(shown[0][1:-1], cells, strict=True):
            score, figure = column.lower().split(", ")
            assert float(cell) == pytest.approx(report["regions"][name][score][figure], abs=6e-4)


def test_tuning_scores_the_mean_over_regions(folder, tmp_path):
    predictor, source = Predictor(classifier(tmp_path / "run")), open_source(folder)
    tuned = tune(predictor, source)
    (patient,) = tuned.record["patients"]
    volume = source.volume(patient)
    maps = predictor.probabilities(volume.images[..., ::-1])
    for row in tuned.table.sample(25, random_state=0).to_dict("records"):
        if row["flip"]:
            continue
        choice = Postprocessing(row["threshold"], row["smallest_component"], row["largest_component"])
        answer = predictor.adapted(postprocessing=choice).masks(maps)
        scores = [
            score_patient(truth, region_masks(answer)[name])["dice"]
            for name, truth in region_masks(volume.masks).items()
        ]
        assert row["mean_dice"] == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAL"])
def test_labels_come_back_in_the_files_own_array(tmp_path, axes):
    predictor = Predictor(classifier(tmp_path / "run"))
    write_patient(tmp_path / "in", "P_9", seed=4, axes=axes)
    predict([tmp_path / "in"], tmp_path / "out", predictor=predictor, probabilities=True)
    image = nibabel.load(tmp_path / "in" / "P_9_flair.nii.gz")
    mask = nibabel.load(tmp_path / "out" / "P_9_mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.shape == image.shape
    truth = np.asarray(nibabel.load(tmp_path / "in" / "P_9_seg.nii.gz").dataobj)
    answer = np.array([0, 1, 2, 4])[np.asarray(mask.dataobj)]
    assert (answer == truth)[truth > 0].mean() > 0.6 and ((answer > 0) == (truth > 0)).mean() > 0.99
    assert len(list((tmp_path / "out").glob("P_9_probability_*.nii.gz"))) == 4


def test_mixed_units_are_refused(folder, tmp_path):
    source = open_source(folder)

    class Mixed:
        table, channels, classes = source.table, source.channels, source.classes

        def volume(self, patient):
            volume = source.volume(patient)
            return dataclasses.replace(volume, spacing=None) if patient == "P_1" else volume

    predictor = Predictor(classifier(tmp_path / "run"))
    with pytest.raises(InputError, match=r"P_1 has no spacing.*--spacing"):
        evaluate(predictor, Mixed(), split="all")
    assert evaluate(predictor, Mixed(), split="all", spacing=(4, 2, 1)).report["spacing"] == [4.0, 2.0, 1.0]


def test_whole_tumour_alone_where_the_network_says_no_more(folder):
    image = keras.Input((32, 32, 1))
    network = keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(image))
    found = evaluate(Predictor(network).adapted(preprocessing=Preprocessing(32)), open_source(folder), split="all")
    assert "regions" not in found.report and found.per_region.empty
    # One channel, and the data have two: FLAIR by its name.
    assert found.report["unit"] == "mm"


@pytest.mark.parametrize("target", ["tumour", "classes", "regions"])
def test_a_run_remembers_what_it_was_asked_for(folder, tmp_path, target):
    config = TrainingConfig(
        data=str(folder),
        modalities="FLAIR",
        target=target,
        context=1,
        architecture="res_unet",
        filters=4,
        depth=2,
        size=32,
        epochs=2,
        batch_size=4,
    )
    run = train(config, output=tmp_path / "run")
    info = run.read_info()
    assert (info["target"], info["context"], info["channels"]) == (target, 1, ["FLAIR"])
    history = pd.read_csv(run.history)
    columns = {"val_dice_whole_tumour", "val_dice_tumour_core", "val_dice_enhancing_tumour"}
    assert columns <= set(history) if target != "tumour" else not columns & set(history)
    if target != "tumour":
        np.testing.assert_allclose(history[sorted(columns)].mean(axis=1), history.val_dice, rtol=1e-6)
    # A fresh process scores the same patient as the run did when it chose its checkpoint.
    done = brainseg("evaluate", "--model", run.path, "--data", folder, "--split", "val", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert ("regions" in report) == (target != "tumour")
    means = [report["regions"][name]["dice"]["mean"] for name in report.get("regions", {})]
    scored = np.mean(means) if means else report["patients"]["dice"]["mean"]
    assert scored == pytest.approx(info["validation"]["mean_dice"], abs=0.02)


def test_the_truth_of_a_volume_is_that_of_its_maker(folder):
    _, labels = head(2)
    np.testing.assert_array_equal(open_source(folder).volume("P_2").masks, labels)
