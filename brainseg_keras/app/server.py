"""The page's server: on this machine alone unless asked otherwise, and never calling out."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from brainseg_keras.app.results import mask_file, report_file
from brainseg_keras.app.sessions import Models, Visit, Visits
from brainseg_keras.errors import InputError

#: The browser may talk to this server only: whatever a library's page asks for elsewhere is refused.
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
LOCAL = ("127.0.0.1", "localhost", "::1")


def find_models(models: Iterable[str | Path] = (), runs: str | Path = "tensorboard_logs") -> dict[str, str]:
    """List what the page offers: models that were named, shipped ones, and the runs in a folder.

    Args:
        models: Run folders, files or shipped names; they come first.
        runs: Folder of runs; it need not be there.

    Returns:
        What to load, by the name to show.

    Raises:
        InputError: A model that is not there.

    Example:
        >>> list(find_models(runs="no/such/folder"))
        ['lgg']
    """
    from brainseg_keras.inference.networks import ENDINGS
    from brainseg_keras.models.pretrained import list_pretrained

    found: dict[str, str] = {}
    for model in map(str, models):
        path = Path(model)
        is_model = (path / "best.keras").is_file() or (path.is_file() and path.suffix in ENDINGS)
        if model not in list_pretrained() and not is_model:
            raise InputError(
                f"No model at {model}. Give the folder of a run (with best.keras), a .keras, .onnx or .tflite file, or "
                f"a shipped name: {', '.join(list_pretrained())}."
            )
        name = model if model in list_pretrained() else path.name
        found[name if name not in found else model] = model
    found |= {name: name for name in list_pretrained() if name not in found}
    for path in sorted(Path(runs).glob("*/best.keras")):
        found.setdefault(path.parent.name, str(path.parent))
    return found


def create_app(models: dict[str, str], *, max_upload: int = 1024) -> Any:
    """Make the web application.

    Args:
        models: What the page offers, as `find_models` gives it.
        max_upload: Megabytes of one file; what a zip unpacks to may be four times as much.

    Returns:
        A FastAPI application.

    Raises:
        InputError: Gradio is not installed.
    """
    # Both are read when Gradio is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    folder = Path(tempfile.mkdtemp(prefix="brainseg-app-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    try:
        import gradio
        from fastapi import FastAPI, HTTPException, Response
    except ImportError as error:
        shutil.rmtree(folder)
        raise InputError("gradio is missing. Install it: pip install 'brainseg_keras[ui]'") from error
    from brainseg_keras.app.page import build_page, style

    visits = Visits(folder / "visits")

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        shutil.rmtree(folder, ignore_errors=True)

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_middleware(_KeepToOurselves)

    @app.get("/result/{token}/{what}/{number}")
    def result(token: str, what: str, number: int) -> Response:
        visit = visits.by_token(token)
        found = _result(visit, what, number) if visit and visit.study else None
        if found is None:
            raise HTTPException(404, "This result is gone: its page was closed. Segment the scan again.")
        name, content = found
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}", "Cache-Control": "no-store"}
        return Response(content, media_type="application/octet-stream", headers=headers)

    page = build_page(Models(models), visits, max_upload=max_upload)
    options = style() | {"max_file_size": max_upload * 2**20, "ssr_mode": False, "footer_links": [], "show_error": True}
    return gradio.mount_gradio_app(app, page, path="/", **options)


class _KeepToOurselves:
    """Adds the headers to every answer; as plain ASGI, since Starlette's own kind hides that a browser has left."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = {"content-security-policy": CONTENT_POLICY, "referrer-policy": "no-referrer"}
                pairs = [(name.encode(), value.encode()) for name, value in added.items()]
                message = message | {"headers": [*message.get("headers", []), *pairs]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _result(visit: Visit, what: str, number: int) -> tuple[str, bytes] | None:
    names = list(visit.study.answers)
    if what == "report":
        return report_file(visit.study, visit.wish)
    return (
        mask_file(visit.study, names[number], visit.wish.threshold) if what == "mask" and number < len(names) else None
    )


def serve(models: dict[str, str], *, host: str = "127.0.0.1", port: int = 7860, max_upload: int = 1024) -> None:
    """Serve the page until it is stopped.

    Args:
        models: What the page offers.
        host: Address to listen at.
        port: Port to listen at.
        max_upload: Megabytes of one file.

    Raises:
        InputError: Gradio is not installed, or the port is taken.
    """
    import socket

    import uvicorn

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"Cannot listen at {host}:{port} ({error.strerror}). Give another --port or --host."
            ) from error
    app = create_app(models, max_upload=max_upload)
    shown = f"[{host}]" if ":" in host else host
    logging.getLogger(__name__).warning("The page is at http://%s:%d (stop with Ctrl-C)", shown, port)
    uvicorn.run(app, host=host, port=port, log_level="warning")
