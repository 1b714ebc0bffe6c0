"""JSON, JSON lines and YAML: answers for machines, ASCII only, in a stable order."""

from __future__ import annotations

import json as standard
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolver.render.plain import Plain


def json(value: Plain) -> str:
    """One document, indented."""
    return standard.dumps(value, indent=2, ensure_ascii=True) + "\n"


def jsonl(value: Plain) -> str:
    """One document on one line."""
    return standard.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n"


def yaml(value: Plain) -> str:
    """One document that starts with `---`, so that several can follow one another."""
    import yaml as library  # noqa: PLC0415 - 15 ms, for this format alone

    dumper = getattr(library, "CSafeDumper", library.SafeDumper)
    text: str = library.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=False)
    return f"---\n{text}"
