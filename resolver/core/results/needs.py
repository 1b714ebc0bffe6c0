"""What the programs of an image need, and whether a machine has it."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.layers.elf_needs import (
    RISCV_PROFILES,
    CpuMark,
    ElfFile,
    Sureness,
    is_glibc,
)
from resolver.core.platforms.platform import Platform, cpuinfo_value, local_of
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.platform import HostMachine, PlatformTable
    from resolver.core.results.events import Warned
    from resolver.errors import ResolverError

#: The level that every processor of an architecture has.
_BASELINES = {
    "386": "v1", "amd64": "v1", "amd64p32": "v1", "arm": "v5", "arm64": "v8",
    "riscv64": "rva20u64", "ppc64": "power8", "ppc64le": "power8",
}  # fmt: skip
#: Architectures with kernels of several page sizes, with systems that have the larger ones.
#: Source: Linux, arch/*/Kconfig, "Page size"; documentation of the systems named.
LARGER_PAGES = {
    "arm64": (
        (16_384, "Raspberry Pi OS on the Pi 5, Asahi Linux"),
        (65_536, "RHEL with 64k pages"),
    ),
    "loong64": ((16_384, "most distributions"),),
    "mips64le": ((16_384, "Loongson"),),
    "ppc64": ((65_536, "most distributions"),),
    "ppc64le": ((65_536, "most distributions"),),
}
_KERNEL = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,5}))?(?:\.([0-9]{1,5}))?", re.ASCII)
_PAGES = re.compile(r"([0-9]{1,6})([kK]?)(?:i?[bB])?", re.ASCII)
_SMALLEST_PAGE, _LARGEST_PAGE = 4_096, 65_536


class NeedKind(Enum):
    """What a need is about."""

    CPU = "cpu"
    PAGE_SIZE = "page-size"
    KERNEL = "kernel"
    LIBC = "libc"


@dataclass(frozen=True, slots=True)
class FileNeeds:
    """One ELF file of an image.

    Attributes:
        path: from the root of the image, without a leading slash, links followed.
    """

    path: str
    layer: Digest
    elf: ElfFile


@dataclass(frozen=True, slots=True)
class Loader:
    """The dynamic loader that a program names.

    Attributes:
        path: as written in the program.
        program: its path in the image.
        found: whether the image has it; None if not all layers were read.
        foreign: the loader of another libc in the image; empty if there is none.
        is_certain: whether the container itself starts the program.
    """

    path: str
    program: str
    found: bool | None
    foreign: str = ""
    is_certain: bool = True

    @property
    def libc(self) -> str:
        """The libc of this loader; its file name if that is unknown."""
        return libc_of(self.path)


def libc_of(loader: str) -> str:
    """Return the libc that a loader belongs to; its file name if that is unknown."""
    name = loader.rpartition("/")[2]
    if name.startswith("ld-musl-"):
        return "musl"
    if name.startswith("ld-uClibc"):
        return "uClibc"
    return "glibc" if is_glibc(name) else name


@dataclass(frozen=True, slots=True)
class NeedFact:
    """One fact about one file.

    Attributes:
        value: a level (`v3`), a page size in bytes, a kernel, a libc; empty if unknown.
        architecture: that the file is for.
    """

    kind: NeedKind
    value: str
    sure: Sureness
    file: str
    layer: str
    evidence: str
    architecture: str = ""

    @property
    def text(self) -> str:
        """The value for people: `x86-64-v3`, `16 KiB`; `unknown` if it is."""
        if not self.value:
            return "unknown"
        if self.kind is NeedKind.CPU:
            return level_name(self.architecture, self.value)
        return kib(int(self.value)) if self.kind is NeedKind.PAGE_SIZE else self.value


@dataclass(frozen=True, slots=True, eq=False)
class ImageNeeds:
    """What the programs of one image need.

    Attributes:
        platform: of the image, as written.
        digest: of its manifest.
        files: the programs, loaders and libraries that were read.
        unread: those that were not found or not read, and why the answer is incomplete.
        failures: layers that could not be read, and why.
        bytes_read: compressed bytes of layers.
    """

    platform: Platform | None
    digest: str
    files: tuple[FileNeeds, ...] = ()
    loaders: tuple[Loader, ...] = ()
    unread: tuple[str, ...] = ()
    failures: tuple[tuple[Digest, ResolverError], ...] = ()
    bytes_read: int = 0

    @property
    def facts(self) -> tuple[NeedFact, ...]:
        """Every fact, file by file."""
        return tuple(need for file in self.files for need in _facts(file, self.loaders))

    def is_complete(self, kind: NeedKind) -> bool:
        """Return whether nothing about a kind of need is unknown."""
        own = [need for need in self.facts if need.kind is kind]
        return bool(own) and not self.unread and all(need.value for need in own)

    def highest(self, kind: NeedKind, table: PlatformTable) -> NeedFact | None:
        """Return the fact that decides: the highest level or kernel, the smallest page size.

        None if nothing is known. A level that every processor has is known only if no file that
        was read leaves its own open.
        """
        own = [need for need in self.facts if need.kind is kind and need.value]
        if kind is NeedKind.CPU:
            best: NeedFact | None = None
            for need in sorted(own, key=lambda one: list(Sureness).index(one.sure)):
                if best is None or _is_above(need, best, table):
                    best = need
            is_lowest = best is not None and best.value == _BASELINES.get(best.architecture)
            if is_lowest and any(one.kind is kind and not one.value for one in self.facts):
                return None
            return best
        if kind is NeedKind.PAGE_SIZE:
            return min(own, key=lambda need: int(need.value), default=None)
        if kind is NeedKind.KERNEL:
            return max(own, key=lambda need: kernel_of(need.value), default=None)
        return next(iter(own), None)


def in_words(needs: ImageNeeds, kind: NeedKind, table: PlatformTable) -> str:
    """Return what an image needs of one kind; a level that may be higher says so."""
    need = needs.highest(kind, table)
    if need is None:
        is_static = kind is NeedKind.LIBC and needs.files and not needs.unread
        return "none" if is_static else "unknown"
    if kind is NeedKind.CPU:
        more = "" if needs.is_complete(kind) else ", or higher"
        return f"{need.text}{more} ({need.sure.value})"
    return f"up to {need.text}" if kind is NeedKind.PAGE_SIZE else need.text


@dataclass(frozen=True, slots=True, eq=False)
class Needs:
    """The result of `needs`: one entry for each platform, in index order."""

    reference: str
    root: Descriptor
    images: tuple[ImageNeeds, ...]
    table: PlatformTable
    warnings: tuple[Warned, ...] = ()


def _facts(file: FileNeeds, loaders: tuple[Loader, ...]) -> Iterator[NeedFact]:
    elf, layer = file.elf, str(file.layer)

    def need(
        kind: NeedKind, value: str, evidence: str, sure: Sureness = Sureness.STATED
    ) -> NeedFact:
        return NeedFact(kind, value, sure, file.path, layer, evidence, elf.architecture)

    for mark in elf.marks:
        yield need(NeedKind.CPU, mark.level, mark.evidence, mark.sure)
    if elf.damage:
        yield need(NeedKind.CPU, "", f"{elf.damage}: damaged or not read", Sureness.UNKNOWN)
    if elf.page_size:
        yield need(
            NeedKind.PAGE_SIZE, str(elf.page_size), "its segments load with pages up to this"
        )
    if elf.kernel:
        yield need(NeedKind.KERNEL, elf.kernel, "ABI tag: the oldest it was built for")
    for loader in loaders:
        if loader.program == file.path:
            words = {True: "in the image", False: "not in the image", None: "not found so far"}
            evidence = f"interpreter {loader.path}, {words[loader.found]}"
            sure = Sureness.UNKNOWN if loader.found is None else Sureness.STATED
            yield need(NeedKind.LIBC, loader.libc, evidence, sure)


def _is_above(need: NeedFact, other: NeedFact, table: PlatformTable) -> bool:
    """Whether a level is above another; one of another architecture is not compared."""
    if need.architecture != other.architecture:
        return False
    chip = table.chip(need.architecture, need.value)
    newer = table.newer(chip, table.chip(other.architecture, other.value))
    return newer is True or (newer is None and need.value != other.value)


# --- machines ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that an image should run on.

    Attributes:
        platform: with its processor level.
        page_size: in bytes; 0 if unknown or of no interest.
        kernel: its version; empty likewise.
        names: of the nodes of a cluster that are such machines; empty for a requirement.
        is_level_known: False if only the architecture is known, and the level may be higher.
    """

    platform: Platform
    page_size: int = 0
    kernel: str = ""
    names: tuple[str, ...] = ()
    is_level_known: bool = True

    def __str__(self) -> str:
        if not self.names:
            return f"`{self.platform}`"
        more = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
        return f"the node `{self.names[0]}`{more} (`{self.platform}`)"


