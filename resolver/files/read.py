"""Read files written by users and other tools: configuration, lists, locks, certificates.

Every such read goes through this module, so that none can block or exhaust memory: FIFOs, devices
and sockets are refused, and no file is read beyond its limit.
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
#: Paths of descriptors that are already open; opening one never blocks.
_OPENED = ("/dev/fd/", "/proc/self/fd/")


class NotRegular(OSError):
    """The file is a FIFO, a device or a socket; `strerror` names which."""


def read_regular(path: Path | str, limit: int) -> tuple[bytes, os.stat_result]:
    """Read a regular file, following links, and its status when it was opened.

    A pipe that the shell opened (`RESOLVER_CONFIG=<(command)`) is accepted too.

    Returns at most `limit + 1` bytes; the caller rejects a file that is longer, with a message that
    fits the file.

    Raises:
        NotRegular: the path is not a regular file.
        IsADirectoryError: the path is a folder.
        OSError: the system refuses (`FileNotFoundError` if there is no such file).
        ValueError: the path is invalid on every system.
    """
    return _read(path, limit, pipes=str(path).startswith(_OPENED))


def read_given(path: Path | str, limit: int) -> bytes:
    """Read a file named on the command line, also a pipe (`-f <(command)`), like `read_regular`."""
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
