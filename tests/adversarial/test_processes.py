"""Signals, resource limits and closed streams (area "cli", and the fault table)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.adversarial.actor import clean_result
from tests.kit.images import multi_platform
from tests.kit.outcomes import Outcome, clean_text
from tests.kit.processes import ROOT
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts

IMAGE = multi_platform("linux/amd64", "linux/arm64")
DIGEST = IMAGE.child("linux/amd64").digest


@pytest.fixture
def registry(hosts: Hosts) -> FakeRegistry:
    made = hosts.registry()
    made.serve("app", "1", IMAGE)
    return made


def start(act: Actor, *words: str, **how: Any) -> subprocess.Popen[bytes]:
    """Start a command and capture its output."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "RESOLVER_STORE": str(act.store)}
    text = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "resolver", *words], env=variables, **{**text, **how}
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("path", ["manifests/1", "token"])
def test_cli_012_signal_ends_the_command_immediately(
    act: Actor, registry: FakeRegistry, number: signal.Signals, begun: bool, path: str
) -> None:
    # The signal arrives while the command waits for a document.
    never = threading.Event()
    kind = {"Content-Type": IMAGE.media_type}
    stuck = Reply(200, kind, IMAGE.body, delay=never)
    if begun:
        stuck = Reply(200, kind, IMAGE.body, hold=never, hold_after=10)
    if path == "token":
        registry.bearer()
        registry.on("GET", "/token", stuck)
    else:
        registry.on("GET", f"/v2/app/{path}", stuck, times=1)
    with start(act, "resolve", f"{registry.host}/app:1", "-p", "linux/amd64") as process:
        assert registry.wait_for(lambda: bool(registry.requests(path_contains=path)), 20)
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        seconds = time.monotonic() - began
    outcome = Outcome(process.returncode, out, err)
    assert seconds < 3, outcome
    assert process.returncode == 128 + number, outcome
    assert b"Traceback" not in err, outcome
    assert out == b""
    act.no_secret_on_disk()
    if path != "token":
        again = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64")
        assert again.answer["manifest"]["digest"] == DIGEST


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cli_012_signal_ends_concurrent_requests(
    act: Actor, registry: FakeRegistry, number: signal.Signals
) -> None:
    never = threading.Event()
    for each in range(20):
        reply = Reply(200, {"Content-Type": IMAGE.media_type}, IMAGE.body, delay=never)
        registry.on("GET", f"/v2/app/manifests/t{each}", reply)
    words = [f"{registry.host}/app:t{each}" for each in range(20)]
    with start(act, "resolve", "--jobs", "8", *words) as process:
        assert registry.wait_for(lambda: len(registry.log) >= 8, 20)
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 3
    assert process.returncode == 128 + number, Outcome(process.returncode, out, err)
    assert b"Traceback" not in err


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("resolve", "--help")])
def test_cli_021_help_and_version_need_no_environment(words: tuple[str, ...]) -> None:
    began = time.monotonic()
    done = bare(*words)
    assert done.status == 0, done
    assert done.out
    assert done.err == ""
    assert time.monotonic() - began < 5  # the case says 1 s; `tests/test_startup.py` measures


def test_cli_021_command_works_without_environment_variables(
    registry: FakeRegistry, act: Actor
) -> None:
    words = ("resolve", f"{registry.host}/app:1", "-p", "linux/amd64", "--format", "digest")
    done = bare(*words, "--store", str(act.store))
    assert (done.status, done.out.strip()) == (0, DIGEST), done


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null", ""])
def test_cli_021_unwritable_home_does_not_prevent_an_answer(
    registry: FakeRegistry, home: str
) -> None:
    words = ("resolve", f"{registry.host}/app:1", "-p", "linux/amd64", "--format", "digest")
    done = bare(*words, HOME=home)
    clean_result(done, batch=False, as_json=False)
    if done.status == 0:
        assert done.out.strip() == DIGEST
    else:
        assert done.status in (2, 8), done
        assert "--store" in done.err or "RESOLVER_STORE" in done.err, done


@pytest.mark.parametrize("store", ["/proc/nowhere/store", "/dev/null", "/dev/null/store"])
def test_unwritable_store_is_reported_once(act: Actor, registry: FakeRegistry, store: str) -> None:
    words = (f"{registry.host}/app:1", "-p", "linux/amd64", "--store", store)
    done = act.process("resolve", *words)
    assert done.status in (0, 8), done
    assert f"the store cannot be used at `{store[:9]}" in done.err, done
    assert done.err.count("warning: ") <= 1, done


def bare(*words: str, **variables: str) -> Outcome:
    """Run the command with only these environment variables."""
    done = subprocess.run(
        [sys.executable, "-m", "resolver", *words],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", **variables},
        cwd=ROOT,
        timeout=60,
    )
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    clean_text(outcome)
    assert b"Traceback" not in done.stderr, outcome
    return outcome


# --- streams --------------------------------------------------------------------------------


