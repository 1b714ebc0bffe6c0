"""Logins: for which registries, and where they are; never what they are, and no helper is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resolver.sources.credentials.survey import census
from resolver.verbs.doctor.machine import failed, note, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.doctor import CheckupRow
    from resolver.sources.credentials.survey import HelperFound, PlaceFound
    from resolver.verbs.doctor.machine import MachineReport

_GROUP = "logins"


def explicit(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report credentials that take precedence over all files."""
    settings = machine.settings
    if settings.anonymous:
        yield note(_GROUP, "anonymous", "no login is used (`--anonymous`, `RESOLVER_ANONYMOUS`)")
    if settings.username is not None:
        found = "user name and password are set, and are sent to every registry that is named"
        yield note(_GROUP, "given", found)


def places(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report which files hold logins, and for which registries."""
    named, by = _named(machine)
    count = 0
    for place in census(machine.environment, machine.settings.home, named):
        if place.exists:
            count += 1
            yield from _place(place)
        elif named is not None:
            hint = f"fix {by}, or write the file: `resolver login REGISTRY --auth-file {named}`"
            count += 1
            yield warning(_GROUP, place.place, f"there is no such file, and {by} names it", hint)
    if not count:
        hint = "resolver login REGISTRY"
        yield note(_GROUP, "files", "none; registries are used anonymously", hint)


def _named(machine: MachineReport) -> tuple[Path | None, str]:
    """Return the file that replaces the default ones, and what names it."""
    if machine.settings.auth_file is not None:
        return machine.settings.auth_file, "`--auth-file`"
    path = machine.environment.get("REGISTRY_AUTH_FILE")
    return (Path(path) if path else None), "`REGISTRY_AUTH_FILE`"


def _place(place: PlaceFound) -> Iterator[CheckupRow]:
    names = place.registries
    facts = {"registries": names, "helpers": tuple(each.program for each in place.helpers)}
    if place.shared:
        found = f"{_listed(names)}; other users may read it"
        yield warning(_GROUP, place.place, found, f"chmod 600 {place.place}", **facts)
    elif names:
        yield ok(_GROUP, place.place, _listed(names), **facts)
    elif not place.problems:
        yield ok(_GROUP, place.place, "no logins in it", **facts)
    for problem in place.problems:
        yield failed(_GROUP, place.place, problem)
    for helper in place.helpers:
        yield _helper(place, helper)


def _helper(place: PlaceFound, helper: HelperFound) -> CheckupRow:
    whom = _listed(helper.registries) if helper.registries else "every other registry"
    facts = {"path": helper.path, "registries": helper.registries}
    if helper.path is None:
        hint = f"install it, or remove it from `{place.place}`"
        return warning(_GROUP, helper.program, f"for {whom}; it is not on PATH", hint, **facts)
    return ok(_GROUP, helper.program, f"for {whom}; {helper.path}", **facts)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
