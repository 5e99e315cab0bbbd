"""TensorBoard: the event files read back, and held against what was scored."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scans import brightness_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.util.tensor_util import make_ndarray

from brainseg_keras import BinaryFocalLoss, Predictor, TrainingConfig, train
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.phantom.lgg import write_phantom
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.volumes import iterate_volumes
from brainseg_keras.evaluation import patient_dice
from brainseg_keras.evaluation.curves import ProbabilityHistogram
from brainseg_keras.monitoring import Dashboard, ShownSlice
from brainseg_keras.monitoring.dashboard import PICTURE_BYTES
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.validation import PatientValidator
from brainseg_keras.visualization import MISSED, PREDICTION, TRUTH, draw_errors, draw_fill, draw_heat

SETTINGS = {
    "filters": 4,
    "depth": 2,
    "size": 32,
    "batch_size": 4,
    "epochs": 2,
    "precision": "float32",
    "data": "phantom",
}


def read(logs):
    events = EventAccumulator(str(logs), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return events.Reload()


def tensor(events, tag, index=-1):
    return make_ndarray(events.Tensors(tag)[index].tensor_proto)


def decoded(event):
    return np.array(Image.open(io.BytesIO(event.encoded_image_string)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitoring")
    data = write_phantom(folder / "kaggle_3m", patients=30, slices=6, size=64, seed=1)
    config = TrainingConfig(**SETTINGS | {"data": str(data)}, architecture="attention_unet", profile="2-3")
    return train(config, output=folder / "run")


@pytest.fixture(scope="module")
def events(run):
    return read(run.logs)


def test_every_page_of_tensorboard_has_something(run, events):
    tags = events.Tags()
    patients = list(run.read_info()["validation"]["dice"])
    pictures = tags["images"]
    for page in ("panel/", "panel_attention/"):
        shown = [tag for tag in pictures if tag.startswith(page)]
        assert len(shown) == min(6, len(patients))
        assert all(any(patient in tag for patient in patients) for tag in shown)
    assert {tag for tag in pictures if tag.startswith("worst/")} == {
        f"worst/{n}" for n in range(1, min(5, len(patients)) + 1)
    }
    assert all(len(events.Images(tag)) == 2 for tag in pictures)
    assert {"config", "dice_per_patient", "precision_recall"} <= set(tags["tensors"])
    expected = {"dice/val_dice", "loss/val_loss", "share/val_predicted_share", "run/gradient_norm", "run/memory_mb"}
    assert expected | {"run/learning_rate", "run/images_per_second"} <= set(tags["scalars"])
    assert b"learning_rate" in tensor(events, "config").item()


def test_the_histogram_and_the_curve_count_all_patients_and_pixels(run, events):
    dice = run.read_info()["validation"]["dice"]
    step = run.read_info()["validation"]["epoch"] - 1
    buckets = tensor(events, "dice_per_patient", step)
    assert buckets[:, 2].sum() == len(dice)
    for low, high, count in buckets:
        inside = [low <= value < high or (high == 1 and value == 1) for value in dice.values()]
        assert sum(inside) == count
    tp, fp, tn, fn, precision, recall = tensor(events, "precision_recall", step)
    pixels = 6 * 64 * 64 * len(dice)
    np.testing.assert_allclose(tp + fp + tn + fn, pixels)
    assert (np.diff(recall) <= 0).all() and recall[0] == 1
    some = tp + fp > 0
    np.testing.assert_allclose(precision[some], tp[some] / (tp + fp)[some], rtol=1e-5)
    share = [event.value for event in events.Scalars("share/val_predicted_share")][step]
    assert share == pytest.approx((tp + fp)[50] / pixels, rel=1e-5)


def test_hparams_hold_the_settings_and_name_metrics_that_exist(run, events):
    def content(tag):
        plugin = events.SummaryMetadata(tag).plugin_data.content
        return hparams.plugin_data_pb2.HParamsPluginData.FromString(plugin)

    start = content(hparams.SESSION_START_INFO_TAG).session_start_info.hparams
    assert start["filters"].number_value == 4
    assert start["architecture"].string_value == "attention_unet"
    assert start["separable"].bool_value is False
    assert start["parameters"].number_value == run.read_info()["parameters"]
    experiment = content(hparams.EXPERIMENT_TAG).experiment
    assert {entry.name for entry in experiment.hparam_infos} == set(start)
    assert {metric.name.tag for metric in experiment.metric_infos} <= set(events.Tags()["scalars"])


def test_the_graph_has_the_networks_layers_and_what_feeds_them(events):
    graph = events.Graph()
    nodes = {node.name: node for node in graph.node}
    assert nodes["dec0/concat"].input[:] == ["dec0/up", "dec0/att_gated"]
    assert nodes["mask"].attr["output"].s == b"(None, 32, 32, 1)"
    assert all(source in nodes for node in nodes.values() for source in node.input)


def test_what_is_shown_is_what_was_scored(tmp_path):
    """Panel and worst slices, recomputed from the volumes with a Predictor; a model that marks what is bright."""
    source = open_source(write_phantom(tmp_path / "kaggle_3m", patients=30, slices=6, size=64, seed=1))
    model, preprocessing = brightness_model(level=1.2), Preprocessing(64)
    spec = NetworkSpec(source.channels, preprocessing=preprocessing)
    scores = PatientValidator(source, spec, panel=2, worst=2, batch_size=6).score(model, BinaryFocalLoss())
    predictor = Predictor(model, spec=spec, batch_size=6)
    volumes = {volume.patient: volume for volume in iterate_volumes(source, "val")}
    chances = {
        name: predictor.probabilities(volume.images, volume.intensity)[..., 0] for name, volume in volumes.items()
    }
    truths = {name: volume.masks > 0 for name, volume in volumes.items()}
    dice = {name: patient_dice(truths[name], chances[name] > 0.5) for name in volumes}
    assert scores.dice == pytest.approx(dice)
    answers = {name: chances[name] > 0.5 for name in volumes}
    iou = [(truths[name] & answers[name]).sum() / (truths[name] | answers[name]).sum() for name in volumes]
    assert scores.iou == pytest.approx(np.mean(iou))
    assert scores.pixel_accuracy == pytest.approx(np.mean([(truths[n] == answers[n]).mean() for n in volumes]))
    order = sorted(dice, key=dice.get)[:2]
    assert [shown.patient for shown in scores.worst] == order
    for shown in scores.worst:
        wrong = (truths[shown.patient] != (chances[shown.patient] > 0.5)).sum(axis=(1, 2))
        index = volumes[shown.patient].slices.index(shown.number)
        assert wrong[index] == wrong.max() > 0
        np.testing.assert_allclose(shown.probability, chances[shown.patient][index], atol=1e-6)
        np.testing.assert_array_equal(shown.truth > 0, truths[shown.patient][index])
    for shown in scores.panel:
        index = volumes[shown.patient].slices.index(shown.number)
        assert truths[shown.patient][index].sum() == truths[shown.patient].sum(axis=(1, 2)).max()
    marked = sum((chance > 0.5).sum() for chance in chances.values())
    assert scores.logs()["val_predicted_share"] == pytest.approx(
        marked / sum(chance.size for chance in chances.values())
    )


def test_the_profiler_wrote_its_window(run):
    assert list(run.logs.glob("plugins/profile/*/*.xplane.pb"))


def noisy(number, dice=0.5):
    pixels = np.random.default_rng(number).integers(0, 256, (256, 256), "uint8")
    square = np.zeros((256, 256), "uint8")
    square[60:120, 60:120] = 1
    return ShownSlice(f"patient_{number}", number, pixels, square, np.roll(square, 20, axis=1).astype("float32"), dice)


def test_a_hundred_epochs_of_noise_stay_below_30_mb(tmp_path):
    """Noise is what compresses worst; two epochs, and all of the pictures there."""
    dashboard = Dashboard(tmp_path)
    shown = [noisy(number) for number in range(6)]
    attention = [{f"dec{level}_att": np.random.rand(64, 64) for level in range(4)} for _ in shown]
    for epoch in (1, 2):
        scalars = {f"tag_{number}": 0.5 for number in range(30)}
        dashboard.epoch(
            epoch,
            scalars,
            dice=[0.5] * 6,
            histogram=ProbabilityHistogram(),
            panel=shown,
            worst=shown[:5],
            attention=attention,
        )
    dashboard.close()
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size <= 2 * 300_000
    events = read(tmp_path)
    assert len(events.Tags()["images"]) == 17
    for step in (0, 1):
        sizes = [len(events.Images(tag)[step].encoded_image_string) for tag in events.Tags()["images"]]
        assert sum(sizes) <= PICTURE_BYTES


FULL = """
import resource, sys
from brainseg_keras.monitoring import EventWriter

