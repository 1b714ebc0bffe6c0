"""A small terminal: what a person sees after a program has written its bytes."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+|\x1b.?")


class Screen:
    """Rows without end and a cursor: enough of ECMA-48 for live progress; else `AssertionError`.

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
        """Take in what was written."""
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
            assert letter == "m", f"nobody should need {letter!r}"
