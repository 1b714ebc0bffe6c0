"""Contract of every row of `RULES`: explained, and found exactly where it should be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from resolver.core.lint.findings import Severity
from resolver.core.lint.lint import RULES, rule
from resolver.errors import Usage
from resolver.session import Session
from tests.kit.lint_samples import SAMPLES
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.lint_samples import Prepare

IDS = [row.rule.id for row in RULES]

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")
#: Less than the sample that is not read to its end.
_MOST = 256 << 10
#: A page of 80 columns, less the two columns before it.
_TITLE = 46


def found(prepare: Prepare, store: Path) -> set[str]:
    """Return the rules that report a sample."""
    with FakeRegistry() as registry, Session(store) as session:
        name = prepare(registry)
        linted = session.lint(f"{registry.host}/{name}", deep=True, max_bytes=_MOST)
        return {each.rule for each in linted.findings}


def test_every_rule_has_samples_and_every_sample_a_rule() -> None:
    assert set(SAMPLES) == set(IDS)
    assert len(IDS) == len(set(IDS))


@pytest.mark.parametrize("identifier", IDS)
def test_lint_rule_explains_finding_reason_and_fix(identifier: str) -> None:
    about = rule(identifier)

    assert _ID.fullmatch(about.id)
    assert isinstance(about.severity, Severity)
    assert about.title
    assert len(about.title) <= _TITLE
    assert not about.title.endswith(".")
    assert about.explanation.count(". ") >= 1
    assert about.explanation.endswith(".")


@pytest.mark.parametrize("identifier", IDS)
def test_lint_rule_finds_its_samples(identifier: str, tmp_path: Path) -> None:
    assert identifier in found(SAMPLES[identifier].bad, tmp_path)


@pytest.mark.parametrize("identifier", IDS)
def test_lint_rule_ignores_similar_samples(identifier: str, tmp_path: Path) -> None:
    assert identifier not in found(SAMPLES[identifier].good, tmp_path)


def test_unknown_lint_rule_is_a_usage_error() -> None:
    with pytest.raises(Usage, match="there is no rule `nothing`"):
        rule("nothing")
