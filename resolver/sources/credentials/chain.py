"""Find the credential of a registry: `CREDENTIALS` lists the sources, `CredentialChain` reads them.

The order is that of the table, and `--verbose` names the source that was used. The first credential
wins. See docs/wire-protocol.md, "Credential sources".
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.core.results.events import Noted, Warned, ignore
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
from resolver.sources.credentials.secrets import (
    ANONYMOUS,
    Credential,
    CredentialAnswer,
    Once,
    Redactor,
    Secret,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolver.core.results.events import Event, Observer
    from resolver.sources.credentials.files import AuthFile, HelperChoice
    from resolver.sources.credentials.helpers import Helpers


HELPER_NOT_RUN: Final = Credential()
"""Stands for the answer of a helper that is not run."""


class CredentialReader:
    """Reads credential files, variables and helpers, each once."""

    __slots__ = ("_environment", "_files", "_helpers", "_lock", "_observe", "_said", "_variable")

    def __init__(self, environment: Mapping[str, str], observe: Observer) -> None:
        self._environment = environment
        self._helpers: Once[str, Helpers] = Once()
        self._observe = observe
        self._files: Once[tuple[Path, bool], AuthFile | None] = Once()
        self._variable: Once[str, AuthFile] = Once()
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def default_file(
        self, path: Path, name: tuple[str, str], *, legacy: bool = False, run: bool = True
    ) -> CredentialAnswer | None:
        """Return the credential from a default file; None if it is absent or unreadable.

        `legacy` is whether it is a `.dockercfg`.
        """
        try:
            file = self._files.get((path, legacy), lambda: read_auth_file(path, legacy=legacy))
        except UnreadableCredentials as error:
            self._warn("credentials-unreadable", f"{error}; continuing without it")
            return None
        return None if file is None else self._from_file(file, name, run=run)

    def named_file(
        self, path: Path, name: tuple[str, str], *, named_by: str, run: bool = True
    ) -> CredentialAnswer:
        """Return the credential from an explicitly named file, which must exist."""
        file = self._files.get((path, False), lambda: read_auth_file(path))
        if file is None:
            reason = f"there is no such file, but {named_by} names it"
            raise InvalidConfiguration(str(path), "", reason)
        return self._from_file(file, name, run=run)

    def variable(self, text: str, name: tuple[str, str]) -> CredentialAnswer | None:
        """Return the credential from the text of `DOCKER_AUTH_CONFIG`; None if it has none.

        Raises:
            InvalidConfiguration: a relevant part of it is malformed.
        """
        file = self._variable.get(text, lambda: self._read_variable(text))
        for key in entry_keys(file.auths, *name):
            entry, at = file.auths[key], file.entry_field(key)
            if is_variable_entry(entry):
                credential = decode_entry(VARIABLE, at, entry)
                return CredentialAnswer(credential, VARIABLE)
            reason = "an entry of this variable can have only `auth`"
            self._warn("credentials-ignored", f"`{VARIABLE}`: `{at}` is ignored: {reason}")
        return None

    def note(self, message: str) -> None:
        """Emit a note for `--verbose`, once."""
        self._say(message, Noted(message))

    def _warn(self, code: str, message: str) -> None:
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
            self._warn("credentials-ignored", f"`{VARIABLE}`: `{member}` is not used there")
        return file

    def _from_file(self, file: AuthFile, name: tuple[str, str], *, run: bool) -> CredentialAnswer:
        """Return the credential from a file, or from the helper it names for the registry."""
        registry, repository = name
        choice = choose_helper(file, registry)
        if choice is not None:
            return (
                self._from_helper(file, choice)
                if run
                else CredentialAnswer(HELPER_NOT_RUN, choice.name)
            )
        credential = find_entry(file, registry, repository)
        if credential is not None and file.shared:
            warning = f"other users can read `{file.place}`, which contains passwords or tokens"
            # One key for all files: a single warning is enough.
            self._say("credentials-readable", Warned("credentials-readable", warning))
        return CredentialAnswer(credential, file.place)

    def _from_helper(self, file: AuthFile, choice: HelperChoice) -> CredentialAnswer:
        """Return the credential from a helper; a missing helper matters only after a refusal.

        A public image must not require a helper that the configuration happens to name.
        """
        from resolver.sources.credentials.helpers import (  # noqa: PLC0415 - where one is named
            failure,
            program_name,
        )

        helpers = self._programs()
        program = program_name(choice.name)
        if helpers.locate(choice.name) is None:
            problem = f"it is not installed, but `{file.place}` names it"
            message = (
                f"`{program}` is not installed, but `{file.place}` names it; continuing without it"
            )
            self._warn("helper-missing", message)
            return CredentialAnswer(None, program, failure(choice.name, "get", choice.key, problem))
        asked = (choice.name, choice.key)
        return CredentialAnswer(helpers.ask(*asked), program, helper=asked)

    def forget(self, found: CredentialAnswer) -> None:
        """Run the helper of a refused credential again on the next request."""
        if found.helper is not None and found.credential is not None:
            self._programs().forget(*found.helper, found.credential)

    def _programs(self) -> Helpers:
        from resolver.sources.credentials.helpers import Helpers  # noqa: PLC0415 - where one is named

        return self._helpers.get("", lambda: Helpers(self._environment))


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

NO_SOURCE: Final = "no source"
"""`CredentialAnswer.source` without credential and problem."""


@dataclass(eq=False)
class CredentialChain:
    """Reads the sources in order and caches answers; safe to share between threads.

    Attributes:
        home: the user's home; None to skip files there.
        explicit_hosts: the only registries that get `explicit`.
        observe: receives warnings and the source of each credential.
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
        """Find the credential for a repository. May run a helper, so call it only after a 401.

        Raises:
            InvalidConfiguration: a file or variable cannot be used.
            HelperFailed: a helper failed. A missing helper is `CredentialAnswer.problem`.
        """
        if self.anonymous:
            return CredentialAnswer(ANONYMOUS, "--anonymous")
        name = (registry, repository)
        return self._answers.get(name, lambda: self._answer(CredentialRequest(*name, self)))

    def find_again(
        self, registry: str, repository: str, refused: CredentialAnswer
    ) -> CredentialAnswer:
        """Find the credential again after a refusal; its helper is run again."""
        self._answers.forget((registry, repository), lambda found: found is refused)
        self.reader.forget(refused)
        return self.find(registry, repository)

    def check(self, registry: str, repository: str) -> None:
        """Check that `find` can answer, without running a helper."""
        if not self.anonymous:
            _search(CredentialRequest(registry, repository, self, run_helpers=False))

    def named_file(self) -> tuple[Path, str] | None:
        """Return the file that replaces the default files, and what names it."""
        if self.auth_file is not None:
            return self.auth_file, "`--auth-file`"
        path = self.environment.get("REGISTRY_AUTH_FILE")
        return (Path(path), "`REGISTRY_AUTH_FILE`") if path else None

    def _answer(self, request: CredentialRequest) -> CredentialAnswer:
        """Search the sources, and learn secrets before they can be printed."""
        found = _search(request)
        self.redactor.learn(found.credential)
        what = "asking anonymously" if found.credential is None else "credential"
        self.reader.note(f"`{request.registry}`: {what}, {found.source}")
        return found


