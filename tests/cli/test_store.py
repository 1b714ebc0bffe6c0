"""Output of `ls`, `rm`, `gc`, `verify`, `du` and `inspect store:`."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.cli import gc
from resolver.cli.inputs import size, span
from resolver.errors import InvalidConfiguration, Usage
from resolver.store import LocalStore
from tests.kit.images import build_image, build_index, build_layer
from tests.kit.registry import FakeRegistry
from tests.kit.stored_images import blob_of, spoil

if TYPE_CHECKING:
    from tests.cli.conftest import Run

ARM = ("-p", "linux/arm64", "--no-progress")


@pytest.fixture
def two(run: Run, registry: str) -> str:
    """Pull two tags that share layers, one of them for two platforms; return the repository."""
    name = f"{registry}/demo/app"
    run("pull", f"{name}:1.0", *ARM)
    run("pull", f"{name}:2.0", "-p", "linux/amd64,linux/arm64", "--no-progress")
    return name


def blob(store: Path, digest: str) -> Path:
    algorithm, _, digits = digest.partition(":")
    return store / "blobs" / algorithm / digits


def layers(run: Run, name: str) -> list[str]:
    output = json.loads(run("inspect", f"store:{name}", "-p", "linux/arm64", "--json").stdout)
    return [layer["digest"] for layer in output["layers"]]


# ls


def test_ls_of_an_empty_store(run: Run) -> None:
    assert str(run("ls")) == snapshot("""\
status: 0
--- stdout
images: none
--- stderr
""")


def test_ls_lists_a_pulled_image(run: Run, two: str) -> None:
    del two
    assert str(run("ls")) == snapshot("""\
status: 0
--- stdout
REPOSITORY                TAG  IMAGE ID      PLATFORMS  CREATED       SIZE  SHARED
HOST:PORT/demo/app  1.0  640d34e29cdf     1/5 +1  2024-05-01  191 kB  154 kB
HOST:PORT/demo/app  2.0  a589c03475cf     2/5 +2  2024-05-01  277 kB  154 kB
--- stderr
""")


def test_ls_digests_adds_a_column(run: Run, two: str) -> None:
    del two
    assert str(run("ls", "--digests", "--no-trunc")) == snapshot("""\
status: 0
--- stdout
REPOSITORY                TAG  DIGEST                                                                   IMAGE ID                                                                 PLATFORMS  CREATED       SIZE  SHARED
HOST:PORT/demo/app  1.0  sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda  sha256:640d34e29cdff0d3eb30a0e36b69576b7450992ca42314b4da7224a6465df4ad     1/5 +1  2024-05-01  191 kB  154 kB
HOST:PORT/demo/app  2.0  sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41  sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41     2/5 +2  2024-05-01  277 kB  154 kB
--- stderr
""")


def test_ls_quiet_prints_ids_only(run: Run, two: str) -> None:
    del two
    assert str(run("ls", "-q")) == snapshot("""\
