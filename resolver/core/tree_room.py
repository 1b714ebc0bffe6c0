"""How much the file trees of one run may take: a small archive can name a great many folders.

The limits are ours. A million files in each of two trees take some 620 MB, comparison included.
"""

from __future__ import annotations

from resolver.errors import LimitExceeded
from resolver.values import dataclass

_HINT = "say which platforms with `-p PLATFORM`"


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What all trees of one run may come to.

    Attributes:
        paths: of files and folders. Twice the entries of reliability.md 5: platforms share layers,
            and each has its tree.
        implied: folders among them that no entry names. One header can name 128.
        text: bytes of names and paths; what is not ASCII counts four times.
        steps: names on ways through symbolic links. One way can have a million.
        packages: that are installed. Twenty full desktops.
        package_text: bytes of their names and versions, counted like `text`.
        databases: bytes of package databases, unpacked. They are read one after the other.
    """

    paths: int = 4_000_000
    implied: int = 500_000
    text: int = 512 << 20
    steps: int = 20_000_000
    packages: int = 50_000
    package_text: int = 3 << 20
    databases: int = 96 << 20


class TreeRoom:
    """Counts for all trees of one run."""

    __slots__ = (
        "_databases", "_implied", "_limits", "_package_text", "_packages", "_paths", "_steps",
        "_text",
    )  # fmt: skip

    def __init__(self, limits: RoomLimits | None = None) -> None:
        self._limits = limits or RoomLimits()
        self._paths = self._implied = self._text = self._steps = 0
        self._packages = self._package_text = self._databases = 0

    def path(self, name: str) -> None:
        """Count a path that was not there before.

        Raises:
            LimitExceeded: it is one too many.
        """
        self._paths += 1
        if self._paths > self._limits.paths:
            raise _past("the size of all file trees", self._limits.paths, self._paths, "paths")
        self.text(name)

    def implied(self, name: str) -> None:
        """Count a folder that no entry names.

        Raises:
            LimitExceeded: it is one too many.
        """
        self._implied += 1
        if self._implied > self._limits.implied:
            what = "the number of folders that no entry names"
            raise _past(what, self._limits.implied, self._implied, "folders")
        self.path(name)

    def text(self, text: str) -> None:
        """Count a name or a path that is kept.

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
    return LimitExceeded(what, limit, value, unit, _HINT)
