"""Platforms: parsing, normal forms, and the facts about which platform runs which."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.platforms.fact_types import Family
from resolver.core.platforms.facts import FACTS
from resolver.errors import InvalidPlatform
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from resolver.core.platforms.fact_types import Facts


_DIGITS = frozenset("0123456789")
_LONGEST_NUMBER = 6


class Grade(Enum):
    """How well a selected platform matches the requested one."""

    EXACT = "exact"
    #: The same platform with another spelling, or with a default omitted.
    NORMALISED = "normalised"
    #: A version was requested, and the entry states none.
    COMPATIBLE = "compatible"
    #: A lower level of the same architecture, or another `os.version` outside Windows.
    FALLBACK = "fallback"
    #: Another architecture or Windows build whose programs also run there.
    ABI = "abi"

    def worse(self, other: Grade) -> Grade:
        """Return the worse of the two grades."""
        order = tuple(Grade)
        return self if order.index(self) >= order.index(other) else other


#: Architecture and variant, in canonical spelling.
Chip = tuple[str, str]
#: The architectures that run, best first.
Vector = tuple[tuple[Chip, Grade], ...]


class PlatformTable:
    """Platform facts, indexed for lookups; immutable.

    Source: containerd/platforms v1.0.0-rc.5, `normalizeArch` and `platformVector`; the facts
    themselves have theirs in `platforms.yaml`. Deviations: docs/platform-matching.md, "Acceptable
    platforms".
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.windows = facts.windows
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

    def system(self, name: str) -> str:
        """Normalise an operating system; "" is the default one."""
        lowered = lower(name)
        return self._system_aliases.get(lowered, lowered) or self.assumed_system

    def chip(self, architecture: str, variant: str) -> Chip:
        """Normalise an architecture and its variant."""
        architecture, variant = lower(architecture), lower(variant)
        family, forced = self._names.get(architecture, (None, None))
        if family is None:
            return architecture, variant
        if forced is not None:
            return family.name, forced
        return family.name, self._spellings[family.name].get(variant, variant)

    def windows_version(self, name: str) -> str:
        """Return the version of a named release: `ltsc2022` is `10.0.20348`; "" if unknown."""
        return self._windows_names.get(lower(name), "")

    def family(self, architecture: str) -> Family:
        """Return the rules of a normalised architecture; the defaults if it is unknown."""
        return self._families.get(architecture) or Family(architecture)

    def acceptable(self, want: Platform) -> tuple[tuple[Platform, Grade], ...]:
        """List the platforms that satisfy `want`, normalised, itself first and then the best."""
        normal = want.normalized(self)
        return tuple(
            (dataclasses.replace(normal, architecture=architecture, variant=variant), grade)
            for (architecture, variant), grade in self.vector((normal.architecture, normal.variant))
        )

    def vector(self, chip: Chip) -> Vector:
        """List what runs on a normalised architecture and variant, itself first, then the best."""
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
        """Return the label of the CI runner for a platform; None if there is none."""
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
        """Format an architecture and its variant, also a default one, for a message."""
        architecture, variant = chip
        shown = variant or self.family(architecture).assumed
        return brief(f"{architecture}/{shown}" if shown else architecture)

    def newer(self, chip: Chip, other: Chip) -> bool | None:
        """Return whether one level is above another of the same architecture; None if unknown."""
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
        """List the variants of the same family that run on one, itself first."""
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
        """Read a numbered variant; None if it is not a level of this family."""
        if family.lowest is None:
            return None
        number = _number(variant or family.assumed)
        return number if number is not None and number <= family.limit else None

    def _listed(self, family: Family, variant: str) -> list[str]:
        """List the levels up to a listed one, highest first; empty if it is not listed."""
        return self._orders.get(family.name, {}).get(variant, [])

    def _order(self, family: Family) -> dict[str, list[str]]:
        """Map each level to those that run on it, itself first."""
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
    """Lower-case ASCII text; return other text unchanged."""
    return text.lower() if text.isascii() else text


def brief(text: str, limit: int = 80) -> str:
    """Truncate remote text for a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _number(text: str) -> int | None:
    """Parse a number as Go's `Atoi` does, after one leading `v`; None if it fails."""
    digits = text.removeprefix("v")
    sign, digits = (digits[:1], digits[1:]) if digits[:1] in {"+", "-"} else ("", digits)
    if not digits or not _DIGITS.issuperset(digits):
        return None
    digits = digits.lstrip("0") or "0"
    # More digits than any level has. Go overflows later, and treats both as opaque text.
    return int(sign + digits) if len(digits) <= _LONGEST_NUMBER else None


