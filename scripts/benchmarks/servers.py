"""Registries to measure against: server and proxy, each in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Server:
    """A registry and its address.

    Attributes:
        host: `address:port` to put into references; behind the delay, if there is one.
        direct: the port of the registry itself, to ask for its counts.
        guarded: `address:port` of the same over TLS, where there is that; never delayed.

    """

    host: str
    direct: int
    guarded: str = ""

    def count(self) -> dict[str, int]:
        """Return and reset the counters."""
        url = f"http://127.0.0.1:{self.direct}/_count"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            counts: dict[str, int] = json.load(answer)
        return counts


@contextmanager
def process(script: str, *arguments: str) -> Iterator[list[int]]:
    """Run a script of this folder that prints its ports; end it with the block."""
    words = [sys.executable, str(HERE / script), *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        try:
            if running.stdout is None:
                raise SystemExit(f"error: {script} has no output")
            line = running.stdout.readline()
            if not line:
                raise SystemExit(f"error: {script} did not start")
            yield [int(port) for port in line.split()]
        finally:
            running.kill()


@contextmanager
def registry(
    *,
    round_trip_ms: float = 0,
    bearer: bool = False,
    busy: int = 0,
    delay_ms: float = 0,
    authority: Path | None = None,
) -> Iterator[Server]:
    """Start a registry, `round_trip_ms` milliseconds away.

    Args:
        round_trip_ms: between here and the registry.
        bearer: whether it requires a token.
        busy: requests at once above which it answers 429; 0 = any number.
        delay_ms: milliseconds that it takes for an answer.
        authority: the file to write the certificate to that TLS clients have to trust; None
            serves without TLS.

    """
    words = ["--bearer"] if bearer else []
    words += ["--busy", str(busy), "--delay", str(delay_ms)]
    words += ["--tls", str(authority)] if authority else []
    with process("registry_process.py", *words) as (direct, *guarded):
        if not round_trip_ms:
            near = f"127.0.0.1:{guarded[0]}" if guarded else ""
            yield Server(f"127.0.0.1:{direct}", direct, near)
            return
        with process("delay_proxy.py", str(direct), str(round_trip_ms)) as (port,):
            yield Server(f"127.0.0.1:{port}", direct)


@contextmanager
def layers(
    folder: Path, authority: Path, *, round_trip_ms: float, rate: float
) -> Iterator[tuple[Server, Server]]:
    """Serve an OCI layout, directly and through the proxy.

    Args:
        folder: the layout.
        authority: the file to write the certificate to that TLS clients have to trust.
        round_trip_ms: to the far one.
        rate: megabytes per second that a connection to the far one carries; 0 = any.

    """
    with process("layers_process.py", str(folder), str(authority)) as (direct, guarded):
        near = Server(f"127.0.0.1:{direct}", direct, f"127.0.0.1:{guarded}")
        words = ["delay_proxy.py", str(direct), str(round_trip_ms), str(rate)]
        with process(*words) as (port,):
            yield near, Server(f"127.0.0.1:{port}", direct)
