"""Check the rules of CONTRIBUTING.md on the source; lint-imports checks the layers."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import resolver
from resolver import errors

PACKAGE = Path(resolver.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
#: Rooms that may print.
PRINTING = ("cli/", "render/")
#: Classes that match more than ASCII in Unicode text, and `$`, which allows a trailing newline.
WIDE_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[dDwW]")
END = re.compile(r"(?<!\\)(?:\\\\)*\$")
#: A character set; `$` in it is literal.
SET = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]")
#: Methods that accept characters beyond ASCII.
WIDE = {"isdigit", "isnumeric", "isdecimal", "isalnum", "isalpha"}

HERE = errors.__name__


@lru_cache(maxsize=1)
def sources() -> dict[str, tuple[str, ast.Module]]:
    """Return the text and the syntax tree of each product file, by its path in the package."""
    texts = {str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in FILES}
    return {path: (text, ast.parse(text)) for path, text in texts.items()}


def calls() -> list[tuple[str, ast.Call]]:
    """Return each call in the product with its place, as `path:line`."""
    return [
        (f"{path}:{node.lineno}", node)
        for path, (_, tree) in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def is_loose(pattern: str) -> bool:
    """Return whether a pattern matches more than ASCII or ignores a trailing newline."""
    return bool(WIDE_CLASS.search(pattern) or END.search(SET.sub("", pattern)))


def test_is_loose_finds_only_unicode_classes_and_dollar_anchors() -> None:
    assert [is_loose(text) for text in (r"\d", r"a$", r"[\w]", r"\\\w")] == [True] * 4
    assert [is_loose(text) for text in (r"[!#$%]", r"\$", r"\\d", r"[^\]$]")] == [False] * 4


def test_architecture_reads_every_product_file() -> None:
    assert {"errors.py", "cli/app.py", "core/oci/digest.py"} <= sources().keys()


def test_every_module_has_a_docstring() -> None:
    assert [path for path, (_, tree) in sources().items() if not ast.get_docstring(tree)] == []


def test_only_cli_and_render_print() -> None:
    printed = [
        place
        for place, call in calls()
        if isinstance(call.func, ast.Name)
        if call.func.id == "print"
        if not place.startswith(PRINTING)
    ]

    assert printed == []


def test_regular_expressions_are_ascii_and_match_to_the_end() -> None:
    loose = [
        (place, argument.value)
        for place, call in calls()
        if isinstance(call.func, ast.Attribute)
        if ast.unparse(call.func.value) == "re"
        if "re.ASCII" not in ast.unparse(call)
        for argument in ast.walk(call)
        if isinstance(argument, ast.Constant)
        if isinstance(argument.value, str)
        if is_loose(argument.value)
    ]

    assert loose == []


def test_character_class_methods_are_limited_to_ascii() -> None:
    wide = []
    for place, call in calls():
        if isinstance(call.func, ast.Attribute) and call.func.attr in WIDE:
            text = sources()[place.partition(":")[0]][0]
            if ".isascii()" not in text.splitlines()[call.lineno - 1]:
                wide.append(place)

    assert wide == []


def test_dunder_all_names_exist_once() -> None:
    wrong = []
    for path, (text, _) in sources().items():
        if "__all__" not in text:
            continue
        dotted = ".".join(("resolver", *Path(path).with_suffix("").parts))
        module = import_module(dotted.removesuffix(".__init__"))
        listed = getattr(module, "__all__", [])
        wrong += [(path, name) for name in listed if not hasattr(module, name)]
        wrong += [(path, name) for name in set(listed) if listed.count(name) > 1]

    assert wrong == []


def test_public_names_exist_and_are_documented() -> None:
    missing = [name for name in resolver.__all__ if name not in dir(resolver)]
    undocumented = [
        name
        for name in resolver.__all__
        # An alias of a type has no docstring of its own.
        if not name.startswith("__") and name != "Observer"
        if not getattr(resolver, name).__doc__
    ]

    assert (missing, undocumented) == ([], [])


def test_public_names_are_listed_once_and_sorted() -> None:
    listed = list(resolver.__all__)

    assert listed == sorted(set(listed))


def error_classes(root: type[errors.ResolverError]) -> list[type[errors.ResolverError]]:
    return [root, *(error for child in root.__subclasses__() for error in error_classes(child))]


def test_every_error_class_has_a_code_and_a_docstring() -> None:
    """Check the classes in `errors.py`; a class derived elsewhere keeps the code of its parent."""
    classes = [c for c in error_classes(errors.ResolverError)[1:] if c.__module__ == HERE]

    assert {error.__name__ for error in classes if not error.__doc__} == set()
    assert {error.__name__ for error in classes if "code" not in vars(error)} == set()
    assert len({error.code for error in classes}) == len(classes)


def test_every_error_kind_has_its_own_exit_status() -> None:
    assert {kind.status for kind in errors.ErrorKind} == set(range(1, 9))
