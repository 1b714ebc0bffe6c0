"""The strict YAML reader: accepted input, and errors with line and column."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.parse.document import similar
from resolver.core.parse.yaml_tree import Mapping, ScalarKind, Sequence, YamlScalar, join
from resolver.errors import BadFile, FileLimit
from resolver.files import yaml as strict_yaml
from tests import DATA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.parse.document import FieldReader
    from resolver.core.parse.yaml_tree import Node

LOCKFILES = DATA / "bad_inputs" / "lockfiles"
CASES = {
    Path(case["file"]).name: case
    for case in json.loads((LOCKFILES.parent / "index.json").read_text("utf-8"))["files"]
    if case["kind"] == "lockfile"
}
#: What only a reader that knows lock files can refuse.
MEANING = {"unknown_version.yaml": "version", "float_tag.yaml": "images[0].tag"}


def parse(text: str) -> FieldReader:
    return strict_yaml.parse(text.encode("utf-8", "surrogatepass"), "f.yaml")


def placed(node: Node, path: str = "") -> Iterator[tuple[object, ...]]:
    """List every node: path, type, text, kind, line and column."""
    text, kind = (node.value, node.kind) if isinstance(node, YamlScalar) else ("", None)
    yield path, type(node), text, kind, node.line, node.column
    if isinstance(node, Sequence):
        for position, item in enumerate(node.items):
            yield from placed(item, f"{path}[{position}]")
    elif isinstance(node, Mapping):
        for key, value in node.pairs:
            assert isinstance(key, YamlScalar)
            yield from placed(key, join(path, key.value))
            yield from placed(value, join(path, key.value))


def plain(node: Node) -> object:
    """Drop the positions: text, lists and dictionaries."""
    match node:
        case YamlScalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {name: plain(value) for name, value in node.items()}


def test_yaml_values_have_their_positions() -> None:
    root = parse("# made by hand\nimages:\n  - ref: 'a b'\n    tags: [x, 1.10]\n")

    assert list(placed(root.value)) == [
        ("", Mapping, "", None, 2, 1),
        ("images", YamlScalar, "images", ScalarKind.TEXT, 2, 1),
        ("images", Sequence, "", None, 3, 3),
        ("images[0]", Mapping, "", None, 3, 5),
        ("images[0].ref", YamlScalar, "ref", ScalarKind.TEXT, 3, 5),
        ("images[0].ref", YamlScalar, "a b", ScalarKind.TEXT, 3, 10),
        ("images[0].tags", YamlScalar, "tags", ScalarKind.TEXT, 4, 5),
        ("images[0].tags", Sequence, "", None, 4, 11),
        ("images[0].tags[0]", YamlScalar, "x", ScalarKind.TEXT, 4, 12),
        ("images[0].tags[1]", YamlScalar, "1.10", ScalarKind.NUMBER, 4, 15),
    ]


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("text", ScalarKind.TEXT),
        ("'1.10'", ScalarKind.TEXT),
        ('"true"', ScalarKind.TEXT),
        ("|\n 1", ScalarKind.TEXT),
        ("1.10", ScalarKind.NUMBER),
        ("1e3", ScalarKind.NUMBER),
        ("-.5", ScalarKind.NUMBER),
        (".inf", ScalarKind.NUMBER),
        ("7", ScalarKind.WHOLE),
        ("0x1F", ScalarKind.WHOLE),
        ("0o17", ScalarKind.NUMBER),
        ("12:30:45", ScalarKind.WHOLE),
        ("true", ScalarKind.TRUTH),
        ("yes", ScalarKind.TRUTH),
        ("Off", ScalarKind.TRUTH),
        ("null", ScalarKind.NOTHING),
        ("~", ScalarKind.NOTHING),
        ("", ScalarKind.NOTHING),
        ("2024-01-01", ScalarKind.TIME),
        ("2024-01-01T00:00:00Z", ScalarKind.TIME),
        ("=", ScalarKind.TEXT),
        ("sha256:00", ScalarKind.TEXT),
    ],
)
def test_yaml_words_are_parsed_as_yaml_defines(word: str, kind: ScalarKind) -> None:
    value = parse(f"- {word}\n").value

    assert isinstance(value, Sequence)
    (only,) = value.items
    assert isinstance(only, YamlScalar)
    assert only.kind is kind
    if kind is not ScalarKind.TEXT:
        with pytest.raises(BadFile, match=r"f\.yaml:1:[23]: \[0\]: text is expected here"):
            next(parse(f"- {word}\n").items()).text()


# What is refused, where, and in which words.
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: 2", "f.yaml:1:4: a: anchors (`&name`) are not supported"),
        ("b: [*x]", "f.yaml:1:5: b[0]: aliases are not supported"),
        ("a: {<<: {b: 1}}", "f.yaml:1:5: a: merge keys (`<<`) are not supported"),
        ("a: !!str 1", "f.yaml:1:4: a: tags (`!name`) are not supported"),
        ("a: !own {}", "f.yaml:1:4: a: tags (`!name`) are not supported"),
        ("!!python/object/apply:os.system ['id']", "f.yaml:1:1: tags (`!name`) are not supported"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "f.yaml:4:3: b.c: this key is defined twice"),
        ("a: 1\n'a': 2", "f.yaml:2:1: a: this key is defined twice"),
        ("? [a]\n: b", "f.yaml:1:3: a name is expected here, not a list or a mapping"),
        ("? {a: b}\n: b", "f.yaml:1:3: a name is expected here, not a list or a mapping"),
        ("? \n: b", "f.yaml:1:2: a name is missing before this `:`"),
        ("a: 1\n---\nb: 1", "f.yaml:2:1: it is more than one document"),
        ("%YAML 1.1\n---\na: 1", "f.yaml:1:1: directives (`%YAML`, `%TAG`) are not supported"),
        ("a: [1", "f.yaml:1:6: it is not YAML"),
        ("a: b: c", "f.yaml:1:5: it is not YAML"),
        ("a: hunter2\n\t- x", "f.yaml:2:1: it is not YAML"),
        ('a: "\\ud83d"', "f.yaml:1:4: a: this text has an unpaired surrogate"),
        ('a: "\\q"', "f.yaml:1:6: it is not YAML"),
        ("a: 1\nb: \x07", "f.yaml:2:4: it has characters that YAML does not allow"),
        (
            "a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> x\n",
            "f.yaml:2:1: this file contains a merge conflict",
        ),
    ],
)
def test_yaml_that_hides_content_is_refused_at_its_position(text: str, message: str) -> None:
    with pytest.raises(BadFile) as caught:
        parse(text)

    assert str(caught.value) == message


def test_yaml_accepts_only_valid_bytes() -> None:
    for content in (b"a: \xff", b"\xff\xfea\x00"):
        with pytest.raises(BadFile, match=r"^f\.yaml: it is not UTF-8$"):
            strict_yaml.parse(content, "f.yaml")
    assert plain(strict_yaml.parse(b"\xef\xbb\xbfa: 1\r\n", "f").value) == {"a": "1"}
    assert plain(parse("").value) == plain(parse("# nothing\n").value) == ""
    assert parse("").is_empty


def test_yaml_file_size_limit_is_exact() -> None:
    fits = b"#" * strict_yaml.MAX_FILE

    assert strict_yaml.parse(fits, "f.yaml").is_empty
    with pytest.raises(FileLimit, match=r"^f\.yaml: it has more than 4194304 bytes$"):
        strict_yaml.parse(fits + b"#", "f.yaml")


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ("{a: ", "}")])
def test_yaml_nesting_limit_is_exact(opened: str, closed: str) -> None:
    deep = strict_yaml.MAX_DEPTH

    assert plain(parse(opened * deep + closed * deep).value)
    with pytest.raises(FileLimit, match="it is nested deeper than 32"):
        parse(opened * (deep + 1) + closed * (deep + 1))
    with pytest.raises(FileLimit, match="it is nested deeper than 32"):
        parse(opened * 100_000)


def test_json_is_read_with_tabs_and_surrogate_pairs() -> None:
    value = {"a": ["\U0001f600", "b\tc", "/"], "n": 1, "t": True, "z": None}

    for text in (json.dumps(value), json.dumps(value, indent="\t"), json.dumps(value, indent=2)):
        found = plain(parse(text).value)
        assert found == {"a": ["\U0001f600", "b\tc", "/"], "n": "1", "t": "true", "z": "null"}


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
_DOCUMENTS = st.recursive(
    _TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4)
)


@given(_DOCUMENTS, st.booleans())
def test_written_yaml_is_read_back(document: object, as_json: bool) -> None:
    flow = json.dumps(document) if as_json else yaml.safe_dump(document, allow_unicode=True)

    assert plain(parse(flow).value) == document


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_any_yaml_is_read_or_refused(text: str) -> None:
    message = ""
    try:
        parse(text)
    except BadFile as error:
        message = str(error)
    assert not message or message.startswith("f.yaml:")


@pytest.mark.parametrize("name", CASES)
def test_lock_files_of_the_catalogue_are_read_or_refused(name: str) -> None:
    path = LOCKFILES / name
    if CASES[name]["expect"] == "accept" or name == "unknown_version.yaml":
        assert strict_yaml.read(path).members()["version"].whole() in {1, 99}
        return

    def first_tag() -> str:
        image = next(strict_yaml.read(path).members()["images"].items())
        return image.members()["tag"].text()

    with pytest.raises(BadFile) as caught:
        first_tag()
    assert caught.value.field.endswith(MEANING.get(name, ""))
    assert isinstance(caught.value, FileLimit) == (CASES[name]["error_class"] == "LIMIT")
    assert not Path("/tmp/pwned-yaml").exists()


def test_yaml_type_error_names_the_expected_type() -> None:
    root = parse("images: text\nversion: 1.0\nyes: yes\nmore: -1\nempty:\nlist: [[]]\n").members()

    for act, message in (
        (root["images"].members, "f.yaml:1:9: images: names with values are expected here"),
        (lambda: list(root["images"].items()), "f.yaml:1:9: images: a list is expected here"),
        (root["version"].whole, "f.yaml:2:10: version: a whole number is expected here"),
        (root["version"].text, "f.yaml:2:10: version: text is expected here, but without quotes"),
        (root["more"].whole, "f.yaml:4:7: more: a whole number is expected here"),
        (root["yes"].truth, "f.yaml:3:6: yes: `true` or `false` is expected here"),
        (root["empty"].text, "f.yaml:5:7: empty: text is expected here, but there is none"),
        (next(root["list"].items()).text, "f.yaml:6:8: list[0]: text is expected here"),
    ):
        with pytest.raises(BadFile) as caught:
            act()
        assert str(caught.value).startswith(message)
    assert parse("a: true").members()["a"].truth()
    assert not parse("a: false").members()["a"].truth()
    assert root["empty"].is_empty


def test_misspelled_yaml_field_suggests_the_known_one() -> None:
    root = parse("version: 1\nimages:\n  - image: a\n    requires: []\n    zzz: 1\n")
    fields = root.fields("version", "images")
    with pytest.raises(BadFile) as caught:
        next(fields["images"].items()).fields("image", "require", "zzz")

    assert str(caught.value) == "f.yaml:4:5: images[0].requires: unknown field"
    assert caught.value.hints() == ("did you mean `require`?",)
    with pytest.raises(BadFile) as caught:
        root.fields("a", "b")
    assert caught.value.hints() == ("known fields are `a`, `b`",)
    assert similar("max_age", ("max-age", "lint")) == "max-age"


def test_unreadable_yaml_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in (
        (tmp_path / "none", "it cannot be read: No such file or directory"),
        (pipe, "it is not a regular file"),
        (tmp_path / "nul\x00", "it cannot be read: its name cannot be used"),
    ):
        with pytest.raises(BadFile) as caught:
            strict_yaml.read(path)
        assert (caught.value.place, caught.value.reason) == (str(path), reason)
    (tmp_path / "good").write_text("a: 1")
    assert plain(strict_yaml.read(tmp_path / "good").value) == {"a": "1"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b: [")))
    with pytest.raises(BadFile, match=r"^stdin:1:5: it is not YAML$"):
        strict_yaml.read("-")
