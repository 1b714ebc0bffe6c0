"""Shell completion, requested as each shell does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.cli.completion import platforms, references
from resolver.core.platforms.platform import Platform
from tests.kit.processes import ROOT, command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


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
    from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.store import LocalStore, NameRecord

    digest = Digest.of(b"x")
    pinned = f"docker.io/library/nginx@{digest}"
    for name in ("docker.io/library/ubuntu:24.04", pinned):
        LocalStore(store).remember(NameRecord(name, Descriptor(OCI_INDEX, digest, 1)))

    assert references("ub") == ["ubuntu:24.04"]
    assert references("docker.io/") == [
        "docker.io/library/nginx@" + str(digest),
        "docker.io/library/ubuntu:24.04",
    ]
    assert references("nginx") == []


def test_completion_ignores_a_damaged_store(store: Path) -> None:
    store.write_text("no folder")

    assert references("x") == []


def test_completion_prints_a_script_that_completes_in_bash(tmp_path: Path) -> None:
    script = command("completion", "bash").stdout.decode()
    program = tmp_path / "resolver"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resolver "$@"\n')
    program.chmod(0o755)
    line = 'COMP_WORDS=(resolver pull -p linux/ar); COMP_CWORD=3; _resolver_completion "$0"'

    done = subprocess.run(
        ["bash", "-c", f'{script}\n{line}; printf "%s\\n" "${{COMPREPLY[@]}}"', str(program)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )

    assert done.stdout.decode().split() == ["linux/arm64", "linux/arm/v7", "linux/arm/v6"]


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
