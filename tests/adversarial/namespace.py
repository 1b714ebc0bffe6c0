"""Run a scenario in a network namespace where public addresses are on the loopback device.

Started as `python -m tests.adversarial.namespace MODULE:FUNCTION FOLDER` inside a network
namespace, it runs one scenario, a function that takes an `Actor` and `Hosts` and asserts.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import pytest

from tests.adversarial.actor import Actor
from tests.adversarial.hosts import Hosts
from tests.kit.processes import ROOT

#: Public, private and metadata addresses; inside the namespace all of them are this machine.
ADDRESSES = ("8.8.8.8", "8.8.4.4", "10.0.0.5", "10.0.0.6", "169.254.169.254")
#: Names of these scenarios, for /etc/hosts inside.
NAMES = {
    "127.0.0.1": "localhost",
    "8.8.8.8": "registry-1.docker.io docker.io index.docker.io",
    "10.0.0.5": "reg.test a.reg.test a.b.reg.test",
}
_ENTER = ("unshare", "-rnm", "sh", "-c")
_SET_UP = "ip link set lo up && {addresses} mount --bind {hosts} /etc/hosts && exec {start}"
_TRIAL = "ip link set lo up && ip addr add 8.8.8.8/32 dev lo && mount --bind /etc/hosts /etc/hosts"


@functools.cache
def obstacle() -> str:
    """Return why a namespace cannot be created; empty if it can."""
    try:
        done = subprocess.run([*_ENTER, _TRIAL], check=False, capture_output=True, timeout=20)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip()


def inside(scenario: str, folder: Path) -> None:
    """Run a scenario in a network namespace; skip where the system allows none."""
    if obstacle():
        pytest.skip(f"no network namespace here: {obstacle()}")
    names = folder / "etc-hosts"
    names.write_text("".join(f"{address} {words}\n" for address, words in NAMES.items()))
    addresses = "".join(f"ip addr add {each}/32 dev lo && " for each in ADDRESSES)
    start = f'"{sys.executable}" -m tests.adversarial.namespace "$@"'
    script = _SET_UP.format(addresses=addresses, hosts=names, start=start)
    done = subprocess.run(
        [*_ENTER, script, "namespace", scenario, str(folder)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    text = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, f"{scenario} failed inside its namespace:\n{text}"


def main() -> None:
    """Run one scenario, in the namespace that this process was started in."""
    place, folder = sys.argv[1:]
    module, _, name = place.partition(":")
    act = Actor(Path(folder))
    with ExitStack() as stack:
        getattr(import_module(module), name)(act, Hosts(act, stack))


if __name__ == "__main__":
    main()
