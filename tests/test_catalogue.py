"""Every case of the catalogues of attacks and faults is tested, or recorded with a reason."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import DATA
from tests.adversarial import catalogue as attacks
from tests.faults import catalogue as faults

if TYPE_CHECKING:
    from types import ModuleType

_NAME = re.compile(r"test_([a-z]{3})_([0-9]{3})_.+")

catalogues = pytest.mark.parametrize("catalogue", [attacks, faults], ids=["attacks", "faults"])


def cases(catalogue: ModuleType) -> set[str]:
    listed: list[dict[str, str]] = json.loads((DATA / "adversarial.json").read_text("utf-8"))
    return {case["id"] for case in listed if case["area"] in catalogue.AREAS}


def covered(catalogue: ModuleType) -> set[str]:
    found = set()
    for path in Path(str(catalogue.__file__)).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = _NAME.fullmatch(node.name) if isinstance(node, ast.FunctionDef) else None
            if name is not None:
                found.add(f"{name[1].upper()}-{name[2]}")
    return found


@catalogues
def test_every_case_is_tested_or_recorded(catalogue: ModuleType) -> None:
    assert cases(catalogue)
    assert covered(catalogue) | set(catalogue.RECORDED) == cases(catalogue)


@catalogues
def test_no_case_is_both_tested_and_recorded(catalogue: ModuleType) -> None:
    assert not covered(catalogue) & set(catalogue.RECORDED)


@catalogues
def test_every_recorded_case_has_a_reason(catalogue: ModuleType) -> None:
    assert all(len(reason.split()) > 3 for reason in catalogue.RECORDED.values())
