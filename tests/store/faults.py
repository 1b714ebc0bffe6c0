"""Make the store's calls to the operating system fail, or end the process at one of them."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
from typing import TYPE_CHECKING, Any

from resolver.store import files, folder, leases, partials, receive, store, uploads
from resolver.store import files as temporary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from resolver.store.store import LocalStore

#: Every function of `os` that the store calls.
WATCHED = frozenset(
    [
        "close",
        "fchmod",
        "fstat",
        "fsync",
        "ftruncate",
        "link",
        "listdir",
        "lseek",
        "mkdir",
        "open",
        "posix_fallocate",
        "pread",
        "preadv",
        "pwrite",
        "read",
        "rename",
        "rmdir",
        "scandir",
        "stat",
        "unlink",
        "utime",
        "write",
    ]
)
_MODULES = (store, files, folder, leases, partials, receive, temporary, uploads)


class Stopped(BaseException):
    """The process ends here; no handler of the code under test may catch it."""


class WatchedOs:
    """`os` with every call counted and a failure at call number `at`.

    Syncing is counted and not done: the tests check the order of calls, and a disk is slow.
    """

    def __init__(self, at: int, failure: Callable[[str], BaseException], *, lasting: bool) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._at = at
        self._failure = failure
        self._lasting = lasting
        self._open: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in WATCHED:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            number = len(self.calls)
            self.calls.append((name, arguments))
            if number == self._at or (self._lasting and number > self._at):
                raise self._failure(name)
            result: Any = None if name == "fsync" else real(*arguments, **options)
            if name == "open":
                self._open.add(result)
            if name == "close":
                self._open.discard(arguments[0])
            return result

        return call

    @property
    def is_reached(self) -> bool:
        """Whether there was a call of that number."""
        return len(self.calls) > self._at

    def names(self) -> list[str]:
        """Return the names of the calls, in order."""
        return [name for name, _ in self.calls]

    def end(self) -> None:
        """Close every file and so release locks, as the kernel does when a process ends."""
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()


def watch(
    monkeypatch: pytest.MonkeyPatch,
    at: int = 1 << 60,
    failure: Callable[[str], BaseException] | None = None,
) -> WatchedOs:
    """Replace `os` in the store: end at call `at`, or fail there with `failure`."""

    def stop(_name: str) -> BaseException:
        return Stopped()

    watched = WatchedOs(at, failure or stop, lasting=failure is None)
    for module in _MODULES:
        monkeypatch.setattr(module, "os", watched)
    return watched


def kill_at(at: int) -> WatchedOs:
    """Kill this process at call `at` of the store."""

    def kill(_name: str) -> BaseException:
        os.kill(os.getpid(), signal.SIGKILL)
        return Stopped()

    watched = WatchedOs(at, kill, lasting=False)
    for module in _MODULES:
        vars(module)["os"] = watched
    return watched


def no_room(_name: str) -> BaseException:
    """Fail as a full disk does."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken_disk(_name: str) -> BaseException:
    """Fail as a broken disk does."""
    return OSError(errno.EIO, os.strerror(errno.EIO))


def unverified(root: Path) -> list[Path]:
    """Return the files under a blob's name that do not have its digest."""
    return [
        path
        for algorithm in ("sha256", "sha512")
        for path in sorted((root / "blobs" / algorithm).glob("*"))
        if hashlib.new(algorithm, path.read_bytes()).hexdigest() != path.name
    ]


def litter(root: Path) -> list[str]:
    """Return the names of the files in `tmp`."""
    return sorted(path.name for path in (root / "tmp").glob("*"))


def is_clean(store: LocalStore) -> bool:
    """Return whether a store has no partials, leases, temporary or wrong files."""
    left = [*(store.root / "partial").iterdir(), *(store.root / "leases").iterdir()]
    return left == [] and litter(store.root) == [] and unverified(store.root) == []
