"""Finding image references in the pipelines of CI systems that have few places for them.

Source: learn.microsoft.com, "YAML schema reference for Azure Pipelines": resources.containers,
jobs.job.container, jobs.job.services, steps target; circleci.com/docs, "Configuration reference":
docker executor, machine; woodpecker-ci.org/docs and docs.drone.io: steps, services, clone;
support.atlassian.com, "Bitbucket Pipelines configuration reference": image, services, pipe;
cloud.google.com/build/docs, "Build configuration file schema": steps.name, images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.compose import build_inputs
from resolver.core.pinning.scalars import image, image_at, images_in, is_put_together
from resolver.core.pinning.spots import Passed, Stray
from resolver.core.pinning.tree import (
    Mapping,
    Node,
    Scalar,
    Sequence,
    at,
    elements,
    entries,
    join,
    scalar_at,
    text_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Mark

_MACHINE = "it names the image of a virtual machine"
_PIPE = "it names a version of a Bitbucket pipe, not an image"
_PIPE_SCHEME = "docker://"
_ALIAS = "it is neither a container of this file nor a name with a tag"


def azure(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in a pipeline of Azure, or in a template of one."""
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
    """Read a container of a job: a name of a resource, an image, or a mapping that has one."""
    if isinstance(value, Scalar) and value.is_text:
        if value.value in aliases or value.value == "host" or value.value.startswith("$["):
            return
        if not is_put_together(value.value) and not {*value.value} & {":", "/", "@"}:
            hint = "name a container of `resources.containers`, or write the tag"
            yield Stray(value.start, value.value, role, _ALIAS, hint)
            return
    yield from images_in(text, value, role)


def circleci(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in the configuration of CircleCI: jobs, executors, and orbs within."""
    for node, path in _mappings(document):
        for index, container in elements(node, "docker"):
            yield from images_in(text, container, join(path, f"docker[{index}]"))
        machine = scalar_at(node, "machine", "image")
        if machine is not None:
            yield Passed(machine.start, _MACHINE)


def steps(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in a pipeline of Woodpecker or Drone."""
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
    """Find the references in a pipeline of Bitbucket."""
    for node, path in _mappings(document):
        yield from images_in(text, at(node, "image"), join(path, "image"), "name")
        pipe = scalar_at(node, "pipe")
        if pipe is not None and pipe.value.startswith(_PIPE_SCHEME):
            yield image(text, pipe, join(path, "pipe"), scheme=_PIPE_SCHEME)
        elif pipe is not None:
            yield Passed(pipe.start, _PIPE)


def cloud_build(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in a build of Google Cloud: the names of steps are images."""
    for index, step in elements(document, "steps"):
        mark = image_at(text, step, "name", f"steps[{index}].name")
        if mark is not None:
            yield mark
    for _index, made in elements(document, "images"):
        if isinstance(made, Scalar):
            yield Passed(made.start, "it names what is built")


def is_azure(document: Node) -> bool:
    """Whether a document is a pipeline of Azure, for files of another name."""
    has_work = any(at(document, key) is not None for key in ("jobs", "stages", "steps", "extends"))
    has_pool = any(at(document, key) is not None for key in ("pool", "trigger", "resources"))
    is_other = any(at(document, key) is not None for key in ("apiVersion", "on", "image"))
    return has_work and has_pool and not is_other


def is_drone(document: Node) -> bool:
    """Whether a document is a pipeline of Drone, for files of another name."""
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
    """Give every mapping of a document, with its path."""
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
