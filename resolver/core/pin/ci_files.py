"""Find image references in CI pipelines and devcontainers; first GitLab: `image` and `services`.

Source: docs.gitlab.com, "CI/CD YAML syntax reference": `image`, `services`, `default`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.parse.yaml_tree import (
    Mapping,
    Node,
    Sequence,
    YamlScalar,
    at,
    elements,
    entries,
    join,
    scalar_at,
    text_at,
)
from resolver.core.pin.compose import build_inputs
from resolver.core.pin.edits import Passed, Stray, image, image_at, images_in, is_put_together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pin.edits import ImageSpot, Mark


#: Top-level keys that are not jobs.
_NO_JOBS = frozenset({"include", "services", "spec", "stages", "variables", "workflow", "image"})


def find_gitlab(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document."""
    yield from _holder(text, document, "")
    for name, job in entries(document):
        if name not in _NO_JOBS and isinstance(job, Mapping):
            yield from _holder(text, job, name)


def _holder(text: str, holder: Node, role: str) -> Iterator[Mark]:
    # `!reference` is neither a name nor a mapping with one.
    yield from images_in(text, at(holder, "image"), join(role, "image"), "name")
    for index, service in elements(holder, "services"):
        yield from images_in(text, service, join(role, f"services[{index}]"), "name")


_SCHEME = "docker://"
_MATRIX = re.compile(r"\$\{\{[ ]*matrix\.([A-Za-z_][A-Za-z0-9_-]*)[ ]*\}\}")
#: Inputs of build actions that name outputs.
#: Source: github.com/docker/build-push-action and metadata-action, "inputs".
_WRITTEN = frozenset({"images", "tags"})


def fits(document: Node) -> bool:
    """Whether a document is a workflow."""
    return isinstance(at(document, "jobs"), Mapping) and at(document, "on") is not None


