"""Output of `resolver pull`, in a log and for scripts."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.cli.run import choose_progress
from resolver.core.oci.digest import Digest
from resolver.session import Session
from tests.kit.images import build_image, multi_platform, named_by
from tests.kit.registry import FakeRegistry, Reply
from tests.kit.serve_client import ask

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

ARM = ("-p", "linux/arm64", "--jobs", "1")


def test_pull_log_output(run: Run, registry: str) -> None:
    assert str(run("pull", f"{registry}/demo/app:1.0", *ARM)) == snapshot("""\
status: 0
--- stdout
Platform: linux/arm64/v8
With: 1 attestation
Left out: 4 images, 2 attestations of the index (`-p all` includes every entry)
Digest: sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
Status: Downloaded newer image for HOST:PORT/demo/app:1.0
Fetched: 187 kB in 6 pieces; 3 already held
--- stderr
1.0: Pulling from HOST:PORT/demo/app (linux/arm64/v8)
19281301ecf8: Downloading 102 kB
19281301ecf8: Verifying
19281301ecf8: Pull complete
50ee82149703: Downloading 51.2 kB
50ee82149703: Verifying
50ee82149703: Pull complete
14fa95f15ff1: Downloading 30.7 kB
14fa95f15ff1: Verifying
14fa95f15ff1: Pull complete
98c1200128c8: Downloading 386 B
98c1200128c8: Verifying
98c1200128c8: Pull complete
""")


def test_pull_with_everything_in_the_store(run: Run, registry: str) -> None:
    run("pull", f"{registry}/demo/app:1.0", *ARM)

    assert str(run("pull", f"{registry}/demo/app:1.0", *ARM)) == snapshot("""\
status: 0
--- stdout
Platform: linux/arm64/v8
With: 1 attestation
Left out: 4 images, 2 attestations of the index (`-p all` includes every entry)
Digest: sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
Status: Image is up to date for HOST:PORT/demo/app:1.0
--- stderr
1.0: Pulling from HOST:PORT/demo/app (linux/arm64/v8)
50ee82149703: Already exists
19281301ecf8: Already exists
14fa95f15ff1: Already exists
98c1200128c8: Already exists
""")


def test_pull_another_tag_fetches_only_new_content(run: Run, registry: str) -> None:
    run("pull", f"{registry}/demo/app:1.0", *ARM)

    assert str(run("pull", f"{registry}/demo/app:2.0", *ARM)) == snapshot("""\
status: 0
--- stdout
Platform: linux/arm64/v8
With: 1 attestation
Left out: 4 images, 2 attestations of the index (`-p all` includes every entry)
Digest: sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41
Status: Downloaded newer image for HOST:PORT/demo/app:2.0
Fetched: 32.9 kB in 4 pieces; 5 already held
--- stderr
2.0: Pulling from HOST:PORT/demo/app (linux/arm64/v8)
50ee82149703: Already exists
19281301ecf8: Already exists
15eaf78b9ebf: Downloading 30.7 kB
15eaf78b9ebf: Verifying
15eaf78b9ebf: Pull complete
64d0e97d3f8c: Downloading 386 B
64d0e97d3f8c: Verifying
64d0e97d3f8c: Pull complete
""")


def test_pull_all_platforms(run: Run, registry: str) -> None:
    seen = run("pull", f"{registry}/demo/app:1.0", "-p", "all", "--no-progress")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
Platform: linux/amd64
Platform: linux/arm64/v8
Platform: linux/arm/v7
Platform: windows/amd64:10.0.20348.2700
Platform: windows/amd64:10.0.26100.1742
With: 3 attestations
Digest: sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
Status: Downloaded newer image for HOST:PORT/demo/app:1.0
Fetched: 530 kB in 21 pieces; 9 already held
--- stderr
""")


def test_pull_quiet_prints_only_the_pinned_reference(run: Run, registry: str) -> None:
    seen = run("pull", f"{registry}/demo/app:1.0", *ARM, "--quiet", "--format", "ref")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
