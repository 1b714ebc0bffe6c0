"""Credential helpers: their input, their answers, and their limits."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import HelperFailed
from resolver.sources.credentials.helpers import (
    MAX_ANSWER,
    NOT_FOUND,
    Helpers,
    program_name,
    valid_name,
)
from resolver.sources.credentials.secrets import Once, Secret
from tests.kit.credentials import Machine, revealed

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER = '{"ServerURL":"x","Username":"u5er","Secret":"S3cr3tPa55"}'
MINE = {"username": "u5er", "password": "S3cr3tPa55"}


def complaint(machine: Machine, script: str, timeout: float = 30.0) -> str:
    """Return the error of a helper script that fails."""
    machine.install("it", script)
    with pytest.raises(HelperFailed) as caught:
        Helpers(machine.environment, timeout).ask("it", "reg.test:5000")
    error = caught.value
    assert str(error).startswith("the credential helper `docker-credential-it` failed for ")
    assert error.hints()
    assert error.__cause__ is None
    assert error.__context__ is None
    return str(error).partition("`reg.test:5000`: ")[2]


def eventually(true: Callable[[], bool]) -> bool:
    """Wait until a predicate holds, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


def test_helper_receives_only_get_and_the_key(machine: Machine) -> None:
    """Recorded by a program that sees its own argument list."""
    record = machine.root / "record.json"
    machine.environment |= {
        "DOCKER_AUTH_CONFIG": "S3cr3t",
        "RESOLVER_PASSWORD": "S3cr3t",
        "AWS_PROFILE": "mine",
    }
    code = f"""
import glob, json, os, sys
seen = {{
    "arguments": sys.argv[1:],
    "input": sys.stdin.read(),
    "environment": dict(os.environ),
    "leader": os.getsid(0) == os.getpid(),
    "files": list(map(os.path.realpath, glob.glob("/proc/self/fd/*"))),
}}
with open({str(record)!r}, "w") as file:
    json.dump(seen, file)
print({ANSWER!r})
"""
    program = machine.programs / "docker-credential-rec"
    program.write_text(f"#!{sys.executable} -IS\n{code}\n")
    program.chmod(0o755)
    ours = machine.root / "ours"
    with ours.open("w") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        assert revealed(Helpers(machine.environment).ask("rec", "reg.test:5000")) == MINE
    seen = json.loads(record.read_text())
    assert seen["arguments"] == ["get"]
    assert seen["input"] == "reg.test:5000"
    assert seen["leader"]
    assert seen["files"]
    assert str(ours) not in seen["files"]
    assert seen["environment"].get("AWS_PROFILE") == "mine"
    assert "S3cr3t" not in json.dumps(seen)


