"""Installed packages of a file tree, from the databases of package managers.

Source: dpkg-query(1) and deb-control(5); GoogleContainerTools/distroless, "status.d"; Alpine wiki,
"Apk spec", installed database; rpm's documentation, "RPM database".
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from resolver.core.compare.file_difference import Installed, Package, PackageDifference
from resolver.core.layers.filetree import TreeFolder
from resolver.core.layers.listing import LayerFile, in_memory
from resolver.core.layers.tar import TarEntryKind
from resolver.errors import LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from resolver.core.layers.filetree import FileTree


_MAGIC = b"SQLite format 3\0"
#: Format versions of a database that has a write-ahead log, and of one that has none.
#: Source: SQLite, "Database File Format", 1.3.
_VERSIONS = slice(18, 20)
_NO_LOG = b"\x01\x01"

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCHITECTURE = 1000, 1001, 1002, 1003, 1022
_TEXT_TYPES = frozenset({6, 9})
_NUMBER_TYPE = 4
_ENTRY = struct.Struct(">IIII")
#: Entries of one header, and bytes of one. Source: rpm, lib/header.cc, hdrchkTags and hdrchkData.
_MAX_ENTRIES = 0xFFFF
_MAX_HEADER = 16 << 20
#: Steps of SQLite's virtual machine; a database of 50,000 packages takes some million.
_MAX_STEPS = 20_000_000
#: Bytes of a name, version, release or architecture. Ours.
_MAX_TEXT = 256
_STEPS_AT_ONCE = 1_000_000
#: rpm stores signing keys like packages.
_KEY = "gpg-pubkey"


class UnreadableDatabase(Exception):
    """Why a database cannot be read."""


def read_database(body: bytes, most: int) -> Iterator[Package]:
    """Yield the packages of an rpm SQLite database, at most `most` + 1 to make excess visible."""
    import sqlite3  # noqa: PLC0415 - for images with rpm alone

    if not body.startswith(_MAGIC):
        raise UnreadableDatabase("it is not a SQLite database")
    connection = sqlite3.connect(":memory:")
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_HEADER)
        for blob in _blobs(connection, body, most):
            package = read_header(blob)
            if package.name != _KEY:
                yield package
    except sqlite3.Error as error:
        raise UnreadableDatabase(f"SQLite reports: {error}") from error
    finally:
        connection.close()


def _blobs(connection: sqlite3.Connection, body: bytes, most: int) -> Iterator[bytes]:
    """Read the table, with a limit on the work that a hostile file can cause."""
    size = len(body)
    patched = bytearray(body)
    del body
    patched[_VERSIONS] = _NO_LOG
    connection.deserialize(patched)
    del patched
    steps = read = 0

    def stop() -> bool:
        nonlocal steps
        steps += _STEPS_AT_ONCE
        return steps > _MAX_STEPS

    connection.set_progress_handler(stop, _STEPS_AT_ONCE)
    for setting in ("trusted_schema = off", "cell_size_check = on", "query_only = on"):
        connection.execute(f"PRAGMA {setting}")
    # A view of this name could run forever, or call functions.
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchone()
    if kind != ("table",):
        raise UnreadableDatabase("it has no table `Packages`")
    for (blob,) in connection.execute("SELECT blob FROM Packages LIMIT ?", (most + 1,)):
        if not isinstance(blob, bytes):
            raise UnreadableDatabase("a package in it is not a blob")
        # Rows can share pages, so that a small file reads like a huge one.
        read += len(blob)
        if read > size:
            raise UnreadableDatabase("its packages are larger than the whole database")
        yield blob


def read_header(blob: bytes) -> Package:
    """Parse a package from an rpm header."""
    if len(blob) < 8:  # noqa: PLR2004 - the two lengths
        raise UnreadableDatabase("a package in it has no header")
    count, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * count
    if count > _MAX_ENTRIES or size > _MAX_HEADER or start + size > len(blob):
        raise UnreadableDatabase("a package in it has a header that is cut short")
    data = blob[start : start + size]
    texts: dict[int, str] = {}
    epoch = 0
    for tag, kind, offset, _ in _ENTRY.iter_unpack(blob[8:start]):
        if tag in {_NAME, _VERSION, _RELEASE, _ARCHITECTURE} and kind in _TEXT_TYPES:
            if tag not in texts:
                texts[tag] = _rpm_text(data, offset)
        elif (tag, kind) == (_EPOCH, _NUMBER_TYPE):
            if offset + 4 > size:
                raise UnreadableDatabase("a package in it has a number outside of its header")
            (epoch,) = struct.unpack_from(">I", data, offset)
    if not {_NAME, _VERSION, _RELEASE} <= set(texts):
        raise UnreadableDatabase("a package in it has no name or version")
    version = f"{texts[_VERSION]}-{texts[_RELEASE]}"
    return Package(
        "rpm",
        texts[_NAME],
        f"{epoch}:{version}" if epoch else version,
        texts.get(_ARCHITECTURE, ""),
    )


def _rpm_text(data: bytes, offset: int) -> str:
    """Read a text up to its NUL; refuse one that leaves the header or is too long."""
    end = data.find(b"\0", offset, offset + _MAX_TEXT + 1)
    if offset >= len(data) or (end < 0 and offset + _MAX_TEXT >= len(data)):
        raise UnreadableDatabase("a package in it has a text outside of its header")
    if end < 0:
        raise UnreadableDatabase(f"a package in it has a text of more than {_MAX_TEXT} bytes")
    return data[offset:end].decode("utf-8", "replace")


#: Bytes of one text database. Ours: three times that of a full desktop.
MAX_TEXT = 16 << 20
#: Bytes of one rpm database. Ours: twice the largest in common images.
MAX_DATABASE = 32 << 20
#: Bytes of one file of a database folder.
MAX_PART = 1 << 20
#: Copies of a database in memory while it is read: decompressed, and SQLite's.
_UNPACKED = 2
#: Packages of one database. Ours: ten times a full desktop.
MAX_PACKAGES = 25_000
#: Bytes of a name, version or architecture. Ours.
MAX_FIELD = 256


@dataclass(frozen=True, slots=True)
class Database:
    """A package database at a known path.

    `read`: parses the bytes; None for an unsupported format. `is_folder`: the path is a folder with
    one file per package. `limit`: bytes of the file, or of each file in the folder.
    """

    manager: str
    path: str
    read: Callable[[bytes], Iterator[Package]] | None
    is_folder: bool = False
    limit: int = MAX_TEXT
    reason: str = ""


def read_dpkg(body: bytes) -> Iterator[Package]:
    """Yield the installed packages of dpkg paragraphs, `Field: value`."""
    for fields in _paragraphs(body, _DPKG):
        status = fields.get(b"Status", b"install ok installed")
        if b"Package" in fields and status.split()[-1:] == [b"installed"]:
            yield _package("dpkg", fields, b"Package", b"Version", b"Architecture")


def read_apk(body: bytes) -> Iterator[Package]:
    """Yield the packages of apk paragraphs, `X:value`."""
    for fields in _paragraphs(body, _APK):
        if b"P" in fields:
            yield _package("apk", fields, b"P", b"V", b"A")


def _package(
    manager: str, fields: dict[bytes, bytes], name: bytes, version: bytes, architecture: bytes
) -> Package:
    return Package(
        manager, *(_text(fields.get(key, b""), manager) for key in (name, version, architecture))
    )


def _text(value: bytes, manager: str) -> str:
    if len(value) > MAX_FIELD:
        reason = f"a field of a package exceeds the limit of {MAX_FIELD} bytes: {len(value)}"
        raise UnreadableDatabase(f"{reason} ({manager})")
    return value.decode("utf-8", "replace")


#: The interpreted fields and runs of blank lines; anything else is skipped by the engine.
_BLANK = rb"(?:[ \t\r\f\v]*+\n)++"
_DPKG = re.compile(
    rb"^(?:(Package|Status|Version|Architecture): ([^\n]*+)|%b)" % _BLANK, re.MULTILINE
)
_APK = re.compile(rb"^(?:([PVA]):([^\n]*+)|%b)" % _BLANK, re.MULTILINE)


def _paragraphs(body: bytes, pattern: re.Pattern[bytes]) -> Iterator[dict[bytes, bytes]]:
    """Yield the fields of each package; of duplicate fields the first."""
    fields: dict[bytes, bytes] = {}
    for found in pattern.finditer(body):
        if found[1] is not None:
            fields.setdefault(found[1], found[2].strip())
        elif fields:
            yield fields
            fields = {}
    if fields:
        yield fields


def read_rpm(body: bytes) -> Iterator[Package]:
    """Yield the packages of rpm's SQLite database."""
    return read_database(body, MAX_PACKAGES)


