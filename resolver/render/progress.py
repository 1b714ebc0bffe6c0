"""Progress of a pull, in the words of Docker.

As lines for logs (`LineProgress`), as JSON (`JsonLines`), and as bars (`Board`), which
`render.live` shows on a terminal.
"""

from __future__ import annotations

from collections import deque
from dataclasses import field, fields
from time import monotonic
from typing import TYPE_CHECKING

from resolver.core.oci.digest import Digest
from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Counted
from resolver.core.results.plan import Piece
from resolver.core.results.pull_events import (
    Advanced,
    Finished,
    PieceStarted,
    PieceVerifying,
    Restarted,
    Resumed,
    Reused,
    Skipped,
    Started,
    Waiting,
)
from resolver.errors import ResolverError, megabytes
from resolver.render.answers.plan import piece
from resolver.render.json import jsonl
from resolver.render.report import SHORT_HEX
from resolver.render.text import line
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.results.events import Event


#: State of a piece that another process fetches.
WAITING = "Waiting for another process"
#: Seconds between log lines about a piece: CI systems kill jobs without output.
QUIET = 30.0


def short_name(digest: Digest) -> str:
    """Return the name of a layer as in Docker: the first twelve digits of its digest."""
    return digest.hex[:SHORT_HEX]


def pulling_from(event: Started) -> str:
    """Return the first line: `24.04: Pulling from docker.io/library/ubuntu (linux/amd64)`."""
    platform = f" ({event.platform})" if event.platform is not None else ""
    try:
        reference = Reference.parse(event.image)
    except ResolverError:
        return f"Pulling from {event.image}{platform}"
    return f"{reference.name}: Pulling from {reference.identity}{platform}"


def outcome(event: Event) -> tuple[Digest, str] | None:
    """Return how a piece ended, in the words of Docker; None for other events."""
    match event:
        case Reused():
            place = f" in {event.place}" if event.place else ""
            return event.digest, f"Already exists{place}"
        case Finished():
            return event.digest, "Pull complete"
        case Skipped():
            return event.digest, f"Skipped foreign layer, {megabytes(event.size)}"
        case _:
            return None


class Layers:
    """The pieces that are layers: like Docker, show only those."""

    def __init__(self) -> None:
        self._layers: dict[Digest, bool] = {}

    def add(self, event: Started) -> None:
        """Add the pieces of an image."""
        for item in event.pieces:
            self._layers[item.descriptor.digest] = item.role == "layer"

    def __contains__(self, digest: Digest) -> bool:
        return self._layers.get(digest, True)


def counted(event: Counted) -> str:
    """Return how far an operation is: `resolving: 120 of 400 images, 30%, 2 failed`."""
    is_bytes = event.unit == "bytes"
    done = megabytes(event.done) if is_bytes else str(event.done)
    total = megabytes(event.total) if is_bytes else f"{event.total} {event.unit}"
    failed = f", {event.failed} failed" if event.failed else ""
    return f"{event.what}: {done} of {total}, {_percent(event.done, event.total)}{failed}"


def _percent(done: int, total: int) -> str:
    return f"{min(100, 100 * done // total) if total else 100}%"


#: Seconds that a transfer takes at least for its rate to be worth a note.
WORTH = 1.0


