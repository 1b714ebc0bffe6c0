"""`scripts/bench resolve` and `batch`: tags over a network, beside other tools."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Row, machine, measure, resolver, table, tool
from registry_process import REPOSITORY, tags
from servers import Server, registry

if TYPE_CHECKING:
    from collections.abc import Callable

PLATFORM = "linux/arm64"
#: Milliseconds: 1.5 times what oras takes (129 ms), and 1.5 s for 100 references.
#: Source: docs/store-and-reliability.md, "Performance targets".
COLD = 1.5 * 129
BATCH = 1500


def ours(server: Server, verb: str, *options: str) -> list[str]:
    """Return the words of a `resolver` command about the one tag."""
    reference = f"{server.host}/{REPOSITORY}:{tags()[0]}"
    return [*resolver(), verb, reference, "-p", PLATFORM, "--plain-http", *options]


def peers(server: Server) -> list[Row]:
    """Return the rows of the other tools for the same answer."""
    name = f"{server.host}/{REPOSITORY}:{tags()[0]}"
    architecture = PLATFORM.partition("/")[2]
    known: dict[str, list[tuple[str, list[str]]]] = {
        "skopeo": [
            ("skopeo inspect --raw (index only)", _skopeo(name, architecture, "--raw")),
            ("skopeo inspect", _skopeo(name, architecture, "--no-tags")),
        ],
        "crane": [("crane digest", ["digest", "--insecure", "--platform", PLATFORM, name])],
        "oras": [("oras resolve", ["resolve", "--plain-http", "--platform", PLATFORM, name])],
        "regctl": [
            ("regctl image digest", ["--host", f"reg={server.host},tls=disabled", *_regctl(name)])
        ],
    }
    rows = []
    for program, questions in known.items():
        path = tool(program)
        if path:
            rows += [_peer(path, title, words, server) for title, words in questions]
    return rows


def _skopeo(name: str, architecture: str, option: str) -> list[str]:
    choice = ["--override-os", "linux", "--override-arch", architecture]
    return [*choice, "inspect", "--tls-verify=false", option, f"docker://{name}"]


def _regctl(name: str) -> list[str]:
    return ["image", "digest", "--platform", PLATFORM, name]


def _peer(path: str, title: str, words: list[str], server: Server) -> Row:
    return Row(title, lambda _: [path, *words], ours=False, count=server.count)


def _once(command: list[str]) -> None:
    """Run a preparation; a failure ends the benchmark."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: `{' '.join(command)}`: {done.stderr.strip()}")


def single(server: Server, folder: Path) -> list[Row]:
    """Return the rows about one reference."""
    held = str(folder / "held")
    _once(ours(server, "resolve", "--store", held))

    def fresh(verb: str, *options: str) -> Callable[[Path], list[str]]:
        return lambda new: ours(server, verb, *options, "--store", str(new / "store"))

    return [
        Row(
            "resolve, cold: a platform's digest",
            fresh("resolve", "--format", "digest"),
            target=COLD,
            count=server.count,
        ),
        Row("inspect --raw, cold: its manifest", fresh("inspect", "--raw"), count=server.count),
        Row(
            "resolve, warm: has the tag moved",
            lambda _: ours(server, "resolve", "--format", "digest", "--store", held),
            count=server.count,
        ),
        *peers(server),
    ]


def batch_words(server: Server, folder: Path, number: int) -> list[str]:
    """Return a command for many references in one repository, each a separate index."""
    listing = folder / f"references-{number}"
    lines = [f"{server.host}/{REPOSITORY}:{tag}\n" for tag in tags()[:number]]
    listing.write_text("".join(lines), "utf-8")
    options = ["-f", str(listing), "-p", PLATFORM, "--plain-http", "--format", "digest"]
    return [*resolver(), "resolve", *options]


def batch(server: Server, folder: Path, number: int = 100, target: float | None = BATCH) -> Row:
    """Resolve many references with an empty store."""
    words = batch_words(server, folder, number)
    return Row(
        f"resolve -f, {number:,} references, cold",
        lambda new: [*words, "--store", str(new / "store")],
        target=target,
        count=server.count,
    )


def batch_again(server: Server, folder: Path, number: int) -> Row:
    """Resolve many references that the store knows."""
    words = [*batch_words(server, folder, number), "--store", str(folder / f"held-{number}")]
    _once(words)
    return Row(f"resolve -f, {number:,} references, warm", lambda _: words, count=server.count)


def batches(runs: int, round_trip_ms: float) -> None:
    """Print the table for many references; each run is one process."""
    with (
        tempfile.TemporaryDirectory(prefix="resolver-bench-") as name,
        registry(round_trip_ms=round_trip_ms, bearer=True) as server,
    ):
        folder = Path(name)
        rows = [batch(server, folder)]
        rows += [batch(server, folder, 1_000, target=None)]
        rows += [batch_again(server, folder, number) for number in (100, 1_000)]
        measure(rows, runs)
    print(f"batch: {round_trip_ms:g} ms round trip, plain HTTP, tokens; {machine(runs)}\n")
    print(table(rows, rows[0]))


def resolve(runs: int, round_trip_ms: float) -> None:
    """Run the benchmark and print its table."""
    with (
        tempfile.TemporaryDirectory(prefix="resolver-bench-") as name,
        registry(round_trip_ms=round_trip_ms) as server,
        registry(round_trip_ms=round_trip_ms, bearer=True) as guarded,
    ):
        rows = single(server, Path(name))
        rows.append(batch(guarded, Path(name)))
        measure(rows, runs)
    print(f"resolve: {round_trip_ms:g} ms round trip, plain HTTP; {machine(runs)}\n")
    print(table(rows, rows[0]))
    slowest = [row for row in rows if not row.ours]
    if slowest:
        seconds = slowest[-1].median * 100 / 1000
        print(f"100 times `{slowest[-1].name}` would be {seconds:.1f} s")
        print("skopeo has no plain-HTTP option: it tries TLS first, which costs it a connection")
