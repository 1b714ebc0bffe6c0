"""`scripts/bench fleet`: batch verbs over a Dask cluster on this machine, and a model beyond it.

Each row is one process that starts its workers, resolves all references once to warm up what is
loaded on first use, and measures a second time with another store. The model computes what this
machine cannot run from what it measured: see `Constants` and `seconds`.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import machine
from registry_process import REPOSITORY
from servers import HERE, registry

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = HERE.parent.parent
PAGE, PICTURE = ROOT / "docs" / "fleet.md", ROOT / "docs" / "fleet-model.svg"
#: What must be reached: time with 4 workers against 1, and of the cluster against threads.
SCALING, OVERHEAD = 0.35, 1.15
#: Of the model: references, workers, requests of each at once, and seconds of a round trip.
MILLION, WORKERS, JOBS, TRIP = 1_000_000, (1, 2, 4, 10, 30, 100, 300, 1_000), 4, 0.05
#: References in a batch, and requests to one registry at once. Source: verbs/fleet.py, settings.py.
BATCH, CAP = 100, 64


@dataclass(frozen=True)
class Run:
    """One measured run: seconds, and what the registry saw."""

    seconds: float
    start: float
    at_once: int
    tokens: int
    failures: int


@dataclass(frozen=True)
class Constants:
    """What the model is computed from, in seconds.

    Attributes:
        batch: of the scheduler for one batch, its answers included.
        lease: of the scheduler to grant and take back one lease.
        answer: of the client to read one answer.
        reference: of a worker's processor for one reference.
    """

    batch: float
    lease: float
    answer: float
    reference: float


def run(host: str, count: int, workers: int, jobs: int, cap: int = 256) -> Run:
    """Resolve many references in a new process; no workers means threads."""
    words = [host, str(count), str(workers), str(jobs), str(cap)]
    done = subprocess.run(
        [sys.executable, str(HERE / "fleet.py"), *words], check=True, capture_output=True, text=True
    )
    return Run(**json.loads(done.stdout))


def measure_here(host: str, count: int, workers: int, jobs: int, cap: int) -> Run:
    """Do what `run` starts a process for."""
    from contextlib import nullcontext  # noqa: PLC0415 - in the process that is measured

    from servers import Server  # noqa: PLC0415 - likewise

    from resolver import Failure, Session  # noqa: PLC0415 - likewise
    from resolver.settings import Flags  # noqa: PLC0415 - likewise
    from resolver.verbs.fleet import cluster  # noqa: PLC0415 - likewise

    server = Server(host, int(host.rpartition(":")[2]))
    names = [f"{host}/{REPOSITORY}:t{number:04}" for number in range(count)]
    flags = Flags(jobs=jobs, cluster_jobs=cap, plain_http=True, no_fsync=True)
    begun = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="resolver-bench-") as folder,
        cluster(f"local:{workers}") if workers else nullcontext() as executor,
    ):
        started = time.perf_counter() - begun
        with Session(Path(folder, "warm"), flags=flags) as session:
            list(session.resolve_each(names[:200], ["linux/arm64"], executor=executor))
        server.count()
        with Session(Path(folder, "measured"), flags=flags) as session:
            begun = time.perf_counter()
            found = list(session.resolve_each(names, ["linux/arm64"], executor=executor))
            seconds = time.perf_counter() - begun
        counts = server.count()
    failed = sum(isinstance(each, Failure) for each in found)
    return Run(seconds, started, counts["at_once"], counts.get("tokens", 0), failed)


def constants() -> Constants:
    """Measure the scheduler, the client and a worker of this machine."""
    import distributed  # noqa: PLC0415 - an extra

    from resolver import Session  # noqa: PLC0415 - after the start of the script
    from resolver.settings import Flags  # noqa: PLC0415 - likewise
    from resolver.verbs.fleet import cluster  # noqa: PLC0415 - likewise

    with registry() as server, tempfile.TemporaryDirectory(prefix="resolver-bench-") as folder:
        names = [f"{server.host}/{REPOSITORY}:t{number:04}" for number in range(500)]
        with Session(Path(folder), flags=Flags(jobs=4, plain_http=True, no_fsync=True)) as session:
            begun = time.process_time()
            found = list(session.resolve_each(names, ["linux/arm64"]))
            reference = (time.process_time() - begun) / len(names)
    body = pickle.dumps(found[:BATCH])
    begun = time.perf_counter()
    for _ in range(100):
        pickle.loads(body)  # noqa: S301 - pickled above
    answer = (time.perf_counter() - begun) / 100 / BATCH
    with cluster("local:2") as executor:
        begun = time.perf_counter()
        futures = [executor.submit(bytes, len(body)) for _ in range(1_000)]
        for future in futures:
            future.result()
        batch = (time.perf_counter() - begun) / len(futures)
        client = executor._client  # type: ignore[attr-defined]  # noqa: SLF001 - of Dask
        rpc, loop = client.scheduler, client.loop
        semaphore: Any = distributed.Semaphore(  # type: ignore[no-untyped-call]  # it has no types
            1, "bench", scheduler_rpc=rpc, loop=loop
        )
        begun = time.perf_counter()
        for _ in range(200):
            semaphore.acquire()
            semaphore.release()
        lease = (time.perf_counter() - begun) / 200
    return Constants(batch, lease, answer, reference)


def seconds(known: Constants, workers: int, registries: int, count: int = MILLION) -> float:
    """Return the modelled time: that of whatever is the limit.

    Workers wait for round trips, registries take `CAP` requests at once, the scheduler handles
    batches and one renewal of each lease a second, and one client reads all answers.
    """
    in_flight = min(workers * JOBS, registries * CAP, 1 / known.lease)
    by_workers = count * max(TRIP / in_flight, known.reference / workers)
    return max(by_workers, count / BATCH * known.batch, count * known.answer)


def limit(known: Constants, workers: int, registries: int) -> str:
    """Name what the time depends on."""
    whole = seconds(known, workers, registries)
    if whole == MILLION * known.answer:
        return "client"
    if whole == MILLION / BATCH * known.batch:
        return "scheduler: batches"
    places = {
        "workers": workers * JOBS,
        "registry": registries * CAP,
        "scheduler: leases": 1 / known.lease,
    }
    return min(places, key=lambda name: places[name])


def model(known: Constants) -> list[str]:
    """Return the table of the model, in Markdown."""
    lines = [
        "| workers | 1 registry | limit | 100 registries | limit |",
        "|--:|--:|---|--:|---|",
    ]
    for workers in WORKERS:
        cells = [f"{workers:,}"]
        for registries in (1, 100):
            cells += [
                duration(seconds(known, workers, registries)),
                limit(known, workers, registries),
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def bounds(known: Constants) -> str:
    """Say where the scheduler and the client become the limit."""
    leases = 1 / known.lease
    return (
        f"The scheduler becomes the limit at {leases:,.0f} requests in flight, which "
        f"{leases / JOBS:,.0f} workers of {JOBS} have (renewals of leases), or at "
        f"{BATCH / known.batch:,.0f} references a second (batches); one client reads "
        f"{1 / known.answer:,.0f} answers a second."
    )


def duration(value: float) -> str:
    """Write seconds for a table."""
    if value >= 7_200:  # noqa: PLR2004 - two hours
        return f"{value / 3600:.1f} h"
    return f"{value / 60:.0f} min" if value >= 600 else f"{value:.0f} s"  # noqa: PLR2004 - ten minutes


def picture(known: Constants) -> str:
    """Draw the model: time over workers, both logarithmic."""
    width, height, left, bottom = 640, 400, 70, 340
    times = (10.0, 100.0, 1_000.0, 10_000.0)

    def place(workers: float, value: float) -> tuple[float, float]:
        return (
            left + math.log10(workers) / 3 * 540,
            bottom - (math.log10(value) - 1) / 3.2 * 300,
        )

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="13">'
        ),
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for value in times:
        y = place(1, value)[1]
        parts.append(f'<path d="M{left} {y:.1f}H610" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,.0f} s</text>'
        )
    for workers in (1, 10, 100, 1_000):
        x = place(workers, 10)[0]
        parts.append(f'<path d="M{x:.1f} 30V{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{workers:,}</text>')
    parts.append(f'<text x="340" y="{bottom + 45}" text-anchor="middle">workers</text>')
    steps = [10 ** (step / 20) for step in range(61)]
    for registries, colour in ((1, "#c2410c"), (100, "#1d4ed8")):
        known_times = [(at, seconds(known, round(at), registries)) for at in steps]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*pair) for pair in known_times))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        x, y = place(300, seconds(known, 300, registries))
        name = "1 registry" if registries == 1 else f"{registries} registries"
        parts.append(f'<text x="{x:.1f}" y="{y - 10:.1f}" fill="{colour}">{name}</text>')
    title = f"{MILLION:,} references, {TRIP * 1000:.0f} ms, {JOBS} requests a worker"
    parts.append(f'<text x="340" y="20" text-anchor="middle">{title}</text>')
    return "\n".join([*parts, "</svg>\n"])


def fleet(count: int, *, write: bool) -> None:
    """Print the rows, then the model; `write` also puts them into docs/."""
    rows: list[tuple[str, Run, str]] = []
    with registry(delay_ms=20, bearer=True) as near:
        threads = run(near.host, count, 0, 8)
        spread = run(near.host, count, 2, 4, 8)
        ratio = spread.seconds / threads.seconds
        rows.append((f"{count:,} references, 20 ms, 8 threads", threads, ""))
        verdict = f"{ratio:.2f} of threads, target {OVERHEAD}"
        rows.append((f"{count:,} references, 20 ms, 2 workers of 4, cap 8", spread, verdict))
    with registry(delay_ms=1000 * TRIP, bearer=True) as far:
        one = run(far.host, 1_000, 1, JOBS)
        for workers in (1, 2, 4):
            found = one if workers == 1 else run(far.host, 1_000, workers, JOBS)
            verdict = f"{found.seconds / one.seconds:.2f} of 1 worker"
            verdict += f", target {SCALING}" if workers == 4 else ""  # noqa: PLR2004 - the last
            rows.append((f"1,000 references, 50 ms, {workers} workers of {JOBS}", found, verdict))
    with registry(bearer=True) as here:
        one = run(here.host, 2_000, 1, 16)
        two = run(here.host, 2_000, 2, 16)
        verdict = f"{two.seconds / one.seconds:.2f} of 1 worker, no target: the cores are the limit"
        rows.append(("2,000 references, no delay, 1 worker", one, ""))
        rows.append(("2,000 references, no delay, 2 workers", two, verdict))
    known = constants()
    lines = [
        f"Measured on {machine(1).partition(', medians')[0]}; one run of each row.",
        "",
        "| case | seconds | start | most in flight | tokens | failures | |",
        "|---|--:|--:|--:|--:|--:|---|",
        *(
            f"| {name} | {each.seconds:.1f} | {each.start:.1f} | {each.at_once} | {each.tokens} | "
            f"{each.failures} | {verdict} |"
            for name, each, verdict in rows
        ),
        "",
        "Constants of the model, measured in the same run, in milliseconds: "
        + ", ".join(f"{name} {value * 1000:.3f}" for name, value in asdict(known).items())
        + ".",
        "",
        bounds(known),
        "",
        *model(known),
    ]
    print("\n".join(lines))
    if write:
        _write(lines, known)


def _write(lines: Sequence[str], known: Constants) -> None:
    text = PAGE.read_text("utf-8")
    marks = "<!-- scripts/bench fleet -->", "<!-- end -->"
    body = "\n".join((marks[0], "", *lines, "", marks[1]))
    pattern = re.compile(f"{re.escape(marks[0])}.*{re.escape(marks[1])}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: body, text), "utf-8")
    PICTURE.write_text(picture(known), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One run, for `run`.")
    parser.add_argument("host")
    for argument in ("count", "workers", "jobs", "cap"):
        parser.add_argument(argument, type=int)
    print(json.dumps(asdict(measure_here(**vars(parser.parse_args())))))
