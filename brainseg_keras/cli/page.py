"""brainseg app: the page for MRI in, mask out."""

import typer

from brainseg_keras.cli import options
from brainseg_keras.cli.options import number
from brainseg_keras.ranges import Range


def app_command(
    models: list[str] = options.path([], "--model", help="Run folder, model file or shipped name; may be repeated."),
    runs: str = options.path("tensorboard_logs", "--runs", help="Folder whose runs are offered besides."),
    host: str = typer.Option("127.0.0.1", help="Address to listen at; another one opens the page to others."),
    port: int = number(7860, "--port", within=Range(1, 65535), help="Port to listen at."),
    max_upload: int = number(1024, "--max-upload", within=Range(1, 2**20), help="Largest file in megabytes."),
) -> None:
    """Open a page for MRI in, mask out, in the browser of this machine."""
    from brainseg_keras.app import find_models, serve
    from brainseg_keras.app.server import LOCAL

    found = find_models(models, runs)
    if host not in LOCAL:
        typer.secho(
            f"Warning: at {host} whoever reaches this machine can use the page, without a password or encryption, and "
            "scans travel over the network. Stay with 127.0.0.1 for patients' data.",
            fg="yellow",
            err=True,
        )
    serve(found, host=host, port=port, max_upload=max_upload)
