"""--cluster: Ray on this machine and on others, and what is said where there is none."""

import logging
import os
import pickle
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import clusters
import numpy as np
import pandas as pd
import pytest
from commands import brainseg, fresh_brainseg, here
from PIL import Image
from runs import tiny
from scans import slice_of

from brainseg_keras import cluster
from brainseg_keras.data.scan_lists import Listed
from brainseg_keras.errors import InputError
from brainseg_keras.inference.cluster import _Worker
from brainseg_keras.inference.engines import onnx
from brainseg_keras.inference.job import JobSettings
from brainseg_keras.inference.ledger import Key
from brainseg_keras.models import shipped
from brainseg_keras.training.folds import _share

# ---- what is refused


@pytest.mark.parametrize(
    "address", ["", "rays", "head", "head:", "head:0", "head:65536", ":6379", "ray://", "ray://head", "http://head:1"]
)
def test_what_is_no_address_is_refused_before_anything_is_loaded(address, tmp_path):
    for words in (("predict", str(tmp_path), "-o", str(tmp_path / "out")), ("train", "--folds=3")):
        code, _, err = here(*words, f"--cluster={address}")
        assert code == 2 and f"HOST:PORT or ray://HOST:PORT. Received: {address!r}" in err


@pytest.mark.parametrize("address", ["ray", "auto", "head:6379", "10.0.0.1:1", "[::1]:65535", "ray://head.site:10001"])
def test_an_address_is_taken_as_it_is(address):
    assert cluster.check_address(address) == address


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(slice_of((64, 64))).save(tmp_path / "one.png")
    return str(tmp_path / "one.png")


