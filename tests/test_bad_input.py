"""What a user may hand in by mistake: one message that names it and the cure, exit code 2, nothing half-written."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from brainseg_keras.cli import app
from brainseg_keras.data.manifest import read_manifest, write_manifest
from brainseg_keras.errors import InputError

CLI = [sys.executable, "-c", "from brainseg_keras.cli import main; main()"]


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


FAULTS = [
    (image_without_mask, "has no mask"),
    (mask_without_image, "has no image"),
    (truncated_tiff, "truncated"),
    (truncated_mask, "truncated"),
    (text_as_tiff, "no image"),
    (mask_of_three_channels, "3 channels"),
    (mask_with_other_values, "128"),
    (sizes_that_differ, "Sizes differ"),
    (mask_of_another_size, "Sizes differ"),
    (constant_slice, "Every pixel"),
    (gray_image, "1 channels"),
    (file_without_number, "no slice number"),
    (slice_twice, "twice"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_faulty_file_is_named_and_nothing_is_packed(own_phantom, tmp_path, fault, words):
    culprit = fault(own_phantom)
    result = CliRunner().invoke(app, ["data", "pack", str(own_phantom), "-o", str(tmp_path / "out.h5")])
    assert isinstance(result.exception, InputError), result.output
    assert culprit in str(result.exception)
    assert words in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kaggle_3m"]


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
    result = pack(manifest, own_phantom, tmp_path / "bad.h5")
    assert "has changed since its manifest was written" in str(result.exception)
    assert slice_file(own_phantom).name in str(result.exception)
    assert not (tmp_path / "bad.h5").exists()


def test_a_manifest_whose_files_moved_asks_for_the_root(manifest, tmp_path):
    result = CliRunner().invoke(app, ["data", "pack", str(manifest), "-o", str(tmp_path / "out.h5")])
    assert isinstance(result.exception, InputError)
    assert "--root" in str(result.exception)


def test_a_patient_in_two_splits_is_refused(manifest, own_phantom, tmp_path):
    table = read_manifest(manifest)
    table.loc[0, "split"] = "test" if table.split[0] != "test" else "val"
    write_manifest(table, manifest)
    assert "more than one split" in str(pack(manifest, own_phantom, tmp_path / "out.h5").exception)


def test_two_patients_cannot_be_split(own_phantom, tmp_path):
    import shutil

    for folder in sorted(path for path in own_phantom.iterdir() if path.is_dir())[2:]:
        shutil.rmtree(folder)
    result = CliRunner().invoke(app, ["data", "manifest", "lgg", str(own_phantom), "-o", str(tmp_path / "m.csv")])
    assert "at least three patients" in str(result.exception)
    assert not (tmp_path / "m.csv").exists()


USAGE = [
    (["data", "pack", "nowhere", "-o", "out.h5"], "No such folder: nowhere"),
    (["data", "pack", ".", "-o", "out.h5"], "no layout that is known"),
    (["data", "pack", "phantom", "-o", "out.zip"], "ends in .h5"),
    (["data", "manifest", "brats", ".", "-o", "m.csv"], "can be written of: lgg"),
    (["train", "--epochs", "0"], "epochs is at least 1"),
    (["train", "--precision", "float64"], "precision is one of"),
    (["train", "--config", "absent.yaml"], "absent.yaml cannot be read"),
    (["train", "--config", "broken.yaml"], "broken.yaml cannot be read as YAML"),
    (["train", "--config", "unknown.yaml"], "unknown settings epoch"),
    (["train", "--resume", "run", "-o", "other"], "leave out --config and -o"),
    (["train", "--epochs", "many"], "Invalid value"),
    (["train", "--learning-rat", "1"], "No such option"),
    (["models", "-o", "x.png"], "goes with --draw"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(arguments) for arguments, _ in USAGE])
def test_wrong_usage_ends_with_a_message_and_code_2(tmp_path, arguments, words):
    (tmp_path / "broken.yaml").write_text("epochs: [1, 2\n")
    (tmp_path / "unknown.yaml").write_text("epoch: 3\n")
    before = sorted(tmp_path.iterdir())
    answer = subprocess.run([*CLI, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    assert words in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr
    assert sorted(tmp_path.iterdir()) == before


TRAINING = [
    (["--size", "100"], "multiple of 16"),
    (["--architecture", "unett"], "Did you mean 'unet'"),
    (["--loss", "dise"], "dice"),
    (["--data", "nowhere"], "No such folder: nowhere"),
    (["--resume", "absent"], "holds no run"),
    (["--init", "absent.keras"], "absent.keras"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "words"), TRAINING, ids=[" ".join(arguments) for arguments, _ in TRAINING])
def test_training_refuses_before_it_writes(tmp_path, arguments, words):
    answer = subprocess.run([*CLI, "train", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    assert words in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.iterdir())
