"""Packs files into layers that have the same bytes on every machine."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GZIP_MAGIC = b"\x1f\x8b"
#: Deflate, no flags, time 0, system unknown. Source: RFC 1952, 2.3.1.
_GZIP_HEAD = GZIP_MAGIC + b"\x08\x00\x00\x00\x00\x00\x00\xff"
#: Bytes in one stored block. Source: RFC 1951, 3.2.4.
_STORED = 0xFFFF


def build_layer(files: Mapping[str, bytes]) -> bytes:
    """Pack files into a gzip tar layer; paths as they are, mode 0755, owner and time 0."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(content))
    return compress(plain.getvalue())


def compress(content: bytes) -> bytes:
    """Write gzip without compressing: zlib and its successors deflate differently.

    Source: RFC 1951, 3.2.4 (stored blocks); RFC 1952, 2.3 (header and trailer).
    """
    blocks = [content[at : at + _STORED] for at in range(0, len(content), _STORED)] or [b""]
    written = [_GZIP_HEAD]
    for number, block in enumerate(blocks, start=1):
        size = len(block)
        written.append(struct.pack("<BHH", number == len(blocks), size, size ^ 0xFFFF) + block)
    written.append(struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF))
    return b"".join(written)
