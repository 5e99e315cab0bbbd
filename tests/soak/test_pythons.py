"""The versions of Python that setup.cfg names: on each the wheel trains, evaluates and predicts."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from reliability import record

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.cfg").read_text(encoding="utf-8"))


def interpreter(version):
    """Find a Python that answers with this version: on the path, or among pyenv's."""
    candidates = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for candidate in filter(None, candidates):
        told = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False).stdout
        if told.startswith(f"Python {version}."):
            return str(candidate)
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.soak
@pytest.mark.parametrize("version", VERSIONS)
def test_the_core_alone_on_each_python(version, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    for command in (
        [interpreter(version), "-m", "venv", tmp_path / "venv"],
        [python, "-m", "pip", "install", "-q", ROOT],
        [python, ROOT / "tests" / "core_alone.py"],
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, check=False)
        if done.returncode:
            record(f"Python {version}", tried=1, failed=1, what="train, evaluate, predict with the core dependencies")
        assert done.returncode == 0, done.stdout + done.stderr
    record(f"Python {version}", tried=1, failed=0, what="train, evaluate, predict with the core dependencies")
