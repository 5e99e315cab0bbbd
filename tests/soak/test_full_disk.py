"""A full disk under each command that writes, from almost no room to almost enough."""

import shutil

import disks
import forks
import pytest
from reliability import record
from writers import make_world, tasks

#: Of the room that the command takes.
SHARES = (0.0, 0.2, 0.5, 0.8, 0.95)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    if not disks.may_mount(folder):
        pytest.skip("this user may not mount a small disk")
    return make_world(folder)


@pytest.mark.soak
def test_a_full_disk_is_said_and_leaves_nothing_half_written(world, tmp_path):
    faults, tried = [], 0
    for task in tasks(world):
        roomy = tmp_path / "roomy"
        roomy.mkdir()
        disks.prepare(task, world, roomy)
        before = disks.size_of(roomy)
        assert forks.brainseg(*task.arguments, cwd=roomy).code == 0
        taken = disks.size_of(roomy) - before
        shutil.rmtree(roomy)
        for share in SHARES:
            with disks.small_disk(tmp_path / "disk", 1 << 26) as disk:
                disks.prepare(task, world, disk)
                disks.grow(disk, before + max(4096, int(share * taken)))
                answer = forks.brainseg(*task.arguments, cwd=disk)
                tried += 1
                found = disks.judge(task, answer, disk)
                disks.grow(disk, 1 << 26)
                found += disks.again(task, disk) if answer.code else []
                faults += [f"{share:.0%} of {taken:,} bytes: {fault}" for fault in found]
    record(
        "full disk",
        tried=tried,
        failed=len(faults),
        what="every command that writes on a disk of 0 to 95 % of the room it takes: an exit code and a message, no "
        "half-written file, nothing left behind, and with room the same command succeeds",
    )
    assert not faults, "\n\n".join(faults)
