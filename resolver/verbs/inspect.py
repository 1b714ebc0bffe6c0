"""Looking into an image: what it offers, and the documents behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import EntryKind
from resolver.core.oci.image import ImageEntry
from resolver.core.oci.manifest import Index, Manifest, parse_config
from resolver.core.results.resolve import Inspection, Offer, Offers
from resolver.values import dataclass
from resolver.verbs.documents import passed_over, read_config, read_manifest, type_of
from resolver.verbs.gather import Depth, gather
from resolver.verbs.resolve import resolve_document
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.events import Warned
    from resolver.verbs.context import Context, PlatformLike
    from resolver.verbs.documents import DocumentReader, PlatformRequest, RootDocument


def offers(reader: DocumentReader, root: RootDocument, *, sizes: bool, jobs: int) -> Offers:
    """List the platforms of an image; with `sizes`, each manifest is read once and stored.

    Attestations and artifacts are listed apart and do not count as platforms, see
    docs/platform-matching.md, "Eligible entries". Nested indexes count as their entries.
    """
    descriptor = root.document.descriptor
    if isinstance(root.parsed, Manifest):
        only = _single_offer(reader, root, root.parsed)
        return Offers(root.text, descriptor, (only,), (), ())
    depth = Depth(manifests=False, configs=False)
    bare = gather(reader, root, depth, jobs=jobs)
    attestations = tuple(_offer(entry) for entry in bare.attestations)
    entries = {entry.path: entry for entry in bare.parts}
    if sizes:

        def look(entry: ImageEntry) -> ImageEntry:
            manifest = read_manifest(reader, entry.descriptor, root.text)
            platform = entry.platform
            if platform is None and manifest.is_image:
                platform = read_config(reader, manifest, root.text).platform
            return replace(entry, manifest=manifest, platform=platform)

        for outcome in parallel(look, bare.images, jobs=jobs):
            if isinstance(outcome.value, Exception):
                raise outcome.value
            entries[outcome.value.path] = outcome.value
    known = replace(bare, parts=tuple(entries.values()))
    return Offers(
        root.text,
        descriptor,
        tuple(_offer(entry) for entry in known.parts if _is_offered(entry)),
        attestations,
        tuple(
            passed_over(root.text, entry.descriptor, entry.manifest)
            for entry in known.artifacts
            if entry.manifest is not None
        ),
        tuple(_offer(entry) for entry in known.artifacts),
    )


def inspect_document(
    reader: DocumentReader,
    root: RootDocument,
    request: PlatformRequest | None,
    table: PlatformTable,
    *,
    config: bool = True,
) -> Inspection:
    """Read the documents behind a reference.

    Without a request, the root document is shown, so that an index needs no platform; with one, the
    image chosen for it. With `config` the image's config is read too.
    """
    descriptor = root.document.descriptor
    if request is not None:
        found = resolve_document(reader, root, replace(request, reads=True), table)
        base = _Base(root.text, found.manifest, descriptor, found.platform, found.warnings)
    elif isinstance(root.parsed, Index):
        return Inspection(
            reference=root.text,
            descriptor=descriptor,
            root=descriptor,
            platform=None,
            index=root.parsed,
            manifest=None,
            config=None,
            body=root.document.body,
            config_body=None,
            warnings=(),
        )
    else:
        base = _Base(root.text, descriptor, descriptor, None, ())
    return _image(reader, root, base, config=config)


@dataclass(frozen=True, slots=True)
class _Base:
    text: str
    descriptor: Descriptor
    root: Descriptor
    platform: Platform | None
    warnings: tuple[Warned, ...]


def _image(reader: DocumentReader, root: RootDocument, base: _Base, *, config: bool) -> Inspection:
    if isinstance(root.parsed, Manifest):
        manifest, body = root.parsed, root.document.body
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


def _is_offered(entry: ImageEntry) -> bool:
    # An unverifiable nested index cannot be read, and is listed itself.
    closed = entry.kind is EntryKind.INDEX and not entry.descriptor.digest.is_verifiable
    return closed or entry.kind is EntryKind.IMAGE


def _offer(entry: ImageEntry) -> Offer:
    manifest = entry.manifest
    return Offer(
        descriptor=entry.descriptor,
        platform=entry.platform,
        size=sum(layer.size for layer in manifest.layers) if manifest is not None else None,
        layers=len(manifest.layers) if manifest is not None else None,
        refers_to=entry.descriptor.attests,
        artifact_type=_artifact_type(entry) if entry.kind is EntryKind.ARTIFACT else None,
    )


def _artifact_type(entry: ImageEntry) -> str:
    if entry.manifest is not None:
        return type_of(entry.manifest)
    return entry.descriptor.artifact_type or entry.descriptor.media_type


def _single_offer(reader: DocumentReader, root: RootDocument, manifest: Manifest) -> Offer:
    platform = None
    if manifest.is_image:
        platform = read_config(reader, manifest, root.text).platform
    return _offer(ImageEntry(root.document.descriptor, (), platform, manifest, None))


def platforms(context: Context, reference: str | Reference, *, sizes: bool = True) -> Offers:
    """List the platforms an image is offered for; with sizes, each manifest is read once."""
    target = context.target(reference)
    reader, warned = context.reader(target)
    root = context.read_root(reader, target)
    found = offers(reader, root, sizes=sizes, jobs=context.settings.jobs)
    reader.report_warnings()
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
    request = None
    if platform is not None or choose:
        request = context.platform_request(platform, exact=exact, verify=config, strict=strict)
    reader, warned = context.reader(target)
    root = context.read_root(reader, target)
    found = inspect_document(reader, root, request, context.table, config=config)
    reader.report_warnings()
    return replace(found, warnings=(*found.warnings, *warned))
