"""One exchange over both engines: headers, limits, timeouts, logs, and failures."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import httpx
import pytest

import resolver
from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import (
    ACCEPT,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from resolver.core.oci.digest import Digest
from resolver.core.registry.endpoints import HostSettings
from resolver.core.results.events import ignore
from resolver.errors import (
    ConnectionFailed,
    InvalidReference,
    LimitExceeded,
    RedirectRefused,
    ServerFault,
    TimedOut,
)
from resolver.settings import Flags, Settings
from resolver.sources import open_transport
from resolver.sources.http.client import CLIENT_HELLO, Request, Scope, has_tls
from resolver.sources.http.failures import translate
from resolver.sources.http.urls import Url
from resolver.store import LocalStore
from tests.kit.certificates import authority
from tests.kit.clients import ENGINES, NEW_YEAR, FakeClock, Names, login, source, transport
from tests.kit.images import build_image, build_index
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "/v2/team/app/manifests/1.0"
IMAGE = build_image()
ONCE = {"attempts": 1}
IMAGE_DOCUMENT = Document(
    Descriptor(OCI_MANIFEST, Digest.parse(IMAGE.digest), len(IMAGE.body)), IMAGE.body
)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve("team/app", "1.0", IMAGE)
        yield fake


def question(host: str, method: str = "GET", limit: int = 1_000) -> Request:
    return Request(method, host, Scope(host, "team/app"), "/v2/x", "the thing", limit)


def test_cold_get_is_one_request_on_one_connection(engine: str, registry: FakeRegistry) -> None:
    with source(registry.host, engine=engine) as app:
        assert str(app.document("1.0").descriptor.digest) == IMAGE.digest
    assert [(seen.method, seen.raw_target) for seen in registry.log] == [("GET", MANIFEST)]
    assert registry.connections == 1


def test_connections_are_reused_after_every_kind_of_answer(engine: str) -> None:
    with FakeRegistry() as registry:
        registry.serve("team/app", "1.0", IMAGE)
        registry.bearer()
        registry.redirect("/v2/team/app/manifests/other", MANIFEST)
        with source(registry.host, engine=engine) as app:
            app.document("1.0")
            app.resolve("1.0")
            app.document("other")
            assert list(app.tags()) == ["1.0"]
        assert registry.connections == 1


def test_requests_have_a_user_agent_and_accept_identity_encoding(
    engine: str, registry: FakeRegistry
) -> None:
    with source(registry.host, engine=engine) as app:
        app.document("1.0")
        app.resolve("1.0")
        config = Digest.parse(next(iter(IMAGE.blobs)))
        blob = IMAGE.blobs[str(config)]
        with app.open(Descriptor("application/octet-stream", config, len(blob))) as chunks:
            assert b"".join(chunks) == blob
        list(app.tags())
    for seen in registry.log:
        assert seen.headers["accept-encoding"] == "identity"
        assert seen.headers["user-agent"].startswith("resolver/")
        assert "https://pypi.org/project/multiarch-resolver/" in seen.headers["user-agent"]
        assert set(seen.headers) <= {"host", "user-agent", "accept", "accept-encoding"}
    for seen in registry.requests(path_contains="/manifests/"):
        types = seen.headers["accept"].split(", ")
        assert set(types) >= {OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST}
        assert seen.headers["accept"] == ACCEPT


def test_request_target_is_sent_unchanged(engine: str) -> None:
    target = "/v2/team/app/x?sig=a%2Fb+c==&p=1:2,3;~!*()&q=%7e"
    with FakeRegistry(strict=False) as registry, transport(engine) as wire:
        registry.on("GET", "/v2/team/app/x", Reply(body=b"ok"))
        asked = Request("GET", registry.host, Scope(registry.host, "team/app"), target, "it")
        wire.fetch(asked)
        assert registry.log[0].raw_target == target


def test_body_announced_too_long_is_refused_before_reading(engine: str) -> None:
    with FakeRegistry() as registry:
        registry.on("GET", "/v2/x", Reply(chunks=[b" " * 65_536] * 256, content_length=16_777_216))
        with transport(engine) as wire, pytest.raises(LimitExceeded) as caught:
            wire.fetch(question(registry.host))
        assert caught.value.limit == 1_000
        assert "16777216" in str(caught.value)
        registry.wait_for(lambda: registry.log[0].done)
        # What the kernel takes of a body that nobody reads varies with its load.
        assert registry.log[0].sent < 8_388_608


@pytest.mark.parametrize("chunked", [False, True])
def test_endless_body_is_cut_at_the_limit(engine: str, chunked: bool) -> None:
    with FakeRegistry() as registry:
        registry.on("GET", "/v2/x", Reply.endless(chunked=chunked))
        with transport(engine) as wire, pytest.raises(LimitExceeded, match="at least"):
            wire.fetch(question(registry.host, limit=100_000))


@pytest.mark.parametrize(("size", "fits"), [(1_000, True), (1_001, False)])
def test_body_at_the_size_limit_is_accepted(engine: str, size: int, fits: bool) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.on("GET", "/v2/x", Reply(body=b"x" * size))
        if fits:
            assert wire.fetch(question(registry.host)).body == b"x" * size
        else:
            with pytest.raises(LimitExceeded, match="1001"):
                wire.fetch(question(registry.host))


def test_head_with_a_large_length_is_not_too_long(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.on("HEAD", "/v2/x", Reply(headers={"Content-Length": str(10**12)}))
        response = wire.fetch(question(registry.host, "HEAD"))
        assert response.headers.content_length == 10**12
        assert response.body == b""


def test_response_is_never_decoded(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.on("GET", "/v2/x", Reply(headers={"Content-Encoding": "gzip"}, body=b"raw"))
        assert wire.fetch(question(registry.host)).body == b"raw"


def test_cookies_are_not_stored(engine: str, registry: FakeRegistry) -> None:
    registry.on("GET", MANIFEST, Reply(503, {"Set-Cookie": "sid=1; Path=/"}), times=1)
    with source(registry.host, engine=engine) as app:
        app.document("1.0")
        app.document("1.0")
    assert len(registry.log) == 3
    assert not any("cookie" in seen.headers for seen in registry.log)


def test_repeated_headers_are_kept_separate(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.on("GET", "/v2/x", Reply(headers=[("X-A", "1"), ("x-a", "2")]))
        assert wire.fetch(question(registry.host)).headers.all("X-a") == ("1", "2")


def test_header_that_is_not_utf8_is_accepted(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.on("GET", "/v2/x", Reply(headers={"Server": "caf\xe9"}, body=b"ok"))
        assert wire.fetch(question(registry.host)).body == b"ok"


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (Reply(silent=True), ConnectionFailed, "closed the connection"),
        (Reply(silent=True, reset=True), ConnectionFailed, "closed the connection"),
        (Reply(body=b"x" * 100, truncate=10), ConnectionFailed, "before the answer was complete"),
        (
            Reply(chunks=[b"x" * 100], chunked=True, truncate=10),
            ConnectionFailed,
            "before the answer was complete",
        ),
        (Reply(raw=b"HTTP/1.1 1000 Odd\r\n\r\n"), ServerFault, "not HTTP"),
        (
            Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
            ServerFault,
            "not HTTP",
        ),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2_000_000), ServerFault, "too many headers"),
    ],
    ids=["silent", "reset", "short", "short-chunk", "status", "two-lengths", "big-header"],
)
def test_invalid_response_is_one_readable_error(
    engine: str, reply: Reply, error: type[Exception], words: str
) -> None:
    with FakeRegistry() as registry, transport(engine, options=ONCE) as wire:
        registry.on("GET", "/v2/x", reply)
        with pytest.raises(error, match=words) as caught:
            wire.fetch(question(registry.host))
        assert registry.host in str(caught.value)
        assert "\n" not in str(caught.value)


def test_closed_port_refuses_the_connection(engine: str) -> None:
    host = free_host()
    with transport(engine, options=ONCE) as wire, pytest.raises(ConnectionFailed) as caught:
        wire.fetch(question(host))
    assert str(caught.value) == f"`{host}` refuses connections"


def test_unknown_host_is_not_retried(engine: str) -> None:
    clock = FakeClock()
    with transport(engine, clock=clock) as wire, pytest.raises(ConnectionFailed) as caught:
        wire.fetch(question("no-such-host.invalid"))
    assert "no-such-host.invalid" in str(caught.value)
    assert clock.slept == [] or "name server" in str(caught.value)


def test_silent_server_times_out(engine: str) -> None:
    release = threading.Event()
    with FakeRegistry() as registry:
        registry.on("GET", "/v2/x", Reply(delay=release))
        options = {"attempts": 1, "read_timeout": 0.2}
        with transport(engine, options=options) as wire, pytest.raises(TimedOut) as caught:
            wire.fetch(question(registry.host))
        assert "within 0.2 s" in str(caught.value)
        release.set()


def test_stalled_body_times_out(engine: str) -> None:
    release = threading.Event()
    with FakeRegistry() as registry:
        registry.on("GET", "/v2/x", Reply(body=b"x" * 100, hold=release, hold_after=10))
        options = {"attempts": 1, "read_timeout": 0.2}
        with transport(engine, options=options) as wire, pytest.raises(TimedOut):
            wire.fetch(question(registry.host))
        release.set()


def test_broken_body_is_fetched_again(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.on("GET", "/v2/x", Reply(body=b"whole", truncate=2), Reply(body=b"whole"))
        assert wire.fetch(question(registry.host)).body == b"whole"
        assert len(registry.log) == 2


def test_invalid_port_is_malformed() -> None:
    with transport() as wire, pytest.raises(InvalidReference, match="port"):
        wire.fetch(question("registry.example:99999"))


def test_log_contains_only_our_own_lines(
    engine: str, registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeRegistry() as storage:
        storage.on("GET", "/blob", Reply(body=IMAGE.body, headers={"Content-Type": OCI_MANIFEST}))
        registry.redirect(MANIFEST, f"{storage.url}/blob?X-Amz-Signature=S1GNATURE")
        with caplog.at_level(1), source(registry.host, engine=engine) as app:
            app.document("1.0")
    assert "S1GNATURE" not in caplog.text
    assert {record.name.split(".")[0] for record in caplog.records} == {"resolver"}
    assert f"GET {storage.url}/blob answered 200" in caplog.messages


def test_given_client_gets_no_cookies_and_no_credentials_of_another_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.headers["host"] == "storage.test":
            return httpx.Response(200, headers={"Content-Type": OCI_MANIFEST}, content=IMAGE.body)
        if "authorization" not in request.headers:
            challenge = {"WWW-Authenticate": "Basic realm=x", "Set-Cookie": "sid=1"}
            return httpx.Response(401, headers=challenge)
        return httpx.Response(307, headers={"Location": "https://storage.test/x?sig=S1GNATURE"})

    with (
        caplog.at_level(1),
        httpx.Client(transport=httpx.MockTransport(answer), cookies={"mine": "1"}) as client,
        source(
            "registry.test",
            credentials=login("registry.test"),
            options={"client": client, "plain_http": False},
            lookup=Names(registry="1.1.1.1", storage="1.0.0.1"),
        ) as app,
    ):
        assert app.document("1.0").body == IMAGE.body

    asked = [(request.headers["host"], "authorization" in request.headers) for request in seen]
    assert asked == [("registry.test", False), ("registry.test", True), ("storage.test", False)]
    # Bound to the address that was checked.
    assert seen[-1].url.host == "1.0.0.1"
    assert seen[-1].extensions["sni_hostname"] == "storage.test"
    assert not any("cookie" in request.headers for request in seen)
    assert "S1GNATURE" not in caplog.text


@pytest.mark.parametrize("location", ["https://[::1", "//", "http://a:99999/"])
def test_invalid_redirect_is_refused_through_a_given_client(location: str) -> None:
    redirect = httpx.Response(307, headers={"Location": location})
    with (
        httpx.Client(transport=httpx.MockTransport(lambda _: redirect)) as client,
        transport(options={"client": client}) as wire,
        pytest.raises(RedirectRefused),
    ):
        wire.fetch(question("registry.test"))


def test_session_sends_requests_through_a_given_client(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    index = build_index([build_image("linux/amd64"), build_image("linux/arm64")])
    registry.serve("team/app", "2.0", index)
    with httpx.Client() as client:
        for name in ("first", "second"):
            with resolver.Session(tmp_path / name, environment={}, http_client=client) as session:
                found = session.resolve(f"{registry.host}/team/app:2.0", "linux/arm64")
                assert str(found.manifest.digest) == index.children[1].digest
        assert not client.is_closed
    # The connection outlives a session; each has found out whether TLS is used.
    assert registry.connections == 3


def test_http_library_may_log_for_other_users(registry: FakeRegistry) -> None:
    with source(registry.host, engine="httpx") as app:
        app.document("1.0")
    theirs = logging.LogRecord("httpcore.http11", logging.DEBUG, "", 0, "theirs", None, None)
    assert logging.getLogger("httpcore.http11").filter(theirs)


def test_requests_to_one_host_never_exceed_jobs(engine: str) -> None:
    release = threading.Event()
    with FakeRegistry() as registry, transport(engine, options={"jobs_per_host": 3}) as wire:
        registry.on("GET", "/v2/x", Reply(body=b"ok", delay=release))
        threads = [
            threading.Thread(target=lambda: wire.fetch(question(registry.host))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        assert registry.wait_for(lambda: len(registry.log) == 3)
        assert not registry.wait_for(lambda: len(registry.log) > 3, timeout=0.2)
        release.set()
        for thread in threads:
            thread.join()
        assert len(registry.log) == 8


def test_streams_hold_their_slot_until_closed(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine, options={"jobs_per_host": 1}) as wire:
        registry.on("GET", "/v2/x", Reply(body=b"x" * 100_000))
        with wire.stream(question(registry.host)) as answer:
            assert sum(map(len, answer.chunks())) == 100_000
        assert wire.fetch(question(registry.host, limit=100_000)).status == 200


def test_range_header_is_sent_and_answered(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.serve("team/app", "1.0", IMAGE)
        digest, blob = next(iter(IMAGE.blobs.items()))
        asked = Request(
            "GET",
            registry.host,
            Scope(registry.host, "team/app"),
            f"/v2/team/app/blobs/{digest}",
            "it",
            headers=(("Range", "bytes=5-9"),),
        )
        with wire.stream(asked) as answer:
            assert answer.status == 206
            assert b"".join(answer.chunks()) == blob[5:10]


def test_plain_http_on_loopback_needs_no_option(engine: str, registry: FakeRegistry) -> None:
    with source(registry.host, engine=engine, options={"plain_http": False}) as app:
        app.document("1.0")
        app.document("1.0")
    assert [seen.method for seen in registry.log] == ["GET", "GET"]
    # One probe for TLS, and one connection for everything else.
    assert registry.connections == 2


@pytest.fixture
def memory(tmp_path: Path) -> LocalStore:
    """Return a store that exists."""
    store = LocalStore(tmp_path / "store")
    store.add_document(IMAGE_DOCUMENT)
    return store


def test_scheme_of_a_loopback_registry_is_remembered_for_an_hour(
    engine: str, registry: FakeRegistry, memory: LocalStore
) -> None:
    connections = []
    for minutes in (0, 1, 59, 61):
        clock = FakeClock()
        clock.now += 60 * minutes
        options = {"plain_http": False, "schemes": memory}
        with source(registry.host, engine=engine, options=options, clock=clock) as app:
            before = registry.connections
            app.document("1.0")
            connections.append(registry.connections - before)
    # With a probe, and without.
    assert connections == [2, 1, 1, 2]


@pytest.mark.parametrize("before", ["http", "https"])
@pytest.mark.parametrize("has_tls", [False, True])
def test_remembered_scheme_that_is_wrong_is_found_out(
    engine: str, memory: LocalStore, before: str, *, has_tls: bool, tmp_path: Path
) -> None:
    clock = FakeClock()
    with FakeRegistry(tls=authority().good() if has_tls else None) as registry:
        registry.serve("team/app", "1.0", IMAGE)
        memory.remember_schemes({registry.host: before}, clock.wall())
        ca_file = authority().ca_file(tmp_path)
        options = {"plain_http": False, "schemes": memory, "ca_file": ca_file}
        with source(registry.host, engine=engine, options=options, clock=clock) as app:
            assert str(app.document("1.0").descriptor.digest) == IMAGE.digest
        assert clock.slept == []
        right = "https" if has_tls else "http"
        assert memory.recall_scheme(registry.host, clock.wall()) == right


def test_bad_request_over_a_remembered_scheme_is_asked_again_once(
    engine: str, registry: FakeRegistry, memory: LocalStore
) -> None:
    clock = FakeClock()
    registry.on("GET", "/v2/x", Reply(400, body=b"sent an HTTP request to an HTTPS server"))
    memory.remember_schemes({registry.host: "http"}, clock.wall())
    options = {"plain_http": False, "schemes": memory}
    with transport(engine, options=options, clock=clock) as wire:
        assert wire.fetch(question(registry.host)).status == 400
        assert wire.fetch(question(registry.host)).status == 400
    assert len(registry.log) == 3


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b'{"a": ["ftp", 1]}', b"null"])
def test_damaged_memory_of_schemes_is_ignored(memory: LocalStore, content: bytes) -> None:
    (memory.root / "loopback.json").write_bytes(content)
    assert memory.recall_scheme("a", NEW_YEAR) is None
    memory.remember_schemes({"a": "http"}, NEW_YEAR)
    assert memory.recall_scheme("a", NEW_YEAR + 1) == "http"
    # A clock that was set back proves nothing.
    assert memory.recall_scheme("a", NEW_YEAR - 1) is None


def test_scheme_is_recalled_for_loopback_hosts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        asked: ClassVar[list[str]] = []

        def recall_scheme(self, host: str, now: float) -> str:
            assert now
            self.asked.append(host)
            return "http"

        def remember_schemes(self, schemes: dict[str, str], now: float) -> None:
            raise AssertionError((schemes, now))

    monkeypatch.setattr("resolver.sources.http.client.has_tls", lambda _host, _port: True)
    with transport(options={"plain_http": False, "schemes": Memory()}) as wire:
        for host in ("10.0.0.5:5000", "registry.test", "registry.localhost:5000"):
            assert wire.base(host).scheme == "https"
            assert wire.base(host, HostSettings(plain_too=True)).scheme == "https"
        assert Memory.asked == []
        assert wire.base("localhost:5000").scheme == "http"
        assert Memory.asked == ["localhost:5000"]


def test_scheme_is_not_remembered_where_there_is_no_store(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        store = LocalStore(tmp_path / name)
        with source(registry.host, options={"plain_http": False, "schemes": store}) as app:
            app.document("1.0")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_tls_on_loopback_is_detected() -> None:
    with FakeRegistry(tls=authority().good()) as registry:
        host, _, port = registry.host.partition(":")
        assert has_tls(host, int(port)) is True


def test_plain_tls_and_closed_ports_are_distinguished() -> None:
    with FakeRegistry() as registry:
        host, _, port = registry.host.partition(":")
        assert has_tls(host, int(port)) is False
        assert registry.log == []
    assert has_tls("127.0.0.1", int(free_host().partition(":")[2])) is None


def test_tls_probe_is_not_a_valid_request() -> None:
    first = CLIENT_HELLO.partition(b"\n")[0]
    assert b" " not in first
    assert CLIENT_HELLO.startswith(b"\x16\x03\x01")


def test_http_library_can_be_loaded_in_threads_that_end(registry: FakeRegistry) -> None:
    program = f"""
