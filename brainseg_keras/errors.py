"""Errors that a user can mend: the command line prints them without a traceback."""


class InputError(ValueError):
    """Bad input or usage: the message says what came, what is expected and the cure. Exit code 2."""


class TrainingError(RuntimeError):
    """Training began and could not go on; the message names the cause and the cure. Exit code 1."""


class IncompleteError(RuntimeError):
    """Some of many inputs failed and the others are done; the message says how many. Exit code 1."""
