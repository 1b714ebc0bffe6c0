"""Looking into an image: what it offers, and the documents behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.config import parse_config
from resolver.core.oci.descriptor import INDEX_TYPES, EntryKind
from resolver.core.oci.image import SPEAKS_ABOUT, ImageEntry
from resolver.core.oci.manifest import MAX_DEPTH, Index, Manifest, parse_document
from resolver.core.results.events import Warned
from resolver.core.results.resolve import Inspection, Offer, Offers
from resolver.errors import LimitExceeded, ResolverError
from resolver.values import dataclass
from resolver.verbs.documents import MAX_VISITED, passed_over, read_config, read_manifest, type_of
from resolver.verbs.gather import Depth, gather
from resolver.verbs.resolve import resolve_document
from resolver.verbs.threads import each

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.verbs.documents import DocumentReader, PlatformRequest, RootDocument


def offers(reader: DocumentReader, asked: RootDocument, *, sizes: bool, jobs: int) -> Offers:
    """List what an image offers; with `sizes`, each manifest is read once (and kept).

    Attestations and artifacts are told apart and never counted as platforms (D5, D11). Nested
    indexes count as the entries inside them.

    Raises:
        ResolverError: a manifest cannot be read, where sizes were asked for.

    """
    root = asked.document.descriptor
    if isinstance(asked.parsed, Manifest):
        only = _single_offer(reader, asked, asked.parsed)
        return Offers(asked.text, root, (only,), (), ())
    depth = Depth(manifests=False, configs=False)
    bare = gather(reader, asked, depth, jobs=jobs)
    attestations = tuple(_offer(part) for part in bare.attestations)
    parts = {part.path: part for part in bare.parts}
    if sizes:

        def look(part: ImageEntry) -> ImageEntry:
            manifest = read_manifest(reader, part.descriptor, asked.text)
            platform = part.platform
            if platform is None and manifest.is_image:
                platform = read_config(reader, manifest, asked.text).platform
            return replace(part, manifest=manifest, platform=platform)

        for outcome in each(look, bare.images, jobs=jobs):
            if isinstance(outcome.value, Exception):
                raise outcome.value
            parts[outcome.value.path] = outcome.value
    known = replace(bare, parts=tuple(parts.values()))
    return Offers(
        asked.text,
        root,
        tuple(_offer(part) for part in known.parts if _is_offered(part)),
        attestations,
        tuple(
            passed_over(asked.text, part.descriptor, part.manifest)
            for part in known.artifacts
            if part.manifest is not None
        ),
        tuple(_offer(part) for part in known.artifacts),
    )


def inspect(
    reader: DocumentReader,
    asked: RootDocument,
    wish: PlatformRequest | None,
    table: PlatformTable,
    *,
    config: bool = True,
) -> Inspection:
    """Show the documents behind a name.

    Without a wish, what the name points at is shown, so that an index needs no platform; with
    one, the image that is chosen for it. With `config` the image's config is read too.

    Raises:
        PlatformNotOffered: the wish cannot be met.

    """
    root = asked.document.descriptor
    if wish is not None:
        found = resolve_document(reader, asked, replace(wish, reads=True), table)
        base = _Base(asked.text, found.manifest, root, found.platform, found.warnings)
    elif isinstance(asked.parsed, Index):
        return Inspection(
            reference=asked.text,
            descriptor=root,
            root=root,
            platform=None,
            index=asked.parsed,
            manifest=None,
            config=None,
            body=asked.document.body,
            config_body=None,
            warnings=(),
        )
    else:
        base = _Base(asked.text, root, root, None, ())
    return _image(reader, asked, base, config=config)


@dataclass(frozen=True, slots=True)
class _Base:
    text: str
    descriptor: Descriptor
    root: Descriptor
    platform: Platform | None
    warnings: tuple[Warned, ...]


def _image(reader: DocumentReader, asked: RootDocument, base: _Base, *, config: bool) -> Inspection:
    """Read one image's manifest, and its config where it has one."""
    if isinstance(asked.parsed, Manifest):
        manifest, body = asked.parsed, asked.document.body
    else:
        body = reader.read(base.descriptor, f"the manifest `{base.descriptor.digest}`")
        manifest = read_manifest(reader, base.descriptor, base.text)
    parsed, config_body = None, None
    if config and manifest.config is not None:
        what = f"the config `{manifest.config.digest}` of `{base.text}`"
        config_body = reader.read(manifest.config, what)
        if manifest.is_image:
            parsed = parse_config(config_body, what, len(manifest.layers))
    return Inspection(
        reference=base.text,
        descriptor=base.descriptor,
        root=base.root,
        platform=base.platform or (parsed.platform if parsed is not None else None),
        index=None,
        manifest=manifest,
        config=parsed,
        body=body,
        config_body=config_body,
        warnings=base.warnings,
    )


