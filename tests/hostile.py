"""Requests that the page must refuse: a table that grows with every one that somebody thinks of.

Should the page fail, it does to the disk what a case asks for. So what is to be deleted or copied lies below a folder
of the test (`secret`, or the server's own deep working folder), never elsewhere; files of the system are only read.
"""

import json
from dataclasses import dataclass, field
from itertools import product
from urllib.parse import quote

from page_client import BOUNDARY, files, form

JSON = {"Content-Type": "application/json"}
REFUSED = (400, 403, 404, 405, 411, 413, 415, 421, 422, 431)
#: Read by GET alone: see above.
SYSTEM = ("/etc/passwd", "/proc/self/environ")


@dataclass(frozen=True)
class Case:
    """One request, and the codes that may answer it."""

    name: str
    method: str = "GET"
    path: str = "/"
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    answers: tuple = REFUSED


def cases(client, secret, result, limit):
    """List every case.

    Args:
        client: A browser that has opened the page.
        secret: A folder of the server that no visitor may reach; it holds scan.png.
        result: Address of a visit's results.
        limit: Bytes of the largest file that the page takes.

    Returns:
        The cases; their names differ.
    """
    found = [
        *_hosts(client.port),
        *_origins(client.port),
        *_routes(client.tab),
        *_paths(secret),
        *_files(client, secret),
        *_bodies(client),
        *_uploads(limit),
        *_results(result),
    ]
    names = [case.name for case in found]
    assert len(set(names)) == len(names), {name for name in names if names.count(name) > 1}
    return found


def _hosts(port):
    names = [
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        "localhost",
        "127.0.0.1:1",
        f"localhost:{port + 1}",
        f"127.0.0.1:{port}.evil.example",
        f"127.0.0.1.evil.example:{port}",
        f"127.0.0.1:{port}@evil.example",
        f"evil.example@127.0.0.1:{port}",
        f"127.0.0.1:{port}, evil.example",
        f"0.0.0.0:{port}",
        f"192.168.0.1:{port}",
        f"2130706433:{port}",
        f"127.1:{port}",
        f"[::1:{port}",
        f"[fe80::1]:{port}",
        f"local\xe9host:{port}",
        "",
        "*",
        None,
        f"127.0.0.1:{port}\nevil.example",
    ]
    upload, multipart = form(("a.png", b"x"))
    for name in names:
        yield Case(f"Host {name!r} asks for the page", headers={"Host": name})
        yield Case(f"Host {name!r} uploads", "POST", "/gradio_api/upload", multipart | {"Host": name}, upload)
    yield Case("X-Forwarded-Host of elsewhere", headers={"X-Forwarded-Host": "evil.example"})
    yield Case("the whole address in the request", path="http://evil.example/", headers={"Host": "evil.example"})


def _origins(port):
    names = [
        "http://evil.example",
        f"http://evil.example:{port}",
        "null",
        "",
        "file://",
        "http://127.0.0.1:1",
        f"http://localhost:{port + 1}",
        f"http://127.0.0.1:{port}.evil.example",
        f"http://evil.example@127.0.0.1:{port}",
        f"ftp://127.0.0.1:{port}",
        f"chrome-extension://127.0.0.1:{port}",
        f"http://127.0.0.1:{port}\nhttp://evil.example",
    ]
    upload, multipart = form(("a.png", b"x"))
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for name in names:
        origin, refused = {"Origin": name}, (400, 403)
        yield Case(f"Origin {name!r} asks for the page", headers=origin, answers=refused)
        yield Case(f"Origin {name!r} uploads", "POST", "/gradio_api/upload", multipart | origin, upload, refused)
        yield Case(f"Origin {name!r} asks for leave", "OPTIONS", "/gradio_api/upload", preflight | origin, b"", refused)
    own = preflight | {"Origin": f"http://127.0.0.1:{port}"}
    yield Case("its own origin asks for leave", "OPTIONS", "/gradio_api/upload", own, answers=(404, 405))


