"""The parts of a batch, put together, are the batch that one process would train on, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras.data.inputs.augmentation import Augmentation
from brainseg_keras.data.inputs.batches import BatchPart, SliceBatches, Slices

#: Each kind of augmentation, at full strength or off.
AUGMENTATIONS = st.builds(
    Augmentation,
    **{name: st.sampled_from([0.0, 0.7]) for name in ("flip", "stand_in", "darken", "paste", "low_resolution")},
    **{name: st.sampled_from([0.0, 0.3]) for name in ("zoom", "shift", "intensity", "noise", "bias_field")},
    rotate=st.sampled_from([0.0, 90.0]),
    elastic=st.sampled_from([0.0, 0.05]),
)


def slices(dtype, channels, neighbors):
    rng = np.random.default_rng(0)
    images = (rng.random((10, 16, 16, channels)) * 255).astype(dtype)
    masks = np.zeros((10, 16, 16, 1), "uint8")
    masks[:6, 4:11, 5:12] = 255
    intensity = np.stack([rng.random((10, channels)) * 20, 100 + rng.random((10, channels)) * 50], axis=-1)
    around = np.clip(np.arange(10)[:, None] + [-1, 0, 1], 0, 9) if neighbors else None
    return Slices(images, masks, intensity, intensity / 2, np.array(list("aabbccddee")), around)


@settings(max_examples=80, deadline=None)
@given(
    augmentation=st.none() | AUGMENTATIONS,
    parts=st.sampled_from([1, 2, 3, 6]),
    step=st.integers(0, 10**6),
    dtype=st.sampled_from(["uint8", "float32"]),
    channels=st.sampled_from([1, 3]),
    neighbors=st.booleans(),
)
def test_parts_put_together_are_the_batch(augmentation, parts, step, dtype, channels, neighbors):
    batches = SliceBatches(slices(dtype, channels, neighbors), batch_size=6, augmentation=augmentation, seed=5)
    made = [BatchPart(batches, index, parts)[step] for index in range(parts)]
    assert [len(images) for images, _ in made] == [6 // parts] * parts
    for whole, pieces in zip(batches[step], zip(*made, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize(("settings_", "made"), [({}, 2), ({"elastic": 0.02}, 2), ({"paste": 0.3}, 6)])
def test_a_part_alone_is_worked_on_where_slices_draw_apart(settings_, made, monkeypatch):
    counted = []
    moved = Augmentation.normalized
    monkeypatch.setattr(
        Augmentation,
        "normalized",
        lambda self, images, *rest, **more: counted.append(len(images)) or moved(self, images, *rest, **more),
    )
    SliceBatches(slices("uint8", 3, False), batch_size=6, augmentation=Augmentation(**settings_)).part(0, 1, 3)
    assert counted == [made]
