"""Resolving: from a name to the manifest of one platform, with the reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.config import parse_config
from resolver.core.oci.descriptor import CONFIG_TYPES
from resolver.core.oci.manifest import Index, Manifest, oversize
from resolver.core.platforms.platform import Grade, percent_encode
from resolver.core.platforms.select import nearest
from resolver.core.platforms.windows import read_version
from resolver.core.results.events import Warned
from resolver.core.results.resolve import Considered, Failure, Resolution
from resolver.errors import (
    NotFound,
    PlatformNotOffered,
    PlatformUnknown,
    ResolverError,
)
from resolver.verbs.documents import (
    DocumentReader,
    IndexSearch,
    Match,
    PlatformRequest,
    RootDocument,
    fits,
    read_config,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.core.oci.config import ImageConfig
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.reference import Reference
    from resolver.core.oci.target import Target
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.plan import PlannedImage
    from resolver.store import LocalStore
    from resolver.verbs.context import Context, PlatformLike


def resolve_document(
    reader: DocumentReader, asked: RootDocument, wish: PlatformRequest, table: PlatformTable
) -> Resolution:
    """Find the manifest that `asked` means for `wish`.

    Raises:
        PlatformNotOffered: the image has no entry that fits; the offered ones are named.
        PlatformUnknown: it does not say what it is made for.
        NotFound: `strict`, and index and config disagree.

    """
    if isinstance(asked.parsed, Index):
        return _from_index(reader, asked, asked.parsed, wish, table)
    return _from_manifest(reader, asked, asked.parsed, wish, table)


def _from_index(
    reader: DocumentReader,
    asked: RootDocument,
    index: Index,
    wish: PlatformRequest,
    table: PlatformTable,
) -> Resolution:
    walk = IndexSearch(reader, wish, table, reference=asked.text)
    choice = walk.choose(index)
    passed_over = walk.warnings
    if choice is None and not wish.refuses_artifacts:
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
        *_oversize(asked.text, choice),
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
    reader: DocumentReader,
    asked: RootDocument,
    manifest: Manifest,
    wish: PlatformRequest,
    table: PlatformTable,
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
    wish: PlatformRequest,
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
    wish: PlatformRequest,
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
    choice = Match(descriptor, platform, grade, ())
    return grade, _fallback(text, wish, choice) if wish.explicit else []


def _no_image(text: str, choice: Match) -> Warned:
    message = (
        f"`{choice.descriptor.digest}` of `{text}`, listed for `{choice.platform}`, is no image by "
        "its manifest; there is no other (`--verify` refuses it)"
    )
    return Warned("not-an-image", message)


def _not_offered(
    text: str, wish: PlatformRequest, offered: Sequence[Platform], table: PlatformTable
) -> PlatformNotOffered:
    relatives = nearest(offered, wish.platforms, exact=wish.exact, local=wish.local, table=table)
    near = dict.fromkeys((str(offered[position]), reason) for position, reason in relatives)
    unique = tuple(dict.fromkeys(str(platform) for platform in offered))
    return PlatformNotOffered(text, _or(wish.platforms), unique, tuple(near))


def _or(platforms: Sequence[Platform]) -> str:
    return " or ".join(str(platform) for platform in platforms)


def _fallback(text: str, wish: PlatformRequest, choice: Match) -> list[Warned]:
    """Say it when something else than the wanted platform was taken (architecture.md 5, 2)."""
    if choice.grade not in {Grade.FALLBACK, Grade.ABI}:
        return []
    from resolver.core.check.check import other_version  # noqa: PLC0415 - for fallbacks only

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


def _oversize(text: str, choice: Match) -> list[Warned]:
    """Say it when the answer is known and what it names cannot be used: `pull` refuses it."""
    reason = oversize(choice.descriptor, text)
    return [] if reason is None else [Warned("oversized-manifest", f"{reason}; no pull takes it")]


def _several_versions(
    text: str, wish: PlatformRequest, choice: Match, offered: Sequence[Platform]
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
    reader: DocumentReader, text: str, choice: Match, wish: PlatformRequest, table: PlatformTable
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
        raise NotFound(
            f"`{text}` is listed as `{choice.platform}`, but its config says `{config.platform}`",
            "tell the publisher; without `--strict` this is a warning",
            code="contradictory-platform",
            word="PLATFORM",
            reference=text,
            stated=str(choice.platform),
            actual=str(config.platform),
        )
    message = (
        f"`{text}` lists `{choice.descriptor.digest}` as `{choice.platform}`, "
        f"but its config says `{config.platform}`"
    )
    return [Warned("contradictory-platform", message)]


def _config_of(
    reader: DocumentReader, text: str, choice: Match, *, fetch: bool
) -> ImageConfig | None:
    """Read the config of a choice; without `fetch` only if that costs no request."""
    manifest = choice.manifest
    if manifest is None or manifest.config is None or not manifest.is_image:
        return None
    if not fetch and reader.held(manifest.config) is None:
        return None
    return read_config(reader, manifest, text)


def contradiction(image: PlannedImage, store: LocalStore) -> tuple[Warned, ...]:
    """Warn if the config of a pulled image says another platform than its index.

    The config is here by now; a resolve that had not read it could not tell.
    """
    config = next((each.descriptor for each in image.contents if each.role == "config"), None)
    stated = image.platform
    if stated is None or config is None or config.media_type not in CONFIG_TYPES:
        return ()
    if any(warning.code == "contradictory-platform" for warning in image.warnings):
        return ()
    try:
        what = f"the config of `{image.reference}`"
        said = parse_config(store.read(config), what, None).platform
    except ResolverError:
        # Whoever runs the image will say what is wrong with it; it is what its digest promised.
        return ()
    if said is None:
        return ()
    one, other = stated.normalized(), said.normalized()
    same_kind = (one.os, one.architecture) == (other.os, other.architecture)
    if same_kind and (not said.variant or one.variant == other.variant):
        return ()
    message = (
        f"`{image.reference}` lists `{image.manifest.digest}` as `{stated}`, "
        f"but its config says `{said}`"
    )
    return (Warned("contradictory-platform", message),)


def resolve(  # noqa: PLR0913 - one for each option of the verb
    context: Context,
    reference: str | Reference,
    platform: PlatformLike = None,
    *,
    exact: bool = False,
    verify: bool = False,
    strict: bool = False,
    verify_tag: bool = False,
) -> Resolution:
    """Find the manifest that a reference means on one platform."""
    wish = context.wish(platform, exact=exact, verify=verify, strict=strict)
    target = context.target(reference)
    reader, warned = context.reader(target)
    asked = context.ask(reader, target, verify_tag=verify_tag)
    found = resolve_document(reader, asked, wish, context.table)
    reader.tell_warnings()
    return replace(found, warnings=(*warned, *found.warnings))


def resolve_each(  # noqa: PLR0913 - one for each option of the verb
    context: Context,
    references: Iterable[str | Reference],
    platforms: Sequence[PlatformLike] = (None,),
    *,
    exact: bool = False,
    verify: bool = False,
    strict: bool = False,
    verify_tag: bool = False,
) -> Iterator[Resolution | Failure]:
    """Resolve many, side by side; answers come in the order of the questions."""
    targets = [context.target(reference) for reference in references]
    wishes = [
        None
        if platform == "all"
        else context.wish(platform, exact=exact, verify=verify, strict=strict)
        for platform in platforms
    ]
    every = PlatformRequest((), explicit=True, exact=True, verify=verify, strict=strict)

    def answers(target: Target) -> list[Resolution | Failure]:
        return _answers(context, target, wishes, every, verify_tag=verify_tag)

    from resolver.verbs.threads import each  # noqa: PLC0415 - for many alone

    for outcome in each(answers, targets, jobs=context.settings.jobs):
        if isinstance(outcome.value, ResolverError):
            for wish in wishes:
                yield Failure(str(outcome.item), _words(wish), outcome.value)
        else:
            yield from outcome.value


def _answers(
    context: Context,
    target: Target,
    wishes: Sequence[PlatformRequest | None],
    every: PlatformRequest,
    *,
    verify_tag: bool,
) -> list[Resolution | Failure]:
    """Answer all wishes for one name; the name itself is read once."""
    reader, warned = context.reader(target)
    asked = context.ask(reader, target, verify_tag=verify_tag)
    expanded: list[PlatformRequest] = []
    for wish in wishes:
        expanded.extend(
            [wish] if wish is not None else context.every_platform(reader, asked, every)
        )
    found: list[Resolution | Failure] = []
    for wish in expanded:
        try:
            one = resolve_document(reader, asked, wish, context.table)
        except ResolverError as error:
            found.append(Failure(str(target), _words(wish), error))
        else:
            found.append(replace(one, warnings=(*warned, *one.warnings)))
    reader.tell_warnings()
    return found


def _words(wish: PlatformRequest | None) -> str | None:
    if wish is None:
        return "all"
    return str(wish.platforms[0]) if wish.explicit else None
