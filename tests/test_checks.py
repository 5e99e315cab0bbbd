"""brainseg data check: each planted fault is found, and what is in order is left in peace."""

import base64
import html
import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import brainseg
from PIL import Image
from volumes import head, write_patient, write_volume

from brainseg_keras.data.checking.checks import check_data
from brainseg_keras.data.checking.findings import Finding, Picture
from brainseg_keras.data.manifest import write_manifest
from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.data.sources import list_slices, open_source
from brainseg_keras.data.splits import split_patients
from brainseg_keras.data.store import write_store
from brainseg_keras.errors import InputError
from brainseg_keras.reports.data_page import write_data_page


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("clean"), patients=10, slices=12, size=96, seed=8)


@pytest.fixture
def lgg_copy(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "kaggle_3m")


def patients(root):
    return sorted(folder for folder in root.iterdir() if folder.is_dir())


def edit(path, change):
    pixels = np.array(Image.open(path))
    Image.fromarray(change(pixels)).save(path)


def slices(folder, mask=False):
    files = sorted(folder.glob("*_mask.tif" if mask else "*.tif"), key=lambda f: int(f.stem.split("_")[4]))
    return files if mask else [file for file in files if "_mask" not in file.name]


def found(data, **layout):
    return {(finding.check, finding.severity): finding for finding in check_data(data, **layout)}


def test_data_in_order_are_left_in_peace(clean, tmp_path):
    assert check_data(clean) == []
    assert check_data(write_store(open_source(clean), tmp_path / "packed.h5")) == []


def middle_copied(root, change=lambda pixels: pixels):
    """The slices of the first patient under the name of another."""
    first, second = patients(root)[0], patients(root)[4]
    for source, target in zip(slices(first), slices(second), strict=True):
        Image.fromarray(change(np.array(Image.open(source)))).save(target)
    for source, target in zip(slices(first, True), slices(second, True), strict=True):
        shutil.copy(source, target)
    return first.name, second.name


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels,
        lambda pixels: np.uint8(np.clip(pixels * 0.9 + 3, 0, 255)),
        lambda pixels: np.uint8(np.clip(pixels + np.random.default_rng(0).normal(0, 3, pixels.shape), 0, 255)),
        lambda pixels: np.array(Image.fromarray(pixels).resize((80, 80)).resize((96, 96))),
    ],
    ids=["the same", "another contrast", "noise", "resampled"],
)
def test_one_patient_under_two_names(lgg_copy, change):
    pair = middle_copied(lgg_copy, change)
    table, _ = list_slices(lgg_copy)
    splits = split_patients(table)
    severity = "error" if splits[pair[0]] != splits[pair[1]] else "warning"
    finding = found(lgg_copy)["same-slice", severity]
    assert finding.patients == pair and len(finding.pictures) == 2


def test_a_patient_in_two_splits(lgg_copy, tmp_path):
    table, _ = list_slices(lgg_copy)
    table = table.assign(split=table.patient.map(split_patients(table)))
    train = table.index[table.split == "train"]
    table.loc[train[:4], "split"] = "test"
    write_manifest(table, tmp_path / "leak.csv")
    finding = found(tmp_path / "leak.csv", root=lgg_copy)["patient-in-two-splits", "error"]
    assert finding.patients == (table.patient[train[0]],) and "test, train" in finding.text


def shifted(folder):
    # Out of the head: half of it hangs over the skin.
    for file in slices(folder, mask=True):
        edit(file, lambda pixels: np.roll(pixels, (30, 30), (0, 1)))


def too_large(folder):
    for file in slices(folder, mask=True):
        edit(file, lambda pixels: np.full_like(pixels, 255) if pixels.any() else pixels)


def colored(folder):
    edit(slices(folder, mask=True)[6], lambda pixels: np.repeat(pixels[..., None], 3, axis=-1))


def gray(folder):
    for file in slices(folder, mask=True):
        edit(file, lambda pixels: np.where(pixels, 128, 0).astype(np.uint8))


def constant(folder):
    edit(slices(folder)[6], np.zeros_like)