#: The facts of `platforms.yaml`.
BUILTIN = PlatformTable(FACTS)

#: Characters of a platform; sensible ones have up to 60.
_LONGEST = 1024
# Source: containerd/platforms v1.0.0-rc.5, platforms.go, `specifierRe` and `osRe`.
# The `%` in names is ours: containerd escapes only the text in parentheses.
_SYSTEM = pattern(
    r"([A-Za-z0-9_%-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?", re.ASCII
)
_COMPONENT = pattern(r"[A-Za-z0-9_.%-]+", re.ASCII)
_VERSION = pattern(r"[A-Za-z0-9_.%-]+", re.ASCII)
#: A version that needs no escaping after a colon.
_PLAIN_VERSION = pattern(r"[A-Za-z0-9_.-]+", re.ASCII)
#: The same for Windows, where a word after a colon is the name of a release.
_WINDOWS_VERSION = pattern(r"[0-9]+(?:\.[0-9]+)+", re.ASCII)
#: Characters of an operating system's name; the other parts may contain dots too.
_PLAIN_NAME = pattern(r"[A-Za-z0-9_-]", re.ASCII)
_PLAIN_PART = pattern(r"[A-Za-z0-9_.-]", re.ASCII)
_ESCAPE = pattern(r"%([0-9A-Fa-f]{2})?", re.ASCII)
#: The architecture of entries that state none.
UNKNOWN = "unknown"
#: Escaped in versions and features, `%` first. Source: containerd/platforms, `FormatAll`.
_ESCAPED = (("%", "%25"), ("+", "%2B"), ("(", "%28"), (")", "%29"), ("/", "%2F"))


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """A platform as written; an empty field is unset. Only `normalized` changes the spelling."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls, text: str, *, host: Platform | None = None, table: PlatformTable = BUILTIN
    ) -> Platform:
        """Parse a platform; resolve aliases, and normalise nothing else.

        `linux/arm64/v8`, `arm64` or `linux` (the other half is the host's),
        `windows(10.0.20348+feature)/amd64`, `windows/amd64:10.0.20348` and
        `windows/amd64,osver=10.0.20348`; in the last two a release's name stands for its version,
        as in `windows/amd64:ltsc2022`. `windows:10.0.20348` has the host's architecture. A
        character outside the grammar is percent-encoded as UTF-8, as `str` does:
        `darwin(macOS%2014.4)/arm64`.

        Args:
            text: as typed; whitespace is not removed.
            host: completes a single word; linux/amd64 if None, so that results do not depend on
                the machine.
            table: the platform facts.

        Raises:
            InvalidPlatform: the text is not a platform.

        Source: containerd/platforms v1.0.0-rc.5, `Parse`; docs/platform-matching.md, "Version
        suffix", for the deviation.
        """
        if len(text) > _LONGEST:
            raise InvalidPlatform(text, f"it is longer than {_LONGEST} characters")
        if "*" in text:
            raise InvalidPlatform(text, "wildcards are not supported")
        rest, version = _split_version(text, table)
        system, *parts = rest.split("/", 3)
        matched = _SYSTEM.fullmatch(system)
        if matched is None:
            raise InvalidPlatform(text, f"`{system}` is not an operating system")
        for part in parts:
            if not _COMPONENT.fullmatch(part):
                raise InvalidPlatform(text, f"`{part}` is not an architecture or variant")
        name, inner, features = matched.groups(default="")
        parts = [_unescape_name(text, part, _PLAIN_PART) for part in parts]
        written = cls(
            table.system(_unescape_name(text, name, _PLAIN_NAME)),
            os_version=_unescape(text, version or inner),
            os_features=tuple(_unescape(text, part) for part in features.split("+")[1:]),
        )
        if version and written.os == "windows":
            named = table.windows_version(version)
            written = replace(written, os_version=named or written.os_version)
        if not parts:
            return _complete(text, written, host or LINUX_AMD64, table)
        return _with_chip(text, written, parts, table)

    def normalized(self, table: PlatformTable = BUILTIN) -> Platform:
        """Return the canonical form; idempotent (docs/platform-matching.md, "Normalisation")."""
        architecture, variant = table.chip(self.architecture, self.variant)
        system = table.system(self.os)
        features = tuple(sorted(set(self.os_features))) if self.os_features else ()
        return Platform(system, architecture, variant, self.os_version, features)

    def format(self) -> str:
        """Format as `os/arch[/variant]`, as containerd's `Format` does."""
        return _joined(self.os, self)

    def format_all(self) -> str:
        """Format with version and features: `windows(10.0.17763+gpu)/amd64`."""
        features = sorted({feature for feature in self.os_features if feature})
        inner = "".join((_escape(self.os_version), *(f"+{_escape(f)}" for f in features)))
        return _joined(f"{self.os}({inner})" if inner and self.os else self.os, self)

    def __str__(self) -> str:
        """Format as text that `parse` reads back as the same platform, for any input.

        `os/arch[/variant][:os.version]`, or with parentheses as `format_all` where that is
        not enough; characters outside the grammar are percent-encoded. A missing operating system
        is `linux`, a missing architecture is `unknown`.
        """
        system = _percent(self.os or "linux", _PLAIN_NAME)
        rest = f"/{_percent(self.architecture or UNKNOWN, _PLAIN_PART)}"
        if self.variant:
            rest += f"/{_percent(self.variant, _PLAIN_PART)}"
        features = sorted({feature for feature in self.os_features if feature})
        if not (features or self.os_version):
            return f"{system}{rest}"
        plain = _WINDOWS_VERSION if system.lower() == "windows" else _PLAIN_VERSION
        if not features and plain.fullmatch(self.os_version):
            return f"{system}{rest}:{self.os_version}"
        words = (
            _percent(self.os_version, _PLAIN_PART),
            *(_percent(f, _PLAIN_PART) for f in features),
        )
        return f"{system}({'+'.join(words)}){rest}"


def percent_encode(text: str) -> str:
    """Percent-encode a version or a feature, as `str` does."""
    return _percent(text, _PLAIN_PART)


#: The default platform, which completes single words.
LINUX_AMD64 = Platform("linux", "amd64")


def _split_version(text: str, table: PlatformTable) -> tuple[str, str]:
    """Split off a version after `:` (crane, oras) or `,osver=` (regctl), if there is one."""
    if "(" in text:
        return text, ""
    for separator in (":", ",osver="):
        rest, found, version = text.partition(separator)
        if not found or not _VERSION.fullmatch(version):
            continue
        # Only a system has a version, and `linux:amd64` is a typo for `linux/amd64`.
        alone = table.system(rest) in table.systems and (
            table.chip(version, "")[0] not in table.architectures
        )
        if "/" in rest or alone:
            return rest, version
    return text, ""


def _complete(text: str, written: Platform, host: Platform, table: PlatformTable) -> Platform:
    """Complete a single word with the host's other half."""
    if written.os in table.systems:
        architecture, variant = table.chip(host.architecture, "")
        _, own = table.chip(host.architecture, host.variant)
        if architecture == "arm" and own != "v7":
            variant = own
        return replace(
            written, architecture=architecture, variant=_omit_default(architecture, variant)
        )
    architecture, variant = table.chip(text, "")
    if architecture not in table.architectures:
        raise InvalidPlatform(text, "unknown operating system or architecture")
    return Platform(table.system(host.os), architecture, _omit_default(architecture, variant))


def _with_chip(text: str, written: Platform, parts: list[str], table: PlatformTable) -> Platform:
    match parts:
        case [architecture]:
            architecture, variant = table.chip(architecture, "")
            variant = _omit_default(architecture, variant)
        case [architecture, variant]:
            architecture, variant = table.chip(architecture, variant)
            if architecture == "arm64" and not variant:
                variant = "v8"
        case _:
            raise InvalidPlatform(text, "it has more than three parts")
    return replace(written, architecture=architecture, variant=variant)


def _omit_default(architecture: str, variant: str) -> str:
    """Omit the default variant of 32-bit arm if none was written, as containerd does."""
    return "" if (architecture, variant) == ("arm", "v7") else variant


def _joined(system: str, platform: Platform) -> str:
    if not platform.os:
        return "unknown"
    return "/".join(part for part in (system, platform.architecture, platform.variant) if part)


def _escape(text: str) -> str:
    for character, escape in _ESCAPED:
        text = text.replace(character, escape)
    return text


def _percent(text: str, plain: re.Pattern[str]) -> str:
    """Percent-encode the UTF-8 bytes of every character that is not plain."""
    return "".join(
        character
        if plain.fullmatch(character)
        else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in text
    )


def _unescape_name(text: str, part: str, plain: re.Pattern[str]) -> str:
    """Decode a percent-encoded name, in which plain characters must not be encoded."""
    name = _unescape(text, part)
    if _percent(name, plain).upper() != part.upper():
        raise InvalidPlatform(text, f"`{part}` escapes a character that is written plainly")
    return name


def _unescape(text: str, part: str) -> str:
    if "%" not in part:
        return part
    escapes = _ESCAPE.findall(part)
    if not all(escapes):
        raise InvalidPlatform(text, f"`{part}` has a `%` that is not followed by two hex digits")
    raw = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), part).encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidPlatform(text, f"`{part}` is not UTF-8 once decoded") from error


