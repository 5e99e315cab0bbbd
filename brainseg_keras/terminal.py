"""The terminal: a console that takes names as they are, and one progress bar for all that goes file by file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from brainseg_keras.files import printable

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")
_BREAKS = {*map(chr, range(32)), "\x7f"}


def plain_console(*, stderr: bool = False) -> "Console":
    """Make a console that takes every text as it is: to rich, `[/x]` in a path is an error and `:x:` a picture.

    Args:
        stderr: Print to standard error instead of standard output.

    Returns:
        The console.
    """
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def one_line(text: str | Path) -> str:
    """Spell a name or a message in one line of text, for a table in which each line is a row.

    Args:
        text: Any, as Python has it from the file system.

    Returns:
        What `printable` gives; also line breaks, tabs and the like are spelled as `%` and two digits.

    Example:
        >>> one_line("one\\ntwo")
        'one%0Atwo'
    """
    return "".join(f"%{ord(sign):02X}" if sign in _BREAKS else sign for sign in printable(text))


def progress_bar(items: Sequence[Item], what: str, console: "Console | None" = None) -> Iterator[Item]:
    """Yield items under a bar, with time left; without a terminal silently.

    Args:
        items: What to go through.
        what: Said before the bar.
        console: Where; default standard error.

    Yields:
        The items.
    """
    from rich.progress import track

    console = console or plain_console(stderr=True)
    yield from track(items, what, console=console, transient=True, disable=not console.is_terminal)
