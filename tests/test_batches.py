"""Which slices stand in which batch, and the pipelines that host them."""

import gc
import hashlib
import inspect
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras import TrainingConfig, make_dataset
from brainseg_keras.data.formats.registry import FOLDER_FORMATS
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import OrderedBatches, SliceBatches
from brainseg_keras.data.inputs.preprocessing import Preprocessing, intensity_range, normalize
from brainseg_keras.data.inputs.slices import Slices, load_slices
from brainseg_keras.data.inputs.targets import TUMOUR, Target
from brainseg_keras.data.pipeline import BatchSequence, as_tf_dataset
from brainseg_keras.data.sources import open_source
from brainseg_keras.data.volumes import iterate_volumes
from brainseg_keras.errors import InputError


def slices(with_tumour, without, size=8):
    count = with_tumour + without
    images = np.arange(count * size * size, dtype="float32").reshape(count, size, size, 1)
    masks = np.zeros((count, size, size, 1), "uint8")
    masks[:with_tumour, 2:4, 2:5] = 255
    intensity = np.tile(np.array([[0.0, 50.0]]), (count, 1, 1))
    return Slices(images, masks, intensity, intensity / 2, np.array([f"P{n}" for n in range(count)]))


@settings(max_examples=60, deadline=None)
@given(with_tumour=st.integers(1, 12), without=st.integers(1, 12), batch_size=st.integers(1, 9), share=st.floats(0, 1))
def test_share_of_tumour_is_exact_and_no_slice_repeats_within_a_pass(with_tumour, without, batch_size, share):
    batches = SliceBatches(slices(with_tumour, without), batch_size=batch_size, tumour_share=share)
    drawn = np.array([batches.indices(step) for step in range(60)])
    assert drawn.shape == (60, batch_size)
    counts = np.cumsum((drawn < with_tumour).sum(axis=1))
    assert (np.abs(counts - share * batch_size * np.arange(1, 61)) < 0.501).all(), "never half a slice from the share"
    for members in (range(with_tumour), range(with_tumour, with_tumour + without)):
        kind = [n for n in drawn.ravel() if n in members]
        for start in range(0, len(kind) - len(members) + 1, len(members)):
            assert sorted(kind[start : start + len(members)]) == list(members)


@pytest.mark.parametrize(("batch_size", "share"), [(1, 0.5), (2, 0.25), (4, 0.1), (4, 0.9), (3, 1 / 3), (1, 0.01)])
def test_a_small_batch_sees_both_kinds(batch_size, share):
    """Rounded batch by batch, the first of these never saw a tumour and the fourth saw nothing else."""
    batches = SliceBatches(slices(3, 3), batch_size=batch_size, tumour_share=share)
    steps = round(200 / batch_size)
    shown = np.concatenate([batches[step][1].any(axis=(1, 2, 3)) for step in range(steps)])
    assert abs(shown.mean() - share) < 0.5 / len(shown) + 1e-9
    # Far along too, and whatever was asked for before.
    late = np.concatenate([batches.indices(step) < 3 for step in range(10**9, 10**9 + steps)])
    assert abs(late.mean() - share) < 1 / len(late) + 1e-9


@pytest.mark.parametrize(("with_tumour", "without"), [(5, 0), (0, 5)])
def test_one_kind_alone_fills_the_batch(with_tumour, without):
    batches = SliceBatches(slices(with_tumour, without), batch_size=4)
    assert sorted(np.concatenate([batches.indices(step) for step in range(5)])) == sorted(list(range(5)) * 4)


def test_without_a_share_all_slices_are_alike():
    batches = SliceBatches(slices(2, 6), batch_size=4, tumour_share=None)
    assert sorted(np.concatenate([batches.indices(0), batches.indices(1)])) == list(range(8))


