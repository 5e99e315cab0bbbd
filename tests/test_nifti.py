"""Readers of NIfTI volumes: every naming, every label scheme, orientation, scaling, and what is refused."""

import json

import numpy as np
import pytest
from commands import brainseg
from volumes import LPS, SHAPE, head, write_patient, write_volume

from brainseg_keras.data.formats.msd import read_msd
from brainseg_keras.data.formats.nifti import read_nifti_folders
from brainseg_keras.data.formats.nifti_patients import read_nifti_patient
from brainseg_keras.data.labels import SCHEMES
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.volumes import FileVolumes
from brainseg_keras.errors import InputError

# Labels in files for background, necrotic core, edema and enhancing tumour.
NUMBERS = {"brats2020": (0, 1, 2, 4), "brats2023": (0, 1, 2, 3), "brats2015": (0, 1, 2, 4), "msd": (0, 2, 1, 3)}
NAMINGS = {
    "brats2020": (("_flair", "_t1", "_t1ce", "_t2"), "_seg", None),
    "brats2023": (("-t2f", "-t1n", "-t1c", "-t2w"), "-seg", None),
    "msd": (("_flair",), "_label", "msd"),
}


@pytest.mark.parametrize("scheme", NAMINGS)
@pytest.mark.parametrize("flat", [True, False], ids=["one folder", "a folder each"])
def test_namings_of_all_years(tmp_path, scheme, flat):
    images, label, labels = NAMINGS[scheme]
    expected = {}
    for number in range(3):
        name = f"Case_{number}"
        folder = tmp_path if flat else tmp_path / name
        expected[name] = write_patient(folder, name, seed=number, images=images, label=label, scheme=NUMBERS[scheme])
    source = open_source(tmp_path, labels=labels)
    assert set(source.channels) <= {"T1", "T1ce", "T2", "FLAIR"} and len(source.channels) == len(images)
    for name, (pixels, truth) in expected.items():
        volume = source.volume(name)
        np.testing.assert_array_equal(volume.masks, truth)
        np.testing.assert_array_equal(volume.images[..., source.channels.index("FLAIR")], pixels)
        assert volume.spacing == (4.0, 2.0, 1.0)
    assert source.table.tumour_pixels.sum() == sum((truth > 0).sum() for _, truth in expected.values())


def test_own_naming_by_patterns(tmp_path):
    for number in range(3):
        pixels, labels = head(number)
        folder = tmp_path / f"pat000{number}"
        write_volume(folder / "Flair_subtrMeanDivStd.nii.gz", pixels)
        write_volume(folder / "T1c_subtrMeanDivStd.nii.gz", pixels * 2)
        write_volume(folder / "brainmask.nii.gz", np.float32(pixels > 0))
        # Of 2015: 3 is non-enhancing core, which belongs to the necrotic one since 2017.
        old = np.array([0, 1, 2, 4], np.float32)[labels]
        old[2, 14, 13] = 3
        write_volume(folder / "OTMultiClass.nii.gz", old)
    source = open_source(
        tmp_path,
        labels="brats2015",
        image_pattern=r"(?P<patient>[^/]+)/(?P<modality>[A-Za-z0-9]+)_subtrMeanDivStd\.nii\.gz",
        label_pattern=r"(?P<patient>[^/]+)/OTMultiClass\.nii\.gz",
    )
    assert source.channels == ("T1ce", "FLAIR")
    volume = source.volume("pat0001")
    assert volume.masks[2, 14, 13] == 1
    assert set(np.unique(volume.masks)) == {0, 1, 2, 3}


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SAL"])
def test_orientation_does_not_change_the_slices(tmp_path, axes):
    for number in range(3):
        pixels, labels = write_patient(tmp_path, f"P_{number}", seed=number, axes=axes)
    volume = open_source(tmp_path).volume("P_2")
    np.testing.assert_array_equal(volume.masks, labels)
    np.testing.assert_array_equal(volume.images[..., 1], pixels)
    assert volume.spacing == (4.0, 2.0, 1.0)


def test_values_are_scaled_as_the_header_says(tmp_path):
    for number in range(3):
        pixels, _ = write_patient(tmp_path, f"P_{number}", seed=number, images=())
        write_volume(tmp_path / f"P_{number}_flair.nii.gz", pixels, slope=0.25)
    volume = open_source(tmp_path).volume("P_2")
    assert np.abs(volume.images[..., 0] - pixels).max() <= 0.125 + 1e-4


