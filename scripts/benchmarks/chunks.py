"""`scripts/bench chunks`: a layer of which an older version is held, from a far registry."""

from __future__ import annotations

import base64
import os
import random
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from layered import Layer, Layout
from measure import Row, machine, measure, resolver, table
from pull import MEGA, PLATFORM, REPOSITORY, run_once
from servers import layers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servers import Server

#: Bytes of the layer, its parts, those that change, and the files of a part.
SIZE, PARTS, CHANGED, FILES = 200 * MEGA, 37, 5, 200
#: Bytes of a chunk by format. Source: the encoders of containers/storage and stargz-snapshotter.
CHUNKS = {"zstd:chunked": 64 << 10, "eStargz": 4 << 20}
#: The most bytes and time beside those of the whole layer; the most time where nothing can be
#: reused, and for layers without chunks. Source: docs/speed.md, "Targets".
BYTES, TIME, USELESS, PLAIN = 0.40, 0.5, 1.05, 1.02


def _files(version: int) -> dict[str, bytes]:
    """Return the files of a version; in a changed part six of ten files are new."""
    draw, changing = random.Random(1), random.Random(2)  # noqa: S311 - reproducible files
    share = SIZE / PARTS / FILES
    files: dict[str, bytes] = {}
    for part in range(PARTS):
        is_changed = part % (PARTS // CHANGED) == 0 and part // (PARTS // CHANGED) < CHANGED
        for number in range(FILES):
            size = int(draw.lognormvariate(0, 1) * share / 1.65)
            seed = draw.getrandbits(64)
            if is_changed and changing.random() < 0.6 and version > 1:  # noqa: PLR2004 - see above
                seed += 1
            # Text of six bits a byte, which compresses to about `size` bytes.
            content = random.Random(seed).randbytes(size)  # noqa: S311 - likewise
            body = base64.b64encode(content)
            files[f"usr/lib/part{part:02}/{number:03}.txt"] = body
    return files


def _fill(folder: Path) -> dict[str, int]:
    """Make the images to serve; return the size of each second version by format."""
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.kit.chunked import ChunkedLayer, stargz, zstd_chunked  # noqa: PLC0415 - see above

    layout = Layout(folder)
    old, new = _files(1), _files(2)
    size = CHUNKS["zstd:chunked"]
    writers: dict[str, Callable[[Mapping[str, bytes], int], ChunkedLayer]] = {
        "zstd:chunked": lambda files, level: zstd_chunked(files, level=level, chunk=size),
        "eStargz": lambda files, level: stargz(files, level=level, chunk=CHUNKS["eStargz"]),
    }
    sizes: dict[str, int] = {}
    for name, write in writers.items():
        usual, other = (3, 1) if name == "zstd:chunked" else (6, 1)
        for tag, files, level in (("1", old, usual), ("2", new, usual), ("other", new, other)):
            made = write(files, level)
            layer = layout.packed(made.body, made.diff_id.partition(":")[2])
            layer = replace(layer, media_type=made.media_type, annotations=made.annotations)
            layout.image(f"{_tag(name)}-{tag}", [layer], last=False)
            sizes[f"{name} {tag}"] = layer.size
    plain: Layer = layout.layer(SIZE)
    layout.image("plain", [plain])
    return sizes


def _tag(name: str) -> str:
    return name.replace(":", "-").lower()


def chunks(runs: int, round_trip: float, link: float) -> None:
    """Run the benchmark and print its tables."""
    print(
        f"chunks: {SIZE // MEGA} MB, {CHANGED} of {PARTS} parts changed; {round_trip:g} ms round "
        f"trip, {link:g} MB/s for all connections; {machine(runs)}"
    )
    with tempfile.TemporaryDirectory(prefix="resolver-bench-") as name:
        folder = Path(name)
        sizes = _fill(folder / "layout")
        served = layers(
            folder / "layout", folder / "ca.pem", round_trip_ms=round_trip, rate=0, link=link
        )
        with served as (near, far):
            for form in CHUNKS:
                _format(form, sizes, folder, near, far, runs)


def _format(
    form: str, sizes: Mapping[str, int], folder: Path, near: Server, far: Server, runs: int
) -> None:
    held = folder / _tag(form)
    run_once(_pull(near, f"{_tag(form)}-1", held))
    got: dict[str, int] = {}

    def row(title: str, tag: str, mode: str, at_most: float | None = None) -> Row:
        def count() -> dict[str, int]:
            counts = far.count()
            got[title] = counts.get("bytes", 0)
            return counts

        def command(new: Path) -> list[str]:
            shutil.copytree(held, new / "store", copy_function=os.link)
            return _pull(far, tag, new / "store", "--chunks", mode)

        return Row(title, command, at_most=at_most, count=count, moved=SIZE)

    whole = row("the whole layer", f"{_tag(form)}-2", "never")
    rebuilt = row("its missing chunks", f"{_tag(form)}-2", "auto", TIME)
    other = row("whole, another level", f"{_tag(form)}-other", "never")
    useless = row("chunks of another level", f"{_tag(form)}-other", "auto", USELESS)
    plain = row("gzip, --chunks never", "plain", "never")
    unaware = row("gzip, --chunks auto", "plain", "auto", PLAIN)
    for base, ours in ((whole, rebuilt), (other, useless), (plain, unaware)):
        measure([base, ours], runs)
        print(f"\n{form}\n\n{table([base, ours], base)}")
        if ours is rebuilt:
            share = got[ours.name] / sizes[f"{form} 2"]
            print(f"{share:.2f} of the bytes were fetched; target {BYTES:g}")


def _pull(server: Server, tag: str, store: Path, *options: str) -> list[str]:
    words = [*resolver(), "pull", f"{server.host}/{REPOSITORY}:{tag}", "-p", PLATFORM]
    return [*words, "--plain-http", "--quiet", "--store", str(store), *options]
