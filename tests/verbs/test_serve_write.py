"""`serve --writable`: each row of the OCI conformance suite, and what a store promises."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import bcrypt
import pytest

from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import Digest
from resolver.core.results.store import Retention
from resolver.demo.builders import write_json
from resolver.errors import InvalidConfiguration, Usage
from resolver.session import Session
from resolver.store import LocalStore
from resolver.store.uploads import UploadBusy
from resolver.verbs.serve.serve import serve_store, serve_writable
from resolver.verbs.serve.write import WriteOptions
from tests.kit.exports import AMD64, ARM64, app, stocked
from tests.kit.images import build_image, build_index, from_dict, multi_platform, named_by
from tests.kit.layouts import write_layout
from tests.kit.pushes import BINARY, Pusher, digest_of, with_query
from tests.kit.stored_images import pull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.verbs.serve.server import Server
    from tests.kit.images import Image

REPOSITORY = "team/app"
CONTENT = bytes(range(256)) * 40
DIGEST = digest_of(CONTENT)
UNKNOWN = "sha256:" + "0" * 64
SBOM = "application/vnd.example.sbom"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}


class Tick:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        raise AssertionError((seconds, stop))

    def chance(self) -> float:
        return 0.5


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", fsync=False)


@pytest.fixture
def server(store: LocalStore) -> Iterator[Server]:
    with serve_writable(store) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Pusher:
    return Pusher(server.address)


def blob_path(digest: str = DIGEST, repository: str = REPOSITORY) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def manifest_path(name: str, repository: str = REPOSITORY) -> str:
    return f"/v2/{repository}/manifests/{name}"


def referrer(subject: Image, kind: str = SBOM, **annotations: str) -> Image:
    """Make an artifact that refers to an image."""
    return from_dict(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": EMPTY,
            "layers": [EMPTY],
            "subject": {
                "mediaType": subject.media_type,
                "digest": subject.digest,
                "size": subject.size,
            },
            "annotations": annotations,
        },
        blobs=[b"{}"],
    )


# --- the rows of the conformance suite -----------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["bytes", "empty"])
def test_push_blob_post_put(client: Pusher, algorithm: str, content: bytes) -> None:
    begun = client.begin(REPOSITORY)
    digest = digest_of(content, algorithm)
    done = client.ask("PUT", with_query(begun.location, f"digest={digest}"), content, BINARY)

    assert (begun.status, begun.headers["range"]) == (202, "0-0")
    assert (done.status, done.headers["docker-content-digest"]) == (201, digest)
    got = client.ask("GET", done.location)
    assert (got.status, got.body) == (200, content)
    head = client.ask("HEAD", blob_path(digest))
    assert (head.status, head.headers["content-length"]) == (200, str(len(content)))


def test_push_blob_post_only(client: Pusher) -> None:
    done = client.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={DIGEST}", CONTENT, BINARY)

    assert (done.status, done.location) == (201, blob_path())
    assert client.ask("GET", blob_path()).body == CONTENT


@pytest.mark.parametrize("last_in_put", [False, True])
def test_push_blob_patch_chunked(client: Pusher, last_in_put: bool) -> None:
    location = client.begin(REPOSITORY).location
    chunks = [CONTENT[at : at + 4096] for at in range(0, len(CONTENT), 4096)]
    sent = 0
    for chunk in chunks[:-1] if last_in_put else chunks:
        span = {**BINARY, "Content-Range": f"{sent}-{sent + len(chunk) - 1}"}
        got = client.ask("PATCH", location, chunk, span)
        sent += len(chunk)
        assert (got.status, got.headers["range"]) == (202, f"0-{sent - 1}")
        location = got.location
    rest = CONTENT[sent:]
    span = {"Content-Range": f"{sent}-{len(CONTENT) - 1}"} if rest else {}
    done = client.ask("PUT", with_query(location, f"digest={DIGEST}"), rest, {**BINARY, **span})

    assert done.status == 201
    assert client.ask("GET", blob_path()).body == CONTENT


@pytest.mark.parametrize("begin", [4095, 4097, 0, 9000])
def test_chunk_out_of_order_is_416_and_the_session_says_where_to_go_on(
    client: Pusher, begin: int
) -> None:
    location = client.begin(REPOSITORY).location
    client.ask("PATCH", location, CONTENT[:4096], {"Content-Range": "0-4095"})
    chunk = CONTENT[begin:]
    got = client.ask("PATCH", location, chunk, {"Content-Range": f"{begin}-{len(CONTENT) - 1}"})
    state = client.ask("GET", location)

    assert (got.status, got.headers["range"]) == (416, "0-4095")
    assert (state.status, state.headers["range"], state.body) == (204, "0-4095", b"")
    rest = {"Content-Range": f"4096-{len(CONTENT) - 1}"}
    put = with_query(state.location, f"digest={DIGEST}")
    assert client.ask("PUT", put, CONTENT[4096:], rest).status == 201


def test_chunk_with_a_length_unlike_its_range_is_refused(client: Pusher) -> None:
    location = client.begin(REPOSITORY).location

    got = client.ask("PATCH", location, CONTENT[:10], {"Content-Range": "0-10"})

    assert (got.status, got.code) == (400, "SIZE_INVALID")


def test_push_blob_patch_stream(client: Pusher) -> None:
    location = client.begin(REPOSITORY).location
    pieces = iter([CONTENT[:1000], CONTENT[1000:1001], CONTENT[1001:]])

    got = client.ask("PATCH", location, pieces)

    assert (got.status, got.headers["range"]) == (202, f"0-{len(CONTENT) - 1}")
    put = with_query(got.location, f"digest={DIGEST}")
    assert client.ask("PUT", put, b"").status == 201
    assert client.ask("GET", blob_path()).body == CONTENT


@pytest.mark.parametrize("how", ["post", "put", "patch", "stream"])
def test_push_blob_with_another_digest_is_refused(
    client: Pusher, store: LocalStore, how: str
) -> None:
    wrong = CONTENT + b"!"
    if how == "post":
        got = client.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={DIGEST}", wrong)
    else:
        location = client.begin(REPOSITORY).location
        rest: bytes = wrong
        if how != "put":
            body = iter([wrong]) if how == "stream" else wrong
            location = client.ask("PATCH", location, body).location
            rest = b""
        got = client.ask("PUT", with_query(location, f"digest={DIGEST}"), rest)

    assert (got.status, got.code) == (400, "DIGEST_INVALID")
    assert client.ask("HEAD", blob_path()).status == 404
    assert store.load(Digest.parse(DIGEST)) is None
    assert store.load(Digest.parse(digest_of(wrong))) is None


def test_push_blob_with_a_digest_algorithm_named_at_the_start(client: Pusher) -> None:
    digest = digest_of(CONTENT, "sha512")
    location = client.begin(REPOSITORY, "?digest-algorithm=sha512").location
    location = client.ask("PATCH", location, CONTENT).location

    assert client.ask("PUT", with_query(location, f"digest={digest}"), b"").status == 201
    assert client.begin(REPOSITORY, "?digest-algorithm=md5").status == 400


def test_mount_blob_from_another_repository(client: Pusher) -> None:
    client.blob("team/base", CONTENT)
    assert client.ask("HEAD", blob_path()).status == 404

    got = client.begin(REPOSITORY, f"?mount={quote(DIGEST)}&from=team/base")

    assert (got.status, got.location) == (201, blob_path())
    assert client.ask("GET", blob_path()).body == CONTENT


def test_mount_blob_anonymous(client: Pusher) -> None:
    client.blob("team/base", CONTENT)

    assert client.begin(REPOSITORY, f"?mount={DIGEST}").status == 201
    assert client.ask("GET", blob_path()).body == CONTENT


def test_mount_blob_of_a_pulled_image(tmp_path: Path) -> None:
    image = app()
    layer = next(iter(image.blobs))
    with serve_writable(stocked(tmp_path, app=image)) as server:
        client = Pusher(server.address)
        query = f"?mount={layer}&from=docker.io/library/app"

        assert client.begin(REPOSITORY, query).status == 201
        assert client.ask("GET", blob_path(layer)).body == image.blobs[layer]


@pytest.mark.parametrize("source", ["&from=team/other", "&from=Not/A/Name", ""])
def test_mount_blob_that_is_not_there_begins_an_upload(client: Pusher, source: str) -> None:
    got = client.begin(REPOSITORY, f"?mount={DIGEST}{source}")

    assert got.status == 202
    put = with_query(got.location, f"digest={DIGEST}")
    assert client.ask("PUT", put, CONTENT).status == 201


def test_mount_from_a_repository_that_lacks_the_blob_begins_an_upload(client: Pusher) -> None:
    client.blob("team/base", CONTENT)
    client.blob("team/other", b"other")

    assert client.begin(REPOSITORY, f"?mount={DIGEST}&from=team/other").status == 202


def test_cancel_upload(client: Pusher) -> None:
    location = client.begin(REPOSITORY).location
    location = client.ask("PATCH", location, CONTENT).location

    assert client.ask("DELETE", location).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        got = client.ask(method, location)
        assert (got.status, got.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_upload_belongs_to_its_repository(client: Pusher) -> None:
    location = client.begin(REPOSITORY).location

    got = client.ask("PATCH", location.replace(REPOSITORY, "team/other"), CONTENT)

    assert (got.status, got.code) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_manifest_by_digest(client: Pusher, algorithm: str) -> None:
    image = named_by(build_image(AMD64), algorithm)
    for blob in image.blobs.values():
        client.blob(REPOSITORY, blob)

    got = client.manifest(REPOSITORY, image.digest, image.body, image.media_type)

    assert (got.status, got.headers["docker-content-digest"]) == (201, image.digest)
    read = client.ask("GET", got.location)
    assert (read.body, read.headers["content-type"]) == (image.body, image.media_type)
    assert client.ask("GET", f"/v2/{REPOSITORY}/tags/list").json["tags"] == []


def test_push_manifest_by_tag_keeps_the_exact_bytes(client: Pusher) -> None:
    image = build_image(AMD64)
    # Valid, and unlike what any writer of JSON makes of it.
    body = image.body.replace(b'":', b'" :\n\t ') + b"\n"
    for blob in image.blobs.values():
        client.blob(REPOSITORY, blob)

    got = client.manifest(REPOSITORY, "1.0", body, image.media_type)

    assert (got.status, got.headers["docker-content-digest"]) == (201, digest_of(body))
    for name in ("1.0", digest_of(body)):
        assert client.ask("GET", manifest_path(name)).body == body


def test_push_manifest_by_digest_with_tags(client: Pusher) -> None:
    image = build_image(AMD64)
    for blob in image.blobs.values():
        client.blob(REPOSITORY, blob)
    tags = [f"1.{number}" for number in range(12)]
    query = "?" + "&".join(f"tag={tag}" for tag in tags)

    got = client.manifest(REPOSITORY, image.digest, image.body, image.media_type, query)

    assert (got.status, got.headers["oci-tag"].split(", ")) == (201, tags)
    listed = client.ask("GET", f"/v2/{REPOSITORY}/tags/list").json
    assert listed == {"name": REPOSITORY, "tags": sorted(tags)}


def test_push_manifest_by_tag_with_its_digest(client: Pusher) -> None:
    image = named_by(build_image(AMD64), "sha512")
    for blob in image.blobs.values():
        client.blob(REPOSITORY, blob)

    query = f"?digest={image.digest}"
    got = client.manifest(REPOSITORY, "1.0", image.body, image.media_type, query)
    other = client.manifest(REPOSITORY, "1.0", image.body, image.media_type, f"?digest={UNKNOWN}")

    assert (got.status, got.headers["docker-content-digest"]) == (201, image.digest)
    assert (other.status, other.code) == (400, "DIGEST_INVALID")
    head = client.ask("HEAD", manifest_path("1.0"))
    assert head.headers["docker-content-digest"] == image.digest


@pytest.mark.parametrize("docker", [False, True])
def test_push_index_with_attestations_and_a_nested_index(client: Pusher, docker: bool) -> None:
    inner = multi_platform(AMD64, ARM64, attestations=not docker, docker=docker)
    image = build_index([inner, build_image("linux/s390x", docker=docker)], docker=docker)

    client.image(REPOSITORY, "1.0", image)

    for digest, (media_type, body) in image.documents.items():
        got = client.ask("GET", manifest_path(digest))
        assert (got.body, got.headers["content-type"]) == (body, media_type)
    assert client.ask("GET", manifest_path("1.0")).body == image.body


def test_push_manifest_of_another_digest_is_refused(client: Pusher) -> None:
    image = build_image(AMD64)

    got = client.manifest(REPOSITORY, UNKNOWN, image.body, image.media_type)

    assert (got.status, got.code) == (400, "DIGEST_INVALID")


def test_push_manifest_before_its_blobs_is_refused(client: Pusher) -> None:
    image = build_image(AMD64)
    client.image("team/other", "1.0", image)

    got = client.manifest(REPOSITORY, "1.0", image.body, image.media_type)

    assert (got.status, got.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert client.ask("HEAD", manifest_path("1.0")).status == 404


def test_push_manifest_that_states_another_size_is_refused(client: Pusher) -> None:
    image = build_image(AMD64)
    for blob in image.blobs.values():
        client.blob(REPOSITORY, blob)
    document = json.loads(image.body)
    document["layers"][0]["size"] += 1

    got = client.manifest(REPOSITORY, "1.0", write_json(document), image.media_type)

    assert (got.status, got.code) == (404, "MANIFEST_BLOB_UNKNOWN")


def test_push_index_before_its_entries_is_refused(client: Pusher) -> None:
    image = multi_platform(AMD64, ARM64)
    client.image(REPOSITORY, "amd64", image.child(AMD64))

    got = client.manifest(REPOSITORY, "1.0", image.body, image.media_type)

    assert (got.status, got.code) == (404, "MANIFEST_BLOB_UNKNOWN")


def test_push_sparse_index_where_it_is_allowed(store: LocalStore) -> None:
    image = multi_platform(AMD64, ARM64)
    with serve_writable(store, options=WriteOptions(allow_sparse=True)) as server:
        client = Pusher(server.address)
        client.image(REPOSITORY, "amd64", image.child(AMD64))

        assert client.manifest(REPOSITORY, "1.0", image.body, image.media_type).status == 201
        # The tag has the bytes that were pushed, although not all of the index is here.
        assert client.ask("GET", manifest_path("1.0")).body == image.body
        assert client.ask("GET", manifest_path(image.child(ARM64).digest)).status == 404
        broken = client.manifest(
            REPOSITORY, "2.0", image.child(ARM64).body, image.child(ARM64).media_type
        )
        assert (broken.status, broken.code) == (404, "MANIFEST_BLOB_UNKNOWN")


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"{", OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b'{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+json"),
        (write_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}), OCI_MANIFEST),
        (b'{"schemaVersion":2,"mediaType":"text/html"}', "text/html"),
    ],
)
def test_push_malformed_manifest_is_refused(client: Pusher, body: bytes, media_type: str) -> None:
    got = client.manifest(REPOSITORY, "1.0", body, media_type)

    assert (got.status, got.code) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize(("size", "status"), [(4 << 20, 201), ((4 << 20) + 1, 413)])
def test_push_manifest_size_limit(client: Pusher, size: int, status: int) -> None:
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    body = write_json(index)
    body += b" " * (size - len(body))

    assert client.manifest(REPOSITORY, "large", body, OCI_INDEX).status == status
    assert client.ask("HEAD", manifest_path("large")).status == (200 if status == 201 else 404)


def test_push_manifest_with_subject_is_listed_as_referrer(client: Pusher) -> None:
    image = build_image(AMD64)
    sbom, other = referrer(image, org="a"), referrer(image, "application/vnd.example.other")
    client.image(REPOSITORY, "1.0", image)
    client.blob(REPOSITORY, b"{}")
    for each in (sbom, other):
        got = client.manifest(REPOSITORY, each.digest, each.body, each.media_type)
        assert (got.status, got.headers["oci-subject"]) == (201, image.digest)

    path = f"/v2/{REPOSITORY}/referrers/{image.digest}"
    every = client.ask("GET", path)
    some = client.ask("GET", f"{path}?artifactType={quote(SBOM, safe='')}")

    assert every.headers["content-type"] == OCI_INDEX
    assert {each["digest"] for each in every.json["manifests"]} == {sbom.digest, other.digest}
    assert some.headers["oci-filters-applied"] == "artifactType"
    assert some.json["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": sbom.digest,
            "size": sbom.size,
            "artifactType": SBOM,
            "annotations": {"org": "a"},
        }
    ]


def test_push_referrer_before_its_subject(client: Pusher) -> None:
    image = build_image(AMD64)
    sbom = referrer(image)
    client.blob(REPOSITORY, b"{}")

    got = client.manifest(REPOSITORY, sbom.digest, sbom.body, sbom.media_type)

    assert (got.status, got.headers["oci-subject"]) == (201, image.digest)
    listed = client.ask("GET", f"/v2/{REPOSITORY}/referrers/{image.digest}").json
    assert [each["digest"] for each in listed["manifests"]] == [sbom.digest]


@pytest.mark.parametrize("repository", [REPOSITORY, "team/none"])
def test_referrers_of_nothing_are_an_empty_list(client: Pusher, repository: str) -> None:
    client.blob(REPOSITORY, CONTENT)

    got = client.ask("GET", f"/v2/{repository}/referrers/{UNKNOWN}")

    assert (got.status, got.json["manifests"]) == (200, [])
    assert client.ask("GET", f"/v2/{repository}/referrers/sha256:no").status == 400


def test_blob_range_of_an_upload(client: Pusher) -> None:
    client.blob(REPOSITORY, CONTENT)

    got = client.ask("GET", blob_path(), headers={"Range": "bytes=100-199"})

    assert (got.status, got.body) == (206, CONTENT[100:200])
    assert got.headers["content-range"] == f"bytes 100-199/{len(CONTENT)}"


def test_tag_list_pages(client: Pusher) -> None:
    image = build_image(AMD64)
    for tag in ("c", "a", "b"):
        client.image(REPOSITORY, tag, image)
    path = f"/v2/{REPOSITORY}/tags/list"

    assert client.ask("GET", path).json == {"name": REPOSITORY, "tags": ["a", "b", "c"]}
    assert client.ask("GET", f"{path}?n=2").json["tags"] == ["a", "b"]
    assert client.ask("GET", f"{path}?n=2&last=a").json["tags"] == ["b", "c"]
    assert client.ask("GET", "/v2/_catalog").json == {"repositories": [REPOSITORY]}


def test_delete_tag_keeps_the_manifest(client: Pusher) -> None:
    image = build_image(AMD64)
    client.image(REPOSITORY, "1.0", image)
    client.image(REPOSITORY, "2.0", image)

    assert client.ask("DELETE", manifest_path("1.0")).status == 202

    assert client.ask("GET", manifest_path("1.0")).status == 404
    assert client.ask("GET", manifest_path(image.digest)).status == 200
    assert client.ask("GET", f"/v2/{REPOSITORY}/tags/list").json["tags"] == ["2.0"]
    assert client.ask("DELETE", manifest_path("1.0")).status == 404


def test_delete_manifest_removes_its_tags(client: Pusher) -> None:
    image = build_image(AMD64)
    client.image(REPOSITORY, "1.0", image)
    client.image(REPOSITORY, "2.0", image)

    assert client.ask("DELETE", manifest_path(image.digest)).status == 202

    for name in ("1.0", "2.0", image.digest):
        got = client.ask("GET", manifest_path(name))
        assert (got.status, got.code) == (404, "MANIFEST_UNKNOWN")
    assert client.ask("DELETE", manifest_path(image.digest)).status == 404


def test_delete_manifest_that_an_index_lists_is_refused(client: Pusher) -> None:
    image = multi_platform(AMD64, ARM64)
    client.image(REPOSITORY, "1.0", image)
    child = manifest_path(image.child(AMD64).digest)

    assert client.ask("DELETE", child).status == 405
    assert client.ask("GET", child).status == 200

    assert client.ask("DELETE", manifest_path(image.digest)).status == 202
    assert client.ask("DELETE", child).status == 202
    assert client.ask("GET", child).status == 404


def test_delete_blob(client: Pusher) -> None:
    client.blob(REPOSITORY, CONTENT)

    assert client.ask("DELETE", blob_path()).status == 202
    assert client.ask("GET", blob_path()).status == 404
    assert client.ask("DELETE", blob_path()).status == 404


def test_delete_blob_that_a_manifest_needs_is_refused(client: Pusher) -> None:
    image = build_image(AMD64)
    client.image(REPOSITORY, "1.0", image)
    layer = next(iter(image.blobs))

    assert client.ask("DELETE", blob_path(layer)).status == 405
    assert client.ask("GET", blob_path(layer)).status == 200


# --- tags ----------------------------------------------------------------------------------


def test_moved_tag_keeps_what_it_pointed_at(client: Pusher) -> None:
    first, second = build_image(AMD64), build_image(ARM64)
    client.image(REPOSITORY, "latest", first)

    client.image(REPOSITORY, "latest", second)

    assert client.ask("GET", manifest_path("latest")).body == second.body
    assert client.ask("GET", manifest_path(first.digest)).body == first.body


def test_conditional_push_compares_the_tag(client: Pusher) -> None:
    first, second = build_image(AMD64), build_image(ARM64)
    client.image(REPOSITORY, "other", second)
    path, kind = manifest_path("latest"), {"Content-Type": first.media_type}

    def push(image: Image, **condition: str) -> int:
        headers = {name.replace("_", "-"): value for name, value in condition.items()}
        return client.ask("PUT", path, image.body, {**kind, **headers}).status

    for blob in first.blobs.values():
        client.blob(REPOSITORY, blob)
    assert push(first, If_Match=f'"{first.digest}"') == 412
    assert push(first, If_None_Match="*") == 201
    assert push(second, If_None_Match="*") == 412
    assert push(second, If_Match=f'"{second.digest}"') == 412
    assert client.ask("GET", path).body == first.body
    assert push(second, If_Match=f'"{first.digest}"') == 201
    assert client.ask("GET", path).body == second.body


# --- other registries' names ---------------------------------------------------------------


def test_push_is_kept_as_localhost_and_changes_no_other_name(tmp_path: Path) -> None:
    pulled, pushed = app("1"), app("2")
    store = stocked(tmp_path, app=pulled)
    before = store.pulled("docker.io/library/app:1")
    with serve_writable(store) as server:
        client = Pusher(server.address)
        assert client.ask("GET", manifest_path("1", "library/app")).body == pulled.body
        assert client.ask("DELETE", manifest_path("1", "library/app")).status == 404

        client.image("library/app", "1", pushed)
        client.image("docker.io/library/app", "2", pushed)

        assert client.ask("GET", manifest_path("1", "library/app")).body == pushed.body
        assert client.ask("GET", manifest_path("2", "docker.io/library/app")).body == pushed.body
    record = store.pulled("localhost/library/app:1")
    assert record is not None
    assert str(record.root.digest) == pushed.digest
    assert [str(image.platform) for image in record.images] == [AMD64, ARM64]
    assert store.pulled("docker.io/library/app:1") == before
    assert store.pulled("docker.io/library/app:2") is None


def test_manifest_of_another_registry_cannot_be_deleted(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    with serve_writable(store) as server:
        client = Pusher(server.address)

        assert client.ask("DELETE", manifest_path(image.digest, "library/app")).status == 405
        layer = next(iter(image.blobs))
        assert client.ask("DELETE", blob_path(layer, "library/app")).status == 405
    assert store.pulled("docker.io/library/app:1") is not None


def test_pushed_image_is_read_by_every_command(tmp_path: Path) -> None:
    image = multi_platform(AMD64, ARM64, attestations=True)
    with Session(tmp_path / "store", environment={"HOME": str(tmp_path)}) as session:
        with session.serve_writable() as server:
            Pusher(server.address).image(REPOSITORY, "1.0", image)
            pulled = session.pull(f"{server.address}/{REPOSITORY}:1.0", "all")
        listed = [stored for stored in session.images() if stored.reference.endswith("app:1.0")]

        assert {str(one.image.root.digest) for one in pulled.images} == {image.digest}
        assert next(stored.reference for stored in listed) == f"{server.address}/{REPOSITORY}:1.0"
        assert session.verify(full=True).is_sound
    with serve_store(LocalStore(tmp_path / "store")) as server:
        path = manifest_path("1.0", f"localhost/{REPOSITORY}")
        assert Pusher(server.address).ask("GET", path).body == image.body


def test_sha512_image_is_copied_between_layouts_and_the_registry(tmp_path: Path) -> None:
    image = named_by(build_image(AMD64), "sha512")
    source = write_layout(tmp_path / "source", {"1": image})
    with (
        serve_writable(LocalStore(tmp_path / "registry", fsync=False)) as server,
        Session(tmp_path / "store", environment={"HOME": str(tmp_path)}) as session,
    ):
        name = f"{server.address}/{REPOSITORY}:1"
        there = session.copy(session.plan_copy(f"oci:{source}:1", [name]))
        back = session.copy(session.plan_copy(name, [f"oci:{tmp_path}/target:1"]))
        held = Pusher(server.address).ask("GET", manifest_path("1"))

    assert (there.failures, back.failures) == ((), ())
    assert held.headers["docker-content-digest"] == image.digest
    algorithm, _, digits = image.digest.partition(":")
    assert (tmp_path / "target" / "blobs" / algorithm / digits).read_bytes() == image.body
    entry = json.loads((tmp_path / "target" / "index.json").read_text())["manifests"][0]
    assert entry["digest"] == image.digest


# --- sessions and the store ----------------------------------------------------------------


def cut(server: Server, method: str, target: str, body: bytes, length: int) -> None:
    """Send a request whose body ends early, and wait until the server has noticed."""
    host, _, port = server.address.rpartition(":")
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as link:
        link.sendall(head.encode() + body)
        link.shutdown(socket.SHUT_WR)
        assert link.recv(1) == b""


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_upload_keeps_the_bytes_of_a_cut_request_across_a_restart(
    store: LocalStore, method: str
) -> None:
    with serve_writable(store) as server:
        location = Pusher(server.address).begin(REPOSITORY).location
        target = with_query(location, f"digest={DIGEST}") if method == "PUT" else location
        cut(server, method, target, CONTENT[:5000], len(CONTENT))
    with serve_writable(store) as server:
        client = Pusher(server.address)
        state = client.ask("GET", location)
        rest = {"Content-Range": f"5000-{len(CONTENT) - 1}"}
        put = with_query(state.location, f"digest={DIGEST}")

        assert (state.status, state.headers["range"]) == (204, "0-4999")
        assert client.ask("PUT", put, CONTENT[5000:], rest).status == 201
        assert client.ask("GET", blob_path()).body == CONTENT


def test_client_that_repeats_a_cut_request_as_a_whole_succeeds(
    server: Server, client: Pusher
) -> None:
    location = client.begin(REPOSITORY).location
    first = client.ask("PATCH", location, CONTENT[:1000])
    cut(server, "PATCH", first.location, CONTENT[1000:3000], len(CONTENT) - 1000)

    # Without `Content-Range` it follows the last request that was complete.
    again = client.ask("PATCH", first.location, CONTENT[1000:])

    assert again.headers["range"] == f"0-{len(CONTENT) - 1}"
    assert client.ask("PUT", with_query(location, f"digest={DIGEST}"), b"").status == 201


def test_completed_blobs_survive_a_restart_before_any_manifest(store: LocalStore) -> None:
    image = build_image(AMD64)
    with serve_writable(store) as server:
        for blob in image.blobs.values():
            Pusher(server.address).blob(REPOSITORY, blob)
    with serve_writable(store) as server:
        client = Pusher(server.address)

        for digest in image.blobs:
            assert client.ask("HEAD", blob_path(digest)).status == 200
        assert client.manifest(REPOSITORY, "1", image.body, image.media_type).status == 201


def test_upload_that_another_process_writes_to_is_busy(store: LocalStore) -> None:
    with serve_writable(store) as server:
        client = Pusher(server.address)
        location = client.begin(REPOSITORY).location
        identity = location.rpartition("/")[2]
        # Another store object is another process: locks belong to open files.
        other = LocalStore(store.root, fsync=False)
        upload = other.uploads.resume(REPOSITORY, identity)
        assert upload is not None

        got = client.ask("PATCH", location, CONTENT)

        assert (got.status, got.code) == (409, "BLOB_UPLOAD_INVALID")
        other.uploads.leave(upload)
        assert client.ask("PATCH", location, CONTENT).status == 202


def test_second_request_takes_an_upload_over(store: LocalStore) -> None:
    identity, first = store.uploads.begin(REPOSITORY)
    first.write(b"one")

    second = store.uploads.resume(REPOSITORY, identity)

    assert second is not None
    assert second.size == 3
    with pytest.raises(UploadBusy):
        first.write(b"late")
    second.begin(3)
    second.write(b"two")
    second.finish(Digest.parse(digest_of(b"onetwo")))
    assert store.load(Digest.parse(digest_of(b"onetwo"))) == b"onetwo"


def test_clients_that_stop_in_a_body_delay_no_other(server: Server, client: Pusher) -> None:
    host, _, port = server.address.rpartition(":")
    before = len(list(FILES.iterdir()))
    # More than there are threads that answer.
    links = []
    for _ in range(100):
        location = client.begin(REPOSITORY).location
        link = socket.create_connection((host, int(port)), timeout=20)
        link.sendall(f"{HEAD.format('PATCH', location)}Content-Length: 100\r\n\r\nabc".encode())
        links.append((link, location))

    client.image(REPOSITORY, "1", build_image(AMD64))

    for link, location in links:
        link.shutdown(socket.SHUT_WR)
        assert link.recv(1) == b""
        link.close()
        assert client.ask("GET", location).headers["range"] == "0-2"
    assert len(list(FILES.iterdir())) <= before + 10


def test_look_at_an_upload_does_not_end_the_request_that_writes(
    server: Server, client: Pusher
) -> None:
    location = client.begin(REPOSITORY).location
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as link:
        link.sendall(f"{HEAD.format('PATCH', location)}Content-Length: 6\r\n\r\nabc".encode())
        while client.ask("GET", location).headers["range"] != "0-2":
            pass
        link.sendall(b"def")

        assert link.recv(65_536).startswith(b"HTTP/1.1 202 ")
    assert client.ask("GET", location).headers["range"] == "0-5"


def test_two_servers_share_a_store(store: LocalStore) -> None:
    image = build_image(AMD64)
    other = LocalStore(store.root, fsync=False)
    with serve_writable(store) as first, serve_writable(other) as second:
        here, there = Pusher(first.address), Pusher(second.address)
        for blob in image.blobs.values():
            here.blob(REPOSITORY, blob)

        assert there.manifest(REPOSITORY, "1", image.body, image.media_type).status == 201
        assert here.ask("GET", manifest_path("1")).body == image.body


def test_many_clients_push_at_the_same_time(server: Server, store: LocalStore) -> None:
    images = [app(str(number)) for number in range(8)]
    failures: list[BaseException] = []

    def push(number: int) -> None:
        try:
            Pusher(server.address).image(REPOSITORY, f"v{number}", images[number])
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    # Removing everything that nothing needs must not take what is being pushed.
    while running := [thread for thread in threads if thread.is_alive()]:
        store.collect(Retention(grace=0))
        # Waiting for the lock is not what this is about.
        running[0].join(0.2)
    for thread in threads:
        thread.join()

    assert failures == []
    client = Pusher(server.address)
    for number, image in enumerate(images):
        assert client.ask("GET", manifest_path(f"v{number}")).body == image.body
    assert store.verify(full=True).is_sound


# --- keeping and collecting ----------------------------------------------------------------


def collect(store: LocalStore) -> None:
    store.collect(Retention(grace=0))


def test_untagged_manifest_is_kept_for_its_time(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Tick()
    image = build_image(AMD64)
    with serve_writable(store, options=WriteOptions(keep_untagged=3600), clock=clock) as server:
        client = Pusher(server.address)
        client.image(REPOSITORY, image.digest, image)
        client.image(REPOSITORY, "tagged", build_image(ARM64))
    name = f"localhost/{REPOSITORY}@{image.digest}"

    monkeypatch.setattr("time.time", lambda: clock.now + 3599)
    collect(store)
    assert store.pulled(name) is not None

    monkeypatch.setattr("time.time", lambda: clock.now + 3600)
    collect(store)
    assert store.pulled(name) is None
    assert store.load(Digest.parse(image.digest)) is None
    assert store.pulled(f"localhost/{REPOSITORY}:tagged") is not None
    assert store.verify(full=True).is_sound


@pytest.mark.parametrize(("known", "new", "expires"), [(0, 9, 0), (9, 0, 0), (5, 9, 9), (9, 5, 9)])
def test_name_expires_when_the_later_of_two_pushes_does(
    store: LocalStore, known: int, new: int, expires: int
) -> None:
    image = build_image(AMD64)
    pull(store, "localhost/app:1", image)
    pulled = store.pulled("localhost/app:1")
    assert pulled is not None
    name = f"localhost/app@{image.digest}"

    for each in (known, new):
        store.name(replace(pulled, reference=name, expires=each))

    record = store.pulled(name)
    assert record is not None
    assert record.expires == expires


def test_referrer_is_kept_as_long_as_its_subject(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Tick()
    image = build_image(AMD64)
    sbom = referrer(image)
    # A signature of the SBOM.
    signed = referrer(sbom, "application/vnd.example.signature")
    with serve_writable(store, clock=clock) as server:
        client = Pusher(server.address)
        client.image(REPOSITORY, "1", image)
        client.image(REPOSITORY, sbom.digest, sbom)
        client.image(REPOSITORY, signed.digest, signed)
    monkeypatch.setattr("time.time", lambda: clock.now + 10 * 86_400)

    collect(store)
    assert store.load(Digest.parse(signed.digest)) == signed.body

    store.unname(f"localhost/{REPOSITORY}:1")
    collect(store)
    for each in (image, sbom, signed):
        assert store.load(Digest.parse(each.digest)) is None


def test_abandoned_uploads_are_removed_after_the_grace_period(store: LocalStore) -> None:
    with serve_writable(store) as server:
        client = Pusher(server.address)
        client.ask("PATCH", client.begin(REPOSITORY).location, CONTENT)
        client.blob(REPOSITORY, CONTENT)
        store.collect(Retention(grace=0))
        # The server may still need them.
        assert len(list((store.root / "uploads").iterdir())) == 4
        assert store.usage().partial == len(CONTENT)

    found = store.collect(Retention(grace=0))

    assert list((store.root / "uploads").iterdir()) == []
    assert {item.kind for item in found.removed} == {"upload", "blob"}
    assert store.usage().partial == 0


# --- who may write -------------------------------------------------------------------------


@pytest.fixture
def users(tmp_path: Path) -> str:
    path = tmp_path / "users"
    hashed = bcrypt.hashpw(b"pass:word", bcrypt.gensalt(4))
    path.write_bytes(b"# people\n\nann:" + hashed + b"\n")
    return str(path)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_htpasswd_users_may_push_and_nobody_else(store: LocalStore, users: str) -> None:
    with serve_writable(store, options=WriteOptions(htpasswd=users)) as server:
        for headers in (
            {},
            basic("ann", "wrong"),
            basic("bob", "pass:word"),
            {"Authorization": "Basic !"},
            {"Authorization": "Bearer x"},
        ):
            refused = Pusher(server.address, headers)
            for got in (refused.begin(REPOSITORY), refused.ask("GET", "/v2/")):
                assert (got.status, got.code) == (401, "UNAUTHORIZED")
                assert got.headers["www-authenticate"].startswith('Basic realm="')
        allowed = Pusher(server.address, basic("ann", "pass:word"))

        allowed.image(REPOSITORY, "1", build_image(AMD64))
        assert allowed.ask("GET", manifest_path("1")).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_listening_beyond_this_machine_requires_htpasswd(store: LocalStore, host: str) -> None:
    with pytest.raises(Usage, match="password"), serve_writable(store, host):
        pass


def test_listening_beyond_this_machine_with_htpasswd(store: LocalStore, users: str) -> None:
    with serve_writable(store, "0.0.0.0", options=WriteOptions(htpasswd=users)) as server:
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        assert Pusher(address).ask("GET", "/v2/").status == 401
        assert Pusher(address, basic("ann", "pass:word")).ask("GET", "/v2/").status == 200


@pytest.mark.parametrize(
    "text",
    ["", "ann", "ann:secret", "ann:$apr1$abcdefgh$0123456789012345678901", ":$2b$04$" + "a" * 53],
)
def test_htpasswd_file_without_bcrypt_is_refused(
    store: LocalStore, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "users"
    path.write_text(text)
    options = WriteOptions(htpasswd=str(path))

    with pytest.raises(InvalidConfiguration) as raised, serve_writable(store, options=options):
        pass
    assert "secret" not in str(raised.value)


def test_htpasswd_file_that_does_not_exist(store: LocalStore, tmp_path: Path) -> None:
    options = WriteOptions(htpasswd=str(tmp_path / "none"))

    with pytest.raises(InvalidConfiguration), serve_writable(store, options=options):
        pass


def test_web_page_cannot_push(client: Pusher) -> None:
    got = client.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/", b"", {"Origin": "http://evil"})

    assert (got.status, got.code) == (403, "DENIED")


def test_push_for_another_host_is_refused(client: Pusher) -> None:
    got = client.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/", b"", {"Host": "evil.example"})

    assert (got.status, got.code) == (421, "DENIED")


# --- requests ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("POST", "/v2/Team/App/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", f"/v2/{'a' * 256}/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/a/blobs/uploads/?mount=sha256:no", 400, "DIGEST_INVALID"),
        ("POST", "/v2/a/blobs/uploads/?digest=md5:0", 400, "DIGEST_INVALID"),
        ("PUT", f"/v2/a/blobs/uploads/{'0' * 32}?digest={DIGEST}", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", "/v2/a/manifests/sha256:no", 400, "DIGEST_INVALID"),
        ("PUT", "/v2/a/manifests/-tag", 400, "TAG_INVALID"),
        ("PUT", "/v2/a/blobs/" + DIGEST, 405, "UNSUPPORTED"),
        ("PUT", "/v2/a/tags/list", 404, "UNSUPPORTED"),
        ("DELETE", "/v2/a/blobs/" + DIGEST, 404, "BLOB_UNKNOWN"),
        ("DELETE", "/v2/a/manifests/" + UNKNOWN, 404, "MANIFEST_UNKNOWN"),
        ("DELETE", "/v2/a/manifests/none", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", "/v2/", 404, "UNSUPPORTED"),
        ("GET", "/v2/a/manifests/1", 404, "NAME_UNKNOWN"),
    ],
)
def test_errors_have_the_form_of_the_specification(
    client: Pusher, method: str, target: str, status: int, code: str
) -> None:
    got = client.ask(method, target, None if method in ("GET", "DELETE") else b"{}")

    assert (got.status, got.code) == (status, code)
    assert got.headers["content-type"] == "application/json"


def test_put_without_a_digest_keeps_the_upload(client: Pusher) -> None:
    location = client.begin(REPOSITORY).location

    assert client.ask("PUT", location, CONTENT).code == "DIGEST_INVALID"
    assert client.ask("GET", location).status == 204


def raw(server: Server, request: bytes) -> bytes:
    """Send raw bytes and read until the server ends the connection."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as link:
        link.sendall(request)
        link.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: link.recv(65_536), b""))


