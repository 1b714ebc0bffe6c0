"""Report files: valid by their published schemas, with the expected content."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import fromstring

import pytest
import xmlschema
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from jsonschema import Draft4Validator

from resolver.core.lint import findings as rule_book
from resolver.core.lint.findings import Finding, FindingPlace, Severity
from resolver.core.results.events import Warned
from resolver.render.ci import reports as reports_module
from resolver.render.ci.emit import REPORTS, write_report
from resolver.render.ci.reports import spot
from tests import DATA
from tests.kit.ci_systems import azure_commands, github_commands
from tests.kit.run_results import EVIL, FAULT, HOSTILE, MISSING, NOTE, OLD, ending

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult

SCHEMAS = DATA / "schemas"
HOSTILE_FAULT = replace(FAULT, message=HOSTILE, hints=(HOSTILE,), subject=HOSTILE, platform=HOSTILE)
ENDINGS = {
    "clean": ending(),
    "nothing asked": replace(ending(), answers=()),
    "findings": ending(MISSING, OLD, NOTE, status=1),
    "failed": replace(ending(faults=(FAULT,), status=3), answers=()),
    "findings of a policy": ending(MISSING, OLD, status=1, source="./policy.yaml"),
    "hostile": replace(
        ending(EVIL, replace(EVIL, place=None), faults=(HOSTILE_FAULT,), status=6),
        warnings=(Warned("w", HOSTILE),),
    ),
}
#: Source: docs.gitlab.com, "Code Quality report format": what each issue must have.
CODE_QUALITY = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": "^(?!\\./)."},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}
each_ending = pytest.mark.parametrize("of", ENDINGS.values(), ids=ENDINGS)
severities = st.sampled_from(Severity)
words = st.text() | st.just(HOSTILE)
places = st.none() | st.builds(FindingPlace, words, st.integers(1, 9_999), st.integers(1, 999))
findings = st.builds(
    Finding, st.just("old-image"), severities, words, words, words, words, words, places
)

pytestmark = pytest.mark.usefixtures("checked")


@cache
def sarif_schema() -> Any:
    return Draft4Validator(json.loads((SCHEMAS / "sarif-2.1.0.json").read_text("utf-8")))


@cache
def junit_schema() -> Any:
    return xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd")


def validated(name: str, text: str) -> Any:
    """Validate a report by the schema of its format and parse it."""
    if name == "junit":
        junit_schema().validate(text)
        return fromstring(text)
    value = json.loads(text)
    schema = sarif_schema() if name == "sarif" else Draft4Validator(CODE_QUALITY)
    assert [error.message for error in schema.iter_errors(value)] == []
    return value


def drawn(name: str, of: RunResult) -> Any:
    return validated(name, write_report(REPORTS[name], of))


def run_of(of: RunResult) -> Any:
    (run,) = drawn("sarif", of)["runs"]
    return run


# Every form, every ending


@pytest.mark.parametrize("name", ["sarif", "junit", "codequality"])
@each_ending
def test_report_is_valid_and_contains_no_command(name: str, of: RunResult) -> None:
    text = write_report(REPORTS[name], of)

    validated(name, text)
    assert github_commands(text) == azure_commands(text) == []
    assert text.endswith("\n")


@given(st.lists(findings, max_size=4), st.sampled_from(["sarif", "junit", "codequality"]))
def test_any_report_is_valid(found: list[Finding], name: str) -> None:
    of = replace(ending(), answers=(_Found(tuple(found)),), faults=(HOSTILE_FAULT,), status=1)

    drawn(name, of)


class _Found:
    def __init__(self, found: tuple[Finding, ...]) -> None:
        self.findings = found


@pytest.mark.parametrize("name", ["sarif", "junit", "codequality", "markdown"])
@each_ending
def test_report_is_deterministic(name: str, of: RunResult) -> None:
    assert write_report(REPORTS[name], of) == write_report(REPORTS[name], of)


def test_schema_rejects_an_invalid_report() -> None:
    wrong = {"version": "2.1.0", "runs": [{"results": [{"message": "text"}]}]}

    assert list(sarif_schema().iter_errors(wrong))
    assert not junit_schema().is_valid("<testsuites><testcase/></testsuites>")


# SARIF


@pytest.mark.parametrize("name", ["clean", "nothing asked"])
def test_report_of_a_passing_run_is_valid_and_empty(name: str) -> None:
    run = run_of(ENDINGS[name])

    assert run["results"] == []
    assert run["tool"]["driver"]["rules"] == []
    assert run["invocations"] == [
        {"executionSuccessful": True, "exitCode": 0, "toolExecutionNotifications": []}
    ]


def test_report_explains_known_rules_once_and_unknown_ones_by_id() -> None:
    strange = replace(OLD, rule="strange-rule")
    rules = run_of(ending(OLD, strange, OLD, status=1))["tool"]["driver"]["rules"]

    assert rules == snapshot(
        [
            {
                "id": "old-image",
                "shortDescription": {"text": "the image is old"},
                "defaultConfiguration": {"level": "warning"},
                "fullDescription": {"text": "Rebuild it."},
                "help": {"text": "Rebuild it."},
            },
            {
                "id": "strange-rule",
                "shortDescription": {"text": "strange-rule"},
                "defaultConfiguration": {"level": "warning"},
            },
        ]
    )


def test_report_result_has_level_message_location_and_fingerprint() -> None:
    assert run_of(ending(MISSING, OLD, status=1))["results"] == snapshot(
        [
            {
                "ruleId": "build-missing",
                "level": "error",
                "message": {
                    "text": """\
