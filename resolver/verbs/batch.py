"""Look at many items: in threads, over an executor, or in a file of earlier answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from resolver.core.results.events import Counted
from resolver.errors import ResolverError
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    from resolver.core.results.resolve import Failure
    from resolver.verbs.context import Context
    from resolver.verbs.threads import Outcome

Item = TypeVar("Item", bound="tuple[Any, ...]")
Found = TypeVar("Found")


def each(
    context: Context,
    look: Callable[[Context, Item], Found],
    items: Sequence[Item],
    what: str,
    executor: Executor | None = None,
) -> Iterator[Outcome[Item, Found]]:
    """Yield one outcome per item, in order, and report how many are done.

    Args:
        context: of the session.
        look: can be pickled, as can what it returns.
        items: the name in the answer, the reference as typed, and more; can be pickled too.
        what: the activity, for progress.
        executor: answers batches of items in registries; None to use threads only.
    """

    def ask(asked: Sequence[Item]) -> Iterator[Outcome[Item, Found]]:
        if executor is not None and not context.settings.offline:
            from resolver.verbs.fleet import spread  # noqa: PLC0415 - for executors

            return spread(context, look, asked, executor)
        return parallel(partial(look, context), asked, jobs=context.settings.batch_jobs)

    if context.results is None:
        outcomes = ask(items)
    else:
        outcomes = context.results.each(context.table, context.clean, look, items, ask)
    failed = 0
    for done, outcome in enumerate(outcomes, 1):
        failed += isinstance(outcome.value, ResolverError)
        if len(items) > 1:
            context.observe(Counted(what, done, len(items), "images", failed))
        yield outcome


def look_at_all(
    context: Context,
    look: Callable[[Context, Item], Found],
    items: Sequence[Item],
    what: str,
    executor: Executor | None = None,
) -> tuple[Found | Failure, ...]:
    """Look at each item; raise the error of an only one, else keep it in its place."""
    from resolver.core.results.resolve import Failure  # noqa: PLC0415 - for several alone

    found: list[Found | Failure] = []
    for outcome in each(context, look, items, what, executor):
        if not isinstance(outcome.value, ResolverError):
            found.append(outcome.value)
        elif len(items) == 1:
            raise outcome.value
        else:
            found.append(Failure(outcome.item[0], (), outcome.value))
    return tuple(found)
