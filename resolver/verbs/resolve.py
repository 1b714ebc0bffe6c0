"""Resolving: from a name to the manifest of one platform, with the reasons."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import CONFIG_TYPES
from resolver.core.oci.manifest import Index, Manifest, oversize, parse_config
from resolver.core.platforms.platform import BUILTIN, Grade, percent_encode
from resolver.core.platforms.select import nearest
from resolver.core.results.events import Warned
from resolver.core.results.resolve import Considered, Failure, Resolution
from resolver.errors import NotFound, PlatformNotOffered, PlatformUnknown, ResolverError
from resolver.verbs.context import each_platform, one_or_many
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
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import ImageConfig
    from resolver.core.oci.reference import Reference
    from resolver.core.oci.target import Target
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.plan import PlannedImage
    from resolver.store import LocalStore
    from resolver.verbs.context import Context, NamesLike, PlatformLike, PlatformsLike


def resolve_document(
    reader: DocumentReader, root: RootDocument, request: PlatformRequest, table: PlatformTable
) -> Resolution:
    """Find the manifest that a root document offers for a request."""
    if isinstance(root.parsed, Index):
        return _from_index(reader, root, root.parsed, request, table)
    return _from_manifest(reader, root, root.parsed, request, table)


def _from_index(
    reader: DocumentReader,
    root: RootDocument,
    index: Index,
    request: PlatformRequest,
    table: PlatformTable,
) -> Resolution:
    walk = IndexSearch(reader, request, table, reference=root.text)
    choice = walk.choose(index)
    passed_over = walk.warnings
    if choice is None and not request.refuses_artifacts:
        choice = walk.last_resort
        if choice is not None:
            passed_over = [_no_image(root.text, choice)]
    offered = [walk.offered[path] for path in sorted(walk.offered)]
    if choice is None:
        for warning in passed_over:
            reader.warn(warning)
        raise _not_offered(root.text, request, offered, table)
    warnings = [
        *passed_over,
        *_fallback(root.text, request, choice),
        *_several_versions(root.text, request, choice, offered),
        *_contradiction(reader, root.text, choice, request, table),
        *_oversize(root.text, choice),
    ]
    return Resolution(
        reference=root.text,
        pinned=f"{root.prefix}{choice.descriptor.digest}",
        pinned_index=f"{root.prefix}{root.document.descriptor.digest}",
        wanted=request.platforms,
        explicit=request.explicit,
        index=root.document.descriptor,
        manifest=choice.descriptor,
        platform=choice.platform,
        normalized=choice.platform.normalized(table),
        grade=choice.grade,
        considered=walk.considered(choice),
        tag_verified=root.tag_verified,
        warnings=tuple(warnings),
    )


def _from_manifest(
    reader: DocumentReader,
    root: RootDocument,
    manifest: Manifest,
    request: PlatformRequest,
    table: PlatformTable,
) -> Resolution:
    """Resolve a root that is a single image, whose config names its platform.

    See docs/platform-matching.md, "Single manifests".
    """
    platform = None
    if manifest.is_image:
        platform = read_config(reader, manifest, root.text).platform
        if platform is None:
            raise PlatformUnknown(
                f"`{root.text}` does not name its platform: its config has no `architecture` and "
                "`os`",
                f"see its config with `resolver inspect --config {root.text}`",
            )
    descriptor = root.document.descriptor
    found = resolve_single(root.text, root.prefix, descriptor, platform, request, table)
    return replace(found, tag_verified=root.tag_verified)


def resolve_single(
    text: str,
    prefix: str,
    descriptor: Descriptor,
    platform: Platform | None,
    request: PlatformRequest,
    table: PlatformTable,
) -> Resolution:
    """Resolve a root that is a single image, or content without a platform."""
    grade, warnings = _single(text, descriptor, platform, request, table)
    pinned = f"{prefix}{descriptor.digest}"
    return Resolution(
        reference=text,
        pinned=pinned,
        pinned_index=pinned,
        wanted=request.platforms,
        explicit=request.explicit,
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
    request: PlatformRequest,
    table: PlatformTable,
) -> tuple[Grade | None, list[Warned]]:
    if platform is None:
        if request.explicit:
            raise PlatformUnknown(
                f"`{text}` is not an image, so it is offered for no platform",
                f"see what it is with `resolver inspect {text}`",
            )
        return None, [Warned("not-an-image", f"`{text}` is not an image: it has no platform")]
    grade = fits(platform, request, table)
    if grade is None and request.explicit:
        raise _not_offered(text, request, [platform], table)
    if grade is None:
        asked_for = _or(request.platforms)
        message = f"`{text}` is built for `{platform}` only; this machine is `{asked_for}`"
        return None, [Warned("other-platform", message)]
    choice = Match(descriptor, platform, grade, ())
    return grade, _fallback(text, request, choice) if request.explicit else []


def _no_image(text: str, choice: Match) -> Warned:
    message = (
        f"`{choice.descriptor.digest}` of `{text}`, listed for `{choice.platform}`, is not an "
        "image by its manifest; there is no other (`--verify` rejects it)"
    )
    return Warned("not-an-image", message)


def _not_offered(
    text: str, request: PlatformRequest, offered: Sequence[Platform], table: PlatformTable
) -> PlatformNotOffered:
    relatives = nearest(
        offered, request.platforms, exact=request.exact, local=request.local, table=table
    )
    near = dict.fromkeys((str(offered[position]), reason) for position, reason in relatives)
    unique = tuple(dict.fromkeys(str(platform) for platform in offered))
    return PlatformNotOffered(text, list(map(str, request.platforms)), unique, tuple(near))


def _or(platforms: Sequence[Platform]) -> str:
    return " or ".join(str(platform) for platform in platforms)


def _fallback(text: str, request: PlatformRequest, choice: Match) -> list[Warned]:
    """Warn when a fallback was chosen (docs/platform-matching.md, "Grades")."""
    if choice.grade not in {Grade.FALLBACK, Grade.ABI}:
        return []
    from resolver.core.check.check import other_version  # noqa: PLC0415 - for fallbacks only

    wanted = request.platforms[0]
    if other_version(wanted, choice.platform):
        if choice.platform.os.lower() == "windows":
            return []  # `_unknown_build` has more to report.
        why = "which has another version"
    elif choice.grade is Grade.FALLBACK:
        why = "which it can run"
    else:
        why = "whose programs it can run"
    message = (
        f"`{text}` is not offered for `{wanted}`; using `{choice.platform}`, {why} "
        "(`--exact` rejects this)"
    )
    return [Warned("fallback-platform", message)]


def _oversize(text: str, choice: Match) -> list[Warned]:
    reason = oversize(choice.descriptor, text)
    return [] if reason is None else [Warned("oversized-manifest", f"{reason}; `pull` rejects it")]


def _several_versions(
    text: str, request: PlatformRequest, choice: Match, offered: Sequence[Platform]
) -> list[Warned]:
    """Warn when one of several versions of a system was chosen by order alone."""
    wanted, taken = request.platforms[0], choice.platform
    windows = taken.os.lower() == "windows"
    if wanted.os.lower() != taken.os.lower() or request.entry is not None:
        return []
    if wanted.os_version:
        from resolver.core.platforms.windows import read_version  # noqa: PLC0415 - rarely needed

        if not windows or read_version(wanted.os_version):
            return []
        # A mistyped `ltsc2202` must not pass for the chosen build, see
        # docs/platform-matching.md, "Windows build rule".
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
        f"`{text}` has several {'Windows builds' if windows else 'versions'} ({named}); "
        f"using the first, `{taken}`: select one with `-p {example}`"
    )
    return [Warned(f"several-{'windows-builds' if windows else 'versions'}", message)]


def _unknown_build(text: str, wanted: Platform, taken: Platform) -> list[Warned]:
    """Warn when the requested build cannot be compared, so that any build matches."""
    if wanted.os_version == taken.os_version:
        return []
    message = (
        f"`{wanted.os_version}` is not a Windows version, so any matches; using `{taken}` of "
        f"`{text}`: write a build as `10.0.20348`, or a release as `ltsc2022`"
    )
    return [Warned("unknown-windows-version", message)]


def _contradiction(
    reader: DocumentReader, text: str, choice: Match, request: PlatformRequest, table: PlatformTable
) -> list[Warned]:
    """Compare the platform in the index with that of the image's own config.

    Without `verify`, only if both documents are held, since resolving must cost one request
    (docs/wire-protocol.md, "Request budget"). A pull reads both anyway and always compares. See
    docs/platform-matching.md, "Contradicting configs".
    """
    config = _config_of(reader, text, choice, fetch=request.verify or request.strict)
    if config is None or config.platform is None:
        return []
    warning = _disagreement(text, choice.descriptor, choice.platform, config.platform, table)
    if warning is not None and request.strict:
        raise NotFound(
            f"`{text}` is listed as `{choice.platform}`, but its config says `{config.platform}`",
            "report it to the publisher; without `--strict` this is a warning",
            code="contradictory-platform",
            word="PLATFORM",
            reference=text,
            stated=str(choice.platform),
            actual=str(config.platform),
        )
    return [] if warning is None else [warning]


def _disagreement(
    text: str, descriptor: Descriptor, stated: Platform, said: Platform, table: PlatformTable
) -> Warned | None:
    """Warn if an index and a config name different platforms; an omitted variant matches any."""
    one, other = stated.normalized(table), said.normalized(table)
    same_kind = (one.os, one.architecture) == (other.os, other.architecture)
    if same_kind and (not said.variant or one.variant == other.variant):
        return None
    message = f"`{text}` lists `{descriptor.digest}` as `{stated}`, but its config says `{said}`"
    return Warned("contradictory-platform", message)


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
    """Warn if the config of a pulled image names another platform than its index.

    The config is held by now; resolving did not read it.
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
        # Running the image will report the fault; its bytes match their digest.
        return ()
    if said is None:
        return ()
    warning = _disagreement(image.reference, image.manifest, stated, said, BUILTIN)
    return () if warning is None else (warning,)


