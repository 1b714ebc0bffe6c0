"""Run the command line in this process and capture its output."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from resolver.cli.app import run as run_command_line
from resolver.demo import samples
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The address of the sample registry, also where a table cut it.
_PORT = re.compile(r"(?:127\.0\.0\.1|…[0-9.]*):[0-9]+")


@dataclass(frozen=True)
class Seen:
    """What one command did."""

    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"status: {self.status}\n--- stdout\n{self.stdout}--- stderr\n{self.stderr}"


Run = Callable[..., Seen]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate store for each test."""
    place = tmp_path / "store"
    monkeypatch.setenv("RESOLVER_STORE", str(place))
    return place


@pytest.fixture
def run(
    store: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run `resolver` with these arguments; ports and folders of this run are replaced by fixed text."""
    del store
    monkeypatch.chdir(tmp_path)

    def act(*words: str, keep: bool = False) -> Seen:
        capsys.readouterr()
        status = run_command_line(list(words))
        out, err = capsys.readouterr()
        return Seen(status, out, err) if keep else Seen(status, _plain(out), _plain(err))

    def _plain(text: str) -> str:
        return _PORT.sub("HOST:PORT", text).replace(str(tmp_path), "FOLDER")

    return act


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """The sample registry of `resolver demo`, on a free port."""
    with serve(MemoryShelf(samples())) as server:
        yield server.address
