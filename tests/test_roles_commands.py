"""Train, tune and evaluate through the command line: no patient that trained a network is scored as a test patient."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from commands import here
from persons import write_persons
from PIL import Image
from runs import tiny

from brainseg_keras.data.manifest import read_manifest
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.training import resume, train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_persons(tmp_path_factory.mktemp("persons"))


def flags(options):
    return ["--data", str(options["path"]), *(["--root", str(options["root"])] if "root" in options else [])]


def trained_on(made, name, folder, **changes):
    """A run, and its patients by split: those of its seed, or of its manifest."""
    options, _ = made[name]
    root = str(options["root"]) if "root" in options else None
    run = train(tiny(options["path"], root=root, epochs=1, **changes), output=folder / "run")
    table = open_source(**options, seed=changes.get("seed", 0)).table
    return run, {split: sorted(rows.patient.unique()) for split, rows in table.groupby("split")}


@pytest.fixture(scope="module")
def seeded(made, tmp_path_factory):
    """A run of which all whom seed 0 would draw as test patients, under either name, are training patients."""
    drawn = set()
    for name in ("lgg", "renamed"):
        table = open_source(**made[name][0]).table
        drawn |= {made[name][1][patient] for patient in table.patient[table.split == "test"]}
    for seed in range(1, 50):
        table = open_source(**made["lgg"][0], seed=seed).table
        if drawn <= {made["lgg"][1][patient] for patient in table.patient[table.split == "train"]}:
            return trained_on(made, "lgg", tmp_path_factory.mktemp("seeded"), seed=seed)
    raise LookupError("no such seed")


def scored(folder):
    return pd.read_csv(folder / "per_patient.csv").set_index("patient").role.to_dict()


def check_no_patient_in_two_roles(made, name, run, splits, folder):
    options, _ = made[name]
    for split in ("test", "val"):
        code, _, err = here(
            "evaluate", "--model", str(run.path), *flags(options), "--split", split, "-o", str(folder / split)
        )
        assert code == 0, err
        assert pd.read_csv(folder / split / "per_patient.csv").patient.tolist() == splits[split]
        assert scored(folder / split) == dict.fromkeys(splits[split], split)
    assert json.loads((folder / "test" / "report.json").read_text())["role"] == "test, chose nothing"
    code, out, err = here("tune", "--model", str(run.path), *flags(options), "-o", str(folder / "tuned"), "--json")
    assert code == 0, err
    assert json.loads(out)["patients"] == splits["val"]


def test_the_seed_of_training_is_that_of_the_test(made, seeded, tmp_path):
    run, splits = seeded
    check_no_patient_in_two_roles(made, "lgg", run, splits, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brats-h5", "nifti", "pairs", "fold1", "store"])
def test_the_split_of_training_is_that_of_the_test_in_every_format(made, name, tmp_path):
    run, splits = trained_on(made, name, tmp_path, seed=7)
    check_no_patient_in_two_roles(made, name, run, splits, tmp_path / "results")


@pytest.mark.slow
def test_the_word_phantom_too(tmp_path):
    config = tiny("phantom", seed=7, epochs=1, batch_size=32)
    run = train(config, output=tmp_path / "run")
    table = open_source("phantom", seed=7).table
    wanted = sorted(table.patient[table.split == "test"].unique())
    other = open_source("phantom", seed=0).table
    assert wanted != sorted(other.patient[other.split == "test"].unique())
    assert here("evaluate", "--model", str(run.path), "-o", str(tmp_path / "test"))[0] == 0
    assert sorted(scored(tmp_path / "test")) == wanted


def test_a_patient_that_trained_is_refused_under_another_name(made, seeded, tmp_path):
    run, splits = seeded
    (options, who), (_, own) = made["renamed"], made["lgg"]
    table = open_source(**options).table
    tested = table.patient[table.split == "test"].unique().tolist()
    old = {new: next(name for name in own if own[name] == who[new]) for new in tested}
    assert set(old.values()) <= set(splits["train"]), "else there is nothing to refuse"
    code, out, err = here("evaluate", "--model", str(run.path), *flags(options), "-o", str(tmp_path / "out"))
    assert (code, out) == (2, "") and "Traceback" not in err
    for new in tested:
        assert f"{new} as {old[new]}" in err
    assert f"trained {run.path}" in err and f"--data {made['lgg'][0]['path']}" in err and "--include-seen" in err
    assert not (tmp_path / "out").exists()


def test_seen_patients_stand_by_themselves_in_every_table(made, seeded, tmp_path):
    run, splits = seeded
    options, who = made["renamed"]
    own = {person: name for name, person in made["lgg"][1].items()}
    role = {name: split for split, names in splits.items() for name in names}
    expected = {new: {"test": "unseen"}.get(role[own[who[new]]], role[own[who[new]]]) for new in who}
    code, out, err = here(
        "evaluate", "--model", str(run.path), *flags(options), "--split", "all", "--include-seen", "-o", str(tmp_path)
    )
    assert code == 0, err
    # The run never read its test patients: under another name nothing tells that they are these.
    assert scored(tmp_path) == expected
    table = pd.read_csv(tmp_path / "per_patient.csv")
    slices = pd.read_csv(tmp_path / "per_slice.csv")
    assert slices.groupby("patient").role.first().to_dict() == expected
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["headline"] == ["unseen"]
    assert report["role"] == "unseen, the network has never met these patients"
    assert set(report["groups"]) == {"train", "val", "unseen"}
    for name, group in report["groups"].items():
        rows = table[table.role == name]
        assert group["names"] == rows.patient.tolist()
        assert group["patients"]["dice"]["n"] == len(rows)
        assert group["patients"]["dice"]["mean"] == pytest.approx(rows.dice.mean())
    unseen = table[table.role == "unseen"]
    assert report["patients"]["dice"]["n"] == len(unseen) == report["pooled_pixels"]["patients"] == 1
    assert report["confusion"]["pixels"] == {key: int(unseen[key].sum()) for key in ("tp", "fp", "fn", "tn")}
    assert sum(report["confusion"]["slices"].values()) == (slices.role == "unseen").sum()
    page = (tmp_path / "report.html").read_text()
    assert "<h2>By role</h2>" in page and page.count("<td>train</td>") == 1 + len(splits["train"])
    assert re.search(r"By themselves: Dice \d\.\d{3}, n = 5 \(training, the network has seen these patients\)", out)
    assert re.search(r"n = 1 \(unseen, the network has never met these patients\)", out)


def test_training_scores_are_called_so(made, seeded, tmp_path):
    run, splits = seeded
    code, out, err = here(
        "evaluate", "--model", str(run.path), *flags(made["lgg"][0]), "--split", "train", "-o", str(tmp_path / "out")
    )
    assert code == 0, err
    assert scored(tmp_path / "out") == dict.fromkeys(splits["train"], "train")
    assert "training, the network has seen these patients" in out


@pytest.mark.slow
def test_tuning_on_a_patient_that_trained_is_refused(made, seeded, tmp_path):
    run, _ = seeded
    code, _, err = here("tune", "--model", str(run.path), *flags(made["fold0"][0]), "-o", str(tmp_path / "out"))
    assert code == 2
    assert re.search(r"Of the \d validation patients \d trained .*, and cannot choose its postprocessing", err)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_training_on_from_a_network_keeps_its_patients_apart(made, seeded, tmp_path):
    run, splits = seeded
    options, _ = made["lgg"]
    more = train(tiny(options["path"], seed=3, epochs=1, init=str(run.best)), output=tmp_path / "more")
    assert here("evaluate", "--model", str(more.path), *flags(options), "-o", str(tmp_path / "test"))[0] == 0
    assert scored(tmp_path / "test") == dict.fromkeys(splits["test"], "test")


def test_training_on_where_a_training_patient_would_validate_is_refused(made, seeded, tmp_path):
    run, splits = seeded
    folds = {name: read_manifest(made[name][0]["path"]) for name in ("fold0", "fold1", "fold2")}
    crossing = next(n for n, fold in folds.items() if set(fold.patient[fold.split == "val"]) & set(splits["train"]))
    options, _ = made[crossing]
    config = tiny(options["path"], root=str(options["root"]), epochs=1, init=str(run.best))
    with pytest.raises(InputError, match=r"validation patients trained the weights of --init .*best\.keras") as refused:
        train(config, output=tmp_path / "crossing")
    assert any(name in str(refused.value) for name in splits["train"])
    assert not (tmp_path / "crossing").exists()


def test_lone_weights_have_unknown_roles(made, seeded, tmp_path):
    run, _ = seeded
    lone = tmp_path / "lone.keras"
    lone.write_bytes(run.best.read_bytes())
    code, out, _ = here("evaluate", "--model", str(lone), *flags(made["lgg"][0]), "-o", str(tmp_path / "out"))
    assert code == 0 and "roles unknown" in out
    assert set(scored(tmp_path / "out").values()) == {"unknown"}


@pytest.mark.slow
def test_an_export_keeps_the_roles(seeded, tmp_path):
    from brainseg_keras.export import export
    from brainseg_keras.inference import Predictor

    run, splits = seeded
    assert Predictor(export(run.path, tmp_path / "net.onnx").path).spec.roles.role(splits["train"][0]) == "train"


# ---- the same data, when a run goes on


@pytest.mark.parametrize("ending", ["", "_mask"], ids=["image", "mask"])
def test_a_changed_pixel_is_noticed_when_a_run_goes_on(made, seeded, ending):
    run, splits = seeded
    patient = splits["train"][1]
    masks = {file: np.array(Image.open(file)) for file in (made["lgg"][0]["path"] / patient).glob("*_mask.tif")}
    mask = max(masks, key=lambda file: masks[file].sum())
    file = mask.with_name(mask.name.replace("_mask", ending))
    before = file.read_bytes()
    try:
        # Turned about: as many pixels of tumour as before, which the list of slices counts.
        Image.open(file).transpose(Image.Transpose.ROTATE_180).save(file)
        words = rf"pixels or masks of 1 patients have changed since it began, {patient}\. Restore their files"
        with pytest.raises(InputError, match=words):
            resume(run.path, overrides={"epochs": 2})
    finally:
        file.write_bytes(before)
    with pytest.raises(InputError, match="is finished"):
        resume(run.path)
