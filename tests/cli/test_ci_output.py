"""`--emit` and `--report` of every command, on success and on failure."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import parse

import pytest
from inline_snapshot import snapshot

import resolver.cli
from resolver.cli.app import COMMANDS
from resolver.cli.ci import CiOutput, deliver_on_exit
from resolver.cli.output import Output, ReaderGone
from resolver.core.results.events import Warned
from resolver.core.results.pull import Pulled
from resolver.core.results.resolve import Failure
from resolver.errors import PlatformNotOffered, Usage
from resolver.render.ci import systems
from tests.kit.ci_systems import azure_commands, github_commands, read_dotenv, read_github_file

if TYPE_CHECKING:
    from tests.cli.conftest import Run

ARM = "sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a"
#: Commands without an answer that a pipeline could want.
SILENT = {"serve", "demo", "options", "completion", "help", "version"}
#: Those that a registry or files of their own answers; each hands over in its own tests.
APART = {"login", "search", "quota", "repositories", "merge"}
#: Every other command, with what makes it answer.
ASKED = {
    "resolve": ("{app}", "-p", "linux/arm64"),
    "platforms": ("{app}",),
    "inspect": ("{app}",),
    "attestations": ("{app}",),
    "tags": ("{repository}",),
    "plan": ("{app}", "-p", "linux/arm64"),
    "pull": ("{app}", "-p", "linux/arm64"),
    "export": ("{app}", "--to", "out"),
    "copy": ("{app}", "oci:copied:1"),
    "index": ("create", "oci:made:1", "{app}"),
    "ls": (),
    "rm": ("{app}",),
    "gc": (),
    "verify": (),
    "du": (),
    "compare": ("{app}",),
    "check": ("{app}", "--require", "linux/arm64"),
    "lint": ("{app}",),
    "needs": ("{app}",),
    "matrix": ("{app}", "-p", "linux/amd64"),
    "logout": ("reg.test",),
    "pin": ("Dockerfile",),
    "mirror-config": ("docker",),
    "lock": ("{app}",),
    "doctor": (),
}


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where a runner of GitHub keeps its files."""
    for name in ("OUTPUT", "STEP_SUMMARY", "ENV"):
        place = tmp_path / f"github_{name.lower()}"
        place.touch()
        monkeypatch.setenv(f"GITHUB_{name}", str(place))
    return tmp_path


def outputs(folder: Path) -> dict[str, str]:
    return read_github_file((folder / "github_output").read_text("utf-8"))


def words(name: str, registry: str) -> list[str]:
    known = {"app": f"{registry}/demo/app:1.0", "repository": f"{registry}/demo/app"}
    return [name, *(word.format(**known) for word in ASKED[name])]


# Every command


def test_handover_table_lists_every_command() -> None:
    assert {name for _group, name, _module, _summary in COMMANDS} - set(ASKED) <= SILENT | APART


@pytest.mark.parametrize("name", ASKED)
def test_every_command_writes_its_ci_output_and_the_same_stdout(
    run: Run, registry: str, github: Path, name: str
) -> None:
    if name in {"export", "ls", "rm", "verify", "du", "gc"}:
        run(*words("pull", registry), "-q")
    Path("Dockerfile").write_text(f"FROM {registry}/demo/app:1.0\n")
    # These change something, or tell of what others change meanwhile: the room on the disk.
    once = {"rm", "pull", "export", "pin", "lock", "doctor", "copy", "index"}
    alone = None if name in once else run(*words(name, registry))
    seen = run(*words(name, registry), "--emit", "github", "--report", "sarif=r.sarif")
    found = outputs(github)

    assert seen.status == 0
    assert alone is None or (seen.stdout, seen.stderr) == (alone.stdout, alone.stderr)
    assert found["status"] == "0"
    assert set(json.loads(found["json"])) > {"schema"}
    assert (github / "github_step_summary").read_text().startswith(f"**resolver {name}**: passed")
    assert json.loads(Path("r.sarif").read_text())["runs"][0]["results"] == []
    assert (github / "github_env").read_text() == ""


