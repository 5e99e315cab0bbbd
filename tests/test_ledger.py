"""The ledger: what is done, by whom and whether it still holds; parts, lists, torn lines, other models."""

import csv
import hashlib
import itertools
import os
import platform
import shutil
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scans import CHANNELS, PICTURES, brightness_model, disc, slice_of

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.errors import InputError
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.inference.ledger import COLUMNS, Entry, Key, Ledger
from brainseg_keras.parts import Part
from brainseg_keras.postprocessing import Postprocessing

KEY = Key("a" * 64, "b" * 16)
names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/\t|"), min_size=1)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(brightness_model()).adapted(preprocessing=Preprocessing(64), channels=CHANNELS)


@pytest.fixture
def scans(tmp_path):
    """Three pictures, each another."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, name in enumerate("abc"):
        Image.fromarray(slice_of(tumour=disc(radius=8 + number))).save(folder / f"{name}.png")
    return folder


def entry(id, *, key=KEY, minute=0, status="done", mask=None):
    """A row by hand, of a scan with one mask."""
    masks = (mask or f"{id}_mask.png",) if status == "done" else ()
    rows = tuple({"file": f"{id}.png", "tumour_size": 5, "mask": name} for name in masks)
    faults = {} if status == "done" else {f"{id}.png": f"{id}.png cannot be read."}
    time = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)).isoformat(timespec="microseconds")
    return Entry(id, status, 0.5, "c" * 64, key, "onnx", masks, "here", time, rows, faults)


def kept(folder):
    """What ledger.csv says, by id."""
    return pd.read_csv(folder / "ledger.csv", dtype=str, keep_default_na=False).set_index("id")


def lines_of(folder):
    """All whole rows of all processes, old ones too."""
    rows = []
    for file in sorted((folder / "ledger" / "scans").glob("*.csv")):
        text = file.read_text(encoding="utf-8")
        rows += list(csv.reader(text[: text.rfind("\n") + 1].split("\n")[1:-1]))
    return pd.DataFrame(rows, columns=COLUMNS)


# ---- a row


def test_a_row_says_what_was_made_of_what(predictor, scans, tmp_path):
    before = datetime.now(UTC)
    done = predict([scans], tmp_path / "out", predictor=predictor)
    table = kept(tmp_path / "out")
    assert list(table.reset_index().columns) == list(COLUMNS)
    assert table.index.tolist() == ["a", "b", "c"]
    for id, row in table.iterrows():
        assert row.input == hashlib.sha256((scans / f"{id}.png").read_bytes()).hexdigest()
        assert row.masks == f"{id}_mask.png" and (tmp_path / "out" / row.masks).is_file()
        assert before <= datetime.fromisoformat(row.time) <= datetime.now(UTC)
        assert 0 < float(row.seconds) < 60
    assert set(table.host) == {platform.node()} and set(table.engine) == {"keras"} and set(table.status) == {"done"}
    assert set(table.model) == {predictor.digest} and set(table.error) == {""}
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    told = done.summary.astype({"tumour_ml": float})
    pd.testing.assert_frame_equal(summary[told.columns], told, check_dtype=False)


def test_a_model_is_known_by_its_file_and_in_memory_by_its_weights(tmp_path):
    brightness_model().save(tmp_path / "bright.keras")
    expected = hashlib.sha256((tmp_path / "bright.keras").read_bytes()).hexdigest()
    assert Predictor(tmp_path / "bright.keras").digest == expected
    one, two, other = (Predictor(brightness_model(level=level)).digest for level in (1.6, 1.6, 1.7))
    assert one == two != other


def test_a_patient_and_its_lone_slice_are_two_scans_and_one_mask(phantom, predictor, tmp_path):
    patient = sorted(path for path in phantom.iterdir() if path.is_dir())[0]
    predict([patient], tmp_path, predictor=predictor, overlays=False)
    predict([patient / f"{patient.name}_1.tif"], tmp_path, predictor=predictor, overlays=False)
    place = f"{patient.name}/{patient.name}"
    assert sorted(kept(tmp_path).index) == [f"{place}_1", f"{place}_1..{patient.name}_8"]
    masks = pd.read_csv(tmp_path / "summary.csv")["mask"].map(os.path.basename)
    assert sorted(masks) == sorted(f"{patient.name}_{number}_mask.png" for number in range(1, 9))
    again = predict([patient], tmp_path, predictor=predictor, overlays=False, skip_done=True)
    assert (again.skipped, len(again.summary)) == (1, 0)


# ---- what is done


def test_what_is_done_is_left_out_and_what_is_new_is_made(predictor, scans, tmp_path, caplog):
    predict([scans / "a.png", scans / "b.png"], tmp_path / "out", predictor=predictor)
    times = {name: (tmp_path / "out" / f"{name}_mask.png").stat().st_mtime_ns for name in "ab"}
    done = predict([scans], tmp_path / "out", predictor=predictor, skip_done=True)
    assert done.skipped == 2 and done.summary.file.tolist() == [str(scans / "c.png")]
    assert {name: (tmp_path / "out" / f"{name}_mask.png").stat().st_mtime_ns for name in "ab"} == times
    assert "2 of 3 scans are done and left out; the others are 1 missing." in caplog.text
    assert len(pd.read_csv(tmp_path / "out" / "summary.csv")) == 3
    assert predict([scans], tmp_path / "out", predictor=predictor, skip_done=True).skipped == 3


@pytest.mark.parametrize("which", ["_mask.png", "all"])
def test_a_scan_whose_mask_is_gone_is_made_again(which, predictor, scans, tmp_path):
    predict([scans], tmp_path / "out", predictor=predictor)
    expected = (tmp_path / "out" / "b_mask.png").read_bytes()
    for file in (tmp_path / "out").glob("b_mask.png" if which == "_mask.png" else "*.png"):
        file.unlink()
    done = predict([scans], tmp_path / "out", predictor=predictor, skip_done=True)
    assert done.skipped == (2 if which == "_mask.png" else 0)
    assert (tmp_path / "out" / "b_mask.png").read_bytes() == expected
    assert len(pd.read_csv(tmp_path / "out" / "summary.csv")) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": 1.9}, "made by another model"),
        ({"threshold": 0.3}, "made with other settings"),
        ({"size": 32}, "made with other settings"),
        ({"probabilities": True}, "made with other settings"),
        ({"batch_size": 3}, None),
    ],
    ids=str,
)
def test_another_model_or_setting_makes_them_again(change, reason, predictor, scans, tmp_path, caplog):
    predict([scans], tmp_path / "out", predictor=predictor)
    model = brightness_model(level=change.get("model", 1.6))
    other = Predictor(model, batch_size=change.get("batch_size", 16)).adapted(
        preprocessing=Preprocessing(change.get("size", 64)),
        channels=CHANNELS,
        postprocessing=Postprocessing(change.get("threshold", 0.5)),
    )
    written = {"probabilities": change.get("probabilities", False)}
    predict([scans / "a.png"], tmp_path / "out", predictor=other, **written)
    caplog.clear()
    done = predict([scans], tmp_path / "out", predictor=other, skip_done=True, **written)
    assert done.skipped == (3 if reason is None else 1)
    assert reason is None or f"1 of 3 scans are done and left out; the others are 2 {reason}." in caplog.text
    again = 1 if reason is None else 2
    assert lines_of(tmp_path / "out").groupby("id").size().to_dict() == {"a": 2, "b": again, "c": again}
    assert kept(tmp_path / "out").model.nunique() == 1


def test_a_failed_scan_is_tried_again_and_an_incomplete_one(own_phantom, predictor, tmp_path):
    patient = sorted(path for path in own_phantom.iterdir() if path.is_dir())[0]
    good, bad = tmp_path / "good.tif", patient / f"{patient.name}_3.tif"
    shutil.copy(bad, good)
    (own_phantom / "broken.png").write_text("none")
    bad.write_bytes(good.read_bytes()[:300])
    for _ in range(2):
        done = predict([own_phantom], tmp_path / "out", predictor=predictor, overlays=False, skip_done=True)
        assert sorted(done.failures) == [str(patient / bad.name), str(own_phantom / "broken.png")]
        status = kept(tmp_path / "out").status
        assert status["broken"] == "failed" and sorted(status) == ["done"] * 5 + ["failed", "incomplete"]
    assert done.skipped == 5
    shutil.copy(good, bad)
    (own_phantom / "broken.png").unlink()
    done = predict([own_phantom], tmp_path / "out", predictor=predictor, overlays=False, skip_done=True)
    assert (done.skipped, len(done.summary), done.failures) == (5, 8, {})
    table = pd.read_csv(tmp_path / "out" / "summary.csv", keep_default_na=False)
    assert (table["mask"] != "").sum() == 48 and table.error[table.error != ""].index.size == 1


# ---- lines


def test_the_last_row_of_a_scan_counts_whichever_file_it_stands_in(tmp_path):
    first, second = Ledger(tmp_path), Ledger(tmp_path)
    second.append(entry("a", minute=2))
    first.append(entry("a", minute=1, status="failed"))
    first.append(entry("b", minute=1))
    second.append(entry("b", minute=3, key=Key("z", "y")))
    (tmp_path / "a_mask.png").touch()
    assert first.standing(["b", "a", "c"], KEY).tolist() == ["made by another model", "done", "missing"]
    assert first.standing(["b", "a", "c"]).tolist() == ["without their mask", "done", "missing"]
    second.append(entry("a", minute=4, status="failed"))
    assert first.standing(["a"], KEY).tolist() == ["failed"]


@settings(max_examples=40, deadline=None)
@given(ids=st.lists(names, min_size=1, max_size=5, unique=True), share=st.floats(0, 1))
def test_a_ledger_cut_anywhere_has_the_whole_rows_before_the_cut(ids, share, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    ledger = Ledger(folder)
    for minute, id in enumerate(ids):
        ledger.append(entry(id, minute=minute))
    ledger.close()
    for file in (folder / "ledger").rglob("*.csv"):
        data = file.read_bytes()
        file.write_bytes(data[: round(share * len(data))])
    table = Ledger(folder).table()
    assert table["id"].tolist() == ids[: len(table)]
    assert table["masks"].tolist() == [f"{id}_mask.png" for id in ids[: len(table)]]
    assert len(table) == (len(ids) if share == 1 else max(0, file_lines(folder) - 1))
    # And it is added to again, by a process of its own.
    again = Ledger(folder)
    again.append(entry("new", minute=9))
    assert sorted(again.table()["id"]) == sorted({*ids[: len(table)], "new"})
    again.join()
    shutil.rmtree(folder)


def file_lines(folder):
    """Whole lines of the one file, its header among them."""
    return max(file.read_bytes().count(b"\n") for file in (folder / "ledger" / "scans").glob("*.csv"))


# ---- parts


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(names, max_size=40, unique=True), count=st.integers(1, 12))
def test_parts_cover_every_scan_once_whatever_else_there_is(ids, count):
    parts = [Part(index, count) for index in range(1, count + 1)]
    assert [sum(part.holds(id) for part in parts) for id in ids] == [1] * len(ids)
    assert [Part.parse(str(part)) for part in parts] == parts


@pytest.mark.parametrize(("index", "count"), [(0, 3), (4, 3), (1, 0), (-1, 3), (1, 10**6 + 1)])
def test_a_part_that_is_none_is_refused(index, count):
    with pytest.raises(InputError, match=f"part is two whole numbers.*Received: '{index}/{count}'"):
        Part(index, count)


def test_parts_are_even_and_the_same_everywhere():
    sizes = [sum(Part(index, 4).holds(f"scan_{number:06}") for number in range(4000)) for index in range(1, 5)]
    assert sum(sizes) == 4000 and min(sizes) > 900
    # As any other program would find it.
    digest = int(hashlib.sha256(b"TCGA_CS_4941").hexdigest()[:16], 16)
    assert [index for index in range(1, 8) if Part(index, 7).holds("TCGA_CS_4941")] == [digest % 7 + 1]


@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(names, min_size=1, max_size=12, unique_by=str.lower),
    count=st.integers(1, 4),
    turns=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12),
)
def test_any_interleaving_of_parts_that_die_does_every_scan_once(ids, count, turns, tmp_path_factory):
    """Each turn a part begins anew, does some of its scans, dies within a line, and is continued by another turn."""
    folder, clock = tmp_path_factory.mktemp("parts"), itertools.count()
    for which, steps in [*turns, *((index, len(ids)) for index in range(count))]:
        part, ledger = Part(which % count + 1, count), Ledger(folder)
        mine = [id for id in ids if part.holds(id)]
        left = [id for id, state in zip(mine, ledger.standing(mine, KEY), strict=True) if state != "done"]
        for id in left[:steps]:
            mask = f"{hashlib.sha256(id.encode()).hexdigest()}_mask.png"
            (folder / mask).touch()
            ledger.append(entry(id, minute=next(clock), mask=mask))
        ledger.close()
        for file in (folder / "ledger").rglob("*.csv"):
            with file.open("ab") as opened:
                opened.write(b'"half a li')
    made = lines_of(folder)
    assert sorted(made["id"]) == sorted(ids), "each once, and none twice"
    assert set(Ledger(folder).standing(ids, KEY)) == {"done"}
    shutil.rmtree(folder)


def test_the_last_part_writes_the_summary(predictor, scans, tmp_path):
    for name in "defgh":
        PICTURES["gray.png"](scans / f"{name}.png")
    (scans / "broken.png").write_text("none")
    parts = [Part(index, 3) for index in (2, 3, 1)]
    sizes = []
    for part in parts:
        assert not (tmp_path / "out" / "summary.csv").exists()
        sizes.append(len(predict([scans], tmp_path / "out", predictor=predictor, part=part).summary))
    assert sum(sizes) == 8 and min(sizes) > 0
    table = pd.read_csv(tmp_path / "out" / "summary.csv", keep_default_na=False)
    expected = sorted(["broken.png", *(f"{name}.png" for name in "abcdefgh")])
    assert sorted(table.file.map(os.path.basename)) == expected
    assert len(kept(tmp_path / "out")) == 9


def test_a_part_that_another_process_works_on_is_refused(predictor, scans, tmp_path):
    for name in "defgh":
        PICTURES["gray.png"](scans / f"{name}.png")
    with Ledger(tmp_path).hold(Part(1, 2)):
        words = r"1-of-2 is in use by process \d+ on .*Wait for it to end, or give another --part"
        with pytest.raises(InputError, match=words):
            predict([scans], tmp_path, predictor=predictor, part=Part(1, 2))
        predict([scans], tmp_path, predictor=predictor, part=Part(2, 2))
    assert set(lines_of(tmp_path)["id"]) == {id for id in "abcdefgh" if not Part(1, 2).holds(id)}
