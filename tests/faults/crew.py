"""Many real processes of `resolver`, forked from one that has loaded the program.

Started as `python -m tests.faults.crew`, this imports the program once and then forks one process
for each command line that `Crew` sends to it, before any thread has been started.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from resolver.store.files import Patience
from tests.faults.injection import Fault, Injector
from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from types import TracebackType

_LIMITS = {
    "fsize": resource.RLIMIT_FSIZE,
    "nofile": resource.RLIMIT_NOFILE,
    "as": resource.RLIMIT_AS,
    "nproc": resource.RLIMIT_NPROC,
}
#: Imported once, with all of `resolver`, so that a fork is ready to go: another user may not even
#: read this machine's Python.
_PRELOADED = (
    "certifi",
    "importlib.resources",
    "resource",
    "encodings.idna",
    "encodings.ascii",
    "encodings.latin_1",
    "httpx",
    "platformdirs",
)


@dataclass(frozen=True)
class Job:
    """One process.

    Attributes:
        words: the command line.
        fault: what fails in its store.
        limits: resource limits, by the names of `_LIMITS`.
        umask, user: None leaves them as they are.
        patience: seconds to wait for a lock, instead of 60.
        environment: variables on top of the crew's.
        sabotage: a defect put into the program; a name of `sabotage.SABOTAGES`.
    """

    words: tuple[str, ...]
    fault: Fault | None = None
    limits: dict[str, int] = field(default_factory=dict)
    umask: int | None = None
    user: int | None = None
    patience: float | None = None
    environment: dict[str, str] = field(default_factory=dict)
    sabotage: str = ""

    def packed(self) -> dict[str, object]:
        """Return plain values for JSON."""
        fault = self.fault.packed() if self.fault is not None else None
        return {**self.__dict__, "fault": fault}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: `signal` is 0 unless one ended it; `rss` is its peak, in KiB."""

    status: int
    signal: int
    stdout: bytes
    stderr: bytes
    seconds: float
    rss: int


class Crew:
    """Starts processes, together or one by one; all of them are gone when the block ends."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crew"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)

    def start(self, *jobs: Job) -> list[int]:
        """Start processes at the same moment; return their ids."""
        found: list[int] = self._ask({"start": [job.packed() for job in jobs]})
        return found

    def wait(self, *pids: int) -> list[Ended]:
        """Wait until they have ended."""
        return [
            Ended(
                row["status"],
                row["signal"],
                row["stdout"].encode("latin-1"),
                row["stderr"].encode("latin-1"),
                row["seconds"],
                row["rss"],
            )
            for row in self._ask({"wait": list(pids)})
        ]

    def run(self, *jobs: Job) -> list[Ended]:
        """Start processes at the same moment; return their ids."""
        return self.wait(*self.start(*jobs))

    def _ask(self, question: dict[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the crew has ended"
        return json.loads(line)


# In the forked processes


class _ForkServer:
    """Forks, in the crew's own process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began: dict[int, float] = {}
        self._outputs: dict[int, Path] = {}
        self._number = 0

    def start(self, jobs: list[dict[str, Any]]) -> list[int]:
        barrier, release = os.pipe()
        pids = []
        for job in jobs:
            self._number += 1
            output = self._folder / str(self._number)
            pid = os.fork()
            if pid == 0:
                os.close(release)
                _become(job, barrier, output)
            pids.append(pid)
            self._outputs[pid] = output
        os.close(barrier)
        now = time.monotonic()
        # All of them read from this pipe, and its end is what they wait for.
        os.close(release)
        self._began.update(dict.fromkeys(pids, now))
        return pids

    def wait(self, pids: list[int]) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for pid in pids:
            _, status, used = os.wait4(pid, 0)
            output = self._outputs.pop(pid)
            streams = {}
            for name in ("stdout", "stderr"):
                path = output.with_suffix(f".{name}")
                streams[name] = path.read_bytes().decode("latin-1") if path.exists() else ""
                path.unlink(missing_ok=True)
            found[pid] = {
                "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1,
                "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                "seconds": time.monotonic() - self._began.pop(pid),
                "rss": used.ru_maxrss,
                **streams,
            }
        return [found[pid] for pid in pids]

    def end(self) -> None:
        """End every process."""
        for pid in self._outputs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _become(job: dict[str, Any], barrier: int, output: Path) -> None:
    """Turn this fork into `resolver`; never returns."""
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            path = output.with_suffix(f".{name}")
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        os.close(null)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - ends with us
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - ends with us
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - ends with us
        os.environ.update(job["environment"])
        _prepare(job)
        os.read(barrier, 1)
        os.close(barrier)
        if "as" in job["limits"]:
            # What this fork has reserved in advance (pyreqwest: 1 GiB) is above the limit already.
            # Measuring coverage needs memory, too.
            names = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
            os.execve(sys.executable, [sys.executable, "-m", "resolver", *job["words"]], names)
        sys.argv = ["resolver", *job["words"]]
        from resolver.cli.app import main

        main()
    finally:
        # Only a defect of these tests leads here; `main` never returns.
        os._exit(99)


def _prepare(job: dict[str, Any]) -> None:
    if job["patience"] is not None:
        from resolver.store import store

        # Its `__init__` is generated when the first instance is made.
        Patience()
        defaults = Patience.__init__.__defaults__ or ()
        Patience.__init__.__defaults__ = (job["patience"], *defaults[1:])
        # What a resolve notes in passing has 5 s of its own.
        vars(store)["BRIEFLY"] = min(job["patience"], 5.0)
    if job["sabotage"]:
        from tests.faults.sabotage import SABOTAGES

        SABOTAGES[job["sabotage"]]()
    if job["umask"] is not None:
        os.umask(job["umask"])
    if job["fault"] is not None:
        Injector(Fault.unpack(job["fault"])).install()
    for name, value in job["limits"].items():
        resource.setrlimit(_LIMITS[name], (value, value))
    if job["user"] is not None:
        os.setgroups([])
        os.setgid(job["user"])
        os.setuid(job["user"])


def main() -> None:
    """Serve one test process over stdin and stdout."""
    from importlib import import_module
    from importlib.util import find_spec
    from pkgutil import walk_packages

    import resolver

    ours = [found.name for found in walk_packages(resolver.__path__, "resolver.")]
    unusable = () if find_spec("pyreqwest") else ("resolver.sources.http.pyreqwest_engine",)
    for module in (*_PRELOADED, *ours):
        if not module.endswith("__main__") and module not in unusable:
            import_module(module)
    with tempfile.TemporaryDirectory(prefix="crew-") as folder:
        foreman = _ForkServer(Path(folder))
        for line in sys.stdin:
            question = json.loads(line)
            if "start" in question:
                answer: object = foreman.start(question["start"])
            else:
                answer = foreman.wait(question["wait"])
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        foreman.end()


if __name__ == "__main__":
    main()
