"""Make and edit indexes: one image per platform, with the attestations that belong to it.

Every image is compared with the platform that the index states for it. Children from elsewhere are
mounted or copied first, and the tag is set once the index is complete. The same inputs give the
same bytes: entries stand in the order given, and an edit keeps the order and appends.
"""

from __future__ import annotations

import json
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import DOCKER_LIST, MANIFEST_TYPES, OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import Index, Manifest, kind_of, parse_document, refers_to
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import LayoutTarget, RegistryTarget, parse_target
from resolver.core.parse.json import read_object
from resolver.core.platforms.platform import Platform
from resolver.core.results.copy import IndexEntry, IndexWritten, refuse_other
from resolver.errors import Negative, NotFound, PlatformNotOffered, ResolverError, Usage
from resolver.values import dataclass
from resolver.verbs.copy import Destinations, execute, plan_copy
from resolver.verbs.copy_source import CopyOptions, CopySource, bare, find_referrers
from resolver.verbs.documents import read_config, read_manifest
from resolver.verbs.export.bundle import described, written_platform
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resolver.core.platforms.platform import PlatformTable
    from resolver.verbs.context import Context
    from resolver.verbs.copy import CopyDestination

_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How an index is made.

    Attributes:
        annotations: of the index; an empty value removes one that an edited index has.
        platforms: the platform to state, by the digest of an image.
        expect: the digest that the tag must name now; empty for no condition.
        force: allow platforms that configs contradict, and two images for one platform.
        referrers: copy what refers to children from elsewhere.
        dry_run: write nothing.
    """

    annotations: tuple[tuple[str, str], ...] = ()
    platforms: tuple[tuple[Digest, Platform], ...] = ()
    expect: str = ""
    force: bool = False
    referrers: bool = True
    dry_run: bool = False


def index_options(  # noqa: PLR0913, PLR0917 - the options of two verbs
    context: Context,
    annotations: Mapping[str, str] | None,
    platforms: Mapping[str, str] | None,
    expect: str,
    force: bool,  # noqa: FBT001 - called by the session alone
    referrers: bool,  # noqa: FBT001 - likewise
    dry_run: bool,  # noqa: FBT001 - likewise
) -> IndexOptions:
    """Parse the options of `create_index` and `edit_index`.

    Raises:
        InvalidDigest, InvalidPlatform: a platform is given for something else.
    """
    return IndexOptions(
        tuple((annotations or {}).items()),
        tuple(
            (Digest.parse(digest), Platform.parse(text, table=context.table))
            for digest, text in (platforms or {}).items()
        ),
        expect,
        force,
        referrers,
        dry_run,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Child:
    """One entry of the new index: as it will be written, and where its content is.

    Attributes:
        raw: the members of the entry.
        config: the platform that the config states; None if it was not read.
    """

    descriptor: Descriptor
    raw: Mapping[str, object]
    source: CopySource
    config: Platform | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is an image that needs a platform."""
        return kind_of(self.descriptor) == "image" and refers_to(self.descriptor) is None


def create_index(
    context: Context, name: str, sources: Sequence[str], options: IndexOptions
) -> IndexWritten:
    """Make an index of images and of the entries of other indexes.

    Args:
        context: of the session.
        name: where the index goes: a tag in a registry, or `oci:DIR:TAG`.
        sources: references; bare digests in the repository of `name`; tags may be patterns.
        options: how it is made.

    Raises:
        Negative: a config contradicts a platform, or the tag is not what was expected.
        ResolverError: a source cannot be read, or the index not be written.
    """
    work = _Work(context, name, options)
    children = work.children(sources, work.places.open(name))
    if not children:
        raise Usage("an index needs an image", "name one, or several")
    members: dict[str, object] = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    return work.write(members, children, None)


