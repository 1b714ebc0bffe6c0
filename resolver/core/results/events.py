"""What a piece of work says while it goes on.

Events are values handed to an observer; the core never prints. Those about a pull are in
`core.transfers`.
"""

from __future__ import annotations

from resolver.values import dataclass


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a person should know, and that changes no answer.

    Attributes:
        code: stable, for machines.
        message: one sentence; may hold remote text, so the printer escapes it.

    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something for `--verbose`: which source a credential came from, a retry, a request."""

    message: str
