"""Copy images to registries and layouts: only what they lack, and tags last.

A plan lists what an image consists of and what each destination has of it; a copy carries that plan
out. Blobs stream from the source to the destinations as they arrive. Documents follow once all
blobs are there, children first, then referrers, and a tag is set at the very end, so that no tag
ever names something incomplete (docs/store-and-reliability.md, "Copies").
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from resolver.clock import SystemClock
from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.core.oci.manifest import Manifest, parse_document
from resolver.core.oci.target import LayoutTarget, RegistryTarget, parse_target
from resolver.core.results.copy import (
    Copied,
    CopiedTarget,
    CopyEntry,
    CopyPlan,
    CopyState,
    CopyTarget,
    over_limit,
    plan_pieces,
    refuse_other,
)
from resolver.core.results.events import Noted
from resolver.core.results.plan import ImageContent
from resolver.core.results.resolve import Failure
from resolver.errors import (
    DigestMismatch,
    ResolverError,
    SizeMismatch,
    StoreFault,
    Untrusted,
    Usage,
)
from resolver.verbs.copy_blobs import BlobBody, BlobReader, SharedRead
from resolver.verbs.copy_source import (
    CopyOptions,
    CopySource,
    bare,
    copy_entry,
    find_referrers,
    read_extent,
)
from resolver.verbs.threads import DaemonPool, parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from resolver.clock import Clock
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.reference import Reference
    from resolver.core.results.copy import CopyPiece
    from resolver.sources.registry.upload import PushHost, RegistryDestination, Width
    from resolver.sources.tier import Tier
    from resolver.verbs.context import Context
    from resolver.verbs.copy_source import CopyExtent
    from resolver.verbs.export.layout import LayoutWriter

#: Blobs at once.
_BLOBS: Final = 8
_GRACE: Final = 1.0


# --- the destinations ----------------------------------------------------------------------


class CopyDestination(Protocol):
    """A place that images are copied to."""

    name: str
    tag: str
    repository: tuple[str, str]
    writes: Width | None

    def current(self, tag: str) -> Descriptor | None:
        """Return what a tag names now."""
        ...

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob is there."""
        ...

    def send(self, blob: Descriptor, body: BlobBody, mount: str) -> bool:
        """Bring a blob there; return whether it was mounted."""
        ...

    def put(
        self, document: Descriptor, body: bytes, tag: str = "", *, sparse: bool = False
    ) -> bool:
        """Put a document; return whether it is listed as a referrer of its subject."""
        ...

    def refer(self, entry: CopyEntry) -> None:
        """List a referrer that the destination does not list by itself."""
        ...

    def finish(self, root: Descriptor, referrers: Sequence[CopyEntry]) -> None:
        """Make everything visible that is not yet."""
        ...


class _ToRegistry:
    """A repository as a destination."""

    def __init__(self, name: str, reference: Reference, repository: RegistryDestination) -> None:
        self.name = name
        self.tag = reference.tag or ("" if reference.digest is not None else reference.name)
        self.repository = (reference.registry, reference.repository)
        self._repository = repository
        self.writes: Width | None = repository.writes
        self.current = repository.current
        self.has = repository.has_blob
        self.send = repository.send

    def put(
        self, document: Descriptor, body: bytes, tag: str = "", *, sparse: bool = False
    ) -> bool:
        return self._repository.put(document, body, tag, sparse=sparse)

    def refer(self, entry: CopyEntry) -> None:
        if entry.about is not None and entry.listed is not None:
            self._repository.add_referrer(entry.about, entry.listed)

    def finish(self, root: Descriptor, referrers: Sequence[CopyEntry]) -> None:
        del root, referrers


