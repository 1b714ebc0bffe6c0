"""Where attestations are looked for, and what is read, beside the tests on real registries."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.check.check import Requirements
from resolver.core.compare.compare import Thresholds
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.results.attestations import Place, State, TrustOptions
from resolver.errors import (
    Denied,
    DigestMismatch,
    LimitExceeded,
    Negative,
    NotFound,
    NotInStore,
    Usage,
)
from resolver.session import Session
from resolver.verbs import attestations as verb
from resolver.verbs.documents import DocumentReader
from tests.kit.attestations import (
    DSSE,
    IN_TOTO,
    SIMPLE,
    SLSA,
    SPDX,
    bundle,
    cosign_signature,
    manifest,
    payload,
    refer,
    statement,
)
from tests.kit.images import build_image, build_index, multi_platform
from tests.kit.messages import Reply
from tests.kit.sigstore import (
    IDENTITY,
    ISSUER,
    Deployment,
    b64,
    compact,
    ecdsa,
    envelope,
    keyed_bundle,
    new_key,
    pem,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.attestations import Attestations
    from resolver.core.results.events import Event
    from tests.kit.registry import FakeRegistry

AMD64, ARM64 = "linux/amd64", "linux/arm64/v8"
KEY = new_key()


@pytest.fixture
def key(tmp_path: Path) -> TrustOptions:
    path = tmp_path / "cosign.pub"
    path.write_bytes(pem(KEY))
    return TrustOptions(key=str(path))


def states(found: Attestations) -> dict[str, list[str]]:
    return {
        row.label: [f"{each.kind} {each.state.value}" for each in row.attestations]
        for row in found.rows
    }


def test_single_image_has_one_row(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    refer(registry, image, bundle(image, keyed_bundle(KEY, statement(image))))

    with Session(tmp_path) as session:
        assert states(session.attestations(f"{registry.host}/app:1")) == {
            AMD64: ["signature present"]
        }


def test_platform_limits_the_rows_and_requests(registry: FakeRegistry, tmp_path: Path) -> None:
    image = multi_platform(AMD64, ARM64)
    registry.serve("app", "1", image)
    for child in image.children:
        refer(registry, child, bundle(child, keyed_bundle(KEY, statement(child))))

    with Session(tmp_path) as session:
        found = session.attestations(f"{registry.host}/app:1", "linux/arm64")
        assert states(found) == {ARM64: ["signature present"]}
        assert len(registry.requests("GET", "/referrers/")) == 1
        with pytest.raises(NotFound, match="is not offered for `linux/s390x`"):
            session.attestations(f"{registry.host}/app:1", "linux/s390x")


def test_tags_are_requested_one_by_one_where_the_list_is_refused(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    refer(registry, image, bundle(image, keyed_bundle(KEY, statement(image))), api=False)
    tag = image.digest.replace(":", "-")
    registry.serve("app", f"{tag}.sig", cosign_signature(KEY, image, ecdsa()))
    registry.on("GET", "/v2/app/tags/list", Reply(403))

    with Session(tmp_path) as session:
        (row,) = session.attestations(f"{registry.host}/app:1").rows

    assert [each.found for each in row.attestations] == [(Place.FALLBACK,), (Place.COSIGN,)]


@pytest.mark.parametrize("path", ["referrers/{digest}", "blobs/{blob}"])
def test_what_could_not_be_found_out_is_an_error(
    registry: FakeRegistry, tmp_path: Path, path: str
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    signed = bundle(image, keyed_bundle(KEY, statement(image)))
    blob = next(digest for digest, body in signed.blobs.items() if body != b"{}")
    registry.on("GET", f"/v2/app/{path.format(digest=image.digest, blob=blob)}", Reply(403))
    refer(registry, image, signed)

    with Session(tmp_path) as session:
        with pytest.raises(Denied):
            session.attestations(f"{registry.host}/app:1")
        with pytest.raises(Denied):
            session.check(f"{registry.host}/app:1", Requirements(attestations=("signature",)))


def test_missing_and_wrong_content_is_unreadable(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    lost = bundle(image, keyed_bundle(KEY, statement(image)))
    wrong = bundle(image, keyed_bundle(KEY, statement(image, predicate=SLSA)), SLSA)
    gone = bundle(image, keyed_bundle(KEY, statement(image, predicate=SPDX)), SPDX)
    refer(registry, image, lost, wrong, gone)
    for made, reply in ((lost, Reply(404)), (wrong, Reply(200, {}, b"other bytes"))):
        blob = next(digest for digest, body in made.blobs.items() if body != b"{}")
        registry.on("GET", f"/v2/app/blobs/{blob}", reply)
    registry.on("GET", f"/v2/app/manifests/{gone.digest}", Reply(404))

    with Session(tmp_path) as session:
        (row,) = session.attestations(f"{registry.host}/app:1").rows

    assert {each.state for each in row.attestations} == {State.UNREADABLE}
    assert sorted(each.kind for each in row.attestations) == ["other", "provenance", "signature"]
    assert all(each.reason for each in row.attestations)


def test_referrer_of_another_manifest_is_of_the_wrong_subject(
    registry: FakeRegistry, tmp_path: Path, key: TrustOptions
) -> None:
    image, other = build_image(AMD64), build_image(ARM64)
    registry.serve("app", "1", image)
    # The list names it, and the statement is right, but its manifest refers to something else.
    refer(registry, image, bundle(other, keyed_bundle(KEY, statement(image))))

    with Session(tmp_path) as session:
        found = session.attestations(f"{registry.host}/app:1", trust=key)

    (made,) = found.rows[0].attestations
    assert made.state is State.WRONG_SUBJECT
    assert made.reason == f"its manifest refers to `{other.digest}`"
    assert [each.rule for each in found.findings] == ["attestation-wrong-subject"]


def test_large_sbom_is_read_and_kept(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    content = {"files": ["f" * 1000] * 5_000}
    body = statement(image, predicate=SPDX, content=content)
    assert len(body) > 4 << 20
    refer(registry, image, manifest((IN_TOTO, body, {}), subject=image, kind=IN_TOTO))

    with Session(tmp_path) as session:
        name = f"{registry.host}/app:1"
        assert states(session.attestations(name)) == {AMD64: ["sbom present"]}
        before = len(registry.requests("GET", "/blobs/"))
        assert session.show_attestation(name, "sbom").body == body
        assert len(registry.requests("GET", "/blobs/")) == before


def test_large_blob_comes_from_another_mirror_after_wrong_bytes() -> None:
    right = b"x" * (5 << 20)
    descriptor = Descriptor(IN_TOTO, Digest.of(right), len(right))

    class Mirrors:
        """Serves wrong bytes until it is told so."""

        def __init__(self, hosts: list[bytes]) -> None:
            self.hosts = hosts

        @contextmanager
        def open(self, _descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
            yield iter([self.hosts[0][:1000], self.hosts[0][1000:]])

        def distrust(self, _digest: Digest) -> bool:
            self.hosts.pop(0)
            return bool(self.hosts)

    def reader(*hosts: bytes) -> DocumentReader:
        source: Any = Mirrors(list(hosts))
        return DocumentReader(lambda: source, None, "app")

    wrong = b"y" * len(right)
    assert reader(wrong, right + b"x", right).blob(descriptor, 6 << 20, "it") == right
    with pytest.raises(DigestMismatch):
        reader(wrong).blob(descriptor, 6 << 20, "it")
    with pytest.raises(LimitExceeded):
        reader(right).blob(descriptor, len(right) - 1, "it")


def test_attestations_of_a_pulled_image_are_found_offline(
    registry: FakeRegistry, tmp_path: Path, key: TrustOptions
) -> None:
    image = build_index([build_image(AMD64)], attestations=True)
    amd64 = image.children[0]
    registry.serve("app", "1", image)
    refer(registry, image)
    refer(registry, amd64, bundle(amd64, keyed_bundle(KEY, statement(amd64))))
    tag = image.digest.replace(":", "-")
    registry.serve("app", f"{tag}.sig", cosign_signature(KEY, image, ecdsa()))
    name = f"{registry.host}/app:1"
    with Session(tmp_path / "a") as session:
        session.pull(name, "all", referrers=True)
    with Session(tmp_path / "b") as session:
        session.pull(name, "all")
        session.attestations(name, AMD64)
    begin = len(registry.log)

    with Session(tmp_path / "a", offline=True) as session:
        assert states(session.attestations(name, trust=key)) == {
            "index": ["signature verified"],
            AMD64: ["provenance present", "signature verified"],
        }
        wanted = Requirements(attestations=("signature",), trust=key)
        assert session.check(name, wanted).passed
        assert states(session.attestations(f"store:{name}"))["index"] == ["signature present"]
    events: list[Event] = []
    with Session(tmp_path / "b", offline=True, observe=events.append) as session:
        assert states(session.attestations(name))[AMD64] == ["provenance present"]
        assert any("was not looked up: it is not in the store" in str(event) for event in events)
        with pytest.raises(NotInStore):
            session.check(name, wanted)
    assert len(registry.log) == begin


def test_show_returns_the_statement_that_was_signed(
    registry: FakeRegistry, tmp_path: Path, key: TrustOptions
) -> None:
    image = multi_platform(AMD64, ARM64)
    amd64, arm64 = image.children
    registry.serve("app", "1", image)
    sbom = statement(amd64, predicate=SPDX, content={"spdxVersion": "SPDX-2.3"})
    wrapped = manifest((DSSE, compact(envelope(KEY, sbom)), {}), subject=amd64, kind=IN_TOTO)
    refer(registry, amd64, wrapped)
    refer(registry, arm64, bundle(arm64, keyed_bundle(KEY, statement(amd64, predicate=SPDX)), SPDX))
    refer(registry, image, bundle(image, keyed_bundle(new_key(), statement(image, predicate=SPDX))))
    name = f"{registry.host}/app:1"

    with Session(tmp_path) as session:
        assert session.show_attestation(name, "sbom", "linux/amd64", trust=key).body == sbom
        with pytest.raises(Negative, match="because it is wrong subject: it is about"):
            session.show_attestation(name, "sbom", "linux/arm64")
        assert session.show_attestation(name, "sbom").body == statement(image, predicate=SPDX)
        with pytest.raises(Negative, match="because it is invalid: the signature is not by"):
            session.show_attestation(name, "sbom", trust=key)
        with pytest.raises(NotFound, match="has no provenance for `index`") as caught:
            session.show_attestation(name, "provenance")
        assert caught.value.hints()[0].startswith("name a platform")
        with pytest.raises(Usage, match="`vex` is not a kind"):
            session.show_attestation(name, "vex")


def test_show_of_an_unsigned_document_needs_no_trust(
    registry: FakeRegistry, tmp_path: Path, key: TrustOptions
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    kind = "application/spdx+json"
    refer(registry, image, manifest((kind, b'{"spdx": 1}', {}), subject=image, kind=kind))

    with Session(tmp_path) as session:
        assert session.show_attestation(f"{registry.host}/app:1", "sbom").body == b'{"spdx": 1}'
        with pytest.raises(Negative, match="because it is not verified: not signed"):
            session.show_attestation(f"{registry.host}/app:1", "sbom", trust=key)


def test_nothing_is_verified_without_a_key_or_an_identity(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    deployment = Deployment()
    signature = {"dev.cosignproject.cosign/signature": b64(KEY.sign(payload(image), ecdsa()))}
    made = [
        bundle(image, keyed_bundle(KEY, statement(image))),
        bundle(image, compact(deployment.sign(statement(image)))),
        bundle(image, compact(deployment.sign(image.body, message=True))),
        manifest((DSSE, compact(envelope(KEY, statement(image))), {}), subject=image),
        manifest((SIMPLE, payload(image), signature), subject=image),
    ]
    refer(registry, image, *made)

    with Session(tmp_path) as session:
        found = session.attestations(f"{registry.host}/app:1")
        assert {each.state for each in found.rows[0].attestations} == {State.PRESENT}
        assert len(found.rows[0].attestations) == 5
        assert found.verified_with == ""
        root = tmp_path / "root.json"
        root.write_bytes(deployment.trusted_root())
        for half in ({"identity": IDENTITY}, {"issuer": ISSUER}, {}):
            options = TrustOptions(**half, trusted_root=str(root))
            with pytest.raises(Usage, match="together with its issuer"):
                session.attestations(f"{registry.host}/app:1", trust=options)
        whole = TrustOptions(identity=IDENTITY, issuer=ISSUER, trusted_root=str(root))
        found = session.attestations(f"{registry.host}/app:1", trust=whole)
        assert sum(e.state is State.VERIFIED for e in found.rows[0].attestations) == 2


def test_public_trusted_root_comes_from_the_package(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    refer(registry, image, bundle(image, compact(Deployment().sign(statement(image)))))

    with Session(tmp_path) as session:
        trust = TrustOptions(identity=IDENTITY, issuer=ISSUER)
        found = session.attestations(f"{registry.host}/app:1", trust=trust)

    (made,) = found.rows[0].attestations
    assert made.state is State.INVALID
    assert not found.passed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "{dir}/none.pub"}, "cannot read .*none.pub"),
        ({"key": "{dir}/big"}, "too large for a public key"),
        ({"key": "{dir}/text"}, "is not a public key"),
        ({"key": "{dir}/text", "identity": "i"}, "exclude each other"),
        ({"identity": "i", "issuer": "u", "trusted_root": "{dir}/text"}, "is not a trusted root"),
        ({"identity": "i", "issuer": "u", "trusted_root": "{dir}"}, "cannot read"),
    ],
)
def test_unusable_trust_is_refused_before_any_request(
    registry: FakeRegistry, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    (tmp_path / "text").write_bytes(b"nothing")
    (tmp_path / "big").write_bytes(b"x" * (1 << 17))
    trust = TrustOptions(**{name: text.format(dir=tmp_path) for name, text in options.items()})

    with Session(tmp_path / "store") as session:
        name = f"{registry.host}/app:1"
        with pytest.raises(Usage, match=message):
            session.attestations(name, trust=trust)
        with pytest.raises(Usage, match=message):
            session.check(name, Requirements(attestations=("signature",), trust=trust))
    assert registry.log == []


def test_key_without_a_required_attestation_is_refused(
    registry: FakeRegistry, tmp_path: Path, key: TrustOptions
) -> None:
    with Session(tmp_path) as session, pytest.raises(Usage, match="none is required"):
        session.check(f"{registry.host}/app:1", Requirements(max_age=60, trust=key))


def test_unsigned_sbom_does_not_meet_a_key(
    registry: FakeRegistry, tmp_path: Path, key: TrustOptions
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, attestations=True))
    name = f"{registry.host}/app:1"

    with Session(tmp_path) as session:
        assert session.check(name, Requirements(attestations=("provenance",))).passed
        (found,) = session.check(
            name, Requirements(attestations=("provenance",), trust=key)
        ).findings
    assert found.message == f"the provenance of `{AMD64}` does not count: not verified: not signed"


def test_every_signature_of_one_payload_is_listed(
    registry: FakeRegistry, tmp_path: Path, key: TrustOptions
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    body = payload(image)
    signed = [
        {"dev.cosignproject.cosign/signature": b64(each.sign(body, ecdsa()))}
        for each in (new_key(), KEY)
    ]
    tag = image.digest.replace(":", "-")
    registry.serve("app", f"{tag}.sig", manifest(*((SIMPLE, body, each) for each in signed)))

    with Session(tmp_path) as session:
        (row,) = session.attestations(f"{registry.host}/app:1", trust=key).rows
    assert [each.state for each in row.of("signature")] == [State.VERIFIED, State.INVALID]


def test_manifest_without_content_is_no_attestation(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    claims = {"dev.sigstore.bundle.predicateType": SPDX}
    refer(registry, image, manifest(subject=image, kind=SPDX, annotations=claims))

    with Session(tmp_path) as session:
        assert states(session.attestations(f"{registry.host}/app:1")) == {
            AMD64: ["sbom unreadable"]
        }
        found = session.check(f"{registry.host}/app:1", Requirements(attestations=("sbom",)))
    assert [each.rule for each in found.findings] == ["attestation-unusable"]


def test_number_of_referrers_is_limited(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    made = [
        bundle(image, keyed_bundle(KEY, statement(image, content={"number": number})))
        for number in range(3)
    ]
    refer(registry, image, *made)

    with Session(tmp_path) as session:
        monkeypatch.setattr(verb, "MAX_READ", 3)
        assert len(session.attestations(f"{registry.host}/app:1").rows[0].attestations) == 3
        monkeypatch.setattr(verb, "MAX_READ", 2)
        with pytest.raises(LimitExceeded, match="2 manifests: 3"):
            session.attestations(f"{registry.host}/app:1")


@pytest.mark.parametrize("is_same", [True, False])
def test_compare_lists_attestations_that_a_copy_lost(
    registry: FakeRegistry, tmp_path: Path, is_same: bool
) -> None:
    image = multi_platform(AMD64, ARM64)
    other = image if is_same else multi_platform(AMD64, ARM64, "linux/386")
    registry.serve("app", "1", image)
    registry.serve("copy", "1", other)
    amd64 = image.children[0]
    refer(registry, image)
    refer(registry, amd64, bundle(amd64, keyed_bundle(KEY, statement(amd64))))
    names = (f"{registry.host}/app:1", f"{registry.host}/copy:1")

    with Session(tmp_path) as session:
        found = session.compare_images(*names, attestations=True)
        assert found.attestations is not None
        assert [(each.name, each.kind, each.before, each.after) for each in found.attestations] == [
            (AMD64, "signature", State.PRESENT, State.ABSENT)
        ]
        assert found.reasons[0].message == f"the signature of `{AMD64}` was present and is absent"
        limits = Thresholds(fail_on=frozenset({"attestations"}))
        only = session.compare_images(*names, attestations=True, thresholds=limits)
        assert [reason.aspect for reason in only.reasons] == ["attestations"]
        assert session.compare_images(names[0], names[0], attestations=True).reasons == ()
        assert session.compare_images(*names).attestations is None
        with pytest.raises(Usage, match="only on request"):
            session.compare_images(*names, thresholds=limits)
