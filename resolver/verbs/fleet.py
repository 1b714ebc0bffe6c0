"""Run batch verbs on several processes or machines, through a `concurrent.futures.Executor`.

Questions are cut into batches by registry and repository. A batch is plain values that can be
pickled, without secrets; a worker answers it with its own credentials, store and connections. On
the workers of a Dask cluster, requests to one registry share a limit and delays (docs/fleet.md,
"Limits that workers share").
"""

from __future__ import annotations

import contextvars
import logging
import re
import sys
import threading
import time
import uuid
from collections import defaultdict, deque
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from platform import node
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from resolver._version import __version__
from resolver.core.oci.target import RegistryTarget
from resolver.core.platforms.platform import BUILTIN
from resolver.core.results.events import Noted, Warned
from resolver.errors import ResolverError, Unavailable, Usage
from resolver.settings import Flags
from resolver.values import dataclass
from resolver.verbs.context import Context
from resolver.verbs.threads import Outcome, kept, parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from resolver.core.oci.reference import Reference
    from resolver.core.oci.target import Target
    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.results.events import Event

Item = TypeVar("Item", bound="tuple[Any, ...]")
Found = TypeVar("Found")

#: Questions in a batch at most, and batches to cut a smaller number of questions into. Measured:
#: Dask takes 581 tasks a second one by one; a hundred questions at 20 ms hide that.
LARGEST, FEWEST = 100, 64
#: Batches that are submitted ahead of the first unanswered one.
_AHEAD: Final = 4_096
#: Events that a worker keeps until its next answer.
_EVENTS: Final = 1_000
#: Seconds after which a lease goes back, so that others get their turn, and to wait for one.
_TURN, _PATIENCE = 1.0, 5.0
#: Seconds to connect to a scheduler, and to wait for its first worker.
_CONNECT, _FIRST_WORKER = 10, 60
#: Seconds after which the leases of a dead worker on this machine are free again.
_LEASE: Final = "5s"
MAX_WORKERS: Final = 256
_ADDRESS = re.compile(r"(?:tcp|tls)://[A-Za-z0-9.\[\]:_-]{1,255}:[0-9]{1,5}")
_LOCAL = re.compile(r"local:([0-9]{1,3})")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the workers need to know of a session; nothing in it is secret.

    Attributes:
        run: identifies one call of a verb; its batches share a session on each worker.
        machine: name of the machine, whose workers use the same store.
        flags: the options given, without user name and password.
        table: None for the built-in facts.
        in_flight: most requests to one registry over all workers.
        version: of this program.
    """

    run: str
    machine: str
    store: str
    flags: Flags
    table: PlatformTable | None
    in_flight: int
    version: str = __version__

    @classmethod
    def of(cls, context: Context) -> Setup:
        """Collect the setup from a session; a password stays here.

        Raises:
            Usage: a user name and password were given as options.
        """
        settings = context.settings
        if settings.password is not None and not settings.environment.get("RESOLVER_PASSWORD"):
            raise Usage(
                "a user name and password are not sent to workers, which use their own credentials",
                "leave out `--username`, and run `resolver login` on the workers, or set "
                "RESOLVER_USERNAME and RESOLVER_PASSWORD there",
            )
        if any("@" in mirror for mirror in settings.mirrors):
            raise Usage(
                "a mirror with a user name or password is not sent to workers",
                "leave it out of the URL, and run `resolver login` on the workers",
            )
        if settings.tier:
            from resolver.sources.tier import check_url  # noqa: PLC0415 - for a tier alone

            # It may come from the environment; one with a password is refused.
            check_url(settings.tier)
        # A switch that is off leaves it to the worker's own environment.
        flags = Flags(
            plain_http=settings.plain_http or None,
            tls_skip_verify=settings.tls_skip_verify or None,
            ca_file=str(settings.ca_file) if settings.ca_file else None,
            auth_file=str(settings.auth_file) if settings.auth_file else None,
            anonymous=settings.anonymous or None,
            jobs=settings.jobs if settings.jobs_given else None,
            no_fsync=not settings.fsync or None,
            unsafe_no_lock=not settings.lock or None,
            shared_store=settings.shared_store or None,
            mirrors=settings.mirrors or None,
            tier=settings.tier or None,
            tier_write=settings.tier_write or None,
        )
        return cls(
            run=uuid.uuid4().hex,
            machine=node(),
            store=str(settings.store.absolute()),
            flags=flags,
            table=None if context.table is BUILTIN else context.table,
            in_flight=settings.cluster_jobs,
        )


@dataclass(frozen=True, slots=True)
class QuestionBatch(Generic[Item, Found]):
    """Some questions to one verb, for one worker; `look` answers one of them."""

    setup: Setup
    look: Callable[[Context, Item], Found]
    items: tuple[Item, ...]
    registries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchAnswer(Generic[Found]):
    """The answers to a batch, in its order, and what was to be observed meanwhile."""

    values: tuple[Found | ResolverError, ...]
    events: tuple[Event, ...]


def spread(
    context: Context,
    look: Callable[[Context, Item], Found],
    items: Sequence[Item],
    executor: Executor,
) -> Generator[Outcome[Item, Found], None, None]:
    """Yield one outcome per item, in order; batches run on the executor as it likes.

    Items in places of this machine, and malformed ones, are looked at here. A batch that fails is a
    failure of each of its items.
    """
    setup = Setup.of(context)
    targets = [_target(context, item[1]) for item in items]
    here = [not isinstance(target, RegistryTarget) for target in targets]
    local = parallel(
        partial(look, context),
        [item for item, is_here in zip(items, here, strict=True) if is_here],
        jobs=context.settings.batch_jobs,
    )
    waiting = deque(cut(targets))
    finished: SimpleQueue[Future[BatchAnswer[Found]]] = SimpleQueue()
    running: dict[Future[BatchAnswer[Found]], tuple[int, ...]] = {}
    answers: dict[int, Found | ResolverError] = {}

    def submit() -> None:
        while waiting and len(running) < _AHEAD:
            positions = waiting.popleft()
            chosen = [targets[position] for position in positions]
            registries = {
                each.reference.registry for each in chosen if isinstance(each, RegistryTarget)
            }
            batch = QuestionBatch(
                setup, look, tuple(items[each] for each in positions), tuple(registries)
            )
            try:
                future = executor.submit(run_batch, batch)
            except RuntimeError as error:
                # The executor broke, or was shut down.
                answers.update(dict.fromkeys(positions, _broken(error)))
                continue
            running[future] = positions
            future.add_done_callback(finished.put)

    try:
        for position, item in enumerate(items):
            if here[position]:
                yield next(local)
                continue
            submit()
            while position not in answers:
                future = finished.get()
                found = _answers(context, future, running.pop(future))
                answers.update(found)
                submit()
            yield Outcome(item, answers.pop(position))
    finally:
        for future in running:
            future.cancel()
        local.close()


def _target(context: Context, reference: str | Reference) -> Target | None:
    try:
        return context.target(reference)
    except ResolverError:
        return None


def cut(targets: Sequence[Target | None]) -> Iterator[tuple[int, ...]]:
    """Cut questions into batches: positions by registry, those of a repository together."""
    registries: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    count = 0
    for position, target in enumerate(targets):
        if isinstance(target, RegistryTarget):
            reference = target.reference
            registries[reference.registry][reference.repository].append(position)
            count += 1
    size = min(LARGEST, -(-count // FEWEST))
    for repositories in registries.values():
        positions = [each for repository in repositories.values() for each in repository]
        for start in range(0, len(positions), size):
            yield tuple(positions[start : start + size])


def _answers(
    context: Context, future: Future[BatchAnswer[Found]], positions: Iterable[int]
) -> dict[int, Found | ResolverError]:
    """Read a finished batch; whatever ended it is the failure of each of its questions."""
    try:
        answer = future.result()
    except ResolverError as error:
        return dict.fromkeys(positions, kept(error))
    except Exception as error:  # noqa: BLE001 - executors raise what they like
        return dict.fromkeys(positions, _broken(error))
    for event in answer.events:
        context.observe(event)
    return dict(zip(positions, answer.values, strict=True))


def _broken(error: Exception) -> Unavailable:
    return Unavailable(
        f"a worker did not answer: {type(error).__name__}: {error}",
        "see the logs of the workers, and run the same command again",
        code="worker-failed",
    )


# --- on the worker ---------------------------------------------------------------------------


def run_batch(batch: QuestionBatch[Item, Found]) -> BatchAnswer[Found]:
    """Answer a batch in this process, with its own credentials."""
    with _WORKER.session(batch.setup, batch.registries) as session:
        context = session.context
        values: list[Found | ResolverError] = []
        for outcome in parallel(
            partial(batch.look, context), batch.items, jobs=context.settings.batch_jobs
        ):
            if isinstance(outcome.value, ResolverError):
                values.append(cleaned(outcome.value, context.clean))
            else:
                values.append(outcome.value)
        return BatchAnswer(tuple(values), session.events())


def cleaned(error: ResolverError, clean: Callable[[str], str]) -> ResolverError:
    """Take this worker's secrets out of an error: only here are they known."""
    error.args = tuple(clean(each) if isinstance(each, str) else each for each in error.args)
    for name, value in vars(error).items():
        if isinstance(value, str):
            vars(error)[name] = clean(value)
        elif isinstance(value, tuple):
            found = (clean(each) if isinstance(each, str) else each for each in value)
            vars(error)[name] = tuple(found)
    return error


