"""Turn a place that holds credentials into an answer for one registry, and warn where it must.

The bridge between files (`credential_files`) and programs (`credential_helpers`). Each file is read
once, each helper runs once per key, and each thing is said once, however many threads ask.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from resolver.core.events import Noted, Warned
from resolver.errors import InvalidConfiguration
from resolver.sources.credential_entries import decode_entry, entry_keys
from resolver.sources.credential_files import (
    VARIABLE,
    UnreadableFile,
    choose_helper,
    find_entry,
    is_variable_entry,
    read_auth_file,
    read_variable,
)
from resolver.sources.credential_helpers import Helpers, Once, failure, program_name
from resolver.sources.credential_values import Credential, Found

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resolver.core.events import Event, Observer
    from resolver.sources.credential_files import AuthFile, HelperChoice

UNASKED: Final = Credential()
"""Stands for what a helper would say, where helpers must not run."""


class Reader:
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
    ) -> Found | None:
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
        except UnreadableFile as error:
            self._warn("credentials-unreadable", f"{error}; going on without it")
            return None
        return None if file is None else self._from_file(file, name, run=run)

    def named_file(
        self, path: Path, name: tuple[str, str], *, named_by: str, run: bool = True
    ) -> Found:
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

    def variable(self, text: str, name: tuple[str, str]) -> Found | None:
        """Answer from the text of `DOCKER_AUTH_CONFIG`; None when it has nothing for us.

        Raises:
            InvalidConfiguration: it is malformed, in a part that matters here.
        """
        file = self._variable.get(text, lambda: self._read_variable(text))
        for key in entry_keys(file.auths, *name):
            entry, at = file.auths[key], file.entry_field(key)
            if is_variable_entry(entry):
                credential = decode_entry(VARIABLE, at, entry)
                return Found(credential, VARIABLE)
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

    def _from_file(self, file: AuthFile, name: tuple[str, str], *, run: bool) -> Found:
        """Answer from a file: its helper if it has one for this registry, exclusively."""
        registry, repository = name
        choice = choose_helper(file, registry)
        if choice is not None:
            return self._from_helper(file, choice) if run else Found(UNASKED, choice.name)
        credential = find_entry(file, registry, repository)
        if credential is not None and file.shared:
            warning = f"other users may read `{file.place}`, which holds passwords or tokens"
            # One key for all files: the advice is the same, and one line is enough.
            self._say("credentials-readable", Warned("credentials-readable", warning))
        return Found(credential, file.place)

    def _from_helper(self, file: AuthFile, choice: HelperChoice) -> Found:
        """Answer from a helper; one that is not installed is a problem only if we are refused.

        A public image must not need the helper that a machine's configuration happens to name.
        """
        program = program_name(choice.name)
        if self._helpers.locate(choice.name) is None:
            complaint = f"it is not installed, and `{file.place}` names it"
            message = f"`{program}` is not installed, and `{file.place}` names it; asking without"
            self._warn("helper-missing", message)
            return Found(None, program, failure(choice.name, "get", choice.key, complaint))
        asked = (choice.name, choice.key)
        return Found(self._helpers.ask(*asked), program, helper=asked)

    def forget(self, found: Found) -> None:
        """Have the helper that gave a refused credential asked again."""
        if found.helper is not None and found.credential is not None:
            self._helpers.forget(*found.helper, found.credential)
