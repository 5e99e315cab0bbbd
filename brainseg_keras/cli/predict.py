"""brainseg predict and brainseg export."""

import json
import logging

import typer

from brainseg_keras import ranges
from brainseg_keras.cli import options
from brainseg_keras.cli.options import number
from brainseg_keras.errors import IncompleteError
from brainseg_keras.terminal import progress_bar


def predict_command(
    inputs: list[str] = options.path(
        ...,
        declare=typer.Argument,
        help="Pictures (PNG, JPEG, TIFF, BMP), NIfTI volumes, DICOM, BraTS .h5 slices, or folders of them.",
    ),
    output: str = options.path(
        ..., "-o", "--output", kind="folder", help="Folder for masks, overlays and summary.csv."
    ),
    model: str = options.MODEL,
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
    as_json: bool = typer.Option(False, "--json", help="Print the summary to standard output as JSON."),
) -> None:
    """Segment pictures, volumes and folders: masks, overlays and a summary, below -o as the inputs lie."""
    import dataclasses

    from brainseg_keras.data.scans import find_scans
    from brainseg_keras.inference import Predictor, predict

    scans = find_scans(inputs)
    predictor = Predictor(model, batch_size=batch_size, engine=engine)
    given = {
        "threshold": threshold,
        "smallest_component": smallest_component,
        "largest_component": largest_component,
        "flip": flip,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    predictor = predictor.adapted(postprocessing=dataclasses.replace(predictor.spec.postprocessing, **changed))
    done = predict(
        scans,
        output,
        predictor=predictor,
        overlays=overlays,
        probabilities=probabilities,
        attention=attention,
        progress=lambda scans: progress_bar(scans, "segmenting"),
    )
    if as_json:
        rows = done.summary.astype(object).where(done.summary.notna(), None).to_dict("records")
        typer.echo(json.dumps({"output": output, "results": rows, "failures": done.failures}))
    else:
        marked = int((done.summary.tumour_size > 0).sum())
        typer.echo(f"{len(done.summary)} masks, {marked} of them with tumour: {output}", err=True)
    if done.failures:
        raise IncompleteError(
            f"{len(done.failures)} inputs could not be segmented and were left out; the others are done."
        )


def export_command(
    model: str = options.path("lgg", "--model", help="Run folder, .keras file, or a shipped name."),
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
