"""Bars: what the progress of a pull looks like, drawn by resolver.render.live."""

from __future__ import annotations

from collections import deque
from dataclasses import field
from time import monotonic
from typing import TYPE_CHECKING

from resolver.core.results.pull_events import (
    Advanced,
    PieceStarted,
    PieceVerifying,
    Restarted,
    Resumed,
    Started,
    Waiting,
)
from resolver.render.progress import WAITING, Layers, ending, pulling_from, short_name
from resolver.render.report import megabytes
from resolver.render.text import line
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.oci.digest import Digest
    from resolver.core.results.pull_events import Event


#: Seconds over which speed is measured.
_WINDOW = 5.0
#: Columns of everything but the bar, and the smallest bar worth drawing.
_REST = 64
_SMALLEST = 5


_MINUTE = 60
_HOUR = 3600


_DAY = 86_400


@dataclass(slots=True)
class Speed:
    """How fast bytes arrive, over the last seconds."""

    clock: Callable[[], float]
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, count: int) -> None:
        """Note bytes that have just arrived."""
        now = self.clock()
        self._seen.append((now, count))
        while self._seen and now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Give bytes per second; None while it is too early to say, or nothing comes."""
        if not self._seen:
            return None
        start = self._seen[0][0]
        elapsed = self.clock() - start
        # The first piece of news only starts the clock: its bytes came before.
        count = sum(size for moment, size in self._seen if moment > start)
        return count / elapsed if elapsed > 0 and count else None


@dataclass(slots=True)
class _Moving:
    """A layer under way."""

    total: int
    speed: Speed
    done: int = 0
    verifying: bool = False
    waiting: bool = False


class Board:
    """What is going on right now, and what has come to its end.

    Events come from several threads, one at a time; `lines` may be asked from another.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._layers = Layers()
        self._moving: dict[Digest, _Moving] = {}
        self._counted: set[Digest] = set()
        self._ended = 0

    def note(self, event: Event) -> str | None:
        """Take an event in; give the line that stays for good, if it ends something."""
        if isinstance(event, Started):
            self._layers.add(event)
            layers = (piece for piece in event.pieces if piece.role == "layer")
            self._counted |= {piece.descriptor.digest for piece in layers}
            return line(pulling_from(event))
        digest: Digest | None = getattr(event, "digest", None)
        if digest is None or digest not in self._layers:
            return None
        ended = ending(event)
        if ended is not None:
            self._moving.pop(digest, None)
            self._ended += 1
            return line(f"{short_name(digest)}: {ended[1]}")
        self._move(event, digest)
        return None

    def _move(self, event: Event, digest: Digest) -> None:
        if isinstance(event, Waiting):
            self._moving[digest] = _Moving(0, Speed(self._clock), waiting=True)
            return
        if isinstance(event, PieceStarted):
            self._moving[digest] = _Moving(event.size, Speed(self._clock))
            return
        moving = self._moving.get(digest)
        if moving is None:
            return
        match event:
            case Resumed():
                moving.done = event.have
            case Advanced():
                moving.done = event.done
                moving.speed.add(event.size)
            case Restarted():
                moving.done, moving.verifying = 0, False
            case PieceVerifying():
                moving.verifying = True
            case _:
                return

    def lines(self, width: int) -> list[str]:
        """Draw what moves, at most `width` columns wide; the last line counts the layers."""
        moving = list(self._moving.items())
        drawn = [_row(short_name(digest), each, width) for digest, each in moving]
        if drawn and len(self._counted) > 1:
            drawn.append(f"{self._ended} of {len(self._counted)} layers are here")
        return [text[:width] for text in drawn]


def _row(name: str, moving: _Moving, width: int) -> str:
    if moving.waiting:
        return f"{name}: {WAITING}"
    if moving.verifying:
        return f"{name}: Verifying"
    amount = f"{megabytes(moving.done)}/{megabytes(moving.total)}"
    rate = moving.speed.rate()
    speed = f"{megabytes(int(rate))}/s" if rate is not None else ""
    left = _span((moving.total - moving.done) / rate) if rate is not None else ""
    bar = _bar(moving.done, moving.total, width - _REST)
    return f"{name}: Downloading {bar}{amount:>15}  {speed:>9}  {left:>6}".rstrip()


def _bar(done: int, total: int, width: int) -> str:
    """Draw a bar as Docker does; nothing where there is no room for one."""
    if width < _SMALLEST:
        return ""
    filled = width if not total else min(width, width * done // total)
    head = "=" * filled if filled == width else f"{'=' * filled}>"
    return f"[{head:<{width}}]  "


def _span(seconds: float) -> str:
    """Write a span of time in at most six characters."""
    whole = int(seconds + 0.5)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return "> 1 d"
