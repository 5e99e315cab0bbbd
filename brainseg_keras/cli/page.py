"""brainseg app: the page for MRI in, mask out."""

import os
import sys
from pathlib import Path

import typer


def app_command(
    models: list[str] = typer.Option([], "--model", help="Run folder, model file or shipped name; may be repeated."),
    runs: Path = typer.Option(Path("tensorboard_logs"), "--runs", help="Folder whose runs are offered besides."),
    host: str = typer.Option("127.0.0.1", help="Address to listen at; another one opens the page to others."),
    port: int = typer.Option(7860, help="Port to listen at."),
    allow_hosts: list[str] = typer.Option(
        [], "--allow-host", help="Further name that a browser may use for the page; may be repeated."
    ),
    max_upload: int = typer.Option(1024, help="Largest file in megabytes."),
) -> None:
    """Open a page for MRI in, mask out, in the browser of this machine."""
    from brainseg_keras.app import find_models, serve
    from brainseg_keras.app.door import LOCAL
    from brainseg_keras.errors import InputError

    if max_upload < 1 or not 1 <= port <= 65535:
        raise InputError(f"--max-upload is 1 or more, --port 1 to 65535. Received: {max_upload} and {port}.")
    found = find_models(models, runs)
    if host.strip() and host not in LOCAL:
        typer.secho(
            f"Warning: at {host} whoever reaches this machine can use the page, without a password or encryption, and "
            "scans travel over the network. Stay with 127.0.0.1 for patients' data.",
            fg="yellow",
            err=True,
        )
    serve(found, host=host, port=port, allow_hosts=allow_hosts, max_upload=max_upload)
    # A network may still be running, and nobody waits for its answer; Python would.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
