"""Lists of scans: what their lines name, what is refused before anything starts, and what `predict` makes of them."""

import json
import os
import shutil
import sys

import pandas as pd
import pytest
from commands import here
from scans import CHANNELS, PICTURES, brightness_model, nifti_file

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.scan_lists import gather
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.inference.status import find_status

NO_IDS = ("", "../x", "/x", "x/", "a//b", ".", '"a\tb"')


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model()).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)


@pytest.fixture
def archive(tmp_path):
    """Two pictures and a volume below one folder."""
    for place in ("one/slice.png", "two/slice.png"):
        (tmp_path / "archive" / place).parent.mkdir(parents=True)
        PICTURES["gray.png"](tmp_path / "archive" / place)
    nifti_file(tmp_path / "archive" / "three" / "flair.nii.gz", "RAS")
    return tmp_path / "archive"


def table(folder, text, name="list.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def masks(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*_mask*"))


def test_ids_name_the_results_and_paths_lie_below_the_list_or_anywhere(archive, predictor, tmp_path):
    lines = f"id,age,path\nthe first,30,one/slice.png\np/2,31,{archive}/two/slice.png\nNA,32,three/flair.nii.gz\n"
    done = predict([table(archive, lines)], tmp_path / "out", predictor=predictor)
    assert masks(tmp_path / "out") == ["NA_mask.nii.gz", "p/2_mask.png", "the first_mask.png"]
    files = ("one/slice.png", "two/slice.png", "three/flair.nii.gz")
    assert done.summary.file.tolist() == [str(archive / name) for name in files]
    ledger = pd.read_csv(tmp_path / "out" / "ledger.csv", keep_default_na=False)
    assert ledger["id"].tolist() == ["the first", "p/2", "NA"]
    assert predict([archive / "list.csv"], tmp_path / "out", predictor=predictor, skip_done=True).skipped == 3


def test_without_ids_results_lie_as_the_scans_do(archive, tmp_path):
    shutil.copy(archive / "one" / "slice.png", tmp_path / "elsewhere.tar.PNG")
    lines = f"path\n./one/slice.png\n\n{archive}/two/slice.png\nthree/flair.nii.gz\n{tmp_path}/elsewhere.tar.PNG\n"
    wanted = gather([table(archive, lines)])
    assert wanted.ids == ["one/slice", "two/slice", "three/flair", "elsewhere.tar"]
    files = ["slice.png", "slice.png", "flair.nii.gz", "elsewhere.tar.PNG"]
    assert [scan.find().files[0].name for scan in wanted.scans()] == files


def test_a_line_may_name_a_patients_folder(phantom, predictor, tmp_path):
    patient = sorted(path for path in phantom.iterdir() if path.is_dir())[0]
    lines = table(tmp_path, f"path,id\n{patient}/,p1\n{phantom},all\n")
    done = predict([lines], tmp_path / "out", predictor=predictor, overlays=False)
    assert masks(tmp_path / "out") == [f"p1/{patient.name}_{number}_mask.png" for number in range(1, 9)]
    assert done.failures == {str(phantom): f"{phantom} holds 6 scans. Give each of them a line of the list."}