def test_decathlon_layout(tmp_path):
    import nibabel

    names = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (tmp_path / "Task01").mkdir()
    (tmp_path / "Task01" / "dataset.json").write_text(json.dumps({"modality": names}))
    for number in range(3):
        pixels, labels = head(number)
        four = np.stack([np.transpose(pixels * (k + 1), (2, 1, 0)) for k in range(4)], axis=-1)
        path = tmp_path / "Task01" / "imagesTr" / f"BRATS_00{number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(four, LPS), path)
        write_volume(tmp_path / "Task01" / "labelsTr" / path.name, np.array(NUMBERS["msd"], np.uint8)[labels])
    source = open_source(tmp_path)
    assert source.channels == ("FLAIR", "T1", "T1ce", "T2")
    volume = source.volume("BRATS_002")
    np.testing.assert_array_equal(volume.masks, labels)
    np.testing.assert_array_equal(volume.images[..., 2], pixels * 3)
    chosen = open_source(tmp_path, modalities="T2,FLAIR").volume("BRATS_002")
    np.testing.assert_array_equal(chosen.images, volume.images[..., [3, 0]])


def test_a_task_that_is_not_whole(tmp_path):
    with pytest.raises(InputError, match=r"is not a Decathlon task\. Expected dataset\.json"):
        read_msd(tmp_path)
    # Named by numbers, which say the order, as text.
    names = {str(number): f"s{number}" for number in range(11)} | {"0": "FLAIR", "10": "T2"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": dict(reversed(names.items()))}))
    (tmp_path / "imagesTr").mkdir()
    write_volume(tmp_path / "labelsTr" / "B_1.nii.gz", head(0)[1])
    with pytest.raises(InputError, match=r"B_1\.nii\.gz has no image\. Expected .*imagesTr/B_1\.nii\.gz"):
        read_msd(tmp_path)
    write_volume(tmp_path / "imagesTr" / "B_1.nii.gz", head(0)[0])
    with pytest.raises(InputError, match=r"dataset\.json has no T1, PD\. It has FLAIR, s1, s2, .*, s9, T2"):
        read_msd(tmp_path, modalities=["FLAIR", "T1", "PD"])
    table, root = read_msd(tmp_path, modalities=["T2", "FLAIR"])
    assert set(table["image"]) == {"T2=imagesTr/B_1.nii.gz#10|FLAIR=imagesTr/B_1.nii.gz#0"}
    assert root == tmp_path and set(table.dataset) == {"msd:msd"}


def test_a_manifest_reads_the_same_volumes(tmp_path):
    for number in range(3):
        write_patient(tmp_path / "data", f"P_{number}", seed=number)
    done = brainseg("data", "manifest", "nifti", tmp_path / "data", "-o", "m.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder, listed = open_source(tmp_path / "data"), open_source(tmp_path / "m.csv", root=tmp_path / "data")
    assert listed.classes == folder.classes and listed.channels == folder.channels
    np.testing.assert_array_equal(listed.volume("P_1").images, folder.volume("P_1").images)
    pixels, _ = head(1)
    pixels[2, 14, 13] += 1
    write_volume(tmp_path / "data" / "P_1_flair.nii.gz", pixels)
    with pytest.raises(InputError, match=r"P_1_flair.*has changed since its manifest"):
        listed.volume("P_1")


def without_t2(folder):
    for number in range(3):
        write_patient(folder, f"P_{number}", images=("_flair", "_t2") if number else ("_flair",))


def without_labels(folder):
    write_patient(folder, "P_1")
    (folder / "P_1_seg.nii.gz").unlink()
    write_patient(folder, "P_2")


def of_another_scheme(folder):
    write_patient(folder, "P_1", scheme=(0, 1, 2, 3))


def without_a_scheme(folder):
    write_patient(folder, "P_1", label="_label", scheme=(0, 1, 2, 3))


def on_another_grid(folder):
    for number in range(3):
        write_patient(folder, f"P_{number}")
    write_volume(folder / "P_1_flair.nii.gz", head(1)[0], affine=np.diag([-1.0, -2.0, 5.0, 1.0]))


def of_another_shape(folder):
    for number in range(3):
        write_patient(folder, f"P_{number}")
    write_volume(folder / "P_1_flair.nii.gz", head(1, (6, 32, 31))[0])


def truncated(folder):
    for number in range(3):
        write_patient(folder, f"P_{number}")
    file = folder / "P_1_seg.nii.gz"
    file.write_bytes(file.read_bytes()[:200])


REFUSED = [
    (without_t2, "P_0 .* has no T2; it has FLAIR", "--modalities FLAIR"),
    (without_labels, "P_1 .* has no labels", "Bring the file"),
    (of_another_scheme, r"P_1_seg.* holds the labels \[0.0, 1.0, 2.0, 3.0\]", "They fit --labels brats2023"),
    (without_a_scheme, "Say what the labels", "--labels brats2020"),
    (on_another_grid, "P_1_flair.* are misaligned", "Resample"),
    (of_another_shape, "P_1_flair.* are misaligned", "Resample"),
    (truncated, "P_1_seg.* as NIfTI", "copy or convert it again"),
]


@pytest.mark.parametrize(("damage", "said", "cure"), REFUSED, ids=lambda value: getattr(value, "__name__", None))
def test_refusals_name_the_file_and_the_cure(tmp_path, damage, said, cure):
    damage(tmp_path)
    with pytest.raises(InputError, match=rf"(?s){said}.*{cure}"):
        open_source(tmp_path).volume("P_1")


@pytest.mark.parametrize(("off", "fits"), [(0.009, True), (0.011, False)])
def test_a_grid_is_the_same_to_a_hundredth_of_a_millimeter(tmp_path, off, fits):
    """Headers hold single precision, and were rounded on their way by many hands."""
    for number in range(3):
        write_patient(tmp_path, f"P_{number}", images=("_flair",))
    moved = LPS.copy()
    moved[0, 3] += off
    write_volume(tmp_path / "P_1_flair.nii.gz", head(1)[0], affine=moved)
    if fits:
        assert open_source(tmp_path).volume("P_1").images.any()
        return
    with pytest.raises(InputError, match="are misaligned"):
        open_source(tmp_path).volume("P_1")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("P_1_t2f.nii.gz", r"P_1_flair\.nii\.gz and P_1_t2f\.nii\.gz are both the FLAIR of one patient"),
        ("P_1_label.nii.gz", r"P_1_label\.nii\.gz and P_1_seg\.nii\.gz are both the labels of one patient"),
    ],
)
def test_two_files_of_one_kind_are_refused(tmp_path, more, said):
    write_patient(tmp_path, "P_1", images=("_flair",))
    write_volume(tmp_path / more, head(1)[1])
    with pytest.raises(InputError, match=said):
        read_nifti_folders(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (".*", None, "come together"),
        (None, ".*", "come together"),
        ("(", ".*", r"'\(' is not a regular expression"),
        ("(?P<patient>.*)", ".*", r"lacks the group modality\. Expected \(\?P<patient>\.\.\.\)\(\?P<modality>"),
        ("(?P<modality>.*)(?P<patient>.)", ".*", r"'\.\*' lacks the group patient"),
        ("(?P<modality>no)(?P<patient>ne)", "(?P<patient>none)", "holds no NIfTI volumes with labels"),
    ],
)
def test_patterns_that_find_nothing_are_refused(tmp_path, images, labels, said):
    write_patient(tmp_path, "P_1", images=("_flair",))
    with pytest.raises(InputError, match=said):
        read_nifti_folders(tmp_path, image_pattern=images, label_pattern=labels)


