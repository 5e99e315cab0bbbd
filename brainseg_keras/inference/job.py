"""One scan at a time: from its files to its masks and its row in the ledger, for a loop, a part or a worker alike."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from brainseg_keras.data.scan_lists import Listed
from brainseg_keras.data.scans import Pixels, Scan
from brainseg_keras.errors import InputError
from brainseg_keras.files import MAKER, check_replaceable
from brainseg_keras.inference.ledger import Entry, Key
from brainseg_keras.inference.outlook import predict_with_outlook
from brainseg_keras.inference.predictor import DEFAULT_MODEL, Predictor
from brainseg_keras.inference.writer import Answer, write_results
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.terminal import one_line

#: Bytes that a file's name may have on the file systems in use.
_LONGEST_NAME = 255
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobSettings:
    """All that a process needs to segment scans; it can be pickled and sent to another one.

    Args:
        output: Folder to write to, that all processes see.
        model: Run folder, model file, or shipped name; several for their mean.
        engine: What runs it, as of `Predictor`.
        batch_size: Slices in one step of the network.
        postprocessing: Fields of `Postprocessing` that are not as they were tuned.
        overlays: Also write the slice with the mask's outline.
        probabilities: Also write these.
        attention: Also write where the network looks.

    Example:
        >>> import tempfile
        >>> JobSettings(tempfile.mkdtemp(), postprocessing={"threshold": 0.4}).predictor().spec.postprocessing.threshold
        0.4
    """

    output: str
    model: str | Sequence[str] = DEFAULT_MODEL
    engine: str | None = None
    batch_size: int = 16
    postprocessing: Mapping[str, Any] = field(default_factory=dict)
    overlays: bool = True
    probabilities: bool = False
    attention: bool = False

    def predictor(self) -> Predictor:
        """Load the network, which may take seconds.

        Returns:
            It, with the postprocessing that was asked for.

        Raises:
            InputError: As of `Predictor`.
        """
        predictor = Predictor(self.model, batch_size=self.batch_size, engine=self.engine)
        chosen = dataclasses.replace(predictor.spec.postprocessing, **self.postprocessing)
        return predictor.adapted(postprocessing=chosen)

    def open(self) -> "ScanJob":
        """Load the network and make ready.

        Returns:
            What segments scans.

        Raises:
            InputError: As of `Predictor`.
        """
        return ScanJob(
            self.output,
            self.predictor(),
            overlays=self.overlays,
            probabilities=self.probabilities,
            attention=self.attention,
        )


class ScanJob:
    """Segments scans, one at a time, and says of each what became of it.

    Args:
        folder: Folder to write to.
        predictor: The network.
        overlays: Also write the slice with the mask's outline.
        probabilities: Also write these.
        attention: Also write where the network looks.

    Example:
        >>> import tempfile
        >>> from brainseg_keras import res_unet
        >>> from brainseg_keras.data.phantom.lgg import write_phantom
        >>> from brainseg_keras.data.scans import find_scans
        >>> root = write_phantom(tempfile.mkdtemp() + "/data", patients=3, slices=8, size=64)
        >>> job = ScanJob(tempfile.mkdtemp(), Predictor(res_unet((32, 32, 3), filters=4, depth=2)))
        >>> entry = job.run(find_scans([root])[0])
        >>> entry.status, len(entry.masks)
        ('done', 8)
    """

    def __init__(
        self,
        folder: str | Path,
        predictor: Predictor,
        *,
        overlays: bool = True,
        probabilities: bool = False,
        attention: bool = False,
    ):
        self._folder, self._predictor = Path(folder), predictor
        self._overlays, self._probabilities, self._attention = overlays, probabilities, attention
        self._remarks: set[str] = set()
        #: The model and the settings that made a result, as the ledger has them.
        self.key = Key(predictor.digest, settings_digest(predictor.spec, (overlays, probabilities, attention)))

    def run(self, scan: Scan | Listed) -> Entry:
        """Segment a scan and write its results; what is wrong with it stands in the entry.

        Args:
            scan: The scan, or a line of a list that names one.

        Returns:
            Its row of the ledger, and its rows of summary.csv.

        Raises:
            OSError: The results cannot be written, and so none of another scan either.
        """
        began, faults, files = time.perf_counter(), {}, ()
        rows: list[dict[str, Any]] = []
        masks: list[str] = []
        try:
            found = scan.find() if isinstance(scan, Listed) else scan
            files = found.files
            for mask, row in self._segment(found, faults):
                masks.append(mask)
                rows.append(row)
        except InputError as error:
            if str(error) not in faults.values():
                faults[scan.name] = str(error)
        return Entry(
            id=scan.id,
            status="done" if not faults else "incomplete" if rows else "failed",
            seconds=round(time.perf_counter() - began, 3),
            input=_files_digest(files),
            key=self.key,
            engine=self._predictor.engine,
            masks=tuple(masks),
            host=platform.node(),
            time=datetime.now(UTC).isoformat(timespec="microseconds"),
            rows=tuple(rows),
            faults=faults,
        )

    def _segment(self, scan: Scan, faults: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give each mask's place below the folder, and its row; `faults` is filled with what is left out."""
        faults |= self._check_names(scan)
        scan, pixels, unreadable = _read(scan.without(faults))
        faults |= unreadable
        images, remark = self._predictor.arrange(pixels, scan.name)
        if remark:
            _say_once(self._remarks, remark, scan.name)
        result = self._ask(images, pixels.spacing, scan.name)
        if result.outlook and result.outlook.remarks:
            _log.warning("%s: %s.", scan.name, result.outlook.remarks)
        written = write_results(
            scan, pixels, result, self._folder, overlays=self._overlays, probabilities=self._probabilities
        )
        try:
            for row, output in zip(written, scan.outputs, strict=False):
                yield one_line(f"{output.as_posix()}_mask{scan.mask_ending}"), row
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise InputError(f"{scan.name}: the paths of its results are too long. Shorten its name.") from error

    def _check_names(self, scan: Scan) -> dict[str, str]:
        """Find the files under whose names nothing can be written, before the network runs."""
        maps, faults = scan.mask_ending, {}
        endings = ["_mask" + maps, *["_overlay.png"] * self._overlays]
        endings += [f"_probability{maps}", f"_probability_0{maps}"] * self._probabilities
        endings += ["_attention.png", f"_dec0_att{maps}", f"_grad_cam{maps}"] * self._attention
        longest = max(map(len, endings))
        for file, output in zip(scan.files, scan.outputs, strict=False):
            if len(os.fsencode(output.name)) + longest > _LONGEST_NAME:
                faults[str(file)] = f"{file}: the names of its results would have more than 255 bytes. Rename it."
                continue
            try:
                for ending in endings:
                    check_replaceable(self._folder / output.with_name(output.name + ending), MAKER)
            except InputError as error:
                faults[str(file)] = f"{file}: {error}"
        return faults

    def _ask(self, images: np.ndarray, spacing: tuple[float, float, float] | None, name: str) -> Answer:
        predictor = self._predictor
        try:
            maps, expected = predict_with_outlook(predictor, images, spacing=spacing)
            seen = predictor.attention(images) if self._attention else {}
            return Answer(maps, predictor.tumour(maps), predictor.masks(maps), seen, expected)
        except InputError as error:
            # It speaks of the network.
            raise InputError(f"{name}: {error}") from error
        except MemoryError as error:
            raise InputError(f"{name}: the memory does not hold images of shape {images.shape} ({error}).") from error


