"""One progress bar for everything that goes file by file or patient by patient."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def progress_bar(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield items under a bar on standard error, with time left; without a terminal silently.

    Args:
        items: What to go through.
        what: Said before the bar.

    Yields:
        The items.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, what, console=console, transient=True, disable=not console.is_terminal)
