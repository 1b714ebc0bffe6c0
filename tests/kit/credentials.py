"""A machine for credential tests: its home folder, helpers on PATH, variables and warnings."""

from __future__ import annotations

import base64
import json
import os
import shlex
from typing import TYPE_CHECKING, Any

from resolver.core.results.events import Warned
from resolver.sources.credentials.chain import CredentialChain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

    from resolver.core.results.events import Event
    from resolver.sources.credentials.chain import Credential

NOT_FOUND = "credentials not found in native keychain\n"


def pair(text: str) -> str:
    """Encode `user:password` as `auth` has it."""
    return base64.b64encode(text.encode()).decode()


def entries(**hosts: str) -> dict[str, Any]:
    """Return `auths` from `host_test="user:password"`; an underscore means a dot."""
    return {host.replace("_", "."): {"auth": pair(text)} for host, text in hosts.items()}


def revealed(credential: Credential | None) -> dict[str, str] | None:
    """Open a credential, for comparison: only what is there."""
    if credential is None:
        return None
    secrets = {
        "password": credential.password,
        "identity_token": credential.identity_token,
        "registry_token": credential.registry_token,
    }
    opened = {name: secret.reveal() for name, secret in secrets.items() if secret is not None}
    return {"username": credential.username, **opened} if credential.username else opened


class Machine:
    """A machine below one folder; nothing of the real machine is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.programs = root / "programs"
        self.environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(root / "runtime"),
        }
        self.events: list[Event] = []
        self.programs.mkdir(parents=True)
        self.home.mkdir()

    @property
    def docker_config(self) -> Path:
        return self.home / ".docker" / "config.json"

    @property
    def warnings(self) -> list[Warned]:
        return [event for event in self.events if isinstance(event, Warned)]

    def write(self, path: Path, content: object, mode: int = 0o600) -> Path:
        """Write a file: bytes as they are, anything else as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        path.chmod(mode)
        return path

    def configure(self, content: object, mode: int = 0o600) -> Path:
        """Write Docker's file at home."""
        return self.write(self.docker_config, content, mode)

    def install(self, name: str, script: str) -> Path:
        """Install a helper: the lines of a shell script."""
        program = self.programs / f"docker-credential-{name}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    def install_answers(self, name: str, answers: Mapping[str, Any]) -> None:
        """Install a helper that records its input and answers by key; `*` matches the rest."""
        default = {"*": answers.get("*", {"stdout": NOT_FOUND, "exit": 1})}
        named = {key: answer for key, answer in answers.items() if key != "*"}
        cases = [
            f"{key if key == '*' else shlex.quote(key)}) "
            f"printf %s {shlex.quote(answer['stdout'])}; exit {answer['exit']};;"
            for key, answer in (named | default).items()
        ]
        record = f'printf "%s\\n" "{name} $key" >> {shlex.quote(str(self.root / "calls"))}'
        self.install(name, "\n".join(("key=$(cat)", record, 'case "$key" in', *cases, "esac")))

    def calls(self) -> list[list[str]]:
        """Return the name and key of each call of a recording helper."""
        path = self.root / "calls"
        return (
            [line.split(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []
        )

    def chain(self, **settings: Any) -> CredentialChain:
        """Make a chain for this machine; its events come to `events`."""
        settings = {"environment": self.environment, "home": self.home, **settings}
        return CredentialChain(**settings, observe=self.events.append)


def plant_helper(
    folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch | None = None
) -> Path:
    """Write `docker-credential-NAME`, a shell script, and put its folder first on the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    if monkeypatch is not None:
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return path
