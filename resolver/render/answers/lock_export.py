"""Lock files in the formats of other tools: a function and a row in `EXPORTS` for each.

Strings of YAML are written as JSON writes them, which YAML reads the same: nothing that stands in
a value from a lock file is always text there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from resolver.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.core.lockfile.entries import ExportedLockEntry

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
