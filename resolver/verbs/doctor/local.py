"""Check the installation, the terminal, the store and the credentials of this machine."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resolver._version import __version__
from resolver.core.parse.document import similar
from resolver.core.platforms.platform import Platform
from resolver.core.results.doctor import Requirement, is_outside, read_requirement
from resolver.core.variables import PREFIX, VARIABLES
from resolver.errors import StoreFault, megabytes
from resolver.files.platforms import host_platform, load_table
from resolver.sources.credentials.chain import census
from resolver.store.files import file_systems, is_remote
from resolver.verbs.doctor.machine import failed, note, ok, warning, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.doctor import CheckupRow, Fact
    from resolver.sources.credentials.chain import HelperFound, PlaceFound
    from resolver.verbs.doctor.machine import MachineReport


_INSTALLATION = "installation"
_OURS = "multiarch-resolver"
#: Variables that set the default platform, in order of precedence.
_PLATFORM = ("RESOLVER_PLATFORM", "DOCKER_DEFAULT_PLATFORM")
_OLDEST = (3, 11)
_FAST = f"pip install '{_OURS}[fast]'"
#: What cannot be imported once it is here is broken, or made for another machine: the module that
#: is tried, the only one that imports this library.
_TRIED = {
    "httpx": "resolver.sources.http.httpx_engine",
    "pyreqwest": "resolver.sources.http.pyreqwest_engine",
}


def python(_machine: object) -> Iterator[CheckupRow]:
    """Report the versions of Python and `resolver`."""
    here = sys.version_info[:3]
    text = f"{'.'.join(map(str, here))} ({sys.executable})"
    if here < _OLDEST:
        yield wrong(_INSTALLATION, "python", f"{text} is too old", "use Python 3.11 or newer")
    else:
        yield ok(_INSTALLATION, "python", text, version=text.partition(" ")[0], path=sys.executable)
    yield ok(_INSTALLATION, "resolver", __version__, version=__version__)


def platform(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the default platform."""
    here = str(host_platform())
    wanted = machine.settings.platform
    if wanted is None:
        yield ok(_INSTALLATION, "platform", here, platform=here)
        return
    by = next(name for name in _PLATFORM if machine.environment.get(name))
    if wanted != "local":
        table = load_table(machine.settings.platforms_file)
        Platform.parse(wanted, host=host_platform(), table=table)
    yield ok(
        _INSTALLATION, "platform", f"{wanted}, as `{by}` sets; this is {here}", platform=wanted
    )


def packages(_machine: object) -> Iterator[CheckupRow]:
    """Compare installed packages with the requirements."""
    try:
        needed = requires(_OURS) or []
    except PackageNotFoundError:
        hint = f"pip install {_OURS}"
        yield note(
            _INSTALLATION,
            "packages",
            "run from a source folder, so its requirements are unknown",
            hint,
        )
        return
    for each in map(read_requirement, needed):
        if each is not None:
            yield _package(each)


def _package(needed: Requirement) -> CheckupRow:
    command = f"pip install --upgrade '{needed.name}{needed.bounds}'"
    try:
        here = version(needed.name)
    except PackageNotFoundError:
        if needed.on_some:
            found = "it is not installed; it is optional, or not available for this machine"
            return note(_INSTALLATION, needed.name, found, command)
        return wrong(_INSTALLATION, needed.name, "it is not installed", command)
    facts = {"version": here, "needed": needed.bounds}
    try:
        if needed.name in _TRIED:
            import_module(_TRIED[needed.name])
    except ImportError as error:
        found = f"{here} cannot be loaded: {error}"
        return wrong(_INSTALLATION, needed.name, found, f"{command} --force-reinstall", **facts)
    if is_outside(here, needed.bounds):
        return wrong(
            _INSTALLATION, needed.name, f"{here}; required is {needed.bounds}", command, **facts
        )
    return ok(_INSTALLATION, needed.name, here, **facts)


def gzip(_machine: object) -> Iterator[CheckupRow]:
    """Report which library inflates gzip layers."""
    if find_spec("isal") is not None:
        yield ok(_INSTALLATION, "isal", "gzip layers are read with isal", present=True)
        return
    found = (
        "not installed: `compare --files` and `lint --deep` read gzip with zlib, which is slower"
    )
    yield note(_INSTALLATION, "isal", found, _FAST, present=False)


def zstd(_machine: object) -> Iterator[CheckupRow]:
    """Report which library inflates zstd layers."""
    for name in ("compression.zstd", "backports.zstd"):
        if _is_here(name):
            yield ok(_INSTALLATION, "zstd", f"zstd layers are read with {name}", present=True)
            return
    found = "not installed: `compare --files` and `lint --deep` cannot read zstd layers"
    yield note(_INSTALLATION, "zstd", found, _FAST, present=False)


