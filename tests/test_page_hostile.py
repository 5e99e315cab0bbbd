"""The page among people who mean it no good, in a process of its own: nothing let in, nothing lost, nothing left."""

import hashlib
import io
import os
import signal
import stat
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile import cases
from page_client import Client, form, result_of
from PIL import Image
from scans import brightness_model
from servers import start_page

import brainseg_keras

LIMIT = 1 << 20
MODEL = "bright.keras"


def scan(seed=0, kind="PNG"):
    """A picture that is like no other."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3)).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def secret(tmp_path):
    """Folders that no visitor may see, copy or delete."""
    root = tmp_path / "secret"
    root.mkdir()
    (root / "scan.png").write_bytes(scan(seed=99))
    for folder in ("deep", "deep/deeper"):
        (root / folder).mkdir()
        (root / folder / "kept.txt").write_text("kept")
    return root


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """Where the server keeps what it writes."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / MODEL
    brightness_model().save(path)
    return path


@pytest.fixture(scope="module")
def server(temporary, bright):
    process, port = start_page(temporary, bright, max_upload=LIMIT >> 20)
    yield process, port
    process.kill()
    process.wait(20)


@pytest.fixture
def port(server):
    return server[1]


@pytest.fixture
def visitor(port, request):
    return Client(port, tab=hashlib.sha256(request.node.name.encode()).hexdigest()[:11]).open()


def paths(folder, ending=""):
    """All that lies below a folder, even while a server is removing a part of it."""
    found = (Path(parent) / name for parent, folders, files in os.walk(folder) for name in [*folders, *files])
    return {path for path in found if path.name.endswith(ending)}


def contents(folder):
    """All files below a folder, with what they hold."""
    return {path: path.read_bytes() for path in paths(folder) if path.is_file()}


def until(done):
    """Wait for what a server does after its answer."""
    for _ in range(200):
        if done():
            break
        time.sleep(0.1)
    return done()


def test_every_hostile_request_is_refused(visitor, secret, temporary, port, bright):
    before = contents(secret)
    tab = visitor.stay()
    result = result_of(visitor.segment(visitor.upload(("good.png", scan())), MODEL))
    wrong = []
    # Where the server keeps anything: no answer says it, unless the request did.
    paths = {
        str(temporary),
        str(secret),
        str(bright.parent),
        sys.prefix,
        str(Path(brainseg_keras.__file__).parents[1]),
    }
    tried = cases(visitor, str(secret), result, LIMIT)
    assert len(tried) > 500
    for case in tried:
        try:
            answer = visitor.ask(case.method, case.path, case.headers, case.body)
        except OSError as error:
            wrong.append((case.name, error))
            continue
        asked = case.path + case.body.decode("latin-1")
        told = [path for path in paths if path in answer.text and path not in asked]
        granted = [name for name in answer.headers if name.startswith("access-control")]
        if answer.status not in case.answers or told or granted:
            wrong.append((case.name, answer.status, told, granted))
    goes_on = visitor.ask("GET", f"{result}/mask/0").status == 200
    tab.close()
    assert until(lambda: visitor.ask("GET", f"{result}/mask/0").status == 404)
    assert not wrong, f"{len(wrong)} of {len(tried)}: {wrong[:40]}"
    assert goes_on
    assert contents(secret) == before
    stolen = before[secret / "scan.png"]
    assert not [path for path, content in contents(temporary).items() if content == stolen]
    log = "".join(path.read_text() for path in temporary.glob("*.log"))
    assert "Traceback" not in log
    assert not (temporary / "outside.txt").exists(), (temporary / "outside.txt").read_text()


@pytest.mark.parametrize("target", ["nothing.png", "deep/nothing.png", "deep/deeper/nothing.png", "scan.png"])
@pytest.mark.parametrize("way", ["remember", "segment"])
def test_leaving_deletes_no_folder_that_a_request_named(way, target, visitor, secret):
    before = contents(secret)
    tab = visitor.stay()
    if way == "remember":
        visitor.remember([f"{secret}/{target}"])
    else:
        assert "/result/" not in visitor.segment([f"{secret}/{target}"], MODEL)
    tab.close()
    time.sleep(0.5)
    assert contents(secret) == before


def test_each_visitor_has_uploads_of_their_own(visitor, port):
    other = Client(port, tab="other").open()
    assert other.cookie != visitor.cookie
    uploads = visitor.upload(("mine.png", scan(seed=5)))
    assert visitor.remember(uploads).status == 200
    shown = visitor.segment(uploads, MODEL)
    assert "mine.png" in shown
    # Who knows the upload's name, and who knows the tab's as well.
    for thief in (other, Client(port, tab=visitor.tab).open(), Client(port, tab=visitor.tab)):
        thief.config = visitor.config
        tab = thief.stay()
        taken = thief.segment(uploads, MODEL)
        assert "/result/" not in taken and "Drop it again" in taken
        look = thief.call(thief.function("slice", "input"), 1, "Outline", 0.5, 0.5, "", queue=False)
        assert look.status == 200 and "<img" not in look.text
        tab.close()
    time.sleep(0.5)
    assert visitor.ask("GET", f"{result_of(shown)}/mask/0").status == 200, "nobody can end another's visit"
    assert "mine.png" in visitor.segment(uploads, MODEL)


