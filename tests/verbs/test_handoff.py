"""Export to a program: a script on PATH named `docker`."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tarfile
import time
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Noted
from resolver.core.results.export import parse_destination
from resolver.errors import (
    DigestMismatch,
    ExportFault,
    NotHeld,
    ToolFailed,
    ToolMissing,
    Usage,
)
from resolver.session import Session
from resolver.verbs.export.bundle import ExportSelection, gather
from resolver.verbs.export.engines import HandedOver, hand_over_missing, to_hand_over
from resolver.verbs.export.export import ExportOptions, command_for, export
from resolver.verbs.plan import _one_each
from tests.kit.answers import planned
from tests.kit.engines import program
from tests.kit.exports import AMD64, ARM64, QUICK, app, stocked
from tests.kit.images import build_image, from_dict
from tests.kit.stored_images import place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.core.results.export import Exported, Kind
    from resolver.store import LocalStore
    from resolver.verbs.export.bundle import ExportBundle
    from resolver.verbs.export.engines import Command

HERE, THERE = Platform.parse(AMD64), Platform.parse(ARM64)


def hand(
    store: LocalStore,
    to: str,
    environment: dict[str, str],
    check: Callable[[], None] = lambda: None,
) -> Exported:
    """Send the whole archive, as `--load` does."""
    options = ExportOptions(
        host=HERE, environment=environment, layout=QUICK, check=check, load=True
    )
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


def test_engine_gets_one_image_of_each_reference_without_comparing_all() -> None:
    compared = []

    class Counted(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str.__eq__(self, other)

    images = [planned(None, Counted(f"example.com/app:{number}")) for number in range(300)]

    assert _one_each(images * 2) == images
    assert len(compared) < 3 * len(images)


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


# Hand-over of what an engine lacks


def lend(
    store: LocalStore, to: str, environment: dict[str, str], *references: str
) -> tuple[Exported, list[str]]:
    """Let an engine fetch what it lacks; return the notes too."""
    notes: list[str] = []

    def observe(event: object) -> None:
        if isinstance(event, Noted):
            notes.append(event.message)

    options = ExportOptions(host=HERE, environment=environment, layout=QUICK)
    names = [Reference.parse(name) for name in references or ("app:1",)]
    return export(names, store, parse_destination(to), options, observe), notes


def asked(url: str) -> tuple[int, bytes]:
    try:
        with urlopen(f"http://{url}", timeout=5) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, b""


def recording(commands: list[Command]) -> Callable[[Command], str]:
    def run(command: Command) -> str:
        commands.append(command)
        return ""

    return run


def bundled(store: LocalStore, *names: str) -> ExportBundle:
    references = [Reference.parse(name) for name in names]
    return gather(references, store, ExportSelection(), lambda _digests: None)


def test_engine_is_served_nothing_but_the_image_by_digest(tmp_path: Path) -> None:
    image, other = app(), app("other")
    store = stocked(tmp_path, app=image, other=other)
    bundle = bundled(store, "app:1")
    handed = to_hand_over("podman", bundle, [HERE])
    child = image.child(AMD64)
    found: dict[str, tuple[int, bytes]] = {}

    def run(command: Command) -> str:
        if command[1] == "pull":
            address, _, digest = command[-1].partition("@")
            host, _, repository = address.partition("/")
            base = f"{host}/v2/{repository}"
            found["manifest"] = asked(f"{base}/manifests/{digest}")
            for blob in child.blobs:
                found[blob] = asked(f"{base}/blobs/{blob}")
            found["address"] = (0, host.encode())
            found["catalog"] = asked(f"{host}/v2/_catalog")
            found["tags"] = asked(f"{base}/tags/list")
            found["tag"] = asked(f"{base}/manifests/1")
            found["index"] = asked(f"{base}/manifests/{image.digest}")
            found["platform"] = asked(f"{base}/manifests/{image.child(ARM64).digest}")
            found["image"] = asked(f"{host}/v2/library/other/manifests/{other.digest}")
            found["blob"] = asked(f"{base}/blobs/{next(iter(other.child(ARM64).blobs))}")
        return ""

    done = hand_over_missing("podman", handed, bundle, store, run)

    assert found["manifest"] == (200, child.body)
    assert all(found[digest] == (200, body) for digest, body in child.blobs.items())
    host = found["address"][1].decode()
    assert host.startswith("127.0.0.1:")
    assert found["catalog"] == (200, b'{"repositories": []}')
    assert json.loads(found["tags"][1])["tags"] == []
    refused = ("tag", "index", "platform", "image", "blob")
    assert {found[each][0] for each in refused} == {404}
    assert isinstance(done, HandedOver)
    assert sum(each.size for each in done.fetched) == len(child.body) + sum(
        map(len, child.blobs.values())
    )
    with pytest.raises(URLError):
        urlopen(f"http://{host}/v2/", timeout=5)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("docker", [["pull", "--quiet"], ["tag"], ["image", "inspect"]]),
        ("podman", [["pull", "--quiet", "--tls-verify=false"], ["tag"], ["untag"]]),
        (
            "containerd",
            [
                ["--namespace", "n", "content", "fetch", "--plain-http", "--all-platforms"],
                ["--namespace", "n", "images", "pull", "--plain-http"],
                ["--namespace", "n", "images", "tag", "--force"],
                ["--namespace", "n", "images", "rm"],
            ],
        ),
    ],
)
def test_engine_pulls_by_digest_and_names_the_image(
    tmp_path: Path, kind: Kind, names: list[list[str]]
) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    bundle = bundled(store, "app:1")
    commands: list[Command] = []

    hand_over_missing(
        kind,
        to_hand_over(kind, bundle, [HERE]),
        bundle,
        store,
        recording(commands),
        host=HERE,
        namespace="n",
    )

    assert [list(c[1 : 1 + len(n)]) for c, n in zip(commands, names, strict=True)] == names
    digest = image.digest if kind == "containerd" else image.child(AMD64).digest
    assert commands[0][-1].endswith(f"/library/app@{digest}")
    naming = next(each for each in commands if "tag" in each)
    assert naming[-2:] == (commands[0][-1], "docker.io/library/app:1")


@pytest.mark.parametrize(
    ("digests", "forgets"),
    [('["docker.io/library/app@{0}", "{1}"]', True), ('["{1}"]', False), ("null", False)],
)
def test_docker_keeps_the_name_on_loopback_if_only_that_has_the_digest(
    tmp_path: Path, digests: str, *, forgets: bool
) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    bundle = bundled(store, "app:1")
    commands: list[Command] = []

    def run(command: Command) -> str:
        commands.append(command)
        digest = str(image.child(AMD64).digest)
        inspects = command[1:3] == ("image", "inspect")
        return digests.replace("{0}", digest).replace("{1}", commands[0][-1]) if inspects else ""

    hand_over_missing("docker", to_hand_over("docker", bundle, [HERE]), bundle, store, run)

    assert (("docker", "rmi", commands[0][-1]) in commands) is forgets


def test_docker_is_given_the_platform_of_an_image_for_another_machine(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    bundle = bundled(store, "app:1")
    commands: list[Command] = []

    hand_over_missing(
        "docker",
        to_hand_over("docker", bundle, [THERE]),
        bundle,
        store,
        recording(commands),
        host=HERE,
    )

    assert commands[0][:-1] == ("docker", "pull", "--quiet", "--platform", "linux/arm64")


def test_failure_to_name_an_image_removes_its_name_on_loopback(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    script = 'echo "$1" >> $OUT/ran; test "$1" != tag || { echo "read-only" >&2; exit 1; }'
    environment = program(tmp_path, "podman", script)

    with pytest.raises(ToolFailed, match="read-only"):
        lend(store, "podman", environment)

    assert (tmp_path / "ran").read_text().split() == ["pull", "tag", "untag"]


@pytest.mark.parametrize(
    ("engine", "variables", "address"),
    [
        ("docker", {"DOCKER_HOST": "tcp://host:2376"}, "tcp://host:2376"),
        ("docker", {"DOCKER_HOST": "ssh://host"}, "ssh://host"),
        ("podman", {"CONTAINER_HOST": "ssh://host/run/podman.sock"}, "ssh://host"),
        ("podman", {"CONTAINER_CONNECTION": "machine"}, "machine"),
    ],
)
def test_engine_elsewhere_gets_the_whole_archive(
    tmp_path: Path, engine: str, variables: dict[str, str], address: str
) -> None:
    store = stocked(tmp_path, app=app())
    environment = program(tmp_path, engine, 'echo "$1" >> $OUT/ran; cat > /dev/null')

    found, (note,) = lend(store, engine, {**environment, **variables})

    assert (tmp_path / "ran").read_text() == "load\n"
    assert found.command == (engine, "load")
    assert address in note
    assert "`--load`" in note


def test_engine_that_cannot_reach_loopback_gets_the_whole_archive(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    script = 'echo "$1" >> $OUT/ran; test "$1" = load && cat > /dev/null'
    environment = program(tmp_path, "podman", script)

    found, (note,) = lend(store, "podman", environment)

    assert (tmp_path / "ran").read_text() == "pull\nload\n"
    assert found.command == ("podman", "load")
    assert "cannot reach this process" in note


def test_engine_that_refuses_an_image_is_quoted_with_a_way_out(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    reach = f'{sys.executable} -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])"'
    script = f'{reach} "http://${{4%%/*}}/v2/"; echo "rejected by policy" >&2; exit 125'
    environment = program(tmp_path, "podman", script)

    with pytest.raises(ToolFailed, match="rejected by policy") as caught:
        lend(store, "podman", environment)

    assert "--load" in caught.value.hints()[0]


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_engine_is_not_asked_to_take_what_is_not_an_image(tmp_path: Path, engine: str) -> None:
    plain = build_image(AMD64)
    document = {**json.loads(plain.body), "artifactType": "application/x"}
    artifact = from_dict(document, blobs=plain.blobs.values())
    store = stocked(tmp_path, app=app(), chart=artifact)
    environment = program(tmp_path, engine, 'echo "$@" >> $OUT/ran')

    found, _ = lend(store, engine, environment, "app:1", "chart:1")
    assert [image.reference for image in found.images] == ["docker.io/library/app:1"]
    assert [warning.code for warning in found.warnings] == ["docker-none"]
    assert "chart" not in (tmp_path / "ran").read_text()

    with pytest.raises(ExportFault, match=r"`docker\.io/library/chart:1` is not an image"):
        lend(store, engine, environment, "chart:1")


def test_load_is_for_engines(tmp_path: Path) -> None:
    with Session(tmp_path / "store") as session, pytest.raises(Usage, match="`--load` is for"):
        session.export("app:1", "images.tar", load=True)