docker.io/library/app:1 linux/s390x: `linux/s390x` is missing
hint: it offers `linux/amd64`\
"""
                },
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {"uri": "images/docker.io/library/app_1"},
                            "region": {"startLine": 1, "startColumn": 1},
                        },
                        "logicalLocations": [
                            {
                                "fullyQualifiedName": "docker.io/library/app:1 linux/s390x",
                                "kind": "resource",
                            }
                        ],
                    }
                ],
                "partialFingerprints": {
                    "primaryLocationLineHash": "e633594244905d6d:1",
                    "resolver/v1": "e633594244905d6d6ec02e9324f2ab74",
                },
                "properties": {"subject": "docker.io/library/app:1", "platform": "linux/s390x"},
            },
            {
                "ruleId": "old-image",
                "level": "warning",
                "message": {"text": "Dockerfile: it is 400 days old"},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {"uri": "build/Dockerfile"},
                            "region": {"startLine": 3, "startColumn": 6},
                        },
                        "logicalLocations": [
                            {"fullyQualifiedName": "Dockerfile", "kind": "resource"}
                        ],
                    }
                ],
                "partialFingerprints": {
                    "primaryLocationLineHash": "fc243ae2ac2cbe64:1",
                    "resolver/v1": "fc243ae2ac2cbe642e72275dd069f695",
                },
                "properties": {"subject": "Dockerfile"},
            },
        ]
    )


def test_negative_answer_is_a_result_and_failure_is_not() -> None:
    assert run_of(ENDINGS["findings"])["invocations"][0]["executionSuccessful"] is True
    failed = run_of(ENDINGS["failed"])

    assert failed["invocations"] == snapshot(
        [
            {
                "executionSuccessful": False,
                "exitCode": 3,
                "toolExecutionNotifications": [
                    {
                        "level": "error",
                        "descriptor": {"id": "platform-not-offered"},
                        "message": {"text": "`app:1` is not offered"},
                    }
                ],
            }
        ]
    )
    assert [(each["ruleId"], each["level"]) for each in failed["results"]] == [
        ("platform-not-offered", "error")
    ]


def test_finding_without_a_file_points_to_the_requesting_file() -> None:
    results = run_of(ENDINGS["findings of a policy"])["results"]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results]

    assert uris == ["policy.yaml", "build/Dockerfile"]


@pytest.mark.parametrize("count", [3, 4])
def test_sarif_results_are_limited(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reports_module.MAX_RESULTS == 25_000
    monkeypatch.setattr(reports_module, "MAX_RESULTS", 3)
    run = run_of(ending(*[OLD] * count))
    notifications = [
        each["message"]["text"] for each in run["invocations"][0]["toolExecutionNotifications"]
    ]

    assert len(run["results"]) == 3
    assert notifications == (
        [] if count == 3 else ["1 results are left out: the limit of a run is 3"]
    )


def test_fingerprint_survives_moved_lines_and_separates_equal_findings() -> None:
    moved = replace(OLD, place=FindingPlace("build/Dockerfile", 40), message="it is 401 days old")
    results = run_of(ending(OLD, OLD, status=1))["results"]
    (after,) = run_of(ending(moved, status=1))["results"]

    assert after["partialFingerprints"] == results[0]["partialFingerprints"]
    assert results[0]["partialFingerprints"] != results[1]["partialFingerprints"]


# Places


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Dockerfile", "Dockerfile"),
        ("./a/Dockerfile", "a/Dockerfile"),
        (".//a", "a"),
        ("/work/app/a/b", "a/b"),
        ("/elsewhere/b", "/elsewhere/b"),
        ("a\\b", "a/b"),
    ],
)
def test_report_paths_are_relative_to_the_working_folder(path: str, expected: str) -> None:
    of = ending(folder="/work/app")

    assert spot(replace(OLD, place=FindingPlace(path, 2)), of).path == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("docker.io/library/app:1", "images/docker.io/library/app_1"),
        ("../../etc/passwd", "images/etc/passwd"),
        ("/a//b", "images/a/b"),
        ("", "images/check"),
    ],
)
def test_image_in_a_report_has_its_own_path(subject: str, expected: str) -> None:
    assert spot(replace(MISSING, subject=subject), ending()).path == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a b/c#d", "a%20b/c%23d"),
        ("/x", "file:///x"),
        ("a:b", "a%3Ab"),
        ("ü\ud800", "%C3%BC%ED%A0%80"),
    ],
)
def test_sarif_path_is_a_uri(path: str, expected: str) -> None:
    assert reports_module.uri(path) == expected


# JUnit, Code Quality


def test_junit_suite_is_a_subject_and_case_a_rule_on_a_platform() -> None:
    text = write_report(REPORTS["junit"], ending(MISSING, OLD, NOTE, faults=(FAULT,), status=3))

    assert text == snapshot("""\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="resolver check" tests="4" failures="2" errors="1">
  <testsuite name="docker.io/library/app:1" tests="2" failures="1" errors="0">
    <testcase name="build-missing linux/s390x" classname="docker.io/library/app:1">
      <failure message="`linux/s390x` is missing" type="build-missing">a platform is missing
