"""Drift: changes since a reference was locked, by platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.core.lint.findings import Finding, ImageResults, Rule, Severity
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.lockfile.lock import LockedImage, LockedPlatform
    from resolver.core.oci.digest import Digest
    from resolver.core.results.events import Warned
    from resolver.core.results.resolve import Failure

INDEX_CHANGED = Rule(
    "index-changed",
    Severity.NOTE,
    "the index changed, but no selected platform did",
    "The reference points at another index than when it was locked, but the images behind it are "
    "the same ones: attestations, annotations or other platforms changed. Nothing needs to be "
    "tested again; `resolver lock --update` records the new index.",
)
PLATFORM_CHANGED = Rule(
    "platform-changed",
    Severity.ERROR,
    "a platform has changed since it was locked",
    "The reference no longer gives the image that was tested. Test the new image, then record it "
    "with `resolver lock --update`; until then `--locked` uses the old one.",
)
PLATFORM_REMOVED = Rule(
    "platform-removed",
    Severity.ERROR,
    "a locked platform is no longer offered",
    "Machines of this platform can no longer pull the reference. The locked digest may still be "
    "there for a while; ask the publisher, or choose another tag.",
)
PLATFORM_ADDED = Rule(
    "platform-added",
    Severity.NOTE,
    "a platform is offered that was not locked",
    "The image is now offered for more platforms. `resolver lock --update` records them.",
)
CONTENT_CHANGED = Rule(
    "content-changed",
    Severity.ERROR,
    "the content has changed since it was locked",
    "The locked entry has no platforms, so any change counts. Review the new content, then "
    "record it with `resolver lock --update`.",
)
REFERENCE_GONE = Rule(
    "reference-gone",
    Severity.ERROR,
    "the registry no longer has the reference",
    "The tag, the digest or the repository was deleted or renamed. The locked digests may still "
    "be there for a while: mirror them, or choose another reference.",
)

#: Every rule of `lock --check`. To add one, add a row, and create its findings in `drift_of`.
RULES = (
    INDEX_CHANGED,
    PLATFORM_CHANGED,
    PLATFORM_REMOVED,
    PLATFORM_ADDED,
    CONTENT_CHANGED,
    REFERENCE_GONE,
)


class PlatformPair(NamedTuple):
    """One platform, in normal form or as requested, as locked and now; None if not offered."""

    platform: str
    before: LockedPlatform | None
    after: LockedPlatform | None


@dataclass(frozen=True, slots=True)
class LockDrift:
    """The changes of one locked reference; `current` is None if the registry no longer has it."""

    image: LockedImage
    current: Digest | None
    platforms: tuple[PlatformPair, ...]
    findings: tuple[Finding, ...]

    @property
    def state(self) -> str:
        """The state: `as locked`, `index changed`, `moved` or `gone`."""
        if self.current is None:
            return "gone"
        if self.current == self.image.digest:
            return "as locked"
        return "moved" if self.drifted else "index changed"

    @property
    def drifted(self) -> bool:
        """Whether a relevant platform changed."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)


@dataclass(frozen=True, slots=True)
class LockCheck(ImageResults[LockDrift]):
    """The result of `lock --check`.

    `wanted`: relevant platforms, as typed; empty for all. `images`: in the order of the lock; a
    failure for each reference that could not be looked up.
    """

    path: str
    wanted: tuple[str, ...]
    images: tuple[LockDrift | Failure, ...]
    warnings: tuple[Warned, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether a relevant platform changed."""
        return any(image.drifted for image in self.looked_at)


def pairs_of(before: LockedImage, after: LockedImage) -> tuple[PlatformPair, ...]:
    """Pair the platforms of two records, sorted."""
    old = {one.key: one for one in before.platforms}
    new = {one.key: one for one in after.platforms}
    return tuple(PlatformPair(key, old.get(key), new.get(key)) for key in sorted({*old, *new}))


def gone(image: LockedImage) -> LockDrift:
    """Return the drift of a reference that the registry no longer has."""
    message = "the registry no longer has this reference"
    hint = "list the tags with `resolver tags REPOSITORY`"
    found = _finding(REFERENCE_GONE, image, message, hint=hint)
    return LockDrift(image, None, (), (found,))


def drift_of(image: LockedImage, current: Digest, pairs: tuple[PlatformPair, ...]) -> LockDrift:
    """Return the drift of a reference, from its digest and the platforms to compare."""
    if image.digest == current:
        return LockDrift(image, current, (), ())
    found = tuple(_moved(image, pairs))
    if not any(finding.severity is Severity.ERROR for finding in found):
        found = (*_whole(image, current, pairs), *found)
    return LockDrift(image, current, pairs, found)


def _moved(image: LockedImage, pairs: tuple[PlatformPair, ...]) -> Iterator[Finding]:
    for pair in pairs:
        match pair:
            case PlatformPair(platform, None, after) if after is not None:
                message = f"`{platform}` is offered now, as `{after.digest}`"
                yield _finding(PLATFORM_ADDED, image, message, platform, after.digest)
            case PlatformPair(platform, before, None) if before is not None:
                message = f"`{platform}` is no longer offered; it was `{before.digest}`"
                yield _finding(PLATFORM_REMOVED, image, message, platform, before.digest)
            case PlatformPair(platform, before, after) if before and after:
                if before.digest != after.digest:
                    message = f"`{platform}` was `{before.digest}`, and is `{after.digest}` now"
                    hint = f"test it, then run `resolver lock --update {image.written}`"
                    yield _finding(PLATFORM_CHANGED, image, message, platform, after.digest, hint)


def _whole(
    image: LockedImage, current: Digest, pairs: tuple[PlatformPair, ...]
) -> Iterator[Finding]:
    """Return the finding for a changed digest without a changed platform."""
    same = [f"`{pair.platform}`" for pair in pairs if pair.before is not None]
    if same:
        message = f"the index changed, {', '.join(same)} unchanged"
        yield _finding(INDEX_CHANGED, image, message, digest=current)
    else:
        message = f"it was `{image.digest}`, and is `{current}` now"
        yield _finding(CONTENT_CHANGED, image, message, digest=current)


def _finding(
    rule: Rule,
    image: LockedImage,
    message: str,
    platform: str = "",
    digest: Digest | None = None,
    hint: str = "",
) -> Finding:
    return Finding(
        rule.id,
        rule.severity,
        message,
        image.reference,
        platform,
        str(digest) if digest is not None else "",
        hint,
    )