class _WorkerSession:
    """The session of one run in this process."""

    def __init__(self, setup: Setup) -> None:
        self.users = 0
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        flags = setup.flags
        if setup.machine == node():
            flags = replace(flags, store=setup.store)
        self.context = Context(flags=flags, observe=self._events.append)
        if setup.table is not None:
            self.context.table = setup.table
        self.context.shared = _shared(setup.in_flight)

    def events(self) -> tuple[Event, ...]:
        """Return warnings and notes since the last call, without secrets."""
        found: list[Event] = []
        clean = self.context.clean
        with suppress(IndexError):
            while True:
                event = self._events.popleft()
                if isinstance(event, Warned | Noted):
                    found.append(replace(event, message=clean(event.message)))
        return tuple(found)


class _Worker:
    """The sessions of this process, one for each run, so that tokens and connections last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, _WorkerSession] = {}

    @contextmanager
    def session(self, setup: Setup, registries: Iterable[str]) -> Iterator[_WorkerSession]:
        """Yield the session of a run; end those of earlier ones."""
        with self._lock:
            session = self._sessions.get(setup.run)
            if session is None:
                session = self._sessions[setup.run] = _WorkerSession(setup)
            session.users += 1
            idle = [run for run, each in self._sessions.items() if not each.users]
            ended = [self._sessions.pop(run) for run in idle]
        for each in ended:
            each.context.close()
        context = session.context
        try:
            with context.mutex:
                context.trusted_hosts.update(registries)
            yield session
        finally:
            with self._lock:
                session.users -= 1
                is_idle = not any(each.users for each in self._sessions.values())
            if is_idle and isinstance(context.shared, _Leases):
                context.shared.give_back_idle()


_WORKER = _Worker()
#: Until when the requests of this process to a host wait, in seconds on the monotonic clock.
_HOLDS: dict[str, float] = {}


def hold_here(host: str, seconds: float) -> None:
    """Delay the requests of this process to a host; called for other workers."""
    _HOLDS[host] = max(_HOLDS.get(host, 0.0), time.monotonic() + seconds)


def _held(host: str) -> float:
    """Return the seconds for which requests to a host still wait."""
    return max(_HOLDS.get(host, 0.0) - time.monotonic(), 0.0)


def _shared(in_flight: int) -> _Leases | None:
    """Return the limits of this worker's cluster; None outside of one."""
    if "distributed" not in sys.modules:
        return None
    import distributed  # noqa: PLC0415 - loaded already

    try:
        worker = distributed.get_worker()
    except ValueError:
        return None
    return _Leases(worker, in_flight, contextvars.copy_context())


