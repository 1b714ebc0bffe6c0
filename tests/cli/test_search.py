"""Output of `resolver search` and `quota`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from tests.kit.messages import Reply
from tests.kit.registry import FakeRegistry
from tests.verbs.test_search import RESULTS, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        monkeypatch.setattr("resolver.sources.registry.search.HUB_INDEX", fake.host)
        fake.on("GET", "/v1/search", reply(RESULTS))
        yield fake


@pytest.mark.usefixtures("hub")
def test_search_table_has_the_columns_of_docker(run: Run) -> None:
    assert str(run("search", "nginx")) == snapshot("""\
status: 0
--- stdout
NAME           DESCRIPTION               STARS  OFFICIAL
nginx          Official build of Nginx.  19000  [OK]
bitnami/nginx  -                           180  -
evil/nginx     \\x1b[31m::error::x            0  -
--- stderr
""")
    output = json.loads(run("search", "nginx", "--json").stdout)
    assert [hit["name"] for hit in output["hits"]] == ["nginx", "bitnami/nginx", "evil/nginx"]


@pytest.mark.usefixtures("hub")
def test_search_rejects_invalid_queries(run: Run) -> None:
    assert run("search", "nginx", "--filter", "stars=x").status == 2
    assert run("search", "nginx", "--limit", "101").status == 2
    assert run("search", "nginx", "--format", "digest").status == 2


def test_search_of_a_catalog_returns_names_only(run: Run) -> None:
    with FakeRegistry() as registry:
        registry.on("GET", "/v1/search", Reply(404))
        registry.on("GET", "/v2/_catalog", reply({"repositories": ["team/app", "x"]}))
        assert str(run("search", f"{registry.host}/app")) == snapshot("""\
status: 0
--- stdout
NAME
HOST:PORT/team/app
--- stderr
""")


def test_search_of_a_registry_without_search(run: Run) -> None:
    with FakeRegistry() as registry:
        registry.on("GET", "/v1/search", Reply(404))
        registry.on("GET", "/v2/_catalog", Reply(401))
        assert str(run("search", f"{registry.host}/app")) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT` has no search, and does not list its repositories
hint: look on its web page; `resolver tags REPO` lists the tags of a name you know
""")


def test_quota_output(run: Run) -> None:
    with FakeRegistry() as registry:
        limits = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}
        registry.on("HEAD", "/v2/a/manifests/1", Reply(200, limits), Reply(200), Reply(200, limits))
        assert str(run("quota", f"{registry.host}/a:1")) == snapshot("""\
status: 0
--- stdout
registry HOST:PORT
limit    100 pulls in 6 h
left     76
--- stderr
""")
        assert str(run("quota", f"{registry.host}/a:1")) == snapshot("""\
status: 0
--- stdout
registry HOST:PORT
limit    not reported
--- stderr
""")
        output = json.loads(run("quota", f"{registry.host}/a:1", "--json").stdout)
        assert (output["limit"], output["remaining"], output["window"]) == (100, 76, 21600)
