"""File trees of layers applied in order."""

from __future__ import annotations

import hashlib
import random
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest

from resolver.core.layers.filetree import MAX_LINKS, FileTree
from resolver.core.layers.listing import (
    LayerFile,
    RoomLimits,
    TreeRoom,
    canonical,
    read_listing,
    traits_of,
)
from resolver.core.layers.tar import TarEntryKind
from resolver.errors import BadDocument, LimitExceeded
from tests.kit.executables import elf_header
from tests.kit.tar_blocks import END, header, member, octal, pax, record

if TYPE_CHECKING:
    from collections.abc import Iterable


def file(name: str, body: bytes = b"x", mode: int = 0o644) -> bytes:
    return member(name.encode(), body, fields={100: octal(mode, 8)})


def folder(name: str, mode: int = 0o755) -> bytes:
    return header(name.encode(), 0, b"5", fields={100: octal(mode, 8)})


def symlink(name: str, target: str) -> bytes:
    return header(name.encode(), 0, b"2", link=target.encode())


def hard_link(name: str, target: str) -> bytes:
    return header(name.encode(), 0, b"1", link=target.encode())


def empty(name: str) -> bytes:
    return header(name.encode())


def grown(*layers: Iterable[bytes]) -> FileTree:
    tree = FileTree()
    for number, parts in enumerate(layers):
        what = f"layer {number + 1}"
        listing = read_listing([b"".join(parts) + END], what, lambda _path: 1000)
        tree.apply(listing, what)
    return tree


def grown_in(room: TreeRoom, *parts: bytes) -> FileTree:
    tree = FileTree(room)
    tree.apply(read_listing([b"".join(parts) + END], "it"), "it")
    return tree


def listed(*layers: Iterable[bytes]) -> list[str]:
    """Build a tree and return each path with its entry."""
    return [f"{path} {entry_text(each)}" for path, each in grown(*layers).walk()]


def entry_text(each: LayerFile) -> str:
    if each.kind is TarEntryKind.FOLDER:
        return "/"
    if each.kind in {TarEntryKind.SYMLINK, TarEntryKind.HARD_LINK}:
        return f"{each.kind.value}> {each.link}"
    return str(each.size)


def attributes(tree: FileTree) -> dict[str, str]:
    return {
        path: " ".join(f"{each.name}={each.text}" for each in file.xattrs)
        for path, file in tree.walk()
    }


def marked(part: bytes, value: bytes, name: bytes = b"user.a") -> bytes:
    return pax(record(b"SCHILY.xattr." + name, value)) + part


# Extended attributes


def test_hard_link_has_the_attributes_of_its_file() -> None:
    assert attributes(grown([marked(file("a"), b"1"), hard_link("b", "a")])) == {
        "a": 'user.a="1"',
        "b": 'user.a="1"',
    }


@pytest.mark.parametrize("is_lower", [True, False])
def test_hard_link_attributes_are_set_on_its_file(*, is_lower: bool) -> None:
    target = marked(file("a"), b"1")
    link = marked(hard_link("b", "a"), b"2", b"user.b")
    layers = [[target], [link]] if is_lower else [[target, link]]

    assert attributes(grown(*layers)) == {
        "a": 'user.a="1" user.b="2"',
        "b": 'user.a="1" user.b="2"',
    }


@pytest.mark.parametrize("is_lower", [True, False])
def test_every_name_of_a_file_has_the_attributes_of_a_later_link(*, is_lower: bool) -> None:
    """Also names that existed before the link, whichever of them it links to."""
    names = [marked(file("a"), b"1"), hard_link("b", "a"), hard_link("c", "b")]
    late = [marked(hard_link("d", "c"), b"2", b"user.b"), marked(hard_link("e", "a"), b"3")]
    layers = [names, late] if is_lower else [[*names, *late]]

    assert attributes(grown(*layers)) == dict.fromkeys("abcde", 'user.a="3" user.b="2"')


