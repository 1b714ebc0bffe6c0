"""Mirrors that fail or answer falsely: a pull uses upstream or fails closed.

Every test checks both logs: which host got which request with which credentials.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.oci.digest import Digest
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import RegistryTarget
from resolver.core.results.events import Noted, Warned
from resolver.errors import (
    DigestMismatch,
    ManifestNotFound,
    RegistryBlocked,
    Unavailable,
)
from resolver.session import Session
from resolver.sources.registry.mirrored import MirroredSource
from tests.kit.images import build_image, build_index
from tests.kit.pulls import noise
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.events import Event

LAYER, SMALL = noise(400_000), noise(2_000, 1)
IMAGE = build_index([build_image("linux/amd64", [LAYER, SMALL])])
CHILD = IMAGE.children[0]
REPOSITORY = "team/app"
BASE = f"/v2/{REPOSITORY}"
LAYER_PATH = f"{BASE}/blobs/{Digest.of(LAYER)}"


@dataclass
class MirrorSetup:
    """An upstream, a mirror, and a session that uses it."""

    upstream: FakeRegistry
    mirror: FakeRegistry
    folder: Path
    events: list[Event] = field(default_factory=list)

    @property
    def reference(self) -> str:
        return f"{self.upstream.host}/{REPOSITORY}:1"

    def session(self, *, tags: bool = False, mirror: str = "", **variables: str) -> Session:
        """Open a session; `tags` trusts the mirror with tags, `variables` is the environment."""
        url = mirror or f"{self.mirror.url}{'#tags' if tags else ''}"
        environment = {"HOME": str(self.folder), "RESOLVER_MIRROR": f"{self.upstream.host}={url}"}
        return Session(
            self.folder / "store",
            environment={**environment, **variables},
            observe=self.events.append,
        )

    def pull(self, **how: object) -> None:
        with self.session(**how) as session:  # type: ignore[arg-type]  # by name
            session.pull(self.reference, "linux/amd64")
            held = {str(digest) for digest, _ in _blobs(self.folder / "store")}
        assert held >= {*IMAGE.documents, *IMAGE.children[0].blobs}

    def warned(self) -> list[str]:
        return [event.code for event in self.events if isinstance(event, Warned)]

    def messages(self) -> str:
        return "\n".join(
            event.message for event in self.events if isinstance(event, Noted | Warned)
        )


def _blobs(store: Path) -> Iterator[tuple[Digest, bytes]]:
    for file in sorted((store / "blobs/sha256").iterdir()):
        body = file.read_bytes()
        assert Digest.of(body).hex == file.name
        yield Digest.of(body), body


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[MirrorSetup]:
    with FakeRegistry() as upstream, FakeRegistry() as mirror:
        upstream.serve(REPOSITORY, "1", IMAGE)
        mirror.serve(REPOSITORY, "1", IMAGE)
        yield MirrorSetup(upstream, mirror, tmp_path)


def lines(registry: FakeRegistry) -> list[str]:
    return sorted(f"{seen.method} {seen.path.removeprefix(BASE)}" for seen in registry.log)


def test_mirror_provides_content_and_upstream_provides_tags(ground: MirrorSetup) -> None:
    ground.pull()
    assert lines(ground.upstream) == ["GET /manifests/1"]
    digests = [each for each in IMAGE.documents if each != IMAGE.digest]
    assert sorted(seen.path for seen in ground.mirror.log) == sorted(
        [f"{BASE}/manifests/{each}" for each in digests]
        + [f"{BASE}/blobs/{each}" for each in IMAGE.children[0].blobs]
    )
    assert all(seen.query == f"ns={ground.upstream.host}" for seen in ground.mirror.log)
    assert all(not seen.query for seen in ground.upstream.log)
    assert f"`{ground.mirror.host}` gave `{Digest.of(LAYER)}`" in ground.messages()
    assert ground.warned() == []


def test_trusted_mirror_resolves_tags(ground: MirrorSetup) -> None:
    ground.pull(tags=True)
    assert lines(ground.upstream) == []
    with ground.session(tags=True) as session:
        assert list(session.tags(ground.reference)) == ["1"]
        # The logical name is what is kept and shown.
        assert session.images()[0].reference == ground.reference


def test_untrusted_mirror_does_not_resolve_tags(ground: MirrorSetup) -> None:
    other = build_index([build_image("linux/amd64", [noise(10, 3)])])
    ground.mirror.serve(REPOSITORY, "1", other)
    ground.pull()
    assert not [seen for seen in ground.mirror.log if seen.path.endswith("/manifests/1")]


def test_mirror_with_a_wrong_blob_costs_one_fetch_and_is_named(ground: MirrorSetup) -> None:
    ground.mirror.on("GET", LAYER_PATH, Reply(200, body=bytes(len(LAYER))))
    ground.pull()
    assert ground.warned() == ["mirror-lied"]
    assert f"mirror `{ground.mirror.host}` sent other bytes for `{Digest.of(LAYER)}`" in (
        ground.messages()
    )
    assert [seen.path for seen in ground.upstream.requests("GET", "/blobs/")] == [LAYER_PATH]


@pytest.mark.parametrize("size", [len(LAYER) - 1, len(LAYER) + 1])
def test_mirror_with_a_wrong_size_is_skipped_immediately(ground: MirrorSetup, size: int) -> None:
    ground.mirror.on("GET", LAYER_PATH, Reply(200, body=bytes(size)))
    ground.pull()
    assert ground.warned() == ["mirror-lied"]
    assert len(ground.mirror.requests("GET", LAYER_PATH)) == 1


def test_mirror_that_sends_too_much_is_skipped(ground: MirrorSetup) -> None:
    reply = Reply(200, body=LAYER + b"more", content_length=False, close=True)
    ground.mirror.on("GET", LAYER_PATH, reply)
    ground.pull()
    assert ground.warned() == ["mirror-lied"]


def test_mirror_with_a_wrong_manifest_is_named(ground: MirrorSetup) -> None:
    digest = ground_manifest()
    other = build_image("linux/amd64", [noise(11, 4)])
    reply = Reply(200, {"Content-Type": other.media_type}, other.body)
    ground.mirror.on("GET", f"{BASE}/manifests/{digest}", reply)
    ground.pull()
    assert ground.warned() == ["mirror-lied"]
    assert f"GET /manifests/{digest}" in lines(ground.upstream)


def test_nothing_is_stored_when_mirror_and_upstream_send_wrong_bytes(ground: MirrorSetup) -> None:
    for registry in (ground.mirror, ground.upstream):
        registry.on("GET", LAYER_PATH, Reply(200, body=bytes(len(LAYER))))
    with ground.session() as session, pytest.raises(DigestMismatch):
        session.pull(ground.reference, "linux/amd64")
    assert Digest.of(LAYER) not in {digest for digest, _ in _blobs(ground.folder / "store")}


def test_mirror_is_disabled_after_three_wrong_answers(ground: MirrorSetup) -> None:
    layers = [noise(300, seed) for seed in range(10, 18)]
    image = build_image("linux/amd64", layers)
    ground.upstream.serve(REPOSITORY, "many", image)
    for layer in layers:
        path = f"{BASE}/blobs/{Digest.of(layer)}"
        ground.mirror.on("GET", path, Reply(200, body=bytes(300)))
    ground.mirror.serve(REPOSITORY, "many", image)
    with ground.session(RESOLVER_JOBS="1") as session:
        session.pull(f"{ground.upstream.host}/{REPOSITORY}:many", "linux/amd64")
    assert ground.warned() == ["mirror-lied"] * 3
    assert len(ground.mirror.requests("GET", "/blobs/")) <= 4


def test_unreachable_mirror_is_reported_once_and_skipped(ground: MirrorSetup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    ground.pull(mirror=f"http://127.0.0.1:{port}")
    assert ground.warned() == ["mirror-unusable"]
    assert f"mirror `127.0.0.1:{port}` is skipped" in ground.messages()
    assert len(ground.upstream.requests("GET", "/blobs/")) == 3


def test_mirror_without_the_image_gives_no_warning(ground: MirrorSetup) -> None:
    with FakeRegistry() as empty:
        empty.shelves.add(REPOSITORY, None, IMAGE.digest, {}, {})
        ground.pull(mirror=empty.url)
        assert len(empty.requests("GET", "/blobs/")) == 3
    assert ground.warned() == []
    assert len(ground.upstream.requests("GET", "/blobs/")) == 3


@pytest.mark.parametrize("status", [401, 403, 405, 429, 500, 503])
def test_mirror_that_denies_access_is_skipped_without_waiting(
    ground: MirrorSetup, status: int
) -> None:
    with FakeRegistry() as refusing:
        refusing.on("*", LAYER_PATH, Reply(status, {"Retry-After": "30"}))
        refusing.serve(REPOSITORY, "1", IMAGE)
        ground.pull(mirror=refusing.url)
        assert len(refusing.requests("GET", LAYER_PATH)) == 1
    assert LAYER_PATH in [seen.path for seen in ground.upstream.log]
    assert "trying again" not in ground.messages()


def test_mirror_that_breaks_off_is_continued_from_upstream(ground: MirrorSetup) -> None:
    ground.mirror.on("GET", LAYER_PATH, Reply(200, body=LAYER, truncate=250_000))
    ground.pull()
    [after] = ground.upstream.requests("GET", LAYER_PATH)
    first = int(after.headers["range"].removeprefix("bytes=").partition("-")[0])
    assert 0 < first <= 250_000
    assert ground.warned() == ["mirror-unusable"]


def test_mirror_that_breaks_off_after_wrong_bytes_is_detected(ground: MirrorSetup) -> None:
    ground.mirror.on("GET", LAYER_PATH, Reply(200, body=bytes(len(LAYER)), truncate=250_000))
    ground.pull()
    assert sorted(ground.warned()) == ["mirror-lied", "mirror-unusable"]
    assert len(ground.upstream.requests("GET", LAYER_PATH)) == 2


def test_upstream_error_is_reported_with_the_mirror_errors(ground: MirrorSetup) -> None:
    with ground.session(tags=True) as session, pytest.raises(ManifestNotFound) as caught:
        session.resolve(f"{ground.upstream.host}/{REPOSITORY}:none")
    assert caught.value.place == ground.upstream.host
    [hint] = [hint for hint in caught.value.hints() if ground.mirror.host in hint]
    assert hint.startswith(f"before that, `{ground.mirror.host}`: ")
    assert str(caught.value.facts()["others"]).count(ground.mirror.host) > 0


def test_each_host_receives_only_its_own_credentials(ground: MirrorSetup) -> None:
    ground.upstream.bearer(credentials=("up", "UPSTREAM-PASS"), token="UP-T0KEN")
    ground.mirror.basic("mi", "MIRROR-PASS")
    auths = {
        ground.upstream.host: {"auth": base64.b64encode(b"up:UPSTREAM-PASS").decode()},
        ground.mirror.host: {"auth": base64.b64encode(b"mi:MIRROR-PASS").decode()},
    }
    folder = ground.folder / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    ground.pull()
    assert secrets(ground.mirror) == {"Basic " + auths[ground.mirror.host]["auth"]}
    assert secrets(ground.upstream) == {
        "Bearer UP-T0KEN",
        "Basic " + auths[ground.upstream.host]["auth"],
    }


def test_explicit_credentials_go_to_the_registry_and_not_to_its_mirror(ground: MirrorSetup) -> None:
    ground.upstream.basic("up", "UPSTREAM-PASS")
    ground.mirror.basic("mi", "MIRROR-PASS")
    ground.pull(RESOLVER_USERNAME="up", RESOLVER_PASSWORD="UPSTREAM-PASS")
    assert secrets(ground.mirror) == set()
    assert len(ground.upstream.requests("GET", "/blobs/")) == 3


def secrets(registry: FakeRegistry) -> set[str]:
    return {
        seen.headers["authorization"] for seen in registry.log if "authorization" in seen.headers
    }


def ground_manifest() -> str:
    return IMAGE.children[0].digest


def test_mirror_of_a_public_registry_cannot_redirect_to_this_machine(ground: MirrorSetup) -> None:
    ground.mirror.redirect(LAYER_PATH, "http://169.254.169.254/latest/meta-data")
    ground.pull()
    assert ground.warned() == ["mirror-unusable"]
    assert "169.254.169.254" in ground.messages()


def test_answer_from_the_store_reads_no_host_files(ground: MirrorSetup) -> None:
    ground.pull()
    before = len(ground.mirror.log), len(ground.upstream.log)
    broken = ground.folder / "broken.yaml"
    broken.write_text("hosts: [")
    with ground.session(RESOLVER_CONFIG=str(broken)) as session:
        session.resolve(f"{ground.upstream.host}/{REPOSITORY}@{IMAGE.digest}", "linux/amd64")
    assert (len(ground.mirror.log), len(ground.upstream.log)) == before


def test_hosts_toml_can_leave_no_host_for_tags(ground: MirrorSetup) -> None:
    folder = ground.folder / "certs.d" / f"{ground.upstream.host.replace(':', '_')}_"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(
        f'server = "{ground.upstream.url}"\ncapabilities = ["pull"]\n'
        f'[host."{ground.mirror.url}"]\ncapabilities = ["pull"]\n'
    )
    variables = {"RESOLVER_MIRROR": "", "RESOLVER_CERTS_D": str(ground.folder / "certs.d")}
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        with pytest.raises(Unavailable) as caught:
            session.resolve(ground.reference)
        assert caught.value.code == "nobody-to-ask"
        pinned = f"{ground.upstream.host}/{REPOSITORY}@{IMAGE.digest}"
        assert session.resolve(pinned, "linux/amd64").index is not None
    assert not ground.upstream.log


def test_registries_conf_can_block_and_relocate(ground: MirrorSetup) -> None:
    file = ground.folder / "registries.conf"
    file.write_text(
        f'[[registry]]\nprefix = "blocked.test"\nlocation = "blocked.test"\nblocked = true\n'
        f'[[registry]]\nprefix = "logical.test/x"\nlocation = "{ground.upstream.host}/team"\n'
        f'[[registry.mirror]]\nlocation = "{ground.mirror.host}/team"\ninsecure = true\n'
    )
    variables = {"RESOLVER_MIRROR": "", "CONTAINERS_REGISTRIES_CONF": str(file)}
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        with pytest.raises(RegistryBlocked):
            session.resolve("blocked.test/a/b")
        done = session.pull("logical.test/x/app:1", "linux/amd64")
        assert done.images[0].image.reference == "logical.test/x/app:1"
    assert lines(ground.upstream) == []
    assert len(ground.mirror.requests("GET", "/blobs/")) == 3
    assert all(not seen.query for seen in ground.mirror.log)


def conf(ground: MirrorSetup, registry: str = "", mirror: str = "") -> dict[str, str]:
    """Write a registries.conf with one registry and one mirror; return the variables for it."""
    file = ground.folder / "registries.conf"
    file.write_text(
        f'[[registry]]\nlocation = "{ground.upstream.host}"\n{registry}\n'
        f'[[registry.mirror]]\nlocation = "{ground.mirror.host}"\ninsecure = true\n{mirror}\n'
    )
    return {"RESOLVER_MIRROR": "", "CONTAINERS_REGISTRIES_CONF": str(file)}


@pytest.mark.parametrize(
    ("registry", "mirror", "by_tag", "by_digest"),
    [
        ("", "", True, True),
        ("", 'pull-from-mirror = "all"', True, True),
        # ImageTagMirrorSet
        ("", 'pull-from-mirror = "tag-only"', True, False),
        # ImageDigestMirrorSet, and ImageContentSourcePolicy below
        ("", 'pull-from-mirror = "digest-only"', False, True),
        ("mirror-by-digest-only = true", "", False, True),
    ],
)
@pytest.mark.parametrize("is_tag", [True, False])
def test_mirror_configuration_follows_the_given_reference(
    ground: MirrorSetup, registry: str, mirror: str, by_tag: bool, by_digest: bool, is_tag: bool
) -> None:
    name = ground.reference if is_tag else f"{ground.reference}@{IMAGE.digest}"
    with ground.session(**conf(ground, registry, mirror)) as session:  # type: ignore[arg-type]  # by name
        session.pull(name, "linux/amd64")
    asked, left = ground.mirror, ground.upstream
    if not (by_tag if is_tag else by_digest):
        asked, left = left, asked
    assert lines(left) == []
    wanted = {f"{BASE}/blobs/{each}" for each in IMAGE.children[0].blobs}
    assert {seen.path for seen in asked.requests("GET", "/blobs/")} == wanted
    root = f"{BASE}/manifests/{'1' if is_tag else IMAGE.digest}"
    assert {seen.path for seen in asked.requests("GET", "/manifests/")} == {
        root,
        f"{BASE}/manifests/{ground_manifest()}",
    }


def test_session_keeps_two_forms_of_a_reference_separate(ground: MirrorSetup) -> None:
    variables = conf(ground, "", 'pull-from-mirror = "tag-only"')
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        session.resolve(ground.reference, "linux/amd64")
        assert lines(ground.upstream) == []
        assert list(session.tags(ground.reference)) == ["1"]
        other = build_image("linux/amd64", [noise(12, 9)])
        ground.upstream.serve(REPOSITORY, "2", other)
        session.resolve(f"{ground.upstream.host}/{REPOSITORY}@{other.digest}")
    assert f"GET /manifests/{other.digest}" in lines(ground.upstream)
    assert not [line for line in lines(ground.mirror) if other.digest in line]


def test_digest_mirror_does_not_resolve_the_tag_of_a_pinned_reference(ground: MirrorSetup) -> None:
    variables = conf(ground, "", 'pull-from-mirror = "digest-only"')
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        target = RegistryTarget(Reference.parse(f"{ground.reference}@{IMAGE.digest}"))
        source = session._context.source(target)
        assert source.document(IMAGE.digest).body == IMAGE.body
        assert str(source.resolve("1").digest) == IMAGE.digest
    assert lines(ground.mirror) == [f"GET /manifests/{IMAGE.digest}"]
    assert lines(ground.upstream) == ["HEAD /manifests/1"]


def test_blocked_location_is_not_requested_but_its_mirrors_are(ground: MirrorSetup) -> None:
    """OpenShift's `mirrorSourcePolicy: NeverContactSource`."""
    variables = conf(ground, "blocked = true", 'pull-from-mirror = "digest-only"')
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        pinned = f"{ground.upstream.host}/{REPOSITORY}@{IMAGE.digest}"
        session.pull(pinned, "linux/amd64")
        # By tag that mirror is not used, so no endpoint is left, and the store is not used.
        with pytest.raises(RegistryBlocked):
            session.resolve(ground.reference)
        missing = f"{ground.upstream.host}/{REPOSITORY}@{Digest.of(b'missing')}"
        with pytest.raises(ManifestNotFound):
            session.resolve(missing)
    assert ground.upstream.log == []
    assert len(ground.mirror.requests("GET", "/blobs/")) == 3


