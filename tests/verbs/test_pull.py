"""A pull fetches what is missing, counted at the registry, and names the image last."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.results.events import Warned
from resolver.core.results.plan import CONNECTIONS
from resolver.core.results.pull_events import (
    Advanced,
    Finished,
    ImageDone,
    PieceStarted,
    PieceVerifying,
    Reused,
    Started,
)
from resolver.errors import BlobNotFound, LimitExceeded, ManifestNotFound, Negative, StoreFault
from resolver.session import Session
from resolver.store import LocalStore
from resolver.store.files import StoreFolder
from resolver.verbs.plan import make_plan
from resolver.verbs.threads import DaemonPool
from resolver.verbs.transfer import TransferOptions
from tests.kit.images import Image, build_image, build_index, from_dict, listed_as
from tests.kit.pulls import (
    RANGE,
    REPOSITORY,
    Counter,
    blobs,
    line,
    noise,
    puller,
    ranges,
)
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from _typeshed import TraceFunction

    from resolver.core.results.events import Event

AMD, ARM = "linux/amd64", "linux/arm64/v8"


def layers(count: int, size: int = 5_000, seed: int = 0) -> list[bytes]:
    return [noise(size + number, seed) for number in range(count)]


def digest_of(content: bytes) -> Digest:
    return Digest.of(content)


def complete(store: LocalStore, image: Image) -> bool:
    """Return whether every blob of an image is stored and correct."""
    wanted = {**image.blobs, **{key: body for key, (_, body) in image.documents.items()}}
    held = (store.load(Digest.parse(key), limit=1 << 30) for key in wanted)
    return all(body == wanted[key] for key, body in zip(wanted, held, strict=True))


def test_first_pull_costs_two_requests_plus_one_per_blob(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    index = build_index([build_image(AMD, layers(3)), build_image(ARM)])
    registry.serve(REPOSITORY, "1", index)
    count = Counter(registry)
    with puller(registry, tmp_path) as one:
        done = one.pull()

        assert complete(one.store, index.child(AMD))
    requests = count.lines()
    assert requests[:2] == ["GET manifests/1", f"GET manifests/{index.child(AMD).digest}"]
    assert sorted(requests[2:]) == sorted(f"GET blobs/{key}" for key in index.child(AMD).blobs)
    assert [each.status for each in done.images] == ["downloaded"]
    assert done.bytes_fetched == sum(map(len, index.child(AMD).blobs.values()))


def test_pull_with_thirteen_of_fourteen_layers_held_fetches_one(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    shared = layers(13)
    old, new = build_image(AMD, [*shared, b"old" * 99]), build_image(AMD, [*shared, b"new" * 99])
    registry.serve(REPOSITORY, "1", build_index([old]))
    registry.serve(REPOSITORY, "2", build_index([new]))
    count = Counter(registry)
    with puller(registry, tmp_path) as one:
        one.pull(tag="1")
        count.new()
        plan = one.plan(tag="2")
        done = one.carry_out(plan)

        assert complete(one.store, new)
    requests = count.new()
    fetched = set(new.blobs) - set(old.blobs)
    assert len(requests) == len(fetched) + 2 == plan.requests + 2
    assert {line(seen) for seen in blobs(requests)} == {f"GET blobs/{key}" for key in fetched}
    assert sum(seen.sent for seen in blobs(requests)) == plan.bytes_missing == done.bytes_fetched
    assert len(done.reused) == 13 + 2


def test_pull_with_everything_held_costs_one_head(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.serve(REPOSITORY, "1", build_index([build_image(AMD, layers(3))]))
    count = Counter(registry)
    with puller(registry, tmp_path) as one:
        one.pull()
        count.new()
        done = one.pull()

    requests = count.new()
    assert [line(seen) for seen in requests] == ["HEAD manifests/1"]
    assert sum(seen.sent for seen in requests) == 0
    assert [each.status for each in done.images] == ["up-to-date"]
    assert done.bytes_fetched == 0


def test_pull_second_platform_fetches_only_its_layers(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    shared = layers(3)
    index = build_index(
        [build_image(AMD, [*shared, b"amd" * 50]), build_image(ARM, [*shared, b"arm" * 50])]
    )
    registry.serve(REPOSITORY, "1", index)
    count = Counter(registry)
    with puller(registry, tmp_path) as one:
        one.pull(AMD)
        count.new()
        one.pull("linux/arm64")
        named = one.store.pulled(f"{registry.host}/{REPOSITORY}:1")

    arm, amd = index.child(ARM), index.child(AMD)
    own = {f"GET blobs/{key}" for key in set(arm.blobs) - set(amd.blobs)}
    assert set(count.lines()) == {"HEAD manifests/1", f"GET manifests/{arm.digest}", *own}
    assert named is not None
    assert [str(each.platform) for each in named.images] == [AMD, ARM]


def test_pull_platforms_together_counts_shared_layers_once(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    shared = layers(3)
    index = build_index(
        [build_image(AMD, [*shared, b"amd" * 50]), build_image(ARM, [*shared, b"arm" * 50])]
    )
    registry.serve(REPOSITORY, "1", index)
    with puller(registry, tmp_path) as one:
        plan = one.plan(AMD, "linux/arm64")
        one.carry_out(plan)

        assert complete(one.store, index)
    assert plan.saved == sum(map(len, shared)) + index.size
    hits = [hits for path, hits in registry.hits.items() if "/blobs/" in path]
    assert hits == [1] * len(index.blobs)


def test_pull_fetches_a_repeated_digest_once(registry: FakeRegistry, tmp_path: Path) -> None:
    twice = noise(9_000)
    image = build_image(AMD, [twice, b"between" * 9, twice])
    registry.serve(REPOSITORY, "1", image)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert complete(one.store, image)
    assert registry.hits[f"GET /v2/{REPOSITORY}/blobs/{digest_of(twice)}"] == 1


def test_pull_fetches_and_keeps_an_empty_layer(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD, [b"", noise(10)])
    registry.serve(REPOSITORY, "1", image)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(digest_of(b"")) == b""
        assert one.plan().bytes_missing == 0
    empty = registry.requests("GET", f"/blobs/{digest_of(b'')}")
    assert ranges(empty) == [""]


def test_pull_reports_an_empty_layer_missing_from_the_registry(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve(REPOSITORY, "1", build_image(AMD, [b""]))
    registry.on("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(b'')}", Reply(404))
    with puller(registry, tmp_path) as one, pytest.raises(BlobNotFound):
        one.pull()


def test_pull_does_not_request_embedded_content(registry: FakeRegistry, tmp_path: Path) -> None:
    body = b"{}"
    manifest = from_dict(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.example",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": str(digest_of(body)),
                "size": 2,
                "data": "e30=",
            },
            "layers": [],
        }
    )
    index = build_index([listed_as(manifest, AMD)])
    registry.serve(REPOSITORY, "1", index)
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(digest_of(body)) == body
    assert registry.requests(path_contains="/blobs/") == []


def test_pull_fetches_a_large_layer_in_concurrent_closed_ranges(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    large = noise(5 * RANGE + 1)
    registry.serve(REPOSITORY, "1", build_image(AMD, [large]))
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(digest_of(large)) == large
    asked = registry.requests("GET", f"/blobs/{digest_of(large)}")
    bounds = sorted(tuple(map(int, text[6:].split("-"))) for text in ranges(asked))
    assert [first for first, _ in bounds] == [0, *(last + 1 for _, last in bounds[:-1])]
    assert bounds[-1][1] == len(large) - 1
    assert sum(seen.sent for seen in asked) == len(large)
    assert ranges(asked)[0].startswith("bytes=0-")


def test_pull_requests_further_ranges_only_after_the_first_works(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    large = noise(6 * RANGE)
    registry.serve(REPOSITORY, "1", build_image(AMD, [large]))
    registry.shelves.ranges = False
    with puller(registry, tmp_path) as one:
        one.pull()

        assert one.held(digest_of(large)) == large
    asked = registry.requests("GET", f"/blobs/{digest_of(large)}")
    assert [seen.sent for seen in asked] == [len(large)]


def test_pull_writes_the_name_last_when_content_is_complete(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_image(AMD, layers(4))
    registry.serve(REPOSITORY, "1", image)
    missing = list(image.blobs)[-1]
    registry.on("GET", f"/v2/{REPOSITORY}/blobs/{missing}", Reply(404), times=1)
    count = Counter(registry)
    with puller(registry, tmp_path) as one:
        with pytest.raises(BlobNotFound):
            one.pull(options=TransferOptions(jobs=1))
        assert one.store.pulled(f"{registry.host}/{REPOSITORY}:1") is None
        kept = {line(seen) for seen in blobs(count.new()) if seen.status == 200}

        one.pull()

        assert complete(one.store, image)
        assert one.store.pulled(f"{registry.host}/{REPOSITORY}:1") is not None
    again = {line(seen) for seen in blobs(count.new())}
    assert kept
    assert not kept & again
    assert kept | again == {f"GET blobs/{key}" for key in image.blobs}


def test_pull_with_a_missing_child_writes_no_name_and_keeps_content(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    index = build_index([build_image(AMD, layers(2)), build_image(ARM, layers(2, seed=1))])
    registry.serve(REPOSITORY, "1", index)
    arm = index.child(ARM)
    layer = next(key for key in arm.blobs if len(arm.blobs[key]) == 5_000)
    registry.on("GET", f"/v2/{REPOSITORY}/blobs/{layer}", Reply(404), times=1)
    count = Counter(registry)
    reference = f"{registry.host}/{REPOSITORY}:1"
    with puller(registry, tmp_path) as one:
        with pytest.raises(BlobNotFound):
            one.pull(AMD, "linux/arm64", options=TransferOptions(jobs=1))
        assert one.store.pulled(reference) is None
        kept = {line(seen) for seen in blobs(count.new()) if seen.status == 200}
        one.pull(AMD, "linux/arm64")

        assert complete(one.store, index)
        assert one.store.pulled(reference) is not None
    assert not kept & {line(seen) for seen in count.new()}


def test_pull_with_a_missing_manifest_fails_before_any_blob(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    index = build_index([build_image(AMD), build_image(ARM)])
    registry.serve(REPOSITORY, "1", index)
    gone = index.child(ARM).digest
    registry.on("GET", f"/v2/{REPOSITORY}/manifests/{gone}", Reply(404), times=1)
    with puller(registry, tmp_path) as one:
        with pytest.raises(ManifestNotFound):
            one.plan(AMD, "linux/arm64")
        assert registry.requests(path_contains="/blobs/") == []
        one.pull(AMD, "linux/arm64")

        assert complete(one.store, index)


def test_pull_continues_with_other_images_after_a_failure(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    shared = noise(500)
    good, bad = build_image(AMD, [shared, b"good"]), build_image(AMD, [shared, b"bad"])
    registry.serve(REPOSITORY, "good", good)
    registry.serve(REPOSITORY, "bad", bad)
    registry.on("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(b'bad')}", Reply(404))
    with puller(registry, tmp_path) as one:
        plan = one.plan(tag="bad")
        both = one.carry_out(
            type(plan)(
                (*plan.images, *one.plan(tag="good").images),
                tuple(dict.fromkeys((*plan.pieces, *one.plan(tag="good").pieces))),
            )
        )

        assert complete(one.store, good)
    assert [each.image.reference.rpartition(":")[2] for each in both.images] == ["good"]
    assert [failure.reference.rpartition(":")[2] for failure in both.failures] == ["bad"]
    assert isinstance(both.failures[0].error, BlobNotFound)


def test_pull_refetches_a_document_lost_after_planning(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    index = build_index([build_image(AMD, layers(2))])
    registry.serve(REPOSITORY, "1", index)
    count = Counter(registry)
    with puller(registry, tmp_path) as one:
        plan = one.plan()
        for key in index.documents:
            digest = Digest.parse(key)
            (one.store.root / "blobs" / digest.algorithm / digest.hex).unlink()
        count.new()
        one.carry_out(plan)

        assert complete(one.store, index)
    requests = count.lines()
    manifest = index.child(AMD).digest
    assert requests[-2:] == [f"GET manifests/{manifest}", f"GET manifests/{index.digest}"]


def test_pull_refetches_a_blob_lost_after_planning(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD, layers(2))
    registry.serve(REPOSITORY, "1", image)
    with puller(registry, tmp_path) as one:
        one.pull()
        plan = one.plan()
        digest = digest_of(layers(2)[0])
        (one.store.root / "blobs" / "sha256" / digest.hex).unlink()
        one.carry_out(plan)

        assert complete(one.store, image)


def test_pull_treats_a_truncated_blob_as_missing(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD, layers(2))
    registry.serve(REPOSITORY, "1", image)
    with puller(registry, tmp_path) as one:
        one.pull()
        digest = digest_of(layers(2)[0])
        path = one.store.root / "blobs" / "sha256" / digest.hex
        path.chmod(0o600)
        path.write_bytes(b"")
        assert one.plan().bytes_missing == 5_000
        one.pull()

        assert complete(one.store, image)


def test_pull_of_a_moved_tag_with_held_content_fetches_no_blob(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    one_image, two = build_image(AMD, layers(2)), build_image(AMD, layers(2, seed=9))
    registry.serve(REPOSITORY, "1", one_image)
    registry.serve(REPOSITORY, "2", two)
    count = Counter(registry)
    with puller(registry, tmp_path) as one:
        one.pull(tag="1")
        one.pull(tag="2")
        registry.serve(REPOSITORY, "1", two)
        count.new()
        done = one.pull(tag="1")
        named = one.store.pulled(f"{registry.host}/{REPOSITORY}:1")

    assert blobs(count.new()) == []
    assert [each.status for each in done.images] == ["downloaded"]
    assert named is not None
    assert str(named.root.digest) == two.digest


def test_pull_events_cover_each_blob_from_start_to_end(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    content = noise(3 * RANGE)
    index = build_index([build_image(AMD, [content, b"small"])])
    registry.serve(REPOSITORY, "1", index)
    with puller(registry, tmp_path) as one:
        one.pull()
        digest = digest_of(content)
        about = [event for event in one.events if getattr(event, "digest", None) == digest]

        assert type(about[0]) is PieceStarted
        assert [type(event) for event in about[-2:]] == [PieceVerifying, Finished]
        moved = [event for event in about if isinstance(event, Advanced)]
        assert sum(event.size for event in moved) == len(content)
        assert moved[-1].done == moved[-1].total == len(content)
        assert type(one.events[0]) is Started
        assert type(one.events[-1]) is ImageDone
        reused = {event.digest for event in one.events if isinstance(event, Reused)}
        assert {str(each) for each in reused} == set(index.documents)


def test_pull_compares_index_and_config_once_both_are_present(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    lying = listed_as(build_image("linux/s390x", layers(1)), AMD)
    registry.serve(REPOSITORY, "1", build_index([lying]))
    with puller(registry, tmp_path) as one:
        done = one.pull()

        codes = [event.code for event in one.events if isinstance(event, Warned)]
    assert codes == ["contradictory-platform"]
    assert [warning.code for warning in done.images[0].warnings] == ["contradictory-platform"]


def test_pull_that_cannot_fit_fails_before_fetching(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.serve(REPOSITORY, "1", build_index([build_image(AMD, layers(2))]))

    class Full:
        f_bavail, f_frsize, f_blocks = 1, 4096, 1

    monkeypatch.setattr(os, "statvfs", lambda _path: Full)
    with puller(registry, tmp_path) as one, pytest.raises(StoreFault, match="space") as caught:
        one.pull()
    assert registry.requests(path_contains="/blobs/") == []
    assert caught.value.hints()[-1] == "then pull again: the store is unchanged"


def test_pull_store_failure_reports_what_is_kept(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.serve(REPOSITORY, "1", build_index([build_image(AMD, layers(2))]))

    def refuse(_store: object, record: object, _found: object) -> None:
        raise StoreFault("names", f"no space left on device: {record}")

    monkeypatch.setattr(LocalStore, "name_all", refuse)
    with puller(registry, tmp_path) as one, pytest.raises(StoreFault) as caught:
        one.pull()
    assert caught.value.hints() == (
        "then pull again: 3 of 3 pieces are kept, and only the rest is fetched",
    )


def test_pull_from_a_read_only_store_with_everything_held(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve(REPOSITORY, "1", build_image(AMD, layers(2)))
    with puller(registry, tmp_path) as one:
        one.pull()
        plan = one.plan()
        names = sorted(path.name for path in one.store.root.rglob("*"))
        done = one.carry_out(plan)

        assert sorted(path.name for path in one.store.root.rglob("*")) == names
    assert [each.status for each in done.images] == ["up-to-date"]


def test_pull_leaves_no_temporary_files(registry: FakeRegistry, tmp_path: Path) -> None:
    index = build_index([build_image(AMD, [noise(4 * RANGE), *layers(3)])])
    registry.serve(REPOSITORY, "1", index)
    with puller(registry, tmp_path) as one:
        one.pull()
        root = one.store.root
    assert [list((root / name).iterdir()) for name in ("tmp", "leases", "partial")] == [[], [], []]
    held = {path.name for path in (root / "blobs" / "sha256").iterdir()}
    assert held == {key.partition(":")[2] for key in (*index.blobs, *index.documents)}


def test_pull_lease_keeps_all_content_meanwhile(registry: FakeRegistry, tmp_path: Path) -> None:
    content = noise(2_000)
    image = build_image(AMD, [content])
    registry.serve(REPOSITORY, "1", image)
    with puller(registry, tmp_path) as one:
        plan = one.plan()
        seen: list[frozenset[Digest]] = []

        def look(event: Event) -> None:
            if isinstance(event, PieceStarted):
                seen.append(one.store.in_use())

        one.watch = look
        one.carry_out(plan)

        assert one.store.in_use() == frozenset()
    wanted = {Digest.parse(key) for key in (*image.blobs, *image.documents)}
    assert seen
    assert all(wanted <= leased for leased in seen)


def steps_of_a_pull(registry: FakeRegistry, folder: Path, count: int) -> int:
    """Pull some images together; return the lines executed to decide about them."""
    tags = [f"{count}-{number}" for number in range(count)]
    for number, tag in enumerate(tags):
        layer = noise(500 + number, count)
        registry.serve(REPOSITORY, tag, build_index([build_image(AMD, [layer])]))
    steps = 0

    def trace(frame: FrameType, event: str, _argument: object) -> TraceFunction | None:
        nonlocal steps
        if not frame.f_code.co_filename.endswith(("verbs/pull.py", "core/results/plan.py")):
            return None
        # A comprehension of one line has an event for each of its rounds.
        steps += event == "line"
        return trace

    with puller(registry, folder) as one:
        selected = [one.selected(tag=tag) for tag in tags]
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            done = one.carry_out(make_plan(selected, one.store))
        finally:
            sys.settrace(before)
    assert [each.status for each in done.images] == ["downloaded"] * count
    return steps


def test_work_for_a_list_of_images_grows_with_its_length(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    few = steps_of_a_pull(registry, tmp_path / "few", 6)
    many = steps_of_a_pull(registry, tmp_path / "many", 48)

    assert many < 8 * few * 1.5


def test_list_of_images_syncs_the_folder_of_content_once_for_many_blobs(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = [str(number) for number in range(8)]
    for number, tag in enumerate(tags):
        layer = noise(500 + number)
        registry.serve(REPOSITORY, tag, build_index([build_image(AMD, [layer])]))
    synced: list[str] = []
    monkeypatch.setattr(StoreFolder, "sync", lambda self: synced.append(self.path))
    store = LocalStore(tmp_path / "store")
    with puller(registry, tmp_path, store=store) as one:
        plan = make_plan([one.selected(tag=tag) for tag in tags], store)
        synced.clear()
        one.carry_out(plan)

    root = tmp_path / "store"
    assert synced == [str(root / "blobs" / "sha256"), str(root / "names")]
    assert len(list(store.pulled_names())) == len(tags)


def many(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[Image]]:
    """Serve six images, of which a pull plans two at a time; return their names too."""
    monkeypatch.setattr("resolver.verbs.pull.AHEAD", 2)
    images = [build_image(AMD, [noise(500, number)]) for number in range(6)]
    for number, image in enumerate(images):
        registry.serve(REPOSITORY, str(number), image)
    return [f"{registry.host}/{REPOSITORY}:{number}" for number in range(6)], images


def test_pull_plans_later_images_while_it_transfers_earlier_ones(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, images = many(registry, monkeypatch)
    later = threading.Event()
    for number in (0, 1):
        layer = noise(500, number)
        path = f"/v2/{REPOSITORY}/blobs/{digest_of(layer)}"
        registry.on("GET", path, Reply(body=layer, delay=later))
    with Session(tmp_path / "store") as session, ThreadPoolExecutor(1) as pool:
        done = pool.submit(session.pull, names, AMD)
        try:
            assert registry.wait_for(
                lambda: bool(registry.requests(path_contains="/manifests/3")), 10
            )
        finally:
            later.set()
        assert [one.image.reference for one in done.result(30).images] == names

    store = LocalStore(tmp_path / "store")
    assert all(complete(store, image) for image in images)
    assert {name.reference for name in store.pulled_names()} == set(names)


def test_pull_of_many_reports_groups_that_failed_beside_those_that_are_complete(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, _ = many(registry, monkeypatch)
    for number in (0, 1, 4):
        path = f"/v2/{REPOSITORY}/blobs/{digest_of(noise(500, number))}"
        registry.on("GET", path, Reply(404))
    with Session(tmp_path / "store") as session:
        done = session.pull(names, AMD)
        assert [one.image.reference for one in done.images] == [names[2], names[3], names[5]]
        assert {one.reference for one in done.failures} == {names[0], names[1], names[4]}

        with pytest.raises(BlobNotFound):
            session.pull([*names[:2], names[4]], AMD)


def test_pull_of_many_keeps_the_images_before_one_that_cannot_be_planned(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, _ = many(registry, monkeypatch)
    missing = f"{registry.host}/{REPOSITORY}:none"
    with Session(tmp_path / "store") as session, pytest.raises(ManifestNotFound):
        session.pull([*names, missing], AMD)

    named = {name.reference for name in LocalStore(tmp_path / "store").pulled_names()}
    assert named == set(names)


def test_pull_of_many_keeps_to_the_limit_of_all_pieces(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, _ = many(registry, monkeypatch)
    # Three pieces each: a manifest, a config and a layer.
    monkeypatch.setattr("resolver.verbs.pull.MAX_PIECES", 12)
    with Session(tmp_path / "store") as session, pytest.raises(LimitExceeded):
        session.pull(names, AMD)


def test_pull_of_many_with_a_limit_is_planned_as_a_whole(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, _ = many(registry, monkeypatch)
    with Session(tmp_path / "store") as session, pytest.raises(Negative):
        session.pull(names, AMD, max_download=2_000)

    assert registry.requests(path_contains=str(digest_of(noise(500, 0)))) == []


@pytest.mark.parametrize(("size", "jobs"), [(500, CONNECTIONS), (2 << 20, 4)])
def test_small_blobs_are_fetched_by_more_threads(
    registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    jobs: int,
) -> None:
    registry.serve(REPOSITORY, "1", build_image(AMD, [noise(size)]))
    chosen: list[int] = []
    begin = DaemonPool.__init__

    def noted(self: DaemonPool, count: int, name: str) -> None:
        if name == "resolver-blob":
            chosen.append(count)
        begin(self, count, name)

    monkeypatch.setattr(DaemonPool, "__init__", noted)
    with Session(tmp_path / "store") as session:
        session.pull(f"{registry.host}/{REPOSITORY}:1", AMD)
    assert chosen == [jobs]