def _is_offered(part: ImageEntry) -> bool:
    # An index that cannot be verified cannot be entered, and stands for what is in it.
    closed = part.kind is EntryKind.INDEX and not part.descriptor.digest.is_verifiable
    return closed or part.kind is EntryKind.IMAGE


def _offer(part: ImageEntry) -> Offer:
    manifest = part.manifest
    return Offer(
        descriptor=part.descriptor,
        platform=part.platform,
        size=sum(layer.size for layer in manifest.layers) if manifest is not None else None,
        layers=len(manifest.layers) if manifest is not None else None,
        refers_to=part.descriptor.annotation(SPEAKS_ABOUT),
        artifact_type=_artifact_type(part) if part.kind is EntryKind.ARTIFACT else None,
    )


def _artifact_type(part: ImageEntry) -> str:
    if part.manifest is not None:
        return type_of(part.manifest)
    return part.descriptor.artifact_type or part.descriptor.media_type


def _single_offer(reader: DocumentReader, asked: RootDocument, manifest: Manifest) -> Offer:
    """Describe a name that points at one image: its config says for which platform."""
    platform = None
    if manifest.is_image:
        platform = read_config(reader, manifest, asked.text).platform
    return _offer(ImageEntry(asked.document.descriptor, (), platform, manifest, None))


if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.verbs.documents import DocumentReader

    Broken = dict[tuple[int, ...], ResolverError]


def entries_of(
    reader: DocumentReader,
    index: Index,
    text: str,
    broken: Broken | None = None,
    nested: dict[tuple[int, ...], Descriptor] | None = None,
) -> Iterator[tuple[tuple[int, ...], Descriptor]]:
    """Give every entry that is no index, with its positions from the root down.

    An index whose digest cannot be verified is given as an entry: it cannot be read.

    Nested indexes count as the entries inside them, in their place, and each of them once.

    Args:
        reader: of the place that the index is in.
        index: where to begin.
        text: the name that led here, for messages.
        broken: is told, by position, why a nested index could not be read, which is then given
            like any other entry; None to have the failure raised.
        nested: receives the nested indexes that were read, by position.

    Raises:
        LimitExceeded: nested deeper than 8, or more than 1,000 of them.
        ResolverError: a nested index cannot be read.
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
                inner = _inner(reader, entry, text)
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
    """Say that an entry of an index cannot be used because its digest cannot be verified."""
    said = f" for `{entry.platform}`" if entry.platform is not None else ""
    return Warned(
        "unverifiable-entry",
        f"the entry `{entry.digest}`{said} of `{text}` cannot be used: "
        f"`{entry.digest.algorithm}` digests cannot be verified",
    )


def _inner(reader: DocumentReader, entry: Descriptor, text: str) -> Index | Manifest:
    what, kind = f"the index `{entry.digest}` inside `{text}`", entry.media_type
    return parse_document(reader.read(entry, what), kind, what, kind)
