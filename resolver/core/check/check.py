"""Rules of `check`: what a pipeline requires of an image.

Pure: builds, requirements and the time go in, findings come out. To add a rule, write a `Rule` and
a function, and add a row to `ROWS`.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.layers.elf_needs import Sureness
from resolver.core.lint.findings import Finding, ImageResults, Rule, Severity
from resolver.core.oci.manifest import in_words, read_moment
from resolver.core.platforms.platform import UNKNOWN, parse_platforms
from resolver.core.platforms.select import WIN32K, nearest, select
from resolver.core.platforms.windows import read_version
from resolver.core.results.attestations import TrustOptions
from resolver.core.results.needs import Machine, obstacles
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.events import Warned
    from resolver.core.results.needs import ImageNeeds
    from resolver.core.results.resolve import Failure


def matches(wanted: Platform, offered: Platform, table: PlatformTable) -> bool:
    """Return whether an offered platform equals the requested one after normalisation.

    Without a requested version any matches. A requested Windows version is a prefix of the offered
    one by component: `10.0.20348` matches any revision of that build. Elsewhere versions are equal.
    Source: docs/platform-matching.md, "Exact matching".
    """
    want, has = wanted.normalized(table), offered.normalized(table)
    chip = (want.os, want.architecture or UNKNOWN, want.variant)
    own = (has.os, has.architecture or UNKNOWN, has.variant)
    if chip != own or _features(want) != _features(has):
        return False
    if not want.os_version or want.os_version == has.os_version:
        return True
    if want.os != "windows":
        return False
    prefix, version = want.os_version.split("."), has.os_version.split(".")
    return version[: len(prefix)] == prefix


def own_level(
    machine: Platform, platforms: Sequence[Platform | None], table: PlatformTable
) -> Platform:
    """Return the offered platform at the level of a machine's processor or below, else its own."""
    return select(platforms, machine, exact=True, local=True, table=table).platform or machine


def counting(
    platforms: Sequence[Platform | None], wanted: Requirements, table: PlatformTable
) -> tuple[int, ...]:
    """Return the positions of the builds whose age and attestations are checked, in order."""
    if not wanted.require:
        return tuple(
            position
            for position, platform in enumerate(platforms)
            if platform is None or platform.os != UNKNOWN
        )
    chosen = set()
    for platform in wanted.require:
        chosen.update(meeting(platform, platforms, wanted, table))
    return tuple(sorted(chosen))


def deciding(
    platforms: Sequence[Platform | None], wanted: Requirements, table: PlatformTable
) -> tuple[int, ...]:
    """Return the positions of builds that are counted, forbidden or not in `only`, by platform."""
    chosen: set[int] = set()
    if wanted.require or wanted.attestations or wanted.max_age:
        chosen.update(counting(platforms, wanted, table))
    for position, platform in enumerate(platforms):
        if platform is None or platform.os == UNKNOWN:
            chosen.discard(position)
        elif any(matches(request, platform, table) for request in wanted.forbid) or (
            wanted.only and not any(matches(request, platform, table) for request in wanted.only)
        ):
            chosen.add(position)
    return tuple(sorted(chosen))


def meeting(
    wanted: Platform,
    platforms: Sequence[Platform | None],
    requirements: Requirements,
    table: PlatformTable,
) -> list[int]:
    """Return the positions of exact matches or, with `compatible`, of one that runs."""
    exact = [
        position
        for position, platform in enumerate(platforms)
        if platform is not None and matches(wanted, platform, table)
    ]
    if exact or not requirements.compatible:
        return exact
    selection = select(platforms, wanted, table=table)
    best = selection.platform
    if selection.index is None or best is None or other_version(wanted, best):
        return []
    return [selection.index]


def other_version(wanted: Platform, offered: Platform) -> bool:
    """Whether a selected entry has another version than required, apart from Windows builds."""
    if not wanted.os_version or offered.os_version in {"", wanted.os_version}:
        return False
    return offered.os.lower() != "windows" or read_version(wanted.os_version) is None


def like(wanted: Requirements, platforms: tuple[Platform, ...]) -> Requirements:
    """Expand `same_as` to all platforms of that image and no others, without Windows revisions."""
    builds = tuple(dict.fromkeys(map(_without_revision, platforms)))
    return replace(wanted, require=(*wanted.require, *builds), only=(*wanted.only, *builds))


def _without_revision(platform: Platform) -> Platform:
    if platform.os != "windows":
        return platform
    return replace(platform, os_version=".".join(platform.os_version.split(".")[:3]))


