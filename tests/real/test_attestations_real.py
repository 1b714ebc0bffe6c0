"""Attestations on docker-registry (fallback tags) and `serve --writable` (referrers API)."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.check.check import Requirements
from resolver.core.results.attestations import Place as Where
from resolver.core.results.attestations import State, TrustOptions
from resolver.render import Page, render
from resolver.session import Session
from tests.kit.attestations import (
    DSSE,
    IN_TOTO,
    SIGN,
    SLSA,
    SPDX,
    Place,
    buildkit,
    buildkit_entry,
    bundle,
    cosign_signature,
    manifest,
    statement,
)
from tests.kit.images import build_image, build_index
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
from tests.kit.writable import WritableRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.attestations import Attestations, Coverage
    from resolver.core.results.events import Event
    from tests.kit.images import Image
    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

NAMES = count()
DEPLOYMENT = Deployment()
KEYLESS = TrustOptions(identity=IDENTITY, issuer=ISSUER)


@pytest.fixture(params=["docker-registry", "writable"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A repository of a registry without the referrers API, and one with it."""
    repository = f"attested/app{next(NAMES)}"
    if request.param == "docker-registry":
        real: RealRegistry = request.getfixturevalue("registry")
        seen = [real.seen()]

        def logged() -> list[str]:
            found = real.requests(0, seen[0])
            seen[0] = real.seen()
            return found

        yield Place(real.host, repository, has_api=False, requests=logged)
        return
    with WritableRegistry(tmp_path / "writable") as running:
        begin = [0]

        def noted() -> list[str]:
            found = running.log[begin[0] :]
            begin[0] = len(running.log)
            return [f"{each.method} {each.path}" for each in found]

        yield Place(running.host, repository, has_api=True, requests=noted)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "store") as opened:
        yield opened


def two() -> tuple[Image, Image, Image]:
    amd64, arm64 = build_image("linux/amd64"), build_image("linux/arm64")
    return build_index([amd64, arm64]), amd64, arm64


def row(found: Attestations, name: str) -> Coverage:
    return next(each for each in found.rows if each.label == name)


def states(found: Attestations, kind: str) -> dict[str, str]:
    return {each.label: each.state(kind).value for each in found.rows}


def key_file(tmp_path: Path, key: Any) -> TrustOptions:
    path = tmp_path / "cosign.pub"
    path.write_bytes(pem(key))
    return TrustOptions(key=str(path))


