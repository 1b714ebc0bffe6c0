"""Windows builds: which image runs on which host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.platforms import windows
from resolver.core.platforms.fact_types import WindowsFacts
from resolver.core.platforms.platform import BUILTIN, Grade, Platform
from resolver.core.platforms.select import select


def runs(host: str, image: str) -> bool:
    return not windows.mismatch(host, image, BUILTIN.windows)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("10.0.20348", (10, 0, 20348)),
        ("10.0.20348.887", (10, 0, 20348)),
        ("10.0.20348.x.y", (10, 0, 20348)),
        ("10.0.20348.", (10, 0, 20348)),
        ("010.00.020348", (10, 0, 20348)),
        ("255.255.65535", (255, 255, 65535)),
        ("10.0.65536", None),
        ("256.0.1", None),
        ("10.0", None),
        ("10", None),
        ("", None),
        ("garbage", None),
        ("10.0.", None),
        ("..", None),
        ("10.0.+1", None),
        ("10.0.1_0", None),
        ("10.0.٣", None),
        (" 10.0.1", None),
        ("0.0.0", None),
        ("10.0." + "9" * 10_000, None),
        ("10.0." + "0" * 10_000 + "1", (10, 0, 1)),
    ],
)
def test_windows_version_is_parsed_or_none(text: str, version: tuple[int, int, int] | None) -> None:
    assert windows.read_version(text) == version


# Source: docs/platform-matching.md, "Windows build rule"; containerd
# platform_windows_compat_test.go.
BUILDS = [14393, 17763, 18362, 19041, 19045, 20347, 20348, 22000, 22621, 22631, 25398, 26099]
BUILDS += [26100, 26101, 26200, 30000]


@pytest.mark.parametrize("host", BUILDS)
@pytest.mark.parametrize("image", BUILDS)
def test_windows_host_runs_the_documented_builds(host: int, image: int) -> None:
    expected = host == image if host < 20348 else 20348 <= image <= host

    assert runs(f"10.0.{host}", f"10.0.{image}.7") == expected


@pytest.mark.parametrize(
    ("host", "image", "fits"),
    [
        ("", "6.1.7601", True),
        ("garbage", "6.1.7601", True),
        ("0.0.0", "6.1.7601", True),
        ("10.0.20348", "", True),
        ("10.0.20348", "garbage", False),
        ("10.0.20348", "0.0.0", False),
        ("10.1.20348", "10.0.20348", False),
        ("10.0.20348.1", "10.0.20348.999", True),
    ],
)
def test_incomparable_windows_versions_follow_the_rule(
    host: str, image: str, *, fits: bool
) -> None:
    assert runs(host, image) == fits


def test_windows_floor_is_the_release_before_the_newest_reached() -> None:
    facts = WindowsFacts("10.0", 20348, (20348, 26100, 30000))

    builds = (17763, 20348, 26099, 26100, 29999, 30000, 31000)
    floors = [windows.floor(build, facts) for build in builds]

    assert floors == [17763, 20348, 20348, 20348, 20348, 26100, 26100]


@given(st.lists(st.integers(0, 10**30).map(str), min_size=1, max_size=4).map(".".join))
def test_windows_versions_sort_numerically(text: str) -> None:
    parts = [int(part) for part in text.split(".")]
    larger = ".".join(str(part) for part in [*parts[:-1], parts[-1] + 1])

    assert windows.order(text) < windows.order(larger)
    assert windows.order("") < windows.order(text) < windows.order(text + ".0")


def entries(*versions: str) -> list[Platform]:
    return [Platform("windows", "amd64", "", version) for version in versions]


# Source: docs/platform-matching.md, "Newest Windows build".
@pytest.mark.parametrize(
    ("want", "offered", "order"),
    [
        ("10.0.26100.2894", ["10.0.20348.3091", "10.0.26100.3000", "10.0.26100.2894"], (2, 1, 0)),
        ("10.0.20348", ["10.0.20348.99", "10.0.20348.887", ""], (1, 0, 2)),
        ("10.0.26200", ["10.0.25398.788", "10.0.25398.9272", "10.0.22000"], (1, 0, 2)),
        ("10.0.26100", ["10.0.26100.1006", "10.0.26100"], (1, 0)),
        ("", ["10.0.17763", "10.0.26100", ""], (0, 1, 2)),
        ("garbage", ["10.0.17763", "10.0.26100"], (0, 1)),
        ("10.0.20348", ["10.0.20348.x", "10.0.20348.1"], (1, 0)),
        ("10.0.20348", ["10.0.20348.5", "10.0.20348.5"], (0, 1)),
    ],
)
def test_exact_windows_version_comes_first_then_the_newest(
    want: str, offered: list[str], order: tuple[int, ...]
) -> None:
    wanted = Platform("windows", "amd64", "", want)

    assert select(entries(*offered), wanted).ranking == order


def test_windows_features_decide_between_equal_versions_only() -> None:
    want = Platform("windows", "amd64", "", "10.0.20348", ("gpu",))
    old = Platform("windows", "amd64", "", "10.0.20348.1", ("gpu",))
    new = Platform("windows", "amd64", "", "10.0.20348.2")
    rich = Platform("windows", "amd64", "", "10.0.20348.2", ("gpu", "win32k"))

    assert select([old, new, rich], want).ranking == (2, 1, 0)


def test_win32k_requirement_excludes_nothing_on_windows() -> None:
    want = Platform("windows", "amd64", "", "10.0.20348")
    windows_image = Platform("windows", "amd64", "", "10.0.20348", ("win32k",))
    linux_image = Platform("linux", "amd64", "", "", ("win32k",))

    assert select([windows_image], want).index == 0
    assert select([linux_image], Platform("linux", "amd64")).index is None


@pytest.mark.parametrize(
    ("want", "offered", "grade"),
    [
        ("10.0.20348", "10.0.20348", Grade.EXACT),
        ("", "10.0.20348", Grade.EXACT),
        ("10.0.20348.1", "10.0.20348.2", Grade.NORMALISED),
        ("10.0.20348", "10.0.20348.2", Grade.NORMALISED),
        ("10.0.20348", "", Grade.COMPATIBLE),
        ("garbage", "10.0.20348", Grade.FALLBACK),
        ("garbage", "garbage", Grade.EXACT),
        ("10.0.26100", "10.0.20348.2", Grade.ABI),
    ],
)
def test_grade_distinguishes_windows_revision_and_build(
    want: str, offered: str, grade: Grade
) -> None:
    wanted = Platform("windows", "amd64", "", want)

    assert select(entries(offered), wanted).grade is grade


@pytest.mark.parametrize(
    ("want", "offered", "reason"),
    [
        ("20348", "10.0.26100", "Windows build 26100 is newer than the host's 20348"),
        (
            "26100",
            "10.0.17763.1",
            "Windows build 17763 is older than what a 26100 host runs (20348 or newer)",
        ),
        (
            "17763",
            "10.0.14393",
            "Windows build 14393 is older than the host's 17763, which runs only its own",
        ),
        ("20348", "6.3.9600", "Windows version 6.3.9600 is not the host's 10.0.20348"),
        ("20348", "nano", "Windows version `nano` cannot be compared with 10.0.20348"),
    ],
)
def test_incompatible_windows_build_has_a_reason(want: str, offered: str, reason: str) -> None:
    wanted = Platform("windows", "amd64", "", f"10.0.{want}")

    (rejected,) = select(entries(offered), wanted).rejected

    assert rejected.reason == reason
