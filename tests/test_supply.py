"""What is handed on: the wheel and the source distribution, and that the core dependencies suffice."""

import ast
import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "brainseg_keras"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def dependencies():
    """The distributions of setup.cfg: the core's and each extra's."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    core = config["options"]["install_requires"].split()
    extras = {name: lines.split() for name, lines in config["options.extras_require"].items()}
    return set(map(bare, core)), {name: set(map(bare, lines)) for name, lines in extras.items()}


def bare(requirement):
    return requirement.split(">")[0].split("[")[0].split("<")[0].lower().replace("_", "-")


def modules_of(distributions):
    """The top-level modules that distributions install."""
    known = metadata.packages_distributions()
    return {
        name for name, owners in known.items() if distributions & {owner.lower().replace("_", "-") for owner in owners}
    }


def imported(path, *, at_once):
    """The foreign modules that a file imports as it is loaded, or only when a function runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    nodes = [node for node in ast.walk(tree) if (id(node) in inside) != at_once]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"brainseg_keras"}


def test_what_loads_with_the_package_is_in_the_core_and_the_rest_in_an_extra():
    core, extras = dependencies()
    # Protobuf comes with TensorBoard, FastAPI, Uvicorn and what those need with Gradio.
    core_modules = modules_of(core) | {"google"}
    extra_modules = modules_of(set.union(*extras.values())) | {
        "fastapi",
        "starlette",
        "uvicorn",
        "anyio",
        "python_multipart",
    }
    extra_modules |= {"kagglehub", "jax"}
    # Of Keras' three backends one is in the core and one in an extra.
    extra_modules |= {"torch"}
    assert {"keras", "tensorflow", "cv2", "yaml"} <= core_modules and "nibabel" not in core_modules
    for path in SOURCES:
        # What serve() loads stands behind it: only server.py is met without Gradio.
        behind = extra_modules if path.parent.name == "app" and path.name != "server.py" else set()
        assert imported(path, at_once=True) <= core_modules | behind, path
        assert imported(path, at_once=False) <= core_modules | extra_modules, path


def test_every_core_dependency_is_imported():
    core, _ = dependencies()
    used = set.union(*(imported(path, at_once=now) for path in SOURCES for now in (True, False)))
    assert not {name for name in core if not modules_of({name}) & used}


def test_every_extra_that_a_message_names_exists_and_the_tests_have_what_they_need():
    _, extras = dependencies()
    for path in SOURCES:
        for part in path.read_text(encoding="utf-8").split("brainseg_keras[")[1:]:
            name = part.split("]")[0]
            assert name in extras or name == "{extra}", f"{path}: brainseg_keras[{name}]"
    assert extras["medical"] | extras["export"] | extras["ui"] <= extras["test"]


# ---- what is built


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with the wheel and the source distribution: .ci/run's, or built here."""
    if os.environ.get("BRAINSEG_DIST"):
        return Path(os.environ["BRAINSEG_DIST"])
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(PACKAGE, copy / "brainseg_keras", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DeprecationWarning" not in done.stdout + done.stderr
    return copy / "dist"


def package_files():
    return {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_wheel_holds_everything(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        said = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert "License-Expression: Apache-2.0" in said
    assert any(name.endswith("licenses/LICENSE") for name in names)
    ours = {name for name in names if name.startswith("brainseg_keras/")}
    assert ours == package_files()


@pytest.mark.slow
def test_source_distribution_holds_everything(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    kept = {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE"}
    assert package_files() | kept <= names
    assert not [name for name in names if name.startswith(("tests/", "tensorboard_logs", "data_manifests"))]
