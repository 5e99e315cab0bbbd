"""Who is at the page: each visitor's files and study, gone when the visitor is."""

import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from brainseg_keras.app.study import Study
from brainseg_keras.app.view import Wish
from brainseg_keras.data.scans import Scan
from brainseg_keras.errors import InputError
from brainseg_keras.inference.predictor import Predictor

#: Seconds after which an idle visit ends, should the browser not say goodbye; and a file goes that nobody asked for.
IDLE, UNCLAIMED = 3600, 600


@dataclass
class Visit:
    """One visitor.

    Args:
        folder: The visitor's own files, and nothing else; it is removed when the visit ends.
        token: Part of the addresses of results: hard to guess.
        uploads: Files as the browser sent them, by the token that the server gave each.
        scans: What was found in them, by title.
        study: What is looked at.
        wish: What was shown last.
        seen: When the visitor last did something.
        left: The visit has ended; a network may still be running for it.
    """

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    uploads: dict[str, Path] = field(default_factory=dict)
    scans: dict[str, Scan] = field(default_factory=dict)
    study: Study | None = None
    wish: Wish = field(default_factory=lambda: Wish(0))
    seen: float = field(default_factory=time.monotonic)
    left: bool = False

    @property
    def scan_folder(self) -> Path:
        """Where uploads are laid out to be read."""
        return self.folder / "scan"

    def fresh_folder(self) -> Path:
        """Give an empty folder for the next files; those before are removed."""
        shutil.rmtree(self.scan_folder, ignore_errors=True)
        return self.scan_folder / secrets.token_hex(4)

    def remove(self) -> None:
        """Remove the visitor's files."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Arrival(NamedTuple):
    """A file that was sent and that no visit has asked for yet; it lies in a folder of its own."""

    file: Path
    when: float


class Visits:
    """All visitors by the key that their browser's connection has.

    A file is found by the token that the server gave it, never by a path that came in a request.

    Args:
        root: Where visitors' folders are made; only folders directly below it are removed.
    """

    def __init__(self, root: Path):
        self._root = root
        self._visits: dict[str, Visit] = {}
        self._arrivals: dict[str, _Arrival] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Visit:
        """Give a visitor's visit, begun if it is new; others that have long been idle end."""
        now = time.monotonic()
        with self._lock:
            if key not in self._visits:
                self._visits[key] = Visit(self._root / secrets.token_hex(8))
            visit = self._visits[key]
            visit.seen = now
            idle = [other for other, entry in self._visits.items() if now - entry.seen > IDLE]
            old = [token for token, arrival in self._arrivals.items() if now - arrival.when > UNCLAIMED]
            unclaimed = [self._arrivals.pop(token) for token in old]
        for other in idle:
            self.end(other)
        for arrival in unclaimed:
            shutil.rmtree(arrival.file.parent, ignore_errors=True)
        return visit

    def arrival_folder(self) -> Path:
        """Make a folder for a file that is being sent."""
        folder = self._root / secrets.token_hex(8)
        folder.mkdir(parents=True, mode=0o700)
        return folder

    def arrived(self, file: Path) -> str:
        """Note a file that lies in an arrival folder, and give the token by which a visitor asks for it."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._arrivals[token] = _Arrival(file, time.monotonic())
        return token

    def claim(self, visit: Visit, tokens: Sequence[str]) -> list[Path]:
        """Give a visitor's files by their tokens; who asks first for a file that arrived has it from then on.

        Args:
            visit: Whose files.
            tokens: As `arrived` gave them.

        Returns:
            The files, below the visit's folder.

        Raises:
            InputError: A token that is unknown, or another visitor's.
        """
        with self._lock:
            for token in tokens:
                if token in self._arrivals and not visit.left:
                    file = self._arrivals.pop(token).file
                    kept = visit.folder / "uploads" / file.parent.name
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    file.parent.rename(kept)
                    visit.uploads[token] = kept / file.name
                if token not in visit.uploads:
                    raise InputError("A file that was dropped is gone after a long pause. Drop it again.")
            return [visit.uploads[token] for token in tokens]

    def file(self, token: str) -> Path | None:
        """Find an upload by its token, for who sent it."""
        with self._lock:
            arrival = self._arrivals.get(token)
            found = (visit.uploads.get(token) for visit in self._visits.values())
            return arrival.file if arrival else next(filter(None, found), None)

    def by_token(self, token: str) -> Visit | None:
        """Find the visit to which a result's address belongs."""
        asked = token.encode(errors="replace")
        visits = list(self._visits.values())
        return next((visit for visit in visits if secrets.compare_digest(visit.token.encode(), asked)), None)

    def end(self, key: str) -> None:
        """Remove a visitor's files and study."""
        with self._lock:
            visit = self._visits.pop(key, None)
            if visit:
                visit.left = True
        if visit:
            visit.remove()


class Models:
    """Networks that the page offers, each loaded at its first use; the last few stay.

    Args:
        paths: What to load, by the name that the page shows.
        engine: What runs them; see `Predictor`.
        most: How many stay in memory.
    """

    def __init__(self, paths: dict[str, str], engine: str | None = "auto", most: int = 3):
        self.paths = paths
        self._engine = engine
        self._most = most
        self._loaded: dict[str, Predictor] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> Predictor:
        """Load a network, or give the one that is loaded.

        Args:
            name: As the page shows it.

        Returns:
            The network.

        Raises:
            InputError: A name that is not on offer, or a file that cannot be loaded; it is called by its name alone.
        """
        if name not in self.paths:
            raise InputError("This network is not on offer. Choose one of the list.")
        with self._lock:
            if name not in self._loaded:
                while len(self._loaded) >= self._most:
                    self._loaded.pop(next(iter(self._loaded)))
                try:
                    self._loaded[name] = Predictor(self.paths[name], engine=self._engine)
                except InputError as error:
                    raise InputError(str(error).replace(self.paths[name], name)) from error
            return self._loaded[name]
