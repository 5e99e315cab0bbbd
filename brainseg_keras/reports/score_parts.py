"""Scores of patients that several processes find, each of a part, kept until the last one joins them."""

import contextlib
import json
import logging
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.data.roles import join_names
from brainseg_keras.files import write_whole
from brainseg_keras.parts import Part
from brainseg_keras.reports.scoring import PatientScores, ScoreTables

_FOLDER = "parts"
#: What NumPy raises of a file that was cut or changed.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
_log = logging.getLogger(__name__)


class ScoreParts:
    """The parts of one evaluation, a file each below the report's folder.

    Args:
        folder: Of the report.
        part: That of this process.
        key: Tells apart evaluations: a file of another network, other settings or other patients counts as missing.
    """

    def __init__(self, folder: Path, part: Part, key: str):
        self._folder, self._part, self._key = folder / _FOLDER, part, key

    def hold(self) -> AbstractContextManager[None]:
        """See `Part.hold`."""
        return self._part.hold(self._folder)

    def write(self, scores: Iterable[PatientScores], tables: ScoreTables) -> None:
        """Keep the scores of this part.

        Args:
            scores: Of its patients.
            tables: Into which they go meanwhile; only the pictures that these keep are kept.
        """
        kept = [found._replace(picture=None) for found in scores]
        names = [found.patient["patient"] for found in kept]
        shown = [name for name in names if name in tables.pictures]
        rows = [(found.patient, found.slices, found.regions, found.has_spacing) for found in kept]
        about = json.dumps({"key": self._key, "rows": rows, "shown": shown}, default=lambda number: number.item())
        arrays = {"about": np.frombuffer(about.encode(), np.uint8), "counts": np.array([one.counts for one in kept])}
        for number, name in enumerate(shown):
            for index, array in enumerate(tables.pictures[name]):
                arrays[f"picture_{number}_{index}"] = array
        write_whole(self._file(self._part), lambda path: np.savez_compressed(path, **arrays))

    def join(self, tables: ScoreTables) -> ScoreTables | None:
        """Put the scores of all parts together.

        Args:
            tables: Empty ones.

        Returns:
            These with all patients; None where a part is missing, which is said.
        """
        found = [self._read(part) for part in self._part.whole]
        missing = [str(part) for part, scores in zip(self._part.whole, found, strict=True) if scores is None]
        if missing:
            _log.warning(
                "Part %s is scored; the report is written with the last part. Missing: %s.",
                self._part,
                join_names(missing),
            )
            return None
        # In the order of an undivided call, so that sums of floats are the same to the last bit.
        for scores in sorted((one for part in found for one in part or ()), key=lambda one: one.patient["patient"]):
            tables.include(scores)
        return tables

    def _read(self, part: Part) -> list[PatientScores] | None:
        with contextlib.suppress(*_DAMAGED), np.load(self._file(part)) as file:
            about: dict[str, Any] = json.loads(file["about"].tobytes())
            if about["key"] != self._key:
                return None
            pictures = {
                name: tuple(file[f"picture_{number}_{index}"] for index in range(3))
                for number, name in enumerate(about["shown"])
            }
            return [
                PatientScores(row, slices, regions, counts, pictures.get(row["patient"]), has_spacing)
                for (row, slices, regions, has_spacing), counts in zip(about["rows"], file["counts"], strict=True)
            ]
        return None

    def _file(self, part: Part) -> Path:
        return self._folder / f"{part.file_name}.npz"
