"""A pseudo-terminal with a small model of its screen: what a person would see."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

_CODE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b.|[\r\n]|[^\x1b\r\n]+", re.DOTALL)


class Screen:
    """Rows of text and a cursor; a narrower window breaks long rows, as terminals of today do."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: list[str] = [""]
        self.row = self.column = 0
        self.colours: set[str] = set()

    def feed(self, text: str) -> None:
        for found in _CODE.finditer(text):
            piece = found[0]
            if found[2]:
                self._control(found[1], found[2])
            elif piece == "\r":
                self.column = 0
            elif piece == "\n":
                self.row += 1
                self.column = 0  # the tty has made \r\n of it
                while len(self.rows) <= self.row:
                    self.rows.append("")
            elif not piece.startswith("\x1b"):
                for character in piece:
                    self._put(character)

    def _put(self, character: str) -> None:
        if self.column >= self.width:
            self.row, self.column = self.row + 1, 0
        while len(self.rows) <= self.row:
            self.rows.append("")
        line = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1

    def _control(self, numbers: str, letter: str) -> None:
        first = int(numbers.split(";")[0] or 1) if not numbers.startswith("?") else 0
        if letter == "A":
            self.row = max(0, self.row - first)
        elif letter == "K":
            self.rows[self.row] = "" if numbers == "2" else self.rows[self.row][: self.column]
        elif letter == "m":
            self.colours.update(numbers.split(";"))

    def resize(self, width: int) -> None:
        """Break the rows that are too long; the cursor stays at its text."""
        rows: list[str] = []
        at = 0
        for number, line in enumerate(self.rows):
            pieces = [line[i : i + width] for i in range(0, len(line), width)] or [""]
            if number == self.row:
                at = len(rows) + min(self.column // width, len(pieces) - 1)
            rows += pieces
        self.rows, self.row, self.column, self.width = rows, at, self.column % width, width

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.rows).rstrip("\n")


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, folder: Path, *words: str, width: int = 80, **environment: str) -> None:
        self.screen = Screen(width)
        self.controller, end = pty.openpty()
        self._set_size(width)
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "superluigi", *words],
            cwd=folder, stdin=end, stdout=end, stderr=end, start_new_session=True,
            env={**kept, "TERM": "xterm-256color", **environment},
        )  # fmt: skip
        os.close(end)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.controller)

    def _set_size(self, width: int) -> None:
        fcntl.ioctl(self.controller, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def resize(self, width: int) -> None:
        self._set_size(width)
        self.screen.resize(width)
        self.process.send_signal(signal.SIGWINCH)

    def read(self, seconds: float = 0.05) -> bool:
        """Take what has been written; False at the end."""
        door = select.poll()  # `select` knows the first 1,024 descriptors only
        door.register(self.controller, select.POLLIN)
        if not door.poll(1000 * seconds):
            return True
        try:
            data = os.read(self.controller, 65536)
        except OSError:
            return False
        self.screen.feed(self._decoder.decode(data))
        return bool(data)

    def until(self, condition: Callable[[str], bool], seconds: float = 60) -> str:
        """Read until the screen shows it."""
        end = time.monotonic() + seconds
        while not condition(self.screen.text()):
            assert self.read() and time.monotonic() < end, self.screen.text()
        return self.screen.text()

    def ended(self) -> str:
        """Read to the end."""
        while self.read(60):
            pass
        self.process.wait(60)
        return self.screen.text()
