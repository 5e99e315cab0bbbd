"""Teachers: what is learned is a mean of truth and their answers, and none has met whom the run keeps apart."""

import dataclasses
import io
import itertools
import json
import shutil

import keras
import numpy as np
import pytest
from commands import here
from hand_folds import change_record, write_folds
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from runs import tiny
from scans import lgg_folder

from brainseg_keras.data import patient_cache
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import SliceBatches
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.slices import Slices, Teacher, load_slices
from brainseg_keras.data.inputs.targets import TUMOUR, Target
from brainseg_keras.data.roles import MetPatient, Roles
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.splits import assign_folds
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor
from brainseg_keras.training import RunFolder, TrainingConfig, resume, train
from brainseg_keras.training.setup import open_data
from brainseg_keras.training.teaching import Teaching, open_teachers, roles_with_teachers

SILENT = Console(file=io.StringIO())
#: All of it, so that nothing that is drawn for it can differ unseen.
STRONG = Augmentation(stand_in=0.3, darken=0.7, paste=0.7, bias_field=0.2, low_resolution=0.3, elastic=0.03)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return lgg_folder(tmp_path_factory.mktemp("data") / "kaggle_3m", patients=7)


@pytest.fixture(scope="module")
def folds(data, tmp_path_factory):
    """A finished cross-validation of networks that were not trained; read it, do not write to it."""
    return write_folds(tmp_path_factory.mktemp("made") / "folds", data)


def slices(target=TUMOUR, *, taught, seed=0, count=6, side=24):
    """Random slices with a tumour each."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, side, side), np.uint8)
    for label in labels:
        y, x = rng.integers(4, side - 10, 2)
        label[y : y + 6, x : x + 5] = rng.integers(1, 4) if target.name != "tumour" else 1
    images = rng.integers(0, 255, (count, side, side, 2), np.uint8)
    masks = target.layers(labels)
    range_ = np.tile([0.0, 255.0], (count, 2, 1))
    answer = taught(masks, rng) if taught else None
    return Slices(images, masks, range_, range_, np.array(list("aabbcc")), taught=answer)


def anything(masks, rng):
    return rng.integers(0, 256, masks.shape).astype(np.uint8)


# ---- what is learned


@pytest.mark.parametrize(("weight", "inside", "outside"), [(0.0, 1.0, 0.0), (0.25, 0.8, 0.05), (1.0, 0.2, 0.2)])
def test_each_pixel_is_a_mean_of_truth_and_teacher(weight, inside, outside):
    """By hand: the teacher says 51 of 255, which is 0.2, everywhere."""
    made = slices(taught=lambda masks, rng: np.full_like(masks, 51))
    images, truth = SliceBatches(made, batch_size=6, teacher_weight=weight)[0]
    plain_images, plain = SliceBatches(made._replace(taught=None), batch_size=6)[0]
    np.testing.assert_array_equal(images, plain_images)
    np.testing.assert_allclose(truth[plain == 1], inside, atol=1e-6)
    np.testing.assert_allclose(truth[plain == 0], outside, atol=1e-6)
    assert truth.dtype == np.float32 and (plain == 1).any()


@pytest.mark.parametrize("target", [Target("tumour"), Target("classes"), Target("regions")], ids=lambda t: t.name)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), weight=st.sampled_from([0.1, 0.5, 1.0]))
def test_the_teachers_answer_moves_as_the_masks_do_and_changes_nothing_else(target, seed, weight):
    """One that says what is true changes nothing; of any other the images stay, and the mean is linear in it."""
    options = {"batch_size": 6, "augmentation": STRONG, "target": target, "seed": seed}
    alike = slices(target, taught=lambda masks, rng: masks.copy(), seed=seed)
    images, plain = SliceBatches(alike._replace(taught=None), **options)[2]
    found_images, found = SliceBatches(alike, teacher_weight=weight, **options)[2]
    np.testing.assert_array_equal(found_images, images)
    np.testing.assert_allclose(found, plain, atol=1e-6)
    other = slices(target, taught=anything, seed=seed)
    found_images, found = SliceBatches(other, teacher_weight=weight, **options)[2]
    np.testing.assert_array_equal(found_images, images)
    whole = SliceBatches(other, teacher_weight=1.0, **options)[2][1]
    np.testing.assert_allclose(found, (1 - weight) * plain + weight * whole, atol=1e-5)
    assert found.min() >= 0 and found.max() <= 1 + 1e-6
    assert np.abs(whole - plain).mean() > 0.05


def test_which_slices_show_tumour_is_for_the_truth_to_say():
    """Half of each batch shows tumour, though the teacher suspects it everywhere."""
    made = slices(taught=lambda masks, rng: np.full_like(masks, 200))
    made.masks[3:] = 0
    batches = SliceBatches(made, batch_size=2)
    for step in range(6):
        assert sorted(batches.indices(step) < 3) == [False, True]


def test_a_teacher_is_asked_once_about_each_patient_at_the_size_of_the_network(data):
    source, asked = open_source(data, seed=0), []

    def say(volume):
        asked.append(volume.patient)
        layers = np.zeros((*volume.masks.shape, 1), np.uint8)
        layers[:, :30] = 100
        return layers

    made = load_slices(source, "train", Preprocessing(20), teacher=Teacher(say, "upper half"))
    assert sorted(asked) == sorted(set(source.table.patient[source.table.split == "train"]))
    assert made.taught.shape == made.masks.shape and made.taught.dtype == np.uint8
    assert (made.taught[:, :10] == 100).all() and (made.taught[:, 10:] == 0).all()
    plain = load_slices(source, "train", Preprocessing(20))
    assert plain.taught is None
    np.testing.assert_array_equal(plain.masks, made.masks)


def test_answers_are_kept_with_the_slices_and_another_teacher_is_asked_anew(data, monkeypatch, tmp_path):
    """In the cache's file, as more than fits the memory is."""
    monkeypatch.setattr(patient_cache, "_MEMORY_LIMIT", 1)
    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "cache"))
    source, asked = open_source(data, seed=0), []

    def say(level):
        return lambda volume: asked.append(level) or np.full((*volume.masks.shape, 1), level, np.uint8)

    found = {}
    for level, name in ((100, "first"), (200, "second"), (250, "first")):
        made = load_slices(source, "train", Preprocessing(20), teacher=Teacher(say(level), name))
        found[level] = SliceBatches(made, batch_size=4, teacher_weight=1.0)[1][1]
    count = source.table[source.table.split == "train"].patient.nunique()
    assert asked == [100] * count + [200] * count
    for level, kept in ((100, 100), (200, 200), (250, 100)):
        np.testing.assert_allclose(found[level], kept / 255, atol=1e-6)


