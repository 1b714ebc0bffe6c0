"""Measure whole processes: the rows, the runs, and the table."""

from __future__ import annotations

import compileall
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Returns the words of a command for a new, empty folder, which it may prepare unmeasured.
Command = Callable[[Path], "list[str]"]
#: Seconds after which a run counts as hung.
_PATIENCE = 600
#: Runs from which quartiles say something.
_QUARTILES = 3
#: The unit of `ru_maxrss`. Source: getrusage(2) of Linux, and of macOS.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
#: Returns the requests since the last call: name to number.
Count = Callable[[], "dict[str, int]"]


@dataclass
class Row:
    """One row of the table.

    Attributes:
        target: milliseconds (docs/store-and-reliability.md, "Performance targets"), or None.
        ours: whether this is `resolver`; the others are there to compare with.
        count: returns the requests; None where there is no server.
        at_most: the target as a ratio to the row that others are compared with.
        moved: bytes that a run brings here; 0 = speed is not the point.
        variables: of the environment, besides the few that every run gets.
        seconds: one per run.
        requests: the requests of one run, as text.
        memory: the most that a run held, in bytes.
        cpu: seconds of processor time, one per run; other work on the machine changes it little.
        kept: whether the folders of its runs are removed at the end. On ext4 without a journal,
            each new file costs time for each file deleted within a minute, so the runs would slow
            each other down. Source: Linux fs/ext4/ialloc.c, `recently_deleted`.
        read: bytes that the last run read from files, pipes and sockets; -1 = not known here.

    """

    name: str
    command: Command
    target: float | None = None
    ours: bool = True
    count: Count | None = None
    at_most: float | None = None
    moved: int = 0
    kept: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    requests: str = ""
    memory: int = 0
    cpu: list[float] = field(default_factory=list)
    read: int = -1

    @property
    def median(self) -> float:
        """The median in milliseconds."""
        return statistics.median(self.seconds) * 1000

    @property
    def spread(self) -> str:
        """Half of the distance between the quartiles, in percent of the median."""
        if len(self.seconds) < _QUARTILES:
            return ""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return f"{(high - low) * 50 / statistics.median(self.seconds):.0f} %"


#: Folders that are removed at the end.
_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@cache
def resolver() -> list[str]:
    """Return the words that start `resolver`: the installed program, if there is one."""
    # Installers compile packages; an edited checkout is not compiled.
    package = Path(__file__).parents[2] / "resolver"
    compileall.compile_dir(package, quiet=1)
    installed = Path(sys.executable).parent / "resolver"
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "resolver"]


def tool(name: str) -> str | None:
    """Return the path of another tool, or None if there is none.

    The folder that the variable `BENCH_PEERS` names goes before PATH.
    """
    folders = [os.environ.get("BENCH_PEERS", ""), os.environ.get("PATH", "")]
    return shutil.which(name, path=os.pathsep.join(filter(None, folders)))


def versions(names: Sequence[str]) -> str:
    """Return the other tools that were found with their versions, and those that were not."""
    words = []
    for name in names:
        path = tool(name)
        words.append(f"{name} {_version(path, name)}" if path else f"{name} not found")
    return ", ".join(words)


def _version(path: str, name: str) -> str:
    """Return the version that a tool prints."""
    option = "--version" if name == "skopeo" else "version"
    done = subprocess.run([path, option], check=False, capture_output=True, text=True)
    match = re.search(r"v?[0-9]+\.[0-9]+[^\s,]*", done.stdout)
    return match[0] if match else "of unknown version"


