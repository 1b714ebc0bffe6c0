"""Sizes are formatted as Docker formats them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import megabytes

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_949, "99.9 kB"),
        (99_951, "100 kB"),
        (999_499, "999 kB"),
        (999_501, "1.00 MB"),
        (29_723_147, "29.7 MB"),
        (4_454_000_000, "4.45 GB"),
        (10**18, "1000 PB"),
    ],
)
def test_size_has_three_digits_and_a_unit(count: int, text: str) -> None:
    assert megabytes(count) == text


@given(st.integers(min_value=0, max_value=10**18))
def test_formatted_size_is_within_one_percent(count: int) -> None:
    value, unit = megabytes(count).split(" ")

    assert float(value) * UNITS[unit] == pytest.approx(count, rel=0.01)
