"""The store: content is verified when it is added and when it is read."""

from __future__ import annotations

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.results.events import Warned
from resolver.errors import (
    BadDocument,
    BlobNotFound,
    DigestMismatch,
    InvalidDigest,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    StoreFault,
)
from resolver.store import LocalStore, NameRecord
from resolver.store.files import StoreFolder
from resolver.store.store import _move_only
from tests.kit.images import multi_platform
from tests.store.faults import litter, unverified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.results.events import Event


#: A resolved name.
NAME = "localhost/app:1"
BODY = b'{"schemaVersion":2,"manifests":[]}'


def describe(body: bytes, algorithm: str = "sha256") -> Descriptor:
    return Descriptor(OCI_INDEX, Digest.of(body, algorithm), len(body))


def document(body: bytes = BODY) -> Document:
    return Document(describe(body), body)


def place_of(store: LocalStore, body: bytes = BODY) -> Path:
    return store.root / "blobs" / "sha256" / Digest.of(body).hex


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file outside the store, which must not change."""
    path = tmp_path / "canary"
    path.write_bytes(BODY)
    os.utime(path, (1, 1))
    path.chmod(0o600)
    return path


def is_untouched(canary: Path, content: bytes = BODY) -> bool:
    status = canary.stat()
    mode = stat.S_IMODE(status.st_mode)
    return canary.read_bytes() == content and status.st_mtime == 1 and mode == 0o600


def codes(events: list[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, Warned)]


# The folder


def test_missing_store_holds_nothing_and_is_not_created_by_reading(
    store: LocalStore,
) -> None:
    assert store.load(Digest.of(BODY)) is None
    assert not store.has(describe(BODY))
    assert store.recall("docker.io/library/app:1") is None
    assert list(store.names()) == []
    assert not store.forget("docker.io/library/app:1")
    assert not store.root.exists()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_store_folders_are_private_and_content_read_only_with_any_umask(
    tmp_path: Path, umask: int
) -> None:
    store = LocalStore(tmp_path / "missing" / "store")
    before = os.umask(umask)
    try:
        store.add_document(document())
    finally:
        os.umask(before)

    folders = [path for path in (store.root.parent, *store.root.rglob("*")) if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (store.root, *folders)} == {0o700}
    assert stat.S_IMODE(place_of(store).stat().st_mode) == 0o444


def test_store_folder_has_a_readme_and_a_cache_tag(store: LocalStore) -> None:
    store.add_document(document())

    tag = (store.root / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert (store.root / "version").read_text() == "1\n"
    assert sorted(path.name for path in store.root.iterdir()) == [
        "CACHEDIR.TAG", "blobs", "gate", "leases", "lock", "names", "partial", "seen", "tmp",
        "version",
    ]  # fmt: skip


def test_empty_folder_is_adopted_and_made_private(store: LocalStore) -> None:
    store.root.mkdir()
    store.root.chmod(0o777)
    (store.root / "lost+found").mkdir()

    store.add_document(document())

    assert stat.S_IMODE(store.root.stat().st_mode) == 0o755


# Write permission of others


def kept(store: LocalStore) -> LocalStore:
    """Fill a store and return it as another process opens it."""
    store.add_document(document())
    store.remember(NameRecord(NAME, document().descriptor))
    return LocalStore(store.root)


def uses() -> dict[str, Callable[[LocalStore], object]]:
    """Every function that reads stored content or adds to it."""
    return {
        "recall": lambda store: store.recall(NAME),
        "load": lambda store: store.load(document().descriptor.digest),
        "add": lambda store: store.add_document(document()),
        "images": lambda store: store.images(),
        "usage": lambda store: store.usage(),
        "collect": lambda store: store.collect(),
        "remove": lambda store: store.remove(NAME),
        "verify": lambda store: store.verify(),
    }


@pytest.mark.parametrize("use", uses())
@pytest.mark.parametrize("where", ["store", "names", "seen", "blobs", "above", "sticky"])
def test_world_writable_or_replaceable_store_is_refused(
    tmp_path: Path, use: str, where: str
) -> None:
    store = kept(LocalStore(tmp_path / "above" / "store"))
    folder = {"store": store.root, "above": store.root.parent, "sticky": store.root}
    folder.get(where, store.root / where).chmod(0o1777 if where == "sticky" else 0o777)

    with pytest.raises(StoreFault, match="is world-writable") as caught:
        uses()[use](store)

    assert any("--shared-store" in hint for hint in caught.value.hints())
    assert LocalStore(store.root, shared=True).recall(NAME) is not None


def test_store_below_a_sticky_world_writable_folder_is_accepted(tmp_path: Path) -> None:
    store = kept(LocalStore(tmp_path / "above" / "store"))
    store.root.parent.chmod(0o1777)

    assert store.recall(NAME) is not None


def test_store_is_not_created_where_others_can_replace_it(tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    (tmp_path / "above").chmod(0o777)
    store = LocalStore(tmp_path / "above" / "in" / "store")

    with pytest.raises(StoreFault, match="is world-writable"):
        store.add_document(document())

    assert not (tmp_path / "above" / "in").exists()


def test_symlink_to_a_replaceable_store_is_refused(tmp_path: Path) -> None:
    store = kept(LocalStore(tmp_path / "above" / "store"))
    store.root.parent.chmod(0o777)
    (tmp_path / "link").symlink_to(Path("above"))

    with pytest.raises(StoreFault, match="is world-writable"):
        LocalStore(tmp_path / "link" / "store").recall(NAME)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
@pytest.mark.parametrize("what", ["above", "link"])
def test_store_that_another_user_could_replace_is_refused(tmp_path: Path, what: str) -> None:
    store = kept(LocalStore(tmp_path / "above" / "store"))
    (tmp_path / "link").symlink_to(store.root.parent)
    os.chown(tmp_path / what, 12_345, -1, follow_symlinks=False)

    with pytest.raises(StoreFault, match="belongs to another user"):
        LocalStore(tmp_path / "link" / "store").recall(NAME)


def test_group_writable_store_is_used_with_a_warning(tmp_path: Path, events: list[Event]) -> None:
    store = kept(LocalStore(tmp_path / "store"))
    store.root.chmod(0o770)
    mine = LocalStore(store.root, observe=events.append)

    assert mine.recall(NAME) is not None
    mine.add_document(document())

    assert [event.code for event in events if isinstance(event, Warned)] == ["store-shared"]
    assert LocalStore(store.root, shared=True, observe=events.append).recall(NAME) is not None
    assert len(events) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_store_of_another_user_is_used_with_a_warning(tmp_path: Path, events: list[Event]) -> None:
    store = kept(LocalStore(tmp_path / "store"))
    os.chown(store.root, 12_345, -1)

    assert LocalStore(store.root, observe=events.append).recall(NAME) is not None

    assert [event.code for event in events if isinstance(event, Warned)] == ["store-shared"]


@pytest.mark.parametrize("use", ["images", "usage", "collect", "remove", "verify"])
def test_folder_that_is_not_a_store_is_not_an_empty_store(tmp_path: Path, use: str) -> None:
    (tmp_path / "README").write_text("mine")

    with pytest.raises(StoreFault, match="not empty, and it is not a store"):
        uses()[use](LocalStore(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["README"]


@pytest.mark.parametrize("is_there", [False, True])
def test_missing_or_empty_folder_is_an_empty_store(tmp_path: Path, *, is_there: bool) -> None:
    store = LocalStore(tmp_path / "store")
    if is_there:
        store.root.mkdir()

    assert store.images() == ()
    assert store.usage().blobs == 0
    assert store.verify().is_sound
    store.add_document(document())
    assert store.recall(NAME) is None


@pytest.mark.parametrize("name", ["README", ".git", "version", "CACHEDIR.TAG", "tmp/report"])
def test_folder_with_foreign_files_is_refused_and_unchanged(store: LocalStore, name: str) -> None:
    path = store.root / name
    path.parent.mkdir(parents=True)
    path.write_text("1\n")

    with pytest.raises(StoreFault, match="not empty, and it is not a store") as caught:
        store.add_document(document())

    assert caught.value.hints()
    assert [p for p in store.root.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize("tag", [None, ""])
def test_store_restored_without_its_mark_and_empty_folders_is_accepted(
    store: LocalStore, tag: str | None
) -> None:
    store.add_document(document())
    shutil.rmtree(store.root / "partial")
    shutil.rmtree(store.root / "leases")
    (store.root / "CACHEDIR.TAG").unlink()
    if tag is not None:
        (store.root / "CACHEDIR.TAG").write_text(tag)

    store.add_document(document(b"{}"))

    assert store.load(Digest.of(BODY)) == BODY
    assert (store.root / "CACHEDIR.TAG").read_text().startswith("Signature: ")


def test_root_and_home_folder_are_refused_as_a_store(clean_environment: Path) -> None:
    alias = clean_environment.parent / f"{clean_environment.name}-alias"
    alias.symlink_to(clean_environment)
    for path in (Path("/"), clean_environment, alias):
        with pytest.raises(StoreFault, match="must not become a store"):
            LocalStore(path).add_document(document())

    assert list(clean_environment.iterdir()) == []


def test_store_of_an_unknown_version_is_read_and_never_written(store: LocalStore) -> None:
    store.add_document(document())
    (store.root / "version").write_text("2\n")

    assert store.load(Digest.of(BODY)) == BODY
    with pytest.raises(StoreFault, match="version is `2`"):
        store.add_document(document(b"{}"))
    assert not place_of(store, b"{}").exists()


def test_file_in_place_of_the_store_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    store = LocalStore(tmp_path / "store")

    with pytest.raises(StoreFault, match="store"):
        store.load(Digest.of(BODY))
    with pytest.raises(StoreFault, match="store"):
        store.add_document(document())


# Content


def test_added_content_is_read_back(store: LocalStore) -> None:
    store.add_document(document())

    assert store.load(Digest.of(BODY)) == BODY
    assert store.load(Digest.of(BODY), len(BODY)) == BODY
    assert store.read(describe(BODY)) == BODY
    assert store.has(describe(BODY))
    with store.open(describe(BODY)) as chunks:
        assert b"".join(chunks) == BODY
    assert litter(store.root) == []


@given(st.lists(st.binary(max_size=64), max_size=8), st.sampled_from(["sha256", "sha512"]))
def test_added_content_does_not_depend_on_chunks(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], algorithm: str
) -> None:
    body = b"".join(chunks)
    store = LocalStore(tmp_path_factory.getbasetemp() / "chunks", fsync=False)

    store.add(describe(body, algorithm), chunks)

    assert store.load(Digest.of(body, algorithm)) == body


def test_held_content_is_not_requested_again(store: LocalStore) -> None:
    store.add_document(document())

    def unwanted() -> Iterator[bytes]:
        raise AssertionError("asked for content that is held")
        yield b""

    store.add(describe(BODY), unwanted())


def test_without_sync_content_of_the_right_size_is_still_hashed(
    tmp_path: Path,
) -> None:
    body = bytes(range(256)) * (MAX_DOCUMENT // 256 + 1)
    hasty = LocalStore(tmp_path / "store", fsync=False)
    hasty.add(describe(body), [body])
    assert hasty.held(describe(body))
    # Once in each process, while the file does not change.
    assert hasty.held(describe(body))

    path = place_of(hasty, body)
    path.chmod(0o600)
    path.write_bytes(bytes(len(body)))

    assert not hasty.held(describe(body))
    assert not LocalStore(tmp_path / "store", fsync=False).held(describe(body))
    assert LocalStore(tmp_path / "store").held(describe(body))


def test_large_content_of_the_right_size_counts_as_held(
    store: LocalStore,
) -> None:
    body = bytes(MAX_DOCUMENT + 1)
    store.add(describe(body), [body])

    store.add(describe(body), [])

    place_of(store, body).chmod(0o600)
    place_of(store, body).write_bytes(body[1:])
    store.add(describe(body), [body])
    assert place_of(store, body).read_bytes() == body


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ([BODY[:-1] + b"!"], DigestMismatch),
        ([BODY[:-1]], SizeMismatch),
        ([], SizeMismatch),
        (repeat(b"x" * 1024), SizeMismatch),
    ],
    ids=["flipped", "short", "nothing", "endless"],
)
def test_adding_wrong_bytes_leaves_no_file(
    store: LocalStore, chunks: Iterator[bytes], error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.add(describe(BODY), chunks)

    assert not place_of(store).exists()
    assert litter(store.root) == []


def test_adding_from_a_broken_source_leaves_no_file(store: LocalStore) -> None:
    def broken() -> Iterator[bytes]:
        yield BODY[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(describe(BODY), broken())

    assert not place_of(store).exists()
    assert litter(store.root) == []


def test_size_that_contradicts_verified_content_is_untrusted(store: LocalStore) -> None:
    store.add_document(document())

    with pytest.raises(SizeMismatch):
        store.load(Digest.of(BODY), len(BODY) + 1)
    assert not store.has(Descriptor(OCI_INDEX, Digest.of(BODY), len(BODY) + 1))


def test_size_of_a_document_is_limited(store: LocalStore) -> None:
    exact, over = bytes(MAX_DOCUMENT), bytes(MAX_DOCUMENT + 1)
    store.add(describe(exact), [exact])
    store.add(describe(over), [over])

    assert store.load(Digest.of(exact)) == exact
    with pytest.raises(LimitExceeded, match=f"{MAX_DOCUMENT}"):
        store.load(Digest.of(over))
    with pytest.raises(LimitExceeded):
        store.read(describe(over))


def test_missing_content_is_not_found(store: LocalStore) -> None:
    store.add_document(document(b"{}"))

    with pytest.raises(BlobNotFound):
        store.read(describe(BODY))
    with pytest.raises(BlobNotFound), store.open(describe(BODY)):
        pass
    with pytest.raises(NotFound):
        store.resolve("docker.io/library/app:1")


# Damage


def truncate(path: Path) -> None:
    path.write_bytes(BODY[:5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    path.write_bytes(BODY[:-1] + b"]")


def grow(path: Path) -> None:
    path.write_bytes(BODY + bytes(MAX_DOCUMENT))


@pytest.mark.parametrize("damage", [truncate, empty, flip, grow])
@pytest.mark.parametrize("size", [None, len(BODY)])
def test_damaged_content_is_quarantined_and_can_be_added_again(
    store: LocalStore, events: list[Event], damage: Callable[[Path], None], size: int | None
) -> None:
    store.add_document(document())
    place_of(store).chmod(0o600)
    damage(place_of(store))

    assert store.load(Digest.of(BODY), size) is None

    assert codes(events) == ["store-damaged"]
    assert not place_of(store).exists()
    assert [name[:4] for name in litter(store.root)] == ["bad-"]
    store.add_document(document())
    assert store.load(Digest.of(BODY)) == BODY


@pytest.mark.parametrize("damage", [truncate, empty, flip])
def test_adding_content_replaces_a_damaged_blob(
    store: LocalStore, damage: Callable[[Path], None]
) -> None:
    store.add_document(document())
    place_of(store).chmod(0o600)
    damage(place_of(store))

    store.add_document(document())

    assert place_of(store).read_bytes() == BODY


def plant_link(path: Path, canary: Path) -> None:
    path.symlink_to(canary)


def plant_fifo(path: Path, _canary: Path) -> None:
    os.mkfifo(path)


def plant_folder(path: Path, _canary: Path) -> None:
    path.mkdir()
    (path / "inner").write_bytes(BODY)


@pytest.mark.parametrize("plant", [plant_link, plant_fifo, plant_folder])
def test_planted_file_under_a_blob_name_is_never_opened_and_is_replaced(
    store: LocalStore, events: list[Event], canary: Path, plant: Callable[[Path, Path], None]
) -> None:
    store.add_document(document(b"{}"))
    plant(place_of(store), canary)

    assert store.load(Digest.of(BODY)) is None
    assert codes(events) == ["store-not-a-file"]
    assert not store.has(describe(BODY))
    store.add_document(document())

    assert place_of(store).is_file()
    assert not place_of(store).is_symlink()
    assert store.load(Digest.of(BODY)) == BODY
    assert is_untouched(canary)


def test_hard_link_to_a_foreign_file_is_quarantined_and_the_file_kept(
    store: LocalStore, canary: Path
) -> None:
    store.add_document(document(b"{}"))
    canary.write_bytes(b"private")
    os.utime(canary, (1, 1))
    os.link(canary, place_of(store))

    assert store.load(Digest.of(BODY)) is None
    store.add_document(document())

    assert store.load(Digest.of(BODY)) == BODY
    assert is_untouched(canary, b"private")


def test_symlink_in_place_of_a_folder_is_refused(store: LocalStore, tmp_path: Path) -> None:
    store.add_document(document(b"{}"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.root / "blobs" / "sha256").rename(store.root / "blobs" / "before")
    (store.root / "blobs" / "sha256").symlink_to(elsewhere)

    with pytest.raises(StoreFault, match="blobs/sha256"):
        store.load(Digest.of(BODY))
    with pytest.raises(StoreFault, match="blobs/sha256"):
        store.add_document(document())
    assert list(elsewhere.iterdir()) == []


def test_good_file_quarantined_by_a_race_is_restored(store: LocalStore) -> None:
    store.add_document(document())
    damaged = (store.root / "version").stat()
    with folders(store) as (folder, tmp):
        # Between the check and the rename, another process repairs the blob.
        stale = _Stale(folder.descriptor, folder.path, damaged)
        _move_only(stale, place_of(store).name, tmp, damaged)

    assert place_of(store).read_bytes() == BODY
    assert litter(store.root) == []


class _Stale(StoreFolder):
    """A folder whose view is outdated."""

    __slots__ = ("_seen",)

    def __init__(self, descriptor: int, path: str, seen: os.stat_result) -> None:
        super().__init__(descriptor, path)
        self._seen = seen

    def look(self, name: str) -> os.stat_result | None:
        return self._seen if name else None


@contextmanager
def folders(store: LocalStore) -> Iterator[tuple[StoreFolder, StoreFolder]]:
    """Open the folder of blobs and that of temporaries."""
    root = StoreFolder.at(str(store.root))
    assert root is not None
    with root, root.need("blobs", "sha256") as blobs, root.need("tmp") as tmp:
        yield blobs, tmp


def test_foreign_files_beside_blobs_are_left_alone(store: LocalStore) -> None:
    store.add_document(document())
    foreign = [
        store.root / "README",
        store.root / "blobs" / ".DS_Store",
        place_of(store).with_name("notahex"),
        place_of(store).with_name(Digest.of(b"{}").hex.upper()),
        store.root / "names" / "notes.txt",
    ]
    for path in foreign:
        path.write_text("mine")

    store.add_document(document(b"{}"))

    assert store.load(Digest.of(b"{}")) == b"{}"
    assert list(store.names()) == []
    assert all(path.read_text() == "mine" for path in foreign)


# As a source


def test_digest_text_resolves_to_the_detected_media_type(
    store: LocalStore,
) -> None:
    image = multi_platform("linux/amd64", "linux/arm64")
    store.add_document(Document(image.descriptor, image.body))

    assert store.resolve(image.digest) == image.descriptor
    assert store.document(image.digest) == Document(image.descriptor, image.body)


def test_digest_of_other_content_is_not_a_document(store: LocalStore) -> None:
    store.add_document(document(b'{"a":1}'))

    with pytest.raises(BadDocument):
        store.document(str(Digest.of(b'{"a":1}')))
    with pytest.raises(BlobNotFound):
        store.document(str(Digest.of(b"absent")))
    with pytest.raises(InvalidDigest):
        store.resolve("sha256:../../etc/passwd")


def test_threads_add_and_read_the_same_content_concurrently(store: LocalStore) -> None:
    bodies = [b"%d" % number for number in range(10)] * 4

    def work(body: bytes) -> bytes | None:
        store.add_document(document(body))
        return store.load(Digest.of(body))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, bodies)) == bodies
    assert unverified(store.root) == []
    assert len(list((store.root / "blobs" / "sha256").iterdir())) == 10
    assert litter(store.root) == []


# Optional storing


def test_failure_to_store_is_reported_once_and_not_repeated(
    tmp_path: Path, events: list[Event]
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "README").touch()
    store = LocalStore(tmp_path / "store")

    assert not store.try_add(document(), events.append)
    (tmp_path / "store" / "README").unlink()
    assert not store.try_add(document(), events.append)

    assert codes(events) == ["store-unwritable"]


def test_successful_storing_is_silent(store: LocalStore, events: list[Event]) -> None:
    assert store.try_add(document())

    assert store.load(Digest.of(BODY)) == BODY
    assert events == []


def test_wrong_bytes_are_an_error_even_where_storing_is_optional(store: LocalStore) -> None:
    with pytest.raises(DigestMismatch):
        store.try_add(Document(describe(BODY), BODY[:-1] + b"!"))
