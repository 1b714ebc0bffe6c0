"""Install credential helpers on the PATH."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def plant_helper(
    folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch | None = None
) -> Path:
    """Write `docker-credential-NAME`, a shell script, and put its folder first on the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    if monkeypatch is not None:
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return path
