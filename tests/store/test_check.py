"""Verification and repair of a store, and its image list and disk usage."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.results.store import Damage, DiskUsage, Retention, Verified
from resolver.errors import StoreFault
from resolver.store import LocalStore, NameRecord
from tests.kit.images import build_image, build_layer, multi_platform
from tests.kit.stored_images import BASE, blob_of, everything, held, place, pull, put
from tests.store.faults import unverified

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.core.oci.descriptor import Descriptor

OWN_ONE, OWN_TWO = build_layer({"one": b"1" * 3000}), build_layer({"two": b"2" * 3000})
ONE = build_image("linux/amd64", [BASE, OWN_ONE], config={"created": "2024-05-01T00:00:00Z"})
TWO = build_image("linux/amd64", [BASE, OWN_TWO])
MANY = multi_platform("linux/amd64", "linux/arm64/v8", "linux/s390x", attestations=True)
PULLED = ["linux/amd64", "linux/arm64/v8"]
APP, OTHER, WIDE = "localhost/app:1", "localhost/other:1", "localhost/wide:1"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, APP, ONE)
    pull(store, OTHER, TWO)
    pull(store, WIDE, MANY, PULLED)
    return store


def sources() -> dict[str, bytes]:
    """Everything that a registry serves."""
    bodies: dict[str, bytes] = {}
    for image in (ONE, TWO, MANY):
        bodies |= {digest: body for digest, (_, body) in image.documents.items()}
        bodies |= image.blobs
    return bodies


def fetcher(store: LocalStore) -> Callable[[Descriptor, tuple[str, ...]], bool]:
    """Fetch anew, as a pull does."""
    bodies = sources()

    def fetch(descriptor: Descriptor, references: tuple[str, ...]) -> bool:
        assert references
        with store.receive(descriptor) as receiving:
            if receiving is not None:
                receiving.write(0, bodies[str(descriptor.digest)])
                receiving.finish()
        return True

    return fetch


def spoil(store: LocalStore, digest: Digest | str, body: bytes | None = None) -> None:
    """Change one bit, or everything."""
    path = place(store, digest)
    path.chmod(0o600)
    old = path.read_bytes()
    path.write_bytes(bytes([old[0] ^ 1]) + old[1:] if body is None else body)


def problems(verified: Verified) -> dict[str, str]:
    return {damage.name: damage.problem for damage in verified.damaged}


# Checking


def test_verify_reports_a_valid_store_as_valid(store: LocalStore) -> None:
    put(store, b"stray")

    verified = store.verify()

    assert verified.is_sound
    assert verified.damaged == ()
    assert verified.names == 3
    assert verified.blobs == len(held(store))
    assert verified.size == verified.hashed > 0


def test_image_pulled_during_a_check_is_whole(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, APP, ONE)
    left = [(OTHER, TWO)]

    def pull_another(_done: int, _total: int) -> None:
        if left:
            pull(store, *left.pop())

    verified = store.verify(full=True, hashed=pull_another)

    assert verified.damaged == ()
    assert verified.names == 2
    assert verified.blobs == len({*ONE.documents, *ONE.blobs, *TWO.documents, *TWO.blobs})


def test_verify_of_a_missing_store_is_valid_and_creates_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "none")

    assert store.verify(repair=fetcher(store)) == Verified(0, 0, 0, 0, ())
    assert store.images() == ()
    assert store.usage() == DiskUsage((), 0, 0, 0, 0)
    assert not store.root.exists()


def test_verify_finds_exactly_the_damage_with_the_affected_names(store: LocalStore) -> None:
    stray = put(store, b"stray")
    for number in range(50):
        put(store, b"%d" % number)
    (store.root / "blobs" / "sha256" / "wrong-name").write_bytes(b"x")
    spoil(store, Digest.of(BASE))
    spoil(store, ONE.digest, b"")
    spoil(store, stray)
    place(store, Digest.of(OWN_TWO)).unlink()

    verified = store.verify()

    assert not verified.is_sound
    assert verified.damaged == tuple(
        sorted(
            [
                Damage(str(Digest.of(BASE)), "content", (OTHER,)),
                Damage(ONE.digest, "content", (APP,)),
                Damage(str(stray), "content", ()),
                Damage(str(Digest.of(OWN_TWO)), "missing", (OTHER,)),
            ],
            key=lambda damage: damage.name,
        )
    )
    # Damaged content is quarantined, never served, and never deleted.
    assert [path.name for path in unverified(store.root)] == ["wrong-name"]
    assert len(list((store.root / "tmp").iterdir())) == 3


def test_verify_hashes_large_blobs_only_on_request(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", fsync=False)
    large = bytes(MAX_DOCUMENT + 1)
    digest = put(store, large)
    spoil(store, digest)

    quick = store.verify()
    assert quick.is_sound
    assert quick.hashed == 0
    assert problems(store.verify(full=True)) == {str(digest): "content"}


def test_verify_finds_a_truncated_blob_without_hashing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", fsync=False)
    layer = random.Random(1).randbytes(MAX_DOCUMENT + 10)
    image = build_image("linux/amd64", [layer])
    pull(store, APP, image)
    place(store, Digest.of(layer)).chmod(0o600)
    os.truncate(place(store, Digest.of(layer)), MAX_DOCUMENT + 5)

    assert problems(store.verify()) == {str(Digest.of(layer)): "size"}


def test_verify_finds_irregular_files_without_following_them(
    store: LocalStore, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(BASE)
    paths = [place(store, digest) for digest in (Digest.of(BASE), ONE.digest, TWO.digest)]
    for path in paths:
        path.unlink()
    paths[0].symlink_to(canary)
    os.mkfifo(paths[1])
    paths[2].mkdir()

    assert set(problems(store.verify()).values()) == {"not-a-file"}
    assert canary.read_bytes() == BASE
    assert store.verify(repair=fetcher(store)).is_sound


def test_verify_finds_a_valid_blob_that_is_not_a_document(
    store: LocalStore,
) -> None:
    body = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}'
    record = pull(store, APP, ONE)
    digest = put(store, body)
    bad = blob_of(body)
    path = store.root / "names"
    root = replace(record.root, digest=digest, size=bad.size)
    store._pulled.put(replace(record, root=root, images=()))

    verified = store.verify(repair=fetcher_of_nothing)

    assert problems(verified) == {str(digest): "unreadable"}
    assert not verified.is_sound
    assert len(list(path.iterdir())) == 3


def fetcher_of_nothing(_descriptor: Descriptor, _references: tuple[str, ...]) -> bool:
    return False


def test_verify_keeps_a_good_blob_with_a_false_size_elsewhere(
    store: LocalStore,
) -> None:
    record = pull(store, WIDE, MANY, PULLED)
    lie = replace(record.images[0].manifest, size=1)
    store._pulled.put(replace(record, images=(replace(record.images[0], manifest=lie),)))

    verified = store.verify(repair=fetcher_of_nothing)

    assert problems(verified) == {str(lie.digest): "size"}
    assert not verified.is_sound
    assert str(lie.digest) in held(store)


# Mending


def test_repair_fetches_needed_blobs_and_quarantines_others(
    store: LocalStore,
) -> None:
    stray = put(store, b"stray")
    spoil(store, stray)
    spoil(store, Digest.of(BASE))
    spoil(store, ONE.digest)
    place(store, Digest.of(OWN_ONE)).unlink()

    verified = store.verify(repair=fetcher(store))

    assert verified.is_sound
    assert {damage.repaired for damage in verified.damaged} == {True}
    assert str(Digest.of(OWN_ONE)) in problems(verified)
    assert store.verify(full=True).damaged == ()
    assert str(stray) not in held(store)


def test_repair_leaves_unavailable_blobs_damaged(store: LocalStore) -> None:
    spoil(store, Digest.of(BASE))
    asked: list[tuple[str, ...]] = []

    def fail(_descriptor: Descriptor, references: tuple[str, ...]) -> bool:
        asked.append(references)
        return True

    verified = store.verify(repair=fail)

    assert not verified.is_sound
    assert asked == [(APP, OTHER)]
    assert problems(store.verify()) == {str(Digest.of(BASE)): "missing"}


def test_verify_finds_an_unreadable_name_and_repair_quarantines_it(
    store: LocalStore,
) -> None:
    path = next((store.root / "names").iterdir())
    path.write_bytes(b"{")
    store.remember(NameRecord(APP, ONE.descriptor))
    seen = next((store.root / "seen").iterdir())
    seen.write_bytes(b"")

    assert problems(store.verify()) == {str(path): "bad-name", str(seen): "bad-name"}
    verified = store.verify(repair=fetcher(store))

    assert verified.is_sound
    assert verified.names == 2
    assert store.verify().damaged == ()
    store.collect()


@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "other"])
def test_repair_restores_any_file_missing_from_a_cached_store(
    tmp_path: Path, store: LocalStore, harm: str
) -> None:
    with store.receive(blob_of(b"partial")) as receiving:
        assert receiving is not None
        receiving.write(0, b"par")
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(files) > 20
    for number, path in enumerate(files):
        copy = LocalStore(tmp_path / str(number), fsync=False)
        shutil.copytree(store.root, copy.root)
        hurt = copy.root / path.relative_to(store.root)
        hurt.chmod(0o600)
        if harm == "missing":
            hurt.unlink()
        elif harm == "empty":
            hurt.write_bytes(b"")
        elif harm == "cut":
            hurt.write_bytes(hurt.read_bytes()[:-1])
        elif hurt.name != "version":
            hurt.write_bytes(b"x" * hurt.stat().st_size)
        mended(copy)
        shutil.rmtree(copy.root)


def mended(store: LocalStore) -> None:
    """Pull everything again, as the next job does."""
    for reference, image in ((APP, ONE), (OTHER, TWO)):
        pull(store, reference, image)
    pull(store, WIDE, MANY, PULLED)
    assert store.verify(full=True).is_sound
    assert unverified(store.root) == []
    store.collect(Retention(grace=0))
    assert held(store) == everything(ONE) | everything(TWO) | everything(MANY, PULLED)


def test_verify_leaves_a_store_of_an_unknown_version_alone(store: LocalStore) -> None:
    (store.root / "version").write_text("2\n")

    with pytest.raises(StoreFault, match="its version is `2`"):
        mended(store)


# Listing


def test_images_are_listed_with_their_sizes(store: LocalStore) -> None:
    app, other, wide = store.images()

    assert [image.reference for image in (app, other, wide)] == [APP, OTHER, WIDE]
    (config,) = (digest for digest, body in ONE.blobs.items() if body.startswith(b"{"))
    assert str(app.image_id) == config
    assert app.platforms == app.offered == ("linux/amd64",)
    assert app.created == "2024-05-01T00:00:00Z"
    assert app.size == ONE.size + sum(map(len, ONE.blobs.values()))
    assert app.shared_size == other.shared_size == len(BASE)
    assert not app.dangling
    assert app.missing == ()
    assert str(wide.image_id) == MANY.digest
    assert wide.platforms == ("linux/amd64", "linux/arm64/v8")
    assert wide.offered == ("linux/amd64", "linux/arm64/v8", "linux/s390x")
    assert wide.shared_size == 0


def test_image_without_a_name_is_dangling(store: LocalStore) -> None:
    pull(store, APP, TWO)
    put(store, b"{}")
    store.remember(NameRecord("localhost/seen:1", MANY.descriptor))

    *named, loose = store.images()

    assert [image.reference for image in named] == [APP, OTHER, WIDE]
    assert loose.dangling
    assert loose.reference == ""
    assert loose.index == ONE.descriptor
    assert loose.created == "2024-05-01T00:00:00Z"
    assert loose.platforms == ()
    store.collect(Retention(grace=0))
    assert not any(image.dangling for image in store.images())


def test_documents_kept_by_resolve_are_not_an_image(store: LocalStore) -> None:
    three = build_image("linux/amd64", [build_layer({"three": b"3"})])
    (config,) = (body for body in three.blobs.values() if body.startswith(b"{"))
    put(store, config)
    put(store, three.body)

    assert len(store.images()) == 3


def test_image_list_marks_missing_and_damaged_content(store: LocalStore) -> None:
    place(store, Digest.of(OWN_ONE)).unlink()
    spoil(store, TWO.digest)

    app, other, _ = store.images()

    assert app.missing == (Digest.of(OWN_ONE),)
    assert other.missing == (Digest.parse(TWO.digest),)


def test_disk_usage_lists_images_that_share_layers(store: LocalStore) -> None:
    stray = put(store, b"stray")
    store.remember(NameRecord("localhost/seen:1", MANY.descriptor))
    with store.receive(blob_of(b"partial")) as receiving:
        assert receiving is not None
        receiving.write(0, b"par")
    (store.root / "tmp" / f"bad-{'0' * 32}").write_bytes(b"1234")

    usage = store.usage()

    app, other, wide = usage.images
    assert app.sharers == ((OTHER, len(BASE)),)
    assert other.sharers == ((APP, len(BASE)),)
    assert app.shared == len(BASE)
    assert app.own == sum(place(store, d).stat().st_size for d in everything(ONE)) - len(BASE)
    assert wide.shared == 0
    assert usage.unused == len(b"stray")
    assert str(stray) in held(store)
    assert usage.blobs == app.own + other.own + wide.own + len(BASE) + usage.unused
    assert usage.partial == len(b"partial")
    assert usage.temporary == 4
