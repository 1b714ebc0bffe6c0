"""The public names of `resolver/__init__.py`, which load nothing until used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import resolver

PUBLIC = {
    "Attestations", "TrustOptions",
    "Challenge", "Checked", "Collected", "Comparison", "Copied", "CopyPlan", "IndexWritten",
    "Repositories", "Synced", "Descriptor", "Digest", "DiskUsage",
    "Exported", "Failure", "Finding", "Flags", "Grade", "ImageComparison", "Inspection", "Linted",
    "Lock", "LockCheck", "Locked", "Matrix", "Needs", "Offer", "Offers", "Pin", "Pinned",
    "PinnedFile", "Plan",
    "Platform", "Pulled", "Reference", "Rejection", "Removed", "Requirements", "Resolution",
    "ResolverError", "Retention", "Rule", "Selection", "Session", "Severity", "StoredImage",
    "Thresholds", "Verified", "__version__", "parse_challenge", "select",
}  # fmt: skip


def test_public_names() -> None:
    assert set(resolver.__all__) == PUBLIC
    assert dir(resolver) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_are_documented(name: str) -> None:
    value = getattr(resolver, name)

    assert isinstance(value, str) or value.__doc__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        resolver.nothing  # noqa: B018 - reading it is the test


def test_import_resolver_loads_no_other_module() -> None:
    code = "import sys, resolver; print([m for m in sys.modules if m.startswith('resolver.')])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['resolver._version']"


def test_library_example_works() -> None:
    reference = resolver.Reference.parse("ubuntu:24.04")
    wanted = resolver.Platform.parse("windows/amd64:10.0.20348")

    assert str(reference) == "docker.io/library/ubuntu:24.04"
    assert (reference.registry, reference.repository) == ("docker.io", "library/ubuntu")
    assert (reference.tag, reference.digest) == ("24.04", None)
    assert (wanted.os, wanted.architecture, wanted.os_version) == (
        "windows",
        "amd64",
        "10.0.20348",
    )


def test_select_accepts_platforms_and_none_and_returns_its_choice() -> None:
    entries = [
        None,
        resolver.Platform.parse("linux/arm64/v8"),
        resolver.Platform.parse("linux/386"),
    ]

    found = resolver.select(entries, resolver.Platform.parse("linux/arm64"), exact=False)

    assert found.index == 1
    assert found.grade is resolver.Grade.NORMALISED
    assert {loser.index for loser in found.rejected} == {0, 2}


def test_select_accepts_a_platform_as_text() -> None:
    entries = [resolver.Platform.parse("linux/amd64"), resolver.Platform.parse("linux/arm/v7")]

    assert resolver.select(entries, "linux/armhf").index == 1
