"""Flags that several commands share, so that they cannot drift apart, and how numbers and paths are taken in."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import typer

from brainseg_keras import ranges
from brainseg_keras.cluster import check_address
from brainseg_keras.errors import InputError
from brainseg_keras.files import check_input, check_output
from brainseg_keras.parts import Part
from brainseg_keras.ranges import Range
from brainseg_keras.registry import ENGINES, closest


def number(default: Any, *names: str, within: Range, help: str, **more: Any) -> Any:
    """Declare a flag that takes a number, which is refused outside its range before anything is loaded.

    Args:
        default: Its default; None where there is none.
        *names: Of the flag.
        within: What it may be; the help says so.
        help: What it is for.
        **more: What else `typer.Option` takes.

    Returns:
        The declaration.
    """

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None:
            within.check(_name(param), value)
        return value

    check.within = within
    return typer.Option(default, *names, help=within.describe(help), callback=check, **more)


def path(
    default: Any, *names: str, kind: str = "input", help: str, declare: Callable[..., Any] = typer.Option, **more: Any
) -> Any:
    """Declare a flag that takes a path, as text: annotated as `Path`, an empty one would be the current folder.

    Args:
        default: Its default; None where there is none, `...` where it must be given.
        *names: Of the flag.
        kind: `input`, or what is written: `file`, `folder` or `either`. Whether that can be written is found out at
            once.
        help: What it is for.
        declare: `typer.Option`, or `typer.Argument`.
        **more: What else that takes.

    Returns:
        The declaration.
    """

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [check(param, part) for part in value]
        if value is None:
            return None
        name = _name(param)
        return check_input(value, name) if kind == "input" else str(check_output(value, kind, name))

    check.kind = kind
    if declare is typer.Option:
        more.setdefault("metavar", "PATH")
    return declare(default, *names, help=help, callback=check, **more)


def _name(param: typer.CallbackParam) -> str:
    """Give a flag's long name."""
    return max(param.opts, key=len)


def _check_engine(engine: str | None) -> str | None:
    if engine is not None and engine not in ENGINES:
        raise InputError(f"--engine is one of {', '.join(ENGINES)}. Received: {engine!r}.{closest(ENGINES, engine)}")
    return engine


def engine(default: str | None) -> Any:
    """Declare `--engine`.

    Args:
        default: Its default; None is Keras for what Keras has scored, and else `auto`.

    Returns:
        The declaration.
    """
    words = "keras for a run or a .keras file, else auto" if default is None else default
    return typer.Option(
        default,
        "--engine",
        help=f"What runs the network: {', '.join(ENGINES)}; auto takes the fastest one here.",
        show_default=words,
        callback=_check_engine,
    )


def cluster(what: str) -> Any:
    """Declare `--cluster`.

    Args:
        what: What the cluster does, for the help.

    Returns:
        The declaration.
    """
    return typer.Option(
        None,
        "--cluster",
        metavar="ADDRESS",
        help=f"Ray {what}: ray (this machine), auto, HOST:PORT or ray://HOST:PORT.",
        show_default=False,
        callback=lambda address: address if address is None else check_address(address),
    )


def _check_part(param: typer.CallbackParam, text: str | None) -> str | None:
    return None if text is None else str(Part.parse(text, _name(param)))


PART = typer.Option(
    None,
    "--part",
    metavar="I/N",
    help="Do the I-th of N parts of the work, such as 2/8; other processes may do the others at once.",
    callback=_check_part,
)
MODEL = path(
    ["lgg"],
    "--model",
    help="Run folder, folder of folds, .keras, .onnx or .tflite file, shipped name, or hf://owner/name; of several, "
    "the mean.",
)
DATA = path("phantom", "--data", help="Folder of MRI slices, manifest (.csv), packed data (.h5), or phantom.")
ROOT = path(None, "--root", help="Folder of the images that a manifest lists, if they moved.")
SEED = number(0, "--seed", within=ranges.SEED, help="Of the split by patient, where none is fixed.")
BATCH_SIZE = number(16, "--batch-size", within=ranges.BATCH_SIZE, help="Slices in one step of the network.")
JSON = typer.Option(False, "--json", help="Print one JSON object to standard output.")
#: How a folder is read: the keywords of `list_slices`.
LAYOUT = {
    "format": typer.Option(None, "--format", help="Layout of a folder, such as lgg or nifti; docs/data.md lists them."),
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
