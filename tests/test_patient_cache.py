"""Slices and validation patients that stand in a file: the same as in memory, found again, never half, never stale."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from commands import here
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras.data import patient_cache
from brainseg_keras.data.checksums import RememberedVolumes
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import OrderedBatches, SliceBatches
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.slices import load_slices
from brainseg_keras.data.inputs.targets import TUMOUR, Target
from brainseg_keras.data.phantom.brats import write_brats_phantom
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.store import write_store
from brainseg_keras.data.stored_rows import StoredRows
from brainseg_keras.errors import InputError
from brainseg_keras.losses import get_loss
from brainseg_keras.training.validation import PatientValidator

#: In a process of its own: the training slices of a packed file, all of them from a file; prints how many were read.
LOAD = """
import os, signal, sys, time
from brainseg_keras.data import patient_cache
from brainseg_keras.data.inputs.slices import load_slices
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.store import StoredVolumes

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    time.sleep(0.8)

class Counted(StoredVolumes):
    count = 0

    def volume(self, patient):
        Counted.count += 1
        {in_between}
        return super().volume(patient)

patient_cache._MEMORY_LIMIT = 0
slices = load_slices(Counted(sys.argv[1]), "train", Preprocessing(32))
print(Counted.count, int(slices.images[:].sum()))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of one's own, and nothing so small that it stays in memory; gives the folder of the entries."""
    monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(patient_cache, "_MEMORY_LIMIT", 0)
    return tmp_path / "cache" / "patients"


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Packed patients of four sequences and three classes, float32."""
    folder = tmp_path_factory.mktemp("classes")
    slices = write_brats_phantom(folder, patients=4, slices=6, size=40, seed=2)
    return write_store(open_source(slices), folder / "classes.h5")


@pytest.fixture
def own_store(store, tmp_path):
    """A packed file that a test may change."""
    return shutil.copy2(store, tmp_path / "own.h5")


class Unreadable:
    """A source that says what it holds and cannot be read any more."""

    def __init__(self, source):
        self.table, self.channels, self.classes, self.identity = (
            source.table,
            source.channels,
            source.classes,
            source.identity,
        )

    def volume(self, patient):
        raise AssertionError(f"{patient} is read again")


def start(store, in_between="pass"):
    command = [sys.executable, "-c", LOAD.format(in_between=in_between), str(store)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def in_memory(source, *arguments, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient_cache, "_MEMORY_LIMIT", 10**9)
        patch.setenv("BRAINSEG_CACHE_LIMIT", "0")
        found = load_slices(source, *arguments, **options)
    assert isinstance(found.images, np.ndarray)
    return found


@settings(max_examples=12, deadline=None)
@given(
    packed=st.sampled_from(["store", "classes"]),
    size=st.sampled_from([32, 40, 64]),
    context=st.integers(0, 2),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    step=st.integers(0, 50),
    augmented=st.booleans(),
)
def test_batches_from_the_cache_are_those_from_memory_to_the_last_bit(
    packed, size, context, batch_size, seed, step, augmented, store, classes, tmp_path_factory
):
    source = open_source({"store": store, "classes": classes}[packed])
    target = Target("regions") if packed == "classes" else TUMOUR
    options = {"target": target, "context": context}
    plain = in_memory(source, "train", Preprocessing(size), **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(patient_cache, "_MEMORY_LIMIT", 0)
        first, second = (load_slices(source, "train", Preprocessing(size), **options) for _ in range(2))
    assert isinstance(first.images, StoredRows) and isinstance(second.masks, StoredRows)
    drawn = {"batch_size": batch_size, "target": target, "seed": seed}
    drawn["augmentation"] = Augmentation() if augmented else None
    for slices in (first, second):
        for ours, theirs in zip(SliceBatches(slices, **drawn)[step], SliceBatches(plain, **drawn)[step], strict=True):
            assert ours.tobytes() == theirs.tobytes() and ours.dtype == theirs.dtype
        ours, theirs = (OrderedBatches(whole, batch_size=5, target=target)[1] for whole in (slices, plain))
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
        for name in ("intensity", "own_intensity", "neighbors", "patients"):
            np.testing.assert_array_equal(getattr(slices, name), getattr(plain, name))
            assert getattr(slices, name).dtype == getattr(plain, name).dtype


def test_rows_are_indexed_as_numpy_does(cache, store):
    stored = load_slices(open_source(store), "train", Preprocessing(32)).images
    array = stored[:]
    assert stored.shape == array.shape and stored.dtype == array.dtype and len(stored) == len(array)
    some = np.arange(len(array)) % 3 == 1
    for index in (3, -1, slice(2, 9, 3), [7, 0, 7], np.array([[1, 8], [9, 16]]), some, np.array([], int)):
        np.testing.assert_array_equal(stored[index], array[index])
    with pytest.raises(IndexError):
        stored[len(array)]


def test_another_start_reads_no_patient_and_still_knows_their_checksums(cache, store):
    source = RememberedVolumes(open_source(store))
    first = load_slices(source, "train", Preprocessing(32))
    again = RememberedVolumes(Unreadable(open_source(store)))
    second = load_slices(again, "train", Preprocessing(32))
    assert second.images[:].tobytes() == first.images[:].tobytes()
    assert again.checksums == source.checksums and len(again.checksums) == 3


def test_little_stays_in_memory_and_leaves_no_file(cache, store, monkeypatch):
    monkeypatch.setattr(patient_cache, "_MEMORY_LIMIT", 3 * 8 * (32 * 32 * 4 + 3 * 8 + 2) + 3 * 24)
    assert isinstance(load_slices(open_source(store), "train", Preprocessing(32)).images, np.ndarray)
    assert not list(cache.parent.rglob("*.bin"))
    monkeypatch.setattr(patient_cache, "_MEMORY_LIMIT", patient_cache._MEMORY_LIMIT - 1)
    assert isinstance(load_slices(open_source(store), "train", Preprocessing(32)).images, StoredRows)


def change_nothing(store):
    return {}


def write_again(store):
    store.write_bytes(store.read_bytes())


CHANGES = {
    "size": lambda store: {"preprocessing": Preprocessing(40)},
    "blur": lambda store: {"preprocessing": Preprocessing(32, blur=0.5)},
    "clahe": lambda store: {"preprocessing": Preprocessing(32, clahe=2)},
    "split": lambda store: {"split": "val"},
    "channels": lambda store: {"modalities": "FLAIR,T1"},
    "file": write_again,
    "package": lambda store: {"code": b"another version"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_slices_makes_them_anew(change, cache, own_store, monkeypatch):
    def load(split="train", preprocessing=None, modalities=None, code=None):
        if code:
            monkeypatch.setattr(patient_cache, "_code", lambda: code)
        load_slices(open_source(own_store, modalities=modalities), split, preprocessing or Preprocessing(32))
        return len(list(cache.iterdir()))

    assert load() == load() == 1
    assert load(**CHANGES[change](own_store) or {}) == 2


def test_a_target_and_a_changed_picture_make_them_anew(cache, classes, own_phantom):
    for target in (TUMOUR, Target("regions")):
        load_slices(open_source(classes), "train", Preprocessing(32), target=target)
    assert len(list(cache.iterdir())) == 2
    first = load_slices(open_source(own_phantom), "train", Preprocessing(32)).images[:]
    mine = next(file for file in sorted(own_phantom.rglob("*_4.tif")))
    shutil.copy(mine.with_name(mine.name.replace("_4.", "_5.")), mine)
    second = load_slices(open_source(own_phantom), "train", Preprocessing(32)).images[:]
    assert len(list(cache.iterdir())) in (3, 4)
    assert (first != second).any() == (len(list(cache.iterdir())) == 4), "the patient may be one of another split"


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_damaged_byte_is_noticed_and_made_again(where, cache, store, caplog):
    whole = load_slices(open_source(store), "train", Preprocessing(32))
    images, masks = whole.images[:], whole.masks[:]
    [file] = cache.rglob("arrays.bin")
    content = bytearray(file.read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[where]] ^= 8
    file.write_bytes(content)
    again = load_slices(open_source(store), "train", Preprocessing(32))
    np.testing.assert_array_equal(again.images[:], images)
    np.testing.assert_array_equal(again.masks[:], masks)
    np.testing.assert_array_equal(again.own_intensity, whole.own_intensity)
    np.testing.assert_array_equal(again.contents, whole.contents)
    assert "damaged" in caplog.text


def test_where_the_data_are_gone_too_the_damage_is_said(cache, own_store):
    load_slices(open_source(own_store), "train", Preprocessing(32))
    [file] = cache.rglob("arrays.bin")
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    slices = load_slices(open_source(own_store), "train", Preprocessing(32))
    own_store.unlink()
    with pytest.raises(InputError, match=r"own\.h5"):
        slices.images[0]


def cut_off(folder):
    file = folder / "arrays.bin"
    os.truncate(file, file.stat().st_size - 1)


def empty(folder):
    (folder / "index.json").write_bytes(b"")


def other_numbers(folder):
    file = folder / "index.json"
    content = json.loads(file.read_text())
    content["index"]["patients"][0]["arrays"]["images"][2] += 16
    file.write_text(json.dumps(content))


def no_arrays(folder):
    (folder / "arrays.bin").unlink()


def no_index(folder):
    (folder / "index.json").unlink()


@pytest.mark.parametrize("damage", [cut_off, empty, other_numbers, no_arrays, no_index])
def test_a_damaged_entry_is_made_anew_and_kept(damage, cache, store):
    expected = load_slices(open_source(store), "train", Preprocessing(32)).images[:]
    [folder] = cache.iterdir()
    damage(folder)
    assert (load_slices(open_source(store), "train", Preprocessing(32)).images[:] == expected).all()
    assert (load_slices(Unreadable(open_source(store)), "train", Preprocessing(32)).images[:] == expected).all()


def test_a_kill_leaves_nothing_that_is_taken_for_whole(cache, store):
    killed = start(store, "Counted.count == 3 and os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    [folder] = cache.iterdir()
    assert [file.name for file in folder.iterdir() if file.name.startswith(".brainseg-")], "it was writing"
    plain = in_memory(open_source(store), "train", Preprocessing(32)).images
    assert (load_slices(open_source(store), "train", Preprocessing(32)).images[:] == plain).all()
    assert {file.name for file in folder.iterdir()} - {".lock"} == {"arrays.bin", "index.json"}


def test_of_two_processes_one_prepares_and_the_other_waits(cache, store):
    go = cache.parent.parent / "go"
    slow = start(store, f"Counted.count == 2 and wait({str(go)!r})")
    while not list(cache.glob("*/.lock.owner")):
        assert slow.poll() is None, slow.communicate()
        time.sleep(0.01)
    quick = start(store, f"open({str(go)!r}, 'w')")
    answers = [process.communicate(timeout=60) for process in (slow, quick)]
    counts = [int(said.split()[0]) for said, _ in answers]
    # Whoever is second has read one patient to learn that they do not fit the memory.
    assert counts == [3, 1], answers
    assert answers[0][0].split()[1] == answers[1][0].split()[1]
    assert "waiting for it" in answers[1][1]


def test_what_was_used_longest_ago_goes_first(cache, store, monkeypatch):
    for size in (32, 33, 34):
        load_slices(open_source(store), "train", Preprocessing(size))
    one = patient_cache.entries()[0].size
    index = {json.loads((f / "index.json").read_text())["index"]["about"]["size"]: f for f in cache.iterdir()}
    for age, size in enumerate((33, 34, 32)):
        os.utime(index[size] / "index.json", (1e9 + age, 1e9 + age))
    load_slices(open_source(store), "train", Preprocessing(33))
    # Room for three: the fourth takes that of 34, which was read before 32, and 33 was used just now.
    monkeypatch.setenv("BRAINSEG_CACHE_LIMIT", str(3.5 * one / 1e9))
    load_slices(open_source(store), "train", Preprocessing(31))
    assert sorted(entry.about["size"] for entry in patient_cache.entries()) == [31, 32, 33]
    monkeypatch.setenv("BRAINSEG_CACHE_LIMIT", str(0.5 * one / 1e9))
    assert load_slices(open_source(store), "train", Preprocessing(30)).images.shape[1] == 30, "it is put aside"
    assert not [entry for entry in patient_cache.entries() if entry.about["size"] == 30]


def test_room_is_made_for_what_all_patients_take(cache, store, monkeypatch):
    """Two patients have been read by then; the room is that of all, and a little more."""
    load_slices(open_source(store), "train", Preprocessing(32))
    one = patient_cache.entries()[0].size
    monkeypatch.setattr(patient_cache, "_MEMORY_LIMIT", one // 3)
    monkeypatch.setenv("BRAINSEG_CACHE_LIMIT", str(1.3 * one / 1e9))
    load_slices(open_source(store), "train", Preprocessing(33))
    assert [entry.about["size"] for entry in patient_cache.entries()] == [33]


def test_a_removed_entry_serves_on_whoever_has_opened_it(cache, store):
    slices = load_slices(open_source(store), "train", Preprocessing(32))
    expected = in_memory(open_source(store), "train", Preprocessing(32)).images
    assert all(map(patient_cache.remove_entry, patient_cache.entries())) and not list(cache.iterdir())
    slices_after = slices.images[:]
    assert (slices_after == expected).all()


@pytest.mark.parametrize("way", ["off", "no folder", "unknown source"])
def test_what_is_not_kept_is_put_aside_and_is_the_same(way, cache, store, monkeypatch, tmp_path):
    source = open_source(store)
    if way == "off":
        monkeypatch.setenv("BRAINSEG_CACHE_LIMIT", "0")
    elif way == "no folder":
        (tmp_path / "file").touch()
        monkeypatch.setenv("BRAINSEG_CACHE", str(tmp_path / "file" / "cache"))
    else:
        source.identity = None
    slices = load_slices(source, "train", Preprocessing(32))
    assert isinstance(slices.images, StoredRows)
    assert (slices.images[:] == in_memory(source, "train", Preprocessing(32)).images).all()
    assert not list(tmp_path.rglob("arrays.bin"))


@pytest.mark.parametrize("said", ["much", "-1", "nan"])
def test_a_limit_that_is_none_is_refused(said, cache, store, monkeypatch):
    monkeypatch.setenv("BRAINSEG_CACHE_LIMIT", said)
    with pytest.raises(InputError, match=rf"BRAINSEG_CACHE_LIMIT is a number of GB.*{said}"):
        load_slices(open_source(store), "train", Preprocessing(32))


def test_nobody_else_may_look_at_the_patients(cache, store):
    cache.mkdir(parents=True, mode=0o755)
    load_slices(open_source(store), "train", Preprocessing(32))
    assert cache.stat().st_mode & 0o777 == 0o700


def test_the_command_shows_and_clears_what_is_kept(cache, store):
    load_slices(open_source(store), "train", Preprocessing(32))
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    code, out, _ = here("data", "cache", "--json")
    found = json.loads(out)
    assert code == 0 and found["bytes"] == size and found["folder"] == str(cache)
    [entry] = found["entries"]
    assert (entry["split"], entry["patients"], entry["size"]) == ("train", 3, 32)
    code, out, _ = here("data", "cache", "--clear")
    assert code == 0 and "1 removed" in out and not list(cache.iterdir())


def test_validation_from_a_file_is_that_from_memory(cache, finished):
    record, model = finished.read_record(), keras.saving.load_model(finished.best)
    validators = [PatientValidator(open_source(record.config.data), record.spec)]
    validators.append(PatientValidator(Unreadable(open_source(record.config.data)), record.spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient_cache, "_MEMORY_LIMIT", 10**9)
        patch.setenv("BRAINSEG_CACHE_LIMIT", "0")
        validators.append(PatientValidator(open_source(record.config.data), record.spec))
    first, second, plain = (validator.score(model, get_loss(record.config.loss)) for validator in validators)
    for scores in (first, second):
        assert (scores.dice, scores.loss, scores.regions) == (plain.dice, plain.loss, plain.regions)
        for ours, theirs in zip(scores.panel + scores.worst, plain.panel + plain.worst, strict=True):
            assert (ours.patient, ours.number, ours.dice) == (theirs.patient, theirs.number, theirs.dice)
            for name in ("gray", "truth", "probability"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
                assert getattr(ours, name).base is None, "a view would keep the whole patient"
    assert first.dice == record.validation.dice
