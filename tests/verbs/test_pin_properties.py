"""Properties of `pin` over generated files: only digests change."""

from __future__ import annotations

import re

import dockerfile  # type: ignore[import-not-found]  # a compiled module without types
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resolver.core.pin.dockerfile import read
from resolver.core.pin.edits import Edit, apply
from resolver.errors import ResolverError
from resolver.files.yaml import read_documents
from resolver.verbs.pin import find_images
from tests.kit.generated_files import MAKERS, GeneratedFile, dockerfiles, yamls
from tests.kit.pins import digest_of, documents, instructions, pin, unpin

#: What pinning puts into a file, and nothing else: behind a tag, or with a key of its own.
INSERTED = re.compile(
    r"@sha256:[0-9a-f]{64}|\r?\n *digest: sha256:[0-9a-f]{64}|, digest: sha256:[0-9a-f]{64}"
)

relaxed = settings(suppress_health_check=[HealthCheck.too_slow])
#: For each kind the half of the usual examples: there are many kinds.
brief = settings(relaxed, max_examples=50)


def check(written: GeneratedFile) -> str:
    """Pin a file, check it and return it."""
    path, text = written.path, written.text
    pinned = pin(path, text)
    found = find_images(path, text)
    assert found.strays == ()
    assert len(found.spots) == written.count
    assert INSERTED.sub("", pinned) == text
    assert len(INSERTED.findall(pinned)) == written.count
    assert pin(path, pinned) == pinned
    assert unpin(path, pinned) == text
    return pinned


@relaxed
@given(dockerfiles())
def test_pin_of_any_dockerfile(written: GeneratedFile) -> None:
    pinned = check(written)

    assert instructions(pinned) == instructions(written.text)


@relaxed
@given(dockerfiles(), st.integers(1, 4))
def test_pin_of_any_inline_dockerfile_in_compose(written: GeneratedFile, indent: int) -> None:
    head = f"services:\n  a:\n    build:\n      dockerfile_inline: |{indent}\n"
    lines = written.text.removeprefix("\ufeff").splitlines(keepends=True)
    text = head + "".join(" " * (6 + indent) + line for line in lines)

    pinned = pin("compose.yaml", text)
    found = find_images("compose.yaml", text)

    # Defaults of arguments are named, and left alone: compose fills them in.
    assert len(found.spots) + len(found.strays) == written.count
    assert all("compose fills in" in stray.reason for stray in found.strays)
    assert INSERTED.sub("", pinned) == text
    assert len(INSERTED.findall(pinned)) == len(found.spots)
    assert unpin("compose.yaml", pinned) == text
    assert instructions(_inline(pinned)) == instructions(_inline(text))


def _inline(text: str) -> str:
    recipe = yaml.safe_load(text)["services"]["a"]["build"]["dockerfile_inline"]
    assert isinstance(recipe, str)
    return recipe


@brief
@given(st.data())
@pytest.mark.parametrize("kind", MAKERS)
def test_pin_of_any_yaml_file(kind: str, data: st.DataObject) -> None:
    written = data.draw(yamls(kind))

    pinned = check(written)

    assert documents(pinned) == documents(written.text)


@brief
@given(st.data())
@pytest.mark.parametrize("kind", ["dockerfile", *MAKERS])
def test_pin_of_any_subset_of_images(kind: str, data: st.DataObject) -> None:
    written = data.draw(dockerfiles() if kind == "dockerfile" else yamls(kind))
    spots = find_images(written.path, written.text).spots
    chosen = data.draw(st.sets(st.sampled_from(range(len(spots))))) if spots else set()

    pinned = apply(
        written.text, [spots[index].pin(digest_of(spots[index].tagged)) for index in chosen]
    )
    again = find_images(written.path, pinned).spots

    assert {index for index, spot in enumerate(again) if spot.reference.digest} == chosen
    assert [str(spot.tagged) for spot in again] == [str(spot.tagged) for spot in spots]
    assert pin(written.path, pinned) == pin(written.path, written.text)
    assert unpin(written.path, pinned) == written.text


