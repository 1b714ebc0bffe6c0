"""Package databases: installed packages, and unreadable databases."""

from __future__ import annotations

import sqlite3
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.compare import packages
from resolver.core.compare.file_difference import Package, PackageDifference
from resolver.core.compare.packages import (
    compare_packages,
    read_apk,
    read_dpkg,
    read_installed,
    wanted,
)
from resolver.core.layers.filetree import FileTree
from resolver.core.layers.listing import RoomLimits, TreeRoom, read_listing
from resolver.core.layers.tar import TarLimits
from resolver.errors import LimitExceeded
from tests.kit.pulls import noise
from tests.kit.tar_blocks import END, header, member

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DPKG = b"""Package: libc6
Status: install ok installed
Architecture: arm64
Multi-Arch: same
Version: 2.36-9+deb12u14
Description: GNU C Library
 Package: not-me
 .

Package: gone
Status: deinstall ok config-files
Version: 1

Package: bash
Status: hold ok installed
Architecture: arm64
Version: 5.2.15-2+b8
"""
APK = b"""C:Q1abc=
P:musl
V:1.2.5-r9
A:aarch64
F:lib
R:ld-musl-aarch64.so.1

P:busybox
V:1.37.0-r12
A:aarch64
"""


def grown(files: dict[str, bytes], *more: bytes) -> FileTree:
    parts = [member(name.encode(), body) for name, body in files.items()]
    found = FileTree()
    archive = b"".join([*parts, *more]) + END
    found.apply(read_listing([archive], "layer 1", wanted), "layer 1")
    return found


def blob(tags: Mapping[int, str | int]) -> bytes:
    """Write an rpm header."""
    entries, data = b"", b""
    for tag, value in tags.items():
        if isinstance(value, int):
            data += bytes(-len(data) % 4)
            entries += struct.pack(">IIII", tag, 4, len(data), 1)
            data += struct.pack(">I", value)
        else:
            entries += struct.pack(">IIII", tag, 6, len(data), 1)
            data += value.encode() + b"\0"
    return struct.pack(">II", len(tags), len(data)) + entries + data


BASH: dict[int, str | int] = {1000: "bash", 1001: "5.2.26", 1002: "3.fc40", 1022: "aarch64"}
VIM: dict[int, str | int] = {1000: "vim", 1001: "9.1", 1002: "1.fc40", 1003: 2, 1022: "aarch64"}
KEY: dict[int, str | int] = {1000: "gpg-pubkey", 1001: "a", 1002: "b"}


def rpmdb(folder: Path, *blobs: object, wal: bool = True) -> bytes:
    """Write a database with SQLite as rpm does, in WAL mode."""
    path = folder / "rpmdb.sqlite"
    connection = sqlite3.connect(path)
    if wal:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(each,) for each in blobs])
    connection.commit()
    connection.close()
    return path.read_bytes()


# dpkg and apk


def test_dpkg_database_lists_installed_packages() -> None:
    assert list(read_dpkg(DPKG)) == [
        Package("dpkg", "libc6", "2.36-9+deb12u14", "arm64"),
        Package("dpkg", "bash", "5.2.15-2+b8", "arm64"),
    ]


def test_apk_database_lists_installed_packages() -> None:
    assert list(read_apk(APK)) == [
        Package("apk", "musl", "1.2.5-r9", "aarch64"),
        Package("apk", "busybox", "1.37.0-r12", "aarch64"),
    ]


@given(st.binary())
def test_any_text_database_is_read_without_failure(body: bytes) -> None:
    list(read_dpkg(body))
    list(read_apk(body))


def test_package_databases_are_found_at_their_paths() -> None:
    found = read_installed(
        grown(
            {
                "var/lib/dpkg/status": DPKG,
                "var/lib/dpkg/status.d/tzdata": b"Package: tzdata\nVersion: 2024a\n",
                "var/lib/dpkg/status.d/tzdata.md5sums": b"0 usr/share\n",
                "usr/lib/apk/db/installed": APK,
            },
            # Alpine of 2025 on: one file under two paths.
            header(b"lib", 0, b"2", link=b"usr/lib"),
        )
    )

    assert [str(each.name) for each in found.packages] == [
        "busybox", "musl", "bash", "libc6", "tzdata",
    ]  # fmt: skip
    assert found.unread == ()


# rpm


