"""`resolver doctor`: what this machine is set up with, and what to do about it."""

from typing import TYPE_CHECKING, Annotated, Optional, TextIO

import typer

from resolver.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.doctor import Console


@options.command
def doctor(
    common: options.Common,
    hosts: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(metavar="[HOST]...", show_default=False),
    ] = None,
) -> None:
    """Say what this machine is set up with, and what to do.

    Looks at the installation, the store, logins (names and places alone), mirrors and which file
    decides, authorities, proxies, the clock, tools and variables. Nobody is asked over the network
    but each HOST, once and without a login. Status 1 if something keeps a command from working;
    warnings and notes are status 0.

    \b
      resolver doctor
      resolver doctor ghcr.io registry.corp:5000
      resolver doctor --json
    """
    import os

    from resolver.cli.output import Output
    from resolver.cli.run import work
    from resolver.core.results.doctor import CheckupState
    from resolver.verbs.doctor.doctor import check_installation, set_aside

    environment = dict(os.environ)
    usable, rows = set_aside(environment)
    try:
        with work(common, usable) as (session, output):
            found = session.doctor(
                hosts or (), environment=environment, console=_console(environment), set_aside=rows
            )
            output.tell(found, common.form)
    except ImportError as error:
        # There can be no session without it: what is missing is all that there is to tell.
        output = Output(quiet=common.quiet)
        output.hand = common.hand
        found = check_installation(error)
        output.tell(found, common.form)
    if found.state is CheckupState.ERROR:
        raise typer.Exit(1)


def _console(environment: "Mapping[str, str]") -> "Console":
    """Look at our streams, and for a CI system that `--emit auto` knows."""
    import sys

    from resolver.core.results.doctor import Console
    from resolver.render.ci.emit import EMITTERS

    found = (
        row.name for row in EMITTERS.values() if row.detected and environment.get(row.detected)
    )
    return Console(
        stdin=_is_terminal(sys.stdin),
        stdout=_is_terminal(sys.stdout),
        stderr=_is_terminal(sys.stderr),
        system=next(found, ""),
    )


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; one that is closed is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
