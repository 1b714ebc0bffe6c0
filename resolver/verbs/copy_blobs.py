"""Read the blobs that are copied.

They stream from the source in parallel ranges with a bound on what waits in memory, once for all
destinations.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from resolver.clock import SystemClock
from resolver.core.oci.content import Distrusting
from resolver.core.oci.digest import Digest, Verifier
from resolver.core.results.events import Warned
from resolver.errors import (
    RangeRefused,
    ResolverError,
    Unavailable,
)
from resolver.verbs.fetch import ranged
from resolver.verbs.threads import DaemonPool
from resolver.verbs.transfer import RetryState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from resolver.clock import Clock
    from resolver.core.oci.content import Source
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.plan import ChunkReuse, Span
    from resolver.sources.tier import Tier
    from resolver.verbs.chunks import HeldChunks
    from resolver.verbs.context import Context

#: Bytes of one parallel read, parts ahead of the writer per blob, and parts in memory in total.
_PART: Final = 2 * 1024 * 1024
_AHEAD: Final = 4
_PARTS: Final = 8
#: Chunks that one of several destinations may be ahead of another.
_LEAD: Final = 16
_CHUNK: Final = 1 << 18
_GRACE: Final = 1.0


class BlobBody:
    """The bytes of a blob for one destination, hashed from the first byte on.

    Args:
        blob: what they must be.
        open_at: opens the stream at a position; called again after an interruption.
    """

    def __init__(
        self, blob: Descriptor, open_at: Callable[[int], AbstractContextManager[Iterator[bytes]]]
    ) -> None:
        self._blob = blob
        self._open_at = open_at
        self._verifier = Verifier(blob.digest, blob.size, f"`{blob.digest}`")
        self._hashed = 0
        self._failure: ResolverError | None = None
        self._stream = ExitStack()
        self._chunks: Iterator[bytes] | None = None
        self._rest = b""
        self._position = 0
        self.sent = 0

    def close(self) -> None:
        """Close the source."""
        self._chunks, self._rest = None, b""
        self._stream.close()

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """Yield a part of the blob; see `sources.registry.upload.Body`.

        A part that follows the last one continues the same stream.
        """
        try:
            yield from self._read(start, start + length)
        except ResolverError as error:
            self._failure = error
            raise

    def check(self) -> None:
        """Raise what reading failed with; transports replace it by an error of their own."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        if self._chunks is None or self._position != start:
            self.close()
            # What an earlier run sent was hashed by that run only.
            self._position = min(start, self._hashed)
            self._chunks = self._stream.enter_context(self._open_at(self._position))
        while self._position < end:
            chunk = self._rest or self._next(self._chunks)
            limit = start if self._position < start else end
            part, self._rest = chunk[: limit - self._position], chunk[limit - self._position :]
            before, self._position = self._position, self._position + len(part)
            if before >= start:
                self.sent += len(part)
                yield part

    def _next(self, chunks: Iterator[bytes]) -> bytes:
        """Take a chunk and hash what is new; the last one only if all of them are right."""
        chunk = next(chunks, b"")
        after = self._position + len(chunk)
        if after > self._hashed:
            self._verifier.update(chunk[self._hashed - self._position :])
            self._hashed = after
        if after >= self._blob.size or not chunk:
            self._verifier.finish()
        return chunk