@dataclass(frozen=True, slots=True)
class CredentialRequest:
    """A request to a source."""

    registry: str
    repository: str
    chain: CredentialChain
    run_helpers: bool = True

    @property
    def name(self) -> tuple[str, str]:
        """Registry and repository."""
        return self.registry, self.repository

    def default_file(self, path: Path | None, *, legacy: bool = False) -> CredentialAnswer | None:
        """Return the credential from a default file, unless it is absent or replaced."""
        if path is None or self.chain.named_file() is not None:
            return None
        return self.chain.reader.default_file(path, self.name, legacy=legacy, run=self.run_helpers)


FileLocation = Callable[["Mapping[str, str]", Path | None], Path | None]
"""Returns the location of a file for an environment and home."""

CredentialSource = Callable[[CredentialRequest], CredentialAnswer | None]
"""Returns an answer, or None to continue with the next source."""


def _search(request: CredentialRequest) -> CredentialAnswer:
    """Search the sources; the first credential wins, and the first problem is kept."""
    problem: CredentialAnswer | None = None
    for _, source in CREDENTIALS:
        found = source(request)
        if found is None:
            continue
        if found.credential is not None:
            return found
        if problem is None and found.problem is not None:
            problem = found
    return problem or CredentialAnswer(ANONYMOUS, NO_SOURCE)


