"""Formats are objects of one list: what each takes, what it refuses, and how another one joins."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import here
from PIL import Image
from volumes import write_patient

from brainseg_keras.data.checking.checks import check_data
from brainseg_keras.data.decode.images import pixel_checksum
from brainseg_keras.data.formats.base import Contents, FolderFormat
from brainseg_keras.data.formats.registry import FOLDER_FORMATS
from brainseg_keras.data.manifest import COLUMNS, write_manifest
from brainseg_keras.data.sources import list_slices, open_source
from brainseg_keras.data.volumes import PatientPixels
from brainseg_keras.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
#: What may be said of how data are read, and a value of each.
OPTIONS = {
    "modalities": "FLAIR",
    "labels": "binary",
    "image_pattern": "(?P<patient>.+)",
    "label_pattern": "(?P<patient>.+)",
    "root": "elsewhere",
}
REFUSED = [
    (format, option) for format, layout in FOLDER_FORMATS.items() for option in OPTIONS if option not in layout.options
]


def flag(option):
    return "--" + option.replace("_", "-")


def test_every_option_is_taken_somewhere_and_refused_somewhere():
    taken = {option for layout in FOLDER_FORMATS.values() for option in layout.options}
    assert taken == OPTIONS.keys() - {"root"}
    assert {option for _, option in REFUSED} == OPTIONS.keys() - {"modalities"}
    assert {("lgg", "labels"), ("msd", "image_pattern"), ("pairs", "label_pattern")} <= set(REFUSED)


@pytest.mark.parametrize(("format", "option"), REFUSED)
def test_an_option_that_a_format_does_not_take_is_refused(format, option, tmp_path):
    with pytest.raises(InputError) as refused:
        open_source(tmp_path, format=format, **{option: OPTIONS[option]})
    before, after = str(refused.value).split("only")
    assert f"format {format}" in before and flag(option) in before and repr(OPTIONS[option]) in before
    takers = {name for name, layout in FOLDER_FORMATS.items() if option in layout.options}
    assert set(re.findall("|".join(FOLDER_FORMATS), after)) == takers
    assert takers or "manifest" in after


@pytest.mark.parametrize(("name", "taken"), [("packed.h5", {"modalities"}), ("list.csv", {"modalities", "root"})])
@pytest.mark.parametrize("option", [*OPTIONS, "format"])
def test_options_of_folders_mean_nothing_for_manifests_and_packed_data(name, taken, option, tmp_path):
    for read in (open_source, check_data):
        with pytest.raises(InputError) as refused:
            read(tmp_path / name, **{option: OPTIONS.get(option, "lgg")})
        # What is taken gets as far as the file, which is not there.
        assert (f"takes no {flag(option)}." in str(refused.value)) == (option not in taken)


def test_the_detected_format_refuses_too(phantom):
    for read in (open_source, list_slices, check_data):
        with pytest.raises(InputError, match=r"format lgg, which takes no --labels.*msd or pairs or nifti"):
            read(phantom, labels="binary")


def test_a_list_takes_no_sequences_where_it_does_not_hang_on_them(phantom):
    with pytest.raises(InputError, match=r"format lgg hold all sequences.*no --modalities"):
        list_slices(phantom, modalities="FLAIR")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pack", "{}", "--labels", "binary", "-o", "new.h5"), "takes no --labels"),
        (("manifest", "lgg", "{}", "--image-pattern", ".+", "-o", "new.csv"), "takes no --image-pattern"),
        (("split", "{}", "--modalities", "FLAIR", "-o", "new"), "takes no --modalities"),
        (("split", "list.csv", "--labels", "msd", "-o", "new"), "list.csv is a list already, which takes no --labels"),
        (("check", "{}", "--root", "elsewhere"), "takes no --root"),
    ],
)
def test_the_command_line_refuses_with_code_2_and_writes_nothing(words, said, phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    code, out, err = here("data", *(word.format(phantom) for word in words))
    assert (code, out) == (2, "")
    assert said in " ".join(err.split()) and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_the_document_names_every_format():
    rows = re.findall(r"^\| `(\w[\w-]*)` \|", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows[: len(FOLDER_FORMATS)] == list(FOLDER_FORMATS)


class Arrays(FolderFormat):
    """One `.npy` file a patient, mask behind image: what CONTRIBUTING.md asks of a new format."""

    name = "arrays"
    layout = "<patient>.npy"

    def detect(self, folder):
        return any(folder.glob("*.npy"))

    def list_slices(self, folder, *, checksums=False, skipped=None, progress=iter):
        rows = [
            dict.fromkeys(COLUMNS, "") | {"dataset": "arrays", "patient": f.stem, "image": f.name, "mask": f.name}
            for f in progress(sorted(folder.glob("*.npy")))
        ]
        return pd.DataFrame(rows).assign(slice=0, tumour_pixels=1), folder

    def contents(self, table, root, scheme, modalities):
        return Contents(("T2",), read=self.read)

    def read(self, rows, root, channels):
        image, mask = np.load(root / rows.image.iloc[0])
        return PatientPixels(image[np.newaxis, ..., np.newaxis], mask[np.newaxis])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of three patients in each format."""
    whole = tmp_path_factory.mktemp("folders")
    made = {name: whole / name for name in FOLDER_FORMATS}
    for name, layout in FOLDER_FORMATS.items():
        if layout.phantom:
            layout.write_phantom(made[name], patients=3, slices=6, size=32, seed=1)
    for patient in "ABC":
        write_patient(made["msd"] / "labelsTr", patient, images=(), label="", scheme=(0, 2, 1, 3))
        write_patient(made["msd"] / "imagesTr", patient, images=("",), label="_left_out")
        for folder, tumour in (("images", 3), ("masks", 255)):
            (made["pairs"] / folder).mkdir(parents=True, exist_ok=True)
            pixels = np.where(np.eye(8), tumour, 0).astype(np.uint8)
            Image.fromarray(pixels).save(made["pairs"] / folder / f"{patient}_1.png")
    (made["msd"] / "dataset.json").write_text('{"modality": {"0": "FLAIR"}}')
    # What macOS puts beside each file of an archive, and what a folder's window leaves.
    for file in [path for path in whole.rglob("*") if path.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"Mac OS X")
        file.with_name(".DS_Store").write_bytes(b"window")
    return made


