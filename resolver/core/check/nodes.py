"""The nodes of a Kubernetes cluster as machines, from `kubectl get nodes -o json`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.parse.json import read_object
from resolver.core.platforms.platform import Platform
from resolver.core.results.needs import ARM64_LEVELS, Machine, highest_level
from resolver.errors import BadDocument, BadFile, LimitExceeded

if TYPE_CHECKING:
    from resolver.core.platforms.platform import PlatformTable

#: Bytes of a list of nodes: a node has some 20,000, most of them the names of its images.
MAX_NODES_FILE = 64 << 20

#: Source: Node Feature Discovery, "Feature labels", cpu.
_CPUID = "feature.node.kubernetes.io/cpu-cpuid."
#: What these labels add for each level; NFD leaves out older flags by default.
#: Source: x86-64 psABI, "Microarchitecture levels"; NFD, `cpu.cpuid.attributeBlacklist`.
_AMD64_LEVELS = (
    ("v2", frozenset({"avx"})),
    ("v3", frozenset({"avx2", "fma3"})),
    ("v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
)
_LEVEL_VALUE = re.compile(r"(?:x86[-_]64[-_])(v[1-4])", re.ASCII | re.IGNORECASE)
_VARIANT_KEYS = frozenset({"arch-variant", "cpu-variant", "microarchitecture"})
_VARIANT = re.compile(r"v[0-9](?:\.[0-9])?|rva[0-9]{2}u64|power[0-9]{1,2}", re.ASCII)
#: Kernels that name their page size. Source: Fedora and RHEL (`+16k`, `+64k`), Ubuntu (`-64k`),
#: Raspberry Pi OS (`rpi-2712`, `v8-16k`), Asahi Linux.
_PAGES = re.compile(r"[-+._](4|16|64)k(?:[-+._]|\Z)", re.ASCII | re.IGNORECASE)
_PAGES_16K = re.compile(r"rpi-2712|asahi", re.ASCII)
_PAGES_4K = frozenset({"amd64", "386", "s390x", "riscv64"})


def parse_nodes(body: bytes, place: str, table: PlatformTable) -> tuple[Machine, ...]:
    """Read a list of nodes; equal machines become one, with all of their names.

    Raises:
        BadFile: it is not such a list, or it is empty.
    """
    found: dict[Machine, list[str]] = {}
    try:
        items = read_object(body, f"`{place}`", any_number=True).get("items")
    except (BadDocument, LimitExceeded) as error:
        raise _bad(place, str(error)) from error
    for node in items if isinstance(items, list) else ():
        name, machine = _machine(node, place, table)
        found.setdefault(machine, []).append(name)
    if not found:
        raise _bad(place, "it lists no nodes")
    return tuple(
        Machine(one.platform, one.page_size, one.kernel, tuple(names), one.is_level_known)
        for one, names in found.items()
    )


def _bad(place: str, reason: str) -> BadFile:
    hint = f"write it with `kubectl get nodes -o json > {place}`"
    return BadFile(place, (0, 0), "", reason, hint)


def _machine(node: object, place: str, table: PlatformTable) -> tuple[str, Machine]:
    metadata = _object(node, "metadata")
    info = _object(_object(node, "status"), "nodeInfo")
    labels = {key: value for key, value in _object(metadata, "labels").items() if _is_text(value)}
    name = metadata.get("name")
    system = info.get("operatingSystem") or labels.get("kubernetes.io/os")
    architecture = info.get("architecture") or labels.get("kubernetes.io/arch")
    if not (isinstance(name, str) and isinstance(system, str) and isinstance(architecture, str)):
        raise _bad(place, "a node has no name, system or architecture")
    version = labels.get("node.kubernetes.io/windows-build", "") if system == "windows" else ""
    platform = Platform(system, architecture, "", str(version)).normalized(table)
    level = _level(platform.architecture, labels)
    platform = Platform(platform.os, platform.architecture, level or platform.variant, str(version))
    kernel = info.get("kernelVersion")
    kernel = kernel if isinstance(kernel, str) and system == "linux" else ""
    pages = _page_size(kernel, platform.architecture)
    return name, Machine(platform, pages, kernel, is_level_known=bool(level))


def _object(value: object, name: str) -> dict[str, object]:
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _level(architecture: str, labels: dict[str, object]) -> str:
    """Return the processor level that labels state; empty if they do not."""
    for key, value in labels.items():
        last, text = key.rpartition("/")[2], str(value)
        stated = _LEVEL_VALUE.fullmatch(text) or (
            _LEVEL_VALUE.fullmatch(last) if text == "true" else None
        )
        if stated is not None and architecture == "amd64":
            return stated[1].lower()
        if last in _VARIANT_KEYS and _VARIANT.fullmatch(text):
            return text
    flags = {
        key[len(_CPUID) :].lower()
        for key, value in labels.items()
        if key.startswith(_CPUID) and value == "true"
    }
    if architecture == "amd64":
        return highest_level(flags, _AMD64_LEVELS)
    if architecture == "arm64" and flags:
        return highest_level(flags, ARM64_LEVELS) or "v8"
    return ""


def _page_size(kernel: str, architecture: str) -> int:
    stated = _PAGES.search(kernel)
    if stated is not None:
        return int(stated[1]) << 10
    if _PAGES_16K.search(kernel):
        return 16 << 10
    return 4 << 10 if kernel and architecture in _PAGES_4K else 0
