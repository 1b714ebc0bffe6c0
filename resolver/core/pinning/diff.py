"""Unified diffs of files, as `patch` and `git apply` read them."""

from __future__ import annotations

from difflib import unified_diff
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_END = "\\ No newline at end of file\n"


def diff(path: str, before: str, after: str) -> str:
    """Write what changes in a file; empty when nothing does.

    Lines end at a line feed alone, so that a carriage return stays a part of its line.
    """
    name = path.removeprefix("./")
    old, new = (name, name) if name.startswith("/") else (f"a/{name}", f"b/{name}")
    return "".join(_ended(unified_diff(_lines(before), _lines(after), old, new)))


def _lines(text: str) -> list[str]:
    *ended, last = text.split("\n")
    return [f"{line}\n" for line in ended] + ([last] if last else [])


def _ended(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if not line.endswith("\n"):
            yield "\n" + _NO_END
