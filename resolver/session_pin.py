"""The verbs of a session that pin the image references in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import Usage
from resolver.wiring import Wiring

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from resolver.core.pinned import Pinned
    from resolver.core.platform import Platform
    from resolver.core.reference import Reference
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked


class PinVerbs(Wiring):
    """Pins references in files to digests."""

    def pin(
        self,
        files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        check: bool = False,
        update: bool = False,
        unpin: bool = False,
        platform: str | Platform | None = None,
        require: Iterable[str | Platform] = (),
    ) -> Pinned:
        """Find out which digests belong into files; nothing is written until `write_pins`.

        References without a digest get the one of the index that their tag points at. Those that
        have one keep it.

        Args:
            files: Dockerfiles, compose files, Kubernetes manifests, …; one or many.
            check: make no edits; with `update`, digests that are out of date are findings too.
            update: look up the tags of pinned references as well, and take their digests over.
            unpin: take digests away where a tag remains. Nobody is asked.
            platform: pin the image of this platform instead of the index.
            require: platforms that each image must be offered for; a finding where one is not.

        Returns:
            Files in the order given, each with its edits. What cannot be read or looked up is a
            failure in its place.

        Raises:
            Malformed: a platform cannot be read, or options exclude each other.

        """
        from resolver.core.pinning.decide import Wishes  # noqa: PLC0415 - for this question alone
        from resolver.flow.pinning import LookUp, pin  # noqa: PLC0415

        if unpin and (check or update or platform is not None):
            raise Usage("`unpin` takes digests away, so nothing can be checked or looked up")
        needed = [self.wish(each) for each in require]
        # Of the platforms of this machine the last: on macOS, what runs in its virtual machine.
        machine = next((each.platforms[-1] for each in needed if each.local), None)
        others = tuple(each.platforms[-1] for each in needed if not each.local)
        wanted = str(self.wish(platform).platforms[0]) if platform is not None else ""
        wishes = Wishes(check, update, unpin, wanted, others, machine)
        look_up = LookUp(self._ask_registry, self.wish, self.table, self.settings.jobs)
        return pin(_paths(files), wishes, look_up)

    def write_pins(self, pinned: Pinned) -> tuple[str, ...]:
        """Write what `pin` found out, each file whole or not at all; give the paths written.

        Raises:
            OutputFault: a file is read-only, or is no longer what it was when it was read. Those
                before it are written.

        """
        from resolver.flow.rewrite import rewrite  # noqa: PLC0415 - for this alone

        changed = [file for file in pinned.files if file.is_changed]
        for file in changed:
            rewrite(file.path, file.text, file.after)
        return tuple(file.path for file in changed)

    def _ask_registry(self, reference: Reference) -> tuple[Reader, Asked]:
        target = self._target(reference)
        reader, _warned = self._reader(target)
        return reader, self._ask(reader, target)


def _paths(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> tuple[str, ...]:
    import os  # noqa: PLC0415 - for this question alone

    several = (files,) if isinstance(files, str | os.PathLike) else tuple(files)
    return tuple(os.fspath(file) for file in several)
