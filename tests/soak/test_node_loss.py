"""A Ray cluster of two nodes, one of which dies in the middle of the work."""

import re
import subprocess
import sys

import clusters
import pytest
from commands import brainseg
from reliability import record, scale

CODE = "from brainseg_keras.cli import main; main()"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """300 slices, 3 of them broken, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("archive")
    words = ("predict", clusters.write_archive(folder, round(300 * scale()), broken=3, lone=True), "-o", "masks")
    words += ("--engine=onnx", "--no-overlays")
    answer = brainseg(*words, cwd=folder, timeout=600)
    assert answer.returncode == 1
    # Three, and slices at an end of the head in which nothing is to be seen.
    return words, clusters.results(folder / "masks"), re.search(r"\d+ inputs could not be segmented", answer.stderr)[0]


@pytest.mark.soak
@pytest.mark.parametrize("through", ["HOST:PORT", "ray://HOST:PORT"])
def test_a_node_that_dies_costs_time_and_nothing_else(archive, tmp_path, through, monkeypatch):
    words, expected, failures = archive
    for name, value in clusters.TOKEN.items():
        monkeypatch.setenv(name, value)
    half = len(expected[0]) // 2
    with clusters.two_nodes() as (native, client, second), (tmp_path / "said").open("w") as said:
        command = [*map(str, words), "--cluster", client if through.startswith("ray") else native]
        process = subprocess.Popen([sys.executable, "-c", CODE, *command], cwd=tmp_path, stdout=said, stderr=said)
        try:
            masks = tmp_path / "masks"
            clusters.wait_for(lambda: len(list(masks.rglob("*_mask.png"))) >= half, "half of the masks", 300)
            assert len(list((masks / "ledger" / "scans").iterdir())) == 2, "both nodes were to have worked by then"
            second.kill()
            process.wait(300)
        finally:
            process.kill()
            process.wait()
    text = (tmp_path / "said").read_text()
    twice = len(clusters.attempts(masks)) - len(set(clusters.attempts(masks)))
    wrong = clusters.results(masks) != expected
    record(
        f"node lost: --cluster {through}",
        tried=len(expected[2]),
        failed=twice + wrong + ("Traceback" in text),
        what="scans on two Ray nodes of which one is killed half way; failed: masks, rows or messages that are not "
        "those of one process, a scan done twice",
    )
    assert process.returncode == 1 and failures in text and "Traceback" not in text, text
    assert "A worker was lost; what it had not finished is done again" in text
    assert not wrong and not twice