import threading
from tests.kit.clients import source
def ask():
    with source({registry.host!r}) as app:
        app.document("1.0")
for _ in range(20):
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert ended.returncode == 0
    assert len(registry.log) == 20


def test_importing_the_client_loads_no_http_library() -> None:
    program = (
        "import sys, resolver.sources.http.client, resolver.sources.registry.repository;"
        "sys.exit(any(name in sys.modules for name in ('httpx', 'pyreqwest', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("engine", "unused"),
    # httpx loads rich, if that is installed, for a command line that is not used here.
    [("pyreqwest", ("httpx", "rich", "pygments")), ("httpx", ("pyreqwest",))],
)
def test_engine_does_not_load_the_library_of_the_other_one(
    registry: FakeRegistry, engine: str, unused: tuple[str, ...]
) -> None:
    program = f"""
import sys
from tests.kit.clients import source
with source({registry.host!r}, engine={engine!r}) as app:
    app.document("1.0")
assert {engine!r} in sys.modules
sys.exit(any(name in sys.modules for name in {unused!r}))
"""
    if engine not in ENGINES:
        pytest.skip(f"{engine} is not installed")
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_interrupt_ends_a_stalled_request(engine: str) -> None:
    release = threading.Event()
    with FakeRegistry() as registry, transport(engine, options=ONCE) as wire:
        registry.on("GET", "/v2/x", Reply(delay=release))

        def interrupt() -> None:
            registry.wait_for(lambda: len(registry.log) == 1)
            os.kill(os.getpid(), signal.SIGINT)

        helper = threading.Thread(target=interrupt)
        begin = time.monotonic()
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            wire.fetch(question(registry.host))
        assert time.monotonic() - begin < 3
        helper.join()
        release.set()