@pytest.mark.parametrize(
    "name",
    ["resolve", "platforms", "inspect", "tags", "plan", "pull", "check", "lint", "matrix"],
)
def test_every_failing_command_writes_its_ci_output(
    run: Run, registry: str, github: Path, name: str
) -> None:
    missing = [word.replace("demo/app", "demo/nope") for word in words(name, registry)]
    seen = run(*missing, "--emit", "github", "--report", "junit=r.xml", "--report", "sarif=r.sarif")
    (error,) = parse("r.xml").iter("error")
    (result,) = json.loads(Path("r.sarif").read_text())["runs"][0]["results"]

    assert seen.status == 3
    assert outputs(github)["status"] == "3"
    assert error.get("type") == result["ruleId"] == "repository-not-found"
    assert [each.name for each in github_commands(seen.stderr)] == ["error"]
    assert "**error**" in (github / "github_step_summary").read_text()


def test_no_command_prints_an_answer_without_ci_output() -> None:
    """A command that prints with `output.answer` skips CI output; it must use `output.tell`."""
    for path in Path(resolver.cli.__file__).parent.glob("*.py"):
        assert not re.search(r"\banswer\(\s*tell\(", path.read_text("utf-8")) or path.name in {
            "output.py",  # `tell` itself
            "resolving.py",  # many, a line each, which are kept one by one
            "several.py",
            "listing.py",
            "linting.py",  # rules explained, which is no answer about an image
        }, path.name


def test_ci_output_is_written_only_on_request(run: Run, registry: str, github: Path) -> None:
    before = sorted(github.iterdir())
    run(*words("resolve", registry))

    assert [path for path in sorted(github.iterdir()) if path not in before] == [github / "store"]
    assert (github / "github_output").read_text() == ""


# Output on a terminal


def test_ci_output_files_of_github_after_a_resolve(run: Run, registry: str, github: Path) -> None:
    seen = run(*words("resolve", registry), "--emit", "github", "--format", "digest")
    found = outputs(github)

    assert str(seen) == snapshot("""\
status: 0
--- stdout
sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
--- stderr
""")
    assert found["digest"] == ARM
    assert found["ref"] == f"{registry}/demo/app@{ARM}"
    assert found["platform"] == "linux/arm64/v8"
    assert list(found) == snapshot(
        [
            "status",
            "reference",
            "digest",
            "ref",
            "index_digest",
            "index_ref",
            "platform",
            "grade",
            "json",
        ]
    )


