"""Copy many images that a file lists: `resolver copy --sync mirror.yaml`.

    version: 1
    copies:
      - from: docker.io/library/alpine
        to: [registry.example.com/base/alpine, "oci:./mirror"]
        semver: ">=3.18"
        platforms: [linux/amd64, linux/arm64]
      - from: ghcr.io/owner/app
        to: registry.example.com/app
        tags: ["1.0", "2.0"]
        include: "2.*"
        exclude: "*-rc*"
        referrers: false

A list of one item may be written without brackets. Without `tags`, the tags of the repository that
`include`, `exclude` and `semver` choose are copied. A tag that is the same at both sides costs one
HEAD at each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.oci.reference import is_tag
from resolver.core.oci.target import LayoutTarget, RegistryTarget, parse_target
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.core.registry.tags import chooser
from resolver.core.results.copy import Copied, CopiedTarget, Synced, over_limit
from resolver.core.results.resolve import Failure
from resolver.errors import NotFound, ResolverError
from resolver.values import dataclass
from resolver.verbs.copy import Destinations, execute, plan_copy
from resolver.verbs.copy_source import CopyOptions, CopySource
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from resolver.core.parse.document import FieldReader
    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.results.copy import CopyPlan
    from resolver.verbs.context import Context

#: The supported version of the format, and the most rows of one file.
VERSION = 1
MAX_COPIES = 10_000
#: Images that are looked at side by side: most of them have not changed.
_LOOKS = 48
_FIELDS = ("from", "to", "tags", "include", "exclude", "semver", "platforms", "referrers")


@dataclass(frozen=True, slots=True)
class SyncRule:
    """One row of the file.

    Attributes:
        source: a repository or an image.
        destinations: repositories, images or layouts.
        tags: as written; empty for those that `chosen` selects.
        chosen: whether a tag is copied; None for all.
    """

    source: str
    destinations: tuple[str, ...]
    tags: tuple[str, ...]
    chosen: Callable[[str], bool] | None
    options: CopyOptions


def read_rules(root: FieldReader, table: PlatformTable = BUILTIN) -> tuple[SyncRule, ...]:
    """Read the file.

    Raises:
        BadFile: a field is unknown, missing or of the wrong type.
    """
    if root.is_empty:
        root.fail("it is empty", f"begin with `version: {VERSION}` and `copies:`")
    fields = root.fields("version", "copies")
    if "version" not in fields:
        root.fail("it has no `version`", f"begin with `version: {VERSION}`")
    if fields["version"].whole() != VERSION:
        fields["version"].fail(
            f"this version is not supported, only {VERSION}", "a newer `resolver` may support it"
        )
    if "copies" not in fields:
        root.fail("it has no `copies`", "list them: `copies: [{from: IMAGE, to: IMAGE}]`")
    rules = tuple(_rule(each, table) for each in fields["copies"].items())
    if len(rules) > MAX_COPIES:
        fields["copies"].fail(f"there are more than {MAX_COPIES} copies", "split the file")
    return rules


def _rule(spot: FieldReader, table: PlatformTable) -> SyncRule:
    fields = spot.fields(*_FIELDS)
    for name in ("from", "to"):
        if name not in fields:
            spot.fail(f"it has no `{name}`", "write `from: IMAGE` and `to: IMAGE`")
    tags = tuple(_tag(each) for each in fields["tags"].one_or_more()) if "tags" in fields else ()
    try:
        chosen = chooser(
            semver=fields["semver"].text() if "semver" in fields else None,
            include=_globs(fields, "include"),
            exclude=_globs(fields, "exclude"),
        )
    except ResolverError as error:
        spot.fail(str(error), *error.hints())
    platforms: tuple[Platform, ...] = ()
    if "platforms" in fields:
        platforms = tuple(_platform(each, table) for each in fields["platforms"].one_or_more())
    referrers = fields["referrers"].truth() if "referrers" in fields else True
    return SyncRule(
        _target(fields["from"]),
        tuple(_target(each) for each in fields["to"].one_or_more()),
        tags,
        chosen,
        CopyOptions(platforms, referrers=referrers),
    )


def _globs(fields: dict[str, FieldReader], name: str) -> list[str]:
    return [each.text() for each in fields[name].one_or_more()] if name in fields else []


def _target(spot: FieldReader) -> str:
    text = spot.text()
    try:
        parse_target(text)
    except ResolverError as error:
        spot.fail(str(error), *error.hints())
    return text


def _tag(spot: FieldReader) -> str:
    text = spot.text()
    return text if is_tag(text) else spot.fail("this is not a tag")


def _platform(spot: FieldReader, table: PlatformTable) -> Platform:
    try:
        return Platform.parse(spot.text(), table=table)
    except ResolverError as error:
        return spot.fail(str(error), *error.hints())


@dataclass(frozen=True, slots=True)
class _Image:
    source: str
    destinations: tuple[str, ...]
    options: CopyOptions


def sync(
    context: Context,
    file: str | Path,
    *,
    dry_run: bool = False,
    max_upload: int | None = None,
) -> Synced:
    """Copy what a file lists; an image that fails does not end the others.

    Args:
        context: of the session.
        file: in YAML or JSON; `-` is standard input.
        dry_run: send nothing.
        max_upload: most bytes to send in total.

    Raises:
        BadFile: the file cannot be used; no request was sent.
        Negative: more would be sent than allowed.
    """
    from resolver.files import yaml  # noqa: PLC0415 - loads YAML

    rules = read_rules(yaml.read(file), context.table)
    context.widen(_LOOKS)
    places = Destinations(context)
    images: list[_Image] = []
    failures: list[Failure] = []
    for rule in rules:
        try:
            images += _images(context, rule)
        except ResolverError as error:
            failures.append(Failure(rule.source, None, error))
    plans: list[CopyPlan] = []

    def look(image: _Image) -> CopyPlan:
        return plan_copy(context, image.source, image.destinations, image.options, places)

    for outcome in parallel(look, images, jobs=_LOOKS):
        if isinstance(outcome.value, ResolverError):
            failures.append(Failure(outcome.item.source, None, outcome.value))
        else:
            plans.append(outcome.value)
    refusal = over_limit(plans, max_upload)
    if refusal is not None:
        raise refusal
    copies = list(_carried_out(context, plans, places, failures, dry_run=dry_run))
    return Synced(tuple(copies), tuple(failures), is_dry=dry_run)


def _carried_out(
    context: Context,
    plans: Iterable[CopyPlan],
    places: Destinations,
    failures: list[Failure],
    *,
    dry_run: bool,
) -> Iterator[Copied]:
    for plan in plans:
        if dry_run or all(target.done for target in plan.targets):
            yield Copied(plan, tuple(CopiedTarget(target) for target in plan.targets))
            continue
        try:
            done = execute(context, plan, CopySource(context, plan.source), places)
        except ResolverError as error:
            failures.append(Failure(plan.source, None, error))
            continue
        failures += done.failures
        yield done


def _images(context: Context, rule: SyncRule) -> list[_Image]:
    """Name every image of a row at both sides."""
    target = parse_target(rule.source)
    if not isinstance(target, RegistryTarget) or target.reference.digest is not None:
        return [_Image(rule.source, rule.destinations, rule.options)]
    reference = target.reference
    tags = list(rule.tags)
    if not tags and reference.tag is not None:
        return [
            _Image(
                rule.source,
                tuple(_with_tag(text, reference.tag) for text in rule.destinations),
                rule.options,
            )
        ]
    if not tags:
        tags = list(context.source(context.target(reference)).tags())
    if rule.chosen is not None:
        tags = list(filter(rule.chosen, tags))
    if not tags:
        raise NotFound(
            f"no tag of `{reference.identity}` is chosen",
            f"list them: `resolver tags {reference.identity}`",
        )
    return [
        _Image(
            f"{reference.identity}:{tag}",
            tuple(_with_tag(text, tag) for text in rule.destinations),
            rule.options,
        )
        for tag in tags
    ]


def _with_tag(text: str, tag: str) -> str:
    """Name a destination with a tag, unless it has one of its own."""
    target = parse_target(text)
    if isinstance(target, RegistryTarget) and target.reference.tag is None:
        return f"{target.reference.identity}:{tag}"
    if isinstance(target, LayoutTarget) and target.name is None:
        return f"{text}:{tag}"
    return text
