"""Parts of one large task: which of them a scan or a patient belongs to, on every machine alike. Loads nothing."""

import hashlib
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from brainseg_keras import ranges
from brainseg_keras.errors import InputError
from brainseg_keras.files import hold_folder


@dataclass(frozen=True)
class Part:
    """One of several parts that together are the whole.

    Args:
        index: Which one; the first is 1.
        count: How many there are.

    Raises:
        InputError: A part that is not among them.

    Example:
        >>> sum(Part(index, 3).holds("TCGA_CS_4941") for index in (1, 2, 3))
        1
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        """Refuse a part that is not among them."""
        if not 1 <= self.index <= self.count <= ranges.PARTS.high:
            raise _no_part("part", str(self))

    @classmethod
    def parse(cls, text: str, name: str = "part") -> "Part":
        """Read `2/8`.

        Args:
            text: Which part, a slash, of how many.
            name: What to call it in the message.

        Returns:
            The part.

        Raises:
            InputError: Anything else, or a part that is not among them.

        Example:
            >>> Part.parse("9/8")
            Traceback (most recent call last):
            brainseg_keras.errors.InputError: part is two whole numbers such as 2/8, the first from 1 to the second, ...
        """
        if not re.fullmatch(r"[0-9]{1,7}/[0-9]{1,7}", text):
            raise _no_part(name, text)
        try:
            return cls(*map(int, text.split("/")))
        except InputError:
            raise _no_part(name, text) from None

    @property
    def whole(self) -> list["Part"]:
        """All parts of the whole, in their order."""
        return [Part(index, self.count) for index in range(1, self.count + 1)]

    def holds(self, id: str) -> bool:
        """Say whether a scan or a patient belongs to it; each belongs to one part of so many.

        Args:
            id: What it is called; nothing else counts, so that the parts are the same whatever else is there.

        Returns:
            Whether it does.
        """
        digest = hashlib.sha256(id.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    def hold(self, folder: Path) -> AbstractContextManager[None]:
        """Keep other processes from working on the same part; the hold ends with the process, however that ends.

        Args:
            folder: Where all parts keep what they need.

        Returns:
            What holds it within `with`.

        Raises:
            InputError: Another process holds it, when it is entered.
        """
        return hold_folder(folder / self.file_name, cure="give another --part")

    @property
    def file_name(self) -> str:
        """What files of it are called, without an ending."""
        return f"{self.index}-of-{self.count}"

    def __str__(self) -> str:
        """Say it as `parse` reads it."""
        return f"{self.index}/{self.count}"


def _no_part(name: str, received: str) -> InputError:
    return InputError(
        f"{name} is two whole numbers such as 2/8, the first from 1 to the second, the second {ranges.PARTS}. "
        f"Received: {received!r}."
    )
