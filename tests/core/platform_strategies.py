"""Platforms as registries and people write them, sloppy ones included."""

from __future__ import annotations

from hypothesis import strategies as st

from resolver.core.platforms.platform import Platform

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
