"""Output: the answer on stdout, everything else on stderr, both escaped."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, Protocol

from resolver.core.results.events import Event, Noted, Observer, Warned, ignore
from resolver.errors import OutputFault, ResolverError, Usage
from resolver.render import DEFAULT_FORMAT
from resolver.render.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.core.results.resolve import Failure

_STDERR = 2
#: Characters of one message; the text of a server or a program can have any length.
MAX_MESSAGE = 4096
#: Remove secrets from text: the redactors of all sessions opened in this process.
_redactors: list[Callable[[str], str]] = []


def add_redactors(*redactors: Callable[[str], str]) -> None:
    """Remove secrets from every later message with these functions too.

    They outlive their sessions: most errors are printed after the session is closed.
    """
    _redactors.extend(redactors)


def presentable(text: str) -> str:
    """Redact and shorten a message that may contain remote text.

    Apply it to every message before it goes to a stream, a document or a report.
    """
    for redact in _redactors:
        text = redact(text)
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


class Recorder(Protocol):
    """Collects what a command prints, for `--emit` and `--report`."""

    def keep(self, answer: object) -> None:
        """Record an answer."""

    def warned(self, warning: Warned) -> None:
        """Record a warning."""

    def failed(self, error: ResolverError) -> None:
        """Record a failure."""


class Output:
    """The output streams of one command."""

    def __init__(self, *, quiet: bool = False, verbose: int = 0) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._shown: set[str] = set()
        #: Receives all events but warnings and notes; set by commands that show progress.
        self.progress: Observer = ignore
        #: Writes text to stderr; live progress replaces it to keep lines and bars apart.
        self.write: Callable[[str], None] = _write
        #: Collects answers and failures for `--emit` and `--report`.
        self.recorder: Recorder | None = None

    def show(self, answer: object, form: str, *, explain: bool = False, full: bool = False) -> None:
        """Write an answer in a format, and record it for `--emit` and `--report`."""
        from resolver.render import render_chunks

        self.keep(answer)
        for chunk in render_chunks(
            answer, form, explain=explain, full=full, width=page_width(), clean=presentable
        ):
            self.answer(chunk)

    def keep(self, answer: object) -> None:
        """Record an answer that the command itself writes."""
        if self.recorder is not None:
            self.recorder.keep(answer)

    def answer(self, text: str) -> None:
        """Write a chunk of the answer."""
        with _stdout_errors():
            sys.stdout.write(text)
            sys.stdout.flush()

    def raw(self, body: bytes) -> None:
        """Write bytes unchanged, as for `inspect --raw`."""
        with _stdout_errors():
            sys.stdout.flush()
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()

    def document(self, body: bytes) -> None:
        """Write a stored document unchanged; to a terminal only without control characters.

        Raises:
            Usage: it has some, and standard output is a terminal.
        """
        check_stdout()
        if sys.stdout.isatty() and not _is_printable(body):
            raise Usage(
                "the document has control characters, which a terminal would obey",
                "write it to a file: `> document.json`",
            )
        self.raw(body)

    def observe(self, event: Event) -> None:
        """Print a warning once and, with `--verbose`, a note; pass the rest to progress."""
        if isinstance(event, Warned):
            if self.recorder is not None:
                self.recorder.warned(event)
            if not self._quiet and event.message not in self._shown:
                self._shown.add(event.message)
                self._line("warning", event.message)
        elif not isinstance(event, Noted):
            self.progress(event)
            self._note_transfer(event)
        elif self._verbose:
            self._line("note", event.message)

    def _note_transfer(self, event: Event) -> None:
        """Note what a transfer left in the store besides the requested images."""
        from resolver.core.results.pull_events import Brought, Kept
        from resolver.render.report import megabytes

        match event:
            case Kept(size=0):
                self.note("nothing was fetched yet; run the same command to start again")
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
        """Print the warnings of an answer that were not printed before."""
        for warning in warnings:
            self.observe(warning)

    def note(self, text: str) -> None:
        """Print a note."""
        if not self._quiet:
            self._line("note", text)

    def hint(self, text: str) -> None:
        """Print a hint: the next command to run."""
        if not self._quiet:
            self._line("hint", text)

    def failed(self, error: ResolverError, *, where: str = "") -> None:
        """Print an error, where it happened, and its hints."""
        if self.recorder is not None:
            self.recorder.failed(error)
        self._line("error", f"{where}: {error}" if where else str(error))
        for hint in error.hints():
            self._line("hint", hint)

    def failures(self, failures: Iterable[Failure]) -> int:
        """Print the failures of an answer; return the highest exit status, or 0."""
        worst = 0
        for failure in failures:
            if not isinstance(failure.error, ResolverError):
                raise failure.error
            self.failed(failure.error)
            worst = max(worst, failure.error.kind.status)
        return worst

    def _line(self, label: str, text: str) -> None:
        self.write(f"{label}: {escape(presentable(text))}\n")


def _is_printable(body: bytes) -> bool:
    """Return whether bytes are text that no terminal takes as a command."""
    try:
        lines = body.decode("utf-8").replace("\t", " ").split("\n")
    except UnicodeDecodeError:
        return False
    return all(escape(line) == line for line in lines)


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, AttributeError):
        # stderr is gone; the exit status still reports the failure.
        return


def takes_stdout(to: str, form: str) -> bool:
    """Return whether an export goes to standard output, which then carries nothing else."""
    from resolver.core.results.export import parse_destination

    if not parse_destination(to).is_stream:
        return False
    check_stdout()
    if sys.stdout.isatty():
        raise Usage(
            "refusing to write an archive to a terminal",
            f"pipe it to a program, or name a file: `--to {to} | docker load`, `--to image.tar`",
        )
    if form != DEFAULT_FORMAT:
        raise Usage(
            f"`--format {form}` and `--to {to}` both write to standard output",
            "leave one of them out, or name a file: `--to image.tar`",
        )
    return True


def page_width() -> int | None:
    """Return the columns of the terminal on stdout; None for a pipe or a file."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


#: Bytes that restore the terminal if the process exits during live progress.
_exit_bytes: list[bytes] = []


def write_at_exit(restore: bytes) -> None:
    """Write these bytes to stderr if the process exits early; empty bytes cancel that."""
    _exit_bytes[:] = [restore] if restore else []


def exit_now(status: int) -> NoReturn:
    """Exit at once, without waiting for threads that are blocked on a registry.

    Flush the streams first; the kernel releases locks, and partial files stay for the next run.
    A normal exit would join worker threads, which can take up to a read timeout.
    """
    for restore in _exit_bytes:
        with suppress(OSError):
            os.write(_STDERR, restore)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(status)


class ReaderGone(Exception):
    """The reader of the answer closed the pipe, as `| head -1` does; not a failure."""


def guard_streams() -> None:
    """Open `/dev/null` in place of closed standard streams.

    Otherwise a file or socket could take their number, and receive what is written to them.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > _STDERR:
            os.close(descriptor)
            return


def check_stdout() -> None:
    """Check that standard output is open; raise `OutputFault` if it is not."""
    if sys.stdout is None:
        raise OutputFault("standard output is closed", "open it, for example with `> answer.txt`")


@contextmanager
def _stdout_errors() -> Iterator[None]:
    """Turn errors of standard output into ours."""
    check_stdout()
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputFault(
            f"cannot write the answer: {error.strerror or error}", "free some space, then try again"
        ) from error
