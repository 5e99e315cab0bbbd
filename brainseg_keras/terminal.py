"""The terminal: a console that takes names as they are, and one progress bar for all that goes file by file."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")


def plain_console(*, stderr: bool = False) -> "Console":
    """Make a console that takes every text as it is: to rich, `[/x]` in a path is an error and `:x:` a picture.

    Args:
        stderr: Print to standard error instead of standard output.

    Returns:
        The console.
    """
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


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
