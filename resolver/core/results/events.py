"""Events common to all operations; those of a pull are in `core.results.pull_events`.

Events are values passed to an observer; the core never prints.
"""

from __future__ import annotations

from collections.abc import Callable

from resolver.values import dataclass


class Event:
    """Base of all events."""

    __slots__ = ()


Observer = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """A warning that does not change the result; the message may contain remote text."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Noted(Event):
    """A note for `--verbose`: the source of a credential, a retry, a request."""

    message: str


@dataclass(frozen=True, slots=True)
class Counted(Event):
    """A part of a longer operation is done.

    Attributes:
        what: the operation in words: `resolving`, `verifying`.
        done, total: parts or, if `unit` is `bytes`, bytes.
        failed: how many of the parts have failed so far.
    """

    what: str
    done: int
    total: int
    unit: str
    failed: int = 0


def ignore(_event: Event) -> None:
    """Observe nothing."""
