"""A few kills of each command that writes; `.ci/soak` does hundreds."""

import random

import pytest
from kills import Trials
from writers import make_world, tasks


@pytest.mark.slow
def test_a_killed_command_leaves_whole_files_and_ends_as_if_it_had_never_been_killed(tmp_path):
    (tmp_path / "world").mkdir()
    world = make_world(tmp_path / "world")
    trials = Trials(tmp_path, random.Random(5))
    killed = ("train --ema", "pack", "predict --continue", "evaluate", "export to onnx")
    for task in (task for task in tasks(world) if task.name in killed):
        trials.run(task, 4 if task.name == "train --ema" else 1)
    assert not trials.faults, "\n\n".join(trials.faults)
