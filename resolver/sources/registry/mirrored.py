"""MirroredSource: one repository behind several endpoints, tried in order.

Content is verified by digest, so any endpoint can serve it; tags are resolved only by endpoints
that are configured for it. A mirror used for one form of reference serves all content of those
images. A failure moves on to the next endpoint at once; only the last one is retried. Credentials
are those of the contacted host, never another's. See docs/wire-protocol.md, "Mirrors".
"""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.registry.endpoints import Ability, used_for
from resolver.core.results.events import Noted, Warned
from resolver.errors import (
    Denied,
    DigestMismatch,
    NotFound,
    RangeRefused,
    RateLimited,
    RegistryBlocked,
    ResolverError,
    SizeMismatch,
    Unavailable,
    Untrusted,
)
from resolver.sources.http.client import PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.core.oci.content import Document, RangeAnswer
    from resolver.core.registry.endpoints import Endpoint
    from resolver.core.results.events import Observer
    from resolver.sources.http.client import Health
    from resolver.sources.registry.repository import RegistrySource

T = TypeVar("T")

#: Errors that move on to the next endpoint; others concern this machine or the request.
_MOVES_ON = (NotFound, Denied, Unavailable, Untrusted)
_WRONG_CONTENT = (DigestMismatch, SizeMismatch)
_PULL, _RESOLVE = frozenset({Ability.PULL}), frozenset({Ability.RESOLVE})
_REFERRERS = frozenset({Ability.REFERRERS})
#: What no endpoint is allowed to serve, and the advice.
_NOT_ALLOWED = {
    _PULL: ("content", ""),
    _RESOLVE: ("tags", "name a digest, or "),
    _REFERRERS: ("referrers", ""),
}
#: Tags of referrers. Source: OCI distribution-spec v1.1.1, "Referrers Tag Schema"; cosign's `.sig`,
#: `.att` and `.sbom` tags.
_REFERRERS_TAG = re.compile(r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{64,128})(?:\.[a-z]{1,16})?")


