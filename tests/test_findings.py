"""The thresholds of `data check`, each from both sides, on pictures whose figures were worked out by hand."""

import re

import numpy as np
import pytest

from brainseg_keras.data.checking.findings import check_volume
from brainseg_keras.data.inputs.preprocessing import intensity_range
from brainseg_keras.data.labels import CLASSES
from brainseg_keras.data.phantom.lgg import phantom_volume
from brainseg_keras.data.volumes import Volume

TISSUE = 80


def volume(pixels, masks, patient="P"):
    """Slices `(slices, height, width[, channels])`, background 0 and tissue 80."""
    pixels, masks = np.asarray(pixels), np.asarray(masks, np.uint8)
    images = pixels if pixels.ndim == 4 else pixels[..., np.newaxis]
    intensity = np.array([[0.0, TISSUE]] * images.shape[-1])
    return Volume(patient, images, masks, tuple(range(1, len(images) + 1)), intensity)


def found(*arguments, channels=("FLAIR",), classes=("tumour",)):
    return {finding.check: finding for finding in check_volume(volume(*arguments), channels, classes)}


# ---- where the mask lies


def head(slices=1):
    pixels = np.zeros((slices, 64, 64), np.uint8)
    pixels[:, 10:50, 10:50] = TISSUE
    return pixels


@pytest.mark.parametrize(("outside", "wrong"), [(4, False), (5, True)])
def test_one_pixel_of_a_hundred_may_lie_outside_the_head(outside, wrong):
    pixels, masks = head(), np.zeros((1, 64, 64), bool)
    masks[0, 20:40, 20:40] = masks[0, 60, :outside] = True
    # 4 of 404 are 0.99 %, 5 of 405 are 1.2 %.
    finding = found(pixels, masks).get("mask-outside-head")
    assert bool(finding) == wrong
    assert not wrong or (finding.severity == "error" and "P: 1% of the mask" in finding.text)


@pytest.mark.parametrize(("level", "wrong"), [(8, True), (9, False)])
def test_the_head_begins_at_a_tenth_of_the_tissue(level, wrong):
    pixels, masks = head(), np.zeros((1, 64, 64), bool)
    pixels[0, :, 52:60], masks[0, :, 52:60] = level, True
    assert ("mask-outside-head" in found(pixels, masks)) == wrong


def test_what_is_dark_inside_the_head_is_inside():
    pixels, masks = head(), np.zeros((1, 64, 64), bool)
    pixels[0, 20:30, 20:30], masks[0, 18:32, 18:32] = 0, True
    assert "mask-outside-head" not in found(pixels, masks)
    # Also of a head that the picture shows in three parts.
    pixels[0, 33:35] = pixels[0, 15:17] = 0
    pixels[0, 40:44, 20:30], masks[0, 38:46, 18:32] = 0, True
    pixels[0, 12, 20:30], masks[0, 11:14, 20:30] = 0, True
    masks[0, 18:32, 18:32] = False
    masks[0, 19:31, 19:31] = True
    assert "mask-outside-head" not in found(pixels, masks)


def test_one_channel_is_enough_to_be_the_head():
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 20:30, 20:30] = True
    pixels = np.stack([head(), np.zeros_like(head())], axis=-1)
    assert "mask-outside-head" not in found(pixels, masks, channels=("FLAIR", "T1"))


def test_the_slice_that_is_shown_is_the_worst():
    masks = np.zeros((3, 64, 64), bool)
    masks[:, 20:30, 20:30] = masks[0, 60, :9] = masks[1, 60:62, :9] = True
    (picture,) = found(head(3), masks)["mask-outside-head"].pictures
    assert picture.caption == "P, slice 2"
    np.testing.assert_array_equal(picture.mask, masks[1])


def stripe(rows, column, *, long=72, side=160):
    """Two columns of a mask; the picture is all head, so that nothing but the stripe has contrast."""
    mask = np.zeros((1, side, side), bool)
    mask[0, rows : rows + long, column : column + 2] = True
    return mask


def shift(mask, *bright):
    """Where the check would move a mask, given what is how bright."""
    pixels = np.full(mask.shape, TISSUE, np.uint8)
    for place, value in bright:
        pixels[place] = value
    finding = found(pixels, mask).get("mask-shifted")
    return finding and finding.text.split("better ")[1].split(". ")[0]


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (0, 0, None),
        (0, 8, None),  # no farther than a hand may slip
        (0, 10, "0 pixels up and 10 right"),
        (0, -10, "0 pixels up and 10 left"),
        (6, 30, "6 pixels down and 30 right"),
        (-6, -30, "6 pixels up and 30 left"),
        (0, 64, "0 pixels up and 64 right"),  # as far as it looks
        (0, 66, None),
    ],
)
def test_a_mask_belongs_where_it_has_contrast(rows, columns, said):
    column = 80 if columns < 0 else 20
    assert shift(stripe(40, column), (stripe(40 + rows, column + columns), 180)) == said


