"""`resolver doctor`: check how this machine is configured."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.output import Output, is_terminal, page
from resolver.cli.run import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.doctor import Console


@options.command
def doctor(
    common: options.Common,
    hosts: Annotated[
        options.Texts, options.argument("[HOST]...", "Registries to check too.")
    ] = None,
) -> None:
    """Check the configuration of this machine.

    Checks the installation, the store, logins (names and files only), mirrors and which file
    configures them, certificate authorities, proxies, the clock, tools and variables. Sends no
    request except to each HOST, once and without a login. The status is 1 if something keeps a
    command from working; warnings and notes leave it 0.

    \b
      resolver doctor
      resolver doctor ghcr.io registry.corp:5000
      resolver doctor --json
    """
    from resolver.core.results.doctor import CheckupState
    from resolver.verbs.doctor.doctor import check_installation, set_aside

    environment = dict(os.environ)
    usable, rows = set_aside(environment)
    try:
        with open_session(common, usable) as (session, output):
            found = session.doctor(
                hosts or (), environment=environment, console=_console(environment), set_aside=rows
            )
            output.show(found, common.form)
    except ImportError as error:
        # Without this module there is no session: report only what is missing.
        output = Output(quiet=common.quiet)
        output.recorder = common.recorder
        found = check_installation(error)
        output.show(found, common.form)
    if found.state is CheckupState.ERROR:
        raise typer.Exit(1)


def _console(environment: "Mapping[str, str]") -> "Console":
    """Inspect the standard streams, and detect the CI system as `--emit auto` does."""
    from resolver.core.results.doctor import Console
    from resolver.render.ci.emit import EMITTERS

    found = (
        row.name for row in EMITTERS.values() if row.detected and environment.get(row.detected)
    )
    return Console(
        stdin=is_terminal(sys.stdin),
        stdout=is_terminal(sys.stdout),
        stderr=is_terminal(sys.stderr),
        system=next(found, ""),
        colour=page().colour,
    )
