"""Files that people and other tools write for us: configuration, lists, locks, certificates.

Every one of them is read through here, so that none can make a command wait or fill its memory:
a FIFO, a device and a socket are refused, and no file is read beyond its limit.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Opening a FIFO would wait for its other end, and a terminal could become our own.
_READ = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
)
_CHUNK = 65_536
#: Names of what is open already; nobody has to be waited for to open it.
_OPENED = ("/dev/fd/", "/proc/self/fd/")


class NotRegular(OSError):
    """It is a FIFO, a device or a socket; `strerror` says so."""


def read_regular(path: Path | str, limit: int) -> tuple[bytes, os.stat_result]:
    """Read a regular file, through links, and its status as it was opened.

    A pipe that the shell has opened for us (`RESOLVER_CONFIG=<(command)`) is as good.

    Gives at most `limit + 1` bytes: whoever calls refuses the one that is too many, in the words
    that fit the file.

    Raises:
        NotRegular: it is no regular file.
        IsADirectoryError: it is a folder.
        OSError: the system refuses (`FileNotFoundError`: there is none).
        ValueError: no system takes such a path.
    """
    return _read(path, limit, pipes=str(path).startswith(_OPENED))


def read_given(path: Path | str, limit: int) -> bytes:
    """Read a file that was named on the command line, which may be a pipe: `-f <(command)`.

    A FIFO that nobody writes to is empty. Limit and errors are those of `read_regular`.
    """
    return _read(path, limit, pipes=True)[0]


def _read(path: Path | str, limit: int, *, pipes: bool) -> tuple[bytes, os.stat_result]:
    descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not (stat.S_ISREG(mode) or (pipes and (stat.S_ISFIFO(mode) or os.isatty(descriptor)))):
            raise NotRegular(errno.EINVAL, "it is not a regular file", str(path))
        body = bytearray()
        while len(body) <= limit:
            try:
                chunk = os.read(descriptor, min(_CHUNK, limit + 1 - len(body)))
            except BlockingIOError:
                select.select([descriptor], [], [])
                continue
            if not chunk:
                break
            body += chunk
        return bytes(body), status
    finally:
        os.close(descriptor)
