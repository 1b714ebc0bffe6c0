"""Output: the answer on stdout, everything else on stderr, and nothing unescaped on either."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from resolver.core.results.events import Noted, Warned
from resolver.core.results.pull_events import Event, Observer, ignore
from resolver.errors import OutputFault, ResolverError, Usage
from resolver.render.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.cli.ci import CiOutput

_STDERR = 2
#: Characters of one message; what a server or a program said may be of any length.
MAX_MESSAGE = 4096
#: Takes secrets out of text: the redactors of the sessions that this process has opened.
_redactors: list[Callable[[str], str]] = []


def redact_with(*redactors: Callable[[str], str]) -> None:
    """Have these take secrets out of every message from now on, after the ones before.

    They outlive their sessions: most errors are told after the session is closed.
    """
    _redactors.extend(redactors)


def presentable(text: str) -> str:
    """Prepare a message that may hold outside text: without secrets, and not endless.

    Every message goes through this on its way to a stream, a document or a report.
    """
    for redact in _redactors:
        text = redact(text)
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


class Output:
    """Both streams of one command."""

    def __init__(self, *, quiet: bool = False, verbose: int = 0) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._told: set[str] = set()
        #: Hears of everything but warnings and notes; a command that shows progress sets it.
        self.progress: Observer = ignore
        #: Puts text on stderr; live progress sets it, so that lines and bars keep apart.
        self.write: Callable[[str], None] = _write
        #: Who else is told, where `--emit` or `--report` asked for it.
        self.hand: CiOutput | None = None

    def tell(self, answer: object, form: str, *, explain: bool = False, full: bool = False) -> None:
        """Write an answer in the form asked for, and keep it for whoever else is told."""
        from resolver.render import tell_pieces

        self.keep(answer)
        for piece in tell_pieces(
            answer, form, explain=explain, full=full, width=page_width(), clean=presentable
        ):
            self.answer(piece)

    def keep(self, answer: object) -> None:
        """Keep an answer for whoever else is told; a command that writes it otherwise calls this.

        It costs nothing where nobody is.
        """
        if self.hand is not None:
            self.hand.keep(answer)

    def answer(self, text: str) -> None:
        """Write a piece of the answer.

        Raises:
            OutputFault: it cannot be written (a full disk); a closed pipe passes as it is.

        """
        with _told():
            sys.stdout.write(text)
            sys.stdout.flush()

    def raw(self, body: bytes) -> None:
        """Write exact bytes, as `inspect --raw` promises."""
        with _told():
            sys.stdout.flush()
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()

    def observe(self, event: Event) -> None:
        """Tell a warning once, a note only to those who asked, and progress where it is shown."""
        if isinstance(event, Warned):
            if self.hand is not None:
                self.hand.warned(event)
            if not self._quiet and event.message not in self._told:
                self._told.add(event.message)
                self._line("warning", event.message)
        elif not isinstance(event, Noted):
            self.progress(event)
            self._summed_up(event)
        elif self._verbose:
            self._line("note", event.message)

    def _summed_up(self, event: Event) -> None:
        """Say what transfers leave in the store, where that is not what was asked for."""
        from resolver.core.results.pull_events import Brought, Kept
        from resolver.render.report import megabytes

        match event:
            case Kept(size=0):
                self.note("nothing was fetched yet; the same command begins again")
            case Kept():
                of = f"{event.pieces} of {event.wanted} pieces complete"
                self.note(
                    f"{megabytes(event.size)} is kept ({of}): "
                    "run the same command again to fetch the rest"
                )
            case Brought():
                count = f"{event.layers} layer{'s' if event.layers > 1 else ''}"
                self.note(
                    f"fetched {count} ({megabytes(event.size)}) into the store to read them; "
                    "no pulled image needs them, and `resolver gc` removes them after 1 hour"
                )
            case _:
                return

    def warnings(self, warnings: tuple[Warned, ...]) -> None:
        """Tell the warnings of an answer that were not told while it was found."""
        for warning in warnings:
            self.observe(warning)

    def note(self, text: str) -> None:
        """Say something in passing."""
        if not self._quiet:
            self._line("note", text)

    def hint(self, text: str) -> None:
        """Say what to type next, after an answer that calls for it."""
        if not self._quiet:
            self._line("hint", text)

    def failed(self, error: ResolverError, *, where: str = "") -> None:
        """Say what happened, with the lines that it happened at, and what to type next."""
        if self.hand is not None:
            self.hand.failed(error)
        self._line("error", f"{where}: {error}" if where else str(error))
        for hint in error.hints():
            self._line("hint", hint)

    def _line(self, label: str, text: str) -> None:
        self.write(f"{label}: {escape(presentable(text))}\n")


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, AttributeError):
        # Nobody can be told that nobody can be told; the exit status still says it.
        return


def takes_stdout(to: str, form: str) -> bool:
    """Say whether an export goes to standard output, so that nothing else may.

    Raises:
        Usage: standard output is a terminal, or is to hold an answer in another format too.
        OutputFault: standard output is closed.

    """
    from resolver.core.results.export import parse_destination

    if not parse_destination(to).is_stream:
        return False
    check_stdout()
    if sys.stdout.isatty():
        raise Usage(
            "standard output is a terminal, and an archive is not for reading",
            f"send it to a program or a file: `--to {to} | docker load`, `--to image.tar`",
        )
    if form != "table":
        raise Usage(
            f"`--format {form}` and `--to {to}` both write to standard output",
            "leave one of them out, or name a file: `--to image.tar`",
        )
    return True


def page_width() -> int | None:
    """Columns of the terminal that stdout is; None for a pipe or a file, where nothing is cut."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


#: Bytes that put a terminal right again when the process ends in the middle of live progress.
_parting: list[bytes] = []


def part_with(words: bytes) -> None:
    """Have these bytes written to stderr if the process leaves early; none to take it back."""
    _parting[:] = [words] if words else []


def leave(status: int) -> NoReturn:
    """End at once, without waiting for threads that wait for a registry.

    Everything written is flushed before; locks are the kernel's to drop; partial files stay for
    the next run. A normal exit would join worker threads, up to a read timeout later (R52).
    """
    for words in _parting:
        with suppress(OSError):
            os.write(2, words)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(status)


class HungUp(Exception):
    """Nobody reads the answer any more, as after `| head -1`; that is no failure."""


def guard_streams() -> None:
    """Occupy the places of closed streams, so that no file or socket is opened in them.

    What would be written to a closed stream would else end up in whatever took its number.
    """
    while True:
        place = os.open(os.devnull, os.O_RDWR)
        if place > _STDERR:
            os.close(place)
            return


def check_stdout() -> None:
    """Make sure that there is somewhere to put an answer.

    Raises:
        OutputFault: standard output is closed.
    """
    if sys.stdout is None:
        raise OutputFault("standard output is closed", "open it, for example with `> answer.txt`")


@contextmanager
def _told() -> Iterator[None]:
    """Turn what happens to standard output into what a command line can end with."""
    check_stdout()
    try:
        yield
    except BrokenPipeError as error:
        raise HungUp from error
    except OSError as error:
        raise OutputFault(
            f"cannot write the answer: {error.strerror or error}", "make room, then try again"
        ) from error
