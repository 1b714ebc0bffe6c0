"""Matching what is required with what is offered: exactly, or whatever runs there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.platform import UNKNOWN as UNKNOWN  # noqa: PLC0414 - also what BuildKit writes
from resolver.core.platform_reasons import WIN32K
from resolver.core.select import select
from resolver.core.windows import read_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.platform import Platform, PlatformTable
    from resolver.core.requirements import Requirements


def matches(wanted: Platform, offered: Platform, table: PlatformTable) -> bool:
    """Say whether an offered platform is exactly the wanted one, however the two are spelled.

    No wanted version means any. A wanted Windows version is the beginning of the offered one,
    number by number: `10.0.20348` means any revision of that build. Elsewhere the two are equal.
    Source: platforms.md 6, "Strict", and D10.
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
    asked, given = want.os_version.split("."), has.os_version.split(".")
    return given[: len(asked)] == asked


def own_level(
    machine: Platform, platforms: Sequence[Platform | None], table: PlatformTable
) -> Platform:
    """Name the offered platform that a machine takes at the level of its processor, or below.

    The machine's own platform where none is offered.
    """
    return select(platforms, machine, exact=True, local=True, table=table).platform or machine


def counting(
    platforms: Sequence[Platform | None], wanted: Requirements, table: PlatformTable
) -> tuple[int, ...]:
    """Choose the builds that age and attestations are asked of, by position, in their order."""
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


def meeting(
    wanted: Platform,
    platforms: Sequence[Platform | None],
    requirements: Requirements,
    table: PlatformTable,
) -> list[int]:
    """Find what meets one required platform: all that are exactly it, else the one that runs.

    The second only where requirements say `compatible`; another version than the wanted one never
    meets it, one that runs Windows builds aside. Gives positions.
    """
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
    """Whether an entry that was selected has another version than the wanted one, and may not.

    On Windows selecting has looked at the builds, unless the wanted version cannot be read.
    """
    if not wanted.os_version or offered.os_version in {"", wanted.os_version}:
        return False
    return offered.os.lower() != "windows" or read_version(wanted.os_version) is None


def like(wanted: Requirements, platforms: tuple[Platform, ...]) -> Requirements:
    """Turn "the same platforms as" into what it stands for: all of these, and nothing else.

    The revision of a Windows build is left out: it is another one every month, and runs on the
    same hosts.
    """
    builds = tuple(dict.fromkeys(map(_without_revision, platforms)))
    return replace(wanted, require=(*wanted.require, *builds), only=(*wanted.only, *builds))


def _without_revision(platform: Platform) -> Platform:
    if platform.os != "windows":
        return platform
    return replace(platform, os_version=".".join(platform.os_version.split(".")[:3]))


def _features(platform: Platform) -> frozenset[str]:
    own = frozenset(feature for feature in platform.os_features if feature)
    return own - {WIN32K} if platform.os == "windows" else own
