"""Area `fault`: failing disks, networks, limits and registries."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from resolver.clock import SystemClock
from resolver.core.oci.descriptor import OCI_MANIFEST
from resolver.sources.http.messages import TransportOptions
from tests.faults import invariants
from tests.faults.injection import Fault
from tests.faults.inside import mounted, needs_mounts, needs_network, needs_root
from tests.faults.samples import AMD64, KIB, MIB, digest_of, img_a, layer, layers, needed
from tests.kit.certificates import authority
from tests.kit.images import build_image, build_index, entry, from_dict
from tests.kit.messages import Reply, Seen
from tests.kit.registry import FakeRegistry
from tests.kit.soak import SOAK, times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.ground import Ground
    from tests.kit.images import Image

L1, L2, L3 = layers()
D1, D2, D3 = (digest_of(img_a().child(AMD64), body) for body in layers())
PATH = f"/v2/img-a/blobs/{D2}"
NOBODY = 65534


# Disks


@needs_mounts
@pytest.mark.parametrize("scenario", ["disk_full", "disk_filling", "inodes_full"])
def test_flt_003_full_disk_is_a_store_error_until_there_is_space(
    ground: Ground, scenario: str
) -> None:
    ground.damaged = True
    done = mounted(ground, scenario)

    ground.refused(done["full"], "STORE", "space")
    assert done["after"].status == 0


@pytest.mark.parametrize("limit", [MIB, 1000])
def test_flt_005_file_size_limit_is_a_store_error(ground: Ground, limit: int) -> None:
    (outcome,) = ground.together(ground.pulling(limits={"fsize": limit}))

    ground.refused(outcome, "STORE", str(ground.store), "ulimit -f")
    assert D2 not in invariants.intact(ground.store)
    assert invariants.names(ground.store) == {}
    ground.recovers(img_a())


def test_flt_021_store_that_turns_read_only_keeps_published_content(ground: Ground) -> None:
    log = ground.folder / "log"
    ground.outputs.append(log)
    # One at a time both times, so that the calls of the second run are those of the first.
    ground.together(
        ground.pulling(None, "--jobs", "1", fault=Fault(str(ground.store), log=str(log)))
    )
    calls = invariants.read_log(log)
    at = next(n for n, (name, where) in enumerate(calls) if name == "rename" and D1[7:] in where)
    here = ground.apart("again")
    fault = Fault(str(here.store), at=at + 8, error=errno.EROFS, lasting=True)

    (outcome,) = here.together(here.pulling(None, "--jobs", "1", fault=fault))

    here.refused(outcome, "STORE", str(here.store))
    published = set(invariants.intact(here.store))
    assert published & set(img_a().child(AMD64).blobs)
    assert invariants.names(here.store) == {}
    here.recovers(img_a())


@pytest.mark.parametrize("wrong", ["missing", "file", "read-only"])
def test_flt_017_pull_needs_no_folder_except_its_store(ground: Ground, wrong: str) -> None:
    place = ground.folder / "elsewhere"
    if wrong == "file":
        place.touch()
    elif wrong == "read-only":
        place.mkdir(mode=0o500)
    names = ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")
    environment = dict.fromkeys(names, str(place))

    (outcome,) = ground.together(ground.pulling(environment=environment))

    assert outcome.status == 0, outcome
    assert not place.is_dir() or not list(place.iterdir())


# Limits


def large(ground: Ground, size: int) -> Image:
    """Serve an image with one layer that is not held in memory."""
    block = bytes(range(256)) * 4096
    hasher = hashlib.sha256()
    for _ in range(size // len(block)):
        hasher.update(block)
    digest = f"sha256:{hasher.hexdigest()}"
    child = build_image(AMD64, [b"x"])
    config = next(body for body in child.blobs.values() if body.startswith(b"{"))
    described = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": "sha256:" + hashlib.sha256(config).hexdigest(),
        "size": len(config),
    }
    one = {"mediaType": "application/octet-stream", "digest": digest, "size": size}
    manifest = from_dict(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": [one]},
        blobs=[config],
    )
    listed = replace(manifest, platform=AMD64)
    image = build_index([], extra=[entry(listed, platform=AMD64)])
    image = replace(
        image,
        documents={**image.documents, **manifest.documents},
        blobs=manifest.blobs,
        children=(listed,),
    )
    ground.registry.serve("large", "1", image)

    def answer(seen: Seen) -> Reply:
        asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", seen.headers.get("range", ""))
        start, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{size}"} if asked else {}

        def pieces() -> Iterator[bytes]:
            at = start
            while at < end:
                offset = at % len(block)
                piece = block[offset : offset + min(64 * KIB, end - at)]
                yield piece
                at += len(piece)

        return Reply(206 if asked else 200, headers, chunks=pieces(), content_length=end - start)

    ground.registry.on("GET", f"/v2/large/blobs/{digest}", answer)
    return image


def test_flt_013_pull_of_a_large_layer_needs_little_memory(ground: Ground) -> None:
    size = times(96, 1024) * MIB
    large(ground, size)

    (outcome,) = ground.together(ground.pulling(ground.reference("large")))

    assert outcome.status == 0, outcome
    assert outcome.rss < 160 * 1024, outcome.rss
    assert size in invariants.intact(ground.store).values()


def test_flt_013_address_space_of_400_mib_is_enough_or_an_error(ground: Ground) -> None:
    large(ground, times(96, 1024) * MIB)
    limits = {"as": 400 * MIB}

    (outcome,) = ground.together(ground.pulling(ground.reference("large"), limits=limits))

    assert outcome.status in {0, 8}, outcome


@pytest.mark.parametrize("limit", [20, 12])
def test_flt_013_few_descriptors_are_enough_or_an_error(ground: Ground, limit: int) -> None:
    (outcome,) = ground.together(ground.pulling(limits={"nofile": limit}))

    assert outcome.status in {0, 5, 8}, outcome
    ground.recovers(img_a())


@needs_root
def test_flt_013_thread_limit_is_an_error_of_one_line(ground: Ground) -> None:
    from tests.faults.test_stores import opened_up

    ground.store.mkdir()
    os.chown(ground.store, NOBODY, NOBODY)
    with opened_up(ground.folder):
        (outcome,) = ground.together(ground.pulling(user=NOBODY, limits={"nproc": 1}))

    assert outcome.status in {0, 5, 8}, outcome


# Networks


@contextmanager
def patience(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shorten the timeouts of 10 s and 30 s of every connection."""
    defaults = TransportOptions.__init__.__defaults__
    assert defaults is not None
    shorter = tuple(seconds if value in {10.0, 30.0} else value for value in defaults)
    with monkeypatch.context() as patch:
        patch.setattr(TransportOptions.__init__, "__defaults__", shorter)
        yield


