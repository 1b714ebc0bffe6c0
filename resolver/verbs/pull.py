"""Pulling: a plan carried out. What is missing comes into the store, and the name comes last.

A lease keeps what is needed from being collected, from before the first look at the store until
the names are written. Blobs come side by side, documents after what they point at. A blob that
cannot be had is the end of the images that need it, not of the others; what has come is kept.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError, Future, as_completed
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from resolver.clock import SystemClock
from resolver.core.oci.descriptor import CONFIG_TYPES
from resolver.core.oci.manifest import Attached, parse_config
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import RegistryTarget
from resolver.core.results.events import ignore
from resolver.core.results.plan import CONNECTIONS, ContentState, over_limit
from resolver.core.results.pull import Pulled, PulledImage, PulledName, PulledOne
from resolver.core.results.pull_events import Finished, ImageDone, Kept, Reused, Skipped, Started
from resolver.core.results.resolve import Failure, Resolution
from resolver.errors import LimitExceeded, NotInStore, ResolverError, StoreFault, size_pair
from resolver.store.names import GROUP
from resolver.verbs.fetch import BlobFetcher
from resolver.verbs.plan import MAX_PIECES, Named, plan
from resolver.verbs.resolve import contradiction
from resolver.verbs.threads import DaemonPool
from resolver.verbs.transfer import Stopped, TransferContext, TransferOptions, one_at_a_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from resolver.clock import Clock
    from resolver.core.oci.content import Source
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.results.events import Observer
    from resolver.core.results.plan import Piece, Plan, PlannedImage
    from resolver.store import LocalStore
    from resolver.store.leases import Lease
    from resolver.verbs.context import Context, PlatformLike
    from resolver.verbs.documents import DocumentReader
    from resolver.verbs.fetch import ContentPlace


def refuse_without_room(root: Path, pieces: Iterable[Piece]) -> None:
    """Refuse a pull that cannot fit.

    What was begun earlier is not counted: its room was reserved then.

    Raises:
        StoreFault: less is free than is to be fetched.

    """
    wanted = sum(
        piece.descriptor.size for piece in pieces if piece.state is not ContentState.PARTIAL
    )
    folder = next((path for path in (root, *root.parents) if path.exists()), None)
    if not wanted or folder is None:
        return
    try:
        status = os.statvfs(folder)
    except OSError:
        # The write raises the error.
        return
    free = status.f_bavail * status.f_frsize
    # A file system that reports no size reports no free space either.
    if status.f_blocks and wanted > free:
        needed, left = size_pair(wanted, free)
        raise StoreFault(
            str(root),
            f"no space left: {needed} must be fetched, but only {left} are free",
            "free some space, or name another folder with `--store`",
            wanted=wanted,
            free=free,
        )


__all__ = ["Pulled", "PulledOne", "TransferOptions", "transfer_plan"]

#: Seconds that running transfers get to notice that they were cancelled.
_GRACE = 1.0


def transfer_plan(  # noqa: PLR0913 - each is one thing that a caller decides
    plan: Plan,
    source_of: Callable[[PlannedImage], Source],
    store: LocalStore,
    options: TransferOptions | None = None,
    observe: Observer = ignore,
    *,
    places: Sequence[ContentPlace] = (),
    clock: Clock | None = None,
    interrupt: Callable[[], None] = lambda: None,
    raises: bool = True,
) -> Pulled:
    """Carry out a plan.

    Args:
        plan: from `verbs.plan.make_plan`.
        source_of: opens the repository of an image; called when a piece of it is missing.
        store: the destination.
        options: how to pull.
        observe: receives events, from one thread at a time.
        places: those that the plan was made with.
        clock: for retries.
        interrupt: ends running requests when the pull is interrupted.
        raises: whether to raise if all references failed.

    Raises:
        StoreFault: the store cannot be written, or is full; other images fail too, then.
        ResolverError: the error of the only reference, or of the first if all failed.

    """
    chosen = options or TransferOptions()
    stop = threading.Event()
    tell = one_at_a_time(observe)
    entries = DaemonPool(chosen.connections, "resolver-part")
    shared = TransferContext(store, chosen, tell, clock or SystemClock(), entries, stop)
    work = _Work(plan, shared, BlobFetcher(shared, source_of, places), raises=raises)
    blobs = DaemonPool(chosen.jobs, "resolver-blob")

    def close() -> None:
        stop.set()
        blobs.close(_GRACE)
        entries.close(_GRACE)

    try:
        with store.lease(purpose=_purpose(plan), needed=_writes(plan)) as lease, store.batch():
            done = work.run(lease, blobs)
    except BaseException as error:
        stop.set()
        if isinstance(error, StoreFault):
            error.after(*work.progress())
        if not isinstance(error, Exception):
            interrupt()
        close()
        if not isinstance(error, StoreFault):
            # Only now, when no thread writes any more, is it known what is kept.
            work.tell_kept()
        raise
    close()
    if len(done.failures) > len(plan.failures):
        work.tell_kept()
    return done


class _Work:
    """One running pull; its methods run in the caller's thread unless stated."""

    def __init__(
        self, plan: Plan, shared: TransferContext, fetcher: BlobFetcher, *, raises: bool
    ) -> None:
        self._plan = plan
        self._raises = raises
        self._shared = shared
        self._fetcher = fetcher
        self._failed: dict[str, ResolverError] = {}
        self._wanted: list[Piece] = []
        self._fetched: list[Piece] = []
        self._reused: list[Piece] = []
        self._needed_by: dict[Digest, list[PlannedImage]] = {}
        for image in plan.entries:
            for content in image.contents:
                self._needed_by.setdefault(content.descriptor.digest, []).append(image)

    def run(self, lease: Lease, blobs: DaemonPool) -> Pulled:
        """Fetch, then name."""
        lease.add(piece.descriptor.digest for piece in self._plan.pieces)
        for image, pieces in self._begun():
            self._shared.emit(Started(image.reference, image.platform, pieces))
        wanted = [piece for piece in self._plan.pieces if self._is_to_be_fetched(piece)]
        self._wanted = wanted
        refuse_without_room(self._shared.store.root, wanted)
        # The largest first: what is begun last should be over soon.
        layers = [piece for piece in wanted if piece.role in {"layer", "config"}]
        layers.sort(key=lambda piece: -piece.missing)
        self._fetch(layers, blobs)
        # Parents after their children, each kind for itself.
        for piece in wanted:
            if piece.role in {"manifest", "index"}:
                self._fetch([piece], blobs)
        done = self._name()
        failures = tuple(
            Failure(reference, None, error) for reference, error in self._failed.items()
        )
        if failures and not done and self._raises:
            raise failures[0].error
        return Pulled(
            tuple(one for one in done if one.image.kind == "image"),
            (*self._plan.failures, *failures),
            tuple(self._fetched),
            tuple(self._reused),
            tuple(one for one in done if one.image.kind != "image"),
            tuple(one for one in self._plan.left_out if one.reference not in self._failed),
        )

    def _begun(self) -> Iterator[tuple[PlannedImage, tuple[Piece, ...]]]:
        """Return each image with its pieces and those of its attachments."""
        images = {one.reference: one for one in reversed(self._plan.images)}
        chosen = {(one.reference, one.manifest.digest) for one in self._plan.images}
        attached: dict[tuple[str, Digest], list[PlannedImage]] = {}
        alone: list[PlannedImage] = []
        for one in self._plan.attached:
            first = images.get(one.reference)
            if one.about is not None and (one.reference, one.about) in chosen:
                attached.setdefault((one.reference, one.about), []).append(one)
            elif first is not None:
                attached.setdefault((first.reference, first.manifest.digest), []).append(one)
            else:
                alone.append(one)
        places = {piece.descriptor.digest: at for at, piece in enumerate(self._plan.pieces)}
        for image in (*self._plan.images, *alone):
            entries = [image, *attached.get((image.reference, image.manifest.digest), ())]
            wanted = {places[each.descriptor.digest] for one in entries for each in one.contents}
            yield image, tuple(self._plan.pieces[at] for at in sorted(wanted))

    def progress(self) -> tuple[int, int]:
        """Count the pieces that have come, and those that were to."""
        return len(self._fetched), len(self._wanted)

    def tell_kept(self) -> None:
        """Report what the next pull can reuse, if anything had to be fetched."""
        if not self._wanted:
            return
        here = {piece.descriptor.digest for piece in self._fetched}
        store = self._shared.store
        # A thread that waits for a registry ends with the process.
        store.record_transfers()
        size = 0
        for piece in self._wanted:
            descriptor = piece.descriptor
            try:
                if descriptor.digest in here or store.has(descriptor):
                    here.add(descriptor.digest)
                    size += descriptor.size
                else:
                    size += store.partial(descriptor)
            except StoreFault:
                # What cannot be looked at is not promised.
                continue
        self._shared.emit(Kept(len(here), len(self._wanted), size))

    def _is_to_be_fetched(self, piece: Piece) -> bool:
        """Check again, now that a lease protects the store from collection.

        See docs/store-and-reliability.md, "Leases".
        """
        descriptor = piece.descriptor
        if piece.state is ContentState.FOREIGN:
            self._shared.emit(Skipped(descriptor.digest, descriptor.size, descriptor.urls))
            return False
        if not self._shared.store.held(descriptor):
            return True
        self._shared.emit(Reused(descriptor.digest, descriptor.size, ""))
        self._reused.append(piece)
        return False

    def _fetch(self, pieces: Sequence[Piece], blobs: DaemonPool) -> None:
        """Fetch some pieces in parallel."""
        under_way: dict[Future[bool], Piece] = {
            blobs.submit(lambda piece=piece: self._bring(piece)): piece  # type: ignore[misc]  # a default binds the loop's value
            for piece in pieces
            if self._is_wanted(piece)
        }
        for future in as_completed(under_way):
            self._settle(under_way[future], future)

    def _bring(self, piece: Piece) -> bool:
        """Fetch one piece; runs in a thread of its own."""
        if not self._is_wanted(piece):
            raise Stopped
        descriptor = piece.descriptor
        needed_by = self._needed_by[descriptor.digest]
        try:
            fetched = self._fetcher.bring(piece, needed_by, lambda: self._is_wanted(piece))
        except StoreFault:
            # The next blob would meet the same disk.
            self._shared.stop.set()
            raise
        except ResolverError as error:
            # Here, so that this thread begins nothing that was cancelled.
            for image in needed_by:
                self._failed.setdefault(image.reference, error)
            raise
        event = Finished(descriptor.digest, descriptor.size)
        self._shared.emit(event if fetched else Reused(descriptor.digest, descriptor.size, ""))
        return fetched

    def _settle(self, piece: Piece, future: Future[bool]) -> None:
        """Take note of what came of a piece."""
        try:
            fetched = future.result()
        except (Stopped, CancelledError):
            return
        except StoreFault:
            raise
        except ResolverError:
            return
        (self._fetched if fetched else self._reused).append(piece)

    def _is_wanted(self, piece: Piece) -> bool:
        """Whether some image that needs the piece can still become complete."""
        needed_by = self._needed_by[piece.descriptor.digest]
        return any(image.reference not in self._failed for image in needed_by)

    def _name(self) -> tuple[PulledOne, ...]:
        """Record the names of complete images, all platforms of a reference together."""
        done: list[PulledOne] = []
        by_reference: dict[str, list[PlannedImage]] = {}
        for image in self._plan.entries:
            if image.reference not in self._failed:
                by_reference.setdefault(image.reference, []).append(image)
        fetched = {piece.descriptor.digest for piece in self._fetched}
        foreign = {piece.descriptor.digest: piece for piece in self._plan.foreign}
        found = self._found()
        references = list(by_reference)
        for at in range(0, len(references), GROUP):
            group = {
                reference: [
                    self._outcome(image, fetched, foreign) for image in by_reference[reference]
                ]
                for reference in references[at : at + GROUP]
            }
            moment = int(self._shared.clock.wall())
            records = [
                record_of(reference, by_reference[reference], moment)
                for reference, outcomes in group.items()
                if any(one.status == "downloaded" for one in outcomes)
            ]
            if records:
                self._shared.store.name_all(records, found)
                # Synced now, and nothing more was found.
                found = []
            for outcomes in group.values():
                told = [one for one in outcomes if one.image.kind == "image"] or outcomes[:1]
                for one in told:
                    root = one.image.root.digest
                    self._shared.emit(ImageDone(one.image.reference, root, one.status))
                done.extend(outcomes)
        return tuple(done)

    def _found(self) -> list[str]:
        """Return the digest algorithms of reused pieces, which must be synced too."""
        found = {piece.descriptor.digest.algorithm for piece in self._reused}
        return sorted(found - {piece.descriptor.digest.algorithm for piece in self._fetched})

    def _outcome(
        self, image: PlannedImage, fetched: AbstractSet[Digest], foreign: Mapping[Digest, Piece]
    ) -> PulledOne:
        needed = dict.fromkeys(content.descriptor.digest for content in image.contents)
        skipped = tuple(foreign[digest] for digest in needed if digest in foreign)
        found = contradiction(image, self._shared.store)
        for warning in found:
            self._shared.emit(warning)
        is_new = not fetched.isdisjoint(needed)
        status = "up-to-date" if image.up_to_date and not is_new else "downloaded"
        return PulledOne(image, status, skipped, (*image.warnings, *found))


