"""An index of what each name needs, so that a large store need not be read for every list.

It is never the truth. An entry counts only while the file of its name, and every piece of content
that was looked at for it, is the very file it was (inode, size and times), and what was absent is
absent still; anything else is read anew. The file may be removed at any time. It appears whole or
not at all, and one that is damaged counts as none.
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
from resolver.core.results.store import StoredImage
from resolver.errors import ResolverError, StoreFault
from resolver.store.files import faults, temporary
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.store.files import StoreFolder

#: Its file, in the folder of the store.
INDEX = "names.index"
#: Likewise, of what the files of `seen` say.
NOTES = "seen.index"
#: Names from which on it is kept; fewer are read as fast.
LEAST = 256
_SCHEMA = 2
#: Entries that must have been read anew before it is written again.
_STALE = 64
#: Largest index that is read, in bytes; a name takes about 1,000.
_MOST = 256 << 20
#: Nanoseconds after a change in which the next one might leave the same times.
_BLURRED = 2_000_000_000

#: What tells whether a file is the one that was read: inode, size, and both times of change.
Signature = tuple[int, int, int, int]


def signature(status: os.stat_result) -> Signature:
    """Give what changes whenever a file is written or replaced."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stats_in(root: StoreFolder, *names: str) -> dict[str, os.stat_result]:
    """Look at everything in a folder at once, following nothing; empty where it is absent.

    Raises:
        StoreFault: it cannot be listed.

    """
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
    """What lies in `blobs`, as it was at one time; remembers what was asked for.

    Attributes:
        by_text: by the text of a digest.
        looked: digests that were asked for since somebody emptied this.

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
        """Give the signature of a file; None where there is none."""
        status = self.by_text.get(text)
        return None if status is None else signature(status)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What one name needs, and what a list says of it.

    Attributes:
        name: signature of its file.
        image: its row, with nothing in `shared_size`.
        pieces: digests of all that it needs, as text.
        looked: digests of everything that this follows from, present or absent.
        is_lasting: nothing failed to be read, so that it may be kept.

    """

    name: Signature
    image: StoredImage
    pieces: tuple[str, ...]
    looked: tuple[str, ...]
    is_lasting: bool = True


def read_index(root: StoreFolder, files: Files) -> dict[str, Entry]:
    """Read the entries that hold still, by the names of their files.

    Whether the file of the name is as it was is left to the caller. None where there is no index.
    """
    text = _unsealed(root, INDEX)
    if text is None:
        return {}
    try:
        return _read(json.loads(text), files)
    except (ValueError, TypeError, KeyError, IndexError, ResolverError):
        # Sealed by a version that writes something else.
        return {}


def write_index(root: StoreFolder, files: Files, entries: Mapping[str, Entry], fresh: int) -> None:
    """Keep the entries where that is worth it; a store that cannot be written keeps none.

    Args:
        root: of the store.
        files: that the entries were made with.
        entries: by the names of their files.
        fresh: how many of them were read anew.

    """
    if len(entries) < LEAST or fresh < _STALE:
        return
    _put_sealed(root, INDEX, _write(entries, files, time.time_ns() - _BLURRED))


#: What a reference pointed at when somebody asked: reference, media type, digest and size.
Note = tuple[str, str, str, int]


def read_notes(root: StoreFolder) -> dict[str, tuple[Signature, Note]]:
    """Read what the files of `seen` say, by their names; none where there is no index of use.

    Whether a file is as it was is left to the caller.
    """
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
    """Keep what the files of `seen` say, as `write_index`."""
    if len(notes) < LEAST or fresh < _STALE:
        return
    before = time.time_ns() - _BLURRED
    settled = {file: pair for file, pair in notes.items() if max(pair[0][2:]) <= before}
    _put_sealed(root, NOTES, {"schema": _SCHEMA, "notes": settled})


def _unsealed(root: StoreFolder, name: str) -> bytes | None:
    """Read a file that was written whole; None where there is none, or something else."""
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
    """Turn entries into JSON, digests written once and numbered.

    What changed after `before`, in nanoseconds since 1970, might change again unseen.
    """
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
        # What is incomplete is looked at again; what JSON loses something of stays out.
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
