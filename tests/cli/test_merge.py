"""`--shard`, `--results` and `merge` on the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import parse

import pytest
import yaml

from resolver.core.check.check import Requirements
from resolver.core.oci.target import parse_target
from resolver.core.platforms.platform import Platform
from resolver.core.results.merge import decode, encode
from resolver.errors import Usage
from resolver.session import Session
from resolver.verbs.merge import Results, Shard
from tests.kit.images import build_image, build_index
from tests.kit.messages import Reply
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

GOOD = build_index([build_image("linux/amd64"), build_image("linux/arm64")])
POOR = build_index([build_image("linux/amd64")])
COUNT = 24


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        for number in range(COUNT):
            registry.serve("team/app", f"t{number}", GOOD if number % 3 else POOR)
        yield registry


@pytest.fixture
def listing(fake: FakeRegistry, tmp_path: Path) -> str:
    """Return a file of references, one of which does not exist."""
    names = [f"{fake.host}/team/app:t{number}" for number in range(COUNT)]
    names.insert(5, f"{fake.host}/team/app:missing")
    file = tmp_path / "images.txt"
    file.write_text("\n".join(names), "utf-8")
    return str(file)


#: Commands about all references; each has failures and a status of its own.
VERBS = {
    "resolve": ("resolve", "-p", "linux/arm64"),
    "resolve all": ("resolve", "-p", "all", "-p", "linux/amd64"),
    "check": ("check", "--require", "linux/arm64"),
    "lint": ("lint",),
}


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize("form", ["table", "json", "jsonl", "markdown"])
def test_merged_shards_print_what_one_run_prints(
    run: Run, listing: str, words: tuple[str, ...], form: str
) -> None:
    whole = run(*words, "-f", listing, "--format", form, "--plain-http", keep=True)
    for number in (1, 2, 3):
        options = ("--shard", f"{number}/3", "--results", f"{number}.jsonl")
        run(*words, "-f", listing, *options, "--plain-http")

    merged = run(
        "merge", "3.jsonl", "1.jsonl", "2.jsonl", "-f", listing, "--format", form, keep=True
    )

    assert merged.stdout == whole.stdout
    assert merged.status == whole.status
    assert whole.status in {1, 3}


def test_merged_lock_checks_print_what_one_run_prints(run: Run, fake: FakeRegistry) -> None:
    run("lock", *(f"{fake.host}/team/app:t{number}" for number in range(8)))
    fake.serve("team/app", "t1", POOR)
    whole = run("lock", "--check", "--format", "json", keep=True)
    for number in (1, 2):
        shard = ("--shard", f"{number}/2", "--results", f"{number}.jsonl")
        run("lock", "--check", *shard)

    merged = run("merge", "1.jsonl", "2.jsonl", "--format", "json", keep=True)

    def in_any_order(text: str) -> object:
        values = json.loads(text).items()
        return {k: sorted(v, key=str) if isinstance(v, list) else v for k, v in values}

    assert whole.status == merged.status == 1
    assert in_any_order(merged.stdout) == in_any_order(whole.stdout)


def test_results_answer_a_second_run_and_failures_are_asked_again(
    run: Run, fake: FakeRegistry, listing: str
) -> None:
    words = ("resolve", "-f", listing, "-p", "linux/amd64", "--results", "all.jsonl")
    first = run(*words, keep=True)
    before = len(fake.log)
    second = run(*words, keep=True)

    assert second.stdout == first.stdout
    assert {seen.path for seen in fake.log[before:]} == {"/v2/team/app/manifests/missing"}


def test_results_older_than_fresh_are_asked_again(
    run: Run, fake: FakeRegistry, listing: str
) -> None:
    words = ("resolve", "-f", listing, "-p", "linux/amd64", "--results", "all.jsonl")
    run(*words)
    before = len(fake.log)
    run(*words, "--fresh", "0s")
    assert len(fake.log) - before >= COUNT


def test_results_of_another_question_are_not_used(
    run: Run, fake: FakeRegistry, listing: str
) -> None:
    run("check", "-f", listing, "--require", "linux/arm64", "--results", "all.jsonl")
    before = len(fake.log)
    seen = run("check", "-f", listing, "--require", "linux/amd64", "--results", "all.jsonl")
    assert len(fake.log) - before >= COUNT
    assert seen.status == 3


def test_damaged_line_is_asked_again(
    run: Run, fake: FakeRegistry, listing: str, tmp_path: Path
) -> None:
    words = ("resolve", "-f", listing, "-p", "linux/amd64", "--results", "all.jsonl")
    first = run(*words, keep=True)
    file = tmp_path / "all.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"linux", b"linus")
    lines[-1] = lines[-1][:-40]
    file.write_bytes(b"".join(lines))
    before = len(fake.log)

    second = run(*words, keep=True)

    assert second.stdout == first.stdout
    assert "2 damaged lines" in second.stderr
    paths = {seen.path for seen in fake.log[before:]}
    assert paths == {f"/v2/team/app/manifests/{tag}" for tag in ("missing", "t0", f"t{COUNT - 1}")}


def test_merge_names_a_missing_shard_and_missing_answers(
    run: Run, listing: str, tmp_path: Path
) -> None:
    words = ("resolve", "-f", listing, "-p", "linux/amd64")
    for number in (1, 3):
        run(*words, "--shard", f"{number}/3", "--results", f"{number}.jsonl")
    seen = run("merge", "1.jsonl", "3.jsonl")
    assert seen.status == 5
    assert "shard 2/3" in seen.stderr
    assert "--shard 2/3" in seen.stderr

    run(*words, "--results", "all.jsonl")
    file = tmp_path / "all.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    seen = run("merge", "all.jsonl")
    assert seen.status == 5
    assert "1 of 25 answers are missing" in seen.stderr


def test_merge_refuses_results_of_different_commands(run: Run, listing: str) -> None:
    run("resolve", "-f", listing, "--results", "a.jsonl")
    run("lint", "-f", listing, "--results", "b.jsonl")
    seen = run("merge", "a.jsonl", "b.jsonl")
    assert seen.status == 2
    assert "different commands" in seen.stderr


def test_empty_shards_merge_too(run: Run, fake: FakeRegistry) -> None:
    for number in range(1, 6):
        seen = run(
            "check", f"{fake.host}/team/app:t1", "--require", "linux/arm64",
            "--shard", f"{number}/5", "--results", f"{number}.jsonl",
        )  # fmt: skip
        assert seen.status == 0, str(seen)
        assert f"shard {number} of 5" in seen.stderr
    assert run("merge", *(f"{number}.jsonl" for number in range(1, 6))).status == 0


def test_merged_report_has_the_findings_of_all_shards(
    run: Run, listing: str, tmp_path: Path
) -> None:
    for number in (1, 2):
        shard = ("--shard", f"{number}/2", "--results", f"{number}.jsonl")
        report = ("--report", f"junit={number}.xml", "--report", f"sarif={number}.sarif")
        quality = ("--report", f"codequality={number}.json")
        run("check", "-f", listing, "--require", "linux/arm64", *shard, *report, *quality)
    seen = run("merge", "1.jsonl", "2.jsonl", "--report", "junit=all.xml")
    assert seen.status == 3
    whole = parse(tmp_path / "all.xml").getroot()

    joined = run("merge", "1.xml", "2.xml", keep=True)
    (tmp_path / "joined.xml").write_text(joined.stdout, "utf-8")
    root = parse(tmp_path / "joined.xml").getroot()
    assert joined.status == 1
    assert root.get("tests") == whole.get("tests")
    assert len(root.findall(".//testcase")) == len(whole.findall(".//testcase"))

    scans = run("merge", "1.sarif", "2.sarif", keep=True)
    assert scans.status == 1
    parts = [json.loads((tmp_path / f"{number}.sarif").read_text()) for number in (1, 2)]
    assert json.loads(scans.stdout)["runs"] == parts[0]["runs"] + parts[1]["runs"]
    merged = run("merge", "1.json", "2.json", keep=True)
    assert merged.status == 1
    issues = [json.loads((tmp_path / f"{number}.json").read_text()) for number in (1, 2)]
    assert json.loads(merged.stdout) == issues[0] + issues[1]


def test_merged_lock_files_are_the_lock_of_one_run(
    run: Run, fake: FakeRegistry, tmp_path: Path
) -> None:
    names = [f"{fake.host}/team/app:t{number}" for number in range(8)]
    run("lock", *names, "--lock-file", "whole.lock")
    for number in (1, 2):
        run("lock", *names, "--shard", f"{number}/2", "--lock-file", f"{number}.lock")
    merged = run("merge", "1.lock", "2.lock", keep=True)
    assert merged.stdout == (tmp_path / "whole.lock").read_text()

    fake.serve("team/app", "t1", POOR)
    run("lock", names[1], "--lock-file", "other.lock")
    seen = run("merge", "whole.lock", "other.lock")
    assert seen.status == 2
    assert "another digest" in seen.stderr


def test_merge_refuses_a_mix_of_forms(run: Run, fake: FakeRegistry, tmp_path: Path) -> None:
    run("lock", f"{fake.host}/team/app:t1")
    (tmp_path / "a.xml").write_text("<testsuites/>")
    seen = run("merge", "resolver.lock", "a.xml")
    assert seen.status == 2
    assert "another form" in seen.stderr


def test_merge_refuses_entities_in_junit_reports(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><testsuites name="&b;"/>')
    assert run("merge", "a.xml").status == 2


def test_shards_are_disjoint_and_spellings_of_a_reference_agree() -> None:
    names = [f"reg.test/app{number}:1" for number in range(1_000)]
    parts = [[name for name in names if Shard(number, 4).has(name)] for number in range(1, 5)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(200 < len(part) < 300 for part in parts)
    for number in range(1, 5):
        shard = Shard(number, 4)
        assert shard.has("nginx") == shard.has("docker.io/library/nginx:latest")


PARALLEL = {
    "auto": [
        ({"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "5"}, "2/5"),
        ({"BUILDKITE_PARALLEL_JOB": "0", "BUILDKITE_PARALLEL_JOB_COUNT": "5"}, "1/5"),
        ({"CIRCLE_NODE_INDEX": "4", "CIRCLE_NODE_TOTAL": "5"}, "5/5"),
        ({"BITBUCKET_PARALLEL_STEP": "1", "BITBUCKET_PARALLEL_STEP_COUNT": "2"}, "2/2"),
        ({"SYSTEM_JOBPOSITIONINPHASE": "1", "SYSTEM_TOTALJOBSINPHASE": "3"}, "1/3"),
    ],
    "auto/7": [({"JOB_COMPLETION_INDEX": "6"}, "7/7")],
}


@pytest.mark.parametrize(
    ("text", "variables", "part"),
    [(text, variables, part) for text, rows in PARALLEL.items() for variables, part in rows],
)
def test_shard_numbers_come_from_the_ci_system(
    text: str, variables: dict[str, str], part: str
) -> None:
    assert str(Shard.parse(text, variables)) == part


@pytest.mark.parametrize(
    "text", ["", "1", "0/3", "4/3", "a/b", "1/", "1/2/3", "-1/3", "٣/٤", "auto", "auto/3", "1/0"]
)
def test_shard_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="--shard"):
        Shard.parse(text, {})


def test_zero_of_a_variable_that_counts_from_one_is_refused() -> None:
    with pytest.raises(Usage):
        Shard.parse("auto", {"CI_NODE_INDEX": "0", "CI_NODE_TOTAL": "2"})


def test_shard_comes_from_its_variable(
    run: Run, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOLVER_SHARD", "auto")
    monkeypatch.setenv("CI_NODE_INDEX", "1")
    monkeypatch.setenv("CI_NODE_TOTAL", "1")
    seen = run("lint", f"{fake.host}/team/app:t1")
    assert "note: shard 1 of 1: 1 of 1 references" in seen.stderr


def test_options_that_do_not_fit_are_refused(run: Run, fake: FakeRegistry) -> None:
    image = f"{fake.host}/team/app:t1"
    for words in (
        ("resolve", image, "--fresh", "1h"),
        ("lock", image, "--results", "a.jsonl"),
        ("lock", "--update", "--shard", "1/2"),
        ("resolve", image, "--cluster", "somewhere"),
        ("resolve", image, "--results", "a.jsonl", "--fresh", "soon"),
    ):
        seen = run(*words)
        assert seen.status == 2, str(seen)


def test_secret_does_not_reach_the_results(fake: FakeRegistry, tmp_path: Path) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "not with s3cret-of-ann"}]}'
    fake.on("*", "/v2/team/app/manifests/t1", Reply(403, body=body))
    environment = {"RESOLVER_USERNAME": "ann", "RESOLVER_PASSWORD": "s3cret-of-ann"}
    with Session(tmp_path / "store", environment=environment) as session:
        session.keep_results(Results(str(tmp_path / "all.jsonl"), 60))
        list(session.resolve_each([f"{fake.host}/team/app:t{number}" for number in (1, 2)]))
    text = (tmp_path / "all.jsonl").read_text()
    assert "DENIED" in text or "denied" in text.lower()
    assert "s3cret-of-ann" not in text


def test_values_survive_as_json() -> None:
    wanted = Requirements(require=(Platform.parse("linux/arm64"),), attestations=("sbom",))
    error = Usage("no", "try", place="x")
    values = (wanted, parse_target("reg.test/app:1"), frozenset({1, 2}), {"a": (1, None)})
    assert decode(json.loads(json.dumps(encode(values)))) == values
    found = decode(encode(error))
    assert (type(found), str(found), found.hints(), found.facts()) == (
        Usage, "no", ("try",), {"place": "x"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "place", ["os:system", "resolver.session:Session", "subprocess:Popen", "resolver.errors:Enum"]
)
def test_only_plain_values_are_read_back(place: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        decode({"@": place, "command": "true"})


DOCUMENTED = Path(__file__).parents[2] / "docs" / "fleet.md"


def documented_yaml(key: str) -> dict[str, Any]:
    """Return the example of docs/fleet.md that has this key at the top."""
    blocks = DOCUMENTED.read_text("utf-8").split("```yaml\n")[1:]
    found = [yaml.safe_load(block.partition("```")[0]) for block in blocks]
    return next(block for block in found if key in block)


def test_documented_github_matrix_gives_one_answer(
    run: Run, listing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = documented_yaml("jobs")["jobs"]
    check = next(step["run"] for step in jobs["check"]["steps"] if "--shard" in step.get("run", ""))
    merge = next(step["run"] for step in jobs["merge"]["steps"] if " merge " in step.get("run", ""))
    for number in jobs["check"]["strategy"]["matrix"]["shard"]:
        words = shlex.split(check.replace("${{ matrix.shard }}", str(number)))
        assert words[0] == "resolver"
        assert run(*words[1:]).status in {0, 1, 3}
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    whole = run("check", "-f", listing, "--require", "linux/arm64", keep=True)
    files = sorted(path.name for path in tmp_path.glob("*.jsonl"))

    words = shlex.split(merge)
    merged = run(*(w for word in words[1:] for w in (files if "*" in word else [word])), keep=True)

    assert (merged.status, merged.stdout) == (whole.status, whole.stdout)
    assert (tmp_path / "report.xml").exists()


def test_documented_indexed_job_gives_one_answer(
    run: Run, listing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = documented_yaml("kind")["spec"]
    assert spec["completionMode"] == "Indexed"
    command = spec["template"]["spec"]["containers"][0]["args"][0].partition("||")[0]
    for index in range(spec["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        text = command.replace("$JOB_COMPLETION_INDEX", str(index))
        words = shlex.split(
            text.replace("/lists", str(tmp_path)).replace("/results", str(tmp_path))
        )
        assert run(*words[1:]).status in {0, 1, 3}
    whole = run("check", "-f", listing, "--require", "linux/arm64", keep=True)
    files = sorted(path.name for path in tmp_path.glob("*.jsonl"))

    merged = run("merge", *files, "-f", listing, keep=True)

    assert (merged.status, merged.stdout) == (whole.status, whole.stdout)


def test_cluster_on_the_command_line_prints_what_threads_print(run: Run, listing: str) -> None:
    pytest.importorskip("distributed", reason="install the extra `fleet`")
    words = ("resolve", "-f", listing, "-p", "linux/arm64")
    alone = run(*words, keep=True)
    spread = run(*words, "--cluster", "local:1", "--cluster-jobs", "4", keep=True)
    assert spread == alone
