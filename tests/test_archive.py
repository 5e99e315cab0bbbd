"""An archive: hundreds of scans, killed again and again, in parts at once, on a disk that fills; as if undisturbed."""

import csv
import hashlib
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import forks
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scans import brightness_model

from brainseg_keras.data.phantom.lgg import phantom_volume
from brainseg_keras.export import export

SCANS, BROKEN, KILLS = 300, (17, 150, 288), 20


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Lone slices of phantoms, three of them broken, and a network that is quick to load."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "scans").mkdir()
    slices = np.concatenate([phantom_volume(5, number, slices=10, size=48)[0] for number in range(SCANS // 10)])
    for number, pixels in enumerate(slices):
        file = folder / "scans" / f"scan_{number:03}.png"
        Image.fromarray(np.uint8(pixels)).save(file)
        if number in BROKEN:
            file.write_bytes(file.read_bytes()[:90])
    lines = [f"scans/scan_{number:03}.png,{number % 7}/{number:03}\n" for number in range(SCANS)]
    (folder / "list.csv").write_text("path,id\n" + "".join(lines))
    brightness_model(level=1.3).save(folder / "bright.keras")
    export(folder / "bright.keras", folder / "bright.onnx")
    return folder


def segment(archive, cwd, *more, **kill):
    command = ("predict", archive / "list.csv", "--model", archive / "bright.onnx", "--engine", "onnx", "-o", "out")
    return forks.brainseg(*command, "--continue", *more, cwd=cwd, **kill)


@pytest.fixture(scope="module")
def undisturbed(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    answer = segment(archive, folder)
    assert answer.code == 1 and "3 inputs could not be segmented" in answer.stderr, answer.stderr
    return folder / "out", answer.seconds


def pictures(out):
    # Hidden is what a killed process had begun to write.
    found = out.rglob("[!.]*.png")
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def rows(file, without=()):
    """Of a table, in whatever order they were written."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False).drop(columns=list(without))
    return sorted(table.itertuples(index=False, name=None))


def assert_as_undisturbed(out, expected):
    assert len(pictures(expected)) == 2 * (SCANS - len(BROKEN))
    assert not {*pictures(out).items()} ^ {*pictures(expected).items()}
    assert rows(out / "summary.csv") == rows(expected / "summary.csv")
    timed = ("seconds", "time")
    assert rows(out / "ledger.csv", timed) == rows(expected / "ledger.csv", timed)
    status = pd.read_csv(out / "ledger.csv", dtype=str).set_index("id").status
    assert sorted(status.index[status != "done"]) == sorted(f"{number % 7}/{number:03}" for number in BROKEN)


def times_made(out):
    """How often each scan has a row that says that it is done; a line that a kill has torn is none."""
    made = []
    for file in (out / "ledger" / "scans").glob("*.csv"):
        whole = file.read_text().rpartition("\n")[0].splitlines()
        made += [row[0] for row in csv.reader(whole[1:]) if row[1] == "done"]
    return pd.Series(made).value_counts()


@pytest.mark.slow
def test_killed_twenty_times_and_continued(archive, undisturbed, tmp_path):
    expected, seconds = undisturbed
    rng, killed, between = random.Random(15), 0, []
    for _ in range(3 * KILLS):
        if killed == KILLS:
            break
        # Half of them from the start on, half while it writes.
        watch = rng.choice([None, "*.csv"])
        answer = segment(archive, tmp_path, kill_after=rng.uniform(0, seconds / 12), watch=watch)
        assert answer.code in (1, -signal.SIGKILL), answer.stderr
        killed += answer.code == -signal.SIGKILL
        between.append(len(pictures(tmp_path)))
    assert killed == KILLS and len({*between}) > 5, f"killed where nothing happened: {between}"
    assert segment(archive, tmp_path).code == 1
    assert_as_undisturbed(tmp_path / "out", expected)
    assert times_made(tmp_path / "out").max() == 1


@pytest.mark.slow
def test_four_parts_at_once_into_one_folder(archive, undisturbed, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        parts = [f"--part={index}/4" for index in range(1, 5)]
        answers = list(pool.map(lambda part: segment(archive, tmp_path, part), parts))
    assert {answer.code for answer in answers} <= {0, 1} and all("Traceback" not in one.stderr for one in answers)
    assert_as_undisturbed(tmp_path / "out", undisturbed[0])
    assert times_made(tmp_path / "out").to_dict().keys() == times_made(undisturbed[0]).to_dict().keys()
    assert times_made(tmp_path / "out").max() == 1


@pytest.mark.slow
def test_a_ledger_that_may_not_grow_keeps_what_it_has(archive, undisturbed, tmp_path):
    """As on a full disk: at 20,000 bytes the ledger is the first file that finds no room."""
    answer = segment(archive, tmp_path, "--no-overlays", largest_file=20_000)
    assert answer.code == 1 and "Traceback" not in answer.stderr
    assert "File too large" in answer.stderr and "out/ledger" in answer.stderr
    files = [file.read_text() for file in (tmp_path / "out" / "ledger").rglob("*.csv")]
    assert len(files) == 2 and all(text.endswith("\n") for text in files)
    made = times_made(tmp_path / "out")
    assert 10 < len(made) < SCANS
    answer = segment(archive, tmp_path, "--no-overlays")
    assert answer.code == 1 and f"{len(made)} of 300 scans are done and left out" in answer.stderr
    assert rows(tmp_path / "out" / "summary.csv") == rows(undisturbed[0] / "summary.csv")
    assert times_made(tmp_path / "out").max() == 1
