"""Several networks as one: the mean of their probabilities in every command, and the patients that any of them met."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from commands import here
from hand_folds import LEVELS, change_record, write_folds
from scans import lgg_folder

from brainseg_keras import NetworkSpec, r2_unet
from brainseg_keras.app import find_models
from brainseg_keras.calibration import Calibration
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.targets import Target
from brainseg_keras.data.roles import MetPatient, Roles
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.export import export
from brainseg_keras.inference import Predictor, load_network
from brainseg_keras.inference.ensemble import average, average_model, join_specs
from brainseg_keras.models.folding import fold_batch_norm
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports import evaluate
from brainseg_keras.training import RunFolder

COUNT = 7


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return lgg_folder(tmp_path_factory.mktemp("data") / "kaggle_3m", patients=COUNT)


@pytest.fixture(scope="module")
def source(data):
    return open_source(data)


@pytest.fixture(scope="module")
def folds(data, tmp_path_factory):
    """A finished cross-validation; read it, do not write to it."""
    return write_folds(tmp_path_factory.mktemp("made") / "folds", data)


@pytest.fixture
def own(folds, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(folds, tmp_path / "folds")


def runs_of(folder):
    return [folder / f"fold{number}" for number in range(1, len(LEVELS) + 1)]


def some_volume(source):
    volume = source.volume(sorted(source.table.patient.unique())[0])
    return volume.images, volume.intensity


# ---- what it answers


def test_probabilities_are_averaged_and_not_logits():
    """0.9 and 0.5 are 0.7; their mean logit would be 0.75. A member that is sure of itself counts as one."""
    sure, undecided = (lambda batch, p=p: np.full_like(batch, p) for p in (0.9, 0.5))
    batch = np.zeros((2, 3, 3, 1), "float32")
    np.testing.assert_allclose(average([sure, undecided])(batch), 0.7, rtol=1e-6)
    np.testing.assert_allclose(average([sure, undecided, undecided])(batch), 1.9 / 3, rtol=1e-6)
    assert average([sure])(batch).dtype == np.float32


def test_a_members_answer_is_left_as_it_is():
    """A network may hand out the same array again."""
    kept = np.full((1, 2, 2, 1), 0.25, "float32")
    average([lambda batch: kept, lambda batch: kept + 0.5])(kept)
    assert (kept == 0.25).all()


def test_the_folder_of_folds_is_the_mean_of_its_runs(folds, source):
    images, intensity = some_volume(source)
    alone = [Predictor(run).both_ways(images, intensity) for run in runs_of(folds)]
    together = Predictor(folds)
    assert together.members == tuple(map(str, runs_of(folds))) and together.folder == folds
    for found, parts in zip(together.both_ways(images, intensity), zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)
    assert np.ptp([part[0].mean() for part in alone]) > 0.01, "the members differ"
    listed = Predictor([str(run) for run in runs_of(folds)])
    np.testing.assert_array_equal(listed.probabilities(images, intensity), together.probabilities(images, intensity))
    assert listed.folder is None


def test_one_network_in_a_list_is_that_network(folds):
    alone = Predictor([folds / "fold1"])
    assert (alone.members, alone.folder, alone.spec) == ((), folds / "fold1", Predictor(folds / "fold1").spec)


def test_folds_that_are_given_beside_another_network_count_one_by_one(folds, own, source):
    extra = shutil.copytree(own / "fold1", own.parent / "extra")
    images, intensity = some_volume(source)
    found = Predictor([folds, extra])
    assert len(found.members) == 4
    alone = [Predictor(run).probabilities(images, intensity) for run in (*runs_of(folds), extra)]
    np.testing.assert_allclose(found.probabilities(images, intensity), np.mean(alone, axis=0), atol=1e-6)


def test_attention_is_the_mean_of_the_members(own_run, tmp_path):
    other = RunFolder(shutil.copytree(own_run.path, tmp_path / "other"))
    model = keras.saving.load_model(other.best, compile=False)
    rng = np.random.default_rng(0)
    model.set_weights([weights + rng.normal(0, 0.1, weights.shape) for weights in model.get_weights()])
    other.write_model(model, other.best)
    images = rng.integers(0, 200, (2, 40, 40, 3), np.uint8)
    maps = [Predictor(path).attention(images) for path in (own_run.path, other.path)]
    found = Predictor([own_run.path, other.path]).attention(images)
    assert found.keys() == maps[0].keys() and len(found) == 1
    for name, values in found.items():
        np.testing.assert_allclose(values, (maps[0][name] + maps[1][name]) / 2, atol=1e-6)
        assert not np.allclose(maps[0][name], maps[1][name])


# ---- one graph of all


def test_one_graph_answers_as_its_members_do_also_where_kernels_are_shared():
    keras.utils.set_random_seed(3)
    models = [r2_unet((32, 32, 3), filters=4, depth=2) for _ in range(3)]
    batch = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
    wanted = np.mean([np.asarray(model(batch, training=False)) for model in models], axis=0)
    both = average_model(models)
    np.testing.assert_allclose(np.asarray(both(batch, training=False)), wanted, atol=1e-6)
    assert both.count_params() == sum(model.count_params() for model in models)
    folded = fold_batch_norm(both)
    assert folded.count_params() < both.count_params()
    np.testing.assert_allclose(np.asarray(folded(batch, training=False)), wanted, atol=2e-3)


def test_an_exported_ensemble_is_one_file_that_marks_the_same(own, source, tmp_path):
    (own / "calibration.json").write_text(json.dumps(Calibration(0.5, 0.25, fitted_on="some").to_info()))
    done = export(own, tmp_path / "all.onnx")
    assert done.difference < 1e-4
    images, intensity = some_volume(source)
    before, after = Predictor(own), Predictor(done.path)
    assert after.members == () and after.spec == before.spec
    assert not before.spec.calibration.in_network, "the mean of sigmoids has no logits to scale"
    np.testing.assert_allclose(
        after.probabilities(images, intensity), before.probabilities(images, intensity), atol=1e-5
    )
    found = json.loads(done.information.read_text())["roles"]["patients"]
    assert {row["role"] for row in found} == {"train"} and len(found) == COUNT


# ---- what was chosen for the whole


def test_what_was_chosen_for_the_folds_together_is_used_and_what_each_chose_is_not(own, source, caplog):
    content = {"threshold": 0.9, "patients": [], "chosen_on": "validation patients"}
    (own / "fold2" / "postprocess.json").write_text(json.dumps(content))
    (own / "fold3" / "calibration.json").write_text(json.dumps(Calibration(0.5, fitted_on="some").to_info()))
    spec = Predictor(own).spec
    assert (spec.postprocessing, spec.tuning, spec.calibration) == (Postprocessing(), None, Calibration())
    assert f"not used in their ensemble: {own / 'fold2'}, {own / 'fold3'}" in caplog.text
    choice = content | {"threshold": 0.2, "flip": True, "patients": ["Z"], "chosen_on": "out-of-fold patients"}
    (own / "postprocess.json").write_text(json.dumps(choice))
    (own / "calibration.json").write_text(json.dumps(Calibration(0.5, fitted_on="some").to_info()))
    spec = Predictor(own).spec
    # Odds of 1 to 4, squared by the temperature.
    assert spec.postprocessing.flip and spec.postprocessing.threshold == pytest.approx(1 / 17)
    assert str(spec.tuning).startswith("out-of-fold patients")
    # Who tuned the whole has met it, of any name.
    assert spec.roles.role("Z") == "tuned"
    images, intensity = some_volume(source)
    mean = np.mean(
        [Predictor(run).adapted(calibration=Calibration()).probabilities(images, intensity) for run in runs_of(own)],
        axis=0,
    )
    found = Predictor(own).probabilities(images, intensity, flip=False)
    # Resized after it: within the slices that are not, the odds are squared.
    np.testing.assert_allclose(found, mean**2 / (mean**2 + (1 - mean) ** 2), atol=1e-4)


# ---- whom it has met


def test_each_patient_has_the_gravest_role_of_all_members():
    first = Roles(
        (MetPatient("A", "train", ("aa",)), MetPatient("B", "val", ("bb",), tuned=True), MetPatient("C", "test"))
    )
    second = Roles(
        (MetPatient("a", "test", ("aa",)), MetPatient("B", "val", ("bb",)), MetPatient("C", "train", ("cc",)))
    )
    both = Roles.union([first, second])
    assert [(known.name, known.role, known.tuned) for known in both.patients] == [
        ("A", "train", False),
        ("C", "train", False),
        ("B", "val", True),
    ]
    assert both.named("C").slices == ("cc",) and both.complete
    assert not Roles.union([first, Roles(complete=False)]).complete
    # Two patients of one name stay two.
    other = Roles((MetPatient("A", "val", ("zz",)),), own_split=True)
    assert [known.slices for known in Roles.union([first, other]).patients if known.name == "A"] == [("aa",), ("zz",)]
    assert Roles.union([first, other]).own_split


def test_an_ensemble_of_folds_has_met_everybody_and_says_so(folds, source, data, tmp_path):
    spec = Predictor(folds).spec
    assert {known.name: known.role for known in spec.roles.patients} == dict.fromkeys(source.table.patient, "train")
    with pytest.raises(InputError, match=r"No patient in the split 'test'.*its honest score is .*out-of-fold"):
        evaluate(Predictor(folds), source, split="test")
    for split in ("train", "all"):
        found = evaluate(Predictor(folds), source, split=split)
        assert found.report["headline"] == ["train"] and len(found.per_patient) == COUNT
        assert found.report["role"] == "training, the network has seen these patients"
        assert found.report["members"] == list(map(str, runs_of(folds)))
    others = open_source(lgg_folder(tmp_path / "others", patients=9))
    found = evaluate(Predictor(folds), others, split="all")
    assert found.report["headline"] == ["unseen"] and found.report["groups"]["train"]["patients"]["dice"]["n"] == COUNT


def test_whom_all_members_kept_apart_may_be_scored(own_run, store, tmp_path):
    other = shutil.copytree(own_run.path, tmp_path / "other")
    alone = evaluate(Predictor(own_run.path), open_source(store), split="test")
    found = evaluate(Predictor([own_run.path, other]), open_source(store), split="test")
    assert found.report["headline"] == ["test"] and found.report["role"] == alone.report["role"]
    pd.testing.assert_frame_equal(found.per_patient, alone.per_patient)


def test_a_data_split_of_somebody_else_does_not_make_a_training_patient_a_test_patient(own_run, store, tmp_path):
    """Of a network that trained on all, in data whose split is fixed: refused with the honest way named."""
    roles = own_run.read_record().spec.roles
    met = tuple(dataclasses.replace(known, role="train") for known in roles.patients)
    change_record(own_run, spec=dataclasses.replace(own_run.read_record().spec, roles=Roles(met)))
    with pytest.raises(InputError, match=r"trained .* would be too good\. Score networks of its recipe out of fold"):
        evaluate(Predictor(own_run.path), open_source(store), split="test")


# ---- bad input


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": ("T1", "FLAIR", "T2")}, r"channels \(T1, FLAIR, T1ce and T1, FLAIR, T2\)"),
        ({"preprocessing": Preprocessing(60, blur=1.0)}, r"blur \(0\.0 and 1\.0\)"),
        ({"preprocessing": Preprocessing(64)}, r"size \(60 and 64\)"),
        ({"target": Target("regions")}, r"target \(tumour and regions\)"),
        ({"context": 1}, r"context \(0 and 1\)"),
    ],
)
def test_networks_that_see_or_answer_another_thing_are_refused(changes, said):
    spec = NetworkSpec(("T1", "FLAIR", "T1ce"), preprocessing=Preprocessing(60))
    with pytest.raises(InputError, match=rf"runs/a and runs/b differ in {said}\. Give networks of one recipe"):
        join_specs({"runs/a": spec, "runs/b": dataclasses.replace(spec, **changes)})


def test_what_members_have_in_common_is_kept():
    spec = NetworkSpec(("T1",), architecture="unet", arguments={"filters": 4}, data="here", license="CC BY 4.0")
    other = dataclasses.replace(spec, arguments={"filters": 8}, data="there", license=None)
    found = join_specs({"a": spec, "b": other})
    assert (found.architecture, found.arguments, found.data, found.license) == ("unet", {}, None, "CC BY 4.0")


def test_a_fold_without_a_network_and_a_damaged_folder_are_named(own):
    (own / "fold2" / "best.keras").unlink()
    with pytest.raises(InputError, match=r"Of the 3 folds of .* 1 have no network yet: fold2\. Train .*--resume"):
        load_network(own)
    for content in ("{", "[]", '{"folds": "3"}', '{"folds": 0}', "{}"):
        (own / "folds.json").write_text(content)
        with pytest.raises(InputError, match=r"folds\.json .*Restore it, or give the run folders"):
            load_network(own)


def test_the_same_network_twice_and_none_are_refused(folds):
    for models in ([], [folds / "fold1", folds / "fold1"]):
        with pytest.raises(InputError, match="An ensemble is of one network or more, each given once"):
            Predictor(models)


# ---- commands


def test_commands_take_folds_and_several_models(own, data, tmp_path):
    code, out, err = here("evaluate", "--model", str(own), "--data", str(data), "--split", "all", "--json")
    assert code == 0, err
    assert len(json.loads(out)["members"]) == 3
    assert (own / "evaluation" / "all" / "report.html").is_file()
    several = [part for run in runs_of(own)[1:] for part in ("--model", str(run))]
    code, _, err = here("evaluate", *several, "--data", str(data), "--split", "all")
    assert code == 2 and "Of 2 networks together, say where the results go: -o FOLDER." in err
    code, _, err = here("predict", str(data), *several, "--engine", "keras", "-o", str(tmp_path / "two"))
    assert code == 0, err
    code, _, err = here("predict", str(data), "--model", str(own), "--engine", "keras", "-o", str(tmp_path / "three"))
    assert code == 0, err
    volume = open_source(data).volume("TCGA_XX_0000_20000101")
    for name, model in {"two": runs_of(own)[1:], "three": own}.items():
        found = pd.read_csv(tmp_path / name / "summary.csv").set_index("file").confidence
        chance = Predictor(model).probabilities(volume.images)[..., 0]
        for number, plane in zip(volume.slices, chance, strict=True):
            wanted = plane[plane > 0.5].mean() if (plane > 0.5).any() else 1 - plane.max()
            (row,) = (value for file, value in found.items() if file.endswith(f"TCGA_XX_0000_20000101_{number}.tif"))
            assert row == pytest.approx(wanted, abs=1e-5)
    assert not np.allclose(*(pd.read_csv(tmp_path / name / "summary.csv").confidence for name in ("two", "three")))


def test_the_page_offers_folds(own):
    assert find_models([own])["folds"] == str(own)
    assert find_models(runs=own.parent)["folds"] == str(own)