def _writes(plan: Plan) -> bool:
    """Whether anything will have to be written; where all is held, a store may be read-only."""
    held = all(piece.state is ContentState.HELD and not piece.place for piece in plan.pieces)
    return not (held and all(image.up_to_date for image in plan.entries))


def record_of(reference: str, entries: Sequence[PlannedImage], at: int) -> PulledName:
    """Make what the store notes about a reference; `at` in seconds since 1970."""
    images = tuple(
        PulledImage(one.platform, one.manifest) for one in entries if one.kind == "image"
    )
    attached = tuple(
        Attached(one.kind, one.manifest, one.about, one.tag)
        for one in entries
        if one.kind != "image"
    )
    return PulledName(reference, entries[0].root, images, at, attached)


def _purpose(plan: Plan) -> str:
    names = list(dict.fromkeys(image.reference for image in plan.entries))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"pull {names[0]}{more}" if names else "pull"


def unpacked_of(
    reader: DocumentReader, image: PlannedImage, unpacked: AbstractSet[Digest]
) -> tuple[Digest, ...]:
    """List the layers of an image that a container engine has unpacked.

    Reads the image's config, which a pull needs anyway and then finds in the store.

    Args:
        reader: reads documents of the image's repository.
        image: planned.
        unpacked: digests of unpacked layers, from `sources.local.docker_engine`.

    Raises:
        ResolverError: the config cannot be read.

    """
    config = next((each.descriptor for each in image.contents if each.role == "config"), None)
    if not unpacked or config is None or config.media_type not in CONFIG_TYPES:
        return ()
    layers = image.layers
    what = f"the config `{config.digest}` of `{image.reference}`"
    diff_ids = parse_config(reader.read(config, what), what, len(layers)).diff_ids
    pairs = zip(layers, diff_ids, strict=False)
    return tuple(dict.fromkeys(layer.digest for layer, diff_id in pairs if diff_id in unpacked))


