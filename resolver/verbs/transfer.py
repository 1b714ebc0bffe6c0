"""Transfer one blob from a place into the store, in one stream or in parallel ranges.

A broken transfer resumes where it broke, with a new request to the registry: the storage link of
the first response may have expired. Content with the wrong digest is fetched once more from the
start, in one stream, and then it is an error (docs/wire-protocol.md, "Ranges and resume").
"""

from __future__ import annotations

import threading
import zlib
from bisect import bisect_right
from collections import deque
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import field
from typing import TYPE_CHECKING

from resolver.core.oci.content import Distrusting
from resolver.core.results.events import Noted, Warned
from resolver.core.results.plan import (
    CONNECTIONS,
    LEAST_RANGE,
    RANGE_SIZE,
    cut,
    gaps,
    range_length,
)
from resolver.core.results.pull_events import Advanced, PieceVerifying, Restarted, Resumed, Waiting
from resolver.errors import (
    ConnectionFailed,
    DigestMismatch,
    NotFound,
    RangeRefused,
    ResolverError,
    SizeMismatch,
    StorageRefused,
    Unavailable,
    Untrusted,
)
from resolver.sources.http.retry import backoff
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from resolver.clock import Clock
    from resolver.core.layers.chunked import ChunkRun
    from resolver.core.oci.content import Content, RangeAnswer, RangedSource
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.results.events import Event, Observer
    from resolver.core.results.plan import ChunkReuse, Span
    from resolver.store import LocalStore
    from resolver.store.receive import BlobWriter
    from resolver.verbs.threads import DaemonPool


class Stopped(Exception):
    """The transfer was cancelled; what has arrived is kept."""


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """Options of a pull.

    Attributes:
        jobs: blobs in parallel.
        range_size: most bytes fetched by one request.
        connections: ranges in parallel, over all blobs; the client limits them per host.
        foreign: fetch foreign layers too, from their publishers.

    """

    jobs: int = 4
    range_size: int = RANGE_SIZE
    connections: int = CONNECTIONS
    foreign: bool = False


#: A range is divided if at least this many bytes are left, and this many seconds, and as many
#: times as long as its request waited for an answer: less is not worth a request.
_DIVIDED_BYTES, _DIVIDED_SECONDS, _DIVIDED_WAITS = 4 << 20, 0.1, 3
#: Bytes after which a rate is believed. A connection that answers and brings them within these
#: times fills a gigabit link alone, and bytes in order are hashed as they come. Connections that
#: bring several blobs at once fill it together.
_MEASURED_BYTES, _NEAR_SECONDS, _FAST_SECONDS = 1 << 20, 0.015, 0.008


class _Cursor:
    """Progress of a range: the next byte to write, and the one after its last.

    Its rate is measured from `since`, when `position` was `first`.
    """

    __slots__ = ("_lock", "end", "first", "is_divisible", "position", "since", "waited")

    def __init__(self, span: Span) -> None:
        self._lock = threading.Lock()
        self.position, self.end = span
        self.first, self.since, self.waited = self.position, 0.0, 0.0
        self.is_divisible = False

    def begin(self, since: float, waited: float, *, is_divisible: bool) -> None:
        """Note when the response began, and how many seconds it was waited for."""
        self.first, self.since, self.waited = self.position, since, waited
        self.is_divisible = is_divisible

    def take(self, size: int) -> tuple[int, int]:
        """Claim up to `size` bytes to write; return their start and end."""
        with self._lock:
            start, self.position = self.position, min(self.position + size, self.end)
            return start, self.position

    def seconds_left(self, now: float) -> float:
        """Estimate the time to the end; 0 if it is unknown or not worth dividing."""
        done, left, passed = self.position - self.first, self.end - self.position, now - self.since
        if not self.is_divisible or done < _MEASURED_BYTES or left < _DIVIDED_BYTES:
            return 0.0
        seconds = left * passed / done
        return seconds if seconds > max(_DIVIDED_SECONDS, _DIVIDED_WAITS * self.waited) else 0.0

    def is_fast(self, now: float, active: int) -> bool | None:
        """Whether one connection is enough beside the active ones; None while this is unknown."""
        if self.end - self.first < 4 * _MEASURED_BYTES or self.waited > _NEAR_SECONDS:
            return False
        if now - self.since > _FAST_SECONDS * active:
            return False
        return None if self.position - self.first < _MEASURED_BYTES else True

    def divide(self) -> Span | None:
        """Give up the second half of what is left; None if that is too little."""
        with self._lock:
            if self.end - self.position < _DIVIDED_BYTES:
                return None
            middle, end = self.position + (self.end - self.position) // 2, self.end
            self.end = middle
            return middle, end


