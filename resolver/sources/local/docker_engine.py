"""Images of the container engines of this machine, and the layers that these have.

Docker, and podman's service, answer on a Unix socket; podman's own storage is read by podman. An
engine unpacks pulled layers and discards the compressed bytes, so an image that it saves has
uncompressed layers, and another digest than in its registry.

Source: Docker Engine API v1.43, `GET /images/json`, `GET /images/{name}/json` and
`GET /images/{name}/get`; every engine since 17.x, and podman's service, answers them without a
version in the path.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from resolver.core.oci.digest import Digest
from resolver.core.parse.json import read_object
from resolver.errors import (
    InvalidConfiguration,
    InvalidDigest,
    NotFound,
    ResolverError,
    Unavailable,
    Usage,
)
from resolver.files.read import read_regular
from resolver.sources.credentials.helpers import may_be_secret
from resolver.sources.local.archive import TarTree, read_saved
from resolver.sources.local.tree import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolver.core.oci.target import LayoutTarget
    from resolver.sources.local.layout import LayoutSource

#: Default socket of an engine.
_SOCKET = "/var/run/docker.sock"
#: Seconds that an engine may take to save the next part of an image.
_SAVING = 300.0
#: Most bytes of a configuration file, and of an error message.
_MAX_CONFIG, _MAX_SAID = 1 << 20, 4096
#: Seconds to wait for a response.
_PATIENCE = 2.0
#: Most bytes of a response, and most images read.
_MAX_ANSWER, _MAX_IMAGES = 16 << 20, 500
_OK, _MISSING = 200, 404
_ID = re.compile(r"sha256:[0-9a-f]{64}")


class _Unreachable(Exception):
    """There is no responding engine."""


class _Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, patience: float = _PATIENCE) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path
        self._patience = patience

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience)
        self.sock.connect(self._path)


def docker_address(environment: Mapping[str, str]) -> str:
    """Return the address of the engine that the `docker` command uses.

    Raises:
        InvalidConfiguration: Docker's configuration cannot be read, or lacks the context.

    Source: Docker's documentation, "Docker contexts": `DOCKER_HOST`, `DOCKER_CONTEXT`, then
    `currentContext` of `config.json`; the folder of a context is the SHA-256 of its name.
    """
    if environment.get("DOCKER_HOST"):
        return environment["DOCKER_HOST"]
    given = environment.get("DOCKER_CONFIG")
    folder = Path(given) if given else Path(environment.get("HOME") or "/", ".docker")
    chosen = _configured(folder / "config.json").get("currentContext")
    name = environment.get("DOCKER_CONTEXT") or (chosen if isinstance(chosen, str) else "")
    if name in {"", "default"}:
        return f"unix://{_SOCKET}"
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    path = folder / "contexts" / "meta" / key / "meta.json"
    endpoints = _configured(path).get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = docker.get("Host") if isinstance(docker, dict) else None
    if not isinstance(host, str):
        reason = f"it does not state where the context `{name}` is"
        raise InvalidConfiguration(str(path), "Endpoints.docker.Host", reason)
    return host


def _configured(path: Path) -> dict[str, object]:
    """Read a JSON file of Docker's configuration; empty if there is none."""
    try:
        body, _ = read_regular(path, _MAX_CONFIG)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidConfiguration(str(path), "", f"it cannot be read: {reason}") from error
    if len(body) > _MAX_CONFIG:
        raise InvalidConfiguration(str(path), "", f"it has more than {_MAX_CONFIG} bytes")
    try:
        return read_object(body, f"`{path}`") if body.strip() else {}
    except ResolverError as error:
        raise InvalidConfiguration(str(path), "", str(error)) from error


