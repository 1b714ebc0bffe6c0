"""Find what the programs of an image are built for and need, reading few bytes of its layers.

The start of every layer is read first, the top layer before the others. A file that is not found
there is searched for further down, in all layers alike, until it is found or the budget is spent.
A later file in a higher layer, of which only the start was read, could still replace the one that
was found: the result is valid for the layer that it names.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from resolver.core.layers.decompress import compression_of, inflate
from resolver.core.layers.elf import ElfWindow
from resolver.core.layers.elf_needs import CodeBudget, read_elf
from resolver.core.layers.executable import PROBE, read_executable
from resolver.core.layers.tar import TarEntryKind, TarReader
from resolver.core.layers.tar_headers import BLOCK
from resolver.core.lint.command import (
    WINDOWS_ROOT,
    Command,
    LayerNames,
    NameEntry,
    NameHit,
    View,
    commands_of,
    find,
    interpreter_of,
    library_places,
    normal,
    places_of,
)
from resolver.core.lint.programs import fits
from resolver.core.lint.subject import Look, Program, SearchOutcome, StartedProgram
from resolver.core.oci.digest import Digest, Verifier
from resolver.core.results.events import Counted, Observer, ignore
from resolver.core.results.needs import FileNeeds, ImageNeeds, Loader, libc_of
from resolver.errors import (
    ConnectionFailed,
    DigestMismatch,
    NotFound,
    RangeRefused,
    StorageRefused,
    Untrusted,
)
from resolver.values import dataclass
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from resolver.core.layers.executable import Executable
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.image import ImageEntry
    from resolver.core.oci.manifest import ImageConfig
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.errors import ResolverError

    OpenBytes = Callable[[Descriptor], Generator[bytes, None, None]]
    from resolver.core.layers.tar import TarEntry
    from resolver.core.oci.content import Content, RangedSource


#: The top ones are looked at; no engine takes so many. Source: moby, layer.maxLayerDepth (125).
_MAX_LAYERS = 250
#: Programs, loaders and libraries whose needs are read, unless every program is.
MAX_FILES = 64
#: Files that ld.so does not load on every machine: copies for a higher level.
#: Source: ld.so(8), "Hardware capabilities", and its legacy subdirectories.
_OPTIONAL = re.compile(
    r"(?:.*/)?(?:glibc-hwcaps|tls|haswell|xeon_phi|avx512_1|atomics|neon|vfp|sse2|power[0-9]+)/.*",
    re.ASCII | re.DOTALL,
)
#: Loaders of libcs. Source: musl, configure (LDSO_PATHNAME); glibc, shlib-versions.
_LOADERS = re.compile(r"(?:usr/)?lib(?:64)?/ld-(?:musl-|linux)[A-Za-z0-9_.-]+", re.ASCII)
#: Scripts that start scripts. Source: Linux, fs/exec.c, exec_binprm (5 interpreters).
_MAX_SCRIPTS = 5


@dataclass(frozen=True, slots=True)
class Depths:
    """How far to look.

    Attributes:
        most: bytes of layers, as they are stored, for each image; the last stretch may go past it.
        every: read every ELF file, not only what the image starts.
        observe: receives how many platforms of the image are done.
    """

    most: int
    jobs: int
    every: bool = False
    observe: Observer = ignore


def look_into(
    entries: Sequence[ImageEntry], open_bytes: OpenBytes, table: PlatformTable, depths: Depths
) -> tuple[Look, ...]:
    """Search the layers of every image that has a manifest, a config and a platform.

    Images that share a layer are checked in sequence, and the layer is read once.
    """
    ready = [entry for entry in entries if entry.manifest and entry.config and entry.platform]

    def look(group: list[ImageEntry]) -> list[Look]:
        scans: dict[Digest, LayerScan] = {}
        try:
            return [_Search(entry, scans, open_bytes, table, depths).run() for entry in group]
        finally:
            for scan in scans.values():
                scan.close()

    found: dict[int, Look] = {}
    for outcome in parallel(look, _sharing(ready), jobs=depths.jobs):
        if isinstance(outcome.value, Exception):
            raise outcome.value
        found.update({id(one.part): one for one in outcome.value})
        depths.observe(Counted("reading programs", len(found), len(ready), "platforms"))
    return tuple(found[id(entry)] for entry in ready)


def _sharing(entries: Sequence[ImageEntry]) -> list[list[ImageEntry]]:
    """Put images that share a layer, directly or through others, into one group."""
    groups: list[tuple[set[Digest], list[ImageEntry]]] = []
    for entry in entries:
        layers = {layer.digest for layer in entry.manifest.layers} if entry.manifest else set()
        members = [entry]
        apart = []
        for group in groups:
            if group[0] & layers:
                layers |= group[0]
                members = [*group[1], *members]
            else:
                apart.append(group)
        groups = [*apart, (layers, members)]
    order = {id(entry): number for number, entry in enumerate(entries)}
    return [sorted(members, key=lambda entry: order[id(entry)]) for _layers, members in groups]


class _Search:
    def __init__(
        self,
        entry: ImageEntry,
        scans: dict[Digest, LayerScan],
        open_bytes: OpenBytes,
        table: PlatformTable,
        depths: Depths,
    ) -> None:
        self._part = entry
        self._table = table
        self._config: ImageConfig = entry.config  # type: ignore[assignment]  # checked by `look_into`
        self._platform: Platform = entry.platform.normalized(table)  # type: ignore[union-attr]  # likewise
        self._allowance = ByteBudget(depths.most)
        self._every = depths.every
        layers = entry.manifest.layers if entry.manifest is not None else ()
        self._is_cut = len(layers) > _MAX_LAYERS
        self._scans: list[LayerScan] = []
        for layer in reversed(layers[-_MAX_LAYERS:]):
            scan = scans.get(layer.digest)
            if scan is None:
                scan = scans[layer.digest] = LayerScan(layer, open_bytes)
                scan.is_over = not _is_readable(layer)
            self._scans.append(scan)
        self._looked_at: list[LayerScan] = []
        self._commands = list(commands_of(self._config, windows=self._is_windows))

    @property
    def _is_windows(self) -> bool:
        return self._platform.os == "windows"

    def run(self) -> Look:
        """Search the start of each layer, then the rest for what was not found there."""
        missed = self._missed()
        for scan in self._scans:
            scan.probe(self._allowance)
            self._looked_at.append(scan)
            names = self._names(scan).entries
            if any(name in names for name in missed):
                if self._lies():
                    break
                missed = self._missed()
        else:
            self._search()
        for scan in self._scans if self._every else ():
            while not scan.is_over:
                scan.next(self._allowance)
        failures = tuple(dict(self._failures()).items())
        return Look(
            part=self._part,
            started=tuple(self._started()),
            sample=tuple(
                dict.fromkeys(
                    self._program(self._key(path), executable, scan)
                    for number, scan in enumerate(self._looked_at)
                    for path, executable in scan.sample
                    if not self._is_gone(self._key(path), number)
                )
            ),
            failures=failures,
            bytes_read=self._allowance.used,
            needs=self._needs(failures),
        )

    def _search(self) -> None:
        """Read all layers further, a stretch each, until everything was found."""
        reach = 2 * FIRST
        known: set[tuple[int, str]] = set()
        missed = self._settle()
        while missed and not self._lies() and any(not scan.is_over for scan in self._scans):
            for number, scan in enumerate(self._scans):
                while scan.has_next or (not scan.is_over and scan.read < reach):
                    name = self._key(scan.next(self._allowance))
                    # An archive may repeat a name for ever.
                    if name not in missed or (number, name) in known:
                        continue
                    known.add((number, name))
                    missed = self._settle()
                    if not missed or self._lies():
                        return
            reach *= 2

    def _settle(self) -> frozenset[str]:
        """Read through the wanted files that were found, and list the names that would help."""
        while not self._lies():
            missed = set(self._missed())
            waiting: LayerScan | None = None
            for _name, _of, hit in self._linked():
                if hit.entry is None:
                    missed |= hit.missed
                elif hit.entry.is_elf and hit.entry.elf is None:
                    scan = self._scans[hit.layer]
                    waiting = waiting or (None if scan.is_over else scan)
            if waiting is None:
                return frozenset(missed)
            waiting.next(self._allowance)
        return frozenset()

    def _linked(self) -> Iterator[tuple[str, NameHit | None, NameHit]]:
        """Find what is started with its loaders and libraries, and what names each of them."""
        queue: list[tuple[str, NameHit | None, NameHit]] = [
            (command.words, None, hit)
            for command, hit in self._hits()
            if hit.entry is not None and hit.entry.is_elf and self._fits(hit.entry.executable)
        ]
        known: set[str] = set()
        for name, of, hit in queue:
            if hit.path and hit.path in known:
                continue
            known.add(hit.path)
            yield name, of, hit
            elf = hit.entry.elf if hit.entry is not None else None
            if elf is None:
                continue
            wanted = {
                each: library_places(self._config, elf, hit.path, each) for each in elf.needed
            }
            if elf.interpreter:
                wanted = {elf.interpreter: (normal(elf.interpreter),), **wanted}
            for each, places in wanted.items():
                if each not in known and len(queue) < MAX_FILES:
                    known.add(each)
                    queue.append((each, hit, self._find_in(places)))

    def _needs(self, failures: tuple[tuple[Digest, ResolverError], ...]) -> ImageNeeds:
        """Return what was found out about the wanted files."""
        files: dict[str, FileNeeds] = {}
        unread = [one.words for one in self._started() if one.outcome is not SearchOutcome.FOUND]
        loaders: list[Loader] = []
        uncertain = {hit.path for command, hit in self._hits() if not command.is_certain}
        for name, of, hit in self._linked():
            entry = hit.entry
            if entry is not None and entry.elf is not None:
                digest = self._scans[hit.layer].descriptor.digest
                files[hit.path] = FileNeeds(hit.path, digest, entry.elf)
            elif entry is None or entry.is_elf:
                unread.append(name)
            own = of.entry.elf if of is not None and of.entry is not None else None
            if of is not None and own is not None and own.interpreter == name:
                found = True if entry is not None else None if self._is_unread else False
                foreign = "" if found is not False else self._other_loader(name)
                loaders.append(Loader(name, of.path, found, foreign, of.path not in uncertain))
        for number, scan in enumerate(self._looked_at if self._every else ()):
            for path, entry in self._names(scan).entries.items():
                if entry.elf is None or path in files or self._is_gone(path, number):
                    continue
                if not _OPTIONAL.fullmatch(path):
                    files[path] = FileNeeds(path, scan.descriptor.digest, entry.elf)
        if self._every and self._is_unread:
            unread.append("parts of the layers")
        return ImageNeeds(
            self._part.platform,
            str(self._part.descriptor.digest),
            tuple(files.values()),
            tuple(loaders),
            tuple(dict.fromkeys(unread)),
            failures,
            self._allowance.used,
        )

    def _other_loader(self, loader: str) -> str:
        """Return the loader of another libc that the image has; empty if there is none."""
        own = libc_of(loader)
        for number, scan in enumerate(self._looked_at):
            for path in self._names(scan).entries:
                if _LOADERS.fullmatch(path) and libc_of(path) != own:
                    return "" if self._is_gone(path, number) else f"/{path}"
        return ""

    @property
    def _is_unread(self) -> bool:
        """Whether a file may be in what was not read."""
        unread = self._is_cut or len(self._looked_at) < len(self._scans)
        return unread or any(scan.diff_id is None for scan in self._scans)

    def _fits(self, executable: Executable | None) -> bool:
        return executable is not None and fits(executable, self._platform, self._table)

    def _missed(self) -> frozenset[str]:
        missed: set[str] = set()
        for _command, hit in self._hits():
            if hit.entry is None:
                missed |= hit.missed
        return frozenset(missed)

    def _key(self, name: str | None) -> str:
        """Spell a layer's name as it is looked for."""
        if name is None or not self._is_windows:
            return name or ""
        return name.lower().removeprefix(WINDOWS_ROOT)

    def _lies(self) -> bool:
        """Whether a program that is started cannot run; then nothing more needs reading."""
        return any(
            hit.entry is not None
            and hit.entry.executable is not None
            and not self._fits(hit.entry.executable)
            for _command, hit in self._hits()
        )

    def _hits(self) -> Iterator[tuple[Command, NameHit]]:
        """Find what is started, and the interpreters of what is a script."""
        for command in self._commands:
            for _ in range(_MAX_SCRIPTS):
                hit = self._find_in(command.places)
                yield command, hit
                if hit.entry is None or not hit.entry.interpreter:
                    break
                word = interpreter_of(hit.entry.interpreter)
                places = places_of(self._config, word, windows=self._is_windows)
                command = Command(word, places, command.is_certain)  # noqa: PLW2901 - its interpreter

    def _find_in(self, places: Sequence[str]) -> NameHit:
        # What another image had read of a layer further down is not looked at before its turn.
        layers = [self._names(scan) for scan in self._looked_at]
        missed: set[str] = set()
        for place in places:
            hit = find(layers, place)
            if hit.entry is not None:
                return hit
            missed |= hit.missed
        return NameHit("", 0, None, frozenset(missed))

    def _is_gone(self, path: str, number: int) -> bool:
        """Whether a layer above replaces or deletes a file, as far as it was read."""
        above = [self._names(scan) for scan in self._looked_at[:number]]
        return any(path in names.entries or names.hides(path) for names in above)

    def _names(self, scan: LayerScan) -> LayerNames:
        return scan.view.windows if self._is_windows else scan.view.unix

    def _started(self) -> Iterator[StartedProgram]:
        for command, hit in self._hits():
            program = None
            if hit.entry is None:
                # What was not looked at for this image, another one may have read to its end.
                is_unread = self._is_unread
                outcome = SearchOutcome.UNDECIDED if is_unread else SearchOutcome.NOT_THERE
            elif hit.entry.executable is not None:
                outcome = SearchOutcome.FOUND
                scan = self._scans[hit.layer]
                program = self._program(hit.path, hit.entry.executable, scan)
            elif hit.entry.interpreter:
                continue
            else:
                outcome = SearchOutcome.NO_PROGRAM
            yield StartedProgram(command.words, outcome, program, command.is_certain)

    def _program(self, path: str, executable: Executable, scan: LayerScan) -> Program:
        return Program(path, executable, scan.descriptor.digest, self._is_verified(scan))

    def _is_verified(self, scan: LayerScan) -> bool:
        return scan.diff_id is not None and self._stated(scan) == scan.diff_id

    def _stated(self, scan: LayerScan) -> Digest | None:
        layers = self._part.manifest.layers if self._part.manifest is not None else ()
        pairs = zip(layers, self._config.diff_ids, strict=False)
        return next(
            (diff_id for layer, diff_id in pairs if layer.digest == scan.descriptor.digest), None
        )

    def _failures(self) -> Iterator[tuple[Digest, ResolverError]]:
        for scan in self._looked_at:
            if scan.failure is not None:
                yield scan.descriptor.digest, scan.failure
                continue
            stated, actual = self._stated(scan), scan.diff_id
            if stated and actual and stated != actual and stated.algorithm == actual.algorithm:
                what = f"the layer `{scan.descriptor.digest}`, uncompressed,"
                yield scan.descriptor.digest, DigestMismatch(what, str(stated), str(actual))


