"""Errors that a user can mend: the command line prints them without a traceback."""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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


def missing_extra(package: str, extra: str) -> InputError:
    """Say that a library is missing, and the line that installs it.

    Args:
        package: What it is called.
        extra: The extra of this package that brings it.

    Returns:
        The error, to be raised.

    Example:
        >>> missing_extra("nibabel", "medical")
        InputError("nibabel is missing. Install it: pip install 'brainseg_keras[medical]'")
    """
    return InputError(f"{package} is missing. Install it: {install_line(extra)}")


def install_line(extra: str) -> str:
    """Give the line that installs an extra.

    Args:
        extra: Its name, such as `medical`.

    Returns:
        A command.

    Example:
        >>> install_line("ui")
        "pip install 'brainseg_keras[ui]'"
    """
    return f"pip install 'brainseg_keras[{extra}]'"


def optional_import(name: str, extra: str) -> Any:
    """Import a library that an extra brings.

    Args:
        name: Of the module; its package is called the same, with dashes.
        extra: The extra of this package that brings it.

    Returns:
        The module.

    Raises:
        InputError: It is missing.

    Example:
        >>> optional_import("no_such_reader", "medical")
        Traceback (most recent call last):
        brainseg_keras.errors.InputError: no-such-reader is missing. Install it: pip install 'brainseg_keras[medical]'
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise missing_extra(name.partition(".")[0].replace("_", "-"), extra) from error


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
