"""JSON, JSON lines and YAML: plain values as ASCII text, in a stable order."""

from __future__ import annotations

import json as standard
import secrets
from itertools import chain, islice
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, NamedTuple

from resolver.render.to_dict import Rows
from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.render.to_dict import Plain

#: The start of a GitHub or Azure command, recognised anywhere in a line (`render.text.escape`).
_COMMAND = pattern(r"#(?=#(?:vso)?\[)")
#: Strings that YAML could write so that one of their lines is a CI command.
_CAREFUL = pattern(r"#(?=#(?:vso)?\[)|^[ \t]*::|[\n\r\x85\u2028\u2029]")

#: Columns of a line of YAML: never fold one.
_WIDTH = 2**30
#: Approximate characters of one chunk.
_CHUNK = 64 << 10
#: Rows converted to YAML at once: the library uses 10 KB for each.
_AT_ONCE = 100


def json(value: Plain) -> str:
    """Return one indented document."""
    return "".join(chunks(value, "json"))


def jsonl(value: Plain) -> str:
    """Return one document on one line."""
    return "".join(chunks(value, "jsonl"))


def yaml(value: Plain) -> str:
    """Return one document that starts with `---`, so that several can be concatenated.

    Strings stay on one line, so that none of them can begin a line.
    """
    return "".join(chunks(value, "yaml"))


def chunks(value: Plain, form: str) -> Iterator[str]:
    """Yield a document in chunks, so that one with many rows is never in memory as a whole."""
    if form == "yaml":
        yield from _chunked(_yaml(value))
        return
    style = _LINE if form == "jsonl" else _INDENTED
    for chunk in _chunked(chain(_json(value, "\n", style), "\n")):
        # No string is split between chunks, so none can hide a command.
        yield _disarmed(chunk)


def _chunked(written: Iterable[str]) -> Iterator[str]:
    waiting: list[str] = []
    size = 0
    for text in written:
        waiting.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield "".join(waiting)
            waiting.clear()
            size = 0
    yield "".join(waiting)


class _Style(NamedTuple):
    """The layout of JSON: spaces per level, and the separator after a name."""

    indent: int | None
    colon: str


_INDENTED, _LINE = _Style(2, ": "), _Style(None, ":")


def _json(value: object, line: str, style: _Style) -> Iterator[str]:
    """Write JSON; values with rows member by member, others with the library."""
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
        for member in value:
            yield f"{before or '['}{inner}"
            if isinstance(value, list):
                yield from _json(member, inner, style)
            elif style.indent is None:
                yield from _whole(member, inner, style)
            else:
                yield _indented(member, inner)
            before = ","
        yield f"{end}]" if before else "[]"


def _whole(value: object, line: str, style: _Style) -> Iterator[str]:
    if style.indent is None:
        # The library does this in C.
        yield standard.dumps(value, ensure_ascii=True, separators=(",", style.colon))
        return
    # `dumps` would keep all fragments in memory, each a string of its own.
    for text in standard.JSONEncoder(indent=style.indent, ensure_ascii=True).iterencode(value):
        # A line break inside a string is escaped.
        yield text.replace("\n", line)


def _indented(value: object, line: str) -> str:
    """Write a small value without rows, three times as fast as the library (in Python there).

    `line` is a line break and the indentation of this level.
    """
    inner = f"{line}  "
    match value:
        case str():
            return encode_basestring_ascii(value)
        case int() if value is not True and value is not False:
            return str(value)
        case dict() if value:
            members = [
                f"{encode_basestring_ascii(name)}: {_indented(member, inner)}"
                for name, member in value.items()
            ]
            return f"{{{inner}{f',{inner}'.join(members)}{line}}}"
        case list() if value:
            return (
                f"[{inner}{f',{inner}'.join([_indented(member, inner) for member in value])}{line}]"
            )
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
    """Write YAML; a placeholder stands for rows, which are then written in batches."""
    import yaml as library  # noqa: PLC0415 - 15 ms, only for this format

    base: Any = getattr(library, "CSafeDumper", library.SafeDumper)
    careful: Any = type("Careful", (base,), {})
    careful.add_representer(str, _quoted)
    kept: list[Rows] = []
    # Random, so that no remote text can contain it.
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
            # A list is indented like the name of its member, which may follow a dash.
            indent = " " * (len(start) - len(start.lstrip(" -")))
            waiting = iter(rows)
            while batch := list(islice(waiting, _AT_ONCE)):
                yield "".join(f"{indent}{text}\n" for text in dumped(batch).splitlines())


def _quoted(dumper: Any, text: str) -> Any:
    """Write a string that could be a CI command in double quotes, where it can be escaped."""
    style = '"' if _CAREFUL.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _disarmed(text: str) -> str:
    """Escape the character that begins a CI command; it can only occur in a string."""
    return _COMMAND.sub(r"\\u0023", text)
