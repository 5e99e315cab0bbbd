"""The arithmetic of benchmarks/peers.py: operations by hand and by the package's own counter, ratios, the page."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from peers import report, table, work


def record(title, kind, seconds, flops=2e9, batch=4, **more):
    """A record of networks as peers.json holds it."""
    row = {"section": "networks", "work": "infer", "network": "unet", "size": 64, "batch": batch, "width": 8}
    return row | {"title": title, "kind": kind, "seconds": seconds, "flops": flops, "precision": "float32"} | more


def test_operations_of_a_convolution_known_by_hand():
    # 10 x 10 positions, 9 weights for each of 3 channels in and 5 out, a product and a sum each.
    assert work.convolution_flops(100, 9, 3, 5) == 27_000


def test_operations_of_a_graph_are_those_of_its_layers():
    import keras
    import tensorflow as tf
    from peers import keras_side

    from brainseg_keras.models.complexity import count_flops

    x = image = keras.Input((16, 16, 4))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same")(x)  # 64 positions
    x = keras.layers.DepthwiseConv2D(5, padding="same", depth_multiplier=2)(x)
    x = keras.layers.Conv2DTranspose(3, 2, strides=2)(x)  # applied at its 64 inputs
    shared = keras.layers.Conv2D(3, 3, padding="same")
    x = shared(shared(x))  # two calls at 256 positions
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    by_hand = 64 * 9 * 4 * 6 + 64 * 25 * 12 + 64 * 4 * 12 * 3 + 2 * 256 * 9 * 3 * 3 + 3 * 2
    model = keras.Model(image, x)
    assert keras_side.count_flops(tf, model, 16) == 2 * by_hand
    assert count_flops(model, 16) * 1e9 == pytest.approx(2 * by_hand)


def test_a_network_of_twice_the_operations_at_half_the_speed_is_as_fast():
    heavy = record("heavy", "torch", [2.0, 1.0, 9.0], flops=4e9)
    light = record("light", "ours", [1.0], flops=2e9)
    # 4 images of 2 GFLOP in a second; the slow round of the other does not count.
    assert table.rate(light) == table.rate(heavy) == 8
    assert table.images_a_second(heavy) == 2
    assert table.spread([2.0, 1.0, 9.0]) == 4
    # A training step is three passes.
    assert table.rate(light | {"work": "train"}) == 24


def test_ratios_are_best_against_best_and_none_where_one_side_is_missing():
    records = [
        record("slow engine", "ours", [4.0]),
        record("best engine", "ours", [1.0]),
        record("monai", "torch", [2.0]),
        record("medicai", "keras", [8.0]),
        record("broken", "torch", [], error="no such package"),
    ]
    assert table.ratio(records, table.rate, "keras", "torch") == 2
    assert table.ratio(records, table.rate, "keras") == 8
    assert table.ratio(records, table.rate, "albumentations") is None


def test_the_page_shows_ratios_shares_and_why_a_line_is_missing():
    records = [
        record("brainseg_keras, Keras", "ours", [1.0, 1.1, 1.0]),
        record("monai, eager", "torch", [2.0, 2.0, 2.0]),
        record("medicai", "keras", [], error="pip failed: no matching distribution"),
        {"section": "augment", "title": "ours", "kind": "ours", "seconds": [0.5], "amount": 16},
        {"section": "augment", "title": "others", "kind": "albumentations", "seconds": [1.0], "amount": 16},
        {"section": "slice", "title": "ours", "kind": "ours", "seconds": [2.0]},
        {"section": "slice", "title": "others", "kind": "torch", "seconds": [9.0]},
        {"section": "memory", "title": "ours", "kind": "ours", "network": "unet", "work": "train", "megabytes": 812.3},
    ]
    page = report.report(
        {
            "machine": {"processor": "P", "cores": 2, "flags": ["avx2"], "system": "S", "python": "3.11"},
            "settings": {"rounds": 3, "precisions": ["float32"]},
            "minutes": 1.0,
            "versions": {"ours": {"keras": "3.15"}},
            "matrix": [{"gflops": 10.0, "library": "NumPy"}, {"gflops": 16.0, "library": "PyTorch"}],
            "records": records,
        }
    )
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    by_title = {cells[0]: cells[1:] for cells in lines}
    assert by_title["U-Net, inference"][3:] == ["8 (Keras)", "50%", "4 (monai, eager)", "2.00 x", ""]
    assert by_title["monai, eager"] == ["float32", "2.00", "2.00", "0%", "4", "25%", "2.00 x"]
    assert by_title["medicai"][1] == "not measured: pip failed: no matching distribution"
    assert [cells[-1] for cells in lines if cells[0] == "others"] == ["2.00 x", "4.50 x"]
    assert "16 GFLOP/s (PyTorch)" in page and "| 812 |" in page
    # Every row of a table has as many cells as its head.
    tables = page.split("\n\n")
    for block in (block.splitlines() for block in tables if block.startswith("|")):
        assert len({line.count("|") for line in block}) == 1


def test_other_packages_get_what_a_user_has_and_no_test_mask(phantom, tmp_path):
    import numpy as np
    import rivals
    from peers import rival_training

    from brainseg_keras.data.sources import open_source

    source = open_source(phantom)
    rivals.write_patients(source, tmp_path)
    splits = source.table.groupby("split").patient.unique()
    for split, names in splits.items():
        kinds = ("images",) if split == "test" else ("images", "masks")
        assert {file.name for file in (tmp_path / split).iterdir()} == {f"{n}.{k}.npy" for n in names for k in kinds}
    images, masks = rival_training.read(tmp_path / "val", 24)
    volumes = [source.volume(name) for name in sorted(splits["val"])]
    assert images.shape == (8 * len(volumes), 24, 24, 3) and masks.shape == (8 * len(volumes), 24, 24, 1)
    # Half the side: each pixel is the mean of four, and a mask is one of the four.
    whole = np.concatenate([volume.images for volume in volumes]).astype(float)
    means = whole.reshape(-1, 24, 2, 24, 2, 3).mean(axis=(2, 4))
    assert np.abs(images - means).max() <= 0.5
    fours = np.concatenate([volume.masks for volume in volumes]).reshape(-1, 24, 2, 24, 2)
    assert (masks[..., 0] <= fours.max(axis=(2, 4))).all() and (masks[..., 0] >= fours.min(axis=(2, 4))).all()
    assert set(np.unique(masks)) == {0, 1}
