"""Resolving: from a name to the manifest of one platform, with the reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.answer import Considered, Resolution
from resolver.core.events import Warned
from resolver.core.manifest import Index, Manifest, parse_document
from resolver.core.matching import other_version
from resolver.core.platform import percent_encode
from resolver.core.select import Grade, nearest
from resolver.core.windows import read_version
from resolver.errors import (
    ContradictoryPlatform,
    PlatformNotOffered,
    PlatformUnknown,
    TagMoved,
)
from resolver.flow.choose import (
    Choice,
    Walk,
    fits,
    read_config,
    warn_of_missing_layers,
)
from resolver.flow.choose import (
    Wish as Wish,  # noqa: PLC0414 - one door: a wish is made beside the question
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.content import Document
    from resolver.core.descriptor import Descriptor
    from resolver.core.image_config import ImageConfig
    from resolver.core.platform import Platform, PlatformTable
    from resolver.core.reference import Reference
    from resolver.flow.reader import Reader


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """The name that is asked about, once its document is here."""

    text: str
    prefix: str
    document: Document
    parsed: Index | Manifest
    tag_verified: bool | None = None


def ask(reader: Reader, reference: Reference, *, verify_tag: bool = False) -> Asked:
    """Read what a registry reference points at.

    Raises:
        TagMoved: `verify_tag`, and the tag no longer points at the digest beside it.
        ResolverError: as `Reader.named`.

    """
    document = reader.named(reference)
    verified = None
    if verify_tag and reference.digest is not None and reference.tag is not None:
        current = reader.current(reference.tag, reference.digest)
        if current != reference.digest:
            raise TagMoved(str(reference), str(reference.digest), str(current))
        verified = True
    elif verify_tag:
        message = f"`{reference}` is not `name:tag@digest`, so there is no tag to verify"
        reader.warn(Warned("no-tag-to-verify", message))
    return Asked(
        str(reference),
        f"{reference.identity}@",
        document,
        _parse(reader, document, str(reference)),
        verified,
    )


def ask_local(reader: Reader, text: str, name: str) -> Asked:
    """Read what a name in a local place means."""
    document = reader.local(name)
    return Asked(text, "", document, _parse(reader, document, text))


def _parse(reader: Reader, document: Document, text: str) -> Index | Manifest:
    kind, what = document.descriptor.media_type, f"the document of `{text}`"
    parsed = parse_document(document.body, kind, what, kind)
    if isinstance(parsed, Manifest):
        warn_of_missing_layers(reader, parsed, what)
    return parsed


def resolve(reader: Reader, asked: Asked, wish: Wish, table: PlatformTable) -> Resolution:
    """Find the manifest that `asked` means for `wish`.

    Raises:
        PlatformNotOffered: the image has no entry that fits; the offered ones are named.
        PlatformUnknown: it does not say what it is made for.
        ContradictoryPlatform: `strict`, and index and config disagree.

    """
    if isinstance(asked.parsed, Index):
        return _from_index(reader, asked, asked.parsed, wish, table)
    return _from_manifest(reader, asked, asked.parsed, wish, table)


def _from_index(
    reader: Reader, asked: Asked, index: Index, wish: Wish, table: PlatformTable
) -> Resolution:
    walk = Walk(reader, wish, table, reference=asked.text)
    choice = walk.choose(index)
    passed_over = walk.warnings
    if choice is None and not (wish.verify or wish.strict):
        choice = walk.last_resort
        if choice is not None:
            passed_over = [_no_image(asked.text, choice)]
    offered = [walk.offered[path] for path in sorted(walk.offered)]
    if choice is None:
        for warning in passed_over:
            reader.warn(warning)
        raise _not_offered(asked.text, wish, offered, table)
    warnings = [
        *passed_over,
        *_fallback(asked.text, wish, choice),
        *_several_versions(asked.text, wish, choice, offered),
        *_contradiction(reader, asked.text, choice, wish, table),
    ]
    return Resolution(
        reference=asked.text,
        pinned=f"{asked.prefix}{choice.descriptor.digest}",
        pinned_index=f"{asked.prefix}{asked.document.descriptor.digest}",
        wanted=wish.platforms,
        explicit=wish.explicit,
        index=asked.document.descriptor,
        manifest=choice.descriptor,
        platform=choice.platform,
        normalized=choice.platform.normalized(table),
        grade=choice.grade,
        considered=walk.considered(choice),
        tag_verified=asked.tag_verified,
        warnings=tuple(warnings),
    )


def _from_manifest(
    reader: Reader, asked: Asked, manifest: Manifest, wish: Wish, table: PlatformTable
) -> Resolution:
    """Answer for a name that points at one image: its config says for what (D9)."""
    platform = None
    if manifest.is_image:
        platform = read_config(reader, manifest, asked.text).platform
        if platform is None:
            raise PlatformUnknown(
                f"`{asked.text}` does not say its platform: its config has no `architecture` and "
                "`os`",
                f"see its config with `resolver inspect --config {asked.text}`",
            )
    root = asked.document.descriptor
    found = resolve_single(asked.text, asked.prefix, root, platform, wish, table)
    return replace(found, tag_verified=asked.tag_verified)


def resolve_single(
    text: str,
    prefix: str,
    descriptor: Descriptor,
    platform: Platform | None,
    wish: Wish,
    table: PlatformTable,
) -> Resolution:
    """Answer for a single image whose platform is known; None for content that is no image.

    Raises:
        PlatformNotOffered: it is made for another platform than somebody asked for.
        PlatformUnknown: it is no image, and somebody asked for a platform.

    """
    grade, warnings = _single(text, descriptor, platform, wish, table)
    pinned = f"{prefix}{descriptor.digest}"
    return Resolution(
        reference=text,
        pinned=pinned,
        pinned_index=pinned,
        wanted=wish.platforms,
        explicit=wish.explicit,
        index=None,
        manifest=descriptor,
        platform=platform,
        normalized=platform.normalized(table) if platform is not None else None,
        grade=grade,
        considered=(Considered((), descriptor, chosen=True, reason=""),),
        tag_verified=None,
        warnings=tuple(warnings),
    )


def _single(
    text: str,
    descriptor: Descriptor,
    platform: Platform | None,
    wish: Wish,
    table: PlatformTable,
) -> tuple[Grade | None, list[Warned]]:
    if platform is None:
        if wish.explicit:
            raise PlatformUnknown(
                f"`{text}` is no image, so it is offered for no platform",
                f"see what it is with `resolver inspect {text}`",
            )
        return None, [Warned("not-an-image", f"`{text}` is no image: it has no platform")]
    grade = fits(platform, wish, table)
    if grade is None and wish.explicit:
        raise _not_offered(text, wish, [platform], table)
    if grade is None:
        asked_for = _or(wish.platforms)
        message = f"`{text}` is made for `{platform}` only; this machine is `{asked_for}`"
        return None, [Warned("other-platform", message)]
    choice = Choice(descriptor, platform, grade, ())
    return grade, _fallback(text, wish, choice) if wish.explicit else []


def _no_image(text: str, choice: Choice) -> Warned:
    message = (
        f"`{choice.descriptor.digest}` of `{text}`, listed for `{choice.platform}`, is no image by "
        "its manifest; there is no other (`--verify` refuses it)"
    )
    return Warned("not-an-image", message)


def _not_offered(
    text: str, wish: Wish, offered: Sequence[Platform], table: PlatformTable
) -> PlatformNotOffered:
    relatives = nearest(offered, wish.platforms, exact=wish.exact, local=wish.local, table=table)
    near = dict.fromkeys((str(offered[position]), reason) for position, reason in relatives)
    unique = tuple(dict.fromkeys(str(platform) for platform in offered))
    return PlatformNotOffered(text, _or(wish.platforms), unique, tuple(near))


def _or(platforms: Sequence[Platform]) -> str:
    return " or ".join(str(platform) for platform in platforms)


def _fallback(text: str, wish: Wish, choice: Choice) -> list[Warned]:
    """Say it when something else than the wanted platform was taken (architecture.md 5, 2)."""
    if choice.grade not in {Grade.FALLBACK, Grade.ABI}:
        return []
    wanted = wish.platforms[0]
    if other_version(wanted, choice.platform):
        if choice.platform.os.lower() == "windows":
            return []  # `_unknown_build` says more.
        why = "which has another version"
    elif choice.grade is Grade.FALLBACK:
        why = "which it can run"
    else:
        why = "whose programs it can run"
    message = (
        f"`{text}` is not offered for `{wanted}`; took `{choice.platform}`, {why} "
        "(`--exact` refuses this)"
    )
    return [Warned("fallback-platform", message)]


def _several_versions(
    text: str, wish: Wish, choice: Choice, offered: Sequence[Platform]
) -> list[Warned]:
    """Say it when an image was picked among several versions of a system by order alone."""
    wanted, taken = wish.platforms[0], choice.platform
    windows = taken.os.lower() == "windows"
    if wanted.os.lower() != taken.os.lower() or wish.entry is not None:
        return []
    if wanted.os_version:
        if not windows or read_version(wanted.os_version):
            return []
        # A mistyped `ltsc2202` must not pass for the build it took (platforms.md 6, rule 1).
        return _unknown_build(text, wanted, taken)
    versions = dict.fromkeys(
        platform.os_version
        for platform in offered
        if platform.os_version
        and (platform.os, platform.architecture) == (taken.os, taken.architecture)
    )
    if len(versions) < 2 or not (windows or taken.os_version):  # noqa: PLR2004 - one version leaves no choice
        return []
    named = ", ".join(map(percent_encode, versions))
    example = replace(wanted, os_version=next(reversed(versions)))
    message = (
        f"`{text}` has several {'Windows builds' if windows else 'versions'} ({named}); took the "
        f"first, `{taken}`: name one as `{example}`"
    )
    return [Warned(f"several-{'windows-builds' if windows else 'versions'}", message)]


def _unknown_build(text: str, wanted: Platform, taken: Platform) -> list[Warned]:
    """Say it when the wanted build says nothing that can be compared, so that any does."""
    if wanted.os_version == taken.os_version:
        return []
    message = (
        f"`{wanted.os_version}` is no Windows version, so any does; took `{taken}` of `{text}`: "
        "write a build as `10.0.20348`, or a release as `ltsc2022`"
    )
    return [Warned("unknown-windows-version", message)]


def _contradiction(
    reader: Reader, text: str, choice: Choice, wish: Wish, table: PlatformTable
) -> list[Warned]:
    """Compare what the index says with what the image's own config says (R10).

    Without `verify` only if both documents are held: an answer costs one request (product.md,
    "How fast"), and the pull, which reads both anyway, always compares.
    """
    config = _config_of(reader, text, choice, fetch=wish.verify or wish.strict)
    if config is None or config.platform is None:
        return []
    stated, actual = choice.platform.normalized(table), config.platform.normalized(table)
    same_kind = (stated.os, stated.architecture) == (actual.os, actual.architecture)
    if same_kind and (not config.platform.variant or stated.variant == actual.variant):
        return []
    if wish.strict:
        raise ContradictoryPlatform(text, str(choice.platform), str(config.platform))
    message = (
        f"`{text}` lists `{choice.descriptor.digest}` as `{choice.platform}`, "
        f"but its config says `{config.platform}`"
    )
    return [Warned("contradictory-platform", message)]


def _config_of(reader: Reader, text: str, choice: Choice, *, fetch: bool) -> ImageConfig | None:
    """Read the config of a choice; without `fetch` only if that costs no request."""
    manifest = choice.manifest
    if manifest is None or manifest.config is None or not manifest.is_image:
        return None
    if not fetch and reader.held(manifest.config) is None:
        return None
    return read_config(reader, manifest, text)