def test_replaced_name_is_not_used_by_later_hard_links() -> None:
    names = [file("a"), hard_link("b", "a")]
    late = [file("b", b"12"), marked(hard_link("c", "a"), b"1")]

    assert attributes(grown(names, late)) == {"a": 'user.a="1"', "b": "", "c": 'user.a="1"'}
    assert listed(names, late) == ["a 1", "b 2", "c 1"]


def test_whiteout_removes_names_of_lower_layers_only() -> None:
    """A link in this layer to a lower file stays, and the file's own name is removed."""
    found = listed([file("d/a"), hard_link("d/b", "d/a")], [
        hard_link("d/c", "d/a"), empty("d/.wh..wh..opq"),
    ])  # fmt: skip

    assert found == ["d /", "d/c 1"]


def test_attributes_are_added_and_removed_with_their_entry() -> None:
    lower = [
        marked(folder("kept"), b"1"), marked(folder("replaced"), b"1"), marked(file("gone"), b"1"),
        marked(file("kept/again"), b"1"), marked(folder("opaque"), b"1"),
        marked(file("opaque/old"), b"1"),
    ]  # fmt: skip
    upper = [
        folder("replaced"), empty(".wh.gone"), file("gone/new"), file("kept/again"),
        empty("opaque/.wh..wh..opq"), marked(file("opaque/new"), b"2"),
        marked(hard_link("opaque/link", "opaque/new"), b"3"),
    ]  # fmt: skip

    assert attributes(grown(lower, upper)) == {
        "gone": "",
        "gone/new": "",
        "kept": 'user.a="1"',
        "kept/again": "",
        "opaque": 'user.a="1"',
        "opaque/link": 'user.a="3"',
        "opaque/new": 'user.a="3"',
        "replaced": "",
    }


def test_global_extended_attribute_is_ignored() -> None:
    whole = pax(record(b"SCHILY.xattr.user.a", b"1"), flag=b"g")

    assert attributes(grown([whole, file("a")])) == {"a": ""}


# Paths


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b", "a/b"),
        ("./a", "a"),
        ("a/", "a"),
        ("/etc/passwd", "etc/passwd"),
        ("../x", "x"),
        ("a/../../x", "x"),
        ("a/./b//c", "a/b/c"),
        ("a/b/..", "a"),
        ("", ""),
        ("./", ""),
        ("/", ""),
        ("..", ""),
        ("..\\x", "..\\x"),
        ("C:\\x", "C:\\x"),
        ("a..b/.c/..d", "a..b/.c/..d"),
    ],
)
def test_names_become_paths_below_the_root(name: str, path: str) -> None:
    assert canonical(name) == path


def test_paths_outside_the_root_are_kept_inside_and_reported() -> None:
    listing = read_listing([file("../x") + file("a/../../y") + file("a/../z") + END], "layer 1")

    assert [each.path for each in listing.files] == ["x", "y", "z"]
    assert listing.warnings == ("2 names lead out of the tree, and are kept inside",)


def test_paths_are_sorted_and_missing_folders_added() -> None:
    assert listed([file("b/c/d"), file("a"), file("b-")]) == [
        "a 1",
        "b /",
        "b- 1",
        "b/c /",
        "b/c/d 1",
    ]


# Contents


@pytest.mark.parametrize("step", [1, 512, 70_000, 1 << 20])
def test_file_content_is_hashed_and_kept_in_any_chunks(step: int) -> None:
    program = elf_header(62) + b"x" * 200_000
    parts = file("program", program) + file("text", b"t" * 200_000) + file("kept", b"k" * 100_000)
    archive = parts + END

    def wanted(path: str) -> int:
        return 100_000 if path == "kept" else 99_999 if path == "text" else 0

    chunks = [archive[at : at + step] for at in range(0, len(archive), step)]
    listing = read_listing(chunks, "layer 1", wanted)

    first, second, third = listing.files
    assert str(first.program) == "elf amd64"
    assert [each.sha256 for each in listing.files] == [
        hashlib.sha256(body).digest() for body in (program, b"t" * 200_000, b"k" * 100_000)
    ]
    assert (second.program, third.program) == (None, None)
    bodies = {digest: zlib.decompress(body) for digest, body in listing.bodies.items()}
    assert bodies == {third.sha256: b"k" * 100_000}
    assert listing.oversized == {"text"}
    assert listing.size == len(archive)


