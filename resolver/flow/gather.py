"""Gathering: every build behind a name, read side by side, each document once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.descriptor import MANIFEST_TYPES
from resolver.core.gathered import Gathered, Part
from resolver.core.manifest import Manifest
from resolver.errors import ResolverError
from resolver.flow.batch import each
from resolver.flow.choose import read_config, read_manifest
from resolver.flow.entries import entries_of, left_out
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.descriptor import Descriptor
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
