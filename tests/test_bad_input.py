"""What a user may hand in by mistake: one message that names it and the cure, exit code 2, nothing half-written."""

import contextlib
import shutil

import numpy as np
import pytest
from commands import brainseg as brainseg_process
from commands import here
from PIL import Image
from typer.testing import CliRunner

from brainseg_keras.cli import app
from brainseg_keras.data.manifest import read_manifest, write_manifest
from brainseg_keras.errors import InputError


def first_patient(root):
    return sorted(path for path in root.iterdir() if path.is_dir())[0]


def slice_file(root, number=3, mask=False):
    folder = first_patient(root)
    return folder / f"{folder.name}_{number}{'_mask' if mask else ''}.tif"


def image_without_mask(root):
    slice_file(root, mask=True).unlink()
    return slice_file(root).name


def mask_without_image(root):
    slice_file(root).unlink()
    return slice_file(root, mask=True).name


def truncated_tiff(root):
    file = slice_file(root)
    file.write_bytes(file.read_bytes()[:700])
    return file.name


def truncated_mask(root):
    file = slice_file(root, mask=True)
    file.write_bytes(file.read_bytes()[:700])
    return file.name


def text_as_tiff(root):
    slice_file(root).write_text("not an image")
    return slice_file(root).name


def mask_of_three_channels(root):
    Image.new("RGB", (48, 48)).save(slice_file(root, mask=True))
    return slice_file(root, mask=True).name


def mask_with_other_values(root):
    Image.new("L", (48, 48), 128).save(slice_file(root, mask=True))
    return slice_file(root, mask=True).name


def sizes_that_differ(root):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(slice_file(root))
    return slice_file(root).name


def mask_of_another_size(root):
    Image.new("L", (24, 24)).save(slice_file(root, mask=True))
    return slice_file(root).name


def constant_slice(root):
    Image.new("RGB", (48, 48), (7, 7, 7)).save(slice_file(root))
    return slice_file(root).name


def gray_image(root):
    Image.fromarray(np.arange(48 * 48, dtype="uint8").reshape(48, 48)).save(slice_file(root))
    return slice_file(root).name


def file_without_number(root):
    slice_file(root).rename(first_patient(root) / "slice_three.tif")
    return "slice_three.tif"


def slice_twice(root):
    file = slice_file(root)
    file.with_name(file.name.replace("_3.tif", "_03.tif")).write_bytes(file.read_bytes())
    return "_03.tif"


def mask_of_another_patient(root):
    file = slice_file(root, mask=True)
    file.rename(file.with_name("OTHER_3_mask.tif"))
    return "OTHER_3_mask.tif"


def empty_file(root):
    slice_file(root).write_bytes(b"")
    return slice_file(root).name


# The fault, what the message says of it, and the cure it names.
FAULTS = [
    (image_without_mask, "has no mask", "remove the image"),
    (mask_without_image, "has no image", "beside it"),
    (mask_of_another_patient, "names of two patients", "rename the file"),
    (truncated_tiff, "truncated", "copy or download it again"),
    (truncated_mask, "truncated", "copy or download it again"),
    (text_as_tiff, "no such image", "copy or download it again"),
    (empty_file, "no such image", "copy or download it again"),
    (mask_of_three_channels, "3 channels", "Save it in grayscale"),
    (mask_with_other_values, "values [128]", "Threshold it"),
    (sizes_that_differ, "Sizes differ", "Bring them to one size"),
    (mask_of_another_size, "Sizes differ", "Bring them to one size"),
    (constant_slice, "Every pixel", "Restore the file, or remove the slice"),
    (gray_image, "1 channels", "Expected 3: T1, FLAIR, T1ce"),
    (file_without_number, "no slice number", "Expected"),
    (slice_twice, "twice", "Keep one"),
]


def brainseg(*arguments, cwd):
    """Run the command line and hold what holds for every refusal."""
    before = snapshot(cwd)
    with contextlib.chdir(cwd):
        code, out, err = here(*map(str, arguments))
    assert code == 2, err
    assert "Traceback" not in err
    assert out == ""
    assert snapshot(cwd) == before, "something was written"
    return " ".join(err.split())


def snapshot(folder):
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(("fault", "words", "cure"), FAULTS, ids=[row[0].__name__ for row in FAULTS])
def test_a_faulty_file_is_named_and_nothing_is_packed(own_phantom, tmp_path, fault, words, cure):
    culprit = fault(own_phantom)
    message = brainseg("data", "pack", own_phantom, "-o", "out.h5", cwd=tmp_path)
    assert message.startswith("Error: ")
    for expected in (culprit, words, cure):
        assert expected in message


