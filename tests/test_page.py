"""Behind the page: uploads laid out safely, sliders that say what the network says, visits that end."""

import dataclasses
import io
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from scans import CHANNELS, GRAY, PICTURES, brightness_model, nifti_file, slice_of

from brainseg_keras.app.door import CONTENT_POLICY
from brainseg_keras.app.results import mask_file, report_file
from brainseg_keras.app.server import create_app, find_models
from brainseg_keras.app.sessions import Models, Visits
from brainseg_keras.app.study import Answer, Study
from brainseg_keras.app.uploads import collect
from brainseg_keras.app.view import MODES, OUTLINE, Wish, describe, render
from brainseg_keras.app.view import picture as picture_of
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.scans import Pixels, find_scans
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation.lesions import label_lesions
from brainseg_keras.inference import Predictor
from brainseg_keras.inference.measures import measure
from brainseg_keras.postprocessing import Postprocessing

LIMIT = 10 << 20


@pytest.fixture(scope="module")
def predictor():
    chosen = Postprocessing(0.5, largest_component=True, smallest_component=3, flip=True)
    return Predictor(brightness_model(), batch_size=4).adapted(
        preprocessing=Preprocessing(64), channels=CHANNELS, postprocessing=chosen
    )


# ---- uploads


def zipped(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def picture():
    buffer = io.BytesIO()
    Image.fromarray(GRAY).save(buffer, "TIFF")
    return buffer.getvalue()


def test_loose_slices_of_a_patient_are_put_together_in_order(tmp_path):
    files = []
    for number in (10, 2, 1):
        file = tmp_path / f"TCGA_XX_1_20000101_{number}.tif"
        file.write_bytes(picture())
        files.append(file)
    (tmp_path / "TCGA_XX_1_20000101_2_mask.tif").write_bytes(picture())
    scans = collect([*files, tmp_path / "TCGA_XX_1_20000101_2_mask.tif"], tmp_path / "visit", limit=LIMIT)
    assert [[file.name for file in scan.files] for scan in scans] == [
        [f"TCGA_XX_1_20000101_{number}.tif" for number in (1, 2, 10)]
    ]


def test_a_zip_is_found_in_however_it_was_packed(tmp_path):
    flat = zipped(tmp_path / "flat.zip", [(f"TCGA_A_{n}.tif", picture()) for n in (1, 2)])
    deep = zipped(
        tmp_path / "deep.zip",
        [("set/TCGA_B/TCGA_B_1.tif", picture()), ("__MACOSX/._x.tif", b"no"), ("set/.hidden.tif", b"no")],
    )
    scans = collect([flat, deep], tmp_path / "visit", limit=LIMIT)
    assert sorted(len(scan.files) for scan in scans) == [1, 2]


@pytest.mark.parametrize(
    "name", ["..", "./..", "/", "../../out.png", "/etc/out.png", "C:\\x\\..\\out.png", "a/../../../out.png"]
)
def test_no_entry_of_a_zip_gets_out(name, tmp_path):
    folder = tmp_path / "deep" / "visit"
    collect([zipped(tmp_path / "bad.zip", [(name, picture()), ("in.png", picture())])], folder, limit=LIMIT)
    found = [path for path in tmp_path.rglob("*") if path.name.endswith("out.png")]
    assert all(folder in path.parents for path in found)
    assert not Path("/etc/out.png").exists()


def test_two_files_of_one_name_are_both_kept(tmp_path):
    files = [tmp_path / part / "scan.png" for part in "ab"]
    for file in files:
        file.parent.mkdir()
        PICTURES["gray.png"](file)
    assert len(collect(files, tmp_path / "visit", limit=LIMIT)) == 2


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("large.png", b"\0" * (LIMIT + 1))], "unpacks to 1 files of 10 MB.*--max-upload"),
        ([], "holds no file"),
        ([("notes.txt", b"x")], "of a kind"),
        ([("a/notes.txt", b"x"), ("a/more.txt", b"x")], "No image in the upload"),
    ],
)
def test_a_zip_of_no_use_is_refused_in_words(entries, words, tmp_path):
    with pytest.raises(InputError, match=words) as refused:
        collect([zipped(tmp_path / "bad.zip", entries)], tmp_path / "visit", limit=LIMIT)
    assert str(tmp_path) not in str(refused.value)


