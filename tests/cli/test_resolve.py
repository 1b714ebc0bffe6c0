"""Output of `resolver resolve`: status, stdout, stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.cli.app import COMMANDS
from resolver.core.platforms.platform import Platform
from resolver.demo import samples
from resolver.errors import InvalidPlatform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_resolve_prints_both_digests_with_labels(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm64")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
platform linux/arm64/v8 (normalised; requested linux/arm64)
manifest sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
type     application/vnd.oci.image.manifest.v1+json
size     860 bytes
--- stderr
""")


def test_resolve_explain_lists_every_entry_and_its_reason(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm/v8", "--explain")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
platform linux/arm/v7 (fallback; requested linux/arm/v8)
manifest sha256:e9c938fb2564d82d2eaa50a8e621dd74fe62d5d73b56f603d9c0d4cf60ca6744
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
type     application/vnd.oci.image.manifest.v1+json
size     860 bytes

#  PLATFORM                       DIGEST               WHY
1  linux/amd64                    sha256:311923c08153  other architecture
2  linux/arm64/v8                 sha256:8d3661f10977  other architecture
3  linux/arm/v7                   sha256:e9c938fb2564  chosen
4  windows/amd64:10.0.20348.2700  sha256:afae86adc642  other operating system
5  windows/amd64:10.0.26100.1742  sha256:8322b11c5bf7  other operating system
6  unknown/unknown                sha256:708e4d188822  attestation, not an image
7  unknown/unknown                sha256:ba224a2ffee7  attestation, not an image
8  unknown/unknown                sha256:374989eeaccf  attestation, not an image
--- stderr
warning: `HOST:PORT/demo/app:1.0` is not offered for `linux/arm/v8`; using `linux/arm/v7`, which it can run (`--exact` rejects this)
""")


def test_resolve_missing_platform_lists_offered_platforms(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/s390x")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is not offered for `linux/s390x`
hint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
""")


def test_resolve_explains_windows_builds_that_are_too_old(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "windows/amd64:ltsc2019")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is not offered for `windows/amd64:10.0.17763`
hint: `windows/amd64:10.0.20348.2700` does not match: Windows build 20348 is newer than the host's 17763
hint: `windows/amd64:10.0.26100.1742` does not match: Windows build 26100 is newer than the host's 17763
hint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
""")


def test_resolve_exact_refuses_a_fallback(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm/v8", "--exact")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is not offered for `linux/arm/v8`
hint: `linux/arm/v7` does not match: arm/v7 can stand in for arm/v8, but is not exact
hint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
""")


def test_resolve_single_image_rejects_another_platform(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/single:1.0", "-p", "linux/arm64")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/single:1.0` is not offered for `linux/arm64`
hint: it is offered for `linux/amd64`
""")


def test_resolve_verify_reports_an_index_with_a_false_platform(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/liar:1.0", "-p", "linux/arm64", "--verify")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/liar:1.0
platform linux/arm64/v8 (normalised; requested linux/arm64)
manifest sha256:4d002f6fbb5528e9178f7db899179dfac3f41289b7606844aa26f72b55e52e57
index    sha256:b18a87ff50801f322595c83e1fef64e13ec0303aa779e7e293d521eb29e2f780
type     application/vnd.oci.image.manifest.v1+json
size     860 bytes
--- stderr
warning: `HOST:PORT/demo/liar:1.0` lists `sha256:4d002f6fbb5528e9178f7db899179dfac3f41289b7606844aa26f72b55e52e57` as `linux/arm64/v8`, but its config says `linux/amd64`
""")


