"""Plan a pull: resolve references, list every piece they need, and find what is held."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import CONFIG_TYPES, MANIFEST_TYPES, OCI_ARTIFACT
from resolver.core.oci.manifest import (
    Index,
    LeftOut,
    Manifest,
    kind_of,
    parse_config,
    refers_to,
)
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import RegistryTarget
from resolver.core.platforms.platform import Platform
from resolver.core.platforms.select import select
from resolver.core.results.events import Warned
from resolver.core.results.plan import (
    TIER,
    ContentState,
    EngineNeeds,
    ImageContent,
    PlannedImage,
    Selected,
    plan_pieces,
)
from resolver.core.results.resolve import Failure, Resolution
from resolver.errors import LimitExceeded, NotFound, NotInStore, ResolverError, StoreFault, Usage
from resolver.values import dataclass
from resolver.verbs.documents import PlatformRequest, read_config, read_manifest
from resolver.verbs.fetch import find_held
from resolver.verbs.gather import entries_of
from resolver.verbs.resolve import contradiction, resolve_document
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import AttachedKind
    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.results.export import Kind
    from resolver.core.results.plan import ChunkMode, ChunkReuse, Piece, Plan
    from resolver.sources.tier import Tier
    from resolver.store import LocalStore
    from resolver.verbs.context import Context, PlatformLike, PlatformsLike
    from resolver.verbs.documents import DocumentReader, RootDocument
    from resolver.verbs.fetch import ContentPlace


#: Pieces of one operation. Source: docs/store-and-reliability.md, "Index traversal".
MAX_PIECES = 20_000
#: Tags under which cosign keeps what is about `sha256:HEX`. Source: cosign, "SIGNATURE_SPEC.md".
_COSIGN = ("sig", "att", "sbom")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of an image to plan for, besides the image itself."""

    attestations: bool = True
    referrers: bool = False
    jobs: int = 1


def plan_images(
    reader: DocumentReader,
    root: RootDocument,
    requests: Iterable[PlatformRequest],
    table: PlatformTable,
    extent: Extent = Extent(),  # noqa: B008 - frozen
) -> Selected:
    """Find the images of one reference for some platforms, and list what they consist of.

    Indexes and manifests are read, and kept in the store; configs and layers are not. Requests that
    choose the same image yield one image.
    """
    found: dict[Digest, PlannedImage] = {}
    attached: dict[Digest, PlannedImage] = {}
    considered: dict[tuple[int, ...], Descriptor] = {}
    for request in requests:
        answer = resolve_document(reader, root, replace(request, reads=True), table)
        if answer.index is not None:
            considered |= {each.path: each.descriptor for each in answer.considered}
        if answer.manifest.digest in found:
            continue
        found[answer.manifest.digest] = _image(reader, root, answer)
        if extent.attestations:
            for each in _attached_to(reader, root, answer):
                attached.setdefault(each.manifest.digest, each)
    taken = {*found, *attached}
    entered = {path[:depth] for path in considered for depth in range(1, len(path))}
    left_out = tuple(
        LeftOut(root.text, kind_of(entry), entry, entry.platform)
        for path, entry in sorted(considered.items())
        if entry.digest not in taken and path not in entered
    )
    chosen = Selected(tuple(found.values()), tuple(attached.values()), left_out)
    return _with_referrers(reader, root, chosen, extent)