def test_ci_output_prints_a_failure_as_github_annotation(
    run: Run, registry: str, github: Path
) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/s390x", "--emit", "github")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
::error title=platform-not-offered::`HOST:PORT/demo/app:1.0` is not offered for `linux/s390x`%0Ahint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
error: `HOST:PORT/demo/app:1.0` is not offered for `linux/s390x`
hint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
""")
    assert list(outputs(github)) == ["status", "json"]


def test_ci_output_supports_several_systems_in_one_run(
    run: Run, registry: str, github: Path
) -> None:
    Path("results").mkdir()
    forms = ("sarif=r.sarif", "junit=r.xml", "codequality=q.json", "markdown=r.md")
    systems = ("github", "gitlab=g.env", "env=e.env", "tekton=results", "azure")
    asked = [*(f"--emit={name}" for name in systems), *(f"--report={form}" for form in forms)]
    seen = run(*words("resolve", registry), *asked)

    assert seen.status == 0
    assert outputs(github)["digest"] == ARM
    assert read_dotenv(Path("g.env").read_text())["RESOLVED_DIGEST"] == ARM
    assert Path("results/digest").read_text() == ARM
    assert {c.facts["variable"]: c.data for c in azure_commands(seen.stderr)}["digest"] == ARM
    assert all(Path(form.partition("=")[2]).stat().st_size for form in forms)


def test_ci_output_can_be_sourced_by_a_shell(run: Run, registry: str) -> None:
    run(*words("resolve", registry), "--emit", "env=e.env")
    done = subprocess.run(
        ["sh", "-euc", ". ./e.env; printf %s $RESOLVED_DIGEST"], capture_output=True, check=True
    )

    assert done.stdout.decode() == ARM


def test_ci_output_lists_each_failure_with_its_image(run: Run, registry: str) -> None:
    asked = (f"{registry}/demo/app:1.0", f"{registry}/demo/nope:1", f"{registry}/demo/app:9")
    seen = run("resolve", *asked, "-p", "linux/arm64", "--report", "junit=r.xml")
    suites = {
        suite.get("name", "").removeprefix(registry): [case.get("name") for case in suite]
        for suite in parse("r.xml").iter("testsuite")
    }

    assert seen.status == 3
    assert suites == {
        "/demo/app:1.0": ["resolve"],
        "/demo/nope:1": ["repository-not-found linux/arm64"],
        "/demo/app:9": ["manifest-not-found linux/arm64"],
    }


def test_ci_output_lists_a_failure_inside_an_answer_with_its_image(tmp_path: Path) -> None:
    error = PlatformNotOffered("app:1", "linux/s390x", ())
    hand = CiOutput.read("pull", [], [f"junit={tmp_path}/r.xml"], {"references": ["a", "b"]})
    hand.keep(Pulled((), (Failure("b", ("linux/s390x",), error),), (), ()))
    hand.failed(error)
    hand.failed(error)
    assert hand.finish(3, Output()) is None
    (suite,) = parse(tmp_path / "r.xml").iter("testsuite")

    assert suite.get("name") == "b"
    assert [case.get("name") for case in suite] == ["platform-not-offered linux/s390x"]


def test_ci_output_of_a_plan_over_its_limit(run: Run, registry: str) -> None:
    seen = run(*words("plan", registry), "--max-download", "1", "--emit", "env=e.env")

    assert seen.status == 1
    assert "RESOLVED_STATUS='1'" in Path("e.env").read_text()
    assert "RESOLVED_MISSING_BYTES=" in Path("e.env").read_text()


def test_ci_output_reports_store_damage_as_a_finding(run: Run, registry: str, store: Path) -> None:
    run(*words("pull", registry), "-q")
    blob = store / "blobs" / "sha256" / ARM.removeprefix("sha256:")
    blob.chmod(0o600)
    blob.write_bytes(b"x" * blob.stat().st_size)
    seen = run("verify", "--emit", "env=e.env", "--report", "markdown=r.md")

    assert seen.status == 1
    assert "RESOLVED_STATUS='1'" in Path("e.env").read_text()
    assert Path("r.md").read_text().startswith("**resolver verify**: ")


def test_ci_annotations_point_to_the_file_of_images(run: Run, registry: str) -> None:
    Path("images.txt").write_text(f"{registry}/demo/nope:1\n")
    run("resolve", "-f", "./images.txt", "--report", "codequality=q.json")

    assert json.loads(Path("q.json").read_text())[0]["location"]["path"] == "images.txt"


def test_ci_output_annotates_warnings_even_when_quiet(
    run: Run, registry: str, github: Path
) -> None:
    asked = ("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm/v8", "-q", "--emit", "github")
    seen = run(*asked)

    assert [(c.name, c.facts["title"]) for c in github_commands(seen.stderr)] == [
        ("warning", "fallback-platform")
    ]
    assert "**warning**" in (github / "github_step_summary").read_text()


def test_ci_output_marks_exact_bytes(run: Run, registry: str) -> None:
    run("inspect", "--raw", f"{registry}/demo/app:1.0", "--emit", "env=e.env")

    assert "RESOLVED_INDEX_DIGEST='sha256:" in Path("e.env").read_text()


# Options and variables


def test_ci_output_can_be_set_by_environment_variables(
    run: Run, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOLVER_EMIT", "env=e.env gitlab=g.env")
    monkeypatch.setenv("RESOLVER_REPORT", "sarif=r.sarif")
    run(*words("resolve", registry))

    assert all(Path(name).is_file() for name in ("e.env", "g.env", "r.sarif"))


def test_ci_output_auto_writes_nothing_outside_ci(run: Run, registry: str) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "BUILDKITE"):
        pytest.MonkeyPatch().delenv(name, raising=False)
    seen = run(*words("resolve", registry), "--emit", "auto")

    assert (seen.status, seen.stderr) == (0, "")
    assert sorted(path.name for path in Path().iterdir()) == ["store"]


@pytest.mark.parametrize("asked", [("--emit", "jenkins"), ("--report", "html=x")])
def test_unwritable_ci_output_fails_before_any_request(run: Run, asked: tuple[str, str]) -> None:
    seen = run("resolve", "nowhere.invalid/app:1", *asked)

    assert (seen.status, seen.stdout) == (2, "")
    assert "hint: choose one of " in seen.stderr


def test_ci_output_reports_usage_errors(run: Run) -> None:
    seen = run("resolve", "UPPER:case:1", "--report", "junit=r.xml")
    (error,) = parse("r.xml").iter("error")

    assert seen.status == 2
    assert error.get("type") == "invalid-reference"


# Failures


def test_unwritable_ci_output_is_a_separate_error(run: Run, registry: str) -> None:
    seen = run(*words("resolve", registry), "--format", "digest", "--report", "sarif=no/r.sarif")

    assert str(seen) == snapshot("""\
