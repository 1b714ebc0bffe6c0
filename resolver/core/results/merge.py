"""Answers as lines of JSON, to be read back as the same values: `--results` and `merge`.

A value is written with its class, and read only as one of this program's plain values. Each line
has a checksum, so that a torn or edited one is asked again instead of believed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import datetime
from enum import Enum
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resolver import errors
from resolver.errors import ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SCHEMA = 1
#: Modules whose classes are read; they have no side effects.
_MODULES = re.compile(r"resolver\.core(?:\.[a-z_]+)+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
#: Key of a value's class; no field has this name.
_CLASS = "@"
#: What a damaged line can raise while it is read.
_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ImportError,
    ResolverError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Question:
    """What one run of a batch verb asks of each of its references.

    Attributes:
        verb: the command.
        platforms: as requested; None for this machine's own.
        file: the lock file; empty for other verbs.
        shard: `I/N`; empty for all references.
        keys: of the references asked, in order.
    """

    verb: str
    platforms: tuple[str | None, ...]
    file: str
    shard: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one reference.

    Attributes:
        key: of reference, platforms and everything else that was asked.
        at: when it was answered, in seconds since 1970.
        value: of the verb, or the error.
    """

    key: str
    reference: str
    at: float
    value: Any


_KINDS: dict[str, type[Question | Answered]] = {"question": Question, "answer": Answered}


def key_of(verb: str, reference: str, *parts: object) -> str:
    """Return the key of an answer: 128 bits of everything that it depends on."""
    text = json.dumps([verb, reference, [encode(part) for part in parts]], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:32]


def write_line(what: Question | Answered, clean: Callable[[str], str] = str) -> bytes:
    """Write a line with its checksum; `clean` takes out secrets."""
    kind = "question" if isinstance(what, Question) else "answer"
    facts = {field.name: getattr(what, field.name) for field in dataclasses.fields(what)}
    encoded = {name: encode(value) for name, value in facts.items()}
    body = clean(json.dumps({"schema": SCHEMA, "kind": kind, **encoded}))
    return f'{body[:-1]}, "sum": "{_sum(body)}"}}\n'.encode()


def read_line(line: bytes) -> Question | Answered | None:
    """Read a line; None if it is damaged."""
    try:
        document = json.loads(line)
        checksum = document.pop("sum")
        if checksum != _sum(json.dumps(document)) or document.pop("schema") != SCHEMA:
            return None
        kind: type[Question | Answered] = _KINDS[document.pop("kind")]
        return kind(**{name: decode(value) for name, value in document.items()})
    except _DAMAGE:
        return None


def _sum(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def encode(value: Any) -> Any:  # noqa: PLR0911 - one return per kind of value
    """Return a value as JSON; what is not one of ours is written as text."""
    if value is None or (
        isinstance(value, bool | int | float | str) and not isinstance(value, Enum)
    ):
        return value
    if isinstance(value, Enum):
        return {_CLASS: _place(value), "name": value.name}
    if isinstance(value, ResolverError):
        facts = {name: encode(each) for name, each in vars(value).items()}
        return {_CLASS: _place(value), "arguments": encode(value.args), "facts": facts}
    if isinstance(value, datetime):
        return {_CLASS: "datetime", "text": value.isoformat()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {_CLASS: _place(value), **{n: encode(getattr(value, n)) for n in value._fields}}
    if isinstance(value, tuple | list):
        return [encode(each) for each in value]
    if isinstance(value, set | frozenset):
        return {_CLASS: "set", "of": sorted((encode(each) for each in value), key=str)}
    if isinstance(value, dict):
        return {_CLASS: "dict", "of": [[encode(k), encode(v)] for k, v in value.items()]}
    if dataclasses.is_dataclass(value):
        return {
            _CLASS: _place(value),
            **{f.name: encode(getattr(value, f.name)) for f in _fields(value)},
        }
    return str(value)


def decode(value: Any) -> Any:  # noqa: PLR0911 - one return per kind of value
    """Return the value that was encoded; lists become tuples.

    Raises:
        ValueError: it names a class that is not a value of this program.
        KeyError, TypeError, AttributeError, ImportError: it is malformed.
        ResolverError: a field is invalid.
    """
    if isinstance(value, list):
        return tuple(decode(each) for each in value)
    if not isinstance(value, dict):
        return value
    place = value[_CLASS]
    if place == "datetime":
        return datetime.fromisoformat(value["text"])
    if place == "set":
        return frozenset(decode(each) for each in value["of"])
    if place == "dict":
        return {decode(key): decode(each) for key, each in value["of"]}
    kind = _class(place)
    if issubclass(kind, ResolverError):
        error = kind.__new__(kind, *decode(value["arguments"]))
        vars(error).update({name: decode(each) for name, each in value["facts"].items()})
        return error
    if issubclass(kind, Enum):
        return kind[value["name"]]
    return kind(**{name: decode(each) for name, each in value.items() if name != _CLASS})


def _place(value: object) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _fields(value: Any) -> Iterable[Any]:
    return (field for field in dataclasses.fields(value) if field.init)


def _class(place: str) -> type[Any]:
    """Return the class of a value: an error, or plain data of `core`."""
    module, _, name = place.partition(":")
    if module == errors.__name__:
        found = vars(errors)[name]
        if isinstance(found, type) and issubclass(found, ResolverError):
            return found
    elif _MODULES.fullmatch(module) and _NAME.fullmatch(name):
        found = vars(import_module(module))[name]
        plain = dataclasses.is_dataclass(found) or hasattr(found, "_fields")
        if isinstance(found, type) and (plain or issubclass(found, Enum)):
            return found
    raise ValueError(place)
