"""Batch verbs over executors: a Dask cluster on this machine, and pools of processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import resolver
from resolver.core.check.check import Requirements
from resolver.core.oci.target import parse_target
from resolver.core.platforms.platform import Platform
from resolver.errors import RateLimited, ResolverError, Unavailable, Usage
from resolver.render.to_dict import to_dict
from resolver.session import Session
from resolver.settings import Flags
from resolver.sources.credentials.secrets import Secret
from resolver.verbs import fleet
from resolver.verbs.context import Context
from resolver.verbs.copy import execute
from resolver.verbs.fleet import LARGEST, BatchAnswer, Setup, cluster, cut
from tests.kit.auth import basic_value
from tests.kit.images import build_image, build_index
from tests.kit.messages import Reply, Seen
from tests.kit.soak import times
from tests.kit.writable import Quirks, WritableRegistry
from tests.verbs.test_copy import referrer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.core.check.check import Checked
    from resolver.core.lint.lint import Linted
    from resolver.core.lockfile.drift import LockCheck
    from resolver.core.results.copy import Synced
    from resolver.core.results.resolve import Failure, Resolution
    from tests.kit.registry import FakeRegistry

#: Seconds that the registry takes for each answer.
DELAY = 0.02
REPOSITORIES = 7


class Crowd:
    """A gate that delays each request, and counts those under way."""

    def __init__(self, delay: float = DELAY) -> None:
        self.most = 0
        self.arrivals: list[float] = []
        self.reached = threading.Event()
        self.expected = 0
        self._delay = delay
        self._active = 0
        self._lock = threading.Lock()

    def refusal(self, seen: Seen) -> Reply | None:
        del seen
        with self._lock:
            self._active += 1
            self.most = max(self.most, self._active)
            self.arrivals.append(time.monotonic())
            if len(self.arrivals) == self.expected:
                self.reached.set()
        time.sleep(self._delay)
        with self._lock:
            self._active -= 1
        return None


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """Return the executor of a Dask cluster with two worker processes on this machine."""
    pytest.importorskip("distributed", reason="install the extra `fleet`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        with cluster("local:2") as executor:
            yield executor


@pytest.fixture
def pool() -> Iterator[Executor]:
    """Return a pool of one new process, with the environment of the test."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        yield executor


IMAGE = build_index([build_image("linux/amd64"), build_image("linux/arm64")])


def fill(registry: FakeRegistry, count: int) -> list[str]:
    """Serve images in several repositories, and return their references in mixed order."""
    names = [(f"team/app{number % REPOSITORIES}", f"t{number}") for number in range(count)]
    for repository, tag in names:
        registry.serve(repository, tag, IMAGE)
    return [f"{registry.host}/{repository}:{tag}" for repository, tag in names]


def resolve_all(
    store: Path, names: Sequence[str], executor: Executor | None = None, **flags: Any
) -> list[Resolution | Failure]:
    with Session(store, flags=Flags(no_fsync=True, **flags)) as session:
        return list(session.resolve_each(names, ["linux/arm64"], executor=executor))


def failures(answers: Sequence[Resolution | Failure]) -> list[Exception]:
    return [answer.error for answer in answers if isinstance(answer, resolver.Failure)]


def comparable(answers: Sequence[Resolution | Failure]) -> list[object]:
    """Return answers in a form in which equal failures are equal."""
    return [
        (answer.reference, type(answer.error), str(answer.error))
        if isinstance(answer, resolver.Failure)
        else answer
        for answer in answers
    ]


def test_cluster_answers_like_one_process_in_order_and_keeps_to_the_limit(
    registry: FakeRegistry, workers: Executor, tmp_path: Path
) -> None:
    names = fill(registry, times(400, 10_000))
    names[3] = f"{registry.host}/team/app0:missing"
    crowd = Crowd()
    registry.gate(crowd)

    alone = resolve_all(tmp_path / "alone", names)
    crowd.most = 0
    spread = resolve_all(tmp_path / "spread", names, workers, cluster_jobs=5)

    assert comparable(spread) == comparable(alone)
    assert isinstance(spread[3], resolver.Failure)
    assert 2 <= crowd.most <= 5


