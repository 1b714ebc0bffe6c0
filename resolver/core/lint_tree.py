"""Names in layers that may be known in part: top layer first, whiteouts respected, links as data.

Nothing is ever opened by these names. Source: OCI image-spec v1.1.1, layer.md.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.tar_reader import Kind
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.executable import Executable

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
#: Where a Windows layer keeps its files. Source: OCI image-spec, layer.md; hcsshim, ociwclayer.
WINDOWS_ROOT = "files/"
#: Links followed on the way to one file. Source: Linux, MAXSYMLINKS.
_MAX_LINKS = 40
#: Names looked up on the way to one file, those in the targets of links included.
_MAX_STEPS = 1_024


class Entry(NamedTuple):
    """What a layer says of a name.

    Attributes:
        target: of a link, as written.
        executable: None unless it is a program.
        interpreter: what follows `#!` in a script; empty for anything else.
    """

    kind: Kind
    target: str = ""
    executable: Executable | None = None
    interpreter: str = ""


@dataclass(slots=True)
class Names:
    """The names of one layer, as far as it was read.

    Attributes:
        removed: what it takes away from the layers below.
        opaque: folders of which it takes away all that is below.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)

    def add(self, path: str, entry: Entry) -> None:
        """Take in a name; the last of its kind wins."""
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            self.opaque.add(folder)
        elif name.startswith(_WHITEOUT):
            self.removed.add(f"{folder}/{name[len(_WHITEOUT) :]}".lstrip("/"))
        else:
            self.entries[path] = entry

    def hides(self, path: str) -> bool:
        """Say whether what lower layers have under a name is gone."""
        if path in self.removed or "" in self.opaque:
            return True
        folder = path
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in self.removed or folder in self.opaque:
                return True
        return False


@dataclass(slots=True)
class View:
    """The names of one layer, for Unix, and for Windows, which looks below `Files`."""

    unix: Names = field(default_factory=Names)
    windows: Names = field(default_factory=Names)

    def add(self, path: str, entry: Entry) -> None:
        """Take in a name in normal form."""
        self.unix.add(path, entry)
        lowered = path.lower()
        if lowered.startswith(WINDOWS_ROOT):
            self.windows.add(lowered.removeprefix(WINDOWS_ROOT), entry)


class Hit(NamedTuple):
    """What a search ended with.

    Attributes:
        path: of the file itself, links followed; empty when it was not found.
        layer: position of the layer that has it, counted from the top.
        entry: None when it was not found.
        missed: names that were looked for in vain: one of them, if it comes, may change this.
    """

    path: str
    layer: int
    entry: Entry | None
    missed: frozenset[str]


def normal(path: str) -> str:
    """Spell a name without leading slash, empty parts, `.` and `..`; nothing is above the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def find(layers: Sequence[Names], path: str) -> Hit:
    """Look a name up, links followed, in layers of which the first is the top one."""
    rest = path.split("/")[::-1]
    here: list[str] = []
    missed: set[str] = set()
    links = steps = 0
    while rest and steps < _MAX_STEPS:
        steps += 1
        part = rest.pop()
        if part == "..":
            del here[-1:]
        if part in {"", ".", ".."}:
            continue
        name = "/".join((*here, part))
        layer, entry = _look(layers, name)
        if entry is None:
            missed.add(name)
            # Archives need not name a folder before what is in it.
            here.append(part)
        elif entry.kind in {Kind.SYMLINK, Kind.HARD_LINK}:
            links += 1
            if links > _MAX_LINKS:
                break
            if entry.kind is Kind.HARD_LINK or entry.target.startswith("/"):
                here = []
            rest += entry.target.split("/")[::-1]
        elif not rest:
            return Hit(name, layer, entry, frozenset(missed))
        else:
            here.append(part)
    return Hit("", 0, None, frozenset(missed))


def _look(layers: Sequence[Names], name: str) -> tuple[int, Entry | None]:
    for number, names in enumerate(layers):
        entry = names.entries.get(name)
        if entry is not None:
            return number, entry
        if names.hides(name):
            break
    return 0, None
