"""JSON, JSON lines and YAML: answers for machines, ASCII only, in a stable order."""

from __future__ import annotations

import json as standard
import re
import secrets
from itertools import chain, islice
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, NamedTuple

from resolver.render.to_dict import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.render.to_dict import Plain

#: What GitHub and Azure take as a command wherever it stands (`render.escape`).
_COMMAND = re.compile(r"#(?=#(?:vso)?\[)")
#: Strings that YAML would write so that a line of theirs could be a command.
_CAREFUL = re.compile(r"#(?=#(?:vso)?\[)|^[ \t]*::|[\n\r\x85\u2028\u2029]")

#: Of a line of YAML: none is ever folded.
_WIDTH = 2**30
#: Characters of one piece, about.
_PIECE = 64 << 10
#: Rows that YAML is made of at once: the library takes 10 KB for each.
_AT_ONCE = 100


def json(value: Plain) -> str:
    """One document, indented."""
    return "".join(chunks(value, "json"))


def jsonl(value: Plain) -> str:
    """One document on one line."""
    return "".join(chunks(value, "jsonl"))


def yaml(value: Plain) -> str:
    """One document that starts with `---`, so that several can follow one another.

    Strings stay on their line, so that none of theirs begins one.
    """
    return "".join(chunks(value, "yaml"))


def chunks(value: Plain, form: str) -> Iterator[str]:
    """Write a document in pieces of some size: one with many rows is never in memory as a whole."""
    if form == "yaml":
        yield from _gathered(_yaml(value))
        return
    style = _LINE if form == "jsonl" else _INDENTED
    for piece in _gathered(chain(_json(value, "\n", style), "\n")):
        # No string is in two pieces, so that none hides a command.
        yield _disarmed(piece)


def _gathered(written: Iterable[str]) -> Iterator[str]:
    waiting: list[str] = []
    size = 0
    for piece in written:
        waiting.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield "".join(waiting)
            waiting.clear()
            size = 0
    yield "".join(waiting)


class _Style(NamedTuple):
    """How JSON is laid out: spaces that a level is further in, and what is after a colon."""

    indent: int | None
    colon: str


_INDENTED, _LINE = _Style(2, ": "), _Style(None, ":")


def _json(value: object, line: str, style: _Style) -> Iterator[str]:
    """Write JSON; what has rows part by part, and the rest as the library does."""
    if not _has_rows(value):
        yield from _whole(value, line, style)
        return
    inner = f"{line}{' ' * style.indent}" if style.indent is not None else ""
    end = line if style.indent is not None else ""
    before = ""
    if isinstance(value, dict):
        for name, member in value.items():
            yield f"{before or '{'}{inner}{standard.dumps(name)}{style.colon}"
            yield from _json(member, inner, style)
            before = ","
        yield f"{end}}}"
    elif isinstance(value, list | Rows):
        for part in value:
            yield f"{before or '['}{inner}"
            if isinstance(value, list):
                yield from _json(part, inner, style)
            elif style.indent is None:
                yield from _whole(part, inner, style)
            else:
                yield _indented(part, inner)
            before = ","
        yield f"{end}]" if before else "[]"


def _whole(value: object, line: str, style: _Style) -> Iterator[str]:
    if style.indent is None:
        # The library has this in C, all at once.
        yield standard.dumps(value, ensure_ascii=True, separators=(",", style.colon))
        return
    # `dumps` would keep the pieces of it all at once, each a string of its own.
    for piece in standard.JSONEncoder(indent=style.indent, ensure_ascii=True).iterencode(value):
        # A line break in a string is an escape.
        yield piece.replace("\n", line)


def _indented(value: object, line: str) -> str:
    """Write a part that is not large; three times as fast as the library, which has this in Python.

    Args:
        value: without rows.
        line: a line break, and the spaces that a line of this level begins with.
    """
    inner = f"{line}  "
    match value:
        case str():
            return encode_basestring_ascii(value)
        case int() if value is not True and value is not False:
            return str(value)
        case dict() if value:
            members = [
                f"{encode_basestring_ascii(name)}: {_indented(part, inner)}"
                for name, part in value.items()
            ]
            return f"{{{inner}{f',{inner}'.join(members)}{line}}}"
        case list() if value:
            return f"[{inner}{f',{inner}'.join([_indented(part, inner) for part in value])}{line}]"
        case _:
            return standard.dumps(value)


def _has_rows(value: object) -> bool:
    match value:
        case dict():
            return any(map(_has_rows, value.values()))
        case list():
            return any(map(_has_rows, value))
        case _:
            return isinstance(value, Rows)


def _yaml(value: Plain) -> Iterator[str]:
    """Write YAML; rows are written one by one, in the places that were kept for them."""
    import yaml as library  # noqa: PLC0415 - 15 ms, for this format alone

    base: Any = getattr(library, "CSafeDumper", library.SafeDumper)
    careful: Any = type("Careful", (base,), {})
    careful.add_representer(str, _quoted)
    kept: list[Rows] = []
    # What no remote text can be: it is made when all of that is known.
    word = f"rows-{secrets.token_hex(16)}-"

    def keep(dumper: Any, rows: Rows) -> Any:
        kept.append(rows)
        return dumper.represent_scalar("tag:yaml.org,2002:str", f"{word}{len(kept) - 1}")

    careful.add_representer(Rows, keep)

    def dumped(value: object) -> str:
        written: str = library.dump(
            value, Dumper=careful, sort_keys=False, allow_unicode=False, width=_WIDTH
        )
        return _COMMAND.sub(r"\\x23", written)

    yield "---\n"
    for line in dumped(value).splitlines(keepends=True):
        start, found, number = line.rstrip("\n").rpartition(f" {word}")
        rows = kept[int(number)] if found else None
        if rows is None:
            yield line
        elif not rows:
            yield f"{start} []\n"
        else:
            yield f"{start}\n"
            # A list stands as far in as the name of its member, which may follow a dash.
            indent = " " * (len(start) - len(start.lstrip(" -")))
            waiting = iter(rows)
            while some := list(islice(waiting, _AT_ONCE)):
                yield "".join(f"{indent}{each}\n" for each in dumped(some).splitlines())


def _quoted(dumper: Any, text: str) -> Any:
    """Write a string that could speak to a CI system in double quotes, where all can be escaped."""
    style = '"' if _CAREFUL.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _disarmed(text: str) -> str:
    """Write the sign that begins a command as an escape; it can only stand in a string."""
    return _COMMAND.sub(r"\\u0023", text)
