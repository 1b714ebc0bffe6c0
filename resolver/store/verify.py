"""Check and repair a store: every name complete, every file matching its digest."""

from __future__ import annotations

import stat
from dataclasses import field, replace
from typing import TYPE_CHECKING

from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.results.store import Damage, Verified
from resolver.errors import StoreFault
from resolver.store.names import BadName, Records
from resolver.store.reachable import Need, Reach, blob_files
from resolver.values import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.results.pull import PulledName
    from resolver.store.files import StoreFolder
    from resolver.store.folder import Home
    from resolver.store.names import NameRecord

    Repair = Callable[[Descriptor, tuple[str, ...]], bool]


@dataclass(slots=True, eq=False)
class _Wanted:
    """A needed blob, and the names that need it."""

    need: Need
    names: set[str] = field(default_factory=set)

    @property
    def references(self) -> tuple[str, ...]:
        """The names, sorted on demand, since a base image may have thousands."""
        return tuple(sorted(self.names))


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """Result of one scan: number of names, and problems by digest."""

    files: dict[Digest, os.stat_result]
    names: int
    wanted: dict[Digest, _Wanted]
    wrong: dict[Digest, str]


class StoreCheck:
    """One check of a store; nothing is locked, so the store may change meanwhile."""

    def __init__(
        self,
        home: Home,
        put_aside: Callable[[Digest, os.stat_result], None],
        records: tuple[Records[PulledName], Records[NameRecord]],
        *,
        full: bool,
        hashed: Callable[[int, int], object],
    ) -> None:
        self._tell = hashed
        self._home = home
        self._set_aside = put_aside
        self._pulled, self._seen = records
        self._full = full
        self._intact: dict[Digest, tuple[int, float]] = {}
        self._hashed = 0
        self._found: dict[str, Damage] = {}

    def run(self, repair: Repair | None) -> Verified:
        """Scan the store, again after each round of repairs until nothing is left to try."""
        tried: set[Digest] = set()
        while True:
            look = self._look()
            for digest, problem in look.wrong.items():
                self._note(digest, problem, look.wanted)
            self._put_aside(look)
            todo = [d for d in look.wrong if d in look.wanted and d not in tried]
            if repair is None or not todo:
                break
            for digest in todo:
                tried.add(digest)
                want = look.wanted[digest]
                repair(want.need.descriptor, want.references)
        if repair is not None:
            self._settle(look)
        damaged = [*self._found.values(), *self._bad_names(mend=repair is not None)]
        return Verified(
            look.names,
            len(look.files),
            sum(status.st_size for status in look.files.values()),
            self._hashed,
            tuple(sorted(damaged, key=lambda damage: damage.name)),
        )

    def _look(self) -> _Look:
        root = self._home.open_store()
        if root is None:
            return _Look({}, 0, {}, {})
        with root:
            files = blob_files(root)
            wrong = self._problems(root, files)
            names = list(self._names(root))
            # What was pulled meanwhile: its content is older than its name.
            late = {d: status for d, status in blob_files(root).items() if d not in files}
            files |= late
            wrong |= self._problems(root, late)
            good = {digest: status for digest, status in files.items() if digest not in wrong}
            reach = Reach(root, good)
            wanted = self._wanted(reach, names)
        wrong |= dict.fromkeys(reach.unreadable, "unreadable")
        for digest, want in wanted.items():
            if digest not in files and not want.need.is_optional:
                wrong[digest] = "missing"
            elif digest in good and good[digest].st_size != want.need.descriptor.size:
                wrong[digest] = "size"
        return _Look(files, len(names), wanted, wrong)

    def _problems(
        self, root: StoreFolder, files: dict[Digest, os.stat_result]
    ) -> dict[Digest, str]:
        """Return the problems of files, and report progress."""
        total, done = sum(status.st_size for status in files.values()), 0
        wrong = {}
        for digest, status in files.items():
            problem = self._problem(root, digest, status)
            if problem:
                wrong[digest] = problem
            done += status.st_size
            self._tell(done, total)
        return wrong

    def _problem(self, root: StoreFolder, digest: Digest, status: os.stat_result) -> str:
        """Return the problem of a single file; empty if it is intact or gone by now."""
        if not stat.S_ISREG(status.st_mode):
            return "not-a-file"
        if status.st_size > MAX_DOCUMENT and not self._full:
            return ""
        if self._intact.get(digest) == (status.st_ino, status.st_mtime):
            return ""
        with root.need("blobs", digest.algorithm) as folder:
            file = folder.open(digest.hex)
            if file is None:
                return ""
            with file:
                intact = file.examine(digest, 0)[0]
        self._hashed += status.st_size
        if intact:
            self._intact[digest] = (status.st_ino, status.st_mtime)
        return "" if intact else "content"

    def _names(self, root: StoreFolder) -> Iterator[PulledName]:
        for entry in self._pulled.entries_in(root):
            if not isinstance(entry, BadName):
                yield entry

    def _wanted(self, reach: Reach, names: list[PulledName]) -> dict[Digest, _Wanted]:
        wanted: dict[Digest, _Wanted] = {}
        for record in names:
            for digest, need in self._needs(reach, record).items():
                want = wanted.setdefault(digest, _Wanted(need))
                want.names.add(record.reference)
                if want.need.is_optional:
                    want.need = need
        return wanted

    def _needs(self, reach: Reach, record: PulledName) -> dict[Digest, Need]:
        """Walk a name, past unreadable documents."""
        try:
            return reach.of_name(record)
        except StoreFault:
            found = [Need(record.root, "index" if record.root.is_index else "manifest")]
        for image in record.images:
            found += [Need(image.manifest, "manifest"), *reach.as_far_as_known(image.manifest)]
        return {need.descriptor.digest: need for need in found}

    def _note(self, digest: Digest, problem: str, wanted: dict[Digest, _Wanted]) -> None:
        references = wanted[digest].references if digest in wanted else ()
        known = self._found.get(str(digest))
        # Keep the first problem: damaged files are set aside and count as missing afterwards.
        if known is None:
            self._found[str(digest)] = Damage(str(digest), problem, references)
        elif references:
            self._found[str(digest)] = replace(known, references=references)

    def _put_aside(self, look: _Look) -> None:
        for digest, problem in look.wrong.items():
            # Content that matches its digest stays, whatever descriptors state.
            if digest in look.files and problem != "unreadable" and digest not in self._intact:
                self._set_aside(digest, look.files[digest])

    def _settle(self, look: _Look) -> None:
        root = self._home.open_store()
        if root is None:
            return
        with root:
            here = blob_files(root)
        left = {str(digest) for digest in look.wrong if digest in look.wanted or digest in here}
        for name, damage in self._found.items():
            self._found[name] = replace(damage, repaired=name not in left)

    def _bad_names(self, *, mend: bool) -> Iterator[Damage]:
        for records in (self._pulled, self._seen):
            # A list, because the repair changes the folder being read.
            for entry in list(records.entries()):
                if isinstance(entry, BadName):
                    repaired = mend and records.put_aside(entry)
                    yield Damage(entry.path, "bad-name", (), repaired)
