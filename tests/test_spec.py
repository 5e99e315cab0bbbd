"""What travels with a network: there and back through JSON, other versions, older runs, and one score everywhere."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import brainseg, here
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import tiny

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.targets import TARGETS, Target
from brainseg_keras.data.phantom.brats import NIFTI_FOLDERS, write_brats_phantom
from brainseg_keras.data.roles import MetPatient, Roles
from brainseg_keras.errors import InputError
from brainseg_keras.export import export
from brainseg_keras.inference import Predictor
from brainseg_keras.information import VERSION
from brainseg_keras.postprocessing import Postprocessing, Tuning
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training import train

names = st.text("ABCdef 12", min_size=1, max_size=6)
checksums = st.lists(st.text("0123456789abcdef", min_size=16, max_size=16), max_size=3).map(tuple)
shares = st.floats(0.01, 0.99)
postprocessings = st.builds(Postprocessing, shares, st.integers(0, 1000), st.booleans(), st.booleans())
specs = st.builds(
    NetworkSpec,
    st.lists(names, min_size=1, max_size=4, unique=True).map(tuple),
    st.sampled_from(TARGETS).map(Target),
    st.builds(Preprocessing, st.integers(1, 8192), st.floats(0, 5), st.floats(0, 5)),
    st.integers(0, 3),
    postprocessings,
    roles=st.builds(
        Roles,
        st.lists(
            st.builds(MetPatient, names, st.sampled_from(["train", "val", "test"]), checksums),
            max_size=4,
            unique_by=lambda met: met.name,
        ).map(tuple),
        st.booleans(),
    ),
    architecture=st.sampled_from([None, "unet"]),
    arguments=st.sampled_from([{}, {"filters": 4, "input_shape": [32, 32, 3]}]),
    data=st.one_of(st.none(), names),
    versions=st.sampled_from([{}, {"keras": "3.0", "numpy": None}]),
    license=st.one_of(st.none(), names),
)


@settings(deadline=None, max_examples=60)
@given(specs)
def test_a_spec_comes_back_from_its_json(spec):
    assert NetworkSpec.from_info(json.loads(json.dumps(spec.to_info()))) == spec


@settings(deadline=None, max_examples=60)
@given(specs, postprocessings, st.dictionaries(names, checksums, min_size=1, max_size=3))
def test_whoever_chose_the_postprocessing_has_met_the_network_then(spec, chosen, patients):
    tuned = spec.with_choice(chosen, Tuning(patients, tried=5))
    again = NetworkSpec.from_info(json.loads(json.dumps(tuned.to_info())))
    assert again.postprocessing == chosen and again.tuning == Tuning(patients, tried=5)
    assert all(again.roles.find(name, slices).tuned for name, slices in patients.items())


def test_classes_that_have_no_names_get_none_by_way_of_a_file():
    """Four channels are not called necrotic core, edema and enhancing tumour because they are four."""
    spec = NetworkSpec.guess((32, 32, 1), 4)
    assert spec.target.classes == ("class 1", "class 2", "class 3")
    assert NetworkSpec.from_info(spec.to_info(), ((32, 32, 1), 4)) == spec


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", True, None])
def test_a_run_of_another_version_is_refused_with_the_cure(own_run, version, tmp_path):
    own_run.info.write_text(json.dumps(own_run.read_info() | {"version": version}))
    words = rf"run\.json.*version {version!r}.*reads version {VERSION}. Update brainseg_keras"
    for attempt in (
        lambda: Predictor(own_run.path),
        lambda: export(own_run.path, tmp_path / "net.onnx"),
    ):
        with pytest.raises(InputError, match=words):
            attempt()
    for command in (("evaluate", "--model", own_run.path), ("train", "--resume", own_run.path)):
        code, _, said = here(*map(str, command), *(["--data", "phantom"] if command[0] == "evaluate" else []))
        assert code == 2 and "version" in said and "Traceback" not in said
    assert not (tmp_path / "net.onnx").exists()


def test_a_run_from_before_there_were_roles_says_that_they_are_unknown(own_run, store, tmp_path):
    info = own_run.read_info()
    del info["roles"]
    info.pop("version", None)
    own_run.info.write_text(json.dumps(info))
    done = brainseg(
        "evaluate", "--model", own_run.path, "--data", store, "--split", "test", "-o", tmp_path / "report", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "does not say which patients trained it" in done.stderr
    table = pd.read_csv(tmp_path / "report" / "per_patient.csv")
    assert set(table.role) == {"unknown"}


def validated_and_evaluated(data, run, folder):
    """Dice per validation patient that chose the checkpoint, and what another process reports of the same file."""
    command = ("evaluate", "--model", run.path, "--data", data, "--split", "val", "-o", folder)
    done = brainseg(*command, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    regions = folder / "per_region.csv"
    # As text, which Python reads back to the last bit.
    table = pd.read_csv(regions if regions.is_file() else folder / "per_patient.csv", dtype=str)
    means = table.groupby("patient").dice.apply(lambda dice: float(np.mean([float(text) for text in dice])))
    return json.loads(run.info.read_text())["validation"]["dice"], means.to_dict()


def test_what_chose_the_checkpoint_is_what_evaluate_says(finished, store, tmp_path):
    validated, evaluated = validated_and_evaluated(store, finished, tmp_path / "report")
    assert validated == evaluated


@pytest.mark.slow
@pytest.mark.parametrize(("target", "context"), [("classes", 0), ("regions", 1)])
def test_what_chose_the_checkpoint_is_what_evaluate_says_to_the_last_bit(target, context, tmp_path):
    """Of networks that are half trained: many pixels lie near the threshold."""
    data = write_brats_phantom(tmp_path / "data", patients=8, slices=6, size=48, layouts=(NIFTI_FOLDERS,))
    config = tiny(data, target=target, context=context, epochs=3, learning_rate=0.01, dropout=0.0)
    run = train(config, output=tmp_path / "run")
    validated, evaluated = validated_and_evaluated(data, run, tmp_path / "report")
    assert validated == evaluated
    assert any(0 < dice < 1 for dice in validated.values())
