"""`serve --mirror` under load: one upstream stalls, one sends wrong bytes, the third works.

The suite runs a few seconds of it. `RESOLVER_SOAK=1` runs two minutes, and compares latencies.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.images import build_image
from tests.kit.processes import ROOT, command
from tests.kit.pulls import noise
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.images import Image

IS_LONG = os.environ.get("RESOLVER_SOAK") == "1"
#: Seconds of the healthy upstream alone, and of all of them; seconds between two collections.
ALONE, TOGETHER, BETWEEN = (20.0, 120.0, 5.0) if IS_LONG else (2.0, 4.0, 1.0)
CLIENTS = 100
#: Clients of the healthy upstream; the others use the stalled one or the one with wrong bytes.
HEALTHY = 34
#: Seconds between two image requests of a client.
PAUSE = 1.0
#: Largest resident memory of the server, in KiB, and how often its latency alone is allowed.
MAX_RSS, MAX_FACTOR = 256 * 1024, 3.0
#: Seconds after which a client of a bad upstream goes away.
IMPATIENCE = 4.0
SIZE, LAYERS = 16_384, 60


@dataclass
class Load:
    """Clients of one mirror, and the results of their requests."""

    address: str
    over: threading.Event = field(default_factory=threading.Event)
    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"alone": [], "together": [], "stalled": [], "lying": []}
    )
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, kind: str, target: str, patience: float) -> bytes | None:
        """Send one request and record status and time; None without a complete 200."""
        host, _, port = self.address.rpartition(":")
        begin, status, body = time.monotonic(), 0, b""
        with closing(http.client.HTTPConnection(host, int(port), timeout=patience)) as link:
            try:
                link.request("GET", target)
                answer = link.getresponse()
                body = answer.read()
                status = answer.status
            except (http.client.HTTPException, OSError):
                status = 0
        with self.lock:
            self.statuses[kind, status] += 1
            self.seconds[kind].append(time.monotonic() - begin)
        return body if status == 200 else None

    def client(self, kind: str, host: str, pieces: Callable[[], tuple[str, str]]) -> None:
        """Request images, one blob at a time, until the load ends."""
        patience = 30.0 if kind in ("alone", "together") else IMPATIENCE
        while not self.over.is_set():
            tag, digest = pieces()
            for path in (f"manifests/{tag}", f"blobs/{digest}"):
                body = self.ask(kind, f"/v2/team/app/{path}?ns={host}", patience)
                if body is not None and path.startswith("blobs/") and sha256(body) != digest:
                    self.wrong.append(f"{kind}: {path}")
            self.over.wait(PAUSE)

    def run(
        self,
        groups: list[tuple[str, str, int, Callable[[], tuple[str, str]]]],
        seconds: float,
        meanwhile: Callable[[], None],
    ) -> None:
        """Run groups of clients for so long."""
        self.over.clear()
        threads = [
            threading.Thread(target=self.client, args=(kind, host, pieces))
            for kind, host, count, pieces in groups
            for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            meanwhile()
            self.over.wait(min(BETWEEN, max(0.0, end - time.monotonic())))
        self.over.set()
        for thread in threads:
            thread.join()


def sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def images(count: int, seed: int) -> list[Image]:
    """Return images with many small layers, determined by the seed."""
    return [
        build_image(
            "linux/amd64",
            [noise(SIZE, seed + LAYERS * number + layer) for layer in range(LAYERS)],
        )
        for number in range(count)
    ]


def in_turn(tags: str, made: list[Image]) -> Callable[[], tuple[str, str]]:
    """Return the next blob and the tag of its image; thread-safe."""
    pieces = itertools.cycle(
        (f"{tags}{number}", digest) for number, image in enumerate(made) for digest in image.blobs
    )
    lock = threading.Lock()

    def following() -> tuple[str, str]:
        with lock:
            return next(pieces)

    return following


def rss(process: subprocess.Popen[str]) -> int:
    """Read the resident memory of a process, in KiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_bad_upstreams_do_not_affect_clients_of_a_good_one(tmp_path: Path) -> None:
    never = threading.Event()
    quick, many = images(12 if IS_LONG else 2, 0), images(70 if IS_LONG else 3, 100_000)
    bad = images(1, 500_000)
    # Some content is at all three; a bad registry must not affect the others.
    shared = many[0]
    with ExitStack() as stack:
        stack.callback(never.set)
        good, stalled, lying = (stack.enter_context(FakeRegistry()) for _ in range(3))
        for tags, made in (("a", quick), ("t", many)):
            for number, image in enumerate(made):
                good.serve("team/app", f"{tags}{number}", image)
        for registry in (stalled, lying):
            for number, image in enumerate((*bad, shared)):
                registry.serve("team/app", f"t{number}", image)
        for body in (*bad[0].blobs.items(), *shared.blobs.items()):
            path = f"/v2/team/app/blobs/{body[0]}"
            stalled.on("GET", path, Reply(200, body=body[1], hold=never, hold_after=500))
            lying.on("GET", path, Reply(200, body=bytes(len(body[1]))))
        environment = {"RESOLVER_STORE": str(tmp_path / "store"), "HOME": str(tmp_path)}
        words = ["serve", "--mirror", "--listen", "127.0.0.1:0", "--upstream", good.host]
        process = subprocess.Popen(
            [sys.executable, "-m", "resolver", *words, "--allow", f"{stalled.host},{lying.host}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdout is not None
        load = Load(process.stdout.readline().strip())
        memory: list[int] = []
        collections: list[int] = []

        def collect() -> None:
            memory.append(rss(process))
            done = command("gc", "--grace", "0s", environment=environment)
            collections.append(done.returncode)

        load.run([("alone", good.host, HEALTHY, in_turn("a", quick))], ALONE, collect)
        others = (CLIENTS - HEALTHY) // 2
        load.run(
            [
                ("together", good.host, CLIENTS - 2 * others, in_turn("t", many)),
                ("stalled", stalled.host, others, in_turn("t", [*bad, shared])),
                ("lying", lying.host, others, in_turn("t", [*bad, shared])),
            ],
            TOGETHER,
            collect,
        )
        memory.append(rss(process))
        assert process.poll() is None
        checked = command("verify", "--full", "--format", "json", environment=environment)
        never.set()
    medians = {kind: statistics.median(each) for kind, each in load.seconds.items()}
    sys.stdout.write(
        f"medians {medians}\nstatuses {sorted(load.statuses.items())}\n"
        f"memory in KiB: {memory[0]} at first, {max(memory)} at most, {memory[-1]} in the end\n"
        f"collections: {len(collections)}\n"
    )
    assert load.wrong == []
    for kind in ("alone", "together"):
        assert {status for name, status in load.statuses if name == kind} == {200}
    # The two bad registries were requested, and provided only documents.
    assert stalled.requests("GET", "/blobs/")
    assert lying.requests("GET", "/blobs/")
    assert max(memory) < MAX_RSS
    assert set(collections) == {0}
    assert json.loads(checked.stdout)["sound"]
    if IS_LONG:
        assert medians["together"] < MAX_FACTOR * medians["alone"]
