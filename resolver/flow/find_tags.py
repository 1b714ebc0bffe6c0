"""Finding tags: those that are offered for a platform, asked for no longer than needed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from resolver.errors import NotFound, ResolverError, Untrusted
from resolver.flow.batch import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def find(
    tags: Iterable[str],
    is_offered: Callable[[str], bool],
    *,
    limit: int | None,
    jobs: Callable[[], int],
    skip: Callable[[str, ResolverError], None],
) -> Iterator[str]:
    """Give the tags that are offered, in their order, and stop at the last that is wanted.

    No more tags are looked at side by side than are still wanted, so that the question after the
    last hit is not asked.

    Args:
        tags: in the order to look at them.
        is_offered: asks for one tag.
        limit: how many are wanted; None for all.
        jobs: how many tags to look at at once, asked before each round.
        skip: told of a tag that is gone, is no image, or cannot be trusted; others go on.

    Raises:
        ResolverError: nobody can be asked, or no more may be.
    """
    source = iter(tags)
    left = limit
    while left is None or left > 0:
        most = jobs()
        window = list(islice(source, most if left is None else min(most, left)))
        if not window:
            return
        for outcome in each(is_offered, window, jobs=most):
            if isinstance(outcome.value, NotFound | Untrusted):
                skip(outcome.item, outcome.value)
            elif isinstance(outcome.value, ResolverError):
                raise outcome.value
            elif outcome.value:
                left = None if left is None else left - 1
                yield outcome.item
