"""Run command lines that must send no request, and report what they attempted.

`python -m tests.adversarial.silence < references.json` resolves each reference and writes a list
of `[status, stderr, attempts]`. An attempt is an audit event: a socket, a look-up, another program,
or loading the HTTP client, without which nothing here can connect.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from resolver.cli.app import run

_WATCHED = ("socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.fork")
_CLIENTS = {"httpx", "pyreqwest"}

attempts: list[str] = []


def notice(event: str, arguments: tuple[object, ...]) -> None:
    """Record actions that reach outside this process."""
    if event.startswith(_WATCHED):
        attempts.append(f"{event} {arguments!r}")
    if event == "import" and arguments[0] in _CLIENTS:
        attempts.append(f"import {arguments[0]}")


def main() -> None:
    """Resolve every reference of standard input."""
    references: list[str] = json.load(sys.stdin)
    sys.addaudithook(notice)
    results = []
    for reference in references:
        attempts.clear()
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as error:
            status = run(["resolve", "--json", "--", reference])
        results.append([status, error.getvalue(), list(attempts)])
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
