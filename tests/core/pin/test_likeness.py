"""Recognition of text that looks like an image reference."""

from __future__ import annotations

import json

import pytest
import yaml

from resolver.core.oci.reference import Reference
from resolver.core.pin.edits import LineIndex
from resolver.core.pin.likeness import is_image_key, likeness
from resolver.errors import InvalidReference, ResolverError
from resolver.files.yaml import read_documents, without_comments
from resolver.verbs.pin import find_images
from tests import DATA

BEFORE = DATA / "pin" / "before"
#: Values of the corpus that parse as a tagged reference but are not one, with the reason.
ORDINARY: dict[str, str] = json.loads((BEFORE.parent / "ordinary.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", "nginx:1.27"),
        ("image", "app:blue"),
        ("sidecarImage", "app:2"),
        ("IMAGE_NAME", "app:dev"),
        ("container-image", "app:dev"),
        ("imageRef", "app:dev"),
        ("runtime", "quay.io/org/app:v1"),
        ("runtime", "registry.example.com:5000/app:dev"),
        ("runtime", "localhost/app:dev"),
        ("runtime", "localhost:5000/app:1"),
        ("runtime", "org/app:1.2"),
        ("runtime", "org/app:7"),
        ("runtime", "org/app:stable"),
        ("runtime", "app:1.2.3-rc.1"),
        ("runtime", "app:v2"),
        ("runtime", "app:latest"),
        ("runtime", "app:7-alpine"),
        ("runtime", "app:alpine3.20"),
        ("runtime", "redis:7"),
        ("runtime", "node:22"),
        ("runtime", "debian:bookworm"),
        ("args", "--sidecar=quay.io/org/app:v1"),
        ("args", "--sidecar-image=app:dev"),
        ("env", "TOOL_IMAGE=app:dev"),
        ("images", "quay.io/org/a=quay.io/org/b:v1"),
        ("uses", "docker://app:dev"),
        ("context", "docker-image://app:dev"),
        ("include", "oci://ghcr.io/org/app:dev"),
    ],
)
def test_image_like_text_is_found(key: str, value: str) -> None:
    found = likeness(value, key)

    assert found is not None
    assert value[found[0] :] == found[1]
    assert Reference.parse(found[1]).tag


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "1.2"),
        ("time", "10:30"),
        ("time", "2026-01-30T10:30:00Z"),
        ("schedule", "10 4 * * *"),
        ("url", "https://example.com:8443/a"),
        ("url", "git@example.com:org/app.git"),
        ("url", "oci://ghcr.io/org/chart"),
        ("address", "redis:6379"),
        ("address", "web:80"),
        ("address", "nginx:8080"),
        ("address", "nginx:80"),
        ("image", "sha256:" + "a" * 64),
        ("address", "proxy.example.com:3128"),
        ("address", "127.0.0.1:5000"),
        ("address", "org/app:8080"),
        ("hosts", "somehost:10.0.0.5"),
        ("hosts", "host.docker.internal:host-gateway"),
        ("volumes", "data:/var/lib"),
        ("volumes", "./data:/data:ro"),
        ("volumes", "data:ro"),
        ("volumes", "/var/run/docker.sock:/var/run/docker.sock"),
        ("ports", "8080:80"),
        ("user", "1000:1000"),
        ("user", "root:root"),
        ("pair", "key:value"),
        ("pair", "tls:1.2"),
        ("pair", "version:1.2"),
        ("pair", "cpu:0.5"),
        ("name", "system:masters"),
        ("name", "system:node-proxier"),
        ("network_mode", "service:db2"),
        ("network_mode", "container:1a2b"),
        ("context", "target:v1"),
        ("uses", "actions/checkout@v4"),
        ("orb", "circleci/node@5.1.0"),
        ("artifact", "com.example:artifact:1.2"),
        ("digest", "sha256:" + "a" * 64),
        ("checksum", "md5:v1"),
        ("platform", "linux/amd64"),
        ("command", "docker run nginx:1.27"),
        ("image", "nginx"),
        ("image", "nginx@sha256:" + "a" * 64),
        ("image", "true"),
        ("image", ""),
        ("imagePullPolicy", "Always"),
        ("args", "--destination=quay.io/org/app:v1"),
        ("args", "--listen=0.0.0.0:8443"),
        ("args", "--level=info"),
        ("env", "DATABASE=db:5432"),
    ],
)
def test_other_text_is_not_image_like(key: str, value: str) -> None:
    assert likeness(value, key) is None


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        ("image", True),
        ("Image", True),
        ("dockerImage", True),
        ("DOCKER_IMAGE", True),
        ("image-uri", True),
        ("imageName", True),
        ("images", False),
        ("imageTag", False),
        ("imagePullPolicy", False),
        ("imagePullSecrets", False),
        ("name", False),
        ("url", False),
        ("vmImages", False),
        ("imagery", False),
    ],
)
def test_image_keys_are_recognised(key: str, is_one: bool) -> None:
    assert is_image_key(key) is is_one


