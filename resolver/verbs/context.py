"""Build what the verbs share: settings, platform table, store, client and sources."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from resolver.core.oci.descriptor import EntryKind
from resolver.core.oci.manifest import Index
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import (
    LayoutTarget,
    RegistryTarget,
    StoreTarget,
    check_custom_prefix,
    parse_target,
)
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.core.results.events import Event, Observer, Warned, ignore
from resolver.errors import ImageNotHeld, InvalidPlatform, NotFound, ResolverError, Usage
from resolver.settings import Flags, Settings
from resolver.store import LocalStore, NameRecord
from resolver.verbs.documents import (
    DocumentReader,
    PlatformRequest,
    RootDocument,
    read_local_root,
    read_root,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import httpx

    from resolver.core.oci.content import Source
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.image import ImageDocuments
    from resolver.core.oci.target import Target
    from resolver.core.platforms.platform import PlatformTable
    from resolver.sources.http.client import Transport
    from resolver.sources.http.messages import SharedLimits
    from resolver.sources.mirrors.hosts import Hosts
    from resolver.sources.registry.upload import PushHost
    from resolver.sources.tier import Tier
    from resolver.verbs.gather import Depth
    from resolver.verbs.layers import LayerContent
    from resolver.verbs.threads import KeptResults, Outcome

PlatformLike = str | Platform | None
NameLike = str | Reference
#: One or many; text is parsed.
PlatformsLike = PlatformLike | Iterable[PlatformLike]
NamesLike = NameLike | Iterable[NameLike]
Item = TypeVar("Item")
Found = TypeVar("Found")
#: Repositories that are kept open.
_MAX_SOURCES = 4_096


class Opened(NamedTuple):
    """A name whose own document is here, and where the rest of it is read."""

    target: Target
    reader: DocumentReader
    root: RootDocument
    warned: list[Warned]


class Context:
    """The state of one session that every verb takes as its first argument.

    It owns one HTTP client, one store and one platform table, opens repositories and local places
    on first use, and is safe to share between threads. `Session` documents the constructor's
    arguments.

    Attributes:
        observe: receives warnings, notes and progress.
        mutex: guards `trusted_hosts`, `client` and `hosts`.
        trusted_hosts: registries named by the user, which may have private addresses.
        via: the `Via` header of a mirror's requests; empty for none.
        shared: limits that other processes share, for a worker of a fleet.
        results: answers of earlier runs, and where those of this one are written.
        push_hosts: what `copy --sync` has learned about registries that it pushes to.
    """

    def __init__(  # noqa: PLR0913 - each has a default and a name
        self,
        store: str | Path | None = None,
        *,
        offline: bool | None = None,
        flags: Flags | None = None,
        environment: Mapping[str, str] | None = None,
        observe: Observer = ignore,
        sources: Mapping[str, Callable[[str], Source]] | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        self._custom = dict(sources or {})
        for prefix in self._custom:
            check_custom_prefix(prefix)
        given = flags or Flags()
        if store is not None:
            given = replace(given, store=str(store))
        if offline is not None:
            given = replace(given, offline=offline)
        self.settings = Settings.load(given, environment)
        self.table: PlatformTable = _table(self.settings.platforms_file)
        self.observe = observe
        self.store = LocalStore(
            self.settings.store,
            fsync=self.settings.fsync,
            lock=self.settings.lock,
            shared=self.settings.shared_store,
            observe=observe,
        )
        self.mutex = threading.Lock()
        self._http_client = http_client
        self._transport: Transport | None = None
        self._hosts: Hosts | None = None
        self._tier: Tier | None = None
        self._tier_known = False
        self._may_block: bool | None = None
        self._sources: dict[tuple[str, str], Source] = {}
        self.trusted_hosts: set[str] = set()
        self.via = ""
        self.shared: SharedLimits | None = None
        self.results: KeptResults | None = None
        self.push_hosts: dict[str, PushHost] = {}
        self._clean: Callable[[str], str] = str

    def close(self) -> None:
        """Close every connection."""
        with self.mutex:
            transport, self._transport = self._transport, None
            self._sources.clear()
        if transport is not None:
            transport.close()

    def clean(self, text: str) -> str:
        """Take out of a text every secret that this session has learned."""
        return self._clean(text)

    def platform_request(
        self,
        platform: PlatformLike,
        *,
        exact: bool = False,
        verify: bool = False,
        strict: bool = False,
    ) -> PlatformRequest:
        """Parse a platform, or the default one, into the list of acceptable platforms."""
        chosen = platform if platform is not None else self.settings.platform
        explicit = chosen is not None
        if isinstance(chosen, Platform):
            platforms: tuple[Platform, ...] = (chosen,)
        else:
            platforms = self._parse_platform(chosen)
        return PlatformRequest(
            platforms, explicit, exact, verify, strict,
            local=chosen == "local", prefer=self.settings.prefer,
        )  # fmt: skip

    def _parse_platform(self, chosen: str | None) -> tuple[Platform, ...]:
        """Parse a platform; an error in one set by a variable names the variable."""
        try:
            if chosen is None or chosen == "local" or "/" not in chosen:
                return self._host_platforms(chosen)
            return (Platform.parse(chosen, table=self.table),)
        except InvalidPlatform as error:
            variable = self.settings.platform_named_by
            if not variable or error.text != self.settings.platform:
                raise
            hint = f"the variable `{variable}` sets it: fix it, or name a platform with `-p`"
            raise InvalidPlatform(error.text, error.reason, hint) from error

    def _host_platforms(self, chosen: str | None) -> tuple[Platform, ...]:
        """Parse a platform that depends on this machine: none, `local`, or a partial one."""
        from resolver.files import platforms  # noqa: PLC0415 - most platforms are complete

        if chosen is None:
            return platforms.default_platforms(platforms.host_platform())
        if chosen == "local":
            return platforms.default_platforms(platforms.local_platform())
        return (Platform.parse(chosen, host=platforms.host_platform(), table=self.table),)

    def every_platform(
        self, reader: DocumentReader, root: RootDocument, every: PlatformRequest
    ) -> list[PlatformRequest]:
        """Return one exact request for each image that an index lists, in index order.

        Entries without a platform are identified by their configs, as in `resolve`.
        """
        if not isinstance(root.parsed, Index):
            return [self.platform_request(None)]
        from resolver.verbs.gather import gather_platforms  # noqa: PLC0415 - for this question

        known = gather_platforms(reader, root, self.table, jobs=1)
        # An unverifiable entry is kept too: resolving it raises the error.
        closed = (entry for entry in known.parts if not entry.descriptor.digest.is_verifiable)
        others = {
            entry.path for entry in closed if entry.kind in {EntryKind.IMAGE, EntryKind.INDEX}
        }
        wanted = {entry.path for entry in known.images} | others
        images = [entry for entry in known.parts if entry.path in wanted]
        for entry in images:
            if entry.platform is None and entry.failure is not None:
                raise entry.failure
        requests = {
            (entry.platform, entry.descriptor.digest): replace(
                every, platforms=(entry.platform,), entry=entry.descriptor.digest
            )
            for entry in images
            if entry.platform is not None
        }
        if not requests:
            raise NotFound(f"`{root.text}` offers no platform")
        return list(requests.values())

    def each(
        self, do: Callable[[Item], Found], items: Sequence[Item], what: str
    ) -> Iterator[Outcome[Item, Found]]:
        """Do something in parallel, as `parallel` does, and report how many are done."""
        from resolver.core.results.events import Counted  # noqa: PLC0415 - for several alone
        from resolver.verbs.threads import parallel  # noqa: PLC0415

        failed = 0
        for done, outcome in enumerate(parallel(do, items, jobs=self.settings.batch_jobs), 1):
            failed += isinstance(outcome.value, ResolverError)
            if len(items) > 1:
                self.observe(Counted(what, done, len(items), "images", failed))
            yield outcome

    def name(self, reference: str | Reference) -> str:
        """Return the name of a reference in an answer: as typed if it is malformed.

        Call it for every reference of a batch before any of them is read: the HTTP client has to
        know all their hosts when it is made.
        """
        try:
            return str(self.target(reference))
        except ResolverError:
            return str(reference)

    def open(self, reference: str | Reference) -> Opened:
        """Read what a name points at, and no further."""
        target = self.target(reference)
        reader, warned = self.reader(target)
        return Opened(target, reader, self.read_root(reader, target), warned)

    def gather(
        self,
        opened: Opened,
        depth: Depth,
        wanted: Callable[[Descriptor], bool] = lambda _entry: True,
    ) -> ImageDocuments:
        """Read the builds behind a name that was opened."""
        from resolver.verbs.gather import gather  # noqa: PLC0415

        jobs = self.settings.jobs
        found = gather(opened.reader, opened.root, depth, jobs=jobs, wanted=wanted)
        opened.reader.report_warnings()
        return replace(found, warnings=(*found.warnings, *opened.warned))

    @contextmanager
    def layers_of(
        self, opened: Opened, purpose: str, brought: list[Descriptor]
    ) -> Iterator[LayerContent]:
        """Yield the content that the layers of an image are read from.

        Layers in a registry are first fetched into the store and verified; layers in a local place
        or the store are read in place.
        """
        from resolver.verbs.layers import HeldLayers, fetching  # noqa: PLC0415

        target = opened.target
        if isinstance(target, LayoutTarget):
            yield self.source(target)
        elif self.settings.offline or isinstance(target, StoreTarget):
            yield HeldLayers(self.store, str(target))
        else:
            reference = target.reference

            def fetched(layer: Descriptor) -> None:
                if not brought:
                    # By digest, so that `ls` shows what was read even after the tag has moved.
                    root = opened.root.document.descriptor
                    pinned = str(reference.with_digest(root.digest))
                    self.store.try_remember(NameRecord(pinned, root), self.observe)
                brought.append(layer)

            source = partial(self.source, target)
            with fetching(self.store, source, purpose, self.observe, fetched=fetched) as content:
                yield content

    def report_fetched_layers(self, *layers: list[Descriptor]) -> None:
        """Report once how many layers in the store no pulled image needs."""
        sizes = {layer.digest: layer.size for brought in layers for layer in brought}
        if sizes:
            from resolver.core.results.pull_events import Brought  # noqa: PLC0415 - rarely needed

            self.observe(Brought(len(sizes), sum(sizes.values())))

    def parse(self, text: str) -> Target:
        """Parse the text of a reference, with the prefixes of this session's own sources."""
        return parse_target(text, self._custom)

    def target(self, reference: str | Reference) -> Target:
        """Read a reference, and refuse one that the configuration blocks."""
        target = self.parse(reference) if isinstance(reference, str) else RegistryTarget(reference)
        if isinstance(target, RegistryTarget):
            target.reference.check_endpoint()
            self._refuse_blocked(target.reference)
            with self.mutex:
                self.trusted_hosts.add(target.reference.registry)
        elif isinstance(target, LayoutTarget) and target.kind not in self._custom:
            from resolver.sources import settle  # noqa: PLC0415 - only for local places

            return settle(target)
        return target

    def read_root(
        self, reader: DocumentReader, target: Target, *, verify_tag: bool = False
    ) -> RootDocument:
        """Read the document that a target names."""
        if isinstance(target, LayoutTarget):
            return read_local_root(reader, str(target), target.name or "")
        if isinstance(target, StoreTarget):
            return self._read_stored_root(reader, target.reference)
        return read_root(reader, target.reference, verify_tag=verify_tag)

    def _read_stored_root(self, reader: DocumentReader, reference: Reference) -> RootDocument:
        """Read what was pulled, whatever a later look at the registry saw; else what was seen."""
        text = str(reference)
        known = self.store.pulled(text) or self.store.recall(text)
        if known is None and reference.digest is None:
            raise ImageNotHeld(text, str(self.store.root))
        pinned = reference if known is None else reference.with_digest(known.root.digest)
        return replace(read_root(reader, pinned), text=text)

    def reader(
        self, target: Target, *, tiered: bool = False
    ) -> tuple[DocumentReader, list[Warned]]:
        """Make a reader for one question; what it warns of also belongs into the answer."""
        warned: list[Warned] = []

        def observe(event: Event) -> None:
            if isinstance(event, Warned):
                warned.append(event)
            self.observe(event)

        if isinstance(target, LayoutTarget):
            return DocumentReader(lambda: self.source(target), None, str(target), observe), warned
        offline = self.settings.offline or isinstance(target, StoreTarget)
        opener: Callable[[], Source] | None = None if offline else lambda: self.source(target)
        tier = self.tier if tiered else lambda: None
        return DocumentReader(opener, self.store, str(target.reference), observe, tier), warned

    def tier(self) -> Tier | None:
        """Return the tier of this session, opened on first use; None without one, or offline.

        Raises:
            Usage: its URL cannot be used, obstore is not installed, or `--tier-write` has no tier.
        """
        if self.settings.offline:
            return None
        with self.mutex:
            if not self._tier_known:
                url = self.settings.tier or self.hosts().tier()
                if url:
                    from resolver.sources.tier import Tier  # noqa: PLC0415 - where one is configured

                    settings = self.settings
                    self._tier = Tier(
                        url, settings.environment, self.observe, writes=settings.tier_write
                    )
                elif self.settings.tier_write:
                    raise Usage(
                        "`--tier-write` has no tier to write to",
                        "name one with `--tier s3://BUCKET/PREFIX`",
                    )
                self._tier_known = True
            return self._tier

    def source(self, target: Target, *, whole: bool = False) -> Source:
        """Open a place; `whole` with the mirrors for every form of reference."""
        if isinstance(target, LayoutTarget):
            if target.kind in self._custom:
                return self._custom[target.kind](target.path)
            return self._local(target)
        from resolver.sources import as_given, open_registry  # noqa: PLC0415 - not for local places

        registry, repository = target.reference.registry, target.reference.repository
        with self.mutex:
            source = self._sources.get((registry, repository))
            if source is None:
                source = open_registry(self.client(registry), target.reference, self.hosts())
                self._sources[registry, repository] = source
                if len(self._sources) > _MAX_SOURCES:
                    # A mirror runs for weeks, and its clients choose the names.
                    self._sources.pop(next(iter(self._sources)))
        return source if whole else as_given(source, target.reference)

    def _local(self, target: LayoutTarget) -> Source:
        """Open a local place; an engine saves an image once per session, since that is slow."""
        from resolver.sources import open_local  # noqa: PLC0415 - only for local places

        if not target.is_engine:
            return open_local(target)
        key = (target.kind, target.path)
        with self.mutex:
            if key not in self._sources:
                self._sources[key] = open_local(target, self.settings.environment)
            return self._sources[key]

    def _refuse_blocked(self, reference: Reference) -> None:
        """Refuse what the user's configuration forbids, also where the store could answer."""
        from resolver.sources.mirrors.files import (  # noqa: PLC0415 - small, and not for layouts
            SYSTEM,
            configuration_files,
            may_block,
        )

        with self.mutex:
            if self._may_block is None:
                settings = self.settings
                files = configuration_files(settings.environment, settings.home, SYSTEM)
                self._may_block = may_block(files)
            hosts = self.hosts() if self._may_block else None
        if hosts is not None:
            by_digest = reference.digest is not None
            hosts.open(reference.registry, reference.repository, by_digest=by_digest)

    def hosts(self) -> Hosts:
        """Return the endpoint configuration; the caller holds `mutex`."""
        if self._hosts is None:
            from resolver.sources import open_hosts  # noqa: PLC0415 - not for what is held

            self._hosts = open_hosts(self.settings, self.observe)
        return self._hosts

    def client(self, registry: str = "") -> Transport:
        """Build the transport on the first need, for this registry; called with the lock held."""
        if self._transport is None:
            from resolver.sources import open_transport  # noqa: PLC0415 - not for what is held

            hosts = frozenset(self.trusted_hosts)
            self._transport = open_transport(
                self.settings,
                hosts,
                self.observe,
                via=self.via,
                client=self._http_client,
                schemes=self.store,
                shared=self.shared,
                registry=registry,
            )
            # Kept beyond the transport's own end: messages about that end need it.
            self._clean = self._transport.redactor.clean
        return self._transport


def one_or_many(given: NamesLike) -> tuple[NameLike, ...]:
    """Return one or many references as a tuple."""
    return (given,) if isinstance(given, str | Reference) else tuple(given)


def each_platform(given: PlatformsLike) -> tuple[PlatformLike, ...]:
    """Return one or many platforms as a tuple; None alone is no platform."""
    if given is None:
        return ()
    return (given,) if isinstance(given, str | Platform) else tuple(given)


def _table(extension: Path | None) -> PlatformTable:
    if extension is None:
        return BUILTIN
    from resolver.files.platforms import load_table  # noqa: PLC0415

    return load_table(extension)