def test_rpm_database_lists_installed_packages(tmp_path: Path) -> None:
    body = rpmdb(tmp_path, blob(BASH), blob(VIM), blob(KEY))

    found = read_installed(grown({"usr/lib/sysimage/rpm/rpmdb.sqlite": body}))

    assert found.packages == (
        Package("rpm", "bash", "5.2.26-3.fc40", "aarch64"),
        Package("rpm", "vim", "2:9.1-1.fc40", "aarch64"),
    )


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (b"", "no header"),
        (struct.pack(">II", 1 << 20, 0), "cut short"),
        (blob(BASH)[:-1], "cut short"),
        (struct.pack(">II", 0, 1 << 31), "cut short"),
        (struct.pack(">IIIIII", 1, 0, 1000, 6, 5, 1), "text outside"),
        (struct.pack(">IIIIII", 1, 1, 1000, 6, 0, 1) + b"x", "text outside"),
        (struct.pack(">IIIIII", 1, 2, 1003, 4, 0, 1) + b"xx", "number outside"),
        (blob({1000: "name"}), "no name or version"),
    ],
)
def test_rpm_header_with_wrong_offsets_is_refused(damaged: bytes, words: str) -> None:
    with pytest.raises(packages.UnreadableDatabase, match=words):
        packages.read_header(damaged)


@given(st.binary(max_size=200))
def test_any_rpm_header_is_read_or_refused(body: bytes) -> None:
    for damaged in (body, blob(BASH)[:20] + body):
        try:
            packages.read_header(damaged)
        except packages.UnreadableDatabase:
            continue


def unread(files: dict[str, bytes]) -> str:
    ((_, reason),) = read_installed(grown(files)).unread
    return reason


def test_unreadable_package_database_is_reported_alone(tmp_path: Path) -> None:
    path = "var/lib/rpm/rpmdb.sqlite"
    body = rpmdb(tmp_path, blob(BASH))

    assert unread({path: b"x" * 100}) == "it is not a SQLite database"
    assert unread({path: body, f"{path}-wal": b"log"}).startswith("changes in its write-ahead log")
    assert unread({path: body[:2000]}).startswith("SQLite reports: ")
    assert "Berkeley DB" in unread({"var/lib/rpm/Packages": b"x"})
    assert "ndb" in unread({"usr/lib/sysimage/rpm/Packages.db": b"x"})
    found = read_installed(grown({path: b"x", "lib/apk/db/installed": APK}))
    assert (len(found.packages), len(found.unread)) == (2, 1)


def test_rpm_database_without_the_table_or_with_a_view_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trap"
    connection = sqlite3.connect(path)
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT x AS blob FROM n"
    )
    connection.execute(f"CREATE VIEW Packages AS {endless}")
    connection.commit()
    connection.close()
    assert unread({"var/lib/rpm/rpmdb.sqlite": path.read_bytes()}) == "it has no table `Packages`"
    text = rpmdb(tmp_path, "text")
    assert unread({"var/lib/rpm/rpmdb.sqlite": text}) == "a package in it is not a blob"


def test_slow_package_database_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_MAX_STEPS", 100)
    monkeypatch.setattr(packages, "_STEPS_AT_ONCE", 10)
    body = rpmdb(tmp_path, *[blob(BASH)] * 100)

    assert unread({"var/lib/rpm/rpmdb.sqlite": body}) == "SQLite reports: interrupted"


# Limits


def test_text_package_database_is_limited_to_16_mib() -> None:
    full = APK + b"\n" * ((16 << 20) - len(APK))

    assert len(read_installed(grown({"lib/apk/db/installed": full})).packages) == 2
    assert unread({"lib/apk/db/installed": full + b"\n"}) == (
        "it exceeds the limit of 16777216 bytes: 16777217"
    )
    assert {packages.wanted(f"{folder}/rpmdb.sqlite") for folder in packages._RPM_FOLDERS} == {
        32 << 20
    }


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (RoomLimits(packages=2), ""),
        (RoomLimits(packages=1), "the number of packages of all file trees"),
        (RoomLimits(package_text=1_000), ""),
        (RoomLimits(package_text=10), "the names of all packages"),
        (RoomLimits(databases=len(APK)), ""),
        (RoomLimits(databases=len(APK) - 1), "the package databases of all file trees"),
    ],
)
def test_total_size_of_package_databases_is_limited(limits: RoomLimits, reason: str) -> None:
    tree = FileTree(TreeRoom(limits))
    listing = read_listing([member(b"lib/apk/db/installed", APK) + END], "it", packages.wanted)
    tree.apply(listing, "it")
    found = read_installed(tree)

    assert [path for path, _ in found.unread] == (["lib/apk/db/installed"] if reason else [])
    assert all(reason in text and "limit" in text for _, text in found.unread)
    assert len(found.packages) == (
        2 if not reason else limits.packages if limits.packages == 1 else 0
    )


