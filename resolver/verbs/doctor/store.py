"""The store: is it there, whose is it, is there room, and can it be locked and written?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.errors import StoreFault
from resolver.store.files import file_systems, is_remote
from resolver.verbs.doctor.machine import failed, note, ok, warning, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.doctor import CheckupRow, Fact
    from resolver.verbs.doctor.machine import MachineReport

_GROUP = "store"
#: Bytes below which a pull of something ordinary may not fit.
LITTLE_ROOM = 1 << 30
_ANOTHER = "name another folder with `--store` or `RESOLVER_STORE`"


def folder(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the owner of the folder; a missing one is created on first use."""
    root = machine.store.root
    is_store = machine.store.look()
    facts: dict[str, Fact] = {"path": str(root), "exists": is_store is not None}
    if is_store:
        yield ok(_GROUP, "folder", str(root), **facts)
        return
    if is_store is False:
        yield ok(_GROUP, "folder", f"{root} (empty; becomes a store on first use)", **facts)
        return
    above = _existing(root)
    if os.access(above, os.W_OK | os.X_OK):
        yield ok(_GROUP, "folder", f"{root} (does not exist yet; created on first use)", **facts)
        return
    yield wrong(_GROUP, "folder", f"{root} cannot be made: `{above}` is not writable", _ANOTHER)


def access(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report which other users can change the store; `folder` reports what is refused for it."""
    try:
        is_there = machine.store.look() is not None
    except StoreFault:
        return
    doubts = machine.store.doubts()
    facts: dict[str, Fact] = {"doubts": doubts, "shared": machine.settings.shared_store}
    if not doubts:
        return
    found = "; ".join(doubts)
    if machine.settings.shared_store:
        accepted = f"{found}; `--shared-store` trusts them"
        yield note(_GROUP, "access", accepted, "", **facts)
        return
    hint = f"remove the write permission of others with `chmod`, or {_ANOTHER}"
    yield (warning if is_there else wrong)(_GROUP, "access", found, hint, **facts)


def content(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report how much the store holds."""
    if not _is_store(machine):
        return
    used = machine.store.usage()
    total = used.blobs + used.partial + used.temporary
    images = len(used.images)
    found = f"{images} image{'' if images == 1 else 's'}, {_size(total)}"
    facts: dict[str, Fact] = {"images": images, "bytes": total, "unused": used.unused}
    if used.unused > total // 2 and used.unused > LITTLE_ROOM:
        hint = "resolver gc"
        yield note(_GROUP, "content", f"{found}; {_size(used.unused)} unused", hint, **facts)
        return
    yield ok(_GROUP, "content", found, **facts)


def room(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the free space."""
    place = os.statvfs(_existing(machine.store.root))
    free = place.f_bavail * place.f_frsize
    found = f"{_size(free)} free"
    if place.f_files and not place.f_favail:
        yield wrong(_GROUP, "room", "the file system has no free inodes", "resolver gc", bytes=free)
    elif free < LITTLE_ROOM:
        yield warning(_GROUP, "room", found, f"resolver gc, or {_ANOTHER}", bytes=free)
    else:
        yield ok(_GROUP, "room", found, bytes=free)


def file_system(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the file system; locks on a network one may hold on this machine only."""
    kinds = file_systems(_existing(machine.store.root).stat().st_dev)
    remote = [kind for kind in kinds if is_remote(kind)]
    shown = ", ".join(kinds) or "not known"
    facts: dict[str, Fact] = {"kinds": kinds, "remote": bool(remote)}
    if not remote:
        yield ok(_GROUP, "file system", shown, **facts)
    elif not machine.settings.lock:
        found = f"{shown}, over a network; `--unsafe-no-lock` declares that it is not shared"
        yield warning(_GROUP, "file system", found, "use a folder on a local disk", **facts)
    else:
        hint = f"{_ANOTHER} on a local disk, or `--unsafe-no-lock` if it is not shared"
        found = f"{shown}: over a network, where locks cannot be relied on"
        yield wrong(_GROUP, "file system", found, hint, **facts)


def writing(machine: MachineReport) -> Iterator[CheckupRow]:
    """Take the lock and write a file, in a store that is there; make none that is not."""
    if not _is_store(machine):
        return
    try:
        machine.store.try_writing()
    except StoreFault as error:
        yield failed(_GROUP, "writing", error)
        return
    locked = "a file was written and removed" if machine.settings.lock else "written without a lock"
    yield ok(_GROUP, "writing", f"{'locked; ' if machine.settings.lock else ''}{locked}")


def _is_store(machine: MachineReport) -> bool:
    """Whether there is a store; `folder` reports one that cannot be used."""
    try:
        return machine.store.look() is True
    except StoreFault:
        return False


def _existing(path: Path) -> Path:
    """Return the nearest folder that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def _size(count: int) -> str:
    """Format a number of bytes with a unit."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004 - the step of SI units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
