"""Rules about platforms as written in an index, or in the config of a single image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Rule, Severity
from resolver.core.lint.subject import LintRow
from resolver.core.platforms.platform import lower

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.lint.findings import Finding
    from resolver.core.lint.subject import Subject
    from resolver.core.platforms.platform import Platform

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
        if platform is None or is_unknown(platform) or _is_wasm(platform):
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


def _is_wasm(platform: Platform) -> bool:
    return lower(platform.architecture) == "wasm" and lower(platform.os) in _WASM_SYSTEMS


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
    """Format a platform so that omitted parts are visible."""
    names = (platform.os, platform.architecture, platform.variant)
    return "/".join(names).rstrip("/")


ROWS = (
    LintRow(MISSING_VARIANT, missing_variants),
    LintRow(MISSING_OS_VERSION, missing_os_versions),
    LintRow(UNKNOWN_OS, unknown_systems),
    LintRow(UNKNOWN_ARCHITECTURE, unknown_architectures),
    LintRow(UNKNOWN_IMAGE, unknown_images),
    LintRow(ODD_SPELLING, odd_spellings),
)
