"""Area `concurrency`: many real processes with one store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

import pytest

from tests.faults import invariants
from tests.faults.samples import (
    AMD64,
    KIB,
    MIB,
    digest_of,
    img_a,
    img_a2,
    layer,
    layers,
    needed,
    small,
)
from tests.kit.images import build_image, build_index
from tests.kit.messages import Reply, Seen
from tests.kit.outcomes import Outcome
from tests.kit.processes import ROOT
from tests.kit.soak import times

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.ground import Ground

D2 = digest_of(img_a().child(AMD64), layers()[1])


def counted(ground: Ground, digest: str) -> int:
    """Count how often the body of a blob was sent."""
    return sum(seen.status in {200, 206} for seen in ground.gets(digest))


def all_well(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        assert outcome.status == 0, outcome


class Sampler:
    """Reads names and blobs repeatedly while other processes run."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.failures: list[BaseException] = []
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.failures:
            raise self.failures[0]
        assert self.looks > 0

    def _look(self) -> None:
        root = self._ground.store
        try:
            while not self._stop.wait(0.005):
                if root.is_dir():
                    invariants.closed_while_others_work(root)
                    self.looks += 1
        except BaseException as error:  # noqa: BLE001 - raised where the block ends
            self.failures.append(error)


def test_con_001_eight_processes_pull_one_image(ground: Ground) -> None:
    slow(ground)
    with Sampler(ground):
        outcomes = ground.together(*[ground.pulling() for _ in range(8)])

    all_well(outcomes)
    for digest in img_a().child(AMD64).blobs:
        assert counted(ground, digest) == 1
    assert set(invariants.intact(ground.store)) == set(needed(img_a()))
    ground.settles()


def slow(ground: Ground) -> None:
    """Delay each blob by 20 ms."""
    pause = threading.Event()

    def later(_seen: Seen) -> Reply | None:
        pause.wait(0.02)
        return None

    for digest in img_a().child(AMD64).blobs:
        ground.registry.on("GET", f"/v2/img-a/blobs/{digest}", later)


def test_con_002_twenty_processes_pulling_twenty_images_lose_no_name(ground: Ground) -> None:
    for number in range(20):
        ground.registry.serve(f"img-{number}", "1", small(number))
    references = [ground.reference(f"img-{number}") for number in range(20)]

    with Sampler(ground):
        outcomes = ground.together(*[ground.pulling(reference) for reference in references])

    all_well(outcomes)
    assert set(invariants.names(ground.store)) == set(references)
    assert {row["reference"] for row in ground("ls").answer["images"]} == set(references)
    ground.settles()


def test_con_002_platforms_of_one_name_are_not_lost(ground: Ground) -> None:
    platforms = ("linux/amd64", "linux/arm64/v8")
    jobs = [ground.job("pull", ground.reference(), "-p", platform) for platform in platforms * 4]

    all_well(ground.together(*jobs))

    (record,) = invariants.names(ground.store).values()
    assert len(record["images"]) == 2
    ground.settles()


def test_con_006_leftovers_of_a_dead_pull_are_collected_after_the_grace_period(
    ground: Ground,
) -> None:
    held = threading.Event()
    reply = Reply(body=layers()[1], hold=held, hold_after=MIB)
    ground.registry.on("GET", f"/v2/img-a/blobs/{D2}", reply, times=1)
    before = ground.begin()
    (pid,) = ground.crew.start(ground.pulling())
    assert ground.registry.wait_for(lambda: any(seen.sent >= MIB for seen in ground.gets(D2)))
    assert ground.registry.wait_for(
        lambda: len(list((ground.store / "partial").glob("*/data"))) == 1
    )
    # Its content is kept while the process runs, whatever the grace period.
    living = ground.crew.run(ground.job("gc", "--grace", "0s"))
    assert json.loads(living[0].stdout)["removed"] == []
    assert json.loads(ground.crew.run(ground.job("du"))[0].stdout)["partial"] > 0
    os.kill(pid, signal.SIGKILL)
    ground.ended([pid], before, killed=True)
    held.set()

    kept = ground("gc")
    assert kept.answer["removed"] == []
    gone = ground("gc", "--grace", "0s")
    kinds = {row["kind"] for row in gone.answer["removed"]}
    assert {"lease", "partial"} <= kinds
    invariants.clean(ground.store)
    # The index that a resolve has noted is kept, and nothing below it.
    assert set(invariants.intact(ground.store)) <= {img_a().digest}
    ground.recovers(img_a())


