"""Patients against each other in `data check`: slices that are one, sizes that differ, classes that a split lacks."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_findings import plain, volume

from brainseg_keras.data.checking import checks


def prints(edges, likeness, owners=("A", "B")):
    """Two slices whose edges and thumbnails have these products."""

    def pair(product):
        return np.array([[1.0, 0.0], [product, np.sqrt(1 - product**2)]])

    return pd.DataFrame(
        {
            "patient": owners,
            "slice": [3, 5],
            "sha256": ["a", "b"],
            "thumbnail": list(pair(likeness)),
            "hash": list(pair(edges)),
        }
    )


def source(**splits):
    table = pd.DataFrame({"patient": list(splits), "split": list(splits.values()), "dataset": "pairs"})
    pixels = plain(5)[..., np.newaxis]
    return SimpleNamespace(
        table=table, classes=("tumour",), volume=lambda name: volume(pixels, np.zeros((5, 100, 100)), name)
    )


@pytest.mark.parametrize(
    ("edges", "likeness", "same"), [(0.81, 0.996, True), (0.79, 0.996, False), (0.81, 0.994, False), (1, 1, True)]
)
def test_slices_are_the_same_when_edges_and_thumbnails_agree(edges, likeness, same):
    findings = checks._same_slices(prints(edges, likeness), source(A="train", B="test"))
    assert bool(findings) == same
    if same:
        (finding,) = findings
        assert (finding.severity, finding.patients) == ("error", ("A", "B"))
        assert "A, slice 3, and B, slice 5, are nearly the same" in finding.text and "train and test" in finding.text
        assert [picture.caption for picture in finding.pictures] == ["A, slice 3", "B, slice 5"]


def test_one_patients_own_slices_resemble_each_other_rightly():
    assert checks._same_slices(prints(1, 1, owners=("A", "A")), source(A="train")) == []


def test_within_one_split_a_copy_is_a_warning():
    (finding,) = checks._same_slices(prints(1, 1), source(A="train", B="train"))
    assert finding.severity == "warning" and "train and train" not in finding.text


def test_of_many_pairs_the_likest_is_named_and_the_others_counted():
    many = pd.concat([prints(1, 0.996), prints(1, 0.9999)], ignore_index=True)
    many["slice"], many["sha256"] = [1, 3, 2, 4], list("abcd")
    # Each pair lies in a plane of its own.
    for name in ("thumbnail", "hash"):
        many[name] = [np.kron([n < 2, n >= 2], vector) for n, vector in enumerate(many[name])]
    (finding,) = checks._same_slices(many, source(A="train", B="test"))
    assert "A, slice 2, and B, slice 4" in finding.text and "(correlation 0.9999), and 1 more" in finding.text


def test_of_many_pairs_twenty_are_shown():
    owners = list("ABCDEFG")
    alike = pd.DataFrame({"patient": owners, "slice": 3, "sha256": "same"})
    alike["thumbnail"] = alike["hash"] = [np.array([1.0, 0.0])] * 7
    findings = checks._same_slices(alike, source(**dict.fromkeys(owners, "train")))
    assert [len(finding.pictures) for finding in findings] == [2] * 20 + [0]
    assert all("are the same, and 0 more" in finding.text for finding in findings)


@pytest.mark.parametrize("pair", [(0, 2047), (1022, 1023), (1023, 1024), (1024, 2047), (2047, 2048)])
def test_two_slices_among_thousands_are_found_wherever_they_stand(pair):
    many = pd.DataFrame({"patient": list("AB" * 1025), "slice": 3, "sha256": "same"})
    for index, patient, number in zip(pair, "AB", (1, 5), strict=True):
        many.loc[index, ["patient", "slice"]] = patient, number
    many["thumbnail"] = many["hash"] = [np.array([float(index in pair)]) for index in range(2050)]
    (finding,) = checks._same_slices(many, source(A="train", B="test"))
    assert "A, slice 1, and B, slice 5, are the same, and 0 more" in finding.text


@pytest.mark.parametrize(("bright", "kept"), [(799, 0), (800, 1)])
def test_a_slice_that_shows_less_than_eight_hundredths_is_not_compared(bright, kept):
    """Slices above and below the brain look alike in all patients."""
    pixels = np.zeros((1, 100, 100), np.uint8)
    pixels.flat[:bright] = 9  # above a tenth of 80
    assert len(checks._fingerprints(volume(pixels, np.zeros(pixels.shape)), ("FLAIR",))) == kept


def test_slices_are_compared_in_flair():
    pixels = np.stack([np.zeros((1, 100, 100)), plain(1) % 251], axis=-1)
    (row,) = checks._fingerprints(volume(pixels, np.zeros((1, 100, 100))), ("T1", "FLAIR")).to_dict("records")
    assert row["slice"] == 1 and row["thumbnail"].shape == (24 * 24,)
    assert np.linalg.norm(row["thumbnail"]) == pytest.approx(1, rel=1e-4)
    assert np.linalg.norm(row["hash"]) == pytest.approx(1)
    assert len(checks._fingerprints(volume(pixels, np.zeros((1, 100, 100))), ("T1", "T2"))) == 0


def test_what_is_brighter_than_twice_the_tissue_is_compared_as_that():
    pixels = np.zeros((4, 100, 100), np.uint8)
    pixels[:, 20:80, 20:80] = 80
    pixels[:, 30:50, 30:50] = np.array([140, 160, 170, 255])[:, None, None]
    prints = checks._fingerprints(volume(pixels, np.zeros(pixels.shape)), ("FLAIR",)).thumbnail
    assert [np.allclose(prints[n], prints[3]) for n in range(4)] == [False, True, True, True]


def test_edges_are_steps_of_more_than_three_hundredths():
    signs = checks._edge_signs(np.float32([[0, 0.04, 0], [0.02, 0.04, 0.08]]))
    # Along the rows, then along the columns: five of seven are steps.
    np.testing.assert_allclose(signs * 4**0.5, [1, -1, 0, 1, 0, 0, 1])


def test_what_an_image_calls_black_does_not_matter():
    """Some scanners begin at 0 and others at 1000: a head is the same one in both."""
    pixels, masks = np.uint16(plain(1) % 251), np.zeros((1, 100, 100))
    pixels[:, :30] = 0
    whole = volume(pixels, masks)
    other = replace(whole, images=whole.images + 1000, intensity=whole.intensity + 1000)
    one, same = (checks._fingerprints(each, ("FLAIR",)).loc[0] for each in (whole, other))
    assert one["sha256"] != same["sha256"]
    for name in ("thumbnail", "hash"):
        assert np.ptp(one[name]) > 0
        np.testing.assert_allclose(one[name], same[name], atol=1e-5)


def test_who_differs_from_most_is_named():
    names = [f"P_{n}" for n in range(15)]
    spacings = [(4.0, 1.0, 1.0)] * 8 + [(step, 1.0, 1.0) for step in (5.004, 5.001, 5.0, 5.0, 5.0, 5.0)] + [None]
    table = pd.DataFrame({"patient": names, "spacing": spacings, "orientation": ["LPS"] * 14 + ["RAS"]})
    findings = {(one.check, one.severity, one.patients): one.text for one in checks._differing(table)}
    assert list(findings) == [
        ("spacing", "warning", tuple(names[8:14])),
        ("spacing", "warning", ("P_14",)),
        ("orientation", "note", ("P_14",)),
    ]
    assert "P_8, P_9, P_10, P_11, P_12 and others: spacing (5" in findings["spacing", "warning", tuple(names[8:14])]
    assert "P_14: orientation RAS; most have LPS" in findings["orientation", "note", ("P_14",)]


def test_five_are_all_named_and_a_fiftieth_of_a_millimeter_is_a_difference():
    table = pd.DataFrame(
        {"patient": [f"P_{n}" for n in range(12)], "spacing": [(5.0, 1.0, 1.0)] * 11 + [(5.02, 1.0, 1.0)]}
    )
    spacing, orientation = checks._differing(table.assign(orientation=["LPS"] * 7 + ["RAS"] * 5))
    assert orientation.text.startswith("P_7, P_8, P_9, P_10, P_11: orientation RAS; most have LPS")
    assert spacing.patients == ("P_11",)


def test_a_split_without_tumour_is_an_error_where_it_trains():
    none, some = np.array([True, False]), np.array([True, True])
    present = {"A": none, "B": none, "C": some}
    findings = checks._missing_classes(source(A="train", B="val", C="test"), present)
    assert [(one.check, one.severity) for one in findings] == [("missing-class", "error"), ("missing-class", "warning")]
    assert "No train patient has any tumour: it cannot be learned" in findings[0].text
    assert "No val patient has any tumour: it cannot be scored" in findings[1].text
