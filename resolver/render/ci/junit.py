"""JUnit XML: a suite per image or file, a case per rule and platform.

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

#: What XML cannot hold and `escape` leaves. Source: XML 1.0, production 2, Char.
_NOT_XML = re.compile("[\ufffe\uffff]")


def junit(result: RunResult) -> str:
    """Write one document; what nothing is said against passes, and a note is no failure."""
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
    """Name everything that was asked about, in the order it came up; at least the command."""
    found = [name for answer in result.answers for name in _named(answer)]
    found += [finding.subject for finding in result.findings]
    found += [_subject(fault, result) for fault in result.faults]
    return tuple(dict.fromkeys(name for name in found if name and isinstance(name, str))) or (
        result.command,
    )


def _named(answer: object) -> Iterable[str]:
    """Name the images or files that an answer is about, itself or part by part."""
    parts = (answer, *getattr(answer, "images", ()), *getattr(answer, "files", ()))
    for part in parts:
        for holder in (part, getattr(part, "image", None)):
            yield from (getattr(holder, name, "") for name in ("reference", "path"))


def _subject(fault: Fault, result: RunResult) -> str:
    return fault.subject or result.command


def _error(suite: Element, fault: Fault) -> None:
    case = SubElement(suite, "testcase")
    _name(case, f"{fault.code} {fault.platform}".rstrip(), suite.get("name", ""))
    told = SubElement(case, "error", message=_text(fault.message), type=fault.code)
    told.text = _body(tuple(f"hint: {hint}" for hint in fault.hints))


def _case(suite: Element, finding: Finding, title: str, result: RunResult) -> None:
    case = SubElement(suite, "testcase")
    _name(case, f"{finding.rule} {finding.platform}".rstrip(), suite.get("name", ""))
    where = spot(finding, result)
    place = f"{where.path}:{where.line}:{where.column}" if finding.place else finding.digest
    lines = (title, f"hint: {finding.hint}" if finding.hint else "", place)
    if finding.severity is Severity.NOTE:
        SubElement(case, "system-out").text = _body((finding.message, *lines))
    else:
        told = SubElement(case, "failure", message=_text(finding.message), type=finding.rule)
        told.text = _body(lines)


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
    """Write lines, of which none may begin as a command: a log may show this file."""
    return "\n".join(_NOT_XML.sub("\ufffd", line(text)) for text in lines if text)


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", escape(text))
