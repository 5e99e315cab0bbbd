"""Who is at the page: each visitor's files and study, gone when the visitor is."""

import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from brainseg_keras.app.study import Study
from brainseg_keras.app.view import Wish
from brainseg_keras.data.scans import Scan
from brainseg_keras.inference.predictor import Predictor

#: Seconds after which an idle visit ends, should the browser not say goodbye.
IDLE = 3600


@dataclass
class Visit:
    """One visitor.

    Args:
        folder: The visitor's own files.
        token: Part of the addresses of results: hard to guess.
        uploads: Files as the browser sent them.
        scans: What was found in them, by title.
        study: What is looked at.
        wish: What was shown last.
        seen: When the visitor last did something.
    """

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    uploads: set[Path] = field(default_factory=set)
    scans: dict[str, Scan] = field(default_factory=dict)
    study: Study | None = None
    wish: Wish = field(default_factory=lambda: Wish(0))
    seen: float = field(default_factory=time.monotonic)

    def fresh_folder(self) -> Path:
        """Give an empty folder for the next files; those before are removed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.folder / secrets.token_hex(4)


class Visits:
    """All visitors by the key that their browser's connection has.

    Args:
        root: Where visitors' folders are made.
    """

    def __init__(self, root: Path):
        self._root = root
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Visit:
        """Give a visitor's visit, begun if it is new; others that have long been idle end."""
        with self._lock:
            if key not in self._visits:
                self._visits[key] = Visit(self._root / secrets.token_hex(8))
            visit = self._visits[key]
            visit.seen = time.monotonic()
            idle = [other for other, entry in self._visits.items() if visit.seen - entry.seen > IDLE]
        for other in idle:
            self.end(other)
        return visit

    def by_token(self, token: str) -> Visit | None:
        """Find the visit to which a result's address belongs."""
        return next(
            (visit for visit in list(self._visits.values()) if secrets.compare_digest(visit.token, token)), None
        )

    def end(self, key: str) -> None:
        """Remove a visitor's files and study."""
        with self._lock:
            visit = self._visits.pop(key, None)
            # The server keeps equal files once: what another visitor sent as well stays.
            shared = set().union(*(other.uploads for other in self._visits.values()))
        if visit:
            shutil.rmtree(visit.folder, ignore_errors=True)
            for file in visit.uploads - shared:
                # The server gives each file a folder of its own.
                shutil.rmtree(file.parent, ignore_errors=True)


class Models:
    """Networks that the page offers, each loaded at its first use; the last few stay.

    Args:
        paths: What to load, by the name that the page shows.
        most: How many stay in memory.
    """

    def __init__(self, paths: dict[str, str], most: int = 3):
        self.paths = paths
        self._most = most
        self._loaded: dict[str, Predictor] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> Predictor:
        """Load a network, or give the one that is loaded."""
        with self._lock:
            if name not in self._loaded:
                while len(self._loaded) >= self._most:
                    self._loaded.pop(next(iter(self._loaded)))
                self._loaded[name] = Predictor(self.paths[name])
            return self._loaded[name]
