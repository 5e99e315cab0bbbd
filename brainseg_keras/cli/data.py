"""brainseg data: make a phantom, write a manifest, pack a store."""

import json
from pathlib import Path
from typing import Any

import typer

from brainseg_keras.cli import options
from brainseg_keras.cli.options import JSON, takes_layout
from brainseg_keras.errors import InputError

app = typer.Typer(help="Phantom, manifests and packed data.", no_args_is_help=True)


def _report(as_json: bool, text: str, **values: object) -> None:
    typer.echo(json.dumps(values) if as_json else text)


@app.command()
def phantom(
    dest: Path = typer.Argument(help="Folder to write into."),
    patients: int = typer.Option(30, "--patients", help="Number of patients."),
    slices: int = typer.Option(20, "--slices", help="Slices of each patient."),
    size: int = typer.Option(128, "--size", help="Side of each slice in pixels."),
    seed: int = typer.Option(0, "--seed", help="Another seed makes other patients."),
    modalities: int = typer.Option(1, "--modalities", help="1: layout of LGG. 4: BraTS, as HDF5 slices and as NIfTI."),
    as_json: bool = JSON,
) -> None:
    """Make synthetic heads with tumours, in the layout of the LGG set or of BraTS."""
    from brainseg_keras.data.phantom import write_phantom
    from brainseg_keras.data.phantom_brats import write_brats_phantom

    if modalities not in (1, 4):
        raise InputError(f"--modalities is 1 (layout of LGG) or 4 (BraTS). Received: {modalities}.")
    numbers = {"patients": patients, "slices": slices, "size": size, "seed": seed}
    if modalities == 1:
        folders = [write_phantom(dest, **numbers)]
    else:
        folders = [write_brats_phantom(dest, **numbers, format=format) for format in ("brats-h5", "nifti")]
    text = f"{patients} patients, {patients * slices} slices: {', '.join(map(str, folders))}"
    _report(as_json, text, path=str(folders[0]), paths=list(map(str, folders)), patients=patients)


@app.command()
@takes_layout
def manifest(
    format: str = typer.Argument(help="Layout of the folder: lgg, brats-h5, nifti, msd or pairs."),
    path: Path = typer.Argument(help="The folder."),
    output: Path = typer.Option(..., "-o", "--output", help="CSV to write."),
    seed: int = options.SEED,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Write the list of slices with patient, split and checksums of the decoded pixels."""
    from brainseg_keras.data.manifest import write_manifest
    from brainseg_keras.data.sources import list_slices
    from brainseg_keras.data.splits import assign_splits

    table, _ = list_slices(path, format=format, **layout, checksums=True)
    table, unnamed = assign_splits(table, seed=seed)
    if unnamed:
        typer.echo(f"In no split, since the fixed one does not name them: {', '.join(unnamed)}", err=True)
    write_manifest(table, output)
    patients = table.groupby("split").patient.nunique().rename({"": "unassigned"}).to_dict()
    text = ", ".join(f"{count} {split}" for split, count in patients.items())
    _report(as_json, f"{len(table)} slices of {text} patients: {output}", path=str(output), patients=patients)


@app.command()
@takes_layout
def pack(
    path: str = typer.Argument(help="Folder of MRI slices, manifest (.csv), or phantom."),
    output: Path = typer.Option(..., "-o", "--output", help="HDF5 file to write (.h5)."),
    root: Path = options.ROOT,
    float16: bool = typer.Option(False, "--float16", help="Half precision for images that are not 8 bit."),
    seed: int = options.SEED,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Pack a data set into one HDF5 file, so that training starts in seconds."""
    from rich.console import Console
    from rich.progress import Progress

    from brainseg_keras.data.sources import open_source
    from brainseg_keras.data.store import write_store

    if output.suffix.lower() not in (".h5", ".hdf5"):
        raise InputError(f"A packed data set ends in .h5. Received: -o {output}.")
    source = open_source(path, root=root, seed=seed, **layout)
    count = source.table.patient.nunique()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("packing", total=count)
        write_store(source, output, float16=float16, progress=lambda _: bar.advance(task))
    megabytes = output.stat().st_size / 1e6
    _report(as_json, f"{count} patients, {megabytes:.0f} MB: {output}", path=str(output), patients=count)


@app.command()
@takes_layout
def split(
    path: str = typer.Argument(help="Folder of MRI slices, or manifest (.csv)."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for fold1.csv, fold2.csv and so on."),
    folds: int = typer.Option(5, "--folds", help="How many."),
    seed: int = options.SEED,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Write manifests of k folds by patient: each patient is tested once, and validates once."""
    from brainseg_keras.data.manifest import read_manifest, write_manifest
    from brainseg_keras.data.sources import list_slices
    from brainseg_keras.data.splits import assign_folds

    if path.lower().endswith(".csv"):
        table = read_manifest(path)
    else:
        table, _ = list_slices(path, **layout)
    files = []
    for number, fold in enumerate(assign_folds(table, folds=folds, seed=seed), start=1):
        files.append(output / f"fold{number}.csv")
        write_manifest(fold, files[-1])
    hint = "" if path.lower().endswith(".csv") else f". Read them with --root {path}"
    text = f"{table.patient.nunique()} patients in {folds} folds: {files[0]} to {files[-1].name}{hint}"
    _report(as_json, text, files=list(map(str, files)))


@app.command()
@takes_layout
def check(
    path: str = typer.Argument(help="Folder of MRI slices, manifest (.csv), or packed data (.h5)."),
    output: Path = typer.Option(None, "-o", "--output", help="Folder for findings.json and findings.html."),
    root: Path = options.ROOT,
    seed: int = options.SEED,
    as_json: bool = JSON,
    *,
    layout: dict[str, Any],
) -> None:
    """Look for what spoils a training: leaks, bad masks, blank slices. Exit code 2 on errors, 1 on warnings."""
    from rich.console import Console
    from rich.table import Table

    from brainseg_keras.cli.progress import progress_bar
    from brainseg_keras.data.checks import check_data
    from brainseg_keras.files import write_whole
    from brainseg_keras.reports.data_page import write_data_page

    found = check_data(path, root=root, seed=seed, progress=lambda names: progress_bar(names, "checking"), **layout)
    plain = [{"check": f.check, "severity": f.severity, "text": f.text, "patients": list(f.patients)} for f in found]
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plain, indent=2) + "\n"
        write_whole(output / "findings.json", lambda file: file.write_text(text, encoding="utf-8"))
        write_whole(output / "findings.html", lambda file: write_data_page(found, path, file))
    if as_json:
        typer.echo(json.dumps({"findings": plain}))
    elif found:
        table = Table("severity", "check", title=f"{path}: {len(found)} findings")
        table.add_column("what was found", overflow="fold")
        for finding in found:
            table.add_row(finding.severity, finding.check, finding.text)
        Console(soft_wrap=False).print(table)
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
