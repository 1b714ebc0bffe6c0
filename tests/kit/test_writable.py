"""The test registry: each quirk is one, and the log has what was sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import OCI_MANIFEST
from tests.kit.images import build_image, multi_platform
from tests.kit.messages import Reply
from tests.kit.pushes import Pusher, digest_of, with_query
from tests.kit.registry import FakeRegistry
from tests.kit.writable import DATA, Quirks, WritableRegistry, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.pushes import Got

REPOSITORY = "team/app"
CONTENT = bytes(range(256)) * 16
DIGEST = digest_of(CONTENT)
IMAGE = build_image("linux/amd64")
Start = Callable[..., tuple[WritableRegistry, Pusher]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[WritableRegistry] = []

    def begin(**switches: object) -> tuple[WritableRegistry, Pusher]:
        registry = WritableRegistry(tmp_path / "registry", Quirks(**switches))  # type: ignore[arg-type]
        running.append(registry.__enter__())
        return registry, Pusher(registry.host)

    yield begin
    for registry in running:
        registry.__exit__(None, None, None)


def patch(client: Pusher, target: str, start: int, body: bytes) -> Got:
    span = {"Content-Range": f"{start}-{start + len(body) - 1}"}
    return client.ask("PATCH", target, body, span)


def refer(client: Pusher, digest: str) -> Got:
    """Push an artifact that refers to a digest."""
    client.blob(REPOSITORY, b"{}")
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": digest_of(b"{}"),
        "size": 2,
    }
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": empty,
            "layers": [],
            "subject": {"mediaType": OCI_MANIFEST, "digest": digest, "size": 2},
        }
    ).encode()
    return client.manifest(REPOSITORY, digest_of(body), body, OCI_MANIFEST)


def test_every_switch_is_in_the_table() -> None:
    used = {name for row in json.loads(DATA.read_text()) for name in row["switches"]}

    assert used == set(Quirks.__dataclass_fields__) - {"retry_after"}
    names = [row.name for row in rows()]
    assert len(names) == len(set(names))
    assert all(row.registries and row.source for row in rows())


def test_without_quirks_it_is_the_registry_itself(start: Start) -> None:
    registry, client = start()
    image = multi_platform("linux/amd64", "linux/arm64", attestations=True)

    client.image(REPOSITORY, "1", image)

    assert client.ask("GET", f"/v2/{REPOSITORY}/manifests/1").body == image.body
    assert registry.sent("PUT") == sum(map(len, image.blobs.values())) + sum(
        len(body) for _, body in image.documents.values()
    )
    assert {seen.status for seen in registry.requests("PUT")} == {201}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("http://{host}{path}", "http://{host}/v2/"),
        ("//{host}{path}", "//{host}/v2/"),
        ("http://{name}{path}", "http://127.0.0.1/v2/"),
        ("{path}", "/v2/"),
    ],
)
def test_location_forms(start: Start, form: str, expected: str) -> None:
    registry, client = start(location=form)

    got = client.begin(REPOSITORY)

    assert got.headers["location"].startswith(expected.format(host=registry.host))


def test_state_must_be_kept(start: Start) -> None:
    _, client = start(state="_state=A%3D")
    begun = client.begin(REPOSITORY)
    bare = begun.location.partition("?")[0]

    assert client.ask("PUT", f"{bare}?digest={DIGEST}", CONTENT).status == 404
    assert client.ask("PUT", with_query(begun.location, f"digest={DIGEST}"), CONTENT).status == 201


def test_patch_201_drops_later_chunks(start: Start) -> None:
    _, client = start(patch=201)
    location = client.begin(REPOSITORY).location

    assert patch(client, location, 0, CONTENT[:100]).status == 201
    later = patch(client, location, 100, CONTENT[100:])
    assert (later.status, later.headers["range"]) == (201, f"0-{len(CONTENT) - 1}")
    done = client.ask("PUT", with_query(location, f"digest={DIGEST}"), b"")
    assert (done.status, done.code) == (400, "DIGEST_INVALID")


def test_chunk_limits(start: Start) -> None:
    _, client = start(most=1000, least=500)
    begun = client.begin(REPOSITORY)

    assert begun.headers["oci-chunk-min-length"] == "500"
    assert patch(client, begun.location, 0, CONTENT[:1001]).status == 416
    assert patch(client, begun.location, 0, CONTENT[:1000]).status == 202


def test_no_chunks(start: Start) -> None:
    _, client = start(chunks=False)

    assert patch(client, client.begin(REPOSITORY).location, 0, CONTENT).status == 405
    client.blob(REPOSITORY, CONTENT)


@pytest.mark.parametrize(("form", "expected"), [("0-0", "0-0"), ("0-{length}", "0-299")])
def test_range_after_a_chunk(start: Start, form: str, expected: str) -> None:
    _, client = start(range=form)
    location = client.begin(REPOSITORY).location
    patch(client, location, 0, CONTENT[:100])

    assert patch(client, location, 100, CONTENT[100:400]).headers["range"] == expected


@pytest.mark.parametrize(
    ("mounts", "named", "anonymous"),
    [("yes", 201, 201), ("no", 202, 202), ("refused", 405, 405), ("from", 201, 202)],
)
def test_mounts(start: Start, mounts: str, named: int, anonymous: int) -> None:
    _, client = start(mounts=mounts)
    client.blob("team/base", CONTENT)

    assert client.begin("team/a", f"?mount={DIGEST}&from=team/base").status == named
    assert client.begin("team/b", f"?mount={DIGEST}").status == anonymous


def test_head_of_what_is_missing(start: Start) -> None:
    _, client = start(head=403)
    client.blob(REPOSITORY, CONTENT)

    assert client.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{DIGEST}").status == 200
    assert client.ask("HEAD", f"/v2/{REPOSITORY}/manifests/1").status == 403
    assert client.ask("GET", f"/v2/{REPOSITORY}/manifests/1").status == 404


def test_subjects(start: Start) -> None:
    _, client = start(subjects="ignored")
    got = refer(client, IMAGE.digest)

    assert got.status == 201
    assert "oci-subject" not in got.headers
    assert client.ask("GET", f"/v2/{REPOSITORY}/referrers/{IMAGE.digest}").status == 404


def test_subjects_refused(start: Start) -> None:
    _, client = start(subjects="refused")

    assert refer(client, IMAGE.digest).status == 405


def test_sparse_index(start: Start) -> None:
    _, client = start(sparse=True)
    image = multi_platform("linux/amd64", "linux/arm64")

    assert client.manifest(REPOSITORY, "1", image.body, image.media_type).status == 201


def test_entries_of_an_index_are_seen_late(start: Start) -> None:
    _, client = start(late=2)
    image = multi_platform("linux/amd64")
    client.image(REPOSITORY, "amd64", image.children[0])

    def push() -> int:
        return client.manifest(REPOSITORY, "1", image.body, image.media_type).status

    assert [push(), push(), push()] == [404, 404, 201]


def test_immutable_tag(start: Start) -> None:
    _, client = start(immutable=True)
    client.image(REPOSITORY, "1", IMAGE)

    again = client.manifest(REPOSITORY, "1", IMAGE.body, IMAGE.media_type)

    assert (again.status, again.code) == (409, "TAG_INVALID")
    assert client.manifest(REPOSITORY, "2", IMAGE.body, IMAGE.media_type).status == 201


@pytest.mark.parametrize("forgets", [False, True])
def test_upload_after_a_restart(start: Start, forgets: bool) -> None:
    registry, client = start(forgets=forgets)
    location = client.begin(REPOSITORY).location
    patch(client, location, 0, CONTENT[:100])

    registry.restart()

    assert client.ask("GET", location).status == (404 if forgets else 204)


def test_manifest_is_answered_202(start: Start) -> None:
    _, client = start(manifest=202)
    for blob in IMAGE.blobs.values():
        client.blob(REPOSITORY, blob)

    assert client.manifest(REPOSITORY, "1", IMAGE.body, IMAGE.media_type).status == 202
    assert client.ask("GET", f"/v2/{REPOSITORY}/manifests/1").status == 200


def test_repository_must_exist(start: Start) -> None:
    _, client = start(exists=("team/app",))
    client.image(REPOSITORY, "1", IMAGE)

    assert client.begin("team/other").status == 404


def test_fallback_tag_answers_with_the_subject(start: Start) -> None:
    _, client = start(subject_tag=True)
    client.image(REPOSITORY, "1", IMAGE)
    tag = IMAGE.digest.replace(":", "-")

    assert client.ask("GET", f"/v2/{REPOSITORY}/manifests/{tag}").body == IMAGE.body


def test_cancel_is_refused(start: Start) -> None:
    _, client = start(cancels=False)
    location = client.begin(REPOSITORY).location

    assert client.ask("DELETE", location).status == 403
    assert client.ask("GET", location).status == 204


def test_busy_manifests(start: Start) -> None:
    _, client = start(busy=1, retry_after="7")
    for blob in IMAGE.blobs.values():
        client.blob(REPOSITORY, blob)

    got = client.manifest(REPOSITORY, "1", IMAGE.body, IMAGE.media_type)

    assert (got.status, got.headers["retry-after"]) == (429, "7")
    assert client.manifest(REPOSITORY, "1", IMAGE.body, IMAGE.media_type).status == 201


def test_body_limit(start: Start) -> None:
    _, client = start(body=1000)
    location = client.begin(REPOSITORY).location

    assert client.ask("PUT", with_query(location, f"digest={DIGEST}"), CONTENT).status == 413


def test_sha512_is_refused(start: Start) -> None:
    _, client = start(sha512=False)
    location = client.begin(REPOSITORY).location
    digest = digest_of(CONTENT, "sha512")

    got = client.ask("PUT", with_query(location, f"digest={digest}"), CONTENT)

    assert (got.status, got.code) == (400, "DIGEST_INVALID")


def test_scripts_and_gates_come_first(start: Start) -> None:
    registry, client = start()
    registry.on("GET", "/v2/", Reply(503), times=1)
    tokens = registry.bearer()

    assert client.ask("GET", "/v2/").status == 503
    refused = client.ask("GET", "/v2/")
    assert (refused.status, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
    assert client.ask("GET", "/token?scope=a").json["token"] == "T0KEN-1"
    assert tokens.scopes == [("a",)]
    allowed = Pusher(registry.host, {"Authorization": "Bearer T0KEN-1"})
    assert allowed.begin(REPOSITORY).status == 202


def test_log_is_that_of_the_scripted_fake(start: Start) -> None:
    registry, _ = start()
    with FakeRegistry(strict=False) as fake:
        for host in (registry.host, fake.host):
            Pusher(host).ask("PUT", "/v2/a%2Fb/x?y=1", CONTENT, {"X": "1"})
        ours, theirs = registry.log[0], fake.log[0]

    for name in ("method", "path", "query", "body", "raw_target"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.headers["x"] == theirs.headers["x"]
