"""brainseg evaluate, tune and compare."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import typer

from brainseg_keras.cli.options import DATA, JSON, ROOT, takes_layout
from brainseg_keras.cli.progress import progress_bar

MODEL = typer.Argument("lgg", help="Run folder, .keras, .onnx or .tflite file, or a shipped name.")


@takes_layout
def evaluate_command(
    model: str = MODEL,
    data: str = DATA,
    split: str = typer.Option("test", help="train, val, test or all."),
    output: Path = typer.Option(None, "-o", "--output", help="Folder of the report; default <run>/evaluation/<split>."),
    spacing: str = typer.Option(None, help="Millimetres between slices, rows and columns, such as 5,0.9,0.9."),
    tolerance: float = typer.Option(2.0, help="Of surface Dice, in mm, or in pixels without --spacing."),
    batch_size: int = typer.Option(16, help="Slices in one step of the network."),
    root: Path = ROOT,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Score a network on whole patients: report.json, per_patient.csv, per_slice.csv, report.html."""
    from brainseg_keras.data.sources import open_source
    from brainseg_keras.errors import InputError
    from brainseg_keras.inference import Predictor
    from brainseg_keras.reports import evaluate

    steps = _spacing(spacing)
    predictor = Predictor(model, batch_size=batch_size)
    source = open_source(data, root=root, **layout)
    if output is None and predictor.folder is None:
        raise InputError(f"{model} is no run folder. Say where the report goes: -o FOLDER.")
    folder = output or predictor.folder / "evaluation" / split
    found = evaluate(
        predictor,
        source,
        split=split,
        output=folder,
        spacing=steps,
        tolerance=tolerance,
        progress=lambda patients: progress_bar(patients, "scoring"),
    )
    if as_json:
        typer.echo(json.dumps(found.report))
        return
    dice = found.report["patients"]["dice"]
    for name, scores in found.report.get("regions", {}).items():
        typer.echo(
            f"{name}: Dice {scores['dice']['mean']:.3f}, HD95 {scores['hd95']['mean']:.1f} {found.report['unit']}, "
            f"n = {scores['dice']['n']}"
        )
    typer.echo(
        f"Dice per patient {dice['mean']:.3f} (95 % interval {dice['low']:.3f} to {dice['high']:.3f}), median "
        f"{dice['median']:.3f}, n = {dice['n']} ({found.report['role']}): {folder / 'report.html'}"
    )


@takes_layout
def tune_command(
    model: str = typer.Argument(..., help="Run folder, or a model file with -o."),
    data: str = DATA,
    output: Path = typer.Option(None, "-o", "--output", help="Folder for postprocess.json; default the run folder."),
    batch_size: int = typer.Option(16, help="Slices in one step of the network."),
    root: Path = ROOT,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Choose threshold, components and flip averaging on the validation patients, and keep the choice in the run."""
    from brainseg_keras.data.sources import open_source
    from brainseg_keras.errors import InputError
    from brainseg_keras.inference import Predictor
    from brainseg_keras.reports import tune

    predictor = Predictor(model, batch_size=batch_size)
    if output is None and predictor.folder is None:
        raise InputError(f"{model} is no run folder. Say where the choice goes: -o FOLDER.")
    source = open_source(data, root=root, **layout)
    tuned = tune(
        predictor,
        source,
        output=output,
        progress=lambda patients: progress_bar(patients, "tuning"),
    )
    if as_json:
        typer.echo(json.dumps(tuned.record))
        return
    chosen, record = tuned.postprocessing, tuned.record
    typer.echo(
        f"threshold {chosen.threshold:g}, smallest component {chosen.smallest_component}, largest component "
        f"{'alone' if chosen.largest_component else 'and others'}, flip averaging {'on' if chosen.flip else 'off'}: "
        f"Dice per patient {record['mean_dice']:.3f}, before {record['mean_dice_default']:.3f}, n = {record['n']} "
        f"(validation, chose it among {record['tried']})"
    )


def compare_command(
    first: Path = typer.Argument(..., help="Evaluation folder or per_patient.csv."),
    second: Path = typer.Argument(..., help="The other's."),
    as_json: bool = JSON,
) -> None:
    """Compare two evaluations of the same patients: paired bootstrap and Wilcoxon."""
    from rich.console import Console
    from rich.table import Table

    from brainseg_keras.reports.compare import compare, favours_first

    compared = compare(first, second)
    if as_json:
        typer.echo(json.dumps({name: dataclasses.asdict(result) for name, result in compared.items()}))
        return
    patients = next(iter(compared.values())).n
    table = Table(title=f"{first} minus {second}, {patients} patients")
    for heading in ("score", "difference", "95 % interval", "p (bootstrap)", "p (Wilcoxon)", "favours"):
        table.add_column(heading)
    for name, result in compared.items():
        favoured = "first" if favours_first(name, result) else "second"
        table.add_row(
            name,
            f"{result.difference:+.4f}",
            f"{result.low:+.4f} to {result.high:+.4f}",
            f"{result.p_bootstrap:.3f}",
            f"{result.p_wilcoxon:.3f}",
            "neither" if result.difference == 0 else favoured,
        )
    Console(soft_wrap=True).print(table)


def _spacing(text: str | None) -> tuple[float, ...] | None:
    from brainseg_keras.errors import InputError

    if text is None:
        return None
    try:
        steps = tuple(float(part) for part in text.split(","))
        if len(steps) == 3 and all(0 < step < float("inf") for step in steps):
            return steps
    except ValueError:
        pass
    raise InputError(f"--spacing is three numbers above 0, such as 5,0.9,0.9. Received: {text!r}.")