def _features(platform: Platform) -> frozenset[str]:
    own = frozenset(feature for feature in platform.os_features if feature)
    return own - {WIN32K} if platform.os == "windows" else own


#: Platforms that a message lists if none is similar.
_NAMED = 4
#: Seconds that the build machine's clock may be ahead of this one.
_CLOCKS_DIFFER = 86_400

PLATFORM_MISSING = Rule(
    "platform-missing",
    Severity.ERROR,
    "a required platform is not offered",
    "The image has no build for a platform that the pipeline ships to, so that its deployment "
    "would fail there, or run under emulation. Matching is exact: spellings do not matter "
    "(`aarch64` is `arm64`), but a lower level is another platform; `--compatible` takes what else "
    "runs there. A Windows version of three numbers means any revision of that build, one of four "
    "that very revision; a version of another system means that very version.",
)
PLATFORM_FORBIDDEN = Rule(
    "platform-forbidden",
    Severity.ERROR,
    "a forbidden platform is offered",
    "The image has a build for a platform that it must not have, for example one that is no longer "
    "tested. Build it again without that platform.",
)
PLATFORM_NOT_ALLOWED = Rule(
    "platform-not-allowed",
    Severity.ERROR,
    "a platform that is not allowed is offered",
    "The image has an unexpected build, or one without a platform. Build it again "
    "without it, or add its platform to the list. Attestations and artifacts "
    "are not affected.",
)
ATTESTATION_MISSING = Rule(
    "attestation-missing",
    Severity.ERROR,
    "a build has no attestation of a required kind",
    "Neither an attestation manifest of BuildKit in the same index, nor anything that refers to "
    "the build in the registry, is of that kind (a signature, or a statement: in-toto, SPDX, "
    "CycloneDX, SLSA). Build with `docker buildx build --sbom=true --provenance=true`, or attach "
    "one to the manifest of each platform. With `--cover index` the index needs it instead. "
    "Signatures are verified only with `--key`, or `--identity` and `--issuer`.",
)
ATTESTATION_UNUSABLE = Rule(
    "attestation-unusable",
    Severity.ERROR,
    "a required attestation does not hold",
    "There is one of that kind, but it is about another manifest, its signature was rejected, it "
    "cannot be read, or it is not signed and a key or an identity is required. "
    "`resolver attestations` shows all of them.",
)
TOO_OLD = Rule(
    "too-old",
    Severity.ERROR,
    "a build is older than allowed",
    "Its config says that it was made too long ago, so that fixes of its base image are missing. "
    "Build it again, from a fresh base image.",
)
CANNOT_RUN = Rule(
    "cannot-run",
    Severity.ERROR,
    "a machine cannot run the image",
    "The image has no build for a machine that it is deployed to, or the programs of that build "
    "state a processor level or a page size that the machine does not have: the container ends at "
    "once. `resolver needs` shows which file states it.",
)
MAY_NOT_RUN = Rule(
    "may-not-run",
    Severity.NOTE,
    "a machine may not run the image",
    "The programs of the build may need what the machine lacks, or their needs are unknown, since "
    "headers do not show everything. Findings of this rule fail only with `--strict`.",
)
AGEUNKNOWN = Rule(
    "age-unknown",
    Severity.ERROR,
    "a build does not state when it was made",
    "Its config has no date, or one that cannot be one: reproducible builds are dated 1970 or in "
    "the year 1. The required age cannot be checked, so the check fails; skip the rule "
    "with `--ignore age-unknown` where that is fine.",
)


@dataclass(frozen=True, slots=True, eq=False)
class CheckedBuild:
    """One build of an image, with what the rules need.

    Attributes:
        platform: as written; None if neither index nor config states one.
        created: from its config; None if that was not read.
        attested: kinds of its attestations that hold; None if they were not looked up.
        rejected: pairs of other kinds, and why the best one of that kind does not hold.
    """

    platform: Platform | None
    digest: str
    created: str | None = None
    attested: frozenset[str] | None = None
    rejected: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Checkable:
    """One image, and what is required of it; `wanted`: with `same_as` already expanded.

    `runs`: every machine that the image should run on, and the needs of the build that is selected
    there; None if there is no such build. `covering`: the root, if its attestations count instead
    of those of the builds.
    """

    reference: str
    digest: str
    builds: tuple[CheckedBuild, ...]
    wanted: Requirements
    table: PlatformTable
    now: datetime
    more: tuple[Finding, ...] = ()
    runs: tuple[tuple[Machine, ImageNeeds | None], ...] = ()
    covering: CheckedBuild | None = None

    @property
    def offered(self) -> tuple[Platform, ...]:
        """The offered platforms, in index order, without `unknown`."""
        return tuple(
            build.platform
            for build in self.builds
            if build.platform is not None and build.platform.os != UNKNOWN
        )

    @property
    def counted(self) -> tuple[CheckedBuild, ...]:
        """The builds whose age and attestations are checked."""
        chosen = counting([build.platform for build in self.builds], self.wanted, self.table)
        return tuple(self.builds[position] for position in chosen)

    def finding(
        self,
        rule: Rule,
        message: str,
        platform: object = "",
        digest: str = "",
        hint: str = "",
        *,
        severity: Severity | None = None,
    ) -> Finding:
        """Create a finding of a rule, by default with its severity."""
        return Finding(
            rule=rule.id,
            severity=severity or rule.severity,
            message=message,
            subject=self.reference,
            platform=str(platform or ""),
            digest=digest or self.digest,
            hint=hint,
        )


