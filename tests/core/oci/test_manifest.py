"""Indexes and manifests: document types, and errors with their paths."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from resolver.core.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_DESCRIPTORS,
    OCI_ARTIFACT,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    SCHEMA1_SIGNED,
    EntryKind,
)
from resolver.core.oci.digest import Digest, verify
from resolver.core.oci.manifest import (
    MAX_DOCUMENT,
    MAX_LAYERS,
    Index,
    Manifest,
    entry_kind,
    parse_document,
)
from resolver.core.platforms.platform import Platform
from resolver.errors import (
    BadDocument,
    DigestMismatch,
    LimitExceeded,
    SizeMismatch,
    UnsupportedDocument,
    Untrusted,
)

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def entry(media_type: str = LAYER, content: bytes = b"layer", **members: object) -> dict[str, Any]:
    """Describe content; a member given as None is omitted."""
    digest = str(Digest.of(content))
    described = {"mediaType": media_type, "digest": digest, "size": len(content), **members}
    return {name: value for name, value in described.items() if value is not None}


def manifest(**members: object) -> dict[str, Any]:
    document = {"schemaVersion": 2, "config": entry(OCI_CONFIG, b"{}"), "layers": [entry()]}
    return {**document, **members}


def index(*entries: object, **members: object) -> dict[str, Any]:
    return {"schemaVersion": 2, "manifests": list(entries), **members}


def parse(
    document: object, content_type: str | None = OCI_MANIFEST, expected: str | None = None
) -> Index | Manifest:
    return parse_document(json.dumps(document).encode(), content_type, "the document", expected)


def refusal(
    document: object, content_type: str | None = OCI_MANIFEST, expected: str | None = None
) -> BadDocument:
    with pytest.raises(BadDocument) as caught:
        parse(document, content_type, expected)
    return caught.value


# Document types


@pytest.mark.parametrize("control", ["\r", "\n", "\0", "\r\nX-Header: x"])
def test_media_type_with_a_line_break_or_nul_is_refused(control: str) -> None:
    bad = f"application/x{control}"
    cases = [
        (manifest(layers=[entry(), entry(bad)]), OCI_MANIFEST, "layers[1].mediaType"),
        (manifest(config=entry(bad, b"{}")), OCI_MANIFEST, "config.mediaType"),
        (manifest(layers=[entry(artifactType=bad)]), OCI_MANIFEST, "layers[0].artifactType"),
        (manifest(artifactType=bad), OCI_MANIFEST, "artifactType"),
        (manifest(mediaType=bad), OCI_MANIFEST, "mediaType"),
        (manifest(subject=entry(bad)), OCI_MANIFEST, "subject.mediaType"),
        (index(entry(bad)), OCI_INDEX, "manifests[0].mediaType"),
        (index(entry(artifactType=bad)), OCI_INDEX, "manifests[0].artifactType"),
        (index(artifactType=bad), OCI_INDEX, "artifactType"),
    ]
    for document, kind, field in cases:
        refused = refusal(document, kind)

        assert refused.field == field
        assert refused.word == "FORMAT"


@pytest.mark.parametrize(
    ("document", "content_type", "kind"),
    [
        (manifest(), OCI_MANIFEST, OCI_MANIFEST),
        (manifest(), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (index(), DOCKER_LIST, DOCKER_LIST),
        (manifest(), f"  {OCI_MANIFEST.upper()} ; charset=utf-8", OCI_MANIFEST),
        (manifest(mediaType=DOCKER_MANIFEST), "text/plain", DOCKER_MANIFEST),
        (manifest(mediaType=DOCKER_MANIFEST), "text/html; charset=utf-8", DOCKER_MANIFEST),
        (manifest(mediaType=""), OCI_MANIFEST, OCI_MANIFEST),
        (manifest(mediaType=None), OCI_MANIFEST, OCI_MANIFEST),
        (manifest(), None, OCI_MANIFEST),
        (manifest(), "application/json", OCI_MANIFEST),
        (manifest(config=entry(DOCKER_CONFIG)), "", DOCKER_MANIFEST),
        (manifest(config=entry("application/vnd.x")), "text/plain", OCI_MANIFEST),
        (index(), "application/octet-stream", OCI_INDEX),
        ({"blobs": []}, None, OCI_ARTIFACT),
        (manifest(manifests=None), OCI_MANIFEST, OCI_MANIFEST),
        (index(layers=None, config=None), OCI_INDEX, OCI_INDEX),
    ],
)
def test_document_kind_is_the_agreed_media_type(
    document: dict[str, Any], content_type: str | None, kind: str
) -> None:
    assert parse(document, content_type).media_type == kind


@pytest.mark.parametrize(
    ("document", "content_type", "expected"),
    [
        (manifest(mediaType=DOCKER_MANIFEST), OCI_MANIFEST, None),
        (index(mediaType=OCI_INDEX), OCI_MANIFEST, None),
        (index(mediaType=OCI_INDEX), DOCKER_LIST, None),
        (manifest(mediaType=OCI_MANIFEST), None, DOCKER_MANIFEST),
        (manifest(), DOCKER_MANIFEST, OCI_MANIFEST),
        (manifest(mediaType=OCI_MANIFEST.upper()), OCI_MANIFEST, None),
        (manifest(mediaType=LAYER), OCI_MANIFEST, None),
        (manifest(), OCI_MANIFEST, LAYER),
    ],
)
def test_conflicting_media_types_are_refused_with_both(
    document: dict[str, Any], content_type: str | None, expected: str | None
) -> None:
    error = refusal(document, content_type, expected)
    assert error.field == "mediaType"
    message = [document.get("mediaType"), content_type, expected]
    assert all(kind in error.reason for kind in message if kind)


def test_descriptor_media_type_is_used_without_another() -> None:
    assert parse(index(), "text/plain", DOCKER_LIST).media_type == DOCKER_LIST
    assert parse(manifest(), None, "application/octet-stream").media_type == OCI_MANIFEST


@pytest.mark.parametrize(
    ("document", "content_type", "field", "named"),
    [
        (manifest(manifests=[]), OCI_MANIFEST, "manifests", ["config", "layers", "manifests"]),
        (manifest(manifests=[]), None, "manifests", ["config", "layers", "manifests"]),
        (manifest(manifests=[]), OCI_INDEX, "config", ["config", "layers", "manifests"]),
        (index(layers=[]), OCI_INDEX, "layers", ["layers", "manifests"]),
        (index(config={}), OCI_INDEX, "config", ["config", "manifests"]),
        (index(fsLayers=[]), DOCKER_LIST, "fsLayers", ["fsLayers", "manifests"]),
        (manifest(fsLayers=[]), OCI_MANIFEST, "fsLayers", ["config", "fsLayers"]),
        (index(), OCI_MANIFEST, "manifests", [OCI_MANIFEST]),
        (manifest(), OCI_INDEX, "config", [OCI_INDEX]),
        (index(), OCI_ARTIFACT, "manifests", [OCI_ARTIFACT]),
    ],
)
def test_document_with_fields_of_two_kinds_is_ambiguous(
    document: dict[str, Any], content_type: str | None, field: str, named: list[str]
) -> None:
    error = refusal(document, content_type)
    assert error.field == field
    assert "ambiguous" in str(error)
    assert all(f"`{name}`" in error.reason for name in named)


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({"schemaVersion": 1}, OCI_MANIFEST),
        ({"schemaVersion": 1, "fsLayers": []}, "application/json"),
        ({"fsLayers": []}, None),
        ({}, SCHEMA1),
        ({"schemaVersion": 2}, f"{SCHEMA1_SIGNED}; charset=utf-8"),
        ({"mediaType": SCHEMA1}, None),
    ],
)
def test_schema_1_is_named_with_a_workaround(document: object, content_type: str | None) -> None:
    with pytest.raises(UnsupportedDocument, match="schema 1") as caught:
        parse(document, content_type)
    assert caught.value.field == "schemaVersion"
    assert "push" in caught.value.hints()[0]


def test_unknown_document_type_is_unsupported() -> None:
    with pytest.raises(UnsupportedDocument) as caught:
        parse(manifest(mediaType="application/vnd.new+json"), "text/plain")
    assert caught.value.field == "mediaType"


@pytest.mark.parametrize("document", [{}, {"schemaVersion": 2}, {"errors": []}])
def test_unrecognisable_document_is_refused(document: object) -> None:
    assert refusal(document, "text/html").field == "mediaType"


@pytest.mark.parametrize("version", [True, 2.0, "2", 3, 0, -2, [2], None])
def test_schema_version_must_be_two(version: object) -> None:
    assert refusal(manifest(schemaVersion=version)).field == "schemaVersion"


def test_schema_version_is_required() -> None:
    document = manifest()
    del document["schemaVersion"]
    assert refusal(document).field == "schemaVersion"


# Fields


def test_index_keeps_its_order_and_fields() -> None:
    arm = {"os": "linux", "architecture": "ARM64", "variant": "v8", "features": ["x"]}
    windows = {
        "os": "windows",
        "architecture": "amd64",
        "os.version": "10.0",
        "os.features": ["win32k"],
    }
    parsed = parse(
        index(
            entry(OCI_MANIFEST, b"1", platform=arm, annotations={"b": "2", "a": "1"}),
            entry(OCI_MANIFEST, b"2", platform=windows, urls=["https://x"], artifactType="a/b"),
            {**entry(OCI_MANIFEST, b"3"), "platform": None, "annotations": None, "urls": None},
            entry("application/vnd.unknown", b"4", platform={}, future=[1]),
            annotations={"k": "v"},
            subject=entry(OCI_MANIFEST, b"5"),
            artifactType="x/y",
        ),
        OCI_INDEX,
    )
    assert isinstance(parsed, Index)
    assert [item.platform for item in parsed.manifests] == [
        Platform("linux", "ARM64", "v8"),
        Platform("windows", "amd64", os_version="10.0", os_features=("win32k",)),
        None,
        Platform(),
    ]
    first, second, third, _ = parsed.manifests
    assert first.annotations == (("a", "1"), ("b", "2"))
    assert (second.urls, second.artifact_type) == (("https://x",), "a/b")
    assert third.annotations == ()
    assert parsed.annotations == (("k", "v"),)
    assert parsed.artifact_type == "x/y"
    assert parsed.subject
    assert parsed.subject.digest == Digest.of(b"5")


def test_manifest_has_config_and_layers() -> None:
    parsed = parse(manifest(layers=[entry(content=b"1"), entry(content=b"2")]))
    assert isinstance(parsed, Manifest)
    assert parsed.config
    assert parsed.config.digest == Digest.of(b"{}")
    assert [layer.digest for layer in parsed.layers] == [Digest.of(b"1"), Digest.of(b"2")]
    assert parsed.is_image


@pytest.mark.parametrize(
    ("kind", "config", "is_image"),
    [
        (OCI_MANIFEST, OCI_CONFIG, True),
        (OCI_MANIFEST, DOCKER_CONFIG, True),
        (OCI_MANIFEST, OCI_EMPTY, False),
        (OCI_MANIFEST, "application/vnd.cncf.helm.config.v1+json", False),
        (OCI_MANIFEST, "application/octet-stream", False),
        (DOCKER_MANIFEST, "application/octet-stream", True),
        (DOCKER_MANIFEST, "application/vnd.docker.plugin.v1+json", False),
    ],
)
def test_config_media_type_identifies_an_image(kind: str, config: str, is_image: bool) -> None:
    parsed = parse(manifest(config=entry(config)), kind)
    assert isinstance(parsed, Manifest)
    assert parsed.is_image is is_image


def test_oci_artifact_manifest_is_read() -> None:
    document = {"mediaType": OCI_ARTIFACT, "artifactType": "a/b", "blobs": [entry()]}
    parsed = parse({**document, "subject": entry(OCI_MANIFEST, b"s")}, OCI_ARTIFACT)
    assert isinstance(parsed, Manifest)
    assert (parsed.config, parsed.is_image, parsed.artifact_type) == (None, False, "a/b")
    assert len(parsed.layers) == 1
    assert parse({"mediaType": OCI_ARTIFACT}, OCI_ARTIFACT) == Manifest(OCI_ARTIFACT, None, ())


@pytest.mark.parametrize("content_type", [OCI_MANIFEST, DOCKER_MANIFEST, None])
def test_null_layers_are_an_empty_list(content_type: str | None) -> None:
    parsed = parse(manifest(layers=None, annotations=None, manifests=None), content_type)
    assert isinstance(parsed, Manifest)
    assert (parsed.layers, parsed.annotations, parsed.lacks_layers) == ((), (), False)


def test_manifest_without_layers_is_read_with_a_note() -> None:
    document = manifest()
    del document["layers"]
    parsed = parse(document, OCI_MANIFEST)
    assert isinstance(parsed, Manifest)
    assert (parsed.layers, parsed.lacks_layers) == ((), True)


def test_null_lists_and_maps_of_a_descriptor_are_empty() -> None:
    bare = {**entry(), "urls": None, "annotations": None, "platform": None, "data": None}
    typed = {**bare, "platform": {"os": "linux", "architecture": "s390x", "os.features": None}}
    image, listing = (
        parse(manifest(layers=[bare]), OCI_MANIFEST),
        parse(index(bare, typed), OCI_INDEX),
    )
    assert isinstance(image, Manifest)
    assert isinstance(listing, Index)
    for read in (image.layers[0], listing.manifests[0]):
        assert (read.urls, read.annotations, read.platform) == ((), (), None)
    assert listing.manifests[1].platform == Platform("linux", "s390x")


@pytest.mark.parametrize("content_type", [OCI_INDEX, DOCKER_LIST, "text/plain", None])
def test_null_manifests_are_an_empty_list(content_type: str | None) -> None:
    parsed = parse({"schemaVersion": 2, "manifests": None, "layers": None}, content_type)
    assert isinstance(parsed, Index)
    assert parsed.manifests == ()
    artifact = parse({"mediaType": OCI_ARTIFACT, "blobs": None}, None)
    assert isinstance(artifact, Manifest)
    assert artifact.layers == ()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (manifest(config=None), "config"),
        (manifest(config=[]), "config"),
        (manifest(layers={}), "layers"),
        (manifest(layers=[entry(), None]), "layers[1]"),
        (manifest(layers=[entry(mediaType=None)]), "layers[0].mediaType"),
        (manifest(layers=[entry(mediaType="")]), "layers[0].mediaType"),
        (manifest(layers=[entry(mediaType=1)]), "layers[0].mediaType"),
        (manifest(layers=[entry(digest=None)]), "layers[0].digest"),
        (manifest(layers=[entry(digest=7)]), "layers[0].digest"),
        (manifest(layers=[entry(size=None)]), "layers[0].size"),
        (manifest(layers=[entry(size=2**63)]), "layers[0].size"),
        (manifest(layers=[entry(urls="x")]), "layers[0].urls"),
        (manifest(layers=[entry(urls=[1])]), "layers[0].urls[0]"),
        (manifest(layers=[entry(artifactType=1)]), "layers[0].artifactType"),
        (manifest(layers=[entry(annotations=[])]), "layers[0].annotations"),
        (manifest(layers=[entry(annotations={"a": None})]), "layers[0].annotations.a"),
        (manifest(layers=[entry(data="!")]), "layers[0].data"),
        (manifest(layers=[entry(data="\u00e9")]), "layers[0].data"),
        (manifest(layers=[entry(Size=1)]), "layers[0].Size"),
        (manifest(Layers=[]), "Layers"),
        (manifest(Manifests=[]), "Manifests"),
        (manifest(MediaType=OCI_INDEX), "MediaType"),
        (manifest(mediaType=[]), "mediaType"),
        (manifest(subject="x"), "subject"),
        (manifest(subject={}), "subject.digest"),
        (manifest(artifactType=1), "artifactType"),
        (manifest(annotations={"a" * 100: 1}), "annotations." + "a" * 63 + "…"),
    ],
)
def test_manifest_error_names_its_path(document: dict[str, Any], field: str) -> None:
    assert refusal(document).field == field


@pytest.mark.parametrize("size", ["NaN", "Infinity", "1e2", "12.0", "true", '"12"', "-1", "null"])
def test_size_must_be_a_whole_json_number(size: str) -> None:
    text = json.dumps(manifest(config=entry(size="SIZE"))).replace('"SIZE"', size)
    with pytest.raises(BadDocument) as caught:
        parse_document(text.encode(), OCI_MANIFEST, "it")
    assert caught.value.field == "config.size"


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../canary",
        "sha256:..%2f..%2fcanary",
        "../sha256:" + "a" * 64,
        "/etc/passwd",
        "sha256:" + "a" * 64 + "/../../x",
        "sha256:" + "a" * 64 + "\n",
        "SHA256:" + "a" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:",
        ":" + "a" * 64,
        "sha256:" + "\uff11" * 64,
        "",
    ],
)
def test_digest_must_be_canonical(digest: str) -> None:
    error = refusal(manifest(config=entry(digest=digest)))
    assert error.field == "config.digest"
    assert "canary" not in str(error)


@pytest.mark.parametrize("digest", ["blake3:" + "a" * 64, "md5:" + "a" * 32, "a+b.c:Zm9v_-="])
def test_index_may_list_an_unknown_digest_algorithm(digest: str) -> None:
    listed = {**entry(OCI_MANIFEST), "digest": digest, "data": "aGk="}
    parsed = parse(index(entry(OCI_MANIFEST), listed, subject=listed), OCI_INDEX)
    assert isinstance(parsed, Index)
    assert [entry.digest.is_verifiable for entry in parsed.manifests] == [True, False]
    assert str(parsed.manifests[1].digest) == digest
    # Embedded content without a matching digest is not used.
    assert parsed.manifests[1].data is None
    with pytest.raises(UnsupportedDocument, match="cannot be verified"):
        parsed.manifests[1].digest.require_verifiable("the entry")
    with pytest.raises(UnsupportedDocument):
        verify(b"hi", parsed.manifests[1].digest, 2, "the entry")


@pytest.mark.parametrize("digest", ["blake3:../../x", "blake3:", ":a", "b3:" + "a" * 300])
def test_malformed_digest_of_an_unknown_algorithm_is_refused(digest: str) -> None:
    with pytest.raises(BadDocument) as caught:
        parse(index(entry(OCI_MANIFEST, digest=digest)), OCI_INDEX)
    assert caught.value.field == "manifests[0].digest"


def test_image_with_an_unsupported_layer_digest_is_unsupported() -> None:
    with pytest.raises(UnsupportedDocument, match="md5") as caught:
        parse(manifest(layers=[entry(), entry(digest="md5:" + "a" * 32)]), OCI_MANIFEST)
    assert caught.value.field == "layers[1].digest"
    assert caught.value.word == "UNSUPPORTED"


@pytest.mark.parametrize(
    ("platform", "field"),
    [
        ("linux/amd64", "manifests[1].platform"),
        ({"os": 1}, "manifests[1].platform.os"),
        ({"architecture": []}, "manifests[1].platform.architecture"),
        ({"variant": 8}, "manifests[1].platform.variant"),
        ({"os.version": 10.0}, "manifests[1].platform.os.version"),
        ({"os.features": "x"}, "manifests[1].platform.os.features"),
        ({"os.features": [None]}, "manifests[1].platform.os.features[0]"),
        ({"OS": "linux"}, "manifests[1].platform.OS"),
    ],
)
def test_platform_error_names_its_path(platform: object, field: str) -> None:
    document = index(entry(OCI_MANIFEST), entry(OCI_MANIFEST, platform=platform))
    assert refusal(document, OCI_INDEX).field == field


# Embedded content, sizes, limits


def test_matching_embedded_content_is_used() -> None:
    data = base64.b64encode(b"{}").decode()
    parsed = parse(manifest(config=entry(OCI_EMPTY, b"{}", data=data)))
    assert isinstance(parsed, Manifest)
    assert parsed.config
    assert parsed.config.data == b"{}"


def test_wrong_embedded_content_is_refused() -> None:
    other = base64.b64encode(b"[]").decode()
    with pytest.raises(DigestMismatch) as mismatch:
        parse(manifest(config=entry(OCI_EMPTY, b"{}", data=other)))
    assert mismatch.value.what == "`config.data` of the document"
    longer = base64.b64encode(b"{}\n").decode()
    with pytest.raises(SizeMismatch) as size:
        parse(manifest(config=entry(OCI_EMPTY, b"{}", data=longer)))
    assert size.value.what == "`config.data` of the document"
    assert (size.value.expected, size.value.actual) == (2, 3)


@pytest.mark.parametrize(
    ("document", "content_type", "field"),
    [
        (manifest(layers=[entry(), entry(size=6)]), OCI_MANIFEST, "layers[1].size"),
        (manifest(layers=[entry(content=b"{}", size=3)]), OCI_MANIFEST, "layers[0].size"),
        (index(entry(), entry(size=9)), OCI_INDEX, "manifests[1].size"),
        (index(entry(), subject=entry(size=9)), OCI_INDEX, "manifests[0].size"),
        ({"blobs": [entry(), entry(size=9)]}, OCI_ARTIFACT, "blobs[1].size"),
    ],
)
def test_one_digest_with_two_sizes_is_refused(
    document: object, content_type: str, field: str
) -> None:
    assert refusal(document, content_type).field == field


def test_manifest_may_repeat_a_layer() -> None:
    parsed = parse(manifest(layers=[entry()] * 5))
    assert isinstance(parsed, Manifest)
    assert len(parsed.layers) == 5


def test_manifest_size_limit_is_four_mib() -> None:
    body = json.dumps(manifest()).encode()
    padded = body + b" " * (MAX_DOCUMENT - len(body))
    assert isinstance(parse_document(padded, OCI_MANIFEST, "it"), Manifest)
    with pytest.raises(LimitExceeded, match="4194304"):
        parse_document(padded + b" ", OCI_MANIFEST, "it")


SMALL = {"mediaType": "a/b", "digest": str(Digest.of(b"")), "size": 0}


def test_number_of_layers_is_limited() -> None:
    parsed = parse(manifest(layers=[SMALL] * MAX_LAYERS))
    assert isinstance(parsed, Manifest)
    assert len(parsed.layers) == MAX_LAYERS
    with pytest.raises(LimitExceeded, match="layers"):
        parse(manifest(layers=[SMALL] * (MAX_LAYERS + 1)))


def test_number_of_entries_is_limited() -> None:
    parsed = parse(index(*[SMALL] * MAX_DESCRIPTORS), OCI_INDEX)
    assert isinstance(parsed, Index)
    assert len(parsed.manifests) == MAX_DESCRIPTORS
    with pytest.raises(LimitExceeded, match="entries"):
        parse(index(*[SMALL] * (MAX_DESCRIPTORS + 1)), OCI_INDEX)


def test_every_document_error_is_one_line() -> None:
    with pytest.raises(Untrusted) as caught:
        parse(manifest(layers=[entry(digest="sha256:\n\n")]))
    assert "\n" not in str(caught.value)


SBOM = "application/spdx+json"


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({}, EntryKind.IMAGE),
        ({"artifactType": SBOM, "platform": {"os": "linux", "architecture": "amd64"}}, "artifact"),
        ({"artifactType": ""}, "image"),
        ({"artifactType": OCI_CONFIG}, "image"),
        ({"artifactType": DOCKER_CONFIG, "mediaType": DOCKER_MANIFEST}, "image"),
        ({"mediaType": OCI_ARTIFACT}, "artifact"),
        ({"mediaType": "application/vnd.example.disk"}, "artifact"),
        ({"mediaType": OCI_INDEX}, "index"),
        ({"mediaType": DOCKER_LIST}, "index"),
        ({"mediaType": OCI_INDEX, "artifactType": SBOM}, "artifact"),
        ({"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}, "attestation"),
        (
            {
                "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
                "artifactType": "application/vnd.docker.attestation.manifest.v1+json",
            },
            "attestation",
        ),
    ],
)
def test_index_entries_are_images_or_not(members: dict[str, Any], kind: EntryKind | str) -> None:
    described = {**entry(OCI_MANIFEST), **members}
    parsed = parse(index(described), OCI_INDEX)
    assert isinstance(parsed, Index)
    assert parsed.manifests[0].kind is EntryKind(kind)


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({}, EntryKind.IMAGE),
        ({"config": entry(OCI_EMPTY, b"{}")}, EntryKind.ARTIFACT),
        ({"config": entry(SBOM, b"{}")}, EntryKind.ARTIFACT),
        ({"artifactType": SBOM}, EntryKind.ARTIFACT),
        ({"artifactType": OCI_CONFIG}, EntryKind.IMAGE),
    ],
)
def test_manifest_shows_the_kind_of_its_entry(members: dict[str, Any], kind: EntryKind) -> None:
    parsed = parse(manifest(**members))
    listed = parse(index(entry(OCI_MANIFEST)), OCI_INDEX)
    marked = parse(index(entry(OCI_MANIFEST, artifactType=SBOM)), OCI_INDEX)
    assert isinstance(parsed, Manifest)
    assert isinstance(listed, Index)
    assert isinstance(marked, Index)
    assert entry_kind(listed.manifests[0], None) is EntryKind.IMAGE
    assert entry_kind(listed.manifests[0], parsed) is kind
    assert entry_kind(marked.manifests[0], parsed) is EntryKind.ARTIFACT
