"""`copy`, `index` and `repositories` on the command line: what they print, and exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from tests.kit.images import build_image, named_by
from tests.kit.messages import Reply
from tests.kit.registry import FakeRegistry
from tests.kit.writable import Quirks, WritableRegistry
from tests.verbs.test_copy import big

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_copy_prints_the_plan_with_dry_run(run: Run, registry: str) -> None:
    seen = run("copy", f"{registry}/demo/app:1.0", "oci:out:1.0", "-p", "linux/arm64", "--dry-run")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
from     HOST:PORT/demo/app:1.0
digest   sha256:b3266b58c1b4
original sha256:f62fb544ff3d
content  1 image, 1 attestation
left out 4 images, 2 attestations of the index (`-p all` includes every entry)
to send  189 kB

NAME         STATE    PRESENT  TO MOUNT  TO SEND     REQUESTS
oci:out:1.0  to copy  0        0         9 (189 kB)        16
--- stderr
""")


def test_copy_prints_what_was_sent(run: Run, registry: str) -> None:
    words = ("copy", f"{registry}/demo/app:1.0", "oci:out:1.0")

    assert str(run(*words)) == snapshot("""\
status: 0
--- stdout
from     HOST:PORT/demo/app:1.0
digest   sha256:f62fb544ff3d
content  5 images, 3 attestations

NAME         DIGEST               STATE   SENT         MOUNTED  PRESENT
oci:out:1.0  sha256:f62fb544ff3d  copied  30 (530 kB)        0        0
--- stderr
""")
    assert "up to date" in run(*words).stdout
    assert run(*words, "--if-absent").status == 0


def test_copy_exits_with_1_for_conditions_that_are_not_met(run: Run, registry: str) -> None:
    words = ("copy", f"{registry}/demo/app:1.0", "oci:out:1.0")

    too_large = run(*words, "--max-upload", "10kB")
    assert too_large.status == 1
    assert run(*words, "--max-upload", "10kB", "--dry-run").status == 1
    run(*words)
    other = run("copy", f"{registry}/demo/app:2.0", "oci:out:1.0", "--expect", f"sha256:{'1' * 64}")
    assert other.status == 1
    assert "nothing was written" in other.stderr
    assert run("copy", "only-one").status == 2
    assert run("copy", "a", "b", "--sync", "mirror.yaml").status == 2
    assert run("copy", "a", "b", "--cluster", "local:1").status == 2
    assert run("copy", f"{registry}/demo/none:1", "oci:out:2").status == 3


def test_copy_as_json_and_markdown(run: Run, registry: str) -> None:
    words = ("copy", f"{registry}/demo/app:1.0", "oci:out:1.0")

    answer = json.loads(run(*words, "--json", keep=True).stdout)
    assert answer["root"]["digest"] == answer["destinations"][0]["pieces"][-1]["digest"]
    assert answer["destinations"][0]["bytesSent"] > 0
    assert answer["failures"] == []
    assert "| `oci:out:1.0` " in run(*words, "--format", "markdown").stdout
    digest = run(*words, "--format", "digest", keep=True).stdout
    assert digest.strip() == answer["root"]["digest"]


def test_sync_prints_a_row_for_each_image(run: Run, registry: str, tmp_path: Path) -> None:
    (tmp_path / "mirror.yaml").write_text(
        "version: 1\ncopies:\n"
        f"  - {{from: {registry}/demo/app, to: 'oci:out', include: '*.0', platforms: linux/arm64}}\n"
    )

    assert str(run("copy", "--sync", "mirror.yaml", "--dry-run")) == snapshot("""\
status: 0
--- stdout
to copy  2
same     0

IMAGE                         NAME         DIGEST               STATE    SENT
HOST:PORT/demo/app:1.0  oci:out:1.0  sha256:b3266b58c1b4  to copy  0
HOST:PORT/demo/app:2.0  oci:out:2.0  sha256:55f68c7094e3  to copy  0
--- stderr
""")
    assert run("copy", "--sync", "mirror.yaml").status == 0
    again = run("copy", "--sync", "mirror.yaml", "--json")
    assert '"done": "up to date"' in again.stdout


def test_sync_on_a_cluster_copies_between_registries(
    run: Run, registry: str, tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="install the extra `fleet`")
    with WritableRegistry(tmp_path / "target") as target:
        (tmp_path / "mirror.yaml").write_text(
            "version: 1\ncopies:\n"
            f"  - {{from: {registry}/demo/app, to: {target.host}/app, include: '*.0'}}\n"
        )
        words = ("copy", "--sync", "mirror.yaml", "--cluster", "local:1", "--cluster-jobs", "4")
        assert run(*words).status == 0
        assert set(target.tags("app")) == {"1.0", "2.0"}


