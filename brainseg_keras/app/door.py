"""Who may ask what: every request passes here before Gradio, whose own checks are off where it is mounted."""

import asyncio
import hashlib
import ipaddress
import json
import logging
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from brainseg_keras.errors import InputError

_log = logging.getLogger(__name__)

#: The browser may talk to this server only: whatever a library's page asks for elsewhere is refused.
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
LOCAL = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}
_FILE = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
#: All that the page itself ever asks for. Gradio has many more: files, proxies, the calls of an API.
_ASKED = {
    "GET": re.compile(
        rf"/|/theme\.css|/favicon\.ico|/(assets|static)(/{_FILE})+|/result/[^/]+/(report|mask/[^/]+)"
        r"|/gradio_api/(app_id|queue/data|upload_progress|heartbeat/[^/]+|file=[^/]+)"
    ),
    "POST": re.compile(r"/gradio_api/(upload|run/predict|queue/join)"),
}
_CALLS = {"/gradio_api/run/predict": False, "/gradio_api/queue/join": True}
_HEARTBEAT = "/gradio_api/heartbeat/"
_TAB, _TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}"), re.compile(r"[A-Za-z0-9_-]{22}")
_COOKIE = re.compile(r"(?:^|;\s*)brainseg=([A-Za-z0-9_-]{22})(?:;|$)")
_NAME = re.compile(r"([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?")
_LONGEST_BODY, _LONGEST_TEXT, _LARGEST_NUMBER = 8 << 20, 1000, 1e6
_TOO_LONG = "The request is too long."


class Call(NamedTuple):
    """What an event of the page calls: whether it waits in the queue, and what kind each of its inputs is.

    Kinds are "files", "number", "text", and "state" for what the server holds itself.
    """

    queued: bool
    kinds: tuple[str, ...]


class Names:
    """The names under which the page is served, as a browser writes them in `Host`.

    A name of elsewhere that leads here is refused: another site's page would reach this one through it.

    Args:
        host: Address that the server listens at.
        port: Port that it listens at.
        more: Further names, such as a proxy's; each with a port, or for the page's own port and the usual ones.

    Raises:
        InputError: A further name that is none.

    Example:
        >>> names = Names("127.0.0.1", 7860, ["scans.example.org"])
        >>> [names.serve(name) for name in ("localhost:7860", "scans.example.org", "evil.example:7860")]
        [True, True, False]
    """

    def __init__(self, host: str, port: int, more: Iterable[str] = ()):
        listed = set()
        for name in more:
            if not _NAME.fullmatch(name):
                raise InputError(
                    f"--allow-host is a name that a browser may use for the page. Received: {name!r}. Give it without "
                    "http:// and path, such as scans.example.org or scans.example.org:8080."
                )
            listed |= {name} if re.search(r":\d+$", name) else {name, f"{name}:{port}"}
        for own in LOCAL if host in (*LOCAL, "0.0.0.0", "::") else [host]:
            shown = f"[{own}]" if ":" in own else own
            listed |= {f"{shown}:{port}"} | ({shown} if port == 80 else set())
        self._listed = {name.lower() for name in listed}
        self._port = port
        # Listening everywhere, it has all the machine's addresses: an address leads nowhere else, as a name may.
        self._any_address = host in ("0.0.0.0", "::")

    def serve(self, name: str) -> bool:
        """Say whether the page is served under a name."""
        if name.lower() in self._listed:
            return True
        address, _, port = name.rpartition(":")
        return self._any_address and port == str(self._port) and _is_address(address.strip("[]"))

    def admit(self, origin: str, host: str) -> bool:
        """Say whether the page that sent a request is this one."""
        scheme, _, name = origin.partition("://")
        return scheme in ("http", "https") and (name.lower() == host.lower() or name.lower() in self._listed)


class _RefusedError(Exception):
    def __init__(self, code: int, words: str):
        super().__init__(words)
        self.code = code


