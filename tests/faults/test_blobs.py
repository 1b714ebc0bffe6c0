"""Area `blob`: bodies that are cut, altered, too long, or the wrong range."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from resolver.sources.http import connection
from resolver.sources.http.messages import TransportOptions
from tests.faults import invariants
from tests.faults.samples import AMD64, KIB, MIB, digest_of, img_a, img_a2, layer, layers, needed
from tests.kit.images import build_image, build_index
from tests.kit.messages import Reply, Seen
from tests.kit.outcomes import no_credentials_received
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from tests.faults.ground import Ground

L2 = layers()[1]
D2 = digest_of(img_a().child(AMD64), L2)
PATH = f"/v2/img-a/blobs/{D2}"


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :]


def nothing_named(ground: Ground) -> None:
    assert invariants.names(ground.store) == {}
    assert D2 not in invariants.intact(ground.store)


def test_blb_001_flipped_bit_is_an_integrity_error_and_leaves_nothing(ground: Ground) -> None:
    wrong = flipped(L2, MIB)
    ground.registry.on("GET", PATH, Reply(body=wrong))

    outcome = ground.pull()

    ground.refused(outcome, "INTEGRITY", D2, hashlib.sha256(wrong).hexdigest())
    nothing_named(ground)
    # One retry from zero (docs/wire-protocol.md, "Ranges and resume").
    assert len(ground.gets(D2)) == 2
    ground.recovers(img_a(), most=len(L2) + 160 * KIB)


@pytest.mark.usefixtures("waits")
def test_blb_002_body_that_always_ends_early_is_a_network_error(ground: Ground) -> None:
    def cut(_seen: Seen) -> Reply:
        return Reply(body=L2, truncate=len(L2) * 6 // 10)

    ground.registry.on("GET", PATH, cut)

    outcome = ground.pull()

    ground.refused(outcome, "NETWORK", "broke before")
    nothing_named(ground)
    assert len(ground.gets(D2)) <= 7
    assert ground.had(D2, len(L2)) > 0
    ground.recovers(img_a())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=L2 + b"x", chunked=True),
        Reply(body=L2 + b"x", content_length=False, close=True),
        Reply(body=L2 + b"x"),
        Reply(body=L2 + L2, chunked=True),
    ],
    ids=["chunked", "no length", "with length", "twice"],
)
def test_blb_003_body_longer_than_its_size_is_an_integrity_error(
    ground: Ground, reply: Reply
) -> None:
    ground.registry.on("GET", PATH, reply)

    ground.refused(ground.pull(), "INTEGRITY", D2)
    nothing_named(ground)
    # The small pieces may not have come before the pull was given up.
    ground.recovers(img_a(), most=len(L2) + 160 * KIB)


@pytest.mark.usefixtures("waits")
def test_blb_006_reset_connection_is_resumed_by_range(ground: Ground) -> None:
    cut = 1_200_000
    ground.registry.on("GET", PATH, Reply(body=L2, truncate=cut, reset=True), times=1)

    assert ground.pull().status == 0

    first, second = ground.gets(D2)
    assert "range" not in first.headers
    start = int(second.headers["range"].removeprefix("bytes=").partition("-")[0])
    # RST discards what the other side has not read.
    assert 0 < start <= cut
    assert second.status == 206
    assert first.sent + second.sent <= 1.5 * len(L2)
    ground.recovers(img_a(), most=0)


@pytest.mark.usefixtures("waits")
def test_blb_006_second_run_resumes_the_first(ground: Ground) -> None:
    cut = 1_200_000
    ground.registry.on("GET", PATH, Reply(body=L2, truncate=cut), times=1)
    ground.registry.on("GET", PATH, Reply(silent=True))
    ground.refused(ground.pull(), "NETWORK")
    had = ground.had(D2, len(L2))
    # Bytes that the client had not read from its buffers are lost.
    assert cut - 256 * KIB < had <= cut

    ground.recovers(img_a())

    ranged = [seen for seen in ground.gets(D2) if seen.status == 206]
    assert [seen.headers["range"] for seen in ranged] == [f"bytes={had}-{len(L2) - 1}"]
    assert sum(seen.sent for seen in ground.gets(D2)) <= 1.5 * len(L2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_blb_006_pull_ended_by_a_signal_is_resumed(ground: Ground, number: signal.Signals) -> None:
    # What is there is noted every MiB; a body that stalls keeps the rest from being noted.
    body = layer(8 * MIB, 60)
    image = build_index([build_image(AMD64, [body])])
    digest = digest_of(image.child(AMD64), body)
    ground.registry.serve("large", "1", image)
    held = threading.Event()
    reply = Reply(body=body, hold=held, hold_after=6 * MIB)
    ground.registry.on("GET", f"/v2/large/blobs/{digest}", reply, times=1)
    before = ground.begin()
    (pid,) = ground.crew.start(ground.pulling(ground.reference("large")))
    assert ground.registry.wait_for(lambda: ground.had(digest, len(body)) >= 4 * MIB)

    os.kill(pid, number)
    (outcome,) = ground.ended([pid], before, killed=number is signal.SIGKILL)

    held.set()
    assert outcome.status == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -1)
    had = ground.had(digest, len(body))
    assert had >= 4 * MIB
    if number is not signal.SIGKILL:
        assert outcome.seconds < 10
    ground.recovers(image, ground.reference("large"))


def test_blb_006_storage_download_is_resumed_without_credentials(ground: Ground) -> None:
    with FakeRegistry() as storage:
        ground.others.append(storage)
        storage.serve("img-a", None, img_a())
        storage.on("GET", PATH, Reply(body=L2, truncate=MIB), times=1)
        ground.registry.redirect(PATH, f"{storage.url}{PATH}")

        assert ground.pull().status == 0

        # Back to the registry for a new link each time.
        assert len(ground.gets(D2)) == 2
        assert [seen.status for seen in storage.log] == [200, 206]
        no_credentials_received(storage)
        ground.others.clear()


@pytest.mark.usefixtures("waits")
def test_blb_007_registry_without_ranges_sends_everything_again(ground: Ground) -> None:
    ground.registry.shelves.ranges = False
    ground.registry.on("GET", PATH, Reply(body=L2, truncate=MIB), times=1)

    assert ground.pull().status == 0

    first, second = ground.gets(D2)
    assert (first.status, second.status) == (200, 200)
    assert "range" in second.headers


@pytest.mark.usefixtures("waits")
def test_blb_013_refused_range_restarts_the_blob(ground: Ground) -> None:
    ground.registry.on("GET", PATH, Reply(body=L2, truncate=MIB), times=1)

    def refuse(seen: Seen) -> Reply | None:
        if "range" not in seen.headers:
            return None
        return Reply(416, {"Content-Range": f"bytes */{len(L2)}"})

    ground.registry.on("GET", PATH, refuse)

    assert ground.pull().status == 0
    assert [seen.status for seen in ground.gets(D2)] == [200, 416, 200]


def wrong_part(start: int, end: int, total: int, body: bytes) -> Reply:
    return Reply(206, {"Content-Range": f"bytes {start}-{end}/{total}"}, body)


HALF = len(L2) // 2
#: Digits to `int`, and not to HTTP.
ARABIC = "bytes \u0661-\u0662/\u0663".encode().decode("latin-1")
WRONG_PARTS = {
    "from zero": wrong_part(0, HALF - 1, len(L2), L2[:HALF]),
    "later": wrong_part(HALF + 5, len(L2) - 1, len(L2), L2[HALF + 5 :]),
    "other total": wrong_part(HALF, len(L2), len(L2) + 1, L2[HALF:] + b"x"),
    "no header": Reply(206, {}, L2[HALF:]),
    "several": Reply(206, {"Content-Type": "multipart/byteranges; boundary=x"}, L2[HALF:]),
    "too much": wrong_part(HALF, len(L2) - 1, len(L2), L2[HALF:] + b"x"),
    "flipped": wrong_part(HALF, len(L2) - 1, len(L2), flipped(L2[HALF:], 7)),
    "unreadable": Reply(
        206, {"Content-Range": "bytes \u0661-\u0662/\u0663".encode().decode("latin-1")}, L2
    ),
}


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("reply", WRONG_PARTS.values(), ids=WRONG_PARTS.keys())
def test_blb_013_wrong_range_never_becomes_part_of_a_blob(ground: Ground, reply: Reply) -> None:
    ground.registry.on("GET", PATH, Reply(body=L2, truncate=HALF), times=1)
    ground.registry.on("GET", PATH, lambda seen: reply if "range" in seen.headers else None)

    assert ground.pull().status == 0
    ground.recovers(img_a(), most=0)


@pytest.mark.usefixtures("waits")
def test_blb_015_trickling_body_is_given_up(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WINDOW", 0.2)
    gate = threading.Event()

    def drip(seen: Seen) -> Reply:
        def pieces() -> object:
            for at in range(len(L2)):
                yield L2[at : at + 1]
                gate.wait(0.02)

        del seen
        return Reply(chunks=pieces(), content_length=len(L2))  # type: ignore[arg-type]

    ground.registry.on("GET", PATH, drip)

    outcome = ground.pull()

    ground.refused(outcome, "NETWORK", "1 KiB/s")
    assert len(ground.gets(D2)) == 5
    assert outcome.seconds < 10
    gate.set()
    ground.recovers(img_a())


@pytest.mark.usefixtures("waits")
def test_blb_015_stalled_body_is_resumed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:

    defaults = TransportOptions.__init__.__defaults__
    assert defaults is not None
    shorter = tuple(0.3 if value == 30.0 else value for value in defaults)
    monkeypatch.setattr(TransportOptions.__init__, "__defaults__", shorter)
    held = threading.Event()
    ground.registry.on("GET", PATH, Reply(body=L2, hold=held, hold_after=MIB), times=1)

    outcome = ground.pull()

    held.set()
    assert outcome.status == 0
    assert len(ground.gets(D2)) == 2
    assert ground.gets(D2)[1].status == 206


def test_blb_017_server_error_is_retried_with_growing_pauses(
    ground: Ground, waits: list[float]
) -> None:
    ground.registry.on("GET", PATH, Reply(503), times=2)

    assert ground.pull().status == 0

    assert len(ground.gets(D2)) == 3
    assert waits[0] < waits[1]


def test_blb_019_doubly_gzipped_layer_is_kept_as_received(ground: Ground) -> None:
    ground.registry.on("GET", PATH, Reply(headers={"Content-Encoding": "gzip"}, body=L2))

    assert ground.pull().status == 0
    assert (ground.store / "blobs" / D2.replace(":", "/")).read_bytes() == L2
    assert len(ground.gets(D2)) == 1


def test_blb_021_repeated_layer_is_fetched_once(ground: Ground) -> None:
    l1, l2, l3 = layers()
    image = build_index([build_image(AMD64, [l1, l2, l3, l1])])
    ground.registry.serve("twice", "1", image)

    assert ground.pull(ground.reference("twice")).status == 0
    digest = digest_of(image.child(AMD64), l1)
    assert [seen.status for seen in ground.gets(digest)] == [200]


def test_blb_022_next_image_fetches_only_its_missing_layer(ground: Ground) -> None:
    assert ground.pull().status == 0
    begin = len(ground.registry.log)

    assert ground.pull(ground.reference(tag="2")).status == 0

    shared = needed(img_a()).keys() & needed(img_a2()).keys()
    asked = [seen.path.rpartition("/")[2] for seen in ground.registry.log[begin:]]
    assert len(shared) == 2
    assert shared.isdisjoint(asked)
    assert set(asked) == {"2", *(needed(img_a2()).keys() - shared - {img_a2().digest})}
    ground.settles()


@pytest.mark.parametrize("role", ["config", "layer"])
def test_blb_024_flipped_bit_in_a_stored_blob_is_found_by_every_reader(
    ground: Ground, role: str
) -> None:
    assert ground.pull().status == 0
    child = img_a().child(AMD64)
    config = next(digest for digest in child.blobs if child.blobs[digest].startswith(b"{"))
    digest = config if role == "config" else D2
    ground.damaged = True
    ground.outputs.append(ground.folder / "out")
    path = ground.store / "blobs" / digest.replace(":", "/")

    def damage() -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(flipped(child.blobs[digest], 5))
        path.chmod(0o444)

    damage()
    outcome = ground("export", ground.reference(), "--to", str(ground.folder / "out"))
    assert outcome.status in {6, 8}, outcome
    assert digest in outcome.text
    damage()
    outcome = ground("verify", "--full")
    assert outcome.status == 1
    assert [row["name"] for row in outcome.answer["damaged"]] == [digest]
    damage()
    # A pull hashes blobs of document size, and so repairs them.
    ground.recovers(img_a(), most=len(child.blobs[digest]))


@pytest.mark.parametrize("absent", [False, True])
def test_blb_025_empty_layer_is_pulled_if_the_registry_has_it(
    ground: Ground, *, absent: bool
) -> None:
    image = build_index([build_image(AMD64, [layer(10, 50), b""])])
    ground.registry.serve("empty", "1", image)
    digest = digest_of(image.child(AMD64), b"")
    if absent:
        ground.registry.on("*", f"/v2/empty/blobs/{digest}", Reply(404))

    outcome = ground.pull(ground.reference("empty"))

    if absent:
        ground.refused(outcome, "NOT_FOUND", digest)
        assert invariants.names(ground.store) == {}
        ground.recovers(image, ground.reference("empty"))
    else:
        assert outcome.status == 0
        assert invariants.intact(ground.store)[digest] == 0
        assert len(ground.gets(digest)) == 1


@pytest.mark.parametrize("status", [405, 501])
def test_blb_029_registry_without_head_is_requested_by_get(ground: Ground, status: int) -> None:
    paths = [f"/v2/img-a/manifests/{name}" for name in ("1", *needed(img_a()))]
    paths += [f"/v2/img-a/blobs/{name}" for name in needed(img_a())]
    for path in paths:
        ground.registry.on("HEAD", path, Reply(status))

    assert ground("resolve", ground.reference(), "-p", AMD64).status == 0
    assert ground.pull().status == 0
    # Held content is requested by HEAD at most.
    assert ground.pull().status == 0
    ground.settles()
