"""Places: where a report says that something is, and how it knows it again.

Code scanning and merge request widgets show what has a file and a line. What was found in a
registry has neither: it is put at the file that named the images (`-f images.txt`, a policy, a
lock file), and without one at a path made of the reference, which is stable and is no file.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from resolver.render.annotations import relative

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.ending import Ending, Fault
    from resolver.core.findings import Finding

_STRANGE = re.compile(r"[^A-Za-z0-9._/@-]+")


class Spot(NamedTuple):
    """A file, as seen from where the command ran, and a line and column from 1."""

    path: str
    line: int
    column: int


def spot(found: Finding | Fault, ending: Ending) -> Spot:
    """Say where something is to be shown."""
    place = getattr(found, "place", None)
    path = relative(place.path, ending.folder) if place is not None else ""
    if place is not None and path:
        return Spot(path, place.line, place.column)
    if ending.source:
        return Spot(relative(ending.source, ending.folder), 1, 1)
    parts = _STRANGE.sub("_", found.subject or ending.command).split("/")
    return Spot("/".join(("images", *(part for part in parts if part.strip(".")))), 1, 1)


def fingerprints(found: Iterable[Finding], ending: Ending) -> tuple[str, ...]:
    """Give each finding a name that it keeps while lines move and digests change.

    Rule, subject, platform and file make it; of several alike, also which of them it is.
    """
    seen: dict[str, int] = {}
    names = []
    for finding in found:
        path = spot(finding, ending).path
        parts = (finding.rule, finding.subject, finding.platform, path)
        text = hashed(*parts)
        seen[text] = seen.get(text, 0) + 1
        names.append(text if seen[text] == 1 else hashed(*parts, str(seen[text])))
    return tuple(names)


def hashed(*parts: str) -> str:
    """Hash texts that may hold anything; 32 hex digits."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]
