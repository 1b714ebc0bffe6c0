"""The README is true: every console block is run against the sample registry and compared."""

from __future__ import annotations

import re
import shlex
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from resolver.cli.app import COMMANDS, run
from resolver.errors import ErrorKind
from resolver.sources.mirrors.config_yaml import parse_config
from tests import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

README = ROOT / "README.md"
#: As long as 127.0.0.1 and a port of five digits, so that tables are as wide as they were.
HOST = "reg.example.com"


def blocks() -> Iterator[list[tuple[str, str]]]:
    """Return the console blocks: each command and the output under it."""
    for block in re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL):
        parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
        yield [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def renamed(text: str, registry: str) -> str:
    """Put the name that the README uses in the place of an address, also where a table cut it."""
    for length in range(len(registry) - 1, 0, -1):
        text = text.replace(f"…{registry[-length:]}/", f"…{HOST[-length:]}/")
    return text.replace(registry, HOST)


@pytest.mark.parametrize("block", [*blocks()], ids=[block[0][0] for block in blocks()])
def test_readme_console_blocks_match_real_output(
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


def test_readme_lists_every_command() -> None:
    text = README.read_text()

    assert [name for _group, name, _module in COMMANDS if f"`resolver {name}" not in text] == []


def test_readme_lists_every_exit_status() -> None:
    text = README.read_text()

    assert [kind for kind in ErrorKind if f"| {kind.status} | " not in text] == []


def test_readme_links_only_to_existing_files() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())

    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def fenced(language: str, holding: str) -> str:
    """Return the one block of a language that contains this text."""
    found = re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
    block: str
    (block,) = (block for block in found if holding in block)
    return block


def test_readme_library_example_runs(
    registry: str,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del store
    monkeypatch.chdir(tmp_path)
    code = fenced("python", "import resolver").replace("alpine:3.20", f"{registry}/demo/app:1.0")

    exec(compile(code, "README.md", "exec"), {})

    printed = capsys.readouterr().out
    assert printed.startswith("sha256:")
    assert "linux/arm64" in printed
    with tarfile.open("images.tar") as archive:
        assert "index.json" in archive.getnames()


def test_readme_configuration_example_is_read_as_commented() -> None:
    hosts = parse_config(fenced("yaml", "mirrors:").encode(), "config.yaml")

    hub = hosts["docker.io"]
    assert [mirror.tags for mirror in hub.mirrors] == [False, True]
    assert hub.settings.rate == 20
    assert hosts["harbor.example.com"].settings.has_tls
    lan = hosts["registry.lan:5000"].settings
    assert lan.scheme == "http" or lan.plain_too


def test_readme_github_step_uses_existing_inputs() -> None:
    step, after = yaml.safe_load(fenced("yaml", "scripts/action@"))
    action = yaml.safe_load((README.parent / "scripts/action/action.yml").read_text())

    assert step["with"].keys() <= action["inputs"].keys()
    used = re.findall(rf"steps\.{step['id']}\.outputs\.(\w+)", after["env"]["REF"])
    assert used
    assert set(used) <= action["outputs"].keys()


def test_readme_gitlab_job_writes_its_declared_files(
    registry: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del store
    monkeypatch.chdir(tmp_path)
    job = yaml.safe_load(fenced("yaml", "resolve-image:"))["resolve-image"]
    command = job["script"][-1].replace('"$IMAGE"', f"{registry}/demo/app:1.0")

    assert run(shlex.split(command)[1:]) == 0
    assert [name for name in job["artifacts"]["reports"].values() if not Path(name).exists()] == []