# ---- who may teach


def opened(config):
    source = open_data(config, Roles(), SILENT)
    return source, open_teachers(config, source, Target(config.target), SILENT)


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_a_fold_is_taught_by_the_same_fold_alone(folds, data, fold):
    source, teaching = opened(TrainingConfig(data=str(data), folds=3, fold=fold, teacher=str(folds)))
    assert list(teaching.digests) == [str(folds / f"fold{fold}")]
    tested = {known.name for known in teaching.roles.patients if known.role == "test"}
    assert tested == set(source.table.patient[source.table.split == "test"]) != set()
    volume = source.volume(source.table.patient[0])
    alone = Predictor(folds / f"fold{fold}").probabilities(volume.images, volume.intensity)
    np.testing.assert_array_equal(teaching.teacher.layers(volume), np.rint(255 * alone).astype(np.uint8))


def test_where_all_patients_train_all_folds_teach(folds, data):
    source, teaching = opened(TrainingConfig(data=str(data), validation="none", teacher=[str(folds)]))
    assert len(teaching.digests) == 3 and set(source.table.split) == {"train"}
    assert {known.role for known in teaching.roles.patients} == {"train"}
    volume = source.volume(source.table.patient[0])
    mean = Predictor(folds).probabilities(volume.images, volume.intensity)
    found = teaching.teacher.layers(volume)
    assert found.dtype == np.uint8 and np.abs(found / 255 - mean).max() <= 0.5 / 255 + 1e-6
    # A second one counts as much as the three.
    both = opened(TrainingConfig(data=str(data), validation="none", teacher=[str(folds), str(folds / "fold1")]))[
        1
    ].teacher.layers(volume)
    one = Predictor(folds / "fold1").probabilities(volume.images, volume.intensity)
    assert np.abs(both / 255 - (mean + one) / 2).max() <= 0.5 / 255 + 1e-6


