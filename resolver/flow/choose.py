"""Choosing a manifest: an index, walked down to the image that fits best (platforms.md 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Considered
from resolver.core.descriptor import INDEX_TYPES, MANIFEST_TYPES
from resolver.core.events import Warned
from resolver.core.manifest import MAX_DEPTH, Index, Manifest, parse_document
from resolver.core.platform import Platform
from resolver.core.select import Grade, select
from resolver.errors import LimitExceeded, PlatformUnknown
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.descriptor import Descriptor
    from resolver.core.image_config import ImageConfig
    from resolver.core.platform import PlatformTable
    from resolver.flow.reader import Reader

#: Entries without a platform whose config is read to learn it (platforms.md 7.4).
MAX_PROBES = 16
#: Manifests fetched in one walk, whatever the shape of the tree (protocol.md 4.5).
MAX_VISITED = 1_000

_UNKNOWN = Platform(os="unknown", architecture="unknown")


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The entry that won, as its index names it or as its config says."""

    descriptor: Descriptor
    platform: Platform
    grade: Grade
    path: tuple[int, ...]


class Walk:
    """One walk down one index for one wish; keeps count of what it has seen."""

    def __init__(
        self,
        reader: Reader,
        wanted: Sequence[Platform],
        table: PlatformTable,
        *,
        exact: bool,
        reference: str,
    ) -> None:
        self._reader = reader
        self._wanted = tuple(wanted)
        self._table = table
        self._exact = exact
        self._reference = reference
        self._probes = 0
        self._visited: set[str] = set()
        #: Why each entry lost, by its path; the chosen one has an empty reason.
        self.reasons: dict[tuple[int, ...], tuple[Descriptor, str]] = {}
        #: Platforms that images are offered for, in index order, as written.
        self.offered: list[Platform] = []

    def choose(self, index: Index, path: tuple[int, ...] = ()) -> Choice | None:
        """Find the best entry; nested indexes are entered, best first.

        Raises:
            LimitExceeded: nested deeper than 8, or more than 1,000 documents.

        """
        candidates = [self._candidate(entry) for entry in index.manifests]
        selection = select(candidates, self._wanted, exact=self._exact, table=self._table)
        rejected = {loser.index: loser.reason for loser in selection.rejected}
        for position, entry in enumerate(index.manifests):
            if candidates[position] is not None and entry.media_type not in INDEX_TYPES:
                self.offered.append(candidates[position] or _UNKNOWN)
            reason = self._ineligible(entry) or rejected.get(position, "a better entry was chosen")
            self.reasons[(*path, position)] = (entry, reason)
        unverifiable: tuple[Descriptor, Grade] | None = None
        for position, grade in zip(selection.ranking, selection.grades, strict=True):
            entry = index.manifests[position]
            if unverifiable is not None and grade is not unverifiable[1]:
                break
            if not entry.digest.is_verifiable:
                # A twin that fits as well and can be verified will do; a worse one will not.
                unverifiable = unverifiable or (entry, grade)
                self.reasons[(*path, position)] = (entry, _unverifiable(entry))
                continue
            platform = candidates[position] or _UNKNOWN
            here = (*path, position)
            if entry.media_type not in INDEX_TYPES:
                return Choice(entry, platform, grade, here)
            found = self._descend(entry, here)
            if found is not None:
                return found
            self.reasons[here] = (entry, "the index inside has no image that fits")
        if unverifiable is not None:
            needed = unverifiable[0]
            needed.digest.require_verifiable(
                f"the entry `{needed.digest}` for `{needed.platform}` of `{self._reference}`"
            )
        return self._untyped(index, path)

    def _candidate(self, entry: Descriptor) -> Platform | None:
        if self._ineligible(entry):
            return None
        return entry.platform

    def _ineligible(self, entry: Descriptor) -> str:
        """Say why an entry can never be an image; empty if it can (platforms.md 7.2)."""
        if entry.media_type not in INDEX_TYPES | MANIFEST_TYPES:
            return f"not an image: its type is `{entry.media_type}`"
        asked_for_unknown = any(wish.normalized() == _UNKNOWN for wish in self._wanted)
        if entry.is_attestation and not asked_for_unknown:
            return "attestation, not an image"
        return ""

    def _untyped(self, index: Index, path: tuple[int, ...]) -> Choice | None:
        """Ask the configs of entries without a platform, as the last resort (D6)."""
        found: list[Choice] = []
        for position, entry in enumerate(index.manifests):
            if entry.platform is not None or entry.artifact_type or self._ineligible(entry):
                continue
            choice = self._probe(entry, (*path, position))
            if choice is not None:
                found.append(choice)
                if choice.grade in {Grade.EXACT, Grade.NORMALISED}:
                    break
        if not found:
            return None
        platforms = [choice.platform for choice in found]
        selection = select(platforms, self._wanted, exact=self._exact, table=self._table)
        # Configs that only fit without their variant come last, in index order.
        return found[selection.index] if selection.index is not None else found[0]

    def _probe(self, entry: Descriptor, path: tuple[int, ...]) -> Choice | None:
        if not entry.digest.is_verifiable:
            self.reasons[path] = (entry, _unverifiable(entry))
            return None
        if entry.media_type in INDEX_TYPES:
            return self._descend(entry, path)
        if self._probes >= MAX_PROBES:
            self.reasons[path] = (entry, f"not looked at: {MAX_PROBES} configs were read already")
            return None
        self._probes += 1
        platform = self._config_platform(entry)
        if platform is None:
            self.reasons[path] = (entry, "has no platform, nor an image config that says one")
            return None
        self.offered.append(platform)
        fit = fits(platform, self._wanted, self._table, exact=self._exact)
        if fit is None:
            self.reasons[path] = (entry, f"has no platform; its config says `{platform}`")
            return None
        return Choice(entry, platform, fit, path)

    def _config_platform(self, entry: Descriptor) -> Platform | None:
        manifest = read_manifest(self._reader, entry, self._reference)
        if not manifest.is_image:
            return None
        return read_config(self._reader, manifest, self._reference).platform

    def _descend(self, entry: Descriptor, path: tuple[int, ...]) -> Choice | None:
        if len(path) >= MAX_DEPTH:
            raise LimitExceeded("the depth of nested indexes", MAX_DEPTH, len(path) + 1, "levels")
        if str(entry.digest) in self._visited:
            return None
        self._visited.add(str(entry.digest))
        if len(self._visited) > MAX_VISITED:
            raise LimitExceeded("nested indexes", MAX_VISITED, len(self._visited), "documents")
        what = f"the index `{entry.digest}` inside `{self._reference}`"
        body = self._reader.read(entry, what)
        inner = parse_document(body, entry.media_type, what, entry.media_type)
        return self.choose(inner, path) if isinstance(inner, Index) else None

    def considered(self, chosen: Choice | None) -> tuple[Considered, ...]:
        """Tell what became of every entry looked at, in index order."""
        return tuple(
            Considered(
                path,
                descriptor,
                chosen is not None and path == chosen.path,
                "" if chosen is not None and path == chosen.path else reason,
            )
            for path, (descriptor, reason) in sorted(self.reasons.items())
        )