writer = EventWriter(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for step in range(200):
    writer.scalars({"loss": step}, step)
    writer.flush()
writer.close()
writer.close()
"""


def test_a_full_disk_ends_the_log_and_not_the_training(tmp_path):
    command = [sys.executable, "-c", FULL, tmp_path / "logs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("TensorBoard sees no more of this run") == 1 and "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    # What found room can be read.
    steps = [event.step for event in read(tmp_path / "logs").Scalars("loss")]
    assert steps == list(range(len(steps))) and 5 < len(steps) < 200


def test_outlines_keep_their_colors_in_the_event_file(tmp_path):
    gray = np.zeros((256, 256), "uint8")
    truth, answer = np.zeros((256, 256)), np.zeros((256, 256), "float32")
    truth[50:100, 50:100] = answer[150:200, 50:100] = 1
    shown = ShownSlice("P", 3, gray, truth, answer, 0.0)
    dashboard = Dashboard(tmp_path)
    dashboard.epoch(1, {}, dice=[0.0], histogram=ProbabilityHistogram(), panel=[shown], worst=[shown])
    dashboard.close()
    picture = decoded(read(tmp_path).Images("panel/P_3")[0]).astype(int)
    for pixel, color in (((50, 75), TRUTH), ((150, 75), PREDICTION)):
        assert np.abs(picture[pixel] - color).max() < 40, color
    errors = picture[:, 256 + 4 :]
    for pixel, color in (((75, 75), MISSED), ((175, 75), PREDICTION)):
        assert np.abs(errors[pixel] - 0.8 * np.array(color)).max() < 40, color
    assert errors[10, 10].max() < 12


def test_error_map_by_hand():
    truth, answer = np.zeros((256, 256)), np.zeros((256, 256))
    truth[0, :2], answer[0, 1:3] = 1, 1
    picture = draw_errors(np.full((256, 256), 100, "uint8"), truth, answer)[0, :4].tolist()
    # Missed, right, too much, rest: four fifths of the color over 70, the darkened 100.
    assert picture == [[70, 118, 218], [70, 70, 70], [218, 70, 62], [70, 70, 70]]


def test_opacity_runs_from_the_slice_to_the_color():
    gray, mask = np.full((256, 256), 90, "uint8"), np.ones((256, 256))
    assert (draw_fill(gray, [(mask, TRUTH)], 0.0) == 90).all()
    assert (draw_fill(gray, [(mask, TRUTH)], 1.0) == TRUTH).all()


def test_heat_is_clear_at_0_and_bright_at_1():
    gray = np.full((64, 32), 90, "uint8")
    values = np.zeros((4, 2))
    values[:2] = 1
    picture = draw_heat(gray, values, longest=128)
    assert picture.shape == (128, 64, 3)
    assert (picture[-8:] == 90).all()
    assert picture[:8, :, 0].min() > 200  # the bright end of the colors


def test_the_log_is_written_without_tensorflow_and_without_keras(tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import numpy as np\n"
        "from brainseg_keras.evaluation.curves import ProbabilityHistogram\n"
        "from brainseg_keras.monitoring import EventWriter, Dashboard, ShownSlice\n"
        "gray = np.zeros((64, 64), 'uint8')\n"
        "shown = ShownSlice('P', 1, gray, gray, gray.astype('float32'), 0.5)\n"
        f"writer = EventWriter({str(tmp_path)!r})\n"
        "writer.text('config', 'text')\n"
        "writer.settings({'filters': 4.0, 'separable': False, 'data': 'phantom'}, {'loss/loss': 'loss'})\n"
        "writer.close()\n"
        f"dashboard = Dashboard({str(tmp_path)!r})\n"
        "dashboard.epoch(1, {'loss': 1.0}, dice=[0.5], histogram=ProbabilityHistogram(), panel=[shown], worst=[shown],"
        " attention=[{'dec0_att': np.zeros((8, 8))}])\n"
        "dashboard.close()\n"
        "assert 'keras' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    events = read(tmp_path)
    assert events.Scalars("loss/loss")[0].value == 1
    assert set(events.Tags()["images"]) == {"panel/P_1", "panel_attention/P_1", "worst/1"}
    assert {"config", hparams.EXPERIMENT_TAG, "dice_per_patient", "precision_recall"} <= set(events.Tags()["tensors"])