_BERKELEY = "it is a Berkeley DB, which is not supported"
_NDB = "it is rpm's own ndb format, which is not supported"
_RPM_FOLDERS = ("var/lib/rpm", "usr/lib/sysimage/rpm")
#: To support another package manager or path, add a row.
DATABASES = (
    Database("dpkg", "var/lib/dpkg/status", read_dpkg),
    Database("dpkg", "var/lib/dpkg/status.d", read_dpkg, is_folder=True, limit=MAX_PART),
    Database("apk", "lib/apk/db/installed", read_apk),
    Database("apk", "usr/lib/apk/db/installed", read_apk),
    *(
        Database("rpm", f"{folder}/rpmdb.sqlite", read_rpm, limit=MAX_DATABASE)
        for folder in _RPM_FOLDERS
    ),
    *(Database("rpm", f"{folder}/Packages", None, reason=_BERKELEY) for folder in _RPM_FOLDERS),
    *(Database("rpm", f"{folder}/Packages.db", None, reason=_NDB) for folder in _RPM_FOLDERS),
)
_FILES = {row.path: row.limit for row in DATABASES if row.read and not row.is_folder}
_FOLDERS = tuple(f"{row.path}/" for row in DATABASES if row.is_folder)
_UNREAD_SUFFIX = ".md5sums"


