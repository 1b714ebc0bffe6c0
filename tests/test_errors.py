"""Every failure has one code, one kind, one line, and a docstring that explains it."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from resolver import errors
from resolver.errors import ErrorKind, ResolverError

#: The status of each kind. Source: docs/architecture.md, "Exit statuses".
STATUS = {
    "NEGATIVE": 1,
    "INPUT": 2,
    "NOT_FOUND": 3,
    "DENIED": 4,
    "UNAVAILABLE": 5,
    "UNTRUSTED": 6,
    "OFFLINE": 7,
    "STORE": 8,
}
WORDS = {
    "NEGATIVE": {"NEGATIVE"},
    "INPUT": {"USAGE", "CONFIG", "FORMAT", "LIMIT"},
    "NOT_FOUND": {"NOT_FOUND", "PLATFORM"},
    "DENIED": {"AUTH"},
    "UNAVAILABLE": {"NETWORK", "RATELIMIT"},
    "UNTRUSTED": {"INTEGRITY", "FORMAT", "UNSUPPORTED", "LIMIT"},
    "OFFLINE": {"OFFLINE"},
    "STORE": {"STORE"},
}
CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, ResolverError) and value is not ResolverError
]


def test_each_error_kind_has_its_own_status() -> None:
    assert {kind.name: kind.status for kind in ErrorKind} == STATUS


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_is_documented_and_belongs_to_its_status_class(
    kind: type[ResolverError],
) -> None:
    assert kind.__doc__
    assert "code" in vars(kind)
    assert kind.word in WORDS[kind.kind.name]


def test_error_codes_are_unique() -> None:
    codes = [kind.code for kind in CLASSES]

    assert len(set(codes)) == len(codes)


def test_instance_codes_belong_to_one_failure() -> None:
    """Failures without a class of their own carry the code in the call that makes them."""
    names = {kind.__name__ for kind in CLASSES}
    package = Path(errors.__file__).parent
    codes = [
        ast.literal_eval(keyword.value)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names
        for keyword in node.keywords
        if keyword.arg == "code"
    ]

    assert {"tag-moved", "no-lock", "in-use"} <= set(codes)
    assert len(set(codes)) == len(codes)
    assert not set(codes) & {kind.code for kind in CLASSES}


def test_error_instance_may_have_its_own_code_and_facts() -> None:
    error = errors.NotFound("no", "look", code="other", word="PLATFORM", place="here")

    assert (error.code, error.word, error.kind.status) == ("other", "PLATFORM", 3)
    assert (str(error), error.hints(), error.facts()) == ("no", ("look",), {"place": "here"})
    assert errors.NotFound("no").code == "not-found"


def test_error_facts_are_the_public_attributes() -> None:
    error = errors.DigestMismatch("the manifest", "sha256:a", "sha256:b")

    assert error.facts() == {
        "what": "the manifest",
        "expected": "sha256:a",
        "actual": "sha256:b",
    }


def test_missing_platform_hints_list_near_misses_first() -> None:
    error = errors.PlatformNotOffered(
        "app:1", "linux/arm/v6", ("linux/arm/v7",), (("linux/arm/v7", "newer"),)
    )

    assert error.hints() == (
        "`linux/arm/v7` does not match: newer",
        "it is offered for `linux/arm/v7`",
    )


def test_long_remote_text_is_cut_in_messages() -> None:
    error = errors.InvalidReference("x" * 5000, "too long")

    assert len(str(error)) < 200
