"""The entries of one layer in order, with hashes of their contents, and the memory budget.

A layer is read once from start to end; only names, hashes and a few requested small files are kept.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice, starmap
from typing import TYPE_CHECKING, NamedTuple, TypeVar, overload

from resolver.core.layers.executable import PROBE, Executable, read_executable
from resolver.core.layers.tar import DEFAULT_LIMITS, TarEntry, TarEntryKind, TarLimits, TarReader
from resolver.core.layers.xattrs import Xattrs, cost
from resolver.errors import LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

#: A component that is empty, `.` or `..`, between slashes.
_ODD = re.compile(r"/\.{0,2}/", re.ASCII)
_MAGICS = (b"\x7fELF", b"MZ", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
_LONGEST_MAGIC = 4
#: zlib's level: databases are repetitive text.
_FAST = 1
#: Bytes of memory per kept file besides its content.
_OVERHEAD = 200
_EMPTY = hashlib.sha256().digest()


@dataclass(frozen=True, slots=True)
class Access:
    """12 permission bits and the ids of the owner."""

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, eq=False)
class LayerFile:
    """One entry of a layer, or one path of a tree.

    Attributes:
        path: without leading slash, `.` and `..`; empty for the root. `..` never leads above it.
        size: in bytes, holes included.
        sha256: 32 bytes; empty without content.
        link: a symbolic link's target as written; a hard link's in the form of `path`.
    """

    path: str
    kind: TarEntryKind
    access: Access
    size: int = 0
    sha256: bytes = b""
    link: str = ""
    device: tuple[int, int] | None = None
    program: Executable | None = None
    xattrs: Xattrs = ()


class Traits(NamedTuple):
    """Properties that many paths have in common, stored once by `TreeRoom.share`."""

    kind: TarEntryKind
    mode: int
    uid: int
    gid: int
    device: tuple[int, int] | None
    program: Executable | None
    xattrs: Xattrs


#: The number of the traits and the size, followed by the SHA-256 of a file or the target of a link.
_NODE = struct.Struct("<IQ")
#: Bytes of traits in memory, besides their extended attributes.
_TRAITS = 600


def pack(file: LayerFile, room: TreeRoom) -> bytes:
    """Encode a file without its path in some 44 bytes; equal files give equal bytes."""
    access = file.access
    traits = Traits(
        file.kind, access.mode, access.uid, access.gid, file.device, file.program, file.xattrs
    )
    rest = file.sha256 if file.kind is TarEntryKind.FILE else encoded(file.link)
    number = room.share(traits, _TRAITS + cost(file.xattrs))
    return _NODE.pack(number, file.size) + rest


def unpack(path: str, node: bytes, room: TreeRoom) -> LayerFile:
    """Decode a file from its path and the output of `pack`."""
    number, size = _NODE.unpack_from(node)
    traits = room.traits[number]
    rest = node[_NODE.size :]
    is_file = traits.kind is TarEntryKind.FILE
    return LayerFile(
        path,
        traits.kind,
        Access(traits.mode, traits.uid, traits.gid),
        size,
        rest if is_file else b"",
        "" if is_file else decoded(rest),
        traits.device,
        traits.program,
        traits.xattrs,
    )


def traits_of(node: bytes, room: TreeRoom) -> Traits:
    """Return the traits of a packed file."""
    return room.traits[number_and_size(node)[0]]


def link_of(node: bytes) -> str:
    """Return the target of a packed link."""
    return decoded(node[_NODE.size :])


def number_and_size(node: bytes) -> tuple[int, int]:
    """Return the number of the traits of a packed file, and its size."""
    found: tuple[int, int] = _NODE.unpack_from(node)
    return found


def encoded(text: str) -> bytes:
    """Encode text of an archive as its original bytes."""
    return text.encode("utf-8", "surrogateescape")


def decoded(text: bytes) -> str:
    """Decode the output of `encoded`."""
    return text.decode("utf-8", "surrogateescape")


class PathLog:
    """A compressed sequence of paths with data: 50 bytes each, and 400 as objects."""

    #: Bytes that are compressed at once.
    _CHUNK = 64 << 10
    _HEAD = struct.Struct("<II")

    def __init__(self, room: TreeRoom) -> None:
        self.room = room
        self._count = 0
        self._taken = 0
        self._chunks: list[bytes] = []
        self._open = bytearray()

    def __len__(self) -> int:
        return self._count

    def __del__(self) -> None:
        self.room.give(self._taken)

    def add(self, path: str, about: bytes) -> None:
        """Append a path."""
        written = encoded(path)
        self._open += self._HEAD.pack(len(written), len(about)) + written + about
        self._count += 1
        if len(self._open) >= self._CHUNK:
            chunk = zlib.compress(self._open, _FAST)
            self._open = bytearray()
            self.room.take(len(chunk) + _OVERHEAD)
            self._taken += len(chunk) + _OVERHEAD
            self._chunks.append(chunk)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        head, size = self._HEAD.unpack_from, self._HEAD.size
        for packed in (*self._chunks, None):
            chunk = bytes(self._open) if packed is None else zlib.decompress(packed)
            at, end = 0, len(chunk)
            while at < end:
                path, about = head(chunk, at)
                at += size
                middle = at + path
                yield (
                    str(chunk[at:middle], "utf-8", "surrogateescape"),
                    chunk[middle : (at := middle + about)],
                )


T = TypeVar("T")


class PackedSequence(Sequence[T]):
    """A sequence of values created on access from a log of paths; equal to a tuple of them."""

    __slots__ = ("_make", "log")

    def __init__(self, log: PathLog, make: Callable[[str, bytes], T]) -> None:
        self.log = log
        self._make = make

    def __len__(self) -> int:
        return len(self.log)

    def __iter__(self) -> Iterator[T]:
        return starmap(self._make, self.log)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(value for at, value in enumerate(self) if at == places)
        if places.step != 1:
            return tuple(self)[index]
        found = islice(self.log, places.start, max(places.start, places.stop))
        return tuple(self._make(path, about) for path, about in found)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedSequence | tuple):
            return NotImplemented
        return len(self) == len(other) and all(
            one == another for one, another in zip(self, other, strict=True)
        )

    def __hash__(self) -> int:
        return hash(len(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


@dataclass(frozen=True, slots=True, eq=False)
class LayerListing:
    """A complete layer.

    Attributes:
        files: in the order of the archive, including whiteouts.
        bodies: requested small files, by their `sha256`, compressed with zlib.
        kept: bytes of those, as counted by `TarLimits.bodies`.
        oversized: paths of requested files that were too large.
        named: bytes of its names, as counted by `TarLimits.names`.
        attributed: bytes of its extended attributes, as counted by `TarLimits.xattrs`.
    """

    files: Sequence[LayerFile]
    bodies: Mapping[bytes, bytes]
    oversized: frozenset[str]
    warnings: tuple[str, ...]
    size: int
    named: int = 0
    attributed: int = 0
    kept: int = 0


def canonical(name: str) -> str:
    """Normalise a name of an archive to a path below the root, as containerd and umoci do."""
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
    """Keep no bodies of files."""
    return 0


def read_listing(
    chunks: Iterable[bytes],
    what: str,
    wanted: Callable[[str], int] = nothing,
    limits: TarLimits = DEFAULT_LIMITS,
    room: TreeRoom | None = None,
) -> LayerListing:
    """Read a layer to its end; `wanted` returns how many bytes of a file's body to keep."""
    reader = TarReader(chunks, what, limits)
    return _Lister(reader, wanted, what, limits.bodies, room or TreeRoom()).run()


