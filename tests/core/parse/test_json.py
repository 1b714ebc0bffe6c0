"""The strict JSON reader refuses what two programs could read differently."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.parse import json as strict_json
from resolver.core.parse.json import Fields, read_array, read_object
from resolver.errors import BadDocument, LimitExceeded


def refusal(body: bytes) -> BadDocument:
    with pytest.raises(BadDocument) as caught:
        read_object(body, "the thing")
    assert caught.value.what == "the thing"
    return caught.value


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (b"", "", "empty"),
        (b" \n", "", "empty"),
        (b"[]", "", "not an array"),
        (b"null", "", "not null"),
        (b'"x"', "", "not a text"),
        (b"1", "", "not a number"),
        (b"true", "", "not a boolean"),
        (b"NaN", "", "`NaN` is not JSON"),
        (b"\xef\xbb\xbf{}", "", "byte order mark"),
        ("{}".encode("utf-16"), "", "UTF-8"),
        ("{}".encode("utf-16-le"), "", "not JSON"),
        ("{}".encode("utf-32-be"), "", "not JSON"),
        (b"{}x", "", "data after the end"),
        (b"{}{}", "", "data after the end"),
        (b'{"a":1,}', "", "not JSON"),
        (b"{'a':1}", "", "not JSON"),
        (b'{"a":/*c*/1}', "", "not JSON"),
        (b'{"a":01}', "", "not JSON"),
        (b'{"a":+1}', "", "not JSON"),
        (b'{"a":"\n"}', "", "not JSON"),
        (b'{"a":"\\x"}', "", "not JSON"),
        (b'{"a":[1', "", "cut short"),
        (b'{"a":1,"a":2}', "a", "duplicate name `a`"),
        (b'{"a":1,"\\u0061":2}', "a", "duplicate name `a`"),
        (b'{"a":[0,{"b":{"c":1,"c":1}}]}', "a[1].b.c", "duplicate name `c`"),
        (b'{"a":{"x":1,"x":2},"a":3}', "a", "duplicate name `a`"),
        (b'{"a":{"b":[1,NaN]}}', "a.b[1]", "`NaN`"),
        (b'{"a":Infinity}', "a", "`Infinity`"),
        (b'{"a":-Infinity}', "a", "`-Infinity`"),
        (b'{"a":1e999}', "a", "too large"),
        (b'{"a":12345678901234567890}', "a", "19 digits"),
        (b'{"a":-12345678901234567890}', "a", "19 digits"),
        (b'{"a":' + b"9" * 5000 + b"}", "a", "19 digits"),
        (b'{"a":0.' + b"9" * 5000 + b"}", "a", "128 characters"),
        (b'{"a":["\\ud800"]}', "a[0]", "surrogate"),
        (b'{"a":"\\udc00\\ud800"}', "a", "surrogate"),
        (b'{"\\uDFFF":1}', "", "surrogate"),
        (b'{"a":{"k":"\xff"}}', "a", "UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "a", "UTF-8"),
        (b'{"a":"\xc0\x80"}', "a", "UTF-8"),
        (b'{"a":1,"b":[{"c":"}"},"\xff"]}', "b", "UTF-8"),
    ],
)
def test_ambiguous_json_is_refused(body: bytes, field: str, reason: str) -> None:
    error = refusal(body)
    assert error.field == field
    assert reason in error.reason


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a": [1, -1, 2.5, 1e3, null, true, "x"]}\r\n\t',
        b'{"a":9223372036854775807}',
        b'{"a":"\\ud83d\\ude00 \\u0000 \\"[{"}',
        b'{"":0}',
        '{"\u00e9":"\U0001f600"}'.encode(),
        b'{"A":1,"a":2}',
    ],
)
def test_plain_json_is_read_as_python_reads_it(body: bytes) -> None:
    assert read_object(body, "it") == json.loads(body)


def nested(depth: int) -> bytes:
    return b'{"k":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_depth_64_is_read_and_65_is_not() -> None:
    assert read_object(nested(64), "it")
    with pytest.raises(LimitExceeded, match="64") as caught:
        read_object(nested(65), "it")
    assert "`k`" in caught.value.what
    assert "depth" in str(caught.value)


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    assert read_object(json.dumps({"a": "[{" * 500, "b": '\\"[' * 500}).encode(), "it")


def test_json_depth_error_names_the_member() -> None:
    body = b'{"config":{"a":[]},"layers":[],"x\\"y":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(LimitExceeded) as caught:
        read_object(body, "it")
    assert 'x\\"y' in caught.value.what


@pytest.mark.parametrize(
    "piece", [b"[", b"]", b'"', b'\\"', b"\\", b'{"a":', b"1", b"[],", b",", b"\xff"]
)
def test_megabytes_of_hostile_json_are_refused_quickly(piece: bytes) -> None:
    body = (b'{"a":"' + piece * 1_000_000)[:1_000_000]
    start = time.perf_counter()
    for candidate in (body, b'{"a":' + body[6:]):
        with pytest.raises((BadDocument, LimitExceeded)):
            read_object(candidate, "it")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "body",
    [
        b'{"auth":"S3cr3t"',
        b'{"auth":"S3cr3t"}x',
        b'{"auth":"S3cr3t\xff"}',
        b'{"auth":"S3cr3t\\ud800"}',
        b'{"auth":{"p":"S3cr3t","p":"S3cr3t"}}',
        b'["S3cr3t"]',
        b'"S3cr3t"',
    ],
)
def test_json_errors_contain_no_values(body: bytes) -> None:
    error = refusal(body)
    chain = [error, error.__cause__, error.__context__]
    assert "S3cr3t" not in "".join(f"{link!r}{vars(link) if link else ''}" for link in chain)


def test_json_error_shortens_long_names() -> None:
    error = refusal(b'{"' + b"n" * 5000 + b'":NaN}')
    assert len(error.field) == 64


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_a_documented_error(body: bytes) -> None:
    try:
        assert isinstance(read_object(body, "it"), dict)
    except (BadDocument, LimitExceeded):
        return


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5), st.booleans())
def test_written_json_is_read_back(document: dict[str, object], escaped: bool) -> None:
    body = json.dumps(document, ensure_ascii=escaped).encode("utf-8")
    assert read_object(body, "it") == document


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, [], {}, -1, 2**63])
def test_only_whole_numbers_are_integers(value: object) -> None:
    with pytest.raises(BadDocument) as caught:
        Fields("it", "config", {"size": value}).integer("size")
    assert caught.value.field == "config.size"


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1])
def test_sizes_are_limited_to_64_bits(value: int) -> None:
    assert Fields("it", "", {"size": value}).integer("size") == value


@pytest.mark.parametrize("name", ["Layers", "LAYERS", "layer\u017f"])
def test_known_field_in_another_case_is_refused(name: str) -> None:
    known = frozenset({"layers"})
    variants: list[dict[str, object]] = [{name: 1}, {"layers": 1, name: 1}]
    for members in variants:
        with pytest.raises(BadDocument) as caught:
            Fields.of(members, "it", "", known)
        assert caught.value.field == name
    assert Fields.of({"Other": 1, "other": 2}, "it", "", known).has("other")


# One array of a document, element by element

_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**15), 10**15), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
_FLAT = st.one_of(st.none(), st.booleans(), st.integers(0, 10**15), st.text(max_size=12))


@given(
    st.dictionaries(st.text(max_size=4), _VALUES, max_size=4),
    st.one_of(st.none(), st.lists(_FLAT, max_size=6)),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_json_array_is_streamed_like_the_whole_document(
    beside: dict[str, object], tags: list[object] | None, ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps({**beside, "tags": tags}, ensure_ascii=ascii_only, indent=indent).encode()

    assert list(read_array(body, "tags", "it")) == (read_object(body, "it")["tags"] or [])


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,tags 1n\\', max_size=40).map(str.encode))
def test_invalid_array_document_is_refused(body: bytes) -> None:
    try:
        found = list(read_array(body, "tags", "it"))
    except (BadDocument, LimitExceeded):
        return
    # Members beside the array are skipped, so this reader accepts more, never less.
    try:
        whole = read_object(body, "it").get("tags")
    except BadDocument:
        return
    expected = whole if isinstance(whole, list) else []
    assert len(found) == len(expected)
    assert [each for each in found if isinstance(each, str)] == [
        each for each in expected if isinstance(each, str)
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "not JSON"),
        (b"{", "not JSON"),
        (b"{}x", "data after"),
        (b'{"a" 1}', "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b'{"a":[}]}', "not JSON"),
        (b'{"a":"x', "not JSON"),
        (b'{"tags":["a",]}', "not JSON"),
        (b'{"tags":["a" "b"]}', "not JSON"),
        (b'{"tags":["a"', "not JSON"),
        (b'{"tags":{}}', "must be an array, not an object"),
        (b'{"tags":"a"}', "must be an array, not a text"),
        (b'{"tags":[],"tags":[]}', "duplicate"),
        (b'{"tags":["\xff"]}', "UTF-8"),
        (b'{"tags":["\\ud800"]}', "surrogate"),
        (b'{"tags":[NaN]}', "NaN"),
        (b'{"tags":[nullx]}', "not JSON"),
    ],
)
def test_invalid_array_error_names_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(BadDocument, match=reason):
        list(read_array(body, "tags", "the thing"))


def test_skipped_json_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "MAX_SKIPPED", 3)

    assert list(read_array(b'{"x":[{},{}],"tags":["a"]}', "tags", "it")) == ["a"]
    with pytest.raises(LimitExceeded, match="3 values: 4"):
        list(read_array(b'{"x":[{},{},{}],"tags":["a"]}', "tags", "it"))
    monkeypatch.undo()
    deep = b"[" * 64
    with pytest.raises(LimitExceeded, match="64 levels"):
        list(read_array(b'{"x":' + deep + deep.replace(b"[", b"]") + b"}", "tags", "it"))
