"""The table of platforms: other spellings, and who runs what."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.platform_rules import Family

if TYPE_CHECKING:
    from resolver.core.platform import Platform
    from resolver.core.platform_rules import Facts, WindowsFacts

_DIGITS = frozenset("0123456789")
_LONGEST_NUMBER = 6


class Grade(Enum):
    """How near a chosen platform is to the wanted one."""

    EXACT = "exact"
    #: The same, spelled in another way or with a default left out.
    NORMALISED = "normalised"
    #: A version was asked for, and the entry names none.
    COMPATIBLE = "compatible"
    #: A lower level of the same architecture, or another `os.version` outside Windows.
    FALLBACK = "fallback"
    #: Another architecture, or Windows build, whose programs run there too.
    ABI = "abi"

    def worse(self, other: Grade) -> Grade:
        """Give the one of both that is further away."""
        order = tuple(Grade)
        return self if order.index(self) >= order.index(other) else other


#: Architecture and variant, in canonical spelling.
Chip = tuple[str, str]
#: What runs, best first.
Vector = tuple[tuple[Chip, Grade], ...]


class PlatformTable:
    """Platform facts, indexed for questions; never changes.

    Source: containerd/platforms v1.0.0-rc.5, `normalizeArch` and `platformVector`; the facts
    themselves carry theirs in `platforms.yaml`. Deviations D2 to D4 are in platforms.md 5.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.assumed_system = facts.assumed_system
        self.systems = frozenset(facts.systems)
        self.architectures = frozenset(facts.architectures)
        self._system_aliases = dict(facts.system_aliases)
        self._families = {family.name: family for family in facts.families}
        self._names: dict[str, tuple[Family, str | None]] = {}
        for family in facts.families:
            self._names[family.name] = (family, None)
            self._names.update((alias, (family, None)) for alias in family.aliases)
            self._names.update((alias, (family, variant)) for alias, variant in family.forced)
        self._spellings = {family.name: dict(family.spellings) for family in facts.families}
        self._orders = {family.name: self._order(family) for family in facts.families}
        self._windows_names = {
            name: f"{facts.windows.version}.{release.build}"
            for release in facts.windows.releases
            for name in release.names
        }

    @property
    def windows(self) -> WindowsFacts:
        """Which Windows builds there are, and which run on which."""
        return self.facts.windows

    def system(self, name: str) -> str:
        """Spell an operating system in the canonical way; "" is the assumed one (D8)."""
        lowered = lower(name)
        return self._system_aliases.get(lowered, lowered) or self.assumed_system

    def chip(self, architecture: str, variant: str) -> Chip:
        """Spell an architecture and its variant in the canonical way."""
        architecture, variant = lower(architecture), lower(variant)
        family, forced = self._names.get(architecture, (None, None))
        if family is None:
            return architecture, variant
        if forced is not None:
            return family.name, forced
        return family.name, self._spellings[family.name].get(variant, variant)

    def windows_version(self, name: str) -> str:
        """Turn a release's name into its version: `ltsc2022` is `10.0.20348`; "" if unknown."""
        return self._windows_names.get(lower(name), "")

    def family(self, architecture: str) -> Family:
        """Give the rules of an architecture in canonical spelling; there are always some."""
        return self._families.get(architecture) or Family(architecture)

    def acceptable(self, want: Platform) -> tuple[tuple[Platform, Grade], ...]:
        """List what runs where `want` is wanted, normalised, best first (platforms.md 5).

        Operating system, its version and features are those of `want` in every element. The first
        is `want` itself.
        """
        normal = want.normalized(self)
        return tuple(
            (dataclasses.replace(normal, architecture=architecture, variant=variant), grade)
            for (architecture, variant), grade in self.vector((normal.architecture, normal.variant))
        )

    def vector(self, chip: Chip) -> Vector:
        """List the architectures and variants that run on one, best first.

        Args:
            chip: in canonical spelling; the first element is this one.

        """
        architecture, variant = chip
        family = self.family(architecture)
        own, *lower_levels = self._levels(family, variant)
        vector = [((architecture, own), Grade.EXACT)]
        vector += [((architecture, level), Grade.FALLBACK) for level in lower_levels]
        for fallback in family.falls_back_to:
            grade = Grade(fallback.grade)
            other = self.chip(fallback.architecture, fallback.variant)
            vector += [(element, grade.worse(rank)) for element, rank in self.vector(other)]
        return tuple(vector)

    def runner(self, platform: Platform, provider: str = "github") -> str | None:
        """Name the CI machine that runs a platform natively; None where there is none."""
        want = platform.normalized(self)
        for runner in self.facts.runners:
            place = (runner.os, *self.chip(runner.architecture, runner.variant))
            if runner.provider != provider or place != (want.os, want.architecture, want.variant):
                continue
            # "10.0.20348" stands for every revision of its build.
            if not want.os_version or f"{want.os_version}.".startswith(f"{runner.os_version}."):
                return runner.label
        return None

    def label(self, chip: Chip) -> str:
        """Name an architecture and its variant for a message; the assumed variant is named too."""
        architecture, variant = chip
        shown = variant or self.family(architecture).assumed
        return brief(f"{architecture}/{shown}" if shown else architecture)

    def newer(self, chip: Chip, other: Chip) -> bool | None:
        """Say whether one level is above another of the same architecture; None if unknown."""
        family = self.family(chip[0])
        level, than = chip[1], other[1]
        number, below = self._level_number(family, level), self._level_number(family, than)
        if number is not None and below is not None:
            return number > below
        if than in self._listed(family, level) or (
            family.baseline and not than and level in family.variants
        ):
            return True
        return False if level in self._listed(family, than) else None

    def _levels(self, family: Family, variant: str) -> list[str]:
        """List the variants that run on a variant of the same family, itself first."""
        number = self._level_number(family, variant)
        if number is not None and family.lowest is not None and number > family.lowest:
            spellings = self._spellings[family.name]
            below = (f"v{level}" for level in range(number - 1, family.lowest - 1, -1))
            return [variant, *(spellings.get(level, level) for level in below)]
        listed = self._listed(family, variant)
        if listed:
            return [*listed, ""] if family.baseline else listed
        if family.baseline:
            return [variant, family.baseline, ""] if variant else ["", family.baseline]
        if not variant or family.unlisted == "itself":
            return [variant]
        return [variant, ""]

    def _level_number(self, family: Family, variant: str) -> int | None:
        """Read a numbered variant; None if it is no level of this family (D4)."""
        if family.lowest is None:
            return None
        number = _number(variant or family.assumed)
        return number if number is not None and number <= family.limit else None

    def _listed(self, family: Family, variant: str) -> list[str]:
        """List the levels up to a listed one, highest first; empty if it is not listed."""
        return self._orders.get(family.name, {}).get(variant, [])

    def _order(self, family: Family) -> dict[str, list[str]]:
        """List for each level those that run on it, itself first."""
        spellings = self._spellings[family.name]
        main = [spellings.get(level, level) for level in family.variants]
        order = {level: main[place::-1] for place, level in enumerate(main)}
        for branch in family.branches:
            joins = dict(branch.joins)
            levels = [spellings.get(level, level) for level in branch.variants]
            for place, level in enumerate(levels):
                joint = joins.get(branch.variants[place], "")
                order[level] = levels[place::-1] + order.get(spellings.get(joint, joint), [])
        return order


def lower(text: str) -> str:
    """Lower-case ASCII; text with anything else is left alone, for no name here has any."""
    return text.lower() if text.isascii() else text


def brief(text: str, limit: int = 80) -> str:
    """Cut text from elsewhere to what fits into a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _number(text: str) -> int | None:
    """Read a number as Go's `Atoi` does, after one leading `v`; None where it fails."""
    digits = text.removeprefix("v")
    sign, digits = (digits[:1], digits[1:]) if digits[:1] in {"+", "-"} else ("", digits)
    if not digits or not _DIGITS.issuperset(digits):
        return None
    digits = digits.lstrip("0") or "0"
    # More digits than any level has; Go overflows later, and both are opaque then (D4).
    return int(sign + digits) if len(digits) <= _LONGEST_NUMBER else None
