"""Tag lists of registries with different paging."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.results.events import Warned
from resolver.errors import (
    AuthenticationRequired,
    BadDocument,
    LimitExceeded,
    RepositoryNotFound,
    ServerFault,
)
from resolver.sources.registry import lists as module
from resolver.sources.registry.lists import next_link
from tests.kit.clients import ENGINES, source
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from resolver.core.results.events import Event
    from tests.kit.registry import Seen

LIST = "/v2/team/app/tags/list"
IMAGE = build_image()


def page(*tags: object, link: str | None = None, status: int = 200) -> Reply:
    headers = {"Content-Type": "application/json"}
    if link is not None:
        headers["Link"] = link
    return Reply(status, headers, json.dumps({"name": "team/app", "tags": tags}).encode())


def listed(registry: FakeRegistry, events: list[Event] | None = None) -> list[str]:
    with source(registry.host, events=events) as app:
        return list(app.tags())


@pytest.mark.parametrize("engine", ENGINES)
def test_pages_are_followed_lazily(engine: str, registry: FakeRegistry) -> None:
    for number in range(7):
        registry.serve("team/app", f"t{number}", IMAGE)
    registry.shelves.page_size = 3
    with source(registry.host, engine=engine) as app:
        tags = app.tags()
        assert [next(tags) for _ in range(3)] == ["t0", "t1", "t2"]
        assert len(registry.log) == 1
        assert list(tags) == ["t3", "t4", "t5", "t6"]
    assert len(registry.log) == 3
    assert registry.log[0].raw_target == f"{LIST}?n=1000"


def test_tags_keep_the_registry_order(registry: FakeRegistry) -> None:
    registry.on("GET", LIST, page("b", "A", "a", "b", "10", "9"))
    assert listed(registry) == ["b", "A", "a", "10", "9"]


@pytest.mark.parametrize("body", [b'{"name":"x","tags":null}', b'{"name":"x"}', b'{"tags":[]}'])
def test_empty_tag_list_is_accepted(registry: FakeRegistry, body: bytes) -> None:
    registry.on("GET", LIST, Reply(headers={"Content-Type": "application/json"}, body=body))
    assert listed(registry) == []


@pytest.mark.parametrize("tags", [[1], [True], [{}], [["a"]], [1.5]])
def test_tag_that_is_not_text_is_malformed(registry: FakeRegistry, tags: list[object]) -> None:
    registry.on("GET", LIST, page("ok", *tags))
    with pytest.raises(BadDocument) as caught:
        listed(registry)
    assert caught.value.field == "tags[1]"


@pytest.mark.parametrize("tags", ["text", {"a": 1}, 7])
def test_tag_list_that_is_not_a_list_is_malformed(registry: FakeRegistry, tags: object) -> None:
    body = json.dumps({"tags": tags}).encode()
    registry.on("GET", LIST, Reply(headers={"Content-Type": "application/json"}, body=body))
    with pytest.raises(BadDocument, match="tags"):
        listed(registry)


def test_invalid_tag_is_skipped_with_a_warning(registry: FakeRegistry) -> None:
    events: list[Event] = []
    odd = (None, "sha256:" + "0" * 64, "../x", "", "a b", "t\n", "\x1b[2J", "x" * 129, ".x", "é")
    registry.on("GET", LIST, page("ok", *odd, "fine"))
    assert listed(registry, events) == ["ok", "fine"]
    assert [event.code for event in events if isinstance(event, Warned)] == ["tags"]
    assert "10 invalid tags" in str(events[0])


def test_link_query_is_used_unchanged(registry: FakeRegistry) -> None:
    # Quay's opaque token; `n` may be gone.
    token = "gAAAAABh%2Fx+y==&z"
    registry.on("GET", f"{LIST}?n=1000", page("a", link=f'<{LIST}?next_page={token}>; rel="next"'))
    registry.on("GET", f"{LIST}?next_page={token}", page("b"))
    assert listed(registry) == ["a", "b"]
    assert registry.log[1].raw_target == f"{LIST}?next_page={token}"


def test_next_page_link_may_be_absolute_or_relative(registry: FakeRegistry) -> None:
    registry.on(
        "GET", f"{LIST}?n=1000", page("a", link=f'<{registry.url}{LIST}?last=a>; rel="next"')
    )
    registry.on("GET", f"{LIST}?last=a", page("b", link='<?last=b>; rel="next"'))
    registry.on("GET", f"{LIST}?last=b", page("c", link='<list?last=c>; rel="next"'))
    registry.on("GET", f"{LIST}?last=c", page("d"))
    assert listed(registry) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("status", [400, 404])
def test_link_to_another_path_is_corrected_once(registry: FakeRegistry, status: int) -> None:
    # Artifactory drops the key of the repository: docs/wire-protocol.md, "Next page links".
    registry.on("GET", f"{LIST}?n=1000", page("a", link='</v2/app/tags/list?last=a>; rel="next"'))
    registry.on("GET", "/v2/app/tags/list", Reply(status))
    registry.on("GET", f"{LIST}?last=a", page("b"))
    assert listed(registry) == ["a", "b"]


@pytest.mark.parametrize(
    "link",
    [
        "<{evil}/v2/team/app/tags/list?last=a>; rel=next",
        "<//{evil_host}/v2/x>; rel=next",
        "<file:///etc/passwd>; rel=next",
        "<http://user:pw@{host}/v2/x>; rel=next",
        "</admin?last=a>; rel=next",
        "</v2/../admin>; rel=next",
        "</v2/%2e%2E/admin>; rel=next",
        "</v2/.%2e/admin>; rel=next",
        "</v2/%2e/list>; rel=next",
        "<http://{host}/v2/..?last=2>; rel=next",
        "<http://169.254.169.254/v2/x>; rel=next",
        "<>; rel=next",
    ],
)
def test_link_to_another_host_is_not_followed(registry: FakeRegistry, link: str) -> None:
    with FakeRegistry() as evil:
        text = link.format(evil=evil.url, evil_host=evil.host, host=registry.host)
        registry.on("GET", LIST, page("a", link=text))
        with pytest.raises(ServerFault, match="next page") as caught:
            listed(registry)
        assert evil.log == []
        assert "pw" not in str(caught.value)
    assert len(registry.log) == 1


def test_repeated_link_ends(registry: FakeRegistry) -> None:
    events: list[Event] = []
    registry.on("GET", LIST, page("a", link=f'<{LIST}?last=a>; rel="next"'))
    assert listed(registry, events) == ["a"]
    assert len(registry.log) == 2
    assert any("loop" in str(event) for event in events)


def test_new_links_without_new_tags_end(registry: FakeRegistry) -> None:
    counter = iter(range(1_000_000))

    def more(_seen: Seen) -> Reply:
        return page("a", link=f'<{LIST}?last={next(counter)}>; rel="next"')

    registry.on("GET", LIST, more)
    assert listed(registry) == ["a"]
    assert len(registry.log) <= module.MAX_EMPTY_PAGES + 2


def test_empty_pages_with_a_link_are_legal(registry: FakeRegistry) -> None:
    registry.on("GET", f"{LIST}?n=1000", page(link=f'<{LIST}?last=x>; rel="next"'))
    registry.on("GET", f"{LIST}?last=x", page("b"))
    assert listed(registry) == ["b"]


def test_pages_and_tags_are_limited(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = iter(range(1_000_000))

    def more(_seen: Seen) -> Reply:
        number = next(counter)
        return page(f"t{number}", link=f'<{LIST}?last={number}>; rel="next"')

    registry.on("GET", LIST, more)
    monkeypatch.setattr(module, "MAX_PAGES", 5)
    with pytest.raises(LimitExceeded, match="5 pages"):
        listed(registry)
    monkeypatch.setattr(module, "MAX_PAGES", 1_000)
    monkeypatch.setattr(module, "MAX_TAGS", 3)
    with pytest.raises(LimitExceeded, match="3 tags"):
        listed(registry)


def test_tags_are_counted_as_they_arrive(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.on("GET", LIST, page("a", "b", "b", "c", "d", "e"))
    monkeypatch.setattr(module, "MAX_TAGS", 5)
    with source(registry.host) as app, pytest.raises(LimitExceeded, match="5 tags: 6"):
        for _ in app.tags():
            pass
    monkeypatch.setattr(module, "MAX_TAGS", 6)
    assert listed(registry) == ["a", "b", "c", "d", "e"]
    monkeypatch.setattr(module, "MAX_NAMES", 5)
    assert len(listed(registry)) == 5
    monkeypatch.setattr(module, "MAX_NAMES", 4)
    with source(registry.host) as app:
        tags = app.tags()
        assert [next(tags) for _ in range(4)] == ["a", "b", "c", "d"]
        with pytest.raises(LimitExceeded, match="4 bytes: 5"):
            next(tags)


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_large_page_is_read_like_a_small_one(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """As GCR answers: everything in one page, with a map of manifests beside."""
    names = [f"v1.{number}" for number in range(50)]
    body = {
        "child": [],
        "manifest": {f"sha256:{number:064}": {"tag": ["]", '"'], "n": [{}]} for number in range(9)},
        "name": "team/app",
        "tags": [*names, None, "no tag", "v1.1"],
    }
    reply = Reply(headers={"Content-Type": "application/json"}, body=json.dumps(body).encode())
    registry.on("GET", LIST, reply)
    monkeypatch.setattr(module, "MAX_WHOLE", limit)
    events: list[Event] = []

    assert listed(registry, events) == names
    assert ["2 invalid tags" in event.message for event in events if isinstance(event, Warned)] == [
        True
    ]


def test_tag_page_above_the_size_limit_is_refused(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.MAX_PAGE == 33_554_432
    monkeypatch.setattr("resolver.sources.registry.lists.MAX_PAGE", 100)
    registry.on("GET", LIST, page("x" * 100))

    with pytest.raises(LimitExceeded, match="100 bytes"):
        listed(registry)


def test_web_page_is_not_a_tag_list(registry: FakeRegistry) -> None:
    page_ = Reply(headers={"Content-Type": "text/html"}, body=b"<html>please log in</html>")
    registry.on("GET", LIST, page_)
    with pytest.raises(ServerFault, match="other than a tag list"):
        listed(registry)


def test_tag_list_without_a_content_type_is_read(registry: FakeRegistry) -> None:
    registry.on("GET", LIST, Reply(body=b'{"tags": ["a"]}'))
    assert listed(registry) == ["a"]


def test_compressed_tag_list_is_refused(registry: FakeRegistry) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    registry.on("GET", LIST, Reply(headers=headers, body=b"\x1f\x8b"))
    with pytest.raises(ServerFault, match="compressed"):
        listed(registry)


def test_missing_repository_is_reported(registry: FakeRegistry) -> None:
    with pytest.raises(RepositoryNotFound, match="team/app"):
        listed(registry)


def test_denied_tag_list_is_not_a_missing_repository(registry: FakeRegistry) -> None:
    registry.on("GET", LIST, Reply(403, {}, b'{"errors":[{"code":"DENIED","message":"no"}]}'))
    with pytest.raises(AuthenticationRequired):
        listed(registry)


def test_redirected_tag_list_continues_at_the_registry(registry: FakeRegistry) -> None:
    with FakeRegistry() as other:
        registry.redirect(f"{LIST}", f"{other.url}{LIST}?n=1000", times=1)
        other.on("GET", LIST, page("a", link=f'<{LIST}?last=a>; rel="next"'))
        registry.on("GET", f"{LIST}?last=a", page("b"))
        assert listed(registry) == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (['</a>; rel="next"'], "/a"),
        (["</a>; rel=next"], "/a"),
        (["</a>; rel=NEXT"], "/a"),
        (['</a>;rel="prev next"'], "/a"),
        (['</a>; title="a, b; rel=x"; rel="next"'], "/a"),
        (['</a>; rel="prev", </b>; rel="next"'], "/b"),
        (['</a>; rel="prev"', '</b>; rel="next"'], "/b"),
        (['</a?x=1,2;3>; rel="next"'], "/a?x=1,2;3"),
        (["/v2/x?last=a; rel=next"], "/v2/x?last=a"),
        (['</a>; rel="nextish"'], None),
        (["</a>"], None),
        (["garbage"], None),
        (["<"], None),
        (["<" * 20_000], None),
        (['</a>; rel="unclosed'], None),
    ],
)
def test_link_headers_are_parsed_leniently(lines: list[str], expected: str | None) -> None:
    assert next_link(lines) == expected


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_link_header_is_read_or_ignored(lines: list[str]) -> None:
    found = next_link(lines)
    assert found is None or isinstance(found, str)
