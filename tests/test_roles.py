"""No patient in two roles: whatever the seeds, the formats, the folds, the names and the order of commands."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from persons import COUNT, InMemory, write_persons

from brainseg_keras.data.checksums import slice_checksums
from brainseg_keras.data.roles import MetPatient, Roles, join_names, splits_kept, splits_of
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.splits import assign_folds, fixed_split
from brainseg_keras.data.volumes import iterate_volumes
from brainseg_keras.errors import InputError
from brainseg_keras.models.shipped import pretrained_info
from brainseg_keras.postprocessing import Tuning
from brainseg_keras.reports.patients import choose_scored, choose_tuning, headline_roles
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.patients import remember_patients, roles_before, roles_of_run


def spec_of(info):
    """What a network says of itself, whose run.json this is."""
    return NetworkSpec.from_info({"channels": ["FLAIR"]} | info)


@pytest.fixture(scope="module")
def persons(tmp_path_factory):
    """Gives for a data set and a seed a source, and who stands behind its names."""
    made = write_persons(tmp_path_factory.mktemp("persons"))
    sources, volumes = {}, {}

    def opened(name, seed):
        options, who = made[name]
        if (name, seed) not in sources:
            sources[name, seed] = open_source(**options, seed=seed)
        return InMemory(sources[name, seed], volumes.setdefault(name, {})), who

    opened.names = list(made)
    return opened


# ---- the same patient, found by pixels


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("lgg", "renamed"),
        ("lgg", "swapped"),
        ("lgg", "pairs"),
        ("lgg", "store"),
        ("lgg", "flair"),
        ("pairs", "flair"),
        ("brats-h5", "nifti"),
        ("nifti", "half"),
    ],
)
def test_a_person_is_found_under_any_name_and_in_any_format_and_nobody_else_is(persons, first, second):
    (one, who_first), (other, who_second) = persons(first, 0), persons(second, 0)
    known = {who_first[name]: set(slice_checksums(one.volume(name).images)) for name in who_first}
    for name, person in who_second.items():
        own = set(slice_checksums(other.volume(name).images))
        assert [found for found, slices in known.items() if slices & own] == [person]


def test_namesakes_are_others(persons):
    (one, who), (other, _) = persons("lgg", 0), persons("namesakes", 0)
    for name in who:
        assert not set(slice_checksums(one.volume(name).images)) & set(slice_checksums(other.volume(name).images))


def test_some_slices_are_enough_and_blank_ones_are_nobodys():
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 200, (40, 32, 32, 3), np.uint8)
    known = set(slice_checksums(whole))
    # Four of each channel; of fewer slices all.
    assert len(known) == 12 and [len(slice_checksums(whole[:n])) for n in (1, 3, 5)] == [3, 9, 12]
    found = sum(bool(known & set(slice_checksums(whole[rng.permutation(40)[:20]]))) for _ in range(40))
    assert found >= 38
    blank = np.zeros((4, 32, 32, 1), np.uint8)
    blank[:, 3, :9] = 1
    assert slice_checksums(blank) == ()
    assert slice_checksums(np.full((4, 32, 32, 1), 7.0)) == ()


def test_values_decide_and_not_their_type():
    pixels = np.random.default_rng(0).integers(0, 60_000, (5, 32, 32, 1)).astype(np.uint16)
    for kind in (np.int32, np.float32, np.float64, np.float16):
        assert slice_checksums(pixels.astype(kind)) == slice_checksums(pixels)
    signed = np.random.default_rng(1).normal(0, 1e-6, (5, 32, 32, 1)).astype(np.float32)
    assert slice_checksums(signed.astype(np.float16)) == slice_checksums(signed)
    assert not set(slice_checksums(pixels + np.uint16(64))) & set(slice_checksums(pixels))
    far = pixels.astype(np.float32) * 1000
    assert not set(slice_checksums(far)) & set(slice_checksums(far + 10_000))


# ---- roles


def test_pixels_decide_and_names_only_where_pixels_are_unknown():
    roles = Roles((MetPatient("A", "train", ("aa", "bb")), MetPatient("B", "test"), MetPatient("C", "val", ("cc",))))
    assert roles.role("Z", ["bb", "zz"]) == "train"
    assert roles.role("A", ["zz"]) == "unseen"
    assert roles.role("A") == "train"
    assert roles.role("B", ["zz"]) == "test"
    assert roles.role("B", ["cc"]) == "val"
    assert roles.find("B", ["aa", "cc"]).role == "train"


def test_splits_are_kept_only_where_a_seed_drew_them_and_somebody_trains_and_validates():
    table = pd.DataFrame({"patient": list("ABCD"), "split": ["train", "train", "val", "test"]})
    turned = Roles((MetPatient("A", "val"), MetPatient("C", "train")))
    for seeded, roles, kept in (
        (True, turned, ["val", "train", "train", "test"]),
        (True, Roles((MetPatient("B", "tuned"),)), ["train", "val", "val", "test"]),
        (True, Roles((MetPatient("C", "train"),)), None),
        (True, Roles((MetPatient("A", "test"), MetPatient("B", "val"))), None),
        (False, turned, None),
    ):
        splits = splits_kept(SimpleNamespace(table=table, seeded=seeded), roles)
        assert (splits if splits is None else splits[list("ABCD")].tolist()) == kept
    assert splits_kept(SimpleNamespace(table=table), turned) is None


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (1, "a"), (2, "a, b"), (3, "a, b and 1 more"), (5, "a, b and 3 more")]
)
def test_names_beyond_the_first_are_counted(count, text):
    assert join_names(iter("abcde"[:count]), most=2) == text
    assert join_names("abcdefgh"[:count]) == ", ".join("abcdefgh"[:count])
    assert join_names("abcdefghi") == "a, b, c, d, e, f, g, h and 1 more"


def test_the_weights_that_ship_know_their_patients():
    roles = Roles.from_info(pretrained_info("lgg")["roles"])
    assert {known.name: known.role for known in roles.patients} == fixed_split("lgg").to_dict()
    kept = [set(known.slices) for known in roles.patients if known.role != "test"]
    assert len(kept) == 78 and all(4 <= len(slices) <= 12 for slices in kept)
    assert sum(map(len, kept)) == len(set().union(*kept)), "two patients share a checksum"
    assert spec_of(pretrained_info("lgg")).roles.find("TCGA_CS_5393_19990606").tuned
    assert roles.role("TCGA_HT_9999_20000101") == "unseen"


def test_shipped_checksums_are_those_of_the_data(lgg):
    roles = Roles.from_info(pretrained_info("lgg")["roles"])
    source = open_source(lgg)
    for known in roles.patients[::9]:
        slices = slice_checksums(source.volume(known.name).images)
        assert known.slices == (() if known.role == "test" else slices)
        assert roles.role("somebody", slices) == ("unseen" if known.role == "test" else known.role)


def test_weights_of_unknown_origin_say_so(tmp_path, caplog):
    assert not roles_before(str(tmp_path / "lone.keras")).complete
    assert "Nothing says which patients trained" in caplog.text
    spec = NetworkSpec(("FLAIR",), roles=Roles((MetPatient("A", "train"),)))
    (tmp_path / "run.json").write_text(json.dumps(spec.to_info()))
    assert roles_before(str(tmp_path / "best.keras")).role("A") == "train"
    assert roles_before("lgg").role("TCGA_CS_4942_19970222") == "train"
    (tmp_path / "run.json").write_text('{"channels": ["FLAIR"], "roles": {"patients": 3}}')
    with pytest.raises(InputError, match=r"run\.json.*Restore it"):
        roles_before(str(tmp_path / "best.keras"))


# ---- whole histories


class History:
    """What was done with one network, told by persons: who was read for what, whatever the package says of it."""

    def __init__(self, persons, name, seed, fold=None, start=None):
        source, who = persons(name, seed)
        before = start.roles if start else Roles()
        splits = fold and splits_of(SimpleNamespace(table=assign_folds(source.table, folds=4, seed=seed)[fold - 1]))
        remembered = remember_patients(source, before, splits)
        split = {}
        for part in ("train", "val"):
            source.asked.clear()
            list(iterate_volumes(remembered, part))
            split[part] = {who[patient] for patient in source.asked}
        self.trained = split["train"] | (start.trained if start else set())
        self.chose = split["val"] | (start.chose if start else set())
        self.tuned = set()
        # Should be refused where it is wrong.
        self.crossed = split["val"] & self.trained
        roles = roles_of_run(remembered, before, "its weights", own_split=fold is not None)
        self.info = json.loads(json.dumps({"roles": roles.to_info(), "data": name}))
        self.kept_apart = {who[n] for n in remembered.table.patient[remembered.table.split == "test"]}

    @property
    def roles(self):
        return spec_of(self.info).roles

    @property
    def predictor(self):
        return SimpleNamespace(spec=spec_of(self.info), name="runs/first")

    def tune(self, persons, name, seed):
        source, who = persons(name, seed)
        chosen = choose_tuning(source, self.predictor)
        self.tuned = {who[patient] for patient in chosen}
        assert not self.tuned & self.trained
        tuning = Tuning({p: tuple(slice_checksums(source.volume(p).images)) for p in chosen})
        self.info = json.loads(json.dumps(self.info | {"postprocessing": tuning.to_info()}))

    def evaluate(self, persons, name, seed, split, include_seen):
        source, who = persons(name, seed)
        chosen = choose_scored(source, split, self.predictor, include_seen=include_seen)
        scored = {who[patient] for patient in chosen}
        headline = {who[p] for p, found in chosen.items() if found.role in headline_roles(chosen, split)}
        for patient, found in chosen.items():
            assert found.role in self.true_roles(who[patient]), (patient, found)
        made_it = self.trained | self.chose | self.tuned
        if not include_seen and split == "test":
            assert not scored & made_it
        if not include_seen and split == "val":
            assert not scored & self.trained
        assert headline <= self.trained or not headline & self.trained
        assert headline <= made_it or not headline & made_it
        return scored

    def true_roles(self, person):
        for role, known in (("train", self.trained), ("val", self.chose), ("tuned", self.tuned)):
            if person in known:
                return (role,)
        return ("test", "unseen")


DATA = ["lgg", "flair", "namesakes", "renamed", "swapped", "pairs", "store"]
DATA += ["fold0", "fold1", "fold2", "brats-h5", "nifti", "half"]
data_sets, seeds, folds = st.sampled_from(DATA), st.integers(0, 3), st.sampled_from([None, None, 1, 2, 3, 4])
steps = st.one_of(
    st.tuples(st.just("tune"), data_sets, seeds),
    st.tuples(st.just("evaluate"), data_sets, seeds, st.sampled_from(["test", "val", "all"]), st.booleans()),
    st.tuples(st.just("train on"), data_sets, seeds, folds),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.tuples(data_sets, seeds, folds), order=st.lists(steps, min_size=1, max_size=5))
def test_no_patient_in_two_roles(persons, first, order):
    """Train, tune, evaluate, train on from there: any data, any seed, any fold, any order. Refusals are right ones."""
    history = History(persons, *first)
    assert not history.crossed
    for step, *arguments in order:
        try:
            if step == "tune":
                history.tune(persons, *arguments)
            elif step == "evaluate":
                history.evaluate(persons, *arguments)
            else:
                history = History(persons, *arguments, start=history)
                assert not history.crossed
        except InputError as error:
            _check_refusal(str(error), history, step, persons(*arguments[:2])[1])


def _check_refusal(words, history, step, who):
    """Whoever is named as having made the network did."""
    if "No patient in the split" in words:
        return
    kinds = {
        "trained": history.trained,
        "chose the checkpoint of": history.chose,
        "chose the postprocessing or calibration of": history.tuned,
    }
    if step == "train on":
        kinds = {"validation patients trained the weights of --init": history.trained}
        found = {kind: re.findall(rf"{kind} .*: (.*?)\. Give", words) for kind in kinds}
    else:
        found = {kind: re.findall(rf"{kind} runs/first \((.*?)\)", words) for kind in kinds}
    assert any(found.values()) or "kept apart to test" in words, words
    for kind, lists in found.items():
        for name in (entry.partition(" ")[0] for text in lists for entry in text.split(", ")):
            assert who[name] in kinds[kind], words


@pytest.mark.parametrize("name", ["lgg", "store", "fold1", "nifti"])
def test_a_fold_is_followed_whatever_the_data_say(persons, name):
    """A folder, a packed file and a list with splits of their own: `--split test` is whom the fold kept apart."""
    scored = set()
    for fold in (1, 2, 3, 4):
        history = History(persons, name, 7, fold)
        own = persons(name, 0)[0].table
        assert history.evaluate(persons, name, 0, "test", False) == history.kept_apart
        assert history.evaluate(persons, name, 0, "train", False) == history.trained
        history.tune(persons, name, 0)
        assert history.tuned == history.chose
        assert not scored & history.kept_apart
        scored |= history.kept_apart
    assert len(scored) == COUNT and own.split.nunique() == 3


@pytest.mark.parametrize("name", ["lgg", "pairs", "brats-h5", "nifti", "flair"])
@pytest.mark.parametrize("seed", [1, 7, 12])
def test_the_seed_of_training_is_that_of_the_test(persons, name, seed):
    """As `train --seed 7`, then `evaluate --split test`, which splits by seed 0: the run's own test patients."""
    history = History(persons, name, seed)
    scored = history.evaluate(persons, name, 0, "test", False)
    assert scored == history.kept_apart and len(scored) == 1
    assert history.evaluate(persons, name, 0, "train", False) == history.trained
    assert len(history.trained) == COUNT - 2
    history.tune(persons, name, 0)
    assert history.tuned == history.chose == history.evaluate(persons, name, 0, "val", False)