HOST:PORT/demo/app@sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
--- stderr
""")


def test_pull_json_progress_is_written_to_stderr(run: Run, registry: str) -> None:
    seen = run("pull", f"{registry}/demo/app:1.0", *ARM, "--progress", "json", "--json")
    events = [json.loads(line) for line in seen.stderr.splitlines()]
    output = json.loads(seen.stdout)

    assert [event["event"] for event in events][:3] == ["started", "reused", "reused"]
    assert events[-1]["event"] == "image-done"
    assert output["images"][0]["status"] == "downloaded"
    assert output["bytesFetched"] == sum(piece["size"] for piece in output["fetched"])
    assert output["failures"] == []


def test_pull_prints_a_warning_once(run: Run, registry: str) -> None:
    seen = run("pull", f"{registry}/demo/app:1.0", "-p", "linux/arm/v8", "--no-progress")

    assert seen.status == 0
    assert seen.stderr.count("warning: ") == 1


def test_pull_checks_the_size_limit_before_fetching(run: Run, registry: str) -> None:
    seen = run("pull", f"{registry}/demo/app:1.0", *ARM, "--max-download", "100kB")

    assert str(seen) == snapshot("""\
status: 1
--- stdout
--- stderr
error: 187 kB must be fetched, but only 100 kB are allowed
hint: see what they are with `resolver plan`, or allow more with `--max-download`
""")
    assert run("ls", "-q").stdout == ""


def test_pull_with_one_missing_reference_fetches_the_others(run: Run, registry: str) -> None:
    seen = run("pull", f"{registry}/demo/app:1.0", f"{registry}/demo/app:9.9", *ARM)

    assert str(seen) == snapshot("""\
