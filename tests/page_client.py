"""Speaking to the page as a browser does, and as no browser would: requests of raw bytes, uploads, a whole visit."""

import contextlib
import http.client
import json
import re
import socket
from dataclasses import dataclass, field

BOUNDARY = "parting"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self):
        return self.body.decode(errors="replace")


def form(*sent, field="files"):
    """Make a multipart body of files, each a name and its content; and the header that goes with it."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'.encode()
        + b"Content-Type: application/octet-stream\r\n\r\n"
        + content
        + b"\r\n"
        for name, content in sent
    ]
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(), headers


def files(uploads):
    """Name uploads as the browser does."""
    return [{"path": upload, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}} for upload in uploads]


def result_of(shown):
    """Find the address of a visit's results in what the page shows."""
    return re.search(r"/result/[^/\"\\]+", shown)[0]


@dataclass
class Client:
    """One tab of a browser at a page, which waits for an answer for some seconds."""

    port: int
    tab: str = "tab0"
    cookie: str = ""
    config: dict = field(default_factory=dict)
    patience: float = 30

    def send(self, method, path, headers=None, body=b""):
        """Send a request as it stands, whatever it holds; the connection is left open for the answer."""
        sent = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        sent |= {"Cookie": self.cookie} if self.cookie else {}
        sent |= {"Content-Length": str(len(body))} if body or method == "POST" else {}
        sent |= headers or {}
        # Several values of one header are parted by line breaks.
        lines = [f"{name}: {part}" for name, value in sent.items() if value is not None for part in value.split("\n")]
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=self.patience)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            connection.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1") + body)
        return connection

    def ask(self, method, path, headers=None, body=b""):
        """Send a request and read the answer; of a stream, which has no end, the beginning."""
        with self.send(method, path, headers, body) as connection:
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            found = {name.lower(): value for name, value in response.getheaders()}
            stream = found.get("content-type", "").startswith("text/event-stream")
            return Answer(response.status, found, response.read1(1 << 16) if stream else response.read())

    def open(self):
        """Open the page: take its cookie, and read what it is made of."""
        page = self.ask("GET", "/")
        assert page.status == 200, page.text
        self.cookie = page.headers.get("set-cookie", "").partition(";")[0]
        self.config = json.loads(re.search(r"window\.gradio_config = (\{.*?\});</script>", page.text, re.DOTALL)[1])
        return self

    def function(self, element, event):
        """Find what an event calls, by the element's id in the page."""
        part = next(each["id"] for each in self.config["components"] if each["props"].get("elem_id") == element)
        return next(each["id"] for each in self.config["dependencies"] if [part, event] in each["targets"])

    def stay(self):
        """Hold the connection that says that the tab is open; closing it is leaving."""
        connection = self.send("GET", f"/gradio_api/heartbeat/{self.tab}")
        heard = b""
        while b"ALIVE" not in heard:
            more = connection.recv(1 << 16)
            assert more, heard
            heard += more
        return connection

    def upload(self, *sent):
        """Send files, each a name and its content, and give what the page calls them."""
        body, headers = form(*sent)
        answer = self.ask("POST", "/gradio_api/upload", headers, body)
        assert answer.status == 200, answer.text
        return json.loads(answer.body)

    def call(self, function, *values, queue):
        """Call what an event calls."""
        body = {"data": list(values), "fn_index": function, "session_hash": self.tab}
        path = f"/gradio_api/{'queue/join' if queue else 'run/predict'}"
        return self.ask("POST", path, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def remember(self, uploads):
        """Tell the page what has been dropped."""
        return self.call(self.function("files", "upload"), files(uploads), queue=False)

    def segment(self, uploads, model, second="none"):
        """Press the button, and give what the page then shows, as one text."""
        answer = self.call(self.function("run", "click"), files(uploads), model, second, "Outline", 0.8, queue=True)
        return self.wait() if answer.status == 200 else answer.text

    def wait(self):
        """Read the stream of what happens up to the end of the run."""
        with self.send("GET", f"/gradio_api/queue/data?session_hash={self.tab}") as connection:
            response = http.client.HTTPResponse(connection)
            response.begin()
            for line in response:
                if b"process_completed" in line or b"unexpected_error" in line:
                    return line.decode()
        return ""
