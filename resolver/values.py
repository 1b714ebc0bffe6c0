"""`dataclass` and `pattern`, like those of the standard library, but cheaper to import.

`dataclasses` compiles six methods for each frozen class at import: 0.45 ms a class, for the hundred
and more classes that a command imports and mostly does not use. This one compiles none (0.08 ms):
`__init__` is generated when the first instance is made, and the standard library generates the
other methods when one of them is first called. The result is a
dataclass to `dataclasses.fields`, `replace`, `asdict` and type checkers. With plain dataclasses,
`resolver resolve` from the store takes 45 % more user CPU time.

Not supported, because unused: `InitVar`, `kw_only` fields, `weakref_slot`, `unsafe_hash`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
    from re import compile as pattern

    __all__ = ["dataclass", "pattern"]
else:

    class pattern:  # noqa: N801 - stands for the function `re.compile`
        """A regular expression that is compiled when it is first used.

        A command uses few of the hundred that its modules define, and compiling one takes 0.2 ms.
        """

        def __init__(self, *arguments: Any) -> None:
            self._arguments = arguments

        def __getattr__(self, name: str) -> Any:
            value = getattr(re.compile(*self._arguments), name)
            # Found without this method from now on.
            setattr(self, name, value)
            return value

    def dataclass(
        *,
        frozen: bool = False,
        slots: bool = False,
        eq: bool = True,
        order: bool = False,
        repr: bool = True,  # noqa: A002 - as the standard library calls it
    ) -> Any:
        """Turn a class into a dataclass; the arguments are those of `dataclasses.dataclass`."""
        options = {"frozen": frozen, "eq": eq, "order": order, "repr": repr}

        def make(cls: type) -> type:
            own = dict(vars(cls))
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
            if "__init__" not in own:
                made.__init__ = _init_placeholder(made)
                made.__signature__ = _Signature()
            _add_placeholders(made, own, options)
            return made

        return make


_ORDER = ("__lt__", "__le__", "__gt__", "__ge__")


def _init_placeholder(cls: Any) -> Any:
    """Return an `__init__` that generates the real one, and calls it, for the first instance."""

    def placeholder(self: Any, *arguments: Any, **named: Any) -> None:
        written = cls.__init__ = _init(cls)
        written(self, *arguments, **named)

    placeholder.__name__, placeholder.__qualname__ = "__init__", f"{cls.__qualname__}.__init__"
    placeholder.written_for = cls  # type: ignore[attr-defined]
    return placeholder


class _Signature:
    """The signature of a class, for `inspect.signature` and the tools that use it."""

    def __get__(self, _instance: object, owner: Any) -> Any:
        import inspect  # noqa: PLC0415 - rarely asked for

        cls = getattr(owner.__init__, "written_for", None)
        full = inspect.signature(owner.__init__ if cls is None else _init(cls))
        return full.replace(parameters=[*full.parameters.values()][1:])


def _init(cls: Any) -> Any:
    """Generate `__init__`, which sets the fields in their order."""
    scope: dict[str, Any] = {"_put": object.__setattr__}
    parameters, lines = ["self"], []
    for field in dataclasses.fields(cls):
        name = field.name
        value = name
        if field.default_factory is not dataclasses.MISSING:
            scope[f"_make_{name}"] = field.default_factory
            value = f"_make_{name}() if {name} is _make_{name} else {name}"
            default = f"_make_{name}"
        elif field.default is not dataclasses.MISSING:
            scope[f"_default_{name}"] = field.default
            default = f"_default_{name}"
        else:
            default = ""
        if field.init:
            parameters.append(f"{name}={default}" if default else name)
        elif default:
            value = f"{default}()" if default.startswith("_make_") else default
        else:
            continue
        lines.append(f" _put(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or [" pass"]), scope)  # noqa: S102 - from names that Python has accepted
    scope["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    return scope["__init__"]


def _add_placeholders(cls: Any, own: dict[str, Any], options: dict[str, bool]) -> None:
    """Add placeholders for methods that the class does not define itself."""
    names = ["__repr__"] if options["repr"] else []
    names += ["__eq__"] if options["eq"] else []
    names += _ORDER if options["order"] else []
    if options["eq"] and options["frozen"]:
        names.append("__hash__")
    elif options["eq"] and "__hash__" not in own:
        cls.__hash__ = None
    names = [name for name in names if name not in own]

    def write() -> None:
        twin: Any = dataclasses.dataclass(init=False, **options)(_twin(cls))
        for name in names:
            setattr(cls, name, vars(twin)[name])

    for name in names:
        setattr(cls, name, _placeholder(cls, name, write))
    if options["frozen"]:
        cls.__setattr__, cls.__delattr__ = _refuse_to_set, _refuse_to_delete
        if "__slots__" in vars(cls):
            cls.__getstate__, cls.__setstate__ = _state, _take_state


def _twin(cls: Any) -> type:
    """Return a class with the same fields only, for the standard library to generate methods on.

    Inherited fields become its own: the standard library does not know that a base is frozen.
    """
    fields = dataclasses.fields(cls)
    body: dict[str, Any] = {
        field.name: dataclasses.field(repr=field.repr, hash=field.hash, compare=field.compare)
        for field in fields
    }
    body["__annotations__"] = {field.name: field.type for field in fields}
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (), body)


def _placeholder(cls: Any, name: str, write: Any) -> Any:
    def placeholder(self: Any, *arguments: Any) -> Any:
        if vars(cls)[name] is placeholder:
            write()
        return vars(cls)[name](self, *arguments)

    placeholder.__name__, placeholder.__qualname__ = name, f"{cls.__qualname__}.{name}"
    return placeholder


def _refuse_to_set(_self: Any, name: str, _value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _take_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
