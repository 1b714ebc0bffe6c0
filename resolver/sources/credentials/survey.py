"""List stored logins: registries and locations, never values.

No helper is run. Unusable locations are listed with their problems.
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
    """A helper that a location names.

    Attributes:
        registries: that use it; empty for all others.
        path: of its program; None if it is not installed.
    """

    program: str
    registries: tuple[str, ...]
    path: str | None


@dataclass(frozen=True, slots=True)
class PlaceFound:
    """A location of logins.

    Attributes:
        place: path of a file, or name of a variable.
        exists: whether it exists.
        registries: keys with a login, without secrets.
        helpers: that it names.
        shared: whether other users can read it and it has logins.
        problems: errors that show no values.
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
    """Scan all locations in search order, without those replaced by a named file."""
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
    """List the helpers that a file names, the general one first; empty names are skipped."""
    # By name and scope: `credsStore` and `credHelpers` may name the same one.
    named: dict[tuple[str, bool], list[str]] = {}
    problems = []
    for key, name in (("", file.store), *file.helpers.items()):
        if name is None or name == "":
            continue
        if isinstance(name, str) and valid_name(name):
            named.setdefault((name, not key), []).append(_shown(key))
            continue
        field = f"credHelpers.{_shown(key)}" if key else "credsStore"
        problems.append(InvalidConfiguration(file.place, field, "it is not a valid helper name"))
    found = [
        HelperFound(program_name(name), () if for_all else tuple(keys), helpers.locate(name))
        for (name, for_all), keys in named.items()
    ]
    return found, problems


def _shown(key: str) -> str:
    """Return the key of an entry without a login in its URL."""
    scheme, colon, rest = key.rpartition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}"
