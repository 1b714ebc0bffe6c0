"""Rules about the entries of an index: their order and completeness, and how they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Rule, Severity
from resolver.core.lint.subject import LintRow
from resolver.core.oci.descriptor import SCHEMA1_TYPES
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform, lower
from resolver.errors import InvalidDigest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.lint.findings import Finding
    from resolver.core.lint.subject import Subject
    from resolver.core.oci.image import ImageEntry
    from resolver.core.platforms.platform import PlatformTable


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
ONE_PLATFORM_SBOM = Rule(
    "one-platform-sbom",
    Severity.WARNING,
    "SBOM of the index describes one platform only",
    "Scanners that are given a multi-platform image read one of its platforms, and the SBOM is "
    "then attached to the index as if it described all of them, so that vulnerabilities of the "
    "others are missed. Make an SBOM for each platform, and attach it to the manifest of that "
    "platform; `resolver attestations` shows which have one.",
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
        about = part.descriptor.attests
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


def one_platform_sboms(subject: Subject) -> Iterator[Finding]:
    """Find SBOMs of the index whose subject, or whose packages, are those of some platforms."""
    named = [part for part in subject.listed if part.platform is not None]
    chips = {
        part.descriptor.digest: part.platform.normalized(subject.table).architecture
        for part in named
        if part.platform is not None
    }
    for sbom in subject.sboms:
        known = {_architecture(each, subject.table) for each in sbom.architectures}
        about = [part for part in named if str(part.descriptor.digest) in sbom.subjects] or [
            part for part in named if chips[part.descriptor.digest] in known
        ]
        platforms = dict.fromkeys(str(part.platform) for part in about)
        if platforms and platforms.keys() < {str(part.platform) for part in named}:
            names = " and ".join(f"`{each}`" for each in platforms)
            message = f"the SBOM `{sbom.digest}` of the index describes {names} only"
            yield subject.finding(ONE_PLATFORM_SBOM, message)


#: Names of architectures in package URLs that differ from those of platforms.
#: Source: Debian, "Architecture names"; purl specification, "rpm".
_PACKAGE_ARCHITECTURES = {"i686": "386", "armhfp": "arm", "ppc64el": "ppc64le"}


def _architecture(name: str, table: PlatformTable) -> str:
    """Normalise the architecture of a package."""
    written = Platform("linux", _PACKAGE_ARCHITECTURES.get(name, name))
    return written.normalized(table).architecture


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
    "A Windows container runs only on the builds of Windows that match its base image, and hosts "
    "select by `os.version`. Without it, every host considers the image suitable and fails when "
    "the container starts; hosts that request a version find nothing. Copy `os.version` from the "
    "base image: `docker manifest annotate --os-version 10.0.20348.2700`.",
)
UNKNOWN_OS = Rule(
    "unknown-os",
    Severity.WARNING,
    "an unknown operating system",
    "Clients compare names, and none requests this one, so the entry is never selected. Names "
    "are those of Go's GOOS: `linux`, `windows`, `darwin`. If the name is correct and new, add "
    "it with `--platforms-file`.",
)
UNKNOWN_ARCHITECTURE = Rule(
    "unknown-architecture",
    Severity.WARNING,
    "an unknown architecture",
    "Clients compare names, and none requests this one, so the entry is never selected. Names "
    "are those of Go's GOARCH: `amd64`, `arm64`, `arm` with a variant, `ppc64le`, `s390x`, "
    "`riscv64`. If the name is correct and new, add it with `--platforms-file`.",
)
UNKNOWN_IMAGE = Rule(
    "unknown-image",
    Severity.WARNING,
    "an `unknown/unknown` image",
    "BuildKit lists attestations as `unknown/unknown` and marks them with the annotation "
    "`vnd.docker.reference.type`. Without it, tools count the entry as another image that no "
    "machine can run; some index editors remove it. Keep the annotations when an index is "
    "copied, or build with `--provenance=false`.",
)
ODD_SPELLING = Rule(
    "odd-spelling",
    Severity.WARNING,
    "a platform in an unusual spelling",
    "containerd and Docker accept other spellings, but crane, oras and skopeo compare exactly: "
    "for them, an image for `aarch64` does not match `arm64`. Spell platforms as Go does, in "
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
            message = f"`{platform}` has no `os.version`, so every Windows host selects it"
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
            message = f"no client requests the operating system `{platform.os}`"
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
            message = f"no client requests the architecture `{platform.architecture}`"
            yield subject.finding(UNKNOWN_ARCHITECTURE, message, part)


def unknown_images(subject: Subject) -> Iterator[Finding]:
    """Find `unknown/unknown` entries that are not marked as attestations."""
    for part in subject.listed:
        stated = part.descriptor.platform
        if stated is not None and is_unknown(stated):
            message = (
                f"`{part.descriptor.digest}` is `{stated}`, but is not annotated as an attestation"
            )
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
    LintRow(ONE_PLATFORM_SBOM, one_platform_sboms),
    LintRow(BASELINE_NOT_FIRST, baselines_not_first),
    LintRow(MISSING_VARIANT, missing_variants),
    LintRow(MISSING_OS_VERSION, missing_os_versions),
    LintRow(UNKNOWN_OS, unknown_systems),
    LintRow(UNKNOWN_ARCHITECTURE, unknown_architectures),
    LintRow(UNKNOWN_IMAGE, unknown_images),
    LintRow(ODD_SPELLING, odd_spellings),
)