class Tally:
    """What a transfer fetched, how fast, and what was held already."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._started: float | None = None
        self._ended = 0.0
        self._fetched = 0
        self._held: dict[Digest, int] = {}

    def __call__(self, event: Event) -> None:
        """Process an event."""
        match event:
            case PieceStarted() if self._started is None:
                self._started = self._clock()
            case Advanced():
                self._fetched += event.size
                self._ended = self._clock()
            case Reused():
                self._held[event.digest] = event.size
            case Resumed():
                self._held[event.digest] = event.have
            case _:
                return

    def words(self) -> str:
        """Return the amount, the time, the average rate and what was saved; empty if too quick."""
        seconds = self._ended - self._started if self._started is not None else 0.0
        if seconds < WORTH or not self._fetched:
            return ""
        rate = f"{megabytes(int(self._fetched / seconds))}/s on average"
        held = sum(self._held.values())
        saved = f"; {megabytes(held)} held already, not fetched" if held else ""
        return f"fetched {megabytes(self._fetched)} in {_span(seconds)} ({rate}){saved}"


class LineProgress:
    """Progress for logs: a line per event; how far an operation is, only now and then."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._layers = Layers()
        self._last: dict[Digest | str, float] = {}

    def __call__(self, event: Event) -> None:
        """Write an event."""
        for words in self._lines(event):
            self._write(f"{line(words)}\n")

    def _lines(self, event: Event) -> Iterator[str]:
        if isinstance(event, Started):
            self._layers.add(event)
            yield pulling_from(event)
            return
        if isinstance(event, Counted):
            now = self._clock()
            if now - self._last.setdefault(event.what, now) >= QUIET:
                self._last[event.what] = now
                yield counted(event)
            return
        digest = getattr(event, "digest", None)
        if isinstance(digest, Digest) and digest in self._layers:
            words = self._words(event, digest)
            if words:
                yield f"{short_name(digest)}: {words}"

    def _words(self, event: Event, digest: Digest) -> str:
        ended = outcome(event)
        if ended is not None:
            return ended[1]
        now = self._clock()
        if isinstance(event, Advanced) and now - self._last.get(digest, now) < QUIET:
            return ""
        self._last[digest] = now
        return _passing(event)


def _passing(event: Event) -> str:
    """Return what happens to a piece; empty if it is not worth a line."""
    match event:
        case PieceStarted():
            size = megabytes(event.size)
            return f"Copying {size} from {event.place}" if event.place else f"Downloading {size}"
        case Resumed():
            return f"Resuming, {megabytes(event.have)} already here"
        case Restarted():
            return f"Downloading from the start again: {event.reason}"
        case PieceVerifying() | Waiting():
            return WAITING if isinstance(event, Waiting) else "Verifying"
        case Advanced():
            return f"Downloading, {megabytes(event.done)} of {megabytes(event.total)}"
        case _:
            return ""


class JsonLines:
    """Progress as JSON, an object per line; at most ten updates per second and piece."""

    _EVERY = 0.1

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._last: dict[Digest, float] = {}

    def __call__(self, event: Event) -> None:
        """Write an event."""
        if isinstance(event, Advanced):
            now = self._clock()
            last = event.done == event.total
            if not last and now - self._last.get(event.digest, float("-inf")) < self._EVERY:
                return
            self._last[event.digest] = now
        self._write(json_line(event))


def json_line(event: Event) -> str:
    """Write an event as one line of JSON, ASCII only: `{"event": "advanced", "digest": …}`."""
    kind = type(event).__name__
    name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind)
    value: dict[str, object] = {"event": name.removeprefix("-")}
    value |= {_key(field.name): _value(getattr(event, field.name)) for field in fields(event)}  # type: ignore[arg-type]  # every event is a dataclass
    return jsonl(value)


