"""A tier of blobs in object storage, shared by machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.results.events import Warned
from resolver.core.results.pull_events import PieceStarted
from resolver.errors import BlobNotFound, DigestMismatch, Usage
from resolver.session import Session
from resolver.settings import Flags
from resolver.sources import tier as tiers
from tests.kit.buckets import BUCKET, DATE, SECRET, Bucket, free_port, moto, reply, settings
from tests.kit.images import build_image, build_index
from tests.kit.processes import ROOT, command, python
from tests.kit.pulls import noise
from tests.kit.registry import FakeRegistry
from tests.kit.serve_client import ask
from tests.kit.writable import WritableRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from resolver.core.results.events import Event

    #: Answers a request itself, and returns True, or leaves it.
    Fault = Callable[[str, str, BaseHTTPRequestHandler], bool]

URL = f"s3://{BUCKET}/shared"
#: More than one request of a reader, and more than one of a tier.
LARGE, SMALL = noise(9_000_000), noise(700, 1)
IMAGE = build_index([build_image("linux/amd64", [LARGE, SMALL])])
CHILD = IMAGE.children[0]


def key(digest: str) -> str:
    return f"{BUCKET}/shared/blobs/{digest.replace(':', '/')}"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve("team/app", "1", IMAGE)
        yield fake


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with moto() as host:
        yield host


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with Bucket() as fake:
        for name, value in settings(fake.host).items():
            monkeypatch.setenv(name, value)
        yield fake


class Machine:
    """A store of its own, and a session that uses the tier."""

    def __init__(self, folder: Path, registry: FakeRegistry, url: str = URL) -> None:
        self.folder = folder
        self.name = f"{registry.host}/team/app:1"
        self.url = url
        self.events: list[Event] = []

    def session(self, *, writes: bool = False) -> Session:
        return Session(
            self.folder,
            flags=Flags(tier=self.url, tier_write=writes, no_fsync=True),
            environment={"HOME": str(self.folder), "AWS_ALLOW_HTTP": "true"},
            observe=self.events.append,
        )

    def pull(self, *, writes: bool = False) -> None:
        with self.session(writes=writes) as session:
            session.pull(self.name, "linux/amd64")
            digest = Digest.of(LARGE)
            assert (self.folder / "blobs/sha256" / digest.hex).read_bytes() == LARGE

    def warnings(self) -> list[str]:
        return [each.message for each in self.events if isinstance(each, Warned)]

    def places(self) -> set[str]:
        return {each.place for each in self.events if isinstance(each, PieceStarted)}


def test_tier_second_store_takes_nothing_but_the_tag_from_the_registry(
    s3: str, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings(s3).items():
        monkeypatch.setenv(name, value)
    first, second = (Machine(tmp_path / each, registry) for each in "ab")
    first.pull(writes=True)
    before = len(registry.log)
    with second.session() as session:
        planned = session.plan(second.name, "linux/amd64")
        session.pull(planned)

    assert [f"{seen.method} {seen.path}" for seen in registry.log[before:]] == [
        "GET /v2/team/app/manifests/1"
    ]
    blobs = {str(piece.descriptor.digest): piece.place for piece in planned.pieces}
    assert {blobs[each] for each in CHILD.blobs} == {"tier"}
    assert planned.bytes_missing == 0
    assert second.places() == {"tier"}
    assert first.warnings() == second.warnings() == []


def put(bucket: Bucket) -> None:
    """Fill a bucket with the blobs of the image."""
    for digest, body in CHILD.blobs.items():
        bucket.objects[key(digest)] = body


def slow(bucket: Bucket) -> Fault:
    def wait(*_: object) -> bool:
        bucket.released.wait(60)
        return False

    return wait


def status(code: int) -> Fault:
    def answer(_method: str, _key: str, to: BaseHTTPRequestHandler) -> bool:
        reply(to, code, b"<Error><Message>\x1b[31mremote text</Message></Error>")
        return True

    return answer


def slow_body(bucket: Bucket) -> Fault:
    def answer(method: str, key: str, to: BaseHTTPRequestHandler) -> bool:
        if method != "GET" or key not in bucket.objects:
            return False
        body = bucket.objects[key]
        first, last = to.headers.get("range", f"bytes=0-{len(body) - 1}")[6:].split("-")
        length = min(int(last) + 1, len(body)) - int(first)
        to.send_response(206 if "range" in to.headers else 200)
        to.send_header("ETag", '"1"')
        to.send_header("Last-Modified", DATE)
        to.send_header("Content-Length", str(length))
        to.send_header("Content-Range", f"bytes {first}-{int(first) + length - 1}/{len(body)}")
        to.end_headers()
        to.wfile.write(b"x")
        bucket.released.wait(60)
        to.close_connection = True
        return True

    return answer


def later(fault: Fault) -> Fault:
    """Misbehave from the second request of a blob on."""
    seen: list[str] = []

    def answer(method: str, key: str, to: BaseHTTPRequestHandler) -> bool:
        if method != "GET" or not key.endswith(Digest.of(LARGE).hex):
            return False
        seen.append(key)
        return len(seen) > 1 and fault(method, key, to)

    return answer


def endless(bucket: Bucket) -> Fault:
    """Send more than a range, and without end, under an honest head."""

    def answer(method: str, key: str, to: BaseHTTPRequestHandler) -> bool:
        if method != "GET" or not key.endswith(Digest.of(LARGE).hex):
            return False
        to.send_response(206)
        to.send_header("ETag", '"1"')
        to.send_header("Last-Modified", DATE)
        first, last = to.headers["range"][6:].split("-")
        to.send_header("Content-Range", f"bytes {first}-{last}/{len(LARGE)}")
        to.end_headers()
        to.close_connection = True
        with suppress(ConnectionError):
            while not bucket.released.is_set():
                to.wfile.write(bytes(1 << 20))
        bucket.released.set()
        return True

    return answer


FAULTS: dict[str, Callable[[Bucket], Fault]] = {
    "403": lambda _bucket: status(403),
    "500": lambda _bucket: status(500),
    "slow": slow,
    "slow body": slow_body,
    "500 half-way": lambda _bucket: later(status(500)),
    "slow half-way": lambda bucket: later(slow_body(bucket)),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LOOK", "_READ", "_WRITE"):
        monkeypatch.setattr(tiers, name, 1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", FAULTS)
def test_tier_that_fails_costs_one_warning_and_the_registry_serves(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path, fault: str
) -> None:
    put(bucket)
    bucket.fault = FAULTS[fault](bucket)
    machine = Machine(tmp_path / "a", registry)
    machine.pull()

    assert len(machine.warnings()) == 1
    assert f"`{URL}` is not used: " in machine.warnings()[0]
    assert "remote text" not in machine.warnings()[0]
    if "slow" in fault:
        assert "in time" in machine.warnings()[0]
    assert Digest.of(LARGE).hex in {seen.path[-64:] for seen in registry.requests("GET", "/blobs/")}


def test_tier_that_has_failed_is_used_again_later(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket)
    events: list[Event] = []
    tier = tier_at(bucket.host, monkeypatch, events)
    blob = descriptor(LARGE)
    bucket.fault = status(403)
    assert not tier.has(blob)
    bucket.fault = lambda *_: False
    asked = len(bucket.log)
    assert not tier.has(blob)
    assert len(bucket.log) == asked
    monkeypatch.setattr(tier, "_until", 0.0)

    assert tier.has(blob)
    assert len(events) == 1


def test_tier_that_is_gone_costs_one_warning(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings(f"127.0.0.1:{free_port()}").items():
        monkeypatch.setenv(name, value)
    machine = Machine(tmp_path / "a", registry)
    machine.pull(writes=True)

    assert machine.warnings() == [f"the tier `{URL}` is not used: it cannot be reached"]


def other_bytes(body: bytes) -> bytes:
    return bytes(len(body))


def last_byte(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.mark.parametrize(
    "change",
    [other_bytes, last_byte, lambda body: body + b"x", lambda body: body[:-1], lambda _: b""],
    ids=["other bytes", "last byte", "longer", "shorter", "empty"],
)
def test_tier_with_wrong_content_costs_a_warning_and_the_registry_serves(
    bucket: Bucket,
    registry: FakeRegistry,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
) -> None:
    put(bucket)
    large = str(Digest.of(LARGE))
    bucket.objects[key(large)] = change(LARGE)
    machine = Machine(tmp_path / "a", registry)
    machine.pull()

    fetched = {seen.path.rpartition("/")[2] for seen in registry.requests("GET", "/blobs/")}
    assert fetched == {large}
    assert len(machine.warnings()) == 1
    assert large in machine.warnings()[0]


def test_tier_far_away_is_read_in_parallel_ranges(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    put(bucket)
    meeting, seen = threading.Barrier(2), list[str]()

    def delay(method: str, key: str, to: BaseHTTPRequestHandler) -> bool:
        if method == "GET" and key.endswith(Digest.of(LARGE).hex):
            seen.append(to.headers["range"])
            if len(seen) == 1:
                # Longer than the round trip up to which one connection is enough.
                time.sleep(0.05)
            elif len(seen) <= 3:
                # Neither is answered before the other is here.
                meeting.wait(20)
        return False

    bucket.fault = delay
    machine = Machine(tmp_path / "a", registry)
    machine.pull()

    assert len(set(seen)) == len(seen) >= 3
    assert registry.requests("GET", "/blobs/") == []
    assert machine.warnings() == []


def test_tier_that_sends_without_end_is_cut_and_the_registry_serves(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    put(bucket)
    bucket.fault = endless(bucket)
    machine = Machine(tmp_path / "a", registry)
    machine.pull()

    # The connection was closed by the reader.
    assert bucket.released.wait(10)
    assert len(machine.warnings()) == 1


def test_tier_with_much_wrong_content_is_not_used_any_more(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_index([build_image("linux/amd64", [noise(500, each) for each in range(20)])])
    registry.serve("team/app", "many", image)
    for digest, body in image.children[0].blobs.items():
        bucket.objects[key(digest)] = body + b"x"
    machine = Machine(tmp_path / "a", registry)
    with machine.session() as session:
        session.pull(f"{registry.host}/team/app:many", "linux/amd64")

    ended = [each for each in machine.warnings() if "is not used" in each]
    assert ended == [f"the tier `{URL}` is not used: 3 of its objects have wrong content"]
    assert len(machine.warnings()) < len(image.children[0].blobs)


def test_tier_empty_costs_a_look_at_each_piece(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "a", registry)
    machine.pull()

    looks = [line for line in bucket.log if line.startswith("HEAD ")]
    assert sorted(looks) == sorted(f"HEAD {key(each)}" for each in CHILD.blobs)
    assert sorted(set(bucket.log) - set(looks)) == [f"GET {key(CHILD.digest)}"]
    assert machine.warnings() == []


def test_tier_writes_blobs_before_manifests_and_no_tag(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    conditions = set[str]()

    def note(method: str, _key: str, to: BaseHTTPRequestHandler) -> bool:
        if method == "PUT":
            conditions.add(to.headers.get("if-none-match", ""))
        return False

    bucket.fault = note
    Machine(tmp_path / "a", registry).pull(writes=True)

    assert conditions == {"*"}
    puts = [line.partition(" ")[2] for line in bucket.log if line.startswith("PUT ")]
    assert set(puts[: len(CHILD.blobs)]) == {key(each) for each in CHILD.blobs}
    assert puts[len(CHILD.blobs) :] == [key(CHILD.digest), key(IMAGE.digest)]
    assert set(puts) == set(bucket.objects)
    assert all(Digest.of(body).hex == name[-64:] for name, body in bucket.objects.items())


def test_tier_is_sent_no_large_blob_that_it_has(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    Machine(tmp_path / "a", registry).pull(writes=True)
    bucket.log.clear()
    # Whatever it came from: here the tier is first asked after the pull.
    with Session(tmp_path / "b", environment={"HOME": str(tmp_path)}) as session:
        planned = session.plan(f"{registry.host}/team/app:1", "linux/amd64")
    with Machine(tmp_path / "b", registry).session(writes=True) as session:
        session.pull(planned)

    puts = [line.partition(" ")[2] for line in bucket.log if line.startswith("PUT ")]
    assert key(str(Digest.of(LARGE))) not in puts


def test_tier_that_refuses_writes_costs_one_warning_and_gets_no_manifest(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    refuse = status(403)
    bucket.fault = lambda method, key, to: method == "PUT" and refuse(method, key, to)
    machine = Machine(tmp_path / "a", registry)
    machine.pull(writes=True)

    assert machine.warnings() == [f"the tier `{URL}` is not used: access is denied"]
    puts = {line.partition(" ")[2] for line in bucket.log if line.startswith("PUT ")}
    assert puts <= {key(each) for each in CHILD.blobs}


def test_tier_gets_no_manifest_whose_blob_it_refused(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    other = build_image("linux/arm64", [noise(300, 5)])
    registry.serve("team/app", "2", build_index([CHILD, other]))
    machine = Machine(tmp_path / "a", registry)
    with machine.session(writes=True) as session:
        tier = session._context.tier()
        assert tier is not None
        original = tier.put

        def lose(descriptor: Descriptor, opened: AbstractContextManager[Iterator[bytes]]) -> bool:
            is_lost = descriptor.digest == Digest.of(LARGE)
            return not is_lost and original(descriptor, opened)

        tier.put = lose  # type: ignore[method-assign]  # one blob is lost
        session.pull(f"{registry.host}/team/app:2", ["linux/amd64", "linux/arm64"])

    assert key(other.digest) in bucket.objects
    assert key(CHILD.digest) not in bucket.objects


def descriptor(body: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(body), len(body))


def opened(body: bytes) -> AbstractContextManager[Iterator[bytes]]:
    return nullcontext(iter([body[at : at + 65_536] for at in range(0, len(body), 65_536)]))


def tier_at(
    host: str, monkeypatch: pytest.MonkeyPatch, events: list[Event], url: str = URL
) -> tiers.Tier:
    for name, value in settings(host).items():
        monkeypatch.setenv(name, value)
    return tiers.Tier(url, {"AWS_ALLOW_HTTP": "true"}, events.append, writes=True)


@pytest.mark.parametrize("size", [700, 2_000_000], ids=["one request", "multipart"])
def test_tier_two_writers_at_once_leave_one_whole_object(
    s3: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(tiers, "_WHOLE", 1_000_000)
    events: list[Event] = []
    body, ready = noise(size, 77), threading.Barrier(4)

    def write(_number: int) -> bool:
        tier = tiers.Tier(URL, {"AWS_ALLOW_HTTP": "true"}, events.append, writes=True)
        ready.wait(20)
        return tier.put(descriptor(body), opened(body))

    reader = tier_at(s3, monkeypatch, events)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(write, range(4))) == [True] * 4
    assert reader.load(Digest.of(body)) == body
    assert events == []


def test_tier_writes_never_replace_an_object(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    tier = tier_at(s3, monkeypatch, events)
    body = noise(900, 78)
    wrong = noise(900, 79)
    link = HTTPConnection(s3, timeout=20)
    link.request("PUT", f"/{key(str(Digest.of(body)))}", wrong)
    assert link.getresponse().status == 200
    link.close()

    assert tier.put(descriptor(body), opened(body))
    with tier.open_range(descriptor(body), 0, 900) as answer:
        assert b"".join(answer.chunks) == wrong
    assert tier.load(Digest.of(body)) is None
    assert len(events) == 1


def test_tier_write_of_wrong_content_leaves_no_object(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "_WHOLE", 1_000_000)
    tier = tier_at(s3, monkeypatch, [])
    for body in (noise(900, 80), noise(12_000_000, 81)):
        with pytest.raises(DigestMismatch):
            tier.put(descriptor(body), opened(last_byte(body)))
        assert not tier.has(descriptor(body))


#: Writes most of a large object, says so, and never sends the rest.
_HANGING = """
import sys, time
from contextlib import nullcontext
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.sources import tier as tiers
from tests.kit.pulls import noise