def find_workflow(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document."""
    for name, job in entries(document, "jobs"):
        role = f"jobs.{name}"
        yield from _workflow_image(text, job, at(job, "container"), role, f"{role}.container")
        for service, value in entries(job, "services"):
            yield from _workflow_image(text, job, value, role, f"{role}.services.{service}")
        yield from _steps(text, job, role)
    runs = at(document, "runs")
    yield from _uses(text, at(runs, "image"), "runs.image")
    yield from _steps(text, runs, "runs")


def _steps(text: str, holder: Node | None, role: str) -> Iterator[Mark]:
    for index, step in elements(holder, "steps"):
        yield from _uses(text, at(step, "uses"), f"{role}.steps[{index}].uses")
        for name, value in entries(step, "with"):
            if name in _WRITTEN and isinstance(value, YamlScalar):
                yield Passed(value.start, "it names a build output")


def _workflow_image(
    text: str, job: Node, value: Node | None, path: str, role: str
) -> Iterator[Mark]:
    if isinstance(value, Mapping):
        value, role = at(value, "image"), f"{role}.image"
    if not isinstance(value, YamlScalar) or not value.is_text:
        return
    chosen = _MATRIX.fullmatch(value.value)
    named = _in_matrix(job, chosen[1], path) if chosen is not None else []
    if named:
        yield Passed(value.start, "the matrix names the images")
    else:
        named = [(value, role)]
    for scalar, where in named:
        # The scheme is optional.
        scheme = _SCHEME if scalar.value.startswith(_SCHEME) else ""
        yield _read(text, scalar, where, scheme)


def _in_matrix(job: Node, name: str, path: str) -> list[tuple[YamlScalar, str]]:
    """Return the values of a matrix variable; empty unless all are literals."""
    matrix = at(job, "strategy", "matrix")
    named: list[tuple[Node | None, str]] = [
        (value, f"{path}.strategy.matrix.{name}[{index}]")
        for index, value in elements(matrix, name)
    ]
    for index, more in elements(matrix, "include"):
        value = at(more, name)
        named += [(value, f"{path}.strategy.matrix.include[{index}].{name}")] if value else []
    found = [
        (value, where) for value, where in named if isinstance(value, YamlScalar) and value.is_text
    ]
    return found if len(found) == len(named) else []


def _uses(text: str, value: Node | None, role: str) -> Iterator[Mark]:
    if isinstance(value, YamlScalar) and value.value.startswith(_SCHEME):
        yield _read(text, value, role, _SCHEME)


def _read(text: str, value: YamlScalar, role: str, scheme: str) -> ImageSpot | Stray:
    if "${{" in value.value:
        reason = "it is an expression, which is evaluated when the workflow runs"
        hint = "write the reference literally, or pin it at its source"
        return Stray(value.start, value.value, role, reason, hint)
    return image(text, value, role, scheme=scheme)


_MACHINE = "it names the image of a virtual machine"
_PIPE = "it names a version of a Bitbucket pipe, not an image"
_PIPE_SCHEME = "docker://"
_ALIAS = "it is neither a container of this file nor a name with a tag"


def azure(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in an Azure pipeline or template."""
    aliases = set()
    for index, container in elements(document, "resources", "containers"):
        aliases.add(text_at(container, "container"))
        mark = image_at(text, container, "image", f"resources.containers[{index}].image")
        if mark is not None:
            yield mark
        alias = scalar_at(container, "container")
        if alias is not None:
            yield Passed(alias.start, "it is the name of a container of this file")
    for node, path in _mappings(document):
        if path.startswith("resources.containers["):
            continue
        machine = scalar_at(node, "pool", "image")
        if machine is not None:
            yield Passed(machine.start, _MACHINE)
        for value, role in (
            (at(node, "container"), join(path, "container")),
            *((held, join(path, f"services.{name}")) for name, held in entries(node, "services")),
            (at(node, "target", "container"), join(path, "target.container")),
        ):
            yield from _azure_container(text, value, role, aliases)


def _azure_container(text: str, value: Node | None, role: str, aliases: set[str]) -> Iterator[Mark]:
    """Read a job's container: the name of a resource, an image, or a mapping with one."""
    if isinstance(value, YamlScalar) and value.is_text:
        if value.value in aliases or value.value == "host" or value.value.startswith("$["):
            return
        if not is_put_together(value.value) and not {*value.value} & {":", "/", "@"}:
            hint = "name a container of `resources.containers`, or write the tag"
            yield Stray(value.start, value.value, role, _ALIAS, hint)
            return
    yield from images_in(text, value, role)


def circleci(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in a CircleCI configuration: jobs, executors, and inline orbs."""
    for node, path in _mappings(document):
        for index, container in elements(node, "docker"):
            yield from images_in(text, container, join(path, f"docker[{index}]"))
        machine = scalar_at(node, "machine", "image")
        if machine is not None:
            yield Passed(machine.start, _MACHINE)


def steps(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in a Woodpecker or Drone pipeline."""
    for holder in ("steps", "pipeline", "services", "clone"):
        held = at(document, holder)
        if isinstance(held, Mapping):
            each = [(f"{holder}.{name}", step) for name, step in held.items()]
        else:
            each = [(f"{holder}[{index}]", step) for index, step in elements(held)]
        for role, step in each:
            mark = image_at(text, step, "image", f"{role}.image")
            if mark is not None:
                yield mark


def bitbucket(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in a Bitbucket pipeline."""
    for node, path in _mappings(document):
        yield from images_in(text, at(node, "image"), join(path, "image"), "name")
        pipe = scalar_at(node, "pipe")
        if pipe is not None and pipe.value.startswith(_PIPE_SCHEME):
            yield image(text, pipe, join(path, "pipe"), scheme=_PIPE_SCHEME)
        elif pipe is not None:
            yield Passed(pipe.start, _PIPE)


def cloud_build(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in a Google Cloud build, where names of steps are images."""
    for index, step in elements(document, "steps"):
        mark = image_at(text, step, "name", f"steps[{index}].name")
        if mark is not None:
            yield mark
    for _index, made in elements(document, "images"):
        if isinstance(made, YamlScalar):
            yield Passed(made.start, "it names a build output")


def is_azure(document: Node) -> bool:
    """Whether a document is an Azure pipeline, for files with another name."""
    has_work = any(at(document, key) is not None for key in ("jobs", "stages", "steps", "extends"))
    has_pool = any(at(document, key) is not None for key in ("pool", "trigger", "resources"))
    is_other = any(at(document, key) is not None for key in ("apiVersion", "on", "image"))
    return has_work and has_pool and not is_other


def is_drone(document: Node) -> bool:
    """Whether a document is a Drone pipeline, for files with another name."""
    return text_at(document, "kind") == "pipeline" and isinstance(at(document, "steps"), Sequence)


def devcontainer(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in a `devcontainer.json`.

    Its features are OCI artifacts, and `devcontainer-lock.json` pins them.
    Source: containers.dev/implementors/json_reference: image, build.args, build.cacheFrom.
    """
    mark = image_at(text, document, "image", "image")
    if mark is not None:
        yield mark
    build = at(document, "build")
    if build is not None:
        yield from build_inputs(text, build, "build")


def _mappings(document: Node) -> Iterator[tuple[Mapping, str]]:
    waiting: list[tuple[Node, str]] = [(document, "")]
    seen: set[int] = set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Sequence):
            waiting += [(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
        elif isinstance(node, Mapping):
            yield node, path
            waiting += [(value, join(path, name)) for name, value in node.items()]