class BlobReader:
    """Reads blobs of the source: from the store if held, else in parallel ranges.

    A layer in chunks is rebuilt from the chunks of held layers where that is faster.

    Args:
        context: has the store.
        content: the source.
        clock: for retries.
        repository: `registry/name` of the source; held layers of it are reused first.
    """

    def __init__(
        self,
        context: Context,
        content: Source,
        clock: Clock | None = None,
        repository: str = "",
    ) -> None:
        self._context = context
        self._repository = repository
        self._content = content
        self._clock = clock or SystemClock()
        self._ranged = ranged(content)
        self._pool = DaemonPool(_PARTS, "resolver-part")
        self._room = threading.BoundedSemaphore(_PARTS)
        self._stop = threading.Event()
        self._reuses: dict[Digest, ChunkReuse | None] = {}
        self._tier = context.tier() if hasattr(content, "open_range") else None
        if self._tier is not None:
            from resolver.sources.tier import TieredSource  # noqa: PLC0415 - for a tier alone

            self._ranged = TieredSource(self._tier, self._ranged)

    def distrust(self, blob: Descriptor) -> bool:
        """Stop reading a blob from where its wrong bytes came from; return whether to try again."""
        reuse = self._reuses.get(blob.digest)
        if reuse is not None:
            self._reuses[blob.digest] = None
            message = f"`{blob.digest}` could not be rebuilt from held chunks and is fetched whole"
            self._context.observe(Warned("chunks-mismatch", message))
            for source in reuse.sources:
                self._context.store.recheck(source)
            return True
        return isinstance(self._ranged, Distrusting) and self._ranged.distrust(blob.digest)

    def tier_to_write(self, blob: Descriptor) -> Tier | None:
        """Return the tier if it takes this blob."""
        tier = self._tier
        return tier if tier is not None and tier.writes and blob.data is None else None

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._pool.close(_GRACE)

    @contextmanager
    def open_at(self, blob: Descriptor, start: int) -> Iterator[Iterator[bytes]]:
        """Stream a blob from a position, unverified."""
        store = self._context.store
        if blob.data is not None:
            yield iter((blob.data[start:],))
        elif store.held(blob):
            with store.open(blob) as chunks:
                yield _skip(chunks, start)
        elif (reuse := self._reuse(blob)) is not None:
            from resolver.verbs.chunks import HeldChunks  # noqa: PLC0415 - for these alone

            observe = self._context.observe
            with ExitStack() as files:
                held = HeldChunks(store, blob.size, reuse, files, observe)
                yield files.enter_context(closing(self._parts(blob, start, held)))
        elif hasattr(self._content, "open_range") and blob.size - start > 2 * _PART:
            yield self._parts(blob, start)
        else:
            yield self._whole(blob, start)

    def _reuse(self, blob: Descriptor) -> ChunkReuse | None:
        """Plan once how to rebuild a layer from held ones; None to read it whole."""
        if not blob.has_chunks or not hasattr(self._content, "open_range"):
            return None
        if blob.digest not in self._reuses:
            from resolver.verbs.chunks import (  # noqa: PLC0415 - for chunked layers alone
                ChunkOptions,
                layers_of,
                plan_reuse,
            )

            context = self._context
            reuse = plan_reuse(
                context.store,
                blob,
                layers_of(context.store, self._repository),
                lambda: self._ranged,
                ChunkOptions(),
                observe=context.observe,
                clock=self._clock,
            )
            self._reuses[blob.digest] = reuse if reuse is not None and reuse.copied else None
        return self._reuses[blob.digest]

    def _whole(self, blob: Descriptor, start: int) -> Iterator[bytes]:
        """Stream from one request, and from another one where it breaks off."""
        position, tries = start, RetryState(self._clock, self._stop, start)
        while position < blob.size:
            try:
                with self._ranged.open_range(blob, position, blob.size) as answer:
                    skip = position if answer.whole else 0
                    for chunk in _skip(answer.chunks, skip):
                        # More than was announced is an error of the digest.
                        position += len(chunk)
                        yield chunk
                    if answer.whole or position >= blob.size:
                        return
            except RangeRefused:
                with self._content.open(blob) as chunks:
                    for chunk in _skip(chunks, position):
                        position += len(chunk)
                        yield chunk
                return
            except Unavailable as error:
                tries.wait_after(error, position)

    def _parts(
        self, blob: Descriptor, start: int, held: HeldChunks | None = None
    ) -> Generator[bytes]:
        """Stream from several requests at once, in order, with a bound on what waits in memory."""
        if held is None:
            ends = [*range(start + _PART, blob.size, _PART), blob.size]
            spans: Iterator[Span] = zip([start, *ends[:-1]], ends, strict=True)
            read, ahead = self._part, _AHEAD
        else:
            spans = iter(held.pieces(start, _PART))
            # Most of these are small.
            read, ahead = partial(self._rebuilt, held), _PARTS
        line = object()
        pending: list[Future[bytearray | None]] = []
        position = start
        try:
            while position < blob.size:
                while len(pending) < ahead and self._room.acquire(blocking=not pending):
                    span = next(spans, None)
                    if span is None:
                        self._room.release()
                        break
                    first, last = span
                    pending.append(self._pool.submit(partial(read, blob, first, last), line))
                future = pending.pop(0)
                try:
                    body = future.result()
                finally:
                    self._room.release()
                if body is None:
                    break
                position += len(body)
                for at in range(0, len(body), _CHUNK):
                    yield bytes(body[at : at + _CHUNK])
        finally:
            for future in pending:
                if not future.cancel():
                    future.exception()
                self._room.release()
        if position < blob.size:
            # Ranges are not supported after all.
            yield from self._whole(blob, position)

    def _rebuilt(
        self, held: HeldChunks, blob: Descriptor, start: int, end: int
    ) -> bytearray | None:
        """Join held bytes and ranges; None if there are no ranges."""
        body = bytearray()
        for (first, last), chunk in held.read(start, end):
            found = chunk or self._part(blob, first, last)
            if found is None:
                return None
            body += found
        return body

    def _part(self, blob: Descriptor, start: int, end: int) -> bytearray | None:
        """Read one range; None if there are no ranges."""
        body = bytearray()
        tries = RetryState(self._clock, self._stop, start)
        while len(body) < end - start:
            at = start + len(body)
            try:
                with self._ranged.open_range(blob, at, end) as answer:
                    if answer.whole or answer.coding:
                        return None
                    for chunk in answer.chunks:
                        body += chunk
                        if self._stop.is_set() or len(body) > end - start:
                            return None
            except RangeRefused:
                return None
            except Unavailable as error:
                tries.wait_after(error, start + len(body))
        return body


