"""Rules about the entries of an index: their order and completeness, and how they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Rule, Severity
from resolver.core.lint.subject import LintRow
from resolver.core.oci.descriptor import SCHEMA1_TYPES
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import lower
from resolver.errors import InvalidDigest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.lint.findings import Finding
    from resolver.core.lint.subject import Subject
    from resolver.core.oci.image import ImageEntry
    from resolver.core.platforms.platform import Platform


#: How containers/image marks the zstd twin of a gzip image, which is no duplicate.
#: Source: containers/image, internal/manifest/oci_index.go, OCI1InstanceAnnotationCompressionZSTD.
_ZSTD = "io.github.containers.compression.zstd"
#: Part of Windows itself, so no matcher requires it (docs/platform-matching.md, "Features rule").
_WIN32K = "win32k"

ENTRY_WITHOUT_PLATFORM = Rule(
    "entry-without-platform",
    Severity.WARNING,
    "an image in the index has no platform",
    "Clients disagree about such an entry: go-containerregistry takes it for linux/amd64, "
    "containers/image takes it for anything, oras and regclient never choose it. Build the index "
    "again with a tool that states the platform of each entry, or add it with "
    "`docker buildx imagetools create` or `regctl index add --desc-platform`.",
)
DUPLICATE_PLATFORM = Rule(
    "duplicate-platform",
    Severity.ERROR,
    "two entries are for one platform",
    "Clients take the first entry that fits and never see the other, so that one of the two builds "
    "is never used, often the newer one. Build the index again instead of appending to "
    "it. Windows entries are told apart by `os.version`, others by architecture, variant and "
    "`os.features`; a twin that is marked as zstd-compressed is not a duplicate.",
)
NO_IMAGE = Rule(
    "no-image",
    Severity.ERROR,
    "an index without an image, or no image at all",
    "This cannot be pulled on any platform: the index is empty, or only attestations are left in "
    "it, as after a clean-up that deleted the images. Push it again. Where the name holds "
    "something else on purpose, as a chart, this is a note.",
)
DANGLING_ATTESTATION = Rule(
    "dangling-attestation",
    Severity.WARNING,
    "an attestation about what is not there",
    "Provenance and SBOM are looked up by the digest of their subject. Where the index lists no "
    "such image, the statement belongs to nothing here: most often an index was rebuilt or copied "
    "for some platforms only. Build it again, or leave the attestation out.",
)
BASELINE_NOT_FIRST = Rule(
    "baseline-not-first",
    Severity.WARNING,
    "a higher CPU level before the one for all",
    "crane and oras ignore the variant when none is requested and take the first entry of the "
    "architecture: with `amd64/v3` before `amd64`, older machines get a program that dies with "
    "SIGILL. Put the entry without a variant, or with the lowest one, first.",
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
        message = "there is no image in it, but something else"
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
        about = part.descriptor.attests
        if about is None:
            message = f"the attestation `{part.descriptor.digest}` does not say what it is about"
        elif _digest(about) not in listed:
            message = (
                f"the attestation `{part.descriptor.digest}` is about `{about}`, "
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
            message = f"`{high.platform}` stands before `{part.platform}`"
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


_UNKNOWN = "unknown"
#: WebAssembly's systems are common although Go does not list them as single words.
_WASM_SYSTEMS = frozenset({"wasi", "wasip1", "wasip2"})

MISSING_VARIANT = Rule(
    "missing-variant",
    Severity.WARNING,
    "32-bit arm without a variant",
    "`arm` alone means `arm/v7` to Docker and containerd, and anything from v5 to v8 to other "
    "tools: an image for v6 is then never offered to the Raspberry Pi it was built for, and one "
    "for v7 crashes there. State the variant: `--platform linux/arm/v7` or `linux/arm/v6`.",
)
MISSING_OS_VERSION = Rule(
    "missing-os-version",
    Severity.WARNING,
    "Windows without `os.version`",
    "A Windows container runs on the builds of Windows that fit its base image, and hosts choose "
    "by `os.version`. Without it every host believes that the image fits, and finds out when the "
    "container does not start; hosts that ask for a version find nothing. Copy `os.version` from "
    "the base image: `docker manifest annotate --os-version 10.0.20348.2700`.",
)
UNKNOWN_OS = Rule(
    "unknown-os",
    Severity.WARNING,
    "an operating system that no client knows",
    "Clients compare names, and none asks for this one, so the entry is never chosen. "
    "Names are those of Go's GOOS: `linux`, `windows`, `darwin`. If the name is right and new, "
    "teach it to resolver with `--platforms-file`.",
)
UNKNOWN_ARCHITECTURE = Rule(
    "unknown-architecture",
    Severity.WARNING,
    "an architecture that no client knows",
    "Clients compare names, and none asks for this one, so the entry is never chosen. "
    "Names are those of Go's GOARCH: `amd64`, `arm64`, `arm` with a variant, `ppc64le`, `s390x`, "
    "`riscv64`. If the name is right and new, teach it to resolver with `--platforms-file`.",
)
UNKNOWN_IMAGE = Rule(
    "unknown-image",
    Severity.WARNING,
    "`unknown/unknown`, and not an attestation",
    "BuildKit lists its statements about images as `unknown/unknown` and marks them with the "
    "annotation `vnd.docker.reference.type`. Without the mark, tools count the entry as one more "
    "image that no machine can run; some index editors drop it. Keep the annotations when an index "
    "is copied, or build with `--provenance=false`.",
)
ODD_SPELLING = Rule(
    "odd-spelling",
    Severity.WARNING,
    "a platform that is spelled in an odd way",
    "containerd and Docker know other spellings, but crane, oras and skopeo compare letter by "
    "letter: for them an image for `aarch64` is none for `arm64`. Spell platforms as Go does, in "
    "lower case: `amd64`, `arm64`, `arm` with `v6` or `v7`, `386`.",
)


def missing_variants(subject: Subject) -> Iterator[Finding]:
    """Find 32-bit arm without a variant, which the config of a single image may omit."""
    for part in subject.images:
        platform = part.platform
        if platform is not None and lower(platform.architecture) == "arm" and not platform.variant:
            severity = Severity.WARNING if subject.index is not None else Severity.NOTE
            message = f"`{platform}` has no variant, so it is treated as `arm/v7`"
            yield subject.finding(MISSING_VARIANT, message, part, severity=severity)


def missing_os_versions(subject: Subject) -> Iterator[Finding]:
    """Find Windows images without an `os.version`."""
    for part in subject.images:
        platform = part.platform
        if platform is None or subject.table.system(platform.os) != "windows":
            continue
        if not platform.os_version:
            config = part.config.os_version if part.config is not None else ""
            hint = f"its config says `{config}`" if config else ""
            message = f"`{platform}` has no `os.version`, so every Windows host takes it"
            yield subject.finding(MISSING_OS_VERSION, message, part, hint=hint)


def unknown_systems(subject: Subject) -> Iterator[Finding]:
    """Find unknown operating systems."""
    for part in subject.images:
        platform = part.platform
        if platform is None or is_unknown(platform):
            continue
        if lower(platform.architecture) == "wasm" and lower(platform.os) in _WASM_SYSTEMS:
            continue
        if subject.table.system(platform.os) not in subject.table.systems:
            message = f"no client asks for the operating system `{platform.os}`"
            yield subject.finding(UNKNOWN_OS, message, part)


def unknown_architectures(subject: Subject) -> Iterator[Finding]:
    """Find unknown architectures."""
    for part in subject.images:
        platform = part.platform
        if platform is None or is_unknown(platform):
            continue
        architecture = platform.normalized(subject.table).architecture
        if not architecture:
            yield subject.finding(UNKNOWN_ARCHITECTURE, "its platform names no architecture", part)
        elif architecture not in subject.table.architectures:
            message = f"no client asks for the architecture `{platform.architecture}`"
            yield subject.finding(UNKNOWN_ARCHITECTURE, message, part)


def unknown_images(subject: Subject) -> Iterator[Finding]:
    """Find `unknown/unknown` entries that are not marked as attestations."""
    for part in subject.listed:
        stated = part.descriptor.platform
        if stated is not None and is_unknown(stated):
            message = f"`{part.descriptor.digest}` is `{stated}`, and no attestation by its marks"
            yield subject.finding(UNKNOWN_IMAGE, message, part)


def odd_spellings(subject: Subject) -> Iterator[Finding]:
    """Find spellings of platforms that only some clients recognise."""
    for part in subject.listed:
        stated = part.descriptor.platform
        if stated is None:
            continue
        normal = stated.normalized(subject.table)
        usual = replace(
            normal,
            variant=_usual_variant(stated, normal),
            os_version=stated.os_version,
            os_features=stated.os_features,
        )
        if usual != stated:
            message = f"`{_written(stated)}` is usually spelled `{usual.format()}`"
            yield subject.finding(ODD_SPELLING, message, part)


def is_unknown(platform: Platform) -> bool:
    """Return whether a platform is the `unknown/unknown` of attestations, or half of it."""
    return lower(platform.os) == _UNKNOWN or lower(platform.architecture) == _UNKNOWN


def _usual_variant(stated: Platform, normal: Platform) -> str:
    """Return the usual spelling of a variant, keeping or omitting a default as stated."""
    if not stated.variant:
        return "" if lower(stated.architecture) == normal.architecture else normal.variant
    if normal.variant:
        return normal.variant
    # A default that the normal form omits: `v8` of arm64, `v1` of amd64.
    text = lower(stated.variant)
    return text if text.startswith("v") else f"v{text}"


def _written(platform: Platform) -> str:
    names = (platform.os, platform.architecture, platform.variant)
    return "/".join(names).rstrip("/")


ROWS = (
    LintRow(NO_IMAGE, no_images),
    LintRow(ENTRY_WITHOUT_PLATFORM, entries_without_platform),
    LintRow(DUPLICATE_PLATFORM, duplicate_platforms),
    LintRow(DANGLING_ATTESTATION, dangling_attestations),
    LintRow(BASELINE_NOT_FIRST, baselines_not_first),
    LintRow(MISSING_VARIANT, missing_variants),
    LintRow(MISSING_OS_VERSION, missing_os_versions),
    LintRow(UNKNOWN_OS, unknown_systems),
    LintRow(UNKNOWN_ARCHITECTURE, unknown_architectures),
    LintRow(UNKNOWN_IMAGE, unknown_images),
    LintRow(ODD_SPELLING, odd_spellings),
)
