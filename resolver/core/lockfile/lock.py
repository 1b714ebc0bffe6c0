"""Lock files: the digest of each reference at one time, for later comparison.

`resolver.lock` is JSON, because machines write it: sorted, so that concurrent changes merge, and
strict, because a pull request may contain a hostile one (docs/store-and-reliability.md,
"Strict YAML").
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from resolver.core.oci.descriptor import INDEX_TYPES, PLATFORM_NAMES, Descriptor, read_platform
from resolver.core.oci.reference import Reference
from resolver.core.parse.json import Fields, read_object
from resolver.core.platforms.platform import Platform
from resolver.errors import (
    BadDocument,
    BadLock,
    InvalidPlatform,
    InvalidReference,
    LimitExceeded,
    LockLimit,
    UnsupportedDocument,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.oci.digest import Digest
    from resolver.core.results.events import Warned
    from resolver.core.results.resolve import Failure


def contradiction(lock: Lock) -> tuple[str, str] | None:
    """Return field and reason of the first contradiction: another digest, or two sizes of one."""
    sizes: dict[Digest, tuple[int, str]] = {}
    for image in lock.images:
        own = Reference.parse(image.reference).digest
        if own is not None and own != image.digest:
            field = f"images.{image.reference}.digest"
            return field, "its reference has another digest"
    for field, digest, size in _sizes(lock):
        known, where = sizes.setdefault(digest, (size, field))
        if known != size:
            return field, f"`{where}` says {known} for the same digest"
    return None


def _sizes(lock: Lock) -> Iterator[tuple[str, Digest, int]]:
    for image in lock.images:
        path = f"images.{image.reference}"
        if image.size is not None:
            yield f"{path}.size", image.digest, image.size
        for one in image.platforms:
            if one.size is not None:
                yield f"{path}.platforms.{one.key}.size", one.digest, one.size


#: Version of the written format.
SCHEMA = 1
#: Bytes of a lock file. Source: docs/store-and-reliability.md, "Strict YAML".
MAX_LOCK = 4 * 1024 * 1024
#: The most references in one lock. Ours: ten times the largest known fleet.
MAX_IMAGES = 10_000

_SPLIT = "keep it in several files, each named with `--lock-file`"
_TOP = frozenset({"schema", "images"})
_IMAGE = frozenset({"written", "digest", "mediaType", "size", "only", "platforms"})
_PLATFORM = frozenset({"digest", "mediaType", "size", "entry", "platform"})
#: Conflict markers of git. Source: git-merge(1), "HOW CONFLICTS ARE PRESENTED".
_CONFLICT = re.compile(rb"(?:<{7}|={7}|>{7}|\|{7})(?: [^\r\n]*)?\r?")


@dataclass(frozen=True, slots=True)
class LockedPlatform:
    """One build of an image.

    Attributes:
        platform: as written in the index, or in the config without an index.
        media_type: of the manifest; empty if a hand-written lock omits it.
        size: of the manifest in bytes; None if a hand-written lock omits it.
        entry: its position among the images of the index, counted from 0; of equal ones the first.
    """

    platform: Platform
    digest: Digest
    media_type: str
    size: int | None
    entry: int = 0

    @property
    def key(self) -> str:
        """The normalised platform as text."""
        return str(self.platform.normalized())


@dataclass(frozen=True, slots=True)
class LockedImage:
    """The record of one reference.

    Attributes:
        digest, media_type, size: of its index or single image.
        platforms: sorted by key, each key once; empty for content that is not an image.
        only: normalised platforms that the record is restricted to; empty for all.
    """

    reference: str
    written: str
    digest: Digest
    media_type: str
    size: int | None
    platforms: tuple[LockedPlatform, ...]
    only: tuple[str, ...] = ()

    @property
    def is_index(self) -> bool:
        """Whether the reference pointed at an index."""
        if self.media_type:
            return self.media_type in INDEX_TYPES
        return all(one.digest != self.digest for one in self.platforms)

    @property
    def root(self) -> Descriptor | None:
        """The descriptor of the reference; None if a hand-written lock omits the size."""
        if not self.media_type or self.size is None:
            return None
        return Descriptor(self.media_type, self.digest, self.size)

    @property
    def pinned(self) -> str:
        """The pinned reference: `registry/repository@digest`."""
        return f"{Reference.parse(self.reference).identity}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock; `images` are sorted by reference, each once."""

    images: tuple[LockedImage, ...] = ()

    def find(self, reference: str) -> LockedImage | None:
        """Return the record of a canonical reference; None if there is none."""
        return next((image for image in self.images if image.reference == reference), None)

    def named(self, name: str) -> tuple[LockedImage, ...]:
        """Return the records of a reference, or of a repository with all of its tags.

        Raises:
            InvalidReference: the name is not a reference.
        """
        wanted = Reference.parse(name)
        if wanted.tag is not None or wanted.digest is not None:
            exact = self.find(str(wanted))
            return (exact,) if exact is not None else ()
        starts = (f"{wanted.identity}:", f"{wanted.identity}@")
        return tuple(image for image in self.images if image.reference.startswith(starts))

    def merged(self, images: Iterable[LockedImage]) -> Lock:
        """Return a lock with images added or replaced."""
        known = {image.reference: image for image in self.images}
        known.update({image.reference: image for image in images})
        return Lock(tuple(known[reference] for reference in sorted(known)))

    def without(self, images: Iterable[LockedImage]) -> Lock:
        """Return a lock without some images."""
        gone = {image.reference for image in images}
        return Lock(tuple(image for image in self.images if image.reference not in gone))


