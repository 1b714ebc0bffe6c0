"""What a piece of work says while it goes on.

Events are values handed to an observer; the core never prints. Those about a pull are in
`core.transfers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.results.pull_events import (
        Advanced,
        Brought,
        Finished,
        ImageDone,
        Kept,
        PieceStarted,
        PieceVerifying,
        Restarted,
        Resumed,
        Reused,
        Skipped,
        Started,
        Waiting,
    )


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


if TYPE_CHECKING:
    Event = (
        Warned
        | Noted
        | Started
        | PieceStarted
        | Resumed
        | Advanced
        | Restarted
        | PieceVerifying
        | Reused
        | Skipped
        | Finished
        | ImageDone
        | Waiting
        | Kept
        | Brought
    )
else:
    # Only ever named in annotations.
    Event = Any
Observer = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Observe nothing."""