status: 8
--- stdout
sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
--- stderr
error: cannot write `no/r.sarif`: No such file or directory
hint: name a file in a writable folder
""")


def test_json_stays_one_document_when_ci_output_fails(run: Run, registry: str) -> None:
    seen = run(*words("resolve", registry), "--json", "--report", "sarif=no/r.sarif")

    assert seen.status == 8
    assert json.loads(seen.stdout)["manifest"]["digest"] == ARM


def test_one_failing_ci_system_does_not_affect_the_others(
    run: Run, registry: str, github: Path
) -> None:
    broken = ("--report", "sarif=no/r.sarif", "--report", "junit=no/r.xml")
    seen = run(*words("resolve", registry), *broken, "--emit", "github", "--emit", "env=e.env")

    assert seen.status == 8
    assert seen.stderr.count("error: cannot write") == 2
    assert outputs(github)["digest"] == ARM
    assert Path("e.env").is_file()


def test_ci_output_redacts_secrets(tmp_path: Path) -> None:
    hand = CiOutput.read("pull", [], [f"markdown={tmp_path}/r.md", f"sarif={tmp_path}/r.sarif"], {})
    hand.clean = lambda text: text.replace("S3cret", "***")
    hand.warned(Warned("code", "the S3cret is out"))
    hand.failed(Usage("a S3cret in words", "type S3cret"))
    hand.finish(2, Output())
    printed = (tmp_path / "r.md").read_text() + (tmp_path / "r.sarif").read_text()

    assert "S3cret" not in printed
    assert printed.count("***") == 4


def test_ci_output_failure_is_reported_after_the_command_failure(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/nope:1", "--report", "sarif=no/r.sarif")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: cannot write `no/r.sarif`: No such file or directory
hint: name a file in a writable folder
error: `HOST:PORT` has no repository `demo/nope`
hint: check the spelling; a private repository may also need a login
""")


def test_ci_output_failure_keeps_the_exit_status_of_a_finding(run: Run, registry: str) -> None:
    seen = run(*words("plan", registry), "--max-download", "1", "--report", "sarif=no/r.sarif")

    assert seen.status == 1
    assert "cannot write `no/r.sarif`" in seen.stderr


def test_closed_stdout_does_not_prevent_ci_output(
    registry: str, tmp_path: Path, store: Path
) -> None:
    del store
    line = f"{sys.executable} -m resolver resolve {registry}/demo/app:1.0 --emit env={tmp_path}/e.env | true"
    subprocess.run(["bash", "-c", line], check=True, timeout=60)

    assert "RESOLVED_STATUS='0'" in (tmp_path / "e.env").read_text()


@pytest.mark.parametrize("over", [0, 1])
def test_ci_summary_stays_below_the_size_limit(
    run: Run, registry: str, github: Path, over: int
) -> None:
    place = github / "github_step_summary"
    run(*words("resolve", registry), "--emit", "github")
    size = place.stat().st_size
    place.write_bytes(b"x" * (systems.MAX_SUMMARY - size + over))
    run(*words("resolve", registry), "--emit", "github")
    text = place.read_text()

    assert len(text) <= systems.MAX_SUMMARY
    assert ("Truncated: the size limit" in text) is bool(over)


def test_closed_stdout_is_not_a_ci_output_failure(tmp_path: Path) -> None:
    hand = CiOutput.read("tags", [f"env={tmp_path}/e.env"], [], {})
    with pytest.raises(ReaderGone), deliver_on_exit(hand, Output()):
        raise ReaderGone

    assert "RESOLVED_STATUS='0'" in (tmp_path / "e.env").read_text()


# Buildkite