def _corpus() -> list[str]:
    return sorted(
        path.relative_to(BEFORE).as_posix()
        for path in BEFORE.rglob("*")
        if path.is_file() and "ocker" not in path.name.removeprefix("docker-compose")
    )


@pytest.mark.parametrize("name", _corpus())
def test_every_reference_with_a_tag_is_found_or_reported(name: str) -> None:
    text = (BEFORE / name).read_bytes().decode()
    found = find_images(name, text)
    lines = LineIndex(text)
    starts = [each.start for each in found.spots] + [each.start for each in found.strays]
    starts += [each.start for each in found.passed]
    marked = {lines.position(start)[0] for start in starts}

    for span, value in _scalars(name, text):
        if _is_reference(value) and value not in ORDINARY:
            assert marked & {*span}, f"{name}:{span}: {value}"


def test_every_exception_in_the_corpus_is_used() -> None:
    held = {
        value
        for name in _corpus()
        for _span, value in _scalars(name, (BEFORE / name).read_bytes().decode())
    }

    assert held >= {*ORDINARY}
    assert all(_is_reference(value) for value in ORDINARY)


def _scalars(name: str, text: str) -> list[tuple[range, str]]:
    """Read the values of a file with PyYAML's own nodes, each with its lines."""
    clean = without_comments(text) if name.startswith("devcontainer/") else text
    found = []
    for document in yaml.compose_all(clean.removeprefix("\ufeff"), Loader=yaml.CSafeLoader):
        waiting = [document]
        while waiting:
            node = waiting.pop()
            if isinstance(node, yaml.ScalarNode):
                span = range(node.start_mark.line + 1, node.end_mark.line + 2)
                found.append((span, node.value.strip()))
            elif isinstance(node, yaml.SequenceNode):
                waiting += node.value
            elif isinstance(node, yaml.MappingNode):
                waiting += [value for _key, value in node.value]
    return found


def _is_reference(value: str) -> bool:
    """Whether a value is a reference with a tag by Docker's grammar, behind a scheme or alone."""
    words = value.rpartition("://")[2] if value.startswith(("docker://", "docker-image")) else value
    try:
        return Reference.parse(words).tag is not None
    except InvalidReference:
        return False


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("images: [{name: app, newTag: v1}]", "app:v1"),
        ("image: {repository: quay.io/org/app, tag: v1}", "quay.io/org/app:v1"),
        ("a: {imageRepository: org/app, imageTag: v1}", "org/app:v1"),
        ("image: {path: org/app, tag: v1}", "org/app:v1"),
        ("image: {repository: quay.io/org/app}", "quay.io/org/app"),
        ("image: app", "app"),
        ("a: {image: org/app, tag: v1}", "org/app"),
    ],
)
def test_image_name_without_a_tag_is_reported(spec: str, expected: str) -> None:
    text = f"apiVersion: example.com/v1\nkind: Thing\nspec: {{{spec}}}\n"

    found = find_images("thing.yaml", text)

    assert [stray.text for stray in found.strays] == [expected]
    assert found.spots == ()


@pytest.mark.parametrize(
    "spec",
    [
        "git: {repository: org/app, tag: v1}",
        "chart: {name: org/app, tag: v1}",
        "a: {name: app, tag: v1}",
        "image: {repository: quay.io/org/app, digest: 'sha256:" + "a" * 64 + "'}",
        "image: {repository: quay.io/org/app, tag: v1, digest: 'sha256:" + "a" * 64 + "'}",
        "image: true",
        "a: {image: https://example.com/disk.qcow2}",
        "logoImage: logo.png",
    ],
)
def test_other_names_with_tags_are_not_images(spec: str) -> None:
    text = f"apiVersion: example.com/v1\nkind: Thing\nspec: {{{spec}}}\n"

    found = find_images("thing.yaml", text)

    assert (found.spots, found.strays) == ((), ())


def test_text_block_that_is_not_yaml_is_accepted() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a.yaml: |\n    {{ if x }}\n    image: [\n"

    with pytest.raises(ResolverError):
        read_documents("{{ if x }}\nimage: [\n")
    assert find_images("a.yaml", text).strays == ()
