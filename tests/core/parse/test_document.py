"""The document reader: TOML, which has no positions, and single strings as lists."""

from __future__ import annotations

import pytest

from resolver.core.parse.document import parse_toml
from resolver.core.parse.yaml_tree import ScalarKind, YamlScalar
from resolver.errors import BadFile, InvalidConfiguration
from resolver.files import yaml


@pytest.mark.parametrize(
    ("value", "text", "kind"),
    [
        ('"1.10"', "1.10", ScalarKind.TEXT),
        ("1", "1", ScalarKind.WHOLE),
        ("1.5", "1.5", ScalarKind.NUMBER),
        ("true", "true", ScalarKind.TRUTH),
        ("2024-01-01", "2024-01-01", ScalarKind.TIME),
    ],
)
def test_toml_scalar_keeps_its_type(value: str, text: str, kind: ScalarKind) -> None:
    member = parse_toml(f"x = {value}".encode(), "f.toml").member("x")

    assert member is not None
    assert isinstance(member.value, YamlScalar)
    assert (member.value.value, member.value.kind) == (text, kind)


def test_document_error_names_the_field_and_yaml_position() -> None:
    toml = parse_toml(b"a = [{b = 1}]", "f.toml")
    document = yaml.parse(b"a:\n  - b: 1\n", "f.yaml")

    with pytest.raises(InvalidConfiguration) as caught:
        toml.tables_of("a")[0].text_of("b")
    assert (caught.value.place, caught.value.field) == ("f.toml", "a[0].b")
    with pytest.raises(BadFile) as seen:
        document.tables_of("a")[0].text_of("b")
    assert (seen.value.field, seen.value.line, seen.value.column) == ("a[0].b", 2, 8)


def test_missing_member_is_refused_by_its_path() -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        parse_toml(b"a = {}", "f.toml").members()["a"].fail_at("b", "it is missing")
    assert (caught.value.field, caught.value.reason) == ("a.b", "it is missing")


@pytest.mark.parametrize("text", ["a: x\n", "a: [x]\n", "{}\n"])
def test_single_string_is_accepted_as_a_list(text: str) -> None:
    assert yaml.parse(text.encode(), "f").texts_of("a") == (() if text == "{}\n" else ("x",))


def test_list_with_other_types_than_strings_is_refused() -> None:
    with pytest.raises(BadFile) as caught:
        yaml.parse(b"a: [x, 1]\n", "f").texts_of("a")
    assert caught.value.field == "a"


@pytest.mark.parametrize("depth", [50, 100_000])
def test_toml_nesting_is_limited(depth: int) -> None:
    body = b"a = " + b"[" * depth + b"]" * depth
    if depth == 50:
        assert parse_toml(body, "f").member("a") is not None
    else:
        with pytest.raises(InvalidConfiguration, match="nested too deeply"):
            parse_toml(body, "f")
