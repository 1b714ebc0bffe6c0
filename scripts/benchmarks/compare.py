"""`scripts/bench compare`: the files of two platforms, against `gzip -dc | tar -t`.

And how much of an image that lies `lint --deep` reads, and the memory for a million paths.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from layered import Layer, Layout
from measure import Row, machine, measure, resolver, table
from servers import layers

if TYPE_CHECKING:
    from collections.abc import Iterator

#: At most this multiple of the time of `gzip -dc | tar -t`.
#: Source: docs/store-and-reliability.md, "Performance targets".
_AT_MOST = 1.3
#: Bytes of one platform, and of the layer that both share.
PLATFORM, SHARED = 500 << 20, 120 << 20
#: Sizes of files: as in a Debian image, most are small and few have most of the bytes.
_SIZES = ((0.30, 1_000), (0.35, 6_000), (0.20, 30_000), (0.12, 150_000), (0.03, 1_500_000))
_MACHINES = {"amd64": 62, "arm64": 183}
_PROGRAM = "usr/bin/app"
_REPOSITORY = "bench/app"
#: Paths that differ, and the bytes of memory to compare them. Source: docs/speed.md, "Targets".
PATHS, MEMORY = 1_000_000, 300_000_000
#: Bytes of a small file in a tar file: its header and one block.
_ENTRY = 1_024


def compare(runs: int, *, paths: bool) -> None:
    """Make two platforms, and print the table; with `paths`, that of a million paths instead."""
    if paths:
        _compare_paths(runs)
        return
    with tempfile.TemporaryDirectory(prefix="resolver-bench-compare-") as folder:
        layout = Path(folder, "layout")
        print("making two platforms of 500 MB", file=sys.stderr)
        # In a separate process: its memory would count towards that of the processes measured.
        with ProcessPoolExecutor(1) as pool:
            size, files, lying, blobs = pool.submit(_make, layout).result()
        packed = sum(blob.stat().st_size for blob in blobs)
        listing = "; ".join(f"gzip -dc {blob} | tar -t >/dev/null" for blob in blobs)
        theirs = Row(
            "gzip -dc | tar -t",
            lambda _: ["bash", "-c", f"set -e -o pipefail; {listing}"],
            ours=False,
            moved=size,
        )
        store = Path(folder, "store")
        with layers(layout, Path(folder, "authority"), round_trip_ms=0, rate=0) as (server, _far):
            name = f"{server.host}/{_REPOSITORY}"
            shared = ["--plain-http", "--quiet", "--store", str(store)]
            pulling = [*resolver(), "pull", f"{name}:1", "-p", "all", *shared]
            subprocess.run(pulling, check=True, stdout=subprocess.DEVNULL)
            comparing = [*resolver(), "compare", f"{name}:1", "--files", "--offline", *shared]
            ours = Row(
                "compare --files --offline", lambda _: comparing, at_most=_AT_MOST, moved=size
            )
            linting = [*resolver(), "lint", f"{name}:liar", "--deep", "--plain-http"]
            # Status 1: there are findings.
            liar = Row(
                f"lint --deep of a liar of {lying / 1e6:.0f} MB",
                lambda _: ["bash", "-c", '"$@"; test $? = 1', "bash", *linting],
                count=server.count,
            )
            measure([ours, theirs, liar], runs)
    print(f"compare: {machine(runs)}")
    print(
        f"two platforms of {PLATFORM >> 20} MiB that share {SHARED >> 20} MiB: {files} files in "
        f"{len(blobs)} layers, {packed / 1e6:.0f} MB of gzip, {size / 1e6:.0f} MB of tar\n\n"
        f"{table([ours, theirs, liar], theirs)}"
    )


def _compare_paths(runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="resolver-bench-paths-") as folder:
        layout = Path(folder, "layout")
        print(f"making layers of {PATHS:,} files", file=sys.stderr)
        with ProcessPoolExecutor(1) as pool:
            pool.submit(_make_paths, layout).result()
        rows = [
            Row(
                f"compare --files --json, {title}",
                lambda _, tag=tag: [*resolver(), "compare", f"oci:{layout}:{tag}", *_AS_JSON],  # type: ignore[misc]
                moved=count * _ENTRY,
            )
            for tag, title, count in (
                ("apart", "each on one side", PATHS),
                ("both", "each on both sides", 2 * PATHS),
            )
        ]
        measure(rows, runs)
    print(f"compare: {machine(runs)}")
    print(f"{PATHS:,} paths that differ\n\n{table(rows, rows[0])}")
    for row in rows:
        met = "met" if row.memory < MEMORY else "missed"
        print(f"{row.name}: the target of {MEMORY / 1e6:.0f} MB is {met}")


_AS_JSON = ("--files", "--json", "--quiet")


def _make_paths(folder: Path) -> None:
    """Write a layout with both images."""
    layout = Layout(folder)
    half = PATHS // 2
    for tag, count, prefixes in (("apart", half, ("a", "b")), ("both", PATHS, ("a", "a"))):
        layers = {
            name: [layout.packed(*_files(prefix, count, number))]
            for number, (name, prefix) in enumerate(zip(_MACHINES, prefixes, strict=True))
        }
        layout.platforms(tag, layers, last=tag == "both")


def _files(prefix: str, count: int, seed: int) -> tuple[bytes, str]:
    """Make a layer of files of 8 bytes; return it and the digest of its tar file."""
    rng = random.Random(seed)  # noqa: S311 - reproducible files
    content, squeeze = hashlib.sha256(), zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
    packed = bytearray()
    for number in range(count):
        info = tarfile.TarInfo(f"usr/lib/{prefix}/{number // 1000}/module-{number}.py")
        info.size = 8
        entry = (info.tobuf(tarfile.USTAR_FORMAT) + rng.randbytes(8)).ljust(_ENTRY, b"\0")
        content.update(entry)
        packed += squeeze.compress(entry)
    end = bytes(1024)
    content.update(end)
    return bytes(packed + squeeze.compress(end) + squeeze.flush()), content.hexdigest()


def _make(folder: Path) -> tuple[int, int, int, list[Path]]:
    """Write the layout.

    Returns the bytes of all tars, the number of files, the bytes of the layers of the mislabelled
    image, and the files of the layers.
    """
    layout = Layout(folder)
    rng = random.Random(1)  # noqa: S311 - reproducible files
    contents = _Contents(rng)
    total = count = 0
    made: dict[str, list[Layer]] = {name: [] for name in _MACHINES}
    plan: list[tuple[tuple[str, ...], int]] = [(("amd64", "arm64"), SHARED)]
    plan += [((name,), (PLATFORM - SHARED) // 2) for name in _MACHINES for _ in range(2)]
    for number, (names, size) in enumerate(plan):
        program = _PROGRAM if len(names) == 1 else ""
        body, files = _tar(
            contents, f"usr/share/{number // 3}", size, _MACHINES[names[-1]], program
        )
        layer = layout.packed(gzip.compress(body, 6), hashlib.sha256(body).hexdigest())
        total += len(body)
        count += files
        for name in names:
            made[name].append(layer)
    layout.platforms("1", made, f"/{_PROGRAM}")
    layout.platforms("liar", dict.fromkeys(_MACHINES, made["amd64"]), f"/{_PROGRAM}")
    digests = dict.fromkeys(layer.digest for own in made.values() for layer in own)
    blobs = [folder / "blobs" / "sha256" / digest.partition(":")[2] for digest in digests]
    return total, count, sum(layer.size for layer in made["amd64"]), blobs


class _Contents:
    """Bytes like those of an image: half of them text, the rest less and less compressible."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        words = [rng.randbytes(rng.randrange(2, 9)).hex().encode() for _ in range(4000)]
        self._text = b" ".join(rng.choices(words, k=1_000_000))
        self._noise = rng.randbytes(4 << 20)
        self._code = b"".join(
            struct.pack("<HHI", rng.randrange(300), rng.randrange(3000), rng.getrandbits(24))
            for _ in range(500_000)
        )

    def body(self, size: int) -> bytes:
        """Return `size` bytes."""
        kind = self.rng.random()
        pool = self._text if kind < 0.5 else self._code if kind < 0.85 else self._noise  # noqa: PLR2004
        at = self.rng.randrange(max(1, len(pool) - size))
        return pool[at : at + size]


def _sizes(rng: random.Random, total: int) -> Iterator[int]:
    left = total
    while left > 0:
        draw = rng.random()
        for share, mean in _SIZES:
            draw -= share
            if draw < 0:
                size = min(left, int(rng.expovariate(1 / mean)))
                yield size
                left -= size + 1024
                break


def _tar(
    contents: _Contents, prefix: str, size: int, number: int, program: str
) -> tuple[bytes, int]:
    """Make a tar archive of about `size` bytes; return it and the number of its files.

    A program, if it has a name, comes first.
    """
    out = io.BytesIO()
    count = 0
    with tarfile.open(fileobj=out, mode="w") as archive:
        for count, length in enumerate(_sizes(contents.rng, size), 1):
            body = contents.body(length)
            is_program = count == 1 and program
            if is_program or count % 20 == 0:
                body = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HH", 2, number) + body
            name = f"{prefix}/{count % 97}/{count % 13}/file-{count}.txt"
            info = tarfile.TarInfo(program if is_program else name)
            info.mode = 0o755 if is_program else 0o644
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue(), count
