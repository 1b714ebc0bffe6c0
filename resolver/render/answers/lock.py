"""Lock files: what was locked, what has changed since, and exports in the formats of other tools.

`EXPORTS` has a function and a row for each format. Strings of YAML are written as JSON writes them,
which YAML reads the same: nothing that stands in a value from a lock file is always text there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.lockfile.drift import LockCheck, LockDrift
from resolver.core.lockfile.lock import Locked
from resolver.core.results.resolve import Failure
from resolver.errors import Usage
from resolver.render.report import Report, ReportTable, short
from resolver.render.text import escape
from resolver.render.to_dict import failure, platform, warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.core.lint.findings import Finding
    from resolver.core.lockfile.drift import PlatformPair
    from resolver.core.lockfile.entries import ExportedLockEntry
    from resolver.core.lockfile.lock import LockedImage
    from resolver.core.oci.digest import Digest
    from resolver.render.to_dict import Plain


_NOTHING = "-"


def report(answer: object, *, explain: bool = False, full: bool = False) -> Report:
    """Turn an answer about a lock file into a report."""
    del explain  # there is nothing more to say
    match answer:
        case Locked():
            return _locked(answer, full=full)
        case LockCheck():
            return _check(answer, full=full)
        case _:
            raise AssertionError(f"no report for {type(answer).__name__}")


def _locked(answer: Locked, *, full: bool) -> Report:
    facts = [("lock", answer.path), ("holds", _count(len(answer.lock.images)))]
    if not answer.written:
        facts.append(("written", "no: a reference could not be resolved"))
    rows = tuple(
        (
            one.change,
            one.image.written,
            short(one.image.digest, full=full),
            str(len(one.image.platforms)),
        )
        for one in answer.changes
    )
    columns = ("change", "reference", "digest", "platforms")
    table = ReportTable(
        "references",
        columns,
        rows,
        frozenset({"platforms"}),
        frozenset({"change", "digest", "platforms"}),
        frozenset({"reference"}),
    )
    return Report(answer.path, tuple(facts), (table,))


def _check(answer: LockCheck, *, full: bool) -> Report:
    same = sum(isinstance(one, LockDrift) and not one.drifted for one in answer.images)
    facts = [("lock", answer.path), ("same", f"{same} of {_count(len(answer.images))}")]
    if answer.wanted:
        facts.append(("platform", ", ".join(answer.wanted)))
    rows = tuple(_state_row(one) for one in answer.images)
    tail = frozenset({"reference"})
    kept = frozenset({"state"})
    tables = [ReportTable("references", ("state", "reference"), rows, whole=kept, tail=tail)]
    moved = tuple(
        row
        for one in answer.images
        if isinstance(one, LockDrift) and one.findings
        for row in _moved(one, full=full)
    )
    if moved:
        columns = ("reference", "platform", "locked", "now")
        kept = frozenset({"platform", "locked", "now"})
        tables.append(ReportTable("moved", columns, moved, whole=kept, tail=tail))
    return Report(answer.path, tuple(facts), tuple(tables))


def _state_row(one: LockDrift | Failure) -> tuple[str, str]:
    if isinstance(one, Failure):
        return f"error: {getattr(one.error, 'code', 'error')}", one.reference
    return one.state, one.image.written


def _moved(drift: LockDrift, *, full: bool) -> Iterator[tuple[str, ...]]:
    written = drift.image.written
    now = _digest(drift.current, full=full) if drift.current is not None else "gone"
    kind = "(index)" if drift.image.is_index else "(image)"
    yield written, kind, _digest(drift.image.digest, full=full), now
    if drift.image.is_index or len(drift.platforms) > 1:
        for pair in drift.platforms:
            yield written, pair.platform, *_sides(pair, full=full)


def _sides(pair: PlatformPair, *, full: bool) -> tuple[str, str]:
    before, after = pair.before, pair.after
    locked = _digest(before.digest, full=full) if before is not None else _NOTHING
    if after is None:
        return locked, "removed"
    if before is not None and before.digest == after.digest:
        return locked, "same"
    return locked, _digest(after.digest, full=full)


def _digest(digest: Digest, *, full: bool) -> str:
    return short(digest, full=full)


def _count(number: int) -> str:
    return "1 reference" if number == 1 else f"{number} references"


def plain(answer: object) -> Plain:
    """Turn an answer about a lock file into plain values."""
    match answer:
        case Locked():
            return _lock_values(answer)
        case LockCheck():
            return _lock_check_values(answer)
        case _:
            raise AssertionError(f"no plain form of {type(answer).__name__}")


def pairs(answer: object) -> list[tuple[str, str]] | None:
    """Return the digest and pinned reference of each image; for a check, as locked."""
    match answer:
        case Locked():
            images = [one.image for one in answer.changes]
        case LockCheck():
            images = [one.image for one in answer.images if isinstance(one, LockDrift)]
        case _:
            return None
    return [(str(image.digest), image.pinned) for image in images]


def _lock_values(answer: Locked) -> Plain:
    return {
        "file": answer.path,
        "written": answer.written,
        "references": len(answer.lock.images),
        "changes": [{"change": one.change, **_image(one.image)} for one in answer.changes],
        "failures": [_failure(one) for one in answer.failures],
        "warnings": warnings(answer.warnings),
    }


def _image(image: LockedImage) -> Plain:
    return {
        "reference": image.reference,
        "written": image.written,
        "digest": str(image.digest),
        "mediaType": image.media_type or None,
        "size": image.size,
        "pinned": image.pinned,
        "only": list(image.only),
        "platforms": [
            {
                "name": one.key,
                "platform": platform(one.platform),
                "digest": str(one.digest),
                "mediaType": one.media_type or None,
                "size": one.size,
            }
            for one in image.platforms
        ],
    }


def _lock_check_values(answer: LockCheck) -> Plain:
    return {
        "file": answer.path,
        "wanted": list(answer.wanted),
        "drifted": answer.drifted,
        "references": [
            _failure(one) if isinstance(one, Failure) else _drift(one) for one in answer.images
        ],
        "findings": [_finding(one) for one in answer.findings],
        "warnings": warnings(answer.warnings),
    }


def _drift(drift: LockDrift) -> Plain:
    return {
        "reference": drift.image.reference,
        "state": drift.state,
        "drifted": drift.drifted,
        "locked": str(drift.image.digest),
        "current": str(drift.current) if drift.current is not None else None,
        "platforms": [
            {
                "name": pair.platform,
                "locked": str(pair.before.digest) if pair.before is not None else None,
                "current": str(pair.after.digest) if pair.after is not None else None,
            }
            for pair in drift.platforms
        ],
    }


def _failure(one: Failure) -> Plain:
    return {"reference": one.reference, **failure(one.error)}


def _finding(finding: Finding) -> Plain:
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "message": escape(finding.message),
        "subject": finding.subject,
        "platform": finding.platform or None,
        "digest": finding.digest or None,
        "hint": finding.hint or None,
    }


_HEADER = "# Written by `resolver lock export`; write it again instead of changing it.\n"

#: Platforms that rules_oci supports. Source: rules_oci v2, oci/pull.bzl,
#: `_PLATFORM_TO_BAZEL_CPU`.
_BAZEL = frozenset(
    {
        "linux/amd64",
        "linux/arm64",
        "linux/arm64/v8",
        "linux/arm/v7",
        "linux/ppc64le",
        "linux/s390x",
        "linux/386",
        "linux/mips64le",
    }
)

#: Field names that need no quotes. Others may be words like `on`, a boolean in YAML.
_OURS = frozenset(
    {
        "annotations",
        "apiVersion",
        "digest",
        "image",
        "images",
        "kind",
        "minimumRequiredVersion",
        "name",
        "newImage",
        "newName",
        "overrides",
        "preresolved",
        "registry",
        "repository",
        "services",
        "tag",
        "x-images",
    }
)

Value = str | bool | list["Value"] | dict[str, "Value"]


def kbld(entries: Sequence[ExportedLockEntry]) -> str:
    """Write overrides for kbld: `kbld -f app.yaml -f FILE`.

    Source: carvel.dev, kbld "Resolving images", `--lock-output`, and "Config", `overrides`.
    """
    overrides: list[Value] = [
        {"image": entry.written, "newImage": entry.hub_pinned, "preresolved": True}
        for entry in entries
    ]
    return _document(
        {
            "apiVersion": "kbld.k14s.io/v1alpha1",
            "kind": "Config",
            "minimumRequiredVersion": "0.17.0",
            "overrides": overrides,
        }
    )


def imgpkg(entries: Sequence[ExportedLockEntry]) -> str:
    """Write an `ImagesLock` for a bundle: `.imgpkg/images.yml`.

    Source: carvel.dev, imgpkg "Resources", `ImagesLock`; the annotation is how kbld finds its
    image again, see its "Resolving images", `--imgpkg-lock-output`.
    """
    images: list[Value] = [
        {"image": entry.hub_pinned, "annotations": {"kbld.carvel.dev/id": entry.written}}
        for entry in entries
    ]
    return _document(
        {"apiVersion": "imgpkg.carvel.dev/v1alpha1", "kind": "ImagesLock", "images": images}
    )


def kustomize(entries: Sequence[ExportedLockEntry]) -> str:
    """Write a component to list under `components:`; its `images` set digests.

    Kustomize identifies an image by name, so it cannot pin two tags of one.

    Source: kubectl.docs.kubernetes.io, "kustomization", `images` and `components`.
    """
    images: dict[str, Value] = {}
    first: dict[str, str] = {}
    for entry in entries:
        name = entry.bare_written
        if name in images:
            raise Usage(
                f"`{first[name]}` and `{entry.written}` have the same name, and kustomize "
                "identifies images by name",
                "keep them in two lock files, or remove one with `resolver lock --remove`",
            )
        first[name] = entry.written
        images[name] = {
            "name": name,
            "newName": entry.reference.identity,
            "digest": str(entry.digest),
        }
    return _document(
        {
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "images": list(images.values()),
        }
    )


def compose(entries: Sequence[ExportedLockEntry]) -> str:
    """Write an override file: `docker compose -f compose.yaml -f FILE up`.

    The services are those of the given compose file. Without one, `x-images`, which compose
    ignores, maps each reference to its pinned form.

    Source: compose-spec, 13-merge.md and 11-extension.md.
    """
    if any(entry.services for entry in entries):
        services: dict[str, Value] = {
            service: {"image": _tagged(entry)} for entry in entries for service in entry.services
        }
        return _document({"services": dict(sorted(services.items()))})
    return _document({"x-images": {entry.written: _tagged(entry) for entry in entries}})


def helm(entries: Sequence[ExportedLockEntry]) -> str:
    """Write values: an image each under `images`, with the four fields that charts use.

    What a chart calls its images only the chart knows: include one with YAML's own means, or copy
    it to where it belongs.

    Source: bitnami/charts, common/templates/_images.tpl (`registry`, `repository`, `tag`,
    `digest`).
    """
    images: dict[str, Value] = {}
    for entry in entries:
        image: dict[str, Value] = {
            "registry": entry.reference.registry,
            "repository": entry.reference.repository,
        }
        if entry.tag:
            image["tag"] = entry.tag
        image["digest"] = str(entry.digest)
        images[entry.name] = image
    return _document({"images": images})


def bazel(entries: Sequence[ExportedLockEntry]) -> str:
    """Write statements for `MODULE.bazel`, for rules_oci.

    Source: rules_oci v2, oci/pull.bzl, "Typical usage in MODULE.bazel": platforms are spelled as
    the index spells them, and each is a repository of its own.
    """
    lines = ['oci = use_extension("@rules_oci//oci:extensions.bzl", "oci")']
    repositories: list[str] = []
    for entry in entries:
        platforms = [item for item in entry.platforms if item in _BAZEL]
        if entry.platforms and not platforms:
            lines += ["", f"# {entry.name}: rules_oci knows none of its platforms."]
            continue
        lines += ["", *_pull(entry, platforms)]
        repositories.append(entry.name)
        repositories += ["_".join((entry.name, *item.split("/"))) for item in platforms]
    if repositories:
        lines += ["", "use_repo(", "    oci,"]
        lines += [f"    {json.dumps(name)}," for name in repositories]
        lines.append(")")
    return _HEADER + "\n".join(lines) + "\n"


def _pull(entry: ExportedLockEntry, platforms: Sequence[str]) -> Iterator[str]:
    """Write one statement; ASCII strings of JSON are valid in Starlark."""
    yield "oci.pull("
    yield f"    name = {json.dumps(entry.name)},"
    yield f"    digest = {json.dumps(str(entry.digest))},"
    yield f"    image = {json.dumps(entry.hub_identity)},"
    if platforms:
        yield "    platforms = ["
        for platform in platforms:
            yield f"        {json.dumps(platform)},"
        yield "    ],"
    yield ")"


def env(entries: Sequence[ExportedLockEntry]) -> str:
    """Write variables for shells, `--env-file` and GitLab's dotenv reports.

    References need no quotes in any of them.
    """
    lines = [
        line
        for entry in entries
        for line in (
            f"{entry.name.upper()}_IMAGE={entry.pinned}",
            f"{entry.name.upper()}_DIGEST={entry.digest}",
        )
    ]
    return "".join(f"{line}\n" for line in lines)


class Export(NamedTuple):
    """A format: its function, and the tool that reads it."""

    write: Callable[[Sequence[ExportedLockEntry]], str]
    tool: str


#: Every format of `lock export`. To add one, write its function and add a row.
EXPORTS = {
    "kbld": Export(kbld, "kbld"),
    "imgpkg": Export(imgpkg, "imgpkg"),
    "kustomize": Export(kustomize, "kustomize"),
    "compose": Export(compose, "Docker Compose"),
    "bazel": Export(bazel, "Bazel, rules_oci"),
    "helm": Export(helm, "Helm"),
    "env": Export(env, "a shell"),
}


def export(entries: Sequence[ExportedLockEntry], form: str) -> str:
    """Write entries in a format."""
    row = EXPORTS.get(form)
    if row is None:
        listing = ", ".join(EXPORTS)
        raise Usage(f"`lock export` does not support `--format {form}`", f"choose one of {listing}")
    return row.write(entries)


def _tagged(entry: ExportedLockEntry) -> str:
    """Return the name with its tag, for readers, and the digest."""
    tag = f":{entry.tag}" if entry.tag else ""
    return f"{entry.reference.identity}{tag}@{entry.digest}"


def _document(value: dict[str, Value]) -> str:
    return f"{_HEADER}---\n" + "".join(f"{line}\n" for line in _mapping(value))


def _mapping(value: dict[str, Value]) -> Iterator[str]:
    for key, inner in value.items():
        name = key if key in _OURS else json.dumps(key)
        match inner:
            case dict() if inner:
                yield f"{name}:"
                yield from (f"  {line}" for line in _mapping(inner))
            case list() if inner:
                yield f"{name}:"
                yield from (f"  {line}" for item in inner for line in _item(item))
            case _:
                yield f"{name}: {json.dumps(inner)}"


def _item(value: Value) -> Iterator[str]:
    """Write one item of a list; a mapping begins on the line of its dash."""
    lines = list(_mapping(value)) if isinstance(value, dict) else [json.dumps(value)]
    yield f"- {lines[0]}"
    yield from (f"  {line}" for line in lines[1:])
