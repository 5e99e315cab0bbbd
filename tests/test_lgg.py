"""The LGG reader: the layout as users have it, checksums of pixels, both dialects of data.csv."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainseg_keras.data.decode.images import pixel_checksum, read_image, read_mask
from brainseg_keras.data.formats.lgg import CHANNELS, find_lgg_root, read_clinical, read_lgg
from brainseg_keras.data.inputs.preprocessing import normalize
from brainseg_keras.data.manifest import read_manifest
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.volumes import FileVolumes, iterate_volumes
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
        pixels = np.zeros((16, 16, 3), "uint8")
        pixels[4:8] = number
        Image.fromarray(pixels).save(folder / f"{folder.name}_{number}.tif")
        Image.fromarray(np.where(pixels[..., 0] == 10, 255, 0).astype("uint8")).save(
            folder / f"{folder.name}_{number}_mask.tif"
        )
    table, root = read_lgg(tmp_path)
    assert table.slice.tolist() == [1, 2, 10]
    volume = FileVolumes(table.sample(frac=1, random_state=0), root, CHANNELS).volume(folder.name)
    assert volume.slices == (1, 2, 10)
    assert volume.images[:, 5, 5, 0].tolist() == [1, 2, 10]
    assert volume.masks[:, 5, 5].tolist() == [0, 0, 1]


def test_strangers_among_the_files_are_passed_over(own_phantom):
    before, _ = read_lgg(own_phantom)
    folder = own_phantom / before.patient[0]
    for name in (".DS_Store", "Thumbs.db", "notes.txt", f"._{folder.name}_1.tif"):
        (folder / name).write_bytes(b"no image")
    (own_phantom / "empty").mkdir()
    pd.testing.assert_frame_equal(read_lgg(own_phantom)[0], before)


def test_endings_may_be_spelled_otherwise(own_phantom):
    before, _ = read_lgg(own_phantom)
    folder = own_phantom / before.patient[0]
    for file in list(folder.iterdir()):
        file.rename(file.with_suffix(".TIFF" if file.stem.endswith("_1") else ".tiff"))
    after, _ = read_lgg(own_phantom)
    assert after.slice.tolist() == before.slice.tolist()
    assert after.tumour_pixels.tolist() == before.tumour_pixels.tolist()


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
    assert pixel_checksum(pixels.reshape(-1, 3)) != expected
    assert pixel_checksum(np.asfortranarray(pixels)) == expected
    mask = (np.asarray(Image.open(root / before["mask"][0])) > 0).astype("uint8")
    expected = hashlib.sha256(b"(48, 48)|u1" + mask.tobytes()).hexdigest()
    assert before.mask_sha256[0] == expected


def test_without_checksums_the_columns_are_empty(phantom):
    table, _ = read_lgg(phantom)
    assert (table[["image_sha256", "mask_sha256"]] == "").all(axis=None)
    assert (table.split == "").all()


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
        b"Patient;gender;death01\r\nTCGA_CS_4941;2;1\r\nTCGA_CS_4942;NA;0\r\n",
    ],
    ids=["comma", "semicolon and CRLF", "byte order mark", "NA"],
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
    with pytest.raises(InputError, match=r"No such file: .*absent\.csv"):
        read_clinical(tmp_path / "absent.csv")


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


def test_pixels_of_both_depths_are_read_as_stored(tmp_path):
    deep = np.arange(24, dtype="uint16").reshape(4, 6) * 2000
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif")[..., 0], deep)
    colors = np.arange(72, dtype="uint8").reshape(4, 6, 3)
    Image.fromarray(colors).save(tmp_path / "colors.tif")
    # The order of the channels is the file's own: pre-contrast, FLAIR, post-contrast, and not OpenCV's reverse.
    np.testing.assert_array_equal(read_image(tmp_path / "colors.tif"), colors)


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


@pytest.mark.slow
def test_real_volumes_are_read_checked_and_normalized(lgg):
    """Through the committed manifest: every checksum holds, and no patient's brain falls to black or into the clip."""
    root = find_lgg_root(lgg)
    source = open_source(COMMITTED, root=root)
    slices = 0
    for volume in iterate_volumes(source, "all"):
        assert volume.images.shape[1:] == (256, 256, 3)
        assert volume.masks.any()
        slices += len(volume.slices)
        shown = normalize(volume.images, volume.intensity)[volume.masks.any(axis=(1, 2))]
        middle = np.median(shown[:, 80:176, 80:176], axis=(0, 1, 2))
        assert (middle > 0.5).all()
        assert (middle < 1.5).all()
        tumour = shown[volume.masks[volume.masks.any(axis=(1, 2))] > 0]
        assert 0.9 < np.median(tumour[:, 1]) < 2.5
        assert (shown == 4).mean() < 0.03
    assert slices == 3068
    clinical = read_clinical(root / "data.csv")
    assert len(clinical) == 110
    assert clinical.isna().any(axis=None)
    assert {name.rsplit("_", 1)[0] for name in source.table.patient} <= set(clinical.index)


@pytest.mark.parametrize("content", [b"a", b"\xff\xfe\x00,\x00", b'Patient,"', b""])
def test_a_table_that_is_none_is_named(content, tmp_path):
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"data\.csv"):
        read_clinical(tmp_path / "data.csv")
