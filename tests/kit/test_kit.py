"""The fake registry sends on the wire exactly what was scripted."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.oci.digest import Digest
from tests.kit import certificates
from tests.kit.auth import basic_value
from tests.kit.images import build_image, build_index, entry, from_dict, listed_as, multi_platform
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.kit.messages import Seen

INDEX = multi_platform("linux/amd64", "linux/arm64/v8", attestations=True)
BLOB, BLOB_BYTES = next(iter(INDEX.blobs.items()))


def ask_once(registry: FakeRegistry, target: str) -> None:
    """Send one request on a separate connection."""
    client = Client(registry)
    client.ask(target)
    client.link.close()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as running:
        running.serve("team/app", "1.0", INDEX)
        yield running


class Client:
    """One keep-alive connection."""

    def __init__(self, registry: FakeRegistry) -> None:
        self.link = http.client.HTTPConnection(registry.host, timeout=5)

    def ask(
        self, target: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self.link.request(method, target, headers=dict(headers or {}))
        answer = self.link.getresponse()
        return answer, answer.read()

    def begin(self, target: str) -> http.client.HTTPResponse:
        self.link.request("GET", target)
        return self.link.getresponse()


@pytest.fixture
def client(registry: FakeRegistry) -> Iterator[Client]:
    one = Client(registry)
    yield one
    one.link.close()


def everything(registry: FakeRegistry, target: str) -> bytes:
    """Send one request and return every byte until the end."""
    host, _, port = registry.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as link:
        link.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return b"".join(iter(lambda: link.recv(65_536), b""))


def test_image_is_served_by_tag_and_digest_with_its_content(client: Client) -> None:
    for name in ("1.0", INDEX.digest):
        answer, body = client.ask(f"/v2/team/app/manifests/{name}")
        assert body == INDEX.body
        assert answer.headers["Content-Type"] == OCI_INDEX
        assert answer.headers["Docker-Content-Digest"] == INDEX.digest
    for digest, (_, body) in INDEX.documents.items():
        assert client.ask(f"/v2/team/app/manifests/{digest}")[1] == body
    for digest, blob in INDEX.blobs.items():
        assert client.ask(f"/v2/team/app/blobs/{digest}")[1] == blob


def test_head_has_a_length_and_no_body(registry: FakeRegistry, client: Client) -> None:
    answer, body = client.ask("/v2/team/app/manifests/1.0", "HEAD")

    assert (answer.status, body) == (200, b"")
    assert answer.headers["Content-Length"] == str(INDEX.size)
    assert registry.log[0].sent == 0


def test_fake_registry_serves_ranges(registry: FakeRegistry, client: Client) -> None:
    size, path = len(BLOB_BYTES), f"/v2/team/app/blobs/{BLOB}"
    closed, part = client.ask(path, headers={"Range": "bytes=2-5"})
    opened, rest = client.ask(path, headers={"Range": "bytes=7-"})
    beyond, _ = client.ask(path, headers={"Range": f"bytes={size}-"})
    registry.shelves.ranges = False
    ignored, whole = client.ask(path, headers={"Range": "bytes=2-5"})

    assert (closed.status, part) == (206, BLOB_BYTES[2:6])
    assert closed.headers["Content-Range"] == f"bytes 2-5/{size}"
    assert (opened.status, rest) == (206, BLOB_BYTES[7:])
    assert beyond.status == 416
    assert (ignored.status, whole) == (200, BLOB_BYTES)


def test_fake_registry_pages_tags(registry: FakeRegistry, client: Client) -> None:
    for tag in ("b", "a", "c"):
        registry.serve("team/app", tag, INDEX)
    first, body = client.ask("/v2/team/app/tags/list?n=3")
    link = first.headers["Link"]
    registry.shelves.page_size = 2
    second, rest = client.ask(link[1 : link.index(">")])
    short, _ = client.ask("/v2/team/app/tags/list?n=100")

    assert json.loads(body)["tags"] == ["1.0", "a", "b"]
    assert json.loads(rest)["tags"] == ["c"]
    assert second.headers["Link"] is None
    assert short.headers["Link"] == '</v2/team/app/tags/list?n=2&last=a>; rel="next"'


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("/v2/", 200, b"{}"),
        ("/v2/none/manifests/1", 404, b"NAME_UNKNOWN"),
        ("/v2/team/app/manifests/none", 404, b"MANIFEST_UNKNOWN"),
        ("/v2/team/app/blobs/sha256:none", 404, b"BLOB_UNKNOWN"),
        ("/v2/team/app/referrers/sha256:none", 404, b"404 page not found"),
    ],
)
def test_fake_registry_implements_the_rest_of_the_api(
    client: Client, target: str, status: int, text: bytes
) -> None:
    answer, body = client.ask(target)

    assert answer.status == status
    assert text in body


def test_fake_registry_can_require_an_accept_header(registry: FakeRegistry, client: Client) -> None:
    registry.shelves.honour_accept = True

    assert client.ask("/v2/team/app/manifests/1.0")[0].status == 404
    accepting = client.ask("/v2/team/app/manifests/1.0", headers={"Accept": f"a/b, {OCI_INDEX}"})
    assert accepting[0].status == 200


def test_every_request_is_logged_in_order_and_verbatim(
    registry: FakeRegistry, client: Client
) -> None:
    client.ask("/v2/team/app/tags/list?n=2&n=3&last=a%20b", headers={"X-One": "1"})
    client.ask("/v2/team/app/blobs/sha256%3Aaa")
    first, second = registry.log

    assert (first.method, first.path, first.query) == (
        "GET",
        "/v2/team/app/tags/list",
        "n=2&n=3&last=a%20b",
    )
    assert first.parameters == {"n": ["2", "3"], "last": ["a b"]}
    assert first.headers["x-one"] == "1"
    assert ("X-One", "1") in first.raw_headers
    assert second.raw_target == "/v2/team/app/blobs/sha256%3Aaa"
    assert second.path == "/v2/team/app/blobs/sha256:aa"
    assert registry.hits["GET /v2/team/app/tags/list"] == 1
    assert registry.requests("GET", "/blobs/") == [second]
    assert registry.requests("HEAD") == []


def test_connections_are_counted_and_reused(registry: FakeRegistry, client: Client) -> None:
    for _ in range(3):
        client.ask("/v2/")
    ask_once(registry, "/v2/")

    assert registry.connections == 2
    assert [seen.connection for seen in registry.log] == [1, 1, 1, 2]


def test_replies_are_used_in_order_and_the_last_repeats(
    registry: FakeRegistry, client: Client
) -> None:
    registry.on("GET", "/v2/", Reply(503), Reply(429))

    assert [client.ask("/v2/")[0].status for _ in range(4)] == [503, 429, 429, 429]
    assert client.ask("/v2/", "HEAD")[0].status == 200


def test_script_ends_after_its_count_and_the_next_begins(
    registry: FakeRegistry, client: Client
) -> None:
    registry.on("*", "/v2/", Reply(503), times=2)
    registry.on("GET", "/v2/", Reply(418), times=1)

    assert [client.ask("/v2/")[0].status for _ in range(4)] == [503, 503, 418, 200]


def test_script_for_a_query_matches_only_that_query(registry: FakeRegistry, client: Client) -> None:
    registry.on("GET", "/v2/team/app/tags/list?n=1", Reply(418))

    assert client.ask("/v2/team/app/tags/list?n=1")[0].status == 418
    assert client.ask("/v2/team/app/tags/list")[0].status == 200


def test_script_function_answers_or_declines(registry: FakeRegistry, client: Client) -> None:
    def only_with_range(seen: Seen) -> Reply | None:
        return Reply(403) if "range" in seen.headers else None

    path = f"/v2/team/app/blobs/{BLOB}"
    registry.on("GET", path, only_with_range)

    assert client.ask(path)[0].status == 200
    assert client.ask(path, headers={"Range": "bytes=0-1"})[0].status == 403


def test_repeated_headers_are_kept_separate(registry: FakeRegistry, client: Client) -> None:
    challenges = [("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Bearer")]
    registry.on("GET", "/v2/", Reply(401, challenges))

    assert client.ask("/v2/")[0].headers.get_all("WWW-Authenticate") == ["Basic", "Bearer"]


@pytest.mark.parametrize("reset", [False, True])
def test_reply_body_is_cut_after_a_number_of_bytes(
    registry: FakeRegistry, client: Client, *, reset: bool
) -> None:
    registry.on("GET", "/v2/", Reply(body=b"x" * 100, truncate=40, reset=reset))
    answer = client.begin("/v2/")

    assert answer.read(40) == b"x" * 40
    with pytest.raises(ConnectionResetError if reset else http.client.IncompleteRead):
        answer.read()
    assert answer.headers["Content-Length"] == "100"
    assert registry.log[0].sent == 40


@pytest.mark.parametrize(
    ("reset", "failure"), [(False, http.client.RemoteDisconnected), (True, ConnectionResetError)]
)
def test_silent_answer_ends_the_connection(
    registry: FakeRegistry, client: Client, *, reset: bool, failure: type[Exception]
) -> None:
    registry.on("GET", "/v2/", Reply(silent=True, reset=reset))

    with pytest.raises(failure):
        client.begin("/v2/")
    assert registry.log[0].status == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_endless_body_ends_when_the_client_leaves(
    registry: FakeRegistry, client: Client, *, chunked: bool
) -> None:
    registry.on("GET", "/v2/", Reply.endless(b"ab", chunked=chunked))
    answer = client.begin("/v2/")

    assert answer.read(5) == b"ababa"
    assert answer.headers["Content-Length"] is None
    answer.close()
    client.link.close()
    assert registry.wait_for(lambda: registry.log[0].done)
    assert registry.log[0].sent > 5


def test_chunked_body_arrives_whole_and_keeps_the_connection(
    registry: FakeRegistry, client: Client
) -> None:
    registry.on("GET", "/v2/", Reply(chunks=(b"one", b"", b"two"), chunked=True), times=1)
    answer, body = client.ask("/v2/")
    client.ask("/v2/")

    assert (answer.headers["Transfer-Encoding"], body) == ("chunked", b"onetwo")
    assert registry.log[0].sent == 6
    assert registry.connections == 1


def test_chunked_reply_can_be_cut(registry: FakeRegistry, client: Client) -> None:
    registry.on("GET", "/v2/", Reply(body=b"onetwo", chunked=True, truncate=3))

    with pytest.raises(http.client.IncompleteRead):
        client.begin("/v2/").read()


def test_body_without_a_length_ends_with_the_connection(
    registry: FakeRegistry, client: Client
) -> None:
    registry.on("GET", "/v2/", Reply(body=b"all", content_length=False))
    answer, body = client.ask("/v2/")

    assert (answer.headers["Content-Length"], body) == (None, b"all")
    assert answer.headers["Connection"] == "close"


def test_length_may_be_larger_than_the_body(registry: FakeRegistry, client: Client) -> None:
    registry.on("GET", "/v2/", Reply(body=b"all", content_length=10))

    with pytest.raises(http.client.IncompleteRead):
        client.begin("/v2/").read()


def test_content_length_may_be_smaller_than_the_body(registry: FakeRegistry) -> None:
    registry.on("GET", "/v2/", Reply(body=b"surplus", content_length=3))
    got = everything(registry, "/v2/")

    assert b"Content-Length: 3\r\n" in got
    assert got.endswith(b"\r\n\r\nsurplus")


def test_head_of_a_script_sends_headers_only(registry: FakeRegistry, client: Client) -> None:
    registry.on("HEAD", "/v2/", Reply(body=b"12345", content_length=7))
    answer, body = client.ask("/v2/", "HEAD")
    client.ask("/v2/")

    assert (answer.headers["Content-Length"], body) == ("7", b"")
    assert registry.connections == 1


def test_raw_bytes_are_sent_unchanged(registry: FakeRegistry) -> None:
    registry.on("GET", "/v2/", Reply(raw=b"SSH-2.0-nope\r\n"))

    assert everything(registry, "/v2/") == b"SSH-2.0-nope\r\n"


def test_close_sends_the_header_and_closes(registry: FakeRegistry, client: Client) -> None:
    registry.on("GET", "/v2/", Reply(close=True), times=1)
    answer, _ = client.ask("/v2/")
    client.ask("/v2/")

    assert answer.headers["Connection"] == "close"
    assert registry.connections == 2


def test_gated_reply_waits_for_the_test(registry: FakeRegistry, client: Client) -> None:
    gate = threading.Event()
    registry.on("GET", "/v2/", Reply(delay=gate))
    client.link.request("GET", "/v2/")

    assert registry.wait_for(lambda: len(registry.log) == 1)
    assert (registry.log[0].status, registry.log[0].done) == (0, False)
    gate.set()
    assert client.link.getresponse().status == 200


def test_gated_body_stops_until_released(registry: FakeRegistry, client: Client) -> None:
    gate = threading.Event()
    registry.on("GET", "/v2/", Reply(body=b"abcdef", hold=gate, hold_after=2))
    answer = client.begin("/v2/")

    assert answer.read(2) == b"ab"
    assert registry.log[0].sent == 2
    gate.set()
    assert answer.read() == b"cdef"


def test_closing_the_fake_ends_a_waiting_reply() -> None:
    before = threading.active_count()
    with FakeRegistry() as registry:
        registry.on("GET", "/v2/", Reply(body=b"abc", hold=threading.Event(), hold_after=1))
        client = Client(registry)
        answer = client.begin("/v2/")
        answer.read(1)
    answer.close()
    client.link.close()

    assert threading.active_count() == before


def test_unexpected_request_fails_the_test() -> None:
    def go() -> None:
        with FakeRegistry() as registry:
            client = Client(registry)
            assert client.ask("/surprise?x=1")[0].status == 599
            client.link.close()

    with pytest.raises(AssertionError, match=r"unexpected requests: GET /surprise\?x=1"):
        go()


def test_unexpected_write_fails_the_test() -> None:
    with FakeRegistry(strict=False) as registry:
        client = Client(registry)
        client.ask("/v2/team/app/manifests/1", "PUT")
        client.link.close()

        assert [seen.method for seen in registry.unexpected] == ["PUT"]


def test_exception_in_a_script_fails_the_test() -> None:
    def script(seen: Seen) -> Reply:
        raise KeyError(seen.path)

    def go() -> None:
        with FakeRegistry() as registry:
            registry.on("GET", "/v2/", script)
            client = Client(registry)
            assert client.ask("/v2/")[0].status == 599
            client.link.close()

    with pytest.raises(KeyError, match="/v2/"):
        go()


def test_redirect_and_rate_limit_helpers(registry: FakeRegistry, client: Client) -> None:
    registry.rate_limit("/v2/", times=1, retry_after=7)
    registry.redirect("/v2/", "https://other.example.com/v2/", times=1)
    limited, body = client.ask("/v2/")
    moved, _ = client.ask("/v2/")

    assert (limited.status, limited.headers["Retry-After"]) == (429, "7")
    assert b"TOOMANYREQUESTS" in body
    assert (moved.status, moved.headers["Location"]) == (307, "https://other.example.com/v2/")
    assert client.ask("/v2/")[0].status == 200


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_bearer_gate_issues_and_requires_a_token(registry: FakeRegistry, client: Client) -> None:
    tokens = registry.bearer(service="s", credentials=("user", "pass"))
    path = "/v2/team/app/manifests/1.0"
    refused, body = client.ask(path)
    anonymous, _ = client.ask("/token?service=s&scope=a&scope=b")
    known = {"Authorization": basic_value("user", "pass")}
    _, grant = client.ask("/token?service=s&scope=a", headers=known)
    token = json.loads(grant)["token"]

    assert refused.headers["WWW-Authenticate"] == (
        f'Bearer realm="{registry.url}/token",service="s",scope="repository:team/app:pull"'
    )
    assert b"UNAUTHORIZED" in body
    assert anonymous.status == 401
    assert json.loads(grant) == {"token": token, "access_token": token, "expires_in": 300}
    assert client.ask(path, headers=bearer(token))[0].status == 200
    assert client.ask(path, headers=bearer("other"))[0].status == 401
    assert (tokens.count, tokens.scopes) == (1, [("a", "b"), ("a",)])


def test_tokens_can_rotate_and_be_revoked(registry: FakeRegistry, client: Client) -> None:
    tokens = registry.bearer(rotate=True, expires_in=None)
    first, second = (json.loads(client.ask("/token")[1])["token"] for _ in range(2))

    assert first != second
    assert client.ask("/v2/", headers=bearer(first))[0].status == 200
    tokens.revoke()
    assert client.ask("/v2/", headers=bearer(second))[0].status == 401


@pytest.mark.parametrize(
    ("credentials", "form", "status"),
    [
        (("u", "p"), "grant_type=password&username=u&password=p", 200),
        (("u", "p"), "grant_type=password&username=u&password=q", 401),
        (("<token>", "id"), "grant_type=refresh_token&refresh_token=id", 200),
        (("<token>", "id"), "grant_type=refresh_token&refresh_token=no", 401),
        (("<token>", "id"), "grant_type=password&username=%3Ctoken%3E&password=id", 401),
    ],
)
def test_token_can_be_requested_by_form(
    registry: FakeRegistry, client: Client, credentials: tuple[str, str], form: str, status: int
) -> None:
    registry.bearer(credentials=credentials)
    client.link.request("POST", "/token", body=form)

    assert client.link.getresponse().status == status


def test_token_server_may_be_another_fake(registry: FakeRegistry, client: Client) -> None:
    with FakeRegistry() as other:
        tokens = other.token_server("/auth", token="T")
        registry.bearer(realm=f"{other.url}/auth", token="T")
        refused, _ = client.ask("/v2/")
        elsewhere = Client(other)
        _, grant = elsewhere.ask("/auth")
        elsewhere.link.close()

    assert f'realm="{other.url}/auth"' in refused.headers["WWW-Authenticate"]
    assert client.ask("/v2/", headers=bearer(json.loads(grant)["token"]))[0].status == 200
    assert tokens.count == 1


def test_basic_gate_requires_its_user(registry: FakeRegistry, client: Client) -> None:
    registry.basic("u", "p")
    refused, _ = client.ask("/v2/")

    assert refused.headers["WWW-Authenticate"] == 'Basic realm="fake"'
    right = {"Authorization": basic_value("u", "p")}
    assert client.ask("/v2/", headers=right)[0].status == 200


def hello(context: ssl.SSLContext, trusted: ssl.SSLContext) -> int:
    """Send a version check to a TLS server."""
    with FakeRegistry(tls=context) as registry:
        assert registry.url.startswith("https://127.0.0.1:")
        link = http.client.HTTPSConnection(registry.host, timeout=5, context=trusted)
        try:
            link.request("GET", "/v2/")
            return link.getresponse().status
        finally:
            link.close()


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    path = certificates.authority().ca_file(tmp_path_factory.mktemp("ca"))
    return ssl.create_default_context(cafile=str(path))


def test_valid_certificate_is_accepted(trusted: ssl.SSLContext) -> None:
    assert hello(certificates.authority().good(), trusted) == 200


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (certificates.authority().wrong_host, "IP address mismatch"),
        (certificates.authority().expired, "certificate has expired"),
        (certificates.authority().not_yet_valid, "certificate is not yet valid"),
        (certificates.self_signed, "self.signed certificate"),
        (lambda: certificates.unknown_authority().good(), "unable to get local issuer certificate"),
    ],
)
def test_each_bad_certificate_has_one_defect(
    make: Callable[[], ssl.SSLContext], reason: str, trusted: ssl.SSLContext
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        hello(make(), trusted)


def test_server_can_require_a_client_certificate(tmp_path: Path) -> None:
    authority = certificates.authority()
    trusting = ssl.create_default_context(cafile=str(authority.ca_file(tmp_path)))
    with pytest.raises(OSError):  # noqa: PT011 - the alert may come as a reset, too
        hello(authority.wants_client_certificate(), trusting)
    trusting.load_cert_chain(*authority.client_files(tmp_path))

    assert hello(authority.wants_client_certificate(), trusting) == 200


def test_plain_text_on_a_tls_port_is_a_failed_handshake() -> None:
    with FakeRegistry(tls=certificates.authority().good()) as registry:
        with contextlib.suppress(ConnectionResetError):
            everything(registry, "/v2/")

        assert registry.wait_for(lambda: len(registry.handshake_failures) == 1)
        assert registry.log == []


def test_index_can_list_an_image_for_another_platform_or_none() -> None:
    image = build_image("linux/amd64")
    index = build_index([image, listed_as(image, "linux/arm64"), listed_as(image, "")])
    entries = json.loads(index.body)["manifests"]

    assert [item.get("platform", {}).get("architecture") for item in entries] == [
        "amd64",
        "arm64",
        None,
    ]
    assert {item["digest"] for item in entries} == {image.digest}


def test_nested_index_keeps_its_images() -> None:
    inner = multi_platform("linux/amd64", docker=True)
    outer = build_index([inner, build_image("linux/arm64")], annotations={"a": "b"})

    assert json.loads(outer.body)["manifests"][0]["mediaType"] == inner.media_type
    assert inner.documents.keys() <= outer.documents.keys()
    assert inner.child("linux/amd64").digest in outer.documents


def test_dict_becomes_a_document() -> None:
    image = build_image()
    broken = from_dict({"manifests": [{**entry(image), "size": -1}], "layers": []}, OCI_INDEX)

    assert json.loads(broken.body)["manifests"][0]["size"] == -1
    assert broken.digest == str(Digest.of(broken.body))
    assert broken.documents == {broken.digest: (OCI_INDEX, broken.body)}


def test_attestation_refers_to_its_image() -> None:
    images = [child for child in INDEX.children if not child.attestation_of]
    statements = [child for child in INDEX.children if child.attestation_of]

    assert [image.platform for image in images] == ["linux/amd64", "linux/arm64/v8"]
    assert [one.attestation_of for one in statements] == [image.digest for image in images]