def test_mirror_blocked_by_its_own_rule_is_skipped(ground: MirrorSetup) -> None:
    more = f'[[registry]]\nlocation = "{ground.mirror.host}"\nblocked = true\n'
    variables = conf(ground, "", f"\n{more}")
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        session.pull(ground.reference, "linux/amd64")
    assert ground.mirror.log == []


@pytest.mark.parametrize("tag", [f"sha256-{'a' * 64}", f"sha256-{'a' * 64}.sig"])
def test_signatures_come_from_the_mirror_that_served_the_image(
    ground: MirrorSetup, tag: str
) -> None:
    ground.mirror.serve(REPOSITORY, tag, IMAGE.children[0])
    variables = conf(ground, "", 'pull-from-mirror = "digest-only"')
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        target = RegistryTarget(Reference.parse(f"{ground.reference}@{IMAGE.digest}"))
        assert session._context.source(target).document(tag).body == CHILD.body
    assert lines(ground.upstream) == []


def capabilities(ground: MirrorSetup, mirror: str) -> dict[str, str]:
    """Write a hosts.toml whose mirror has these capabilities."""
    folder = ground.folder / "certs.d" / f"{ground.upstream.host.replace(':', '_')}_"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(
        f'server = "{ground.upstream.url}"\n[host."{ground.mirror.url}"]\ncapabilities = {mirror}\n'
    )
    return {"RESOLVER_MIRROR": "", "RESOLVER_CERTS_D": str(ground.folder / "certs.d")}


