"""The scripts of examples/ run as their docstrings say, and wrong input ends with a message."""

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from brainseg_keras.training.config import TrainingConfig

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# The other one trains them all (tests/test_compare_architectures.py).
SYSTEMS = [script.stem for script in EXAMPLES if script.stem != "compare_architectures"]
# Written with train(), they load Keras only when they train.
LIGHT = ("ar2_unet", "compare_architectures", "mod_r2au_net")
FLAGS = ("--data", "--filters", "--size", "-o")


def run_example(name: str, *flags: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *flags]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def small_phantom(tmp_path_factory):
    from brainseg_keras.data.phantom.lgg import write_phantom

    return write_phantom(tmp_path_factory.mktemp("examples"), patients=5, slices=8, size=64)


def is_clean_refusal(done: subprocess.CompletedProcess, word: str) -> bool:
    return done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_docstring_has_the_command(script):
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert f"python examples/{script.name}" in text
    assert "--data" in text
    assert f"({script.name})" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", LIGHT)
def test_help_does_not_load_keras(name, tmp_path):
    code = (
        "import runpy, sys\n"
        "sys.argv[:] = [sys.argv[1], '--help']\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    print('keras' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["False"]
    ends = "--minutes" if name not in SYSTEMS else "--epochs"
    assert not [flag for flag in (*FLAGS, ends) if flag not in done.stdout]


def test_missing_data_is_a_message(tmp_path):
    done = run_example("mod_r2au_net", "--data", "nowhere", cwd=tmp_path)
    assert is_clean_refusal(done, "No such folder: nowhere"), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", [script.stem for script in EXAMPLES])
def test_wrong_input_is_a_message(name, small_phantom, tmp_path):
    for flags, word in ((("--data", "nowhere"), "nowhere"), (("--data", str(small_phantom), "--size", "60"), "60")):
        done = run_example(name, *flags, cwd=tmp_path)
        assert is_clean_refusal(done, word), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ar2_unet", "best.keras"),
        ("attention_res_unet", "model.keras"),
        ("attention_unet", "model.keras"),
        ("mod_r2au_net", "best.keras"),
        ("res_unet", "model.keras"),
    ],
)
def test_example_trains(name, model, small_phantom, tmp_path):
    import keras

    # The cheapest one, and that of BraTS, run on the embedded phantoms, as they do without arguments.
    data = () if name in ("res_unet", "attention_unet") else ("--data", str(small_phantom))
    flags = ("--epochs", "1", "--filters", "4", "--size", "64", "-o", "run")
    done = run_example(name, *data, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert model in done.stdout or name == "ar2_unet"
    # FLAIR alone, or the three sequences.
    channels = 1 if name == "attention_unet" else 3
    assert keras.saving.load_model(tmp_path / "run" / model, compile=False).input_shape == (None, 64, 64, channels)
    events = list(tmp_path.glob("run/logs/**/events.out.tfevents.*"))
    assert events or name in ("attention_res_unet", "attention_unet")


def test_examples_are_all_run():
    trained = next(mark for mark in test_example_trains.pytestmark if mark.name == "parametrize").args[1]
    assert [name for name, _ in trained] == SYSTEMS


def test_yaml_of_the_documentation_is_complete():
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert yaml.safe_load(block) == dataclasses.asdict(TrainingConfig())
    silent = [name for name, meaning in TrainingConfig.help().items() if f"# {meaning}" not in block]
    assert not silent, f"their meaning has changed: {silent}"
