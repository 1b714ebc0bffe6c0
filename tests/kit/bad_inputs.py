"""The catalogue of hostile documents, as parameters of tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import DATA

FOLDER = DATA / "bad_inputs"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text("utf-8"))["files"]


def select(*kinds: str, expect: str | None = None) -> list[Any]:
    """Return the cases of these kinds, all or those with this expectation."""
    return [
        pytest.param(case, id=case["file"])
        for case in CASES
        if case["kind"] in kinds and expect in (None, case["expect"])
    ]