def _routes(tab):
    get = [
        "/config",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/login",
        "/logout",
        "/monitoring",
        "/monitoring/summary",
        "/svelte/x",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/user",
        "/gradio_api/token",
        "/gradio_api/login_check",
        "/gradio_api/dev/reload",
        "/gradio_api/runs",
        "/gradio_api/run-history/buckets",
        "/gradio_api/queue/status",
        "/gradio_api/startup-events",
        "/gradio_api/vibe-code/",
        "/gradio_api/profiling/traces",
        "/gradio_api/custom_component/x/client/component/../../x.py",
        "/gradio_api/call/predict/x",
        f"/gradio_api/deep_link?session_hash={tab}",
        "/gradio_api/stream/x/0/0/playlist.m3u8",
        "/gradio_api/mcp/",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/gradio_api/proxy=https://evil.example/x",
        "/gradio_api/call/v2/predict/x",
        "/gradio_api/file=http://127.0.0.1:1/",
        "/gradio_api/file=https://evil.example/x.png",
        "/gradio_api/heartbeat/",
        "/gradio_api/heartbeat/a%2fb",
        "/gradio_api/heartbeat/" + "a" * 5000,
    ]
    post = [
        "/gradio_api/component_server",
        "/gradio_api/component_server/",
        "/gradio_api/process_recording",
        "/gradio_api/cancel",
        "/gradio_api/reset",
        "/gradio_api/stream/x",
        "/gradio_api/stream/x/close",
        "/gradio_api/call/predict",
        "/gradio_api/call/v2/predict",
        "/gradio_api/api/predict",
        "/gradio_api/run/segment",
        "/gradio_api/run/leave",
        "/gradio_api/run-history/connect",
        "/gradio_api/vibe-edit/",
        "/gradio_api/undo-vibe-edit/",
        "/login",
        "/",
    ]
    body = json.dumps({"data": [], "session_hash": tab, "component_id": 0, "fn_name": "ls", "event_id": "x"}).encode()
    yield from (Case(f"GET {path[:80]}", path=path, answers=(404, 405, 422)) for path in get)
    yield from (Case(f"POST {path}", "POST", path, JSON, body, (404, 405)) for path in post)
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"):
        yield Case(f"{method} of the page", method, answers=(400, 404, 405))


def _paths(secret):
    ways = [
        "{0}",
        "/{0}",
        "./..{0}",
        "..%2f..%2f..%2f..%2f..%2f..%2f..{1}",
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e{0}",
        "....//....//....//....//{0}",
        "..\\..\\..\\..{0}",
        "{0}%00.png",
        "file://{0}",
    ]
    roots = ["/gradio_api/file=", "/gradio_api/file/", "/assets/", "/static/", "/theme.css/", "/result/", "/"]
    for number, target in enumerate((f"{secret}/scan.png", *SYSTEM)):
        for root, way in product(roots, ways):
            path = root + way.format(target, quote(target, safe=""))
            yield Case(f"opens secret {number} by {root}{way}", path=path, answers=(400, 403, 404, 405))


