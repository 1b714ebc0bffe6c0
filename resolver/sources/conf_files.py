"""Which files of containers' tools there are to read, and whether there is sense in reading them.

Apart from `registries_conf`, which loads a reader of TOML: every question passes here, also one
that the store answers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.errors import InvalidConfiguration
from resolver.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Bytes of one file; honest ones have some thousand. Source: reliability.md 5, docker config.
MAX_FILE: Final = 1 << 20
#: Where the machine's own configuration is.
SYSTEM: Final = Path("/etc")
_NAME: Final = "registries.conf"
#: A table or a key `registry` or `registries`: a file of aliases alone has none.
_SPEAKS = re.compile(
    rb"""^[ \t]*(?:\[{1,2}[ \t]*)?(["']?)registr(?:y|ies)\1[ \t]*(?:\]|\.|=[ \t]*[\[{])""",
    re.MULTILINE,
)
_BLOCKS = re.compile(rb"^[^#\n]*\bblocked\b", re.MULTILINE)


def configuration_files(
    environment: Mapping[str, str], home: Path | None, system: Path
) -> tuple[Path, ...]:
    """List the files that there are to read, in order: the main one, then the drop-ins.

    A user's own main file replaces the system's, and its drop-ins.

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
    """Whether this user may look at a default place at all, be something there or not.

    In a container the home is often another user's: nothing in it is meant for us.
    """
    try:
        path.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def is_folder(path: Path) -> bool:
    """Whether there is a folder that this user may look at."""
    return is_in_reach(path) and path.is_dir()


def speaks_of_registries(body: bytes) -> bool:
    """Whether a file may say something about where registries are."""
    return _SPEAKS.search(body) is not None


def may_block(files: Iterable[Path]) -> bool:
    """Whether some file may forbid a registry; to be found out by reading it, then."""
    return any(_BLOCKS.search(read_file(file) or b"") for file in files)


def read_file(path: Path) -> bytes | None:
    """Read a file whole; None when there is none.

    Raises:
        InvalidConfiguration: it is there and cannot be read, is no regular file, or is too large.

    """
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
    """List drop-ins, in the order of their names."""
    try:
        return sorted(file for file in folder.iterdir() if file.name.endswith(".conf"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidConfiguration(str(folder), "", reason) from error