status: 0
--- stdout
640d34e29cdf
a589c03475cf
--- stderr
""")


def test_ls_ignores_the_quiet_variable(run: Run, two: str, monkeypatch: pytest.MonkeyPatch) -> None:
    del two
    loud = run("ls").stdout
    monkeypatch.setenv("RESOLVER_QUIET", "1")

    assert run("ls").stdout == loud


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        (("*:1.0",), ["1.0"]),
        (("*/demo/app",), ["1.0", "2.0"]),
        (("nothing",), []),
        (("nothing", "*:2.*"), ["2.0"]),
        (("--filter", "reference=*:2.0"), ["2.0"]),
        (("--filter", "platform=linux/amd64"), ["2.0"]),
        (("--filter", "platform=linux"), ["1.0", "2.0"]),
        (("--filter", "platform=lin"), []),
        (("--filter", "dangling=false"), ["1.0", "2.0"]),
        (("--dangling",), []),
    ],
)
def test_ls_filters(run: Run, two: str, words: tuple[str, ...], tags: list[str]) -> None:
    seen = run("ls", *words, "--format", "ref", keep=True)

    assert seen.stdout.split() == [f"{two}:{tag}" for tag in tags]


def test_ls_rejects_an_invalid_filter(run: Run) -> None:
    assert str(run("ls", "--filter", "colour=blue")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `--filter colour=blue` is not a filter
hint: write `dangling=true`, `platform=linux/arm64` or `reference=*/app:*`
""")
    assert str(run("ls", "--filter", "dangling=perhaps")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `--filter dangling=perhaps` is neither true nor false
hint: write `--filter dangling=true` or `--filter dangling=false`
""")


def test_ls_json_output(run: Run, two: str) -> None:
    whole = json.loads(run("ls", "--json", keep=True).stdout)
    lines = [
        json.loads(line) for line in run("ls", "--format", "jsonl", keep=True).stdout.splitlines()
    ]

    assert [image["reference"] for image in whole["images"]] == [f"{two}:1.0", f"{two}:2.0"]
    assert whole["images"][1]["platforms"] == ["linux/amd64", "linux/arm64/v8"]
    assert len(whole["images"][0]["offered"]) == 5
    assert [{k: v for k, v in line.items() if k != "schema"} for line in lines] == whole["images"]


def test_ls_lists_the_old_image_of_a_moved_tag_without_a_name(run: Run, store: Path) -> None:
    first, second = (build_image("linux/amd64", [word * 9000]) for word in (b"one", b"two"))
    with FakeRegistry() as registry:
        name = f"{registry.host}/team/app:1"
        for image in (first, second):
            registry.serve("team/app", "1", image)
            run("pull", name, "-p", "linux/amd64", "--no-progress")

    seen = json.loads(run("ls", "--dangling", "--json").stdout)

    assert [image["root"]["digest"] for image in seen["images"]] == [first.digest]
    assert seen["images"][0]["reference"] is None
    assert run("ls", "--dangling").stdout.splitlines()[1].startswith("<none>      <none>")
    assert store.is_dir()


@pytest.mark.parametrize(
    "words", [("ls",), ("du",), ("gc",), ("gc", "--dry-run"), ("rm", "app:1"), ("verify",)]
)
def test_ls_rejects_a_folder_that_is_not_a_store(
    run: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README").write_text("mine")

    seen = run(*words, "--store", str(tmp_path / "other"))

    assert (seen.status, seen.stdout) == (8, "")
    assert "`FOLDER/other`: it is not empty, and it is not a store" in seen.stderr


def test_world_writable_store_is_used_only_when_shared(
    run: Run, two: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.chmod(0o777)
    words = ("resolve", f"{two}:1.0", "--offline", "-p", "linux/arm64")

    refused = run(*words)
    shared = run(*words, "--shared-store")
    monkeypatch.setenv("RESOLVER_SHARED_STORE", "1")

    assert (refused.status, shared.status, run("ls").status) == (8, 0, 0)
    assert refused.stderr.count("error: ") == 1
    assert (
        "hint: name another folder with `--store`, remove the write permission of others"
        in refused.stderr
    )


# inspect store:


def test_resolve_does_not_change_a_pulled_image(run: Run) -> None:
    first, second = (
        build_index([build_image("linux/amd64", [word * 900])]) for word in (b"1", b"2")
    )
    with FakeRegistry() as registry:
        name = f"{registry.host}/team/app:1"
        registry.serve("team/app", "1", first)
        run("pull", name, "-p", "linux/amd64", "--no-progress")
        registry.serve("team/app", "1", second)
        run("resolve", name, "-p", "linux/amd64")

    seen = run("inspect", f"store:{name}", "--format", "digest")

    assert (seen.status, seen.stdout.strip()) == (0, first.digest)


def test_rm_of_an_image_that_is_not_in_the_store(run: Run) -> None:
    assert str(run("inspect", "store:example.com/app:1")) == snapshot("""\
status: 3
--- stdout
--- stderr
error: the store `FOLDER/store` does not hold `example.com/app:1`
hint: list its images with `resolver ls`
""")


# rm


def test_rm_removes_a_name_and_the_content_only_it_needs(run: Run, two: str) -> None:
    assert str(run("rm", f"{two}:1.0")) == snapshot("""\
status: 0
--- stdout
Untagged: HOST:PORT/demo/app:1.0
Deleted: sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
Deleted: sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
Deleted: sha256:ba224a2ffee759989101f2eab668ec2925b1de96993e7fefcb8b26739d42a864
Deleted: sha256:640d34e29cdff0d3eb30a0e36b69576b7450992ca42314b4da7224a6465df4ad
Deleted: sha256:901ef5b6693597b3dd8c21182753002d851506e29be8771e6bdbf8390c091be8
Deleted: sha256:14fa95f15ff16719fae2cda259a5d2b0068f392844ff4bdbf573f000436d35c3
Deleted: sha256:98c1200128c847cec24bba7db7c34a0f9c7af8d13bfecb25681bf93fe2567e8f
--- stderr
""")
    assert run("verify", "--full").status == 0


def test_rm_removes_one_platform_and_keeps_the_other(run: Run, two: str) -> None:
    seen = run("rm", "-p", "linux/amd64", f"{two}:2.0")

    assert seen.status == 0
    assert "Untagged" not in seen.stdout
    assert seen.stdout.startswith(
        "Removed linux/amd64: HOST:PORT/demo/app:2.0 (stays for linux/arm64/v8)\n"
    )
    assert json.loads(run("ls", "*:2.0", "--json").stdout)["images"][0]["platforms"] == [
        "linux/arm64/v8"
    ]


def test_rm_removes_an_image_by_id(run: Run, two: str) -> None:
    del two
    identity = run("ls", "*:1.0", "-q").stdout.strip()

    assert run("rm", identity).stdout.startswith("Untagged: ")


def test_rm_keeps_an_id_with_several_names(run: Run, registry: str) -> None:
    for tag in ("2.0", "latest"):
        run("pull", f"{registry}/demo/app:{tag}", *ARM)
    identity = run("ls", "*:2.0", "-q").stdout.strip()

    assert str(run("rm", identity)) == snapshot("""\
status: 1
--- stdout
--- stderr
error: `c7292c959160` is kept: it has several names: `HOST:PORT/demo/app:2.0`, `HOST:PORT/demo/app:latest`
hint: remove them one by one, or all of them with `--force`
""")
    assert run("rm", "--force", identity).stdout.count("Untagged: ") == 2


def test_rm_keeps_an_image_in_use(run: Run, two: str, store: Path) -> None:
    root = json.loads(run("ls", "*:1.0", "--json").stdout)["images"][0]["root"]["digest"]
    mine = LocalStore(store)
    document = mine.document(root)
    with mine.lease([document.descriptor.digest], "export to somewhere"):
        seen = run("rm", f"{two}:1.0")

    assert str(seen) == snapshot("""\
status: 1
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is kept: it is in use by `export to somewhere`
hint: wait until that has ended, or untag it with `--force`
""")


def moved(run: Run, words: tuple[bytes, ...], tag: str = "1") -> str:
    """Pull a tag that moves from one image to another; return its repository."""
    with FakeRegistry() as registry:
        for word in words:
            registry.serve("team/app", tag, build_image("linux/amd64", [word * 9000]))
            run("pull", f"{registry.host}/team/app:{tag}", "-p", "linux/amd64", "--no-progress")
        return f"{registry.host}/team/app"


@pytest.mark.parametrize("words", [("-q",), ("-q", "--no-trunc")])
def test_rm_removes_every_listed_dangling_id(run: Run, words: tuple[str, ...]) -> None:
    moved(run, (b"one", b"two", b"three"))
    ids = run("ls", *words, "--dangling").stdout.split()

    seen = run("rm", *ids)

    assert len(ids) == 2
    assert (seen.status, seen.stderr) == (0, "")
    assert seen.stdout.count("Deleted: ") == 6
    assert run("ls", "-q", "--dangling").stdout == ""
    assert len(run("ls", "-q").stdout.split()) == 1


def test_rm_removes_an_image_by_repository_and_digest(run: Run, two: str) -> None:
    digest = json.loads(run("ls", "*:1.0", "--json").stdout)["images"][0]["root"]["digest"]

    assert run("rm", f"{two}-other@{digest}").status == 3
    assert run("rm", f"{two}:2.0@{digest}").status == 3
    seen = run("rm", f"{two}@{digest}", keep=True)

    assert seen.stdout.splitlines()[0] == f"Untagged: {two}:1.0"


def test_rm_lists_the_images_that_match_an_ambiguous_prefix(run: Run) -> None:
    moved(run, tuple(b"%d" % number for number in range(20)))
    full = run("ls", "-q", "--no-trunc").stdout.split()
    starts = [text[7:8] for text in full]
    start = next(each for each in starts if starts.count(each) > 1)

    seen = run("rm", start)

    assert seen.status == 2
    assert f"error: `{start}` is the prefix of " in seen.stderr
    assert sum(text in seen.stderr for text in full if text[7:8] == start) > 1
    assert run("ls", "-q", "--no-trunc").stdout.split() == full


def test_rm_prefers_a_name_over_an_id(run: Run) -> None:
    repository = moved(run, (b"one",), tag="cafe")

    assert run("rm", f"{repository}:cafe").stdout.startswith("Untagged: ")


# What was read and not pulled


@pytest.fixture
def compared(run: Run, registry: str) -> str:
    """Compare the files of an image that was not pulled."""
    seen = run("compare", f"{registry}/demo/app:1.0", "--files", "--no-progress")
    assert seen.status == 0
    notes = [line for line in seen.stderr.splitlines() if line.startswith("note: ")]
    assert [note.startswith("note: fetched ") for note in notes] == [True]
    assert "`resolver gc` removes them" in notes[0]
    return f"{registry}/demo/app:1.0"


def test_compare_reports_fetched_content_once(run: Run, compared: str) -> None:
    again = run("compare", compared, "--files", "--no-progress")

    assert again.status == 0
    assert "note: fetched" not in again.stderr


def test_ls_lists_content_fetched_by_compare_separately(run: Run, compared: str) -> None:
    seen = run("ls", keep=True)
    listed = json.loads(run("ls", "--json", keep=True).stdout)

    assert "<none>" not in seen.stdout
    assert seen.stdout.startswith("images: none\n\nread and not pulled")
    assert listed["images"] == []
    assert listed["unpulled"]
    assert all(compared in image["readAs"] for image in listed["unpulled"])
    assert "of it read and not pulled" in run("du").stdout
    assert json.loads(run("du", "--json").stdout)["unpulled"] > 0


def test_ls_lists_no_dangling_image_of_a_moved_tag_only_read(run: Run) -> None:
    first, second = (
        build_index(
            [
                build_image("linux/amd64", [build_layer({word: word.encode() * 900})]),
                build_image("linux/arm64", [build_layer({word: word.encode() * 901})]),
            ]
        )
        for word in ("one", "two")
    )
    with FakeRegistry() as registry:
        name = f"{registry.host}/team/app:1"
        for image in (first, second):
            registry.serve("team/app", "1", image)
            assert run("compare", name, "--files", "--no-progress").status == 0

    listed = json.loads(run("ls", "--json").stdout)

    assert listed["images"] == []
    assert len(listed["unpulled"]) == 4


def test_rm_removes_content_only_read_by_its_listed_id(run: Run, compared: str) -> None:
    del compared
    ids = run("ls", "-q").stdout.split()

    seen = run("rm", *ids)

    assert seen.status == 0
    assert json.loads(run("ls", "--json").stdout)["unpulled"] == []


def test_pull_after_compare_lists_a_normal_image(run: Run, compared: str) -> None:
    run("pull", compared, "-p", "all", "--no-progress")

    listed = json.loads(run("ls", "--json").stdout)

    assert [len(listed[key]) for key in ("images", "unpulled")] == [1, 0]


def test_gc_explains_why_content_is_kept(run: Run, compared: str) -> None:
    del compared
    seen = run("gc")
    output = json.loads(run("gc", "--json").stdout)

    assert "younger than 1h (`--grace`)" in seen.stdout
    reasons = {stay["reason"]: stay for stay in output["stays"]}
    assert set(reasons) == {"grace", "noted"}
    assert reasons["grace"]["age"] == 3600
    assert sum(stay["size"] for stay in output["stays"]) == output["keptSize"] == output["total"]
    assert output["limit"] is None


def test_gc_names_the_process_that_keeps_content(run: Run, two: str, store: Path) -> None:
    root = json.loads(run("ls", "*:1.0", "--json").stdout)["images"][0]["root"]["digest"]
    mine = LocalStore(store)
    with mine.lease([mine.document(root).descriptor.digest], "serve") as lease:
        run("rm", "--force", f"{two}:1.0")
        mine.add(blob_of(b"new"), [b"new"])
        output = json.loads(run("gc", "--grace", "0s", "--json").stdout)
        text = run("gc", "--grace", "0s").stdout
        del lease

    process = os.getpid()
    assert {(stay["reason"], stay["purpose"], stay["process"]) for stay in output["stays"]} == {
        ("lease", "serve", process),
        ("since", "serve", process),
    }
    assert f"in use by `serve` (process {process})" in text
    assert f"added since `serve` (process {process}) began" in text
    assert run("gc", "--grace", "0s").stdout.startswith("Total reclaimed space: ")
    assert json.loads(run("gc", "--grace", "0s", "--json").stdout)["stays"] == []


def test_rm_of_several_with_one_missing_removes_the_others(run: Run, two: str) -> None:
    seen = run("rm", "example.com/nothing:1", f"{two}:1.0", "--json")
    output = json.loads(seen.stdout)

    assert seen.status == 3
    assert output["results"][0]["error"]["code"] == "image-not-held"
    assert output["results"][1]["untagged"]


@pytest.mark.parametrize("name", ["oci:mirror", "a//b", ""])
def test_rm_rejects_an_invalid_name(run: Run, name: str) -> None:
    assert run("rm", name).status == 2


def test_rm_json_output(run: Run, two: str) -> None:
    output = json.loads(run("rm", f"{two}:1.0", "--json", keep=True).stdout)

    assert output["untagged"] == [f"{two}:1.0"]
    assert output["freed"] > 0


# gc


def test_gc_with_nothing_to_collect(run: Run, two: str) -> None:
    del two
    assert str(run("gc")) == snapshot("""\
status: 0
--- stdout
Total reclaimed space: 0 B
Kept: 23 blobs, 314 kB
--- stderr
""")


def test_gc_dry_run_lists_content_and_keeps_it(run: Run, two: str) -> None:
    run("rm", f"{two}:1.0")
    (Path(os.environ["RESOLVER_STORE"]) / "tmp" / "left").write_bytes(b"17 bytes of trash")
    before = run("du").stdout

    seen = run("gc", "--dry-run", "--max-size", "1kB", "--grace", "0s")

    assert seen.status == 0
    assert seen.stdout.startswith("Would reclaim: ")
    assert run("du").stdout == before


def test_gc_size_limit_removes_names(run: Run, two: str) -> None:
    del two
    seen = run("gc", "--max-size", "1kB", "--grace", "0s")

    assert seen.stdout.startswith("Total reclaimed space: ")
    assert run("ls").stdout == "images: none\n"


def test_gc_above_the_size_limit_exits_with_a_finding_and_its_reason(
    run: Run, compared: str, store: Path
) -> None:
    del compared
    seen = run("gc", "--max-size", "20kB")
    assert seen.status == 1
    assert re.fullmatch(
        r"error: the store takes ([0-9]+ kB), and `--max-size` allows 20\.0 kB: "
        r"\1 younger than 1h \(`--grace`\)\n"
        "hint: delete recent content too: add `--grace 0s`\n",
        seen.stderr,
    )
    output = run("gc", "--max-size", "20kB", "--json")
    assert output.status == 1
    assert json.loads(output.stdout)["total"] > json.loads(output.stdout)["limit"] == 20_000
    assert run("gc", "--max-size", "20kB", "--grace", "0s").status == 0
    used = json.loads(run("du", "--json").stdout)
    assert used["blobs"] + used["partial"] + used["temporary"] <= 20_000
    assert store.is_dir()


def test_gc_keeps_an_image_in_use_above_the_size_limit(run: Run, two: str, store: Path) -> None:
    del two
    root = json.loads(run("ls", "*:1.0", "--json").stdout)["images"][0]["root"]["digest"]
    mine = LocalStore(store)
    with mine.lease([mine.document(root).descriptor.digest], "export app"):
        seen = run("gc", "--max-size", "1kB")

    assert seen.status == 1
    assert f"an image in use by `export app` (process {os.getpid()})" in seen.stderr
    assert "hint: stop that process or wait for it" in seen.stderr


def test_gc_counts_quarantined_content_and_removes_it_first(
    run: Run, two: str, store: Path
) -> None:
    spoil(blob(store, layers(run, f"{two}:1.0")[0]))
    run("verify", "--full")
    run("pull", f"{two}:1.0", *ARM)
    used = json.loads(run("du", "--json").stdout)
    assert used["temporary"] > 0
    limit = used["blobs"] + used["temporary"] - 1

    output = json.loads(run("gc", "--max-size", str(limit), "--json").stdout)

    assert [item["kind"] for item in output["removed"]] == ["temporary"]
    assert output["total"] == used["blobs"]
    assert len(run("ls", "-q").stdout.split()) == 2


def test_gc_keeps_content_used_by_the_job(
    run: Run, two: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = int(time.time()) + 1
    monkeypatch.setenv("RESOLVER_JOB_STARTED", str(began))
    monkeypatch.setattr("time.time", lambda: began + 5.0)
    # Up to date, which counts as used.
    assert "up to date" in run("pull", f"{two}:1.0", *ARM).stdout

    seen = run("gc", "--ci", "--grace", "0s")

    assert seen.status == 0
    assert run("ls", "--format", "ref", keep=True).stdout == f"{two}:1.0\n"
    assert store.is_dir()


def test_gc_removes_nothing_from_an_unreadable_store(run: Run, two: str, store: Path) -> None:
    name = next((store / "names").iterdir())
    name.write_text("{")
    blobs = sorted((store / "blobs" / "sha256").iterdir())

    seen = run("gc", "--grace", "0s")

    assert seen.status == 8
    assert seen.stderr.count("error: ") == 1
    assert sorted((store / "blobs" / "sha256").iterdir()) == blobs
    assert two


@pytest.mark.parametrize("form", ["table", "json"])
def test_gc_with_an_unreadable_lease_is_partial_and_names_the_process(
    run: Run, two: str, store: Path, form: str
) -> None:
    with LocalStore(store).lease((), "pull docker.io/library/app:1"):
        (lease,) = (store / "leases").iterdir()
        with lease.open("ab") as file:
            file.write(b"nonsense\n")
        seen = run("gc", "--max-size", "1kB", "--grace", "0s", "--format", form)
        assert seen.status == 8
        who = f"`pull docker.io/library/app:1` uses it (process {os.getpid()})"
        assert seen.stderr.startswith("warning: the lease `")
        assert f"/leases/{lease.name}` keeps all images and blobs: {who}" in seen.stderr
        if form == "json":
            output = json.loads(seen.stdout)
            assert output["partial"] is True
            (unread,) = output["unreadableLeases"]
            assert (unread["pid"], Path(unread["path"]).name) == (os.getpid(), lease.name)
            assert unread["purpose"] == "pull docker.io/library/app:1"
    seen = run("gc", "--grace", "0s", "--format", "json")
    assert seen.status == 0
    assert '"partial": false' in seen.stdout
    assert f"{two}:1.0\n" in run("ls", "--format", "ref", keep=True).stdout


def test_gc_ci_outside_a_pipeline_is_a_usage_error(run: Run) -> None:
    assert str(run("gc", "--ci")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `--ci` works only in CI jobs, and `CI` is not set
hint: set `RESOLVER_JOB_STARTED` to `date +%s` at the start of the job
""")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RESOLVER_JOB_STARTED": "1700000000"}, 1_700_000_000),
        ({"CI_JOB_STARTED_AT": "2023-11-14T22:13:20Z"}, 1_700_000_000),
        ({"CI_JOB_STARTED_AT": "2023-11-14T23:13:20+01:00", "CI": "true"}, 1_700_000_000),
    ],
)
def test_gc_reads_the_start_of_a_job(environment: dict[str, str], expected: int) -> None:
    assert gc.job_start(environment) == expected


