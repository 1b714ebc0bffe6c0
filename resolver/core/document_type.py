"""Which kind of document a registry answered with (protocol.md 4.5, reliability.md R8).

Three may say: the document itself, the `Content-Type` it came with, and the descriptor that led
to it. Whoever says something must agree with the others and with the shape of the document: one
digest read as two kinds is how images are confused (CVE-2021-41190).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.descriptor import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    DOCUMENT_TYPES,
    INDEX_TYPES,
    OCI_ARTIFACT,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_TYPES,
)
from resolver.core.fields import Fields
from resolver.errors import BadDocument, UnsupportedDocument

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Every top-level name that decides something; its case variants are refused.
#: Source: OCI image-spec v1.1.1 manifest.md, image-index.md; distribution docs manifest-v2-1.md.
KNOWN = frozenset(
    {
        "schemaVersion",
        "mediaType",
        "artifactType",
        "manifests",
        "config",
        "layers",
        "blobs",
        "fsLayers",
        "subject",
        "annotations",
    }
)

#: What storage and CDNs say about any file: says nothing. Source: protocol.md 4.5 step 5.
GENERIC_TYPES = frozenset({"", "application/json", "application/octet-stream", "text/plain"})

_IMAGE_FIELDS = ("config", "layers", "fsLayers")
_SCHEMA1_HINT = "push the image again with a current tool: schema 1 was replaced in 2016"


def decide_type(
    content_type: str | None,
    document: Mapping[str, object],
    what: str,
    expected: str | None = None,
) -> str:
    """Decide the media type of a document that came through `strict_json.read_object`.

    Args:
        content_type: the header as it came; None where there is no HTTP.
        document: its members.
        what: the document, for messages.
        expected: the media type of the descriptor that led here; None when nobody said.

    Returns:
        One of the two index types, the two manifest types, or the OCI artifact manifest.

    Raises:
        BadDocument: the statements disagree, or two kinds are in one document.
        UnsupportedDocument: schema 1, or a kind that is not known here.
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
    """Make a type that says nothing empty."""
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
    # An unknown Content-Type (`text/html`) is a server that does not know; an unknown type in
    # the document or in the descriptor was put there on purpose, so it must agree.
    said = [
        ("its `mediaType`", claimed),
        # Before Content-Type: what is read from the store has only the descriptor's word.
        ("the descriptor that names it", parent),
        ("its Content-Type", stated if stated in DOCUMENT_TYPES else ""),
    ]
    said = [(who, kind) for who, kind in said if kind]
    for who, kind in said[1:]:
        first, decided = said[0]
        if kind != decided:
            raise BadDocument(
                what, "mediaType", f"{first} says `{decided}`, but {who} says `{kind}`"
            )
    if claimed and claimed not in DOCUMENT_TYPES:
        raise UnsupportedDocument(what, "mediaType", f"`{claimed}` is not a kind known here")


def _by_shape(fields: Fields) -> str:
    """Guess from the members. Source: containers/image internal/manifest, GuessMIMEType."""
    config = fields.child("config")
    config_type = config.text("mediaType") if config else None
    if config_type in (OCI_CONFIG, DOCKER_CONFIG):
        return OCI_MANIFEST if config_type == OCI_CONFIG else DOCKER_MANIFEST
    # Go writes null for an empty list, so a member that is null still says what this is.
    if fields.has("manifests") or (config is None and "manifests" in fields.members):
        return OCI_INDEX
    if config and "layers" in fields.members:
        return OCI_MANIFEST
    if "blobs" in fields.members:
        return OCI_ARTIFACT
    raise BadDocument(
        fields.what, "mediaType", "neither the registry nor the document says what it is"
    )
