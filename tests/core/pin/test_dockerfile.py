"""Images in Dockerfiles: every position of one, and text that only looks like one."""

from __future__ import annotations

import pytest

from resolver.core.pin.dockerfile import find
from resolver.errors import Usage

DIGEST = "sha256:" + "b" * 64


def named(text: str) -> list[str]:
    """Return the references of a Dockerfile as written."""
    return [text[spot.start : spot.end] for spot in find(text).spots]


def strays(text: str) -> list[tuple[str, str]]:
    """Return the references that cannot be pinned, with the reason."""
    return [(stray.text, stray.reason) for stray in find(text).strays]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM alpine", ["alpine"]),
        ("from alpine:3.20 as x\n", ["alpine:3.20"]),
        ("FROM --platform=linux/arm64 alpine:3\n", ["alpine:3"]),
        ("FROM --platform=$BUILDPLATFORM alpine:3 AS b\r\nRUN x\r\n", ["alpine:3"]),
        ('FROM "alpine:3"\n', ["alpine:3"]),
        ("\ufeffFROM alpine:3\n", ["alpine:3"]),
        ("FROM scratch\nCOPY x y\n", []),
        ("FROM a:1 AS b\nFROM B\n", ["a:1"]),
        ("FROM b\nFROM a:1 AS b\n", ["b", "a:1"]),
        ("FROM a:1\nCOPY --from=0 / /\n", ["a:1"]),
        ("FROM a:1\nCOPY --from=b / /\nFROM c:1 AS b\n", ["a:1", "c:1"]),
        ("FROM a:1\nCOPY --chown=0:0 --from=b:2 / /\n", ["a:1", "b:2"]),
        ('FROM a:1\nCOPY --from="b:2" / /\n', ["a:1", "b:2"]),
        ("FROM a:1\nCOPY / --from=b:2\n", ["a:1"]),
        ("FROM a:1\nADD --from=b:2 / /\n", ["a:1"]),
        ("FROM a:1\nRUN --mount=type=bind,from=b:2,target=/b x\n", ["a:1", "b:2"]),
        ("FROM a:1\nRUN --mount=from=b:2,target=/b --mount=from=c:3 x\n", ["a:1", "b:2", "c:3"]),
        ("FROM a:1\nRUN --mount=type=cache,target=/b x --mount=from=b:2\n", ["a:1"]),
        ("FROM a:1 AS x\nRUN --mount=from=x,target=/b true\n", ["a:1"]),
        ("FROM a:1\nONBUILD COPY --from=builder / /\n", ["a:1"]),
        ("FROM a:1\nONBUILD COPY --from=b/c:2 / /\n", ["a:1", "b/c:2"]),
        ("# syntax=docker/dockerfile:1\nFROM a:1\n", ["docker/dockerfile:1", "a:1"]),
        ("#syntax = docker/dockerfile:1 x\r\nFROM a:1\r\n", ["docker/dockerfile:1", "a:1"]),
        ("#!/usr/bin/env x\n# syntax=s/d:1\nFROM a:1\n", ["s/d:1", "a:1"]),
        ("# hello\n# syntax=docker/dockerfile:1\nFROM a:1\n", ["a:1"]),
        ("# other=1\n# SYNTAX=s/d:1\nFROM a:1\n", ["a:1"]),
        ("# check=skip=all\n# SYNTAX=s/d:1\nFROM a:1\n", ["s/d:1", "a:1"]),
        ("\n# syntax=docker/dockerfile:1\nFROM a:1\n", ["a:1"]),
        ("FROM \\\n  # why\n\n  a:1 \\\n  AS b\n", ["a:1"]),
        ("# escape=`\nFROM `\n  a:1\nRUN dir C:\\\nFROM b:1\n", ["a:1", "b:1"]),
        ("FROM a:1\nRUN x \\\\\nFROM b:1\n", ["a:1", "b:1"]),
        ("FROM a:1\nRUN <<EOF\nFROM b:1\nEOF\nFROM c:1\n", ["a:1", "c:1"]),
        ("FROM a:1\nRUN <<-'E F'\nFROM b:1\n\tE F\nFROM c:1\n", ["a:1", "c:1"]),
        ('FROM a:1\nCOPY <<A <<"B" /x/\nFROM b:1\nA\nFROM c:1\nB\nFROM d:1\n', ["a:1", "d:1"]),
        ("FROM a:1\nRUN 3<<EOF cat\nFROM b:1\nEOF\n", ["a:1"]),
        ('FROM a:1\nRUN echo "<<EOF"\nFROM b:1\n', ["a:1", "b:1"]),
        ('FROM a:1\nRUN ["x", "<<EOF"]\nFROM b:1\n', ["a:1", "b:1"]),
        ('FROM a:1\nRUN ["x"] y <<EOF\nFROM b:1\n', ["a:1", "b:1"]),
        ('FROM a:1\nRUN [ "x" = y ] && z <<EOF\nFROM b:1\nEOF\n', ["a:1"]),
        ("\u3000FROM a:1\u3000\n\u2028RUN x \\\n\u3000\n y\n\u2003FROM b:1\n", ["a:1", "b:1"]),
        ("FROM a:1\nONBUILD RUN <<EOF\nFROM b:1\nEOF\n", ["a:1"]),
        ("FROM a:1\nENV X=<<EOF\nFROM b:1\n", ["a:1", "b:1"]),
        ("ARG B=a:1\nFROM $B\n", ["a:1"]),
        ('ARG B="a:1"\nFROM ${B} AS x\nFROM ${B} AS y\n', ["a:1"]),
        ("ARG X=1 B=a:1\nFROM ${B}\n", ["a:1"]),
        ("ARG B=scratch\nFROM ${B}\n", []),
        ("FROM a:1 AS x\nARG B=y\nRUN $B\n", ["a:1"]),
        (f"FROM a:1@{DIGEST}\nFROM b@{DIGEST}\n", [f"a:1@{DIGEST}", f"b@{DIGEST}"]),
        ("", []),
        ("# only a comment", []),
    ],
)  # fmt: skip
def test_dockerfile_images_are_found_at_their_positions(text: str, expected: list[str]) -> None:
    assert named(text) == expected
    assert strays(text) == []


