"""A missing layer is rebuilt from the chunks of a held one: bytes, requests, and every fault."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.oci.digest import Digest
from resolver.core.results.events import Warned
from resolver.core.results.pull_events import Resumed
from resolver.core.results.store import Retention
from resolver.errors import InvalidConfiguration, ResolverError, Usage
from resolver.render import render
from resolver.session import Session
from resolver.settings import Flags
from resolver.sources.registry import upload
from resolver.store import LocalStore
from resolver.verbs import chunks
from resolver.verbs.chunks import Measured
from tests.core.layers.test_chunked import STATED
from tests.kit.chunked import (
    FORMATS,
    ChunkedLayer,
    chunked_image,
    real_layer,
    sample_files,
    zstd_chunked,
)
from tests.kit.images import build_image, entry, from_dict
from tests.kit.processes import command
from tests.kit.registry import FakeRegistry, Reply
from tests.kit.serve_client import ask
from tests.kit.writable import WritableRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.events import Event
    from resolver.core.results.plan import ChunkReuse, Plan
    from resolver.store.files import File
    from tests.kit.messages import Seen

zstd = pytest.importorskip("backports.zstd")

OLD, NEW = zstd_chunked(sample_files(1)), zstd_chunked(sample_files(2))

REPOSITORY, AMD = "team/app", "linux/amd64"


class Setup:
    """A registry with two versions of an image, and a store that has the first."""

    def __init__(self, registry: FakeRegistry, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.events: list[Event] = []
        self.session = Session(folder, environment={}, observe=self.events.append)

    def serve(self, tag: str, *layers: ChunkedLayer) -> None:
        self.registry.serve(REPOSITORY, tag, chunked_image(*layers))

    def name(self, tag: str) -> str:
        return f"{self.registry.host}/{REPOSITORY}:{tag}"

    def wire(self, layer: ChunkedLayer) -> tuple[int, int]:
        """Return bytes and requests that a layer has taken so far."""
        path = f"/v2/{REPOSITORY}/blobs/{layer.digest}"
        seen = [each for each in self.registry.requests("GET") if each.path == path]
        return sum(_length(each.headers.get("range", ""), layer) for each in seen), len(seen)

    def held(self, layer: ChunkedLayer) -> bytes:
        digest = Digest.parse(layer.digest)
        return (self.folder / "blobs" / digest.algorithm / digest.hex).read_bytes()

    def reuse(self, plan: Plan, layer: ChunkedLayer) -> ChunkReuse | None:
        return next(
            piece.reuse for piece in plan.pieces if str(piece.descriptor.digest) == layer.digest
        )


def _length(asked: str, layer: ChunkedLayer) -> int:
    if not asked:
        return len(layer.body)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    return int(last) + 1 - int(first)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with FakeRegistry() as registry:
        made = Setup(registry, tmp_path / "store")
        with made.session:
            yield made


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("gap", [0, 16, 64, 128])
def test_second_version_is_rebuilt_with_the_bytes_and_requests_of_the_plan(
    setup: Setup, form: str, gap: int
) -> None:
    old, new = real_layer("v1", form), real_layer("v2", form)
    setup.serve("1", old)
    setup.serve("2", new)
    setup.session.pull(setup.name("1"))
    plan = setup.session.plan(setup.name("2"), chunks="always", chunk_gap=gap << 10)
    done = setup.session.pull(plan)

    assert setup.held(new) == new.body
    reuse = setup.reuse(plan, new)
    assert reuse is not None
    assert [str(one.digest) for one in reuse.sources] == [old.digest]
    size, requests = setup.wire(new)
    assert (reuse.missing, reuse.requests) == (size, requests)
    assert plan.bytes_missing == done.bytes_fetched
    if form in STATED:
        percent, stated = STATED[form][gap]
        assert (round(100 * size / len(new.body), 1), requests) == (percent, stated)
    assert not setup.session.verify(full=True).damaged


# --- what can go wrong ---------------------------------------------------------------------------


@pytest.fixture
def held(setup: Setup) -> Setup:
    """Return a store that holds the first version, and a registry that has the second as well."""
    setup.serve("1", OLD)
    setup.serve("2", NEW)
    setup.session.pull(setup.name("1"))
    return setup


def warnings(setup: Setup) -> list[str]:
    return [event.code for event in setup.events if isinstance(event, Warned)]


def blob_path(setup: Setup, layer: ChunkedLayer) -> Path:
    return setup.folder / "blobs" / layer.digest.replace(":", "/")


def test_flipped_held_bytes_cost_one_whole_fetch_and_a_warning(held: Setup) -> None:
    path = blob_path(held, OLD)
    path.chmod(0o600)
    body = bytearray(OLD.body)
    body[len(body) // 3] ^= 1
    path.write_bytes(body)
    plan = held.session.plan(held.name("2"), chunks="always")
    reuse = held.reuse(plan, NEW)
    assert reuse is not None
    held.session.pull(plan)

    assert held.held(NEW) == NEW.body
    assert warnings(held) == ["chunks-mismatch", "store-damaged"]
    assert held.wire(NEW) == (reuse.missing + len(NEW.body), reuse.requests + 1)
    # It was set aside, and the next layer is not rebuilt from it.
    assert not path.exists()


def test_held_file_that_shrinks_is_completed_from_the_registry(held: Setup) -> None:
    plan = held.session.plan(held.name("2"), chunks="always")
    path = blob_path(held, OLD)
    path.chmod(0o600)
    opened = LocalStore.file

    @contextmanager
    def shrinking(store: LocalStore, descriptor: Descriptor) -> Iterator[File]:
        with opened(store, descriptor) as file:
            os.truncate(path, len(OLD.body) // 2)
            yield file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStore, "file", shrinking)
        held.session.pull(plan)

    assert held.held(NEW) == NEW.body
    assert warnings(held) == []
    assert held.wire(NEW)[0] < len(NEW.body)


def test_held_file_that_is_removed_is_not_missed(held: Setup) -> None:
    plan = held.session.plan(held.name("2"), chunks="always")
    blob_path(held, OLD).unlink()
    held.session.pull(plan)

    assert held.held(NEW) == NEW.body
    assert held.wire(NEW)[0] == len(NEW.body)


def test_registry_without_ranges_sends_the_layer_once(held: Setup) -> None:
    held.registry.shelves.ranges = False
    plan = held.session.plan(held.name("2"), chunks="always")
    assert held.reuse(plan, NEW) is None
    held.session.pull(plan)
    assert held.held(NEW) == NEW.body


def test_registry_that_loses_its_ranges_after_the_plan_sends_the_whole_layer(held: Setup) -> None:
    plan = held.session.plan(held.name("2"), chunks="always")
    assert held.reuse(plan, NEW) is not None
    held.registry.shelves.ranges = False
    held.session.pull(plan)
    assert held.held(NEW) == NEW.body


@pytest.mark.parametrize("status", [400, 416, 501])
def test_registry_that_refuses_ranges_sends_the_whole_layer(held: Setup, status: int) -> None:
    def answer(seen: Seen) -> Reply:
        if "range" in seen.headers:
            return Reply(status)
        return Reply(200, {"Content-Type": "application/octet-stream"}, NEW.body)

    held.registry.on("GET", f"/v2/{REPOSITORY}/blobs/{NEW.digest}", answer)
    plan = held.session.plan(held.name("2"), chunks="always")
    assert held.reuse(plan, NEW) is None
    held.session.pull(plan)
    assert held.held(NEW) == NEW.body


def lying(layer: ChunkedLayer, change: Callable[[list[dict[str, object]]], None]) -> ChunkedLayer:
    """Change the TOC of a zstd:chunked layer, and state its new checksum and position."""
    prefix = "io.github.containers.zstd-chunked."
    facts = layer.annotations[f"{prefix}manifest-position"].split(":")
    at, length = int(facts[0]), int(facts[1])
    toc = json.loads(zstd.decompress(layer.body[at : at + length]))
    change(toc["entries"])
    plain = json.dumps(toc).encode()
    packed = zstd.compress(plain)
    body = layer.body[: at - 8] + struct.pack("<4sI", b"\x50\x2a\x4d\x18", len(packed)) + packed
    annotations = {
        f"{prefix}manifest-checksum": f"sha256:{hashlib.sha256(packed).hexdigest()}",
        f"{prefix}manifest-position": f"{at}:{len(packed)}:{len(plain)}:1",
    }
    return ChunkedLayer(body, annotations, layer.media_type)


def swap_two_digests(entries: list[dict[str, object]]) -> None:
    """State that a file has the content of another one, which is held and as long."""
    one, other = (each for each in entries if each["name"] in {"usr/lib/a.txt", "usr/lib/b.txt"})
    one["digest"], other["digest"] = other["digest"], one["digest"]


def test_toc_that_lies_about_content_costs_one_whole_fetch(setup: Setup) -> None:
    files = {**sample_files(1), "usr/lib/a.txt": b"a" * 700, "usr/lib/b.txt": b"b" * 700}
    old = zstd_chunked(files)
    new = lying(zstd_chunked({**files, "usr/lib/c.txt": b"new"}), swap_two_digests)
    setup.serve("1", old)
    setup.serve("2", new)
    setup.session.pull(setup.name("1"))
    setup.session.pull(setup.name("2"), chunks="always")

    assert setup.held(new) == new.body
    assert warnings(setup) == ["chunks-mismatch"]
    assert setup.held(old) == old.body


def test_toc_that_contradicts_the_layer_is_not_used(setup: Setup) -> None:
    def beyond(entries: list[dict[str, object]]) -> None:
        entries[-1]["endOffset"] = 10**12

    new = lying(NEW, beyond)
    setup.serve("1", OLD)
    setup.serve("2", new)
    setup.session.pull(setup.name("1"))
    plan = setup.session.plan(setup.name("2"), chunks="always")
    assert setup.reuse(plan, new) is None
    setup.session.pull(plan)
    assert setup.held(new) == new.body
    assert warnings(setup) == []


def test_equal_digests_with_other_lengths_are_fetched_whole(setup: Setup) -> None:
    new = zstd_chunked(sample_files(2), level=19)
    setup.serve("1", OLD)
    setup.serve("2", new)
    setup.session.pull(setup.name("1"))
    plan = setup.session.plan(setup.name("2"), chunks="always")
    reuse = setup.reuse(plan, new)
    assert reuse is not None
    assert (reuse.sources, reuse.copied, reuse.missing) == ((), (), len(new.body))
    assert "chunks from" not in render(plan, "table")
    setup.session.pull(plan)
    assert setup.held(new) == new.body
    # The end of the layer, which has the TOC, is not fetched twice.
    assert setup.wire(new)[0] == len(new.body)


def test_two_processes_at_once_fetch_the_layer_once(held: Setup) -> None:
    words = ["pull", held.name("2"), "--chunks", "always", "--store", str(held.folder)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: command(*words), range(2)))

    assert [one.returncode for one in done] == [0, 0], done
    assert held.held(NEW) == NEW.body
    assert held.wire(NEW)[0] < len(NEW.body)


def test_interrupted_rebuild_is_resumed_without_fetching_anything_again(held: Setup) -> None:
    path = f"/v2/{REPOSITORY}/blobs/{NEW.digest}"
    plan = held.session.plan(held.name("2"), chunks="always")
    reuse = held.reuse(plan, NEW)
    assert reuse is not None
    held.registry.on("GET", path, Reply(404), times=1)
    with pytest.raises(ResolverError):
        held.session.pull(plan)
    again = held.session.plan(held.name("2"), chunks="always")
    held.session.pull(again)

    assert held.held(NEW) == NEW.body
    seen = [each for each in held.registry.requests("GET") if each.path == path]
    assert sum(each.sent for each in seen if each.status == 206) == reuse.missing
    assert again.bytes_missing == sum(end - start for start, end in reuse.fetched)


def test_toc_of_an_earlier_plan_is_not_requested_again(held: Setup) -> None:
    first = held.reuse(held.session.plan(held.name("2"), chunks="always"), NEW)
    with Session(held.folder, environment={}) as session:
        second = held.reuse(session.plan(held.name("2"), chunks="always"), NEW)
    assert first is not None
    assert second is not None
    assert (first.toc_requests, second.toc_requests, second.toc_bytes) == (1, 0, 0)
    assert second.fetched == first.fetched


def test_lost_index_is_made_again(held: Setup) -> None:
    shutil.rmtree(held.folder / "chunks")
    assert held.reuse(held.session.plan(held.name("2"), chunks="always"), NEW) is not None


@pytest.mark.parametrize("damage", [b"", b"x" * 100, b"resolver chunk index 1\nzstd:chunked    x"])
def test_damaged_index_is_made_again(held: Setup, damage: bytes) -> None:
    (index,) = (held.folder / "chunks").glob("*.index")
    index.write_bytes(damage)
    assert held.reuse(held.session.plan(held.name("2"), chunks="always"), NEW) is not None


def test_index_goes_with_its_layer(held: Setup) -> None:
    held.session.pull(held.name("2"))
    assert len(list((held.folder / "chunks").glob("*.index"))) == 2
    held.session.remove(held.name("1"))
    held.session.collect(Retention(grace=0.0))
    (index,) = (held.folder / "chunks").iterdir()
    assert NEW.digest.replace(":", "-") in index.name


def test_layers_of_the_same_repository_are_preferred_to_others(held: Setup) -> None:
    other = zstd_chunked(sample_files(1), "1.49")
    held.registry.serve("team/other", "1", chunked_image(other))
    held.session.pull(f"{held.registry.host}/team/other:1")
    reuse = held.reuse(held.session.plan(held.name("2"), chunks="always"), NEW)
    assert reuse is not None
    assert str(reuse.sources[0].digest) == OLD.digest
    assert {section.source for section in reuse.copied} == {0}


def test_layer_of_another_repository_is_used(setup: Setup) -> None:
    setup.registry.serve("team/other", "1", chunked_image(OLD))
    setup.serve("2", NEW)
    setup.session.pull(f"{setup.registry.host}/team/other:1")
    setup.session.pull(setup.name("2"))
    assert setup.wire(NEW)[0] < len(NEW.body) / 2
    assert setup.held(NEW) == NEW.body


def test_chunks_are_not_used_when_asked_not_to(held: Setup) -> None:
    held.session.pull(held.name("2"), chunks="never")
    assert held.wire(NEW) == (len(NEW.body), 1)


def test_layer_without_chunks_costs_one_look_at_its_annotations(setup: Setup) -> None:
    plain = real_layer("v2", "plain-gzip")
    setup.serve("1", plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "resolver.verbs.chunks", None)
        setup.session.pull(setup.name("1"))
    assert setup.wire(plain) == (len(plain.body), 1)
    assert not (setup.folder / "chunks").exists()


def test_link_decides_between_chunks_and_the_whole_layer(held: Setup) -> None:
    (piece,) = (
        piece for piece in held.session.plan(held.name("2")).pieces if piece.role == "layer"
    )
    assert piece.reuse is not None
    far, near = Measured(10.0, 1e9), Measured(0.0001, 1e6)
    assert far.seconds(10, 9) == pytest.approx(20.0)
    assert near.seconds(1_000_000, 1) == pytest.approx(1.0001)


@pytest.mark.parametrize("form", FORMATS)
def test_mirror_fetches_less_of_a_second_version(tmp_path: Path, form: str) -> None:
    old, new = real_layer("v1", form), real_layer("v2", form)
    with FakeRegistry() as upstream:
        for tag, layer in (("1", old), ("2", new)):
            upstream.serve(REPOSITORY, tag, chunked_image(layer))
        home = {"HOME": str(tmp_path)}
        with (
            Session(tmp_path / "mirror", environment=home) as session,
            session.serve_mirror(upstream=upstream.host) as server,
        ):
            for tag, layer in (("1", old), ("2", new)):
                assert ask(server, f"/v2/{REPOSITORY}/manifests/{tag}").status == 200
                answer = ask(server, f"/v2/{REPOSITORY}/blobs/{layer.digest}")
                assert answer.body == layer.body
            assert not session.verify(full=True).damaged
        seen = [each for each in upstream.requests("GET") if each.path.endswith(new.digest)]
        assert sum(each.sent for each in seen) < len(new.body) / 2


@pytest.fixture
def free_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bytes alone decide whether chunks are used."""
    monkeypatch.setattr(Measured, "seconds", lambda _self, size, _requests: float(size))


