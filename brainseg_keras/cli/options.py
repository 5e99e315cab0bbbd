"""Flags that several commands share, so that they cannot drift apart."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import typer

DATA = typer.Option("phantom", "--data", help="Folder of MRI slices, manifest (.csv), packed data (.h5), or phantom.")
ROOT = typer.Option(None, "--root", help="Folder of the images that a manifest lists, if they moved.")
SEED = typer.Option(0, "--seed", help="Of the split by patient, where none is fixed.")
JSON = typer.Option(False, "--json", help="Print one JSON object to standard output.")
#: How a folder is read: the keywords of `list_slices`.
LAYOUT = {
    "format": typer.Option(None, "--format", help="Layout of a folder: lgg, brats-h5, nifti, msd or pairs."),
    "modalities": typer.Option(None, "--modalities", help="Sequences to read, such as FLAIR or T1ce,FLAIR."),
    "labels": typer.Option(None, "--labels", help="What labels mean: brats2020, brats2023, brats2015, msd or binary."),
    "image_pattern": typer.Option(None, "--image-pattern", help="How images are named: a regular expression."),
    "label_pattern": typer.Option(None, "--label-pattern", help="How labels of volumes are named: the same."),
}


def takes_layout(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags that say how a folder is read.

    Args:
        command: A function with a parameter `layout`, which gets their values as one dict, without those that it has
            a parameter for.

    Returns:
        The command with these flags in place of `layout`.
    """
    own = [entry for entry in inspect.signature(command).parameters.values() if entry.name != "layout"]
    names = [name for name in LAYOUT if name not in {entry.name for entry in own}]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=str | None, default=LAYOUT[name])
        for name in names
    ]

    @functools.wraps(command)
    def with_flags(**flags: Any) -> None:
        command(layout={name: flags.pop(name) for name in names}, **flags)

    with_flags.__signature__ = inspect.Signature([*own, *added])
    with_flags.__annotations__ = {entry.name: entry.annotation for entry in (*own, *added)}
    return with_flags
