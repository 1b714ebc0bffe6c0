"""Report files: findings and failures as SARIF, JUnit XML and GitLab's Code Quality.

Sources: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0"; docs.github.com,
"SARIF support for code scanning"; the schema of Jenkins' xUnit plugin, junit-10.xsd, which Jenkins,
GitLab and Azure read; docs.gitlab.com, "Code Quality", "Code Quality report format".
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from resolver.core.lint.findings import Rule, Severity, rules
from resolver.render.ci.summary import about, failed, relative
from resolver.render.text import escape, line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.lint.findings import Finding
    from resolver.core.results.run import Fault, RunResult
    from resolver.render.to_dict import Plain


_STRANGE = re.compile(r"[^A-Za-z0-9._/@-]+")


class ReportPosition(NamedTuple):
    """A file relative to the working folder, and a line and column from 1."""

    path: str
    line: int
    column: int


def spot(found: Finding | Fault, result: RunResult) -> ReportPosition:
    """Return the position at which to show a finding or failure."""
    place = getattr(found, "place", None)
    path = relative(place.path, result.folder) if place is not None else ""
    if place is not None and path:
        return ReportPosition(path, place.line, place.column)
    if result.source:
        return ReportPosition(relative(result.source, result.folder), 1, 1)
    parts = _STRANGE.sub("_", found.subject or result.command).split("/")
    return ReportPosition("/".join(("images", *(name for name in parts if name.strip(".")))), 1, 1)


def fingerprints(found: Iterable[Finding], result: RunResult) -> tuple[str, ...]:
    """Return a fingerprint per finding that does not depend on lines and digests.

    It hashes rule, subject, platform and file, and for duplicates their number.
    """
    seen: dict[str, int] = {}
    names = []
    for finding in found:
        path = spot(finding, result).path
        parts = (finding.rule, finding.subject, finding.platform, path)
        text = hashed(*parts)
        seen[text] = seen.get(text, 0) + 1
        names.append(text if seen[text] == 1 else hashed(*parts, str(seen[text])))
    return tuple(names)


def hashed(*parts: str) -> str:
    """Hash any texts; return 32 hex digits."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]


_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
#: Results of one run at most; code scanning rejects a file with more. Source:
#: docs.github.com, "SARIF results exceed one or more limits".
MAX_RESULTS = 25_000
#: A negative answer (status 1) is a successful run.
_ANSWERED = 1


def sarif(result: RunResult) -> str:
    """Return a log with one run; without findings its results are empty, which is a pass."""
    found = [_failure(fault, result) for fault in result.faults]
    named = zip(result.findings, fingerprints(result.findings, result), strict=True)
    results = found + [_finding(finding, name, result) for finding, name in named]
    kept = results[:MAX_RESULTS]
    run = {
        "tool": {"driver": _driver(result)},
        "invocations": [_invocation(result, len(results) - len(kept))],
        "columnKind": "unicodeCodePoints",
        "results": kept,
    }
    whole = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(whole, indent=2, ensure_ascii=True) + "\n"


def _driver(result: RunResult) -> Plain:
    failed = {fault.code: _failing(fault.code) for fault in result.faults}
    known = {rule.id: rule for rule in rules(finding.rule for finding in result.findings)}
    return {
        "name": "resolver",
        "semanticVersion": result.version,
        "rules": [_rule(rule) for rule in {**failed, **known}.values()],
    }


def _failing(code: str) -> Rule:
    words = code.replace("-", " ")
    return Rule(code, Severity.ERROR, words, "The command failed; the message gives the reason.")


def _rule(rule: Rule) -> Plain:
    written: Plain = {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "defaultConfiguration": {"level": rule.severity.value},
    }
    if rule.explanation:
        written["fullDescription"] = {"text": rule.explanation}
        written["help"] = {"text": rule.explanation}
    return written


def _finding(finding: Finding, fingerprint: str, result: RunResult) -> Plain:
    hint = f"\nhint: {escape(finding.hint)}" if finding.hint else ""
    text = f"{escape(about(finding))}: {escape(finding.message)}{hint}"
    properties = {
        "subject": finding.subject,
        "platform": finding.platform,
        "digest": finding.digest,
    }
    return {
        "ruleId": finding.rule,
        "level": finding.severity.value,
        "message": {"text": text},
        "locations": [_location(spot(finding, result), about(finding))],
        "partialFingerprints": _fingerprints(fingerprint),
        "properties": {name: escape(text) for name, text in properties.items() if text},
    }


def _failure(fault: Fault, result: RunResult) -> Plain:
    hints = "".join(f"\nhint: {escape(hint)}" for hint in fault.hints)
    where = spot(fault, result)
    fingerprint = hashed(fault.code, fault.subject, fault.platform, where.path, fault.message)
    name = f"{fault.subject or result.command} {fault.platform}".rstrip()
    return {
        "ruleId": fault.code,
        "level": "error",
        "message": {"text": escape(failed(fault)) + hints},
        "locations": [_location(where, name)],
        "partialFingerprints": _fingerprints(fingerprint),
    }


def _location(where: ReportPosition, name: str) -> Plain:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri(where.path)},
            "region": {"startLine": max(where.line, 1), "startColumn": max(where.column, 1)},
        },
        "logicalLocations": [{"fullyQualifiedName": escape(name), "kind": "resource"}],
    }


def uri(path: str) -> str:
    """Return a path as a URI: a `file:` URI for an absolute path, else relative."""
    text = quote(path.encode("utf-8", "surrogatepass"), safe="/@")
    return f"file://{text}" if text.startswith("/") else text


