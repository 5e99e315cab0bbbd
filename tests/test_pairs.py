"""Plain folders of images/ and masks/: who is a patient, what is a mask."""

import numpy as np
import pytest
from PIL import Image

from brainseg_keras.data.formats.pairs import read_pairs
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError


def write_pair(root, name, *, seed=0, image_ending=".png", mask_name=None, values=(0, 255), channels=1):
    rng = np.random.default_rng(seed)
    shape = (24, 20) if channels == 1 else (24, 20, channels)
    pixels = rng.integers(0, 200, shape).astype("uint8")
    mask = np.zeros((24, 20), np.uint8)
    for index, value in enumerate(values[1:]):
        mask[5 + 3 * index : 8 + 3 * index, 4:9] = value
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / "images" / f"{name}{image_ending}")
    Image.fromarray(mask).save(root / "masks" / f"{mask_name or name}.png")
    return pixels, mask


def test_patients_by_what_stands_before_the_number(tmp_path):
    written = {}
    for patient in ("A_1", "A_2", "B"):
        for number in (1, 2, 10):
            written[patient, number] = write_pair(tmp_path, f"{patient}_{number}", seed=number)
    source = open_source(tmp_path)
    assert source.table.groupby("patient").slice.apply(list).to_dict() == {p: [1, 2, 10] for p in ("A_1", "A_2", "B")}
    volume = source.volume("A_2")
    np.testing.assert_array_equal(volume.images[2, ..., 0], written["A_2", 10][0])
    np.testing.assert_array_equal(volume.masks[2], written["A_2", 10][1] > 0)
    assert source.table.groupby("patient").split.nunique().eq(1).all()


def test_patients_by_a_pattern(tmp_path):
    for patient in range(3):
        for letter in "abc":
            write_pair(tmp_path, f"scan{letter}of{patient}")
    source = open_source(tmp_path, image_pattern=r"scan[a-z]of(?P<patient>\d+)")
    assert source.table.patient.value_counts().to_dict() == {"0": 3, "1": 3, "2": 3}


def test_jpeg_images_and_masks_named_after_them(tmp_path):
    for patient in "ABC":
        write_pair(tmp_path, f"{patient}_1", image_ending=".jpg", mask_name=f"{patient}_1_mask", channels=3)
    source = open_source(tmp_path)
    assert source.channels == ("red", "green", "blue")
    assert open_source(tmp_path, modalities="T1,FLAIR,T1ce").channels == ("T1", "FLAIR", "T1ce")
    assert source.volume("B").masks.sum() == 15


def test_label_numbers_by_a_scheme(tmp_path):
    for patient in "ABC":
        write_pair(tmp_path, f"{patient}_1", values=(0, 1, 2, 4))
    volume = open_source(tmp_path, labels="brats2020").volume("C")
    assert np.bincount(volume.masks.ravel()).tolist()[1:] == [15, 15, 15]
    with pytest.raises(InputError, match=r"A_1\.png with the values \[2, 4\]"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: (root / "masks" / "A_1.png").unlink(), r"A_1\.png has no mask"),
        (lambda root: (root / "images" / "A_1.png").unlink(), r"masks/A_1\.png has no image"),
        (lambda root: write_pair(root, "A_1", image_ending=".jpg"), r"A_1\.jpg and .*images/A_1\.png bear one name"),
        (lambda root: write_pair(root, "nameless"), "nameless does not fit.*makes each picture a patient"),
        (lambda root: write_pair(root, "D_1", mask_name="D_1", values=(0, 7)), r"D_1\.png with the values \[7\]"),
    ],
)
def test_refusals(tmp_path, damage, said):
    for patient in "ABC":
        write_pair(tmp_path, f"{patient}_1")
    damage(tmp_path)
    with pytest.raises(InputError, match=rf"(?s){said}"):
        open_source(tmp_path)


def test_folders_without_pictures_or_with_one_side_in_color(tmp_path):
    with pytest.raises(InputError, match="has no images/ and masks/ in it"):
        read_pairs(tmp_path)
    write_pair(tmp_path, "A_1")
    pixels = np.zeros((24, 20, 3), np.uint8)
    for scheme, said in (("brats2020", r"Received: .*masks/A_1\.png with 3\. Save label"), ("binary", "3 channels")):
        Image.fromarray(pixels).save(tmp_path / "masks" / "A_1.png")
        with pytest.raises(InputError, match=rf"A mask has one channel\..*{said}"):
            read_pairs(tmp_path, labels=scheme)
    with pytest.raises(InputError, match=r"--labels is one of .*binary.* Received: 'brats1999'"):
        read_pairs(tmp_path, labels="brats1999")
    for folder in ("images", "masks"):
        (tmp_path / folder / "A_1.png").rename(tmp_path / folder / "A_1.txt")
    with pytest.raises(InputError, match=r"images holds no pictures\. Expected \.png"):
        read_pairs(tmp_path)


def test_signs_that_look_like_numbers_are_counted(tmp_path):
    for name in ("A_x\u00b2", "A_x\u00b3"):
        write_pair(tmp_path, name)
    table, _ = read_pairs(tmp_path, image_pattern=r"(?P<patient>.)_x(?P<slice>.)")
    assert table.slice.tolist() == [1, 2]


@pytest.mark.parametrize("pattern", ["(?P<patient>", r"(\d+)"])
def test_patterns_that_are_none(tmp_path, pattern):
    write_pair(tmp_path, "A_1")
    with pytest.raises(InputError, match="image-pattern"):
        open_source(tmp_path, image_pattern=pattern)