status: 3
--- stdout
Platform: linux/arm64/v8
With: 1 attestation
Left out: 4 images, 2 attestations of the index (`-p all` includes every entry)
Digest: sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
Status: Downloaded newer image for HOST:PORT/demo/app:1.0
Fetched: 187 kB in 6 pieces; 3 already held
--- stderr
1.0: Pulling from HOST:PORT/demo/app (linux/arm64/v8)
19281301ecf8: Downloading 102 kB
19281301ecf8: Verifying
19281301ecf8: Pull complete
50ee82149703: Downloading 51.2 kB
50ee82149703: Verifying
50ee82149703: Pull complete
14fa95f15ff1: Downloading 30.7 kB
14fa95f15ff1: Verifying
14fa95f15ff1: Pull complete
98c1200128c8: Downloading 386 B
98c1200128c8: Verifying
98c1200128c8: Pull complete
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:9.9` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
""")


def test_pull_offline_with_missing_content(run: Run, registry: str) -> None:
    run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm64")

    assert str(run("pull", f"{registry}/demo/app:1.0", *ARM, "--offline")) == snapshot("""\
status: 7
--- stdout
--- stderr
error: the store `FOLDER/store` does not hold the manifest `sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a` of `HOST:PORT/demo/app:1.0` of `HOST:PORT/demo/app:1.0`, and `--offline` is set
hint: run the same command once without `--offline`
""")


def test_pull_offline_with_content_in_the_store(run: Run, registry: str) -> None:
    run("pull", f"{registry}/demo/app:1.0", *ARM)

    assert run("pull", f"{registry}/demo/app:1.0", *ARM, "--offline").status == 0


def test_pull_to_an_unwritable_store(run: Run, registry: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    seen = run("pull", f"{registry}/demo/app:1.0", *ARM, "--store", "file/store")

    assert str(seen) == snapshot("""\
status: 8
--- stdout
--- stderr
error: the store cannot be used at `FOLDER/file/store`: not a directory
hint: a file is in its place: remove it, or name another folder with `--store` or `RESOLVER_STORE`
""")


def test_pull_rejects_an_unknown_progress_mode(run: Run, registry: str) -> None:
    assert str(run("pull", f"{registry}/demo/app:1.0", "--progress", "fancy")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: unknown form of progress `fancy`
hint: choose one of auto, tty, plain, json, none
""")


def test_pull_from_another_source_without_its_registry(
    run: Run, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/demo/app:1.0"
    run("pull", name, *ARM, "--store", str(tmp_path / "other"))
    run("export", name, "--to", "mirror", "--store", str(tmp_path / "other"))

    seen = run("pull", name, *ARM, "--from", "oci:mirror")

    assert seen.stderr == snapshot("""\
1.0: Pulling from HOST:PORT/demo/app (linux/arm64/v8)
50ee82149703: Copying 51.2 kB from oci:mirror
50ee82149703: Verifying
50ee82149703: Pull complete
19281301ecf8: Copying 102 kB from oci:mirror
19281301ecf8: Verifying
19281301ecf8: Pull complete
14fa95f15ff1: Copying 30.7 kB from oci:mirror
14fa95f15ff1: Verifying
14fa95f15ff1: Pull complete
98c1200128c8: Copying 386 B from oci:mirror
98c1200128c8: Verifying
98c1200128c8: Pull complete
""")


def test_pull_reports_one_failed_image_and_keeps_the_others(run: Run) -> None:
    good, broken = build_image("linux/arm64", [b"here"]), build_image("linux/arm64", [b"gone"])
    layer = next(digest for digest, body in broken.blobs.items() if not body.startswith(b"{"))
    with FakeRegistry() as fake:
        names = [f"{fake.host}/team/{name}:1" for name in ("app", "broken")]
        fake.serve("team/app", "1", good)
        fake.serve("team/broken", "1", broken)
        missing = Reply(404, {}, b'{"errors": [{"code": "BLOB_UNKNOWN"}]}')
        fake.on("GET", f"/v2/team/broken/blobs/{layer}", missing)
        seen = run("pull", *names, "-p", "linux/arm64", "--json", "--no-progress")

    output = json.loads(seen.stdout)
    assert seen.status == 3
    assert seen.stderr.count("error: ") == 1
    assert output["failures"][0]["error"]["code"] == "blob-not-found"
    assert [image["status"] for image in output["images"]] == ["downloaded"]


def test_interrupted_pull_reports_what_is_kept_and_how_to_resume(run: Run, store: Path) -> None:
    layer = bytes(range(256)) * 400
    never = threading.Event()
    main = threading.get_ident()
    with FakeRegistry() as fake:
        fake.serve("team/app", "1", build_image("linux/arm64", [layer]))
        path = f"/v2/team/app/blobs/{Digest.of(layer)}"
        fake.on("GET", path, Reply(body=layer, hold=never, hold_after=60_000), times=1)

        def has_come() -> bool:
            parts = [*store.glob("partial/*/data")]
            return bool(parts) and parts[0].read_bytes()[59_999:60_000] == layer[59_999:60_000]

        def interrupt() -> None:
            deadline = time.monotonic() + 60
            while not has_come() and time.monotonic() < deadline:
                time.sleep(0.01)
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=interrupt).start()
        seen = run("pull", f"{fake.host}/team/app:1", "-p", "linux/arm64", "--no-progress")
        never.set()
        again = run("pull", f"{fake.host}/team/app:1", "-p", "linux/arm64")

    assert (seen.status, seen.stdout) == (130, "")
    (line,) = seen.stderr.splitlines()
    assert re.fullmatch(
        r"note: 60\.[0-9] kB is kept \(0 of 1 pieces complete\): "
        "run the same command again to fetch the rest",
        line,
    )
    assert again.status == 0
    assert ": Resuming, " in again.stderr


@pytest.mark.parametrize(
    ("form", "environment", "wanted", "terminal", "expected"),
    [
        ("auto", {"TERM": "xterm"}, True, True, "tty"),
        ("auto", {"TERM": "xterm"}, True, False, "plain"),
        ("auto", {"TERM": "xterm", "CI": "true"}, True, True, "plain"),
        ("auto", {"TERM": "xterm", "CI": "false"}, True, True, "tty"),
        ("auto", {"TERM": "dumb"}, True, True, "plain"),
        ("auto", {}, True, True, "plain"),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, True, True, "tty"),
        ("auto", {"TERM": "xterm"}, False, True, "none"),
        ("json", {"CI": "true"}, False, False, "json"),
        ("tty", {"CI": "true"}, True, False, "tty"),
        ("plain", {"TERM": "xterm"}, True, True, "plain"),
    ],
)
def test_pull_progress_mode_follows_option_then_terminal_then_ci(
    form: str, environment: dict[str, str], wanted: bool, terminal: bool, expected: str
) -> None:
    assert choose_progress(form, environment, wanted=wanted, terminal=terminal) == expected


@pytest.mark.parametrize("kind", ["index", "manifest"])
def test_pull_keeps_the_digest_a_registry_gives_for_a_tag(
    run: Run, store: Path, tmp_path: Path, kind: str
) -> None:
    plain = build_image("linux/arm64") if kind == "manifest" else multi_platform("linux/arm64")
    image = named_by(plain, "sha512")
    with FakeRegistry() as registry:
        registry.serve("app", "1", image)
        name = f"{registry.host}/app:1"
        pinned = f"{name}@{image.digest}"
        (tmp_path / "Dockerfile").write_text(f"FROM {name}\n")

        for _ in range(2):
            found = json.loads(run("resolve", name, *ARM[:2], "--json", keep=True).stdout)
            root = found["index"] if kind == "index" else found["manifest"]
            assert root["digest"] == image.digest
        assert run("pin", "Dockerfile").status == 0
        assert (tmp_path / "Dockerfile").read_text() == f"FROM {pinned}\n"
        assert run("lock", name).status == 0
        assert image.digest in (tmp_path / "resolver.lock").read_text()
        assert run("lock", "--check").status == 0
        assert run("resolve", "--verify-tag", pinned, *ARM[:2]).status == 0
        assert run("pull", pinned, *ARM).status == 0
        assert run("pull", name, "--locked", *ARM).status == 0
        assert run("pull", name, *ARM).status == 0
        log = [seen for seen in registry.log if "/manifests/sha256" in seen.path]
        assert all(seen.path.rpartition("/")[2] in image.documents for seen in log)

    assert run("verify", "--full").status == 0
    with Session(store) as session, session.serve() as server:
        repository = name.removesuffix(":1").replace(":", "-")
        for target in ("1", image.digest):
            head, got = (
                ask(server, f"/v2/{repository}/manifests/{target}", method)
                for method in ("HEAD", "GET")
            )
            assert got.body == image.body
            for answer in (head, got):
                assert answer.headers["docker-content-digest"] == image.digest
    assert run("export", name, "--to", "layout").status == 0
    exported = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert exported["manifests"][0]["digest"].startswith(("sha512:", "sha256:"))
    assert run("resolve", "oci:layout", *ARM[:2]).status == 0


@pytest.mark.parametrize("form", ["table", "json"])
def test_pull_of_many_prints_what_a_pull_of_few_does(
    run: Run, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Many are planned in groups, while those before are transferred."""
    one, other = f"{registry}/demo/app:1.0", f"{registry}/demo/app:2.0"
    words = ("pull", one, other, one, "-p", "linux/arm/v8", "--no-progress", "--format", form)
    few = run(*words, "--store", str(tmp_path / "few"))
    monkeypatch.setattr("resolver.verbs.pull.AHEAD", 1)
    many = run(*words, "--store", str(tmp_path / "many"))

    assert few.status == many.status == 0
    assert sorted(many.stderr.splitlines()) == sorted(few.stderr.splitlines())
    if form == "json":
        few_images, many_images = (json.loads(each.stdout)["images"] for each in (few, many))
        assert many_images == few_images
        assert len(many_images) == 2
    else:
        assert many.stdout.count("downloaded") == few.stdout.count("downloaded")
