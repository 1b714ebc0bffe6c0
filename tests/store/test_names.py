"""Name records of the store."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.results.events import Warned
from resolver.errors import BlobNotFound
from resolver.store import BadName, LocalStore, NameRecord
from resolver.store.names import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.core.results.events import Event

BODY = b'{"schemaVersion":2,"manifests":[]}'
ROOT = Descriptor(OCI_INDEX, Digest.of(BODY), len(BODY))
APP = "docker.io/library/app:1"
RECORD = NameRecord(APP, ROOT)


def place_of(store: LocalStore, reference: str = APP) -> Path:
    return store.root / "seen" / f"{hashlib.sha256(reference.encode()).hexdigest()}.json"


def test_name_is_known_until_removed(store: LocalStore) -> None:
    store.remember(RECORD)

    assert store.recall(APP) == RECORD
    assert store.recall("docker.io/library/app:2") is None
    assert list(store.names()) == [RECORD]
    assert store.forget(APP)
    assert store.recall(APP) is None
    assert not store.forget(APP)


def test_name_recorded_again_has_the_new_content(store: LocalStore) -> None:
    store.remember(NameRecord(APP, ROOT))
    moved = NameRecord(APP, Descriptor(OCI_INDEX, Digest.of(b"new"), 3))
    store.remember(moved)

    assert store.recall(APP) == moved
    assert len(list((store.root / "seen").iterdir())) == 1


def test_equivalent_references_are_separate_names(store: LocalStore) -> None:
    store.remember(RECORD)
    store.remember(NameRecord("quay.io/app:1", ROOT))

    assert sorted(store.tags()) == [APP, "quay.io/app:1"]


def test_name_record_is_deterministic_and_has_a_schema(store: LocalStore) -> None:
    store.remember(NameRecord(APP, ROOT))

    written = place_of(store).read_text()
    assert written == json.dumps(json.loads(written), sort_keys=True, indent=2) + "\n"
    assert json.loads(written) == {
        "schema": 1,
        "reference": APP,
        "root": {"mediaType": OCI_INDEX, "digest": str(ROOT.digest), "size": len(BODY)},
    }


@given(
    reference=st.text(st.characters(codec="utf-8"), min_size=1),
    size=st.integers(0, 2**63 - 1),
)
def test_any_recorded_name_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, reference: str, size: int
) -> None:
    store = LocalStore(tmp_path_factory.getbasetemp() / "recalled", fsync=False)
    record = NameRecord(reference, Descriptor(OCI_INDEX, ROOT.digest, size))

    store.remember(record)

    assert store.recall(reference) == record


def test_longest_reference_fits(store: LocalStore) -> None:
    name = f"registry.example.com:5000/{'a' * 229}:{'t' * 128}"
    store.remember(NameRecord(name, ROOT))

    assert store.recall(name) == NameRecord(name, ROOT)


def good() -> dict[str, Any]:
    root = {"mediaType": OCI_INDEX, "digest": str(ROOT.digest), "size": len(BODY)}
    return {"schema": 1, "reference": APP, "root": root}


def with_root(**fields: object) -> dict[str, Any]:
    return {**good(), "root": {**good()["root"], **fields}}


DAMAGE: dict[str, bytes] = {
    "empty": b"",
    "cut short": json.dumps(good()).encode()[:-5],
    "not json": b"\x00\xff",
    "a list": b"[]",
    "twice the same member": b'{"schema":1,"schema":1}',
    "too large": b" " * (MAX_NAME + 1),
    "another schema": json.dumps({**good(), "schema": 2}).encode(),
    "no reference": json.dumps({**good(), "reference": ""}).encode(),
    "another reference": json.dumps({**good(), "reference": "quay.io/app:1"}).encode(),
    "no root": json.dumps({**good(), "root": None}).encode(),
    "a path for a digest": json.dumps(with_root(digest="sha256:../../x")).encode(),
    "a digest that cannot be checked": json.dumps(with_root(digest="md5:00")).encode(),
    "true for a size": json.dumps(with_root(size=True)).encode(),
    "a negative size": json.dumps(with_root(size=-1)).encode(),
    "no type": json.dumps(with_root(mediaType="")).encode(),
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
def test_unusable_name_file_is_reported_and_can_be_replaced(
    store: LocalStore, events: list[Event], content: bytes
) -> None:
    store.remember(NameRecord("quay.io/other:1", ROOT))
    place_of(store).write_bytes(content)

    assert store.recall(APP) is None
    assert [record.reference for record in store.names()] == ["quay.io/other:1"]
    assert [event.code for event in events if isinstance(event, Warned)] == ["store-bad-name"] * 2
    # Collection must not treat it as missing.
    assert len([entry for entry in store.entries() if isinstance(entry, BadName)]) == 1

    store.remember(RECORD)
    assert store.recall(APP) == RECORD


def plant_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def plant_fifo(path: Path, _target: Path) -> None:
    os.mkfifo(path)


def plant_folder(path: Path, _target: Path) -> None:
    path.mkdir()
    (path / "inner").touch()


@pytest.mark.parametrize("plant", [plant_link, plant_fifo, plant_folder])
def test_planted_file_under_a_name_is_never_opened_and_is_replaced(
    store: LocalStore, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    store.remember(NameRecord("quay.io/other:1", ROOT))
    target = tmp_path / "canary"
    target.write_text(json.dumps(good()))
    plant(place_of(store), target)

    assert store.recall(APP) is None
    store.remember(RECORD)

    assert store.recall(APP) == RECORD
    assert place_of(store).is_file()
    assert not place_of(store).is_symlink()
    assert target.read_text() == json.dumps(good())


def test_forgetting_a_planted_link_removes_the_link_alone(
    store: LocalStore, tmp_path: Path
) -> None:
    store.remember(NameRecord("quay.io/other:1", ROOT))
    target = tmp_path / "canary"
    target.touch()
    place_of(store).symlink_to(target)

    assert store.forget(APP)

    assert target.exists()
    assert not place_of(store).is_symlink()


def test_name_resolves_to_recorded_content_from_the_store(store: LocalStore) -> None:
    store.add_document(Document(ROOT, BODY))
    store.remember(RECORD)

    assert store.resolve(APP) == ROOT
    assert store.document(APP) == Document(ROOT, BODY)


def test_name_without_its_content_is_known_and_content_not_found(
    store: LocalStore,
) -> None:
    store.remember(RECORD)

    assert store.resolve(APP) == ROOT
    with pytest.raises(BlobNotFound):
        store.document(APP)


def test_recording_names_stops_after_the_first_failure(tmp_path: Path, events: list[Event]) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "README").touch()
    store = LocalStore(tmp_path / "store", observe=events.append)

    assert not store.try_remember(RECORD)
    assert not store.try_add(Document(ROOT, BODY))

    assert [event.code for event in events if isinstance(event, Warned)] == ["store-unwritable"]
