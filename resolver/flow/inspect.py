"""Looking into an image: what it offers, and the documents behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.contents import Inspection, Offer, Offers
from resolver.core.descriptor import INDEX_TYPES, MANIFEST_TYPES
from resolver.core.image_config import parse_config
from resolver.core.manifest import Index, Manifest
from resolver.flow.batch import each
from resolver.flow.choose import read_config, read_manifest
from resolver.flow.entries import entries_of, left_out
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

    Attestations are told apart and never counted as platforms (D5). Nested indexes count as the
    entries inside them.

    Raises:
        ResolverError: a manifest cannot be read, where sizes were asked for.

    """
    root = asked.document.descriptor
    if isinstance(asked.parsed, Manifest):
        only = _single_offer(reader, asked, asked.parsed)
        return Offers(asked.text, root, (only,), (), ())
    entries = [entry for _path, entry in entries_of(reader, asked.parsed, asked.text)]
    images = [entry for entry in entries if _is_image(entry)]
    attestations = tuple(_offer(entry, None) for entry in entries if entry.is_attestation)
    warnings = tuple(left_out(entry, asked.text) for entry in images if not _is_verifiable(entry))
    if not sizes:
        listed = tuple(_offer(entry, None) for entry in images)
        return Offers(asked.text, root, listed, attestations, warnings)

    def look(entry: Descriptor) -> Offer:
        if not _is_verifiable(entry):
            return _offer(entry, None)
        return _offer(entry, read_manifest(reader, entry, asked.text))

    found = []
    for outcome in each(look, images, jobs=jobs):
        if isinstance(outcome.value, Exception):
            raise outcome.value
        found.append(outcome.value)
    return Offers(asked.text, root, tuple(found), attestations, warnings)


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
        found = resolve(reader, asked, wish, table)
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


def _is_image(entry: Descriptor) -> bool:
    # An index that cannot be verified cannot be entered, and stands for what is in it.
    kinds = MANIFEST_TYPES if _is_verifiable(entry) else MANIFEST_TYPES | INDEX_TYPES
    return entry.media_type in kinds and not entry.is_attestation


def _is_verifiable(entry: Descriptor) -> bool:
    return entry.digest.is_verifiable


def _offer(entry: Descriptor, manifest: Manifest | None) -> Offer:
    return Offer(
        descriptor=entry,
        platform=entry.platform,
        size=sum(layer.size for layer in manifest.layers) if manifest is not None else None,
        layers=len(manifest.layers) if manifest is not None else None,
        refers_to=entry.annotation("vnd.docker.reference.digest"),
    )


def _single_offer(reader: Reader, asked: Asked, manifest: Manifest) -> Offer:
    """Describe a name that points at one image: its config says for which platform."""
    platform = None
    if manifest.is_image:
        platform = read_config(reader, manifest, asked.text).platform
    return replace(_offer(asked.document.descriptor, manifest), platform=platform)
