"""The command line `brainseg`: thin; each command calls one function of the package and loads it when called."""

import logging
import os
import sys

import typer

from brainseg_keras._version import __version__
from brainseg_keras.cli import data, doctor, models, page, predict, reports, train
from brainseg_keras.errors import IncompleteError, InputError, TrainingError

app = typer.Typer(
    name="brainseg",
    help="U-Nets for brain tumours in MRI: train, score per patient, look.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"brainseg_keras {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    pass


app.command("train")(train.train_command)
app.command("evaluate")(reports.evaluate_command)
app.command("calibrate")(reports.calibrate_command)
app.command("out-of-fold")(reports.out_of_fold_command)
app.command("tune")(reports.tune_command)
app.command("compare")(reports.compare_command)
app.command("predict")(predict.predict_command)
app.command("export")(predict.export_command)
app.command("app")(page.app_command)
app.command("models")(models.models_command)
app.command("doctor")(doctor.doctor_command)
app.add_typer(data.app, name="data")


def _silence_native_logs() -> None:
    """Keep TensorFlow's C++ notes off the terminal, where they would bury the messages.

    They go to file descriptor 2, past Python and whatever TF_CPP_MIN_LOG_LEVEL says; so Python keeps a copy of it for
    itself. Who wants the notes sets TF_CPP_MIN_LOG_LEVEL=0.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        return
    try:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
    except (OSError, AttributeError):
        # Standard error is closed already: nothing to keep quiet.
        return


def run(arguments: list[str] | None = None) -> None:
    """Run a command and end with its exit code: 0, 1 (failed), 2 (bad input or usage), 130 (interrupted).

    Args:
        arguments: What stands behind `brainseg`; default that of this process.

    Raises:
        SystemExit: Always.
    """
    try:
        app(arguments, prog_name="brainseg")
    except InputError as error:
        _end(2, f"Error: {error}")
    except UnicodeError as error:
        _end(2, f"Error: A name is not UTF-8 ({error}). Rename the file, or set PYTHONUTF8=1 if it is only the locale.")
    except (TrainingError, IncompleteError) as error:
        _end(1, f"Failed: {error}")
    except OSError as error:
        # A full disk, a folder that may not be written: the system's words name the file.
        _end(1, f"Failed: {error}")
    except KeyboardInterrupt:
        _end(130, "Interrupted.")


def _end(code: int, words: str) -> None:
    # To a stream that is named, typer writes as it is set: else question marks stand for what ASCII does not have.
    typer.secho(words, fg="red", file=sys.stderr)
    sys.exit(code)


def main() -> None:
    """Run the command line of this process."""
    _silence_native_logs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        # A name that the terminal's encoding does not have is no reason to end.
        stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # Each network is traced anew, which TensorFlow takes for a mistake where several follow each other.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    run()