Change = Literal["added", "changed", "unchanged", "removed"]


@dataclass(frozen=True, slots=True)
class LockChange:
    """The change of one reference in a lock; `before` is None for an added one."""

    change: Change
    image: LockedImage
    before: LockedImage | None


@dataclass(frozen=True, slots=True)
class Locked:
    """The result of `lock`.

    `changes`: one per requested reference, in that order. `failures`: references that could not be
    looked up. With any, nothing was written.
    """

    path: str
    lock: Lock
    changes: tuple[LockChange, ...]
    failures: tuple[Failure, ...] = ()
    warnings: tuple[Warned, ...] = ()

    @property
    def written(self) -> bool:
        """Whether `lock` was written to the file."""
        return not self.failures


def change_of(before: LockedImage | None, after: LockedImage) -> LockChange:
    """Return the change of a reference."""
    if before is None:
        return LockChange("added", after, None)
    return LockChange("unchanged" if before == after else "changed", after, before)


def write_lock(lock: Lock) -> bytes:
    """Serialise a lock as ASCII JSON, sorted, one member per line, with a final line break."""
    images = {image.reference: _image_value(image) for image in lock.images}
    value = {"schema": SCHEMA, "images": dict(sorted(images.items()))}
    return (json.dumps(value, indent=2, ensure_ascii=True) + "\n").encode("ascii")


def read_lock(body: bytes, place: str) -> Lock:
    """Parse a lock, which may have been edited by hand.

    Raises:
        BadLock: it is malformed or contradicts itself; `field` is the path of the error.
        LockLimit: it is too large, too deep, or has too many references.
    """
    refuse_at_once(body, place)
    try:
        lock = _lock(read_object(body, f"`{place}`"), place)
    except (BadDocument, UnsupportedDocument) as error:
        raise BadLock(place, error.field, error.reason) from error
    except LimitExceeded as error:
        reason = _past(error.what, error.limit, error.value, error.unit)
        raise LockLimit(place, "", reason, _SPLIT) from error
    found = contradiction(lock)
    if found is not None:
        raise BadLock(place, *found)
    return lock


def refuse_at_once(body: bytes, place: str) -> None:
    """Refuse a file that is too large, or has unresolved merge conflicts."""
    if len(body) > MAX_LOCK:
        raise LockLimit(place, "", f"it has more than {MAX_LOCK} bytes", _SPLIT)
    for number, line in enumerate(body.split(b"\n"), 1):
        if _CONFLICT.fullmatch(line):
            raise BadLock(
                place,
                "",
                f"line {number} is a merge conflict",
                f"keep one side with `git checkout --ours -- {place}`, then run "
                "`resolver lock --update`",
            )


def refuse_too_many(count: int, place: str) -> None:
    """Refuse more references than a lock may have."""
    if count > MAX_IMAGES:
        reason = _past("their number", MAX_IMAGES, count, "references")
        raise LockLimit(place, "images", reason, _SPLIT)


def _past(what: str, limit: int, value: int | str, unit: str) -> str:
    return f"{what} exceeds the limit of {limit} {unit}: {value}"


def _image_value(image: LockedImage) -> dict[str, object]:
    value: dict[str, object] = {"written": image.written, "digest": str(image.digest)}
    value.update(_kind_value(image.media_type, image.size))
    if image.only:
        value["only"] = sorted(image.only)
    value["platforms"] = {
        one.key: _platform_value(one)
        for one in sorted(image.platforms, key=lambda platform: platform.key)
    }
    return value


