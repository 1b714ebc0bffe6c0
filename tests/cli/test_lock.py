"""Output of `resolver lock`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.core.oci.descriptor import OCI_INDEX
from tests.kit.images import multi_platform
from tests.kit.registry import FakeRegistry, Reply
from tests.kit.terminal import on_terminal

if TYPE_CHECKING:
    from tests.cli.conftest import Run

FILE = Path("resolver.lock")


@pytest.fixture
def locked(run: Run, registry: str) -> str:
    """A lock of one image with five platforms, and of a single one."""
    assert run("lock", f"{registry}/demo/app:1.0", f"{registry}/demo/single:1.0").status == 0
    return registry


def edit(*changes: tuple[str, str]) -> None:
    """Set the lock's times back."""
    text = FILE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    FILE.write_text(text)


INDEX = "f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda"
ARM64 = "8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a"


def test_lock_output(run: Run, registry: str) -> None:
    seen = run("lock", f"{registry}/demo/app:1.0", f"{registry}/demo/single:1.0")
    assert str(seen) == snapshot("""\
status: 0
--- stdout
lock     resolver.lock
holds    2 references

CHANGE  REFERENCE                        DIGEST               PLATFORMS
added   HOST:PORT/demo/app:1.0     sha256:f62fb544ff3d          5
added   HOST:PORT/demo/single:1.0  sha256:311923c08153          1
--- stderr
""")


def test_lock_file_content(run: Run, registry: str) -> None:
    run("lock", f"{registry}/demo/single:1.0")

    assert FILE.read_text().replace(registry, "HOST:PORT") == snapshot("""\
{
  "schema": 1,
  "images": {
    "HOST:PORT/demo/single:1.0": {
      "written": "HOST:PORT/demo/single:1.0",
      "digest": "sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede",
      "mediaType": "application/vnd.oci.image.manifest.v1+json",
      "size": 860,
      "platforms": {
        "linux/amd64": {
          "digest": "sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede",
          "mediaType": "application/vnd.oci.image.manifest.v1+json",
          "size": 860,
          "entry": 0
        }
      }
    }
  }
}
""")


@pytest.mark.usefixtures("locked")
def test_lock_check_without_changes(run: Run) -> None:
    assert str(run("lock", "--check")) == snapshot("""\
status: 0
--- stdout
lock     resolver.lock
same     2 of 2 references

STATE      REFERENCE
as locked  HOST:PORT/demo/app:1.0
as locked  HOST:PORT/demo/single:1.0
--- stderr
""")


@pytest.mark.usefixtures("locked")
def test_lock_check_with_a_moved_tag(run: Run) -> None:
    edit((INDEX, "1" * 64), (ARM64, "2" * 64))

    assert str(run("lock", "--check")) == snapshot("""\
status: 1
--- stdout
lock     resolver.lock
same     1 of 2 references

references
STATE      REFERENCE
moved      HOST:PORT/demo/app:1.0
as locked  HOST:PORT/demo/single:1.0

moved
REFERENCE                     PLATFORM                       LOCKED               NOW
HOST:PORT/demo/app:1.0  (index)                        sha256:111111111111  sha256:f62fb544ff3d
HOST:PORT/demo/app:1.0  linux/amd64                    sha256:311923c08153  same
HOST:PORT/demo/app:1.0  linux/arm/v7                   sha256:e9c938fb2564  same
HOST:PORT/demo/app:1.0  linux/arm64                    sha256:222222222222  sha256:8d3661f10977
HOST:PORT/demo/app:1.0  windows/amd64:10.0.20348.2700  sha256:afae86adc642  same
HOST:PORT/demo/app:1.0  windows/amd64:10.0.26100.1742  sha256:8322b11c5bf7  same
--- stderr
difference: 1 of 2 references in `resolver.lock` has moved since they were locked
hint: test what has changed, then record it with `resolver lock --update`
""")


