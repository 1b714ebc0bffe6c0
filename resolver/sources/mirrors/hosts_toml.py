"""containerd's `certs.d/HOST/hosts.toml`.

containerd logs a file that it cannot read and continues without mirrors. That sends traffic to
unintended hosts, so it is an error here. See docs/wire-protocol.md, "hosts.toml".

Source: containerd v2, "Registry Configuration"; core/remotes/docker/config/hosts.go.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.core.parse.document import FieldReader, parse_toml
from resolver.core.registry.endpoints import (
    EVERYTHING,
    Ability,
    ClientFiles,
    Endpoint,
    HostChoice,
    HostSettings,
    upstream,
)
from resolver.errors import InvalidConfiguration
from resolver.sources.http.urls import BadUrl
from resolver.sources.mirrors.files import endpoint_at, is_folder, read_certificates, read_file
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

FORM: Final = "hosts.toml"
_PORT = re.compile(r"(.+):([0-9]{1,5})")
_SPELLED_PORT = re.compile(r"(.+)_([0-9]{1,5})_")
#: `push` is accepted and ignored.
_WORDS = {each.value: each for each in Ability} | {"push": None}
#: A duration in Go's format. Source: Go package time, ParseDuration.
_DURATION = re.compile(r"(?:(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:ns|us|µs|ms|s|m|h))+")
_PIECE = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
#: Source: RFC 9110, 5.6.2. A value must not contain a line end, which would start another header.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")


def find_folder(roots: tuple[Path, ...], registry: str) -> Path | None:
    """Return the folder for a registry; folders are never merged."""
    port = _PORT.fullmatch(registry)
    spelled = (f"{port[1]}_{port[2]}_",) if port else ()
    names = (*spelled, registry, "_default")
    folders = (Path(root, name) for root in roots for name in names)
    return next((folder for folder in folders if is_folder(folder)), None)


def host_of_folder(name: str) -> str:
    """Return the registry of a folder name; see `find_folder`."""
    spelled = _SPELLED_PORT.fullmatch(name)
    return f"{spelled[1]}:{spelled[2]}" if spelled else name


def read_hosts(folder: Path, registry: str, repository: str) -> HostChoice:
    """Read the configuration of a registry from a folder.

    Raises:
        InvalidConfiguration: it cannot be used; with the path, and the line if known.

    """
    path = folder / "hosts.toml"
    body = read_file(path)
    if body is not None:
        return parse_hosts(body, path, registry, repository)
    ca, clients = read_certificates(folder)
    plain = upstream(registry, repository, HostSettings(ca=ca, clients=clients))
    return HostChoice(registry, repository, (plain,), str(folder), FORM)


def parse_hosts(body: bytes, path: Path, registry: str, repository: str) -> HostChoice:
    """Parse a file, see `read_hosts`; file names in it are relative to its folder."""
    file = _File(path.parent, registry, repository)
    table = parse_toml(body, str(path))
    endpoints = [file.endpoint(host, url) for url, host in _hosts(table)]
    return HostChoice(registry, repository, (*endpoints, file.last(table)), str(path), FORM)


def _hosts(table: FieldReader) -> Iterator[tuple[str, FieldReader]]:
    """Read the tables `[host."URL"]`, in the order of the file."""
    hosts = table.member("host")
    for url, host in hosts.members().items() if hosts is not None else ():
        # A URL may carry a password.
        yield url, replace(host, path="host.***") if "@" in url else host


def seconds(text: str) -> float | None:
    """Parse a duration; None if it is not valid."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(text))


@dataclass(frozen=True, slots=True)
class _File:
    """The registry and folder of a file being read."""

    folder: Path
    registry: str
    repository: str

    def endpoint(self, table: FieldReader, url: str) -> Endpoint:
        """Read one endpoint."""
        try:
            return endpoint_at(
                url,
                self.registry,
                self.repository,
                abilities=_abilities(table),
                settings=_settings(table, self.folder),
                whole_path=table.truth_of("override_path"),
            )
        except BadUrl as error:
            reason = f"it is not the URL of a registry: {error}"
            raise InvalidConfiguration(table.place, table.path or "server", reason) from error

    def last(self, table: FieldReader) -> Endpoint:
        """Read the settings of the last endpoint, which stand at the top of the file."""
        server = table.text_of("server")
        if server:
            return self.endpoint(table, server)
        settings = _settings(table, self.folder)
        found = upstream(self.registry, self.repository, settings)
        return replace(found, abilities=_abilities(table))


def _settings(table: FieldReader, folder: Path) -> HostSettings:
    timeout = table.text_of("dial_timeout")
    allowed = seconds(timeout) if timeout else None
    if timeout and not allowed:
        table.fail_at("dial_timeout", "it must be a duration, for example `3s` or `500ms`")
    return HostSettings(
        skip_verify=table.truth_of("skip_verify"),
        ca=tuple(str(folder / name) for name in table.texts_of("ca")),
        clients=_clients(table, folder),
        headers=tuple(_headers(table)),
        connect_timeout=allowed,
    )


def _abilities(table: FieldReader) -> frozenset[Ability]:
    said = table.texts_of("capabilities")
    for word in said:
        if word not in _WORDS:
            known = ", ".join(f"`{each}`" for each in _WORDS)
            table.fail_at("capabilities", f"there are only {known}")
    # An empty list means all of them, as in containerd.
    return frozenset(found for word in said if (found := _WORDS[word])) if said else EVERYTHING


def _clients(table: FieldReader, folder: Path) -> tuple[ClientFiles, ...]:
    """Read a file, a list of files, or a list of pairs."""
    clients = table.member("client")
    if clients is None:
        return ()
    found: list[ClientFiles] = []
    for client in clients.one_or_more():
        files = list(client.one_or_more())
        is_pair = len(files) == 2  # noqa: PLR2004 - a certificate and its key
        if not all(file.is_text for file in files) or (client.is_list and not is_pair):
            clients.fail("it must be a file, a list of files, or a list of [certificate, key]")
        found.append(ClientFiles(*(str(folder / file.text()) for file in files)))
    return tuple(found)


def _headers(table: FieldReader) -> Iterator[tuple[str, str]]:
    header = table.member("header")
    if header is None:
        return
    for name, value in header.members().items():
        if not _HEADER.fullmatch(name):
            table.fail_at("header", "it has an invalid header name")
        for text in header.texts_of(name):
            if not _VALUE.fullmatch(text):
                value.fail("it contains characters that are invalid in a header")
            yield name, text
