"""An unreadable home holds no configuration and prevents no request."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.sources.mirrors.files import is_folder, is_in_reach
from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 65534
#: Run as another user: read the endpoints of a registry and whether it is blocked.
ASK = """
import os, sys
from pathlib import Path
from resolver.sources.mirrors.hosts import Hosts
from resolver.sources.mirrors.files import configuration_files, may_block
home, other = Path(sys.argv[1]), Path(sys.argv[2])
import resolver.sources.mirrors.formats, resolver.sources.mirrors.files
import resolver.core.registry.endpoints
os.setgroups([]); os.setgid(65534); os.setuid(65534)
environment = {"XDG_CONFIG_HOME": str(home / ".config")} if len(sys.argv) > 3 else {}
hosts = Hosts(environment, home, (), lambda _event: None, system=other)
print(hosts.choose("reg.test", "app").form or "itself")
print(may_block(configuration_files(environment, home, other)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("more", [[], ["by variable"]])
def test_unreadable_home_folder_is_skipped(tmp_path: Path, more: list[str]) -> None:
    home = tmp_path / "home"
    for folder in (home / ".config/containers/certs.d/reg.test", home / ".config/resolver"):
        folder.mkdir(parents=True)
    (home / ".config/containers/registries.conf").write_text('[[registry]]\nprefix="reg.test"\n')
    (home / ".config/resolver/config.yaml").write_text("hosts: [")
    home.chmod(0o700)
    words = [sys.executable, "-c", ASK, str(home), "/nothing-here", *more]

    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT)

    assert (done.returncode, done.stdout) == (0, "itself\nFalse\n"), done.stderr


def test_missing_path_is_reachable_and_not_a_folder(tmp_path: Path) -> None:
    assert is_in_reach(tmp_path / "nothing" / "at" / "all")
    assert not is_folder(tmp_path / "nothing")
    assert is_folder(tmp_path)
