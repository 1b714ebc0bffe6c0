"""The shapes of platform facts: what `platforms.yaml` says, as values.

`Facts` is the whole file. The built-in one is `platform_facts.FACTS`; a user's own file becomes
another one, and `platform_merge.merged` joins the two. `PlatformTable` answers questions on it.

Named tuples rather than dataclasses: seven of those take 3 ms to make, in every run.
"""

from __future__ import annotations

from typing import NamedTuple

Pairs = tuple[tuple[str, str], ...]


class Fallback(NamedTuple):
    """Another architecture that runs on this one too; `grade` is a `Grade` value."""

    architecture: str
    variant: str = ""
    grade: str = "abi"


class Branch(NamedTuple):
    """Ascending levels beside a family's own; `joins` names the one of those each runs too."""

    variants: tuple[str, ...]
    joins: Pairs


class Family(NamedTuple):
    """The rules of one architecture; the fields are explained at the top of `platforms.yaml`.

    Attributes:
        lowest: the lowest level v<number>; None when levels are not numbered.
        limit: the highest number that is taken for a level.

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
    """A build and what people call it."""

    build: int
    release: str
    names: tuple[str, ...]


class WindowsFacts(NamedTuple):
    """Which builds there are, and which run on which.

    Attributes:
        version: what stands before the build, as in `10.0`.
        stable_abi_from: the first build whose hosts run more than their own build; 0 = unset.
        long_term: builds of long-term releases, ascending.

    """

    version: str = ""
    stable_abi_from: int = 0
    long_term: tuple[int, ...] = ()
    releases: tuple[WindowsRelease, ...] = ()


class HostFacts(NamedTuple):
    """What machines call themselves; each table maps their word to ours."""

    systems: Pairs = ()
    machines: Pairs = ()
    little_endian: Pairs = ()
    narrow: Pairs = ()
    arm_cpus: Pairs = ()
    arm_models: Pairs = ()
    amd64_levels: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Runner(NamedTuple):
    """A CI machine; `os_version` names the Windows build it runs."""

    provider: str
    label: str
    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""


#: Words by architecture.
Words = tuple[tuple[str, tuple[str, ...]], ...]


class PathFacts(NamedTuple):
    """How paths in an image name an architecture; explained at the top of `paths` in the file."""

    names: Words = ()
    loaders: Words = ()
    libraries: Words = ()


class Facts(NamedTuple):
    """Everything `platforms.yaml` says."""

    assumed_system: str = ""
    systems: tuple[str, ...] = ()
    system_aliases: Pairs = ()
    architectures: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    windows: WindowsFacts = WindowsFacts()
    hosts: HostFacts = HostFacts()
    runners: tuple[Runner, ...] = ()
    paths: PathFacts = PathFacts()
