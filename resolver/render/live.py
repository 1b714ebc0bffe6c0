"""Live progress on a terminal: lines that move below lines that stay. The only user of rich."""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.text import Text

from resolver.render.progress import Board

if TYPE_CHECKING:
    from types import TracebackType

    from resolver.core.results.pull_events import Event


#: Frames a second; more only flickers.
_FRAMES = 8
#: Columns of a terminal that does not say how many it has.
_WIDTH = 80


class Live:
    """Draws a pull while a `with` block lasts; what has ended stays above, nothing else remains.

    A layer that ends becomes a plain line; layers that move are redrawn below, never more of them
    than the terminal has room for. No colours, so that `NO_COLOR` has nothing to turn off.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._board = Board()
        self._guard = threading.RLock()
        self._console = Console(
            file=stream,
            force_terminal=True,
            no_color=True,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = RichLive(
            console=self._console,
            get_renderable=self._frame,
            refresh_per_second=_FRAMES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        with self._guard:
            stays = self._board.note(event)
        if stays is not None:
            self.write(f"{stays}\n")

    def write(self, text: str) -> None:
        """Write a line that stays, above what moves; it is escaped already."""
        self._console.print(Text(text.rstrip("\n")), soft_wrap=True)

    def _frame(self) -> Group:
        size = self._console.size
        width = (size.width or _WIDTH) - 1
        with self._guard:
            lines = self._board.lines(width)
        room = max(1, size.height - 1)
        return Group(*(Text(text, no_wrap=True, overflow="crop") for text in lines[-room:]))
