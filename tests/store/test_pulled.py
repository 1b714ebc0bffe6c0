"""Records of pulled images, which only another pull changes."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import Attached
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Warned
from resolver.core.results.pull import PulledImage, PulledName
from resolver.errors import StoreFault
from resolver.store import BadName, LocalStore, NameRecord, reachable
from resolver.store.files import Patience, StoreFolder
from resolver.store.folder import Home
from resolver.store.names import PULLED, Records, file_name
from tests.kit.images import build_image, multi_platform
from tests.kit.stored_images import fill, pull, record_of

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.results.events import Event

APP = "docker.io/library/app:1"
PLATFORMS = [f"linux/arm/v{number}" for number in range(1, 9)]
MANY = multi_platform(*PLATFORMS)
ONE = build_image("linux/amd64")


def place_of(store: LocalStore, reference: str = APP) -> Path:
    return store.root / "names" / file_name(reference)


def platforms(record: PulledName | None) -> list[str]:
    assert record is not None
    return [str(image.platform) for image in record.images]


def test_pulled_image_is_recorded_until_removed(store: LocalStore) -> None:
    assert store.pulled(APP) is None
    record = pull(store, APP, ONE, at=5)

    assert store.pulled(APP) == record == record_of(APP, ONE, at=5)
    assert list(store.pulled_names()) == [record]
    assert store.unname(APP)
    assert store.pulled(APP) is None
    assert not store.unname(APP)


def test_pulled_record_adds_platforms_of_the_same_root(store: LocalStore) -> None:
    pull(store, APP, MANY, PLATFORMS[1:2], at=1)
    pull(store, APP, MANY, PLATFORMS[:1], at=2)

    record = store.pulled(APP)
    assert platforms(record) == PLATFORMS[:2]
    assert record is not None
    assert record.pulled_at == 2


def test_pull_of_another_root_replaces_the_record(store: LocalStore) -> None:
    pull(store, APP, MANY)
    pull(store, APP, ONE)

    assert store.pulled(APP) == record_of(APP, ONE)
    assert len(list((store.root / "names").iterdir())) == 1


def test_concurrent_pulls_of_platforms_lose_none(store: LocalStore) -> None:
    fill(store, MANY)

    def name(platform: str) -> None:
        LocalStore(store.root, fsync=False).name(record_of(APP, MANY, [platform]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(name, PLATFORMS))

    assert platforms(store.pulled(APP)) == PLATFORMS


def test_resolve_of_a_moved_tag_does_not_change_the_pulled_record(
    store: LocalStore,
) -> None:
    record = pull(store, APP, ONE)
    store.remember(NameRecord(APP, MANY.descriptor))

    assert store.pulled(APP) == record
    assert store.resolve(APP) == ONE.descriptor
    assert store.document(APP) == Document(ONE.descriptor, ONE.body)
    known = store.recall(APP)
    assert known is not None
    assert known.root == MANY.descriptor


def test_pulled_image_is_found_without_a_resolve_record(store: LocalStore) -> None:
    pull(store, APP, ONE)

    assert store.recall(APP) == NameRecord(APP, ONE.descriptor)
    assert list(store.tags()) == [APP]
    store.remember(NameRecord("quay.io/app:1", MANY.descriptor))
    assert list(store.tags()) == [APP, "quay.io/app:1"]


text = st.text(st.characters(codec="utf-8"), max_size=20)
#: An empty platform is valid: an index entry without values.
some_platforms = st.builds(
    Platform, text, text, text, text, st.lists(text.filter(bool), max_size=3).map(tuple)
)
descriptors = st.builds(
    Descriptor,
    st.sampled_from([OCI_INDEX, OCI_MANIFEST]),
    st.binary(max_size=3).map(Digest.of),
    st.integers(0, 2**63 - 1),
)


@given(
    record=st.builds(
        PulledName,
        text.filter(bool),
        descriptors,
        st.lists(st.builds(PulledImage, st.none() | some_platforms, descriptors), max_size=4).map(
            tuple
        ),
        st.integers(0, 2**62),
    )
)
def test_any_pulled_record_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, record: PulledName
) -> None:
    folder = tmp_path_factory.getbasetemp() / "pulled"
    home = Home(folder, sync=False, lock=True, patience=Patience())
    records = Records(home, PULLED, lambda _event: None)

    records.put(record)

    assert records.get(record.reference) == record


def test_pulled_record_is_deterministic_and_has_a_schema(store: LocalStore) -> None:
    pull(store, APP, ONE, at=7)

    written = place_of(store).read_text()
    assert written == json.dumps(json.loads(written), sort_keys=True, indent=2) + "\n"
    identity = {"mediaType": ONE.media_type, "digest": ONE.digest, "size": ONE.size}
    platform = {"os": "linux", "architecture": "amd64", "variant": "", "os.version": "",
                "os.features": []}  # fmt: skip
    assert json.loads(written) == {
        "schema": 1,
        "reference": APP,
        "root": identity,
        "images": [{"platform": platform, "manifest": identity}],
        "pulledAt": 7,
    }


def test_damaged_pulled_record_is_reported_and_can_be_replaced(
    store: LocalStore, events: list[Event]
) -> None:
    record = pull(store, APP, ONE)
    good = json.loads(place_of(store).read_text())
    damages = [
        b"",
        b"[]",
        json.dumps({**good, "schema": 2}).encode(),
        json.dumps({**good, "images": [{}]}).encode(),
        json.dumps({**good, "images": "all"}).encode(),
        json.dumps({**good, "root": None}).encode(),
        json.dumps({**good, "pulledAt": -1}).encode(),
        json.dumps({**good, "reference": "quay.io/app:1"}).encode(),
        json.dumps({k: v for k, v in good.items() if k != "pulledAt"}).encode(),
    ]
    for damage in damages:
        place_of(store).write_bytes(damage)
        assert store.pulled(APP) is None, damage
        assert list(store.pulled_names()) == []
        assert [type(entry) for entry in store._pulled.entries()] == [BadName]
    codes = {event.code for event in events if isinstance(event, Warned)}
    assert codes == {"store-bad-name"}

    assert store.name(record) == record


def test_planted_symlink_record_is_not_read_and_is_replaced(
    store: LocalStore, tmp_path: Path
) -> None:
    record = pull(store, APP, ONE)
    canary = tmp_path / "canary"
    os.replace(place_of(store), canary)  # noqa: PTH105 - one word
    place_of(store).symlink_to(canary)
    before = canary.read_bytes()

    assert store.pulled(APP) is None
    store.name(record)

    assert store.pulled(APP) == record
    assert canary.read_bytes() == before


def test_foreign_layers_may_be_missing(store: LocalStore) -> None:
    """Foreign layers, such as Docker's Windows base layers, are skipped by default."""
    layer = Digest.of(b"elsewhere")
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "x", "digest": str(Digest.of(b"{}")), "size": 2},
            "layers": [
                {"mediaType": "x", "digest": str(layer), "size": 9, "urls": ["https://e.example"]}
            ],
        }
    ).encode()
    root = Descriptor(OCI_MANIFEST, Digest.of(body), len(body))
    store.add_document(Document(root, body))
    record = PulledName(APP, root, (PulledImage(None, root),))

    with pytest.raises(StoreFault, match=Digest.of(b"{}").hex):
        store.name(record)
    store.add(Descriptor("x", Digest.of(b"{}"), 2), [b"{}"])

    assert store.name(record) == record
    assert store.name(replace(record, pulled_at=9)).pulled_at == 9


def test_list_index_of_a_large_store_includes_attestations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "LEAST", 64)
    monkeypatch.setattr("resolver.store.reachable._BLURRED", -(10**15))
    image = multi_platform("linux/amd64", attestations=True)
    (about,) = (one for one in image.children if one.attestation_of)
    store = LocalStore(tmp_path / "store", fsync=False)
    fill(store, image)
    fill(store, about)
    attached = Attached("attestation", about.descriptor, Digest.parse(about.attestation_of))
    for number in range(reachable.LEAST):
        record = record_of(f"docker.io/library/app:{number}", image)
        store.name(replace(record, attached=(attached,)))
    first = store.images()

    with StoreFolder(os.open(store.root, os.O_RDONLY), str(store.root)) as root:
        kept = reachable.read_index(root, reachable.Files(root))

    assert len(kept) == reachable.LEAST
    assert store.images() == first
    assert all(row.attached == (attached,) for row in first)
