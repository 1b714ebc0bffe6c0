"""Listing referrers of a manifest, with and without the API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.digest import Digest, fallback_tag
from resolver.core.results.events import Warned
from resolver.errors import (
    AuthenticationRequired,
    BadDocument,
    LimitExceeded,
    ManifestNotFound,
    RateLimited,
    RepositoryNotFound,
    ServerFault,
)
from resolver.sources.registry import lists as module
from tests.kit.clients import ENGINES, source
from tests.kit.content import problem
from tests.kit.images import build_image, from_dict
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from resolver.core.results.events import Event

SUBJECT = Digest.parse(build_image().digest)
LIST = f"/v2/team/app/referrers/{SUBJECT}"
TAG = f"/v2/team/app/manifests/{str(SUBJECT).replace(':', '-')}"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SBOM, SIGNATURE = "application/spdx+json", "application/vnd.dev.cosign.artifact.sig.v1+json"


def one(number: int, artifact_type: str | None = SBOM) -> dict[str, object]:
    """Return the descriptor of a manifest that is not served."""
    described = {
        "mediaType": MANIFEST,
        "digest": str(Digest.of(str(number).encode())),
        "size": 100 + number,
    }
    return described if artifact_type is None else {**described, "artifactType": artifact_type}


def index(*entries: object, kind: str = INDEX, link: str | None = None, status: int = 200) -> Reply:
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    headers = {"Content-Type": kind} | ({"Link": link} if link is not None else {})
    return Reply(status, headers, json.dumps(body).encode())


def answer(registry: FakeRegistry, *replies: Reply) -> None:
    """Let the registry answer requests for the list, each once and in this order."""
    registry.on("GET", LIST, *replies, times=len(replies))


def listed(
    registry: FakeRegistry,
    artifact_type: str | None = None,
    events: list[Event] | None = None,
    engine: str = "",
) -> list[int]:
    """List referrers; entries are identified by the sizes from `one`."""
    with source(registry.host, events=events, engine=engine) as app:
        return sorted(entry.size - 100 for entry in app.referrers(SUBJECT, artifact_type))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [INDEX, f"{INDEX}; charset=utf-8", INDEX.upper()])
def test_referrers_api_is_requested_once(registry: FakeRegistry, kind: str, engine: str) -> None:
    registry.on("GET", LIST, index(one(2), one(1), kind=kind))

    assert listed(registry, engine=engine) == [1, 2]
    (seen,) = registry.log
    assert seen.raw_target == LIST
    assert seen.headers["accept"] == INDEX


@pytest.mark.parametrize("manifests", [None, []])
def test_null_referrers_are_an_empty_list(registry: FakeRegistry, manifests: object) -> None:
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": None}
    answer(registry, Reply(200, {"Content-Type": INDEX}, json.dumps(body).encode()))
    assert listed(registry) == []
    assert len(registry.log) == 1


def test_referrers_are_sorted_by_digest_without_duplicates(registry: FakeRegistry) -> None:
    registry.on("GET", LIST, index(one(3), one(1), one(3), one(2)))
    with source(registry.host) as app:
        found = app.referrers(SUBJECT)

    assert [str(entry.digest) for entry in found] == sorted(
        str(Digest.of(str(number).encode())) for number in (1, 2, 3)
    )


@pytest.mark.parametrize("filtered", [True, False])
def test_referrers_type_is_requested_and_filtered(registry: FakeRegistry, filtered: bool) -> None:
    entries = [one(1)] if filtered else [one(1), one(2, SIGNATURE)]
    registry.on("GET", LIST, index(*entries))

    assert listed(registry, SBOM) == [1]
    assert registry.log[0].raw_target == f"{LIST}?artifactType=application%2Fspdx%2Bjson"


def test_referrer_without_a_type_has_its_config_type(registry: FakeRegistry) -> None:
    config = {"mediaType": "application/vnd.example.config", "digest": str(SUBJECT), "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
    held = from_dict(manifest)
    output = from_dict({**manifest, "artifactType": SBOM})
    other = {"mediaType": INDEX, "digest": str(SUBJECT), "size": 3}
    entries = [
        {"mediaType": MANIFEST, "digest": each.digest, "size": each.size} for each in (held, output)
    ]
    for each in (held, output):
        registry.serve("team/app", None, each)
    registry.on("GET", LIST, index(*entries, other))

    with source(registry.host) as app:
        for kind, expected in ((config["mediaType"], held), (SBOM, output)):
            (found,) = app.referrers(SUBJECT, str(kind))
            assert str(found.digest) == expected.digest
        assert app.referrers(SUBJECT, "application/x") == ()


def test_referrers_pages_follow_the_link(registry: FakeRegistry) -> None:
    answer(
        registry,
        index(one(1), link=f'<{LIST}?artifactType=a%2Fb&p=2>; rel="next"'),
        index(one(2), link='<?p=3>; rel="next"'),
        index(one(3)),
    )

    assert listed(registry) == [1, 2, 3]
    assert [seen.raw_target for seen in registry.log] == [
        LIST,
        f"{LIST}?artifactType=a%2Fb&p=2",
        f"{LIST}?p=3",
    ]


def test_circular_referrers_pages_end(registry: FakeRegistry) -> None:
    registry.on("GET", LIST, index(one(1), link=f'<{LIST}?p=2>; rel="next"'), times=2)
    events: list[Event] = []

    assert listed(registry, events=events) == [1]
    assert [event.code for event in events if isinstance(event, Warned)] == ["referrers"]


def test_empty_referrers_pages_end_at_the_limit(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EMPTY_PAGES", 2)
    answer(registry, *(index(link=f'<{LIST}?p={page}>; rel="next"') for page in range(3)))

    assert listed(registry) == []


def test_number_of_referrers_pages_is_limited(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    pages = [index(one(page), link=f'<{LIST}?p={page}>; rel="next"') for page in range(2)]
    answer(registry, *pages)
    with pytest.raises(LimitExceeded, match="2 pages: more"):
        listed(registry)
    answer(registry, pages[0], index(one(1)))
    assert listed(registry) == [0, 1]


def test_number_of_referrers_is_limited(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REFERRERS", 2)
    answer(registry, index(one(1), one(2)))
    assert listed(registry) == [1, 2]
    answer(registry, index(one(1), one(2), one(3)))
    with pytest.raises(LimitExceeded, match="2 entries: 3"):
        listed(registry)
    answer(registry, Reply(404))
    registry.on("GET", TAG, index(one(1), one(2), one(3)))
    with pytest.raises(LimitExceeded, match="2 entries: 3"):
        listed(registry)


@pytest.mark.parametrize("link", ["https://elsewhere.test/v2/x", "/outside", "http://["])
def test_referrers_page_on_another_host_is_not_requested(registry: FakeRegistry, link: str) -> None:
    registry.on("GET", LIST, index(one(1), link=f'<{link}>; rel="next"'))
    with pytest.raises(ServerFault, match="the next page of the list of referrers of"):
        listed(registry)


def test_invalid_later_referrers_page_is_an_error(registry: FakeRegistry) -> None:
    for reply, error in ((Reply(404), ManifestNotFound), (index(kind="text/html"), BadDocument)):
        answer(registry, index(one(1), link=f'<{LIST}?p=2>; rel="next"'), reply)
        with pytest.raises(error):
            listed(registry)


# Answers of a registry without the API. Source: docs/wire-protocol.md, "Referrers".
NO_API = {
    "404": Reply(404, {"Content-Type": "text/plain"}, b"404 page not found\n"),
    "404 of the manifest": problem(404, "MANIFEST_UNKNOWN"),
    "400": problem(400, "UNSUPPORTED"),
    "405": Reply(405),
    "406": Reply(406),
    "a front page": Reply(200, {"Content-Type": "text/html"}, b"<html>"),
    "JSON of another type": index(kind="application/json"),
    "no index": Reply(200, {"Content-Type": INDEX}, b'{"schemaVersion": 2, "layers": []}'),
    "no JSON": Reply(200, {"Content-Type": INDEX}, b"<html>"),
    "compressed": Reply(200, {"Content-Type": INDEX, "Content-Encoding": "gzip"}, b"\x1f\x8b"),
    "a redirect elsewhere": Reply(303, {"Location": "https://github.invalid/x"}),
    "a redirect to nowhere": Reply(302),
    "a redirect that is none": Reply(304),
}


@pytest.mark.parametrize("reply", NO_API.values(), ids=NO_API)
def test_referrers_tag_is_used_without_the_api(registry: FakeRegistry, reply: Reply) -> None:
    registry.on("GET", LIST, reply)
    registry.on("GET", TAG, index(one(1), one(2, SIGNATURE)), times=3)

    with source(registry.host) as app:
        for kind, count in ((None, 2), (SBOM, 1), (SIGNATURE, 1)):
            assert len(app.referrers(SUBJECT, kind)) == count
    assert len(registry.requests("GET", "/referrers/")) == 1


def test_missing_referrers_tag_means_no_referrers(registry: FakeRegistry) -> None:
    registry.on("GET", LIST, Reply(404))
    registry.on("GET", TAG, problem(404, "MANIFEST_UNKNOWN"))

    assert listed(registry) == []


@pytest.mark.parametrize("what", ["the subject itself", "a docker list", "nonsense"])
def test_invalid_referrers_tag_is_skipped_with_a_warning(registry: FakeRegistry, what: str) -> None:
    image = build_image()
    docker = "application/vnd.docker.distribution.manifest.list.v2+json"
    body = {"schemaVersion": 2, "mediaType": docker, "manifests": [one(1)]}
    replies = {
        "the subject itself": Reply(200, {"Content-Type": image.media_type}, image.body),
        "a docker list": Reply(200, {"Content-Type": docker}, json.dumps(body).encode()),
        "nonsense": Reply(200, {"Content-Type": INDEX}, b"{}"),
    }
    registry.on("GET", LIST, Reply(404))
    registry.on("GET", TAG, replies[what])
    events: list[Event] = []

    assert listed(registry, events=events) == []
    (event,) = [event for event in events if isinstance(event, Warned)]
    assert "is not a list of referrers of" in event.message


def test_referrers_redirect_on_the_same_host_is_followed(registry: FakeRegistry) -> None:
    registry.on("GET", LIST, Reply(307, {"Location": "/v2/team/app/other"}))
    registry.on("GET", "/v2/team/app/other", index(one(1)))

    assert listed(registry) == [1]


def test_hidden_referrers_are_not_an_empty_list(registry: FakeRegistry) -> None:
    for reply, error in (
        (problem(401, "UNAUTHORIZED"), AuthenticationRequired),
        (problem(403, "DENIED"), AuthenticationRequired),
        (Reply(429, {"Retry-After": "9999"}), RateLimited),
        (problem(404, "NAME_UNKNOWN"), RepositoryNotFound),
        (Reply(451), ServerFault),
    ):
        answer(registry, reply)
        with pytest.raises(error):
            listed(registry)
    assert registry.requests("GET", TAG) == []


def test_referrers_tag_of_a_digest() -> None:
    assert fallback_tag(Digest.parse("sha256:" + "a" * 64)) == "sha256-" + "a" * 64
    assert fallback_tag(Digest.parse("sha512:" + "b" * 128)) == "sha512-" + "b" * 64


@given(st.lists(st.integers(0, 9)), st.sampled_from([SBOM, SIGNATURE, None]))
def test_referrers_do_not_depend_on_their_order(numbers: list[int], kind: str | None) -> None:
    with FakeRegistry() as registry:
        entries = [one(number, SIGNATURE if number % 2 else SBOM) for number in numbers]
        registry.on("GET", LIST, index(*entries))
        expected = {number for number in numbers if kind in (None, [SBOM, SIGNATURE][number % 2])}
        assert listed(registry, kind) == sorted(expected)
