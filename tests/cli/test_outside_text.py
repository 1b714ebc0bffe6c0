"""Foreign text in output: from registries, token servers, helpers and programs.

Each of them repeats the user's password here, at length. Whatever the way to a person is, the
password is not on it, and no line is endless.
"""

from __future__ import annotations

import ast
import base64
import html
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

import resolver
from resolver.cli.output import MAX_MESSAGE
from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.platforms.platform import Platform
from tests.kit.images import Image, build_image, entry, from_dict
from tests.kit.messages import Reply
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Run

USER, PASSWORD = "u5er", "S3cr3tPa55w0rd"
PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
#: What a hostile or a careless program says: the secret in several forms, and much more.
ECHO = f"you sent {PASSWORD} {PAIR} {quote(PASSWORD)} " + "and so on " * 2000
HEADER = ECHO[:800]
NAME = "team/app"

Source = "Callable[[FakeRegistry, Path], tuple[str, ...]]"


def _manifest(reply: Reply) -> Callable[[FakeRegistry, Path], tuple[str, ...]]:
    def script(registry: FakeRegistry, _: Path) -> tuple[str, ...]:
        registry.basic(USER, PASSWORD)
        registry.on("*", f"/v2/{NAME}/manifests/1", reply)
        return ("resolve", f"{registry.host}/{NAME}:1")

    return script


def _echoing(status: int, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"Content-Type": "text/plain", **named}, ECHO.encode())


def _token_server(registry: FakeRegistry, _: Path) -> tuple[str, ...]:
    registry.bearer(credentials=(USER, PASSWORD))
    registry.on("GET", "/token", _echoing(403))
    return ("resolve", f"{registry.host}/{NAME}:1")


def _realm(registry: FakeRegistry, _: Path) -> tuple[str, ...]:
    challenge = f'Bearer realm="ftp://{PASSWORD}@host/{PAIR}",service="{PASSWORD}"'
    registry.on("*", f"/v2/{NAME}/manifests/1", Reply(401, {"WWW-Authenticate": challenge}))
    return ("resolve", f"{registry.host}/{NAME}:1")


def _several(registry: FakeRegistry, folder: Path) -> tuple[str, ...]:
    words = _manifest(_echoing(403))(registry, folder)
    registry.on("*", f"/v2/{NAME}/manifests/2", _echoing(500))
    return (*words, f"{registry.host}/{NAME}:2")


def _check(registry: FakeRegistry, folder: Path) -> tuple[str, ...]:
    words = _manifest(_echoing(403))(registry, folder)
    return ("check", *words[1:], "--require", "linux/amd64")


def _plan(registry: FakeRegistry, folder: Path) -> tuple[str, ...]:
    return ("plan", *_manifest(_echoing(403))(registry, folder)[1:])


def _search(registry: FakeRegistry, _: Path) -> tuple[str, ...]:
    registry.on("GET", "/v1/search", _echoing(500))
    registry.on("GET", "/v2/_catalog", _echoing(500))
    return ("search", f"{registry.host}/app")


def _program(folder: Path, name: str, script: str) -> None:
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)
    os.environ["PATH"] = f"{programs}:/usr/bin:/bin"


def _helper(registry: FakeRegistry, folder: Path) -> tuple[str, ...]:
    registry.basic(USER, PASSWORD)
    stated = shlex.quote(ECHO)
    _program(folder, "docker-credential-it", f"echo {stated}; echo {stated} >&2; cat; exit 1")
    config = Path(os.environ["HOME"]) / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text('{"credsStore": "it"}')
    del os.environ["RESOLVER_USERNAME"], os.environ["RESOLVER_PASSWORD"]
    return ("resolve", f"{registry.host}/{NAME}:1")


