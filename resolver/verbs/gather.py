"""Gathering: every build behind a name, read side by side, each document once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import INDEX_TYPES, MANIFEST_TYPES, EntryKind
from resolver.core.oci.image import ImageDocuments, ImageEntry
from resolver.core.oci.manifest import MAX_DEPTH, Index, Manifest, oversize, parse_document
from resolver.core.platforms.platform import UNKNOWN
from resolver.core.results.events import Warned
from resolver.errors import LimitExceeded, ResolverError
from resolver.values import dataclass
from resolver.verbs.documents import MAX_VISITED, passed_over, read_config, read_manifest
from resolver.verbs.threads import kept, parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.verbs.documents import DocumentReader, RootDocument

    #: Nested indexes that cannot be read, by their path, each with its failure.
    Broken = dict[tuple[int, ...], ResolverError]


@dataclass(frozen=True, slots=True)
class Depth:
    """How much to read of each entry.

    Attributes:
        broken: keep an index inside the index that cannot be read as a part with its failure,
            instead of failing.
    """

    manifests: bool = True
    configs: bool = True
    attestations: bool = False
    broken: bool = False


def gather(
    reader: DocumentReader,
    root: RootDocument,
    depth: Depth,
    *,
    jobs: int,
    wanted: Callable[[Descriptor], bool] = lambda _entry: True,
) -> ImageDocuments:
    """Read the builds of an image: one request per manifest and config, in parallel.

    An entry that cannot be read keeps its error; the others keep their documents. One with an
    unverifiable digest is not read, and a warning reports it unless `depth.broken` is set.
    """
    top = root.document.descriptor
    if isinstance(root.parsed, Manifest):
        only = _image(reader, top, (), root.parsed, depth, root.text)
        return ImageDocuments(root.text, root.prefix, top, None, (only,))
    broken: dict[tuple[int, ...], ResolverError] = {}
    walk = entries_of(reader, root.parsed, root.text, broken if depth.broken else None)
    entries = list(walk)

    def look(entry: tuple[tuple[int, ...], Descriptor]) -> ImageEntry:
        path, descriptor = entry
        bare = ImageEntry(descriptor, path, descriptor.platform, None, None, broken.get(path))
        if not descriptor.digest.is_verifiable:
            if not depth.broken:
                reader.warn(left_out(descriptor, root.text))
            return bare
        if descriptor.media_type not in MANIFEST_TYPES or not wanted(descriptor):
            return bare
        if not (depth.attestations if descriptor.is_attestation else depth.manifests):
            return bare
        try:
            manifest = read_manifest(reader, descriptor, root.text)
        except ResolverError as error:
            return replace(bare, failure=kept(error))
        return _image(reader, descriptor, path, manifest, depth, root.text)

    parts = []
    for outcome in parallel(look, entries, jobs=jobs):
        if isinstance(outcome.value, ResolverError):
            raise outcome.value
        parts.append(outcome.value)
    return ImageDocuments(root.text, root.prefix, top, root.parsed, tuple(parts))


def gather_platforms(  # noqa: PLR0913 - each of them bounds the requests by itself
    reader: DocumentReader,
    root: RootDocument,
    table: PlatformTable,
    *,
    jobs: int,
    limit: int | None = None,
    decisive: Callable[[ImageDocuments], Iterable[ImageEntry]] = lambda _found: (),
    index_only: bool = False,
) -> ImageDocuments:
    """Find the platforms that an image is offered for, with as few requests as possible.

    An entry whose manifest is not an image gets a warning.

    Most indexes name all platforms. Read are the entries without one, those that share one, where
    only the manifest shows which is the image, and those that decide the caller's question.

    With more than `limit` entries without a platform, none of them is read.
    `decisive` returns the images, of those known so far, that must not be artifacts. Called again
    after each round of reading, until it adds none.
    """
    if isinstance(root.parsed, Manifest):
        return gather(reader, root, Depth(), jobs=jobs)
    found = gather(reader, root, Depth(manifests=False, configs=False), jobs=jobs)
    if index_only:
        return found
    unclear = _unclear(reader, found, table, limit)

    def look(entry: ImageEntry) -> ImageEntry:
        try:
            manifest = read_manifest(reader, entry.descriptor, root.text)
        except ResolverError as error:
            return replace(entry, failure=kept(error))
        depth = Depth(configs=entry.platform is None)
        return _image(reader, entry.descriptor, entry.path, manifest, depth, root.text)

    known = {entry.path: entry for entry in found.parts}
    looked_at: set[tuple[int, ...]] = set()
    while True:
        for outcome in parallel(look, unclear, jobs=jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            entry = outcome.value
            known[entry.path] = entry
            if entry.kind is EntryKind.ARTIFACT and entry.manifest is not None:
                reader.warn(passed_over(root.text, entry.descriptor, entry.manifest))
        found = replace(found, parts=tuple(known.values()))
        looked_at.update(entry.path for entry in unclear)
        unclear = [
            entry
            for entry in decisive(found)
            if entry.path not in looked_at
            and oversize(entry.descriptor, root.text) is None
            and _can_read(reader, entry)
        ]
        if not unclear:
            return found


def named_images(found: ImageDocuments) -> list[ImageEntry]:
    """Choose every image whose platform is known: where all platforms of an image count."""
    return [
        entry
        for entry in found.images
        if entry.platform is not None and entry.platform.os != UNKNOWN
    ]


def _unclear(
    reader: DocumentReader, bare: ImageDocuments, table: PlatformTable, limit: int | None
) -> list[ImageEntry]:
    """Find the entries with incomplete descriptors that can be read."""
    untold = [entry for entry in bare.images if entry.platform is None]
    rivals: dict[Platform, list[ImageEntry]] = {}
    for entry in bare.images:
        if entry.platform is not None:
            rivals.setdefault(entry.platform.normalized(table), []).append(entry)
    doubtful = [
        entry
        for entries in rivals.values()
        if len({entry.descriptor.digest for entry in entries}) > 1
        for entry in entries
        if _can_read(reader, entry)
    ]
    return doubtful if limit is not None and len(untold) > limit else [*untold, *doubtful]


def _can_read(reader: DocumentReader, entry: ImageEntry) -> bool:
    """Whether a manifest is here or may be requested; otherwise the index is trusted."""
    inline = entry.descriptor.data is not None
    return inline or reader.may_request or reader.held(entry.descriptor) is not None


def _image(
    reader: DocumentReader,
    descriptor: Descriptor,
    path: tuple[int, ...],
    manifest: Manifest,
    depth: Depth,
    text: str,
) -> ImageEntry:
    entry = ImageEntry(descriptor, path, descriptor.platform, manifest, None)
    if not depth.configs or not manifest.is_image or descriptor.is_attestation:
        return entry
    try:
        config = read_config(reader, manifest, text)
    except ResolverError as error:
        return replace(entry, failure=kept(error))
    return replace(entry, config=config, platform=descriptor.platform or config.platform)


def entries_of(
    reader: DocumentReader,
    index: Index,
    text: str,
    broken: Broken | None = None,
    nested: dict[tuple[int, ...], Descriptor] | None = None,
) -> Iterator[tuple[tuple[int, ...], Descriptor]]:
    """Yield every entry that is not an index, with its positions from the root down.

    An index with an unverifiable digest is yielded as an entry: it cannot be read.

    Nested indexes are replaced by their entries, each index once.

    `broken` receives, by position, the error of a nested index that cannot be read, which is then
    yielded like any other entry; None to raise it. `nested` receives the nested indexes that were
    read, by position.
    """
    return _walk(reader, index, text, (), (set(), broken, nested))


def _walk(
    reader: DocumentReader,
    index: Index,
    text: str,
    path: tuple[int, ...],
    memory: tuple[set[str], Broken | None, dict[tuple[int, ...], Descriptor] | None],
) -> Iterator[tuple[tuple[int, ...], Descriptor]]:
    seen, broken, nested = memory
    if len(path) >= MAX_DEPTH:
        raise LimitExceeded("the depth of nested indexes", MAX_DEPTH, len(path) + 1, "levels")
    for position, entry in enumerate(index.manifests):
        here = (*path, position)
        if entry.media_type not in INDEX_TYPES or not entry.digest.is_verifiable:
            yield here, entry
        elif str(entry.digest) not in seen:
            seen.add(str(entry.digest))
            if len(seen) > MAX_VISITED:
                raise LimitExceeded("nested indexes", MAX_VISITED, len(seen), "documents")
            try:
                what, kind = f"the index `{entry.digest}` inside `{text}`", entry.media_type
                inner = parse_document(reader.read(entry, what), kind, what, kind)
            except ResolverError as error:
                if broken is None:
                    raise
                broken[here] = error
                yield here, entry
                continue
            if isinstance(inner, Index):
                if nested is not None:
                    nested[here] = entry
                yield from _walk(reader, inner, text, here, memory)


def left_out(entry: Descriptor, text: str) -> Warned:
    """Warn that an index entry cannot be used because its digest cannot be verified."""
    said = f" for `{entry.platform}`" if entry.platform is not None else ""
    return Warned(
        "unverifiable-entry",
        f"the entry `{entry.digest}`{said} of `{text}` cannot be used: "
        f"`{entry.digest.algorithm}` digests cannot be verified",
    )