def test_index_create_and_edit_print_the_entries(run: Run, registry: str) -> None:
    run("copy", f"{registry}/demo/app:1.0", "oci:out:1.0")

    edited = run("index", "edit", "oci:out:1.0", "--drop", "windows/amd64", "--to", "oci:out:small")
    assert str(edited) == snapshot("""\
status: 0
--- stdout
name     oci:out:small
digest   sha256:2e7243ea1843
state    written
sent     0 B

PLATFORM         KIND         DIGEST               WHERE
linux/amd64      image        sha256:311923c08153  oci:out:1.0
linux/arm64/v8   image        sha256:8d3661f10977  oci:out:1.0
linux/arm/v7     image        sha256:e9c938fb2564  oci:out:1.0
unknown/unknown  attestation  sha256:708e4d188822  oci:out:1.0
unknown/unknown  attestation  sha256:ba224a2ffee7  oci:out:1.0
unknown/unknown  attestation  sha256:374989eeaccf  oci:out:1.0
--- stderr
""")
    created = run("index", "create", "oci:out:2", "oci:out:small", "--annotate", "a=b", "--json")
    assert json.loads(created.stdout)["entries"]
    assert run("index", "create", "oci:out:2").status == 2
    assert run("index", "edit", "oci:out:1.0", "--drop", "linux/s390x").status == 3
    assert run("index", "create", "x", "y", "--drop", "linux/amd64").status == 2
    assert run("index", "edit", "x", "y").status == 2
    assert run("index", "create", "x", "y", "--annotate", "none").status == 2


def test_repositories_lists_names(run: Run) -> None:
    with FakeRegistry() as fake:
        catalog = json.dumps({"repositories": ["team/app", "team/base", "other"]}).encode()
        fake.on("GET", "/v2/_catalog", Reply(200, {"Content-Type": "application/json"}, catalog))
        seen = run("repositories", f"{fake.host}/team/")
        names = json.loads(run("repositories", fake.host, "--json", keep=True).stdout)
        host = fake.host
    assert seen.stdout.split() == ["NAME", "HOST:PORT/team/app", "HOST:PORT/team/base"]
    assert names["repositories"] == [
        f"{host}/{name}" for name in ("other", "team/app", "team/base")
    ]
    assert run("repositories", "no-host").status == 2


#: Runs the command line with chunks of 64 KiB.
SMALL = """
import sys
from resolver.sources.registry import upload
upload.CHUNK = 65536
from resolver.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [1, 2, 3])
def test_copy_killed_in_a_chunk_continues_at_serve_writable(tmp_path: Path, number: int) -> None:
    """`serve --writable` keeps the bytes of a request that was cut."""
    wanted = big()
    layer = max(len(blob) for blob in wanted.blobs.values())
    with FakeRegistry() as source, WritableRegistry(tmp_path / "registry") as target:
        source.serve("team/app", "1", wanted)
        words = [
            *(sys.executable, "-c", SMALL, "copy", "--store", str(tmp_path / "store")),
            *(f"{source.host}/team/app:1", f"{target.host}/copy/app:1"),
        ]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        patches = 0

        def kill(seen: object) -> None:
            nonlocal patches
            patches += getattr(seen, "method", "") == "PATCH"
            if patches == number + 1 and process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)

        target.before = kill
        process.communicate(timeout=60)
        target.before = lambda _seen: None
        assert process.returncode == -signal.SIGKILL
        sent = target.sent("PATCH")
        subprocess.run(words, check=True, capture_output=True, timeout=60)
        again = target.sent("PATCH") - sent

        found = subprocess.check_output(
            [
                sys.executable,
                "-m",
                "resolver",
                "resolve",
                f"{target.host}/copy/app:1",
                "--json",
                "--store",
                str(tmp_path / "third"),
                "-p",
                "linux/amd64",
            ],
        )
    assert json.loads(found)["manifest"]["digest"] == wanted.digest
    assert again <= layer - number * 65_536


def test_copy_of_sha512_manifests_between_layouts_and_serve_writable(
    run: Run, tmp_path: Path
) -> None:
    wanted = named_by(build_image(), "sha512")
    with (
        FakeRegistry() as source,
        WritableRegistry(tmp_path / "registry", Quirks(mounts="no")) as target,
    ):
        source.serve("app", "1", wanted)
        first = run("copy", f"{source.host}/app@{wanted.digest}", "oci:one:1")
        second = run("copy", "oci:one:1", f"{target.host}/app:1")
        third = run("copy", f"{target.host}/app:1", "oci:two:1")
        assert (first.status, second.status, third.status) == (0, 0, 0), (second, third)
    for name in ("one", "two"):
        [listed] = json.loads((tmp_path / name / "index.json").read_text())["manifests"]
        assert listed["digest"] == wanted.digest
