"""Find what to show a registry: `CREDENTIALS` names the sources, `CredentialChain` asks them.

There is no order that all clients share; ours is the order of the table, and `--verbose` names the
source that answered. The first source that has a credential wins (protocol.md 12.1).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.core.results.events import Noted, Warned
from resolver.core.results.pull_events import ignore
from resolver.errors import InvalidConfiguration
from resolver.sources.credentials.files import (
    VARIABLE,
    UnreadableCredentials,
    choose_helper,
    decode_entry,
    entry_keys,
    find_entry,
    is_variable_entry,
    read_auth_file,
    read_variable,
    same_registry,
)
from resolver.sources.credentials.helpers import Helpers, Once, failure, program_name
from resolver.sources.credentials.secrets import (
    ANONYMOUS,
    Credential,
    CredentialAnswer,
    Redactor,
    Secret,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.pull_events import Event, Observer
    from resolver.sources.credentials.files import AuthFile, HelperChoice


UNASKED: Final = Credential()
"""Stands for what a helper would say, where helpers must not run."""


class CredentialReader:
    """Reads places for a chain of sources.

    Args:
        environment: what helpers are found in, and given.
        observe: is told of warnings and notes, each once.
    """

    __slots__ = ("_files", "_helpers", "_lock", "_observe", "_said", "_variable")

    def __init__(self, environment: Mapping[str, str], observe: Observer) -> None:
        self._helpers = Helpers(environment)
        self._observe = observe
        self._files: Once[tuple[Path, bool], AuthFile | None] = Once()
        self._variable: Once[str, AuthFile] = Once()
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def default_file(
        self, path: Path, name: tuple[str, str], *, legacy: bool = False, run: bool = True
    ) -> CredentialAnswer | None:
        """Answer from a file in a default place; None when it is not there, or not for us to read.

        Args:
            path: where the file is, if there is one.
            name: registry and repository.
            legacy: whether it is a `.dockercfg`.
            run: whether a helper may be run; if not, one answers `UNASKED`.

        Raises:
            InvalidConfiguration: the file is malformed, in a part that matters here.
            HelperFailed: the file names a helper, and that is broken.
        """
        try:
            file = self._files.get((path, legacy), lambda: read_auth_file(path, legacy=legacy))
        except UnreadableCredentials as error:
            self._warn("credentials-unreadable", f"{error}; going on without it")
            return None
        return None if file is None else self._from_file(file, name, run=run)

    def named_file(
        self, path: Path, name: tuple[str, str], *, named_by: str, run: bool = True
    ) -> CredentialAnswer:
        """Answer from a file that somebody asked for, so that it must be there.

        Raises:
            InvalidConfiguration: it is not there, not readable or malformed.
            HelperFailed: the file names a helper, and that is broken.
        """
        file = self._files.get((path, False), lambda: read_auth_file(path))
        if file is None:
            reason = f"there is no such file, and {named_by} names it"
            raise InvalidConfiguration(str(path), "", reason)
        return self._from_file(file, name, run=run)

    def variable(self, text: str, name: tuple[str, str]) -> CredentialAnswer | None:
        """Answer from the text of `DOCKER_AUTH_CONFIG`; None when it has nothing for us.

        Raises:
            InvalidConfiguration: it is malformed, in a part that matters here.
        """
        file = self._variable.get(text, lambda: self._read_variable(text))
        for key in entry_keys(file.auths, *name):
            entry, at = file.auths[key], file.entry_field(key)
            if is_variable_entry(entry):
                credential = decode_entry(VARIABLE, at, entry)
                return CredentialAnswer(credential, VARIABLE)
            reason = "an entry of this variable has `auth`, and nothing else"
            self._warn("credentials-ignored", f"`{VARIABLE}`: `{at}` is ignored: {reason}")
        return None

    def note(self, message: str) -> None:
        """Say something for `--verbose`, once."""
        self._say(message, Noted(message))

    def _warn(self, code: str, message: str) -> None:
        """Warn, once."""
        self._say(f"{code} {message}", Warned(code, message))

    def _say(self, key: str, event: Event) -> None:
        with self._lock:
            if key in self._said:
                return
            self._said.add(key)
        self._observe(event)

    def _read_variable(self, text: str) -> AuthFile:
        file, ignored = read_variable(text)
        for member in ignored:
            self._warn("credentials-ignored", f"`{VARIABLE}`: `{member}` has no meaning there")
        return file

    def _from_file(self, file: AuthFile, name: tuple[str, str], *, run: bool) -> CredentialAnswer:
        """Answer from a file: its helper if it has one for this registry, exclusively."""
        registry, repository = name
        choice = choose_helper(file, registry)
        if choice is not None:
            return (
                self._from_helper(file, choice) if run else CredentialAnswer(UNASKED, choice.name)
            )
        credential = find_entry(file, registry, repository)
        if credential is not None and file.shared:
            warning = f"other users may read `{file.place}`, which holds passwords or tokens"
            # One key for all files: the advice is the same, and one line is enough.
            self._say("credentials-readable", Warned("credentials-readable", warning))
        return CredentialAnswer(credential, file.place)

    def _from_helper(self, file: AuthFile, choice: HelperChoice) -> CredentialAnswer:
        """Answer from a helper; one that is not installed is a problem only if we are refused.

        A public image must not need the helper that a machine's configuration happens to name.
        """
        program = program_name(choice.name)
        if self._helpers.locate(choice.name) is None:
            complaint = f"it is not installed, and `{file.place}` names it"
            message = f"`{program}` is not installed, and `{file.place}` names it; asking without"
            self._warn("helper-missing", message)
            return CredentialAnswer(
                None, program, failure(choice.name, "get", choice.key, complaint)
            )
        asked = (choice.name, choice.key)
        return CredentialAnswer(self._helpers.ask(*asked), program, helper=asked)

    def forget(self, found: CredentialAnswer) -> None:
        """Have the helper that gave a refused credential asked again."""
        if found.helper is not None and found.credential is not None:
            self._helpers.forget(*found.helper, found.credential)


__all__ = [
    "ANONYMOUS",
    "CREDENTIALS",
    "Credential",
    "CredentialAnswer",
    "CredentialChain",
    "CredentialRequest",
    "CredentialSource",
    "Secret",
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
    reader: CredentialReader = field(init=False, repr=False)
    _answers: Once[tuple[str, str], CredentialAnswer] = field(
        init=False, repr=False, default_factory=Once
    )

    def __post_init__(self) -> None:
        self.reader = CredentialReader(self.environment, self.observe)
        self.redactor.learn(self.explicit)

    def find(self, registry: str, repository: str) -> CredentialAnswer:
        """Find the credential for a repository. May run a helper, so: only after a 401.

        Args:
            registry: the registry's identity `host[:port]`; `docker.io` for Docker Hub.
            repository: its path there, for entries that serve a namespace; may be empty.

        Raises:
            InvalidConfiguration: a file, or a variable, says something that cannot be used.
            HelperFailed: a helper is broken. One that is not installed is `Found.problem`.
        """
        if self.anonymous:
            return CredentialAnswer(ANONYMOUS, "--anonymous")
        name = (registry, repository)
        return self._answers.get(name, lambda: self._answer(CredentialRequest(*name, self)))

    def find_again(
        self, registry: str, repository: str, refused: CredentialAnswer
    ) -> CredentialAnswer:
        """Find the credential anew after one was refused; a helper that gave it is asked again.

        Raises:
            InvalidConfiguration, HelperFailed: as `find`.
        """
        self._answers.forget((registry, repository), lambda found: found is refused)
        self.reader.forget(refused)
        return self.find(registry, repository)

    def check(self, registry: str, repository: str) -> None:
        """Look whether `find` could answer, without running a helper: a few small reads.

        Raises:
            InvalidConfiguration: as `find` would.
        """
        if not self.anonymous:
            _search(CredentialRequest(registry, repository, self, run_helpers=False))

    def named_file(self) -> tuple[Path, str] | None:
        """Give the file that replaces those in default places, and what names it."""
        if self.auth_file is not None:
            return self.auth_file, "`--auth-file`"
        path = self.environment.get("REGISTRY_AUTH_FILE")
        return (Path(path), "`REGISTRY_AUTH_FILE`") if path else None

    def _answer(self, wanted: CredentialRequest) -> CredentialAnswer:
        """Ask the sources, and learn secrets before anybody can write them."""
        found = _search(wanted)
        self.redactor.learn(found.credential)
        what = "asking anonymously" if found.credential is None else "credential"
        self.reader.note(f"`{wanted.registry}`: {what}, {found.source}")
        return found


@dataclass(frozen=True, slots=True)
class CredentialRequest:
    """One question to a source: who is asked for, and what is set up."""

    registry: str
    repository: str
    chain: CredentialChain
    run_helpers: bool = True

    @property
    def name(self) -> tuple[str, str]:
        """Registry and repository."""
        return self.registry, self.repository

    def default_file(self, path: Path | None, *, legacy: bool = False) -> CredentialAnswer | None:
        """Answer from a default place, unless there is none, or another file replaces them all."""
        if path is None or self.chain.named_file() is not None:
            return None
        return self.chain.reader.default_file(path, self.name, legacy=legacy, run=self.run_helpers)


Place = Callable[["Mapping[str, str]", Path | None], Path | None]
"""Says where a file would be, given the environment and the user's home."""

