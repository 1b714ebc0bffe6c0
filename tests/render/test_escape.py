"""Remote text cannot control a terminal, hide, or command a CI system."""

from __future__ import annotations

import unicodedata
from json import loads
from typing import TYPE_CHECKING

import pytest
import yaml as library
from hypothesis import given
from hypothesis import strategies as st

from resolver.render.json import json, jsonl, yaml
from resolver.render.text import escape, line
from tests.kit.ci_systems import azure_commands, github_commands

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.render.to_dict import Plain

#: Alone, behind white space, in mid-line, on a line of their own, and where YAML would fold.
COMMANDS = (
    "::error::x",
    "  ::error::x",
    "a ##vso[task.x]y",
    "##[error]",
    "a\n::error::x\n",
    "a " * 60 + "::error::x",
)

FORBIDDEN = {
    *(chr(code) for code in range(0x20)),
    *(chr(code) for code in range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\xad\u200b\u200c\u200d\u2060\ufeff",
}


@given(st.text())
def test_no_terminal_control_is_left(text: str) -> None:
    safe = escape(text)

    assert not FORBIDDEN & set(safe)
    assert not any(unicodedata.category(character) == "Cs" for character in safe)


@given(st.text())
def test_escaped_text_can_be_encoded(text: str) -> None:
    assert escape(text).encode("utf-8").decode("utf-8") == escape(text)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "Zs"])))
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert escape(text) == text or "##[" in text or "##vso[" in text


def test_escaped_character_code_is_readable() -> None:
    assert escape("a\x1b[2J\u202eb\u2028") == "a\\x1b[2J\\u202eb\\u2028"


STARTS = st.sampled_from(
    ["::", "##", "::error::x", "##vso[task]", "##[error]", "  ::error::x", "\t##x"]
)


@given(STARTS, st.text())
def test_no_line_begins_with_a_ci_command(start: str, rest: str) -> None:
    assert not line(start + rest).lstrip().startswith(("::", "##"))


@given(
    st.text(), st.sampled_from(["##vso[a.b]", "##[error]", "###[x]", "#\u200b#vso[a.b]"]), st.text()
)
def test_no_inline_ci_command_is_left(before: str, command: str, after: str) -> None:
    for safe in (escape(before + command + after), line(before + command + after)):
        assert "##vso[" not in safe
        assert "##[" not in safe


def test_escaped_ci_command_is_readable() -> None:
    assert line("::error::x") == "\\x3a:error::x"
    assert escape("a ##vso[task.x]y") == "a \\x23#vso[task.x]y"
    assert escape("# ## [a] #vso[b]") == "# ## [a] #vso[b]"


@pytest.mark.parametrize(
    ("form", "read"), [(json, loads), (jsonl, loads), (yaml, library.safe_load)]
)
@given(
    st.dictionaries(
        st.text(max_size=20) | st.sampled_from(COMMANDS),
        st.text(max_size=120) | st.sampled_from(COMMANDS),
        max_size=3,
    )
)
def test_json_documents_contain_no_ci_command_and_keep_their_value(
    form: Callable[[Plain], str], read: Callable[[str], object], value: dict[str, object]
) -> None:
    text = form(value)

    assert github_commands(text) == azure_commands(text) == []
    assert read(text) == value