class _Lister:
    def __init__(
        self, reader: TarReader, wanted: Callable[[str], int], what: str, limit: int, room: TreeRoom
    ) -> None:
        self._reader = reader
        self._wanted = wanted
        self._what = what
        self._limit = limit
        self._kept = 0
        self._room = room
        self._bodies: dict[bytes, bytes] = {}
        self._oversized: set[str] = set()
        self._leading_out = 0

    def run(self) -> LayerListing:
        log = PathLog(self._room)
        for entry in self._reader:
            file = self._file(entry)
            log.add(file.path, pack(file, self._room))
        files = PackedSequence(log, lambda path, node: unpack(path, node, self._room))
        warnings = tuple(self._reader.warnings)
        if self._leading_out:
            one = self._leading_out == 1
            who = "1 name leads" if one else f"{self._leading_out} names lead"
            warnings += (f"{who} out of the tree, and {'is' if one else 'are'} kept inside",)
        return LayerListing(
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
        access = Access(entry.mode, entry.uid, entry.gid)
        if entry.kind is TarEntryKind.FILE:
            digest, program = self._content(path, entry.size)
            return LayerFile(
                path,
                TarEntryKind.FILE,
                access,
                entry.size,
                digest,
                program=program,
                xattrs=entry.xattrs,
            )
        link = entry.link
        if entry.kind is TarEntryKind.HARD_LINK:
            link = canonical(link)
        return LayerFile(
            path, entry.kind, access, link=link, device=entry.device, xattrs=entry.xattrs
        )

    def _content(self, path: str, size: int) -> tuple[bytes, Executable | None]:
        """Read a file's content once: hash it, detect programs, and keep it if requested."""
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
        magic = bytes(start[:_LONGEST_MAGIC])
        if keep < size and len(magic) == _LONGEST_MAGIC and not magic.startswith(_MAGICS):
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
        self._room.take(len(body) + _OVERHEAD)
        self._kept += len(body) + _OVERHEAD
        if self._kept > self._limit:
            what = f"the size of all package databases of {self._what}"
            raise LimitExceeded(what, self._limit, self._kept)


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


#: The hint for an exhausted budget.
FEWER = "compare fewer platforms at once: name them with `-p PLATFORM`"


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """Limits on all trees of one run.

    Attributes:
        paths: of files and folders. Twice the entries of one layer: platforms share layers,
            and each has its tree.
        implied: folders among them without an entry. One header can imply 128.
        text: bytes of stored names and paths; non-ASCII text counts four times.
        steps: path components in followed symbolic links. One link can have a million.
        packages: installed packages. Twenty full desktops.
        package_text: bytes of their names and versions, counted like `text`.
        databases: uncompressed bytes of package databases, which are read one after the other.
        memory: bytes of layers, trees and differences at one time.
    """

    paths: int = 4_000_000
    implied: int = 500_000
    text: int = 512 << 20
    steps: int = 20_000_000
    packages: int = 50_000
    package_text: int = 3 << 20
    databases: int = 96 << 20
    memory: int = 160 << 20


class TreeRoom:
    """The memory budget of all trees of one run, and the values that their paths share.

    Args:
        limits: see `RoomLimits`.
        lock: reentrant, if several threads read layers: the garbage collector may return bytes
            at any time, also during `take`.
    """

    __slots__ = ("_counts", "_limits", "_lock", "_numbers", "held", "traits")

    def __init__(
        self, limits: RoomLimits | None = None, lock: AbstractContextManager[object] | None = None
    ) -> None:
        self._limits = limits or RoomLimits()
        self._counts = dict.fromkeys(_COUNTED, 0)
        #: Bytes counted at this time.
        self.held = 0
        self._lock = lock or nullcontext()
        self._numbers: dict[Traits, int] = {}
        #: Shared by paths, by number.
        self.traits: list[Traits] = []

    def take(self, size: int) -> None:
        """Count bytes of memory that are about to be used."""
        with self._lock:
            held = self.held + size
            if held > self._limits.memory:
                what = "the memory for the files of all platforms"
                raise LimitExceeded(what, self._limits.memory, held, "bytes", FEWER)
            self.held = held

    def give(self, size: int) -> None:
        """Return bytes of memory that were counted by `take`."""
        with self._lock:
            self.held -= size

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Count bytes of memory during a `with` block."""
        self.take(size)
        try:
            yield
        finally:
            self.give(size)

    def share(self, value: Traits, size: int) -> int:
        """Store traits once and return their number."""
        with self._lock:
            number = self._numbers.get(value)
            if number is None:
                self.take(size)
                number = self._numbers[value] = len(self.traits)
                self.traits.append(value)
            return number

    def count(self, limit: str, amount: int = 1) -> None:
        """Count towards one of the limits in `RoomLimits`, other than `memory`."""
        value = self._counts[limit] = self._counts[limit] + amount
        most = getattr(self._limits, limit)
        if value > most:
            what, unit = _COUNTED[limit]
            raise LimitExceeded(what, most, value, unit, FEWER)


#: For the message: what is limited, and the unit.
_COUNTED = {
    "paths": ("the size of all file trees", "paths"),
    "implied": ("the number of folders that no entry names", "folders"),
    "text": ("the size of all paths of all file trees", "bytes"),
    "steps": ("the way through symbolic links", "names"),
    "packages": ("the number of packages of all file trees", "packages"),
    "package_text": ("the size of the names of all packages", "bytes"),
    "databases": ("the size of the package databases of all file trees", "bytes"),
}


def in_memory(text: str) -> int:
    """Return the bytes of a text as limits count them."""
    return len(text) if text.isascii() else 4 * len(text)