@brief
@given(st.data())
@pytest.mark.parametrize("kind", MAKERS)
def test_both_yaml_readers_find_the_same_images(kind: str, data: st.DataObject) -> None:
    text = data.draw(yamls(kind)).text.replace("\t", " ")

    slow = read_documents(text, loader=yaml.SafeLoader)
    quick = read_documents(text, loader=yaml.CSafeLoader)

    assert repr(slow) == repr(quick)


@given(
    st.sampled_from(
        [
            "Dockerfile",
            "compose.yaml",
            "values.yaml",
            ".gitlab-ci.yml",
            "x.yaml",
            "docker-bake.hcl",
            "devcontainer.json",
            "azure-pipelines.yml",
            ".circleci/config.yml",
        ]
    ),
    st.text(st.sampled_from("FROM a:1\n\r\t #-{}[]()\"'&*!|>@$<\\`=,%/\ufeffü")),
)
def test_pin_of_any_text_succeeds_or_is_refused(path: str, text: str) -> None:
    try:
        found = find_images(path, text)
    except ResolverError:
        return
    assert all(0 <= spot.start <= spot.end <= len(text) for spot in found.spots)


@given(st.text(), st.data())
def test_edits_change_only_their_spans(text: str, data: st.DataObject) -> None:
    ends = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = list(zip(ends[::2], ends[1::2], strict=False))

    changed = apply(text, [Edit(start, end, "@") for start, end in reversed(spans)])

    kept = len(text) - sum(end - start for start, end in spans)
    assert len(changed) == kept + len(spans)
    assert apply(text, []) == text


#: Lines of which Dockerfiles are made here, most of them at odds with each other.
LINES = (
    "FROM a:1", "RUN x", "COPY a b", "RUN <<E", "RUN <<-'E F' cat <<G", "E", "\tE F", "G", "`",
    "\\", " \\ ", "x \\", "x \\\\", "x `", "# c", "  # c \\", "", "  ", "\t", "x", "# escape=`",
    "#escape = \\", "# other=1", "ENV a=<<E", "'", '"', 'RUN ["<<E"]', "RUN '<<E", 'RUN "<<E"',
    "ONBUILD RUN <<E", "ADD <<E <<E /x/", "LABEL x=y", "RUN cat 3<<E", "RUN <<E>f", "RUN <<",
    "RUN a<<E", "RUN [ <<E", "onbuild  COPY  <<G /",
)  # fmt: skip


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(LINES)),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
    st.booleans(),
)
def test_buildkit_sees_the_same_instructions_in_any_lines(
    lines: list[str], end: str, mark: str, ended: bool
) -> None:
    text = mark + end.join(lines) + (end if ended else "")
    try:
        expected = [words[0].upper() for words in instructions(text)]
    except dockerfile.GoParseError:
        return  # Where nothing ends a heredoc, mostly: half of the examples are left.

    assert [instruction.name for instruction in read(text).instructions] == expected


#: What may stand between the strings of a bake file.
OTHERS = (
    "", "# contexts\n", "// x\n", "/* } */", 'y = "a:${b("}", "{")}"\n', "x = a ? 1 : [2]\n",
    'z = [for a in b : "${a}" if a != ""]\n', "q = { for k, v in m : k => v }\n",
    'n = "a\\"b}"\n', 'd = "$${x}"\n', 'm = <<E\n} { "\nE\n', 'w = f("]", 2)\n',
)  # fmt: skip


@st.composite
def bakes(draw: st.DrawFn) -> GeneratedFile:
    """Write a bake file, each string between others of many shapes."""
    others = st.sampled_from(OTHERS)
    parts, count = [], draw(st.integers(1, 3))
    for number in range(count):
        name = f"docker-image://{draw(st.sampled_from(['a:1', 'quay.io/o/a:v2', 'l:80/a:3']))}"
        sign = draw(st.sampled_from(["=", ":", " = "]))
        context = f'contexts = {{ "c" {sign} "{name}"{draw(st.sampled_from(["", ",", chr(10)]))} }}'
        parts += [draw(others), f'target "t{number}" {{\n', draw(others), context, "\n"]
        parts += [draw(others), "}\n", draw(others)]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return GeneratedFile("docker-bake.hcl", mark + "".join(parts).replace("\n", end), count)


@relaxed
@given(bakes())
def test_pin_of_any_bake_file(written: GeneratedFile) -> None:
    check(written)
