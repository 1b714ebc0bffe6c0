"""Measure the processor time and the peak memory of a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.kit.outcomes import WALL, Outcome
from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

#: Runs a command and reports its resource usage, which only its parent can read.
_WATCH = """
import json, os, resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "resolver", *sys.argv[1:]], capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
texts = [done.stdout.decode("latin-1"), done.stderr.decode("latin-1")]
seconds = used.ru_utime + used.ru_stime
print(json.dumps([done.returncode, *texts, seconds, used.ru_maxrss]))
"""


def measured(words: tuple[str, ...], store: Path) -> tuple[Outcome, int]:
    """Run `resolver` with these arguments and return its peak resident size in KiB.

    The seconds of the outcome are of processor time, which does not depend on what else is running.
    """
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "RESOLVER_STORE": str(store)}
    done = subprocess.run(
        [sys.executable, "-c", _WATCH, *words],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=variables,
        timeout=WALL * 8,
    )
    status, out, err, seconds, kilobytes = json.loads(done.stdout)
    return Outcome(status, out.encode("latin-1"), err.encode("latin-1"), seconds), kilobytes