def test_resolve_strict_rejects_an_index_with_a_false_platform(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/liar:1.0", "-p", "linux/arm64", "--strict")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/liar:1.0` is listed as `linux/arm64/v8`, but its config says `linux/amd64`
hint: report it to the publisher; without `--strict` this is a warning
""")


def test_resolve_several_prints_a_line_each_and_the_worst_status(run: Run, registry: str) -> None:
    names = [f"{registry}/demo/app:{tag}" for tag in ("1.0", "missing", "2.0")]

    seen = run("resolve", *names, "-p", "linux/amd64,linux/arm64")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede  linux/amd64                    exact       HOST:PORT/demo/app:1.0
sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a  linux/arm64/v8                 normalised  HOST:PORT/demo/app:1.0
error: manifest-not-found                                                linux/amd64                    -           HOST:PORT/demo/app:missing
error: manifest-not-found                                                linux/arm64                    -           HOST:PORT/demo/app:missing
sha256:96959fcc8122cc3bc14a294d7872ba6975843302c95228df2bc66faec674a90d  linux/amd64                    exact       HOST:PORT/demo/app:2.0
sha256:327a3a89fb99230e60874958091495670743250edea4791899899865890ea9ab  linux/arm64/v8                 normalised  HOST:PORT/demo/app:2.0
--- stderr
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:missing` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:missing` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
note: resolved 4 of 6, 2 failed
""")


def test_resolve_verify_tag_notes_a_reference_without_a_tag(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "--verify-tag", "--format", "digest")

    assert seen.status == 0
    assert seen.stderr == snapshot("""\
warning: `HOST:PORT/demo/app:1.0` is not `name:tag@digest`, so there is no tag to verify
""")


def test_resolve_several_in_markdown_includes_failures(run: Run, registry: str) -> None:
    names = [f"{registry}/demo/app:{tag}" for tag in ("9", "1.0")]

    seen = run("resolve", *names, "-p", "linux/amd64", "--format", "markdown")

    assert seen.status == 3
    assert seen.stdout.splitlines()[:7] == snapshot(
        [
            "**resolved 1 of 2, 1 failed**",
            "",
            "**images**",
            "",
            "| image | platform | grade | digest |",
            "| --- | --- | --- | --- |",
            ("| `HOST:PORT/demo/app:9` | `linux/amd64` | error: manifest-not-found | - |"),
        ]
    )


def test_resolve_several_in_html_is_one_page(run: Run, registry: str) -> None:
    name = f"{registry}/demo/app"
    words = ("resolve", f"{name}:9", f"{name}:1.0", "-p", "linux/amd64", "--format", "html")
    seen = run(*words)

    assert seen.status == 3
    assert seen.stdout.count("<!DOCTYPE html>") == 1
    assert "error: manifest-not-found" in seen.stdout
    assert seen.stdout.count("demo/app:") >= 2
    assert "supports only one answer" in run(*words, "--explain").stderr


def test_resolve_explain_several_with_no_trunc_prints_whole_digests(
    run: Run, registry: str
) -> None:
    asked = [f"{registry}/demo/app:1.0", "-p", "linux/amd64,linux/arm64", "--explain"]
    attestation = "sha256:708e4d18882279b141cceb93a85fe6280efbcd559b59b50c1adbc62c55e05a72"

    assert run("resolve", *asked).stdout.count(attestation) == 0
    assert run("resolve", *asked, "--no-trunc").stdout.count(attestation) == 2


def test_resolve_platform_all_lists_every_offered_platform(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "all", "--format", "digest")

    assert seen.status == 0
    assert len(seen.stdout.split()) == 5


def test_resolve_unknown_tag_is_not_found(run: Run, registry: str) -> None:
    assert str(run("resolve", f"{registry}/demo/app:9.9")) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:9.9` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
""")


def test_resolve_unknown_repository_is_not_found(run: Run, registry: str) -> None:
    assert str(run("resolve", f"{registry}/demo/nothing")) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT` has no repository `demo/nothing`
hint: check the spelling; a private repository may also need a login
""")


def test_resolve_from_a_closed_port(run: Run) -> None:
    assert str(run("resolve", "127.0.0.1:9/app:1", "-p", "linux/amd64")) == snapshot("""\
status: 5
--- stdout
--- stderr
error: `HOST:PORT` refuses connections
hint: check that it runs, and the port
""")


def test_resolve_offline_answers_from_the_store_and_reports_missing_content(
    run: Run, registry: str
) -> None:
    name = f"{registry}/demo/app:1.0"

    assert str(run("resolve", name, "--offline")) == snapshot("""\
