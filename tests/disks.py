"""Commands that meet a full disk, and what has to hold afterwards."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import forks
import whole

#: What a message says of a disk that is full, or of a file that may not grow.
FULL = ("No space left on device", "File too large", "disk", "room", "free")


@contextlib.contextmanager
def small_disk(folder, size):
    """A disk of so many bytes, mounted at a folder that is made and removed.

    Raises:
        PermissionError: This user may not mount.
    """
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


def grow(folder, size):
    """Give a small disk more room."""
    _mount("-o", f"remount,size={size}", folder)


def may_mount(folder):
    """Say whether this user may mount a disk."""
    try:
        with small_disk(Path(folder) / "probe", 65536):
            return True
    except PermissionError:
        return False


def prepare(task, world, folder):
    """Put beside the results what the command works on."""
    for name in task.needs:
        shutil.copytree(world / name, folder / name)


def size_of(folder):
    """Give the bytes of all files below a folder, each rounded up to pages as a tmpfs does."""
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in folder.rglob("*") if file.is_file())


def judge(task, answer, folder):
    """Say what is wrong with how a command took to a full disk.

    Returns:
        The faults in words.
    """
    faults = []
    said = answer.stdout + answer.stderr
    if answer.code not in (0, 1, 2):
        faults.append(f"exit code {answer.code}: {said[-1500:]}")
    if "Traceback" in said:
        faults.append(f"traceback: {said[-1500:]}")
    elif answer.code and not any(word in said for word in FULL):
        faults.append(f"does not say that the disk is full: {said[-1500:]}")
    elif answer.code and task.output not in said:
        faults.append(f"does not say what could not be written: {said[-1500:]}")
    try:
        whole.contents(folder)
    except Exception as error:  # whatever a reader says of a file that is not whole
        faults.append(f"not whole: {error!r} {error.__notes__}")
    unknown, scratch = whole.strays(folder)
    if unknown + scratch:
        faults.append(f"left behind: {', '.join(path.name for path in unknown + scratch)}")
    return [f"{task.name}: {fault}" for fault in faults]


def again(task, folder):
    """Repeat a command that failed where there is room now; a training that has begun a run is continued."""
    run = folder / "run"
    if task.arguments[0] == "train" and "run" not in task.needs and (run / "run.json").is_file():
        answer = forks.brainseg("train", "--resume", "run", cwd=folder)
        return [] if answer.code == 0 or "is finished" in answer.stderr else [f"{task.name}: again: {answer.stderr}"]
    answer = forks.brainseg(*task.arguments, cwd=folder)
    return [f"{task.name}: again, with room: {answer.stderr[-1500:]}"] if answer.code else []


def _mount(*arguments):
    try:
        done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PermissionError("There is no mount.") from error
    if done.returncode:
        raise PermissionError(done.stderr)
