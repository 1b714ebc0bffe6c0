"""Searching a scripted Docker Hub and other registries, and quotas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.target import parse_target
from resolver.core.results.account import Quota, SearchFilters, SearchHit, read_limit
from resolver.errors import (
    BadDocument,
    Denied,
    InvalidReference,
    NotFound,
    ServerFault,
    Unavailable,
    Usage,
)
from resolver.session import Session
from tests.kit.images import build_image
from tests.kit.messages import Reply
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON = {"Content-Type": "application/json"}
RESULTS = {
    "num_results": 3,
    "query": "nginx",
    "results": [
        {
            "name": "nginx",
            "description": "Official build of Nginx.",
            "star_count": 19000,
            "is_official": True,
            "is_automated": False,
        },
        {"name": "bitnami/nginx", "description": None, "star_count": 180, "is_official": False},
        {"name": "evil/nginx", "description": "\x1b[31m::error::x", "star_count": 0},
    ],
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    """Docker Hub's search API at another address."""
    with FakeRegistry() as fake:
        monkeypatch.setattr("resolver.sources.registry.search.HUB_INDEX", fake.host)
        yield fake


def reply(document: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, {**JSON, **headers}, json.dumps(document).encode())


def test_search_of_docker_hub(hub: FakeRegistry, tmp_path: Path) -> None:
    hub.on("GET", "/v1/search", reply(RESULTS))
    with Session(tmp_path) as session:
        found = session.search("nginx & co", limit=3)

    assert hub.log[0].raw_target == "/v1/search?q=nginx%20%26%20co&n=3"
    assert found.hits[:2] == (
        SearchHit("nginx", "Official build of Nginx.", 19000, is_official=True),
        SearchHit("bitnami/nginx", "", 180, is_official=False),
    )
    assert (found.registry, found.by) == ("docker.io", "search")


def test_search_results_are_filtered(hub: FakeRegistry, tmp_path: Path) -> None:
    hub.on("GET", "/v1/search", reply(RESULTS))
    with Session(tmp_path) as session:
        for texts, names in (
            (["stars=100"], ["nginx", "bitnami/nginx"]),
            (["is-official=true"], ["nginx"]),
            (["is-official=false", "stars=1"], ["bitnami/nginx"]),
        ):
            found = session.search("nginx", filters=SearchFilters.parse(texts))
            assert [hit.name for hit in found.hits] == names


@pytest.mark.parametrize("text", ["stars", "stars=many", "stars=-1", "is-official=maybe", "x=1"])
def test_search_rejects_invalid_filters(text: str) -> None:
    with pytest.raises(Usage, match="is not a search filter"):
        SearchFilters.parse([text])


def test_search_reports_an_unexpected_docker_hub_answer(hub: FakeRegistry, tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        hub.on("GET", "/v1/search", Reply(404), times=1)
        with pytest.raises(ServerFault, match="404"):
            session.search("nginx")
        hub.on("GET", "/v1/search", reply({"results": "none"}), times=1)
        with pytest.raises(BadDocument, match="results"):
            session.search("nginx")


def test_search_uses_the_search_api_of_a_registry(tmp_path: Path) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        registry.on("GET", "/v1/search", reply(RESULTS))
        found = session.search(f"{registry.host}/nginx")

    assert found.registry == registry.host
    assert len(found.hits) == 3


def test_search_filters_the_catalog_of_a_registry_by_name(tmp_path: Path) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        registry.on("GET", "/v1/search", Reply(404))
        first = reply(
            {"repositories": ["team/app", "other", "Bad Name", 7]},
            Link='</v2/_catalog?last=other&n=100>; rel="next"',
        )
        registry.on("GET", "/v2/_catalog", first, reply({"repositories": ["team/app-two"]}))
        found = session.search(f"{registry.host}/app")

    assert found.by == "catalog"
    assert [hit.name for hit in found.hits] == [
        f"{registry.host}/team/app",
        f"{registry.host}/team/app-two",
    ]


@pytest.mark.parametrize("by", ["search", "catalog"])
def test_search_reads_null_results_as_empty(tmp_path: Path, by: str) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        own = reply({"results": None, "num_results": 0}) if by == "search" else Reply(404)
        registry.on("GET", "/v1/search", own)
        registry.on("GET", "/v2/_catalog", reply({"repositories": None}))
        found = session.search(f"{registry.host}/app")
    assert (found.by, found.hits) == (by, ())


def test_search_reads_no_more_of_a_catalog_than_needed(tmp_path: Path) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        registry.on("GET", "/v1/search", Reply(404))
        page = reply({"repositories": ["app"]}, Link='</v2/_catalog?last=app>; rel="next"')
        registry.on("GET", "/v2/_catalog", page)

        assert len(session.search(f"{registry.host}/app", limit=1).hits) == 1
        assert len(registry.requests("GET", "/v2/_catalog")) == 1
        # A list that leads in a circle has an end too.
        assert len(session.search(f"{registry.host}/app").hits) == 2


@pytest.mark.parametrize(
    "refused",
    [Reply(404), Reply(403), Reply(405), Reply(200, {"Content-Type": "text/html"}, b"<html>")],
)
def test_search_reports_a_registry_without_search_and_catalog(
    tmp_path: Path, refused: Reply
) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        registry.on("GET", "/v1/search", Reply(404))
        registry.on("GET", "/v2/_catalog", refused)
        with pytest.raises(NotFound, match="no search") as caught:
            session.search(f"{registry.host}/app")
        assert caught.value.code == "search-not-offered"


@pytest.mark.parametrize("term", ["", "  ", "ghcr.io/", "x" * 257])
def test_search_requires_a_query(tmp_path: Path, term: str) -> None:
    with Session(tmp_path) as session, pytest.raises(Usage, match="nothing to search for"):
        session.search(term)


def test_search_offline_sends_no_request(tmp_path: Path) -> None:
    with Session(tmp_path, offline=True) as session:
        for ask in (lambda: session.search("nginx"), session.quota):
            with pytest.raises(Usage, match="needs a registry"):
                ask()


def test_quota_shows_the_remaining_limit(tmp_path: Path) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        registry.serve("app", "1", build_image())
        limits = {
            "RateLimit-Limit": "100;w=21600",
            "RateLimit-Remaining": "76;w=21600",
            "Docker-RateLimit-Source": "192.0.2.7",
        }
        registry.on("HEAD", "/v2/app/manifests/1", Reply(200, limits), times=1)
        message = session.quota(f"{registry.host}/app:1")
        unsaid = session.quota(f"{registry.host}/app:1")

    assert message == Quota(registry.host, 100, 76, 21600, "192.0.2.7")
    assert unsaid == Quota(registry.host, None, None, None, "")
    assert [seen.method for seen in registry.log] == ["HEAD", "HEAD"]


def test_quota_requires_a_registry_and_credentials(tmp_path: Path) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        with pytest.raises(Usage, match="only registries have quotas"):
            session.quota("oci:/tmp/x")
        registry.on("HEAD", "/v2/app/manifests/1", Reply(403))
        with pytest.raises(Denied):
            session.quota(f"{registry.host}/app:1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100;w=21600", (100, 21600)),
        (" 100 ; W = 60 ;x=1", (100, 60)),
        ("100", (100, None)),
        ("many;w=x", (None, None)),
        ("", (None, None)),
        ("٣;w=1", (None, 1)),
    ],
)
def test_quota_headers_are_parsed_leniently(
    text: str, expected: tuple[int | None, int | None]
) -> None:
    assert read_limit(text) == expected


