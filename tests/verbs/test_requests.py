"""The requests that each operation costs, counted at the registry."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import parse_document
from resolver.core.results.resolve import Resolution
from resolver.session import Session
from resolver.verbs.documents import _select
from tests.kit.images import build_image, build_index, multi_platform
from tests.kit.registry import FakeRegistry, Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.oci.manifest import Index, Manifest
    from tests.kit.images import Image


@pytest.fixture(scope="module")
def image() -> Image:
    return multi_platform("linux/amd64", "linux/arm64/v8", "linux/arm/v7")


@pytest.fixture
def registry(image: Image) -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve("team/app", "1.0", image)
        yield fake


#: Requests of each registry that `cost` has returned already.
_TOLD: WeakKeyDictionary[FakeRegistry, int] = WeakKeyDictionary()


@contextmanager
def session(tmp_path: Path, **more: object) -> Iterator[Session]:
    with Session(tmp_path / "store", environment={}, **more) as opened:  # type: ignore[arg-type]  # as given
        yield opened


def cost(registry: FakeRegistry) -> list[str]:
    """Every request since the last call, as `METHOD last-part-of-path`."""
    output = _TOLD.get(registry, 0)
    new = registry.log[output:]
    _TOLD[registry] = output + len(new)
    return [f"{seen.method} {seen.path.rpartition('/v2/team/')[2]}" for seen in new]


def test_resolve_unknown_tag_costs_one_get(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    with session(tmp_path) as asked:
        found = asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")

    assert cost(registry) == ["GET app/manifests/1.0"]
    assert str(found.manifest.digest) == image.child("linux/arm64/v8").digest


def test_resolve_another_platform_of_a_tag_costs_one_head(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    with session(tmp_path) as asked:
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")
        cost(registry)
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/amd64")

    assert cost(registry) == ["HEAD app/manifests/1.0"]


def test_resolve_known_tag_costs_one_head_in_the_next_process(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    with session(tmp_path) as first:
        first.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")
    cost(registry)

    with session(tmp_path) as second:
        second.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")

    assert cost(registry) == ["HEAD app/manifests/1.0"]


def test_resolve_moved_tag_costs_head_and_get_by_digest(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    moved = build_index([build_image("linux/arm64", config={"author": "release 2"})])
    with session(tmp_path) as asked:
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")
        cost(registry)
        registry.serve("team/app", "1.0", moved)
        found = asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")

    assert cost(registry) == ["HEAD app/manifests/1.0", f"GET app/manifests/{moved.digest}"]
    assert found.index is not None
    assert str(found.index.digest) == moved.digest


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_resolve_with_a_false_digest_header_is_stable(
    registry: FakeRegistry, tmp_path: Path, image: Image, algorithm: str
) -> None:
    # The bytes count and not the header, also the second time: docs/wire-protocol.md,
    # "Wrong digest headers".
    lie = f"{algorithm}:{'1' * (64 if algorithm == 'sha256' else 128)}"
    media_type, body = image.documents[image.digest]
    headers = {"Content-Type": media_type, "Docker-Content-Digest": lie}
    registry.on("*", "/v2/team/app/manifests/1.0", Reply(200, headers, body))
    with session(tmp_path) as asked:
        answers = [asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64") for _ in range(3)]
        pinned = f"{registry.host}/team/app:1.0@{image.digest}"
        verified = asked.resolve(pinned, "linux/arm64", verify_tag=True)

    assert {str(found.index.digest) for found in answers if found.index} == {image.digest}
    assert verified.tag_verified


def test_resolve_accepts_a_correct_header_of_another_algorithm(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    media_type, body = image.documents[image.digest]
    other = str(Digest.of(body, "sha512"))
    headers = {"Content-Type": media_type, "Docker-Content-Digest": other}
    with session(tmp_path) as asked:
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")
        registry.on("HEAD", "/v2/team/app/manifests/1.0", Reply(200, headers, body))
        cost(registry)
        found = asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")

    assert cost(registry) == ["HEAD app/manifests/1.0"]
    assert found.index is not None
    assert str(found.index.digest) == other


def test_resolve_held_digest_sends_no_request(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    pinned = f"{registry.host}/team/app@{image.digest}"
    with session(tmp_path) as asked:
        asked.resolve(pinned, "linux/arm64")
        assert cost(registry) == [f"GET app/manifests/{image.digest}"]
        asked.resolve(pinned, "linux/amd64")

    assert cost(registry) == []


def test_resolve_tag_with_digest_never_requests_the_tag(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    with session(tmp_path) as asked:
        asked.resolve(f"{registry.host}/team/app:elsewhere@{image.digest}", "linux/arm64")

    assert cost(registry) == [f"GET app/manifests/{image.digest}"]


def test_resolve_manifest_and_config_cost_one_request_each(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    arm = image.child("linux/arm64/v8")
    with session(tmp_path) as asked:
        asked.inspect(f"{registry.host}/team/app:1.0", "linux/arm64", config=False)
        assert cost(registry) == ["GET app/manifests/1.0", f"GET app/manifests/{arm.digest}"]
        asked.inspect(f"{registry.host}/team/app:1.0", "linux/arm64")

    requests = cost(registry)
    assert requests[0] == "HEAD app/manifests/1.0"
    assert [line.partition("/blobs/")[0] for line in requests[1:]] == ["GET app"]


def test_platforms_reads_each_manifest_once_and_nothing_when_warm(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    images = [child for child in image.children if not child.attestation_of]
    with session(tmp_path) as asked:
        asked.platforms(f"{registry.host}/team/app:1.0")
        assert len(cost(registry)) == 1 + len(images)
        asked.platforms(f"{registry.host}/team/app:1.0")
        assert cost(registry) == ["HEAD app/manifests/1.0"]
        asked.platforms(f"{registry.host}/team/app:1.0", sizes=False)

    assert cost(registry) == ["HEAD app/manifests/1.0"]


def test_resolve_parses_the_document_of_a_tag_once(
    registry: FakeRegistry, tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []

    def noted(
        body: bytes, content_type: str | None, what: str, expected: str | None = None
    ) -> Index | Manifest:
        parsed.append(body)
        return parse_document(body, content_type, what, expected)

    for place in ("resolver.sources.registry.repository", "resolver.verbs.documents"):
        monkeypatch.setattr(f"{place}.parse_document", noted)
    with session(tmp_path) as asked:
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")

    assert parsed == [image.documents[image.digest][1]]


def test_resolve_ranks_the_same_platforms_once(registry: FakeRegistry, tmp_path: Path) -> None:
    release = build_index(
        [build_image(name, config={"author": "2"}) for name in ("linux/amd64", "linux/arm64/v8")]
    )
    older = build_index([build_image(name) for name in ("linux/amd64", "linux/arm64/v8")])
    registry.serve("team/app", "2.0", release)
    registry.serve("team/app", "1.9", older)
    names = [f"{registry.host}/team/app:{tag}" for tag in ("1.9", "2.0")]
    _select.cache_clear()
    with session(tmp_path) as asked:
        found = [asked.resolve(name, "linux/arm64") for name in names]

    assert _select.cache_info().misses == 1
    assert [str(one.manifest.digest) for one in found] == [
        each.child("linux/arm64/v8").digest for each in (older, release)
    ]


def test_resolve_several_platforms_costs_as_much_as_one(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    with session(tmp_path) as asked:
        wanted = ["linux/amd64", "linux/arm64", "linux/arm/v7"]
        found = list(asked.resolve_each([f"{registry.host}/team/app:1.0"], wanted))

    assert len(found) == 3
    assert cost(registry) == ["GET app/manifests/1.0"]


def test_resolve_a_hundred_references_in_a_repository_needs_one_token(
    image: Image, tmp_path: Path
) -> None:
    with FakeRegistry() as registry:
        for number in range(100):
            registry.serve("team/app", f"t{number}", image)
        tokens = registry.bearer()
        with session(tmp_path) as asked:
            names = [f"{registry.host}/team/app:t{number}" for number in range(100)]
            found = list(asked.resolve_each(names, ["linux/arm64"]))

        assert all(isinstance(each, Resolution) for each in found)
        assert [each.reference for each in found] == names
        assert tokens.count == 1


def test_resolve_never_pings(registry: FakeRegistry, tmp_path: Path) -> None:
    with session(tmp_path) as asked:
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")
        list(asked.tags(f"{registry.host}/team/app"))

    assert [seen.path for seen in registry.log if seen.path == "/v2/"] == []


def test_resolve_refetches_content_the_store_lost(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    with session(tmp_path) as asked:
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")
        algorithm, _, digits = image.digest.partition(":")
        held = tmp_path / "store" / "blobs" / algorithm / digits
        held.chmod(0o644)
        held.write_bytes(b"")
        cost(registry)

        found = asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")

    assert found.index is not None
    assert cost(registry) == ["GET app/manifests/1.0"]
    assert held.read_bytes() == image.body


def test_resolve_verify_tag_costs_one_more_head(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    with session(tmp_path) as asked:
        pinned = f"{registry.host}/team/app:1.0@{image.digest}"
        found = asked.resolve(pinned, "linux/arm64", verify_tag=True)

    assert found.tag_verified is True
    assert sorted(cost(registry)) == [
        f"GET app/manifests/{image.digest}",
        "HEAD app/manifests/1.0",
    ]


def test_resolve_falls_back_to_get_when_head_is_empty(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    def silent(seen: Seen) -> Reply:
        del seen
        return Reply(405)

    with session(tmp_path) as asked:
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")
        cost(registry)
        registry.on("HEAD", "/v2/team/app/manifests/1.0", silent)
        asked.resolve(f"{registry.host}/team/app:1.0", "linux/arm64")

    assert cost(registry) == ["HEAD app/manifests/1.0", "GET app/manifests/1.0"]
