"""Environments: each contender's packages, installed from PyPI under pinned versions, in a folder of their own."""

import configparser
import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = ("opencv-python-headless==5.0.0.93", "pillow>=12")
TENSORFLOW = ("tensorflow==2.21.0", *IMAGES)
#: What is installed where. Packages written for Keras 2 get tf-keras beside TensorFlow.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "ours": (
        *TENSORFLOW,
        "keras==3.15.1",
        "tf2onnx==1.17.0",
        "onnx==1.23.2",
        "onnxruntime==1.32.0",
        "openvino==2026.4.1",
    ),
    "keras_unet_collection": (*TENSORFLOW, "tf-keras==2.21.0", "keras-unet-collection==0.1.13"),
    "medicai": (*TENSORFLOW, "keras==3.15.1", "medicai==0.0.4"),
    "segmentation_models": (*TENSORFLOW, "tf-keras==2.21.0", "segmentation-models==1.0.1"),
    "torch": (
        *IMAGES,
        "torch==2.13.0",
        "torchvision==0.28.0",
        "monai==1.6.1",
        "segmentation-models-pytorch==0.6.0",
    ),
    "albumentations": (*IMAGES, "albumentations==2.0.8"),
}
#: Versions that the table names.
NAMED = (
    *("tensorflow", "keras", "tf-keras", "torch", "numpy", "opencv-python-headless", "onnxruntime", "openvino"),
    *("keras-unet-collection", "medicai", "segmentation-models", "segmentation-models-pytorch", "monai"),
    "albumentations",
)


@dataclass(frozen=True)
class Environment:
    """Where a contender's packages are.

    Args:
        python: Its interpreter.
        versions: What is installed, of what the table names.
        error: Why it could not be made; empty where it was.
    """

    python: Path
    versions: dict[str, str]
    error: str = ""


def prepare(folder: Path, name: str) -> Environment:
    """Make an environment, or take the one that is there.

    Args:
        folder: Where environments are kept.
        name: One of `REQUIREMENTS`.

    Returns:
        The environment, or why there is none.
    """
    place, wanted = folder / name, _wanted(name)
    python, stamp = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"), place / "requirements"
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    try:
        if not stamp.is_file() or stamp.read_text() != digest:
            print(f"installing {name}: {', '.join(wanted)}", file=sys.stderr)
            _run([sys.executable, "-m", "venv", str(place)])
            _run([str(python), "-m", "pip", "install", "--quiet", *wanted])
            stamp.write_text(digest)
        return Environment(python, _versions(python))
    except (OSError, RuntimeError) as error:
        return Environment(python, {}, str(error))


def _wanted(name: str) -> list[str]:
    """Name the requirements; those of this package are in its setup.cfg, the pinned ones first."""
    wanted = list(REQUIREMENTS[name])
    if name == "ours":
        setup = configparser.ConfigParser()
        setup.read(REPOSITORY / "setup.cfg")
        wanted += setup["options"]["install_requires"].split()
    return wanted


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(f"{Path(command[0]).name} {' '.join(command[1:4])} failed: {lines[-1]}")
    return done.stdout


def _versions(python: Path) -> dict[str, str]:
    listed = _run([str(python), "-m", "pip", "list", "--format=freeze"])
    found = dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)
    found = {name.lower().replace("_", "-"): version for name, version in found.items()}
    return {name: found[name] for name in NAMED if name in found}
