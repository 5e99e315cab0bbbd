"""brainseg data: make a phantom, write a manifest, pack a store."""

import json
from pathlib import Path

import typer

from brainseg_keras.errors import InputError

app = typer.Typer(help="Phantom, manifests and packed data.", no_args_is_help=True)
_JSON = typer.Option(False, "--json", help="Print one JSON object to standard output.")


def _report(as_json: bool, text: str, **values: object) -> None:
    typer.echo(json.dumps(values) if as_json else text)


@app.command()
def phantom(
    dest: Path = typer.Argument(help="Folder to write; kaggle_3m is made in it."),
    patients: int = typer.Option(30, "--patients", help="Number of patients."),
    slices: int = typer.Option(20, "--slices", help="Slices of each patient."),
    size: int = typer.Option(128, "--size", help="Side of each slice in pixels."),
    seed: int = typer.Option(0, "--seed", help="Another seed makes other patients."),
    as_json: bool = _JSON,
) -> None:
    """Make synthetic heads with tumours, in the layout of the LGG set."""
    from brainseg_keras.data.phantom import write_phantom

    folder = write_phantom(dest, patients=patients, slices=slices, size=size, seed=seed)
    _report(as_json, f"{patients} patients, {patients * slices} slices: {folder}", path=str(folder), patients=patients)


@app.command()
def manifest(
    format: str = typer.Argument(help="Layout of the folder: lgg."),
    path: Path = typer.Argument(help="The folder."),
    output: Path = typer.Option(..., "-o", "--output", help="CSV to write."),
    seed: int = typer.Option(0, "--seed", help="Of the split by patient, where none is fixed."),
    as_json: bool = _JSON,
) -> None:
    """Write the list of slices with patient, split and checksums of the decoded pixels."""
    from brainseg_keras.data.lgg import read_lgg
    from brainseg_keras.data.manifest import write_manifest
    from brainseg_keras.data.splits import assign_splits

    if format != "lgg":
        raise InputError(f"A manifest can be written of: lgg. Received: {format!r}.")
    table, _ = read_lgg(path, checksums=True)
    table, unnamed = assign_splits(table, seed=seed)
    if unnamed:
        typer.echo(f"In no split, since the fixed one does not name them: {', '.join(unnamed)}", err=True)
    write_manifest(table, output)
    patients = table.groupby("split").patient.nunique().rename({"": "unassigned"}).to_dict()
    text = ", ".join(f"{count} {split}" for split, count in patients.items())
    _report(as_json, f"{len(table)} slices of {text} patients: {output}", path=str(output), patients=patients)


@app.command()
def pack(
    path: str = typer.Argument(help="Folder of MRI slices, manifest (.csv), or phantom."),
    output: Path = typer.Option(..., "-o", "--output", help="HDF5 file to write (.h5)."),
    format: str = typer.Option(None, "--format", help="Layout of a folder: lgg. Detected by default."),
    root: Path = typer.Option(None, "--root", help="Folder of the images that a manifest lists, if they moved."),
    float16: bool = typer.Option(False, "--float16", help="Half precision for images that are not 8 bit."),
    seed: int = typer.Option(0, "--seed", help="Of the split by patient, where none is fixed."),
    as_json: bool = _JSON,
) -> None:
    """Pack a data set into one HDF5 file, so that training starts in seconds."""
    from rich.console import Console
    from rich.progress import Progress

    from brainseg_keras.data.sources import open_source
    from brainseg_keras.data.store import write_store

    if output.suffix.lower() not in (".h5", ".hdf5"):
        raise InputError(f"A packed data set ends in .h5. Received: -o {output}.")
    source = open_source(path, format=format, root=root, seed=seed)
    count = source.table.patient.nunique()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("packing", total=count)
        write_store(source, output, float16=float16, progress=lambda _: bar.advance(task))
    megabytes = output.stat().st_size / 1e6
    _report(as_json, f"{count} patients, {megabytes:.0f} MB: {output}", path=str(output), patients=count)