status: 7
--- stdout
--- stderr
error: the store `FOLDER/store` does not hold the tag of `HOST:PORT/demo/app:1.0`, and `--offline` is set
hint: run the same command once without `--offline`
""")
    run("resolve", name, "-p", "linux/arm64")
    held = run("resolve", name, "-p", "linux/arm64", "--offline", "--format", "ref")

    assert str(held) == snapshot("""\
status: 0
--- stdout
HOST:PORT/demo/app@sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
--- stderr
""")


def test_resolve_verify_tag_reports_a_moved_tag(run: Run, registry: str) -> None:
    first = next(s for s in samples() if (s.repository, s.tag) == ("demo/app", "1.0"))
    pinned = f"{registry}/demo/app:2.0@{first.root.digest}"

    assert run("resolve", pinned, "-p", "linux/amd64").status == 0
    assert str(run("resolve", pinned, "-p", "linux/amd64", "--verify-tag")) == snapshot("""\
status: 1
--- stdout
--- stderr
error: `HOST:PORT/demo/app:2.0@sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda` is pinned to `sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda`, but the tag now points at `sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41`
hint: write the new digest if you want the new image, or drop the tag from the reference
""")


def test_resolve_verify_tag_reports_an_unchanged_tag(run: Run, registry: str) -> None:
    first = next(s for s in samples() if (s.repository, s.tag) == ("demo/app", "1.0"))
    pinned = f"{registry}/demo/app:1.0@{first.root.digest}"

    seen = run("resolve", pinned, "-p", "linux/amd64", "--verify-tag", "--json")

    assert json.loads(seen.stdout)["tagVerified"] is True


class TestJson:
    def test_resolve_json_is_one_document(self, run: Run, registry: str) -> None:
        seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm64", "--json")

        assert seen.stderr == ""
        assert json.loads(seen.stdout)["platform"]["architecture"] == "arm64"

    def test_resolve_several_in_json_keeps_failures_in_order(self, run: Run, registry: str) -> None:
        names = [f"{registry}/demo/app:{tag}" for tag in ("1.0", "missing")]

        seen = run("resolve", *names, "-p", "linux/arm64", "--json")
        results = json.loads(seen.stdout)["results"]

        assert seen.status == 3
        assert "manifest" in results[0]
        assert results[1]["error"]["code"] == "manifest-not-found"
        assert results[1]["reference"].endswith("/demo/app:missing")

    def test_resolve_json_lines_prints_one_document_per_line(self, run: Run, registry: str) -> None:
        names = [f"{registry}/demo/app:{tag}" for tag in ("1.0", "missing", "2.0")]

        seen = run("resolve", *names, "--format", "jsonl", "-p", "linux/amd64")

        assert ["error" in json.loads(line) for line in seen.stdout.splitlines()] == [
            False,
            True,
            False,
        ]

    def test_resolve_failure_in_json_is_a_document_and_a_line_on_stderr(
        self, run: Run, registry: str
    ) -> None:
        seen = run("resolve", f"{registry}/demo/app:9.9", "--json")

        assert json.loads(seen.stdout)["error"]["class"] == "NOT_FOUND"
        assert seen.stderr.startswith("error: ")

    def test_resolve_usage_error_in_json_is_a_document(self, run: Run) -> None:
        seen = run("resolve", "--json", "app", "--no-such-option")

        assert json.loads(seen.stdout)["error"]["class"] == "USAGE"
        assert seen.status == 2


class TestFile:
    def test_resolve_reads_references_from_a_file(
        self, run: Run, registry: str, tmp_path: Path
    ) -> None:
        names = f"# ours\n{registry}/demo/app:1.0\n\n  {registry}/demo/app:2.0\n"
        (tmp_path / "images.txt").write_text(names)

        seen = run("resolve", "-f", "images.txt", "-p", "linux/amd64", "--format", "ref")

        assert seen.status == 0
        assert [line.split("@")[0] for line in seen.stdout.split()] == ["HOST:PORT/demo/app"] * 2

    def test_resolve_reports_a_bad_line_in_its_place(
        self, run: Run, registry: str, tmp_path: Path
    ) -> None:
        app = f"{registry}/demo/app"
        (tmp_path / "images.txt").write_text(f"{app}:1.0\nUPPER\n{app}:9.9\n{app}:2.0\n")

        seen = run("resolve", "-f", "images.txt", "-p", "linux/amd64")

        assert seen.status == 3
        lines = seen.stdout.splitlines()
        assert [line.split()[-1] for line in lines] == [
            "HOST:PORT/demo/app:1.0", "UPPER", "HOST:PORT/demo/app:9.9", "HOST:PORT/demo/app:2.0",
        ]  # fmt: skip
        assert lines[1].startswith("error: invalid-reference ")
        assert "error: images.txt:2: `UPPER` is not an image reference" in seen.stderr
        assert seen.stderr.endswith("note: resolved 2 of 4, 2 failed\n")
        columns = {line.index(" linux/amd64") for line in lines}
        assert len(columns) == 1

    def test_only_line_of_a_file_that_is_malformed_is_named(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "images.txt").write_text("# ours\nUPPER\n")

        assert str(run("resolve", "-f", "images.txt")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: images.txt:2: `UPPER` is not an image reference: repository name must be lowercase
hint: write `upper`
""")

    @pytest.mark.parametrize(
        ("words", "kept"),
        [
            (("check", "--require", "linux/amd64"), "demo/app:1.0"),
            (("lint",), "demo/app:1.0"),
            (("plan", "-p", "linux/amd64"), "demo/app:1.0"),
            (("pull", "-p", "linux/amd64"), "Downloaded newer image for HOST:PORT/demo/app:1.0"),
            (("lock", "-o", "new.lock"), "added"),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) else "",
    )
    def test_every_batch_keeps_going_after_a_bad_line(
        self, run: Run, registry: str, tmp_path: Path, words: tuple[str, ...], kept: str
    ) -> None:
        app = f"{registry}/demo/app"
        (tmp_path / "images.txt").write_text(f"UPPER\n{app}:1.0\n")

        seen = run(*words, "-f", "images.txt")

        assert seen.status == 2
        assert kept in seen.stdout or words[0] == "lock"
        assert seen.stderr.count("error: images.txt:1: `UPPER` is not an image reference") == 1
        if words[0] == "pull":
            assert "is kept" not in seen.stderr
            assert run("ls", "-q").stdout != ""

    def test_batch_without_a_usable_reference_is_an_error(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "images.txt").write_text("UPPER\nALSO\n")

        for words in (("plan",), ("pull",), ("lock",), ("lint",), ("resolve",)):
            seen = run(*words, "-f", "images.txt")
            assert seen.status == 2
            assert "`UPPER` is not an image reference" in seen.stderr

    def test_failed_references_of_a_plan_are_in_its_json(self, run: Run, registry: str) -> None:
        seen = run("plan", f"{registry}/demo/app:1.0", f"{registry}/demo/app:9.9", "--json")
        values = json.loads(seen.stdout)

        assert seen.status == 3
        assert [item["reference"][-12:] for item in values["failures"]] == ["demo/app:9.9"]
        assert values["images"]

    @pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n"])
    def test_resolve_rejects_a_file_without_references(
        self, run: Run, tmp_path: Path, content: str
    ) -> None:
        (tmp_path / "images.txt").write_text(content)

        assert run("resolve", "-f", "images.txt").status == 2

    def test_resolve_reports_a_missing_file_or_a_folder(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()

        assert str(run("resolve", "-f", "nowhere.txt")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: cannot read `nowhere.txt`: No such file or directory
hint: name a readable file
""")
        assert str(run("resolve", "-f", "folder")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: cannot read `folder`: Is a directory
hint: name a readable file
""")


@pytest.mark.parametrize("variable", ["RESOLVER_PLATFORM", "DOCKER_DEFAULT_PLATFORM"])
def test_resolve_names_the_variable_of_an_invalid_platform(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "junk")

    seen = run("resolve", "127.0.0.1:9/app")

    assert seen.status == 2
    assert f"the variable `{variable}` sets it" in seen.stderr
    # The user's own input is not escaped.
    assert variable not in run("resolve", "127.0.0.1:9/app", "-p", "nonsense").stderr


class TestPatterns:
    def test_pattern_stands_for_the_platforms_that_match(self, run: Run, registry: str) -> None:
        for pattern, expected in (
            ("linux/*", ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"]),
            ("*/arm64", ["linux/arm64/v8"]),
            ("windows/*:10.0.20348*", ["windows/amd64:10.0.20348.2700"]),
            ("linux/arm/v?", ["linux/arm/v7"]),
        ):
            seen = run("resolve", f"{registry}/demo/app:1.0", "-p", pattern)

            assert seen.status == 0
            assert [line.split()[1] for line in seen.stdout.splitlines()] == expected

    def test_pattern_and_names_together(self, run: Run, registry: str) -> None:
        seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm64,linux/arm/*")

        assert [line.split()[1] for line in seen.stdout.splitlines()] == [
            "linux/arm64/v8", "linux/arm/v7",
        ]  # fmt: skip

    def test_each_image_is_matched_by_itself(self, run: Run, registry: str) -> None:
        images = (f"{registry}/demo/single:1.0", f"{registry}/demo/app:1.0")
        seen = run("resolve", *images, "-p", "linux/arm*")

        assert seen.status == 3
        assert len(seen.stdout.splitlines()) == 3
        assert "is not offered for `linux/arm*`" in seen.stderr

    def test_pattern_without_a_match_lists_what_is_offered(self, run: Run, registry: str) -> None:
        for words in (("resolve",), ("plan",), ("pull",), ("compare",), ("matrix",)):
            seen = run(*words, f"{registry}/demo/app:1.0", "-p", "plan9/*")

            assert seen.status == 3, words
            assert "is not offered for `plan9/*`" in seen.stderr
            assert "`linux/arm/v7`" in seen.stderr

    def test_every_command_whose_help_names_patterns_takes_them(
        self, run: Run, registry: str
    ) -> None:
        app = f"{registry}/demo/app:1.0"
        words = {
            "resolve": (), "compare": (), "plan": (), "pull": (), "export": ("--to", "out"),
            "copy": ("oci:copied:1",), "needs": (), "matrix": (),
        }  # fmt: skip
        named = {row[1] for row in COMMANDS if "linux/*" in run(row[1], "--help").stdout}
        assert named == set(words)
        for name, more in words.items():
            seen = run(name, app, *more, "-p", "linux/arm*")
            assert seen.status == 0, (name, seen)
            assert "amd64" not in seen.stdout, name

    def test_plan_pull_export_compare_and_matrix_take_patterns(
        self, run: Run, registry: str
    ) -> None:
        app = f"{registry}/demo/app:1.0"
        pulled = run("pull", app, f"{registry}/demo/app:2.0", "-p", "linux/arm*")
        assert pulled.status == 0
        assert pulled.stdout.count("Platform: linux/arm") == 4
        assert (
            run("plan", app, "-p", "linux/arm*").stdout.count("nothing, all content is held") == 1
        )
        exported = run("export", app, "--to", "out", "-p", "linux/arm*")
        assert exported.status == 0, exported
        compared = run("compare", app, "-p", "linux/*")
        assert "windows" not in compared.stdout.partition("documents")[0]
        jobs = run("matrix", app, "-p", "windows/*")
        assert jobs.stdout.count("windows/amd64") >= 2
        assert "linux/" not in jobs.stdout

    def test_pattern_is_refused_where_no_index_is_read(self, run: Run, registry: str) -> None:
        run("lock", f"{registry}/demo/app:1.0")
        for words in (("resolve",), ("plan",), ("pull",)):
            seen = run(*words, f"{registry}/demo/app:1.0", "--locked", "-p", "linux/*")

            assert seen.status == 2
            assert "a pattern in `--platform` needs the index" in seen.stderr

    def test_library_refuses_patterns(self) -> None:
        with pytest.raises(InvalidPlatform):
            Platform.parse("linux/*")
