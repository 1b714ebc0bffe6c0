"""The outcome of one command, and invariants of its output.

The checks raise `Broken` with the number of the invariant, so that negative controls can tell a
failed check from a broken test.
"""

from __future__ import annotations

import base64
import io
import json
import re
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resolver.cli.app import run as run_command_line
from tests.kit.ci_systems import azure_commands, github_commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kit.registry import FakeRegistry

#: Secrets of the tests; wherever one appears, it has leaked.
USER, PASSWORD, TOKEN = "u5er", "S3cr3tPa55", "T0KEN-"
IDENTITY, SIGNATURE = "1DT0KEN", "S1GNATURE"

#: Limits of one run: seconds, requests.
WALL, REQUESTS = 30.0, 100

#: What a line on stderr begins with.
LABELS = ("error: ", "warning: ", "note: ", "hint: ")
_UNCLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CREDENTIAL_HEADERS = ("authorization", "cookie", "proxy-authorization")


class Broken(AssertionError):
    """An invariant does not hold."""


def must(holds: object, *what: object) -> None:
    """Raise `Broken` with the invariant and its evidence unless it holds."""
    if not holds:
        raise Broken(": ".join(map(str, what)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command did; `rss` is in KiB, 0 if not measured."""

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float = 0.0
    rss: int = 0

    @property
    def out(self) -> str:
        return self.stdout.decode("utf-8")

    @property
    def err(self) -> str:
        return self.stderr.decode("utf-8")

    @property
    def answer(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def failure(self) -> dict[str, Any]:
        """The error in the JSON answer."""
        found: dict[str, Any] = self.answer["error"]
        return found

    @property
    def text(self) -> str:
        """Message and hints of the error, as one text."""
        return "\n".join([self.failure["message"], *self.failure["hints"]])

    def __str__(self) -> str:
        return f"status: {self.status}\n--- stdout\n{self.out}--- stderr\n{self.err}"


def run_here(line: Sequence[str]) -> Outcome:
    """Run a command line in this process."""
    out, err = io.BytesIO(), io.BytesIO()
    began = time.monotonic()
    with (
        io.TextIOWrapper(out, "utf-8", write_through=True) as stdout,
        io.TextIOWrapper(err, "utf-8", write_through=True) as stderr,
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        status = run_command_line(list(line))
        return Outcome(status, out.getvalue(), err.getvalue(), time.monotonic() - began)


def clean_text(outcome: Outcome) -> None:
    """I7: no control characters, and no line that a CI system takes for a command."""
    for text in (outcome.out, outcome.err):
        must(not _UNCLEAN.search(text), "I7", outcome)
        commands = [line for line in text.splitlines() if line.startswith(("::", "##"))]
        must(not commands, "I7", outcome)
        must(not [*github_commands(text), *azure_commands(text)], "I7", outcome)


def no_secret(body: bytes, where: object) -> None:
    """I3: no secret is in these bytes, neither plain nor encoded."""
    for form in _FORMS:
        must(form not in body, "I3", f"{form!r} is in {where}")


def no_credentials_received(host: FakeRegistry) -> None:
    """I4: this host was sent no credential, neither in a header nor elsewhere."""
    for seen in host.log:
        must(not [name for name in _CREDENTIAL_HEADERS if name in seen.headers], "I4", seen)
        no_secret(repr((seen.raw_target, seen.raw_headers)).encode() + seen.body, seen)


def _forms() -> tuple[bytes, ...]:
    found = {base64.b64encode(f"{USER}:{PASSWORD}".encode())}
    for text in (PASSWORD, TOKEN, IDENTITY, SIGNATURE):
        found |= {text.encode(), quote(text).encode()}
        for shift in range(3):
            coded = base64.b64encode(b"\0" * shift + text.encode()).rstrip(b"=")
            # The first and last characters also hold bits of the neighbouring text.
            found.add(coded[shift + 1 if shift else 0 : -1])
    return tuple(sorted(found))


_FORMS = _forms()