def test_a_batch_is_a_function_of_seed_and_step():
    data = slices(6, 9)
    first, again = (SliceBatches(data, batch_size=4, augmentation=Augmentation(), seed=3) for _ in range(2))
    later = [again[step] for step in (5, 2)]
    for found, step in zip(later, (5, 2), strict=True):
        for ours, theirs in zip(first[step], found, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    other = SliceBatches(data, batch_size=4, augmentation=Augmentation(), seed=4)
    assert any((first[step][0] != other[step][0]).any() for step in range(3))


def test_the_seed_is_the_augmentations_too():
    """Of one slice alone the order says nothing: what differs is how it was turned."""
    one = slices(1, 0)
    first, again, other = (SliceBatches(one, batch_size=2, augmentation=Augmentation(), seed=s)[0] for s in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != other[0]).any()
    later = SliceBatches(one, batch_size=2, augmentation=Augmentation(), seed=3)[1]
    assert (first[0] != later[0]).any() and (first[0][0] != first[0][1]).any()


def test_slices_with_and_without_tumour_are_shuffled_apart():
    batches = SliceBatches(slices(8, 8), batch_size=16)
    assert any((drawn[:8] != drawn[8:] - 8).any() for drawn in map(batches.indices, range(4)))


BATCH_41 = """
import hashlib
import numpy as np
from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import SliceBatches
from brainseg_keras.data.inputs.slices import Slices

images = np.arange(15 * 256, dtype="float32").reshape(15, 16, 16, 1) % 251
masks = np.zeros((15, 16, 16, 1), "uint8")
masks[:6, 4:9, 3:9] = 255
ranges = np.tile([[0.0, 99.0]], (15, 1, 1))
batches = SliceBatches(Slices(images, masks, ranges, ranges, None), batch_size=4, augmentation=Augmentation())
digest = hashlib.sha256(b"".join(array.tobytes() for array in batches[41])).hexdigest()
"""


def test_a_fresh_process_makes_the_same_batch():
    """A resumed run relies on it: nothing of a batch hangs on what the process did before."""
    here = {}
    exec(BATCH_41, here)
    for step in (0, 7, 3):
        here["batches"][step]
    again = hashlib.sha256(b"".join(array.tobytes() for array in here["batches"][41])).hexdigest()
    command = [sys.executable, "-c", BATCH_41 + "print(digest)"]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert here["digest"] == again == there


def test_successive_passes_differ():
    batches = SliceBatches(slices(16, 16), batch_size=32)
    passes = [batches.indices(step).tolist() for step in range(20)]
    assert len({tuple(order) for order in passes}) == 20
    assert all(sorted(order) == list(range(32)) for order in passes)
    other = SliceBatches(slices(16, 16), batch_size=32, seed=1)
    assert other.indices(0).tolist() != passes[0]


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(15, 4, 4), (16, 4, 4), (3, 8, 1)])
def test_an_epoch_is_as_many_batches_as_hold_the_slices(count, batch_size, steps):
    assert SliceBatches(slices(1, count - 1), batch_size=batch_size).steps_per_epoch == steps
    assert OrderedBatches(slices(1, count - 1), batch_size=batch_size).steps_per_epoch == steps


def test_each_slice_is_normalized_by_its_own_patient():
    data = slices(2, 2)
    data = data._replace(intensity=np.array([[[0.0, 10.0 * (n + 1)]] for n in range(4)]))
    batches = SliceBatches(data, batch_size=4)
    chosen = batches.indices(3)
    expected = [np.clip(data.images[n] / (10 * (n + 1)), 0, 4) for n in chosen]
    np.testing.assert_allclose(batches[3][0], expected, rtol=1e-6)


