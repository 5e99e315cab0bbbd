"""What each command loads: a library that it does not use costs its start for nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from scans import slice_of

from brainseg_keras.export import export

ROOT = Path(__file__).resolve().parent.parent
#: Libraries that take long to load.
HEAVY = ["tensorflow", "keras", "jax", "torch", "onnxruntime", "tf2onnx", "gradio", "matplotlib", "pandas", "scipy"]
HEAVY += ["sklearn", "h5py", "nibabel", "pydicom", "cv2"]
#: By command, as docs/speed.md repeats it.
LOADED = {
    "brainseg --help": "",
    "brainseg models": "",
    "brainseg data phantom": "cv2 pandas",
    "brainseg predict one.tif": "cv2 onnxruntime pandas scipy",
    "brainseg predict one.tif --model run.onnx": "cv2 onnxruntime pandas",
    "brainseg predict one.nii.gz": "cv2 nibabel onnxruntime pandas pydicom scipy",
    "brainseg evaluate": "cv2 h5py matplotlib onnxruntime pandas scipy sklearn",
    "brainseg predict one.tif --model RUN --engine keras": "cv2 h5py keras matplotlib pandas scipy sklearn tensorflow",
    "brainseg app": "cv2 gradio onnxruntime pandas scipy",
    "brainseg train": "",
}
#: With Keras or with Gradio.
SLOW = ("brainseg predict one.tif --model RUN --engine keras", "brainseg app")

LISTING = """
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
Path(found).write_text(" ".join(loaded))
"""
COMMAND = f"""
import sys
from pathlib import Path
found, sys.argv = sys.argv[1], ["brainseg", *sys.argv[2:]]
from brainseg_keras.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
{LISTING}
sys.exit(code)
"""
#: The page with a network that was chosen in it, but not served: that has no end.
PAGE = f"""
import sys
from pathlib import Path
found = sys.argv[1]
from brainseg_keras.app import create_app, find_models
from brainseg_keras.app.sessions import Models
models = find_models(runs="none")
create_app(models).state.remove()
Models(models).load("lgg")
{LISTING}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, finished):
    """A folder with a slice, a volume and an exported network."""
    import nibabel

    folder = tmp_path_factory.mktemp("imports")
    Image.fromarray(slice_of((64, 64))).save(folder / "one.tif")
    nibabel.save(nibabel.Nifti1Image(slice_of((64, 64))[..., None].repeat(2, 2), None), folder / "one.nii.gz")
    export(finished.path, folder / "run.onnx")
    return folder


def arguments(command, place, finished, phantom, tmp_path):
    words = command.split()[1:]
    if words[:1] == ["predict"]:
        words += ["-o", tmp_path / "out"]
    if words == ["data", "phantom"]:
        words += [tmp_path / "made", "--patients", 3, "--slices", 6, "--size", 32]
    if words == ["evaluate"]:
        words += ["--model", "lgg", "--data", phantom, "-o", tmp_path / "report"]
    if words == ["train"]:
        words += ["--data", "no/such/folder", "--epochs", "0"]
    return [str(finished.path if word == "RUN" else word) for word in words]


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in LOADED]
)
def test_a_command_loads_what_it_uses(command, place, finished, phantom, tmp_path):
    found, code = tmp_path / "found", PAGE if command == "brainseg app" else COMMAND
    words = arguments(command, place, finished, phantom, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(found), *words], cwd=place, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == (2 if command == "brainseg train" else 0), done.stderr
    loaded = set(found.read_text().split()) & set(HEAVY)
    if "keras" in loaded:
        # Keras loads it where it is installed, which here is for tests of other backends.
        loaded -= {"jax"}
    assert " ".join(sorted(loaded)) == LOADED[command]


def test_the_document_says_the_same():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(brainseg .*?)` \| (.*) \|$", text, re.M)
    assert dict(rows) == {command: loaded or "nothing" for command, loaded in LOADED.items()}
    assert set(HEAVY) == set(re.search(r"these libraries: (.*?)\.\n", text, re.S)[1].replace("\n", " ").split(", "))


def test_training_says_what_it_does_before_keras_is_loaded(tmp_path):
    """Here Keras cannot be loaded at all."""
    code = (
        "import sys\nfrom brainseg_keras.cli import main\n"
        "class Refusing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'keras': raise ImportError('not today')\n"
        "sys.meta_path.insert(0, Refusing())\nmain()"
    )
    command = [sys.executable, "-c", code, "train", "--architecture", "res_unet", "--data", "phantom"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr.startswith("Training res_unet on phantom: loading Keras ...\n")
