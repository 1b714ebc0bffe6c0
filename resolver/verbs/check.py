"""Check images against requirements, with as few requests as possible.

The index lists the platforms, which takes one request. The manifest of an entry is read where a
rule about platforms depends on it, since an artifact can be listed as an image; for entries without
a platform, whose configs name one; and for age, attestations and lint.
"""

from __future__ import annotations

from dataclasses import field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from resolver.core.check.check import (
    Checkable,
    Checked,
    CheckedBuild,
    CheckedImage,
    counting,
    deciding,
    image_findings,
    like,
    own_level,
)
from resolver.core.lint.findings import Severity
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import oversize
from resolver.core.platforms.platform import UNKNOWN
from resolver.errors import Usage
from resolver.values import dataclass
from resolver.verbs.batch import look_at_all
from resolver.verbs.context import Opened, each_platform, one_or_many
from resolver.verbs.gather import Depth, gather, gather_platforms, named_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from resolver.core.attestations.signatures import TrustedSigner
    from resolver.core.check.check import Requirements
    from resolver.core.check.policy import Policy
    from resolver.core.lint.findings import Finding, FindingPlace
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.image import ImageDocuments, ImageEntry
    from resolver.core.oci.manifest import Attached
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.attestations import TrustOptions
    from resolver.core.results.events import Warned
    from resolver.core.results.matrix import Matrix
    from resolver.core.results.needs import ImageNeeds, Machine
    from resolver.verbs.context import Context, NamesLike, PlatformsLike
    from resolver.verbs.documents import DocumentReader, RootDocument


@dataclass(frozen=True, slots=True)
class Signers:
    """Keys and identities that were loaded, and what was pulled with the image, when offline."""

    trusts: Mapping[TrustOptions, TrustedSigner | None] = field(default_factory=dict)
    attached: tuple[Attached, ...] = ()


def look_at_image(  # noqa: PLR0913 - each of them decides what is read
    reader: DocumentReader,
    root: RootDocument,
    wanted: Requirements,
    table: PlatformTable,
    *,
    jobs: int,
    now: datetime,
    index_only: bool = False,
    signers: Signers = Signers(),  # noqa: B008 - frozen
) -> Checkable:
    """Read what the rules need from one image.

    `now` has a time zone. `index_only` trusts the index, and reads no manifest to learn what an
    entry is. `signers` saves loading keys for every image.
    """

    def decisive(found: ImageDocuments) -> list[ImageEntry]:
        images = found.images
        chosen = deciding([entry.platform for entry in images], wanted, table)
        return [images[position] for position in chosen]

    known = gather_platforms(
        reader, root, table, jobs=jobs, decisive=decisive, index_only=index_only
    ).sound()
    images = known.images
    chosen = counting([entry.platform for entry in images], wanted, table)
    counted = {str(images[position].descriptor.digest) for position in chosen}
    created: dict[str, str] = {}
    lies: tuple[Finding, ...] = ()
    if wanted.max_age:
        with_configs = _with_configs(reader, root, counted, jobs)
        created = {
            str(entry.descriptor.digest): entry.config.created
            for entry in with_configs.images
            if entry.config is not None
        }
        # Lint reports the same when it is requested.
        lies = _contradictions(with_configs, table) if wanted.lint is None else ()
    if wanted.lint is None:
        lies += _oversized(known, counted, table)
    top = known.root.digest
    covers_index = wanted.cover == "index"
    judged: dict[str, CheckedBuild] = {}
    if wanted.attestations:
        subjects = [top] if covers_index else list(map(Digest.parse, sorted(counted)))
        judged = _attested(reader, root, subjects, wanted, jobs, signers)
    builds = tuple(
        CheckedBuild(
            entry.platform,
            digest := str(entry.descriptor.digest),
            created.get(digest),
            judged[digest].attested if digest in judged else None,
            judged[digest].rejected if digest in judged else (),
        )
        for entry in images
    )
    covering = judged.get(str(top)) if covers_index else None
    return Checkable(known.reference, str(top), builds, wanted, table, now, lies, covering=covering)