def test_attestations_of_every_format_are_found(
    place: Place, session: Session, tmp_path: Path
) -> None:
    amd64 = build_image("linux/amd64")
    beside = buildkit(amd64, SPDX, SLSA, referrer=True)
    ignored = buildkit(amd64, "https://example.com/other")
    entries = [buildkit_entry(beside, amd64), buildkit_entry(ignored, amd64, "something-else")]
    image = build_index([amd64], extra=entries)
    for each in (beside, ignored):
        place.push(each, each.digest)
    place.push(image)
    key = new_key()
    signed = keyed_bundle(key, statement(amd64))
    attested = compact(envelope(key, statement(amd64, predicate=SPDX)))
    jws = compact({"payload": b64(compact({"targetArtifact": {"digest": amd64.digest}}))})
    notation = "application/vnd.cncf.notary.signature"
    made = [
        bundle(amd64, signed),
        manifest((DSSE, attested, {}), subject=amd64, kind=IN_TOTO),
        manifest(("application/vnd.dev.cosign.simplesigning.v1+json", *_signature(key, amd64)),
                 subject=amd64, kind="application/vnd.dev.cosign.artifact.sig.v1+json"),
        manifest(("application/jose+json", jws, {}), subject=amd64, kind=notation),
        manifest(("application/cose", b"\x84", {}), subject=amd64, config=notation),
        manifest(("application/vnd.cyclonedx+json", b'{"bomFormat": "CycloneDX"}', {}),
                 subject=amd64, kind="application/vnd.cyclonedx+json"),
        manifest(("application/spdx+json", b'{"spdxVersion": "SPDX-2.3"}', {}), subject=amd64,
                 kind="application/spdx+json"),
        manifest(("application/sarif+json", b'{"runs": []}', {}), subject=amd64,
                 kind="application/sarif+json"),
        manifest((IN_TOTO, statement(amd64, predicate="https://example.com/vsa"), {}),
                 subject=amd64, kind=IN_TOTO),
    ]  # fmt: skip
    place.attach(amd64, beside, *made)
    place.cosign(amd64, cosign_signature(key, amd64, ecdsa()), "sig")
    legacy = compact(envelope(key, statement(amd64, predicate=SLSA, content={"old": 1})))
    place.cosign(amd64, manifest((DSSE, legacy, {"predicateType": SLSA})), "att")
    place.cosign(amd64, manifest(("text/spdx", b"SPDXVersion: SPDX-2.3", {})), "sbom")

    found = session.attestations(place.name, trust=key_file(tmp_path, key))
    assert [each.label for each in found.rows] == ["index", "linux/amd64"]
    assert row(found, "index").attestations == ()
    listed = Where.REFERRER if place.has_api else Where.FALLBACK
    seen = {
        (each.kind, each.format, each.found, each.state.value)
        for each in row(found, "linux/amd64").attestations
    }
    assert seen == {
        ("sbom", "BuildKit statement", (Where.INDEX, listed), "present"),
        ("provenance", "BuildKit statement", (Where.INDEX, listed), "present"),
        ("signature", "Sigstore bundle", (listed,), "verified"),
        ("sbom", "DSSE envelope", (listed,), "verified"),
        ("signature", "cosign signature", (listed,), "verified"),
        ("signature", "cosign signature", (Where.COSIGN,), "verified"),
        ("signature", "notation signature", (listed,), "present"),
        ("sbom", "CycloneDX", (listed,), "present"),
        ("sbom", "SPDX", (listed,), "present"),
        ("other", "SARIF", (listed,), "present"),
        ("other", "in-toto statement", (listed,), "present"),
        ("provenance", "DSSE envelope", (Where.COSIGN,), "verified"),
        ("sbom", "SPDX", (Where.COSIGN,), "present"),
    }
    # The same without a key: nothing is verified, and the output says so.
    plain = session.attestations(place.name)
    assert State.VERIFIED not in {each.state for each in row(plain, "linux/amd64").attestations}
    assert "not verified: no key or identity was given" in render(plain, "table", page=Page(80))


def _signature(key: Any, subject: Image) -> tuple[bytes, dict[str, str]]:
    from tests.kit.attestations import payload

    body = payload(subject) + b"\n"
    return body, {"dev.cosignproject.cosign/signature": b64(key.sign(body, ecdsa()))}


def test_coverage_shows_the_platform_without_an_sbom(place: Place, session: Session) -> None:
    image, amd64, arm64 = two()
    place.push(image)
    sbom = statement(amd64, predicate=SPDX, content={"spdxVersion": "SPDX-2.3"})
    place.attach(amd64, manifest((IN_TOTO, sbom, {}), subject=amd64, kind=IN_TOTO))
    place.attach(arm64, bundle(arm64, compact(DEPLOYMENT.sign(statement(arm64)))))

    found = session.attestations(place.name)
    assert states(found, "sbom") == {
        "index": "absent", "linux/amd64": "present", "linux/arm64": "absent",
    }  # fmt: skip
    assert states(found, "signature")["linux/arm64"] == "present"
    drawn = render(found, "table", page=Page(80))
    assert max(map(len, drawn.splitlines())) <= 80
    wanted = Requirements(attestations=("sbom",))
    (missing,) = session.check(place.name, wanted).findings
    assert missing.message == "`linux/arm64` has no attestation of kind `sbom`; it has `signature`"
    shown = session.show_attestation(place.name, "sbom", "linux/amd64")
    assert shown.body == sbom


