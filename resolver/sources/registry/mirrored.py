"""MirroredSource: one repository, asked for at several endpoints in turn (protocol.md 13).

Whatever an endpoint gives for a digest is verified, so any may be asked; for what a tag means only
those are asked that somebody trusts with it. A mirror that is used for one form of reference alone
gives, for that form, everything that belongs to the image too. What fails at one endpoint is asked
of the next, at once: only the last one is tried again and waited for. Credentials are those of the
host that is asked, and never another's.
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
from resolver.sources.http.client import REST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.core.oci.content import Document, RangeAnswer
    from resolver.core.registry.endpoints import Endpoint
    from resolver.core.results.pull_events import Observer
    from resolver.sources.http.client import Health
    from resolver.sources.registry.repository import RegistrySource

T = TypeVar("T")

#: What moves on to the next endpoint; anything else is about this machine, or the question.
_MOVES_ON = (NotFound, Denied, Unavailable, Untrusted)
_LIES = (DigestMismatch, SizeMismatch)
_PULL, _RESOLVE = frozenset({Ability.PULL}), frozenset({Ability.RESOLVE})
_REFERRERS = frozenset({Ability.REFERRERS})
#: What nobody may be asked for, and what can be done instead.
_NOBODY = {
    _PULL: ("content", ""),
    _RESOLVE: ("what a tag means", "name a digest, or "),
    _REFERRERS: ("what refers to a manifest", ""),
}
#: Tags in which clients keep what refers to a digest. Source: OCI distribution-spec v1.1.1,
#: "Referrers Tag Schema"; cosign's `.sig`, `.att` and `.sbom` tags.
_REFERRERS_TAG = re.compile(r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{64,128})(?:\.[a-z]{1,16})?")


class MirroredSource:
    """One repository behind several endpoints; safe to share between threads.

    Args:
        name: the logical name, for messages.
        sources: one per endpoint, in the order in which they are asked; the last one counts.
        health: shared by all repositories of a run.
        observe: is told who answered, and who did not.
        said_by: the file or option that names the endpoints, for messages.

    """

    def __init__(
        self,
        name: str,
        sources: Sequence[RegistrySource],
        health: Health,
        observe: Observer,
        said_by: str = "",
    ) -> None:
        self._name = name
        self._said_by = said_by
        self._sources = tuple(sources)
        self._health = health
        self._observe = observe
        self._lock = threading.Lock()
        self._gave: dict[Digest, dict[str, Endpoint]] = {}
        self._given: dict[bool, MirroredSource] = {}

    def given(self, *, by_digest: bool) -> MirroredSource:
        """Give the same repository without the endpoints that are not used for such references.

        Raises:
            RegistryBlocked: none is left, as the registry itself is blocked.

        """
        used = used_for(tuple(each.endpoint for each in self._sources), by_digest=by_digest)
        if len(used) == len(self._sources):
            return self
        if not used:
            raise RegistryBlocked(self._name, self._said_by)
        with self._lock:
            found = self._given.get(by_digest)
            if found is None:
                kept = [each for each in self._sources if any(each.endpoint is one for one in used)]
                found = MirroredSource(self._name, kept, self._health, self._observe, self._said_by)
                self._given[by_digest] = found
            return found

    # --- names -----------------------------------------------------------------------------

    def resolve(self, name: str) -> Descriptor:
        """Turn a tag or a digest into a descriptor; see `RegistrySource.resolve`."""
        ability, digest = _needed(name)
        return self._each(ability, digest, name, lambda source: source.resolve(name))

    def document(self, name: str) -> Document:
        """Read what a tag or a digest points at; see `RegistrySource.document`.

        An endpoint that may say what a tag means, and give nothing, is asked for the digest alone.
        """
        ability, digest = _needed(name)

        def ask(source: RegistrySource) -> Document | Descriptor:
            if Ability.PULL in source.endpoint.abilities:
                return source.document(name)
            return source.resolve(name)

        found = self._each(ability, digest, name, ask)
        return self.document(str(found.digest)) if isinstance(found, Descriptor) else found

    def tags(self) -> Iterator[str]:
        """List the tags, of the first endpoint that may say what they are and does."""

        def begin(source: RegistrySource) -> Iterator[str]:
            tags = source.tags()
            # The first page is asked for now, while another endpoint can still be chosen.
            return chain(list(islice(tags, 1)), tags)

        return self._each(_RESOLVE, None, "the list of tags", begin)

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List what speaks about a document; see `RegistrySource.referrers`.

        Only those are asked that may say so: a list is no content that could be checked.
        """
        return self._each(
            _REFERRERS,
            None,
            f"what refers to {digest}",
            lambda source: source.referrers(digest, artifact_type),
        )

    def warnings(self) -> tuple[str, ...]:
        """Give what the endpoints want people to know, each text once."""
        return tuple(dict.fromkeys(text for source in self._sources for text in source.warnings()))

    # --- content ---------------------------------------------------------------------------

    def has(self, descriptor: Descriptor) -> bool:
        """Say whether an endpoint holds the content; a mirror that lacks it proves nothing."""

        def look(source: RegistrySource) -> bool:
            if source.has(descriptor):
                return True
            raise _Lacks(f"`{source.endpoint.host}` has no `{descriptor.digest}`")

        try:
            return self._each(_PULL, descriptor.digest, str(descriptor.digest), look)
        except _Lacks:
            return False

    def size(self, digest: Digest) -> int:
        """Say how long a blob is; see `RegistrySource.size`."""
        return self._each(_PULL, digest, str(digest), lambda source: source.size(digest))

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a document whole; see `RegistrySource.read`."""
        digest = descriptor.digest
        return self._each(_PULL, digest, str(digest), lambda each: each.read(descriptor))

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content; see `RegistrySource.open`."""
        with self.open_range(descriptor, 0, descriptor.size) as answer:
            yield answer.chunks

    @contextmanager
    def open_range(self, descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        """Stream a part of a blob; see `RegistrySource.open_range`.

        What breaks off is asked of the next endpoint by the next call, and so is, after
        `distrust`, what turned out to be wrong.
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
                    self._gave.setdefault(digest, {})[opened[0].url] = opened[0]
                yield answer
        except (Unavailable, *_LIES) as error:
            if opened and opened[0] is not self._sources[-1].endpoint:
                self._failed(opened[0], error, digest)
            raise

    @contextmanager
    def open_elsewhere(self, descriptor: Descriptor, url: str) -> Iterator[RangeAnswer]:
        """Stream a blob from a URL of its descriptor; see `RegistrySource.open_elsewhere`."""
        with self._sources[-1].open_elsewhere(descriptor, url) as answer:
            yield answer

    def distrust(self, digest: Digest) -> bool:
        """Hear that what was given for a digest is not it; say whether others can be asked.

        Whoever took part in it is not asked for it again, the last endpoint aside.
        """
        with self._lock:
            gave = self._gave.pop(digest, {})
        last = self._sources[-1].endpoint
        mirrors = [endpoint for endpoint in gave.values() if endpoint is not last]
        for endpoint in mirrors:
            self._tell_of_lie(endpoint, digest)
        return bool(mirrors)

    # --- how -------------------------------------------------------------------------------

    def _each(
        self,
        abilities: frozenset[Ability],
        digest: Digest | None,
        what: str,
        work: Callable[[RegistrySource], T],
    ) -> T:
        """Ask those with one of the abilities in turn; the failure of the last is the answer."""
        able = [source for source in self._sources if abilities & source.endpoint.abilities]
        if not able:
            meaning, advice = _NOBODY.get(abilities, _NOBODY[_RESOLVE])
            raise Unavailable(
                f"no endpoint of `{self._name}` may be asked for {meaning}",
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
        raise AssertionError  # the last endpoint is always asked

    def _failed(self, endpoint: Endpoint, error: ResolverError, digest: Digest | None) -> None:
        """Note that a mirror did not do, and say so where a person should know."""
        if isinstance(error, _LIES) and digest is not None:
            self._tell_of_lie(endpoint, digest)
        elif isinstance(error, Unavailable) and not isinstance(error, RangeRefused):
            wait = error.retry_after if isinstance(error, RateLimited) else None
            if self._health.rest(endpoint, max(wait or 0.0, REST)):
                self._warn("mirror-unusable", f"mirror `{endpoint.host}` is left out: {error}")
        elif isinstance(error, Untrusted):
            self._warn("mirror-untrusted", f"mirror `{endpoint.host}` cannot be used: {error}")
        else:
            self._observe(Noted(f"mirror `{endpoint.host}`: {error}"))

    def _tell_of_lie(self, endpoint: Endpoint, digest: Digest) -> None:
        if self._health.lied(endpoint, digest):
            self._warn(
                "mirror-lied",
                f"mirror `{endpoint.host}` gave other bytes for `{digest}`; they are thrown away, "
                "and the next place is asked",
            )

    def _warn(self, code: str, message: str) -> None:
        self._observe(Warned(code, message))


class _Lacks(NotFound):
    """An endpoint does not hold it."""


def _needed(name: str) -> tuple[frozenset[Ability], Digest | None]:
    """Say which abilities let an endpoint answer a name; any one of them will do."""
    if ":" in name:
        return _PULL, Digest.parse(name)
    return (_RESOLVE | _REFERRERS if _REFERRERS_TAG.fullmatch(name) else _RESOLVE), None
