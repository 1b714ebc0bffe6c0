"""Readers of CI outputs and log commands, following the documentation and source of each system."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Commands that a runner of GitHub acts on. Source: actions/runner, ActionCommandManager.cs.
GITHUB_COMMANDS = {
    "error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "set-output",
    "save-state", "set-env", "add-path", "add-matcher", "remove-matcher", "echo", "stop-commands",
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command that a system found in a log."""

    name: str
    facts: dict[str, str]
    data: str


def read_github_file(text: str) -> dict[str, str]:
    """Read GITHUB_OUTPUT. Source: actions/runner, FileCommandManager.cs, SetEnvFileCommand."""
    found: dict[str, str] = {}
    lines = text.split("\n")
    assert lines.pop() == "", "the last line has an end"
    while lines:
        line = lines.pop(0)
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            name, _, found[name] = line.partition("=")
            continue
        assert heredoc >= 0, f"neither `=` nor `<<` in {line!r}"
        name, _, delimiter = line.partition("<<")
        assert name
        assert delimiter
        end = lines.index(delimiter)
        found[name] = "\n".join(lines[:end])
        del lines[: end + 1]
    return found


def github_commands(log: str) -> list[Command]:
    """Find the commands in a log. Source: actions/runner, ActionCommand.cs, both of TryParse."""
    found = []
    for line in re.split(r"\r\n|\n|\r", log):
        trimmed = line.lstrip()
        if trimmed.startswith("::") and "::" in trimmed[2:]:
            info, _, data = trimmed[2:].partition("::")
            name, _, words = info.partition(" ")
            if name in GITHUB_COMMANDS:
                facts = dict(word.split("=", 1) for word in words.split(",") if "=" in word)
                read = {key: _github(value) for key, value in facts.items()}
                found.append(Command(name, read, _github(data)))
        elif "##[" in line:
            name = line.partition("##[")[2].partition("]")[0].partition(" ")[0]
            if name in GITHUB_COMMANDS:
                found.append(Command(name, {}, line))
    return found


def azure_commands(log: str) -> list[Command]:
    """Find the commands in a log. Source: azure-pipelines-agent, Command.cs, TryParse."""
    found = []
    for line in re.split(r"\r\n|\n|\r", log):
        _, sign, rest = line.partition("##vso[")
        if not sign or "]" not in rest:
            continue
        info, _, data = rest.partition("]")
        name, _, words = info.partition(" ")
        facts = dict(word.split("=", 1) for word in words.split(";") if "=" in word)
        read = {key: _azure(value) for key, value in facts.items()}
        found.append(Command(name, read, _azure(data)))
    return found


def read_dotenv(text: str) -> dict[str, str]:
    """Read a dotenv report. Source: docs.gitlab.com, "artifacts reports types", dotenv."""
    found = {}
    for line in text.split("\n")[:-1]:
        assert line.strip(), "an empty line is refused"
        name, equals, value = line.partition("=")
        assert equals
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name), name
        found[name] = value.strip()
    return found


def _github(text: str) -> str:
    for code, sign in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, sign)
    return text


def _azure(text: str) -> str:
    for code, sign in (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]")):
        text = text.replace(code, sign)
    return text.replace("%AZP25", "%")