@pytest.mark.parametrize("text", ["yesterday", "2023-11-14T22:13:20", "-1", "1" * 13, "\u0661"])
def test_gc_rejects_an_invalid_start_time(text: str) -> None:
    with pytest.raises(InvalidConfiguration):
        gc.job_start({"RESOLVER_JOB_STARTED": text})


def test_gc_without_a_variable_uses_the_boot_time(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1700000000\nprocesses 5\n")
    ticks = 3 * os.sysconf("SC_CLK_TCK")
    (tmp_path / "1" / "stat").write_text(f"1 (a) b) S {'0 ' * 18}{ticks} 0 0\n")

    assert gc.machine_start(tmp_path) == 1_700_000_003
    assert gc.machine_start(tmp_path / "nowhere") is None
    assert 0 < gc.job_start({"CI": "true"}) < time.time() + 2


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (("--keep-newer", "soon"), "--keep-newer"),
        (("--max-size", "small"), "--max-size"),
        (("--grace", "1"), "--grace"),
    ],
)
def test_gc_names_an_invalid_size(run: Run, words: tuple[str, ...], about: str) -> None:
    seen = run("gc", *words)

    assert seen.status == 2
    assert about in seen.stderr


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1048576", 1_048_576), ("500MB", 500_000_000), ("2GiB", 2 * 2**30),
     ("1.5 kB", 1500), ("0.1k", 100), ("3t", 3 * 10**12), ("1.999999999GB", 1_999_999_999)],
)  # fmt: skip
def test_gc_sizes_are_parsed_exactly(text: str, count: int) -> None:
    assert size(text, "--max-size") == count


