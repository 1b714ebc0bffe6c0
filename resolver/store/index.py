"""Cached index of the content each name needs, so that listing a large store stays fast.

It is only a cache. An entry is valid while its name file and all content read for it are unchanged
(inode, size and times) and absent content is still absent; otherwise it is read again. The file may
be removed at any time. It is written atomically, and a damaged one is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resolver.core.oci.attached import Attached
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.errors import ResolverError, StoreFault
from resolver.store.files import faults, temporary
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.store import StoredImage
    from resolver.store.files import StoreFolder

#: File in the root of the store.
INDEX = "names.index"
#: The same for the files in `seen`.
NOTES = "seen.index"
#: Fewest names for which the index is used; fewer are read as fast.
LEAST = 256
_SCHEMA = 2
#: Entries read again after which the index is rewritten.
_STALE = 64
#: Largest index that is read, in bytes; a name takes about 1,000.
_MOST = 256 << 20
#: Nanoseconds after a change within which another may leave the same times.
_BLURRED = 2_000_000_000

#: Identity of a file: inode, size, mtime and ctime.
Signature = tuple[int, int, int, int]


def signature(status: os.stat_result) -> Signature:
    """Return values that change whenever a file is written or replaced."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stats_in(root: StoreFolder, *names: str) -> dict[str, os.stat_result]:
    """Return the status of every file in a folder without following links; empty if absent."""
    folder = root.enter(*names)
    if folder is None:
        return {}
    found: dict[str, os.stat_result] = {}
    with folder, faults(folder.path), os.scandir(folder.descriptor) as entries:
        for entry in entries:
            try:
                found[entry.name] = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
    return found


