"""Exporting: images of the store, handed to whatever runs them."""

from __future__ import annotations

import os
import stat
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.descriptor import DOCKER_LIST, DOCKER_MANIFEST
from resolver.core.events import Warned, ignore
from resolver.core.exported import Destination, Exported, ExportedImage
from resolver.errors import ExportFault, Usage
from resolver.flow.archive import docker_manifest, write_archive
from resolver.flow.bundle import Wish
from resolver.flow.handoff import command_for, find_tool, hand_over
from resolver.flow.layout_folder import LayoutOptions, write_layout
from resolver.flow.naming import named
from resolver.flow.outputs import fresh, sweep, writing
from resolver.flow.packing import gather
from resolver.store.files import Folder
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.core.events import Observer
    from resolver.core.platform import Platform
    from resolver.core.reference import Reference
    from resolver.flow.bundle import Bundle
    from resolver.store import LocalStore

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

    wish: Wish = field(default_factory=Wish)
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
        self, bundle: Bundle, store: LocalStore, to: Destination, options: ExportOptions
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
            folder = Folder(os.open(parent, _FOLDER), parent)
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
