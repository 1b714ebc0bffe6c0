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

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from resolver.core.oci.reference import is_tag
from resolver.core.oci.target import LayoutTarget, RegistryTarget, parse_target
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.core.registry.tags import chooser
from resolver.core.results.copy import Copied, CopiedTarget, Synced, over_limit
from resolver.core.results.resolve import Failure
from resolver.errors import NotFound, ResolverError
from resolver.values import dataclass
from resolver.verbs.batch import each as each_item
from resolver.verbs.copy import Destinations, execute, plan_copy
from resolver.verbs.copy_source import CopyOptions, CopySource
from resolver.verbs.threads import kept, parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from resolver.core.parse.document import FieldReader
    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.results.copy import CopyPlan
    from resolver.verbs.context import Context
    from resolver.verbs.threads import Outcome

    #: An image and the plans of a group, each with its name and the place that decides where it is
    #: worked on; and what the destinations of one plan got.
    _Item: TypeAlias = "tuple[str, str, _Image]"
    _Group: TypeAlias = tuple[str, str, tuple[CopyPlan, ...]]
    _Sent: TypeAlias = tuple[tuple[CopiedTarget, ...], tuple[Failure, ...]]

#: The supported version of the format, and the most rows of one file.
VERSION = 1
MAX_COPIES = 10_000
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
    executor: Executor | None = None,
) -> Synced:
    """Copy what a file lists; an image that fails does not end the others.

    Args:
        context: of the session.
        file: in YAML or JSON; `-` is standard input.
        dry_run: send nothing.
        max_upload: most bytes to send in total.
        executor: plans and carries out copies between registries; None to use threads only.

    Raises:
        BadFile: the file cannot be used; no request was sent.
        Negative: more would be sent than allowed.
    """
    from resolver.files import yaml  # noqa: PLC0415 - loads YAML

    rules = read_rules(yaml.read(file), context.table)
    images: list[_Image] = []
    failures: list[Failure] = []
    for rule in rules:
        try:
            images += _images(context, rule)
        except ResolverError as error:
            failures.append(Failure(rule.source, (), error))
    items = [(each.source, _place(each.source, each.destinations), each) for each in images]
    if executor is None:
        outcomes: Iterator[Outcome[_Item, CopyPlan]] = parallel(
            # Each asks the source, then the destination.
            partial(_planned, context),
            items,
            jobs=2 * context.settings.batch_jobs,
        )
    else:
        outcomes = each_item(context, _planned, items, "planning", executor)
    plans: list[CopyPlan] = []
    for outcome in outcomes:
        if isinstance(outcome.value, ResolverError):
            failures.append(Failure(outcome.item[0], (), outcome.value))
        else:
            plans.append(outcome.value)
    refusal = over_limit(plans, max_upload)
    if refusal is not None:
        raise refusal
    waiting = [at for at, plan in enumerate(plans) if not (dry_run or _is_done(plan))]
    sent = dict(_sent(context, plans, waiting, executor))
    copies: list[Copied] = []
    for at, plan in enumerate(plans):
        none_sent = tuple(CopiedTarget(target) for target in plan.targets)
        targets, failed = sent.get(at, (none_sent, ()))
        failures += failed
        if at not in sent or targets:
            copies.append(Copied(plan, targets, failed))
    return Synced(tuple(copies), tuple(failures), is_dry=dry_run)


def _is_done(plan: CopyPlan) -> bool:
    return all(target.done for target in plan.targets)


def _place(source: str, destinations: Iterable[str]) -> str:
    """Return what decides where a copy runs: a place of this machine, else the source."""
    for text in destinations:
        if not isinstance(parse_target(text), RegistryTarget):
            return text
    return source


def _planned(context: Context, item: _Item) -> CopyPlan:
    """Plan one copy, here or on a worker."""
    image, places = item[2], Destinations(context, hosts=context.push_hosts)
    return plan_copy(context, image.source, image.destinations, image.options, places)


def _carried_out(context: Context, item: _Group) -> tuple[_Sent, ...]:
    """Carry out plans one after another; one that fails does not end the others."""
    places = Destinations(context, hosts=context.push_hosts)
    found: list[_Sent] = []
    for plan in item[2]:
        try:
            done = execute(context, plan, CopySource(context, plan.source), places)
        except ResolverError as error:
            found.append(((), (Failure(plan.source, (), kept(error)),)))
        else:
            found.append((done.targets, done.failures))
    return tuple(found)


def _carried_out_by_worker(context: Context, item: _Group) -> tuple[_Sent, ...]:
    """Carry out plans, and take the secrets of this process out of the errors."""
    from resolver.verbs.fleet import cleaned  # noqa: PLC0415 - for executors

    found = _carried_out(context, item)
    for _targets, failed in found:
        for failure in failed:
            cleaned(failure.error, context.clean)
    return found


def _sent(
    context: Context, plans: Sequence[CopyPlan], waiting: Sequence[int], executor: Executor | None
) -> Iterator[tuple[int, _Sent]]:
    """Carry out the plans at some positions, and yield what each destination got."""
    if executor is None:
        for at in waiting:
            plan = plans[at]
            yield at, _carried_out(context, (plan.source, plan.source, (plan,)))[0]
        return
    groups = _groups(plans, waiting)
    items: list[_Group] = []
    for positions in groups:
        chosen = tuple(plans[at] for at in positions)
        local = [
            place
            for plan in chosen
            for place in [_place(plan.source, [target.name for target in plan.targets])]
            if not isinstance(parse_target(place), RegistryTarget)
        ]
        items.append((chosen[0].source, (local or [chosen[0].source])[0], chosen))
    outcomes = each_item(context, _carried_out_by_worker, items, "copying", executor)
    for positions, outcome in zip(groups, outcomes, strict=True):
        value = outcome.value
        if isinstance(value, ResolverError):
            for at in positions:
                yield at, ((), (Failure(plans[at].source, (), value),))
        else:
            yield from zip(positions, value, strict=True)


def _groups(plans: Sequence[CopyPlan], waiting: Sequence[int]) -> list[list[int]]:
    """Group plans that write to the same repositories, and those of this machine, which come last.

    Those of a group are carried out in the order of the file: of two copies to one tag, the last
    one holds, and lists of referrers under a fallback tag have one writer.
    """
    leader: dict[str, str] = {"": ""}

    def lead(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = key = leader[leader[key]]
        return key

    firsts: list[str] = []
    for at in waiting:
        plan = plans[at]
        keys = [_repository(target.name) for target in plan.targets]
        if not isinstance(parse_target(plan.source), RegistryTarget):
            keys.append("")
        firsts.append(keys[0])
        for key in keys[1:]:
            leader[lead(key)] = lead(keys[0])
    groups: dict[str, list[int]] = defaultdict(list)
    for at, first in zip(waiting, firsts, strict=True):
        groups[lead(first)].append(at)
    here = groups.pop(lead(""), None)
    return [*groups.values(), *([here] if here else [])]


def _repository(destination: str) -> str:
    """Name the repository of a destination; empty for a layout."""
    target = parse_target(destination)
    return target.reference.identity if isinstance(target, RegistryTarget) else ""


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