body = noise(40_000_000)

def chunks():
    for at in range(0, 36_000_000, 1_000_000):
        yield body[at : at + 1_000_000]
    print("sent", flush=True)
    time.sleep(600)

tier = tiers.Tier(sys.argv[1], {"AWS_ALLOW_HTTP": "true"}, print, writes=True)
tier.put(Descriptor("a/b", Digest.of(body), len(body)), nullcontext(chunks()))
"""


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_tier_killed_upload_leaves_nothing_that_is_read(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    url = URL if kind == "s3" else (tmp_path / "tier").as_uri()
    tier = tier_at(s3, monkeypatch, [], url)
    writer = subprocess.Popen(
        [sys.executable, "-c", _HANGING, url],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert writer.stdout is not None
    with writer:
        assert writer.stdout.readline() == b"sent\n"
        writer.kill()
    body = noise(40_000_000)

    assert not tier.has(descriptor(body))
    with pytest.raises(BlobNotFound), tier.open_range(descriptor(body), 0, 10):
        pass
    assert tier.put(descriptor(body), opened(body))
    assert tier.has(descriptor(body))


def test_tier_in_a_folder_is_shared_by_two_stores(registry: FakeRegistry, tmp_path: Path) -> None:
    url = (tmp_path / "a tier").as_uri()
    first, second = (Machine(tmp_path / each, registry, url) for each in "ab")
    first.pull(writes=True)
    before = len(registry.log)
    second.pull()

    assert len(registry.log) == before + 1
    assert first.warnings() == second.warnings() == []
    names = {
        path.relative_to(tmp_path / "a tier").as_posix()
        for path in (tmp_path / "a tier").rglob("*")
        if path.is_file()
    }
    assert names == {
        key(each).removeprefix(f"{BUCKET}/shared/")
        for each in [*CHILD.blobs, CHILD.digest, IMAGE.digest]
    }


def test_tier_in_a_folder_that_does_not_exist_costs_a_warning(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "a", registry, (tmp_path / "none").as_uri())
    machine.pull()

    assert len(machine.warnings()) == 1
    assert machine.warnings()[0].endswith("there is no such bucket or folder")
    assert not (tmp_path / "none").exists()


def test_tier_is_not_used_offline(bucket: Bucket, registry: FakeRegistry, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", registry)
    machine.pull()
    bucket.log.clear()
    with Session(tmp_path / "a", flags=Flags(tier=URL, offline=True)) as session:
        session.pull(machine.name, "linux/amd64")

    assert bucket.log == []


# --- copies and mirrors ------------------------------------------------------------------------


def keeps_image(place: WritableRegistry) -> bool:
    """Whether a destination has every blob of the image, right."""
    return all(
        place.store.load(Digest.parse(each), limit=1 << 30) == body
        for each, body in CHILD.blobs.items()
    )


def copied(machine: Machine, to: WritableRegistry, *, writes: bool = False) -> None:
    with machine.session(writes=writes) as session:
        plan = session.plan_copy(machine.name, f"{to.host}/mirror/app:1", referrers=False)
        session.copy(plan)


def test_copy_reads_blobs_from_the_tier_and_writes_them_there(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    with WritableRegistry(tmp_path / "1") as first, WritableRegistry(tmp_path / "2") as second:
        copied(Machine(tmp_path / "a", registry), first, writes=True)
        assert {key(each) for each in CHILD.blobs} <= set(bucket.objects)
        before = len(registry.log)
        machine = Machine(tmp_path / "b", registry)
        copied(machine, second)

        assert keeps_image(first)
        assert keeps_image(second)
    assert not [seen for seen in registry.log[before:] if "/blobs/" in seen.path]
    assert machine.warnings() == []


@pytest.mark.parametrize("count", [1, 2])
def test_copy_with_wrong_bytes_in_the_tier_sends_those_of_the_registry(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path, count: int
) -> None:
    put(bucket)
    bucket.objects[key(str(Digest.of(LARGE)))] = last_byte(LARGE)
    machine = Machine(tmp_path / "a", registry)
    with ExitStack() as stack, machine.session() as session:
        places = [
            stack.enter_context(WritableRegistry(tmp_path / str(number))) for number in range(count)
        ]
        names = [f"{each.host}/mirror/app:1" for each in places]
        plan = session.plan_copy(machine.name, names, referrers=False)
        assert session.copy(plan).failures == ()
        assert all(keeps_image(each) for each in places)
    assert len(machine.warnings()) == 1


def test_mirror_reads_blobs_from_the_tier_and_writes_them_there(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    digest = str(Digest.of(LARGE))

    def fetch(machine: Machine, *, writes: bool = False) -> None:
        with (
            machine.session(writes=writes) as session,
            session.serve_mirror(upstream=registry.host) as server,
        ):
            for name in ("1", CHILD.digest):
                assert ask(server, f"/v2/team/app/manifests/{name}").status == 200
            for each, body in CHILD.blobs.items():
                assert ask(server, f"/v2/team/app/blobs/{each}").body == body
            if writes:
                deadline = time.monotonic() + 20
                while not {key(each) for each in CHILD.blobs} <= set(bucket.objects):
                    assert time.monotonic() < deadline
                    time.sleep(0.01)

    fetch(Machine(tmp_path / "a", registry), writes=True)
    before = len(registry.log)
    second = Machine(tmp_path / "b", registry)
    fetch(second)
    assert not [seen for seen in registry.log[before:] if "/blobs/" in seen.path]
    assert second.warnings() == []

    bucket.fault = status(500)
    third = Machine(tmp_path / "c", registry)
    fetch(third)
    assert [seen for seen in registry.log[before:] if seen.path.endswith(digest)]
    assert len(third.warnings()) == 1


# --- options, configuration, secrets -----------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "http://x/y",
        "bucket",
        "file:relative",
        "file://host/dir",
        "s3://b/../c",
        f"s3://KEY:{SECRET}@bucket/x",
        f"s3://bucket/x?secret={SECRET}",
        "file:///",
    ],
)
def test_tier_url_that_cannot_be_used_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(Usage) as caught:
        tiers.check_url(url)
    assert SECRET not in " ".join([str(caught.value), *caught.value.hints()])


def test_tier_without_obstore_names_what_to_install(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    machine = Machine(tmp_path / "a", registry)
    with pytest.raises(Usage) as caught:
        machine.pull()
    assert "`obstore`" in str(caught.value)
    assert caught.value.hints() == ("run `pip install 'multiarch-resolver[s3]'`",)


def test_pull_without_a_tier_does_not_import_obstore(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    code = (
        "import sys; from resolver.session import Session\n"
        f"with Session({str(tmp_path / 'a')!r}) as s: s.pull(sys.argv[1], 'linux/amd64')\n"
        "print([name for name in sys.modules if 'obstore' in name or name.endswith('.tier')])"
    )
    done = python("-c", code, f"{registry.host}/team/app:1")
    assert (done.stdout, done.stderr) == (b"[]\n", b"")


def test_tier_write_without_a_tier_is_refused(registry: FakeRegistry, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", registry, url="")
    with pytest.raises(Usage, match="no tier to write to"):
        machine.pull(writes=True)


def test_tier_of_config_yaml_is_used_and_the_variable_wins(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    put(bucket)
    file = tmp_path / "config.yaml"
    file.write_text(f"tier: {URL}\nhosts: {{}}\n")
    variables = {"RESOLVER_CONFIG": str(file), "AWS_ALLOW_HTTP": "true"}
    name = f"{registry.host}/team/app:1"
    with Session(tmp_path / "a", environment=variables) as session:
        pieces = session.plan(name, "linux/amd64").pieces
        assert "tier" in {piece.place for piece in pieces}
    variables["RESOLVER_TIER"] = (tmp_path / "other").as_uri()
    (tmp_path / "other").mkdir()
    with Session(tmp_path / "b", environment=variables) as session:
        pieces = session.plan(name, "linux/amd64").pieces
        assert "tier" not in {piece.place for piece in pieces}


def test_bucket_credentials_are_in_no_output_and_not_in_the_store(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    refuse = status(403)
    bucket.fault = lambda method, key, to: method == "PUT" and refuse(method, key, to)
    name = f"{registry.host}/team/app:1"
    store = str(tmp_path / "store")
    done = command(
        "pull",
        name,
        "-p",
        "linux/amd64",
        "--store",
        store,
        "--tier",
        URL,
        "--tier-write",
        "-vv",
        environment=settings(bucket.host),
    )

    assert done.returncode == 0, done.stderr
    assert b"access is denied" in done.stderr
    files = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    for text in (done.stdout, done.stderr, *files):
        assert SECRET.encode() not in text
        assert b"Signature=" not in text


def test_plan_shows_the_tier_as_a_place(
    bucket: Bucket, registry: FakeRegistry, tmp_path: Path
) -> None:
    put(bucket)
    arguments = ("plan", f"{registry.host}/team/app:1", "-p", "linux/amd64", "--tier", URL)
    store = ("--store", str(tmp_path / "store"))
    text = command(*arguments, *store, environment=settings(bucket.host))
    values = command(*arguments, *store, "--json", environment=settings(bucket.host))

    assert text.stdout.count(b"held by tier") == len(CHILD.blobs)
    places = [piece["place"] for piece in json.loads(values.stdout)["pieces"]]
    assert places.count("tier") == len(CHILD.blobs)


def test_gc_tier_deletes_what_is_old_and_nothing_else(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "tier"
    url = folder.as_uri()
    Machine(tmp_path / "a", registry, url).pull(writes=True)
    large = folder / "blobs/sha256" / Digest.of(LARGE).hex
    foreign = folder / "blobs/notes"
    foreign.write_text("mine")
    for path in (large, foreign):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    gc = ("gc", "--tier", url, "--keep-newer", "1d", "--json", "--store", str(tmp_path / "a"))
    dry = command(*gc, "--dry-run")
    assert large.exists()
    done = command(*gc)

    assert done.returncode == dry.returncode == 0
    assert [each["name"] for each in json.loads(done.stdout)["removed"]] == [str(Digest.of(LARGE))]
    assert json.loads(dry.stdout)["removed"] == json.loads(done.stdout)["removed"]
    assert json.loads(done.stdout)["kept"] == len(CHILD.blobs) - 1 + 2
    assert not large.exists()
    assert foreign.exists()


def test_gc_tier_of_a_bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"s3://{BUCKET}/old"
    tier = tier_at(s3, monkeypatch, [], url)
    body = noise(500, 90)
    assert tier.put(descriptor(body), opened(body))

    assert tier.expire(3600, dry_run=False).kept == 1
    gone = tier.expire(3600, dry_run=False, now=lambda: time.time() + 7200)
    assert [item.name for item in gone.removed] == [str(Digest.of(body))]
    assert not tier.has(descriptor(body))


@pytest.mark.parametrize(
    "arguments",
    [
        ("gc", "--tier", URL),
        ("gc", "--tier", URL, "--keep-newer", "1d", "--max-size", "1GB"),
        ("serve", "--tier", URL),
        ("pull", "alpine", "--tier", "nowhere"),
    ],
    ids=["no age", "size", "serve", "url"],
)
def test_tier_options_that_do_not_fit_are_refused(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert b"tier" in done.stderr


def test_gc_tier_that_cannot_be_listed_is_status_5(bucket: Bucket, tmp_path: Path) -> None:
    bucket.fault = status(403)
    done = command(
        "gc",
        "--tier",
        URL,
        "--keep-newer",
        "1d",
        "--store",
        str(tmp_path / "a"),
        environment=settings(bucket.host),
    )
    assert done.returncode == 5
    assert b"HTTP status 403" in done.stderr
