"""`resolver help`: topics fit the page, match the code, and their examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

import resolver
from resolver.cli.app import COMMANDS, DEFECT, INTERRUPTED, TERMINATED, build
from resolver.cli.ci import CiOutput
from resolver.cli.help import TOPICS, offer_topics, read
from resolver.cli.options import SHARED
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import parse_target
from resolver.core.platforms.platform import Platform
from resolver.core.variables import VARIABLES
from resolver.errors import ErrorKind
from resolver.render.ci.emit import EMITTERS, REPORTS
from resolver.sources.credentials.files import VARIABLE
from resolver.sources.mirrors.files import SYSTEM
from resolver.sources.mirrors.formats import parse_config

if TYPE_CHECKING:
    from tests.cli.conftest import Run

HEX = f"sha256:{'0' * 64}"
NAMES = [name for _group, name, _module, _summary in COMMANDS]
#: Every command line: indented by four spaces, and not part of a script.
EXAMPLES = [
    (topic, line.strip().replace("sha256:…", HEX))
    for topic in TOPICS
    for line in read(topic).splitlines()
    if re.match(r" {4}resolver ", line)
]


def parsed(words: list[str]) -> tuple[str, dict[str, object]]:
    """Read a command line as the program does, and run nothing."""
    program, name, *rest = words
    assert program == "resolver"
    command = build([name]).commands[name]
    return name, command.make_context(name, rest).params


# The command


def test_help_lists_topics(run: Run) -> None:
    assert str(run("help")) == snapshot("""\
status: 0
--- stdout
Topics; read one with `resolver help TOPIC`:

  references     How to name images
  platforms      How to write platforms, and which image is chosen
  store          Where images are kept, and how to clean and verify the store
  configuration  Options, variables and files, and their precedence
  ci             Checks, outputs, caches and pinning in CI pipelines
  exit-status    What the exit statuses mean, for `case $?`

Help for a command: resolver COMMAND --help, or resolver help COMMAND
--- stderr
""")


def test_help_prints_a_topic_as_written(run: Run) -> None:
    seen = run("help", "platforms")

    assert (seen.status, seen.stderr) == (0, "")
    assert seen.stdout == read("platforms")


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(TOPICS)))
def test_help_of_a_command_prints_its_help(run: Run, name: str) -> None:
    assert run("help", name) == run(name, "--help")


def test_help_rejects_an_unknown_topic(run: Run) -> None:
    assert str(run("help", "platfroms")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: unknown topic `platfroms`
hint: did you mean `resolver help platforms`?
""")
    assert "choose one of references, platforms" in run("help", "xyzzy").stderr
    assert run("help", "platforms", "store").status == 2


def test_help_completes_topics_and_commands() -> None:
    assert offer_topics("re") == ["references", "resolve", "repositories"]
    assert set(offer_topics("")) == {*TOPICS, *NAMES}


def test_help_lists_every_topic_including_one_named_like_a_command() -> None:
    there = {path.stem for path in Path(resolver.__file__).with_name("topics").iterdir()}

    assert there == set(TOPICS)
    # Its help page describes its output.
    assert there & set(NAMES) == {"platforms"}
    assert "resolver platforms --help" in read("platforms")


# The pages


@pytest.mark.parametrize("topic", TOPICS)
def test_help_topics_fit_the_page_and_start_with_their_subject(topic: str) -> None:
    lines = read(topic).splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[1] == ""
    assert len(lines[0]) <= 80 - 2 - max(map(len, TOPICS)) - 2
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_help_topic_has_a_command_to_type(topic: str) -> None:
    assert sum(of == topic for of, _line in EXAMPLES) >= 3


@pytest.mark.parametrize(("topic", "line"), EXAMPLES)
def test_help_examples_are_valid_command_lines(topic: str, line: str) -> None:
    del topic
    name, values = parsed(shlex.split(line))

    for each in (*_texts(values.get("reference")), *_texts(values.get("references"))):
        if name != "lock" or not values.get("files"):
            parse_target(each)
    for each in _texts(values.get("platform")):
        for text in each.split(","):
            if text not in {"local", "all"}:
                Platform.parse(text)
    emit, report = _texts(values.get("emit")), _texts(values.get("report"))
    CiOutput.read(name, [each for each in emit if each != "github"], report, {})


