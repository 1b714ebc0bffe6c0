"""The order of tags, and version ranges."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.registry.tags import age_of, chooser, in_range, newest_first
from resolver.errors import Usage
from tests import DATA

ORDERED = [
    "24.04",
    "3.0.0-beta.10",
    "3.0.0-beta.2",
    "3.0.0-alpha1",
    "2.0.0",
    "v2",
    "1.27.3",
    "1.27.3-alpine",
    "1.27.3-rc1",
    "1.27",
    "1.27-perl",
    "1.9",
    "1",
    "jammy-20240627.1",
    "jammy-20240627",
    "20240601",
    "2024-05-01",
    "jammy",
    "latest",
    "sha256-abc",
]
#: Tags that public repositories have, and where each family is known from.
FAMILIES = json.loads((DATA / "tag_families.json").read_bytes())
tags = st.one_of(
    st.sampled_from(ORDERED),
    st.sampled_from([tag for each in FAMILIES["ordered"] for tag in each["oldestFirst"]]),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}", fullmatch=True),
    st.from_regex(r"v?[0-9]{1,3}(\.[0-9]{1,3}){0,4}(-(rc|alpha|alpine)[0-9]?)?", fullmatch=True),
)


def test_tags_sort_versions_before_dates_before_names() -> None:
    mixed = random.Random(7).sample(ORDERED, len(ORDERED))

    assert newest_first(mixed) == ORDERED


@given(st.lists(tags, max_size=20, unique=True), st.randoms(use_true_random=False))
def test_tag_order_does_not_depend_on_the_registry(some: list[str], luck: random.Random) -> None:
    shuffled = list(some)
    luck.shuffle(shuffled)

    assert newest_first(some) == newest_first(shuffled)
    assert sorted(newest_first(some)) == sorted(some)


@pytest.mark.parametrize(
    ("tag", "kind", "numbers"),
    [
        ("1.27.0", 2, (1, 27)),
        ("v1.27", 2, (1, 27)),
        ("10.0.20348.2700", 2, (10, 0, 20348, 2700)),
        ("20240501", 1, (2024, 5, 1)),
        ("2024-05-01-slim", 1, (2024, 5, 1)),
        # With full stops it is a version: 2024.12.9 and 2024.12.10 are of one kind.
        ("2024.05.01-slim", 2, (2024, 5, 1)),
        ("1.2.3-20240501", 2, (1, 2, 3)),
        ("RELEASE.2024-05-01T01-11-18Z.fips", 1, (2024, 5, 1, 1, 11, 18)),
        ("version-1.2.3-ls8", 2, (1, 2, 3)),
        ("app-1.2.3-20240501", 0, (1, 2, 3)),
        ("arm64v8-1.2.3-ls8", 0, (1, 2, 3)),
        ("7f3c2d1", 0, ()),
        ("sha-1234567", 0, ()),
        ("20241301", 2, (20241301,)),
        ("1." * 60 + "1", 0, ()),
        ("9" * 120, 0, ()),
        ("edge", 0, ()),
        ("_x", 0, ()),
    ],
)
def test_tag_age_is_parsed(tag: str, kind: int, numbers: tuple[int, ...]) -> None:
    age = age_of(tag)

    assert (age.kind, age.numbers) == (kind, numbers)


@given(st.text(max_size=128))
def test_tag_age_of_any_text(text: str) -> None:
    assert age_of(text).kind in {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        (">=1.25", ["1.25", "v1.25.1", "1.27.3", "2"], ["1.24.9", "1.27-alpine", "latest"]),
        (
            ">=1.25",
            ["1.25-r3", "1.25_1", "1.26.1-debian-12-r5"],
            ["1.24-r9", "app-1.26", "20240501"],
        ),
        (">=1.2.0-rc2", ["1.2.0-rc2", "1.2.0-rc.10", "1.2.0"], ["1.2.0-rc1", "1.3.0-rc9"]),
        ("^1.2", ["1.2", "1.9.9"], ["2.0", "1.1", "1.3.0-rc1"]),
        ("~1.2", ["1.2.9"], ["1.3"]),
        ("1.x", ["1", "1.99"], ["2", "0.9"]),
        (">=1 <2 || 3", ["1.5", "3.0.0"], ["2", "4"]),
        ("1.2 - 1.4", ["1.4.7"], ["1.5"]),
    ],
)
def test_tag_version_ranges(text: str, yes: list[str], no: list[str]) -> None:
    matches = in_range(text)

    assert [tag for tag in [*yes, *no] if matches(tag)] == yes


@pytest.mark.parametrize("text", ["new", ">=", "1..2", "<>1", "x" * 257])
def test_invalid_tag_range_is_refused(text: str) -> None:
    with pytest.raises(Usage, match=r"range|256"):
        in_range(text)


@pytest.mark.parametrize("family", FAMILIES["ordered"], ids=lambda each: each["family"])
def test_newest_tag_of_a_family_comes_first(family: dict[str, list[str]]) -> None:
    mixed = random.Random(11).sample(family["oldestFirst"], len(family["oldestFirst"]))

    assert newest_first(mixed) == family["oldestFirst"][::-1]
    assert family["source"]


@pytest.mark.parametrize(
    "family",
    [each for each in FAMILIES["ordered"] if "range" in each],
    ids=lambda each: each["family"],
)
def test_tag_range_includes_builds_of_its_versions(family: dict[str, list[str]]) -> None:
    matches = in_range(str(family["range"]))

    assert [tag for tag in family["oldestFirst"] if matches(tag)] == family["within"]


@pytest.mark.parametrize("family", FAMILIES["unordered"], ids=lambda each: each["family"])
def test_tags_without_an_age_sort_alphabetically(family: dict[str, list[str]]) -> None:
    assert newest_first(family["tags"][::-1]) == sorted(family["tags"])
    assert not any(age_of(tag).numbers for tag in family["tags"])


@given(tags, tags, tags)
def test_tag_order_is_total(one: str, two: str, three: str) -> None:
    def before(left: str, right: str) -> bool:
        return newest_first([right, left])[0] == left

    assert before(one, two) != before(two, one) or one == two
    if before(one, two) and before(two, three):
        assert before(one, three)


@given(st.lists(tags, max_size=12, unique=True))
def test_tag_pairs_are_ordered_as_the_whole_list(some: list[str]) -> None:
    for left, right in pairwise(newest_first(some)):
        assert newest_first([right, left]) == [left, right]


@given(st.text(alphabet="0123456789abcrgT.-_", max_size=128))
def test_tag_numbers_of_any_length_are_parsed_quickly(tag: str) -> None:
    assert newest_first([tag, "1"])


_MIXED = [
    "1.2.3", "1.2.3-alpine", "1.2.3-alpine3.19", "1.2.3-alpine-r2", "1.2.3-perl-alpine",
    "app-1.2.3", "app-1.2.3-alpine", "1.0.0-debian-12-r4", "stable-alpine", "alpine",
    "1.3.0-rc1-alpine", "0.9-alpine",
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (
            {"suffix": "-alpine"},
            ["1.2.3-alpine", "1.2.3-alpine-r2", "1.2.3-perl-alpine", "app-1.2.3-alpine",
             "stable-alpine", "1.3.0-rc1-alpine", "0.9-alpine"],
        ),
        ({"suffix": "-alpine", "semver": ">=1"}, ["1.2.3-alpine", "1.2.3-alpine-r2"]),
        (
            {"suffix": "-alpine*", "semver": ">=1"},
            ["1.2.3-alpine", "1.2.3-alpine3.19", "1.2.3-alpine-r2"],
        ),
        ({"suffix": "-debian-12", "semver": ">=1"}, ["1.0.0-debian-12-r4"]),
        ({"suffix": "-debian-12-r4"}, ["1.0.0-debian-12-r4"]),
        ({"include": ["1.2*"], "semver": ">=1"}, ["1.2.3", "1.2.3-alpine-r2"]),
        ({"include": ["*-alpine"], "semver": ">=1"}, ["1.2.3-alpine", "1.2.3-perl-alpine"]),
        ({"include": ["app-*"], "semver": ">=1"}, ["app-1.2.3"]),
        ({"include": ["app-*-alpine"], "semver": ">=1"}, ["app-1.2.3-alpine"]),
        ({"include": ["app-*", "1.2.3"]}, ["1.2.3", "app-1.2.3", "app-1.2.3-alpine"]),
        ({"include": ["1.[0-2].?-*r[0-9]"]}, ["1.2.3-alpine-r2", "1.0.0-debian-12-r4"]),
        ({"exclude": ["*alpine*", "app-*"]}, ["1.2.3", "1.0.0-debian-12-r4"]),
        ({"include": ["1.*"], "exclude": ["*-*"]}, ["1.2.3"]),
    ],
)  # fmt: skip
def test_tags_can_be_filtered_by_flavour(wanted: dict[str, object], found: list[str]) -> None:
    chosen = chooser(**wanted)  # type: ignore[arg-type]
    assert chosen is not None

    assert [tag for tag in _MIXED if chosen(tag)] == found


def test_tag_filter_without_options_is_none() -> None:
    assert chooser() is None


@pytest.mark.parametrize("glob", ["", "a b", "x" * 257, "a/b", "\x1b[1m"])
def test_glob_without_a_matching_tag_is_refused(glob: str) -> None:
    with pytest.raises(Usage, match=r"matches no tag|256"):
        chooser(include=[glob])
    with pytest.raises(Usage, match=r"--suffix"):
        chooser(suffix=glob)