def test_host_with_resolve_but_not_pull_provides_only_the_digest(ground: MirrorSetup) -> None:
    variables = capabilities(ground, '["resolve"]')
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        session.pull(ground.reference, "linux/amd64")
    assert lines(ground.mirror) == ["HEAD /manifests/1"]
    assert f"GET /manifests/{IMAGE.digest}" in lines(ground.upstream)
    assert "GET /manifests/1" not in lines(ground.upstream)


def test_push_only_host_is_never_requested(ground: MirrorSetup) -> None:
    variables = capabilities(ground, '["push"]')
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        session.pull(ground.reference, "linux/amd64")
    assert ground.mirror.log == []


def test_host_with_the_referrers_capability_lists_referrers(ground: MirrorSetup) -> None:
    variables = capabilities(ground, '["pull", "referrers"]')
    path = f"{BASE}/referrers/{IMAGE.digest}"
    listed = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    ground.mirror.on("GET", path, Reply(200, {"Content-Type": OCI_INDEX}, listed))
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        source = session._context.source(RegistryTarget(Reference.parse(ground.reference)))
        assert isinstance(source, MirroredSource)
        assert source.referrers(Digest.parse(IMAGE.digest)) == ()
    assert [seen.path for seen in ground.mirror.log] == [path]
    assert ground.upstream.log == []


