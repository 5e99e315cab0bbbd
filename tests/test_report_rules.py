"""By which rules patients are measured, which of them a report shows, and commands that are used wrongly."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from commands import brainseg
from scans import CHANNELS, brightness_model

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.volumes import Volume
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor
from brainseg_keras.reports import evaluate
from brainseg_keras.reports.rules import describe_rules, read_spacing, spacing_text


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
        Predictor(brightness_model()).adapted(preprocessing=Preprocessing(16), channels=CHANNELS),
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


class Growing(Shifted):
    """Eight patients with a tumour of eight rows, of which the network sees ever more, and one without any."""

    PLACES = {f"P_{number}": number for number in range(9)}  # noqa: RUF012
    table = pd.DataFrame({"patient": list(PLACES), "split": "test"})

    def volume(self, patient):
        volume = Shifted.volume(Shifted(self.spacing), "P_0")
        volume.masks[1], volume.images[:] = 0, 80
        if (number := self.PLACES[patient]) < 8:
            volume.masks[2, 4:12, 4:12], volume.masks[3, 4:8, 4:12] = 1, 1
            volume.images[2, 4 : 5 + number, 4:12] = 240
        return dataclasses.replace(volume, patient=patient)


def test_the_page_shows_the_three_worst_and_the_three_best_with_their_fullest_slice():
    found = evaluate(
        Predictor(brightness_model()).adapted(preprocessing=Preprocessing(16), channels=CHANNELS), Growing(None)
    )
    assert (np.diff(found.per_patient.dice) > 0).all()
    assert sorted(found.pictures) == ["P_0", "P_1", "P_2", "P_6", "P_7", "P_8"]
    for patient, (image, truth, answer) in found.pictures.items():
        volume = Growing(None).volume(patient)
        np.testing.assert_array_equal(image, volume.images[2])
        np.testing.assert_array_equal(truth, volume.masks[2] > 0)
        np.testing.assert_array_equal(answer, volume.images[2, ..., 0] > 200)
    # To mark nothing is right for one of nine, and in all of its slices and two of each other's.
    nothing = found.report["all_background"]
    assert nothing["patients"]["dice"]["mean"] == nothing["patients"]["recall"]["mean"] == pytest.approx(1 / 9)
    assert nothing["slices"]["both_empty_is_1"] == {"mean": pytest.approx(20 / 36), "n": 36}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"spacing": (1, 2)}, "three numbers"),
        ({"spacing": (1, 2, 3, 4)}, "three numbers"),
        ({"spacing": (1, 0, 1)}, "spacing"),
        ({"spacing": (1, 1, float("nan"))}, "spacing"),
        ({"tolerance": -1.0}, "tolerance"),
    ],
)
def test_what_cannot_be_measured_with_is_refused(wrong, said):
    predictor = Predictor(brightness_model()).adapted(preprocessing=Preprocessing(16), channels=CHANNELS)
    with pytest.raises(InputError, match=said):
        evaluate(predictor, Shifted(None), **wrong)


@pytest.mark.parametrize(
    ("dimensions", "spacing", "slices", "said"),
    [
        (("2-D", "2-D"), "", (1, 2), "2-D slice by slice, pixels"),
        (("2-D", "2-D"), "", (1, 1), "2-D, pixels"),
        (("3-D", "3-D"), "5.0,1.0,1.0", (2, 2), "3-D, mm"),
        (("2-D", "2-D"), "5.0,1.0,1.0", (1, 1), "2-D, mm"),
        (("2-D", "3-D"), "5.0,1.0,1.0", (1, 2), "3-D, and 2-D of 1 patients of one slice, mm"),
    ],
)
def test_a_report_says_how_distances_were_measured(dimensions, spacing, slices, said):
    rows = pd.DataFrame({"distances": dimensions, "spacing": spacing, "slices": slices})
    rules = describe_rules(rows, None)
    assert rules["distances"] == said
    assert (rules["unit"], rules["volume_unit"]) == (("mm", "ml") if spacing else ("pixels", "voxels"))
    assert rules["spacing"] == ("of each volume" if spacing else None)


@pytest.mark.parametrize(
    "text", ["1.0,2.0", "1.0,2.0,3.0,4.0", "0.0,1.0,1.0", "1.0,-1.0,1.0", "1.0,1.0,inf", "nan,1,1", "x"]
)
def test_a_spacing_in_a_table_is_three_numbers_above_0_or_nothing(text):
    with pytest.raises(ValueError, match=r"not three numbers above 0|could not convert"):
        read_spacing(text)
    for spacing in ((5, 0.9, 0.1), None):
        assert read_spacing(spacing_text(spacing)) == (spacing or ())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("evaluate --model nowhere", "No run folder (with best.keras) at nowhere"),
        ("evaluate --model nowhere -o out", "No model at nowhere"),
        ("evaluate --model lgg --spacing 1,2", "three numbers from 0.001 to 1000.0"),
        ("tune --model nowhere -o out", "No model at nowhere"),
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
