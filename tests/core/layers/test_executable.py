"""The platform of an executable."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.layers.executable import Executable, read_executable, runs_on
from resolver.core.platforms.platform import BUILTIN, Platform
from tests.kit.executables import elf_header, pe_header


def mach(number: int, order: str = "<", kind: int = 2) -> bytes:
    magic = 0xFEEDFACF if number & 0x0100_0000 else 0xFEEDFACE
    return struct.pack(f"{order}IIII", magic, number, 0, kind) + bytes(20)


@pytest.mark.parametrize(
    ("start", "found"),
    [
        (elf_header(62), "elf amd64"),
        (elf_header(62, 32), "elf amd64p32"),
        (elf_header(3, 32), "elf 386"),
        (elf_header(183), "elf arm64"),
        (elf_header(183, order=">"), "elf arm64be"),
        (elf_header(183, 32), "elf arm64 ilp32"),
        (elf_header(40, 32, flags=0x5000400), "elf arm hard-float"),
        (elf_header(40, 32, flags=0x5000200), "elf arm soft-float"),
        (elf_header(40, 32, flags=0x5000000), "elf arm"),
        (elf_header(243, flags=5), "elf riscv64 double-float"),
        (elf_header(243, 32, flags=1), "elf riscv soft-float"),
        (elf_header(21), "elf ppc64le"),
        (elf_header(21, order=">"), "elf ppc64"),
        (elf_header(22, order=">"), "elf s390x"),
        (elf_header(8, 32, ">"), "elf mips"),
        (elf_header(8, 32), "elf mipsle"),
        (elf_header(8, 32, flags=0x20), "elf mips64p32le"),
        (elf_header(8), "elf mips64le"),
        (elf_header(8, order=">"), "elf mips64"),
        (elf_header(258), "elf loong64"),
        (elf_header(247), "elf bpf"),
        (elf_header(4711), "elf machine 4711"),
        (pe_header(0x8664), "pe amd64"),
        (pe_header(0xAA64), "pe arm64"),
        (pe_header(0x14C), "pe 386"),
        (pe_header(0x1C4), "pe arm thumb-2"),
        (pe_header(0xA641), "pe arm64 arm64ec"),
        (pe_header(0xA64E), "pe arm64 arm64x"),
        (pe_header(0x14C, dotnet=True), "pe any dotnet"),
        (pe_header(0x1234), "pe machine 0x1234"),
        (mach(0x0100_000C), "mach-o arm64"),
        (mach(0x0100_0007), "mach-o amd64"),
        (mach(18, ">"), "mach-o ppc"),
        (mach(99), "mach-o machine 99"),
    ],
)
def test_executable_header_names_its_platform(start: bytes, found: str) -> None:
    assert str(read_executable(start)) == found


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF",
        elf_header(62)[:51],
        b"\x7fELF\3\1" + elf_header(62)[6:],
        b"\x7fELF\2\3" + elf_header(62)[6:],
        elf_header(62, kind=1),
        elf_header(62, kind=4),
        b"MZ",
        b"MZ" + bytes(100),
        pe_header(0x8664)[:100],
        b"MZ" + bytes(58) + b"\xff\xff\xff\xff",
        b"\xcf\xfa\xed\xfe",
        mach(7, kind=1),
    ],
)
def test_other_files_are_not_executables(start: bytes) -> None:
    assert read_executable(start) is None


@given(
    st.sampled_from([elf_header(62), pe_header(0x14C, dotnet=True), mach(12)]),
    st.binary(max_size=300),
)
def test_any_bytes_are_read_as_executable_without_failure(start: bytes, rest: bytes) -> None:
    read_executable(start[:6] + rest)
    read_executable(start + rest)


def test_running_interpreter_is_an_executable_for_this_machine() -> None:
    if sys.platform != "linux":
        pytest.skip("elsewhere programs have other formats")
    found = read_executable(Path(sys.executable).resolve().read_bytes()[:65536])
    machine = subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True)
    assert found is not None
    assert found.machine == BUILTIN.chip(machine.stdout.strip(), "")[0]


@pytest.mark.parametrize(
    ("machine", "platform", "runs"),
    [
        ("amd64", "linux/amd64", True),
        ("386", "linux/amd64", True),
        ("amd64p32", "linux/amd64", True),
        ("amd64", "linux/386", False),
        ("amd64", "linux/arm64", False),
        ("arm", "linux/arm64", True),
        ("arm", "linux/arm/v6", True),
        ("arm64", "linux/arm/v7", False),
        ("amd64", "windows/arm64", True),
        ("ppc64", "linux/ppc64le", False),
        ("amd64", "linux/x86_64", True),
        ("bpf", "linux/amd64", True),
        ("machine 4711", "linux/amd64", True),
        ("any", "windows/arm64", True),
    ],
)
def test_executable_formats_match_platforms(machine: str, platform: str, runs: bool) -> None:
    asked = Platform.parse(platform)

    assert runs_on(Executable("elf", machine, 64), asked, BUILTIN) is runs