def test_blocked_registry_is_blocked_even_with_content_in_the_store(ground: MirrorSetup) -> None:
    ground.pull()
    pinned = f"{ground.upstream.host}/{REPOSITORY}@{IMAGE.digest}"
    file = ground.folder / "blocking.conf"
    file.write_text(f'[[registry]]\nlocation = "{ground.upstream.host}"\nblocked = true\n')
    variables = {"RESOLVER_MIRROR": "", "CONTAINERS_REGISTRIES_CONF": str(file)}
    with ground.session(**variables) as session:  # type: ignore[arg-type]  # by name
        with pytest.raises(RegistryBlocked):
            session.resolve(pinned, "linux/amd64")
        assert session.resolve(f"store:{ground.reference}", "linux/amd64").index is not None


def test_mirror_that_hangs_up_is_reported_once_for_all_requests(ground: MirrorSetup) -> None:
    for path in [LAYER_PATH, f"{BASE}/blobs/{Digest.of(SMALL)}"]:
        ground.mirror.on("GET", path, Reply(silent=True))
    ground.pull()
    assert ground.warned() == ["mirror-unusable"]


def test_mirror_with_invalid_http_is_skipped(ground: MirrorSetup) -> None:
    ground.mirror.on("GET", LAYER_PATH, Reply(raw=b"garbage\r\n\r\n"))
    ground.pull()
    assert ground.warned() == ["mirror-unusable"]