@pytest.mark.parametrize(("long", "said"), [(58, None), (60, "0 pixels up and 20 right")])
def test_a_mask_of_fewer_than_30_pixels_of_half_the_size_says_nothing(long, said):
    assert shift(stripe(40, 20, long=long), (stripe(40, 40, long=long), 180)) == said


@pytest.mark.parametrize(("value", "said"), [(95, None), (98, "0 pixels up and 20 right")])
def test_contrast_is_a_fifth_of_the_tissue_or_none(value, said):
    """95 is 0.1875 above the tissue, 98 is 0.225."""
    assert shift(stripe(40, 20), (stripe(40, 40), value)) == said


@pytest.mark.parametrize(("value", "said"), [(91, "0 pixels up and 20 right"), (93, None)])
def test_a_mask_with_some_contrast_of_its_own_stays(value, said):
    """Elsewhere 100 / 80 = 1.25, of which 0.12 are 0.15; here 11 / 80 = 0.1375, or 13 / 80 = 0.1625."""
    assert shift(stripe(40, 20), (stripe(40, 40), 180), (stripe(40, 20), value)) == said


@pytest.mark.parametrize(("value", "said"), [(94, "0 pixels up and 20 right"), (96, None)])
def test_what_is_brighter_than_two_and_a_half_times_the_tissue_counts_as_that(value, said):
    """Elsewhere 1.5 above the tissue, of which 0.12 are 0.18; here 14 / 80 = 0.175, or 16 / 80 = 0.2."""
    assert shift(stripe(40, 20), (stripe(40, 40), 255), (stripe(40, 20), value)) == said


def disc(row, column, *, radius=15, side=160):
    y, x = np.mgrid[:side, :side]
    return (np.hypot(y - row, x - column) < radius)[np.newaxis]


def test_the_mask_of_a_dark_cyst_is_not_called_shifted_to_what_is_bright():
    """Its outline follows an edge; of the same picture, a mask that was shifted off the bright lesion is found."""
    bright, cyst = disc(80, 100), disc(80, 60)
    assert shift(cyst, (bright, 180), (cyst, 15)) is None
    assert shift(np.roll(bright, -40, axis=2), (bright, 180)) == "0 pixels up and 40 right"
    # Half on the cyst and half on plain tissue: dark inside, and no edge along its outline.
    assert (
        shift(np.roll(bright, -54, axis=2), (bright, 180), (disc(80, 60, radius=9), 40)) == "0 pixels up and 54 right"
    )


@pytest.mark.parametrize(("level", "said"), [(45, None), (55, "0 pixels up and 40 right")])
def test_an_edge_of_three_tenths_is_enough(level, said):
    """The tumour is 100 above the tissue; a cyst of 45 is 35 below it, one of 55 is 25 below."""
    assert shift(disc(80, 50), (disc(80, 90), 180), (disc(80, 50), level)) == said


def test_shifted_masks_of_phantoms_are_mostly_found_and_true_ones_never():
    """What the same test of real patients asks, of heads from a formula; the way back is said to two pixels or so."""
    caught = 0
    for index in range(8):
        images, masks = phantom_volume(8, index, slices=12, size=96)
        for moved in ((0, 0), (18, 14), (-16, 12)):
            shown = Volume("P", images, np.roll(masks, moved, (1, 2)), tuple(range(12)), intensity_range(images))
            said = [one for one in check_volume(shown, ("T1", "FLAIR", "T1ce"), ("tumour",)) if "mask" in one.check]
            assert not said or moved != (0, 0), said
            caught += bool(said)
            for finding in said:
                if finding.check == "mask-shifted":
                    rows, upward, columns, left = re.search(
                        r"(\d+) pixels (\w+) and (\d+) (\w+)", finding.text
                    ).groups()
                    back = int(rows) * (-1 if upward == "up" else 1), int(columns) * (-1 if left == "left" else 1)
                    assert np.hypot(back[0] + moved[0], back[1] + moved[1]) <= 4
    assert caught >= 12


def test_larger_slices_of_the_mask_count_for_more():
    """One slice says 20 to the right and a longer one 30: the longer one has it."""
    mask = np.concatenate([stripe(40, 20, long=60), stripe(40, 20, long=90)])
    bright = np.concatenate([stripe(40, 40, long=60), stripe(40, 50, long=90)])
    assert shift(mask, (bright, 180)) == "0 pixels up and 30 right"


def test_a_picture_too_small_to_move_anything_in_is_left_alone():
    mask = stripe(0, 2, long=16, side=16)
    mask[0, :, :8] = True
    assert shift(mask, (~mask, 180)) is None


# ---- values