def test_loaded_slices_are_those_of_the_files(phantom):
    source = open_source(phantom)
    loaded = load_slices(source, "train", Preprocessing(48))
    index = 0
    for volume in iterate_volumes(source, "train"):
        here = slice(index, index + len(volume.slices))
        np.testing.assert_array_equal(loaded.images[here], volume.images)
        np.testing.assert_array_equal(loaded.masks[here][..., 0], 255 * (volume.masks > 0))
        assert (loaded.patients[here] == volume.patient).all()
        np.testing.assert_array_equal(loaded.intensity[here], np.repeat(volume.intensity[None], 8, axis=0))
        own = [intensity_range(image[None]) for image in volume.images]
        np.testing.assert_array_equal(loaded.own_intensity[here], own)
        index += len(volume.slices)
    assert index == len(loaded.images)


def test_batches_are_normalized_by_their_volume():
    data = slices(2, 2)
    batches = SliceBatches(data, batch_size=4)
    images, masks = batches[0]
    chosen = batches.indices(0)
    np.testing.assert_allclose(images, np.clip(data.images[chosen] / 50, 0, 4), rtol=1e-6)
    np.testing.assert_array_equal(masks, data.masks[chosen] / 255)
    assert masks.dtype == images.dtype == np.float32


def test_some_training_slices_are_normalized_as_lone_images_are():
    still = Augmentation(rotate=0, flip=0, zoom=0, shift=0, intensity=0, noise=0)
    data = slices(2, 2)
    data = data._replace(images=np.full_like(data.images, 25.0))
    batches = SliceBatches(data, batch_size=4, augmentation=still)
    values = np.concatenate([batches[step][0][:, 0, 0, 0] for step in range(250)])
    assert set(values) == {0.5, 1.0}
    assert 0.1 < (values == 1.0).mean() < 0.2


def test_ordered_batches_hold_every_slice_once():
    data = slices(3, 4)
    batches = OrderedBatches(data, batch_size=3)
    images = np.concatenate([images for images, _ in batches])
    np.testing.assert_allclose(images, normalize(data.images, data.intensity))
    np.testing.assert_array_equal(np.concatenate([masks for _, masks in batches]), data.masks / 255)
    assert [len(images) for images, _ in batches] == [3, 3, 1]
    assert len(batches) == 3


@pytest.mark.parametrize(
    ("settings_", "words"),
    [({"batch_size": 0}, "batch_size is a whole number"), ({"tumour_share": 2}, "tumour_share is a number")],
)
def test_impossible_batches_are_refused(settings_, words):
    with pytest.raises(InputError, match=words):
        SliceBatches(slices(2, 2), **settings_)


@pytest.mark.parametrize("start", [0, 3])
def test_tf_data_delivers_the_batches_in_order(start):
    batches = SliceBatches(slices(6, 9), batch_size=4, augmentation=Augmentation())
    stream = as_tf_dataset(batches, start=start, endless=True)
    for step, (images, masks) in zip(range(start, start + 9), stream, strict=False):
        np.testing.assert_array_equal(images, batches[step][0])
        np.testing.assert_array_equal(masks, batches[step][1])


def test_each_pass_is_another_epoch():
    batches = SliceBatches(slices(6, 9), batch_size=4)
    dataset = as_tf_dataset(batches)
    assert int(dataset.cardinality()) == len(dataset) == 4
    passes = [[images.numpy() for images, _ in dataset] for _ in range(2)]
    for epoch, images in enumerate(passes):
        for step, image in enumerate(images):
            np.testing.assert_array_equal(image, batches[4 * epoch + step][0])


