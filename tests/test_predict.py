"""Masks from any image: every kind of file, sizes that come back, patients, batches, classes."""

from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from PIL import Image
from scans import CHANNELS, GRAY, PICTURES, SHAPE, brightness_model, dicom_file, disc, nifti_file, overlap, slice_of
from volumes import write_volume

from brainseg_keras import build_model
from brainseg_keras.data.inputs.preprocessing import Preprocessing, intensity_range
from brainseg_keras.data.scans import find_scans
from brainseg_keras.data.volumes import Volume
from brainseg_keras.errors import InputError
from brainseg_keras.export import export
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.inference.measures import largest_diameter
from brainseg_keras.inference.predictor import ArrangedVolumes
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.spec import NetworkSpec


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model()).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)


@pytest.mark.parametrize("name", PICTURES)
def test_each_kind_of_picture(name, predictor, tmp_path):
    file = tmp_path / name
    PICTURES[name](file)
    done = predict([file], tmp_path / "out", predictor=predictor)
    mask = np.array(Image.open(tmp_path / "out" / f"{file.stem}_mask.png"))
    assert mask.shape == GRAY.shape
    assert set(np.unique(mask)) == {0, 255}
    assert overlap(mask > 0, disc()) > 0.9
    overlay = np.array(Image.open(tmp_path / "out" / f"{file.stem}_overlay.png"))
    assert (overlay == (255, 70, 60)).all(axis=-1).any()
    row = done.summary.iloc[0]
    assert row.file == str(file)
    assert row.tumour_size == (mask > 0).sum()
    # The DICOM file says 0.8 mm between rows, where the others speak of pixels.
    assert row.largest_diameter == pytest.approx(2 * 14 * (0.8 if name.endswith("dcm") else 1), abs=3)
    assert row.confidence > 0.9
    assert not done.failures


@pytest.mark.parametrize("shape", [(250, 333), (512, 512), (16, 16), (17, 300), (300, 17), (64, 64)])
def test_sizes_come_back(shape, predictor, tmp_path):
    height, width = shape
    truth = disc(shape, radius=min(shape) / 4)
    Image.fromarray(slice_of(shape, truth)).save(tmp_path / "slice.png")
    predict([tmp_path / "slice.png"], tmp_path / "out", predictor=predictor, probabilities=True)
    mask = np.array(Image.open(tmp_path / "out" / "slice_mask.png"))
    chance = np.array(Image.open(tmp_path / "out" / "slice_probability.png"))
    assert mask.shape == chance.shape == (height, width)
    assert chance.dtype == np.uint16
    np.testing.assert_array_equal(mask > 0, chance > 0.5 * 65535)
    if min(shape) > 64:
        assert overlap(mask > 0, truth) > 0.93


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ALI"])
def test_nifti_comes_back_in_its_own_array(axes, ending, predictor, tmp_path):
    import nibabel

    file, truth = nifti_file(tmp_path / f"scan{ending}", axes)
    done = predict([file], tmp_path / "out", predictor=predictor, probabilities=True)
    source, mask = nibabel.load(file), nibabel.load(tmp_path / "out" / f"scan_mask{ending}")
    np.testing.assert_array_equal(mask.affine, source.affine)
    header, expected = dict(mask.header), dict(source.header)
    changed = {"datatype", "bitpix", "scl_slope", "scl_inter", "cal_max", "cal_min"}
    for key in header.keys() - changed:
        np.testing.assert_array_equal(header[key], expected[key], err_msg=key)
    answer = np.asarray(mask.dataobj)
    assert answer.dtype == np.uint8
    assert answer.shape == source.shape
    assert overlap(answer > 0, truth) > 0.9
    chance = nibabel.load(tmp_path / "out" / f"scan_probability{ending}").get_fdata()
    np.testing.assert_array_equal(chance > 0.5, answer > 0)
    row = done.summary.iloc[0]
    assert row.diameter_unit == "mm"
    assert row.tumour_ml == pytest.approx((answer > 0).sum() * np.prod((1.0, 2.0, 4.0)) / 1000)


