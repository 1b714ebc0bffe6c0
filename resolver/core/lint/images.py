"""Rules about images that contradict their index, and about pins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.lint.findings import Rule, Severity
from resolver.core.lint.subject import LintRow
from resolver.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.core.lint.findings import Finding
    from resolver.core.lint.subject import Subject
    from resolver.core.oci.image import ImageEntry
    from resolver.core.platforms.platform import Platform, PlatformTable

#: Empty layers, which images of any platform share: 1,024 zero bytes uncompressed (also their
#: diff_id), and compressed by Docker's gzip and by Go's.
#: Source: moby layer/empty.go (DigestSHA256EmptyTar); image-spec; distribution schema1 builder.
_EMPTY = frozenset(
    Digest("sha256", digits)
    for digits in (
        "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "a3ed95caeb02ffe68cdd9fd84406680ae93d663cb16422d00e8a7c22955b46d4",
        "4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1",
    )
)
#: Components of a Windows version that are compared; the fourth is the revision.
#: Source: docs/platform-matching.md, "Windows build rule".
_BUILD = 3

CONTRADICTORY_CONFIG = Rule(
    "contradictory-config",
    Severity.ERROR,
    "index and config name different platforms",
    "Clients select by the index, but machines run what is inside, so one of the two is wrong. "
    "The usual cause is a build that silently used a base image of another platform. Check `FROM "
    "--platform` and the base image, build again, and check with `resolver lint --deep` what the "
    "programs are built for.",
)
IDENTICAL_LAYERS = Rule(
    "identical-layers",
    Severity.ERROR,
    "the same layers for different architectures",
    "A program is built for one architecture, so all entries but one are wrong, unless the "
    "layers contain no programs. It is an error if a config names a command to run, and a note "
    "if none does: data, charts and scripts can be the same everywhere, and so can programs "
    "built for several architectures. It is also a note if one architecture runs the programs of "
    "the other, as amd64 does those of 386. `resolver lint --deep` checks the programs.",
)
CONFIG_WITHOUT_PLATFORM = Rule(
    "config-without-platform",
    Severity.WARNING,
    "a config without `os` or `architecture`",
    "Both are required, and engines read them when they pull the image without an index, load it "
    "from a file or use it as a base. Docker refuses such an image, or assumes the platform of "
    "the machine. Build it with `--platform`.",
)
PINNED_TO_ONE_PLATFORM = Rule(
    "pinned-to-one-platform",
    Severity.WARNING,
    "a multi-platform tag pinned to one platform",
    "The digest after the tag is that of one entry, so every machine gets the image for this "
    "platform; other machines cannot run it, or emulate it slowly. Pin the digest of the index "
    "instead: `resolver resolve NAME:TAG` prints it.",
)
TAG_MOVED = Rule(
    "tag-moved",
    Severity.NOTE,
    "a tag that no longer points at its digest",
    "The digest decides which image runs; the tag is only informational. The image is not the "
    "one that the tag suggests: an older build, without later fixes. Pin the tag again to use "
    "the new image, or remove the tag.",
)


def contradictory_configs(subject: Subject) -> Iterator[Finding]:
    """Find images whose config names another platform than the index."""
    for part in subject.listed:
        stated = part.descriptor.platform
        actual = part.config.platform if part.config is not None else None
        if stated is None or actual is None:
            continue
        severity = _contradiction(stated, actual, subject.table)
        if severity is not None:
            message = f"the index says `{stated}`, its config `{actual}`"
            yield subject.finding(CONTRADICTORY_CONFIG, message, part, severity=severity)


def _contradiction(stated: Platform, actual: Platform, table: PlatformTable) -> Severity | None:
    """Return the severity of a contradiction between two platforms; None if one omits the part."""
    one, other = stated.normalized(table), actual.normalized(table)
    if (one.os, one.architecture) != (other.os, other.architecture):
        return Severity.ERROR
    baseline = {"", table.family(one.architecture).baseline}
    if actual.variant and one.variant != other.variant and {one.variant, other.variant} != baseline:
        return Severity.ERROR
    if one.os != "windows" or not one.os_version or not other.os_version:
        return None
    if one.os_version.split(".")[:_BUILD] != other.os_version.split(".")[:_BUILD]:
        return Severity.ERROR
    return Severity.NOTE if one.os_version != other.os_version else None


def identical_layers(subject: Subject) -> Iterator[Finding]:
    """Find images for different architectures with equal layers; one finding per set."""
    reported: list[frozenset[int]] = []
    for contents in (_layer_digests, _diff_ids):
        groups: dict[tuple[Digest, ...], list[ImageEntry]] = {}
        for part in subject.listed:
            key = contents(part)
            if key and part.platform is not None:
                groups.setdefault(key, []).append(part)
        for key, parts in groups.items():
            chips = {_chip(part.platform, subject.table) for part in parts if part.platform}
            members = frozenset(id(part) for part in parts)
            if len(chips) > 1 and not any(members <= known for known in reported):
                reported.append(members)
                yield _identical(subject, parts, len(key))


def _identical(subject: Subject, parts: Sequence[ImageEntry], count: int) -> Finding:
    platforms = sorted({str(part.platform) for part in parts})
    named = ", ".join(f"`{platform}`" for platform in platforms)
    layers = "their only layer is" if count == 1 else f"all {count} layers are"
    runs = any(
        part.config is not None and (part.config.entrypoint or part.config.cmd) for part in parts
    )
    message, severity = f"{layers} the same for {named}", None
    if not runs:
        message += ", and no command is named: valid if they contain no programs"
        severity = Severity.NOTE
    elif _one_runs_all(subject, parts):
        message += ": valid if all of them can run the programs"
        severity = Severity.NOTE
    hint = "" if subject.looks else "check what the programs are built for with `lint --deep`"
    return subject.finding(IDENTICAL_LAYERS, message, severity=severity, hint=hint)


def _one_runs_all(subject: Subject, parts: Sequence[ImageEntry]) -> bool:
    table = subject.table
    platforms = [part.platform.normalized(table) for part in parts if part.platform is not None]
    if len({platform.os for platform in platforms}) > 1:
        return False
    names = {platform.architecture for platform in platforms}
    vectors = [
        {chip[0] for chip, _grade in table.vector((platform.architecture, platform.variant))}
        for platform in platforms
    ]
    return any(all(name in vector for vector in vectors) for name in names)


def configs_without_platform(subject: Subject) -> Iterator[Finding]:
    """Find configs without a platform, apart from `{}`, which some artifacts have."""
    for part in subject.images:
        config = part.config
        if config is None or config.platform is not None:
            continue
        if config.diff_ids or config.os or config.architecture:
            names = (("os", config.os), ("architecture", config.architecture))
            missing = " and ".join(f"`{name}`" for name, value in names if not value)
            message = f"the config of `{part.descriptor.digest}` has no {missing}"
            yield subject.finding(CONFIG_WITHOUT_PLATFORM, message, part)


def pins_to_one_platform(subject: Subject) -> Iterator[Finding]:
    """Find a digest that is an entry of the index that the tag points at."""
    pin = subject.pin
    if pin is not None and subject.index is None and pin.digest in pin.members:
        message = (
            f"`{pin.digest}` is one entry of the index that `{pin.tag}` points at, `{pin.current}`"
        )
        yield subject.finding(PINNED_TO_ONE_PLATFORM, message)


def moved_tags(subject: Subject) -> Iterator[Finding]:
    """Find a tag that no longer points at the digest of the reference."""
    pin = subject.pin
    if pin is None or pin.current == pin.digest or pin.digest in pin.members:
        return
    if pin.current is None:
        message = f"the tag `{pin.tag}` no longer exists"
    else:
        message = f"`{pin.tag}` now points at `{pin.current}`"
    yield subject.finding(TAG_MOVED, message)


def _layer_digests(part: ImageEntry) -> tuple[Digest, ...]:
    layers = part.manifest.layers if part.manifest is not None else ()
    return tuple(layer.digest for layer in layers if layer.digest not in _EMPTY)


def _diff_ids(part: ImageEntry) -> tuple[Digest, ...]:
    """Return the digests of uncompressed layers, without empty ones."""
    found = part.config.diff_ids if part.config is not None else ()
    return tuple(digest for digest in found if digest not in _EMPTY)


def _chip(platform: Platform, table: PlatformTable) -> tuple[str, str]:
    normal = platform.normalized(table)
    return normal.os, normal.architecture


ROWS = (
    LintRow(CONTRADICTORY_CONFIG, contradictory_configs),
    LintRow(IDENTICAL_LAYERS, identical_layers),
    LintRow(CONFIG_WITHOUT_PLATFORM, configs_without_platform),
    LintRow(PINNED_TO_ONE_PLATFORM, pins_to_one_platform),
    LintRow(TAG_MOVED, moved_tags),
)