def edit_index(
    context: Context,
    reference: str,
    options: IndexOptions,
    *,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    to: str = "",
) -> IndexWritten:
    """Add images to an index, or drop platforms from it; the tag moves unless `to` names another.

    Raises:
        Negative: as `create_index`; also if the tag has moved since it was read.
        PlatformNotOffered: the index has no platform that is to be dropped.
        ResolverError: it cannot be read, or the new one not be written.
    """
    source = CopySource(context, reference)
    root = source.root()
    if not isinstance(root.parsed, Index):
        raise Usage(
            f"`{reference}` is one image, not an index",
            f"make an index of it: `resolver index create DST {reference}`",
        )
    name = to or reference
    if not to and not options.expect and not _is_pinned(reference):
        # Another writer may replace it meanwhile.
        options = replace(options, expect=str(root.document.descriptor.digest))
    work = _Work(context, name, options)
    body = root.document.body
    members = dict(read_object(body, f"the index `{reference}`"))
    raw = members["manifests"]
    listed = [
        _Child(entry, written, source)
        for entry, written in zip(root.parsed.manifests, raw, strict=True)  # type: ignore[call-overload]  # as parsed
    ]
    kept = _without(listed, drop, reference, context.table)
    added = work.children(add, work.places.open(name))
    known = {child.descriptor.digest for child in kept}
    kept += [child for child in added if child.descriptor.digest not in known]
    if not kept:
        raise Usage(f"nothing would be left of `{reference}`", "drop fewer platforms")
    return work.write(members, kept, source)


def _is_pinned(reference: str) -> bool:
    target = parse_target(reference)
    return (
        isinstance(target, RegistryTarget)
        and target.reference.tag is None
        and (target.reference.digest is not None)
    )


def _without(
    children: Sequence[_Child], drop: Sequence[str], reference: str, table: PlatformTable
) -> list[_Child]:
    """Leave out platforms, and the attestations of their images."""
    gone: set[Digest] = set()
    for text in drop:
        wanted = Platform.parse(text, table=table).normalized(table)
        found = {
            child.descriptor.digest
            for child in children
            if child.is_image and _is_named(child.descriptor.platform, wanted, table)
        }
        if not found:
            offered = [str(each.descriptor.platform) for each in children if each.is_image]
            raise PlatformNotOffered(reference, text, offered)
        gone |= found
    return [
        child
        for child in children
        if child.descriptor.digest not in gone and refers_to(child.descriptor) not in gone
    ]


def _is_named(platform: Platform | None, wanted: Platform, table: PlatformTable) -> bool:
    """Whether a platform is the one that was typed; a version counts only if it was typed."""
    if platform is None:
        return False
    own = platform.normalized(table)
    if not wanted.os_version:
        own = replace(own, os_version="")
    if not wanted.os_features:
        own = replace(own, os_features=())
    return own == wanted


