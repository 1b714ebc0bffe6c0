"""The verbs of a session that ask what a name means: resolve, platforms, inspect, tags."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from resolver.core.answer import Failure, Resolution
from resolver.core.events import Warned
from resolver.core.target import LayoutTarget, RegistryTarget, StoreTarget
from resolver.errors import PlatformNotOffered, PlatformUnknown, ResolverError, Usage
from resolver.flow import resolve as resolving
from resolver.flow.reader import Reader
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from resolver.core.content import Source
    from resolver.core.contents import Inspection, Offers
    from resolver.core.reference import Reference
    from resolver.core.target import Target
    from resolver.wiring import Wanted


class AskVerbs(Wiring):
    """Answers questions about names."""

    def resolve(
        self,
        reference: str | Reference,
        platform: Wanted = None,
        *,
        exact: bool = False,
        verify: bool = False,
        strict: bool = False,
        verify_tag: bool = False,
    ) -> Resolution:
        """Find the manifest that a reference means on one platform.

        Args:
            reference: a registry reference, or a local place (`oci:DIR:TAG`).
            platform: `linux/arm64`, `windows/amd64:10.0.20348`, `local`; by default what
                `DOCKER_DEFAULT_PLATFORM` says, else this machine's own.
            exact: refuse fallbacks.
            verify: read the image's own config too, and compare it with the index.
            strict: the same, and a contradiction is an error instead of a warning.
            verify_tag: for `name:tag@digest`, ask whether the tag still points there.

        Raises:
            Malformed: reference or platform cannot be read; nothing was asked of anybody.
            NotFound: no such repository, tag or platform.
            Denied, Unavailable, Untrusted, Offline: see `resolver.errors`.

        """
        wish = self.wish(platform, exact=exact, verify=verify, strict=strict)
        target = self._target(reference)
        reader, warned = self._reader(target)
        asked = self._ask(reader, target, verify_tag=verify_tag)
        found = resolving.resolve(reader, asked, wish, self.table)
        reader.tell_warnings()
        return replace(found, warnings=(*warned, *found.warnings))

    def resolve_each(
        self,
        references: Iterable[str | Reference],
        platforms: Sequence[Wanted] = (None,),
        *,
        exact: bool = False,
        verify: bool = False,
        strict: bool = False,
        verify_tag: bool = False,
    ) -> Iterator[Resolution | Failure]:
        """Resolve many, side by side; answers come in the order of the questions.

        Every reference and platform is read before the first request, so malformed input costs
        nothing. A reference that fails is a `Failure` in its place, and not the end. The platform
        `all` stands for every platform an image offers.

        Raises:
            Malformed: a reference or platform cannot be read.

        """
        targets = [self._target(reference) for reference in references]
        wishes = [
            None
            if platform == "all"
            else self.wish(platform, exact=exact, verify=verify, strict=strict)
            for platform in platforms
        ]
        every = resolving.Wish((), explicit=True, exact=True, verify=verify, strict=strict)

        def answers(target: Target) -> list[Resolution | Failure]:
            return self._answers(target, wishes, every, verify_tag=verify_tag)

        from resolver.flow.batch import each  # noqa: PLC0415 - for many alone

        for outcome in each(answers, targets, jobs=self.settings.jobs):
            if isinstance(outcome.value, ResolverError):
                for wish in wishes:
                    yield Failure(str(outcome.item), _words(wish), outcome.value)
            else:
                yield from outcome.value

    def platforms(self, reference: str | Reference, *, sizes: bool = True) -> Offers:
        """List the platforms an image is offered for; with sizes, each manifest is read once."""
        from resolver.flow.inspect import offers  # noqa: PLC0415 - for this question alone

        target = self._target(reference)
        reader, warned = self._reader(target)
        asked = self._ask(reader, target)
        found = offers(reader, asked, sizes=sizes, jobs=self.settings.jobs)
        reader.tell_warnings()
        return replace(found, warnings=(*found.warnings, *warned))

    def inspect(
        self,
        reference: str | Reference,
        platform: Wanted = None,
        *,
        config: bool = True,
        choose: bool = False,
        exact: bool = False,
        strict: bool = False,
    ) -> Inspection:
        """Read the documents behind a reference; without a platform an index is shown as it is.

        With `choose`, an index is resolved for the default platform where nobody names one.
        """
        from resolver.flow.inspect import inspect  # noqa: PLC0415 - for this question alone

        target = self._target(reference)
        wish = None
        if platform is not None or choose:
            wish = self.wish(platform, exact=exact, verify=config, strict=strict)
        reader, warned = self._reader(target)
        asked = self._ask(reader, target)
        found = inspect(reader, asked, wish, self.table, config=config)
        reader.tell_warnings()
        return replace(found, warnings=(*found.warnings, *warned))

    def tags(  # noqa: PLR0913 - each of them narrows the list by itself
        self,
        repository: str | Reference,
        *,
        platform: Wanted = None,
        exact: bool = False,
        semver: str | None = None,
        suffix: str | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        newest: bool = False,
        limit: int | None = None,
        max_requests: int = 200,
    ) -> Iterator[str]:
        """List the tags of a repository, page by page, in the registry's order.

        Args:
            repository: a tag or digest in it means nothing here.
            platform: only tags that are offered for it, by an image: two requests for each of
                them, and one for others. What was looked at once is kept.
            exact: refuse fallbacks.
            semver: only tags that are versions in this range, see `resolver.core.tag_order`.
            suffix: only tags of this flavour: `-alpine`; builds of it are among them.
            include: only tags that match one of these globs.
            exclude: no tags that match one of these globs.
            newest: in the order of what they say of their age; the whole list is read first.
            limit: stop after so many; what was left out by the others does not count.
            max_requests: for documents, where a platform is asked for.

        Raises:
            Malformed: range, glob or platform cannot be read; nothing was asked of anybody.
            RequestsSpent: `max_requests` do not suffice; what was found has been given.

        """
        from resolver.core.tag_order import chooser, newest_first  # noqa: PLC0415 - as above

        target = self._target(repository)
        wish = None
        if platform is not None:
            wish = replace(self.wish(platform, exact=exact), image=True)
        chosen = chooser(semver=semver, suffix=suffix, include=include, exclude=exclude)
        if isinstance(target, StoreTarget):
            raise Usage("the store has names, not tags", "name a repository of a registry")
        if isinstance(target, RegistryTarget) and self.settings.offline:
            raise Usage("tags are not kept in the store", "leave out `--offline`")
        source = self._source(target)
        found: Iterable[str] = source.tags()
        if chosen is not None:
            found = filter(chosen, found)
        if newest:
            found = _lazily(newest_first, found)
        if wish is not None:
            found = self._offered(target, found, wish, limit, max_requests)
        return self._told(target, source, islice(found, limit))

    def _told(self, target: Target, source: Source, tags: Iterable[str]) -> Iterator[str]:
        """Give tags, and at their end what the place wants people to know."""
        yield from tags
        for text in source.warnings():
            self._observe(Warned("registry-warning", f"`{target}` says: {text}"))

    def _offered(
        self,
        target: Target,
        tags: Iterable[str],
        wish: resolving.Wish,
        limit: int | None,
        most: int,
    ) -> Iterator[str]:
        """Keep the tags that are offered for a platform."""
        from resolver.flow.counted import Allowance, CountedSource  # noqa: PLC0415 - rarely
        from resolver.flow.find_tags import find  # noqa: PLC0415 - rarely

        allowance = Allowance(most)

        def is_offered(tag: str) -> bool:
            one = _tagged(target, tag)
            store = None if isinstance(one, LayoutTarget) else self._store
            counted = CountedSource(self._source(one), allowance)
            reader = Reader(lambda: counted, store, str(one), self._observe)
            resolving.resolve(reader, self._ask(reader, one), wish, self.table)
            return True

        def skip(tag: str, error: ResolverError) -> None:
            if not isinstance(error, PlatformNotOffered | PlatformUnknown):
                self._observe(Warned("tag-skipped", f"the tag `{tag}` was skipped: {error}"))

        def jobs() -> int:
            # No more at once than may be asked, so that the same tags are always the last. A tag
            # that is offered costs two requests: its index, and the manifest of the platform.
            return max(1, min(self.settings.jobs, allowance.left // 2))

        return find(tags, is_offered, limit=limit, jobs=jobs, skip=skip)

    def _answers(
        self,
        target: Target,
        wishes: Sequence[resolving.Wish | None],
        every: resolving.Wish,
        *,
        verify_tag: bool,
    ) -> list[Resolution | Failure]:
        """Answer all wishes for one name; the name itself is read once."""
        reader, warned = self._reader(target)
        asked = self._ask(reader, target, verify_tag=verify_tag)
        expanded: list[resolving.Wish] = []
        for wish in wishes:
            expanded.extend([wish] if wish is not None else self._every(reader, asked, every))
        found: list[Resolution | Failure] = []
        for wish in expanded:
            try:
                one = resolving.resolve(reader, asked, wish, self.table)
            except ResolverError as error:
                found.append(Failure(str(target), _words(wish), error))
            else:
                found.append(replace(one, warnings=(*warned, *one.warnings)))
        reader.tell_warnings()
        return found


def _lazily(order: Callable[[Iterable[str]], list[str]], tags: Iterable[str]) -> Iterator[str]:
    """Ask for the whole list when the first of it is wanted, and not before."""
    yield from order(tags)


def _tagged(target: Target, tag: str) -> Target:
    """Name one tag of a repository, or one entry of a layout."""
    if isinstance(target, LayoutTarget):
        return replace(target, name=tag)
    return RegistryTarget(target.reference.with_tag(tag))


def _words(wish: resolving.Wish | None) -> str | None:
    if wish is None:
        return "all"
    return str(wish.platforms[0]) if wish.explicit else None