def test_a_fold_of_another_run_is_refused_with_names_and_cure(persons):
    history = History(persons, "fold0", 0)
    who = persons("fold1", 0)[1]
    trained = sorted(name for name in who if who[name] in history.trained)
    with pytest.raises(InputError, match=r"trained runs/first \(.*--data fold0.*--include-seen") as refused:
        history.evaluate(persons, "fold2", 0, "test", False)
    source, _ = persons("fold2", 0)
    tested = source.table.patient[source.table.split == "test"].unique()
    for name in tested:
        assert (name in str(refused.value)) == (name in trained)
    assert set(tested) & set(trained)
    with pytest.raises(InputError, match=r"chose the checkpoint of runs/first \("):
        history.evaluate(persons, "fold1", 0, "test", False)
    with pytest.raises(InputError, match=r"trained runs/first \(.*cannot choose its postprocessing"):
        history.tune(persons, "fold1", 0)


def test_a_renamed_patient_is_named_with_both_names(persons):
    history = History(persons, "lgg", 7)
    words = ""
    for seed in range(4):
        try:
            history.evaluate(persons, "renamed", seed, "test", False)
        except InputError as error:
            words = str(error)
    who, own = persons("renamed", 0)[1], persons("lgg", 0)[1]
    pairs = [(new, old) for new, person in who.items() for old, same in own.items() if person == same]
    assert any(f"{new} as {old}" in words for new, old in pairs)


