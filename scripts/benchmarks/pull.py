"""`scripts/bench pull`: images with layers from near and far registries, beside other tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layered import Layout
from measure import Row, machine, measure, resolver, table, tool, versions
from servers import Server, layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PLATFORM = "linux/amd64"
REPOSITORY = "bench/app"
MEGA = 1_000_000
#: Layers of the images, in megabytes. Source: docs/speed.md, "Targets".
BIG, SMALL, HUGE = (328, 82, 41), (10,), (2_000,)
TOTAL = sum(BIG) * MEGA
STEPS, STEP = 14, 5
#: Disk space for a complete run: what is served, stored, and being pulled.
_ROOM, _ROOM_HUGE = 2_000 * MEGA, 5_000 * MEGA
#: Images of one layer each for `pull -f`, and the bytes of such a layer.
MANY, TINY = 4_000, 20_000
#: Ratios to the fastest other tool, and milliseconds. Source: docs/speed.md, "Targets".
FAR, FSYNC, NO_FSYNC, TLS, TLS_NO_FSYNC, AGAIN = 0.22, 1.2, 1.0, 1.0, 0.9, 1.2
MANY_TARGET = 40_000


@dataclass(frozen=True, slots=True)
class Distance:
    """The far registry: milliseconds of a round trip, and MB/s of one connection."""

    round_trip: float
    rate: float


@dataclass(frozen=True, slots=True)
class Bench:
    """State that the parts share.

    Attributes:
        folder: for what is kept between runs.
        authority: the file of the authority that vouches for TLS.
        huge: whether there is an image with one layer of 2 GB.

    """

    near: Server
    far: Server
    folder: Path
    authority: Path
    huge: bool

    def ours(self, server: Server, tag: str, store: Path, *options: str) -> list[str]:
        """Pull an image into a store."""
        words = [*resolver(), "pull", f"{server.host}/{REPOSITORY}:{tag}", "-p", PLATFORM]
        return [*words, "--plain-http", "--quiet", "--store", str(store), *options]

    def fresh(self, server: Server, tag: str, *options: str) -> Callable[[Path], list[str]]:
        """Pull an image into a new store."""
        return lambda new: self.ours(server, tag, new / "store", *options)


# --- other tools -------------------------------------------------------------------------------


def peers(server: Server, tag: str, *, held: Path | None = None, tls: bool = False) -> list[Row]:
    """Return the rows of the other tools; into `held`, or into a new layout each time.

    For TLS, `SSL_CERT_FILE` has to name the authority.
    """
    host = server.guarded if tls else server.host
    name = f"{host}/{REPOSITORY}:{tag}"
    known: dict[str, tuple[str, Callable[[str], list[str]]]] = {
        "skopeo": ("skopeo copy", lambda place: _skopeo(name, place, tls=tls)),
        "crane": ("crane pull", lambda place: _crane(name, place, tls=tls)),
        "oras": ("oras copy", lambda place: _oras(name, place, tls=tls)),
        "regctl": ("regctl image copy", lambda place: _regctl(host, name, place, tls=tls)),
    }
    rows = []
    for program, (title, words) in known.items():
        path = tool(program)
        if path:
            rows.append(_peer(path, title, words, server, held))
    return rows


def _peer(
    path: str, title: str, words: Callable[[str], list[str]], server: Server, held: Path | None
) -> Row:
    def command(new: Path) -> list[str]:
        return [path, *words(str((held or new) / title.partition(" ")[0]))]

    return Row(title, command, ours=False, count=server.count, moved=0 if held else TOTAL)


def _skopeo(name: str, place: str, *, tls: bool) -> list[str]:
    system, _, architecture = PLATFORM.partition("/")
    choice = ["--insecure-policy", "--override-os", system, "--override-arch", architecture]
    trust = [] if tls else ["--src-tls-verify=false"]
    return [*choice, "copy", "--quiet", *trust, f"docker://{name}", f"oci:{place}:t"]


def _crane(name: str, place: str, *, tls: bool) -> list[str]:
    trust = [] if tls else ["--insecure"]
    return ["pull", *trust, "--platform", PLATFORM, "--format", "oci", name, place]


def _oras(name: str, place: str, *, tls: bool) -> list[str]:
    trust = [] if tls else ["--from-plain-http"]
    return ["copy", *trust, "--platform", PLATFORM, name, "--to-oci-layout", f"{place}:t"]


def _regctl(host: str, name: str, place: str, *, tls: bool) -> list[str]:
    trust = [] if tls else ["--host", f"reg={host},tls=disabled"]
    return [*trust, "image", "copy", "--platform", PLATFORM, name, f"ocidir://{place}:t"]


# --- the parts ---------------------------------------------------------------------------------


def _far(bench: Bench) -> list[Row]:
    server = bench.far
    return [
        Row("pull", bench.fresh(server, "big"), at_most=FAR, count=server.count, moved=TOTAL),
        *peers(server, "big"),
    ]


def _near(bench: Bench) -> list[Row]:
    server = bench.near
    quick = bench.fresh(server, "big", "--no-fsync")
    return [
        Row("pull", bench.fresh(server, "big"), at_most=FSYNC, count=server.count, moved=TOTAL),
        Row("pull --no-fsync", quick, at_most=NO_FSYNC, count=server.count, moved=TOTAL),
        *peers(server, "big"),
    ]


def _tls(bench: Bench) -> list[Row]:
    server = Server(bench.near.guarded, bench.near.direct)

    def ours(*options: str) -> Callable[[Path], list[str]]:
        def command(new: Path) -> list[str]:
            words = bench.ours(server, "big", new / "store", *options)
            return [word for word in words if word != "--plain-http"]

        return command

    rows = [
        Row("pull", ours(), at_most=TLS, count=server.count, moved=TOTAL),
        Row(
            "pull --no-fsync",
            ours("--no-fsync"),
            at_most=TLS_NO_FSYNC,
            count=server.count,
            moved=TOTAL,
        ),
        *peers(bench.near, "big", tls=True),
    ]
    for row in rows:
        row.variables["SSL_CERT_FILE"] = str(bench.authority)
    return rows


def _again(bench: Bench) -> list[Row]:
    server, held = bench.far, bench.folder / "held"
    held.mkdir()
    others = peers(server, "big", held=held)
    for command in (
        bench.ours(server, "big", held / "store"),
        *(row.command(held) for row in others),
    ):
        run_once(command)
    return [
        Row(
            "pull",
            lambda _: bench.ours(server, "big", held / "store"),
            at_most=AGAIN,
            count=server.count,
        ),
        *others,
    ]


def _step(bench: Bench) -> list[Row]:
    server = bench.far

    def command(new: Path) -> list[str]:
        run_once(bench.ours(bench.near, "old", new / "store"))
        return bench.ours(server, "new", new / "store")

    return [Row(f"pull, {STEPS - 1} of {STEPS} layers are here", command, count=server.count)]


def _many(bench: Bench) -> list[Row]:
    server, listing = bench.near, bench.folder / "references"
    names = [f"{server.host}/{REPOSITORY}:many-{number}" for number in range(MANY)]
    listing.write_text("\n".join(names), "utf-8")

    def command(new: Path) -> list[str]:
        words = [*resolver(), "pull", "-f", str(listing), "-p", PLATFORM, "--plain-http"]
        return [*words, "--quiet", "--store", str(new / "store")]

    return [Row(f"pull -f, {MANY:,} images", command, target=MANY_TARGET, count=server.count)]


def _memory(bench: Bench) -> list[Row]:
    images = [("small", SMALL), ("big", BIG), *([("huge", HUGE)] if bench.huge else [])]
    return [
        Row(
            f"pull {sum(sizes):,} MB",
            bench.fresh(bench.near, tag),
            count=bench.near.count,
            moved=sum(sizes) * MEGA,
        )
        for tag, sizes in images
    ]


def run_once(command: list[str]) -> None:
    """Run a preparation; a failure ends the benchmark."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: `{' '.join(command)}`: {done.stderr.strip()}")


