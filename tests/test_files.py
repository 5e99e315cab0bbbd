"""Files are written whole or not at all, whatever happens; a folder is held by one process."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from brainseg_keras.errors import InputError, reading
from brainseg_keras.files import (
    check_replaceable,
    hold_folder,
    remove_leftovers,
    write_text,
    write_whole,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_keeps_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    def fail(scratch):
        scratch.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(tmp_path / "a.txt", fail)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_is_seen_while_writing_is_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    def write(scratch):
        scratch.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
        # Another process, or another thread, that writes the same file at this moment.
        write_text(tmp_path / "a.txt", "theirs")

    write_whole(tmp_path / "a.txt", write)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["mask.nii.gz", "model.weights.h5", "model.keras", "a.b.c.png", "x" * 251 + ".png"])
def test_the_scratch_file_has_the_ending_and_a_name_that_fits(name, tmp_path):
    seen = []
    write_whole(tmp_path / name, lambda scratch: (seen.append(scratch.name), scratch.write_bytes(b"1")))
    ending = {"mask.nii.gz": ".nii.gz", "model.weights.h5": ".weights.h5"}.get(name, Path(name).suffix)
    assert seen[0].endswith(ending)
    assert seen[0].startswith(".")
    assert names(tmp_path) == [name]


def test_folders_are_whole_as_well(tmp_path):
    def write(scratch):
        (scratch / "deep").mkdir(parents=True)
        (scratch / "deep" / "file").write_text("1")

    write_whole(tmp_path / "new" / "folder", write)
    assert (tmp_path / "new" / "folder" / "deep" / "file").read_text() == "1"
    # A folder with something in it is not replaced.
    with pytest.raises(OSError, match=r"folder"):
        write_whole(tmp_path / "new" / "folder", write)
    assert names(tmp_path / "new") == ["folder"]


def test_an_error_of_the_disk_names_the_file_and_not_the_scratch_file(tmp_path):
    def full(scratch):
        raise OSError(errno.ENOSPC, "No space left on device", str(scratch))

    with pytest.raises(OSError, match=r"No space left.*a\.csv") as caught:
        write_whole(tmp_path / "a.csv", full)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="elsewhere"):
        write_whole(tmp_path / "a.csv", lambda scratch: Path("elsewhere/nothing").read_text())


def test_leftovers_of_killed_processes_go_and_young_ones_stay(tmp_path):
    code = (
        "import os, sys; from brainseg_keras.files import write_whole\n"
        "write_whole(sys.argv[1], lambda scratch: (scratch.write_text('half'), os.kill(os.getpid(), 9)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.csv"], check=False)
    assert done.returncode == -9
    (left,) = names(tmp_path)
    remove_leftovers(tmp_path, age=600)
    assert names(tmp_path) == [left]
    mine = [".brainseg-notes", ".brainseg-12-abc", ".brainseg-x-01234567"]
    for name in mine:
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path, age=0)
    assert names(tmp_path) == sorted(mine)


@pytest.mark.parametrize(
    ("ending", "content", "ours"),
    [
        (".csv", b"patient,slice\n1,2\n", True),
        (".csv", b"mine", False),
        (".csv", b"", False),
        (".txt", b"0" * 200_000 + b"patient,slice", True),
        (".txt", b"0" * 100_000 + b"patient,slice" + b"0" * 100_000, False),
        (".gz", b"no gzip patient,slice", False),
    ],
)
def test_only_marked_files_are_replaced(ending, content, ours, tmp_path):
    path = tmp_path / f"table{ending}"
    path.write_bytes(content)
    if ours:
        write_text(path, "new patient,slice", mark="patient,slice")
    else:
        with pytest.raises(InputError, match=rf"table\{ending} is there, and brainseg did not make it.*another -o"):
            write_text(path, "new patient,slice", mark="patient,slice")
        assert path.read_bytes() == content


def test_a_zipped_mark_is_found_and_a_folder_is_not_replaced(tmp_path):
    import gzip

    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"0" * 300 + b"brainseg_keras"))
    check_replaceable(tmp_path / "a.nii.gz", "brainseg_keras")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder is there"):
        check_replaceable(tmp_path / "folder", "any")


HOLD = """
import sys, time
from brainseg_keras.files import hold_folder
with hold_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_held_folder_names_its_process_and_is_free_when_that_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=rf"run is in use by process {process.pid} on .*Wait for it"),
            hold_folder(tmp_path / "run"),
        ):
            pass
        # The refused one must not have taken the name away.
        with pytest.raises(InputError, match=f"process {process.pid}"), hold_folder(tmp_path / "run"):
            pass
    finally:
        process.kill()
        process.wait()
    with hold_folder(tmp_path / "run"):
        pass
    with hold_folder(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    "fault",
    [lambda: {}["seed"], lambda: [][1], lambda: None.x, lambda: int("x"), lambda: 1 + "1", lambda: 1 / 0],
)
def test_reading_names_the_file_and_the_cure(fault):
    with (
        pytest.raises(InputError, match=r"^run\.json is damaged \(.+: .+\)\. Restore it\.$"),
        reading("run.json", "Restore it."),
    ):
        fault()
