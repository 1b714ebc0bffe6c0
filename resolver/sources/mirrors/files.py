"""Find and read mirror and certificate files of container tools.

Separate from `formats` and `endpoints`, because every command uses this, also without a request.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from resolver.errors import InvalidConfiguration
from resolver.files.read import read_regular
from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolver.core.registry.endpoints import ClientFiles

#: Most bytes of one file; usual ones have some thousand.
MAX_FILE: Final = 1 << 20
#: System-wide configuration.
SYSTEM: Final = Path("/etc")
_NAME: Final = "registries.conf"
#: A table or key `registry` or `registries`; files with only aliases have none.
_SPEAKS = pattern(
    rb"""^[ \t]*(?:\[{1,2}[ \t]*)?(["']?)registr(?:y|ies)\1[ \t]*(?:\]|\.|=[ \t]*[\[{])""",
    re.MULTILINE,
)
_BLOCKS = pattern(rb"^[^#\n]*\bblocked\b", re.MULTILINE)


def configuration_files(
    environment: Mapping[str, str], home: Path | None, system: Path
) -> tuple[Path, ...]:
    """List the configuration files in order: the main file, then the drop-ins.

    A user's main file replaces the system's main file and drop-ins.

    Raises:
        InvalidConfiguration: a folder cannot be read.

    Source: containers/image v5 pkg/sysregistriesv2, newConfigWrapperWithHomeDir.
    """
    named = environment.get("CONTAINERS_REGISTRIES_CONF") or environment.get(
        "REGISTRIES_CONFIG_PATH"
    )
    own = environment.get("XDG_CONFIG_HOME")
    config = Path(own) if own and Path(own).is_absolute() else home / ".config" if home else None
    users = config / "containers" if config and is_in_reach(config) else None
    folders = [system / "containers", *((users,) if users else ())]
    if named:
        main = Path(named)
    elif users is not None and (users / _NAME).exists():
        main, folders = users / _NAME, [users]
    else:
        main = system / "containers" / _NAME
    return (main, *(file for folder in folders for file in _drop_ins(folder / f"{_NAME}.d")))


def is_in_reach(path: Path) -> bool:
    """Whether this user may access a default path, whether it exists or not.

    In a container the home is often another user's and must be ignored.
    """
    try:
        path.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def is_folder(path: Path) -> bool:
    """Whether this is a folder that the user may access."""
    return is_in_reach(path) and path.is_dir()


def mentions_registries(body: bytes) -> bool:
    """Whether a file may configure registries."""
    return _SPEAKS.search(body) is not None


def may_block(files: Iterable[Path]) -> bool:
    """Whether any file may block a registry."""
    return any(_BLOCKS.search(read_file(file) or b"") for file in files)


def read_file(path: Path) -> bytes | None:
    """Read a file; None if absent."""
    try:
        body, _ = read_regular(path, MAX_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidConfiguration(str(path), "", reason) from error
    if len(body) > MAX_FILE:
        raise InvalidConfiguration(str(path), "", f"it is larger than {MAX_FILE} bytes")
    return body


def _drop_ins(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.name.endswith(".conf"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidConfiguration(str(folder), "", reason) from error


Certificates: TypeAlias = "tuple[tuple[str, ...], tuple[ClientFiles, ...]]"


def certificate_folders(
    environment: Mapping[str, str], home: Path | None, system: Path
) -> tuple[Path, ...]:
    """List the certificate folders, best first.

    Source: containers-certs.d(5); docs.docker.com, "Verify repository client with certificates".
    """
    own = environment.get("XDG_CONFIG_HOME")
    config = Path(own) if own and Path(own).is_absolute() else home / ".config" if home else None
    users = (config / "containers/certs.d",) if config else ()
    rootless = (config / "docker/certs.d",) if config else ()
    return (*users, system / "containers/certs.d", system / "docker/certs.d", *rootless)


def find_certificates(folders: tuple[Path, ...], host: str) -> tuple[Certificates, str]:
    """Read the first certificate folder of `host[:port]`; also return its path."""
    for folder in folders:
        place = folder / host
        if is_folder(place):
            return read_certificates(place), str(place)
    return ((), ()), ""


def _is_file_of_sorts(entry: os.DirEntry[str]) -> bool:
    """Whether an entry exists and is not a folder; special files are refused when read."""
    return not entry.is_dir() and os.path.exists(entry.path)  # noqa: PTH110 - beside `scandir`


def read_certificates(folder: Path) -> Certificates:
    """Read one folder: `*.crt` are certificate authorities; `X.cert` and `X.key` are a pair."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if _is_file_of_sorts(entry))
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidConfiguration(str(folder), "", reason) from error
    from resolver.core.registry.endpoints import ClientFiles  # noqa: PLC0415 - where there is a folder

    authorities = tuple(str(folder / name) for name in names if name.endswith(".crt"))
    pairs: list[ClientFiles] = []
    for name in names:
        stem, dot, ending = name.rpartition(".")
        other = {"cert": f"{stem}.key", "key": f"{stem}.cert"}.get(ending) if dot else None
        if other is None:
            continue
        if other not in names:
            raise InvalidConfiguration(str(folder / name), "", f"`{other}` is missing beside it")
        if ending == "cert":
            pairs.append(ClientFiles(str(folder / name), str(folder / other)))
    return authorities, tuple(pairs)
