"""Open the session of a command, connect it to the output, and show progress."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from resolver.cli.output import Output, add_redactors, is_terminal, write_at_exit
from resolver.errors import Usage
from resolver.render import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Executor

    from resolver.cli.options import Common
    from resolver.core.results.events import Event, Observer
    from resolver.session import Session
    from resolver.verbs.merge import Results, Shard


@contextmanager
def open_session(
    common: Common, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Session, Output]]:
    """Open the session and the output of a command.

    `environment` replaces the environment of the process.
    """
    from resolver.session import Session

    prepare(common.form)
    output = Output(quiet=common.quiet, verbose=common.verbose)
    results = _results(common, output)
    output.recorder = common.recorder
    with (
        _logged(output) if common.verbose > 1 else nullcontext(),
        Session(flags=common.flags, environment=environment, observe=output.observe) as session,
    ):
        add_redactors(session.clean)
        session.keep_results(results)
        yield session, output


@contextmanager
def open_executor(common: Common) -> Iterator[Executor | None]:
    """Connect to the cluster of `--cluster`; None without one."""
    fleet = common.fleet
    if fleet is None or fleet.cluster is None:
        yield None
        return
    from resolver.verbs.fleet import cluster

    with cluster(fleet.cluster) as executor:
        yield executor


def shard_of(common: Common) -> Shard | None:
    """Return the part of the references that `--shard` selects; None for all."""
    if common.fleet is None or common.fleet.shard is None:
        return None
    from resolver.verbs.merge import Shard

    return Shard.parse(common.fleet.shard, os.environ)


def select(common: Common, names: list[str]) -> list[str]:
    """Return the references of the shard, and note how many of them there are."""
    shard = shard_of(common)
    if shard is None:
        return names
    chosen = [name for name in names if shard.has(name)]
    message = f"shard {shard.number} of {shard.of}: {len(chosen):,} of {len(names):,} references"
    Output(quiet=common.quiet).note(message)
    return chosen


def _results(common: Common, output: Output) -> Results | None:
    fleet = common.fleet
    if fleet is None or fleet.results is None:
        if fleet is not None and fleet.fresh is not None:
            raise Usage("`--fresh` is about the file of `--results`", "add `--results FILE`")
        return None
    from resolver.cli.inputs import span
    from resolver.verbs.merge import Results

    fresh = span(fleet.fresh or "1d", "--fresh")
    return Results(fleet.results, fresh, shard_of(common), output.observe)


@contextmanager
def _logged(output: Output) -> Iterator[None]:
    """Print the log records of `resolver`, and of no other package, to stderr."""
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


#: Values of `--progress`: automatic; live on a terminal; a line or a JSON object per event; none.
FORMS = ("auto", "tty", "plain", "json", "none")
#: Ends the line the cursor is on, and shows the cursor. Source: ECMA-48; DEC private mode 25.
_RESTORE = b"\r\n\x1b[?25h"
_OFF = frozenset({"", "0", "false"})


@contextmanager
def show_progress(output: Output, common: Common, form: str = "auto") -> Iterator[None]:
    """Show progress on stderr while the block runs."""
    if form not in FORMS:
        raise Usage(f"unknown form of progress `{form}`", f"choose one of {', '.join(FORMS)}")
    match choose_progress(
        form, os.environ, wanted=common.progress, terminal=is_terminal(sys.stderr)
    ):
        case "tty" | "plain" as shown:
            from resolver.render.progress import LineProgress, Tally

            tally = Tally()
            with _live(output) if shown == "tty" else nullcontext():
                shows = output.progress if shown == "tty" else LineProgress(output.write)
                output.progress = _both(shows, tally)
                yield
            if tally.words():
                output.note(tally.words())
        case "json":
            from resolver.render.progress import JsonLines

            output.progress = JsonLines(output.write)
            yield
        case _:
            yield


def choose_progress(
    form: str, environment: Mapping[str, str], *, wanted: bool, terminal: bool
) -> str:
    """Choose a form: bars on a terminal that can move its cursor, outside of CI."""
    if form != "auto":
        return form
    if not wanted:
        return "none"
    in_pipeline = environment.get("CI", "").lower() not in _OFF
    dumb = environment.get("TERM", "") in {"", "dumb"}
    return "tty" if terminal and not in_pipeline and not dumb else "plain"


def _both(*observers: Observer) -> Observer:
    """Return an observer that passes events to several."""

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    return observe


@contextmanager
def _live(output: Output) -> Iterator[None]:
    from resolver.render.live import Live

    write = output.write
    with Live(sys.stderr) as live:
        output.progress, output.write = live, live.write
        write_at_exit(_RESTORE)
        try:
            yield
        finally:
            write_at_exit(b"")
            output.write = write