def saturated(folder):
    for file in slices(folder):
        edit(file, lambda pixels: np.where(pixels > 60, 255, pixels).astype(np.uint8))


def bright_background(folder):
    for file in slices(folder):
        edit(file, lambda pixels: np.where(pixels < 12, 90, pixels).astype(np.uint8))


def copied(folder):
    for file in slices(folder):
        edit(file, lambda pixels: pixels[..., [1, 1, 2]])


def truncated(folder):
    file = slices(folder)[6]
    file.write_bytes(file.read_bytes()[:300])


def without_mask(folder):
    slices(folder, mask=True)[6].unlink()


PLANTED = [
    (shifted, "mask-outside-head", "error"),
    (too_large, "mask-outside-head", "error"),
    (colored, "unreadable", "error"),
    (gray, "unreadable", "error"),
    (constant, "unreadable", "error"),
    (saturated, "saturated", "warning"),
    (bright_background, "bright-background", "note"),
    (copied, "copied-modality", "note"),
    (truncated, "unreadable", "error"),
    (without_mask, "unreadable", "error"),
]


@pytest.mark.parametrize(("plant", "check", "severity"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_each_planted_fault_is_found_and_named(lgg_copy, plant, check, severity):
    folder = patients(lgg_copy)[2]
    plant(folder)
    every, culprit = check_data(lgg_copy), folder.name
    assert [finding for finding in every if (finding.check, finding.severity) == (check, severity)]
    assert all(finding.patients in ((culprit,), ()) for finding in every)
    assert all(culprit in finding.text for finding in every if finding.patients)


def test_all_faults_at_once_are_all_found(lgg_copy):
    for folder, (plant, _, _) in zip(patients(lgg_copy), PLANTED, strict=True):
        plant(folder)
    kinds = {(finding.check, finding.severity, *finding.patients) for finding in check_data(lgg_copy)}
    names = [folder.name for folder in patients(lgg_copy)]
    assert {(check, severity, name) for name, (_, check, severity) in zip(names, PLANTED, strict=True)} <= kinds


def test_faults_planted_in_real_patients_are_all_found(lgg, tmp_path):
    names = [folder.name for folder in patients(lgg / "kaggle_3m" if (lgg / "kaggle_3m").is_dir() else lgg)]
    source = lgg / "kaggle_3m" if (lgg / "kaggle_3m").is_dir() else lgg
    # Of patients in whom nothing is copied and no background is bright.
    chosen = [name for name in names if name.startswith("TCGA_CS")][:8] + [n for n in names if "TCGA_DU_58" in n][:3]
    for name in chosen:
        shutil.copytree(source / name, tmp_path / "kaggle_3m" / name)
    root = tmp_path / "kaggle_3m"
    assert check_data(root) == []
    for folder, (plant, _, _) in zip(patients(root), PLANTED, strict=False):
        if plant is not shifted:
            plant(folder)
    pair = middle_copied_to(patients(root)[-1], root / "TCGA_ZZ_9999_20000101")
    every = {(finding.check, finding.severity, *finding.patients) for finding in check_data(root)}
    expected = {
        (check, severity, folder.name)
        for folder, (plant, check, severity) in zip(patients(root), PLANTED, strict=False)
        if plant is not shifted
    }
    assert expected <= every
    assert any(check == "same-slice" and set(pair) == set(who) for check, _, *who in every)


def middle_copied_to(folder, target):
    """A patient once more, under another name and in another contrast."""
    target.mkdir()
    for file in folder.iterdir():
        pixels = np.array(Image.open(file))
        changed = pixels if "_mask" in file.name else np.uint8(np.clip(pixels * 0.9 + 2, 0, 255))
        Image.fromarray(changed).save(target / file.name.replace(folder.name, target.name))
    return folder.name, target.name


def test_masks_shifted_in_real_patients(lgg, tmp_path):
    """By 48 and 36 pixels: most are found, and no mask that lies right is called shifted."""
    root = lgg / "kaggle_3m" if (lgg / "kaggle_3m").is_dir() else lgg
    for number, folder in enumerate(patients(root)[:20]):
        shutil.copytree(folder, tmp_path / "kaggle_3m" / folder.name)
        if number % 2:
            for file in slices(tmp_path / "kaggle_3m" / folder.name, mask=True):
                edit(file, lambda pixels: np.roll(pixels, (48, 36), (0, 1)))
    said = {
        finding.patients[0]
        for finding in check_data(tmp_path / "kaggle_3m")
        if finding.check in ("mask-shifted", "mask-outside-head")
    }
    moved = {folder.name for folder in patients(root)[:20][1::2]}
    assert said <= moved and len(said) >= 7


# ---- volumes


def volumes(folder, count=5):
    for number in range(count):
        write_patient(folder, f"P_{number}", seed=number)


def test_volumes_in_order_are_left_in_peace(tmp_path):
    volumes(tmp_path)
    assert [finding for finding in check_data(tmp_path) if finding.severity != "note"] == []


def test_patients_of_one_slice_each_in_order_are_left_in_peace(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(5):
        pixels, labels = head(number, (6, 64, 60))
        Image.fromarray(np.uint8(pixels[3])).save(tmp_path / "images" / f"P{number}_1.png")
        Image.fromarray(np.uint8(labels[3] > 0) * 255).save(tmp_path / "masks" / f"P{number}_1.png")
    assert check_data(tmp_path) == []


def test_a_mask_that_was_shifted_inside_the_head(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        z, y, x = np.meshgrid(np.arange(6), np.arange(128), np.arange(128), indexing="ij")
        inside = np.hypot(y - 64, x - 64) < 56
        tumour = np.hypot(y - 50, x - 44) + 3 * np.abs(z - 3) < 14
        pixels = np.where(inside, 80, 0) + 100 * tumour + rng.normal(0, 3, tumour.shape) * inside
        mask = np.roll(tumour, (28, 34), (1, 2)) if number == 1 else tumour
        write_volume(tmp_path / f"P_{number}_flair.nii.gz", pixels.astype(np.float32))
        write_volume(tmp_path / f"P_{number}_seg.nii.gz", np.uint8(mask))
    finding = found(tmp_path, labels="binary")["mask-shifted", "warning"]
    assert finding.patients == ("P_1",) and "28 pixels up and 34 left" in finding.text


def test_faults_of_volumes(tmp_path):
    volumes(tmp_path, 9)
    # Of another scheme: refused. Of one that fits by its numbers and not by its meaning: contradicted by T1ce.
    write_patient(tmp_path, "P_1", seed=1, scheme=(0, 1, 2, 3))
    write_patient(tmp_path, "P_2", seed=2, scheme=(0, 4, 2, 1))
    write_volume(tmp_path / "P_3_flair.nii.gz", np.where(head(3)[0] > 200, np.nan, head(3)[0]))
    (tmp_path / "P_4_seg.nii.gz").write_bytes(b"none")
    for name in ("flair", "t1ce", "seg"):
        whole = np.array([0, 1, 2, 4], np.uint8)[head(5)[1]] if name == "seg" else head(5)[0]
        write_volume(tmp_path / f"P_5_{name}.nii.gz", whole, affine=np.diag([-1.0, -2.0, 5.0, 1.0]))
    write_patient(tmp_path, "P_6", seed=6, axes="RAS")
    write_patient(tmp_path, "P_7", seed=7, images=("_flair",))
    shutil.copy(tmp_path / "P_7_flair.nii.gz", tmp_path / "P_7_t1ce.nii.gz")
    write_patient(tmp_path, "P_8", seed=8, scheme=(0, 255, 255, 255))
    every = {(finding.check, finding.severity, finding.patients) for finding in check_data(tmp_path)}
    expected = {
        ("unreadable", "error", ("P_8",)),
        ("unreadable", "error", ("P_1",)),
        ("label-scheme", "warning", ("P_2",)),
        ("unreadable", "error", ("P_3",)),
        ("unreadable", "error", ("P_4",)),
        ("spacing", "warning", ("P_5",)),
        ("orientation", "note", ("P_6",)),
        ("copied-modality", "note", ("P_7",)),
    }
    assert expected <= every


def test_a_class_that_a_split_lacks(tmp_path):
    for number in range(6):
        write_patient(
            tmp_path / "data", f"P_{number}", seed=number, scheme=(0, 1, 2, 4) if number < 4 else (0, 1, 2, 2)
        )
    table, _ = list_slices(tmp_path / "data")
    table["split"] = table.patient.map(lambda name: {"P_4": "val", "P_5": "test"}.get(name, "train"))
    write_manifest(table, tmp_path / "m.csv")
    texts = [f.text for f in check_data(tmp_path / "m.csv", root=tmp_path / "data") if f.check == "missing-class"]
    assert len(texts) == 2 and all("enhancing tumour" in text for text in texts)


# ---- the command


def test_the_command_writes_table_json_and_page_and_says_it_by_its_exit_code(lgg_copy, clean, tmp_path):
    done = brainseg("data", "check", clean, cwd=tmp_path)
    assert done.returncode == 0 and "nothing was found" in done.stdout
    saturated(patients(lgg_copy)[2])
    assert brainseg("data", "check", lgg_copy, cwd=tmp_path).returncode == 1
    shifted(patients(lgg_copy)[2])
    done = brainseg("data", "check", lgg_copy, "-o", "report", "--json", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    findings = json.loads((tmp_path / "report" / "findings.json").read_text())["findings"]
    assert json.loads(done.stdout)["findings"] == findings
    assert findings[0]["severity"] == "error"
    page = (tmp_path / "report" / "findings.html").read_text()
    pictures = sum(len(finding.pictures) for finding in check_data(lgg_copy))
    assert page.count("data:image/png;base64,") == pictures > 1 and findings[0]["text"] in html.unescape(page)
    assert "http" not in page.replace("http-equiv", "")


def test_a_slice_beside_a_finding_is_shown_with_the_outline_of_its_mask(tmp_path):
    pixels, labels = (array[3] for array in head(1, (6, 64, 64)))
    finding = Finding("same-slice", "note", "A & B", ("A",), (Picture("A, slice 3", pixels[..., None], labels),))
    write_data_page([finding], "data", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "0 errors, 0 warnings, 1 note." in page and "A &amp; B" in page and "A, slice 3" in page
    (code,) = re.findall(r"data:image/png;base64,([^\"]+)", page)
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(code)))).astype(int)
    scale = len(picture) // 64
    green = (picture[..., 1] - picture[..., 0] > 50).nonzero()
    inside = np.argwhere(labels > 0)
    # It goes all around the tumour, whatever the class, and nowhere else.
    for axis, places in enumerate(green):
        low, high = inside[:, axis].min() * scale, (inside[:, axis].max() + 1) * scale - 1
        assert (places.min(), places.max()) == (low, high)
    assert not (picture[..., 1] - picture[..., 0] > 50)[tuple(np.int64(inside.mean(axis=0)) * scale)]


def test_somebody_elses_findings_are_not_replaced(clean, tmp_path):
    (tmp_path / "findings.json").write_text('["mine"]')
    done = brainseg("data", "check", clean, "-o", tmp_path, cwd=tmp_path)
    assert done.returncode == 2 and "findings.json is there, and brainseg did not make it" in " ".join(
        done.stderr.split()
    )
    assert (tmp_path / "findings.json").read_text() == '["mine"]'


def test_nothing_to_check(tmp_path):
    with pytest.raises(InputError, match="holds no layout"):
        check_data(tmp_path)
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    assert found(tmp_path / "m.csv")["manifest", "error"]
    with pytest.raises(InputError, match="No manifest"):
        check_data(tmp_path / "absent.csv")


def test_a_manifest_that_lists_a_slice_twice(lgg_copy, tmp_path):
    table, _ = list_slices(lgg_copy)
    table = pd.concat([table, table[:1]]).assign(split="train")
    write_manifest(table, tmp_path / "m.csv")
    assert "stands in it twice" in found(tmp_path / "m.csv", root=lgg_copy)["manifest", "error"].text
