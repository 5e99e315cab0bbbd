"""Which network, and which loss: each trained for the same minutes on the same patients, and scored alike. One table.

    python examples/compare_architectures.py --minutes 0.3 --size 64            # on the phantom: whether it works
    python examples/compare_architectures.py --data kaggle_3m --minutes 30 -o runs/table
    python examples/compare_architectures.py --data kaggle_3m --minutes 30 -o runs/table --rows unet attention_unet
    python examples/compare_architectures.py --table -o benchmarks/zoo --readme README.md

Each row is a `brainseg train`, which --list prints, in a process of its own. Rows that are finished are skipped and one
that was stopped goes on, so that the same command ends what Ctrl-C or a power cut has left. The validation patients
choose the epoch of each; the test patients choose nothing and are what is scored.

The rows are the seven networks, plain and separable, at one width and their published depth, the recurrent ones with a
normalization for each step; these three once more with the shared normalization that is published; the losses on one
network, and deep supervision; and the attention U-Nets of three other packages, trained as their own users do
(benchmarks/rivals.py).
--config FILE gives all rows further settings of `brainseg train`, such as a fold.

Each row ends in a report.json with its settings, its costs and the scores of each patient. table.md and table.json are
made from these files alone, which --table does without any training.
"""

import argparse
import dataclasses
import os
import shlex
import signal
import statistics
import subprocess
import sys
import timeit
from pathlib import Path
from typing import Any

from brainseg_keras.errors import InputError
from brainseg_keras.files import write_json
from brainseg_keras.information import read_json
from brainseg_keras.registry import ARCHITECTURES, RECURRENT
from brainseg_keras.training.config import TrainingConfig

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from zoo_table import GROUPS, OF_LOSSES, SCORES, SHARED, TOGETHER, write_table

