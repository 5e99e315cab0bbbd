"""Flags that several commands share, so that they cannot drift apart."""

from pathlib import Path
from typing import Any

import typer

DATA = typer.Option("phantom", "--data", help="Folder of MRI slices, manifest (.csv), packed data (.h5), or phantom.")
FORMAT = typer.Option(None, "--format", help="Layout of a folder: lgg, brats-h5, nifti, msd or pairs.")
ROOT = typer.Option(None, "--root", help="Folder of the images that a manifest lists, if they moved.")
MODALITIES = typer.Option(None, "--modalities", help="Sequences to read, such as FLAIR or T1ce,FLAIR.")
LABELS = typer.Option(None, "--labels", help="What labels mean: brats2020, brats2023, brats2015, msd or binary.")
IMAGE_PATTERN = typer.Option(None, "--image-pattern", help="How images are named: a regular expression.")
LABEL_PATTERN = typer.Option(None, "--label-pattern", help="How labels of NIfTI volumes are named: the same.")
SEED = typer.Option(0, "--seed", help="Of the split by patient, where none is fixed.")
JSON = typer.Option(False, "--json", help="Print one JSON object to standard output.")


def layout(
    format: str | None,
    modalities: str | None,
    labels: str | None,
    image_pattern: str | None,
    label_pattern: str | None,
    root: Path | None = None,
) -> dict[str, Any]:
    """Bring the flags together as `open_source` takes them."""
    return {
        "format": format,
        "modalities": modalities,
        "labels": labels,
        "image_pattern": image_pattern,
        "label_pattern": label_pattern,
        "root": root,
    }
