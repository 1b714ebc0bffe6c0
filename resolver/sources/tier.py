"""A tier of blobs in object storage, which several machines share.

An object is `PREFIX/blobs/ALGORITHM/HEX`, as in an OCI layout: content by its digest, and no names.
Whatever is wrong with a tier, content comes from registries: an error ends its use for a while,
with one warning, and every request is bounded in time. What it sends is verified by the reader.
See docs/fleet.md, "A bucket".
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from resolver.core.oci.content import Distrusting, RangeAnswer
from resolver.core.oci.digest import Digest, Verifier, verify
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.results.events import Warned
from resolver.core.results.store import Collected, Item
from resolver.errors import (
    BlobNotFound,
    ConnectionFailed,
    DigestMismatch,
    InvalidDigest,
    ResolverError,
    SizeMismatch,
    Unavailable,
    Usage,
)
from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from obstore import GetResult
    from obstore.store import ObjectStore

    from resolver.core.oci.content import RangedSource
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.events import Observer

_SCHEMES: Final = ("s3", "gs", "az", "file")
#: Seconds for a connection, for a look, for one piece of a blob, and for one request that writes.
_CONNECT, _LOOK, _READ, _WRITE = 2, 5, 15, 60
#: Seconds for which a tier that has failed is not used: a mirror runs for weeks.
_PAUSE = 300
#: Bytes of one request of a reader: what a tier must send within `_READ` seconds to be used.
_PIECE: Final = 4 << 20
_CHUNK: Final = 1 << 18
#: Bytes up to which an object is written by one conditional request, from memory. Above, obstore
#: needs a multipart upload, which it does not make conditional (obstore, `put`, "mode").
_WHOLE: Final = 32 << 20
_PART, _PARTS = 8 << 20, 4
#: Bytes from which a look is cheaper than content that is refused because it is there.
_LOOKED: Final = 64 << 10
#: Objects with wrong content after which a tier is not used any more.
_MAX_WRONG: Final = 3
_KEY = pattern(r"blobs/(sha256|sha512)/([0-9a-f]{64,128})")
#: What the text of an error says. Source: object_store, `HttpErrorKind` and `RetryError`.
_STATUS = pattern(r"status code: ([0-9]{3})")
_KIND = pattern(r"kind: (Timeout|Connect)\b")
_TRUE = frozenset({"1", "true", "yes", "on"})
#: Objects of one request that deletes. Source: Amazon S3 API, "DeleteObjects".
_DELETED: Final = 1_000


class Tier:
    """Content by digest in object storage; safe to share between threads.

    Credentials and endpoints come from the environment of the process, as for the provider's own
    tools (`AWS_...`, `GOOGLE_...`, `AZURE_...`).

    Args:
        url: `s3://BUCKET/PREFIX`, `gs://...`, `az://ACCOUNT/CONTAINER/PREFIX` or `file:///DIR`.
        environment: says whether plain HTTP is allowed (`AWS_ALLOW_HTTP`).
        observe: receives one warning for each thing that is wrong.
        writes: create the folder of a `file:` URL.

    Raises:
        Usage: the URL cannot be used, or obstore is not installed.
    """

    def __init__(
        self,
        url: str,
        environment: Mapping[str, str],
        observe: Observer,
        *,
        writes: bool = False,
    ) -> None:
        check_url(url)
        try:
            import obstore  # noqa: PLC0415 - an extra
            from obstore import exceptions  # noqa: PLC0415
        except ImportError as error:
            raise Usage(
                "`--tier` needs the package `obstore`, which is not installed",
                "run `pip install 'multiarch-resolver[s3]'`",
            ) from error
        self.url = url
        self.writes = writes
        self._obstore = obstore
        self._exists = exceptions.AlreadyExistsError
        self._denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        self._errors = (exceptions.BaseError, OSError, ValueError)
        self._observe = observe
        self._lock = threading.Lock()
        #: Why it is not used, and until when.
        self._off, self._until = "", 0.0
        self._wrong: set[Digest] = set()
        try:
            self._looks, self._reads, self._puts = (
                _open(url, environment, seconds, writes=writes)
                for seconds in (_LOOK, _READ, _WRITE)
            )
        except self._errors as error:
            self._end(error)

    @property
    def is_usable(self) -> bool:
        """Whether nothing has failed lately."""
        with self._lock:
            if self._off and time.monotonic() >= self._until:
                self._off = ""
            return not self._off

    def has(self, descriptor: Descriptor) -> bool:
        """Whether an object of this digest and size exists; False where that cannot be seen."""
        digest = descriptor.digest
        if not (self._may_have(digest) and descriptor.size):
            return False
        try:
            found = self._obstore.head(self._looks, _key(digest))
        except FileNotFoundError:
            return False
        except self._errors as error:
            self._end(error)
            return False
        if found["size"] != descriptor.size:
            self._distrust(SizeMismatch(f"`{digest}`", descriptor.size, found["size"]), digest)
            return False
        return True

    def load(self, digest: Digest, size: int | None = None) -> bytes | None:
        """Return a verified document of at most 4 MiB; None if the tier does not give it."""
        if not self._may_have(digest):
            return None
        what = f"`{digest}`"
        try:
            found = self._obstore.get(self._looks, _key(digest))
            length = found.meta["size"]
            most = MAX_DOCUMENT if size is None else size
            # Of a longer one no byte is read, and its size is what is wrong with it.
            body = _body(found, most) if length <= min(most, MAX_DOCUMENT) else b""
            verify(body, digest, size, what)
        except FileNotFoundError:
            return None
        except (SizeMismatch, DigestMismatch) as error:
            self._distrust(error, digest)
            return None
        except self._errors as error:
            self._end(error)
            return None
        return body

    @contextmanager
    def open_range(self, descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        """Stream a part of a blob, unverified, by requests of a bounded size.

        Raises:
            BlobNotFound: the tier does not have it, or is not used any more.
            ConnectionFailed: it has failed after the first bytes.
        """
        first = self._piece(descriptor, start, min(start + _PIECE, end))
        yield RangeAnswer(whole=False, end=end, chunks=self._stream(descriptor, first, start, end))

    def _stream(
        self, descriptor: Descriptor, piece: bytes, start: int, end: int
    ) -> Iterator[bytes]:
        while True:
            for at in range(0, len(piece), _CHUNK):
                yield piece[at : at + _CHUNK]
            start += len(piece)
            if start >= end:
                return
            try:
                piece = self._piece(descriptor, start, min(start + _PIECE, end))
            except BlobNotFound as error:
                raise ConnectionFailed(f"the tier ended `{descriptor.digest}`") from error

    def _piece(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        digest = descriptor.digest
        if start >= end or not self._may_have(digest):
            raise BlobNotFound(str(digest), self.url)
        try:
            found = self._obstore.get(self._reads, _key(digest), options={"range": (start, end)})
            size = found.meta["size"]
            body = _body(found, end - start) if size == descriptor.size else b""
        except FileNotFoundError as error:
            raise BlobNotFound(str(digest), self.url) from error
        except self._errors as error:
            self._end(error)
            raise BlobNotFound(str(digest), self.url) from error
        if len(body) != end - start:
            actual = size if size != descriptor.size else start + len(body)
            self._distrust(SizeMismatch(f"`{digest}`", descriptor.size, actual), digest)
            raise BlobNotFound(str(digest), self.url)
        return body

    def put(self, descriptor: Descriptor, opened: AbstractContextManager[Iterator[bytes]]) -> bool:
        """Write an object that does not exist; return whether one of this digest is there now.

        The content is verified on its way; an object is visible once it is whole.

        Raises:
            ResolverError: the content cannot be read, or is wrong.
        """
        digest = descriptor.digest
        if not self._may_have(digest):
            return False
        if descriptor.size > _LOOKED and self.has(descriptor):
            return True
        try:
            with opened as chunks:
                verified = _verified(descriptor, chunks)
                if descriptor.size <= _WHOLE:
                    self._obstore.put(
                        self._puts,
                        _key(digest),
                        b"".join(verified),
                        mode="create",
                        use_multipart=False,
                    )
                elif self.is_usable:
                    self._obstore.put(
                        self._puts,
                        _key(digest),
                        verified,
                        use_multipart=True,
                        chunk_size=_PART,
                        max_concurrency=_PARTS,
                    )
        except self._exists:
            return True
        except ResolverError:
            raise
        except self._errors as error:
            self._end(error)
        return self.is_usable

    def expire(
        self, age: float, *, dry_run: bool, now: Callable[[], float] = time.time
    ) -> Collected:
        """Delete objects that were written more than `age` seconds ago; others are left alone.

        Raises:
            Unavailable: the tier cannot be listed, or an object cannot be deleted.
        """
        before = now() - age
        removed: list[Item] = []
        freed = kept = kept_size = 0
        try:
            for found in self._objects():
                key, size = found["path"], found["size"]
                if _digest(key) is None:
                    continue
                if found["last_modified"].timestamp() < before:
                    removed.append(Item(str(_digest(key)), size, "blob"))
                    freed += size
                else:
                    kept, kept_size = kept + 1, kept_size + size
            keys = [_key(Digest.parse(item.name)) for item in removed]
            for at in range(0, 0 if dry_run else len(keys), _DELETED):
                self._obstore.delete(self._puts, keys[at : at + _DELETED])
        except self._errors as error:
            raise Unavailable(f"`{self.url}` cannot be collected: {self._reason(error)}") from error
        return Collected(tuple(removed), freed, kept, kept_size, dry_run=dry_run, total=kept_size)

    def _objects(self) -> Iterator[Any]:
        if not self.is_usable:
            raise OSError(self._off)
        for some in self._obstore.list(self._reads, prefix="blobs"):
            yield from some

    def distrust(self, digest: Digest) -> bool:
        """Stop using the object of a digest; return whether it was used until now."""
        with self._lock:
            if digest in self._wrong:
                return False
        self._distrust(None, digest)
        return True

    def _may_have(self, digest: Digest) -> bool:
        return self.is_usable and digest.is_verifiable and digest not in self._wrong

    def _distrust(self, error: ResolverError | None, digest: Digest) -> None:
        """Warn of an object with wrong content; after some, of the tier itself."""
        with self._lock:
            is_new = digest not in self._wrong and not self._off
            self._wrong.add(digest)
            too_many = len(self._wrong) % _MAX_WRONG == 0
        what = str(error) if error is not None else f"`{digest}` has other bytes"
        if is_new:
            self._warn(f"{what} in the tier `{self.url}`: it is fetched from its registry")
        if is_new and too_many:
            self._end(OSError(f"{_MAX_WRONG} of its objects have wrong content"))

    def _end(self, error: Exception) -> None:
        """Do not use the tier for a while, and say so once."""
        reason = self._reason(error)
        with self._lock:
            is_first = not self._off
            self._off, self._until = self._off or reason, time.monotonic() + _PAUSE
        if is_first:
            self._warn(f"the tier `{self.url}` is not used: {reason}")

    def _warn(self, message: str) -> None:
        self._observe(Warned("tier-unusable", message))

    def _reason(self, error: Exception) -> str:
        """Describe an error without its text, which may have signed URLs and remote words."""
        text = str(error)
        status = _STATUS.search(text)
        if isinstance(error, self._denied):
            return "access is denied"
        if status is not None:
            return f"HTTP status {status[1]}"
        if isinstance(error, FileNotFoundError):
            return "there is no such bucket or folder"
        if isinstance(error, self._errors[0]):
            kinds = {"Timeout": "it does not answer in time", "Connect": "it cannot be reached"}
            found = _KIND.search(text)
            return kinds.get(found[1] if found is not None else "", "a request failed")
        return text


class TieredSource:
    """Reads content from a tier, and from its registry what the tier does not give.

    A reader that finds wrong bytes calls `distrust`, and gets the rest from the registry.
    """

    def __init__(self, tier: Tier, source: RangedSource) -> None:
        self._tier = tier
        self._source = source
        self._absent: set[Digest] = set()
        self._served: set[Digest] = set()

    @contextmanager
    def open_range(self, descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        """Stream a part of a blob; the caller verifies it."""
        with ExitStack() as stack:
            answer = None
            if descriptor.digest not in self._absent:
                try:
                    answer = stack.enter_context(self._tier.open_range(descriptor, start, end))
                    self._served.add(descriptor.digest)
                except BlobNotFound:
                    self._absent.add(descriptor.digest)
            if answer is None:
                answer = stack.enter_context(self._source.open_range(descriptor, start, end))
            yield answer

    def distrust(self, digest: Digest) -> bool:
        """Stop reading a digest from where it came from; return whether another place is left."""
        if digest in self._served and self._tier.distrust(digest):
            return True
        return isinstance(self._source, Distrusting) and self._source.distrust(digest)


def check_url(url: str) -> None:
    """Refuse a URL that names no tier, or has credentials; it may be shown and logged."""
    scheme, colon, rest = url.partition("://")
    if colon and scheme in _SCHEMES:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise Usage(
                f"the URL of a `{scheme}://` tier has a user name, a query or a fragment",
                "leave it out: credentials come from the environment, as for the provider's tools",
            )
        named = parts.path.strip("/") if scheme == "file" else parts.netloc
        if named and not (scheme == "file" and parts.netloc) and ".." not in rest.split("/"):
            return
    shown = url if "@" not in url else "the URL"
    raise Usage(
        f"`{shown}` does not name a tier",
        "write `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or "
        "`file:///DIR`",
    )


def _open(url: str, environment: Mapping[str, str], seconds: int, *, writes: bool) -> ObjectStore:
    """Open a store whose requests take at most so many seconds."""
    from obstore.store import LocalStore, from_url  # noqa: PLC0415 - an extra

    if url.startswith("file:"):
        folder = Path(unquote(urlsplit(url).path))
        if not (writes or folder.is_dir()):
            raise FileNotFoundError(folder)
        return LocalStore(folder, mkdir=writes)
    plain = any(
        environment.get(f"{each}_ALLOW_HTTP", "").lower() in _TRUE
        for each in ("AWS", "GOOGLE", "AZURE")
    )
    return from_url(
        url,
        client_options={
            "allow_http": plain,
            "connect_timeout": f"{_CONNECT}s",
            "timeout": f"{seconds}s",
        },
        retry_config={
            "max_retries": 1,
            "retry_timeout": timedelta(seconds=seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
    )


def _body(found: GetResult, size: int) -> bytes:
    """Read a response of an expected size, and no more than a chunk beyond it."""
    body = bytearray()
    for chunk in found.stream(min_chunk_size=_CHUNK):
        body += chunk
        if len(body) > size:
            break
    return bytes(body)


def _key(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _digest(key: str) -> Digest | None:
    """Return the digest of an object that a tier has written; None for any other."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    try:
        return Digest.parse(f"{found[1]}:{found[2]}")
    except InvalidDigest:
        return None


def _verified(descriptor: Descriptor, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield chunks, the last one only if all of them are right."""
    verifier = Verifier(descriptor.digest, descriptor.size, f"`{descriptor.digest}`")
    held = b""
    for chunk in chunks:
        verifier.update(chunk)
        if held:
            yield held
        held = chunk
    verifier.finish()
    if held:
        yield held
