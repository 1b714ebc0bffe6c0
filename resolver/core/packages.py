"""Which packages a file tree has installed, read from the databases that package managers keep.

Source: dpkg-query(1) and deb-control(5); GoogleContainerTools/distroless, "status.d"; Alpine wiki,
"Apk spec", installed database; rpm's own documentation, "RPM database" (see `packages_rpm`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core import packages_rpm
from resolver.core.file_difference import Package, PackageDifference
from resolver.core.filetree import Folder
from resolver.core.layer_listing import LayerFile
from resolver.core.tar_reader import Kind
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from resolver.core.filetree import FileTree

#: Bytes of one database. Ours: ten times the largest in common images.
MAX_DATABASE = 64 << 20
#: Bytes of one file of a database that is a folder.
MAX_PART = 1 << 20
#: Packages of one tree. Ours: ten times a full desktop.
MAX_PACKAGES = 50_000


class UnreadableDatabaseError(Exception):
    """Why a database cannot be read; for people."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where a package manager keeps what is installed.

    Attributes:
        read: makes packages out of the bytes; None for a format that is known and not read.
        is_folder: the path is a folder with one file per package.
        reason: why it is not read, if so.
    """

    manager: str
    path: str
    read: Callable[[bytes], Iterator[Package]] | None
    is_folder: bool = False
    reason: str = ""


def read_dpkg(body: bytes) -> Iterator[Package]:
    """Read paragraphs of `Field: value`; only what is installed counts."""
    for fields in _paragraphs(body, b": "):
        status = fields.get(b"Status", b"install ok installed")
        if b"Package" in fields and status.split()[-1:] == [b"installed"]:
            yield _package("dpkg", fields, b"Package", b"Version", b"Architecture")


def read_apk(body: bytes) -> Iterator[Package]:
    """Read paragraphs of `X:value`."""
    for fields in _paragraphs(body, b":"):
        if b"P" in fields:
            yield _package("apk", fields, b"P", b"V", b"A")


def _package(
    manager: str, fields: dict[bytes, bytes], name: bytes, version: bytes, architecture: bytes
) -> Package:
    def text(key: bytes) -> str:
        return fields.get(key, b"").decode("utf-8", "replace")

    return Package(manager, text(name), text(version), text(architecture))


def _paragraphs(body: bytes, separator: bytes) -> Iterator[dict[bytes, bytes]]:
    fields: dict[bytes, bytes] = {}
    for line in body.split(b"\n"):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[:1] not in b" \t":
            key, found, value = line.partition(separator)
            if found:
                fields.setdefault(key, value.strip())
    if fields:
        yield fields


def read_rpm(body: bytes) -> Iterator[Package]:
    """Read rpm's SQLite database.

    Raises:
        UnreadableDatabaseError: it is none, or damaged.
    """
    try:
        yield from packages_rpm.read_database(body, MAX_PACKAGES)
    except packages_rpm.DamagedError as error:
        raise UnreadableDatabaseError(str(error)) from error


_BERKELEY = "it is a Berkeley DB, which is not read here"
_NDB = "it is rpm's own ndb format, which is not read here"
_RPM_FOLDERS = ("var/lib/rpm", "usr/lib/sysimage/rpm")
#: One row adds a package manager, or a place where one keeps its database.
DATABASES = (
    Database("dpkg", "var/lib/dpkg/status", read_dpkg),
    Database("dpkg", "var/lib/dpkg/status.d", read_dpkg, is_folder=True),
    Database("apk", "lib/apk/db/installed", read_apk),
    Database("apk", "usr/lib/apk/db/installed", read_apk),
    *(Database("rpm", f"{folder}/rpmdb.sqlite", read_rpm) for folder in _RPM_FOLDERS),
    *(Database("rpm", f"{folder}/Packages", None, reason=_BERKELEY) for folder in _RPM_FOLDERS),
    *(Database("rpm", f"{folder}/Packages.db", None, reason=_NDB) for folder in _RPM_FOLDERS),
)
_FILES = frozenset(each.path for each in DATABASES if each.read and not each.is_folder)
_FOLDERS = tuple(f"{each.path}/" for each in DATABASES if each.is_folder)
_UNREAD_SUFFIX = ".md5sums"


def wanted(path: str) -> int:
    """Say how many bytes of a file to keep because it may be a database; 0 for other files."""
    if path in _FILES:
        return MAX_DATABASE
    if path.startswith(_FOLDERS) and not path.endswith(_UNREAD_SUFFIX):
        return MAX_PART
    return 0


@dataclass(frozen=True, slots=True)
class Installed:
    """What is installed in a tree, sorted, and which databases could not be read, and why."""

    packages: tuple[Package, ...]
    unread: tuple[tuple[str, str], ...]


def read_installed(tree: FileTree) -> Installed:
    """Read every package database of a tree."""
    found: set[Package] = set()
    unread: list[tuple[str, str]] = []
    seen: set[int] = set()
    for database in DATABASES:
        for path, node in _files(tree, database):
            # `/lib` may be a link to `/usr/lib`.
            if id(node) in seen:
                continue
            seen.add(id(node))
            try:
                found.update(_read(tree, database, node))
            except UnreadableDatabaseError as error:
                unread.append((path, str(error)))
        if len(found) > MAX_PACKAGES:
            unread.append((database.path, f"it has more than {MAX_PACKAGES} packages"))
            break
    return Installed(tuple(sorted(found)[:MAX_PACKAGES]), tuple(sorted(unread)))


def _files(tree: FileTree, database: Database) -> Iterator[tuple[str, LayerFile]]:
    node = tree.find(database.path)
    if isinstance(node, LayerFile) and node.kind is Kind.FILE and not database.is_folder:
        yield database.path, node
    elif isinstance(node, Folder) and database.is_folder:
        for name, child in sorted(node.children.items()):
            is_part = isinstance(child, LayerFile) and child.kind is Kind.FILE
            if is_part and not name.endswith(_UNREAD_SUFFIX):
                yield f"{database.path}/{name}", child  # type: ignore[misc] # just told apart


def _read(tree: FileTree, database: Database, node: LayerFile) -> Iterable[Package]:
    if database.read is None:
        raise UnreadableDatabaseError(database.reason)
    body = tree.bodies.get(node.sha256)
    if body is None:
        limit = MAX_PART if database.is_folder else MAX_DATABASE
        if node.size > limit:
            reason = f"it goes past the limit of {limit} bytes: {node.size}"
            raise UnreadableDatabaseError(reason)
        raise UnreadableDatabaseError("it is a link to a file with another name")
    if database.manager == "rpm":
        log = tree.find(f"{database.path}-wal")
        if isinstance(log, LayerFile) and log.size:
            raise UnreadableDatabaseError("changes in its write-ahead log are not merged into it")
    return database.read(body)


def compare_packages(
    before: Sequence[Package], after: Sequence[Package]
) -> tuple[tuple[PackageDifference, ...], int]:
    """Compare by name and version; gives what differs, and how many packages are the same.

    The architecture is not compared: it must differ between platforms.
    """
    versions: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for side, packages in enumerate((before, after)):
        for package in packages:
            both = versions.setdefault((package.manager, package.name), (set(), set()))
            both[side].add(package.version)
    differences = tuple(
        PackageDifference(manager, name, tuple(sorted(old)), tuple(sorted(new)))
        for (manager, name), (old, new) in sorted(versions.items())
        if old != new
    )
    return differences, len(versions) - len(differences)
