"""brainseg data: make a phantom, write a manifest, pack a store, look at the cache."""

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from brainseg_keras import ranges
from brainseg_keras.cli import options
from brainseg_keras.cli.options import JSON, number, takes_layout
from brainseg_keras.errors import InputError
from brainseg_keras.parts import Part
from brainseg_keras.ranges import Range
from brainseg_keras.terminal import progress_bar

app = typer.Typer(help="Phantom, manifests and packed data.", no_args_is_help=True)


def _report(as_json: bool, text: str, **values: object) -> None:
    typer.echo(json.dumps(values) if as_json else text)


def _listing(names: Sequence[str]) -> Iterator[str]:
    return progress_bar(names, "listing")


@app.command()
def phantom(
    dest: str = options.path(..., kind="folder", declare=typer.Argument, help="Folder to write into."),
    patients: int = number(30, "--patients", within=ranges.PATIENTS, help="Number of patients."),
    slices: int = number(20, "--slices", within=ranges.SLICES, help="Slices of each patient."),
    size: int = number(128, "--size", within=ranges.SIDE, help="Side of each slice in pixels."),
    seed: int = number(0, "--seed", within=ranges.SEED, help="Another seed makes other patients."),
    modalities: int = number(
        1, "--modalities", within=Range(1, 4), help="1 in the layout of LGG, or 4 of BraTS as HDF5 slices and as NIfTI."
    ),
    as_json: bool = JSON,
) -> None:
    """Make synthetic heads with tumours, in the layout of the LGG set or of BraTS."""
    if modalities not in (1, 4):
        raise InputError(f"--modalities is 1 (layout of LGG) or 4 (BraTS). Received: {modalities}.")
    numbers = {"patients": patients, "slices": slices, "size": size, "seed": seed}
    if modalities == 1:
        from brainseg_keras.data.phantom.lgg import write_phantom

        folders = [write_phantom(dest, **numbers)]
    else:
        from brainseg_keras.data.phantom.brats import HDF5_SLICES, NIFTI_FOLDERS, write_brats_phantom

        layouts = (HDF5_SLICES, NIFTI_FOLDERS)
        write_brats_phantom(dest, **numbers, layouts=layouts)
        folders = [layout.root(dest) for layout in layouts]
    text = f"{patients} patients, {patients * slices} slices: {', '.join(map(str, folders))}"
    _report(as_json, text, path=str(folders[0]), paths=list(map(str, folders)), patients=patients)