SOURCES: dict[str, Callable[[FakeRegistry, Path], tuple[str, ...]]] = {
    "body of a refusal": _manifest(_echoing(403)),
    "body of a failure": _manifest(_echoing(400)),
    "warning": _manifest(_echoing(404, Warning=f'299 - "{HEADER}"')),
    "coding": _manifest(_echoing(200, Content_Encoding=HEADER)),
    "media type": _manifest(_echoing(200, Content_Type=f"text/{PASSWORD}")),
    "digest": _manifest(_echoing(200, Docker_Content_Digest=f"sha256:{PASSWORD}")),
    "redirect": _manifest(_echoing(307, Location=f"ftp://{PASSWORD}/{PAIR}?x={PASSWORD}")),
    "token server": _token_server,
    "realm": _realm,
    "several": _several,
    "check": _check,
    "plan": _plan,
    "search": _search,
    "helper": _helper,
}
WAYS: dict[str, tuple[str, ...]] = {
    "table": (),
    "log": ("-vv",),
    "json": ("--json",),
    "json lines": ("--format", "jsonl"),
    "yaml": ("--format", "yaml"),
    "markdown": ("--format", "markdown"),
    "sarif": ("--report", "sarif=report"),
    "junit": ("--report", "junit=report"),
    "code quality": ("--report", "codequality=report"),
    "summary": ("--report", "markdown=report"),
    "github": ("--emit", "github"),
    "azure": ("--emit", "azure"),
}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeRegistry]:
    for name, value in {
        "RESOLVER_USERNAME": USER,
        "RESOLVER_PASSWORD": PASSWORD,
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "PATH": os.environ["PATH"],
    }.items():
        monkeypatch.setenv(name, value)
    with FakeRegistry(strict=False) as registry:
        yield registry


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", SOURCES)
def test_no_output_contains_a_secret_or_an_unbounded_line(
    run: Run, outside: FakeRegistry, tmp_path: Path, source: str, way: str
) -> None:
    seen = run(*SOURCES[source](outside, tmp_path), *WAYS[way], keep=True)
    files = [tmp_path / name for name in ("report", "output", "summary")]
    result_text = [seen.stdout, seen.stderr, *(file.read_text() for file in files if file.exists())]

    assert seen.status not in {0, 70}
    for text in result_text:
        assert PASSWORD not in text
        assert PAIR not in text
        assert base64.b64encode(PASSWORD.encode()).decode().rstrip("=") not in text
    # A line may hold a message, its hints and what stands around them.
    assert max(len(line) for text in result_text for line in text.splitlines()) < 3 * MAX_MESSAGE


def test_program_output_is_escaped_on_success_and_failure(
    run: Run, outside: FakeRegistry, registry: str, tmp_path: Path
) -> None:
    del outside
    name = f"{registry}/demo/app:1.0"
    assert run("pull", name, "-p", "linux/arm64").status == 0
    for status in (0, 1):
        stated = f"cat >/dev/null; echo {shlex.quote(ECHO)} | tee /dev/stderr; exit {status}"
        _program(tmp_path, "docker", stated)
        for form in (*(("--format", each) for each in ("table", "markdown", "json")),):
            seen = run("export", name, "--to", "docker", *form, keep=True)

            assert (seen.status == 0) is (status == 0), seen
            assert PASSWORD not in seen.stdout + seen.stderr
            assert PAIR not in seen.stdout + seen.stderr


#: What writes to a stream itself; all else goes through `Output`, and so through `presentable`.
WRITERS = {
    ("cli/output.py", "answer"),
    ("cli/output.py", "raw"),
    ("cli/output.py", "_write"),
    ("cli/output.py", "exit_now"),  # bytes of ours that put a terminal right
    ("cli/login.py", "_ask"),  # a question of ours
    ("render/live.py", "write"),  # what `Output` gives it
}


def test_every_stream_writer_is_covered() -> None:
    package = Path(resolver.__file__).parent
    found = set()
    for room in ("cli", "render"):
        for path in sorted((package / room).glob("*.py")):
            for function in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(function, ast.FunctionDef):
                    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                    if any(_writes(ast.unparse(call.func)) for call in calls):
                        found.add((str(path.relative_to(package)), function.name))

    assert found == WRITERS


def _writes(function: str) -> bool:
    streams = ("sys.stdout", "sys.stderr", "sys.stdout.buffer")
    return function in {
        "print",
        "os.write",
        "typer.echo",
        "self._console.print",
        *(f"{stream}.{verb}" for stream in streams for verb in ("write", "writelines")),
    }