def resolve(  # noqa: PLR0913 - one for each option of the verb
    context: Context,
    reference: str | Reference,
    platform: PlatformLike = None,
    *,
    exact: bool = False,
    verify: bool = False,
    strict: bool = False,
    verify_tag: bool = False,
    verify_cpu: bool = False,
) -> Resolution:
    """Find the manifest that a reference means on one platform."""
    request = context.platform_request(platform, exact=exact, verify=verify, strict=strict)
    target = context.target(reference)
    reader, warned = context.reader(target)
    root = context.read_root(reader, target, verify_tag=verify_tag)
    found = resolve_document(reader, root, request, context.table)
    if verify_cpu:
        from resolver.verbs.needs import verify_cpu as lacking  # noqa: PLC0415 - where it is set

        found = replace(found, warnings=(*found.warnings, *lacking(context, reference, found)))
    reader.report_warnings()
    return replace(found, warnings=(*warned, *found.warnings))


def resolve_each(  # noqa: PLR0913 - one for each option of the verb
    context: Context,
    references: NamesLike,
    platforms: PlatformsLike = (None,),
    *,
    exact: bool = False,
    verify: bool = False,
    strict: bool = False,
    verify_tag: bool = False,
    verify_cpu: bool = False,
    executor: Executor | None = None,
) -> Iterator[Resolution | Failure]:
    """Resolve many references concurrently; answers are in the order of the references."""
    from resolver.verbs.batch import each  # noqa: PLC0415 - not for one reference

    requests = [
        None
        if platform == "all"
        else context.platform_request(platform, exact=exact, verify=verify, strict=strict)
        for platform in each_platform(platforms) or (None,)
    ]
    every = PlatformRequest((), explicit=True, exact=True, verify=verify, strict=strict)

    look = partial(_answers, requests=requests, every=every, verify_tag=verify_tag, cpu=verify_cpu)
    listed = [(context.name(reference), reference) for reference in one_or_many(references)]
    with context.store.batch():
        for outcome in each(context, look, listed, "resolving", executor):
            if isinstance(outcome.value, ResolverError):
                for request in requests:
                    yield Failure(outcome.item[0], _words(request), outcome.value)
            else:
                yield from outcome.value


