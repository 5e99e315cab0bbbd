"""What flags and settings take: read from their own declarations, so that a new one cannot escape."""

import dataclasses
import inspect
import json
import math
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import typer
from commands import here
from hypothesis import given, settings
from hypothesis import strategies as st

from brainseg_keras import ranges
from brainseg_keras.cli import app
from brainseg_keras.errors import InputError
from brainseg_keras.files import check_output, expand
from brainseg_keras.registry import LOSS_OPTIONS
from brainseg_keras.training.config import WIDEST, TrainingConfig

#: Flags and arguments that take words; each has its own list of what it knows, or is free.
WORDS = {
    "format": "layouts, or formats of an export",
    "modalities": "names",
    "labels": "schemes",
    "image_pattern": "a regular expression",
    "label_pattern": "a regular expression",
    "target": "kinds",
    "architecture": "names",
    "up": "kinds",
    "norm": "kinds",
    "loss": "names",
    "reduce_over": "kinds",
    "precision": "kinds",
    "split": "kinds",
    "quantize": "kinds",
    "draw": "names",
    "engine": "kinds",
    "cluster": "an address, tested by hand",
    "host": "an address",
    "allow_hosts": "names",
    "name": "names",
    "spacing": "three numbers, tested by hand",
    "profile": "two numbers, tested by hand",
    "freeze": "kinds",
    "validation": "kinds",
    "part": "two numbers, tested by hand",
    "coordinator": "an address, tested by hand",
}
FIELDS = {field.name: field for field in dataclasses.fields(TrainingConfig)}
WITHIN = {name: field.metadata["within"] for name, field in FIELDS.items() if field.metadata["within"]}


class Flag(typing.NamedTuple):
    """One flag or argument of one command."""

    words: tuple[str, ...]  # of the command
    name: str  # of the function's parameter
    shown: str  # as a message names it
    kinds: set[type]
    before: int | None  # arguments before it; None for a flag
    within: ranges.Range | None
    path: str | None  # kind of path

    def command(self, value):
        given_value = [f"{self.shown}={value}"] if self.before is None else [*["x"] * self.before, value]
        return [*self.words, *given_value]


def walk(command, words=()):
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*words, name))
    if hasattr(command, "commands"):
        return
    declared = typing.get_type_hints(command.callback) | {
        name: entry.annotation for name, entry in inspect.signature(command.callback).parameters.items()
    }
    arguments = [entry.name for entry in command.params if entry.param_type_name == "argument"]
    for entry in command.params:
        if entry.name in declared:
            yield Flag(
                words,
                entry.name,
                max(entry.opts, key=len),
                kinds_of(declared[entry.name]),
                arguments.index(entry.name) if entry.name in arguments else None,
                getattr(entry.callback, "within", None),
                getattr(entry.callback, "kind", None),
            )


def kinds_of(annotation):
    parts = typing.get_args(annotation) or (annotation,)
    return set(parts) - {type(None)}


FLAGS = list(walk(typer.main.get_command(app)))
NUMBERS = [flag for flag in FLAGS if flag.within]
PATHS = [flag for flag in FLAGS if flag.path]


def name_of(flag):
    return " ".join((*flag.words, flag.shown))


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """An own folder to stand in, with a file, a folder, and a home."""
    before, home = Path.cwd(), os.environ.get("HOME")
    folder = tmp_path_factory.mktemp("flags")
    (folder / "file").write_text("a file")
    (folder / "folder").mkdir()
    (folder / "home").mkdir()
    os.chdir(folder)
    os.environ["HOME"] = str(folder / "home")
    yield folder
    os.chdir(before)
    os.environ.pop("HOME")
    os.environ.update({} if home is None else {"HOME": home})


def refusal(*arguments):
    """Run a command that is refused, and give its message."""
    before = sorted(Path.cwd().rglob("*"))
    code, out, err = here(*arguments)
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    assert sorted(Path.cwd().rglob("*")) == before, "something was written"
    return " ".join(re.sub("[│╭╰╮╯─]", " ", err).split())


# ---- the declarations


@pytest.mark.parametrize("flag", FLAGS, ids=name_of)
def test_every_flag_says_what_it_takes(flag):
    (kind,) = flag.kinds
    if kind in (int, float):
        assert flag.within, "a number without a range: declare it with options.number"
        assert flag.within.whole == (kind is int)
        assert math.isfinite(flag.within.low)
        assert flag.within.low < flag.within.high < math.inf
    elif kind is str:
        assert flag.path or flag.name in WORDS, "a path is declared with options.path; a word is added to WORDS"
    else:
        assert kind is bool, f"{kind}: a path is declared as text, with options.path"


