"""Parsing of platforms as people write them."""

from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.core.check.check import matches
from resolver.core.platforms.platform import BUILTIN, Grade, Platform
from resolver.core.platforms.select import select
from resolver.errors import InvalidPlatform
from tests.kit.platforms import Case, cases, host_of, name, platform_of, platforms


@pytest.mark.parametrize("case", cases("parse"), ids=name)
def test_platform_vector_is_parsed(case: Case) -> None:
    expected = case["expect"]

    parsed = Platform.parse(case["input"]["specifier"], host=host_of(case))

    assert parsed == platform_of(expected["platform"])
    assert parsed.normalized() == platform_of(expected["normalized"])
    assert parsed.format_all() == expected["formatted"]


@pytest.mark.parametrize("case", cases("error"), ids=name)
def test_invalid_platform_vector_is_refused(case: Case) -> None:
    with pytest.raises(InvalidPlatform):
        Platform.parse(case["input"]["specifier"], host=host_of(case))


# Source: docs/platform-matching.md, "Platform specifiers"; every row was checked with
# containerd Parse.
@pytest.mark.parametrize(
    ("text", "architecture", "variant"),
    [
        ("linux/arm", "arm", ""),
        ("linux/arm/v7", "arm", "v7"),
        ("linux/arm/7", "arm", "v7"),
        ("linux/armhf", "arm", ""),
        ("linux/armhf/v6", "arm", "v7"),
        ("linux/armel", "arm", "v6"),
        ("linux/armel/v7", "arm", "v6"),
        ("linux/arm64", "arm64", ""),
        ("linux/aarch64", "arm64", ""),
        ("linux/arm64/8", "arm64", "v8"),
        ("linux/arm64/v8", "arm64", "v8"),
        ("linux/arm64/v8.0", "arm64", "v8"),
        ("linux/arm64/8.0", "arm64", "8.0"),
        ("linux/arm64/9.0", "arm64", "v9"),
        ("linux/amd64/v1", "amd64", ""),
        ("linux/amd64/1", "amd64", "1"),
        ("linux/X86-64/V3", "amd64", "v3"),
        ("linux/i386/v1", "386", ""),
        ("linux/386/softfloat", "386", "softfloat"),
        ("foo/bar/baz", "bar", "baz"),
        ("linux/i686", "i686", ""),
        ("linux/armv7l", "armv7l", ""),
        ("linux/.", ".", ""),
    ],
)
def test_architecture_and_variant_are_read(text: str, architecture: str, variant: str) -> None:
    parsed = Platform.parse(text)

    assert (parsed.architecture, parsed.variant) == (architecture, variant)


# Source: docs/platform-matching.md, "Single words"; containerd Parse with an injected host.
@pytest.mark.parametrize(
    ("text", "host", "expected"),
    [
        ("linux", "linux/arm64/v8", Platform("linux", "arm64")),
        ("windows", "linux/arm/v6", Platform("windows", "arm", "v6")),
        ("linux", "linux/arm/v7", Platform("linux", "arm")),
        ("linux", "linux/arm/v8", Platform("linux", "arm", "v8")),
        ("macos", "windows/amd64", Platform("darwin", "amd64")),
        ("arm64", "windows/amd64", Platform("windows", "arm64")),
        ("armel", "linux/amd64", Platform("linux", "arm", "v6")),
        ("i386", "linux/amd64", Platform("linux", "386")),
        ("S390X", "freebsd/amd64", Platform("freebsd", "s390x")),
        ("windows()", "linux/amd64", Platform("windows", "amd64")),
        ("windows(10.0)", "linux/amd64", Platform("windows", "amd64", "", "10.0")),
    ],
)
def test_single_platform_word_is_completed_with_the_host(
    text: str, host: str, expected: Platform
) -> None:
    assert Platform.parse(text, host=Platform.parse(host)) == expected


def test_single_platform_word_without_a_host_is_machine_independent() -> None:
    assert Platform.parse("linux") == Platform("linux", "amd64")
    assert Platform.parse("arm64") == Platform("linux", "arm64")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "foo", "wasi", "linux/", "/amd64", "linux//", "linux//v8", "linux/amd64 ",
        " linux/amd64", "linux/amd64\n", "linux/amd64/", "linux/arm/v7/x", "linux/arm/v7/",
        "linux/*", "*", "li.nux/amd64", "linux/am+d64", "linux(/amd64", "linux)/amd64",
        "linux(+)/amd64", "linux(a++b)/amd64", "linux(1)(2)/amd64", "amd64(10.0)", "amd64:10.0",
        "linux:amd64", "linux/amd64:", "linux/amd64:1:2", "linux(1)/amd64:2", "linux/amd64:a/b",
        ":10.0", "linux/amd64,linux/arm64", "linux/amd64,osver=", "linux/amd64,osver=1,osver=2",
        "linux/amd64,other=1", "windows(%)/amd64", "windows(%2)/amd64", "windows(%zz)/amd64",
        "windows(%ff)/amd64", "windows(+%c3%28)/amd64", "windows/amd64:%", "linux/\uff41md64",
        "línux/amd64", "linux/amd64/v\u0663", "linux\x00/amd64", "i686", "x86", "armv7l",
        "loongarch64", "amd64:14.1", "nonsense:14.1", "linux:arm64", "linux:x86_64",
        "linux/%61md64", "linu%78/amd64", "linux/amd64/v%33", "linux/a%2Eb", "linux/%ff",
        "linux/%2", "linux%/amd64",
        "linux/" + "a" * 2000,
    ],
)  # fmt: skip
def test_invalid_platform_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlatform):
        Platform.parse(text)