def run(row: Row) -> None:
    """Run once, in an environment without personal settings, and record what it took.

    A command that fails ends the measurement: a fast failure would look like a good result.
    """
    place = tempfile.TemporaryDirectory(prefix="resolver-bench-")
    if row.kept:
        _KEPT.append(place)
    with nullcontext(place.name) if row.kept else place as folder:
        command = row.command(Path(folder))
        variables = {"HOME": folder, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        if row.count:
            row.count()
        status, errors = _watch(row, command, variables | row.variables)
    if status != 0:
        raise SystemExit(f"error: `{' '.join(command)}` ended with {status}: {errors}")
    if row.count:
        row.requests = _requests(row.count())


def _watch(row: Row, command: list[str], variables: dict[str, str]) -> tuple[int, str]:
    """Run a command to its end; return its status and its stderr."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=variables
        )
        clock = threading.Timer(_PATIENCE, process.kill)
        clock.start()
        # The process has ended, but can still be inspected.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        row.seconds.append(time.perf_counter() - start)
        clock.cancel()
        row.read = _read_by(process.pid)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        row.cpu.append(used.ru_utime + used.ru_stime)
        row.memory = max(row.memory, used.ru_maxrss * _MAXRSS_UNIT)
        errors.seek(0)
        return process.returncode, errors.read().decode(errors="replace").strip()


def _read_by(process: int) -> int:
    """Return the bytes that a process has read; Linux only."""
    try:
        counters = Path(f"/proc/{process}/io").read_text("ascii")
    except OSError:
        return -1
    match = re.search(r"^rchar: ([0-9]+)", counters, re.MULTILINE)
    return int(match[1]) if match else -1


def _requests(counts: dict[str, int]) -> str:
    words = [str(counts.get("requests", 0))]
    if counts.get("heads"):
        words.append(f"{counts['heads']} of them HEAD")
    if counts.get("tokens"):
        words.append(f"{counts['tokens']} token{'s' if counts['tokens'] > 1 else ''}")
    if counts.get("refused"):
        words.append(f"{counts['refused']} answered 429")
    if "bytes" in counts:
        words.append(f"{counts['bytes']:,} bytes")
    return ", ".join(words)


def measure(rows: Sequence[Row], runs: int) -> None:
    """Run all rows in turn, `runs` times, so that a slow minute affects all of them."""
    for row in rows:
        run(row)
        row.cpu.clear()
        row.seconds.clear()  # The first run fills the caches of the disk and of Python.
    for _ in range(runs):
        for row in rows:
            run(row)


def table(rows: Sequence[Row], base: Row) -> str:
    """Format the rows; ratios are of the medians to `base`. Empty columns are left out.

    Memory is the peak of all runs, and never less than this process's own, from which they start.
    """
    columns = [
        ("what", [row.name if row.ours else f"  {row.name}" for row in rows]),
        ("median", [f"{row.median:.1f} ms" for row in rows]),
        ("best", [f"{min(row.seconds) * 1000:.1f} ms" for row in rows]),
        ("spread", [row.spread for row in rows]),
        ("ratio", [f"{row.median / base.median:.2f}" for row in rows]),
        ("target", [_target(row) for row in rows]),
        (
            "speed",
            [f"{row.moved / row.median / 1000:.0f} MB/s" if row.moved else "" for row in rows],
        ),
        ("processor", [f"{statistics.median(row.cpu):.1f} s" if row.moved else "" for row in rows]),
        ("memory", [f"{row.memory / 1e6:.0f} MB" if row.moved else "" for row in rows]),
        ("requests", [row.requests for row in rows]),
    ]
    kept = [(head, cells) for head, cells in columns if any(cells)]
    widths = [max(map(len, (head, *cells))) for head, cells in kept]
    title, *body = (
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*((head, *cells) for head, cells in kept), strict=True)
    )
    return "\n".join([title, "-" * len(title), *body])


def _target(row: Row) -> str:
    words = [f"{row.target:.0f} ms"] if row.target else []
    words += [f"{row.at_most:g}x"] if row.at_most else []
    return ", ".join(words)


def machine(runs: int) -> str:
    """Describe the machine that the numbers come from."""
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores, "
        f"load {load}, {_processor()}, "
        f"{platform.python_implementation()} {platform.python_version()}, medians of {runs} runs"
    )


def _processor() -> str:
    """Return the model of the processor as Linux names it."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or "unknown processor"
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else "unknown processor"