@pytest.mark.parametrize(
    ("text", "reference", "reason"),
    [
        ("ARG T=1\nFROM a:${T}\n", "a:${T}", "composed"),
        ("FROM $B\n", "$B", "`ARG B` has no default"),
        ("ARG B\nFROM $B\n", "$B", "`ARG B` has no default"),
        ("ARG B=a:1\nARG B=b:1\nFROM $B\n", "$B", "more than once"),
        ("ARG B=a:1\nFROM $B\nARG B\n", "$B", "in a stage"),
        ("ARG B=a\nFROM $B\nFROM $B:1 \n", "$B", "part of another word"),
        ("ARG T=1\nARG B=a:$T\nFROM $B\n", "$B", "composed"),
        ("ARG B=\nFROM $B\n", "$B", "is empty"),
        ("FROM ${B:-a:1}\n", "${B:-a:1}", "composed"),
        ("FROM a:1\nCOPY --from=$X / /\n", "$X", "variable"),
        ("FROM a:1\nCOPY --from=A:1 / /\n", "A:1", "lowercase"),
        ("FROM al\\\npine:3\n", "alpine:3", "line break"),
    ],
)
def test_dockerfile_reference_that_cannot_be_pinned_has_a_reason(
    text: str, reference: str, reason: str
) -> None:
    written, why = strays(text)[0]

    assert written == reference
    assert reason in why


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("# resolver: ignore\nFROM a:1\n", [True]),
        ("FROM b:1\n  #resolver:ignore why\nFROM a:1\n", [False, True]),
        ("# resolver: ignore\n\nFROM a:1\n", [False]),
        ("# resolver: ignored\nFROM a:1\n", [False]),
        ("# resolver: ignore\nFROM \\\n  a:1\n", [True]),
        ("FROM \\\n # resolver: ignore\n  a:1\n", [True]),
    ],
)
def test_dockerfile_ignore_comment_skips_the_next_reference(text: str, ignored: list[bool]) -> None:
    assert [spot.is_ignored for spot in find(text).spots] == ignored


def test_dockerfile_from_platform_is_kept_when_literal() -> None:
    text = "FROM --platform=linux/s390x a:1\nFROM --platform=$TARGETPLATFORM b:1\n"

    assert [spot.platform for spot in find(text).spots] == ["linux/s390x", ""]


@pytest.mark.parametrize(
    "text",
    [
        "# escape=x\nFROM a:1\n",
        "# escape=`\n# escape=`\nFROM a:1\n",
        "FROM a:1\nRUN <<EOF\nx\n",
    ],
)
def test_dockerfile_that_buildkit_rejects_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        find(text)