# Source: docs/platform-matching.md, "Version suffix"; names: Microsoft's image tags.
@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("windows/amd64:10.0.20348", "10.0.20348"),
        ("windows/amd64,osver=10.0.20348", "10.0.20348"),
        ("windows(10.0.20348)/amd64", "10.0.20348"),
        ("windows/amd64:ltsc2022", "10.0.20348"),
        ("windows/amd64:LTSC2022", "10.0.20348"),
        ("windows/amd64,osver=ltsc2019", "10.0.17763"),
        ("Windows/x86_64:win11-24h2", "10.0.26100"),
        ("windows/amd64:1903", "10.0.18362"),
        ("windows/amd64:20H2", "10.0.19042"),
        ("windows/amd64:23h2", "10.0.25398"),
        ("windows/amd64:ltsc2025", "10.0.26100"),
        ("windows/amd64:insider", "insider"),
        ("windows/amd64:a%2Fb", "a/b"),
        ("linux/amd64:ltsc2022", "ltsc2022"),
        ("windows(ltsc2022)/amd64", "ltsc2022"),
        ("windows:10.0.17763", "10.0.17763"),
        ("windows:ltsc2019", "10.0.17763"),
        ("windows,osver=10.0.17763", "10.0.17763"),
        ("freebsd:14.1", "14.1"),
        ("macOS:macOS%2014.4", "macOS 14.4"),
        ("darwin(macOS%2014.4)/arm64", "macOS 14.4"),
    ],
)
def test_os_version_is_parsed_in_every_notation(text: str, version: str) -> None:
    assert Platform.parse(text).os_version == version


def test_features_keep_their_order_and_case() -> None:
    parsed = Platform.parse("linux(+b+A+b+c%2Bd)/amd64")

    assert parsed.os_features == ("b", "A", "b", "c+d")
    assert parsed.normalized().os_features == ("A", "b", "c+d")


def test_platform_error_names_the_text_and_a_valid_form() -> None:
    with pytest.raises(InvalidPlatform, match="`linux/` is not a platform") as caught:
        Platform.parse("linux/")

    assert "linux/arm64" in caught.value.hints()[0]


@given(st.text(max_size=40) | st.text("linuxwdosarm64v8/:(+)%,=. 0123456789", max_size=40))
def test_any_text_is_parsed_as_a_platform_or_refused(text: str) -> None:
    try:
        parsed = Platform.parse(text)
    except InvalidPlatform:
        return

    assert parsed.os
    assert parsed.architecture


def test_os_with_a_version_gets_the_architecture_of_the_host() -> None:
    host = Platform("linux", "arm64", "v8")

    assert Platform.parse("windows:10.0.17763", host=host) == Platform(
        "windows", "arm64", "", "10.0.17763"
    )


# What JSON can hold: anything but halves of surrogate pairs.
index_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(
    "linuxwdosarmv678/:(+)%,=.* \n", max_size=12
)


@given(index_text, index_text, index_text, index_text, st.lists(index_text, max_size=3))
@example("windows", "amd64", "", "ltsc2022", [])
@example("windows", "amd64", "", "1903", [])
@example("darwin", "arm64", "", "macOS 14.4", [])
@example("all", "", "", "", [])
@example("linux", "arm", "7", "a+b", ["", "x/y", "x/y"])
def test_any_index_platform_is_printed_in_a_form_that_can_be_requested(
    system: str, architecture: str, variant: str, version: str, features: list[str]
) -> None:
    entry = Platform(system, architecture, variant, version, tuple(features))
    other = Platform("linux", "amd64", "", "other", ("other",))

    printed = str(entry)
    again = Platform.parse(printed)
    selection = select([other, entry], printed, exact=True)

    assert printed.isascii()
    assert printed.isprintable()
    assert " " not in printed
    assert selection.platform == entry
    assert selection.grade in {Grade.EXACT, Grade.NORMALISED}
    assert matches(again, entry, BUILTIN)
    assert str(again.normalized()) == str(entry.normalized())


@given(st.lists(platforms, min_size=1, max_size=6), st.integers(0, 5))
def test_each_printed_platform_selects_its_entry(entries: list[Platform], place: int) -> None:
    entry = entries[place % len(entries)]

    found = select(entries, str(entry), exact=True).platform

    assert found is not None
    if entry.normalized().os != "windows" or entry.os_version:
        assert str(_plain(found)) == str(_plain(entry))


def _plain(platform: Platform) -> Platform:
    """Remove the features that Windows ignores."""
    normal = platform.normalized()
    features = tuple(each for each in normal.os_features if each != "win32k")
    return replace(normal, os_features=features) if normal.os == "windows" else normal


names = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=8)
parts = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=8)
values = st.text(string.ascii_letters + string.digits + "_.-%+()/", min_size=1, max_size=8)


@given(names, parts, parts | st.just(""), values | st.just(""), st.lists(values, max_size=3))
def test_full_platform_form_is_read_back(
    system: str, architecture: str, variant: str, version: str, features: list[str]
) -> None:
    platform = Platform(system, architecture, variant, version, tuple(features))

    again = Platform.parse(platform.format_all())

    assert again.normalized() == platform.normalized()
