"""benchmarks/robustness.py and fine_tuning.py: what each strength does, worked out by hand, and whom they score."""

import dataclasses
import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.volumes import Volume
from brainseg_keras.inference.predictor import Predictor

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import fine_tuning
import robustness

LGG = ("T1", "FLAIR", "T1ce")
CHANGES = {corruption.name: corruption.change for corruption in robustness.corruptions(LGG)}


def volume_of(images, background=0.0, tissue=100.0):
    """A patient of one channel whose background and tissue are known."""
    images = np.asarray(images)
    images = images[..., np.newaxis] if images.ndim == 3 else images
    levels = np.tile(np.float32([[background, tissue]]), (images.shape[-1], 1))
    return Volume("A", images, np.zeros(images.shape[:3], np.uint8), tuple(range(len(images))), levels)


def changed(name, volume, strength, channels=("FLAIR",)):
    return CHANGES[name](volume, strength, channels, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "strength", "before", "after"),
    [
        ("gain", 1.5, [0, 100, 160, 200], [0, 150, 240, 255]),
        ("gain", 0.25, [0, 100, 7, 255], [0, 25, 2, 64]),
        ("offset", 0.5, [0, 100, 200, 220], [50, 150, 250, 255]),
        ("offset", -0.25, [0, 20, 100, 200], [0, 0, 75, 175]),
        # A quarter of the tissue's level becomes a half; tissue stays; twice the tissue would be four times.
        ("contrast", 0.5, [0, 25, 100, 144], [0, 50, 100, 120]),
        ("contrast", 2.0, [0, 50, 100, 200], [0, 25, 100, 255]),
    ],
)
def test_bytes_stay_bytes_and_are_clipped(name, strength, before, after):
    result = changed(name, volume_of(np.uint8([[before]])), strength)
    assert result.images.dtype == np.uint8
    assert result.images.ravel().tolist() == after


@pytest.mark.parametrize(("name", "strength", "after"), [("gain", 2, [-1, 1, 3]), ("offset", 0.5, [0, 1, 2])])
def test_a_background_below_nothing_is_the_zero_of_every_strength(name, strength, after):
    """Background -1, tissue 1: half way, 0, is one half of the tissue's level."""
    result = changed(name, volume_of(np.float32([[[-1, 0, 1]]]), -1.0, 1.0), strength)
    np.testing.assert_allclose(result.images.ravel(), after, atol=1e-6)


def test_intensities_are_measured_anew():
    images = np.zeros((1, 40, 40), np.uint8)
    images[:, 10:30, 10:30] = 100
    assert changed("gain", volume_of(images), 1.5).intensity.tolist() == [[0, 150]]


def test_noise_has_its_spread_and_grows_with_its_strength_alone():
    flat = volume_of(np.full((2, 100, 100), 100, np.uint8))
    noise = changed("noise", flat, 0.1).images.astype(float) - 100
    assert abs(noise.mean()) < 0.3 and 9.8 < noise.std() < 10.2
    weak, strong = (changed("noise", volume_of(np.zeros((2, 9, 9), np.float32)), s).images for s in (0.1, 0.4))
    np.testing.assert_allclose(strong, 4 * weak, rtol=1e-5)
    assert (weak[0] != weak[1]).any()


def test_one_bias_field_for_all_slices_and_sequences():
    images = np.full((3, 24, 32, 2), 50, np.float32)
    logarithms = np.log(changed("bias field", volume_of(images), 0.4).images / 50)
    assert np.abs(logarithms).max() == pytest.approx(0.4, abs=1e-5)
    np.testing.assert_allclose(logarithms, np.broadcast_to(logarithms[:1, ..., :1], logarithms.shape), atol=1e-6)


def test_blur_spreads_a_point_as_a_gaussian_does():
    point = np.zeros((1, 41, 41), np.float32)
    point[0, 20, 20] = 1
    spread = changed("blur", volume_of(point), 2).images[0, ..., 0]
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert spread[20, 20] == pytest.approx(1 / (2 * np.pi * 4), rel=0.03)
    assert spread[20, 22] / spread[20, 20] == pytest.approx(np.exp(-0.5), rel=0.03)


def test_low_resolution_averages_the_pixels_that_become_one():
    stripes = np.tile(np.uint8([0, 0, 100, 100]), (1, 8, 4))
    assert (changed("low resolution", volume_of(stripes), 4).images == 50).all()
    assert changed("low resolution", volume_of(stripes), 2).images.max() > 50


def test_a_rotation_turns_image_and_truth_alike():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2, 20, 20, 3), np.uint8)
    volume = dataclasses.replace(volume_of(images, background=7), masks=rng.integers(0, 4, (2, 20, 20), np.uint8))
    turned = changed("rotation", volume, 90, LGG)
    np.testing.assert_array_equal(turned.images, np.rot90(images, axes=(1, 2)))
    np.testing.assert_array_equal(turned.masks, np.rot90(volume.masks, axes=(1, 2)))
    turned = changed("rotation", volume, 45, LGG)
    assert (turned.images[:, 0, 0] == 7).all() and (turned.masks[:, 0, 0] == 0).all()


