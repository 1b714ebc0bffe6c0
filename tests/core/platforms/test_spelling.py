"""Normalising and formatting platforms."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.descriptor import OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.core.results.store import StoredImage
from resolver.verbs.store import ListFilters
from tests.kit.platforms import Case, cases, name, platform_of, platforms


@pytest.mark.parametrize("case", cases("normalize"), ids=name)
def test_platform_vector_is_normalised(case: Case) -> None:
    written = platform_of(case["input"]["platform"])

    assert written.normalized() == platform_of(case["expect"]["platform"])


@pytest.mark.parametrize("case", cases("format"), ids=name)
def test_platform_vector_is_formatted(case: Case) -> None:
    platform = platform_of(case["input"]["platform"])

    assert platform.format() == case["expect"]["format"]
    assert platform.format_all() == case["expect"]["format_all"]


# Source: docs/platform-matching.md, "Normalisation".
@pytest.mark.parametrize(
    ("architecture", "variant", "expected"),
    [
        ("i386", "v1", ("386", "")),
        ("386", "softfloat", ("386", "softfloat")),
        ("x86_64", "", ("amd64", "")),
        ("x86-64", "v2", ("amd64", "v2")),
        ("amd64", "V1", ("amd64", "")),
        ("amd64", "1", ("amd64", "1")),
        ("amd64", "v1.0", ("amd64", "v1.0")),
        ("AARCH64", "V8", ("arm64", "")),
        ("arm64", "8", ("arm64", "")),
        ("arm64", "v8.0", ("arm64", "")),
        ("arm64", "8.0", ("arm64", "8.0")),
        ("arm64", "8.1", ("arm64", "8.1")),
        ("arm64", "9", ("arm64", "v9")),
        ("arm64", "9.0", ("arm64", "v9")),
        ("arm64", "v9.0", ("arm64", "v9")),
        ("arm64", "v9.1", ("arm64", "v9.1")),
        ("armhf", "v5", ("arm", "v7")),
        ("armel", "", ("arm", "v6")),
        ("arm", "", ("arm", "v7")),
        ("arm", "5", ("arm", "v5")),
        ("arm", "6", ("arm", "v6")),
        ("arm", "8", ("arm", "v8")),
        ("arm", "4", ("arm", "4")),
        ("ppc64el", "", ("ppc64el", "")),
        ("loongarch64", "", ("loongarch64", "")),
        ("riscv64", "RVA20U64", ("riscv64", "rva20u64")),
        ("", "v8", ("", "v8")),
        # The sign of the unit Kelvin lower-cases to an ASCII k; no name may be reached that way.
        ("\u212a", "", ("\u212a", "")),
    ],
)
def test_architecture_aliases_are_normalised(
    architecture: str, variant: str, expected: tuple[str, str]
) -> None:
    normal = Platform("linux", architecture, variant).normalized()

    assert (normal.architecture, normal.variant) == expected


# Source: docs/platform-matching.md, "Normalisation".
@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("", "linux"),
        ("Linux", "linux"),
        ("macOS", "darwin"),
        ("osx", "osx"),
        ("win32", "win32"),
        ("wasip1", "wasip1"),
    ],
)
def test_os_aliases_are_normalised(written: str, normal: str) -> None:
    assert Platform(written, "amd64").normalized().os == normal


@given(platforms)
def test_normalising_a_platform_twice_changes_nothing(platform: Platform) -> None:
    once = platform.normalized()

    assert once.normalized() == once


@pytest.mark.parametrize(
    ("platform", "text"),
    [
        (Platform("linux", "amd64"), "linux/amd64"),
        (Platform("linux", "arm", "v7"), "linux/arm/v7"),
        (Platform("windows", "amd64", "", "10.0.20348"), "windows/amd64:10.0.20348"),
        (Platform("windows", "amd64", "", "", ("win32k",)), "windows(+win32k)/amd64"),
        (Platform("windows", "amd64", "", "1", ("b", "a", "")), "windows(1+a+b)/amd64"),
        (Platform("windows", "amd64", "", "10.0", ("",)), "windows/amd64:10.0"),
        (Platform("windows", "amd64", "", "ltsc2022"), "windows(ltsc2022)/amd64"),
        (Platform("windows", "amd64", "", "1903"), "windows(1903)/amd64"),
        (Platform("freebsd", "amd64", "", "14.1"), "freebsd/amd64:14.1"),
        (Platform("darwin", "arm64", "", "macOS 14.4"), "darwin(macOS%2014.4)/arm64"),
        (Platform("linux", "x:y", "é"), "linux/x%3Ay/%C3%A9"),
        (Platform("my.os", "amd64"), "my%2Eos/amd64"),
        (Platform("windows", "amd64", "", "a b:c"), "windows(a%20b%3Ac)/amd64"),
        (Platform("windows", "", "", "10.0"), "windows/unknown:10.0"),
        (Platform("linux", "", "v8"), "linux/unknown/v8"),
        (Platform("", "arm", "v7", "1"), "linux/arm/v7:1"),
        (Platform("unknown", "unknown"), "unknown/unknown"),
    ],
)
def test_platform_is_printed_short_when_unambiguous(platform: Platform, text: str) -> None:
    assert str(platform) == text


@given(st.lists(platforms, max_size=6))
def test_platforms_can_be_sorted_and_counted(several: list[Platform]) -> None:
    ordered = sorted(several)

    assert all(one <= two for one, two in pairwise(ordered))
    assert set(several) == set(ordered)


@pytest.mark.parametrize(
    ("wanted", "listed"),
    [
        ("darwin", True),
        ("darwin/arm64", True),
        ("darwin(macOS%2014.4)/arm64", True),
        ("darwin/amd64", False),
        ("dar", False),
    ],
)
def test_platform_filter_ignores_the_os_version(wanted: str, *, listed: bool) -> None:
    root = Descriptor(OCI_MANIFEST, Digest.of(b""), 0)
    held = (str(Platform("darwin", "arm64", "", "macOS 14.4")),)
    image = StoredImage("", root.digest, root, held, held, "", 0, 0, dangling=True, missing=())

    assert bool(ListFilters.parse([f"platform={wanted}"]).take([image]).images) is listed
