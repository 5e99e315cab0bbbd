"""Folders as `train --folds` leaves them, of networks that were not trained: each marks what is bright, at a level."""

import dataclasses

import keras
import numpy as np
from scans import CHANNELS

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.roles import Roles
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.splits import assign_folds
from brainseg_keras.data.volumes import iterate_volumes
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training import FoldsFolder, RunFolder, TrainingConfig
from brainseg_keras.training.patients import remember_patients, roles_of_run
from brainseg_keras.training.record import BestEpoch, Progress, RunRecord

LEVELS = (1.2, 1.4, 1.7)


def one_sided_model(level):
    """Tumour is what lies to the right of a pixel that is bright: mirror images are answered otherwise."""
    image = keras.Input((None, None, 3))
    answer = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="left")(image)
    model = keras.Model(image, answer, name="one_sided")
    kernel = np.zeros((3, 3, 3, 1), "float32")
    kernel[1, 0] = 12 / 3
    model.get_layer("left").set_weights([kernel, np.array([-12 * level], "float32")])
    return model


def write_folds(folder, data, *, folds=3, levels=LEVELS, **settings):
    """Write the folder of a cross-validation that is finished."""
    config = TrainingConfig(data=str(data), folds=folds, epochs=1, **settings)
    FoldsFolder(folder).write(config)
    for number, level in enumerate(levels, 1):
        write_run(folder / f"fold{number}", dataclasses.replace(config, fold=number), level)
    return folder


def write_run(path, config, level, before=None):
    """Write a finished run; its patients are read as a training reads them."""
    source, splits = open_source(config.data, root=config.root, seed=None), None
    if config.fold:
        table = assign_folds(source.table, folds=config.folds, seed=config.seed)[config.fold - 1]
        splits = table.drop_duplicates("patient").set_index("patient").split
    before = before or Roles()
    source = remember_patients(source, before, splits)
    for split in ("train", "val"):
        list(iterate_volumes(source, split))
    roles = roles_of_run(source, before, "first weights", own_split=config.fold is not None)
    spec = NetworkSpec(CHANNELS, preprocessing=Preprocessing(60), roles=roles, data=config.data)
    patients = source.table.groupby("split").patient.nunique().to_dict()
    record = RunRecord(spec, config, 28, "float32", patients)
    record = dataclasses.replace(record, progress=Progress(4, 4, [], 1.0, []), validation=BestEpoch(1, 4, {"A": 0.5}))
    run = RunFolder(path)
    run.write_record(record)
    run.history.write_text("epoch,step\n1,4\n")
    run.write_model(one_sided_model(level), run.best)
    return run


def change_record(run, **changes):
    """Put something else into run.json."""
    run.write_record(dataclasses.replace(run.read_record(), **changes))
