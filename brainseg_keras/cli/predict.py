"""brainseg predict and brainseg export."""

import json
import logging
from typing import TYPE_CHECKING

import typer

from brainseg_keras import ranges
from brainseg_keras.cli import options
from brainseg_keras.cli.options import number
from brainseg_keras.errors import IncompleteError, InputError
from brainseg_keras.parts import Part
from brainseg_keras.terminal import progress_bar

if TYPE_CHECKING:
    from brainseg_keras.inference import Predictions


def predict_command(
    inputs: list[str] = options.path(
        None,
        declare=typer.Argument,
        help="Pictures (PNG, JPEG, TIFF, BMP), NIfTI volumes, DICOM, BraTS .h5 slices, folders of them, or a list: a "
        ".csv or .parquet file with a column path, and perhaps one id.",
    ),
    output: str = options.path(
        None, "-o", "--output", kind="folder", help="Folder for masks, overlays, summary.csv and ledger.csv."
    ),
    model: list[str] = options.MODEL,
    threshold: float = number(
        None,
        "--threshold",
        within=ranges.THRESHOLD,
        help="Probability above which a pixel is tumour; default as tuned.",
    ),
    smallest_component: int = number(
        None,
        "--smallest-component",
        within=ranges.SMALLEST_COMPONENT,
        help="Drop connected parts of fewer voxels; default as tuned.",
    ),
    largest_component: bool = typer.Option(
        None, "--largest-component/--no-largest-component", help="Keep the largest part alone; default as tuned."
    ),
    flip: bool = typer.Option(None, "--flip/--no-flip", help="Average with the mirror image; default as tuned."),
    overlays: bool = typer.Option(True, "--overlays/--no-overlays", help="Also write slices with the outline."),
    probabilities: bool = typer.Option(False, "--probabilities", help="Also write the probabilities."),
    attention: bool = typer.Option(False, "--attention", help="Also write where the network looks."),
    batch_size: int = options.BATCH_SIZE,
    engine: str = options.engine("auto"),
    skip_done: bool = typer.Option(
        False, "--continue", help="Leave out what is done already, by this model with these settings."
    ),
    part: str = options.PART,
    cluster: str = options.cluster("segments on all its hosts"),
    status: str = options.path(
        None,
        "--status",
        help="Segment nothing, but say how far the masks in this folder are, of INPUTS or of all.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the summary to standard output as JSON."),
) -> None:
    """Segment pictures, volumes and folders: masks, overlays and a summary, below -o as the inputs lie."""
    if status is not None:
        _say_how_far(status, inputs, as_json)
        return
    if not inputs or output is None:
        raise InputError("Say what to segment and where the masks go: brainseg predict FILE_OR_FOLDER -o FOLDER.")
    import contextlib
    import dataclasses
    from functools import partial

    from brainseg_keras.cluster import connected
    from brainseg_keras.data.scan_lists import gather
    from brainseg_keras.inference.cluster import segment_on_cluster
    from brainseg_keras.inference.job import JobSettings
    from brainseg_keras.inference.predict import predict

    wanted = gather(inputs)
    given = {
        "threshold": threshold,
        "smallest_component": smallest_component,
        "largest_component": largest_component,
        "flip": flip,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    settings = JobSettings(
        output, model, engine, batch_size, changed, overlays=overlays, probabilities=probabilities, attention=attention
    )
    with connected(cluster) if cluster else contextlib.nullcontext() as ray:
        predictor, workers = settings.predictor(), None
        if cluster:
            # All hosts take the engine that was chosen here, and measure none.
            settings = dataclasses.replace(settings, engine=predictor.engine)
            workers = partial(segment_on_cluster, ray=ray, settings=settings)
        done = predict(
            wanted,
            output,
            predictor=predictor,
            overlays=overlays,
            probabilities=probabilities,
            attention=attention,
            skip_done=skip_done,
            part=part and Part.parse(part),
            workers=workers,
            progress=lambda scans: progress_bar(scans, "segmenting"),
        )
    _say_what_was_done(done, output, as_json)


def _say_what_was_done(done: "Predictions", output: str, as_json: bool) -> None:
    if as_json:
        rows = done.summary.astype(object).where(done.summary.notna(), None).to_dict("records")
        typer.echo(json.dumps({"output": output, "results": rows, "failures": done.failures, "skipped": done.skipped}))
    else:
        marked = int((done.summary.tumour_size > 0).sum())
        typer.echo(f"{len(done.summary)} masks, {marked} of them with tumour: {output}", err=True)
    if done.failures:
        raise IncompleteError(
            f"{len(done.failures)} inputs could not be segmented and were left out; the others are done."
        )


def _say_how_far(folder: str, inputs: list[str] | None, as_json: bool) -> None:
    from brainseg_keras.inference.status import find_status

    found = find_status(folder, inputs)
    typer.echo(json.dumps(found.to_info()) if as_json else str(found))


def export_command(
    model: list[str] = options.path(
        ["lgg"], "--model", help="Run folder, folder of folds, .keras file, or a shipped name; of several, the mean."
    ),
    output: str = options.path(
        ..., "-o", "--output", kind="either", help="File (.onnx, .tflite) or folder (SavedModel)."
    ),
    format: str = typer.Option("onnx", "--format", help="savedmodel, onnx or litert."),
    quantize: str = typer.Option(None, help="For litert: dynamic or int8."),
    as_json: bool = typer.Option(False, "--json", help="Print what was written to standard output as JSON."),
) -> None:
    """Export a network for use without Keras, and compare it with Keras at once."""
    from brainseg_keras.export import export

    # The converters say much that no user needs.
    logging.disable(logging.WARNING)
    try:
        done = export(model, output, format=format, quantize=quantize)
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        content = {"path": str(done.path), "information": str(done.information), "difference": done.difference}
        typer.echo(json.dumps(content))
    else:
        typer.echo(
            f"{done.path}: largest difference from Keras {done.difference:.2g}; parameters in {done.information}"
        )