#: "Features" of /proc/cpuinfo that a level of arm64 adds to the lower ones.
#: Source: Linux, arch/arm64/elf_hwcaps.rst; Arm ARM, "Armv8.x architecture extensions".
ARM64_LEVELS = (
    ("v8.1", {"atomics", "asimdrdm", "crc32"}),
    ("v8.2", {"dcpop"}),
    ("v8.3", {"jscvt", "fcma", "lrcpc"}),
    ("v8.4", {"dit", "uscat", "ilrcpc", "flagm"}),
    ("v8.5", {"sb", "flagm2", "frint"}),
)
_POWER = re.compile(r"power([0-9]{1,2})", re.ASCII | re.IGNORECASE)


def machine_of(host: HostMachine, table: PlatformTable, page_size: int, kernel: str) -> Machine:
    """Return a machine with the level that its processor reports.

    Linux images run in a virtual machine on other systems, of which only the architecture is known.
    """
    own = local_of(host, table)
    if own.os != "linux":
        platform = Platform("linux", own.architecture, own.variant)
        return Machine(platform, is_level_known=False)
    level, text = own.variant, host.cpuinfo
    if own.architecture == "arm64":
        level = highest_level(set(cpuinfo_value(text, "features").split()), ARM64_LEVELS)
    elif own.architecture in {"ppc64", "ppc64le"} and (found := _POWER.search(text)):
        level = f"power{found[1]}"
    is_known = bool(text) and own.architecture in {"amd64", "arm", "arm64", "ppc64le"}
    platform = Platform(own.os, own.architecture, level)
    return Machine(platform, page_size, kernel, is_level_known=is_known)


