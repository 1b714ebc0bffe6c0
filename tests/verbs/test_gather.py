"""All builds of an image: each document requested once, failures in their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.core.platforms.platform import Platform
from resolver.errors import ManifestNotFound, NotFound
from resolver.session import Session
from resolver.verbs.gather import Depth
from tests.kit.images import build_image, build_index, listed_as, multi_platform
from tests.kit.messages import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.registry import FakeRegistry

AMD64, ARM64 = "linux/amd64", "linux/arm64/v8"


def test_gather_requests_each_document_once(registry: FakeRegistry, tmp_path: Path) -> None:
    platforms = [AMD64, ARM64, "linux/arm/v7", "linux/s390x", "windows/amd64:10.0.20348.1"]
    registry.serve("app", "1", multi_platform(*platforms, attestations=True))
    name = f"{registry.host}/app:1"

    with Session(tmp_path) as session:
        found = session._context.gather(session._context.open(name), Depth())
        first = len(registry.log)
        again = session._context.gather(session._context.open(name), Depth())

    assert [str(part.platform) for part in found.images] == platforms
    assert all(part.config is not None for part in found.images)
    assert [part.manifest for part in found.attestations] == [None] * len(platforms)
    assert first == 1 + 2 * len(platforms)
    assert len(registry.log) == first + 1
    assert [part.descriptor for part in again.parts] == [part.descriptor for part in found.parts]


def test_gather_keeps_the_error_of_an_unreadable_entry(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    good, gone = build_image(AMD64), build_image(ARM64)
    registry.serve("app", "1", build_index([good, gone]))
    registry.on("GET", f"/v2/app/manifests/{gone.digest}", Reply(404))

    with Session(tmp_path) as session:
        found = session._context.gather(session._context.open(f"{registry.host}/app:1"), Depth())

    assert [type(part.failure) for part in found.parts] == [type(None), ManifestNotFound]
    # A frame would keep the whole answer in memory, for each of thousands of entries.
    failure = found.parts[1].failure
    assert failure is not None
    assert failure.__traceback__ is None
    with pytest.raises(NotFound):
        found.sound()


def test_gather_places_nested_entries_where_their_index_is(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    inner = build_index([build_image("linux/riscv64")])
    outer = build_index([build_image(AMD64), inner, listed_as(build_image(ARM64), "")])
    registry.serve("app", "1", outer)

    with Session(tmp_path) as session:
        found = session._context.gather(session._context.open(f"{registry.host}/app:1"), Depth())

    assert [part.path for part in found.parts] == [(0,), (1, 0), (2,)]
    assert found.parts[2].platform == Platform.parse(ARM64)


def test_gather_of_a_single_image_has_one_entry(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.serve("app", "1", build_image("linux/arm/v7"))

    with Session(tmp_path) as session:
        found = session._context.gather(
            session._context.open(f"{registry.host}/app:1"), Depth(attestations=True)
        )

    assert found.index is None
    assert [(part.path, str(part.platform)) for part in found.images] == [((), "linux/arm/v7")]
