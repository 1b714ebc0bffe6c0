"""Reachability: the content that an image needs, starting at its root.

A document that is present and unreadable stops the walk, because its references are unknown
(docs/store-and-reliability.md, "Collection"). An absent document is missing; a pull restores it.

A cached index of the content that each name needs keeps listing a large store fast. An entry is
valid while its name file and all content read for it are unchanged (inode, size and times) and
absent content is still absent; otherwise it is read again. The index may be removed at any time. It
is written atomically, and a damaged one is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resolver.core.oci.descriptor import DOCUMENT_TYPES, Descriptor
from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.core.oci.manifest import (
    MAX_DEPTH,
    MAX_DOCUMENT,
    Attached,
    Index,
    Manifest,
    parse_document,
)
from resolver.errors import ResolverError, StoreFault, Untrusted
from resolver.store.files import TEMPORARY, temporary
from resolver.store.leases import LEASE, is_active
from resolver.store.partials import DATA, LOCK, META
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.pull import PulledName
    from resolver.core.results.store import StoredImage
    from resolver.store.files import StoreFolder

_HEX = pattern(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Loose:
    """A file outside `blobs` and the names: a partial, a temporary file or a lease.

    `size`: in bytes, reserved space included. `changed`: last modification, in seconds since 1970.
    """

    folder: str
    name: str
    size: int
    changed: float
    is_active: bool


def blob_files(root: StoreFolder) -> dict[Digest, os.stat_result]:
    """Return the status of everything in `blobs` whose name is a digest."""
    return {
        Digest(algorithm, name): status
        for algorithm, digits in HEX_DIGITS.items()
        for name, status in sorted(stats_in(root, "blobs", algorithm).items())
        if len(name) == digits and _HEX.fullmatch(name)
    }


def partials(root: StoreFolder) -> list[Loose]:
    """List the partials, active or left behind."""
    parent = root.enter("partial")
    if parent is None:
        return []
    with parent:
        found = [_partial(parent, name) for name in parent.entries() if _digest_of(name)]
    return [loose for loose in found if loose is not None]


def temporaries(root: StoreFolder) -> list[Loose]:
    """List our temporary files."""
    return _plain(root, "tmp", TEMPORARY)


def leases(root: StoreFolder) -> list[Loose]:
    """List the leases, active and expired."""
    return _plain(root, "leases", LEASE)


def uploads(root: StoreFolder) -> list[Loose]:
    """List the sessions of uploads, and the marks of what was uploaded; each with its `.end`.

    Raises:
        StoreFault: they cannot be listed.

    """
    from resolver.store.uploads import END, FOLDER, MARK, SESSION  # noqa: PLC0415 - for collection

    names = re.compile(f"{SESSION.pattern}(?:{re.escape(END)})?|{MARK.pattern}")
    found = {loose.name: loose for loose in _plain(root, FOLDER, names)}
    # A process that died may have left only the end.
    return [
        loose
        for name, loose in found.items()
        if name.removesuffix(END) not in found or not name.endswith(END)
    ]


def _plain(root: StoreFolder, where: str, pattern: re.Pattern[str]) -> list[Loose]:
    folder = root.enter(where)
    if folder is None:
        return []
    with folder:
        return [
            Loose(
                where, name, status.st_size, status.st_mtime,
                is_active=where in ("leases", "uploads") and is_active(folder, name),
            )
            for name, status in sorted(folder.statuses().items())
            if pattern.fullmatch(name)
        ]  # fmt: skip


def _partial(parent: StoreFolder, name: str) -> Loose | None:
    try:
        folder = parent.enter(name)
    except StoreFault as error:
        if isinstance(error.__cause__, NotADirectoryError):
            return None
        raise
    if folder is None:
        return None
    with folder:
        present = [
            (inner, status)
            for inner in (DATA, META, LOCK)
            if (status := folder.look(inner)) is not None
        ]
        alive = is_active(folder, LOCK)
        own = parent.look(name)
    times = [status.st_mtime for _, status in present]
    changed = max(times, default=own.st_mtime if own is not None else 0.0)
    # The reserved size, since that is what the disk is missing.
    size = sum(
        status.st_size
        for inner, status in present
        if inner == DATA and stat.S_ISREG(status.st_mode)
    )
    return Loose("partial", name, size, changed, alive)


def _digest_of(name: str) -> bool:
    algorithm, _, digits = name.partition("-")
    return len(digits) == HEX_DIGITS.get(algorithm) and bool(_HEX.fullmatch(digits))


_MEND = (
    "repair it with `resolver verify --repair`, or remove the image that needs it with "
    "`resolver rm`"
)


@dataclass(frozen=True, slots=True)
class Need:
    """Content that an image needs.

    `kind`: `index`, `manifest`, `config`, `layer`, or `blob` for anything else.
    """

    descriptor: Descriptor
    kind: str
    is_optional: bool = False


def refuse_incomplete(root: StoreFolder, record: PulledName) -> None:
    """Refuse a name whose content is incomplete."""
    lacking = Reach(root, _Files(root)).lacking(record)
    if lacking:
        digest = lacking[0]
        raise StoreFault(
            root.where("blobs", digest.algorithm, digest.hex),
            f"`{record.reference}` needs it, and it is missing",
            "pull the image again",
        )


class _Files(Mapping[Digest, "os.stat_result"]):
    """The files in `blobs`, looked up one by one."""

    def __init__(self, root: StoreFolder) -> None:
        self._root = root

    def __getitem__(self, digest: Digest) -> os.stat_result:
        # Content that cannot be verified is never stored.
        if not digest.is_verifiable:
            raise KeyError(digest)
        with self._root.need("blobs", digest.algorithm) as folder:
            status = folder.look(digest.hex)
        if status is None:
            raise KeyError(digest)
        return status

    def __iter__(self) -> Iterator[Digest]:
        return iter(blob_files(self._root))

    def __len__(self) -> int:
        return len(blob_files(self._root))


class Reach:
    """Walks documents and reads each of them once; raises `StoreFault` at a damaged one."""

    def __init__(self, root: StoreFolder, files: Mapping[Digest, os.stat_result]) -> None:
        self._root = root
        self._files = files
        self._read: dict[Digest, Index | Manifest | None] = {}
        #: Whether a read failed; results may be incomplete then.
        self.has_failed = False
        #: Content that matches its digest and is not a valid document.
        self.unreadable: set[Digest] = set()

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a regular file of the right size is present."""
        status = self._files.get(descriptor.digest)
        if status is None or not stat.S_ISREG(status.st_mode):
            return False
        return status.st_size == descriptor.size

    def lacking(self, record: PulledName) -> tuple[Digest, ...]:
        """Return the required content of a pulled name that is missing, in walking order."""
        return tuple(
            digest
            for digest, need in self.of_name(record).items()
            if not need.is_optional and not self.has(need.descriptor)
        )

    def of_name(self, record: PulledName) -> dict[Digest, Need]:
        """Return the content that a pulled name needs, parents before children.

        That is its root, its complete images, and attached artifacts.
        """
        needs: dict[Digest, Need] = {}
        for need in self._indexes(record.root):
            needs.setdefault(need.descriptor.digest, need)
        for image in record.images:
            for need in self.of_document(image.manifest):
                needs.setdefault(need.descriptor.digest, need)
        for each in record.attached:
            for need in self.of_document(each.manifest):
                needs.setdefault(need.descriptor.digest, need)
        return needs

    def of_document(self, descriptor: Descriptor) -> Iterator[Need]:
        """Iterate over a document and its descendants that are present; each document once."""
        queue, met = deque([(descriptor, 0)]), {descriptor.digest}
        while queue:
            current, depth = queue.popleft()
            if current.media_type not in DOCUMENT_TYPES:
                # An index may list content that is not a manifest; its references are unknown.
                yield Need(current, "blob", is_optional=depth > 0)
                continue
            document = self.document(current)
            yield Need(current, _kind(current, document), is_optional=depth > 0)
            if isinstance(document, Manifest):
                if document.config is not None:
                    yield Need(document.config, "config")
                for layer in document.layers:
                    yield Need(layer, "layer", is_optional=bool(layer.urls))
            for child in _children(document):
                # Only entries that were pulled are present.
                if child.digest in self._files and child.digest not in met and depth < MAX_DEPTH:
                    met.add(child.digest)
                    queue.append((child, depth + 1))

    def as_far_as_known(self, descriptor: Descriptor) -> list[Need]:
        """Walk from a document and stop at damage."""
        needs: list[Need] = []
        try:
            for need in self.of_document(descriptor):
                needs.append(need)  # noqa: PERF402 - keeps the needs before a fault
        except StoreFault:
            return needs
        return needs

    def document(self, descriptor: Descriptor) -> Index | Manifest | None:
        """Read a document; None if it is absent."""
        if descriptor.digest not in self._read:
            self._read[descriptor.digest] = self._parse(descriptor)
        return self._read[descriptor.digest]

    def body(self, digest: Digest) -> bytes | None:
        """Return verified content; None if it is absent or too large for a document."""
        try:
            return self._body(digest)
        except StoreFault:
            self.has_failed = True
            raise

    def document_like(self, digest: Digest) -> Descriptor | None:
        """Return the descriptor of an index or manifest; None for anything else or if damaged."""
        status = self._files.get(digest)
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_size > MAX_DOCUMENT:
            return None
        if not self.looks_like_json(digest):
            return None
        try:
            body = self.body(digest)
            if body is None:
                return None
            media_type = parse_document(body, None, f"`{digest}`").media_type
        except ResolverError:
            return None
        return Descriptor(media_type, digest, status.st_size)

    def looks_like_json(self, digest: Digest) -> bool:
        """Whether a file starts like a JSON object; False if it is absent."""
        with self._root.need("blobs", digest.algorithm) as folder:
            file = folder.open(digest.hex)
            if file is None:
                return False
            with file:
                return next(file.chunks(64), b"").lstrip()[:1] == b"{"

    def _body(self, digest: Digest) -> bytes | None:
        status = self._files.get(digest)
        if status is None or status.st_size > MAX_DOCUMENT:
            return None
        path = self._root.where("blobs", digest.algorithm, digest.hex)
        with self._root.need("blobs", digest.algorithm) as folder:
            file = folder.open(digest.hex)
            if file is None:
                if not stat.S_ISREG(status.st_mode):
                    raise StoreFault(path, "it is not a regular file", _MEND)
                return None
            with file:
                intact, body = file.examine(digest, MAX_DOCUMENT)
        if not intact:
            raise StoreFault(path, "it is damaged, so its references are unknown", _MEND)
        return body

    def _indexes(self, descriptor: Descriptor) -> Iterator[Need]:
        """Iterate over a root and its nested indexes that are present, without images."""
        queue, met = deque([(descriptor, 0)]), {descriptor.digest}
        while queue:
            current, depth = queue.popleft()
            document = self.document(current)
            yield Need(current, _kind(current, document), is_optional=depth > 0)
            for child in document.manifests if isinstance(document, Index) else ():
                is_new = child.is_index and child.digest not in met and depth < MAX_DEPTH
                if is_new and child.digest in self._files:
                    met.add(child.digest)
                    queue.append((child, depth + 1))

    def _parse(self, descriptor: Descriptor) -> Index | Manifest | None:
        body = self.body(descriptor.digest)
        if body is None:
            return None
        try:
            # The type follows from the document; a descriptor may state another.
            return parse_document(body, None, f"`{descriptor.digest}`")
        except Untrusted as error:
            self.has_failed = True
            self.unreadable.add(descriptor.digest)
            path = self._root.where("blobs", descriptor.digest.algorithm, descriptor.digest.hex)
            raise StoreFault(path, f"its references are unknown: {error}", _MEND) from error


def _kind(descriptor: Descriptor, document: Index | Manifest | None) -> str:
    is_index = descriptor.is_index if document is None else isinstance(document, Index)
    return "index" if is_index else "manifest"


def _children(document: Index | Manifest | None) -> tuple[Descriptor, ...]:
    if document is None:
        return ()
    subject = (document.subject,) if document.subject is not None else ()
    return (*document.manifests, *subject) if isinstance(document, Index) else subject


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
    """Return the status of everything in a folder without following links; empty if absent."""
    folder = root.enter(*names)
    if folder is None:
        return {}
    with folder:
        return folder.statuses()


class Files(Mapping[Digest, os.stat_result]):
    """The files in `blobs` at one time; records which were looked up.

    `looked`: digests looked up since it was last emptied.
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

    `pieces`: digests of the content it needs, as text. `looked`: digests that were looked up for
    it, present or absent. `is_lasting`: all reads succeeded, so that it can be cached.
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
