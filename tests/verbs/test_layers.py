"""Reading file trees of images: each layer once, verified to its end, from any source."""

from __future__ import annotations

import gzip
import hashlib
import threading
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from resolver.core.compare.file_difference import PathChange
from resolver.core.compare.files import compare_trees
from resolver.core.layers.listing import RoomLimits, TreeRoom
from resolver.core.layers.tar import DEFAULT_LIMITS, TarLimits
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.image import ImageEntry
from resolver.core.oci.manifest import Manifest, parse_config, parse_document
from resolver.core.platforms.platform import BUILTIN
from resolver.errors import (
    BadDocument,
    BlobNotFound,
    DigestMismatch,
    LimitExceeded,
    NotInStore,
    SizeMismatch,
    UnsupportedDocument,
    Untrusted,
)
from resolver.store import LocalStore
from resolver.verbs.layers import (
    HeldLayers,
    LayeredImage,
    fetching,
    read_layer,
    read_trees,
)
from resolver.verbs.transfer import Stopped
from tests.kit.images import build_image
from tests.kit.layers import GZIP, TAR, Contents, archive, image, paths, trees_of
from tests.kit.tar_blocks import END, header, member

if TYPE_CHECKING:
    from pathlib import Path


def test_layers_of_mixed_compressions_are_merged() -> None:
    contents = Contents()
    one, two, three = archive("a", "b"), archive("c", ".wh.a"), archive("d")
    layers = [
        (contents.add(gzip.compress(one)), one),
        (contents.add(zstd.compress(two), f"{TAR}+zstd"), two),
        (contents.add(three, TAR), three),
    ]

    (tree,) = trees_of([image(contents, *layers)])

    assert paths(tree) == ["b", "c", "d"]
    assert tree.warnings == ()


def test_shared_layer_is_read_once() -> None:
    contents = Contents()
    shared, own = archive("shared"), [archive("one"), archive("two")]
    first = (contents.add(gzip.compress(shared)), shared)
    images = [
        image(contents, first, (contents.add(gzip.compress(body)), body), first, label=str(number))
        for number, body in enumerate(own)
    ]

    trees = trees_of(images)

    assert [paths(tree) for tree in trees] == [["one", "shared"], ["shared", "two"]]
    assert len(contents.opened) == 3
    assert sorted(contents.drained) == sorted(contents.opened)


def test_no_images_or_no_layers_give_no_files() -> None:
    assert trees_of([]) == ()
    (tree,) = trees_of([image(Contents())])
    assert paths(tree) == []


@pytest.mark.parametrize(
    "body",
    [b"", bytes(1024), gzip.compress(b"", mtime=0)],
    ids=["nothing", "zeros", "gzip of nothing"],
)
def test_empty_layer_changes_nothing(body: bytes) -> None:
    contents = Contents()
    inside = gzip.decompress(body) if body.startswith(b"\x1f") else body
    one = archive("a")

    (tree,) = trees_of(
        [image(contents, (contents.add(one, TAR), one), (contents.add(body), inside))]
    )
    assert paths(tree) == ["a"]


# Wrong content


def test_layer_with_a_wrong_digest_is_refused_before_use() -> None:
    contents = Contents()
    one = archive("a")
    descriptor = contents.add(gzip.compress(one))
    contents.blobs[descriptor.digest] = gzip.compress(archive("b"))[: descriptor.size].ljust(
        descriptor.size, b"\0"
    )

    with pytest.raises(DigestMismatch, match="layer 1 of `app:1` for linux/amd64"):
        trees_of([image(contents, (descriptor, one))])


def test_damaged_layer_with_a_wrong_digest_is_reported_as_a_digest_error() -> None:
    contents = Contents()
    one = archive("a")
    descriptor = contents.add(one, TAR)
    contents.blobs[descriptor.digest] = b"x" * len(one)

    with pytest.raises(DigestMismatch):
        trees_of([image(contents, (descriptor, one))])


def test_too_few_and_too_many_bytes_are_refused() -> None:
    contents = Contents()
    one = archive("a")
    descriptor = contents.add(one, TAR)
    for body in (one[:-512], one + bytes(512)):
        contents.blobs[descriptor.digest] = body
        with pytest.raises(SizeMismatch):
            trees_of([image(contents, (descriptor, one))])


def test_bytes_after_the_archive_are_hashed() -> None:
    """A diff_id covers every byte, also those after the end-of-archive marker."""
    contents = Contents()
    one = archive("a")
    longer = one + bytes(100_000)
    descriptor = contents.add(gzip.compress(longer))

    with pytest.raises(Untrusted) as caught:
        trees_of([image(contents, (descriptor, one))])
    assert caught.value.code == "contradictory-layer"
    assert caught.value.facts()["actual"] == str(Digest.of(longer))
    assert paths(trees_of([image(contents, (descriptor, longer))])[0]) == ["a"]


def test_wrong_diff_id_names_the_layer() -> None:
    contents = Contents()
    one, two = archive("a"), archive("b")
    layers = [(contents.add(gzip.compress(one)), one), (contents.add(gzip.compress(two)), one)]

    with pytest.raises(Untrusted, match="layer 2 of `app:1` for linux/amd64 unpacks to") as caught:
        trees_of([image(contents, *layers)])
    assert caught.value.code == "contradictory-layer"


