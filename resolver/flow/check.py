"""Checking: what the rules need to know of an image, read with as few requests as can be.

Platforms stand in the index, which is one request. Manifests are read only for age, attestations
and lint, and for entries that say no platform, whose configs do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.check import Build, Checkable, check
from resolver.core.checked import CheckedImage
from resolver.core.findings import Severity
from resolver.core.matching import UNKNOWN, counting, like
from resolver.flow.attested import attested
from resolver.flow.gather import Depth, gather, gather_platforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from resolver.core.descriptor import Descriptor
    from resolver.core.events import Warned
    from resolver.core.findings import Finding
    from resolver.core.gathered import Gathered
    from resolver.core.platform import Platform, PlatformTable
    from resolver.core.requirements import Requirements
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked


def look_at(
    reader: Reader,
    asked: Asked,
    wanted: Requirements,
    table: PlatformTable,
    *,
    jobs: int,
    now: datetime,
) -> Checkable:
    """Read what the rules need to know of one image.

    Args:
        reader: of the place the image is in.
        asked: the name, with its document.
        wanted: decides what is read; `same_as` is done with already.
        table: the platforms there are.
        jobs: documents at once.
        now: aware of its zone.

    Raises:
        ResolverError: something that a rule needs cannot be read.
    """
    known = gather_platforms(reader, asked, table, jobs=jobs).sound()
    images = known.images
    chosen = counting([part.platform for part in images], wanted, table)
    counted = {str(images[position].descriptor.digest) for position in chosen}
    created: dict[str, str] = {}
    lies: tuple[Finding, ...] = ()
    if wanted.max_age:
        with_configs = _with_configs(reader, asked, counted, jobs)
        created = _dates(with_configs)
        # Lint says the same, where it is asked.
        lies = _contradictions(with_configs, table) if wanted.lint is None else ()
    kinds: dict[str, frozenset[str]] = {}
    if wanted.attestations:
        kinds = attested(reader, asked, counted, frozenset(wanted.attestations), jobs=jobs)
    builds = tuple(
        Build(
            part.platform,
            digest := str(part.descriptor.digest),
            created.get(digest),
            kinds.get(digest),
        )
        for part in images
    )
    return Checkable(known.reference, str(known.root.digest), builds, wanted, table, now, lies)


def platforms_of(
    reader: Reader, asked: Asked, table: PlatformTable, *, jobs: int
) -> tuple[Platform, ...]:
    """List the platforms that an image is offered for, each once, in index order."""
    known = gather_platforms(reader, asked, table, jobs=jobs).sound()
    found = (part.platform for part in known.images)
    return tuple(
        dict.fromkeys(
            platform for platform in found if platform is not None and platform.os != UNKNOWN
        )
    )


def judge(
    image: Checkable,
    asked: Asked,
    more: Iterable[Finding],
    warned: Iterable[Warned],
) -> CheckedImage:
    """Apply the rules; `more` are findings of lint, which fail from the weight asked for on."""
    own, further = check(image), (*image.more, *more)
    left_out = frozenset(image.wanted.ignore)
    kept = tuple(finding for finding in own if finding.rule not in left_out)
    rest = tuple(finding for finding in further if finding.rule not in left_out)
    weight = image.wanted.lint or Severity.ERROR
    fails = any(not finding.severity < weight for finding in rest)
    return CheckedImage(
        reference=image.reference,
        root=asked.document.descriptor,
        pinned=f"{asked.prefix}{image.digest}" if asked.prefix else "",
        platforms=tuple(map(str, image.offered)),
        passed=not kept and not fails,
        findings=(*kept, *rest),
        ignored=len(own) + len(further) - len(kept) - len(rest),
        warnings=tuple(warned),
    )


def settle(
    wanted: Requirements, platforms_of_another: Callable[[str], tuple[Platform, ...]]
) -> Requirements:
    """Turn "the same platforms as" into platforms, by asking for those of the other image."""
    if not wanted.same_as:
        return wanted
    return replace(like(wanted, platforms_of_another(wanted.same_as)), same_as="")


def _with_configs(reader: Reader, asked: Asked, counted: set[str], jobs: int) -> Gathered:
    def wanted(entry: Descriptor) -> bool:
        return str(entry.digest) in counted

    return gather(reader, asked, Depth(), jobs=jobs, wanted=wanted).sound()


def _dates(image: Gathered) -> dict[str, str]:
    return {
        str(part.descriptor.digest): part.config.created
        for part in image.images
        if part.config is not None
    }


def _contradictions(image: Gathered, table: PlatformTable) -> tuple[Finding, ...]:
    """Compare index and configs where both are here anyway (reliability.md R10)."""
    from resolver.core.lint_rules_images import contradictory_configs  # noqa: PLC0415 - as needed
    from resolver.core.lint_subject import Subject  # noqa: PLC0415 - as above

    subject = Subject(image.reference, table, image.root, image.index, image.parts)
    return tuple(contradictory_configs(subject))