def _files(client, secret):
    remember, segment = client.function("files", "upload"), client.function("run", "click")
    meta = {"meta": {"_type": "gradio.FileData"}}
    # A name of nothing stands for the folder that it would lie in.
    targets = [f"{secret}/nothing.png", f"{secret}/deep/nothing.png", f"{secret}/scan.png", f"{secret}/deep"]
    targets += ["nothing.png", "../nothing.png", "./x/../../nothing.png", "~/nothing.png", "", ".", "\0", "x" * 5000]
    targets += ["http://127.0.0.1:1/x.png", "https://evil.example/x.png", f"file://{secret}/scan.png"]
    targets += ["\u00e9" * 22, "\ud800", "A" * 21 + "\n", 7, None, True, [], {}, ["a"]]
    shapes = {
        "one of a list": lambda target: [{"path": target} | meta],
        "alone": lambda target: {"path": target} | meta,
        "as a stream": lambda target: [{"path": target, "is_stream": True} | meta],
        "with an address": lambda target: [{"path": target, "url": "http://127.0.0.1:1/x.png"} | meta],
        "without its kind": lambda target: [{"path": target}],
        "as text": lambda target: [target],
        "nested": lambda target: [[{"path": target} | meta]],
        "as a value": lambda target: {"value": [{"path": target} | meta]},
    }
    look = ["bright.keras", "none", "Outline", 0.8]
    for (number, target), (shape, make) in product(enumerate(targets), shapes.items()):
        if number >= 4 and shape not in ("one of a list", "alone"):
            continue
        yield _call(f"remember file {number}, {shape}", client, remember, [make(target)], queue=False)
        yield _call(f"segment file {number}, {shape}", client, segment, [make(target), *look])
    (scan,) = files([f"{secret}/scan.png"])
    for index in (1, 2, 3, 4):
        data = [[], *look]
        data[index] = scan
        yield _call(f"a file in place {index}", client, segment, data)
    yield _call("a file as the other scan", client, client.function("scan", "input"), [scan, *look])


def _call(name, client, function, data, *, queue=True, **fields):
    body = {"data": data, "fn_index": function, "session_hash": client.tab} | fields
    path = f"/gradio_api/{'queue/join' if queue else 'run/predict'}"
    return Case(name, "POST", path, JSON, json.dumps(body).encode(), (400, 404, 422))


def _bodies(client):
    segment, redraw = client.function("run", "click"), client.function("slice", "input")
    leave = next(each["id"] for each in client.config["dependencies"] if each["targets"][0][1] == "unload")
    good, look = [[], "bright.keras", "none", "Outline", 0.8], [1, "Outline", 0.5, 0.5, "FLAIR"]
    for number in (-1, 10**6, 10**30, 1.5, True, None, "0", [0], {}):
        yield _call(f"function {number!r}", client, number, good)
    yield _call("leaving for somebody", client, leave, [], queue=False)
    yield _call("leaving for somebody, in the queue", client, leave, [])
    yield _call("a network past the queue", client, segment, good, queue=False)
    yield _call("a slider in the queue", client, redraw, look)
    for tab in (None, "", 7, [], {}, "a/b", "../x", "a" * 5000, "\u00e9", "\ud800", "a b", True):
        yield _call(f"tab {ascii(tab)[:12]}", client, redraw, look, queue=False, session_hash=tab)
    for data in ([], [1], [*look, 1], None, "x", {}, 7):
        yield _call(f"values {str(data)[:40]}", client, redraw, data, queue=False)
    wrong = {
        0: [None, "1", [1], {}, True, 1e400, -1e400],
        1: [7, [], {}, True, ["Outline"], "x" * 5000],
        2: ["0.5", [], {}, None],
        3: ["0.5", [], {}, None],
        4: [7, [], {}, True],
    }
    for index, values in wrong.items():
        for value in values:
            data = [*look[:index], value, *look[index + 1 :]]
            yield _call(f"value {ascii(value)[:12]} at {index}", client, redraw, data, queue=False)
    whole = json.dumps({"data": look, "fn_index": redraw, "session_hash": client.tab}).encode()
    texts = {
        "nothing": b"",
        "half": whole[:-5],
        "no JSON": b"data=1",
        "a list": b"[]",
        "a number": b"7",
        "null": b"null",
        "not UTF-8": whole.replace(b"FLAIR", b"\xff\xfe"),
        "NaN": whole.replace(b"[1,", b"[NaN,"),
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "deep within": whole.replace(b'"FLAIR"', b"[" * 50_000 + b"]" * 50_000),
        "a number of 10,000 digits": whole.replace(b"[1,", b"[" + b"9" * 10_000 + b","),
        "32 MB": whole.replace(b"FLAIR", b"x" * (32 << 20)),
    }
    for (name, text), path in product(texts.items(), ("run/predict", "queue/join")):
        yield Case(f"{path} of {name}", "POST", f"/gradio_api/{path}", JSON, text, (400, 413, 422))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", None):
        headers = {"Content-Type": kind}
        yield Case(f"JSON called {kind!r}", "POST", "/gradio_api/run/predict", headers, whole, (400, 415))
    for length in ("-1", "x", "1e3", "99999999999999999999"):
        yield Case(f"Content-Length {length}", "POST", "/gradio_api/run/predict", JSON | {"Content-Length": length})
    for query in (
        "",
        "?session_hash=",
        "?session_hash=a/b",
        "?session_hash=a&session_hash=b",
        "?session_hash=%ff",
        "?x=1",
    ):
        yield Case(f"events of {query!r}", path=f"/gradio_api/queue/data{query}", answers=(400, 404, 422))