#: Platforms as indexes have them: with versions, features and characters outside the grammar.
ODD = (
    Platform("linux", "amd64"),
    Platform("darwin", "arm64", "", "macOS 14.4"),
    Platform("freebsd", "amd64", "", "14.1"),
    Platform("linux", "amd64", "v3", "", ("a+b", "c d")),
    Platform("linux", "ev|l`", "<b>"),
    Platform("windows", "amd64", "", "ltsc (x)"),
)
#: Every command that prints platforms, and whether its tables have all of an index.
PLATFORM_COMMANDS = [
    (("resolve", "NAME", "-p", "all"), True),
    (("resolve", "NAME", "-p", "linux/amd64", "--explain"), True),
    (("resolve", "NAME", "-p", "linux/s390x"), True),
    (("platforms", "NAME"), True),
    (("inspect", "NAME"), True),
    (("inspect", "NAME", "-p", str(ODD[1])), False),
    (("compare", "NAME"), True),
    (("compare", "NAME", "OTHER"), True),
    (("check", "NAME", "--only", "linux/s390x"), True),
    (("lint", "NAME"), False),
    (("matrix", "NAME"), False),
    (("plan", "NAME", "-p", "all"), True),
    (("lock", "NAME"), False),
    (("pull", "NAME", "-p", "all"), True),
    (("ls",), False),
    (("export", "NAME", "--to", "out", "-p", "all"), True),
    (("tags", "NAME", "-p", str(ODD[1])), False),
]
#: Text that only a platform looks like: what follows a system that these images are made for.
_PRINTED = re.compile(
    r"(?<![A-Za-z0-9./])(?:linux|darwin|freebsd|windows)[(/][^\s`,;'=\"|<>]*[^\s`,;:'=\"|<>]"
)


def odd_image(number: int) -> Image:
    """Make an index of the odd platforms; layers are the number's own."""
    entries, parts = [], []
    for position, platform in enumerate(ODD):
        fields: dict[str, object] = {
            "os": platform.os,
            "architecture": platform.architecture,
            "variant": platform.variant,
            "os.version": platform.os_version,
            "os.features": list(platform.os_features),
        }
        fields = {name: value for name, value in fields.items() if value}
        image = build_image(
            "linux/amd64", [f"{number} {position}".encode()], config={"author": "x", **fields}
        )
        parts.append(image)
        entries.append({**entry(image), "platform": fields})
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return from_dict(document, OCI_INDEX, parts=parts)


@pytest.mark.parametrize("form", ["table", "json", "markdown", "html"])
@pytest.mark.parametrize(("words", "is_whole"), PLATFORM_COMMANDS, ids=str)
def test_every_printed_platform_is_accepted_as_input(
    run: Run, words: tuple[str, ...], is_whole: bool, form: str
) -> None:
    known = {str(platform): platform for platform in ODD}
    with FakeRegistry() as registry:
        registry.serve(NAME, "1", odd_image(1))
        registry.serve(NAME, "2", odd_image(2))
        names = {"NAME": f"{registry.host}/{NAME}:1", "OTHER": f"{registry.host}/{NAME}:2"}
        if words[0] == "tags":
            names["NAME"] = f"{registry.host}/{NAME}"
        if words[0] in {"ls", "export"}:
            run("pull", names["NAME"], "-p", "all")
        seen = run(*(names.get(word, word) for word in words), "--format", form, keep=True)

    text = seen.stdout
    if form == "html":
        text = html.unescape(re.sub("<[^>]*>", " ", text.replace("<wbr>", "")))
    found = _PRINTED.findall(text + seen.stderr)
    # A platform closes the parentheses that it opens; one more is that of the sentence.
    printed = {
        each.removesuffix(")") if each.count(")") > each.count("(") else each for each in found
    } - {"linux/s390x"}
    if seen.status != 2:
        assert printed <= set(known), seen
        assert not is_whole or form == "json" or printed == set(known), seen
    for one in printed:
        assert Platform.parse(one) == known[one]