@pytest.mark.parametrize("text", ["", "1e9", "1_000", "0x10", "1..5MB", " 5MB", "5MB\n", "9" * 40])
def test_gc_rejects_invalid_sizes(text: str) -> None:
    with pytest.raises(Usage):
        size(text, "--max-size")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("2w", 1_209_600)]
)
def test_gc_ages_are_parsed(text: str, seconds: int) -> None:
    assert span(text, "--grace") == seconds


# verify


def test_verify_of_a_valid_store(run: Run, two: str) -> None:
    del two
    assert str(run("verify")) == snapshot("""\
status: 0
--- stdout
names    2
blobs    23, 314 kB
hashed   314 kB
result   no problem found
--- stderr
""")


def test_verify_reports_damage_as_a_finding(run: Run, two: str, store: Path) -> None:
    layer = layers(run, f"{two}:1.0")[2]
    spoil(blob(store, layer))

    assert str(run("verify", "--full")) == snapshot("""\
status: 1
--- stdout
names    2
blobs    23, 314 kB
hashed   314 kB
result   1 damaged, 0 repaired

WHAT                 PROBLEM        NEEDED BY                     NOW
sha256:14fa95f15ff1  wrong content  HOST:PORT/demo/app:1.0  damaged
--- stderr
warning: `FOLDER/store/blobs/sha256/14fa95f15ff16719fae2cda259a5d2b0068f392844ff4bdbf573f000436d35c3` is damaged and treated as absent; it is read again
""")