def _key(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _value(value: object) -> object:
    match value:
        case Digest() | Platform():
            return str(value)
        case tuple():
            return [_value(item) for item in value]
        case Piece():
            return piece(value)
        case _:
            return value


#: Seconds over which speed is measured.
_WINDOW = 5.0
#: Columns beside the bar, and the smallest bar worth drawing.
_REST = 64
_SMALLEST = 5


_MINUTE = 60
_HOUR = 3600


_DAY = 86_400


@dataclass(slots=True)
class Speed:
    """Transfer speed over the last seconds."""

    clock: Callable[[], float]
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, count: int) -> None:
        """Add bytes that have just arrived."""
        now = self.clock()
        self._seen.append((now, count))
        while self._seen and now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Return bytes per second; None if it is too early or nothing arrives."""
        if not self._seen:
            return None
        start = self._seen[0][0]
        elapsed = self.clock() - start
        # The first update only starts the clock: its bytes arrived before.
        count = sum(size for moment, size in self._seen if moment > start)
        return count / elapsed if elapsed > 0 and count else None


@dataclass(slots=True)
class _Moving:
    total: int
    speed: Speed
    done: int = 0
    verifying: bool = False
    waiting: bool = False


class Board:
    """The layers in transfer, and the number of finished ones.

    The caller serialises `note` and `lines`, which different threads call.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._layers = Layers()
        self._moving: dict[Digest, _Moving] = {}
        self._counted: set[Digest] = set()
        self._ended = 0
        #: Bytes to fetch of each piece, and those that have arrived.
        self._missing: dict[Digest, int] = {}
        self._arrived: dict[Digest, int] = {}
        self._speed = Speed(clock)
        self._count: Counted | None = None

    def note(self, event: Event) -> str | None:
        """Process an event; return a permanent line if it finishes something."""
        if isinstance(event, Started):
            self._layers.add(event)
            layers = (piece for piece in event.pieces if piece.role == "layer")
            self._counted |= {piece.descriptor.digest for piece in layers}
            self._missing |= {piece.descriptor.digest: piece.missing for piece in event.pieces}
            return line(pulling_from(event))
        if isinstance(event, Counted):
            before = self._count.done if self._count is not None else 0
            if event.done < before or event.done == 0:
                self._speed = Speed(self._clock)
            self._speed.add(max(0, event.done - before))
            self._count = event if event.done < event.total else None
            return None
        self._add(event)
        digest: Digest | None = getattr(event, "digest", None)
        if digest is None or digest not in self._layers:
            return None
        ended = outcome(event)
        if ended is not None:
            self._moving.pop(digest, None)
            self._ended += 1
            return line(f"{short_name(digest)}: {ended[1]}")
        self._move(event, digest)
        return None

    def _add(self, event: Event) -> None:
        """Count the bytes of the whole."""
        match event:
            case Advanced():
                self._arrived[event.digest] = self._arrived.get(event.digest, 0) + event.size
                self._speed.add(event.size)
            case Restarted():
                # All of it is fetched again, also what an earlier run had.
                moving = self._moving.get(event.digest)
                self._arrived[event.digest] = 0
                if moving is not None and moving.total:
                    self._missing[event.digest] = moving.total
            case Finished() | Reused():
                self._arrived[event.digest] = self._missing.get(event.digest, 0)
            case _:
                return

    def _whole(self) -> str:
        """Return the line for everything: bytes, percent, rate, time left, layers."""
        total = sum(self._missing.values())
        done = min(total, sum(self._arrived.values()))
        parts = [f"Total: {megabytes(done)} of {megabytes(total)}", _percent(done, total)]
        rate = self._speed.rate()
        if rate is not None:
            parts += [f"{megabytes(int(rate))}/s", f"{_span((total - done) / rate)} left"]
        parts.append(f"{self._ended} of {len(self._counted)} layers done")
        return ", ".join(parts)

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
        """Draw the whole, then the active layers, at most `width` columns wide."""
        moving = list(self._moving.items())
        drawn = [_row(short_name(digest), item, width) for digest, item in moving]
        if drawn and self._counted:
            drawn.insert(0, self._whole())
        if self._count is not None:
            rate = self._speed.rate()
            left = f", {_span((self._count.total - self._count.done) / rate)} left" if rate else ""
            drawn.insert(0, counted(self._count) + left)
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
    """Draw a bar as Docker does; nothing if it does not fit."""
    if width < _SMALLEST:
        return ""
    filled = width if not total else min(width, width * done // total)
    head = "=" * filled if filled == width else f"{'=' * filled}>"
    return f"[{head:<{width}}]  "


def _span(seconds: float) -> str:
    """Format a duration in at most six characters."""
    whole = int(seconds + 0.5)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return "> 1 d"
