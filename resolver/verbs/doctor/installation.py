"""What is installed: Python, packages that are needed, and those that make things faster."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from resolver._version import __version__
from resolver.core.parse.document import similar
from resolver.core.platforms.platform import Platform
from resolver.core.results.doctor import Requirement, is_outside, read_requirement
from resolver.core.variables import PREFIX, VARIABLES
from resolver.files.platforms import host_platform, load_table
from resolver.verbs.doctor.machine import note, ok, warning, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.doctor import CheckupRow
    from resolver.verbs.doctor.machine import MachineReport


_GROUP = "installation"
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
        yield wrong(_GROUP, "python", f"{text} is too old", "use Python 3.11 or newer")
    else:
        yield ok(_GROUP, "python", text, version=text.partition(" ")[0], path=sys.executable)
    yield ok(_GROUP, "resolver", __version__, version=__version__)


def platform(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the default platform."""
    here = str(host_platform())
    wanted = machine.settings.platform
    if wanted is None:
        yield ok(_GROUP, "platform", here, platform=here)
        return
    by = next(name for name in _PLATFORM if machine.environment.get(name))
    if wanted != "local":
        table = load_table(machine.settings.platforms_file)
        Platform.parse(wanted, host=host_platform(), table=table)
    yield ok(_GROUP, "platform", f"{wanted}, as `{by}` sets; this is {here}", platform=wanted)


def packages(_machine: object) -> Iterator[CheckupRow]:
    """Compare what is installed with what is needed."""
    try:
        needed = requires(_OURS) or []
    except PackageNotFoundError:
        hint = f"pip install {_OURS}"
        yield note(_GROUP, "packages", "run from a folder: what is needed is not known", hint)
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
            return note(_GROUP, needed.name, found, command)
        return wrong(_GROUP, needed.name, "it is not installed", command)
    facts = {"version": here, "needed": needed.bounds}
    try:
        if needed.name in _TRIED:
            import_module(_TRIED[needed.name])
    except ImportError as error:
        found = f"{here} cannot be loaded: {error}"
        return wrong(_GROUP, needed.name, found, f"{command} --force-reinstall", **facts)
    if is_outside(here, needed.bounds):
        return wrong(_GROUP, needed.name, f"{here}; needed is {needed.bounds}", command, **facts)
    return ok(_GROUP, needed.name, here, **facts)


def gzip(_machine: object) -> Iterator[CheckupRow]:
    """Report which library inflates gzip layers."""
    if find_spec("isal") is not None:
        yield ok(_GROUP, "isal", "layers of gzip are read by isal", present=True)
        return
    found = "not installed: `compare --files` and `lint --deep` read gzip by zlib, slower"
    yield note(_GROUP, "isal", found, _FAST, present=False)


def zstd(_machine: object) -> Iterator[CheckupRow]:
    """Report which library inflates zstd layers."""
    for name in ("compression.zstd", "backports.zstd"):
        if _is_here(name):
            yield ok(_GROUP, "zstd", f"layers of zstd are read by {name}", present=True)
            return
    found = "not installed: `compare --files` and `lint --deep` cannot read layers of zstd"
    yield note(_GROUP, "zstd", found, _FAST, present=False)


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
    found = f"progress is shown {progress}; a password is {prompts}; no colours are used"
    facts = {"stdin": seat.stdin, "stdout": seat.stdout, "stderr": seat.stderr}
    yield ok("terminal", "terminal", found, **facts)
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
            yield ok("variables", name, "set, and empty: the same as not set")
        else:
            option = f", as {known.option}" if known.option else ""
            yield ok("variables", name, f"set{option}")


def _unknown(name: str) -> CheckupRow:
    # Without what all begin with, which is alike; `similar` compares in lower case, with dashes.
    spelled = {each.removeprefix(PREFIX).lower().replace("_", "-"): each for each in VARIABLES}
    meant = spelled.get(similar(name.removeprefix(PREFIX), tuple(spelled)), "")
    hint = f"did you mean `{meant}`?" if meant else "unset it; see `resolver help configuration`"
    return warning("variables", name, "nothing reads this variable", hint, meant=meant)
