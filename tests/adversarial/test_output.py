"""Output for hostile input: escapes, JSON, pipes, error classes (area "cli")."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.adversarial.actor import refused
from tests.adversarial.catalogue import STATUS
from tests.adversarial.hosts import answer, login
from tests.adversarial.rusage import measured
from tests.kit.images import build_image, build_index, from_dict, multi_platform, raw_document
from tests.kit.outcomes import Outcome, clean_text
from tests.kit.processes import ROOT
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts

EVIL = (
    "\x1b[2J\x1b]8;;http://x\x07link\x1b]8;;\x07\x1b]52;c;eA==\x07\x08\r\x7f\x9b31m\u202e\u2028"
    "\u2066\n::error::x\n##vso[task.setvariable]x"
)
CONTROLS = "".join(map(chr, [*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066]))


@pytest.fixture
def evil(hosts: Hosts) -> FakeRegistry:
    """Return a registry that puts control characters into every text."""
    registry = hosts.registry()
    history = [{"created_by": EVIL, "comment": EVIL, "author": EVIL}]
    settings = {
        "Labels": {"k": EVIL, EVIL: "v"},
        "Env": [f"A={EVIL}", EVIL],
        "Cmd": [EVIL],
        "Entrypoint": [EVIL],
        "User": EVIL,
        "WorkingDir": EVIL,
        "ExposedPorts": {EVIL: {}},
        "Volumes": {EVIL: {}},
        "StopSignal": EVIL,
    }
    changes = {"config": settings, "history": history, "author": EVIL, "created": EVIL}
    image = build_image("linux/amd64", config=changes)
    fields = json.loads(image.body)
    fields["annotations"] = {"k": CONTROLS + EVIL, "\x1b[31m": "v"}
    # A media type may contain anything but line breaks and NUL.
    fields["layers"][0]["mediaType"] = "x/" + re.sub("[\r\n\0]", " ", EVIL)
    registry.serve("app", "image", from_dict(fields, parts=[image]))
    index = build_index([image], annotations={"a": EVIL, EVIL: "b"})
    registry.serve("app", "index", index)
    registry.on(
        "GET", "/v2/app/manifests/fault", answer({"errors": [{"code": EVIL, "message": EVIL}]}, 403)
    )
    registry.on("GET", "/v2/app/manifests/text", Reply(403, body=EVIL.encode()))
    latin = EVIL.replace("\n", " ").replace("\r", " ").encode().decode("latin-1")
    headers = {"Content-Type": image.media_type, "Warning": f'299 - "{latin}"'}
    registry.on("GET", "/v2/app/manifests/warning", Reply(200, headers, image.body))
    return registry


QUESTIONS = [
    ("inspect", "image"),
    ("inspect", "index"),
    ("inspect", "index", "-p", "linux/amd64"),
    ("inspect", "image", "--format", "markdown", "--no-trunc"),
    ("inspect", "image", "--format", "yaml"),
    ("resolve", "warning", "-v", "-p", "linux/amd64"),
    ("resolve", "index", "--explain", "-v"),
    ("platforms", "index"),
    ("resolve", "fault", "-v"),
    ("resolve", "text"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_cli_006_output_contains_no_control_characters(
    act: Actor, evil: FakeRegistry, question: tuple[str, ...]
) -> None:
    # Tag lists are in CLI-017.
    verb, tag, *words = question
    outcome = act(verb.upper(), f"{evil.host}/app:{tag}", *words, as_json=False)
    assert outcome.status == (4 if tag in {"fault", "text"} else 0), outcome
    if verb == "inspect":
        assert (r"\e" if "yaml" in words else r"\x1b") in outcome.out


def test_cli_006_terminal_output_contains_no_control_characters(
    act: Actor, evil: FakeRegistry
) -> None:
    ours, theirs = pty.openpty()
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    words = ["inspect", f"{evil.host}/app:image", "--store", str(act.store)]
    with subprocess.Popen(
        [sys.executable, "-m", "resolver", *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=variables,
    ) as process:
        os.close(theirs)
        shown = drain(ours)
        assert process.wait(30) == 0
    # The terminal itself writes a carriage return before each line feed.
    # The colours are ours.
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", shown.replace(b"\r\n", b"\n"))
    clean_text(Outcome(0, plain, b""))
    assert rb"\x1b[2J" in shown


def drain(terminal: int) -> bytes:
    """Read what a program writes on a terminal, until it ends."""
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:
            piece = b""
        if not piece:
            os.close(terminal)
            return b"".join(pieces)
        pieces.append(piece)


def test_cli_009_json_is_always_one_document(act: Actor, hosts: Hosts) -> None:
    # resolve and inspect warn, retry, fail and log like a pull.
    registry = hosts.registry()
    image = multi_platform("linux/amd64", "linux/arm64")
    registry.serve("img-a", "1", image)
    warned = {"Content-Type": image.media_type, "Warning": '299 - "moves soon"'}
    busy = Reply(503), Reply(200, warned, image.body)
    registry.on("GET", "/v2/img-a/manifests/1", *busy, times=2)
    good = act("PULL", f"{registry.host}/img-a:1", "-vv")
    assert good.answer["warnings"][0]["message"].endswith("moves soon")
    assert "trying again" in good.err
    assert (
        act("PULL", f"{registry.host}/img-a:1").out == act("PULL", f"{registry.host}/img-a:1").out
    )
    missing = act("PULL", f"{registry.host}/missing:1", "-vv")
    refused(missing, "NOT_FOUND")
    assert {"class", "code", "message", "hints", "status"} <= set(missing.failure)
    both = act("RESOLVE", f"{registry.host}/img-a:1", f"{registry.host}/missing:1", batch=True)
    assert both.status == 3
    assert ["error" in result for result in both.answer["results"]] == [False, True]
    lines = act.process("resolve", f"{registry.host}/missing:1", "--format", "jsonl", batch=True)
    assert [json.loads(line)["error"]["class"] for line in lines.out.splitlines()] == ["NOT_FOUND"]


def test_cli_010_closed_stdout_is_not_a_failure(act: Actor, hosts: Hosts) -> None:
    registry = hosts.registry()
    names = [f"tag-{number}" for number in range(100_000)]
    registry.on("GET", "/v2/app/tags/list", answer({"name": "app", "tags": names}))
    ours = f'"{sys.executable}" -m resolver tags {registry.host}/app'
    script = f'{ours} | head -1; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RESOLVER_STORE": str(act.store)},
        timeout=30,
    )
    outcome = Outcome(0, done.stdout, done.stderr)
    assert done.returncode in (0, 141), outcome
    assert outcome.out == "tag-0\n"
    assert outcome.err == ""


def test_cli_013_every_error_class_has_its_status_and_name(
    act: Actor, hosts: Hosts, docker_config: Callable[[object], Path]
) -> None:
    registry, scenes = hosts.registry(), []
    image = multi_platform("linux/amd64")
    registry.serve("app", "1", image)
    registry.serve("app", "bad", raw_document(b"[]"))
    registry.on("GET", "/v2/app/manifests/big", Reply(200, body=b" " * 4_194_305))
    registry.rate_limit("/v2/app/manifests/busy", None, 3600)
    registry.on("GET", "/v2/app/manifests/denied", answer({}, 403))
    ones = "sha256:" + "1" * 64
    registry.on("GET", f"/v2/app/manifests/{ones}", Reply(200, {"Content-Type": "x"}, image.body))
    closed = hosts.registry()
    closed.close()
    place = f"{registry.host}/app"
    scenes += [
        ("USAGE", "usage", ("RESOLVE", "--jobs", "0", place)),
        ("USAGE", "invalid-reference", ("RESOLVE", "a//b")),
        ("NOT_FOUND", "manifest-not-found", ("RESOLVE", f"{place}:2")),
        ("PLATFORM", "platform-not-offered", ("RESOLVE", f"{place}:1", "-p", "linux/s390x")),
        ("AUTH", "authentication-required", ("RESOLVE", f"{place}:denied")),
        ("NETWORK", "connection-failed", ("RESOLVE", f"{closed.host}/app:1")),
        ("RATELIMIT", "rate-limited", ("RESOLVE", f"{place}:busy")),
        ("INTEGRITY", "digest-mismatch", ("RESOLVE", f"{place}@{ones}")),
        ("FORMAT", "bad-document", ("RESOLVE", f"{place}:bad")),
        ("LIMIT", "limit-exceeded", ("RESOLVE", f"{place}:big")),
        ("OFFLINE", "not-in-store", ("RESOLVE", "--offline", f"{place}:3")),
    ]
    for word, code, (verb, *words) in scenes:
        outcome = act(verb, *words)
        refused(outcome, word)
        assert outcome.failure["code"] == code, outcome
    docker_config(b"[]")
    refused(act("RESOLVE", f"{place}:4"), "CONFIG")
    assert len({STATUS[word] for word in ("USAGE", "NOT_FOUND", "AUTH", "NETWORK", "LIMIT")}) == 5


def test_cli_013_unreadable_store_has_its_own_status(act: Actor) -> None:
    act.store.write_text("no folder")
    refused(act("RESOLVE", "--offline", "a"), "STORE", str(act.store))


BAD_LISTS = {
    '{"tags":null}': [],
    '{"tags":[]}': [],
    '{"name":"other/repo","tags":["a"]}': ["a"],
    '{"tags":["a","a","b"]}': ["a", "b"],
    '{"tags":["a","../../x","\\u001b[2J","::error::x","b/c","","-x","x y"]}': ["a"],
    '{"tags":[1]}': None,
    '{"tags":[["a"]]}': None,
    '{"tags":"abc"}': None,
    '{"tags":{"a":1}}': None,
    '{"tags":["a"],"tags":["b"]}': None,
    "[]": None,
}


@pytest.mark.parametrize("body", BAD_LISTS)
def test_cli_017_invalid_tag_list_is_filtered_or_refused(
    act: Actor, hosts: Hosts, body: str
) -> None:
    registry = hosts.registry()
    reply = Reply(200, {"Content-Type": "application/json"}, body.encode())
    registry.on("GET", "/v2/app/tags/list", reply)
    outcome = act("TAGS", f"{registry.host}/app")
    expected = BAD_LISTS[body]
    if expected is None:
        refused(outcome, "FORMAT")
        return
    assert outcome.answer["tags"] == expected
    assert ("warning: " in outcome.err) == ("error" in body)
    assert act("TAGS", f"{registry.host}/app", as_json=False).out.split() == expected


@pytest.mark.parametrize(
    ("start", "unit", "end", "count"),
    [
        (b'{"x":[', b"{},", b'1],"tags":["a"]}', 300_000),
        (b'{"x":[', b'{"":0},', b'1],"tags":["a"]}', 149_000),
        (b'{"x":[', b"[[]],", b'1],"tags":["a"]}', 4_000_000),
        (b'{"tags":[', b'"",', b'"a"]}', 900_000),
        (b'{"tags":[', b"null,", b'"a"]}', 6_000_000),
    ],
)
def test_cli_017_tag_page_size_is_limited(
    act: Actor, hosts: Hosts, start: bytes, unit: bytes, end: bytes, count: int
) -> None:
    registry = hosts.registry()
    headers = {"Content-Type": "application/json"}
    registry.on("GET", "/v2/app/tags/list", Reply(200, headers, start + unit * count + end))
    outcome, kilobytes = measured(("tags", f"{registry.host}/app"), act.store)
    act.check(outcome)

    assert outcome.status == 0 if count < 1_000_000 else "exceeds the limit" in outcome.err
    assert outcome.out.split() == (["a"] if outcome.status == 0 else [])
    assert kilobytes < 256 * 1024


def test_cli_017_tags_are_printed_as_they_arrive(act: Actor, hosts: Hosts) -> None:
    registry = hosts.registry()
    body = b",".join(b'"1.%d"' % number for number in range(200_000))
    headers = {"Content-Type": "application/json"}
    registry.on("GET", "/v2/app/tags/list", Reply(200, headers, b'{"tags":[%b]}' % body))
    cost = {
        words: measured(("tags", f"{registry.host}/app", *words), act.store)
        for words in ((), ("--json",), ("--newest", "--limit", "1"))
    }

    assert [outcome.status for outcome, _ in cost.values()] == [0, 0, 0]
    assert cost["--newest", "--limit", "1"][0].out.split() == ["1.199999"]
    # A fifth of what may be listed: five times what it takes beyond the program itself still fits.
    assert max(kilobytes for _, kilobytes in cost.values()) < 96 * 1024


def test_cli_017_compressed_tag_list_is_refused(act: Actor, hosts: Hosts) -> None:
    from tests.adversarial.test_auth import bomb

    registry = hosts.registry()
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    registry.on("GET", "/v2/app/tags/list", Reply(200, headers, bomb()))
    refused(act("TAGS", f"{registry.host}/app"), "NETWORK")


@pytest.mark.parametrize(
    "link", ["http://EV/v2/app/tags/list?n=1", "//EV/v2/app/tags/list", "/other?n=1", "/v2/../x"]
)
def test_cli_017_next_tag_page_is_at_the_registry(
    act: Actor, hosts: Hosts, docker_config: Callable[[object], Path], link: str
) -> None:
    registry, evil = hosts.evil(), hosts.evil()
    docker_config(login(registry.host))
    following = f'<{link.replace("EV", evil.host)}>; rel="next"'
    registry.on("GET", "/v2/app/tags/list", answer({"tags": ["a"]}, Link=following))
    refused(act("TAGS", f"{registry.host}/app"), "NETWORK")
    assert evil.connections == 0
    assert len(registry.log) == 1


def test_cli_017_circular_tag_pages_end(act: Actor, hosts: Hosts) -> None:
    registry = hosts.registry()
    following = '</v2/app/tags/list?n=1000&last=a>; rel="next"'
    registry.on("GET", "/v2/app/tags/list", answer({"tags": ["a"]}, Link=following))
    assert act("TAGS", f"{registry.host}/app").answer["tags"] == ["a"]
    assert len(registry.log) <= 3
