"""The sample images: real, complete, and the same on every machine."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

import pytest

from resolver.core.oci.digest import Digest
from resolver.demo import Sample, samples
from resolver.demo.builders import build_image, build_index, build_layer, compress, index_entry

BY_NAME = {f"{sample.repository}:{sample.tag}": sample for sample in samples()}


def read(sample: Sample, digest: str | Digest) -> dict[str, Any]:
    key = Digest.parse(digest) if isinstance(digest, str) else digest
    document: dict[str, Any] = json.loads(sample.documents[key][1])
    return document


def images(sample: Sample) -> dict[str, dict[str, Any]]:
    """Find the manifests of an index by platform, attestations left out."""
    found = {}
    for entry in read(sample, sample.root.digest)["manifests"]:
        if "annotations" not in entry:
            found["/".join(entry["platform"].values())] = read(sample, entry["digest"])
    return found


def layers(manifest: dict[str, Any]) -> set[str]:
    return {layer["digest"] for layer in manifest["layers"]}


def test_sample_digests_do_not_depend_on_the_machine() -> None:
    assert {name: sample.root.digest.hex for name, sample in BY_NAME.items()} == {
        "demo/app:1.0": "f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda",
        "demo/app:2.0": "a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41",
        "demo/app:latest": "a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41",
        "demo/single:1.0": "311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede",
        "demo/liar:1.0": "b18a87ff50801f322595c83e1fef64e13ec0303aa779e7e293d521eb29e2f780",
    }


@pytest.mark.parametrize("sample", samples(), ids=list(BY_NAME))
def test_every_sample_digest_and_size_is_correct(sample: Sample) -> None:
    bodies = {digest: body for digest, (_, body) in sample.documents.items()} | dict(sample.blobs)
    for digest, body in bodies.items():
        assert Digest.of(body) == digest

    named = {sample.root.digest}
    for media_type, body in sample.documents.values():
        document = json.loads(body)
        assert document["mediaType"] == media_type
        below = document.get("manifests") or [document["config"], *document["layers"]]
        for entry in below:
            digest = Digest.parse(entry["digest"])
            assert len(bodies[digest]) == entry["size"]
            named.add(digest)
    assert named == set(bodies)


@pytest.mark.parametrize("sample", samples(), ids=list(BY_NAME))
def test_sample_layers_match_their_configs(sample: Sample) -> None:
    manifests = [json.loads(body) for _, body in sample.documents.values()]
    for manifest in manifests:
        if "layers" not in manifest:
            continue
        config = json.loads(sample.blobs[Digest.parse(manifest["config"]["digest"])])
        held = [sample.blobs[Digest.parse(layer["digest"])] for layer in manifest["layers"]]
        if config["os"] == "unknown":
            assert config["rootfs"]["diff_ids"] == [str(Digest.of(blob)) for blob in held]
            continue
        plain = [gzip.decompress(blob) for blob in held]
        assert config["rootfs"]["diff_ids"] == [str(Digest.of(tar)) for tar in plain]
        steps = [step for step in config["history"] if not step.get("empty_layer")]
        assert len(steps) == len(plain)
        for tar in plain:
            with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                members = archive.getmembers()
            assert members
            assert {member.mtime for member in members} == {0}


def test_sample_app_has_five_platforms() -> None:
    sample = BY_NAME["demo/app:1.0"]
    entries = read(sample, sample.root.digest)["manifests"]

    assert list(images(sample)) == [
        "linux/amd64",
        "linux/arm64/v8",
        "linux/arm/v7",
        "windows/amd64/10.0.20348.2700",
        "windows/amd64/10.0.26100.1742",
    ]
    statements = [entry for entry in entries if "annotations" in entry]
    assert [entry["platform"] for entry in statements] == [
        {"os": "unknown", "architecture": "unknown"}
    ] * 3
    assert [entry["annotations"]["vnd.docker.reference.digest"] for entry in statements] == [
        entry["digest"] for entry in entries[:3]
    ]


def test_linux_samples_share_one_layer() -> None:
    found = images(BY_NAME["demo/app:1.0"])
    linux = [layers(manifest) for name, manifest in found.items() if name.startswith("linux/")]

    assert len(set.intersection(*linux)) == 1


def test_two_sample_versions_share_all_layers_but_one() -> None:
    first, second = images(BY_NAME["demo/app:1.0"]), images(BY_NAME["demo/app:2.0"])

    for name in first:
        assert len(layers(first[name]) - layers(second[name])) == 1


def test_single_sample_has_no_index() -> None:
    sample = BY_NAME["demo/single:1.0"]

    assert "layers" in read(sample, sample.root.digest)
    assert len(sample.documents) == 1


def test_liar_sample_labels_its_amd64_build_as_arm64() -> None:
    sample = BY_NAME["demo/liar:1.0"]
    found = images(sample)
    sold = found["linux/arm64/v8"]
    config = json.loads(sample.blobs[Digest.parse(sold["config"]["digest"])])

    assert config["architecture"] == "amd64"
    assert sold["layers"] == found["linux/amd64"]["layers"]
    assert sold["config"] != found["linux/amd64"]["config"]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 131_070, 200_000])
def test_sample_gzip_is_readable(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)

    assert gzip.decompress(compress(content[:size])) == content[:size]


def test_equal_sample_files_give_equal_layers() -> None:
    assert build_layer({"a": b"1"}) == build_layer({"a": b"1"})
    assert build_layer({"a": b"1"}) != build_layer({"a": b"2"})


def test_sample_index_has_the_requested_platforms() -> None:
    image = build_image("linux/arm/v7", [b"plain tar"])
    index = build_index(
        [
            index_entry(image),
            index_entry(image, platform="windows/amd64:10.0.1"),
            index_entry(image, platform=""),
        ],
        parts=[image],
    )
    entries = json.loads(index.documents[index.root.digest][1])["manifests"]

    assert [entry.get("platform") for entry in entries] == [
        {"os": "linux", "architecture": "arm", "variant": "v7"},
        {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"},
        None,
    ]
