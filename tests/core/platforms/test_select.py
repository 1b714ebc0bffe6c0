"""Selecting an entry: vectors, grades, reasons and properties."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.platforms.platform import BUILTIN, Grade, Platform
from resolver.core.platforms.select import Rejection, nearest, select
from resolver.files.platforms import default_platforms
from tests.kit.platforms import Case, cases, host_of, name, platform_of, platforms

parse = Platform.parse


def listed(*texts: str | None) -> list[Platform | None]:
    return [None if text is None else written(text) for text in texts]


def written(text: str) -> Platform:
    """Return an index entry without the corrections of `parse`."""
    rest, _, version = text.partition(":")
    system, architecture, variant = (*rest.split("/"), "", "")[:3]
    return Platform(system, architecture, variant, version)


@pytest.mark.parametrize("case", cases("select"), ids=name)
def test_vector_selects_its_entry(case: Case) -> None:
    asked = case["input"]
    want: Platform | tuple[Platform, ...]
    if asked["want"] == "local":
        want = default_platforms(host_of(case))
    elif isinstance(asked["want"], str):
        want = parse(asked["want"], host=host_of(case))
    else:
        want = platform_of(asked["want"])
    entries = [None if fields is None else platform_of(fields) for fields in asked["candidates"]]

    assert select(entries, want, exact=asked["strict"]).index == case["expect"]["index"]


# Requested, offered, strict index, index, reason. Source: docs/platform-matching.md, "Ranking".
@pytest.mark.parametrize(
    ("want", "offered", "strict", "index"),
    [
        # sloppy indexes exist
        ("linux/arm64", ["Linux/AARCH64"], 0, 0),
        ("linux/arm", ["linux/armhf"], 0, 0),
        # 386 last, and never when exact
        ("linux/amd64", ["linux/386", "linux/amd64"], 1, 1),
        ("linux/amd64", ["linux/386"], None, 0),
        ("linux/arm64", ["linux/arm/v7"], None, 0),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], None, 1),
        ("linux/amd64", ["linux/amd64/v3"], None, None),
        ("linux/arm64", ["linux/arm64/v9", "linux/arm64/v8"], 1, 1),
        ("linux/arm64", ["linux/arm64/v8.2"], None, None),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v8"], 1, 1),
        # no variant is v7, on an index entry
        ("linux/arm/v6", ["linux/arm"], None, None),
        ("linux/riscv64", ["linux/riscv64/rva20u64"], None, 0),
        ("linux/riscv64", ["linux/riscv64/rva22u64"], None, None),
        ("linux/riscv64/rva22u64", ["linux/riscv64", "linux/riscv64/rva20u64"], None, 1),
        # the version counts everywhere, and excludes nothing without `exact`
        ("linux/amd64:5.10", ["linux/amd64:6.1"], None, 0),
        ("linux/amd64:5.10", ["linux/amd64:6.1", "linux/amd64"], None, 1),
        ("linux/amd64:5.10", ["linux/amd64:6.1", "linux/amd64", "linux/amd64:5.10"], 2, 2),
        ("linux/amd64/v2:5.10", ["linux/amd64:5.10", "linux/amd64/v2:6.1"], None, 1),
        ("freebsd/amd64", ["freebsd/amd64:15.0", "freebsd/amd64"], 1, 1),
        ("windows/amd64", ["windows/amd64:10.0.20348", "windows/amd64"], 0, 0),
        ("windows/amd64:10.0.17763", ["windows/amd64:10.0.20348"], None, None),
        # no fallback between systems when one was requested
        ("darwin/arm64", ["linux/arm64"], None, None),
        ("unknown/unknown", ["linux/amd64", "unknown/unknown"], 1, 1),
        ("linux/amd64", ["unknown/unknown"], None, None),
        ("linux/amd64", [None], None, None),
        ("linux/amd64", [], None, None),
        # an entry without an os means linux: docs/platform-matching.md, "Default operating system"
        ("linux/amd64", ["/amd64"], 0, 0),
        # first of equals
        ("linux/arm64", ["linux/arm64/v8", "linux/arm64"], 0, 0),
    ],
)
def test_selection_with_and_without_exact_follows_the_vectors(
    want: str, offered: list[str | None], strict: int | None, index: int | None
) -> None:
    entries = listed(*offered)

    assert select(entries, parse(want), exact=True).index == strict
    assert select(entries, parse(want)).index == index


@pytest.mark.parametrize(
    ("want", "offered", "grade"),
    [
        ("linux/amd64", "linux/amd64", Grade.EXACT),
        ("linux/arm/v7", "linux/arm/v7", Grade.EXACT),
        ("linux/arm64", "linux/arm64/v8", Grade.NORMALISED),
        ("linux/arm64/v8", "linux/arm64", Grade.NORMALISED),
        ("linux/arm", "linux/arm/v7", Grade.NORMALISED),
        ("linux/amd64", "linux/x86_64", Grade.NORMALISED),
        ("linux/amd64", "Linux/amd64", Grade.NORMALISED),
        ("linux/arm/v7", "linux/arm/v6", Grade.FALLBACK),
        ("linux/amd64/v3", "linux/amd64", Grade.FALLBACK),
        ("linux/riscv64", "linux/riscv64/rva20u64", Grade.FALLBACK),
        ("linux/amd64", "linux/386", Grade.ABI),
        ("linux/arm64", "linux/arm/v8", Grade.ABI),
    ],
)
def test_grade_measures_the_distance_of_the_answer(want: str, offered: str, grade: Grade) -> None:
    selection = select(listed(offered), parse(want))

    assert selection.grade is grade
    assert selection.grades == (grade,)
    assert selection.platform == written(offered)


@pytest.mark.parametrize(
    ("want", "offered", "reason"),
    [
        ("linux/amd64", "windows/amd64", "other operating system"),
        ("linux/amd64", "linux/s390x", "other architecture"),
        ("linux/386", "linux/amd64", "other architecture"),
        ("linux/arm/v7", "linux/arm64", "other architecture"),
        ("linux/arm64", "linux/arm64/v9", "needs arm64/v9, newer than the requested v8"),
        ("linux/amd64", "linux/amd64/v3", "needs amd64/v3, newer than the requested v1"),
        ("linux/arm/v6", "linux/arm", "needs arm/v7, newer than the requested v6"),
        ("linux/arm64", "linux/arm/v9", "needs arm/v9, newer than the arm/v8 arm64/v8 runs"),
        ("linux/arm/v7", "linux/arm/v4", "arm/v4 is older than what arm/v7 runs"),
        ("linux/arm64/v9", "linux/arm64/v8.6", "arm64/v9 is not known to run arm64/v8.6"),
        ("linux/amd64", "linux/amd64/foo", "amd64/v1 is not known to run amd64/foo"),
        ("linux/s390x", "linux/s390x/z15", "s390x is not known to run s390x/z15"),
        (
            "linux/riscv64",
            "linux/riscv64/rva22u64",
            "needs riscv64/rva22u64, newer than the requested riscv64",
        ),
        (
            "linux/amd64",
            "unknown/unknown",
            "names no platform (`unknown`), as attestations do",
        ),
        ("linux/amd64", None, "has no platform"),
    ],
)
def test_rejected_entry_has_a_reason(want: str, offered: str | None, reason: str) -> None:
    (rejected,) = select(listed(offered), parse(want)).rejected

    assert rejected == Rejection(0, listed(offered)[0], reason)


@pytest.mark.parametrize(
    ("want", "offered", "reason"),
    [
        ("linux/arm/v7", "linux/arm/v6", "arm/v6 can stand in for arm/v7, but is not exact"),
        ("linux/amd64", "linux/386", "386 can stand in for amd64/v1, but is not exact"),
        ("linux/arm64", "linux/arm/v9", "other architecture"),
        ("linux/arm64", "linux/arm64/v9", "needs arm64/v9, newer than the requested v8"),
    ],
)
def test_exact_request_names_the_platform_it_refused(want: str, offered: str, reason: str) -> None:
    (rejected,) = select(listed(offered), parse(want), exact=True).rejected

    assert rejected.reason == reason


def test_worse_entries_name_the_winner_by_position() -> None:
    entries = listed("linux/amd64", "linux/arm64", "linux/arm64", "linux/arm/v7")

    selection = select(entries, parse("linux/arm64"))

    assert selection.index == 1
    assert selection.ranking == (1, 2, 3)
    assert [(loser.index, loser.reason) for loser in selection.rejected] == [
        (0, "other architecture"),
        (2, "the same platform as #2, which comes first"),
        (3, "a better entry (#2) was chosen"),
    ]


def features(*names: str) -> Platform:
    return Platform("linux", "amd64", "", "", names)


def test_required_features_must_be_requested_and_more_matches_win() -> None:
    entries = [features(), features("gpu"), features("gpu", "tpu"), features("npu")]

    selection = select(entries, features("tpu", "gpu"))

    assert selection.ranking == (2, 1, 0)
    assert selection.rejected[-1].reason == "needs os feature npu"
    assert select(entries[1:], features()).index is None
    lost = select([features("b", "a", "c")], features("c")).rejected
    assert lost[0].reason == "needs os features a, b"


def test_several_requests_are_tried_in_order_without_fallbacks() -> None:
    wishes = [parse("darwin/arm64"), parse("linux/arm64")]

    assert select(listed("linux/arm64", "darwin/arm64"), wishes).index == 1
    assert select(listed("linux/arm/v7", "linux/arm64/v8"), wishes).index == 1
    assert select(listed("linux/arm/v7"), wishes).index is None
    assert select(listed("linux/arm/v7"), [parse("linux/arm64")]).index == 0
    assert select(listed("linux/arm/v7"), []).index is None


def test_reason_refers_to_the_nearest_of_several_requests() -> None:
    wishes = [parse("darwin/arm64"), parse("linux/arm64"), parse("windows/amd64:10.0.20348")]

    lost = select(listed("linux/arm64/v9", "windows/amd64:10.0.26100", "plan9/386"), wishes)

    assert [loser.reason for loser in lost.rejected] == [
        "needs arm64/v9, newer than the requested v8",
        "Windows build 26100 is newer than the host's 20348",
        "other operating system",
    ]


def test_related_platforms_are_listed_once_in_index_order() -> None:
    entries = listed(
        "linux/s390x", None, "linux/arm64/v9", "windows/arm64", "linux/arm64/V9", "linux/arm/v9"
    )

    assert nearest(entries, parse("linux/arm64")) == [
        (2, "needs arm64/v9, newer than the requested v8"),
        (5, "needs arm/v9, newer than the arm/v8 arm64/v8 runs"),
    ]


def test_same_architecture_of_another_os_is_listed_as_related() -> None:
    entries = listed("linux/s390x", "linux/arm64", "windows/arm64")

    assert nearest(entries, parse("darwin/arm64")) == [
        (1, "other operating system"),
        (2, "other operating system"),
    ]
    assert nearest(entries, parse("darwin/mips")) == []
    many = [Platform("windows", "amd64", "", f"10.0.{build}") for build in range(1, 100)]
    assert len(nearest(many, parse("windows/amd64:ltsc2022"))) == 5


def test_exact_request_lists_refused_entries_as_related() -> None:
    assert nearest(listed("linux/arm/v6"), parse("linux/arm/v7"), exact=True) == [
        (0, "arm/v6 can stand in for arm/v7, but is not exact")
    ]
    assert nearest(listed("linux/arm/v6"), parse("linux/arm/v7")) == []


def test_long_text_from_an_index_is_cut_in_reasons() -> None:
    entries = [
        Platform("linux", "amd64", "x" * 10_000),
        Platform("windows", "amd64", "", "y" * 10_000),
        Platform("linux", "amd64", "", "", ("z" * 10_000,)),
    ]

    lost = select(entries, [parse("linux/amd64"), parse("windows/amd64:ltsc2022")]).rejected

    assert max(len(loser.reason) for loser in lost) < 300


WIDE = 20_000


@pytest.mark.parametrize(
    ("want", "entries"),
    [
        ("linux/arm64", [Platform("linux", "arm64", "v8")] * WIDE),
        ("linux/amd64/v99", [Platform("linux", "amd64", f"v0{n}") for n in range(WIDE)]),
        ("linux/riscv64", [Platform("linux", "riscv64", f"x{n}") for n in range(WIDE)]),
        ("linux/arm64/v9.7", [Platform("linux", "arm64", f"x{n}") for n in range(WIDE)]),
        ("linux/amd64/v99", [Platform("linux", f"x{n}") for n in range(WIDE)]),
        (
            "windows/amd64:ltsc2025",
            [Platform("windows", "amd64", "", f"10.0.20348.{n}") for n in range(WIDE)],
        ),
        ("linux/amd64/v" + "9" * 500, [Platform("linux", "amd64")]),
        ("linux/arm64/v" + "9" * 500, [Platform("linux", "arm64")]),
    ],
    ids=["same", "amd64", "riscv64", "arm64", "architectures", "windows", "huge", "huge-arm64"],
)
def test_largest_index_is_searched_quickly(want: str, entries: list[Platform]) -> None:
    begun = time.process_time()

    selection = select(entries, parse(want))
    nearest(entries, parse(want))

    # Some 0.3 s each; what is quadratic takes minutes.
    assert time.process_time() - begun < 4
    assert len(selection.rejected) == len(entries) - (selection.index is not None)


some = st.lists(st.none() | platforms, max_size=8)


@given(some, platforms, st.booleans())
def test_selected_entry_is_acceptable_and_every_other_has_a_reason(
    entries: list[Platform | None],
    want: Platform,
    exact: bool,
) -> None:
    selection = select(entries, want, exact=exact)

    losers = {loser.index for loser in selection.rejected}
    assert losers == set(range(len(entries))) - {selection.index}
    assert all(loser.reason for loser in selection.rejected)
    assert [loser.platform for loser in selection.rejected] == [entries[i] for i in sorted(losers)]
    assert selection.ranking[:1] == (() if selection.index is None else (selection.index,))
    acceptable = [
        (p.os, p.architecture or "unknown", p.variant)
        for p, _ in BUILTIN.acceptable(want)[: 1 if exact else 99]
    ]
    for index in selection.ranking:
        chosen = entries[index]
        assert chosen is not None
        normal = chosen.normalized()
        assert (normal.os, normal.architecture or "unknown", normal.variant) in acceptable


@given(st.data(), st.lists(platforms, max_size=8), platforms)
def test_index_order_matters_only_between_equal_entries(
    data: st.DataObject, entries: list[Platform], want: Platform
) -> None:
    other = data.draw(st.permutations(entries))
    acceptable = [p for p, _ in BUILTIN.acceptable(want)]

    def key(chosen: Platform | None) -> object:
        if chosen is None:
            return None
        normal = chosen.normalized()
        chip = (normal.architecture or "unknown", normal.variant)
        rank = [(p.architecture or "unknown", p.variant) for p in acceptable].index(chip)
        return rank, len(set(chosen.os_features) - {""})

    one, two = select(entries, want), select(other, want)

    assert sorted(one.grades, key=str) == sorted(two.grades, key=str)
    if not want.os_version:
        assert key(one.platform) == key(two.platform)


@pytest.mark.parametrize(
    ("want", "offered", "grade"),
    [
        ("freebsd/amd64:15.0", "freebsd/amd64:15.0", Grade.EXACT),
        ("freebsd/amd64:15.0", "freebsd/amd64", Grade.COMPATIBLE),
        ("freebsd/amd64:15.0", "freebsd/amd64:14.1", Grade.FALLBACK),
        ("freebsd/amd64", "freebsd/amd64:14.1", Grade.EXACT),
        ("freebsd/x86_64:15.0", "freebsd/amd64", Grade.COMPATIBLE),
        ("linux/amd64/v2:5.10", "linux/amd64", Grade.FALLBACK),
        ("linux/arm64:5.10", "linux/arm/v7", Grade.ABI),
    ],
)
def test_grade_states_whether_the_requested_version_matched(
    want: str, offered: str, grade: Grade
) -> None:
    assert select(listed(offered), want).grade is grade


def test_exact_version_error_names_the_existing_version() -> None:
    refused = select(
        listed("freebsd/amd64:14.1", "freebsd/amd64"), "freebsd/amd64:15.0", exact=True
    )

    assert [loser.reason for loser in refused.rejected] == [
        "version 14.1 is not the requested 15.0",
        "has no version, and 15.0 is requested",
    ]


@given(st.lists(platforms, max_size=6), platforms, platforms, st.integers(0, 6))
def test_unrelated_entry_does_not_change_the_result(
    entries: list[Platform], stranger: Platform, want: Platform, place: int
) -> None:
    if select([stranger], want).index is not None:
        return
    wider = [*entries[:place], stranger, *entries[place:]]

    one, two = select(entries, want), select(wider, want)

    assert (one.platform, one.grade) == (two.platform, two.grade)


@given(some, platforms)
def test_exact_match_is_also_a_compatible_match(
    entries: list[Platform | None], want: Platform
) -> None:
    strict, lenient = select(entries, want, exact=True), select(entries, want)

    assert set(strict.ranking) <= set(lenient.ranking)
    assert lenient.ranking[: len(strict.ranking)] == strict.ranking


@given(some, platforms)
def test_related_platforms_do_not_match(entries: list[Platform | None], want: Platform) -> None:
    fitting = set(select(entries, want).ranking)

    for index, reason in nearest(entries, want):
        assert index not in fitting
        assert reason
