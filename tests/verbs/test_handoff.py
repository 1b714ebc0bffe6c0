"""Export to a program: a script on PATH named `docker`."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import Platform
from resolver.core.results.export import parse_destination
from resolver.errors import DigestMismatch, NotHeld, ToolFailed, ToolMissing
from resolver.verbs.export.export import ExportOptions, command_for, export
from tests.kit.engines import program
from tests.kit.exports import AMD64, ARM64, QUICK, app, stocked
from tests.kit.stored_images import place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.core.results.export import Exported
    from resolver.store import LocalStore

HERE, THERE = Platform.parse(AMD64), Platform.parse(ARM64)


def hand(
    store: LocalStore,
    to: str,
    environment: dict[str, str],
    check: Callable[[], None] = lambda: None,
) -> Exported:
    options = ExportOptions(host=HERE, environment=environment, layout=QUICK, check=check)
    return export([Reference.parse("app:1")], store, parse_destination(to), options)


def test_handoff_sends_the_archive_and_returns_the_program_output(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    environment = program(tmp_path, "docker", 'echo "$@" > $OUT/args; cat > $OUT/got; echo Loaded')

    found = hand(store, "docker", environment)

    assert (tmp_path / "args").read_text() == "load\n"
    got = (tmp_path / "got").read_bytes()
    assert found.written == len(got)
    with tarfile.open(fileobj=io.BytesIO(got)) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        (entry,) = json.load(manifest)
    config = json.loads(image.child(AMD64).body)["config"]["digest"]
    assert entry["Config"].endswith(config[7:])
    assert (found.command, found.said) == (("docker", "load"), "Loaded")


def test_handoff_names_the_command_for_a_missing_program(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())

    with pytest.raises(ToolMissing) as caught:
        hand(store, "podman", {"PATH": str(tmp_path)})

    assert "podman load < images.tar" in caught.value.hints()[0]


@pytest.mark.parametrize("path", ["", ".", "bin", ":"])
def test_handoff_ignores_programs_in_the_working_folder(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stocked(tmp_path, app=app())
    program(tmp_path, "docker", "touch $OUT/ran")
    monkeypatch.chdir(tmp_path if path == "bin" else tmp_path / "bin")

    with pytest.raises(ToolMissing):
        hand(store, "docker", {"PATH": path})

    assert not (tmp_path / "ran").exists()


def test_handoff_quotes_a_failing_program(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    environment = program(tmp_path, "docker", 'cat > /dev/null; echo "no such daemon" >&2; exit 3')

    with pytest.raises(ToolFailed, match="no such daemon") as caught:
        hand(store, "docker", environment)

    assert (caught.value.status, caught.value.command) == (3, "docker load")


def test_handoff_quotes_a_program_that_does_not_read_its_input(tmp_path: Path) -> None:
    image = app(os.urandom(300_000).hex())
    store = stocked(tmp_path, app=image)
    environment = program(tmp_path, "docker", 'exec 0<&-; echo "who are you?" >&2; exit 1')

    with pytest.raises(ToolFailed, match="who are you"):
        hand(store, "docker", environment)


def test_handoff_kills_the_program_when_the_archive_is_incomplete(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    victim = place(store, json.loads(image.child(ARM64).body)["layers"][1]["digest"])
    body = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    environment = program(
        tmp_path, "docker", "echo $$ > $OUT/pid; cat > /dev/null; touch $OUT/loaded"
    )

    with pytest.raises(DigestMismatch):
        hand(store, "docker", environment)

    assert not (tmp_path / "loaded").exists()


def test_interrupt_ends_the_handoff_program_and_its_children(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    os.mkfifo(tmp_path / "ready")
    script = "sleep 300 & echo $! > $OUT/child; echo > $OUT/ready; cat > /dev/null; wait"
    environment = program(tmp_path, "docker", script)

    def interrupt() -> None:
        (tmp_path / "ready").read_text()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hand(store, "docker", environment, interrupt)

    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(child)


def _lives(process: int) -> bool:
    """Return whether a process runs and is no zombie."""
    try:
        os.kill(process, signal.SIG_DFL)
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - no path of ours
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_handoff_keeps_secrets_from_the_program(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    environment = program(tmp_path, "docker", "cat > /dev/null; env > $OUT/env")
    secrets = {"DOCKER_AUTH_CONFIG": "S3cr3t", "RESOLVER_PASSWORD": "S3cr3t"}

    hand(store, "docker", {**environment, **secrets, "DOCKER_HOST": "tcp://h"})

    seen = (tmp_path / "env").read_text()
    assert "S3cr3t" not in seen
    assert "DOCKER_HOST=tcp://h" in seen


def test_handoff_starts_nothing_for_a_missing_image(tmp_path: Path) -> None:
    store = stocked(tmp_path, b=app())
    environment = program(tmp_path, "docker", "touch $OUT/ran")

    with pytest.raises(NotHeld):
        hand(store, "docker", environment)

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("images", "flags"),
    [
        ([[HERE]], ()),
        ([[HERE, THERE]], ("--all-platforms",)),
        ([[THERE]], ("--all-platforms", "--no-unpack")),
        ([[HERE], [THERE]], ("--all-platforms", "--no-unpack")),
        ([[None]], ("--all-platforms", "--no-unpack")),
    ],
)
def test_handoff_to_containerd_keeps_all_platforms_and_unpacks_the_host(
    images: list[list[Platform | None]], flags: tuple[str, ...]
) -> None:
    command = command_for("containerd", namespace="k8s.io", host=HERE, images=images)

    assert command == ("ctr", "--namespace", "k8s.io", "images", "import", *flags, "-")


def test_handoff_lets_containerd_choose_without_a_platform() -> None:
    assert command_for("containerd", images=[[THERE]]) == ("ctr", "images", "import", "-")
