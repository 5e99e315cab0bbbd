"""One damage of each kind, and the command that meets it; `.ci/soak` tries a thousand and more."""

import random

import pytest
from damage import byte_damages, key_damages, make_world, network_damages, store_damages, table_damages, value_damages
from judge import READ_BY, judge

TABLE, REPORT = "run/evaluation/all/per_patient.csv", "run/evaluation/all/report.json"
KNOWN = {
    str(damage): damage
    for damage in (
        *(damage for file in READ_BY for damage in byte_damages(file, random.Random(1))),
        *key_damages("run/run.json", {"channels": [], "preprocessing": {}, "target": ""}),
        *key_damages("run/config.yaml", {"data": "", "learning_rate": 0}),
        *value_damages(),
        *network_damages("run/best.keras"),
        *store_damages("data.h5"),
        *table_damages("run/history.csv"),
        *table_damages(TABLE),
    )
}
CASES = {
    "predict": (
        "run/best.keras: emptied",
        "run/best.keras: a folder",
        "run/best.keras: a classifier",
        "run/best.keras: two inputs",
        "run/best.keras: two outputs",
        "run/best.keras: one dimension",
        "run/best.keras: three dimensions",
        "run/best.keras: an input without channels",
        "run/best.keras: seven channels",
        "run/best.keras: its layers are unknown",
        "run/best.keras: no weights in it",
        "run/run.json: emptied",
        "run/run.json: a folder",
        "run/run.json: a list of it, not a mapping ([])",
        "run/run.json: channels is None",
        "run/run.json: channels is ['T1']",
        "run/run.json: preprocessing is 'x'",
        "run/run.json: preprocessing.size is -1",
        "run/run.json: context is 'none'",
        "run/run.json: target is 'lesions'",
        "run/postprocess.json: a folder",
        "run/postprocess.json: other text",
        "run/postprocess.json: threshold is 'half'",
    ),
    "resume": (
        "run/last.keras: a folder",
        "run/run.json: emptied",
        "run/run.json: progress.step is -5",
        "run/run.json: progress.random_states is [[1, 2]]",
        "run/config.yaml: a folder",
        "run/config.yaml: size is -1",
        "run/config.yaml: epochs is 'two'",
        "run/config.yaml: data missing",
        "run/history.csv: emptied",
        "run/history.csv: no epoch",
        "run/history.csv: val_dice is 'x'",
        "run/history.csv: UTF-16",
        "run/history.csv: no loss",
    ),
    "config": ("run/config.yaml: emptied",),
    "compare": (
        f"{TABLE}: a folder",
        f"{TABLE}: no dice",
        f"{TABLE}: dice is 'x'",
        f"{TABLE}: UTF-16",
        f"{REPORT}: emptied",
        f"{REPORT}: a folder",
    ),
    "export": ("run/best.keras: weights that are nan",),
    "check": ("data.h5: emptied", "data.h5: no manifest", "data.h5: no masks", "data.h5: channels are a number"),
    "evaluate": (
        "data.h5: intensity is text",
        "data.h5: intensity is nan",
        "data.h5: spacing of two",
        "data.h5: masks of fractions",
        "data.h5: spacing is nan",
        "data.h5: a mask too few",
        "data.h5: images are text",
        "data.h5: images of nan",
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(("command", "name"), [(command, name) for command in CASES for name in CASES[command]])
def test_a_damaged_file_is_named_with_a_cure_and_nothing_is_written(world, tmp_path, command, name):
    assert judge(world, KNOWN[name], command, tmp_path / "copy") is None
