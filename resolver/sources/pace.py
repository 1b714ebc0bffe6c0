"""Not waiting for ever: total time, least speed, and Ctrl-C while a library waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from resolver.errors import TimedOut
from resolver.sources.exchange import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.sources.retry import Clock

#: Bytes a stream must bring in each window, and the window in seconds.
#: Source: reliability.md section 5, 1 KiB/s over 30 s.
LEAST_BYTES, WINDOW = 30 * 1024, 30.0
#: Seconds that an aborted request is given to end.
_GRACE = 1.0

T = TypeVar("T")


def paced(
    chunks: Iterator[bytes], clock: Clock, host: str, patience: float | None
) -> Iterator[bytes]:
    """Pass chunks on while they come fast enough.

    A read timeout alone does not do: one byte now and then keeps it from running out.

    Raises:
        Trouble: the whole took longer than `patience` seconds, or a window brought too little.

    """
    begin = window = clock.monotonic()
    count = 0
    for chunk in chunks:
        now = clock.monotonic()
        if patience is not None and now - begin > patience:
            late = TimedOut(f"`{host}` did not finish its answer within {patience:.0f} s")
            raise Trouble(late, transient=True)
        count += len(chunk)
        if now - window > WINDOW:
            if count < LEAST_BYTES:
                slow = TimedOut(f"`{host}` sends less than 1 KiB/s")
                raise Trouble(slow, transient=True)
            window, count = now, 0
        yield chunk


def interruptible(work: Callable[[], T], abort: Callable[[], None]) -> T:
    """Do something that waits outside Python, so that Ctrl-C still ends it.

    Python runs signal handlers in its main thread, between two of its own instructions; there are
    none while a library waits for the network (measured: Ctrl-C after 1 s ended a stalled request
    after 10 s, at its read timeout). In the main thread the work is therefore done by a helper.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    helper = _Helper(work)
    try:
        helper.start()
    except RuntimeError:
        # No thread is to be had: it can be done all the same, and waits for its time to run out.
        return work()
    try:
        helper.done.wait()
    except BaseException:
        abort()
        helper.done.wait(_GRACE)
        raise
    return helper.result()


class _Helper(threading.Thread, Generic[T]):
    """A thread for one piece of work; a daemon, so that nothing waits for it at exit."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="resolver-request", daemon=True)
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again where it belongs
            self._error = error
        finally:
            self.done.set()

    def result(self) -> T:
        """Give what came of it, or raise what went wrong."""
        if self._error is not None:
            raise self._error
        return self._results[0]
