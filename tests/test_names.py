"""Names are text, whatever is in them, on whatever terminal: no markup, no encoding that is taken for granted."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import here

import brainseg_keras
from brainseg_keras.training.config import TrainingConfig

PACKAGE = Path(brainseg_keras.__file__).parent
#: The smallest training.
SMALL = ("--architecture=res_unet", "--filters=2", "--depth=1", "--size=32", "--epochs=1", "--batch-size=4")

STRANGE = "[/x] [bold] :x: $a_b$"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """An own folder to stand in."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("names"))
    yield Path.cwd()
    os.chdir(before)


@pytest.fixture(scope="module")
def strange(folder):
    """A folder whose name is markup to rich, with data, a run and its evaluation, all made by commands."""
    texts = {}

    def done(what, *arguments):
        code, out, err = here(*arguments)
        assert code == 0, err
        texts[what] = out + err

    data, made = f"{STRANGE}/kaggle_3m", f"{STRANGE}/run"
    done("phantom", "data", "phantom", STRANGE, "--patients=4", "--slices=6", "--size=32")
    done("pack", "data", "pack", data, "-o", f"{STRANGE}/all.h5")
    done("train", "train", "--data", f"{STRANGE}/all.h5", *SMALL, "-o", made)
    done("predict", "predict", data, "--model", made, "-o", f"{STRANGE}/masks")
    done("evaluate", "evaluate", "--model", made, "--data", data)
    done("compare", "compare", f"{made}/evaluation/test", f"{made}/evaluation/test")
    texts["check"] = "".join(here("data", "check", data, "-o", f"{STRANGE}/findings")[1:])
    return folder / STRANGE, texts


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("phantom", "/kaggle_3m"),
        ("pack", "/all.h5"),
        ("train", "/run"),
        ("predict", "/masks"),
        ("evaluate", "/run/evaluation/test/report.html"),
        ("compare", "/run/evaluation/test"),
        ("check", "/kaggle_3m"),
    ],
)
def test_a_path_is_printed_as_it_is(command, path, strange):
    texts = strange[1]
    # Where a table breaks a line is not the question.
    assert "".join((STRANGE + path).split()) in "".join(texts[command].split())


def test_what_is_written_below_a_strange_name_can_be_read(strange):
    made = strange[0]
    assert (made / "run" / "best.keras").is_file()
    assert TrainingConfig.from_yaml(made / "run" / "config.yaml").data == f"{STRANGE}/all.h5"
    assert pd.read_csv(made / "masks" / "summary.csv").file.str.startswith(STRANGE).all()
    assert (made / "findings" / "findings.html").is_file()


def test_an_error_names_a_strange_path():
    code, _, err = here("data", "check", STRANGE + "/absent")
    assert code == 2
    assert err.startswith(f"Error: No such folder: {STRANGE}/absent. ")


# ---- locales

PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


FOREIGN = "größe_腦"
ESCAPED = os.fsencode(FOREIGN).decode("ascii", "surrogateescape").encode("ascii", "backslashreplace").decode()


def in_plain_locale(commands):
    """Run commands in one fresh process without UTF-8, hold their exit codes, and give what they print."""
    code = (
        "import json, os, sys\n"
        "from brainseg_keras import cli\n"
        "def each(*, run=cli.run):\n"
        "    for line in json.load(sys.stdin):\n"
        "        try:\n"
        "            run([os.fsdecode(bytes.fromhex(part)) for part in line])\n"
        "        except SystemExit as end:\n"
        "            print('code', end.code or 0, flush=True)\n"
        "cli.run = each\n"
        "cli.main()\n"
    )
    lines = json.dumps([[part.encode().hex() for part in line] for line in commands])
    done = subprocess.run(
        [sys.executable, "-c", code], input=lines.encode(), capture_output=True, env=os.environ | PLAIN, timeout=900
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Unicode" not in err, err
    assert "Traceback" not in err, err
    assert [int(line.split()[1]) for line in out.splitlines() if line.startswith("code ")] == list(commands.values())
    return out, err


def test_a_locale_without_utf8_works(folder):
    commands = {
        ("--help",): 0,
        ("data", "phantom", FOREIGN, "--patients=4", "--slices=6", "--size=32"): 0,
        ("data", "check", f"{FOREIGN}/kaggle_3m", "-o", f"{FOREIGN}/findings"): 0,
        ("data", "manifest", "lgg", f"{FOREIGN}/kaggle_3m", "-o", f"{FOREIGN}/all.csv"): 0,
        ("train", "--data", f"{FOREIGN}/kaggle_3m", "-o", f"{FOREIGN}/run"): 2,
        ("data", "check", f"{FOREIGN}/absent"): 2,
        ("train", f"--{FOREIGN}"): 2,
    }
    out, err = in_plain_locale(commands)
    assert "Usage: brainseg" in out
    assert f"Error: No such folder: {ESCAPED}/absent" in err
    assert f"has a name in UTF-8, for TensorFlow. Received: {ESCAPED}/run. Give another -o, or set PYTHONUTF8=1" in err
    assert not (folder / FOREIGN / "run").exists()
    assert f"{ESCAPED}/kaggle_3m" in (folder / FOREIGN / "findings" / "findings.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_training_in_a_locale_without_utf8_works(folder):
    data = f"{FOREIGN}/training/kaggle_3m"
    commands = {
        ("models",): 0,
        ("data", "phantom", f"{FOREIGN}/training", "--patients=4", "--slices=6", "--size=32"): 0,
        ("train", "--data", data, *SMALL, "-o", "plain/run"): 0,
        ("evaluate", "--model", "plain/run", "--data", data): 0,
    }
    out, err = in_plain_locale(commands)
    assert "attention_res_unet" in out
    assert "run: plain/run" in err
    assert (folder / "plain" / "run" / "evaluation" / "test" / "report.html").is_file()


@pytest.mark.slow
def test_a_name_that_is_no_utf8_ends_a_command_with_a_cure(strange):
    """TensorFlow takes no such folder."""
    name = os.fsdecode(b"folder\xff")
    code, _, err = here("export", "--model", f"{STRANGE}/run", "--format", "savedmodel", "-o", f"{name}/exported")
    assert code == 2
    assert "Error: A name is not UTF-8" in err
    assert "Rename the file, or set PYTHONUTF8=1" in err
    assert not list(Path(name).glob("*"))


def calls_without_encoding(source):
    """Lines that read or write text in the encoding of whatever machine it is."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given_names = {keyword.arg: keyword.value for keyword in node.keywords}
        texts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if name in ("read_text", "write_text") and isinstance(node.func, ast.Attribute):
            wrong = "encoding" not in given_names
        elif name == "open" and isinstance(node.func, ast.Attribute) and not texts:
            wrong = "encoding" not in given_names and not isinstance(node.func.value, ast.Name)
        elif name in ("open", "fdopen"):
            wrong = (
                bool(texts)
                and "b" not in texts[-1]
                and texts[-1].strip("rwax+") == ""
                and "encoding" not in given_names
            )
        else:
            wrong = getattr(given_names.get("text"), "value", None) is True and "encoding" not in given_names
        if wrong:
            yield node.lineno


def test_every_text_file_is_read_and_written_in_utf8():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        lines = list(calls_without_encoding(path.read_text(encoding="utf-8")))
        found |= {path.name: lines} if lines else {}
    assert not found
