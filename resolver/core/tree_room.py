"""How much the file trees of one run may take: a small archive can name a great many folders.

The limits are ours. They keep a whole process below 256 MB, whatever the layers hold.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from resolver.errors import LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from contextlib import AbstractContextManager

#: What to do where everything together is too much.
FEWER = "compare fewer platforms at once: name them with `-p PLATFORM`"


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What all trees of one run may come to.

    Attributes:
        paths: of files and folders. Twice the entries of reliability.md 5: platforms share layers,
            and each has its tree.
        implied: folders among them that no entry names. One header can name 128.
        text: bytes of names and paths that are written down; what is not ASCII counts four times.
        steps: names on ways through symbolic links. One way can have a million.
        packages: that are installed. Twenty full desktops.
        package_text: bytes of their names and versions, counted like `text`.
        databases: bytes of package databases, unpacked. They are read one after the other.
        memory: bytes that layers, trees and differences take at one time.
    """

    paths: int = 4_000_000
    implied: int = 500_000
    text: int = 512 << 20
    steps: int = 20_000_000
    packages: int = 50_000
    package_text: int = 3 << 20
    databases: int = 96 << 20
    memory: int = 144 << 20


class TreeRoom:
    """Counts for all trees of one run, and keeps what many of their paths have in common.

    Args:
        limits: see there.
        lock: a reentrant one where several threads read layers. The garbage collector may free
            what gives its bytes back at any time, so in `take` too.
    """

    __slots__ = (
        "_databases", "_held", "_implied", "_limits", "_lock", "_numbers", "_package_text",
        "_packages", "_paths", "_steps", "_text", "traits",
    )  # fmt: skip

    def __init__(
        self,
        limits: RoomLimits | None = None,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self._limits = limits or RoomLimits()
        self._paths = self._implied = self._text = self._steps = 0
        self._packages = self._package_text = self._databases = self._held = 0
        self._lock = lock or nullcontext()
        self._numbers: dict[Hashable, int] = {}
        #: What was shared, by its number.
        self.traits: list[Hashable] = []

    @property
    def held(self) -> int:
        """How many bytes are counted at this time."""
        return self._held

    def take(self, size: int) -> None:
        """Count bytes of memory that are about to be used.

        Raises:
            LimitExceeded: together with all that is in use they are too many.
        """
        with self._lock:
            held = self._held + size
            if held > self._limits.memory:
                what = "the memory for the files of all platforms"
                raise _past(what, self._limits.memory, held, "bytes")
            self._held = held

    def give(self, size: int) -> None:
        """Count bytes of memory that were taken and are free again."""
        with self._lock:
            self._held -= size

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Count bytes of memory that are in use while a block lasts.

        Raises:
            LimitExceeded: together with all that is in use they are too many.
        """
        self.take(size)
        try:
            yield
        finally:
            self.give(size)

    def share(self, value: Hashable, size: int) -> int:
        """Keep a value that many paths have, once, and give its number.

        Args:
            value: compared by what it holds.
            size: bytes that it takes in memory.

        Raises:
            LimitExceeded: there is no room for another one.
        """
        with self._lock:
            number = self._numbers.get(value)
            if number is None:
                self.take(size)
                number = self._numbers[value] = len(self.traits)
                self.traits.append(value)
            return number

    def path(self) -> None:
        """Count a path that was not there before.

        Raises:
            LimitExceeded: it is one too many.
        """
        self._paths += 1
        if self._paths > self._limits.paths:
            raise _past("the size of all file trees", self._limits.paths, self._paths, "paths")

    def implied(self) -> None:
        """Count a folder that no entry names.

        Raises:
            LimitExceeded: it is one too many.
        """
        self._implied += 1
        if self._implied > self._limits.implied:
            what = "the number of folders that no entry names"
            raise _past(what, self._limits.implied, self._implied, "folders")
        self.path()

    def text(self, text: str) -> None:
        """Count a path that is written down.

        Raises:
            LimitExceeded: all of them are too long.
        """
        self._text += len(text) if text.isascii() else 4 * len(text)
        if self._text > self._limits.text:
            what = "the size of all paths of all file trees"
            raise _past(what, self._limits.text, self._text, "bytes")

    def steps(self, count: int) -> None:
        """Count the names in a link that is followed.

        Raises:
            LimitExceeded: those are too many.
        """
        self._steps += count
        if self._steps > self._limits.steps:
            what = "the way through symbolic links"
            raise _past(what, self._limits.steps, self._steps, "names")

    def database(self, size: int) -> None:
        """Count a package database before it is unpacked.

        Raises:
            LimitExceeded: all of them are too large.
        """
        self._databases += size
        if self._databases > self._limits.databases:
            what = "the size of the package databases of all file trees"
            raise _past(what, self._limits.databases, self._databases, "bytes")

    def package(self, *texts: str) -> None:
        """Count an installed package.

        Raises:
            LimitExceeded: they are too many, or their names and versions too long.
        """
        self._packages += 1
        if self._packages > self._limits.packages:
            what = "the number of packages of all file trees"
            raise _past(what, self._limits.packages, self._packages, "packages")
        self._package_text += sum(len(text) * (1 if text.isascii() else 4) for text in texts)
        if self._package_text > self._limits.package_text:
            what = "the size of the names of all packages"
            raise _past(what, self._limits.package_text, self._package_text, "bytes")


def _past(what: str, limit: int, value: int, unit: str) -> LimitExceeded:
    return LimitExceeded(what, limit, value, unit, FEWER)
