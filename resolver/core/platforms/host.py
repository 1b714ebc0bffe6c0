"""Derive a machine's platform from what it reports; `resolver.files.platforms` reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.platforms.platform import BUILTIN, Platform, lower
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.platforms.platform import PlatformTable

_TRAILING = "0123456789"


@dataclass(frozen=True, slots=True, eq=False)
class HostMachine:
    """What a machine reports about itself.

    Attributes:
        machine: `platform.machine()`, the machine field of uname on Unix.
        sys_platform: `sys.platform`.
        cpuinfo: the text of /proc/cpuinfo; empty without one.
        byteorder: `sys.byteorder`.
        windows_version: major, minor and build; None on other systems.
        is_64bit: whether this process is.
        rosetta: whether macOS translates this process for an Apple processor.
    """

    machine: str
    sys_platform: str
    cpuinfo: str = ""
    byteorder: str = "little"
    windows_version: tuple[int, int, int] | None = None
    is_64bit: bool = True
    rosetta: bool = False


def host_of(machine: HostMachine, table: PlatformTable = BUILTIN) -> Platform:
    """Return a machine's platform at its baseline level.

    Source: docs/platform-matching.md, "Host detection"; containerd/platforms v1.0.0-rc.5,
    `defaults_*.go`, `cpuinfo_linux.go`.
    """
    hosts = table.facts.hosts
    system = dict(hosts.systems).get(machine.sys_platform.rstrip(_TRAILING))
    if system is None:
        whole = dict(hosts.systems).get(machine.sys_platform)
        system = whole or table.system(machine.sys_platform.rstrip(_TRAILING))
    word = "arm64" if machine.rosetta and system == "darwin" else lower(machine.machine)
    architecture, _, variant = dict(hosts.machines).get(word, word).partition("/")
    if machine.byteorder == "little":
        architecture = dict(hosts.little_endian).get(architecture, architecture)
    if system == "linux" and not machine.is_64bit:
        narrow = dict(hosts.narrow).get(architecture)
        if narrow is not None:
            architecture, _, variant = narrow.partition("/")
    if system in {"linux", "android"} and architecture in {"arm", "arm64"}:
        variant = _arm_variant(machine, architecture, table) or variant
    version = ""
    if system == "windows" and machine.windows_version is not None:
        version = ".".join(str(part) for part in machine.windows_version)
    return Platform(system, architecture, variant, version)


def local_of(machine: HostMachine, table: PlatformTable = BUILTIN) -> Platform:
    """Return a machine's platform with the amd64 level that its processor has."""
    host = host_of(machine, table)
    if host.architecture != "amd64":
        return host
    flags = set(cpuinfo_value(machine.cpuinfo, "flags").split())
    level = ""
    for name, needed in table.facts.hosts.amd64_levels:
        if not flags.issuperset(needed):
            break
        level = name
    return replace(host, variant=level)


def _arm_variant(machine: HostMachine, architecture: str, table: PlatformTable) -> str:
    """Read the variant of an ARM processor; empty if /proc/cpuinfo has none."""
    hosts = table.facts.hosts
    cpu = lower(cpuinfo_value(machine.cpuinfo, "cpu architecture"))
    variant = dict(hosts.arm_cpus).get(cpu, "")
    if architecture == "arm" and cpu == "7":
        model = lower(cpuinfo_value(machine.cpuinfo, "model name"))
        known = (name for start, name in hosts.arm_models if model.startswith(start))
        variant = next(known, variant)
    return variant


def cpuinfo_value(text: str, key: str) -> str:
    """Return the first value of a key in /proc/cpuinfo; all processors have the same."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and lower(name.strip()) == key:
            return value.strip()
    return ""
