"""Splitting the missing part of a blob into ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.content import read_content_range
from resolver.core.results.plan import cut, gaps

SPANS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair)))
)


@given(st.integers(0, 50), SPANS, st.integers(1, 20))
def test_held_and_missing_ranges_cover_the_blob_in_bounded_pieces(
    size: int, have: list[tuple[int, int]], longest: int
) -> None:
    pieces = cut(gaps(size, have), longest)

    held = {at for start, end in have for at in range(start, min(end, size))}
    missing = [at for start, end in pieces for at in range(start, end)]
    assert missing == sorted(set(range(size)) - held)
    assert all(0 < end - start <= longest for start, end in pieces)


def test_ranges_are_of_about_equal_length() -> None:
    assert cut([(0, 33)], 16) == [(0, 11), (11, 22), (22, 33)]


@pytest.mark.parametrize(
    ("value", "end"),
    [
        ("bytes 10-19/100", 20),
        ("Bytes 10-19/*", 20),
        # Less than was requested.
        ("bytes 10-14/100", 15),
        ("bytes 9-19/100", None),
        ("bytes 11-19/100", None),
        ("bytes 10-20/100", None),
        ("bytes 10-9/100", None),
        ("bytes 10-19/99", None),
        ("bytes */100", None),
        ("bytes=10-19/100", None),
        ("bytes 10-19", None),
        ("bytes 10-19/100\n", None),
        ("bytes \uff110-19/100", None),
        ("bytes 10-99999999999999999999/100", None),
        ("items 10-19/100", None),
        ("", None),
    ],
)
def test_range_response_is_cut_to_the_requested_part(value: str, end: int | None) -> None:
    assert read_content_range((value,), 10, 20, 100) == end


def test_two_content_range_headers_are_ignored() -> None:
    assert read_content_range(("bytes 10-19/100", "bytes 10-19/100"), 10, 20, 100) is None
    assert read_content_range((), 10, 20, 100) is None