def _fingerprints(fingerprint: str) -> Plain:
    """Return the fingerprints; GitHub matches alerts by the first, and computes it if missing."""
    return {"primaryLocationLineHash": f"{fingerprint[:16]}:1", "resolver/v1": fingerprint}


def _invocation(result: RunResult, left_out: int) -> Plain:
    notices = [_notice("error", fault.code, fault.message) for fault in result.faults]
    notices += [_notice("warning", item.code, item.message) for item in result.warnings]
    if left_out:
        words = f"{left_out} results are left out: the limit of a run is {MAX_RESULTS}"
        notices.append(_notice("warning", "results-left-out", words))
    return {
        "executionSuccessful": result.status <= _ANSWERED,
        "exitCode": result.status,
        "toolExecutionNotifications": notices,
    }


def _notice(level: str, code: str, message: str) -> Plain:
    return {"level": level, "descriptor": {"id": code}, "message": {"text": escape(message)}}


#: Characters that XML forbids and `escape` keeps. Source: XML 1.0, production 2, Char.
_NOT_XML = re.compile("[\ufffe\uffff]")


def junit(result: RunResult) -> str:
    """Return one document; a subject without findings passes, and a note is not a failure."""
    titles = {rule.id: rule.title for rule in rules(finding.rule for finding in result.findings)}
    root = Element("testsuites", name=f"resolver {result.command}")
    for subject in _subjects(result):
        suite = SubElement(root, "testsuite", name=_text(subject))
        for fault in result.faults:
            if _subject(fault, result) == subject:
                _error(suite, fault)
        for finding in result.findings:
            if finding.subject == subject:
                _case(suite, finding, titles[finding.rule], result)
        if not len(suite):
            _name(SubElement(suite, "testcase"), result.command, subject)
        _count(suite)
    _count(root)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, "unicode") + "\n"


def _subjects(result: RunResult) -> tuple[str, ...]:
    found = [name for answer in result.answers for name in _named(answer)]
    found += [finding.subject for finding in result.findings]
    found += [_subject(fault, result) for fault in result.faults]
    return tuple(dict.fromkeys(name for name in found if name and isinstance(name, str))) or (
        result.command,
    )


def _named(answer: object) -> Iterable[str]:
    entries = (answer, *getattr(answer, "images", ()), *getattr(answer, "files", ()))
    for entry in entries:
        for holder in (entry, getattr(entry, "image", None)):
            yield from (getattr(holder, name, "") for name in ("reference", "path"))


def _subject(fault: Fault, result: RunResult) -> str:
    return fault.subject or result.command


def _error(suite: Element, fault: Fault) -> None:
    case = SubElement(suite, "testcase")
    _name(case, f"{fault.code} {fault.platform}".rstrip(), suite.get("name", ""))
    element = SubElement(case, "error", message=_text(fault.message), type=fault.code)
    element.text = _body(tuple(f"hint: {hint}" for hint in fault.hints))


def _case(suite: Element, finding: Finding, title: str, result: RunResult) -> None:
    case = SubElement(suite, "testcase")
    _name(case, f"{finding.rule} {finding.platform}".rstrip(), suite.get("name", ""))
    where = spot(finding, result)
    place = f"{where.path}:{where.line}:{where.column}" if finding.place else finding.digest
    lines = (title, f"hint: {finding.hint}" if finding.hint else "", place)
    if finding.severity is Severity.NOTE:
        SubElement(case, "system-out").text = _body((finding.message, *lines))
    else:
        element = SubElement(case, "failure", message=_text(finding.message), type=finding.rule)
        element.text = _body(lines)


def _name(case: Element, name: str, subject: str) -> None:
    case.set("name", _text(name))
    case.set("classname", _text(subject))


def _count(element: Element) -> None:
    for attribute, path in (
        ("tests", ".//testcase"),
        ("failures", ".//failure"),
        ("errors", ".//error"),
    ):
        element.set(attribute, str(len(element.findall(path))))


def _body(lines: tuple[str, ...]) -> str:
    """Return lines of which none begins as a CI command: a log may show this file."""
    return "\n".join(_NOT_XML.sub("\ufffd", line(text)) for text in lines if text)


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", escape(text))


_SEVERITIES = {Severity.NOTE: "info", Severity.WARNING: "minor", Severity.ERROR: "major"}
#: Severity of a failure to get an answer.
_FAILED = "critical"


def codequality(result: RunResult) -> str:
    """Return a list of issues; an empty one is a pass."""
    issues = []
    for fault in result.faults:
        where = spot(fault, result)
        name = hashed(fault.code, fault.subject, fault.platform, where.path, fault.message)
        issues.append(_issue(failed(fault), fault.code, _FAILED, name, where))
    names = fingerprints(result.findings, result)
    for finding, name in zip(result.findings, names, strict=True):
        text = f"{about(finding)}: {finding.message}"
        severity = _SEVERITIES[finding.severity]
        issues.append(_issue(text, finding.rule, severity, name, spot(finding, result)))
    return json.dumps(issues, indent=2, ensure_ascii=True) + "\n"


def _issue(text: str, rule: str, severity: str, fingerprint: str, where: ReportPosition) -> Plain:
    return {
        "description": escape(text),
        "check_name": rule,
        "fingerprint": fingerprint,
        "severity": severity,
        "location": {"path": escape(where.path), "lines": {"begin": max(where.line, 1)}},
    }