def test_con_008_readers_see_complete_files_during_writes(ground: Ground) -> None:
    ground.outputs.append(ground.folder / "out")
    assert ground.pull().status == 0
    for number in range(6):
        ground.registry.serve(f"img-{number}", "1", small(number))
    readers = [
        ground.job("resolve", "--offline", ground.reference(), "-p", AMD64),
        ground.job("verify", "--full"),
        ground.job("ls"),
        ground.job("export", ground.reference(), "--to", str(ground.folder / "out" / "a.tar")),
        ground.job("inspect", "--offline", ground.reference(), "-p", AMD64),
        ground.job("du"),
    ]
    (ground.folder / "out").mkdir()

    with Sampler(ground):
        for _ in range(times(3, 60)):
            writers = [ground.pulling(ground.reference(f"img-{number}")) for number in range(6)]
            outcomes = ground.together(*writers, *readers)
            all_well(outcomes)
            for outcome in outcomes[len(writers) :]:
                assert outcome.answer.get("damaged", []) == []
            removers = [ground.job("rm", ground.reference(f"img-{number}")) for number in range(6)]
            all_well(ground.together(*removers, *readers))
    ground.settles()


def test_con_008_eight_processes_pull_and_collect_at_the_same_time(ground: Ground) -> None:
    """Overlapping images, and collections without a grace period in between."""
    images = {("img-a", "1"): img_a(), ("img-a", "2"): img_a2()}
    for _ in range(times(4, 50)):
        jobs = [ground.pulling(ground.reference(*name)) for name in images for _ in range(3)]
        jobs += [ground.job("gc", "--grace", "0s"), ground.job("gc", "--grace", "0s")]
        with Sampler(ground):
            all_well(ground.together(*jobs))
        for name in images:
            assert ground.reference(*name) in invariants.names(ground.store)
        ground.settles()
        all_well(ground.together(*[ground.job("rm", ground.reference(*name)) for name in images]))
        assert set(invariants.intact(ground.store)) <= invariants.noted(ground.store)


def test_con_010_stopped_lock_holder_is_named_after_the_timeout(ground: Ground) -> None:
    assert ground.pull().status == 0
    before = ground.begin()
    holder = Holder(ground)
    try:
        reader = ground.crew.run(ground.job("resolve", "--offline", ground.reference()))
        (late,) = ground.crew.run(
            ground.pulling(ground.reference(tag="2"), patience=1.0),
        )
    finally:
        holder.go_on()
    assert reader[0].status == 0
    outcome = Outcome(late.status, late.stdout, late.stderr, late.seconds)
    ground.refused(outcome, "STORE", "lock", "fuser")
    assert 1.0 <= late.seconds < 8.0
    ground.look(before)
    ground.recovers(img_a2(), ground.reference(tag="2"))


