"""Targets: references, and prefixes of local places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.reference import Reference
from resolver.core.oci.target import (
    LayoutTarget,
    RegistryTarget,
    StoreTarget,
    Target,
    parse_target,
)
from resolver.errors import InvalidReference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ubuntu", RegistryTarget(Reference.parse("ubuntu"))),
        ("docker://ubuntu:1", RegistryTarget(Reference.parse("ubuntu:1"))),
        ("docker://oci:1", RegistryTarget(Reference.parse("oci:1"))),
        ("docker://store:5000/x", RegistryTarget(Reference.parse("store:5000/x"))),
        ("oci", RegistryTarget(Reference.parse("oci"))),
        ("store:ubuntu", StoreTarget(Reference.parse("ubuntu"))),
        ("oci:dir", LayoutTarget("oci", "dir", None)),
        ("oci:dir:1.2", LayoutTarget("oci", "dir", "1.2")),
        ("oci:./a b/\u00e9:tag", LayoutTarget("oci", "./a b/\u00e9", "tag")),
        ("oci:a:b/c", LayoutTarget("oci", "a:b/c", None)),
        ("oci:a:b/c:d", LayoutTarget("oci", "a:b/c", "d")),
        ("oci:/abs/dir/", LayoutTarget("oci", "/abs/dir/", None)),
        (f"oci:dir@{DIGEST}", LayoutTarget("oci", "dir", DIGEST)),
        ("oci:user@host/dir", LayoutTarget("oci", "user@host/dir", None)),
        ("oci:user@host:tag", LayoutTarget("oci", "user@host", "tag")),
        ("oci:C:\\x:tag", LayoutTarget("oci", "C:\\x", "tag")),
        ("oci:C:\\x", LayoutTarget("oci", "C:\\x", None)),
        ("oci:C:/x", LayoutTarget("oci", "C:/x", None)),
        ("oci:C:/x:tag", LayoutTarget("oci", "C:/x", "tag")),
        ("oci-layout:///srv/l:tag", LayoutTarget("oci", "/srv/l", "tag")),
        ("oci-layout://rel", LayoutTarget("oci", "rel", None)),
        ("oci-archive:a.tar", LayoutTarget("oci-archive", "a.tar", None)),
        ("oci-archive:a.tar:1", LayoutTarget("oci-archive", "a.tar", "1")),
        ("docker-archive:a.tar", LayoutTarget("docker-archive", "a.tar", None)),
        ("docker-archive:a.tar:r/x:1", LayoutTarget("docker-archive", "a.tar", "r/x:1")),
        ("docker-archive:/b.tar:h:5/x:1", LayoutTarget("docker-archive", "/b.tar", "h:5/x:1")),
        ("docker-archive:C:\\b.tar:x:1", LayoutTarget("docker-archive", "C:\\b.tar", "x:1")),
        ("docker-archive:C:/b.tar", LayoutTarget("docker-archive", "C:/b.tar", None)),
    ],
)  # fmt: skip
def test_target_prefix_selects_the_source(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("oci:", "path is missing"),
        ("oci::tag", "path is missing"),
        (f"oci:@{DIGEST}", "path is missing"),
        ("oci-layout://", "path is missing"),
        ("oci-archive:", "path is missing"),
        ("docker-archive:", "path is missing"),
        ("docker-archive::x:1", "path is missing"),
        ("oci:dir:", "not a tag"),
        ("oci:dir:a b", "not a tag"),
        ("oci:dir:" + "t" * 129, "not a tag"),
        ("oci:dir@sha256:xyz", "not a digest"),
        (f"oci:dir:1@{DIGEST}", "tag and a digest"),
        ("oci:a\x00b", "control characters"),
        ("oci:a\nb", "control characters"),
        ("oci:" + "a" * 5000, "more than"),
        ("docker-archive:a.tar:X Y", "blanks"),
        ("docker-archive:a.tar:", "empty"),
        ("store:", "empty"),
        ("store:UPPER", "lowercase"),
        ("docker://", "empty"),
        ("docker://docker://x", "scheme"),
        ("https://r.io/x", "scheme"),
    ],
)
def test_target_without_a_path_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_target(text)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("text", "paths", "path", "name"),
    [
        ("oci:d:docker.io/library/app:v1", {"d"}, "d", "docker.io/library/app:v1"),
        ("oci:/a/d:localhost:5000/app:v1", {"/a/d"}, "/a/d", "localhost:5000/app:v1"),
        ("oci-archive:a.tar:ghcr.io/o/app:v1", {"a.tar"}, "a.tar", "ghcr.io/o/app:v1"),
        ("oci:d:v1,v2", {"d"}, "d", "v1,v2"),
        ("oci:a:b", {"a:b"}, "a:b", None),
        ("oci:a:b:v1", {"a:b"}, "a:b", "v1"),
        ("oci:a:b", {"a", "a:b"}, "a", "b"),
        ("oci:a:b/c:v1", set(), "a:b/c", "v1"),
        (f"oci:a:b@{DIGEST}", {"a"}, None, None),
        ("oci:C:\\x:v1", {"C:\\x"}, "C:\\x", "v1"),
        ("docker-archive:a:b.tar:app:v1", {"a:b.tar"}, "a:b.tar", "app:v1"),
        ("docker-archive:a.tar:app", {"a.tar"}, "a.tar", "app"),
    ],
)
def test_first_colon_after_an_existing_path_ends_the_path(
    text: str, paths: set[str], path: str | None, name: str | None
) -> None:
    if path is None:
        with pytest.raises(InvalidReference, match="tag and a digest"):
            parse_target(text)
        return
    target = parse_target(text)
    assert isinstance(target, LayoutTarget)
    settled = target.settled(paths.__contains__)
    assert (settled.kind, settled.path, settled.name) == (target.kind, path, name)


@pytest.mark.parametrize("kind", ["docker-daemon", "containers-storage"])
@pytest.mark.parametrize(
    "name",
    ["app", "app:1", "localhost/app:1", "ghcr.io/o/app:1", f"app@{DIGEST}", DIGEST, DIGEST[7:]],
)
def test_image_in_an_engine_is_named_as_the_engine_knows_it(kind: str, name: str) -> None:
    target = parse_target(f"{kind}:{name}")

    assert target == LayoutTarget(kind, name, None)
    assert str(target) == f"{kind}:{name}"
    assert isinstance(target, LayoutTarget)
    # A file of that name changes nothing.
    assert target.settled(lambda _path: True) == target


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("docker-daemon:", "the name is missing"),
        ("containers-storage:", "the name is missing"),
        ("docker-daemon:UPPER", "lower"),
        ("containers-storage:../etc", ""),
        ("docker-daemon:app/../../json?all=1", ""),
        ("containers-storage:--help", ""),
        ("containers-storage:[overlay@/var/lib]docker.io/library/app:v1", "in brackets"),
    ],
)
def test_image_in_an_engine_needs_a_name(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_target(text)
    assert reason in caught.value.reason


def test_engine_with_a_port_is_a_host() -> None:
    target = parse_target("docker-daemon:5000/app")

    assert isinstance(target, RegistryTarget)
    assert target.reference.registry == "docker-daemon:5000"


@pytest.mark.parametrize(
    "text",
    [
        "dir:/srv/image",
        "dir:image",
        "ostree:app@/repo",
        "sif:app.sif",
        "tarball:app.tar",
        "containerd:app:v1",
        "ocidir://dir:v1",
    ],
)
def test_transports_of_other_tools_are_named_as_unsupported(text: str) -> None:
    with pytest.raises(InvalidReference, match=r"transport .* is not supported") as caught:
        parse_target(text)
    assert any("`oci-archive:`" in hint for hint in caught.value.hints())


@pytest.mark.parametrize(
    "text", ["docker://dir:1", "dir", "dir:5000/app", "registry:2", "docker:27"]
)
def test_image_named_like_a_transport_can_be_written(text: str) -> None:
    assert parse_target(text) == RegistryTarget(Reference.parse(text.removeprefix("docker://")))


WORDS = "a dir/ : @ tag / \\ C:\\ \u00e9 oci: oci-layout:// oci-archive: docker-archive: store: docker://"
PIECES = st.sampled_from([*WORDS.split(), " ", DIGEST])


@given(st.lists(PIECES, max_size=8).map("".join))
def test_printed_target_is_read_back(text: str) -> None:
    try:
        target = parse_target(text)
    except InvalidReference:
        return
    again = parse_target(str(target))
    assert str(again) == str(target)
    if isinstance(target, LayoutTarget):
        assert again == target