def test_diff_id_of_another_algorithm_is_verified() -> None:
    contents = Contents()
    one = archive("a")
    descriptor = contents.add(gzip.compress(one))
    for content, is_right in ((one, True), (b"other", False)):
        asked = LayeredImage(
            "x", None, "`x`", (descriptor,), (Digest.of(content, "sha512"),), contents
        )
        images = [asked, image(contents, (descriptor, one))]
        if is_right:
            assert len(trees_of(images)) == 2
        else:
            with pytest.raises(Untrusted, match="sha512") as caught:
                trees_of(images)
            assert caught.value.code == "contradictory-layer"


def test_several_bad_layers_report_the_same_error_every_time() -> None:
    contents = Contents()
    good = archive("a")
    bad = [(contents.add(b"x" * size, TAR), good) for size in (5000, 4000)]

    for _ in range(5):
        with pytest.raises(BadDocument, match="layer 2 of"):
            trees_of([image(contents, (contents.add(good, TAR), good), *bad)])


# Types and bytes


@pytest.mark.parametrize(
    ("media_type", "pack", "words"),
    [
        (TAR, gzip.compress, "its type is uncompressed, but its data is gzip"),
        (GZIP, bytes, "its type is gzip, but its data is uncompressed"),
        (f"{TAR}+zstd", gzip.compress, "its type is zstd, but its data is gzip"),
        (GZIP, zstd.compress, "its type is gzip, but its data is zstd"),
    ],
)
def test_compression_is_detected_from_bytes_and_a_wrong_type_is_a_warning(
    media_type: str, pack: object, words: str
) -> None:
    contents = Contents()
    one = archive("a")
    descriptor = contents.add(pack(one), media_type)  # type: ignore[operator] # one of those above

    (tree,) = trees_of([image(contents, (descriptor, one))])

    assert paths(tree) == ["a"]
    assert tree.warnings == (f"layer 1 of `app:1` for linux/amd64: {words}",)


@pytest.mark.parametrize(
    ("media_type", "body", "kind", "words"),
    [
        ("application/x-foo", archive("a"), UnsupportedDocument, "application/x-foo"),
        (f"{GZIP}+encrypted", archive("a"), UnsupportedDocument, "encrypted"),
        (GZIP, b"BZh91AY" + bytes(1000), UnsupportedDocument, "bzip2"),
        (GZIP, b"nonsense" * 100, BadDocument, "not gzip"),
        (TAR, b"nonsense" * 100, BadDocument, "checksum"),
    ],
)
def test_unknown_layer_format_is_reported(
    media_type: str, body: bytes, kind: type[Exception], words: str
) -> None:
    contents = Contents()
    with pytest.raises(kind, match=words):
        trees_of([image(contents, (contents.add(body, media_type), b""))])


# Limits and ends


def test_entries_of_all_layers_are_limited() -> None:
    assert DEFAULT_LIMITS.entries == 2_000_000
    contents = Contents()
    layers = [(contents.add(body, TAR), body) for body in (archive("a", "b"), archive("c", "d"))]

    assert trees_of([image(contents, *layers)], limits=TarLimits(entries=4))
    with pytest.raises(LimitExceeded, match="limit of 3 entries: 4"):
        trees_of([image(contents, *layers)], limits=TarLimits(entries=3))


def test_names_of_all_layers_are_limited() -> None:
    contents = Contents()
    layers = [(contents.add(body, TAR), body) for body in (archive("a", "b"), archive("c", "d"))]

    assert trees_of([image(contents, *layers)], limits=TarLimits(names=4))
    with pytest.raises(LimitExceeded, match="limit of 3 bytes: 4"):
        trees_of([image(contents, *layers)], limits=TarLimits(names=3))


def test_file_trees_of_all_images_share_a_memory_limit() -> None:
    contents = Contents()
    body = archive("a", "b/c")
    layer = (contents.add(body, TAR), body)

    assert trees_of([image(contents, layer)] * 2, room=TreeRoom(RoomLimits(paths=6)))
    with pytest.raises(LimitExceeded, match="limit of 5 paths: 6"):
        trees_of([image(contents, layer)] * 2, room=TreeRoom(RoomLimits(paths=5)))


