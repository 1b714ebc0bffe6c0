"""I1 to I12 of the catalogue, and the order of writes.

Reads the store without `resolver`, whose defects must not hide themselves. Each function raises
`Broken`, so that the negative controls can tell a failed check from a broken test.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kit.outcomes import LABELS, REQUESTS, WALL, Broken, Outcome, must, no_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


HEX = {"sha256": 64, "sha512": 128}
#: Every file and folder allowed at the top of a store.
FILES = frozenset({"CACHEDIR.TAG", "version", "lock", "gate", "names.lock", "loopback.json"})
FOLDERS = frozenset({"blobs", "names", "seen", "partial", "leases", "tmp", "chunks"})

#: Limit of one run: KiB resident.
MEMORY = 256 * 1024

#: Exit statuses by class of failure; 130 and 143 are signals. Source:
#: docs/architecture.md, "Exit statuses".
STATUS = {
    "OK": 0,
    "NEGATIVE": 1,
    "USAGE": 2,
    "NOT_FOUND": 3,
    "AUTH": 4,
    "NETWORK": 5,
    "INTEGRITY": 6,
    "OFFLINE": 7,
    "STORE": 8,
    "INTERRUPTED": 130,
    "TERMINATED": 143,
}


# I1, I9, I10, I11: the store


def blobs(root: Path) -> Iterator[Path]:
    """Yield every path in `blobs` that has the name of a blob."""
    for algorithm, length in HEX.items():
        folder = root / "blobs" / algorithm
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if re.fullmatch(f"[0-9a-f]{{{length}}}", path.name):
                yield path


def digest_at(path: Path) -> str:
    """Return the digest that a path names."""
    return f"{path.parent.name}:{path.name}"


def is_intact(path: Path) -> bool:
    """Return whether a regular file has the digest of its name."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, path.parent.name).hexdigest() == path.name
    except FileNotFoundError:
        return False


def intact(root: Path) -> dict[str, int]:
    """Return the intact blobs: digests and sizes."""
    return {digest_at(path): path.stat().st_size for path in blobs(root) if is_intact(path)}


def whole(root: Path) -> None:
    """I1: every file named as a blob is that blob and is not writable by others."""
    for path in blobs(root):
        must(is_intact(path), "I1", f"{path} is not what its name says")
        must(not path.stat().st_mode & 0o022, "I1", f"{path} can be written by others")


def names(root: Path) -> dict[str, dict[str, Any]]:
    """Read every name of a store; one that cannot be read is broken."""
    found = {}
    folder = root / "names"
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if not re.fullmatch(r"[0-9a-f]{64}\.json", path.name):
            continue
        try:
            record = json.loads(path.read_bytes())
            found[record["reference"]] = record
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise Broken(f"I9: {path} cannot be read: {error!r}") from error
        expected = hashlib.sha256(record["reference"].encode()).hexdigest() + ".json"
        must(path.name == expected, "I9", f"{path} is about {record['reference']}")
    return found


def noted(root: Path) -> set[str]:
    """Return the documents that a resolve recorded; gc keeps them without their children."""
    return {json.loads(path.read_bytes())["root"]["digest"] for path in root.glob("seen/*.json")}


def closure(root: Path, record: dict[str, Any]) -> set[str]:
    """Return the digests that a name needs, as far as its documents are present."""
    found = {record["root"]["digest"]}
    for image in record["images"]:
        manifest = image["manifest"]["digest"]
        found.add(manifest)
        path = root / "blobs" / manifest.replace(":", "/")
        with suppress(FileNotFoundError):
            document = json.loads(path.read_bytes())
            layers = [layer for layer in document["layers"] if not layer.get("urls")]
            found |= {entry["digest"] for entry in [document["config"], *layers]}
    return found


def closed(root: Path) -> None:
    """I9: every name has all its content, complete and of the stated size."""
    held = intact(root)
    for reference, record in names(root).items():
        for digest in sorted(closure(root, record)):
            must(digest in held, "I9", f"{reference} needs {digest}, which is not here")
        for entry in [record["root"], *(image["manifest"] for image in record["images"])]:
            must(entry["size"] == held[entry["digest"]], "I9", f"{reference}: {entry}")


def clean(root: Path) -> None:
    """I10: no transfer, temporary file or lease is left."""
    for name in ("partial", "tmp", "leases"):
        folder = root / name
        left = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        must(not left, "I10", f"{name} holds {left}")


def unlocked(root: Path) -> None:
    """I11: without a running process every lock is free."""
    paths = [root / name for name in ("gate", "lock", "names.lock")]
    paths += [*root.glob("partial/*/lock"), *root.glob("leases/*")]
    for path in paths:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Broken(f"I11: {path} is locked by no running process") from None
            finally:
                os.close(descriptor)


def closed_while_others_work(root: Path) -> None:
    """I9 at any moment: content is stored before its name and removed after it."""
    for reference, record in names(root).items():
        for digest in sorted(closure(root, record)):
            path = root / "blobs" / digest.replace(":", "/")
            if is_intact(path) or names(root).get(reference) != record:
                continue
            # Removed and pulled again in between, within the second that its record tells.
            must(is_intact(path), "I9", f"{reference} needs {digest}, which is not here")


