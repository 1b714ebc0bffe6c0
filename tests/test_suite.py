"""`scripts/suite.py`, run on small suites."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """
[tool.pytest.ini_options]
testpaths = ["test_small.py"]

[tool.coverage.run]
source = ["small"]

[tool.coverage.report]
fail_under = 90
"""
IMPORTS = "import os, pathlib, pytest, small, threading\n"
PASSES = "def test_passes(): assert small.answer() == 1\n"
FLAKY = """
@pytest.mark.parametrize("number", range({count}))
def test_fails_once(number):
    here = pathlib.Path(f"ran-{{number}}")
    there = here.exists()
    here.touch()
    assert there
"""
COUNTED = "def test_counted(): open('counted', 'a').write('x')\n"
FAILS = "def test_fails(): assert False\n"
HANGS = "@pytest.mark.timeout(1)\ndef test_hangs(): threading.Event().wait(100)\n"
CRASHES = "def test_crashes(): os._exit(3)\n"
NO_IMPORT = "import a_module_that_does_not_exist\n"
DIFFERENT = """
@pytest.mark.parametrize("name", [os.environ.get("PYTEST_XDIST_WORKER", "")])
def test_of_one_worker(name): pass
"""
SET_ORDER = """
@pytest.mark.parametrize("name", {str(number) for number in range(64)})
def test_in_no_order(name): pass
"""
TIME = """
import time
@pytest.mark.parametrize("second", [int(time.time())])
def test_of_a_second(second): pass
"""
FOLDER = """
import tempfile
@pytest.mark.parametrize("folder", [tempfile.gettempdir()])
def test_in_a_folder(folder): pass
"""


def suite(folder: Path, tests: str, *arguments: str) -> tuple[int, str]:
    """Run the script on one file of tests; return its status and everything it wrote."""
    folder.joinpath("pyproject.toml").write_text(SETTINGS)
    folder.joinpath("small.py").write_text("def answer():\n    return 1\n")
    folder.joinpath("test_small.py").write_text(IMPORTS + tests)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COV", "PYTEST", "PYTHONHASHSEED"))
    }
    environment |= {"PYTHONPATH": str(folder), "PYTEST_XDIST_AUTO_NUM_WORKERS": "2"}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "suite.py", *arguments],
        check=False,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def test_suite_that_passes_with_coverage_passes(tmp_path: Path) -> None:
    status, message = suite(tmp_path, PASSES)

    assert status == 0, message
    assert "once more" not in message


def test_suite_reruns_only_failed_tests(tmp_path: Path) -> None:
    status, message = suite(tmp_path, PASSES + COUNTED + FLAKY.format(count=2))

    assert status == 0, message
    assert "2 failed tests, once more" in message
    assert "2 passed" in message.splitlines()[-1]
    assert (tmp_path / "counted").read_text() == "x"


def test_suite_reruns_no_more_than_twenty_failures(tmp_path: Path) -> None:
    status, message = suite(tmp_path, PASSES + FLAKY.format(count=21))

    assert status == 1
    assert "21 tests failed" in message
    assert "once more, one at a time" not in message


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        (PASSES + FAILS, "error: tests failed twice"),
        (PASSES + HANGS, "Failed: Timeout (>1.0s)"),
        (PASSES + NO_IMPORT, "error: not collected: test_small.py"),
        (PASSES + DIFFERENT, "error: not collected:"),
        (PASSES + CRASHES, "error: a worker crashed in: test_small.py::test_crashes"),
        ("def test_of_nothing(): pass\n", "error: coverage is missing or below the gate"),
        (FLAKY.format(count=1), "error: coverage is missing or below the gate"),
        ("", "error: pytest ended with status 5"),
    ],
    ids=[
        "fails twice",
        "hangs",
        "import",
        "workers differ",
        "crash",
        "coverage",
        "flaky",
        "no tests",
    ],
)
def test_suite_fails_for_repeated_failures(tests: str, reason: str, tmp_path: Path) -> None:
    status, message = suite(tmp_path, tests)

    assert status == 1
    assert reason in message


@pytest.mark.parametrize("tests", [SET_ORDER, TIME, FOLDER], ids=["set", "time", "folder"])
def test_suite_shows_ids_that_change_between_processes(tests: str, tmp_path: Path) -> None:
    status, message = suite(tmp_path, tests, "--ids")

    assert status == 1
    assert "+test_small.py::test_" in message


def test_suite_accepts_stable_ids(tmp_path: Path) -> None:
    assert suite(tmp_path, PASSES, "--ids") == (0, "")


def test_check_script_compares_test_ids_and_runs_the_suite() -> None:
    stages = (ROOT / "scripts" / "check").read_text("utf-8").splitlines()
    named = [line for line in stages if line.startswith("stage ")]

    assert named[-2:] == [
        'stage "test ids" "$PYTHON" scripts/suite.py --ids',
        'stage tests "$PYTHON" scripts/suite.py',
    ]