def _explicit(request: CredentialRequest) -> CredentialAnswer | None:
    chain = request.chain
    if any(same_registry(host, request.registry) for host in chain.explicit_hosts):
        return CredentialAnswer(chain.explicit, "given explicitly")
    return None


def _variable(request: CredentialRequest) -> CredentialAnswer | None:
    """Return the credential from `DOCKER_AUTH_CONFIG` (docker/cli v28)."""
    text = request.chain.environment.get(VARIABLE)
    return request.chain.reader.variable(text, request.name) if text else None


def _named_file(request: CredentialRequest) -> CredentialAnswer | None:
    """Return the credential from the named file only, as podman, skopeo and buildah do."""
    named = request.chain.named_file()
    if named is None:
        return None
    path, by = named
    run = request.run_helpers
    return request.chain.reader.named_file(path, request.name, named_by=by, run=run)


def docker_config(environment: Mapping[str, str], home: Path | None) -> Path | None:
    """Return Docker's file; with `DOCKER_CONFIG` never the one in the home."""
    folder = environment.get("DOCKER_CONFIG")
    return Path(folder, "config.json") if folder else _below(home, ".docker/config.json")


def runtime_auth(environment: Mapping[str, str], _home: Path | None) -> Path | None:
    """Return the file of `podman login`."""
    folder = environment.get("XDG_RUNTIME_DIR")
    if folder:
        return _below(Path(folder), "containers/auth.json")
    return Path(f"/run/containers/{os.getuid()}/auth.json")


def config_auth(environment: Mapping[str, str], home: Path | None) -> Path | None:
    """Return podman's persistent file."""
    folder = environment.get("XDG_CONFIG_HOME")
    config = Path(folder) if folder else _below(home, ".config")
    return _below(config, "containers/auth.json")


def docker_legacy(environment: Mapping[str, str], home: Path | None) -> Path | None:
    """Return Docker's file before 1.7, in the home, unless `DOCKER_CONFIG` is set."""
    return None if environment.get("DOCKER_CONFIG") else _below(home, ".dockercfg")


def _from(place: FileLocation, *, legacy: bool = False) -> CredentialSource:
    def source(request: CredentialRequest) -> CredentialAnswer | None:
        chain = request.chain
        return request.default_file(place(chain.environment, chain.home), legacy=legacy)

    return source


def _below(folder: Path | None, name: str) -> Path | None:
    """Return a path below an absolute folder; None for a relative one."""
    return folder / name if folder is not None and folder.is_absolute() else None


FILES: Final[tuple[tuple[str, FileLocation], ...]] = (
    ("$DOCKER_CONFIG/config.json, ~/.docker/config.json", docker_config),
    ("$XDG_RUNTIME_DIR/containers/auth.json", runtime_auth),
    ("$XDG_CONFIG_HOME/containers/auth.json", config_auth),
    ("~/.dockercfg", docker_legacy),
)
"""The default files, in search order."""

