"""What may be expected of a mask: fitted on patients out of fold, and said wherever a mask is made or scored."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scans import CHANNELS, brightness_model, disc, lgg_folder, slice_of
from scipy.special import expit
from scipy.stats import spearmanr

from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.scans import find_scans
from brainseg_keras.data.sources import open_source
from brainseg_keras.errors import InputError
from brainseg_keras.evaluation import confusion, dice
from brainseg_keras.expectation import Expectation, _apart, _factor, fit_expectation, scan_features
from brainseg_keras.inference import Predictor, predict
from brainseg_keras.inference.outlook import OUTLOOK, Outlook
from brainseg_keras.inference.summary import COLUMNS
from brainseg_keras.postprocessing import Postprocessing
from brainseg_keras.reports import evaluate
from brainseg_keras.spec import NetworkSpec

KNOWN = Expectation((3.0, -8.0, -2.0), n=30, spearman=0.6, factor=1.5, usual={"share of head": (0.9, 1.0)})


def patients(seed, count, line=(3.0, -6.0, -4.0), noise=0.03, spread=0.2):
    """Patients whose Dice follows a known curve, and whose true volume lies around the predicted one."""
    rng = np.random.default_rng(seed)
    apart, doubt = rng.uniform(0, 0.6, count), rng.uniform(0, 0.5, count)
    expected = expit(np.stack([np.ones(count), apart, doubt], axis=-1) @ line)
    volumes = rng.lognormal(3, 1, count)
    return pd.DataFrame(
        {
            "patient": [f"P{index}" for index in range(count)],
            "dice": np.clip(expected + rng.normal(0, noise, count), 0, 1),
            "disagreement": apart,
            "confidence": 1 - doubt,
            "volume_pred": volumes,
            "volume_true": volumes * np.exp(rng.standard_t(3, count) * spread),
        }
    )


@pytest.mark.parametrize("line", [(3.0, -6.0, -4.0), (1.0, -2.0, 0.0)])
def test_the_curve_that_made_the_patients_comes_back(line):
    found = fit_expectation(patients(0, 400, line, noise=0.01))
    np.testing.assert_allclose(found.line, line, atol=0.3)
    for apart, confidence in ((0.0, 1.0), (0.3, 0.8), (0.6, 0.5)):
        expected = expit(line[0] + line[1] * apart + line[2] * (1 - confidence))
        assert found.dice(apart, confidence) == pytest.approx(expected, abs=0.02)
    assert found.spearman > 0.9 and found.n == 400


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.integers(10, 30))
def test_more_doubt_never_promises_more(seed, count):
    """Even where the patients say the opposite."""
    table = patients(seed, count)
    table["dice"] = 1 - table.dice
    found = fit_expectation(table)
    grid = [[found.dice(apart, sure) for apart in np.linspace(0, 1, 5)] for sure in np.linspace(1, 0, 5)]
    assert (np.diff(grid, axis=0) <= 1e-12).all() and (np.diff(grid, axis=1) <= 1e-12).all()


def test_the_correlation_is_of_patients_who_were_left_out():
    table = patients(1, 12, noise=0.2)
    left_out = []
    for index, row in table.iterrows():
        left_out.append(fit_expectation(table.drop(index)).dice(row.disagreement, row.confidence))
    assert fit_expectation(table).spearman == pytest.approx(spearmanr(left_out, table.dice).statistic)
    assert fit_expectation(table.assign(dice=0.8)).spearman is None


def test_what_cannot_be_told_from_doubt_has_no_correlation():
    """The more doubt the better the masks: the curve is flat, and of patients left out its level goes against them."""
    table = patients(0, 20)
    found = fit_expectation(table.assign(confidence=1 - table.disagreement, dice=0.2 + table.disagreement))
    assert found.spearman is None and found.line[1] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("ratios", "factor", "coverage"),
    [
        # Of 10 the tenth, ceil(9.9). Of 9 the ninth: without the 3.0 that is 2.0, without another one 3.0.
        ([2.0] * 9 + [3.0], 3.0, 0.9),
        # Of 19 the 18th, ceil(18.0); too small counts as too large. Of 18 the 18th: it holds all but the 5.0.
        ([2.0] * 17 + [1 / 3, 5.0], 3.0, 18 / 19),
        # One invented tumour of 19 is beyond the 18th, and without it no interval holds it.
        ([2.0] * 18 + [0.0], 2.0, 18 / 19),
        # Of 10 it is the tenth: no end.
        ([2.0] * 9 + [0.0], None, None),
        # One in whom nothing was marked: of 9 there is a ninth, but of 8 no interval to look at.
        ([2.0] * 9 + [None], 2.0, None),
        # Two of them: of 8 there is no ninth.
        ([2.0] * 8 + [None, None], None, None),
    ],
)
def test_the_interval_by_hand(ratios, factor, coverage):
    table = patients(0, len(ratios))
    table["volume_pred"] = [0.0 if ratio is None else 7.0 for ratio in ratios]
    table["volume_true"] = [9.0 if ratio is None else 7.0 * ratio for ratio in ratios]
    found = fit_expectation(table)
    assert found.factor == (None if factor is None else pytest.approx(factor))
    assert found.interval(30.0) == (None if factor is None else pytest.approx((30 / factor, 30 * factor)))
    assert found.interval(0.0) is None
    assert found.coverage == (None if coverage is None else pytest.approx(coverage))


def test_the_interval_holds_nine_of_ten_new_patients():
    """Over many draws of few patients, heavy tails or not: between 0.9 and 0.9 + 1 / (n + 1)."""
    for count in (19, 40):
        held = []
        for seed in range(300):
            table = patients(seed, count + 50)
            # The interval alone: a curve for each draw would take minutes.
            factor = _factor(_apart(*table[["volume_true", "volume_pred"]][:count].to_numpy().T))
            ratio = np.abs(np.log(table.volume_true / table.volume_pred))[count:]
            held.append((ratio <= np.log(factor)).mean())
        assert 0.89 < np.mean(held) < 0.91 + 1 / (count + 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns=["confidence", "dice"]), "Missing: dice, confidence"),
        (lambda table: table[:9], "10 out-of-fold patients or more. Received: 9"),
        (lambda table: table.assign(dice=np.nan), "without gaps"),
        (lambda table: table.assign(volume_true="much"), "without gaps"),
    ],
)
def test_a_table_that_says_too_little_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        fit_expectation(change(patients(0, 20)))


@settings(deadline=None)
@given(st.floats(0.1, 50), st.floats(-100, 1000))
def test_features_know_no_unit_of_brightness(gain, offset):
    volume = np.stack([slice_of(tumour=disc(radius=radius)) for radius in (5, 10, 15)])[..., None].astype(np.float32)
    volume = volume + np.random.default_rng(0).uniform(0, 20, volume.shape).astype(np.float32)
    first = scan_features(volume, ["FLAIR"])
    assume(np.ptp(np.float32(gain) * volume) > 1)
    second = scan_features(np.float32(gain) * volume + np.float32(offset), ["FLAIR"])
    assert second == pytest.approx(first, rel=2e-2, abs=2e-2)


def test_features_of_a_scan_by_hand():
    head = np.zeros((2, 40, 60))
    head[:, 10:30, 10:50] = 100.0
    images = np.stack([head, head, 2 * head + np.arange(60) % 4], axis=-1)
    found = scan_features(images, ("T1", "FLAIR", "T1ce"), spacing=(5.0, 0.5, 1.5))
    assert found["sequences"] == 2
    assert found["share of head"] == pytest.approx(20 * 40 / (40 * 60))
    assert found["bright end of T1"] == 1 and found["spread of T1"] == 0 and found["spread of T1ce"] > 0
    assert (found["step between slices in mm"], found["field of view in mm"]) == (5, 90)
    assert "field of view in mm" not in scan_features(images, ("T1", "FLAIR", "T1ce"))


def test_what_is_unlike_the_training_patients_is_named():
    rows = [{"share of head": share, "sequences": 3.0} for share in (0.2, 0.3, 0.4)] + [{"field of view in mm": 200.0}]
    known = fit_expectation(patients(0, 20), rows)
    assert known.usual["share of head"] == pytest.approx((0.18, 0.42))
    assert known.unlike({"share of head": 0.41, "sequences": 3.0, "new": 7.0}) == []
    said = known.unlike({"share of head": 0.5, "sequences": 1.0, "field of view in mm": 210.0})
    assert said == [
        "share of head 0.5, usual 0.18 to 0.42",
        "sequences 1, usual 3 to 3",
        "field of view in mm 210, usual 200 to 200",
    ]


expectations = st.builds(
    Expectation,
    st.tuples(st.floats(-9, 9), st.floats(-9, 0), st.floats(-9, 0)),
    st.integers(10, 99),
    st.one_of(st.none(), st.floats(-1, 1)),
    st.one_of(st.none(), st.floats(1, 9)),
    st.floats(0, 1),
    st.dictionaries(st.text(max_size=3), st.tuples(st.floats(-9, 0), st.floats(0, 9)), max_size=3),
    st.one_of(st.none(), st.floats(0, 1)),
)


@settings(deadline=None)
@given(expectations)
def test_it_travels_with_the_network(known):
    spec = NetworkSpec(("FLAIR",), expectation=known)
    assert NetworkSpec.from_info(json.loads(json.dumps(spec.to_info()))) == spec
    assert "expectation" not in NetworkSpec(("FLAIR",)).to_info()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return lgg_folder(tmp_path_factory.mktemp("data") / "kaggle_3m", patients=5, slices=6)


def leaning(**changes):
    """A network that sees the mirror image otherwise: it looks at the pixel to the left."""
    import keras

    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="left")(image))
    kernel = np.zeros((3, 3, 3, 1), "float32")
    kernel[1, 0] = 40 / 3
    model.get_layer("left").set_weights([kernel, np.array([-40 * 1.6], "float32")])
    return Predictor(model).adapted(preprocessing=Preprocessing(60), channels=CHANNELS, **changes)


def test_the_report_says_what_was_expected_and_what_came(data, tmp_path):
    source = open_source(data)
    plain = evaluate(leaning(), source, split="all", output=tmp_path / "plain")
    found = evaluate(leaning(expectation=KNOWN), source, split="all", output=tmp_path / "report")
    assert (
        not {"expected_dice", "disagreement", "remarks"} & set(plain.per_patient) and "expectation" not in plain.report
    )
    assert "Expected Dice" not in (tmp_path / "plain" / "report.html").read_text()
    network, table = leaning(), found.per_patient.set_index("patient")
    pd.testing.assert_frame_equal(found.per_patient[list(plain.per_patient)], plain.per_patient)
    for patient, row in table.iterrows():
        volume = source.volume(patient)
        both = network.both_ways(volume.images, volume.intensity)
        masks = [network.masks(answer) > 0 for answer in both]
        assert row.disagreement == pytest.approx(1 - dice(confusion(*masks)))
        sure = both[0][..., 0][masks[0]].mean()
        assert row.expected_dice == pytest.approx(expit(3 - 8 * row.disagreement - 2 * (1 - sure)))
        assert (row.volume_low, row.volume_high) == pytest.approx((row.volume_pred / 1.5, row.volume_pred * 1.5))
        assert "unlike the training data: share of head" in row.remarks
        assert ("is below 0.7" in row.remarks) == (row.expected_dice < 0.7)
    assert table.disagreement.min() > 0
    told = found.report["expectation"]
    assert told["n"] == len(table) == told["remarks"] == 5
    inside = (table.volume_true / table.volume_pred).between(1 / 1.5, 1.5)
    assert told["volume_held"] == inside.sum() and told["volume_n"] == 5
    assert told["spearman"] == pytest.approx(spearmanr(table.expected_dice, table.dice).statistic)
    assert "Expected Dice per patient" in (tmp_path / "report" / "report.html").read_text()


def test_the_summary_says_it_and_other_rows_stay(data, tmp_path, caplog):
    scan, other = sorted(data.iterdir())[:2]
    predict([other], tmp_path, predictor=leaning())
    assert tuple(pd.read_csv(tmp_path / "summary.csv").columns) == COLUMNS
    rows = predict([scan], tmp_path, predictor=leaning(expectation=KNOWN)).summary
    assert "unlike the training data: share of head" in caplog.text
    table = pd.read_csv(tmp_path / "summary.csv")
    assert tuple(table.columns) == COLUMNS + OUTLOOK
    first, second = table[:6], table[6:]
    assert first.expected_dice.isna().all() and second.expected_dice.nunique() == 1 and len(second) == len(rows) == 6
    # The slices of one patient share the outlook of the whole, and none has an interval of its own.
    assert second.size_low.isna().all() and second.remarks.notna().all()
    # Of a lone slice nothing is expected: it was measured on whole patients.
    predict([next(scan.glob("*_3.tif"))], tmp_path / "lone", predictor=leaning(expectation=KNOWN))
    assert tuple(pd.read_csv(tmp_path / "lone" / "summary.csv").columns) == COLUMNS


def test_a_volume_has_its_interval_in_voxels_and_ml(tmp_path):
    from scans import nifti_file

    nifti_file(tmp_path / "scan.nii.gz", "LPS")
    network = Predictor(brightness_model((1,))).adapted(
        preprocessing=Preprocessing(32), channels=("FLAIR",), expectation=KNOWN
    )
    row = predict([tmp_path / "scan.nii.gz"], tmp_path / "out", predictor=network).summary.iloc[0]
    assert row.tumour_size > 0 and row.tumour_ml > 0
    for name, size in (("size", row.tumour_size), ("ml", row.tumour_ml)):
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((size / 1.5, size * 1.5))
    # With another rule than the one it was measured with nothing is expected.
    assert network.adapted(postprocessing=Postprocessing(0.3)).spec.expectation is None


def test_words_say_how_far_an_outlook_can_be_trusted():
    known = dataclasses.replace(KNOWN, coverage=0.875)
    assert Outlook(0.1, 0.834, "", known).facts(30.0, "ml") == {
        "Expected Dice": "0.83 (rank correlation with the true one 0.60)",
        "Volume, 90 % interval": "20.0 to 45.0 ml (held the true one in 88 % of patients)",
    }
    bare = dataclasses.replace(KNOWN, spearman=None)
    assert Outlook(0.1, 0.5, "", bare).facts(0.0, "ml") == {"Expected Dice": "0.50"}
    assert Outlook(0.1, 0.5, "odd", bare).facts(30.0, "ml") == {
        "Expected Dice": "0.50 (odd)",
        "Volume, 90 % interval": "20.0 to 45.0 ml",
    }


def test_the_page_says_it_at_the_networks_own_threshold(data):
    from brainseg_keras.app.study import Study
    from brainseg_keras.app.view import Wish, render

    (scan,) = find_scans([sorted(data.iterdir())[0]])
    study = Study(scan, "scan")
    study.answer("known", leaning(expectation=KNOWN), lambda share: None)
    shown = render(study, Wish(3, threshold=0.5))
    assert "<dt>Expected Dice</dt>" in shown and "<dt>Volume, 90 % interval</dt>" in shown
    assert "Expected Dice" not in render(study, Wish(3, threshold=0.6))
    plain = Study(scan, "scan")
    plain.answer("plain", leaning(), lambda share: None)
    assert "Expected Dice" not in render(plain, Wish(3, threshold=0.5))


@pytest.mark.parametrize("text", ["[]", '{"line": [1, 2, 0], "n": 20}', '{"line": [1, -2], "n": 20}', '{"n": 20}'])
def test_a_damaged_expectation_is_named(text, tmp_path):
    brightness_model().save(tmp_path / "best.keras")
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "expectation.json").write_text(json.dumps(KNOWN.to_info()))
    assert Predictor(tmp_path).spec.expectation == KNOWN
    (tmp_path / "expectation.json").write_text(text)
    with pytest.raises(InputError, match=r"expectation\.json.*Restore it, or remove it"):
        Predictor(tmp_path)