CUT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Le"
BROKEN = {
    "reset in the body": Reply(body=L2, truncate=MIB, reset=True),
    "end in the body": Reply(body=L2, truncate=MIB),
    "end in the headers": Reply(raw=CUT_HEAD),
    "nothing": Reply(silent=True),
    "reset at once": Reply(silent=True, reset=True),
    "no http": Reply(raw=b"220 mail.example.com ESMTP\r\n"),
}


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("reply", [reply for name, reply in BROKEN.items() if name != "no http"])
def test_flt_012_connection_that_breaks_once_is_retried(ground: Ground, reply: Reply) -> None:
    ground.registry.on("GET", PATH, reply, times=1)

    assert ground.pull().status == 0
    assert len(ground.gets(D2)) == 2
    ground.recovers(img_a(), most=0)


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_flt_012_connection_that_always_breaks_is_a_network_error(
    ground: Ground, reply: Reply
) -> None:
    ground.registry.on("GET", PATH, lambda _seen: reply)

    outcome = ground.pull()

    ground.refused(outcome, "NETWORK", ground.registry.host)
    # 1 MiB is progress; each MiB of it starts the count of tries anew.
    assert len(ground.gets(D2)) <= 10
    ground.recovers(img_a())


@pytest.mark.usefixtures("waits")
def test_flt_012_closed_port(ground: Ground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    ground.refused(ground.pull(f"127.0.0.1:{port}/img-a:1"), "NETWORK", f"127.0.0.1:{port}")
    ground.recovers(img_a())


@pytest.mark.usefixtures("waits")
def test_flt_012_unknown_host_name(ground: Ground) -> None:
    ground.refused(ground.pull("no-such-host.invalid/img-a:1"), "NETWORK", "no-such-host.invalid")


@pytest.mark.usefixtures("waits")
def test_flt_012_host_that_drops_packets(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        host = f"127.0.0.1:{deaf.getsockname()[1]}"
        # Once its queue is full, the kernel drops connection requests.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(deaf.getsockname())
        monkeypatch.setattr("resolver.sources.http.client.PATIENCE", 0.2)
        with patience(0.2, monkeypatch):
            outcome = ground.pull(f"{host}/img-a:1", "--plain-http")
        for each in waiting:
            each.close()

    ground.refused(outcome, "NETWORK", host)
    assert outcome.seconds < 10


@needs_network
def test_flt_012_firewall_that_rejects(ground: Ground) -> None:
    ground.damaged = True
    done = mounted(ground, "reject", network=True)

    ground.refused(done["reject"], "NETWORK", "8.8.8.8")
    assert done["reject"].seconds < 15


@needs_network
@pytest.mark.skipif(not SOAK, reason="takes half a minute: RESOLVER_SOAK=1")
def test_flt_012_firewall_that_drops_is_given_up_within_half_a_minute(ground: Ground) -> None:
    ground.damaged = True
    done = mounted(ground, "drop", network=True)

    ground.refused(done["drop"], "NETWORK", "8.8.8.8")
    assert done["drop"].seconds < 30


@pytest.mark.usefixtures("waits")
def test_flt_012_tls_that_ends_without_close_notify_is_not_the_end(ground: Ground) -> None:
    with FakeRegistry(tls=authority().good()) as registry:
        registry.serve("img-a", "1", img_a())
        ca_file = authority().ca_file(ground.folder)
        cut = Reply(body=L2[:MIB], content_length=False, truncate=MIB)
        whole = Reply(body=L2, content_length=False, truncate=len(L2))
        here = replace(ground, registry=registry)
        for reply in (cut, whole):
            registry.on("GET", PATH, reply, times=1)
            outcome = here.pull(None, "--ca-file", str(ca_file))
            assert outcome.status == 0, outcome
            here("rm", here.reference())
            here("gc", "--grace", "0s")


@pytest.mark.usefixtures("waits")
def test_flt_012_port_that_closes_after_two_requests(ground: Ground) -> None:
    with FakeRegistry(strict=False) as registry:
        registry.serve("img-a", "1", img_a())
        here = replace(ground, registry=registry)
        # Bodies never come; the port closes while they are waited for.
        never = threading.Event()
        for digest in img_a().child(AMD64).blobs:
            registry.on("GET", f"/v2/img-a/blobs/{digest}", Reply(delay=never))
        closer = closing(registry, lambda: len(registry.log) > 2)
        outcome = here.pull()
        closer.join()
        here.refused(outcome, "NETWORK", registry.host)
    ground.look()


def test_flt_019_server_errors_recover_or_are_network_errors(
    ground: Ground, waits: list[float]
) -> None:
    html = b"<html><head><title>503</title></head><body>\x1b[31m::error::down</body></html>"
    headers = {"Content-Type": "text/html"}
    codes = (500, 502, 503, 504, 429, 408)
    for tried in (4, 6):
        here = ground.apart(tried)
        here.honest()
        replies = [Reply(code, headers, html) for code in codes[:tried]]
        here.registry.on("GET", PATH, *replies, times=tried)
        begin = len(here.registry.log)
        outcome = here.pull()
        assert len(here.gets(D2, begin=begin)) == 5
        assert "<html>" not in outcome.out + outcome.err
        if tried == 4:
            assert outcome.status == 0, outcome
        else:
            assert outcome.failure["class"] in {"NETWORK", "RATELIMIT"}
            assert outcome.status == 5
        here.recovers(img_a())
    assert len(waits) == 8


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("cut", [False, True])
def test_flt_022_pull_from_an_http_1_0_registry(ground: Ground, *, cut: bool) -> None:
    shelves = ground.registry.shelves
    cuts = count()

    def answer(seen: Seen) -> Reply | None:
        reply = shelves.answer(seen)
        if reply is None:
            return None
        end = len(reply.body) // 2 if cut and seen.path == PATH and next(cuts) == 0 else None
        head = f"HTTP/1.0 {reply.status} OK\r\n"
        for name, value in dict(reply.headers).items():
            head += f"{name}: {value}\r\n"
        body = b"" if seen.method == "HEAD" else reply.body[:end]
        return Reply(raw=f"{head}Connection: close\r\n\r\n".encode() + body)

    child = img_a().child(AMD64)
    paths = [f"/v2/img-a/blobs/{digest}" for digest in child.blobs]
    paths += [f"/v2/img-a/manifests/{name}" for name in ("1", child.digest)]
    for path in paths:
        ground.registry.on("*", path, answer)

    assert ground.pull().status == 0
    assert set(invariants.intact(ground.store)) == set(needed(img_a()))
    assert len(ground.gets(D2)) == 1 + cut


def test_flt_023_registry_restart_costs_little(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [layer(2 * MIB, 500 + number) for number in range(3)]
    image = build_index([build_image(AMD64, bodies)])
    digests = [digest_of(image.child(AMD64), body) for body in bodies]
    first = FakeRegistry(strict=False)
    never = threading.Event()
    for digest, body in zip(digests, bodies, strict=True):
        first.on("GET", f"/v2/app/blobs/{digest}", Reply(body=body, hold=never, hold_after=MIB))
    first.serve("app", "1", image)
    port = int(first.host.rpartition(":")[2])
    again: list[FakeRegistry] = []
    lock = threading.Lock()
    slept = count()

    def sleep(_clock: SystemClock, _seconds: float, _stop: threading.Event) -> None:
        with lock:
            # Down for a while, and then back on the same port.
            if next(slept) >= 3 and not again:
                again.append(registry_at(port, monkeypatch))
                again[0].serve("app", "1", image)

    monkeypatch.setattr(SystemClock, "sleep", sleep)
    killer = closing(
        first, lambda: sum(seen.sent >= MIB for seen in first.requests("GET", "/blobs/")) == 3
    )
    here = replace(ground, registry=first)
    outcome = here.pull(here.reference("app"))
    killer.join()
    if not again:
        again.append(registry_at(port, monkeypatch))
        again[0].serve("app", "1", image)
    here = replace(ground, registry=again[0])
    if outcome.status != 0:
        here.refused(outcome, "NETWORK", here.registry.host)
        assert here.pull(here.reference("app")).status == 0
    with again[0]:
        sent = sum(
            seen.sent for host in (first, again[0]) for seen in host.requests("GET", "/blobs/")
        )
        assert sent < 1.5 * sum(map(len, bodies))
        here.settles()


def closing(registry: FakeRegistry, when: Callable[[], bool]) -> threading.Thread:
    """Close a registry as soon as a condition holds."""

    def close() -> None:
        registry.wait_for(when)
        registry.close()

    thread = threading.Thread(target=close)
    thread.start()
    return thread


def registry_at(port: int, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """Start a registry on this port."""
    create = socket.create_server

    def chosen(_address: object, **how: object) -> socket.socket:
        return create(("127.0.0.1", port), **how)  # type: ignore[arg-type]  # passed on

    with monkeypatch.context() as patch:
        patch.setattr(socket, "create_server", chosen)
        return FakeRegistry()
