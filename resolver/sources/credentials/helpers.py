"""Ask `docker-credential-*` programs, the way Docker does, and trust them with little.

Rules: reliability.md R26 and R27, protocol.md 12.4. A helper gets the registry's key on stdin and
nothing else; it is killed, with everything it started, when it takes too long or says too much.
Nothing that it writes is ever shown, on stdout or stderr: either may hold a secret.

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
import threading
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from resolver.core.parse.json import read_object
from resolver.errors import BadDocument, HelperFailed, LimitExceeded
from resolver.sources.credentials.secrets import Credential, Secret, octets
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

MAX_ANSWER: Final = 65_536
"""Bytes a helper may write to stdout."""
TIMEOUT: Final = 30.0
"""Seconds a helper may take; the ones of the clouds are slow."""
NOT_FOUND: Final = "credentials not found in native keychain"
"""What a helper says when it knows nothing of a registry."""
TOKEN_USER: Final = "<token>"  # noqa: S105  the protocol's user name for "this is a token"

_MEMBERS: Final = frozenset({"Username", "Secret"})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
#: Seconds between looks at a helper that has closed its stdout and not ended yet.
_LOOK: Final = 0.02
#: How to run each verb by hand; what a helper wrote is never shown (R27), so this shows it.
_BY_HAND: Final = {
    "get": "echo {key} | {program} get",
    "erase": "echo {key} | {program} erase",
    "store": (
        """echo '{{"ServerURL":"{key}","Username":"USER","Secret":"SECRET"}}' """
        "| {program} store"
    ),
}

Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """Makes one value per key, however many threads ask at the same time."""

    __slots__ = ("_cells", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cells: dict[Key, tuple[threading.Lock, list[Value]]] = {}

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Give the value of `key`, made now if nobody did; a failure is not kept."""
        with self._lock:
            lock, values = self._cells.setdefault(key, (threading.Lock(), []))
        with lock:
            if not values:
                values.append(make())
            return values[0]

    def forget(self, key: Key, stale: Callable[[Value], bool]) -> None:
        """Drop the value of `key` if it is a stale one; it is made again when asked for."""
        with self._lock:
            lock, values = self._cells.get(key, (threading.Lock(), []))
        with lock:
            if values and stale(values[0]):
                values.clear()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of asking a helper once: a credential, none, or a complaint."""

    credential: Credential | None = None
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A helper that ended by itself in time.

    Attributes:
        output: what it wrote to stdout; never shown.
        complained: bytes that it wrote to stderr; they are counted and dropped.
    """

    status: int
    output: bytes
    complained: int


class Helpers:
    """The credential helpers of one environment, each asked once per key.

    Args:
        environment: where `PATH` is taken from; given to helpers without what may be secret.
        timeout: seconds a helper may take.
    """

    __slots__ = ("_environment", "_outcomes", "_path", "_timeout")

    def __init__(self, environment: Mapping[str, str], timeout: float = TIMEOUT) -> None:
        self._environment = {
            name: value for name, value in environment.items() if not _may_be_secret(name)
        }
        self._path = environment.get("PATH", "")
        self._timeout = timeout
        self._outcomes: Once[tuple[str, str], _Outcome] = Once()

    def locate(self, name: str) -> str | None:
        """Give the path of a helper's program; None when it is not installed.

        Only absolute entries of `PATH` count: an empty one or `.` would run a file of whatever
        directory the user stands in.
        """
        folders = [folder for folder in self._path.split(os.pathsep) if folder.startswith("/")]
        return shutil.which(program_name(name), path=os.pathsep.join(folders))

    def ask(self, name: str, key: str) -> Credential | None:
        """Ask a helper for a registry; None when it knows none. `name` must be a `valid_name`.

        Raises:
            HelperFailed: it is not installed, is broken, takes too long or says nonsense.
        """
        outcome = self._outcomes.get((name, key), lambda: self._ask(name, key))
        if outcome.complaint:
            raise failure(name, "get", key, outcome.complaint)
        return outcome.credential

    def forget(self, name: str, key: str, refused: Credential) -> None:
        """Have a helper asked again, if its last answer is the one that was refused."""
        self._outcomes.forget((name, key), lambda outcome: outcome.credential is refused)

    def store(self, name: str, key: str, username: str, secret: Secret) -> None:
        """Have a helper keep a credential. `name` must be a `valid_name`.

        Raises:
            HelperFailed: it is not installed, is broken, or takes too long.
        """
        said = {"ServerURL": key, "Username": username, "Secret": secret.reveal()}
        self._tell(name, "store", key, json.dumps(said))

    def erase(self, name: str, key: str) -> bool:
        """Have a helper forget a registry; False when it knew nothing of it.

        Raises:
            HelperFailed: it is not installed, is broken, or takes too long.
        """
        return self._tell(name, "erase", key, key)

    def _tell(self, name: str, verb: str, key: str, text: str) -> bool:
        """Tell a helper to do something; what it says goes nowhere."""
        ended = self._call(name, verb, text)
        if isinstance(ended, _Ended) and not ended.status:
            return True
        outcome = _Outcome(complaint=ended) if isinstance(ended, str) else _refusal(ended, verb)
        if outcome.complaint:
            raise failure(name, verb, key, outcome.complaint)
        return False

    def _call(self, name: str, verb: str, text: str) -> _Ended | str:
        """Run a helper if there is one; give a complaint when that does not come to an end."""
        path = self.locate(name)
        if path is None:
            return "it is not installed"
        return self._run([program_name(name), verb], path, text)

    def _ask(self, name: str, key: str) -> _Outcome:
        """Run a helper and understand what it says."""
        ended = self._call(name, "get", key)
        if isinstance(ended, str):
            return _Outcome(complaint=ended)
        if ended.status:
            return _refusal(ended, "get")
        return _answer(ended.output)

    def _run(self, arguments: list[str], path: str, key: str) -> _Ended | str:
        """Run a program to its end; give a complaint when it does not come to a good one."""
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
                return _converse(process, key, time.monotonic() + self._timeout)
            except TimeoutError:
                return f"it did not answer within {self._timeout:g} s"
            finally:
                _end(process)


