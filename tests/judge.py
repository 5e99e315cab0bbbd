"""What a command may make of a damaged file: go on where it can, or one message with the file's name and the cure."""

import contextlib
import io
import re
import shutil
import traceback
from pathlib import Path

import pytest
import whole

from brainseg_keras.cli import run

TRAIN = ("--filters", "4", "--depth", "1", "--size", "32", "--epochs", "1", "--architecture", "res_unet")
COMMANDS = {
    "resume": ("train", "--resume", "run", "--epochs", "2"),
    "init": ("train", "--data", "data.h5", *TRAIN, "--init", "run/best.keras", "-o", "new"),
    "train": ("train", "--data", "data.h5", *TRAIN, "-o", "new"),
    "config": ("train", "--config", "run/config.yaml", "--data", "data.h5", "-o", "new"),
    "predict": ("predict", "scan.png", "--model", "run", "-o", "out"),
    "predict last": ("predict", "scan.png", "--model", "run/last.keras", "-o", "out"),
    "predict onnx": ("predict", "scan.png", "--model", "run.onnx", "-o", "out"),
    "predict litert": ("predict", "scan.png", "--model", "run.tflite", "-o", "out"),
    "evaluate": ("evaluate", "--model", "run", "--data", "data.h5", "--split", "all", "-o", "out"),
    "evaluate onnx": ("evaluate", "--model", "run.onnx", "--data", "data.h5", "-o", "out"),
    "evaluate litert": ("evaluate", "--model", "run.tflite", "--data", "data.h5", "-o", "out"),
    "tune": ("tune", "--model", "run", "--data", "data.h5"),
    "export": ("export", "--model", "run", "-o", "out.onnx"),
    "check": ("data", "check", "data.h5"),
    "compare": ("compare", "run", "other"),
}
#: Which commands read a file. A name with a dash in it stands for a damage of its own.
READ_BY = {
    "run/last.keras": ("resume", "predict last"),
    "run/best.keras": ("predict", "evaluate", "tune", "export", "init"),
    "run/history.csv": ("resume",),
    "run/run.json": ("resume", "predict", "predict last", "evaluate", "tune", "export"),
    "run/config.yaml": ("resume", "config"),
    "run/postprocess.json": ("predict", "evaluate", "export"),
    "run/evaluation/all/per_patient.csv": ("compare",),
    "run/evaluation/all/report.json": ("compare",),
    "data.h5": ("resume", "train", "evaluate", "tune", "check"),
    "run.onnx": ("predict onnx", "evaluate onnx"),
    "run.tflite": ("predict litert", "evaluate litert"),
    "run.onnx.json": ("predict onnx", "evaluate onnx"),
    "run.tflite.json": ("predict litert", "evaluate litert"),
}
_PREDICTING = ("predict", "predict last", "evaluate", "tune", "export")
#: Two files that do not fit each other: which of them is to blame nobody can say.
_MAY_ALSO_BE_NAMED = {
    ("compare", "run/evaluation/all/per_patient.csv"): ("run and other",),
    **{(command, f"run/{name}.keras"): ("run.json",) for command in _PREDICTING for name in ("best", "last")},
}
#: Sentences that tell what to do begin so.
_CURE = re.compile(
    r"(?:^|[.:;,(] |\n)(?:or )?(?:Add|Ask|Build|Check|Choose|Compare|Continue|Copy|Correct|Evaluate|Expected|Export"
    r"|Free|Give|Keep|Leave|Make|Move|Pack|Put|Read|Remove|Rename|Repeat|Restore|Resume|Run|Save|Say|Set|Start|Take|Train"
    r"|Try|Tune|Use|Write)\b",
    re.IGNORECASE,
)


def brainseg_here(*arguments):
    """Run the command line in this process.

    Returns:
        Its exit code, and all that it printed.

    Raises:
        Exception: What the command line lets through: a traceback on a terminal.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as end:
        run(list(map(str, arguments)))
    return end.value.code or 0, said.getvalue()


def judge(world, damage, command, folder):
    """Damage a copy of the world, run a command on it, and say what is wrong with what came of it.

    Args:
        world: As `make_world` made it.
        damage: What to do to it.
        command: Name of one of `COMMANDS`.
        folder: Where the copy is made; removed again.

    Returns:
        The fault in words, or None.
    """
    shutil.copytree(world, folder)
    try:
        file = folder / damage.file
        damage.make(file)
        before = _snapshot(folder)
        with contextlib.chdir(folder):
            try:
                code, said = brainseg_here(*COMMANDS[command])
            except Exception:  # what no user should see
                return f"traceback\n{traceback.format_exc(limit=-6)}"
        if code == 0:
            return _judge_success(damage, command, said)
        return _judge_refusal(damage, command, code, said, before, _snapshot(folder))
    finally:
        shutil.rmtree(folder)


def _judge_success(damage, command, said):
    if command == "resume" and damage.file == "run/last.keras" and damage.fatal:
        return None if "best.keras" in said else f"went on without a word: {said}"
    return "taken as if nothing were wrong" if damage.fatal else None


def _judge_refusal(damage, command, code, said, before, after):
    if code not in (1, 2):
        return f"exit code {code}: {said}"
    if "Traceback" in said:
        return f"traceback in the message: {said}"
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        return f"wrote {', '.join(changed)}, and then refused: {said}"
    if command == "check" and "severity" in said:
        # A table of findings: what was checked is its title, and the cure a matter of each.
        return None
    names = [Path(damage.file).name, *_MAY_ALSO_BE_NAMED.get((command, damage.file), ())]
    if not any(name in " ".join(said.split()) for name in names):
        return f"does not name the file: {said}"
    return None if _CURE.search(said) else f"tells no cure: {said}"


def _snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name not in whole.LOCKS
    }