def plain(slices=5):
    """Every pixel another, so that nothing is saturated, blank or bright in the corners."""
    return np.tile(np.arange(10_000, dtype=np.uint16).reshape(100, 100), (slices, 1, 1))


def blank(pixels, *places):
    pixels[list(places)] = 7
    return pixels


def test_a_blank_slice_with_a_mask_is_an_error_and_shown():
    masks = np.zeros((5, 100, 100), bool)
    masks[3, 50:60, 50:60] = True
    finding = found(blank(plain(), 1, 3), masks)["blank-slice"]
    # The warning of the same name comes after it.
    every = check_volume(volume(blank(plain(), 1, 3), masks), ("FLAIR",), ("tumour",))
    error, warning = (one for one in every if one.check == "blank-slice")
    assert error.severity == "error" and "P: slice 4 is blank and yet has a mask" in error.text
    assert [picture.caption for picture in error.pictures] == ["P, slice 4"]
    assert finding == warning and "P: 2 blank slices between others (first: 2)" in warning.text
    masks[1, 50:60, 50:60] = True
    every = check_volume(volume(blank(plain(), 1, 3), masks), ("FLAIR",), ("tumour",))
    first, _ = (one for one in every if one.check == "blank-slice")
    assert "slice 2 is blank and yet" in first.text and first.pictures[0].caption == "P, slice 2"


@pytest.mark.parametrize(
    ("places", "wrong"), [((0,), False), ((4,), False), ((0, 1), False), ((0, 2), True), ((), False)]
)
def test_blank_slices_above_and_below_the_head_are_as_they_should_be(places, wrong):
    masks = np.zeros((5, 100, 100), bool)
    assert ("blank-slice" in found(blank(plain(), *places), masks)) == wrong


@pytest.mark.parametrize(("count", "wrong"), [(200, False), (201, True)])
def test_two_pixels_of_a_hundred_may_have_the_largest_value(count, wrong):
    pixels = plain(1)
    pixels.flat[-count:] = 9999
    finding = found(pixels, np.zeros(pixels.shape)).get("saturated")
    assert bool(finding) == wrong
    assert not wrong or "P: 2.0% of FLAIR have its largest value, 9999" in finding.text


@pytest.mark.parametrize("darkest", [0, 50])
@pytest.mark.parametrize(("value", "wrong"), [(30, False), (31, True)])
def test_the_background_may_be_bright_by_15_hundredths(value, wrong, darkest):
    """200 from darkest to brightest: the median of the corners at the left above and at the right below may be 30."""
    pixels = np.full((1, 100, 100), 100, np.uint8)
    pixels[0, 50, 50:60], pixels[0, 60, 60] = 0, 200
    # In just more than half of the eight rows and columns of each, and most of all in the last of them.
    for corner in (pixels[0, :8, :8], pixels[0, -8:, -8:][::-1, ::-1]):
        corner[7], corner[:, 7], corner.flat[:20] = value, value, value
    finding = found(pixels + np.uint8(darkest), np.zeros(pixels.shape)).get("bright-background")
    assert bool(finding) == wrong
    assert not wrong or (finding.severity == "note" and f"median {31 + darkest}" in finding.text)


def test_every_pair_of_copies_is_named():
    pixels = np.stack([plain(1), plain(1) + 1, plain(1), plain(1)], axis=-1)
    finding = found(pixels, np.zeros((1, 100, 100)), channels=("T1", "T2", "T1ce", "FLAIR"))["copied-modality"]
    assert "P: T1 and T1ce, T1 and FLAIR, T1ce and FLAIR are the same pictures" in finding.text


@pytest.mark.parametrize(
    ("edema", "enhancing", "count", "wrong"),
    [(100, 90, 20, True), (100, 90, 19, False), (100, 100, 20, True), (100, 101, 20, False)],
)
def test_enhancing_tumour_is_brighter_than_edema(edema, enhancing, count, wrong):
    pixels, masks = np.full((2, 16, 16, 2), 80, np.uint8), np.zeros((2, 16, 16), np.uint8)
    pixels[..., 0] = np.arange(16)
    masks[0, 2], masks[0, 3] = 2, 2
    masks[1].flat[:count] = 3
    pixels[masks == 2, 1], pixels[masks == 3, 1] = edema, enhancing
    finding = found(pixels, masks, channels=("FLAIR", "T1ce"), classes=CLASSES).get("label-scheme")
    assert bool(finding) == wrong
    assert not wrong or [picture.caption for picture in finding.pictures] == ["P, slice 2"]
    # Of data that know one class, and without T1ce, nothing can be said.
    assert "label-scheme" not in found(pixels, masks, channels=("FLAIR", "T1ce"))
    assert "label-scheme" not in found(pixels, masks, channels=("FLAIR", "T2"), classes=CLASSES)
