"""Pin through a session: the requests, the decisions and the files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from resolver.core.pin.decide import PinState
from resolver.core.pin.edits import Edit
from resolver.errors import (
    InvalidPlatform,
    LimitExceeded,
    ManifestNotFound,
    NotAnImageFile,
    NotInStore,
    OutputFault,
    PlatformNotOffered,
    UnreadableFile,
    Usage,
)
from resolver.session import Session
from resolver.verbs.output_files import MAX_FILE
from tests.kit.images import Image, build_image, multi_platform
from tests.kit.messages import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.pin.decide import Pinned
    from tests.kit.registry import FakeRegistry

AMD64, ARM64 = "linux/amd64", "linux/arm64/v8"


@pytest.fixture
def image(registry: FakeRegistry) -> Image:
    made = multi_platform(AMD64, ARM64, attestations=True)
    registry.serve("app", "1", made)
    return made


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


def facts_of(found: Pinned) -> list[tuple[str, int, str]]:
    return [
        (finding.rule, finding.place.line if finding.place else 0, finding.platform)
        for finding in found.findings
    ]


def states(found: Pinned) -> list[PinState]:
    return [pin.state for file in found.files for pin in file.pins]


def test_pin_looks_up_each_name_once_for_all_files(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    name = f"{registry.host}/app:1"
    first = write(tmp_path, "Dockerfile", f"FROM {name} AS a\nFROM {name}\n")
    second = write(tmp_path, "compose.yaml", f"services: {{a: {{image: '{name}'}}}}\n")

    found = session.pin([first, second, first])

    assert states(found) == [PinState.PINNED] * 3
    assert [file.path for file in found.files] == [first, second]
    assert found.files[1].edits == (Edit(23 + len(name), 23 + len(name), f"@{image.digest}"),)
    assert [seen.method for seen in registry.log] == ["GET"]
    assert (found.findings, found.warnings, found.failures) == ((), (), ())


def test_pin_writes_only_on_request(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    before = f"FROM {registry.host}/app:1\r\n"
    path = write(tmp_path, "Dockerfile", before)

    found = session.pin(path)
    unwritten = (tmp_path / "Dockerfile").read_bytes()
    written = session.write_pins(found)

    assert unwritten == before.encode()
    assert written == (path,)
    assert (tmp_path / "Dockerfile").read_bytes().decode() == (
        f"FROM {registry.host}/app:1@{image.digest}\r\n"
    )


def test_pin_skips_pinned_references_without_a_request(
    session: Session, registry: FakeRegistry, tmp_path: Path
) -> None:
    digest = "sha256:" + "a" * 64
    path = write(tmp_path, "Dockerfile", f"FROM {registry.host}/app:1@{digest}\nFROM x@{digest}\n")

    found = session.pin(path)

    assert states(found) == [PinState.KEPT] * 2
    assert not found.files[0].is_changed
    assert session.write_pins(found) == ()
    assert registry.log == []


def test_pin_update_records_the_current_digest_of_a_tag(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    old = "sha256:" + "a" * 64
    text = f"FROM {registry.host}/app:1@{old}\nFROM {registry.host}/app@{old}\n"
    path = write(tmp_path, "Dockerfile", text)

    found = session.pin(path, update=True)

    assert states(found) == [PinState.UPDATED, PinState.KEPT]
    assert found.files[0].after == text.replace(f":1@{old}", f":1@{image.digest}")
    assert [str(pin.before) for pin in found.files[0].pins] == [old, old]
    again = session.pin(write(tmp_path, "Dockerfile", found.files[0].after), update=True)
    assert states(again) == [PinState.KEPT, PinState.KEPT]
    assert [seen.method for seen in registry.log] == ["GET", "HEAD"]


def test_pin_remove_sends_no_request(
    session: Session, registry: FakeRegistry, tmp_path: Path
) -> None:
    digest = "sha256:" + "a" * 64
    host = registry.host
    text = f"FROM {host}/a:1@{digest}\nFROM {host}/b@{digest}\nFROM {host}/c:1\nFROM a:${{X}}\n"

    found = session.pin(write(tmp_path, "Dockerfile", text), unpin=True)

    assert states(found) == [
        PinState.UNPINNED,
        PinState.KEPT,
        PinState.UNPINNED,
        PinState.NOT_PINNABLE,
    ]
    assert found.files[0].after == text.replace(f":1@{digest}", ":1")
    assert found.findings == ()
    assert registry.log == []


def test_pin_for_one_platform_writes_its_manifest_digest(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    name = f"{registry.host}/app:1"
    text = f"FROM {name} AS a\nFROM --platform=linux/arm64 {name}\n"
    path = write(tmp_path, "Dockerfile", text)

    found = session.pin(path, platform="linux/amd64")

    assert [str(pin.digest) for pin in found.files[0].pins] == [
        image.child(AMD64).digest,
        image.child(ARM64).digest,
    ]
    assert [warning.code for warning in found.warnings] == ["single-platform"]
    assert f"`{path}` is then for `linux/amd64` only" in found.warnings[0].message


def test_pin_leaves_a_reference_without_the_platform_unchanged(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    del image
    path = write(tmp_path, "Dockerfile", f"FROM {registry.host}/app:1\n")

    found = session.pin(path, platform="linux/s390x")

    assert states(found) == [PinState.FAILED]
    assert isinstance(found.failures[0], PlatformNotOffered)
    assert not found.files[0].is_changed


def test_pin_continues_after_a_failed_lookup(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    registry.on("GET", "/v2/gone/manifests/1", Reply(404))
    text = f"FROM {registry.host}/gone:1\nFROM {registry.host}/app:1\nFROM {registry.host}/gone:1\n"

    found = session.pin(write(tmp_path, "Dockerfile", text))

    assert states(found) == [PinState.FAILED, PinState.PINNED, PinState.FAILED]
    assert [type(failure) for failure in found.failures] == [ManifestNotFound]
    assert found.files[0].after == text.replace("app:1", f"app:1@{image.digest}")


def test_pin_check_finds_unpinned_references_without_a_request(
    session: Session, registry: FakeRegistry, tmp_path: Path
) -> None:
    text = f"FROM {registry.host}/app:1 AS a\n\n# resolver: ignore\nFROM b:1\nFROM c:$X\n"

    found = session.pin(write(tmp_path, "Dockerfile", text), check=True)

    assert facts_of(found) == [("unpinned", 1, ""), ("not-pinnable", 5, "")]
    assert [file.is_changed for file in found.files] == [False]
    assert not found.is_sound
    assert registry.log == []


def test_pin_check_finds_a_single_platform_digest_for_a_multi_platform_tag(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    host, single = registry.host, image.child(AMD64).digest
    text = f"FROM {host}/app:1@{single}\nFROM {host}/app:1@{image.digest}\n"
    path = write(tmp_path, "Dockerfile", text)

    found = session.pin(path, check=True)

    assert facts_of(found) == [("single-platform-pin", 1, "")]
    assert found.is_sound
    assert facts_of(session.pin(path, check=True, update=True)) == [("single-platform-pin", 1, "")]


def test_pin_check_updates_finds_outdated_digests(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    host, old = registry.host, multi_platform("linux/amd64", "linux/s390x")
    registry.serve("app", "0", old)
    text = f"FROM {host}/app:1@{old.digest}\nFROM {host}/app:1@{image.digest}\n"
    path = write(tmp_path, "Dockerfile", text)

    assert facts_of(session.pin(path, check=True)) == []
    assert facts_of(session.pin(path, check=True, update=True)) == [("stale-pin", 1, "")]


def test_pin_check_updates_compares_a_platform_digest_to_its_platform(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    host = registry.host
    one, other = image.child(AMD64).digest, image.child(ARM64).digest
    path = write(tmp_path, "Dockerfile", f"FROM {host}/app:1@{one}\nFROM {host}/app:1@{other}\n")

    found = session.pin(path, check=True, update=True, platform="linux/amd64")

    assert facts_of(found) == [("stale-pin", 2, "")]


def test_pin_check_updates_reports_incomparable_digests_as_unknown(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    registry.on("GET", "/v2/gone/manifests/1", Reply(404))
    registry.on("GET", f"/v2/gone/manifests/{image.digest}", Reply(404))
    path = write(tmp_path, "Dockerfile", f"FROM {registry.host}/gone:1@{image.digest}\n")

    found = session.pin(path, check=True)

    assert found.failures == ()
    assert [warning.code for warning in found.warnings] == ["not-compared"] * 2
    assert states(session.pin(path, check=True, update=True)) == [PinState.FAILED]


def test_pin_requires_every_requested_platform(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    host = registry.host
    registry.serve("one", "1", build_image(AMD64))
    text = f"FROM {host}/app:1\nFROM {host}/one:1\nFROM {host}/app:1@{image.digest}\n"
    path = write(tmp_path, "Dockerfile", text)

    found = session.pin(path, require=["linux/amd64", "linux/arm64", "linux/s390x"])

    assert facts_of(found) == [
        ("pinned-platform-missing", 1, "linux/s390x"),
        ("pinned-platform-missing", 2, "linux/arm64"),
        ("pinned-platform-missing", 2, "linux/s390x"),
        ("pinned-platform-missing", 3, "linux/s390x"),
    ]
    assert found.findings[0].hint == "it is offered for `linux/amd64`, `linux/arm64/v8`"
    assert states(found) == [PinState.PINNED, PinState.PINNED, PinState.KEPT]
    checked = session.pin(path, check=True, require=["linux/arm64"])
    assert facts_of(checked)[1:3] == [
        ("unpinned", 2, ""),
        ("pinned-platform-missing", 2, "linux/arm64"),
    ]


def test_pin_requires_the_platform_named_in_the_file(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    del image
    name = f"{registry.host}/app:1"
    text = f"FROM --platform=linux/s390x {name}\nFROM --platform=no/such/one/at/all {name}\n"

    found = session.pin(write(tmp_path, "Dockerfile", text))

    assert facts_of(found) == [("pinned-platform-missing", 1, "linux/s390x")]


def test_pin_fails_when_a_required_platform_cannot_be_looked_up(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    registry.on("GET", f"/v2/gone/manifests/{image.digest}", Reply(404))
    path = write(tmp_path, "Dockerfile", f"FROM {registry.host}/gone:1@{image.digest}\n")

    assert states(session.pin(path, require=["linux/amd64"])) == [PinState.FAILED]


def test_pin_offline_answers_from_the_store_or_fails(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    path = write(tmp_path, "Dockerfile", f"FROM {registry.host}/app:1\nFROM {registry.host}/x:1\n")
    session.resolve(f"{registry.host}/app:1", "linux/amd64")
    asked = len(registry.log)

    with Session(tmp_path / "store", offline=True) as offline:
        found = offline.pin(path)

    assert states(found) == [PinState.PINNED, PinState.FAILED]
    assert str(found.files[0].pins[0].digest) == image.digest
    assert isinstance(found.failures[0], NotInStore)
    assert len(registry.log) == asked


def test_pin_names_an_unreadable_file_and_continues(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    del image
    (tmp_path / "latin").mkdir()
    bad = tmp_path / "latin" / "Dockerfile"
    bad.write_bytes(b"# caf\xe9\nFROM a:1\n")
    torn = write(tmp_path, "compose.yaml", "services: {\n")
    good = write(tmp_path, "Dockerfile", f"FROM {registry.host}/app:1\n")
    gone = str(tmp_path / "gone")

    found = session.pin([bad, torn, gone, good])

    assert [type(file.failure) for file in found.files] == [
        UnreadableFile,
        UnreadableFile,
        Usage,
        type(None),
    ]
    assert facts_of(found) == [("unparsable", 1, ""), ("unparsable", 2, "")]
    assert states(found) == [PinState.PINNED]
    assert bad.read_bytes().startswith(b"# caf\xe9")


@pytest.mark.usefixtures("image")
def test_pin_of_a_folder_reads_its_image_files(
    session: Session, registry: FakeRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/app:1"
    for folder in (".github/workflows", "deploy", ".git", "web/node_modules/x", "chart/templates"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path, "Dockerfile", f"FROM {name}\n")
    write(tmp_path, ".github/workflows/ci.yml", f"on: push\njobs: {{a: {{container: '{name}'}}}}\n")
    write(tmp_path, "deploy/pod.yaml", f"apiVersion: v1\nkind: Pod\nspec: {{image: '{name}'}}\n")
    write(tmp_path, "deploy/other.yaml", "a: 1\n")
    write(tmp_path, "deploy/torn.yml", "a: [\n")
    (tmp_path / "deploy" / "binary.json").write_bytes(b"\xff\xfe\0")
    write(tmp_path, "deploy/large.json", " " * (MAX_FILE + 1))
    write(tmp_path, "deploy/notes.txt", f"image: {name}\n")
    write(tmp_path, ".git/Dockerfile", "FROM not:1\n")
    write(tmp_path, "web/node_modules/x/Dockerfile", "FROM not:1\n")
    template = "{{ if .x }}\napiVersion: v1\n{{ end }}\n"
    write(tmp_path, "chart/templates/pod.yaml", template)
    write(tmp_path, "chart/templates/configmap-values.yaml", "{{ if .x }}\na: 1\n{{ end }}\n")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "Dockerfile")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)

    found = session.pin(tmp_path)

    assert [file.path.removeprefix(f"{tmp_path}/") for file in found.files] == [
        "Dockerfile",
        ".github/workflows/ci.yml",
        "deploy/pod.yaml",
    ]
    assert states(found) == [PinState.PINNED] * 3
    assert {each.path.removeprefix(f"{tmp_path}/"): each.reason for each in found.skipped} == {
        "chart/templates/configmap-values.yaml": "a template without a literal image",
        "chart/templates/pod.yaml": "a template without a literal image",
        "deploy/binary.json": "not a supported file type",
        "deploy/large.json": "not a supported file type",
        "deploy/other.yaml": "not a supported file type",
        "deploy/torn.yml": "not a supported file type",
        "link.yaml": "a link, and links in a folder are not followed",
    }
    assert found.failures == ()


def test_pin_check_reports_the_image_of_a_template(session: Session, tmp_path: Path) -> None:
    text = "{{ if .x }}\napiVersion: v1\nspec:\n  - image: nginx:1.27 # here\n{{ end }}\n"
    write(tmp_path, "pod.yaml", text)

    found = session.pin(tmp_path, check=True)

    assert facts_of(found) == [("unknown-key", 4, "")]
    assert not found.is_sound


def test_pin_fails_on_invalid_yaml_that_mentions_an_image(session: Session, tmp_path: Path) -> None:
    write(tmp_path, "pod.yaml", "apiVersion: v1\nspec:\n\timage: nginx:1.27\n")

    found = session.pin(tmp_path, check=True)

    assert [type(failure) for failure in found.failures] == [UnreadableFile]


def test_pin_fails_for_a_folder_without_image_files(session: Session, tmp_path: Path) -> None:
    write(tmp_path, "notes.txt", "")

    found = session.pin(tmp_path, check=True)

    assert [type(failure) for failure in found.failures] == [Usage]
    assert "no supported file in" in str(found.failures[0])


def test_pin_skips_unsupported_files_beside_supported_ones(
    session: Session, tmp_path: Path
) -> None:
    known = write(tmp_path, "Dockerfile", "FROM scratch\n")
    paths = [known, *(write(tmp_path, name, "x = 1\n") for name in ("a.py", "b.toml"))]
    paths.append(write(tmp_path, "dockerfile.py", '"""Read."""\n\nfrom x import y\n'))
    paths.append(write(tmp_path, "Dockerfile.md", "# How to build\n\nSee below.\n"))
    (tmp_path / "c.png").write_bytes(b"\x89PNG\xff")
    paths.append(str(tmp_path / "c.png"))

    found = session.pin(paths, check=True)

    assert [file.path for file in found.files] == [known]
    assert [each.path for each in found.skipped] == paths[1:]
    assert found.failures == ()


def test_pin_rejects_only_unsupported_files(session: Session, tmp_path: Path) -> None:
    paths = [write(tmp_path, name, "x = 1\n") for name in ("a.py", "b.toml")]

    both = session.pin(paths)
    one = session.pin(paths[0])

    assert [type(failure) for failure in both.failures] == [NotAnImageFile, NotAnImageFile]
    assert [type(failure) for failure in one.failures] == [NotAnImageFile]


def test_pin_limits_the_number_of_files_in_a_folder(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolver.verbs.pin.MAX_FOUND", 2)
    write(tmp_path, "Dockerfile", "FROM scratch\n")
    write(tmp_path, "Dockerfile.b", "FROM scratch\n")

    fits = session.pin(tmp_path)
    write(tmp_path, "Dockerfile.c", "FROM scratch\n")
    more = session.pin(tmp_path)

    assert len(fits.files) == 2
    assert fits.failures == ()
    assert [type(failure) for failure in more.failures] == [LimitExceeded]


def test_pin_reports_an_unreadable_folder(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "Dockerfile", "FROM scratch\n")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    found = session.pin(tmp_path, check=True)

    assert [type(failure) for failure in found.failures] == [Usage]
    assert "closed`: permission denied" in str(found.failures[0])


@pytest.mark.usefixtures("image")
def test_pin_handles_a_file_given_twice_once(
    session: Session, registry: FakeRegistry, tmp_path: Path
) -> None:
    path = write(tmp_path, "Dockerfile", f"FROM {registry.host}/app:1\n")

    found = session.pin([path, tmp_path, f"{tmp_path}/./Dockerfile"])

    assert [file.path for file in found.files] == [path]
    assert session.write_pins(found) == (path,)


def test_pin_skips_irregular_and_oversized_files(session: Session, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "a" / "Dockerfile")
    fits = write(tmp_path, "Dockerfile", "#" * MAX_FILE)
    large = write(tmp_path / "b", "Dockerfile", "#" * (MAX_FILE + 1))

    found = session.pin([tmp_path / "a" / "Dockerfile", fits, large])

    assert [file.failure is None for file in found.files] == [False, True, False]
    assert f"more than {MAX_FILE} bytes" in str(found.failures[1])


@pytest.mark.parametrize("words", [{"check": True}, {"update": True}, {"platform": "linux/amd64"}])
def test_pin_remove_and_lookup_options_conflict(session: Session, words: dict[str, object]) -> None:
    with pytest.raises(Usage):
        session.pin([], unpin=True, **words)  # type: ignore[arg-type]  # told apart by name


def test_pin_rejects_an_invalid_platform_before_reading_files(session: Session) -> None:
    with pytest.raises(InvalidPlatform):
        session.pin("gone", require=["linux//x"])


def test_pin_keeps_mode_owner_and_symlink(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "base"
    target.write_text(f"FROM {registry.host}/app:1\n")
    target.chmod(0o751)
    link = tmp_path / "Dockerfile"
    link.symlink_to("real/base")
    owner = target.stat().st_uid, target.stat().st_gid

    session.write_pins(session.pin(link))

    assert link.is_symlink()
    assert image.digest in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o751
    assert (target.stat().st_uid, target.stat().st_gid) == owner
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["base"]


def test_pin_does_not_replace_a_read_only_file(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    del image
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM {registry.host}/app:1\n")
    path.chmod(0o444)

    with pytest.raises(OutputFault, match="it is read-only") as caught:
        session.write_pins(session.pin(path))

    assert caught.value.kind.status == 8
    assert path.read_text() == f"FROM {registry.host}/app:1\n"


def test_pin_does_not_overwrite_a_file_changed_meanwhile(
    session: Session, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    del image
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM {registry.host}/app:1\n")
    found = session.pin(path)
    path.write_text("FROM other\n")

    with pytest.raises(OutputFault, match="has changed since"):
        session.write_pins(found)

    assert path.read_text() == "FROM other\n"


def test_failed_pin_write_keeps_the_file_and_leaves_no_temporary(
    session: Session,
    registry: FakeRegistry,
    image: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del image
    (tmp_path / "it").mkdir()
    path = tmp_path / "it" / "Dockerfile"
    path.write_text(f"FROM {registry.host}/app:1\n")
    found = session.pin(path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputFault, match="no space left"):
        session.write_pins(found)

    assert path.read_text() == f"FROM {registry.host}/app:1\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["Dockerfile"]