class Holder:
    """A process that holds the lock for collections, and is stopped."""

    def __init__(self, ground: Ground) -> None:
        program = (
            "import sys\nfrom pathlib import Path\nfrom resolver.store import LocalStore\n"
            "with LocalStore(Path(sys.argv[1]))._home.writing(exclusive=True):\n"
            "    print('held', flush=True)\n    sys.stdin.readline()\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(ground.store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"held\n"
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue the process until it ends."""
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate(b"\n", timeout=30)
        assert self._process.returncode == 0


@pytest.mark.parametrize("limit", [64, 32])
def test_con_016_many_layers_need_few_descriptors(ground: Ground, limit: int) -> None:
    image = build_index([build_image(AMD64, [layer(500, 300 + n) for n in range(200)])])
    ground.registry.serve("many", "1", image)

    (outcome,) = ground.together(
        ground.pulling(ground.reference("many"), "--jobs", "16", limits={"nofile": limit})
    )

    # Each blob in flight needs a few; too few of them is an error that says so.
    assert outcome.status in {0, 5, 8}, outcome
    assert limit < 64 or outcome.status == 0, outcome
    ground.requests = 300
    ground.recovers(image, ground.reference("many"))


def test_con_017_six_images_share_four_layers(ground: Ground) -> None:
    shared = [layer(100 * KIB, 400 + number) for number in range(4)]
    images = [
        build_index([build_image(AMD64, [*shared, layer(10 * KIB, 410 + number)])])
        for number in range(6)
    ]
    for number, image in enumerate(images):
        ground.registry.serve(f"img-{number}", "1", image)
    references = [ground.reference(f"img-{number}") for number in range(6)]

    all_well(ground.together(*[ground.pulling(reference) for reference in references]))

    for body in shared:
        assert counted(ground, digest_of(images[0].child(AMD64), body)) == 1
    invariants.clean(ground.store)
    ground.settles()


def test_con_018_content_removed_while_read_is_never_read_wrong(ground: Ground) -> None:
    out = ground.folder / "out"
    out.mkdir()
    ground.outputs.append(out)
    expected: bytes | None = None
    for number in range(times(8, 50)):
        assert ground.pull().status == 0
        target = out / f"{number}.tar"
        export = ground.job("export", ground.reference(), "--to", str(target))
        removal = ground.job("rm", ground.reference())
        collection = ground.job("gc", "--grace", "0s")
        exported, _removed, collected = ground.together(export, removal, collection)
        assert collected.status == 0
        if exported.status == 0:
            body = target.read_bytes()
            assert expected in (None, body)
            expected = body
        else:
            assert exported.status in {3, 8}, exported
            assert not target.exists()


def test_con_019_fifty_processes_cause_no_request_storm(ground: Ground) -> None:
    slow(ground)

    outcomes = ground.together(*[ground.pulling() for _ in range(50)])

    all_well(outcomes)
    for digest in img_a().child(AMD64).blobs:
        assert counted(ground, digest) == 1
    assert max(outcome.seconds for outcome in outcomes) < 60
    # Each process requests the tag and at most one more document.
    assert len(ground.registry.log) < 50 * 4
    ground.settles()


def moving(ground: Ground, first: str, second: str) -> Callable[[Seen], Reply | None]:
    """Move a tag after its first request."""
    seen: list[str] = []

    def answer(_seen: Seen) -> Reply | None:
        digest = second if seen else first
        seen.append(digest)
        media_type, body = ground.registry.shelves.repositories["app"].documents[digest]
        return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, body)

    return answer


def test_con_020_moving_tag_gives_one_image_or_the_other(ground: Ground) -> None:
    reference = ground.reference("app")
    for round_ in range(times(4, 30)):
        here = ground.apart(round_)
        here.honest()
        here.registry.serve("app", "1", img_a())
        here.registry.serve("app", "1", img_a2())
        answer = moving(here, img_a().digest, img_a2().digest)
        here.registry.on("GET", "/v2/app/manifests/1", answer)
        with Sampler(here):
            all_well(here.together(here.pulling(reference), here.pulling(reference)))
        record = invariants.names(here.store)[reference]
        manifests = [image["manifest"]["digest"] for image in record["images"]]
        whole = {image.digest: [image.child(AMD64).digest] for image in (img_a(), img_a2())}
        assert whole[record["root"]["digest"]] == manifests
        here.settles()