def test_verify_repair_fetches_damaged_content(run: Run, two: str, store: Path) -> None:
    first, _, last = layers(run, f"{two}:1.0")
    spoil(blob(store, first))
    blob(store, last).unlink()

    assert str(run("verify", "--full", "--repair")) == snapshot("""\
status: 0
--- stdout
names    2
blobs    23, 314 kB
hashed   365 kB
result   0 damaged, 2 repaired

WHAT                 PROBLEM        NEEDED BY                                                   NOW
sha256:14fa95f15ff1  missing        HOST:PORT/demo/app:1.0                                repaired
sha256:50ee82149703  wrong content  HOST:PORT/demo/app:1.0, HOST:PORT/demo/app:2.0  repaired
--- stderr
warning: `FOLDER/store/blobs/sha256/50ee821497038ebe88680e97579db49107a2d9f40ecbf59f33a528266627ec8e` is damaged and treated as absent; it is read again
""")
    assert run("verify", "--full").stdout.endswith("no problem found\n")


def test_verify_repair_needs_a_registry(run: Run, two: str) -> None:
    del two
    assert str(run("verify", "--repair", "--offline")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `--repair` fetches, and `--offline` sends no requests
hint: leave one of them out
""")


def test_verify_json_output(run: Run, two: str, store: Path) -> None:
    layer = layers(run, f"{two}:1.0")[2]
    blob(store, layer).unlink()

    seen = run("verify", "--json", keep=True)
    output = json.loads(seen.stdout)

    assert seen.status == 1
    assert output["sound"] is False
    assert output["damaged"] == [
        {"name": layer, "problem": "missing", "references": [f"{two}:1.0"], "repaired": False}
    ]


# du


def test_du_lists_images_that_share_layers(run: Run, two: str) -> None:
    del two
    assert str(run("du")) == snapshot("""\
status: 0
--- stdout
store    314 kB
images   314 kB
unused   0 B
partial  0 B

IMAGE                             OWN  SHARED  WITH                          COMMON
HOST:PORT/demo/app:1.0  37.4 kB  154 kB  HOST:PORT/demo/app:2.0  154 kB
HOST:PORT/demo/app:2.0   123 kB  154 kB  HOST:PORT/demo/app:1.0  154 kB
--- stderr
""")


def test_ls_does_not_wait_for_a_lock(run: Run, two: str, store: Path) -> None:
    del two
    with LocalStore(store).writing():
        assert run("ls").status == 0
        assert run("du").status == 0


def test_ls_prints_whole_names_to_a_pipe(run: Run, registry: str) -> None:
    name = f"{registry}/demo/app:1.0"
    run("pull", name, *ARM)
    run("lock", name)
    for words in (("ls",), ("du",), ("plan", name, f"{registry}/demo/single:1.0")):
        lines = run(*words, keep=True).stdout.splitlines()

        assert any(name.rpartition(":")[0] in line for line in lines), words
        assert not any("…" in line for line in lines)


def test_plan_of_several_images_names_the_image_per_blob(run: Run, registry: str) -> None:
    names = [f"{registry}/demo/{name}" for name in ("app:1.0", "app:2.0")]
    output = run("plan", *names, "-p", "linux/arm64", keep=True).stdout
    pieces = output.partition("\npieces\n")[2].splitlines()[1:]

    assert any(line.endswith(f"missing  {names[0]}") for line in pieces)
    assert any(line.endswith(f"missing  {names[1]}") for line in pieces)
    assert any(line.endswith(f"missing  {names[0]}, {names[1]}") for line in pieces)
