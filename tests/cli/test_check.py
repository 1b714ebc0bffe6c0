"""Output and exit statuses of `resolver check`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.core.oci.descriptor import OCI_INDEX
from resolver.verbs import check
from tests.kit.images import build_image, build_index, from_dict
from tests.kit.images import entry as index_entry
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two months after the samples were made."""

    monkeypatch.setattr(check, "_now", lambda: datetime(2024, 7, 1, tzinfo=UTC))


def test_check_passes_when_every_requirement_is_met(run: Run, registry: str) -> None:
    wanted = "linux/amd64,linux/aarch64,windows/amd64:ltsc2022"
    seen = run("check", f"{registry}/demo/app:1.0", "--require", wanted, "--max-age", "90d")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
`HOST:PORT/demo/app:1.0`: passed (5 platforms)
--- stderr
""")


def test_check_prints_a_line_per_missing_requirement(run: Run, registry: str) -> None:
    seen = run(
        "check",
        f"{registry}/demo/app:1.0",
        f"{registry}/demo/single:1.0",
        *("--require", "linux/amd64", "--require", "linux/arm/v6,linux/riscv64"),
        *("--forbid", "windows/amd64"),
    )

    assert str(seen) == snapshot("""\
status: 1
--- stdout
error  platform-missing    linux/arm/v6                   HOST:PORT/demo/app:1.0     `linux/arm/v6` is not offered; nearest is `linux/arm/v7`: needs arm/v7, newer than the requested v6
error  platform-missing    linux/riscv64                  HOST:PORT/demo/app:1.0     `linux/riscv64` is not offered; it offers `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700` and 1 more
error  platform-forbidden  windows/amd64:10.0.20348.2700  HOST:PORT/demo/app:1.0     `windows/amd64:10.0.20348.2700` is offered, but forbidden
error  platform-forbidden  windows/amd64:10.0.26100.1742  HOST:PORT/demo/app:1.0     `windows/amd64:10.0.26100.1742` is offered, but forbidden
`HOST:PORT/demo/app:1.0`: failed, 4 errors (5 platforms)
error  platform-missing    linux/arm/v6                   HOST:PORT/demo/single:1.0  `linux/arm/v6` is not offered; it offers `linux/amd64`
error  platform-missing    linux/riscv64                  HOST:PORT/demo/single:1.0  `linux/riscv64` is not offered; it offers `linux/amd64`
`HOST:PORT/demo/single:1.0`: failed, 2 errors (1 platform)
--- stderr
""")


def test_check_age_attestations_and_lint(run: Run, registry: str) -> None:
    name = f"{registry}/demo/app:1.0"
    assert str(run("check", name, "--max-age", "4w", "--require", "linux/amd64")) == snapshot("""\
status: 1
--- stdout
error  too-old  linux/amd64  `linux/amd64` was made 60 days ago (2024-05-01); the limit is 28 days
`HOST:PORT/demo/app:1.0`: failed, 1 error (5 platforms)
--- stderr
""")
    kinds = ("--require-attestation", "sbom,provenance")
    assert str(run("check", name, *kinds, "--require", "linux/amd64")) == snapshot("""\
status: 1
--- stdout
error  attestation-missing  linux/amd64  `linux/amd64` has no attestation of kind `sbom`; it has `provenance`
`HOST:PORT/demo/app:1.0`: failed, 1 error (5 platforms)
--- stderr
""")
    assert str(run("check", f"{registry}/demo/liar:1.0", "--lint")) == snapshot("""\
status: 1
--- stdout
error  contradictory-config  linux/arm64/v8  the index says `linux/arm64/v8`, its config `linux/amd64`
error  identical-layers      -               all 3 layers are the same for `linux/amd64`, `linux/arm64/v8`
`HOST:PORT/demo/liar:1.0`: failed, 2 errors (2 platforms)
--- stderr
""")
    ignored = ("--ignore", "identical-layers", "--ignore", "contradictory-config")
    assert str(run("check", f"{registry}/demo/liar:1.0", "--lint", *ignored)) == snapshot("""\
