"""Looking into an image: what it offers, and the documents behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.attestations import SPEAKS_ABOUT
from resolver.core.contents import Inspection, Offer, Offers
from resolver.core.descriptor import EntryKind
from resolver.core.gathered import Part
from resolver.core.image_config import parse_config
from resolver.core.manifest import Index, Manifest
from resolver.flow.batch import each
from resolver.flow.choose import passed_over, read_config, read_manifest, type_of
from resolver.flow.gather import Depth, gather
from resolver.flow.resolve import resolve
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.core.events import Warned
    from resolver.core.platform import Platform, PlatformTable
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked, Wish


def offers(reader: Reader, asked: Asked, *, sizes: bool, jobs: int) -> Offers:
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

        def look(part: Part) -> Part:
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
    reader: Reader, asked: Asked, wish: Wish | None, table: PlatformTable, *, config: bool = True
) -> Inspection:
    """Show the documents behind a name.

    Without a wish, what the name points at is shown, so that an index needs no platform; with
    one, the image that is chosen for it. With `config` the image's config is read too.

    Raises:
        PlatformNotOffered: the wish cannot be met.

    """
    root = asked.document.descriptor
    if wish is not None:
        found = resolve(reader, asked, replace(wish, reads=True), table)
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


def _image(reader: Reader, asked: Asked, base: _Base, *, config: bool) -> Inspection:
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


def _is_offered(part: Part) -> bool:
    # An index that cannot be verified cannot be entered, and stands for what is in it.
    closed = part.kind is EntryKind.INDEX and not part.descriptor.digest.is_verifiable
    return closed or part.kind is EntryKind.IMAGE


def _offer(part: Part) -> Offer:
    manifest = part.manifest
    return Offer(
        descriptor=part.descriptor,
        platform=part.platform,
        size=sum(layer.size for layer in manifest.layers) if manifest is not None else None,
        layers=len(manifest.layers) if manifest is not None else None,
        refers_to=part.descriptor.annotation(SPEAKS_ABOUT),
        artifact_type=_artifact_type(part) if part.kind is EntryKind.ARTIFACT else None,
    )


def _artifact_type(part: Part) -> str:
    if part.manifest is not None:
        return type_of(part.manifest)
    return part.descriptor.artifact_type or part.descriptor.media_type


def _single_offer(reader: Reader, asked: Asked, manifest: Manifest) -> Offer:
    """Describe a name that points at one image: its config says for which platform."""
    platform = None
    if manifest.is_image:
        platform = read_config(reader, manifest, asked.text).platform
    return _offer(Part(asked.document.descriptor, (), platform, manifest, None))
