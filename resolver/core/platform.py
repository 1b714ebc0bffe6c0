"""Platforms: what an image is made for, and what people write for it."""

from __future__ import annotations

import re
from dataclasses import replace

from resolver.core.platform_facts import FACTS
from resolver.core.platform_table import (
    PlatformTable as PlatformTable,  # noqa: PLC0414 - one door: a table is asked for beside Platform
)
from resolver.errors import InvalidPlatform
from resolver.values import dataclass

#: What `platforms.yaml` says.
BUILTIN = PlatformTable(FACTS)

#: Longer text is no platform, whatever it says; the longest sensible one has some 60 characters.
_LONGEST = 1024
# Source: containerd/platforms v1.0.0-rc.5, platforms.go, `specifierRe` and `osRe`.
# The `%` in names is ours: containerd escapes only what stands between the parentheses.
_SYSTEM = re.compile(
    r"([A-Za-z0-9_%-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?", re.ASCII
)
_COMPONENT = re.compile(r"[A-Za-z0-9_.%-]+", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9_.%-]+", re.ASCII)
#: A version that can stand after a colon as it is.
_PLAIN_VERSION = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
#: The same for Windows, where a word after a colon is the name of a release.
_WINDOWS_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)+", re.ASCII)
#: What a name of an operating system is written with; the other parts may have dots too.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]", re.ASCII)
_PLAIN_PART = re.compile(r"[A-Za-z0-9_.-]", re.ASCII)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?", re.ASCII)
#: What stands for an architecture that an index leaves out.
UNKNOWN = "unknown"
#: Escaped in versions and features, `%` first. Source: containerd/platforms, `FormatAll`.
_ESCAPED = (("%", "%25"), ("+", "%2B"), ("(", "%28"), (")", "%29"), ("/", "%2F"))


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """A platform as somebody wrote it; any field may be empty, which is the same as unset.

    `normalized` brings two spellings of the same thing together; nothing here does so unasked.
    """

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls, text: str, *, host: Platform | None = None, table: PlatformTable = BUILTIN
    ) -> Platform:
        """Read what people write; not normalised, but for aliases.

        `linux/arm64/v8`, `arm64` or `linux` (the other half is the host's),
        `windows(10.0.20348+feature)/amd64`, `windows/amd64:10.0.20348` and
        `windows/amd64,osver=10.0.20348`; in the last two a release's name stands for its version,
        as in `windows/amd64:ltsc2022`. `windows:10.0.20348` is for the host's architecture. A
        character that is not in the grammar is written as `%` and the hex digits of its UTF-8
        bytes, as `str` does: `darwin(macOS%2014.4)/arm64`.

        Args:
            text: as typed; blanks are not removed.
            host: completes a single word; linux/amd64 if None, so that an answer never depends
                on the machine unless asked to.
            table: the names there are.

        Raises:
            InvalidPlatform: the text is no platform.

        Source: containerd/platforms v1.0.0-rc.5, `Parse`; deviation D7 in platforms.md 2.

        """
        if len(text) > _LONGEST:
            raise InvalidPlatform(text, f"it is longer than {_LONGEST} characters")
        if "*" in text:
            raise InvalidPlatform(text, "wildcards are not supported")
        rest, version = _split_version(text, table)
        system, *parts = rest.split("/", 3)
        matched = _SYSTEM.fullmatch(system)
        if matched is None:
            raise InvalidPlatform(text, f"`{system}` is no operating system")
        for part in parts:
            if not _COMPONENT.fullmatch(part):
                raise InvalidPlatform(text, f"`{part}` is no architecture or variant")
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
        """Spell it in the canonical way; doing so twice changes nothing (platforms.md 3)."""
        architecture, variant = table.chip(self.architecture, self.variant)
        system = table.system(self.os)
        features = tuple(sorted(set(self.os_features))) if self.os_features else ()
        return Platform(system, architecture, variant, self.os_version, features)

    def format(self) -> str:
        """Write `os/arch[/variant]`, as containerd's `Format` does."""
        return _joined(self.os, self)

    def format_all(self) -> str:
        """Write version and features too: `windows(10.0.17763+gpu)/amd64`."""
        features = sorted({feature for feature in self.os_features if feature})
        inner = "".join((_escape(self.os_version), *(f"+{_escape(f)}" for f in features)))
        return _joined(f"{self.os}({inner})" if inner and self.os else self.os, self)

    def __str__(self) -> str:
        """Write what `parse` reads back as the same platform, whatever an index says.

        `os/arch[/variant][:os.version]`, or with parentheses as `format_all` where that cannot
        say it; characters outside the grammar are percent-encoded. A missing operating system is
        `linux` (D8), a missing architecture is `unknown`.
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
    """Encode a version or a feature for where only plain words are safe, as `str` does."""
    return _percent(text, _PLAIN_PART)


#: What a single word is completed with, and what most images are made for.
LINUX_AMD64 = Platform("linux", "amd64")


def _split_version(text: str, table: PlatformTable) -> tuple[str, str]:
    """Split off a version after `:` (crane, oras; D7) or `,osver=` (regctl), if there is one."""
    if "(" in text:
        return text, ""
    for separator in (":", ",osver="):
        rest, found, version = text.partition(separator)
        if not found or not _VERSION.fullmatch(version):
            continue
        # Only a system has a version; and `linux:amd64` is a slip for `linux/amd64`.
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
        return replace(written, architecture=architecture, variant=_unsaid(architecture, variant))
    architecture, variant = table.chip(text, "")
    if architecture not in table.architectures:
        raise InvalidPlatform(text, "no operating system or architecture of this name is known")
    return Platform(table.system(host.os), architecture, _unsaid(architecture, variant))


def _with_chip(text: str, written: Platform, parts: list[str], table: PlatformTable) -> Platform:
    match parts:
        case [architecture]:
            architecture, variant = table.chip(architecture, "")
            variant = _unsaid(architecture, variant)
        case [architecture, variant]:
            architecture, variant = table.chip(architecture, variant)
            if architecture == "arm64" and not variant:
                variant = "v8"
        case _:
            raise InvalidPlatform(text, "it has more than three parts")
    return replace(written, architecture=architecture, variant=variant)


def _unsaid(architecture: str, variant: str) -> str:
    """Leave the default variant of 32-bit arm out where nobody wrote one, as containerd does."""
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
    """Undo percent-encoding in a name, where only what cannot be written plainly is encoded.

    So that a name has one spelling only, and containerd, which knows no escapes here, reads each
    name that is plain as we do.
    """
    name = _unescape(text, part)
    if _percent(name, plain).upper() != part.upper():
        raise InvalidPlatform(text, f"`{part}` escapes a character that is written plainly")
    return name


def _unescape(text: str, part: str) -> str:
    """Undo percent-encoding; `text` is the whole, for the message."""
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
