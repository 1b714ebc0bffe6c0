"""What references pointed at when somebody asked, and what was pulled under them.

Two folders, because they are two things: a resolve that finds a moved tag must not change what a
name that was pulled means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.attached import Attached
from resolver.core.descriptor_reader import PLATFORM_NAMES, read_platform
from resolver.core.fields import Fields
from resolver.core.pulled_name import PulledImage, PulledName
from resolver.core.reference_grammar import is_tag
from resolver.store.records import Form, read_identity, write_descriptor
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.attached import AttachedKind
    from resolver.core.descriptor import Descriptor
    from resolver.core.platform import Platform

#: Format of a file in `seen`, and of one in `names`.
SCHEMA = 1
_SEEN_MEMBERS = frozenset({"schema", "reference", "root"})
_PULLED_MEMBERS = _SEEN_MEMBERS | {"images", "pulledAt", "attached"}
_IMAGE_MEMBERS = frozenset({"platform", "manifest"})
_ATTACHED_MEMBERS = frozenset({"kind", "about", "tag", "manifest"})
_ATTACHED_KINDS: dict[str, AttachedKind] = {
    "attestation": "attestation",
    "artifact": "artifact",
    "referrer": "referrer",
}


@dataclass(frozen=True, slots=True)
class NameRecord:
    """What a reference pointed at when it was last asked about.

    Attributes:
        reference: canonical.
        root: type, digest and size only; the type is the decided one.

    """

    reference: str
    root: Descriptor


def merged(known: PulledName | None, new: PulledName) -> PulledName:
    """Join what was pulled before and now; what belongs to another root is let go."""
    images = {image.manifest.digest: image for image in new.images}
    attached = {each.manifest.digest: each for each in new.attached}
    if known is not None and known.root.digest == new.root.digest:
        images = {image.manifest.digest: image for image in known.images} | images
        attached = {each.manifest.digest: each for each in known.attached} | attached
    in_order = sorted(images.values(), key=lambda i: (str(i.platform or ""), i.manifest.digest))
    beside = sorted(attached.values(), key=lambda each: each.manifest.digest)
    return PulledName(new.reference, new.root, tuple(in_order), new.pulled_at, tuple(beside))


def _write_seen(record: NameRecord) -> Mapping[str, object]:
    root = write_descriptor(record.root)
    return {"schema": SCHEMA, "reference": record.reference, "root": root}


def _read_seen(members: dict[str, object], what: str) -> NameRecord:
    fields = _known(members, what, _SEEN_MEMBERS)
    return NameRecord(fields.required_text("reference"), read_identity(fields, "root"))


def _write_pulled(record: PulledName) -> Mapping[str, object]:
    images = [
        {"platform": _write_platform(i.platform), "manifest": write_descriptor(i.manifest)}
        for i in record.images
    ]
    written: dict[str, object] = {
        "schema": SCHEMA,
        "reference": record.reference,
        "root": write_descriptor(record.root),
        "images": images,
        "pulledAt": record.pulled_at,
    }
    if record.attached:
        written["attached"] = [_write_attached(each) for each in record.attached]
    return written


def _read_pulled(members: dict[str, object], what: str) -> PulledName:
    fields = _known(members, what, _PULLED_MEMBERS)
    return PulledName(
        fields.required_text("reference"),
        read_identity(fields, "root"),
        tuple(_read_image(child) for child in fields.children("images", _IMAGE_MEMBERS)),
        fields.integer("pulledAt"),
        tuple(_read_attached(child) for child in fields.children("attached", _ATTACHED_MEMBERS)),
    )


def _write_attached(attached: Attached) -> dict[str, object]:
    written: dict[str, object] = {
        "kind": attached.kind,
        "manifest": write_descriptor(attached.manifest),
    }
    if attached.about is not None:
        written["about"] = str(attached.about)
    if attached.tag:
        written["tag"] = attached.tag
    return written


def _read_attached(fields: Fields) -> Attached:
    kind = _ATTACHED_KINDS.get(fields.required_text("kind"))
    if kind is None:
        raise fields.bad("kind", f"it must be one of {', '.join(_ATTACHED_KINDS)}")
    about = fields.digest("about") if fields.has("about") else None
    tag = fields.text("tag") or ""
    if tag and not is_tag(tag):
        raise fields.bad("tag", "it is no tag")
    return Attached(kind, read_identity(fields, "manifest"), about, tag)


def _read_image(fields: Fields) -> PulledImage:
    platform = fields.child("platform", PLATFORM_NAMES)
    return PulledImage(
        None if platform is None else read_platform(platform), read_identity(fields, "manifest")
    )


def _write_platform(platform: Platform | None) -> dict[str, object] | None:
    if platform is None:
        return None
    return {
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
        "os.version": platform.os_version,
        "os.features": list(platform.os_features),
    }


def _known(members: dict[str, object], what: str, known: frozenset[str]) -> Fields:
    fields = Fields.of(members, what, "", known)
    if fields.integer("schema") != SCHEMA:
        raise fields.bad("schema", f"it must be {SCHEMA}")
    return fields


SEEN: Form[NameRecord] = Form("seen", lambda record: record.reference, _write_seen, _read_seen)
PULLED: Form[PulledName] = Form(
    "names", lambda record: record.reference, _write_pulled, _read_pulled
)
