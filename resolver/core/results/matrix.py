"""Results of `matrix`: an image's builds as CI jobs, one per platform.

Platforms in an index are untrusted text that ends up in workflows and shell commands. A job
therefore contains only letters, digits and `._-`, the `/`, `:`, `@`, `(`, `+` and `)` added here,
and percent-encoded versions. Other platforms are skipped with a warning.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.check.check import matches
from resolver.core.oci.manifest import oversize
from resolver.core.platforms.platform import UNKNOWN, Platform
from resolver.core.platforms.select import missing_features, select
from resolver.core.results.events import Warned
from resolver.errors import Negative, NotFound, PlatformNotOffered, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.image import ImageDocuments, ImageEntry
    from resolver.core.platforms.platform import PlatformTable

_SAFE = re.compile(r"[A-Za-z0-9_.-]{0,64}", re.ASCII)
#: Characters of a version or a feature.
_LONGEST = 64
#: A runner label. GitHub allows 256 characters, GitLab 255.
_LABEL = re.compile(r"[ -~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class System:
    """A CI system that matrices are made for; `jobs`: the most per matrix; 0 for no limit."""

    name: str
    title: str
    jobs: int


#: The systems by name. To add one, add a row here and in `render/answers/matrix.py`.
#: Sources of the limits: docs.github.com, "Usage limits" of Actions: 256 jobs
#: of a matrix per run; docs.gitlab.com, `parallel:matrix`: 200 permutations.
SYSTEMS = {
    row.name: row
    for row in (
        System("github", "GitHub Actions", 256),
        System("gitlab", "GitLab CI", 200),
        System("json", "", 0),
    )
}


@dataclass(frozen=True, slots=True)
class RunnerRule:
    """A user's runner for a platform without variant or version, or for that one alone."""

    platform: Platform
    label: str

    @property
    def weight(self) -> tuple[bool, int]:
        """How specific the rule is; the most specific one applies."""
        version = self.platform.os_version
        return bool(self.platform.variant), len(version.split(".")) if version else 0


@dataclass(frozen=True, slots=True)
class Job:
    """One build of an image, as a job.

    `platform`: with `os.features` only if requested: no runner offers any. `ref`:
    `registry/repository@digest`; for local sources only the digest.
    """

    platform: Platform
    digest: Digest
    ref: str
    runner: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """The jobs of one image; `repository`: `registry/repository`; empty for local sources."""

    reference: str
    repository: str
    root: Descriptor
    system: str
    jobs: tuple[Job, ...]
    warnings: tuple[Warned, ...] = ()


def system_of(name: str) -> System:
    """Return a CI system by name."""
    if name not in SYSTEMS:
        names = ", ".join(f"`{name}`" for name in SYSTEMS)
        raise Usage(f"`{name[:40]}` is not a supported CI system", f"choose one of {names}")
    return SYSTEMS[name]


def parse_runner(text: str, table: PlatformTable) -> RunnerRule:
    """Parse `PLATFORM=LABEL`."""
    platform, equals, label = text.partition("=")
    example = "write `--runner linux/arm64=ubuntu-24.04-arm`"
    if platform.endswith(",osver") and "=" in label:
        version, _, label = label.partition("=")
        platform = f"{platform}={version}"
    if not equals or "/" not in platform:
        raise Usage(f"`--runner {text[:80]}` is not `PLATFORM=LABEL`", example)
    if not _LABEL.fullmatch(label):
        raise Usage(f"`--runner {text[:80]}` has no valid runner label", example)
    return RunnerRule(Platform.parse(platform, table=table), label)


def make_matrix(
    image: ImageDocuments,
    wanted: Sequence[Platform],
    system: System,
    rules: Sequence[RunnerRule],
    table: PlatformTable,
    *,
    require_runner: bool = False,
) -> Matrix:
    """Create a job for every build of an image, or for the requested platforms.

    `wanted`: matched exactly; empty for every platform. `rules`: take precedence over the table's
    runners; the most specific applies, then the last.

    Raises:
        PlatformNotOffered: a wanted platform is none of the image's.
        NotFound: there is no build to make a job of.
        Negative: `require_runner` and a machine is missing (`runner-missing`), or there are more
            jobs than the system takes (`matrix-too-large`).
    """
    offered, warnings = _usable(image, wanted, table)
    for platform in wanted:
        if not any(matches(platform, job.platform, table) for job in offered):
            texts = tuple(str(part.platform) for part in image.images if part.platform is not None)
            raise PlatformNotOffered(image.reference, str(platform), texts)
    jobs = tuple(
        replace(job, runner=_runner(job.platform, system, rules, table))
        for job in offered
        if not wanted or any(matches(platform, job.platform, table) for platform in wanted)
    )
    if not jobs:
        raise NotFound(f"`{image.reference}` offers no platform")
    lost = tuple(str(job.platform) for job in jobs if job.runner is None)
    if lost and require_runner:
        listing = ", ".join(f"`{platform}`" for platform in lost)
        raise Negative(
            f"no runner is known for {listing} of `{image.reference}`",
            f"name one with `--runner {lost[0]}=LABEL`, or leave it out: choose with `-p`",
            code="runner-missing",
            reference=image.reference,
            platforms=lost,
        )
    if lost and system.jobs:
        warnings.append(_no_runner(lost, system))
    if system.jobs and len(jobs) > system.jobs:
        hint = "choose fewer platforms with `-p`"
        raise too_large(system.title, system.jobs, len(jobs), "jobs of a matrix", hint)
    used = {job.digest for job in jobs}
    for part in image.images:
        reason = oversize(part.descriptor, image.reference)
        if reason is not None and part.descriptor.digest in used:
            warnings.append(Warned("oversized-manifest", f"{reason}; `pull` rejects it"))
    repository = image.prefix.removesuffix("@")
    notes = (*image.warnings, *warnings)
    return Matrix(image.reference, repository, image.root, system.name, jobs, notes)