def _attested(
    reader: DocumentReader,
    root: RootDocument,
    subjects: Sequence[Digest],
    wanted: Requirements,
    jobs: int,
    signers: Signers,
) -> dict[str, CheckedBuild]:
    """Judge the attestations of some manifests: kinds that hold, and why others do not."""
    from resolver.core.results.attestations import Coverage, State  # noqa: PLC0415 - as asked
    from resolver.verbs.attestations import AttestationSearch, load_trust  # noqa: PLC0415

    trust = signers.trusts.get(wanted.trust) or load_trust(wanted.trust)
    search = AttestationSearch(
        reader, root, jobs=jobs, trust=trust, kinds=wanted.attestations, attached=signers.attached
    )
    enough = {State.VERIFIED} if trust is not None else {State.PRESENT, State.VERIFIED}
    judged = {}
    for digest, found in search.find(subjects).items():
        row = Coverage(None, digest, is_index=False, attestations=found)
        kinds = {each.kind for each in found}
        held = frozenset(kind for kind in kinds if row.state(kind) in enough)
        rejected = []
        for kind in sorted(kinds - held):
            best = row.of(kind)[0]
            state = "not verified" if best.state is State.PRESENT else best.state.value
            rejected.append((kind, f"{state}: {best.reason}" if best.reason else state))
        judged[str(digest)] = CheckedBuild(None, str(digest), None, held, tuple(rejected))
    return judged


def platforms_of(
    reader: DocumentReader,
    root: RootDocument,
    table: PlatformTable,
    *,
    jobs: int,
    index_only: bool = False,
) -> tuple[Platform, ...]:
    """List the platforms that an image is offered for, each once, in index order.

    Manifests are read to leave artifacts out, unless `index_only` is set.
    """
    known = gather_platforms(
        reader, root, table, jobs=jobs, decisive=named_images, index_only=index_only
    ).sound()
    found = (entry.platform for entry in known.images)
    return tuple(
        dict.fromkeys(
            platform for platform in found if platform is not None and platform.os != UNKNOWN
        )
    )


def judge_image(
    image: Checkable, root: RootDocument, more: Iterable[Finding], warned: Iterable[Warned]
) -> CheckedImage:
    """Apply the rules; `more` are lint findings, which fail from the requested severity on."""
    own, further = image_findings(image), (*image.more, *more)
    left_out = frozenset(image.wanted.ignore)
    kept = tuple(finding for finding in own if finding.rule not in left_out)
    rest = tuple(finding for finding in further if finding.rule not in left_out)
    weight = image.wanted.lint or Severity.ERROR
    fails = any(not finding.severity < weight for finding in rest)
    fails = fails or any(finding.severity is Severity.ERROR for finding in kept)
    return CheckedImage(
        reference=image.reference,
        root=root.document.descriptor,
        pinned=f"{root.prefix}{image.digest}" if root.prefix else "",
        platforms=tuple(map(str, image.offered)),
        passed=not fails,
        findings=(*kept, *rest),
        ignored=len(own) + len(further) - len(kept) - len(rest),
        warnings=tuple(warned),
    )


def settle(
    wanted: Requirements, platforms_of_another: Callable[[str], tuple[Platform, ...]]
) -> Requirements:
    """Replace `same_as` by the platforms of the image it names."""
    if not wanted.same_as:
        return wanted
    return replace(like(wanted, platforms_of_another(wanted.same_as)), same_as="")


def _with_configs(
    reader: DocumentReader, root: RootDocument, counted: set[str], jobs: int
) -> ImageDocuments:
    def wanted(entry: Descriptor) -> bool:
        return str(entry.digest) in counted

    return gather(reader, root, Depth(), jobs=jobs, wanted=wanted).sound()


def _oversized(
    image: ImageDocuments, counted: set[str], table: PlatformTable
) -> tuple[Finding, ...]:
    """Find builds that cannot be pulled: the index lists manifests that are too large."""
    from resolver.core.lint.documents import UNREADABLE_DOCUMENT  # noqa: PLC0415 - as below
    from resolver.core.lint.subject import Subject  # noqa: PLC0415 - as below

    subject = Subject(image.reference, table, image.root, image.index, image.parts)
    return tuple(
        subject.finding(UNREADABLE_DOCUMENT, str(reason), entry)
        for entry in image.images
        if str(entry.descriptor.digest) in counted
        if (reason := oversize(entry.descriptor, image.reference)) is not None
    )


def _contradictions(image: ImageDocuments, table: PlatformTable) -> tuple[Finding, ...]:
    """Compare index and config where both are in the store anyway."""
    from resolver.core.lint.images import contradictory_configs  # noqa: PLC0415 - as needed
    from resolver.core.lint.subject import Subject  # noqa: PLC0415 - as above

    subject = Subject(image.reference, table, image.root, image.index, image.parts)
    return tuple(contradictory_configs(subject))


