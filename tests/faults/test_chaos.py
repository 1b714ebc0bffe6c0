"""Registries that fail at random and recover in the end."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from resolver.verbs import transfer
from tests.faults import invariants
from tests.faults.samples import AMD64, KIB, digest_of, img_a, layers
from tests.kit.messages import Reply, Seen
from tests.kit.outcomes import Outcome, clean_text
from tests.kit.soak import seeded, times

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.faults.ground import Ground

L2 = layers()[1]
D2 = digest_of(img_a().child(AMD64), L2)
PATH = f"/v2/img-a/blobs/{D2}"
BLOBS = img_a().child(AMD64).blobs


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Fetch L2 in nine ranges, as a pull fetches a blob of hundreds of megabytes."""
    options = transfer.TransferOptions
    # The first instance generates `__init__`.
    whole = options().range_size
    defaults = options.__init__.__defaults__
    assert defaults is not None
    smaller = tuple(256 * KIB if value == whole else value for value in defaults)
    assert smaller != defaults
    monkeypatch.setattr(options.__init__, "__defaults__", smaller)
    return 9


def cut(reply: Reply, draw: random.Random) -> Reply:
    at = draw.randrange(len(reply.body) + 1)
    return Reply(reply.status, reply.headers, reply.body, truncate=at, reset=draw.random() < 0.5)


def flip(reply: Reply, draw: random.Random) -> Reply:
    body = bytearray(reply.body)
    if body:
        body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    return Reply(reply.status, reply.headers, bytes(body))


def duplicate(reply: Reply, draw: random.Random) -> Reply:
    at = draw.randrange(len(reply.body) + 1)
    body = reply.body[:at] + reply.body[max(at - 4096, 0) :]
    return Reply(reply.status, reply.headers, body, chunked=draw.random() < 0.5)


def drop(reply: Reply, draw: random.Random) -> Reply:
    at = draw.randrange(len(reply.body) + 1)
    return Reply(reply.status, reply.headers, reply.body[:at] + reply.body[at + 100 :])


def shift(reply: Reply, draw: random.Random) -> Reply:
    headers = dict(reply.headers)
    message = re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)", headers.get("Content-Range", ""))
    if message is None:
        return Reply(206, headers, reply.body)
    delta = draw.choice([-1, 1, 4096])
    start, end, total = (int(number) for number in message.groups())
    headers["Content-Range"] = f"bytes {max(start + delta, 0)}-{end + delta}/{total}"
    return Reply(206, headers, reply.body)


def refuse(_reply: Reply, draw: random.Random) -> Reply:
    return Reply(draw.choice([408, 416, 429, 500, 502, 503, 504]), {}, b"<html>no</html>")


def hang_up(_reply: Reply, draw: random.Random) -> Reply:
    return Reply(silent=True, reset=draw.random() < 0.5)


def babble(_reply: Reply, draw: random.Random) -> Reply:
    return Reply(raw=draw.randbytes(draw.randrange(1, 300)))


def trickle(reply: Reply, draw: random.Random) -> Reply:
    size = draw.randrange(1000, 100_000)
    body = reply.body
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return Reply(reply.status, reply.headers, chunks=pieces, chunked=True)


def lie(reply: Reply, draw: random.Random) -> Reply:
    length = max(len(reply.body) + draw.choice([-1, 1, 1000]), 0)
    return Reply(reply.status, reply.headers, reply.body, content_length=length)


TOXICS = (cut, flip, duplicate, drop, shift, refuse, hang_up, babble, trickle, lie)


@pytest.mark.usefixtures("waits", "parts")
def test_blb_003_no_wrong_byte_is_stored_after_any_registry_fault(ground: Ground) -> None:
    draw = seeded("chaos")
    shelves = ground.registry.shelves
    lock = threading.Lock()

    def answer(seen: Seen) -> Reply | None:
        with lock:
            shelves.ranges = draw.random() < 0.9
            reply = shelves.answer(seen)
            shelves.ranges = True
            if reply is None or draw.random() < 0.5:
                return reply
            return draw.choice(TOXICS)(reply, draw)

    statuses = set()
    ground.requests = 1000
    for number in range(times(15, 300)):
        here = ground.apart(number)
        here.honest()
        for digest in BLOBS:
            here.registry.on("GET", f"/v2/img-a/blobs/{digest}", answer)
        outcome = here.pull()
        statuses.add(outcome.status)
        assert outcome.status in {0, 3, 5, 6}, (number, outcome)
        if outcome.status:
            assert invariants.names(here.store) == {}
        # What is kept of a transfer may hold a wrong byte; then all of it is fetched once more.
        total = sum(map(len, BLOBS.values()))
        here.recovers(img_a(), most=2 * total if outcome.status else 0)
    assert statuses - {0}


def part_of(seen: Seen) -> int:
    asked = re.fullmatch(r"bytes=([0-9]+)-[0-9]+", seen.headers.get("range", ""))
    return int(asked[1]) if asked else -1


FIRST = Reply(206, {"Content-Range": f"bytes 0-9/{len(L2)}"}, L2[:10])
PARTS: dict[str, Callable[[Seen], Reply | None]] = {
    "whole instead of a later part": lambda seen: Reply(body=L2) if part_of(seen) > 0 else None,
    "416 for a later part": lambda seen: Reply(416) if part_of(seen) > 0 else None,
    "404 for a later part": lambda seen: Reply(404) if part_of(seen) > 0 else None,
    "first part for all": lambda seen: (
        Reply(206, {"Content-Range": f"bytes 0-9/{len(L2)}"}, L2[:10])
        if part_of(seen) > 0
        else None
    ),
}


