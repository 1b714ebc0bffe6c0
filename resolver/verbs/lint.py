"""Lint images: read all of their builds and apply the rules."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from resolver.core.lint.documents import SCHEMA_1, fault
from resolver.core.lint.lint import Linted, LintedImage, lint_subject, rule, without
from resolver.core.lint.subject import IndexSbom, PinnedTag, Subject
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import Index, parse_document
from resolver.core.oci.target import LayoutTarget, RegistryTarget, StoreTarget
from resolver.core.results.events import Warned
from resolver.errors import (
    Denied,
    ManifestNotFound,
    NotFound,
    NotInStore,
    Unavailable,
    UnsupportedDocument,
    Untrusted,
)
from resolver.settings import LINT_MAX_BYTES
from resolver.verbs.batch import look_at_all
from resolver.verbs.context import one_or_many
from resolver.verbs.gather import Depth, entries_of, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Executor

    from resolver.core.oci.content import RangedSource
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.image import ImageDocuments
    from resolver.core.oci.reference import Reference
    from resolver.core.oci.target import Target
    from resolver.core.platforms.platform import PlatformTable
    from resolver.verbs.context import Context, NamesLike
    from resolver.verbs.documents import DocumentReader, RootDocument
    from resolver.verbs.lint_deep import Depths


#: Everything that can be found without a layer: a request per manifest and config, and what is
#: attached to the index.
_DEPTH = Depth(attestations=True, broken=True)
#: Most images whose layers are inflated at once: the processor is the limit, not the network.
_DEEP = 16


def look_at(
    reader: DocumentReader,
    read_root: Callable[[], RootDocument],
    target: Target,
    table: PlatformTable,
    *,
    jobs: int,
    warn: Callable[[Warned], None],
) -> Subject:
    """Read what the rules need to know of one image.

    `warn` receives warnings about failed look-ups.
    """
    try:
        root = read_root()
    except UnsupportedDocument as error:
        if fault(error) is not SCHEMA_1:
            raise
        return Subject(str(target), table, refusal=error)
    gathered = gather(reader, root, _DEPTH, jobs=jobs)
    for entry in gathered.parts:
        if entry.failure is not None and fault(entry.failure) is None:
            raise entry.failure
    return Subject(
        reference=gathered.reference,
        table=table,
        root=gathered.root,
        index=gathered.index,
        parts=gathered.parts,
        pin=_pin(reader, target.reference, warn) if isinstance(target, RegistryTarget) else None,
        sboms=_sboms(reader, root, gathered, jobs, warn),
    )


def _sboms(
    reader: DocumentReader,
    root: RootDocument,
    image: ImageDocuments,
    jobs: int,
    warn: Callable[[Warned], None],
) -> tuple[IndexSbom, ...]:
    """Read the SBOMs of the index, if it has several platforms and may be looked up."""
    platforms = {str(part.platform) for part in image.images if part.platform is not None}
    if image.index is None or len(platforms) < 2 or not reader.may_request:  # noqa: PLR2004 - several
        return ()
    from resolver.verbs.attestations import index_sboms  # noqa: PLC0415 - for several platforms

    try:
        return index_sboms(reader, root, jobs)
    except (Denied, NotFound, Unavailable, Untrusted) as error:
        message = f"SBOMs of the index of `{root.text}` were not looked up: {error}"
        warn(Warned("sboms-not-looked-up", message))
        return ()


def judge_entries(
    subject: Subject, ignored: Iterable[str], warned: Iterable[Warned]
) -> LintedImage:
    """Apply the rules, except the ignored ones."""
    found = lint_subject(subject)
    kept = without(found, ignored)
    return LintedImage(
        reference=subject.reference,
        root=subject.root,
        platforms=tuple(
            str(entry.platform) for entry in subject.images if entry.platform is not None
        ),
        findings=kept,
        looks=subject.looks,
        ignored=len(found) - len(kept),
        warnings=tuple(warned),
    )


def _pin(
    reader: DocumentReader, reference: Reference, warn: Callable[[Warned], None]
) -> PinnedTag | None:
    """Resolve the tag of a reference that has a digest too, which takes one more request."""
    tag, digest = reference.tag, reference.digest
    if tag is None or digest is None:
        return None
    named = replace(reference, digest=None)
    try:
        document = reader.named(named)
    except ManifestNotFound:
        return PinnedTag(tag, digest, None)
    except NotInStore:
        message = f"where `{named}` points now was not looked up: `--offline` is set"
        warn(Warned("tag-not-looked-up", message))
        return None
    root = document.descriptor
    if Digest.of(document.body, digest.algorithm) == digest:
        # The registry may name the same bytes by another algorithm.
        return PinnedTag(tag, digest, digest)
    parsed = parse_document(document.body, root.media_type, f"`{named}`", root.media_type)
    members: set[Digest] = set()
    if isinstance(parsed, Index):
        members.update(entry.digest for entry in parsed.manifests)
        members.update(entry.digest for _path, entry in entries_of(reader, parsed, str(named), {}))
    return PinnedTag(tag, digest, root.digest, frozenset(members))


def lint(
    context: Context,
    references: NamesLike,
    *,
    deep: bool = False,
    max_bytes: int = LINT_MAX_BYTES,
    ignore: Iterable[str] = (),
    executor: Executor | None = None,
) -> Linted:
    """Apply every rule of `resolver.core.lint.lint` to images."""
    from resolver.verbs.lint_deep import Depths  # noqa: PLC0415

    ignored = tuple(rule(each).id for each in ignore)
    named = one_or_many(references)
    listed = [(context.name(reference), reference) for reference in named]
    jobs = context.settings.jobs if len(named) == 1 else 1
    depths = Depths(max_bytes, min(jobs, _DEEP)) if deep else None
    if depths is not None and len(named) == 1 and executor is None:
        depths = replace(depths, observe=context.observe)
    look = partial(_linted, ignored=ignored, jobs=jobs, depths=depths)
    return Linted(look_at_all(context, look, listed, "linting", executor))


def _linted(
    context: Context,
    item: tuple[str, str | Reference],
    *,
    ignored: tuple[str, ...],
    jobs: int,
    depths: Depths | None,
) -> LintedImage:
    from resolver.verbs.lint_deep import look_into  # noqa: PLC0415

    target = context.target(item[1])
    reader, warned = context.reader(target)
    subject = look_at(
        reader,
        lambda: context.read_root(reader, target),
        target,
        context.table,
        jobs=jobs,
        warn=warned.append,
    )
    if depths is not None:
        looks = look_into(subject.images, layer_bytes(context, target), context.table, depths)
        subject = replace(subject, looks=looks)
    reader.report_warnings()
    return judge_entries(subject, ignored, warned)


def layer_bytes(
    context: Context, target: Target
) -> Callable[[Descriptor], Generator[bytes, None, None]]:
    """Make what reads layers: from the store where it holds them, else where the image is."""
    from resolver.verbs.lint_deep import local_bytes, registry_bytes  # noqa: PLC0415

    def read(layer: Descriptor) -> Generator[bytes, None, None]:
        if isinstance(target, LayoutTarget):
            return local_bytes(context.source(target), layer)
        if context.store.has(layer):
            return local_bytes(context.store, layer)
        if isinstance(target, StoreTarget) or context.settings.offline:
            what = f"the layer `{layer.digest}`"
            raise NotInStore(str(target.reference), what, str(context.store.root))
        # A registry serves ranges of blobs, see `verbs.fetch.ranged`.
        return registry_bytes(cast("RangedSource", context.source(target)), layer)

    return read
