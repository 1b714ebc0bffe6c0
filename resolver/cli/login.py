"""`resolver login` and `resolver logout`: store and remove credentials."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from resolver.cli import options
from resolver.cli.run import open_session
from resolver.errors import Usage

if TYPE_CHECKING:
    from resolver.cli.options import Common


@options.command
def login(
    common: options.Common,
    registry: Annotated[str, options.argument("[REGISTRY]", "Registry: `ghcr.io`.")] = "docker.io",
) -> None:
    """Log in to a registry, by default Docker Hub.

    Checks the credentials with the registry, then stores them where Docker does: in the credential
    helper that ~/.docker/config.json names, else in that file. Prompts for a missing user name or
    password on a terminal; a password is never an argument.

    \b
      resolver login ghcr.io --username me --password-stdin < token.txt
      resolver login registry.corp:5000 --ca-file corp.pem
    """
    request = with_login(common, registry)
    with open_session(request) as (session, output):
        done = session.login(registry)
        if not done.verified:
            output.note(f"`{done.registry}` does not require a login, so this one was not checked")
        output.show(done, common.form)


@options.command
def logout(
    common: options.Common,
    registry: Annotated[str, options.argument("[REGISTRY]", "Registry: `ghcr.io`.")] = "docker.io",
) -> None:
    """Log out of a registry, by default Docker Hub.

    Removes the login from the credential helper and from ~/.docker/config.json; sends no request.

    \b
      resolver logout ghcr.io
    """
    with open_session(common) as (session, output):
        output.show(session.logout(registry), common.form)


def with_login(common: Common, registry: str) -> Common:
    """Add a user name and a password to the options, from variables or a prompt."""
    flags = common.flags
    username = flags.username or os.environ.get("RESOLVER_USERNAME")
    password = flags.password or os.environ.get("RESOLVER_PASSWORD")
    if username and password:
        return common
    if not _is_interactive():
        missing = "password" if username else "user name"
        raise Usage(
            f"no {missing} given, and no terminal to prompt for it",
            f"`resolver login {registry} --username NAME --password-stdin < password.txt`",
        )
    username = username or _ask("User name: ")
    password = password or _ask_hidden(f"Password for {username} at {registry}: ")
    return replace(common, flags=replace(flags, username=username, password=password))


def _is_interactive() -> bool:
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline().strip()
    if not answer:
        raise Usage("no user name given", "type one, or use `--username`")
    return answer


def _ask_hidden(question: str) -> str:
    from getpass import getpass

    answer = getpass(question, sys.stderr)
    if not answer:
        raise Usage("no password given", "type one, or pipe it in with `--password-stdin`")
    return answer
