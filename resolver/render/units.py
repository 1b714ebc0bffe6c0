"""Units: how numbers are told to people."""

from __future__ import annotations

_STEP = 1000.0


def megabytes(count: int) -> str:
    """Write a number of bytes as Docker does: decimal units, three digits.

    Source: docker/go-units, size.go, `HumanSize` (base 1000, four significant digits there).
    """
    if count < _STEP:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= _STEP
        if value < 9.995:  # noqa: PLR2004 - where rounding to two decimals leaves one digit
            return f"{value:.2f} {unit}"
        if value < 99.95:  # noqa: PLR2004 - the same for one decimal
            return f"{value:.1f} {unit}"
        if value < 999.5:  # noqa: PLR2004 - the same for none
            return f"{value:.0f} {unit}"
    return f"{value:.0f} PB"
