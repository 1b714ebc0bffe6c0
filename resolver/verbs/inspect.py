"""Looking into an image: what it offers, and the documents behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.config import parse_config
from resolver.core.oci.descriptor import EntryKind
from resolver.core.oci.image import SPEAKS_ABOUT, ImageEntry
from resolver.core.oci.manifest import Index, Manifest
from resolver.core.results.resolve import Inspection, Offer, Offers
from resolver.values import dataclass
from resolver.verbs.documents import passed_over, read_config, read_manifest, type_of
from resolver.verbs.gather import Depth, gather
from resolver.verbs.resolve import resolve_document
from resolver.verbs.threads import each

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.events import Warned
    from resolver.verbs.documents import DocumentReader, PlatformRequest, RootDocument


def offers(reader: DocumentReader, asked: RootDocument, *, sizes: bool, jobs: int) -> Offers:
    """List the platforms of an image; with `sizes`, each manifest is read once and stored.

    Attestations and artifacts are listed apart and do not count as platforms, see
    docs/platform-matching.md, "Eligible entries". Nested indexes count as their entries.

    Raises:
        ResolverError: a manifest cannot be read, and sizes were requested.

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


def inspect_document(
    reader: DocumentReader,
    asked: RootDocument,
    wish: PlatformRequest | None,
    table: PlatformTable,
    *,
    config: bool = True,
) -> Inspection:
    """Read the documents behind a reference.

    Without a request, the root document is shown, so that an index needs no platform; with one, the
    image chosen for it. With `config` the image's config is read too.

    Raises:
        PlatformNotOffered: no entry matches the request.

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
    # An unverifiable nested index cannot be read, and is listed itself.
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
    """Describe a single image, whose config names its platform."""
    platform = None
    if manifest.is_image:
        platform = read_config(reader, manifest, asked.text).platform
    return _offer(ImageEntry(asked.document.descriptor, (), platform, manifest, None))


if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.reference import Reference
    from resolver.verbs.context import Context, PlatformLike
    from resolver.verbs.documents import DocumentReader


def platforms(context: Context, reference: str | Reference, *, sizes: bool = True) -> Offers:
    """List the platforms an image is offered for; with sizes, each manifest is read once."""
    target = context.target(reference)
    reader, warned = context.reader(target)
    asked = context.ask(reader, target)
    found = offers(reader, asked, sizes=sizes, jobs=context.settings.jobs)
    reader.tell_warnings()
    return replace(found, warnings=(*found.warnings, *warned))


def inspect(  # noqa: PLR0913 - one for each option of the verb
    context: Context,
    reference: str | Reference,
    platform: PlatformLike = None,
    *,
    config: bool = True,
    choose: bool = False,
    exact: bool = False,
    strict: bool = False,
) -> Inspection:
    """Read the documents behind a reference; without a platform an index is shown as it is."""
    target = context.target(reference)
    wish = None
    if platform is not None or choose:
        wish = context.wish(platform, exact=exact, verify=config, strict=strict)
    reader, warned = context.reader(target)
    asked = context.ask(reader, target)
    found = inspect_document(reader, asked, wish, context.table, config=config)
    reader.tell_warnings()
    return replace(found, warnings=(*found.warnings, *warned))