def test_pydataset_is_the_same_stream():
    batches = SliceBatches(slices(6, 9), batch_size=4, augmentation=Augmentation())
    sequence = BatchSequence(batches, start=2, steps=5)
    assert len(sequence) == 5
    assert len(BatchSequence(batches)) == batches.steps_per_epoch
    for step in range(5):
        for ours, theirs in zip(sequence[step], batches[2 + step], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_make_dataset_reads_one_split_and_repeats_by_seed(phantom):
    options = {"size": 32, "batch_size": 4}
    first, again = (make_dataset(phantom, **options, seed=1) for _ in range(2))
    passes = [[images.numpy() for images, _ in dataset] for dataset in (first, again, first)]
    np.testing.assert_array_equal(passes[0], passes[1])
    assert (np.array(passes[0]) != np.array(passes[2])).any(axis=(1, 2, 3, 4)).all(), "every epoch is another"
    other = np.array([images.numpy() for images, _ in make_dataset(phantom, **options, seed=2)])
    assert other.shape != np.shape(passes[0]) or (other != passes[0]).any()
    shares = [float(np.mean(masks.numpy().any(axis=(1, 2, 3)))) for _, masks in first]
    assert np.mean(shares) > 0.35
    held = make_dataset(phantom, split="val", **options, split_seed=1)
    source = open_source(phantom, seed=1)
    expected = [Preprocessing(32).masks(TUMOUR.layers(volume.masks)) for volume in iterate_volumes(source, "val")]
    found = np.concatenate([255 * masks.numpy() for _, masks in held])
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-6)
    twice = np.concatenate([255 * masks.numpy() for _, masks in held])
    np.testing.assert_array_equal(found, twice)


def test_what_make_dataset_is_told_arrives(tmp_path):
    """Filters, target, neighbors and share, in either split; each changes the batches."""
    folder = FOLDER_FORMATS["nifti"].write_phantom(tmp_path / "data", patients=3, slices=6, size=32, seed=1)
    told = {
        "size": 32,
        "blur": 1.0,
        "clahe": 2.0,
        "inner_tissue": True,
        "target": "classes",
        "context": 1,
        "batch_size": 4,
    }
    target = Target("classes")
    loaded = {
        split: load_slices(open_source(folder), split, Preprocessing(32, 1.0, 2.0, True), target=target, context=1)
        for split in ("train", "val")
    }
    whole = OrderedBatches(loaded["val"], batch_size=4, target=target)
    drawn = SliceBatches(loaded["train"], batch_size=4, tumour_share=1.0, balance_patients=True, seed=3, target=target)
    found = (
        make_dataset(folder, split="val", **told),
        make_dataset(folder, tumour_share=1.0, balance_patients=True, seed=3, augmentation=None, **told),
    )
    for batches, dataset in zip((whole, drawn), found, strict=True):
        assert len(dataset) == batches.steps_per_epoch
        for step, (images, masks) in enumerate(dataset):
            np.testing.assert_array_equal(images, batches[step][0])
            np.testing.assert_array_equal(masks, batches[step][1])
    assert masks.shape[-1] == 4 and images.shape[-1] == 3 * 4
    assert masks.numpy()[..., 1:].any(axis=(1, 2, 3)).all()


def test_batches_are_by_default_as_train_makes_them():
    config = TrainingConfig()
    for made in (make_dataset, SliceBatches, OrderedBatches, Preprocessing):
        given = inspect.signature(made).parameters
        shared = [name for name in given if hasattr(config, name) and name not in ("data", "seed")]
        assert shared
        for name in shared:
            if isinstance(given[name].default, int | float):
                assert given[name].default == getattr(config, name), (made, name)


def test_without_augmentation_the_training_slices_are_the_stored_ones(phantom):
    stored = load_slices(open_source(phantom), "train", Preprocessing(32))
    known = {image.tobytes() for image in normalize(stored.images, stored.intensity)}
    dataset = make_dataset(phantom, size=32, batch_size=4, augmentation=None)
    assert all(image.tobytes() in known for images, _ in dataset for image in images.numpy())
    augmented = make_dataset(phantom, size=32, batch_size=4)
    assert not any(image.tobytes() in known for images, _ in augmented for image in images.numpy())


@pytest.mark.slow
def test_python_ends_while_pipelines_make_batches(store):
    """TensorFlow's threads ask for batches until the end: one pipeline alone aborts or hangs without care."""
    script = (
        "import sys; from brainseg_keras import make_dataset; "
        "kept = [iter(make_dataset(sys.argv[1], size=128, batch_size=4)) for _ in range(3)]; "
        "print([len(next(batches)[0]) for batches in kept])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(store)], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[4, 4, 4]\n"), done.stderr


