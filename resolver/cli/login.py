"""`resolver login`: a login, checked and kept."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.errors import Usage

if TYPE_CHECKING:
    from resolver.cli.options import Common


@options.command
def login(
    common: options.Common,
    registry: Annotated[
        str, typer.Argument(metavar="[REGISTRY]", show_default=False)
    ] = "docker.io",
) -> None:
    """Log in to a registry, by default Docker Hub.

    The registry is asked first; what it does not take is not kept. A login is kept where Docker
    keeps it: in the credential helper that ~/.docker/config.json names, else in that file. On a
    terminal, what is missing is asked for; a password is never an argument.

    \b
      resolver login ghcr.io --username me --password-stdin < token.txt
      resolver login registry.corp:5000 --ca-file corp.pem
    """
    from resolver.cli.run import work

    asked = with_login(common, registry)
    with work(asked) as (session, output):
        done = session.login(registry)
        if not done.verified:
            output.note(f"`{done.registry}` wants no login now, so this one is not checked")
        output.tell(done, common.form)


@options.command
def logout(
    common: options.Common,
    registry: Annotated[
        str, typer.Argument(metavar="[REGISTRY]", show_default=False)
    ] = "docker.io",
) -> None:
    """Forget the login for a registry.

    By default Docker Hub's. In the credential helper and in ~/.docker/config.json. Nobody is asked.

    \b
      resolver logout ghcr.io
    """
    from resolver.cli.run import work

    with work(common) as (session, output):
        output.tell(session.logout(registry), common.form)


def with_login(common: Common, registry: str) -> Common:
    """Complete the options by a user name and a password.

    Raises:
        Usage: one is missing, and there is nobody to ask.

    """
    import os

    flags = common.flags
    username = flags.username or os.environ.get("RESOLVER_USERNAME")
    password = flags.password or os.environ.get("RESOLVER_PASSWORD")
    if username and password:
        return common
    if not _is_somebody_there():
        missing = "password" if username else "user name"
        raise Usage(
            f"there is no {missing}, and no terminal to ask for it",
            f"`resolver login {registry} --username NAME --password-stdin < password.txt`",
        )
    username = username or _ask("User name: ")
    password = password or _ask_unseen(f"Password for {username} at {registry}: ")
    return replace(common, flags=replace(flags, username=username, password=password))


def _is_somebody_there() -> bool:
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline().strip()
    if not answer:
        raise Usage("there is no user name", "type one, or give `--username`")
    return answer


def _ask_unseen(question: str) -> str:
    from getpass import getpass

    answer = getpass(question, sys.stderr)
    if not answer:
        raise Usage("there is no password", "type one, or pipe it in with `--password-stdin`")
    return answer
