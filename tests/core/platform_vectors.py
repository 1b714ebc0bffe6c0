"""The vectors of platforms.json: what other tools answer, and what is wanted here."""

from __future__ import annotations

import json
from typing import Any

from resolver.core.platforms.platform import LINUX_AMD64, Platform
from tests import DATA

FILE = DATA / "vectors" / "platforms.json"
Case = dict[str, Any]
ALL: list[Case] = json.loads(FILE.read_text("utf-8"))
#: Trees of documents, whose selection needs their configs too (docs/platform-matching.md,
#: "From a name to a manifest").
DESCRIPTOR_CASES = [case for case in ALL if case["tier"] == "descriptor"]


def cases(kind: str) -> list[Case]:
    """Return the cases of one kind whose answer is a platform or a list of them."""
    return [case for case in ALL if case["kind"] == kind and case["tier"] != "descriptor"]


def name(case: Case) -> str:
    return f"{case['id']}-{case['rule']}"


def platform_of(fields: Case) -> Platform:
    """Return a platform from the field names of the OCI specification."""
    return Platform(
        fields.get("os", ""),
        fields.get("architecture", ""),
        fields.get("variant", ""),
        fields.get("os.version", ""),
        tuple(fields.get("os.features", ())),
    )


def host_of(case: Case) -> Platform:
    """Return the host of a case; linux/amd64 by default."""
    return platform_of(case["input"]["host"]) if "host" in case["input"] else LINUX_AMD64