class _Leases:
    """Requests in flight to each host, limited over all workers of a Dask cluster.

    A request needs a lease of the named semaphore of its host. Leases are kept for a second and
    used again, since getting one is a request to the scheduler.

    Args:
        worker: of Dask.
        in_flight: most leases for each host.
        task: the variables of a task, which lead to a client of the cluster.
    """

    def __init__(self, worker: Any, in_flight: int, task: contextvars.Context) -> None:
        self._worker = worker
        self._in_flight = in_flight
        self._task = task
        self._lock = threading.Lock()
        self._hosts: dict[tuple[str, int], _HostLeases] = {}
        self._told: dict[str, float] = {}

    def take(self, host: str, most: int | None, stop: threading.Event) -> Callable[[], None]:
        """Wait for a lease; see `SharedLimits`."""
        leases = self._of(host, min(most or self._in_flight, self._in_flight))
        while True:
            while (left := _held(host)) and not stop.wait(left):
                pass
            taken = leases.take(stop)
            if taken is None:
                return _nothing
            if stop.is_set() or not _held(host):
                return partial(leases.give_back, taken)
            leases.give_back(taken)

    def share(self, host: str) -> float:
        """Return this worker's part of all leases for a host."""
        with self._lock:
            found = [leases for (name, _), leases in self._hosts.items() if name == host]
        return min((leases.share() for leases in found), default=1.0)

    def hold(self, host: str, seconds: float) -> None:
        """Hold every worker, unless that was done for the same answer of the host."""
        until = time.monotonic() + seconds
        with self._lock:
            if until < self._told.get(host, 0.0) + seconds / 10:
                return
            self._told[host] = until
            client = self._task.run(_client)
        try:
            client.run(hold_here, host, seconds, on_error="ignore")
        except (OSError, RuntimeError, TimeoutError) as error:
            _LOG.warning("other workers were not told to wait for %s: %s", host, error)

    def give_back_idle(self) -> None:
        """Return all leases that no request uses."""
        with self._lock:
            hosts = tuple(self._hosts.values())
        for leases in hosts:
            leases.give_back_idle()

    def _of(self, host: str, most: int) -> _HostLeases:
        with self._lock:
            leases = self._hosts.get((host, most))
            if leases is None:
                import distributed  # noqa: PLC0415 - this is a worker of it

                semaphore = distributed.Semaphore(  # type: ignore[no-untyped-call]  # it has no types
                    most,
                    f"resolver {host} {most}",
                    scheduler_rpc=self._worker.scheduler,
                    loop=self._worker.loop,
                )
                leases = self._hosts[host, most] = _HostLeases(semaphore)
            return leases


