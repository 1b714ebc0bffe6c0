"""What a comparison of file trees finds; everything that a renderer needs, and nothing to fetch.

All of it is in order of paths or names, the same on every machine.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.layers.executable import Executable
    from resolver.core.platforms.platform import Platform


class PathChange(Enum):
    """One way in which a path differs; a path may differ in several."""

    ADDED = "added"
    REMOVED = "removed"
    #: A file here, a folder or a link there.
    TYPE = "type"
    MODE = "mode"
    OWNER = "owner"
    #: Extended attributes: capabilities, labels, what Windows keeps beside a file.
    XATTRS = "xattrs"
    SIZE = "size"
    CONTENT = "content"
    #: What a symbolic link points at, once parts that name an architecture are taken out.
    LINK = "link"
    #: The numbers of a device.
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One path of one tree.

    Attributes:
        path: as it is in the tree, without a leading slash; text from elsewhere, to be escaped.
        kind: `file`, `folder`, `symlink`, `character`, `block`, `fifo` or `hard link` (one whose
            target does not exist; the others are files).
        size: of the content in bytes.
        sha256: of the content, 64 hex digits; empty for what has none.
        link: what a link points at; empty otherwise.
        program: what machine it is made for; None for what is no program.
        xattrs: names and values of extended attributes, by name; a value is as `Xattr.text` has it.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    sha256: str = ""
    link: str = ""
    device: tuple[int, int] | None = None
    program: Executable | None = None
    xattrs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A path that differs.

    Attributes:
        path: what both sides have in common: parts that name an architecture are `{arch}`.
        before: in the base; None when added.
        after: in the other tree; None when removed.
        xattrs: names of the extended attributes that differ.
    """

    path: str
    changes: tuple[PathChange, ...]
    before: FileFacts | None
    after: FileFacts | None
    xattrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FolderDelta:
    """How many bytes of files lie in a folder and below, in the base and in the other tree."""

    path: str
    before: int
    after: int

    @property
    def delta(self) -> int:
        """How much larger it is in the other tree; negative where it is smaller."""
        return self.after - self.before


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """An installed package.

    Attributes:
        manager: `dpkg`, `apk` or `rpm`.
        version: with epoch and release, as the manager writes it.
        architecture: as the manager writes it; `all` or `noarch` where it has none.
    """

    manager: str
    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True)
class PackageDifference:
    """A package whose versions differ; several at once where a name is installed several times.

    Attributes:
        before, after: versions, sorted; empty where it is not installed.
    """

    manager: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeSummary:
    """One tree by itself.

    Attributes:
        label: what it is called in the comparison, normally the platform.
        platform: what it should be for; None where nobody says.
        files, folders, links: how many; `links` are symbolic ones.
        size: bytes of all files; each name of a hard-linked file counts.
        programs: machine and how many programs are made for it, most first.
        strangers: programs that the platform's machine does not run.
        packages: all that are installed, sorted.
        unread: package databases that could not be read: path and reason.
        warnings: what was odd about its layers.
    """

    label: str
    platform: Platform | None
    files: int
    folders: int
    links: int
    size: int
    programs: tuple[tuple[str, int], ...]
    strangers: Sequence[FileFacts]
    packages: tuple[Package, ...]
    unread: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TreeComparison:
    """One tree against the base.

    Attributes:
        summary: of this tree.
        differences: by path; what is only for another machine is left out.
        counts: the kinds of change that were found, in `Change` order, and on how many paths.
        same: paths without any difference.
        rebuilt: programs that differ in content only, each made for its own platform's machine.
        rebuilt_size: bytes of those, in the base and here.
        folders: the folders whose size differs most, largest difference first.
        packages: that differ in version.
        same_packages: how many packages have the same version.
        not_compared: why the trees were not held against each other; empty where they were. The
            rest is empty then, `summary` too.
    """

    summary: TreeSummary
    differences: Sequence[FileDifference]
    counts: tuple[tuple[PathChange, int], ...]
    same: int
    rebuilt: int
    rebuilt_size: tuple[int, int]
    folders: tuple[FolderDelta, ...]
    packages: tuple[PackageDifference, ...]
    same_packages: int
    not_compared: str = ""

    @property
    def is_same(self) -> bool:
        """Whether nothing differs but what has to: programs for another machine."""
        return not (self.differences or self.packages or self.not_compared)


@dataclass(frozen=True, slots=True)
class FileComparison:
    """Trees against one of them.

    Attributes:
        base: what the others are compared with.
        others: in the order they were given.
    """

    base: TreeSummary
    others: tuple[TreeComparison, ...]

    @property
    def is_same(self) -> bool:
        """Whether no tree differs from the base."""
        return all(other.is_same for other in self.others)


@dataclass(frozen=True, slots=True)
class Installed:
    """What is installed in a tree, sorted, and which databases could not be read, and why."""

    packages: tuple[Package, ...]
    unread: tuple[tuple[str, str], ...]
