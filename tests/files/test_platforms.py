"""platforms.yaml, a user's own platform file, and this machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.core.compare.files import PathWords
from resolver.core.platforms.fact_types import Facts
from resolver.core.platforms.facts import FACTS
from resolver.core.platforms.platform import BUILTIN, HostMachine, Platform
from resolver.core.platforms.schema import check, problems
from resolver.core.platforms.select import select
from resolver.errors import InvalidConfiguration
from resolver.files import platforms
from tests.kit.processes import ROOT, python

if TYPE_CHECKING:
    from collections.abc import Callable

YAML = ROOT / "platforms.yaml"


def test_builtin_facts_match_platforms_yaml() -> None:
    assert platforms.read_file(YAML, sourced=True) == FACTS


def test_builtin_facts_are_consistent() -> None:
    assert list(problems(FACTS)) == []


def test_builtin_table_is_used_without_a_user_file() -> None:
    assert platforms.load_table(None) is BUILTIN


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], Path]:
    """Write a user's own platform file."""

    def write(text: str) -> Path:
        path = tmp_path / "own.yaml"
        path.write_text(text, "utf-8")
        return path

    return write


ADDITIONS = """\
schema: 1
operating_systems:
  known: [haiku]
  aliases: {osx: darwin}
architectures:
  known: [riscv128, sw64]
families:
  loong64:
    aliases: [loongarch64]
  s390x:
    baseline: z10
    variants: [z10, z13, z15]
  riscv128:
    falls_back_to: [{architecture: riscv64, grade: abi}]
  arm:
    spellings: {v7l: v7}
windows:
  long_term: [30000]
  releases:
    - {build: 30000, release: Windows Server 2028, names: [ltsc2028]}
    - {build: 20348, names: [server2022]}
hosts:
  machines: {sw_64: sw64}
runners:
  github:
    - {platform: linux/s390x, label: zlinux}
    - {platform: linux/amd64, label: big-box}
"""


def test_user_file_adds_facts(own: Callable[[str], Path]) -> None:
    table = platforms.load_table(own(ADDITIONS))

    def choose(want: str, *offered: str) -> int | None:
        entries = [Platform.parse(text, table=table) for text in offered]
        return select(entries, Platform.parse(want, table=table), table=table).index

    assert Platform.parse("haiku", table=table) == Platform("haiku", "amd64")
    assert Platform.parse("sw64", table=table) == Platform("linux", "sw64")
    assert Platform.parse("osx/loongarch64", table=table) == Platform("darwin", "loong64")
    assert Platform.parse("linux/arm/v7l", table=table) == Platform("linux", "arm", "v7")
    assert choose("linux/s390x/z13", "linux/s390x/z15", "linux/s390x/z10") == 1
    assert choose("linux/s390x", "linux/s390x/z15", "linux/s390x/z10") == 1
    assert choose("linux/riscv128", "linux/riscv64/rva20u64") == 0
    new = Platform.parse("windows/amd64:LTSC2028", table=table)
    assert new.os_version == "10.0.30000"
    builds = [Platform("windows", "amd64", "", f"10.0.{build}") for build in (20348, 26100)]
    assert select(builds, new, table=table).ranking == (1,)
    named = Platform.parse("windows/amd64:server2022", table=table)
    assert named == Platform.parse("windows/amd64:ltsc2022")
    assert table.runner(Platform("linux", "s390x")) == "zlinux"
    assert table.runner(Platform("linux", "amd64")) == "big-box"
    assert table.runner(Platform("linux", "arm64")) == "ubuntu-24.04-arm"


def test_user_file_does_not_change_builtin_facts(own: Callable[[str], Path]) -> None:
    platforms.load_table(own(ADDITIONS))

    assert BUILTIN.facts == FACTS
    assert Platform.parse("linux/loongarch64").architecture == "loongarch64"


def test_user_file_may_repeat_everything_or_be_empty(own: Callable[[str], Path]) -> None:
    again = own(YAML.read_text("utf-8"))

    assert platforms.load_table(str(again)).facts == FACTS
    assert platforms.load_table(own("\ufeffschema: 1\nfamilies:\n")).facts == FACTS


