"""The page in headless Chromium, from upload to download, on a server that may not call out."""

import io
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scans import nifti_file
from servers import start_page
from test_refusals import BAD

from brainseg_keras import Predictor
from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.data.scans import find_scans

pytestmark = pytest.mark.slow
PATIENCE = 60_000


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """Where the server keeps what is sent to it."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A network of this package with gates, saved as a file."""
    import keras

    from brainseg_keras import attention_unet

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("models") / "small.keras"
    attention_unet((32, 32, 3), filters=4, depth=2).save(path)
    return path


@pytest.fixture(scope="module")
def server(temporary, small):
    process, port = start_page(temporary, "lgg", small)
    yield f"http://127.0.0.1:{port}/"
    process.terminate()
    process.wait(20)


@pytest.fixture
def page(chromium, server):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    open_page(page, server)
    yield page
    context.close()


def open_page(page, address):
    page.goto(address)
    page.wait_for_selector("#run", timeout=PATIENCE)
    page.wait_for_selector("#files input[type=file]", state="attached", timeout=PATIENCE)


def upload(page, *files):
    page.set_input_files("#files input[type=file]", [str(file) for file in files])
    page.wait_for_selector("#files .file-preview", timeout=PATIENCE)
    page.click("#run")


def see(page):
    """Wait for the picture, and give its pixels."""
    page.wait_for_selector(".brainseg-view img", timeout=PATIENCE)
    return pixels(page)


def pixels(page, index=0):
    import base64

    source = page.locator(".brainseg-view img").nth(index).get_attribute("src")
    return np.array(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def download(page, label):
    with page.expect_download(timeout=PATIENCE) as done:
        page.get_by_role("link", name=label).click()
    return done.value.suggested_filename, Path(done.value.path()).read_bytes()


def slide(page, control, value):
    box = page.locator(f"#{control} input[type=number]")
    box.fill(str(value))
    box.press("Enter")


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    root = write_phantom(tmp_path_factory.mktemp("phantom"), patients=3, slices=10, size=96, seed=5)
    folder = sorted(path for path in root.iterdir() if path.is_dir())[0]
    return [folder / f"{folder.name}_{number}.tif" for number in range(1, 11)]


def test_a_slice_from_upload_to_download(page, patient):
    upload(page, patient[5])
    see(page)
    name, content = download(page, "Mask")
    expected = Predictor("lgg")(patient[5])[0]
    assert expected.any()
    assert name == f"{patient[5].stem}_mask.png"
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), expected * 255)
    assert f"{int(expected.sum()):,} pixels" in page.locator(".brainseg-view dl").inner_text()
    assert "CC BY-NC-SA 4.0" in page.locator("#status").inner_text()
    name, content = download(page, "Report")
    report = content.decode()
    assert name.endswith("_report.html")
    assert (
        "not for clinical use" in report and "CC BY-NC-SA 4.0" in report and f"{int(expected.sum()):,} pixels" in report
    )
    assert not re.findall(r"(?:src|href)=\"(?!data:)", report), "the report is not self-contained"


def test_a_volume_keeps_its_affine(page, tmp_path):
    import nibabel

    file, truth = nifti_file(tmp_path / "head_flair.nii.gz", "RAS")
    upload(page, file)
    see(page)
    assert page.locator(".side").count() == 2
    assert "ml" in page.locator(".brainseg-view dl").inner_text()
    name, content = download(page, "Mask")
    (tmp_path / name).write_bytes(content)
    mask = nibabel.load(tmp_path / name)
    np.testing.assert_array_equal(mask.affine, nibabel.load(file).affine)
    assert mask.shape == truth.shape
    answer = Predictor("lgg")(file)
    assert int(np.asarray(mask.dataobj).sum()) == int(answer.sum())


def test_slices_of_a_patient_make_a_volume_and_the_slider_goes_through_it(page, patient):
    upload(page, *patient)
    first = see(page)
    slider = page.locator("#slice input[type=range]")
    assert slider.get_attribute("max") == "10"
    number = int(slider.input_value())
    assert f"_{number}.tif" in page.locator("figcaption").inner_text()
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('figcaption').innerText.includes('_{number + 1}.tif')")
    assert not np.array_equal(pixels(page), first)
    _, content = download(page, "Mask")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == sorted(f"{file.stem}_mask.png" for file in patient)


