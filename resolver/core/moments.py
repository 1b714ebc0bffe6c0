"""Moments: when an image says that it was made."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

# Source: RFC 3339 section 5.6; OCI image-spec v1.1.1, config.md, `created`.
_WRITTEN = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,18})?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
#: The first public release of Docker, 0.1.0 of 23 March 2013. What is dated before it was built
#: reproducibly, with a date that says nothing: the year 1, 1970, 1980.
_FIRST_IMAGES = datetime(2013, 3, 23, tzinfo=UTC)
_LEAP = 60


def read_moment(text: str) -> datetime | None:
    """Read when an image was made; None when its date says nothing.

    Args:
        text: as the config has it, normally RFC 3339; its fraction of a second does not matter.
    """
    matched = _WRITTEN.fullmatch(text) if len(text) <= 64 else None  # noqa: PLR2004 - as the pattern
    if matched is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in matched.groups()[:6])
    sign, hours, minutes = matched.groups()[6:]
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        zone = timezone(-away if sign == "-" else away)
        # A leap second is as long as the one before it here: ages are told in hours.
        moment = datetime(
            year, month, day, hour, minute, min(second, _LEAP - 1) if second <= _LEAP else second,
            tzinfo=zone,
        )  # fmt: skip
    except (ValueError, OverflowError):
        return None
    return moment if moment >= _FIRST_IMAGES else None


def in_words(seconds: float) -> str:
    """Say how long that is, in days, or hours where it is less than two days."""
    hours = int(seconds // 3_600)
    count, unit = (hours, "hour") if hours < 48 else (hours // 24, "day")  # noqa: PLR2004
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