CredentialSource = Callable[[CredentialRequest], CredentialAnswer | None]
"""Answers a question, or gives None: nothing here, ask the next one."""


def _search(wanted: CredentialRequest) -> CredentialAnswer:
    """Ask source after source; the first credential wins, the first problem is kept."""
    problem: CredentialAnswer | None = None
    for _, source in CREDENTIALS:
        found = source(wanted)
        if found is None:
            continue
        if found.credential is not None:
            return found
        if problem is None and found.problem is not None:
            problem = found
    return problem or CredentialAnswer(ANONYMOUS, NOBODY)


def _explicit(wanted: CredentialRequest) -> CredentialAnswer | None:
    """Answer with what the user gave, if it was given for this registry."""
    chain = wanted.chain
    if any(same_registry(host, wanted.registry) for host in chain.explicit_hosts):
        return CredentialAnswer(chain.explicit, "given explicitly")
    return None


def _variable(wanted: CredentialRequest) -> CredentialAnswer | None:
    """Answer from `DOCKER_AUTH_CONFIG` (docker/cli v28)."""
    text = wanted.chain.environment.get(VARIABLE)
    return wanted.chain.reader.variable(text, wanted.name) if text else None


def _named_file(wanted: CredentialRequest) -> CredentialAnswer | None:
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

    def source(wanted: CredentialRequest) -> CredentialAnswer | None:
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