def _is_readable(layer: Descriptor) -> bool:
    """Whether a layer is a tar archive meant for the file system; others stay opaque."""
    kind = layer.media_type
    return "tar" in kind and not kind.endswith("+encrypted") and not layer.urls


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
    """Read content of this machine, cut as a registry's would be, so that answers are the same."""
    with place.open(descriptor) as chunks:
        yield from _cut(chunks, descriptor.size)


def registry_bytes(place: RangedSource, descriptor: Descriptor) -> Generator[bytes, None, None]:
    """Request a blob in consecutive ranges, each when it is needed.

    Without ranges the whole blob is requested, and the connection closed as soon as enough was
    read.
    """
    for start, end in stretches(descriptor.size):
        entry = _part(place, descriptor, start, end)
        if entry is None:
            with place.open_range(descriptor, 0, descriptor.size) as answer:
                yield from _after(start, _cut(answer.chunks, descriptor.size))
            return
        yield entry


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


_ELF = b"\x7fELF"


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
        """See whether there are any; the last stretch may go past the end."""
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
        self._code = CodeBudget()
        self._names = self._run()

    def next(self, allowance: ByteBudget) -> str | None:
        """Read up to the next entry; return its normalized name, or None at the end."""
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
        """Search the first range for executables, and further if it has none."""
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
                window = self._record(name, entry, reader, content)
                yield name
                for piece in content:
                    if window is not None:
                        window.feed(piece)
                if window is not None:
                    self._complete(name, window)
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
    ) -> ElfWindow | None:
        """Add an entry to the names; return the start of an ELF file, to be completed."""
        start, window = reader.offset, None
        if entry.kind in {TarEntryKind.SYMLINK, TarEntryKind.HARD_LINK}:
            self.view.add(name, NameEntry(entry.kind, entry.link))
        elif entry.kind is not TarEntryKind.FILE:
            self.view.add(name, NameEntry(entry.kind))
        else:
            head, window = _head(content)
            file = _file(entry, head)
            self.view.add(name, file)
            window = window if file.is_elf else None
        self._ahead = max(0, entry.size - (reader.offset - start))
        self._needed = start + entry.size + 2 * BLOCK
        return window

    def _complete(self, name: str, window: ElfWindow) -> None:
        """Add what an ELF file needs to its name, unless that was replaced meanwhile."""
        entry = self.view.unix.entries.get(name)
        if entry is not None and entry.is_elf:
            self.view.add(name, entry._replace(elf=read_elf(window, name, self._code)))