class ActiveRanges:
    """The ranges being fetched, over all blobs; safe to share between threads.

    When a connection becomes free and no range waits, the slowest one is divided, so that a pull
    does not end with one slow range and idle connections.
    """

    def __init__(self) -> None:
        # A pool without threads does the work of `divide` at once, and comes back here.
        self._lock = threading.RLock()
        self.active: dict[_Cursor, Callable[[_Cursor], None]] = {}

    @contextmanager
    def fetching(self, cursor: _Cursor, divide: Callable[[_Cursor], None]) -> Iterator[None]:
        """Count a range while it is fetched; `divide` is called to share it with others."""
        with self._lock:
            self.active[cursor] = divide
        try:
            yield
        finally:
            with self._lock:
                del self.active[cursor]

    def balance(self, connections: int, now: float) -> None:
        """Divide the slowest range if a connection is free."""
        with self._lock:
            if not 0 < len(self.active) < connections:
                return
            slowest = max(self.active, key=lambda cursor: cursor.seconds_left(now))
            if slowest.seconds_left(now):
                self.active[slowest](slowest)


@dataclass(frozen=True, slots=True, eq=False)
class TransferContext:
    """What all transfers of a pull share.

    Attributes:
        parts: threads for the further ranges of a blob; a transfer itself never runs in one.
        stop: set when the whole pull is cancelled.

    """

    store: LocalStore
    options: TransferOptions
    emit: Observer
    clock: Clock
    parts: DaemonPool
    stop: threading.Event
    ranges: ActiveRanges = field(default_factory=ActiveRanges)


def one_at_a_time(observe: Observer) -> Observer:
    """Serialize the events of several threads."""
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            observe(event)

    return tell


#: Bytes that count as progress, and the attempts without any.
#: Source: docs/wire-protocol.md, "Ranges and resume".
PROGRESS = 1 << 20
MAX_TRIES = 5
#: Seconds without progress after which a second failure is the last.
#: Source: containers/image docker/body_reader.go, which resumes after 60 s.
PATIENCE = 60.0


class RetryState:
    """The tries of one stretch of a blob.

    Args:
        clock: for waiting.
        stop: ends a wait early.
        position: where the stretch begins, in bytes.

    """

    def __init__(self, clock: Clock, stop: threading.Event, position: int) -> None:
        self._clock = clock
        self._stop = stop
        self._reached = position
        self._failed = 0
        self._since = clock.monotonic()

    def wait_after(self, error: ResolverError, position: int) -> float:
        """Count a failure, and wait before the next attempt; return the seconds.

        Raises:
            ResolverError: `error`, when a retry is pointless.

        """
        now = self._clock.monotonic()
        if position >= self._reached + PROGRESS:
            self._reached, self._failed, self._since = position, 0, now
        self._failed += 1
        too_long = self._failed > 1 and now - self._since >= PATIENCE
        if self._failed >= MAX_TRIES or too_long or self._stop.is_set():
            raise error
        wait = backoff(self._failed, self._clock)
        self._clock.sleep(wait, self._stop)
        return wait


#: Seconds between two events of one piece: enough for a progress line.
_STEP = 0.1