def test_the_walk_finds_the_flags():
    assert {flag.words for flag in FLAGS} >= {("train",), ("app",), ("data", "phantom"), ("data", "fetch")}
    assert len(NUMBERS) >= 40
    assert len(PATHS) >= 30
    by_name = {flag.name: flag.within for flag in FLAGS if flag.words == ("train",)}
    machines = {"cluster", "devices", "coordinator", "processes", "process_index"}
    assert by_name.keys() - {"config", "resume", "output", "as_json"} - machines == FIELDS.keys()
    assert all(by_name[name] is within for name, within in WITHIN.items()), "the flag and the field share their range"


def test_help_shows_the_ranges():
    text = " ".join(re.sub("[│╭╰╮╯─]", " ", here("data", "phantom", "--help")[1]).split())
    for within in (ranges.PATIENTS, ranges.SLICES, ranges.SIDE, ranges.SEED):
        assert f"({within.low} to {within.high})" in text
    assert TrainingConfig.help()["batch_size"] == "Slices in a batch (1 to 4096)."


# ---- numbers


def is_inside(within, text):
    try:
        value = int(text) if within.whole else float(text)
    except ValueError:
        return False
    return within.low <= value <= within.high


def bad_numbers(within):
    """Texts of numbers outside a range, and of no numbers."""
    if within.whole:
        outside = st.integers(max_value=within.low - 1) | st.integers(min_value=within.high + 1)
    else:
        outside = st.floats(max_value=within.low, exclude_max=True) | st.floats(min_value=within.high, exclude_min=True)
    odd = ["nan", "-nan", "inf", "-inf", "-1", "0", "1e308", "-1e308", "9" * 400, "text", "", " ", "0x10", "1,5"]
    return outside.map(repr) | st.sampled_from([text for text in odd if not is_inside(within, text)])


@settings(max_examples=150, deadline=None)
@given(case=st.sampled_from(NUMBERS).flatmap(lambda flag: st.tuples(st.just(flag), bad_numbers(flag.within))))
def test_a_number_out_of_its_range_is_refused_by_every_flag(case):
    flag, text = case
    message = refusal(*flag.command(text))
    assert flag.shown in message
    # What is not a number at all typer refuses itself.
    assert str(flag.within) in message or re.search(r"valid (integer|number)", message)


@pytest.mark.parametrize("flag", NUMBERS, ids=name_of)
def test_no_flag_takes_nan_or_a_step_beyond(flag):
    low, high = flag.within.low, flag.within.high
    beyond = (low - 1, high + 1) if flag.within.whole else (math.nextafter(low, -1), math.nextafter(high, math.inf))
    for text in ("nan", *map(repr, beyond)):
        assert flag.shown in refusal(*flag.command(text))


@pytest.mark.parametrize("text", ["1,2", "1,2,nan", "1,2,inf", "0,1,1", "-1,1,1", "1,2,3,4", "a,b,c", "", "1e308,1,1"])
def test_spacing_is_three_sensible_numbers(text):
    assert "--spacing is" in refusal("evaluate", "--model", "lgg", "-o", "out", f"--spacing={text}")


@pytest.mark.parametrize("text", ["", "0-1", "3-2", "a-b", "-1-2", "1-1e9", "1-" + "9" * 40])
def test_profile_is_two_steps(text):
    assert "profile is two steps" in refusal("train", f"--profile={text}")


@pytest.mark.parametrize(
    "text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "+1/3", "1/3/3", "1.0/3", "a/b", "1/" + "9" * 30]
)
def test_part_is_one_of_so_many(text):
    assert "--part is two whole numbers" in refusal("predict", "x.png", "-o", "out", f"--part={text}")


@pytest.mark.parametrize("name", WITHIN)
def test_a_setting_takes_both_ends_of_its_range_and_nothing_beyond(name):
    within = WITHIN[name]
    # Those that bound each other, and what only some networks and losses take.
    needed = {
        "depth": {"filters": 1},
        "filters": {"depth": 4},
        "fold": {"folds": 1000},
        "recurrence": {"architecture": "r2_unet"},
    }
    others = needed.get(name, {})
    if options := [loss for loss, options in LOSS_OPTIONS.items() if name in options]:
        others = {"loss": options[-1]}
    for value in (within.low, within.high):
        assert getattr(TrainingConfig(**others | {name: value}), name) == value
    step = 1 if within.whole else 1e-9
    for value in (within.low - step, within.high + step, math.nan, math.inf, -math.inf, 10**400, True, "1", [1]):
        with pytest.raises(InputError, match=f"^{name} is a .*{re.escape(str(within))}"):
            TrainingConfig(**others | {name: value})


def test_numbers_of_numpy_are_numbers():
    config = TrainingConfig(batch_size=np.int64(4), learning_rate=np.float32(0.5), rotate=3)
    assert (config.batch_size, config.learning_rate, config.rotate) == (4, 0.5, 3.0)
    assert [type(value) for value in (config.batch_size, config.learning_rate, config.rotate)] == [int, float, float]