def of_patients(counts, without=6):
    """Slices of patients A, B, C, ... with so many tumour slices each, in a mixed order; then some without."""
    data = slices(sum(counts), without)
    names = np.repeat(list("ABCDEFGH"[: len(counts)]), counts)
    names = names[np.random.default_rng(0).permutation(len(names))]
    return data._replace(patients=np.concatenate([names, np.resize(names, without)]).astype(object))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    batch_size=st.integers(1, 7),
    share=st.sampled_from([0.5, 1.0, 0.3, None]),
    seed=st.integers(0, 99),
)
def test_balanced_each_patient_comes_once_in_a_turn_and_each_of_its_slices_once_in_a_pass(
    counts, batch_size, share, seed
):
    data = of_patients(counts)
    batches = SliceBatches(data, batch_size=batch_size, tumour_share=share, balance_patients=True, seed=seed)
    drawn = np.concatenate([batches.indices(step) for step in range(80)])
    tumour = drawn if share is None else drawn[drawn < sum(counts)]
    members = len(data.images) if share is None else sum(counts)
    patients = data.patients[tumour]
    each = sorted(set(data.patients))
    for start in range(0, len(tumour) - len(each) + 1, len(each)):
        assert sorted(patients[start : start + len(each)]) == each
    for name in each:
        own, all_of_it = tumour[patients == name], np.flatnonzero(data.patients[:members] == name)
        for start in range(0, len(own) - len(all_of_it) + 1, len(all_of_it)):
            assert sorted(own[start : start + len(all_of_it)]) == list(all_of_it)
    if share:
        assert abs((drawn < sum(counts)).sum() - share * len(drawn)) < 0.501
    for step in (57, 3):
        np.testing.assert_array_equal(batches.indices(step), drawn[step * batch_size : (step + 1) * batch_size])


def test_balanced_turns_differ_and_slices_without_tumour_are_drawn_as_ever():
    data = of_patients((1, 8, 4, 4))
    balanced, plain = (SliceBatches(data, batch_size=8, balance_patients=choice) for choice in (True, False))
    turns = [tuple(data.patients[balanced.indices(step)[:4]]) for step in range(30)]
    assert len(set(turns)) > 12
    rare = int(np.flatnonzero(data.patients[:17] == "A").item())
    counts = [sum((b.indices(step) == rare).sum() for step in range(34)) for b in (balanced, plain)]
    assert counts == [34, 8], "of 136 tumour slices a quarter, or one in seventeen"
    for step in range(10):
        np.testing.assert_array_equal(balanced.indices(step)[4:], plain.indices(step)[4:])
    # The orders of two patients with as many slices are not one.
    orders = {
        name: [i for s in range(40) for i in balanced.indices(s)[:4] if data.patients[i] == name] for name in "CD"
    }
    ranks = [np.searchsorted(np.flatnonzero(data.patients[:17] == name), own) for name, own in orders.items()]
    assert (ranks[0] != ranks[1]).any()


def test_balance_without_tumour_anywhere_is_of_all_slices():
    data = slices(0, 5)._replace(patients=np.array(list("AAABB"), object))
    drawn = [SliceBatches(data, batch_size=2, balance_patients=True).indices(step) for step in range(6)]
    assert all(sorted(data.patients[batch]) == ["A", "B"] for batch in drawn)


def test_a_training_that_is_over_lets_its_slices_go():
    """Folds are trained in one process, and TensorFlow keeps what it was given to call."""
    batches = SliceBatches(slices(4, 4), batch_size=2)
    gone = weakref.ref(batches)
    pipeline = iter(as_tf_dataset(weakref.proxy(batches)))
    next(pipeline)
    del batches, pipeline
    gc.collect()
    assert gone() is None