def parts_of_jobs(
    image: ImageDocuments, wanted: Sequence[Platform], table: PlatformTable
) -> list[ImageEntry]:
    """Return the images that become jobs, so that their manifests can be checked."""
    offered, _warnings = _usable(image, wanted, table)
    digests = {
        job.digest
        for job in offered
        if not wanted or any(matches(platform, job.platform, table) for platform in wanted)
    }
    return [part for part in image.images if part.descriptor.digest in digests]


def _usable(
    image: ImageDocuments, wanted: Sequence[Platform], table: PlatformTable
) -> tuple[list[Job], list[Warned]]:
    """Create a job for each platform, with the entry that `resolve` selects; warn of the others."""
    rivals: dict[Platform, list[tuple[Platform, ImageEntry]]] = {}
    warnings = []
    for part in image.images:
        platform = part.platform
        if platform is not None and platform.os == UNKNOWN:
            continue
        reason = _unusable(platform, wanted, table)
        if platform is None or reason:
            warnings.append(_left_out(image, part.descriptor.digest, reason))
        else:
            bare = _named(platform, table)
            rivals.setdefault(bare.normalized(table), []).append((bare, part))
    jobs = []
    for several in rivals.values():
        platforms = [part.platform for _, part in several]
        place = select(platforms, several[0][0], exact=True, table=table).index or 0
        chosen, best = several[place]
        digest = best.descriptor.digest
        jobs.append(Job(chosen, digest, f"{image.prefix}{digest}", None))
        for _, part in several:
            if part is not best:
                reason = f"another entry is chosen for `{chosen}`"
                warnings.append(_left_out(image, part.descriptor.digest, reason))
    return jobs, warnings


def _unusable(platform: Platform | None, wanted: Sequence[Platform], table: PlatformTable) -> str:
    if platform is None:
        return "it names no platform"
    if not _is_safe(platform):
        return f"`{platform}` has characters that jobs cannot contain"
    needed = missing_features(platform, Platform(), table.system(platform.os))
    if needed and not any(matches(want, platform, table) for want in wanted):
        return f"`{platform}` requires features (`-p '{platform}'` takes it)"
    return ""


def _named(platform: Platform, table: PlatformTable) -> Platform:
    """Remove features that every host offers, and set the default operating system."""
    system = table.system(platform.os)
    needed = missing_features(platform, Platform(), system)
    return replace(platform, os=platform.os or system, os_features=tuple(sorted(needed)))


def _is_safe(platform: Platform) -> bool:
    parts = (platform.os, platform.architecture, platform.variant)
    texts = (platform.os_version, *platform.os_features)
    named = bool(platform.architecture) and all(map(_SAFE.fullmatch, parts))
    return named and all(len(text) <= _LONGEST for text in texts)


def _runner(
    platform: Platform, system: System, rules: Sequence[RunnerRule], table: PlatformTable
) -> str | None:
    best: RunnerRule | None = None
    for rule in rules:
        fits = _fits(rule.platform, platform, table)
        if fits and (best is None or rule.weight >= best.weight):
            best = rule
    return best.label if best is not None else table.runner(platform, system.name)


def _fits(rule: Platform, platform: Platform, table: PlatformTable) -> bool:
    if rule.variant:
        return matches(rule, platform, table)
    want, has = rule.normalized(table), platform.normalized(table)
    # Here `linux/arm` covers every level; as a platform it would be v7.
    same = replace(want, variant=has.variant)
    return matches(same, has, table)


def _left_out(image: ImageDocuments, digest: Digest, reason: str) -> Warned:
    return Warned("job-left-out", f"`{image.reference}`: no job for `{digest}`: {reason}")


def _no_runner(lost: Sequence[str], system: System) -> Warned:
    listing = ", ".join(f"`{platform}`" for platform in lost)
    return Warned(
        "no-runner",
        f"no {system.title} runner is known for {listing}, so `runner` is empty there "
        f"(`--runner {lost[0]}=LABEL` names one)",
    )


def too_large(system: str, limit: int, value: int, unit: str, hint: str) -> Negative:
    """Return the error for a matrix that goes past a limit of its CI system."""
    return Negative(
        f"{system} takes {limit} {unit} at most, and these are {value}",
        hint,
        code="matrix-too-large",
        system=system,
        limit=limit,
        value=value,
        unit=unit,
    )