def _file(entry: TarEntry, head: bytes) -> NameEntry:
    executable = read_executable(head)
    is_elf = executable is not None and executable.format == "elf"
    if is_elf and not entry.mode & _RUNS:
        # A library adds nothing to the machines of the programs that use it.
        return NameEntry(TarEntryKind.FILE, is_elf=True)
    if executable is not None:
        return NameEntry(TarEntryKind.FILE, executable=executable, is_elf=is_elf)
    if head.startswith(b"#!"):
        line = head[2:_LINE].partition(b"\n")[0].decode("utf-8", "replace").strip()
        return NameEntry(TarEntryKind.FILE, interpreter=line)
    return _PLAIN_FILE


def _head(content: Iterator[memoryview]) -> tuple[bytes, ElfWindow | None]:
    """Read as much of a file as its header takes; keep all that was read of an ELF file."""
    head, window = b"", None
    for piece in content:
        if _ELF.startswith(head[:4] or bytes(piece[:4])):
            window = window or ElfWindow(head)
            window.feed(piece)
        head += bytes(piece[: PROBE - len(head)])
        if len(head) >= _wanted(head):
            break
    return head, window


def _wanted(head: bytes) -> int:
    if head.startswith(b"MZ"):
        at = int.from_bytes(head[60:64], "little") if len(head) >= _HEAD else 0
        return min(max(_HEAD, at + _PE_HEADER), PROBE)
    return _LINE if head.startswith(b"#!") else _HEAD
