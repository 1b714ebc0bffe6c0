"""Run one function over many items in threads, in order."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from resolver.errors import ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from resolver.core.platforms.platform import PlatformTable


Item = TypeVar("Item")
Result = TypeVar("Result")
Row = TypeVar("Row", bound="tuple[Any, ...]")
#: Items submitted ahead of the one that is awaited, per worker, so that an endless stream of
#: references is read only as it is processed.
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Result]):
    """One item with its result, or with the error it failed with."""

    item: Item
    value: Result | ResolverError


class KeptResults(Protocol):
    """Answers of earlier runs, and where those of this one are written; see `verbs.merge`."""

    def each(
        self,
        table: PlatformTable,
        clean: Callable[[str], str],
        look: Callable[..., Result],
        items: Sequence[Row],
        ask: Callable[[Sequence[Row]], Iterator[Outcome[Row, Result]]],
    ) -> Iterator[Outcome[Row, Result]]:
        """Yield one outcome per item, in order; `ask` answers those that are not known."""
        ...


def kept(error: ResolverError) -> ResolverError:
    """Drop the frames of an error that is kept as a value: each keeps its locals in memory."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            waiting += (found.__cause__, found.__context__)
            found.__traceback__ = None
    return error


def parallel(
    do: Callable[[Item], Result], items: Iterable[Item], *, jobs: int
) -> Generator[Outcome[Item, Result], None, None]:
    """Yield one outcome per item, in order, with at most `jobs` running.

    An item that fails with a `ResolverError` affects no other. Any other exception is a defect and
    ends the batch, as does an interrupt: items that have not started are dropped.
    """

    def attempt(item: Item) -> Outcome[Item, Result]:
        try:
            return Outcome(item, do(item))
        except ResolverError as error:
            return Outcome(item, kept(error))

    source = iter(items)
    first = list(islice(source, 2))
    if len(first) < 2:  # noqa: PLR2004 - one item needs no thread
        yield from (attempt(item) for item in first)
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - for two or more

    patient = True
    pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="resolver")
    try:
        pending: deque[Future[Outcome[Item, Result]]] = deque(
            pool.submit(attempt, item) for item in first
        )
        pending.extend(pool.submit(attempt, item) for item in islice(source, jobs * _AHEAD))
        while pending:
            outcome = pending.popleft().result()
            pending.extend(pool.submit(attempt, item) for item in islice(source, 1))
            yield outcome
    except KeyboardInterrupt:
        # Do not wait for a registry that does not answer; running work ends when the session closes
        # its connections.
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


class DaemonPool:
    """A pool of at most `count` threads, started as work comes in.

    Unlike those of `concurrent.futures` they are daemons: a thread that waits for a stalled
    registry must not keep an interrupted program alive (docs/store-and-reliability.md,
    "Interrupts").

    Args:
        count: of threads.
        name: of each thread, as shown by process monitors.

    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._state = threading.Condition()
        #: Waiting work by line; the first line is next.
        self._waiting: dict[object, deque[tuple[Callable[[], None], Callable[[], bool]]]] = {}
        self._length = 0
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def submit(self, work: Callable[[], Result], line: object = None) -> Future[Result]:
        """Run some work after everything submitted before in the same line.

        Lines take turns, so that a long one does not delay the others.
        """
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - raised again by `Future.result`
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._state:
            if self._closed:
                future.cancel()
                return future
            self._waiting.setdefault(line, deque()).append((run, future.cancel))
            self._length += 1
            self._start()
            alone = not self._threads
            if alone:
                self._next()
            self._state.notify()
        if alone:
            run()
        return future

    def is_waiting(self) -> bool:
        """Whether work waits for a thread."""
        with self._state:
            return self._length > 0

    def resize(self, count: int) -> None:
        """Change the number of threads; surplus ones end when they are done with their work."""
        with self._state:
            if count == self._count or self._closed:
                return
            self._count = count
            for _ in range(self._length):
                self._start()
            self._state.notify_all()

    def _start(self) -> None:
        """Start a thread if there is work for it and room.

        Where a limit of the machine allows no further thread, the existing ones do the work.
        """
        if self._idle < self._length and len(self._threads) < self._count:
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except (RuntimeError, MemoryError):
                self._threads.discard(thread)

    def close(self, seconds: float | None = None) -> bool:
        """Take no more work, drop what was not begun, and wait; False if some is still under way.

        Args:
            seconds: to wait at most; None = as long as it takes.

        """
        with self._state:
            self._closed = True
            while self._waiting:
                _, cancel = self._next()
                cancel()
            self._state.notify_all()
            return self._state.wait_for(lambda: not self._threads, seconds)

    def _serve(self) -> None:
        while True:
            with self._state:
                self._idle += 1
                with suppress(RuntimeError):  # No memory for a lock: end, or do what waits.
                    self._state.wait_for(
                        lambda: self._waiting or self._closed or self._is_surplus()
                    )
                self._idle -= 1
                if not self._waiting or self._is_surplus():
                    self._threads.discard(threading.current_thread())
                    self._state.notify_all()
                    return
                work, _ = self._next()
            work()

    def _next(self) -> tuple[Callable[[], None], Callable[[], bool]]:
        """Take the first of the line whose turn it is; that line is the last one then."""
        line = next(iter(self._waiting))
        entries = self._waiting.pop(line)
        entry = entries.popleft()
        if entries:
            self._waiting[line] = entries
        self._length -= 1
        return entry

    def _is_surplus(self) -> bool:
        return len(self._threads) > self._count
