"""`scripts/bench copy`: images between registries, beside other tools."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from layered import Layout
from measure import Row, machine, measure, resolver, table
from pull import BIG, HUGE, MEGA, REPOSITORY, SMALL, STEP, STEPS, TOTAL, Distance
from servers import Server, layers, process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Of the far row, as a ratio to the best other tool; and milliseconds of the unchanged tags.
FAR, TAGS = 0.5, 2_500
UNCHANGED = 1_000
_REQUEST = re.compile(rb'"([A-Z]+) (/v2/[^ "]+) HTTP/')
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Sink:
    """A docker-registry that is copied to.

    Attributes:
        near, far: `address:port`, directly and behind the delay.
        log: of its requests.
    """

    near: str
    far: str
    log: Path

    def count(self) -> Callable[[], dict[str, int]]:
        """Return a counter of the requests since its last call."""
        seen = 0

        def count() -> dict[str, int]:
            nonlocal seen
            time.sleep(0.1)  # The log is written after the answer.
            found = _REQUEST.findall(self.log.read_bytes())
            new, seen = found[seen:], len(found)
            heads = sum(method == b"HEAD" for method, _ in new)
            return {"requests": len(new), "heads": heads}

        return count


@dataclass(frozen=True, slots=True)
class Bench:
    """State that the parts share.

    Attributes:
        reach: opens another address of the far sink.
    """

    near: Server
    far: Server
    sink: Sink
    folder: Path
    huge: bool
    numbers: Iterator[int]
    reach: Callable[[], str]

    def name(self, sink: str = "") -> str:
        """Return a destination that nothing was copied to."""
        return f"{sink or self.sink.far}/copy-{next(self.numbers)}:1"

    def unknown(self) -> str:
        """Return a destination at an address that no tool knows.

        skopeo remembers, for the whole machine, which blobs it has pushed where, and mounts them.
        """
        return self.name(self.reach())

    def ours(self, source: str, *targets: str, options: Sequence[str] = ()) -> list[str]:
        """Copy with a store of its own."""
        store = ["--store", str(self.folder / "store")]
        words = ["copy", source, *targets, "--plain-http", "--no-referrers", "--quiet"]
        return [*resolver(), *words, *store, *options]


def peer(name: str) -> str | None:
    """Return the path of another tool, on PATH or in the folder that BENCH_PEERS names."""
    return shutil.which(name, path=f"{os.environ.get('BENCH_PEERS', '')}:{os.environ['PATH']}")


def _words(program: str, source: str, target: str, hosts: Sequence[str]) -> list[str]:
    match program:
        case "skopeo":
            plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
            docker = [f"docker://{source}", f"docker://{target}"]
            return ["--insecure-policy", "copy", "--quiet", "--all", *plain, *docker]
        case "crane":
            return ["copy", "--insecure", source, target]
        case "oras":
            return ["copy", "--from-plain-http", "--to-plain-http", source, target]
        case _:
            trust = [word for host in hosts for word in ("--host", f"reg={host},tls=disabled")]
            return [*trust, "image", "copy", source, target]


def peers(bench: Bench, source: str, target: Callable[[], str], moved: int) -> list[Row]:
    """Return the rows of the other tools."""
    rows = []
    for program in ("skopeo", "crane", "regctl", "oras"):
        path = peer(program)
        if path is None:
            continue

        def command(_: Path, path: str = path, program: str = program) -> list[str]:
            name = target()
            hosts = [source.partition("/")[0], name.partition("/")[0]]
            return [path, *_words(program, source, name, hosts)]

        rows.append(
            Row(f"{program} copy", command, ours=False, count=bench.sink.count(), moved=moved)
        )
    return rows


def _far(bench: Bench) -> list[Row]:
    source = f"{bench.far.host}/{REPOSITORY}:big"
    return [
        Row(
            "copy",
            lambda _: bench.ours(source, bench.unknown()),
            at_most=FAR,
            count=bench.sink.count(),
            moved=TOTAL,
        ),
        *peers(bench, source, bench.unknown, TOTAL),
    ]


def _again(bench: Bench) -> list[Row]:
    source, name = f"{bench.far.host}/{REPOSITORY}:big", bench.name()
    _once(bench.ours(f"{bench.near.host}/{REPOSITORY}:big", _nearby(bench, name)))
    return [
        Row("copy", lambda _: bench.ours(source, name), count=bench.sink.count()),
        *peers(bench, source, lambda: name, 0),
    ]


def _mount(bench: Bench) -> list[Row]:
    name = bench.name()
    _once(bench.ours(f"{bench.near.host}/{REPOSITORY}:big", _nearby(bench, name)))
    return [
        Row("copy", lambda _: bench.ours(name, bench.name()), count=bench.sink.count()),
        *peers(bench, name, bench.name, 0),
    ]


def _step(bench: Bench) -> list[Row]:
    source = f"{bench.far.host}/{REPOSITORY}:new"

    def target() -> str:
        name = bench.name()
        _once(bench.ours(f"{bench.near.host}/{REPOSITORY}:old", _nearby(bench, name)))
        return name

    return [
        Row("copy", lambda _: bench.ours(source, target()), count=bench.sink.count()),
        *peers(bench, source, target, 0),
    ]


def _two(bench: Bench) -> list[Row]:
    source = f"{bench.far.host}/{REPOSITORY}:big"
    return [
        Row(
            "copy to two repositories; requests of the source",
            lambda _: bench.ours(source, bench.name(), bench.name()),
            count=bench.far.count,
            moved=TOTAL,
        )
    ]


def _tags(bench: Bench) -> list[Row]:
    name = _nearby(bench, bench.name()).rpartition(":")[0]
    repository = name.partition("/")[2]
    _once(bench.ours(f"{bench.near.host}/{REPOSITORY}:small", f"{name}:0000"))
    digest = _digest(bench, f"{name}:0000")
    for number in range(1, UNCHANGED):
        _tag(bench, name, f"{number:04}", digest)
    rules = {
        "version": 1,
        "copies": [
            {
                "from": f"{bench.sink.far}/{repository}",
                "to": [f"{bench.sink.far}/{repository}"],
                "referrers": False,
            }
        ],
    }
    file = bench.folder / "mirror.yaml"
    file.write_text(json.dumps(rules))
    store = ["--store", str(bench.folder / "store"), "--plain-http", "--quiet"]
    words = [*resolver(), "copy", "--sync", str(file), *store]
    return [
        Row(
            f"copy --sync, {UNCHANGED:,} tags unchanged",
            lambda _: words,
            target=TAGS,
            count=bench.sink.count(),
        )
    ]


def _digest(bench: Bench, name: str) -> str:
    words = [*resolver(), "resolve", name, "-p", "linux/amd64", "--plain-http", "--json"]
    words += ["--store", str(bench.folder / "store")]
    found = json.loads(subprocess.check_output(words))
    return str(found["index"]["digest"])


def _tag(bench: Bench, name: str, tag: str, digest: str) -> None:
    """Set a tag by linking it in the storage of the registry, which is how it keeps tags."""
    repository = name.partition("/")[2]
    storage = bench.sink.log.parent / "storage/docker/registry/v2/repositories"
    place = storage / repository / "_manifests/tags" / tag / "current"
    place.mkdir(parents=True)
    (place / "link").write_text(digest)


def _memory(bench: Bench) -> list[Row]:
    images = [("small", SMALL), ("big", BIG), *([("huge", HUGE)] if bench.huge else [])]
    return [
        Row(
            f"copy {sum(sizes):,} MB",
            partial(_near, bench, tag),
            count=bench.sink.count(),
            moved=sum(sizes) * MEGA,
        )
        for tag, sizes in images
    ]


def _near(bench: Bench, tag: str, _folder: Path) -> list[str]:
    source = f"{bench.near.host}/{REPOSITORY}:{tag}"
    return bench.ours(source, bench.name(bench.sink.near))


def _nearby(bench: Bench, name: str) -> str:
    return name.replace(bench.sink.far, bench.sink.near)


def _once(command: list[str]) -> None:
    """Run a preparation; a failure ends the benchmark."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: `{' '.join(command)}`: {done.stderr.strip()}")


