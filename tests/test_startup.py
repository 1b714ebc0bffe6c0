"""Modules that are loaded at start-up."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from resolver.cli.app import COMMANDS
from tests.kit.images import build_image, build_index
from tests.kit.processes import ROOT as PACKAGE
from tests.kit.processes import command, python
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from pathlib import Path

#: Milliseconds each, and `--help` needs none of them. Source: docs/architecture.md, "Start-up".
HEAVY = {"asyncio", "httpcore", "httpx", "pydantic", "pyreqwest", "rich", "yaml"}
#: Rooms and verbs that resolving does not need.
OTHER_VERBS = (
    "resolver.core.check",
    "resolver.core.layers.",
    "resolver.core.lint.",
    "resolver.sources.local.",
    "resolver.verbs.export.",
    "resolver.verbs.lint",
    "resolver.verbs.serve.",
)
#: Runs the command as `python -m resolver` would, then tells on stderr what got loaded.
PROBE = """
import json, os, sys

def end(status, leave=os._exit):
    loaded = sorted(sys.modules)
    sys.stdout.flush()
    print(json.dumps([status or 0, loaded]), file=sys.stderr, flush=True)
    leave(0)

os._exit = end
sys.argv[0] = "resolver"
from resolver.__main__ import main
try:
    end(main())
except SystemExit as stop:
    end(stop.code)
