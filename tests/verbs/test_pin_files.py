"""Pinned files equal the expected bytes, and other parsers agree."""

from __future__ import annotations

import json

import pytest

import tests
from resolver.core.pin.edits import LineIndex
from resolver.errors import NotAnImageFile, UnreadableFile
from resolver.files.yaml import without_comments
from resolver.verbs.pin import find_images
from tests.kit.pins import WRITTEN, documents, instructions, pin, unpin

DATA = tests.DATA / "pin"
BEFORE, AFTER = DATA / "before", DATA / "after"
CORPUS = sorted(path.relative_to(BEFORE).as_posix() for path in BEFORE.rglob("*") if path.is_file())
NOT_PINNABLE: dict[str, list[str]] = json.loads((DATA / "not_pinnable.json").read_text("utf-8"))

each_file = pytest.mark.parametrize("name", CORPUS)


def before(name: str) -> str:
    return (BEFORE / name).read_bytes().decode()


def after(name: str) -> str:
    return (AFTER / name).read_bytes().decode()


def test_pin_corpus_has_every_kind_and_at_least_sixty_files() -> None:
    kinds = {find_images(name, before(name)).kind for name in CORPUS}

    assert len(CORPUS) >= 60
    assert kinds == {name.partition("/")[0] for name in CORPUS} - {"kustomize"} | {"kustomization"}
    assert {path.relative_to(AFTER).as_posix() for path in AFTER.rglob("*") if path.is_file()} == {
        *CORPUS
    }


@each_file
def test_pin_writes_the_expected_file_and_is_idempotent(name: str) -> None:
    pinned = pin(name, before(name))

    assert pinned.encode() == after(name).encode()
    assert pin(name, pinned) == pinned


@each_file
def test_pin_names_the_line_of_a_reference_it_cannot_pin(name: str) -> None:
    text = before(name)
    found = find_images(name, text)
    lines = LineIndex(text)

    assert [
        f"{lines.position(stray.start)[0]}: {stray.text} ({stray.role}): {stray.reason}"
        for stray in found.strays
    ] == NOT_PINNABLE.get(name, [])


@each_file
def test_removing_digests_restores_the_file(name: str) -> None:
    text = before(name)
    # Digests that were there before are removed from both.
    bare = unpin(name, text)

    again = unpin(name, pin(name, bare))

    assert _plainly(again) == _plainly(bare)
    assert unpin(name, bare) == bare


def _plainly(text: str) -> str:
    """Remove what belongs to a digest: an added tag, or a `~` in its place."""
    return text.replace(":latest", "").replace("digest: ~", "digest:")


@pytest.mark.parametrize("name", [name for name in CORPUS if name.startswith("dockerfile/")])
def test_buildkit_reads_the_same_instructions(name: str) -> None:
    text, pinned = before(name), after(name)

    assert instructions(pinned) == instructions(text)


YAML = [name for name in CORPUS if "ockerfile" not in name and not name.endswith(".hcl")]


@pytest.mark.parametrize("name", YAML)
def test_pinned_yaml_differs_only_in_digests(name: str) -> None:
    text, pinned = before(name), after(name)
    if name.startswith("devcontainer/"):
        text, pinned = without_comments(text), without_comments(pinned)

    assert documents(pinned) == documents(text)
    if text != pinned:
        assert documents(pinned, keep_digests=True) != documents(text, keep_digests=True)


@each_file
def test_pin_adds_digests_only_where_a_parser_finds_an_image(name: str) -> None:
    """Count them: a digest in a comment or a heredoc would be one too many."""
    text, pinned = before(name), after(name)
    spots = find_images(name, pinned).spots

    held = [spot for spot in spots if spot.reference.digest is not None]

    assert len(held) == pinned.count("sha256:") - _others(text)


def _others(text: str) -> int:
    """Count the digests of a file that belong to no image."""
    return text.count("--checksum=sha256:")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("notes.txt", "image: alpine:3.20\n"),
        ("config.yaml", "image: alpine:3.20\n"),
        ("notes.md", "a: [\n"),
        ("empty.yaml", ""),
    ],
)
def test_pin_lists_supported_kinds_for_an_unknown_file(path: str, text: str) -> None:
    with pytest.raises(NotAnImageFile) as caught:
        find_images(path, text)

    assert "Dockerfiles, compose files, kustomizations" in caught.value.hints()[0]


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("compose.yaml", "services: {a: {image: b}\n", "line 2"),
        ("compose.yaml", "services:\n\ta: b\n", "line 2"),
        ("compose.yaml", "a: *b\n", "anchor `b`"),
        ("compose.yaml", "a: \x07\n", "it is not YAML"),
        ("values.yaml", "{{- if .Values }}\na: b\n{{- end }}\n", "it is not YAML"),
        ("pod.yaml", "apiVersion: v1\nkind: Pod\nspec:\n\tcontainers: []\n", "line 4"),
        ("data.json", "{", "it is not YAML"),
        ("Dockerfile", "FROM a\nRUN <<EOF\n", "heredoc `EOF`"),
        ("compose.yaml", "a: &a [*a]\n", "anchor `a`"),
        ("compose.yaml", "[" * 101 + "]" * 101, "101"),
    ],
)
def test_pin_names_an_unparsable_file_with_the_reason(path: str, text: str, reason: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        find_images(path, text)

    assert path in str(caught.value)
    assert reason in str(caught.value)


def test_expected_pin_files_contain_valid_digests_only() -> None:
    for name in CORPUS:
        rest = WRITTEN.sub("", after(name))
        assert "@sha256" not in rest


def test_pin_skips_a_template_and_names_its_values() -> None:
    with pytest.raises(UnreadableFile) as caught:
        find_images("templates/pod.yaml", "{{- if .Values.x }}\nkind: Pod\n{{- end }}\n")

    assert "pin its values file" in caught.value.hints()[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "pod.yaml",
            "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: {{ .Values.x }}\n",
        ),
        ("compose.yaml", "services:\n  a:\n    image: {{ .Values.x }}\n"),
    ],
)
def test_pin_reports_a_template_that_is_valid_yaml(path: str, text: str) -> None:
    [stray] = find_images(path, text).strays

    assert (stray.text, stray.reason) == ("{{ .Values.x }}", "it is composed of variables")


@pytest.mark.parametrize("value", ["true", "on", "12345678"])
def test_pin_ignores_a_boolean_in_helm_values(value: str) -> None:
    held = find_images("values.yaml", f"scan:\n  image: {value}\n")

    assert (held.spots, held.strays) == ((), ())


def test_pin_follows_compose_yaml_tags() -> None:
    text = "services:\n  a:\n    image: !override b:1\n  c:\n    image: !reset d:1\n"

    pinned = pin("compose.override.yaml", text)
    assert WRITTEN.sub("", pinned) == text
    assert "image: !override b:1@sha256:" in pinned
    assert "image: !reset d:1\n" in pinned