class Door:
    """Lets through what the page asks for, in the form in which it asks, and ends every answer when the server closes.

    Plain ASGI, since Starlette's own kind of middleware hides that a browser has left.

    Args:
        app: The application behind the door.
        names: Under which names it is served.
        calls: What the page's events call, by their numbers.
        closing: Set when the server is to end.
    """

    def __init__(self, app: Any, *, names: Names, calls: Mapping[int, Call], closing: asyncio.Event):
        self._app, self._names, self._calls, self._closing = app, names, calls, closing

    async def __call__(self, scope: Any, receive: Callable, send: Callable) -> None:
        """Handle a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":
            return
        visitor = _visitor(scope)
        answer = _Answer(send, cookie=scope["path"] == "/" and visitor is None)
        try:
            self._check(scope)
            asked, heard = await self._rewritten(scope, receive, visitor or "")
            await self._app(asked, _until(self._closing, heard), answer.send)
        except _RefusedError as error:
            await answer.whole(error.code, str(error))
        except Exception as error:  # a visitor gets words whatever happens; the log has the rest
            if answer.begun:
                _log.warning("An answer broke off (%s).", type(error).__name__)
            else:
                _log.exception("A request failed")
                await answer.whole(500, "This failed, and should not have. The terminal says more.")
        finally:
            if self._closing.is_set():
                await answer.end()

    def _check(self, scope: Any) -> None:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not all(map(self._names.serve, hosts + _values(scope, b"x-forwarded-host"))):
            raise _RefusedError(421, "The page is not served under this name. --allow-host NAME adds one.")
        if not all(self._names.admit(origin, hosts[0]) for origin in _values(scope, b"origin")):
            raise _RefusedError(403, "Another site's page may not ask this one.")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if not any(pattern.fullmatch(scope["path"]) for pattern in _ASKED.values()):
            raise _RefusedError(404, "There is nothing here.")
        if method not in _ASKED or not _ASKED[method].fullmatch(scope["path"]):
            raise _RefusedError(405, "This is asked for in another way.")

    async def _rewritten(self, scope: Any, receive: Callable, visitor: str) -> tuple[Any, Callable]:
        """Make the request that goes on: what was checked, with the tab's name bound to its browser."""
        path, query = scope["path"], b""
        # With these, Gradio would grant other origins leave, and take its own address from the request.
        dropped = (b"origin", b"x-gradio-server")
        headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
        if path.startswith(_HEARTBEAT):
            path = _HEARTBEAT + _bound(visitor, path.removeprefix(_HEARTBEAT))
        elif path == "/gradio_api/queue/data":
            tabs = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
            query = b"session_hash=" + _bound(visitor, tabs[0] if len(tabs) == 1 else None).encode()
        elif path in _CALLS:
            kind = b"".join(_values(scope, b"content-type", text=False))
            if kind.partition(b";")[0].strip().lower() != b"application/json":
                raise _RefusedError(415, "A call is sent as application/json.")
            length = "".join(_values(scope, b"content-length"))
            if length and (not length.isdecimal() or int(length[:20]) > _LONGEST_BODY):
                raise _RefusedError(413, _TOO_LONG)
            body = self._call(await _read(receive), visitor, queued=_CALLS[path])
            headers = [
                (name, value) for name, value in headers if name not in (b"content-length", b"transfer-encoding")
            ]
            headers.append((b"content-length", str(len(body)).encode()))
            receive = _replay(body, receive)
        return scope | {"path": path, "raw_path": path.encode(), "query_string": query, "headers": headers}, receive

    def _call(self, body: bytes, visitor: str, *, queued: bool) -> bytes:
        """Check the body of a call and write it anew; files become the tokens that name them."""
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _RefusedError(422, "This is not JSON that can be read.") from error
        if not isinstance(sent, dict):
            raise _RefusedError(422, "A call is an object.")
        number, values, trigger = sent.get("fn_index"), sent.get("data"), sent.get("trigger_id")
        call = self._calls.get(number) if type(number) is int else None
        if call is None or call.queued != queued or not isinstance(values, list) or len(values) != len(call.kinds):
            raise _RefusedError(422, "The page has no such call.")
        checked = {
            "data": [_value(kind, value) for kind, value in zip(call.kinds, values, strict=True)],
            "fn_index": number,
            "session_hash": _bound(visitor, sent.get("session_hash")),
            "trigger_id": trigger if type(trigger) is int and abs(trigger) < _LARGEST_NUMBER else None,
        }
        return json.dumps(checked).encode()


