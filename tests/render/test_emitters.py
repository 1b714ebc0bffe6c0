"""CI outputs, read back as each system does; their limits; and escaping."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from resolver.core.lint.findings import Finding, Severity
from resolver.core.results.events import Warned
from resolver.core.results.resolve import Failure
from resolver.core.results.run import Fault, RunResult
from resolver.errors import ManifestNotFound, Usage
from resolver.render.ci import systems
from resolver.render.ci.emit import (
    EMITTERS,
    Action,
    CiEnvironment,
    LogLine,
    Note,
    RunProgram,
    Write,
    emit,
    fit,
)
from resolver.render.ci.summary import CUT, Annotation, cut, summary
from resolver.render.ci.values import Value, values
from resolver.render.text import escape
from tests.kit.ci_systems import azure_commands, github_commands, read_dotenv, read_github_file
from tests.kit.run_results import EVIL, FAULT, HOSTILE, MISSING, NOTE, OLD, ending
from tests.render.test_formats import ANSWERS, RESOLUTION

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "0123456789abcdef0123456789abcdef"
PLACES = {"gitlab": "g.env", "tekton": "results", "env": "e.env"}
RESOLVED = RunResult("resolve", "1.2.3", (RESOLUTION,), (), (Warned("old", HOSTILE),), 0)
texts = st.text() | st.sampled_from([HOSTILE, "", "\n", "a\r\nb", f"resolver_{TOKEN}"])

pytestmark = pytest.mark.usefixtures("checked")


def desk(place: str = "", **variables: str) -> CiEnvironment:
    known = {
        "GITHUB_OUTPUT": "output",
        "GITHUB_STEP_SUMMARY": "summary",
        "AGENT_TEMPDIRECTORY": "t",
    }
    return CiEnvironment(place, {**known, **variables}, TOKEN)


def acts(name: str, of: RunResult) -> tuple[Action, ...]:
    return emit(EMITTERS[name], of, desk(PLACES.get(name, "")))


def written(found: tuple[Action, ...], path: str) -> str:
    return "".join(act.text for act in found if isinstance(act, Write) and act.path == path)


def spoken(found: tuple[Action, ...]) -> str:
    return "".join(act.text for act in found if isinstance(act, LogLine))


def remarks(found: tuple[Action, ...]) -> list[str]:
    return [act.text for act in found if isinstance(act, Note)]


def lines(text: str) -> str:
    """Return a text as lines, each escaped."""
    return "\n".join(map(escape, text.split("\n")))


# Values of every answer


def test_resolve_values_for_a_pipeline() -> None:
    found = dict(values(RESOLVED))

    del found["json"]
    assert found == snapshot(
        {
            "status": "0",
            "reference": "docker.io/library/ubuntu:24.04",
            "digest": "sha256:7be403e3cc82262248913b70f596a31b93f656e0da8ce5d1bf757c63ef7a8db4",
            "ref": "docker.io/library/ubuntu@sha256:7be403e3cc82262248913b70f596a31b93f656e0da8ce5d1bf757c63ef7a8db4",
            "index_digest": "sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6",
            "index_ref": "docker.io/library/ubuntu@sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6",
            "platform": "linux/arm64/v8",
            "grade": "normalised",
        }
    )


def test_resolve_several_values_keep_the_order() -> None:
    other = replace(RESOLUTION, reference="example.com/b:1", index=None)
    found = dict(values(replace(RESOLVED, answers=(RESOLUTION, other))))

    assert found["reference"] == "docker.io/library/ubuntu:24.04\nexample.com/b:1"
    assert found["index_digest"] == f"{RESOLUTION.index.digest if RESOLUTION.index else ''}\n"
    assert found["json"].startswith('{"schema":1,"results":[{')


def test_failed_reference_keeps_its_line() -> None:
    failed = Failure("example.com/b:1", "linux/arm64", Usage("no"))
    found = dict(values(replace(RESOLVED, answers=(failed, RESOLUTION), status=3)))

    assert found["reference"] == f"example.com/b:1\n{RESOLUTION.reference}"
    assert found["digest"] == f"\n{RESOLUTION.manifest.digest}"


def test_emitted_values_count_findings() -> None:
    found = dict(values(ending(MISSING, OLD, NOTE, status=1)))

    assert (found["status"], found["findings"]) == ("1", "3")
    assert (found["errors"], found["warnings"]) == ("1", "1")


def test_failure_is_emitted_as_the_json_value() -> None:
    found = dict(values(replace(ending(), answers=(), faults=(FAULT,), status=3)))

    assert found == snapshot(
        {
            "status": "3",
            "json": '{"schema":1,"error":{"class":"PLATFORM","code":"platform-not-offered","status":3,"message":"`app:1` is not offered","hints":["see others"]}}',
        }
    )


def test_command_without_values_emits_its_status() -> None:
    found = values(replace(ending(), answers=()))

    assert found == (Value("status", "0"), Value("json", '{"schema":1,"results":[]}'))


@pytest.mark.parametrize("of", [RESOLVED, ending(EVIL, faults=(FAULT,), status=1)])
def test_values_cannot_end_a_line_or_begin_a_command(of: RunResult) -> None:
    for value in values(of):
        assert value.text == lines(value.text)
        assert github_commands(value.text) == azure_commands(value.text) == []


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_type_emits_an_unsafe_value(name: str) -> None:
    for value in values(RunResult("x", "1.2.3", (ANSWERS[name],), (), (), 0)):
        assert value.text == lines(value.text)
        assert github_commands(value.text) == azure_commands(value.text) == []


# Escaping of commands


@pytest.mark.parametrize("name", EMITTERS)
def test_remote_text_is_never_emitted_as_a_command(name: str) -> None:
    fault = replace(FAULT, message=HOSTILE, hints=(HOSTILE,), subject=HOSTILE)
    of = replace(
        ending(EVIL, replace(EVIL, place=None), faults=(fault,), status=1),
        warnings=(Warned("w", HOSTILE),),
    )
    found = acts(name, of)

    for act in found:
        match act:
            case Write():
                assert github_commands(act.text) == azure_commands(act.text) == []
            case RunProgram():
                assert github_commands(act.stdin) == azure_commands(act.stdin) == []
                assert not any("set-output" in word for word in act.words)
            case LogLine() if name == "github":
                assert {each.name for each in github_commands(act.text)} == {"error", "warning"}
                assert azure_commands(act.text) == []
            case LogLine():
                names = {"task.setvariable", "task.logissue", "task.uploadsummary"}
                assert {each.name for each in azure_commands(act.text)} == names
                assert github_commands(act.text) == []
                assert {
                    each.facts["variable"]
                    for each in azure_commands(act.text)
                    if each.name == "task.setvariable"
                } == {"status", "findings", "errors", "warnings", "json"}
            case Note():
                assert act.text == escape(act.text)


# GitHub


@given(texts)
def test_any_github_output_is_read_back(text: str) -> None:
    printed = systems.github_output(Value("a", text), TOKEN) + systems.github_output(
        Value("b", "x"), TOKEN
    )

    assert read_github_file(printed.encode().decode()) == {"a": lines(text), "b": "x"}


def test_github_outputs_and_summary_are_appended_to_their_files() -> None:
    found = acts("github", RESOLVED)

    assert [(act.path, act.append) for act in found if isinstance(act, Write)] == [
        ("output", True),
        ("summary", True),
    ]
    assert read_github_file(written(found, "output")) == dict(values(RESOLVED))
    assert written(found, "summary") == f"{summary(RESOLVED)}\n"


def test_runner_without_summaries_gets_none() -> None:
    found = emit(EMITTERS["github"], RESOLVED, desk(GITHUB_STEP_SUMMARY=""))

    assert [act.path for act in found if isinstance(act, Write)] == ["output"]


def test_annotations_name_file_line_and_rule() -> None:
    assert spoken(acts("github", ending(MISSING, OLD, NOTE, faults=(FAULT,)))) == snapshot("""\
