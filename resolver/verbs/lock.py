"""Lock references to their current digests, and check locks for drift."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from resolver.core.lockfile.drift import (
    LockCheck,
    LockDrift,
    PlatformPair,
    drift_of,
    gone,
    pairs_of,
)
from resolver.core.lockfile.entries import Platforms, by_entry, entries_of, narrow, narrowed, pick
from resolver.core.lockfile.entries import record as record_of
from resolver.core.lockfile.lock import Lock, LockChange, Locked, change_of
from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.manifest import Index
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import RegistryTarget
from resolver.core.pin.edits import LineIndex
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Warned
from resolver.core.results.resolve import Failure
from resolver.errors import (
    InvalidReference,
    NotFound,
    NotLocked,
    Offline,
    PlatformNotOffered,
    PlatformUnknown,
    ResolverError,
    Usage,
)
from resolver.settings import LOCK_FILE
from resolver.values import dataclass
from resolver.verbs import lock_files
from resolver.verbs import resolve as resolving
from resolver.verbs.batch import each
from resolver.verbs.context import each_platform, one_or_many
from resolver.verbs.documents import MAX_PROBES, DocumentReader, RootDocument, read_root
from resolver.verbs.gather import gather_platforms
from resolver.verbs.output_files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from resolver.core.lockfile.entries import ExportedLockEntry
    from resolver.core.lockfile.lock import LockedImage, LockedPlatform
    from resolver.core.pin.edits import ImageSpot
    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.results.resolve import Resolution
    from resolver.verbs.context import Context, NameLike, NamesLike, PlatformLike, PlatformsLike
    from resolver.verbs.documents import PlatformRequest
    from resolver.verbs.merge import Shard
    from resolver.verbs.pin import ImageFile


def record(
    reader: DocumentReader,
    root: RootDocument,
    written: str,
    only: Sequence[Platforms],
    table: PlatformTable,
) -> tuple[LockedImage, tuple[Warned, ...]]:
    """Record what a reference means, from its index alone, or from the config of a single image.

    `only` are the platforms to lock; empty for all that are offered.
    """
    image, warned = record_of(
        gather_platforms(reader, root, table, jobs=1, limit=MAX_PROBES).sound(), written
    )
    return (narrowed(image, only, table) if only else image), warned


def check(
    reader: DocumentReader, image: LockedImage, wanted: Sequence[Platforms], table: PlatformTable
) -> LockDrift:
    """Check where a reference points now, by one HEAD; read the index only if it moved."""
    wanted = wanted or [Platforms((Platform.parse(key),)) for key in image.only]
    reference = Reference.parse(image.reference)
    try:
        current = reader.current(reference.name, image.digest)
    except NotFound:
        return gone(image)
    if current == image.digest:
        return drift_of(image, current, ())
    # By the digest just heard of, so that what is compared is what the registry spoke of.
    root = read_root(reader, reference.with_digest(current))
    root = replace(root, text=image.reference)
    now, _ = record(reader, root, image.written, (), table)
    pairs = [
        PlatformPair(str(each.platforms[0]), pick(image, each, table), pick(now, each, table))
        for each in wanted
    ]
    return drift_of(image, current, tuple(pairs) if wanted else pairs_of(image, now))


def resolve_locked(
    image: LockedImage,
    request: PlatformRequest,
    table: PlatformTable,
    reader: DocumentReader,
    place: str,
) -> Resolution:
    """Resolve from a lock entry alone, as if its platforms were the index, without requests."""
    descriptor = image.root
    entries = [_descriptor(one) for one in by_entry(image)]
    whole = [entry for entry in entries if entry is not None]
    if descriptor is None or len(whole) < len(entries):
        raise Offline(
            f"the lock file `{place}` has no sizes and types for `{image.reference}`",
            f"lock it again: `resolver lock {image.written}`",
            code="lock-incomplete",
            reference=image.reference,
            place=place,
        )
    if narrow(image, request.platforms):
        request = replace(request, exact=True)
    prefix = f"{Reference.parse(image.reference).identity}@"
    document = Document(descriptor, b"")
    try:
        if image.is_index:
            index = Index(OCI_INDEX, tuple(whole))
            root = RootDocument(image.reference, prefix, document, index)
            return resolving.resolve_document(reader, root, request, table)
        platform = whole[0].platform if whole else None
        return resolving.resolve_single(
            image.reference, prefix, descriptor, platform, request, table
        )
    except (PlatformNotOffered, PlatformUnknown) as error:
        wanted = " or ".join(str(platform) for platform in request.platforms)
        offered = ", ".join(f"`{entry.platform}`" for entry in whole) or "no platform"
        hint = f"see what has changed: `resolver lock --check`, `resolver lock {image.written}`"
        raise NotLocked(
            image.reference, place, wanted, f"it was locked for {offered}", hint
        ) from error


def _descriptor(one: LockedPlatform) -> Descriptor | None:
    if not one.media_type or one.size is None:
        return None
    return Descriptor(one.media_type, one.digest, one.size, one.platform)


_SERVICE, _IMAGE = "services.", ".image"


@dataclass(frozen=True, slots=True)
class Named:
    """What some files name.

    Attributes:
        references: canonical to as a file writes it, in the order of the files.
        services: canonical references to the services of compose files that run them.
        warnings: names that are put together elsewhere, and so are not known here.
    """

    references: dict[str, str]
    services: dict[str, list[str]]
    warnings: tuple[Warned, ...]


def references_in(paths: Iterable[str]) -> Named:
    """Read files that name images; what their authors wrote `# resolver: ignore` at is left out."""
    from resolver.verbs.pin import find_images  # noqa: PLC0415 - it loads PyYAML

    references: dict[str, str] = {}
    services: dict[str, list[str]] = {}
    warnings: list[Warned] = []
    for path in dict.fromkeys(paths):
        file = find_images(path, read_text(path))
        for spot in file.spots:
            if spot.is_ignored:
                continue
            references.setdefault(str(spot.reference), _written(file, spot))
            if spot.role.startswith(_SERVICE) and spot.role.endswith(_IMAGE):
                service = spot.role.removeprefix(_SERVICE).removesuffix(_IMAGE)
                services.setdefault(str(spot.reference), []).append(service)
        warnings.extend(_strays(file))
    return Named(references, services, tuple(warnings))


def _written(file: ImageFile, spot: ImageSpot) -> str:
    text = file.text[spot.start : spot.end]
    try:
        whole = Reference.parse(text) == spot.reference
    except InvalidReference:
        whole = False
    return text if whole else spot.reference.familiar


def _strays(file: ImageFile) -> Iterator[Warned]:
    lines = LineIndex(file.text)
    for stray in file.strays:
        if not stray.is_ignored:
            line, _ = lines.position(stray.start)
            message = f"`{file.path}:{line}` names `{stray.text}`, which cannot be resolved: "
            yield Warned("reference-unknown", message + stray.reason)


def lock(
    context: Context,
    references: NamesLike = (),
    platforms: PlatformsLike = (),
    *,
    update: NamesLike | None = None,
    file: str | Path = LOCK_FILE,
) -> Locked:
    """Record what references mean now, in a lock file; other references in it stay."""
    path = str(file)
    lock_files.refuse_yaml(path)
    known = lock_files.load_if_any(path) or Lock()
    held = {image.reference: image for image in known.images}
    targets, failures = _lockable(context, one_or_many(references))
    requests = _platform_lists(context, each_platform(platforms))
    if update is not None:
        for image in _named(known, one_or_many(update), path):
            targets.setdefault(
                image.reference, (image.written, RegistryTarget(Reference.parse(image.reference)))
            )
    if failures and not targets:
        raise failures[0].error
    if not targets:
        raise Usage("no reference to lock", "name it: `resolver lock ubuntu:24.04`")

    def look(item: tuple[str, RegistryTarget]) -> tuple[LockedImage, tuple[Warned, ...]]:
        before = held.get(str(item[1]))
        kept = _only(before) if before is not None and not platforms else requests
        return _recorded(context, item[1], item[0], kept)

    images: list[LockedImage] = []
    warnings: list[Warned] = []
    for outcome in context.each(look, list(targets.values()), "locking"):
        if isinstance(outcome.value, ResolverError):
            failures.append(Failure(str(outcome.item[1]), (), outcome.value))
        else:
            images.append(outcome.value[0])
            warnings += outcome.value[1]
    changes = tuple(change_of(held.get(image.reference), image) for image in images)
    if failures and len(targets) == 1 and not images:
        raise failures[0].error
    if failures:
        return Locked(path, known, changes, tuple(failures), tuple(warnings))
    # Read again: another process may have written meanwhile.
    lock = lock_files.change(path, lambda there: there.merged(images))
    return Locked(path, lock, changes, (), tuple(warnings))


def unlock(names: NamesLike, *, file: str | Path = LOCK_FILE) -> Locked:
    """Remove references from a lock file, without a request."""
    path = str(file)
    lock_files.refuse_yaml(path)
    known = lock_files.load(path)
    images = _named(known, one_or_many(names), path) if names else ()
    lock = lock_files.change(path, lambda there: there.without(images))
    return Locked(path, lock, tuple(LockChange("removed", one, one) for one in images))


def check_lock(
    context: Context,
    names: NamesLike = (),
    platforms: PlatformsLike = (),
    *,
    file: str | Path = LOCK_FILE,
    executor: Executor | None = None,
    shard: Shard | None = None,
) -> LockCheck:
    """Report what has moved since it was locked: one HEAD for each reference, in parallel."""
    path = str(file)
    images = _named(lock_files.load(path), one_or_many(names), path)
    if shard is not None:
        images = tuple(image for image in images if shard.has(image.reference))
    requests = _platform_lists(context, each_platform(platforms))
    # Every host is known before the first client is made.
    for image in images:
        context.target(image.reference)
    warnings: list[Warned] = []
    look = partial(_checked, requests=requests, path=path)
    found: list[LockDrift | Failure] = []
    items = [(image.reference, image.reference, image) for image in images]
    for outcome in each(context, look, items, "checking", executor):
        if isinstance(outcome.value, ResolverError):
            found.append(Failure(outcome.item[0], (), outcome.value))
        else:
            found.append(outcome.value[0])
            warnings += outcome.value[1]
    wanted_words = tuple(str(wanted.platforms[0]) for wanted in requests)
    return LockCheck(path, wanted_words, tuple(found), tuple(warnings))


def _checked(
    context: Context,
    item: tuple[str, str, LockedImage],
    *,
    requests: tuple[Platforms, ...],
    path: str,
) -> tuple[LockDrift, tuple[Warned, ...]]:
    target, image = context.target(item[1]), item[2]
    for wanted in requests:
        if pick(image, wanted, context.table) is None:
            raise _platform_not_locked(image, wanted, path)
    reader, warned = context.reader(target)
    found = check(reader, image, requests, context.table)
    reader.report_warnings()
    return found, tuple(warned)


def by_lock(context: Context, file: str | Path = LOCK_FILE) -> ByLock:
    """Answer `resolve` from a lock file alone; what it answers, `plan` and `pull` take."""
    return ByLock(context, str(file), lock_files.load(str(file)))


def lock_entries(
    context: Context,
    names: NamesLike = (),
    platform: PlatformLike = None,
    *,
    services: Mapping[str, Sequence[str]] | None = None,
    file: str | Path = LOCK_FILE,
) -> tuple[ExportedLockEntry, ...]:
    """Return the entries of a lock file for `resolver lock export`."""
    path = str(file)
    images = _named(lock_files.load(path), one_or_many(names), path)
    wanted = _wanted(context, platform) if platform is not None else None
    entries, missing = entries_of(Lock(images), wanted, services, context.table)
    if missing and wanted is not None:
        raise _platform_not_locked(missing[0], wanted, path)
    return entries


def _platform_lists(context: Context, platforms: Sequence[PlatformLike]) -> tuple[Platforms, ...]:
    """Read platforms; with `all` among them, there is nothing to keep to."""
    if "all" in platforms:
        return ()
    return tuple(_wanted(context, platform) for platform in platforms)


def _wanted(context: Context, platform: PlatformLike) -> Platforms:
    request = context.platform_request(platform)
    return Platforms(request.platforms, request.local)


def _recorded(
    context: Context, target: RegistryTarget, written: str, requests: Sequence[Platforms]
) -> tuple[LockedImage, tuple[Warned, ...]]:
    reader, warned = context.reader(target)
    image, notes = record(
        reader, context.read_root(reader, target), written, requests, context.table
    )
    reader.report_warnings()
    return image, (*warned, *notes)


def _lockable(
    context: Context, references: Iterable[str | Reference]
) -> tuple[dict[str, tuple[str, RegistryTarget]], list[Failure]]:
    """Return how each reference is written, and what it names; and those that cannot be locked."""
    targets: dict[str, tuple[str, RegistryTarget]] = {}
    failures = []
    for reference in references:
        try:
            target = context.target(reference)
            if not isinstance(target, RegistryTarget):
                raise Usage(
                    f"`{target}` cannot be locked: it is not an image in a registry",
                    "name the image in its registry",
                )
        except ResolverError as error:
            failures.append(Failure(str(reference), (), error))
        else:
            targets[str(target)] = (str(reference).removeprefix("docker://"), target)
    return targets, failures


def _named(lock: Lock, names: tuple[NameLike, ...], path: str) -> tuple[LockedImage, ...]:
    if not names:
        return lock.images
    found: set[str] = set()
    for name in map(str, names):
        images = lock.named(name)
        if not images:
            listing = ", ".join(f"`{image.written}`" for image in lock.images[:5])
            raise NotLocked(name, path, "", f"it has {listing}" if listing else "it is empty")
        found.update(image.reference for image in images)
    return tuple(image for image in lock.images if image.reference in found)


class ByLock:
    """Resolves from a lock file, without requests and without the store."""

    def __init__(self, context: Context, path: str, lock: Lock) -> None:
        self.lock = lock
        self._images = {image.reference: image for image in lock.images}
        self._context = context
        self._path = path

    def resolve(
        self, reference: str | Reference, platform: PlatformLike = None, *, exact: bool = False
    ) -> Resolution:
        """Find what a reference meant on one platform when it was locked."""
        return self._resolve(self._find(reference), platform, exact=exact)

    def resolve_each(
        self,
        references: NamesLike,
        platforms: PlatformsLike = (None,),
        *,
        exact: bool = False,
    ) -> Iterator[Resolution | Failure]:
        """Resolve many references; `all` means every platform that was locked."""
        chosen = each_platform(platforms) or (None,)
        for reference in one_or_many(references):
            try:
                image = self._find(reference)
            except InvalidReference:
                raise
            except ResolverError as error:
                for platform in chosen:
                    yield Failure(str(reference), _words(platform), error)
                continue
            for platform in self._expanded(image, chosen):
                try:
                    yield self._resolve(image, platform, exact=exact)
                except ResolverError as error:
                    yield Failure(image.reference, _words(platform), error)

    def _expanded(
        self, image: LockedImage, platforms: Sequence[PlatformLike]
    ) -> Iterator[PlatformLike]:
        for platform in platforms:
            if platform == "all":
                yield from (one.platform for one in image.platforms)
            else:
                yield platform

    def _find(self, reference: str | Reference) -> LockedImage:
        target = self._context.target(reference)
        image = self._images.get(str(target)) if isinstance(target, RegistryTarget) else None
        if image is None:
            hint = f"record it with `resolver lock {reference}`"
            raise NotLocked(str(target), self._path, "", hint)
        return image

    def _resolve(self, image: LockedImage, platform: PlatformLike, *, exact: bool) -> Resolution:
        context = self._context
        request = context.platform_request(platform, exact=exact)
        offline: DocumentReader = DocumentReader(None, None, image.reference)
        return resolve_locked(image, request, context.table, offline, self._path)


def _only(image: LockedImage) -> tuple[Platforms, ...]:
    return tuple(Platforms((Platform.parse(key),)) for key in image.only)


def _platform_not_locked(image: LockedImage, wanted: Platforms, path: str) -> NotLocked:
    offered = ", ".join(f"`{one.platform}`" for one in image.platforms) or "no platform"
    return NotLocked(image.reference, path, str(wanted), f"it was locked for {offered}")


def _words(platform: PlatformLike) -> tuple[str, ...]:
    return () if platform is None else (str(platform),)