def _skip(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if count >= len(chunk):
            count -= len(chunk)
            continue
        yield chunk[count:] if count else chunk
        count = 0


class SharedRead:
    """One read of a blob for several destinations, which take it at the pace of the slowest.

    Args:
        open_at: opens the source at a position.
        readers: destinations that will read or leave.
    """

    def __init__(
        self, open_at: Callable[[int], AbstractContextManager[Iterator[bytes]]], readers: int
    ) -> None:
        self._open_at = open_at
        self._state = threading.Condition()
        self._queues: list[list[bytes]] = [[] for _ in range(readers)]
        self._left = [False] * readers
        self._begun = self._over = False
        self._failure: BaseException | None = None

    def opener(self, reader: int) -> Callable[[int], AbstractContextManager[Iterator[bytes]]]:
        """Return the `open_at` of one destination: the first read is shared, later ones are not."""
        taken = False

        @contextmanager
        def open_at(position: int) -> Iterator[Iterator[bytes]]:
            nonlocal taken
            if taken or position or self._left[reader]:
                self.leave(reader)
                with self._open_at(position) as chunks:
                    yield chunks
                return
            taken = True
            try:
                yield self._take(reader)
            finally:
                self.leave(reader)

        return open_at

    def leave(self, reader: int) -> None:
        """Stop reading for one destination; the others go on."""
        with self._state:
            self._left[reader] = True
            self._queues[reader].clear()
            self._state.notify_all()

    def _take(self, reader: int) -> Iterator[bytes]:
        with self._state:
            if not self._begun:
                self._begun = True
                threading.Thread(target=self._pump, name="resolver-shared", daemon=True).start()
        while True:
            with self._state:
                self._state.wait_for(lambda: self._queues[reader] or self._over)
                if not self._queues[reader]:
                    if self._failure is not None:
                        raise self._failure
                    return
                chunk = self._queues[reader].pop(0)
                self._state.notify_all()
            yield chunk

    def _pump(self) -> None:
        try:
            with self._open_at(0) as chunks:
                for chunk in chunks:
                    with self._state:
                        self._state.wait_for(self._has_room)
                        if all(self._left):
                            return
                        for reader, waiting in enumerate(self._queues):
                            if not self._left[reader]:
                                waiting.append(chunk)
                        self._state.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by every destination
            self._failure = error
        finally:
            with self._state:
                self._over = True
                self._state.notify_all()

    def _has_room(self) -> bool:
        return all(self._left) or all(
            left or len(waiting) < _LEAD
            for left, waiting in zip(self._left, self._queues, strict=True)
        )