class _ToLayout:
    """A layout in a folder as a destination; its index.json is written last."""

    def __init__(self, name: str, tag: str, writer: LayoutWriter) -> None:
        self.name = name
        self.tag = tag
        self.repository = ("", "")
        self.writes: Width | None = None
        self._writer = writer
        self.current = writer.current
        self.has = writer.has

    def send(self, blob: Descriptor, body: BlobBody, mount: str) -> bool:
        del mount
        self._writer.add(blob, body.read(0, blob.size))
        return False

    def put(
        self, document: Descriptor, body: bytes, tag: str = "", *, sparse: bool = False
    ) -> bool:
        del sparse, tag
        self._writer.add(document, iter((body,)))
        return True

    def refer(self, entry: CopyEntry) -> None:
        del entry

    def finish(self, root: Descriptor, referrers: Sequence[CopyEntry]) -> None:
        listed = [one for one in referrers if one.about is not None]
        self._writer.name(self.tag, root, [(one.tag, one.listed or one.manifest) for one in listed])


class Destinations:
    """Opens destinations; one instance knows what its registries take."""

    def __init__(
        self,
        context: Context,
        clock: Clock | None = None,
        hosts: dict[str, PushHost] | None = None,
    ) -> None:
        self._context = context
        self._clock = clock or SystemClock()
        self._hosts = {} if hosts is None else hosts

    def open(self, text: str) -> CopyDestination:
        """Open a destination: a repository, with a tag or a digest, or `oci:DIR[:TAG]`.

        Raises:
            Usage: nothing can be copied there.
            RegistryBlocked: the configuration blocks it.
        """
        target = parse_target(text)
        if isinstance(target, LayoutTarget) and target.kind == "oci":
            return self._layout(text, target)
        if not isinstance(target, RegistryTarget):
            raise Usage(
                f"`{text}` cannot be a destination",
                "name an image in a registry, or an OCI layout: `oci:DIR:TAG`",
            )
        context, reference = self._context, target.reference
        if context.settings.offline:
            raise Usage(f"`{text}` cannot be pushed to with `--offline`", "leave it out")
        context.target(reference)
        return _ToRegistry(text, reference, self.repository(reference))

    def repository(self, reference: Reference) -> RegistryDestination:
        """Open a repository to push to: the registry itself, never a mirror."""
        from resolver.sources.registry.upload import PushHost, RegistryDestination  # noqa: PLC0415

        context = self._context
        with context.mutex:
            transport, hosts = context.client(), context.hosts()
            host = self._hosts.setdefault(reference.registry, PushHost())
        choice = hosts.open(reference.registry, reference.repository)
        return RegistryDestination(
            transport,
            reference.registry,
            reference.repository,
            context.observe,
            endpoint=choice.endpoints[-1],
            host=host,
            sessions=_Sessions(context),
            clock=self._clock,
        )

    def _layout(self, text: str, target: LayoutTarget) -> CopyDestination:
        from resolver.sources import settle  # noqa: PLC0415 - for layouts
        from resolver.verbs.export.layout import LayoutWriter  # noqa: PLC0415 - likewise

        target = settle(target)
        name = target.name or ""
        if name.partition(":")[0] in HEX_DIGITS:
            raise Usage(f"`{text}` names a digest", "name a tag: `oci:DIR:TAG`")
        return _ToLayout(text, name, LayoutWriter(target.path, sync=self._context.settings.fsync))