def free_host() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


def test_index_and_child_are_two_requests_in_all(engine: str) -> None:
    index = build_index([build_image("linux/amd64"), build_image("linux/arm64")])
    with FakeRegistry() as registry, source(registry.host, engine=engine) as app:
        registry.serve("team/app", "1.0", index)
        app.document("1.0")
        app.read(index.children[1].descriptor)
        assert registry.hits.total() == 2


def test_opening_a_stream_is_retried(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.on("GET", "/v2/x", Reply(503), Reply(body=b"x" * 50_000))
        with wire.stream(question(registry.host)) as answer:
            assert sum(map(len, answer.chunks())) == 50_000
        assert len(registry.log) == 2


def test_error_response_that_breaks_off_is_still_an_answer(engine: str) -> None:
    with FakeRegistry() as registry, transport(engine) as wire:
        registry.on("GET", "/v2/x", Reply(418, {}, b"short and stout " * 9_000, truncate=99_000))
        response = wire.fetch(question(registry.host))
        assert response.status == 418
        assert len(response.body) == 8_192
        assert registry.hits.total() == 1


@pytest.mark.parametrize(
    ("host", "tls", "scheme"),
    [
        ("localhost", {443: True}, "https"),
        ("localhost", {443: None, 80: False}, "http"),
        ("localhost", {443: None, 80: None}, "https"),
        ("localhost", {443: None, 80: True}, "https"),
        ("localhost:443", {443: False}, "https"),
        ("localhost:80", {80: True}, "http"),
        ("localhost:5000", {5000: True}, "https"),
        ("localhost:5000", {5000: False}, "http"),
        ("localhost:5000", {5000: None}, "https"),
        ("10.0.0.5:5000", {5000: False}, "https"),
        ("registry.localhost:5000", {5000: False}, "https"),
    ],
)
def test_only_loopback_uses_plain_http_by_default(
    monkeypatch: pytest.MonkeyPatch, host: str, tls: dict[int, bool | None], scheme: str
) -> None:
    monkeypatch.setattr("resolver.sources.http.client.has_tls", lambda _host, port: tls[port])
    with transport(options={"plain_http": False}) as wire:
        assert wire.base(host).scheme == scheme


@pytest.mark.parametrize(("jobs", "at_once"), [(None, 64), (4, 4), (16, 16), (100, 100)])
def test_concurrency_per_host_follows_the_option(
    tmp_path: Path, jobs: int | None, at_once: int
) -> None:
    settings = Settings.load(Flags(store=str(tmp_path), jobs=jobs), {})
    with open_transport(settings, frozenset(), ignore) as made:
        assert made.options.jobs_per_host == at_once


def gather_entropy() -> None:
    pytest.importorskip("pyreqwest")
    from resolver.sources.http import pyreqwest_engine

    pyreqwest_engine.gather_entropy()


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Record when random bytes are gathered, instead of doing it."""
    pytest.importorskip("pyreqwest")
    calls: list[bool] = []
    where = "resolver.sources.http.pyreqwest_engine.gather_entropy"
    monkeypatch.setattr(where, lambda: calls.append(True))
    return calls


@pytest.mark.parametrize(
    ("plain_http", "registry", "expected"),
    [
        (False, "registry.test", True),
        (False, "localhost:5000", True),
        (False, "localhost:5001", False),
        (True, "registry.test", False),
    ],
)
def test_entropy_is_gathered_where_tls_is_likely(
    memory: LocalStore,
    gathered: list[bool],
    registry: str,
    *,
    plain_http: bool,
    expected: bool,
) -> None:
    memory.remember_schemes({"localhost:5000": "https", "localhost:5001": "http"}, time.time())
    flags = Flags(store=str(memory.root), plain_http=plain_http)
    settings = Settings.load(flags, {"RESOLVER_HTTP": ""})
    with open_transport(settings, frozenset(), ignore, schemes=memory, registry=registry):
        assert bool(gathered) is expected


def test_entropy_is_not_gathered_for_another_engine(
    memory: LocalStore, gathered: list[bool]
) -> None:
    chosen = Settings.load(Flags(store=str(memory.root)), {"RESOLVER_HTTP": "httpx"})
    with open_transport(chosen, frozenset(), ignore):
        pass
    settings = Settings.load(Flags(store=str(memory.root)), {"RESOLVER_HTTP": ""})
    with (
        httpx.Client() as client,
        open_transport(settings, frozenset(), ignore, client=client),
    ):
        assert gathered == []


def test_gathering_entropy_begins_a_tls_handshake_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pyreqwest")
    received: list[bytes] = []

    class Watched(socket.socket):
        """A listening socket that looks at what came before it is closed."""

        def __exit__(self, *_: object) -> None:
            self.settimeout(5)
            link, _address = self.accept()
            with link:
                received.append(link.recv(1))
            self.close()

    def listen(address: tuple[str, int]) -> Watched:
        assert address == ("127.0.0.1", 0)
        made = Watched()
        made.bind(address)
        made.listen()
        return made

    monkeypatch.setattr("resolver.sources.http.pyreqwest_engine.socket.create_server", listen)
    before = len([*Path("/dev/fd").iterdir()])
    # A busy machine may not get as far within the time limit.
    for _ in range(20):
        gather_entropy()
        (thread,) = (one for one in threading.enumerate() if one.name == "resolver-entropy")
        assert not thread.daemon
        thread.join(30)
        assert not thread.is_alive()
        if received[-1] == b"\x16":
            break
    assert received[-1] == b"\x16"
    assert len([*Path("/dev/fd").iterdir()]) <= before + 4


def test_gathering_entropy_needs_no_listening_port(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyreqwest")

    def refuse(_address: tuple[str, int]) -> None:
        raise PermissionError

    monkeypatch.setattr("resolver.sources.http.pyreqwest_engine.socket.create_server", refuse)
    gather_entropy()
    for thread in threading.enumerate():
        if thread.name == "resolver-entropy":
            thread.join(30)
    assert not any(one.name == "resolver-entropy" for one in threading.enumerate())


def test_tls_probe_loads_no_codec_for_international_names() -> None:
    with FakeRegistry() as registry:
        host, _, port = registry.host.partition(":")
        code = (
            "import sys; from resolver.sources.http.client import has_tls; "
            f"assert has_tls({host!r}, {port}) is False; assert 'encodings.idna' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Broken(Exception):
    """What an engine raises; `details` as pyreqwest has them."""

    def __init__(self, *causes: str) -> None:
        super().__init__(*causes)
        self.details = {"causes": list(causes)}


def _speaks_of_plain_http(words: str, url: str, **how: bool) -> bool:
    hints = translate(Broken(words), Url.parse(url), **how).error.hints()
    return any("--plain-http" in hint for hint in hints)


@pytest.mark.parametrize(
    ("words", "url", "how", "expected"),
    [
        ("wrong version number", "https://a.test:5000/v2/", {}, True),
        ("tls handshake eof", "https://a.test:5000/v2/", {}, True),
        # Plain HTTP is unlikely on port 443, or where TLS was used before.
        ("tls handshake eof", "https://a.test/v2/", {}, False),
        ("tls handshake eof", "https://a.test:5000/v2/", {"answered": True}, False),
        ("connection closed", "http://a.test/v2/", {"plain_http": True}, True),
        ("invalid http version parsed", "http://a.test/v2/", {"plain_http": True}, True),
        # http was not chosen by the option, or it is not the cause.
        ("connection closed", "http://127.0.0.1:5000/v2/", {}, False),
        ("connection closed", "http://a.test/v2/", {"plain_http": True, "answered": True}, False),
        ("connection refused", "http://a.test/v2/", {"plain_http": True}, False),
        ("name or service not known", "http://a.test/v2/", {"plain_http": True}, False),
        ("no route to host", "http://a.test/v2/", {"plain_http": True}, False),
        ("connection reset by peer", "https://a.test/v2/", {}, False),
    ],
)
def test_plain_http_hint_appears_only_when_it_can_be_the_cause(
    words: str, url: str, how: dict[str, bool], *, expected: bool
) -> None:
    assert _speaks_of_plain_http(words, url, **how) is expected


@pytest.mark.parametrize("has_answered", [False, True])
def test_registry_that_answered_before_gets_no_plain_http_hint(
    registry: FakeRegistry, engine: str, *, has_answered: bool
) -> None:
    with source(registry.host, engine=engine, options=ONCE) as app:
        if has_answered:
            app.document("1.0")
        registry.on("GET", MANIFEST, Reply(silent=True))
        with pytest.raises(ConnectionFailed) as caught:
            app.document("1.0")

    hinted = any("--plain-http" in hint for hint in caught.value.hints())
    assert hinted is not has_answered


def test_panic_in_the_http_library_is_a_failed_connection() -> None:
    class Panic(Exception):
        details: ClassVar = {"causes": ["failed to wake I/O driver"]}

    trouble = translate(Panic("it panicked"), Url.parse("http://127.0.0.1:5000/v2/"))

    assert "the connection to `127.0.0.1:5000` failed" in str(trouble.error)
