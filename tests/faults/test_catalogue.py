"""Nothing of the catalogue is forgotten."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.faults.catalogue import NAME, RECORDED, cases


def shown() -> set[str]:
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = NAME.fullmatch(node.name) if isinstance(node, ast.FunctionDef) else None
            if name is not None:
                found.add(f"{name[1].upper()}-{name[2]}")
    return found


def test_every_case_is_tested_or_recorded() -> None:
    assert shown() | set(RECORDED) == set(cases())


def test_no_case_is_both_tested_and_recorded() -> None:
    assert not shown() & set(RECORDED)


def test_every_recorded_case_has_a_reason() -> None:
    assert all(len(reason.split()) > 3 for reason in RECORDED.values())