hint: it offers `linux/amd64`</failure>
    </testcase>
    <testcase name="no-sbom" classname="docker.io/library/app:1">
      <system-out>it has no SBOM
there is no SBOM</system-out>
    </testcase>
  </testsuite>
  <testsuite name="Dockerfile" tests="1" failures="1" errors="0">
    <testcase name="old-image" classname="Dockerfile">
      <failure message="it is 400 days old" type="old-image">the image is old
build/Dockerfile:3:6</failure>
    </testcase>
  </testsuite>
  <testsuite name="app:1" tests="1" failures="0" errors="1">
    <testcase name="platform-not-offered" classname="app:1">
      <error message="`app:1` is not offered" type="platform-not-offered">hint: see others</error>
    </testcase>
  </testsuite>
</testsuites>
""")


def test_junit_case_without_findings_passes() -> None:
    root = drawn("junit", ENDINGS["clean"])

    assert [case.attrib for case in root.iter("testcase")] == [
        {"name": "check", "classname": "docker.io/library/app:1"}
    ]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("1", "0", "0")


def test_junit_has_a_suite_per_image_or_file() -> None:
    images = (
        SimpleNamespace(reference="a:1"),
        SimpleNamespace(image=SimpleNamespace(reference="b:1")),
    )
    several = SimpleNamespace(images=images, files=(SimpleNamespace(path="Dockerfile"),))
    of = replace(ending(faults=(replace(FAULT, subject="c:1"),), status=3), answers=(several,))
    root = drawn("junit", of)

    assert [suite.get("name") for suite in root] == ["a:1", "b:1", "Dockerfile", "c:1"]
    assert [case.get("name") for case in root.iter("testcase")] == [
        *["check"] * 3,
        "platform-not-offered",
    ]


def test_code_quality_issue_has_location_and_severity() -> None:
    issues = drawn("codequality", ending(MISSING, OLD, NOTE, faults=(FAULT,), status=3))

    assert [(each["severity"], each["check_name"], each["location"]) for each in issues] == [
        ("critical", "platform-not-offered", {"path": "images/app_1", "lines": {"begin": 1}}),
        (
            "major",
            "build-missing",
            {"path": "images/docker.io/library/app_1", "lines": {"begin": 1}},
        ),
        ("minor", "old-image", {"path": "build/Dockerfile", "lines": {"begin": 3}}),
        ("info", "no-sbom", {"path": "images/docker.io/library/app_1", "lines": {"begin": 1}}),
    ]


# The rule book


def test_rule_ids_are_unique_and_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without the book of these tests, which has names of rules that there really are.
    monkeypatch.setattr(rule_book, "BOOKS", rule_book.BOOKS[:-1])
    ids = [rule.id for rule in rule_book._all()]

    assert ids
    assert len(set(ids)) == len(ids)
    assert [rule.id for rule in rule_book.rules(ids)] == ids
