"""Gathering: every build behind a name, read side by side, each document once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.descriptor import MANIFEST_TYPES, EntryKind
from resolver.core.gathered import Gathered, Part
from resolver.core.manifest import Manifest
from resolver.errors import ResolverError
from resolver.flow.batch import each
from resolver.flow.choose import passed_over, read_config, read_manifest
from resolver.flow.entries import entries_of, left_out
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.descriptor import Descriptor
    from resolver.core.platform import Platform, PlatformTable
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked


@dataclass(frozen=True, slots=True)
class Depth:
    """How much to read of each entry.

    Attributes:
        manifests: read the manifests of images.
        configs: read their configs too.
        attestations: read the manifests of attestations as well.
        broken: keep an index inside the index that cannot be read as a part with its failure,
            instead of failing.
    """

    manifests: bool = True
    configs: bool = True
    attestations: bool = False
    broken: bool = False


def gather(
    reader: Reader,
    asked: Asked,
    depth: Depth,
    *,
    jobs: int,
    wanted: Callable[[Descriptor], bool] = lambda _entry: True,
) -> Gathered:
    """Read the builds of an image: one request per manifest and config, side by side.

    An entry that cannot be read keeps its failure; the others keep their documents. One whose
    digest cannot be verified is not read, and a warning says so unless `depth.broken` is set.

    Args:
        reader: of the place the image is in; what the store holds costs no request.
        asked: the name, with its document.
        depth: what to read.
        jobs: entries at once.
        wanted: which entries of an index to read; the others keep only their descriptor.

    Raises:
        LimitExceeded: indexes nested deeper than 8, or more than 1,000 of them.
        ResolverError: a nested index cannot be read.
    """
    root = asked.document.descriptor
    if isinstance(asked.parsed, Manifest):
        only = _image(reader, root, (), asked.parsed, depth, asked.text)
        return Gathered(asked.text, asked.prefix, root, None, (only,))
    broken: dict[tuple[int, ...], ResolverError] = {}
    walk = entries_of(reader, asked.parsed, asked.text, broken if depth.broken else None)
    entries = list(walk)

    def look(entry: tuple[tuple[int, ...], Descriptor]) -> Part:
        path, descriptor = entry
        bare = Part(descriptor, path, descriptor.platform, None, None, broken.get(path))
        if not descriptor.digest.is_verifiable:
            if not depth.broken:
                reader.warn(left_out(descriptor, asked.text))
            return bare
        if descriptor.media_type not in MANIFEST_TYPES or not wanted(descriptor):
            return bare
        if not (depth.attestations if descriptor.is_attestation else depth.manifests):
            return bare
        try:
            manifest = read_manifest(reader, descriptor, asked.text)
        except ResolverError as error:
            return replace(bare, failure=error)
        return _image(reader, descriptor, path, manifest, depth, asked.text)

    parts = []
    for outcome in each(look, entries, jobs=jobs):
        if isinstance(outcome.value, ResolverError):
            raise outcome.value
        parts.append(outcome.value)
    return Gathered(asked.text, asked.prefix, root, asked.parsed, tuple(parts))


def gather_platforms(
    reader: Reader, asked: Asked, table: PlatformTable, *, jobs: int, limit: int | None = None
) -> Gathered:
    """Learn which platforms an image is offered for, at as few requests as that can cost.

    An entry that its manifest shows to be no image is warned of.

    An index mostly says so. Read are the entries that name no platform, and those of which several
    are for one platform, where the manifest shows which is the image.

    Args:
        reader: of the place the image is in.
        asked: the name, with its document.
        table: the platforms there are.
        jobs: documents at once.
        limit: read none of the entries without a platform if there are more of them.

    Raises:
        LimitExceeded: as `gather`.
        ResolverError: a nested index cannot be read; of one entry, see `Part.failure`.
    """
    if isinstance(asked.parsed, Manifest):
        return gather(reader, asked, Depth(), jobs=jobs)
    bare = gather(reader, asked, Depth(manifests=False, configs=False), jobs=jobs)
    unclear = _unclear(reader, bare, table, limit)

    def look(part: Part) -> Part:
        try:
            manifest = read_manifest(reader, part.descriptor, asked.text)
        except ResolverError as error:
            return replace(part, failure=error)
        depth = Depth(configs=part.platform is None)
        return _image(reader, part.descriptor, part.path, manifest, depth, asked.text)

    known = {part.path: part for part in bare.parts}
    for outcome in each(look, unclear, jobs=jobs):
        if isinstance(outcome.value, ResolverError):
            raise outcome.value
        part = outcome.value
        known[part.path] = part
        if part.kind is EntryKind.ARTIFACT and part.manifest is not None:
            reader.warn(passed_over(asked.text, part.descriptor, part.manifest))
    return replace(bare, parts=tuple(known[part.path] for part in bare.parts))


def _unclear(reader: Reader, bare: Gathered, table: PlatformTable, limit: int | None) -> list[Part]:
    """Find the entries whose descriptors do not say enough, as far as they can be read."""
    untold = [part for part in bare.images if part.platform is None]
    rivals: dict[Platform, list[Part]] = {}
    for part in bare.images:
        if part.platform is not None:
            rivals.setdefault(part.platform.normalized(table), []).append(part)
    doubtful = [
        part
        for parts in rivals.values()
        if len({part.descriptor.digest for part in parts}) > 1
        for part in parts
        if reader.may_ask or reader.held(part.descriptor) is not None
    ]
    return doubtful if limit is not None and len(untold) > limit else [*untold, *doubtful]


def _image(
    reader: Reader,
    descriptor: Descriptor,
    path: tuple[int, ...],
    manifest: Manifest,
    depth: Depth,
    text: str,
) -> Part:
    part = Part(descriptor, path, descriptor.platform, manifest, None)
    if not depth.configs or not manifest.is_image or descriptor.is_attestation:
        return part
    try:
        config = read_config(reader, manifest, text)
    except ResolverError as error:
        return replace(part, failure=error)
    return replace(part, config=config, platform=descriptor.platform or config.platform)