@pytest.mark.parametrize(("less", "is_read"), [(0, True), (1, False)])
def test_package_database_is_counted_while_read(*, less: int, is_read: bool) -> None:
    """Its bytes and one copy count; the rest of the tree does not."""
    listing = read_listing([member(b"lib/apk/db/installed", APK) + END], "it", packages.wanted)
    measured = FileTree()
    measured.apply(listing, "it")
    room = TreeRoom(RoomLimits(memory=measured.room.held + 2 * len(APK) - less))
    tree = FileTree(room)
    tree.apply(listing, "it")
    found = read_installed(tree)

    assert bool(found.packages) is is_read
    assert ["the memory" in reason for _path, reason in found.unread] == [True] * less
    assert room.held == measured.room.held


def test_compressed_package_databases_of_a_layer_are_limited() -> None:
    one = member(b"lib/apk/db/installed", noise(50_000))
    other = member(b"lib/apk/db/installed", noise(50_000, 1))
    limits = TarLimits(bodies=60_000)

    assert read_listing([one + one + END], "it", packages.wanted, limits).kept < 60_000
    with pytest.raises(LimitExceeded, match="package databases of it"):
        read_listing([one + other + END], "it", packages.wanted, limits)


@pytest.mark.parametrize(("length", "is_read"), [(256, True), (257, False)])
def test_package_field_length_is_limited(tmp_path: Path, length: int, *, is_read: bool) -> None:
    name = "n" * length
    files = {
        "var/lib/dpkg/status": f"Package: {name}\nVersion: 1\n".encode(),
        "lib/apk/db/installed": f"P:{name}\nV:1\n".encode(),
        "var/lib/rpm/rpmdb.sqlite": rpmdb(tmp_path, blob({**BASH, 1000: name})),
    }
    found = read_installed(grown(files))

    assert len(found.packages) == (3 if is_read else 0)
    assert ["256" in reason for _, reason in found.unread] == [True] * (0 if is_read else 3)


def test_blank_lines_and_other_fields_use_no_memory() -> None:
    body = b"\n" * 4_000_000 + b"X: y\n" * 1_000_000 + b"Package: a\nPackage: b\nVersion: 1\n"
    tracemalloc.start()
    try:
        found = list(packages.read_dpkg(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [(each.name, each.version) for each in found] == [("a", "1")]
    assert peak < 1 << 20


def test_package_database_record_is_limited_to_one_mib() -> None:
    name = "var/lib/dpkg/status.d/x"
    part = b"Package: x\nVersion: 1\n"
    full = part + b"\n" * (packages.MAX_PART - len(part))
    assert len(read_installed(grown({name: full})).packages) == 1
    assert "limit of 1048576 bytes: 1048577" in unread({name: full + b"\n"})


def test_number_of_packages_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_PACKAGES", 2)
    assert read_installed(grown({"lib/apk/db/installed": APK})).unread == ()
    monkeypatch.setattr(packages, "MAX_PACKAGES", 1)
    found = read_installed(grown({"lib/apk/db/installed": APK}))
    assert len(found.packages) == 1
    assert "more than 1 packages" in found.unread[0][1]


def test_hard_link_to_a_package_database_is_reported() -> None:
    link = header(b"lib/apk/db/installed", 0, b"1", link=b"elsewhere")

    found = read_installed(grown({"elsewhere": APK}, link))
    assert found.unread == (("lib/apk/db/installed", "it is a link to a file with another name"),)


# Comparing


def test_packages_are_compared_by_name_and_version_without_architecture() -> None:
    def package(name: str, version: str, architecture: str) -> Package:
        return Package("dpkg", name, version, architecture)

    before = [package("a", "1", "amd64"), package("b", "1", "amd64"), package("c", "1", "amd64")]
    after = [package("a", "1", "arm64"), package("b", "2", "arm64"), package("d", "1", "arm64")]

    assert compare_packages(before, after) == (
        (
            PackageDifference("dpkg", "b", ("1",), ("2",)),
            PackageDifference("dpkg", "c", ("1",), ()),
            PackageDifference("dpkg", "d", (), ("1",)),
        ),
        1,
    )
