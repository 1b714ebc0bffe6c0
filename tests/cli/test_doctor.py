"""Output of `resolver doctor`, for people and pipelines."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.cli.output import is_terminal
from resolver.core.results.doctor import Checkup, CheckupRow, CheckupState
from resolver.render import render
from resolver.render.ci.emit import EMITTERS
from resolver.render.text import WIDTH, Page
from tests.kit.processes import ROOT
from tests.kit.processes import command as start

if TYPE_CHECKING:
    from tests.cli.conftest import Run

FOUND = Checkup(
    "0.1.0",
    (
        CheckupRow("installation", "python", CheckupState.OK, "3.11.7 (/usr/bin/python3)"),
        CheckupRow("store", "folder", CheckupState.OK, "/home/me/.cache/resolver/v1"),
        CheckupRow(
            "store",
            "file system",
            CheckupState.ERROR,
            "nfs4: over a network, where locks cannot be relied on",
            "name another folder with `--store` or `RESOLVER_STORE` on a local disk, or "
            "`--unsafe-no-lock` if it is not shared",
            (("kinds", ("nfs4",)), ("remote", True)),
        ),
        CheckupRow(
            "logins",
            "/home/me/.docker/config.json",
            CheckupState.WARNING,
            "ghcr.io; other users may read it",
            "chmod 600 /home/me/.docker/config.json",
        ),
        CheckupRow(
            "tools",
            "podman",
            CheckupState.NOTE,
            "`podman` is not on PATH",
            "",
            (("present", False),),
        ),
    ),
)


def test_doctor_text_output() -> None:
    assert render(FOUND, "table") == snapshot("""\
installation
  ok       python: 3.11.7 (/usr/bin/python3)

store
  ok       folder: /home/me/.cache/resolver/v1
  error    file system: nfs4: over a network, where locks cannot be relied on
           hint: name another folder with `--store` or `RESOLVER_STORE` on a local disk, or `--unsafe-no-lock` if it is not shared

logins
  warning  /home/me/.docker/config.json: ghcr.io; other users may read it
           hint: chmod 600 /home/me/.docker/config.json

tools
  note     podman: `podman` is not on PATH

1 error, 1 warning
""")


def test_doctor_json_output() -> None:
    output = json.loads(render(FOUND, "json"))

    assert (output["schema"], output["version"], output["state"]) == (1, "0.1.0", "error")
    assert output["rows"][2] == snapshot(
        {
            "group": "store",
            "name": "file system",
            "state": "error",
            "found": "nfs4: over a network, where locks cannot be relied on",
            "hint": "name another folder with `--store` or `RESOLVER_STORE` on a local disk, or `--unsafe-no-lock` if it is not shared",
            "facts": {"kinds": ["nfs4"], "remote": True},
        }
    )
    assert output["rows"][0]["hint"] is None


def test_doctor_markdown_has_complete_cells() -> None:
    assert render(FOUND, "markdown") == snapshot("""\
**doctor**

- state: 1 error, 1 warning

**installation**

| state | what | found | do |
| --- | --- | --- | --- |
| ok | python | 3.11.7 (/usr/bin/python3) |  |

**store**

| state | what | found | do |
| --- | --- | --- | --- |
| ok | folder | `/home/me/.cache/resolver/v1` |  |
| error | file system | nfs4: over a network, where locks cannot be relied on | name another folder with `--store` or `RESOLVER_STORE` on a local disk, or `--unsafe-no-lock` if it is not shared |

**logins**

| state | what | found | do |
| --- | --- | --- | --- |
| warning | `/home/me/.docker/config.json` | ghcr.io; other users may read it | chmod 600 /home/me/.docker/config.json |

**tools**

