"""Values of `--emit` and `--report`, and the meaning of `auto`."""

from __future__ import annotations

import pytest

from resolver.errors import Usage
from resolver.render.ci.emit import EMITTERS, REPORTS, emits, reports

JOB = {"GITHUB_OUTPUT": "/runner/output"}


def emitted(*words: str, **variables: str) -> list[tuple[str, str]]:
    return [(row.name, place) for row, place in emits(words, {**JOB, **variables})]


def test_ci_systems_and_files_are_parsed_once_in_order() -> None:
    found = emitted("env=a.env", "github", "tekton=/r", "env=a.env", "env=b=c", "azure")

    assert found == [
        ("env", "a.env"),
        ("github", ""),
        ("tekton", "/r"),
        ("env", "b=c"),
        ("azure", ""),
    ]


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, []),
        ({"GITHUB_ACTIONS": "true"}, [("github", "")]),
        ({"GITLAB_CI": "true"}, [("gitlab", "resolver.env")]),
        ({"TF_BUILD": "True"}, [("azure", "")]),
        ({"BUILDKITE": "true"}, [("buildkite", "")]),
        ({"GITHUB_ACTIONS": "false", "GITLAB_CI": "", "TF_BUILD": "0"}, []),
        ({"CI": "true"}, []),
    ],
)
def test_emit_auto_selects_the_detected_system(
    variables: dict[str, str], found: list[tuple[str, str]]
) -> None:
    assert emitted("auto", **variables) == found


def test_emit_auto_with_the_detected_system_emits_once() -> None:
    assert emitted("github", "auto", GITHUB_ACTIONS="true") == [("github", "")]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("jenkins", "unknown CI system `--emit jenkins`"),
        ("", "unknown CI system `--emit `"),
        ("gitlab", "`--emit gitlab` needs a path"),
        ("tekton=", "`--emit tekton` needs a path"),
        ("github=x", "`--emit github` takes no path"),
        ("azure=", "`--emit azure` takes no path"),
    ],
)
def test_invalid_ci_system_is_refused(word: str, message: str) -> None:
    with pytest.raises(Usage) as refused:
        emitted(word)

    assert str(refused.value) == message
    assert refused.value.hints()


@pytest.mark.parametrize("word", ["github", "auto"])
def test_github_requires_the_file_named_by_its_runner(word: str) -> None:
    with pytest.raises(Usage, match="needs `GITHUB_OUTPUT`, which is not set"):
        emits((word,), {"GITHUB_ACTIONS": "true"})


def test_reports_are_parsed_once_in_order() -> None:
    found = reports(("junit=a.xml", "sarif=b=c", "junit=a.xml", "markdown=d"))

    assert [(row.name, path) for row, path in found] == [
        ("junit", "a.xml"),
        ("sarif", "b=c"),
        ("markdown", "d"),
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("html=x", "unknown report `html`"),
        ("sarif", "`--report sarif` names no file"),
        ("sarif=", "`--report sarif` names no file"),
    ],
)
def test_invalid_report_is_refused(word: str, message: str) -> None:
    with pytest.raises(Usage) as refused:
        reports((word,))

    assert str(refused.value) == message


def test_tables_list_every_ci_system_and_report() -> None:
    assert list(EMITTERS) == ["github", "gitlab", "azure", "tekton", "buildkite", "env"]
    assert list(REPORTS) == ["sarif", "junit", "codequality", "markdown"]
