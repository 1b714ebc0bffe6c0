"""Which logins there are: the names of registries and the places, and never a value.

No helper is run. A place that cannot be used is told of like any other, with what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import InvalidConfiguration
from resolver.sources.credentials.chain import FILES, docker_legacy
from resolver.sources.credentials.files import VARIABLE, decode_entry, read_auth_file, read_variable
from resolver.sources.credentials.helpers import Helpers, program_name, valid_name
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from resolver.sources.credentials.files import AuthFile


@dataclass(frozen=True, slots=True)
class HelperFound:
    """A helper that a place names.

    Attributes:
        registries: what it is for; empty for every other one.
        path: of its program; None when that is not installed.

    """

    program: str
    registries: tuple[str, ...]
    path: str | None


@dataclass(frozen=True, slots=True)
class PlaceFound:
    """A place that may hold logins.

    Attributes:
        place: path of a file, or name of a variable.
        exists: whether there is one.
        registries: keys under which something is kept, without what may be a secret in them.
        helpers: those it names.
        shared: other users may read it, and something is kept in it.
        problems: what cannot be used, each in a sentence that shows no value.

    """

    place: str
    exists: bool
    registries: tuple[str, ...] = ()
    helpers: tuple[HelperFound, ...] = ()
    shared: bool = False
    problems: tuple[InvalidConfiguration, ...] = ()


def census(
    environment: Mapping[str, str], home: Path | None, named: Path | None
) -> Iterator[PlaceFound]:
    """Look at every place, in the order they are asked; those behind a named file are not.

    Args:
        environment: for places, and for helpers on its `PATH`.
        home: of the user.
        named: the file that replaces those in default places.

    """
    helpers = Helpers(environment)
    text = environment.get(VARIABLE)
    if text:
        yield _look(VARIABLE, lambda: read_variable(text)[0], helpers)
    places = [(named, False)] if named is not None else []
    if named is None:
        places = [
            (path, place is docker_legacy)
            for _name, place in FILES
            if (path := place(environment, home)) is not None
        ]
    for path, legacy in places:
        yield _look(str(path), _reader(path, legacy=legacy), helpers)


def _reader(path: Path, *, legacy: bool) -> Callable[[], AuthFile | None]:
    return lambda: read_auth_file(path, legacy=legacy)


def _look(place: str, read: Callable[[], AuthFile | None], helpers: Helpers) -> PlaceFound:
    try:
        file = read()
    except InvalidConfiguration as error:
        return PlaceFound(place, exists=True, problems=(error,))
    if file is None:
        return PlaceFound(place, exists=False)
    registries, problems = [], []
    for key, entry in file.auths.items():
        try:
            kept = decode_entry(place, file.entry_field(_shown(key)), entry)
        except InvalidConfiguration as error:
            problems.append(error)
            continue
        if kept is not None:
            registries.append(_shown(key))
    programs, faults = _helpers(file, helpers)
    return PlaceFound(
        place,
        exists=True,
        registries=tuple(registries),
        helpers=tuple(programs),
        shared=file.shared and bool(registries),
        problems=(*problems, *faults),
    )


def _helpers(
    file: AuthFile, helpers: Helpers
) -> tuple[list[HelperFound], list[InvalidConfiguration]]:
    """List the helpers that a file names, first the one for all; an empty name is none."""
    # By name, and whether it is for all: `credsStore` and `credHelpers` may name the same one.
    named: dict[tuple[str, bool], list[str]] = {}
    problems = []
    for key, name in (("", file.store), *file.helpers.items()):
        if name is None or name == "":
            continue
        if isinstance(name, str) and valid_name(name):
            named.setdefault((name, not key), []).append(_shown(key))
            continue
        field = f"credHelpers.{_shown(key)}" if key else "credsStore"
        problems.append(InvalidConfiguration(file.place, field, "it is no name of a helper"))
    found = [
        HelperFound(program_name(name), () if for_all else tuple(keys), helpers.locate(name))
        for (name, for_all), keys in named.items()
    ]
    return found, problems


def _shown(key: str) -> str:
    """Show the name of an entry; somebody may have put a login into a URL."""
    scheme, colon, rest = key.rpartition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}"
