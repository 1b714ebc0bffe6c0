"""The input of a check: settings, environment, places, and a way to contact a registry."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from os import pathsep
from typing import TYPE_CHECKING

from resolver.core.results.doctor import CheckupRow, CheckupState
from resolver.errors import InvalidConfiguration, ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.doctor import Console, Fact
    from resolver.settings import Settings
    from resolver.sources.http.messages import Response
    from resolver.sources.mirrors.hosts import Hosts
    from resolver.store import LocalStore


@dataclass(frozen=True, slots=True, eq=False)
class MachineReport:
    """A machine, as a check sees it.

    Attributes:
        environment: unfiltered, including variables that `settings` could not use.
        hosts: registries named by the user.
        where: the endpoints of each registry.
        knock: sends one request without credentials; None when offline.
        clock: seconds since 1970.
        set_aside: rows about invalid variables, found before there were settings.
    """

    settings: Settings
    environment: Mapping[str, str]
    hosts: tuple[str, ...]
    console: Console
    store: LocalStore
    where: Hosts
    knock: Callable[[str], Response] | None
    clock: Callable[[], float]
    set_aside: tuple[CheckupRow, ...] = ()

    def program(self, name: str) -> str | None:
        """Find a program in the absolute entries of `PATH`.

        See docs/store-and-reliability.md, "Programs on PATH".
        """
        folders = [
            each for each in self.environment.get("PATH", "").split(pathsep) if each.startswith("/")
        ]
        return shutil.which(name, path=pathsep.join(folders))


Look = Callable[[MachineReport], Iterable[CheckupRow]]


def ok(group: str, name: str, found: str, **facts: Fact) -> CheckupRow:
    """Return a row for something that is in order."""
    return CheckupRow(group, name, CheckupState.OK, found, facts=tuple(facts.items()))


def note(group: str, name: str, found: str, hint: str = "", **facts: Fact) -> CheckupRow:
    """Return a row for information."""
    return CheckupRow(group, name, CheckupState.NOTE, found, hint, tuple(facts.items()))


def warning(group: str, name: str, found: str, hint: str, **facts: Fact) -> CheckupRow:
    """Return a row for something that may cause failures, with what to do."""
    return CheckupRow(group, name, CheckupState.WARNING, found, hint, tuple(facts.items()))


def wrong(group: str, name: str, found: str, hint: str, **facts: Fact) -> CheckupRow:
    """Return a row for something that causes failures, with what to do."""
    return CheckupRow(group, name, CheckupState.ERROR, found, hint, tuple(facts.items()))


def failed(group: str, name: str, error: ResolverError | OSError | ImportError) -> CheckupRow:
    """Return a row for a check that could not run."""
    if isinstance(error, ImportError):
        found = f"a package cannot be loaded: {error}"
        return wrong(group, name, found, "pip install --force-reinstall multiarch-resolver")
    if isinstance(error, InvalidConfiguration) and error.place == name:
        at = f"at `{error.field}`: " if error.field else ""
        return wrong(group, name, f"{at}{error.reason}", f"fix or remove `{name}`", code=error.code)
    if isinstance(error, ResolverError):
        hint = next(iter(error.hints()), "")
        return wrong(group, name, str(error), hint, code=error.code)
    place = f"`{error.filename}`: " if error.filename else ""
    reason = (error.strerror or str(error)).lower()
    return wrong(group, name, f"{place}{reason}", "")
