"""What is installed: Python, packages that are needed, and those that make things faster."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from resolver import __version__
from resolver.core.package_versions import Requirement, is_outside, read_requirement
from resolver.core.platform import Platform
from resolver.flow.checks.machine import note, ok, warning, wrong
from resolver.platforms import host_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.checkup import Row
    from resolver.flow.checks.machine import Machine

_GROUP = "installation"
_OURS = "multiarch-resolver"
#: Who says which platform is meant, best first.
_PLATFORM = ("RESOLVER_PLATFORM", "DOCKER_DEFAULT_PLATFORM")
_OLDEST = (3, 11)
_FAST = f"pip install '{_OURS}[fast]'"
#: What cannot be imported once it is here is broken, or made for another machine: the module that
#: is tried. The first is the only one that imports httpx and its transport.
_TRIED = {"httpx": "resolver.sources.engine", "pyreqwest": "resolver.sources.engine"}


def python(_machine: Machine) -> Iterator[Row]:
    """Say which Python and which `resolver` these are."""
    here = sys.version_info[:3]
    text = f"{'.'.join(map(str, here))} ({sys.executable})"
    if here < _OLDEST:
        yield wrong(_GROUP, "python", f"{text} is too old", "use Python 3.11 or newer")
    else:
        yield ok(_GROUP, "python", text, version=text.partition(" ")[0], path=sys.executable)
    yield ok(_GROUP, "resolver", __version__, version=__version__)


def platform(machine: Machine) -> Iterator[Row]:
    """Say which platform is meant where nobody names one."""
    here = str(host_platform())
    wanted = machine.settings.platform
    if wanted is None:
        yield ok(_GROUP, "platform", here, platform=here)
        return
    by = next(name for name in _PLATFORM if machine.environment.get(name))
    Platform.parse(wanted if "/" in wanted else here, host=host_platform())
    yield ok(_GROUP, "platform", f"{wanted}, as `{by}` says; this is {here}", platform=wanted)


def packages(_machine: Machine) -> Iterator[Row]:
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


def _package(needed: Requirement) -> Row:
    mend = f"pip install --upgrade '{needed.name}{needed.bounds}'"
    try:
        here = version(needed.name)
    except PackageNotFoundError:
        return wrong(_GROUP, needed.name, "it is not installed", mend)
    facts = {"version": here, "needed": needed.bounds}
    try:
        import_module(_TRIED.get(needed.name, "resolver"))
    except ImportError as error:
        found = f"{here} cannot be loaded: {error}"
        return wrong(_GROUP, needed.name, found, f"{mend} --force-reinstall", **facts)
    if is_outside(here, needed.bounds):
        return wrong(_GROUP, needed.name, f"{here}; needed is {needed.bounds}", mend, **facts)
    return ok(_GROUP, needed.name, here, **facts)


def gzip(_machine: Machine) -> Iterator[Row]:
    """Say what inflates layers of gzip."""
    if find_spec("isal") is not None:
        yield ok(_GROUP, "isal", "layers of gzip are read by isal", present=True)
        return
    found = "not installed: `compare --files` and `lint --deep` read gzip by zlib, slower"
    yield note(_GROUP, "isal", found, _FAST, present=False)


def zstd(_machine: Machine) -> Iterator[Row]:
    """Say what inflates layers of zstd."""
    for name in ("compression.zstd", "backports.zstd"):
        if _is_here(name):
            yield ok(_GROUP, "zstd", f"layers of zstd are read by {name}", present=True)
            return
    found = "not installed: `compare --files` and `lint --deep` cannot read layers of zstd"
    yield warning(_GROUP, "zstd", found, _FAST, present=False)


def _is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