::error title=platform-not-offered::`app:1` is not offered%0Ahint: see others
::error title=a platform is missing::docker.io/library/app:1 linux/s390x: `linux/s390x` is missing%0Ahint: it offers `linux/amd64`
::warning file=build/Dockerfile,line=3,col=6,title=the image is old::Dockerfile: it is 400 days old
::notice title=there is no SBOM::docker.io/library/app:1: it has no SBOM
""")


@given(texts, texts)
def test_any_github_annotation_is_read_back(text: str, path: str) -> None:
    annotation = Annotation("error", "c", text, text, f"p{path}", 3, 4)
    (command,) = github_commands(systems.github_command(annotation))

    assert command.facts["file"] == escape(f"p{path}")
    assert (command.facts["line"], command.facts["col"]) == ("3", "4")
    assert command.facts.get("title", "") == escape(text)
    assert command.data == lines(text)


@pytest.mark.parametrize("count", [10, 11])
def test_github_annotations_are_limited_to_ten_with_a_count(count: int) -> None:
    found = acts("github", ending(*[MISSING] * count, OLD))
    commands = github_commands(spoken(found))

    assert [each.name for each in commands] == ["error"] * 10 + ["warning"]
    more = ["1 more annotations of level error: GitHub shows 10 of a level"] if count > 10 else []
    assert remarks(found) == more


@pytest.mark.parametrize("over", [0, 1])
def test_github_outputs_stay_below_their_limit(over: int) -> None:
    name = "json"
    room = systems.MAX_OUTPUTS // 2 - len(name) + over
    given = (Value(name, "x" * room), Value("status", ""))
    taken, left = fit(given[:1], systems.MAX_OUTPUTS, systems._github_cost, "GitHub")

    assert [value.name for value in taken] == ([] if over else ["json"])
    assert bool(left) == bool(over)


def test_large_answer_omits_its_json_with_a_note() -> None:
    long = Finding("old-image", Severity.WARNING, "x" * 500_000, "app")
    found = acts("github", ending(long))

    assert "json" not in read_github_file(written(found, "output"))
    assert remarks(found) == ["`json` left out for GitHub: too large, or not a single line"]


@given(st.text(max_size=300), st.integers(0, 200))
def test_summary_is_cut_at_a_line_with_a_note(text: str, room: int) -> None:
    text = "".join(c for c in text if not "\ud800" <= c <= "\udfff")
    kept = cut(text, room)
    size = len(text.encode())

    assert len(kept.encode()) <= room or size <= room
    if size <= room:
        assert kept == text
    elif room >= len(CUT):
        assert kept.endswith(CUT)
        assert text.startswith(kept.removesuffix(CUT))


# GitLab


@pytest.mark.parametrize("over", [0, 1])
def test_dotenv_report_stays_below_its_limit(over: int) -> None:
    room = systems.MAX_FILE - len("RESOLVED_A=\n") + over
    taken, left = fit([Value("a", "x" * room)], systems.MAX_FILE, systems._gitlab_cost, "dotenv")

    assert (len(taken), len(left)) == ((0, 1) if over else (1, 0))


@pytest.mark.parametrize("count", [50, 51])
def test_number_of_dotenv_variables_is_limited(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tuple(Value(f"v{number}", "x") for number in range(count))
    monkeypatch.setattr(systems, "values", lambda _ending: given)
    found = acts("gitlab", RESOLVED)

    assert len(read_dotenv(written(found, "g.env"))) == 50
    assert len(remarks(found)) == count - 50


def test_dotenv_report_has_single_lines_without_expansion() -> None:
    dear = replace(RESOLUTION, reference="example.com/$CI_JOB_TOKEN")
    found = acts("gitlab", replace(RESOLVED, answers=(dear,)))
    read = read_dotenv(written(found, "g.env"))

    assert "RESOLVED_REFERENCE" not in read
    assert remarks(found) == [
        "`reference` left out for a dotenv report: too large, or not a single line"
    ]
    assert "$" not in written(found, "g.env")
    assert r"example.com/\u0024CI_JOB_TOKEN" in read["RESOLVED_JSON"]
    assert read["RESOLVED_REF"] == RESOLUTION.pinned


def test_dotenv_report_has_the_json_of_several_answers() -> None:
    found = acts("gitlab", replace(RESOLVED, answers=(RESOLUTION, RESOLUTION)))

    assert set(read_dotenv(written(found, "g.env"))) == {"RESOLVED_STATUS", "RESOLVED_JSON"}


# Tekton


@pytest.mark.parametrize("over", [0, 1])
def test_tekton_results_stay_below_the_termination_message_limit(over: int) -> None:
    room = systems.MAX_MESSAGE - systems.OWN_WORDS
    free = room - systems.tekton_cost(Value("a", ""))
    taken, left = fit([Value("a", "x" * (free + over))], room, systems.tekton_cost, "Tekton")

    assert (len(taken), len(left)) == ((0, 1) if over else (1, 0))


def test_tekton_writes_a_file_per_result_without_a_final_newline() -> None:
    found = acts("tekton", RESOLVED)
    files = {act.path: act.text for act in found if isinstance(act, Write)}

    assert files == {f"results/{name}": text for name, text in values(RESOLVED)}


# Azure


@given(texts)
def test_any_azure_variable_is_read_back(text: str) -> None:
    (command,) = azure_commands(systems.azure_variable(Value("a", text)))

    assert command.name == "task.setvariable"
    assert command.facts == {"variable": "a", "isOutput": "true"}
    assert command.data == lines(text)


@given(texts)
def test_any_azure_issue_is_read_back(text: str) -> None:
    annotation = Annotation("warning", text, "t", text, f"p{text}", 3, 4)
    (command,) = azure_commands(systems.azure_issue(annotation))

    assert command.facts["type"] == "warning"
    assert command.facts["sourcepath"] == escape(f"p{text}")
    assert command.facts.get("code", "") == escape(text)
    assert command.data == lines(text)


def test_azure_receives_variables_issues_and_a_summary() -> None:
    found = acts("azure", ending(MISSING, OLD, NOTE, status=1))

    assert spoken(found).replace(TOKEN, "TOKEN") == snapshot("""\