def test_nifti_scaling_and_four_axes_are_read(tmp_path):
    import nibabel

    values = np.random.default_rng(0).integers(0, 200, (20, 24, 3, 3), dtype=np.int16)
    image = nibabel.Nifti1Image(values, np.diag([1, 1, 4, 1]))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "four.nii")
    stored = nibabel.load(tmp_path / "four.nii").get_fdata()
    (scan,) = find_scans([tmp_path / "four.nii"])
    pixels = scan.read()
    assert pixels.images.shape == (3, 24, 20, 3)
    # Shown from anterior to posterior and from right to left: both axes of a RAS file run backwards.
    np.testing.assert_allclose(pixels.images, stored[::-1, ::-1].transpose(2, 1, 0, 3), rtol=1e-6)


@pytest.mark.parametrize("tumour", [None, 1])
def test_of_a_volume_the_slice_with_most_tumour_is_shown_or_the_middle_one(tumour, predictor, tmp_path):
    pixels = np.zeros((7, 64, 64), np.float32)
    pixels[:, 8:56, 8:56] = 80
    for index in range(7):
        # A bar that lies elsewhere in each slice, not bright enough to be marked.
        pixels[index, 10 + 6 * index : 13 + 6 * index, 10:54] = 110
    if tumour is not None:
        pixels[tumour, 30:50, 30:50] = pixels[5, 40:50, 30:50] = 300
    write_volume(tmp_path / "a_flair.nii.gz", pixels)
    done = predict([tmp_path / "a_flair.nii.gz"], tmp_path / "out", predictor=predictor)
    assert done.summary.tumour_size[0] == (0 if tumour is None else 600)
    (file,) = (tmp_path / "out").glob("*_overlay.png")
    shown = np.array(Image.open(file))[..., 1].astype(int)
    # Where it is brightest left of any tumour.
    rows = shown[:, len(shown) * 15 // 64 : len(shown) * 25 // 64].mean(axis=1)
    assert int(rows.argmax() * 64 / len(shown)) in range(10 + 6 * (tumour or 3), 13 + 6 * (tumour or 3))


def test_sequences_of_one_patient_are_joined_by_name(tmp_path):
    """A network of T1ce alone must find what only the T1ce file shows."""
    for number, name in enumerate(["BraTS_001_flair", "BraTS_001_t1", "BraTS_001_t1ce", "BraTS_001_t2"]):
        nifti_file(tmp_path / "case" / f"{name}.nii.gz", "LPS", center=10 + 4 * number)
    for name in ("BraTS_001_seg", "brainmask"):
        nifti_file(tmp_path / "case" / f"{name}.nii.gz", "LPS")
    network = Predictor(brightness_model(weights=(1, 0))).adapted(
        preprocessing=Preprocessing(32), channels=("T1ce", "FLAIR")
    )
    done = predict([tmp_path / "case"], tmp_path / "out", predictor=network)
    assert [row.file.endswith("flair.nii.gz") for row in done.summary.itertuples()] == [True]
    import nibabel

    answer = np.asarray(nibabel.load(tmp_path / "out" / "BraTS_001_mask.nii.gz").dataobj)
    assert np.argwhere(answer)[:, 0].mean() == pytest.approx(10 + 4 * 2, abs=0.6)


def test_brats_slices_are_mapped_by_sequence(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for number in (2, 10):
        image = rng.normal(0, 0.05, (64, 64, 4)) - 2 + 2.0 * disc((64, 64), 28)[..., None]
        image[..., 3] += 4.0 * disc((64, 64), 9)
        with h5py.File(tmp_path / f"volume_7_slice_{number}.h5", "w") as file:
            file["image"], file["mask"] = image, np.zeros((64, 64, 3), np.uint8)
    network = Predictor(brightness_model(weights=(1,))).adapted(preprocessing=Preprocessing(64), channels=("FLAIR",))
    done = predict([tmp_path], tmp_path / "out", predictor=network)
    assert [row.file[-5:] for row in done.summary.itertuples()] == ["_2.h5", "10.h5"]
    for number in (2, 10):
        mask = np.array(Image.open(tmp_path / "out" / f"volume_7_slice_{number}_mask.png"))
        assert overlap(mask > 0, disc((64, 64), 9)) > 0.9


def test_a_dicom_series_is_one_volume_in_its_order(predictor, tmp_path):
    for number in (3, 1, 2):
        dicom_file(tmp_path / "series" / f"file{number}.dcm", GRAY if number == 2 else GRAY // 3, number=number)
    dicom_file(tmp_path / "series" / "other.dcm", GRAY, series="9.9")
    scans = find_scans([tmp_path / "series"])
    assert [[file.name for file in scan.files] for scan in scans] == [
        ["file1.dcm", "file2.dcm", "file3.dcm"],
        ["other.dcm"],
    ]
    pixels = scans[0].read()
    assert pixels.spacing == (5.0, 0.8, 0.6)
    assert pixels.images[1].max() > pixels.images[0].max()
    done = predict([tmp_path / "series"], tmp_path / "out", predictor=predictor)
    assert len(done.summary) == 4
    row = done.summary.set_index("mask").loc[str(tmp_path / "out" / "file2_mask.png")]
    assert row.tumour_ml == pytest.approx(row.tumour_size * 5 * 0.8 * 0.6 / 1000)


def test_the_network_gets_as_many_slices_at_a_time_as_it_was_told():
    images, shares = np.random.default_rng(0).random((7, 32, 32, 3)), []
    spec = NetworkSpec(CHANNELS, preprocessing=Preprocessing(32))
    for size, steps in ((3, [3, 6, 7, 10, 13, 14]), (7, [7, 14]), (16, [14])):
        predictor = Predictor(brightness_model(), spec=spec, batch_size=size)
        for one in (predictor, predictor.adapted(postprocessing=Postprocessing(threshold=0.4))):
            shares.clear()
            both = one.both_ways(images, progress=shares.append)
            assert np.multiply(shares, 14).tolist() == pytest.approx(steps)
            np.testing.assert_allclose(one.probabilities(images, flip=True), np.mean(both, axis=0), atol=1e-6)


def test_a_predictor_is_called_with_one_scan(predictor, tmp_path):
    for name in ("a.png", "b.png"):
        PICTURES["gray.png"](tmp_path / name)
    with pytest.raises(InputError, match=r"holds 2 scans\. Give one"):
        predictor(tmp_path)
    mask = predictor(tmp_path / "a.png")
    assert mask.shape == (1, *SHAPE) and mask.dtype == np.uint8 and overlap(mask[0] > 0, disc()) > 0.9
    chance = np.linspace(0, 1, 12, dtype="float32").reshape(1, 3, 4, 1)
    for threshold, expected in ((None, 0.5), (0.2, 0.2), (0.9, 0.9)):
        np.testing.assert_array_equal(predictor.masks(chance, threshold), chance[..., 0] > expected)


def test_what_stands_in_for_a_missing_sequence_is_said_once_for_all_patients(caplog):
    def read(patient):
        pixels = np.random.default_rng(0).integers(0, 200, (2, 16, 16, 2), np.uint8)
        return Volume(patient, pixels, pixels[..., 0] // 199, (1, 2), np.ones((2, 2)), (5.0, 1.0, 1.0))

    source = SimpleNamespace(table="a table", classes=("tumour",), channels=("FLAIR", "T1ce"), volume=read)
    arranged = ArrangedVolumes(source, CHANNELS)
    assert (arranged.table, arranged.classes, arranged.channels) == ("a table", ("tumour",), CHANNELS)
    for patient in "AB":
        volume, own = arranged.volume(patient), read(patient)
        np.testing.assert_array_equal(volume.images, own.images[..., [0, 0, 1]])
        np.testing.assert_array_equal(volume.intensity, intensity_range(volume.images))
        assert (volume.patient, volume.slices, volume.spacing) == (patient, (1, 2), (5.0, 1.0, 1.0))
    assert [record.getMessage() for record in caplog.records] == ["Patient A: FLAIR stands in for T1, which is missing"]
    caplog.clear()
    np.testing.assert_array_equal(ArrangedVolumes(source, ("FLAIR", "T1ce")).volume("A").intensity, np.ones((2, 2)))
    assert not caplog.records


def test_one_channel_fills_all_and_that_is_said_once(predictor, tmp_path, caplog):
    for name in ("a.png", "b.png"):
        PICTURES["gray.png"](tmp_path / name)
    predict([tmp_path], tmp_path / "out", predictor=predictor)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "one channel fills T1, FLAIR, T1ce" in said[0]


# ---- what is found, and where results go


def test_a_tree_a_patient_and_a_slice_are_written_to_the_same_places(phantom, predictor, tmp_path):
    tree = find_scans([phantom])
    assert [len(scan.files) for scan in tree] == [8] * 6
    patient = sorted(path for path in phantom.iterdir() if path.is_dir())[0]
    (alone,) = find_scans([patient])
    assert alone == tree[0]
    assert [file.stem.rsplit("_", 1)[1] for file in alone.files] == [str(number) for number in range(1, 9)]
    (lone,) = find_scans([alone.files[2]])
    assert lone.outputs == alone.outputs[2:3]
    predict([patient], tmp_path, predictor=predictor, overlays=False)
    made = sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.png"))
    assert made == sorted(f"{patient.name}/{patient.name}_{number}_mask.png" for number in range(1, 9))


def test_a_patients_slices_share_their_intensities_and_a_lone_one_has_its_own(predictor, tmp_path):
    """In the second slice nothing stands out against its own tissue, but much against the patient's."""
    folder = tmp_path / "Patient_1"
    folder.mkdir()
    dark = np.where(disc(GRAY.shape, 30) > 0, 60, 0).astype(np.uint8)
    bright = np.where(disc(GRAY.shape, 30) > 0, 200, 0).astype(np.uint8)
    for number, pixels in enumerate([dark, dark + 1, dark + 2, bright], start=1):
        Image.fromarray(np.repeat(pixels[..., None], 3, -1)).save(folder / f"Patient_1_{number}.tif")
    together = predict([folder], tmp_path / "together", predictor=predictor).summary
    alone = predict([folder / "Patient_1_4.tif"], tmp_path / "alone", predictor=predictor).summary
    assert together.tumour_size.iloc[3] > 2000
    assert alone.tumour_size.iloc[0] == 0


def test_the_batch_size_changes_nothing(phantom, tmp_path):
    from brainseg_keras import attention_unet

    keras.utils.set_random_seed(0)
    model = attention_unet((32, 32, 3), filters=4, depth=2)
    results = []
    for batch_size in (1, 5, 16):
        predictor = Predictor(model, batch_size=batch_size).adapted(postprocessing=Postprocessing(0.47, flip=True))
        results.append(predict([phantom], tmp_path / str(batch_size), predictor=predictor, overlays=False).summary)
    for other in results[1:]:
        assert (other.tumour_size == results[0].tumour_size).all()
        np.testing.assert_allclose(other.confidence, results[0].confidence, atol=1e-5)
    assert results[0].tumour_size.sum() > 0


def test_flip_averages_a_slice_and_its_mirror(predictor):
    """A network that looks at the left half alone sees both halves when flipped."""
    image = keras.Input((32, 32, 3))
    left = np.zeros((1, 32, 32, 1), "float32")
    left[:, :, :16] = 1
    answer = keras.layers.Lambda(lambda x: keras.ops.zeros_like(x[..., :1]) + left)(image)
    one_sided = Predictor(keras.Model(image, answer)).adapted(postprocessing=Postprocessing(flip=True))
    maps = one_sided.probabilities(np.random.default_rng(0).random((2, 32, 32, 3)))
    np.testing.assert_allclose(maps, 0.5)


@pytest.mark.parametrize(
    ("files", "result"),
    [
        (("P1_flair", "P1_t1ce"), "P1_mask.nii.gz"),
        (("flair", "t1ce"), "pat1_mask.nii.gz"),
        (("Flair_clean", "T1c_clean"), "pat1_clean_mask.nii.gz"),
    ],
)
def test_a_volume_bears_its_patients_name(predictor, tmp_path, files, result):
    for file in files:
        nifti_file(tmp_path / "in" / "pat1" / f"{file}.nii.gz", "LPS")
    predict([tmp_path / "in" / "pat1"], tmp_path / "out", predictor=predictor)
    assert [file.name for file in (tmp_path / "out").glob("*_mask*")] == [result]


def test_several_classes_are_written_as_label_numbers(tmp_path):
    image = keras.Input((None, None, 3))
    answer = keras.layers.Conv2D(3, 1, activation="softmax", name="c")(image)
    model = keras.Model(image, answer)
    kernel = np.zeros((1, 1, 3, 3), "float32")
    kernel[0, 0, :, 1], kernel[0, 0, :, 2] = 10, 30
    # Background wins below 0.1, the first label in the tissue (1), the second in the disc (2 or more).
    model.get_layer("c").set_weights([kernel, np.array([0, -3, -93], "float32")])
    PICTURES["color.png"](tmp_path / "color.png")
    network = Predictor(model).adapted(preprocessing=Preprocessing(96))
    predict([tmp_path / "color.png"], tmp_path / "out", predictor=network, probabilities=True)
    mask = np.array(Image.open(tmp_path / "out" / "color_mask.png"))
    assert set(np.unique(mask)) == {0, 1, 2}
    assert overlap(mask == 2, disc()) > 0.9
    assert sorted(file.name for file in (tmp_path / "out").glob("*probability*")) == [
        f"color_probability_{label}.png" for label in range(3)
    ]


@pytest.mark.parametrize(
    ("pixels", "spacing", "expected"),
    [([(3, 3)], None, 1.0), ([(0, 0), (0, 1), (0, 2)], (1, 2), 6.0), ([(0, 0), (3, 0)], (2, 1), 8.0), ([], None, 0.0)],
)
def test_largest_diameter_by_hand(pixels, spacing, expected):
    mask = np.zeros((5, 5), bool)
    for index in pixels:
        mask[index] = True
    assert largest_diameter(mask, spacing) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "maps"), [("attention_unet", ("dec0_att", "dec1_att")), ("res_unet", ("grad_cam",))])
def test_attention_is_written_beside_the_mask(name, maps, tmp_path):
    """For a picture that is not square 16 bits at its own size, for a volume NIfTI in its own frame."""
    import nibabel

    keras.utils.set_random_seed(0)
    network = Predictor(build_model(name, input_shape=(32, 32, 3), filters=4, depth=2)).adapted(channels=CHANNELS)
    (tmp_path / "in").mkdir()
    PICTURES["color.png"](tmp_path / "in" / "slice.png")
    volume, _ = nifti_file(tmp_path / "in" / "head_flair.nii.gz", "RAS")
    predict([tmp_path / "in"], tmp_path / "out", predictor=network, attention=True)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    expected = network.attention(network.arrange(find_scans([tmp_path / "in" / "slice.png"])[0].read(), "slice")[0])
    assert tuple(expected) == maps
    for map_name in maps:
        plane = np.array(Image.open(tmp_path / "out" / f"slice_{map_name}.png"))
        np.testing.assert_allclose(plane / 65535, expected[map_name][0], atol=1e-5)
        assert plane.shape == SHAPE
        kept = nibabel.load(tmp_path / "out" / f"head_flair_{map_name}.nii.gz")
        np.testing.assert_array_equal(kept.affine, nibabel.load(volume).affine)
        assert kept.shape == nibabel.load(volume).shape
        values = np.asarray(kept.dataobj)
        assert values.dtype == np.float32 and 0 <= values.min() < values.max() <= 1
    assert {"slice_attention.png", "head_flair_attention.png"} <= written


def test_an_exported_network_says_that_it_has_no_maps(tmp_path):
    keras_model = build_model("attention_unet", input_shape=(32, 32, 3), filters=4, depth=2)
    keras_model.save(tmp_path / "model.keras")
    export(tmp_path / "model.keras", tmp_path / "model.tflite", format="litert")
    predictor = Predictor(tmp_path / "model.tflite")
    with pytest.raises(InputError, match=r"exported file.*need a run"):
        predictor.attention(np.zeros((1, 32, 32, 3)))
