"""Check the installation and this machine: `CHECKS` lists the checks, and a fault stops none.

To add a check, write a function in a module beside this one and add a row. Only registries named
by the user get requests, one each; nothing is changed, except for a file in an existing store,
which is removed immediately.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from resolver._version import __version__
from resolver.core.results.doctor import Checkup, CheckupRow
from resolver.core.variables import PREFIX
from resolver.errors import ResolverError
from resolver.files.platforms import load_table
from resolver.settings import Flags, Settings
from resolver.verbs.doctor import local, network
from resolver.verbs.doctor.machine import failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolver.verbs.doctor.machine import Look, MachineReport


class DoctorCheck(NamedTuple):
    """One check; group and name label the row when the check itself fails."""

    group: str
    name: str
    look: Look


#: Every check, in the order it is shown.
CHECKS = (
    DoctorCheck("installation", "python", local.python),
    DoctorCheck("installation", "platform", local.platform),
    DoctorCheck("installation", "packages", local.packages),
    DoctorCheck("installation", "isal", local.gzip),
    DoctorCheck("installation", "zstd", local.zstd),
    DoctorCheck("store", "folder", local.folder),
    DoctorCheck("store", "access", local.access),
    DoctorCheck("store", "content", local.content),
    DoctorCheck("store", "room", local.room),
    DoctorCheck("store", "file system", local.file_system),
    DoctorCheck("store", "writing", local.writing),
    DoctorCheck("logins", "given", local.explicit),
    DoctorCheck("logins", "files", local.places),
    DoctorCheck("registries", "config.yaml", network.config),
    DoctorCheck("registries", "files", network.choices),
    DoctorCheck("registries", "answers", network.answers),
    DoctorCheck("network", "offline", network.offline),
    DoctorCheck("network", "authorities", network.authorities),
    DoctorCheck("network", "--ca-file", network.ca_file),
    DoctorCheck("network", "proxies", network.proxies),
    DoctorCheck("network", "clock", network.clock),
    DoctorCheck("tools", "tools", local.tools),
    DoctorCheck("terminal", "terminal", local.terminal),
    DoctorCheck("variables", "variables", local.variables),
)

#: Two that go together.
_LOGIN = ("RESOLVER_USERNAME", "RESOLVER_PASSWORD")


def run_checks(machine: MachineReport, checks: tuple[DoctorCheck, ...] = CHECKS) -> Checkup:
    """Run every check; one that cannot run is a row with the reason."""
    return Checkup(__version__, tuple(row for check in checks for row in _rows(check, machine)))


def check_installation(error: ImportError) -> Checkup:
    """Check the installation where it is too broken for anything else; `error` has the reason."""
    rows = [failed("installation", "session", error)]
    for look in (local.python, local.packages, local.gzip, local.zstd):
        rows += look(None)
    return Checkup(__version__, tuple(rows))


def _rows(check: DoctorCheck, machine: MachineReport) -> Iterator[CheckupRow]:
    try:
        yield from check.look(machine)
    except (ResolverError, OSError, ImportError) as error:
        yield failed(check.group, check.name, error)


def set_aside(environment: Mapping[str, str]) -> tuple[dict[str, str], tuple[CheckupRow, ...]]:
    """Remove our invalid variables from the environment, with a row for each.

    Returns the rest of the environment and the rows.
    """
    left = dict(environment)
    rows: list[CheckupRow] = []
    for name in sorted(each for each in environment if each.startswith(PREFIX)):
        try:
            _try(name, environment)
        except (ResolverError, OSError) as error:
            row = failed("variables", name, error)
            rows.append(replace(row, hint=row.hint or f"unset {name}"))
            left.pop(name, None)
    if any(name not in left for name in _LOGIN):
        for name in _LOGIN:
            left.pop(name, None)
    return left, tuple(rows)


def _try(name: str, environment: Mapping[str, str]) -> None:
    """See whether a session could be made with this variable."""
    alone = {each: environment[each] for each in ("HOME", *_LOGIN) if each in environment}
    if name not in _LOGIN:
        alone = {"HOME": environment.get("HOME", "")}
    # With a store that is named, its usual place need not be found out.
    settings = Settings.load(Flags(), {"RESOLVER_STORE": ".", **alone, name: environment[name]})
    if settings.platforms_file is not None:
        load_table(settings.platforms_file)
