"""brainseg evaluate, out-of-fold, calibrate, tune and compare."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import typer

from brainseg_keras import ranges
from brainseg_keras.cli import options
from brainseg_keras.cli.options import DATA, JSON, ROOT, number, takes_layout
from brainseg_keras.errors import InputError
from brainseg_keras.files import check_output
from brainseg_keras.folds import FILE
from brainseg_keras.parts import Part
from brainseg_keras.terminal import plain_console, progress_bar

OWN_MODEL = options.path(
    ..., "--model", help="Run folder, folder of folds, or a model file with -o; of several, the mean."
)
SPACING = typer.Option(
    None,
    "--spacing",
    help=f"Millimeters between slices, rows and columns, such as 5,0.9,0.9; each {ranges.SPACING}. Without it, "
    "where the files do not say, distances are measured slice by slice in pixels.",
)
TOLERANCE = number(
    2.0,
    "--tolerance",
    within=ranges.TOLERANCE,
    help="Of surface Dice, in mm, or in pixels where no spacing is known.",
)


@takes_layout
def evaluate_command(
    model: list[str] = options.MODEL,
    data: str = DATA,
    split: str = typer.Option("test", help="train, val, test or all."),
    output: str = options.path(
        None, "-o", "--output", kind="folder", help="Folder of the report; default <run>/evaluation/<split>."
    ),
    spacing: str = SPACING,
    tolerance: float = TOLERANCE,
    include_seen: bool = typer.Option(
        False, "--include-seen", help="Score patients of val and test that trained or chose the network, by themselves."
    ),
    part: str = options.PART,
    batch_size: int = options.BATCH_SIZE,
    engine: str = options.engine(None),
    root: str = ROOT,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Score a network on whole patients: report.json, per_patient.csv, per_slice.csv, report.html."""
    steps = _spacing(spacing)
    folder = _place_of_results(model, output, Path("evaluation") / split)
    from brainseg_keras.evaluation import interval_text
    from brainseg_keras.reports import evaluate

    found = evaluate(
        *_opened(model, data, root, layout, batch_size=batch_size, engine=engine),
        split=split,
        output=folder,
        spacing=steps,
        tolerance=tolerance,
        include_seen=include_seen,
        part=part and Part.parse(part),
        progress=lambda patients: progress_bar(patients, "reading and scoring"),
    )
    if found is None:
        if as_json:
            typer.echo(json.dumps({"part": part}))
        return
    if as_json:
        typer.echo(json.dumps(found.report))
        return
    dice = found.report["patients"]["dice"]
    for name, scores in found.report.get("regions", {}).items():
        typer.echo(
            f"{name}: Dice {scores['dice']['mean']:.3f}, HD95 {scores['hd95']['mean']:.1f} {found.report['unit']}, "
            f"n = {scores['dice']['n']}"
        )
    for role, group in found.report["groups"].items():
        if role not in found.report["headline"]:
            own = group["patients"]["dice"]
            typer.echo(f"By themselves: Dice {own['mean']:.3f}, n = {own['n']} ({group['role']})")
    typer.echo(
        f"Dice per patient {dice['mean']:.3f} (95 % interval {interval_text(dice['low'], dice['high'])}), median "
        f"{dice['median']:.3f}, n = {dice['n']} ({found.report['role']}): {folder / 'report.html'}"
    )


