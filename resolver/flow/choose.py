"""Choosing a manifest: an index, walked down to the image that fits best (platforms.md 7)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.answer import Considered
from resolver.core.descriptor import MANIFEST_TYPES, EntryKind
from resolver.core.events import Warned
from resolver.core.manifest import MAX_DEPTH, Index, Manifest, parse_document
from resolver.core.platform import Platform
from resolver.core.select import Grade, select
from resolver.errors import LimitExceeded, PlatformUnknown
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.image_config import ImageConfig
    from resolver.core.platform import PlatformTable
    from resolver.core.select import Selection
    from resolver.flow.reader import Reader

#: Entries without a platform whose config is read to learn it (platforms.md 7.4).
MAX_PROBES = 16
#: Manifests fetched in one walk, whatever the shape of the tree (protocol.md 4.5).
MAX_VISITED = 1_000

_UNKNOWN = Platform(os="unknown", architecture="unknown")


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The entry that won, as its index names it or as its config says.

    Attributes:
        manifest: None where it was not read.
    """

    descriptor: Descriptor
    platform: Platform
    grade: Grade
    path: tuple[int, ...]
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What is wanted of an image.

    Attributes:
        platforms: acceptable platforms, best first; more than one only for a default.
        explicit: whether somebody asked; a default is not held against a single-platform image.
        exact: refuse every fallback.
        verify: read the chosen manifest and config too, and compare them with the index.
        strict: a contradiction found so is an error instead of a warning; implies `verify`.
        local: the platform is this machine's, with the level of its processor; see `select`.
        entry: of the entries of an index take the one with this digest, and no other.
        reads: the chosen manifest is read anyway, so that a look at what it is costs nothing.

    """

    platforms: tuple[Platform, ...]
    explicit: bool
    exact: bool = False
    verify: bool = False
    strict: bool = False
    local: bool = False
    entry: Digest | None = None
    reads: bool = False


class Walk:
    """One walk down one index for one wish; keeps count of what it has seen."""

    def __init__(self, reader: Reader, wish: Wish, table: PlatformTable, *, reference: str) -> None:
        self._reader = reader
        self._wish = wish
        self._table = table
        self._reference = reference
        self._for_unknown = any(each.normalized(table) == _UNKNOWN for each in wish.platforms)
        self._probes = 0
        self._visited: set[str] = set()
        #: Why each entry lost, by its path; the chosen one has an empty reason.
        self.reasons: dict[tuple[int, ...], tuple[Descriptor, str]] = {}
        #: Platforms that images are offered for, by the path of their entry, as written.
        self.offered: dict[tuple[int, ...], Platform] = {}
        #: Entries that the index lists as images, and whose manifests are none.
        self.warnings: list[Warned] = []
        #: The first of these that fits; better than nothing to somebody who verifies nothing.
        self.last_resort: Choice | None = None

    def choose(self, index: Index, path: tuple[int, ...] = ()) -> Choice | None:
        """Find the best entry; nested indexes are entered, best first.

        Raises:
            LimitExceeded: nested deeper than 8, or more than 1,000 documents.
            ResolverError: a document that decides cannot be read.

        """
        candidates = [self._candidate(entry) for entry in index.manifests]
        selection = self._select(candidates)
        rejected = {loser.index: loser.reason for loser in selection.rejected}
        for position, entry in enumerate(index.manifests):
            candidate = candidates[position]
            if candidate is not None and not entry.is_index:
                self.offered[(*path, position)] = candidate
            reason = self._ineligible(entry) or rejected.get(position, "a better entry was chosen")
            self.reasons[(*path, position)] = (entry, reason)
        # Two images for one platform are rare, and an artifact beside its image is the usual case.
        twins = Counter(
            _without_features(candidate.normalized(self._table))
            for position in selection.ranking
            if (candidate := candidates[position]) is not None
        )
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
            if entry.is_index:
                found = self._descend(entry, here)
                if found is not None:
                    return found
                self.reasons[here] = (entry, "the index inside has no image that fits")
                continue
            doubtful = twins[_without_features(platform.normalized(self._table))] > 1
            manifest = self._manifest(entry, doubtful=doubtful)
            if manifest is None or self._for_unknown or manifest.is_image:
                return Choice(entry, platform, grade, here, manifest)
            self.last_resort = self.last_resort or Choice(entry, platform, grade, here, manifest)
            self._pass_over(entry, here, manifest)
        if unverifiable is not None:
            needed = unverifiable[0]
            needed.digest.require_verifiable(
                f"the entry `{needed.digest}` for `{needed.platform}` of `{self._reference}`"
            )
        return self._untyped(index, path)

    def _select(self, candidates: Sequence[Platform | None]) -> Selection:
        wish = self._wish
        return select(
            candidates, wish.platforms, exact=wish.exact, local=wish.local, table=self._table
        )

    def _manifest(self, entry: Descriptor, *, doubtful: bool) -> Manifest | None:
        """Read the manifest of the best entry, where it is needed, is here, or decides."""
        wish = self._wish
        if not (wish.verify or wish.strict or wish.reads):
            body = entry.data or self._reader.held(entry)
            if body is None and not (doubtful and self._reader.may_ask):
                return None
        return read_manifest(self._reader, entry, self._reference)

    def _pass_over(self, entry: Descriptor, path: tuple[int, ...], manifest: Manifest) -> None:
        """Note that an entry is no image, as only its manifest shows."""
        self.offered.pop(path, None)
        self.reasons[path] = (entry, f"its manifest is no image but `{type_of(manifest)}`")
        self.warnings.append(passed_over(self._reference, entry, manifest))

    def _candidate(self, entry: Descriptor) -> Platform | None:
        if self._ineligible(entry):
            return None
        return entry.platform

    def _ineligible(self, entry: Descriptor) -> str:
        """Say why an entry can never be the answer; empty if it can (platforms.md 7.2)."""
        only = self._wish.entry
        if only is not None and not entry.is_index and entry.digest != only:
            return "another entry was asked for"
        if entry.kind is EntryKind.ATTESTATION and not self._for_unknown:
            return "attestation, not an image"
        if entry.kind is EntryKind.ARTIFACT:
            if entry.media_type in MANIFEST_TYPES and self._for_unknown:
                return ""
            return f"not an image: its type is `{entry.artifact_type or entry.media_type}`"
        if entry.kind is EntryKind.ATTESTATION and entry.media_type not in MANIFEST_TYPES:
            return f"not an image: its type is `{entry.media_type}`"
        return ""

    def _untyped(self, index: Index, path: tuple[int, ...]) -> Choice | None:
        """Ask the configs of entries without a platform, as the last resort (D6)."""
        found: list[Choice] = []
        for position, entry in enumerate(index.manifests):
            if entry.platform is not None or self._ineligible(entry):
                continue
            if not entry.digest.is_verifiable:
                self.reasons[(*path, position)] = (entry, _unverifiable(entry))
                continue
            choice = self._probe(entry, (*path, position))
            if choice is not None:
                found.append(choice)
                if choice.grade in {Grade.EXACT, Grade.NORMALISED}:
                    break
        if not found:
            return None
        platforms = [choice.platform for choice in found]
        selection = self._select(platforms)
        # Configs that only fit without their variant come last, in index order.
        return found[selection.index] if selection.index is not None else found[0]

    def _probe(self, entry: Descriptor, path: tuple[int, ...]) -> Choice | None:
        if entry.is_index:
            return self._descend(entry, path)
        if self._probes >= MAX_PROBES:
            self.reasons[path] = (entry, f"not looked at: {MAX_PROBES} configs were read already")
            return None
        self._probes += 1
        manifest = read_manifest(self._reader, entry, self._reference)
        if not manifest.is_image:
            self._pass_over(entry, path, manifest)
            return None
        platform = read_config(self._reader, manifest, self._reference).platform
        if platform is None:
            self.reasons[path] = (entry, "has no platform, and its config names none")
            return None
        self.offered[path] = platform
        fit = fits(platform, self._wish, self._table)
        if fit is None:
            self.reasons[path] = (entry, f"has no platform; its config says `{platform}`")
            return None
        return Choice(entry, platform, fit, path, manifest)

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


def passed_over(reference: str, entry: Descriptor, manifest: Manifest) -> Warned:
    """Say that an entry is listed as an image, and that its manifest is none."""
    listed = f" for `{entry.platform}`" if entry.platform is not None else ""
    message = (
        f"`{reference}` lists `{entry.digest}`{listed} as an image, but its manifest is "
        f"`{type_of(manifest)}`: passed over"
    )
    return Warned("artifact-passed-over", message)


def type_of(manifest: Manifest) -> str:
    """Say what a manifest is that is no image."""
    config = manifest.config.media_type if manifest.config is not None else "no config"
    return manifest.artifact_type or config


def _without_features(platform: Platform) -> Platform:
    return replace(platform, os_features=())


def fits(platform: Platform, wish: Wish, table: PlatformTable) -> Grade | None:
    """Say how well a config's platform fits a wish; None if it does not.

    A config without a variant fits any variant of its architecture, since configs often omit it
    (platforms.md 7.4, after moby's `OnlyPlatformWithFallback`), unless `exact` refuses guesses.
    """
    found = select([platform], wish.platforms, exact=wish.exact, local=wish.local, table=table)
    if found.grade is not None:
        return found.grade
    if platform.variant or wish.exact:
        return None
    plain = platform.normalized(table)
    for wanted in wish.platforms:
        normal = wanted.normalized(table)
        if (normal.os, normal.architecture) == (plain.os, plain.architecture) and normal.variant:
            lifted = replace(platform, variant=normal.variant)
            if select([lifted], [wanted], table=table).index is not None:
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
