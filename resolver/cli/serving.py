"""Where to listen, and whom a mirror asks, read from the words of a command line."""

from __future__ import annotations

from resolver.cli.amounts import span
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


def mirrored(
    place: str | None, upstream: str | None, allow: list[str] | None, fresh: str, *, mirror: bool
) -> tuple[str, tuple[str, ...], float] | None:
    """Read what a mirror asks: the usual registry, the others, and for how long a tag is fresh.

    None where there is to be no mirror.

    Raises:
        Usage: something does not fit together.

    """
    others = tuple(name for each in allow or () for name in each.split(",") if name)
    if not mirror:
        if upstream or others:
            raise Usage("`--upstream` and `--allow` are for a mirror", "add `--mirror`")
        return None
    if place is not None:
        raise Usage("a mirror keeps what it fetches in the store", f"leave out `{place}`")
    return upstream or "docker.io", others, span(fresh, "--fresh")