FILES = Path("/proc/self/fd")
HEAD = "{} {} HTTP/1.1\r\nHost: localhost\r\n"


def test_client_that_expects_100_continue_is_invited(server: Server, client: Pusher) -> None:
    location = client.begin(REPOSITORY).location
    host, _, port = server.address.rpartition(":")
    head = HEAD.format("PUT", with_query(location, f"digest={DIGEST}"))
    head += f"Content-Length: {len(CONTENT)}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as link:
        link.sendall(head.encode())
        assert link.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(CONTENT)
        assert link.recv(65_536).startswith(b"HTTP/1.1 201 ")


def test_client_that_expects_100_continue_is_refused_without_its_body(server: Server) -> None:
    head = HEAD.format("PUT", f"/v2/a/blobs/uploads/{'0' * 32}?digest={DIGEST}")
    head += "Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"

    answer = raw(server, head.encode())

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"Connection: close" in answer


def test_next_request_follows_a_body_on_the_same_connection(server: Server, client: Pusher) -> None:
    location = client.begin(REPOSITORY).location
    chunked = HEAD.format("PATCH", location) + "Transfer-Encoding: chunked\r\n\r\n"
    body = "3;name=value\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: x\r\n\r\n"
    refused = HEAD.format("PUT", "/v2/a/blobs/x") + "Content-Length: 3\r\n\r\nabc"
    last = HEAD.format("GET", "/v2/") + "Connection: close\r\n\r\n"

    answer = raw(server, (chunked + body + refused + last).encode())

    assert re.findall(rb"HTTP/1.1 ([0-9]+)", answer) == [b"202", b"405", b"200"]
    assert client.ask("GET", location).headers["range"] == "0-3"


@pytest.mark.parametrize(
    "body",
    ["x\r\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n", "-1\r\n", "3 \n", f"{'0' * 20_000}\r\n"],
)
def test_malformed_chunks_are_refused(server: Server, client: Pusher, body: str) -> None:
    location = client.begin(REPOSITORY).location
    head = HEAD.format("PATCH", location) + "Transfer-Encoding: chunked\r\n\r\n"

    answer = raw(server, (head + body).encode())

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in answer
