"""Windows builds: which container image runs on which host, sharing its kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.platforms.platform import brief

if TYPE_CHECKING:
    from resolver.core.platforms.fact_types import WindowsFacts

#: The largest value of each part. Source: containerd/platforms, `getWindowsOSVersion`.
_LIMITS = (255, 255, 65_535)
_DIGITS = frozenset("0123456789")

#: Major, minor and build.
Version = tuple[int, int, int]


def read_version(text: str) -> Version | None:
    """Parse `major.minor.build[.more]`; None if it cannot be compared, or is all zeros."""
    parts = text.split(".", 3)
    if len(parts) < len(_LIMITS):
        return None
    numbers = [_part(part, limit) for part, limit in zip(parts, _LIMITS, strict=False)]
    major, minor, build = numbers
    if major is None or minor is None or build is None or not (major or minor or build):
        return None
    return major, minor, build


def floor(build: int, facts: WindowsFacts) -> int:
    """Return the oldest build that a host runs: the long-term release before its own."""
    if build < facts.stable_abi_from:
        return build
    reached = [release for release in facts.long_term if release <= build]
    return reached[-2] if len(reached) > 1 else (*reached, build)[0]


def mismatch(host: str, image: str, facts: WindowsFacts) -> str:
    """Return why an image does not run on a host; empty if it does, or a version is unset."""
    wanted = read_version(host)
    if wanted is None or not image:
        return ""
    offered = read_version(image)
    if offered is None:
        return f"Windows version `{brief(image)}` cannot be compared with {_text(wanted)}"
    if offered[:2] != wanted[:2]:
        return f"Windows version {_text(offered)} is not the host's {_text(wanted)}"
    return _build_mismatch(wanted[2], offered[2], facts)


def _build_mismatch(host: int, image: int, facts: WindowsFacts) -> str:
    oldest = floor(host, facts)
    if oldest <= image <= host:
        return ""
    if image > host:
        return f"Windows build {image} is newer than the host's {host}"
    if oldest == host:
        return f"Windows build {image} is older than the host's {host}, which runs only its own"
    return f"Windows build {image} is older than what a {host} host runs ({oldest} or newer)"


def order(text: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts versions numerically by component; other text sorts lowest."""
    return tuple(_component(part) for part in text.split("."))


def _component(part: str) -> tuple[int, str]:
    if not part or not _DIGITS.issuperset(part):
        return -1, ""
    # Length first, then text: numeric order for any length.
    digits = part.lstrip("0")
    return len(digits), digits


def _part(text: str, limit: int) -> int | None:
    digits = text.lstrip("0") or "0"
    if not text or not _DIGITS.issuperset(text) or len(digits) > len(str(limit)):
        return None
    number = int(digits)
    return number if number <= limit else None


def _text(version: Version) -> str:
    return ".".join(str(part) for part in version)