def agent(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `buildkite-agent` on the path."""
    program = folder / "bin" / "buildkite-agent"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def test_buildkite_agent_receives_values_on_stdin(
    run: Run, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(tmp_path, f'echo "$@" >> {tmp_path}/calls; cat >> {tmp_path}/calls', monkeypatch)
    seen = run(*words("resolve", registry), "--emit", "buildkite", "--format", "digest")
    calls = (tmp_path / "calls").read_text()

    assert str(seen) == f"status: 0\n--- stdout\n{ARM}\n--- stderr\n"
    assert f"meta-data set resolver:digest\n{ARM}" in calls
    assert "annotate --style info --context resolver-resolve\n**resolver resolve**: pass" in calls


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'not in a job' >&2; exit 3", "not in a job"),
        ("exit 4", "it ended with status 4"),
    ],
)
def test_buildkite_agent_failure_is_an_error(
    run: Run,
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    message: str,
) -> None:
    agent(tmp_path, body, monkeypatch)
    seen = run(*words("resolve", registry), "--emit", "buildkite")

    assert seen.status == 8
    assert f"resolver:status` failed: {message}\n" in seen.stderr


def test_missing_buildkite_agent_is_reported_with_the_command(run: Run, registry: str) -> None:
    seen = run(*words("resolve", registry), "--emit", "buildkite", "--format", "digest")

    assert str(seen) == snapshot("""\
status: 8
--- stdout
sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
--- stderr
error: `buildkite-agent` is not on PATH, so no values were set
hint: run this where it is installed: `buildkite-agent meta-data set resolver:status < VALUE`
""")


@pytest.mark.parametrize("name", ["RESOLVER_PASSWORD", "DOCKER_AUTH_CONFIG"])
def test_buildkite_agent_receives_no_secrets(
    run: Run, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    agent(tmp_path, f"env >> {tmp_path}/variables; cat > /dev/null", monkeypatch)
    monkeypatch.setenv("BUILDKITE_AGENT_ACCESS_TOKEN", "its-own")
    monkeypatch.setenv("RESOLVER_USERNAME", "u5er")
    monkeypatch.setenv("RESOLVER_PASSWORD", "S3cr3tPa55")
    monkeypatch.setenv(name, "{}" if name == "DOCKER_AUTH_CONFIG" else "S3cr3tPa55")
    seen = run(*words("resolve", registry), "--emit", "buildkite")
    printed = (tmp_path / "variables").read_text()

    assert seen.status == 0
    assert f"\n{name}=" not in printed
    assert "S3cr3tPa55" not in printed
    assert "BUILDKITE_AGENT_ACCESS_TOKEN=its-own" in printed


def test_buildkite_agent_that_cannot_run_is_an_error(
    run: Run, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent(tmp_path, "", monkeypatch)
    (tmp_path / "bin" / "buildkite-agent").write_text("no program at all")
    seen = run(*words("resolve", registry), "--emit", "buildkite")

    assert seen.status == 8
    assert "it cannot be started" in seen.stderr


# Remote text


def test_ci_output_escapes_log_commands_in_remote_text(
    run: Run, registry: str, github: Path
) -> None:
    del github
    for names in (("github",), ("azure",)):
        asked = [f"--emit={name}" for name in names]
        seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "::set-output/##vso[x]", *asked)

        assert seen.status == 2
        assert "set-output" not in {each.name for each in github_commands(seen.stderr)}
        assert {each.name for each in azure_commands(seen.stderr)} <= {
            "task.setvariable",
            "task.logissue",
        }


# What a pipeline branches on, by the command


def test_ci_values_of_comparing_two_images(run: Run, registry: str, github: Path) -> None:
    one, two = f"{registry}/demo/app:1.0", f"{registry}/demo/app:2.0"
    seen = run("compare", one, two, "--expect", "linux/s390x", "--emit", "github")
    found = outputs(github)

    assert seen.status == 1
    assert (found["base_reference"], found["reference"]) == (one, two)
    assert found["base_digest"] != found["digest"]
    assert found["same"] == "false"
    counted = [found[name] for name in ("unchanged", "rewritten", "changed", "added", "removed")]
    assert counted == ["0", "0", "5", "0", "0"]
    assert int(found["fetch_bytes"]) > 0
    assert found["missing"] == "linux/s390x"
    assert found["differs_in"] == "platforms"
    assert found["reasons"].splitlines() == [
        f"`{two}` is not offered for `linux/s390x`",
        f"`{one}` and `{two}` differ: 5 changed",
    ]


def test_ci_values_of_comparing_one_image(run: Run, registry: str, github: Path) -> None:
    seen = run("compare", f"{registry}/demo/app:1.0", "--max-size-delta", "1", "--emit", "github")
    found = outputs(github)

    assert seen.status == 1
    assert found["reference"] == f"{registry}/demo/app:1.0"
    assert found["platforms"].split(",")[:2] == ["linux/amd64", "linux/arm64/v8"]
    assert found["differs_in"] == "size"
    assert all("1 B allowed" in reason for reason in found["reasons"].splitlines())


def test_ci_values_of_check(run: Run, registry: str, github: Path) -> None:
    names = [f"{registry}/demo/app:{tag}" for tag in ("1.0", "2.0")]
    run("check", *names, "--require", "linux/s390x", "--emit", "github")
    found = outputs(github)

    assert (found["passed"], found["errors"]) == ("false", "2")
    assert found["failing"].splitlines() == found["reference"].splitlines() == names
    assert [ref.rpartition("@")[2] for ref in found["ref"].splitlines()] == found[
        "digest"
    ].splitlines()
    assert found["platforms"].splitlines()[0].startswith("linux/amd64,")


def test_ci_values_of_pin(run: Run, registry: str, github: Path) -> None:
    Path("Dockerfile").write_text(f"FROM {registry}/demo/app:1.0\nFROM alpine:$TAG\n")
    run("pin", "Dockerfile", "--emit", "github")
    found = outputs(github)

    assert found["changed_files"] == "Dockerfile"
    assert (found["pinned"], found["not_pinnable"], found["failed"]) == ("1", "1", "0")


def test_ci_values_of_pull_and_lock_have_a_line_each(run: Run, registry: str, github: Path) -> None:
    name = f"{registry}/demo/app:1.0"
    run("pull", name, "-p", "linux/amd64,linux/arm64", "--emit", "github")
    pulled = outputs(github)
    run("lock", name, f"{registry}/demo/app:2.0", "--emit", "env=lock.env")

    assert pulled["reference"].splitlines() == [name, name]
    assert [ref.rpartition("@")[2] for ref in pulled["ref"].splitlines()] == pulled[
        "digest"
    ].splitlines()
    assert f"RESOLVED_REFERENCE='{name}\n{registry}/demo/app:2.0'\n" in Path("lock.env").read_text()


def test_ci_values_do_not_report_unchecked_references_as_unchanged(run: Run, registry: str) -> None:
    run("lock", f"{registry}/demo/app:1.0")
    run("lock", "--check", "--emit", "env=asked.env")
    seen = run("lock", "--check", "--offline", "--emit", "env=offline.env")

    assert seen.status == 7
    assert "RESOLVED_DRIFTED='false'" in Path("asked.env").read_text()
    assert "RESOLVED_DRIFTED" not in Path("offline.env").read_text()


def test_ci_values_of_lint(run: Run, registry: str, github: Path) -> None:
    run("lint", f"{registry}/demo/app:1.0", "--emit", "github")
    found = outputs(github)

    assert found["reference"] == f"{registry}/demo/app:1.0"
    assert found["digest"].startswith("sha256:")
    assert found["findings"] == "0"


# Where to


@pytest.mark.parametrize(
    "options",
    [
        ("--report", "sarif=same", "--report", "junit=./same"),
        ("--emit", "env=same", "--report", "junit=same"),
        ("--emit", "env=same", "--emit", "gitlab=same"),
    ],
)
def test_two_ci_outputs_cannot_write_the_same_file(
    run: Run, registry: str, options: tuple[str, ...]
) -> None:
    seen = run(*words("resolve", registry), *options)

    assert (seen.status, seen.stdout) == (2, "")
    assert "would write the same file" in seen.stderr
    assert not Path("same").exists()


def test_repeated_ci_output_is_written_once(run: Run, registry: str) -> None:
    seen = run(*words("resolve", registry), "--emit", "env=a.env", "--emit", "env=a.env")

    assert seen.status == 0
    assert Path("a.env").read_text().count("RESOLVED_STATUS") == 1


@pytest.mark.parametrize("options", [("--report", "sarif=-"), ("--emit", "env=-")])
def test_stdout_is_for_the_answer(run: Run, registry: str, options: tuple[str, ...]) -> None:
    seen = run(*words("resolve", registry), *options)

    assert (seen.status, seen.stdout) == (2, "")
    assert not Path("-").exists()