ROOT = Path(__file__).resolve().parent.parent
BRAINSEG = [sys.executable, "-c", "from brainseg_keras.cli import main; main()"]
RIVALS = {
    "keras_unet_collection": "keras-unet-collection, attention U-Net",
    "medicai": "medicai, attention U-Net with EfficientNet-B0",
    "monai": "MONAI, attention U-Net",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: settings of `brainseg train`, or another package."""

    name: str
    group: str
    title: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: Settings of the first half of the minutes, where there are two stages.
    first: dict[str, Any] | None = None


def all_rows() -> list[Row]:
    """List the rows in the order in which they are trained."""
    rows = []
    for name in ARCHITECTURES:
        per_step = {"norm_per_step": True} if name in RECURRENT else {}
        for separable in (False, True):
            settings = {"architecture": name, "separable": separable} | per_step
            rows.append(Row(f"{name}-separable" if separable else name, GROUPS[0], f"`{name}`", settings))
    for name in RECURRENT:
        rows.append(Row(f"{name}-shared-norm", GROUPS[1], f"`{name}`", {"architecture": name}))
    for loss in ("binary_focal", "dice", "bce_dice", "focal_tversky", "tversky_focal", "bce"):
        rows.append(Row(f"loss-{loss}", GROUPS[2], f"`{loss}`", {"architecture": OF_LOSSES, "loss": loss}))
    focal, both = ({"architecture": OF_LOSSES, "loss": loss} for loss in ("binary_focal", "dice_focal"))
    settings = {"architecture": OF_LOSSES, "loss": "dice_focal", "deep_supervision": True}
    rows.append(Row("deep-supervision", GROUPS[2], "`dice_focal`, deep supervision", settings))
    title = "`binary_focal`, then `dice_focal`, half the minutes each"
    rows.append(Row("loss-binary_focal-then-dice_focal", GROUPS[2], title, both, first=focal))
    return rows + [Row(name, GROUPS[3], title) for name, title in RIVALS.items()]


def stages(row: Row, options: argparse.Namespace) -> list[tuple[Path, dict[str, Any]]]:
    """Give the run folder and the settings of each of a row's trainings."""
    place, minutes = Path(options.output) / row.name, options.minutes
    shared = {"data": options.data, "filters": options.filters, "size": options.size, "batch_size": options.batch_size}
    # More epochs than there is time for: the minutes end a run, and its learning rate falls to meet them.
    shared |= {"epochs": 100_000, "seed": options.seed}
    if row.first is None:
        return [(place, shared | row.settings | {"max_minutes": minutes})]
    before = place.with_name(f"{row.name}-first")
    half = shared | {"max_minutes": minutes / 2}
    return [(before, half | row.first), (place, half | row.settings | {"init": str(before)})]


def train_words(settings: dict[str, Any], run: Path, options: argparse.Namespace) -> list[str]:
    """Spell a training as words behind `brainseg`."""
    words = ["train"] + (["--config", options.config] if options.config else [])
    for name, value in settings.items():
        dashed = name.replace("_", "-")
        # What a row leaves out is said, too: it wins over --config.
        words += [f"--{'' if value else 'no-'}{dashed}"] if isinstance(value, bool) else [f"--{dashed}", str(value)]
    return [*words, "-o", str(run)]


def rival_words(row: Row, options: argparse.Namespace) -> list[str]:
    """Spell the training of another package as words behind `python`."""
    words = [str(ROOT / "benchmarks" / "rivals.py"), row.name, "-o", str(Path(options.output) / row.name)]
    for name in ("data", *SHARED, "environments", "config"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def call(command: list[str]) -> int:
    """Run a command in a process of its own, to which Ctrl-C is handed on, and give its exit code."""
    child, interrupted = subprocess.Popen(command, start_new_session=True), False
    while True:
        try:
            code = child.wait()
            break
        except KeyboardInterrupt:
            # Its run is kept; asked twice it ends at once.
            interrupted = True
            os.killpg(child.pid, signal.SIGINT)
    if interrupted:
        raise KeyboardInterrupt
    return code


def do_row(row: Row, options: argparse.Namespace) -> int:
    """Train a row, or go on with it, and score it; what is done stays. Gives 0 or the exit code of what failed."""
    if row.group == GROUPS[3]:
        run = Path(options.output) / row.name
        if not (run / "run.json").is_file() and (code := call([sys.executable, *rival_words(row, options)])):
            return code
        check_same(read_json(run / "run.json")["settings"], {"data": options.data} | shared_settings(options), run)
    else:
        for run, settings in stages(row, options):
            if code := do_training(run, settings, options):
                return code
    report = report_file(row, options)
    if report.is_file() and read_json(report)["report"]["split"] == options.split:
        return 0
    return call([sys.executable, str(Path(__file__).resolve()), *options.given, "--score", row.name])


def do_training(run: Path, settings: dict[str, Any], options: argparse.Namespace) -> int:
    """Train one run, or go on with it."""
    from brainseg_keras.training import RunFolder
    from brainseg_keras.training.folds import is_finished

    folder, words = RunFolder(run), train_words(settings, run, options)
    if folder.info.is_file():
        there, wanted = folder.read_record().config, configure(options, **settings)
        check_same(dataclasses.asdict(there), dataclasses.asdict(wanted), run)
        words = ["train", "--resume", str(run)]
    code = 0 if is_finished(folder) else call([*BRAINSEG, *words])
    return code or (0 if is_finished(folder) else 1)


def configure(options: argparse.Namespace, **settings: Any) -> TrainingConfig:
    """Make the configuration that `brainseg train` makes of the same settings."""
    if options.config:
        return TrainingConfig.from_yaml(options.config, **settings)
    return TrainingConfig.from_given(**settings)


def check_same(there: dict[str, Any], wanted: dict[str, Any], run: Path) -> None:
    """Refuse a row that was trained with other settings: rows of other minutes do not compare."""
    from brainseg_keras.training.folds import describe_difference

    if said := describe_difference(there, wanted):
        raise InputError(f"{run} was trained with other settings: {said}. Give the same, or another -o.")


def shared_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Give the settings that all rows share."""
    return {name: getattr(options, name) for name in SHARED}


def report_file(row: Row, options: argparse.Namespace) -> Path:
    """Say where a row's report is."""
    return Path(options.reports or options.output) / row.name / "report.json"


def score(row: Row, options: argparse.Namespace) -> None:
    """Score a trained row, measure what it costs, and write its report; in a process of its own."""
    from brainseg_keras.reports import evaluate, score_masks

    run = Path(options.output) / row.name
    place = run / "evaluation" / options.split
    if row.group == GROUPS[3]:
        from rich.console import Console

        from brainseg_keras.data.roles import MetPatient, Roles, splits_of
        from brainseg_keras.training.setup import open_data

        source = open_data(configure(options, data=options.data), Roles(), Console(stderr=True))
        roles = Roles(tuple(MetPatient(name, split) for name, split in splits_of(source).items() if split))
        found, told = score_masks(run / "masks", source, split=options.split, roles=roles, output=place), read_run(run)
    else:
        from brainseg_keras.inference import Predictor
        from brainseg_keras.training import RunFolder
        from brainseg_keras.training.setup import open_configured

        predictor, config = Predictor(run), RunFolder(run).read_record().config
        found = evaluate(predictor, open_configured(config), split=options.split, output=place)
        told = read_run(run) | measure(predictor, config.size)
    content = {
        "row": {"name": row.name, "group": row.group, "title": row.title} | shared_settings(options),
        "run": told,
        "report": found.report | {"model": row.name},
        "per_patient": found.per_patient[["patient", "role", *SCORES, "tp", "fp", "fn", "tn"]].to_dict("records"),
    }
    write_json(report_file(row, options), content, mark='"per_patient"')


def read_run(run: Path) -> dict[str, Any]:
    """Read from run.json what the table and its readers want to know; of paths the last part, since reports travel."""
    names = ("config", "settings", "parameters", "precision", "machine", "versions", "git_commit", "validation")
    names += ("epochs", "training", "gflops", "ms_a_slice")
    told = {name: value for name, value in read_json(run / "run.json").items() if name in names}
    for settings in ("config", "settings"):
        for name in ("data", "root", "init"):
            if told.get(settings, {}).get(name):
                told[settings][name] = Path(told[settings][name]).name
    return told


def measure(predictor: Any, size: int) -> dict[str, float]:
    """Count a network's operations at 256 x 256 pixels, and time it at its own size as it was scored."""
    import numpy as np

    from brainseg_keras.models.complexity import count_flops

    images = np.random.default_rng(0).random((TOGETHER, size, size, len(predictor.spec.channels)), np.float32)
    intensity = np.array([[0.0, 1.0]] * images.shape[-1])
    predictor.probabilities(images, intensity)
    seconds = statistics.median(timeit.repeat(lambda: predictor.probabilities(images, intensity), number=1, repeat=5))
    return {"gflops": count_flops(predictor.model, 256), "ms_a_slice": 1000 * seconds / TOGETHER}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    names = [row.name for row in all_rows()]
    parser = argparse.ArgumentParser(description="All networks and losses under the same minutes, in one table.")
    parser.add_argument("--data", default="phantom", help="folder, manifest, packed file or phantom")
    parser.add_argument("--minutes", type=float, default=5, help="of each row")
    parser.add_argument("--filters", type=int, default=16, help="width of the first level")
    parser.add_argument("--size", type=int, default=128, help="side of the input in pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("val", "test"), default="test", help="which patients are scored")
    parser.add_argument("--config", help="YAML file of further settings that all rows share")
    parser.add_argument("-o", "--output", default="tensorboard_logs/compare_architectures", help="folder of the runs")
    parser.add_argument("--reports", help="folder of the rows' report.json and of the table; default that of the runs")
    parser.add_argument("--environments", help="where the other packages are; default that of benchmarks/peers.py")
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="NAME", help="which; default all")
    parser.add_argument("--list", action="store_true", help="print the rows and their commands, and train nothing")
    parser.add_argument("--table", action="store_true", help="make the table of what is there, and train nothing")
    parser.add_argument("--readme", help="Markdown file in which the table stands between two markers")
    parser.add_argument("--score", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.given = sys.argv[1:] if arguments is None else arguments
    return options


def main(options: argparse.Namespace) -> int:
    """Do what is not done yet, then make the table; gives the exit code."""
    rows, code = [row for row in all_rows() if row.name in options.rows], 0
    if options.score:
        score(next(row for row in all_rows() if row.name == options.score), options)
        return 0
    if options.list:
        for row in rows:
            for run, settings in stages(row, options) if row.group != GROUPS[3] else ():
                print(f"{row.name}: {shlex.join(['brainseg', *train_words(settings, run, options)])}")
            if row.group == GROUPS[3]:
                print(f"{row.name}: {shlex.join(['python', *rival_words(row, options)])}")
        return 0
    for number, row in enumerate(rows if not options.table else [], 1):
        print(f"Row {number} of {len(rows)}: {row.name}", file=sys.stderr, flush=True)
        failed = do_row(row, options)
        if failed == 2:
            # Bad input is that of every row.
            return 2
        code = code or bool(failed)
    folder, names = Path(options.reports or options.output), [row.name for row in all_rows()]
    print(write_table(folder, names, options.readme))
    return int(code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(parse()))
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped, and all is kept: the same command goes on.", file=sys.stderr)
        sys.exit(130)
