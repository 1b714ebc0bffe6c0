"""Differences between file trees, and those that are expected."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from resolver.core.compare.drift import Ignoring
from resolver.core.compare.file_difference import FolderDelta, PathChange
from resolver.core.compare.files import LabelledTree, PathWords, _Folders, compare_trees
from resolver.core.compare.packages import wanted
from resolver.core.layers.filetree import FileTree
from resolver.core.layers.listing import read_listing
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.errors import Usage
from tests.kit.executables import elf_header, pe_header
from tests.kit.tar_blocks import END, header, member, octal, pax, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.compare.file_difference import FileComparison, FileDifference

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
MACHINES = {"amd64": 62, "arm64": 183}


def labelled(platform: Platform | None, *parts: bytes, label: str = "") -> LabelledTree:
    tree = FileTree()
    tree.apply(read_listing([b"".join(parts) + END], "layer 1", wanted), "layer 1")
    return LabelledTree(label or str(platform), platform, tree)


def compared(before: list[bytes], after: list[bytes], other: Platform = ARM64) -> FileComparison:
    return compare_trees(labelled(AMD64, *before), [labelled(other, *after)], BUILTIN)


def differences(before: list[bytes], after: list[bytes], other: Platform = ARM64) -> list[str]:
    found: Sequence[FileDifference] = compared(before, after, other).others[0].differences
    return [f"{each.path}: {' '.join(change.value for change in each.changes)}" for each in found]


def file(name: str, body: bytes = b"x", mode: int = 0o644, uid: int = 0) -> bytes:
    return member(name.encode(), body, fields={100: octal(mode, 8), 108: octal(uid, 8)})


def link(name: str, target: str, mode: int = 0o777) -> bytes:
    return header(name.encode(), 0, b"2", link=target.encode(), fields={100: octal(mode, 8)})


def device(name: str, minor: int) -> bytes:
    return header(name.encode(), 0, b"3", fields={329: octal(1, 8), 337: octal(minor, 8)})


# Kinds of change


def test_equal_trees_have_no_differences() -> None:
    parts = [file("etc/a"), link("l", "etc/a"), device("null", 3)]
    found = compared(parts, parts)

    assert found.is_same
    assert found.others[0].same == 4
    assert found.others[0].counts == ()


def test_every_kind_of_file_change_is_reported() -> None:
    before = [
        file("gone"), file("type"), file("mode"), file("owner"), file("size"), file("content"),
        link("link", "a"), device("device", 3), file("both", mode=0o600),
    ]  # fmt: skip
    after = [
        file("new"), link("type", "x"), file("mode", mode=0o755), file("owner", uid=7),
        file("size", b"xx"), file("content", b"y"), link("link", "b"), device("device", 5),
        file("both", b"yy", mode=0o644),
    ]  # fmt: skip

    assert differences(before, after) == [
        "both: mode size content",
        "content: content",
        "device: device",
        "gone: removed",
        "link: link",
        "mode: mode",
        "new: added",
        "owner: owner",
        "size: size content",
        "type: type",
    ]
    assert compared(before, after).others[0].counts == (
        (PathChange.ADDED, 1), (PathChange.REMOVED, 1), (PathChange.TYPE, 1), (PathChange.MODE, 2),
        (PathChange.OWNER, 1), (PathChange.SIZE, 2), (PathChange.CONTENT, 3), (PathChange.LINK, 1),
        (PathChange.DEVICE, 1),
    )  # fmt: skip


def test_mode_of_a_symlink_is_ignored() -> None:
    assert differences([link("l", "a", 0o777)], [link("l", "a", 0o644)]) == []


NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")


def attributed(name: str, *records: bytes, body: bytes = b"x") -> bytes:
    return pax(*records) + file(name, body)


def xattr(name: bytes, value: bytes) -> bytes:
    return record(b"SCHILY.xattr." + name, value)


def test_extended_attributes_are_compared() -> None:
    before = [
        attributed("bin/ping", xattr(b"security.capability", NET_RAW)),
        attributed("etc/label", xattr(b"security.selinux", b"system_u:object_r:etc_t:s0\0")),
        attributed("note", xattr(b"user.note", b"1"), xattr(b"user.same", b"1")),
        pax(xattr(b"user.note", b"1")) + header(b"folder", 0, b"5"),
        pax(xattr(b"user.note", b"1")) + link("link", "a"),
        attributed("same", xattr(b"user.a", b"1"), xattr(b"user.b", b"2")),
    ]
    after = [
        file("bin/ping"),
        attributed("etc/label", xattr(b"security.selinux", b"system_u:object_r:bin_t:s0")),
        attributed("note", xattr(b"user.same", b"1"), xattr(b"user.note", b"2")),
        header(b"folder", 0, b"5"),
        link("link", "a"),
        attributed("same", xattr(b"user.b", b"2"), xattr(b"user.a", b"1")),
    ]
    found = compared(before, after).others[0]

    assert [(each.path, each.changes, each.xattrs) for each in found.differences] == [
        ("bin/ping", (PathChange.XATTRS,), ("security.capability",)),
        ("etc/label", (PathChange.XATTRS,), ("security.selinux",)),
        ("folder", (PathChange.XATTRS,), ("user.note",)),
        ("link", (PathChange.XATTRS,), ("user.note",)),
        ("note", (PathChange.XATTRS,), ("user.note",)),
    ]
    ping = found.differences[0]
    assert ping.before is not None
    assert ping.before.xattrs == (("security.capability", "cap_net_raw+ep"),)
    assert found.counts == ((PathChange.XATTRS, 5),)
    assert not found.is_same


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ([], ["all: mode owner xattrs", "one: xattrs", "size: size content"]),
        (["files.mode", "files.owner"], ["all: xattrs", "one: xattrs", "size: size content"]),
        (["files.xattrs"], ["all: mode owner", "size: size content"]),
        (["files.xattrs.user.*"], ["all: mode owner xattrs", "size: size content"]),
        (["files.xattrs.*"], ["all: mode owner", "size: size content"]),
        (["files.*"], []),
    ],
)
def test_expected_file_differences_are_omitted(rules: list[str], left: list[str]) -> None:
    before = [
        attributed("all", xattr(b"user.a", b"1"), xattr(b"security.selinux", b"s0")),
        attributed("one", xattr(b"user.a", b"1")),
        file("size"),
    ]
    after = [file("all", mode=0o755, uid=7), file("one"), file("size", b"xx")]
    found = compare_trees(
        labelled(AMD64, *before), [labelled(ARM64, *after)], BUILTIN, Ignoring.read(rules)
    )

    assert [
        f"{each.path}: {' '.join(change.value for change in each.changes)}"
        for each in found.others[0].differences
    ] == left
    assert found.others[0].same == 3 - len(left)


@pytest.mark.parametrize("rule", ["files", "files.size.x", "files.modes", "files.user.a"])
def test_ignore_rule_without_a_file_change_is_refused(rule: str) -> None:
    with pytest.raises(Usage, match=r"files\.mode|no keys|not a known difference"):
        Ignoring.read([rule])


def test_windows_files_are_not_compared_with_linux() -> None:
    windows = Platform("windows", "amd64")
    parts = [file("Files/Windows/a"), file("Hives/b")]
    found = compare_trees(
        labelled(AMD64, file("bin/sh")),
        [labelled(windows, *parts), labelled(ARM64, file("bin/sh"))],
        BUILTIN,
    )
    apart, same = found.others

    assert apart.not_compared == (
        "not compared file by file: it is for windows, and the base for linux"
    )
    assert (apart.differences, apart.packages, apart.is_same) == ((), (), False)
    assert (same.is_same, found.is_same) == (True, False)


def test_windows_files_are_compared_with_windows() -> None:
    before = attributed("Files/a", record(b"MSWINDOWS.fileattr", b"32"))
    after = attributed("Files/a", record(b"MSWINDOWS.fileattr", b"34"))
    windows = [Platform("windows", "amd64", os_version=f"10.0.{n}.1") for n in (17763, 20348)]
    found = compare_trees(labelled(windows[0], before), [labelled(windows[1], after)], BUILTIN)

    (difference,) = found.others[0].differences
    assert difference.after is not None
    assert difference.xattrs == ("MSWINDOWS.fileattr",)
    assert difference.after.xattrs == (("MSWINDOWS.fileattr", "hidden,archive"),)


def test_device_numbers_may_be_in_the_extended_header() -> None:
    plain = device("null", 3)
    large = pax(record(b"SCHILY.devmajor", b"70000"), record(b"SCHILY.devminor", b"9")) + plain

    assert differences([plain], [large]) == ["null: device"]


def test_file_times_are_not_compared() -> None:
    dated = pax(record(b"mtime", b"1700000000.5"), record(b"LIBARCHIVE.creationtime", b"1")) + file(
        "a"
    )

    assert compared([file("a")], [dated]).is_same


def test_file_difference_has_the_facts_of_both_sides() -> None:
    found = compared([file("etc/a", b"ab", 0o600)], [file("etc/a", b"abc")])

    (difference,) = found.others[0].differences
    assert difference.before is not None
    assert difference.after is not None
    assert (difference.before.mode, difference.before.size) == (0o600, 2)
    assert difference.after.sha256.startswith("ba7816bf")


# Paths that name an architecture


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("usr/lib/x86_64-linux-gnu/libz.so.1", "usr/lib/aarch64-linux-gnu/libz.so.1"),
        ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"),
        ("lib/ld-musl-x86_64.so.1", "lib/ld-musl-aarch64.so.1"),
        ("usr/local/go/pkg/linux_amd64/a", "usr/local/go/pkg/linux_arm64/a"),
        ("var/lib/dpkg/info/libc6:amd64.list", "var/lib/dpkg/info/libc6:arm64.list"),
        ("x/_ssl.cpython-311-x86_64-linux-gnu.so", "x/_ssl.cpython-311-aarch64-linux-gnu.so"),
        ("usr/bin/x86_64-linux-gnu-gcc-12", "usr/bin/aarch64-linux-gnu-gcc-12"),
        ("opt/tool-linux-x86_64", "opt/tool-linux-aarch64"),
    ],
)
def test_paths_that_differ_only_in_their_architecture_are_paired(before: str, after: str) -> None:
    folders_apart = [each for each in differences([file(before)], [file(after)]) if "/" in each]
    assert [each for each in folders_apart if before.rpartition("/")[2] in each] == []
    assert not any("added" in each and after in each for each in folders_apart)


def test_equal_paths_are_always_paired() -> None:
    both = [file("m/arm64.js", b"1"), file("m/x64.js", b"2"), file("m/amd64.js", b"3")]

    assert differences(both, both) == []


def test_path_naming_another_architecture_is_a_difference() -> None:
    both = file("usr/lib/x86_64-linux-gnu/libz.so")
    assert differences([both], [both]) == []
    assert differences([file("usr/bin/a")], [file("usr/bin/a"), file("tool-amd64")]) == [
        "tool-amd64: added"
    ]


def test_link_targets_are_paired_by_architecture() -> None:
    before = [link("lib/libz.so", "/usr/lib/x86_64-linux-gnu/libz.so.1")]
    after = [link("lib/libz.so", "/usr/lib/aarch64-linux-gnu/libz.so.1")]

    assert differences(before, after) == []


def test_two_paths_never_share_a_key() -> None:
    """The path that equals the key gets it, else the first one."""
    paths = ["lib/x", "lib64/x", "a-amd64", "a-x86_64", "a-{arch}"]

    found = compared([file(path) for path in paths], []).others[0].differences
    output = {each.before.path: each.path for each in found if each.before and each.path != "lib"}
    assert {key: path for key, path in output.items() if "/" in key or "-" in key} == {
        path: path for path in paths
    }
    found = compared([file("b-amd64"), file("b-x86_64")], [], AMD64).others[0].differences
    assert [(each.path, each.before and each.before.path) for each in found] == [
        ("b-x86_64", "b-x86_64"),
        ("b-{arch}", "b-amd64"),
    ]


def test_renamed_path_pairs_with_a_path_equal_to_its_key() -> None:
    found = compared([file("lib64/x", b"1")], [file("lib/x", b"12")]).others[0].differences

    met = [each for each in found if each.before and each.after]
    assert [
        (each.path, each.before and each.before.path, each.after and each.after.path)
        for each in met
    ] == [("lib/x", "lib64/x", "lib/x")]


def test_file_differences_are_sorted_by_key() -> None:
    before = [file(path) for path in ("a-b", "a/b", "x86_64/z", "{arch}x", "zz")]
    found = compared(before, [file("a/c"), file("aarch64/y")]).others[0].differences

    paths = [each.path for each in found]
    assert paths == sorted(paths)
    assert {"{arch}/z", "{arch}/y", "{arch}x", "a-b", "a/b", "a/c", "zz"} <= set(paths)
    assert found[1:3] == tuple(found)[1:3]
    assert (found[-1], found == tuple(found), found == ()) == (tuple(found)[-1], True, False)


def test_architecture_words_depend_on_the_platform() -> None:
    assert PathWords(None, BUILTIN).taken_out("usr/lib64/x86_64") == "usr/lib64/x86_64"
    assert PathWords(Platform("linux", "386"), BUILTIN).taken_out("x86_64/x86") == "x86_64/{arch}"


# Programs


def test_programs_built_for_their_own_platform_may_differ() -> None:
    before = [file("bin/a", elf_header(62)), file("bin/same", b"text")]
    after = [file("bin/a", elf_header(183) + b"longer"), file("bin/same", b"text")]

    (other,) = compared(before, after).others
    assert other.is_same
    assert (other.rebuilt, other.rebuilt_size) == (
        1,
        (len(elf_header(62)), len(elf_header(183)) + 6),
    )


def test_program_modes_may_not_differ() -> None:
    before, after = [file("a", elf_header(62), 0o755)], [file("a", elf_header(183), 0o4755)]

    assert differences(before, after) == ["a: mode"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (elf_header(62), elf_header(62) + b"other"),
        (elf_header(62), b"#!/bin/sh"),
        (elf_header(183), elf_header(62)),
        (elf_header(3, 32), elf_header(183)),
    ],
)
def test_programs_for_another_platform_differ(before: bytes, after: bytes) -> None:
    (found,) = differences([file("a", before)], [file("a", after)])

    assert "content" in found


def test_programs_are_counted_and_foreign_ones_named() -> None:
    found = compared(
        [file("a", elf_header(62)), file("b", elf_header(62)), file("c", elf_header(3, 32))],
        [
            file("a", elf_header(183)),
            file("bin/lies", elf_header(62)),
            file("w.exe", pe_header(0x8664)),
        ],
    )

    assert found.base.programs == (("elf amd64", 2), ("elf 386", 1))
    assert found.base.strangers == ()
    other = found.others[0].summary
    assert other.programs == (("elf amd64", 1), ("elf arm64", 1), ("pe amd64", 1))
    assert [each.path for each in other.strangers] == ["bin/lies", "w.exe"]


def test_tree_without_a_platform_has_no_foreign_programs() -> None:
    found = compare_trees(labelled(None, file("a", elf_header(62)), label="x"), [], BUILTIN)

    assert found.base.strangers == ()
    assert found.is_same


# Sizes


def test_file_difference_summary_counts_changes() -> None:
    summary = compared([file("d/a", b"12"), file("b", b"3"), link("l", "b")], []).base

    assert (summary.files, summary.folders, summary.links, summary.size) == (2, 1, 1, 3)


def test_file_difference_names_the_largest_folders() -> None:
    before = [file("usr/lib/x86_64-linux-gnu/a", b"x" * 100), file("usr/share/doc/b", b"x" * 30)]
    after = [file("usr/lib/aarch64-linux-gnu/a", b"x" * 400), file("usr/share/doc/b", b"x" * 10)]

    assert compared(before, after).others[0].folders == (
        FolderDelta("usr/lib/{arch}", 100, 400),
        FolderDelta("usr/share/doc", 30, 10),
    )


def test_number_of_named_folders_is_limited() -> None:
    paths = sorted((f"d{number}/f", 0, number) for number in range(1, 300))

    folders = _Folders()
    for path in paths:
        folders.add(*path)
    found = folders.largest()
    assert len(found) == 20
    assert [each.delta for each in found] == list(range(299, 279, -1))
    assert found[0].path == "d299"


# Order


def test_file_difference_does_not_depend_on_entry_order() -> None:
    before = [file(f"d/{number}", b"%d" % number) for number in range(50)]
    after = [file(f"d/{number}", b"%d" % (number % 45)) for number in range(60)]
    expected = compared(before, after)
    random.Random(1).shuffle(before)
    random.Random(2).shuffle(after)

    assert compared(before, after) == expected


def test_file_comparison_includes_packages() -> None:
    def status(version: str, architecture: str) -> bytes:
        body = f"Package: a\nVersion: {version}\nArchitecture: {architecture}\n"
        return file("var/lib/dpkg/status", body.encode())

    (other,) = compared([status("1", "amd64")], [status("1", "arm64")]).others
    assert (other.packages, other.same_packages) == ((), 1)
    (other,) = compared([status("1", "amd64")], [status("2", "arm64")]).others
    assert [each.after for each in other.packages] == [("2",)]
