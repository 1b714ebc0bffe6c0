"""Certificates per host, where Docker and containers keep them (protocol.md 14.1)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.hosts import ClientFiles
from resolver.errors import InvalidConfiguration
from resolver.sources.conf_files import is_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

Certificates = tuple[tuple[str, ...], tuple[ClientFiles, ...]]


def certificate_folders(
    environment: Mapping[str, str], home: Path | None, system: Path
) -> tuple[Path, ...]:
    """List where folders of certificates may be, best first.

    Source: containers-certs.d(5); docs.docker.com, "Verify repository client with certificates".
    """
    own = environment.get("XDG_CONFIG_HOME")
    config = Path(own) if own and Path(own).is_absolute() else home / ".config" if home else None
    users = (config / "containers/certs.d",) if config else ()
    rootless = (config / "docker/certs.d",) if config else ()
    return (*users, system / "containers/certs.d", system / "docker/certs.d", *rootless)


def find_certificates(folders: tuple[Path, ...], host: str) -> tuple[Certificates, str]:
    """Read the first folder there is for `host[:port]`; also say which one it was.

    Raises:
        InvalidConfiguration: it cannot be read, or a certificate lacks its key, or a key its
            certificate.

    """
    for folder in folders:
        place = folder / host
        if is_folder(place):
            return read_certificates(place), str(place)
    return ((), ()), ""


def _is_file_of_sorts(entry: os.DirEntry[str]) -> bool:
    """Whether there is something to read; what is no regular file is refused when it is."""
    return not entry.is_dir() and os.path.exists(entry.path)  # noqa: PTH110 - beside `scandir`


def read_certificates(folder: Path) -> Certificates:
    """Read one folder: `*.crt` are authorities, `X.cert` and `X.key` belong together.

    Raises:
        InvalidConfiguration: as `find_certificates`.

    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if _is_file_of_sorts(entry))
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidConfiguration(str(folder), "", reason) from error
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