def test_first_word_of_the_helper_command_is_its_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A multi-call program reads its name; this one, a shell, runs `get`."""
    (machine.programs / "docker-credential-sh").symlink_to("/bin/sh")
    monkeypatch.chdir(machine.root)
    seen = machine.root / "seen"
    script = f'tr "\\0" "\\n" < /proc/$$/cmdline > {seen}; echo {shlex.quote(ANSWER)}'
    (machine.root / "get").write_text(script)
    assert revealed(Helpers(machine.environment).ask("sh", "x")) == MINE
    assert seen.read_text().splitlines() == ["docker-credential-sh", "get"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ANSWER, MINE),
        ('{"Username":"<token>","Secret":"I"}', {"username": "<token>", "identity_token": "I"}),
        ('{"Username":"<token>","Secret":""}', None),
        ('{"Username":"","Secret":""}', None),
        ('{"Username":"","Secret":"S"}', {"password": "S"}),
        ('{"Username":"u","Secret":"a:b é"}', {"username": "u", "password": "a:b é"}),
        (f" {ANSWER}\n", MINE),
        ("{}", None),
    ],
)
def test_helper_answer_is_a_credential_or_none(
    answer: str, expected: dict[str, str] | None, machine: Machine
) -> None:
    machine.install_answers("it", {"*": {"stdout": answer, "exit": 0}})
    assert revealed(Helpers(machine.environment).ask("it", "reg.test")) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "S3cr3tPa55",
        "[]",
        '"S3cr3tPa55"',
        ANSWER + ANSWER,
        ANSWER[:-2],
        '{"Username":"u","Secret":5}',
        '{"Username":["S3cr3tPa55"],"Secret":"x"}',
        '{"username":"u","secret":"S3cr3tPa55"}',
        '{"Username":"u","SECRET":"S3cr3tPa55"}',
        '{"Username":"u:S3cr3tPa55","Secret":"x"}',
        '{"Username":"u","Secret":"S3cr3tPa55","Secret":"S3cr3tPa55"}',
    ],
)
def test_invalid_helper_answer_is_an_error_without_its_text(answer: str, machine: Machine) -> None:
    stated = complaint(machine, f"printf %s {shlex.quote(answer)}")
    assert "answer" in stated
    assert "S3cr3t" not in stated


@pytest.mark.parametrize("status", [1, 2, 255])
def test_helper_without_the_registry_is_not_a_failure(status: int, machine: Machine) -> None:
    machine.install("it", f"echo '  {NOT_FOUND} '; exit {status}")
    assert Helpers(machine.environment).ask("it", "reg.test") is None


@pytest.mark.parametrize(
    ("script", "stated"),
    [
        ("echo ' vault is sealed '; exit 3", "exit status 3 from `get`, 0 bytes on stderr"),
        (f"echo '{NOT_FOUND}!'; exit 1", "exit status 1 from `get`, 0 bytes on stderr"),
        (f"echo '{NOT_FOUND}' >&2; exit 1", "exit status 1 from `get`, 41 bytes on stderr"),
        ("printf x >&2; exit 1", "exit status 1 from `get`, 1 byte on stderr"),
        (
            "head -c 300000 /dev/zero >&2; exit 1",
            "exit status 1 from `get`, 300000 bytes on stderr",
        ),
        ("exec >&-; printf late >&2; exit 1", "exit status 1 from `get`, 4 bytes on stderr"),
        (f"echo '{NOT_FOUND}'", "its answer is not a JSON object"),
        ("kill -9 $$", "signal 9 from `get`, 0 bytes on stderr"),
    ],
)
def test_helper_failure_omits_the_helper_output(script: str, stated: str, machine: Machine) -> None:
    assert complaint(machine, script) == stated


@pytest.mark.parametrize("verb", ["get", "store", "erase"])
def test_helper_that_echoes_a_secret_is_redacted(verb: str, machine: Machine) -> None:
    """Whatever it writes, on either stream: the message says how to run it by hand instead."""
    machine.install("it", f"cat; printf %s {shlex.quote(ANSWER)}; echo S3cr3tPa55 >&2; exit 1")
    helpers = Helpers(machine.environment)
    act: dict[str, Callable[[], object]] = {
        "get": lambda: helpers.ask("it", "reg.test:5000"),
        "store": lambda: helpers.store("it", "reg.test:5000", "u5er", Secret("S3cr3tPa55")),
        "erase": lambda: helpers.erase("it", "reg.test:5000"),
    }
    with pytest.raises(HelperFailed) as caught:
        act[verb]()
    error = caught.value
    printed = f"{error} {error.hints()} {error.args} {error.__cause__!r} {error.__context__!r}"

    assert error.kind.status == 4
    assert f"exit status 1 from `{verb}`, 11 bytes on stderr" in str(error)
    assert f"docker-credential-it {verb}`" in error.hints()[0]
    for word in ("S3cr3t", "u5er", "Username"):
        assert word not in printed.replace('"Username":"USER"', "")


def test_child_left_by_a_helper_is_not_waited_for(machine: Machine) -> None:
    """It keeps stderr open, like an agent that a keychain starts."""
    start = f"sleep 600 >/dev/null </dev/null & echo $! > {machine.root}/pid"
    machine.install("it", f"{start}; echo {shlex.quote(ANSWER)}")
    try:
        assert revealed(Helpers(machine.environment, 20.0).ask("it", "reg.test")) == MINE
    finally:
        os.kill(int((machine.root / "pid").read_text()), signal.SIGKILL)


def test_helper_may_ignore_its_input(machine: Machine) -> None:
    machine.install("it", f"exec <&-; echo {shlex.quote(ANSWER)}")
    assert revealed(Helpers(machine.environment).ask("it", "reg.test")) == MINE


def test_helper_stderr_is_dropped(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    machine.install("it", f"echo S3cr3tPa55 >&2; echo {shlex.quote(ANSWER)}")
    Helpers(machine.environment).ask("it", "reg.test")
    assert capfd.readouterr() == ("", "")


def test_size_of_a_helper_answer_is_limited(machine: Machine) -> None:
    """Padded with white space, which JSON allows."""
    script = "printf '%-{size}s' " + shlex.quote(ANSWER)
    machine.install("it", script.replace("{size}", str(MAX_ANSWER)))
    assert revealed(Helpers(machine.environment).ask("it", "reg.test")) == MINE
    said = complaint(machine, script.replace("{size}", str(MAX_ANSWER + 1)))
    assert said == f"it writes more than {MAX_ANSWER} bytes"


def test_endless_helper_output_is_cut(machine: Machine) -> None:
    assert complaint(machine, "exec cat /dev/zero") == f"it writes more than {MAX_ANSWER} bytes"


@pytest.mark.parametrize("redirect", ["", ">/dev/null"])
def test_slow_helper_is_killed_with_its_children(redirect: str, machine: Machine) -> None:
    """One child keeps its output open, another closed it and does not end."""
    pids = machine.root / "pids"
    script = f"sleep 600 {redirect} & echo $$ $! > {pids}; exec sleep 600 {redirect}"
    for timeout in (0.3, 3, 30):  # a busy machine may need longer to get as far as `pids`
        stated = complaint(machine, script, timeout)
        assert stated == f"it did not answer within {timeout} s"
        if pids.exists() and len(pids.read_text().split()) == 2:
            break
    assert len(pids.read_text().split()) == 2
    for pid in pids.read_text().split():
        assert eventually(lambda pid=pid: not _runs(pid))  # type: ignore[misc]  # bound now


def _runs(pid: str) -> bool:
    """Return whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_helper_that_cannot_start_is_a_failure(machine: Machine) -> None:
    program = machine.install("it", "")
    program.write_bytes(b"\x7fELF nonsense")
    with pytest.raises(HelperFailed, match="it cannot be started: Exec format error"):
        Helpers(machine.environment).ask("it", "reg.test")
    with pytest.raises(HelperFailed, match="it is not installed"):
        Helpers(machine.environment).ask("ghost", "reg.test")
    with pytest.raises(HelperFailed, match="its environment is unusable"):
        Helpers(machine.environment | {"BAD": "a\0b"}).ask("it", "reg.test")