def _read(scan: Scan) -> tuple[Scan, Pixels, dict[str, str]]:
    try:
        return scan, scan.read(), {}
    except InputError:
        readable, faults = scan.without_unreadable()
        return readable, readable.read(), faults


def _say_once(said: set[str], remark: str, name: str) -> None:
    """Say the same thing of a thousand files once."""
    what = remark.removeprefix(f"{name}: ")
    if what not in said:
        said.add(what)
        _log.warning("%s", remark)


def settings_digest(spec: NetworkSpec, others: Sequence[Any]) -> str:
    """Tell apart what changes a result: what a network sees, how its answer becomes a mask, and what else is asked for.

    Not the engine nor the size of a batch, which mark the same: hosts of one cluster may differ in them.

    Args:
        spec: Of the network.
        others: What else changes the result, such as which files are written.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> one, other = (settings_digest(NetworkSpec((name,)), [True]) for name in ("FLAIR", "T2"))
        >>> one == other
        False
    """
    content = {
        "channels": spec.channels,
        "context": spec.context,
        "target": dataclasses.asdict(spec.target),
        "preprocessing": dataclasses.asdict(spec.preprocessing),
        "postprocessing": dataclasses.asdict(spec.postprocessing),
        "calibration": (spec.calibration.temperature, spec.calibration.bias),
        "expectation": spec.expectation and spec.expectation.to_info(),
        "others": others,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _files_digest(files: Sequence[Path]) -> str:
    """Give the sha256 of files as if they were one; nothing where one cannot be read."""
    whole = hashlib.sha256()
    with contextlib.suppress(OSError):
        for file in files:
            with file.open("rb") as opened:
                hashlib.file_digest(opened, lambda: whole)
        return whole.hexdigest() if files else ""
    return ""
