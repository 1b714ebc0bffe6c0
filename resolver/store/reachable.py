"""Reachability: the content that an image needs, starting at its root.

A document that is present and unreadable stops the walk, because its references are unknown
(docs/store-and-reliability.md, "Collection"). An absent document is missing; a pull restores it.
"""

from __future__ import annotations

import re
import stat
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import DOCUMENT_TYPES, Descriptor
from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.core.oci.manifest import MAX_DEPTH, MAX_DOCUMENT, Index, Manifest, parse_document
from resolver.errors import ResolverError, StoreFault, Untrusted
from resolver.store.blobs import examine
from resolver.store.files import TEMPORARY
from resolver.store.leases import LEASE, is_active
from resolver.store.partials import DATA, LOCK, META
from resolver.store.uploads import END, FOLDER, MARK, SESSION
from resolver.values import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from resolver.core.results.pull import PulledName
    from resolver.store.files import StoreFolder


_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Loose:
    """A file outside `blobs` and the names: a partial, a temporary file or a lease.

    Attributes:
        folder: `partial`, `tmp`, `leases` or `uploads`.
        size: in bytes, reserved space included.
        changed: last modification, in seconds since 1970.
        is_active: whether a process holds its lock.

    """

    folder: str
    name: str
    size: int
    changed: float
    is_active: bool


def blob_files(root: StoreFolder) -> dict[Digest, os.stat_result]:
    """Return the status of everything in `blobs` whose name is a digest.

    Raises:
        StoreFault: it cannot be listed.

    """
    found: dict[Digest, os.stat_result] = {}
    for algorithm in HEX_DIGITS:
        folder = root.enter("blobs", algorithm)
        if folder is None:
            continue
        with folder:
            for name in folder.entries():
                if len(name) == HEX_DIGITS[algorithm] and _HEX.fullmatch(name):
                    status = folder.look(name)
                    if status is not None:
                        found[Digest(algorithm, name)] = status
    return found


def partials(root: StoreFolder) -> list[Loose]:
    """List the partials, active or left behind.

    Raises:
        StoreFault: they cannot be listed.

    """
    parent = root.enter("partial")
    if parent is None:
        return []
    with parent:
        found = [_partial(parent, name) for name in parent.entries() if _digest_of(name)]
    return [loose for loose in found if loose is not None]


def temporaries(root: StoreFolder) -> list[Loose]:
    """List our temporary files.

    Raises:
        StoreFault: it cannot be listed.

    """
    return _plain(root, "tmp", TEMPORARY)


def leases(root: StoreFolder) -> list[Loose]:
    """List the leases, active and expired.

    Raises:
        StoreFault: they cannot be listed.

    """
    return _plain(root, "leases", LEASE)


def uploads(root: StoreFolder) -> list[Loose]:
    """List the sessions of uploads, and the marks of what was uploaded; each with its `.end`.

    Raises:
        StoreFault: they cannot be listed.

    """
    pattern = re.compile(f"{SESSION.pattern}(?:{re.escape(END)})?|{MARK.pattern}")
    found = {loose.name: loose for loose in _plain(root, FOLDER, pattern)}
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
    found: list[Loose] = []
    with folder:
        for name in folder.entries():
            status = folder.look(name) if pattern.fullmatch(name) else None
            if status is not None:
                alive = where in ("leases", FOLDER) and is_active(folder, name)
                found.append(Loose(where, name, status.st_size, status.st_mtime, alive))
    return found


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

    Attributes:
        kind: `index`, `manifest`, `config`, `layer`, or `blob` for anything else.
        is_optional: it may be absent, such as foreign layers and subjects.

    """

    descriptor: Descriptor
    kind: str
    is_optional: bool = False


def refuse_incomplete(root: StoreFolder, record: PulledName) -> None:
    """Refuse a name whose content is incomplete.

    Raises:
        StoreFault: content is missing or damaged.

    """
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
    """Walks documents and reads each of them once.

    Args:
        root: the store's folder; must stay open.
        files: the files in `blobs`.

    """

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
        """Return the required content of a pulled name that is missing, in the order of the walk.

        Raises:
            StoreFault: a document of it is damaged.

        """
        return tuple(
            digest
            for digest, need in self.of_name(record).items()
            if not need.is_optional and not self.has(need.descriptor)
        )

    def of_name(self, record: PulledName) -> dict[Digest, Need]:
        """Return the content that a pulled name needs, parents before children.

        That is its root, its complete images, and attached artifacts.

        Raises:
            StoreFault: a document of it is damaged.

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
        """Iterate over a document and its descendants that are present; each document once.

        Raises:
            StoreFault: a document of it is damaged.

        """
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
        """Read a document; None if it is absent.

        Raises:
            StoreFault: it is damaged.

        """
        if descriptor.digest not in self._read:
            self._read[descriptor.digest] = self._parse(descriptor)
        return self._read[descriptor.digest]

    def body(self, digest: Digest) -> bytes | None:
        """Return verified content; None if it is absent or too large for a document.

        Raises:
            StoreFault: it is damaged.

        """
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
                intact, body = examine(file, digest, MAX_DOCUMENT)
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
    """Return the documents that a document references: its manifests and its subject."""
    if document is None:
        return ()
    subject = (document.subject,) if document.subject is not None else ()
    return (*document.manifests, *subject) if isinstance(document, Index) else subject