def _kind_value(media_type: str, size: int | None) -> dict[str, object]:
    value: dict[str, object] = {}
    if media_type:
        value["mediaType"] = media_type
    if size is not None:
        value["size"] = size
    return value


def _platform_value(one: LockedPlatform) -> dict[str, object]:
    value: dict[str, object] = {"digest": str(one.digest)}
    value.update(_kind_value(one.media_type, one.size))
    value["entry"] = one.entry
    if _spelled(one.key) != one.platform:
        value["platform"] = _spelling(one.platform)
    return value


@lru_cache(maxsize=1024)
def _spelled(key: str) -> Platform | None:
    """Parse a key as a platform; None if it is not one. Cached, because the same few keys recur."""
    try:
        return Platform.parse(key)
    except InvalidPlatform:
        return None


def _spelling(platform: Platform) -> dict[str, object]:
    """Serialise a platform as in an index. Source: OCI image-spec v1.1.1, image-index.md."""
    value: dict[str, object] = {
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
        "os.version": platform.os_version,
        "os.features": list(platform.os_features),
    }
    return {name: part for name, part in value.items() if part}


def _lock(document: dict[str, object], place: str) -> Lock:
    fields = _fields(document, f"`{place}`", "", _TOP)
    if fields.integer("schema") != SCHEMA:
        raise fields.bad("schema", f"an unknown version; this `resolver` reads {SCHEMA}")
    images = fields.child("images")
    if images is None:
        raise fields.bad("images", "required, but missing")
    refuse_too_many(len(images.members), place)
    return Lock(tuple(_image(images, reference) for reference in sorted(images.members)))


def _image(images: Fields, reference: str) -> LockedImage:
    canonical(reference, images, reference)
    fields = _fields(images.members[reference], images.what, images.at(reference), _IMAGE)
    platforms = fields.child("platforms")
    if platforms is None:
        raise fields.bad("platforms", "required, but missing")
    return LockedImage(
        reference,
        _written(fields, reference),
        fields.digest("digest"),
        fields.text("mediaType") or "",
        fields.integer("size") if fields.has("size") else None,
        tuple(_platform(platforms, key) for key in sorted(platforms.members)),
        _only(fields),
    )


def _written(fields: Fields, reference: str) -> str:
    """Read `written`, which reviewers see, so it must name the same reference."""
    text = fields.required_text("written")
    try:
        meant = str(Reference.parse(text))
    except InvalidReference as error:
        raise fields.bad("written", f"not an image reference: {error.reason}") from error
    if meant != reference:
        raise fields.bad("written", f"this is `{meant}`, which contradicts its key")
    return text


def _only(fields: Fields) -> tuple[str, ...]:
    keys = fields.texts("only")
    for key in keys:
        read_key(key, fields, "only")
    return tuple(sorted(set(keys)))


def _platform(platforms: Fields, key: str) -> LockedPlatform:
    fields = _fields(platforms.members[key], platforms.what, platforms.at(key), _PLATFORM)
    spelling = fields.child("platform", PLATFORM_NAMES)
    if spelling is None:
        platform = read_key(key, platforms, key)
    else:
        platform = read_platform(spelling)
        if str(platform.normalized()) != key:
            reason = f"this is `{platform.normalized()}`, which contradicts its key"
            raise fields.bad("platform", reason)
    return LockedPlatform(
        platform,
        fields.digest("digest"),
        fields.text("mediaType") or "",
        fields.integer("size") if fields.has("size") else None,
        fields.integer("entry"),
    )


def canonical(text: str, fields: Fields, name: str) -> str:
    """Check that a reference is in canonical form, so that each has one spelling."""
    try:
        whole = str(Reference.parse(text))
    except InvalidReference as error:
        raise fields.bad(name, f"not an image reference: {error.reason}") from error
    if whole != text:
        raise fields.bad(name, f"must be written in full, `{whole}`")
    return whole


def read_key(key: str, fields: Fields, name: str) -> Platform:
    """Parse a platform in normal form."""
    platform = _spelled(key)
    if platform is None:
        raise fields.bad(name, "not a platform")
    if str(platform.normalized()) != key:
        raise fields.bad(name, f"must be written `{platform.normalized()}`")
    return platform


def _fields(value: object, what: str, path: str, known: frozenset[str]) -> Fields:
    """Read an object, and refuse unknown members: the format is ours and versioned."""
    fields = Fields.of(value, what, path, known)
    for name in fields.members:
        if name not in known:
            raise fields.bad(name, f"unknown; known fields are {', '.join(sorted(known))}")
    return fields
