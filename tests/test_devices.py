"""What a training is spread over: what is refused before anything is loaded, and how processes stop together."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from commands import here
from processes import finish, free_address, start
from runs import tiny

from brainseg_keras.errors import InputError
from brainseg_keras.training import Devices, RunFolder, train, train_folds
from brainseg_keras.training.meeting import meet
from brainseg_keras.training.progress import Progression
from brainseg_keras.training.stopping import StopTogether

PLACE = "node1:3456"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": 0}, "devices is a whole number from 1 to 64"),
        ({"processes": 0}, "processes is a whole number from 1 to"),
        ({"processes": 2}, "give all of them the same --coordinator HOST:PORT"),
        ({"processes": 2, "coordinator": PLACE}, "give --process-index 0 to the first, and so on to 1"),
        ({"processes": 2, "coordinator": PLACE, "index": 2}, r"process_index is .* from 0 to 1, .* Received: 2"),
        ({"processes": 2, "coordinator": PLACE, "index": -1}, "process_index is a whole number from 0"),
        ({"coordinator": PLACE}, r"are of several processes\. .*--processes 2"),
        ({"index": 1}, r"are of several processes\. .*process_index=1"),
        ({"processes": 2, "coordinator": "node1", "index": 0}, r"HOST:PORT, such as .* Received: 'node1'"),
        ({"processes": 2, "coordinator": "node1:", "index": 0}, "coordinator is HOST:PORT"),
        ({"processes": 2, "coordinator": ":3456", "index": 0}, "coordinator is HOST:PORT"),
        ({"processes": 2, "coordinator": "node1:0", "index": 0}, "a port from 1 to 65535"),
        ({"processes": 2, "coordinator": "node1:70000", "index": 0}, "a port from 1 to 65535"),
        ({"processes": 2, "coordinator": "node1:x", "index": 0}, "coordinator is HOST:PORT"),
    ],
)
def test_what_does_not_fit_together_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        Devices(**given)


def test_addresses_are_read_as_they_are_written():
    assert Devices(1, PLACE, processes=2, index=0).address == ("node1", 3456)
    assert Devices(1, "[::1]:3456", processes=2, index=0).address == ("::1", 3456)


@pytest.mark.parametrize(
    ("devices", "batch_size", "fitting"),
    [
        (Devices(3), 8, "6 or 9"),
        (Devices(4), 2, "4, or another"),
        (Devices(2, PLACE, processes=3, index=0), 16, "12 or 18"),
        (Devices(2, PLACE, processes=3, index=0), 12, None),
        (Devices(), 7, None),
    ],
)
def test_a_batch_is_cut_into_equal_parts(devices, batch_size, fitting):
    if fitting is None:
        devices.check_batch(batch_size)
        return
    with pytest.raises(InputError, match=rf"batch_size={batch_size} for {devices.total} devices.*such as {fitting}"):
        devices.check_batch(batch_size)


def test_the_command_refuses_before_anything_is_loaded(tmp_path):
    cases = [
        (["--processes", "2"], "--coordinator HOST:PORT"),
        (["--processes", "2", "--coordinator", PLACE, "--process-index", "2"], "from 0 to 1"),
        (["--devices", "65"], "--devices is a whole number from 1 to 64"),
    ]
    code = (
        "import sys\nfrom brainseg_keras.cli import run\n"
        "try:\n    run(['train', *sys.argv[1:]])\n"
        "finally:\n    print(*{'keras', 'jax', 'numpy', 'tensorflow'} & set(sys.modules))\n"
    )
    for arguments, words in cases:
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and done.stdout.split() == [] and words in done.stderr
    assert not list(tmp_path.iterdir())


def test_tensorflow_trains_in_one_process(tmp_path):
    several = ["--processes", "2", "--coordinator", PLACE, "--process-index", "0"]
    code, out, err = here("train", *several, "-o", str(tmp_path / "run"))
    assert code == 2 and not out and "the backend is tensorflow. Set KERAS_BACKEND=jax" in err
    code, _, err = here("train", *several)
    assert code == 2 and "Say which, to all of them: -o RUN" in err
    assert not list(tmp_path.iterdir())


def test_an_odd_batch_is_refused_before_the_data_are_looked_for(tmp_path):
    with pytest.raises(InputError, match="batch_size=4 for 3 devices"):
        train(tiny("no/such/data"), output=tmp_path / "run", devices=Devices(3))


def test_folds_are_trained_by_one_process(tmp_path):
    with pytest.raises(InputError, match=r"Folds are trained by one process\. Received: 2 processes.*--fold 1"):
        train_folds(
            tiny("phantom", folds=3), output=tmp_path / "folds", devices=Devices(1, PLACE, processes=2, index=0)
        )
    assert not (tmp_path / "folds").exists()


# ---- stopping together


class Stopped:
    """A model, for a callback."""

    stop_training = False


def test_all_stop_after_the_step_in_which_one_was_asked_to():
    """Process 1 gets Ctrl-C; both go by the clock of process 0, whose limit of 100 seconds is half over."""
    ours = Progression(10, 100, limit=100.0, seconds=50.0, step=3)
    theirs = Progression(10, 100, step=3)
    theirs.stopped = "interrupted"
    told = []

    def exchange(value):
        told.append(value)
        return [[ours.stopped, 0.5], [theirs.stopped, 0.0]]

    for progression in (ours, theirs):
        together, model = StopTogether(progression, exchange), Stopped()
        together.set_model(model)
        together.on_train_batch_end(3)
        assert model.stop_training and progression.stopped == "interrupted"
        # By steps 3 of 100 are done, by the clock 50.
        assert progression.share() == 0.5 and progression.share(by_time=False) == 0.03
    assert told[0][0] is None and told[0][1] == pytest.approx(0.5, abs=0.01) and told[1] == ["interrupted", 0.0]


def test_alone_a_run_goes_on_until_its_last_step():
    progression = Progression(10, 100, step=99)
    together = StopTogether(progression, lambda value: [value])
    assert together.goes_on()
    progression.step = 100
    assert not together.goes_on()
    progression.step, progression.stopped = 5, "time"
    assert not together.goes_on()


# ---- processes of their own


@pytest.mark.slow
def test_a_process_whose_index_is_taken_ends_with_a_message_and_the_others_wait_on(tmp_path):
    address = free_address()
    several = [Devices(1, address, processes=3, index=index) for index in range(3)]
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(meet, devices, wait=120) for devices in several[:2]]
        command = [
            "train",
            "-o",
            "run",
            "--batch-size",
            6,
            "--coordinator",
            address,
            "--processes",
            3,
            "--process-index",
            1,
        ]
        ((code, _, err),) = finish([start(*command, backend="jax", cwd=tmp_path)])
        assert code == 2 and "There is a process 1 already" in err and "Traceback" not in err
        last = meet(several[2], wait=60)
        for meeting in (*(one.result() for one in waiting), last):
            meeting.__exit__(None, None, None)
    assert not RunFolder(tmp_path / "run").path.exists()
