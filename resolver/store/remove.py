"""Remove images by name or ID: untag first, then delete unneeded content."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.manifest import Manifest
from resolver.core.oci.reference import Reference
from resolver.core.results.events import Warned, ignore
from resolver.core.results.store import Removed, Trimmed
from resolver.errors import (
    ImageNotHeld,
    InvalidReference,
    Malformed,
    Negative,
    StoreFault,
    shortened,
)
from resolver.store.collect import GcSnapshot
from resolver.store.reachable import Need
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import Attached
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Observer
    from resolver.core.results.pull import PulledImage, PulledName
    from resolver.store.folder import Home
    from resolver.store.names import NameRecord, Records

#: An image ID or a prefix of one, of any length as in Docker; a name of that spelling wins.
#: Source: moby, pkg/truncindex.
_ID = re.compile(r"(?:(?:sha256|sha512):)?[0-9a-f]{1,128}")
_DOCUMENTS = frozenset({"index", "manifest", "config"})


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """The change to one name; removing all images, with their artifacts, removes the name."""

    record: PulledName
    images: tuple[PulledImage, ...]

    @property
    def rest(self) -> PulledName | None:
        """The remaining record; None if the name is removed."""
        left = tuple(image for image in self.record.images if image not in self.images)
        if not left:
            return None
        gone = self._gone()
        beside = tuple(item for item in self.record.attached if item.manifest.digest not in gone)
        return replace(self.record, images=left, attached=beside)

    @property
    def attached(self) -> tuple[Attached, ...]:
        rest = self.rest
        stays = rest.attached if rest is not None else ()
        return tuple(each for each in self.record.attached if each not in stays)

    def _gone(self) -> set[Digest]:
        """Return the removed images and everything attached to them, directly or not."""
        gone = {image.manifest.digest for image in self.images}
        while True:
            more = {each.manifest.digest for each in self.record.attached if each.about in gone}
            if more <= gone:
                return gone
            gone |= more

    @property
    def trimmed(self) -> Trimmed | None:
        rest = self.rest
        if rest is None or not self.images:
            return None
        return Trimmed(self.record.reference, _platforms(self.images), _platforms(rest.images))


def _platforms(images: Iterable[PulledImage]) -> tuple[str, ...]:
    return tuple(str(image.platform or image.manifest.digest) for image in images)


def remove(
    home: Home,
    records: tuple[Records[PulledName], Records[NameRecord]],
    target: str,
    platform: Platform | None,
    *,
    force: bool,
    observe: Observer = ignore,
) -> Removed:
    """Remove an image; see `LocalStore.remove`."""
    pulled, seen = records
    if not home.exists():
        raise ImageNotHeld(target, str(home.root))
    with home.writing(exclusive=True) as root:
        snapshot = GcSnapshot.around(root, pulled, seen, target) or GcSnapshot.take(
            root, pulled, seen
        )
        changes, loose = _changes(snapshot, target, platform, str(home.root))
        if not force:
            _refuse_in_use(snapshot, target, changes, loose)
        gone = [change.record.reference for change in changes if change.rest is None]
        needs = _released(snapshot, changes, loose)
        try:
            items = snapshot.items(_deletable(snapshot, changes, needs, gone), needs)
        except StoreFault as error:
            # The needs of another image are unknown; this one can still be untagged.
            observe(Warned("store-damaged", f"untagged, but nothing deleted: {error}"))
            items = ()
        # Remove the name durably first: a name that survives a power cut must be complete.
        pulled.drop_in(root, gone)
        seen.drop_in(root, gone)
        for rest in (change.rest for change in changes):
            if rest is not None:
                pulled.put_in(root, rest)
        snapshot.delete(items, sync=home.sync)
        return Removed(
            tuple(gone),
            tuple(digest for item in items for digest in needs if str(digest) == item.name),
            sum(item.size for item in items),
            tuple(change.trimmed for change in changes if change.trimmed is not None),
        )


def _changes(
    snapshot: GcSnapshot, target: str, platform: Platform | None, store: str
) -> tuple[list[_Change], tuple[Descriptor, ...]]:
    """Find the names to change, or the unnamed manifests, that a target means."""
    record = next((r for r in snapshot.names if r.reference == target), None)
    if record is not None:
        return [_Change(record, _of_platform(record, platform, store))], ()
    changes = _by_digest(snapshot, target)
    loose: tuple[Descriptor, ...] = ()
    if not changes and _ID.fullmatch(target):
        changes, loose = _by_start(snapshot, target)
    if not changes and not loose:
        raise ImageNotHeld(target, store)
    if platform is not None:
        changes = [
            _Change(change.record, images)
            for change in changes
            if (images := tuple(image for image in change.images if _is_for(image, platform)))
        ]
        if not changes:
            raise ImageNotHeld(target, store, f"for `{platform}`")
    return changes, loose


def _by_digest(snapshot: GcSnapshot, target: str) -> list[_Change]:
    """Find `NAME[:TAG]@DIGEST` among the pulled names of that repository."""
    try:
        wanted = Reference.parse(target)
    except InvalidReference:
        return []
    if wanted.digest is None:
        return []
    found: list[_Change] = []
    for record in snapshot.names:
        name = Reference.parse(record.reference)
        if name.identity == wanted.identity and wanted.tag in {None, name.tag}:
            images = _by_id(snapshot, record, wanted.digest)
            is_alone = not record.images and record.root.digest == wanted.digest
            found += [_Change(record, images)] if images or is_alone else []
    return found


def _by_start(snapshot: GcSnapshot, target: str) -> tuple[list[_Change], tuple[Descriptor, ...]]:
    """Find an id by its start: of a named image, else of one that nothing names."""
    ids, needed = _ids(snapshot)
    named = {digest: _naming(snapshot, digest) for digest in ids if _fits(digest, target)}
    # What is part of a named image is no image by itself.
    rest = [d for d in snapshot.files if _fits(d, target) and d not in needed]
    loose = {digest: images for digest in rest if (images := _unnamed(snapshot, digest, needed))}
    meanings = {
        *(frozenset((c.record.reference, c.images) for c in changes) for changes in named.values()),
        *(frozenset(images) for images in loose.values()),
    }
    if len(meanings) > 1:
        digests = tuple(sorted(str(digest) for digest in (*named, *loose)))
        raise Malformed(
            f"`{shortened(target)}` is the prefix of {len(digests)} image ids",
            "use a longer prefix: " + ", ".join(f"`{digest}`" for digest in digests[:5]),
            code="ambiguous-id",
            text=target,
            digests=digests,
        )
    return next(iter(named.values()), []), next(iter(loose.values()), ())


def _naming(snapshot: GcSnapshot, digest: Digest) -> list[_Change]:
    return [
        _Change(record, images)
        for record in snapshot.names
        if (images := _by_id(snapshot, record, digest))
        # An index of only artifacts has no images.
        or (not record.images and record.root.digest == digest)
    ]


def _unnamed(snapshot: GcSnapshot, digest: Digest, needed: set[Digest]) -> tuple[Descriptor, ...]:
    """Return the manifest of this digest, or those with this config; empty for anything else."""
    descriptor = snapshot.reach.document_like(digest)
    if descriptor is not None:
        return (descriptor,)
    if not snapshot.reach.looks_like_json(digest):
        return ()
    owners: list[Descriptor] = []
    for other in sorted(set(snapshot.files) - needed - {digest}):
        manifest = snapshot.reach.document_like(other)
        document = None if manifest is None else snapshot.reach.document(manifest)
        config = document.config if isinstance(document, Manifest) else None
        if manifest is not None and config is not None and config.digest == digest:
            owners.append(manifest)
    return tuple(owners)


def _ids(snapshot: GcSnapshot) -> tuple[set[Digest], set[Digest]]:
    """Return the IDs of all named images, and the content they need."""
    ids = {record.root.digest for record in snapshot.names}
    needed = set(ids)
    for record in snapshot.names:
        for image in record.images:
            needs = snapshot.reach.as_far_as_known(image.manifest)
            needed |= {need.descriptor.digest for need in needs}
            ids |= _ids_of(image, needs)
        for each in record.attached:
            needed |= {n.descriptor.digest for n in snapshot.reach.as_far_as_known(each.manifest)}
    return ids, needed


def _ids_of(image: PulledImage, needs: Iterable[Need]) -> set[Digest]:
    configs = {need.descriptor.digest for need in needs if need.kind == "config"}
    return {image.manifest.digest} | configs


def _by_id(snapshot: GcSnapshot, record: PulledName, digest: Digest) -> tuple[PulledImage, ...]:
    if record.root.digest == digest:
        return record.images
    return tuple(
        image
        for image in record.images
        if digest in _ids_of(image, snapshot.reach.as_far_as_known(image.manifest))
    )


def _of_platform(
    record: PulledName, platform: Platform | None, store: str
) -> tuple[PulledImage, ...]:
    if platform is None:
        return record.images
    images = tuple(image for image in record.images if _is_for(image, platform))
    if not images:
        raise ImageNotHeld(record.reference, store, f"for `{platform}`")
    return images


def _is_for(image: PulledImage, platform: Platform) -> bool:
    return image.platform is not None and image.platform.normalized() == platform.normalized()


def _fits(digest: Digest, text: str) -> bool:
    return str(digest).startswith(text) if ":" in text else digest.hex.startswith(text)


def _refuse_in_use(
    snapshot: GcSnapshot, target: str, changes: list[_Change], loose: tuple[Descriptor, ...]
) -> None:
    """Refuse an image in use, and an id of an image with several names."""
    names = sorted(change.record.reference for change in changes)
    if len(names) > 1:
        raise _in_use(
            target,
            "it has several names:",
            names,
            "remove them one by one, or all of them with `--force`",
        )
    core = {descriptor.digest for descriptor in loose}
    for change in changes:
        core.update(image.manifest.digest for image in change.images)
        if change.rest is None:
            core.add(change.record.root.digest)
    users = sorted({lease.purpose for lease in snapshot.leases if lease.digests & core})
    if users:
        raise _in_use(
            target,
            "it is in use by",
            [user or "another process" for user in users],
            "wait until that has ended, or untag it with `--force`",
        )


def _in_use(target: str, reason: str, users: list[str], hint: str) -> Negative:
    listing = ", ".join(f"`{user}`" for user in users)
    return Negative(
        f"`{shortened(target)}` is kept: {reason} {listing}",
        hint,
        code="in-use",
        target=target,
        reason=reason,
        users=tuple(users),
    )


def _released(
    snapshot: GcSnapshot, changes: list[_Change], loose: tuple[Descriptor, ...]
) -> dict[Digest, Need]:
    roots = [change.record.root for change in changes if change.rest is None]
    roots += [image.manifest for change in changes for image in change.images]
    roots += [each.manifest for change in changes for each in change.attached]
    found: list[Need] = []
    for root in roots:
        # A damaged document is removed too, although its references are unknown.
        found += [Need(root, "index" if root.is_index else "manifest")]
        found += snapshot.reach.as_far_as_known(root)
    for descriptor in loose:
        found += snapshot.reach.as_far_as_known(descriptor)
    needs: dict[Digest, Need] = {}
    for need in found:
        needs.setdefault(need.descriptor.digest, need)
    return needs


def _deletable(
    snapshot: GcSnapshot, changes: list[_Change], needs: dict[Digest, Need], gone: list[str]
) -> list[Digest]:
    changed = {change.record.reference for change in changes}
    stay = snapshot.needed_by(
        record for record in snapshot.names if record.reference not in changed
    )
    for change in changes:
        if change.rest is not None:
            stay |= snapshot.reach.of_name(change.rest)
    noted = {record.root.digest for record in snapshot.seen if record.reference not in gone}
    spared = set(stay) | snapshot.users().keys() | noted
    since = min((lease.since for lease in snapshot.leases), default=None)
    return [
        digest
        for digest, need in needs.items()
        if digest in snapshot.files
        and digest not in spared
        and str(digest) not in snapshot.others
        # An active pull may have read the document and not listed it yet.
        and (
            since is None or need.kind not in _DOCUMENTS or snapshot.files[digest].st_mtime < since
        )
    ]
