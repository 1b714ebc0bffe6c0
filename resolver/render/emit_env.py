"""A file that a POSIX shell reads with `.`: names in capitals, values in single quotes.

Source: POSIX.1-2024, Shell Command Language, 2.2.2 "Single-Quotes".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.fitting import lines
from resolver.render.handing import Write
from resolver.render.values import values

if TYPE_CHECKING:
    from resolver.core.ending import Ending
    from resolver.render.handing import Act, Desk

#: Before the name of a value. Not `RESOLVER_`: those variables are questions to us, and a
#: `RESOLVER_PLATFORM` from one step would change what the next one answers.
PREFIX = "RESOLVED_"


def variable(name: str) -> str:
    """Name the variable for a value."""
    return PREFIX + name.upper()


def emit(ending: Ending, desk: Desk) -> tuple[Act, ...]:
    """Write every value."""
    text = "".join(f"{variable(value.name)}={_quoted(value.text)}\n" for value in values(ending))
    return (Write(desk.place, text),)


def _quoted(text: str) -> str:
    return "'" + lines(text).replace("'", "'\\''") + "'"
