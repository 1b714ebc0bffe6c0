"""The catalog of a store or a layout, and access control of the server."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import LayoutTarget
from resolver.demo.builders import write_json
from resolver.errors import Negative, NotFound, UnsupportedDocument
from resolver.sources import open_local
from resolver.sources.local.layout import REF_NAME
from resolver.store import LocalStore
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.catalog import LayoutShelf, StoreShelf, served_name
from resolver.verbs.serve.serve import serve_layout, serve_store
from resolver.verbs.serve.server import Server, is_meant, serve
from tests.kit.exports import AMD64, ARM64, app, exported, stocked
from tests.kit.images import Image, build_image, build_index, from_dict, multi_platform
from tests.kit.layouts import write_layout
from tests.kit.serve_client import Response, ask, exchange
from tests.kit.stored_images import place, pull

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from resolver.core.results.events import Event

FULL = "docker.io/library/app"


def get(server: Server, target: str) -> Response:
    return ask(server, f"/v2/{target}")


def blobs_of(image: Image) -> list[str]:
    return sorted(image.blobs)


# The store


@pytest.mark.parametrize("repository", [FULL, "library/app"])
def test_pulled_image_is_served_completely(tmp_path: Path, repository: str) -> None:
    image = app()
    with serve_store(stocked(tmp_path, app=image)) as server:
        root = get(server, f"{repository}/manifests/1")
        for digest, (_, body) in image.documents.items():
            assert get(server, f"{repository}/manifests/{digest}").body == body
        for digest, body in image.blobs.items():
            assert get(server, f"{repository}/blobs/{digest}").body == body
        tags = get(server, f"{repository}/tags/list")
        catalog = get(server, "_catalog")

    assert (root.status, root.body) == (200, image.body)
    assert root.headers["docker-content-digest"] == image.digest
    assert root.headers["content-type"] == image.media_type
    assert json.loads(tags.body) == {"name": repository, "tags": ["1"]}
    assert json.loads(catalog.body) == {"repositories": [FULL]}


def test_tag_serves_held_platforms_and_digest_the_original_bytes(
    tmp_path: Path,
) -> None:
    image = app()
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, f"{FULL}:1", image, [AMD64])
    with serve_store(store) as server:
        served = get(server, f"{FULL}/manifests/1")
        (listed,) = json.loads(served.body)["manifests"]
        assert listed["digest"] == image.child(AMD64).digest
        by_digest = get(server, f"{FULL}/manifests/{Digest.of(served.body)}")
        assert by_digest.body == served.body
        assert get(server, f"{FULL}/manifests/{image.digest}").body == image.body
        assert get(server, f"{FULL}/manifests/{image.child(AMD64).digest}").status == 200
        missing = get(server, f"{FULL}/manifests/{image.child(ARM64).digest}")

    assert (missing.status, missing.code) == (404, "MANIFEST_UNKNOWN")


def test_repository_contains_only_content_of_its_names(tmp_path: Path) -> None:
    mine, other = app("1", AMD64), app("2", AMD64)
    own = next(blob for blob in blobs_of(other) if blob not in mine.blobs)
    with serve_store(stocked(tmp_path, app=mine, other=other)) as server:
        manifest = get(server, f"{FULL}/manifests/{other.digest}")
        blob = get(server, f"{FULL}/blobs/{own}")
        there = get(server, f"docker.io/library/other/blobs/{own}")

    assert (manifest.status, blob.status, there.status) == (404, 404, 200)


def test_resolved_but_unpulled_image_is_not_served(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    store.unname(f"{FULL}:1")
    with serve_store(store) as server:
        assert get(server, f"{FULL}/manifests/1").code == "NAME_UNKNOWN"


def test_images_of_two_registries_are_never_confused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", fsync=False)
    images = {"ghcr.io/o/app": app("1"), "quay.io/o/app": app("2"), "quay.io/o/one": app("3")}
    for name, image in images.items():
        pull(store, f"{name}:1", image)
    with serve_store(store) as server:
        for name, image in images.items():
            assert get(server, f"{name}/manifests/1").body == image.body
        assert get(server, "o/app/manifests/1").code == "NAME_UNKNOWN"
        assert get(server, "o/one/manifests/1").body == images["quay.io/o/one"].body


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("ubuntu", "docker.io/library/ubuntu"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1-5000/a/b"),
        ("[::1]:5000/a", "1-5000/a"),
    ],
)
def test_repository_name_contains_its_registry(reference: str, name: str) -> None:
    assert served_name(Reference.parse(reference)) == name


def test_image_of_a_registry_with_a_port_is_served(tmp_path: Path) -> None:
    image = app()
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, "localhost:5000/a/b:1", image)
    with serve_store(store) as server:
        assert get(server, "localhost-5000/a/b/manifests/1").body == image.body


def test_image_by_digest_has_no_tag(tmp_path: Path) -> None:
    image = app()
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, f"ghcr.io/o/app@{image.digest}", image)
    with serve_store(store) as server:
        assert json.loads(get(server, "ghcr.io/o/app/tags/list").body)["tags"] == []
        assert get(server, f"ghcr.io/o/app/manifests/{image.digest}").body == image.body


def test_served_images_follow_pulls_and_removals(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app("1"))
    later = app("2")
    with serve_store(store) as server:
        assert get(server, f"{FULL}/manifests/2").status == 404
        pull(store, f"{FULL}:2", later)
        assert get(server, f"{FULL}/manifests/2").body == later.body
        store.unname(f"{FULL}:2")
        assert get(server, f"{FULL}/manifests/2").status == 404


def test_only_named_images_are_served(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app("1"), other=app("2"))
    with serve_store(store, only=[f"{FULL}:1"]) as server:
        assert get(server, f"{FULL}/manifests/1").status == 200
        assert get(server, "docker.io/library/other/manifests/1").status == 404


def test_served_image_is_in_use(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    with serve_store(store):
        assert {str(digest) for digest in store.in_use()} >= {image.digest}
        with pytest.raises(Negative) as caught:
            store.remove(image.child(AMD64).digest)
        assert caught.value.code == "in-use"
    assert store.in_use() == frozenset()


def test_new_store_serves_nothing(tmp_path: Path) -> None:
    with serve_store(LocalStore(tmp_path / "none")) as server:
        assert json.loads(get(server, "_catalog").body) == {"repositories": []}


def test_damage_is_not_served_as_a_document(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    victim = place(store, image.digest)
    victim.chmod(0o644)
    victim.write_bytes(b"x" * image.size)
    with serve_store(store) as server:
        assert get(server, f"{FULL}/manifests/1").code == "MANIFEST_UNKNOWN"


def test_stored_referrers_are_served(tmp_path: Path) -> None:
    image = build_image(AMD64)
    subject = {"mediaType": image.media_type, "digest": image.digest, "size": image.size}
    speaking = from_dict({**json.loads(image.body), "subject": subject}, parts=[image])
    index = build_index([image, speaking])
    with serve_store(stocked(tmp_path, app=index)) as server:
        found = get(server, f"{FULL}/referrers/{image.digest}")

    assert [each["digest"] for each in json.loads(found.body)["manifests"]] == [speaking.digest]


def test_concurrent_requests_are_served(tmp_path: Path) -> None:
    image = app()
    wrong: list[object] = []

    def look(server: Server) -> None:
        for digest, body in image.blobs.items():
            got = get(server, f"{FULL}/blobs/{digest}")
            if got.body != body:
                wrong.append(got)

    with serve_store(stocked(tmp_path, app=image)) as server:
        threads = [threading.Thread(target=look, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []


# A layout


def layout(tmp_path: Path, **images: Image) -> Path:
    store = stocked(tmp_path, **images)
    path = tmp_path / "My Layout"
    for name in images:
        exported(store, path, f"{name}:1")
    return path


def test_layout_is_served_under_its_folder_and_full_names(tmp_path: Path) -> None:
    image, other = app("1"), app("2")
    path = layout(tmp_path, app=image, other=other)
    with serve_layout(LayoutTarget("oci", str(path), None)) as server:
        assert get(server, "my-layout/manifests/1").body == image.body
        assert get(server, f"{FULL}/manifests/1").body == image.body
        assert get(server, "library/other/manifests/1").body == other.body
        for digest, body in image.blobs.items():
            assert get(server, f"{FULL}/blobs/{digest}").body == body
        names = json.loads(get(server, "_catalog").body)["repositories"]

    assert names == [FULL, "docker.io/library/other", "my-layout"]


def test_changed_layout_is_read_again(tmp_path: Path) -> None:
    path = layout(tmp_path, app=app("1"))
    later = app("9")
    with serve_layout(LayoutTarget("oci", str(path), None)) as server:
        assert get(server, "docker.io/library/new/manifests/1").status == 404
        exported(stocked(tmp_path / "2", new=later), path, "new:1")
        assert get(server, "docker.io/library/new/manifests/1").body == later.body


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
@pytest.mark.parametrize("where", ["blob", "algorithm", "blobs"])
def test_hostile_layouts_are_refused(tmp_path: Path, kind: str, where: str) -> None:
    image = app()
    path = layout(tmp_path, app=image)
    digest = max(image.blobs, key=lambda each: len(image.blobs[each]))
    blob = path / "blobs/sha256" / digest[7:]
    victim = {"blob": blob, "algorithm": blob.parent, "blobs": blob.parent.parent}[where]
    secret = tmp_path / "secret"
    with serve_layout(LayoutTarget("oci", str(path), None)) as server:
        assert get(server, f"{FULL}/blobs/{digest}").status == 200
        victim.rename(secret)
        if kind == "link":
            victim.symlink_to(secret)
        elif kind == "fifo":
            os.mkfifo(victim)
        else:
            victim.mkdir()
        got = get(server, f"{FULL}/blobs/{digest}")
        after = ask(server, "/v2/")

    assert got.status in {404, 500}
    assert image.blobs[digest] not in got.body
    assert after.status == 200


def test_blob_that_becomes_a_symlink_before_opening_is_not_followed(tmp_path: Path) -> None:
    image = app()
    path = layout(tmp_path, app=image)
    shelf = LayoutShelf(str(path))
    digest = next(iter(image.blobs))
    kept = shelf.blob(FULL, Digest.parse(digest))
    assert kept is not None
    (path / "blobs").rename(tmp_path / "moved")
    (path / "blobs").symlink_to(tmp_path / "moved")

    with pytest.raises(OSError, match=r"[Nn]ot a directory|[Tt]oo many"):
        kept.open()


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_layout_with_symlinked_files_is_refused(tmp_path: Path, name: str) -> None:
    path = layout(tmp_path, app=app())
    (path / name).rename(tmp_path / "moved")
    (path / name).symlink_to(tmp_path / "moved")

    refused = pytest.raises(UnsupportedDocument, match=f"`{name}`.* is a link.* not followed")
    with refused, serve_layout(LayoutTarget("oci", str(path), None)):
        pass


def test_layout_with_symlinked_documents_is_refused(tmp_path: Path) -> None:
    image = app()
    path = layout(tmp_path, app=image)
    blob = path / "blobs" / image.digest.replace(":", "/")
    blob.rename(tmp_path / "moved")
    blob.symlink_to(tmp_path / "moved")

    refused = pytest.raises(UnsupportedDocument, match="is a link")
    with refused, serve_layout(LayoutTarget("oci", str(path), None)):
        pass


def test_tag_of_two_images_is_not_served(tmp_path: Path) -> None:
    first, second = app("1"), app("2")
    path = tmp_path / "layout"
    path.mkdir()
    write_layout(path, {"1": first, "2": second})
    index = json.loads((path / "index.json").read_bytes())
    for entry in index["manifests"]:
        entry["annotations"] = {REF_NAME: "v1,same"}
    index["manifests"][1]["annotations"][REF_NAME] = "same,docker.io/library/app:v2"
    (path / "index.json").write_text(json.dumps(index))
    source = open_local(LayoutTarget("oci", str(path), None))
    events: list[Event] = []

    with pytest.raises(NotFound, match="2 different images named `same`") as caught:
        source.resolve("same")
    assert all(image.digest in caught.value.hints()[0] for image in (first, second))
    target = LayoutTarget("oci", str(path), None)
    with serve_layout(target, observe=events.append) as server:
        assert get(server, "layout/manifests/same").code == "MANIFEST_UNKNOWN"
        assert get(server, "layout/manifests/v1").body == first.body
        assert get(server, f"{FULL}/manifests/v2").body == second.body
        for image in (first, second):
            assert get(server, f"layout/manifests/{image.digest}").body == image.body
        assert json.loads(get(server, "layout/tags/list").body)["tags"] == ["v1"]
    assert source.resolve("v1").digest == Digest.parse(first.digest)
    assert source.resolve("app:v2").digest == Digest.parse(second.digest)
    assert ["`layout:same`" in str(event) for event in events] == [True]


def test_folder_without_a_layout_is_refused_before_listening(tmp_path: Path) -> None:
    with pytest.raises(NotFound), serve_layout(LayoutTarget("oci", str(tmp_path / "no"), None)):
        pass
    archive = LayoutTarget("oci-archive", "a.tar", None)
    with pytest.raises(UnsupportedDocument), serve_layout(archive):
        pass


def test_circular_or_false_document_does_not_hang_the_catalog(tmp_path: Path) -> None:
    image = app()
    path = layout(tmp_path, app=image)
    deep = build_image(AMD64)
    for _ in range(12):
        deep = build_index([deep])
    for digest, (_, body) in deep.documents.items():
        (path / "blobs/sha256" / digest[7:]).write_bytes(body)
    entry = {
        "mediaType": deep.media_type,
        "digest": deep.digest,
        "size": deep.size,
        "annotations": {"org.opencontainers.image.ref.name": "deep"},
    }
    (path / "index.json").write_bytes(write_json({"schemaVersion": 2, "manifests": [entry]}))
    with serve_layout(LayoutTarget("oci", str(path), None)) as server:
        assert get(server, "my-layout/manifests/deep").body == deep.body
        assert get(server, f"my-layout/manifests/{image.digest}").status == 404


# Access control


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("127.0.0.1:5000", True),
        ("localhost", True),
        ("LOCALHOST:5000", True),
        ("localhost.", True),
        ("a.localhost", True),
        ("[::1]:5000", True),
        ("192.168.1.7:5000", True),
        ("registry.test:80", True),
        ("evil.example", False),
        ("evil.example:5000", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("2130706433", False),
        ("", False),
        ("127.0.0.1:5000, evil.example", False),
        ("127.0.0.1\x00", False),
        ("[::1", False),
    ],
)
def test_host_header_must_be_an_expected_name(header: str, meant: bool) -> None:
    assert is_meant(header, {"registry.test"}) is meant


def test_browser_requests_from_other_sites_are_refused() -> None:
    with serve(MemoryShelf([])) as server:
        rebound = ask(server, "/v2/_catalog", headers={"Host": "evil.example"})
        fine = ask(server, "/v2/_catalog", headers={"Host": "localhost:9"})

    assert (rebound.status, rebound.code) == (421, "DENIED")
    assert fine.status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v2/ HTTP/1.1\r\n\r\n", 421),
        (b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /v2/ HTTP/1.0\r\n\r\n", 200),
        (b"GET /v2/ HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421),
    ],
)
def test_request_has_exactly_one_host_header(head: bytes, status: int) -> None:
    with serve(MemoryShelf([])) as server:
        assert exchange(server, head).startswith(b"HTTP/1.1 %d " % status)


def test_serve_accepts_an_additional_host_name() -> None:
    with serve(MemoryShelf([]), names=["Registry.Test"]) as server:
        assert ask(server, "/v2/", headers={"Host": "registry.test:5000"}).status == 200


def test_catalog_lists_needed_content_once(tmp_path: Path) -> None:
    claims: list[set[str]] = []

    def claim(digests: Iterable[Digest]) -> None:
        claims.append({str(digest) for digest in digests})

    image = multi_platform(AMD64)
    shelf = StoreShelf(stocked(tmp_path, app=image), claim)
    for _ in range(3):
        shelf.repositories()

    assert claims == [{image.digest, image.child(AMD64).digest}]