@pytest.mark.parametrize(("count", "prefixes"), [(20_000, "aa"), (10_000, "ab")])
def test_million_paths_that_differ_fit_into_the_memory_limit(count: int, prefixes: str) -> None:
    """A fiftieth of them, in a fiftieth of the limit: in both trees, or half in each."""
    contents = Contents()
    images = []
    for number, prefix in enumerate(prefixes.encode()):
        parts = [
            member(
                b"usr/lib/%c/%d/module-%d.py" % (prefix, each // 1000, each),
                b"%d %d" % (each, number),
            )
            for each in range(count)
        ]
        body = b"".join((*parts, END))
        images.append(image(contents, (contents.add(body, TAR), body)))
    room = TreeRoom(RoomLimits(memory=RoomLimits().memory // 50), threading.RLock())

    trees = read_trees(images, room=room)
    (found,) = compare_trees(next(trees), trees, BUILTIN).others
    assert dict(found.counts).get(PathChange.CONTENT, 0) == (count if prefixes == "aa" else 0)
    assert sum(1 for _ in found.differences) == 20_000 + (22 if prefixes == "ab" else 0)


def test_reading_layers_stops_when_the_caller_stops() -> None:
    contents = Contents()
    descriptor = contents.add(archive(*(str(number) for number in range(100))), TAR)
    asked = iter([True, True, False])

    with pytest.raises(Stopped):
        read_layer(contents, descriptor, "it", lambda _: 0, is_wanted=lambda: next(asked))
    assert contents.drained == []


def test_missing_layer_is_an_error(tmp_path: Path) -> None:
    missing = Descriptor(GZIP, Digest.of(b"?"), 1)
    with pytest.raises(BlobNotFound):
        trees_of([image(Contents(), (missing, b""))])
    store = LocalStore(tmp_path / "store", fsync=False)
    held = image(Contents(), (missing, b""))
    held = LayeredImage("x", None, "`x`", held.layers, held.diff_ids, HeldLayers(store, "app:1"))
    with pytest.raises(NotInStore, match="its layer `sha256:"):
        trees_of([held])


# The store


def test_missing_layers_are_fetched_into_the_store_once(tmp_path: Path) -> None:
    contents = Contents()
    bodies = [archive("a", *map(str, range(50))), archive("b")]
    layers = [(contents.add(gzip.compress(body)), body) for body in bodies]
    store = LocalStore(tmp_path / "store", fsync=False)
    asked = []

    def source() -> Contents:
        asked.append(threading.current_thread().name)
        return contents

    pulled = image(contents, *layers)
    seen = []
    for _ in range(2):
        with fetching(store, source, "compare app:1") as content:
            asked_for = LayeredImage("x", None, "`x`", pulled.layers, pulled.diff_ids, content)
            seen += [paths(tree) for tree in trees_of([asked_for])]
    assert len(contents.opened) == len(asked) == 2
    assert all(store.has(descriptor) for descriptor, _ in layers)
    assert store.leases() == ()
    offline = LayeredImage(
        "x", None, "`x`", pulled.layers, pulled.diff_ids, HeldLayers(store, "app:1")
    )
    assert [paths(tree) for tree in trees_of([offline])] == seen[:1] == seen[1:]


def test_wrong_layer_bytes_are_not_stored(tmp_path: Path) -> None:
    contents = Contents()
    one = archive("a")
    descriptor = contents.add(one, TAR)
    contents.blobs[descriptor.digest] = one[:-1] + b"x"
    store = LocalStore(tmp_path / "store", fsync=False)

    with fetching(store, lambda: contents, "compare app:1") as content:
        asked = LayeredImage("x", None, "`x`", (descriptor,), (Digest.of(one),), content)
        with pytest.raises(DigestMismatch):
            trees_of([asked])
    assert not store.has(descriptor)


# Gathered documents


def test_layers_require_a_read_manifest_and_config() -> None:
    descriptor = Descriptor(GZIP, Digest.of(b"?"), 1)
    failed = ImageEntry(descriptor, (), None, None, None, BlobNotFound("sha256:x", "y"))
    with pytest.raises(BlobNotFound):
        LayeredImage.of(failed, "x", "`x`", Contents())
    with pytest.raises(BadDocument, match="not an image with a config"):
        LayeredImage.of(ImageEntry(descriptor, (), None, None, None), "x", "`x`", Contents())


def part(layers: int, diff_ids: int) -> ImageEntry:
    """Return the documents of an image whose config may have another number of layers."""
    built = build_image("linux/arm64", [bytes([number]) for number in range(layers)])
    other = build_image("linux/arm64", [bytes([number]) for number in range(diff_ids)])
    manifest = parse_document(built.body, built.media_type, "the manifest")
    assert isinstance(manifest, Manifest)
    body = next(blob for blob in other.blobs.values() if b"diff_ids" in blob)
    config = parse_config(body, "the config", None)
    return ImageEntry(built.descriptor, (), config.platform, manifest, config)


def test_layers_of_a_gathered_image_have_diff_ids() -> None:
    made = LayeredImage.of(part(2, 2), "arm64", "`x`", Contents())

    assert (len(made.layers), len(made.diff_ids), str(made.platform)) == (2, 2, "linux/arm64")


def test_number_of_diff_ids_must_equal_layers() -> None:
    with pytest.raises(BadDocument, match="3 for 2 layers in the manifest"):
        LayeredImage.of(part(2, 3), "arm64", "`x`", Contents())


def test_file_hashes_cover_the_content_of_files() -> None:
    contents = Contents()
    one = member(b"a", b"abc") + header(b"empty") + END

    (tree,) = trees_of([image(contents, (contents.add(one, TAR), one))])
    assert [each.sha256.hex() for _, each in tree.tree.walk()] == [
        hashlib.sha256(b"abc").hexdigest(),
        hashlib.sha256().hexdigest(),
    ]
