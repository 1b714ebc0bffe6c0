"""What ELF files need: real programs with known answers, made files, and hostile ones."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resolver.core.layers import elf as reading
from resolver.core.layers.elf import HEAD, TAIL, ElfWindow
from resolver.core.layers.elf_needs import ElfFile, Sureness, is_glibc, read_elf, riscv_extensions
from tests import DATA
from tests.kit.executables import (
    ATTRIBUTES,
    CODE,
    NOTE,
    PROGBITS,
    attributes,
    gnu_note,
    go_build_info,
    isa_needed,
    linked,
)

PROGRAMS = DATA / "programs"
STATED, SEEN, POSSIBLE, UNKNOWN = (
    Sureness.STATED,
    Sureness.SEEN,
    Sureness.POSSIBLE,
    Sureness.UNKNOWN,
)
NOP = "1f2003d5"
#: `ldadd w0, w0, [x0]`, `ldxr w0, [x1]`, `stxr w2, w0, [x1]`, and the check of outline atomics.
LDADD, LDXR, STXR = "000020b8", "207c5f88", "207c0288"
CHECK = "1002403910000034"
#: The levels of each architecture, ascending.
ORDER = {
    "amd64": ["v1", "v2", "v3", "v4"],
    "arm": ["v4", "v5", "v6", "v7", "v8"],
    "arm64": ["v8", "v8.1", "v8.2"],
    "riscv64": ["rva20u64", "rva22u64", "rva23u64", "above rva23u64"],
}


def read(content: bytes, name: str = "app") -> ElfFile:
    found = read_elf(ElfWindow(content), name)
    assert found is not None
    return found


def marks(content: bytes, name: str = "app") -> list[tuple[str, Sureness]]:
    return [(mark.level, mark.sure) for mark in read(content, name).marks]


def code(*words: str) -> bytes:
    return bytes.fromhex("".join([NOP] * 8 + list(words) + [NOP] * 8))


def arm64(*words: str) -> bytes:
    return linked("arm64", sections={".text": (PROGBITS, CODE, code(*words))})


# --- programs with known answers -----------------------------------------------------------------

#: Level, how sure, largest page size and kernel. Source: `readelf -n`, `-A` and `-lW`, see README.
KNOWN = {
    "amd64-baseline": ("", UNKNOWN, 4_096, "3.2.0"),
    "amd64-v2": ("v2", STATED, 4_096, "3.2.0"),
    "amd64-v3": ("v3", STATED, 4_096, "3.2.0"),
    "amd64-v3-unmarked": ("", UNKNOWN, 4_096, "3.2.0"),
    "arm-v5te": ("v5", STATED, 4_096, "3.2.0"),
    "arm-v6": ("v6", STATED, 4_096, "3.2.0"),
    "arm-v7-neon": ("v7", STATED, 4_096, "3.2.0"),
    "arm-v7-vfpv3": ("v7", STATED, 4_096, "3.2.0"),
    "arm64-lse-inline": ("v8.1", SEEN, 65_536, "3.7.0"),
    "arm64-outline-atomics": ("", UNKNOWN, 65_536, "3.7.0"),
    "arm64-page-4k": ("", UNKNOWN, 4_096, "3.7.0"),
    "arm64-plain": ("", UNKNOWN, 65_536, "3.7.0"),
    "riscv64-rv64gc": ("rva20u64", STATED, 4_096, "4.15.0"),
    "riscv64-zba": ("rva22u64", STATED, 4_096, "4.15.0"),
}
LOADERS = {
    "amd64": "/lib64/ld-linux-x86-64.so.2",
    "arm64": "/lib/ld-linux-aarch64.so.1",
    "riscv64": "/lib/ld-linux-riscv64-lp64d.so.1",
}


def test_elf_table_covers_every_program_of_the_data() -> None:
    names = {path.name for path in PROGRAMS.iterdir()} - {"README.md"}

    assert names == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_elf_program_has_its_known_needs(name: str) -> None:
    found = read((PROGRAMS / name).read_bytes())

    assert len(found.marks) == 1
    assert (found.marks[0].level, found.marks[0].sure, found.page_size, found.kernel) == KNOWN[name]
    assert found.needed == ("libc.so.6",)
    assert found.interpreter.startswith("/lib")
    assert found.interpreter == LOADERS.get(found.architecture, found.interpreter)
    assert not found.damage


@pytest.mark.parametrize("size", [1, 7, 4_096])
def test_elf_read_in_pieces_gives_the_same_needs(size: int) -> None:
    content = (PROGRAMS / "arm64-lse-inline").read_bytes()
    window = ElfWindow()
    for at in range(0, len(content), size):
        window.feed(content[at : at + size])

    assert read_elf(window) == read(content)


# --- x86 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "level"), [(1, ""), (2, "v2"), (3, "v2"), (5, "v3"), (4, "v3"), (8, "v4"), (15, "v4")]
)
def test_x86_highest_bit_of_isa_needed_decides(bits: int, level: str) -> None:
    sure = STATED if level else UNKNOWN

    assert marks(linked("amd64", notes=isa_needed(bits))) == [(level, sure)]


@pytest.mark.parametrize("kind", [0xC001_0002, 0xC000_0001, 0xC000_8000, 0xC000_0002])
def test_x86_other_properties_state_no_level(kind: int) -> None:
    assert marks(linked("amd64", notes=isa_needed(15, kind=kind))) == [("", UNKNOWN)]


def test_x86_property_after_others_and_after_other_notes_is_found() -> None:
    properties = struct.pack("<IIIIII", 0xC000_0002, 4, 3, 0, 0xC001_0002, 4)
    properties += struct.pack("<II", 15, 0) + struct.pack("<IIII", 0xC000_8002, 4, 4, 0)
    notes = (
        gnu_note(3, b"x" * 20) + gnu_note(5, properties, name=b"Go\0\0") + gnu_note(5, properties)
    )

    assert marks(linked("amd64", notes=notes)) == [("v3", STATED)]


def test_x86_property_in_a_section_without_a_segment_is_found() -> None:
    content = linked("amd64", sections={".note.gnu.property": (NOTE, 2, isa_needed(8))})

    assert marks(content) == [("v4", STATED)]


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("lib64/ld-linux-x86-64.so.2", "v2"),
        ("usr/lib64/ld-2.34.so", "v2"),
        ("usr/lib64/libc.so.6", "v2"),
        ("usr/bin/scanner", ""),
    ],
)
def test_x86_text_of_glibc_states_v2_in_its_own_files_alone(name: str, level: str) -> None:
    text = b"Fatal glibc error: CPU does not support x86-64-v%d\n\0"
    content = linked("amd64", sections={".rodata": (PROGBITS, 2, text)})

    assert marks(content, name) == [(level, STATED if level else UNKNOWN)]


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("lib/ld-linux-aarch64.so.1", True), ("lib64/ld64.so.2", True), ("lib/ld.so.1", True),
        ("lib/ld-linux.so.2", True), ("usr/lib/libc-2.31.so", True), ("usr/lib/libc.so.6", True),
        ("lib/ld-musl-x86_64.so.1", False), ("usr/lib/libcrypt.so.1", False), ("bin/ld", False),
    ],
)  # fmt: skip
def test_glibc_files_are_known_by_name(name: str, is_own: bool) -> None:
    assert is_glibc(name) is is_own


# --- arm and RISC-V ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ((6, 4), "v5"), ((6, 5), "v5"), ((6, 6), "v6"), ((6, 7), "v6"), ((6, 9), "v6"),
        ((6, 10), "v7"), ((6, 11), "v6"), ((6, 13), "v7"), ((6, 14), "v8"), ((6, 22), "v8"),
        ((6, 6, 10, 3), "v7"), ((6, 9, 10, 4), "v7"), ((6, 10, 10, 7), "v8"), ((6, 6, 10, 2), "v6"),
        ((6, 10, 12, 1), "v7"), ((6, 10, 12, 3), "v8"), ((6, 6, 7, 65, 8, 1, 9, 1), "v6"),
    ],
)  # fmt: skip
def test_arm_attributes_are_a_list_and_not_an_order(values: tuple[int, ...], level: str) -> None:
    content = linked(
        "arm", sections={".ARM.attributes": (ATTRIBUTES, 0, attributes("aeabi", bytes(values)))}
    )

    assert marks(content) == [(level, STATED)]


def test_arm_attributes_with_texts_and_other_vendors_are_passed_over() -> None:
    own = attributes(
        "aeabi", b"\x05" + b"Cortex-A8\0" + b"\x20\x01gnu\0" + b"\x06\x0a\x43" + b"2.09\0"
    )
    other = attributes("acme", b"\x06\x0e")

    for held in (own + other[1:], other + own[1:]):
        content = linked("arm", sections={".ARM.attributes": (ATTRIBUTES, 0, held)})
        assert marks(content) == [("v7", STATED)]


def test_arm_library_that_asks_for_the_processor_may_choose_at_run_time() -> None:
    section = {".ARM.attributes": (ATTRIBUTES, 0, attributes("aeabi", b"\x06\x0e"))}
    library = linked("arm", sections=section, symbols=["getauxval"], needed=["libc.so.6"])
    program = linked(
        "arm", sections=section, symbols=["getauxval"], interpreter="/lib/ld-linux-armhf.so.3"
    )

    assert marks(library) == [("v8", POSSIBLE)]
    assert marks(program) == [("v8", STATED)]


def riscv(text: str) -> bytes:
    held = attributes("riscv", b"\x05" + text.encode() + b"\0")
    return linked("riscv64", sections={".riscv.attributes": (ATTRIBUTES, 0, held)})


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0_zmmul1p0", "rva20u64"),
        ("rv64imafdc_zaamo1p0_zalrsc1p0_zca1p0_zcd1p0", "rva20u64"),
        ("rv64gc_zba1p0_zbb1p0_zbs1p0", "rva22u64"),
        ("rv64gc_zicbom1p0_zic64b1p0", "rva22u64"),
        ("rv64gcv_zvl128b1p0_zve64d1p0", "rva23u64"),
        ("rv64i2p1_v1p0_zicond1p0", "rva23u64"),
        ("rv64gc_xtheadba1p0", "above rva23u64"),
        ("rv64gc_zacas1p0", "above rva23u64"),
    ],
)
def test_riscv_extensions_beyond_rva20_decide(text: str, level: str) -> None:
    assert marks(riscv(text)) == [(level, STATED)]


@pytest.mark.parametrize("text", ["", "arm", "rv64", "rv64i!", "rv64i__m", "rv128i", "rv64i_z"])
def test_riscv_malformed_architecture_is_unknown(text: str) -> None:
    assert riscv_extensions(text) is None
    assert marks(riscv(text)) == [("", UNKNOWN)]


# --- arm64 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("", UNKNOWN)),
        ([LDADD], ("v8.1", SEEN)),
        (["208020b8"], ("v8.1", SEEN)),  # swp
        (["207ca088"], ("v8.1", SEEN)),  # cas
        (["227c2008"], ("v8.1", SEEN)),  # casp
        (["20c0bfb8"], ("", UNKNOWN)),  # ldapr, of another extension
        ([LDADD, LDXR, STXR], ("v8.1", POSSIBLE)),
        ([CHECK, LDADD, LDXR, STXR], ("", UNKNOWN)),
        ([CHECK, LDADD, LDXR, STXR, LDADD], ("v8.1", SEEN)),
        ([LDADD, "00000000"], ("", UNKNOWN)),  # data within the next instructions
        ([LDXR, STXR], ("", UNKNOWN)),
    ],
)
def test_arm64_atomics_are_seen_unless_checked(
    words: list[str], expected: tuple[str, Sureness]
) -> None:
    assert marks(arm64(*words)) == [expected]


def test_arm64_atomics_without_section_headers_are_possible_at_most() -> None:
    content = bytearray(linked("arm64", runpath="x", has_sections=False))
    content += code(LDADD)
    size = len(content)
    # The first segment, which is executable, holds all of it.
    struct.pack_into("<QQ", content, 64 + 32, size, size)

    assert marks(bytes(content)) == [("v8.1", POSSIBLE)]


def test_arm64_atomics_in_data_sections_are_ignored() -> None:
    content = linked("arm64", sections={".rodata": (PROGBITS, 2, code(LDADD) * 4)})

    assert marks(content) == [("", UNKNOWN)]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (b" 8.2-a with Cryptographic extensions.", ("v8.2", STATED)),
        (b" ARMv8.1.", ("v8.1", STATED)),
        (b" 9-a", ("v9", STATED)),
        (b" next", ("v8.1", POSSIBLE)),
    ],
)
def test_arm64_text_of_glibc_states_its_level(end: bytes, expected: tuple[str, Sureness]) -> None:
    text = b"This requires a newer ARM64 processor compliant with at least ARM architecture" + end
    content = linked("arm64", sections={".rodata": (PROGBITS, 2, text + b"\0")})

    assert marks(content, "lib/ld-linux-aarch64.so.1") == [expected]
    assert marks(content, "usr/bin/app") == [("", UNKNOWN)]


def test_arm64_scan_of_a_megabyte_takes_a_fraction_of_a_second() -> None:
    content = arm64(*([LDADD, LDXR, STXR, NOP] * 65_536))

    before = time.process_time()
    read(content)

    assert time.process_time() - before < 2


# --- Go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "name", "value", "level"),
    [
        ("amd64", "GOAMD64", "v1", "v1"), ("amd64", "GOAMD64", "v3", "v3"),
        ("arm", "GOARM", "5", "v5"), ("arm", "GOARM", "6", "v6"),
        ("arm", "GOARM", "7,softfloat", "v7"), ("arm64", "GOARM64", "v8.0", "v8"),
        ("arm64", "GOARM64", "v8.0,lse", "v8.1"), ("arm64", "GOARM64", "v8.0,crypto", "v8"),
        ("arm64", "GOARM64", "v8.1,lse", "v8.1"), ("arm64", "GOARM64", "v9.0,lse,crypto", "v9"),
        ("riscv64", "GORISCV64", "rva22u64", "rva22u64"),
        ("ppc64le", "GOPPC64", "power9", "power9"),
        ("amd64", "GOAMD64", "v99", ""), ("386", "GO386", "sse2", ""),
    ],
)  # fmt: skip
def test_go_build_info_states_the_level(
    architecture: str, name: str, value: str, level: str
) -> None:
    info = go_build_info("go1.23.4", CGO_ENABLED="0", **{name: value})
    content = linked(architecture, sections={".go.buildinfo": (PROGBITS, 3, info)})

    assert marks(content) == [(level, STATED if level else UNKNOWN)]


@pytest.mark.parametrize(
    ("architecture", "version", "level"),
    [
        ("amd64", "go1.17.13", "v1"), ("amd64", "go1.18", ""), ("arm64", "go1.22.1", "v8"),
        ("arm64", "go1.23", ""), ("riscv64", "go1.22", "rva20u64"), ("arm", "go1.17", ""),
        ("arm64", "devel", ""),
    ],
)  # fmt: skip
def test_go_without_a_setting_is_judged_by_its_version(
    architecture: str, version: str, level: str
) -> None:
    section = (PROGBITS, 3, go_build_info(version))

    found = read(linked(architecture, sections={".go.buildinfo": section}))

    assert found.go == version
    assert found.marks[0].level == level


def test_go_program_with_cgo_needs_the_higher_of_note_and_build_info() -> None:
    info = (PROGBITS, 3, go_build_info("go1.23", GOAMD64="v1"))
    content = linked("amd64", notes=isa_needed(7), sections={".go.buildinfo": info})

    assert marks(content) == [("v3", STATED), ("v1", STATED)]


def test_go_program_is_not_searched_for_atomics() -> None:
    sections = {
        ".text": (PROGBITS, CODE, code(LDADD)),
        ".go.buildinfo": (PROGBITS, 3, go_build_info("go1.23", GOARM64="v8.0")),
    }

    assert marks(linked("arm64", sections=sections)) == [("v8", STATED)]


def old_go(order: str, width: int, *, has_sections: bool) -> bytes:
    """Make a program of Go before 1.18: pointers to strings of version and module."""
    architecture = {("<", 8): "amd64", ("<", 4): "arm", (">", 8): "s390x"}[order, width]
    word = f"{order}{'Q' if width == 8 else 'I'}"
    base = linked(architecture, has_sections=False)
    at = len(base) + -len(base) % 16
    module = b"0" * 16 + b"path\tapp\nbuild\tGOARM=6\n" + b"1" * 16
    texts = b"go1.17" + module
    header = b"\xff Go buildinf:" + bytes((width, 1 if order == ">" else 0))
    strings = at + 32
    header += struct.pack(word, strings) + struct.pack(word, strings + 2 * width)
    header += bytes(32 - len(header))
    start = strings + 4 * width
    header += struct.pack(word, start) + struct.pack(word, 6)
    header += struct.pack(word, start + 6) + struct.pack(word, len(module)) + texts
    body = bytearray(base + bytes(at - len(base)) + header)
    wide = width == 8
    size = len(header)
    wide_row = (1, 6, at, at, at, size, size, 4096)
    row = (1, at, at, at, size, size, 6, 4096)
    segment = (
        struct.pack(f"{order}IIQQQQQQ", *wide_row) if wide else struct.pack(f"{order}8I", *row)
    )
    first = 64 if wide else 52
    body[first : first + len(segment)] = segment
    assert not has_sections
    return bytes(body)


@pytest.mark.parametrize(("order", "width"), [("<", 8), ("<", 4), (">", 8)])
def test_go_old_build_info_is_read_through_its_pointers(order: str, width: int) -> None:
    found = read(old_go(order, width, has_sections=False))

    assert found.go == "go1.17"
    if width == 4:
        assert [(mark.level, mark.evidence) for mark in found.marks] == [("v6", "GOARM=6")]


# --- libraries, pages, large files ---------------------------------------------------------------


def test_elf_libraries_and_folders_are_read() -> None:
    content = linked(
        "amd64", needed=["liba.so.1", "libb.so", "liba.so.1"], runpath="$ORIGIN/../lib:/opt/lib"
    )

    found = read(content)

    assert found.needed == ("liba.so.1", "libb.so")
    assert found.search == ("$ORIGIN/../lib", "/opt/lib")


@pytest.mark.parametrize("page", [4_096, 8_192, 16_384, 32_768, 65_536])
def test_elf_page_size_is_the_largest_that_every_segment_loads_with(page: int) -> None:
    assert read(linked("arm64", page=page)).page_size == page
    assert read(linked("arm", page=page)).page_size == page


def test_elf_larger_than_what_is_kept_is_read_at_its_start_its_end_and_its_data() -> None:
    info = go_build_info("go1.23", GOAMD64="v3")
    base = bytearray(linked("amd64", has_sections=False))
    at = HEAD + (1 << 20)
    segment = struct.pack("<IIQQQQQQ", 1, 6, at, at, at, len(info), len(info), 4096)
    base[64 + 56 : 64 + 112] = segment
    window = ElfWindow(bytes(base))
    window.feed(bytes(at - len(base)))
    window.feed(info)
    for _ in range(12):
        window.feed(bytes(1 << 20))

    found = read_elf(window)

    assert found is not None
    assert [(mark.level, mark.sure) for mark in found.marks] == [("v3", STATED)]
    end = window.size - 100
    assert window.read(end, 100) == bytes(100)
    assert window.read(HEAD + 10, 10) is None


def test_elf_window_keeps_a_bounded_part_of_a_large_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HEAD", 1 << 20)
    window = ElfWindow((PROGRAMS / "amd64-v3").read_bytes())
    piece = bytes(1 << 20)
    tracemalloc.start()
    for _ in range(64):
        window.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < (1 << 20) + 4 * TAIL


# --- hostile files -------------------------------------------------------------------------------


def changed(offset: int, value: bytes, base: str = "amd64-v3") -> bytes:
    content = bytearray((PROGRAMS / base).read_bytes())
    content[offset : offset + len(value)] = value
    return bytes(content)


def section_of(name: str, held: bytes, kind: int = ATTRIBUTES, of: str = "arm") -> bytes:
    return linked(of, sections={name: (kind, 0, held)})


HUGE = b"\xff" * 8
NOTE_WITHOUT_END = struct.pack("<III", 4, 0xFFFF_FFF0, 5) + b"GNU\0"
MANY_NOTES = gnu_note(1, b"")[:16] * 60_000
#: Files that lie about themselves, one per way.
HOSTILE: dict[str, bytes] = {
    "only the magic": b"\x7fELF",
    "class 3": changed(4, b"\x03"),
    "byte order 0": changed(5, b"\x00"),
    "header cut": (PROGRAMS / "amd64-v3").read_bytes()[:60],
    "program headers cut": (PROGRAMS / "amd64-v3").read_bytes()[:100],
    "cut in the middle": (PROGRAMS / "amd64-v3").read_bytes()[:5_000],
    "program headers past the end": changed(32, HUGE),
    "program headers over the header": changed(32, bytes(8)),
    "65535 program headers": changed(56, b"\xff\xff"),
    "program headers of size 0": changed(54, b"\x00\x00"),
    "program headers of size 1": changed(54, b"\x01\x00"),
    "section headers past the end": changed(40, HUGE),
    "section headers over the header": changed(40, b"\x00" * 7 + b"\x10"),
    "65535 section headers": changed(60, b"\xff\xff"),
    "no section headers, count in the first": changed(60, b"\x00\x00"),
    "section headers of size 0": changed(58, b"\x00\x00"),
    "names in a section that is not there": changed(62, b"\xfe\xff"),
    "names in the extended index": changed(62, b"\xff\xff"),
    "segments of huge size": bytes(changed(64 + 32, HUGE * 3)),
    "segments at huge addresses": bytes(changed(64 + 16, HUGE * 2)),
    "note without end": linked("amd64", notes=NOTE_WITHOUT_END),
    "note with a huge name": linked("amd64", notes=struct.pack("<III", 0xFFFF_FFFF, 4, 5) + HUGE),
    "sixty thousand notes": linked("amd64", notes=MANY_NOTES),
    "property past its note": linked("amd64", notes=gnu_note(5, struct.pack("<II", 1, 0xFFFF))),
    "properties of size 0": linked("amd64", notes=gnu_note(5, bytes(60_000))),
    "attributes of length 0": section_of("a", b"A" + bytes(64)),
    "attributes of length 1": section_of("a", b"A\x01" + bytes(64)),
    "attributes past their end": section_of("a", b"A" + b"\xff\xff\xff\x7f" + b"aeabi\0"),
    "attributes without a version": section_of("a", b"B" + bytes(64)),
    "inner attributes of length 0": section_of("a", b"A\x20\0\0\0aeabi\0\x01" + bytes(21)),
    "endless number": section_of("a", attributes("aeabi", b"\xff" * 60_000)),
    "text without end": section_of("a", attributes("aeabi", b"\x05" + b"x" * 60_000)),
    "many attributes": section_of("a", attributes("aeabi", b"\x06\x0a" * 30_000)),
    "attributes of a megabyte": section_of("a", b"A" + bytes(1 << 20)),
    "RISC-V architecture of 60 kB": riscv("rv64" + "imafdc" * 10_000),
    "RISC-V architecture of underscores": riscv("rv64i" + "_" * 50_000),
    "RISC-V digits": riscv("rv64i_z" + "1p" * 20_000),
    "Go build info cut": section_of(
        ".go.buildinfo", b"\xff Go buildinf:\x08\x02" + bytes(16), PROGBITS, "amd64"
    ),
    "Go text of 2^63": section_of(
        ".go.buildinfo",
        b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\xff" * 9 + b"\x01",
        PROGBITS,
        "amd64",
    ),
    "Go pointers to themselves": section_of(
        ".go.buildinfo",
        b"\xff Go buildinf:\x08\x00" + struct.pack("<QQ", 64, 64),
        PROGBITS,
        "amd64",
    ),
    "a million Go magics": section_of("data", b"\xff Go buildinf:\0" * 60_000, PROGBITS, "amd64"),
    "libraries without end": linked("amd64", needed=["lib.so"] * 4_000),
    "a library name of a megabyte": linked("amd64", needed=["x" * (1 << 20)]),
    "folders without end": linked("amd64", runpath=":".join(["/x"] * 100_000)),
    "interpreter without end": linked("amd64", interpreter="/" * 100_000),
    "code of exclusives": arm64(*[LDXR] * 100_000),
    "code of atomics": arm64(*[LDADD] * 100_000),
    "code of zeros": section_of(".text", bytes(4 << 20), PROGBITS, "arm64"),
    "noise after the magic": b"\x7fELF\x02\x01\x01" + Random(5).randbytes(100_000),
}


def overlapping(count: int = 900) -> bytes:
    """Make code sections that are all the same two megabytes."""
    body = bytes.fromhex(NOP) * (1 << 19)
    content = linked("arm64", sections={f"t{n}": (PROGBITS, CODE, b"") for n in range(count)})
    at = len(content) + -len(content) % 16
    held = bytearray(content + bytes(at - len(content)) + body)
    (shoff,) = struct.unpack_from("<Q", held, 40)
    for number in range(1, count + 1):
        # Each begins a little later, so that none is the same as another.
        struct.pack_into("<QQ", held, shoff + 64 * number + 24, at + 4 * number, len(body) - 4096)
    return bytes(held)


HOSTILE["overlapping code sections"] = overlapping()


def test_hostile_elf_files_are_at_least_thirty() -> None:
    assert len(HOSTILE) >= 30
    assert len(set(HOSTILE.values())) == len(HOSTILE)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_elf_is_read_in_bounded_time_and_memory(name: str) -> None:
    content = HOSTILE[name]
    window = ElfWindow(content)
    before = time.process_time()
    tracemalloc.start()
    found = read_elf(window, "lib/libc.so.6")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # Some twentyfold of what they take; `tracemalloc` alone slows them down fourfold.
    assert time.process_time() - before < 5
    assert peak < 4 * len(content) + (8 << 20)
    if found is not None:
        assert sum(map(len, found.needed)) < 1 << 20
        assert len(found.interpreter) <= 4_096


@pytest.mark.parametrize(
    "name",
    [
        "note without end", "note with a huge name", "sixty thousand notes",
        "program headers past the end", "section headers past the end", "65535 section headers",
        "attributes of length 0", "endless number", "Go text of 2^63",
        "property past its note", "interpreter without end",
    ],
)  # fmt: skip
def test_damaged_elf_says_what_is_damaged_and_states_nothing_from_there(name: str) -> None:
    found = read(HOSTILE[name])

    assert found.damage
    if "headers" not in name and name != "interpreter without end":
        assert {mark.sure for mark in found.marks} == {UNKNOWN}


# --- properties ----------------------------------------------------------------------------------


@st.composite
def stated(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """Draw a program that states a level, in one of the ways that there are."""
    noise = draw(st.binary(max_size=200))
    extra = {".noise": (PROGBITS, 2, noise)}
    kind = draw(st.sampled_from(["amd64", "arm", "arm64", "riscv64", "go-amd64", "go-arm64"]))
    if kind == "amd64":
        number = draw(st.integers(1, 3))
        bits = (1 << number) | draw(st.integers(0, (1 << number) - 1))
        others = gnu_note(3, draw(st.binary(max_size=40)))
        content = linked("amd64", notes=others + isa_needed(bits), sections=extra)
        return "amd64", content, f"v{number + 1}"
    if kind == "arm":
        number, level = draw(
            st.sampled_from([(4, "v5"), (6, "v6"), (7, "v6"), (9, "v6"), (10, "v7"), (14, "v8")])
        )
        held = attributes("aeabi", bytes((6, number, 8, 1, 9, 2)))
        sections = {**extra, ".ARM.attributes": (ATTRIBUTES, 0, held)}
        return "arm", linked("arm", sections=sections), level
    if kind == "riscv64":
        name, level = draw(
            st.sampled_from([("zba", "rva22u64"), ("v", "rva23u64"), ("m", "rva20u64")])
        )
        held = attributes("riscv", b"\x05" + f"rv64i2p1_{name}1p0".encode() + b"\0")
        sections = {**extra, ".riscv.attributes": (ATTRIBUTES, 0, held)}
        return "riscv64", linked("riscv64", sections=sections), level
    if kind == "go-amd64":
        level = draw(st.sampled_from(ORDER["amd64"]))
        sections = {**extra, ".go.buildinfo": (PROGBITS, 3, go_build_info("go1.22", GOAMD64=level))}
        return "amd64", linked("amd64", notes=isa_needed(1), sections=sections), level
    if kind == "go-arm64":
        level = draw(st.sampled_from(["v8.0", "v8.1", "v8.2"]))
        info = go_build_info("go1.24", GOARM64=level)
        sections = {**extra, ".go.buildinfo": (PROGBITS, 3, info)}
        return "arm64", linked("arm64", sections=sections), level.removesuffix(".0")
    return "arm64", linked("arm64", sections={".text": (PROGBITS, CODE, code(LDADD))}), "v8.1"


@given(stated(), st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_program_is_said_to_need_less_than_its_stated_level(
    program: tuple[str, bytes, str], data: st.DataObject
) -> None:
    architecture, content, level = program
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    if cut is not None:
        content = content[:cut]

    found = read_elf(ElfWindow(content))

    order = ORDER[architecture]
    levels = [mark.level for mark in found.marks if mark.level] if found is not None else []
    if cut is None:
        assert levels
    # What was cut off may be unknown, and is never lower; a note stands beside the build info.
    assert not levels or max(map(order.index, levels)) >= order.index(level)


@given(
    st.sampled_from(sorted(KNOWN)),
    st.lists(st.tuples(st.integers(0, 70_000), st.binary(min_size=1, max_size=16)), max_size=8),
    st.integers(0, 70_000),
)
@settings(max_examples=300, deadline=None)
def test_elf_changed_at_random_never_fails(
    name: str, changes: list[tuple[int, bytes]], length: int
) -> None:
    content = bytearray((PROGRAMS / name).read_bytes())
    for offset, value in changes:
        content[offset % len(content) : offset % len(content) + len(value)] = value

    for held in (bytes(content), bytes(content[:length])):
        found = read_elf(ElfWindow(held), "lib/libc.so.6")
        assert found is None or found.marks


def test_elf_programs_of_this_machine_state_nothing_above_its_baseline() -> None:
    """Read a sample of /usr/bin: a distribution's own programs run on its own baseline."""
    found = []
    for path in sorted(Path("/usr/bin").iterdir())[:400]:
        if not path.is_file() or path.is_symlink() or path.stat().st_size > 4 << 20:
            continue
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        known = read_elf(ElfWindow(path.read_bytes()), str(path))
        if known is None:
            continue
        found.append(path)
        for mark in known.marks:
            assert mark.level in {"", "v1", "v8", "rva20u64"}, (path, mark)
        assert not known.damage, path
    if not found:
        pytest.skip("/usr/bin has no ELF programs")


