"""Comparing: pairs of builds, sizes to fetch, missing platforms, and thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.compare.builds import (
    MAX_BUILDS,
    Amount,
    base_of,
    builds_of,
    missing_of,
    wanted_of,
)
from resolver.core.compare.compare import (
    ChangeKind,
    Comparison,
    ImageComparison,
    Terms,
    Thresholds,
    compare_build_sets,
    compare_builds,
    judge,
    judge_images,
    pair_builds,
)
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.errors import BadDocument, LimitExceeded, PlatformNotOffered
from tests.kit.builds import build, gathered, layer, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.compare.builds import Build
    from resolver.core.compare.drift import Aspect

PLATFORMS = st.sampled_from(
    ["linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/arm", "windows/amd64:10.0.20348.1", ""]
)


def one_image(*builds: Build, expected: tuple[Platform, ...] = ()) -> Comparison:
    return compare_builds(gathered(*builds), builds, Terms(expected=expected))


def two_images(ours: Sequence[Build], theirs: Sequence[Build]) -> ImageComparison:
    return compare_build_sets((gathered(*ours), ours), (gathered(*theirs), theirs), Terms())


def names(
    pairs: Sequence[tuple[Build | None, Build | None]],
) -> list[tuple[str | None, str | None]]:
    return [(a.name if a else None, b.name if b else None) for a, b in pairs]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (["linux/arm64/v8"], ["linux/arm64"], [("linux/arm64/v8", "linux/arm64")]),
        (["linux/arm"], ["linux/arm/v7"], [("linux/arm", "linux/arm/v7")]),
        (["linux/arm/v6"], ["linux/arm/v7"], [(None, "linux/arm/v7"), ("linux/arm/v6", None)]),
        (
            ["windows/amd64:10.0.20348.1", "windows/amd64:10.0.26100.1"],
            ["windows/amd64:10.0.26100.9", "windows/amd64:10.0.20348.9"],
            [
                ("windows/amd64:10.0.26100.1", "windows/amd64:10.0.26100.9"),
                ("windows/amd64:10.0.20348.1", "windows/amd64:10.0.20348.9"),
            ],
        ),
        (
            ["windows/amd64:10.0.20348.1", "windows/amd64:10.0.20348.2"],
            ["windows/amd64:10.0.20348.9"],
            [
                (None, "windows/amd64:10.0.20348.9"),
                ("windows/amd64:10.0.20348.1", None),
                ("windows/amd64:10.0.20348.2", None),
            ],
        ),
        ([""], [""], [("no platform", "no platform")]),
        ([""], ["linux/amd64"], [(None, "linux/amd64"), ("no platform", None)]),
    ],
)
def test_builds_are_paired_by_normalised_platform(
    ours: list[str], theirs: list[str], expected: list[tuple[str | None, str | None]]
) -> None:
    assert names(pair_builds([*map(build, ours)], [*map(build, theirs)])) == expected


@given(st.lists(PLATFORMS, max_size=5), st.lists(PLATFORMS, max_size=5))
def test_every_build_is_in_one_pair(ours: list[str], theirs: list[str]) -> None:
    first, second = [*map(build, ours)], [*map(build, theirs)]

    pairs = pair_builds(first, second)

    assert [other for _, other in pairs if other is not None] == second
    assert sorted(id(one) for one, _ in pairs if one is not None) == sorted(map(id, first))
    assert all(one is not None or other is not None for one, other in pairs)


def test_two_builds_for_a_platform_get_separate_names() -> None:
    same = gathered(build("linux/amd64"), build("linux/amd64", salt="2"))

    assert [each.name for each in builds_of(same)] == ["linux/amd64", "linux/amd64 (2)"]


@pytest.mark.parametrize("count", [MAX_BUILDS, MAX_BUILDS + 1])
def test_number_of_builds_is_limited(count: int) -> None:
    many = gathered(*(build(salt=str(number)) for number in range(count)))

    if count > MAX_BUILDS:
        with pytest.raises(LimitExceeded, match="100 builds at once: 101") as caught:
            builds_of(many)
        assert caught.value.hints() == ("choose some with `-p PLATFORM`",)
    else:
        assert len(builds_of(many)) == MAX_BUILDS


def test_entry_without_its_config_is_not_a_build() -> None:
    from dataclasses import replace

    whole = gathered(build())
    torn = replace(whole, parts=(replace(whole.parts[0], config=None),))

    with pytest.raises(BadDocument):
        builds_of(torn)


def test_base_is_the_requested_then_amd64_then_the_first() -> None:
    builds = [build("windows/amd64:10.0.1.1"), build("linux/arm64"), build("linux/amd64")]

    assert base_of(builds, None, "app", BUILTIN) == 2
    assert base_of(builds[:2], None, "app", BUILTIN) == 0
    assert base_of(builds, Platform.parse("linux/arm64/v8"), "app", BUILTIN) == 1
    with pytest.raises(PlatformNotOffered):
        base_of(builds, Platform.parse("linux/s390x"), "app", BUILTIN)


def test_platform_without_a_version_matches_every_windows_build() -> None:
    builds = [*map(build, ("windows/amd64:10.0.1.1", "linux/amd64", "windows/amd64:10.0.2.1"))]

    kept = wanted_of(builds, [Platform.parse("windows/amd64")], BUILTIN)

    assert kept == (builds[0], builds[2])


def test_expected_platforms_match_strictly_in_any_spelling() -> None:
    offered = [Platform.parse("linux/arm64/v8"), Platform.parse("linux/arm/v6"), None]
    expected = [*map(Platform.parse, ("linux/arm64", "linux/arm/v7", "linux/arm/v7"))]

    assert missing_of(offered, expected, BUILTIN) == (Platform.parse("linux/arm/v7"),)


def test_update_size_is_what_the_other_image_adds() -> None:
    base, old, new = layer("base", 1_000), layer("old", 20), layer("new", 30)
    ours = build("linux/amd64", [base, old], user="old")
    theirs = build("linux/amd64", [base, new])
    added = build("linux/arm64", [base])

    found = two_images([ours], [theirs, added])

    config = [each.manifest.config.size for each in (theirs, added) if each.manifest.config]
    assert [(each.name, each.change) for each in found.changes] == [
        ("linux/amd64", ChangeKind.CHANGED),
        ("linux/arm64", ChangeKind.ADDED),
    ]
    assert found.changes[0].fetch == Amount(1, 30 + config[0] + 500)
    # Without arm64 content the base is fetched; with the whole first image it is not.
    assert found.changes[1].fetch == Amount(1, 1_000 + config[1] + 500)
    assert found.fetch == Amount(1, 30 + sum(config) + 2 * 500 + found.second_root.size)


def test_change_of_the_manifest_alone_is_reported_as_such() -> None:
    ours, theirs = build(layers=[layer("a", 1)]), build(layers=[layer("a", 1)], salt="again")

    change = two_images([ours], [theirs]).changes[0]

    assert change.change is ChangeKind.REWRITTEN
    assert change.fetch == Amount(0, 500)
    assert not change.drift
    assert not change.layers_differ


def test_build_in_another_index_is_unchanged() -> None:
    same, gone = build("linux/amd64"), build("linux/arm64")

    found = two_images([same, gone], [same])

    assert [(each.name, each.change) for each in found.changes] == [
        ("linux/amd64", ChangeKind.UNCHANGED),
        ("linux/arm64", ChangeKind.REMOVED),
    ]
    assert found.changes[0].fetch == Amount(0, 0)
    assert found.changes[1].layers_differ


def sized(size: int, platform: str = "linux/amd64", user: str = "") -> Build:
    return build(platform, [layer("l", size)], user=user)


@pytest.mark.parametrize(
    ("size", "limits", "larger", "message"),
    [
        (200, {"max_ratio": 2.0}, "", ""),
        (201, {"max_ratio": 2.0}, "arm64", "2.01 times the size, 2.00 allowed"),
        (49, {"max_ratio": 2.0}, "amd64", "2.04 times the size, 2.00 allowed"),
        (100_001, {"max_ratio": 1000.009}, "arm64", "1000.010 times the size, 1000.009 allowed"),
        (101, {"max_ratio": 1.009}, "arm64", "1.010 times the size, 1.009 allowed"),
        (0, {"max_ratio": 2.0}, "amd64", "any number of times the size, 2.00 allowed"),
        (150, {"max_delta": 50}, "", ""),
        (151, {"max_delta": 50}, "arm64", "51 B larger, 50 B allowed"),
        (151, {"max_ratio": 9.0, "max_delta": 50}, "arm64", "51 B larger, 50 B allowed"),
        (99, {"fail_on": frozenset({"size"})}, "amd64", "1 B larger"),
        (100, {"fail_on": frozenset({"size"})}, "", ""),
        (999, {}, "", ""),
    ],
)
def test_size_change_counts_in_both_directions(
    size: int, limits: dict[str, object], larger: str, message: str
) -> None:
    found = one_image(sized(100), sized(size, "linux/arm64"))

    reasons = judge(found, Thresholds(**limits))  # type: ignore[arg-type]  # fields of thresholds

    smaller = "amd64" if larger == "arm64" else "arm64"
    expected = f"`linux/{larger}` against `linux/{smaller}`: {message}"
    assert [reason.message for reason in reasons] == ([expected] if message else [])


@pytest.mark.parametrize(
    ("size", "limits", "count"),
    [
        (201, {"max_ratio": 2.0}, 1),
        (200, {"max_ratio": 2.0}, 0),
        (1, {"max_ratio": 2.0}, 0),
        (151, {"max_delta": 50}, 1),
        (1, {"max_delta": 50}, 0),
        (99, {"fail_on": frozenset({"size"})}, 1),
        (101, {"fail_on": frozenset({"size"})}, 1),
        (100, {"fail_on": frozenset({"size"})}, 0),
    ],
)
def test_compare_threshold_of_two_images_counts_growth_only(
    size: int, limits: dict[str, object], count: int
) -> None:
    found = two_images([sized(100)], [sized(size, user="x")])

    assert len(judge_images(found, Thresholds(**limits))) == count  # type: ignore[arg-type]  # as above


def test_one_image_passes_without_limits() -> None:
    one = build("linux/amd64", [layer("a", 1)], history=[step("ADD a")], user="root")
    other = build("linux/arm64", [layer("b", 9), layer("c", 9)], history=[step("ADD b"), step("X")])
    found = one_image(one, other, expected=(Platform.parse("linux/s390x"),))

    aspects: tuple[Aspect, ...] = ("size", "layers", "config", "history", "platforms")
    asked = {
        aspect: [r.aspect for r in judge(found, Thresholds(frozenset({aspect})))]
        for aspect in aspects
    }

    # A missing expected platform always counts.
    assert [reason.message for reason in judge(found, Thresholds())] == [
        "`example.com/app:1` is not offered for `linux/s390x`"
    ]
    assert asked == {
        "size": ["platforms", "size"],
        "layers": ["platforms", "layers"],
        "config": ["platforms", "config"],
        "history": ["platforms", "history"],
        "platforms": ["platforms"],
    }


def test_two_images_differ_unless_aspects_are_selected() -> None:
    ours = [build("linux/amd64", [layer("a", 5)], history=[step("A")]), build("linux/arm64")]
    theirs = [build("linux/amd64", [layer("b", 5)], history=[step("B")], user="me")]
    found = two_images(ours, theirs)

    def reasons(*fail_on: str) -> list[str]:
        return [r.message for r in judge_images(found, Thresholds(frozenset(fail_on)))]  # type: ignore[arg-type]  # aspects

    assert reasons() == ["`example.com/app:1` and `example.com/app:1` differ: 1 changed, 1 removed"]
    assert reasons("size") == []
    assert reasons("platforms") == ["`linux/arm64` was removed"]
    assert reasons("layers") == ["`linux/amd64` has different layers"]
    assert reasons("config") == ["`linux/amd64` differs in `user`"]
    assert reasons("history") == ["`linux/amd64` has a different history"]


def test_number_of_named_drifts_is_limited() -> None:
    one = build("linux/amd64", env=tuple(f"A{n}=1" for n in range(7)))
    found = one_image(one, build("linux/arm64"))

    message = judge(found, Thresholds(frozenset({"config"})))[0].message

    assert message.endswith("`env.A3`, `env.A4` and 2 more")


def test_indexes_with_equal_builds_still_differ() -> None:
    from dataclasses import replace

    same = build()
    found = replace(two_images([same], [same]), second_root=build(salt="root").descriptor)

    both = "`example.com/app:1` and `example.com/app:1`"
    assert [reason.message for reason in judge_images(found, Thresholds())] == [
        f"{both} differ: every platform is the same, in another index"
    ]


def test_equal_roots_are_equal_for_every_aspect() -> None:
    found = two_images([build()], [build()])

    assert found.is_same
    assert judge_images(found, Thresholds(frozenset({"size", "layers"}))) == ()


def test_image_without_layers_has_no_ratio() -> None:
    found = one_image(build("linux/amd64"), sized(5, "linux/arm64"))

    assert found.ratio(1) is None
    assert found.delta(1) == 5