##vso[task.setvariable variable=status;isOutput=true]1
##vso[task.setvariable variable=findings;isOutput=true]3
##vso[task.setvariable variable=errors;isOutput=true]1
##vso[task.setvariable variable=warnings;isOutput=true]1
##vso[task.setvariable variable=json;isOutput=true]{"schema":1,"reference":"docker.io/library/app:1","findings":["`linux/s390x` is missing","it is 400 days old","it has no SBOM"]}
##vso[task.logissue type=error;code=build-missing]docker.io/library/app:1 linux/s390x: `linux/s390x` is missing%0Ahint: it offers `linux/amd64`
##vso[task.logissue type=warning;sourcepath=build/Dockerfile;linenumber=3;columnnumber=6;code=old-image]Dockerfile: it is 400 days old
##vso[task.uploadsummary]t/resolver-check-TOKEN.md
""")
    assert written(found, f"t/resolver-check-{TOKEN}.md") == summary(
        ending(MISSING, OLD, NOTE, status=1)
    )


def test_azure_agent_without_a_temporary_folder_gets_no_summary() -> None:
    found = emit(EMITTERS["azure"], RESOLVED, desk(AGENT_TEMPDIRECTORY=""))

    assert [act for act in found if isinstance(act, Write)] == []
    assert "uploadsummary" not in spoken(found)


@pytest.mark.parametrize("over", [0, 1])
def test_azure_variable_size_is_limited(over: int) -> None:
    given = [Value("a", "x" * (systems.MAX_AZURE_VALUE + over)), Value("b", "")]
    taken, left = fit(given, systems.MAX_AZURE_VALUE, systems._azure_cost, "Azure")

    assert [value.name for value in taken] == (["b"] if over else ["a", "b"])
    assert bool(left) == bool(over)


# Buildkite


def test_buildkite_receives_values_through_its_agent_stdin() -> None:
    found = acts("buildkite", RESOLVED)
    runs = [act for act in found if isinstance(act, RunProgram)]
    data = {act.words[3]: act.stdin for act in runs[:-1]}

    assert {act.words[:3] for act in runs[:-1]} == {("buildkite-agent", "meta-data", "set")}
    assert data == {f"resolver:{name}": text for name, text in values(RESOLVED)}
    assert runs[-1].words == (
        "buildkite-agent", "annotate", "--style", "warning", "--context", "resolver-resolve",
    )  # fmt: skip
    assert runs[-1].stdin == summary(RESOLVED)


def test_buildkite_receives_no_empty_value() -> None:
    bare = replace(RESOLUTION, reference="")
    found = acts("buildkite", replace(RESOLVED, answers=(bare, bare)))

    assert all(act.stdin.strip() for act in found if isinstance(act, RunProgram))


@pytest.mark.parametrize("over", [0, 1])
def test_buildkite_value_size_is_limited(over: int) -> None:
    given = [Value("a", "x" * (systems.MAX_BUILDKITE_VALUE + over))]
    taken, left = fit(given, systems.MAX_BUILDKITE_VALUE, systems._buildkite_cost, "Buildkite")

    assert (len(taken), len(left)) == ((0, 1) if over else (1, 0))


def test_buildkite_annotation_is_cut_to_its_limit() -> None:
    long = Finding("old-image", Severity.WARNING, "x" * 100, "app")
    found = acts("buildkite", ending(*[long] * 8_000, status=1))
    (run,) = [act for act in found if isinstance(act, RunProgram) and act.words[1] == "annotate"]

    assert systems.MAX_ANNOTATION - 300 < len(run.stdin) <= systems.MAX_ANNOTATION
    assert run.stdin.endswith(CUT)
    assert run.words[3] == "error"


# A shell


@pytest.mark.parametrize("text", [HOSTILE, "", "'", "a\n'b'\n", "$HOME `id` \\"])
def test_shell_file_is_read_back_without_running_content(text: str, tmp_path: Path) -> None:
    of = replace(RESOLVED, answers=(replace(RESOLUTION, reference=text, pinned=text),))
    place = tmp_path / "e.env"
    place.write_text(written(acts("env", of), "e.env"))
    done = subprocess.run(
        ["sh", "-eu", "-c", '. "$1"; printf %s "$RESOLVED_STATUS/$RESOLVED_JSON"', "sh", place],
        check=True,
        capture_output=True,
    )

    assert done.stdout.decode() == f"0/{dict(values(of))['json']}"
    assert done.stderr == b""


def test_emitted_variables_do_not_configure_resolver() -> None:
    for name in ("env", "gitlab"):
        text = written(acts(name, RESOLVED), PLACES[name])
        assert all(line.startswith("RESOLVED_") for line in text.splitlines())


# The summary


def test_finding_in_the_answer_is_not_repeated() -> None:
    printed = Finding("old-image", Severity.WARNING, "2", "app")
    of = ending(printed, replace(printed, message="unheard of"))

    assert "| 2 |" not in summary(of).partition("**findings**\n")[2]
    assert "unheard of" in summary(of).partition("**findings**\n")[2]


def test_summary_contains_findings_errors_and_warnings() -> None:
    of = replace(
        ending(MISSING, OLD, faults=(FAULT,), status=3), warnings=(Warned("w", "old tag"),)
    )

    assert summary(of) == snapshot("""\
