"""The images of the sample registry."""

from __future__ import annotations

import hashlib
import struct
from functools import cache
from typing import TYPE_CHECKING

from resolver.demo.builders import (
    CREATED,
    Built,
    attestation_entry,
    build_attestation,
    build_image,
    build_index,
    build_layer,
    index_entry,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest

#: ELF class (1 = 32, 2 = 64 bits) and machine. Source: System V ABI, "ELF Header"; elf.h.
_ELF = {"amd64": (2, 62), "arm64": (2, 183), "arm": (1, 40)}

LINUX = ("linux/amd64", "linux/arm64/v8", "linux/arm/v7")
WINDOWS = ("windows/amd64:10.0.20348.2700", "windows/amd64:10.0.26100.1742")


@dataclass(frozen=True, slots=True)
class Sample:
    """One name in the sample registry, and everything behind it."""

    repository: str
    tag: str
    root: Descriptor
    documents: Mapping[Digest, tuple[str, bytes]]
    blobs: Mapping[Digest, bytes]


@cache
def samples() -> tuple[Sample, ...]:
    """Make the sample images.

    `demo/app:1.0`, and `2.0` that shares most layers with it, for five platforms with
    attestations; `demo/single:1.0` for one platform without an index; `demo/liar:1.0`, whose
    arm64 entry is the amd64 build again, and whose config admits it.
    """
    second = _app("2.0")
    amd64 = _linux("1.0", "linux/amd64")
    # Another version label makes it another manifest; layers and platform stay those of amd64.
    lie = build_image(
        "linux/amd64", _linux_layers("1.0", "linux/amd64"), config=_linux_config("1.0-arm64")
    )
    liar = build_index(
        [index_entry(amd64), index_entry(lie, platform="linux/arm64/v8")], parts=(amd64, lie)
    )
    return (
        _sample("demo/app", "1.0", _app("1.0")),
        _sample("demo/app", "2.0", second),
        _sample("demo/app", "latest", second),
        _sample("demo/single", "1.0", amd64),
        _sample("demo/liar", "1.0", liar),
    )


def _sample(repository: str, tag: str, built: Built) -> Sample:
    return Sample(repository, tag, built.root, built.documents, built.blobs)


def _app(version: str) -> Built:
    images = [_linux(version, platform) for platform in LINUX]
    statements = [build_attestation(image) for image in images]
    windows = [_windows(version, platform) for platform in WINDOWS]
    entries = [index_entry(image) for image in (*images, *windows)]
    entries += [attestation_entry(*pair) for pair in zip(statements, images, strict=True)]
    return build_index(
        entries,
        parts=(*images, *windows, *statements),
        annotations={"org.opencontainers.image.version": version},
    )


def _linux(version: str, platform: str) -> Built:
    return build_image(platform, _linux_layers(version, platform), config=_linux_config(version))


def _linux_layers(version: str, platform: str) -> list[bytes]:
    """Make a base for one architecture, data that all share, and the program."""
    architecture = platform.split("/")[1]
    base = {
        "etc/os-release": b'NAME="Demo Linux"\nID=demo\nVERSION_ID=12\n',
        "bin/sh": _program(architecture, "sh", 48_000),
    }
    data = {"usr/share/app/words": _filler("words", 96_000)}
    program = {"usr/local/bin/app": _program(architecture, f"app {version}", 24_000)}
    return [build_layer(base), build_layer(data), build_layer(program)]


def _linux_config(version: str) -> dict[str, object]:
    """Return the config's settings for running the program, with its labels."""
    return {
        "config": {
            "User": "65532",
            "ExposedPorts": {"8080/tcp": {}},
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", f"APP_VERSION={version}"],
            "Entrypoint": ["/usr/local/bin/app"],
            "Cmd": ["serve"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "demo",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.source": "https://example.com/demo/app",
            },
        },
        "history": [
            _step("ADD rootfs.tar / # buildkit"),
            _step("COPY words /usr/share/app/ # buildkit"),
            _step("COPY app /usr/local/bin/ # buildkit"),
            {**_step('CMD ["serve"]'), "empty_layer": True},
        ],
    }


def _windows(version: str, platform: str) -> Built:
    release = platform.rpartition(":")[2]
    base = {"Files/Windows/System32/ntdll.dll": b"MZ" + _filler(release, 64_000)}
    program = {"Files/app/app.exe": b"MZ" + _filler(f"app {version}", 24_000)}
    settings = {"Entrypoint": ["C:\\app\\app.exe"], "Env": [f"APP_VERSION={version}"]}
    return build_image(
        platform, [build_layer(base), build_layer(program)], config={"config": settings}
    )


def _step(command: str) -> dict[str, object]:
    return {"created": CREATED, "created_by": command, "comment": "buildkit.dockerfile.v0"}


def _program(architecture: str, seed: str, size: int) -> bytes:
    """Build a file with an ELF header for this architecture; it cannot run."""
    bits, machine = _ELF[architecture]
    head = b"\x7fELF" + bytes((bits, 1, 1)) + bytes(9) + struct.pack("<HHI", 2, machine, 1)
    return head + _filler(f"{architecture} {seed}", size)


def _filler(seed: str, size: int) -> bytes:
    """Make bytes that look like nothing, and are the same every time."""
    return hashlib.shake_128(seed.encode()).digest(size)
