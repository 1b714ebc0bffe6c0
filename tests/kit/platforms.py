"""Platforms for tests: the vectors of platforms.json, and hypothesis strategies."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

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


#: Platforms as registries and people write them, sloppy ones included.
SYSTEMS = "linux linux Linux windows windows darwin macOS unknown"
ARCHITECTURES = (
    "amd64 x86_64 386 arm64 aarch64 arm armhf armel riscv64 ppc64le s390x unknown amd64 arm64 arm"
)
VARIANTS = (
    "v1 v2 v3 2 v5 v6 v7 v8 V8 8.0 v8.0 v8.2 v8.10 v9 9.0 v9.3 v9.9 v100 +3 rva20u64 rva22u64 "
    "power9 foo"
)
VERSIONS = (
    "10.0 10.0.17763 10.0.17763.1 10.0.20348.2 10.0.20348.10 10.0.26100 10.0.26200 6.3.9600 0.0.0 "
    "garbage 10.0.99999 10.0.20348.x"
)


def words(text: str) -> st.SearchStrategy[str]:
    """Draw one of these words or, often, an empty one."""
    return st.sampled_from(text.split()) | st.just("")


features = st.lists(st.sampled_from(["win32k", "gpu", "a", ""]), max_size=3)
platforms = st.builds(
    Platform,
    words(SYSTEMS),
    words(ARCHITECTURES),
    words(VARIANTS),
    words(VERSIONS),
    features.map(tuple),
)
