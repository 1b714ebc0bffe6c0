"""Login to a real registry behind TLS, and every failure."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.kit.processes import command
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real


def log_in(registry: RealRegistry, *more: str, password: str | None = None) -> tuple[int, str, str]:
    assert registry.lock is not None
    typed = registry.lock.password if password is None else password
    words = ("login", registry.host, "--username", registry.lock.user, "--password-stdin", *more)
    done = command(*words, stdin=typed.encode())
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def pull(registry: RealRegistry, ca_file: Path, store: Path) -> int:
    name = f"{registry.host}/demo/app:1.0"
    options = ("-p", "linux/arm64", "--ca-file", str(ca_file), "--store", str(store))
    return command("pull", name, *options).returncode


def test_login_pull_logout(locked: RealRegistry, ca_file: Path, tmp_path: Path) -> None:
    assert pull(locked, ca_file, tmp_path / "before") == 4

    status, output, _ = log_in(locked, "--ca-file", str(ca_file))
    assert (status, output.split(":")[0]) == (0, "Login Succeeded")
    assert pull(locked, ca_file, tmp_path / "with") == 0
    # What we wrote, other tools read.
    read = subprocess.run(
        [
            "skopeo",
            "inspect",
            "--raw",
            f"--cert-dir={certificates(ca_file)}",
            f"docker://{locked.host}/demo/app:1.0",
        ],
        check=False,
        capture_output=True,
        env={"HOME": os.environ["HOME"], "PATH": os.environ["PATH"]},
    )
    assert read.returncode == 0, read.stderr

    assert command("logout", locked.host).returncode == 0
    assert pull(locked, ca_file, tmp_path / "after") == 4


def certificates(ca_file: Path) -> Path:
    folder = ca_file.parent / "certs"
    folder.mkdir(exist_ok=True)
    (folder / "ca.crt").write_bytes(ca_file.read_bytes())
    return folder


def test_login_with_a_wrong_password_is_refused(locked: RealRegistry, ca_file: Path) -> None:
    status, output, message = log_in(locked, "--ca-file", str(ca_file), password="wr0ng")

    assert (status, output) == (4, "")
    assert message.splitlines()[0] == (
        f"error: `{locked.host}` rejects this user name and password; nothing was stored"
    )
    assert len(message.splitlines()) == 2
    assert not (Path(os.environ["HOME"]) / ".docker").exists()


def test_login_with_an_unknown_ca(locked: RealRegistry) -> None:
    status, output, message = log_in(locked)

    assert (status, output) == (5, "")
    assert "certificate" in message.splitlines()[0]
    assert "--ca-file" in message


@pytest.mark.parametrize("wrong", ["expired", "another name"])
def test_login_with_an_invalid_certificate(tmp_path: Path, wrong: str) -> None:
    authority = trustme.CA()
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    if wrong == "expired":
        certificate = authority.issue_cert("127.0.0.1", not_after=past)
    else:
        certificate = authority.issue_cert("elsewhere.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with FakeRegistry(tls=context) as registry:
        words = ("login", registry.host, "--username", "u", "--password-stdin")
        done = command(*words, "--ca-file", str(ca_file), stdin=b"S3cr3tPa55")

    message = done.stderr.decode().splitlines()
    assert done.returncode == 5
    assert registry.host in message[0]
    assert ("expired" if wrong == "expired" else "name") in message[0]
    assert 1 <= len(message) <= 3