def shell(act: Actor, script: str, *words: str) -> Outcome:
    """Run `sh -c SCRIPT`, in which `"$@"` is the command."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "RESOLVER_STORE": str(act.store)}
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "resolver", *words],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=variables,
        timeout=60,
    )
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert b"Traceback" not in done.stdout + done.stderr, outcome
    assert "defect" not in outcome.err, outcome
    return outcome


def questions(registry: FakeRegistry) -> dict[str, tuple[str, ...]]:
    place = f"{registry.host}/app:1"
    return {
        "resolve": ("resolve", place, "-p", "linux/amd64"),
        "json": ("resolve", place, "-p", "linux/amd64", "--json"),
        "many": ("resolve", place, place, "-p", "linux/amd64"),
        "raw": ("inspect", place, "--raw"),
        "tags": ("tags", f"{registry.host}/app"),
        "help": ("--help",),
        "version": ("--version",),
        "options": ("options",),
    }


QUESTIONS = ("resolve", "json", "many", "raw", "tags", "help", "version", "options")


@pytest.mark.parametrize("question", QUESTIONS)
def test_full_disk_behind_stdout_is_an_error(
    act: Actor, registry: FakeRegistry, question: str
) -> None:
    done = shell(act, '"$@" >/dev/full', *questions(registry)[question])
    assert done.status == 8, done
    assert done.err.startswith("error: "), done


@pytest.mark.parametrize("question", QUESTIONS)
def test_closed_stdout_is_an_error_without_a_crash(
    act: Actor, registry: FakeRegistry, question: str
) -> None:
    done = shell(act, '"$@" >&-', *questions(registry)[question])
    assert done.status == 8, done
    clean_result(done, batch=False, as_json=False)


def test_closed_stdin_does_not_matter(act: Actor, registry: FakeRegistry) -> None:
    done = shell(act, '"$@" <&-', *questions(registry)["resolve"])
    assert done.status == 0, done
    for words in (("resolve", "-f", "-"), ("resolve", "--username", "a", "--password-stdin", "b")):
        done = shell(act, '"$@" <&-', *words)
        assert done.status == 2, done
        clean_result(done, batch=False, as_json=False)


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_closed_stderr_does_not_change_the_status(
    act: Actor, registry: FakeRegistry, redirect: str
) -> None:
    for more in ((), ("-vv",)):
        good = shell(act, f'"$@" {redirect}', *questions(registry)["resolve"], *more)
        assert good.status == 0, good
        assert DIGEST in good.out
    assert shell(act, f'"$@" {redirect}', "resolve", f"{registry.host}/app:2").status == 3
    assert shell(act, f'"$@" {redirect}', "resolve", "a//b").status == 2
    assert shell(act, f'"$@" {redirect}', "resolve", "--nonsense").status == 2


def test_closing_all_streams_still_gives_a_status(act: Actor, registry: FakeRegistry) -> None:
    done = shell(act, '"$@" <&- >&- 2>&-', *questions(registry)["resolve"])
    assert done.status == 8, done
    assert shell(act, '"$@" <&- >&- 2>&-', "resolve", "a//b").status == 2


# --- small machines -------------------------------------------------------------------------


def limited(act: Actor, limit: Callable[[], None], *words: str) -> Outcome:
    """Run the command with a resource limit."""
    with start(act, *words, preexec_fn=limit) as process:
        out, err = process.communicate(timeout=60)
    outcome = Outcome(process.returncode, out, err)
    assert b"Traceback" not in err, outcome
    assert "defect" not in outcome.err, outcome
    clean_text(outcome)
    return outcome


def bound(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


def test_resolve_works_with_400_mib_of_address_space(act: Actor, registry: FakeRegistry) -> None:
    words = ("resolve", f"{registry.host}/app:1", "-p", "linux/amd64", "--verify")
    done = limited(act, bound(resource.RLIMIT_AS, 400 * 1024 * 1024), *words)
    assert done.status == 0, done
    assert DIGEST in done.out


def test_resolve_works_with_20_open_files(act: Actor, registry: FakeRegistry) -> None:
    words = ("resolve", f"{registry.host}/app:1", "-p", "linux/amd64", "--verify")
    done = limited(act, bound(resource.RLIMIT_NOFILE, 20), *words)
    assert done.status == 0, done
    assert DIGEST in done.out


@pytest.mark.parametrize("count", [6, 8, 10, 12])
def test_too_few_open_files_are_reported_as_an_error(
    act: Actor, registry: FakeRegistry, count: int
) -> None:
    words = ("resolve", f"{registry.host}/app:1", "-p", "linux/amd64", "--verify")
    done = limited(act, bound(resource.RLIMIT_NOFILE, count), *words)
    assert done.status in (0, 5, 8), done
    clean_result(done, batch=False, as_json=False)


def test_many_references_with_20_open_files_end_cleanly(act: Actor, registry: FakeRegistry) -> None:
    for number in range(40):
        registry.serve("app", f"t{number}", IMAGE)
    words = [f"{registry.host}/app:t{number}" for number in range(40)]
    limit = bound(resource.RLIMIT_NOFILE, 20)
    done = limited(act, limit, "resolve", "-p", "linux/amd64", "--jobs", "32", *words)
    clean_result(done, batch=True, as_json=False)
    assert done.status in (0, 5, 8), done
    assert len(done.out.splitlines()) == 40


def test_resolve_warns_about_a_store_on_a_full_disk(act: Actor, registry: FakeRegistry) -> None:
    # Files may not grow at all: every write to the store fails, as on a full disk.
    words = ("resolve", f"{registry.host}/app:1", "-p", "linux/amd64")
    done = limited(act, bound(resource.RLIMIT_FSIZE, 0), *words)
    assert done.status in (0, 8), done
    clean_result(done, batch=False, as_json=False)
    assert done.status == 8 or DIGEST in done.out
    blobs = [path for path in act.store.rglob("blobs/*/*") if path.is_file()]
    assert all(path.stat().st_size for path in blobs), "an empty blob was published"


def test_plain_http_works_without_ca_certificates(
    act: Actor, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in an image without the package ca-certificates.
    empty = act.folder / "empty"
    empty.mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(empty))
    monkeypatch.setenv("SSL_CERT_FILE", str(empty / "none.pem"))
    done = act.process("resolve", f"{registry.host}/app:1", "-p", "linux/amd64")
    assert done.status in (0, 2), done