#: The parts. To add one, add a row.
PARTS: dict[str, tuple[str, Callable[[Bench], list[Row]]]] = {
    "far": (f"{TOTAL // MEGA} MB in {len(BIG)} layers, far away", _far),
    "near": ("the same from this machine", _near),
    "tls": ("the same from this machine, over TLS", _tls),
    "again": ("the same far away, when all of it is here", _again),
    "step": (f"far away, when one layer of {STEPS} is new ({STEP} MB, and a config)", _step),
    "memory": ("memory, by the size of layers", _memory),
    "many": (f"{MANY:,} images with one small layer each, from this machine", _many),
}


# --- everything -------------------------------------------------------------------------------


def _fill(folder: Path, *, huge: bool, many: bool) -> None:
    """Make the images to serve."""
    layout = Layout(folder)
    steps = [layout.layer(STEP * MEGA) for _ in range(STEPS)]
    layout.image("old", steps[:-1])
    layout.image("new", steps)
    for tag, sizes in (("small", SMALL), ("big", BIG), ("huge", HUGE if huge else ())):
        if sizes:
            layout.image(tag, [layout.layer(size * MEGA) for size in sizes])
    for number in range(MANY if many else 0):
        layout.image(f"many-{number}", [layout.layer(TINY)], last=number == MANY - 1)


@contextmanager
def _bench(distance: Distance, *, huge: bool, many: bool) -> Iterator[Bench]:
    """Make all images and stores, and remove them at the end."""
    with tempfile.TemporaryDirectory(prefix="resolver-bench-") as name:
        folder = Path(name)
        room, free = _ROOM_HUGE if huge else _ROOM, shutil.disk_usage(folder).free
        if free < room:
            raise SystemExit(
                f"error: {name} has {free // MEGA} MB free, and {room // MEGA} MB are needed"
            )
        _fill(folder / "layout", huge=huge, many=many)
        authority, (trip, rate) = folder / "authority.pem", (distance.round_trip, distance.rate)
        with layers(folder / "layout", authority, round_trip_ms=trip, rate=rate) as (near, far):
            yield Bench(near, far, folder, authority, huge)


def pull(runs: int, distance: Distance, parts: Sequence[str], *, huge: bool) -> None:
    """Run the benchmark and print its table."""
    print(
        f"pull: far = {distance.round_trip:g} ms round trip, {distance.rate:g} MB/s per "
        f"connection; ratio = to the fastest other tool; {machine(runs)}"
    )
    print(f"other tools: {versions(('skopeo', 'crane', 'oras', 'regctl'))}")
    with _bench(distance, huge=huge, many="many" in parts) as bench:
        for part in parts:
            title, list_rows = PARTS[part]
            rows = list_rows(bench)
            measure(rows, runs)
            others = [row for row in rows if not row.ours]
            base = min(others, key=lambda row: row.median) if others else rows[0]
            print(f"\n{part}: {title}; load {os.getloadavg()[0]:.2f}\n\n{table(rows, base)}")
            if part == "again" and rows[0].read >= 0:
                print(f"{rows[0].read / MEGA:.1f} MB were read in all, the program itself included")
