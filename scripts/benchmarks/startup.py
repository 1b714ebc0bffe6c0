"""`scripts/bench startup`: the time that every run needs to start."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
from collections import Counter
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


#: What a command line costs before it does anything.
_EMPTY = """
import typer
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
@app.command()
def empty() -> None: pass
app()
"""
#: Packages that are listed one by one; the others take less.
_LISTED = 12


def imports(words: list[str]) -> str:
    """Run a command; return the modules that it imports and their time, by package."""
    code = "import sys; sys.argv[0] = 'resolver'; from resolver.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *words],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )
    modules: Counter[str] = Counter()
    micros: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        alone, _, name = line.removeprefix("import time:").split("|")
        if alone.strip().isdigit():
            package = name.strip().partition(".")[0]
            modules[package] += 1
            micros[package] += int(alone)
    rows = [(name, modules[name], micros[name]) for name, _ in micros.most_common(_LISTED)]
    rest = [name for name in micros if name not in {row[0] for row in rows}]
    rows.append(("others", sum(modules[each] for each in rest), sum(micros[each] for each in rest)))
    rows.append(("all", modules.total(), micros.total()))
    lines = [f"{name:<12} {count:>7} {time / 1000:>7.1f} ms" for name, count, time in rows]
    return "\n".join([f"{'package':<12} {'modules':>7} {'time':>10}", "-" * 31, *lines])


def startup(runs: int) -> None:
    """Run the benchmark and print its table."""
    with tempfile.TemporaryDirectory(prefix="resolver-bench-") as folder:
        store = str(Path(folder) / "store")
        reference = warm_reference(Path(store))
        answer = ["resolve", reference, "-p", "linux/arm64", "--format", "digest"]
        held = [*answer, "--store", store, "--offline"]
        floor = Row("python -c pass", lambda _: [sys.executable, "-c", "pass"], ours=False)
        empty = Row(
            "an empty Typer application", lambda _: [sys.executable, "-c", _EMPTY], ours=False
        )
        rows = [
            floor,
            Row("resolver --version", lambda _: [*resolver(), "--version"], target=25),
            Row("resolver --help", lambda _: [*resolver(), "--help"]),
            Row("resolver resolve --help", lambda _: [*resolver(), "resolve", "--help"]),
            empty,
            Row("resolve, from the store", lambda _: [*resolver(), *held], target=70, at_most=1.3),
        ]
        skopeo = tool("skopeo")
        if skopeo:
            rows.append(Row("skopeo --version", lambda _: [skopeo, "--version"], ours=False))
        measure(rows, runs)
        with registry() as server:
            name = f"{server.host}/{REPOSITORY}:{tags()[0]}"
            asked = [*answer[:1], name, *answer[2:], "--plain-http"]
            cold = imports([*asked, "--store", str(Path(folder) / "cold")])
        warm = imports(held)
    print(f"startup: {machine(runs)}\n\n{table(rows, empty)}")
    print(f"\nimports of a resolve that sends one request\n\n{cold}")
    print(f"\nimports of a resolve from the store\n\n{warm}")