def test_requested_empty_file_is_kept() -> None:
    listing = read_listing([file("kept", b"") + END], "layer 1", lambda _: 10)

    (body,) = listing.bodies.items()
    assert (body[0], zlib.decompress(body[1])) == (hashlib.sha256().digest(), b"")


# Replacing


def test_last_entry_of_a_path_wins() -> None:
    assert listed([file("x"), folder("x"), symlink("x", "t")]) == ["x l> t"]
    assert listed([file("./x", b"12"), file("x", b"123")]) == ["x 3"]
    assert listed([symlink("x", "t"), empty("x/")]) == ["x /"]


def test_folder_over_a_folder_replaces_only_its_attributes() -> None:
    tree = grown([folder("d", 0o700), file("d/a")], [folder("d", 0o755)])

    found = dict(tree.walk())
    assert found["d"].access.mode == 0o755
    assert "d/a" in found


def test_other_entry_over_a_folder_removes_its_content() -> None:
    assert listed([file("d/a"), file("d/b/c")], [file("d", b"12")]) == ["d 2"]
    assert listed([file("d/a")], [symlink("d", "e")], [folder("d")]) == ["d /"]


def test_folder_replaces_a_file() -> None:
    tree = grown([file("d")], [file("d/a")])

    assert [path for path, _ in tree.walk()] == ["d", "d/a"]
    assert tree.warnings == ["a file is replaced by the parent folder of a later entry"]


def test_root_entry_sets_the_root() -> None:
    tree = grown([folder("./", 0o711), file("./a"), file("")])

    assert tree.root.entry is not None
    assert traits_of(tree.root.entry[2:], tree.room).mode == 0o711
    assert [path for path, _ in tree.walk()] == ["a"]
    assert tree.warnings == ["an entry without a name is not a folder, and is ignored"]


# Links


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "../../usr/lib", "usr/./x/../lib"])
def test_path_is_followed_through_links_inside_the_root(target: str) -> None:
    base = [folder("usr"), folder("usr/lib"), folder("usr/x"), symlink("lib", target)]

    assert listed(base, [file("lib/a")])[-1:] == ["usr/x /"]
    assert "usr/lib/a 1" in listed(base, [file("lib/a")])


def test_dangling_link_leads_to_created_folders() -> None:
    assert listed([symlink("a", "b/c"), file("a/x")]) == ["a l> b/c", "b /", "b/c /", "b/c/x 1"]


def test_circular_path_is_refused_and_a_circular_link_is_not() -> None:
    circle = [symlink("a", "b"), symlink("b", "a")]

    assert listed(circle) == ["a l> b", "b l> a"]
    with pytest.raises(BadDocument, match=f"more than {MAX_LINKS} links"):
        listed(circle, [file("a/x")])
    assert listed(circle, [empty("a/.wh.x")]) == ["a l> b", "b l> a"]


def chain(count: int) -> list[bytes]:
    links = [symlink(f"l{number}", f"l{number + 1}") for number in range(count)]
    return [folder(f"l{count}"), *links, file("l0/x")]


def test_links_in_a_path_are_limited() -> None:
    assert f"l{MAX_LINKS}/x 1" in listed(chain(MAX_LINKS))
    with pytest.raises(BadDocument, match="links"):
        listed(chain(MAX_LINKS + 1))


