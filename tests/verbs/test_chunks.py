"""A missing layer is rebuilt from the chunks of a held one: bytes, requests, and every fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.results.plan import ChunkReuse, Plan
from resolver.session import Session
from tests.core.layers.test_chunked import STATED
from tests.kit.chunked import FORMATS, ChunkedLayer, chunked_image, real_layer
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.events import Event

REPOSITORY = "team/app"


class Setup:
    """A registry with two versions of an image, and a store that has the first."""

    def __init__(self, registry: FakeRegistry, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.events: list[Event] = []
        self.session = Session(folder, environment={}, observe=self.events.append)

    def serve(self, tag: str, *layers: ChunkedLayer) -> None:
        self.registry.serve(REPOSITORY, tag, chunked_image(*layers))

    def name(self, tag: str) -> str:
        return f"{self.registry.host}/{REPOSITORY}:{tag}"

    def wire(self, layer: ChunkedLayer) -> tuple[int, int]:
        """Return bytes and requests that a layer has taken so far."""
        path = f"/v2/{REPOSITORY}/blobs/{layer.digest}"
        seen = [each for each in self.registry.requests("GET") if each.path == path]
        return sum(_length(each.headers.get("range", ""), layer) for each in seen), len(seen)

    def held(self, layer: ChunkedLayer) -> bytes:
        digest = Digest.parse(layer.digest)
        return (self.folder / "blobs" / digest.algorithm / digest.hex).read_bytes()

    def reuse(self, plan: Plan, layer: ChunkedLayer) -> ChunkReuse | None:
        return next(
            piece.reuse for piece in plan.pieces if str(piece.descriptor.digest) == layer.digest
        )


def _length(asked: str, layer: ChunkedLayer) -> int:
    if not asked:
        return len(layer.body)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    return int(last) + 1 - int(first)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with FakeRegistry() as registry:
        made = Setup(registry, tmp_path / "store")
        with made.session:
            yield made


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("gap", [0, 16, 64, 128])
def test_second_version_is_rebuilt_with_the_bytes_and_requests_of_the_plan(
    setup: Setup, form: str, gap: int
) -> None:
    old, new = real_layer("v1", form), real_layer("v2", form)
    setup.serve("1", old)
    setup.serve("2", new)
    setup.session.pull(setup.name("1"))
    plan = setup.session.plan(setup.name("2"), chunks="always", chunk_gap=gap << 10)
    done = setup.session.pull(plan)

    assert setup.held(new) == new.body
    reuse = setup.reuse(plan, new)
    assert reuse is not None
    assert [str(one.digest) for one in reuse.sources] == [old.digest]
    size, requests = setup.wire(new)
    assert (reuse.missing, reuse.requests) == (size, requests)
    assert plan.bytes_missing == done.bytes_fetched
    if form in STATED:
        percent, stated = STATED[form][gap]
        assert (round(100 * size / len(new.body), 1), requests) == (percent, stated)
    assert not setup.session.verify(full=True).damaged
