"""How soon the page answers a slider, in headless Chromium, from the movement to the new picture on the screen.

    python benchmarks/page.py --scan scan.nii.gz

Without --scan the volume is synthetic: 155 slices of 240 x 240 pixels. Needs Chromium and `pip install playwright`.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--scan", help="NIfTI volume; default a synthetic one")
parser.add_argument("--model", default="lgg", help="run folder, model file or shipped name")
parser.add_argument("--port", type=int, default=7899)

#: Moves a slider as a hand does, and waits until another picture is drawn.
MOVE = """async ([id, value]) => {
    const slider = document.querySelector(`#${id} input[type=range]`);
    const before = document.querySelector('.brainseg-view').innerHTML;
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
    const begun = performance.now();
    set.call(slider, value);
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    return await new Promise(resolve => {
        const look = () => {
            const now = document.querySelector('.brainseg-view');
            const picture = now && now.querySelector('img');
            if (picture && now.innerHTML !== before && picture.complete && picture.naturalWidth)
                requestAnimationFrame(() => resolve(performance.now() - begun));
            else if (performance.now() - begun > 5000) resolve(null);
            else setTimeout(look, 2);
        };
        look();
    });
}"""


def synthetic_volume(folder: Path) -> Path:
    """Write a FLAIR volume of the phantom, 155 slices of 240 x 240 pixels of 1 mm."""
    import nibabel

    from brainseg_keras.data.phantom.lgg import phantom_volume

    images, _ = phantom_volume(0, 1, slices=155, size=240)
    volume = np.transpose(images[..., 1], (2, 1, 0)).astype(np.float32)
    path = folder / "phantom_flair.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


def measure(page: object, slider: str, values: list[float]) -> str:
    """Move a slider to each value, and put the waiting times into a row of the table."""
    times = []
    for value in values:
        took = page.evaluate(MOVE, [slider, value])
        if took is not None:
            times.append(took)
        page.wait_for_timeout(200)
    if not times:
        return f"| {slider} {min(values):g} to {max(values):g} | nothing changed | | 0 |"
    median, largest = statistics.median(times), max(times)
    return f"| {slider} {min(values):g} to {max(values):g} | {median:.0f} ms | {largest:.0f} ms | {len(times)} |"


def main() -> None:
    """Start the page, hand it the volume, and print the table."""
    from playwright.sync_api import sync_playwright

    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("no Chromium found: install it")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        scan = Path(options.scan) if options.scan else synthetic_volume(Path(folder))
        code = "from brainseg_keras.cli import main; main()"
        server = [sys.executable, "-c", code, "app", "--model", options.model, "--port", str(options.port)]
        process = subprocess.Popen(server, stderr=subprocess.DEVNULL)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            for _ in range(120):
                try:
                    page.goto(f"http://127.0.0.1:{options.port}/")
                    break
                except Exception:  # the server is not yet there
                    time.sleep(0.5)
            page.wait_for_selector("#files input[type=file]", state="attached", timeout=60_000)
            page.set_input_files("#files input[type=file]", str(scan))
            page.wait_for_selector("#files .file-preview")
            begun = time.perf_counter()
            page.click("#run")
            page.wait_for_selector(".brainseg-view img", timeout=600_000)
            print(f"{scan.name}: segmented, and shown, after {time.perf_counter() - begun:.1f} s\n")
            page.wait_for_timeout(1000)
            print("| slider | median | longest | movements |\n|---|---|---|---|")
            print(measure(page, "threshold", [0.3 + 0.025 * n for n in range(21)]))
            print(measure(page, "threshold", [0.05 + 0.02 * n for n in range(12)]))
            print(measure(page, "opacity", [0.05 * n for n in range(20)]))
            print(measure(page, "slice", list(range(60, 80))))
        finally:
            browser.close()
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    main()
