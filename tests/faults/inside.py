"""Scenarios that need their own file system or network: run in a namespace.

Started as `python -m tests.faults.inside SCENARIO ARGUMENTS` inside `unshare`, this runs one
scenario and writes what came of it as JSON.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import invariants
from tests.kit.outcomes import Outcome
from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.ground import Ground

_TRIAL = "mount -t tmpfs -o size=64k none /mnt"
_NETWORK = "ip link set lo up && iptables -A INPUT -p tcp --dport 9 -j DROP"


@functools.cache
def _works(options: str, script: str) -> bool:
    try:
        done = subprocess.run(
            ["unshare", options, "sh", "-c", script], check=False, capture_output=True, timeout=20
        )
    except OSError:
        return False
    return done.returncode == 0


needs_mounts = pytest.mark.skipif(
    "not __import__('tests.faults.inside', fromlist=['x'])._works('-rm', "
    "'mount -t tmpfs -o size=64k none /mnt')",
    reason="this system does not allow mounting in a namespace",
)
needs_network = pytest.mark.skipif(
    "not __import__('tests.faults.inside', fromlist=['x'])._works('-rnm', "
    "'ip link set lo up && iptables -A INPUT -p tcp --dport 9 -j DROP')",
    reason="this system has no network namespaces with iptables",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")


def mounted(ground: Ground, scenario: str, *, network: bool = False) -> dict[str, Outcome]:
    """Run a scenario on the store in a mount namespace; return outcomes by name."""
    before = ground.begin()
    done = subprocess.run(
        [
            "unshare",
            "-rnm" if network else "-rm",
            sys.executable,
            "-m",
            "tests.faults.inside",
            scenario,
            str(ground.store),
            ground.registry.host,
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **ground.environment, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = {
        name: Outcome(row[0], row[1].encode(), row[2].encode(), row[3])
        for name, row in json.loads(done.stdout).items()
    }
    for outcome in found.values():
        ground.check(outcome, before)
    return found


class Inside:
    """Runs commands inside the namespace."""

    def __init__(self, store: str, host: str) -> None:
        self.store = store
        self.host = host
        self.found: dict[str, list[Any]] = {}

    def do(self, name: str, *words: str) -> int:
        """Run a command and keep its outcome."""
        began = time.monotonic()
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "resolver",
                *words,
                "--json",
                "--no-progress",
                "--store",
                self.store,
            ],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        texts = [done.stdout.decode(), done.stderr.decode()]
        self.found[name] = [done.returncode, *texts, time.monotonic() - began]
        return done.returncode

    def mount(self, size: str, *more: str) -> None:
        """Put the store on a small separate disk."""
        Path(self.store).mkdir(exist_ok=True)
        options = ",".join([f"size={size}", "mode=700", *more])
        shell("mount", "-t", "tmpfs", "-o", options, "none", self.store)

    def look(self) -> None:
        """Check what is visible only in this namespace."""
        root = Path(self.store)
        invariants.whole(root)
        invariants.closed(root)
        invariants.unlocked(root)

    def pull(self, name: str, image: str) -> int:
        """Run a pull."""
        return self.do(name, "pull", "-p", "linux/amd64", f"{self.host}/{image}")


def shell(*words: str) -> None:
    """Run a system program."""
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def read_only(inside: Inside) -> None:
    """STO-006."""
    shell("mount", "--bind", inside.store, inside.store)
    shell("mount", "-o", "remount,bind,ro", inside.store)
    reference = f"{inside.host}/img-a:1"
    inside.do("resolve", "resolve", "--offline", reference, "-p", "linux/amd64")
    inside.do("inspect", "inspect", "--offline", reference, "-p", "linux/amd64")
    inside.do("ls", "ls")
    inside.do("du", "du")
    inside.do("verify", "verify", "--full")
    inside.do("plan", "plan", reference, "-p", "linux/amd64")
    inside.pull("pull of the same", "img-a:1")
    inside.pull("pull of another", "img-a:2")
    inside.do("gc", "gc", "--grace", "0s")
    inside.do("rm", "rm", reference)


def disk_full(inside: Inside) -> None:
    """FLT-003: known before anything is fetched."""
    inside.mount("1m")
    inside.pull("full", "img-a:1")
    inside.look()
    shell("mount", "-o", "remount,size=16m", inside.store)
    inside.pull("after", "img-a:1")
    inside.look()


def disk_filling(inside: Inside) -> None:
    """FLT-003: another process fills the disk."""
    inside.mount("16m")
    inside.pull("first", "img-a:2")
    inside.do("rm", "rm", f"{inside.host}/img-a:2")
    # Enough for the content, but too little for the overhead.
    shell("mount", "-o", "remount,size=2160k", inside.store)
    inside.pull("full", "img-a:1")
    inside.look()
    shell("mount", "-o", "remount,size=16m", inside.store)
    inside.pull("after", "img-a:1")
    inside.look()


def inodes_full(inside: Inside) -> None:
    """FLT-003: no free inode."""
    inside.mount("16m", "nr_inodes=24")
    inside.pull("full", "img-a:1")
    inside.look()
    shell("mount", "-o", "remount,nr_inodes=400", inside.store)
    inside.pull("after", "img-a:1")
    inside.look()


def drop(inside: Inside) -> None:
    """FLT-012: a host that does not answer."""
    guarded(inside, "DROP")
    inside.pull("drop", "img-a:1")


def reject(inside: Inside) -> None:
    """FLT-012: a host that refuses."""
    guarded(inside, "REJECT", "--reject-with", "tcp-reset")
    inside.pull("reject", "img-a:1")


def guarded(inside: Inside, *how: str) -> None:
    """Put a firewall before a host."""
    shell("ip", "link", "set", "lo", "up")
    shell("ip", "addr", "add", "8.8.8.8/32", "dev", "lo")
    inside.host = "8.8.8.8:81"
    shell("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "81", "-j", *how)


SCENARIOS: dict[str, Callable[[Inside], None]] = {
    "read_only": read_only,
    "disk_full": disk_full,
    "disk_filling": disk_filling,
    "inodes_full": inodes_full,
    "drop": drop,
    "reject": reject,
}


def main() -> None:
    """Run one scenario."""
    scenario, store, host = sys.argv[1:]
    inside = Inside(store, host)
    SCENARIOS[scenario](inside)
    sys.stdout.write(json.dumps(inside.found))


if __name__ == "__main__":
    main()
