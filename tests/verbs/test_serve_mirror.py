"""`serve --mirror`: content is fetched once, verified, stored and served."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import Digest
from resolver.core.results.events import Noted, Warned
from resolver.core.results.store import Retention
from resolver.errors import (
    AuthenticationRequired,
    BlobNotFound,
    ConnectionFailed,
    DigestMismatch,
    Malformed,
    RateLimited,
    RepositoryNotFound,
    ResolverError,
    StoreFault,
)
from resolver.session import Session
from resolver.settings import Flags
from resolver.sources.http import retry
from resolver.sources.http.retry import START
from resolver.verbs.serve import shared_fetch
from resolver.verbs.serve.api import Later
from resolver.verbs.serve.mirror import MAX_FETCHES, MAX_QUESTIONS, Unclear, Upstreams, refusal
from resolver.verbs.serve.misses import MAX_MISSES, Busy, Misses
from tests.kit.clients import FakeClock
from tests.kit.images import build_image, build_index, named_by
from tests.kit.pulls import noise
from tests.kit.registry import FakeRegistry, Reply
from tests.kit.serve_client import Response, ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.events import Event
    from resolver.verbs.serve.connections import Peer
    from resolver.verbs.serve.server import Server

LAYER, SMALL = noise(3_000_000), noise(2_000, 1)
IMAGE = build_index([build_image("linux/amd64", [LAYER, SMALL]), build_image("linux/arm64")])
CHILD = IMAGE.children[0]
DIGEST = str(Digest.of(LAYER))
UPSTREAM_BLOB = f"/v2/team/app/blobs/{DIGEST}"
UNKNOWN = "sha256:" + "0" * 64
CONFIG = next(each for each in CHILD.blobs if each not in (DIGEST, str(Digest.of(SMALL))))
REFERRERS = f"/v2/team/app/referrers/{CHILD.digest}"


@dataclass
class MirrorSetup:
    """An upstream, and a store for mirrors of it."""

    upstream: FakeRegistry
    folder: Path
    events: list[Event] = field(default_factory=list)

    @contextmanager
    def mirror(
        self, *, fresh: float = 60.0, offline: bool = False, flags: Flags | None = None
    ) -> Iterator[Server]:
        with (
            Session(
                self.folder / "store",
                environment={"HOME": str(self.folder)},
                flags=flags,
                offline=offline,
                observe=self.events.append,
            ) as session,
            session.serve_mirror(upstream=self.upstream.host, fresh=fresh) as server,
        ):
            yield server

    @contextmanager
    def session(self) -> Iterator[Session]:
        with Session(self.folder / "store", environment={"HOME": str(self.folder)}) as session:
            yield session

    def requested(self, method: str = "GET") -> list[str]:
        return [seen.path.removeprefix("/v2/team/app/") for seen in self.upstream.requests(method)]


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[MirrorSetup]:
    with FakeRegistry() as upstream:
        upstream.serve("team/app", "1", IMAGE)
        yield MirrorSetup(upstream, tmp_path)


def pull(server: Server, tag: str = "1") -> None:
    """Request everything of the amd64 image, as a client does."""
    assert ask(server, f"/v2/team/app/manifests/{tag}").body == IMAGE.body
    assert ask(server, f"/v2/team/app/manifests/{CHILD.digest}").body == CHILD.body
    for digest, body in CHILD.blobs.items():
        got = ask(server, f"/v2/team/app/blobs/{digest}")
        assert got.body == body
        assert got.headers["docker-content-digest"] == digest


def test_mirror_fetches_everything_once(ground: MirrorSetup) -> None:
    with ground.mirror() as server:
        assert ask(server, "/v2/").status == 200
        pull(server)
        pull(server)
    expected = [
        "manifests/1",
        f"manifests/{CHILD.digest}",
        *(f"blobs/{each}" for each in CHILD.blobs),
    ]
    whole = [each for each in ground.requested() if DIGEST not in each]
    assert sorted(whole) == sorted(each for each in expected if DIGEST not in each)
    fetched = [seen.headers.get("range", "") for seen in ground.upstream.requests("GET", DIGEST)]
    assert len(fetched) == len(set(fetched))
    assert ground.requested("HEAD") == []


def test_mirror_serves_the_digest_algorithm_of_upstream(ground: MirrorSetup) -> None:
    image = named_by(IMAGE, "sha512")
    ground.upstream.serve("team/app", "512", image)
    for fresh in (60.0, 0.0):
        with ground.mirror(fresh=fresh) as server:
            for name in ("512", image.digest, "512"):
                for method in ("HEAD", "GET"):
                    got = ask(server, f"/v2/team/app/manifests/{name}", method)
                    assert got.status == 200
                    assert got.headers["docker-content-digest"] == image.digest
            assert ask(server, "/v2/team/app/manifests/512").body == image.body
    with ground.mirror(offline=True) as server:
        got = ask(server, f"/v2/team/app/manifests/{image.digest}")
        assert got.headers["docker-content-digest"] == image.digest
        # Nothing that it lists is stored.
        assert ask(server, "/v2/team/app/manifests/512").status == 502


def test_second_mirror_with_the_same_store_requests_only_the_tag(ground: MirrorSetup) -> None:
    with ground.mirror() as server:
        pull(server)
    before = len(ground.upstream.log)
    with ground.mirror() as server:
        pull(server)
    later = [f"{seen.method} {seen.path}" for seen in ground.upstream.log[before:]]
    assert later == ["HEAD /v2/team/app/manifests/1"]


def test_completed_image_is_named_and_survives_gc(ground: MirrorSetup) -> None:
    with ground.mirror() as server:
        ask(server, f"/v2/team/app/manifests/{CHILD.digest}")
        pull(server)
        with ground.session() as session:
            # Another process, while it runs: everything is claimed.
            session.collect(Retention(grace=0))
        pull(server)
    with ground.session() as session:
        session.collect(Retention(grace=0))
        name = f"{ground.upstream.host}/team/app:1"
        images = {image.reference: image for image in session.images()}
        assert images[name].platforms == ("linux/amd64",)
        assert session.verify(full=True).is_sound
    before = len(ground.upstream.requests("GET"))
    with ground.mirror() as server:
        pull(server)
    assert len(ground.upstream.requests("GET")) == before


def test_image_without_an_index_is_named_with_its_config_platform(
    ground: MirrorSetup,
) -> None:
    single = build_image("linux/arm64", [SMALL])
    ground.upstream.serve("team/app", "single", single)
    with ground.mirror() as server:
        ask(server, "/v2/team/app/manifests/single")
        for digest in single.blobs:
            ask(server, f"/v2/team/app/blobs/{digest}")
    with ground.session() as session:
        [image] = session.images()
        assert image.reference == f"{ground.upstream.host}/team/app:single"
        assert image.platforms == ("linux/arm64",)


def test_clients_of_one_blob_share_one_fetch(ground: MirrorSetup) -> None:
    gate = threading.Event()
    ground.upstream.on("GET", UPSTREAM_BLOB, Reply(200, body=LAYER, hold=gate, hold_after=500_000))
    with ground.mirror() as server:
        ask(server, f"/v2/team/app/manifests/{CHILD.digest}")
        got: list[Response] = []

        def fetch() -> None:
            got.append(ask(server, f"/v2/team/app/blobs/{DIGEST}"))

        threads = [threading.Thread(target=fetch) for _ in range(5)]
        for thread in threads:
            thread.start()
        # A client reads what has come while the rest is still on its way.
        part = ask(server, f"/v2/team/app/blobs/{DIGEST}", headers={"Range": "bytes=1000-400000"})
        assert (part.status, part.body) == (206, LAYER[1000:400_001])
        assert part.headers["content-range"] == f"bytes 1000-400000/{len(LAYER)}"
        gate.set()
        for thread in threads:
            thread.join()
    assert [each.body == LAYER for each in got] == [True] * 5
    assert len(ground.upstream.requests("GET", UPSTREAM_BLOB)) == 1


def test_wrong_bytes_from_upstream_are_never_complete_or_stored(ground: MirrorSetup) -> None:
    ground.upstream.on("GET", UPSTREAM_BLOB, Reply(200, body=bytes(len(LAYER))))
    with ground.mirror() as server:
        ask(server, f"/v2/team/app/manifests/{CHILD.digest}")
        # Whether anything was sent before it was found out is a race; all of it never is.
        try:
            got = ask(server, f"/v2/team/app/blobs/{DIGEST}")
        except (http.client.IncompleteRead, ConnectionResetError):
            pass
        else:
            assert (got.status, got.code) == (502, "UNAVAILABLE")
    assert not (ground.folder / "store/blobs/sha256" / DIGEST.partition(":")[2]).exists()


def test_corrected_upstream_serves_the_next_client(ground: MirrorSetup) -> None:
    ground.upstream.on("GET", UPSTREAM_BLOB, Reply(200, body=bytes(len(LAYER))), times=1)
    with ground.mirror() as server:
        ask(server, f"/v2/team/app/manifests/{CHILD.digest}")
        # Whether this client comes too early, or gets what came the second time, is a race.
        with contextlib.suppress(http.client.HTTPException, OSError):
            ask(server, f"/v2/team/app/blobs/{DIGEST}")
        assert ask(server, f"/v2/team/app/blobs/{DIGEST}").body == LAYER


@pytest.mark.parametrize(
    ("headers", "status", "part"),
    [
        ({"Range": "bytes=10-19"}, 206, slice(10, 20)),
        ({"Range": "bytes=2999990-"}, 206, slice(2_999_990, None)),
        ({"Range": "bytes=-500"}, 206, slice(-500, None)),
        ({"Range": "bytes=-9999999"}, 206, slice(None)),
        ({"Range": "bytes=0-0,5-6"}, 200, slice(None)),
        ({"Range": "bytes=10-19", "If-Range": f'"{DIGEST}"'}, 206, slice(10, 20)),
        ({"Range": "bytes=10-19", "If-Range": f'"{UNKNOWN}"'}, 200, slice(None)),
        ({"Range": "bytes=-500", "If-Range": "Sat, 29 Oct 1994 19:43:31 GMT"}, 200, slice(None)),
    ],
)
def test_ranges_of_a_blob_being_fetched_are_served(
    ground: MirrorSetup, headers: dict[str, str], status: int, part: slice
) -> None:
    with ground.mirror() as server:
        got = ask(server, f"/v2/team/app/blobs/{DIGEST}", headers=headers)
        assert (got.status, got.body) == (status, LAYER[part])
        beyond = {"Range": f"bytes={len(LAYER)}-"}
        assert ask(server, f"/v2/team/app/blobs/{DIGEST}", headers=beyond).status == 416


def test_mirror_head_fetches_no_content(ground: MirrorSetup) -> None:
    with ground.mirror() as server:
        got = ask(server, f"/v2/team/app/blobs/{DIGEST}", "HEAD")
        assert (got.status, got.headers["content-length"]) == (200, str(len(LAYER)))
    assert ground.requested() == []
    assert ground.requested("HEAD") == [f"blobs/{DIGEST}"]


def test_empty_and_one_byte_blobs_are_served(ground: MirrorSetup) -> None:
    image = build_image("linux/amd64", [b"", b"x"])
    ground.upstream.serve("team/app", "tiny", image)
    with ground.mirror() as server:
        for body in (b"", b"x"):
            assert ask(server, f"/v2/team/app/blobs/{Digest.of(body)}").body == body


def test_expired_tag_is_requested_again(ground: MirrorSetup) -> None:
    with ground.mirror(fresh=0.0) as server:
        for _ in range(3):
            assert ask(server, "/v2/team/app/manifests/1").body == IMAGE.body
        assert (ground.requested(), ground.requested("HEAD")) == (
            ["manifests/1"],
            ["manifests/1"] * 2,
        )
        other = build_image("linux/amd64", [b"new"])
        ground.upstream.serve("team/app", "1", other)
        assert ask(server, "/v2/team/app/manifests/1").body == other.body
    assert ground.requested() == ["manifests/1", f"manifests/{other.digest}"]


def test_stale_tag_is_served_with_a_warning_while_upstream_is_down(
    ground: MirrorSetup,
) -> None:
    with ground.mirror(fresh=0.0) as server:
        pull(server)
        ground.upstream.on("*", "/v2/team/app/manifests/1", Reply(429, {"Retry-After": "900"}))
        got = ask(server, "/v2/team/app/manifests/1")
    assert got.body == IMAGE.body
    assert got.headers["warning"].startswith(f'299 - "{ground.upstream.host} cannot be reached now')
    assert [event.code for event in ground.events if isinstance(event, Warned)] == ["stale"]


def test_offline_mirror_serves_only_held_content(ground: MirrorSetup) -> None:
    with ground.mirror() as server:
        pull(server)
    with ground.mirror(offline=True) as server:
        index = ask(server, "/v2/team/app/manifests/1")
        listed = json.loads(index.body)["manifests"]
        assert [entry["digest"] for entry in listed] == [CHILD.digest]
        named = index.headers["docker-content-digest"]
        assert ask(server, f"/v2/team/app/manifests/{named}").body == index.body
        pull(server, IMAGE.digest)
        assert ask(server, f"/v2/team/app/blobs/{UNKNOWN}").status == 502
        assert ask(server, "/v2/team/app/manifests/none").status == 502


def test_tag_removed_upstream_is_not_served(ground: MirrorSetup) -> None:
    with ground.mirror(fresh=0.0) as server:
        pull(server)
        reply = Reply(404, {"Content-Type": "application/json"}, b'{"errors":[]}')
        ground.upstream.on("*", "/v2/team/app/manifests/1", reply)
        got = ask(server, "/v2/team/app/manifests/1")
        assert (got.status, got.code) == (404, "MANIFEST_UNKNOWN")


def test_mirror_tag_list_is_that_of_upstream(ground: MirrorSetup) -> None:
    ground.upstream.serve("team/app", "2", IMAGE)
    with ground.mirror() as server:
        got = ask(server, "/v2/team/app/tags/list?n=1")
        assert json.loads(got.body) == {"name": "team/app", "tags": ["1"]}
        assert 'rel="next"' in got.headers["link"]


def test_truncated_tag_list_is_reported(
    ground: MirrorSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tag in ("2", "3"):
        ground.upstream.serve("team/app", tag, IMAGE)
    for most, left in ((3, []), (2, ["tags"])):
        monkeypatch.setattr("resolver.verbs.serve.mirror._MAX_LISTED", most)
        ground.events.clear()
        with ground.mirror() as server:
            got = ask(server, "/v2/team/app/tags/list")
        assert len(json.loads(got.body)["tags"]) == most
        assert [each.code for each in ground.events if isinstance(each, Warned)] == left


def test_mirror_tag_list_has_the_requested_name_and_registry(ground: MirrorSetup) -> None:
    ground.upstream.serve("team/app", "2", IMAGE)
    host = ground.upstream.host
    spelled = host.replace(":", "-")
    with ground.mirror() as server:
        by_path = ask(server, f"/v2/{spelled}/team/app/tags/list")
        assert json.loads(by_path.body) == {"name": f"{spelled}/team/app", "tags": ["1", "2"]}
        first = ask(server, f"/v2/team/app/tags/list?ns={host}&n=1&x=a%26b")
        link = first.headers["link"]
        target = link[1 : link.index(">")]
        parameters = parse_qs(target.partition("?")[2])
        assert parameters == {"n": ["1"], "last": ["1"], "ns": [host], "x": ["a&b"]}
        second = ask(server, target)
        assert json.loads(second.body) == {"name": "team/app", "tags": ["2"]}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("digest", [DIGEST, str(Digest.of(SMALL)), CONFIG])
@pytest.mark.parametrize("is_held", [True, False])
def test_blob_digest_is_not_a_manifest(
    ground: MirrorSetup, digest: str, method: str, is_held: bool
) -> None:
    body = CHILD.blobs[digest]
    # Registries that keep all content in one place answer so.
    path = f"/v2/team/app/manifests/{digest}"
    ground.upstream.on("*", path, Reply(200, {"Content-Type": "application/octet-stream"}, body))
    with ground.mirror() as server:
        if is_held:
            assert ask(server, f"/v2/team/app/blobs/{digest}").body == body
        got = ask(server, path, method)
        assert got.status == 404
        if method == "GET":
            assert got.code == "MANIFEST_UNKNOWN"


def test_held_layer_above_the_manifest_limit_is_not_a_manifest(ground: MirrorSetup) -> None:
    large = noise(5_000_000, 7)
    ground.upstream.serve("team/app", "large", build_image("linux/amd64", [large]))
    with ground.mirror() as server:
        assert ask(server, f"/v2/team/app/blobs/{Digest.of(large)}").body == large
        got = ask(server, f"/v2/team/app/manifests/{Digest.of(large)}")
    assert (got.status, got.code) == (404, "MANIFEST_UNKNOWN")


@dataclass(frozen=True)
class Referrer:
    """A manifest that refers to another one."""

    kind: str

    @property
    def body(self) -> bytes:
        subject = {"mediaType": OCI_MANIFEST, "digest": CHILD.digest, "size": len(CHILD.body)}
        return json.dumps(
            {"schemaVersion": 2, "artifactType": self.kind, "subject": subject, "layers": []}
        ).encode()

    @property
    def digest(self) -> str:
        return str(Digest.of(self.body))


def index_of(*referrers: Referrer) -> bytes:
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": each.digest,
            "size": len(each.body),
            "artifactType": each.kind,
            "annotations": {"from": "upstream"},
        }
        for each in referrers
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def test_referrers_are_requested_upstream_page_by_page(ground: MirrorSetup) -> None:
    signed, listed = Referrer("application/sig"), Referrer("application/sbom")
    following = f"{REFERRERS}?page=2"
    replies = [
        Reply(200, {"Content-Type": OCI_INDEX, "Link": f'<{following}>; rel="next"'}, body)
        if number == 0
        else Reply(200, {"Content-Type": OCI_INDEX}, body)
        for number, body in enumerate([index_of(signed), index_of(listed)])
    ]
    ground.upstream.on("GET", REFERRERS, *replies, *replies)
    with ground.mirror() as server:
        whole = ask(server, REFERRERS)
        some = ask(server, f"{REFERRERS}?artifactType=application%2Fsbom")
    entries = json.loads(whole.body)["manifests"]
    assert whole.headers["content-type"] == OCI_INDEX
    assert [each["digest"] for each in entries] == sorted([signed.digest, listed.digest])
    assert entries[0]["annotations"] == {"from": "upstream"}
    assert "oci-filters-applied" not in whole.headers
    assert [each["digest"] for each in json.loads(some.body)["manifests"]] == [listed.digest]
    assert some.headers["oci-filters-applied"] == "artifactType"


def test_referrers_tag_is_used_without_the_upstream_api(ground: MirrorSetup) -> None:
    signed = Referrer("application/sig")
    ground.upstream.on("GET", REFERRERS, Reply(404, {"Content-Type": "text/plain"}, b"no"))
    tag = CHILD.digest.replace(":", "-")
    path = f"/v2/team/app/manifests/{tag}"
    ground.upstream.on("GET", path, Reply(200, {"Content-Type": OCI_INDEX}, index_of(signed)))
    with ground.mirror() as server:
        got = ask(server, REFERRERS)
        assert [each["digest"] for each in json.loads(got.body)["manifests"]] == [signed.digest]
        assert got.headers["content-type"] == OCI_INDEX
        none = ask(server, f"{REFERRERS}?artifactType=a%2Fb")
        assert json.loads(none.body)["manifests"] == []


def test_failing_upstream_referrers_are_not_an_empty_list(ground: MirrorSetup) -> None:
    ground.upstream.on("GET", REFERRERS, Reply(429, {"Retry-After": "900"}))
    with ground.mirror() as server:
        assert ask(server, REFERRERS).status == 429
    with ground.mirror(offline=True) as server:
        assert ask(server, REFERRERS).status == 502


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v2/team/app/manifests/none", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/team/app/manifests/{UNKNOWN}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/team/app/blobs/{UNKNOWN}", 404, "BLOB_UNKNOWN"),
        ("/v2/team/app/blobs/sha256:xyz", 400, "DIGEST_INVALID"),
        ("/v2/team/app/manifests/sha256:xyz", 400, "DIGEST_INVALID"),
        ("/v2/team/app/manifests/a%20b", 400, "MANIFEST_INVALID"),
        ("/v2/team/app/referrers/sha256:xyz", 400, "DIGEST_INVALID"),
        ("/v2/team/app/referrers/latest", 400, "DIGEST_INVALID"),
        ("/v2/team/none/referrers/" + UNKNOWN, 404, "NAME_UNKNOWN"),
        ("/v2/team/app/tags/other", 404, "UNSUPPORTED"),
        ("/v2/_catalog", 404, "UNSUPPORTED"),
        ("/v2/team/App/manifests/1", 400, "NAME_INVALID"),
        ("/v2/team/app/manifests/1?ns=other.test", 403, "DENIED"),
        ("/v2/other.test/app/manifests/1", 403, "DENIED"),
        ("/v2/team/app/manifests/1?ns=169.254.169.254", 403, "DENIED"),
        ("/elsewhere", 404, "UNSUPPORTED"),
    ],
)
def test_unavailable_content_has_a_status_and_code(
    ground: MirrorSetup, target: str, status: int, code: str
) -> None:
    with ground.mirror() as server:
        got = ask(server, target)
    assert (got.status, got.code) == (status, code)


def test_one_mirror_serves_many_upstreams(ground: MirrorSetup, tmp_path: Path) -> None:
    with FakeRegistry() as other:
        other.serve("team/app", "1", CHILD)
        with (
            Session(tmp_path / "both", environment={"HOME": str(tmp_path)}) as session,
            session.serve_mirror(upstream=ground.upstream.host, allow=[other.host]) as server,
        ):
            assert ask(server, "/v2/team/app/manifests/1").body == IMAGE.body
            named = ask(server, f"/v2/team/app/manifests/1?ns={other.host}")
            assert named.body == CHILD.body
            spelled = other.host.replace(":", "-")
            assert ask(server, f"/v2/{spelled}/team/app/manifests/1").body == CHILD.body


def test_mirror_uses_its_own_login_and_not_the_clients(ground: MirrorSetup) -> None:
    ground.upstream.basic("owner", "0WNER-PASS")
    login = Flags(username="owner", password="0WNER-PASS")
    with ground.mirror(flags=login) as server:
        got = ask(
            server, "/v2/team/app/manifests/1", headers={"Authorization": "Basic Y2xpZW50OnB3"}
        )
        assert got.body == IMAGE.body
    sent = {seen.headers.get("authorization", "") for seen in ground.upstream.log}
    assert not any("Y2xpZW50" in each for each in sent)


def test_upstream_refusal_does_not_ask_clients_for_passwords(ground: MirrorSetup) -> None:
    ground.upstream.basic("owner", "0WNER-PASS")
    with ground.mirror() as server:
        got = ask(server, "/v2/team/app/manifests/1")
    assert (got.status, got.code) == (403, "DENIED")
    assert "www-authenticate" not in got.headers


def test_mirror_logs_every_request(ground: MirrorSetup) -> None:
    with ground.mirror() as server:
        ask(server, "/v2/team/app/manifests/1")
    notes = [event.message for event in ground.events if isinstance(event, Noted)]
    assert "GET /v2/team/app/manifests/1: 200" in notes


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (RepositoryNotFound("a", "b"), 404, None),
        (BlobNotFound("a", "b"), 404, None),
        (AuthenticationRequired("S3CRET"), 403, None),
        (RateLimited("h", 12.0), 429, "12"),
        (RateLimited("h", None), 429, "60"),
        (ConnectionFailed("S3CRET"), 502, None),
        (DigestMismatch("a", "b", "c"), 502, None),
        (StoreFault("/p", "full"), 500, None),
    ],
)
def test_failures_have_specified_error_codes(
    error: ResolverError, status: int, header: str | None
) -> None:
    given = refusal(error)
    assert given.status == status
    assert dict(given.headers).get("Retry-After") == header
    assert b"S3CRET" not in bytes(given.content)  # type: ignore[arg-type]  # an error is bytes


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/v2/ubuntu/manifests/1", "", "docker.io/library/ubuntu"),
        ("/v2/library/ubuntu/manifests/1", "ns=docker.io", "docker.io/library/ubuntu"),
        ("/v2/library/ubuntu/manifests/1", "ns=index.docker.io", "docker.io/library/ubuntu"),
        ("/v2/a/b/manifests/1", "ns=ghcr.io", "ghcr.io/a/b"),
        ("/v2/ghcr.io/a/b/manifests/1", "", "ghcr.io/a/b"),
        ("/v2/docker.io/ubuntu/blobs/x", "", "docker.io/library/ubuntu"),
        ("/v2/r.test-5000/a/tags/list", "", "r.test:5000/a"),
        ("/v2/ghcr.io/a/manifests/1", "ns=docker.io", "docker.io/ghcr.io/a"),
        ("/v2/1-5000/a/manifests/1", "", "[::1]:5000/a"),
    ],
)
def test_upstream_is_selected_by_ns_name_or_default(path: str, query: str, expected: str) -> None:
    upstreams = Upstreams(["docker.io", "ghcr.io", "r.test:5000", "[::1]:5000"], "docker.io")
    assert upstreams.read(path, query).repository.identity == expected


def test_mirror_without_a_default_registry_requires_one() -> None:
    with pytest.raises(Unclear) as caught:
        Upstreams(["ghcr.io"], None).read("/v2/a/b/manifests/1", "")
    assert (caught.value.status, caught.value.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize("host", ["not a host", "ghcr.io/x", "", "a.test:99999"])
def test_allowed_upstream_must_be_a_registry(host: str) -> None:
    with pytest.raises(Malformed):
        Upstreams([host], None)


def test_mirror_configured_as_its_own_mirror_asks_upstream(ground: MirrorSetup) -> None:
    """The mirror also reads the configuration that directs other tools to it."""
    folder = ground.folder / ".config/containers"
    folder.mkdir(parents=True)
    host = ground.upstream.host
    with ground.mirror() as server:
        (folder / "registries.conf").write_text(
            f'[[registry]]\nlocation = "{host}"\n[[registry.mirror]]\n'
            f'location = "{server.address}/{host.replace(":", "-")}"\ninsecure = true\n'
        )
        pull(server)
    warned = [event.message for event in ground.events if isinstance(event, Warned)]
    assert len(warned) == 1
    assert "answered 508" in warned[0]
    assert all("via" in seen.headers for seen in ground.upstream.log)


def leased(ground: MirrorSetup) -> str:
    """Return the digests in the leases of the store."""
    folder = ground.folder / "store/leases"
    return "".join(each.read_text() for each in folder.iterdir())


def test_invented_names_are_not_kept_in_the_lease(ground: MirrorSetup) -> None:
    with ground.mirror() as server:
        pull(server)
    with ground.mirror() as server:
        for kind in ("blobs", "manifests"):
            assert ask(server, f"/v2/team/app/{kind}/{UNKNOWN}").status == 404
        assert UNKNOWN not in leased(ground)
        pull(server)
        # What was here before is: a collection by another process leaves it.
        assert {each for each in CHILD.blobs if each in leased(ground)} == set(CHILD.blobs)
        assert CHILD.digest in leased(ground)


@pytest.mark.parametrize("name", [f"blobs/{UNKNOWN}", f"manifests/{UNKNOWN}", "manifests/none"])
def test_missing_content_is_requested_upstream_once(ground: MirrorSetup, name: str) -> None:
    with ground.mirror() as server:
        for _ in range(5):
            assert ask(server, f"/v2/team/app/{name}").status == 404
    assert len(ground.upstream.log) == 1


def test_new_tag_is_seen_immediately_without_freshness(
    ground: MirrorSetup,
) -> None:
    with ground.mirror(fresh=0.0) as server:
        assert ask(server, "/v2/team/app/manifests/new").status == 404
        ground.upstream.serve("team/app", "new", IMAGE)
        assert ask(server, "/v2/team/app/manifests/new").body == IMAGE.body


def test_invented_digests_cost_a_few_upstream_requests_a_second(ground: MirrorSetup) -> None:
    made_up = [f"/v2/team/app/blobs/{Digest.of(str(each).encode())}" for each in range(100)]
    with ground.mirror() as server:
        ask(server, f"/v2/team/app/manifests/{CHILD.digest}")
        before, begin = len(ground.upstream.log), time.monotonic()
        with ThreadPoolExecutor(len(made_up)) as pool:
            answers = list(pool.map(lambda target: ask(server, target).status, made_up))
            # Content that a document names is served meanwhile.
            assert ask(server, f"/v2/team/app/blobs/{DIGEST}").body == LAYER
        seconds = time.monotonic() - begin
        requested = len([seen for seen in ground.upstream.log[before:] if seen.method == "HEAD"])
    assert answers == [404] * len(made_up)
    # Some requests are in flight when the first replies arrive.
    assert requested <= (MAX_MISSES + MAX_QUESTIONS) * (int(seconds) + 1)


REGISTRY = "r.test"


def blob_question(number: int, repository: str = "r.test/a") -> tuple[str, str, str]:
    return ("blobs", repository, str(Digest.of(b"%d" % number)))


def miss(misses: Misses, number: int, peer: Peer, repository: str = "r.test/a") -> None:
    """Request missing content."""
    requested = blob_question(number, repository)
    assert misses.check(REGISTRY, requested, peer)
    misses.done(REGISTRY, requested, peer, missing=10.0)


def test_upstream_misses_are_limited_without_inventing_not_found() -> None:
    clock, peer = FakeClock(), ("10.0.0.1", 1)
    misses = Misses(clock)
    for number in range(MAX_MISSES):
        miss(misses, number, peer)
    new, known = blob_question(MAX_MISSES), blob_question(0)
    with pytest.raises(Later):
        misses.check(REGISTRY, new, peer)
    # Other registries are requested, and known misses are answered.
    assert misses.check("s.test", new, peer)
    assert not misses.check(REGISTRY, known, peer)
    # During a flood of misses it waits, and is never reported as missing.
    for second in range(1, 5):
        clock.now += 1.0
        for number in range(MAX_MISSES):
            other = ("10.0.0.1", 100 + number)
            requested = blob_question(1_000 * second + number)
            with contextlib.suppress(Later):
                if misses.check(REGISTRY, requested, other):
                    misses.done(REGISTRY, requested, other, missing=10.0)
        with contextlib.suppress(Later):
            if misses.check(REGISTRY, new, peer):
                break
    else:
        pytest.fail("it had no turn within 4 seconds")
    # Missing content is requested again after a while.
    clock.now += 10
    assert misses.check(REGISTRY, known, peer)


def test_successful_requests_do_not_count_as_misses() -> None:
    misses = Misses(FakeClock())
    for number in range(5 * MAX_MISSES):
        assert misses.check(REGISTRY, blob_question(number))
        misses.done(REGISTRY, blob_question(number))


@pytest.mark.parametrize(
    ("honest", "repository"),
    [
        (("10.0.0.2", 1), "r.test/a"),
        (("10.0.0.1", 1), "r.test/b"),
        (("10.0.0.1", 1), "r.test/a"),
    ],
    ids=["another address", "another repository", "another connection"],
)
def test_client_with_fewer_misses_goes_before_a_flood(honest: Peer, repository: str) -> None:
    clock, flooding = FakeClock(), ("10.0.0.1", 99)
    misses = Misses(clock)
    for number in range(MAX_MISSES):
        miss(misses, number, flooding)
    flood = [blob_question(100 + number) for number in range(500)]
    for requested in flood:
        with pytest.raises(Later):
            misses.check(REGISTRY, requested, flooding)
    requested = blob_question(1_000, repository)
    with pytest.raises(Later):
        misses.check(REGISTRY, requested, honest)
    clock.now += 1.0
    assert misses.check(REGISTRY, requested, honest)


def test_client_that_waits_too_long_gets_retry_after() -> None:
    clock, peer, other = FakeClock(), ("10.0.0.1", 1), ("10.0.0.2", 1)
    misses = Misses(clock)
    for number in range(120):
        for each in range(MAX_MISSES):
            misses.done(REGISTRY, blob_question(100 * number + each), other, missing=10.0)
        with pytest.raises(Later):
            misses.check(REGISTRY, blob_question(1_000_000), peer)
        clock.now += 0.5
    with pytest.raises(Busy):
        misses.check(REGISTRY, blob_question(1_000_000), peer)


def test_waiting_client_without_a_slot_stays_next() -> None:
    clock, peer = FakeClock(), ("10.0.0.1", 1)
    misses = Misses(clock)
    requested = blob_question(0)
    assert misses.check(REGISTRY, requested, peer)
    misses.put_back(REGISTRY, requested, peer)
    for number in range(1, MAX_MISSES):
        miss(misses, number, peer)
    with pytest.raises(Later):
        misses.check(REGISTRY, blob_question(MAX_MISSES), peer)
    assert misses.check(REGISTRY, requested, peer)


@pytest.mark.parametrize("address", ["127.0.0.2", "127.0.0.1"])
def test_existing_content_is_served_on_first_request_during_a_flood(
    ground: MirrorSetup, address: str
) -> None:
    over = threading.Event()

    def flood(number: int) -> set[int]:
        statuses = set()
        while not over.is_set():
            number += 1_000
            made_up = Digest.of(str(number).encode())
            statuses.add(ask(server, f"/v2/team/app/blobs/{made_up}").status)
        return statuses

    with ground.mirror() as server, ThreadPoolExecutor(30) as pool:
        flooding = [pool.submit(flood, number) for number in range(30)]
        try:
            assert ground.upstream.wait_for(
                lambda: len(ground.upstream.requests("HEAD")) >= MAX_MISSES
            )
            host, _, port = server.address.rpartition(":")
            for digest in (DIGEST, CONFIG):
                link = http.client.HTTPConnection(
                    host, int(port), timeout=20, source_address=(address, 0)
                )
                with contextlib.closing(link):
                    link.request("GET", f"/v2/team/app/blobs/{digest}")
                    assert link.getresponse().read() == CHILD.blobs[digest]
        finally:
            over.set()
        assert set().union(*(each.result() for each in flooding)) == {404}


def test_clients_of_one_registry_do_not_join_the_fetch_of_another(
    ground: MirrorSetup, tmp_path: Path
) -> None:
    gate = threading.Event()
    with FakeRegistry() as bad:
        wrong = Reply(200, {"Content-Length": "4"}, b"evil")
        bad.on("HEAD", UPSTREAM_BLOB, wrong)
        bad.on("GET", UPSTREAM_BLOB, Reply(200, body=b"evil", hold=gate, hold_after=2))
        with (
            Session(tmp_path / "both", environment={"HOME": str(tmp_path)}) as session,
            session.serve_mirror(upstream=ground.upstream.host, allow=[bad.host]) as server,
            ThreadPoolExecutor(2) as pool,
        ):
            liar = pool.submit(ask_for_status, server, f"{UPSTREAM_BLOB}?ns={bad.host}")
            assert bad.wait_for(lambda: bool(bad.requests("GET", "/blobs/")))
            good = pool.submit(ask, server, UPSTREAM_BLOB)
            gate.set()
            got = good.result()
            assert (got.status, got.body) == (200, LAYER)
            assert liar.result() != 200


def test_stalled_registry_yields_to_another_with_the_same_blob(
    ground: MirrorSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_fetch, "_GRACE", 0.0)
    never = threading.Event()
    with FakeRegistry() as bad:
        bad.serve("team/app", "1", IMAGE)
        bad.on("GET", UPSTREAM_BLOB, Reply(200, body=LAYER, hold=never, hold_after=2))
        config = tmp_path / "config.yaml"
        config.write_text(f"hosts:\n  {bad.host}:\n    timeout: 1\n")
        environment = {"HOME": str(tmp_path), "RESOLVER_CONFIG": str(config)}
        with (
            Session(tmp_path / "both", environment=environment) as session,
            session.serve_mirror(upstream=ground.upstream.host, allow=[bad.host]) as server,
            ThreadPoolExecutor(1) as pool,
        ):
            stalled = pool.submit(ask_for_status, server, f"{UPSTREAM_BLOB}?ns={bad.host}")
            assert bad.wait_for(lambda: bool(bad.requests("GET", "/blobs/")))
            assert ask(server, UPSTREAM_BLOB).body == LAYER
            assert len(bad.requests("GET", "/blobs/")) == 1
            never.set()
            assert stalled.result() in (0, 200, 502)


def test_stalled_fetch_ends_immediately_for_another_registry(
    ground: MirrorSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No read timeout ends it: its thread still waits when the blob has arrived."""
    monkeypatch.setattr(shared_fetch, "_GRACE", 0.0)
    never = threading.Event()
    with FakeRegistry() as bad:
        bad.serve("team/app", "1", IMAGE)
        bad.on("GET", UPSTREAM_BLOB, Reply(200, body=LAYER, hold=never, hold_after=200_000))
        with (
            Session(tmp_path / "both", environment={"HOME": str(tmp_path)}) as session,
            session.serve_mirror(upstream=ground.upstream.host, allow=[bad.host]) as server,
            ThreadPoolExecutor(1) as pool,
        ):
            stalled = pool.submit(ask_for_status, server, f"{UPSTREAM_BLOB}?ns={bad.host}")
            assert bad.wait_for(lambda: bool(bad.requests("GET", "/blobs/")))
            begin = time.monotonic()
            assert ask(server, UPSTREAM_BLOB).body == LAYER
            assert stalled.result() in (0, 502)
            assert time.monotonic() - begin < 20
            # Its clients get the content of the other registry.
            assert ask(server, f"{UPSTREAM_BLOB}?ns={bad.host}").body == LAYER
            assert not never.is_set()
            never.set()


