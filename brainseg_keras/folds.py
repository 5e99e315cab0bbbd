"""The folder of a cross-validation: its file, and where the run of each fold lies. Loads no library."""

from pathlib import Path

from brainseg_keras.errors import reading
from brainseg_keras.information import read_json

FILE = "folds.json"
#: The cure of a damaged one.
RESTORE_FOLDS = "Restore it, or give the run folders themselves."


def fold_folder(path: Path, number: int) -> Path:
    """Name the run folder of one fold.

    Args:
        path: Folder of the folds.
        number: Of the fold, from 1.

    Returns:
        Its folder, whether it is there or not.

    Example:
        >>> fold_folder(Path("runs"), 2).name
        'fold2'
    """
    return path / f"fold{number}"


def find_folds(path: Path) -> list[Path]:
    """Name the run folders of a cross-validation.

    Args:
        path: Any path.

    Returns:
        A folder for each fold, whether it is there yet or not; none where the path holds no folds.

    Raises:
        InputError: A folds.json that `brainseg train --folds` did not write.

    Example:
        >>> find_folds(Path("no/such/folds"))
        []
    """
    file = path / FILE
    if not file.is_file():
        return []
    content = read_json(file, RESTORE_FOLDS)
    with reading(file, RESTORE_FOLDS):
        count = content["folds"]
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"folds is {count!r}")
    return [fold_folder(path, number) for number in range(1, count + 1)]