def plan_everything(
    reader: DocumentReader,
    root: RootDocument,
    extent: Extent = Extent(),  # noqa: B008 - frozen
) -> Selected:
    """Take every entry of an index as it is: images, attestations, artifacts, nested indexes.

    Index and manifests are read, and kept in the store, and the configs of images whose entry
    states no platform.
    """
    if not isinstance(root.parsed, Index):
        raise TypeError("only an index has entries")
    nested: dict[tuple[int, ...], Descriptor] = {}
    listed = list(entries_of(reader, root.parsed, root.text, nested=nested))
    if not listed:
        raise NotFound(f"the index of `{root.text}` lists no manifest")
    wanted = [
        (path, entry) for path, entry in listed if extent.attestations or not entry.is_attestation
    ]
    for _, entry in wanted:
        entry.digest.require_verifiable(f"`{entry.digest}` in the index of `{root.text}`")
    nested[()] = root.document.descriptor
    parents = {path[:depth] for path, _ in wanted for depth in range(len(path))}
    # A nested index without entries of its own is content of the image all the same.
    loose = [path for path in sorted(nested, key=len, reverse=True) if path not in parents]

    def look(one: tuple[tuple[int, ...], Descriptor]) -> PlannedImage:
        path, entry = one
        above = [*loose] if one is wanted[0] else []
        above += [path[:depth] for depth in range(len(path) - 1, -1, -1)]
        return _entry(reader, root, entry, [nested[each] for each in above])

    found: dict[Digest, PlannedImage] = {}
    for outcome in parallel(look, wanted, jobs=extent.jobs):
        if isinstance(outcome.value, ResolverError):
            raise outcome.value
        found.setdefault(outcome.value.manifest.digest, outcome.value)
    images = tuple(one for one in found.values() if one.kind == "image")
    attached = tuple(one for one in found.values() if one.kind != "image")
    left_out = tuple(
        LeftOut(root.text, "attestation", entry, entry.platform)
        for _, entry in listed
        if entry.digest not in found
    )
    return _with_referrers(reader, root, Selected(images, attached, left_out), extent)


def make_plan(
    selected: Iterable[Selected],
    store: LocalStore,
    places: Sequence[ContentPlace] = (),
    *,
    foreign: bool = False,
    tier: Callable[[], Tier | None] = lambda: None,
) -> Plan:
    """List what some images need, and what of it has to be fetched; send no request to a registry.

    `places` have content too, in order of preference, and then the `tier`; `foreign` includes
    foreign layers.
    """
    chosen = tuple(selected)
    # A reference may have been planned several times, one platform at a time.
    once: dict[tuple[str, Digest], PlannedImage] = {}
    for found in chosen:
        for one in (*found.images, *found.attached):
            once.setdefault((one.reference, one.manifest.digest), one)
    named = tuple(_with_name(one, store) for one in once.values())
    images = tuple(one for one in named if one.kind == "image")
    attached = tuple(one for one in named if one.kind != "image")
    left_out = tuple(
        dict.fromkeys(
            one
            for found in chosen
            for one in found.left_out
            if (one.reference, one.descriptor.digest) not in once
        )
    )
    known = (*images, *attached)
    contents = {each.descriptor.digest: each for image in known for each in image.contents}
    if len(contents) > MAX_PIECES:
        raise LimitExceeded("what is to be pulled", MAX_PIECES, len(contents), "pieces")
    held = find_held((each.descriptor for each in contents.values()), store, places, tier)
    return plan_pieces(images, held, foreign=foreign, attached=attached, left_out=left_out)


def _image(reader: DocumentReader, root: RootDocument, answer: Resolution) -> PlannedImage:
    manifest, indexes = root.parsed, tuple(_indexes(root, answer))
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(reader, answer.manifest, root.text)
    return PlannedImage(
        reference=answer.reference,
        pinned=answer.pinned,
        root=root.document.descriptor,
        manifest=answer.manifest,
        platform=answer.platform,
        layers=manifest.layers,
        contents=_contents(answer.manifest, manifest, indexes),
        up_to_date=False,
        warnings=answer.warnings,
    )


