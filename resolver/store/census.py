"""One look at everything in a store, before anything is decided about it."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

from resolver.core.digest import HEX_DIGITS, Digest
from resolver.errors import StoreFault
from resolver.store.leases import LEASE, is_living
from resolver.store.partials import DATA, LOCK, META
from resolver.store.temporary import TEMPORARY
from resolver.values import dataclass

if TYPE_CHECKING:
    import os

    from resolver.store.files import Folder

_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Loose:
    """Something that is left over, or that somebody works on.

    Attributes:
        folder: `partial`, `tmp` or `leases`.
        size: in bytes, as far as it counts.
        changed: when somebody last did something to it, in seconds since 1970.
        is_living: whether somebody holds its lock.

    """

    folder: str
    name: str
    size: int
    changed: float
    is_living: bool


def blob_files(root: Folder) -> dict[Digest, os.stat_result]:
    """Give what lies in `blobs` under a digest's name, whatever it is; other names are foreign.

    Raises:
        StoreFault: it cannot be listed.

    """
    found: dict[Digest, os.stat_result] = {}
    for algorithm in HEX_DIGITS:
        folder = root.enter("blobs", algorithm)
        if folder is None:
            continue
        with folder:
            for name in folder.entries():
                if len(name) == HEX_DIGITS[algorithm] and _HEX.fullmatch(name):
                    status = folder.look(name)
                    if status is not None:
                        found[Digest(algorithm, name)] = status
    return found


def partials(root: Folder) -> list[Loose]:
    """List the transfers, under way or left behind.

    Raises:
        StoreFault: they cannot be listed.

    """
    parent = root.enter("partial")
    if parent is None:
        return []
    with parent:
        found = [_partial(parent, name) for name in parent.entries() if _digest_of(name)]
    return [loose for loose in found if loose is not None]


def temporaries(root: Folder) -> list[Loose]:
    """List what is lying in `tmp`, our own only.

    Raises:
        StoreFault: it cannot be listed.

    """
    return _plain(root, "tmp", TEMPORARY)


def leases(root: Folder) -> list[Loose]:
    """List the leases, of the living and of the dead.

    Raises:
        StoreFault: they cannot be listed.

    """
    return _plain(root, "leases", LEASE)


def _plain(root: Folder, where: str, pattern: re.Pattern[str]) -> list[Loose]:
    folder = root.enter(where)
    if folder is None:
        return []
    found: list[Loose] = []
    with folder:
        for name in folder.entries():
            status = folder.look(name) if pattern.fullmatch(name) else None
            if status is not None:
                alive = where == "leases" and is_living(folder, name)
                found.append(Loose(where, name, status.st_size, status.st_mtime, alive))
    return found


def _partial(parent: Folder, name: str) -> Loose | None:
    try:
        folder = parent.enter(name)
    except StoreFault as error:
        if isinstance(error.__cause__, NotADirectoryError):
            return None
        raise
    if folder is None:
        return None
    with folder:
        present = [
            (inner, status)
            for inner in (DATA, META, LOCK)
            if (status := folder.look(inner)) is not None
        ]
        alive = is_living(folder, LOCK)
        own = parent.look(name)
    times = [status.st_mtime for _, status in present]
    changed = max(times, default=own.st_mtime if own is not None else 0.0)
    # What is reserved, not what has come: that is what the disk is missing.
    size = sum(
        status.st_size
        for inner, status in present
        if inner == DATA and stat.S_ISREG(status.st_mode)
    )
    return Loose("partial", name, size, changed, alive)


def _digest_of(name: str) -> bool:
    algorithm, _, digits = name.partition("-")
    return len(digits) == HEX_DIGITS.get(algorithm) and bool(_HEX.fullmatch(digits))
