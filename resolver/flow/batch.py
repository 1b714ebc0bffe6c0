"""The only loop over many: one verb, many items, order kept."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from resolver.errors import ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Items submitted ahead of the one that is waited for, per worker: an endless stream of
#: references is read as it is worked off, not all at once.
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Result]):
    """One item, and what came of it: a result, or the failure that is its answer."""

    item: Item
    value: Result | ResolverError


def kept(error: ResolverError) -> ResolverError:
    """Let go of the frames of an error that is kept as a value: each holds what it was reading."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            waiting += (found.__cause__, found.__context__)
            found.__traceback__ = None
    return error


def each(
    do: Callable[[Item], Result], items: Iterable[Item], *, jobs: int
) -> Generator[Outcome[Item, Result], None, None]:
    """Yield one outcome per item, in the order given, with at most `jobs` under way.

    An item that fails with a `ResolverError` costs nobody else their result. Any other exception
    is a defect and ends the batch, as does an interrupt: items not yet begun are then dropped.
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
        # Nobody wants to wait for a registry that does not answer; what is under way ends with
        # the session, whose client drops its connections.
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)
