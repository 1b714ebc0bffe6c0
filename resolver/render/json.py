"""JSON, JSON lines and YAML: answers for machines, ASCII only, in a stable order."""

from __future__ import annotations

import json as standard
import re
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resolver.render.plain import Plain

#: What GitHub and Azure take as a command wherever it stands (`render.escape`).
_COMMAND = re.compile(r"#(?=#(?:vso)?\[)")
#: Strings that YAML would write so that a line of theirs could be a command.
_CAREFUL = re.compile(r"#(?=#(?:vso)?\[)|^[ \t]*::|[\n\r\x85\u2028\u2029]")

#: Of a line of YAML: none is ever folded.
_WIDTH = 2**30


def json(value: Plain) -> str:
    """One document, indented."""
    # `dumps` would keep the pieces of it all at once, each a string of its own: for the million
    # paths that two images may differ in, more than three times what they come to.
    written = StringIO()
    for piece in standard.JSONEncoder(indent=2, ensure_ascii=True).iterencode(value):
        written.write(piece)
    written.write("\n")
    return _disarmed(written.getvalue())


def jsonl(value: Plain) -> str:
    """One document on one line."""
    return _disarmed(standard.dumps(value, ensure_ascii=True, separators=(",", ":"))) + "\n"


def yaml(value: Plain) -> str:
    """One document that starts with `---`, so that several can follow one another.

    Strings stay on their line, so that none of theirs begins one.
    """
    import yaml as library  # noqa: PLC0415 - 15 ms, for this format alone

    base: Any = getattr(library, "CSafeDumper", library.SafeDumper)
    careful: Any = type("Careful", (base,), {})
    careful.add_representer(str, _quoted)
    written: str = library.dump(
        value, Dumper=careful, sort_keys=False, allow_unicode=False, width=_WIDTH
    )
    return "---\n" + _COMMAND.sub(r"\\x23", written)


def _quoted(dumper: Any, text: str) -> Any:
    """Write a string that could speak to a CI system in double quotes, where all can be escaped."""
    style = '"' if _CAREFUL.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _disarmed(text: str) -> str:
    """Write the sign that begins a command as an escape; it can only stand in a string."""
    return _COMMAND.sub(r"\\u0023", text)