# What is wrong, where it is said to be.
@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        ("", "", "`schema: 1` is expected"),
        ("schema: 2", "", "`schema: 1` is expected"),
        ("[]", "", "a mapping is expected"),
        ("schema: 1\nwindos: {}", "windos", "unknown field"),
        ("schema: 1\nwindows: []", "windows", "a mapping is expected"),
        ("schema: 1\nwindows: text", "windows", "a mapping is expected"),
        ("schema: 1\narchitectures: {known: x}", "architectures.known", "a list is expected"),
        ("schema: 1\narchitectures: {known: [X]}", "architectures.known[0]", "of the form"),
        ("schema: 1\narchitectures: {known: [[a]]}", "architectures.known[0]", "of the form"),
        ("schema: 1\nfamilies: {X: {}}", "families.X", "of the form"),
        ("schema: 1\nfamilies: {x: {alias: []}}", "families.x.alias", "unknown field"),
        ("schema: 1\nfamilies: {x: {unlisted: no}}", "families.x.unlisted", "plain|itself"),
        (
            "schema: 1\nfamilies: {x: {falls_back_to: [{architecture: 386}]}}",
            "families.x.falls_back_to[0]",
            "it has no `grade`",
        ),
        (
            "schema: 1\nfamilies: {x: {numbered: {limit: 9}}}",
            "families.x.numbered",
            "it has no `lowest`",
        ),
        (
            "schema: 1\nfamilies: {x: {numbered: {lowest: -1}}}",
            "families.x.numbered.lowest",
            "of the form",
        ),
        ("schema: 1\nhosts: {machines: {A b: x}}", "hosts.machines.A b", "a name of the form"),
        (
            "schema: 1\nwindows: {releases: [{build: 12345678}]}",
            "windows.releases[0].build",
            "of the form",
        ),
        (
            "schema: 1\nrunners: {github: [{platform: linux, label: x}]}",
            "runners.github[0].platform",
            "of the form",
        ),
        ("schema: 1\npaths: {names: {A b: [x]}}", "paths.names.A b", "a name of the form"),
        ("schema: 1\npaths: {loaders: {x: [A]}}", "paths.loaders.x[0]", "of the form"),
        ("schema: 1\npaths: {words: {}}", "paths.words", "unknown"),
        # not YAML, or YAML that hides something
        ("schema: [1", "line 1, column 11", "it is not YAML"),
        ("schema: 1\n\t: x", "line 2, column 1", "it is not YAML"),
        ("a: b: c", "line 1, column 5", "it is not YAML"),
        ("schema: 1\n? [a]\n: b", "line 2, column 3", "a name is expected here"),
        ("schema: 1\n---\nschema: 1", "line 2, column 1", "more than one document"),
        ("schema: 1\nschema: 1", "line 2, column 1", "this key is defined twice"),
        ("schema: 1\nhosts: &a {}\nwindows: *a", "line 2, column 8", "anchors (`&name`)"),
        ("schema: \x00", "line 1, column 9", "it has characters that YAML does not allow"),
        ("[" * 5000, "line 1, column 33", "it is nested deeper than 32"),
        # facts that contradict what is known, or themselves
        (
            "schema: 1\noperating_systems: {aliases: {macos: linux}}",
            "operating_systems.aliases.macos",
            "added, not changed",
        ),
        (
            "schema: 1\noperating_systems: {assumed: windows}",
            "operating_systems.assumed",
            "added, not changed",
        ),
        (
            "schema: 1\noperating_systems: {aliases: {linux: darwin}}",
            "operating_systems.aliases.linux",
            "cannot be a name itself",
        ),
        (
            "schema: 1\nfamilies: {arm: {forced: {armhf: v6}}}",
            "families.arm.forced.armhf",
            "added, not changed",
        ),
        ("schema: 1\nfamilies: {arm: {assumed: v6}}", "families.arm.assumed", "not changed"),
        (
            "schema: 1\nfamilies: {x: {aliases: [aarch64]}}",
            "families.x.aliases",
            "`aarch64` is already defined",
        ),
        (
            "schema: 1\nfamilies: {x: {falls_back_to: [{architecture: x, grade: abi}]}}",
            "families.x.falls_back_to",
            "it leads back to itself",
        ),
        (
            "schema: 1\nfamilies: {x: {falls_back_to: [{architecture: y, grade: abi}]}}",
            "families.x.falls_back_to",
            "unknown architecture",
        ),
        (
            "schema: 1\nfamilies: {x: {falls_back_to: [{architecture: aarch64, grade: abi}]}}",
            "families.x.falls_back_to",
            "unknown architecture",
        ),
        (
            "schema: 1\nfamilies: {'386': {falls_back_to: [{architecture: amd64, grade: abi}]}}",
            "families.386.falls_back_to",
            "it leads back to itself",
        ),
        (
            "schema: 1\nfamilies: {x: {spellings: {a: b, b: c}}}",
            "families.x.spellings",
            "`b` is not where spellings end",
        ),
        ("schema: 1\nfamilies: {x: {assumed: v1}}", "families.x.assumed", "same way"),
        ("schema: 1\nfamilies: {x: {variants: [a, a]}}", "families.x.variants", "twice"),
        ("schema: 1\nfamilies: {x: {baseline: a}}", "families.x.baseline", "the lowest"),
        (
            "schema: 1\nfamilies: {x: {baseline: a, variants: [a], spellings: {'': a}}}",
            "families.x.baseline",
            "has a meaning here already",
        ),
        (
            "schema: 1\nfamilies: {x: {variants: [a], numbered: {lowest: 1}}}",
            "families.x.numbered",
            "numbered or listed",
        ),
        (
            "schema: 1\nfamilies: {x: {numbered: {lowest: 1, limit: 100000}}}",
            "families.x.numbered",
            "must ascend",
        ),
        (
            "schema: 1\nfamilies: {x: {variants: [a], branches: [{variants: [b]}]}}",
            "families.x.branches",
            "must join",
        ),
        ("schema: 1\nwindows: {version: '11.0'}", "windows.version", "not changed"),
        ("schema: 1\nwindows: {long_term: [17763]}", "windows.long_term", "never reached"),
        (
            "schema: 1\nwindows: {releases: [{build: 1, names: [ltsc2022]}]}",
            "windows.releases",
            "a name stands for two builds",
        ),
    ],
)
def test_unusable_user_file_is_refused_with_its_position(
    own: Callable[[str], Path], text: str, field: str, reason: str
) -> None:
    path = own(text)
    with pytest.raises(InvalidConfiguration) as caught:
        platforms.load_table(path)

    assert caught.value.place == str(path)
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_user_file_error_never_quotes_its_content(own: Callable[[str], Path]) -> None:
    for text in ("schema: hunter2", "schema: 1\nhosts: hunter2", "schema: [*hunter2", "\thunter2"):
        with pytest.raises(InvalidConfiguration) as caught:
            platforms.load_table(own(text))

        assert "hunter2" not in str(caught.value)