def test_parquet_says_the_same_and_needs_an_extra(archive, predictor, tmp_path, monkeypatch):
    content = pd.DataFrame({"path": ["one/slice.png", "two/slice.png"], "id": [7, 8], "age": [1.5, None]})
    content.to_parquet(archive / "list.parquet")
    predict([archive / "list.parquet"], tmp_path / "out", predictor=predictor)
    assert masks(tmp_path / "out") == ["7_mask.png", "8_mask.png"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pyarrow is missing\. Install it: pip install 'brainseg_keras\[cluster\]'"):
        gather([archive / "list.parquet"])


def test_a_missing_and_an_unreadable_scan_are_rows_and_the_others_go_on(archive, predictor, tmp_path):
    (archive / "broken.png").write_text("none")
    (archive / "empty").mkdir()
    lines = "path,id\ngone.png,a\none/slice.png,b\nbroken.png,c\nempty,d\ntwo/slice.png,e\n"
    for count in (0, 2):
        done = predict([table(archive, lines)], tmp_path / "out", predictor=predictor, skip_done=True)
        assert done.skipped == count and len(done.failures) == 3
    ledger = pd.read_csv(tmp_path / "out" / "ledger.csv", keep_default_na=False).set_index("id")
    assert ledger.status.to_dict() == {"a": "failed", "b": "done", "c": "failed", "d": "failed", "e": "done"}
    assert "No such file or folder" in ledger.error["a"] and "No image in" in ledger.error["d"]
    summary = pd.read_csv(tmp_path / "out" / "summary.csv", keep_default_na=False)
    assert sorted(summary.file[summary.error != ""].map(os.path.basename)) == ["broken.png", "empty", "gone.png"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("path,id\na.png,x\nb.png,y\nc.png,X\n", r"list\.csv, line 2 and .*list\.csv, line 4 would both .*to X"),
        ("path\na/s.png\nb.png\na/s.jpg\n", "line 2 and .*line 4 would both be written to a/s. Give each its own id"),
        ("path,id\na.png,x\n\n./b.png,y\na.png,z\n", r"line 2 and .*line 5 name the same scan, .*a\.png\. Take"),
        ("path,id\na.png,x\n,y\n", "line 3 has no path"),
        ("file,id\na.png,x\n", "no list of scans. Expected rows with a column path. Received: id"),
        ("path,id\n", "no list of scans"),
        ("", "cannot be read"),
        *((f"path,id\na.png,x\nb.png,{id}\n", "line 3: .* cannot name results") for id in NO_IDS),
    ],
)
def test_a_bad_list_is_refused_before_anything_starts(lines, words, tmp_path):
    code, out, err = here("predict", str(table(tmp_path, lines)), "-o", str(tmp_path / "out"))
    assert (code, out) == (2, "") and "Traceback" not in err
    with pytest.raises(InputError, match=words):
        gather([tmp_path / "list.csv"])
    assert not (tmp_path / "out").exists()


def test_a_list_beside_a_folder_that_has_its_id_is_refused(archive, tmp_path):
    with pytest.raises(InputError, match="scans of one id"):
        gather([archive / "one", table(archive, "path,id\ntwo/slice.png,slice\n")])
    assert gather([archive / "one", table(archive, "path,id\ntwo/slice.png,other\n")]).ids == ["slice", "other"]


def test_the_command_goes_on_and_says_how_far_it_is(archive, tmp_path):
    brightness_model().save(tmp_path / "bright.keras")
    lines, out = table(archive, "path,id\none/slice.png,a\ngone.png,b\ntwo/slice.png,c\n"), str(tmp_path / "out")
    command = ("predict", str(lines), "--model", str(tmp_path / "bright.keras"), "--engine", "keras", "-o", out)
    assert here("predict", "--status", out)[0] == 2
    code, _, err = here(*command)
    assert code == 1 and "1 inputs could not be segmented" in err
    (tmp_path / "out" / "c_mask.png").unlink()
    code, said, _ = here("predict", str(lines), "--status", out)
    assert code == 0 and f"{out}: 1 of 3 scans done, 1 failed, 1 without their mask\n" in said
    assert "b: No such file or folder" in said
    code, said, err = here(*command, "--continue", "--json")
    assert code == 1 and json.loads(said)["skipped"] == 1 and len(json.loads(said)["results"]) == 1
    more = table(archive, lines.read_text() + "three/flair.nii.gz,d\n", "more.csv")
    found = json.loads(here("predict", str(more), "--status", out, "--json")[1])
    assert found["scans"] == 4 and found["counts"] == {"done": 2, "failed": 1, "missing": 1}
    assert list(found["errors"]) == ["b"] and list(found["models"].values()) == [3] and found["seconds"] > 0
    assert find_status(out).scans == 3
    code, said, err = here("predict", "-o", out)
    assert code == 2 and "Say what to segment and where the masks go" in err
