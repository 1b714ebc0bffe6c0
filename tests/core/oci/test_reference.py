"""References: Docker's grammar, and a reason for each error."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.digest import Digest
from resolver.core.oci.reference import Reference
from resolver.errors import ErrorKind, InvalidReference
from tests import DATA

VECTORS: list[dict[str, Any]] = json.loads(
    (DATA / "vectors" / "references.json").read_text("utf-8")
)
HEX = "a" * 64


def refusal(text: str) -> InvalidReference:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.kind is ErrorKind.INPUT
    assert "\n" not in caught.value.reason
    return caught.value


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_reference_parsing_agrees_with_docker(vector: dict[str, Any]) -> None:
    expected = vector["expect"]
    if "error" in expected:
        refusal(vector["input"])
        return
    reference = Reference.parse(vector["input"])
    assert reference.registry == expected["registry"]
    assert reference.repository == expected["repository"]
    assert reference.tag == expected["tag"]
    assert reference.digest == (Digest.parse(expected["digest"]) if expected["digest"] else None)
    assert str(reference) == expected["canonical"]
    assert reference.familiar == vector["oracle"]["familiar"]


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("", "empty", "ubuntu"),
        (" ", "blanks or control", "quoting"),
        ("a\tb", "blanks or control", ""),
        ("ubuntu\n", "blanks or control", ""),
        ("a\x00", "blanks or control", ""),
        ("ubuntu:t\u00e4g", "outside ASCII", ""),
        ("ubuntu:\uff11", "outside ASCII", ""),
        ("https://r.io/x", "scheme `https://`", "leave out `https://`"),
        ("oci://r.io/x", "scheme `oci://`", "leave out `oci://`"),
        ("someone@r.io/x", "user name", "resolver login"),
        ("someone@localhost/x", "user name", "resolver login"),
        ("ghcr.io/Owner/App:V1", "repository name must be lowercase", "`ghcr.io/owner/app:V1`"),
        ("App.io/App", "repository name must be lowercase", "`App.io/app`"),
        ("FOO", "repository name must be lowercase", "`foo`"),
        (HEX, "image ID", f"sha256:{HEX}"),
        ("ubuntu:", "tag after `:` is empty", ""),
        ("ubuntu:-t", "`-t` is not a tag", ""),
        ("a:b:c", "`b:c` is not a tag", ""),
        ("ubuntu:tag/x", "port `tag` of the registry", "HOST:PORT"),
        ("a/b:5000/c", "`5000/c` contains `/`", "port"),
        ("a:" + "t" * 129, "the tag has 129 characters", ""),
        ("a@sha256:short", "64 lower-case hex", "sha256"),
        (f"a@sha256:{HEX}x", "64 lower-case hex", "sha256"),
        (f"a@SHA256:{HEX}", "not a digest", "sha256"),
        ("a@md5:" + "a" * 32, "`md5` cannot be verified", "sha256"),
        ("r.io/" + "a" * 256, "has 256 characters, at most 255", ""),
        ("a" * 248, "has 256 characters, at most 255", ""),
        ("a" * 4097, "has 4097 characters, at most 4096", ""),
        ("a//b", "empty component", ""),
        ("a/", "empty component", ""),
        ("/a", "starts with `/`", ""),
        ("r.io/", "repository name is missing", ""),
        ("a/../b", "`..` is not a valid", ""),
        ("a___b", "`a___b` is not a valid", ""),
        ("my_host:5000/x", "`my_host:5000` is not the name of a registry", ""),
        ("exa_mple.com/x", "not the name of a registry", ""),
        ("r.io./x", "not the name of a registry", ""),
        ("h:0x50/x", "port `0x50`", "HOST:PORT"),
        ("h:/x", "port ``", "HOST:PORT"),
        ("[fe80::1%eth0]/x", "not the name of a registry", "IPv6"),
    ],
)
def test_each_invalid_reference_has_its_own_reason(text: str, reason: str, hint: str) -> None:
    error = refusal(text)
    assert reason in error.reason
    assert hint in " ".join(error.hints())


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("nginx@1.25", "write `nginx:1.25` for a tag"),
        ("nginx@3.19-alpine", "write `nginx:3.19-alpine` for a tag"),
        ("nginx@latest", "write `nginx:latest` for a tag"),
        ("ghcr.io/o/app@v1.2", "write `ghcr.io/o/app:v1.2` for a tag"),
        ("localhost:5000/app@9f8e7d6c", "write `localhost:5000/app:9f8e7d6c` for a tag"),
        (f"nginx@{HEX}", f"write `nginx@sha256:{HEX}`"),
        (f"nginx:1.25@{HEX}", f"write `nginx:1.25@sha256:{HEX}`"),
        (f"nginx@{HEX}{HEX}", f"write `nginx@sha512:{HEX}{HEX}`"),
    ],
)
def test_digest_without_an_algorithm_is_explained(text: str, hint: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.text == text
    assert "what follows `@` is a digest without an algorithm" in str(caught.value)
    assert caught.value.hints() == (hint,)


@pytest.mark.parametrize(
    "text",
    [
        "user:S3cret@r.io/x",
        "https://user:S3cret@r.io/x",
        "https://user:S3cret@r.io:5000",
        "user:S3cret@r.io",
        "user:S3cret@r.io:5000",
        "user:S3cret@r.io:5000/x:1",
        "user:S3c@S3cret@r.io/x",
        "user:S3cret/S3cret@r.io/x",
        "S3cret@ghcr.io/x",
        f"user:S3cret@r.io/x@sha256:{HEX}",
        "user:S3cret@r.io/x@sha256:short",
        "user:S3c ret@r.io/x",
        "user:S3cret@1.25",
        "user:S3cret/s3@1.25",
        "S3cret@10.0.0.1",
        "user:S3cret@10.0.0.1",
    ],
)
def test_password_in_a_reference_is_not_shown(text: str) -> None:
    error = refusal(text)
    assert "S3c" not in f"{error}{error.hints()}{error.facts()}{error.__cause__}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("h:99999/x", "port `99999`"),
        ("h:0/x", "port `0`"),
        ("h:65536/x", "port `65536`"),
        ("h:000065535/x", None),
        ("h:1/x", None),
        ("h:" + "9" * 4000 + "/x", "port `999999999999`"),
        ("[::1]:5000/x", None),
        ("[::1]/x", None),
        ("[1::2::3]/x", "not an IPv6"),
        ("[:::::::::]/x", "not an IPv6"),
        ("[2001:db8::1]:70000/x", "port `70000`"),
        (".".join(["a" * 50] * 5) + "/x", None),
        (".".join(["a" * 50] * 6) + "/x", "has 305 characters"),
        ("a" * 63 + ".io/x", None),
        ("a" * 64 + ".io/x", "more than 63"),
        ("UPPER/x", "upper-case"),
        ("Foo/bar", "upper-case"),
        ("GHCR.IO/owner/img", None),
        ("Foo:5000/bar", None),
        ("localhost/x", None),
        ("ubuntu", None),
    ],
)
def test_impossible_host_is_an_endpoint_error(text: str, problem: str | None) -> None:
    reference = Reference.parse(text)
    found = reference.endpoint_problem()
    if problem is None:
        assert found is None
        reference.check_endpoint()
        return
    assert problem in (found or "")
    with pytest.raises(InvalidReference):
        reference.check_endpoint()


def test_upper_case_registry_gets_a_lower_case_hint() -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse("Owner/app:V1").check_endpoint()
    assert "`owner/app:V1`" in caught.value.hints()[0]


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("ubuntu", "registry-1.docker.io"),
        ("index.docker.io/x", "registry-1.docker.io"),
        ("docker.io:443/x", "docker.io:443"),
        ("r.io:5000/x", "r.io:5000"),
    ],
)
def test_only_docker_hub_has_a_separate_api_host(text: str, host: str) -> None:
    assert Reference.parse(text).api_host == host


def test_reference_with_a_digest_requests_the_digest() -> None:
    digest = Digest("sha256", HEX)
    reference = Reference.parse("r.io/x:1")
    assert (reference.name, reference.identity) == ("1", "r.io/x")
    assert Reference.parse("r.io/x").name == "latest"
    pinned = reference.with_digest(digest)
    assert pinned.name == str(digest)
    assert str(pinned) == f"r.io/x:1@{digest}"


@pytest.mark.parametrize(
    ("registry", "repository", "tag"),
    [
        ("docker.io", "ubuntu", None),
        ("index.docker.io", "library/ubuntu", None),
        ("plain", "x", None),
        ("r.io", "../x", None),
        ("r.io", "x\n", None),
        ("r.io\n", "x", None),
        ("r.io", "x", "tag\n"),
        ("r.io", "x", ""),
        ("r.io", "X", None),
        ("r.io", "a" * 256, None),
    ],
)
def test_invalid_reference_cannot_be_constructed(
    registry: str, repository: str, tag: str | None
) -> None:
    with pytest.raises(InvalidReference):
        Reference(registry, repository, tag)


PIECES = st.sampled_from(
    [
        "a",
        "B",
        "0",
        "_",
        "__",
        "-",
        ".",
        "/",
        ":",
        "@",
        "5000",
        "docker.io",
        "localhost",
        "::1",
        "[",
        "]",
        "sha256:",
        HEX,
        "\n",
        " ",
        "\u00e9",
        "%",
        "library/",
        "index.",
    ]
)
NEARLY = st.lists(PIECES, max_size=12).map("".join)


@given(st.one_of(NEARLY, st.text(max_size=60)))
def test_any_text_is_a_valid_or_invalid_reference(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    again = Reference.parse(str(reference))
    assert str(again) == str(reference)
    assert again.identity == reference.identity
    assert again.name == reference.name
    if reference.tag or reference.digest:
        assert again == reference
    reference.endpoint_problem()


@pytest.mark.parametrize("piece", ["a", "a-", "a.", "-", "_", "a/", "a:", "a@", ".a", "[:", "A"])
def test_long_reference_is_parsed_quickly(piece: str) -> None:
    text = (piece * 4096)[:4095]
    start = time.perf_counter()
    for candidate in (text, f"{text}!", f"r.io/{text}"[:4096], f"{text}/x"[-4096:]):
        try:
            Reference.parse(candidate)
        except InvalidReference:
            continue
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("text", ["${IMAGE}", "app/${NAME}:1", "app/Name-"])
def test_lower_case_is_suggested_only_where_it_helps(text: str) -> None:
    error = refusal(text)
    assert error.reason == "repository name must be lowercase"
    assert error.hints() == ()
