"""Exporting: images of the store, handed to whatever runs them."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from resolver.core.oci.descriptor import DOCKER_LIST, DOCKER_MANIFEST
from resolver.core.platforms.select import select
from resolver.core.results.events import Warned
from resolver.core.results.export import Destination, Exported, ExportedImage
from resolver.core.results.pull_events import ignore
from resolver.errors import ExportFault, ToolFailed, ToolMissing, Usage
from resolver.store.files import StoreFolder
from resolver.values import dataclass
from resolver.verbs.export.archive import docker_manifest, write_archive
from resolver.verbs.export.bundle import RemovalRequest, gather, named
from resolver.verbs.export.layout import LayoutOptions, write_layout
from resolver.verbs.export.output import fresh, sweep, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.export import Kind
    from resolver.core.results.pull_events import Observer
    from resolver.store import LocalStore
    from resolver.verbs.export.bundle import ExportBundle


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


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How images are handed over.

    Attributes:
        wish: which of the images of each reference.
        host: what this machine runs: what a name means to a Docker here, if nobody wished.
        epoch: the time of all members of an archive, in seconds since 1970.
        namespace: of containerd; None = as `ctr` itself decides.
        environment: for the tool, and to find it by its `PATH`.
        layout: how a layout is written.
        sink: takes the bytes of an archive that goes to standard output.
        check: called again and again; may raise to give up.

    """

    wish: RemovalRequest = field(default_factory=RemovalRequest)
    host: Platform | None = None
    epoch: int = 0
    namespace: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    sink: Callable[[bytes], object] | None = None
    check: Callable[[], None] = lambda: None


def export(
    references: Sequence[Reference],
    store: LocalStore,
    to: Destination,
    options: ExportOptions | None = None,
    observe: Observer = ignore,
) -> Exported:
    """Hand images over; every byte is verified on its way out.

    A lease keeps them in the store meanwhile. What is at the destination afterwards is all of it,
    or what was there before.

    Args:
        references: that were pulled.
        store: holds them.
        to: a folder, a file, or a tool.
        options: how.
        observe: is told what a person should know; it is in the answer too.

    Raises:
        Usage: it is to go to standard output, and there is no `sink`.
        NotHeld: something was not pulled.
        PlatformNotOffered: an image does not exist for a platform of the wish.
        ExportFault: it cannot be written there.
        ToolMissing, ToolFailed: there is no such tool, or it did not take them.
        Untrusted: what the store holds is not what it should be.
        StoreFault: the store cannot be read.

    """
    options = options or ExportOptions()
    if to.is_stream and options.sink is None:
        raise Usage("`-` is standard output, and nothing takes it here", "name a file: `image.tar`")
    purpose = f"export {' '.join(map(str, references))}"
    if to.kind not in {"layout", "archive"}:
        # Before anything is read: the answer is the same for every image.
        find_tool(command_for(to.kind), options.environment)
    with store.lease((), purpose, needed=False) as lease:
        wish = replace(options.wish, referrers=to.kind == "layout")
        bundle = gather(references, store, wish, lease.add)
        exported = _Export(bundle, store, to, options).run()
    for warning in exported.warnings:
        observe(warning)
    return exported


class _Export:
    """One call of `export`, once it is known what leaves."""

    def __init__(
        self, bundle: ExportBundle, store: LocalStore, to: Destination, options: ExportOptions
    ) -> None:
        self._bundle = bundle
        self._store = store
        self._to = to
        self._options = options
        self._warnings = list(bundle.warnings)

    def run(self) -> Exported:
        """Hand it over."""
        if self._to.kind == "layout":
            return self._to_layout()
        if self._to.kind == "archive":
            return self._to_archive()
        return self._to_tool()

    def _to_layout(self) -> Exported:
        options = self._options
        images, tally = write_layout(
            self._bundle, self._store.root, self._to.path, options.layout, options.check
        )
        return self._answer(
            images, present=tally.present, linked=tally.linked, written=tally.written
        )

    def _to_archive(self) -> Exported:
        images = named(self._bundle.packed, ())
        sink = self._options.sink
        if self._to.is_stream and sink is not None:
            written = self._write(images, sink, self._options.wish.named)
            return self._answer(images, written=written)
        # Through a link, if the user has one there: what it leads to is meant.
        path = os.path.realpath(self._to.path)
        _refuse_odd(path)
        parent, name = os.path.split(path)
        with writing(path):
            folder = StoreFolder(os.open(parent, _FOLDER), parent)
        with folder:
            sweep(folder)
            with fresh(folder) as file:
                written = self._write(images, file.write, self._options.wish.named)
                file.settle(folder, name, sync=self._options.layout.sync)
        return self._answer(images, written=written)

    def _to_tool(self) -> Exported:
        options = self._options
        images = named(self._bundle.packed, ())
        command = command_for(
            self._to.kind,
            namespace=options.namespace,
            host=options.host,
            images=[image.platforms for image in images],
        )
        here = () if options.host is None else (options.host,)
        taken = hand_over(
            command,
            lambda sink: self._write(images, sink, options.wish.named or here),
            options.environment,
        )
        return self._answer(images, written=taken.written, command=command, said=taken.said)

    def _write(
        self,
        images: Sequence[ExportedImage],
        sink: Callable[[bytes], object],
        preferred: Sequence[Platform],
    ) -> int:
        def checked(data: bytes) -> None:
            self._options.check()
            sink(data)

        listed = docker_manifest(self._bundle, preferred, self._warn)
        return write_archive(
            self._bundle, images, self._store, checked, listed=listed, epoch=self._options.epoch
        )

    def _warn(self, warning: Warned) -> None:
        # Docker's view does not matter to who hands over to something else.
        if self._to.kind != "containerd":
            self._warnings.append(warning)

    def _answer(
        self,
        images: tuple[ExportedImage, ...],
        *,
        present: int = 0,
        linked: int = 0,
        written: int = 0,
        command: tuple[str, ...] = (),
        said: str = "",
    ) -> Exported:
        for each, image in zip(self._bundle.packed, images, strict=True):
            if image.short not in {each.tag, ""}:
                self._warnings.append(
                    Warned(
                        "tag-taken",
                        f"`{each.name}` is found there by its full name only: another image has "
                        f"the tag `{each.tag}`",
                    )
                )
            if self._to.path and image.root.media_type in {DOCKER_LIST, DOCKER_MANIFEST}:
                self._warnings.append(
                    Warned(
                        "docker-types",
                        f"`{each.name}` has Docker's media types, which umoci and older versions "
                        "of skopeo do not read from an OCI layout; others would change its digest",
                    )
                )
        return Exported(
            self._to,
            images,
            len(self._bundle.pieces),
            self._bundle.size,
            present=present,
            linked=linked,
            written=written,
            command=command,
            said=said,
            warnings=tuple(self._warnings),
        )


def _refuse_odd(path: str) -> None:
    """Refuse to put an archive where something else than a file is."""
    with writing(path):
        try:
            status = Path(path).lstat()
        except FileNotFoundError:
            return
    if stat.S_ISDIR(status.st_mode):
        raise ExportFault(path, "it is a folder", "name a file in it, or write `oci:` before it")
    if not stat.S_ISREG(status.st_mode):
        raise ExportFault(path, "it is no regular file", "name another place")