#: References planned together; of more, the next ones are planned while these are transferred.
AHEAD = 128
#: Default number of parallel transfers; more only compete for bandwidth, unless blobs are of fewer
#: bytes than this, where round trips take the time.
_BLOBS, _SMALL = 4, 1 << 20


def unpacked(context: Context, plan: Plan) -> tuple[Descriptor, ...]:
    """List the layers of a plan that a Docker engine on this machine has unpacked."""
    from resolver.sources.local.docker_engine import unpacked_layers  # noqa: PLC0415

    there = unpacked_layers(context.settings.environment)
    found: dict[Descriptor, None] = {}
    for image in plan.images if there else ():
        reader, _ = context.reader(RegistryTarget(Reference.parse(image.reference)))
        digests = set(unpacked_of(reader, image, there))
        found.update(dict.fromkeys(each for each in image.layers if each.digest in digests))
    return tuple(found)


def pull(  # noqa: PLR0913 - each is one thing that a caller decides
    context: Context,
    what: Plan | Named | Iterable[Named],
    platforms: PlatformLike | Sequence[PlatformLike] = None,
    *,
    exact: bool = False,
    places: Iterable[str] = (),
    foreign: bool = False,
    max_download: int | None = None,
    attestations: bool = True,
    referrers: bool = False,
) -> Pulled:
    """Fetch what is missing of images into the store, verified; record the names last."""
    from resolver.core.results.plan import Plan  # noqa: PLC0415 - for this verb alone

    held = tuple(places)

    def make(named: Named | Iterable[Named]) -> Plan:
        return plan(
            context,
            named,
            platforms,
            exact=exact,
            places=held,
            foreign=foreign,
            attestations=attestations,
            referrers=referrers,
        )

    def transfer(made: Plan, *, raises: bool = True) -> Pulled:
        return _transfer(context, made, foreign=foreign, raises=raises)

    listed = [] if isinstance(what, Plan | str | Reference | Resolution) else list(what)
    if max_download is None and len(listed) > AHEAD:
        groups = [listed[at : at + AHEAD] for at in range(0, len(listed), AHEAD)]
        done = _joined([transfer(made, raises=False) for made in _planned_ahead(make, groups)])
    else:
        made = what if isinstance(what, Plan) else make(listed or what)
        refusal = over_limit(made.bytes_missing, max_download)
        if refusal is not None:
            raise refusal
        done = transfer(made)
    _note_use(context, (one.image for one in done.entries if one.status == "up-to-date"))
    return done


