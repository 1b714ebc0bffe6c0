"""Uploads: blobs that clients send to `serve --writable`, until a manifest names them.

uploads/<id>-<hash>      the bytes of a session; the hash ties it to its repository
        <id>-<hash>.end  how many of them came with completed requests
        <hash>           marks a repository, or a blob that belongs to one

A session survives the server, and bytes of a request that was cut are kept. Its file is locked
while a request writes to it. See docs/store-and-reliability.md, "Uploads".
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from resolver.errors import DigestMismatch, StoreFault
from resolver.store.files import close, faults, same_file, settle, try_lock
from resolver.values import pattern

if TYPE_CHECKING:
    from resolver.core.oci.digest import Digest
    from resolver.store.files import StoreFolder
    from resolver.store.folder import Home

FOLDER = "uploads"
#: Our names there; nothing else is ever touched.
SESSION = pattern(r"[0-9a-f]{32}-[0-9a-f]{32}")
MARK = pattern(r"[0-9a-f]{64}")
END = ".end"
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20
#: Sessions whose hash so far is remembered; of others the bytes are read again.
_MAX_HASHES = 1_000


class UploadBusy(Exception):
    """Another process writes to this session, or another request has taken it over."""


class Upload:
    """An open session; one request has it at a time. Closed by `close`, `finish` or `remove`.

    Attributes:
        size: bytes that are here.
        committed: those that came with completed requests.

    """

    def __init__(self, home: Home, name: str, descriptor: int, path: str, committed: int) -> None:
        self._home = home
        self.name = name
        self._path = path
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._is_closed = False
        self._hash: tuple[str, hashlib._Hash, int] | None = None
        with faults(path):
            self.size = os.fstat(descriptor).st_size
        self.committed = min(committed, self.size)

    def resume_hash(self, known: tuple[str, hashlib._Hash, int] | None) -> None:
        """Go on with a hash of the bytes that are here, if it is one."""
        if known is not None and known[2] == self.size:
            self._hash = known

    @property
    def hash_so_far(self) -> tuple[str, hashlib._Hash, int] | None:
        """The algorithm, the running hash, and the number of bytes it covers."""
        return self._hash

    def begin(self, at: int, algorithm: str = "sha256") -> None:
        """Continue at a position up to `size`; what was behind it is dropped.

        Raises:
            UploadBusy: another request has taken the session over.
            StoreFault: it cannot be written.

        """
        with self._guard, faults(self._path):
            self._refuse_closed()
            if at < self.size:
                os.ftruncate(self._descriptor, at)
                self.size = at
                self.committed = min(self.committed, at)
            if not at:
                self._hash = (algorithm, hashlib.new(algorithm), 0)

    def write(self, data: bytes) -> None:
        """Append bytes, all of them.

        Raises:
            UploadBusy: another request has taken the session over.
            StoreFault: they cannot be written.

        """
        rest = memoryview(data)
        with self._guard, faults(self._path):
            self._refuse_closed()
            while rest:
                count = os.pwrite(self._descriptor, rest, self.size)
                if self._hash is not None and self._hash[2] == self.size:
                    algorithm, running, covered = self._hash
                    running.update(rest[:count])
                    self._hash = algorithm, running, covered + count
                self.size += count
                rest = rest[count:]

    def commit(self) -> None:
        """Record that a request is complete.

        Raises:
            StoreFault: it cannot be written.

        """
        self.committed = self.size
        with self._home.writing() as root, root.need(FOLDER) as folder:
            name = f"{self.name}{END}"
            with faults(folder.where(name)):
                descriptor = os.open(name, _WRITE, 0o600, dir_fd=folder.descriptor)
                try:
                    os.write(descriptor, str(self.size).encode())
                finally:
                    os.close(descriptor)

    def finish(self, digest: Digest) -> None:
        """Verify all bytes and publish them; see docs/store-and-reliability.md, "Write order".

        The session ends, whether or not the bytes are right.

        Raises:
            DigestMismatch: they have another digest.
            UploadBusy: another request has taken the session over.
            StoreFault: they cannot be written.

        """
        with self._guard:
            self._refuse_closed()
            self._is_closed = True
        try:
            with faults(self._path):
                actual = f"{digest.algorithm}:{self._hashed(digest.algorithm)}"
                if actual != str(digest):
                    raise DigestMismatch("the upload", str(digest), actual)
                if self._home.sync:
                    os.fsync(self._descriptor)
                # The grace period of collection begins now.
                os.utime(self._descriptor)
                os.fchmod(self._descriptor, 0o444)
            with (
                self._home.writing() as root,
                root.need(FOLDER) as folder,
                root.need("tmp") as tmp,
                root.need("blobs", digest.algorithm) as blobs,
            ):
                settle(folder, self.name, blobs, digest.hex, tmp=tmp)
                if self._home.sync:
                    blobs.sync()
        finally:
            self._remove()

    def remove(self) -> None:
        """Remove the session and its bytes, unless it has ended."""
        with self._guard:
            if self._is_closed:
                return
            self._is_closed = True
        self._remove()

    def close(self) -> None:
        """Keep the session for another request."""
        with self._guard:
            if not self._is_closed:
                self._is_closed = True
                close(self._descriptor)

    def _remove(self) -> None:
        with suppress(StoreFault), self._home.writing() as root, root.need(FOLDER) as folder:
            if same_file(folder, self.name, self._descriptor):
                folder.remove(self.name)
            folder.remove(f"{self.name}{END}")
        self._hash = None
        close(self._descriptor)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise UploadBusy

    def _hashed(self, algorithm: str) -> str:
        if self._hash is not None and self._hash[0] == algorithm and self._hash[2] == self.size:
            return self._hash[1].hexdigest()
        running, position = hashlib.new(algorithm), 0
        while piece := os.pread(self._descriptor, _PIECE, position):
            running.update(piece)
            position += len(piece)
        return running.hexdigest()


class Uploads:
    """The `uploads` folder of a store, which is made when something is uploaded."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._guard = threading.Lock()
        self._open: dict[str, Upload] = {}
        self._hashes: dict[str, tuple[str, hashlib._Hash, int]] = {}

    def begin(self, repository: str, algorithm: str = "sha256") -> tuple[str, Upload]:
        """Begin a session; return its id too.

        Raises:
            StoreFault: the store cannot be written.

        """
        identity = os.urandom(16).hex()
        name = _session(repository, identity)
        with self._home.writing() as root:
            root.make(FOLDER)
            with root.need(FOLDER) as folder:
                path = folder.where(name)
                with faults(path):
                    descriptor = os.open(name, _NEW, 0o600, dir_fd=folder.descriptor)
                self._lock(folder, name, descriptor)
        upload = self._made(name, descriptor, path, 0)
        upload.begin(0, algorithm)
        return identity, upload

    def size(self, repository: str, identity: str) -> int | None:
        """Count the bytes of a session, also while a request writes to it; None if it is absent.

        Raises:
            StoreFault: the store cannot be read.

        """
        root = self._home.open()
        if root is None:
            return None
        with root:
            folder = root.enter(FOLDER)
            if folder is None:
                return None
            with folder:
                status = folder.look(_session(repository, identity))
        return None if status is None or not stat.S_ISREG(status.st_mode) else status.st_size

    def resume(self, repository: str, identity: str) -> Upload | None:
        """Open a session for another request; one that still writes to it in this process ends.

        Returns None if there is no such session.

        Raises:
            UploadBusy: another process writes to it.
            StoreFault: it cannot be opened.

        """
        name = _session(repository, identity)
        with self._guard:
            before = self._open.pop(name, None)
        if before is not None:
            self._leave(before)
        with self._home.writing() as root:
            folder = root.enter(FOLDER)
            if folder is None:
                return None
            with folder:
                descriptor = self._opened(folder, name)
                if descriptor is None:
                    return None
                self._lock(folder, name, descriptor)
                path = folder.where(name)
                try:
                    committed = _committed(folder, name)
                except StoreFault:
                    close(descriptor)
                    raise
        upload = self._made(name, descriptor, path, committed)
        with self._guard:
            upload.resume_hash(self._hashes.pop(name, None))
        return upload

    def leave(self, upload: Upload) -> None:
        """Close a session that a request has ended with, and keep it unless it was finished."""
        with self._guard:
            if self._open.get(upload.name) is not upload:
                return
            del self._open[upload.name]
        self._leave(upload)

    def mark(self, repository: str, digest: Digest | None = None) -> None:
        """Mark a blob as one of this repository, or the repository itself.

        Raises:
            StoreFault: the store cannot be written.

        """
        with self._home.writing() as root:
            root.make(FOLDER)
            with root.need(FOLDER) as folder:
                name = _mark(repository, digest)
                descriptor = folder.lock_file(name)
                try:
                    with faults(folder.where(name)):
                        os.utime(descriptor)
                finally:
                    close(descriptor)

    def is_marked(self, repository: str, digest: Digest | None = None) -> bool:
        """Whether `mark` was called with the same arguments.

        Raises:
            StoreFault: the store cannot be read.

        """
        root = self._home.open()
        if root is None:
            return False
        with root:
            folder = root.enter(FOLDER)
            if folder is None:
                return False
            with folder:
                return folder.look(_mark(repository, digest)) is not None

    def unmark(self, repository: str, digest: Digest) -> bool:
        """Remove the mark of a blob; False if there was none.

        Raises:
            StoreFault: it cannot be removed.

        """
        with self._home.writing() as root:
            folder = root.enter(FOLDER)
            if folder is None:
                return False
            with folder:
                return folder.remove(_mark(repository, digest))

    def _made(self, name: str, descriptor: int, path: str, committed: int) -> Upload:
        try:
            upload = Upload(self._home, name, descriptor, path, committed)
        except StoreFault:
            close(descriptor)
            raise
        with self._guard:
            self._open[name] = upload
        return upload

    def _leave(self, upload: Upload) -> None:
        upload.close()
        known = upload.hash_so_far
        if known is None:
            return
        with self._guard:
            self._hashes[upload.name] = known
            while len(self._hashes) > _MAX_HASHES:
                self._hashes.pop(next(iter(self._hashes)))

    def _lock(self, folder: StoreFolder, name: str, descriptor: int) -> None:
        kept = False
        try:
            if self._home.lock and not try_lock(descriptor, fcntl.LOCK_EX, folder.where(name)):
                raise UploadBusy
            kept = True
        finally:
            if not kept:
                close(descriptor)

    def _opened(self, folder: StoreFolder, name: str) -> int | None:
        status = folder.look(name)
        # Planted, or a hard link to a blob: its bytes must not change.
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return None
        with faults(folder.where(name)):
            if not status.st_mode & stat.S_IWUSR:
                # A process died between closing and publishing it.
                descriptor = os.open(name, _READ, dir_fd=folder.descriptor)
                try:
                    os.fchmod(descriptor, 0o600)
                finally:
                    close(descriptor)
            try:
                return os.open(name, _READ_WRITE, dir_fd=folder.descriptor)
            except FileNotFoundError:
                return None


def _committed(folder: StoreFolder, name: str) -> int:
    file = folder.open(f"{name}{END}")
    if file is None:
        return 0
    with file:
        text = next(file.chunks(32), b"")
    return int(text) if re.fullmatch(rb"[0-9]{1,19}", text) else 0


def _session(repository: str, identity: str) -> str:
    return f"{identity}-{hashlib.sha256(repository.encode()).hexdigest()[:32]}"


def _mark(repository: str, digest: Digest | None) -> str:
    named = repository if digest is None else f"{repository}@{digest}"
    return hashlib.sha256(named.encode()).hexdigest()