#: `.go.buildinfo` sections of programs that Go 1.27 built with `-ldflags "-s -w"`, by the setting.
RECORDED = {
    "386-GO386sse2": ("386", "", "GO386=sse2"),
    "amd64-GOAMD64v1": ("amd64", "v1", "GOAMD64=v1"),
    "amd64-GOAMD64v3": ("amd64", "v3", "GOAMD64=v3"),
    "arm-GOARM5": ("arm", "v5", "GOARM=5"),
    "arm-GOARM7": ("arm", "v7", "GOARM=7"),
    "arm64-GOARM64v8.0": ("arm64", "v8", "GOARM64=v8.0"),
    "arm64-GOARM64v8.0lse": ("arm64", "v8.1", "GOARM64=v8.0,lse"),
    "arm64-GOARM64v8.1": ("arm64", "v8.1", "GOARM64=v8.1"),
    "ppc64le-GOPPC64power9": ("ppc64le", "power9", "GOPPC64=power9"),
    "riscv64-GORISCV64rva22u64": ("riscv64", "rva22u64", "GORISCV64=rva22u64"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_go_recorded_build_info_states_its_level(name: str) -> None:
    architecture, level, evidence = RECORDED[name]
    held = (DATA / "go" / name).read_bytes()

    found = read(linked(architecture, sections={".go.buildinfo": (PROGBITS, 3, held)}))

    assert [(mark.level, mark.evidence) for mark in found.marks] == [(level, evidence)]
    assert found.go == "go1.27.3"
