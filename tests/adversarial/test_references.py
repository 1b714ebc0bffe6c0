"""Valid and invalid references (CLI-001 and CLI-002 of the catalogue)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from tests.adversarial.actor import refused
from tests.kit.images import build_image
from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts

HEX = "0123456789abcdef" * 4
BAD = [
    "",
    " ",
    "UPPER/x",
    "a//b",
    "a/../b",
    "a:b:c",
    "a@sha256:short",
    "a:-t",
    "a:.t",
    "a:" + "t" * 129,
    "r" * 256,
    "http://h/x",
    "h:99999/x",
    "h:0x50/x",
    "h:/x",
    f"a@sha256:{HEX}x",
    # Not in the catalogue, of the same kind.
    "a\n",
    "a:1\n",
    f"a@sha256:{HEX}\n",
    "a b",
    "user:pw@h/x",
    "h/x?y=1",
    "h/x#y",
    "h/%2e%2e/x",
    "h:\u0665000/x",
    "a:\uff11",
    "\u0430pp",
    "a\x00",
    "-x",
    "a@md5:" + "0" * 32,
    "a@sha256:" + HEX.upper(),
    "[::1/x",
    "[fe80::1%25eth0]/x",
    "..",
    "a/",
    "/a",
    "x" * 5000,
    "\udcff",
]


def test_cli_001_invalid_references_send_no_request(act: Actor) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.adversarial.silence"],
        check=True,
        input=json.dumps(BAD).encode(),
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RESOLVER_STORE": str(act.store)},
        timeout=60,
    )
    for reference, (status, error, attempts) in zip(BAD, json.loads(done.stdout), strict=True):
        assert (status, attempts) == (2, []), (reference, status, error, attempts)
        first, *hints = error.splitlines()
        assert first.startswith("error: "), (reference, error)
        assert all(line.startswith("hint: ") for line in hints), (reference, error)
    assert not act.store.exists()


@pytest.mark.parametrize("reference", ["", "a//b", "a:b:c", "h:99999/x", "a@sha256:short"])
def test_cli_001_one_invalid_reference_stops_all(act: Actor, hosts: Hosts, reference: str) -> None:
    registry = hosts.evil()
    refused(act("RESOLVE", f"{registry.host}/app:1", reference), "USAGE")
    for verb in ("INSPECT", "PLATFORMS", "TAGS"):
        refused(act(verb, reference), "USAGE")
    assert registry.connections == 0


GOOD = {
    "localhost:5000/x": "localhost:5000/x:latest",
    "[::1]:5000/x:1": "[::1]:5000/x:1",
    "a": "docker.io/library/a:latest",
    "a/b/c:tag": "docker.io/a/b/c:tag",
    f"a:tag@sha256:{HEX}": f"docker.io/library/a:tag@sha256:{HEX}",
    "docker.io/library/a": "docker.io/library/a:latest",
    "x.y/z:UPPER_tag.1-2": "x.y/z:UPPER_tag.1-2",
    "z": "docker.io/library/z:latest",
}


@pytest.mark.parametrize("reference", GOOD)
def test_cli_002_valid_references_are_parsed(act: Actor, reference: str) -> None:
    # Offline they get as far as the store, which is empty.
    outcome = act("RESOLVE", "--offline", reference)
    refused(outcome, "OFFLINE")
    assert outcome.failure["reference"] == GOOD[reference]


def test_cli_002_digest_wins_over_tag(act: Actor, hosts: Hosts) -> None:
    registry = hosts.registry()
    tagged, pinned = build_image("linux/arm64"), build_image("linux/amd64")
    registry.serve("x", "tag", tagged)
    registry.serve("x", None, pinned)
    outcome = act("RESOLVE", f"{registry.host}/x:tag@{pinned.digest}", "-p", "linux/amd64")
    assert outcome.answer["manifest"]["digest"] == pinned.digest
    assert not registry.requests(path_contains="/manifests/tag")
    unknown = str(Digest.of(b"nothing"))
    refused(act("RESOLVE", f"{registry.host}/x:tag@{unknown}"), "NOT_FOUND", unknown)