@pytest.mark.usefixtures("waits", "parts")
@pytest.mark.parametrize("name", PARTS)
def test_blb_013_invalid_later_range(ground: Ground, name: str) -> None:
    ground.registry.on("GET", PATH, PARTS[name])

    outcome = ground.pull()

    if name.startswith("404"):
        ground.refused(outcome, "NOT_FOUND")
    else:
        assert outcome.status == 0, outcome
    # Which of the others arrived before the failure is random; this one may restart.
    had = ground.had(D2, len(L2)) if outcome.status else 0
    ground.recovers(img_a(), most=ground.missing(img_a()) + had)


@pytest.mark.usefixtures("waits")
def test_blb_006_each_broken_range_is_resumed(ground: Ground, parts: int) -> None:
    seen_parts: set[int] = set()
    lock = threading.Lock()

    def once(seen: Seen) -> Reply | None:
        with lock:
            if part_of(seen) in seen_parts:
                return None
            seen_parts.add(part_of(seen))
        reply = ground.registry.shelves.answer(seen)
        assert reply is not None
        return Reply(reply.status, reply.headers, reply.body, truncate=200 * KIB)

    ground.registry.on("GET", PATH, once)

    assert ground.pull().status == 0

    assert len(seen_parts) >= parts
    sent = sum(seen.sent for seen in ground.gets(D2))
    # What a broken connection had in its buffers is fetched again.
    assert sent < 1.5 * len(L2)


def test_con_010_stopped_fetcher_is_named_and_resumes(ground: Ground) -> None:
    held = threading.Event()
    ground.registry.on("GET", PATH, Reply(body=L2, hold=held, hold_after=1_000_000), times=1)
    before = ground.begin()
    (first,) = ground.crew.start(ground.pulling())
    assert ground.registry.wait_for(lambda: any(s.sent >= 1_000_000 for s in ground.gets(D2)))
    os.kill(first, signal.SIGSTOP)
    try:
        (late,) = ground.crew.run(ground.pulling(patience=1.0))
    finally:
        os.kill(first, signal.SIGCONT)
    held.set()
    (outcome,) = ground.ended([first], before)

    assert late.status == 8
    assert b"without progress" in late.stderr
    assert late.seconds < 8
    assert outcome.status == 0
    ground.recovers(img_a(), most=0)


@pytest.mark.parametrize("what", ["locks removed", "a year later", "a year earlier"])
def test_con_006_content_of_a_running_pull_is_not_collected(
    ground: Ground, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    ground.registry.on("GET", PATH, Reply(body=L2, hold=held, hold_after=1_000_000), times=1)
    before = ground.begin()
    (pid,) = ground.crew.start(ground.pulling())
    assert ground.registry.wait_for(
        lambda: ground.store.is_dir() and len(invariants.intact(ground.store)) == len(BLOBS) + 1
    )
    try:
        if what == "locks removed":
            for name in ("lock", "gate", "names.lock"):
                (ground.store / name).unlink(missing_ok=True)
        else:
            now = time.time
            years = 1 if what == "a year later" else -1
            monkeypatch.setattr(time, "time", lambda: now() + years * 365 * 86400)
        collected = ground.here("gc", "--grace", "0s")
        assert collected.status == 0
        assert collected.answer["removed"] == []
    finally:
        monkeypatch.undo()
        held.set()
        (outcome,) = ground.ended([pid], before)
    assert outcome.status == 0


HOSTILE = (
    "lock",
    "gate",
    "names.lock",
    "loopback.json",
    "version",
    "CACHEDIR.TAG",
    "tmp",
    "leases",
    "partial",
    "names",
    "seen",
    "blobs",
    "blobs/sha256",
    "blobs/sha512",
    f"partial/sha256-{D2[7:]}",
    f"partial/sha256-{D2[7:]}/lock",
    f"partial/sha256-{D2[7:]}/data",
    f"partial/sha256-{D2[7:]}/meta.json",
    f"blobs/sha256/{D2[7:]}",
)


@pytest.mark.parametrize("kind", ["fifo", "link to a file", "link to a folder", "link to nothing"])
def test_sto_002_planted_files_mislead_no_command(ground: Ground, kind: str) -> None:
    canary = ground.folder / "canary"
    canary.write_bytes(b"alive")
    aviary = ground.folder / "aviary"
    aviary.mkdir()
    (aviary / ("a" * 64)).write_bytes(b"alive")
    chosen = seeded(kind).sample(HOSTILE, times(5, len(HOSTILE)))
    for number, name in enumerate(chosen):
        here = ground.apart(number)
        assert here.pull(here.reference(tag="2")).status == 0
        path = here.store / name
        if path.is_dir():
            path.rename(ground.folder / f"moved-{number}")
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "link to a file":
                path.symlink_to(canary)
            case "link to a folder":
                path.symlink_to(aviary)
            case _:
                path.symlink_to(ground.folder / "nothing")
        before = invariants.snapshot(ground.folder, without=[here.folder])
        jobs = [
            here.pulling(patience=0.5),
            here.job("gc", "--grace", "0s", patience=0.5),
            here.job("verify", "--full", patience=0.5),
            here.job("rm", here.reference(tag="2"), patience=0.5),
        ]
        for job in jobs:
            (ended,) = here.crew.run(job)
            outcome = Outcome(ended.status, ended.stdout, ended.stderr, ended.seconds, ended.rss)
            assert ended.signal == 0
            assert outcome.status in {0, 1, 3, 8}, (name, job.words[0], outcome)
            invariants.clean_result(outcome, as_json=True)
            clean_text(outcome)
            assert outcome.seconds < 10, (name, job.words[0], outcome)
        invariants.unchanged(before, invariants.snapshot(ground.folder, without=[here.folder]))
