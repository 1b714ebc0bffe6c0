"""Scripted answers that replace those of the fake registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.messages import Reply, Seen

#: What `on` takes: a fixed reply, or a function that may decline with None.
Answer = Reply | Callable[[Seen], Reply | None]


@dataclass(slots=True)
class Script:
    """Replies for one method and path, in order."""

    method: str
    path: str
    answers: tuple[Answer, ...]
    times: int | None
    used: int = 0

    def matches(self, seen: Seen) -> bool:
        """Return whether this script answers a request; `path` with `?` is matched verbatim."""
        here = seen.raw_target if "?" in self.path else seen.path
        open_ = self.times is None or self.used < self.times
        return open_ and self.method in ("*", seen.method) and here == self.path

    def next(self) -> Answer:
        """Take the next answer; the last one repeats."""
        self.used += 1
        return self.answers[min(self.used, len(self.answers)) - 1]
