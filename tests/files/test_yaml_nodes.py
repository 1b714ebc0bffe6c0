"""YAML nodes with positions: accepted input, errors and limits."""

from __future__ import annotations

import pytest
import yaml

from resolver.core.parse.yaml_tree import (
    Mapping,
    Sequence,
    YamlScalar,
    at,
    elements,
    entries,
    text_at,
)
from resolver.core.pin.edits import Unparsable
from resolver.errors import LimitExceeded
from resolver.files import yaml as marked
from resolver.files.yaml import MAX_TREE_DEPTH, read_documents, without_comments

LOADERS = [yaml.SafeLoader, yaml.CSafeLoader]

both = pytest.mark.parametrize("loader", LOADERS)


@both
def test_yaml_byte_order_mark_and_line_ends_count_as_characters(loader: object) -> None:
    text = "\ufeffa: x\r\n\r\nbö: 'y' # z\r\n"

    (document,) = read_documents(text, loader=loader)

    assert isinstance(document, Mapping)
    spans = [text[value.start : value.end] for _, value in document.pairs if hasattr(value, "end")]
    assert spans == ["x", "'y'"]


@both
def test_yaml_tags_anchors_merges_and_duplicate_keys_are_read(loader: object) -> None:
    text = (
        "a: &x {k: !v 1, k: 2}\nb: {<<: *x, l: 3}\nc: {<<: [*x], k: 4}\n"
        "d: !seq [1]\ne: &y z\nf: *y\n"
    )

    (document,) = read_documents(text, loader=loader)

    assert text_at(document, "a", "k") == "2"
    assert text_at(document, "b", "k") == "2"
    assert text_at(document, "c", "k") == "4"
    assert list(elements(document, "d")) == []
    assert at(document, "e") is at(document, "f")
    assert [name for name, _ in entries(document, "b")] == ["l"]


@both
def test_circular_and_dangling_yaml_merges_end(loader: object) -> None:
    text = "a: &a {<<: x, k: 1}\nb: {<<: [*a, *a], <<: *a}\n"

    (document,) = read_documents(text, loader=loader)

    assert text_at(document, "b", "k") == "1"
    assert text_at(document, "b", "none", "deeper") == ""
    assert at(Sequence(0, ()), "a") is None


@both
def test_yaml_documents_share_no_anchors(loader: object) -> None:
    assert len(read_documents("a: 1\n---\nb: 2\n...\n---\n", loader=loader)) == 3
    assert read_documents("", loader=loader) == ()
    with pytest.raises(Unparsable, match="anchor `x`") as caught:
        read_documents("a: &x 1\n---\nb: *x\n", loader=loader)
    assert (caught.value.line, caught.value.column) == (3, 4)


@both
def test_invalid_yaml_error_has_its_position(loader: object) -> None:
    with pytest.raises(Unparsable) as caught:
        read_documents("a: 1\nb: [\n", loader=loader)

    assert caught.value.line == 3


@both
def test_number_of_yaml_nodes_is_limited(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marked, "MAX_NODES", 6)

    assert read_documents("[a, b, c, d]", loader=loader)
    with pytest.raises(LimitExceeded, match="limit of 6 pieces"):
        read_documents("[a, b, c, d, e]", loader=loader)


@both
def test_yaml_depth_is_limited(loader: object) -> None:
    depth = MAX_TREE_DEPTH

    assert read_documents("[" * depth + "]" * depth, loader=loader)
    with pytest.raises(LimitExceeded, match=f"limit of {depth} levels"):
        read_documents("[" * (depth + 1) + "]" * (depth + 1), loader=loader)


@both
def test_nested_yaml_aliases_use_no_memory(loader: object) -> None:
    """A billion laughs are a few nodes here: an alias is the node itself."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]

    (document,) = read_documents("\n".join(lines), loader=loader)

    assert isinstance(document, Mapping)
    assert len(document.pairs) == 30


def test_yaml_scalar_is_text_null_or_another_type() -> None:
    scalars = [YamlScalar(0, 0, value) for value in ("", "~", "null", "a")]

    assert [scalar.is_text for scalar in scalars] == [False, False, False, True]
    assert YamlScalar(0, 0, "null", '"').is_text
    assert not YamlScalar(0, 0, "", '"').is_text
    assert not YamlScalar(0, 0, "a", "", "!reference").is_text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('{"a": "b" // c\n}', '{"a": "b"     \n}'),
        ('{"a": /* b\n */ 1}', '{"a":     \n    1}'),
        ('{"a//b": "c/*d*/", "e": "\\"//"}', '{"a//b": "c/*d*/", "e": "\\"//"}'),
        ('{\t"a":\t1}', '{ "a": 1}'),
        ('{"a": "\\ud83d\\ude00 \\\\ud83d"}', '{"a": "             \\\\ud83d"}'),
    ],
)
def test_json_comments_are_blanked_and_keep_positions(text: str, clean: str) -> None:
    assert without_comments(text) == clean
    assert len(read_documents(clean)) == 1
