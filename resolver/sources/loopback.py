"""Whether a registry on this very machine speaks TLS (protocol.md 14.2).

The registry of a test or of a developer often speaks plain HTTP on `127.0.0.1:5000`, and nobody
wants to say so each time. It is asked with the first words of a TLS handshake, on a connection of
its own: nothing is decided by a certificate, so a wrong one can never lead to plain http (R18).
"""

from __future__ import annotations

import socket
import struct
from typing import Final

#: Seconds; on this machine an answer takes far less than one.
PATIENCE: Final = 2.0
#: First bytes of every TLS record that can answer: alert, handshake. Source: RFC 5246, 6.2.1.
_ANSWERS: Final = (b"\x15", b"\x16")


def speaks_tls(host: str, port: int, patience: float = PATIENCE) -> bool | None:
    """Ask a port of this machine whether it speaks TLS.

    Returns:
        None when nobody listens there, or nobody answers.
    """
    try:
        with socket.create_connection((host, port), timeout=patience) as link:
            link.sendall(CLIENT_HELLO)
            first = link.recv(1)
    except ConnectionResetError:
        return False
    except OSError:
        return None
    return first in _ANSWERS


def _sized(content: bytes, width: int) -> bytes:
    """Put the length before it, in `width` bytes."""
    return len(content).to_bytes(width, "big") + content


def _extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">H", kind) + _sized(content, 2)


def _client_hello() -> bytes:
    """Write a TLS 1.2 ClientHello; newer servers answer it too, if only with an alert.

    In the place of random bytes it has line ends: an HTTP server sees a request at once, and a
    wrong one, where it might wait for more of something random. Source: RFC 5246, 7.4.1.2.
    """
    suites = bytes.fromhex("c02bc02fc02cc030cca9cca8c013c014009c009d002f0035")
    extensions = (
        _extension(0x0A, _sized(bytes.fromhex("001d00170018"), 2))  # supported_groups
        + _extension(0x0B, _sized(b"\x00", 1))  # ec_point_formats
        + _extension(  # signature_algorithms
            0x0D, _sized(bytes.fromhex("040308040401050308050501080606010201"), 2)
        )
    )
    hello = (
        b"\x03\x03"
        + b"\r\n\r\n" * 8
        + _sized(b"", 1)
        + _sized(suites, 2)
        + _sized(b"\x00", 1)
        + _sized(extensions, 2)
    )
    return b"\x16\x03\x01" + _sized(b"\x01" + _sized(hello, 3), 2)


CLIENT_HELLO: Final = _client_hello()