@dataclass(frozen=True, slots=True)
class _Subject:
    reference: str | Reference
    wanted: Requirements
    place: FindingPlace | None = None


def check(
    context: Context,
    references: NamesLike,
    wanted: Requirements,
    *,
    now: datetime | None = None,
    index_only: bool = False,
    executor: Executor | None = None,
) -> Checked:
    """Check that images meet their requirements; each missing thing is a finding."""
    subjects = [_Subject(reference, wanted) for reference in one_or_many(references)]
    return _check_all(context, subjects, now, index_only=index_only, executor=executor)


def check_policy(
    context: Context,
    policy: Policy | Path | str,
    references: NamesLike = (),
    *,
    now: datetime | None = None,
    index_only: bool = False,
    executor: Executor | None = None,
) -> Checked:
    """Check images against a policy; see `resolver.core.check.policy` for its form."""
    from resolver.core.check.policy import Policy as Read  # noqa: PLC0415 - for policies alone

    rules = policy if isinstance(policy, Read) else read_policy(context, policy)
    subjects = [_Subject(image.reference, image.wanted, image.place) for image in rules.images]
    subjects += [_Subject(reference, rules.defaults) for reference in one_or_many(references)]
    return _check_all(context, subjects, now, index_only=index_only, executor=executor)


def matrix(  # noqa: PLR0913 - one for each option of the verb
    context: Context,
    reference: str | Reference,
    platforms: PlatformsLike = (),
    *,
    system: str = "github",
    runners: Iterable[str] = (),
    require_runner: bool = False,
    index_only: bool = False,
) -> Matrix:
    """Make a job of every build of an image."""
    from resolver.core.results.matrix import (  # noqa: PLC0415 - for this question alone
        make_matrix,
        parse_runner,
        parts_of_jobs,
        system_of,
    )

    chosen = system_of(system)
    rules = [parse_runner(text, context.table) for text in runners]
    requests = [context.platform_request(text) for text in each_platform(platforms)]
    target = context.target(reference)
    reader, warned = context.reader(target)
    root = context.read_root(reader, target)

    def wanted(found: ImageDocuments) -> list[Platform]:
        offered = [entry.platform for entry in found.images]
        # Of the platforms of this machine the last: on macOS, what runs in its virtual machine.
        return [
            own_level(request.platforms[-1], offered, context.table)
            if request.local
            else request.platforms[-1]
            for request in requests
        ]

    image = gather_platforms(
        reader,
        root,
        context.table,
        jobs=context.settings.jobs,
        decisive=lambda found: parts_of_jobs(found, wanted(found), context.table),
        index_only=index_only,
    ).sound()
    reader.report_warnings()
    told = replace(image, warnings=tuple(warned))
    return make_matrix(
        told, wanted(image), chosen, rules, context.table, require_runner=require_runner
    )


def read_policy(
    context: Context,
    path: Path | str,
    over: Callable[[Requirements], Requirements] = lambda defaults: defaults,
) -> Policy:
    """Read a policy file, in YAML or JSON; `-` is standard input."""
    from resolver.core.check.policy import read_policy  # noqa: PLC0415 - for policies alone
    from resolver.files import yaml  # noqa: PLC0415 - loads YAML

    return read_policy(yaml.read(path), context.table, over, context.parse)


def read_nodes(context: Context, path: Path | str) -> tuple[Machine, ...]:
    """Read the nodes of a cluster from a file; `-` is standard input."""
    from resolver.core.check.nodes import MAX_NODES_FILE, parse_nodes  # noqa: PLC0415 - for clusters
    from resolver.files.yaml import read_content  # noqa: PLC0415 - likewise

    return parse_nodes(*read_content(path, MAX_NODES_FILE), context.table)


def _check_all(
    context: Context,
    subjects: Sequence[_Subject],
    now: datetime | None,
    *,
    index_only: bool,
    executor: Executor | None,
) -> Checked:
    names = []
    for subject in subjects:
        names.append(context.name(subject.reference))
        if subject.wanted.is_empty:
            raise Usage(
                f"`{subject.reference}` has no requirements",
                "add requirements: `--require linux/amd64,linux/arm64`",
            )
        if index_only:
            _require_index_only(subject.wanted)
        if subject.wanted.same_as:
            context.target(subject.wanted.same_as)
    trusts = _load_trusts([subject.wanted for subject in subjects])
    jobs = context.settings.jobs if len(subjects) == 1 else 1
    look = partial(_checked, now=now or _now(), jobs=jobs, trusts=trusts, index_only=index_only)
    items = [
        (name, subject.reference, subject) for name, subject in zip(names, subjects, strict=True)
    ]
    return Checked(look_at_all(context, look, items, "checking", executor))