def test_unreadable_user_file_is_a_configuration_error(tmp_path: Path) -> None:
    pipe, huge, binary = tmp_path / "pipe", tmp_path / "huge", tmp_path / "binary"
    os.mkfifo(pipe)
    huge.write_bytes(b"#" * (platforms.MAX_FILE + 1))
    binary.write_bytes(b"schema: \xff")

    for path, reason in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path, "not a regular file"),
        (pipe, "not a regular file"),
        (huge, "more than 1048576 bytes"),
        (binary, "not UTF-8"),
        (tmp_path / "nul\x00", "cannot be used"),
    ):
        with pytest.raises(InvalidConfiguration, match=reason):
            platforms.load_table(path)


def test_facts_are_checked_before_they_are_generated() -> None:
    with pytest.raises(InvalidConfiguration, match="names need it"):
        check(FACTS._replace(windows=FACTS.windows._replace(version="")), "here")
    twice = FACTS.windows._replace(releases=FACTS.windows.releases * 2)
    fields = [field for field, _ in problems(Facts(windows=twice))]
    assert fields == ["windows.releases", "windows.releases"]
    backwards = FACTS.windows._replace(long_term=(26100, 20348))
    assert [field for field, _ in problems(Facts(windows=backwards))] == ["windows.long_term"]


# Source: docs/platform-matching.md, "Host detection"; containerd/platforms v1.0.0-rc.5,
# defaults_*.go.
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("darwin/arm64/v8", "darwin/arm64/v8 linux/arm64/v8"),
        ("freebsd/arm/v6", "freebsd/arm/v6 linux/arm/v6"),
        ("windows/amd64:10.0.20348", "windows/amd64:10.0.20348"),
    ],
)
def test_default_platform_is_the_host_and_linux_in_its_vm(host: str, expected: str) -> None:
    listed = platforms.default_platforms(Platform.parse(host))

    assert " ".join(str(platform) for platform in listed) == expected