def highest_level(features: set[str], levels: Iterable[tuple[str, Collection[str]]]) -> str:
    """Return the last level whose features, and those of all lower ones, are there."""
    highest = ""
    for name, needed in levels:
        if not features.issuperset(needed):
            break
        highest = name
    return highest


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an image does not run, or may not run, on a machine.

    Attributes:
        sure: `stated` and `seen` obstacles are certain.
        message: what is needed and which file says so; no full stop.
    """

    kind: NeedKind
    sure: Sureness
    message: str


def obstacles(needs: ImageNeeds, machine: Machine, table: PlatformTable) -> tuple[Obstacle, ...]:
    """Return why an image does not run on a machine, the most certain first; empty if it does.

    Programs of Windows and macOS are not read, and have no obstacles.
    """
    if machine.platform.os in {"windows", "darwin", "ios"}:
        return ()
    found = list(_cpu_obstacles(needs, machine, table))
    if machine.platform.normalized(table).architecture in LARGER_PAGES:
        found += _page_obstacles(needs, machine)
    found += [*_kernel_obstacles(needs, machine), *_loader_obstacles(needs)]
    order = list(Sureness)
    return tuple(sorted(dict.fromkeys(found), key=lambda one: order.index(one.sure)))


def _cpu_obstacles(needs: ImageNeeds, machine: Machine, table: PlatformTable) -> Iterator[Obstacle]:
    unknown = ""
    for file in needs.files:
        failing = []
        for mark in file.elf.marks:
            runs = supports(machine.platform, file.elf.architecture, mark, table)
            if runs is None:
                unknown = unknown or f"`{file.path}`: {mark.evidence}"
            elif not runs:
                failing.append(mark)
        if failing:
            mark = min(failing, key=lambda one: list(Sureness).index(one.sure))
            level = level_name(file.elf.architecture, mark.level)
            yield Obstacle(
                NeedKind.CPU,
                mark.sure if machine.is_level_known else Sureness.POSSIBLE,
                f"`{file.path}` needs {level} ({mark.evidence})",
            )
        if file.elf.damage and not unknown:
            unknown = f"`{file.path}`: {file.elf.damage}: damaged or not read"
    if not needs.files and not needs.unread:
        unknown = "the image names no program"
    if unknown or needs.unread:
        reason = unknown or f"not read: {', '.join(f'`{name}`' for name in needs.unread[:3])}"
        message = f"the processor level is unknown: {reason}"
        yield Obstacle(NeedKind.CPU, Sureness.UNKNOWN, message)


def supports(
    platform: Platform, architecture: str, mark: CpuMark, table: PlatformTable
) -> bool | None:
    """Return whether a platform has the level of a mark; None if the level is unknown.

    A file for an architecture that the platform does not run at all is not judged here.
    """
    if not mark.level:
        return None
    own = platform.normalized(table)
    chip = table.chip(architecture, mark.level)
    if architecture in {"386", "amd64p32"}:
        # The same levels of the same processors.
        level = own.variant if own.architecture == "amd64" else ""
        own, chip = Platform(own.os, "amd64", level), table.chip("amd64", mark.level)
    runs = {other for other, _grade in table.vector((own.architecture, own.variant))}
    if mark.extensions and own.architecture == architecture:
        profile = dict(RISCV_PROFILES).get(own.variant or _BASELINES["riscv64"])
        return profile is not None and profile.issuperset(mark.extensions)
    return chip in runs or not any(other[0] == chip[0] for other in runs)


def level_name(architecture: str, level: str) -> str:
    """Return a level as its architecture calls it: `x86-64-v3`, `Armv8.1`, `rva22u64`."""
    if architecture in {"amd64", "386", "amd64p32"}:
        return f"x86-64-{level}"
    return f"Arm{level}" if architecture.startswith("arm") else level


def _page_obstacles(needs: ImageNeeds, machine: Machine) -> Iterator[Obstacle]:
    for file in needs.files:
        size = file.elf.page_size
        if size and machine.page_size > size:
            pages = f"{kib(size)}, not {kib(machine.page_size)}"
            message = f"`{file.path}` loads with pages of up to {pages}"
            yield Obstacle(NeedKind.PAGE_SIZE, Sureness.STATED, message)
        elif machine.page_size and not size:
            message = f"`{file.path}`: its segments were not read"
            yield Obstacle(NeedKind.PAGE_SIZE, Sureness.UNKNOWN, message)
    if machine.page_size and (needs.unread or not needs.files):
        message = "the page size is unknown: not all programs were read"
        yield Obstacle(NeedKind.PAGE_SIZE, Sureness.UNKNOWN, message)


def _kernel_obstacles(needs: ImageNeeds, machine: Machine) -> Iterator[Obstacle]:
    """Compare kernels; glibc checks its own only before 2.36, so that it is never certain."""
    if not machine.kernel:
        return
    for file in needs.files:
        if file.elf.kernel and kernel_of(file.elf.kernel) > kernel_of(machine.kernel):
            message = f"`{file.path}` was built for Linux {file.elf.kernel} and above"
            yield Obstacle(NeedKind.KERNEL, Sureness.POSSIBLE, message)


def _loader_obstacles(needs: ImageNeeds) -> Iterator[Obstacle]:
    """Find missing loaders: `lint --deep` reports them; a machine may mount them."""
    for loader in needs.loaders:
        if loader.found is False:
            message = f"`{loader.program}` needs `{loader.path}`, which is not in the image"
            yield Obstacle(NeedKind.LIBC, Sureness.POSSIBLE, message)


def kib(size: int) -> str:
    """Return a page size in words."""
    return f"{size >> 10} KiB"


def kernel_of(text: str) -> tuple[int, ...]:
    """Return the first three numbers of a kernel version; zeros if it has none."""
    found = _KERNEL.match(text)
    return tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)


def parse_kernel(text: str) -> str:
    """Parse a required kernel version.

    Raises:
        Usage: it is not one.
    """
    found = _KERNEL.match(text[:100])
    if found is None or (text[found.end() :][:1] or "-") not in "-+._~":
        raise Usage(f"`{text[:40]}` is not a kernel version", "write `5.10` or `6.1.0`")
    return text


def parse_page_size(text: str) -> int:
    """Parse a page size: `16k`, `64KiB`, `4096`.

    Raises:
        Usage: it is not one that Linux has.
    """
    found = _PAGES.fullmatch(text)
    size = int(found[1]) << (10 if found[2] else 0) if found else 0
    if not _SMALLEST_PAGE <= size <= _LARGEST_PAGE or size & (size - 1):
        raise Usage(f"`{text[:40]}` is not a page size", "write `4k`, `16k` or `64k`")
    return size