def test_another_sequence_stands_in_for_one_that_is_missing():
    volume = volume_of(np.tile(np.uint8([10, 20, 30]), (1, 8, 8, 1)))
    missing = next(c for c in robustness.corruptions(LGG) if c.name == "missing").strengths
    found = {names: changed("missing", volume, names, LGG).images[0, 0, 0].tolist() for names in missing}
    assert found == {
        ("T1",): [20, 20, 30],
        ("FLAIR",): [10, 10, 30],
        ("T1ce",): [10, 20, 20],
        ("T1", "T1ce"): [20, 20, 20],
    }
    assert [c.name for c in robustness.corruptions(["FLAIR"])] == [n for n in CHANGES if n != "missing"]


@pytest.fixture(scope="module")
def measured(finished, store):
    """A tiny network on its validation patients; a gain of 1 changes nothing, one of 0.1 much."""
    chosen = [
        robustness.Corruption("gain", "factor", (1, 0.1), CHANGES["gain"]),
        robustness.Corruption("rotation", "degrees", (90,), CHANGES["rotation"]),
    ]
    return robustness.measure(Predictor(finished.path), open_source(store), chosen, split="val", seed=0)


def test_corrupted_patients_keep_their_roles(finished, store):
    """By their pixels they would be strangers."""
    predictor, gain = Predictor(finished.path), robustness.Corruption("gain", "factor", (0.5,), CHANGES["gain"])
    source = robustness.CorruptedVolumes(open_source(store), gain, 0.5)
    scored = (robustness.known_by_name(predictor), predictor)
    roles = [set(robustness.evaluate(one, source, split="val").per_patient.role) for one in scored]
    assert roles == [{"val"}, {"unseen"}]


def test_each_corruption_is_compared_patient_by_patient(measured, finished):
    tuned = finished.read_info()["validation"]["dice"]
    assert measured["dice"] == pytest.approx(tuned, abs=1e-6) and measured["n"] == len(tuned)
    assert measured["role"].startswith("validation")
    same, darker, turned = measured["rows"]
    assert all(row["dice"].keys() == tuned.keys() for row in measured["rows"])
    assert same["dice"] == measured["dice"] and same["change"]["difference"] == 0
    for row in (darker, turned):
        assert row["dice"] != measured["dice"]
        by_hand = np.mean([row["dice"][name] - measured["dice"][name] for name in tuned])
        assert row["change"]["difference"] == pytest.approx(by_hand)


def test_the_table_says_who_was_scored(measured, tmp_path):
    text = robustness.in_markdown(measured, "command", "curves.svg")
    lines = text.splitlines()
    assert "choose nothing" not in text and f"n = {measured['n']} patients" in text
    assert "| factor | none | 1 | 0.1 |" in lines and "| degrees | none | 90 |" in lines
    assert (
        f"| mean Dice | {measured['mean']:.3f} | {measured['mean']:.3f} | {measured['rows'][1]['mean']:.3f} |" in lines
    )
    tested = measured | {"split": "test", "role": "test, chose nothing"}
    assert "They choose nothing here" in robustness.in_markdown(tested, "command", "curves.svg")
    for name in ("a.svg", "b.svg"):
        robustness.draw(measured, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    json.dumps(measured)


# ---- fine-tuning


def test_the_rows_differ_in_where_they_start_alone():
    options = Namespace(data="d", labels="msd", modalities="FLAIR", folds=3, batch_size=8, minutes=0.5, init="lgg")
    scratch, *others = (fine_tuning.configs(row, options) for row in fine_tuning.rows_of("lgg").values())
    assert [config.fold for config in scratch] == [1, 2, 3]
    assert (scratch[0].architecture, scratch[0].filters, scratch[0].size) == ("attention_res_unet", 16, 128)
    for other in others:
        for ours, theirs in zip(scratch, other, strict=True):
            pairs = (dataclasses.asdict(config).items() for config in (ours, theirs))
            apart = {first[0] for first, second in zip(*pairs, strict=True) if first != second}
            assert apart - {"freeze"} == {"init", "adapt", "learning_rate"}


def test_a_row_of_the_table():
    patients = pd.DataFrame(
        {"patient": ["B", "A"], "dice": [0.5, 0.75], "precision": [0.25, 1.0], "recall": [1.0, 0.5]}
    )
    assert fine_tuning.table_row("x", patients, 4) == "| x | 4.0 | 0.625 | 0.625 | 0.750 | 0.750 | 0.500 |"
    assert fine_tuning.table_row("x", patients, None).startswith("| x |  | 0.625")


@pytest.mark.slow
def test_each_patient_is_scored_once_a_row(finished, tmp_path):
    """The tiny network, on patients that it has not met and of whom FLAIR alone is read."""
    data, page = write_phantom(tmp_path / "data", patients=3, slices=6, size=32, seed=9), tmp_path / "table.md"
    words = [
        "--init",
        finished.path,
        "--data",
        data,
        "--modalities=FLAIR",
        "--minutes=0.05",
        "--batch-size=2",
        "-o",
        page,
    ]
    fine_tuning.main([str(word) for word in words])
    lines = page.read_text().splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    names = sorted(open_source(data, seed=None).table.patient.unique())
    assert table[0] == ["network", "epochs", "Dice, mean", "precision", "recall", *names] and len(table) == 2 + 5
    for row in table[2:]:
        assert float(row[2]) == pytest.approx(np.mean([float(dice) for dice in row[5:]]), abs=0.0011)