def _client() -> Any:
    import distributed  # noqa: PLC0415 - this is a worker of it

    return distributed.get_client()


def _nothing() -> None:
    """Give back nothing: the request was called off."""


class _HostLeases:
    """The leases of this process for one host; a thread gets more while requests wait."""

    def __init__(self, semaphore: Any) -> None:
        self._semaphore = semaphore
        self._state = threading.Condition()
        #: When idle leases were acquired, in seconds; the oldest is used last.
        self._idle: list[float] = []
        self._used = self._waiting = 0
        self._is_fetching = False
        self._failure: BaseException | None = None
        self._share = (0.0, 1.0)

    def take(self, stop: threading.Event) -> float | None:
        """Wait for a lease; return when it was acquired, or None if called off."""
        with self._state:
            self._waiting += 1
            try:
                while not self._idle:
                    if stop.is_set():
                        return None
                    if not self._is_fetching:
                        if self._failure is not None:
                            failure, self._failure = self._failure, None
                            raise _unreachable(failure) from failure
                        self._is_fetching = True
                        threading.Thread(target=self._fetch, daemon=True).start()
                    self._state.wait(_TURN)
                self._used += 1
                return self._idle.pop()
            finally:
                self._waiting -= 1

    def give_back(self, since: float) -> None:
        """Keep a lease for the next request, or return it after its turn."""
        with self._state:
            self._used -= 1
            if time.monotonic() - since < _TURN:
                self._idle.append(since)
                self._state.notify()
                return
        self._release(1)

    def give_back_idle(self) -> None:
        with self._state:
            count = len(self._idle)
            self._idle.clear()
        self._release(count)

    def share(self) -> float:
        """Return this process's part of the leases in use, asked for once a second."""
        with self._state:
            own = self._used + len(self._idle)
            at, known = self._share
            if time.monotonic() - at < _TURN:
                return known
        everywhere = max(self._semaphore.get_value(), own, 1)
        with self._state:
            self._share = (time.monotonic(), max(own, 1) / everywhere)
            return self._share[1]

    def _release(self, count: int) -> None:
        for _ in range(count):
            try:
                self._semaphore.release()
            except (OSError, RuntimeError, TimeoutError) as error:
                # The scheduler frees it once it is no longer refreshed.
                _LOG.warning("a lease of %s was not returned: %s", self._semaphore.name, error)

    def _fetch(self) -> None:
        """Acquire one lease for each request that waits."""
        while True:
            try:
                got = self._semaphore.acquire(timeout=_PATIENCE)
            except BaseException as error:  # noqa: BLE001 - raised again by `take`
                with self._state:
                    self._failure, self._is_fetching = error, False
                    self._state.notify_all()
                return
            with self._state:
                if got:
                    self._idle.append(time.monotonic())
                    self._state.notify()
                if self._waiting <= len(self._idle):
                    self._is_fetching = False
                    return


