"""`resolver serve`: prints its address and serves until it is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.cli.serve import address, mirrored
from resolver.errors import Usage
from tests.kit.images import build_image
from tests.kit.processes import ROOT
from tests.kit.pushes import Pusher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run


@pytest.fixture
def pulled(run: Run, registry: str) -> str:
    """Pull an image; return its name."""
    name = f"{registry}/demo/app:1.0"
    run("pull", name, "-p", "linux/arm64", "--no-progress")
    return name


@pytest.fixture
def served(pulled: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    assert pulled
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    process = subprocess.Popen(
        [sys.executable, "-m", "resolver", "serve", "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def listening(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_serve_offers_a_pulled_image_under_its_repository(
    run: Run, pulled: str, served: subprocess.Popen[str]
) -> None:
    place = listening(served)

    with urllib.request.urlopen(f"http://{place}/v2/demo/app/tags/list") as answer:
        assert b'"1.0"' in answer.read()
    here = run("resolve", f"{place}/demo/app:1.0", "-p", "linux/arm64", "--format", "digest")
    there = run("resolve", pulled, "-p", "linux/arm64", "--format", "digest")
    assert (here.status, here.stdout) == (0, there.stdout)


def test_serve_keeps_served_images_in_use(
    run: Run, pulled: str, served: subprocess.Popen[str]
) -> None:
    listening(served)

    assert str(run("rm", pulled)) == snapshot("""\
status: 1
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is kept: it is in use by `serve`
hint: wait until that has ended, or untag it with `--force`
""")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serve_stops_on_a_signal(
    served: subprocess.Popen[str], number: signal.Signals, status: int
) -> None:
    listening(served)
    assert served.stderr is not None
    stated, note = served.stderr.readline(), served.stderr.readline()
    served.send_signal(number)

    _, rest = served.communicate(timeout=10)

    assert served.returncode == status
    assert "/demo/app:1.0` is served as `sha256:" in stated
    assert "4 images, 2 attestations of" in stated
    assert note == snapshot("note: serving, read-only; interrupt to stop\n")
    assert rest == ""


def test_serve_reports_a_port_in_use(run: Run, registry: str) -> None:
    seen = run("serve", "--listen", registry)

    assert str(seen) == snapshot("""\
status: 2
--- stdout
--- stderr
error: cannot listen on `HOST:PORT`: Address already in use
hint: choose another address or port
""")


def test_serve_rejects_a_folder_without_a_layout(run: Run, tmp_path: Path) -> None:
    tmp_path.joinpath("empty").mkdir()

    assert run("serve", "oci:empty", "--listen", ":0").status in {3, 6}
    assert run("serve", "oci-archive:a.tar", "--listen", ":0").status == 6
    assert str(run("serve", "ubuntu", "--listen", ":0")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `ubuntu` cannot be served
hint: name an OCI layout: `oci:DIR`
""")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        (":0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:65535", ("localhost", 65_535)),
    ],
)
def test_serve_listen_addresses_are_parsed(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5000", "::1:80", "host:", "host:65536", "host:-1", "host:\u0661"]
)
def test_serve_rejects_an_invalid_address(text: str) -> None:
    with pytest.raises(Usage):
        address(text)


def test_serve_as_a_mirror_prints_its_upstream(
    run: Run, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["serve", "--mirror", "-v", "--upstream", registry, "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "resolver", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        place = listening(process)
        here = run("resolve", f"{place}/demo/app:1.0", "-p", "linux/arm64", "--format", "digest")
        there = run(
            "resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm64", "--format", "digest"
        )
        assert (here.status, here.stdout) == (0, there.stdout)
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=10)
    assert told.startswith("note: serving, and fetching missing content; interrupt to stop\n")
    assert "note: GET /v2/demo/app/manifests/1.0: 200\n" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--upstream", "ghcr.io"], "`--upstream` and `--allow` require `--mirror`"),
        (["--allow", "ghcr.io"], "`--upstream` and `--allow` require `--mirror`"),
        (["--mirror", "oci:x"], "`--mirror` serves the store, not a layout"),
        (["--mirror", "--fresh", "soon"], "`--fresh soon` is not a duration"),
        (["--mirror", "--allow", "a b"], "is not an image reference"),
    ],
)
def test_serve_rejects_an_invalid_mirror(run: Run, words: list[str], message: str) -> None:
    seen = run("serve", *words, "--listen", ":0")
    assert (seen.status, seen.stdout) == (2, "")
    assert message in seen.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--htpasswd", "users"], "`--htpasswd` requires `--writable`"),
        (["--keep-untagged", "1h"], "`--keep-untagged` requires `--writable`"),
        (["--allow-sparse"], "`--allow-sparse` requires `--writable`"),
        (["--writable", "--mirror"], "`--writable` and `--mirror` exclude each other"),
        (["--writable", "oci:x"], "`--writable` serves the store, not a layout"),
        (["--writable", "--keep-untagged", "soon"], "`--keep-untagged soon` is not a duration"),
    ],
)
def test_serve_rejects_invalid_writable_options(run: Run, words: list[str], message: str) -> None:
    seen = run("serve", *words, "--listen", ":0")
    assert (seen.status, seen.stdout) == (2, "")
    assert message in seen.stderr


def test_serve_writable_beyond_this_machine_requires_a_password(run: Run, tmp_path: Path) -> None:
    assert str(run("serve", "--writable", "--listen", "0.0.0.0:0")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `--writable` on `0.0.0.0` would let other machines push without a password
hint: add `--htpasswd FILE`, or listen on `127.0.0.1`
""")
    (tmp_path / "users").write_text("ann:plain")
    seen = run("serve", "--writable", "--listen", "0.0.0.0:0", "--htpasswd", "users")
    assert str(seen) == snapshot("""\
status: 2
--- stdout
--- stderr
error: cannot use `users` at `line 1`: it must be `USER:HASH` with a bcrypt hash, as `htpasswd -B` writes it
hint: fix or remove `users`, then try again
""")


def test_serve_writable_takes_pushes_until_it_is_stopped(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["serve", "--writable", "--listen", "127.0.0.1:0", "--keep-untagged", "1h"]
    process = subprocess.Popen(
        [sys.executable, "-m", "resolver", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        image = build_image("linux/arm64")
        Pusher(listening(process)).image("team/app", "1.0", image)
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=10)

    assert told == "note: serving, and taking pushes; interrupt to stop\n"
    seen = run("inspect", "store:localhost/team/app:1.0", "--format", "digest")
    assert (seen.status, seen.stdout) == (0, f"{image.digest}\n")
    assert "localhost/team/app" in run("ls").stdout


def test_serve_allow_accepts_commas() -> None:
    assert mirrored(None, None, ["a.test,b.test", "c.test"], "5m", mirror=True) == (
        "docker.io",
        ("a.test", "b.test", "c.test"),
        300.0,
    )
    assert mirrored("oci:x", None, None, "60s", mirror=False) is None


def test_mirrors_are_configured_by_option_or_variable(run: Run, registry: str) -> None:
    words = ["resolve", "hub.test/demo/app:1.0", "-p", "linux/arm64", "--format", "digest"]
    mirror = f"hub.test=http://{registry}#tags"
    seen = run(*words, "--mirror", mirror, "-v")
    assert seen.status == 0
    assert "is requested as configured in `--mirror`" in seen.stderr
    assert "gave `1.0` of `hub.test/demo/app`" in seen.stderr
    seen = run("resolve", "hub.test/a/b:1", "--mirror", "nonsense")
    assert seen.status == 2
    assert "hint: write `--mirror docker.io=https://mirror.example.com`\n" in seen.stderr