@takes_layout
def out_of_fold_command(
    runs: list[str] = options.path(
        ..., declare=typer.Argument, help="Folder of train --folds, or the run folder of each fold."
    ),
    data: str = options.path(
        None, "--data", help="Folder of MRI slices, manifest (.csv) or packed data (.h5); default that of the folds."
    ),
    output: str = options.path(
        None, "-o", "--output", kind="folder", help="Folder of the report; default <folds>/evaluation/out_of_fold."
    ),
    tune: bool = typer.Option(
        False, "--tune", help="Choose threshold, components and flip averaging across folds: postprocess.json."
    ),
    expect: bool = typer.Option(
        False, "--expect", help="Keep what may be expected of a mask, here and in each run: expectation.json."
    ),
    spacing: str = SPACING,
    tolerance: float = TOLERANCE,
    batch_size: int = options.BATCH_SIZE,
    engine: str = options.engine(None),
    root: str = ROOT,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Score each patient by the one network of a cross-validation that kept it apart."""
    steps = _spacing(spacing)
    if len(runs) > 1 and output is None:
        raise InputError("Of runs that are given one by one, say where the report goes: -o FOLDER.")
    given = {name: value for name, value in layout.items() if value is not None}
    if data is None and (given or root is not None):
        raise InputError(f"--{next(iter(given), 'root').replace('_', '-')} says how --data is read. Give --data too.")
    from brainseg_keras.data.sources import open_source

    source = None if data is None else open_source(data, root=root, seed=None, **layout)
    score_folds(
        runs,
        source,
        as_json=as_json,
        output=output,
        tune=tune,
        expect=expect,
        spacing=steps,
        tolerance=tolerance,
        batch_size=batch_size,
        engine=engine,
    )


def score_folds(runs: list[str], source: Any = None, *, as_json: bool, output: str | None = None, **more: Any) -> None:
    """Score the patients of a cross-validation and print what was found.

    Args:
        runs: As for `out_of_fold`.
        source: As for `out_of_fold`.
        as_json: Print the report as JSON.
        output: As for `out_of_fold`.
        **more: What else `out_of_fold` takes.
    """
    from brainseg_keras.evaluation import interval_text
    from brainseg_keras.reports.out_of_fold import SPLIT, out_of_fold
    from brainseg_keras.reports.outlook import outlook_words
    from brainseg_keras.reports.page import describe_folds

    found = out_of_fold(
        runs, source, output=output, progress=lambda names: progress_bar(names, "reading and scoring"), **more
    )
    if as_json:
        typer.echo(json.dumps(found.report))
        return
    for row in found.report["folds"]:
        typer.echo(f"Fold {row['fold']}: Dice {row['mean']:.3f}, median {row['median']:.3f}, n = {row['n']}")
    for words in (*describe_folds(found.report), outlook_words(found.report)):
        typer.echo(words)
    dice = found.report["patients"]["dice"]
    folder = Path(output) if output is not None else Path(runs[0]) / "evaluation" / SPLIT
    typer.echo(
        f"Dice per patient {dice['mean']:.3f} (95 % interval {interval_text(dice['low'], dice['high'])}), median "
        f"{dice['median']:.3f}, n = {dice['n']} ({found.report['role']}): {folder / 'report.html'}"
    )


@takes_layout
def calibrate_command(
    model: list[str] = OWN_MODEL,
    data: str = DATA,
    split: str = typer.Option("val", help="train, val, test or all; patients that trained the network are refused."),
    output: str = options.path(
        None, "-o", "--output", kind="folder", help="Folder for calibration.json; default the run folder."
    ),
    batch_size: int = options.BATCH_SIZE,
    engine: str = options.engine(None),
    root: str = ROOT,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Fit a temperature and a bias that make probabilities believable, and keep them in the run."""
    folder = _place_of_results(model, output)
    from brainseg_keras.reports import calibrate

    calibrated = calibrate(
        *_opened(model, data, root, layout, batch_size=batch_size, engine=engine),
        split=split,
        output=folder,
        progress=lambda patients: progress_bar(patients, "reading and calibrating"),
    )
    if calibrated.record["warning"]:
        typer.echo(f"Warning: {calibrated.record['warning']}", err=True)
    if as_json:
        typer.echo(json.dumps(calibrated.record))
        return
    typer.echo(f"{calibrated.calibration}. A threshold is best chosen on these probabilities: brainseg tune.")


@takes_layout
def tune_command(
    model: list[str] = OWN_MODEL,
    data: str = DATA,
    output: str = options.path(
        None, "-o", "--output", kind="folder", help="Folder for postprocess.json; default the run folder."
    ),
    batch_size: int = options.BATCH_SIZE,
    engine: str = options.engine(None),
    root: str = ROOT,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Choose threshold, components and flip averaging on the validation patients, and keep the choice in the run."""
    folder = _place_of_results(model, output)
    from brainseg_keras.reports import tune

    tuned = tune(
        *_opened(model, data, root, layout, batch_size=batch_size, engine=engine),
        output=folder,
        progress=lambda patients: progress_bar(patients, "reading and tuning"),
    )
    if tuned.record["warning"]:
        typer.echo(f"Warning: {tuned.record['warning']}", err=True)
    if as_json:
        typer.echo(json.dumps(tuned.record))
        return
    record = tuned.record
    typer.echo(
        f"{tuned.postprocessing}: Dice per patient {record['mean_dice']:.3f}, before "
        f"{record['mean_dice_default']:.3f}, n = {record['n']} (validation, chose it among {record['tried']} settings)"
    )


def compare_command(
    first: str = options.path(..., declare=typer.Argument, help="Evaluation folder or per_patient.csv."),
    second: str = options.path(..., declare=typer.Argument, help="The other's."),
    as_json: bool = JSON,
) -> None:
    """Compare two evaluations of the same patients: paired bootstrap and Wilcoxon."""
    from rich.table import Table

    from brainseg_keras.evaluation import interval_text
    from brainseg_keras.evaluation.statistics import FEWEST_FOR_INTERVAL, FEWEST_FOR_P
    from brainseg_keras.reports.compare import compare, favors

    compared = compare(first, second)
    if as_json:
        rows = {
            name: dataclasses.asdict(result) | {"favors": favors(name, result)} for name, result in compared.items()
        }
        typer.echo(json.dumps(rows))
        return
    patients = next(iter(compared.values())).n
    table = Table(title=f"{first} minus {second}, {patients} patient{'s' * (patients != 1)}")
    for heading in ("score", "difference", "95 % interval", "p (bootstrap)", "p (Wilcoxon)", "favors"):
        table.add_column(heading)
    for name, result in compared.items():
        table.add_row(
            name,
            f"{result.difference:+.4f}",
            "none" if result.low is None else interval_text(result.low, result.high, "+.4f"),
            "none" if result.p_bootstrap is None else f"{result.p_bootstrap:.4f}",
            f"{result.p_wilcoxon:.4f}",
            favors(name, result),
        )
    plain_console().print(table, soft_wrap=True)
    if patients < FEWEST_FOR_P:
        typer.echo(
            f"Too few patients: an interval needs {FEWEST_FOR_INTERVAL}, the p of a bootstrap {FEWEST_FOR_P} "
            "(docs/evaluation.md)."
        )


def _opened(model: list[str], data: str, root: str | None, layout: dict[str, Any], **options: Any) -> tuple[Any, Any]:
    """Open the network and the data of a report."""
    from brainseg_keras.data.sources import open_source
    from brainseg_keras.inference import Predictor

    return Predictor(model, **options), open_source(data, root=root, **layout)


def _place_of_results(model: list[str], output: str | None, below: Path = Path()) -> Path:
    """Say where results go: the folder that was given, or one in the run, which is found out to be writable."""
    if output is not None:
        return Path(output)
    if len(model) > 1:
        raise InputError(f"Of {len(model)} networks together, say where the results go: -o FOLDER.")
    run = Path(model[0])
    if run.suffix == ".keras" and (run.parent / "run.json").is_file():
        run = run.parent
    if not (run / "best.keras").is_file() and not (run / FILE).is_file():
        raise InputError(
            f"No run folder (with best.keras) at {model[0]}. Give one, or say where the results go: -o FOLDER."
        )
    return check_output(run / below, "folder")


def _spacing(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        steps = tuple(map(float, text.split(",")))
    except ValueError:
        steps = ()
    if len(steps) != 3:
        raise InputError(f"--spacing is three numbers {ranges.SPACING}, such as 5,0.9,0.9. Received: {text!r}.")
    for step in steps:
        ranges.SPACING.check("--spacing", step)
    return steps
