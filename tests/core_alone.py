"""What the package does with its core dependencies alone: it trains, evaluates and predicts, and names missing extras.

`.ci/run` runs this by the Python of an environment that holds the wheel and nothing else; no pytest there.
"""

import csv
import importlib.util
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import brainseg_keras

COMMAND = Path(sys.prefix) / "bin" / "brainseg"
#: Modules of the extras, which must not be there.
EXTRAS = ("nibabel", "pydicom", "tf2onnx", "openvino", "ai_edge_litert", "gradio", "kagglehub", "jax", "ray", "pytest")
#: What is asked for, and the extra that it names.
REFUSED = {
    "predict scan.nii.gz --model run -o nifti": "medical",
    "export --model run -o run.onnx": "export",
    "predict scan.png --model other.tflite -o litert": "export",
    "predict scan.png --model run --engine onnx -o onnx": "export",
    "predict scan.png --engine openvino -o openvino": "openvino",
    "app --model run": "ui",
    "data fetch lgg": "kaggle",
    "predict scan.png --model run -o ray --cluster ray": "cluster",
}


def brainseg(arguments: str, folder: Path) -> subprocess.CompletedProcess:
    command = [COMMAND, *arguments.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def done(arguments: str, folder: Path) -> str:
    result = brainseg(arguments, folder)
    assert result.returncode == 0, f"brainseg {arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    print(f"brainseg {arguments}", flush=True)
    return result.stdout


def refused(arguments: str, folder: Path) -> None:
    """Hold that a command ends with a message and its cure."""
    result, cure = brainseg(arguments, folder), f"pip install 'brainseg_keras[{REFUSED[arguments]}]'"
    told = " ".join(result.stderr.split())
    assert result.returncode in (1, 2) and cure in told and "Traceback" not in told, f"{arguments}: {told}"
    print(f"brainseg {arguments}: {cure}", flush=True)


def main() -> None:
    assert Path(brainseg_keras.__file__).is_relative_to(sys.prefix), f"not the wheel's: {brainseg_keras.__file__}"
    there = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not there, f"more than the core is installed: {there}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        assert done("--version", folder).strip() == f"brainseg_keras {brainseg_keras.__version__}"
        done("data phantom data --patients 5 --slices 6 --size 48", folder)
        tiny = "--architecture res_unet --filters 4 --depth 2 --size 32 --epochs 1 --batch-size 4"
        done(f"train --data data {tiny} -o run", folder)
        report = json.loads(done("evaluate --model run --data data --split test --json", folder))
        assert report["patients"]["dice"]["n"] == 1
        done("predict data --model run -o masks", folder)
        with (folder / "masks" / "summary.csv").open(encoding="utf-8") as lines:
            assert len(list(csv.DictReader(lines))) == 30
        # The weights that ship, without Keras.
        done("predict data -o shipped --no-overlays --engine onnx", folder)
        missing = json.loads(done("doctor --json", folder))["missing"]
        assert {"nibabel", "pydicom", "tf2onnx", "openvino", "ai-edge-litert", "gradio"} <= set(missing)
        for name in ("scan.nii.gz", "scan.png", "other.tflite"):
            (folder / name).touch()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(refused, REFUSED, [folder] * len(REFUSED)))


if __name__ == "__main__":
    main()