class _Work:
    """One index that is made."""

    def __init__(self, context: Context, name: str, options: IndexOptions) -> None:
        self._context = context
        self._name = name
        self._options = options
        self._jobs = context.settings.jobs
        self.places = Destinations(context)

    # --- children --------------------------------------------------------------------------

    def children(self, sources: Sequence[str], destination: CopyDestination) -> list[_Child]:
        """Read what the sources list, in order; each digest once."""
        opened = [
            CopySource(self._context, text)
            for named in sources
            for text in self._expanded(named, destination)
        ]
        found: dict[Digest, _Child] = {}
        for outcome in parallel(self._listed, opened, jobs=self._jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            for child in outcome.value:
                found.setdefault(child.descriptor.digest, child)
        return list(found.values())

    def _expanded(self, text: str, destination: CopyDestination) -> list[str]:
        """Complete a bare digest, and find the tags that a pattern matches."""
        registry, repository = destination.repository
        if text.startswith(("sha256:", "sha512:")) and "/" not in text:
            digest = Digest.parse(text)
            if registry:
                return [f"{registry}/{repository}@{digest}"]
            target = parse_target(self._name)
            path = target.path if isinstance(target, LayoutTarget) else ""
            return [f"oci:{path}@{digest}"]
        head, colon, pattern = text.rpartition(":")
        if not colon or "/" in pattern or not _GLOB.intersection(pattern):
            return [text]
        source = self._context.source(self._context.target(head))
        tags = sorted(tag for tag in source.tags() if fnmatchcase(tag, pattern))
        if not tags:
            raise NotFound(
                f"no tag of `{head}` matches `{pattern}`", f"list them: `resolver tags {head}`"
            )
        return [f"{head}:{tag}" for tag in tags]

    def _listed(self, source: CopySource) -> list[_Child]:
        """Return the entries of an index, or an image as an entry."""
        root = source.root()
        if isinstance(root.parsed, Index):
            raw = read_object(root.document.body, f"the index `{root.text}`")["manifests"]
            return [
                _Child(entry, written, source)
                for entry, written in zip(root.parsed.manifests, raw, strict=True)  # type: ignore[call-overload]  # as parsed
            ]
        descriptor = bare(root.document.descriptor)
        platform = self._config_platform(source, root.parsed)
        if platform is not None:
            descriptor = replace(descriptor, platform=platform)
        elif root.parsed.artifact_type:
            descriptor = replace(descriptor, artifact_type=root.parsed.artifact_type)
        return [_Child(descriptor, _entry(descriptor), source, platform)]

    def _config_platform(self, source: CopySource, manifest: Manifest) -> Platform | None:
        if not manifest.is_image:
            return None
        return read_config(source.reader, manifest, str(source.target)).platform

    # --- checks ----------------------------------------------------------------------------

    def _stated(self, children: Iterable[_Child]) -> list[_Child]:
        """State the platforms that were given, and compare every image with its config.

        Raises:
            Negative: a config names another platform, or two images have one platform.
            NotFound: a platform was given for an image that is not listed.
        """
        wanted = dict(self._options.platforms)
        stated = []
        for child in children:
            platform = wanted.pop(child.descriptor.digest, None)
            if platform is None:
                stated.append(child)
                continue
            raw = {**child.raw, "platform": written_platform(platform)}
            descriptor = replace(child.descriptor, platform=platform)
            stated.append(replace(child, descriptor=descriptor, raw=raw))
        if wanted:
            raise NotFound(
                f"the index does not list `{next(iter(wanted))}`, which was given a platform"
            )
        if not self._options.force:
            self._check(stated)
        return stated

    def _check(self, children: Sequence[_Child]) -> None:
        table = self._context.table
        images = [
            child
            for child in children
            if child.is_image
            and child.descriptor.platform is not None
            and child.descriptor.media_type in MANIFEST_TYPES
        ]

        def look(child: _Child) -> Platform | None:
            if child.config is not None:
                return child.config
            text = str(child.source.target)
            manifest = read_manifest(child.source.reader, child.descriptor, text)
            return self._config_platform(child.source, manifest)

        seen: dict[Platform, Digest] = {}
        for outcome in parallel(look, images, jobs=self._jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            digest, platform = outcome.item.descriptor.digest, outcome.item.descriptor.platform
            if platform is None:
                continue
            if outcome.value is not None and not _agrees(platform, outcome.value, table):
                raise Negative(
                    f"`{digest}` would be listed for `{platform}`, but its config says "
                    f"`{outcome.value}`; nothing was written",
                    "state the right platform with `--set-platform`, or use `--force`",
                    code="platform-contradicted",
                    digest=str(digest),
                    platform=str(platform),
                    config=str(outcome.value),
                )
            other = seen.setdefault(platform.normalized(table), digest)
            if other != digest:
                raise Negative(
                    f"`{other}` and `{digest}` are both for `{platform}`; nothing was written",
                    "drop one with `--drop`, or use `--force`",
                    code="platform-twice",
                    platform=str(platform),
                )

    # --- write -----------------------------------------------------------------------------

    def write(
        self, members: dict[str, object], children: Sequence[_Child], before: CopySource | None
    ) -> IndexWritten:
        """Copy the children that are elsewhere, put the index, and set its tag."""
        options = self._options
        destination = self.places.open(self._name)
        current = destination.current(destination.tag) if destination.tag else None
        refusal = refuse_other(self._name, current, options.expect)
        if refusal is not None:
            raise refusal
        stated = self._stated(children)
        root, body = _document(members, stated, options, before)
        entries = tuple(
            IndexEntry(child.descriptor, kind_of(child.descriptor), str(child.source.target))
            for child in stated
        )
        old = before.root().document.descriptor if before is not None else None
        lost = []
        if before is not None and old is not None and old.digest != root.digest:
            lost = [
                one.listed or one.manifest
                for one in find_referrers(self._context, before, [old.digest])
                if one.about == old.digest
            ]
        done = "up to date" if current is not None and current.digest == root.digest else ""
        sent = 0
        if not options.dry_run and not done:
            sent = self._copy(stated, destination)
            destination.put(root, body)
            if destination.tag:
                # The check and the write are two requests: registries have no conditional ones.
                now = destination.current(destination.tag)
                refusal = refuse_other(self._name, now, options.expect)
                if refusal is not None:
                    raise refusal
                destination.put(root, body, destination.tag)
            destination.finish(root, ())
        return IndexWritten(
            self._name, root, entries, current, tuple(lost), sent, done, options.dry_run
        )

    def _copy(self, children: Sequence[_Child], destination: CopyDestination) -> int:
        """Bring the children that come from elsewhere; return the bytes sent."""
        sent = 0
        options = CopyOptions(referrers=self._options.referrers)
        for child in children:
            if child.source.repository == destination.repository != ("", ""):
                continue
            digest = child.descriptor.digest
            text = _by_digest(child.source, digest)
            place = _untagged(self._name, digest)
            plan = plan_copy(self._context, text, [place], options, self.places)
            source = CopySource(self._context, text)
            done = execute(self._context, plan, source, self.places, is_part=True)
            sent += sum(one.bytes_sent for one in done.targets)
        return sent


def _by_digest(source: CopySource, digest: Digest) -> str:
    """Name an entry of a source by its digest."""
    target = source.target
    if isinstance(target, LayoutTarget):
        return str(LayoutTarget(target.kind, target.path, str(digest)))
    prefix = "" if isinstance(target, RegistryTarget) else "store:"
    reference = Reference(target.reference.registry, target.reference.repository, None, digest)
    return f"{prefix}{reference}"


def _untagged(name: str, digest: Digest) -> str:
    """Name the repository or folder of a destination, for content without a tag."""
    target = parse_target(name)
    if isinstance(target, LayoutTarget):
        return f"oci:{target.path}"
    return str(Reference(target.reference.registry, target.reference.repository, None, digest))


def _agrees(stated: Platform, config: Platform, table: PlatformTable) -> bool:
    """Whether a config is of the platform that an index states; what it leaves out agrees."""
    one, other = stated.normalized(table), config.normalized(table)
    return (
        (one.os, one.architecture) == (other.os, other.architecture)
        and (not config.variant or one.variant == other.variant)
        and (not stated.os_version or not config.os_version or one.os_version == other.os_version)
    )


def _entry(descriptor: Descriptor) -> dict[str, object]:
    written = described(descriptor)
    if descriptor.artifact_type:
        written["artifactType"] = descriptor.artifact_type
    if descriptor.platform is not None:
        written["platform"] = written_platform(descriptor.platform)
    return written


def _document(
    members: dict[str, object],
    children: Sequence[_Child],
    options: IndexOptions,
    before: CopySource | None,
) -> tuple[Descriptor, bytes]:
    """Write the index; an edit that changes nothing keeps the bytes that were read."""
    document = {**members, "manifests": [dict(child.raw) for child in children]}
    if options.annotations:
        known = members.get("annotations")
        annotations = {**(known if isinstance(known, dict) else {}), **dict(options.annotations)}
        kept = {key: value for key, value in annotations.items() if value}
        document.pop("annotations", None)
        if kept:
            document["annotations"] = kept
        if document.get("mediaType") == DOCKER_LIST:
            # Docker's list has no annotations.
            document["mediaType"] = OCI_INDEX
    if before is not None and document == members:
        root = before.root().document
        return bare(root.descriptor), root.body
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    kind = document.get("mediaType")
    media_type = kind if isinstance(kind, str) else OCI_INDEX
    parse_document(body, media_type, "the new index", media_type)
    return Descriptor(media_type, Digest.of(body), len(body)), body
