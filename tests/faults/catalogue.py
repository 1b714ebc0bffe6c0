"""The catalogue of faults: its words in ours, and the cases that cannot be shown.

{PULL} is `pull -p linux/amd64`, {GC} is `gc`, {VERIFY} is `verify`, whose finding is status 1 and
not INTEGRITY: a check that finds something has not failed. {RESOLVE} cached or offline is
`resolve --offline`. {COMPARE} reads all content of an image; until there is such a command
`export` to a folder does that. There is no `--timeout` and no `--lock-timeout`: tests shorten the
limits themselves.
"""

from __future__ import annotations

import json
import re

from tests import DATA

#: The areas that this folder answers for.
AREAS = ("blob", "store", "concurrency", "fault")
NAME = re.compile(r"test_([a-z]{3})_([0-9]{3})_.+")

#: Cases that cannot be shown, and why; `test_catalogue.py` holds this list complete.
RECORDED: dict[str, str] = {}


def cases() -> dict[str, str]:
    """Give the cases of our areas: id and title."""
    found: list[dict[str, str]] = json.loads((DATA / "adversarial.json").read_text("utf-8"))
    return {case["id"]: case["title"] for case in found if case["area"] in AREAS}
