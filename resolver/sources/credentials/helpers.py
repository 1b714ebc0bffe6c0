"""Run `docker-credential-*` programs as Docker does, with minimal trust.

A helper gets only the registry's key on stdin. It is killed, with everything it started, when it
takes too long or writes too much. Its stdout and stderr are never shown, since both may contain
secrets. See docs/wire-protocol.md, "Credential helpers".

Source: github.com/docker/docker-credential-helpers, client/client.go and credentials/error.go.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from resolver.core.parse.json import read_object
from resolver.errors import BadDocument, HelperFailed, LimitExceeded
from resolver.sources.credentials.secrets import Credential, Once, Secret, octets
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ANSWER: Final = 65_536
"""Most bytes of a helper's stdout."""
TIMEOUT: Final = 30.0
"""Seconds a helper may take; those of cloud providers are slow."""
NOT_FOUND: Final = "credentials not found in native keychain"
"""A helper's error for an unknown registry."""
TOKEN_USER: Final = "<token>"  # noqa: S105 the protocol's user name for a token

_MEMBERS: Final = frozenset({"Username", "Secret"})
_NAME: Final = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
#: Seconds between checks of a helper that has closed its stdout and not ended.
_LOOK: Final = 0.02
#: How to run each verb by hand, since a helper's output is never shown.
_BY_HAND: Final = {
    "get": "echo {key} | {program} get",
    "erase": "echo {key} | {program} erase",
    "store": (
        """echo '{{"ServerURL":"{key}","Username":"USER","Secret":"SECRET"}}' """
        "| {program} store"
    ),
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    credential: Credential | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Result:
    """Result of a helper that ended in time.

    Attributes:
        output: of stdout; never shown.
        stderr_size: bytes of stderr, which are dropped.
    """

    status: int
    output: bytes
    stderr_size: int


class Helpers:
    """The credential helpers of one environment, each run once per key.

    Args:
        timeout: seconds a helper may take.
    """

    __slots__ = ("_environment", "_outcomes", "_path", "_timeout")

    def __init__(self, environment: Mapping[str, str], timeout: float = TIMEOUT) -> None:
        self._environment = {
            name: value for name, value in environment.items() if not may_be_secret(name)
        }
        self._path = environment.get("PATH", "")
        self._timeout = timeout
        self._outcomes: Once[tuple[str, str], _Outcome] = Once()

    def locate(self, name: str) -> str | None:
        """Return the path of a helper's program; None if it is not installed.

        Only absolute entries of `PATH` are used: an empty one or `.` would run a file of the
        working directory.
        """
        folders = [folder for folder in self._path.split(os.pathsep) if folder.startswith("/")]
        return shutil.which(program_name(name), path=os.pathsep.join(folders))

    def ask(self, name: str, key: str) -> Credential | None:
        """Return a registry's credential from a helper; None if unknown. `name` must be valid."""
        outcome = self._outcomes.get((name, key), lambda: self._ask(name, key))
        if outcome.problem:
            raise failure(name, "get", key, outcome.problem)
        return outcome.credential

    def forget(self, name: str, key: str, refused: Credential) -> None:
        """Drop a helper's answer if it is the refused one."""
        self._outcomes.forget((name, key), lambda outcome: outcome.credential is refused)

    def store(self, name: str, key: str, username: str, secret: Secret) -> None:
        """Store a credential in a helper. `name` must be a `valid_name`."""
        said = {"ServerURL": key, "Username": username, "Secret": secret.reveal()}
        self._send(name, "store", key, json.dumps(said))

    def erase(self, name: str, key: str) -> bool:
        """Erase a registry from a helper; False if it was unknown."""
        return self._send(name, "erase", key, key)

    def _send(self, name: str, verb: str, key: str, text: str) -> bool:
        """Run a helper that stores or erases; its output is dropped."""
        result = self._call(name, verb, text)
        if isinstance(result, _Result) and not result.status:
            return True
        outcome = _Outcome(problem=result) if isinstance(result, str) else _refusal(result, verb)
        if outcome.problem:
            raise failure(name, verb, key, outcome.problem)
        return False

    def _call(self, name: str, verb: str, text: str) -> _Result | str:
        """Run a helper; return a problem if it is missing or does not end."""
        path = self.locate(name)
        if path is None:
            return "it is not installed"
        return self._run([program_name(name), verb], path, text)

    def _ask(self, name: str, key: str) -> _Outcome:
        result = self._call(name, "get", key)
        if isinstance(result, str):
            return _Outcome(problem=result)
        if result.status:
            return _refusal(result, "get")
        return _answer(result.output)

    def _run(self, arguments: list[str], path: str, key: str) -> _Result | str:
        """Run a program to its end; return a problem if it does not start or end."""
        try:
            process = subprocess.Popen(  # noqa: S603  an argument list, no shell, a checked name
                arguments,
                executable=path,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # a group of its own, to kill it with all it started
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its environment is unusable"
            return f"it cannot be started: {reason}"
        with process:
            try:
                return _exchange(process, key, time.monotonic() + self._timeout)
            except TimeoutError:
                return f"it did not answer within {self._timeout:g} s"
            finally:
                # Kill the process group before waiting, while its PID is still valid.
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def valid_name(name: str) -> bool:
    """Whether `name` is valid for a helper; anything else must not enter a command."""
    return _NAME.fullmatch(name) is not None


def program_name(name: str) -> str:
    """Return the program name of a helper."""
    return f"docker-credential-{name}"


def failure(name: str, verb: str, key: str, problem: str) -> HelperFailed:
    """Return the error for a helper that failed for `key`."""
    program = program_name(name)
    by_hand = _BY_HAND[verb].format(key=shlex.quote(key), program=program)
    return HelperFailed(
        f"the credential helper `{program}` failed for `{key}`: {problem}",
        f"run it by hand to see why: `{by_hand}`; or remove the helper from the configuration",
    )


def may_be_secret(variable: str) -> bool:
    """Whether a variable may contain a secret that other programs must not get.

    See docs/store-and-reliability.md, "Secrets and other programs".
    """
    return variable == "DOCKER_AUTH_CONFIG" or variable.startswith("RESOLVER_")


def _exchange(process: subprocess.Popen[bytes], key: str, deadline: float) -> _Result | str:
    if process.stdin is None:
        raise AssertionError(process.args)
    # A key fits in the pipe, so this never blocks. A helper may ignore it.
    with contextlib.suppress(BrokenPipeError), process.stdin as questions:
        questions.write(octets(key))
    output, stderr_size = _read_output(process, deadline)
    if len(output) > MAX_ANSWER:
        return f"it writes more than {MAX_ANSWER} bytes"
    try:
        status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    return _Result(status, output, stderr_size)


def _read_output(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, int]:
    """Read stdout to its end or just past the limit, and count the bytes of stderr.

    A program left running by the helper may keep stderr open, so reading it stops with the helper.
    """
    if process.stdout is None or process.stderr is None:
        raise AssertionError(process.args)
    received = {process.stdout: bytearray(), process.stderr: bytearray()}
    stderr_size = 0
    with selectors.DefaultSelector() as selector:
        for stream in received:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        while len(received[process.stdout]) <= MAX_ANSWER and selector.get_map():
            is_open = process.stdout in (key.fileobj for key in selector.get_map().values())
            # Checked before reading, so that all output is still read below.
            has_ended = not is_open and process.poll() is not None
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            ready = selector.select(0.0 if has_ended else left if is_open else min(left, _LOOK))
            if has_ended and not ready:
                break
            for stream in [each for each in received if each in {key.fileobj for key, _ in ready}]:
                chunk = stream.read(MAX_ANSWER)
                if chunk == b"":
                    selector.unregister(stream)
                received[stream] += chunk or b""
            stderr_size += len(received[process.stderr])
            received[process.stderr].clear()
    return bytes(received[process.stdout]), stderr_size


def _refusal(result: _Result, verb: str) -> _Outcome:
    """Interpret a failed helper: unknown registry, or a problem."""
    said = result.output.decode("utf-8", "replace").strip()
    if said == NOT_FOUND:
        return _Outcome()
    how = f"signal {-result.status}" if result.status < 0 else f"exit status {result.status}"
    counted = "1 byte" if result.stderr_size == 1 else f"{result.stderr_size} bytes"
    return _Outcome(problem=f"{how} from `{verb}`, {counted} on stderr")


def _answer(output: bytes) -> _Outcome:
    """Parse a helper's output; it contains the secret and is never shown."""
    try:
        document = read_object(output, "a credential helper's answer")
    except (BadDocument, LimitExceeded):
        return _Outcome(problem="its answer is not a JSON object")
    username, secret = document.get("Username", ""), document.get("Secret", "")
    # Other clients accept names in another case; ignoring them would mean "unknown registry".
    other_case = {name.capitalize() for name in document if name not in _MEMBERS} & _MEMBERS
    if other_case or not isinstance(username, str) or not isinstance(secret, str):
        return _Outcome(problem="its answer does not have the strings `Username` and `Secret`")
    if username == TOKEN_USER:
        token = Secret(secret) if secret else None
        return _Outcome(Credential(username, identity_token=token) if token else None)
    if ":" in username:
        return _Outcome(problem="the user name in its answer has a colon")
    if not username and not secret:
        return _Outcome()
    return _Outcome(Credential(username, Secret(secret)))
