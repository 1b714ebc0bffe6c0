"""Export images of the store to a folder, an archive or a container tool."""

from __future__ import annotations

import os
import shlex
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
from resolver.core.results.events import Noted, Warned, ignore
from resolver.core.results.export import Destination, Exported, ExportedImage
from resolver.errors import ExportFault, ToolFailed, ToolMissing, Usage
from resolver.sources.local.docker_engine import find_program, program_environment
from resolver.store.files import StoreFolder
from resolver.values import dataclass
from resolver.verbs.export.archive import docker_manifest, write_archive
from resolver.verbs.export.bundle import ExportSelection, gather, named
from resolver.verbs.export.layout import LayoutOptions, write_layout
from resolver.verbs.output_files import fresh, sweep, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Observer
    from resolver.core.results.export import Kind
    from resolver.store import LocalStore
    from resolver.verbs.export.bundle import ExportBundle


#: Bytes kept from the end of a tool's output.
_TAIL = 4096


def command_for(
    kind: Kind,
    *,
    namespace: str | None = None,
    host: Platform | None = None,
    images: Sequence[Sequence[Platform | None]] = (),
) -> tuple[str, ...]:
    """Return the command that loads images from its standard input.

    `namespace` is containerd's; None for the default of `ctr`.

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
    """Find the program of a command.

    Raises:
        ToolMissing: it is not on `PATH`.
    """
    found = find_program(command[0], environment)
    if found is None:
        raise ToolMissing(command[0], shlex.join(command))
    return found


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes that a tool read, and its output about them."""

    written: int
    said: str


def hand_over(
    command: Sequence[str],
    write: Callable[[Callable[[bytes], object]], int],
    environment: Mapping[str, str],
) -> Taken:
    """Run a tool, and write into its standard input.

    If writing fails, the tool is killed, so that it cannot load a truncated archive.
    """
    program = find_tool(command, environment)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        process = _start(command, program, environment, (said, complained))
        try:
            written = _feed(process, write)
            status = process.wait()
        finally:
            if process.poll() is None:
                _kill(process)
            process.wait()
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
    try:
        return subprocess.Popen(  # noqa: S603 - an argument list, no shell
            list(command),
            executable=program,
            env=program_environment(environment),
            stdin=subprocess.PIPE,
            stdout=outputs[0],
            stderr=outputs[1],
            bufsize=0,
            start_new_session=True,  # a group of its own, to kill it with all it started
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its environment is unusable"
        raise ToolFailed(shlex.join(command), 0, f"it cannot be started: {reason}") from error


def _feed(
    process: subprocess.Popen[bytes], write: Callable[[Callable[[bytes], object]], int]
) -> int | None:
    """Write everything; return None if the tool closed its input early."""
    pipe = process.stdin
    if pipe is None:
        return None

    def put(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            # Unbuffered: a write may be partial.
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


def _tail(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    return file.read(_TAIL).decode("utf-8", "replace").strip()


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        host: platform of this machine, the default platform of its Docker engine.
        epoch: the time of all members of an archive, in seconds since 1970.
        namespace: of containerd; None for the default of `ctr`.
        load: send an engine the whole archive, instead of what it lacks.
        check: called regularly; may raise to cancel.
    """

    selection: ExportSelection = field(default_factory=ExportSelection)
    host: Platform | None = None
    epoch: int = 0
    namespace: str | None = None
    load: bool = False
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
    """Export images; every byte is verified as it is written.

    A lease protects them in the store meanwhile. The destination gets all of the export or stays as
    it was.
    """
    options = options or ExportOptions()
    if to.is_stream and options.sink is None:
        raise Usage("`-` is standard output, which cannot be used here", "name a file: `image.tar`")
    purpose = f"export {' '.join(map(str, references))}"
    if to.kind not in {"layout", "archive"}:
        # Before anything is read: the answer is the same for every image.
        find_tool(command_for(to.kind), options.environment)
    with store.lease((), purpose, needed=False) as lease:
        request = replace(options.selection, referrers=to.kind == "layout")
        bundle = gather(references, store, request, lease.add)
        exported = _Export(bundle, store, to, options, observe).run()
    for warning in exported.warnings:
        observe(warning)
    return exported


class _Export:
    """One call of `export`, once it is known what leaves."""

    def __init__(
        self,
        bundle: ExportBundle,
        store: LocalStore,
        to: Destination,
        options: ExportOptions,
        observe: Observer,
    ) -> None:
        self._bundle = bundle
        self._store = store
        self._to = to
        self._options = options
        self._observe = observe
        self._warnings = list(bundle.warnings)

    def run(self) -> Exported:
        """Write to the destination."""
        if self._to.kind == "layout":
            return self._to_layout()
        if self._to.kind == "archive":
            return self._to_archive()
        return (None if self._options.load else self._to_engine()) or self._to_tool()

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
            written = self._write(images, sink, self._options.selection.named)
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
                written = self._write(images, file.write, self._options.selection.named)
                file.settle(folder, name, sync=self._options.layout.sync)
        return self._answer(images, written=written)

    def _to_engine(self) -> Exported | None:
        """Let an engine fetch what it lacks; None if it cannot, and needs the whole archive."""
        from resolver.verbs.export import engines  # noqa: PLC0415 - for engines, and not with `load`

        options, kind, bundle = self._options, self._to.kind, self._bundle
        address = engines.remote_engine(kind, options.environment)
        if address:
            self._note(f"the engine at `{address}` is not on this machine")
            return None
        if kind == "containerd" and not all(
            i.is_whole for each in bundle.packed for i in each.images
        ):
            self._note("layers that were not pulled cannot be fetched from here")
            return None
        here = () if options.host is None else (options.host,)
        handed = engines.to_hand_over(kind, bundle, options.selection.named or here)
        taken = {each.packed.name for each in handed}
        skipped = [each.name for each in bundle.packed if each.name not in taken]
        if not handed:
            reason = f"`{skipped[0]}` is not an image, or layers of it were not pulled"
            raise ExportFault(kind, reason, "export to a folder: `--to ./layout`")
        if kind != "containerd":
            # Nothing of the index is handed over.
            self._warnings = [each for each in self._warnings if each.code != "digest-new"]
        self._warnings += [
            Warned("docker-none", f"`{name}` is not an image, or layers of it were not pulled")
            for name in skipped
        ]
        done = engines.hand_over_missing(
            kind,
            handed,
            bundle,
            self._store,
            lambda command: hand_over(command, lambda _sink: 0, options.environment).said,
            host=options.host,
            namespace=options.namespace,
        )
        if isinstance(done, ToolFailed):
            self._note("the engine cannot reach this process on loopback")
            return None
        pieces = engines.pieces_of(handed, bundle)
        size = sum(piece.size for piece in pieces.values())
        written = sum(piece.size for piece in done.fetched)
        return Exported(
            self._to,
            tuple(map(engines.exported_image, handed)),
            len(pieces),
            size,
            present=max(0, size - written),
            written=written,
            command=done.command,
            warnings=tuple(self._warnings),
        )

    def _note(self, reason: str) -> None:
        self._observe(Noted(f"{reason}, so the whole archive is sent to `{self._to}` (`--load`)"))

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
            lambda sink: self._write(images, sink, options.selection.named or here),
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
        # Warnings about Docker do not matter for other destinations.
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
        raise ExportFault(path, "it is not a regular file", "name another place")
