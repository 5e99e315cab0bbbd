"""The same few persons in every format, under their own names and under others, and who is who."""

import shutil

import numpy as np
import pandas as pd
from PIL import Image

from brainseg_keras.data.formats.lgg import read_lgg
from brainseg_keras.data.formats.registry import FOLDER_FORMATS
from brainseg_keras.data.manifest import write_manifest
from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.splits import assign_folds
from brainseg_keras.data.store import write_store
from brainseg_keras.data.volumes import is_seeded

COUNT = 7


def write_persons(folder):
    """Write data sets; gives by name what `open_source` takes, and who stands behind each patient's name."""
    made = {}
    lgg = write_phantom(folder / "lgg", patients=COUNT, slices=6, size=32, seed=1)
    names = sorted(path.name for path in lgg.iterdir() if path.is_dir())
    persons = {name: ("first", index) for index, name in enumerate(names)}
    made["lgg"] = ({"path": lgg}, persons)
    made["flair"] = ({"path": lgg, "modalities": "FLAIR"}, persons)
    others = write_phantom(folder / "others", patients=COUNT, slices=6, size=32, seed=2)
    made["namesakes"] = ({"path": others}, {name: ("others", index) for index, name in enumerate(names)})
    new = {name: f"CASE_{index:02}" for index, name in enumerate(reversed(names))}
    made["renamed"] = ({"path": _rename(lgg, folder / "renamed", new)}, {new[n]: persons[n] for n in names})
    moved = dict(zip(names, (*names[1:], names[0]), strict=True))
    made["swapped"] = ({"path": _rename(lgg, folder / "swapped", moved)}, {moved[n]: persons[n] for n in names})
    made["pairs"] = ({"path": _pairs(lgg, folder / "pairs", names)}, {f"p{k}": ("first", k) for k in range(COUNT)})
    store = write_store(open_source(lgg, seed=5), folder / "store.h5")
    made["store"] = ({"path": store}, persons)
    table, _ = read_lgg(lgg)
    for index, fold in enumerate(assign_folds(table, folds=3, seed=4)):
        write_manifest(fold, folder / f"fold{index}.csv")
        made[f"fold{index}"] = ({"path": folder / f"fold{index}.csv", "root": lgg}, persons)
    heads = {f"volume_{index + 1}": ("heads", index) for index in range(COUNT)}
    for format in ("brats-h5", "nifti"):
        root = FOLDER_FORMATS[format].write_phantom(folder / format, patients=COUNT, slices=6, size=32, seed=1)
        made[format] = ({"path": root}, heads)
    half = write_store(open_source(made["nifti"][0]["path"], seed=3), folder / "half.h5", float16=True)
    made["half"] = ({"path": half}, heads)
    return made


def _rename(source, target, new):
    for old, name in new.items():
        shutil.copytree(source / old, target / name)
        for file in list((target / name).iterdir()):
            file.rename(file.with_name(file.name.replace(old, name)))
    return target


def _pairs(lgg, target, names):
    """The same pixels as PNG, slices numbered from the crown down."""
    for kind in ("images", "masks"):
        (target / kind).mkdir(parents=True)
    for index, name in enumerate(names):
        for number in range(1, 7):
            for kind, ending in (("images", ""), ("masks", "_mask")):
                pixels = np.array(Image.open(lgg / name / f"{name}_{number}{ending}.tif"))
                Image.fromarray(pixels).save(target / kind / f"p{index}_{7 - number}.png")
    return target


class InMemory:
    """A source whose volumes are read once for all tests, and which notes whom it is asked for."""

    def __init__(self, source, volumes):
        self.table: pd.DataFrame = source.table
        self.channels, self.classes = source.channels, source.classes
        self.seeded = is_seeded(source)
        self.asked = []
        self._source, self._volumes = source, volumes

    def volume(self, patient):
        self.asked.append(patient)
        if patient not in self._volumes:
            self._volumes[patient] = self._source.volume(patient)
        return self._volumes[patient]
