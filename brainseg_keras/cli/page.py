"""brainseg app: the page for MRI in, mask out."""

import os
import sys

import typer

from brainseg_keras.cli import options
from brainseg_keras.cli.options import number
from brainseg_keras.ranges import Range


def app_command(
    models: list[str] = options.path(
        [], "--model", help="Run folder, folder of folds, model file or shipped name; may be repeated."
    ),
    runs: str = options.path("tensorboard_logs", "--runs", help="Folder whose runs are offered besides."),
    host: str = typer.Option("127.0.0.1", help="Address to listen at; another one opens the page to others."),
    port: int = number(7860, "--port", within=Range(1, 65535), help="Port to listen at."),
    allow_hosts: list[str] = typer.Option(
        [], "--allow-host", help="Further name that a browser may use for the page; may be repeated."
    ),
    max_upload: int = number(1024, "--max-upload", within=Range(1, 2**20), help="Largest file in megabytes."),
    engine: str = options.engine("auto"),
) -> None:
    """Open a page for MRI in, mask out, in the browser of this machine."""
    from brainseg_keras.app import find_models, serve
    from brainseg_keras.app.door import LOCAL

    found = find_models(models, runs)
    if host.strip() and host not in LOCAL:
        typer.secho(
            f"Warning: at {host} whoever reaches this machine can use the page, without a password or encryption, and "
            "scans travel over the network. Stay with 127.0.0.1 for patients' data.",
            fg="yellow",
            err=True,
        )
    serve(found, host=host, port=port, allow_hosts=allow_hosts, max_upload=max_upload, engine=engine)
    # A network may still be running, and nobody waits for its answer; Python would.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
