"""TensorBoard itself, on the sample run that the repository keeps, in headless Chromium."""

import subprocess
import sys
from pathlib import Path

import pytest
from servers import free_port, wait_for_port
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SAMPLES = Path(__file__).parents[1] / "tensorboard_logs"
RUN = SAMPLES / "attention_unet-phantom"


def test_the_sample_run_is_small_and_whole():
    files = [path for path in RUN.rglob("*") if path.is_file() and path.suffix != ".keras"]
    assert {"config.yaml", "run.json", "history.csv", "curves.png"} <= {path.name for path in files}
    assert sum(path.stat().st_size for path in files) < 3_000_000
    events = EventAccumulator(str(RUN / "logs"), size_guidance={"images": 0}).Reload()
    epochs = len((RUN / "history.csv").read_text().splitlines()) - 1
    # Of nobody but the phantom.
    shown = [tag for tag in events.Tags()["images"] if not tag.startswith("worst/")]
    assert shown and all("PHANTOM" in tag for tag in shown)
    assert all(len(events.Images(tag)) == epochs for tag in shown)


@pytest.fixture(scope="module")
def address():
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(SAMPLES),
        "--port",
        str(port),
        "--load_fast=false",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_port(port, process)
    yield f"http://127.0.0.1:{port}/"
    process.terminate()
    process.wait(20)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tab", "selector"),
    [
        ("scalars", "text=val_dice_min"),
        ("images", "text=panel/PHANTOM"),
        ("hparams", "text=attention_unet"),
        ("graphs", "text=dec0"),
        ("histograms", "text=dice_per_patient"),
        ("pr_curves", "text=precision_recall"),
        ("text", "text=learning_rate"),
    ],
)
def test_each_page_of_tensorboard_shows_the_run(chromium, address, tab, selector):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}#{tab}")
    # The graph's names are drawn, and have no size that a browser would call visible.
    page.wait_for_selector(selector, timeout=60_000, state="attached" if tab == "graphs" else "visible")
    assert page.locator(selector).count()
    page.close()
