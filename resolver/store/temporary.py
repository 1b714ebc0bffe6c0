"""Files that are being written: nothing has their real name before all of it is on the disk."""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.errors import StoreFault
from resolver.store.files import close, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.store.files import Folder

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: What may be lying in `tmp`; nothing else there is ever touched.
TEMPORARY = re.compile(r"(?:new|bad)-[0-9a-f]{32}")


def aside() -> str:
    """Make a name in `tmp` for what is not what it should be; collection removes it."""
    return f"bad-{os.urandom(16).hex()}"


def is_aside(name: str) -> bool:
    """Whether this is the name of something that was set aside."""
    return name.startswith("bad-") and TEMPORARY.fullmatch(name) is not None


def settle(source: Folder, name: str, folder: Folder, target: str, *, tmp: Folder) -> None:
    """Give a finished file its real name, whatever is there by now."""
    status = folder.look(target)
    if status is not None and stat.S_ISDIR(status.st_mode):
        # The one thing a rename cannot replace; somebody else made it.
        folder.move(target, tmp, aside())
    source.move(name, folder, target)


class Temporary:
    """A file being written; it exists under a temporary name until it is published."""

    def __init__(self, folder: Folder, *, sync: bool) -> None:
        self.name = f"new-{os.urandom(16).hex()}"
        self._folder = folder
        self._sync = sync
        self._path = folder.where(self.name)
        self._published = False
        self._open = False
        with faults(self._path):
            self._descriptor = os.open(self.name, _NEW, 0o600, dir_fd=folder.descriptor)
        self._open = True

    def write(self, chunk: bytes) -> None:
        """Append bytes, all of them."""
        rest = memoryview(chunk)
        with faults(self._path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def publish(self, folder: Folder, name: str, *, mode: int) -> None:
        """Give the file its real name, durably: sync, mode, close, rename, sync the folder (R33).

        A failed sync is final: the pages it lost are marked clean, and a second sync would
        succeed without having written them. So the file is dropped, never synced again.
        """
        with faults(self._path):
            if self._sync:
                os.fsync(self._descriptor)
            os.fchmod(self._descriptor, mode)
            self._open = False
            os.close(self._descriptor)
        settle(self._folder, self.name, folder, name, tmp=self._folder)
        self._published = True
        if self._sync:
            folder.sync()

    def discard(self) -> None:
        """Remove what was not published; a failure here must not hide the one before it."""
        if self._open:
            self._open = False
            close(self._descriptor)
        if not self._published:
            with suppress(StoreFault):
                self._folder.remove(self.name)


@contextmanager
def temporary(folder: Folder, *, sync: bool) -> Iterator[Temporary]:
    """Write a file that disappears again unless it is published, whatever happens."""
    file = Temporary(folder, sync=sync)
    try:
        yield file
    finally:
        file.discard()