def _is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


#: Tools of `export --to`, and the program of each.
_TOOLS = (("docker", "docker"), ("podman", "podman"), ("containerd", "ctr"))


def tools(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the tools on this machine that can take exported images."""
    for name, program in _TOOLS:
        path = machine.program(program)
        if path is None:
            found = f"`{program}` is not on PATH; only `export --to {name}` needs it"
            yield note("tools", name, found, present=False)
        else:
            yield ok("tools", name, path, path=path, present=True)


def terminal(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report how progress is shown here, and whether prompts are possible."""
    seat = machine.console
    progress = "live" if seat.stderr and not seat.system else "in lines"
    prompts = "prompted for" if seat.stdin and seat.stderr else "not prompted for: --password-stdin"
    colours = "colours are used" if seat.colour else "no colours are used"
    found = f"progress is shown {progress}; a password is {prompts}; {colours}"
    facts = {"stdin": seat.stdin, "stdout": seat.stdout, "stderr": seat.stderr}
    yield ok("terminal", "terminal", found, **facts, colour=seat.colour)
    if seat.system:
        found = f"{seat.system}; `--emit auto` passes answers to it"
        yield ok("terminal", "CI", found, system=seat.system)
    elif machine.environment.get("CI"):
        found = "`CI` is set, but not by a system that `--emit auto` supports"
        yield note("terminal", "CI", found, "resolver help ci", system="")


def variables(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report which of our variables are set; an unknown one is a typing error."""
    yield from machine.set_aside
    told = {row.name for row in machine.set_aside}
    for name in sorted(each for each in machine.environment if each.startswith(PREFIX)):
        known = VARIABLES.get(name)
        if name in told:
            continue
        if known is None:
            yield _unknown(name)
        elif not machine.environment[name]:
            yield ok("variables", name, "set, but empty: the same as not set")
        else:
            option = f", as {known.option}" if known.option else ""
            yield ok("variables", name, f"set{option}")


def _unknown(name: str) -> CheckupRow:
    # Without what all begin with, which is alike; `similar` compares in lower case, with dashes.
    spelled = {each.removeprefix(PREFIX).lower().replace("_", "-"): each for each in VARIABLES}
    meant = spelled.get(similar(name.removeprefix(PREFIX), tuple(spelled)), "")
    hint = f"did you mean `{meant}`?" if meant else "unset it; see `resolver help configuration`"
    return warning("variables", name, "unknown variable", hint, meant=meant)


_STORE = "store"
#: Bytes below which a pull of something ordinary may not fit.
LITTLE_ROOM = 1 << 30
_ANOTHER = "name another folder with `--store` or `RESOLVER_STORE`"


def folder(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the owner of the folder; a missing one is created on first use."""
    root = machine.store.root
    is_store = machine.store.look()
    facts: dict[str, Fact] = {"path": str(root), "exists": is_store is not None}
    if is_store:
        yield ok(_STORE, "folder", str(root), **facts)
        return
    if is_store is False:
        yield ok(_STORE, "folder", f"{root} (empty; becomes a store on first use)", **facts)
        return
    above = _existing(root)
    if os.access(above, os.W_OK | os.X_OK):
        yield ok(_STORE, "folder", f"{root} (does not exist yet; created on first use)", **facts)
        return
    yield wrong(_STORE, "folder", f"{root} cannot be made: `{above}` is not writable", _ANOTHER)


def access(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report which other users can change the store; `folder` reports what is refused for it."""
    try:
        is_there = machine.store.look() is not None
    except StoreFault:
        return
    doubts = machine.store.doubts()
    facts: dict[str, Fact] = {"doubts": doubts, "shared": machine.settings.shared_store}
    if not doubts:
        return
    found = "; ".join(doubts)
    if machine.settings.shared_store:
        accepted = f"{found}; `--shared-store` trusts them"
        yield note(_STORE, "access", accepted, "", **facts)
        return
    hint = f"remove the write permission of others with `chmod`, or {_ANOTHER}"
    yield (warning if is_there else wrong)(_STORE, "access", found, hint, **facts)


def content(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report how much the store holds."""
    if not _is_store(machine):
        return
    used = machine.store.usage()
    total = used.blobs + used.partial + used.temporary
    images = len(used.images)
    found = f"{images} image{'' if images == 1 else 's'}, {megabytes(total)}"
    facts: dict[str, Fact] = {"images": images, "bytes": total, "unused": used.unused}
    if used.unused > total // 2 and used.unused > LITTLE_ROOM:
        hint = "resolver gc"
        yield note(_STORE, "content", f"{found}; {megabytes(used.unused)} unused", hint, **facts)
        return
    yield ok(_STORE, "content", found, **facts)


def room(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the free space."""
    place = os.statvfs(_existing(machine.store.root))
    free = place.f_bavail * place.f_frsize
    found = f"{megabytes(free)} free"
    if place.f_files and not place.f_favail:
        yield wrong(_STORE, "room", "the file system has no free inodes", "resolver gc", bytes=free)
    elif free < LITTLE_ROOM:
        yield warning(_STORE, "room", found, f"resolver gc, or {_ANOTHER}", bytes=free)
    else:
        yield ok(_STORE, "room", found, bytes=free)


def file_system(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the file system; locks on a network one may hold on this machine only."""
    kinds = file_systems(_existing(machine.store.root).stat().st_dev)
    remote = [kind for kind in kinds if is_remote(kind)]
    shown = ", ".join(kinds) or "not known"
    facts: dict[str, Fact] = {"kinds": kinds, "remote": bool(remote)}
    if not remote:
        yield ok(_STORE, "file system", shown, **facts)
    elif not machine.settings.lock:
        found = f"{shown}, over a network; `--unsafe-no-lock` declares that it is not shared"
        yield warning(_STORE, "file system", found, "use a folder on a local disk", **facts)
    else:
        hint = f"{_ANOTHER} on a local disk, or `--unsafe-no-lock` if it is not shared"
        found = f"{shown}: over a network, where locks cannot be relied on"
        yield wrong(_STORE, "file system", found, hint, **facts)


def writing(machine: MachineReport) -> Iterator[CheckupRow]:
    """Take the lock and write a file, in a store that is there; make none that is not."""
    if not _is_store(machine):
        return
    try:
        machine.store.try_writing()
    except StoreFault as error:
        yield failed(_STORE, "writing", error)
        return
    locked = "a file was written and removed" if machine.settings.lock else "written without a lock"
    yield ok(_STORE, "writing", f"{'locked; ' if machine.settings.lock else ''}{locked}")


def _is_store(machine: MachineReport) -> bool:
    """Whether there is a store; `folder` reports one that cannot be used."""
    try:
        return machine.store.look() is True
    except StoreFault:
        return False


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


_LOGINS = "logins"


def explicit(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report credentials that take precedence over all files."""
    settings = machine.settings
    if settings.anonymous:
        yield note(_LOGINS, "anonymous", "no login is used (`--anonymous`, `RESOLVER_ANONYMOUS`)")
    if settings.username is not None:
        found = "user name and password are set, and are sent to every registry that is named"
        yield note(_LOGINS, "given", found)


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
            yield warning(_LOGINS, place.place, f"there is no such file, and {by} names it", hint)
    if not count:
        hint = "resolver login REGISTRY"
        yield note(_LOGINS, "files", "none; registries are used anonymously", hint)


def _named(machine: MachineReport) -> tuple[Path | None, str]:
    if machine.settings.auth_file is not None:
        return machine.settings.auth_file, "`--auth-file`"
    path = machine.environment.get("REGISTRY_AUTH_FILE")
    return (Path(path) if path else None), "`REGISTRY_AUTH_FILE`"


def _place(place: PlaceFound) -> Iterator[CheckupRow]:
    names = place.registries
    facts = {"registries": names, "helpers": tuple(each.program for each in place.helpers)}
    if place.shared:
        found = f"{_listed(names)}; other users may read it"
        yield warning(_LOGINS, place.place, found, f"chmod 600 {place.place}", **facts)
    elif names:
        yield ok(_LOGINS, place.place, _listed(names), **facts)
    elif not place.problems:
        yield ok(_LOGINS, place.place, "no logins in it", **facts)
    for problem in place.problems:
        yield failed(_LOGINS, place.place, problem)
    for helper in place.helpers:
        yield _helper(place, helper)


def _helper(place: PlaceFound, helper: HelperFound) -> CheckupRow:
    registries = _listed(helper.registries) if helper.registries else "every other registry"
    facts = {"path": helper.path, "registries": helper.registries}
    if helper.path is None:
        hint = f"install it, or remove it from `{place.place}`"
        return warning(
            _LOGINS, helper.program, f"for {registries}; it is not on PATH", hint, **facts
        )
    return ok(_LOGINS, helper.program, f"for {registries}; {helper.path}", **facts)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
