"""Locks of another hand, in YAML: read as strictly as our own, and never written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from resolver.core.digest import Digest
from resolver.core.lock import Lock, LockedImage, LockedPlatform, refuse_at_once, refuse_too_many
from resolver.core.platform import Platform
from resolver.core.reference import Reference
from resolver.errors import BadFile, BadLock, FileLimit, LockLimit, Malformed
from resolver.strict_yaml import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.marked import Spot

#: The one version there is.
_VERSION = 1


def read_yaml(body: bytes, place: str) -> Lock:
    """Read `version: 1` and `images`, a list of `ref`, `digest` and `platforms`.

    `repo` and `tag` may stand for `ref`. Platforms lead to digests; sizes and types are not known
    here, so such a lock can be checked, and not be answered from. Other names are left alone.

    Args:
        body: of the file.
        place: the file, for messages.

    Raises:
        BadLock: it is no such lock; `field` is the path to the fault, the message has its line.
        LockLimit: it is too large, too deep, would grow when read, or has too many references.

    """
    refuse_at_once(body, place)
    try:
        return _lock(parse(body, place))
    except FileLimit as error:
        raise LockLimit(place, error.field, f"{error.reason}{_at(error)}") from error
    except BadFile as error:
        raise BadLock(place, error.field, f"{error.reason}{_at(error)}", *error.hints()) from error


def _at(error: BadFile) -> str:
    return f" (line {error.line}, column {error.column})" if error.line else ""


def _lock(top: Spot) -> Lock:
    fields = top.members()
    version = _need(top, fields, "version")
    if version.whole() != _VERSION:
        version.fail(f"a version that is not known here; this reads {_VERSION}")
    spots = list(_need(top, fields, "images").items())
    refuse_too_many(len(spots), top.place)
    images: dict[str, LockedImage] = {}
    for spot in spots:
        image = _image(spot)
        if image.reference in images:
            spot.fail(f"`{image.reference}` stands here twice")
        images[image.reference] = image
    return Lock(tuple(images[reference] for reference in sorted(images)))


def _image(spot: Spot) -> LockedImage:
    fields = spot.members()
    if "ref" in fields:
        where, text = fields["ref"], fields["ref"].text()
    else:
        where = _need(spot, fields, "repo")
        tag = f":{fields['tag'].text()}" if "tag" in fields else ""
        text = where.text() + tag
    try:
        reference = Reference.parse(text)
    except Malformed as error:
        _refuse(where, error)
    platforms = fields.get("platforms")
    found = tuple(_platforms(platforms)) if platforms is not None else ()
    digest = _digest(_need(spot, fields, "digest"))
    if reference.digest not in {None, digest}:
        where.fail("the digest in here is not the one that is locked for it")
    return LockedImage(str(reference), text, digest, "", None, tuple(sorted(found, key=_key)))


def _key(one: LockedPlatform) -> str:
    return one.key


def _platforms(spot: Spot) -> Iterator[LockedPlatform]:
    seen: set[str] = set()
    for entry, (text, digest) in enumerate(spot.members().items()):
        try:
            platform = Platform.parse(text)
        except Malformed as error:
            _refuse(digest, error)
        one = LockedPlatform(platform, _digest(digest), "", None, entry)
        if one.key in seen:
            digest.fail(f"`{one.key}` stands here twice, in two spellings")
        seen.add(one.key)
        yield one


def _digest(spot: Spot) -> Digest:
    try:
        return Digest.parse(spot.text())
    except BadFile:
        raise
    except Malformed as error:
        _refuse(spot, error)


def _need(spot: Spot, fields: dict[str, Spot], name: str) -> Spot:
    if name not in fields:
        spot.fail(f"`{name}` is missing here")
    return fields[name]


def _refuse(spot: Spot, error: Malformed) -> NoReturn:
    spot.fail(str(error))