#: The parts. To add one, add a row.
COPIES: dict[str, tuple[str, Callable[[Bench], list[Row]]]] = {
    "far": (f"{TOTAL // MEGA} MB in {len(BIG)} layers between far registries", _far),
    "again": ("the same, when all of it is there", _again),
    "mount": ("the same to another repository of the registry", _mount),
    "step": (f"when one layer of {STEPS} is new ({STEP} MB, and a config)", _step),
    "two": ("two destinations", _two),
    "tags": ("tags that have not changed", _tags),
    "memory": ("memory, by the size of layers, near registries", _memory),
}


@contextmanager
def _sink(folder: Path, distance: Distance) -> Iterator[Sink]:
    """Run docker-registry, directly and behind the delay."""
    program = shutil.which("docker-registry")
    if program is None:
        raise SystemExit(
            "error: docker-registry is not installed (apt-get install docker-registry)"
        )
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage"), "maxthreads": 100}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        words = ["delay_proxy.py", str(port), str(distance.round_trip), str(distance.rate)]
        with process(*words) as (far,):
            yield Sink(f"127.0.0.1:{port}", f"127.0.0.1:{far}", log)
    finally:
        server.kill()
        server.wait()


def copy(runs: int, distance: Distance, parts: Sequence[str], *, huge: bool) -> None:
    """Run the benchmark and print its table."""
    print(
        f"copy: far = {distance.round_trip:g} ms round trip, {distance.rate:g} MB/s per "
        f"connection each way; ratio = to the fastest other tool; {machine(runs)}"
    )
    absent = [name for name in ("skopeo", "crane", "regctl", "oras") if not peer(name)]
    if absent:
        print(f"not installed, so not compared: {', '.join(absent)}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resolver-bench-")))
        layout = Layout(folder / "layout")
        steps = [layout.layer(STEP * MEGA) for _ in range(STEPS)]
        layout.image("old", steps[:-1])
        layout.image("new", steps)
        for tag, sizes in (("small", SMALL), ("big", BIG), ("huge", HUGE if huge else ())):
            if sizes:
                layout.image(tag, [layout.layer(size * MEGA) for size in sizes])
        far = {"round_trip_ms": distance.round_trip, "rate": distance.rate}
        near, away = stack.enter_context(layers(folder / "layout", folder / "authority.pem", **far))
        sink = stack.enter_context(_sink(folder / "sink", distance))
        port = sink.near.rpartition(":")[2]
        words = ["delay_proxy.py", port, str(distance.round_trip), str(distance.rate)]

        def reach() -> str:
            (other,) = stack.enter_context(process(*words))
            return f"127.0.0.1:{other}"

        bench = Bench(near, away, sink, folder, huge, itertools.count(), reach)
        for part in parts:
            title, list_rows = COPIES[part]
            rows = list_rows(bench)
            measure(rows, runs)
            others = [row for row in rows if not row.ours]
            base = min(others, key=lambda row: row.median) if others else rows[0]
            print(f"\n{part}: {title}; load {os.getloadavg()[0]:.2f}\n\n{table(rows, base)}")