class Progress:
    """Counts the bytes of one piece for progress; safe to share between threads.

    Args:
        tell: receives the events.
        clock: limits how often.
        descriptor: of the piece.
        done: bytes that were here before.

    """

    def __init__(self, tell: Observer, clock: Clock, descriptor: Descriptor, done: int) -> None:
        self._tell = tell
        self._clock = clock
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._done = done
        self._untold = 0
        self._told_at = clock.monotonic()

    @property
    def done(self) -> int:
        """Bytes that are here."""
        return self._done

    def add(self, size: int) -> None:
        """Count bytes that have arrived."""
        with self._lock:
            self._done += size
            self._untold += size
            if self._clock.monotonic() - self._told_at < _STEP:
                return
            self._say()

    def flush(self) -> None:
        """Report what was not reported yet."""
        with self._lock:
            if self._untold:
                self._say()

    def restart(self) -> None:
        """Begin again: what was here cannot be used."""
        with self._lock:
            self._done = 0
            self._untold = 0

    def _say(self) -> None:
        size, self._untold = self._untold, 0
        self._told_at = self._clock.monotonic()
        done, total = self._done, self._descriptor.size
        self._tell(Advanced(self._descriptor.digest, size, done, total))


_GZIP = frozenset({"gzip", "x-gzip"})
#: zlib's window bits for gzip members with their headers and checks. Source: zlib manual.
_GZIP_BITS = 16 + zlib.MAX_WBITS