def test_hard_link_is_a_copy_of_its_target() -> None:
    tree = grown([file("a", b"123"), hard_link("b", "./a")], [file("a", b"1")])

    assert [f"{path} {each.kind.value} {each.size}" for path, each in tree.walk()] == [
        "a - 1",
        "b - 3",
    ]


def test_hard_link_may_precede_its_target() -> None:
    assert listed([hard_link("b", "a"), file("a", b"123")]) == ["a 3", "b 3"]


def test_hard_link_without_a_target_is_reported() -> None:
    tree = grown([hard_link("b", "../../canary"), hard_link("c", "c")])

    assert [entry_text(each) for _, each in tree.walk()] == ["h> canary", "h> c"]
    assert tree.warnings == ["a hard link names a file that does not exist"]


def test_hard_links_reach_lower_layers_and_follow_links() -> None:
    base = [file("usr/lib/a", b"123"), symlink("lib", "usr/lib"), symlink("s", "t")]

    found = listed(base, [hard_link("b", "lib/a"), hard_link("c", "s")])
    assert {"b 3", "c l> t"} <= set(found)


def test_files_are_found_through_links() -> None:
    tree = grown([file("usr/lib/a", b"ab"), symlink("lib", "usr/lib"), symlink("l", "lib/a")])

    assert (tree.body("lib/a"), tree.body("l"), tree.body("lib")) == (b"ab", b"ab", None)
    assert tree.find("no/where") is None
    circle = grown([symlink("a", "b"), symlink("b", "a")])
    assert circle.find("a") is None
    assert circle.find("a/b") is None
    assert grown([symlink("r", "/")]).find("r") is not None


# Whiteouts. Source: image-spec layer.md; cases TAR-012 and TAR-013.


def test_whiteout_removes_entries_of_lower_layers() -> None:
    base = [file("d/a"), file("d/b"), file("e/x")]

    assert listed(base, [empty("d/.wh.a"), empty("e/.wh..wh..opq"), file("d/c"), folder("e")]) == [
        "d /", "d/b 1", "d/c 1", "e /",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "layer",
    [[empty("d/.wh.a"), file("d/a", b"12")], [file("d/a", b"12"), empty("d/.wh.a")]],
    ids=["before", "after"],
)
def test_whiteout_keeps_entries_of_its_own_layer(layer: list[bytes]) -> None:
    assert listed([file("d/a")], layer) == ["d /", "d/a 2"]


def test_opaque_folder_keeps_entries_of_its_own_layer_in_any_order() -> None:
    base = [file("d/old"), file("d/in/old"), file("d/in/deep/old"), hard_link("d/link", "d/old")]
    layer = [
        file("d/in/new"),
        hard_link("d/n", "d/in/new"),
        empty("d/.wh..wh..opq"),
        file("d/last"),
    ]

    found = listed(base, layer)
    assert found == ["d /", "d/in /", "d/in/new 1", "d/last 1", "d/n 1"]


def test_whiteout_of_a_folder_keeps_entries_of_its_own_layer() -> None:
    tree = grown([folder("d", 0o700), file("d/a")], [file("d/b"), empty(".wh.d")])

    found = dict(tree.walk())
    assert list(found) == ["d", "d/b"]
    assert found["d"].access.mode == 0o755


def test_whiteout_removes_a_link_and_not_its_target() -> None:
    assert listed([folder("d"), file("d/a"), symlink("l", "d")], [empty(".wh.l")]) == [
        "d /",
        "d/a 1",
    ]


def test_opaque_folder_in_place_of_a_link_does_not_affect_the_target() -> None:
    base = [file("d/a"), symlink("l", "d")]

    assert listed(base, [folder("l"), empty("l/.wh..wh..opq"), file("l/b")]) == [
        "d /", "d/a 1", "l /", "l/b 1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [".wh.", "d/.wh.", ".wh...", ".wh..", ".wh..wh.plnk", "d/.wh..wh.aufs", "no/.wh.x", ".wh.no"],
)
def test_whiteout_of_a_missing_path_is_ignored(name: str) -> None:
    assert listed([file("d/a")], [empty(name)]) == ["d /", "d/a 1"]


