"""Our `dataclass` behaves like the standard library's."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import pickle
import threading
from dataclasses import field
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import pytest

import resolver
from resolver import values

T = TypeVar("T")

KINDS = [
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "order": True},
    {"frozen": True, "slots": True, "eq": False},
    {"frozen": True, "slots": True, "repr": False},
    {"slots": True},
    {"eq": False},
]


class Body:
    """The class body for both decorators."""

    one: int
    two: str = "2"
    three: list[int] = field(default_factory=list, repr=False, compare=False)
    four: int = field(init=False, default=4)
    five: ClassVar[int] = 5

    def sum(self) -> int:
        return self.one + self.four


def both(**kind: bool) -> tuple[type, type]:
    def plain(decorator: object) -> type:
        body = {k: v for k, v in vars(Body).items() if k not in {"__dict__", "__weakref__"}}
        body["__annotations__"] = dict(Body.__annotations__)
        made: type = decorator(type("Body", (), body))  # type: ignore[operator]  # either one
        return made

    return plain(values.dataclass(**kind)), plain(dataclasses.dataclass(**kind))


def outcome(do: object) -> object:
    try:
        return do()  # type: ignore[operator]  # a test's own function
    except Exception as error:  # noqa: BLE001 - what is raised is what is compared
        return type(error)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_value_class_behaves_like_a_standard_dataclass(kind: dict[str, bool]) -> None:
    ours, theirs = both(**kind)
    acts = [
        lambda c: c(1) == c(1),
        lambda c: c(1) == c(2),
        lambda c: c(1).__eq__(1),
        lambda c: c(1, "x", [3]) == c(1, "x", [4]),
        lambda c: c(1) < c(2),
        lambda c: min(c(2), c(1)).one,
        lambda c: hash(c(1)) == hash(c(1)),
        lambda c: hash(c(1)) == hash(c(2)),
        lambda c: len({c(1), c(1)}),
        lambda c: repr(c(1)).startswith("Body(one=1, two='2', four=4)"),
        lambda c: setattr(c(1), "one", 2),
        lambda c: setattr(c(1), "four", 2),
        lambda c: delattr(c(1), "one"),
        lambda c: c(),
        lambda c: c(1, four=2),
        lambda c: c(1).three is c(1).three,
        lambda c: c(one=1, two="z").two,
        lambda c: c(1).sum(),
        lambda c: c.five,
        lambda c: hasattr(c(1), "__dict__"),
        lambda c: dataclasses.replace(c(1), two="9").two,
        lambda c: dataclasses.asdict(c(1)),
        lambda c: [f.name for f in dataclasses.fields(c)],
        lambda c: copy.deepcopy(c(7)).one,
        lambda c: list(inspect.signature(c).parameters),
        lambda c: c.__match_args__,
    ]
    for number, act in enumerate(acts):
        mine, expected = (outcome(lambda act=act, c=c: act(c)) for c in (ours, theirs))
        assert mine == expected, number


def test_frozen_value_refuses_unknown_fields() -> None:
    ours, _ = both(frozen=True, slots=True)

    with pytest.raises(AttributeError):
        ours(1).other = 1


@values.dataclass(frozen=True, slots=True)
class Pair(Generic[T]):
    first: T
    second: int = 0

    def __post_init__(self) -> None:
        if self.second < 0:
            raise ValueError(self.second)

    def __repr__(self) -> str:
        return f"<{self.first}>"


@values.dataclass(frozen=True, slots=True, order=True)
class Longer(Pair[str]):
    third: int = 0


def test_value_class_may_inherit_from_another() -> None:
    assert Longer("a", 1, 2) == Longer("a", 1, 2) != Longer("a", 2, 2)
    assert Longer("a", 1, 2) < Longer("a", 2, 0)
    assert len({Longer("a"), Longer("a"), Longer("b")}) == 2
    assert repr(Longer("a")) == "Longer(first='a', second=0, third=0)"
    assert pickle.loads(pickle.dumps(Longer("a", 3))) == Longer("a", 3)
    with pytest.raises(AttributeError):
        Longer("a").third = 1  # type: ignore[misc]  # that it is frozen is what is tested


def test_value_class_keeps_its_own_methods() -> None:
    assert repr(Pair("a")) == "<a>"
    assert Pair[int](1) == Pair(1)
    with pytest.raises(ValueError, match="-1"):
        Pair(1, -1)


def test_value_class_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Pair("a", 3))) == Pair("a", 3)


def test_value_class_methods_are_created_once_by_many_threads() -> None:
    ours, _ = both(frozen=True, slots=True)
    barrier = threading.Barrier(8)
    found: list[object] = []

    def look() -> None:
        barrier.wait()
        found.append((ours(1) == ours(1), hash(ours(1)) == hash(ours(1)), len(repr(ours(1))) > 5))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [(True, True, True)] * 8


def test_every_module_uses_the_value_decorator() -> None:
    """The other decorator costs every run of the command 0.4 ms a class."""
    package = Path(resolver.__file__).parent
    others = [
        path.name
        for path in package.rglob("*.py")
        if path.name != "values.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        if any(alias.name == "dataclass" for alias in node.names)
    ]

    assert others == []
