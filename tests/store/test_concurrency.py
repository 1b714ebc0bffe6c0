"""Many processes on one store share their work, and collection takes nothing from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.core.results.store import Retention
from resolver.store import LocalStore
from tests.kit.processes import ROOT as PACKAGE
from tests.kit.stored_images import held
from tests.store.faults import is_clean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What the processes below pull: images that share their base, made the same in each process.
IMAGES = """
import json, random, sys, time
from pathlib import Path
from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.results.store import Retention
from resolver.errors import StoreFault
from resolver.store import LocalStore, Patience
from tests.kit.images import build_image
from tests.kit.stored_images import blob_of, record_of

BASE = random.Random(0).randbytes(1_500_000)
def image(number):
    return build_image("linux/amd64", [BASE, random.Random(number).randbytes(20_000)])

def receive(store, descriptor, body):
    with store.receive(descriptor) as receiving:
        if receiving is None:
            return 0
        at, came = 0, 0
        for start, end in (*receiving.have, (len(body), len(body))):
            for low in range(at, start, 65536):
                part = body[low : min(low + 65536, start)]
                receiving.write(low, part)
                came += len(part)
            at = end
        receiving.finish()
        return came

def pull(store, reference, made):
    "What a pull does: lease, look, children before parents, the name last."
    fetched = {}
    with store.lease(purpose=f"pull {reference}") as lease:
        store.add_document(Document(made.descriptor, made.body))
        lease.add(map(Digest.parse, {*made.documents, *made.blobs}))
        for digest, body in made.blobs.items():
            fetched[digest] = receive(store, blob_of(body), body)
        for digest, (kind, body) in made.documents.items():
            receive(store, Descriptor(kind, Digest.parse(digest), len(body)), body)
        store.name(record_of(reference, made, at=int(time.time())))
    return fetched

root, number = Path(sys.argv[1]), int(sys.argv[2])
store = LocalStore(root, fsync=False)
print("ready", flush=True)
sys.stdin.readline()
"""

ONE_IMAGE = """
print(json.dumps(pull(store, "localhost/one:1", image(1))))
"""

SHARING = """
print(json.dumps(pull(store, f"localhost/app:{number}", image(number))))
"""

COLLECTING = """
rounds = 0
while rounds < 25:
    reference, made = f"localhost/app:{number}", image(number)
    pull(store, reference, made)
    assert store.pulled(reference) is not None
    for digest in (*made.documents, *made.blobs):
        assert store.load(Digest.parse(digest)) is not None, digest
    if rounds % 3:
        store.remove(reference)
    rounds += 1
print(json.dumps(rounds))
"""

COLLECTOR = """
rounds = removed = 0
while rounds < 40:
    removed += len(store.collect(Retention(grace=0)).removed)
    list(store.pulled_names()), store.images(), store.verify(), store.usage()
    rounds += 1
print(json.dumps(removed))
"""


class ProcessGroup:
    """Processes that start together."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._processes: list[subprocess.Popen[str]] = []

    def add(self, script: str, count: int) -> None:
        """Start more processes, which wait for the others."""
        for number in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", IMAGES + script, self._root, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(PACKAGE)},
            )
            self._processes.append(process)

    def run(self) -> list[object]:
        """Release the processes and return their results."""
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        message = []
        for process in self._processes:
            out, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            message.append(json.loads(out))
        return message

    def end(self) -> None:
        """End every process."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[ProcessGroup]:
    crowd = ProcessGroup(tmp_path / "store")
    yield crowd
    crowd.end()


def fetched(message: list[object]) -> dict[str, list[int]]:
    """Return the bytes fetched for each blob."""
    costs: dict[str, list[int]] = {}
    for one in message:
        assert isinstance(one, dict)
        for digest, size in one.items():
            costs.setdefault(digest, [])
            if size:
                costs[digest].append(size)
    return costs


def test_eight_processes_pulling_one_image_fetch_each_blob_once(
    tmp_path: Path, crowd: ProcessGroup
) -> None:
    crowd.add(ONE_IMAGE, 8)

    costs = fetched(crowd.run())

    store = LocalStore(tmp_path / "store")
    assert {len(sizes) for sizes in costs.values()} == {1}
    assert is_clean(store)
    assert [image.missing for image in store.images()] == [()]


def test_processes_sharing_layers_fetch_them_once_and_lose_no_name(
    tmp_path: Path, crowd: ProcessGroup
) -> None:
    crowd.add(SHARING, 6)

    costs = fetched(crowd.run())

    store = LocalStore(tmp_path / "store")
    assert {len(sizes) for sizes in costs.values()} == {1}
    assert len(list(store.pulled_names())) == 6
    assert is_clean(store)
    assert store.verify(full=True).is_sound


def test_gc_beside_pulls_and_removals_takes_nothing_from_them(
    tmp_path: Path, crowd: ProcessGroup
) -> None:
    crowd.add(COLLECTING, 4)
    crowd.add(COLLECTOR, 2)

    message = crowd.run()

    # How much the collectors found depends on who ran when; that nothing was lost does not.
    assert message[:4] == [25] * 4
    store = LocalStore(tmp_path / "store")
    assert store.verify(full=True).is_sound
    assert {image.missing for image in store.images()} == {()}
    store.collect(Retention(grace=0))
    assert is_clean(store)
    references = {record.reference for record in store.pulled_names()}
    assert references == {f"localhost/app:{number}" for number in range(4)}
    assert len(held(store)) == 1 + 4 * 3
