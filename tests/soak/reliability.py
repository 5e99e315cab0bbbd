"""What the soak tests count, kept as a table in docs/reliability.md by the tests themselves."""

import os
import platform
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from brainseg_keras.files import hold_folder, write_text
from brainseg_keras.training.machine import processor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_ROW = re.compile(r"\| (?P<topic>[^|]+) \|")


def scale() -> float:
    """How long to go on: 1 fits an hour for all of them, `.ci/soak --minutes 120` makes it 2."""
    return float(os.environ.get("BRAINSEG_SOAK_SCALE", "1"))


def record(topic: str, *, tried: int, failed: int, what: str) -> None:
    """Put a row into the table, in place of an earlier one of the same topic.

    Args:
        topic: First column, such as "kill: train".
        tried: How many cases were tried.
        failed: In how many of them something was lost, let in, or ended in a traceback.
        what: What was done, and what counts as failed; one line.
    """
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    row = f"| {topic} | {tried:,} | {failed:,} | {what} | {time.strftime('%Y-%m-%d')}, {machine} |"
    with hold_folder(Path(tempfile.gettempdir()) / "brainseg-reliability"):
        text = PAGE.read_text(encoding="utf-8")
        begin = text.index("| topic")
        end = re.compile(r"\n(?!\|)").search(text, begin).start()
        head, rule, *there = text[begin:end].splitlines()
        rows = {_ROW.match(line)["topic"]: line for line in there} | {topic: row}
        write_text(PAGE, text[:begin] + "\n".join([head, rule, *(rows[name] for name in sorted(rows))]) + text[end:])


def record_list(title: str, lines: Iterable[str]) -> None:
    """Put a list below the table, in place of an earlier one of the same title.

    Args:
        title: Its heading, such as "Mutants that lived".
        lines: One entry each.
    """
    section = "\n".join([f"\n## {title}\n", *(f"- {line}" for line in lines)]) + "\n"
    with hold_folder(Path(tempfile.gettempdir()) / "brainseg-reliability"):
        text = PAGE.read_text(encoding="utf-8")
        text = re.sub(rf"\n## {re.escape(title)}\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL)
        write_text(PAGE, text.rstrip("\n") + "\n" + section)