def test_a_manifest_of_more_slices_than_the_file_has(tmp_path):
    write_patient(tmp_path, "P_1", images=("_flair",))
    table, root = read_nifti_folders(tmp_path)
    for last, known in ((SHAPE[0] - 1, True), (SHAPE[0], False)):
        table.loc[table.index[-1], "slice"] = last
        source = FileVolumes(table, root, ("FLAIR",), read=read_nifti_patient)
        if known:
            assert source.volume("P_1").slices[-1] == last
            continue
        with pytest.raises(InputError, match=r"P_1_seg\.nii\.gz has 6 slices, but the manifest names slice 6"):
            source.volume("P_1")


@pytest.mark.parametrize("modality", [{}, [], "FLAIR", {"a": "FLAIR"}, None, 3])
def test_a_task_that_does_not_say_its_sequences(tmp_path, modality):
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality}))
    write_volume(tmp_path / "labelsTr" / "B_1.nii.gz", head(0)[1])
    write_volume(tmp_path / "imagesTr" / "B_1.nii.gz", head(0)[0])
    with pytest.raises(InputError, match=r"dataset\.json does not say its sequences"):
        open_source(tmp_path)


@pytest.mark.parametrize("number", ["#7", "#-1", "#x", "#\u00b2"])
def test_a_manifest_that_names_no_sequence_of_a_file(tmp_path, number):
    write_patient(tmp_path, "P_1", images=("_flair",))
    table, root = read_nifti_folders(tmp_path)
    table["image"] += number
    with pytest.raises(InputError, match=r"P_1_flair\.nii\.gz holds 1 sequences"):
        FileVolumes(table, root, ("FLAIR",), read=read_nifti_patient).volume("P_1")


def test_a_missing_sequence_may_be_left_out_of_all(tmp_path):
    without_t2(tmp_path)
    assert open_source(tmp_path, modalities="FLAIR").volume("P_0").images.shape == (*SHAPE, 1)


def test_schemes_know_each_class_once():
    for name, numbers in SCHEMES.items():
        assert set(numbers.values()) == ({1} if name == "binary" else {1, 2, 3})
