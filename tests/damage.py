"""A run, a store and exported networks that are damaged in one place each: by bytes, by key, by column, by graph."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from judge import READ_BY
from odd_networks import ODD_NETWORKS, save_odd


@dataclass(frozen=True)
class Damage:
    """One damage.

    Args:
        file: What is damaged, below the folder.
        name: How.
        make: Does it, given the path.
        fatal: Whether no command that reads the file may go on as if nothing were wrong.
        met_by: Which commands meet it, where not all that read the file.
    """

    file: str
    name: str
    make: Callable[[Path], None]
    fatal: bool = False
    met_by: tuple = ()

    def __str__(self):
        return f"{self.file}: {self.name}"


RUN = ("run.json", "config.yaml", "history.csv", "best.keras", "last.keras", "postprocess.json")
SETTINGS = {"architecture": "res_unet", "filters": 4, "depth": 1, "size": 32, "batch_size": 4, "precision": "float32"}


def make_world(folder, *, exports=False):
    """Make what is damaged: scan.png, data.h5, run/ (one epoch of two, scored), other/ (the same) and exports."""
    from PIL import Image

    from brainseg_keras.data.phantom.lgg import phantom_volume, write_phantom
    from brainseg_keras.data.sources import open_source
    from brainseg_keras.data.store import write_store
    from brainseg_keras.export import export
    from brainseg_keras.inference import Predictor
    from brainseg_keras.reports import evaluate, tune
    from brainseg_keras.training import TrainingConfig, train

    write_phantom(folder / "phantom", patients=5, slices=6, size=32, seed=3)
    source = open_source(folder / "phantom")
    write_store(source, folder / "data.h5")
    shutil.rmtree(folder / "phantom")
    Image.fromarray(phantom_volume(0, 0, slices=6, size=32)[0][3]).save(folder / "scan.png")
    # The store as one calls it from the folder, so that copies of the folder read their own.
    import contextlib

    with contextlib.chdir(folder):
        train(TrainingConfig(data="data.h5", epochs=1, **SETTINGS), output="run")
        predictor = Predictor("run")
        evaluate(predictor, source_of := open_source("data.h5"), split="all", output="run/evaluation/all")
        tune(predictor, source_of)
        shutil.copytree("run/evaluation/all", "other")
        if exports:
            export("run", "run.onnx")
            export("run", "run.tflite", format="litert")
    return folder


def byte_damages(file, rng):
    """Damage any file: no reader may take what is left for whole."""
    share, seed = rng.random(), rng.randrange(2**32)
    return [
        Damage(file, "emptied", lambda path: path.write_bytes(b""), True),
        Damage(file, "a folder", _fold, True),
        Damage(file, "other text", lambda path: path.write_text("The quick brown fox\n"), True),
        Damage(file, f"other bytes (seed {seed})", partial(_fill, seed=seed), True),
        Damage(file, f"cut after {share:.4f} of it", partial(_cut, share=share)),
        Damage(file, f"zeros from {share:.4f} of it on", partial(_zero, share=share)),
        Damage(file, f"some bytes changed (seed {seed})", partial(_sprinkle, seed=seed)),
    ]


def key_damages(file, content):
    """Put every kind of wrong value under every key of a JSON or YAML file."""
    wrong = (None, [], {}, "x", -1, 0, 1e300, float("nan"), True, ["x"], [-1, 10**9])
    found = [Damage(file, f"a list of it, not a mapping ({value!r})", partial(_put, (), value)) for value in wrong]
    for keys in _keys(content):
        found.append(Damage(file, f"{'.'.join(keys)} missing", partial(_put, keys, _MISSING)))
        found += [Damage(file, f"{'.'.join(keys)} is {value!r}", partial(_put, keys, value)) for value in wrong]
    return found


def value_damages():
    """Put values that look right and are not: each of these has to be refused."""
    run = [
        (("preprocessing", "size"), -1),
        (("preprocessing", "size"), 10**9),
        (("preprocessing", "size"), "32"),
        (("preprocessing", "blur"), -3.0),
        (("preprocessing", "clahe"), "much"),
        (("preprocessing", "sharpen"), 1),
        (("channels",), ["T1"]),
        (("channels",), ["T1", "FLAIR", 3]),
        (("channels",), ["T1", "T1", "T1"]),
        (("channels",), "T1,FLAIR,T1ce"),
        (("context",), 7),
        (("context",), -1),
        (("context",), "none"),
        (("target",), "lesions"),
        (("target",), "regions"),
        (("target",), None),
    ]
    resumed = [
        (("architecture",), "no_such_unet"),
        (("arguments", "depth"), 3),
        (("arguments", "input_shape"), [32, 32, 4]),
        (("arguments", "color"), "red"),
        (("manifest_sha256",), "0" * 64),
        (("progress", "step"), -5),
        (("progress", "step"), 0),
        (("progress", "step"), 10**12),
        (("progress", "iterations"), "many"),
        (("progress", "random_states"), [[1, 2]]),
        (("progress", "seconds"), None),
    ]
    config = [
        (("size",), -1),
        (("size",), 30),
        (("architecture",), "no_such_unet"),
        (("target",), "lesions"),
        (("loss",), "no_such_loss"),
        (("data",), "no/such/data.h5"),
        (("batch_size",), 0),
        (("learning_rate",), float("nan")),
        (("epochs",), "two"),
        (("color",), "red"),
    ]
    tuned = [(("threshold",), 2), (("threshold",), "half"), (("smallest_component",), -1), (("flip",), "no")]
    predicting = ("predict", "predict last", "evaluate", "tune", "export")
    rows = [
        ("run/run.json", run, predicting),
        ("run/run.json", resumed, ("resume",)),
        ("run/config.yaml", config, ("resume", "config")),
        ("run/postprocess.json", tuned, ("predict", "evaluate", "export")),
    ]
    return [
        Damage(file, f"{'.'.join(keys)} is {value!r}", partial(_put, keys, value), True, met_by)
        for file, changes, met_by in rows
        for keys, value in changes
    ]


def table_damages(file):
    """Spoil a CSV."""

    def change(edit):
        def make(path):
            edit(pd.read_csv(path)).to_csv(path, index=False)

        return make

    def put(column, value):
        return change(lambda table: table.astype(object).assign(**{column: value}))

    columns = {
        "history.csv": ("epoch", "val_dice", "loss", "seconds"),
        "per_patient.csv": ("patient", "dice", "tp", "fn", "hd95"),
    }[Path(file).name]
    fatal = set(columns) - {"seconds", "hd95"}
    # Of a history only the rows of the epochs that are done are read.
    scores = file.endswith("per_patient.csv")
    found = [
        Damage(file, "no rows", change(lambda table: table.iloc[:0]), True),
        Damage(file, "rows twice", change(lambda table: pd.concat([table, table])), scores),
        Damage(file, "a row too long", lambda path: path.write_text(path.read_text() + "1,2" * 99 + "\n"), scores),
        Damage(file, "a row too short", lambda path: path.write_text(path.read_text() + "9\n")),
        Damage(file, "a quote too many", lambda path: path.write_text(path.read_text() + '"'), True),
        Damage(file, "another separator", lambda path: path.write_text(path.read_text().replace(",", ";")), True),
        Damage(file, "UTF-16", lambda path: path.write_text(path.read_text(), encoding="utf-16"), True),
    ]
    for column in columns:
        found.append(
            Damage(file, f"no {column}", change(lambda t, column=column: t.drop(columns=column)), column in fatal)
        )
        for value in ("x", "", "nan", -1, 1e300):
            wrong = column in fatal and value in ("x", "") and column != "patient"
            found.append(Damage(file, f"{column} is {value!r}", put(column, value), wrong))
    return found


def network_damages(file):
    """Put another network into a .keras file, or spoil the parts of its archive."""
    odd = {name: partial(save_odd, build) for name, build in ODD_NETWORKS.items()}
    parts = {
        "no weights in it": partial(_rezip, {"model.weights.h5": None}),
        "no configuration in it": partial(_rezip, {"config.json": None}),
        "no metadata in it": partial(_rezip, {"metadata.json": None}),
        "its configuration is a list": partial(_rezip, {"config.json": b"[]"}),
        "its layers are unknown": partial(_rename, "Conv2D", "Conv9D"),
        "its layers are of another package": partial(_rename, "keras.layers", "os.path"),
        "its filters are others": partial(_rename, '"filters": 4', '"filters": 5'),
        "its filters are negative": partial(_rename, '"filters": 4', '"filters": -4'),
        "its weights are noise": partial(_rezip, {"model.weights.h5": b"noise" * 999}),
    }
    # `--init` takes the weights alone, layer by layer, and builds the network itself.
    configured = ("its layers are of another package", "its filters are negative", "its filters are others")
    but_init = tuple(command for command in READ_BY[file] if command != "init")
    return [
        Damage(file, name, make, name != "no metadata in it", but_init if name in configured else ())
        for name, make in (odd | parts).items()
    ]


def store_damages(file):
    """Spoil the groups, arrays and attributes of a packed data set."""
    import h5py

    def change(edit):
        def make(path):
            with h5py.File(path, "r+") as store:
                edit(store, next(iter(store["volumes"].values())))

        return make

    def replace(group, name, edit):
        array = edit(group[name][()])
        del group[name]
        group[name] = array

    def retell(store, edit):
        text = edit(store["manifest"][()].decode())
        del store["manifest"]
        store["manifest"] = text

    edits = {
        "no format": lambda store, group: store.attrs.pop("format"),
        "a later version": lambda store, group: store.attrs.update(version=99),
        "no channels": lambda store, group: store.attrs.pop("channels"),
        "channels are not JSON": lambda store, group: store.attrs.update(channels="T1,"),
        "channels are a number": lambda store, group: store.attrs.update(channels="3"),
        "a channel too few": lambda store, group: store.attrs.update(channels='["T1", "FLAIR"]'),
        "no classes": lambda store, group: store.attrs.pop("classes"),
        "no manifest": lambda store, group: store.pop("manifest"),
        "an empty manifest": lambda store, group: retell(store, lambda text: ""),
        "a manifest of numbers": lambda store, group: retell(store, lambda text: "1,2\n3,4\n"),
        "slices that are not numbers": lambda store, group: retell(store, lambda text: text.replace(",0,", ",zero,")),
        "no split": lambda store, group: retell(store, lambda text: text.replace("split", "part", 1)),
        "another patient": lambda store, group: retell(store, lambda text: text.replace("PHANTOM_", "NOBODY_")),
        "no patients": lambda store, group: store.pop("volumes"),
    }
    # Of the first patient, who is no validation patient.
    of_a_volume = {
        "no images": lambda store, group: group.pop("images"),
        "no masks": lambda store, group: group.pop("masks"),
        "no intensity": lambda store, group: group.attrs.pop("intensity"),
        "intensity of two channels": lambda store, group: group.attrs.update(intensity=np.ones((2, 2))),
        "intensity is text": lambda store, group: group.attrs.update(intensity="bright"),
        "intensity is nan": lambda store, group: group.attrs.update(intensity=np.full((3, 2), np.nan)),
        "a slice number too few": lambda store, group: group.attrs.update(slices=[1, 2]),
        "slices are text": lambda store, group: group.attrs.update(slices="all"),
        "spacing of two": lambda store, group: group.attrs.update(spacing=[1.0, 1.0]),
        "spacing is nan": lambda store, group: group.attrs.update(spacing=[np.nan] * 3),
        "spacing is 0": lambda store, group: group.attrs.update(spacing=[0.0] * 3),
        "masks of another size": lambda store, group: replace(group, "masks", lambda masks: masks[:, :16]),
        "a mask too few": lambda store, group: replace(group, "masks", lambda masks: masks[:-1]),
        "masks of label 9": lambda store, group: replace(group, "masks", lambda masks: masks * 9),
        "masks of fractions": lambda store, group: replace(group, "masks", lambda masks: masks * 0.5),
        "images of nan": lambda store, group: replace(group, "images", lambda images: images * np.float32("nan")),
        "images of one channel": lambda store, group: replace(group, "images", lambda images: images[..., :1]),
        "images without channels": lambda store, group: replace(group, "images", lambda images: images[..., 0]),
        "images are text": lambda store, group: replace(group, "images", lambda images: "a picture"),
        "no slices": lambda store, group: replace(group, "images", lambda images: images[:0]),
        "images are a group": lambda store, group: (group.pop("images"), group.create_group("images")),
    }
    met_by = ("resume", "train", "evaluate", "check")
    return [Damage(file, name, change(edit), True) for name, edit in edits.items()] + [
        Damage(file, name, change(edit), True, met_by) for name, edit in of_a_volume.items()
    ]


_MISSING = object()


def _keys(content, above=(), depth=2):
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, dict) and depth > 1:
            yield from _keys(value, (*above, key), depth - 1)


def _put(keys, value, path):
    """Put a value under a key; a file of JSON stays one, save for nan, which Python's reader takes."""
    read, write = (yaml.safe_load, yaml.safe_dump) if path.suffix == ".yaml" else (json.loads, json.dumps)
    content = read(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    if not keys:
        content = value
    elif value is _MISSING:
        place.pop(keys[-1], None)
    else:
        place[keys[-1]] = value
    path.write_text(write(content))


def _fold(path):
    path.unlink()
    path.mkdir()


def _fill(path, *, seed):
    path.write_bytes(np.random.default_rng(seed).bytes(path.stat().st_size))


def _cut(path, *, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def _zero(path, *, share, length=512):
    content = bytearray(path.read_bytes())
    start = int(share * len(content))
    end = min(start + length, len(content))
    content[start:end] = bytes(end - start)
    path.write_bytes(bytes(content))


def _sprinkle(path, *, seed, count=20):
    rng, content = np.random.default_rng(seed), bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), count):
        content[place] = rng.integers(0, 256)
    path.write_bytes(bytes(content))


def _rezip(changes, path):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            if content is not None:
                archive.writestr(name, content)


def _rename(old, new, path):
    with zipfile.ZipFile(path) as archive:
        text = archive.read("config.json").decode()
    assert old in text
    _rezip({"config.json": text.replace(old, new).encode()}, path)
