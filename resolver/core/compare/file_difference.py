"""The results of a comparison of file trees, sorted by path or name."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.layers.executable import Executable
    from resolver.core.platforms.platform import Platform


class PathChange(Enum):
    """A kind of difference of a path; a path may have several."""

    ADDED = "added"
    REMOVED = "removed"
    #: For example a file here, and a folder or a link there.
    TYPE = "type"
    MODE = "mode"
    OWNER = "owner"
    #: Extended attributes: capabilities, labels, Windows records.
    XATTRS = "xattrs"
    SIZE = "size"
    CONTENT = "content"
    #: The target of a symbolic link, without words for the architecture.
    LINK = "link"
    #: The numbers of a device.
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One path of one tree.

    Attributes:
        path: as in the tree, without a leading slash; remote text, to be escaped.
        kind: `file`, `folder`, `symlink`, `character`, `block`, `fifo` or `hard link` (one whose
            target does not exist; the others are files).
        sha256: of the content, 64 hex digits; empty without content.
        link: target of a link; empty otherwise.
        program: the machine of a program; None for other files.
        xattrs: names and values of extended attributes, by name; values are `Xattr.text`.
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

    `before`: in the base; None when added. `after`: in the other tree; None when removed.
    """

    path: str
    changes: tuple[PathChange, ...]
    before: FileFacts | None
    after: FileFacts | None
    xattrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FolderDelta:
    """Bytes of files below a folder, in the base and in the other tree."""

    path: str
    before: int
    after: int

    @property
    def delta(self) -> int:
        """Growth from the base to the other tree; negative if it is smaller."""
        return self.after - self.before


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """An installed package.

    `manager`: `dpkg`, `apk` or `rpm`. `version`: with epoch and release, as the manager writes it.
    `architecture`: as the manager writes it; `all` or `noarch` for none.
    """

    manager: str
    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True)
class PackageDifference:
    """A package whose installed versions, sorted and maybe none, differ."""

    manager: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeSummary:
    """Summary of one tree.

    Attributes:
        files, folders, links: counts; `links` are symbolic ones.
        size: bytes of all files; each name of a hard-linked file counts.
        programs: machines and the number of programs for each, most first.
        strangers: programs that the platform does not run.
        unread: package databases that could not be read: path and reason.
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
        differences: by path; without programs that differ only in their machine.
        counts: kinds of differences, in `PathChange` order, and the number of paths of each.
        rebuilt: programs that differ in content only, each made for its own platform's machine.
        folders: the folders whose size differs most, largest difference first.
        not_compared: why the trees were not compared; empty if they were. Everything else is empty
            then, including `summary`.
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
        """Whether nothing differs apart from programs for another machine."""
        return not (self.differences or self.packages or self.not_compared)


@dataclass(frozen=True, slots=True)
class FileComparison:
    """Trees compared with a base, in the order given."""

    base: TreeSummary
    others: tuple[TreeComparison, ...]

    @property
    def is_same(self) -> bool:
        """Whether no tree differs from the base."""
        return all(other.is_same for other in self.others)


@dataclass(frozen=True, slots=True)
class Installed:
    """The packages installed in a tree, sorted, and unreadable databases with reasons."""

    packages: tuple[Package, ...]
    unread: tuple[tuple[str, str], ...]