NAMES = [
    "../../out.png",
    "..\\..\\out.png",
    "/etc/out.png",
    "C:\\out.png",
    "a\0out.png",
    "e\u0301\u00fc" * 80 + "out.png",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_leads_nowhere(name, visitor, temporary):
    tab = visitor.stay()
    shown = visitor.segment(visitor.upload((name, scan())), MODEL)
    assert "out.png" in shown and "/result/" in shown
    assert all("brainseg-app-" in str(path) for path in paths(temporary, "out.png"))
    tab.close()
    assert until(lambda: not paths(temporary, "out.png"))


def test_no_file_is_left_by_a_visit(visitor, temporary):
    tab = visitor.stay()
    before = paths(temporary)
    uploads = visitor.upload(("left.png", scan()), ("right.png", scan(seed=1)))
    visitor.remember(uploads)
    for _ in range(3):
        shown = visitor.segment(uploads, MODEL)
        taken = [visitor.ask("GET", f"{result_of(shown)}/{what}").status for what in ("mask/0", "report")]
    fresh = [path for path in paths(temporary) - before if path.is_file()]
    assert fresh and all(path.stat().st_size for path in fresh)
    assert taken == [200, 200]
    for said in (shown, str(uploads), visitor.ask("GET", "/").text):
        assert str(temporary.parent) not in said and sys.prefix not in said, (
            "an answer says where the server keeps things"
        )
    tab.close()
    assert until(lambda: paths(temporary) <= before), paths(temporary) - before


def test_an_upload_that_breaks_off_leaves_nothing(visitor, temporary):
    body, headers = form(("broken-off.png", scan() * 50))
    before = paths(temporary)
    connection = visitor.send("POST", "/gradio_api/upload", headers | {"Content-Length": str(2 * len(body))}, body)
    assert until(lambda: paths(temporary) - before)
    connection.close()
    assert until(lambda: paths(temporary) <= before)
    assert "ClientDisconnect" not in "".join(path.read_text() for path in temporary.glob("*.log"))


@pytest.mark.parametrize("name", ["eps.png", "bomb.png", "text.png", "bomb.zip"])
def test_a_file_that_is_not_what_it_says_is_refused_in_words(name, visitor):
    """EPS would be handed to Ghostscript; the bombs unpack to a thousand times their size."""
    zipped, wide = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\0" * (LIMIT * 5))
    Image.new("1", (20_000, 20_000)).save(wide, "PNG")
    content = {
        "eps.png": scan(kind="EPS"),
        "bomb.png": wide.getvalue(),
        "text.png": b"no picture",
        "bomb.zip": zipped.getvalue(),
    }
    shown = visitor.segment(visitor.upload((name, content[name])), MODEL)
    assert 'role=\\"alert\\"' in shown and name in shown and "should not have" not in shown


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "[::1]:{}", "LocalHost:{}"])
def test_this_machine_is_answered_under_its_own_names(host, port):
    host = host.format(port)
    answer = Client(port).ask("GET", "/", {"Host": host, "Origin": f"http://{host.lower()}"})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_signal_ends_it_with_tabs_open_and_what_a_kill_left_goes_at_the_next_start(
    visitor, server, temporary, bright
):
    """Last, since it ends the server of the tests above."""
    process, _ = server
    visitor.remember(visitor.upload(("left.png", scan())))
    (folder,) = temporary.glob("brainseg-app-*")
    assert str(process.pid) in folder.name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    process.kill()
    process.wait(20)
    assert paths(temporary, "left.png")
    # A link of that name is not the page's own, whatever it leads to.
    (temporary / "kept").mkdir()
    (temporary / "brainseg-app-0-link").symlink_to(temporary / "kept")
    before = {path.name for path in temporary.iterdir()} - {folder.name}
    process, port = start_page(temporary, bright)
    assert not paths(temporary, "left.png")
    visitor = Client(port).open()
    tabs = [visitor.stay(), Client(port, tab="second").stay()]
    visitor.remember(visitor.upload(("right.png", scan())))
    assert paths(temporary, "right.png")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert all(tab.recv(1 << 16) for tab in tabs), "each ends as a stream ends"
    log = temporary / f"server-{port}.log"
    assert {path.name for path in temporary.iterdir()} == before | {log.name}
    assert not paths(temporary / "kept")
    assert "Traceback" not in log.read_text()