def test_a_teacher_that_has_met_whom_the_run_keeps_apart_is_refused(folds, data):
    split = assign_folds(open_source(data).table, folds=3, seed=0)[0]
    tested = sorted(set(split.patient[split.split == "test"]))
    config = TrainingConfig(data=str(data), folds=3, fold=1, teacher=str(folds / "fold2"))
    with pytest.raises(InputError, match=rf"{len(tested)} test patients \({', '.join(tested)}\).*--validation none"):
        opened(config)
    # Another draw of the folds: each of theirs has met somebody.
    with pytest.raises(InputError, match=r"--teacher .*folds has met patients whom this run keeps apart"):
        opened(dataclasses.replace(config, seed=5, teacher=[str(folds)]))


def test_who_validated_a_teacher_may_validate_and_not_test():
    """Its epoch was chosen by them; a validation patient who trained it could not choose this run's."""
    from brainseg_keras.training.teaching import _faults

    config = TrainingConfig(data="phantom", folds=3, fold=1)
    source = open_data(config, Roles(), SILENT)
    names = {split: sorted(set(source.table.patient[source.table.split == split]))[0] for split in ("val", "test")}

    def faults(**met):
        return _faults(Roles(tuple(MetPatient(names[split], role) for split, role in met.items())), source)

    assert faults(val="val", test="test") == "" == faults(val="test") == faults(val="tuned")
    assert faults(val="train") == f"1 validation patients ({names['val']})"
    for role in ("train", "val", "tuned"):
        assert faults(test=role) == f"1 test patients ({names['test']})"


def test_a_run_that_is_taught_has_met_whom_its_teachers_met():
    own = Roles((MetPatient("A", "train", ("aa",)), MetPatient("B", "val", ("bb",)), MetPatient("C", "test")))
    met = (MetPatient("X", "train", ("xx",)), MetPatient("A", "val", ("aa",)), MetPatient("Y", "test"))
    teaching = Teaching(Teacher(None, None), Roles(met), {})
    found = roles_with_teachers(own, teaching)
    assert [(known.name, known.role) for known in found.patients] == [
        ("A", "train"),
        ("B", "val"),
        ("C", "test"),
        ("X", "train"),
    ]
    assert found.complete and not roles_with_teachers(own, teaching._replace(roles=Roles(complete=False))).complete
    assert roles_with_teachers(own, None) == own
    twin = teaching._replace(roles=Roles((MetPatient("Z", "train", ("bb",)),)))
    with pytest.raises(InputError, match=r"1 validation patients trained a --teacher.*: B \(as Z\)"):
        roles_with_teachers(own, twin)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modalities": "T1,FLAIR"}, r"sees T1, FLAIR, T1ce\. The data lack T1ce; they have T1, FLAIR"),
        ({"teacher": "no/such/run"}, r"No model at no/such/run"),
    ],
)
def test_a_teacher_that_cannot_be_asked_is_refused(folds, data, settings, said):
    given = {"data": str(data), "folds": 3, "fold": 1, "teacher": str(folds)} | settings
    with pytest.raises(InputError, match=said):
        opened(TrainingConfig(**given))


def test_a_teacher_of_another_target_is_refused(folds, data):
    config = TrainingConfig(data=str(data), folds=3, fold=1, teacher=str(folds))
    source = open_data(config, Roles(), SILENT)
    with pytest.raises(InputError, match=r"answers tumour, and this run learns regions.*--target tumour"):
        open_teachers(config, source, Target("regions"), SILENT)


def test_a_teacher_of_fewer_sequences_gets_its_own(folds, data, tmp_path):
    """Its channels are picked by name, and its intensities measured on them alone."""
    from scans import brightness_model

    from brainseg_keras.training.record import RunRecord

    run = RunFolder(shutil.copytree(folds / "fold1", tmp_path / "run"))
    record: RunRecord = run.read_record()
    change_record(run, spec=dataclasses.replace(record.spec, channels=("FLAIR",)))
    run.write_model(brightness_model((1,), 1.4), run.best)
    source, teaching = opened(TrainingConfig(data=str(data), folds=3, fold=1, teacher=str(run.path)))
    volume = source.volume(source.table.patient[0])
    flair = Predictor(run.path).probabilities(volume.images[..., 1:2])
    np.testing.assert_array_equal(teaching.teacher.layers(volume), np.rint(255 * flair).astype(np.uint8))


