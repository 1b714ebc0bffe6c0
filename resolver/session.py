"""Session: the library's front door, with every verb that asks a registry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.answer import Failure, Resolution
from resolver.core.events import Warned
from resolver.core.target import RegistryTarget, StoreTarget
from resolver.errors import ResolverError, Usage
from resolver.flow import resolve as resolving
from resolver.session_mirror import MirrorVerbs
from resolver.session_pull import PullVerbs
from resolver.session_store import StoreVerbs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.core.contents import Inspection, Offers
    from resolver.core.reference import Reference
    from resolver.core.target import Target
    from resolver.wiring import Wanted


class Session(PullVerbs, StoreVerbs, MirrorVerbs):
    """Answers questions about images, and keeps them; one client, one store, one platform table.

    Safe to share between threads. Close it, or use it in a `with` block, to give connections back.

    Args:
        store: folder of the local store; by default the user's cache folder.
        offline: answer from the store alone.
        flags: everything else that a command line can say.
        environment: read instead of `os.environ`, for tests and embedders.
        observe: told of warnings, notes and progress while work goes on.

    """

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

    def tags(self, repository: str | Reference) -> Iterator[str]:
        """List the tags of a repository, page by page, in the registry's order."""
        target = self._target(repository)
        if isinstance(target, StoreTarget):
            raise Usage("the store has names, not tags", "name a repository of a registry")
        if isinstance(target, RegistryTarget) and self.settings.offline:
            raise Usage("tags are not kept in the store", "leave out `--offline`")
        source = self._source(target)
        yield from source.tags()
        for text in source.warnings():
            self._observe(Warned("registry-warning", f"`{target}` says: {text}"))

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


def _words(wish: resolving.Wish | None) -> str | None:
    if wish is None:
        return "all"
    return str(wish.platforms[0]) if wish.explicit else None
