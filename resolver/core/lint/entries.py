"""Rules about the entries of an index together: duplicate, dangling, out of order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Rule, Severity
from resolver.core.lint.spelling import is_unknown
from resolver.core.lint.subject import LintRow
from resolver.core.oci.descriptor import SCHEMA1_TYPES
from resolver.core.oci.digest import Digest
from resolver.errors import InvalidDigest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.lint.findings import Finding
    from resolver.core.lint.subject import Subject
    from resolver.core.oci.image import ImageEntry
    from resolver.core.platforms.platform import Platform

#: BuildKit's annotation for the digest of the entry that an attestation refers to. Source:
#: BuildKit, docs/attestations/attestation-storage.md.
SPEAKS_ABOUT = "vnd.docker.reference.digest"
#: How containers/image marks the zstd twin of a gzip image, which is no duplicate.
#: Source: containers/image, internal/manifest/oci_index.go, OCI1InstanceAnnotationCompressionZSTD.
_ZSTD = "io.github.containers.compression.zstd"
#: Part of Windows itself, so no matcher requires it (docs/platform-matching.md, "Features rule").
_WIN32K = "win32k"

ENTRY_WITHOUT_PLATFORM = Rule(
    "entry-without-platform",
    Severity.WARNING,
    "an image in the index has no platform",
    "Clients disagree about such an entry: go-containerregistry treats it as linux/amd64, "
    "containers/image accepts it for any platform, oras and regclient never select it. Build the "
    "index again with a tool that states the platform of each entry, or add it with `docker "
    "buildx imagetools create` or `regctl index add --desc-platform`.",
)
DUPLICATE_PLATFORM = Rule(
    "duplicate-platform",
    Severity.ERROR,
    "two entries for one platform",
    "Clients select the first matching entry, so one of the two builds is never used, often the "
    "newer one. Build the index again instead of appending to it. Windows entries are "
    "distinguished by `os.version`, others by architecture, variant and `os.features`; a copy "
    "that is marked as zstd-compressed is not a duplicate.",
)
NO_IMAGE = Rule(
    "no-image",
    Severity.ERROR,
    "an index or artifact without an image",
    "It cannot be pulled on any platform: the index is empty, or contains only attestations, for "
    "example after a clean-up that deleted the images. Push it again. If the name refers to "
    "another artifact on purpose, such as a chart, this is a note.",
)
DANGLING_ATTESTATION = Rule(
    "dangling-attestation",
    Severity.WARNING,
    "an attestation of a missing image",
    "Provenance and SBOMs are looked up by the digest of their subject. If the index does not "
    "list that image, the attestation applies to nothing here. The usual cause is an index that "
    "was rebuilt or copied for some platforms only. Build it again, or remove the attestation.",
)
BASELINE_NOT_FIRST = Rule(
    "baseline-not-first",
    Severity.WARNING,
    "a higher CPU level before the baseline",
    "crane and oras ignore the variant when none is requested and select the first entry of the "
    "architecture: with `amd64/v3` before `amd64`, older machines get a program that crashes "
    "with SIGILL. List the entry without a variant, or with the lowest one, first.",
)


def no_images(subject: Subject) -> Iterator[Finding]:
    """Find references without an image."""
    if subject.root is None or subject.images:
        return
    others = [part for part in subject.parts if not part.is_attestation]
    if any(
        part.failure is not None or part.descriptor.media_type in SCHEMA1_TYPES for part in others
    ):
        return
    if others:
        message = "it contains no image, only other content"
        yield subject.finding(NO_IMAGE, message, severity=Severity.NOTE)
    else:
        yield subject.finding(NO_IMAGE, "the index lists no image")


def entries_without_platform(subject: Subject) -> Iterator[Finding]:
    """Find images that the index lists without a platform."""
    for part in subject.listed:
        if part.descriptor.platform is None:
            note = f"; its config says `{part.platform}`" if part.platform is not None else ""
            message = f"the index has no platform for `{part.descriptor.digest}`{note}"
            yield subject.finding(ENTRY_WITHOUT_PLATFORM, message, part)


def duplicate_platforms(subject: Subject) -> Iterator[Finding]:
    """Find platforms with several entries; one finding per platform."""
    groups: dict[tuple[Platform, str], list[ImageEntry]] = {}
    for part in subject.listed:
        if part.descriptor.platform is not None and not is_unknown(part.descriptor.platform):
            twin = part.descriptor.annotation(_ZSTD) or ""
            key = (_compared(subject, part.descriptor.platform), twin)
            groups.setdefault(key, []).append(part)
    for parts in groups.values():
        digests = sorted({str(part.descriptor.digest) for part in parts})
        first = min(parts, key=lambda part: str(part.platform))
        if len(digests) > 1:
            named = " and ".join(f"`{digest}`" for digest in digests)
            message = f"{len(digests)} entries are for `{first.platform}`: {named}"
            yield replace(subject.finding(DUPLICATE_PLATFORM, message, first), digest=digests[0])
        elif len(parts) > 1:
            message = f"`{digests[0]}` is listed {len(parts)} times for `{first.platform}`"
            yield subject.finding(DUPLICATE_PLATFORM, message, first, severity=Severity.NOTE)


def dangling_attestations(subject: Subject) -> Iterator[Finding]:
    """Find attestations of content that the index does not list."""
    listed = {part.descriptor.digest for part in subject.parts}
    for part in subject.parts if subject.index is not None else ():
        if not part.is_attestation:
            continue
        about = part.descriptor.annotation(SPEAKS_ABOUT)
        if about is None:
            message = f"the attestation `{part.descriptor.digest}` does not name its subject"
        elif _digest(about) not in listed:
            message = (
                f"the attestation `{part.descriptor.digest}` refers to `{about}`, "
                "which is not in the index"
            )
        else:
            continue
        yield subject.finding(DANGLING_ATTESTATION, message, part)


def baselines_not_first(subject: Subject) -> Iterator[Finding]:
    """Find levels that only newer machines run, listed before an entry that all machines run."""
    table = subject.table
    seen: dict[Platform, list[ImageEntry]] = {}
    for part in subject.listed:
        if part.descriptor.platform is None:
            continue
        compared = _compared(subject, part.descriptor.platform)
        bare = table.chip(compared.architecture, "")
        earlier = seen.setdefault(replace(compared, variant=""), [])
        if table.newer((compared.architecture, compared.variant), bare):
            earlier.append(part)
            continue
        for high in earlier:
            message = f"`{high.platform}` is listed before `{part.platform}`"
            yield subject.finding(BASELINE_NOT_FIRST, message, high)
        earlier.clear()


def _compared(subject: Subject, platform: Platform) -> Platform:
    """Reduce a platform to the fields that clients compare."""
    normal = platform.normalized(subject.table)
    if normal.os != "windows":
        return normal
    features = tuple(feature for feature in normal.os_features if feature != _WIN32K)
    return replace(normal, os_features=features)


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


ROWS = (
    LintRow(NO_IMAGE, no_images),
    LintRow(ENTRY_WITHOUT_PLATFORM, entries_without_platform),
    LintRow(DUPLICATE_PLATFORM, duplicate_platforms),
    LintRow(DANGLING_ATTESTATION, dangling_attestations),
    LintRow(BASELINE_NOT_FIRST, baselines_not_first),
)