class _Answer:
    """What goes back, with the headers that every answer has."""

    def __init__(self, send: Callable, *, cookie: bool):
        self._send = send
        self._headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
        if cookie:
            # Lax, since a link from elsewhere would otherwise begin a new visitor in the tabs that are open.
            value = f"brainseg={secrets.token_urlsafe(16)}; HttpOnly; SameSite=Lax; Path=/"
            self._headers.append((b"set-cookie", value.encode()))
        self.begun = self._ended = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            message = message | {"headers": [*message.get("headers", []), *self._headers]}
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body", False)
        await self._send(message)

    async def whole(self, code: int, words: str) -> None:
        body = words.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": code, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def end(self) -> None:
        if self.begun and not self._ended:
            await self.send({"type": "http.response.body", "body": b""})


def _until(closing: asyncio.Event, receive: Callable) -> Callable:
    """Make a `receive` that says that the browser has left as soon as the server is to end: streams end by that."""

    async def receive_or_leave() -> Any:
        tasks = [asyncio.ensure_future(receive()), asyncio.ensure_future(closing.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return await tasks[0] if tasks[0].done() else {"type": "http.disconnect"}
        finally:
            for task in tasks:
                task.cancel()

    return receive_or_leave


def _replay(body: bytes, receive: Callable) -> Callable:
    """Make a `receive` that gives a body once, and then what the connection says."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Any:
        return messages.pop() if messages else await receive()

    return replayed


async def _read(receive: Callable) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError(400, "The request broke off.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _LONGEST_BODY:
            raise _RefusedError(413, _TOO_LONG)
    return bytes(body)


def _values(scope: Any, name: bytes, *, text: bool = True) -> list:
    found = [value for key, value in scope["headers"] if key == name]
    return [value.decode("latin-1") for value in found] if text else found


def _visitor(scope: Any) -> str | None:
    """Find the cookie that tells one browser from another."""
    found = _COOKIE.search("; ".join(_values(scope, b"cookie")))
    return found[1] if found else None


def _bound(visitor: str, tab: Any) -> str:
    """Bind the name of a tab, which its page made up, to the browser: another one that knows it is another visitor."""
    if not isinstance(tab, str) or not _TAB.fullmatch(tab):
        raise _RefusedError(422, "A tab has a name of letters and digits.")
    return hashlib.sha256(f"{visitor}/{tab}".encode()).hexdigest()[:32]


def _value(kind: str, sent: Any) -> Any:
    if kind == "state":
        return None
    if kind == "number" and type(sent) in (int, float) and math.isfinite(sent) and abs(sent) <= _LARGEST_NUMBER:
        return sent
    if kind == "text" and (sent is None or _is_text(sent)):
        return sent
    if kind == "files" and (sent is None or (isinstance(sent, list) and all(map(_is_file, sent)))):
        return [each["path"] for each in sent or []]
    raise _RefusedError(422, "A value is not of the kind that its control has.")


def _is_text(sent: Any) -> bool:
    # Half of a surrogate pair can be written in JSON, and in no file or answer.
    return isinstance(sent, str) and len(sent) <= _LONGEST_TEXT and not re.search("[\ud800-\udfff]", sent)


def _is_file(sent: Any) -> bool:
    """Say whether this names an upload by its token: a path never does."""
    return isinstance(sent, dict) and isinstance(sent.get("path"), str) and bool(_TOKEN.fullmatch(sent["path"]))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
