"""The list index of names: as correct as reading every file, and optional."""

from __future__ import annotations

import json
import random
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.results.store import Retention
from resolver.errors import StoreFault
from resolver.store import LocalStore, NameRecord, collect, reachable
from resolver.store import images as listing
from tests.kit.images import build_image, build_layer, multi_platform
from tests.kit.stored_images import (
    BASE,
    ONE,
    TWO,
    age,
    everything,
    fill,
    held,
    place,
    pull,
    put,
    spoil,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOST = build_image("linux/amd64", [BASE, build_layer({"lost": b"l" * 3000})])
MANY = multi_platform("linux/amd64", "linux/arm64/v8", attestations=True)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep an index of any store, as soon as something changed."""
    for module in (reachable, listing, collect):
        monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(reachable, "_STALE", 1)
    monkeypatch.setattr(reachable, "_BLURRED", 0)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, "localhost/one:1", ONE, at=10)
    pull(store, "localhost/two:1", TWO, at=20)
    pull(store, "localhost/many:1", MANY, ["linux/amd64"], at=30)
    fill(store, LOST)
    store.remember(NameRecord("localhost/seen:1", MANY.descriptor))
    # Times of files move on in steps of some milliseconds.
    time.sleep(0.02)
    return store


def without_index(store: LocalStore) -> LocalStore:
    """Return the same store without its list index."""
    for name in (reachable.INDEX, reachable.NOTES):
        (store.root / name).unlink(missing_ok=True)
    return store


def no_reading(*_arguments: object) -> object:
    raise AssertionError


def test_listed_image_is_not_read_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.images()
    assert (store.root / reachable.INDEX).stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(listing, "_entry", no_reading)

    assert LocalStore(store.root).images() == first
    assert [image.reference for image in first] == [
        "localhost/many:1",
        "localhost/one:1",
        "localhost/two:1",
        "",
    ]


def cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def config_of(store: LocalStore) -> Path:
    return place(store, next(d for d, body in ONE.blobs.items() if body.startswith(b"{")))


CHANGES: dict[str, Callable[[LocalStore], object]] = {
    "nothing": lambda _store: None,
    "a layer is gone": lambda store: place(store, Digest.of(BASE)).unlink(),
    "a layer has another size": lambda store: cut(place(store, Digest.of(BASE))),
    "a manifest is gone": lambda store: place(store, ONE.digest).unlink(),
    "a manifest is damaged": lambda store: spoil(place(store, ONE.digest)),
    "a config is damaged": lambda store: spoil(config_of(store)),
    "a name is gone": lambda store: store.unname("localhost/one:1"),
    "a name is another image": lambda store: pull(store, "localhost/one:1", TWO, at=40),
    "a name is damaged": lambda store: next((store.root / "names").iterdir()).write_text("{"),
    "a platform is added": lambda store: pull(store, "localhost/many:1", MANY, at=50),
    "an image is added": lambda store: pull(store, "localhost/three:1", LOST, at=60),
    "what nothing names is removed": lambda store: store.remove(LOST.digest),
    "what was seen is forgotten": lambda store: store.forget("localhost/seen:1"),
    "everything was collected": lambda store: store.collect(Retention(grace=0, max_size=0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_listing_with_an_index_shows_the_same_changes(store: LocalStore, change: str) -> None:
    store.images()
    store.usage()
    CHANGES[change](store)

    printed = (store.images(), store.usage())

    assert printed == (without_index(store).images(), store.usage())
    assert printed[0] == store.images()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _body: b"",
        lambda body: body[: len(body) // 2],
        lambda body: body.replace(b"localhost/one", b"localhost/two"),
        lambda _body: reachable._seal(b"[]") + b"\n[]",
        lambda _body: reachable._seal(b'{"schema": 2}') + b'\n{"schema": 2}',
        lambda _body: reachable._seal(b"{") + b"\n{",
    ],
)
def test_invalid_list_index_is_ignored(store: LocalStore, damage: Callable[[bytes], bytes]) -> None:
    first = store.images()
    for name in (reachable.INDEX, reachable.NOTES):
        path = store.root / name
        path.write_bytes(damage(path.read_bytes()))

    assert store.images() == first
    removed = store.remove("localhost/one:1")
    assert {str(digest) for digest in removed.deleted} == everything(ONE) - everything(TWO)


def test_recently_changed_name_is_read_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "_BLURRED", 3600 * 10**9)
    store.images()

    _, _, text = (store.root / reachable.INDEX).read_bytes().partition(b"\n")
    assert json.loads(text)["names"] == {}


def test_read_only_store_is_listed(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_named: object) -> object:
        raise StoreFault("tmp", "read-only file system")

    monkeypatch.setattr(reachable, "temporary", refuse)

    assert len(store.images()) == 4
    assert not (store.root / reachable.INDEX).exists()


def test_small_store_has_no_list_index(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    store.images()
    store.remove("localhost/one:1")

    assert not (store.root / reachable.INDEX).exists()


@pytest.mark.parametrize("is_listed", [False, True])
@pytest.mark.parametrize("target", ["localhost/one:1", "localhost/many:1"])
@pytest.mark.parametrize("change", ["nothing", "an image is added", "a platform is added"])
def test_removal_is_equal_with_and_without_a_list_index(
    tmp_path: Path, store: LocalStore, target: str, change: str, *, is_listed: bool
) -> None:
    if is_listed:
        store.images()
    CHANGES[change](store)
    shutil.copytree(store.root, tmp_path / "other")
    other = LocalStore(tmp_path / "other", fsync=False)

    removed = store.remove(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "LEAST", 1 << 30)
        assert other.remove(target) == removed

    assert held(store) == held(other)
    assert held(store) >= everything(TWO)
    assert store.verify(full=True).is_sound


def test_removal_beside_a_damaged_image_untags_and_deletes_nothing(
    store: LocalStore,
) -> None:
    store.images()
    spoil(place(store, TWO.digest))
    before = held(store)

    removed = store.remove("localhost/one:1")

    assert removed.untagged == ("localhost/one:1",)
    assert removed.deleted == ()
    assert held(store) == before


def test_removal_beside_an_unreadable_name_removes_nothing(store: LocalStore) -> None:
    store.images()
    bad = store.root / "names" / f"{'0' * 64}.json"
    bad.write_text("{")

    with pytest.raises(StoreFault, match="the content that this name needs is unknown"):
        store.remove("localhost/one:1")

    assert store.pulled("localhost/one:1") is not None


def test_removal_keeps_content_in_use_or_pulled(store: LocalStore) -> None:
    store.images()
    layer = next(iter(set(everything(ONE)) - set(everything(TWO)) - {ONE.digest}))
    with store.lease([Digest.parse(layer)], "serve"):
        store.remove("localhost/one:1")
    store.remove("localhost/many:1")

    assert layer in held(store)
    assert MANY.digest in held(store)


# Growth


def test_sharing_equals_a_count_of_every_pair(store: LocalStore) -> None:
    pieces = [build_layer({f"p{number}": b"x" * 50 * (number + 1)}) for number in range(12)]
    chance = random.Random(7)
    for number in range(60):
        some = chance.sample(pieces, 3)
        pull(store, f"localhost/app:{number:02}", build_image("linux/amd64", [BASE, *some]), at=1)

    printed = store.usage()

    root = store._home.open()
    assert root is not None
    with root:
        found = listing.StoreSnapshot.take(root, list(store.pulled_names()))
    rows = {row.record.reference: set(row.needs) for row in found.rows}
    for image in printed.images:
        mine = rows.pop(image.reference)
        others = [
            (name, sum(found.files[digest].st_size for digest in mine & needs))
            for name, needs in rows.items()
        ]
        rows[image.reference] = mine
        ranked = sorted((o for o in others if o[1]), key=lambda other: (-other[1], other[0]))
        assert image.sharing == len(ranked)
        assert [size for _, size in image.sharers] == [size for _, size in ranked][:20]
        assert set(image.sharers) <= set(ranked)


def test_sharing_of_a_common_base_names_a_few_images(store: LocalStore) -> None:
    for number in range(100):
        image = build_image("linux/amd64", [BASE, build_layer({"n": b"%d" % number})])
        pull(store, f"localhost/app:{number:03}", image)

    usage = store.usage()

    (last,) = [image for image in usage.images if image.reference == "localhost/app:099"]
    assert len(last.sharers) == listing.MAX_SHARERS
    assert last.sharing == 101
    assert last.sharers[0] == ("localhost/app:000", last.shared)


def test_gc_size_limit_reads_every_name_once(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    known = reachable.Reach.of_name
    for number in range(40):
        image = build_image("linux/amd64", [BASE, build_layer({"n": b"%d" % number})])
        pull(store, f"localhost/app:{number}", image, at=number)
    put(store, b"stray")
    age(store)

    def of_name(self: reachable.Reach, record: object) -> object:
        asked.append(record.reference)  # type: ignore[attr-defined]  # a PulledName
        return known(self, record)  # type: ignore[arg-type]

    monkeypatch.setattr(reachable.Reach, "of_name", of_name)
    collected = store.collect(Retention(grace=0, max_size=30_000))

    assert collected.total <= 30_000
    assert len(asked) == len(set(asked)) == 43


def test_unreadable_content_is_neither_deleted_nor_cached(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = reachable.Reach._body
    failed: list[Digest] = []

    def body(self: reachable.Reach, digest: Digest) -> bytes | None:
        if str(digest) == TWO.digest and not failed:
            failed.append(digest)
            raise StoreFault("there", "input/output error")
        return known(self, digest)

    monkeypatch.setattr(reachable.Reach, "_body", body)
    removed = store.remove("localhost/one:1")

    assert failed
    assert {str(digest) for digest in removed.deleted} == everything(ONE) - everything(TWO)
    assert not any(image.missing for image in store.images())
    assert store.images() == without_index(store).images()


def test_removal_keeps_platforms_of_another_name(store: LocalStore) -> None:
    pull(store, "localhost/arm:1", MANY, ["linux/arm64/v8"], at=70)
    store.images()

    store.remove("localhost/many:1")

    assert everything(MANY, ["linux/arm64/v8"]) <= held(store)
    assert not any(image.missing for image in store.images())


@pytest.mark.parametrize("seed", range(6))
def test_random_removals_are_equal_with_and_without_a_list_index(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    platforms = ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"]
    images = [multi_platform(*platforms), multi_platform(*platforms[:2]), ONE, TWO]
    mine = LocalStore(tmp_path / "mine", fsync=False)
    for number in range(12):
        image = chance.choice(images)
        offered = [child.platform for child in image.children if child.platform]
        wanted = chance.sample(offered, chance.randint(1, len(offered))) if offered else None
        pull(mine, f"localhost/app:{number}", image, wanted, at=number)
    time.sleep(0.02)
    mine.images()
    shutil.copytree(mine.root, tmp_path / "other")
    other = LocalStore(tmp_path / "other", fsync=False)
    while names := sorted(record.reference for record in mine.pulled_names()):
        name = chance.choice(names)
        record = mine.pulled(name)
        assert record is not None
        platform = chance.choice([None, record.images[0].platform])

        removed = mine.remove(name, platform)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collect, "LEAST", 1 << 30)
            assert other.remove(name, platform) == removed

        assert held(mine) == held(other)
        assert not any(image.missing for image in mine.images())
