"""The files of an image as unpacked by gzip, zstd and GNU tar.

Layers are unpacked into a folder one after the other; the whiteouts of a layer are obeyed before
its files come.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Type, mode, owner, size or target, hash.
Facts = tuple[str, int, tuple[int, int], str, str]
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_TOOLS = {b"\x1f\x8b": ["gzip", "-dc"], b"\x28\xb5": ["zstd", "-dcq"]}


def unpack(layers: Iterable[Path], folder: Path) -> Path:
    """Unpack layers, lowest first; return the folder."""
    root = folder / "rootfs"
    root.mkdir(parents=True)
    for number, layer in enumerate(layers):
        archive = folder / f"{number}.tar"
        with layer.open("rb", buffering=0) as packed, archive.open("wb") as plain:
            tool = _TOOLS.get(packed.read(2), ["cat"])
            packed.seek(0)
            subprocess.run(tool, stdin=packed, stdout=plain, check=True)
        for line, name in zip(_told(archive, "-tvf"), _told(archive, "-tf"), strict=True):
            _obey(root, name, is_folder=line.startswith("d"))
        unpacking = ["tar", "-C", str(root), "-xpf", str(archive), "--exclude=.wh.*"]
        unpacking += ["--numeric-owner"]
        subprocess.run(unpacking, check=True)
    return root


def _told(archive: Path, how: str) -> list[str]:
    command = ["tar", "--quoting-style=literal", how, str(archive)]
    done = subprocess.run(command, check=True, capture_output=True)
    return done.stdout.decode("utf-8", "surrogateescape").splitlines()


def _obey(root: Path, name: str, *, is_folder: bool) -> None:
    path = root / name
    if path.name == _OPAQUE:
        for child in path.parent.iterdir() if path.parent.is_dir() else ():
            _remove(child)
    elif path.name.startswith(_WHITEOUT):
        _remove(path.with_name(path.name.removeprefix(_WHITEOUT)))
    elif not is_folder and path.is_dir() and not path.is_symlink():
        # GNU tar puts no file in the place of a folder that has something in it.
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def listed(root: Path) -> dict[str, Facts]:
    """Describe everything below a folder."""
    found: dict[str, Facts] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - names may be anything
            status = os.lstat(path)
            kind, what, digest = stat.filemode(status.st_mode)[0], "", ""
            if kind == "-":
                with open(path, "rb") as file:  # noqa: PTH123 - likewise
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                what = str(status.st_size)
            elif kind == "l":
                what = os.readlink(path)  # noqa: PTH115 - likewise
            mode = 0 if kind == "l" else stat.S_IMODE(status.st_mode)
            owner = (status.st_uid, status.st_gid)
            found[os.path.relpath(path, root)] = (kind, mode, owner, what, digest)
    return found
