"""Manifests with false statements (area "manifest" of the catalogue)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.adversarial.actor import refused
from tests.adversarial.hosts import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.adversarial.rusage import measured
from tests.kit.images import build_image, from_dict, multi_platform, raw_document
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts

LIMIT = 4_194_304
ONES = "sha256:" + "1" * 64


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the fields of a manifest whose blobs are not served."""
    blob = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": ONES, "size": 2}
    layer = {**blob, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": blob, "layers": [layer]}
    return {**document, **changes}


def serve(registry: FakeRegistry, body: bytes, kind: str = OCI_MANIFEST) -> str:
    """Serve bytes as `app:1` and return its reference."""
    registry.serve("app", "1", raw_document(body, kind))
    return f"{registry.host}/app:1"


@pytest.fixture
def registry(hosts: Hosts) -> FakeRegistry:
    return hosts.registry()


def test_man_001_pinned_manifest_with_wrong_bytes_is_refused(
    act: Actor, registry: FakeRegistry
) -> None:
    # inspect reads the manifest, and would read its config.
    body = build_image().body
    actual = "sha256:" + hashlib.sha256(body).hexdigest()
    headers = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": ONES}
    registry.on("GET", f"/v2/app/manifests/{ONES}", Reply(200, headers, body))
    for verb in ("RESOLVE", "PULL"):
        refused(act(verb, f"{registry.host}/app@{ONES}"), "INTEGRITY", ONES, actual)
    assert registry.requests(path_contains="/blobs/") == []
    assert not [
        path for path in act.store.rglob("*") if path.is_file() and body in path.read_bytes()
    ]
    assert not list((act.store / "names").glob("*.json"))


def test_man_002_false_digest_header_is_never_returned(act: Actor, registry: FakeRegistry) -> None:
    image = build_image()
    registry.serve("app", "1", image)
    headers = {"Content-Type": image.media_type, "Docker-Content-Digest": ONES}
    registry.on("GET", "/v2/app/manifests/1", Reply(200, headers, image.body))
    outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64")
    assert outcome.status == 0
    assert outcome.answer["manifest"]["digest"] == image.digest
    assert outcome.answer["pinned"].endswith(f"@{image.digest}")
    held = [path for path in act.store.rglob("*") if path.is_file()]
    assert held
    assert not [path for path in held if ONES.encode() in path.read_bytes()]


@pytest.mark.parametrize("kind", [OCI_MANIFEST, OCI_INDEX])
def test_man_004_document_that_is_manifest_and_index_is_refused(
    act: Actor, registry: FakeRegistry, kind: str
) -> None:
    inner = multi_platform("linux/amd64")
    document = {**manifest(), "manifests": json.loads(inner.body)["manifests"]}
    del document["mediaType"]
    outcome = act("RESOLVE", serve(registry, json.dumps(document).encode(), kind))
    refused(outcome, "FORMAT", "ambiguous", "manifests", "layers")


def test_man_006_manifest_above_the_size_limit_is_not_read(
    act: Actor, registry: FakeRegistry
) -> None:
    body = padded(4 * LIMIT)
    registry.on("GET", "/v2/app/manifests/big", Reply(200, {"Content-Type": OCI_MANIFEST}, body))
    refused(act("RESOLVE", f"{registry.host}/app:big"), "LIMIT", str(LIMIT))
    # The kernel buffers some bytes that are never read, more of them under load.
    assert registry.wait_for(lambda: all(seen.done for seen in registry.log))
    assert all(seen.sent < 2 * LIMIT for seen in registry.log)


def test_man_007_manifest_at_the_size_limit_is_accepted(act: Actor, registry: FakeRegistry) -> None:
    image = build_image()
    fields = json.loads(image.body)
    document = from_dict({**fields, "annotations": {"pad": ""}})
    pad = "x" * (LIMIT - document.size)
    largest = from_dict({**fields, "annotations": {"pad": pad}}, parts=[image])
    assert largest.size == LIMIT
    registry.serve("app", "max", largest)
    words = ("resolve", f"{registry.host}/app:max", "-p", "linux/amd64", "--format", "digest")
    outcome, kilobytes = measured(words, act.store)
    act.check(outcome)
    assert (outcome.status, outcome.out.strip()) == (0, largest.digest)
    assert kilobytes < 256 * 1024
    assert outcome.seconds < 5


def padded(size: int) -> bytes:
    frame = json.dumps(manifest(annotations={"pad": ""}))
    return frame.replace('"pad": ""', f'"pad": "{"x" * (size - len(frame))}"').encode()


def test_man_010_requests_accept_all_types_without_compression(
    act: Actor, registry: FakeRegistry
) -> None:
    # inspect requests index, manifest and config like a pull.
    registry.serve("img-a", "1", multi_platform("linux/amd64", "linux/arm64/v8"))
    assert act("PULL", f"{registry.host}/img-a:1").status == 0
    asked = registry.requests("GET", "/img-a/")
    assert len(asked) == 3
    assert {seen.headers.get("accept-encoding") for seen in asked} == {"identity"}
    for seen in registry.requests("GET", "/manifests/"):
        accepted = {kind.strip() for kind in seen.headers["accept"].split(",")}
        assert accepted >= {OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST}


def test_man_011_duplicate_fields_are_refused(act: Actor, registry: FakeRegistry) -> None:
    body = json.dumps(manifest()).encode().removesuffix(b"}") + b',"layers":[]}'
    place = serve(registry, body)
    for verb in ("RESOLVE", "PULL"):
        refused(act(verb, place), "FORMAT", "duplicate", "layers")
    assert registry.requests(path_contains="/blobs/") == []


def test_man_015_deep_nesting_is_refused(act: Actor, registry: FakeRegistry) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    body = json.dumps(manifest()).encode().removesuffix(b"}") + b',"x":' + deep + b"}"
    words = ("resolve", serve(registry, body), "--json")
    outcome, kilobytes = measured(words, act.store)
    act.check(outcome, as_json=True)
    assert outcome.failure["class"] in {"FORMAT", "LIMIT"}
    assert "nesting" in outcome.text or "depth" in outcome.text or "deep" in outcome.text, outcome
    assert kilobytes < 256 * 1024


@pytest.mark.parametrize("spelling", ["NaN", "Infinity", "1e2", "12.0", "true", '"12"'])
def test_man_016_size_must_be_a_whole_number(
    act: Actor, registry: FakeRegistry, spelling: str
) -> None:
    body = json.dumps(manifest()).replace('"size": 2', f'"size": {spelling}', 1).encode()
    outcome = act("RESOLVE", serve(registry, body))
    refused(outcome, "FORMAT")
    assert outcome.failure["field"] == "config.size"


TRAVERSALS = [
    "sha256:../../../../canary",
    "sha256:..%2f..%2fcanary",
    "../sha256:" + "1" * 64,
    "/etc/passwd",
    f"{ONES}/../../x",
]


@pytest.mark.parametrize("digest", TRAVERSALS)
@pytest.mark.parametrize("place", ["config", "layers"])
def test_man_018_digest_that_is_a_path_writes_no_file(
    act: Actor, registry: FakeRegistry, digest: str, place: str
) -> None:
    # inspect stores documents like a pull.
    canary = act.folder / "canary"
    canary.write_text("still here")
    document = manifest()
    target = document["config"] if place == "config" else document["layers"][0]
    target = {**target, "digest": digest}
    document[place] = target if place == "config" else [target]
    before = outside(act)
    refused(act("PULL", serve(registry, json.dumps(document).encode())), "FORMAT")
    assert registry.requests(path_contains="/blobs/") == []
    assert outside(act) == before


def outside(act: Actor) -> dict[str, bytes]:
    """Take a snapshot of everything outside the store."""
    files = (path for path in act.folder.rglob("*") if act.store not in path.parents)
    return {str(path): path.read_bytes() for path in files if path.is_file()}


BAD_DIGESTS = {
    "SHA256:" + "1" * 64: "FORMAT",
    "sha256:" + "A" * 64: "FORMAT",
    "sha256:" + "1" * 63: "FORMAT",
    "sha256:" + "1" * 65: "FORMAT",
    "md5:" + "1" * 32: "UNSUPPORTED",
    "sha256:": "FORMAT",
    ":" + "1" * 64: "FORMAT",
    "sha256:" + "\uff11" * 64: "FORMAT",
}


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_man_019_invalid_digest_is_never_corrected(
    act: Actor, registry: FakeRegistry, digest: str
) -> None:
    document = manifest()
    document["layers"][0] = {**document["layers"][0], "digest": digest}
    outcome = act("RESOLVE", serve(registry, json.dumps(document).encode()))
    assert outcome.failure["field"] == "layers[0].digest"
    refused(outcome, BAD_DIGESTS[digest])


def test_man_020_body_and_header_with_different_types_are_refused(
    act: Actor, registry: FakeRegistry
) -> None:
    place = serve(registry, multi_platform("linux/amd64").body, OCI_MANIFEST)
    refused(act("RESOLVE", place), "FORMAT", OCI_MANIFEST, OCI_INDEX)


def test_man_023_schema_1_is_named_as_unsupported(act: Actor, registry: FakeRegistry) -> None:
    document = {
        "schemaVersion": 1,
        "name": "app",
        "tag": "1",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": ONES}],
        "history": [{"v1Compatibility": "{}"}],
        "signatures": [{"signature": "x", "protected": "y"}],
    }
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    place = serve(registry, json.dumps(document).encode(), kind)
    refused(act("RESOLVE", place), "UNSUPPORTED", "schema 1")


def test_man_026_wrong_embedded_bytes_are_never_used(act: Actor, registry: FakeRegistry) -> None:
    image = build_image("linux/amd64")
    fields = json.loads(image.body)
    # The embedded config would make it an image for arm64.
    fields["config"]["data"] = "eyJhcmNoaXRlY3R1cmUiOiJhcm02NCIsIm9zIjoibGludXgifQ=="
    registry.serve("app", "data", from_dict(fields, parts=[image]))
    outcome = act("RESOLVE", f"{registry.host}/app:data", "-p", "linux/amd64")
    if outcome.status == 0:
        assert outcome.answer["platform"] == {"os": "linux", "architecture": "amd64"}
        assert registry.requests("GET", "/blobs/")
    else:
        assert outcome.failure["class"] in {"INTEGRITY", "FORMAT"}
        assert "config.data" in outcome.text
