"""Find image references in Kubernetes manifests, Helm values and kustomizations.

Custom resources have no common schema, so the key decides: `image`, `imageName`, `containerImage`,
`baseImage` and similar keys are pinned in any object. A name without a tag means `latest` only in
a container. The data of ConfigMaps and Secrets is never edited.
Source: Kubernetes API reference v1.31, PodSpec: containers, initContainers, ephemeralContainers;
Volume: image.reference (KEP-4639). Argo Workflows, Field Reference, "Template": container, script,
sidecars. Tekton Pipelines API, TaskSpec: steps, stepTemplate, sidecars. OLM,
ClusterServiceVersion: relatedImages, `RELATED_IMAGE_*`. OpenShift ImageStream and BuildConfig:
`from` of kind DockerImage. Prometheus Operator API, CommonPrometheusFields: image, baseImage, sha.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.parse.yaml_tree import (
    Mapping,
    Node,
    Sequence,
    YamlScalar,
    at,
    elements,
    join,
    scalar_at,
    text_at,
)
from resolver.core.pin.edits import (
    NOT_TEXT,
    TEMPLATE,
    Passed,
    Slot,
    Stray,
    composed,
    image,
    image_at,
    is_own,
    line_cut,
    means_other,
    new_slot,
    pair_of,
    span_of,
    value_slot,
)
from resolver.core.pin.likeness import is_bare_image, is_image_key, likeness, values
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pin.edits import Mark


#: A key whose texts with a tag are images.
_MANY = "images"
_NO_HELM_TAG = "its tag is not in this file"
_WRITE_HELM_TAG = "write the tag, if the chart does not append one"
#: Keys of an image's name in a mapping below `image`.
_NAMES = ("repository", "name", "repo", "image")
#: The last word of a key of a name: `imageName`, `image_repository`.
_NAME_END = re.compile(r"_?(?:[Nn]ame|[Rr]epository|[Rr]epo)")
_IMAGE_END = re.compile(r"(.*?)_?[Ii]mage")


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a mapping with the parts of one reference."""

    name: str
    tag: str
    digest: str = "digest"
    registry: str = "registry"


def find_helm_values(text: str, document: Node, path: str = "") -> Iterator[Mark]:
    """Find the references in one document, wherever they are."""
    waiting: list[tuple[Node, str, str]] = [(document, path, "")]
    seen: set[int] = set()
    while waiting:
        node, path, key = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if key == _MANY:
            yield from _listed(text, node, path)
        if isinstance(node, Sequence):
            waiting += [(item, f"{path}[{index}]", key) for index, item in enumerate(node.items)]
        elif isinstance(node, Mapping):
            yield from _helm_mapping(text, node, path, key)
            waiting += [(value, join(path, name), name) for name, value in node.items()]