def test_filters_and_depth_bound_each_other():
    TrainingConfig(filters=WIDEST // 2**8, depth=8)
    with pytest.raises(
        InputError, match=r"filters double.*Received: filters=33, depth=8, which makes 8448\. Give fewer"
    ):
        TrainingConfig(filters=33, depth=8)


@pytest.mark.parametrize("line", ["seed: .nan", "seed: -1", "blur: .inf", "ema: 1", "seed: 1" + "0" * 5000, "data: ''"])
def test_a_bad_value_in_yaml_names_the_file(line, tmp_path):
    (tmp_path / "config.yaml").write_text(line)
    message = refusal("train", "--config", str(tmp_path / "config.yaml"))
    assert f"{tmp_path / 'config.yaml'}" in message


def test_yaml_without_end_is_no_traceback(tmp_path):
    (tmp_path / "config.yaml").write_text("[" * 2_000)
    assert "cannot be read as YAML" in refusal("train", "--config", str(tmp_path / "config.yaml"))


# ---- paths


def bad_paths(flag):
    paths = ["", "~nosuchuser/x", "file/below", "f" * 300, "x/" * 3000]
    if flag.path != "input":
        paths += ["/proc/nothing/here"]
    if flag.path == "folder":
        paths += ["file", "/dev/null"]
    if flag.path == "file":
        paths += ["folder", "/dev/null", "/proc/nothing"]
    return paths


@pytest.mark.parametrize("flag", PATHS, ids=name_of)
def test_an_impossible_path_is_refused_by_every_flag(flag):
    for path in bad_paths(flag):
        message = refusal(*flag.command(path))
        assert message.startswith(f"Error: {flag.shown} "), path
        assert "Expected a" in message


def test_impossible_paths_and_numbers_are_found_before_anything_is_loaded(folder):
    """A fresh process, since this one has loaded all of it."""
    cases = [flag.command(bad_paths(flag)[-1]) for flag in PATHS] + [flag.command("nan") for flag in NUMBERS]
    # Where results go by default: in a run whose place for them is taken.
    (folder / "taken").mkdir()
    for name in ("best.keras", "run.json", "evaluation"):
        (folder / "taken" / name).write_text("{}")
    cases += [
        ["evaluate", "--model", "taken"],
        ["evaluate", "--model", "lgg"],
        ["tune", "--model", "lgg"],
        ["evaluate", "--model", "taken/best.keras"],
    ]
    code = (
        "import json, sys\n"
        "from brainseg_keras.cli import run\n"
        "for arguments in json.load(sys.stdin):\n"
        "    try:\n"
        "        run(arguments)\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 2, arguments\n"
        "print(*{'keras', 'tensorflow', 'numpy', 'pandas', 'h5py', 'cv2'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_check_output_leaves_nothing_and_takes_what_can_be(folder):
    before = sorted(folder.rglob("*"))
    for kind, paths in {"folder": ("a/b/c", "folder"), "file": ("a/b.csv", "file"), "either": ("x",)}.items():
        assert [check_output(path, kind) for path in paths] == list(map(Path, paths))
    assert sorted(folder.rglob("*")) == before
    (folder / "nowhere").symlink_to(folder / "absent")
    with pytest.raises(
        InputError, match=r"masks cannot be written: .*nowhere is not a folder\. Expected.*Received: nowhere/x"
    ):
        check_output("nowhere/x", "folder", "masks")


def test_home_is_expanded_everywhere(folder):
    from brainseg_keras.data import open_source
    from brainseg_keras.data.scans import find_scans
    from brainseg_keras.inference.networks import load_network

    home = folder / "home"
    assert expand("~/x") == str(home / "x")
    assert expand("a/~/x") == "a/~/x"
    assert check_output("~/new", "folder") == home / "new"
    assert here("data", "phantom", "~/made", "--patients=3", "--slices=6", "--size=32")[0] == 0
    assert (home / "made" / "kaggle_3m").is_dir()
    assert here("data", "manifest", "lgg", "~/made/kaggle_3m", "-o", "~/made/all.csv")[0] == 0
    assert len(open_source("~/made").table) == 18
    assert len(open_source("~/made/all.csv", root="~/made/kaggle_3m").table) == 18
    assert len(find_scans(["~/made"])) == 3
    config = TrainingConfig(data="~/made", root="~/made", init="~/best.keras")
    assert (config.data, config.init) == (str(home / "made"), str(home / "best.keras"))
    for call in (open_source, load_network, lambda path: find_scans([path]), lambda path: TrainingConfig(data=path)):
        with pytest.raises(InputError, match="home folder of a user who is not here"):
            call("~nosuchuser/x")
        with pytest.raises(InputError, match="is empty"):
            call("")
