"""Removing images: names first, then unneeded content; and refusals."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Warned
from resolver.core.results.store import Removed, Trimmed
from resolver.errors import ImageNotHeld, Malformed, Negative, StoreFault
from resolver.store import LocalStore, NameRecord, collect, remove
from tests.kit.images import Image, multi_platform
from tests.kit.stored_images import BASE, ONE, TWO, everything, fill, held, place, pull, put
from tests.store import faults as store_faults
from tests.store.faults import Stopped, unverified, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.core.results.events import Event

MANY = multi_platform("linux/amd64", "linux/arm64/v8")
AMD64, ARM64 = (Platform.parse(text) for text in ("linux/amd64", "linux/arm64"))


@pytest.fixture
def store(tmp_path: Path, events: list[Event]) -> LocalStore:
    store = LocalStore(tmp_path / "store", fsync=False, observe=events.append)
    pull(store, "localhost/one:1", ONE)
    pull(store, "localhost/two:1", TWO)
    pull(store, "localhost/many:1", MANY)
    return store


def deleted(removed: Removed) -> set[str]:
    return {str(digest) for digest in removed.deleted}


def config_of(image: Image) -> str:
    (config,) = (digest for digest, body in image.blobs.items() if body.startswith(b"{"))
    return config


def test_removal_deletes_unshared_content_parents_first(store: LocalStore) -> None:
    gone = everything(ONE) - everything(TWO)

    removed = store.remove("localhost/one:1")

    assert removed.untagged == ("localhost/one:1",)
    assert deleted(removed) == gone
    assert str(removed.deleted[0]) == ONE.digest
    assert str(removed.deleted[1]) == config_of(ONE)
    assert removed.freed > 0
    assert store.pulled("localhost/one:1") is None
    assert held(store) == everything(TWO) | everything(MANY)


def test_removing_a_second_name_deletes_nothing_else(store: LocalStore) -> None:
    pull(store, "localhost/again:1", ONE)

    removed = store.remove("localhost/one:1")

    assert removed == Removed(("localhost/one:1",), (), 0)
    assert everything(ONE) <= held(store)


def test_removal_deletes_content_resolved_under_the_name(store: LocalStore) -> None:
    store.remember(NameRecord("localhost/one:1", ONE.descriptor))
    store.remember(NameRecord("localhost/other:1", TWO.descriptor))

    store.remove("localhost/one:1")
    store.remove("localhost/two:1")

    assert store.recall("localhost/one:1") is None
    assert ONE.digest not in held(store)
    assert TWO.digest in held(store)


@pytest.mark.parametrize("platform", ["linux/arm64", "linux/arm64/v8"])
def test_removing_one_platform_keeps_the_others(store: LocalStore, platform: str) -> None:
    removed = store.remove("localhost/many:1", Platform.parse(platform))

    assert removed.untagged == ()
    assert removed.trimmed == (Trimmed("localhost/many:1", ("linux/arm64/v8",), ("linux/amd64",)),)
    assert deleted(removed) == everything(MANY) - everything(MANY, ["linux/amd64"])
    record = store.pulled("localhost/many:1")
    assert record is not None
    assert [str(image.platform) for image in record.images] == ["linux/amd64"]
    assert MANY.digest in held(store)


def test_removing_the_last_platform_removes_the_name(store: LocalStore) -> None:
    store.remove("localhost/many:1", ARM64)
    store.remove("localhost/many:1", AMD64)

    assert store.pulled("localhost/many:1") is None
    assert held(store) == everything(ONE) | everything(TWO)


@pytest.mark.parametrize("shorten", [str, lambda text: text[7:], lambda text: text[7:19]])
@pytest.mark.parametrize("give", [lambda image: image.digest, config_of])
def test_image_is_removed_by_id(
    store: LocalStore, shorten: Callable[[str], str], give: Callable[[Image], str]
) -> None:
    removed = store.remove(shorten(give(ONE)))

    assert removed.untagged == ("localhost/one:1",)
    assert deleted(removed) == everything(ONE) - everything(TWO)


def test_removing_a_platform_id_removes_that_platform_only(store: LocalStore) -> None:
    store.remove(MANY.child("linux/arm64/v8").digest)

    assert held(store) == everything(ONE) | everything(TWO) | everything(MANY, ["linux/amd64"])


def test_removing_an_id_with_several_names_is_refused_with_the_names(store: LocalStore) -> None:
    pull(store, "localhost/again:1", ONE)

    with pytest.raises(Negative) as caught:
        store.remove(ONE.digest)
    assert caught.value.code == "in-use"

    assert caught.value.facts()["users"] == ("localhost/again:1", "localhost/one:1")
    assert store.pulled("localhost/one:1") is not None
    removed = store.remove(ONE.digest, force=True)
    assert sorted(removed.untagged) == ["localhost/again:1", "localhost/one:1"]
    assert deleted(removed) == everything(ONE) - everything(TWO)


def test_dangling_image_is_removed_by_id(store: LocalStore) -> None:
    store.unname("localhost/one:1")

    removed = store.remove(ONE.digest[7:19])

    assert removed.untagged == ()
    assert deleted(removed) == everything(ONE) - everything(TWO)


def test_removing_an_image_in_use_is_refused_with_its_users(store: LocalStore) -> None:
    with store.lease([Digest.parse(ONE.digest)], "export localhost/one:1"):
        with pytest.raises(Negative, match="export localhost/one:1") as caught:
            store.remove("localhost/one:1")
        assert caught.value.code == "in-use"
        assert store.pulled("localhost/one:1") is not None

        removed = store.remove("localhost/one:1", force=True)

    assert removed.untagged == ("localhost/one:1",)
    # Content of a running process is kept, also with force.
    assert removed.deleted == ()
    assert everything(ONE) <= held(store)


def test_layers_in_use_elsewhere_do_not_keep_a_name(store: LocalStore) -> None:
    with store.lease([Digest.of(BASE)], "pull localhost/three:1"):
        removed = store.remove("localhost/one:1")

    assert removed.untagged == ("localhost/one:1",)
    assert str(Digest.of(BASE)) not in deleted(removed)


@pytest.mark.parametrize(
    "target", ["localhost/none:1", "f" * 12, "sha256:" + "f" * 64, "abc", "", "../../etc"]
)
def test_removing_a_missing_image_is_not_found(store: LocalStore, target: str) -> None:
    before = held(store)

    with pytest.raises(ImageNotHeld):
        store.remove(target)

    assert held(store) == before


def test_removing_a_missing_platform_is_not_found(store: LocalStore) -> None:
    for target in ("localhost/many:1", MANY.digest):
        with pytest.raises(ImageNotHeld, match="linux/s390x"):
            store.remove(target, Platform.parse("linux/s390x"))


def test_removal_from_a_missing_store_finds_nothing_and_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(ImageNotHeld):
        LocalStore(tmp_path / "none").remove("localhost/one:1")

    assert not (tmp_path / "none").exists()


def test_layer_id_is_not_an_image(store: LocalStore) -> None:
    with pytest.raises(ImageNotHeld):
        store.remove(str(Digest.of(BASE)))


def test_removing_an_ambiguous_prefix_is_refused(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remove, "_ID", re.compile("[0-9a-f]*"))
    with pytest.raises(Malformed) as caught:
        store.remove("")
    assert caught.value.code == "ambiguous-id"

    assert str(caught.value.facts()["digests"]).count("sha256:") > 3


@pytest.mark.parametrize("is_missing", [True, False])
def test_damaged_image_can_be_removed(store: LocalStore, *, is_missing: bool) -> None:
    path = place(store, ONE.digest)
    path.unlink()
    if not is_missing:
        path.write_bytes(b"{damaged")

    removed = store.remove("localhost/one:1")

    assert removed.untagged == ("localhost/one:1",)
    assert everything(TWO) | everything(MANY) <= held(store)
    assert ONE.digest not in held(store)


def test_removal_beside_a_damaged_image_untags_and_deletes_nothing(
    store: LocalStore, events: list[Event]
) -> None:
    path = place(store, TWO.digest)
    path.unlink()
    path.write_bytes(b"{damaged")
    before = held(store)

    removed = store.remove("localhost/one:1")

    assert removed == Removed(("localhost/one:1",), (), 0)
    assert held(store) == before
    assert [event.code for event in events if isinstance(event, Warned)] == ["store-damaged"]


def test_removal_keeps_content_read_by_an_unleased_pull(store: LocalStore) -> None:
    with store.lease(purpose="pull localhost/again:1"):
        fill(store, ONE)
        store.remove("localhost/one:1")

    assert ONE.digest in held(store)


@pytest.mark.parametrize("failure", [None, store_faults.no_room, store_faults.broken_disk])
@pytest.mark.parametrize(("platform", "least"), [(None, 256), (ARM64, 256), (None, 1)])
def test_removal_interrupted_at_any_call_leaves_every_name_complete(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Callable[[str], BaseException] | None,
    platform: Platform | None,
    least: int,
) -> None:
    # From this many names on, the list index is used.
    monkeypatch.setattr(collect, "LEAST", least)
    model = LocalStore(tmp_path / "model", fsync=False)
    pull(model, "localhost/many:1", MANY)
    pull(model, "localhost/amd:1", MANY.child("linux/amd64"))
    put(model, b"stray")
    at = 0
    while True:
        store = LocalStore(tmp_path / "copy")
        shutil.copytree(model.root, store.root)
        with monkeypatch.context() as patch:
            watched = watch(patch, at, failure)
            with suppress(Stopped, StoreFault):
                store.remove("localhost/many:1", platform)
            watched.end()
        assert unverified(store.root) == [], at
        assert not any(image.missing for image in store.images()), at
        with suppress(ImageNotHeld):
            store.remove("localhost/many:1", platform)
        assert not any(image.missing for image in store.images()), at
        shutil.rmtree(store.root)
        if not watched.is_reached:
            break
        at += 1
    assert at > 100