def test_login_page_from_a_mirror_is_not_a_manifest(ground: MirrorSetup) -> None:
    page = Reply(200, {"Content-Type": "text/html"}, b"<html>log in</html>")
    ground.mirror.on("GET", f"{BASE}/manifests/{ground_manifest()}", page)
    ground.pull()
    assert len(ground.warned()) == 1


def test_stalled_mirror_is_skipped_after_its_own_timeout(ground: MirrorSetup) -> None:
    never = threading.Event()
    for path in (LAYER_PATH, f"{BASE}/manifests/{ground_manifest()}"):
        ground.mirror.on("GET", path, Reply(200, delay=never))
    config = ground.folder / "config.yaml"
    config.write_text(
        f"hosts:\n  {ground.upstream.host}:\n    mirrors:\n"
        f"      - url: {ground.mirror.url}\n        timeout: 1\n"
    )
    try:
        ground.pull(RESOLVER_MIRROR="", RESOLVER_CONFIG=str(config))
    finally:
        never.set()
    assert ground.warned() == ["mirror-unusable"]
    assert "within 1 s" in ground.messages()


def test_mirror_that_stalls_mid_stream_is_continued_from_upstream(ground: MirrorSetup) -> None:
    never = threading.Event()
    ground.mirror.on("GET", LAYER_PATH, Reply(200, body=LAYER, hold=never, hold_after=200_000))
    config = ground.folder / "config.yaml"
    config.write_text(
        f"hosts:\n  {ground.upstream.host}:\n    mirrors:\n"
        f"      - url: {ground.mirror.url}\n        timeout: 1\n"
    )
    try:
        ground.pull(RESOLVER_MIRROR="", RESOLVER_CONFIG=str(config))
    finally:
        never.set()
    assert ground.warned() == ["mirror-unusable"]
    [after] = ground.upstream.requests("GET", LAYER_PATH)
    assert after.headers["range"].startswith("bytes=")


def test_referrers_are_requested_from_trusted_mirrors(ground: MirrorSetup) -> None:
    """A referrers list cannot be verified by a digest."""
    digest = Digest.parse(IMAGE.digest)
    listed = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, separators=(",", ":")
    ).encode()
    for registry in (ground.mirror, ground.upstream):
        path = f"{BASE}/referrers/{IMAGE.digest}"
        registry.on("GET", path, Reply(200, {"Content-Type": OCI_INDEX}, listed))
    target = RegistryTarget(Reference.parse(ground.reference))
    for tags, asked in ((False, ground.upstream), (True, ground.mirror)):
        with ground.session(tags=tags) as session:
            source = session._context.source(target)
            assert isinstance(source, MirroredSource)
            assert source.referrers(digest) == ()
        assert [seen.path for seen in asked.log] == [f"{BASE}/referrers/{IMAGE.digest}"]
