"""Errors that a user can mend: the command line prints them without a traceback."""


class InputError(ValueError):
    """Bad input or usage: the message says what came, what is expected and the cure. Exit code 2."""


class TrainingError(RuntimeError):
    """Training began and could not go on; the message names the cause and the cure. Exit code 1."""
