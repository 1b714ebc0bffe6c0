"""Find what to show a registry: `CREDENTIALS` names the sources, `CredentialChain` asks them.

There is no order that all clients share; ours is the order of the table, and `--verbose` names the
source that answered. The first source that has a credential wins (protocol.md 12.1).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.core.events import ignore
from resolver.sources.credential_entries import same_registry
from resolver.sources.credential_files import VARIABLE
from resolver.sources.credential_helpers import Once
from resolver.sources.credential_reader import Reader
from resolver.sources.credential_values import ANONYMOUS, Credential, Found, Secret
from resolver.sources.redaction import Redactor
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.events import Observer

__all__ = [
    "ANONYMOUS",
    "CREDENTIALS",
    "Credential",
    "CredentialChain",
    "CredentialSource",
    "Found",
    "Secret",
    "Wanted",
]

NOBODY: Final = "no source"
"""What `Found.source` says when there is no credential, and no problem either."""


@dataclass(eq=False)
class CredentialChain:
    """Asks the sources in order, and remembers; safe to use from many threads.

    Attributes:
        environment: for the places of files, `DOCKER_AUTH_CONFIG`, and helpers.
        home: the user's folder; None means that nothing is looked for there.
        explicit: a credential from flags, or from a caller of the library.
        explicit_hosts: the registries `explicit` is meant for; it is shown to no other.
        anonymous: find nothing, read nothing, run nothing.
        auth_file: a file to use instead of those in default places.
        observe: is told of warnings, and of the source that answered.
        redactor: learns every secret that is found.
    """

    environment: Mapping[str, str] = field(repr=False)
    home: Path | None
    explicit: Credential | None = None
    explicit_hosts: frozenset[str] = frozenset()
    anonymous: bool = False
    auth_file: Path | None = None
    observe: Observer = field(default=ignore, repr=False)
    redactor: Redactor = field(default_factory=Redactor, repr=False)
    reader: Reader = field(init=False, repr=False)
    _answers: Once[tuple[str, str], Found] = field(init=False, repr=False, default_factory=Once)

    def __post_init__(self) -> None:
        self.reader = Reader(self.environment, self.observe)
        self.redactor.learn(self.explicit)

    def find(self, registry: str, repository: str) -> Found:
        """Find the credential for a repository. May run a helper, so: only after a 401.

        Args:
            registry: the registry's identity `host[:port]`; `docker.io` for Docker Hub.
            repository: its path there, for entries that serve a namespace; may be empty.

        Raises:
            InvalidConfiguration: a file, or a variable, says something that cannot be used.
            HelperFailed: a helper is broken. One that is not installed is `Found.problem`.
        """
        if self.anonymous:
            return Found(ANONYMOUS, "--anonymous")
        name = (registry, repository)
        return self._answers.get(name, lambda: self._answer(Wanted(*name, self)))

    def check(self, registry: str, repository: str) -> None:
        """Look whether `find` could answer, without running a helper: a few small reads.

        Raises:
            InvalidConfiguration: as `find` would.
        """
        if not self.anonymous:
            _search(Wanted(registry, repository, self, run_helpers=False))

    def named_file(self) -> tuple[Path, str] | None:
        """Give the file that replaces those in default places, and what names it."""
        if self.auth_file is not None:
            return self.auth_file, "`--auth-file`"
        path = self.environment.get("REGISTRY_AUTH_FILE")
        return (Path(path), "`REGISTRY_AUTH_FILE`") if path else None

    def _answer(self, wanted: Wanted) -> Found:
        """Ask the sources, and learn secrets before anybody can write them."""
        found = _search(wanted)
        self.redactor.learn(found.credential)
        what = "asking anonymously" if found.credential is None else "credential"
        self.reader.note(f"`{wanted.registry}`: {what}, {found.source}")
        return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """One question to a source: who is asked for, and what is set up."""

    registry: str
    repository: str
    chain: CredentialChain
    run_helpers: bool = True

    @property
    def name(self) -> tuple[str, str]:
        """Registry and repository."""
        return self.registry, self.repository

    def default_file(self, path: Path | None, *, legacy: bool = False) -> Found | None:
        """Answer from a default place, unless there is none, or another file replaces them all."""
        if path is None or self.chain.named_file() is not None:
            return None
        return self.chain.reader.default_file(path, self.name, legacy=legacy, run=self.run_helpers)


Place = Callable[["Mapping[str, str]", Path | None], Path | None]
"""Says where a file would be, given the environment and the user's home."""

