"""Regular files: opened where they lie, through no link, and never waited for."""

from __future__ import annotations

import errno
import os
import stat
from typing import IO

from resolver.values import dataclass

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class RegularFile:
    """A file by the folder that somebody chose and the names below it, which nobody did.

    Attributes:
        folder: may be, or lead through, links: it is the choice of a person.
        names: below it; the last is the file's.

    """

    folder: str
    names: tuple[str, ...]

    def open(self) -> IO[bytes]:
        """Open it for reading, unbuffered; the caller closes it.

        Raises:
            FileNotFoundError: there is nothing.
            OSError: it, or a folder on the way, is something else than it must be: a link, a
                FIFO that would block, a device.

        """
        here = os.open(self.folder, _FOLDER)
        try:
            for name in self.names[:-1]:
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = inner
            number = os.open(self.names[-1], _FILE, dir_fd=here)
        finally:
            os.close(here)
        file = os.fdopen(number, "rb", buffering=0) if _is_regular(number) else None
        if file is None:
            os.close(number)
            raise OSError(errno.EINVAL, "it is no regular file", self.path)
        return file

    @property
    def path(self) -> str:
        """For messages."""
        return "/".join((self.folder, *self.names))


def _is_regular(number: int) -> bool:
    # `fdopen` itself refuses a folder, in words of its own.
    return stat.S_ISREG(os.fstat(number).st_mode)