def _unreachable(error: BaseException) -> Unavailable:
    return Unavailable(
        f"the scheduler of the cluster cannot be reached: {error}",
        "see the log of the scheduler",
        code="cluster-unreachable",
    )


# --- clusters --------------------------------------------------------------------------------


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """Connect to a Dask cluster, or start one on this machine, and yield its executor.

    Args:
        address: `tcp://HOST:PORT` of a scheduler, or `local:N` for N workers here.

    Raises:
        Usage: the address is invalid, `distributed` is not installed, or a worker has another
            version of this program.
        Unavailable: the scheduler cannot be reached, or has no worker.
    """
    local = _LOCAL.fullmatch(address)
    count = int(local[1]) if local else 0
    if not (1 <= count <= MAX_WORKERS if local else _ADDRESS.fullmatch(address)):
        raise Usage(
            f"`--cluster {address}` is not a cluster",
            f"write `tcp://HOST:8786`, or `local:N` with 1 to {MAX_WORKERS} workers",
        )
    try:
        import distributed  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Usage(
            "`--cluster` needs the package `distributed`, which is not installed",
            "install it: `pip install 'multiarch-resolver[fleet]'`",
            code="extra-missing",
        ) from error
    with _quiet(), ExitStack() as stack:
        try:
            client = _connect(stack, distributed, address, count)
            _check_workers(client)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise _unreachable(error) from error
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)


def _connect(stack: ExitStack, distributed: Any, address: str, count: int) -> Any:
    """Connect to a scheduler, or start one with a number of workers; the stack ends both."""
    import dask  # noqa: PLC0415 - comes with `distributed`

    place: Any = address
    if count:
        stack.enter_context(dask.config.set({"distributed.scheduler.locks.lease-timeout": _LEASE}))
        # Two threads each, so that a batch begins while the last requests of another run.
        place = stack.enter_context(
            distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=2,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
        )
    client = distributed.Client(place, timeout=_CONNECT, set_as_default=False)
    return stack.enter_context(client)


def _check_workers(client: Any) -> None:
    """Wait for a worker, and compare the versions of all."""
    try:
        client.wait_for_workers(1, timeout=_FIRST_WORKER)
    except TimeoutError as error:
        raise Unavailable(
            f"the cluster has had no worker for {_FIRST_WORKER} s",
            "start one: `dask worker tcp://HOST:8786`",
            code="no-worker",
        ) from error
    try:
        versions: dict[str, str] = client.run(worker_version)
    except ModuleNotFoundError as error:
        raise Usage(
            f"a worker cannot load this program: {error}",
            f"install it on every worker: `pip install multiarch-resolver=={__version__}`",
        ) from error
    for worker, version in versions.items():
        if version != __version__:
            raise Usage(
                f"the worker `{worker}` has version {version}, not {__version__}",
                f"install it there: `pip install multiarch-resolver=={__version__}`",
            )


def worker_version() -> str:
    """Return the version of this program on a worker."""
    return __version__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of `distributed` off stderr: what fails is in the answers."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