def _planned_ahead(
    make: Callable[[list[Named]], Plan], groups: Sequence[list[Named]]
) -> Iterator[Plan]:
    """Yield the plan of each group; the next one is made while the caller works on it.

    Raises:
        LimitExceeded: they have too many pieces together.

    """
    pieces: set[Digest] = set()
    pool = DaemonPool(1, "resolver-plan")
    try:
        coming = pool.submit(lambda: make(groups[0]))
        for following in (*groups[1:], None):
            made = coming.result()
            pieces.update(piece.descriptor.digest for piece in made.pieces)
            if len(pieces) > MAX_PIECES:
                raise LimitExceeded("what is to be pulled", MAX_PIECES, len(pieces), "pieces")
            if following is not None:
                coming = pool.submit(partial(make, following))
            yield made
    finally:
        pool.close(_GRACE)


def _joined(parts: Sequence[Pulled]) -> Pulled:
    """Join the results of groups; raise the first error if nothing is complete."""
    failures = tuple(failure for part in parts for failure in part.failures)
    entries = [one for part in parts for one in part.entries]
    if failures and not entries:
        raise failures[0].error
    return Pulled(
        tuple(one for part in parts for one in part.images),
        failures,
        tuple(piece for part in parts for piece in part.fetched),
        tuple(piece for part in parts for piece in part.reused),
        tuple(one for part in parts for one in part.attached),
        tuple(one for part in parts for one in part.left_out),
    )