@pytest.mark.usefixtures("locked")
def test_lock_check_with_an_ignored_change(run: Run) -> None:
    edit((INDEX, "1" * 64), (ARM64, "2" * 64))

    assert str(run("lock", "--check", "-p", "linux/amd64")) == snapshot("""\
status: 0
--- stdout
lock     resolver.lock
same     2 of 2 references
platform linux/amd64

references
STATE          REFERENCE
index changed  HOST:PORT/demo/app:1.0
as locked      HOST:PORT/demo/single:1.0

moved
REFERENCE                     PLATFORM     LOCKED               NOW
HOST:PORT/demo/app:1.0  (index)      sha256:111111111111  sha256:f62fb544ff3d
HOST:PORT/demo/app:1.0  linux/amd64  sha256:311923c08153  same
--- stderr
""")


def test_lock_check_with_a_moved_tag_in_json(run: Run, locked: str) -> None:
    edit((INDEX, "1" * 64), (ARM64, "2" * 64))
    words = ("--check", f"{locked}/demo/app", "-p", "linux/arm64", "--json")
    seen = run("lock", *words, keep=True)
    output = json.loads(seen.stdout)

    assert seen.status == 1
    assert output["drifted"] is True
    assert output["findings"] == [
        {
            "rule": "platform-changed",
            "severity": "error",
            "message": f"`linux/arm64` was `sha256:{'2' * 64}`, and is `sha256:{ARM64}` now",
            "subject": f"{locked}/demo/app:1.0",
            "platform": "linux/arm64",
            "digest": f"sha256:{ARM64}",
            "hint": f"test it, then run `resolver lock --update {locked}/demo/app:1.0`",
        }
    ]


def test_lock_update_resolves_again(run: Run, locked: str) -> None:
    edit((INDEX, "1" * 64))

    assert str(run("lock", "--update", f"{locked}/demo/app")) == snapshot("""\
status: 0
--- stdout
lock     resolver.lock
holds    2 references

CHANGE   REFERENCE                     DIGEST               PLATFORMS
changed  HOST:PORT/demo/app:1.0  sha256:f62fb544ff3d          5
--- stderr
""")
    assert run("lock", "--check").status == 0


def test_lock_remove_output(run: Run, locked: str) -> None:
    assert str(run("lock", "--remove", f"{locked}/demo/app:1.0")) == snapshot("""\
status: 0
--- stdout
lock     resolver.lock
holds    1 reference

CHANGE   REFERENCE                     DIGEST               PLATFORMS
removed  HOST:PORT/demo/app:1.0  sha256:f62fb544ff3d          5
--- stderr
""")


def test_lock_several_references_with_one_missing(run: Run, registry: str) -> None:
    seen = run("lock", f"{registry}/demo/app:1.0", f"{registry}/demo/app:none")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
lock     resolver.lock
holds    0 references
written  no: a reference could not be resolved

