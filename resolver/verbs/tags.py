"""List tags, and find those offered for a platform with as few requests as possible."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from resolver.core.oci.target import LayoutTarget, RegistryTarget, StoreTarget
from resolver.core.results.events import Warned
from resolver.errors import (
    Negative,
    NotFound,
    PlatformNotOffered,
    PlatformUnknown,
    ResolverError,
    Untrusted,
    Usage,
)
from resolver.verbs.documents import DocumentReader, PlatformRequest
from resolver.verbs.resolve import resolve_document
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from resolver.core.oci.content import Document, Source
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.reference import Reference
    from resolver.core.oci.target import Target
    from resolver.verbs.context import Context, PlatformLike


def find(
    tags: Iterable[str],
    is_offered: Callable[[str], bool],
    *,
    limit: int | None,
    jobs: Callable[[], int],
    skip: Callable[[str, ResolverError], None],
) -> Iterator[str]:
    """Yield the tags that are offered, in order, and stop after the last requested one.

    Never more tags are checked in parallel than are still missing, so that no request follows the
    last hit.

    `limit` is the number of hits, None for all. `skip` is called for a tag that is gone, is not an
    image, or cannot be trusted; the search goes on.
    """
    source = iter(tags)
    left = limit
    while left is None or left > 0:
        most = jobs()
        window = list(islice(source, most if left is None else min(most, left)))
        if not window:
            return
        for outcome in parallel(is_offered, window, jobs=most):
            if isinstance(outcome.value, NotFound | Untrusted):
                skip(outcome.item, outcome.value)
            elif isinstance(outcome.value, ResolverError):
                raise outcome.value
            elif outcome.value:
                left = None if left is None else left - 1
                yield outcome.item


class RequestBudget:
    """A budget of requests, shared by threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._spent = 0

    @property
    def left(self) -> int:
        """The number of requests left."""
        return self._most - self._spent

    def take(self) -> None:
        """Take one request, or raise `Negative`."""
        with self._lock:
            if self._spent >= self._most:
                raise Negative(
                    f"the answer is not complete after {self._most} requests (`--max-requests`)",
                    "raise the limit, or narrow the search with `--limit` or `--semver`",
                    code="requests-spent",
                    most=self._most,
                )
            self._spent += 1


class CountedSource:
    """Wraps a source, and counts every request for one document; lists are not counted."""

    def __init__(self, source: Source, allowance: RequestBudget) -> None:
        self._source = source
        self._allowance = allowance

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the content exists."""
        self._allowance.take()
        return self._source.has(descriptor)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Stream the content."""
        self._allowance.take()
        return self._source.open(descriptor)

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a document."""
        self._allowance.take()
        return self._source.read(descriptor)

    def resolve(self, name: str) -> Descriptor:
        """Resolve a name."""
        self._allowance.take()
        return self._source.resolve(name)

    def document(self, name: str) -> Document:
        """Read what a name points at."""
        self._allowance.take()
        return self._source.document(name)

    def tags(self) -> Iterator[str]:
        """List the names there are."""
        return self._source.tags()

    def warnings(self) -> tuple[str, ...]:
        """Return the source's warnings."""
        return self._source.warnings()


def tags(  # noqa: PLR0913 - each of them narrows the list by itself
    context: Context,
    repository: str | Reference,
    *,
    platform: PlatformLike = None,
    exact: bool = False,
    semver: str | None = None,
    suffix: str | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    newest: bool = False,
    limit: int | None = None,
    max_requests: int = 200,
) -> Iterator[str]:
    """List the tags of a repository, page by page, in the registry's order."""
    from resolver.core.registry.tags import chooser, newest_first  # noqa: PLC0415 - as above

    target = context.target(repository)
    request = None
    if platform is not None:
        request = replace(context.platform_request(platform, exact=exact), image=True)
    chosen = chooser(semver=semver, suffix=suffix, include=include, exclude=exclude)
    if isinstance(target, StoreTarget):
        raise Usage("the store has names, not tags", "name a repository of a registry")
    if isinstance(target, RegistryTarget) and context.settings.offline:
        raise Usage("tags are not kept in the store", "leave out `--offline`")
    source = context.source(target)
    found: Iterable[str] = source.tags()
    if chosen is not None:
        found = filter(chosen, found)
    if newest:
        found = _lazily(newest_first, found)
    if request is not None:
        found = _offered(context, target, found, request, limit, max_requests)
    return _told(context, target, source, islice(found, limit))


def _told(context: Context, target: Target, source: Source, tags: Iterable[str]) -> Iterator[str]:
    """Yield tags, and pass on the source's warnings at their end."""
    yield from tags
    for text in source.warnings():
        context.observe(Warned("registry-warning", f"`{target}` says: {text}"))


def _offered(
    context: Context,
    target: Target,
    tags: Iterable[str],
    request: PlatformRequest,
    limit: int | None,
    most: int,
) -> Iterator[str]:
    allowance = RequestBudget(most)

    def is_offered(tag: str) -> bool:
        one = _tagged(target, tag)
        store = None if isinstance(one, LayoutTarget) else context.store
        counted = CountedSource(context.source(one), allowance)
        reader = DocumentReader(lambda: counted, store, str(one), context.observe)
        resolve_document(reader, context.read_root(reader, one), request, context.table)
        return True

    def skip(tag: str, error: ResolverError) -> None:
        if not isinstance(error, PlatformNotOffered | PlatformUnknown):
            context.observe(Warned("tag-skipped", f"the tag `{tag}` was skipped: {error}"))

    def jobs() -> int:
        # Not more at a time than the budget allows, so that the result is reproducible. A tag that
        # is offered costs two requests: its index, and the manifest of the platform.
        return max(1, min(context.settings.batch_jobs, allowance.left // 2))

    return find(tags, is_offered, limit=limit, jobs=jobs, skip=skip)


def _lazily(order: Callable[[Iterable[str]], list[str]], tags: Iterable[str]) -> Iterator[str]:
    """Fetch the whole list when its first tag is requested, and not before."""
    yield from order(tags)


def _tagged(target: Target, tag: str) -> Target:
    if isinstance(target, LayoutTarget):
        return replace(target, name=tag)
    return RegistryTarget(target.reference.with_tag(tag))