"""


def loaded(*arguments: str, **environment: str) -> tuple[int, set[str], str]:
    """Run the command; return its status, the modules it loaded, and its stdout.

    Modules of others are named by their top level only.
    """
    environment = {"RESOLVER_HTTP": "", **environment}
    done = python("-c", PROBE, *arguments, environment=environment, measured=False)
    status, modules = json.loads(done.stderr.splitlines()[-1])
    return status, {_shown(name) for name in modules}, done.stdout.decode()


def _shown(name: str) -> str:
    return name if name.startswith("resolver.") else name.partition(".")[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("--help",),
        *((name, "--help") for _group, name, _module, _summary in COMMANDS),
    ],
    ids=" ".join,
)
def test_help_loads_no_heavy_module(arguments: tuple[str, ...]) -> None:
    status, modules, output = loaded(*arguments)

    assert status == 0
    assert output
    assert modules & {*HEAVY, "platformdirs"} == set()
    if arguments == ("resolve", "--help"):
        assert "resolver.core.platforms.facts" not in modules
    if len(arguments) == 1:
        # The front page and the version load no command.
        assert modules & {f"resolver.cli.{row[2]}" for row in COMMANDS} == set()


@pytest.mark.parametrize("name", ["ls", "du", "verify", "gc"])
def test_listing_the_store_loads_no_heavy_module(tmp_path: Path, name: str) -> None:
    status, modules, _ = loaded(name, "--store", str(tmp_path / "store"))

    assert status == 0
    assert modules & HEAVY == set()


@pytest.mark.skipif(find_spec("pyreqwest") is None, reason="httpx loads rich")
def test_pull_without_a_terminal_does_not_load_rich(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        registry.serve("team/app", "1", build_image("linux/amd64"))
        name = f"{registry.host}/team/app:1"
        options = ("--store", str(tmp_path), "-p", "linux/amd64")
        status, modules, _ = loaded("pull", name, *options, RESOLVER_HTTP="pyreqwest")

    assert status == 0
    assert modules & {"rich", "httpx"} == set()


@pytest.mark.skipif(find_spec("pyreqwest") is None, reason="httpx does the same with either")
def test_plain_http_reads_no_certificate(tmp_path: Path) -> None:
    """Without any certificate authority pyreqwest cannot start, and httpx is loaded instead."""
    nowhere = str(tmp_path / "none")
    with FakeRegistry() as registry:
        registry.serve("team/app", "1", build_image("linux/amd64"))
        words = ("resolve", f"{registry.host}/team/app:1", "--plain-http", "--store", str(tmp_path))
        status, modules, _ = loaded(*words, SSL_CERT_FILE=nowhere, SSL_CERT_DIR=nowhere)

    assert status == 0
    assert "pyreqwest" in modules
    assert "httpx" not in modules


#: Modules of our own that a command may load. Lower one when a command needs fewer.
MODULES = {"resolve": 68, "pull": 88, "ls": 51}


@pytest.fixture(scope="module")
def own_modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Run each command of `MODULES`; return the modules of our own that it loads."""
    store = str(tmp_path_factory.mktemp("modules") / "store")
    image = build_index([build_image("linux/amd64"), build_image("linux/arm64")])
    found = {}
    with FakeRegistry() as registry:
        registry.serve("team/app", "1", image)
        name = f"{registry.host}/team/app:1"
        for command_name in MODULES:
            words = () if command_name == "ls" else (name, "-p", "linux/arm64")
            plain = {"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}
            status, modules, _ = loaded(command_name, *words, "--store", store, **plain)
            assert status == 0, command_name
            found[command_name] = {each for each in modules if each.startswith("resolver.")}
    return found


@pytest.mark.skipif(find_spec("pyreqwest") is None, reason="httpx needs other modules")
@pytest.mark.parametrize("name", sorted(MODULES))
def test_command_loads_no_more_modules(own_modules: dict[str, set[str]], name: str) -> None:
    assert len(own_modules[name]) <= MODULES[name], sorted(own_modules[name])


def test_no_pattern_of_the_hot_path_is_compiled_at_import(
    own_modules: dict[str, set[str]],
) -> None:
    """Modules of `sources.http` are left out: an answer from the store loads none of them."""
    compiling = []
    for name in sorted(set.union(*own_modules.values())):
        path = PACKAGE / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.parse(file.read_text("utf-8")).body:
            bodies = node.body if isinstance(node, ast.ClassDef) else [node]
            compiling += [
                f"{name}: {ast.unparse(each)}"
                for each in bodies
                if isinstance(each, ast.Assign | ast.AnnAssign)
                and ast.unparse(each.value or each).startswith("re.compile(")
            ]

    assert [each for each in compiling if not each.startswith("resolver.sources.http.")] == []


def test_completion_loads_no_heavy_module() -> None:
    _, modules, output = loaded(
        _RESOLVER_COMPLETE="complete_bash", COMP_WORDS="resolver res", COMP_CWORD="1"
    )

    assert "resolve" in output.split()
    assert modules & {*HEAVY, "platformdirs"} == set()


def test_answer_from_the_store_loads_no_http_client(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    image = build_index([build_image("linux/amd64"), build_image("linux/arm64")])
    options = ("-p", "linux/arm64", "--format", "digest", "--store", store)
    with FakeRegistry() as registry:
        registry.serve("team/app", "1", image)
        reference = f"{registry.host}/team/app@{image.digest}"
        warmed = command("resolve", reference, *options, "--plain-http")
    assert warmed.returncode == 0, warmed.stderr

    status, modules, output = loaded("resolve", reference, *options)

    assert status == 0
    assert output.encode() == warmed.stdout
    assert modules & HEAVY == set()
    assert [name for name in sorted(modules) if name.startswith(OTHER_VERBS)] == []


def test_answer_from_a_lock_loads_no_http_client_and_no_yaml(tmp_path: Path) -> None:
    file = str(tmp_path / "resolver.lock")
    options = ("--lock-file", file, "--store", str(tmp_path / "store"))
    with FakeRegistry() as registry:
        registry.serve("team/app", "1", build_index([build_image("linux/arm64")]))
        assert command("lock", f"{registry.host}/team/app:1", *options).returncode == 0

    for words in (
        ("resolve", "--locked", "-p", "linux/arm64", "--format", "digest"),
        ("lock", "export", "--format", "kbld"),
    ):
        status, modules, output = loaded(*words, *options)
        assert (status, "sha256:" in output) == (0, True)
        assert modules & HEAVY == set()


def test_interrupt_during_loading_gives_a_status_without_a_traceback() -> None:
    interrupting = (
        "import sys, types\n"
        "class Loading(types.ModuleType):\n"
        "    def __getattr__(self, name): raise KeyboardInterrupt\n"
        "sys.modules['resolver.cli.app'] = Loading('resolver.cli.app')\n"
        "from resolver.__main__ import main\n"
        "main()\n"
    )

    done = python("-c", interrupting, measured=False)

    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
