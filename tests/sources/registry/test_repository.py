"""One repository: its requests, its checks and its errors."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Literal

import pytest

from resolver.core.oci.descriptor import (
    DOCKER_LIST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_SIGNED,
    Descriptor,
)
from resolver.core.oci.digest import Digest
from resolver.core.results.events import Warned
from resolver.errors import (
    BadDocument,
    BlobNotFound,
    ConnectionFailed,
    DigestMismatch,
    InvalidDigest,
    InvalidReference,
    LimitExceeded,
    ManifestNotFound,
    RateLimited,
    RepositoryNotFound,
    ServerFault,
    SizeMismatch,
    UnsupportedDocument,
)
from resolver.sources.registry.repository import RegistrySource, open_registry
from tests.kit.clients import source, transport
from tests.kit.images import build_image, build_index
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.events import Event

INDEX = build_index([build_image("linux/amd64"), build_image("linux/arm64")])
IMAGE = build_image("linux/s390x")
MANIFESTS = "/v2/team/app/manifests"
SOME_DIGEST = "sha256:" + "1" * 64
CONFIG, CONFIG_BODY = next(
    (digest, body) for digest, body in IMAGE.blobs.items() if body.startswith(b"{")
)
CONFIG_DESCRIPTOR = Descriptor(OCI_CONFIG, Digest.parse(CONFIG), len(CONFIG_BODY))


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve("team/app", "1.0", INDEX)
        fake.serve("team/app", "single", IMAGE)
        yield fake


@pytest.fixture
def app(registry: FakeRegistry) -> Iterator[RegistrySource]:
    with source(registry.host) as opened:
        yield opened


def typed(media_type: str = OCI_INDEX, **more: str) -> dict[str, str]:
    return {"Content-Type": media_type, **{name.replace("_", "-"): more[name] for name in more}}


# --- resolve -------------------------------------------------------------------------------


def test_complete_head_needs_no_get(registry: FakeRegistry, app: RegistrySource) -> None:
    assert app.resolve("1.0") == INDEX.descriptor
    assert [seen.method for seen in registry.log] == ["HEAD"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(405),
        Reply(404),
        Reply(501),
        Reply(headers=typed(Docker_Content_Digest=INDEX.digest), content_length=False),
        Reply(headers=typed(), content_length=INDEX.size),
        Reply(headers={"Docker-Content-Digest": INDEX.digest}, content_length=INDEX.size),
        Reply(headers=typed("text/plain", Docker_Content_Digest=INDEX.digest), content_length=9),
        Reply(headers=typed(Docker_Content_Digest="sha256:ABC"), content_length=INDEX.size),
        Reply(headers=typed(Docker_Content_Digest="md5:" + "0" * 32), content_length=INDEX.size),
    ],
    ids=["405", "404", "501", "no-length", "no-digest", "no-type", "text", "malformed", "md5"],
)
def test_incomplete_head_is_followed_by_get(
    registry: FakeRegistry, app: RegistrySource, reply: Reply
) -> None:
    registry.on("HEAD", f"{MANIFESTS}/1.0", reply)
    assert app.resolve("1.0") == INDEX.descriptor
    assert [seen.method for seen in registry.log] == ["HEAD", "GET"]


def test_status_403_on_head_is_explained_by_get(
    registry: FakeRegistry, app: RegistrySource
) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"quota of the moon"}]}'
    registry.on("HEAD", f"{MANIFESTS}/1.0", Reply(403))
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(403, {}, body))
    with pytest.raises(Exception, match="quota of the moon"):
        app.resolve("1.0")
    assert len(registry.log) == 2


def test_digest_is_resolved(registry: FakeRegistry, app: RegistrySource) -> None:
    assert app.resolve(INDEX.digest) == INDEX.descriptor
    assert registry.log[0].raw_target == f"{MANIFESTS}/{INDEX.digest}"


def test_head_with_another_digest_is_refused(registry: FakeRegistry, app: RegistrySource) -> None:
    headers = typed(Docker_Content_Digest=SOME_DIGEST)
    registry.on("HEAD", f"{MANIFESTS}/{INDEX.digest}", Reply(headers=headers, content_length=5))
    assert app.resolve(INDEX.digest) == INDEX.descriptor


def test_head_with_too_large_a_size_is_refused(registry: FakeRegistry, app: RegistrySource) -> None:
    headers = typed(Docker_Content_Digest=INDEX.digest)
    registry.on("HEAD", f"{MANIFESTS}/1.0", Reply(headers=headers, content_length=4_194_305))
    with pytest.raises(LimitExceeded, match="4194305"):
        app.resolve("1.0")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 129, ".x", "a b", "tag\n", "t?x"])
def test_invalid_name_is_not_requested(
    registry: FakeRegistry, app: RegistrySource, name: str
) -> None:
    with pytest.raises(InvalidReference):
        app.document(name)
    with pytest.raises(InvalidReference):
        app.resolve(name)
    assert registry.log == []


def test_invalid_digest_is_not_requested(app: RegistrySource) -> None:
    with pytest.raises(InvalidDigest):
        app.document("sha256:../../x")


# --- documents -----------------------------------------------------------------------------


def test_tag_and_digest_return_the_same_document(engine: str, registry: FakeRegistry) -> None:
    with source(registry.host, engine=engine) as app:
        by_tag, by_digest = app.document("1.0"), app.document(INDEX.digest)
    assert by_tag == by_digest
    assert by_tag.body == INDEX.body
    assert by_tag.descriptor == INDEX.descriptor


def test_wrong_bytes_for_a_digest_are_refused(engine: str, registry: FakeRegistry) -> None:
    headers = typed(OCI_MANIFEST, Docker_Content_Digest=INDEX.digest)
    registry.on("GET", f"{MANIFESTS}/{INDEX.digest}", Reply(headers=headers, body=IMAGE.body))
    with (
        source(registry.host, engine=engine) as app,
        pytest.raises(DigestMismatch) as caught,
    ):
        app.document(INDEX.digest)
    assert caught.value.expected == INDEX.digest
    assert caught.value.actual == IMAGE.digest
    # One retry only.
    assert len(registry.log) == 2


def test_wrong_bytes_are_requested_again_once(registry: FakeRegistry, app: RegistrySource) -> None:
    place = f"{MANIFESTS}/{INDEX.digest}"
    registry.on("GET", place, Reply(headers=typed(), body=b"cut"), times=1)
    assert app.document(INDEX.digest).body == INDEX.body


@pytest.mark.parametrize("lie", [SOME_DIGEST, "sha512:" + "0" * 128])
def test_wrong_digest_header_for_a_tag_is_a_warning(registry: FakeRegistry, lie: str) -> None:
    events: list[Event] = []
    headers = typed(Docker_Content_Digest=lie)
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(headers=headers, body=INDEX.body))
    with source(registry.host, events=events) as app:
        assert str(app.document("1.0").descriptor.digest) == INDEX.digest
    warned = [event for event in events if isinstance(event, Warned)]
    assert [event.code for event in warned] == ["digest-header"]
    assert lie in warned[0].message
    assert INDEX.digest in warned[0].message


@pytest.mark.parametrize("stated", ["", "garbage", "blake3:" + "0" * 64])
def test_incomparable_digest_header_is_ignored(registry: FakeRegistry, stated: str) -> None:
    events: list[Event] = []
    headers = typed(Docker_Content_Digest=stated)
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(headers=headers, body=INDEX.body))
    with source(registry.host, events=events) as app:
        app.document("1.0")
    assert events == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=utf-8", ""])
def test_useless_content_type_is_replaced_by_the_document_type(
    registry: FakeRegistry, app: RegistrySource, content_type: str
) -> None:
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(headers=typed(content_type), body=INDEX.body))
    assert app.document("1.0").descriptor.media_type == OCI_INDEX


def test_conflicting_document_types_are_refused(
    registry: FakeRegistry, app: RegistrySource
) -> None:
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(headers=typed(DOCKER_LIST), body=INDEX.body))
    with pytest.raises(BadDocument) as caught:
        app.document("1.0")
    assert OCI_INDEX in str(caught.value)
    assert DOCKER_LIST in str(caught.value)


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX])
def test_document_with_fields_of_two_kinds_is_refused(
    registry: FakeRegistry, app: RegistrySource, media_type: str
) -> None:
    both = {**json.loads(IMAGE.body), **json.loads(INDEX.body)}
    del both["mediaType"]
    body = json.dumps(both).encode()
    registry.on("GET", f"{MANIFESTS}/amb", Reply(headers=typed(media_type), body=body))
    with pytest.raises(BadDocument, match="ambiguous"):
        app.document("amb")


@pytest.mark.parametrize("name", ["old", SOME_DIGEST])
@pytest.mark.parametrize("media_type", [SCHEMA1_SIGNED, "application/json"])
def test_schema_1_is_named_before_digests_are_compared(
    registry: FakeRegistry, app: RegistrySource, name: str, media_type: str
) -> None:
    body = b'{\n   "schemaVersion": 1,\n   "name": "app",\n   "fsLayers": []\n}'
    registry.on("GET", f"{MANIFESTS}/{name}", Reply(headers=typed(media_type), body=body))
    with pytest.raises(UnsupportedDocument, match="schema 1"):
        app.document(name)
    assert len(registry.log) == 1


def test_web_page_is_not_a_manifest(registry: FakeRegistry, app: RegistrySource) -> None:
    page = b"<!doctype html><title>Sign in</title>"
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(headers=typed("text/html"), body=page))
    with pytest.raises(ServerFault, match="web page") as caught:
        app.document("1.0")
    assert registry.host in str(caught.value)


def test_manifest_sent_as_html_is_accepted(registry: FakeRegistry, app: RegistrySource) -> None:
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(headers=typed("text/html"), body=INDEX.body))
    assert app.document("1.0").descriptor == INDEX.descriptor


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "br", "zstd", "gzip, identity"])
def test_compressed_manifest_is_refused(engine: str, coding: str) -> None:
    with FakeRegistry() as registry, source(registry.host, engine=engine) as app:
        body = gzip.compress(INDEX.body)
        registry.on(
            "GET", f"{MANIFESTS}/1.0", Reply(headers=typed(Content_Encoding=coding), body=body)
        )
        with pytest.raises(ServerFault, match="Content-Encoding"):
            app.document("1.0")


def test_identity_encoding_is_accepted(registry: FakeRegistry, app: RegistrySource) -> None:
    headers = typed(Content_Encoding="identity")
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(headers=headers, body=INDEX.body))
    assert app.document("1.0").body == INDEX.body


def padded(size: int) -> bytes:
    document = json.loads(IMAGE.body)
    document["annotations"] = {"pad": ""}
    rest = size - len(json.dumps(document).encode())
    document["annotations"] = {"pad": "x" * rest}
    return json.dumps(document).encode()


def test_manifest_of_four_mib_is_read(engine: str) -> None:
    body = padded(4_194_304)
    with FakeRegistry() as registry, source(registry.host, engine=engine) as app:
        registry.on("GET", f"{MANIFESTS}/max", Reply(headers=typed(OCI_MANIFEST), body=body))
        assert app.document("max").descriptor.size == 4_194_304


@pytest.mark.parametrize("announced", [None, False], ids=["announced", "silent"])
def test_manifest_above_four_mib_is_refused(engine: str, announced: Literal[False] | None) -> None:
    body = padded(4_194_305 if announced is False else 16_777_216)
    reply = Reply(headers=typed(OCI_MANIFEST), body=body, content_length=announced)
    with FakeRegistry() as registry, source(registry.host, engine=engine) as app:
        registry.on("GET", f"{MANIFESTS}/big", reply)
        with pytest.raises(LimitExceeded) as caught:
            app.document("big")
        assert caught.value.limit == 4_194_304
        registry.wait_for(lambda: registry.log[0].done)
        if announced is None:
            assert registry.log[0].sent < 8_388_608


# --- missing content --------------------------------------------------------------------


@pytest.mark.parametrize("code", ["MANIFEST_UNKNOWN", "NOT_FOUND", "UNKNOWN", ""])
def test_status_404_is_a_missing_manifest_with_any_code(
    registry: FakeRegistry, app: RegistrySource, code: str
) -> None:
    body = json.dumps({"errors": [{"code": code, "message": "Not Found"}]}).encode()
    registry.on("*", f"{MANIFESTS}/none", Reply(404, {}, body))
    for ask in (app.document, app.resolve):
        with pytest.raises(ManifestNotFound) as caught:
            ask("none")
        assert f"{registry.host}/team/app:none" in str(caught.value)


def test_missing_repository_and_missing_tag_are_distinguished(registry: FakeRegistry) -> None:
    with source(registry.host, "no/such") as app:
        for ask in (app.document, app.resolve):
            with pytest.raises(RepositoryNotFound, match="no/such"):
                ask("1.0")


def test_missing_digest_is_named(app: RegistrySource) -> None:
    with pytest.raises(ManifestNotFound, match=SOME_DIGEST):
        app.document(SOME_DIGEST)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"message": "gateway says no"}', "gateway says no"),
        (b'{"details": "from the depths"}', "from the depths"),
        (b'{"errors": [{"code": "TEAPOT", "detail": {"x": 1}}]}', "TEAPOT"),
        (b'{"errors": "odd"}', "418"),
        (b"plain words", "plain words"),
        (b"<html><title>Sorry</title></html>", "Sorry"),
        (b"", "418"),
        (b"\xff\xfe\x00", "418"),
        (b"[" * 8_000, "418"),
        (b'{"errors": [{"message": "cut', "cut"),
    ],
)
def test_errors_of_every_shape_are_readable(
    registry: FakeRegistry, app: RegistrySource, body: bytes, expected: str
) -> None:
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(418, {}, body))
    with pytest.raises(ServerFault, match="418") as caught:
        app.document("1.0")
    assert expected in str(caught.value)


def test_remote_messages_are_short_and_printable(
    registry: FakeRegistry, app: RegistrySource
) -> None:
    evil = "\x1b[2J\x07\x9b\u202e::error\r\n" + "x" * 5_000
    body = json.dumps({"errors": [{"code": "X", "message": evil}]}).encode()
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(418, {}, body))
    with pytest.raises(ServerFault) as caught:
        app.document("1.0")
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 700


def test_error_body_is_read_up_to_its_limit(engine: str) -> None:
    with FakeRegistry() as registry, source(registry.host, engine=engine) as app:
        registry.on("GET", f"{MANIFESTS}/1.0", Reply.endless(b"sorry ", status=418))
        with pytest.raises(ServerFault, match="sorry sorry"):
            app.document("1.0")


# --- content -------------------------------------------------------------------------------


def test_manifests_and_blobs_have_separate_paths(engine: str, registry: FakeRegistry) -> None:
    with source(registry.host, engine=engine) as app:
        assert app.read(IMAGE.descriptor) == IMAGE.body
        assert app.read(CONFIG_DESCRIPTOR) == CONFIG_BODY
        assert app.has(IMAGE.descriptor)
        assert app.has(CONFIG_DESCRIPTOR)
    assert [seen.path for seen in registry.log] == [
        f"{MANIFESTS}/{IMAGE.digest}",
        f"/v2/team/app/blobs/{CONFIG}",
    ] * 2


def test_missing_content_is_not_found(app: RegistrySource) -> None:
    missing = Descriptor(OCI_CONFIG, Digest.parse(SOME_DIGEST), 5)
    assert not app.has(missing)
    with pytest.raises(BlobNotFound, match=SOME_DIGEST):
        app.read(missing)
    with pytest.raises(BlobNotFound, match=SOME_DIGEST), app.open(missing):
        pass
    with pytest.raises(ManifestNotFound):
        app.read(Descriptor(OCI_MANIFEST, Digest.parse(SOME_DIGEST), 5))


@pytest.mark.parametrize("difference", [-1, 1])
def test_blob_of_another_size_is_refused_with_both_numbers(
    app: RegistrySource, difference: int
) -> None:
    size = len(CONFIG_BODY) + difference
    with pytest.raises(SizeMismatch) as caught:
        app.read(Descriptor(OCI_CONFIG, Digest.parse(CONFIG), size))
    assert str(size) in str(caught.value)
    assert str(len(CONFIG_BODY)) in str(caught.value)


def test_wrong_bytes_of_the_same_size_are_refused(
    registry: FakeRegistry, app: RegistrySource
) -> None:
    body = b"x" * len(CONFIG_BODY)
    registry.on("GET", f"/v2/team/app/blobs/{CONFIG}", Reply(body=body))
    with pytest.raises(DigestMismatch):
        app.read(CONFIG_DESCRIPTOR)
    assert len(registry.log) == 2


def test_document_over_four_mib_is_not_requested(
    registry: FakeRegistry, app: RegistrySource
) -> None:
    with pytest.raises(LimitExceeded, match="4194305"):
        app.read(Descriptor(OCI_CONFIG, Digest.parse(CONFIG), 4_194_305))
    assert registry.log == []


def test_config_compressed_by_a_cdn_is_read(engine: str, registry: FakeRegistry) -> None:
    # registry.access.redhat.com: docs/wire-protocol.md, "Unrequested compression".
    headers = {"Content-Encoding": "gzip"}
    body = gzip.compress(CONFIG_BODY)
    registry.on("GET", f"/v2/team/app/blobs/{CONFIG}", Reply(headers=headers, body=body))
    with source(registry.host, engine=engine) as app:
        assert app.read(CONFIG_DESCRIPTOR) == CONFIG_BODY


def test_config_falsely_labelled_as_compressed_is_read(
    registry: FakeRegistry, app: RegistrySource
) -> None:
    headers = {"Content-Encoding": "gzip"}
    registry.on("GET", f"/v2/team/app/blobs/{CONFIG}", Reply(headers=headers, body=CONFIG_BODY))
    assert app.read(CONFIG_DESCRIPTOR) == CONFIG_BODY


def test_compressed_blob_is_inflated_up_to_its_size(
    registry: FakeRegistry, app: RegistrySource
) -> None:
    headers = {"Content-Encoding": "gzip"}
    body = gzip.compress(b"\0" * 100_000_000)
    registry.on("GET", f"/v2/team/app/blobs/{CONFIG}", Reply(headers=headers, body=body))
    with pytest.raises(SizeMismatch):
        app.read(CONFIG_DESCRIPTOR)


def test_blob_is_streamed(engine: str, registry: FakeRegistry) -> None:
    digest, blob = max(IMAGE.blobs.items(), key=lambda item: len(item[1]))
    wanted = Descriptor("application/x-layer", Digest.parse(digest), len(blob))
    with source(registry.host, engine=engine) as app, app.open(wanted) as chunks:
        # Readers of layers look into them, so views of the bytes would not do.
        parts = list(chunks)
    assert {type(part) for part in parts} == {bytes}
    assert b"".join(parts) == blob


def test_range_of_a_blob_is_streamed_without_a_copy(registry: FakeRegistry) -> None:
    pytest.importorskip("pyreqwest")
    digest, blob = max(IMAGE.blobs.items(), key=lambda item: len(item[1]))
    wanted = Descriptor("application/x-layer", Digest.parse(digest), len(blob))
    with (
        source(registry.host, engine="pyreqwest") as app,
        app.open_range(wanted, 0, wanted.size) as answer,
    ):
        parts = [*answer.chunks]
    assert all(isinstance(part, memoryview) for part in parts)
    assert b"".join(parts) == blob


def test_blob_with_another_content_length_is_not_streamed(
    registry: FakeRegistry, app: RegistrySource
) -> None:
    wanted = Descriptor("application/x-layer", Digest.parse(CONFIG), len(CONFIG_BODY) + 1)
    with pytest.raises(SizeMismatch), app.open(wanted):
        pass
    assert len(registry.log) == 1


def test_broken_stream_is_a_network_error(engine: str, registry: FakeRegistry) -> None:
    reply = Reply(body=CONFIG_BODY, truncate=3)
    registry.on("GET", f"/v2/team/app/blobs/{CONFIG}", reply)
    with (
        source(registry.host, engine=engine) as app,
        pytest.raises(ConnectionFailed),
        app.open(CONFIG_DESCRIPTOR) as chunks,
    ):
        b"".join(chunks)


# --- messages ---------------------------------------------------------------------------


def test_warnings_are_collected_once_and_escaped(registry: FakeRegistry) -> None:
    lines = [
        ("Content-Type", OCI_INDEX),
        ("Warning", '299 - "old \\"stuff\\"", 299 - "second\x1b[2J"'),
        ("Warning", '199 - "not this", 299 host "nor this"'),
        ("Warning", "garbage"),
    ]
    registry.on("GET", f"{MANIFESTS}/1.0", Reply(headers=lines, body=INDEX.body))
    with source(registry.host) as app:
        app.document("1.0")
        app.document("1.0")
        assert app.warnings() == ('old "stuff"', "second [2J")


def test_rate_limit_error_quotes_the_registry(registry: FakeRegistry, app: RegistrySource) -> None:
    body = (
        b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}'
    )
    registry.on("*", f"{MANIFESTS}/1.0", Reply(429, {}, body))
    with pytest.raises(RateLimited, match="pull rate limit"):
        app.document("1.0")
    # The limit lasts longer than a retry would wait.
    assert len(registry.log) == 1


def test_docker_hub_is_requested_at_its_api_host() -> None:
    with transport() as wire:
        hub = open_registry(wire, "docker.io", "library/alpine")
        assert (hub.endpoint.host, hub.endpoint.credentials) == (
            "registry-1.docker.io",
            "docker.io",
        )
        assert open_registry(wire, "ghcr.io", "x/y").endpoint.host == "ghcr.io"
