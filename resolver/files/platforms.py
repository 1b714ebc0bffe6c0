"""Platform facts from files, and the platform of this machine.

The built-in facts are a module generated from `platforms.yaml`, so that loading them needs no YAML
reader (some 15 ms).
"""

from __future__ import annotations

import mmap
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.platforms.platform import (
    BUILTIN,
    HostMachine,
    Platform,
    PlatformTable,
    host_of,
    local_of,
)
from resolver.errors import BadFile, InvalidConfiguration

if TYPE_CHECKING:
    from resolver.core.parse.document import FieldReader
    from resolver.core.platforms.fact_types import Facts
    from resolver.core.results.needs import Machine

#: Bytes of a platform file; the built-in one has some 8,000.
MAX_FILE = 1_048_576
#: Bytes of /proc/cpuinfo; the first processor is enough, and some machines have hundreds.
_MAX_CPUINFO = 65_536


def load_table(extension: Path | str | None) -> PlatformTable:
    """Return the built-in platform facts, extended by a file like `platforms.yaml` if given."""
    if extension is None:
        return BUILTIN
    from resolver.core.platforms.schema import merged  # noqa: PLC0415 - only with a file of one's own

    path = Path(extension)
    return PlatformTable(merged(BUILTIN.facts, read_file(path, sourced=False), str(path)))


def read_file(path: Path, *, sourced: bool) -> Facts:
    """Read a platform file."""
    from resolver.core.platforms.schema import read_facts  # noqa: PLC0415 - as in load_table

    place = str(path)
    root = _document(path)
    try:
        return read_facts(root, sourced=sourced)
    except BadFile as error:
        raise InvalidConfiguration(place, error.field, error.reason) from error


def this_machine() -> HostMachine:
    """Detect the platform of this machine."""
    return HostMachine(
        machine=platform.machine(),
        sys_platform=sys.platform,
        cpuinfo=_cpuinfo(),
        byteorder=sys.byteorder,
        windows_version=_windows_version(),
        is_64bit=sys.maxsize > 2**32,
        rosetta=_rosetta(),
    )


def host_platform(machine: HostMachine | None = None) -> Platform:
    """Return this machine's platform at its baseline level, the default platform."""
    return host_of(machine or this_machine())


def local_platform(machine: HostMachine | None = None) -> Platform:
    """Return this machine's platform with its amd64 level: `--platform local`."""
    return local_of(machine or this_machine())


def local_machine(table: PlatformTable = BUILTIN) -> Machine:
    """Return this machine with the level of its processor, its page size and its kernel."""
    from resolver.core.results.needs import machine_of  # noqa: PLC0415 - for this question alone

    return machine_of(this_machine(), table, mmap.PAGESIZE, platform.release())


def default_platforms(host: Platform) -> tuple[Platform, ...]:
    """List the platforms acceptable on a host when none is requested, best first.

    On macOS and FreeBSD, Linux images come second: they run in a virtual machine there.

    Source: containerd/platforms v1.0.0-rc.5, `defaults_darwin.go`, `defaults_freebsd.go`.
    """
    if host.os in {"darwin", "freebsd"}:
        return (host, Platform("linux", host.architecture, host.variant))
    return (host,)


def _document(path: Path) -> FieldReader:
    from resolver.files import yaml  # noqa: PLC0415 - only with a file of one's own

    try:
        return yaml.read(path, limit=MAX_FILE)
    except BadFile as error:
        at = f"line {error.line}, column {error.column}" if error.line else ""
        raise InvalidConfiguration(error.place, at, error.reason) from error


def _cpuinfo() -> str:
    try:
        with Path("/proc/cpuinfo").open("rb") as file:
            return file.read(_MAX_CPUINFO).decode("ascii", "replace")
    except OSError:
        return ""  # Not every system has one; the baseline is right without it.


def _windows_version() -> tuple[int, int, int] | None:
    if sys.platform != "win32":
        return None
    # Not `major` and `minor`: those depend on the manifest of the running program.
    return sys.getwindowsversion().platform_version


def _rosetta() -> bool:
    if sys.platform != "darwin" or platform.machine() != "x86_64":
        return False
    import ctypes  # noqa: PLC0415 - only on the machines that may need it

    answer = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(answer))
    library = ctypes.CDLL(None)
    failed = library.sysctlbyname(
        b"hw.optional.arm64", ctypes.byref(answer), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return failed == 0 and answer.value == 1
