"""Run the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import resolver

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where the package under test is; put first on the path of every process started here.
ROOT = Path(resolver.__file__).resolve().parent.parent


def python(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    measured: bool = True,
    stdin: bytes | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run this Python with the package importable, at most 60 s.

    Arguments:
        environment: variables on top of the test's clean ones.
        stdin: what it reads; None for nothing.
        measured: False keeps coverage out of the process, where it would be seen.
    """
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    if not measured:
        variables = {n: v for n, v in variables.items() if not n.startswith(("COVERAGE", "COV_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        input=stdin or b"",
        capture_output=True,
        env=variables,
        cwd=cwd,
        timeout=60,
    )


def command(
    *arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `resolver` with these arguments."""
    return python("-m", "resolver", *arguments, environment=environment, stdin=stdin)