def test_whom_tuning_met_is_no_test_patient_any_more(persons):
    history = History(persons, "brats-h5", 0)
    history.tune(persons, "fold0", 0)
    # The part that validates in one fold is tested in the next.
    with pytest.raises(InputError, match=r"2 chose the postprocessing or calibration of runs/first \("):
        history.evaluate(persons, "fold1", 0, "test", False)
    assert history.evaluate(persons, "fold1", 0, "test", True) == history.tuned
    history.tune(persons, "lgg", 2)
    for seed in range(4):
        assert history.tuned <= history.evaluate(persons, "lgg", seed, "val", False)


def test_validation_that_trained_the_first_weights_is_refused(persons):
    history = History(persons, "fold0", 0)
    with pytest.raises(InputError, match=r"validation patients trained the weights of --init .*manifest in which"):
        History(persons, "fold1", 0, start=history)
    # Data that were split by a seed alone follow the first run.
    again = History(persons, "lgg", 3, start=history)
    assert again.chose == history.chose and again.trained == history.trained


def test_a_twin_on_both_sides_is_refused(persons):
    source, _ = persons("lgg", 0)
    table = source.table
    twin, copied = (table.patient[table.split == split].iloc[0] for split in ("val", "train"))
    volumes = {name: source.volume(name) for name in table.patient.unique()}
    volumes[twin] = volumes[copied]
    remembered = remember_patients(InMemory(source, volumes), Roles())
    for split in ("train", "val"):
        list(iterate_volumes(remembered, split))
    with pytest.raises(InputError, match=f"{twin} is the training patient {copied} under another name"):
        roles_of_run(remembered, Roles(), None)


def test_namesakes_are_said(persons, caplog):
    history = History(persons, "lgg", 7)
    history.evaluate(persons, "namesakes", 0, "all", False)
    assert "bear the names of others that the network has met, with other pixels" in caplog.text


def test_the_headline_never_mixes(persons):
    history = History(persons, "fold0", 0)
    source, who = persons("lgg", 0)
    chosen = choose_scored(source, "all", history.predictor)
    roles = pd.Series({who[name]: found.role for name, found in chosen.items()})
    assert set(roles) == {"train", "val", "test"}
    assert headline_roles(chosen, "all") == headline_roles(chosen, "test") == ("test",)
    assert headline_roles(chosen, "val") == ("val",)
    assert headline_roles(chosen, "train") == ("train",)