def test_sbom_of_the_index_is_not_taken_for_all_platforms(
    place: Place, session: Session, tmp_path: Path
) -> None:
    image, amd64, _arm64 = two()
    place.push(image)
    key = new_key()
    place.attach(
        image,
        bundle(image, keyed_bundle(key, statement(amd64, predicate=SPDX)), SPDX),
        bundle(image, keyed_bundle(key, statement(image, predicate=SLSA)), SLSA),
    )
    trust = key_file(tmp_path, key)

    found = session.attestations(place.name, trust=trust)
    assert states(found, "sbom") == {
        "index": "wrong subject", "linux/amd64": "absent", "linux/arm64": "absent",
    }  # fmt: skip
    assert row(found, "index").of("sbom")[0].reason == f"it is about `{amd64.digest}`"
    assert states(found, "provenance")["index"] == "verified"
    each = session.check(place.name, Requirements(attestations=("sbom",), trust=trust))
    assert len(each.findings) == 2
    index = Requirements(attestations=("sbom", "provenance"), cover="index", trust=trust)
    (finding,) = session.check(place.name, index).findings
    assert finding.message.startswith("the sbom of the index does not count: wrong subject")


def test_signature_copied_from_another_image_is_never_verified(
    place: Place, session: Session, tmp_path: Path
) -> None:
    image, amd64, arm64 = two()
    other = build_image("linux/386")
    place.push(image)
    place.push(other, "other")
    key = new_key()
    place.attach(amd64, bundle(amd64, keyed_bundle(key, statement(other))))
    place.cosign(arm64, cosign_signature(key, other, ecdsa()), "sig")
    trust = key_file(tmp_path, key)

    found = session.attestations(place.name, trust=trust)
    assert states(found, "signature") == {
        "index": "absent", "linux/amd64": "wrong subject", "linux/arm64": "wrong subject",
    }  # fmt: skip
    assert not found.passed
    wanted = Requirements(attestations=("signature",), trust=trust)
    assert [each.rule for each in session.check(place.name, wanted).findings] == [
        "attestation-unusable",
        "attestation-unusable",
    ]


