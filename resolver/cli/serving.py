"""Where to listen, read from one word."""

from __future__ import annotations

from resolver.errors import Usage

_MAX_PORT = 65_535


def address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[HOST]:PORT` or `:PORT` (this machine).

    Raises:
        Usage: it is none of them.

    """
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    usable = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(_MAX_PORT))
    if not colon or not usable or int(digits) > _MAX_PORT or (":" in host and not bracketed):
        raise Usage(
            f"`--listen {text}` is no address", "write `127.0.0.1:5000`, `[::1]:5000` or `:5000`"
        )
    return (host[1:-1] if bracketed else host) or "127.0.0.1", int(digits)
