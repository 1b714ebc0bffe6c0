"""Trees of files: the common view of a folder and an archive."""

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

#: Bytes read at a time.
CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A link in place of a folder is ENOTDIR on Linux, ELOOP elsewhere.
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
# Never blocks on a FIFO, never follows a link, never leaks into a credential helper.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Tree(Protocol):
    """Regular files by relative name; anything else counts as absent.

    Attributes:
        path: of the folder or archive, for messages.
    """

    @property
    def path(self) -> str:
        """Path of the folder or archive, for messages."""
        ...

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if absent.

        Raises:
            Unavailable: the tree cannot be read.
        """
        ...

    def link(self, name: str) -> str | None:
        """Return the link that stands in place of a file or of one of its parent folders.

        Raises:
            Unavailable: the tree cannot be read.
        """
        ...

    def open(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """Stream a file for which `size` returned a size.

        Raises:
            NotFound: it was removed.
            Unavailable: it cannot be read.
        """
        ...


def read_small(tree: Tree, name: str, limit: int) -> bytes:
    """Read a file whole.

    Raises:
        BadDocument: it is absent.
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
            # It may have grown.
            if len(kept) > limit:
                raise LimitExceeded(what, limit, len(kept))
    return bytes(kept)


def refuse_link(tree: Tree, name: str) -> None:
    """Raise if a missing file is a link, which could lead out of the tree.

    Raises:
        UnsupportedDocument: it is a link.
    """
    link = tree.link(name)
    if link is not None:
        raise UnsupportedDocument(
            f"`{link}` in `{tree.path}`",
            "",
            "it is a link, and links in a layout are not followed",
            "copy the files they point to: `cp -rL` for a folder, `tar -h` for an archive",
        )


@contextmanager
def unreadable(path: str) -> Iterator[None]:
    """Convert an `OSError`; absence becomes `NotFound`."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"there is no `{path}`", "check the path, and the working folder") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "make it readable for this user" if isinstance(error, PermissionError) else ""
        raise Unavailable(
            f"`{path}` cannot be read: {reason}", *([hint] if hint else [])
        ) from error


def open_path(path: str) -> tuple[int, os.stat_result]:
    """Open a folder or regular file named by the user, following links.

    Raises:
        NotFound: it does not exist.
        UnsupportedDocument: it is neither; a FIFO or device cannot be read twice.
    """
    with unreadable(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return descriptor, status
    close(descriptor)
    raise UnsupportedDocument(f"`{path}`", "", "it is neither a file nor a folder")


def close(descriptor: int) -> None:
    """Close a file that was only read; failures are ignored."""
    with suppress(OSError):
        os.close(descriptor)


class FolderTree:
    """A folder, opened name by name without following links.

    See docs/store-and-reliability.md, "Opening files".
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Return the size of a regular file in bytes; None if absent."""
        with self._parent(name) as (folder, base), unreadable(self.path):
            if folder is None:
                return None
            try:
                status = os.stat(base, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def link(self, name: str) -> str | None:
        """Return the first link on the path to a file."""
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
                # It may have been replaced between `size` and `open`.
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise FileNotFoundError
            yield _chunks(descriptor, where)
        finally:
            close(descriptor)

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int | None, str]]:
        """Open the parent folder of a name; None unless all its parents are real folders."""
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
        """Open a subfolder and close its parent."""
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