def valid_name(name: str) -> bool:
    """Say whether `name` can be a helper's; anything else must not come near a command."""
    return _NAME.fullmatch(name) is not None


def program_name(name: str) -> str:
    """Give the program that is the helper `name`."""
    return f"docker-credential-{name}"


def failure(name: str, verb: str, key: str, complaint: str) -> HelperFailed:
    """Make the error for a helper that did not do its work for `key`."""
    program = program_name(name)
    by_hand = _BY_HAND[verb].format(key=shlex.quote(key), program=program)
    return HelperFailed(
        f"the credential helper `{program}` failed for `{key}`: {complaint}",
        f"run it by hand to see why: `{by_hand}`; or remove the helper from the configuration",
    )


def _may_be_secret(variable: str) -> bool:
    """Say whether a variable of ours may hold a secret that is no business of a helper's."""
    return variable == "DOCKER_AUTH_CONFIG" or variable.startswith("RESOLVER_")


def _converse(process: subprocess.Popen[bytes], key: str, deadline: float) -> _Ended | str:
    """Say the key, hear the answer out, wait for the end.

    Raises:
        TimeoutError: the deadline, in seconds of the monotonic clock, passed.
    """
    if process.stdin is None:
        raise AssertionError(process.args)
    # A key is far smaller than a pipe, so this never waits. A helper need not read it.
    with contextlib.suppress(BrokenPipeError), process.stdin as questions:
        questions.write(octets(key))
    output, complained = _hear(process, deadline)
    if len(output) > MAX_ANSWER:
        return f"it says more than {MAX_ANSWER} bytes"
    try:
        status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    return _Ended(status, output, complained)


def _hear(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, int]:
    """Read stdout to the end, or to just past the limit, and count what comes on stderr.

    A program that the helper leaves running may keep stderr open, so that ends with the helper.

    Raises:
        TimeoutError: the deadline passed.
    """
    if process.stdout is None or process.stderr is None:
        raise AssertionError(process.args)
    heard = {process.stdout: bytearray(), process.stderr: bytearray()}
    complained = 0
    with selectors.DefaultSelector() as selector:
        for stream in heard:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        while len(heard[process.stdout]) <= MAX_ANSWER and selector.get_map():
            is_open = process.stdout in (key.fileobj for key in selector.get_map().values())
            # Before reading: what was written by the end is then still read below.
            has_ended = not is_open and process.poll() is not None
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            ready = selector.select(0.0 if has_ended else left if is_open else min(left, _LOOK))
            if has_ended and not ready:
                break
            for stream in [each for each in heard if each in {key.fileobj for key, _ in ready}]:
                chunk = stream.read(MAX_ANSWER)
                if chunk == b"":
                    selector.unregister(stream)
                heard[stream] += chunk or b""
            complained += len(heard[process.stderr])
            heard[process.stderr].clear()
    return bytes(heard[process.stdout]), complained


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what still runs. Before it is waited for: until then its number is its own."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _refusal(ended: _Ended, verb: str) -> _Outcome:
    """Understand a helper that ended with a failure: it has nothing, or it is broken."""
    said = ended.output.decode("utf-8", "replace").strip()
    if said == NOT_FOUND:
        return _Outcome()
    how = f"signal {-ended.status}" if ended.status < 0 else f"exit status {ended.status}"
    counted = "1 byte" if ended.complained == 1 else f"{ended.complained} bytes"
    return _Outcome(complaint=f"{how} from `{verb}`, {counted} on stderr")


def _answer(output: bytes) -> _Outcome:
    """Understand a helper's answer; its text, which holds the secret, is never shown."""
    try:
        document = read_object(output, "a credential helper's answer")
    except (BadDocument, LimitExceeded):
        return _Outcome(complaint="its answer is not a JSON object")
    username, secret = document.get("Username", ""), document.get("Secret", "")
    # A name in other letters would be read by other clients; here it would mean "nothing found".
    other_case = {name.capitalize() for name in document if name not in _MEMBERS} & _MEMBERS
    if other_case or not isinstance(username, str) or not isinstance(secret, str):
        return _Outcome(complaint="its answer is not a pair of texts, `Username` and `Secret`")
    if username == TOKEN_USER:
        token = Secret(secret) if secret else None
        return _Outcome(Credential(username, identity_token=token) if token else None)
    if ":" in username:
        return _Outcome(complaint="the user name in its answer has a colon")
    if not username and not secret:
        return _Outcome()
    return _Outcome(Credential(username, Secret(secret)))