def test_unreadable_bundles_do_not_hide_the_others(place: Place, session: Session) -> None:
    image = build_image("linux/amd64")
    place.push(image)
    whole = compact(DEPLOYMENT.sign(statement(image)))
    huge = compact({"mediaType": "x" * (4 << 20)})
    place.attach(
        image,
        bundle(image, whole),
        bundle(image, whole[: len(whole) // 2], SIGN),
        bundle(image, huge, SLSA),
    )
    place.requests()

    found = session.attestations(place.name)
    (only,) = found.rows
    assert [each.state.value for each in only.of("signature")] == ["present", "unreadable"]
    (large,) = only.of("provenance")
    assert (large.state, "4194304" in large.reason) == (State.UNREADABLE, True)
    # The size is known beforehand, so that it is not even requested.
    assert not any(str(large.blob and large.blob.digest) in each for each in place.requests())


def test_registry_that_answers_the_subject_at_the_fallback_tag(
    place: Place, tmp_path: Path
) -> None:
    image, amd64, _arm64 = two()
    place.push(image)
    for each in (image, amd64):
        # Such a tag exists if somebody pushed to it; GitLab resolves it without that.
        place.push(each, each.digest.replace(":", "-"))
    events: list[Event] = []
    with Session(tmp_path / "store", observe=events.append) as session:
        found = session.attestations(place.name)

    assert all(not each.attestations for each in found.rows)
    warned = [str(event) for event in events if "not a list of referrers" in str(event)]
    assert len(warned) == (0 if place.has_api else 2)


def test_requests_for_nine_platforms_and_again_when_warm(place: Place, session: Session) -> None:
    names = ["amd64", "arm64", "arm/v7", "arm/v6", "386", "ppc64le", "s390x", "riscv64", "mips64le"]
    images = [build_image(f"linux/{name}") for name in names]
    index = build_index(images)
    place.push(index)
    for each in images:
        place.attach(each, bundle(each, compact(DEPLOYMENT.sign(statement(each)))))
    place.requests()

    found = session.attestations(place.name)
    cold = place.requests()
    assert list(states(found, "signature").values()) == ["absent", *["present"] * 9]
    lists = [each for each in cold if "/referrers/" in each]
    tags = [each for each in cold if "/tags/list" in each]
    assert (len(lists), len(tags)) == ((10 if place.has_api else 1), 1)
    # The index, a manifest and a bundle for each, and where needed a fallback tag for each.
    assert len(cold) == 1 + len(lists) + len(tags) + 9 * (2 if place.has_api else 3)

    again = session.attestations(place.name)
    warm = place.requests()
    assert again.rows[3].of("signature") == found.rows[3].of("signature")
    # The tag, and the lists; what was read is in the store.
    fallback = 0 if place.has_api else 9
    assert len(warm) == 1 + len(lists) - (0 if place.has_api else 1) + len(tags) + fallback
    assert not any("/blobs/" in each for each in warm)


def test_check_requires_identity_key_and_cover(
    place: Place, session: Session, tmp_path: Path
) -> None:
    image, amd64, arm64 = two()
    place.push(image)
    (tmp_path / "root.json").write_bytes(DEPLOYMENT.trusted_root())
    trust = TrustOptions(identity=IDENTITY, issuer=ISSUER, trusted_root=str(tmp_path / "root.json"))
    place.attach(image, bundle(image, compact(DEPLOYMENT.sign(statement(image)))))
    place.attach(amd64, bundle(amd64, compact(DEPLOYMENT.sign(statement(amd64)))))
    other = compact(DEPLOYMENT.sign(statement(arm64), identity="https://ci.example.com/fork"))
    place.attach(arm64, bundle(arm64, other))

    index = Requirements(attestations=("signature",), cover="index", trust=trust)
    assert session.check(place.name, index).passed
    each = Requirements(attestations=("signature",), trust=trust)
    (finding,) = session.check(place.name, each).findings
    assert (finding.platform, finding.rule) == ("linux/arm64", "attestation-unusable")
    assert "invalid: Certificate's SANs do not match" in finding.message
    assert session.check(place.name, Requirements(attestations=("signature",))).passed
    policy = tmp_path / "policy.json"
    policy.write_text(
        json.dumps(
            {
                "version": 1,
                "defaults": {
                    "require-attestation": "signature",
                    "issuer": ISSUER,
                    "trusted-root": "root.json",
                },
                "images": [
                    {"image": place.name, "identity": IDENTITY, "cover": "index"},
                    {"image": place.name, "identity": IDENTITY},
                ],
            }
        )
    )
    checked = session.check_policy(str(policy))
    assert [each.passed for each in checked.looked_at] == [True, False]


def test_copy_keeps_what_attestations_lists(
    place: Place, session: Session, registry: RealRegistry, tmp_path: Path
) -> None:
    _image, amd64, arm64 = two()
    beside = buildkit(amd64, SLSA)
    index = build_index([amd64, arm64], extra=[buildkit_entry(beside, amd64)])
    place.push(beside, beside.digest)
    place.push(index)
    key = new_key()
    place.attach(amd64, bundle(amd64, keyed_bundle(key, statement(amd64))))
    place.attach(index, manifest((IN_TOTO, statement(index, predicate=SPDX), {}), subject=index,
                                 kind=IN_TOTO))  # fmt: skip
    place.cosign(arm64, cosign_signature(key, arm64, ecdsa()), "sig")
    before = session.attestations(place.name)

    target = f"{registry.host}/copied/app{next(NAMES)}:1"
    layout = f"oci:{tmp_path / 'layout'}:1"
    session.copy(session.plan_copy(place.name, [target, layout]))
    session.copy(session.plan_copy(layout, f"{target}-again"))
    for name in (target, layout, f"{target}-again"):
        assert listed(session.attestations(name)) == listed(before)
    assert [len(each) for each in listed(before)] == [1, 2, 1]


def listed(found: Attestations) -> list[set[tuple[str, str, str]]]:
    return [
        {(each.kind, str(each.manifest.digest), each.state.value) for each in one.attestations}
        for one in found.rows
    ]
