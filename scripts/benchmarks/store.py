"""`scripts/bench store`: ls, du, plan, gc, rm and verify with 100 to 10,000 images."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from measure import Row, machine, resolver, run

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.core.results.pull import PulledImage, PulledName
from resolver.store import LocalStore, NameRecord

SIZES = (100, 1_000, 4_000, 10_000)
#: Layers that all images share, and bytes of each layer.
_BASE = 3
_LAYER = 2_048
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_REGISTRY = "localhost:5000/bench"


def fill(store: LocalStore, count: int) -> None:
    """Put images into a store through its API: four layers each, three of them shared."""
    base = [_blob(store, f"base {number}") for number in range(_BASE)]
    for number in range(count):
        layers = [*base, _blob(store, f"layer {number}")]
        config = _add(
            store,
            OCI_CONFIG,
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "2024-05-01T12:00:00Z",
                "config": {"Labels": {"number": str(number)}},
                "rootfs": {"type": "layers", "diff_ids": [str(each.digest) for each in layers]},
            },
        )
        manifest = _add(
            store,
            OCI_MANIFEST,
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": _member(config),
                "layers": [_member(each) for each in layers],
            },
        )
        reference = name(number)
        pulled = PulledImage(Platform("linux", "amd64"), manifest)
        store.remember(NameRecord(reference, manifest))
        store.name(PulledName(reference, manifest, (pulled,), 1_700_000_000 + number))


def name(number: int) -> str:
    """Return the reference of one image."""
    return f"{_REGISTRY}/app-{number % 50}:{number}"


def _blob(store: LocalStore, text: str) -> Descriptor:
    body = hashlib.shake_256(text.encode()).digest(_LAYER)
    descriptor = Descriptor(_LAYER_TYPE, Digest.of(body), len(body))
    store.add(descriptor, (body,))
    return descriptor


def _add(store: LocalStore, media_type: str, value: dict[str, object]) -> Descriptor:
    body = json.dumps(value, separators=(",", ":")).encode()
    descriptor = Descriptor(media_type, Digest.of(body), len(body))
    store.add_document(Document(descriptor, body))
    return descriptor


def _member(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def _rows(place: Path, count: int) -> list[Row]:
    """Make the commands; those that change the store get a copy, unmeasured."""
    known = name(count // 2)
    gone = iter(range(count // 4, count))

    def read(title: str, *words: str) -> Row:
        return Row(title, lambda _: [*resolver(), *words, "--store", str(place)])

    def change(title: str, *words: str) -> Row:
        def command(folder: Path) -> list[str]:
            copy = folder / "store"
            # Files are replaced, never changed, so links are enough for a copy.
            shutil.copytree(place, copy, copy_function=os.link)
            return [*resolver(), *words, "--store", str(copy)]

        return Row(title, command)

    half = sum(path.stat().st_size for path in (place / "blobs" / "sha256").iterdir()) // 2
    offline = ("--offline", "-p", "linux/amd64")
    return [
        read("ls", "ls"),
        read("du", "du"),
        read("plan", "plan", known, *offline),
        read("gc --dry-run", "gc", "--dry-run"),
        Row("rm", lambda _: [*resolver(), "rm", name(next(gone)), "--store", str(place)]),
        read("resolve --offline", "resolve", known, *offline),
        read("verify", "verify"),
        change("gc --max-size", "gc", "--max-size", str(half), "--grace", "0s", "--no-fsync"),
    ]


def store(runs: int, sizes: list[int]) -> None:
    """Run the benchmark and print its table."""
    columns: dict[int, list[Row]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="resolver-bench-") as folder:
            place = Path(folder) / "store"
            fill(LocalStore(place, fsync=False), size)
            columns[size] = _rows(place, size)
            for row in columns[size]:
                run(row)
                row.cpu.clear()
                row.seconds.clear()  # The first run fills caches.
                for _ in range(runs):
                    run(row)
    print(f"store: {machine(runs)}\n\n{_table(columns)}")


def _table(columns: dict[int, list[Row]]) -> str:
    """Format a line for each command: seconds, CPU seconds and peak memory per size."""
    names = [row.name for row in next(iter(columns.values()))]
    lines = [["what", *(f"{size:,} images" for size in columns)]]
    lines += [
        [title, *(_cell(rows[number]) for rows in columns.values())]
        for number, title in enumerate(names)
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(row: Row) -> str:
    cpu = statistics.median(row.cpu)
    return f"{row.median / 1000:.2f} s ({cpu:.2f} s cpu), {row.memory / 1e6:.0f} MB"
