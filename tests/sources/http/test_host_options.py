"""Options of one host: certificates, headers and rate, which apply to no other host."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import pytest

from resolver.core.registry.endpoints import ClientFiles, HostSettings, upstream
from resolver.errors import InvalidConfiguration, TlsFailed, Unavailable
from resolver.sources.http.retry import SILENT, HostLimiter, Pacer, RequestSlot
from resolver.sources.registry.repository import RegistrySource
from tests.kit.certificates import authority
from tests.kit.clients import FakeClock, transport
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.sources.http.client import Transport

IMAGE = build_image()
BLOB = next(iter(IMAGE.blobs))


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    return str(authority().ca_file(tmp_path))


def ask(wire: Transport, registry: FakeRegistry, settings: HostSettings) -> str:
    here = upstream(registry.host, "team/app", settings)
    source = RegistrySource(wire, registry.host, "team/app", endpoint=here)
    return str(source.document("1.0").descriptor.digest)


def test_ca_of_one_host_is_trusted_there_only(engine: str, ca_file: str) -> None:
    with (
        FakeRegistry(authority().good()) as one,
        FakeRegistry(authority().good()) as other,
        transport(engine, options={"plain_http": False, "attempts": 1}) as wire,
    ):
        one.serve("team/app", "1.0", IMAGE)
        assert ask(wire, one, HostSettings(ca=(ca_file,))) == IMAGE.digest
        with pytest.raises(TlsFailed):
            ask(wire, other, HostSettings())
        with pytest.raises(TlsFailed):
            ask(wire, one, HostSettings())


@pytest.mark.parametrize("joined", [False, True])
def test_client_certificate_authenticates(
    engine: str, ca_file: str, tmp_path: Path, joined: bool
) -> None:
    certificate, key = authority().client_files(tmp_path)
    client = ClientFiles(str(certificate), str(key))
    if joined:
        both = tmp_path / "both.pem"
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        client = ClientFiles(str(both))
    with (
        FakeRegistry(authority().wants_client_certificate()) as registry,
        transport(engine, options={"plain_http": False, "attempts": 1}) as wire,
    ):
        registry.serve("team/app", "1.0", IMAGE)
        with pytest.raises(Unavailable):
            ask(wire, registry, HostSettings(ca=(ca_file,)))
        assert ask(wire, registry, HostSettings(ca=(ca_file,), clients=(client,))) == IMAGE.digest


def test_storage_receives_neither_client_certificate_nor_header(
    engine: str, ca_file: str, tmp_path: Path
) -> None:
    certificate, key = authority().client_files(tmp_path)
    settings = HostSettings(
        ca=(ca_file,),
        clients=(ClientFiles(str(certificate), str(key)),),
        headers=(("X-Registry-Key", "S3CR3T"),),
    )
    with (
        FakeRegistry(authority().wants_client_certificate()) as registry,
        FakeRegistry(authority().wants_client_certificate()) as storage,
        transport(engine, options={"plain_http": False, "attempts": 1}) as wire,
    ):
        path = "/v2/team/app/manifests/1.0"
        registry.redirect(path, f"{storage.url}{path}")
        with pytest.raises(Unavailable):
            ask(wire, registry, settings)
        assert registry.log[0].headers["x-registry-key"] == "S3CR3T"
        assert wire.redactor.clean("has S3CR3T in it") == "has *** in it"
        assert not storage.log


def test_header_of_one_host_is_sent_only_there_and_to_its_token_path(engine: str) -> None:
    settings = HostSettings(headers=(("X-Team", "blue"), ("Authorization", "Basic bm9wZTpub3Bl")))
    with FakeRegistry() as registry, FakeRegistry() as storage, transport(engine) as wire:
        registry.serve("team/app", "1.0", IMAGE)
        storage.serve("team/app", "1.0", IMAGE)
        registry.bearer()
        registry.redirect(
            "/v2/team/app/manifests/1.0", f"{storage.url}/v2/team/app/manifests/1.0", times=1
        )
        assert ask(wire, registry, settings) == IMAGE.digest
        assert ask(wire, registry, settings) == IMAGE.digest
        assert {seen.headers.get("x-team") for seen in registry.log} == {"blue"}
        assert registry.log[-1].headers["authorization"] == "Bearer T0KEN-1"
        assert [seen.headers.get("x-team") for seen in storage.log] == [None]
        assert "authorization" not in storage.log[0].headers


@pytest.mark.parametrize(
    ("text", "words"), [("", "not a client certificate"), (None, "no such file")]
)
def test_unusable_client_certificate_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "me.pem"
    if text is not None:
        file.write_text(text)
    settings = HostSettings(clients=(ClientFiles(str(file)),))
    with (
        FakeRegistry() as registry,
        transport() as wire,
        pytest.raises(InvalidConfiguration, match=words),
    ):
        ask(wire, registry, settings)


def test_skip_verify_applies_to_one_host(engine: str) -> None:
    with (
        FakeRegistry(authority().expired()) as registry,
        transport(engine, options={"plain_http": False, "attempts": 1}) as wire,
    ):
        registry.serve("team/app", "1.0", IMAGE)
        assert ask(wire, registry, HostSettings(skip_verify=True)) == IMAGE.digest
        with pytest.raises(TlsFailed):
            ask(wire, registry, HostSettings())


def test_insecure_host_may_use_plain_http_without_tls() -> None:
    either = HostSettings(skip_verify=True, plain_too=True)
    for tls in (None, authority().expired()):
        with FakeRegistry(tls) as registry, transport(options={"plain_http": False}) as wire:
            registry.serve("team/app", "1.0", IMAGE)
            assert ask(wire, registry, either) == IMAGE.digest


def test_explicit_scheme_is_used_despite_other_options() -> None:
    with (
        FakeRegistry(authority().good()) as registry,
        transport(options={"plain_http": True}) as wire,
    ):
        registry.serve("team/app", "1.0", IMAGE)
        settings = HostSettings(scheme="https", skip_verify=True)
        assert ask(wire, registry, settings) == IMAGE.digest


def test_requests_to_one_host_keep_its_rate() -> None:
    clock = FakeClock()
    with FakeRegistry() as registry, transport(clock=clock) as wire:
        registry.serve("team/app", "1.0", IMAGE)
        begun = clock.now
        for _ in range(5):
            ask(wire, registry, HostSettings(rate=2))
        assert clock.now - begun == pytest.approx(2.0)
        ask(wire, registry, HostSettings())
        assert clock.now - begun == pytest.approx(2.0)


def test_pause_does_not_accumulate_requests() -> None:
    clock, stop = FakeClock(), threading.Event()
    pacer = Pacer(clock)
    pacer.wait("a", 10, stop)
    clock.now += 60
    for _ in range(3):
        pacer.wait("a", 10, stop)
    assert clock.slept == pytest.approx([0.1, 0.1])


def test_concurrency_of_a_host_is_not_exceeded() -> None:
    gate, most, now = threading.Event(), [0], [0]
    lock = threading.Lock()
    with FakeRegistry() as registry, transport() as wire:
        registry.serve("team/app", "1.0", IMAGE)

        def watch(_seen: object) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            gate.wait(0.05)
            with lock:
                now[0] -= 1

        registry.on("GET", "/v2/team/app/manifests/1.0", watch)
        threads = [
            threading.Thread(target=ask, args=(wire, registry, HostSettings(jobs=2)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most[0] == 2


def test_connection_slots_are_granted_in_request_order() -> None:
    slots = HostLimiter(1, FakeClock())
    held = slots.take()
    got: list[int] = []

    def ask_for_one(number: int) -> None:
        slot = slots.take()
        got.append(number)
        slot.release()

    threads = []
    for number in range(5):
        thread = threading.Thread(target=ask_for_one, args=(number,))
        thread.start()
        threads.append(thread)
        while len(slots._queue) <= number:
            thread.join(0.001)
    held.release()
    held.release()
    for thread in threads:
        thread.join()
    assert got == [0, 1, 2, 3, 4]


def test_idle_connection_is_closed_for_a_waiting_request() -> None:
    clock = FakeClock()
    slots = HostLimiter(3, clock)
    slots._limit = 2
    first, second = slots.take(), slots.take()
    with ThreadPoolExecutor(2) as pool:
        third: Future[RequestSlot] = pool.submit(slots.take)
        clock.now += SILENT / 2
        first.moved()
        assert not wait([third], 0.6).done
        clock.now += SILENT / 2
        # The second one has been silent for long enough, the first one has not.
        slot = third.result(10)
        fourth: Future[RequestSlot] = pool.submit(slots.take)
        clock.now += SILENT
        # All three are silent, and more than three are never open.
        assert not wait([fourth], 0.6).done
        second.release()
        fourth.result(10).release()
    slot.release()
    first.release()


def test_connection_limit_of_a_host_is_never_exceeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resolver.sources.http.retry.SILENT", 0.0)
    gate = threading.Event()
    with FakeRegistry() as registry, transport() as wire, ThreadPoolExecutor(2) as pool:
        registry.serve("team/app", "1.0", IMAGE)
        registry.on(
            "GET", "/v2/team/app/manifests/1.0", Reply(200, body=b"{}", hold=gate, hold_after=1)
        )
        one = [pool.submit(registry_of(wire, registry, jobs).document, "1.0") for jobs in (1, 1)]
        assert registry.wait_for(lambda: len(registry.requests("GET", "/manifests/")) == 1)
        assert not wait(one, 0.6).done
        assert len(registry.requests("GET", "/manifests/")) == 1
        gate.set()
        wait(one)


def registry_of(wire: Transport, registry: FakeRegistry, jobs: int) -> RegistrySource:
    settings = HostSettings(jobs=jobs)
    here = upstream(registry.host, "team/app", settings)
    return RegistrySource(wire, registry.host, "team/app", endpoint=here)
