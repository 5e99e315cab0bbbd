"""summary.csv: several calls write to one folder, one after another or at once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, Popen
from sys import executable

import pandas as pd
import pytest
from PIL import Image
from scans import CHANNELS, GRAY, PICTURES, brightness_model, disc, slice_of

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.errors import InputError
from brainseg_keras.files import hold_folder, remove_leftovers, write_folder
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.inference.ledger import Entry, Key, Ledger
from brainseg_keras.inference.summary import COLUMNS


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model()).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)


@pytest.fixture
def scans(tmp_path):
    for name in "abc":
        PICTURES["gray.png"](tmp_path / f"{name}.png")
    return tmp_path


def listed(folder):
    table = pd.read_csv(folder / "summary.csv", keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    return {Path(row.file).name: bool(row.error) for row in table.itertuples()}


def test_the_rows_of_another_call_stay(predictor, scans):
    predict([scans / "a.png", scans / "b.png"], scans / "out", predictor=predictor)
    first = (scans / "out" / "summary.csv").read_text().splitlines()
    (scans / "bad.png").write_text("none")
    predict([scans / "c.png", scans / "bad.png"], scans / "out", predictor=predictor)
    lines = (scans / "out" / "summary.csv").read_text().splitlines()
    assert lines[:3] == first
    assert listed(scans / "out") == {"a.png": False, "b.png": False, "c.png": False, "bad.png": True}


def test_a_scan_that_is_segmented_again_has_one_row(predictor, scans):
    predict([scans / "a.png", scans / "b.png"], scans / "out", predictor=predictor)
    Image.fromarray(slice_of(tumour=disc(radius=8))).save(scans / "a.png")
    again = predict([scans / "a.png"], scans / "out", predictor=predictor).summary
    table = pd.read_csv(scans / "out" / "summary.csv").set_index("file")
    assert sorted(table.index) == [str(scans / "a.png"), str(scans / "b.png")]
    now, other = (table.tumour_size[str(scans / name)] for name in ("a.png", "b.png"))
    assert now == again.tumour_size[0] < other


def test_a_scan_that_fails_now_loses_its_old_row_and_the_reverse(predictor, scans):
    predict([scans / "a.png", scans / "b.png"], scans / "out", predictor=predictor)
    (scans / "a.png").write_text("none")
    predict([scans / "a.png", scans / "c.png"], scans / "out", predictor=predictor)
    assert listed(scans / "out") == {"a.png": True, "b.png": False, "c.png": False}
    PICTURES["gray.png"](scans / "a.png")
    predict([scans / "a.png"], scans / "out", predictor=predictor)
    assert listed(scans / "out") == {"a.png": False, "b.png": False, "c.png": False}


def test_rows_without_their_mask_go(predictor, scans):
    predict([scans / "a.png", scans / "b.png"], scans / "out", predictor=predictor)
    (scans / "out" / "a_mask.png").unlink()
    predict([scans / "c.png"], scans / "out", predictor=predictor)
    assert listed(scans / "out") == {"b.png": False, "c.png": False}


def test_one_mask_has_one_row_from_wherever_it_was_written(predictor, scans, monkeypatch):
    """Paths are as the caller gave them: relative to another folder, or of an output folder that was moved since."""
    monkeypatch.chdir(scans)
    predict(["a.png", "b.png"], "out", predictor=predictor)
    (scans / "out").rename(scans / "moved")
    (scans / "deep").mkdir()
    monkeypatch.chdir(scans / "deep")
    predict(["../a.png", "../c.png"], "../moved", predictor=predictor)
    table = pd.read_csv(scans / "moved" / "summary.csv")
    assert table.file.tolist() == ["b.png", "../a.png", "../c.png"]


def test_calls_at_once_lose_no_row(tmp_path):
    def add(number):
        names = [f"{number}_{index}.png" for index in range(5)]
        for name in names:
            (tmp_path / f"{name}_mask.png").write_text("")
        ledger = Ledger(tmp_path)
        for name in names:
            row = {"file": name, "tumour_size": 3, "mask": str(tmp_path / f"{name}_mask.png")}
            made = {"masks": (f"{name}_mask.png",), "rows": (row,), "faults": {}}
            ledger.append(Entry(name, "done", 0.1, "", Key("a", "b"), "onnx", host="here", time=f"{number}", **made))
        ledger.close()
        ledger.join()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert len(listed(tmp_path)) == 40


@pytest.mark.slow
def test_two_commands_at_once_into_one_folder(scans, tmp_path):
    brightness_model().save(tmp_path / "bright.keras")
    command = "from brainseg_keras.cli import main; main()"
    both = [
        Popen(
            [executable, "-c", command, "predict", *names, "--model", "bright.keras", "-o", "out"],
            cwd=tmp_path,
            stderr=PIPE,
            text=True,
        )
        for names in (["a.png", "b.png"], ["b.png", "c.png"])
    ]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert listed(tmp_path / "out") == {"a.png": False, "b.png": False, "c.png": False}
    for name in "abc":
        assert Image.open(tmp_path / "out" / f"{name}_mask.png").size == GRAY.shape[::-1]


@pytest.mark.parametrize("content", [b"patient,age\nA,3\n", b"\xff\xfe\x00", b"", b'"'])
def test_a_summary_of_somebody_else_is_kept(content, predictor, scans):
    (scans / "out").mkdir()
    (scans / "out" / "summary.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"summary\.csv.*another output folder"):
        predict([scans / "a.png"], scans / "out", predictor=predictor)
    assert [path.name for path in (scans / "out").iterdir()] == ["summary.csv"]
    assert (scans / "out" / "summary.csv").read_bytes() == content


def test_what_was_done_before_an_interruption_is_listed(predictor, scans):
    def interrupted(found):
        yield from found[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict([scans], scans / "out", predictor=predictor, progress=interrupted)
    assert listed(scans / "out") == {"a.png": False, "b.png": False}


def test_what_a_killed_call_left_is_removed(predictor, scans):
    (scans / "out").mkdir()
    old, young = scans / "out" / ".brainseg-1-0123abcd.png", scans / "out" / ".brainseg-2-4567cdef.png"
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    predict([scans / "a.png"], scans / "out", predictor=predictor)
    assert young.exists() and not old.exists()


def test_a_folder_is_waited_for(tmp_path):
    order = []

    def hold():
        with hold_folder(tmp_path):
            order.append("first")
            started.append(True)
            time.sleep(0.3)
            order.append("done")

    started = []
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        while not started:
            time.sleep(0.01)
        with pytest.raises(InputError, match="in use"), hold_folder(tmp_path):
            pass
        with hold_folder(tmp_path, wait=30):
            order.append("second")
        held.result()
    assert order == ["first", "done", "second"]


def test_a_folder_made_meanwhile_by_another_process_is_kept(tmp_path):
    def write(scratch):
        scratch.mkdir()
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "theirs").write_text("1")

    with pytest.raises(InputError, match="exists already"):
        write_folder(tmp_path / "new", write)
    remove_leftovers(tmp_path, age=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "theirs"]
