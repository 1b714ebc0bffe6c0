"""CNCF distribution's own registry, started by a test on this machine, and skopeo to fill it."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import bcrypt

if TYPE_CHECKING:
    from pathlib import Path

    import trustme

    from tests.kit.images import Image

#: How long a registry may take to answer for the first time, in seconds.
PATIENCE = 30
_REQUEST = re.compile(r'"([A-Z]+) ([^ "]+) HTTP/')


@dataclass(frozen=True)
class Lock:
    """Requirements of a registry: TLS of our CA, and a user's password."""

    authority: trustme.CA
    user: str
    password: str


@dataclass(frozen=True)
class RealRegistry:
    """A running registry.

    Attributes:
        host: `127.0.0.1:PORT`.
        folder: its configuration, log and storage.
        lock: None for plain HTTP without authentication.
    """

    host: str
    folder: Path
    process: subprocess.Popen[bytes]
    lock: Lock | None

    def requests(self, expected: int, since: int = 0) -> list[str]:
        """Return the requests logged after the first `since`, as `METHOD /path`.

        The registry writes a request down after it has answered it: so wait for `expected`, then
        ask something of our own and wait for that too, in case there were more than expected.
        """
        mark = f"/v2/?mark={time.monotonic_ns()}"
        deadline = time.monotonic() + PATIENCE
        while len(self._logged()) < since + expected:
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        connection.request("GET", mark)
        connection.getresponse().read()
        connection.close()
        while f"GET {mark}" not in (logged := self._logged()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return [line for line in logged[since:] if "?mark=" not in line]

    def seen(self) -> int:
        """Count the logged requests once none is active, for `requests`."""
        self.requests(0)
        return len(self._logged())

    def _logged(self) -> list[str]:
        text = (self.folder / "log").read_text("utf-8", "replace")
        return [f"{method} {path}" for method, path in _REQUEST.findall(text)]


def start(folder: Path, lock: Lock | None = None) -> RealRegistry:
    """Start a registry and wait until it answers; the caller ends `process`."""
    folder.mkdir()
    failures = []
    for _ in range(5):  # Another process may take the port before it is used.
        port = _free_port()
        config = folder / "config.yml"
        config.write_text(json.dumps(_configuration(folder, port, lock)))  # JSON is YAML.
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Not ours: variables that begin with REGISTRY_ would override the file.
                env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            )
        if _answers(process, port):
            return RealRegistry(f"127.0.0.1:{port}", folder, process, lock)
        process.kill()
        process.wait()
        failures.append((folder / "log").read_text("utf-8", "replace"))
    raise AssertionError("docker-registry does not start: " + "\n".join(failures))


def _configuration(folder: Path, port: int, lock: Lock | None) -> dict[str, object]:
    listen: dict[str, object] = {"addr": f"127.0.0.1:{port}"}
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": listen,
    }
    if lock is not None:
        certificate = lock.authority.issue_cert("127.0.0.1", "localhost")
        chain, key = folder / "server.pem", folder / "server.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(str(key))
        listen["tls"] = {"certificate": str(chain), "key": str(key)}
        users = folder / "htpasswd"
        # The lowest cost of bcrypt: the file needs no protection.
        hashed = bcrypt.hashpw(lock.password.encode(), bcrypt.gensalt(4))
        users.write_bytes(lock.user.encode() + b":" + hashed + b"\n")
        config["auth"] = {"htpasswd": {"realm": "real", "path": str(users)}}
    return config


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the port takes connections; False when the process ended first."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False


def skopeo(*arguments: str, home: Path) -> bytes:
    """Run skopeo without user settings; return its stdout."""
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def push(registry: RealRegistry, layout: Path, tag: str, name: str) -> None:
    """Copy `tag` of an OCI layout unchanged to `name` (`repository:tag`)."""
    access: tuple[str, ...] = ("--dest-tls-verify=false",)
    if registry.lock is not None:
        access += ("--dest-creds", f"{registry.lock.user}:{registry.lock.password}")
    target = f"docker://{registry.host}/{name}"
    words = ["copy", "--quiet", "--all", "--preserve-digests", *access]
    skopeo(*words, f"oci:{layout}:{tag}", target, home=registry.folder)


def upload(registry: RealRegistry, repository: str, tag: str, image: Image) -> None:
    """Push an image by hand, since skopeo would convert Docker's types from a layout.

    Source: OCI distribution-spec v1.1.1, "Pushing blobs", "Pushing manifests".
    """
    for digest, blob in image.blobs.items():
        opened = _send(registry, "POST", f"/v2/{repository}/blobs/uploads/", b"", {})
        location = f"{opened}&digest={quote(digest)}"
        _send(registry, "PUT", location, blob, {"Content-Type": "application/octet-stream"})
    # An index is taken only when everything it lists is there: the root comes last.
    names = [digest for digest in image.documents if digest != image.digest]
    for name in (*names, tag):
        media_type, body = image.documents[image.digest if name == tag else name]
        path = f"/v2/{repository}/manifests/{name}"
        _send(registry, "PUT", path, body, {"Content-Type": media_type})


def _send(
    registry: RealRegistry, method: str, target: str, body: bytes, headers: dict[str, str]
) -> str:
    """Send one request that must succeed; return the path and query of its Location."""
    connection = http.client.HTTPConnection(registry.host, timeout=PATIENCE)
    connection.request(method, target, body, headers)
    answer = connection.getresponse()
    message = answer.read()
    connection.close()
    assert answer.status in {201, 202}, (method, target, answer.status, message)
    location = urlsplit(answer.getheader("Location", ""))
    return f"{location.path}?{location.query}"
