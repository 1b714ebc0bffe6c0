"""Looking into layers: what machine the programs of an image are made for, in few bytes.

The top layer is looked at first, and the start of each; what is not found there is searched for
further down, in all layers alike, until it turns up or the allowance is spent. A file that comes
later in a layer above, of which only the start was read, could still replace what was found: the
answer is what is in the layer that it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.lint.command import (
    WINDOWS_ROOT,
    Command,
    LayerNames,
    NameHit,
    commands_of,
    find,
    interpreter_of,
    places_of,
)
from resolver.core.lint.programs import fits
from resolver.core.lint.subject import Look, Program, SearchOutcome, StartedProgram
from resolver.errors import DigestMismatch
from resolver.values import dataclass
from resolver.verbs.lint_layers import FIRST, ByteBudget, LayerScan
from resolver.verbs.threads import each

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from resolver.core.layers.executable import Executable
    from resolver.core.oci.config import ImageConfig
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.image import ImageEntry
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.errors import ResolverError

    OpenBytes = Callable[[Descriptor], Generator[bytes, None, None]]


#: The top ones are looked at; no engine takes so many. Source: moby, layer.maxLayerDepth (125).
_MAX_LAYERS = 250
#: Scripts that start scripts. Source: Linux, fs/exec.c, exec_binprm (5 interpreters).
_MAX_SCRIPTS = 5


@dataclass(frozen=True, slots=True)
class Depths:
    """How far to look.

    Attributes:
        most: bytes of layers, as they are stored, for each image; the last stretch may go past it.
        jobs: images at once.
    """

    most: int
    jobs: int


def look_into(
    parts: Sequence[ImageEntry], open_bytes: OpenBytes, table: PlatformTable, depths: Depths
) -> tuple[Look, ...]:
    """Look into the layers of every image that has a manifest, a config and a platform.

    Images that share a layer are checked in sequence, and the layer is read once.

    Raises:
        Denied, Unavailable, Offline, StoreFault: a layer could not be requested.
    """
    ready = [part for part in parts if part.manifest and part.config and part.platform]

    def look(group: list[ImageEntry]) -> list[Look]:
        scans: dict[Digest, LayerScan] = {}
        try:
            return [_Search(part, scans, open_bytes, table, depths.most).run() for part in group]
        finally:
            for scan in scans.values():
                scan.close()

    found: dict[int, Look] = {}
    for outcome in each(look, _sharing(ready), jobs=depths.jobs):
        if isinstance(outcome.value, Exception):
            raise outcome.value
        found.update({id(one.part): one for one in outcome.value})
    return tuple(found[id(part)] for part in ready)


def _sharing(parts: Sequence[ImageEntry]) -> list[list[ImageEntry]]:
    """Put images that share a layer, directly or through others, into one group."""
    groups: list[tuple[set[Digest], list[ImageEntry]]] = []
    for part in parts:
        layers = {layer.digest for layer in part.manifest.layers} if part.manifest else set()
        members = [part]
        apart = []
        for group in groups:
            if group[0] & layers:
                layers |= group[0]
                members = [*group[1], *members]
            else:
                apart.append(group)
        groups = [*apart, (layers, members)]
    order = {id(part): number for number, part in enumerate(parts)}
    return [sorted(members, key=lambda part: order[id(part)]) for _layers, members in groups]


class _Search:
    """One image, and how far its layers were read."""

    def __init__(
        self,
        part: ImageEntry,
        scans: dict[Digest, LayerScan],
        open_bytes: OpenBytes,
        table: PlatformTable,
        most: int,
    ) -> None:
        self._part = part
        self._table = table
        self._config: ImageConfig = part.config  # type: ignore[assignment]  # checked by `look_into`
        self._platform: Platform = part.platform.normalized(table)  # type: ignore[union-attr]  # likewise
        self._allowance = ByteBudget(most)
        layers = part.manifest.layers if part.manifest is not None else ()
        self._is_cut = len(layers) > _MAX_LAYERS
        self._scans: list[LayerScan] = []
        for layer in reversed(layers[-_MAX_LAYERS:]):
            scan = scans.get(layer.digest)
            if scan is None:
                scan = scans[layer.digest] = LayerScan(layer, open_bytes)
                scan.is_over = not _is_readable(layer)
            self._scans.append(scan)
        self._looked_at: list[LayerScan] = []
        self._commands = list(commands_of(self._config, windows=self._is_windows))

    @property
    def _is_windows(self) -> bool:
        return self._platform.os == "windows"

    def run(self) -> Look:
        """Look at the start of each layer, then for what was not found there."""
        missed = self._missed()
        for scan in self._scans:
            scan.probe(self._allowance)
            self._looked_at.append(scan)
            names = self._names(scan).entries
            if any(name in names for name in missed):
                if self._lies():
                    break
                missed = self._missed()
        else:
            self._search()
        return Look(
            part=self._part,
            started=tuple(self._started()),
            sample=tuple(
                dict.fromkeys(
                    self._program(self._key(path), executable, scan)
                    for number, scan in enumerate(self._looked_at)
                    for path, executable in scan.sample
                    if not self._is_gone(self._key(path), number)
                )
            ),
            failures=tuple(dict(self._failures()).items()),
            bytes_read=self._allowance.used,
        )

    def _search(self) -> None:
        """Read all layers further, a stretch each, until everything was found."""
        reach = 2 * FIRST
        known: set[tuple[int, str]] = set()
        while any(not scan.is_over for scan in self._scans):
            missed = self._missed()
            if not missed:
                return
            for number, scan in enumerate(self._scans):
                while scan.has_next or (not scan.is_over and scan.read < reach):
                    name = self._key(scan.next(self._allowance))
                    # An archive may repeat a name for ever.
                    if name not in missed or (number, name) in known:
                        continue
                    known.add((number, name))
                    missed = self._missed()
                    if not missed or self._lies():
                        return
            reach *= 2

    def _missed(self) -> frozenset[str]:
        """List the names that would help; none when everything was found."""
        missed: set[str] = set()
        for _command, hit in self._hits():
            if hit.entry is None:
                missed |= hit.missed
        return frozenset(missed)

    def _key(self, name: str | None) -> str:
        """Spell a layer's name as it is looked for."""
        if name is None or not self._is_windows:
            return name or ""
        return name.lower().removeprefix(WINDOWS_ROOT)

    def _lies(self) -> bool:
        """Whether a program that is started cannot run; then nothing more needs reading."""
        return any(
            hit.entry is not None
            and hit.entry.executable is not None
            and not fits(hit.entry.executable, self._platform, self._table)
            for _command, hit in self._hits()
        )

    def _hits(self) -> Iterator[tuple[Command, NameHit]]:
        """Find what is started, and the interpreters of what is a script."""
        for command in self._commands:
            for _ in range(_MAX_SCRIPTS):
                hit = self._find(command)
                yield command, hit
                if hit.entry is None or not hit.entry.interpreter:
                    break
                word = interpreter_of(hit.entry.interpreter)
                places = places_of(self._config, word, windows=self._is_windows)
                command = Command(word, places, command.is_certain)  # noqa: PLW2901 - its interpreter

    def _find(self, command: Command) -> NameHit:
        # What another image had read of a layer further down is not looked at before its turn.
        layers = [self._names(scan) for scan in self._looked_at]
        missed: set[str] = set()
        for place in command.places:
            hit = find(layers, place)
            if hit.entry is not None:
                return hit
            missed |= hit.missed
        return NameHit("", 0, None, frozenset(missed))

    def _is_gone(self, path: str, number: int) -> bool:
        """Whether a layer above replaces or deletes a file, as far as it was read."""
        above = [self._names(scan) for scan in self._looked_at[:number]]
        return any(path in names.entries or names.hides(path) for names in above)

    def _names(self, scan: LayerScan) -> LayerNames:
        return scan.view.windows if self._is_windows else scan.view.unix

    def _started(self) -> Iterator[StartedProgram]:
        for command, hit in self._hits():
            program = None
            if hit.entry is None:
                # What was not looked at for this image, another one may have read to its end.
                unread = self._is_cut or len(self._looked_at) < len(self._scans)
                unread = unread or any(scan.diff_id is None for scan in self._scans)
                outcome = SearchOutcome.UNDECIDED if unread else SearchOutcome.NOT_THERE
            elif hit.entry.executable is not None:
                outcome = SearchOutcome.FOUND
                scan = self._scans[hit.layer]
                program = self._program(hit.path, hit.entry.executable, scan)
            elif hit.entry.interpreter:
                continue
            else:
                outcome = SearchOutcome.NO_PROGRAM
            yield StartedProgram(command.words, outcome, program, command.is_certain)

    def _program(self, path: str, executable: Executable, scan: LayerScan) -> Program:
        return Program(path, executable, scan.descriptor.digest, self._is_verified(scan))

    def _is_verified(self, scan: LayerScan) -> bool:
        return scan.diff_id is not None and self._stated(scan) == scan.diff_id

    def _stated(self, scan: LayerScan) -> Digest | None:
        """Return the diff_id of a layer from the config."""
        layers = self._part.manifest.layers if self._part.manifest is not None else ()
        pairs = zip(layers, self._config.diff_ids, strict=False)
        return next(
            (diff_id for layer, diff_id in pairs if layer.digest == scan.descriptor.digest), None
        )

    def _failures(self) -> Iterator[tuple[Digest, ResolverError]]:
        for scan in self._looked_at:
            if scan.failure is not None:
                yield scan.descriptor.digest, scan.failure
                continue
            stated, actual = self._stated(scan), scan.diff_id
            if stated and actual and stated != actual and stated.algorithm == actual.algorithm:
                what = f"the layer `{scan.descriptor.digest}`, uncompressed,"
                yield scan.descriptor.digest, DigestMismatch(what, str(stated), str(actual))


def _is_readable(layer: Descriptor) -> bool:
    """Whether a layer is a tar archive meant for the file system; others stay opaque."""
    kind = layer.media_type
    return "tar" in kind and not kind.endswith("+encrypted") and not layer.urls