status: 0
--- stdout
`HOST:PORT/demo/liar:1.0`: passed, 2 ignored (2 platforms)
--- stderr
""")


def test_check_of_a_missing_reference_exits_with_not_found(run: Run, registry: str) -> None:
    need = ("--require", "linux/amd64")
    missing = f"{registry}/demo/app:9"

    assert str(run("check", f"{registry}/demo/app:1.0", missing, *need)) == snapshot("""\
status: 3
--- stdout
`HOST:PORT/demo/app:1.0`: passed (5 platforms)
`HOST:PORT/demo/app:9`: error: manifest-not-found
--- stderr
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:9` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
""")
    assert run("check", missing, *need).status == 3
    assert run("check", f"{registry}/demo/app:1.0", missing, "--require", "linux/386").status == 3


def test_check_rejects_malformed_requirements(run: Run, registry: str) -> None:
    name = f"{registry}/demo/app:1.0"
    assert str(run("check", name)) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` has no requirements
hint: add requirements: `--require linux/amd64,linux/arm64`
""")
    assert str(run("check", "--require", "linux/amd64")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: no reference to check
hint: name one: `resolver check ubuntu:24.04 --require linux/amd64,linux/arm64`
""")
    for words in (
        ("--require", "linux/"),
        ("--require", "linux/amd64,"),
        ("--only", "nothing"),
        ("--max-age", "soon"),
        ("--require-attestation", "vex"),
        ("--lint", "--fail-on", "fatal"),
        ("--lint", "--ignore", "identical-layer"),
        ("--same-platforms-as", "Bad Name"),
    ):
        seen = run("check", name, *words)
        assert seen.status == 2
        assert seen.stdout == ""
        assert "hint: " in seen.stderr
    seen = run("check", name, "--lint", "--ignore", "identical-layer")
    assert "did you mean `identical-layers`?" in seen.stderr
    assert "see `resolver lint --rules`" in run("check", name, "--ignore", "zzz").stderr


def test_check_json_contains_every_result(run: Run, registry: str) -> None:
    seen = run("check", f"{registry}/demo/app:1.0", "--require", "linux/386", "--json")
    written = json.loads(seen.stdout)

    assert seen.status == 1
    assert written["passed"] is False
    assert written["findings"] == [
        {
            "rule": "platform-missing",
            "severity": "error",
            "message": "`linux/386` is not offered; it offers `linux/amd64`, `linux/arm64/v8`, "
            "`linux/arm/v7`, `windows/amd64:10.0.20348.2700` and 1 more",
            "reference": "HOST:PORT/demo/app:1.0",
            "platform": "linux/386",
            "digest": written["images"][0]["root"]["digest"],
            "hint": "it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, "
            "`windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`",
        }
    ]
    assert written["images"][0]["passed"] is False
    missing = run("check", f"{registry}/demo/app:1.0", f"{registry}/x:1", "--lint", "--json")
    assert json.loads(missing.stdout)["images"][1]["error"]["class"] == "NOT_FOUND"


def test_check_prints_the_digest_and_name_of_the_checked_image(run: Run, registry: str) -> None:
    words = ("check", f"{registry}/demo/app:1.0", f"{registry}/x:1", "--lint")
    digest = run(*words, "--format", "digest").stdout.splitlines()
    ref = run(*words, "--format", "ref").stdout.splitlines()

    assert ref == [f"HOST:PORT/demo/app@{digest[0]}", "-"]
    assert digest[1] == "-"
    assert (
        "| error | platform-missing |"
        in run(
            "check", f"{registry}/demo/app:1.0", "--require", "linux/386", "--format", "markdown"
        ).stdout
    )