class CheckRow(NamedTuple):
    """One rule, and the function that applies it."""

    rule: Rule
    look: Callable[[Checkable], Iterator[Finding]]


def image_findings(image: Checkable) -> tuple[Finding, ...]:
    """Apply every rule, independent of the order of the index."""
    findings = {finding for row in ROWS for finding in row.look(image)}
    place = {row.rule.id: number for number, row in enumerate(ROWS)}
    return tuple(
        sorted(
            findings,
            key=lambda finding: (
                place[finding.rule],
                finding.platform,
                finding.digest,
                finding.message,
            ),
        )
    )


def _missing(image: Checkable) -> Iterator[Finding]:
    offered = image.offered
    for platform in dict.fromkeys(image.wanted.require):
        if meeting(platform, offered, image.wanted, image.table):
            continue
        listing = ", ".join(f"`{name}`" for name in dict.fromkeys(map(str, offered)))
        hint = f"it is offered for {listing}" if listing else "it offers no platform"
        near = _nearest(platform, offered, image) or _others(offered)
        yield image.finding(
            PLATFORM_MISSING, f"`{platform}` is not offered{near}", platform, hint=hint
        )


def _others(offered: Sequence[Platform]) -> str:
    """List some offered platforms, for when none is similar."""
    names = list(dict.fromkeys(map(str, offered)))
    listing = ", ".join(f"`{name}`" for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; it offers {listing}{more}" if listing else ""


def _nearest(wanted: Platform, offered: Sequence[Platform], image: Checkable) -> str:
    """Name the most similar platform and how it differs; empty if there is none."""
    runs = select(offered, wanted, table=image.table).platform
    if runs is not None and other_version(wanted, runs):
        return f"; nearest is `{runs}`, another version"
    if runs is not None:
        return f"; nearest is `{runs}`, which runs there (`--compatible` accepts it)"
    architecture = wanted.normalized(image.table).architecture
    relatives = nearest(offered, wanted, exact=not image.wanted.compatible, table=image.table)
    relatives.sort(
        key=lambda found: offered[found[0]].normalized(image.table).architecture != architecture
    )
    for position, reason in relatives[:1]:
        return f"; nearest is `{offered[position]}`: {reason}"
    return ""


def _forbidden(image: Checkable) -> Iterator[Finding]:
    for build in image.builds:
        for platform in image.wanted.forbid:
            if build.platform is not None and matches(platform, build.platform, image.table):
                yield image.finding(
                    PLATFORM_FORBIDDEN,
                    f"`{build.platform}` is offered, but forbidden",
                    build.platform,
                    build.digest,
                )
                break


def _not_allowed(image: Checkable) -> Iterator[Finding]:
    allowed = image.wanted.only
    if not allowed:
        return
    listing = ", ".join(f"`{platform}`" for platform in dict.fromkeys(allowed))
    for build in image.builds:
        platform = build.platform
        if platform is None:
            message = f"a build has no platform, and the allowed platforms are {listing}"
            yield image.finding(PLATFORM_NOT_ALLOWED, message, "", build.digest)
        elif platform.os != UNKNOWN and not any(
            matches(request, platform, image.table) for request in allowed
        ):
            message = f"`{platform}` is offered, but the allowed platforms are {listing}"
            yield image.finding(PLATFORM_NOT_ALLOWED, message, platform, build.digest)


def _not_attested(image: Checkable) -> Iterator[Finding]:
    """Find builds for both rules about attestations."""
    root = image.covering
    if image.wanted.attestations and root is None and not (image.counted or image.wanted.require):
        # Nothing must not pass for everything.
        message = "there is no image whose attestations could be checked"
        yield image.finding(ATTESTATION_MISSING, message, "", image.digest)
    for build in image.counted if root is None else (root,):
        name = _called(build) if root is None else "the index"
        for kind in dict.fromkeys(image.wanted.attestations):
            if build.attested is None or kind in build.attested:
                continue
            rejected = dict(build.rejected)
            if kind in rejected:
                message = f"the {kind} of {name} does not count: {rejected[kind]}"
                yield image.finding(
                    ATTESTATION_UNUSABLE, message, build.platform or "", build.digest
                )
                continue
            others = ", ".join(f"`{other}`" for other in sorted(build.attested))
            note = f"; it has {others}" if others else ""
            message = f"{name} has no attestation of kind `{kind}`{note}"
            yield image.finding(ATTESTATION_MISSING, message, build.platform or "", build.digest)


def _aged(image: Checkable) -> Iterator[Finding]:
    """Find builds for both rules about ages; `image_findings` takes equal findings once."""
    limit = image.wanted.max_age
    if not limit:
        return
    for build in image.counted:
        moment = read_moment(build.created or "")
        age = (image.now - moment).total_seconds() if moment is not None else None
        if age is None or age < -_CLOCKS_DIFFER:
            date = f"its date is `{build.created}`" if build.created else "it has no date"
            message = f"{_called(build)} does not state when it was made: {date}"
            yield image.finding(AGEUNKNOWN, message, build.platform, build.digest)
        elif age > limit:
            message = (
                f"{_called(build)} was made {in_words(age)} ago ({(build.created or '')[:10]}); "
                f"the limit is {in_words(limit)}"
            )
            yield image.finding(TOO_OLD, message, build.platform, build.digest)


def _cannot_run(image: Checkable) -> Iterator[Finding]:
    for machine, needs in image.runs:
        if needs is None:
            message = f"nothing is offered that runs on {machine}{_others(image.offered)}"
            yield image.finding(CANNOT_RUN, message, machine.platform)
            continue
        for one in obstacles(needs, machine, image.table):
            if one.sure.is_certain:
                message = f"{machine} cannot run it: {one.message}"
                yield image.finding(CANNOT_RUN, message, machine.platform, needs.digest)


def _may_not_run(image: Checkable) -> Iterator[Finding]:
    strict = image.wanted.strict
    for machine, needs in image.runs:
        if needs is None:
            continue
        for one in obstacles(needs, machine, image.table):
            if one.sure is Sureness.POSSIBLE or (strict and one.sure is Sureness.UNKNOWN):
                message = f"{machine} may not run it: {one.message}"
                severity = Severity.ERROR if strict else Severity.NOTE
                yield image.finding(
                    MAY_NOT_RUN, message, machine.platform, needs.digest, severity=severity
                )


def _called(build: CheckedBuild) -> str:
    return f"`{build.platform}`" if build.platform is not None else "the build without a platform"


#: Every rule, with the function that applies it.
ROWS: tuple[CheckRow, ...] = (
    CheckRow(PLATFORM_MISSING, _missing),
    CheckRow(PLATFORM_FORBIDDEN, _forbidden),
    CheckRow(PLATFORM_NOT_ALLOWED, _not_allowed),
    CheckRow(ATTESTATION_MISSING, _not_attested),
    CheckRow(ATTESTATION_UNUSABLE, _not_attested),
    CheckRow(TOO_OLD, _aged),
    CheckRow(AGEUNKNOWN, _aged),
    CheckRow(CANNOT_RUN, _cannot_run),
    CheckRow(MAY_NOT_RUN, _may_not_run),
)

#: The rules alone, for reports.
RULES: tuple[Rule, ...] = tuple(row.rule for row in ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class CheckedImage:
    """The result for one image.

    Attributes:
        pinned: the root as `registry/repository@digest`; empty for local sources.
        platforms: offered, as written, in index order; without attestations.
        findings: in the order of the rules; then those of lint.
    """

    reference: str
    root: Descriptor
    pinned: str
    platforms: tuple[str, ...]
    passed: bool
    findings: tuple[Finding, ...]
    ignored: int = 0
    warnings: tuple[Warned, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Checked(ImageResults[CheckedImage]):
    """The result of a check."""

    images: tuple[CheckedImage | Failure, ...]

    @property
    def passed(self) -> bool:
        """Whether every image could be read and meets its requirements."""
        return not self.failures and all(image.passed for image in self.looked_at)


#: Kinds of attestations that can be required.
ATTESTATIONS = ("sbom", "provenance", "signature")
#: Which manifests need them.
COVERS = ("each-platform", "index")

_AGE = re.compile(r"([0-9]{1,5})([hdwy])", re.ASCII)
#: Seconds.
_UNITS = {"h": 3_600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


@dataclass(frozen=True, slots=True)
class Requirements:
    """The requirements of one image; empty fields are not checked.

    Attributes:
        same_as: a reference whose platforms, and no others, must be offered.
        compatible: accept another platform that runs, as containerd selects it.
        attestations: kinds, of `ATTESTATIONS`, that every counted build needs.
        cover: of `COVERS`; `index` requires them of the index instead.
        trust: the key or identity that must have signed them; any by default.
        max_age: age of the counted builds, in seconds; 0 for any.
        lint: the severity from which findings of `lint` fail; None to skip `lint`.
        runs_on: platforms of machines that must be able to run the image.
        page_size: of their kernels, in bytes; 0 for any. Without `runs_on`, of all that the image
            is offered for.
        kernel: their version; empty for any. Likewise.
        strict: fail as well where it is unknown whether they can run it.
        nodes: further machines, of a cluster.

    The counted builds are those that satisfy `require`; without it, all builds.
    """

    require: tuple[Platform, ...]
    forbid: tuple[Platform, ...]
    only: tuple[Platform, ...]
    same_as: str
    compatible: bool
    attestations: tuple[str, ...]
    cover: str
    trust: TrustOptions
    max_age: int
    lint: Severity | None
    ignore: tuple[str, ...]
    runs_on: tuple[Platform, ...]
    page_size: int
    kernel: str
    strict: bool
    nodes: tuple[Machine, ...]

    def __init__(  # noqa: PLR0913 - one for each requirement
        self,
        require: str | Platform | Iterable[str | Platform] = (),
        forbid: str | Platform | Iterable[str | Platform] = (),
        only: str | Platform | Iterable[str | Platform] = (),
        same_as: str | Reference = "",
        *,
        compatible: bool = False,
        attestations: Iterable[str] = (),
        cover: str = "each-platform",
        trust: TrustOptions | None = None,
        max_age: int = 0,
        lint: Severity | None = None,
        ignore: Iterable[str] = (),
        runs_on: str | Platform | Iterable[str | Platform] = (),
        page_size: int = 0,
        kernel: str = "",
        strict: bool = False,
        nodes: Iterable[Machine] = (),
    ) -> None:
        """Take platforms and the reference as values or as text, which is parsed here.

        Raises:
            InvalidPlatform: a text is not a platform.
        """
        values = (
            *(parse_platforms(require), parse_platforms(forbid), parse_platforms(only)),
            *(
                str(same_as),
                compatible,
                tuple(attestations),
                cover,
                trust or TrustOptions(),
                max_age,
                lint,
            ),
            *(tuple(ignore), parse_platforms(runs_on), page_size, kernel, strict, tuple(nodes)),
        )
        for field, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)

    @property
    def needs_layers(self) -> bool:
        """Whether programs have to be read from the layers."""
        return bool(self.runs_on or self.nodes or self.page_size or self.kernel)

    def machines(self, offered: Iterable[Platform]) -> tuple[Machine, ...]:
        """Return the machines that must run an image, which is offered for some platforms."""
        platforms, is_known = self.runs_on, True
        if not platforms and (self.page_size or self.kernel):
            # The levels of these machines are not a requirement.
            platforms, is_known = tuple(dict.fromkeys(offered)), False
        own = (
            Machine(platform, self.page_size, self.kernel, is_level_known=is_known)
            for platform in platforms
        )
        return (*own, *self.nodes)

    @property
    def is_empty(self) -> bool:
        """Whether there are no requirements, so every image would pass."""
        platforms = self.require or self.forbid or self.only or self.same_as
        others = self.attestations or self.max_age or self.lint or self.needs_layers
        return not (platforms or others)


def parse_age(text: str) -> int:
    """Parse an age, `12h`, `90d`, `8w` or `1y` (365 days), as seconds."""
    matched = _AGE.fullmatch(text)
    if matched is None or not int(matched[1]):
        raise Usage(f"`{text[:40]}` is not an age", "write `12h`, `90d`, `8w` or `1y`")
    return int(matched[1]) * _UNITS[matched[2]]


def parse_attestation(text: str) -> str:
    """Parse the kind of a required attestation."""
    if text not in ATTESTATIONS:
        raise Usage(
            f"`{text[:40]}` is not a kind of attestation",
            f"choose from {', '.join(f'`{kind}`' for kind in ATTESTATIONS)}",
        )
    return text


def parse_cover(text: str) -> str:
    """Parse which manifests need attestations."""
    if text not in COVERS:
        raise Usage(
            f"`{text[:40]}` is nothing that attestations can cover",
            f"choose from {', '.join(f'`{name}`' for name in COVERS)}",
        )
    return text
