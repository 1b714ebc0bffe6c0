"""The public names of `resolver/__init__.py`, which load nothing until used."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import resolver
from resolver.render.to_dict import Rows, _listed
from tests.kit.images import multi_platform
from tests.kit.layouts import write_layout
from tests.kit.memory_source import MemoryPlace
from tests.kit.processes import ROOT
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AMD64, ARM64 = "linux/amd64", "linux/arm64"
PUBLIC = {
    "Advanced", "Attestations", "Brought", "Challenge", "Checked", "Collected", "Comparison",
    "Content", "Copied", "CopyPlan", "Denied", "Descriptor", "Digest", "DiskUsage", "Document",
    "Event", "Exported", "Failure", "Finding", "Finished", "Flags", "Grade", "ImageComparison",
    "ImageDone", "IndexWritten", "Inspection", "Kept", "Linted", "Lock", "LockCheck", "Locked",
    "Malformed", "Matrix", "Needs", "Negative", "NotFound", "Noted", "Observer", "Offer",
    "Offers", "Offline", "PieceStarted", "PieceVerifying", "Pin", "Pinned", "PinnedFile",
    "Plan", "Platform", "Pulled", "Reference", "Rejection", "Removed", "Repositories",
    "Requirements", "Resolution", "ResolverError", "Restarted", "Resumed", "Retention",
    "Reused", "Rule", "Selection", "Session", "Severity", "Skipped", "Source", "Started",
    "StoreFault", "StoredImage", "Synced", "Thresholds", "TrustOptions", "Unavailable",
    "Untrusted", "Verified", "Waiting", "Warned", "__version__", "parse_challenge", "select",
    "to_dict",
}  # fmt: skip


def test_public_names() -> None:
    assert set(resolver.__all__) == PUBLIC
    assert dir(resolver) == sorted(PUBLIC)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        resolver.nothing  # noqa: B018 - reading it is the test


def test_import_resolver_loads_no_other_module() -> None:
    code = "import sys, resolver; print([m for m in sys.modules if m.startswith('resolver.')])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['resolver._version']"


def test_library_example_works() -> None:
    reference = resolver.Reference.parse("ubuntu:24.04")
    wanted = resolver.Platform.parse("windows/amd64:10.0.20348")

    assert str(reference) == "docker.io/library/ubuntu:24.04"
    assert (reference.registry, reference.repository) == ("docker.io", "library/ubuntu")
    assert (reference.tag, reference.digest) == ("24.04", None)
    assert (wanted.os, wanted.architecture, wanted.os_version) == (
        "windows",
        "amd64",
        "10.0.20348",
    )


def test_select_accepts_platforms_and_none_and_returns_its_choice() -> None:
    entries = [
        None,
        resolver.Platform.parse("linux/arm64/v8"),
        resolver.Platform.parse("linux/386"),
    ]

    found = resolver.select(entries, resolver.Platform.parse("linux/arm64"), exact=False)

    assert found.index == 1
    assert found.grade is resolver.Grade.NORMALISED
    assert {loser.index for loser in found.rejected} == {0, 2}


def test_select_accepts_a_platform_as_text() -> None:
    entries = [resolver.Platform.parse("linux/amd64"), resolver.Platform.parse("linux/arm/v7")]

    assert resolver.select(entries, "linux/armhf").index == 1


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """Return an empty registry; an unexpected request fails the test."""
    with FakeRegistry() as fake:
        yield fake


@pytest.fixture
def example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Run a file of docs/examples with a store of its own; return its status and its output."""
    monkeypatch.setenv("RESOLVER_STORE", str(tmp_path / "store"))

    def run(name: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "docs" / "examples" / name), run_name="__main__")
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().out

    return run


def test_example_resolve_many(
    registry: FakeRegistry, example: Callable[..., tuple[int, str]]
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))

    status, output = example(
        "resolve_many.py", ARM64, f"{registry.host}/app:1", f"{registry.host}/none:1"
    )

    assert status == 3
    (line,) = output.splitlines()
    assert line.split()[1:] == [ARM64, f"{registry.host}/app:1"]


def test_example_release_gate(
    registry: FakeRegistry, example: Callable[..., tuple[int, str]]
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))
    name = f"{registry.host}/app:1"

    assert example("release_gate.py", name, AMD64)[0] == 0
    status, output = example("release_gate.py", name, AMD64, "linux/arm/v7")

    found = json.loads(output)
    assert status == 1
    assert [(each["rule"], each["platform"]) for each in found["findings"]] == [
        ("platform-missing", "linux/arm/v7")
    ]


def test_example_pull_progress(
    registry: FakeRegistry, example: Callable[..., tuple[int, str]]
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))

    status, output = example("pull_progress.py", f"{registry.host}/app:1", ARM64)
    again = example("pull_progress.py", f"{registry.host}/app:1", ARM64)[1]

    assert status == 0
    assert not output.endswith("\n0 bytes received\n")
    assert again.endswith("\n0 bytes received\n")


