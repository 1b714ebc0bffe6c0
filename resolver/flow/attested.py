"""Finding attestations: beside a build in its index, else among what refers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.attestations import SPEAKS_ABOUT, kinds_of, may_be_statement
from resolver.core.descriptor import MANIFEST_TYPES, OCI_ARTIFACT
from resolver.core.digest import Digest
from resolver.errors import LimitExceeded, ResolverError
from resolver.flow.batch import each
from resolver.flow.choose import read_manifest
from resolver.flow.entries import left_out
from resolver.flow.gather import Depth, gather

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked

#: Manifests read of what refers to one build; images that are signed daily have hundreds.
MAX_READ = 256


def attested(
    reader: Reader, asked: Asked, builds: set[str], kinds: frozenset[str], *, jobs: int
) -> dict[str, frozenset[str]]:
    """Say which kinds of statements there are about each build.

    Args:
        reader: of the place the image is in.
        asked: the name, with its document.
        builds: digests.
        kinds: what is looked for; what refers to a build is asked for where its index lacks one.
        jobs: documents at once.

    Raises:
        LimitExceeded: more than 256 manifests refer to a build, and none of them is it.
        ResolverError: an attestation cannot be read, or the referrers cannot be asked for.
    """
    found = _beside(reader, asked, builds, jobs)
    lacking = sorted(digest for digest, there in found.items() if kinds - there)

    def look(digest: str) -> frozenset[str]:
        return _referring(reader, asked.text, Digest.parse(digest), kinds - found[digest])

    for outcome in each(look, lacking, jobs=jobs):
        if isinstance(outcome.value, ResolverError):
            raise outcome.value
        found[outcome.item] |= outcome.value
    return found


def _beside(reader: Reader, asked: Asked, builds: set[str], jobs: int) -> dict[str, frozenset[str]]:
    """Read what BuildKit put beside the builds, into the same index."""
    found = dict.fromkeys(builds, frozenset[str]())

    def wanted(entry: Descriptor) -> bool:
        return entry.is_attestation and entry.annotation(SPEAKS_ABOUT) in builds

    depth = Depth(manifests=False, configs=False, attestations=True)
    for part in gather(reader, asked, depth, jobs=jobs, wanted=wanted).attestations:
        about = part.descriptor.annotation(SPEAKS_ABOUT)
        if part.failure is not None:
            raise part.failure
        if part.manifest is not None and about in found:
            found[about] |= kinds_of(part.manifest)
    return found


def _referring(reader: Reader, text: str, digest: Digest, kinds: frozenset[str]) -> frozenset[str]:
    """Read what refers to a build, until there is nothing left to look for.

    A list of referrers proves nothing: each manifest is read, and must name the build itself.
    """
    found: frozenset[str] = frozenset()
    entries = [
        entry
        for entry in reader.referrers(digest)
        if entry.media_type in MANIFEST_TYPES | {OCI_ARTIFACT} and may_be_statement(entry)
    ]
    for count, entry in enumerate(entries):
        if not kinds - found:
            break
        if count >= MAX_READ:
            what = f"what refers to `{digest}` of `{text}`"
            raise LimitExceeded(what, MAX_READ, len(entries), "manifests")
        if not entry.digest.is_verifiable:
            reader.warn(left_out(entry, text))
            continue
        manifest = read_manifest(reader, entry, text)
        if manifest.subject is not None and manifest.subject.digest == digest:
            found |= kinds_of(manifest)
    return found
