"""Remote text can neither move a cursor, hide, nor speak to a CI system."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from resolver.render.escape import escape, line

FORBIDDEN = {
    *(chr(code) for code in range(0x20)),
    *(chr(code) for code in range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
}


@given(st.text())
def test_nothing_that_controls_a_terminal_is_left(text: str) -> None:
    safe = escape(text)

    assert not FORBIDDEN & set(safe)
    assert not any(unicodedata.category(character) == "Cs" for character in safe)


@given(st.text())
def test_escaped_text_can_be_encoded(text: str) -> None:
    assert escape(text).encode("utf-8").decode("utf-8") == escape(text)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "Zs"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


def test_the_code_of_what_was_there_can_be_read() -> None:
    assert escape("a\x1b[2J\u202eb\u2028") == "a\\x1b[2J\\u202eb\\u2028"


@given(st.sampled_from(["::", "##", "::error::x", "##vso[task]"]), st.text())
def test_no_line_begins_as_a_command_of_a_ci_system(start: str, rest: str) -> None:
    assert not line(start + rest).startswith(("::", "##"))