CREDENTIALS: Final[tuple[tuple[str, CredentialSource], ...]] = (
    ("given explicitly", _explicit),
    ("DOCKER_AUTH_CONFIG", _variable),
    ("--auth-file, REGISTRY_AUTH_FILE", _named_file),
    *((name, _from(place, legacy=place is docker_legacy)) for name, place in FILES),
)
"""Name and function of every source, in search order."""


@dataclass(frozen=True, slots=True)
class HelperFound:
    """A helper that a location names.

    Attributes:
        registries: that use it; empty for all others.
    """

    program: str
    registries: tuple[str, ...]
    path: str | None


@dataclass(frozen=True, slots=True)
class PlaceFound:
    """A location of logins.

    Attributes:
        registries: keys with a login, without secrets.
        shared: whether other users can read it and it has logins.
        problems: errors that show no values.
    """

    place: str
    exists: bool
    registries: tuple[str, ...] = ()
    helpers: tuple[HelperFound, ...] = ()
    shared: bool = False
    problems: tuple[InvalidConfiguration, ...] = ()


def census(
    environment: Mapping[str, str], home: Path | None, named: Path | None
) -> Iterator[PlaceFound]:
    """Scan all locations in search order, without those replaced by a named file."""
    from resolver.sources.credentials.helpers import Helpers  # noqa: PLC0415 - as in `_from_helper`

    helpers = Helpers(environment)
    text = environment.get(VARIABLE)
    if text:
        yield _look(VARIABLE, lambda: read_variable(text)[0], helpers)
    places = [(named, False)] if named is not None else []
    if named is None:
        places = [
            (path, place is docker_legacy)
            for _name, place in FILES
            if (path := place(environment, home)) is not None
        ]
    for path, legacy in places:
        yield _look(str(path), _reader(path, legacy=legacy), helpers)


def _reader(path: Path, *, legacy: bool) -> Callable[[], AuthFile | None]:
    return lambda: read_auth_file(path, legacy=legacy)


def _look(place: str, read: Callable[[], AuthFile | None], helpers: Helpers) -> PlaceFound:
    try:
        file = read()
    except InvalidConfiguration as error:
        return PlaceFound(place, exists=True, problems=(error,))
    if file is None:
        return PlaceFound(place, exists=False)
    registries, problems = [], []
    for key, entry in file.auths.items():
        try:
            kept = decode_entry(place, file.entry_field(_shown(key)), entry)
        except InvalidConfiguration as error:
            problems.append(error)
            continue
        if kept is not None:
            registries.append(_shown(key))
    programs, faults = _helpers(file, helpers)
    return PlaceFound(
        place,
        exists=True,
        registries=tuple(registries),
        helpers=tuple(programs),
        shared=file.shared and bool(registries),
        problems=(*problems, *faults),
    )


def _helpers(
    file: AuthFile, helpers: Helpers
) -> tuple[list[HelperFound], list[InvalidConfiguration]]:
    """List the helpers that a file names, the general one first; empty names are skipped."""
    from resolver.sources.credentials.helpers import (  # noqa: PLC0415 - as in `_from_helper`
        program_name,
        valid_name,
    )

    # By name and scope: `credsStore` and `credHelpers` may name the same one.
    named: dict[tuple[str, bool], list[str]] = {}
    problems = []
    for key, name in (("", file.store), *file.helpers.items()):
        if name is None or name == "":
            continue
        if isinstance(name, str) and valid_name(name):
            named.setdefault((name, not key), []).append(_shown(key))
            continue
        field = f"credHelpers.{_shown(key)}" if key else "credsStore"
        problems.append(InvalidConfiguration(file.place, field, "it is not a valid helper name"))
    found = [
        HelperFound(program_name(name), () if for_all else tuple(keys), helpers.locate(name))
        for (name, for_all), keys in named.items()
    ]
    return found, problems


def _shown(key: str) -> str:
    """Return the key of an entry without a login in its URL."""
    scheme, colon, rest = key.rpartition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}"
