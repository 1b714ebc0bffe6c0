"""Many clients of one server, including hostile ones."""

from __future__ import annotations

import http.client
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.verbs.serve import connections
from resolver.verbs.serve.api import Later, MemoryShelf, ServerResponse
from resolver.verbs.serve.server import serve
from tests.kit.exports import exported, stocked
from tests.kit.images import build_image
from tests.kit.pulls import noise
from tests.kit.registry import FakeRegistry, Reply
from tests.kit.serve_client import ask
from tests.verbs.test_serve import APP, LAYER, FileShelf
from tests.verbs.test_serve_mirror import MirrorSetup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.verbs.serve.server import Server

CLIENTS = 500
BLOB = noise(300_000, 5)
#: More than there are threads that answer.
MANY = 100


def dial(address: str, stack: ExitStack) -> socket.socket:
    host, _, port = address.rpartition(":")
    return stack.enter_context(socket.create_connection((host, int(port)), timeout=20))


def request(target: str, *lines: str) -> bytes:
    head = [f"GET {target} HTTP/1.1", "Host: localhost", *lines, "", ""]
    return "\r\n".join(head).encode()


def fetch_at_once(address: str, target: str, count: int, deadline: float) -> list[bytes]:
    """Send requests on many connections in one thread; return each whole answer."""
    host, _, port = address.rpartition(":")
    answers: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for number in range(count):
            link = stack.enter_context(socket.socket())
            link.setblocking(False)
            link.connect_ex((host, int(port)))
            answers[number] = bytearray()
            selector.register(link, selectors.EVENT_WRITE, number)
        is_open = count
        until = time.monotonic() + deadline
        while is_open and time.monotonic() < until:
            for key, _ in selector.select(1):
                assert isinstance(key.fileobj, socket.socket)
                link = key.fileobj
                if key.events == selectors.EVENT_WRITE:
                    link.send(request(target, "Connection: close"))
                    selector.modify(link, selectors.EVENT_READ, key.data)
                    continue
                data = link.recv(1 << 18)
                answers[key.data] += data
                if not data:
                    selector.unregister(link)
                    is_open -= 1
    return [bytes(each) for each in answers.values()]


def assert_all_got(answers: list[bytes], body: bytes) -> None:
    assert len(answers) == CLIENTS
    for answer in answers:
        head, _, got = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert got == body


