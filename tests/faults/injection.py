"""Faults from inside: the n-th call that changes a store ends the process, fails, or falls short.

What `crashpoint.so` does from outside by LD_PRELOAD, done by replacing functions of `os`; so it
also runs where nothing can be compiled. Calls that touch no path below the store do not count.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

#: Functions of `os` that change something, and where in their arguments the descriptor or path is.
BY_DESCRIPTOR = ("write", "pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "fchmod")
BY_PATH = ("open", "unlink", "rmdir", "mkdir")
BY_TWO = ("rename", "replace", "link")
CHANGES = frozenset({*BY_DESCRIPTOR, *BY_PATH, *BY_TWO, "copy_file_range"})


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to inject.

    Attributes:
        store: only calls below this folder count.
        at: number of the call, from 0; -1 for none: calls are only counted and logged.
        error: errno to fail with; 0 kills the process; -1 lets a write fall short by half.
        lasting: all later calls fail too.
        functions: that count; empty for all that change something. `close`, `flock` and `fsync`
            of folders ("fsync-folder") are only counted when they are named.
        below: only paths with this text in them count.
        log: a file that each call is written to, as JSON.
    """

    store: str
    at: int = -1
    error: int = 0
    lasting: bool = False
    functions: tuple[str, ...] = ()
    below: str = ""
    log: str = ""

    def packed(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def unpack(cls, values: dict[str, Any]) -> Fault:
        """Read the output of `packed`."""
        return cls(**{**values, "functions": tuple(values["functions"])})


@dataclass
class Injector:
    """Replaces functions of `os` in this process."""

    fault: Fault
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    real: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def install(self) -> None:
        """Replace the functions in this process, permanently."""
        for name in BY_DESCRIPTOR:
            self._replace(name, lambda a, _k: _of(a[0]))
        self._replace("copy_file_range", lambda a, _k: _of(a[1]))
        for name in BY_PATH:
            self._replace(name, lambda a, k: _joined(a[0], k.get("dir_fd")))
        for name in BY_TWO:
            self._replace(
                name,
                lambda a, k: (
                    _joined(a[0], k.get("src_dir_fd")) + " -> " + _joined(a[1], k.get("dst_dir_fd"))
                ),
            )
        if "close" in self.fault.functions:
            self._replace("close", lambda a, _k: _of(a[0]))
        if "flock" in self.fault.functions:
            self._replace("flock", lambda a, _k: _of(a[0]), home=fcntl)

    def _replace(self, name: str, where: Callable[[Any, Any], str], home: Any = os) -> None:
        real = self.real[name] = getattr(home, name)

        def call(*arguments: Any, **options: Any) -> Any:
            reads = name == "open" and not (arguments[1] & _WRITES)
            path = "" if reads else where(arguments, options)
            if reads or not path.rpartition(" -> ")[2].startswith(self.fault.store):
                return real(*arguments, **options)
            if self._is_due(name, path):
                return self._act(name, real, arguments, options)
            return real(*arguments, **options)

        setattr(home, name, call)

    def _is_due(self, name: str, path: str) -> bool:
        """Count and log a call; return whether it is the one to fail."""
        fault = self.fault
        if fault.functions and name not in fault.functions:
            return False
        if fault.below not in path:
            return False
        with self.lock:
            number = self.count
            self.count += 1
            if fault.log:
                self._log(number, name, path)
        return number == fault.at or (fault.lasting and 0 <= fault.at < number)

    def _act(self, name: str, real: Callable[..., Any], arguments: Any, options: Any) -> Any:
        error = self.fault.error
        if error == 0:
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()
        if error == -1:
            descriptor, body, *rest = arguments
            return real(descriptor, bytes(body)[: max(len(body) // 2, 1)], *rest)
        if name == "close":
            real(*arguments, **options)
        raise OSError(error, os.strerror(error))

    def _log(self, number: int, name: str, path: str) -> None:
        line = json.dumps([number, name, path]).encode() + b"\n"
        opened = self.real["open"](self.fault.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self.real["write"](opened, line)
        finally:
            self.real.get("close", os.close)(opened)


def _of(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""


def _joined(path: Any, folder: int | None) -> str:
    text = os.fspath(path)
    if not isinstance(text, str):
        return ""
    return text if folder is None or text.startswith("/") else f"{_of(folder)}/{text}"