def test_a_missing_extra_is_named_and_nothing_is_written(picture, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = here("predict", picture, "-o", str(tmp_path / "out"), "--cluster=ray")
    assert code == 2 and "ray is missing. Install it: pip install 'brainseg_keras[cluster]'" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_where_nobody_listens_there_is_no_cluster(kind, picture, tmp_path):
    address = f"{kind}127.0.0.1:{clusters.free_port()}"
    code, _, err = here("predict", picture, "-o", str(tmp_path / "out"), f"--cluster={address}")
    assert code == 2
    assert f"No Ray cluster answers at {address} (Connection refused). Start one with 'ray start --head'" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_what_says_nothing_is_no_cluster(kind, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{kind}127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=r"what listens there said nothing for 0\.5 s"), cluster.connected(address):
            pass


def test_a_lone_run_needs_no_cluster(phantom, own_run):
    small = ("--architecture=res_unet", "--filters=2", "--depth=1", "--size=32", "--epochs=1")
    for words in (("train", "--data", str(phantom), *small), ("train", "--resume", str(own_run.path))):
        code, _, err = here(*words, "--cluster=auto")
        assert code == 2 and "--cluster trains the folds of --folds K at once, and no lone run" in err


# ---- a worker and its share


def test_a_worker_stands_where_the_command_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = cluster.Place()
    monkeypatch.chdir("/")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert place.enter(threads=3) is None
    assert Path.cwd() == tmp_path and os.environ["OMP_NUM_THREADS"] == os.environ["TF_NUM_INTRAOP_THREADS"] == "3"


def test_a_worker_elsewhere_or_of_another_version_says_so(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    place = cluster.Place()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rmdir()
    assert f"{platform.node()} cannot enter {tmp_path / 'here'} (No such file or directory)" in place.enter()
    monkeypatch.setattr(cluster, "__version__", "0.0.1")
    assert f"{platform.node()} has brainseg_keras 0.0.1, {platform.node()} has " in place.enter()


def node(cpus, gpus=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": cpus} | ({"GPU": gpus} if gpus else {})}


@pytest.mark.parametrize(
    ("nodes", "folds", "cpus", "gpus"),
    [
        ([node(2)], 3, 1, 0),
        ([node(8)], 5, 1, 0),
        ([node(16)], 5, 3, 0),
        ([node(4), node(4), node(4)], 2, 4, 0),
        ([node(16), node(64, alive=False)], 5, 3, 0),
        ([node(16, 2)], 5, 3, 1),
        ([{"Alive": True, "Resources": {}}, node(4)], 3, 1, 0),
    ],
)
def test_a_fold_takes_its_share_and_no_more_than_a_host_has(nodes, folds, cpus, gpus):
    assert _share(nodes, folds) == {"num_cpus": cpus, "num_gpus": gpus}


@pytest.mark.parametrize(("said", "started"), [("1", 0), ("3", 2)])
def test_an_engine_starts_the_threads_that_it_may(said, started):
    """This process' own are the one that calls; the rest wait for work."""
    code = (
        "import os\nfrom pathlib import Path\nfrom brainseg_keras.inference.engines import onnx\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        f"before = count(); opened = onnx.read(Path({str(shipped.shipped_file('lgg', shipped.ONNX))!r}))\n"
        "print(count() - before)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": said}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == started, done.stderr


def test_threads_change_no_answer(monkeypatch):
    file, answers = shipped.shipped_file("lgg", shipped.ONNX), []
    batch = np.random.default_rng(1).uniform(0, 3, (2, 128, 128, 3)).astype(np.float32)
    for said in ("1", "2", "x", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        answers.append(onnx.read(file).network(batch))
    assert all((answer == answers[0]).all() for answer in answers)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("nowhere", "no folder nowhere. Give an output folder that all hosts share"),
        (".", "the network lgg is another one"),
    ],
)
def test_a_worker_that_sees_something_else_is_refused_by_name(output, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(logging.getLogger("brainseg_keras"), "handlers", [])
    settings = JobSettings(output, model="lgg", engine="onnx")
    worker = _Worker(settings, cluster.Place(), Key("0" * 64, settings.open().key.settings), began="")
    (answer,) = worker({"scan": [pickle.dumps(Listed("one", Path("one.png")))]})["result"]
    entry, words, fault = pickle.loads(answer)
    assert (entry, words, type(fault)) == (None, [], InputError) and str(fault).startswith(f"{platform.node()}: {said}")
    assert not list(tmp_path.iterdir())


# ---- Ray


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A list of 30 patients, 3 of them broken, and of one that is not there."""
    table = clusters.write_archive(tmp_path_factory.mktemp("archive"), scans=30, broken=3)
    with table.open("a") as opened:
        opened.write("absent,absent\n")
    return table


@pytest.mark.slow
def test_ray_gives_what_one_process_gives(archive, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "ray").mkdir()
    words = ("predict", archive, "-o", "masks", "--engine=onnx", "--no-overlays")
    plain = brainseg(*words, cwd=tmp_path / "plain")
    done = fresh_brainseg(*words, "--cluster=ray", "--json", cwd=tmp_path / "ray")
    for answer in (plain, done):
        assert answer.returncode == 1 and "4 inputs could not be segmented" in answer.stderr, answer.stderr
    assert done.stderr.count("Left out:") == 4 and "Traceback" not in done.stderr
    masks = tmp_path / "ray" / "masks"
    pictures, summary, ledger = clusters.results(masks)
    expected, rows, entries = clusters.results(tmp_path / "plain" / "masks")
    assert len(expected) == 27 * 6 and pictures == expected
    there = [
        [[row for row in table if "absent" not in str(row)] for table in tables]
        for tables in ((summary, ledger), (rows, entries))
    ]
    assert there[0] == there[1]
    (absent,) = (dict(row) for row in ledger if "absent" in str(row))
    assert absent["error"] == (
        f"{archive.parent / 'absent'} is not there on {platform.node()}. Give paths that all hosts share."
    )
    assert clusters.attempts(masks) == sorted(dict(row)["id"] for row in ledger)
    read = pd.read_parquet(masks / "ledger.parquet")
    assert len(read) == 31 and read.seconds.sum() > 0
    assert (
        read.drop(columns="seconds")
        .astype(str)
        .equals(pd.read_csv(masks / "ledger.csv", dtype=str, keep_default_na=False).drop(columns="seconds"))
    )
    again = fresh_brainseg(*words, "--cluster=ray", "--continue", cwd=tmp_path / "ray")
    assert again.returncode == 1
    assert "27 of 31 scans are done and left out; the others are 4 failed" in again.stderr
    assert len(clusters.attempts(masks)) == 35


@pytest.mark.slow
def test_folds_on_ray_end_as_folds_in_turn_though_a_worker_is_killed(store, tmp_path, monkeypatch):
    import keras

    config = tiny(store, folds=3, filters=2, depth=1, size=16, batch_size=8, epochs=3)
    config.to_yaml(tmp_path / "config.yaml")
    words = ["train", "--config", "config.yaml", "-o", "out", "--cluster=ray"]
    code = "from brainseg_keras.cli import main; main()"
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=tmp_path, stdout=said, stderr=said)
        try:
            clusters.wait_for(lambda: any(tmp_path.glob("out/fold*/last.keras")), "the first epoch", 200)
            (victim, *_) = clusters.named(process.pid, "_train_there")
            os.kill(victim, signal.SIGKILL)
            process.wait(300)
        finally:
            process.kill()
    text = (tmp_path / "said").read_text()
    assert process.returncode == 0, text
    assert [text.count(f"Fold {number} of 3: done") for number in (1, 2, 3)] == [1, 1, 1]
    assert "n = 5 (out of fold" in text
    for name in cluster._THREADS:
        monkeypatch.setenv(name, "1")
    alone = fresh_brainseg("train", "--config", "config.yaml", "-o", "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    for fold in ("fold1", "fold2", "fold3"):
        ours, theirs = (keras.saving.load_model(tmp_path / name / fold / "best.keras") for name in ("out", "alone"))
        for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, other)