def _uploads(limit):
    body, headers = form(("a.png", b"x"))
    disposition = b'Content-Disposition: form-data; name="files"; filename="a.png"'
    many = form(*((f"{number}.png", b"") for number in range(1001)))[0]
    texts = {
        "nothing": b"",
        "no file": f"--{BOUNDARY}--\r\n".encode(),
        "no parts": b"just text",
        "no end": body[: body.rindex(b"--" + BOUNDARY.encode())],
        "no disposition": body.replace(disposition, b"X: y"),
        "no field name": body.replace(b'name="files"; ', b""),
        "another field": body.replace(b'"files"', b'"other"'),
        "no file name": body.replace(b'; filename="a.png"', b""),
        "an empty name": body.replace(b"a.png", b""),
        "dots": body.replace(b"a.png", b".."),
        "only folders": body.replace(b"a.png", b"../../"),
        "a header of 1 MB": body.replace(b"a.png", b"a" * (1 << 20)),
        "1000 headers": body.replace(disposition, disposition + b"\r\nX: y" * 1000),
        "no colon": body.replace(b"Content-Disposition:", b"Content-Disposition"),
        "too much": form(("a.png", b"\0" * (limit + 1)))[0],
        "one good and too much": form(("a.png", b"x"), ("b.png", b"\0" * (limit + 1)))[0],
        "1001 files": many,
        "1001 fields": many.replace(b"; filename=", b"; x="),
    }
    for name, text in texts.items():
        yield Case(f"upload of {name}", "POST", "/gradio_api/upload", headers, text, (400, 413, 422))
    kinds = ["application/json", "text/plain", "", None, "multipart/form-data", "multipart/form-data; boundary="]
    for kind in [*kinds, "multipart/form-data; boundary=" + "x" * 5000]:
        yield Case(f"upload called {str(kind)[:40]!r}", "POST", "/gradio_api/upload", {"Content-Type": kind}, body)


def _results(result):
    masks = ("-1", "-5", "1", "99999999999999999999", "9" * 5000, "x", "", "0x0", "1.0", "%00", "%ff", "\xe9", "0/0")
    for mask in masks:
        yield Case(f"mask {mask[:30]!r}", path=f"{result}/mask/{mask}", answers=(400, 404, 422))
    for kind in ("report/1", "report/-1", "report/x", "secret", "secret/0", "", "mask", "../mask/0", "%2e%2e/mask/0"):
        yield Case(f"result {kind!r}", path=f"{result}/{kind}", answers=(404, 405, 422))
    own = result.removeprefix("/result/")
    tokens = {
        "guess": "guess",
        "nothing": "",
        "half": own[:-1],
        "longer": own + "A",
        "a quoted letter": quote("\u00e9" * 22),
        "a raw letter": "\xe9",
        "no UTF-8": "%ff%fe",
        "half a pair": "%ed%a0%80",
        "nil": "%00",
        "long": "a" * 20_000,
        "folders": "..%2f..%2fetc",
    }
    for (name, token), what in product(tokens.items(), ("mask/0", "report")):
        yield Case(f"{what} of token {name}", path=f"/result/{token}/{what}", answers=(400, 404, 422))