@pytest.mark.parametrize("ending", ["", " "])
def test_search_of_a_host_lists_its_repositories_without_docker_hub(
    hub: FakeRegistry, tmp_path: Path, ending: str
) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        registry.on("GET", "/v2/_catalog", reply({"repositories": ["team/app", "x"]}))

        found = session.search(f"{registry.host}{ending}")

        assert [hit.name for hit in found.hits] == [
            f"{registry.host}/team/app",
            f"{registry.host}/x",
        ]
        assert [seen.path.partition("?")[0] for seen in registry.requests()] == ["/v2/_catalog"]
    assert hub.requests() == []


@pytest.mark.parametrize(
    "term",
    [
        "app registry.corp:5000",
        "registry.corp:5000 app",
        "registry.corp:port",
        "https://registry.corp",
        "team/app registry.corp",
        "MYREG/ app",
    ],
)
def test_search_never_sends_a_host_name_to_docker_hub(
    hub: FakeRegistry, tmp_path: Path, term: str
) -> None:
    with Session(tmp_path) as session, pytest.raises((Usage, InvalidReference, Unavailable)):
        session.search(term)

    assert hub.requests() == []


def test_search_words_with_a_dot_go_to_docker_hub_when_named(
    hub: FakeRegistry, tmp_path: Path
) -> None:
    hub.on("GET", "/v1/search", reply(RESULTS))
    with Session(tmp_path) as session:
        assert session.search("docker.io/node.js").registry == "docker.io"
        with pytest.raises(Unavailable) as caught:
            session.search("node.js")

    assert "docker.io/node.js" in caught.value.hints()[-1]
    assert len(hub.requests()) == 1


@pytest.mark.parametrize(
    "text", ["registry.corp:5000", "registry.corp", "127.0.0.1:5000", "localhost:5000"]
)
def test_host_without_a_repository_is_rejected_with_a_hint(text: str, tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        for ask in (session.quota, session.resolve, session.platforms):
            with pytest.raises(InvalidReference) as caught:
                ask(text)
            assert f"`{text}/NAME`" in caught.value.hints()[0]


def test_quota_accepts_a_docker_hub_repository_with_a_dot() -> None:
    target = parse_target("docker.io/library/registry.corp:5000")

    assert str(target) == "docker.io/library/registry.corp:5000"
    assert str(parse_target("localhost")) == "docker.io/library/localhost:latest"


@pytest.mark.parametrize("words", ["", "/app"])
def test_search_requests_the_catalog_scope(words: str, tmp_path: Path) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        tokens = registry.token_server()
        challenge = f'Bearer realm="{registry.url}/token",scope="repository:all:*"'
        registry.on("GET", "/v1/search", Reply(404))
        registry.on("GET", "/v2/_catalog", Reply(401, {"WWW-Authenticate": challenge}), times=1)
        registry.on("GET", "/v2/_catalog", reply({"repositories": ["team/app"]}))

        assert len(session.search(f"{registry.host}{words}").hits) == 1
        assert tokens.scopes == [("registry:catalog:*",)]