@app.command()
@takes_layout
def manifest(
    format: str = typer.Argument(help="Layout of the folder, such as lgg or nifti; docs/data.md lists them."),
    path: str = options.path(..., declare=typer.Argument, help="The folder."),
    output: str = options.path(..., "-o", "--output", kind="file", help="CSV to write."),
    seed: int = options.SEED,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Write the list of slices with patient, split and checksums of the decoded pixels."""
    from brainseg_keras.data.manifest import write_manifest
    from brainseg_keras.data.sources import list_slices
    from brainseg_keras.data.splits import assign_splits

    table, _ = list_slices(path, format=format, **layout, checksums=True, progress=_listing)
    table, unnamed = assign_splits(table, seed=seed)
    if unnamed:
        typer.echo(f"In no split, since the fixed one does not name them: {', '.join(unnamed)}", err=True)
    write_manifest(table, output)
    patients = table.groupby("split").patient.nunique().rename({"": "unassigned"}).to_dict()
    text = ", ".join(f"{count} {split}" for split, count in patients.items())
    _report(as_json, f"{len(table)} slices of {text} patients: {output}", path=output, patients=patients)


@app.command()
@takes_layout
def pack(
    path: str = options.path(..., declare=typer.Argument, help="Folder of MRI slices, manifest (.csv), or phantom."),
    output: str = options.path(..., "-o", "--output", kind="file", help="HDF5 file to write (.h5)."),
    root: str = options.ROOT,
    float16: bool = typer.Option(False, "--float16", help="Half precision for images that are not 8 bit."),
    seed: int = options.SEED,
    part: str = options.PART,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Pack a data set into one HDF5 file, so that training starts in seconds."""
    if not output.lower().endswith((".h5", ".hdf5")):
        raise InputError(f"A packed data set ends in .h5. Received: -o {output}.")
    from brainseg_keras.data.sources import open_source
    from brainseg_keras.data.store import write_store
    from brainseg_keras.data.store_parts import write_store_part

    source = open_source(path, root=root, seed=seed, progress=_listing, **layout)
    count = source.table.patient.nunique()
    more = {"float16": float16, "progress": lambda names: progress_bar(names, "packing")}
    if part is None:
        write_store(source, output, **more)
    elif write_store_part(source, output, Part.parse(part), **more) is None:
        if as_json:
            typer.echo(json.dumps({"part": part}))
        return
    megabytes = Path(output).stat().st_size / 1e6
    _report(as_json, f"{count} patients, {megabytes:.0f} MB: {output}", path=output, patients=count)


@app.command()
@takes_layout
def split(
    path: str = options.path(..., declare=typer.Argument, help="Folder of MRI slices, or manifest (.csv)."),
    output: str = options.path(..., "-o", "--output", kind="folder", help="Folder for fold1.csv, fold2.csv and so on."),
    folds: int = number(5, "--folds", within=ranges.FOLDS, help="How many."),
    seed: int = options.SEED,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Write manifests of k folds by patient: each patient is tested once, and validates once."""
    from brainseg_keras.data.manifest import read_manifest, write_manifest
    from brainseg_keras.data.sources import given_options, list_slices, refuse_options
    from brainseg_keras.data.splits import assign_folds

    if path.lower().endswith(".csv"):
        refuse_options(given_options(**layout), (), f"{path} is a list already")
        table, root = read_manifest(path), Path(path).parent
    else:
        table, root = list_slices(path, **layout, progress=_listing)
    files = []
    for index, fold in enumerate(assign_folds(table, folds=folds, seed=seed), start=1):
        files.append(Path(output) / f"fold{index}.csv")
        write_manifest(fold, files[-1])
    text = (
        f"{table.patient.nunique()} patients in {folds} folds: {files[0]} to {files[-1].name}. Read them with --root "
        f"{shlex.quote(str(root))}"
    )
    _report(as_json, text, files=list(map(str, files)))


@app.command()
@takes_layout
def check(
    path: str = options.path(
        ..., declare=typer.Argument, help="Folder of MRI slices, manifest (.csv), or packed data (.h5)."
    ),
    output: str = options.path(
        None, "-o", "--output", kind="folder", help="Folder for findings.json and findings.html."
    ),
    root: str = options.ROOT,
    seed: int = options.SEED,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Look for what spoils a training: leaks, bad masks, blank slices. Exit code 2 on errors, 1 on warnings."""
    from rich.table import Table

    from brainseg_keras.data.checking.checks import check_data
    from brainseg_keras.files import MAKER, check_replaceable, write_json, write_whole
    from brainseg_keras.reports.data_page import write_data_page
    from brainseg_keras.terminal import plain_console

    if output is not None:
        for name, mark in (("findings.json", '"findings"'), ("findings.html", MAKER)):
            check_replaceable(Path(output) / name, mark)
    found = check_data(
        path,
        root=root,
        seed=seed,
        progress=lambda names: progress_bar(names, "checking"),
        listing=_listing,
        **layout,
    )
    plain = [{"check": f.check, "severity": f.severity, "text": f.text, "patients": list(f.patients)} for f in found]
    if output is not None:
        write_json(Path(output) / "findings.json", {"findings": plain})
        write_whole(Path(output) / "findings.html", lambda file: write_data_page(found, path, file))
    if as_json:
        typer.echo(json.dumps({"findings": plain}))
    elif found:
        table = Table("severity", "check", title=f"{path}: {len(found)} findings")
        table.add_column("what was found", overflow="fold")
        for finding in found:
            table.add_row(finding.severity, finding.check, finding.text)
        plain_console().print(table)
    else:
        typer.echo(f"{path}: nothing was found")
    severities = {finding.severity for finding in found}
    if severities & {"error", "warning"}:
        raise typer.Exit(2 if "error" in severities else 1)


@app.command()
def fetch(
    name: str = typer.Argument(help="lgg or brats2020."),
    as_json: bool = JSON,
) -> None:
    """Download a public data set with your own Kaggle token, and check it."""
    from brainseg_keras.data.fetch import fetch as fetch_data

    found = fetch_data(name)
    text = f"{found.patients} patients, {found.checked} of them compared with known checksums: {found.root}"
    _report(as_json, text, path=str(found.root), patients=found.patients, checked=found.checked)


@app.command()
def cache(
    clear: bool = typer.Option(False, "--clear", help="Remove all of it, but for what another process is writing."),
    as_json: bool = JSON,
) -> None:
    """Show the prepared patients that the user's cache keeps for the next training, or remove them."""
    from datetime import datetime

    from brainseg_keras.data.patient_cache import entries, remove_entry, root_folder

    found, removed = entries(), 0
    if clear:
        removed = sum(map(remove_entry, found))
        found = entries()
    size = sum(entry.size for entry in found)
    lines = [
        f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}  {entry.size / 1e6:9,.1f} MB  "
        + (", ".join(f"{name} {value}" for name, value in entry.about.items()) or "not finished")
        for entry in found
    ]
    lines.append(f"{removed} removed, " * clear + f"{size / 1e6:,.1f} MB of images of patients: {root_folder()}")
    rows = [{"bytes": entry.size, "used": entry.used, **entry.about} for entry in found]
    _report(as_json, "\n".join(lines), folder=str(root_folder()), bytes=size, removed=removed, entries=rows)
