"""Output of `resolver matrix`, as read by a pipeline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml
from inline_snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Run


def test_matrix_github_output_is_one_line(run: Run, registry: str) -> None:
    seen = run("matrix", f"{registry}/demo/app:1.0")

    assert seen.status == 0
    assert seen.stdout.count("\n") == 1
    jobs = json.loads(seen.stdout)["include"]
    assert [(job["platform"], job["runner"]) for job in jobs] == [
        ("linux/amd64", "ubuntu-24.04"),
        ("linux/arm64/v8", "ubuntu-24.04-arm"),
        ("linux/arm/v7", None),
        ("windows/amd64:10.0.20348.2700", "windows-2022"),
        ("windows/amd64:10.0.26100.1742", "windows-2025"),
    ]
    assert seen.stderr == snapshot(
        "warning: no GitHub Actions runner is known for `linux/arm/v7`, so `runner` is empty there (`--runner linux/arm/v7=LABEL` names one)\n"
    )


def test_matrix_of_a_single_image_has_one_job(run: Run, registry: str) -> None:
    assert str(run("matrix", f"{registry}/demo/single:1.0")) == snapshot("""\
status: 0
--- stdout
{"include":[{"platform":"linux/amd64","os":"linux","arch":"amd64","variant":"","os_version":"","digest":"sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede","ref":"HOST:PORT/demo/single@sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede","runner":"ubuntu-24.04"}]}
--- stderr
""")


def test_matrix_gitlab_output_is_a_hidden_job(run: Run, registry: str) -> None:
    seen = run(
        "matrix", f"{registry}/demo/app:1.0", "--for", "gitlab", "-p", "linux/arm64,linux/amd64"
    )

    assert str(seen) == snapshot("""\
status: 0
--- stdout
{
  ".resolver-matrix": {
    "variables": {"IMAGE": "HOST:PORT/demo/app"},
    "parallel": {"matrix": [
      {"PLATFORM": ["linux/amd64"], "OS": ["linux"], "ARCH": ["amd64"], "VARIANT": [""], "OS_VERSION": [""], "DIGEST": ["sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede"], "RUNNER": ["saas-linux-small-amd64"]},
      {"PLATFORM": ["linux/arm64/v8"], "OS": ["linux"], "ARCH": ["arm64"], "VARIANT": ["v8"], "OS_VERSION": [""], "DIGEST": ["sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a"], "RUNNER": ["saas-linux-small-arm64"]}
    ]}
  }
}
--- stderr
""")
    assert yaml.safe_load(seen.stdout) == json.loads(seen.stdout)


def test_matrix_json_output_is_a_list(run: Run, registry: str) -> None:
    words = ("--for", "json", "-p", "linux/arm", "--runner", "linux/arm=pi")
    assert str(run("matrix", f"{registry}/demo/app:1.0", *words)) == snapshot("""\
status: 0
--- stdout
[
  {
    "platform": "linux/arm/v7",
    "os": "linux",
    "arch": "arm",
    "variant": "v7",
    "os_version": "",
    "digest": "sha256:e9c938fb2564d82d2eaa50a8e621dd74fe62d5d73b56f603d9c0d4cf60ca6744",
    "ref": "HOST:PORT/demo/app@sha256:e9c938fb2564d82d2eaa50a8e621dd74fe62d5d73b56f603d9c0d4cf60ca6744",
    "runner": "pi"
  }
]
--- stderr
""")


def test_matrix_supports_the_shared_formats(run: Run, registry: str) -> None:
    words = ("matrix", f"{registry}/demo/app:1.0", "-q")
    written = json.loads(run(*words, "--json").stdout)

    assert written["schema"] == 1
    assert len(written["include"]) == 5
    assert len(run(*words, "--format", "digest").stdout.splitlines()) == 5
    assert run(*words, "--format", "ref", "-p", "linux/arm64").stdout.startswith("HOST:PORT/demo/")
    assert "| `linux/arm/v7` |" in run(*words, "--format", "markdown").stdout


def test_matrix_rejects_images_without_jobs(run: Run, registry: str) -> None:
    name = f"{registry}/demo/app:1.0"

    assert str(run("matrix", name, "--require-runner")) == snapshot("""\
status: 1
--- stdout
--- stderr
error: no runner is known for `linux/arm/v7` of `HOST:PORT/demo/app:1.0`
hint: name one with `--runner linux/arm/v7=LABEL`, or leave it out: choose with `-p`
""")
    assert str(run("matrix", name, "-p", "linux/riscv64")) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is not offered for `linux/riscv64`
hint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
""")
    assert str(run("matrix", name, "--for", "jenkins")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `jenkins` is not a supported CI system
hint: choose one of `github`, `gitlab`, `json`
""")
    assert str(run("matrix", name, "--for", "gitlab", "--json")) == snapshot("""\
status: 2
--- stdout
{
  "schema": 1,
  "error": {
    "class": "USAGE",
    "code": "usage",
    "status": 2,
    "message": "`--for gitlab` and `--format json` exclude each other",
    "hints": [
      "leave out one of them"
    ]
  }
}
--- stderr
error: `--for gitlab` and `--format json` exclude each other
hint: leave out one of them
""")
    assert str(run("matrix", name, "--runner", "linux/arm64")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `--runner linux/arm64` is not `PLATFORM=LABEL`
hint: write `--runner linux/arm64=ubuntu-24.04-arm`
""")
    assert run("matrix", f"{registry}/demo/app:9").status == 3


def test_matrix_is_a_ci_output(
    run: Run, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "output"
    place.touch()
    monkeypatch.setenv("GITHUB_OUTPUT", str(place))

    seen = run("matrix", f"{registry}/demo/app:1.0", "-q", "--emit", "github", keep=True)

    assert seen.status == 0
    assert seen.stdout.rstrip("\n") in place.read_text().splitlines()
