"""Inputs: lists of references, platforms and a password, read before anybody is asked."""

from __future__ import annotations

import sys

from resolver.errors import Usage
from resolver.files import read_given

#: A list of references may have this many bytes; a thousand references have some 60 kB.
MAX_LIST = 4 * 1024 * 1024
MAX_PASSWORD = 64 * 1024


def read_references(place: str) -> list[tuple[str, str]]:
    """Read references, one a line; blank lines and what follows `#` at a line's start are skipped.

    Returns:
        Pairs of where it stands (`images.txt:3`) and the text.

    Raises:
        Usage: the file cannot be read, is no text, or names nothing.

    """
    name = "standard input" if place == "-" else place
    text = _decode(_bytes(place, MAX_LIST, name), name)
    found = [
        (f"{name}:{number}", line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise Usage(f"`{name}` names no reference", "write one reference a line")
    return found


def read_rules(place: str) -> list[str]:
    """Read the lines of a file of rules; `-` is standard input.

    Raises:
        Usage: the file cannot be read, or is no text.

    """
    name = "standard input" if place == "-" else place
    return _decode(_bytes(place, MAX_LIST, name), name).splitlines()


def read_password() -> str:
    """Read a password from standard input; one line break at its end is not part of it.

    Raises:
        Usage: nothing came.

    """
    name = "standard input"
    text = _decode(_bytes("-", MAX_PASSWORD, name), name).removesuffix("\n").removesuffix("\r")
    if not text:
        raise Usage("there is no password on standard input", "pipe it in: `… < password.txt`")
    return text


def split_platforms(values: list[str], option: str = "--platform") -> list[str]:
    """Take comma lists apart; `,osver=` of regctl's spelling belongs to the platform before it.

    Raises:
        Usage: an element is empty.

    """
    found: list[str] = []
    for value in values:
        for part in value.split(","):
            if part.startswith("osver=") and found:
                found[-1] += f",{part}"
            elif not part.strip():
                raise Usage(
                    f"`{option} {value}` has an empty element",
                    "write `linux/amd64,linux/arm64`, or repeat the option",
                )
            else:
                found.append(part)
    return list(dict.fromkeys(found))


def _bytes(place: str, limit: int, name: str) -> bytes:
    if place == "-" and sys.stdin is None:
        raise Usage("standard input is closed", "name a file instead of `-`")
    try:
        body = sys.stdin.buffer.read(limit + 1) if place == "-" else read_given(place, limit)
    except ValueError as error:
        raise Usage(f"`{name}` is no path", "name a file that can be read") from error
    except OSError as error:
        raise Usage(
            f"cannot read `{name}`: {error.strerror or error}", "name a file that can be read"
        ) from error
    if len(body) > limit:
        raise Usage(f"`{name}` has more than {limit} bytes", "split it")
    return body


def _decode(body: bytes, name: str) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Usage(f"`{name}` is no UTF-8 text", "save it as UTF-8") from error