@pytest.mark.parametrize("topic", TOPICS)
def test_commands_named_in_help_exist(topic: str) -> None:
    for name in re.findall(r"`resolver ([a-z-]+)", read(topic)):
        assert name in NAMES


@pytest.mark.parametrize("topic", TOPICS)
def test_every_option_named_in_help_exists(topic: str) -> None:
    known = {"--help", "--version"}
    for name in NAMES:
        for parameter in build([name]).commands[name].params:
            known |= {*parameter.opts, *parameter.secondary_opts}

    assert set(re.findall(r"--[a-z][a-z-]+", read(topic))) <= known


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


# Claims


def test_reference_examples_in_help_are_correct() -> None:
    rows = re.findall(r"^  (\S+) {2,}(docker\.io/\S+)$", read("references"), re.MULTILINE)

    assert len(rows) == 2
    for short, whole in rows:
        assert str(Reference.parse(short)) == whole
    page = read("references").replace("sha256:…", HEX)
    for text in re.findall(r"^  ((?:ghcr\.io|localhost|owner)\S+)", page, re.MULTILINE):
        parse_target(text)
    for prefix in ("oci:DIR", "oci-archive:FILE", "docker-archive:FILE"):
        assert prefix in page
        parse_target(prefix.lower())


def test_platform_examples_in_help_are_correct() -> None:
    wanted = None
    count = 0
    table = read("platforms").partition("\n  local ")[0]
    for line in table.splitlines():
        row = re.fullmatch(r"  (\S*) {2,}(\S.*)", line)
        if row is None:
            continue
        wanted = Platform.parse(row[1]).normalized() if row[1] else wanted
        for spelling in row[2].split(", "):
            count += 1
            assert Platform.parse(spelling).normalized() == wanted, spelling
    assert count == 13


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_exit_status_has_a_help_line(kind: ErrorKind) -> None:
    assert re.search(rf"^  {kind.status} {{4}}\S", read("exit-status"), re.MULTILINE)


@pytest.mark.parametrize("status", [DEFECT, INTERRUPTED, TERMINATED])
def test_help_explains_every_exit_status(status: int) -> None:
    assert re.search(rf"^  {status} +\S", read("exit-status"), re.MULTILINE)


def test_configuration_topic_lists_every_shared_variable() -> None:
    named = {shared.variable for shared in SHARED if shared.variable}
    for shared in SHARED:
        named |= set(re.findall(r"RESOLVER_[A-Z_]+", shared.help))

    assert named <= set(re.findall(r"RESOLVER_[A-Z_]+", read("configuration")))


def test_help_lists_every_environment_variable_the_code_reads() -> None:
    code: set[str] = set()
    for path in Path(resolver.__file__).parent.rglob("*.py"):
        if path.name != "variables.py":
            code |= set(re.findall(r"(?<!_)RESOLVER_[A-Z_]*[A-Z]", path.read_text("utf-8")))
    # Of the template for GitLab, which is no Python.
    code.add("RESOLVER_INSTALL")

    assert set(VARIABLES) == code
    assert set(re.findall(r"RESOLVER_[A-Z_]+", read("configuration"))) == code


@pytest.mark.parametrize("row", [row for row in VARIABLES.values() if "--" in row.option])
def test_every_option_with_a_variable_exists(row: object) -> None:
    option = str(getattr(row, "option", "")).rpartition(" ")
    names = [option[0]] if option[0] else NAMES
    known = {
        each
        for name in names
        for parameter in build([name]).commands[name].params
        for each in parameter.opts
    }

    assert option[2] in known


def test_config_yaml_example_in_help_is_valid() -> None:
    text = read("configuration")
    block = re.search(r"^  hosts:\n(?: {4}.*\n)+", text, re.MULTILINE)
    assert block is not None
    hosts = parse_config(dedent(block[0]).encode(), "/x/config.yaml")

    assert list(hosts) == ["docker.io", "harbor.example.com", "registry.lan:5000"]
    assert [each.tags for each in hosts["docker.io"].mirrors] == [False, True]
    assert hosts["harbor.example.com"].settings.ca == ("/x/corp.pem",)


def test_help_lists_supported_files_and_ci_systems() -> None:
    configuration, ci = read("configuration"), read("ci")

    assert str(SYSTEM / "containerd/certs.d") in configuration
    assert VARIABLE in configuration
    assert all(name in ci for name in (*EMITTERS, *REPORTS))
