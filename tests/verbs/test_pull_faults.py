"""Faults of a registry or of the connection, and what a pull does."""

from __future__ import annotations

import random
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.results.events import Noted
from resolver.core.results.pull_events import (
    Finished,
    Kept,
    PieceStarted,
    Restarted,
    Resumed,
    Reused,
    Waiting,
)
from resolver.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    RedirectRefused,
    ResolverError,
    ServerFault,
    SizeMismatch,
    StorageRefused,
    TimedOut,
    Unavailable,
    Untrusted,
)
from resolver.verbs.transfer import TransferOptions
from tests.kit.clients import ENGINES, FakeClock, login
from tests.kit.images import build_image, build_index
from tests.kit.pulls import RANGE, REPOSITORY, Puller, noise, puller, ranges
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.registry import Seen

AMD = "linux/amd64"
LAYER = noise(40_000)
LARGE = noise(6 * RANGE + 77)
SIZE = len(LARGE)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        serve(fake)
        yield fake


#: What a client may lose of what was sent, when the connection breaks: it had not read it yet.
LOST = 4_000


def serve(fake: FakeRegistry) -> None:
    fake.serve(REPOSITORY, "1", build_index([build_image(AMD, [LAYER])]))
    fake.serve(REPOSITORY, "large", build_index([build_image(AMD, [LARGE])]))


def path(content: bytes = LAYER) -> str:
    return f"/v2/{REPOSITORY}/blobs/{Digest.of(content)}"


def requests_for(registry: FakeRegistry, content: bytes = LAYER) -> list[Seen]:
    return registry.requests("GET", path(content))


def part(content: bytes, seen: Seen, **more: object) -> Reply:
    """Answer a range, changed by the test."""
    first, _, last = seen.headers["range"].removeprefix("bytes=").partition("-")
    stretch = content[int(first) : int(last) + 1]
    headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return replace(Reply(206, headers, stretch), **more)  # type: ignore[arg-type]  # by name


def begins(seen: Seen) -> int:
    """Return the first byte of a requested range."""
    return int(seen.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])


def is_clean(one: Puller, content: bytes = LAYER) -> bool:
    """Check that every blob is correct and every name complete."""
    hexes = {file.name for file in (one.store.root / "blobs" / "sha256").iterdir()}
    intact = all(Digest.of(one.held(Digest("sha256", name))).hex == name for name in hexes)
    return intact and Digest.of(content).hex not in hexes and not list(one.store.pulled_names())


