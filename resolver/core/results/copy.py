"""Copies: what an image consists of, what a destination lacks of it, and what was sent.

Pure: the caller has looked up what each destination has. A copy carries out the plan that a dry run
shows. Also the result of `index`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from resolver.errors import Negative
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import AttachedKind, LeftOut
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned
    from resolver.core.results.plan import ImageContent, Role
    from resolver.core.results.resolve import Failure

#: Bytes of one request of an upload; larger blobs take several (docs/wire-protocol.md, "Pushing").
CHUNK = 64 * 1024 * 1024


class CopyState(Enum):
    """What happens to a piece at a destination."""

    PRESENT = "present"
    MOUNT = "mount"
    SEND = "send"


@dataclass(frozen=True, slots=True)
class CopyEntry:
    """One image, attestation, artifact, index or referrer that is copied.

    Attributes:
        contents: blobs first, then the manifest; each digest once.
        platform: as the index states it; None if it does not.
        about: the digest of what a referrer or an attestation refers to.
        tag: of a referrer that has a tag of its own, as cosign uses.
        listed: the descriptor for a list of referrers, with type and annotations of the manifest.
    """

    kind: AttachedKind
    manifest: Descriptor
    contents: tuple[ImageContent, ...]
    platform: Platform | None = None
    about: Digest | None = None
    tag: str = ""
    listed: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class CopyPiece:
    """One document or blob at a destination.

    Attributes:
        mount: the repository of the same registry to mount it from; empty for none.
    """

    descriptor: Descriptor
    role: Role
    state: CopyState
    mount: str = ""

    @property
    def requests(self) -> int:
        """Requests to bring it there, without retries."""
        if self.state is CopyState.PRESENT:
            return 0
        if self.state is CopyState.MOUNT or self.role in {"manifest", "index"}:
            return 1
        return 2 if self.descriptor.size <= CHUNK else 2 + -(-self.descriptor.size // CHUNK)


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """One destination of a copy.

    Attributes:
        name: as the user wrote it.
        tag: to be set; empty for none.
        before: what the tag names now; None for nothing.
        pieces: children before parents; empty if nothing is to be done.
        done: the reason why nothing is to be done; empty otherwise.
        looks: requests that were needed to find out what is there.
    """

    name: str
    tag: str
    before: Descriptor | None
    pieces: tuple[CopyPiece, ...] = ()
    done: str = ""
    looks: int = 0

    def count(self, state: CopyState) -> tuple[int, int]:
        """Return the number of pieces in a state, and their bytes."""
        found = [piece.descriptor.size for piece in self.pieces if piece.state is state]
        return len(found), sum(found)

    @property
    def bytes_to_send(self) -> int:
        """Bytes to upload."""
        return self.count(CopyState.SEND)[1]

    @property
    def requests(self) -> int:
        """Requests to this destination without retries, the tag included."""
        return sum(piece.requests for piece in self.pieces) + (
            1 if self.tag and not self.done else 0
        )


@dataclass(frozen=True, slots=True, eq=False)
class CopyPlan:
    """A copy before it is carried out.

    Attributes:
        source: canonical text.
        original: the root at the source.
        root: the root at the destinations; another one if platforms were left out.
        entries: images and what is attached to them, in the order of the index.
        referrers: what refers to them from outside the index.
        targets: the destinations.
        left_out: index entries that are not copied.
        uncovered: what refers to the original index, and does not cover the new one.
        documents: exact bytes of every manifest and index to send.
        sparse: the index is sent without all of its children.
        expect: the tag must name this at the time it is set; empty for no check.
    """

    source: str
    original: Descriptor
    root: Descriptor
    entries: tuple[CopyEntry, ...]
    referrers: tuple[CopyEntry, ...]
    targets: tuple[CopyTarget, ...]
    left_out: tuple[LeftOut, ...] = ()
    uncovered: tuple[Descriptor, ...] = ()
    documents: Mapping[Digest, bytes] | None = None
    sparse: bool = False
    expect: str = ""
    warnings: tuple[Warned, ...] = ()

    @property
    def bytes_to_send(self) -> int:
        """Bytes to upload to all destinations."""
        return sum(target.bytes_to_send for target in self.targets)


@dataclass(frozen=True, slots=True)
class CopiedTarget:
    """What one destination got.

    Attributes:
        sent, mounted, present: blobs and documents.
        bytes_sent: uploaded.
    """

    target: CopyTarget
    sent: int = 0
    mounted: int = 0
    present: int = 0
    bytes_sent: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Copied:
    """The result of a copy, an `index create` or an `index edit`.

    Attributes:
        targets: the destinations that are complete.
        failures: the others.
    """

    plan: CopyPlan
    targets: tuple[CopiedTarget, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Synced:
    """The result of `copy --sync`: one row per source and destination, in the order of the file."""

    copies: tuple[Copied, ...]
    failures: tuple[Failure, ...]
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One entry of an index that was made, and the source that it comes from."""

    descriptor: Descriptor
    kind: AttachedKind
    source: str


@dataclass(frozen=True, slots=True)
class IndexWritten:
    """An index that was made or edited.

    Attributes:
        name: as the user wrote it.
        before: what the tag named; None for nothing.
        uncovered: what refers to the old index, and does not cover the new one.
        bytes_sent: of children that came from elsewhere.
        done: the reason why nothing had to be written; empty otherwise.
        is_dry: nothing was written on request.
    """

    name: str
    root: Descriptor
    entries: tuple[IndexEntry, ...]
    before: Descriptor | None
    uncovered: tuple[Descriptor, ...] = ()
    bytes_sent: int = 0
    done: str = ""
    is_dry: bool = False


def plan_pieces(
    contents: Iterable[ImageContent],
    present: Collection[Digest],
    mounts: Mapping[Digest, str],
) -> tuple[CopyPiece, ...]:
    """Decide for each piece whether it is present, mounted or sent; children before parents.

    Args:
        contents: in the order of sending.
        present: digests that the destination has.
        mounts: repositories of the same registry, by the digest of a blob that they have.
    """
    pieces: dict[Digest, CopyPiece] = {}
    for content in contents:
        digest = content.descriptor.digest
        mount = mounts.get(digest, "")
        state = CopyState.MOUNT if mount else CopyState.SEND
        if digest in present:
            state, mount = CopyState.PRESENT, ""
        pieces.setdefault(digest, CopyPiece(content.descriptor, content.role, state, mount))
    return tuple(pieces.values())


def over_limit(plans: Iterable[CopyPlan], limit: int | None) -> Negative | None:
    """Return the refusal of copies that send more bytes than allowed; None if they fit."""
    total = sum(plan.bytes_to_send for plan in plans)
    if limit is None or total <= limit:
        return None
    return Negative(
        f"{total} bytes must be sent, but only {limit} are allowed",
        "see what they are with `--dry-run`, or allow more with `--max-upload`",
        code="copy-too-large",
        missing=total,
        limit=limit,
    )


def refuse_other(name: str, before: Descriptor | None, expect: str) -> Negative | None:
    """Return the refusal of a tag that does not name what is expected; None if it does."""
    found = str(before.digest) if before is not None else ""
    if not expect or found == expect:
        return None
    now = f"`{found}`" if found else "nothing"
    return Negative(
        f"`{name}` names {now}, not `{expect}`; nothing was written",
        "look at what changed it: `resolver compare`",
        code="not-expected",
        expected=expect,
        found=found or None,
    )