CredentialSource = Callable[[Wanted], Found | None]
"""Answers a question, or gives None: nothing here, ask the next one."""


def _search(wanted: Wanted) -> Found:
    """Ask source after source; the first credential wins, the first problem is kept."""
    problem: Found | None = None
    for _, source in CREDENTIALS:
        found = source(wanted)
        if found is None:
            continue
        if found.credential is not None:
            return found
        if problem is None and found.problem is not None:
            problem = found
    return problem or Found(ANONYMOUS, NOBODY)


def _explicit(wanted: Wanted) -> Found | None:
    """Answer with what the user gave, if it was given for this registry."""
    chain = wanted.chain
    if any(same_registry(host, wanted.registry) for host in chain.explicit_hosts):
        return Found(chain.explicit, "given explicitly")
    return None


def _variable(wanted: Wanted) -> Found | None:
    """Answer from `DOCKER_AUTH_CONFIG` (docker/cli v28)."""
    text = wanted.chain.environment.get(VARIABLE)
    return wanted.chain.reader.variable(text, wanted.name) if text else None


def _named_file(wanted: Wanted) -> Found | None:
    """Answer from the one file that was asked for (podman, skopeo and buildah do the same)."""
    named = wanted.chain.named_file()
    if named is None:
        return None
    path, by = named
    run = wanted.run_helpers
    return wanted.chain.reader.named_file(path, wanted.name, named_by=by, run=run)


def docker_config(environment: Mapping[str, str], home: Path | None) -> Path | None:
    """Say where Docker's file is. If `DOCKER_CONFIG` leads nowhere, the one at home is not it."""
    folder = environment.get("DOCKER_CONFIG")
    return Path(folder, "config.json") if folder else _below(home, ".docker/config.json")


def runtime_auth(environment: Mapping[str, str], _home: Path | None) -> Path | None:
    """Say where `podman login` writes."""
    folder = environment.get("XDG_RUNTIME_DIR")
    if folder:
        return _below(Path(folder), "containers/auth.json")
    return Path(f"/run/containers/{os.getuid()}/auth.json")


def config_auth(environment: Mapping[str, str], home: Path | None) -> Path | None:
    """Say where podman keeps logins that outlive a session."""
    folder = environment.get("XDG_CONFIG_HOME")
    config = Path(folder) if folder else _below(home, ".config")
    return _below(config, "containers/auth.json")


def docker_legacy(environment: Mapping[str, str], home: Path | None) -> Path | None:
    """Say where Docker wrote before 1.7, also at home, so not beside `DOCKER_CONFIG`."""
    return None if environment.get("DOCKER_CONFIG") else _below(home, ".dockercfg")


def _from(place: Place, *, legacy: bool = False) -> CredentialSource:
    """Make the source that answers from a default place."""

    def source(wanted: Wanted) -> Found | None:
        chain = wanted.chain
        return wanted.default_file(place(chain.environment, chain.home), legacy=legacy)

    return source


def _below(folder: Path | None, name: str) -> Path | None:
    """Give a path below a folder; relative folders would depend on where the user stands."""
    return folder / name if folder is not None and folder.is_absolute() else None


FILES: Final[tuple[tuple[str, Place], ...]] = (
    ("$DOCKER_CONFIG/config.json, ~/.docker/config.json", docker_config),
    ("$XDG_RUNTIME_DIR/containers/auth.json", runtime_auth),
    ("$XDG_CONFIG_HOME/containers/auth.json", config_auth),
    ("~/.dockercfg", docker_legacy),
)
"""The files in default places, in the order they are asked."""

CREDENTIALS: Final[tuple[tuple[str, CredentialSource], ...]] = (
    ("given explicitly", _explicit),
    ("DOCKER_AUTH_CONFIG", _variable),
    ("--auth-file, REGISTRY_AUTH_FILE", _named_file),
    *((name, _from(place, legacy=place is docker_legacy)) for name, place in FILES),
)
"""Name and function of every source, in the order they are asked."""
