"""Run the command on a pseudo-terminal and read its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

from tests.processes import ROOT
from tests.render.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds after which a program that says nothing more has failed the test.
PATIENCE = 30.0


class Terminal:
    """Runs `resolver` with stderr on a terminal of 80 columns; stdout goes to a pipe.

    Attributes:
        screen: what a person sees.
        raw: every character that came.

    """

    def __init__(self, *words: str, **variables: str) -> None:
        self.screen = Screen(80)
        self.raw = ""
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "resolver", *words],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=environment,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._terminal)

    def until(self, seen: Callable[[Screen], bool]) -> None:
        """Read until the screen looks like that."""
        deadline = time.monotonic() + PATIENCE
        while not seen(self.screen):
            assert self._read(deadline), f"it ended with:\n{self.raw}"

    def type(self, text: str) -> None:
        """Type something, and a line's end."""
        os.write(self._terminal, f"{text}\n".encode())

    def end(self) -> tuple[int, str]:
        """Read to the end; return the status and stdout."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            continue
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.decode()

    def _read(self, deadline: float) -> bool:
        """Read available output; False once the other side is closed."""
        ready, _, _ = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing more came after:\n{self.raw}"
        try:
            body = os.read(self._terminal, 65_536)
        except OSError:
            # Linux says EIO when the last writer has gone.
            return False
        text = body.decode()
        self.raw += text
        self.screen.feed(text)
        return bool(body)


def on_terminal(*words: str, columns: int) -> str:
    """Run `resolver` with stdout on a terminal of this width; return its output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "resolver", *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(theirs)
    text = b""
    try:
        while body := os.read(ours, 65_536):
            text += body
    except OSError:
        # Linux says EIO when the last writer has gone.
        pass
    finally:
        process.wait(PATIENCE)
        os.close(ours)
    return text.decode().replace("\r\n", "\n")
