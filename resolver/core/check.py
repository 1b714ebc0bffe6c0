"""Checking: the table of rules about what a pipeline requires, and what they find.

Pure: builds, requirements and the time come in, findings go out. To add a rule, write a `Rule` and
a function, and give them a row in `ROWS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.core.findings import Finding, Rule, Severity
from resolver.core.matching import UNKNOWN, counting, matches, meeting, other_version
from resolver.core.moments import in_words, read_moment
from resolver.core.select import nearest, select
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from resolver.core.platform import Platform, PlatformTable
    from resolver.core.requirements import Requirements

#: Platforms that a message names where none of them comes near.
_NAMED = 4
#: Seconds that another machine's clock may be ahead of ours.
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
    "The image has a build for a platform that it must not have, for example one that nobody tests "
    "any more. Build it again without that platform.",
)
PLATFORM_NOT_ALLOWED = Rule(
    "platform-not-allowed",
    Severity.ERROR,
    "a platform is offered that is not on the list",
    "The image has a build that nobody expects, or one that says no platform. Build it again "
    "without it, or add its platform to the list. Attestations and artifacts "
    "are no platforms and never meant.",
)
ATTESTATION_MISSING = Rule(
    "attestation-missing",
    Severity.ERROR,
    "a build has no attestation of a required kind",
    "Neither an attestation manifest of BuildKit in the same index, nor anything that refers to "
    "the build in the registry, is a statement of that kind (in-toto, SPDX, CycloneDX, SLSA). "
    "Build with `docker buildx build --sbom=true --provenance=true`, or attach one. Whether it is "
    "signed, and by whom, is not looked at.",
)
TOO_OLD = Rule(
    "too-old",
    Severity.ERROR,
    "a build is older than allowed",
    "Its config says that it was made too long ago, so that fixes of its base image are missing. "
    "Build it again, from a fresh base image.",
)
AGEUNKNOWN = Rule(
    "age-unknown",
    Severity.ERROR,
    "a build does not say when it was made",
    "Its config has no date, or one that cannot be one: reproducible builds are dated 1970 or in "
    "the year 1. An age was asked for and cannot be told, which is not a yes; leave the rule out "
    "with `--ignore age-unknown` where that is fine.",
)


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """One build of an image, as far as the rules look at it.

    Attributes:
        platform: as written; None where neither index nor config say one.
        digest: of its manifest.
        created: as its config says; None where that was not read.
        attested: kinds of statements there are about it; None where they were not looked for.
    """

    platform: Platform | None
    digest: str
    created: str | None = None
    attested: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Checkable:
    """One image, and what is required of it.

    Attributes:
        reference: canonical text of what was asked.
        digest: of what the name points at.
        wanted: with `same_as` already turned into the platforms that it stands for.
        now: aware of its zone.
        more: what was found on the way, by rules of lint.
    """

    reference: str
    digest: str
    builds: tuple[Build, ...]
    wanted: Requirements
    table: PlatformTable
    now: datetime
    more: tuple[Finding, ...] = ()

    @property
    def offered(self) -> tuple[Platform, ...]:
        """The platforms there are, in index order; `unknown` is none."""
        return tuple(
            build.platform
            for build in self.builds
            if build.platform is not None and build.platform.os != UNKNOWN
        )

    @property
    def counted(self) -> tuple[Build, ...]:
        """The builds that age and attestations are asked of."""
        chosen = counting([build.platform for build in self.builds], self.wanted, self.table)
        return tuple(self.builds[position] for position in chosen)

    def finding(
        self, rule: Rule, message: str, platform: object = "", digest: str = "", hint: str = ""
    ) -> Finding:
        """Put into words what a rule found."""
        return Finding(
            rule=rule.id,
            severity=rule.severity,
            message=message,
            subject=self.reference,
            platform=str(platform or ""),
            digest=digest or self.digest,
            hint=hint,
        )


class Row(NamedTuple):
    """One rule, and the function that looks for what it is about."""

    rule: Rule
    look: Callable[[Checkable], Iterator[Finding]]


def check(image: Checkable) -> tuple[Finding, ...]:
    """Apply every rule; the order of the index does not matter."""
    findings = {finding for row in ROWS for finding in row.look(image)}
    place = {row.rule.id: number for number, row in enumerate(ROWS)}
    return tuple(
        sorted(
            findings, key=lambda each: (place[each.rule], each.platform, each.digest, each.message)
        )
    )


def _missing(image: Checkable) -> Iterator[Finding]:
    offered = image.offered
    for platform in dict.fromkeys(image.wanted.require):
        if meeting(platform, offered, image.wanted, image.table):
            continue
        listing = ", ".join(f"`{each}`" for each in dict.fromkeys(map(str, offered)))
        said = f"it is offered for {listing}" if listing else "it is offered for no platform at all"
        near = _nearest(platform, offered, image) or _others(offered)
        yield image.finding(
            PLATFORM_MISSING, f"`{platform}` is not offered{near}", platform, hint=said
        )


def _others(offered: Sequence[Platform]) -> str:
    """Name some of what there is, where nothing comes near."""
    names = list(dict.fromkeys(map(str, offered)))
    listing = ", ".join(f"`{name}`" for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; there is {listing}{more}" if listing else ""


def _nearest(wanted: Platform, offered: Sequence[Platform], image: Checkable) -> str:
    """Name the platform that comes nearest, and what makes it another; empty when none is near."""
    runs = select(offered, wanted, table=image.table).platform
    if runs is not None and other_version(wanted, runs):
        return f"; nearest is `{runs}`, another version"
    if runs is not None:
        return f"; nearest is `{runs}`, which runs there (`--compatible` takes it)"
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
                    f"`{build.platform}` is offered, and forbidden",
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
            message = f"a build says no platform, and only {listing} may be offered"
            yield image.finding(PLATFORM_NOT_ALLOWED, message, "", build.digest)
        elif platform.os != UNKNOWN and not any(
            matches(each, platform, image.table) for each in allowed
        ):
            message = f"`{platform}` is offered, and only {listing} may be"
            yield image.finding(PLATFORM_NOT_ALLOWED, message, platform, build.digest)


def _not_attested(image: Checkable) -> Iterator[Finding]:
    for build in image.counted:
        for kind in dict.fromkeys(image.wanted.attestations):
            if build.attested is None or kind in build.attested:
                continue
            others = ", ".join(f"`{other}`" for other in sorted(build.attested))
            said = f"; there is {others}" if others else ""
            message = f"{_called(build)} has no attestation of kind `{kind}`{said}"
            yield image.finding(ATTESTATION_MISSING, message, build.platform, build.digest)


def _aged(image: Checkable) -> Iterator[Finding]:
    limit = image.wanted.max_age
    if not limit:
        return
    for build in image.counted:
        moment = read_moment(build.created or "")
        age = (image.now - moment).total_seconds() if moment is not None else None
        if age is None or age < -_CLOCKS_DIFFER:
            said = f"its date is `{build.created}`" if build.created else "it has no date"
            message = f"{_called(build)} does not say when it was made: {said}"
            yield image.finding(AGEUNKNOWN, message, build.platform, build.digest)
        elif age > limit:
            message = (
                f"{_called(build)} was made {in_words(age)} ago ({(build.created or '')[:10]}); "
                f"the limit is {in_words(limit)}"
            )
            yield image.finding(TOO_OLD, message, build.platform, build.digest)


def _too_old(image: Checkable) -> Iterator[Finding]:
    return (finding for finding in _aged(image) if finding.rule == TOO_OLD.id)


def _age_unknown(image: Checkable) -> Iterator[Finding]:
    return (finding for finding in _aged(image) if finding.rule == AGEUNKNOWN.id)


def _called(build: Build) -> str:
    return f"`{build.platform}`" if build.platform is not None else "the build without a platform"


#: Every rule there is, with the function that looks for it.
ROWS: tuple[Row, ...] = (
    Row(PLATFORM_MISSING, _missing),
    Row(PLATFORM_FORBIDDEN, _forbidden),
    Row(PLATFORM_NOT_ALLOWED, _not_allowed),
    Row(ATTESTATION_MISSING, _not_attested),
    Row(TOO_OLD, _too_old),
    Row(AGEUNKNOWN, _age_unknown),
)

#: The rules alone, for reports that explain them.
RULES: tuple[Rule, ...] = tuple(row.rule for row in ROWS)
