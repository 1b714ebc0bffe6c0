"""Find out what the programs of an image need of the machine, from its layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.image import ImageEntry
from resolver.core.platforms.select import select
from resolver.core.results.events import Warned
from resolver.core.results.needs import ImageNeeds, NeedKind, Needs, in_words, obstacles
from resolver.errors import PlatformNotOffered, megabytes
from resolver.settings import LINT_MAX_BYTES
from resolver.verbs.gather import Depth
from resolver.verbs.lint import layer_bytes
from resolver.verbs.lint_deep import Depths, look_into

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.compare.builds import Build
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.image import ImageDocuments
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.resolve import Resolution
    from resolver.verbs.context import Context, Opened, PlatformLike


def needs(
    context: Context,
    reference: str | Reference,
    platforms: Iterable[PlatformLike] = (),
    *,
    every: bool = False,
    max_bytes: int = LINT_MAX_BYTES,
) -> Needs:
    """Find out what the programs of an image need, for each platform or for some."""
    wants = [
        context.platform_request(platform).platforms[-1]
        for platform in platforms
        if platform != "all"
    ]
    opened = context.open(reference)
    image = gathered(context, opened, wants)
    offered = [entry.platform for entry in image.images]
    chosen: dict[int, ImageEntry] = {}
    for want in wants:
        position = select(offered, want, table=context.table).index
        if position is None:
            names = dict.fromkeys(str(platform) for platform in offered if platform is not None)
            raise PlatformNotOffered(image.reference, str(want), list(names))
        chosen[position] = image.images[position]
    entries = [chosen[number] for number in sorted(chosen)] if wants else list(image.images)
    read = iter(needs_of(context, opened, entries, every=every, max_bytes=max_bytes))
    found = [
        next(read)
        if entry.platform is not None
        else ImageNeeds(None, str(entry.descriptor.digest), unread=("an image without a platform",))
        for entry in entries
    ]
    cut = [f"`{one.platform}`" for one in found if one.unread and one.bytes_read >= max_bytes]
    warned = image.warnings
    if cut:
        ended = f"reading ended at the limit of {megabytes(max_bytes)} of layers (`--max-bytes`)"
        warned += (Warned("needs-incomplete", f"{ended} for {', '.join(cut)}"),)
    return Needs(image.reference, image.root, tuple(found), context.table, warned)


def gathered(context: Context, opened: Opened, wants: Sequence[Platform]) -> ImageDocuments:
    """Read the manifests and configs of the builds that run on some platforms, or of all.

    Raises:
        ResolverError: one cannot be read.
    """

    def wanted(entry: Descriptor) -> bool:
        return entry.platform is None or any(
            select([entry.platform], want, table=context.table).index is not None for want in wants
        )

    every = not wants
    found = context.gather(opened, Depth(), lambda entry: every or wanted(entry))
    return found.sound()


def needs_of(
    context: Context,
    opened: Opened,
    entries: Sequence[ImageEntry],
    *,
    every: bool = False,
    max_bytes: int = LINT_MAX_BYTES,
) -> tuple[ImageNeeds, ...]:
    """Read what the programs of some builds need; those without a platform are left out."""
    depths = Depths(max_bytes, context.settings.jobs, every)
    read = layer_bytes(context, opened.target)
    return tuple(look.needs for look in look_into(entries, read, context.table, depths))


def with_needs(context: Context, opened: Opened, builds: Sequence[Build]) -> tuple[Build, ...]:
    """Add what their programs need to builds that are compared."""
    entries = [
        ImageEntry(build.descriptor, (), build.platform, build.manifest, build.config)
        for build in builds
    ]
    known = [build.platform is not None for build in builds]
    found = iter(needs_of(context, opened, entries))
    return tuple(
        replace(
            build,
            needs=tuple(
                (kind.value, words)
                for image in ([next(found)] if is_known else [])
                for kind in NeedKind
                if (words := in_words(image, kind, context.table)) != "unknown"
            ),
        )
        for build, is_known in zip(builds, known, strict=True)
    )


def verify_cpu(
    context: Context, reference: str | Reference, found: Resolution
) -> tuple[Warned, ...]:
    """Return a warning for each thing that a resolved image needs and this machine lacks."""
    from resolver.files.platforms import local_machine  # noqa: PLC0415 - for this question alone

    opened = context.open(reference)
    image = gathered(context, opened, [found.platform] if found.platform is not None else [])
    entries = [entry for entry in image.images if entry.descriptor.digest == found.manifest.digest]
    machine = local_machine(context.table)
    return tuple(
        Warned("cannot-run-here", f"this machine cannot run `{found.reference}`: {one.message}")
        for each in needs_of(context, opened, entries[:1])
        for one in obstacles(each, machine, context.table)
        if one.sure.is_certain
    )
