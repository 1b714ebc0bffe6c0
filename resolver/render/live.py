"""Live progress on a terminal, drawn with rich; the only module that imports it."""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.text import Text

from resolver.render.progress import Board

if TYPE_CHECKING:
    from types import TracebackType

    from resolver.core.results.events import Event


#: Frames per second; more would only flicker.
_FRAMES = 8
#: Columns assumed if the terminal does not report its width.
_WIDTH = 80


class Live:
    """Draws the progress of a pull during a `with` block.

    A finished layer becomes a plain line; active layers are redrawn below, as many as fit the
    terminal. Bars have no colours; the labels of messages may.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._board = Board()
        self._guard = threading.RLock()
        self._console = Console(
            file=stream,
            force_terminal=True,
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
        """Process an event."""
        with self._guard:
            stays = self._board.note(event)
        if stays is not None:
            self.write(f"{stays}\n")

    def write(self, text: str) -> None:
        """Write a permanent line above the bars; it must be escaped."""
        self._console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)

    def _frame(self) -> Group:
        size = self._console.size
        width = (size.width or _WIDTH) - 1
        with self._guard:
            lines = self._board.lines(width)
        room = max(1, size.height - 1)
        shown = [*lines[:1], *lines[1:][-(room - 1) :]] if room > 1 else lines[:1]
        return Group(*(Text(text, no_wrap=True, overflow="crop") for text in shown))