def test_pull_resumes_a_cut_stream(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.on("GET", path(), Reply(200, body=LAYER, truncate=25_000), times=1)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    first, second = requests_for(registry)
    assert LOST < begins(second) <= 25_000
    assert second.headers["range"].endswith(f"-{len(LAYER) - 1}")
    assert first.sent + second.sent <= 1.5 * len(LAYER)


def test_pull_refetches_less_than_half_a_blob_after_a_reset(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.on("GET", path(), Reply(200, body=LAYER, truncate=25_000, reset=True), times=1)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER


def test_pull_resumes_one_cut_range_of_several(registry: FakeRegistry, tmp_path: Path) -> None:
    cut = threading.Event()

    def answer(seen: Seen) -> Reply | None:
        if not cut.is_set() and not seen.headers["range"].startswith("bytes=0-"):
            cut.set()
            return part(LARGE, seen, truncate=1_000)
        return None

    registry.on("GET", path(LARGE), answer)
    with puller(registry, tmp_path) as one:
        one.pull(tag="large")

        assert one.held(Digest.of(LARGE)) == LARGE
    requests = requests_for(registry, LARGE)
    assert len(requests) == 7 + 1
    assert sum(seen.sent for seen in requests) <= SIZE + 1_000


def test_pull_does_not_refetch_the_partial_of_an_interrupted_run(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    broken = Reply(200, body=LAYER, truncate=25_000)
    registry.on("GET", path(), broken, Reply(404), times=2)
    with puller(registry, tmp_path) as one, pytest.raises(ResolverError):
        one.pull()
    before = len(requests_for(registry))
    with puller(registry, tmp_path) as two:
        plan = two.plan()
        (have,) = [piece.have for piece in plan.missing if piece.role == "layer"]
        two.carry_out(plan)

        (kept,) = one.events_of(Kept)
        # The config came before; of the layer the next pull needs the rest alone.
        config = next(p.descriptor.size for p in plan.pieces if p.role == "config")
        assert kept == Kept(1, 2, have + config)
        assert two.events_of(Kept) == []
        assert two.events_of(Resumed) == [Resumed(Digest.of(LAYER), have)]
        assert two.held(Digest.of(LAYER)) == LAYER
    (again,) = requests_for(registry)[before:]
    assert LOST < have <= 25_000
    assert ranges([again]) == [f"bytes={have}-{len(LAYER) - 1}"]
    assert again.sent == len(LAYER) - have


def test_pull_restarts_when_a_range_is_answered_with_everything(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.shelves.ranges = False
    registry.on("GET", path(), Reply(200, body=LAYER, truncate=25_000), times=1)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
        assert len(one.events_of(Restarted)) == 1
    assert len(requests_for(registry)) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(416, {"Content-Range": f"bytes */{len(LAYER)}"}),
        Reply(501),
        Reply(206, {"Content-Range": f"bytes 0-{len(LAYER) - 1}/{len(LAYER)}"}, LAYER),
        Reply(206, {"Content-Range": f"bytes 24999-{len(LAYER) - 1}/{len(LAYER)}"}, LAYER[24999:]),
        Reply(206, {"Content-Range": f"bytes 25000-{len(LAYER) - 1}/9"}, LAYER[25_000:]),
        Reply(206, {}, LAYER[25_000:]),
        Reply(
            206,
            [("Content-Range", f"bytes 25000-{len(LAYER) - 1}/{len(LAYER)}")] * 2,
            LAYER[25_000:],
        ),
        Reply(
            206,
            {
                "Content-Range": f"bytes 25000-{len(LAYER) - 1}/{len(LAYER)}",
                "Content-Type": "Multipart/ByteRanges; boundary=x",
            },
            LAYER[25_000:],
        ),
        Reply(
            206,
            {"Content-Range": f"bytes 25000-{len(LAYER) - 1}/{len(LAYER)}"},
            LAYER[25_000:] + b"surplus",
        ),
    ],
    ids=[
        "416",
        "501",
        "all of it",
        "another start",
        "another size",
        "no range",
        "two ranges",
        "multipart",
        "another length",
    ],
)
def test_pull_requests_the_whole_blob_after_a_wrong_range_response(
    registry: FakeRegistry, tmp_path: Path, refusal: Reply
) -> None:
    def answer(seen: Seen) -> Reply | None:
        return refusal if "range" in seen.headers else None

    registry.on("GET", path(), Reply(200, body=LAYER, truncate=25_000), times=1)
    registry.on("GET", path(), answer)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    assert ["range" in seen.headers for seen in requests_for(registry)] == [False, True, False]


def test_pull_falls_back_to_one_stream_when_ranges_stop_working(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    def answer(seen: Seen) -> Reply | None:
        asked_for = seen.headers.get("range", "")
        return Reply(416) if asked_for and not asked_for.startswith("bytes=0-") else None

    registry.on("GET", path(LARGE), answer)
    with puller(registry, tmp_path) as one:
        one.pull(tag="large")

        assert one.held(Digest.of(LARGE)) == LARGE
    assert ranges(requests_for(registry, LARGE))[-1] == ""


def test_pull_accepts_a_shorter_range_and_requests_the_rest(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    def answer(seen: Seen) -> Reply | None:
        first = begins(seen)
        if first in {0, 30_000}:
            return None
        headers = {"Content-Range": f"bytes {first}-29999/{len(LAYER)}"}
        return Reply(206, headers, LAYER[first:30_000])

    registry.on("GET", path(), Reply(200, body=LAYER, truncate=25_000), times=1)
    registry.on("GET", path(), answer)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    assert ranges(requests_for(registry))[-1] == f"bytes=30000-{len(LAYER) - 1}"


def test_pull_gives_up_after_five_attempts_without_progress(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.on("GET", path(), _nothing)
    clock = FakeClock()
    with puller(registry, tmp_path, clock=clock) as one:
        with pytest.raises(Unavailable):
            one.pull()
        assert is_clean(one)
    assert len(requests_for(registry)) == 5
    assert clock.slept == sorted(clock.slept)


def _nothing(seen: Seen) -> Reply:
    return (
        part(LAYER, seen, truncate=0) if "range" in seen.headers else Reply(body=LAYER, truncate=9)
    )


def test_pull_progress_resets_the_attempts(registry: FakeRegistry, tmp_path: Path) -> None:
    content = noise(9 << 20)
    registry.serve(REPOSITORY, "long", build_index([build_image(AMD, [content])]))

    def answer(seen: Seen) -> Reply:
        step = (1 << 20) + (1 << 18)
        if "range" not in seen.headers:
            return Reply(body=content, truncate=step)
        reply = part(content, seen)
        return replace(reply, truncate=step) if len(reply.body) > step else reply

    registry.on("GET", path(content), answer)
    with puller(registry, tmp_path) as one:
        one.pull(tag="long", options=TransferOptions(range_size=64 << 20))

        assert one.held(Digest.of(content)) == content
    # More than five, which is what there would be without.
    assert 7 < len(requests_for(registry, content)) < 12


def test_pull_resumes_a_stalled_stream(registry: FakeRegistry, tmp_path: Path) -> None:
    never = threading.Event()
    registry.on("GET", path(), Reply(body=LAYER, hold=never, hold_after=20_000), times=1)
    with puller(registry, tmp_path, options={"read_timeout": 0.3}) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
        (note,) = one.events_of(Noted)
    first, second = requests_for(registry)
    assert begins(first) == 0 < LOST < begins(second) <= 20_000
    assert f"`{registry.host}` has sent nothing more for 0.3 s; going on at byte" in str(note)


def test_pull_gives_up_after_a_minute_of_stalls(registry: FakeRegistry, tmp_path: Path) -> None:
    never = threading.Event()
    clock = FakeClock(chance=0.0)

    def stall(seen: Seen) -> Reply:
        clock.now += 31.0
        return Reply(206 if "range" in seen.headers else 200, _range(seen), LAYER, hold=never)

    registry.on("GET", path(), stall)
    with puller(registry, tmp_path, clock=clock, options={"read_timeout": 0.2}) as one:
        with pytest.raises(TimedOut, match="has sent nothing more for") as caught:
            one.pull()
        assert is_clean(one)
    assert len(requests_for(registry)) == 2
    # It has answered in plain HTTP, so TLS is not probed.
    assert caught.value.hints() == ("try again later",)


def _range(seen: Seen) -> dict[str, str]:
    if "range" not in seen.headers:
        return {}
    return {"Content-Range": f"bytes 0-{len(LAYER) - 1}/{len(LAYER)}"}


@pytest.mark.parametrize(
    "wrong",
    [
        bytes([LAYER[0] ^ 1]) + LAYER[1:],
        LAYER[:-1] + bytes([LAYER[-1] ^ 128]),
        LAYER[:1_000] * 2 + LAYER[2_000:],
    ],
    ids=["first bit flipped", "last bit flipped", "a stretch twice"],
)
def test_pull_refetches_wrong_bytes_once_and_then_fails(
    registry: FakeRegistry, tmp_path: Path, wrong: bytes
) -> None:
    registry.on("GET", path(), Reply(body=wrong))
    with puller(registry, tmp_path) as one:
        with pytest.raises(DigestMismatch):
            one.pull()
        assert is_clean(one)
    assert ranges(requests_for(registry)) == ["", ""]
    with FakeRegistry() as honest:
        serve(honest)
        with puller(honest, tmp_path) as one:
            one.pull()
            assert one.held(Digest.of(LAYER)) == LAYER


def test_pull_recovers_from_wrong_bytes_sent_once(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.on("GET", path(), Reply(body=bytes(len(LAYER))), times=1)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER


def test_pull_retries_a_bad_range_once_in_one_stream(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    def answer(seen: Seen) -> Reply | None:
        if not seen.headers.get("range", "bytes=0-").startswith("bytes=0-"):
            return part(bytes(SIZE), seen)
        return None

    registry.on("GET", path(LARGE), answer)
    with puller(registry, tmp_path) as one:
        one.pull(tag="large")

        assert one.held(Digest.of(LARGE)) == LARGE
    assert ranges(requests_for(registry, LARGE))[-1] == ""


def test_pull_discards_a_wrong_partial_and_restarts(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.on("GET", path(), Reply(body=LAYER, truncate=25_000), Reply(404), times=2)
    with puller(registry, tmp_path) as one, pytest.raises(ResolverError):
        one.pull()
    (data,) = tmp_path.glob("partial/*/data")
    content = bytearray(data.read_bytes())
    content[7] ^= 1
    data.write_bytes(content)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    assert [begins(seen) > 0 for seen in requests_for(registry)[2:]] == [True, False]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=LAYER + b"x"),
        Reply(body=LAYER + b"x", chunked=True),
        Reply(body=LAYER + b"x", content_length=False, close=True),
        Reply.endless(LAYER),
    ],
    ids=["announced", "in chunks", "until the end", "endless"],
)
def test_pull_rejects_one_byte_too_many(
    registry: FakeRegistry, tmp_path: Path, reply: Reply
) -> None:
    registry.on("GET", path(), reply)
    for _ in range(2):
        with puller(registry, tmp_path) as one:
            with pytest.raises(SizeMismatch):
                one.pull()
            assert is_clean(one)


def test_pull_rejects_a_range_with_one_byte_too_many(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    def answer(seen: Seen) -> Reply | None:
        if "range" not in seen.headers:
            return Reply(body=LARGE + b"x", chunked=True)
        reply = part(LARGE, seen)
        return replace(reply, body=reply.body + b"x", chunked=True)

    registry.on("GET", path(LARGE), answer)
    with puller(registry, tmp_path) as one:
        with pytest.raises(Untrusted):
            one.pull(tag="large")
        assert is_clean(one, LARGE)


def test_pull_resumes_a_body_that_ends_early_without_error(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.on("GET", path(), Reply(body=LAYER[:123], content_length=False, close=True), times=1)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    assert ranges(requests_for(registry))[1] == f"bytes=123-{len(LAYER) - 1}"


def test_pull_works_without_keep_alive_and_content_length(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.on("GET", path(), Reply(body=LAYER, content_length=False, close=True))
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER


def test_pull_keeps_a_layer_falsely_labelled_as_compressed(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.on("GET", path(), Reply(200, {"Content-Encoding": "gzip"}, LAYER))
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    assert len(requests_for(registry)) == 1


def test_pull_decompresses_a_layer_compressed_in_transit(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    import gzip

    packed = gzip.compress(LAYER)
    registry.on("GET", path(), Reply(200, {"Content-Encoding": "gzip"}, packed))
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER


def test_pull_stops_a_body_that_inflates_beyond_its_size(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    import gzip

    packed = gzip.compress(LAYER + bytes(1 << 20))
    registry.on("GET", path(), Reply(200, {"Content-Encoding": "gzip"}, packed))
    with puller(registry, tmp_path) as one:
        with pytest.raises(Untrusted):
            one.pull()
        assert is_clean(one)


def test_pull_retries_busy_answers_with_growing_pauses(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.on("GET", path(), Reply(503), Reply(503), times=2)
    clock = FakeClock()
    with puller(registry, tmp_path, clock=clock) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    assert clock.slept == [0.2, 0.4]


def test_pull_requests_a_busy_registry_five_times(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.on("GET", path(), Reply(503, body=b"<html>busy</html>"))
    with puller(registry, tmp_path) as one, pytest.raises(ServerFault):
        one.pull()
    assert len(requests_for(registry)) == 5


@pytest.mark.parametrize("engine", ENGINES)
def test_both_http_engines_fetch_ranges_and_resume(
    registry: FakeRegistry, tmp_path: Path, engine: str
) -> None:
    def answer(seen: Seen) -> Reply | None:
        return part(LARGE, seen, truncate=len(LARGE) // 20) if begins(seen) else None

    registry.on("GET", path(LARGE), answer, times=3)
    with puller(registry, tmp_path, engine=engine) as one:
        one.pull(tag="large")

        assert one.held(Digest.of(LARGE)) == LARGE


class Chaos:
    """Answers requests for a blob with any fault, determined by a seed."""

    def __init__(self, seed: int, content: bytes) -> None:
        self._chance = random.Random(seed)
        self._content = content
        self._lock = threading.Lock()

    def __call__(self, seen: Seen) -> Reply | None:
        with self._lock:
            kind, at = self._chance.randrange(12), self._chance.randrange(len(self._content))
        good = _stored(self._content, seen)
        cut = min(at, len(good.body))
        flipped = bytearray(good.body or b"?")
        flipped[min(cut, len(flipped) - 1)] ^= 1 + at % 255
        wrong: dict[int, Reply] = {
            0: replace(good, truncate=cut),
            1: replace(good, truncate=cut, reset=True),
            2: replace(good, body=bytes(flipped)),
            3: replace(good, body=good.body[:cut], content_length=False, close=True),
            4: Reply(416),
            5: Reply(200, body=self._content),
            6: Reply(503),
            7: replace(good, body=good.body + b"x", chunked=True),
            8: Reply(206, {"Content-Range": f"bytes {at}-{at}/{len(self._content)}"}, b"x"),
        }
        return wrong.get(kind, good)


@pytest.mark.parametrize("seed", range(24))
def test_pull_after_any_fault_leaves_a_correct_store_that_can_be_completed(
    registry: FakeRegistry, tmp_path: Path, seed: int
) -> None:
    registry.on("GET", path(LARGE), Chaos(seed, LARGE))
    with puller(registry, tmp_path) as one:
        try:
            one.pull(tag="large")
        except (Unavailable, Untrusted):
            assert is_clean(one, LARGE)
        else:
            assert one.held(Digest.of(LARGE)) == LARGE
    with FakeRegistry() as honest:
        serve(honest)
        with puller(honest, tmp_path) as one:
            one.pull(tag="large")

            assert one.held(Digest.of(LARGE)) == LARGE
            assert list((tmp_path / "partial").iterdir()) == []


# Storage behind the registry


@pytest.fixture
def storage() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


def from_storage(
    registry: FakeRegistry, storage: FakeRegistry, content: bytes = LAYER
) -> Callable[[], int]:
    """Redirect blobs to storage with a new link each time; return the number of links."""
    links: list[str] = []

    def answer(_seen: Seen) -> Reply:
        links.append(f"/signed/{len(links)}")
        storage.on("GET", links[-1], lambda seen: _stored(content, seen))
        return Reply(307, {"Location": f"{storage.url}{links[-1]}?X-Signature=S1GNATURE"})

    registry.on("GET", path(content), answer)
    return lambda: len(links)


def _stored(content: bytes, seen: Seen) -> Reply:
    return part(content, seen) if "range" in seen.headers else Reply(body=content)


def test_pull_requests_storage_with_range_and_without_credentials(
    storage: FakeRegistry, tmp_path: Path
) -> None:
    with FakeRegistry() as registry:
        serve(registry)
        registry.bearer(credentials=("u5er", "S3cr3tPa55"))
        from_storage(registry, storage, LARGE)
        with puller(registry, tmp_path, credentials=login(registry.host)) as one:
            one.pull(tag="large")

            assert one.held(Digest.of(LARGE)) == LARGE
            output = " ".join(map(repr, one.events))
    assert all(seen.authorization is None for seen in storage.log)
    assert all("cookie" not in seen.headers for seen in storage.log)
    assert sorted(ranges(storage.log)) == sorted(ranges(requests_for(registry, LARGE)))
    assert all(ranges(storage.log))
    assert "S1GNATURE" not in output


def test_pull_requests_a_new_link_after_expiry(
    registry: FakeRegistry, storage: FakeRegistry, tmp_path: Path
) -> None:
    storage.on("GET", "/signed/0", Reply(403, body=b"<Error><Code>AccessDenied</Code></Error>"))
    links = from_storage(registry, storage)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    assert links() == 2


def test_pull_resumes_through_the_registry_after_storage_cuts(
    registry: FakeRegistry, storage: FakeRegistry, tmp_path: Path
) -> None:
    storage.on("GET", "/signed/0", Reply(body=LAYER, truncate=30_000), Reply(403))
    links = from_storage(registry, storage)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(Digest.of(LAYER)) == LAYER
    assert links() == 2
    assert LOST < begins(requests_for(registry)[1]) <= 30_000
    assert ranges(storage.log) == ranges(requests_for(registry))


def test_pull_does_not_report_storage_refusals_as_authentication_errors(
    registry: FakeRegistry, storage: FakeRegistry, tmp_path: Path
) -> None:
    registry.redirect(path(), f"{storage.url}/gone?X-Signature=S1GNATURE")
    storage.on("GET", "/gone", Reply(403))
    with puller(registry, tmp_path) as one, pytest.raises(StorageRefused) as caught:
        one.pull()
    assert not isinstance(caught.value, Denied)
    assert "S1GNATURE" not in str(caught.value)
    assert len(storage.log) == 5


def test_pull_renews_an_expired_token_once(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        serve(registry)
        tokens = registry.bearer(rotate=True)
        gone = threading.Event()

        def answer(seen: Seen) -> Reply | None:
            if seen.headers.get("range", "").startswith("bytes=0-") and not gone.is_set():
                gone.set()
                tokens.revoke()
                return part(LARGE, seen)
            return None

        registry.on("GET", path(LARGE), answer)
        with puller(registry, tmp_path) as one:
            one.pull(tag="large")

            assert one.held(Digest.of(LARGE)) == LARGE
        assert tokens.count == 2


# Early ends


def test_interrupted_pull_keeps_content_and_ends_immediately(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    from resolver.verbs.pull import transfer_plan

    never = threading.Event()
    registry.on("GET", path(), Reply(body=LAYER, hold=never, hold_after=30_000), times=1)
    # A thread that waits for the network cannot be woken; it ends with its time-out.
    with puller(registry, tmp_path, options={"read_timeout": 2.0}) as one:
        plan, main = one.plan(), threading.get_ident()

        def interrupt() -> None:
            registry.wait_for(lambda: any(seen.sent == 30_000 for seen in requests_for(registry)))
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            transfer_plan(
                plan,
                lambda _image: one.source,
                one.store,
                TransferOptions(),
                clock=one.clock,
                interrupt=one.source._transport.close,
            )
        assert is_clean(one)
        assert one.store.in_use() == frozenset()
    with puller(registry, tmp_path) as two:
        two.pull()

        assert two.held(Digest.of(LAYER)) == LAYER


def test_pull_waits_for_another_process_fetching_the_layer(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    never = threading.Event()
    digest = Digest.of(LAYER)
    registry.on("GET", path(), Reply(body=LAYER, hold=never, hold_after=30_000), times=1)
    with puller(registry, tmp_path) as one, puller(registry, tmp_path) as two:
        first = threading.Thread(target=one.pull)
        first.start()
        registry.wait_for(lambda: any(seen.sent == 30_000 for seen in requests_for(registry)))
        plan = two.plan()
        two.watch = lambda event: never.set() if isinstance(event, Waiting) else None
        two.carry_out(plan)
        first.join()

        about = [event for event in two.events if getattr(event, "digest", None) == digest]
        assert about == [Waiting(digest), Reused(digest, len(LAYER), "")]
        mine = [event for event in one.events if getattr(event, "digest", None) == digest]
        assert (type(mine[0]), type(mine[-1])) == (PieceStarted, Finished)
    assert len(requests_for(registry)) == 1


def test_pull_ends_without_a_name_when_an_observer_raises(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    class Broken(Exception):
        pass

    def broken(_event: object) -> None:
        raise Broken

    with puller(registry, tmp_path) as one:
        plan = one.plan()
        one.watch = broken
        with pytest.raises(Broken):
            one.carry_out(plan)
        assert is_clean(one)


def test_first_failure_stops_blobs_needed_only_for_that_image(
    tmp_path: Path,
) -> None:
    never = threading.Event()
    slow, gone = noise(30_000, 1), noise(500, 2)
    with FakeRegistry() as registry:
        registry.serve(REPOSITORY, "1", build_index([build_image(AMD, [slow, gone])]))

        def refuse(_seen: Seen) -> Reply:
            registry.wait_for(
                lambda: any(seen.sent == 10_000 for seen in requests_for(registry, slow))
            )
            return Reply(404)

        registry.on("GET", path(slow), Reply(body=slow, hold=never, hold_after=10_000))
        registry.on("GET", path(gone), refuse)
        with (
            puller(registry, tmp_path, options={"read_timeout": 0.5}) as one,
            pytest.raises(ResolverError) as caught,
        ):
            one.pull()
    assert caught.value.code == "blob-not-found"
    assert len([seen for seen in registry.log if path(slow) == seen.path]) == 1


# Foreign layers


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def foreign(registry: FakeRegistry, url: str) -> None:
    """Serve an image whose second layer its registry does not hold."""
    import json

    from tests.kit.images import from_dict, listed_as

    image = build_image(AMD, [noise(10), LAYER])
    document = json.loads(image.body)
    document["layers"][1].update(mediaType=FOREIGN, urls=[url])
    rest = {key: body for key, body in image.blobs.items() if key != str(Digest.of(LAYER))}
    changed = from_dict(document, image.media_type, blobs=rest.values())
    registry.serve(REPOSITORY, "1", build_index([listed_as(changed, AMD)]))


def test_pull_skips_and_names_a_foreign_layer(storage: FakeRegistry, tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        foreign(registry, f"{storage.url}/base")
        with puller(registry, tmp_path) as one:
            done = one.pull()

            assert not one.plan().missing
        assert requests_for(registry) == []
    assert storage.log == []
    (skipped,) = done.images[0].skipped
    assert skipped.descriptor.urls == (f"{storage.url}/base",)


def test_pull_fetches_requested_foreign_layers_anonymously(
    storage: FakeRegistry, tmp_path: Path
) -> None:
    storage.on("GET", "/base", Reply(body=LAYER))
    with FakeRegistry() as registry:
        foreign(registry, f"{storage.url}/base")
        registry.bearer(credentials=("u5er", "S3cr3tPa55"))
        with puller(registry, tmp_path, credentials=login(registry.host)) as one:
            one.pull(options=TransferOptions(foreign=True))

            assert one.held(Digest.of(LAYER)) == LAYER
        assert len(requests_for(registry)) == 1
    assert [seen.authorization for seen in storage.log] == [None]


def test_pull_rejects_wrong_foreign_layer_bytes(storage: FakeRegistry, tmp_path: Path) -> None:
    storage.on("GET", "/base", Reply(body=bytes(len(LAYER))))
    with FakeRegistry() as registry:
        foreign(registry, f"{storage.url}/base")
        with puller(registry, tmp_path) as one:
            with pytest.raises(DigestMismatch):
                one.pull(options=TransferOptions(foreign=True))
            assert is_clean(one)


@pytest.mark.parametrize(
    "url", ["ftp://publisher.example/x", "file:///etc/passwd", "http://u:p@h/"]
)
def test_pull_follows_foreign_layer_urls_to_web_servers_only(tmp_path: Path, url: str) -> None:
    with FakeRegistry() as registry:
        foreign(registry, url)
        with puller(registry, tmp_path) as one, pytest.raises(RedirectRefused):
            one.pull(options=TransferOptions(foreign=True))


def test_pull_reports_the_cause_of_a_broken_stream(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.on("GET", path(), _quiet)
    with puller(registry, tmp_path) as one, pytest.raises(ConnectionFailed, match="last byte"):
        one.pull()


def _quiet(seen: Seen) -> Reply:
    if "range" in seen.headers:
        return part(LAYER, seen, body=b"", content_length=False, close=True)
    return Reply(body=b"", content_length=False, close=True)
