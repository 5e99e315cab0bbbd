"""The page's server: reachable from this machine only unless told otherwise; it makes no network requests."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from brainseg_keras.app.door import Door, Names
from brainseg_keras.app.place import own_folder
from brainseg_keras.app.results import mask_file, report_file
from brainseg_keras.app.sessions import Models, Visit, Visits
from brainseg_keras.errors import InputError, missing_extra
from brainseg_keras.folds import FILE

#: What tells the folder of a run, or of folds.
_RUNS = ("best.keras", FILE)


def find_models(models: Iterable[str | Path] = (), runs: str | Path = "tensorboard_logs") -> dict[str, str]:
    """List what the page offers: models that were named, shipped ones, and the runs in a folder.

    Args:
        models: Run folders, folders of folds, files or shipped names; they come first.
        runs: Folder of runs and of folds; it need not be there.

    Returns:
        What to load, by the name to show.

    Raises:
        InputError: A model that is not there.

    Example:
        >>> list(find_models(runs="no/such/folder"))
        ['lgg']
    """
    from brainseg_keras.inference.networks import ENDINGS
    from brainseg_keras.models.shipped import list_pretrained

    found: dict[str, str] = {}
    for model in map(str, models):
        path = Path(model)
        is_run = any((path / name).is_file() for name in _RUNS)
        is_model = is_run or (path.is_file() and path.suffix in ENDINGS)
        if model not in list_pretrained() and not is_model:
            raise InputError(
                f"No model at {model}. Give the folder of a run (with best.keras) or of folds, a .keras, .onnx or "
                f".tflite file, or a shipped name: {', '.join(list_pretrained())}."
            )
        name = model if model in list_pretrained() else path.name
        found[name if name not in found else model] = model
    found |= {name: name for name in list_pretrained() if name not in found}
    for path in sorted(file for name in _RUNS for file in Path(runs).glob(f"*/{name}")):
        found.setdefault(path.parent.name, str(path.parent))
    return found


def create_app(
    models: dict[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    allow_hosts: Iterable[str] = (),
    max_upload: int = 1024,
    engine: str | None = "auto",
) -> Any:
    """Make the web application.

    Args:
        models: What the page offers, as `find_models` gives it.
        host: Address at which it will be served.
        port: Port at which it will be served.
        allow_hosts: Further names that a browser may use for it.
        max_upload: Megabytes of one file; what a zip unpacks to may be four times as much.
        engine: What runs the networks; see `Predictor`.

    Returns:
        A FastAPI application. What visitors send lies in `state.folder` until it has been served, or `state.remove()`.

    Raises:
        InputError: Gradio is not installed, or a further name is none.
    """
    names = Names(host, port, allow_hosts)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(own_folder())
        # Both are read when Gradio is imported.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
        with _needing_gradio():
            import gradio
            from fastapi import FastAPI
        from brainseg_keras.app.page import build_page, calls_of, style

        @contextlib.asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            yield
            app.state.remove()

        visits, limit, closing = Visits(folder / "visits"), max_upload * 2**20, asyncio.Event()
        page = build_page(Models(models, engine), visits, max_upload=max_upload)
        app = FastAPI(lifespan=lifespan, openapi_url=None)
        app.add_middleware(Door, names=names, calls=calls_of(page), closing=closing)
        _add_routes(app, visits, limit)
        look = style() | {"ssr_mode": False, "footer_links": [], "run_history": False}
        gradio.mount_gradio_app(app, page, path="/", max_file_size=limit, **look)
        app.state.folder, app.state.closing, app.state.remove = folder, closing, stack.pop_all().close
    return app


@contextlib.contextmanager
def _needing_gradio() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise missing_extra("gradio", "ui") from error


def _add_routes(app: Any, visits: Visits, limit: int) -> None:
    """Add what this server answers itself, before Gradio: files on their way in, and results on their way out."""
    from fastapi import HTTPException, Request, Response
    from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse

    from brainseg_keras.app.receive import UploadError, receive

    @app.post("/gradio_api/upload")
    async def upload(request: Request) -> Response:
        try:
            return JSONResponse(await receive(request, visits, limit))
        except UploadError as error:
            return PlainTextResponse(str(error), error.code)

    @app.get("/gradio_api/upload_progress")
    def progress() -> Response:
        return Response(media_type="text/event-stream")

    @app.get("/gradio_api/file={token}")
    def own_upload(token: str) -> Response:
        file = visits.file(token)
        if file is None:
            raise HTTPException(404, "This file is gone: its page was closed.")
        return FileResponse(file, media_type="application/octet-stream", headers=_attached(file.name))

    @app.get("/result/{token}/report")
    def report(token: str) -> Response:
        return result(token, lambda visit: report_file(visit.study, visit.wish))

    @app.get("/result/{token}/mask/{number}")
    def mask(token: str, number: int) -> Response:
        def make(visit: Visit) -> tuple[str, bytes] | None:
            names = list(visit.study.answers)
            found = 0 <= number < len(names)
            return mask_file(visit.study, names[number], visit.wish.threshold) if found else None

        return result(token, make)

    def result(token: str, make: Callable[[Visit], tuple[str, bytes] | None]) -> Response:
        visit = visits.by_token(token)
        found = make(visit) if visit and visit.study else None
        if found is None:
            raise HTTPException(404, "This result is gone: its page was closed. Segment the scan again.")
        name, content = found
        return Response(content, media_type="application/octet-stream", headers=_attached(name))


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}", "Cache-Control": "no-store"}


def serve(
    models: dict[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    allow_hosts: Iterable[str] = (),
    max_upload: int = 1024,
    engine: str | None = "auto",
) -> None:
    """Serve the page until it is stopped, by Ctrl-C, by SIGTERM, or by the terminal's end.

    Args:
        models: What the page offers.
        host: Address to listen at.
        port: Port to listen at.
        allow_hosts: Further names that a browser may use for the page.
        max_upload: Megabytes of one file.
        engine: What runs the networks; see `Predictor`.

    Raises:
        InputError: Gradio is not installed, the port is taken, or the address or a further name is none.
    """
    with _needing_gradio():
        # It comes with Gradio.
        import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.closing.set()
            await super().shutdown(sockets)

    with _listen(host, port) as listening, _ended_by_signals():
        wishes = {"allow_hosts": allow_hosts, "max_upload": max_upload, "engine": engine}
        app = create_app(models, host=host, port=port, **wishes)
        # Libraries' scratch files may hold a part of a scan: they go with the rest.
        before, tempfile.tempdir = tempfile.tempdir, str(app.state.folder)
        try:
            shown = f"[{host}]" if ":" in host else host
            logging.getLogger(__name__).warning("The page is at http://%s:%d (stop with Ctrl-C)", shown, port)
            ways = {"log_level": "warning", "ws": "none", "server_header": False, "timeout_graceful_shutdown": 1}
            # Uvicorn sends the signal on once it has shut down.
            with contextlib.suppress(KeyboardInterrupt):
                Server(uvicorn.Config(app, **ways)).run(sockets=[listening])
        finally:
            tempfile.tempdir = before
            app.state.remove()


def _listen(host: str, port: int) -> socket.socket:
    """Take the port, before the long load of a network's library."""
    if not host.strip():
        raise InputError(
            "--host is an address to listen at. Received none. Give 127.0.0.1 for this machine alone, 0.0.0.0 for all."
        )
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    # A name that is no name is a UnicodeError, a port beyond all an OverflowError.
    except (OSError, OverflowError, UnicodeError) as error:
        taken.close()
        words = getattr(error, "strerror", None) or "this is not a name of a machine"
        raise InputError(f"Cannot listen at {host}:{port} ({words}). Give another --port or --host.") from error
    return taken


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and the terminal's end do what Ctrl-C does, so that visitors' files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    wanted = {signal.SIGTERM: interrupt}
    if hasattr(signal, "SIGHUP"):
        # By way of SIGTERM, which the server listens to as well.
        wanted[signal.SIGHUP] = lambda *_: signal.raise_signal(signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in wanted}
    for number, action in wanted.items():
        if before[number] != signal.SIG_IGN:
            signal.signal(number, action)
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