def _contents(
    descriptor: Descriptor, manifest: Manifest | None, indexes: Iterable[Descriptor]
) -> tuple[ImageContent, ...]:
    """List what a manifest consists of, children before parents, each digest once."""
    contents: list[ImageContent] = []
    if manifest is not None:
        contents += [ImageContent(layer, "layer") for layer in manifest.layers]
        if manifest.config is not None:
            contents.append(ImageContent(manifest.config, "config"))
    contents.append(ImageContent(descriptor, "manifest"))
    contents.extend(ImageContent(index, "index") for index in indexes)
    unique: dict[Digest, ImageContent] = {}
    for content in contents:
        unique.setdefault(content.descriptor.digest, content)
    return tuple(unique.values())


def _entry(  # noqa: PLR0913 - what is known of an entry
    reader: DocumentReader,
    root: RootDocument,
    entry: Descriptor,
    indexes: Sequence[Descriptor],
    *,
    kind: AttachedKind | None = None,
    about: Digest | None = None,
    tag: str = "",
) -> PlannedImage:
    """Plan one entry as it is; one that is not a manifest counts as one piece."""
    manifest = None
    if entry.media_type in MANIFEST_TYPES | {OCI_ARTIFACT}:
        manifest = read_manifest(reader, entry, root.text)
    found = kind or kind_of(entry, manifest)
    platform = entry.platform if found == "image" else None
    if found == "image" and platform is None and manifest is not None:
        platform = read_config(reader, manifest, root.text).platform
    return PlannedImage(
        reference=root.text,
        pinned=f"{root.prefix}{entry.digest}",
        root=root.document.descriptor,
        manifest=entry,
        platform=platform,
        layers=manifest.layers if manifest is not None else (),
        contents=_contents(entry, manifest, indexes),
        up_to_date=False,
        warnings=(),
        kind=found,
        about=about or refers_to(entry),
        tag=tag,
    )


def _attached_to(
    reader: DocumentReader, root: RootDocument, answer: Resolution
) -> Iterator[PlannedImage]:
    """Plan the entries that refer to a chosen image; its index lists them beside it."""
    for seen in answer.considered:
        entry = seen.descriptor
        if entry.is_index or refers_to(entry) != answer.manifest.digest:
            continue
        if entry.digest == answer.manifest.digest:
            continue
        by_path = {each.path: each.descriptor for each in answer.considered}
        inner = [by_path[seen.path[:depth]] for depth in range(len(seen.path) - 1, 0, -1)]
        try:
            yield _entry(reader, root, entry, [*inner, root.document.descriptor])
        except (NotFound, NotInStore) as error:
            # The image itself is whole without it: tools that copy images often drop these.
            reader.warn(
                Warned(
                    "attestation-missing",
                    f"`{root.text}` lists `{entry.digest}` about "
                    f"`{answer.manifest.digest}`, which is left out: {error}",
                )
            )


def _indexes(root: RootDocument, answer: Resolution) -> Iterator[Descriptor]:
    """Return the indexes on the way to the chosen manifest, the innermost first."""
    if answer.index is None:
        return
    by_path = {each.path: each.descriptor for each in answer.considered}
    chosen = next((each.path for each in answer.considered if each.chosen), ())
    for depth in range(len(chosen) - 1, 0, -1):
        yield by_path[chosen[:depth]]
    yield root.document.descriptor


def _with_name(image: PlannedImage, store: LocalStore) -> PlannedImage:
    """Add what the store knows: whether its record is this image, and a held config's data."""
    image = replace(image, warnings=(*image.warnings, *contradiction(image, store)))
    try:
        name = store.pulled(image.reference)
    except StoreFault:
        # Writing the record again raises the error.
        return image
    same = name is not None and name.root.digest == image.root.digest
    held: set[Digest] = set()
    if name is not None:
        held |= {each.manifest.digest for each in name.images}
        held |= {each.manifest.digest for each in name.attached}
    return replace(image, up_to_date=same and image.manifest.digest in held)


