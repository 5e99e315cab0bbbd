"""brainseg doctor: what is installed, what is missing, and the line that mends it."""

import json
import os
import platform
from importlib import util
from typing import Any

import typer

from brainseg_keras._version import __version__, installed_version
from brainseg_keras.errors import install_line

#: Engines of `--engine`, and the distribution of each.
_ENGINES = {"keras": "keras", "onnx": "onnxruntime", "openvino": "openvino"}
#: Distribution, module, and what installs it.
REQUIRED = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "tensorboard": "tensorboard",
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "scikit-learn": "sklearn",
    "matplotlib": "matplotlib",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "h5py": "h5py",
    "filelock": "filelock",
    "pyyaml": "yaml",
    "rich": "rich",
    "onnxruntime": "onnxruntime",
}
EXTRAS = {
    "medical": {"nibabel": "nibabel", "pydicom": "pydicom"},
    "export": {
        "tf2onnx": "tf2onnx",
        "onnx": "onnx",
        "ai-edge-litert": "ai_edge_litert",
    },
    "openvino": {"openvino": "openvino"},
    "ui": {"gradio": "gradio"},
    "cluster": {"ray": "ray", "pyarrow": "pyarrow"},
    "jax": {"jax": "jax"},
}


def doctor_command(
    as_json: bool = typer.Option(False, "--json", help="Print it to standard output as JSON."),
) -> None:
    """Show versions, devices and missing libraries, each with the line that installs it."""
    found = diagnose()
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show(found)
    if found["problems"]:
        raise typer.Exit(1)


def diagnose() -> dict[str, Any]:
    """Look at the installation.

    Returns:
        Versions, devices, missing libraries with the line that installs them, and problems that stop the package.
    """
    missing = {
        name: install_line(extra)
        for extra, members in EXTRAS.items()
        for name, module in members.items()
        if util.find_spec(module) is None
    }
    problems = [
        f"{name} is missing: pip install {name}" for name, module in REQUIRED.items() if util.find_spec(module) is None
    ]
    if installed_version("opencv-python") and installed_version("opencv-python-headless"):
        problems.append(
            "opencv-python and opencv-python-headless overwrite each other: pip uninstall -y opencv-python "
            "opencv-python-headless && pip install opencv-python-headless"
        )
    names = [*REQUIRED, *(name for members in EXTRAS.values() for name in members)]
    return {
        "brainseg_keras": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: version for name in names if (version := installed_version(name))},
        "engines": {name: version for name, package in _ENGINES.items() if (version := installed_version(package))},
        "missing": missing,
        "problems": problems,
        **({} if problems else _devices()),
    }


def _devices() -> dict[str, Any]:
    import keras

    from brainseg_keras.training.machine import onednn_trouble
    from brainseg_keras.training.precision import choose_precision

    backend = keras.backend.backend()
    return {
        "backend": backend,
        "devices": [str(device) for device in keras.distribution.list_devices()] or ["CPU"],
        "precision": choose_precision("auto", separable=False),
        "onednn": (onednn_trouble() or "oneDNN is on") if backend == "tensorflow" else None,
    }


def _show(found: dict[str, Any]) -> None:
    typer.echo(f"brainseg_keras {found['brainseg_keras']}, Python {found['python']}, {found['platform']}")
    if "backend" in found:
        devices = ", ".join(found["devices"])
        typer.echo(f"backend {found['backend']} on {devices}, {found['cores']} cores, --precision auto is", nl=False)
        typer.echo(f" {found['precision']}")
        if found["onednn"]:
            typer.echo(found["onednn"])
    typer.echo(f"engines for predictions: {', '.join(found['engines'])}")
    typer.echo(", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    for name, cure in found["missing"].items():
        typer.echo(f"not installed: {name:16} {cure}")
    for problem in found["problems"]:
        typer.secho(f"problem: {problem}", fg="red")
    if not found["problems"]:
        typer.echo("Everything needed is here.")