class Transfer:
    """Fetches one blob into the store.

    Args:
        shared: shared with the other transfers.
        descriptor: the expected digest and size.
        source: the place to read from.
        is_wanted: polled at every chunk; False ends the transfer, and keeps what has arrived.
        began: called with the writer each time bytes begin to arrive.
        started: called once, if this transfer is the one that fetches the blob.
        reuse: the held bytes to copy first.
        places: what the places of its sources contain.

    """

    def __init__(  # noqa: PLR0913 - each is one thing that a caller decides
        self,
        shared: TransferContext,
        descriptor: Descriptor,
        source: RangedSource,
        is_wanted: Callable[[], bool],
        began: Callable[[BlobWriter], None] = lambda _receiving: None,
        started: Callable[[], None] = lambda: None,
        *,
        reuse: ChunkReuse | None = None,
        places: Mapping[str, Content] | None = None,
    ) -> None:
        self._places = places or {}
        self._reuse = reuse
        self._began = began
        self._started = started
        self._has_started = False
        self._is_waiting = False
        self._shared = shared
        self._descriptor = descriptor
        self._source = source
        self._is_wanted = is_wanted
        self._is_afresh = False
        self._is_split = False
        self._others: list[Future[None]] = []
        #: What is not cut into ranges yet, and the ranges that no thread fetches yet.
        self._rest: list[Span] = []
        self._waiting: deque[Span] = deque()
        self._broken = threading.Event()
        self._progress = Progress(shared.emit, shared.clock, descriptor, 0)

    def run(self) -> bool:
        """Fetch the blob; return False if another process has fetched it meanwhile.

        Raises:
            Stopped: `is_wanted` returned False.
            DigestMismatch, SizeMismatch: the bytes were wrong twice.
            NotFound, Denied, Unavailable: as the source raises, or the transfer broke too often.
            StoreFault: the store cannot be written.

        """
        while True:
            try:
                return self._once()
            except (DigestMismatch, SizeMismatch) as error:
                reuse, self._reuse = self._reuse, None
                if reuse is not None and reuse.copied:
                    self._give_up_reuse(reuse)
                    continue
                others = _distrust(self._source, self._descriptor.digest)
                if self._is_afresh and not others:
                    raise
                self._shared.emit(Restarted(self._descriptor.digest, str(error)))
            self._is_afresh = True

    @property
    def _is_exact(self) -> bool:
        """Whether ranges are requested as a plan that copies chunks states them."""
        return self._reuse is not None and bool(self._reuse.copied)

    def _give_up_reuse(self, reuse: ChunkReuse) -> None:
        """Fetch all of the blob next, since held bytes may be wrong, and find out which are."""
        digest = self._descriptor.digest
        message = f"`{digest}` could not be rebuilt from held chunks and is fetched whole"
        self._shared.emit(Warned("chunks-mismatch", message))
        self._is_afresh = True
        for source in reuse.sources:
            # Does nothing for those in other places.
            self._shared.store.recheck(source)

    def _once(self) -> bool:
        with self._shared.store.receive(self._descriptor, waiting=self._wait) as receiving:
            if receiving is None:
                return False
            if not self._has_started:
                self._has_started = True
                self._started()
            self._began(receiving)
            self._fill(receiving)
            self._progress.flush()
            self._shared.emit(PieceVerifying(self._descriptor.digest))
            receiving.finish()
            return True

    def _fill(self, receiving: BlobWriter) -> None:
        """Fetch everything that is missing."""
        self._is_split = False
        self._broken.clear()
        have = () if self._is_afresh else receiving.have
        before = done = sum(end - start for start, end in have)
        if self._reuse is not None:
            have = self._copy_held(receiving, self._reuse)
            done = sum(end - start for start, end in have)
        self._progress = Progress(self._shared.emit, self._shared.clock, self._descriptor, done)
        if done:
            self._shared.emit(Resumed(self._descriptor.digest, done, done - before))
        missing = gaps(receiving.size, have)
        if not missing:
            if receiving.size:
                return
            # An empty blob needs no bytes, but only its place knows whether it exists.
            missing = [(0, 0)]
        try:
            self._fill_spans(receiving, missing)
        except RangeRefused as error:
            if not self._is_split:
                raise
            self._is_split = False
            self._broken.clear()
            self._start_over(str(error))
            self._stretch(receiving, _Cursor((0, receiving.size)))

    def _copy_held(self, receiving: BlobWriter, reuse: ChunkReuse) -> tuple[Span, ...]:
        """Copy what held layers have, and the end of the layer; return all that is here then.

        What cannot be read is fetched with the rest.
        """
        missing = gaps(receiving.size, receiving.have)
        for number, source in enumerate(reuse.sources):
            runs = [run for run in reuse.copied if run.source == number]
            place = reuse.places[number] if reuse.places else ""
            try:
                if place:
                    self._copy_stream(receiving, self._places[place], source, runs, missing)
                else:
                    self._copy_file(receiving, source, runs, missing)
            except (NotFound, Unavailable, Untrusted) as error:
                self._shared.emit(Noted(f"`{source.digest}` cannot be reused: {error}"))
        first = receiving.size - len(reuse.end)
        for start, end in gaps(receiving.size, [*receiving.ranges, (0, first)]):
            receiving.write(start, reuse.end[start - first : end - first])
        return receiving.ranges

    def _copy_file(
        self,
        receiving: BlobWriter,
        source: Descriptor,
        runs: Sequence[ChunkRun],
        missing: Sequence[Span],
    ) -> None:
        with self._shared.store.file(source) as file:
            for run in runs:
                self._check()
                for start, end in _within(missing, run.start, run.end):
                    at = run.offset + start - run.start
                    receiving.copy(file.descriptor, at, start, end - start)

    def _copy_stream(
        self,
        receiving: BlobWriter,
        content: Content,
        source: Descriptor,
        runs: Sequence[ChunkRun],
        missing: Sequence[Span],
    ) -> None:
        position = 0
        left = sorted(runs, key=lambda run: run.offset)
        with content.open(source) as chunks:
            for chunk in chunks:
                self._check()
                reached = position + len(chunk)
                for run in left:
                    if run.offset >= reached:
                        break
                    # Where the chunk lies if all of it belonged to this run.
                    shift = run.start - run.offset + position
                    first, last = max(run.start, shift), min(run.end, shift + len(chunk))
                    for start, end in _within(missing, first, last):
                        receiving.write(start, chunk[start - shift : end - shift])
                left = [run for run in left if run.offset + run.length > reached]
                position = reached

    def _fill_spans(self, receiving: BlobWriter, missing: list[Span]) -> None:
        """Fetch stretches in order here, and those left beside it once that is seen to help."""
        self._others = []
        self._waiting.clear()
        first, self._rest = missing[0], missing[1:]
        # Once something was wrong, in the plainest way there is.
        if receiving.size and not self._is_afresh:
            most = self._shared.options.range_size
            most = most if self._is_exact else min(most, LEAST_RANGE)
            whole, first = first, cut([first], most)[0]
            self._rest = gaps(whole[1], [(0, first[1])]) + self._rest
        failure: BaseException | None = None
        try:
            self._range(receiving, first)
            while (span := self._next()) is not None:
                self._range(receiving, span)
        except BaseException as error:  # noqa: BLE001 - raised below, when no thread writes any more
            failure = error
            self._broken.set()
        # More may be added while these are awaited, as ranges are divided.
        for future in self._others:
            failure = _worse(failure, _outcome(future))
        if failure is not None:
            raise failure

    def _cut_rest(self, waited: float) -> None:
        """Cut what is left into ranges, once they are known to work.

        One for each connection, so that round trips do not add up; short ones where requests are
        cheap, so that bytes come in order and hashing does not fall behind.
        """
        options = self._shared.options
        total = sum(end - start for start, end in self._rest)
        most = options.range_size
        if waited <= _NEAR_SECONDS:
            most = min(most, LEAST_RANGE)
        length = range_length(total, options.connections, most)
        if self._is_exact:
            length = options.range_size
        self._waiting.extend(cut(self._rest, length))
        self._rest = []

    def _share(self, receiving: BlobWriter) -> None:
        """Fetch the waiting stretches in other threads."""
        while (span := self._next()) is not None:
            self._submit(receiving, span)

    def _next(self) -> Span | None:
        """Take the next stretch that no thread fetches yet."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _submit(self, receiving: BlobWriter, span: Span) -> None:
        """Fetch one of several stretches in another thread; its failure ends the others."""

        def fetch() -> None:
            try:
                self._range(receiving, span)
            except BaseException:
                self._broken.set()
                raise

        self._others.append(self._shared.parts.submit(fetch))

    def _range(self, receiving: BlobWriter, span: Span) -> None:
        """Fetch one stretch, and let others help with the end of it."""
        cursor, shared = _Cursor(span), self._shared

        def divide(slow: _Cursor) -> None:
            part = slow.divide()
            if part is not None:
                self._submit(receiving, part)

        with shared.ranges.fetching(cursor, divide):
            self._stretch(receiving, cursor)
        if not shared.parts.is_waiting():
            shared.ranges.balance(shared.options.connections, shared.clock.monotonic())

    def _stretch(self, receiving: BlobWriter, cursor: _Cursor) -> None:
        """Fetch one range, with retries."""
        tries = RetryState(self._shared.clock, self._shared.stop, cursor.position)
        while True:
            self._check()
            opened = False
            begun = self._shared.clock.monotonic()
            try:
                with self._source.open_range(
                    self._descriptor, cursor.position, cursor.end
                ) as answer:
                    opened = True
                    now = self._shared.clock.monotonic()
                    if answer.whole:
                        self._take_whole(cursor)
                    elif self._rest:
                        self._is_split = True
                        self._cut_rest(now - begun)
                    cursor.begin(
                        now, now - begun, is_divisible=self._is_split and not self._is_exact
                    )
                    self._copy(answer, receiving, cursor)
            except RangeRefused as error:
                if self._is_split or self._is_whole(cursor):
                    raise
                tries.wait_after(error, cursor.position)
                # From now on the whole blob is requested, which needs no range.
                self._start_over(str(error))
                cursor.position, cursor.end = 0, receiving.size
            except Unavailable as error:
                # The request itself was retried below; retry a broken body here.
                if not opened and not isinstance(error, StorageRefused):
                    raise
                self._check()
                wait = tries.wait_after(error, cursor.position)
                self._shared.emit(
                    Noted(f"{error}; going on at byte {cursor.position} after {wait:.1f} s")
                )
            else:
                return

    def _take_whole(self, cursor: _Cursor) -> None:
        """Adapt to a response that begins at the first byte, whatever was requested."""
        if self._is_whole(cursor):
            return
        if self._is_split:
            raise RangeRefused(f"`{self._descriptor.digest}` comes in parts only at times")
        if cursor.position or self._progress.done:
            self._start_over("its registry sends all of it, and not the part that is missing")
        cursor.position, cursor.end = 0, self._descriptor.size

    def _is_whole(self, cursor: _Cursor) -> bool:
        """Whether the whole blob is requested, without a range."""
        return (cursor.position, cursor.end) == (0, self._descriptor.size)

    def _copy(self, answer: RangeAnswer, receiving: BlobWriter, cursor: _Cursor) -> None:
        """Write chunks, the last one only at the end of the body: a surplus completes no blob.

        See docs/wire-protocol.md, "Blob size checks".
        """
        held = b""
        reached = cursor.position
        is_fast: bool | None = None
        try:
            for chunk in self._decoded(answer):
                self._check()
                if is_fast is None:
                    now, active = self._shared.clock.monotonic(), len(self._shared.ranges.active)
                    is_fast = cursor.is_fast(now, active)
                    if is_fast is False:
                        self._share(receiving)
                reached += len(chunk)
                if reached > answer.end:
                    held = b""
                    size = self._descriptor.size
                    raise SizeMismatch(f"`{self._descriptor.digest}`", size, max(reached, size + 1))
                if reached < answer.end:
                    self._put(receiving, cursor, chunk)
                else:
                    held += chunk
                if cursor.position >= cursor.end < answer.end:
                    # Another connection fetches the rest.
                    return
        except (Unavailable, Stopped):
            self._put(receiving, cursor, held)
            raise
        self._put(receiving, cursor, held)
        if cursor.position < cursor.end:
            raise ConnectionFailed(f"`{self._descriptor.digest}` ended before its last byte")

    def _put(self, receiving: BlobWriter, cursor: _Cursor, chunk: bytes) -> None:
        start, end = cursor.take(len(chunk))
        if start < end:
            receiving.write(start, chunk if end - start == len(chunk) else chunk[: end - start])
            self._progress.add(end - start)

    def _decoded(self, answer: RangeAnswer) -> Iterator[bytes]:
        """Undo an unrequested compression, once the bytes as received were wrong.

        The header alone proves nothing: many servers label blobs that are gzip themselves
        (docs/wire-protocol.md, "Unrequested compression").
        """
        if not (self._is_afresh and answer.whole and answer.coding in _GZIP):
            return answer.chunks
        return _inflated(answer.chunks, self._descriptor.size + 1)

    def _start_over(self, reason: str) -> None:
        self._progress.restart()
        self._shared.emit(Restarted(self._descriptor.digest, reason))

    def _wait(self) -> None:
        """Report once that another process fetches the blob; called repeatedly meanwhile."""
        self._check()
        if not self._is_waiting:
            self._is_waiting = True
            self._shared.emit(Waiting(self._descriptor.digest))

    def _check(self) -> None:
        if self._shared.stop.is_set() or self._broken.is_set() or not self._is_wanted():
            raise Stopped


def _within(missing: Sequence[Span], start: int, end: int) -> list[Span]:
    """Return what of a range is missing."""
    at = bisect_right(missing, start, key=lambda span: span[1])
    found: list[Span] = []
    while at < len(missing) and missing[at][0] < end:
        found.append((max(missing[at][0], start), min(missing[at][1], end)))
        at += 1
    return found


def _distrust(source: RangedSource, digest: Digest) -> bool:
    """Report wrong content to a source with several endpoints; return whether others are left."""
    return isinstance(source, Distrusting) and source.distrust(digest)


def _inflated(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """Inflate a gzip stream, and never more than `limit` bytes of it."""
    stream = zlib.decompressobj(_GZIP_BITS)
    for chunk in chunks:
        try:
            piece = stream.decompress(chunk, limit)
        except zlib.error as error:
            raise ConnectionFailed("the response is labelled gzip, but is not") from error
        limit -= len(piece)
        if piece:
            yield piece
        if limit <= 0:
            return


def _outcome(future: Future[None]) -> BaseException | None:
    """Wait for a range, and return its error."""
    try:
        return future.exception()
    except CancelledError:
        return Stopped()


def _worse(one: BaseException | None, other: BaseException | None) -> BaseException | None:
    """Choose between two errors: the cause, and not the one that it cancelled."""
    if one is None or (isinstance(one, Stopped) and other is not None):
        return other
    if isinstance(one, ResolverError) and isinstance(other, BaseException):
        return one if isinstance(other, ResolverError | Stopped) else other
    return one