**resolver check**: failed with 1 error, status 3

**`docker.io/library/app:1`**

- findings: 2

**findings**

| image | platform | severity | rule | message | where |
| --- | --- | --- | --- | --- | --- |
| `docker.io/library/app:1` | `linux/s390x` | error | build-missing | `linux/s390x` is missing (it offers `linux/amd64`) | - |
| Dockerfile | - | warning | old-image | it is 400 days old | `build/Dockerfile:3` |

**error**: `app:1` is not offered

hint: see others

**warning**: old tag
""")


@pytest.mark.parametrize(
    ("of", "verdict"),
    [
        (ending(), "passed"),
        (ending(NOTE), "passed, 1 note"),
        (ending(MISSING, OLD, status=1), "1 error, 1 warning, status 1"),
        (ending(faults=(FAULT,), status=3), "failed with 1 error, status 3"),
    ],
)
def test_summary_begins_with_the_verdict(of: RunResult, verdict: str) -> None:
    assert summary(of).splitlines()[0] == f"**resolver check**: {verdict}"


def test_summary_lists_several_resolutions_in_one_table_with_images() -> None:
    missing = Failure("example.com/app:9", "linux/arm64", ManifestNotFound("app:9", "gone"))
    result = replace(ending(status=3), command="resolve", answers=(RESOLUTION, missing))
    text = summary(result)

    assert text.count("| image |") == 1
    assert "| image | platform | grade | digest |" in text
    assert f"| `{RESOLUTION.reference}` | `linux/arm64/v8` | normalised |" in text
    assert "| `example.com/app:9` | `linux/arm64` | error: manifest-not-found | - |" in text


def test_summary_of_a_difference_is_no_error() -> None:
    fault = Fault("differs", "NEGATIVE", 1, "`a:1` and `a:2` differ: 3 changed")
    text = summary(replace(ending(status=1), faults=(fault,)))

    assert text.splitlines()[0] == (
        "**resolver check**: `a:1` and `a:2` differ: 3 changed, status 1"
    )
    assert "error" not in text