def test_stalled_blobs_do_not_delay_others_of_their_registry(
    ground: MirrorSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((shared_fetch, "STALL"), (retry, "SILENT")):
        monkeypatch.setattr(module, name, 0.3)
    never = threading.Event()
    stalled = [noise(200_000, 100 + number) for number in range(3 * MAX_FETCHES)]
    image = build_image("linux/amd64", [*stalled, SMALL])
    ground.upstream.serve("team/app", "many", image)
    for layer in stalled:
        path = f"/v2/team/app/blobs/{Digest.of(layer)}"
        ground.upstream.on("GET", path, Reply(200, body=layer, hold=never, hold_after=1_000))
    with ground.mirror() as server, ThreadPoolExecutor(len(stalled)) as pool:
        ask(server, f"/v2/team/app/manifests/{image.digest}")
        begin = time.monotonic()
        waiting = [
            pool.submit(ask, server, f"/v2/team/app/blobs/{Digest.of(layer)}") for layer in stalled
        ]
        assert ground.upstream.wait_for(
            lambda: len(ground.upstream.requests("GET", "/blobs/")) >= MAX_FETCHES
        )
        assert ask(server, f"/v2/team/app/blobs/{Digest.of(SMALL)}").body == SMALL
        # Their read timeout is 30 s.
        assert time.monotonic() - begin < 20
        assert not any(each.done() for each in waiting)
        never.set()
        assert [each.result().body for each in waiting] == stalled
        # No blob was requested twice: a stalled fetch keeps its bytes and continues.
        requested = [seen.path for seen in ground.upstream.requests("GET", "/blobs/")]
        assert len(requested) == len(set(requested))


def test_unresponsive_registries_leave_threads_for_others(
    ground: MirrorSetup, tmp_path: Path
) -> None:
    never = threading.Event()
    with contextlib.ExitStack() as stack:
        stack.callback(never.set)
        silent = [stack.enter_context(FakeRegistry()) for _ in range(5)]
        for registry in silent:
            for number in range(MAX_QUESTIONS):
                path = f"/v2/team/app/manifests/{number}"
                registry.on("GET", path, Reply(200, body=IMAGE.body, hold=never, hold_after=0))
        session = stack.enter_context(Session(tmp_path / "all", environment={"HOME": "/nowhere"}))
        hosts = [registry.host for registry in silent]
        server = stack.enter_context(
            session.serve_mirror(upstream=ground.upstream.host, allow=hosts)
        )
        pool = stack.enter_context(ThreadPoolExecutor(len(silent) * MAX_QUESTIONS))
        stack.callback(never.set)
        for number in range(MAX_QUESTIONS):
            for host in hosts:
                target = f"/v2/team/app/manifests/{number}?ns={host}"
                pool.submit(ask_for_status, server, target)
        assert silent[0].wait_for(
            lambda: all(len(each.requests("GET")) >= START for each in silent)
        )
        begin = time.monotonic()
        pull(server)
        assert time.monotonic() - begin < 10


def test_clients_of_two_repositories_share_a_fetch(ground: MirrorSetup) -> None:
    ground.upstream.serve("team/other", "1", IMAGE)
    gate = threading.Event()
    ground.upstream.on("GET", UPSTREAM_BLOB, Reply(200, body=LAYER, hold=gate, hold_after=500_000))
    with ground.mirror() as server, ThreadPoolExecutor(2) as pool:
        for name in ("team/app", "team/other"):
            ask(server, f"/v2/{name}/manifests/1")
            ask(server, f"/v2/{name}/manifests/{CHILD.digest}")
            for digest in set(CHILD.blobs) - {DIGEST}:
                ask(server, f"/v2/{name}/blobs/{digest}")
        first = pool.submit(ask, server, UPSTREAM_BLOB)
        assert ground.upstream.wait_for(lambda: bool(ground.upstream.requests("GET", DIGEST)))
        second = pool.submit(ask, server, f"/v2/team/other/blobs/{DIGEST}")
        part = {"Range": "bytes=0-99999"}
        got = ask(server, f"/v2/team/other/blobs/{DIGEST}", headers=part)
        assert (got.status, got.body) == (206, LAYER[:100_000])
        gate.set()
        assert first.result().body == second.result().body == LAYER
    assert not ground.upstream.requests("GET", f"/v2/team/other/blobs/{DIGEST}")
    with ground.session() as session:
        named = {image.reference for image in session.images() if image.reference}
    assert named == {f"{ground.upstream.host}/{name}:1" for name in ("team/app", "team/other")}


def ask_for_status(server: Server, target: str) -> int:
    """Send a request; return 0 if the answer breaks off."""
    try:
        return ask(server, target).status
    except (http.client.HTTPException, OSError):
        return 0


def test_storage_receives_no_ns_parameter(ground: MirrorSetup) -> None:
    with FakeRegistry() as storage:
        storage.serve("team/app", None, IMAGE)
        ground.upstream.redirect(UPSTREAM_BLOB, f"{storage.url}{UPSTREAM_BLOB}")
        with ground.mirror() as server:
            ask(server, f"/v2/team/app/manifests/{CHILD.digest}")
            assert ask(server, f"/v2/team/app/blobs/{DIGEST}").body == LAYER
        assert storage.log
        assert all("via" not in seen.headers for seen in storage.log)