def test_helpers_are_searched_in_absolute_path_folders_only(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = machine.install("it", "")
    monkeypatch.chdir(machine.programs)
    for path in ("", ".", f".:{os.sep}nonexistent", "::", "../programs", "~"):
        assert Helpers({"PATH": path}).locate("it") is None
    assert Helpers({}).locate("it") is None
    assert Helpers({"PATH": f".::{machine.programs}"}).locate("it") == str(program)


def test_folder_or_non_executable_file_is_not_a_helper(machine: Machine) -> None:
    (machine.programs / "docker-credential-folder").mkdir()
    machine.install("it", "").chmod(0o644)
    helpers = Helpers(machine.environment)
    assert helpers.locate("folder") is None
    assert helpers.locate("it") is None


def test_helper_runs_once_per_key_even_on_failure(machine: Machine) -> None:
    machine.install_answers(
        "it", {"a.test": {"stdout": ANSWER, "exit": 0}, "b.test": {"stdout": "no", "exit": 5}}
    )
    helpers = Helpers(machine.environment)
    for _ in range(3):
        assert revealed(helpers.ask("it", "a.test")) == MINE
        with pytest.raises(HelperFailed, match="exit status 5 from `get`"):
            helpers.ask("it", "b.test")
    assert machine.calls() == [["it", "a.test"], ["it", "b.test"]]


def test_concurrent_threads_wait_for_one_helper_run(machine: Machine) -> None:
    gate, started = machine.root / "gate", machine.root / "started"
    machine.install(
        "it",
        f"echo x >> {started}; while [ ! -e {gate} ]; do sleep 0.01; done; "
        f"echo {shlex.quote(ANSWER)}",
    )
    helpers = Helpers(machine.environment)
    answers: list[dict[str, str] | None] = []
    threads = [
        threading.Thread(target=lambda: answers.append(revealed(helpers.ask("it", "reg.test"))))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    assert eventually(started.exists)
    gate.touch()
    for thread in threads:
        thread.join(10)
    assert answers == [MINE] * 6
    assert started.read_text() == "x\n"


def test_failed_value_is_not_cached() -> None:
    once: Once[str, int] = Once()
    with pytest.raises(ZeroDivisionError):
        once.get("a", lambda: 1 // 0)
    assert [once.get("a", lambda: 1), once.get("a", lambda: 2), once.get("b", lambda: 3)] == [
        1,
        1,
        3,
    ]


@given(st.text() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,70}\n?", fullmatch=True))
def test_helper_name_is_one_safe_path_component(name: str) -> None:
    if valid_name(name):
        assert 1 <= len(name) <= 64
        assert name.isascii()
        assert not set(name) & set("/\\ \n\0;$|&")
        assert Path("/x", program_name(name)).parent == Path("/x")
    else:
        assert (
            name == ""
            or len(name) > 64
            or not name.isascii()
            or not name.replace(".", "a").replace("_", "a").replace("-", "a").isalnum()
            or name[0] in "._-"
        )
