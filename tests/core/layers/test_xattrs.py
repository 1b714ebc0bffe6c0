"""Extended attributes: parsing of records, and formatting."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.layers.listing import read_listing
from resolver.core.layers.tar import TarLimits
from resolver.core.layers.xattrs import MAX_VALUE, Xattr, read_xattrs
from resolver.errors import BadDocument, LimitExceeded
from tests.kit.tar_blocks import END, header, pax, record

if TYPE_CHECKING:
    from pathlib import Path

NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")


def texts(records: dict[bytes, bytes]) -> dict[str, str]:
    return {each.name: each.text for each in read_xattrs(records)}


@pytest.mark.parametrize(
    ("key", "value", "name", "text"),
    [
        (b"SCHILY.xattr.user.note", b"hello", "user.note", '"hello"'),
        (b"SCHILY.xattr.user.empty", b"", "user.empty", '""'),
        (b"SCHILY.xattr.user.bytes", b"\x00\xff", "user.bytes", "0x00ff"),
        (b"SCHILY.xattr.user.line", b"a\nb", "user.line", "0x610a62"),
        (b"LIBARCHIVE.xattr.user.note", b"aGVsbG8", "user.note", '"hello"'),
        (b"LIBARCHIVE.xattr.user.note", b"aGVsbG8=", "user.note", '"hello"'),
        (b"LIBARCHIVE.xattr.user.a%3db", b"MQ", "user.a=b", '"1"'),
        (b"LIBARCHIVE.xattr.user.odd", b"*", "user.odd", '"*"'),
        (
            b"SCHILY.xattr.security.selinux",
            b"system_u:object_r:bin_t:s0\0",
            "security.selinux",
            '"system_u:object_r:bin_t:s0"',
        ),
        (b"RHT.security.selinux", b"u:o:t:s0", "security.selinux", '"u:o:t:s0"'),
        (b"SCHILY.acl.access", b"user::rw-", "SCHILY.acl.access", '"user::rw-"'),
        (b"SCHILY.fflags", b"nodump", "SCHILY.fflags", '"nodump"'),
        (b"MSWINDOWS.fileattr", b"0", "MSWINDOWS.fileattr", "none"),
        (b"MSWINDOWS.fileattr", b"131077", "MSWINDOWS.fileattr", "readonly,system,0x20000"),
        (b"MSWINDOWS.fileattr", b"many", "MSWINDOWS.fileattr", '"many"'),
        (
            b"MSWINDOWS.rawsd",
            base64.b64encode(b"descriptor"),
            "MSWINDOWS.rawsd",
            "security descriptor of 10 bytes, sha256:"
            + hashlib.sha256(b"descriptor").hexdigest()[:12],
        ),
    ],
)
def test_xattr_record_is_parsed(key: bytes, value: bytes, name: str, text: str) -> None:
    assert texts({key: value}) == {name: text}


def test_both_libarchive_forms_are_one_attribute() -> None:
    both = {b"LIBARCHIVE.xattr.user.a": b"MQ", b"SCHILY.xattr.user.a": b"1"}

    assert read_xattrs(both) == read_xattrs({b"SCHILY.xattr.user.a": b"1"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NET_RAW, "cap_net_raw+ep"),
        (struct.pack("<5I", 0x02000001, 0x3001, 0, 0, 0), "cap_chown,cap_net_admin,cap_net_raw+ep"),
        (struct.pack("<5I", 0x02000000, 1 << 13, 1 << 13, 0, 0), "cap_net_raw+ip"),
        (struct.pack("<5I", 0x02000000, 0, 1 << 13, 0, 0), "cap_net_raw+i"),
        (struct.pack("<5I", 0x02000001, 1 << 13, 1 << 12, 0, 0), "cap_net_admin+ei cap_net_raw+ep"),
        (struct.pack("<5I", 0x02000001, 0, 0, 1 << 7, 0), "cap_bpf+ep"),
        (struct.pack("<5I", 0x02000001, 0, 0, 1 << 31, 0), "63+ep"),
        (struct.pack("<5I", 0x02000001, 0xFFFFFFFF, 0, 0x1FF, 0), "all+ep"),
        (struct.pack("<5I", 0x02000000, 0, 0, 0, 0), "none"),
        (struct.pack("<6I", 0x03000001, 1 << 13, 0, 0, 0, 1000), "cap_net_raw+ep [rootid=1000]"),
        (struct.pack("<3I", 0x01000001, 1 << 13, 0), "cap_net_raw+ep [v1]"),
        (struct.pack("<5I", 0x04000001, 1, 0, 0, 0), "0x0100000401000000" + "00" * 12),
        (NET_RAW[:-1], f"0x{NET_RAW[:-1].hex()}"),
        (b"", '""'),
    ],
)  # fmt: skip
def test_xattr_capabilities_are_shown_by_name(value: bytes, text: str) -> None:
    assert texts({b"SCHILY.xattr.security.capability": value}) == {"security.capability": text}


def test_xattr_acls_are_shown_as_letters() -> None:
    entries = [(1, 6, 2**32 - 1), (2, 4, 1000), (4, 5, 2**32 - 1), (16, 7, 0), (32, 0, 0)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)

    assert texts({b"SCHILY.xattr.system.posix_acl_access": value}) == {
        "system.posix_acl_access": "user::rw-,user:1000:r--,group::r-x,mask::rwx,other::---"
    }


def test_long_xattr_value_is_replaced_by_its_hash() -> None:
    long = [b"x" * MAX_VALUE, b"x" * (MAX_VALUE + 1), b"x" * MAX_VALUE + b"y"]
    found = [read_xattrs({b"SCHILY.xattr.security.ima": value})[0] for value in long]

    assert len(set(found)) == 3
    assert found[0].text == f'"{"x" * MAX_VALUE}"'
    assert found[1].text.startswith(f"{MAX_VALUE + 1} bytes, sha256:")
    assert max(len(each.value) for each in found) == MAX_VALUE


@given(
    st.binary(max_size=400),
    st.sampled_from(
        [
            "security.capability",
            "user.a",
            "MSWINDOWS.rawsd",
            "MSWINDOWS.fileattr",
            "system.posix_acl_access",
        ]
    ),
)
def test_any_xattr_value_can_be_shown(value: bytes, name: str) -> None:
    assert Xattr(name, value[:MAX_VALUE], len(value)).text


@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=40), max_size=5))
def test_any_xattr_records_are_parsed(records: dict[bytes, bytes]) -> None:
    named = {b"LIBARCHIVE.xattr." + key: value for key, value in records.items()}

    names = [each.name for each in read_xattrs(named)]
    assert names == sorted(names)


def many(count: int) -> bytes:
    files = [
        pax(record(b"SCHILY.xattr.user.a", b"%d" % number)) + header(b"f%d" % number)
        for number in range(count)
    ]
    return b"".join(files) + END


def test_xattrs_of_a_layer_are_limited() -> None:
    one = read_listing([many(10)], "it").attributed
    assert one > 10 * 100

    assert read_listing([many(10)], "it", limits=TarLimits(xattrs=one)).attributed == one
    with pytest.raises(LimitExceeded, match="extended attributes of it"):
        read_listing([many(10)], "it", limits=TarLimits(xattrs=one - 1))


def test_equal_xattrs_of_many_files_count_once() -> None:
    same = b"".join(
        pax(record(b"SCHILY.xattr.user.a", b"1")) + header(b"f%d" % number) for number in range(50)
    )
    found = read_listing([same + END], "it")

    assert found.attributed < 1000
    assert len({id(file.xattrs) for file in found.files}) == 1


def test_invalid_xattr_record_is_refused() -> None:
    with pytest.raises(BadDocument, match="record"):
        read_listing([pax(b"30 SCHILY.xattr.user.a=1\n") + header(b"a") + END], "it")


def test_gnu_tar_xattrs_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    try:
        os.setxattr(tmp_path / "a", "user.note", b"hello")
    except OSError:
        pytest.skip("this file system has no attributes")
    made = subprocess.run(
        ["tar", "--xattrs", "--format=pax", "-cf", "-", "-C", str(tmp_path), "a"],
        capture_output=True,
        check=True,
    ).stdout

    (file,) = read_listing([made], "it").files
    assert [(each.name, each.text) for each in file.xattrs] == [("user.note", '"hello"')]
