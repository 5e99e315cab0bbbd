"""Under which names and at which address the page is served, and what `brainseg app` refuses."""

import socket

import pytest
from commands import brainseg, here

from brainseg_keras.app.door import Names
from brainseg_keras.app.server import serve
from brainseg_keras.errors import InputError


@pytest.mark.parametrize(
    ("host", "port", "more", "served", "refused"),
    [
        (
            "127.0.0.1",
            7860,
            [],
            ["127.0.0.1:7860", "localhost:7860", "[::1]:7860"],
            ["127.0.0.1", "127.0.0.1:80", "", "a"],
        ),
        ("127.0.0.1", 80, [], ["127.0.0.1", "localhost", "[::1]", "localhost:80"], ["localhost:7860"]),
        ("192.168.0.2", 7860, [], ["192.168.0.2:7860"], ["localhost:7860", "192.168.0.3:7860", "evil.example:7860"]),
        ("0.0.0.0", 7860, [], ["192.168.0.2:7860", "[fe80::1]:7860", "localhost:7860"], ["192.168.0.2:1", "a:7860"]),
        ("::1", 7860, ["A.org"], ["[::1]:7860", "a.org", "a.ORG:7860"], ["a.org:1", "b.a.org", "a.org.evil.example"]),
        (
            "127.0.0.1",
            7860,
            ["a.org:8080"],
            ["a.org:8080", "127.0.0.1:7860"],
            ["a.org", "a.org:7860", "127.0.0.1:8080"],
        ),
    ],
)
def test_the_page_knows_its_names(host, port, more, served, refused):
    names = Names(host, port, more)
    assert [name for name in served + refused if names.serve(name)] == served


def test_the_page_knows_its_own_origin():
    names = Names("0.0.0.0", 7860, ["a.org"])
    own = [("http://10.0.0.2:7860", "10.0.0.2:7860"), ("https://a.org", "10.0.0.2:7860"), ("http://A.org", "a.org")]
    foreign = [("http://10.0.0.3:7860", "10.0.0.2:7860"), ("null", "a.org"), ("", "a.org"), ("a.org", "a.org")]
    foreign += [("http://a.org.evil.example", "a.org"), ("ftp://a.org", "a.org"), ("http://a.org:1", "a.org")]
    assert [pair for pair in own + foreign if names.admit(*pair)] == own


@pytest.mark.parametrize(
    "name", ["", " ", "http://a.org", "a.org/x", "*", "a.org:x", "a b", "a@b", "a.org:123456", ".", "[g]"]
)
def test_a_further_name_that_is_none_is_refused(name):
    with pytest.raises(InputError, match="--allow-host is a name"):
        Names("127.0.0.1", 7860, [name])


@pytest.mark.parametrize("host", ["", " ", "no such host", "a" * 70, "300.1.1.1", "1.2.3.4"])
def test_an_address_that_is_none_is_refused(host):
    with pytest.raises(InputError, match="--host"):
        serve({}, host=host)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--port", "70000"], "--port is a whole number from 1 to 65535. Received: 70000"),
        (["--max-upload", "0"], "--max-upload is a whole number"),
        (["--host", ""], "--host is an address"),
        (["--host", " "], "--host is an address"),
        (["--model", "no/such"], "No model at no/such"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(wrong, words):
    code, _, err = here("app", *wrong)
    assert code == 2 and words in " ".join(err.split())
    assert "Warning" not in err


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        done = brainseg("app", "--host", "0.0.0.0", "--port", taken.getsockname()[1], cwd=tmp_path)
    assert done.returncode == 2 and "Cannot listen at" in done.stderr
    assert "Warning: at 0.0.0.0 whoever reaches this machine" in done.stderr