def open_docker_daemon(target: LayoutTarget, environment: Mapping[str, str]) -> LayoutSource:
    """Open `docker-daemon:NAME`, which the engine saves into a file without a name.

    Raises:
        Usage: the engine is on another machine.
        NotFound: it does not have the image.
        Unavailable: it does not answer, or cannot save the image.
    """
    address = docker_address(environment)
    scheme, _, path = address.partition("://")
    if scheme != "unix":
        raise Usage(
            f"`{target}` cannot be read: the engine at `{address}` is not on this machine",
            f"save it first: `docker save -o image.tar {target.path}`, then "
            "`docker-archive:image.tar`",
        )
    connection = _Local(path, _SAVING)
    try:
        connection.request("GET", f"/images/{target.path}/get")
        answer = connection.getresponse()
        if answer.status != _OK:
            said = answer.read(_MAX_SAID).decode("utf-8", "replace").strip()
            if answer.status == _MISSING:
                raise NotFound(
                    f"the engine at `{path}` has no image `{target.path}`",
                    "list its images with `docker images`",
                )
            raise Unavailable(f"the engine at `{path}` cannot save `{target.path}`: {said}")
        with _archive(target) as file:
            while chunk := answer.read(CHUNK):
                with _room(target):
                    file.write(chunk)
            if answer.length:
                raise http.client.IncompleteRead(b"", answer.length)
            return _saved(target, file)
    except http.client.HTTPException as error:
        raise Unavailable(f"the engine at `{path}` did not finish saving `{target}`") from error
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        hint = "start it, or name another one with `DOCKER_HOST`"
        if isinstance(error, PermissionError):
            hint = "use `sudo`, or join the group that owns the socket"
        raise Unavailable(f"no engine answers at `{path}`: {reason}".lower(), hint) from error
    finally:
        connection.close()


def open_containers_storage(target: LayoutTarget, environment: Mapping[str, str]) -> LayoutSource:
    """Open `containers-storage:NAME`, which podman saves into a file without a name.

    Raises:
        NotFound: the storage does not have the image.
        Unavailable: podman is not installed, or cannot save the image.
    """
    # As an OCI archive, podman 4.3 calls layers gzip that are not, or compresses them again.
    save = ("podman", "save", "--quiet", "--format", "docker-archive", target.path)
    with _archive(target) as file:
        failure = _run(save, environment, file)
        if failure is None:
            return _saved(target, file)
    with tempfile.TemporaryFile() as nothing:
        if _run(("podman", "image", "exists", target.path), environment, nothing) is None:
            raise Unavailable(f"podman cannot save `{target.path}`: {failure}")
    raise NotFound(
        f"podman's storage has no image `{target.path}`", "list its images with `podman images`"
    )


def _run(command: tuple[str, ...], environment: Mapping[str, str], out: IO[bytes]) -> str | None:
    """Run a program; return the end of its messages if it fails, else None."""
    program = find_program(command[0], environment)
    if program is None:
        raise Unavailable(
            f"`{command[0]}` is not on PATH, so its images cannot be read", "install it"
        )
    try:
        done = subprocess.run(  # noqa: S603 - an argument list, no shell
            command,
            executable=program,
            env=program_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
        )
    except OSError as error:
        raise Unavailable(f"`{command[0]}` cannot be started: {error.strerror}") from error
    said = done.stderr[-_MAX_SAID:].decode("utf-8", "replace").strip()
    return (said or f"status {done.returncode}") if done.returncode else None