def _with_cpu(
    context: Context, target: Target, found: Resolution | Failure
) -> Resolution | Failure:
    """Add what keeps an image from running on this machine."""
    from resolver.verbs.needs import verify_cpu  # noqa: PLC0415 - where it is set

    if isinstance(found, Failure):
        return found
    try:
        return replace(found, warnings=(*found.warnings, *verify_cpu(context, str(target), found)))
    except ResolverError as error:
        wanted = tuple(map(str, found.wanted)) if found.explicit else ()
        return Failure(found.reference, wanted, error)


def _answers(
    context: Context,
    item: tuple[str, str | Reference],
    *,
    requests: Sequence[PlatformRequest | None],
    every: PlatformRequest,
    verify_tag: bool,
    cpu: bool,
) -> list[Resolution | Failure]:
    """Answer all requests for one reference, whose root document is read once."""
    target = context.target(item[1])
    reader, warned = context.reader(target)
    root = context.read_root(reader, target, verify_tag=verify_tag)
    expanded: list[PlatformRequest] = []
    for request in requests:
        expanded.extend(
            [request] if request is not None else context.every_platform(reader, root, every)
        )
    found: list[Resolution | Failure] = []
    for request in expanded:
        try:
            one = resolve_document(reader, root, request, context.table)
        except ResolverError as error:
            found.append(Failure(str(target), _words(request), error))
        else:
            found.append(replace(one, warnings=(*warned, *one.warnings)))
    reader.report_warnings()
    return [_with_cpu(context, target, one) for one in found] if cpu else found


def _words(request: PlatformRequest | None) -> tuple[str, ...]:
    if request is None:
        return ("all",)
    return tuple(map(str, request.platforms)) if request.explicit else ()