def _checked(
    context: Context,
    item: tuple[str, str | Reference, _Subject],
    *,
    now: datetime,
    jobs: int,
    trusts: Mapping[TrustOptions, TrustedSigner | None],
    index_only: bool,
) -> CheckedImage:
    target, asked_for = context.target(item[1]), item[2]
    wanted = settle(
        asked_for.wanted, lambda name: _platforms_of(context, name, index_only=index_only)
    )
    reader, warned = context.reader(target)
    opened = Opened(target, reader, context.read_root(reader, target), warned)
    root = opened.root
    attached: tuple[Attached, ...] = ()
    if wanted.attestations and not reader.may_request:
        from resolver.verbs.attestations import attached_in_store  # noqa: PLC0415 - rarely needed

        attached = attached_in_store(context, opened)
    image = look_at_image(
        reader,
        root,
        wanted,
        context.table,
        jobs=jobs,
        now=now,
        index_only=index_only,
        signers=Signers(trusts, attached),
    )
    if wanted.needs_layers:
        opened = Opened(target, reader, root, warned)
        image = replace(image, runs=_runs(context, opened, image))
    more: tuple[Finding, ...] = ()
    if wanted.lint is not None:
        from resolver.verbs.lint import judge_entries, look_at  # noqa: PLC0415 - where it is asked for

        subject = look_at(
            reader, lambda: root, target, context.table, jobs=jobs, warn=warned.append
        )
        more = judge_entries(subject, (), ()).findings
    reader.report_warnings()
    found = judge_image(image, root, more, warned)
    placed = tuple(replace(each, place=asked_for.place) for each in found.findings)
    return replace(found, findings=placed)


def _runs(
    context: Context, opened: Opened, image: Checkable
) -> tuple[tuple[Machine, ImageNeeds | None], ...]:
    """Read what the programs need of the builds that are selected on the required machines."""
    from resolver.core.platforms.select import select  # noqa: PLC0415 - for this requirement alone
    from resolver.verbs.needs import gathered, needs_of  # noqa: PLC0415 - likewise

    machines = image.wanted.machines(image.offered)
    found = gathered(context, opened, [machine.platform for machine in machines])
    offered = [entry.platform for entry in found.images]
    chosen = [select(offered, machine.platform, table=context.table).index for machine in machines]
    positions = sorted({position for position in chosen if position is not None})
    entries = [found.images[position] for position in positions]
    needs = dict(zip(positions, needs_of(context, opened, entries), strict=True))
    return tuple(
        (machine, needs[position] if position is not None else None)
        for machine, position in zip(machines, chosen, strict=True)
    )


def _platforms_of(context: Context, reference: str, *, index_only: bool) -> tuple[Platform, ...]:
    """List the platforms of another image; what the store holds costs one HEAD."""
    target = context.target(reference)
    reader, _warned = context.reader(target)
    root = context.read_root(reader, target)
    found = platforms_of(reader, root, context.table, jobs=1, index_only=index_only)
    if not found:
        raise Usage(
            f"`{reference}` offers no platform to require",
            "name an image with platforms after `--same-platforms-as`",
        )
    return found


def _require_index_only(wanted: Requirements) -> None:
    needs = (
        ("max-age", wanted.max_age),
        ("require-attestation", wanted.attestations),
        ("lint", wanted.lint),
        ("runs-on", wanted.needs_layers),
    )
    for name, value in needs:
        if value:
            raise Usage(
                f"`{name}` needs manifests, which `--index-only` does not read",
                "leave out `--index-only`",
            )


def _load_trusts(wanted: Sequence[Requirements]) -> dict[TrustOptions, TrustedSigner | None]:
    """Load keys and identities, before any request.

    Raises:
        Usage: one is invalid, or no attestation is required.
    """
    trusted = dict.fromkeys(each.trust for each in wanted if not each.trust.is_empty)
    if not trusted:
        return {}
    if not any(each.attestations for each in wanted):
        raise Usage(
            "a key or an identity verifies attestations, and none is required",
            "add `--require-attestation signature`",
        )
    from resolver.verbs.attestations import load_trust  # noqa: PLC0415 - for signatures alone

    return {options: load_trust(options) for options in trusted}


def _now() -> datetime:
    return datetime.now(UTC)
