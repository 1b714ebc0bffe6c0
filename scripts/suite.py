#!/usr/bin/env python3
"""Run the test suite of the current folder, and decide whether it passed.

    scripts/suite.py          all tests on all cores, with coverage
    scripts/suite.py --ids    compare the test ids that two processes collect, and run nothing

Status 0 means that every test passed and coverage is at the gate. Tests of processes, signals and
terminals can fail on a busy machine, so up to 20 failed tests are run once more, one at a time.
A test that takes more than five minutes fails. Nothing else is retried: an error while
collecting, workers that collect different tests, a crashed worker and coverage below the gate
fail the run.
Run it with the Python of .venv.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import subprocess
import sys
import tempfile
import time

import pytest

#: More failures than this are not retried.
MOST_RETRIED = 20
#: A test may take five minutes. The second limit is for a test that hangs outside Python, where
#: no signal handler runs: its process ends with the stack of each thread.
LIMITS = [
    "--timeout=300", "-o", "faulthandler_timeout=400", "-o", "faulthandler_exit_on_timeout=true",
]  # fmt: skip
if os.environ.get("RESOLVER_SOAK") == "1":
    LIMITS.clear()
ALL_OF_THEM = [*LIMITS, "-n", "auto", "--cov", "--cov-report=", "--cov-fail-under=0"]
#: The phase of a report from xdist about a worker that died.
CRASHED = "???"


@dataclasses.dataclass(eq=False)
class Outcome:
    """The reports of one pytest run; a pytest plugin."""

    status: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    passed: set[str] = dataclasses.field(default_factory=set)
    crashed: list[str] = dataclasses.field(default_factory=list)
    not_collected: list[str] = dataclasses.field(default_factory=list)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record collection errors; xdist also reports workers that disagree this way."""
        if report.failed:
            self.not_collected.append(report.nodeid or "the tests of one worker")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of each phase of a test."""
        if report.when == CRASHED:
            self.crashed.append(report.nodeid)
        elif report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)
        elif report.passed and report.when == "call":
            self.passed.add(report.nodeid)


def run(arguments: list[str]) -> Outcome:
    """Run pytest in this process."""
    outcome = Outcome()
    outcome.status = int(pytest.main(arguments, plugins=[outcome]))
    return outcome


def refusal(outcome: Outcome) -> str:
    """Return why this outcome cannot be repaired by a retry; empty if it can."""
    if outcome.not_collected:
        return f"not collected: {', '.join(sorted(set(outcome.not_collected)))}"
    if outcome.crashed:
        return f"a worker crashed in: {', '.join(outcome.crashed)}"
    if outcome.status not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        return f"pytest ended with status {outcome.status}"
    if outcome.status == pytest.ExitCode.TESTS_FAILED and not outcome.failed:
        return "pytest failed without naming a test"
    if len(outcome.failed) > MOST_RETRIED:
        return f"{len(outcome.failed)} tests failed; at most {MOST_RETRIED} are retried"
    return ""


def coverage_is_enough() -> bool:
    """Check the coverage of the first run against `fail_under`; missing data fails."""
    return subprocess.run([sys.executable, "-m", "coverage", "report"], check=False).returncode == 0


def again(failed: list[str]) -> bool:
    """Run the named tests again, one at a time; all of them must run and pass."""
    say(f"== {len(failed)} failed tests, once more, one at a time")
    retried = run([*LIMITS, "-p", "no:cacheprovider", "-p", "no:xdist", *failed])
    return retried.status == pytest.ExitCode.OK and retried.passed >= set(failed)


def collected(seed: str, folder: str) -> subprocess.Popen[str]:
    """Start collecting in a process with its own hash seed and temporary folder."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "TMPDIR": folder}
    arguments = ["--collect-only", "-q", "-p", "no:cacheprovider"]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ids_are_the_same() -> bool:
    """Collect twice, more than a second apart, and compare the test ids."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        processes = [collected("1", one)]
        # Ids can contain a time, and gzip and tar write it in seconds.
        time.sleep(1.1)
        processes.append(collected("2", two))
        answers = [process.communicate()[0] for process in processes]
    for process, answer in zip(processes, answers, strict=True):
        if process.returncode != 0:
            say(answer)
            return False
    # The last line contains the duration.
    first, second = ([line for line in text.splitlines() if "::" in line] for text in answers)
    if difference := list(difflib.unified_diff(first, second, "once", "again", n=0, lineterm="")):
        say("\n".join(difference[:40]))
        say("error: the ids of these tests differ between processes")
        say("hint: give the parameters names with `ids=` or `pytest.param(..., id=...)`")
    return not difference


def say(text: str) -> None:
    """Write a line to stderr."""
    print(text, file=sys.stderr, flush=True)


def whole_suite() -> int:
    """Run all tests, and return the exit status."""
    outcome = run(ALL_OF_THEM)
    if reason := refusal(outcome):
        say(f"error: {reason}")
        return 1
    if not coverage_is_enough():
        say("error: coverage is missing or below the gate")
        return 1
    if outcome.failed and not again(outcome.failed):
        say("error: tests failed twice")
        return 1
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", action="store_true", help="only compare the test ids")
    if parser.parse_args().ids:
        return 0 if ids_are_the_same() else 1
    return whole_suite()


if __name__ == "__main__":
    sys.exit(main())
