"""Shell completion, requested as each shell does."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.cli.completion import platforms, references
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.store import LocalStore, NameRecord
from tests.kit.processes import ROOT, command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


DIGEST = Digest.of(b"x")


def remember(store: Path, name: str) -> None:
    """Put a name into the store."""
    LocalStore(store).remember(NameRecord(name, Descriptor(OCI_INDEX, DIGEST, 1)))


def ask(line: str, shell: str = "zsh") -> str:
    """Complete a line in a separate process, as a shell does."""
    return command(
        environment={
            "_RESOLVER_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": f"resolver {line}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "COMP_WORDS": f"resolver {line}",
            "COMP_CWORD": str(len(line.split())),
        }
    ).stdout.decode()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_commands_options_and_platforms(shell: str) -> None:
    assert "resolve" in ask("reso", shell)
    assert "linux/arm64" in ask("pull -p linux/a", shell)
    options = ask("pull --pla", shell)
    assert "--platform" in options
    assert "--platforms-file" in options


def test_completion_help_texts_contain_no_markup() -> None:
    assert "os/arch[/variant]" in ask("pull --platform")


def test_completion_of_the_last_of_several_platforms() -> None:
    assert platforms("linux/amd64,linux/arm/") == [
        "linux/amd64,linux/arm/v7",
        "linux/amd64,linux/arm/v6",
    ]


def test_completion_offers_valid_platforms_only() -> None:
    for each in platforms(""):
        assert each in {"local", "all"} or Platform.parse(each).architecture


def test_completion_offers_references_from_the_store(run: Run, registry: str, store: Path) -> None:
    run("pull", f"{registry}/demo/app:1.0", "-p", "linux/arm64")
    run("resolve", f"{registry}/demo/single:1.0")

    assert references(registry) == [f"{registry}/demo/app:1.0", f"{registry}/demo/single:1.0"]
    assert references(f"store:{registry}/demo/a") == [f"store:{registry}/demo/app:1.0"]
    assert references(registry, str(store / "elsewhere")) == []
    assert f"{registry}/demo/app" in ask(f"inspect {registry}", "bash")


def test_completion_offers_short_reference_names(store: Path) -> None:
    pinned = f"docker.io/library/nginx@{DIGEST}"
    for name in ("docker.io/library/ubuntu:24.04", pinned):
        remember(store, name)

    assert references("ub") == ["ubuntu:24.04"]
    assert references("docker.io/") == [
        "docker.io/library/nginx@" + str(DIGEST),
        "docker.io/library/ubuntu:24.04",
    ]
    assert references("nginx") == []


def test_completion_ignores_a_damaged_store(store: Path) -> None:
    store.write_text("no folder")

    assert references("x") == []


#: What Bash puts into COMP_WORDS: without `:` and `=` in COMP_WORDBREAKS, words end at blanks.
_BREAKS = re.compile(r"[:=]|[^\s:=]+")


@pytest.mark.parametrize("option", [("completion", "bash"), ("--show-completion", "bash")])
@pytest.mark.parametrize(
    ("line", "breaks", "expected"),
    [
        ("resolver pull -p linux/ar", ":=", ["linux/arm64", "linux/arm/v7", "linux/arm/v6"]),
        ("resolver pull x  --platform=linux/pp", ":=", ["linux/ppc64le"]),
        ("resolver pull x -p linux/386,windows/amd64:ltsc202", ":=", ["ltsc2022", "ltsc2025"]),
        ("resolver pull x -p windows/amd64:", ":=", ["ltsc2019", "ltsc2022", "ltsc2025"]),
        ("resolver inspect reg.example.com:5000/a:", ":=", ["1", "2"]),
        ("resolver inspect store:reg.example.com:50", ":=", ["5000/a:1", "5000/a:2"]),
        ("resolver inspect reg.example.com:5000/a:2", "", ["reg.example.com:5000/a:2"]),
        (
            "resolver pull -p windows/amd64:ltsc2019 reg",
            ":=",
            ["reg.example.com:5000/a:1", "reg.example.com:5000/a:2"],
        ),
    ],
)
def test_completion_prints_a_script_that_completes_in_bash(
    store: Path,
    tmp_path: Path,
    option: tuple[str, str],
    line: str,
    breaks: str,
    expected: list[str],
) -> None:
    for tag in "12":
        remember(store, f"reg.example.com:5000/a:{tag}")
    # Typer asks for the shell's name instead of looking which shell runs this test.
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = command(*option, environment=named).stdout.decode()
    program = tmp_path / "resolver"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resolver "$@"\n')
    program.chmod(0o755)
    words = _BREAKS.findall(line) if breaks else line.split()
    state = (
        f"COMP_WORDBREAKS=$' \\t\\n{breaks}'; COMP_LINE={shlex.quote(line)}; "
        f"COMP_POINT={len(line)}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}"
    )

    done = subprocess.run(
        [
            "bash",
            "-c",
            f'{script}\n{state}\n_resolver_completion "$0"; printf "%s\\n" "${{COMPREPLY[@]}}"',
            str(program),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )

    assert done.stdout.decode().split() == expected


@pytest.mark.parametrize(
    ("shell", "registers"),
    [
        ("bash", "complete -o default -F _resolver_completion resolver"),
        # As a file of `fpath`, the script is the body of the completion function.
        ("zsh", 'loadautofunc ]]; then\n  _resolver_completion "$@"\n'),
        ("fish", "complete --command resolver"),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName resolver"),
    ],
)
def test_completion_prints_a_script_for_each_shell(run: Run, shell: str, registers: str) -> None:
    assert registers in run("completion", shell).stdout


def test_completion_refuses_an_unknown_shell(run: Run) -> None:
    refused = run("completion", "tcsh")

    assert (refused.status, refused.stdout) == (2, "")
    assert "bash, zsh, fish, powershell" in refused.stderr