_TRAILING = "0123456789"


@dataclass(frozen=True, slots=True, eq=False)
class HostMachine:
    """What a machine reports about itself.

    Attributes:
        machine: `platform.machine()`, the machine field of uname on Unix.
        cpuinfo: the text of /proc/cpuinfo; empty without one.
        windows_version: major, minor and build; None on other systems.
        rosetta: whether macOS translates this process for an Apple processor.
    """

    machine: str
    sys_platform: str
    cpuinfo: str = ""
    byteorder: str = "little"
    windows_version: tuple[int, int, int] | None = None
    is_64bit: bool = True
    rosetta: bool = False


def host_of(machine: HostMachine, table: PlatformTable = BUILTIN) -> Platform:
    """Return a machine's platform at its baseline level.

    Source: docs/platform-matching.md, "Host detection"; containerd/platforms v1.0.0-rc.5,
    `defaults_*.go`, `cpuinfo_linux.go`.
    """
    hosts = table.facts.hosts
    system = dict(hosts.systems).get(machine.sys_platform.rstrip(_TRAILING))
    if system is None:
        whole = dict(hosts.systems).get(machine.sys_platform)
        system = whole or table.system(machine.sys_platform.rstrip(_TRAILING))
    word = "arm64" if machine.rosetta and system == "darwin" else lower(machine.machine)
    architecture, _, variant = dict(hosts.machines).get(word, word).partition("/")
    if machine.byteorder == "little":
        architecture = dict(hosts.little_endian).get(architecture, architecture)
    if system == "linux" and not machine.is_64bit:
        narrow = dict(hosts.narrow).get(architecture)
        if narrow is not None:
            architecture, _, variant = narrow.partition("/")
    if system in {"linux", "android"} and architecture in {"arm", "arm64"}:
        variant = _arm_variant(machine, architecture, table) or variant
    version = ""
    if system == "windows" and machine.windows_version is not None:
        version = ".".join(str(part) for part in machine.windows_version)
    return Platform(system, architecture, variant, version)


