"""Lock files: written locks are read back, and invalid ones are refused with their position."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.lockfile.lock import (
    MAX_IMAGES,
    MAX_LOCK,
    Lock,
    LockedImage,
    LockedPlatform,
    change_of,
    read_lock,
    write_lock,
)
from resolver.core.oci.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.errors import BadLock, LockLimit

ONE, TWO = Digest("sha256", "1" * 64), Digest("sha256", "2" * 64)

digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest("sha256", raw.hex()))
words = st.text("abcdefghijkmnopqrstuvwxyz0123456789", min_size=1, max_size=8)
#: Anything an index may say, sensible or not.
platforms = st.one_of(
    st.sampled_from(
        ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/arm", "windows/amd64:10.0.20348.1"]
    ).map(Platform.parse),
    st.builds(
        Platform,
        st.text(max_size=6),
        st.text(max_size=6),
        st.text(max_size=4),
        st.text(max_size=6),
        st.lists(st.text(min_size=1, max_size=5), max_size=2).map(tuple),
    ),
).filter(lambda platform: not any("\ud800" <= letter <= "\udfff" for letter in repr(platform)))


def size_of(digest: Digest) -> int:
    """Return the size of a digest, the same at every occurrence."""
    return int(digest.hex[:16], 16) >> 1


@st.composite
def images(draw: st.DrawFn) -> LockedImage:
    path, tag = draw(words), draw(words)
    name, written = draw(
        st.sampled_from(
            [
                (f"registry.test/{path}:{tag}", f"registry.test/{path}:{tag}"),
                (f"docker.io/library/{path}:{tag}", f"{path}:{tag}"),
                (f"docker.io/library/{path}:latest", path),
            ]
        )
    )
    kept: dict[str, LockedPlatform] = {}
    for entry, platform in enumerate(draw(st.lists(platforms, max_size=4))):
        media_type = draw(st.sampled_from([OCI_MANIFEST, DOCKER_MANIFEST]))
        digest = draw(digests)
        one = LockedPlatform(platform, digest, media_type, size_of(digest), entry)
        kept.setdefault(one.key, one)
    only = draw(st.sampled_from([(), ("linux/amd64",), ("linux/amd64", "linux/arm64")]))
    media_type = draw(st.sampled_from([OCI_INDEX, OCI_MANIFEST]))
    listed = tuple(kept[key] for key in sorted(kept))
    root = draw(digests)
    return LockedImage(name, written, root, media_type, size_of(root), listed, only)


locks = st.lists(images(), max_size=5).map(lambda made: Lock().merged(made))


@given(locks)
def test_written_lock_is_read_back(lock: Lock) -> None:
    body = write_lock(lock)

    assert read_lock(body, "resolver.lock") == lock
    assert write_lock(read_lock(body, "resolver.lock")) == body


@given(locks)
def test_lock_is_sorted_ascii_with_a_final_newline(lock: Lock) -> None:
    body = write_lock(lock)
    found = json.loads(body)["images"]

    assert body.decode("ascii").endswith("}\n")
    assert list(found) == sorted(found)
    for image in found.values():
        assert list(image["platforms"]) == sorted(image["platforms"])


@given(locks, st.lists(images(), max_size=4))
def test_merging_a_lock_twice_changes_nothing(lock: Lock, new: list[LockedImage]) -> None:
    once = lock.merged(new)
    touched = {image.reference for image in new}

    assert once.merged(new) == once
    assert all(
        once.find(one.reference) == one for one in lock.images if one.reference not in touched
    )
    assert {one.reference for one in once.images} == touched | {
        one.reference for one in lock.images
    }


@given(st.lists(images(), max_size=6, unique_by=lambda image: image.reference), st.randoms())
def test_lock_does_not_depend_on_the_order_of_references(
    made: list[LockedImage], chance: Any
) -> None:
    shuffled = list(made)
    chance.shuffle(shuffled)

    assert write_lock(Lock().merged(made)) == write_lock(Lock().merged(shuffled))


@given(locks)
def test_removing_added_lock_entries_restores_the_lock(lock: Lock) -> None:
    extra = LockedImage("other.test/x:1", "x", ONE, OCI_INDEX, 1, ())

    assert lock.merged([extra]).without([extra]) == lock


def test_lock_name_without_a_tag_matches_every_tag() -> None:
    lock = Lock().merged(
        LockedImage(f"docker.io/library/{name}", name, ONE, OCI_INDEX, 1, ())
        for name in ("nginx:1", "nginx:2", "redis:7", "nginx-proxy:1")
    )

    def found(name: str) -> list[str]:
        return [image.written for image in lock.named(name)]

    assert found("nginx") == ["nginx:1", "nginx:2"]
    assert found("docker.io/library/nginx:2") == ["nginx:2"]
    assert found("nginx:3") == found("alpine") == []


def test_lock_change_of_a_reference() -> None:
    before = LockedImage("r.test/x:1", "x", ONE, OCI_INDEX, 1, ())
    after = LockedImage("r.test/x:1", "x", TWO, OCI_INDEX, 1, ())

    assert change_of(None, after).change == "added"
    assert change_of(before, before).change == "unchanged"
    assert change_of(before, after).change == "changed"


GOOD = {
    "schema": 1,
    "images": {
        "r.test/app:1": {
            "written": "r.test/app:1",
            "digest": str(ONE),
            "mediaType": OCI_INDEX,
            "size": 10,
            "platforms": {
                "linux/amd64": {
                    "digest": str(TWO), "mediaType": OCI_MANIFEST, "size": 5, "entry": 0,
                }
            },
        }
    },
}  # fmt: skip


def changed(path: str, value: object) -> bytes:
    """A valid lock with one member replaced, or removed if None."""
    found = json.loads(json.dumps(GOOD))
    *parents, last = path.split("|")
    inner = found
    for name in parents:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(found).encode()


APP = "images|r.test/app:1"
AMD = f"{APP}|platforms|linux/amd64"


def test_valid_lock_is_accepted() -> None:
    assert len(read_lock(json.dumps(GOOD).encode(), "x").images) == 1


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("schema", None, "schema"),
        ("schema", 2, "schema"),
        ("schema", "1", "schema"),
        ("schema", True, "schema"),
        ("images", None, "images"),
        ("images", [], "images"),
        ("extra", 1, "extra"),
        ("Images", {}, "Images"),
        (APP, [], "images.r.test/app:1"),
        (f"{APP}|written", None, "images.r.test/app:1.written"),
        (f"{APP}|written", "", "images.r.test/app:1.written"),
        (f"{APP}|written", "r.test/app:2", "images.r.test/app:1.written"),
        (f"{APP}|written", "x; rm -rf ~", "images.r.test/app:1.written"),
        (f"{APP}|digest", "sha256:short", "images.r.test/app:1.digest"),
        (f"{APP}|digest", "md5:" + "0" * 32, "images.r.test/app:1.digest"),
        (f"{APP}|size", -1, "images.r.test/app:1.size"),
        (f"{APP}|size", 1.5, "images.r.test/app:1.size"),
        (f"{APP}|only", ["nowhere"], "images.r.test/app:1.only"),
        (f"{APP}|only", ["linux/arm64/v8"], "images.r.test/app:1.only"),
        (f"{APP}|platforms", None, "images.r.test/app:1.platforms"),
        (f"{APP}|tag", "1", "images.r.test/app:1.tag"),
        (f"{AMD}|digest", None, "images.r.test/app:1.platforms.linux/amd64.digest"),
        (f"{AMD}|entry", None, "images.r.test/app:1.platforms.linux/amd64.entry"),
        (f"{AMD}|layers", [], "images.r.test/app:1.platforms.linux/amd64.layers"),
        (
            f"{AMD}|platform",
            {"os": "windows", "architecture": "amd64"},
            "images.r.test/app:1.platforms.linux/amd64.platform",
        ),
        (f"{APP}|platforms", {"linux/x86_64": {}}, "images.r.test/app:1.platforms.linux/x86_64"),
        (f"{APP}|platforms", {"linux//": {}}, "images.r.test/app:1.platforms.linux//"),
        ("images|app", {}, "images.app"),
        ("images|r.test/app:2@x", {}, "images.r.test/app:2@x"),
    ],
)
def test_lock_errors_name_their_field(path: str, value: object, field: str) -> None:
    with pytest.raises(BadLock) as caught:
        read_lock(changed(path, value), "resolver.lock")

    assert caught.value.field == field
    assert caught.value.kind.status == 2
    assert "\n" not in str(caught.value)


PLATFORM = {"digest": str(TWO), "mediaType": OCI_MANIFEST, "size": 6, "entry": 1}
IMAGE = GOOD["images"]["r.test/app:1"]  # type: ignore[index]  # written out above


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (
            f"{APP}|platforms|linux/arm64",
            PLATFORM,
            "images.r.test/app:1.platforms.linux/arm64.size",
        ),
        (
            "images|r.test/app:2",
            {**IMAGE, "written": "r.test/app:2", "size": 11},
            "images.r.test/app:2.size",
        ),
        (f"{AMD}|digest", str(ONE), "images.r.test/app:1.platforms.linux/amd64.size"),
        (
            f"images|r.test/app@{TWO}",
            {**IMAGE, "written": f"r.test/app@{TWO}"},
            f"images.r.test/app@{TWO}.digest",
        ),
    ],
)
def test_contradictory_lock_is_refused(path: str, value: object, field: str) -> None:
    with pytest.raises(BadLock) as caught:
        read_lock(changed(path, value), "resolver.lock")

    assert caught.value.field == field
    assert caught.value.kind.status == 2


def test_repeated_lock_entry_is_accepted() -> None:
    again = {**IMAGE, "written": f"r.test/app@{ONE}"}

    assert len(read_lock(changed(f"images|r.test/app@{ONE}", again), "x").images) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"[]", b"{", b"\xff", b"{}x", b'{"schema": NaN}', b'{"schema": 1, "schema": 1}'],
)
def test_lock_that_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadLock):
        read_lock(body, "resolver.lock")


@pytest.mark.parametrize("mark", ["<<<<<<< HEAD", "=======", ">>>>>>> x", "||||||| base"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lock_with_merge_markers_is_refused(mark: str, ending: str) -> None:
    with pytest.raises(BadLock) as caught:
        read_lock(f'{{{ending}{mark}{ending}"schema": 1}}'.encode(), "resolver.lock")

    assert caught.value.reason == "line 2 is a merge conflict"
    assert "git checkout --ours -- resolver.lock" in caught.value.hints()[0]


def test_lock_file_size_is_limited() -> None:
    body = json.dumps(GOOD).encode()

    assert read_lock(body + b" " * (MAX_LOCK - len(body)), "x").images
    with pytest.raises(LockLimit) as caught:
        read_lock(body + b" " * (MAX_LOCK - len(body) + 1), "x")
    assert caught.value.word == "LIMIT"
    assert str(MAX_LOCK) in caught.value.reason


def test_number_of_locked_references_is_limited() -> None:
    image = {"digest": str(ONE), "platforms": {}}

    def lock(count: int) -> bytes:
        names = [f"r.test/{number}:1" for number in range(count)]
        images = {name: {"written": name, **image} for name in names}
        return json.dumps({"schema": 1, "images": images}).encode()

    assert len(read_lock(lock(MAX_IMAGES), "x").images) == MAX_IMAGES
    with pytest.raises(LockLimit) as caught:
        read_lock(lock(MAX_IMAGES + 1), "x")
    assert caught.value.field == "images"
    assert f"{MAX_IMAGES} references: {MAX_IMAGES + 1}" in caught.value.reason


def test_lock_file_nesting_is_limited() -> None:
    with pytest.raises(LockLimit):
        read_lock(b'{"schema":' + b"[" * 70 + b"]" * 70 + b"}", "x")


@given(st.binary(max_size=80), st.integers(0, 400), st.integers(0, 30))
def test_damaged_lock_is_read_or_refused(piece: bytes, start: int, length: int) -> None:
    body = json.dumps(GOOD).encode()
    message = ""

    try:
        read_lock(body[:start] + piece + body[start + length :], "x")
    except (BadLock, LockLimit) as error:
        message = str(error)
    assert len(message) < 2000
