"""tune: choices on validation patients alone, each scored as it would be used, and said wherever they are used."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from scans import CHANNELS, brightness_model, lgg_folder

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.targets import TUMOUR
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.volumes import FileVolumes, Volume, select_patients
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor
from brainseg_keras.postprocessing import Postprocessing, choice_from_info
from brainseg_keras.reports import evaluate, tune

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "evaluation.md"
SETTINGS = ["threshold", "smallest_component", "largest_component", "flip"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(lgg_folder(tmp_path_factory.mktemp("data") / "kaggle_3m"))


class Recording:
    """A source that remembers whom it was asked for."""

    def __init__(self, source):
        self.table, self.channels, self.classes, self._source = source.table, source.channels, source.classes, source
        self.asked = []

    def volume(self, patient):
        self.asked.append(patient)
        return self._source.volume(patient)


def test_tuning_reads_validation_patients_alone_and_finds_the_best_of_all(source, tmp_path):
    network = Predictor(brightness_model()).adapted(preprocessing=Preprocessing(60), channels=CHANNELS)
    recording = Recording(source)
    tuned = tune(network, recording, output=tmp_path)
    assert sorted(set(recording.asked)) == select_patients(source, "val")
    best = tuned.table.mean_dice.max()
    chosen = tuned.table[(tuned.table[SETTINGS] == pd.Series(vars(tuned.postprocessing))).all(axis=1)]
    assert chosen.mean_dice.item() >= best - 1e-3
    again = Predictor(network.model).adapted(
        preprocessing=Preprocessing(60), channels=CHANNELS, postprocessing=tuned.postprocessing
    )
    assert evaluate(again, source, split="val").report["patients"]["dice"]["mean"] == pytest.approx(
        chosen.mean_dice.item()
    )
    assert network.spec.postprocessing == Postprocessing()
    record = json.loads((tmp_path / "postprocess.json").read_text())
    assert record["chosen_on"] == "validation patients"
    assert record["patients"] == select_patients(source, "val")
    assert choice_from_info(record)[0] == tuned.postprocessing


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
    network = Predictor(model).adapted(preprocessing=Preprocessing(32), channels=CHANNELS)
    tuned = tune(network, Spotted())
    table = tuned.table
    assert len(table) == 340
    tried = re.search(
        r"thresholds from (.*) to (.*) by (.*), smallest components of (.*) and (.*) voxels", DOCUMENT.read_text()
    )
    first, last, step, sizes, largest = tried.groups()
    assert sorted(set(table.smallest_component)) == [int(size) for size in (*sizes.split(", "), largest)]
    np.testing.assert_allclose(sorted(set(table.threshold)), np.arange(float(first), float(last) + 0.01, float(step)))
    scores = np.zeros((340, 2))
    for column, volume in enumerate(map(Spotted().volume, ("P_0", "P_1"))):
        truth, maps = volume.masks > 0, {}
        for flip in (False, True):
            maps[flip] = network.probabilities(volume.images, volume.intensity, flip=flip)
        for index, row in enumerate(table.to_dict("records")):
            choice = Postprocessing(**{name: row[name] for name in SETTINGS})
            answer = choice.labels(maps[row["flip"]], network.spec.target) > 0
            hit, wrong = (truth & answer).sum(), (truth ^ answer).sum()
            scores[index, column] = 2 * hit / (2 * hit + wrong)
    np.testing.assert_allclose(table.mean_dice, scores.mean(axis=1), atol=1e-12)
    assert (np.diff(table.mean_dice) <= 0).all()
    assert len(set(table.mean_dice)) > 30
    # Of equals the one that does least: it asks once, keeps all parts, and cuts where it is as sure as not.
    equals = table[table.mean_dice >= table.mean_dice.max() - 1e-3].assign(off=(table.threshold - 0.5).abs())
    simplest = equals.sort_values(["flip", "largest_component", "smallest_component", "off"]).iloc[0]
    assert vars(tuned.postprocessing) == simplest[SETTINGS].to_dict()
    assert len(equals) > 5 and equals.largest_component.any() and not simplest.largest_component
    assert (equals.smallest_component > simplest.smallest_component).any()
    tied = table[table.mean_dice == table.mean_dice.max()]
    assert tied.sort_values(["flip", "largest_component", "smallest_component", "threshold"]).equals(tied)
    assert tuned.record["mean_dice"] == simplest.mean_dice
    plain = table[(table[SETTINGS] == pd.Series(vars(Postprocessing()))).all(axis=1)]
    assert tuned.record["mean_dice_default"] == plain.mean_dice.item() < simplest.mean_dice
    settled = table[(table.threshold == 0.5) & ~table.flip].set_index(["largest_component", "smallest_component"])
    assert settled.mean_dice[True, 0] > settled.mean_dice[False, 30] > settled.mean_dice[False, 0]


@pytest.mark.parametrize(("count", "warned"), [(1, "on 1 validation patient:"), (5, "on 5 validation"), (6, None)])
def test_a_choice_on_few_patients_says_so(count, warned, tmp_path):
    few = Spotted()
    few.table = pd.DataFrame({"patient": [f"P_{number}" for number in range(count)], "split": "val"})
    tuned = tune(
        Predictor(brightness_model()).adapted(preprocessing=Preprocessing(16), channels=CHANNELS), few, output=tmp_path
    )
    record = json.loads((tmp_path / "postprocess.json").read_text())
    assert record == tuned.record and (record["n"], record["tried"]) == (count, 340)
    assert (record["warning"] is None) == (warned is None)
    assert not warned or f"Chosen among 340 settings {warned}" in record["warning"]


def test_what_was_tuned_is_used_and_said(source, tmp_path):
    brightness_model(level=1.05).save(tmp_path / "best.keras")
    info = {"channels": list(CHANNELS), "preprocessing": {"size": 60, "blur": 0.0, "clahe": 0.0}}
    (tmp_path / "run.json").write_text(json.dumps(info))
    assert Predictor(tmp_path).spec.postprocessing == Postprocessing()
    tune(Predictor(tmp_path), source)
    network = Predictor(tmp_path)
    assert network.spec.postprocessing != Postprocessing()
    report = evaluate(network, source, split="val").report
    # One patient of the phantom validates.
    said = report["postprocessing"]["chosen_on"]
    assert said.startswith("validation patients (brainseg tune: the best of 340 settings, n = 1). Chosen among 340 ")
    assert report["role"] == "tuning, chose the postprocessing or the calibration"
    own = FileVolumes(source.table.assign(split="test"), source.root, CHANNELS)
    with pytest.raises(InputError, match="1 chose the postprocessing or calibration of"):
        evaluate(network, own)


def test_components_are_three_dimensional():
    chance = np.zeros((3, 8, 8, 1))
    chance[0:3, 1, 1] = chance[1, 5:7, 5] = 0.9
    assert Postprocessing(smallest_component=3).labels(chance, TUMOUR).sum() == 3
    largest = Postprocessing(largest_component=True).labels(chance, TUMOUR)
    assert largest[:, 1, 1].all() and largest.sum() == 3
    assert Postprocessing(threshold=0.95).labels(chance, TUMOUR).sum() == 0


@pytest.mark.parametrize("text", ["no json", "[]", '{"threshold": 7}', '{"threshold": "x"}', '{"patients": 3}'])
def test_a_damaged_choice_is_named(text, tmp_path):
    brightness_model().save(tmp_path / "best.keras")
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "postprocess.json").write_text(text)
    with pytest.raises(InputError, match=r"postprocess\.json.*Restore it, or tune again"):
        Predictor(tmp_path)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ((0.5, 0, False, False), "threshold 0.5"),
        ((0.5, 1, False, False), "threshold 0.5"),
        ((0.25, 2, False, False), "threshold 0.25, components of 2 voxels or more"),
        (
            (0.4, 30, True, True),
            "threshold 0.4, largest component alone, components of 30 voxels or more, mean with the mirror image",
        ),
    ],
)
def test_a_choice_in_words_says_what_it_does_and_no_more(choice, said):
    assert str(Postprocessing(*choice)) == said


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 1.1}, {"smallest_component": -1}, {"largest_component": 1}, {"flip": "yes"}, {"flip": None}],
)
def test_a_choice_out_of_its_range_is_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=rf"{name} is .*Received: {value!r}"):
        Postprocessing(**wrong)