def local_of(machine: HostMachine, table: PlatformTable = BUILTIN) -> Platform:
    """Return a machine's platform with the amd64 level that its processor has."""
    host = host_of(machine, table)
    if host.architecture != "amd64":
        return host
    flags = set(cpuinfo_value(machine.cpuinfo, "flags").split())
    level = ""
    for name, needed in table.facts.hosts.amd64_levels:
        if not flags.issuperset(needed):
            break
        level = name
    return replace(host, variant=level)


def _arm_variant(machine: HostMachine, architecture: str, table: PlatformTable) -> str:
    """Read the variant of an ARM processor; empty if /proc/cpuinfo has none."""
    hosts = table.facts.hosts
    cpu = lower(cpuinfo_value(machine.cpuinfo, "cpu architecture"))
    variant = dict(hosts.arm_cpus).get(cpu, "")
    if architecture == "arm" and cpu == "7":
        model = lower(cpuinfo_value(machine.cpuinfo, "model name"))
        known = (name for start, name in hosts.arm_models if model.startswith(start))
        variant = next(known, variant)
    return variant


def cpuinfo_value(text: str, key: str) -> str:
    """Return the first value of a key in /proc/cpuinfo; all processors have the same."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and lower(name.strip()) == key:
            return value.strip()
    return ""
