"""`doctor` with a real registry behind TLS and a password, without a login."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.kit.processes import command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real


def diagnosed(registry: RealRegistry, *more: str) -> tuple[int, dict[str, dict[str, object]]]:
    done = command("doctor", registry.host, "--json", *more)
    assert done.stderr == b""
    rows = json.loads(done.stdout)["rows"]
    return done.returncode, {str(row["name"]): row for row in rows}


def test_doctor_reaches_a_registry(locked: RealRegistry, ca_file: Path) -> None:
    status, rows = diagnosed(locked, "--ca-file", str(ca_file))

    assert status == 0
    answers, clock = rows[f"{locked.host} answers"], rows[f"{locked.host} clock"]
    assert (answers["state"], answers["found"]) == (
        "ok",
        f"from {locked.host}, and requires a login",
    )
    assert clock["state"] == "ok"
    assert rows["--ca-file"]["state"] == "ok"


def test_doctor_reports_a_registry_with_an_unknown_ca(locked: RealRegistry) -> None:
    status, rows = diagnosed(locked)

    assert status == 1
    assert rows[f"{locked.host} answers"]["state"] == "error"
    assert "certificate" in str(rows[f"{locked.host} answers"]["found"])
