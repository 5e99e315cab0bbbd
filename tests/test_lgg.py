"""The LGG reader: the layout as users have it, checksums of pixels, both dialects of data.csv."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainseg_keras.data.images import pixel_checksum, read_image, read_mask
from brainseg_keras.data.lgg import find_lgg_root, read_clinical, read_lgg
from brainseg_keras.data.manifest import read_manifest
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError

COMMITTED = Path(__file__).resolve().parent.parent / "data_manifests" / "lgg.csv"


def test_folder_and_its_parent_are_the_same_data(phantom):
    table, root = read_lgg(phantom)
    assert root == phantom
    pd.testing.assert_frame_equal(table, read_lgg(phantom.parent)[0])
    assert table.patient.nunique() == 6
    assert (table.groupby("patient").slice.apply(list).map(lambda n: n == list(range(1, 9)))).all()


def test_archive_folder_is_found_too(own_phantom, tmp_path):
    moved = tmp_path / "lgg-mri-segmentation"
    moved.mkdir()
    own_phantom.rename(moved / "kaggle_3m")
    assert find_lgg_root(tmp_path) == moved / "kaggle_3m"


def test_slices_count_as_numbers_do(tmp_path):
    folder = tmp_path / "kaggle_3m" / "TCGA_CS_1_2000"
    folder.mkdir(parents=True)
    for number in (10, 2, 1):
        Image.new("RGB", (16, 16), number).save(folder / f"{folder.name}_{number}.tif")
        Image.new("L", (16, 16)).save(folder / f"{folder.name}_{number}_mask.tif")
    assert read_lgg(tmp_path)[0].slice.tolist() == [1, 2, 10]


def test_checksum_is_of_pixels_and_not_of_the_file(own_phantom):
    before, root = read_lgg(own_phantom, checksums=True)
    file = root / before.image[0]
    pixels = np.asarray(Image.open(file))
    Image.fromarray(pixels).save(file, compression="tiff_lzw")
    after, _ = read_lgg(own_phantom, checksums=True)
    assert after.image_sha256[0] == before.image_sha256[0]
    expected = hashlib.sha256(f"{pixels.shape}{pixels.dtype.str}".encode() + pixels.tobytes("C")).hexdigest()
    assert before.image_sha256[0] == expected
    changed = pixels.copy()
    changed[3, 4, 1] ^= 1
    assert pixel_checksum(changed) != expected
    assert pixel_checksum(pixels.astype("uint16")) != expected


def test_tumour_pixels_are_counted(phantom):
    table, root = read_lgg(phantom)
    counted = [int((np.asarray(Image.open(root / name)) > 0).sum()) for name in table["mask"]]
    assert table.tumour_pixels.tolist() == counted
    assert sum(counted) > 0


@pytest.mark.parametrize(
    "content",
    [
        b"Patient,gender,death01\nTCGA_CS_4941,2,1\nTCGA_CS_4942,,0\n",
        b"Patient;gender;death01\r\nTCGA_CS_4941;2;1\r\nTCGA_CS_4942;;0\r\n",
        b"\xef\xbb\xbfPatient;gender;death01\r\nTCGA_CS_4941;2;1\r\nTCGA_CS_4942;;0\r\n",
    ],
    ids=["comma", "semicolon and CRLF", "byte order mark"],
)
def test_both_dialects_of_data_csv(tmp_path, content):
    (tmp_path / "data.csv").write_bytes(content)
    table = read_clinical(tmp_path / "data.csv")
    assert table.index.tolist() == ["TCGA_CS_4941", "TCGA_CS_4942"]
    assert table.gender.isna().tolist() == [False, True]
    assert table.death01.tolist() == [1, 0]


def test_a_table_without_patients_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("name,age\na,1\n")
    with pytest.raises(InputError, match="no column Patient"):
        read_clinical(tmp_path / "data.csv")


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("L", (4, 6, 1)), ("RGB", (4, 6, 3)), ("RGBA", (4, 6, 3)), ("P", (4, 6, 3)), ("I;16", (4, 6, 1))],
)
def test_images_of_every_mode_have_channels_last(tmp_path, mode, shape):
    Image.new(mode, (6, 4)).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png").shape == shape


@pytest.mark.parametrize("tumour", [1, 255])
def test_masks_become_zeros_and_ones(tmp_path, tumour):
    pixels = np.zeros((5, 5), "uint8")
    pixels[1:3, 2] = tumour
    Image.fromarray(pixels).save(tmp_path / "mask.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), pixels > 0)


def test_one_bit_masks_are_masks(tmp_path):
    Image.new("1", (4, 4), 1).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[1] * 4] * 4


def test_committed_manifest_has_the_fixed_split():
    table = read_manifest(COMMITTED)
    assert len(table) == 3068
    assert (table.tumour_pixels > 0).sum() == 1056
    assert table.groupby("split").patient.nunique().to_dict() == {"train": 68, "val": 10, "test": 10}
    assert table.image_sha256.str.fullmatch("[0-9a-f]{64}").all()
    assert table.mask_sha256.str.fullmatch("[0-9a-f]{64}").all()


@pytest.mark.slow
def test_real_data_are_those_of_the_committed_manifest(lgg):
    table, _ = read_lgg(lgg, checksums=True)
    committed = read_manifest(COMMITTED)
    ours = table[table.patient.isin(committed.patient)].reset_index(drop=True).drop(columns="split")
    pd.testing.assert_frame_equal(ours, committed.drop(columns="split"))
    source = open_source(lgg)
    splits = source.table.drop_duplicates("patient").set_index("patient").split
    expected = committed.drop_duplicates("patient").set_index("patient").split
    assert splits[expected.index].equals(expected)
