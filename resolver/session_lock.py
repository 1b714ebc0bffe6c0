"""The verbs of a session that write down what references mean, and hold them to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.core.platform import Platform
from resolver.core.reference import Reference
from resolver.core.target import RegistryTarget
from resolver.errors import InvalidReference, NotLocked, ResolverError, Usage
from resolver.settings import LOCK_FILE
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from resolver.core.answer import Resolution
    from resolver.core.events import Warned
    from resolver.core.lock import Lock, Locked, LockedImage
    from resolver.core.lock_check import Drift, LockCheck
    from resolver.core.lock_entries import Entry
    from resolver.core.locked import Wanted as Wish
    from resolver.flow.reader import Reader
    from resolver.wiring import Wanted


class LockVerbs(Wiring):
    """Records what references mean; says what has moved since; answers from the record."""

    def lock(
        self,
        references: Iterable[str | Reference] = (),
        platforms: Sequence[Wanted] = (),
        *,
        update: Iterable[str] | None = None,
        file: str | Path = LOCK_FILE,
    ) -> Locked:
        """Record what references mean now, in a lock file; other references in it stay.

        One request for each reference, and two more for an image without an index. Nothing is
        written unless every reference could be looked up.

        Args:
            references: of registries.
            platforms: to keep to; by default what the lock keeps to already, else all that an
                image is offered for, which is what `all` says.
            update: names of references that are in the lock already and are to be looked up
                again; empty for all of them. A name without a tag means all tags.
            file: the lock file; it need not exist yet.

        Raises:
            Malformed: a reference, a platform or the lock file cannot be read; nobody was asked.
            LockUnwritten: the lock file cannot be written.
            ResolverError: why the only reference could not be looked up; of several, see
                `Locked.failures`.

        """
        from resolver.core.lock import Lock, Locked, change_of  # noqa: PLC0415 - for this alone
        from resolver.flow import lock_file  # noqa: PLC0415
        from resolver.flow.batch import each  # noqa: PLC0415

        path = str(file)
        lock_file.refuse_yaml(path)
        known = lock_file.load_if_any(path) or Lock()
        held = {image.reference: image for image in known.images}
        asked = {
            str(target): (str(written), target) for written, target in self._lockable(references)
        }
        wishes = self._wishes(platforms)
        if update is not None:
            for image in self._named(known, tuple(update), path):
                asked.setdefault(
                    image.reference,
                    (image.written, RegistryTarget(Reference.parse(image.reference))),
                )
        if not asked:
            raise Usage("there is nothing to lock", "name it: `resolver lock ubuntu:24.04`")

        def look(item: tuple[str, RegistryTarget]) -> tuple[LockedImage, tuple[Warned, ...]]:
            before = held.get(str(item[1]))
            kept = _only(before) if before is not None and not platforms else wishes
            return self._recorded(item[1], item[0], kept)

        images: list[LockedImage] = []
        failures: list[Failure] = []
        warnings: list[Warned] = []
        for outcome in each(look, asked.values(), jobs=self.settings.jobs):
            if isinstance(outcome.value, ResolverError):
                failures.append(Failure(str(outcome.item[1]), None, outcome.value))
            else:
                images.append(outcome.value[0])
                warnings += outcome.value[1]
        changes = tuple(change_of(held.get(image.reference), image) for image in images)
        if failures and len(asked) == 1:
            raise failures[0].error
        if failures:
            return Locked(path, known, changes, tuple(failures), tuple(warnings))
        # Read again: while registries were asked, somebody else may have written.
        lock = lock_file.change(path, lambda there: there.merged(images))
        return Locked(path, lock, changes, (), tuple(warnings))

    def unlock(self, names: Iterable[str], *, file: str | Path = LOCK_FILE) -> Locked:
        """Take references out of a lock file; nobody is asked.

        Raises:
            NotLocked: a name is not in it; nothing was written.
            Malformed, LockUnwritten: as `lock`.

        """
        from resolver.core.lock import LockChange, Locked  # noqa: PLC0415 - for this alone
        from resolver.flow import lock_file  # noqa: PLC0415

        path = str(file)
        lock_file.refuse_yaml(path)
        known = lock_file.load(path)
        images = self._named(known, tuple(names), path) if names else ()
        lock = lock_file.change(path, lambda there: there.without(images))
        return Locked(path, lock, tuple(LockChange("removed", one, one) for one in images))

    def check_lock(
        self,
        names: Iterable[str] = (),
        platforms: Sequence[Wanted] = (),
        *,
        file: str | Path = LOCK_FILE,
    ) -> LockCheck:
        """Say what has moved since it was locked: one HEAD for each reference, side by side.

        Only where the digest of the whole is another one is the new index read, to say which
        platforms are another image now.

        Args:
            names: references to ask about; by default all that are locked.
            platforms: those that count; by default, or with `all`, all that are locked.
            file: the lock file.

        Raises:
            Malformed: a name, a platform or the lock file cannot be read; nobody was asked.
            NotLocked: a name is not in the lock file; that an image was not locked for one of
                the platforms is a failure in its place.

        """
        from resolver.core.lock_check import LockCheck  # noqa: PLC0415 - for this question alone
        from resolver.core.locked import pick  # noqa: PLC0415
        from resolver.flow import lock_file  # noqa: PLC0415
        from resolver.flow.batch import each  # noqa: PLC0415
        from resolver.flow.lock import check  # noqa: PLC0415

        path = str(file)
        images = self._named(lock_file.load(path), tuple(names), path)
        wishes = self._wishes(platforms)
        # Every host is known before the first client is made.
        targets = {image.reference: self._target(image.reference) for image in images}
        warnings: list[Warned] = []

        def look(image: LockedImage) -> Drift:
            for wanted in wishes:
                if pick(image, wanted, self.table) is None:
                    raise _platform_not_locked(image, wanted, path)
            reader, warned = self._reader(targets[image.reference])
            found = check(reader, image, wishes, self.table)
            reader.tell_warnings()
            warnings.extend(warned)
            return found

        found: list[Drift | Failure] = []
        for outcome in each(look, images, jobs=self.settings.jobs):
            if isinstance(outcome.value, ResolverError):
                found.append(Failure(outcome.item.reference, None, outcome.value))
            else:
                found.append(outcome.value)
        wanted_words = tuple(str(wanted.platforms[0]) for wanted in wishes)
        return LockCheck(path, wanted_words, tuple(found), tuple(warnings))

    def by_lock(self, file: str | Path = LOCK_FILE) -> ByLock:
        """Answer `resolve` from a lock file alone; what it answers, `plan` and `pull` take.

        Raises:
            NoLock, BadLock, LockLimit: there is no lock file, or it cannot be used.

        """
        from resolver.flow import lock_file  # noqa: PLC0415 - for this question alone

        return ByLock(self, str(file), lock_file.load(str(file)))

    def lock_entries(
        self,
        names: Iterable[str] = (),
        platform: Wanted = None,
        *,
        services: Mapping[str, Sequence[str]] | None = None,
        file: str | Path = LOCK_FILE,
    ) -> tuple[Entry, ...]:
        """Give what a lock file says in the words of other tools, for `resolver lock export`.

        Args:
            names: references; by default all that are locked.
            platform: the image for this instead of the index.
            services: canonical references to the services of a compose file.
            file: the lock file.

        Raises:
            NotLocked: a name is not in the lock file, or not for the platform.
            Malformed: a name, the platform or the lock file cannot be read.

        """
        from resolver.core.lock import Lock  # noqa: PLC0415 - for this question alone
        from resolver.core.lock_entries import entries_of  # noqa: PLC0415
        from resolver.flow import lock_file  # noqa: PLC0415

        path = str(file)
        images = self._named(lock_file.load(path), tuple(names), path)
        wanted = self._wanted(platform) if platform is not None else None
        entries, missing = entries_of(Lock(images), wanted, services, self.table)
        if missing and wanted is not None:
            raise _platform_not_locked(missing[0], wanted, path)
        return entries

    def _wishes(self, platforms: Sequence[Wanted]) -> tuple[Wish, ...]:
        """Read platforms; with `all` among them, there is nothing to keep to."""
        if "all" in platforms:
            return ()
        return tuple(self._wanted(platform) for platform in platforms)

    def _wanted(self, platform: Wanted) -> Wish:
        from resolver.core.locked import Wanted as Wish  # noqa: PLC0415 - for this question alone

        wish = self.wish(platform)
        return Wish(wish.platforms, wish.local)

    def _recorded(
        self, target: RegistryTarget, written: str, wishes: Sequence[Wish]
    ) -> tuple[LockedImage, tuple[Warned, ...]]:
        from resolver.flow.lock import record  # noqa: PLC0415 - for this question alone

        reader, warned = self._reader(target)
        image, notes = record(reader, self._ask(reader, target), written, wishes, self.table)
        reader.tell_warnings()
        return image, (*warned, *notes)

    def _lockable(
        self, references: Iterable[str | Reference]
    ) -> Iterator[tuple[str, RegistryTarget]]:
        for reference in references:
            target = self._target(reference)
            if not isinstance(target, RegistryTarget):
                raise Usage(
                    f"`{target}` cannot be locked: it is no image of a registry",
                    "give the image's name in its registry",
                )
            yield str(reference).removeprefix("docker://"), target

    def _named(self, lock: Lock, names: tuple[str, ...], path: str) -> tuple[LockedImage, ...]:
        """Find images by their names, in the order of the lock; all of them without names.

        Raises:
            NotLocked: a name is not in it.

        """
        if not names:
            return lock.images
        found: set[str] = set()
        for name in names:
            images = lock.named(name)
            if not images:
                listing = ", ".join(f"`{image.written}`" for image in lock.images[:5])
                raise NotLocked(name, path, "", f"it has {listing}" if listing else "it is empty")
            found.update(image.reference for image in images)
        return tuple(image for image in lock.images if image.reference in found)


class ByLock:
    """Answers from a lock file: nobody is asked, and nothing is looked for in the store.

    Attributes:
        lock: what the file holds.

    """

    def __init__(self, session: LockVerbs, path: str, lock: Lock) -> None:
        self.lock = lock
        self._images = {image.reference: image for image in lock.images}
        self._session = session
        self._path = path

    def resolve(
        self, reference: str | Reference, platform: Wanted = None, *, exact: bool = False
    ) -> Resolution:
        """Find what a reference meant on one platform when it was locked.

        Raises:
            NotLocked: the lock does not have the reference, or not for the platform.
            Malformed: reference or platform cannot be read.

        """
        return self._resolve(self._find(reference), platform, exact=exact)

    def resolve_each(
        self,
        references: Iterable[str | Reference],
        platforms: Sequence[Wanted] = (None,),
        *,
        exact: bool = False,
    ) -> Iterator[Resolution | Failure]:
        """Answer many questions; `all` stands for every platform that was locked."""
        for reference in list(references):
            try:
                image = self._find(reference)
            except InvalidReference:
                raise
            except ResolverError as error:
                for platform in platforms:
                    yield Failure(str(reference), _words(platform), error)
                continue
            for platform in self._expanded(image, platforms):
                try:
                    yield self._resolve(image, platform, exact=exact)
                except ResolverError as error:
                    yield Failure(image.reference, _words(platform), error)

    def _expanded(self, image: LockedImage, platforms: Sequence[Wanted]) -> Iterator[Wanted]:
        for platform in platforms:
            if platform == "all":
                yield from (one.platform for one in image.platforms)
            else:
                yield platform

    def _find(self, reference: str | Reference) -> LockedImage:
        target = self._session._target(reference)  # noqa: SLF001 - a part of the session
        image = self._images.get(str(target)) if isinstance(target, RegistryTarget) else None
        if image is None:
            hint = f"record it with `resolver lock {reference}`"
            raise NotLocked(str(target), self._path, "", hint)
        return image

    def _resolve(self, image: LockedImage, platform: Wanted, *, exact: bool) -> Resolution:
        from resolver.flow.lock import resolve_locked  # noqa: PLC0415 - for this question alone
        from resolver.flow.reader import Reader  # noqa: PLC0415

        session = self._session
        wish = session.wish(platform, exact=exact)
        nobody: Reader = Reader(None, None, image.reference)
        return resolve_locked(image, wish, session.table, nobody, self._path)


def _only(image: LockedImage) -> tuple[Wish, ...]:
    from resolver.core.locked import Wanted as Wish  # noqa: PLC0415 - for this question alone

    return tuple(Wish((Platform.parse(key),)) for key in image.only)


def _platform_not_locked(image: LockedImage, wanted: Wish, path: str) -> NotLocked:
    offered = ", ".join(f"`{one.platform}`" for one in image.platforms) or "no platform"
    return NotLocked(image.reference, path, str(wanted), f"it was locked for {offered}")


def _words(platform: Wanted) -> str | None:
    return None if platform is None else str(platform)