@pytest.mark.parametrize("fault", [image_without_mask, truncated_tiff, text_as_tiff, mask_of_three_channels])
def test_no_manifest_is_written_of_faulty_files(own_phantom, tmp_path, fault):
    culprit = fault(own_phantom)
    (tmp_path / "m.csv").write_text("the old one")
    assert culprit in brainseg("data", "manifest", "lgg", own_phantom, "-o", "m.csv", cwd=tmp_path)


def test_a_faulty_file_leaves_the_old_store(own_phantom, tmp_path):
    (tmp_path / "out.h5").write_bytes(b"the old one")
    truncated_tiff(own_phantom)
    # In a process of its own, as a user does.
    assert brainseg_process("data", "pack", own_phantom, "-o", "out.h5", cwd=tmp_path).returncode == 2
    assert (tmp_path / "out.h5").read_bytes() == b"the old one"


@pytest.fixture
def manifest(own_phantom, tmp_path):
    arguments = ["data", "manifest", "lgg", str(own_phantom), "-o", str(tmp_path / "m.csv")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return tmp_path / "m.csv"


def pack(manifest, root, out):
    return CliRunner().invoke(app, ["data", "pack", str(manifest), "--root", str(root), "-o", str(out)])


def test_a_file_changed_since_its_manifest_is_named(manifest, own_phantom, tmp_path):
    assert pack(manifest, own_phantom, tmp_path / "good.h5").exit_code == 0
    pixels = np.asarray(Image.open(slice_file(own_phantom))).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(slice_file(own_phantom))
    message = brainseg("data", "pack", manifest, "--root", own_phantom, "-o", "bad.h5", cwd=tmp_path)
    assert "has changed since its manifest was written" in message
    assert slice_file(own_phantom).name in message
    assert "Restore the file" in message


def test_a_mask_changed_since_its_manifest_is_named(manifest, own_phantom, tmp_path):
    pixels = np.asarray(Image.open(slice_file(own_phantom, mask=True))).copy()
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(slice_file(own_phantom, mask=True))
    result = pack(manifest, own_phantom, tmp_path / "bad.h5")
    assert isinstance(result.exception, InputError)
    assert f"{slice_file(own_phantom, mask=True)} has changed" in str(result.exception)
    assert not (tmp_path / "bad.h5").exists()


def test_a_file_missing_from_its_manifest_is_named(manifest, own_phantom, tmp_path):
    slice_file(own_phantom).unlink()
    result = pack(manifest, own_phantom, tmp_path / "out.h5")
    assert isinstance(result.exception, InputError)
    assert f"No such file: {slice_file(own_phantom)}" in str(result.exception)


def test_a_manifest_whose_files_moved_asks_for_the_root(manifest, tmp_path):
    message = brainseg("data", "pack", manifest, "-o", "out.h5", cwd=tmp_path)
    assert "--root DIR" in message
    assert str(manifest) in message


def test_a_patient_in_two_splits_is_refused(manifest, own_phantom, tmp_path):
    table = read_manifest(manifest)
    table.loc[0, "split"] = "test" if table.split[0] != "test" else "val"
    write_manifest(table, manifest)
    message = brainseg("data", "pack", manifest, "--root", own_phantom, "-o", "out.h5", cwd=tmp_path)
    assert "more than one split" in message
    assert table.patient[0] in message
    assert "the same split" in message


def test_two_patients_cannot_be_split(own_phantom, tmp_path):
    for folder in sorted(path for path in own_phantom.iterdir() if path.is_dir())[2:]:
        shutil.rmtree(folder)
    message = brainseg("data", "manifest", "lgg", own_phantom, "-o", "m.csv", cwd=tmp_path)
    assert "at least three patients" in message
    assert "Received: 2" in message
    assert "Add patients" in message
    assert "at least three patients" in brainseg("data", "pack", own_phantom, "-o", "out.h5", cwd=tmp_path)


# Arguments, what the message says, and the cure it names.
USAGE = [
    ("data pack nowhere -o out.h5", "No such folder: nowhere", "--data takes a folder"),
    ("data pack empty -o out.h5", "empty holds no layout that is known", "<patient>/<patient>_<n>.tif"),
    ("data pack empty --format lgg -o out.h5", "empty holds no LGG data", "<patient>/<patient>_<n>.tif"),
    ("data pack empty --format dicom -o out.h5", "'dicom'", "one of lgg"),
    ("data pack phantom -o out.zip", "out.zip", "ends in .h5"),
    ("data pack absent.csv -o out.h5", "No manifest at absent.csv", "brainseg data manifest"),
    ("data pack table.csv -o out.h5", "table.csv is not a manifest", "brainseg data manifest"),
    ("data pack text.h5 -o out.h5", "text.h5 cannot be read as HDF5", "Pack it again"),
    ("data manifest brats empty -o m.csv", "'brats'", "one of lgg, brats-h5, msd, pairs, nifti"),
    ("data manifest lgg nowhere -o m.csv", "No such folder: nowhere", "takes a folder of MRI slices"),
    ("data phantom full", "full/kaggle_3m exists already", "Give another folder"),
    ("data phantom new --patients 0", "Received: 0", "--patients is a whole number from 1 to 10000"),
    ("data phantom new --modalities 3", "Received: 3", "1 (layout of LGG) or 4 (BraTS)"),
    ("data split empty --folds 1 -o folds", "Received: 1", "--folds is a whole number from 2 to 1000"),
    ("data check nowhere", "No such folder: nowhere", "takes a folder of MRI slices"),
    ("data fetch brats1999", "'brats1999'", "lgg, brats2020"),
    ("data phantom new --size 8", "Received: 8", "--size is a whole number from 32 to 1024"),
    ("train --epochs 0", "Received: 0", "--epochs is a whole number from 1 to 100000"),
    ("train --tumour-share 2", "Received: 2.0", "--tumour-share is a number from 0.0 to 1.0"),
    ("train --learning-rate nan", "Received: nan", "--learning-rate is a number from 1e-12 to 10.0"),
    ("train --target class", "'class'", "tumour, classes, regions"),
    ("train --target classes", "tells tumour from background alone", "Use --target tumour"),
    ("train --stand-in 2", "Received: 2.0", "--stand-in is a number from 0.0 to 1.0"),
    ("train --context 9", "Received: 9", "--context is a whole number from 0 to 8"),
    ("train --modalities T2", "Received: T2", "each of T1, FLAIR, T1ce"),
    ("train --precision float64", "'float64'", "auto, float32, mixed_float16"),
    ("train --config absent.yaml", "absent.yaml cannot be read", "docs/training.md"),
    ("train --config broken.yaml", "broken.yaml cannot be read as YAML", "docs/training.md"),
    ("train --config list.yaml", "list.yaml holds no settings", "epochs: 50"),
    ("train --config unknown.yaml", "unknown.yaml: unknown settings epoch.", "Known: data, format"),
    ("train --config type.yaml", "'ten'", "type.yaml: epochs is a whole number from 1 to 100000"),
    ("train --resume run -o other", "--resume", "leave out --config and -o"),
    ("train --epochs many", "--epochs", "integer"),
    ("train --learning-rat 1", "No such option", "--learning-rate"),
    ("models -o x.png", "-o", "goes with --draw"),
]


@pytest.mark.parametrize(("arguments", "words", "cure"), USAGE, ids=[row[0] for row in USAGE])
def test_wrong_usage_ends_with_a_message_and_code_2(tmp_path, arguments, words, cure):
    for name, text in {
        "broken.yaml": "epochs: [1, 2\n",
        "list.yaml": "- epochs\n",
        "unknown.yaml": "epoch: 3\n",
        "type.yaml": "epochs: ten\n",
        "table.csv": "patient,age\nA,3\n",
        "text.h5": "no store",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "kaggle_3m").mkdir(parents=True)
    message = brainseg(*arguments.split(), cwd=tmp_path)
    assert words in message
    assert cure in message


TRAINING = [
    ("--size 100", "multiple of 16", "Received"),
    ("--architecture unett", "unett", "Did you mean 'unet'"),
    ("--loss dise", "dise", "dice"),
    ("--data nowhere", "No such folder: nowhere", "--data takes a folder"),
    ("--resume absent", "absent holds no run", "Give the folder of `brainseg train`"),
    ("--init absent.keras", "no file absent.keras", "Give the folder of a run"),
    ("--data kaggle_3m -o out", "_3.tif", "copy or download it again"),
    ("--data phantom --size 64 -o run", "run holds a run already", "--resume run, or give another -o"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "words", "cure"), TRAINING, ids=[row[0] for row in TRAINING])
def test_training_refuses_before_it_writes(own_phantom, tmp_path, arguments, words, cure):
    truncated_tiff(own_phantom)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    message = brainseg("train", *arguments.split(), cwd=tmp_path)
    assert words in message
    assert cure in message
