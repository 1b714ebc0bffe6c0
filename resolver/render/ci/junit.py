"""JUnit XML: a test suite per image or file, a test case per rule and platform.

Source: the schema of Jenkins' xUnit plugin, junit-10.xsd, which Jenkins, GitLab and Azure read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from resolver.core.lint.findings import Severity, rules
from resolver.render.ci.sarif import spot
from resolver.render.text import escape, line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.lint.findings import Finding
    from resolver.core.results.run import Fault, RunResult

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
    """Return the subjects in order, or the name of the command if there is none."""
    found = [name for answer in result.answers for name in _named(answer)]
    found += [finding.subject for finding in result.findings]
    found += [_subject(fault, result) for fault in result.faults]
    return tuple(dict.fromkeys(name for name in found if name and isinstance(name, str))) or (
        result.command,
    )


def _named(answer: object) -> Iterable[str]:
    """Yield the images or files that an answer is about."""
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