def _transfer(context: Context, made: Plan, *, foreign: bool, raises: bool) -> Pulled:
    from resolver.verbs.fetch import open_place  # noqa: PLC0415

    names = dict.fromkeys(piece.place for piece in made.pieces if piece.place)
    missing = [piece.missing for piece in made.pieces if piece.missing]
    jobs = CONNECTIONS if sum(missing) < len(missing) * _SMALL else _BLOBS
    if context.settings.jobs_given:
        jobs = context.settings.jobs
    return transfer_plan(
        made,
        partial(_repository, context),
        context.store,
        TransferOptions(jobs=jobs, foreign=foreign),
        context.observe,
        places=[open_place(name) for name in names],
        interrupt=context.close,
        raises=raises,
    )


def _repository(context: Context, image: PlannedImage) -> Source:
    """Open where an image comes from.

    Raises:
        NotInStore: only the store may answer.

    """
    if context.settings.offline:
        raise NotInStore(image.reference, "all of it", str(context.store.root))
    return context.source(RegistryTarget(Reference.parse(image.reference)))


def _note_use(context: Context, images: Iterable[PlannedImage]) -> None:
    """Update the last use of images, which collection reads; a read-only store is fine."""
    by_reference: dict[str, list[PlannedImage]] = {}
    for image in images:
        by_reference.setdefault(image.reference, []).append(image)
    moment = int(time.time())
    records = [record_of(reference, held, moment) for reference, held in by_reference.items()]
    with suppress(StoreFault):
        context.store.name_all(records)
