"""SARIF 2.1.0: what rules found and what failed, for code scanning.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0";
docs.github.com, "SARIF support for code scanning".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from resolver.core.findings import Rule, Severity
from resolver.core.rule_book import rules
from resolver.render.annotations import about, failed
from resolver.render.escape import escape
from resolver.render.places import Spot, fingerprints, hashed, spot

if TYPE_CHECKING:
    from resolver.core.ending import Ending, Fault
    from resolver.core.findings import Finding
    from resolver.render.plain import Plain

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
#: Results that code scanning takes in one run; a file with more is refused as a whole. Source:
#: docs.github.com, "SARIF results exceed one or more limits".
MAX_RESULTS = 25_000
#: A "no" is an answer: the run did what it should. Source: architecture.md 2.6.
_ANSWERED = 1


def sarif(ending: Ending) -> str:
    """Write one run; without findings its results are empty, which is how a pass looks."""
    results = _results(ending)
    kept = results[:MAX_RESULTS]
    run = {
        "tool": {"driver": _driver(ending)},
        "invocations": [_invocation(ending, len(results) - len(kept))],
        "columnKind": "unicodeCodePoints",
        "results": kept,
    }
    whole = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(whole, indent=2, ensure_ascii=True) + "\n"


def _driver(ending: Ending) -> Plain:
    failed = {fault.code: _failing(fault.code) for fault in ending.faults}
    known = {rule.id: rule for rule in rules(finding.rule for finding in ending.findings)}
    return {
        "name": "resolver",
        "semanticVersion": ending.version,
        "rules": [_rule(rule) for rule in {**failed, **known}.values()],
    }


def _failing(code: str) -> Rule:
    words = code.replace("-", " ")
    return Rule(code, Severity.ERROR, words, "The question has no answer; the message says why.")


def _rule(rule: Rule) -> Plain:
    told: Plain = {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "defaultConfiguration": {"level": rule.severity.value},
    }
    if rule.explanation:
        told["fullDescription"] = {"text": rule.explanation}
        told["help"] = {"text": rule.explanation}
    return told


def _results(ending: Ending) -> list[Plain]:
    found = [_failure(fault, ending) for fault in ending.faults]
    named = zip(ending.findings, fingerprints(ending.findings, ending), strict=True)
    return found + [_finding(finding, name, ending) for finding, name in named]


def _finding(finding: Finding, fingerprint: str, ending: Ending) -> Plain:
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
        "locations": [_location(spot(finding, ending), about(finding))],
        "partialFingerprints": _fingerprints(fingerprint),
        "properties": {name: escape(text) for name, text in properties.items() if text},
    }


def _failure(fault: Fault, ending: Ending) -> Plain:
    hints = "".join(f"\nhint: {escape(hint)}" for hint in fault.hints)
    where = spot(fault, ending)
    fingerprint = hashed(fault.code, fault.subject, fault.platform, where.path, fault.message)
    name = f"{fault.subject or ending.command} {fault.platform}".rstrip()
    return {
        "ruleId": fault.code,
        "level": "error",
        "message": {"text": escape(failed(fault)) + hints},
        "locations": [_location(where, name)],
        "partialFingerprints": _fingerprints(fingerprint),
    }


def _location(where: Spot, name: str) -> Plain:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri(where.path)},
            "region": {"startLine": max(where.line, 1), "startColumn": max(where.column, 1)},
        },
        "logicalLocations": [{"fullyQualifiedName": escape(name), "kind": "resource"}],
    }


def uri(path: str) -> str:
    """Write a path as a URI: relative for a relative one, `file:` for one from the root."""
    text = quote(path.encode("utf-8", "surrogatepass"), safe="/@")
    return f"file://{text}" if text.startswith("/") else text


def _fingerprints(fingerprint: str) -> Plain:
    """GitHub knows an alert again by the first of these, and computes it where it is missing."""
    return {"primaryLocationLineHash": f"{fingerprint[:16]}:1", "resolver/v1": fingerprint}


def _invocation(ending: Ending, left_out: int) -> Plain:
    told = [_notice("error", fault.code, fault.message) for fault in ending.faults]
    told += [_notice("warning", each.code, each.message) for each in ending.warnings]
    if left_out:
        words = f"{left_out} results are left out: a run may have {MAX_RESULTS}"
        told.append(_notice("warning", "results-left-out", words))
    return {
        "executionSuccessful": ending.status <= _ANSWERED,
        "exitCode": ending.status,
        "toolExecutionNotifications": told,
    }


def _notice(level: str, code: str, message: str) -> Plain:
    return {"level": level, "descriptor": {"id": code}, "message": {"text": escape(message)}}
