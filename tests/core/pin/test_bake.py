"""HCL of bake files: structure, and the position of every string."""

from __future__ import annotations

import pytest

from resolver.core.pin.bake import MAX_DEPTH, read_hcl
from resolver.core.pin.edits import Unparsable
from resolver.core.pin.likeness import values


def strings(text: str) -> list[tuple[str, str]]:
    return [(path, scalar.value) for scalar, _keys, path in values(read_hcl(text))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('a = "b"', [("a", "b")]),
        ('a "b" c {\n  d = "e"\n}\n', [("a.b.c.d", "e")]),
        ('a = ["b", "c"] # d\n', [("a[0]", "b"), ("a[1]", "c")]),
        ('a = [\n  "b", // "c"\n  "d",\n]\n', [("a[0]", "b"), ("a[1]", "d")]),
        ('a = { b = "c", "d" : "e"\n f = "g" }', [("a.b", "c"), ("a.d", "e"), ("a.f", "g")]),
        ('a = x == "b" ? "c" : d\ne = "f"', [("a[0]", "b"), ("a[1]", "c"), ("e", "f")]),
        ('a = "b" == c ? d("e",\n"f") : null\n', [("a[0]", "b"), ("a[1]", "e"), ("a[2]", "f")]),
        ('a = [for b in c : "d"]\ne = "f"\n', [("a[0]", "d"), ("e", "f")]),
        ('a = { for b, c in d : b => "e" }\nf = "g"\n', [("a[0]", "e"), ("f", "g")]),
        ('a = "${b("}", "c")}d"\n', [("a", '${b("}", "c")}d')]),
        ('a = "$${b" /* "c" */\n', [("a", "$${b")]),
        ('a = "\\"b"\n', [("a", '\\"b')]),
        ('a = <<B\nc\n  d\nB\ne = "f"\n', [("a", "c\n  d\n"), ("e", "f")]),
        ("a = <<-B\n    c\n      d\n  B\n", [("a", "c\n  d\n")]),
        ("a {}\n", []),
        ("", []),
    ],
)  # fmt: skip
def test_bake_strings_are_found_with_their_paths(text: str, found: list[tuple[str, str]]) -> None:
    assert strings(text) == found
    assert strings(text.replace("\n", "\r\n")) == found


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("a = {\n", "`}` is missing", 2),
        ('a = "b\nc"\n', "a string is not closed", 1),
        ("a {\n", "a block is not closed", 2),
        ("a = 1\n}\n", "a block is closed without being opened", 2),
        ("a\n", "`=` or `{` is expected", 1),
        ("= 1\n", "a name is expected", 1),
        ("a = <<B\nc\n", "the heredoc `B` is not terminated", 1),
        ("a = (]\n", "no matching opening bracket", 1),
        ("a = " + "[" * (MAX_DEPTH + 1), "nests deeper", 1),
        ('a = "' + "${{" * (MAX_DEPTH + 1), "is not closed", 1),
        ('a = "' + '${"' * (MAX_DEPTH + 1), "nests deeper", 1),
    ],
)
def test_invalid_hcl_is_refused_with_its_line(text: str, reason: str, line: int) -> None:
    with pytest.raises(Unparsable) as caught:
        read_hcl(text)

    assert reason in str(caught.value)
    assert caught.value.line == line
