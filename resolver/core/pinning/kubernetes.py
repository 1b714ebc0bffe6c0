"""Finding image references in Kubernetes manifests: every key that says `image`, in any object.

Custom resources have no common schema, so the key decides: `image`, `imageName`, `containerImage`,
`baseImage` and the like are pinned wherever they stand. A name without a tag means `latest` in a
container only. The data of ConfigMaps and Secrets is never edited.
Source: Kubernetes API reference v1.31, PodSpec: containers, initContainers, ephemeralContainers;
Volume: image.reference (KEP-4639). Argo Workflows, Field Reference, "Template": container, script,
sidecars. Tekton Pipelines API, TaskSpec: steps, stepTemplate, sidecars. OLM,
ClusterServiceVersion: relatedImages, `RELATED_IMAGE_*`. OpenShift ImageStream and BuildConfig:
`from` of kind DockerImage. Prometheus Operator API, CommonPrometheusFields: image, baseImage, sha.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning import helm
from resolver.core.pinning.keys import means_other
from resolver.core.pinning.likeness import is_bare_image, is_image_key, likeness, values
from resolver.core.pinning.scalars import TEMPLATE, image, image_at
from resolver.core.pinning.spots import Passed, Stray
from resolver.core.pinning.tree import Mapping, Node, Scalar, Sequence, at, join, scalar_at, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Mark

#: Keys that hold containers, or a list of them: a name without a tag means `latest` there.
_CONTAINERS = frozenset((
    "container", "containers", "ephemeralContainers", "initContainers", "script", "sidecars",
    "stepTemplate", "steps",
))  # fmt: skip
#: Keys of objects that hold the values of a Helm chart.
#: Source: Flux HelmRelease `spec.values`; Argo CD Application `helm.valuesObject`.
_VALUES = frozenset({"values", "valuesInline", "valuesObject"})
_DATA = frozenset({"ConfigMap", "Secret"})
_TAGS = ("tag", "imageTag", "version")
_DIGESTS = ("digest", "imageDigest", "sha")
_NO_TAG = "its tag is not in this file"
_WRITE_TAG = "write `name:tag` if the resource allows it, or `# resolver: ignore` above it"
_STATUS = "the cluster writes the status of an object"


def fits(document: Node) -> bool:
    """Whether a document is an object of Kubernetes."""
    return isinstance(at(document, "apiVersion"), Scalar) and isinstance(
        at(document, "kind"), Scalar
    )


def find(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document, wherever they are."""
    waiting: list[tuple[Node, str, tuple[str, ...]]] = [(document, "", ())]
    seen: set[int] = set()
    while waiting:
        node, path, keys = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Sequence):
            waiting += [(item, f"{path}[{index}]", keys) for index, item in enumerate(node.items)]
            continue
        if not isinstance(node, Mapping):
            continue
        is_object = fits(node)
        if is_object and text_at(node, "kind") in _DATA:
            continue
        yield from _mapping(text, node, path, keys)
        for name, value in node.items():
            if is_object and name == "status":
                yield from _passed(value, _STATUS)
            elif name in _VALUES and isinstance(value, Mapping):
                yield from helm.find(text, value, join(path, name))
            else:
                waiting.append((value, join(path, name), (*keys, name)))


def _passed(node: Node, reason: str) -> Iterator[Passed]:
    """Pass over all that looks like an image below a node."""
    for scalar, keys, _path in values(node):
        key = keys[-1] if keys else ""
        if likeness(scalar.value, key) is not None or (key == "image" and is_bare_image(scalar)):
            yield Passed(scalar.start, reason)


def _mapping(text: str, node: Mapping, path: str, keys: tuple[str, ...]) -> Iterator[Mark]:
    key = keys[-1] if keys else ""
    yield from _named(text, node, path, keys)
    if is_image_key(key):
        yield from _parts(text, node, path)
    for name in dict.fromkeys(name for name, _ in node.items()):
        if not is_image_key(name):
            continue
        role = join(path, name)
        written = scalar_at(node, name)
        if written is None:
            mark = image_at(text, node, name, role)
            if mark is not None:
                yield mark
        elif _is_output(keys):
            yield Passed(written.start, "it names what is built")
        else:
            yield from _image(text, node, name, written, role, key)


def _is_output(keys: tuple[str, ...]) -> bool:
    """Whether an image is what a build makes. Source: Shipwright Build; skaffold.dev, artifacts."""
    return "output" in keys or keys[:2] == ("build", "artifacts")


def _image(  # noqa: PLR0911 - the parts of a place
    text: str, node: Mapping, name: str, written: Scalar, role: str, holder: str
) -> Iterator[Mark]:
    if means_other(written):
        return  # A switch or a number.
    if holder in _CONTAINERS and name == "image":
        yield image(text, written, role)
        return
    if TEMPLATE in written.value or "$" in written.value:
        yield image(text, written, role)
        return
    if likeness(written.value, name) is not None or "@" in written.value:
        yield image(text, written, role)
        return
    if not is_bare_image(written):
        if name == "image" and ":" in written.value and "://" not in written.value:
            yield image(text, written, role)
        return
    if name == "baseImage" and text_at(node, "image"):
        yield Passed(written.start, "`image` beside it comes first")
        return
    if any(text_at(node, each) for each in _DIGESTS):
        yield Passed(written.start, "its digest has a key of its own")
        return
    tag = next((each for each in _TAGS if text_at(node, each)), "")
    if name == "image" or tag or "/" in written.value:
        reason = f"its tag is in another key, `{tag}`" if tag else _NO_TAG
        yield Stray(written.start, written.value, role, reason, _WRITE_TAG)


def _parts(text: str, node: Mapping, path: str) -> Iterator[Mark]:
    """Read what is below a key `image`: a reference, or a name whose tag is elsewhere."""
    reference = scalar_at(node, "reference")
    if reference is not None:
        yield image(text, reference, join(path, "reference"))
    for name in ("repository", "name", "repo"):
        written, tag = scalar_at(node, name), scalar_at(node, "tag")
        if written is None:
            continue
        if any(text_at(node, each) for each in _DIGESTS):
            yield Passed(written.start, "its digest has a key of its own")
        elif tag is None and name != "name" and is_bare_image(written):
            yield Stray(written.start, written.value, join(path, name), _NO_TAG, _WRITE_TAG)


def _named(text: str, node: Mapping, path: str, keys: tuple[str, ...]) -> Iterator[Mark]:
    """Read names that another key says the kind of."""
    kind, written = text_at(node, "kind"), scalar_at(node, "name")
    if written is not None and kind == "DockerImage":
        if "to" in keys or _is_output(keys):
            yield Passed(written.start, "it names what is built")
        else:
            yield image(text, written, join(path, "name"))
    elif written is not None and kind.startswith("ImageStream"):
        yield Passed(written.start, "it names an image stream of the cluster")
    value = scalar_at(node, "value")
    if written is not None and value is not None and written.value.startswith("RELATED_IMAGE"):
        yield image(text, value, join(path, "value"))
