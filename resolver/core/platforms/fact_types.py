"""The values of `platforms.yaml`.

`Facts` is the whole file. The built-in one is `facts.FACTS`; `schema.merged` adds a user's file.
`PlatformTable` looks them up.

Named tuples, because seven dataclasses would add 3 ms to every start.
"""

from __future__ import annotations

from typing import NamedTuple

Pairs = tuple[tuple[str, str], ...]


class Fallback(NamedTuple):
    """Another architecture that also runs on this one; `grade` is a `Grade` value."""

    architecture: str
    variant: str = ""
    grade: str = "abi"


class Branch(NamedTuple):
    """Ascending levels beside a family's own; `joins` maps each to the own level it also runs."""

    variants: tuple[str, ...]
    joins: Pairs


class Family(NamedTuple):
    """The rules of one architecture; the fields are explained at the top of `platforms.yaml`.

    `lowest`: the lowest level v<number>; None if levels are not numbered. `limit`: the highest
    number of a level.
    """

    name: str
    aliases: tuple[str, ...] = ()
    forced: Pairs = ()
    spellings: Pairs = ()
    assumed: str = ""
    baseline: str = ""
    variants: tuple[str, ...] = ()
    branches: tuple[Branch, ...] = ()
    lowest: int | None = None
    limit: int = 99
    unlisted: str = "plain"
    falls_back_to: tuple[Fallback, ...] = ()


class WindowsRelease(NamedTuple):
    """A Windows build and the names of its release."""

    build: int
    release: str
    names: tuple[str, ...]


class WindowsFacts(NamedTuple):
    """The known Windows builds, and which run on which; 0 for an unset build."""

    version: str = ""
    stable_abi_from: int = 0
    long_term: tuple[int, ...] = ()
    releases: tuple[WindowsRelease, ...] = ()


class HostFacts(NamedTuple):
    """Names that machines report, each mapped to ours."""

    systems: Pairs = ()
    machines: Pairs = ()
    little_endian: Pairs = ()
    narrow: Pairs = ()
    arm_cpus: Pairs = ()
    arm_models: Pairs = ()
    amd64_levels: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Runner(NamedTuple):
    """A CI runner; `os_version` is its Windows build."""

    provider: str
    label: str
    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""


#: Words by architecture.
Words = tuple[tuple[str, tuple[str, ...]], ...]


class PathFacts(NamedTuple):
    """Words in paths that indicate an architecture; explained at the top of `paths` in the file."""

    names: Words = ()
    loaders: Words = ()
    libraries: Words = ()


class Facts(NamedTuple):
    """The contents of `platforms.yaml`."""

    assumed_system: str = ""
    systems: tuple[str, ...] = ()
    system_aliases: Pairs = ()
    architectures: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    windows: WindowsFacts = WindowsFacts()
    hosts: HostFacts = HostFacts()
    runners: tuple[Runner, ...] = ()
    paths: PathFacts = PathFacts()
