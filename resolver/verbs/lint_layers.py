"""Read a layer only as far as needed, and keep what was learned from it."""

from __future__ import annotations

import hashlib
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from resolver.core.layers.decompress import compression_of, inflate
from resolver.core.layers.executable import PROBE, read_executable
from resolver.core.layers.tar import TarEntryKind, TarReader
from resolver.core.layers.tar_headers import BLOCK
from resolver.core.lint.command import NameEntry, View, normal
from resolver.core.oci.digest import Digest, Verifier
from resolver.errors import ConnectionFailed, NotFound, RangeRefused, StorageRefused, Untrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from resolver.core.layers.executable import Executable
    from resolver.core.layers.tar import TarEntry
    from resolver.core.oci.content import Content, RangedSource
    from resolver.core.oci.descriptor import Descriptor
    from resolver.errors import ResolverError


#: Bytes of the first stretch, and of the longest; each is twice the one before.
FIRST = 64 << 10
_LONGEST = 4 << 20
#: Retries when a connection breaks, or a link to storage has expired.
_TRIES = 3


def stretches(size: int) -> Iterator[tuple[int, int]]:
    """Cut so many bytes into stretches that grow."""
    at, length = 0, FIRST
    while at < size:
        yield at, min(at + length, size)
        at, length = at + length, min(2 * length, _LONGEST)


def local_bytes(place: Content, descriptor: Descriptor) -> Generator[bytes, None, None]:
    """Read content of this machine, cut as a registry's would be, so that answers are the same.

    Raises:
        NotFound, Unavailable, Untrusted, StoreFault: as `Content.open`.
    """
    with place.open(descriptor) as chunks:
        yield from _cut(chunks, descriptor.size)


def registry_bytes(place: RangedSource, descriptor: Descriptor) -> Generator[bytes, None, None]:
    """Request a blob in consecutive ranges, each when it is needed.

    Without ranges the whole blob is requested, and the connection closed as soon as enough was
    read.
    """
    for start, end in stretches(descriptor.size):
        part = _part(place, descriptor, start, end)
        if part is None:
            with place.open_range(descriptor, 0, descriptor.size) as answer:
                yield from _after(start, _cut(answer.chunks, descriptor.size))
            return
        yield part


def _part(place: RangedSource, descriptor: Descriptor, start: int, end: int) -> bytes | None:
    """Fetch one range, resuming after breaks; return None where ranges are unsupported."""
    got = bytearray()
    for tried in range(1, _TRIES + 1):
        try:
            with place.open_range(descriptor, start + len(got), end) as answer:
                if answer.whole and descriptor.size > FIRST:
                    return None
                if answer.whole:
                    got.clear()
                for chunk in answer.chunks:
                    got += chunk[: end - start - len(got)]
        except (RangeRefused, StorageRefused):
            return None
        except ConnectionFailed:
            if tried == _TRIES:
                raise
        if len(got) == end - start:
            return bytes(got)
    raise ConnectionFailed(f"`{descriptor.digest}` was cut short {_TRIES} times")


