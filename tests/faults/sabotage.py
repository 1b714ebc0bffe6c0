"""Defects of a store: `resolver` without one of its safeguards.

Each function changes the process that it runs in, for good; the crew runs them in forks.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolver.store import LocalStore, collect, files, names, reachable, receive
from resolver.store import collect as ground
from resolver.store import files as temporary
from resolver.store import folder as home
from resolver.store.partials import DATA, PartialLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.store.files import StoreFolder


def _put(home: object, name: str, value: object) -> None:
    """Replace an attribute of the program; it must exist."""
    assert hasattr(home, name), name
    setattr(home, name, value)


def no_sync() -> None:
    """Rename without ever syncing."""
    begin = home.Home.__init__

    def careless(self: Any, root: Any, **how: Any) -> None:
        begin(self, root, **{**how, "sync": False})

    _put(home.Home, "__init__", careless)


def sync_behind_the_name() -> None:
    """Sync after the rename and its folder, when it is too late."""

    def make_lasting(self: Any) -> None:
        os.fchmod(self._data, 0o444)

    publish = receive.BlobWriter._publish

    def publish_first(self: Any) -> None:
        publish(self)
        with self._home.writing() as root, root.need("blobs", self._digest.algorithm) as blobs:
            blobs.sync()
        os.fsync(self._data)
        self._is_open = False
        os.close(self._data)

    _put(receive.BlobWriter, "_make_lasting", make_lasting)
    _put(receive.BlobWriter, "_publish", publish_first)


def no_folder_sync() -> None:
    """Sync files, and not the folders that name them."""
    _put(files.StoreFolder, "sync", lambda _self: None)


def no_verification() -> None:
    """Accept received bytes without verification."""

    def verify(self: Any) -> None:
        if self._hasher is not None:
            self._hasher.finish(self.size)

    _put(receive.BlobWriter, "_verify", verify)


def partial_under_its_name() -> None:
    """Write content directly under its final name."""
    open_data = PartialLock.open_data

    def visible(self: Any) -> tuple[int, int]:
        opened = open_data(self)
        algorithm, _, name = self._name.partition("-")
        shown = f"{self.folder.path}/../../blobs/{algorithm}/{name}"
        if not os.path.lexists(shown):
            os.link(self.folder.where(DATA), os.path.normpath(shown))
        return opened

    _put(PartialLock, "open_data", visible)


def name_first() -> None:
    """Write the name before its content."""
    from resolver.verbs import pull

    _put(reachable, "refuse_incomplete", lambda _root, _record: None)
    run = pull._Work.run

    def named(self: Any, lease: Any, workers: Any) -> Any:
        for image in self._plan.images:
            at = int(self._shared.clock.wall())
            self._shared.store.name(pull.record_of(image.reference, [image], at))
        return run(self, lease, workers)

    _put(pull._Work, "run", named)


def shared_index() -> None:
    """Write every name into one file, as the `index.json` of a layout."""
    original = names.Records._put

    def put(self: Any, root: StoreFolder, records: Any) -> None:
        for record in records:
            with root.need(self._form.folder) as folder:
                for each in folder.entries():
                    folder.remove(each)
            original(self, root, (record,))

    _put(names.Records, "_put", put)


def age_alone() -> None:
    """Collect by age, ignoring names and leases."""
    _put(ground.GcSnapshot, "needed_by", lambda _self, _names: {})
    _put(ground.GcSnapshot, "users", lambda _self: {})
    _put(collect, "_recent", lambda _ground: set())


def no_lease() -> None:
    """Collect the content of a running pull."""
    _put(ground.GcSnapshot, "users", lambda _self: {})
    _put(collect, "_recent", lambda _ground: set())


def nothing_is_litter() -> None:
    """Keep leftovers of ended processes."""
    _put(collect, "_is_left_behind", lambda _loose, _before: False)


def in_place() -> None:
    """Write small files in place, without a temporary file."""

    def publish(self: Any, folder: StoreFolder, name: str, **_how: object) -> None:
        body = Path(self._path).read_bytes()
        target = folder.where(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        descriptor = os.open(target, flags, 0o600)
        half = len(body) // 2
        os.write(descriptor, body[:half])
        os.write(descriptor, body[half:])
        os.fsync(descriptor)
        os.close(descriptor)

    _put(temporary.Temporary, "publish", publish)


def everything_again() -> None:
    """Treat all held content as missing."""
    _put(LocalStore, "held", lambda _self, _descriptor, **_how: False)


def no_locks() -> None:
    """Treat every lock as free."""
    _put(fcntl, "flock", lambda _descriptor, _kind: None)


SABOTAGES: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        no_sync,
        sync_behind_the_name,
        no_folder_sync,
        no_verification,
        partial_under_its_name,
        name_first,
        shared_index,
        age_alone,
        no_lease,
        nothing_is_litter,
        in_place,
        everything_again,
        no_locks,
    )
}