def _with_referrers(
    reader: DocumentReader, root: RootDocument, selected: Selected, extent: Extent
) -> Selected:
    """Add what refers to the index, to the images and to what is attached, and so on."""
    if not extent.referrers:
        return selected
    digest = root.document.descriptor.digest
    known = {one.manifest.digest for one in (*selected.images, *selected.attached)}
    found: dict[Digest, PlannedImage] = {}
    subjects = list(dict.fromkeys([digest, *(one.manifest.digest for one in selected.images)]))
    signed = subjects
    while subjects:
        following: list[Digest] = []
        for outcome in parallel(
            lambda one: _referring(reader, root, one), subjects, jobs=extent.jobs
        ):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            for one in outcome.value:
                if one.manifest.digest not in known:
                    known.add(one.manifest.digest)
                    found[one.manifest.digest] = one
                    following.append(one.manifest.digest)
        if len(found) > MAX_PIECES:
            raise LimitExceeded(f"what refers to `{root.text}`", MAX_PIECES, len(found), "entries")
        subjects = following
    for outcome in parallel(lambda one: _cosigned(reader, root, one), signed, jobs=extent.jobs):
        if isinstance(outcome.value, ResolverError):
            raise outcome.value
        found |= {one.manifest.digest: one for one in outcome.value}
    return replace(selected, attached=(*selected.attached, *found.values()))


def _referring(reader: DocumentReader, root: RootDocument, subject: Digest) -> list[PlannedImage]:
    return [
        _entry(reader, root, entry, (), kind="referrer", about=subject)
        for entry in reader.referrers(subject)
        if not entry.is_index
    ]


def _cosigned(reader: DocumentReader, root: RootDocument, subject: Digest) -> list[PlannedImage]:
    """Find what cosign keeps under tags that are made of the subject's digest."""
    found: list[PlannedImage] = []
    for suffix in _COSIGN:
        tag = f"{subject.algorithm}-{subject.hex}.{suffix}"
        document = reader.tagged(tag)
        if document is not None and not document.descriptor.is_index:
            entry = document.descriptor
            found.append(_entry(reader, root, entry, (), kind="referrer", about=subject, tag=tag))
    return found


#: What can be pulled: one reference or resolution, or several.
Named = str | Reference | Resolution


def plan(  # noqa: PLR0913 - each is one thing that a caller decides
    context: Context,
    references: Named | Iterable[Named],
    platforms: PlatformsLike = None,
    *,
    exact: bool = False,
    places: Iterable[str] = (),
    foreign: bool = False,
    attestations: bool = True,
    referrers: bool = False,
    to: str = "",
    namespace: str | None = None,
    chunks: ChunkMode = "auto",
    chunk_gap: int | None = None,
) -> Plan:
    """List the content of images, what of it is held, and what must be fetched."""
    from resolver.verbs.fetch import open_place  # noqa: PLC0415

    engine: Kind | None = None
    if to:
        from resolver.core.results.export import parse_engine  # noqa: PLC0415 - for engines

        engine = parse_engine(to)
    listed = [(_name(context, one), one) for one in _listed(references)]
    one = platforms is None or isinstance(platforms, str | Platform)
    wanted: list[PlatformLike] = [platforms] if one else list(platforms)  # type: ignore[list-item, arg-type]  # told apart above
    requests = [
        None if each == "all" else context.platform_request(each, exact=exact) for each in wanted
    ]
    environment = context.settings.environment
    opened = [open_place(f"./{TIER}" if place == TIER else place, environment) for place in places]

    # References are already planned in parallel.
    extent = Extent(attestations, referrers, context.settings.jobs if len(listed) == 1 else 1)

    def find(item: tuple[str, Named]) -> Selected:
        return _planned(context, item[1], _pullable(context, item[1]), requests, extent)

    selected: list[Selected] = []
    failures: list[Failure] = []
    with context.store.batch():
        for outcome in context.each(find, listed, "planning"):
            if isinstance(outcome.value, ResolverError):
                failures.append(Failure(outcome.item[0], (), outcome.value))
            else:
                selected.append(outcome.value)
    if failures and not selected:
        raise failures[0].error
    found = make_plan(selected, context.store, opened, foreign=foreign, tier=context.tier)
    if chunks != "never" and not context.settings.offline:
        found = _with_chunks(context, found, chunks, chunk_gap, opened)
    needs = None if engine is None else engine_needs(context, found, engine, namespace)
    return replace(found, failures=tuple(failures), engine=needs)


