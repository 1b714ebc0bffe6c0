"""Contract of `core.content.Source`, for every local source.

To let a new place be tested, write how to fill it with an image and add a row to `PLACES`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.target import LayoutTarget
from resolver.errors import NotFound, Untrusted
from resolver.sources import SOURCES, open_local
from resolver.sources.credentials.chain import CredentialChain
from resolver.sources.http.client import Transport, TransportOptions
from resolver.sources.registry.repository import RegistrySource
from resolver.store import LocalStore, NameRecord
from tests.kit.archives import tar_of
from tests.kit.engines import engine_at, program, running_engine
from tests.kit.images import build_layer, multi_platform
from tests.kit.layouts import write_layout
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from resolver.core.oci.content import Source

NAME = "docker.io/team/app:1.0"
IMAGE = multi_platform("linux/amd64", "linux/arm64")
#: Larger than any chunk, so that a stream can be left half-way.
LARGE = build_layer({"large": Random(1).randbytes(4 << 20)})
ABSENT = Descriptor(OCI_MANIFEST, Digest.of(b"absent"), 6)


@dataclass(frozen=True)
class Place:
    """An open place that holds `IMAGE` and `LARGE`; `name` is what it calls the image."""

    source: Source
    name: str


@contextmanager
def in_a_store(folder: Path) -> Iterator[Place]:
    """Fill a store."""
    store = LocalStore(folder / "store", fsync=False)
    for digest, (media_type, body) in IMAGE.documents.items():
        descriptor = Descriptor(media_type, Digest.parse(digest), len(body))
        store.add_document(Document(descriptor, body))
    for body in (*IMAGE.blobs.values(), LARGE):
        store.add(Descriptor("", Digest.of(body), len(body)), [body])
    store.remember(NameRecord(NAME, IMAGE.descriptor))
    yield Place(store, NAME)


def layout_in(folder: Path) -> Path:
    (folder / "layout").mkdir()
    path = write_layout(folder / "layout", {"1.0": IMAGE})
    (path / "blobs" / "sha256" / Digest.of(LARGE).hex).write_bytes(LARGE)
    return path


def in_a_layout(kind: str) -> Callable[[Path], AbstractContextManager[Place]]:
    """Fill a folder or an archive; current `docker save` also writes an OCI layout."""

    @contextmanager
    def fill(folder: Path) -> Iterator[Place]:
        path = layout_in(folder)
        if kind != "oci":
            (folder / "archive.tar").write_bytes(tar_of(path))
            path = folder / "archive.tar"
        yield Place(open_local(LayoutTarget(kind, str(path), "1.0")), "1.0")

    return fill


@contextmanager
def in_a_docker_engine(folder: Path) -> Iterator[Place]:
    """Fill an engine that saves images as OCI layouts."""
    with running_engine(folder) as engine:
        engine.answers = {"/images/app:1.0/get": tar_of(layout_in(folder))}
        target = LayoutTarget("docker-daemon", "app:1.0", None)
        yield Place(open_local(target, engine_at(folder)), "1.0")


@contextmanager
def in_podman(folder: Path) -> Iterator[Place]:
    """Fill a storage that podman reads."""
    (folder / "saved.tar").write_bytes(tar_of(layout_in(folder)))
    environment = program(folder, "podman", 'cat "$OUT/saved.tar"')
    target = LayoutTarget("containers-storage", "app:1.0", None)
    yield Place(open_local(target, environment), "1.0")


@contextmanager
def in_a_registry(_folder: Path) -> Iterator[Place]:
    """Fill a registry and return its source over plain HTTP."""
    options = TransportOptions(plain_http=True)
    with (
        FakeRegistry() as registry,
        Transport(options, CredentialChain({}, None, anonymous=True)) as transport,
    ):
        registry.serve("team/app", "1.0", IMAGE)
        registry.shelves.repositories["team/app"].blobs[str(Digest.of(LARGE))] = LARGE
        yield Place(RegistrySource(transport, registry.host, "team/app"), "1.0")


#: Every local source.
PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "oci": in_a_layout("oci"),
    "oci-archive": in_a_layout("oci-archive"),
    "docker-archive": in_a_layout("docker-archive"),
    "docker-daemon": in_a_docker_engine,
    "containers-storage": in_podman,
    "store": in_a_store,
    "registry": in_a_registry,
}


@pytest.fixture(params=PLACES.values(), ids=list(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    fill: Callable[[Path], AbstractContextManager[Place]] = request.param
    with fill(tmp_path) as filled:
        yield filled


def content(body: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(body), len(body))


def bytes_of(source: Source, descriptor: Descriptor) -> bytes:
    with source.open(descriptor) as chunks:
        return b"".join(chunks)


def test_every_local_source_has_samples() -> None:
    assert set(SOURCES) <= set(PLACES)


def test_resolved_name_can_be_opened_and_verifies(place: Place) -> None:
    found = place.source.resolve(place.name)

    assert (found.media_type, found.digest, found.size) == (
        IMAGE.media_type,
        Digest.parse(IMAGE.digest),
        IMAGE.size,
    )
    body = bytes_of(place.source, found)
    assert Digest.of(body) == found.digest
    assert len(body) == found.size


def test_digest_text_is_resolved_to_itself(place: Place) -> None:
    for text, (media_type, body) in IMAGE.documents.items():
        found = place.source.resolve(text)
        assert (str(found.digest), found.media_type) == (text, media_type)
        assert found.size == len(body)


def test_document_is_read_by_name_and_digest_with_its_type(place: Place) -> None:
    for name in (place.name, IMAGE.digest):
        document = place.source.document(name)
        assert document.body == IMAGE.body
        assert document.descriptor == IMAGE.descriptor


def test_content_of_a_document_is_readable(place: Place) -> None:
    for child in IMAGE.children:
        assert place.source.read(child.descriptor) == child.body
    for body in IMAGE.blobs.values():
        assert place.source.read(content(body)) == body


def test_held_content_opens_and_other_content_does_not(place: Place) -> None:
    held = [IMAGE.descriptor, content(LARGE), *map(content, IMAGE.blobs.values())]
    for descriptor in held:
        assert place.source.has(descriptor)
        assert Digest.of(bytes_of(place.source, descriptor)) == descriptor.digest

    assert not place.source.has(ABSENT)
    with pytest.raises(NotFound):
        bytes_of(place.source, ABSENT)
    with pytest.raises(NotFound):
        place.source.read(ABSENT)


@pytest.mark.parametrize("ask", ["resolve", "document"])
def test_unknown_name_is_not_found(place: Place, ask: str) -> None:
    asked = getattr(place.source, ask)
    for name in (f"{place.name}-absent", str(ABSENT.digest)):
        with pytest.raises(NotFound):
            asked(name)


def test_source_content_of_a_wrong_size_is_untrusted(place: Place) -> None:
    good = IMAGE.descriptor
    for size in (good.size - 1, good.size + 1, 5_000_000):
        with pytest.raises(Untrusted):
            place.source.read(Descriptor(good.media_type, good.digest, size))


def test_unfinished_stream_releases_its_resources(place: Place) -> None:
    def leave() -> None:
        with place.source.open(content(LARGE)) as chunks:
            next(chunks)

    leave()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count of open files
    for _ in range(20):
        leave()
    after = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as above

    assert after <= before + 4
    assert bytes_of(place.source, content(LARGE)) == LARGE


def test_threads_can_read_concurrently(place: Place) -> None:
    wanted = [*map(content, IMAGE.blobs.values()), content(LARGE)] * 3

    with ThreadPoolExecutor(6) as pool:
        bodies = pool.map(lambda descriptor: bytes_of(place.source, descriptor), wanted)
        assert [Digest.of(body) for body in bodies] == [want.digest for want in wanted]


def test_names_are_listed(place: Place) -> None:
    assert list(place.source.tags()) == [place.name]


def test_valid_source_has_no_warnings(place: Place) -> None:
    place.source.document(place.name)

    assert place.source.warnings() == ()