def memory(process: subprocess.Popen[str]) -> int:
    """Return the peak memory of a process in KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    found = re.search(r"VmHWM:\s+([0-9]+) kB", status)
    assert found is not None
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("is_mirror", [False, True])
def test_serve_500_clients_in_bounded_memory(tmp_path: Path, is_mirror: bool) -> None:
    image = build_image("linux/amd64", [BLOB])
    target = f"/blobs/{Digest.of(BLOB)}"
    words = [sys.executable, "-m", "resolver", "serve", "--listen", "127.0.0.1:0"]
    with FakeRegistry() as upstream:
        if is_mirror:
            upstream.serve("team/app", "1", image)
            words += ["--mirror", "--upstream", upstream.host, "--store", str(tmp_path / "mirror")]
            target = f"/v2/team/app{target}"
        else:
            exported(stocked(tmp_path, app=image), tmp_path / "layout", "app:1")
            words.append(f"oci:{tmp_path / 'layout'}")
            target = f"/v2/layout{target}"
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().strip()
                # With everything imported that it takes to answer.
                assert answers_to(address, f"{target.partition('/blobs/')[0]}/manifests/1")
                before = memory(process)
                answers = fetch_at_once(address, target, CLIENTS, 60)
                after = memory(process)
            finally:
                process.terminate()
        if is_mirror:
            asked = upstream.requests("GET", "/blobs/")
            ranges = [seen.headers.get("range") for seen in asked]
            assert len(ranges) == len(set(ranges))
    assert_all_got(answers, BLOB)
    assert after - before < 64 * 1024


def test_serve_500_clients_with_few_descriptors(tmp_path: Path) -> None:
    exported(
        stocked(tmp_path, app=build_image("linux/amd64", [BLOB])), tmp_path / "layout", "app:1"
    )
    serving = f"{sys.executable} -m resolver serve oci:layout --listen 127.0.0.1:0"
    with subprocess.Popen(
        ["/bin/sh", "-c", f"ulimit -n 250 && exec {serving}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            target = f"/v2/layout/blobs/{Digest.of(BLOB)}"
            answers = fetch_at_once(address, target, CLIENTS, 60)
        finally:
            process.terminate()
    assert_all_got(answers, BLOB)


def answers_to(address: str, target: str) -> bool:
    link = http.client.HTTPConnection(address, timeout=20)
    link.request("GET", target)
    status = link.getresponse().status
    link.close()
    return status == 200


def test_excess_connections_wait_in_the_queue() -> None:
    gate, begun = threading.Event(), threading.Event()

    def slowly(_method: str, target: str, _via: str, _peer: object) -> ServerResponse:
        if target == "/slow":
            begun.set()
            assert gate.wait(20)
        return ServerResponse(200, (), target.encode())

    with serve(slowly, connections=2) as server, ExitStack() as stack:
        first = [dial(server.address, stack) for _ in range(2)]
        for link in first:
            link.sendall(request("/slow", "Connection: close"))
        assert begun.wait(20)
        waiting = [dial(server.address, stack) for _ in range(20)]
        for link in waiting:
            link.sendall(request("/quick", "Connection: close"))
        gate.set()
        answers = [b"".join(iter(lambda link=link: link.recv(9_999), b"")) for link in waiting]  # type: ignore[misc]  # bound now
    assert [each.startswith(b"HTTP/1.1 200 ") for each in answers] == [True] * 20


def test_idle_connections_make_room_the_oldest_first() -> None:
    with serve(MemoryShelf([APP]), connections=4) as server, ExitStack() as stack:
        oldest, *others = (dial(server.address, stack) for _ in range(4))
        for link in (oldest, *others, *others):
            link.sendall(request("/v2/"))
            assert link.recv(9_999).startswith(b"HTTP/1.1 200 ")
        for _ in range(2):
            link = dial(server.address, stack)
            link.sendall(request("/v2/"))
            assert link.recv(9_999).startswith(b"HTTP/1.1 200 ")
        oldest.settimeout(5)
        assert ended(oldest)
        others[-1].sendall(request("/v2/"))
        assert others[-1].recv(9_999).startswith(b"HTTP/1.1 200 ")


def ended(link: socket.socket) -> bool:
    return link.recv(1) == b""


def test_idle_connections_stay_while_there_is_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_IDLE", 0.0)
    with serve(MemoryShelf([APP]), connections=2) as server, ExitStack() as stack:
        link = dial(server.address, stack)
        for _ in range(3):
            link.sendall(request("/v2/"))
            assert link.recv(9_999).startswith(b"HTTP/1.1 200 ")
            assert ask(server, "/v2/").status == 200


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "blob").write_bytes(bytes(64_000_000))
    with serve(FileShelf(tmp_path / "blob")) as running:
        yield running


def test_slow_request_header_ends_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIME", 0.5)
    with serve(MemoryShelf([APP])) as server, ExitStack() as stack:
        slow, silent = dial(server.address, stack), dial(server.address, stack)
        kept = dial(server.address, stack)
        kept.sendall(request("/v2/"))
        assert kept.recv(9_999).startswith(b"HTTP/1.1 200 ")
        begin = time.monotonic()
        slow.settimeout(0.05)
        answer = b""
        for byte in request("/v2/", *(f"X: {number}" for number in range(90))):
            slow.sendall(bytes([byte]))
            try:
                answer = slow.recv(9_999)
            except TimeoutError:
                continue
            break
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begin < 5
        assert ended(silent)
        # The time of a connection that is kept begins with the next request.
        kept.sendall(request("/v2/"))
        assert kept.recv(9_999).startswith(b"HTTP/1.1 200 ")


def test_request_header_deadline_is_ten_seconds() -> None:
    assert connections.HEAD_TIME == 10


@pytest.mark.parametrize("begin", [b"", b"GET /v2/ HTTP/1.1\r\nX: "])
def test_slow_request_headers_block_no_other_client(
    monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(connections, "_SLOW", 0.2)
    with serve(MemoryShelf([APP]), connections=64) as server, ExitStack() as stack:
        slow = [dial(server.address, stack) for _ in range(MANY)]
        for link in slow:
            link.sendall(begin)
        assert ask(server, "/v2/").status == 200


def test_clients_that_do_not_read_hold_no_thread(server: Server) -> None:
    with ExitStack() as stack:
        links = [dial(server.address, stack) for _ in range(MANY)]
        for link in links:
            link.sendall(request(f"/v2/demo/app/blobs/{LAYER}"))
            assert link.recv(1) == b"H"
        assert ask(server, "/v2/").status == 200


def test_answer_in_memory_is_released_for_a_client_that_does_not_read() -> None:
    body, count = noise(8_000_000, 3), 20

    def copy(*_: object) -> ServerResponse:
        return ServerResponse(200, (), bytes(bytearray(body)))

    with serve(copy) as server, ExitStack() as stack:
        tracemalloc.start()
        try:
            links = [dial(server.address, stack) for _ in range(count)]
            for link in links:
                link.sendall(request("/", "Connection: close"))
                assert link.recv(1) == b"H"
            assert ask(server, "/").body == body
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 2 * len(body)
        rest = b"".join(iter(lambda: links[-1].recv(1 << 20), b""))
        assert rest.endswith(b"\r\n\r\n" + body)


def test_client_that_reads_nothing_is_closed_for_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connections, "_STALLED", 0.2)
    (tmp_path / "blob").write_bytes(bytes(64_000_000))
    with serve(FileShelf(tmp_path / "blob"), connections=2) as server, ExitStack() as stack:
        for link in [dial(server.address, stack) for _ in range(3)]:
            link.sendall(request(f"/v2/demo/app/blobs/{LAYER}"))
            assert link.recv(1) == b"H"
        assert ask(server, "/v2/").status == 200


def hang_up(*_: object) -> connections.Exchange:
    """End the connection without an answer."""
    yield connections.Waits.TURN
    return False


def test_closed_connection_is_not_continued() -> None:
    """Its event may arrive together with the client that replaces it."""
    opened = connections.Connections(hang_up, "127.0.0.1", 0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        gone = connections.Link(theirs, ("127.0.0.1", 1))
        gone.enter(connections._State.SENDING, 1.0)
        opened._watch(gone, selectors.EVENT_WRITE)
        thread = threading.Thread(target=opened.run)
        thread.start()
        with socket.create_connection(("127.0.0.1", opened.port), timeout=20) as link:
            link.sendall(request("/"))
            assert ended(link)
        opened.close()
        thread.join()
        assert gone.state is connections._State.SENDING


def test_client_with_a_delayed_answer_is_closed_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_STALLED", 0.2)

    def put_off(_method: str, target: str, _via: str, _peer: object) -> ServerResponse:
        if target == "/never":
            raise Later
        return ServerResponse(200, (), b"here")

    with serve(put_off, connections=2) as server, ExitStack() as stack:
        for link in [dial(server.address, stack) for _ in range(3)]:
            link.sendall(request("/never"))
        assert ask(server, "/").body == b"here"


@pytest.mark.parametrize("what", ["blobs", "manifests", "tags", "referrers"])
def test_clients_of_a_stalled_upstream_block_no_others(tmp_path: Path, what: str) -> None:
    image, held = build_image("linux/amd64", [BLOB]), threading.Event()
    other = build_image("linux/amd64", [noise(100, number) for number in range(10, 40)])
    digest = Digest.of(BLOB)
    with FakeRegistry() as stalled, FakeRegistry() as good:
        good.serve("team/app", "1", image)
        stalled.serve("team/app", "1", other)
        paths = {
            "blobs": [f"/v2/team/app/blobs/{each}" for each in other.blobs],
            "manifests": [f"/v2/team/app/manifests/v{number}" for number in range(MANY)],
            "tags": ["/v2/team/app/tags/list"],
            "referrers": [f"/v2/team/app/referrers/{digest}"],
        }[what]
        for path in paths:
            stalled.on("GET", path, Reply(404, delay=held))
        ground = MirrorSetup(good, tmp_path)
        with (
            ground.session() as session,
            session.serve_mirror(upstream=good.host, allow=[stalled.host]) as server,
            ExitStack() as stack,
        ):
            for number in range(MANY):
                link = dial(server.address, stack)
                target = paths[number % len(paths)]
                link.sendall(request(f"{target}?ns={stalled.host}"))
            assert stalled.wait_for(lambda: bool(stalled.requests("GET")))
            assert ask(server, f"/v2/team/app/blobs/{digest}").body == BLOB
            assert ask(server, "/v2/team/app/manifests/1").body == image.body
            held.set()
