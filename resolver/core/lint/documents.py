"""Rules about the documents of an index: missing, altered, or of another type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.lint.findings import Rule, Severity
from resolver.core.lint.subject import LintRow
from resolver.core.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    SCHEMA1_TYPES,
)
from resolver.errors import (
    BadDocument,
    DigestMismatch,
    NotFound,
    PlatformUnknown,
    ResolverError,
    SizeMismatch,
    UnsupportedDocument,
    Untrusted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.lint.findings import Finding
    from resolver.core.lint.subject import Subject
    from resolver.core.oci.image import ImageEntry

MISSING_MANIFEST = Rule(
    "missing-manifest",
    Severity.ERROR,
    "an entry whose manifest is missing",
    "Machines of that platform cannot pull the image, although it is listed. A clean-up policy "
    "deleted the manifest as untagged, or a copy included some platforms only. Push the image "
    "again, and configure the policy to keep what an index lists.",
)
MISSING_CONFIG = Rule(
    "missing-config",
    Severity.ERROR,
    "an image whose config is missing",
    "No engine can run an image without its config. The push was incomplete, or the clean-up of "
    "the registry deleted too much: push the image again.",
)
WRONG_SIZE = Rule(
    "wrong-size",
    Severity.ERROR,
    "a document of another size than stated",
    "Clients that check sizes, as the specification requires, refuse the image; others pull it, "
    "so the problem appears on some machines only. The index was written by hand or by a "
    "defective tool: build it again.",
)
WRONG_DIGEST = Rule(
    "wrong-digest",
    Severity.ERROR,
    "a document that does not match its digest",
    "The bytes were altered after they were pushed, by a defective disk, a proxy or an attacker. "
    "Their content cannot be trusted: find the cause, then push again.",
)
WRONG_TYPE = Rule(
    "wrong-type",
    Severity.ERROR,
    "a document of another type than stated",
    "A document that can be read as two types is two different images (CVE-2021-41190), so "
    "careful clients refuse it. Build the index again: `mediaType` in the document, in the entry "
    "and in the response of the registry must be the same.",
)
UNREADABLE_DOCUMENT = Rule(
    "unreadable-document",
    Severity.ERROR,
    "a document that is malformed or too large",
    "Clients differ in what they accept, so the image works with some of them only. Build it "
    "again with a current tool, and report the problem to the authors of that tool.",
)
UNKNOWN_DIGEST = Rule(
    "unknown-digest",
    Severity.WARNING,
    "a digest that cannot be verified",
    "The specification registers sha256 and sha512 and lets an index name others, which clients "
    "should skip. If the entry is needed, most clients refuse the image or its index as a whole. "
    "Push the image with a sha256 digest, and list that.",
)
SCHEMA_1 = Rule(
    "schema-1",
    Severity.ERROR,
    "a Docker schema 1 manifest",
    "This manifest format was replaced in 2016. It states no platform and no sizes, and current "
    "containerd and Docker refuse it. Pull the image with an old client and push it again, or "
    "build it again.",
)
MIXED_TYPES = Rule(
    "mixed-media-types",
    Severity.NOTE,
    "Docker and OCI media types in one image",
    "Registries and clients must accept both families, but some can only handle an image that "
    "uses one. Build all parts with the same `oci-mediatypes` setting.",
)


def _named(rule: Rule) -> Callable[[Subject], Iterator[Finding]]:
    """Return the function that finds documents whose failure belongs to a rule."""

    def look(subject: Subject) -> Iterator[Finding]:
        if subject.refusal is not None and fault(subject.refusal) is rule:
            yield subject.finding(rule, str(subject.refusal))
        for part in subject.parts:
            if part.descriptor.media_type in SCHEMA1_TYPES and rule is SCHEMA_1:
                message = f"the index lists the schema 1 manifest `{part.descriptor.digest}`"
                yield subject.finding(rule, message, part)
            elif not part.descriptor.digest.is_verifiable:
                if rule is UNKNOWN_DIGEST:
                    message = f"the entry `{part.descriptor.digest}` cannot be verified"
                    yield subject.finding(rule, message, part)
            elif part.failure is not None and _fault_of(part, part.failure) is rule:
                yield subject.finding(rule, str(part.failure), part)

    return look


#: The rule for each failure to read a document, by class and field ("" = any); the first fits.
_FAULTS: tuple[tuple[type[ResolverError], str, Rule], ...] = (
    (UnsupportedDocument, "schemaVersion", SCHEMA_1),
    (UnsupportedDocument, "digest", UNKNOWN_DIGEST),
    (BadDocument, "mediaType", WRONG_TYPE),
    (PlatformUnknown, "", WRONG_TYPE),
    (SizeMismatch, "", WRONG_SIZE),
    (DigestMismatch, "", WRONG_DIGEST),
    (NotFound, "", MISSING_MANIFEST),
    (Untrusted, "", UNREADABLE_DOCUMENT),
)


def fault(error: ResolverError) -> Rule | None:
    """Return the rule that a failure belongs to; None if the document could not be fetched."""
    for kind, field, rule in _FAULTS:
        if isinstance(error, kind) and field in ("", getattr(error, "field", "")):
            return rule
    return None


def mixed_types(subject: Subject) -> Iterator[Finding]:
    """Find images that mix Docker and OCI media types; one finding per image and per type."""
    for part in subject.images:
        manifest = part.manifest
        if manifest is None or manifest.config is None:
            continue
        other = OCI_CONFIG if manifest.media_type == DOCKER_MANIFEST else DOCKER_CONFIG
        if manifest.config.media_type == other:
            message = f"a manifest of type `{manifest.media_type}` has a config of type `{other}`"
            yield subject.finding(MIXED_TYPES, message, part)
    index = subject.index
    if index is None:
        return
    docker = index.media_type == DOCKER_LIST
    alien = {
        part.descriptor.media_type
        for part in subject.images
        if (part.descriptor.media_type == DOCKER_MANIFEST) is not docker
    }
    for kind in sorted(alien):
        message = f"an index of type `{index.media_type}` lists manifests of type `{kind}`"
        yield subject.finding(MIXED_TYPES, message)


def _fault_of(part: ImageEntry, error: ResolverError) -> Rule | None:
    rule = fault(error)
    return MISSING_CONFIG if rule is MISSING_MANIFEST and part.manifest is not None else rule


ROWS = (
    *(
        LintRow(rule, _named(rule))
        for rule in (
            MISSING_MANIFEST, MISSING_CONFIG, WRONG_SIZE, WRONG_DIGEST, WRONG_TYPE,
            UNREADABLE_DOCUMENT, UNKNOWN_DIGEST, SCHEMA_1,
        )
    ),
    LintRow(MIXED_TYPES, mixed_types),
)  # fmt: skip
