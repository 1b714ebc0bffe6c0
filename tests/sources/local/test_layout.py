"""OCI layouts in a folder."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.target import LayoutTarget, parse_target
from resolver.errors import (
    BadDocument,
    BlobNotFound,
    DigestMismatch,
    InvalidDigest,
    LimitExceeded,
    NotFound,
    ResolverError,
    SizeMismatch,
    Unavailable,
    UnsupportedDocument,
)
from resolver.sources import open_local, settle
from resolver.sources.local.layout import IMAGE_NAME, REF_NAME, LayoutSource
from resolver.sources.local.tree import FolderTree
from tests.kit.archives import saved, tar
from tests.kit.images import build_image, multi_platform
from tests.kit.layouts import write_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.core.oci.content import Source

ONE = build_image("linux/amd64")
TWO = multi_platform("linux/amd64", "linux/arm64")


def opened(folder: Path) -> Source:
    return open_local(LayoutTarget("oci", str(folder), None))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "layout", {"1": ONE, "2": TWO})


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "layout").mkdir()


def blob(layout: Path, digest: str) -> Path:
    algorithm, _, digits = digest.partition(":")
    return layout / "blobs" / algorithm / digits


def rewrite_index(layout: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((layout / "index.json").read_text())
    change(index)
    (layout / "index.json").write_text(json.dumps(index))


def annotate(layout: Path, number: int, **annotations: str) -> None:
    names = {
        "ref": "org.opencontainers.image.ref.name",
        "image": "io.containerd.image.name",
    }

    def change(index: dict[str, Any]) -> None:
        index["manifests"][number]["annotations"] = {
            names[key]: value for key, value in annotations.items()
        }

    rewrite_index(layout, change)


def test_layout_tag_finds_its_entry_and_bytes(layout: Path) -> None:
    source = opened(layout)

    assert source.resolve("1").digest == Digest.parse(ONE.digest)
    assert source.document("2").body == TWO.body
    assert source.document("2").descriptor == TWO.descriptor
    assert list(source.tags()) == ["1", "2"]
    assert source.warnings() == ()


def test_layout_with_one_entry_needs_no_name(layout: Path) -> None:
    rewrite_index(layout, lambda index: index["manifests"].pop())

    assert opened(layout).resolve("").digest == Digest.parse(ONE.digest)


def test_layout_with_one_image_under_two_names_needs_no_name(layout: Path) -> None:
    def double(index: dict[str, Any]) -> None:
        index["manifests"] = [index["manifests"][0], {**index["manifests"][0], "annotations": {}}]

    rewrite_index(layout, double)

    assert opened(layout).resolve("").digest == Digest.parse(ONE.digest)


def test_layout_with_several_images_lists_their_names(layout: Path) -> None:
    annotate(layout, 1)

    with pytest.raises(NotFound, match="2 images, and no name was given") as caught:
        opened(layout).resolve("")

    assert caught.value.hints() == (f"it holds `1`, `{TWO.digest}`",)


def test_unknown_layout_name_lists_the_known_ones(layout: Path) -> None:
    with pytest.raises(NotFound, match="no image named `3`") as caught:
        opened(layout).document("3")

    assert caught.value.hints() == ("it holds `1`, `2`",)


def test_layout_error_shortens_a_long_list_of_names(layout: Path) -> None:
    def fill(index: dict[str, Any]) -> None:
        entry = index["manifests"][0]
        index["manifests"] = [
            {**entry, "annotations": {"org.opencontainers.image.ref.name": f"v{number}"}}
            for number in range(30)
        ]

    rewrite_index(layout, fill)

    with pytest.raises(NotFound) as caught:
        opened(layout).resolve("absent")
    assert caught.value.hints()[0].endswith("`v19` and 10 more")


def test_layout_name_of_two_images_is_refused(layout: Path) -> None:
    annotate(layout, 1, ref="1")

    with pytest.raises(NotFound, match="2 different images named `1`"):
        opened(layout).resolve("1")


@pytest.mark.parametrize(
    "asked", ["docker.io/library/app:1", "app:1", "library/app:1", "index.docker.io/library/app:1"]
)
def test_layout_reference_is_found_in_any_spelling(layout: Path, asked: str) -> None:
    annotate(layout, 1, image="docker.io/library/app:1", ref="1")
    annotate(layout, 0, ref="quay.io/app:1")

    assert opened(layout).resolve(asked).digest == Digest.parse(TWO.digest)
    with pytest.raises(NotFound):
        opened(layout).resolve("quay.io/other:1")
    with pytest.raises(NotFound):
        opened(layout).resolve("no reference, and no tag")


def test_layout_digest_finds_unlisted_documents(layout: Path) -> None:
    source = opened(layout)
    child = TWO.child("linux/arm64")

    assert source.resolve(child.digest) == child.descriptor
    assert source.document(child.digest).body == child.body


def test_layout_blob_digest_is_not_a_document(layout: Path) -> None:
    source = opened(layout)
    config = json.loads(ONE.body)["config"]

    found = source.resolve(config["digest"])

    assert (str(found.digest), found.size) == (config["digest"], config["size"])
    assert found.media_type == "application/octet-stream"
    with pytest.raises(BadDocument):
        source.document(config["digest"])


def test_missing_layout_digest_is_not_found_and_an_invalid_one_is_refused(layout: Path) -> None:
    source = opened(layout)

    with pytest.raises(BlobNotFound):
        source.resolve(str(Digest.of(b"absent")))
    with pytest.raises(InvalidDigest):
        source.resolve("sha256:../../oci-layout")


def test_altered_layout_content_is_untrusted(layout: Path) -> None:
    blob(layout, ONE.digest).write_bytes(ONE.body[:-1] + b" ")
    blob(layout, TWO.digest).write_bytes(TWO.body[:-1])
    source = opened(layout)

    with pytest.raises(DigestMismatch):
        source.document("1")
    with pytest.raises(SizeMismatch):
        source.document("2")
    with pytest.raises(SizeMismatch), source.open(TWO.descriptor):
        pass
    assert not source.has(TWO.descriptor)


def test_missing_layout_content_is_not_found(layout: Path) -> None:
    blob(layout, ONE.digest).unlink()
    source = opened(layout)

    assert not source.has(ONE.descriptor)
    with pytest.raises(BlobNotFound):
        source.document("1")
    with pytest.raises(BlobNotFound), source.open(ONE.descriptor):
        pass


def test_layout_document_size_is_limited(layout: Path) -> None:
    body = bytes(4_194_305)
    digest = Digest.of(body)
    blob(layout, str(digest)).write_bytes(body)

    with pytest.raises(LimitExceeded):
        opened(layout).read(Descriptor(OCI_MANIFEST, digest, len(body)))
    assert opened(layout).resolve(str(digest)).size == len(body)


def test_layout_index_with_a_conflicting_type_is_refused(layout: Path) -> None:
    def lie(index: dict[str, Any]) -> None:
        index["manifests"][0]["mediaType"] = OCI_INDEX

    rewrite_index(layout, lie)

    with pytest.raises(BadDocument):
        opened(layout).document("1")


def plant_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def plant_fifo(path: Path, _target: Path) -> None:
    os.mkfifo(path)


def plant_folder(path: Path, _target: Path) -> None:
    path.mkdir()


PLANTS = [plant_link, plant_fifo, plant_folder]


@pytest.mark.parametrize("plant", PLANTS)
def test_irregular_layout_file_is_not_opened(
    layout: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "target"
    target.write_bytes(ONE.body)
    blob(layout, ONE.digest).unlink()
    plant(blob(layout, ONE.digest), target)
    source = opened(layout)

    error = UnsupportedDocument if plant is plant_link else BlobNotFound
    assert not source.has(ONE.descriptor)
    with pytest.raises(error):
        source.read(ONE.descriptor)
    with pytest.raises(error), source.open(ONE.descriptor):
        pass
    with pytest.raises(error):
        source.document(ONE.digest)


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize("plant", PLANTS)
def test_irregular_layout_index_is_refused(
    layout: Path, tmp_path: Path, name: str, plant: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "target"
    (layout / name).rename(target)
    plant(layout / name, target)

    linked = plant is plant_link
    with pytest.raises(UnsupportedDocument if linked else BadDocument) as caught:
        opened(layout)
    assert linked is ("it is a link, and links in a layout are not followed" in str(caught.value))


def test_symlinked_layout_folder_is_named(layout: Path, tmp_path: Path) -> None:
    (layout / "blobs" / "sha256").rename(tmp_path / "sha256")
    (layout / "blobs" / "sha256").symlink_to(tmp_path / "sha256")
    with pytest.raises(UnsupportedDocument, match=r"`blobs/sha256`.* is a link"):
        opened(layout).document("1")


def test_layout_below_a_symlinked_folder_is_opened(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "named").symlink_to(layout)
    assert opened(tmp_path / "named").document("1").body == ONE.body


@pytest.mark.parametrize("manifests", [None, []])
def test_empty_layout_holds_no_image(layout: Path, manifests: object) -> None:
    rewrite_index(layout, lambda index: index.update(manifests=manifests))
    source = opened(layout)
    assert list(source.tags()) == []
    with pytest.raises(NotFound, match="holds no image"):
        source.resolve("1")


def test_unpacked_docker_25_archive_is_read_by_its_manifest(layout: Path) -> None:
    rewrite_index(layout, lambda index: index.update(manifests=None))
    with tarfile.open(fileobj=io.BytesIO(tar(saved(ONE)))) as archive:
        archive.extractall(layout, filter="data")
    assert list(opened(layout).tags()) == ["app:1"]


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({REF_NAME: "docker.io/library/app:v1"}, ["docker.io/library/app:v1", "app:v1"]),
        ({REF_NAME: "localhost:5000/o/app:v1"}, ["localhost:5000/o/app:v1"]),
        ({REF_NAME: "v1", IMAGE_NAME: "docker.io/o/app:v1"}, ["v1", "o/app:v1"]),
        ({REF_NAME: "v1,v2"}, ["v1", "v2", "v1,v2"]),
        ({IMAGE_NAME: "ghcr.io/o/a:1,ghcr.io/o/b:2"}, ["ghcr.io/o/a:1", "ghcr.io/o/b:2"]),
    ],
)
def test_layout_image_is_found_by_every_name(
    layout: Path, annotations: dict[str, str], names: list[str]
) -> None:
    def name(index: dict[str, Any]) -> None:
        index["manifests"][0]["annotations"] = annotations

    rewrite_index(layout, name)
    for each in names:
        # As typed: the first colon after an existing path ends the path.
        target = parse_target(f"oci:{layout}:{each}")
        assert isinstance(target, LayoutTarget)
        settled = settle(target)
        assert (settled.path, settled.name) == (str(layout), each)
        assert str(open_local(settled).resolve(each).digest) == ONE.digest


def test_symlink_in_place_of_a_layout_folder_is_not_followed(layout: Path, tmp_path: Path) -> None:
    (layout / "blobs").rename(tmp_path / "elsewhere")
    (layout / "blobs").symlink_to(tmp_path / "elsewhere")

    assert not opened(layout).has(ONE.descriptor)


def test_layout_file_swapped_after_the_check_is_not_opened(layout: Path) -> None:
    name = f"blobs/sha256/{ONE.descriptor.digest.hex}"
    tree = FolderTree(str(layout))
    assert tree.size(name) == ONE.size
    (layout / name).unlink()
    os.mkfifo(layout / name)

    with pytest.raises(NotFound), tree.open(name):
        pass
    with pytest.raises(NotFound), tree.open("blobs/absent/x"):
        pass


def test_layout_named_through_a_symlink_is_opened(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(layout)

    assert opened(tmp_path / "alias").document("1").body == ONE.body


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ('{"imageLayoutVersion":"1.1.0"}', None),
        ('{"imageLayoutVersion":"9.9.9"}', UnsupportedDocument),
        ('{"imageLayoutVersion":"10.0.0"}', UnsupportedDocument),
        ('{"imageLayoutVersion":1}', BadDocument),
        ("{}", BadDocument),
        ("", BadDocument),
        ("[]", BadDocument),
        ("{" + " " * 5000 + "}", LimitExceeded),
    ],
)
def test_only_layout_version_1_is_read(
    layout: Path, version: str, error: type[ResolverError] | None
) -> None:
    (layout / "oci-layout").write_text(version)

    if error is None:
        assert list(opened(layout).tags()) == ["1", "2"]
    else:
        with pytest.raises(error, match="oci-layout"):
            opened(layout)


@pytest.mark.parametrize(
    "index",
    ["", "null", "[]", '{"schemaVersion":2,"manifests":[{}]}', '{"schemaVersion":2,"layers":[]}'],
)
def test_invalid_layout_index_is_refused(layout: Path, index: str) -> None:
    (layout / "index.json").write_text(index)

    with pytest.raises(BadDocument, match=r"index\.json"):
        opened(layout)


def test_empty_layout_index_holds_no_image(layout: Path) -> None:
    (layout / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')

    assert list(opened(layout).tags()) == []
    with pytest.raises(NotFound, match="holds no image") as caught:
        opened(layout).resolve("")
    assert caught.value.hints() == ()


def test_other_folder_is_refused_with_its_type(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        opened(tmp_path / "absent")
    with pytest.raises(UnsupportedDocument, match="it is a file") as caught:
        opened(layout / "index.json")
    assert "oci-archive:" in caught.value.hints()[0]
    with pytest.raises(BadDocument, match="not an OCI layout"):
        opened(layout / "blobs")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UnsupportedDocument, match="neither a file nor a folder"):
        opened(tmp_path / "fifo")


def test_os_error_is_unavailable(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = LayoutSource(FolderTree(str(layout)))

    def refuse(*_arguments: object, **_options: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unavailable, match="permission denied") as caught:
        source.read(ONE.descriptor)
    assert caught.value.hints() == ("make it readable for this user",)
