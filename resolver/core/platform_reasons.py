"""Why an entry is not what was wanted, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core import windows
from resolver.core.platform import UNKNOWN
from resolver.core.platform_table import brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.platform import Platform
    from resolver.core.platform_table import Chip, PlatformTable

#: A requirement of Windows itself that never keeps an image from running on it.
#: Source: containerd/platforms v1.0.0-rc.5, `windowsMatchComparer`.
WIN32K = "win32k"


def missing_features(entry: Platform, want: Platform, system: str) -> frozenset[str]:
    """Give what an entry requires of the system and nobody offers.

    Source: OCI image-spec v1.1.1, image-index.md, `os.features`: each is mandatory.
    """
    needed = frozenset(entry.os_features) - {""}
    if system == "windows":
        needed -= {WIN32K}
    return needed.difference(want.os_features)


def version_mismatch(entry: Platform, want: Platform, table: PlatformTable, *, exact: bool) -> str:
    """Say why an entry's `os.version` does not do for a normalised wish; empty if it does.

    On Windows the builds decide. Elsewhere another version is taken for want of a better one
    (containerd looks at none, D10), and `exact` takes nothing but the wanted one.
    """
    if want.os == "windows":
        return windows.mismatch(want.os_version, entry.os_version, table.windows)
    if not exact or not want.os_version or entry.os_version == want.os_version:
        return ""
    if not entry.os_version:
        return brief(f"names no version, and {want.os_version} is wanted")
    return f"version {brief(entry.os_version)} is not the wanted {brief(want.os_version)}"


class Reasons:
    """Tells why an entry fulfils none of some wishes; remembers what the wishes run."""

    def __init__(
        self,
        wants: Sequence[Platform],
        table: PlatformTable,
        *,
        exact: bool,
        exact_version: bool | None = None,
    ) -> None:
        """Take the wishes, normalised.

        Args:
            wants: in order.
            table: to compare by.
            exact: refuse lower levels and other architectures.
            exact_version: refuse other versions outside Windows; None: as `exact`.
        """
        self._table = table
        self._exact = exact
        self._exact_version = exact if exact_version is None else exact_version
        self._wants = [
            (want, tuple(chip for chip, _ in table.vector(_chip(want)))) for want in wants
        ]

    def mismatch(self, entry: Platform) -> str:
        """Say what keeps an entry out; empty if nothing does.

        Of several wishes the nearest one explains best: the one where the comparison came furthest.
        """
        if not self._wants:
            return "no platform is wanted"
        system = self._table.system(entry.os)
        chip = self._table.chip(entry.architecture or UNKNOWN, entry.variant)
        reasons = (self._compared(entry, system, chip, want, runs) for want, runs in self._wants)
        return max(reasons, key=lambda reason: reason[0])[1]

    def _compared(
        self, entry: Platform, system: str, chip: Chip, want: Platform, runs: tuple[Chip, ...]
    ) -> tuple[int, str]:
        """Give how far a comparison came, and what ended it; no reason at the very end."""
        if system != want.os:
            return 0, _other_system(system)
        if not any(other[0] == chip[0] for other in runs):
            return 1, "other architecture"
        reason = "" if chip == runs[0] else self._level_reason(chip, runs)
        if reason:
            return 2, reason
        reason = version_mismatch(entry, want, self._table, exact=self._exact_version)
        if reason:
            return 3, reason
        missing = sorted(missing_features(entry, want, system))
        if missing:
            return 4, brief(f"needs os feature{'s' * (len(missing) > 1)} {', '.join(missing)}")
        return 5, ""

    def _level_reason(self, chip: Chip, runs: tuple[Chip, ...]) -> str:
        """Compare levels with the highest of the same architecture that the wanted one runs."""
        label = self._table.label
        wanted = runs[0]
        if chip in runs:
            if not self._exact:
                return ""
            return f"{label(chip)} can stand in for {label(wanted)}, but is not exact"
        if self._exact and chip[0] != wanted[0]:
            return "other architecture"
        return self._order_reason(chip, wanted, next(o for o in runs if o[0] == chip[0]))

    def _order_reason(self, chip: Chip, wanted: Chip, relative: Chip) -> str:
        """Say how a level stands to `relative`, the highest of its kind that `wanted` runs."""
        label = self._table.label
        newer = self._table.newer(chip, relative)
        if newer is None:
            return f"nothing says that {label(wanted)} runs {label(chip)}"
        if not newer:
            return f"{label(chip)} is older than what {label(wanted)} runs"
        if relative != wanted:
            return f"needs {label(chip)}, newer than the {label(relative)} {label(wanted)} runs"
        plain = label(wanted).partition("/")[2]
        return f"needs {label(chip)}, newer than the wanted {plain or label(wanted)}"


def _chip(platform: Platform) -> Chip:
    return platform.architecture or UNKNOWN, platform.variant


def _other_system(system: str) -> str:
    if system == "unknown":
        return "names no platform (`unknown`), as attestations do"
    return "other operating system"
