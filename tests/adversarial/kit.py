"""Doing what an attacker hopes for, and looking at everything that comes of it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resolver.cli.app import run as run_command_line
from tests.adversarial.catalogue import INTERRUPTED, STATUS, TERMINATED, VERBS
from tests.ci_systems import azure_commands, github_commands
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.fakes.registry import FakeRegistry

#: Secrets of these tests; wherever one turns up, it has leaked.
PASSWORD, TOKEN, IDENTITY, SIGNATURE = "S3cr3tPa55", "T0KEN-", "1DT0KEN", "S1GNATURE"
USER = "u5er"
SENTINELS = (PASSWORD, TOKEN, IDENTITY, SIGNATURE)

#: One run: seconds, requests. Source: reliability.md section 6.
WALL, REQUESTS = 30.0, 100

_LABELS = ("error: ", "warning: ", "note: ", "hint: ")
_UNCLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_TRAVELLING = ("authorization", "cookie", "proxy-authorization")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command did."""

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float = 0.0

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
        found: dict[str, Any] = self.answer["error"]
        return found

    @property
    def told(self) -> str:
        """Message and hints of the failure, as one text."""
        return "\n".join([self.failure["message"], *self.failure["hints"]])

    def __str__(self) -> str:
        return f"status: {self.status}\n--- stdout\n{self.out}--- stderr\n{self.err}"


@dataclass
class Actor:
    """Runs commands, and checks after each what must hold whatever happened.

    Attributes:
        folder: for the store, and for whatever a test needs.
        watched: the hosts of this test; their requests are counted.
        given: files that hold secrets because the test put them there.
    """

    folder: Path
    watched: list[FakeRegistry] = field(default_factory=list)
    given: set[Path] = field(default_factory=set)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def __call__(
        self, verb: str, *words: str, batch: bool = False, as_json: bool = True
    ) -> Outcome:
        """Run a verb of the catalogue in this process; the answer is JSON unless told otherwise.

        Args:
            batch: several questions are asked, so several may fail, each on a line.
        """
        line = [*VERBS[verb], *words, *(["--json"] if as_json else [])]
        before = self._count()
        outcome = run_here(line, self.store)
        self.check(outcome, batch=batch, as_json=as_json)
        assert self._count() - before <= REQUESTS, outcome
        return outcome

    def process(self, *words: str, batch: bool = False, **how: Any) -> Outcome:
        """Run the command line in a process of its own."""
        outcome = run_there(words, self.store, **how)
        self.check(outcome, batch=batch, as_json="--json" in words)
        return outcome

    def check(self, outcome: Outcome, *, batch: bool = False, as_json: bool = False) -> None:
        clean_result(outcome, batch=batch, as_json=as_json)
        clean_text(outcome)
        no_secret(outcome.stdout + outcome.stderr, "the output")
        self.no_secret_on_disk()
        assert outcome.seconds < WALL, outcome

    def no_secret_on_disk(self) -> None:
        home = self.folder / "home"
        for path in [*self.store.rglob("*"), *home.rglob("*")]:
            if path.is_file() and path not in self.given:
                no_secret(path.read_bytes(), str(path))

    def _count(self) -> int:
        return sum(len(host.log) for host in self.watched)


def run_here(line: list[str], store: Path) -> Outcome:
    """Run a command line in this process."""
    out, err = io.BytesIO(), io.BytesIO()
    began = time.monotonic()
    with (
        io.TextIOWrapper(out, "utf-8", write_through=True) as stdout,
        io.TextIOWrapper(err, "utf-8", write_through=True) as stderr,
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        status = run_command_line([*line, "--store", str(store)])
        return Outcome(status, out.getvalue(), err.getvalue(), time.monotonic() - began)


def run_there(
    words: tuple[str, ...],
    store: Path,
    *,
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    stdin: bytes = b"",
) -> Outcome:
    """Run a command line in a process; `prefix` is what starts it (`prlimit …`)."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "RESOLVER_STORE": str(store)}
    variables.update(environment or {})
    began = time.monotonic()
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "resolver", *words],
        check=False,
        input=stdin,
        capture_output=True,
        env=variables,
        timeout=WALL * 2,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def clean_result(outcome: Outcome, *, batch: bool, as_json: bool) -> None:
    """I6: a documented status, errors of one line each, one document or nothing on stdout."""
    assert outcome.status in {0, *STATUS.values(), INTERRUPTED, TERMINATED}, outcome
    assert "Traceback" not in outcome.err + outcome.out, outcome
    lines = outcome.err.splitlines()
    assert all(line.startswith(_LABELS) for line in lines), outcome
    errors = sum(line.startswith("error: ") for line in lines)
    failed = outcome.status in STATUS.values()
    assert errors >= 1 if batch and failed else errors == int(failed), outcome
    if as_json:
        json.loads(outcome.out)
    elif failed and not batch:
        assert outcome.out == "", outcome


def clean_text(outcome: Outcome) -> None:
    """I7: no control characters, and no line that a CI system takes for a command."""
    for text in (outcome.out, outcome.err):
        assert not _UNCLEAN.search(text), outcome
        assert not any(line.startswith(("::", "##")) for line in text.splitlines()), outcome
        assert not [*github_commands(text), *azure_commands(text)], outcome


def no_secret(body: bytes, where: str) -> None:
    """I3: no secret, neither as it is nor encoded."""
    for form in FORMS:
        assert form not in body, f"{form!r} is in {where}"


def refused(outcome: Outcome, word: str, *parts: str) -> None:
    """The command failed with this class, and says these things."""
    assert outcome.failure["class"] == word, outcome
    assert outcome.status == outcome.failure["status"] == STATUS[word], outcome
    for part in parts:
        assert part in outcome.told, outcome
    assert f"error: {outcome.failure['message']}" in outcome.err.splitlines(), outcome


def nothing_travelled(host: FakeRegistry) -> None:
    """I4: this host was sent no credential, in whatever way."""
    for seen in host.log:
        assert not [name for name in _TRAVELLING if name in seen.headers], seen
        no_secret(repr((seen.raw_target, seen.raw_headers)).encode() + seen.body, str(seen))


def _forms() -> tuple[bytes, ...]:
    found = {base64.b64encode(f"{USER}:{PASSWORD}".encode())}
    for text in SENTINELS:
        found |= {text.encode(), quote(text).encode()}
        for shift in range(3):
            coded = base64.b64encode(b"\0" * shift + text.encode()).rstrip(b"=")
            # The first and last characters also hold bits of what stands around.
            found.add(coded[shift + 1 if shift else 0 : -1])
    return tuple(sorted(found))


FORMS = _forms()