@pytest.mark.parametrize(
    ("value", "said"),
    [([], r"teacher is one path or more"), ([1], r"one path or more"), (["a", "a"], r"each once"), (3, r"teacher is")],
)
def test_teachers_are_paths(value, said):
    with pytest.raises(InputError, match=said):
        TrainingConfig(teacher=value)


def test_teachers_in_yaml_and_on_the_command_line(tmp_path, data):
    (tmp_path / "config.yaml").write_text("teacher: runs/one\n")
    assert TrainingConfig.from_yaml(tmp_path / "config.yaml").teacher == ["runs/one"]
    (tmp_path / "config.yaml").write_text("teacher: [runs/one, runs/two]\nteacher_weight: 0.3\n")
    config = TrainingConfig.from_yaml(tmp_path / "config.yaml")
    assert (config.teacher, config.teacher_weight) == (["runs/one", "runs/two"], 0.3)
    config.to_yaml(tmp_path / "again.yaml")
    assert TrainingConfig.from_yaml(tmp_path / "again.yaml") == config
    code, _, err = here(
        "train", "--data", str(data), "--teacher", "no/a", "--teacher", "no/b", "-o", str(tmp_path / "r")
    )
    assert code == 2 and "No model at no/a" in err and not (tmp_path / "r").exists()


# ---- trained


def weights_of(run):
    return keras.saving.load_model(run.best, compile=False).get_weights()


def test_a_taught_run_says_by_whom_and_goes_on_with_the_same_alone(finished, store, tmp_path):
    """Of weight 0 a teacher changes not a bit; of weight 1 it does."""
    teacher = shutil.copytree(finished.path, tmp_path / "teacher")
    small = {"filters": 2, "depth": 1, "size": 16, "epochs": 1, "teacher": str(teacher)}
    runs = {
        weight: train(tiny(store, **small, teacher_weight=weight), output=tmp_path / f"w{weight}", console=SILENT)
        for weight in (0.0, 1.0)
    }
    alone = train(tiny(store, **small | {"teacher": None}), output=tmp_path / "alone", console=SILENT)
    for ours, theirs in zip(weights_of(runs[0.0]), weights_of(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    pairs = itertools.zip_longest(weights_of(runs[1.0]), weights_of(alone))
    assert any(np.abs(ours - theirs).max() > 1e-4 for ours, theirs in pairs)
    record = runs[1.0].read_record()
    assert list(record.teachers) == [str(teacher)] and len(record.teachers[str(teacher)]) == 64
    assert record.spec.roles == alone.read_record().spec.roles, "the same patients, in the same roles"
    assert json.loads(runs[1.0].info.read_text())["config"]["teacher"] == [str(teacher)]
    resumed = resume(runs[1.0].path, overrides={"epochs": 2}, console=SILENT)
    assert resumed.read_record().teachers == record.teachers
    model = keras.saving.load_model(teacher / "best.keras", compile=False)
    model.set_weights([weights + 1 for weights in model.get_weights()])
    RunFolder(teacher).write_model(model, teacher / "best.keras")
    with pytest.raises(InputError, match=rf"teachers of .* are not those that it began with: {teacher}"):
        resume(runs[1.0].path, overrides={"epochs": 3}, console=SILENT)


@pytest.mark.slow
def test_students_of_folds_are_scored_out_of_fold(folds, data, tmp_path):
    """Fold by fold as their teachers; each says by whom it was taught, and nobody's score is refused."""
    words = [
        "train",
        "--data",
        str(data),
        "--folds",
        "3",
        "--architecture",
        "res_unet",
        "--filters",
        "2",
        "--depth",
        "1",
    ]
    words += ["--size", "16", "--epochs", "1", "--teacher", str(folds), "-o", str(tmp_path / "students")]
    code, out, err = here(*words)
    assert code == 0, err
    assert "n = 7 (out of fold, each patient by the one run that kept it apart)" in out
    for number in (1, 2, 3):
        assert f"Taught by 1 of 3 networks of {folds}: fold{number}" in err
        record = RunFolder(tmp_path / "students" / f"fold{number}").read_record()
        assert list(record.teachers) == [str(folds / f"fold{number}")]
