"""Run the command on a pseudo-terminal and read its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTROL = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+|\x1b.?")
#: Seconds without output after which the test fails.
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
        """Type a line."""
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


def on_terminal(*words: str, columns: int, **variables: str) -> str:
    """Run `resolver` with stdout on a terminal of this width; return its output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "resolver", *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
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


class Screen:
    """Unlimited rows and a cursor: enough of ECMA-48 for live progress; else `AssertionError`.

    Attributes:
        cursor_shown: as DEC private mode 25 left it.
        highest: most rows in use at once.

    """

    def __init__(self, width: int = 80) -> None:
        self._width = width
        self._rows: list[list[str]] = [[]]
        self._row = 0
        self._column = 0
        self.cursor_shown = True

    def feed(self, text: str) -> None:
        """Process written text."""
        for match in _CONTROL.finditer(text):
            if match[3]:
                self._control(match[1], match[2], match[3])
            elif match[0] == "\r":
                self._column = 0
            elif match[0] == "\n":
                self._down()
            else:
                assert not match[0].startswith("\x1b"), match[0]
                for character in match[0]:
                    self._put(character)

    def lines(self) -> list[str]:
        """Return the rows without trailing spaces."""
        rows = ["".join(row).rstrip() for row in self._rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def _down(self) -> None:
        self._row += 1
        self._column = 0
        while len(self._rows) <= self._row:
            self._rows.append([])

    def _put(self, character: str) -> None:
        if self._column == self._width:
            self._down()
        row = self._rows[self._row]
        row += [" "] * (self._column + 1 - len(row))
        row[self._column] = character
        self._column += 1

    def _control(self, private: str, numbers: str, letter: str) -> None:
        if private:
            assert numbers == "25", numbers
            self.cursor_shown = letter == "h"
        elif letter == "A":
            self._row = max(0, self._row - int(numbers or "1"))
        elif letter == "K":
            # 2: all of the line; 0: from the cursor on.
            del self._rows[self._row][0 if numbers == "2" else self._column :]
        else:
            assert letter == "m", f"unsupported control sequence {letter!r}"