def test_opaque_root_removes_everything() -> None:
    assert listed([file("d/a"), file("b")], [empty(".wh..wh..opq"), file("c")]) == ["c 1"]


def test_folder_named_like_a_whiteout_can_be_part_of_a_path() -> None:
    assert listed([file("d/a")], [file(".wh.../x")]) == [
        ".wh... /",
        ".wh.../x 1",
        "d /",
        "d/a 1",
    ]


def test_many_whiteouts_of_a_large_folder_take_time_in_proportion() -> None:
    files = [file(f"d/{number}", b"") for number in range(4000)]
    opaque = [empty("d/.wh..wh..opq"), empty(".wh.d"), empty(".wh..wh..opq")] * 4000

    started = time.process_time()
    assert len(listed([file("d/old")], [*files, *opaque])) == 4001
    # 48 million steps if it were quadratic, about ten seconds.
    assert time.process_time() - started < 4


def test_many_files_are_replaced_and_removed_as_in_a_plain_mapping() -> None:
    rng = random.Random(1)
    names = [f"d{number % 3}/file-{number}" for number in range(600)]
    layers: list[list[bytes]] = []
    expected: dict[str, int] = {}
    for _ in range(12):
        fresh = {name: rng.randrange(1, 4) for name in rng.sample(names, 200)}
        gone = set(rng.sample(names, 100))
        parts = [file(name, bytes(size)) for name, size in fresh.items()]
        parts += [empty(name.replace("/", "/.wh.")) for name in gone]
        cleared = rng.choice(["d0/", "d1/", "none/"])
        parts.append(empty(f"{cleared}.wh..wh..opq"))
        rng.shuffle(parts)
        layers.append(parts)
        left = {n: s for n, s in expected.items() if n not in gone and not n.startswith(cleared)}
        expected = left | fresh

    tree = grown(*layers)
    walked = {path: found.size for path, found in tree.walk() if found.kind is TarEntryKind.FILE}
    assert walked == expected
    assert list(walked) == sorted(expected)
    assert {path: size_in(tree, path) for path in names} == {n: expected.get(n) for n in names}
    assert [path for path, _ in tree.walk()] == [path for path, _ in tree.packed()]


def size_in(tree: FileTree, path: str) -> int | None:
    found = tree.find(path)
    return found.size if isinstance(found, LayerFile) else None


def test_names_that_are_not_utf_8_sort_as_text() -> None:
    names = ["a", "a-b", "\ue000", "\U0001f600", "\udcff", "\udc80x", "\xe9"]
    tree = grown([header(f"d/{name}".encode("utf-8", "surrogateescape")) for name in names])
    assert all(isinstance(tree.find(f"d/{name}"), LayerFile) for name in names)

    found = [path for path, _ in tree.walk()]
    assert found == ["d", *(f"d/{name}" for name in sorted(names))]
    assert found == [path for path, _ in tree.packed()]


def test_removed_files_are_not_searched_again() -> None:
    """A folder of many removed files takes no time in later layers."""
    lower = [file(f"d/{number}") for number in range(4000)]
    upper = [folder("d"), *(empty(f"d/.wh.{number}") for number in range(4000))]

    started = time.process_time()
    assert listed(lower, [*upper, *[empty(".wh.d")] * 4000]) == ["d /"]
    # 16 million steps if each removal searched all.
    assert time.process_time() - started < 4


def test_file_takes_some_80_bytes_of_memory() -> None:
    """A million paths are compared in less than 300 MB (docs/speed.md, "Targets")."""
    count = 40_000
    room = TreeRoom()
    parts = b"".join(file(f"usr/{number // 1000}/file-{number}") for number in range(count))
    listing = read_listing([parts + END], "it", room=room)
    tree = FileTree(room)
    tracemalloc.start()
    tree.apply(listing, "it")
    used, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used / count < 100


