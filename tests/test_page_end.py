"""The page's end by a signal, with a tab open in headless Chromium and a network at work."""

import signal
import time
import zipfile

import pytest
from servers import start_page
from test_page_browser import PATIENCE, open_page

from brainseg_keras.data.phantom.lgg import write_phantom

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def many_slices(tmp_path_factory):
    """A zip of a patient on whom a network works for minutes."""
    root = write_phantom(tmp_path_factory.mktemp("phantom"), patients=1, slices=6, size=96, seed=5)
    file = next(path for path in sorted(root.rglob("*.tif")) if "mask" not in path.name)
    target = root / "many.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(1000):
            archive.write(file, f"patient/patient_{number}.tif")
    return target


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGHUP])
def test_the_end_waits_for_no_tab_and_no_network(stop, chromium, many_slices, tmp_path):
    process, port = start_page(tmp_path, "lgg")
    try:
        context = chromium.new_context()
        page = context.new_page()
        open_page(page, f"http://127.0.0.1:{port}/")
        page.set_input_files("#files input[type=file]", str(many_slices))
        page.wait_for_selector("#files .file-preview", timeout=PATIENCE)
        page.click("#run")
        page.wait_for_selector("text=/Segmenting with lgg/", timeout=PATIENCE)
        begun = time.monotonic()
        process.send_signal(stop)
        assert process.wait(60) == 0
        assert time.monotonic() - begun < 10, "the network would have taken minutes"
        assert not list(tmp_path.glob("brainseg-app-*"))
        assert "Traceback" not in (tmp_path / f"server-{port}.log").read_text()
        context.close()
    finally:
        process.kill()
        process.wait(20)
