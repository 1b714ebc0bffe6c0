"""`scripts/bench startup`: the time that every run needs to start."""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, machine, measure, resolver, table, tool
from registry_process import REPOSITORY, tags
from servers import registry


def warm_reference(store: Path) -> str:
    """Put an image into a store, stop the registry, and return a reference by digest."""
    with registry() as server:
        name = f"{server.host}/{REPOSITORY}"
        words = ["resolve", f"{name}:{tags()[0]}", "--plain-http", "--store", str(store)]
        command = [*resolver(), *words, "-p", "linux/arm64", "--format", "json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: cannot fill a store: {done.stderr.strip()}")
        digest = _index_digest(server.direct)
    return f"{name}@{digest}"


def _index_digest(port: int) -> str:
    """Return the digest as the registry states it, without parsing our output."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("HEAD", f"/v2/{REPOSITORY}/manifests/{tags()[0]}")
    digest = connection.getresponse().getheader("Docker-Content-Digest")
    connection.close()
    if digest is None:
        raise SystemExit("error: the registry names no digest")
    return digest


def startup(runs: int) -> None:
    """Run the benchmark and print its table."""
    with tempfile.TemporaryDirectory(prefix="resolver-bench-") as folder:
        store = str(Path(folder) / "store")
        reference = warm_reference(Path(store))
        answer = ["resolve", reference, "-p", "linux/arm64", "--format", "digest"]
        held = [*answer, "--store", store, "--offline"]
        floor = Row("python -c pass", lambda _: [sys.executable, "-c", "pass"], ours=False)
        rows = [
            floor,
            Row("resolver --version", lambda _: [*resolver(), "--version"], target=25),
            Row("resolver --help", lambda _: [*resolver(), "--help"]),
            Row("resolver resolve --help", lambda _: [*resolver(), "resolve", "--help"]),
            Row("resolve, from the store", lambda _: [*resolver(), *held], target=70),
        ]
        skopeo = tool("skopeo")
        if skopeo:
            rows.append(Row("skopeo --version", lambda _: [skopeo, "--version"], ours=False))
        measure(rows, runs)
    print(f"startup: {machine(runs)}\n\n{table(rows, floor)}")