def _unverifiable(entry: Descriptor) -> str:
    return f"`{entry.digest.algorithm}` digests cannot be verified"


def fits(
    platform: Platform, wanted: Sequence[Platform], table: PlatformTable, *, exact: bool
) -> Grade | None:
    """Say how well a config's platform fits a wish; None if it does not.

    A config without a variant fits any variant of its architecture, since configs often omit it
    (platforms.md 7.4, after moby's `OnlyPlatformWithFallback`), unless `exact` refuses guesses.
    """
    selection = select([platform], wanted, exact=exact, table=table)
    if selection.grade is not None:
        return selection.grade
    if platform.variant or exact:
        return None
    plain = platform.normalized(table)
    for wish in wanted:
        normal = wish.normalized(table)
        if (normal.os, normal.architecture) == (plain.os, plain.architecture) and normal.variant:
            lifted = Platform(
                platform.os,
                platform.architecture,
                normal.variant,
                platform.os_version,
                platform.os_features,
            )
            if select([lifted], [wish], exact=True, table=table).index is not None:
                return Grade.FALLBACK
    return None


def read_manifest(reader: Reader, descriptor: Descriptor, reference: str) -> Manifest:
    """Read an image manifest that an index names.

    Raises:
        Untrusted: its bytes or its type are not what the index says.

    """
    what = f"the manifest `{descriptor.digest}` of `{reference}`"
    kind = descriptor.media_type
    document = parse_document(reader.read(descriptor, what), kind, what, kind)
    if isinstance(document, Index):
        raise PlatformUnknown(f"{what} is an index, where an image was expected")
    warn_of_missing_layers(reader, document, what)
    return document


def warn_of_missing_layers(reader: Reader, manifest: Manifest, what: str) -> None:
    """Say that a manifest has no `layers`, which it must have, and is read without any."""
    if manifest.lacks_layers:
        reader.warn(Warned("layers-missing", f"{what} has no `layers`; it is read as having none"))


def read_config(reader: Reader, manifest: Manifest, reference: str) -> ImageConfig:
    """Read an image's config, checked against the number of its layers.

    Raises:
        PlatformUnknown: there is no config.

    """
    from resolver.core.image_config import parse_config  # noqa: PLC0415 - most answers need none

    if manifest.config is None:
        raise PlatformUnknown(f"`{reference}` has no config, so it says no platform")
    what = f"the config `{manifest.config.digest}` of `{reference}`"
    body = reader.read(manifest.config, what)
    return parse_config(body, what, len(manifest.layers))