@pytest.mark.parametrize("verb", ["check", "lint"])
def test_check_findings_of_several_images_name_the_image(
    run: Run, registry: str, verb: str, tmp_path: Path
) -> None:
    bad = f"{registry}/demo/liar:1.0"
    words = ["--lint"] if verb == "check" else []
    names = (bad, f"{registry}/demo/app:1.0", f"{registry}/demo/none:1")
    files = [f"{form}={tmp_path / form}" for form in ("markdown", "sarif", "junit", "codequality")]
    reports = [word for file in files for word in ("--report", file)]

    table = run(verb, *names, *words, keep=True).stdout.splitlines()
    markdown = run(verb, *names, *words, "--format", "markdown", *reports, keep=True).stdout
    page = run(verb, *names, *words, "--format", "html", keep=True).stdout

    assert f"`{names[2]}`: error: repository-not-found" in table
    assert all(bad in line for line in table if line.startswith("error"))
    for text in (markdown, (tmp_path / "markdown").read_text()):
        assert "| image | severity | rule | platform | finding |" in text
        assert text.count(f"| `{bad}` | error |") == 2
    assert '<th scope="col">image</th>' in page
    assert page.count(f'<th scope="row">{bad}</th>') == 2
    for form in ("sarif", "junit", "codequality", "markdown"):
        text = (tmp_path / form).read_text()
        assert bad in text
        assert "demo/none" in text


def test_check_policy_checks_every_image(run: Run, registry: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"""\
version: 1
defaults:
  require: [linux/amd64, linux/arm64]
images:
  - {registry}/demo/app:1.0
  - image: {registry}/demo/single:1.0
    require: linux/amd64
  - image: {registry}/demo/app:2.0
    same-platforms-as: {registry}/demo/app:1.0
    require: []
""",
        "utf-8",
    )

    assert str(run("check", "--policy", "policy.yaml")) == snapshot("""\
status: 0
--- stdout
`HOST:PORT/demo/app:1.0`: passed (5 platforms)
`HOST:PORT/demo/single:1.0`: passed (1 platform)
`HOST:PORT/demo/app:2.0`: passed (5 platforms)
--- stderr
""")
    # An option takes the place of a default, not of what an image says itself.
    assert str(run("check", "--policy", "policy.yaml", "--require", "linux/386")) == snapshot("""\
status: 1
--- stdout
error  platform-missing  linux/386  HOST:PORT/demo/app:1.0  `linux/386` is not offered; it offers `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700` and 1 more
`HOST:PORT/demo/app:1.0`: failed, 1 error (5 platforms)
`HOST:PORT/demo/single:1.0`: passed (1 platform)
`HOST:PORT/demo/app:2.0`: passed (5 platforms)
--- stderr
""")
    listed = tmp_path / "images.txt"
    listed.write_text(f"# more\n{registry}/demo/single:1.0\n")
    more = run("check", "--policy", "policy.yaml", "-f", "images.txt")
    assert "`HOST:PORT/demo/single:1.0`: failed, 1 error (1 platform)" in more.stdout


def test_check_policy_errors_show_line_and_column(run: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        "version: 1\nimages:\n  - image: app:1\n    require: [linux/amd64, linux/arm64/v8/x]\n"
    )
    assert str(run("check", "--policy", "policy.yaml")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: policy.yaml:4:28: images[0].require[1]: this is not a platform: it has more than three parts
hint: write `os/arch[/variant][:os.version]`, for example `linux/arm64`, `linux/arm/v7` or `windows/amd64:10.0.20348`
""")
    (tmp_path / "policy.yaml").write_text("version: 1\nimages:\n  - image: app:1\n    requires: x")
    assert str(run("check", "--policy", "policy.yaml")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: policy.yaml:4:5: images[0].requires: unknown field
hint: did you mean `require`?
""")
    assert run("check", "--policy", "none.yaml").status == 2


