"""brainseg models: the table of architectures, or a drawing of one."""

import json

import typer

from brainseg_keras.cli import options
from brainseg_keras.errors import InputError


def models_command(
    draw: str = typer.Option(None, "--draw", metavar="NAME", help="Draw this architecture instead of the table."),
    output: str = options.path(None, "-o", "--output", kind="file", help="Where to draw: .png, .svg or .pdf."),
    as_json: bool = typer.Option(False, "--json", help="Print the table as JSON."),
) -> None:
    """List the architectures with parameters, GFLOPs and reference, or draw one."""
    if draw:
        if output is None:
            raise InputError("--draw needs -o FILE, for example: brainseg models --draw mod_r2au_net -o network.svg")
        from brainseg_keras.models.diagram import draw_architecture

        draw_architecture(draw, output)
        typer.echo(f"{draw}: {output}", err=True)
        return
    if output is not None:
        raise InputError("-o goes with --draw NAME.")
    from brainseg_keras.models.table import read_table

    rows = read_table()
    if as_json:
        typer.echo(json.dumps(rows))
        return
    from rich.table import Table

    from brainseg_keras.terminal import plain_console

    table = Table("architecture", "input", "parameters", "GFLOPs", "reference", box=None)
    for row in rows:
        shape = " x ".join(map(str, row["input_shape"]))
        table.add_row(row["name"], shape, f"{row['parameters']:,}", f"{row['gflops']:.1f}", row["reference"])
    console = plain_console()
    console.width = max(console.width, 110)
    console.print(table)
