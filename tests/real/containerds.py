"""A containerd started by a test, and `ctr` to control it."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: How long it may take to answer for the first time, in seconds.
PATIENCE = 20
# The CRI plugin starts a network, which is not needed; nor is /opt.
_CONFIG = """version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
"""


@dataclass(frozen=True)
class RealContainerd:
    """A running containerd.

    Attributes:
        folder: its configuration, log, content and state.

    """

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for `ctr`."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CONTAINERD_ADDRESS": str(self.folder / "socket"),
        }

    def ctr(self, namespace: str, *arguments: str, check: bool = True) -> str:
        """Run `ctr`; return its stdout."""
        done = subprocess.run(
            ["ctr", "--namespace", namespace, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.environment,
            timeout=60,
        )
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout.decode() if done.returncode == 0 else ""

    def content(self, namespace: str, digest: str) -> bytes:
        """Return the bytes of a blob."""
        done = subprocess.run(
            ["ctr", "--namespace", namespace, "content", "get", digest],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.environment,
            timeout=60,
        )
        return done.stdout

    def images(self, namespace: str) -> dict[str, str]:
        """Return the digest of every image by name."""
        lines = self.ctr(namespace, "images", "ls").splitlines()[1:]
        return {line.split()[0]: line.split()[2] for line in lines}

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(folder: Path) -> RealContainerd | str:
    """Start a containerd and wait until it answers; return its last output if it does not."""
    config = folder / "config.toml"
    config.write_text(_CONFIG.format(folder=folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "containerd",
                *("--config", str(config)),
                *("--root", str(folder / "root")),
                *("--state", str(folder / "state")),
                *("--address", str(folder / "socket")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )
    running = RealContainerd(folder, process)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if running.ctr("default", "version", check=False):
            return running
        time.sleep(0.05)
    running.stop()
    return " ".join((folder / "log").read_text("utf-8", "replace").splitlines()[-1:])[-300:]
