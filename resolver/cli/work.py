"""What every command does: a session wired to the streams, closed in any case."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from resolver.cli.output import Output, redact_with
from resolver.render import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolver.cli.options import Common
    from resolver.session import Session
    from resolver.session_ask import AskVerbs
    from resolver.wiring import Wiring

Verbs = TypeVar("Verbs", bound="Wiring")


@contextmanager
def work(
    common: Common, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Session, Output]]:
    """Open a session for a command; `environment` instead of that of the process.

    Raises:
        Usage: the output format is none of ours; said before anything is asked of anybody.

    """
    from resolver.session import Session

    with _opened(Session, common, environment) as opened:
        yield opened


@contextmanager
def asking(common: Common) -> Iterator[tuple[AskVerbs, Output]]:
    """Open what answers questions about names, and load no other verb: these must be fast.

    Raises:
        Usage: as `work`.

    """
    from resolver.session_ask import AskVerbs

    with _opened(AskVerbs, common, None) as opened:
        yield opened


@contextmanager
def _opened(
    verbs: type[Verbs], common: Common, environment: Mapping[str, str] | None
) -> Iterator[tuple[Verbs, Output]]:
    prepare(common.form)
    output = Output(quiet=common.quiet, verbose=common.verbose)
    output.hand = common.hand
    with (
        _logged(output) if common.verbose > 1 else nullcontext(),
        verbs(flags=common.flags, environment=environment, observe=output.observe) as session,
    ):
        redact_with(session.clean)
        yield session, output


@contextmanager
def _logged(output: Output) -> Iterator[None]:
    """Send our own log lines, and nobody else's, to stderr, cleaned and escaped."""
    import logging

    from resolver.core.events import Noted

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
