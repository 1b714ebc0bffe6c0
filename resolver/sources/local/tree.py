"""Trees of files: what an OCI layout is made of, whether it lies in a folder or in an archive."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from resolver.errors import BadDocument, LimitExceeded, NotFound, Unavailable, UnsupportedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

#: Bytes handed over at once.
CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A link in place of a folder is ENOTDIR on Linux, ELOOP elsewhere.
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
# Never blocks on a FIFO, never follows a link, never leaks into a credential helper.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Tree(Protocol):
    """Regular files by relative name; whatever is no regular file does not exist.

    Attributes:
        path: of the folder or archive, for messages.

    """

    @property
    def path(self) -> str:
        """Of the folder or archive, for messages."""
        ...

    def size(self, name: str) -> int | None:
        """Say how many bytes a file has; None if there is none.

        Raises:
            Unavailable: the tree cannot be read.

        """
        ...

    def link(self, name: str) -> str | None:
        """Give the link because of which there is no such file: its name, or a folder's above it.

        Raises:
            Unavailable: the tree cannot be read.

        """
        ...

    def open(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """Stream a file that `size` says is there.

        Raises:
            NotFound: it is not there any more.
            Unavailable: it cannot be read.

        """
        ...


def read_small(tree: Tree, name: str, limit: int) -> bytes:
    """Read a file whole.

    Raises:
        BadDocument: it is not there.
        UnsupportedDocument: it is a link.
        LimitExceeded: it has more than `limit` bytes.

    """
    what = f"`{name}` in `{tree.path}`"
    size = tree.size(name)
    if size is None:
        refuse_link(tree, name)
        raise BadDocument(f"`{tree.path}`", name, "there is no such regular file in it")
    if size > limit:
        raise LimitExceeded(what, limit, size)
    kept = bytearray()
    with tree.open(name) as chunks:
        for chunk in chunks:
            kept += chunk
            # It may have grown since.
            if len(kept) > limit:
                raise LimitExceeded(what, limit, len(kept))
    return bytes(kept)


def refuse_link(tree: Tree, name: str) -> None:
    """Say that what seems to be missing is a link, which may lead out of the tree (R31).

    Raises:
        UnsupportedDocument: it is one.

    """
    link = tree.link(name)
    if link is not None:
        raise UnsupportedDocument(
            f"`{link}` in `{tree.path}`",
            "",
            "it is a link, and links in a layout are not followed",
            "copy the files that the links lead to: `cp -rL` for a folder, `tar -h` for an archive",
        )


@contextmanager
def unreadable(path: str) -> Iterator[None]:
    """Turn what the operating system refuses into ours; absence into `NotFound`."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"there is no `{path}`", "check the path, and where you are") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "make it readable for this user" if isinstance(error, PermissionError) else ""
        raise Unavailable(
            f"`{path}` cannot be read: {reason}", *([hint] if hint else [])
        ) from error


def open_given(path: str) -> tuple[int, os.stat_result]:
    """Open a folder or regular file that a person named, through links if they chose so.

    Raises:
        NotFound: there is nothing.
        UnsupportedDocument: it is neither; a FIFO or a device cannot be read twice.
        Unavailable: it cannot be read.

    """
    with unreadable(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return descriptor, status
    close(descriptor)
    raise UnsupportedDocument(f"`{path}`", "", "it is neither a file nor a folder")


def close(descriptor: int) -> None:
    """Close what was only read: no failure of that can matter."""
    with suppress(OSError):
        os.close(descriptor)


class FolderTree:
    """A folder. Names are walked one by one and no link is followed on the way (R31)."""

    def __init__(self, path: str) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Say how many bytes a file has; None if there is no regular file of this name."""
        with self._parent(name) as (folder, base), unreadable(self.path):
            if folder is None:
                return None
            try:
                status = os.stat(base, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def link(self, name: str) -> str | None:
        """Give the first link on the way to a file."""
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            part = "/".join(parts[:count])
            with self._parent(part) as (folder, base), unreadable(self.path):
                if folder is None:
                    return None
                try:
                    status = os.stat(base, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    return None
            if stat.S_ISLNK(status.st_mode):
                return part
        return None

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Stream a file."""
        where = f"{self.path}/{name}"
        with self._parent(name) as (folder, base), unreadable(where):
            if folder is None:
                raise FileNotFoundError
            descriptor = os.open(base, _FILE, dir_fd=folder)
        try:
            with unreadable(where):
                # What `size` saw may have been replaced before it was opened.
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise FileNotFoundError
            yield _chunks(descriptor, where)
        finally:
            close(descriptor)

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int | None, str]]:
        """Open the folder a name lies in; None if it, or one on the way, is no real folder."""
        *folders, base = name.split("/")
        with unreadable(self.path):
            here: int | None = os.open(self.path, _FOLDER)
        try:
            for inner in folders:
                here = self._enter(here, inner)
            yield here, base
        finally:
            if here is not None:
                close(here)

    def _enter(self, outer: int | None, name: str) -> int | None:
        """Swap an open folder for one inside it."""
        if outer is None:
            return None
        try:
            with unreadable(f"{self.path}/{name}"):
                try:
                    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
                except OSError as error:
                    if error.errno in _NO_FOLDER:
                        return None
                    raise
        finally:
            close(outer)


def _chunks(descriptor: int, where: str) -> Iterator[bytes]:
    with unreadable(where):
        while chunk := os.read(descriptor, CHUNK):
            yield chunk
