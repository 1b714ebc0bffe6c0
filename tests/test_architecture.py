"""Rules of CONTRIBUTING.md that a program can read off the source; the layers are lint-imports'."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

import resolver
from resolver import errors

PACKAGE = Path(resolver.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
#: Rooms whose work is to speak to people.
SPEAKERS = ("cli", "render")
#: Classes that Unicode makes wider, and the end that forgives a trailing newline (R1).
WIDE_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[dDwW]")
END = re.compile(r"(?<!\\)(?:\\\\)*\$")
#: A set of characters; in it a `$` is a dollar.
SET = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]")
#: What Unicode makes wider than ASCII (R1).
WIDE = {"isdigit", "isnumeric", "isdecimal", "isalnum", "isalpha"}

HERE = errors.__name__

each_module = pytest.mark.parametrize(
    "module", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES]
)


def calls(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def is_loose(pattern: str) -> bool:
    """Say whether a pattern matches what nobody had in mind."""
    return bool(WIDE_CLASS.search(pattern) or END.search(SET.sub("", pattern)))


def test_the_search_for_loose_patterns_finds_them_and_no_others() -> None:
    assert [is_loose(text) for text in (r"\d", r"a$", r"[\w]", r"\\\w")] == [True] * 4
    assert [is_loose(text) for text in (r"[!#$%]", r"\$", r"\\d", r"[^\]$]")] == [False] * 4


@each_module
def test_a_module_says_what_it_is_for(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text("utf-8")))


@each_module
def test_only_the_rooms_that_speak_print(module: Path) -> None:
    if module.relative_to(PACKAGE).parts[0] in SPEAKERS:
        return
    tree = ast.parse(module.read_text("utf-8"))

    printed = [
        c.lineno for c in calls(tree) if isinstance(c.func, ast.Name) if c.func.id == "print"
    ]

    assert printed == []


@each_module
def test_patterns_are_ascii_and_end_where_the_text_ends(module: Path) -> None:
    loose = [
        (call.lineno, argument.value)
        for call in calls(ast.parse(module.read_text("utf-8")))
        if isinstance(call.func, ast.Attribute)
        if ast.unparse(call.func.value) == "re"
        if "re.ASCII" not in ast.unparse(call)
        for argument in ast.walk(call)
        if isinstance(argument, ast.Constant)
        if isinstance(argument.value, str)
        if is_loose(argument.value)
    ]

    assert loose == []


@each_module
def test_no_question_about_text_is_wider_than_ascii(module: Path) -> None:
    text = module.read_text("utf-8")
    wide = [
        line
        for call in calls(ast.parse(text))
        if isinstance(call.func, ast.Attribute)
        if call.func.attr in WIDE
        if ".isascii()" not in (line := text.splitlines()[call.lineno - 1])
    ]

    assert wide == []


@each_module
def test_what_a_module_lists_is_there(module: Path) -> None:
    dotted = ".".join(("resolver", *module.relative_to(PACKAGE).with_suffix("").parts))
    loaded = import_module(dotted.removesuffix(".__init__"))

    listed = getattr(loaded, "__all__", [])

    assert len(set(listed)) == len(listed)
    assert [name for name in listed if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("name", sorted(getattr(resolver, "__all__", ["__all__"])))
def test_what_is_public_is_there_and_documented(name: str) -> None:
    member = getattr(resolver, name)

    assert name in dir(resolver)
    assert name.startswith("__") or member.__doc__


def test_what_is_public_is_listed_once_and_in_order() -> None:
    listed = list(resolver.__all__)

    assert listed == sorted(set(listed))


def tree_of(root: type[errors.ResolverError]) -> list[type[errors.ResolverError]]:
    return [root, *(error for child in root.__subclasses__() for error in tree_of(child))]


def test_every_error_has_a_code_of_its_own_and_says_what_it_means() -> None:
    """Of those in `errors.py`; what a module derives for itself answers as its parent does."""
    tree = [error for error in tree_of(errors.ResolverError)[1:] if error.__module__ == HERE]

    assert {error.__name__ for error in tree if not error.__doc__} == set()
    assert {error.__name__ for error in tree if "code" not in vars(error)} == set()
    assert len({error.code for error in tree}) == len(tree)


def test_every_kind_of_failure_has_a_status_of_its_own() -> None:
    assert {kind.status for kind in errors.ErrorKind} == set(range(1, 9))