def private(root: Path) -> None:
    """Only documented names at the top, nothing writable by others.

    Source: docs/store-and-reliability.md, "Store ownership".
    """
    for path in root.iterdir():
        must(path.name in FILES | FOLDERS, "ownership", f"unknown file {path}")
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        is_link = stat.S_ISLNK(status.st_mode)
        must(is_link or not status.st_mode & 0o022, "ownership", f"{path}: {status.st_mode:o}")


# I2: everything else


def snapshot(top: Path, *, without: Iterable[Path] = ()) -> dict[str, tuple[object, ...]]:
    """Snapshot everything below a folder: type, size, time, content, link targets."""
    left_out = set(without)
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        folders[:] = [name for name in folders if here / name not in left_out]
        for name in (*folders, *files):
            path = here / name
            if path in left_out:
                continue
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            elif kind == stat.S_IFLNK:
                content = str(path.readlink())
            changed = None if kind == stat.S_IFDIR else status.st_mtime_ns
            found[str(path)] = (kind, status.st_mode, changed, content)
    return found


def unchanged(before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> None:
    """I2: nothing outside the store was created, changed or removed."""
    for path in sorted(before.keys() | after.keys()):
        same = before.get(path) == after.get(path)
        must(same, "I2", f"{path}: {before.get(path)} is {after.get(path)}")


# I3, I4: secrets


def no_secret_below(*folders: Path) -> None:
    """I3, for every file below some folders."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                no_secret(path.read_bytes(), path)


# I5, I6: the output and the cost of a command


def within(outcome: Outcome, requests: int, most: int = REQUESTS) -> None:
    """I5: a command stays within its budget."""
    must(outcome.seconds < WALL, "I5", f"{outcome.seconds:.1f} s", outcome)
    must(outcome.rss < MEMORY, "I5", f"{outcome.rss} KiB", outcome)
    must(requests <= most, "I5", f"{requests} requests", outcome)


def clean_result(outcome: Outcome, *, as_json: bool) -> None:
    """I6: a documented status, at most one error of one line, one document or nothing."""
    must(outcome.status in STATUS.values(), "I6", outcome)
    must("Traceback" not in outcome.err + outcome.out, "I6", outcome)
    lines = outcome.err.splitlines()
    must(all(line.startswith(LABELS) for line in lines), "I6", outcome)
    errors = sum(line.startswith("error: ") for line in lines)
    message = outcome.status > 1 and outcome.status < 100
    must(errors == 1 if message else errors <= 1, "I6", f"{errors} errors", outcome)
    if as_json and outcome.status < 100:
        try:
            json.loads(outcome.out)
        except ValueError as error:
            raise Broken(f"I6: no JSON document: {outcome}") from error
    elif message:
        must(outcome.out == "", "I6", outcome)


# Power


Call = tuple[str, str]


def read_log(path: Path) -> list[Call]:
    """Read the log of an `Injector`: functions and paths, in order."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(name, where) for _number, name, where in rows]


def durable(calls: Iterable[Call], root: Path) -> None:
    """Data is synced before its name, and content before the name that refers to it.

    No other file is renamed, so that no reader sees a name that a power cut may lose; quarantined
    files in `tmp` and the schemes of registries on this machine may be lost. Source:
    docs/store-and-reliability.md, "Write order".
    """
    unsynced: set[str] = set()
    unsettled: set[str] = set()
    for name, where in calls:
        if name in {"write", "pwrite", "copy_file_range", "ftruncate"}:
            unsynced.add(where)
        elif name in {"fsync", "fdatasync"}:
            unsynced.discard(where)
            unsettled.discard(where)
        elif name in {"rename", "replace", "link"}:
            source, _, target = where.partition(" -> ")
            below = Path(target).relative_to(root).parts[0]
            if below in {"tmp", "loopback.json", "chunks"}:
                # What is in `chunks` may be lost, and refers to nothing.
                continue
            must(source not in unsynced, "order", f"{target} was named before it was synced")
            open_ends = sorted(each for each in unsettled if "/blobs/" in each)
            must(below == "blobs" or not open_ends, "order", f"{target} before {open_ends}")
            unsettled.add(str(Path(target).parent))
    must(not unsettled, "order", f"never synced: {sorted(unsettled)}")


def lose_power(calls: Iterable[Call]) -> None:
    """Simulate a power cut: files that were not synced are empty or lack their names.

    The worst that may happen, and all of it at once: data that was not synced is gone, and so is
    every new name whose folder was not synced.
    """
    unsynced: set[str] = set()
    fresh: dict[str, set[str]] = {}
    for name, where in calls:
        if name in {"write", "pwrite", "copy_file_range", "ftruncate", "posix_fallocate"}:
            unsynced.add(where)
        elif name in {"fsync", "fdatasync"}:
            unsynced.discard(where)
            fresh.pop(where, None)
        elif name in {"rename", "replace"}:
            source, _, target = where.partition(" -> ")
            unsynced.discard(target)
            if source in unsynced:
                unsynced.remove(source)
                unsynced.add(target)
            fresh.setdefault(str(Path(target).parent), set()).add(target)
        elif name == "unlink":
            unsynced.discard(where)
    _lose(unsynced, (target for targets in fresh.values() for target in targets))


def _lose(data: Iterable[str], names_of: Iterable[str]) -> None:
    """Empty some files, and remove others."""
    for where in data:
        path = Path(where)
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"")
            path.chmod(0o444)
    for where in names_of:
        Path(where).unlink(missing_ok=True)