@pytest.mark.usefixtures("free_answers")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("copies", [1, 2])
def test_copy_reads_only_what_no_held_layer_has(
    setup: Setup, form: str, copies: int, tmp_path: Path
) -> None:
    old, new = real_layer("v1", form), real_layer("v2", form)
    setup.serve("1", old)
    setup.serve("2", new)
    setup.session.pull(setup.name("1"))
    with WritableRegistry(tmp_path / "target") as target:
        names = [f"{target.host}/copy{number}:2" for number in range(copies)]
        setup.session.copy(setup.session.plan_copy(setup.name("2"), names))
        for number in range(copies):
            assert target.holds(f"copy{number}", new.digest) == new.body
    size, _ = setup.wire(new)
    assert 0 < size < len(new.body) / 2
    assert warnings(setup) == []


@pytest.mark.usefixtures("free_answers")
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("step", [1 << 26, 32_768])
def test_copy_from_flipped_held_bytes_reads_the_layer_whole(
    held: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int, copies: int
) -> None:
    monkeypatch.setattr(upload, "CHUNK", step)
    path = blob_path(held, OLD)
    path.chmod(0o600)
    body = bytearray(OLD.body)
    body[len(body) // 3] ^= 1
    path.write_bytes(body)
    with WritableRegistry(tmp_path / "target") as target:
        names = [f"{target.host}/copy{number}:2" for number in range(copies)]
        held.session.copy(held.session.plan_copy(held.name("2"), names))
        for number in range(copies):
            assert target.holds(f"copy{number}", NEW.digest) == NEW.body
        # Requests that ended early apart, the registry refused nothing.
        puts = [seen for seen in target.requests("PUT", "/blobs/") if seen.status == 400]
        assert not [seen for seen in puts if len(seen.body) == int(seen.headers["content-length"])]
    assert warnings(held) == ["chunks-mismatch", "store-damaged"]
    assert held.wire(NEW)[0] > len(NEW.body)
    assert not path.exists()


@pytest.mark.usefixtures("free_answers")
def test_copy_reads_what_a_shrunken_held_layer_lost_from_the_registry(
    held: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = LocalStore.file
    path = blob_path(held, OLD)
    path.chmod(0o600)

    @contextmanager
    def shrinking(store: LocalStore, descriptor: Descriptor) -> Iterator[File]:
        with opened(store, descriptor) as file:
            os.truncate(path, len(OLD.body) // 2)
            yield file

    made = chunks.plan_reuse

    def planned(*words: Any, **named: Any) -> ChunkReuse | None:
        reuse = made(*words, **named)
        monkeypatch.setattr(LocalStore, "file", shrinking)
        return reuse

    monkeypatch.setattr(chunks, "plan_reuse", planned)
    with WritableRegistry(tmp_path / "target") as target:
        held.session.copy(held.session.plan_copy(held.name("2"), f"{target.host}/copy:2"))
        assert target.holds("copy", NEW.digest) == NEW.body
    assert warnings(held) == []
    assert held.wire(NEW)[0] < len(NEW.body)


def test_comparison_says_what_is_fetched_with_chunks(setup: Setup) -> None:
    old, new = real_layer("v1", "zstd-chunked"), real_layer("v2", "zstd-chunked")
    setup.serve("1", old)
    setup.serve("2", new)
    found = setup.session.compare_images(setup.name("1"), setup.name("2"))
    assert found.chunks is not None
    percent, requests = STATED["zstd-chunked"][64]
    documents = found.fetch.bytes - len(new.body)
    assert round(100 * (found.chunks.bytes - documents) / len(new.body), 1) == percent
    assert found.chunks.requests == requests
    assert setup.wire(new)[0] < 20_000

    setup.session.pull(setup.name("1"))
    again = setup.session.compare_images(setup.name("1"), setup.name("2"))
    assert again.chunks == found.chunks


@pytest.mark.parametrize("form", ["estargz", "plain-gzip"])
def test_comparison_reads_no_layer_without_chunks_in_both(setup: Setup, form: str) -> None:
    setup.serve("1", real_layer("v1", form))
    setup.serve("2", real_layer("v2", "plain-gzip"))
    found = setup.session.compare_images(setup.name("1"), setup.name("2"))
    assert found.chunks is None
    assert setup.wire(real_layer("v2", "plain-gzip")) == (0, 0)


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("zstd-chunked", "zstd:chunked"),
        ("estargz", "eStargz"),
        ("estargz-zstd", "zstd:chunked"),
        ("plain-gzip", "gzip"),
    ],
)
def test_inspect_shows_the_format_of_a_layer(setup: Setup, form: str, shown: str) -> None:
    setup.serve("1", real_layer("v1", form))
    ran = command("inspect", setup.name("1"), "--json", "--store", str(setup.folder))
    assert [layer["format"] for layer in json.loads(ran.stdout)["layers"]] == [shown]
    text = command("inspect", setup.name("1"), "--store", str(setup.folder)).stdout.decode()
    assert shown in text
    assert ("FORMAT" in text) is (form != "plain-gzip")


def test_plan_shows_what_is_missing_and_where_chunks_come_from(held: Setup) -> None:
    words = [held.name("2"), "--chunks", "always", "--chunk-gap", "0", "--store", str(held.folder)]
    ran = command("plan", *words)
    assert ran.returncode == 0, ran.stderr
    assert "(chunks from sha256:" in ran.stdout.decode()
    assert "held runs shorter than 0 B are fetched along" in ran.stdout.decode()
    values = json.loads(command("plan", *words, "--json").stdout)
    (chunks,) = [piece["chunks"] for piece in values["pieces"] if piece["chunks"]]
    assert chunks["from"] == [OLD.digest]
    assert chunks["gap"] == 0


def test_unknown_mode_of_chunks_is_refused(held: Setup) -> None:
    ran = command("pull", held.name("2"), "--chunks", "maybe", "--store", str(held.folder))
    assert ran.returncode == 2
    assert b"`auto`, `always` or `never`" in ran.stderr


@pytest.mark.parametrize("zstd_first", [False, True])
@pytest.mark.parametrize("prefer", ["", "zstd", "gzip"])
def test_preferred_compression_decides_between_twins(
    tmp_path: Path, prefer: str, *, zstd_first: bool
) -> None:
    gzip, packed = build_image("linux/amd64", [b"gzip"]), build_image("linux/amd64", [b"zstd"])
    other = build_image("linux/arm64", [b"other"])
    marked = entry(
        packed,
        platform="linux/amd64",
        annotations={"io.github.containers.compression.zstd": "true"},
    )
    plain = [entry(each, platform=name) for each, name in ((other, "linux/arm64"), (gzip, AMD))]
    entries = [marked, *plain] if zstd_first else [*plain, marked]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    flags = Flags(prefer=prefer or None)
    with FakeRegistry() as registry:
        image = from_dict(document, parts=[gzip, packed, other])
        registry.serve(REPOSITORY, "1", image)
        reference = f"{registry.host}/{REPOSITORY}:1"
        with Session(tmp_path / "store", environment={}, flags=flags) as session:
            found = session.resolve(reference, AMD)
            plan = session.plan(reference, AMD)
            arm = session.resolve(reference, "linux/arm64")
    wanted = {"zstd": packed, "gzip": gzip, "": packed if zstd_first else gzip}[prefer]
    assert str(found.manifest.digest) == wanted.digest
    assert [str(one.manifest.digest) for one in plan.images] == [wanted.digest]
    assert str(arm.manifest.digest) == other.digest
    chosen = next(number for number, one in enumerate(found.considered, 1) if one.chosen)
    losers = [one.reason for one in found.considered if not one.chosen]
    assert any(f"#{chosen}" in reason for reason in losers)


def test_unknown_preference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="--prefer"):
        Session(tmp_path, environment={}, flags=Flags(prefer="lz4"))
    with pytest.raises(InvalidConfiguration, match="RESOLVER_PREFER"):
        Session(tmp_path, environment={"RESOLVER_PREFER": "lz4"})