def test_a_damaged_or_locked_zip_is_refused(tmp_path):
    whole = zipped(tmp_path / "whole.zip", [("a.png", picture())]).read_bytes()
    for number, content in enumerate((b"no zip", whole[:60], whole.replace(b"PK\x03\x04", b"PK\x03\x05", 1))):
        (tmp_path / f"bad{number}.zip").write_bytes(content)
        with pytest.raises(InputError, match=f"bad{number}.zip cannot be unpacked"):
            collect([tmp_path / f"bad{number}.zip"], tmp_path / f"visit{number}", limit=LIMIT)
    locked = bytearray(whole)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + offset] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(locked))
    with pytest.raises(InputError, match=r"locked.zip cannot be unpacked.*password"):
        collect([tmp_path / "locked.zip"], tmp_path / "visit", limit=LIMIT)


# ---- sliders


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(60, 90, (6, 50, 70, 3)).astype(np.uint8)
    images[2:5, 20:30, 30:45] = 200
    images[1, 40:44, 60:64] = 230
    images[3, 5, 5] = 255
    return Pixels(images, CHANNELS, (3.0, 0.5, 2.0))


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.9])
def test_sliders_say_what_the_whole_way_says(predictor, pixels, threshold):
    """The box in which an answer is kept changes nothing: labels, each slice, and every figure."""
    answer = Answer(predictor, pixels, "scan", lambda share: None)
    probabilities = predictor.probabilities(pixels.images)
    whole = dataclasses.replace(predictor.spec.postprocessing, threshold=threshold)
    expected = whole.labels(probabilities, predictor.spec.target)
    assert label_lesions(expected)[1] == 1
    np.testing.assert_array_equal(answer.labels(threshold), expected)
    for index in range(6):
        np.testing.assert_array_equal(answer.plane(index, threshold), expected[index])
    ours = dataclasses.asdict(answer.measures(threshold))
    theirs = dataclasses.asdict(measure(expected, probabilities[..., 0], pixels.spacing))
    assert ours.pop("diameter_unit") == theirs.pop("diameter_unit") == "mm"
    assert ours.pop("size_unit") == theirs.pop("size_unit") == "voxels"
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours["tumour_ml"] == pytest.approx(expected.sum() * 3 / 1000)


def test_nothing_found_is_a_mask_of_zeros_with_figures(predictor):
    images = np.full((3, 40, 40, 3), 80, np.uint8)
    images[:, 10:30, 10:30] = 100
    answer = Answer(predictor, Pixels(images, CHANNELS), "scan", lambda share: None)
    assert not answer.labels(0.5).any()
    found = answer.measures(0.5)
    assert (found.tumour_size, found.size_unit, found.tumour_ml) == (0, "voxels", None)
    assert (found.largest_diameter, found.diameter_unit) == (0.0, "pixels")
    assert describe(found)["Volume"] == "0 voxels"
    assert found.confidence == pytest.approx(1 - predictor.probabilities(images).max(), abs=1e-6)
    assert answer.fullest(0.5) == 1


def test_what_shows_in_one_slice_of_several_is_still_a_volume(predictor):
    bare = slice_of(tumour=np.zeros_like(GRAY, bool))
    images = np.repeat(np.stack([bare, GRAY, bare])[..., np.newaxis], 3, axis=-1)
    found = Answer(predictor, Pixels(images, CHANNELS), "scan", lambda share: None).measures(0.5)
    assert found.tumour_size > 300 and found.size_unit == "voxels"
    alone = Answer(predictor, Pixels(images[1:2], CHANNELS), "scan", lambda share: None).measures(0.5)
    assert describe(alone)["Area"] == f"{alone.tumour_size:,} pixels"


def test_the_network_says_how_far_it_is(predictor, pixels):
    heard = []
    Answer(predictor, pixels, "scan", heard.append)
    assert heard == sorted(heard) and heard[-1] == 1 and len(heard) == 4