class Files(Mapping[Digest, os.stat_result]):
    """The files in `blobs` at one time; records which were looked up.

    Attributes:
        looked: digests looked up since it was last emptied.
    """

    def __init__(self, root: StoreFolder) -> None:
        self.by_text = {
            f"{algorithm}:{name}": status
            for algorithm, digits in HEX_DIGITS.items()
            for name, status in stats_in(root, "blobs", algorithm).items()
            if len(name) == digits and not name.strip("0123456789abcdef")
        }
        self.looked: set[str] = set()

    def __getitem__(self, digest: Digest) -> os.stat_result:
        text = str(digest)
        self.looked.add(text)
        return self.by_text[text]

    def __iter__(self) -> Iterator[Digest]:
        return map(Digest.parse, self.by_text)

    def __len__(self) -> int:
        return len(self.by_text)

    def signature(self, text: str) -> Signature | None:
        """Return the signature of a file; None where there is none."""
        status = self.by_text.get(text)
        return None if status is None else signature(status)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A cached name: its listing and the content it needs.

    Attributes:
        pieces: digests of the content it needs, as text.
        looked: digests that were looked up for it, present or absent.
        is_lasting: all reads succeeded, so that it can be cached.
    """

    name: Signature
    image: StoredImage
    pieces: tuple[str, ...]
    looked: tuple[str, ...]
    is_lasting: bool = True


def read_index(root: StoreFolder, files: Files) -> dict[str, Entry]:
    """Return the entries still valid by name file; the caller must check that file itself."""
    text = _unsealed(root, INDEX)
    if text is None:
        return {}
    try:
        return _read(json.loads(text), files)
    except (ValueError, TypeError, KeyError, IndexError, ResolverError):
        # Written by another version.
        return {}


def write_index(root: StoreFolder, files: Files, entries: Mapping[str, Entry], fresh: int) -> None:
    """Write the index if worthwhile; ignored for a store that cannot be written."""
    if len(entries) < LEAST or fresh < _STALE:
        return
    _put_sealed(root, INDEX, _write(entries, files, time.time_ns() - _BLURRED))


#: What a reference resolved to: reference, media type, digest and size.
Note = tuple[str, str, str, int]


def read_notes(root: StoreFolder) -> dict[str, tuple[Signature, Note]]:
    """Return the cached contents of `seen` by file; the caller must check the files themselves."""
    text = _unsealed(root, NOTES)
    if text is None:
        return {}
    try:
        value = json.loads(text)
        if value["schema"] != _SCHEMA:
            return {}
        return {file: (tuple(own), tuple(note)) for file, (own, note) in value["notes"].items()}
    except (ValueError, TypeError, KeyError):
        return {}


def write_notes(root: StoreFolder, notes: Mapping[str, tuple[Signature, Note]], fresh: int) -> None:
    """Cache the contents of `seen`; see `write_index`."""
    if len(notes) < LEAST or fresh < _STALE:
        return
    before = time.time_ns() - _BLURRED
    settled = {file: pair for file, pair in notes.items() if max(pair[0][2:]) <= before}
    _put_sealed(root, NOTES, {"schema": _SCHEMA, "notes": settled})


def _unsealed(root: StoreFolder, name: str) -> bytes | None:
    """Return the contents of a sealed file; None if absent or damaged."""
    try:
        file = root.open(name)
        if file is None:
            return None
        with file:
            body = b"".join(file.chunks()) if file.status.st_size <= _MOST else b""
    except StoreFault:
        return None
    head, _, text = body.partition(b"\n")
    return text if head == _seal(text) else None


def _put_sealed(root: StoreFolder, name: str, value: object) -> None:
    text = json.dumps(value).encode()
    try:
        with root.need("tmp") as tmp, temporary(tmp, sync=False) as file:
            file.write(_seal(text) + b"\n" + text)
            file.publish(root, name, mode=0o600)
    except StoreFault:
        return


def _seal(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _write(entries: Mapping[str, Entry], files: Files, before: int) -> dict[str, object]:
    """Return entries as JSON; files changed after `before`, in ns, may change again unnoticed."""
    numbers: dict[str, int] = {}
    signatures: list[Signature | None] = []
    blurred: set[str] = set()
    names: dict[str, object] = {}
    for name, entry in entries.items():
        for digest in entry.looked:
            if digest not in numbers:
                numbers[digest] = len(numbers)
                signatures.append(files.signature(digest))
                if (known := signatures[-1]) is not None and max(known[2:]) > before:
                    blurred.add(digest)
        image = _write_image(entry.image)
        # Incomplete entries are read again; entries that JSON cannot represent are left out.
        if (
            entry.is_lasting
            and max(entry.name[2:]) <= before
            and not entry.image.missing
            and blurred.isdisjoint(entry.looked)
            and _read_image(image) == entry.image
        ):
            looked = [numbers[digest] for digest in entry.looked]
            names[name] = [entry.name, image, [numbers[d] for d in entry.pieces], looked]
    digests = list(numbers)
    return {"schema": _SCHEMA, "digests": digests, "signatures": signatures, "names": names}


def _read(value: dict[str, Any], files: Files) -> dict[str, Entry]:
    if value["schema"] != _SCHEMA:
        return {}
    digests: list[str] = value["digests"]
    changed = {
        number
        for number, (digest, known) in enumerate(zip(digests, value["signatures"], strict=True))
        if files.signature(digest) != (None if known is None else tuple(known))
    }
    return {
        file: Entry(
            tuple(name),
            _read_image(image),
            tuple(digests[number] for number in pieces),
            tuple(digests[number] for number in looked),
        )
        for file, (name, image, pieces, looked) in value["names"].items()
        if changed.isdisjoint(looked)
    }


def _write_image(image: StoredImage) -> list[Any]:
    return [
        image.reference,
        str(image.image_id),
        image.index.media_type,
        str(image.index.digest),
        image.index.size,
        list(image.platforms),
        list(image.offered),
        image.created,
        image.size,
        [_write_attached(each) for each in image.attached],
    ]


def _write_attached(each: Attached) -> list[Any]:
    about = None if each.about is None else str(each.about)
    manifest = each.manifest
    digest = str(manifest.digest)
    return [each.kind, manifest.media_type, digest, manifest.size, about, each.tag]


def _read_attached(value: list[Any]) -> Attached:
    kind, media_type, digest, size, about, tag = value
    manifest = Descriptor(media_type, Digest.parse(digest), size)
    return Attached(kind, manifest, None if about is None else Digest.parse(about), tag)


def _read_image(value: list[Any]) -> StoredImage:
    from resolver.core.results.store import StoredImage  # noqa: PLC0415 - a resolve needs none

    reference, image_id, media_type, digest, size, platforms, offered, created, held, beside = value
    return StoredImage(
        reference,
        Digest.parse(image_id),
        Descriptor(media_type, Digest.parse(digest), size),
        tuple(platforms),
        tuple(offered),
        created,
        held,
        0,
        attached=tuple(map(_read_attached, beside)),
    )
