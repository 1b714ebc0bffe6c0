"""Removing images by name or id: untag first, then delete what nothing else needs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.events import Warned, ignore
from resolver.core.stored import Removed
from resolver.errors import AmbiguousId, ImageNotHeld, InUse, StoreFault
from resolver.store.ground import Ground
from resolver.store.reach import Need
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.attached import Attached
    from resolver.core.digest import Digest
    from resolver.core.events import Observer
    from resolver.core.platform import Platform
    from resolver.core.pulled_name import PulledImage, PulledName
    from resolver.store.home import Home
    from resolver.store.names import NameRecord
    from resolver.store.records import Records

#: The start of an image id: fewer digits may be a name, and fit too much.
_ID = re.compile(r"(?:(?:sha256|sha512):)?[0-9a-f]{12,128}")
_DOCUMENTS = frozenset({"index", "manifest", "config"})


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """What happens to one name.

    Attributes:
        images: that go; all of them takes the name along, and an image takes what is about it.

    """

    record: PulledName
    images: tuple[PulledImage, ...]

    @property
    def rest(self) -> PulledName | None:
        """What is left of the name."""
        left = tuple(image for image in self.record.images if image not in self.images)
        if not left:
            return None
        gone = self._gone()
        beside = tuple(each for each in self.record.attached if each.manifest.digest not in gone)
        return replace(self.record, images=left, attached=beside)

    @property
    def attached(self) -> tuple[Attached, ...]:
        """What goes with the images."""
        rest = self.rest
        stays = rest.attached if rest is not None else ()
        return tuple(each for each in self.record.attached if each not in stays)

    def _gone(self) -> set[Digest]:
        """Give the images that go, and all that is about them, directly or not."""
        gone = {image.manifest.digest for image in self.images}
        while True:
            more = {each.manifest.digest for each in self.record.attached if each.about in gone}
            if more <= gone:
                return gone
            gone |= more


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
        ground = Ground.take(root, pulled, seen)
        changes, loose = _changes(ground, target, platform, str(home.root))
        if not force:
            _refuse_in_use(ground, target, changes, loose)
        gone = [change.record.reference for change in changes if change.rest is None]
        needs = _released(ground, changes, loose)
        try:
            items = ground.items(_deletable(ground, changes, needs, gone), needs)
        except StoreFault as error:
            # What another image needs is not known; this one can be untagged all the same.
            observe(Warned("store-damaged", f"only untagged, and nothing deleted: {error}"))
            items = ()
        # The name first and for good: a name that comes back after a power cut must be whole.
        pulled.drop_in(root, gone)
        seen.drop_in(root, gone)
        for rest in (change.rest for change in changes):
            if rest is not None:
                pulled.put_in(root, rest)
        ground.delete(items, sync=home.sync)
        return Removed(
            tuple(change.record.reference for change in changes),
            tuple(digest for item in items for digest in needs if str(digest) == item.name),
            sum(item.size for item in items),
        )


def _changes(
    ground: Ground, target: str, platform: Platform | None, store: str
) -> tuple[list[_Change], Digest | None]:
    """Find what a text means: names that change, or a digest that no name leads to."""
    record = next((r for r in ground.names if r.reference == target), None)
    if record is not None:
        return [_Change(record, _of_platform(record, platform, store))], None
    if not _ID.fullmatch(target):
        raise ImageNotHeld(target, store)
    found = {d for d in _ids(ground) if _fits(d, target)}
    if not found:
        found = {d for d in ground.files if _fits(d, target) and ground.document_like(d)}
    if not found:
        raise ImageNotHeld(target, store)
    if len(found) > 1:
        raise AmbiguousId(target, sorted(str(digest) for digest in found))
    digest = found.pop()
    changes = [
        _Change(record, images)
        for record in ground.names
        if (images := _by_id(ground, record, digest, platform))
        # An index of artifacts alone has no images to go.
        or (platform is None and not record.images and record.root.digest == digest)
    ]
    if platform is not None and not changes:
        raise ImageNotHeld(target, store, f"for `{platform}`")
    return changes, None if changes else digest


def _ids(ground: Ground) -> set[Digest]:
    """List everything that an image of some name goes by."""
    ids = {record.root.digest for record in ground.names}
    for record in ground.names:
        for image in record.images:
            ids.update(_image_ids(ground, image))
    return ids


def _image_ids(ground: Ground, image: PulledImage) -> set[Digest]:
    needs = ground.reach.as_far_as_known(image.manifest)
    configs = {need.descriptor.digest for need in needs if need.kind == "config"}
    return {image.manifest.digest} | configs


def _by_id(
    ground: Ground, record: PulledName, digest: Digest, platform: Platform | None
) -> tuple[PulledImage, ...]:
    whole = record.root.digest == digest
    images = [i for i in record.images if whole or digest in _image_ids(ground, i)]
    if platform is not None:
        images = [image for image in images if _is_for(image, platform)]
    return tuple(images)


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
    ground: Ground, target: str, changes: list[_Change], loose: Digest | None
) -> None:
    """Refuse what somebody uses, and an id that would take several names along.

    Raises:
        InUse: it is.

    """
    names = sorted(change.record.reference for change in changes)
    if len(names) > 1:
        raise InUse(
            target,
            "it goes by several names:",
            names,
            "remove them one by one, or all of them with `--force`",
        )
    core = {loose} if loose is not None else set()
    for change in changes:
        core.update(image.manifest.digest for image in change.images)
        if change.rest is None:
            core.add(change.record.root.digest)
    users = sorted({lease.purpose for lease in ground.leases if lease.digests & core})
    if users:
        raise InUse(
            target,
            "it is in use by",
            [user or "another process" for user in users],
            "wait until that has ended, or untag it with `--force`",
        )


def _released(ground: Ground, changes: list[_Change], loose: Digest | None) -> dict[Digest, Need]:
    """Give what was needed for what goes."""
    roots = [change.record.root for change in changes if change.rest is None]
    roots += [image.manifest for change in changes for image in change.images]
    roots += [each.manifest for change in changes for each in change.attached]
    found: list[Need] = []
    for root in roots:
        # A damaged document goes too, though nothing is known of what it points at.
        found += [Need(root, "index" if root.is_index else "manifest")]
        found += ground.reach.as_far_as_known(root)
    if loose is not None:
        descriptor = ground.document_like(loose)
        found += ground.reach.as_far_as_known(descriptor) if descriptor is not None else []
    needs: dict[Digest, Need] = {}
    for need in found:
        needs.setdefault(need.descriptor.digest, need)
    return needs


def _deletable(
    ground: Ground, changes: list[_Change], needs: dict[Digest, Need], gone: list[str]
) -> list[Digest]:
    changed = {change.record.reference for change in changes}
    stay = ground.needed_by(record for record in ground.names if record.reference not in changed)
    for change in changes:
        if change.rest is not None:
            stay |= ground.reach.of_name(change.rest)
    noted = {record.root.digest for record in ground.seen if record.reference not in gone}
    spared = set(stay) | ground.leased() | noted
    since = min((lease.since for lease in ground.leases), default=None)
    return [
        digest
        for digest, need in needs.items()
        if digest in ground.files
        and digest not in spared
        # A document may have been read by a pull that has not listed it yet.
        and (since is None or need.kind not in _DOCUMENTS or ground.files[digest].st_mtime < since)
    ]
