"""Indexes, manifests and configs, and what accompanies an image: parsing verified bytes.

The bytes are verified before they are parsed, and documents are never serialised again. Unknown
media types, members and platforms are not errors (docs/store-and-reliability.md, "Unknown
members").
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal

from resolver.core.oci.descriptor import (
    CONFIG_TYPES,
    DESCRIPTOR_NAMES,
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    DOCUMENT_TYPES,
    INDEX_TYPES,
    OCI_ARTIFACT,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    PLATFORM_NAMES,
    SCHEMA1_TYPES,
    Descriptor,
    EntryKind,
    is_artifact_type,
    read_descriptor,
    read_descriptors,
    read_platform,
    refuse_two_sizes,
)
from resolver.core.oci.digest import Digest
from resolver.core.parse.json import Fields, digest, read_object
from resolver.errors import BadDocument, InvalidDigest, LimitExceeded, UnsupportedDocument
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.platforms.platform import Platform

#: Every top-level member that is interpreted; spellings with another case are refused.
#: Source: OCI image-spec v1.1.1 manifest.md, image-index.md; distribution docs manifest-v2-1.md.
KNOWN = frozenset({
    "schemaVersion", "mediaType", "artifactType", "manifests", "config", "layers", "blobs",
    "fsLayers", "subject", "annotations",
})  # fmt: skip

#: Types that storage and CDNs send for any file; they identify nothing.
#: Source: docs/wire-protocol.md, "Document type".
GENERIC_TYPES = frozenset({"", "application/json", "application/octet-stream", "text/plain"})

_IMAGE_FIELDS = ("config", "layers", "fsLayers")
_SCHEMA1_HINT = "push the image again with a current tool: schema 1 was replaced in 2016"


def decide_type(
    content_type: str | None, document: Mapping[str, object], what: str, expected: str | None = None
) -> str:
    """Decide the media type of a document read by `parse.json.read_object`.

    Raises:
        BadDocument: the media types disagree, or members of two kinds are mixed.
        UnsupportedDocument: schema 1, or an unsupported media type.
    """
    fields = Fields.of(document, what, "", KNOWN)
    stated = _meaningful((content_type or "").partition(";")[0].strip(" \t").lower())
    claimed = _meaningful(fields.media_type("mediaType"))
    parent = _meaningful(expected)
    _refuse_schema1(fields, (claimed, stated, parent))
    decided = next((kind for kind in (claimed, stated, parent) if kind in DOCUMENT_TYPES), "")
    _refuse_mixture(fields, decided)
    _refuse_disagreement(what, claimed, stated, parent)
    return decided or _by_shape(fields)


def _meaningful(media_type: str | None) -> str:
    return "" if media_type is None or media_type in GENERIC_TYPES else media_type


def _refuse_schema1(fields: Fields, types: tuple[str, ...]) -> None:
    version = fields.members.get("schemaVersion")
    # `type(…) is int`: True equals 1 in Python.
    is_first = type(version) is int and version == 1
    is_shaped = fields.has("fsLayers") and not any(
        fields.has(name) for name in ("config", "layers", "manifests")
    )
    if is_first or is_shaped or SCHEMA1_TYPES.intersection(types):
        raise UnsupportedDocument(
            fields.what, "schemaVersion", "it is a schema 1 manifest", _SCHEMA1_HINT
        )


def _refuse_mixture(fields: Fields, decided: str) -> None:
    """Refuse members of one kind in a document of another; null counts as absent."""
    image = [name for name in _IMAGE_FIELDS if fields.has(name)]
    index = ["manifests"] if fields.has("manifests") else []
    if decided in INDEX_TYPES:
        own, alien = index, image
    elif decided:
        own = [name for name in image if name != "fsLayers"]
        alien = index + [name for name in image if name == "fsLayers"]
    else:
        own, alien = image, index if image else []
    if not alien:
        return
    named = ", ".join(f"`{name}`" for name in (*own, *alien))
    if own:
        reason = f"ambiguous, {named} belong to different kinds of document"
    else:
        reason = f"ambiguous, its type is `{decided}`, which has no {named}"
    raise fields.bad(alien[0], reason)


def _refuse_disagreement(what: str, claimed: str, stated: str, parent: str) -> None:
    # An unknown Content-Type (`text/html`) is a server's default; an unknown type in the
    # document or the descriptor is deliberate, so it must agree.
    statements = [
        ("its `mediaType`", claimed),
        # Before Content-Type: documents in the store have only their descriptor.
        ("the descriptor that names it", parent),
        ("its Content-Type", stated if stated in DOCUMENT_TYPES else ""),
    ]
    statements = [(origin, kind) for origin, kind in statements if kind]
    for origin, kind in statements[1:]:
        first, decided = statements[0]
        if kind != decided:
            raise BadDocument(
                what, "mediaType", f"{first} says `{decided}`, but {origin} says `{kind}`"
            )
    if claimed and claimed not in DOCUMENT_TYPES:
        raise UnsupportedDocument(what, "mediaType", f"`{claimed}` is not a supported media type")


def _by_shape(fields: Fields) -> str:
    """Derive the type from the members. Source: containers/image, `GuessMIMEType`."""
    config = fields.child("config")
    config_type = config.text("mediaType") if config else None
    if config_type in (OCI_CONFIG, DOCKER_CONFIG):
        return OCI_MANIFEST if config_type == OCI_CONFIG else DOCKER_MANIFEST
    # Go writes null for an empty list, so a null member still identifies the kind.
    if fields.has("manifests") or (config is None and "manifests" in fields.members):
        return OCI_INDEX
    if config and "layers" in fields.members:
        return OCI_MANIFEST
    if "blobs" in fields.members:
        return OCI_ARTIFACT
    raise BadDocument(
        fields.what, "mediaType", "neither the registry nor the document states its media type"
    )


#: Bytes of a manifest, an index or a config.
#: Source: docs/store-and-reliability.md, "Size limits"; distribution-spec: at least 4 megabytes.
MAX_DOCUMENT = 4_194_304


def oversize(descriptor: Descriptor, reference: str) -> LimitExceeded | None:
    """Return the error for a manifest whose stated size is over the limit; None if it is not."""
    if descriptor.size <= MAX_DOCUMENT:
        return None
    what = f"the manifest `{descriptor.digest}` of `{reference}`"
    return LimitExceeded(what, MAX_DOCUMENT, descriptor.size)


def refuse_oversize(body: bytes, what: str) -> None:
    """Check the size of a document."""
    if len(body) > MAX_DOCUMENT:
        raise LimitExceeded(what, MAX_DOCUMENT, len(body))


#: Indexes inside indexes. Source: docs/store-and-reliability.md, "Index traversal".
MAX_DEPTH = 8
#: Source: docs/store-and-reliability.md, "Size limits"; Docker itself refuses more than 125.
MAX_LAYERS = 10_000

_SCHEMA_VERSION = 2

#: Config types that early clients pushed for Docker images; Docker still accepts them.
#: Source: moby daemon/internal/distribution/registry.go, defaultImageTypes; distribution#1621.
_LOOSE_DOCKER_CONFIGS = frozenset({"application/octet-stream", "application/json", "text/html"})


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, normally one per platform.

    `manifests`: in document order; among equal matches the first is selected. `annotations`: sorted
    pairs.
    """

    media_type: str
    manifests: tuple[Descriptor, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one image or artifact.

    Attributes:
        media_type: OCI manifest, Docker manifest, or the withdrawn OCI artifact manifest.
        config: None only in an artifact manifest.
        layers: bottom first; the blobs, in an artifact manifest.
        lacks_layers: the document has no member `layers`, which the specification requires; read
            as no layers.
    """

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    lacks_layers: bool = False

    @property
    def is_image(self) -> bool:
        """Whether this is an image manifest, whose config states a platform.

        An `artifactType` takes precedence over the config. Source: OCI image-spec v1.1.1,
        manifest.md, "Guidelines for Artifact Usage".
        """
        if self.config is None or is_artifact_type(self.artifact_type):
            return False
        kind = self.config.media_type
        loose = self.media_type == DOCKER_MANIFEST and kind in _LOOSE_DOCKER_CONFIGS
        return loose or kind in CONFIG_TYPES


def entry_kind(entry: Descriptor, manifest: Manifest | None) -> EntryKind:
    """Return the kind by the index, or as artifact if the manifest shows that it is no image."""
    if entry.kind is EntryKind.IMAGE and manifest is not None and not manifest.is_image:
        return EntryKind.ARTIFACT
    return entry.kind


def parse_document(
    body: bytes, content_type: str | None, what: str, expected: str | None = None
) -> Index | Manifest:
    """Parse an index or a manifest.

    Raises:
        BadDocument: a member is invalid; `field` is its path.
        UnsupportedDocument: schema 1, an unsupported type, or an unsupported digest algorithm.
        LimitExceeded: over 4 MiB, too deep, or too many entries.
        DigestMismatch, SizeMismatch: embedded `data` does not match its descriptor.
    """
    refuse_oversize(body, what)
    document = read_object(body, what)
    kind = decide_type(content_type, document, what, expected)
    fields = Fields.of(document, what, "", KNOWN)
    if kind == OCI_ARTIFACT:
        return _artifact(fields)
    if fields.integer("schemaVersion") != _SCHEMA_VERSION:
        raise fields.bad("schemaVersion", "must be 2")
    return _index(fields, kind) if kind in INDEX_TYPES else _manifest(fields, kind)


def _index(fields: Fields, kind: str) -> Index:
    if "manifests" not in fields.members:
        raise fields.bad("manifests", "required, but missing")
    index = Index(
        media_type=kind,
        manifests=read_descriptors(fields, "manifests", any_algorithm=True),
        artifact_type=fields.media_type("artifactType"),
        subject=_subject(fields),
        annotations=fields.pairs("annotations"),
    )
    places = [(f"manifests[{at}]", entry) for at, entry in enumerate(index.manifests)]
    refuse_two_sizes(fields.what, [("subject", index.subject), *places])
    return index


def _manifest(fields: Fields, kind: str) -> Manifest:
    fields.required("config")
    config = fields.child("config", DESCRIPTOR_NAMES)
    manifest = Manifest(
        media_type=kind,
        config=None if config is None else read_descriptor(config),
        layers=_layers(fields, "layers"),
        artifact_type=fields.media_type("artifactType"),
        subject=_subject(fields),
        annotations=fields.pairs("annotations"),
        lacks_layers="layers" not in fields.members,
    )
    _refuse_two_sizes(fields, manifest, "layers")
    return manifest


def _artifact(fields: Fields) -> Manifest:
    """Read an artifact manifest. Source: OCI image-spec v1.1.0-rc2, artifact.md."""
    manifest = Manifest(
        media_type=OCI_ARTIFACT,
        config=None,
        layers=_layers(fields, "blobs"),
        artifact_type=fields.media_type("artifactType"),
        subject=_subject(fields),
        annotations=fields.pairs("annotations"),
    )
    _refuse_two_sizes(fields, manifest, "blobs")
    return manifest


def _layers(fields: Fields, name: str) -> tuple[Descriptor, ...]:
    count = len(fields.array(name))
    if count > MAX_LAYERS:
        raise LimitExceeded(f"`{name}` in {fields.what}", MAX_LAYERS, count, "layers")
    return read_descriptors(fields, name)


def _subject(fields: Fields) -> Descriptor | None:
    child = fields.child("subject", DESCRIPTOR_NAMES)
    return None if child is None else read_descriptor(child, any_algorithm=True)


def _refuse_two_sizes(fields: Fields, manifest: Manifest, name: str) -> None:
    places = [(f"{name}[{at}]", layer) for at, layer in enumerate(manifest.layers)]
    head = [("config", manifest.config), ("subject", manifest.subject)]
    refuse_two_sizes(fields.what, [*head, *places])


#: As `descriptor.EntryKind`, and referrers; `index` is a nested index that was not read.
AttachedKind = Literal["image", "attestation", "artifact", "index", "referrer"]

_KINDS: dict[EntryKind, AttachedKind] = {
    EntryKind.IMAGE: "image",
    EntryKind.INDEX: "index",
    EntryKind.ATTESTATION: "attestation",
    EntryKind.ARTIFACT: "artifact",
}
_PLURALS: dict[AttachedKind, str] = {
    "image": "images",
    "attestation": "attestations",
    "artifact": "artifacts",
    "index": "indexes",
    "referrer": "referrers",
}


@dataclass(frozen=True, slots=True)
class Attached:
    """Content that is stored with an image and is not an image.

    Attributes:
        kind: `attestation` and `artifact` are index entries, `referrer` is not.
        about: digest of what it refers to; None if not stated.
        tag: of the repository, as cosign uses; empty for others.
    """

    kind: AttachedKind
    manifest: Descriptor
    about: Digest | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An index entry that a pull or an export skips."""

    reference: str
    kind: AttachedKind
    descriptor: Descriptor
    platform: Platform | None


def kind_of(entry: Descriptor, manifest: Manifest | None = None) -> AttachedKind:
    """Classify an index entry, given its manifest if that was read."""
    return _KINDS[entry_kind(entry, manifest)]


def refers_to(entry: Descriptor) -> Digest | None:
    """Return the digest of the entry that this one refers to; None if not stated."""
    text = entry.attests
    if text is None:
        return None
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def counted(kinds: Iterable[AttachedKind]) -> str:
    """Format counts by kind: `2 images, 1 attestation`."""
    counts = Counter(kinds)
    return ", ".join(
        f"{counts[kind]} {kind if counts[kind] == 1 else plural}"
        for kind, plural in _PLURALS.items()
        if counts[kind]
    )


# Source: OCI image-spec v1.1.1 config.md; `Healthcheck` is Docker's.
_NAMES = PLATFORM_NAMES | {"created", "author", "config", "rootfs", "history"}
_ROOTFS_NAMES = frozenset({"type", "diff_ids"})
_HISTORY_NAMES = frozenset({"created", "created_by", "author", "comment", "empty_layer"})
_RUN_NAMES = frozenset({
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
    "StopSignal", "Healthcheck",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One build step; texts are as written, empty if absent."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The config of an image; texts are as written, empty if absent.

    Attributes:
        platform: as written; None when the operating system or the architecture is missing.
        diff_ids: digests of the uncompressed layers, bottom first.
        env: `NAME=value`, in the order of the document.
        healthcheck: Docker's object as compact JSON; empty if absent.
    """

    os: str
    architecture: str
    variant: str
    os_version: str
    os_features: tuple[str, ...]
    platform: Platform | None
    created: str
    author: str
    diff_ids: tuple[Digest, ...]
    history: tuple[HistoryEntry, ...]
    user: str
    working_dir: str
    stop_signal: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    healthcheck: str


def parse_config(body: bytes, what: str, layers: int | None) -> ImageConfig:
    """Parse the config of an image.

    `what`: the document, for messages: "the config of `ubuntu:24.04`". `layers`: number of layers
    in the manifest; None if unknown.

    Raises:
        BadDocument: a member is invalid; `field` is its path.
        UnsupportedDocument: a diff ID has an unsupported algorithm.
        LimitExceeded: over 4 MiB, or too deep.
    """
    refuse_oversize(body, what)
    fields = Fields.of(read_object(body, what), what, "", _NAMES)
    platform = read_platform(fields)
    run = fields.child("config", _RUN_NAMES) or Fields(what, "config", {})
    return ImageConfig(
        os=platform.os,
        architecture=platform.architecture,
        variant=platform.variant,
        os_version=platform.os_version,
        os_features=platform.os_features,
        platform=platform if platform.os and platform.architecture else None,
        created=fields.text("created") or "",
        author=fields.text("author") or "",
        diff_ids=_read_diff_ids(fields, layers),
        history=tuple(map(_read_history, fields.children("history", _HISTORY_NAMES))),
        user=run.text("User") or "",
        working_dir=run.text("WorkingDir") or "",
        stop_signal=run.text("StopSignal") or "",
        env=run.texts("Env"),
        entrypoint=run.words("Entrypoint"),
        cmd=run.words("Cmd"),
        exposed_ports=run.names("ExposedPorts"),
        volumes=run.names("Volumes"),
        labels=run.pairs("Labels"),
        healthcheck=_read_healthcheck(run),
    )


def _read_diff_ids(fields: Fields, layers: int | None) -> tuple[Digest, ...]:
    if not any(fields.has(name) for name in ("rootfs", "os", "architecture")):
        # Some artifacts (OPA bundles) have `{}` with the media type of an image config.
        return ()
    if "rootfs" not in fields.members:
        raise fields.bad("rootfs", "required, but missing")
    rootfs = fields.child("rootfs", _ROOTFS_NAMES) or Fields(fields.what, "rootfs", {})
    path = rootfs.at("diff_ids")
    diff_ids = tuple(
        digest(value, fields.what, f"{path}[{position}]")
        for position, value in enumerate(rootfs.array("diff_ids"))
    )
    if layers is not None and len(diff_ids) != layers:
        reason = f"{len(diff_ids)} for {layers} layers in the manifest"
        raise rootfs.bad("diff_ids", reason)
    return diff_ids


def _read_history(fields: Fields) -> HistoryEntry:
    return HistoryEntry(
        created=fields.text("created") or "",
        created_by=fields.text("created_by") or "",
        author=fields.text("author") or "",
        comment=fields.text("comment") or "",
        empty_layer=fields.boolean("empty_layer"),
    )


def _read_healthcheck(run: Fields) -> str:
    if not run.has("Healthcheck"):
        return ""
    return json.dumps(run.members["Healthcheck"], sort_keys=True, separators=(",", ":"))


# Source: RFC 3339 section 5.6; OCI image-spec v1.1.1, config.md, `created`.
_WRITTEN = pattern(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,18})?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
#: The first public release of Docker, 0.1.0 of 23 March 2013. Earlier dates are placeholders of
#: reproducible builds: the year 1, 1970, 1980.
_FIRST_IMAGES = datetime(2013, 3, 23, tzinfo=UTC)
_LEAP = 60


def read_moment(text: str) -> datetime | None:
    """Parse a build date, normally RFC 3339; None if invalid or a placeholder."""
    matched = _WRITTEN.fullmatch(text) if len(text) <= 64 else None  # noqa: PLR2004 - as the pattern
    if matched is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in matched.groups()[:6])
    sign, hours, minutes = matched.groups()[6:]
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        zone = timezone(-away if sign == "-" else away)
        # A leap second becomes the second before it: ages are shown in hours.
        moment = datetime(
            year, month, day, hour, minute, min(second, _LEAP - 1) if second <= _LEAP else second,
            tzinfo=zone,
        )  # fmt: skip
    except (ValueError, OverflowError):
        return None
    return moment if moment >= _FIRST_IMAGES else None


def in_words(seconds: float) -> str:
    """Format a duration in days, or in hours below two days."""
    hours = int(seconds // 3_600)
    count, unit = (hours, "hour") if hours < 48 else (hours // 24, "day")  # noqa: PLR2004
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
