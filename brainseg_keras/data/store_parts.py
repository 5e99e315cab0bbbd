"""A data set packed by several processes, each a part of its patients, and joined by the last one."""

import contextlib
import hashlib
import json
import logging
from pathlib import Path

import h5py

from brainseg_keras.data.decode.hdf5 import create_hdf5
from brainseg_keras.data.manifest import Progress
from brainseg_keras.data.roles import join_names
from brainseg_keras.data.store import MARK, write_head, write_volumes
from brainseg_keras.data.volumes import VolumeSource
from brainseg_keras.files import write_whole
from brainseg_keras.parts import Part

_KEY = "whole"
_log = logging.getLogger(__name__)


def write_store_part(
    source: VolumeSource, path: str | Path, part: Part, *, float16: bool = False, progress: Progress = iter
) -> Path | None:
    """Pack the patients of one part, beside the store; the part that ends last makes the store of all of them.

    Args:
        source: Where the volumes come from; memory holds one at a time.
        path: The file to write in the end, `.h5`; the parts lie in `<path>.parts`.
        part: Which patients.
        float16: As of `write_store`.
        progress: Wraps the list of patients, to show how far it is.

    Returns:
        The file; None while parts are missing, which is said.

    Raises:
        InputError: As of `write_store`, or another process works on this part.
        OSError: The disk is full.

    Example:
        >>> import tempfile
        >>> from brainseg_keras.data.sources import open_source
        >>> source, file = open_source("phantom"), tempfile.mkdtemp() + "/phantom.h5"
        >>> write_store_part(source, file, Part(2, 2)) is None
        True
        >>> write_store_part(source, file, Part(1, 2)).name
        'phantom.h5'
    """
    path, patients = Path(path), sorted(source.table.patient.unique())
    folder = path.with_name(f"{path.name}.parts")
    key = _key_of(source, part.count, float16)

    def write(scratch: Path) -> None:
        with create_hdf5(scratch) as (file, check):
            write_head(file, source)
            file.attrs[_KEY] = key
            write_volumes(source, file, check, scratch, path, float16, progress(list(filter(part.holds, patients))))

    with part.hold(folder):
        write_whole(folder / f"{part.file_name}.h5", write, mark=MARK)
    files = {one: folder / f"{one.file_name}.h5" for one in part.whole}
    missing = [str(one) for one, file in files.items() if not _is_of(file, key)]
    if missing:
        _log.warning("Part %s is packed; %s comes with the last part. Missing: %s.", part, path, join_names(missing))
        return None

    def join(scratch: Path) -> None:
        with create_hdf5(scratch) as (file, check):
            write_head(file, source)
            volumes = file.create_group("volumes")
            for one, packed in files.items():
                with h5py.File(packed, "r") as opened:
                    for patient in filter(one.holds, patients):
                        opened.copy(f"volumes/{patient}", volumes)
                        file.flush()
                        check()

    write_whole(path, join, mark=MARK)
    return path


def _key_of(source: VolumeSource, count: int, float16: bool) -> str:
    """Tell apart what is packed: a part of another data set, or of another number of parts, counts as missing."""
    content = [source.table.to_csv(index=False), list(source.channels), list(source.classes), count, float16]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _is_of(file: Path, key: str) -> bool:
    with contextlib.suppress(OSError), h5py.File(file, "r") as opened:
        return opened.attrs.get(_KEY) == key
    return False