def _output(command: tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
    """Run a program that must succeed; return the lines of its output."""
    with tempfile.TemporaryFile() as out:
        failure = _run(command, environment, out)
        if failure is not None:
            raise Unavailable(f"`{' '.join(command[:3])}` failed: {failure}")
        out.seek(0)
        return out.read(_MAX_ANSWER).decode("utf-8", "replace").splitlines()


def find_program(name: str, environment: Mapping[str, str]) -> str | None:
    """Find a program in the absolute entries of `PATH`.

    See docs/store-and-reliability.md, "Programs on PATH".
    """
    folders = environment.get("PATH", "").split(os.pathsep)
    return shutil.which(name, path=os.pathsep.join(each for each in folders if each[:1] == "/"))


def program_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that another program gets, without secrets."""
    return {name: value for name, value in environment.items() if not may_be_secret(name)}


@contextmanager
def _archive(target: LayoutTarget) -> Iterator[IO[bytes]]:
    """Make a file without a name for an image."""
    with _room(target):
        file = tempfile.TemporaryFile(prefix="resolver-", buffering=0)  # noqa: SIM115 - closed below
    with file:
        yield file


def _saved(target: LayoutTarget, file: IO[bytes]) -> LayoutSource:
    """Read an image that was saved."""
    return read_saved(TarTree(str(target), os.dup(file.fileno())))


@contextmanager
def _room(target: LayoutTarget) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"`{target}` cannot be saved in `{tempfile.gettempdir()}`: {error.strerror}",
            "free some space, or name another folder with `TMPDIR`",
        ) from error


def unpacked_layers(environment: Mapping[str, str]) -> frozenset[Digest]:
    """Return the unpacked layers of the local engine; none without an engine.

    Only a Unix socket is used: a remote engine is not on this machine.
    """
    try:
        return frozenset(layer for image in docker_layers(environment) for layer in image)
    except (InvalidConfiguration, Unavailable):
        return frozenset()


def docker_layers(environment: Mapping[str, str]) -> tuple[tuple[Digest, ...], ...]:
    """Return the unpacked layers of each image of the local engine, bottom first.

    Raises:
        InvalidConfiguration: Docker's configuration cannot be read.
        Unavailable: no engine answers on a Unix socket.
    """
    address = docker_address(environment)
    path = _socket_path(address)
    if path is None:
        raise Unavailable(
            f"no engine answers at `{address}`", "start it, or name another one with `DOCKER_HOST`"
        )
    connection = _Local(path)
    try:
        return tuple(
            tuple(_layers(_ask(connection, f"/images/{name}/json")))
            for name in _images(_ask(connection, "/images/json"))
        )
    except _Unreachable as error:
        raise Unavailable(f"the engine at `{path}` does not list its images") from error
    finally:
        connection.close()


def podman_layers(environment: Mapping[str, str]) -> tuple[tuple[Digest, ...], ...]:
    """Return the unpacked layers of each image of podman, bottom first.

    Raises:
        Unavailable: podman is not installed, or fails.
    """
    listed = _output(("podman", "images", "--all", "--quiet", "--no-trunc"), environment)
    names = [name for name in dict.fromkeys(listed) if _ID.fullmatch(name)][:_MAX_IMAGES]
    if not names:
        return ()
    words = ("image", "inspect", "--format", "{{json .RootFS.Layers}}", *names)
    return tuple(tuple(_digests(_json(line))) for line in _output(("podman", *words), environment))


def containerd_content(environment: Mapping[str, str], namespace: str | None) -> frozenset[Digest]:
    """Return the digests of all content of a namespace of containerd; None for that of `ctr`.

    Raises:
        Unavailable: `ctr` is not installed, or fails.
    """
    named = () if namespace is None else ("--namespace", namespace)
    listed = _output(("ctr", *named, "content", "ls", "--quiet"), environment)
    return frozenset(_digests(listed))


def _socket_path(address: str) -> str | None:
    scheme, _, path = address.partition("://")
    if scheme != "unix":
        return None
    try:
        return path if stat.S_ISSOCK(Path(path).stat().st_mode) else None
    except (OSError, ValueError):
        return None


def _ask(connection: _Local, target: str) -> object:
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read(_MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _Unreachable from error
    if answer.status != _OK or len(body) > _MAX_ANSWER:
        raise _Unreachable
    found = _json(body)
    if found is None:
        raise _Unreachable
    return found


def _json(body: bytes | str) -> object:
    """Read JSON of an engine; None if it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _images(listed: object) -> Iterator[str]:
    """Iterate over the IDs of the newest images; invalid IDs never enter a path."""
    if not isinstance(listed, list):
        return
    for entry in listed[:_MAX_IMAGES]:
        name = entry.get("Id") if isinstance(entry, dict) else None
        if isinstance(name, str) and _ID.fullmatch(name):
            yield name


def _layers(described: object) -> Iterator[Digest]:
    root = described.get("RootFS") if isinstance(described, dict) else None
    return _digests(root.get("Layers") if isinstance(root, dict) else None)


def _digests(listed: object) -> Iterator[Digest]:
    """Parse digests; what is not one is skipped."""
    for text in listed if isinstance(listed, list) else ():
        try:
            yield Digest.parse(str(text))
        except InvalidDigest:
            continue
