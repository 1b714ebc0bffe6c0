"""Run commands against hostile input and check the invariants after each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.adversarial.catalogue import INTERRUPTED, STATUS, TERMINATED, VERBS
from tests.kit.outcomes import (
    LABELS,
    REQUESTS,
    WALL,
    Outcome,
    clean_text,
    no_secret,
    run_here,
)
from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kit.registry import FakeRegistry


@dataclass
class Actor:
    """Runs commands and checks the invariants after each.

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
        """Run a verb of the catalogue in this process; the answer is JSON by default.

        Args:
            batch: several references are given, and each failure is a line.
        """
        line = [*VERBS[verb], *words, *(["--json"] if as_json else [])]
        before = self._count()
        outcome = run_here([*line, "--store", str(self.store)])
        self.check(outcome, batch=batch, as_json=as_json)
        assert self._count() - before <= REQUESTS, outcome
        return outcome

    def process(self, *words: str, batch: bool = False, **how: Any) -> Outcome:
        """Run the command line in a separate process."""
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
    """I6: a documented status, one line per error, one document or nothing on stdout."""
    assert outcome.status in {0, *STATUS.values(), INTERRUPTED, TERMINATED}, outcome
    assert "Traceback" not in outcome.err + outcome.out, outcome
    lines = outcome.err.splitlines()
    assert all(line.startswith(LABELS) for line in lines), outcome
    errors = sum(line.startswith("error: ") for line in lines)
    failed = outcome.status in STATUS.values()
    assert errors >= 1 if batch and failed else errors == int(failed), outcome
    if as_json:
        json.loads(outcome.out)
    elif failed and not batch:
        assert outcome.out == "", outcome


def refused(outcome: Outcome, word: str, *parts: str) -> None:
    """Check that the command failed with this class and its text contains these parts."""
    assert outcome.failure["class"] == word, outcome
    assert outcome.status == outcome.failure["status"] == STATUS[word], outcome
    for part in parts:
        assert part in outcome.text, outcome
    assert f"error: {outcome.failure['message']}" in outcome.err.splitlines(), outcome