def test_check_escapes_log_commands_in_image_text(run: Run) -> None:
    hostile = "2024-01-01\n::error::pwned\n##vso[task.complete]\x1b[2J"
    with FakeRegistry() as fake:
        lie = build_image("linux/amd64", config={"created": hostile})
        entry = {"os": "linux", "architecture": "x\n::set-output name=a::b"}
        listed = {**index_entry(lie), "platform": entry}
        fake.serve("app", "1", build_index([lie], extra=[listed]))
        for form in ("table", "markdown", "json"):
            words = ("--max-age", "1d", "--only", "linux/386", "--format", form)
            seen = run("check", f"{fake.host}/app:1", *words)
            assert seen.status == 1
            for line in (seen.stdout + seen.stderr).splitlines():
                assert not line.startswith(("::", "##"))
            assert "\x1b" not in seen.stdout + seen.stderr
        left_out = run("matrix", f"{fake.host}/app:1")
        assert json.loads(left_out.stdout)["include"][0]["platform"] == "linux/amd64"
        assert "has characters that jobs cannot contain" in left_out.stderr
        assert "\n::" not in left_out.stderr


def test_check_reports_point_to_the_line_of_the_policy(
    run: Run, registry: str, tmp_path: Path
) -> None:
    lines = [
        "version: 1",
        "images:",
        f"  - image: {registry}/demo/app:1.0",
        "    require: linux/386",
    ]
    (tmp_path / "policy.yaml").write_text("\n".join(lines))
    words = ("--report", "sarif=r.sarif", "--report", "junit=r.xml", "--report", "codequality=q")

    seen = run("check", "--policy", "policy.yaml", *words, "--emit", "env=values")

    assert seen.status == 1
    (printed,) = json.loads((tmp_path / "r.sarif").read_text())["runs"]
    (result,) = printed["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "policy.yaml"
    assert place["region"]["startLine"] == 3
    assert printed["tool"]["driver"]["rules"][0]["id"] == "platform-missing"
    assert "platform-missing" in (tmp_path / "r.xml").read_text()
    (found,) = json.loads((tmp_path / "q").read_text())
    assert found["location"] == {"path": "policy.yaml", "lines": {"begin": 3}}
    assert "RESOLVED_ERRORS=1" in (tmp_path / "values").read_text().replace("'", "")


def test_every_command_reports_an_unverifiable_entry(run: Run) -> None:
    """The index states a manifest of 5 MB, and 4 MiB are read."""
    small = build_image("linux/amd64", [b"one"])
    large = build_image("linux/arm64", [b"two"])
    listed = [index_entry(small), {**index_entry(large), "size": 5_000_000}]
    whole = from_dict(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}, parts=[small, large]
    )
    with FakeRegistry(strict=False) as registry:
        registry.serve("app", "1", whole)
        name = f"{registry.host}/app:1"
        limit = "exceeds the limit of 4194304 bytes: 5000000"

        resolved = run("resolve", name, "-p", "linux/arm64", keep=True)
        several = run("resolve", name, "-p", "linux/arm64,linux/amd64", "--json", keep=True)
        for seen, status in ((resolved, 0), (several, 0)):
            assert seen.status == status
            assert seen.stderr.count("warning: ") == 1
            assert limit in seen.stderr
        assert "oversized-manifest" in several.stdout

        for words in (("check", name, "--require", "linux/arm64"), ("check", name, "--lint")):
            seen = run(*words, keep=True)
            assert seen.status == 1
            assert seen.stdout.count("unreadable-document") == 1
            assert limit in seen.stdout
        linted = run("lint", name, keep=True)
        assert (linted.status, linted.stdout.count(limit)) == (1, 1)

        for verb in ("plan", "pull"):
            seen = run(verb, name, "-p", "linux/arm64", keep=True)
            assert seen.status == 6
            assert limit in seen.stderr

        assert run("matrix", name, keep=True).stderr.count(limit) == 1
        assert limit not in run("matrix", name, "-p", "linux/amd64", keep=True).stderr

        # The requirements of the other platform do not apply.
        assert run("check", name, "--require", "linux/amd64").status == 0
        assert run("resolve", name, "-p", "linux/amd64").stderr == ""
        assert run("plan", name, "-p", "linux/amd64").status == 0
