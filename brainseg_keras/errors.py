"""Errors that a user can mend: the command line prints them without a traceback."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


class InputError(ValueError):
    """Bad input or usage: the message says what came, what is expected and the cure. Exit code 2."""


class TrainingError(RuntimeError):
    """Training began and could not go on; the message names the cause and the cure. Exit code 1."""


class IncompleteError(RuntimeError):
    """Some of many inputs failed and the others are done; the message says how many. Exit code 1."""


def first_line(error: Exception) -> str:
    """Give the first line of an error's words, where a library says more than a message holds.

    Args:
        error: What was raised.

    Returns:
        At most 200 characters; the error's kind where it says nothing.

    Example:
        >>> first_line(ValueError("too large\\nand much more"))
        'too large'
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def reading(path: str | Path, cure: str) -> Iterator[None]:
    """Name the file where what stands in it is not what its writer writes.

    Args:
        path: The file.
        cure: What to do about it; ends the message.

    Raises:
        InputError: Instead of what Python raises on a missing key, a wrong type or a value out of range.

    Example:
        >>> with reading("run.json", "Restore it."):
        ...     {}["seed"]
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: run.json is damaged (KeyError: 'seed'). Restore it.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error} {cure}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}). {cure}") from error