def _name(context: Context, named: Named) -> str:
    return context.name(named.reference if isinstance(named, Resolution) else named)


def _with_chunks(
    context: Context,
    made: Plan,
    mode: ChunkMode,
    gap: int | None,
    places: Sequence[ContentPlace],
) -> Plan:
    """Plan to rebuild missing layers from the chunks of held ones; reads their TOCs."""
    wanted = [
        piece
        for piece in made.missing
        if piece.descriptor.has_chunks and piece.descriptor.data is None
    ]
    if not wanted:
        return made
    from resolver.verbs.chunks import (  # noqa: PLC0415 - for these alone
        ChunkOptions,
        layers_in,
        layers_of,
        plan_reuse,
    )
    from resolver.verbs.fetch import ranged  # noqa: PLC0415 - likewise

    images: dict[Digest, PlannedImage] = {}
    for image in made.entries:
        for content in image.contents:
            images.setdefault(content.descriptor.digest, image)

    targets = {
        piece.descriptor.digest: RegistryTarget(
            Reference.parse(images[piece.descriptor.digest].reference)
        )
        for piece in wanted
    }
    repositories = dict.fromkeys(target.reference.identity for target in targets.values())
    elsewhere = [
        held for place in places for held in layers_in(place.name, place.content, context.observe)
    ]
    known = {one: tuple(layers_of(context.store, one)) for one in repositories}

    def find(piece: Piece) -> ChunkReuse | None:
        target = targets[piece.descriptor.digest]
        return plan_reuse(
            context.store,
            piece.descriptor,
            known[target.reference.identity],
            lambda: ranged(context.source(target)),
            ChunkOptions(mode, gap),
            observe=context.observe,
            elsewhere=elsewhere,
        )

    found: dict[Digest, ChunkReuse] = {}
    for outcome in parallel(find, wanted, jobs=context.settings.jobs):
        if isinstance(outcome.value, ResolverError):
            raise outcome.value
        if outcome.value is not None:
            found[outcome.item.descriptor.digest] = outcome.value
    return replace(
        made,
        pieces=tuple(
            replace(piece, reuse=found.get(piece.descriptor.digest)) for piece in made.pieces
        ),
    )


def _pullable(context: Context, named: Named) -> RegistryTarget:
    reference = named.reference if isinstance(named, Resolution) else named
    target = context.target(reference)
    if not isinstance(target, RegistryTarget):
        raise Usage(
            f"`{target}` is on this machine already: images are pulled from registries",
            "give the image's name, and the place with `--from`",
        )
    return target


def _planned(
    context: Context,
    named: Named,
    target: RegistryTarget,
    requests: Sequence[PlatformRequest | None],
    extent: Extent,
) -> Selected:
    """Plan the images of one reference; `None` among the requests means the whole index."""
    reader, warned = context.reader(target, tiered=True)
    if isinstance(named, Resolution):
        pinned = named.index or named.manifest
        root = context.read_root(
            reader, RegistryTarget(target.reference.with_digest(pinned.digest))
        )
        root = replace(root, text=named.reference)
        # The very entry that was found, as its index writes it, and not what would be now.
        found = (named.platform,) if named.platform is not None else None
        explicit = found is not None or named.explicit
        request = PlatformRequest(
            found or named.wanted,
            explicit,
            exact=found is not None,
            entry=named.manifest.digest if named.index is not None else None,
        )
        requests = [None if None in requests and named.index is not None else request]
    else:
        root = context.read_root(reader, target)
    if None in requests and isinstance(root.parsed, Index):
        selected = plan_everything(reader, root, extent)
    else:
        expanded = [
            context.platform_request(None) if request is None else request for request in requests
        ]
        selected = plan_images(reader, root, expanded, context.table, extent)
    reader.report_warnings()
    first, *rest = (*selected.images, *selected.attached)
    first = replace(first, warnings=(*warned, *first.warnings))
    images = tuple(one for one in (first, *rest) if one.kind == "image")
    attached = tuple(one for one in (first, *rest) if one.kind != "image")
    return replace(selected, images=images, attached=attached)


