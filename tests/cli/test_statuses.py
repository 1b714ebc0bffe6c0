"""Exit statuses, as a shell script uses them.

Source: docs/architecture.md, "Exit statuses". Every command that can end with a status runs in this
process; a new command joins a table here. For each status a shell script branches on `$?` of the
first of them.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.cli.app import COMMANDS, run
from resolver.clock import SystemClock
from tests.kit.images import build_image, multi_platform
from tests.kit.messages import Reply
from tests.kit.processes import ROOT
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [name for _group, name, _module, _summary in COMMANDS]

#: Commands about one image, as typed; `REF` is the image.
ASKING = (
    "resolve REF -p linux/amd64",
    "platforms REF",
    "inspect REF",
    "plan REF -p linux/amd64",
    "pull REF -p linux/amd64",
    "check REF --require linux/amd64",
    "lint REF",
    "matrix REF",
    "compare REF",
    "lock REF",
    "needs REF",
    "attestations REF",
)
#: The command that reads references from a file.
PIN = "pin Dockerfile"
TAGS = "tags REPO"
#: Commands about the store.
HOLDING = ("ls", "du", "gc", "verify", "export REF --to oci-layout")

_OURS = ("RESOLVER_", "DOCKER_", "REGISTRY_", "XDG_")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry(strict=False) as made:
        yield made


class Shell:
    """Runs command lines in this process, and shell scripts around the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        outside = {n: v for n, v in os.environ.items() if not n.startswith(_OURS)}
        self.environment = {
            **outside,
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "RESOLVER_STORE": str(self.store),
        }

    def start(self, script: str) -> subprocess.Popen[str]:
        resolver = f"{shlex.quote(sys.executable)} -m resolver"
        whole = f'resolver() {{ {resolver} "$@"; }}\n{script}'
        return subprocess.Popen(
            ["sh", "-c", whole],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def branches(self, status: int, *lines: str) -> None:
        """Check that every line exits with this status, and that a script can branch on it."""
        script = (
            f"resolver {lines[0]} >out 2>&1\ncase $? in\n  {status}) echo this ;;\n"
            "  *) echo $?; cat out ;;\nesac"
        )
        out, err = self.start(script).communicate(timeout=120)
        assert (out, err) == ("this\n", "")
        assert {line: run(shlex.split(line)) for line in lines} == dict.fromkeys(lines, status)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell(tmp_path)
    for name in os.environ.keys() - made.environment.keys():
        monkeypatch.delenv(name)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return made


def about(reference: str, *lines: str) -> list[str]:
    """Return command lines about a reference, which a Dockerfile also names."""
    Path("Dockerfile").write_text(f"FROM {reference}\n")
    return [line.replace("REF", reference) for line in lines]


def test_status_0_success(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", multi_platform("linux/amd64", "linux/arm64"))
    name = f"{fake.host}/app:1"

    shell.branches(
        0,
        *about(name, *ASKING, "lock --check", PIN, f"{PIN} --check"),
        f"tags {fake.host}/app",
        *about(name, *HOLDING, "rm REF"),
        "options",
        "help",
        "help platforms",
        "doctor",
        "--version",
    )


def test_status_1_negative_answer(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", multi_platform("linux/amd64", "linux/s390x"))
    fake.serve("app", "twice", multi_platform("linux/amd64", "linux/x86_64"))
    fake.serve("app", "moves", multi_platform("linux/amd64", "linux/arm64"))
    name = f"{fake.host}/app:1"
    assert run(["lock", f"{fake.host}/app:moves"]) == 0
    fake.serve("app", "moves", multi_platform("linux/amd64", "linux/s390x"))
    about(name)

    shell.branches(
        1,
        "lock --check",
        f"{PIN} --check",
        f"{PIN} --require linux/arm64",
        f"check {name} --require linux/arm64",
        f"check {name} --only linux/amd64",
        f"lint {fake.host}/app:twice",
        f"compare {name} {fake.host}/app:twice",
        f"compare {name} --expect linux/arm64",
        f"matrix {name} --require-runner",
        f"plan {name} -p linux/amd64 --max-download 1",
        f"pull {name} -p linux/amd64 --max-download 1",
    )
    (shell.folder / "file").touch()
    shell.branches(1, "doctor --store file")


def test_status_2_malformed_input(shell: Shell) -> None:
    (shell.folder / "policy.yaml").write_text("version: 1\nimages: nothing\n")
    (shell.folder / "compose.yaml").write_text("services: [\n")
    (shell.folder / "bad.lock").write_text("<<<<<<< HEAD\n")

    shell.branches(
        2,
        *(f"{name} --no-such-option" for name in NAMES if name != "options"),
        *about("Not//A:Reference", *ASKING),
        "check --policy policy.yaml",
        "lock --check --lock-file bad.lock",
        "pin compose.yaml",
        "nonsense",
        "help nonsense",
        "doctor Not//A:Registry",
    )


def test_status_3_not_found(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", build_image("linux/amd64"))

    shell.branches(
        3,
        *about(f"{fake.host}/app:2", *ASKING, PIN, "rm REF", "export REF --to oci-layout"),
        f"tags {fake.host}/none",
        f"resolve {fake.host}/app:1 -p linux/s390x",
        f"matrix {fake.host}/app:1 -p linux/s390x",
    )


def test_status_4_access_denied(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", build_image("linux/amd64"))
    fake.basic("somebody", "else")

    shell.branches(4, *about(f"{fake.host}/app:1", *ASKING, PIN), f"tags {fake.host}/app")


def test_status_5_registry_unreachable(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "sleep", lambda *_: None)
    with FakeRegistry() as closed:
        host = closed.host

    shell.branches(5, *about(f"{host}/app:1", *ASKING, PIN), f"tags {host}/app")


def test_status_6_untrusted_content(shell: Shell, fake: FakeRegistry) -> None:
    image, other = build_image("linux/amd64"), build_image("linux/arm64")
    reply = Reply(200, {"Content-Type": image.media_type}, other.body)
    fake.on("*", f"/v2/app/manifests/{image.digest}", reply)
    fake.on("GET", "/v2/app/tags/list", Reply(200, {"Content-Type": "application/json"}, b"{"))
    # For lint, such defects are findings, not errors.
    asking = [line for line in ASKING if not line.startswith("lint")]

    shell.branches(6, *about(f"{fake.host}/app@{image.digest}", *asking), f"tags {fake.host}/app")


def test_status_7_not_in_store_while_offline(shell: Shell, fake: FakeRegistry) -> None:
    name = f"{fake.host}/app:1"
    (shell.folder / "resolver.lock").write_text('{"schema": 1, "images": {}}')

    shell.branches(
        7,
        *(f"{line} --offline" for line in about(name, *ASKING, PIN)),
        f"resolve {name} --locked",
        f"pull {name} --locked",
    )
    assert fake.log == []


def test_status_8_store_or_output_unusable(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", build_image("linux/amd64"))
    name = f"{fake.host}/app:1"
    shell.store.write_text("a file, where a folder should be")

    shell.branches(
        8,
        *("ls", "du", "gc", "verify", f"pull {name} -p linux/amd64"),
        f"lock {name} --lock-file no/such/folder/resolver.lock",
        f"resolve {name} --emit env=no/such/folder/resolver.env",
        f"check {name} --lint --report sarif=no/such/folder/r.sarif",
    )
    if Path("/dev/full").exists():
        asked = (
            f"resolver check {name} --lint >/dev/full 2>/dev/null; case $? in 8) echo full; esac"
        )
        out, _ = shell.start(asked).communicate(timeout=60)
        assert out == "full\n"


def test_status_130_interrupted(shell: Shell, fake: FakeRegistry) -> None:
    lines = (ASKING[0], *ASKING[4:], PIN, TAGS)
    for path in ("/v2/app/tags/list", "/v2/app/manifests/1"):
        fake.on("*", path, Reply(200, delay=threading.Event()))
    asked = [
        line.replace("REPO", f"{fake.host}/app") for line in about(f"{fake.host}/app:1", *lines)
    ]
    processes = [
        shell.start(
            f"trap : INT\nresolver {line} >out{at} 2>&1\n"
            f"case $? in 130) echo stopped ;; *) cat out{at}; esac"
        )
        for at, line in enumerate(asked)
    ]
    try:
        assert fake.wait_for(lambda: len(fake.log) >= len(lines), 60)
        for process in processes:
            os.killpg(process.pid, signal.SIGINT)
        message = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()

    assert dict(zip(lines, message, strict=True)) == dict.fromkeys(lines, "stopped\n")


#: Commands that are not about an image; their own tests cover each status.
APART = {
    *("login", "logout", "search", "quota", "mirror-config", "doctor", "help"),
    *("completion", "copy", "index", "merge", "repositories"),
}


def test_status_tests_cover_every_command() -> None:
    """Add a new command to the tables above; those excluded here have no answer."""
    asked = {line.split()[0] for line in (*ASKING, PIN, TAGS, *HOLDING)}

    assert set(NAMES) - asked - {"rm", "serve", "demo", "options", "version"} == APART
