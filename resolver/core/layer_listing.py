"""What one layer puts into a tree: its entries in order, contents by their hash.

A layer is read once, from its first byte to its last; nothing of it is kept but names, hashes, and
the few small files somebody asked for.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import TYPE_CHECKING

from resolver.core.executable import PROBE, Executable, read_executable
from resolver.core.tar_reader import DEFAULT_LIMITS, Kind, TarEntry, TarLimits, TarReader
from resolver.errors import LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from resolver.core.xattrs import Xattrs

#: A component that is empty, `.` or `..`, between slashes.
_ODD = re.compile(r"/\.{0,2}/", re.ASCII)
_MAGICS = (b"\x7fELF", b"MZ", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
_LONGEST_MAGIC = 4
#: zlib's level: databases are text, and repeat themselves.
_FAST = 1
#: Bytes that a kept file takes in memory besides its own.
_OVERHEAD = 200
_EMPTY = hashlib.sha256().digest()


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what: 12 permission bits and the numbers of the owner."""

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, eq=False)
class LayerFile:
    """One entry of a layer, or one path of a tree.

    Attributes:
        path: without leading slash, `.` and `..`; empty for the root. `..` never leads above it.
        size: in bytes, holes included.
        sha256: 32 bytes; empty for what has no content.
        link: a symbolic link's target as written; a hard link's in the form of `path`.
    """

    path: str
    kind: Kind
    access: Access
    size: int = 0
    sha256: bytes = b""
    link: str = ""
    device: tuple[int, int] | None = None
    program: Executable | None = None
    xattrs: Xattrs = ()


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """A whole layer.

    Attributes:
        files: in the order of the archive; whiteouts are among them as they are.
        bodies: small files that were wanted, by their `sha256`, compressed with zlib.
        kept: bytes of those, as `TarLimits.bodies` counts them.
        oversized: paths of wanted files that were too large.
        warnings: what was odd.
        size: bytes of the uncompressed archive.
        named: bytes of its names, as `TarLimits.names` counts them.
        attributed: bytes of its extended attributes, as `TarLimits.xattrs` counts them.
    """

    files: tuple[LayerFile, ...]
    bodies: Mapping[bytes, bytes]
    oversized: frozenset[str]
    warnings: tuple[str, ...]
    size: int
    named: int = 0
    attributed: int = 0
    kept: int = 0


def canonical(name: str) -> str:
    """Turn a name of an archive into a path below the root; nothing leads out of it.

    Source: what containerd (`fs.RootPath`) and umoci (`filepath-securejoin`) do on disk.
    """
    name = name.removeprefix("./")
    name = name.rstrip("/")
    if not _ODD.search(f"/{name}/"):
        return name
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def nothing(_path: str) -> int:
    """Want no file's body."""
    return 0


def read_listing(
    chunks: Iterable[bytes],
    what: str,
    wanted: Callable[[str], int] = nothing,
    limits: TarLimits = DEFAULT_LIMITS,
) -> Listing:
    """Read an uncompressed layer to its end.

    Args:
        chunks: its bytes.
        what: the layer, for messages.
        wanted: how many bytes of a file's body may be kept; 0 for files that are not wanted.
        limits: of the archive.

    Raises:
        BadDocument: it is no tar archive, or damaged.
        LimitExceeded: it asks for too much.
    """
    return _Lister(TarReader(chunks, what, limits), wanted, what, limits.bodies).run()


class _Lister:
    def __init__(
        self, reader: TarReader, wanted: Callable[[str], int], what: str, limit: int
    ) -> None:
        self._reader = reader
        self._wanted = wanted
        self._what = what
        self._limit = limit
        self._kept = 0
        self._access: dict[tuple[int, int, int], Access] = {}
        self._bodies: dict[bytes, bytes] = {}
        self._oversized: set[str] = set()
        self._leading_out = 0

    def run(self) -> Listing:
        files = tuple(self._file(entry) for entry in self._reader)
        warnings = tuple(self._reader.warnings)
        if self._leading_out:
            one = self._leading_out == 1
            who = "1 name leads" if one else f"{self._leading_out} names lead"
            warnings += (f"{who} out of the tree, and {'is' if one else 'are'} kept inside",)
        return Listing(
            files,
            self._bodies,
            frozenset(self._oversized),
            warnings,
            self._reader.offset,
            self._reader.named,
            self._reader.attributed,
            self._kept,
        )

    def _file(self, entry: TarEntry) -> LayerFile:
        name = entry.name
        path = canonical(name)
        if ".." in name and _leads_out(name):
            self._leading_out += 1
        key = (entry.mode, entry.uid, entry.gid)
        access = self._access.get(key)
        if access is None:
            access = self._access[key] = Access(*key)
        if entry.kind is Kind.FILE:
            digest, program = self._content(path, entry.size)
            return LayerFile(
                path, Kind.FILE, access, entry.size, digest, program=program, xattrs=entry.xattrs
            )
        link = entry.link
        if entry.kind is Kind.HARD_LINK:
            link = canonical(link)
        return LayerFile(
            path, entry.kind, access, link=link, device=entry.device, xattrs=entry.xattrs
        )

    def _content(self, path: str, size: int) -> tuple[bytes, Executable | None]:
        """Read a file's content once: hash it, look at its start, keep it where it is wanted."""
        keep = self._wanted(path)
        if not size:
            if keep:
                self._keep(_EMPTY, zlib.compress(b""))
            return _EMPTY, None
        if size > keep > 0:
            self._oversized.add(path)
        pieces = self._reader.content()
        start = next(pieces)
        digest = hashlib.sha256(start)
        if keep < size and len(start) >= _LONGEST_MAGIC and not _has_magic(start):
            for piece in pieces:
                digest.update(piece)
            return digest.digest(), None
        head = bytearray(start)
        packer = zlib.compressobj(_FAST) if keep >= size else None
        packed = [packer.compress(start)] if packer is not None else []
        for piece in pieces:
            digest.update(piece)
            if len(head) < PROBE:
                head += piece
            if packer is not None:
                packed.append(packer.compress(piece))
        if packer is not None:
            self._keep(digest.digest(), b"".join((*packed, packer.flush())))
        return digest.digest(), read_executable(bytes(head[:PROBE]))

    def _keep(self, digest: bytes, body: bytes) -> None:
        if digest in self._bodies:
            return
        self._bodies[digest] = body
        self._kept += len(body) + _OVERHEAD
        if self._kept > self._limit:
            what = f"the size of all package databases of {self._what}"
            raise LimitExceeded(what, self._limit, self._kept)


def _has_magic(start: memoryview) -> bool:
    return bytes(start[:_LONGEST_MAGIC]).startswith(_MAGICS)


def _leads_out(name: str) -> bool:
    depth = 0
    for part in name.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in {"", "."}:
            depth += 1
    return False