def test_default_platform_of_this_machine_exists() -> None:
    host, local = platforms.host_platform(), platforms.local_platform()

    assert host.os == ("windows" if sys.platform == "win32" else sys.platform)
    assert BUILTIN.chip(host.architecture, "") == BUILTIN.chip(local.architecture, "")
    assert host.architecture != "amd64" or not host.variant


def test_default_platform_of_another_host_can_be_requested() -> None:
    machine = HostMachine("armv6l", "linux")

    assert platforms.host_platform(machine) == platforms.local_platform(machine)
    assert str(platforms.host_platform(machine)) == "linux/arm/v6"


def test_host_without_cpuinfo_has_its_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)

    assert platforms.this_machine().cpuinfo == ""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the files that `scripts/platforms` works on, so that a test can damage them."""
    root = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    for room in ("core", "files"):
        shutil.copytree(ROOT / "resolver" / room, root / "resolver" / room, ignore=ignore)
    (root / "scripts").mkdir()
    for name in ("__init__", "_version", "errors", "values"):
        shutil.copy(ROOT / "resolver" / f"{name}.py", root / "resolver" / f"{name}.py")
    for name in ("scripts/platforms", "platforms.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    return root


def run_script(root: Path, *arguments: str) -> tuple[int, str]:
    """Run the script of a checkout without coverage."""
    done = python(str(root / "scripts" / "platforms"), *arguments, cwd=root, measured=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_facts_module_is_up_to_date_and_the_table_prints() -> None:
    assert run_script(ROOT, "--check") == (0, "")
    status, printed = run_script(ROOT)

    assert status == 0
    assert "amd64/v2          amd64/v2 ~amd64/v1 +386\n" in printed
    assert "26200         20348 .. 26200" in printed


def test_changed_fact_is_detected_until_regeneration(checkout: Path) -> None:
    facts = checkout / "platforms.yaml"
    facts.write_text(facts.read_text("utf-8").replace("assumed: linux", "assumed: plan9"), "utf-8")

    status, output = run_script(checkout, "--check")
    assert status == 1
    assert "scripts/platforms --write" in output

    assert run_script(checkout, "--write")[0] == 0
    assert run_script(checkout, "--check") == (0, "")


def test_broken_facts_module_can_be_regenerated(checkout: Path) -> None:
    module = checkout / "resolver" / "core" / "platforms" / "facts.py"
    module.write_text("what = nonsense(\n", "utf-8")

    assert run_script(checkout, "--write")[0] == 0
    assert module.read_text("utf-8") == (ROOT / "resolver/core/platforms/facts.py").read_text()


def test_platforms_script_reports_invalid_facts(checkout: Path) -> None:
    facts = checkout / "platforms.yaml"
    circle = facts.read_text("utf-8").replace("[{architecture: 386,", "[{architecture: amd64,")
    facts.write_text(circle, "utf-8")

    status, output = run_script(checkout)

    assert status == 1
    assert "at `families.amd64.falls_back_to`: it leads back to itself" in output


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("schema: 1\nwindows: {version: '10.0'}", "windows"),
        ("schema: 1\nfamilies: {x: {}}", "families.x"),
        ("schema: 1\nfamilies: {x: {source: []}}", "families.x.source"),
        ("schema: 1\nfamilies: {x: {source: ''}}", "families.x.source"),
        ("schema: 1\nfamilies: {x: {source: [a, {}]}}", "families.x.source[1]"),
    ],
)
def test_builtin_facts_require_a_source(own: Callable[[str], Path], text: str, field: str) -> None:
    path = own(text)
    with pytest.raises(InvalidConfiguration) as caught:
        platforms.read_file(path, sourced=True)

    assert caught.value.field == field


def test_user_facts_need_no_source(own: Callable[[str], Path]) -> None:
    assert platforms.read_file(own("schema: 1\nfamilies: {x: {}}"), sourced=False).families


def test_user_file_adds_architecture_words_for_paths(
    own: Callable[[str], Path],
) -> None:
    table = platforms.load_table(
        own("schema: 1\npaths:\n  names: {arm64: [k1om, aarch64], riscv128: [rv128]}")
    )

    words = PathWords(Platform("linux", "arm64"), table)
    assert words.taken_out("lib/k1om/aarch64-linux-gnu") == "lib/{arch}/{arch}"
    assert words.taken_out("lib/rv128") == "lib/rv128"
    assert PathWords(Platform("linux", "riscv128"), table).taken_out("rv128") == "{arch}"