def study_of(file, predictor, name="bright"):
    study = Study(find_scans([file])[0], file.name)
    study.answer(name, predictor, lambda share: None)
    return study


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "Attention"])
def test_what_is_shown_names_the_network_and_escapes_it(mode, predictor, tmp_path):
    PICTURES["gray.png"](tmp_path / "gray.png")
    study = study_of(tmp_path / "gray.png", predictor, "<b>bright")
    shown = render(study, Wish(0, mode))
    assert "&lt;b&gt;bright" in shown and "<b>bright" not in shown
    assert shown.count("<img") == 1 and 'alt="' in shown


def test_attention_of_a_network_that_cannot_say_is_an_error_in_words(tmp_path):
    PICTURES["gray.png"](tmp_path / "gray.png")
    network = Predictor(brightness_model()).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)
    with pytest.raises(InputError, match=r"no layer 'mask'|U-Net of this package"):
        render(study_of(tmp_path / "gray.png", network), Wish(0, "Attention"))


def test_several_classes_have_a_color_and_a_number_each(tmp_path):
    """A lone file of four channels that says nothing of itself: background and three classes."""
    image = keras.Input((None, None, 3))
    # By brightness: background below a half, and a class for each step above.
    steps = keras.layers.Conv2D(4, 1, activation="softmax")
    model = keras.Model(image, steps(image))
    steps.set_weights([np.tile([[0.0, 40, 70, 90]], (3, 1)).reshape(1, 1, 3, 4) / 3, np.array([0.0, -20, -60, -105])])
    pixels = np.zeros((60, 60), np.uint8)
    pixels[5:55, 5:55] = 20
    for left, value in ((10, 20), (20, 30), (30, 60), (40, 100)):
        pixels[20:40, left : left + 10] = value
    Image.fromarray(pixels).save(tmp_path / "steps.png")
    network = Predictor(model).adapted(preprocessing=Preprocessing(60), channels=CHANNELS)
    study = study_of(tmp_path / "steps.png", network, "steps")
    labels = study.answers["steps"].labels(0.5)[0]
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    _, content = mask_file(study, "steps", 0.5)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), labels)
    drawn = picture_of(study, study.answers["steps"], Wish(0, "Fill", 1.0))
    scale = len(drawn) // 60
    colors = [{tuple(map(int, drawn[scale * y, scale * x])) for y, x in np.argwhere(labels == n)} for n in (1, 2, 3)]
    assert [len(each) for each in colors] == [1, 1, 1], "one color a class"
    assert len(set.union(*colors)) == 3
    shown = render(study, Wish(0, "Fill"))
    assert all(name in shown for name in study.answers["steps"].classes)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR"])
def test_the_mask_of_a_volume_lies_where_the_volume_lies(axes, predictor, tmp_path):
    import nibabel

    file, truth = nifti_file(tmp_path / "head_flair.nii.gz", axes)
    name, content = mask_file(study_of(file, predictor), "bright", 0.5)
    (tmp_path / name).write_bytes(content)
    mask = nibabel.load(tmp_path / name)
    np.testing.assert_array_equal(mask.affine, nibabel.load(file).affine)
    found = np.asarray(mask.dataobj) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9


def test_the_report_says_what_was_done(predictor, tmp_path):
    file, _ = nifti_file(tmp_path / "head_flair.nii.gz", "RAS")
    study = study_of(file, predictor)
    name, content = report_file(study, Wish(0, OUTLINE, threshold=0.4))
    text = content.decode()
    assert name == "head_flair_report.html"
    found = study.answers["bright"].measures(0.4)
    for words in (
        "not for clinical use",
        f"{found.tumour_ml:.1f} ml",
        "threshold 0.4, ",
        "(default: threshold 0.5, ",
        "mirror image",
    ):
        assert words in text
    # The slice with most tumour and the one that is shown, outlined and filled.
    assert text.count("<img") == 4
    assert "http" not in text


# ---- visits and the command


@pytest.fixture
def visits(tmp_path):
    return Visits(tmp_path / "visits")


