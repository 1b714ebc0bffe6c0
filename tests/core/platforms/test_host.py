"""Detection of the platform of a machine."""

from __future__ import annotations

import pytest

from resolver.core.platforms.platform import HostMachine, Platform, host_of, local_of


# Source: docs/platform-matching.md, "Host detection".
@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", "linux/amd64"),
        ("AMD64", "linux/amd64"),
        ("aarch64", "linux/arm64/v8"),
        ("arm64", "linux/arm64/v8"),
        ("armv8l", "linux/arm/v8"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("armv5tel", "linux/arm/v5"),
        ("armv5tejl", "linux/arm/v5"),
        ("i386", "linux/386"),
        ("i686", "linux/386"),
        ("x86", "linux/386"),
        ("loongarch64", "linux/loong64"),
        ("ppc64le", "linux/ppc64le"),
        ("ppc64", "linux/ppc64"),
        ("s390x", "linux/s390x"),
        ("riscv64", "linux/riscv64"),
        ("something-new", "linux/something-new"),
    ],
)
def test_linux_host_is_detected_by_machine(machine: str, expected: str) -> None:
    assert str(host_of(HostMachine(machine, "linux"))) == expected


@pytest.mark.parametrize(
    ("machine", "byteorder", "architecture"),
    [
        ("mips", "little", "mipsle"),
        ("mips", "big", "mips"),
        ("mips64", "little", "mips64le"),
        ("mips64", "big", "mips64"),
    ],
)
def test_mips_host_is_detected_by_byte_order(
    machine: str, byteorder: str, architecture: str
) -> None:
    assert host_of(HostMachine(machine, "linux", byteorder=byteorder)).architecture == architecture


@pytest.mark.parametrize(
    ("sys_platform", "system"),
    [
        ("linux", "linux"),
        ("darwin", "darwin"),
        ("win32", "windows"),
        ("freebsd14", "freebsd"),
        ("openbsd7", "openbsd"),
        ("haiku1", "haiku"),
    ],
)
def test_host_system_is_detected_by_python_platform(sys_platform: str, system: str) -> None:
    assert host_of(HostMachine("x86_64", sys_platform)) == Platform(system, "amd64")


def test_apple_processor_is_detected_under_rosetta() -> None:
    translated = HostMachine("x86_64", "darwin", rosetta=True)

    assert host_of(translated) == Platform("darwin", "arm64", "v8")
    assert host_of(HostMachine("x86_64", "darwin")) == Platform("darwin", "amd64")


def test_windows_host_has_its_build() -> None:
    host = host_of(HostMachine("AMD64", "win32", windows_version=(10, 0, 20348)))

    assert host == Platform("windows", "amd64", "", "10.0.20348")


def cpuinfo(architecture: str, model: str = "ARMv7 Processor rev 4 (v7l)") -> str:
    first = f"processor\t: 0\nmodel name\t: {model}\nCPU architecture: {architecture}\n"
    return f"{first}\nprocessor\t: 1\nCPU architecture: 9\n"


# Source: containerd/platforms v1.0.0-rc.5, cpuinfo_linux.go, getArmCPUVariant.
@pytest.mark.parametrize(
    ("machine", "text", "variant"),
    [
        ("armv7l", cpuinfo("7"), "v7"),
        ("armv7l", cpuinfo("7M"), "v7"),
        ("armv7l", cpuinfo("?(17)"), "v7"),
        ("armv7l", cpuinfo("8"), "v8"),
        ("armv7l", cpuinfo("AArch64"), "v8"),
        ("armv7l", cpuinfo("6TEJ"), "v6"),
        ("armv7l", cpuinfo("5TEJ"), "v5"),
        ("armv7l", cpuinfo("4T"), "v4"),
        ("armv7l", cpuinfo("3"), "v3"),
        # A Raspberry Pi 1 or Zero reports 7 but is v6.
        ("armv6l", cpuinfo("7", "ARMv6-compatible processor rev 7 (v6l)"), "v6"),
        ("armv6l", cpuinfo("8", "ARMv6-compatible processor rev 7 (v6l)"), "v8"),
        # Under emulation on x86 the file describes the host, so the machine name decides.
        ("armv6l", "flags : fpu sse", "v6"),
        ("armv6l", cpuinfo("weird"), "v6"),
        ("armv6l", "", "v6"),
        ("aarch64", cpuinfo("8"), "v8"),
        ("aarch64", "", "v8"),
    ],
)
def test_arm_host_is_detected_by_processor(machine: str, text: str, variant: str) -> None:
    assert host_of(HostMachine(machine, "linux", cpuinfo=text)).variant == variant


def test_32_bit_process_on_64_bit_arm_selects_32_bit_programs() -> None:
    narrow = HostMachine("aarch64", "linux", cpuinfo=cpuinfo("8"), is_64bit=False)

    assert host_of(narrow) == Platform("linux", "arm", "v8")
    assert host_of(HostMachine("x86_64", "linux", is_64bit=False)) == Platform("linux", "386")
    windows = HostMachine("AMD64", "win32", is_64bit=False, windows_version=(10, 0, 22631))
    assert host_of(windows).architecture == "amd64"


V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu sse2", ""),
        (V2, "v2"),
        (V3, "v3"),
        (V4, "v4"),
        (V3.replace("avx2 ", ""), "v2"),
        (V4.replace("ssse3 ", ""), ""),
    ],
)
def test_amd64_level_of_the_host_is_used_only_on_request(flags: str, level: str) -> None:
    machine = HostMachine("x86_64", "linux", cpuinfo=f"processor : 0\nflags\t\t: {flags}\n")

    assert local_of(machine) == Platform("linux", "amd64", level)
    assert host_of(machine) == Platform("linux", "amd64")


def test_microarchitecture_level_is_for_amd64_only() -> None:
    machine = HostMachine("riscv64", "linux", cpuinfo=f"flags : {V4}")

    assert local_of(machine) == host_of(machine) == Platform("linux", "riscv64")