def test_cluster_survives_the_death_of_a_worker(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="install the extra `fleet`")
    monkeypatch.setenv("HOME", str(tmp_path))
    names = fill(registry, 300)
    crowd = Crowd()
    crowd.expected = 60
    registry.gate(crowd)
    with cluster("local:2") as executor:
        pids = list(executor._client.run(os.getpid).values())  # type: ignore[attr-defined]

        def kill() -> None:
            crowd.reached.wait(60)
            os.kill(pids[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        found = resolve_all(tmp_path / "store", names, executor)
        killer.join()

    assert [answer.reference for answer in found] == names
    assert failures(found) == []


def test_cluster_asks_for_one_token_per_scope_and_worker(
    registry: FakeRegistry, workers: Executor, tmp_path: Path
) -> None:
    names = fill(registry, 200)
    registry.gate(Crowd(0.005))
    tokens = registry.bearer()

    found = resolve_all(tmp_path / "store", names, workers)

    assert failures(found) == []
    counts = Counter(tokens.scopes)
    assert len(counts) == REPOSITORIES
    assert max(counts.values()) <= 2


class Busy:
    """A gate that answers 429 to one request, and records when others arrive."""

    def __init__(self, after: int, seconds: int) -> None:
        self.after, self.seconds = after, seconds
        self.refused = 0.0
        self.later: list[float] = []
        self._count = 0
        self._lock = threading.Lock()

    def refusal(self, seen: Seen) -> Reply | None:
        del seen
        with self._lock:
            self._count += 1
            if self._count == self.after:
                self.refused = time.monotonic()
                return Reply(429, {"Retry-After": str(self.seconds)})
            if self.refused:
                self.later.append(time.monotonic() - self.refused)
        time.sleep(DELAY)
        return None


def test_one_refusal_with_retry_after_holds_every_worker(
    registry: FakeRegistry, workers: Executor, tmp_path: Path
) -> None:
    names = fill(registry, 400)
    busy = Busy(150, 3)
    registry.gate(busy)

    found = resolve_all(tmp_path / "store", names, workers)

    assert failures(found) == []
    # One second is far more than it takes to tell the others, on a loaded machine too.
    assert not [seconds for seconds in busy.later if 1 < seconds < 2.9]
    assert len([seconds for seconds in busy.later if seconds >= 2.9]) > 100


def check_all(session: Session, names: Sequence[str], executor: Executor | None) -> Checked:
    wanted = Requirements(require=(Platform.parse("linux/arm64"), Platform.parse("linux/s390x")))
    return session.check(names, wanted, executor=executor)


def lint_all(session: Session, names: Sequence[str], executor: Executor | None) -> Linted:
    return session.lint(names, executor=executor)


def check_locks(session: Session, names: Sequence[str], executor: Executor | None) -> LockCheck:
    file = Path(session.settings.store).parent / "resolver.lock"
    if not file.exists():
        session.lock(names, file=file)
    return session.check_lock(file=file, executor=executor)


@pytest.mark.parametrize("verb", [check_all, lint_all, check_locks])
def test_batch_verb_answers_the_same_over_a_cluster(
    registry: FakeRegistry,
    workers: Executor,
    tmp_path: Path,
    verb: Callable[[Session, Sequence[str], Executor | None], Checked | Linted | LockCheck],
) -> None:
    names = fill(registry, 20)
    with Session(tmp_path / "store") as session:
        spread, alone = verb(session, names, workers), verb(session, names, None)
    assert to_dict(spread) == to_dict(alone)
    assert len(spread.images) == len(names)


def sync_file(source: WritableRegistry, target: WritableRegistry, folder: Path) -> Path:
    """List copies between registries, to a layout, two to one tag, and some that fail."""
    for number in range(6):
        for repository in ("team/one", "team/two"):
            layers = [f"{repository} {number % 4}".encode()]
            platforms = ("linux/amd64", "linux/arm64")
            image = build_index([build_image(each, layers=layers) for each in platforms])
            source.serve(repository, f"t{number}", image)
            source.serve(repository, None, referrer(image.child("linux/arm64")))
    path = folder / "mirror.yaml"
    path.write_text(
        f"""
version: 1
copies:
  - {{from: {source.host}/team/one, to: [{target.host}/a, {target.host}/b]}}
  - {{from: {source.host}/team/none:1, to: {target.host}/a}}
  - {{from: {source.host}/team/two, to: {target.host}/refused, tags: [t1, missing]}}
  - {{from: {source.host}/team/one, to: "oci:{folder / "layout"}", tags: [t2, t3]}}
  - {{from: {source.host}/team/two, to: {target.host}/c, platforms: linux/arm64}}
  - {{from: {source.host}/team/one:t1, to: {target.host}/b:same}}
  - {{from: {source.host}/team/two:t2, to: {target.host}/b:same}}
"""
    )
    return path


def synced(folder: Path, executor: Executor | None) -> tuple[Synced, dict[str, object]]:
    """Sync between two new registries; return the answer, and the tags of the second one."""
    folder.mkdir()
    denied = Quirks(exists=("a", "b", "c"))
    with (
        WritableRegistry(folder / "source") as source,
        WritableRegistry(folder / "target", denied) as target,
    ):
        file = sync_file(source, target, folder)
        with Session(folder / "store", flags=Flags(no_fsync=True)) as session:
            found = session.sync(file, executor=executor)
        tags = {name: target.tags(name) for name in "abc"}
        hosts = {source.host: "SOURCE", target.host: "TARGET", str(folder): "FOLDER"}
        text = json.dumps(to_dict(found))
        for host, name in hosts.items():
            text = text.replace(host, name)
        return found, {"answer": json.loads(text), "tags": tags}


@pytest.mark.parametrize("kind", ["recording", "pool", "workers"])
def test_sync_over_an_executor_copies_and_answers_as_without(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    executor = Recording() if kind == "recording" else request.getfixturevalue(kind)
    _, expected = synced(tmp_path / "alone", None)
    answer, found = synced(tmp_path / "spread", executor)

    assert found == expected
    assert len(answer.copies) == 6 + 2 + 6 + 2
    assert len(answer.failures) == 3
    assert (tmp_path / "spread" / "layout" / "index.json").exists()
    if isinstance(executor, Recording):
        assert executor.sent
        assert not [sent for sent in executor.sent if b"oci:" in sent]


def test_sync_reports_each_image_of_a_lost_batch(tmp_path: Path) -> None:
    answer, _ = synced(tmp_path / "spread", Broken())
    # What goes to the layout is copied here.
    assert [str(each.plan.targets[0].tag) for each in answer.copies] == ["t2", "t3"]
    codes = [getattr(each.error, "code", "") for each in answer.failures]
    assert codes.count("worker-failed") == len(codes) == 6 + 1 + 2 + 6 + 2


def test_sync_takes_the_secrets_of_a_worker_out_of_failed_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOLVER_USERNAME", "ann")
    monkeypatch.setenv("RESOLVER_PASSWORD", "s3cret-of-the-worker")

    def fail(*arguments: Any) -> None:
        execute(*arguments)
        raise Unavailable("not for s3cret-of-the-worker", "try again")

    monkeypatch.setattr("resolver.verbs.sync.execute", fail)
    executor = Recording()
    with (
        WritableRegistry(tmp_path / "source") as source,
        WritableRegistry(tmp_path / "target") as target,
    ):
        source.serve("team/app", "1", IMAGE)
        target.basic("ann", "s3cret-of-the-worker")
        file = tmp_path / "mirror.yaml"
        names = f"{{from: {source.host}/team/app:1, to: {target.host}/team/app}}"
        file.write_text(f"version: 1\ncopies: [{names}]\n")
        with Session(tmp_path / "store") as session:
            found = session.sync(file, executor=executor)

    assert "not for" in str(found.failures[0].error)
    assert not [sent for sent in executor.sent if b"s3cret-of-the-worker" in sent]


def test_workers_use_the_tier_of_the_command_unless_its_url_has_a_password(tmp_path: Path) -> None:
    context = Context(tmp_path, flags=Flags(tier="s3://bucket/blobs", tier_write=True))
    flags = Setup.of(context).flags
    assert (flags.tier, flags.tier_write) == ("s3://bucket/blobs", True)
    with pytest.raises(Usage) as caught:
        Setup.of(Context(tmp_path, flags=Flags(tier="s3://ann:s3cret@bucket/blobs")))
    assert "s3cret" not in str(caught.value)


def test_forked_pool_works_after_requests_of_this_process(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    names = fill(registry, 10)
    alone = resolve_all(tmp_path / "alone", names)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor:
        assert resolve_all(tmp_path / "spread", names, executor) == alone


class Recording(Executor):
    """Runs batches in this process, after pickling them and their answers."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sent.append(pickle.dumps((fn, args, kwargs)))
        function, arguments, named = pickle.loads(self.sent[-1])
        future: Future[Any] = Future()
        try:
            found = pickle.dumps(function(*arguments, **named))
        except Exception as error:  # noqa: BLE001 - raised again by `Future.result`
            future.set_exception(error)
        else:
            self.sent.append(found)
            future.set_result(pickle.loads(found))
        return future


def test_workers_use_their_own_credentials_and_none_is_pickled(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fill(registry, 5)
    registry.basic("ann", "s3cret-of-the-worker")
    monkeypatch.setenv("RESOLVER_USERNAME", "ann")
    monkeypatch.setenv("RESOLVER_PASSWORD", "s3cret-of-the-worker")
    executor = Recording()

    found = resolve_all(tmp_path / "store", names, executor)

    assert failures(found) == []
    assert executor.sent
    for form in ("s3cret-of-the-worker", basic_value("ann", "s3cret-of-the-worker")[6:]):
        assert not [body for body in executor.sent if form.encode() in body]


def test_password_given_as_an_option_is_not_sent_to_workers(tmp_path: Path) -> None:
    executor = Recording()
    flags = Flags(username="ann", password="s3cret-of-the-client")
    with Session(tmp_path / "store", flags=flags) as session, pytest.raises(Usage, match="workers"):
        list(session.resolve_each(["reg.test/app:1"], executor=executor))
    assert executor.sent == []


def test_mirror_with_a_password_is_not_sent_to_workers(tmp_path: Path) -> None:
    executor = Recording()
    flags = Flags(mirrors=["docker.io=https://ann:s3cret@mirror.test"])
    with Session(tmp_path / "store", flags=flags) as session, pytest.raises(Usage) as caught:
        list(session.resolve_each(["reg.test/app:1"], executor=executor))
    assert "s3cret" not in str(caught.value)
    assert executor.sent == []


def test_local_cluster_listens_on_loopback_only(workers: Executor) -> None:
    import psutil  # type: ignore[import-untyped]  # comes with `distributed`

    del workers
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    listening = {
        each.laddr.ip
        for process in processes
        for each in process.net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_worker_takes_its_secrets_out_of_errors(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "not for s3cret-of-the-worker"}]}'
    registry.on("*", "/v2/team/app0/manifests/t0", Reply(403, body=body))
    monkeypatch.setenv("RESOLVER_USERNAME", "ann")
    monkeypatch.setenv("RESOLVER_PASSWORD", "s3cret-of-the-worker")
    executor = Recording()

    found = resolve_all(tmp_path / "store", [f"{registry.host}/team/app0:t0"], executor)

    assert isinstance(found[0], resolver.Failure)
    assert "s3cret" not in str(found[0].error)
    assert not [sent for sent in executor.sent if b"s3cret-of-the-worker" in sent]


def test_secret_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Secret("x"))


class Broken(ThreadPoolExecutor):
    """Loses every batch."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        del fn, args, kwargs
        future: Future[Any] = Future()
        future.set_exception(OSError("the machine is gone"))
        return future


def test_lost_batch_is_a_failure_of_each_of_its_questions(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    names = fill(registry, 5)
    found = resolve_all(tmp_path / "store", names, Broken())

    assert [answer.reference for answer in found] == names
    for answer in found:
        assert isinstance(answer, resolver.Failure)
        assert isinstance(answer.error, ResolverError)
        assert answer.error.code == "worker-failed"
        assert "the machine is gone" in str(answer.error)
        assert answer.error.hints()


def test_executor_that_was_shut_down_fails_each_question(tmp_path: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    found = resolve_all(tmp_path / "store", ["reg.test/a:1", "reg.test/b:1"], executor)
    assert [getattr(error, "code", "") for error in failures(found)] == ["worker-failed"] * 2


def test_places_on_this_machine_are_read_here(registry: FakeRegistry, tmp_path: Path) -> None:
    names = fill(registry, 2)
    with Session(tmp_path / "store") as session:
        session.pull(names[0], "linux/arm64")
        session.export(names[0], str(tmp_path / "layout"))
    executor = Recording()
    mixed = [names[0], f"oci:{tmp_path / 'layout'}", names[1]]

    found = resolve_all(tmp_path / "store", mixed, executor)

    assert failures(found) == []
    assert not [sent for sent in executor.sent if b"layout" in sent]
    assert found == resolve_all(tmp_path / "store", mixed)


def test_offline_answers_come_from_this_store(registry: FakeRegistry, tmp_path: Path) -> None:
    names = fill(registry, 3)
    resolve_all(tmp_path / "store", names)
    executor = Recording()
    found = resolve_all(tmp_path / "store", names, executor, offline=True)
    assert failures(found) == []
    assert executor.sent == []


def test_batches_keep_the_references_of_a_repository_together() -> None:
    texts = [
        f"{registry}.test/app{number % 5}:t{number}" for number in range(400) for registry in "ab"
    ]
    batches = list(cut([parse_target(text) for text in texts]))

    assert sorted(position for batch in batches for position in batch) == list(range(800))
    assert max(map(len, batches)) <= LARGEST
    for batch in batches:
        assert len({texts[position].partition("/")[0] for position in batch}) == 1
    spans = Counter(
        name for batch in batches for name in {texts[each].partition(":")[0] for each in batch}
    )
    assert max(spans.values()) <= 80 // 13 + 2  # a batch has 13 questions, a repository 80


def test_error_with_facts_survives_pickling() -> None:
    error = RateLimited("reg.test", 3.0, "slow down")
    error.attach([("mirror.test", Usage("no", "try"))])
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is RateLimited
    assert (str(found), found.hints(), found.facts()) == (str(error), error.hints(), error.facts())


def test_interrupted_batch_cancels_what_has_not_begun(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    futures: list[Future[BatchAnswer[object]]] = []

    class Stalled(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = super().submit(fn, *args, **kwargs) if not futures else Future()
            futures.append(future)
            return future

    names = fill(registry, 10)
    with Stalled(1) as executor, Session(tmp_path / "store") as session:
        answers = session.resolve_each(names, executor=executor)
        next(answers)
        answers.close()  # type: ignore[attr-defined]  # a generator
    assert all(future.cancelled() for future in futures[1:])


@pytest.mark.parametrize(
    "address", ["", "local", "local:0", "local:999", "10.0.0.1:8786", "tcp://x"]
)
def test_cluster_rejects_what_is_not_an_address(address: str) -> None:
    with pytest.raises(Usage, match="is not a cluster"), cluster(address):
        pass


def test_cluster_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(Usage) as caught, cluster("local:2"):
        pass
    assert caught.value.hints() == ("install it: `pip install 'multiarch-resolver[fleet]'`",)


def test_unreachable_scheduler_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="install the extra `fleet`")
    monkeypatch.setattr(fleet, "_CONNECT", 1)
    with pytest.raises(Unavailable, match="scheduler"), cluster("tcp://127.0.0.1:1"):
        pass


def test_distributed_is_not_imported_without_a_cluster() -> None:
    program = (
        "import sys, concurrent.futures as f, resolver.verbs.fleet\n"
        "import resolver.cli.resolve, resolver.session\n"
        "print('distributed' in sys.modules, 'dask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout.split() == [b"False", b"False"]
