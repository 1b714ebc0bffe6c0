"""One repository behind several endpoints: which is requested, and the errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.registry.endpoints import (
    BY_DIGEST,
    EVERYTHING,
    Ability,
    Endpoint,
    HostSettings,
    upstream,
)
from resolver.errors import BlobNotFound, Unavailable
from resolver.sources.http.client import MAX_WRONG, PAUSE, Health
from resolver.sources.registry.mirrored import MirroredSource
from resolver.sources.registry.repository import RegistrySource
from tests.kit.clients import FakeClock, transport
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.events import Event

REPOSITORY = "team/app"
IMAGE = build_image()
DIGEST, BODY = next(iter(IMAGE.blobs.items()))
BLOB = Descriptor("application/octet-stream", Digest.parse(DIGEST), len(BODY))
PATH = f"/v2/{REPOSITORY}/blobs/{DIGEST}"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve(REPOSITORY, "1", IMAGE)
        yield fake


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve(REPOSITORY, "1", IMAGE)
        yield fake


def at(host: str, abilities: frozenset[Ability] = BY_DIGEST) -> Endpoint:
    settings = HostSettings(scheme="http")
    return Endpoint(host, REPOSITORY, host, abilities=abilities, settings=settings)


@contextmanager
def mirrored(
    *endpoints: Endpoint, clock: FakeClock | None = None, events: list[Event] | None = None
) -> Iterator[MirroredSource]:
    with transport(clock=clock, events=events) as wire:
        last = endpoints[-1]
        sources = [
            RegistrySource(
                wire, "logical.test", REPOSITORY, endpoint=one, attempts=None if one is last else 1
            )
            for one in endpoints
        ]
        yield MirroredSource(f"logical.test/{REPOSITORY}", sources, wire.health, wire.observe)


def test_content_is_requested_from_the_mirror_first(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    with mirrored(at(mirror.host), upstream(registry.host, REPOSITORY)) as source:
        assert source.has(BLOB)
        assert source.size(BLOB.digest) == len(BODY)
        with source.open(BLOB) as chunks:
            parts = list(chunks)
        assert {type(part) for part in parts} == {bytes}
        assert b"".join(parts) == BODY
        assert source.read(IMAGE.descriptor) == IMAGE.body
        assert source.resolve(IMAGE.digest).digest == IMAGE.descriptor.digest
        assert source.document(IMAGE.digest).body == IMAGE.body
    assert registry.log == []


def test_tags_are_requested_upstream_unless_allowed(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    for abilities, asked in ((BY_DIGEST, registry), (EVERYTHING, mirror)):
        before = len(asked.log)
        with mirrored(at(mirror.host, abilities), upstream(registry.host, REPOSITORY)) as source:
            assert source.resolve("1").digest == IMAGE.descriptor.digest
            assert source.document("1").body == IMAGE.body
            assert list(source.tags()) == ["1"]
        assert len(asked.log) == before + 3


def test_content_missing_from_a_mirror_is_requested_upstream(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    missing = Descriptor("application/octet-stream", Digest.of(b"none"), 4)
    mirror.on("HEAD", PATH, Reply(404))
    with mirrored(at(mirror.host), upstream(registry.host, REPOSITORY)) as source:
        assert source.has(BLOB)
        assert not source.has(missing)
        with pytest.raises(BlobNotFound):
            source.size(missing.digest)


def test_warnings_of_all_endpoints_are_reported_once(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    for fake in (registry, mirror):
        headers = {"Warning": '299 - "old"', "Content-Length": str(len(BODY))}
        fake.on("HEAD", PATH, Reply(404 if fake is mirror else 200, headers, content_length=False))
    with mirrored(at(mirror.host), upstream(registry.host, REPOSITORY)) as source:
        assert source.has(BLOB)
        assert source.warnings() == ("old",)


def test_failed_mirror_is_tried_again_after_a_minute(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    clock = FakeClock()
    mirror.on("HEAD", PATH, Reply(503), times=1)
    with mirrored(at(mirror.host), upstream(registry.host, REPOSITORY), clock=clock) as source:
        for _ in range(3):
            assert source.has(BLOB)
        assert len(mirror.log) == 1
        clock.now += PAUSE
        assert source.has(BLOB)
        assert (len(mirror.log), len(registry.log)) == (2, 3)


def test_last_endpoint_is_always_tried(mirror: FakeRegistry) -> None:
    mirror.on("HEAD", PATH, Reply(403))
    with mirrored(at(mirror.host, EVERYTHING), at(mirror.host, EVERYTHING)) as source:
        for _ in range(2):
            with pytest.raises(Exception, match="does not exist or access denied"):
                source.has(BLOB)
    assert len(mirror.log) == 4


def test_no_endpoint_is_requested_without_the_capability(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    with (
        mirrored(at(mirror.host), at(registry.host)) as source,
        pytest.raises(Unavailable) as caught,
    ):
        source.resolve("1")
    assert caught.value.code == "nobody-to-ask"
    assert mirror.log == registry.log == []


def test_broken_stream_comes_from_the_next_endpoint(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    events: list[Event] = []
    mirror.on("GET", PATH, Reply(200, body=BODY, truncate=3))
    last = upstream(registry.host, REPOSITORY)
    with mirrored(at(mirror.host), last, events=events) as source:
        with pytest.raises(Unavailable), source.open(BLOB) as chunks:
            b"".join(chunks)
        with source.open(BLOB) as chunks:
            assert b"".join(chunks) == BODY
    assert len(registry.log) == 1


def test_endpoint_with_wrong_bytes_is_not_requested_again(
    registry: FakeRegistry, mirror: FakeRegistry
) -> None:
    with mirrored(at(mirror.host), upstream(registry.host, REPOSITORY)) as source:
        with source.open(BLOB) as chunks:
            b"".join(chunks)
        assert source.distrust(BLOB.digest)
        with source.open(BLOB) as chunks:
            b"".join(chunks)
        # The last endpoint has no fallback.
        assert not source.distrust(BLOB.digest)
    assert (len(mirror.log), len(registry.log)) == (1, 1)


def test_endpoint_is_disabled_after_several_wrong_answers() -> None:
    health, endpoint = Health(FakeClock()), at("m.test")
    digests = [Digest.of(bytes([number])) for number in range(MAX_WRONG)]
    for digest in digests:
        assert health.may_ask(endpoint, Digest.of(b"other"))
        assert health.report_wrong_content(endpoint, digest)
        assert not health.report_wrong_content(endpoint, digest)
    assert not health.may_ask(endpoint, Digest.of(b"other"))
