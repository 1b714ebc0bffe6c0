"""Exit statuses, as a shell script branches on them: `case $?`, with processes of their own.

Source: architecture.md 2.6. Every command that can end so is asked; a new one joins a table here.
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

from resolver.cli.app import COMMANDS
from tests.fakes.images import build_image, multi_platform
from tests.fakes.messages import Reply
from tests.fakes.registry import FakeRegistry
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [name for _group, name, _module in COMMANDS]

#: Commands that ask about one image, as they are typed; `REF` is the image.
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
)
TAGS = "tags REPO"
#: Commands about the store.
HOLDING = ("ls", "du", "gc", "verify", "export REF --to oci-layout")

_OURS = ("RESOLVER_", "DOCKER_", "REGISTRY_", "XDG_")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry(strict=False) as made:
        yield made


class Shell:
    """Runs scripts in which `resolver` is the command under test."""

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

    def branches(self, status: int, *lines: str, together: bool = False) -> None:
        """Run each line, and branch on its status as a pipeline would.

        Every line must take the branch of this status, and no other. Lines that mostly wait may
        run together.
        """
        asked = [
            f"(resolver {line} >out{number} 2>&1\ncase $? in\n  {status}) echo this ;;\n"
            f"  *) echo {shlex.quote(line)} $?; cat out{number} ;;\nesac) {'&' * together}"
            for number, line in enumerate(lines)
        ]
        out, err = self.start("\n".join([*asked, "wait"])).communicate(timeout=120)
        assert (out.split("\n"), err) == (["this"] * len(lines) + [""], "")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def about(reference: str, *lines: str) -> list[str]:
    return [line.replace("REF", reference) for line in lines]


def test_0_it_is_so(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", multi_platform("linux/amd64", "linux/arm64"))
    name = f"{fake.host}/app:1"

    shell.branches(
        0,
        *about(name, *ASKING),
        f"tags {fake.host}/app",
        *about(name, *HOLDING, "rm REF"),
        "options",
        "help",
        "help platforms",
        "doctor",
        "--version",
    )


def test_1_the_answer_is_no(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", multi_platform("linux/amd64", "linux/s390x"))
    fake.serve("app", "twice", multi_platform("linux/amd64", "linux/x86_64"))
    name = f"{fake.host}/app:1"

    shell.branches(
        1,
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


def test_2_the_question_is_malformed(shell: Shell) -> None:
    (shell.folder / "policy.yaml").write_text("version: 1\nimages: nothing\n")

    shell.branches(
        2,
        *(f"{name} --no-such-option" for name in NAMES if name != "options"),
        *about("Not//A:Reference", *ASKING),
        "check --policy policy.yaml",
        "nonsense",
        "help nonsense",
        "doctor Not//A:Registry",
    )


def test_3_there_is_no_such_thing(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", build_image("linux/amd64"))

    shell.branches(
        3,
        *about(f"{fake.host}/app:2", *ASKING, "rm REF", "export REF --to oci-layout"),
        f"tags {fake.host}/none",
        f"resolve {fake.host}/app:1 -p linux/s390x",
        f"matrix {fake.host}/app:1 -p linux/s390x",
    )


def test_4_not_with_these_credentials(shell: Shell, fake: FakeRegistry) -> None:
    fake.serve("app", "1", build_image("linux/amd64"))
    fake.basic("somebody", "else")

    shell.branches(4, *about(f"{fake.host}/app:1", *ASKING), f"tags {fake.host}/app")


def test_5_nobody_could_be_asked(shell: Shell) -> None:
    with FakeRegistry() as closed:
        host = closed.host

    lines = (*about(f"{host}/app:1", *ASKING), f"tags {host}/app")
    shell.branches(5, *lines, together=True)


def test_6_the_bytes_are_not_what_they_claim(shell: Shell, fake: FakeRegistry) -> None:
    image, other = build_image("linux/amd64"), build_image("linux/arm64")
    reply = Reply(200, {"Content-Type": image.media_type}, other.body)
    fake.on("*", f"/v2/app/manifests/{image.digest}", reply)
    fake.on("GET", "/v2/app/tags/list", Reply(200, {"Content-Type": "application/json"}, b"{"))
    # Linting finds such things; what it finds is an answer.
    asking = [line for line in ASKING if not line.startswith("lint")]

    shell.branches(6, *about(f"{fake.host}/app@{image.digest}", *asking), f"tags {fake.host}/app")


def test_7_the_store_does_not_know_and_nobody_may_be_asked(
    shell: Shell, fake: FakeRegistry
) -> None:
    name = f"{fake.host}/app:1"

    shell.branches(7, *(f"{line} --offline" for line in about(name, *ASKING)))
    assert fake.log == []


def test_8_the_store_cannot_be_used_nor_the_answer_be_written(
    shell: Shell, fake: FakeRegistry
) -> None:
    fake.serve("app", "1", build_image("linux/amd64"))
    name = f"{fake.host}/app:1"
    shell.store.write_text("a file, where a folder should be")

    shell.branches(8, "ls", "du", "gc", "verify", f"pull {name} -p linux/amd64")
    if Path("/dev/full").exists():
        asked = (
            f"resolver check {name} --lint >/dev/full 2>/dev/null; case $? in 8) echo full; esac"
        )
        out, _ = shell.start(asked).communicate(timeout=60)
        assert out == "full\n"


@pytest.mark.parametrize("line", [ASKING[0], *ASKING[4:], TAGS])
def test_130_somebody_interrupted(shell: Shell, fake: FakeRegistry, line: str) -> None:
    path = "/v2/app/tags/list" if line == TAGS else "/v2/app/manifests/1"
    fake.on("*", path, Reply(200, delay=threading.Event()))
    asked = line.replace("REF", f"{fake.host}/app:1").replace("REPO", f"{fake.host}/app")
    process = shell.start(
        f"trap : INT\nresolver {asked} >out 2>&1\ncase $? in 130) echo stopped ;; *) cat out; esac"
    )
    try:
        assert fake.wait_for(lambda: len(fake.log) > 0, 30)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()

    assert out == "stopped\n"


#: They ask a registry, and not about an image, or about what a file names, or nobody; each status
#: has a test beside their others.
APART = {"login", "logout", "search", "quota", "lock", "pin", "mirror-config", "doctor", "help"}


def test_every_command_is_asked() -> None:
    """A new command joins the tables above; those left out here answer no question."""
    asked = {line.split()[0] for line in (*ASKING, TAGS, *HOLDING)}

    assert set(NAMES) - asked - {"rm", "serve", "demo", "options"} == APART
