"""The README is true: every console block is run against the sample registry and compared."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.cli.app import COMMANDS, run
from resolver.errors import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parents[2] / "README.md"
#: As long as 127.0.0.1 and a port of five digits, so that tables are as wide as they were.
HOST = "reg.example.com"


def blocks() -> Iterator[list[tuple[str, str]]]:
    """Give the console blocks: each command, and the output under it."""
    for block in re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL):
        parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
        yield [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def renamed(text: str, registry: str) -> str:
    """Put the name that the README uses in the place of an address, also where a table cut it."""
    for length in range(len(registry) - 1, 0, -1):
        text = text.replace(f"…{registry[-length:]}/", f"…{HOST[-length:]}/")
    return text.replace(registry, HOST)


@pytest.mark.parametrize("block", [*blocks()], ids=[block[0][0] for block in blocks()])
def test_a_console_block_shows_what_is_really_printed(
    block: list[tuple[str, str]],
    registry: str,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del store
    assert len(registry) == len(HOST)
    monkeypatch.chdir(tmp_path)
    for command, output in block:
        words = shlex.split(command.replace(HOST, registry))
        assert words[0] == "resolver"

        run(words[1:])
        printed = capsys.readouterr()

        assert renamed(printed.err + printed.out, registry) == output, command


def test_every_command_stands_in_the_readme() -> None:
    text = README.read_text()

    assert [name for _group, name, _module in COMMANDS if f"`resolver {name}" not in text] == []


def test_every_exit_status_stands_in_the_readme() -> None:
    text = README.read_text()

    assert [kind for kind in Kind if f"| {kind.status} | " not in text] == []


def test_every_file_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())

    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_the_library_example_can_be_compiled_and_names_what_is_public() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)

    compile(code, "README.md", "exec")
    assert "resolver.Session()" in code
