"""What every command does: a session wired to the streams, closed in any case."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from resolver.cli.output import Output, part_with, redact_with
from resolver.errors import Usage
from resolver.render import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolver.cli.options import Common
    from resolver.session import Session


@contextmanager
def work(
    common: Common, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Session, Output]]:
    """Open a session for a command; `environment` instead of that of the process.

    Raises:
        Usage: the output format is none of ours; said before anything is asked of anybody.

    """
    from resolver.session import Session

    prepare(common.form)
    output = Output(quiet=common.quiet, verbose=common.verbose)
    output.hand = common.hand
    with (
        _logged(output) if common.verbose > 1 else nullcontext(),
        Session(flags=common.flags, environment=environment, observe=output.observe) as session,
    ):
        redact_with(session.clean)
        yield session, output


@contextmanager
def _logged(output: Output) -> Iterator[None]:
    """Send our own log lines, and nobody else's, to stderr, cleaned and escaped."""
    import logging

    from resolver.core.results.events import Noted

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            output.observe(Noted(record.getMessage()))

    logger = logging.getLogger("resolver")
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(logging.DEBUG)
    logger.propagate, logger.handlers = False, [Handler()]
    try:
        yield
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1:]


#: What `--progress` takes: by itself; live on a terminal; a line per event; an object per event.
FORMS = ("auto", "tty", "plain", "json", "none")
#: Ends the line the cursor is on, and shows the cursor. Source: ECMA-48; DEC private mode 25.
_RESTORE = b"\r\n\x1b[?25h"
_OFF = frozenset({"", "0", "false"})


@contextmanager
def showing(output: Output, common: Common, form: str) -> Iterator[None]:
    """Show progress on stderr while the block lasts.

    Raises:
        Usage: there is no such form.

    """
    if form not in FORMS:
        raise Usage(f"there is no progress of form `{form}`", f"choose one of {', '.join(FORMS)}")
    match chosen(form, os.environ, wanted=common.progress, terminal=_is_terminal()):
        case "tty":
            with _live(output):
                yield
        case "plain":
            from resolver.render.progress import LineProgress

            output.progress = LineProgress(output.write)
            yield
        case "json":
            from resolver.render.progress import JsonLines

            output.progress = JsonLines(output.write)
            yield
        case _:
            yield


def chosen(form: str, environment: Mapping[str, str], *, wanted: bool, terminal: bool) -> str:
    """Choose a form: bars on a terminal that can move its cursor and is no log of a pipeline."""
    if form != "auto":
        return form
    if not wanted:
        return "none"
    in_pipeline = environment.get("CI", "").lower() not in _OFF
    dumb = environment.get("TERM", "") in {"", "dumb"}
    return "tty" if terminal and not in_pipeline and not dumb else "plain"


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except ValueError:
        return False


@contextmanager
def _live(output: Output) -> Iterator[None]:
    from resolver.render.live import Live

    write = output.write
    with Live(sys.stderr) as live:
        output.progress, output.write = live, live.write
        part_with(_RESTORE)
        try:
            yield
        finally:
            part_with(b"")
            output.write = write