@pytest.mark.parametrize("form", FORMATS)
def test_layer_of_a_local_place_is_reused(setup: Setup, tmp_path: Path, form: str) -> None:
    old, new = real_layer("v1", form), real_layer("v2", form)
    setup.serve("1", old)
    setup.serve("2", new)
    place = tmp_path / "place"
    with Session(tmp_path / "other", environment={}) as other:
        other.pull(setup.name("1"))
        other.export([setup.name("1")], str(place))
    plan = setup.session.plan(setup.name("2"), chunks="always", places=[str(place)])
    reuse = setup.reuse(plan, new)
    assert reuse is not None
    assert reuse.places == (str(place),)
    setup.session.pull(plan)
    assert setup.held(new) == new.body
    assert setup.wire(new) == (reuse.missing, reuse.requests)
    assert not (setup.folder / "blobs" / old.digest.replace(":", "/")).exists()


def test_flipped_bytes_of_a_local_place_cost_one_whole_fetch(setup: Setup, tmp_path: Path) -> None:
    setup.serve("1", OLD)
    setup.serve("2", NEW)
    place = tmp_path / "place"
    with Session(tmp_path / "other", environment={}) as other:
        other.pull(setup.name("1"))
        other.export([setup.name("1")], str(place))
    plan = setup.session.plan(setup.name("2"), chunks="always", places=[str(place)])
    path = place / "blobs" / OLD.digest.replace(":", "/")
    path.chmod(0o600)
    path.write_bytes(bytes(len(OLD.body)))
    setup.session.pull(plan)
    assert setup.held(NEW) == NEW.body
    assert warnings(setup) == ["chunks-mismatch"]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, 0])
def test_layer_is_rebuilt_where_files_cannot_be_copied_by_the_system(
    held: Setup, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_arguments: int) -> int:
        raise OSError(number, os.strerror(number))

    if number:
        monkeypatch.setattr(os, "copy_file_range", fail, raising=False)
    else:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    plan = held.session.plan(held.name("2"), chunks="always")
    held.session.pull(plan)
    reuse = held.reuse(plan, NEW)
    assert reuse is not None
    assert held.held(NEW) == NEW.body
    assert held.wire(NEW) == (reuse.missing, reuse.requests)
    (event,) = [one for one in held.events if isinstance(one, Resumed)]
    assert event.copied == len(NEW.body) - sum(end - start for start, end in reuse.fetched)


def test_progress_says_what_is_reused(held: Setup) -> None:
    words = ["pull", held.name("2"), "--chunks", "always", "--progress", "plain"]
    ran = command(*words, "--store", str(held.folder))
    assert b": Reusing " in ran.stderr + ran.stdout
