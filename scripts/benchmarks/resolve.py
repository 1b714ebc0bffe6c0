"""`scripts/bench resolve` and `batch`: tags over a network, beside other tools."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Row, machine, measure, resolver, table, tool, versions
from registry_process import REPOSITORY, tags
from servers import Server, registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PLATFORM = "linux/arm64"
#: Milliseconds for 100 references. Source: docs/store-and-reliability.md, "Performance targets".
BATCH = 1500
#: Milliseconds for 1,000 references, and ratios to the fastest other tool.
#: Source: docs/speed.md, "Targets".
THOUSAND = 2_500
COLD_RATIO, KNOWN_RATIO, TLS_RATIO = 1.8, 1.8, 5.0


def ours(server: Server, verb: str, *options: str) -> list[str]:
    """Return the words of a `resolver` command about the one tag."""
    reference = f"{server.host}/{REPOSITORY}:{tags()[0]}"
    return [*resolver(), verb, reference, "-p", PLATFORM, "--plain-http", *options]


def peers(server: Server, *, tls: bool = False) -> list[Row]:
    """Return the rows of the other tools for the same answer.

    For TLS, `SSL_CERT_FILE` has to name the authority.
    """
    host = server.guarded if tls else server.host
    name = f"{host}/{REPOSITORY}:{tags()[0]}"
    architecture = PLATFORM.partition("/")[2]
    crane, oras = ([], []) if tls else (["--insecure"], ["--plain-http"])
    regctl = [] if tls else ["--host", f"reg={host},tls=disabled"]
    known: dict[str, list[tuple[str, list[str]]]] = {
        "skopeo": [
            (
                "skopeo inspect --raw (index only)",
                _skopeo(name, architecture, "--raw", tls=tls),
            ),
            ("skopeo inspect", _skopeo(name, architecture, "--no-tags", tls=tls)),
        ],
        "crane": [("crane digest", ["digest", *crane, "--platform", PLATFORM, name])],
        "oras": [("oras resolve", ["resolve", *oras, "--platform", PLATFORM, name])],
        "regctl": [("regctl image digest", [*regctl, *_regctl(name)])],
    }
    rows = []
    for program, questions in known.items():
        path = tool(program)
        if path:
            rows += [_peer(path, title, words, server) for title, words in questions]
    return rows


def _skopeo(name: str, architecture: str, option: str, *, tls: bool) -> list[str]:
    choice = ["--override-os", "linux", "--override-arch", architecture]
    trust = [] if tls else ["--tls-verify=false"]
    return [*choice, "inspect", *trust, option, f"docker://{name}"]


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
            at_most=COLD_RATIO,
            count=server.count,
        ),
        Row("inspect --raw, cold: its manifest", fresh("inspect", "--raw"), count=server.count),
        Row(
            "resolve, warm: has the tag moved",
            lambda _: ours(server, "resolve", "--format", "digest", "--store", held),
            at_most=KNOWN_RATIO,
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
        kept=True,
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
        registry(delay_ms=round_trip_ms, bearer=True, busy=100) as hundred,
        registry(delay_ms=round_trip_ms, bearer=True, busy=20) as busy,
    ):
        folder = Path(name)
        rows = [batch(server, folder)]
        rows += [batch(server, folder, 1_000, target=THOUSAND)]
        rows += [batch_again(server, folder, number) for number in (100, 1_000)]
        for limit, limited in ((100, hundred), (20, busy)):
            (folder / str(limit)).mkdir()
            row = batch(limited, folder / str(limit), 1_000)
            row.name = f"the same from a registry that answers 429 above {limit} at once"
            rows.append(row)
        measure(rows, runs)
    print(f"batch: {round_trip_ms:g} ms round trip, plain HTTP, tokens; {machine(runs)}\n")
    print(table(rows, rows[0]))


def resolve(runs: int, round_trip_ms: float) -> None:
    """Run the benchmark and print its tables; ratios are to the fastest other tool."""
    print(f"resolve: {round_trip_ms:g} ms round trip; {machine(runs)}")
    print(f"other tools: {versions(('skopeo', 'crane', 'oras', 'regctl'))}")
    with tempfile.TemporaryDirectory(prefix="resolver-bench-") as name:
        folder = Path(name)
        with registry(round_trip_ms=round_trip_ms) as server:
            rows = single(server, folder)
            measure(rows, runs)
            print(f"\nplain HTTP, {round_trip_ms:g} ms\n\n{table(rows, fastest(rows))}")
        print("skopeo has no plain-HTTP option: it tries TLS first, which costs it a connection")
        authority = folder / "authority.pem"
        with registry(authority=authority) as server:
            rows = guarded(server, authority)
            measure(rows, runs)
            print(f"\nTLS on this machine\n\n{table(rows, fastest(rows))}")


def guarded(server: Server, authority: Path) -> list[Row]:
    """Return the rows about one reference over TLS."""
    reference = f"{server.guarded}/{REPOSITORY}:{tags()[0]}"
    words = [*resolver(), "resolve", reference, "-p", PLATFORM, "--format", "digest", "--store"]
    title = "resolve, cold: a platform's digest"
    rows = [
        Row(title, lambda new: [*words, str(new / "store")], at_most=TLS_RATIO, count=server.count),
        *peers(server, tls=True),
    ]
    for row in rows:
        row.variables["SSL_CERT_FILE"] = str(authority)
    return rows


def fastest(rows: Sequence[Row]) -> Row:
    """Return the fastest tool that gives the digest of a platform, or our first row."""
    others = [row for row in rows if not row.ours and "index only" not in row.name]
    return min(others, key=lambda row: row.median) if others else rows[0]