class _Sessions:
    """Upload sessions in the store; without a store that can be written there are none."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def find(self, name: str) -> str | None:
        try:
            record = self._context.store.pushes.get(name)
        except StoreFault:
            return None
        return record.target if record is not None else None

    def record(self, name: str, target: str) -> None:
        from resolver.store.names import UploadRecord  # noqa: PLC0415 - for large blobs

        try:
            self._context.store.pushes.put(UploadRecord(name, target))
        except StoreFault as error:
            self._context.observe(Noted(f"an upload could not be recorded: {error}"))

    def drop(self, name: str) -> None:
        try:
            self._context.store.pushes.drop(name)
        except StoreFault as error:
            self._context.observe(Noted(f"the record of an upload was not removed: {error}"))


# --- plan ----------------------------------------------------------------------------------


def plan_copy(
    context: Context,
    source: str,
    destinations: Sequence[str],
    options: CopyOptions,
    opened: Destinations | None = None,
) -> CopyPlan:
    """List what an image consists of, and what each destination has of it; nothing is written.

    Raises:
        Negative: `options.expect` is not what a tag names.
        Usage: a destination cannot be written to, or options contradict each other.
        ResolverError: the source or a destination cannot be read.
    """
    if options.sparse and not options.platforms:
        raise Usage("`--sparse` without a platform leaves nothing out", "name one with `-p`")
    places = opened or Destinations(context)
    targets = [places.open(text) for text in dict.fromkeys(destinations)]
    return _Planner(context, CopySource(context, source), options).plan(targets)


class _Planner:
    """One call of `plan_copy`."""

    def __init__(self, context: Context, source: CopySource, options: CopyOptions) -> None:
        self._context = context
        self._source = source
        self._options = options
        self._jobs = context.settings.jobs
        self._referrers: list[CopyEntry] = []
        self._uncovered: tuple[Descriptor, ...] = ()

    def plan(self, destinations: Sequence[CopyDestination]) -> CopyPlan:
        """Plan for all destinations; the source is read at most once."""
        options, source = self._options, self._source
        before = [self._current(destination) for destination in destinations]
        for destination, known in zip(destinations, before, strict=True):
            refusal = refuse_other(destination.name, known, options.expect)
            if refusal is not None:
                raise refusal
        if not options.platforms and not options.refresh_referrers:
            # One HEAD at each side shows that nothing is to be done: a tag is set last.
            done = [self._unneeded(known) for known in before]
            if all(done):
                there = next(each for each in before if each is not None)
                there = replace(there, digest=source.digest()) if not options.if_absent else there
                targets = [
                    CopyTarget(each.name, each.tag, known, done=why, looks=1)
                    for each, known, why in zip(destinations, before, done, strict=True)
                ]
                return CopyPlan(str(source.target), there, there, (), (), tuple(targets))
        extent = self._read()
        for destination in destinations:
            _refuse_other_digest(destination, extent.root)
        targets = [
            self._target(destination, known, extent)
            for destination, known in zip(destinations, before, strict=True)
        ]
        root = source.root()
        source.reader.report_warnings()
        return CopyPlan(
            str(source.target),
            bare(root.document.descriptor),
            extent.root,
            extent.entries,
            tuple(self._referrers),
            tuple(targets),
            extent.left_out,
            self._uncovered,
            source.reader.bodies,
            sparse=not extent.whole,
            expect=options.expect,
        )

    def _current(self, destination: CopyDestination) -> Descriptor | None:
        return destination.current(destination.tag) if destination.tag else None

    def _unneeded(self, before: Descriptor | None) -> str:
        """Return why a destination needs nothing; empty if it may."""
        if before is None:
            return ""
        if self._options.if_absent:
            return "exists"
        digest = self._source.digest()
        same = before.digest == digest
        if not same and before.digest.algorithm != digest.algorithm:
            # A registry may name the same bytes by another algorithm.
            body = self._source.root().document.body
            same = Digest.of(body, before.digest.algorithm) == before.digest
        return "up to date" if same else ""

    def _read(self) -> CopyExtent:
        extent = read_extent(self._context, self._source, self._options)
        if self._options.referrers:
            subjects = [entry.manifest.digest for entry in extent.entries]
            subjects += [index.digest for index in extent.indexes]
            self._referrers = find_referrers(self._context, self._source, dict.fromkeys(subjects))
        original = self._source.root().document.descriptor.digest
        if original != extent.root.digest:
            lost = find_referrers(self._context, self._source, [original])
            self._uncovered = tuple(
                one.listed or one.manifest for one in lost if one.about == original
            )
        return extent

    def _target(
        self, destination: CopyDestination, before: Descriptor | None, extent: CopyExtent
    ) -> CopyTarget:
        done = ""
        if before is not None and self._options.if_absent:
            done = "exists"
        elif before is not None and before.digest == extent.root.digest:
            done = "up to date"
        if done and (done == "exists" or not self._options.refresh_referrers):
            return CopyTarget(destination.name, destination.tag, before, done=done, looks=1)
        own = [content for entry in extent.entries for content in entry.contents]
        own += [ImageContent(index, "index") for index in extent.indexes]
        further = [content for entry in self._referrers for content in entry.contents]
        present = {content.descriptor.digest for content in own} if done else set()
        blobs = [each for each in (*own, *further) if each.role in {"layer", "config"}]
        documents = [each for each in (*own, *further) if each.role not in {"layer", "config"}]
        once = {each.descriptor.digest: each.descriptor for each in blobs}
        mounts = self._mounts(destination, once)
        asked = [each for each in once.values() if each.digest not in {*mounts, *present}]
        for outcome in parallel(destination.has, asked, jobs=self._jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            if outcome.value:
                present.add(outcome.item.digest)
        return CopyTarget(
            destination.name,
            "" if done else destination.tag,
            before,
            plan_pieces([*blobs, *documents], present, mounts),
            done="" if self._referrers or not done else done,
            looks=len(asked) + bool(destination.tag),
        )

    def _mounts(self, destination: CopyDestination, blobs: Iterable[Digest]) -> dict[Digest, str]:
        registry, repository = self._source.repository
        if not registry or destination.repository[0] != registry:
            return {}
        if destination.repository[1] == repository:
            return {}
        return dict.fromkeys(blobs, repository)


def _refuse_other_digest(destination: CopyDestination, root: Descriptor) -> None:
    """Refuse a destination by digest that the copy would not have."""
    target = parse_target(destination.name)
    if isinstance(target, RegistryTarget) and target.reference.digest not in (None, root.digest):
        raise Usage(
            f"`{destination.name}` names a digest, but the copy is `{root.digest}`",
            "leave the digest out, or name the image with that digest as the source",
        )


# --- carry out -----------------------------------------------------------------------------


def copy(  # noqa: PLR0913 - each is one thing that a caller decides
    context: Context,
    source: str | CopyPlan,
    destinations: Sequence[str] = (),
    options: CopyOptions = CopyOptions(),  # noqa: B008 - frozen
    *,
    keep: bool = False,
    max_upload: int | None = None,
    opened: Destinations | None = None,
    clock: Clock | None = None,
) -> Copied:
    """Carry out a plan, or make one and carry it out.

    Args:
        context: of the session.
        source: a plan, or what to copy.
        destinations: where to, without a plan.
        options: what to copy, without a plan.
        keep: also pull the image into the store.
        max_upload: most bytes to send to all destinations.
        opened: knows the registries; None to open them anew.
        clock: for retries.

    Raises:
        Negative: more would be sent than allowed, or a tag is not what was expected.
        ResolverError: no destination is complete; see `Copied.failures` for one of several.
    """
    places = opened or Destinations(context, clock)
    plan = source
    if not isinstance(plan, CopyPlan):
        plan = plan_copy(context, str(source), destinations, options, places)
    refusal = over_limit((plan,), max_upload)
    if refusal is not None:
        raise refusal
    if keep:
        from resolver.verbs.pull import pull  # noqa: PLC0415 - for `--keep`

        images = [entry.platform for entry in plan.entries if entry.kind == "image"]
        named = images if plan.left_out else ["all"]
        pull(context, plan.source, named, referrers=bool(plan.referrers))
    return execute(context, plan, CopySource(context, plan.source), places, clock)


def execute(
    context: Context,
    plan: CopyPlan,
    source: CopySource,
    places: Destinations,
    clock: Clock | None = None,
    *,
    is_part: bool = False,
) -> Copied:
    """Send what a plan lists; see `copy`. `is_part`: it is listed by something else later."""
    work = [
        _Sending(plan, target, places, is_part=is_part)
        for target in plan.targets
        if not target.done
    ]
    finished = [CopiedTarget(target) for target in plan.targets if target.done]
    if work:
        repository = "/".join(source.repository)
        reader = BlobReader(context, source.content(), clock, repository)
        pool = DaemonPool(max(1, _BLOBS // len(work)), "resolver-copy")
        try:
            _send_blobs(work, reader, pool)
            for each in work:
                each.send_documents(pool)
        except BaseException as error:
            if not isinstance(error, Exception):
                context.close()
            raise
        finally:
            reader.close()
            pool.close(_GRACE)
    failures = tuple(
        Failure(each.target.name, (), each.failure) for each in work if each.failure is not None
    )
    finished += [each.result() for each in work if each.failure is None]
    if failures and not finished:
        raise failures[0].error
    order = {target.name: at for at, target in enumerate(plan.targets)}
    finished.sort(key=lambda each: order[each.target.name])
    return Copied(plan, tuple(finished), failures)


class _Sending:
    """One destination of a running copy.

    Attributes:
        failure: why it will not be complete; the others go on.
    """

    def __init__(
        self, plan: CopyPlan, target: CopyTarget, places: Destinations, *, is_part: bool
    ) -> None:
        self._is_part = is_part
        self.plan = plan
        self.target = target
        self.destination = places.open(target.name)
        self.failure: ResolverError | None = None
        self._lock = threading.Lock()
        self._sent = self._mounted = self._bytes = 0

    def wanted(self) -> list[CopyPiece]:
        """Return the blobs to bring."""
        return [
            piece
            for piece in self.target.pieces
            if piece.state is not CopyState.PRESENT and piece.role in {"layer", "config"}
        ]

    def bring(self, piece: CopyPiece, body: BlobBody) -> Untrusted | None:
        """Bring one blob, unless this destination has failed already; return why it was wrong."""
        if self.failure is not None:
            return None
        try:
            mounted = self.destination.send(piece.descriptor, body, piece.mount)
        except (DigestMismatch, SizeMismatch) as error:
            return error
        except ResolverError as error:
            self.fail(error)
            return None
        finally:
            body.close()
        with self._lock:
            self._mounted += mounted
            self._sent += not mounted
            self._bytes += body.sent
        return None

    def fail(self, error: ResolverError) -> None:
        """Keep the first failure."""
        with self._lock:
            self.failure = self.failure or error

    def send_documents(self, pool: DaemonPool) -> None:
        """Put documents, children first, then referrers, and set the tag."""
        if self.failure is not None:
            return
        try:
            self._documents(pool)
        except ResolverError as error:
            self.fail(error)

    def _documents(self, pool: DaemonPool) -> None:
        plan = self.plan
        bodies = plan.documents or {}
        referring = {entry.manifest.digest: entry for entry in plan.referrers}
        pieces = [piece for piece in self.target.pieces if piece.state is not CopyState.PRESENT]
        manifests = [
            piece.descriptor
            for piece in pieces
            if piece.role == "manifest" and piece.descriptor.digest not in referring
        ]
        leaves = [
            pool.submit(partial(self.destination.put, one, bodies[one.digest])) for one in manifests
        ]
        unlisted = [one for one, put in zip(manifests, leaves, strict=True) if not put.result()]
        for piece in pieces:
            one = piece.descriptor
            if piece.role == "index" and one.digest not in referring:
                sparse = plan.sparse
                if not self.destination.put(one, bodies[one.digest], sparse=sparse):
                    unlisted.append(one)
        self._sent += sum(piece.role in {"manifest", "index"} for piece in pieces)
        for one in unlisted:
            subject = _as_referrer(one, bodies[one.digest])
            if subject is not None:
                self.destination.refer(subject)
        self._send_referrers(bodies)
        if self.target.tag:
            self._set_tag(bodies[plan.root.digest])
        if not self._is_part:
            self.destination.finish(plan.root, plan.referrers)

    def _send_referrers(self, bodies: Mapping[Digest, bytes]) -> None:
        """Put what refers to the image, and set the tags that cosign uses."""
        for entry in self.plan.referrers:
            if not self.destination.put(entry.manifest, bodies[entry.manifest.digest]):
                self.destination.refer(entry)
        for entry in self.plan.referrers:
            if entry.tag and not self._names(entry.tag, entry.manifest):
                self.destination.put(entry.manifest, bodies[entry.manifest.digest], entry.tag)

    def _set_tag(self, body: bytes) -> None:
        """Set the tag, now that everything below it is there."""
        plan, tag = self.plan, self.target.tag
        if plan.expect:
            # Registries have no conditional requests: another writer may come in between.
            refusal = refuse_other(self.target.name, self.destination.current(tag), plan.expect)
            if refusal is not None:
                raise refusal
        self.destination.put(plan.root, body, tag, sparse=plan.sparse)

    def _names(self, tag: str, manifest: Descriptor) -> bool:
        now = self.destination.current(tag)
        return now is not None and now.digest == manifest.digest

    def result(self) -> CopiedTarget:
        """Return what was done."""
        present = sum(piece.state is CopyState.PRESENT for piece in self.target.pieces)
        return CopiedTarget(self.target, self._sent, self._mounted, present, self._bytes)


def _as_referrer(descriptor: Descriptor, body: bytes) -> CopyEntry | None:
    """Return a document of the index that has a subject, to be listed under its fallback tag."""
    what = f"`{descriptor.digest}`"
    parsed = parse_document(body, descriptor.media_type, what, descriptor.media_type)
    if parsed.subject is None:
        return None
    if isinstance(parsed, Manifest):
        return copy_entry(parsed, descriptor, about=parsed.subject.digest, referrer=True)
    listed = replace(descriptor, artifact_type=parsed.artifact_type, annotations=parsed.annotations)
    return CopyEntry("index", descriptor, (), None, parsed.subject.digest, "", listed)


def _send_blobs(work: Sequence[_Sending], reader: BlobReader, pool: DaemonPool) -> None:
    """Send the missing blobs, the largest first; each is read once for all destinations."""
    wanted: dict[Digest, list[tuple[_Sending, CopyPiece]]] = {}
    for each in work:
        for piece in each.wanted():
            wanted.setdefault(piece.descriptor.digest, []).append((each, piece))
    jobs = sorted(wanted.values(), key=lambda one: -one[0][1].descriptor.size)
    futures = [pool.submit(partial(_send_one, one, reader)) for one in jobs]
    for future in futures:
        future.result()


def _send_one(needed: Sequence[tuple[_Sending, CopyPiece]], reader: BlobReader) -> None:
    blob = needed[0][1].descriptor

    def open_at(start: int) -> AbstractContextManager[Iterator[bytes]]:
        return reader.open_at(blob, start)

    # One turn for each registry, and always in the same order: destinations that share a read wait
    # for each other, and must not wait for another blob's turn meanwhile.
    places = {one.destination.repository[0]: one.destination.writes for one, _ in needed}
    with ExitStack() as turns:
        for _, writes in sorted(places.items(), key=lambda each: each[0]):
            if writes is not None:
                turns.enter_context(writes.request())
        # What may be mounted is not read at all.
        is_read = not any(piece.mount for _, piece in needed)
        tier = reader.tier_to_write(blob) if is_read else None
        left = _send_to_all(blob, needed, open_at, tier)
        while left and reader.distrust(blob):
            # Those that have got it need it no more.
            left = _send_to_all(blob, [(one, piece) for one, piece, _ in left], open_at)
        for sending, _, error in left:
            sending.fail(error)


def _send_to_all(
    blob: Descriptor,
    needed: Sequence[tuple[_Sending, CopyPiece]],
    open_at: Callable[[int], AbstractContextManager[Iterator[bytes]]],
    tier: Tier | None = None,
) -> list[tuple[_Sending, CopyPiece, Untrusted]]:
    """Send a blob to destinations, and write it to a tier; list those that got wrong bytes."""
    wrong: list[tuple[_Sending, CopyPiece, Untrusted]] = []
    if len(needed) == 1 and tier is None:
        sending, piece = needed[0]
        error = sending.bring(piece, BlobBody(blob, open_at))
        return [] if error is None else [(sending, piece, error)]
    readers = len(needed) + (tier is not None)
    shared = SharedRead(open_at, readers)
    defects: list[Exception] = []

    def bring(at: int) -> None:
        try:
            if at < len(needed):
                sending, piece = needed[at]
                error = sending.bring(piece, BlobBody(blob, shared.opener(at)))
                if error is not None:
                    wrong.append((sending, piece, error))
            elif tier is not None:
                # What is wrong with the content is what the destinations report.
                with suppress(ResolverError):
                    tier.put(blob, shared.opener(at)(0))
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            defects.append(error)
        finally:
            shared.leave(at)

    threads = [
        threading.Thread(target=bring, args=(at,), name="resolver-copy", daemon=True)
        for at in range(readers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if defects:
        raise defects[0]
    return wrong