def wanted(path: str) -> int:
    """Return how many bytes of a file to keep because it may be a database; 0 for others."""
    if path in _FILES:
        return _FILES[path]
    if path.startswith(_FOLDERS) and not path.endswith(_UNREAD_SUFFIX):
        return MAX_PART
    return 0


def read_installed(tree: FileTree) -> Installed:
    """Read every package database of a tree, once, up to the limits."""
    if tree.installed is None:
        tree.installed = _installed(tree)
    return tree.installed


def _installed(tree: FileTree) -> Installed:
    found: set[Package] = set()
    unread: list[tuple[str, str]] = []
    seen: set[tuple[str, bytes, int]] = set()
    for database in DATABASES:
        for path, node in _files(tree, database):
            # `/lib` may be a link to `/usr/lib`.
            key = (database.manager, node.sha256, node.size)
            if key in seen:
                continue
            seen.add(key)
            size = _UNPACKED * node.size if node.sha256 in tree.bodies else 0
            try:
                with tree.room.taken(size):
                    for package in _limited(_read(tree, database, node)):
                        if package not in found:
                            texts = (package.name, package.version, package.architecture)
                            tree.room.count("packages")
                            tree.room.count("package_text", sum(map(in_memory, texts)))
                            found.add(package)
            except (UnreadableDatabase, LimitExceeded) as error:
                unread.append((path, str(error)))
                if isinstance(error, LimitExceeded):
                    return Installed(tuple(sorted(found)), tuple(sorted(unread)))
    return Installed(tuple(sorted(found)), tuple(sorted(unread)))


def _limited(packages: Iterable[Package]) -> Iterator[Package]:
    """Yield packages; refuse more than `MAX_PACKAGES`."""
    for number, package in enumerate(packages, 1):
        if number > MAX_PACKAGES:
            raise UnreadableDatabase(f"it has more than {MAX_PACKAGES} packages")
        yield package


def _files(tree: FileTree, database: Database) -> Iterator[tuple[str, LayerFile]]:
    node = tree.find(database.path)
    if isinstance(node, LayerFile) and node.kind is TarEntryKind.FILE and not database.is_folder:
        yield database.path, node
    elif isinstance(node, TreeFolder) and database.is_folder:
        for name, child in tree.files(node):
            if child.kind is TarEntryKind.FILE and not name.endswith(_UNREAD_SUFFIX):
                yield f"{database.path}/{name}", child


def _read(tree: FileTree, database: Database, node: LayerFile) -> Iterable[Package]:
    if database.read is None:
        raise UnreadableDatabase(database.reason)
    if node.sha256 not in tree.bodies:
        if node.size > database.limit:
            reason = f"it exceeds the limit of {database.limit} bytes: {node.size}"
            raise UnreadableDatabase(reason)
        raise UnreadableDatabase("it is a link to a file with another name")
    tree.room.count("databases", node.size)
    if database.manager == "rpm":
        log = tree.find(f"{database.path}-wal")
        if isinstance(log, LayerFile) and log.size:
            raise UnreadableDatabase("changes in its write-ahead log are not merged into it")
    return database.read(tree.kept(node) or b"")


def compare_packages(
    before: Sequence[Package], after: Sequence[Package]
) -> tuple[tuple[PackageDifference, ...], int]:
    """Compare by name and version; return the differences and the number of equal packages."""
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