def test_example_custom_source(tmp_path: Path, example: Callable[..., tuple[int, str]]) -> None:
    (tmp_path / "layout").mkdir()
    layout = write_layout(tmp_path / "layout", {"1": multi_platform(AMD64, ARM64)})
    archive = shutil.make_archive(str(tmp_path / "app"), "zip", layout)

    status, output = example("custom_source.py", f"zip:{archive}")

    assert status == 0
    assert [line.split()[0] for line in output.splitlines()] == [AMD64, ARM64]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[resolver.Session]:
    with resolver.Session(tmp_path / "store") as opened:
        yield opened


def test_failure_has_a_resolver_error_and_a_tuple_of_platforms(
    registry: FakeRegistry, session: resolver.Session
) -> None:
    registry.serve("app", "1", multi_platform(AMD64))
    name = f"{registry.host}/app:1"

    found = list(session.resolve_each(name, [AMD64, ARM64]))

    written = [resolver.to_dict(each)["wanted"] for each in found]
    assert written == [[AMD64], [ARM64]]
    failure = found[1]
    assert isinstance(failure, resolver.Failure)
    assert (failure.wanted, failure.error.code) == ((ARM64,), "platform-not-offered")
    assert resolver.to_dict(failure.error)["error"]["wanted"] == [ARM64]  # type: ignore[index]


def test_requirements_accept_text_for_platforms_and_references() -> None:
    arm = resolver.Platform.parse("linux/arm/v7")
    text = resolver.Requirements(require=("linux/arm/v7",), forbid="windows/amd64", same_as="app:1")
    typed = resolver.Requirements(
        require=(arm,),
        forbid=resolver.Platform.parse("windows/amd64"),
        same_as=resolver.Reference.parse("app:1"),
    )

    assert text.require == typed.require == (arm,)
    assert text.forbid == typed.forbid
    assert resolver.Reference.parse(text.same_as) == resolver.Reference.parse(typed.same_as)
    with pytest.raises(resolver.Malformed):
        resolver.Requirements(only="linux/amd64/v2/x")


def test_select_accepts_text_for_entries_and_several_platforms() -> None:
    assert resolver.select(["linux/amd64", None, "linux/arm64"], ["linux/arm64"]).index == 2


@pytest.mark.parametrize("typed", [False, True], ids=["text", "values"])
def test_one_platform_or_reference_is_accepted_where_many_are(
    registry: FakeRegistry, session: resolver.Session, tmp_path: Path, *, typed: bool
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))
    text = f"{registry.host}/app:1"
    name = resolver.Reference.parse(text) if typed else text
    platform = resolver.Platform.parse(ARM64) if typed else ARM64
    lock = tmp_path / "resolver.lock"
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM {text}\n")

    session.pull(name, platform)

    assert len(list(session.resolve_each(name, platform))) == 1
    assert [str(job.platform) for job in session.matrix(name, platform).jobs] == [ARM64]
    assert not session.compare(name, expect=platform).missing
    assert len(session.export(name, str(tmp_path / "out"), platform).images) == 1
    assert not session.pin(dockerfile, require=platform).findings
    assert [image.reference for image in session.lock(name, platform, file=lock).lock.images] == [
        text
    ]
    assert session.lock(update=name, file=lock).changes
    assert not session.check_lock(name, platform, file=lock).drifted
    assert len(session.lock_entries(name, file=lock)) == 1
    assert len(list(session.by_lock(lock).resolve_each(name, platform))) == 1
    assert not session.unlock(name, file=lock).lock.images


def test_custom_source_serves_every_verb_that_reads(tmp_path: Path) -> None:
    place, image = MemoryPlace(), multi_platform(AMD64, ARM64)
    for digest, (_, body) in image.documents.items():
        place.bodies[resolver.Digest.parse(digest)] = body
    for digest, blob in image.blobs.items():
        place.bodies[resolver.Digest.parse(digest)] = blob
    named = resolver.Digest.parse(image.digest)
    root = resolver.Descriptor(image.media_type, named, image.size)
    place.names[""] = resolver.Document(root, image.body)
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nimages: [{image: 'memory:app', require: [linux/arm64]}]\n")

    with resolver.Session(tmp_path / "store", sources={"memory": lambda _place: place}) as session:
        assert session.resolve("memory:app", ARM64).reference == "memory:app"
        assert session.check_policy(policy).passed
        assert len(session.compare("memory:app").builds) == 2
        assert session.lint("memory:app").images


@pytest.mark.parametrize("prefix", ["oci", "docker", "store", "docker-archive", "A", "a/b", ""])
def test_custom_source_cannot_replace_a_built_in_one(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(resolver.Malformed, match="cannot be the prefix of a source"):
        resolver.Session(tmp_path, sources={prefix: lambda _place: MemoryPlace()})


def test_to_dict_returns_only_what_json_has() -> None:
    rows = Rows(str, (1, 2))

    assert _listed({"rows": rows, "nested": [{"rows": rows}]}) == {
        "rows": ["1", "2"],
        "nested": [{"rows": ["1", "2"]}],
    }
