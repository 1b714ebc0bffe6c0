"""A layer, read as far as somebody needs it, and what is known of it by then."""

from __future__ import annotations

import hashlib
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from resolver.core.decompress import compression_of, inflate
from resolver.core.digest import Digest, Verifier
from resolver.core.executable import PROBE, read_executable
from resolver.core.lint_tree import Entry, View, normal
from resolver.core.tar_header import BLOCK
from resolver.core.tar_reader import Kind, TarReader
from resolver.errors import NotFound, Untrusted
from resolver.flow.lint_bytes import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from resolver.core.descriptor import Descriptor
    from resolver.core.executable import Executable
    from resolver.core.tar_reader import TarEntry
    from resolver.errors import ResolverError

#: Bytes of a layer that are looked at for executables where the first stretch has none: the second
#: one too; and how many executables count.
WINDOW = 3 * FIRST
SAMPLE = 8
#: Names that are remembered of one layer, some 100 MB; nobody looks further in a larger one.
_MAX_NAMES = 500_000
#: Enough of an ELF or Mach-O file, and of a PE file's header behind its offset.
_HEAD = 64
_PE_HEADER = 24 + 96 + 16 * 8
#: Characters of a script's first line. Source: Linux, BINPRM_BUF_SIZE.
_LINE = 256
_RUNS = 0o111
_PLAIN_FILE = Entry(Kind.FILE)


class SpentError(Exception):
    """The bytes that may be read are used up."""


class Allowance:
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
    """Reads a layer entry by entry; never backwards, and each byte once, whoever shares it.

    Attributes:
        view: the names so far.
        read: bytes so far, as they are stored.
        is_over: nothing more will come: it was read to the end, or cannot be read further.
        failure: why it cannot be used; None for one that may.
        diff_id: of the whole layer, uncompressed; None before its end.
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
        self._allowance = Allowance(0)
        self._is_probed = False
        self._names = self._run()

    def next(self, allowance: Allowance) -> str | None:
        """Read up to the next entry; gives its name in normal form, or None at the end.

        Raises:
            Denied, Unavailable, Offline, StoreFault: nobody could be asked.
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

    def probe(self, allowance: Allowance) -> None:
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
        """Give back what is open."""
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
        if entry.kind in {Kind.SYMLINK, Kind.HARD_LINK}:
            self.view.add(name, Entry(entry.kind, entry.link))
        elif entry.kind is not Kind.FILE:
            self.view.add(name, Entry(entry.kind))
        else:
            self.view.add(name, _file(entry, _head(content)))
        self._ahead = max(0, entry.size - (reader.offset - start))
        self._needed = start + entry.size + 2 * BLOCK


def _file(entry: TarEntry, head: bytes) -> Entry:
    executable = read_executable(head)
    if executable is not None and executable.format == "elf" and not entry.mode & _RUNS:
        # A library says no more than the programs that use it.
        executable = None
    if executable is not None:
        return Entry(Kind.FILE, executable=executable)
    if head.startswith(b"#!"):
        line = head[2:_LINE].partition(b"\n")[0].decode("utf-8", "replace").strip()
        return Entry(Kind.FILE, interpreter=line)
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
    """Say how many bytes of a file its first ones ask for."""
    if head.startswith(b"MZ"):
        at = int.from_bytes(head[60:64], "little") if len(head) >= _HEAD else 0
        return min(max(_HEAD, at + _PE_HEADER), PROBE)
    return _LINE if head.startswith(b"#!") else _HEAD
