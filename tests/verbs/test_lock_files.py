"""Lock files written by others: the samples of the catalogue, and hostile YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resolver.core.lockfile.lock import MAX_IMAGES, MAX_LOCK
from resolver.errors import BadLock, LockLimit, Offline, Usage
from resolver.session import Session
from resolver.verbs.lock_files import load, read_yaml
from tests import DATA

FOLDER = DATA / "bad_inputs"
CASES: list[dict[str, Any]] = [
    case
    for case in json.loads((FOLDER / "index.json").read_text("utf-8"))["files"]
    if case["kind"] == "lockfile"
]
ONE = "sha256:" + "1" * 64


def select(expect: str) -> list[Any]:
    return [pytest.param(each, id=each["file"]) for each in CASES if each["expect"] == expect]


@pytest.mark.parametrize("case", select("accept"))
def test_lock_written_by_another_program_is_read(case: dict[str, Any]) -> None:
    lock = load(str(FOLDER / case["file"]))

    assert [image.reference for image in lock.images] == ["reg.test/app:1.10"]
    assert [one.key for one in lock.images[0].platforms] == ["linux/amd64", "linux/arm64"]


@pytest.mark.parametrize("case", select("error"))
def test_hostile_lock_is_refused_with_class_and_field(case: dict[str, Any]) -> None:
    with pytest.raises(BadLock) as caught:
        load(str(FOLDER / case["file"]))

    error = caught.value
    assert (error.word, error.kind.status) == (case["error_class"], 2)
    assert "\n" not in str(error)
    # Anchors are refused where the first one stands, before anything is made of them.
    if case["reason"] != "alias expansion":
        assert error.field == case["field"]
    assert not Path("/tmp/pwned-yaml").exists()


GOOD = f"version: 1\nimages:\n  - ref: reg.test/app:1\n    digest: {ONE}\n"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", ""),
        ("[]", ""),
        ("version: 1", ""),
        ("images: []", ""),
        ("version: '1'\nimages: []", "version"),
        ("version: 1\nimages: {}", "images"),
        ("version: 1\nimages: [text]", "images[0]"),
        (f"version: 1\nimages: [{{digest: '{ONE}'}}]", "images[0]"),
        ("version: 1\nimages: [{ref: 'r.test/a:1'}]", "images[0]"),
        (f"version: 1\nimages: [{{ref: 'A B', digest: '{ONE}'}}]", "images[0].ref"),
        ("version: 1\nimages: [{ref: 'r.test/a:1', digest: 'x'}]", "images[0].digest"),
        ("version: 1\nimages: [{ref: 'r.test/a:1', digest: 12}]", "images[0].digest"),
        (GOOD + f"  - ref: reg.test/app:1\n    digest: {ONE}\n", "images[1]"),
        (GOOD + f"    platforms: {{'a b': '{ONE}'}}", "images[0].platforms.a b"),
        (
            GOOD + f"    platforms: {{linux/arm64: '{ONE}', linux/arm64/v8: '{ONE}'}}",
            "images[0].platforms.linux/arm64/v8",
        ),
        (
            f"version: 1\nimages: [{{ref: 'r.test/a@sha256:{'2' * 64}', digest: '{ONE}'}}]",
            "images[0].ref",
        ),
        (GOOD + "---\n" + GOOD, ""),
        (GOOD + "extra: !!python/name:os.system x", "extra"),
    ],
)
def test_lock_errors_name_their_place(text: str, field: str) -> None:
    with pytest.raises(BadLock) as caught:
        read_yaml(text.encode(), "x.yaml")

    assert caught.value.field == field


def test_lock_accepts_repository_and_tag_as_separate_fields() -> None:
    text = f"version: 1\nimages: [{{repo: reg.test/app, tag: '1.10', digest: '{ONE}'}}]"

    assert read_yaml(text.encode(), "x").images[0].reference == "reg.test/app:1.10"


@pytest.mark.parametrize(
    "extra",
    ["\nx: &a 1", "\nx: " + "[" * 40 + "]" * 40, " " * MAX_LOCK],
)
def test_lock_size_is_limited(extra: str) -> None:
    with pytest.raises(LockLimit):
        read_yaml((GOOD + extra).encode(), "x.yaml")


def test_number_of_locked_references_is_limited() -> None:
    images = "".join(
        f"  - {{ref: 'r.test/{n}:1', digest: '{ONE}'}}\n" for n in range(MAX_IMAGES + 1)
    )

    with pytest.raises(LockLimit):
        read_yaml(f"version: 1\nimages:\n{images}".encode(), "x.yaml")


def test_invalid_lock_is_not_written_and_gives_no_answer(tmp_path: Path) -> None:
    place = tmp_path / "lock.yaml"
    place.write_text(GOOD)

    with Session(tmp_path / "store") as session:
        with pytest.raises(Usage):
            session.lock(["reg.test/app:1"], file=place)
        with pytest.raises(Usage):
            session.unlock(["reg.test/app:1"], file=place)
        with pytest.raises(Offline) as caught:
            session.by_lock(place).resolve("reg.test/app:1")
        assert caught.value.code == "lock-incomplete"
    assert place.read_text() == GOOD