| state | what | found | do |
| --- | --- | --- | --- |
| note | podman | `podman` is not on PATH |  |
""")
    assert "/home/me/.docker/config.json" in render(FOUND, "html")


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ((), "no problem found"),
        ((CheckupState.NOTE, CheckupState.OK), "no problem found"),
        ((CheckupState.WARNING,), "1 warning"),
        ((CheckupState.WARNING, CheckupState.ERROR, CheckupState.ERROR), "2 errors, 1 warning"),
    ],
)
def test_doctor_counts_results_in_its_last_line(
    states: tuple[CheckupState, ...], words: str
) -> None:
    found = Checkup("1", tuple(CheckupRow("store", "x", state, "y") for state in states))

    assert render(found, "table").splitlines()[-1] == words


def test_doctor_lines_fit_the_page_and_paths_stay_whole() -> None:
    path = "/a/very/long/path" * 6
    found = Checkup(
        "1",
        (CheckupRow("store", "folder", CheckupState.ERROR, f"it is {path} " * 2, "mend " * 40),),
    )
    lines = render(found, "table", page=Page(WIDTH)).splitlines()

    assert sum(path in line for line in lines) == 2
    assert all(len(line) <= WIDTH for line in lines if path not in line)


@pytest.mark.parametrize("form", ["digest", "ref"])
def test_doctor_rejects_reference_formats(run: Run, form: str) -> None:
    assert run("doctor", "--format", form).status == 2


def test_doctor_on_a_healthy_machine_exits_0_and_creates_no_store(run: Run, store: Path) -> None:
    seen = run("doctor")

    assert (seen.status, seen.stderr) == (0, "")
    assert "ok folder: FOLDER/store (does not exist yet" in " ".join(seen.stdout.split())
    assert not store.exists()


def test_doctor_error_exits_with_status_1_and_a_complete_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOLVER_JOBS", "many")
    monkeypatch.setenv("RESOLVER_PLATFORMS", "nowhere.yaml")
    seen = run("doctor", "--json")
    output = json.loads(seen.stdout)

    assert (seen.status, seen.stderr) == (1, "")
    wrong = [row["name"] for row in output["rows"] if row["state"] == "error"]
    assert wrong == ["RESOLVER_JOBS", "RESOLVER_PLATFORMS"]


def test_doctor_error_is_a_ci_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESOLVER_JOBS", "many")
    seen = run("doctor", "--report", "sarif=r.sarif", "--report", "junit=r.xml", "--emit", "env=e")
    (result,) = json.loads(Path("r.sarif").read_text())["runs"][0]["results"]

    assert seen.status == 1
    assert result["ruleId"] == "doctor-variables"
    assert "RESOLVER_JOBS" in result["message"]["text"]
    assert "<failure" in Path("r.xml").read_text()
    assert "RESOLVED_STATUS='1'" in Path("e").read_text()


def test_doctor_usage_errors_exit_with_status_2(run: Run) -> None:
    assert run("doctor", "no host/at all").status == 2
    assert run("doctor", "--jobs", "many").status == 2
    assert run("doctor", "--ca-file", "nowhere.pem").status == 2


def test_doctor_detects_the_ci_system(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in EMITTERS.values():
        if row.detected:
            monkeypatch.delenv(row.detected, raising=False)
    monkeypatch.setenv("GITLAB_CI", "true")

    assert "CI: gitlab; `--emit auto` passes answers to it" in run("doctor").stdout


def test_closed_stream_is_not_a_terminal(tmp_path: Path) -> None:
    closed = (tmp_path / "x").open("w")
    closed.close()

    assert is_terminal(closed) is False
    assert is_terminal(None) is False


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": "/nowhere"},
        {"HOME": ""},
        {"PATH": ""},
        {"XDG_CONFIG_HOME": "relative", "XDG_CACHE_HOME": "relative"},
        {"RESOLVER_STORE": "/proc/self/nowhere"},
        {"RESOLVER_STORE": "/dev/null"},
        {"RESOLVER_CONFIG": "/", "RESOLVER_CERTS_D": "/dev/null:/proc"},
        {"CONTAINERS_REGISTRIES_CONF": "/dev"},
        {"DOCKER_CONFIG": "/dev/null", "REGISTRY_AUTH_FILE": "/"},
        {"DOCKER_AUTH_CONFIG": "{"},
        {"SSL_CERT_FILE": "/", "SSL_CERT_DIR": "/dev/null"},
        {"HTTPS_PROXY": "::::", "NO_PROXY": "[", "LANG": "C"},
        {"RESOLVER_MIRROR": "docker.io=ftp://x", "DOCKER_DEFAULT_PLATFORM": "a/b/c/d/e"},
        {"RESOLVER_STORE": "s\udcffx"},
    ],
)
def test_doctor_reports_every_check_when_parts_fail(
    variables: dict[str, str], tmp_path: Path
) -> None:
    done = start("doctor", "--json", "--store", str(tmp_path), environment=variables)
    alone = start("doctor", environment=variables)

    assert done.returncode in {0, 1}, done.stderr
    assert alone.returncode in {0, 1}, alone.stderr
    assert json.loads(done.stdout)["schema"] == 1
    for text in (done.stderr, alone.stderr):
        assert b"Traceback" not in text
        assert b"defect" not in text


def test_doctor_reports_a_missing_required_package(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESOLVER_STORE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.setenv("RESOLVER_JOBS", "3")
    seen = run("doctor", "--json", "--emit", "env=e")
    first, *others = json.loads(seen.stdout)["rows"]

    assert (seen.status, seen.stderr) == (1, "")
    assert "platformdirs" in first["found"]
    assert first["hint"] == "pip install --force-reinstall multiarch-resolver"
    assert {"python", "httpx", "isal"} <= {row["name"] for row in others}
    assert "RESOLVED_STATUS='1'" in Path("e").read_text()


def test_doctor_runs_without_stdin() -> None:
    words = f"exec {shlex.quote(sys.executable)} -m resolver doctor <&-"
    done = subprocess.run(
        ["sh", "-c", words],
        check=False,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"a password is not prompted" in done.stdout
