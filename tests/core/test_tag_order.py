"""The order of tags, and ranges of versions."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.tag_order import age_of, in_range, newest_first
from resolver.errors import Usage

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
tags = st.one_of(
    st.sampled_from(ORDERED),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}", fullmatch=True),
    st.from_regex(r"v?[0-9]{1,3}(\.[0-9]{1,3}){0,4}(-(rc|alpha|alpine)[0-9]?)?", fullmatch=True),
)


def test_versions_come_before_dates_and_dates_before_names() -> None:
    mixed = random.Random(7).sample(ORDERED, len(ORDERED))

    assert newest_first(mixed) == ORDERED


@given(st.lists(tags, max_size=20, unique=True), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_registrys(some: list[str], luck: random.Random) -> None:
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
        ("2024.05.01-slim", 1, (2024, 5, 1)),
        ("20241301", 2, (20241301,)),
        ("1." * 60 + "1", 0, ()),
        ("9" * 120, 0, ()),
        ("edge", 0, ()),
        ("_x", 0, ()),
    ],
)
def test_what_a_tag_says(tag: str, kind: int, numbers: tuple[int, ...]) -> None:
    age = age_of(tag)

    assert (age.kind, age.numbers) == (kind, numbers)


@given(st.text(max_size=128))
def test_any_text_has_an_age(text: str) -> None:
    assert age_of(text).kind in {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        (">=1.25", ["1.25", "v1.25.1", "1.27.3", "2"], ["1.24.9", "1.27-alpine", "latest"]),
        ("^1.2", ["1.2", "1.9.9"], ["2.0", "1.1", "1.3.0-rc1"]),
        ("~1.2", ["1.2.9"], ["1.3"]),
        ("1.x", ["1", "1.99"], ["2", "0.9"]),
        (">=1 <2 || 3", ["1.5", "3.0.0"], ["2", "4"]),
        ("1.2 - 1.4", ["1.4.7"], ["1.5"]),
    ],
)
def test_a_range_of_versions(text: str, yes: list[str], no: list[str]) -> None:
    matches = in_range(text)

    assert [tag for tag in [*yes, *no] if matches(tag)] == yes


@pytest.mark.parametrize("text", ["new", ">=", "1..2", "<>1", "x" * 257])
def test_what_is_no_range_is_said(text: str) -> None:
    with pytest.raises(Usage, match=r"range|256"):
        in_range(text)
