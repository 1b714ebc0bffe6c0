"""Wiring: settings, table, store, transport and sources put together, once per session."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

from resolver.core.descriptor import EntryKind
from resolver.core.events import Event, Observer, Warned, ignore
from resolver.core.manifest import Index
from resolver.core.platform import BUILTIN, Platform
from resolver.core.reference import Reference
from resolver.core.target import LayoutTarget, RegistryTarget, StoreTarget, parse_target
from resolver.errors import ImageNotHeld, InvalidPlatform, NotFound
from resolver.flow import resolve as resolving
from resolver.flow.reader import Reader
from resolver.settings import Flags, Settings
from resolver.store import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from resolver.core.content import Source
    from resolver.core.descriptor import Descriptor
    from resolver.core.gathered import Gathered
    from resolver.core.hosts import HostChoice
    from resolver.core.platform import PlatformTable
    from resolver.core.target import Target
    from resolver.flow.gather import Depth
    from resolver.flow.layer import LayerContent
    from resolver.sources.hosts import Hosts
    from resolver.sources.transport import Transport

Wanted = str | Platform | None
#: Repositories that are kept open.
_MAX_SOURCES = 4_096


class Opened(NamedTuple):
    """A name whose own document is here, and where the rest of it is read."""

    target: Target
    reader: Reader
    asked: resolving.Asked
    warned: list[Warned]


class Wiring:
    """Holds one client, one store and one table of platforms; what it takes, `Session` says."""

    def __init__(
        self,
        store: str | Path | None = None,
        *,
        offline: bool | None = None,
        flags: Flags | None = None,
        environment: Mapping[str, str] | None = None,
        observe: Observer = ignore,
    ) -> None:
        given = flags or Flags()
        if store is not None:
            given = replace(given, store=str(store))
        if offline is not None:
            given = replace(given, offline=offline)
        self.settings = Settings.load(given, environment)
        self.table: PlatformTable = _table(self.settings.platforms_file)
        self._observe = observe
        self._store = LocalStore(
            self.settings.store,
            fsync=self.settings.fsync,
            lock=self.settings.lock,
            observe=observe,
        )
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._hosts: Hosts | None = None
        self._may_block: bool | None = None
        self._sources: dict[tuple[str, str], Source] = {}
        self._trusted_hosts: set[str] = set()
        self._via = ""
        self._clean: Callable[[str], str] = str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give connections back."""
        with self._lock:
            transport, self._transport = self._transport, None
            self._sources.clear()
        if transport is not None:
            transport.close()

    def clean(self, text: str) -> str:
        """Take out of a text every secret that this session has learned."""
        return self._clean(text)

    def wish(
        self,
        platform: Wanted,
        *,
        exact: bool = False,
        verify: bool = False,
        strict: bool = False,
    ) -> resolving.Wish:
        """Turn what somebody asked for, or nothing, into a list of acceptable platforms.

        Raises:
            InvalidPlatform: the text is no platform.

        """
        chosen = platform if platform is not None else self.settings.platform
        explicit = chosen is not None
        if isinstance(chosen, Platform):
            platforms: tuple[Platform, ...] = (chosen,)
        else:
            platforms = self._read_wish(chosen)
        return resolving.Wish(platforms, explicit, exact, verify, strict, local=chosen == "local")

    def _read_wish(self, chosen: str | None) -> tuple[Platform, ...]:
        """Read a wish; one that a variable says is refused with the variable's name."""
        try:
            if chosen is None or chosen == "local" or "/" not in chosen:
                return self._by_machine(chosen)
            return (Platform.parse(chosen, table=self.table),)
        except InvalidPlatform as error:
            variable = self.settings.platform_named_by
            if not variable or error.text != self.settings.platform:
                raise
            hint = f"the variable `{variable}` says so: mend it, or name one with `-p`"
            raise InvalidPlatform(error.text, error.reason, hint) from error

    def _by_machine(self, chosen: str | None) -> tuple[Platform, ...]:
        """Read a wish that depends on this machine: none, `local`, or half a platform."""
        from resolver import platforms  # noqa: PLC0415 - most wishes are whole

        if chosen is None:
            return platforms.default_platforms(platforms.host_platform())
        if chosen == "local":
            return platforms.default_platforms(platforms.local_platform())
        return (Platform.parse(chosen, host=platforms.host_platform(), table=self.table),)

    def _every(
        self, reader: Reader, asked: resolving.Asked, every: resolving.Wish
    ) -> list[resolving.Wish]:
        """One exact wish for each image that an index lists, in index order.

        Entries that name no platform are asked for their configs, as `resolve` asks them.

        Raises:
            NotFound: the index lists no image.
        """
        if not isinstance(asked.parsed, Index):
            return [self.wish(None)]
        from resolver.flow.gather import gather_platforms  # noqa: PLC0415 - for this question

        known = gather_platforms(reader, asked, self.table, jobs=1)
        # One that cannot be verified is wanted too, and refused where it is looked at.
        closed = (part for part in known.parts if not part.descriptor.digest.is_verifiable)
        others = {part.path for part in closed if part.kind in {EntryKind.IMAGE, EntryKind.INDEX}}
        wanted = {part.path for part in known.images} | others
        images = [part for part in known.parts if part.path in wanted]
        for part in images:
            if part.platform is None and part.failure is not None:
                raise part.failure
        wishes = {
            (part.platform, part.descriptor.digest): replace(
                every, platforms=(part.platform,), entry=part.descriptor.digest
            )
            for part in images
            if part.platform is not None
        }
        if not wishes:
            raise NotFound(f"`{asked.text}` is offered for no platform at all")
        return list(wishes.values())

    def _gather(
        self,
        reference: str | Reference,
        depth: Depth,
        wanted: Callable[[Descriptor], bool] = lambda _entry: True,
    ) -> Gathered:
        """Read every build of an image, or those wanted; see `resolver.flow.gather`.

        Raises:
            ResolverError: what the name points at cannot be read; of one entry, see `Part.failure`.
        """
        return self._gather_from(self._open(reference), depth, wanted)

    def _open(self, reference: str | Reference) -> Opened:
        """Read what a name points at, and no further.

        Raises:
            ResolverError: it cannot be read.
        """
        target = self._target(reference)
        reader, warned = self._reader(target)
        return Opened(target, reader, self._ask(reader, target), warned)

    def _gather_from(
        self, opened: Opened, depth: Depth, wanted: Callable[[Descriptor], bool]
    ) -> Gathered:
        """Read the builds behind a name that was opened."""
        from resolver.flow.gather import gather  # noqa: PLC0415 - for few questions

        jobs = self.settings.jobs
        found = gather(opened.reader, opened.asked, depth, jobs=jobs, wanted=wanted)
        opened.reader.tell_warnings()
        return replace(found, warnings=(*found.warnings, *opened.warned))

    @contextmanager
    def _layers_of(self, target: Target, purpose: str) -> Iterator[LayerContent]:
        """Give what streams the layers of an image for as long as a block lasts.

        Those of a registry come into the store first, verified, and are read from there; what a
        local place or the store has is read where it is.

        Args:
            target: where the image lies.
            purpose: what a person is told who wants to remove one of them meanwhile.

        Raises:
            StoreFault: the store cannot be written.
        """
        from resolver.flow.files import Held, fetching  # noqa: PLC0415 - for few questions

        if isinstance(target, LayoutTarget):
            yield self._source(target)
        elif self.settings.offline or isinstance(target, StoreTarget):
            yield Held(self._store, str(target))
        else:
            source = partial(self._source, target)
            with fetching(self._store, source, purpose, self._observe) as content:
                yield content

    def _target(self, reference: str | Reference) -> Target:
        target = (
            parse_target(reference) if isinstance(reference, str) else RegistryTarget(reference)
        )
        if isinstance(target, RegistryTarget):
            target.reference.check_endpoint()
            self._refuse_blocked(target.reference)
            with self._lock:
                self._trusted_hosts.add(target.reference.registry)
        elif isinstance(target, LayoutTarget):
            from resolver.sources import settle  # noqa: PLC0415 - only for local places

            return settle(target)
        return target

    def _ask(self, reader: Reader, target: Target, *, verify_tag: bool = False) -> resolving.Asked:
        if isinstance(target, LayoutTarget):
            return resolving.ask_local(reader, str(target), target.name or "")
        if isinstance(target, StoreTarget):
            return self._ask_store(reader, target.reference)
        return resolving.ask(reader, target.reference, verify_tag=verify_tag)

    def _ask_store(self, reader: Reader, reference: Reference) -> resolving.Asked:
        """Read what was pulled, whatever a later look at the registry saw; else what was seen.

        Raises:
            ImageNotHeld: neither.

        """
        text = str(reference)
        known = self._store.pulled(text) or self._store.recall(text)
        if known is None and reference.digest is None:
            raise ImageNotHeld(text, str(self._store.root))
        pinned = reference if known is None else reference.with_digest(known.root.digest)
        return replace(resolving.ask(reader, pinned), text=text)

    def _reader(self, target: Target) -> tuple[Reader, list[Warned]]:
        """Make a reader for one question; what it warns of also belongs into the answer."""
        warned: list[Warned] = []

        def observe(event: Event) -> None:
            if isinstance(event, Warned):
                warned.append(event)
            self._observe(event)

        if isinstance(target, LayoutTarget):
            return Reader(lambda: self._source(target), None, str(target), observe), warned
        offline = self.settings.offline or isinstance(target, StoreTarget)
        opener: Callable[[], Source] | None = None if offline else lambda: self._source(target)
        return Reader(opener, self._store, str(target.reference), observe), warned

    def _source(self, target: Target, *, whole: bool = False) -> Source:
        """Open a place; `whole` with the mirrors for every form of reference."""
        if isinstance(target, LayoutTarget):
            from resolver.sources import open_local  # noqa: PLC0415 - only for local places

            return open_local(target)
        from resolver.sources import as_given, open_registry  # noqa: PLC0415 - not for local places

        registry, repository = target.reference.registry, target.reference.repository
        with self._lock:
            source = self._sources.get((registry, repository))
            if source is None:
                source = open_registry(self._client(), target.reference, self._hosts_read())
                self._sources[registry, repository] = source
                if len(self._sources) > _MAX_SOURCES:
                    # A mirror runs for weeks, and its clients choose the names.
                    self._sources.pop(next(iter(self._sources)))
        return source if whole else as_given(source, target.reference)

    def endpoints(self, reference: str | Reference) -> HostChoice:
        """Say where a repository would be asked for, in order, and which file decides.

        Nothing is asked of anybody.

        Raises:
            Malformed: it is no reference of a registry, or a file that decides cannot be used.

        """
        parsed = Reference.parse(reference) if isinstance(reference, str) else reference
        with self._lock:
            hosts = self._hosts_read()
        return hosts.choose(parsed.registry, parsed.repository)

    def _refuse_blocked(self, reference: Reference) -> None:
        """Refuse what the user's configuration forbids, also where the store could answer.

        Raises:
            RegistryBlocked: it is forbidden.
            InvalidConfiguration: a file that may forbid something cannot be used.

        """
        from resolver.sources.conf_files import (  # noqa: PLC0415 - small, and not for layouts
            SYSTEM,
            configuration_files,
            may_block,
        )

        with self._lock:
            if self._may_block is None:
                settings = self.settings
                files = configuration_files(settings.environment, settings.home, SYSTEM)
                self._may_block = may_block(files)
            hosts = self._hosts_read() if self._may_block else None
        if hosts is not None:
            by_digest = reference.digest is not None
            hosts.open(reference.registry, reference.repository, by_digest=by_digest)

    def _hosts_read(self) -> Hosts:
        """Give what knows where registries are asked; called with the lock held."""
        if self._hosts is None:
            from resolver.sources import open_hosts  # noqa: PLC0415 - not for what is held

            self._hosts = open_hosts(self.settings, self._observe)
        return self._hosts

    def _client(self) -> Transport:
        """Build the transport on the first need; called with the lock held."""
        if self._transport is None:
            from resolver.sources import open_transport  # noqa: PLC0415 - loads httpx

            hosts = frozenset(self._trusted_hosts)
            self._transport = open_transport(self.settings, hosts, self._observe, self._via)
            # Kept beyond the transport's own end: messages about that end need it.
            self._clean = self._transport.redactor.clean
        return self._transport


def _table(extension: Path | None) -> PlatformTable:
    if extension is None:
        return BUILTIN
    from resolver.platforms import load_table  # noqa: PLC0415 - with a file of one's own alone

    return load_table(extension)
