"""Files on their way in: each is written to a folder of its own as it arrives, under a name that leads nowhere."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainseg_keras.app.sessions import Visits

#: Files of one request; the page sends more in several.
_MOST_FILES = 1000
#: Bytes of a file's name: room is left for what is put before and after it.
_LONGEST_NAME = 200
_BROKE_OFF = "The upload broke off. Send the files again."


class UploadError(Exception):
    """An upload that is refused.

    Args:
        code: HTTP status.
        words: What its sender is told.
    """

    def __init__(self, code: int, words: str):
        super().__init__(words)
        self.code = code


async def receive(request: Any, visits: Visits, limit: int) -> list[str]:
    """Receive the files of a multipart request.

    Args:
        request: Starlette's request.
        visits: Where the files are kept until their visit asks for them.
        limit: Bytes of one file.

    Returns:
        A token for each file.

    Raises:
        UploadError: No form, a form that is broken or cut off, no file, too many files, or one that is too large.
    """
    import anyio
    from python_multipart import MultipartParser
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import parse_options_header
    from starlette.requests import ClientDisconnect

    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise UploadError(415, "Files are sent as multipart/form-data, with a boundary.")
    form = _Form(visits.arrival_folder, limit, lambda header: parse_options_header(header)[1])
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        async for chunk in request.stream():
            await anyio.to_thread.run_sync(parser.write, chunk)
        form.check()
    except FormParserError as error:
        form.discard()
        raise UploadError(400, "This is not a form that can be read. Send the files again.") from error
    except ClientDisconnect as error:
        form.discard()
        raise UploadError(400, _BROKE_OFF) from error
    except OSError as error:
        form.discard()
        raise UploadError(507, "The server has no room for this upload.") from error
    except BaseException:
        form.discard()
        raise
    return [visits.arrived(file) for file in form.files]


class _Form:
    """Takes the parts of a form from the parser, and writes them to disk."""

    def __init__(self, new_folder: Callable[[], Path], limit: int, options_of: Callable[[bytes], dict[bytes, bytes]]):
        self.files: list[Path] = []
        self._new_folder, self._limit, self._options_of = new_folder, limit, options_of
        self._name, self._value, self._disposition = b"", b"", b""
        self._room = 0
        self._sink: Any = None
        self._whole = False

    def callbacks(self) -> dict[str, Callable]:
        """Name what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._open,
            "on_part_data": self._write,
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def check(self) -> None:
        """Refuse a form that was cut off, or that brought nothing."""
        if not self._whole:
            raise UploadError(400, _BROKE_OFF)
        if not self.files:
            raise UploadError(422, "No file. Choose one.")

    def discard(self) -> None:
        """Remove what has been written."""
        if self._sink:
            self._sink.close()
        for file in self.files:
            shutil.rmtree(file.parent, ignore_errors=True)

    def _begin(self) -> None:
        self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _open(self) -> None:
        options = self._options_of(self._disposition)
        if options.get(b"name") != b"files" or b"filename" not in options:
            raise UploadError(422, "A part of the form is not a file.")
        if len(self.files) >= _MOST_FILES:
            raise UploadError(413, f"More than {_MOST_FILES} files at once. Send them in a zip.")
        file = self._new_folder() / _safe_name(options[b"filename"].decode(errors="replace"))
        self.files.append(file)
        self._sink = file.open("xb")
        self._room = self._limit

    def _write(self, data: bytes, start: int, end: int) -> None:
        self._room -= end - start
        if self._room < 0:
            raise UploadError(
                413, f"{self.files[-1].name} exceeds {self._limit >> 20} MB. Start the page with a larger --max-upload."
            )
        self._sink.write(data[start:end])

    def _close(self) -> None:
        self._sink.close()

    def _end(self) -> None:
        self._whole = True


def _safe_name(sent: str) -> str:
    """Keep the last part of a name, without what cannot be printed; of a long one, both ends."""
    name = "".join(letter for letter in re.split(r"[/\\]", sent)[-1] if letter.isprintable()).strip()
    if name in ("", ".", ".."):
        raise UploadError(422, "A file has no name. Give it one.")
    letters = name.encode()
    if len(letters) > _LONGEST_NAME:
        ending = _LONGEST_NAME // 4
        name = (letters[: _LONGEST_NAME - ending] + letters[-ending:]).decode(errors="ignore")
    return name
