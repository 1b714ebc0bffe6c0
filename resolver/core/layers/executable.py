"""The machine that a program is made for, from its first bytes.

Source: System V ABI, "ELF Header", and the processor supplements; the registry of `e_machine` in
glibc's elf.h; Microsoft, "PE Format", "Machine Types"; Apple, mach-o/loader.h and fat.h.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.platforms.platform import Platform, PlatformTable

#: Bytes read of a file. Source: docs/store-and-reliability.md, "Size limits".
PROBE = 64 << 10


@dataclass(frozen=True, slots=True)
class Executable:
    """The format and machine of a program or library.

    Attributes:
        format: `elf`, `pe` or `mach-o`.
        machine: the architecture as in platforms (`arm64`), or else the name in its own format
            (`arc`), or its number (`machine 4711`).
        bits: 32 or 64; 0 if the format does not state it.
        detail: further details of the header: `hard-float`, `soft-float`, `eabi5`; or empty.
    """

    format: str
    machine: str
    bits: int
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.format} {self.machine}{f' {self.detail}' if self.detail else ''}"


#: By machine, class and byte order; amd64p32 is x32, with 32-bit pointers on amd64.
_ELF_MACHINES: dict[tuple[int, int, str], str] = {
    (3, 32, "<"): "386", (6, 32, "<"): "386", (62, 64, "<"): "amd64", (62, 32, "<"): "amd64p32",
    (40, 32, "<"): "arm", (40, 32, ">"): "armbe", (183, 64, "<"): "arm64",
    (183, 64, ">"): "arm64be", (183, 32, "<"): "arm64", (243, 32, "<"): "riscv",
    (243, 64, "<"): "riscv64", (20, 32, ">"): "ppc", (21, 64, ">"): "ppc64",
    (21, 64, "<"): "ppc64le", (22, 32, ">"): "s390", (22, 64, ">"): "s390x", (8, 32, ">"): "mips",
    (8, 32, "<"): "mipsle", (8, 64, ">"): "mips64", (8, 64, "<"): "mips64le",
    (10, 32, "<"): "mipsle", (258, 64, "<"): "loong64", (258, 32, "<"): "loong32",
    (2, 32, ">"): "sparc", (18, 32, ">"): "sparc", (43, 64, ">"): "sparc64",
}  # fmt: skip
#: Names of machines without a platform.
_ELF_OTHERS = {
    4: "m68k", 15: "hppa", 42: "sh", 50: "ia64", 83: "avr", 93: "arc", 94: "xtensa",
    164: "hexagon", 189: "microblaze", 190: "cuda", 195: "arcv2", 224: "amdgpu", 247: "bpf",
    252: "csky", 0x9026: "alpha",
}  # fmt: skip
_PE_MACHINES = {
    0x014C: ("386", 32, ""),
    0x8664: ("amd64", 64, ""),
    0x01C0: ("arm", 32, ""),
    0x01C2: ("arm", 32, "thumb"),
    0x01C4: ("arm", 32, "thumb-2"),
    0xAA64: ("arm64", 64, ""),
    # On disk most ARM64EC files state amd64, which they can replace.
    0xA641: ("arm64", 64, "arm64ec"),
    0xA64E: ("arm64", 64, "arm64x"),
    0x5032: ("riscv", 32, ""),
    0x5064: ("riscv64", 64, ""),
    0x6264: ("loong64", 64, ""),
    0x0200: ("ia64", 64, ""),
    0x0EBC: ("efi-byte-code", 0, ""),
}
_MACH_MACHINES = {
    7: "386",
    0x0100_0007: "amd64",
    12: "arm",
    0x0100_000C: "arm64",
    0x0200_000C: "arm64",
    18: "ppc",
    0x0100_0012: "ppc64",
}
_MACH_64 = 0x0100_0000
_MACH_MAGICS = {
    b"\xfe\xed\xfa\xce": ">",
    b"\xfe\xed\xfa\xcf": ">",
    b"\xce\xfa\xed\xfe": "<",
    b"\xcf\xfa\xed\xfe": "<",
}
# Source: ARM IHI 0044, "ELF for the Arm Architecture", table of e_flags.
_ARM_SOFT, _ARM_HARD = 0x200, 0x400
# Source: System V ABI MIPS, e_flags; n32 has 64-bit registers in 32-bit files.
_MIPS_N32 = 0x20
# Source: RISC-V ELF psABI, "File Header", e_flags.
_RISCV_FLOAT = {0x0: "soft-float", 0x2: "single-float", 0x4: "double-float", 0x6: "quad-float"}
_ELF_HEADER = 52
_NO_EXECUTABLE_TYPES = frozenset({1, 4})


def read_executable(start: bytes) -> Executable | None:
    """Return the machine of a program or library; None for other files, such as object files."""
    if start.startswith(b"\x7fELF"):
        return _read_elf(start)
    if start.startswith(b"MZ"):
        return _read_pe(start)
    if start[:4] in _MACH_MAGICS:
        return _read_mach(start)
    return None


def runs_on(executable: Executable, platform: Platform, table: PlatformTable) -> bool:
    """Return whether a platform runs it; machines without a platform (eBPF, GPU) run everywhere."""
    if executable.machine not in table.architectures:
        return True
    if executable.machine == "amd64p32":
        return _runs("amd64", platform, table)
    return _runs(executable.machine, platform, table)


def _runs(machine: str, platform: Platform, table: PlatformTable) -> bool:
    if platform.os == "windows" and platform.architecture == "arm64":
        # Source: Microsoft, "How emulation works on Arm".
        return machine in {"arm64", "arm", "386", "amd64"}
    chip = table.chip(platform.architecture, platform.variant)
    return any(architecture == machine for (architecture, _), _ in table.vector(chip))


def _read_elf(start: bytes) -> Executable | None:
    if len(start) < _ELF_HEADER or start[4] not in {1, 2} or start[5] not in {1, 2}:
        return None
    bits = 32 * start[4]
    order = "<" if start[5] == 1 else ">"
    kind, machine = struct.unpack_from(f"{order}HH", start, 16)
    if kind in _NO_EXECUTABLE_TYPES:
        return None
    flags_at = 48 if bits == 64 else 36  # noqa: PLR2004 - the two classes
    (flags,) = struct.unpack_from(f"{order}I", start, flags_at)
    name = _ELF_MACHINES.get((machine, bits, order))
    if name is None:
        other = _ELF_OTHERS.get(machine, f"machine {machine}")
        return Executable("elf", other, bits)
    if name in {"mips", "mipsle"} and flags & _MIPS_N32:
        name = {"mips": "mips64p32", "mipsle": "mips64p32le"}[name]
    return Executable("elf", name, bits, _elf_detail(name, bits, flags))


def _elf_detail(name: str, bits: int, flags: int) -> str:
    if name in {"arm", "armbe"}:
        if flags & _ARM_HARD:
            return "hard-float"
        return "soft-float" if flags & _ARM_SOFT else ""
    if name in {"riscv", "riscv64"}:
        return _RISCV_FLOAT[flags & 0x6]
    return "ilp32" if (name, bits) == ("arm64", 32) else ""


def _read_pe(start: bytes) -> Executable | None:
    if len(start) < 64:  # noqa: PLR2004 - the DOS header
        return None
    (at,) = struct.unpack_from("<I", start, 60)
    if at + 6 > len(start) or start[at : at + 4] != b"PE\0\0":
        return None
    (number,) = struct.unpack_from("<H", start, at + 4)
    machine, bits, detail = _PE_MACHINES.get(number, (f"machine 0x{number:04x}", 0, ""))
    if _is_portable(start, at):
        # Portable .NET code states 386.
        return Executable("pe", "any", bits, "dotnet")
    return Executable("pe", machine, bits, detail)


def _is_portable(start: bytes, at: int) -> bool:
    """Whether a PE file has .NET code and leaves its machine open.

    Source: ECMA-335, II.25.2.3.3: the CLI header is data directory 14; flags ILONLY and not
    32BITREQUIRED. Only the header's presence is read here, in a file of format PE32 for 386.
    """
    if len(start) < at + 24 + 96 + 15 * 8 or start[at + 24 : at + 26] != b"\x0b\x01":
        return False
    (number,) = struct.unpack_from("<H", start, at + 4)
    (directories,) = struct.unpack_from("<I", start, at + 24 + 92)
    address, _size = struct.unpack_from("<II", start, at + 24 + 96 + 14 * 8)
    return bool(number == 0x014C and directories > 14 and address)  # noqa: PLR2004 - as above


def _read_mach(start: bytes) -> Executable | None:
    if len(start) < 16:  # noqa: PLR2004 - up to the file's type
        return None
    order = _MACH_MAGICS[start[:4]]
    number, _sub, kind = struct.unpack_from(f"{order}III", start, 4)
    if kind in _NO_EXECUTABLE_TYPES:
        return None
    machine = _MACH_MACHINES.get(number, f"machine {number}")
    return Executable("mach-o", machine, 64 if number & _MACH_64 else 32)
