"""Digests with separate keys, tags that are numbers, and references in several keys."""

from __future__ import annotations

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.parse.yaml_tree import YamlScalar
from resolver.core.pin.edits import apply, means_other
from resolver.core.pin.kinds import KINDS, FileKind, by_path
from resolver.verbs.pin import find_images

DIGEST = "sha256:" + "a" * 64
OLD = "sha256:" + "b" * 64


def pin(path: str, text: str) -> str:
    return apply(text, [spot.pin(Digest.parse(DIGEST)) for spot in find_images(path, text).spots])


def unpin(path: str, text: str) -> str:
    edits = [spot.unpin() for spot in find_images(path, text).spots]
    return apply(text, [edit for edit in edits if edit is not None])


def reasons(path: str, text: str) -> list[str]:
    return [stray.reason for stray in find_images(path, text).strays]


@pytest.mark.parametrize(
    "text",
    ["3.20", "1.0", "010", "0x1f", "1e3", "20241101", "1_000", "+1", ".5", "on", "true", "0o17"],
)
def test_yaml_plain_text_of_another_type_is_quoted(text: str) -> None:
    assert means_other(YamlScalar(0, 0, text))
    assert not means_other(YamlScalar(0, 0, text, '"'))


@pytest.mark.parametrize("text", ["1", "0", "1.27", "3.2", "v1", "1.2.3", "1-alpine", "latest"])
def test_yaml_plain_text_is_kept(text: str) -> None:
    assert not means_other(YamlScalar(0, 0, text))


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("a: {repository: r, tag: v1}", f"a: {{repository: r, tag: v1@{DIGEST}}}"),
        ("repository: r\ntag: v1\ndigest:", f"repository: r\ntag: v1\ndigest: {DIGEST}"),
        ("repository: r\ntag: v1\ndigest: ", f"repository: r\ntag: v1\ndigest: {DIGEST} "),
        ("repository: r\ntag: v\ndigest:   null\n", f"repository: r\ntag: v\ndigest:   {DIGEST}\n"),
        ("repository: r\ntag: v1\ndigest: ''\n", f"repository: r\ntag: v1\ndigest: '{DIGEST}'\n"),
        (f"repository: r\ndigest: {OLD}\n", f"repository: r\ndigest: {DIGEST}\n"),
        (f"repository: r\ntag: v1@{OLD}\n", f"repository: r\ntag: v1@{DIGEST}\n"),
        ("registry: h/\nrepository: r\ntag: v", f"registry: h/\nrepository: r\ntag: v@{DIGEST}"),
        ("image: r\ntag: v1\n", f"image: r\ntag: v1@{DIGEST}\n"),
        ("image: r:v2\ntag: v1\n", f"image: r:v2@{DIGEST}\ntag: v1\n"),
    ],
)  # fmt: skip
def test_helm_values_are_pinned(text: str, pinned: str) -> None:
    assert pin("values.yaml", text) == pinned


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("repository: r\ntag: 3.20\n", "number"),
        ("repository: r\ntag: ''\n", "not in this file"),
        ("repository: r\ntag:\n", "not in this file"),
        ("repository: R\ntag: v1\n", "lowercase"),
        ('repository: r\ntag: "v\\x31"\n', "no separate"),
        ("x: &d\n  digest: ''\na:\n  repository: r\n  tag: v1\n  digest: &e ''\n", "no separate"),
        (f"x: &d {{digest: {OLD}}}\na:\n  <<: *d\n  repository: r\n  tag: v1\n", "no separate"),
        ("repository: r\ntag: {a: b}\n", "not in this file"),
        ("repository: r\ntag: v1\ndigest: |\n  x\n", "is not an image reference"),
        (f"repository: r\ntag: v1\ndigest: |-\n  {OLD}\n", "no separate"),
    ],
)  # fmt: skip
def test_helm_values_that_cannot_be_pinned(text: str, reason: str) -> None:
    (found,) = reasons("values.yaml", text)

    assert reason in found


def test_helm_tag_that_would_read_as_a_number_keeps_its_digest() -> None:
    text = f"repository: r\ntag: 3.20@{OLD}\n"

    assert unpin("values.yaml", text) == text
    assert unpin("values.yaml", text.replace("3.20", "v3")) == "repository: r\ntag: v3\n"


@pytest.mark.parametrize(
    ("text", "unpinned"),
    [
        (
            f"images:\n- name: a\n  newTag: b\n  digest: {OLD}\n",
            "images:\n- name: a\n  newTag: b\n",
        ),
        (f"images:\n- name: a\n  newTag: b\n  digest: {OLD}", "images:\n- name: a\n  newTag: b"),
        (
            f"images:\r\n- name: a\r\n  digest: {OLD}\r\n  newTag: b\r\n",
            "images:\r\n- name: a\r\n  newTag: b\r\n",
        ),
        (
            f"images:\n- name: a\n  newTag: b\n  digest: {OLD} # why\n",
            "images:\n- name: a\n  newTag: b\n  # why\n",
        ),
        (f"images: [{{name: a, digest: {OLD}, newTag: b}}]", "images: [{name: a, newTag: b}]"),
        (
            f"images:\n- name: a\n  newTag: b\n  digest: '{OLD}'\n",
            "images:\n- name: a\n  newTag: b\n  digest: ''\n",
        ),
    ],
)
def test_kustomization_digest_is_removed_with_its_key(text: str, unpinned: str) -> None:
    assert unpin("kustomization.yaml", text) == unpinned


def test_kustomization_digest_before_its_tag_is_kept() -> None:
    block = f"images:\n- digest: {OLD}\n  name: a\n  newTag: b\n"
    flow = f"images: [{{digest: {OLD}, name: a, newTag: b}}]"

    assert unpin("kustomization.yaml", block) == block
    assert unpin("kustomization.yaml", flow) == flow
    assert pin("kustomization.yaml", block) == block.replace(OLD, DIGEST)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("images:\n- {name: a, newTag: 1.10}\n", "number"),
        ("images:\n- name: A\n  newTag: v1\n", "lowercase"),
        ("x: &t v1\nimages:\n- name: a\n  newTag: *t\n", "no separate"),
        ("images:\n- name: a\n  newTag: |-\n    v1\n", "no separate"),
        (f"x: &d {{digest: {OLD}}}\nimages:\n- <<: *d\n  name: a\n  newTag: v1\n", "no separate"),
        ("images:\n- name: a\n  newTag: v1\n  digest: [x]\n", "no separate"),
    ],
)
def test_kustomizations_that_cannot_be_pinned(text: str, reason: str) -> None:
    (found,) = reasons("kustomization.yaml", text)

    assert reason in found


def test_kustomization_without_images_has_none() -> None:
    text = "images:\n- x\n- {newTag: v1}\n- {name: a}\n"

    assert find_images("kustomization.yaml", text).spots == ()
    assert reasons("kustomization.yaml", text) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.words.startswith("`")])
def test_kind_named_by_a_file_is_the_kind_of_that_file(kind: FileKind) -> None:
    assert by_path(kind.words.strip("`")) is kind