CHANGE  REFERENCE                     DIGEST               PLATFORMS
added   HOST:PORT/demo/app:1.0  sha256:f62fb544ff3d          5
--- stderr
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:none` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
""")
    assert not FILE.exists()


def test_lock_json_output(run: Run, locked: str) -> None:
    assert run("lock", "--check", "--format", "digest").stdout.splitlines()[0] == f"sha256:{INDEX}"
    pinned = run("lock", "--check", "--format", "ref").stdout.splitlines()[0]
    assert pinned == f"HOST:PORT/demo/app@sha256:{INDEX}"
    output = json.loads(run("lock", f"{locked}/demo/app:1.0", "--json").stdout)
    assert [one["change"] for one in output["changes"]] == ["unchanged"]
    assert len(output["changes"][0]["platforms"]) == 5


@pytest.mark.parametrize(
    "words",
    [
        ("--check", "--update"),
        (),
        ("--remove",),
        ("--check",),
        ("--update",),
        ("app:1", "-p", "linux//v8"),
        ("app:1:2",),
    ],
)
def test_lock_usage_errors_exit_with_2_and_send_no_request(
    run: Run, words: tuple[str, ...]
) -> None:
    seen = run("lock", *words)

    assert (seen.status, seen.stdout) == (2, "")
    assert seen.stderr.count("error: ") == 1


@pytest.mark.usefixtures("locked")
def test_lock_rejects_a_reference_that_is_not_locked(run: Run) -> None:
    assert str(run("lock", "--check", "nginx")) == snapshot("""\
status: 7
--- stdout
--- stderr
error: the lock file `resolver.lock` does not have `nginx`
hint: it has `HOST:PORT/demo/app:1.0`, `HOST:PORT/demo/single:1.0`
""")


@pytest.mark.usefixtures("locked")
def test_lock_rejects_an_unresolved_merge(run: Run) -> None:
    FILE.write_text("<<<<<<< HEAD\n" + FILE.read_text())

    assert str(run("lock", "--check")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: the lock file `resolver.lock` is malformed: line 1 is a merge conflict
hint: keep one side with `git checkout --ours -- resolver.lock`, then run `resolver lock --update`
""")


def test_lock_reports_a_missing_lock_file(run: Run) -> None:
    assert str(run("lock", "--check")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: there is no lock file `resolver.lock`
hint: write it with `resolver lock REF...`, or name another with `--lock-file`
""")


@pytest.mark.usefixtures("locked")
def test_lock_check_for_a_platform_missing_from_one_entry(run: Run) -> None:
    assert str(run("lock", "--check", "-p", "linux/arm64")) == snapshot("""\
status: 7
--- stdout
lock     resolver.lock
same     1 of 2 references
platform linux/arm64

STATE              REFERENCE
as locked          HOST:PORT/demo/app:1.0
error: not-locked  HOST:PORT/demo/single:1.0
--- stderr
error: the lock file `resolver.lock` does not have `HOST:PORT/demo/single:1.0` for `linux/arm64`
hint: it was locked for `linux/amd64`
""")


def test_locked_resolve_output(run: Run, locked: str) -> None:
    name = f"{locked}/demo/app:1.0"
    online = run("resolve", name, "-p", "linux/arm64")

    assert str(run("resolve", "--locked", name, "-p", "linux/arm64")) == str(online)
    assert run("resolve", "--locked", "-p", "linux/amd64", "--offline").stdout.splitlines() == [
        "sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede"
        f"  linux/amd64                    exact       HOST:PORT/demo/{rest}"
        for rest in ("app:1.0", "single:1.0")
    ]


def test_locked_resolve_rejects_references_the_lock_lacks(run: Run, locked: str) -> None:
    assert str(run("resolve", "--locked", "nginx")) == snapshot("""\
status: 7
--- stdout
--- stderr
error: the lock file `resolver.lock` does not have `docker.io/library/nginx:latest`
hint: record it with `resolver lock nginx`
""")
    assert str(
        run("resolve", "--locked", f"{locked}/demo/app:1.0", "-p", "linux/s390x")
    ) == snapshot("""\
status: 7
--- stdout
--- stderr
error: the lock file `resolver.lock` does not have `HOST:PORT/demo/app:1.0` for `linux/s390x`
hint: it was locked for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
hint: see what has changed: `resolver lock --check`, `resolver lock HOST:PORT/demo/app:1.0`
""")
    for verb in ("plan", "pull"):
        assert run(verb, "--locked", "nginx").status == 7
        assert run(verb, "--locked", "-p", "linux/s390x").status == 7


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("option", ["--verify", "--strict", "--verify-tag"])
def test_locked_resolve_rejects_options_that_need_a_registry(run: Run, option: str) -> None:
    seen = run("resolve", "--locked", option)

    assert seen.status == 2
    assert f"`{option}` needs the registry" in seen.stderr


def test_locked_pull_fetches_the_locked_digest(run: Run, locked: str) -> None:
    name = f"{locked}/demo/app:1.0"

    assert "in 6 requests" in run("plan", "--locked", name, "-p", "linux/arm64").stdout
    assert run("pull", "--locked", name, "-p", "linux/arm64").status == 0
    again = run("pull", "--locked", "--offline", name, "-p", "linux/arm64")
    assert (again.status, "up to date" in again.stdout) == (0, True)
    assert run("plan", "--locked", "--offline", name, "-p", "linux/arm64").status == 0
    assert run("pull", "--locked", "--offline", name, "-p", "linux/amd64").status == 7
    whole = run("pull", "--locked", name, "-p", "all")
    assert (whole.status, whole.stdout.count("Platform: ")) == (0, 5)
    assert "With: 3 attestations" in whole.stdout
    assert "Left out" not in whole.stdout


def test_lock_file_is_set_by_option_and_variable(
    run: Run, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{registry}/demo/single:1.0"
    run("lock", name, "-o", "other.lock")

    assert run("resolve", "--locked", name, "-p", "linux/amd64").status == 2
    words = ("resolve", "--locked", name, "-p", "linux/amd64")
    assert run(*words, "--lock-file", "other.lock").status == 0
    monkeypatch.setenv("RESOLVER_LOCK_FILE", "other.lock")
    assert run(*words).status == 0
    assert run("lock", "--check").status == 0


def test_locked_resolve_rejects_an_empty_lock(run: Run, locked: str) -> None:
    run("lock", "--remove", f"{locked}/demo/app", f"{locked}/demo/single")

    assert run("resolve", "--locked").status == 2
    assert run("lock", "--check").status == 0
    assert run("lock", "--update").status == 2


@pytest.mark.usefixtures("locked")
def test_lock_export_output(run: Run) -> None:
    assert str(run("lock", "export", "--format", "env", "-p", "linux/amd64")) == snapshot("""\
status: 0
--- stdout
APP_IMAGE=HOST:PORT/demo/app@sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede
APP_DIGEST=sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede
SINGLE_IMAGE=HOST:PORT/demo/single@sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede
SINGLE_DIGEST=sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede
--- stderr
""")
    assert run("lock", "export", "--format", "kbld").stdout.count("newImage: ") == 2


def test_lock_export_of_selected_references(run: Run, locked: str) -> None:
    seen = run("lock", "export", f"{locked}/demo/app", "--format", "helm")

    assert (seen.status, seen.stdout.count("repository: ")) == (0, 1)


@pytest.mark.usefixtures("locked")
def test_lock_export_rejects_unsupported_requests(run: Run) -> None:
    assert str(run("lock", "export")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `lock export` does not support `--format table`
hint: choose one of kbld, imgpkg, kustomize, compose, bazel, helm, env
""")
    assert str(run("lock", "export", "--format", "env", "-p", "linux/arm64")) == snapshot("""\
status: 7
--- stdout
--- stderr
error: the lock file `resolver.lock` does not have `HOST:PORT/demo/single:1.0` for `linux/arm64`
hint: it was locked for `linux/amd64`
""")
    assert run("lock", "export", "--format", "env", "-p", "linux/arm64,linux/amd64").status == 2
    assert run("lock", "export", "nginx", "--format", "env").status == 7
    assert run("lock", "export", "--check", "--format", "env").status == 2
    assert run("lock", "export", "--json").status == 2


def test_lock_help_fits_the_page(run: Run) -> None:
    own = run("lock", "--help").stdout.partition("\nShared options:")[0]

    assert own == snapshot("""\
Usage: resolver lock [OPTIONS] [REF]...

  Record the digests of images in a lock file.

  Adds the digest of the index and of each platform to resolver.lock, and
  keeps its other entries. `--check` sends one HEAD request per reference;
  with `-p`, only these platforms count. resolve, plan and pull use the lock
  file with `--locked`. Formats of `export`: kbld, imgpkg, kustomize, compose,
  bazel, helm, env.

    resolver lock nginx:1.27 redis:7
    resolver lock --from Dockerfile compose.yaml
    resolver lock --check -p linux/amd64
    resolver lock --update nginx
    resolver lock export --format kustomize

Arguments:
  [REF]...  Images: `ubuntu:24.04`, `oci:DIR`; see `resolver help references`.

Options:
  -p, --platform PLATFORM  os/arch[/variant][:os.version]; repeat it or use
                           commas; `local`.
  -f, --file FILE          Read references from FILE, one per line; `-` is
                           stdin.
  --from FILE              Lock the images in these files; each REF is a file
                           then.
  --check                  Report changes; exit with status 1 if there are
                           any.
  --update                 Resolve these references again, or all.
  --remove                 Remove these references from the lock file.
  -o, --lock-file FILE     Path of the lock file; by default resolver.lock.
  --no-trunc               Show whole digests and values in tables.
  --cluster ADDRESS        Dask scheduler to use, or `local:N`
                           [RESOLVER_CLUSTER].
  --cluster-jobs N         Requests at once per registry
                           [RESOLVER_CLUSTER_JOBS].
  --shard I/N              Only part I of N: I/N, auto or auto/N
                           [RESOLVER_SHARD].
  --results FILE           Append answers; ask only for those not in it.
  --fresh AGE              Ask again after this time: 12h, 7d; by default 1d.
  -h, --help               Show this message and exit.
""")


COMPOSE = """\
services:
  web:
    image: HOST/demo/app:1.0
  on:
    image: "HOST/demo/single:1.0"
  made:
    image: ${REGISTRY}/x
  mine:
    image: HOST/demo/none:1  # resolver: ignore
"""


@pytest.fixture
def files(run: Run, registry: str) -> None:
    del run  # it chooses the folder
    Path("compose.yaml").write_text(COMPOSE.replace("HOST", registry))
    Path("Dockerfile").write_text(f"FROM {registry}/demo/app:2.0 AS build\nFROM build\n")


@pytest.mark.usefixtures("files")
def test_lock_reads_references_from_files(run: Run, registry: str) -> None:
    assert str(run("lock", "--from", "Dockerfile", "compose.yaml")) == snapshot("""\
status: 0
--- stdout
lock     resolver.lock
holds    3 references

CHANGE  REFERENCE                        DIGEST               PLATFORMS
added   HOST:PORT/demo/app:2.0     sha256:a589c03475cf          5
added   HOST:PORT/demo/app:1.0     sha256:f62fb544ff3d          5
added   HOST:PORT/demo/single:1.0  sha256:311923c08153          1
--- stderr
warning: `compose.yaml:7` names `${REGISTRY}/x`, which cannot be resolved: it is composed of variables
""")
    locked = json.loads(FILE.read_text())["images"]
    assert [image["written"] for image in locked.values()] == [
        f"{registry}/demo/app:1.0",
        f"{registry}/demo/app:2.0",
        f"{registry}/demo/single:1.0",
    ]
    assert run("lock", "--check", "--from", "Dockerfile").stdout.count("as locked") == 1
    assert run("lock", "--update", "--from", "Dockerfile").stdout.count("unchanged") == 1
    override = run("lock", "export", "--from", "compose.yaml", "--format", "compose")
    assert str(override) == snapshot("""\
status: 0
--- stdout
# Written by `resolver lock export`; write it again instead of changing it.
---
services:
  "on":
    image: "HOST:PORT/demo/single:1.0@sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede"
  "web":
    image: "HOST:PORT/demo/app:1.0@sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda"
--- stderr
""")


@pytest.mark.usefixtures("files")
def test_lock_combines_files_and_a_list(run: Run, registry: str) -> None:
    Path("images.txt").write_text(f"{registry}/demo/single:1.0\n")

    assert "holds    2 references" in run("lock", "--from", "Dockerfile", "-f", "images.txt").stdout


def test_lock_rejects_files_without_images_and_unreadable_files(run: Run) -> None:
    Path("Dockerfile").write_text("FROM scratch\n")
    Path("notes.txt").write_text("hello\n")

    assert str(run("lock", "--from", "Dockerfile")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: no image found in `Dockerfile`
hint: name other files with `--from`
""")
    assert run("lock", "--from", "notes.txt").status == 2
    assert run("lock", "--from", "missing.yaml").status == 2


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}), 4),
        (Reply(403), 4),
        (Reply(503, {"Retry-After": "600"}), 5),
        (Reply(200, {"Content-Type": OCI_INDEX}, b"{}"), 6),
    ],
)
def test_lock_check_failures_have_distinct_exit_statuses(
    run: Run, reply: Reply, status: int
) -> None:
    with FakeRegistry() as host:
        host.serve("app", "1", multi_platform("linux/amd64"))
        assert run("lock", f"{host.host}/app:1").status == 0
        host.on("*", "/v2/app/manifests/1", reply)

        assert run("lock", "--check").status == status
        assert run("lock", "--update").status == status


def test_lock_rejects_unsupported_file_types(run: Run, registry: str) -> None:
    Path("deployment.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: "
        f'[{{name: a, image: "{registry}/demo/app:1.0"}}]}}}}}}\n'
    )
    Path("values.yaml").write_text(f'image:\n  repository: {registry}/demo/single\n  tag: "1.0"\n')

    assert run("lock", "--from", "deployment.yaml", "values.yaml").status == 0
    locked = json.loads(FILE.read_text())["images"]
    assert [image["written"] for image in locked.values()] == [
        f"{registry}/demo/app:1.0",
        f"{registry}/demo/single:1.0",
    ]


def test_lock_failures_and_digest_references_in_json(run: Run, registry: str) -> None:
    names = (f"{registry}/demo/app:1.0", f"{registry}/demo/app:none")
    output = json.loads(run("lock", *names, "--json").stdout)

    assert output["written"] is False
    assert [one["error"]["code"] for one in output["failures"]] == ["manifest-not-found"]
    assert run("lock", names[0], "--format", "ref").stdout == f"HOST:PORT/demo/app@sha256:{INDEX}\n"
    seen = run("lock", "--check", "--offline", "--json")
    assert (seen.status, json.loads(seen.stdout)["error"]["code"]) == (7, "not-in-store")


def test_lock_check_of_several_with_one_unreachable(run: Run, locked: str) -> None:
    with FakeRegistry() as host:
        host.serve("app", "1", multi_platform("linux/amd64"))
        run("lock", f"{host.host}/app:1")
        host.on("*", "/v2/app/manifests/1", Reply(403))
        seen = run("lock", "--check", "--json")
    output = json.loads(seen.stdout)

    assert seen.status == 4
    assert [one.get("state", "-") for one in output["references"]].count("as locked") == 2
    assert [one["error"]["class"] for one in output["references"] if "error" in one] == ["AUTH"]
    assert locked


def test_lock_check_reports_a_removed_tag(run: Run) -> None:
    with FakeRegistry() as host:
        host.serve("app", "1", multi_platform("linux/amd64"))
        run("lock", f"{host.host}/app:1")
        host.on("*", "/v2/app/manifests/1", Reply(404))

        assert str(run("lock", "--check")) == snapshot("""\
status: 1
--- stdout
lock     resolver.lock
same     0 of 1 reference

references
STATE  REFERENCE
gone   HOST:PORT/app:1

moved
REFERENCE              PLATFORM  LOCKED               NOW
HOST:PORT/app:1  (index)   sha256:cfb641abaf3b  gone
--- stderr
difference: 1 of 1 references in `resolver.lock` has moved since they were locked
hint: test what has changed, then record it with `resolver lock --update`
""")


def test_lock_rejects_a_dash_as_file(run: Run, registry: str) -> None:
    for words in (("lock", f"{registry}/demo/app:1.0"), ("lock", "--check")):
        seen = run(*words, "-o", "-")

        assert seen.status == 2
        assert "`-` cannot be a lock file" in seen.stderr
    assert not Path("-").exists()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_lock_check_prints_whole_names_on_a_terminal(locked: str, width: int) -> None:
    edit((INDEX, "1" * 64), (ARM64, "2" * 64))
    shown = on_terminal("lock", "--check", columns=width)
    tables = shown[shown.index("references") :]

    assert f"{locked}/demo/app:1.0" in tables
    assert f"{locked}/demo/single:1.0" in tables
    _, _, moved = tables.partition("\nmoved\n")
    assert moved.count(f"{locked}/demo/app:1.0") == 6
    assert "windows/amd64:10.0.26100.1742" in moved
    assert "…" not in moved