def _listed(references: Named | Iterable[Named]) -> list[Named]:
    one = isinstance(references, str | Reference | Resolution)
    return [references] if one else list(references)  # type: ignore[list-item, arg-type]  # told apart above


def engine_needs(
    context: Context, plan: Plan, kind: Kind, namespace: str | None = None
) -> EngineNeeds:
    """Work out what an engine would fetch of a plan; a config costs a request if it is not held.

    Docker finds a layer by all layers below it too, podman by itself. An engine has no record of
    the compressed form of what it loaded from an archive, and may fetch that again.

    Raises:
        Unavailable: the engine does not answer.
        ResolverError: a config cannot be read.

    Source: moby distribution/xfer/download.go; containers/image storage/storage_dest.go.
    """
    from resolver.sources.local import docker_engine  # noqa: PLC0415 - for engines
    from resolver.verbs.export.engines import remote_engine  # noqa: PLC0415 - likewise

    environment = context.settings.environment
    if kind == "containerd":
        all_of_it = frozenset(
            piece.descriptor.digest
            for piece in plan.pieces
            if piece.state is not ContentState.FOREIGN
        )
        there = docker_engine.containerd_content(environment, namespace)
        return EngineNeeds(kind, all_of_it, all_of_it - there)
    known: tuple[tuple[Digest, ...], ...] = ()
    if not remote_engine(kind, environment):
        docker = kind == "docker"
        read = docker_engine.docker_layers if docker else docker_engine.podman_layers
        known = read(environment)
    chains = {image[:count] for image in known for count in range(1, len(image) + 1)}
    single = {layer for image in known for layer in image}
    pieces: set[Digest] = set()
    lacking: set[Digest] = set()
    for image in _one_each(plan.images):
        needed = {e.descriptor.digest for e in image.contents if e.role != "index"}
        reader, _ = context.reader(RegistryTarget(Reference.parse(image.reference)))
        diff_ids = diff_ids_of(reader, image) if known else ()
        held = {
            layer.digest
            for number, (layer, diff_id) in enumerate(zip(image.layers, diff_ids, strict=False))
            if (diff_ids[: number + 1] in chains if kind == "docker" else diff_id in single)
        }
        pieces |= needed
        lacking |= needed - held
    return EngineNeeds(kind, frozenset(pieces), frozenset(lacking))


def _one_each(images: Sequence[PlannedImage]) -> list[PlannedImage]:
    """Choose one image of each reference: that of this machine, else the first."""
    from resolver.files.platforms import host_platform  # noqa: PLC0415 - for engines

    by_reference: dict[str, list[PlannedImage]] = {}
    for image in images:
        by_reference.setdefault(image.reference, []).append(image)
    return [
        mine[select([each.platform for each in mine], host_platform()).index or 0]
        for mine in by_reference.values()
    ]


def diff_ids_of(reader: DocumentReader, image: PlannedImage) -> tuple[Digest, ...]:
    """Return the digests of the unpacked layers of an image; none if its config has none."""
    config = next((each.descriptor for each in image.contents if each.role == "config"), None)
    if config is None or config.media_type not in CONFIG_TYPES:
        return ()
    what = f"the config `{config.digest}` of `{image.reference}`"
    return parse_config(reader.read(config, what), what, len(image.layers)).diff_ids
