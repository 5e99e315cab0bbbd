"""Whether files are whole: each is opened with its reader, and gives what another of the same content gives."""

import csv
import io
import json
import os
import time
import zipfile

import numpy as np
import yaml
from PIL import Image

#: What may lie beside the results: scratch files of a killed process, and the lock of a folder.
SCRATCH = ".brainseg-*"
LOCKS = (".lock", ".lock.owner")


def contents(folder):
    """Read every file below a folder, hidden ones aside.

    Raises:
        Exception: Whatever the reader of a file raises that is not whole; its note names the file.
    """
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            try:
                found[str(file.relative_to(folder))] = content(file)
            except Exception as error:
                error.add_note(f"in {file.relative_to(folder)}, {file.stat().st_size} bytes")
                raise
    return found


def content(file):
    """Read a file whole, and give what can be compared: None where time or chance leave nothing."""
    if file.parent.parent.name == "ledger":
        # Lines are added to it, and a reader leaves out the last one if it is cut.
        return None
    reader = next((read for ending, read in _READERS.items() if file.name.endswith(ending)), None)
    if reader is None and "tfevents" in file.name:
        reader = _events
    assert reader, f"No reader for {file}"
    return reader(file)


def strays(folder):
    """List the hidden files that nothing accounts for, and those that a next run takes away."""
    hidden = [path for path in folder.rglob(".*") if path.name not in LOCKS]
    scratch = [path for path in hidden if path.match(SCRATCH)]
    return [path for path in hidden if path not in scratch], scratch


def age(folder, seconds=7200):
    """Make scratch files look as old as those of a process that was killed long ago."""
    for path in folder.rglob(SCRATCH):
        os.utime(path, (time.time() - seconds,) * 2)


def _keras(file):
    import h5py
    import keras

    from brainseg_keras.training import loop  # noqa: F401  brings the optimizer that last.keras names

    keras.saving.load_model(file)
    with zipfile.ZipFile(file) as archive:
        stored = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")
    weights = {}
    stored.visititems(lambda name, item: weights.update({name: item[()].tobytes()} if hasattr(item, "shape") else {}))
    assert weights
    return weights


def _table(file):
    text = file.read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    assert text.endswith("\n")
    assert len({len(row) for row in rows}) == 1
    return rows


def _picture(file):
    with Image.open(file) as picture:
        return np.asarray(picture).tobytes()


def _volume(file):
    import nibabel

    image = nibabel.load(file)
    return image.get_fdata().tobytes(), image.affine.tobytes()


def _store(file):
    import h5py

    from brainseg_keras.data.store import StoredVolumes

    with h5py.File(file) as opened:
        if "image" in opened:
            # A slice of BraTS 2020.
            return opened["image"][()].tobytes(), opened["mask"][()].tobytes()
    stored = StoredVolumes(file)
    volumes = [stored.volume(patient) for patient in stored.table.patient.unique()]
    return stored.table.to_csv(), [(volume.images.tobytes(), volume.masks.tobytes()) for volume in volumes]


def _page(file):
    text = file.read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
    return text


def _onnx(file):
    import onnxruntime

    onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def _litert(file):
    from ai_edge_litert.interpreter import Interpreter

    Interpreter(model_path=str(file)).allocate_tensors()


def _savedmodel(file):
    import tensorflow as tf

    tf.saved_model.load(str(file.parent))


def _events(file):
    """Read what is there: lines are added to it, and a reader leaves out the last one if it is cut."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    list(EventFileLoader(str(file)).Load())


_READERS = {
    ".keras": _keras,
    ".json": lambda file: json.loads(file.read_text(encoding="utf-8")),
    ".csv": _table,
    ".png": _picture,
    ".tif": _picture,
    ".nii.gz": _volume,
    ".nii": _volume,
    ".h5": _store,
    ".yaml": lambda file: yaml.safe_load(file.read_text(encoding="utf-8"))["architecture"],
    ".html": _page,
    ".onnx": _onnx,
    ".tflite": _litert,
    "saved_model.pb": _savedmodel,
    # Read with saved_model.pb beside them.
    "fingerprint.pb": lambda file: None,
    "variables.index": lambda file: None,
    "variables.data-00000-of-00001": lambda file: None,
}