def arrive(visits, content=b"x"):
    """Put a file where an upload puts it, and give its token."""
    file = visits.arrival_folder() / "scan.png"
    file.write_bytes(content)
    return visits.arrived(file)


def test_a_visit_ends_with_its_files(visits, tmp_path):
    visit = visits.of("a")
    (sent,) = visits.claim(visit, [arrive(visits)])
    folder = visit.fresh_folder()
    folder.mkdir(parents=True)
    assert sent.parent.stat().st_mode & 0o077 == 0
    assert visits.by_token(visit.token) is visit
    assert visits.by_token("guess") is None
    assert visits.of("b").token != visit.token
    visits.end("a")
    assert not list((tmp_path / "visits").iterdir())
    assert visits.by_token(visit.token) is None


def test_who_asks_first_for_a_file_has_it(visits):
    first, second = visits.of("a"), visits.of("b")
    token, other = arrive(visits, b"mine"), arrive(visits, b"theirs")
    (sent,) = visits.claim(first, [token])
    assert visits.claim(first, [token, token]) == [sent, sent] and visits.file(token) == sent
    visits.claim(second, [other])
    for wrong in (other, "guess", str(sent), "../" + sent.name, ""):
        with pytest.raises(InputError, match="Drop it again"):
            visits.claim(first, [wrong])
    visits.end("b")
    assert sent.read_bytes() == b"mine" and visits.file(other) is None
    with pytest.raises(InputError, match=r"scan.png is gone.*Drop it again"):
        collect([sent.parent / "other" / "scan.png"], sent.parent, limit=LIMIT)


def test_a_file_that_nobody_asks_for_goes(visits, tmp_path, monkeypatch):
    token = arrive(visits)
    visits.of("a")
    assert visits.file(token)
    monkeypatch.setattr("brainseg_keras.app.sessions.UNCLAIMED", -1)
    visits.of("a")
    assert visits.file(token) is None
    assert not list((tmp_path / "visits").iterdir())


def test_a_visit_that_has_ended_takes_nothing_more(visits, tmp_path):
    """A network may still be running when its visitor leaves."""
    visit = visits.of("a")
    visits.end("a")
    with pytest.raises(InputError, match="Drop it again"):
        visits.claim(visit, [arrive(visits)])
    assert not visit.folder.exists()


def test_a_long_idle_visit_ends_when_another_begins(tmp_path):
    visits = Visits(tmp_path)
    visit = visits.of("a")
    visit.fresh_folder().mkdir(parents=True)
    visit.seen -= 4000
    visits.of("b")
    assert visits.by_token(visit.token) is None
    assert not visit.folder.exists()


def test_the_page_offers_what_was_named_shipped_and_trained(tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "best.keras").write_bytes(b"")
    (tmp_path / "net.onnx").write_bytes(b"")
    found = find_models([tmp_path / "net.onnx"], tmp_path / "runs")
    assert found == {"net.onnx": str(tmp_path / "net.onnx"), "lgg": "lgg", "one": str(tmp_path / "runs" / "one")}


def test_a_network_that_cannot_be_loaded_is_called_by_its_name(tmp_path):
    (tmp_path / "bad.keras").write_text("no network")
    models = Models({"bad": str(tmp_path / "bad.keras")})
    with pytest.raises(InputError) as refused:
        models.load("bad")
    assert "bad" in str(refused.value) and str(tmp_path) not in str(refused.value)
    for name in (None, "", str(tmp_path / "bad.keras"), "../bad"):
        with pytest.raises(InputError, match="not on offer"):
            models.load(name)


def test_every_answer_has_its_policy():
    from starlette.testclient import TestClient

    app = create_app({"lgg": "lgg"}, port=7860, allow_hosts=["scans.example.org"])
    with TestClient(app, base_url="http://scans.example.org") as client:
        for path, code in (("/", 200), ("/result/guess/mask/0", 404), ("/no/such", 404)):
            answer = client.get(path)
            assert answer.status_code == code
            assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
        assert app.state.folder.is_dir()
    assert not app.state.folder.exists()
