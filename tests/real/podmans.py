"""Podman with storage of its own, and its API service for the `docker` command."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: How long the service may take to answer for the first time, in seconds.
PATIENCE = 20
_STORAGE = """[storage]
driver = "vfs"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
# As a Docker engine does by itself; podman's service must be told.
_REGISTRIES = """[[registry]]
location = "127.0.0.1"
insecure = true
"""
_CONTAINERS = """[engine]
events_logger = "none"
"""
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


@dataclass(frozen=True)
class RealPodman:
    """A podman whose files are in `folder`, and its running service."""

    folder: Path
    service: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for `podman`, and for `docker` to use the service."""
        return {
            **variables(self.folder),
            "DOCKER_HOST": f"unix://{self.folder}/socket",
        }

    def run(self, *command: str) -> str:
        """Run a command that must succeed; return its stdout."""
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.environment,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def image(self, name: str) -> dict[str, object]:
        """Return what podman knows of an image."""
        (found,) = json.loads(self.run("podman", "image", "inspect", name))
        assert isinstance(found, dict)
        return found

    def names(self) -> set[str]:
        """Return the names of all images."""
        return set(self.run("podman", "images", "--format", "{{.Repository}}:{{.Tag}}").split())

    def clear(self) -> None:
        """Remove every image."""
        self.run("podman", "rmi", "--all", "--force")

    def stop(self) -> None:
        """End the service."""
        self.service.terminate()
        try:
            self.service.wait(10)
        except subprocess.TimeoutExpired:
            self.service.kill()
            self.service.wait()


def variables(folder: Path) -> dict[str, str]:
    """Return the variables that keep podman in a folder."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
    }


def start(folder: Path) -> RealPodman | str:
    """Start a service and wait until it answers; return its last output if it does not."""
    (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
    (folder / "registries.conf").write_text(_REGISTRIES)
    (folder / "containers.conf").write_text(_CONTAINERS)
    policy = folder / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text(json.dumps(_POLICY))
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen(
            ["podman", "system", "service", "--time", "0", f"unix://{folder}/socket"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=variables(folder),
        )
    running = RealPodman(folder, service)
    deadline = time.monotonic() + PATIENCE
    while service.poll() is None and time.monotonic() < deadline:
        if (folder / "socket").exists():
            return running
        time.sleep(0.05)
    running.stop()
    return " ".join((folder / "log").read_text("utf-8", "replace").splitlines()[-1:])[-300:]