def _listed(text: str, node: Node, path: str) -> Iterator[Mark]:
    held: list[tuple[Node, str]] = []
    if isinstance(node, Sequence):
        held = [(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
    elif isinstance(node, Mapping):
        held = [(value, join(path, name)) for name, value in node.items() if not is_image_key(name)]
    for value, role in held:
        if isinstance(value, YamlScalar) and (
            likeness(value.value, "image") is not None or "@sha256:" in value.value
        ):
            yield image(text, value, role)


def _helm_mapping(text: str, node: Mapping, path: str, key: str) -> Iterator[Mark]:
    if text_at(node, "repository") and (at(node, "tag") or at(node, "digest")):
        yield from _composed(text, node, path, _Keys("repository", "tag"))
        return
    if is_image_key(key) or key == _MANY:
        name = next((each for each in _NAMES if text_at(node, each)), None)
        if name is not None and (at(node, "tag") or at(node, "digest")):
            yield from _composed(text, node, path, _Keys(name, "tag"))
            return
        if name in {"repository", "repo", "name"}:
            is_sure = name != "name" or key == "image"
            yield from _whole(text, node, name, join(path, name), is_sure=is_sure)
    for name in dict.fromkeys(name for name, _ in node.items()):
        if is_image_key(name) or _is_repository(name):
            yield from _flat(text, node, name, path)


def _is_repository(key: str) -> bool:
    """Whether a key is like `imageRepository` or `sidecar_image_repo`."""
    end = _NAME_END.search(key)
    return end is not None and end.end() == len(key) and is_image_key(key[: end.start()])


def _flat(text: str, node: Mapping, key: str, path: str) -> Iterator[Mark]:
    """Read an image whose tag may have a separate key."""
    written = scalar_at(node, key)
    if written is None or means_other(written):
        return  # A boolean or a number is not an image.
    role = join(path, key)
    if likeness(written.value, "image") is None and "@" not in written.value:
        keys = _beside(node, key)
        if keys is not None:
            yield from _composed(text, node, path if key == "image" else role, keys)
            return
    yield from _whole(text, node, key, role, is_sure=key == "image")


def _beside(node: Mapping, key: str) -> _Keys | None:
    """Find the keys of tag, digest and registry that belong to the key of a name."""
    base = _NAME_END.sub("", key) if _is_repository(key) else key
    match = _IMAGE_END.fullmatch(base)
    stems = [base, *([match[1]] if match is not None and match[1] else [])]

    def first(word: str, fallback: str) -> str:
        names = [
            name
            for stem in stems
            for name in (f"{stem}{word.capitalize()}", f"{stem}_{word}", f"{stem}-{word}")
        ]
        return next((n for n in names if isinstance(at(node, n), YamlScalar)), fallback)

    # Istio's charts use `hub` for the registry with a path.
    registry = "registry" if text_at(node, "registry") else "hub"
    tag = first("tag", "tag")
    if not isinstance(at(node, tag), YamlScalar):
        return None
    return _Keys(key, tag, first("digest", "digest"), first("registry", registry))


def _whole(text: str, node: Mapping, key: str, role: str, *, is_sure: bool) -> Iterator[Mark]:
    written = scalar_at(node, key)
    if written is None or ("://" in written.value and not is_sure):
        return
    value = written.value
    is_put_together = TEMPLATE in value or "$" in value
    has_tag = likeness(value, "image") is not None or "@" in value
    if not is_sure and not has_tag and not is_put_together and "/" not in value:
        return
    if not is_sure and not has_tag and not is_put_together and not is_bare_image(written):
        return
    if "://" in value or value.startswith(("/", ".")):
        return  # A location of charts, sources or a file.
    mark = image(text, written, role)
    if isinstance(mark, Stray) or mark.reference.tag or mark.reference.digest:
        yield mark
    else:
        # A chart may append a tag.
        yield Stray(mark.start, value, mark.role, _NO_HELM_TAG, _WRITE_HELM_TAG)


def _composed(text: str, node: Mapping, path: str, keys: _Keys) -> Iterator[Mark]:
    name, registry = text_at(node, keys.name), text_at(node, keys.registry)
    tag, digest = at(node, keys.tag), text_at(node, keys.digest)
    if "://" in name or "@" in name or name.startswith(("/", ".")):
        return  # A location of charts or sources.
    named = scalar_at(node, keys.name)
    if named is not None:
        yield Passed(named.start, "its tag has a separate key")
    words = f"{registry.rstrip('/')}/{name}" if registry else name
    place = tag if isinstance(tag, YamlScalar) else node
    if isinstance(tag, YamlScalar) and tag.is_text:
        words += f":{tag.value}"
        if means_other(tag):
            yield Stray(place.start, words, path, *NOT_TEXT)
            return
    elif not digest:
        hint = f"write the tag, or pin it in the chart: `{join(path, keys.tag)}`"
        yield Stray(place.start, words, path, _NO_HELM_TAG, hint)
        return
    words += f"@{digest}" if digest else ""
    held = pair_of(node, keys.digest)
    if held is not None:
        slot = value_slot(text, *held)
    else:
        # A merged digest does not belong to this image.
        slot = _behind(text, tag) if isinstance(tag, YamlScalar) and not digest else None
    yield composed(text, place, words, path, slot)


def _behind(text: str, tag: YamlScalar) -> Slot | None:
    span = span_of(text, tag)
    if span is None:
        return None
    at_sign = text.find("@", *span)
    if at_sign == -1:
        return Slot(span[1], span[1])
    # Without the digest, the rest might be read as a number.
    bare = means_other(tag, text[span[0] : at_sign])
    return Slot(at_sign, span[1], cut=None if bare else (at_sign, span[1]))


#: Keys of containers, where a name without a tag means `latest`.
_CONTAINERS = frozenset((
    "container", "containers", "ephemeralContainers", "initContainers", "script", "sidecars",
    "stepTemplate", "steps",
))  # fmt: skip
#: Keys of the values of a Helm chart in objects.
#: Source: Flux HelmRelease `spec.values`; Argo CD Application `valuesObject`.
_VALUES = frozenset({"values", "valuesInline", "valuesObject"})
_DATA = frozenset({"ConfigMap", "Secret"})
_TAGS = ("tag", "imageTag", "version")
_DIGESTS = ("digest", "imageDigest", "sha")
_NO_TAG = "its tag is not in this file"
_WRITE_TAG = "write `name:tag` if the resource allows it, or `# resolver: ignore` above it"
_STATUS = "the cluster writes the status of an object"


def is_kubernetes(document: Node) -> bool:
    """Whether a document is a Kubernetes object."""
    return isinstance(at(document, "apiVersion"), YamlScalar) and isinstance(
        at(document, "kind"), YamlScalar
    )


def find_kubernetes(text: str, document: Node) -> Iterator[Mark]:
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
        is_object = is_kubernetes(node)
        if is_object and text_at(node, "kind") in _DATA:
            continue
        yield from _mapping(text, node, path, keys)
        for name, value in node.items():
            if is_object and name == "status":
                yield from _passed(value, _STATUS)
            elif name in _VALUES and isinstance(value, Mapping):
                yield from find_helm_values(text, value, join(path, name))
            else:
                waiting.append((value, join(path, name), (*keys, name)))


def _passed(node: Node, reason: str) -> Iterator[Passed]:
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
            yield Passed(written.start, "it names a build output")
        else:
            yield from _image(text, node, name, written, role, key)


def _is_output(keys: tuple[str, ...]) -> bool:
    """Whether an image is a build output. Source: Shipwright Build; skaffold.dev, artifacts."""
    return "output" in keys or keys[:2] == ("build", "artifacts")


def _image(  # noqa: PLR0911 - the parts of a place
    text: str, node: Mapping, name: str, written: YamlScalar, role: str, holder: str
) -> Iterator[Mark]:
    if means_other(written):
        return  # A boolean or a number.
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
    if any(text_at(node, digest) for digest in _DIGESTS):
        yield Passed(written.start, "its digest has a separate key")
        return
    tag = next((value for value in _TAGS if text_at(node, value)), "")
    if name == "image" or tag or "/" in written.value:
        reason = f"its tag is in another key, `{tag}`" if tag else _NO_TAG
        yield Stray(written.start, written.value, role, reason, _WRITE_TAG)


def _parts(text: str, node: Mapping, path: str) -> Iterator[Mark]:
    """Read the mapping below a key `image`: a reference, or a name with a separate tag."""
    reference = scalar_at(node, "reference")
    if reference is not None:
        yield image(text, reference, join(path, "reference"))
    for name in ("repository", "name", "repo"):
        written, tag = scalar_at(node, name), scalar_at(node, "tag")
        if written is None:
            continue
        if any(text_at(node, digest) for digest in _DIGESTS):
            yield Passed(written.start, "its digest has a separate key")
        elif tag is None and name != "name" and is_bare_image(written):
            yield Stray(written.start, written.value, join(path, name), _NO_TAG, _WRITE_TAG)


def _named(text: str, node: Mapping, path: str, keys: tuple[str, ...]) -> Iterator[Mark]:
    kind, written = text_at(node, "kind"), scalar_at(node, "name")
    if written is not None and kind == "DockerImage":
        if "to" in keys or _is_output(keys):
            yield Passed(written.start, "it names a build output")
        else:
            yield image(text, written, join(path, "name"))
    elif written is not None and kind.startswith("ImageStream"):
        yield Passed(written.start, "it names an image stream of the cluster")
    value = scalar_at(node, "value")
    if written is not None and value is not None and written.value.startswith("RELATED_IMAGE"):
        yield image(text, value, join(path, "value"))


def is_kustomization(document: Node) -> bool:
    """Whether a document is a kustomization, or a component of one."""
    return text_at(document, "kind") in {"Kustomization", "Component"} and text_at(
        document, "apiVersion"
    ).startswith("kustomize.config.k8s.io/")


def find_kustomization(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document."""
    for index, entry in elements(document, "images"):
        if isinstance(entry, Mapping):
            yield from _entry(text, entry, f"images[{index}]")
    for index, chart in elements(document, "helmCharts"):
        values = at(chart, "valuesInline")
        if values is not None:
            yield from find_helm_values(text, values, f"helmCharts[{index}].valuesInline")


def _entry(text: str, entry: Mapping, role: str) -> Iterator[Mark]:
    tag, digest = text_at(entry, "newTag"), text_at(entry, "digest")
    name = text_at(entry, "newName") or text_at(entry, "name")
    if not name or not (tag or digest):
        return  # The tag is in the manifests.
    words = (f"{name}:{tag}" if tag else name) + (f"@{digest}" if digest else "")
    held = scalar_at(entry, "newTag")
    if held is not None and means_other(held):
        yield Stray(held.start, words, role, *NOT_TEXT)
        return
    slot = _slot(text, entry)
    yield composed(text, _last(text, entry), words, role, slot)


def _slot(text: str, entry: Mapping) -> Slot | None:
    held = pair_of(entry, "digest")
    if held is None:
        if at(entry, "digest") is not None:
            return None
        after = pair_of(entry, "newTag") or pair_of(entry, "newName") or pair_of(entry, "name")
        return new_slot(text, entry, *after) if after is not None else None
    slot = value_slot(text, *held)
    if slot is None or held[1].style:
        return slot  # Existing quotes, perhaps empty ones, are kept.
    return replace(slot, cut=line_cut(text, entry, *held))


def _last(text: str, entry: Mapping) -> YamlScalar | Mapping:
    for key in ("newTag", "newName", "name"):
        held = pair_of(entry, key)
        if held is not None and is_own(text, *held):
            return held[1]
    return entry
