"""The report as one HTML page with its pictures inside it."""

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from brainseg_keras.data.modalities import flair_index
from brainseg_keras.evaluation import interval_text
from brainseg_keras.html import whole_page
from brainseg_keras.postprocessing import Postprocessing, choice_from_info
from brainseg_keras.reports.evaluation import Evaluation
from brainseg_keras.reports.outlook import outlook_words
from brainseg_keras.visualization import (
    PREDICTION,
    TRUTH,
    draw_outlines,
    plot_calibration,
    plot_dice_against_volume,
    plot_precision_recall,
    to_gray,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #888; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; } figcaption { font-size: .85rem; }
img { max-width: 100%; } .pictures img { width: 17rem; } .note { color: #555; }
@media print { body { max-width: none; margin: 0; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def write_page(evaluation: Evaluation, path: Path) -> None:
    """Write the page.

    Args:
        evaluation: What was found.
        path: HTML file.
    """
    report = evaluation.report
    title = f"{Path(report['model']).name}: {report['split']} patients"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(_headline(report))}</p>",
        f'<p class="note">{html.escape(_rules(report))}</p>',
        *([f"<p>{html.escape(expected)}</p>"] if (expected := outlook_words(report)) else []),
        "<h2>Over patients</h2>",
        _table(_patients_table(report)),
        *_groups(report),
        *_folds(report),
        *_regions(report),
        "<h2>Slices, under each rule for empty ones</h2>",
        _table(_slices_table(report)),
        "<h2>Pooled over all pixels</h2>",
        _table(_pooled_table(report)),
        "<h2>Confusion</h2>",
        _table(pd.DataFrame(report["confusion"]).T.rename_axis("counted by")),
        "<h2>Classification report, by pixel and by slice</h2>",
        *(_table(_classification(report, by)) for by in ("pixels", "slices")),
        "<h2>Curves</h2>",
        *_curves(evaluation),
        "<h2>The worst and the best patients</h2>",
        '<p class="note">The slice with most tumour; green: truth, red: answer.</p>',
        _gallery(evaluation),
        "<h2>Each patient</h2>",
        _table(_each_patient(evaluation.per_patient)),
    ]
    path.write_text(whole_page(title, "".join(parts), STYLE), encoding="utf-8", errors="backslashreplace")


def _headline(report: dict[str, Any]) -> str:
    dice = report["patients"]["dice"]
    return (
        f"Dice per patient {dice['mean']:.3f} (95 % interval {interval_text(dice['low'], dice['high'])}), median "
        f"{dice['median']:.3f}, n = {dice['n']}. Role of these patients: {report['role']}."
    )


def _rules(report: dict[str, Any]) -> str:
    chosen = report["postprocessing"]
    said = "as in each fold" if "by_fold" in chosen else str(choice_from_info(chosen)[0])
    # Masks that another program wrote have none.
    calibration = f"Calibration: {chosen['calibration']}. " if "calibration" in chosen else ""
    return (
        f"Masks: {said}; chosen on: {chosen['chosen_on']}. {calibration}"
        f"Distances: {report['distances']}; surface Dice at {report['surface_dice_tolerance']:g} {report['unit']}; "
        f"volumes in {report['volume_unit']}. Surface: {report['surface_rule']}. "
        f"Rule for empty masks: {report['empty_rule']}. "
        "Intervals: studentized bootstrap over patients."
    )


def _patients_table(report: dict[str, Any]) -> pd.DataFrame:
    rows = pd.DataFrame(report["patients"]).T.drop(columns=["low", "high"]).astype(float)
    rows["95 % interval"] = [interval_text(row["low"], row["high"]) for row in report["patients"].values()]
    nothing = report["all_background"]["patients"]
    rows["all background"] = [f"{nothing[name]['mean']:.3f}" if name in nothing else "" for name in rows.index]
    rows["n"] = rows.n.astype(int).astype(str)
    return rows.rename_axis("score")


def _groups(report: dict[str, Any]) -> list[str]:
    """Show each role by itself, where there are several: no mean is over patients that the network saw and others."""
    if len(report["groups"]) < 2:
        return []
    rows = []
    for role, group in report["groups"].items():
        dice = group["patients"]["dice"]
        row = {"role": role, "what these patients did": group["role"], "n": str(dice["n"]), "Dice, mean": dice["mean"]}
        row |= {"95 % interval": interval_text(dice["low"], dice["high"]), "Dice, median": dice["median"]}
        rows.append(row | {"in the rest": "yes" if role in report["headline"] else "no"})
    return ["<h2>By role</h2>", _table(pd.DataFrame(rows).set_index("role"))]


def _folds(report: dict[str, Any]) -> list[str]:
    """Show what only a cross-validation has: each fold by itself, the worst patients, and choices made across folds."""
    if "folds" not in report:
        return []
    rows = pd.DataFrame(report["folds"])
    rows["95 % interval"] = [interval_text(row["low"], row["high"]) for row in report["folds"]]
    table = rows.set_index("fold")[["n", "mean", "median", "95 % interval", "run"]].astype({"n": str})
    parts = ["<h2>Dice by fold</h2>", _table(table)]
    return [*parts, *(f"<p>{html.escape(words)}</p>" for words in describe_folds(report))]


def describe_folds(report: dict[str, Any]) -> list[str]:
    """Say in sentences what a report on folds has beside the means.

    Args:
        report: Of `out_of_fold`.

    Returns:
        The sentences.
    """
    worst, calibration = report["worst_tenth"], report["calibration"]
    words = [f"Worst tenth of the patients: mean Dice {worst['mean']:.3f}, n = {worst['n']}."]
    after = f"{calibration['after']:.4f}" if calibration["after"] is not None else f"none ({calibration['why_not']})"
    words.append(
        f"Expected calibration error {calibration['before']:.4f}; with the temperature and bias of the other folds "
        f"{after}, n = {calibration['n']}."
    )
    if "tuned" in report:
        tuned, against = report["tuned"]["dice"], report["tuned"]["against_default"]
        words.append(
            f"Tuned on the other folds: Dice per patient {tuned['mean']:.3f} (95 % interval "
            f"{interval_text(tuned['low'], tuned['high'])}), median {tuned['median']:.3f}, n = {tuned['n']}; "
            f"{against['difference']:+.4f} against the default (95 % interval "
            f"{interval_text(against['low'], against['high'], '+.4f')}). Chosen on all: "
            f"{Postprocessing(**report['tuned']['ships'])}."
        )
    return words


def _regions(report: dict[str, Any]) -> list[str]:
    if "regions" not in report:
        return []
    rows = []
    for name, scores in report["regions"].items():
        row: dict[str, Any] = {"region": name}
        for score, label in (("dice", "Dice"), ("hd95", "HD95"), ("recall", "recall"), ("precision", "precision")):
            row |= {f"{label}, mean": scores[score]["mean"], f"{label}, median": scores[score]["median"]}
        rows.append(row | {"n": str(scores["dice"]["n"])})
    return ["<h2>Regions, as BraTS scores them</h2>", _table(pd.DataFrame(rows).set_index("region"))]


def _slices_table(report: dict[str, Any]) -> pd.DataFrame:
    nothing = report["all_background"]["slices"]
    rows = [
        {
            "rule": rule.replace("_", " "),
            "mean Dice": mean["mean"],
            "n": str(mean["n"]),
            "all background": nothing[rule]["mean"],
        }
        for rule, mean in report["slices"].items()
    ]
    return pd.DataFrame(rows).set_index("rule")


def _pooled_table(report: dict[str, Any]) -> pd.DataFrame:
    pooled = {key: value for key, value in report["pooled_pixels"].items() if key not in ("patients", "pixels")}
    pooled["average precision"] = report["average_precision"]
    pooled["expected calibration error"] = report["expected_calibration_error"]
    counts = f"{report['pooled_pixels']['pixels']:,} pixels of {report['pooled_pixels']['patients']} patients"
    return pd.DataFrame({counts: pooled}).rename_axis("score")


def _classification(report: dict[str, Any], by: str) -> pd.DataFrame:
    rows = {name: row for name, row in report["classification_report"][by].items() if isinstance(row, dict)}
    table = pd.DataFrame(rows).T.rename_axis(by)
    return table.assign(support=table.support.astype(int).astype(str))


def _each_patient(table: pd.DataFrame) -> pd.DataFrame:
    columns = ["role", "dice", "iou", "precision", "recall", "hd95", "average_surface_distance", "surface_dice"]
    columns += ["lesions", "lesions_found", "lesions_invented", "volume_true", "volume_pred"]
    columns += [name for name in ("volume_low", "volume_high", "expected_dice", "remarks") if name in table]
    return table.sort_values("dice", kind="stable").set_index("patient")[columns]


def _table(table: pd.DataFrame) -> str:
    text = table.reset_index().to_html(index=False, border=0, na_rep="", float_format=lambda value: f"{value:.3f}")
    return f'<div class="wide">{text}</div>'


def _curves(evaluation: Evaluation) -> list[str]:
    precision, recall = evaluation.histogram.precision_recall()
    drawings = [
        ("Precision and recall over thresholds, pixels pooled", lambda f: plot_precision_recall(precision, recall, f)),
        ("Calibration, pixels pooled", lambda f: plot_calibration(*evaluation.histogram.calibration(), f)),
        ("Dice against tumour volume", lambda f: _against_volume(evaluation, f)),
    ]
    if evaluation.report["expected_calibration_error"] is None:
        # Masks without probabilities have no curves over thresholds.
        drawings = drawings[2:]
    figures = []
    for caption, draw in drawings:
        buffer = io.BytesIO()
        draw(buffer)
        figures.append(figure(buffer.getvalue(), caption))
    return [f'<div class="pictures">{"".join(figures)}</div>']


def _against_volume(evaluation: Evaluation, file: io.BytesIO) -> None:
    table = evaluation.per_patient[evaluation.per_patient.role.isin(evaluation.report["headline"])]
    plot_dice_against_volume(table.volume_true, table.dice, file, unit=evaluation.report["volume_unit"])


def _gallery(evaluation: Evaluation) -> str:
    order = evaluation.per_patient.sort_values("dice", kind="stable")
    figures = []
    for row in order[order.patient.isin(list(evaluation.pictures))].itertuples():
        image, truth, answer = evaluation.pictures[row.patient]
        picture = draw_outlines(to_gray(image, flair_index(image.shape[-1])), [(truth, TRUTH), (answer, PREDICTION)])
        figures.append(figure(png(picture), f"{row.patient}: Dice {row.dice:.3f} ({row.role})"))
    return f'<div class="pictures">{"".join(figures)}</div>'


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def figure(picture: bytes, caption: str) -> str:
    data = base64.b64encode(picture).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