def test_threshold_and_opacity_act_on_what_is_there(page, patient):
    upload(page, *patient)
    drawn = see(page)
    volume = lambda: int(page.locator("dd").first.inner_text().split()[0].replace(",", ""))  # noqa: E731
    before = volume()
    slide(page, "threshold", 0.95)
    page.wait_for_function(f"!document.querySelector('dd').innerText.startsWith('{before:,} ')")
    assert volume() < before
    _, content = download(page, "Mask")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        planes = [np.array(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]
    assert sum(int((plane > 0).sum()) for plane in planes) == volume()
    slide(page, "opacity", 0)
    page.wait_for_timeout(1500)
    bare = pixels(page).astype(int)
    assert np.abs(bare - bare.mean(axis=-1, keepdims=True)).max() < 12, "color is left at opacity 0"
    assert np.abs(drawn.astype(int) - drawn.mean(axis=-1, keepdims=True)).max() > 60


def test_attention_shows_each_gate(page, patient):
    upload(page, patient[5])
    see(page)
    page.get_by_label("Attention").check()
    page.wait_for_selector(".brainseg-view small:has-text('Gate dec3_att')", timeout=PATIENCE)
    assert page.locator(".brainseg-view img").count() == 4
    shown = pixels(page).astype(int)
    assert np.abs(shown - shown.mean(axis=-1, keepdims=True)).max() > 30


def test_uncertainty_is_the_difference_from_the_mirror_image(page, patient):
    upload(page, patient[5])
    see(page)
    page.get_by_label("Uncertainty").check()
    page.wait_for_selector(".brainseg-view small:has-text('mirror image')", timeout=PATIENCE)
    predictor = Predictor("lgg")
    images, _ = predictor.arrange(find_scans([patient[5]])[0].read(), "slice")
    turned = predictor.probabilities(images[:, :, ::-1])[:, :, ::-1]
    both = np.maximum(np.abs(predictor.probabilities(images) - turned).max(), 0)
    # The shipped weights average both ways: turning the input turns the answer.
    assert both < 1e-5
    plain = predictor.probabilities(images, flip=False)
    turned = predictor.probabilities(images[:, :, ::-1], flip=False)[:, :, ::-1]
    assert f"at most {np.abs(plain - turned).max():.2f}" in page.locator(".brainseg-view small").inner_text()


def test_two_models_side_by_side(page, patient):
    page.locator("#second input").click()
    page.get_by_role("option", name="small.keras").click()
    upload(page, patient[5])
    see(page)
    assert page.locator(".brainseg-view figure").count() == 2
    left, right = (page.locator(".brainseg-view figure").nth(index).bounding_box() for index in (0, 1))
    assert abs(left["y"] - right["y"]) < 2 and right["x"] > left["x"] + left["width"] - 1
    assert download(page, "Mask of small.keras")[0].endswith("_mask.png")


def test_a_zip_of_two_patients_offers_both(page, patient, tmp_path):
    root = patient[0].parents[1]
    other = sorted(path for path in root.iterdir() if path.is_dir())[1]
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for folder in (patient[0].parent, other):
            for file in sorted(folder.iterdir()):
                archive.write(file, file.relative_to(root))
    upload(page, tmp_path / "both.zip")
    see(page)
    assert page.locator("#scan").is_visible()
    page.locator("#scan input").click()
    page.get_by_role("option", name=other.name).click()
    page.wait_for_function(f"document.querySelector('figcaption').innerText.includes('{other.name}')")
    assert page.locator("#slice input[type=range]").get_attribute("max") == "10"


@pytest.mark.parametrize("kind", ["slices", "volume"])
def test_examples_are_a_click_away(page, kind):
    page.get_by_role("button", name=f"Example: {kind}").click()
    see(page)
    assert page.locator("#slice input[type=range]").get_attribute("max") == "20"


@pytest.mark.parametrize("name", [*BAD, "notes.txt", "no.zip"])
def test_a_bad_file_is_said_in_the_page(page, name, tmp_path):
    make, words = BAD.get(name, (lambda path: path.write_text("no zip"), "is of a kind|cannot be unpacked"))
    make(tmp_path / name)
    upload(page, tmp_path / name)
    page.wait_for_selector("#status [role=alert]", timeout=PATIENCE)
    said = page.locator("#status").inner_text()
    assert name in said and re.search(words, said), said
    assert "/visits/" not in said and "Traceback" not in said and "should not have" not in said
    assert page.locator(".brainseg-view").count() == 0


def test_a_bad_file_takes_the_last_result_away_and_the_next_good_one_brings_one(page, patient, tmp_path):
    upload(page, patient[5])
    see(page)
    page.get_by_label("Remove this file").or_(page.get_by_label("Clear")).first.click()
    (tmp_path / "text.png").write_text("no picture")
    upload(page, tmp_path / "text.png")
    page.wait_for_selector("#status [role=alert]", timeout=PATIENCE)
    assert page.locator(".brainseg-view img").count() == 0
    assert page.get_by_role("link", name="Mask").count() == 0
    page.get_by_role("button", name="Example: slices").click()
    see(page)
    assert page.locator("#status [role=alert]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_over_the_edge(chromium, server, width, scheme):
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    open_page(page, server)
    page.get_by_role("button", name="Example: volume").click()
    see(page)
    for mode in ("Attention", "Outline"):
        page.get_by_label(mode).check()
        page.wait_for_timeout(1000)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = np.mean([int(value) for value in re.findall(r"\d+", background)[:3]]) > 128
    assert light == (scheme == "light"), background
    assert "not for clinical use" in page.inner_text("body")
    context.close()


def test_the_whole_way_by_keyboard(page):
    """Tab to the example's button, press it, and tab on to the mask's link."""

    def tab_to(text):
        for _ in range(60):
            page.keyboard.press("Tab")
            if text in (page.evaluate("document.activeElement.innerText") or ""):
                return
        raise AssertionError(f"Tab does not reach {text!r}")

    tab_to("Example: slices")
    page.keyboard.press("Enter")
    see(page)
    tab_to("Report")
    with page.expect_download(timeout=PATIENCE) as done:
        page.keyboard.press("Enter")
    assert done.value.suggested_filename.endswith("_report.html")


def test_files_go_when_the_page_is_closed(chromium, server, temporary, patient):
    context = chromium.new_context()
    page = context.new_page()
    open_page(page, server)
    upload(page, patient[5])
    see(page)
    kept = lambda: list(temporary.rglob(patient[5].name))  # noqa: E731
    assert kept()
    link = page.get_by_role("link", name="Mask").get_attribute("href")
    page.goto("about:blank")
    context.close()
    for _ in range(120):
        if not kept():
            break
        time.sleep(0.5)
    assert not kept()
    answer = chromium.new_context().request.get(server.rstrip("/") + link.removeprefix("."))
    assert answer.status == 404


def test_a_file_that_was_dropped_can_be_taken_back(page, patient):
    page.set_input_files("#files input[type=file]", str(patient[5]))
    page.wait_for_selector("#files .file-preview", timeout=PATIENCE)
    with page.expect_download(timeout=PATIENCE) as done:
        page.locator("#files .download a").click()
    assert done.value.suggested_filename == patient[5].name
    assert Path(done.value.path()).read_bytes() == patient[5].read_bytes()


def test_a_file_above_the_limit_is_refused(chromium, temporary, tmp_path):
    process, port = start_page(temporary, max_upload=1)
    try:
        context = chromium.new_context()
        page = context.new_page()
        open_page(page, f"http://127.0.0.1:{port}/")
        big = tmp_path / "big.png"
        big.write_bytes(b"\0" * (2 << 20))
        page.set_input_files("#files input[type=file]", str(big))
        said = page.wait_for_selector("text=/maximum|too large|exceed/i", timeout=PATIENCE).inner_text()
        assert "big.png" in said
        context.close()
    finally:
        process.terminate()
        process.wait(20)


def test_nothing_was_asked_of_the_world(page, server, temporary):
    """Last: what all tests above made the page and the server do."""
    page.get_by_role("button", name="Example: slices").click()
    see(page)
    asked = {url.split("/")[2] for url in page.asked if url.startswith(("http", "ws"))}
    assert asked == {server.split("/")[2]}
    assert not (temporary / "outside.txt").exists(), (temporary / "outside.txt").read_text()
    policy = page.request.get(server).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy


@pytest.fixture
def real_slice(lgg):
    return lgg / "kaggle_3m" / "TCGA_CS_4941_19960909" / "TCGA_CS_4941_19960909_12.tif"


def test_a_real_slice(page, real_slice):
    upload(page, real_slice)
    see(page)
    _, content = download(page, "Mask")
    expected = Predictor("lgg")(real_slice)[0]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), expected * 255)


def test_a_real_volume(page, brats, tmp_path):
    import nibabel

    file = brats / "brats2015" / "brats_2013_pat0004_1" / "Flair_subtrMeanDivStd.nii.gz"
    upload(page, file)
    see(page)
    name, content = download(page, "Mask")
    (tmp_path / name).write_bytes(content)
    mask, scan = nibabel.load(tmp_path / name), nibabel.load(file)
    assert mask.shape == scan.shape
    assert np.abs(mask.affine - scan.affine).max() == 0
    assert np.asarray(mask.dataobj).any()