def test_deep_trees_need_no_recursion() -> None:
    deep = "/".join(["d"] * 45)
    tree = grown([file(f"{deep}/a")], [empty(".wh.d")])

    assert list(tree.walk()) == []


# Memory limits


def test_file_tree_limits_are_exact() -> None:
    assert RoomLimits() == RoomLimits(4_000_000, 500_000, 512 << 20, 20_000_000)
    # The whole process takes some 85 MB more, and stays below 256 MiB.
    assert RoomLimits().memory <= 160 << 20


def test_packed_tree_releases_its_memory() -> None:
    room = TreeRoom(RoomLimits(memory=200_000))
    layer = [file(f"d/{number}") for number in range(500)]
    for _ in range(10):
        tree = grown_in(room, *layer)
        before = list(tree.walk())
        log = tree.packed()
        assert (len(log), tree.packed()) == (501, log)
        assert [path for path, _ in tree.walk()] == [path for path, _ in before]
        del tree, log

    trees = []
    with pytest.raises(
        LimitExceeded, match=r"the memory for the files .* limit of 200000 bytes: 2"
    ):
        trees += [grown_in(room, *layer) for _ in range(10)]
    del trees
    assert len(grown_in(room, *layer).packed()) == 501


@pytest.mark.parametrize(
    "parts",
    [
        [pax(record(b"path", b"%d/" % each + b"x" * 4000)) + empty("x") for each in range(300)],
        ["/".join([str(each), *"d" * 40]).encode() for each in range(100)],
        [hard_link(f"h{each}", "nothing") for each in range(6000)],
        [header(b"%d" % each, fields={108: octal(each, 8)}) for each in range(2000)],
        [marked(file("x"), b"%d" % each) for each in range(2000)],
        [folder(f"{each}") for each in range(4000)],
        [file(f"{each // 1000}/{each}") for each in range(15_000)],
    ],
    ids=["long names", "deep folders", "hard links", "owners", "attributes", "folders", "files"],
)
def test_memory_of_every_entry_is_counted(parts: list[bytes]) -> None:
    """No entry may use a multiple of the memory that is counted for it."""
    parts = [header(part) if len(part) < 512 else part for part in parts]
    with pytest.raises(LimitExceeded) as caught:
        grown_in(TreeRoom(RoomLimits(memory=1 << 20)), *parts)

    assert (caught.value.limit, caught.value.unit) == (1 << 20, "bytes")
    assert "-p PLATFORM" in caught.value.hints()[0]
    tracemalloc.start()
    tree = grown_in(TreeRoom(), *parts)
    used, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < tree.room.held * 1.1


@pytest.mark.parametrize(
    ("limit", "value", "unit"),
    [
        ("paths", 6, "paths"),
        ("implied", 3, "folders"),
        ("text", 48, "bytes"),
        ("steps", 3, "names"),
    ],
)
def test_tree_memory_is_limited(limit: str, value: int, unit: str) -> None:
    """A header of 512 bytes may name 128 folders; 255 links may be on a way, of 4,096 bytes each.

    Other limits are far away here; what is counted once is not counted again.
    """
    parts = [
        empty("a/b/c/long"), empty("a/b/c/ü"), empty("a/b/c/long"), symlink("l", "a/../a"),
    ]  # fmt: skip
    through = [*parts, file("l/b/c/long", b"1")]

    given = RoomLimits(**{limit: value})
    assert len(grown_in(TreeRoom(given), *through).packed()) == 6
    with pytest.raises(LimitExceeded, match=f"limit of {value - 1} {unit}: {value}") as caught:
        grown_in(TreeRoom(RoomLimits(**{limit: value - 1})), *through).packed()
    assert caught.value.hints() == (
        "compare fewer platforms at once: name them with `-p PLATFORM`",
    )
