"""Asking a person for what is missing; only at a terminal, and never for what a script forgot."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.errors import Usage

if TYPE_CHECKING:
    from resolver.cli.options import Common


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