class MirroredSource:
    """One repository behind several endpoints; safe to share between threads.

    Args:
        configured_by: file or option with the endpoints, for messages.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[RegistrySource],
        health: Health,
        observe: Observer,
        configured_by: str = "",
    ) -> None:
        self._name = name
        self._configured_by = configured_by
        self._sources = tuple(sources)
        self._health = health
        self._observe = observe
        self._lock = threading.Lock()
        self._served: dict[Digest, dict[str, Endpoint]] = {}
        self._given: dict[bool, MirroredSource] = {}

    def given(self, *, by_digest: bool) -> MirroredSource:
        """Return the repository with only the endpoints for references of this form.

        Raises:
            RegistryBlocked: none is left, since the registry itself is blocked.
        """
        used = used_for(tuple(each.endpoint for each in self._sources), by_digest=by_digest)
        if len(used) == len(self._sources):
            return self
        if not used:
            raise RegistryBlocked(self._name, self._configured_by)
        with self._lock:
            found = self._given.get(by_digest)
            if found is None:
                kept = [each for each in self._sources if any(each.endpoint is one for one in used)]
                found = MirroredSource(
                    self._name, kept, self._health, self._observe, self._configured_by
                )
                self._given[by_digest] = found
            return found

    # --- names -----------------------------------------------------------------------------

    def resolve(self, name: str) -> Descriptor:
        """Return the descriptor of a tag or digest; see `RegistrySource.resolve`."""
        ability, digest = _needed(name)
        return self._each(ability, digest, name, lambda source: source.resolve(name))

    def document(self, name: str) -> Document:
        """Return the document of a tag or digest; see `RegistrySource.document`.

        The content is requested by digest if an endpoint may only resolve tags.
        """
        ability, digest = _needed(name)

        def ask(source: RegistrySource) -> Document | Descriptor:
            if Ability.PULL in source.endpoint.abilities:
                return source.document(name)
            return source.resolve(name)

        found = self._each(ability, digest, name, ask)
        return self.document(str(found.digest)) if isinstance(found, Descriptor) else found

    def tags(self) -> Iterator[str]:
        """List the tags of the first working endpoint that may resolve tags."""

        def begin(source: RegistrySource) -> Iterator[str]:
            tags = source.tags()
            # Request the first page now, while another endpoint can still be chosen.
            return chain(list(islice(tags, 1)), tags)

        return self._each(_RESOLVE, None, "the list of tags", begin)

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List the referrers of a manifest; see `RegistrySource.referrers`.

        Only endpoints configured for referrers are used, since a list cannot be verified.
        """
        return self._each(
            _REFERRERS,
            None,
            f"the referrers of {digest}",
            lambda source: source.referrers(digest, artifact_type),
        )

    def referrers_by_api(self, digest: Digest) -> tuple[Descriptor, ...] | None:
        """List referrers by the API alone; see `RegistrySource.referrers_by_api`."""
        return self._each(
            _REFERRERS,
            None,
            f"the referrers of {digest}",
            lambda source: source.referrers_by_api(digest),
        )

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings of all endpoints, each once."""
        return tuple(dict.fromkeys(text for source in self._sources for text in source.warnings()))

    # --- content ---------------------------------------------------------------------------

    def has(self, descriptor: Descriptor) -> bool:
        """Whether an endpoint has the content; a mirror without it is not conclusive."""

        def look(source: RegistrySource) -> bool:
            if source.has(descriptor):
                return True
            raise _Lacks(f"`{source.endpoint.host}` has no `{descriptor.digest}`")

        try:
            return self._each(_PULL, descriptor.digest, str(descriptor.digest), look)
        except _Lacks:
            return False

    def size(self, digest: Digest) -> int:
        """Return the size of a blob; see `RegistrySource.size`."""
        return self._each(_PULL, digest, str(digest), lambda source: source.size(digest))

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document; see `RegistrySource.read`."""
        digest = descriptor.digest
        return self._each(_PULL, digest, str(digest), lambda each: each.read(descriptor))

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content; see `RegistrySource.open`."""
        with self.open_range(descriptor, 0, descriptor.size) as answer:
            yield map(bytes, answer.chunks)

    @contextmanager
    def open_range(self, descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        """Stream a range of a blob; see `RegistrySource.open_range`.

        After an interruption, or `distrust` of wrong bytes, the next call uses the next endpoint.
        """
        digest = descriptor.digest
        opened: list[Endpoint] = []
        try:
            with ExitStack() as stack:

                def enter(source: RegistrySource) -> RangeAnswer:
                    answer = stack.enter_context(source.open_range(descriptor, start, end))
                    opened.append(source.endpoint)
                    return answer

                answer = self._each(_PULL, digest, str(digest), enter)
                with self._lock:
                    self._served.setdefault(digest, {})[opened[0].url] = opened[0]
                yield answer
        except (Unavailable, *_WRONG_CONTENT) as error:
            if opened and opened[0] is not self._sources[-1].endpoint:
                self._failed(opened[0], error, digest)
            raise

    @contextmanager
    def open_elsewhere(self, descriptor: Descriptor, url: str) -> Iterator[RangeAnswer]:
        """Stream a blob from a URL of its descriptor; see `RegistrySource.open_elsewhere`."""
        with self._sources[-1].open_elsewhere(descriptor, url) as answer:
            yield answer

    def distrust(self, digest: Digest) -> bool:
        """Record that the bytes of a digest were wrong; return whether to try other endpoints.

        The mirrors that served them are not used for this digest again.
        """
        with self._lock:
            served = self._served.pop(digest, {})
        last = self._sources[-1].endpoint
        mirrors = [endpoint for endpoint in served.values() if endpoint is not last]
        for endpoint in mirrors:
            self._report_wrong_content(endpoint, digest)
        return bool(mirrors)

    # --- how -------------------------------------------------------------------------------

    def _each(
        self,
        abilities: frozenset[Ability],
        digest: Digest | None,
        what: str,
        work: Callable[[RegistrySource], T],
    ) -> T:
        """Try the endpoints with one of the abilities in order; raise the error of the last."""
        able = [source for source in self._sources if abilities & source.endpoint.abilities]
        if not able:
            meaning, advice = _NOT_ALLOWED.get(abilities, _NOT_ALLOWED[_RESOLVE])
            raise Unavailable(
                f"no endpoint of `{self._name}` is configured to serve {meaning}",
                f"{advice}allow it where the mirrors are configured",
                code="nobody-to-ask",
            )
        failures: list[tuple[str, ResolverError]] = []
        for source in able:
            endpoint, is_last = source.endpoint, source is able[-1]
            if not is_last and not self._health.may_ask(endpoint, digest):
                continue
            try:
                result = work(source)
            except _MOVES_ON as error:
                if is_last:
                    error.attach(failures)
                    raise
                failures.append((endpoint.host, error))
                self._failed(endpoint, error, digest)
            else:
                self._observe(Noted(f"`{endpoint.host}` gave `{what}` of `{self._name}`"))
                return result
        raise AssertionError  # the last endpoint is always tried

    def _failed(self, endpoint: Endpoint, error: ResolverError, digest: Digest | None) -> None:
        """Record the failure of a mirror, and warn if it matters to the user."""
        if isinstance(error, _WRONG_CONTENT) and digest is not None:
            self._report_wrong_content(endpoint, digest)
        elif isinstance(error, Unavailable) and not isinstance(error, RangeRefused):
            wait = error.retry_after if isinstance(error, RateLimited) else None
            if self._health.pause(endpoint, max(wait or 0.0, PAUSE)):
                self._warn("mirror-unusable", f"mirror `{endpoint.host}` is skipped: {error}")
        elif isinstance(error, Untrusted):
            self._warn("mirror-untrusted", f"mirror `{endpoint.host}` cannot be used: {error}")
        else:
            self._observe(Noted(f"mirror `{endpoint.host}`: {error}"))

    def _report_wrong_content(self, endpoint: Endpoint, digest: Digest) -> None:
        if self._health.report_wrong_content(endpoint, digest):
            self._warn(
                "mirror-lied",
                f"mirror `{endpoint.host}` sent other bytes for `{digest}`; they are discarded, "
                "and the next endpoint is used",
            )

    def _warn(self, code: str, message: str) -> None:
        self._observe(Warned(code, message))


class _Lacks(NotFound):
    """An endpoint does not have the content."""


def _needed(name: str) -> tuple[frozenset[Ability], Digest | None]:
    """Return the abilities of which an endpoint needs one to answer a name."""
    if ":" in name:
        return _PULL, Digest.parse(name)
    return (_RESOLVE | _REFERRERS if _REFERRERS_TAG.fullmatch(name) else _RESOLVE), None
