"""Linting: an image with all of its builds, read, and what the rules say about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.digest import Digest
from resolver.core.events import Warned
from resolver.core.lint import lint, without
from resolver.core.lint_rules_documents import SCHEMA_1, fault
from resolver.core.lint_subject import Pin, Subject
from resolver.core.linted import LintedImage
from resolver.core.manifest import Index, parse_document
from resolver.core.target import RegistryTarget
from resolver.errors import ManifestNotFound, NotInStore, UnsupportedDocument
from resolver.flow.entries import entries_of
from resolver.flow.gather import Depth, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from resolver.core.platform import PlatformTable
    from resolver.core.reference import Reference
    from resolver.core.target import Target
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked

#: Everything that can be found without a layer: a request per manifest and config, no more.
_DEPTH = Depth(attestations=True, broken=True)


def look_at(
    reader: Reader,
    ask: Callable[[], Asked],
    target: Target,
    table: PlatformTable,
    *,
    jobs: int,
    warn: Callable[[Warned], None],
) -> Subject:
    """Read what the rules need to know of one image.

    Args:
        reader: of the place the image is in.
        ask: reads what the name points at.
        target: the name; the tag of one with a digest is looked up where it is in a registry.
        table: the platforms there are.
        jobs: documents at once.
        warn: told what could not be looked up.

    Raises:
        ResolverError: the name cannot be read, or somebody could not be asked about an entry;
            what was asked and is wrong is kept for the rules.
    """
    try:
        asked = ask()
    except UnsupportedDocument as error:
        if fault(error) is not SCHEMA_1:
            raise
        return Subject(str(target), table, refusal=error)
    gathered = gather(reader, asked, _DEPTH, jobs=jobs)
    for part in gathered.parts:
        if part.failure is not None and fault(part.failure) is None:
            raise part.failure
    return Subject(
        reference=gathered.reference,
        table=table,
        root=gathered.root,
        index=gathered.index,
        parts=gathered.parts,
        pin=_pin(reader, target.reference, warn) if isinstance(target, RegistryTarget) else None,
    )


def judge(subject: Subject, ignored: Iterable[str], warned: Iterable[Warned]) -> LintedImage:
    """Apply the rules, but for those that nobody wants to hear of."""
    found = lint(subject)
    kept = without(found, ignored)
    return LintedImage(
        reference=subject.reference,
        root=subject.root,
        platforms=tuple(str(part.platform) for part in subject.images if part.platform is not None),
        findings=kept,
        looks=subject.looks,
        ignored=len(found) - len(kept),
        warnings=tuple(warned),
    )


def _pin(reader: Reader, reference: Reference, warn: Callable[[Warned], None]) -> Pin | None:
    """Look up where the tag beside a digest points; one request more, for such names alone."""
    tag, digest = reference.tag, reference.digest
    if tag is None or digest is None:
        return None
    named = replace(reference, digest=None)
    try:
        document = reader.named(named)
    except ManifestNotFound:
        return Pin(tag, digest, None)
    except NotInStore:
        message = f"where `{named}` points now was not looked up: `--offline` is set"
        warn(Warned("tag-not-looked-up", message))
        return None
    root = document.descriptor
    if Digest.of(document.body, digest.algorithm) == digest:
        # The registry may name the same bytes by another algorithm.
        return Pin(tag, digest, digest)
    parsed = parse_document(document.body, root.media_type, f"`{named}`", root.media_type)
    members: set[Digest] = set()
    if isinstance(parsed, Index):
        members.update(entry.digest for entry in parsed.manifests)
        members.update(entry.digest for _path, entry in entries_of(reader, parsed, str(named), {}))
    return Pin(tag, digest, root.digest, frozenset(members))
