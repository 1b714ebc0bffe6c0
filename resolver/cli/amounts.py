"""Amounts: sizes and spans of time as people write them."""

from __future__ import annotations

import re

from resolver.errors import Usage

#: Decimal as Docker writes them, binary where an `i` says so.
_UNITS = {
    "": 1,
    "b": 1,
    "k": 10**3, "kb": 10**3, "kib": 2**10,
    "m": 10**6, "mb": 10**6, "mib": 2**20,
    "g": 10**9, "gb": 10**9, "gib": 2**30,
    "t": 10**12, "tb": 10**12, "tib": 2**40,
}  # fmt: skip
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?([A-Za-z]{0,3})")
_SPAN = re.compile(r"([0-9]{1,9})([smhdw])")
#: Longest text that can be an amount; checked before it is searched.
_LONGEST = 32


def size(text: str, option: str) -> int:
    """Read a number of bytes: `500MB`, `1.5 GiB`, `1048576`.

    Raises:
        Usage: it is none.

    """
    match = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    factor = _UNITS.get(match[3].lower()) if match else None
    if match is None or factor is None or (match[2] and factor == 1):
        raise Usage(
            f"`{option} {text}` is no size", "write a number and a unit: `500MB`, `2GiB`, `1048576`"
        )
    fraction = match[2] or ""
    scale = int("1" + "0" * len(fraction))
    return int(match[1]) * factor + int(fraction or "0") * factor // scale


def span(text: str, option: str) -> float:
    """Read a span of time: `90s`, `30m`, `12h`, `7d`, `2w`; gives seconds.

    Raises:
        Usage: it is none.

    """
    match = _SPAN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise Usage(f"`{option} {text}` is no span of time", "write it as `30m`, `12h` or `7d`")
    return float(int(match[1]) * _SPANS[match[2]])