@pytest.mark.parametrize("format", FOLDER_FORMATS)
def test_a_folder_is_known_for_what_it_is(format, folders, tmp_path):
    assert not FOLDER_FORMATS[format].detect(tmp_path)
    known = [name for name, layout in FOLDER_FORMATS.items() if layout.detect(folders[format])]
    assert known[0] == format
    assert set(list_slices(folders[format])[0].dataset.str.partition(":")[0]) == {format}


@pytest.mark.parametrize("format", FOLDER_FORMATS)
def test_checksums_are_of_the_pixels_and_only_where_they_are_asked_for(format, folders):
    sums = ["image_sha256", "mask_sha256"]
    table, _ = FOLDER_FORMATS[format].list_slices(folders[format])
    assert table.patient.nunique() == 3 and (table[sums] == "").all(axis=None)
    pd.testing.assert_frame_equal(table, table.sort_values(["patient", "slice"], ignore_index=True))
    table = list_slices(folders[format], checksums=True)[0]
    source = open_source(folders[format])
    for patient, rows in table.groupby("patient"):
        volume = source.volume(patient)
        assert rows.image_sha256.tolist() == [pixel_checksum(image) for image in volume.images]
        assert rows.mask_sha256.tolist() == [pixel_checksum(mask) for mask in volume.masks]
        assert rows.tumour_pixels.tolist() == [(mask > 0).sum() for mask in volume.masks]


def test_another_format_is_a_class_and_a_line(monkeypatch, tmp_path):
    monkeypatch.setitem(FOLDER_FORMATS, "arrays", Arrays())
    for number, patient in enumerate("ABC"):
        image = np.arange(64, dtype=np.uint8).reshape(8, 8) + number
        np.save(tmp_path / f"{patient}.npy", np.stack([image, image > 60]))
    write_manifest(list_slices(tmp_path)[0].assign(split="train"), tmp_path / "list.csv")
    for source in (open_source(tmp_path), open_source(tmp_path / "list.csv")):
        volume = source.volume("B")
        assert source.channels == ("T2",)
        assert volume.images[0, 0, :3, 0].tolist() == [1, 2, 3]
        assert volume.masks.sum() == 4
    with pytest.raises(InputError, match=r"format arrays, which takes no --labels"):
        open_source(tmp_path, labels="binary")