def _after(start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out the stretches that are here already."""
    at = 0
    for piece in pieces:
        if at >= start:
            yield piece
        at += len(piece)


def _cut(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Cut a stream into stretches; what goes past its size comes last, to be refused."""
    ends = stretches(size)
    _, end = next(ends, (0, 0))
    at, got = 0, bytearray()
    for chunk in chunks:
        got += chunk
        while end > at and len(got) >= end - at:
            yield bytes(got[: end - at])
            del got[: end - at]
            at = end
            _, end = next(ends, (0, 0))
    if got:
        yield bytes(got)


#: Bytes of a layer that are looked at for executables where the first stretch has none: the second
#: one too; and how many executables count.
WINDOW = 3 * FIRST
SAMPLE = 8
#: Names kept of one layer, some 100 MB; larger layers are searched no further.
_MAX_NAMES = 500_000
#: Enough of an ELF or Mach-O file, and of a PE file's header behind its offset.
_HEAD = 64
_PE_HEADER = 24 + 96 + 16 * 8
#: Characters of a script's first line. Source: Linux, BINPRM_BUF_SIZE.
_LINE = 256
_RUNS = 0o111
_PLAIN_FILE = NameEntry(TarEntryKind.FILE)


class SpentError(Exception):
    """The bytes that may be read are used up."""


class ByteBudget:
    """Bytes that may still be read."""

    __slots__ = ("left", "used")

    def __init__(self, left: int) -> None:
        self.left = left
        self.used = 0

    def check(self) -> None:
        """See whether there are any; the last stretch may go past the end.

        Raises:
            SpentError: there are none left.
        """
        if self.left <= 0:
            raise SpentError

    def spend(self, count: int) -> None:
        """Take some away."""
        self.left -= count
        self.used += count


class LayerScan:
    """Reads a layer entry by entry, in order, each byte once for all that share it.

    Attributes:
        view: the names so far.
        read: bytes so far, as stored.
        is_over: the layer was read to its end, or cannot be read further.
        failure: why the layer cannot be used, if so.
        diff_id: of the whole uncompressed layer; None before its end.
        sample: the first executables.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        open_bytes: Callable[[Descriptor], Generator[bytes, None, None]],
    ) -> None:
        self.descriptor = descriptor
        self.view = View()
        self.read = 0
        self.is_over = False
        self.failure: ResolverError | None = None
        self.diff_id: Digest | None = None
        self.sample: list[tuple[str, Executable]] = []
        self._open_bytes = open_bytes
        self._inflated = 0
        self._needed = 0
        self._ahead = 0
        self._allowance = ByteBudget(0)
        self._is_probed = False
        self._names = self._run()

    def next(self, allowance: ByteBudget) -> str | None:
        """Read up to the next entry; return its normalized name, or None at the end.

        Raises:
            Denied, Unavailable, Offline, StoreFault: the layer could not be requested.
        """
        if self.is_over:
            return None
        self._allowance = allowance
        try:
            return next(self._names)
        except StopIteration:
            self.is_over = True
        except SpentError:
            self.is_over = True
        except (NotFound, Untrusted) as error:
            self.failure = error
            self.is_over = True
        return None

    def probe(self, allowance: ByteBudget) -> None:
        """Look at the start: at executables in the first stretch, or some further where none is."""
        if self._is_probed:
            return
        self._is_probed = True
        while len(self.sample) < SAMPLE and (self.has_next or self._is_worth_more):
            name = self.next(allowance)
            if name is None:
                return
            entry = self.view.unix.entries.get(name)
            if entry is not None and entry.executable is not None:
                self.sample.append((name, entry.executable))

    @property
    def has_next(self) -> bool:
        """Whether the next entry begins in what is here, so that it costs nothing."""
        return not self.is_over and self._inflated >= self._needed > 0

    @property
    def _is_worth_more(self) -> bool:
        """Whether to read on in search of a first executable: not through a large file."""
        return not self.sample and self.read < WINDOW and self._ahead <= WINDOW

    def close(self) -> None:
        """Close the stream."""
        self._names.close()

    def _run(self) -> Generator[str, None, None]:
        what = f"the layer `{self.descriptor.digest}`"
        plain = hashlib.sha256()
        with closing(self._chunks(what)) as chunks:
            first = next(chunks, b"")
            archive = inflate(chain([first], chunks), compression_of(first[:8], what), what)
            reader = TarReader(self._counted(archive, plain.update), what)
            for count, entry in enumerate(reader):
                if count >= _MAX_NAMES:
                    raise SpentError
                name = normal(entry.name)
                content = reader.content()
                self._record(name, entry, reader, content)
                yield name
                for _piece in content:
                    continue
            # Only now all of it was seen.
            for _chunk in chunks:
                continue
        self.diff_id = Digest("sha256", plain.hexdigest())

    def _chunks(self, what: str) -> Generator[bytes, None, None]:
        verifier = Verifier(self.descriptor.digest, self.descriptor.size, what)
        self._allowance.check()
        with closing(self._open_bytes(self.descriptor)) as source:
            for chunk in source:
                verifier.update(chunk)
                self.read += len(chunk)
                self._allowance.spend(len(chunk))
                yield chunk
                self._allowance.check()
        verifier.finish()

    def _counted(
        self, archive: Iterator[bytes], update: Callable[[bytes], None]
    ) -> Iterator[bytes]:
        for piece in archive:
            update(piece)
            self._inflated += len(piece)
            yield piece

    def _record(
        self, name: str, entry: TarEntry, reader: TarReader, content: Iterator[memoryview]
    ) -> None:
        start = reader.offset
        if entry.kind in {TarEntryKind.SYMLINK, TarEntryKind.HARD_LINK}:
            self.view.add(name, NameEntry(entry.kind, entry.link))
        elif entry.kind is not TarEntryKind.FILE:
            self.view.add(name, NameEntry(entry.kind))
        else:
            self.view.add(name, _file(entry, _head(content)))
        self._ahead = max(0, entry.size - (reader.offset - start))
        self._needed = start + entry.size + 2 * BLOCK


def _file(entry: TarEntry, head: bytes) -> NameEntry:
    executable = read_executable(head)
    if executable is not None and executable.format == "elf" and not entry.mode & _RUNS:
        # A library adds nothing to the programs that use it.
        executable = None
    if executable is not None:
        return NameEntry(TarEntryKind.FILE, executable=executable)
    if head.startswith(b"#!"):
        line = head[2:_LINE].partition(b"\n")[0].decode("utf-8", "replace").strip()
        return NameEntry(TarEntryKind.FILE, interpreter=line)
    return _PLAIN_FILE


def _head(content: Iterator[memoryview]) -> bytes:
    """Read as much of a file as its header takes."""
    head = b""
    for piece in content:
        head += bytes(piece[: PROBE - len(head)])
        if len(head) >= _wanted(head):
            break
    return head


def _wanted(head: bytes) -> int:
    """Return how many bytes of a file are needed to read its headers."""
    if head.startswith(b"MZ"):
        at = int.from_bytes(head[60:64], "little") if len(head) >= _HEAD else 0
        return min(max(_HEAD, at + _PE_HEADER), PROBE)
    return _LINE if head.startswith(b"#!") else _HEAD
