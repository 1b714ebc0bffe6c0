"""Output: the answer on stdout, everything else on stderr, both escaped."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, Protocol

from resolver.core.results.events import Event, Noted, Observer, Warned, ignore
from resolver.errors import OutputFault, ResolverError, Usage
from resolver.render import DEFAULT_FORMAT, Page
from resolver.render.text import escape
from resolver.render.text import label as coloured_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

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
        #: Where in a file the malformed references of a batch are: `images.txt:3`.
        self.places: Mapping[str, str] = {}
        #: Collects answers and failures for `--emit` and `--report`.
        self.recorder: Recorder | None = None

    def show(self, answer: object, form: str, *, explain: bool = False, full: bool = False) -> None:
        """Write an answer in a format, and record it for `--emit` and `--report`."""
        self.keep(answer)
        self.draw(answer, form, explain=explain, full=full)

    def draw(self, answer: object, form: str, *, explain: bool = False, full: bool = False) -> None:
        """Write an answer that is not recorded, or is recorded already."""
        from resolver.render import render_chunks

        target = page()
        if form == "html":
            target = target._replace(command=command_line(), date=run_date())
        for chunk in render_chunks(
            answer, form, explain=explain, full=full, page=target, clean=presentable
        ):
            self.answer(chunk)

    def keep(self, answer: object) -> None:
        """Record an answer that the command itself writes."""
        if self.recorder is not None:
            self.recorder.keep(answer)

    def answer(self, text: str) -> None:
        """Write a chunk of the answer."""
        if _answer_file:
            _answer_file[0].write(text.encode("utf-8", "backslashreplace"))
            return
        with _stdout_errors():
            sys.stdout.write(text)
            sys.stdout.flush()

    def raw(self, body: bytes) -> None:
        """Write bytes unchanged, as for `inspect --raw`."""
        if _answer_file:
            _answer_file[0].write(body)
            return
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
        from resolver.errors import megabytes

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

    def failed(self, error: ResolverError, *, where: str = "", label: str = "error") -> None:
        """Print an error, where it happened, and its hints.

        `label` is another word for a negative answer, which is not an error.
        """
        if self.recorder is not None:
            self.recorder.failed(error)
        self._line(label, f"{where}: {error}" if where else str(error))
        for hint in error.hints():
            self._line("hint", hint)

    def failures(self, failures: Iterable[Failure]) -> int:
        """Print the failures of an answer; return the highest exit status, or 0."""
        worst = 0
        for failure in failures:
            if not isinstance(failure.error, ResolverError):
                raise failure.error
            self.failed(failure.error, where=self.places.get(failure.reference, ""))
            worst = max(worst, failure.error.kind.status)
        return worst

    def _line(self, label: str, text: str) -> None:
        head = coloured_label(label, colour=is_coloured(sys.stderr))
        self.write(f"{head} {escape(presentable(text))}\n")


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
    if sys.stdout.isatty() and not _answer_file:
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


#: Digits of a time in seconds that a date can have.
_LONGEST_EPOCH = 11
#: The words of the command line that runs.
_words: list[str] = []


def remember_words(words: list[str]) -> None:
    """Record the command line, for documents that name it."""
    _words[:] = words


def command_line() -> str:
    """Return the command line, without secrets."""
    import shlex

    return presentable(shlex.join(["resolver", *_words]))


def run_date() -> str:
    """Return the time of this run in UTC; that of `SOURCE_DATE_EPOCH` if it is set."""
    from datetime import UTC, datetime
    from time import time

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    given = epoch.isascii() and epoch.isdecimal() and len(epoch) <= _LONGEST_EPOCH
    moment = float(epoch) if given else time()
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


#: Values of `--color`.
COLOURS = ("auto", "always", "never")
_colour = [COLOURS[0]]


def choose_colour(when: str) -> None:
    """Set whether output has colours, as for `--color`."""
    if when not in COLOURS:
        raise Usage(f"`--color {when}` is not a choice", f"choose one of {', '.join(COLOURS)}")
    _colour[0] = when


def is_coloured(stream: IO[str] | None) -> bool:
    """Return whether text for this stream has colours: on a terminal, unless told otherwise.

    Source: no-color.org and force-color.org: variables that count if they are not empty.
    """
    if _colour[0] != COLOURS[0]:
        return _colour[0] == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def is_terminal(stream: IO[str] | None) -> bool:
    """Return whether a stream is a terminal; a closed one is not."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def page() -> Page:
    """Return the columns and colours of standard output; those of a file for `--output`."""
    if _answer_file:
        return Page(colour=_colour[0] == "always")
    from shutil import get_terminal_size

    width = get_terminal_size().columns if is_terminal(sys.stdout) else None
    return Page(width, is_coloured(sys.stdout))


class AnswerFile:
    """The file of `--output`, which is complete at the end of the command or not touched.

    Devices and pipes are written directly.
    """

    def __init__(self, path: str) -> None:
        # A pipe or a device is opened as named: behind `/dev/stdout` there may be no path.
        is_special = Path(path).exists() and not Path(path).is_file()
        self._target = Path(path if is_special else os.path.realpath(path))
        self._temporary: Path | None = None
        self.is_written = False
        with self._errors():
            self._stream = self._open(special=is_special)

    def write(self, body: bytes) -> None:
        """Append to the answer; raise `OutputFault` if that fails."""
        self.is_written = True
        with self._errors():
            self._stream.write(body)
            self._stream.flush()

    def close(self, *, keep: bool) -> None:
        """Give the file its name, or discard what was written."""
        with self._errors():
            self._stream.close()
            if self._temporary is None:
                return
            if keep:
                self._temporary.replace(self._target)
            else:
                self._temporary.unlink()

    def _open(self, *, special: bool) -> IO[bytes]:
        if special:
            return open(self._target, "wb", opener=open_without_waiting)
        if self._target.exists() and not os.access(self._target, os.W_OK):
            raise PermissionError(errno.EACCES, "it is read-only")
        temporary = self._target.with_name(f".resolver-{os.urandom(16).hex()}")
        stream = temporary.open("xb")
        self._temporary = temporary
        if self._target.exists():
            os.fchmod(stream.fileno(), self._target.stat().st_mode & 0o777)
        return stream

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise ReaderGone from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputFault(
                f"cannot write `{self._target}`: {reason}", "name a file in a writable folder"
            ) from error


#: The file of `--output`, while it is open.
_answer_file: list[AnswerFile] = []


def answer_to(path: str) -> None:
    """Write every later answer to a file instead of standard output."""
    _answer_file[:] = [AnswerFile(path)]


def finish_answer(*, keep: bool | None = None) -> None:
    """Complete the file of `--output`; by default only if something was written to it."""
    if _answer_file:
        file = _answer_file.pop()
        file.close(keep=file.is_written if keep is None else keep)
    elif keep:
        check_stdout()


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file to write; a FIFO without a reader is an error (ENXIO), not a reason to wait."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


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
    with suppress(ResolverError, ReaderGone):
        finish_answer(keep=False)
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
