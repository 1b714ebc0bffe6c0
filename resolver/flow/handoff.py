"""Handing images to a tool of this machine: the archive goes into its standard input."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from resolver.core.select import select
from resolver.errors import ToolFailed, ToolMissing
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.core.exported import Kind
    from resolver.core.platform import Platform

#: Bytes of what a tool says that are kept, from the end.
_TAIL = 4096


def command_for(
    kind: Kind,
    *,
    namespace: str | None = None,
    host: Platform | None = None,
    images: Sequence[Sequence[Platform | None]] = (),
) -> tuple[str, ...]:
    """Say how a tool is told to take images from its standard input.

    Args:
        kind: a tool.
        namespace: of containerd; None = as `ctr` itself decides.
        host: what this machine runs; None = nobody knows.
        images: the platforms of each. `ctr` drops those that do not run here, and fails to unpack
            an image where nothing is left, unless it is told otherwise.

    Source: containerd v1.6.20, cmd/ctr/commands/images/import.go; the same flags in v2.
    """
    if kind == "docker":
        return ("docker", "load")
    if kind == "podman":
        return ("podman", "load")
    named = () if namespace is None else ("--namespace", namespace)
    runs = [host is None or select(each, host).index is not None for each in images]
    more = ("--all-platforms",) if not all(runs) or any(len(e) > 1 for e in images) else ()
    packed = () if all(runs) else ("--no-unpack",)
    return ("ctr", *named, "images", "import", *more, *packed, "-")


def find_tool(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Find the program of a command; only absolute entries of `PATH` count (R27).

    Raises:
        ToolMissing: it is not installed.

    """
    folders = [
        each for each in environment.get("PATH", "").split(os.pathsep) if each.startswith("/")
    ]
    found = shutil.which(command[0], path=os.pathsep.join(folders))
    if found is None:
        raise ToolMissing(command[0], shlex.join(command))
    return found


@dataclass(frozen=True, slots=True)
class Taken:
    """What a tool took: bytes, and what it said about them."""

    written: int
    said: str


def hand_over(
    command: Sequence[str],
    write: Callable[[Callable[[bytes], object]], int],
    environment: Mapping[str, str],
) -> Taken:
    """Run a tool, and write into its standard input.

    If writing fails, the tool is killed before it can take half an archive for a whole one.

    Args:
        command: as `command_for` gives it.
        write: is given what takes bytes; gives how many there were.
        environment: the tool's, without what may be a secret of ours.

    Raises:
        ToolMissing: it is not installed.
        ToolFailed: it did not take them.

    """
    program = find_tool(command, environment)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        process = _start(command, program, environment, (said, complained))
        try:
            written = _feed(process, write)
            status = process.wait()
        finally:
            _end(process)
        if status or written is None:
            detail = _tail(complained) or _tail(said)
            raise ToolFailed(shlex.join(command), status, detail)
        return Taken(written, _tail(said))


def _start(
    command: Sequence[str],
    program: str,
    environment: Mapping[str, str],
    outputs: tuple[IO[bytes], IO[bytes]],
) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in environment.items() if not _is_ours(name)}
    try:
        return subprocess.Popen(  # noqa: S603 - an argument list, no shell
            list(command),
            executable=program,
            env=kept,
            stdin=subprocess.PIPE,
            stdout=outputs[0],
            stderr=outputs[1],
            bufsize=0,
            start_new_session=True,  # a group of its own, to kill it with all it started
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its environment is unusable"
        raise ToolFailed(shlex.join(command), 0, f"it cannot be started: {reason}") from error


def _is_ours(variable: str) -> bool:
    """Say whether a variable may hold a secret of ours that is no business of a tool's (R26)."""
    return variable == "DOCKER_AUTH_CONFIG" or variable.startswith("RESOLVER_")


def _feed(
    process: subprocess.Popen[bytes], write: Callable[[Callable[[bytes], object]], int]
) -> int | None:
    """Write all there is; None if the tool did not want all of it."""
    pipe = process.stdin
    if pipe is None:
        return None

    def put(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            # Unbuffered: it may take less than it is given.
            rest = rest[pipe.write(rest) or 0 :]

    try:
        written = write(put)
        pipe.close()
    except BrokenPipeError:
        with suppress(OSError):
            pipe.close()
        return None
    except BaseException:
        # Killed while its input is still open: it must not see an end.
        _kill(process)
        with suppress(OSError):
            pipe.close()
        raise
    return written


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that nothing of the tool lives on."""
    if process.poll() is None:
        _kill(process)
    process.wait()


def _tail(file: IO[bytes]) -> str:
    """Read the end of what a tool said."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    return file.read(_TAIL).decode("utf-8", "replace").strip()
