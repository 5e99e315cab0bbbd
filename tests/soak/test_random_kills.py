"""SIGKILL at random moments of each command that writes."""

import random

import pytest
from kills import Trials
from reliability import record, scale
from writers import make_world, tasks

KILLS = {
    "train": 25,
    "train --ema": 25,
    "pack": 50,
    "predict": 50,
    "predict --continue": 50,
    "evaluate": 50,
    "export to onnx": 18,
    "export to litert": 16,
    "export to savedmodel": 16,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.soak
@pytest.mark.parametrize("name", KILLS)
def test_kills_lose_nothing(world, tmp_path, name):
    task = next(task for task in tasks(world) if task.name == name)
    trials, kills = Trials(tmp_path, random.Random(f"7 {name}")), round(KILLS[name] * scale())
    trials.run(task, kills)
    done = "--resume" if name.startswith("train") else "the command again"
    record(
        f"kill: {name}",
        tried=kills,
        failed=len(trials.faults),
        what=f"SIGKILL at a random moment; then every file opens, and {done} ends as if undisturbed, bit for bit",
    )
    assert not trials.faults, "\n\n".join(trials.faults)
