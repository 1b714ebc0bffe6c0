"""Take pushes: a registry for tests and CI jobs over the store.

What is pushed to PATH is kept as `localhost/PATH`. Names of other registries are served and never
changed; a path that was pushed to has the tags that were pushed.

Source: OCI distribution-spec, "Push", "Content Management", "Listing Referrers" (main of July
2026: `digest-algorithm`, `tag` parameters of a manifest, cancelling an upload).
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import DOCUMENT_TYPES, Descriptor
from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.core.oci.manifest import (
    MAX_DEPTH,
    MAX_DOCUMENT,
    Attached,
    Index,
    Manifest,
    kind_of,
    parse_config,
    parse_document,
    refers_to,
)
from resolver.core.oci.reference import Reference, is_tag
from resolver.core.results.pull import PulledImage, PulledName
from resolver.errors import (
    DigestMismatch,
    InvalidDigest,
    Malformed,
    ResolverError,
    StoreFault,
    Untrusted,
    Usage,
)
from resolver.settings import KEEP_UNTAGGED
from resolver.store.names import merged
from resolver.store.uploads import UploadBusy
from resolver.values import dataclass
from resolver.verbs.serve.api import ServerResponse, answer, is_repository, lists_tag, problem
from resolver.verbs.serve.catalog import StoreShelf
from resolver.verbs.serve.passwords import CHALLENGE, Passwords
from resolver.verbs.serve.shared_fetch import RegularFile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from resolver.clock import Clock
    from resolver.core.platforms.platform import Platform
    from resolver.store import LocalStore
    from resolver.store.leases import Lease
    from resolver.store.uploads import Upload
    from resolver.verbs.serve.connections import Head, RequestBody, Waits

logger = logging.getLogger(__name__)

#: The registry under which pushes are kept.
HERE = "localhost"
#: Bytes of a body that are read after an early answer, so that the client gets to see it.
_DRAINED = 8 << 20
#: Tags of one request. The specification asks for at least 10.
_MAX_TAGS = 100
_UPLOADS = re.compile(r"/v2/(.+)/blobs/uploads/?", re.DOTALL)
_SESSION = re.compile(r"/v2/(.+)/blobs/uploads/([0-9a-f]{32})", re.DOTALL)
_CONTENT = re.compile(r"/v2/(.+)/(manifests|blobs)/([^/]+)", re.DOTALL)
# Source: distribution-spec, "Pushing a blob in chunks".
_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.response = problem(status, code, message, *headers)


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What a writable registry allows.

    Attributes:
        htpasswd: file of users and bcrypt hashes; None for no authentication.
        keep_untagged: seconds for which a manifest without a tag is kept.
        allow_sparse: accept an index whose entries are not all here.

    """

    htpasswd: str | None = None
    keep_untagged: float = KEEP_UNTAGGED
    allow_sparse: bool = False


class PushedShelf(StoreShelf):
    """A `StoreShelf` that also serves what was pushed to a path, under that path."""

    def repositories(self) -> list[str]:
        """List all repositories; pushed ones by their paths."""
        names = super().repositories()
        return sorted({name.removeprefix(f"{HERE}/") for name in names})

    def tags(self, repository: str) -> list[str] | None:
        """List the tags of one."""
        tags = super().tags(f"{HERE}/{repository}")
        if tags is None:
            is_pushed = self._store.uploads.is_marked(repository)
            tags = [] if is_pushed else super().tags(repository)
        return tags

    def document(self, repository: str, name: str) -> Document | None:
        """Find a document by tag or digest; an index that was pushed is never shortened."""
        is_digest = ":" in name
        record = self._store.pulled(f"{HERE}/{repository}{'@' if is_digest else ':'}{name}")
        if record is not None:
            body = self._store.load(record.root.digest)
            if body is not None:
                return Document(record.root, body)
        pushed = f"{HERE}/{repository}"
        if is_digest:
            return super().document(pushed, name) or super().document(repository, name)
        return None if super().tags(pushed) is not None else super().document(repository, name)

    def blob(self, repository: str, digest: Digest) -> RegularFile | None:
        """Find a blob that was uploaded, or that belongs to a manifest."""
        if self._store.uploads.is_marked(repository, digest):
            file = self.file(digest)
            if file is not None:
                return file
        return self.needed_blob(repository, digest)

    def needed_blob(self, repository: str, digest: Digest) -> RegularFile | None:
        """Find a blob that belongs to a manifest."""
        return super().blob(f"{HERE}/{repository}", digest) or super().blob(repository, digest)

    def referrers(self, repository: str, digest: Digest) -> list[Document]:
        """List the manifests that refer to a document."""
        found = {
            document.descriptor.digest: document
            for name in (repository, f"{HERE}/{repository}")
            for document in super(PushedShelf, self).referrers(name, digest)
        }
        return list(found.values())

    def file(self, digest: Digest) -> RegularFile | None:
        """Find the file of some content; None if the store does not have it."""
        file = RegularFile(str(self._store.root), ("blobs", digest.algorithm, digest.hex))
        try:
            file.open().close()
        except OSError:
            return None
        return file


class Writer:
    """Answers every request of a writable registry.

    Args:
        store: receives the content.
        lease: protects it meanwhile.
        options: what is allowed.
        clock: for the time of a push.

    """

    def __init__(
        self, store: LocalStore, lease: Lease, options: WriteOptions, clock: Clock
    ) -> None:
        self._store = store
        self._lease = lease
        self._options = options
        self._clock = clock
        self._claimed: set[Digest] = set()
        self._guard = threading.Lock()
        self._passwords = None if options.htpasswd is None else Passwords(options.htpasswd)
        self.shelf = PushedShelf(store, self._claim)

    def respond(
        self, head: Head, body: RequestBody
    ) -> Generator[Waits | float, None, ServerResponse]:
        """Answer one request; see `server.Responder`.

        Raises:
            ResolverError: the store cannot be read or written.
            OSError: the client has disconnected.

        """
        try:
            if self._passwords is None or self._passwords.admit(head):
                given = yield from self.route(head, body)
            else:
                given = problem(401, "UNAUTHORIZED", "authentication is required", CHALLENGE)
        except Refused as error:
            given = error.response
        except InvalidDigest as error:
            given = problem(400, "DIGEST_INVALID", f"this is not a digest: {error.reason}")
        except UploadBusy:
            given = problem(409, "BLOB_UPLOAD_INVALID", "another request writes to this upload")
        except StoreFault:
            logger.warning("cannot answer %s %r", head.method, head.target, exc_info=True)
            given = problem(500, "UNKNOWN", "the store cannot be read or written")
        yield from body.drain(_DRAINED)
        return given

    def route(
        self, head: Head, body: RequestBody
    ) -> Generator[Waits | float, None, ServerResponse]:
        """Answer a request that is allowed."""
        path, _, query = head.target.partition("?")
        path = unquote(path)
        session = _SESSION.fullmatch(path)
        if session is not None:
            return (yield from self._session(head, body, session[1], session[2], query))
        if head.method in ("GET", "HEAD"):
            return answer(self.shelf, head.target)
        begins, content = _UPLOADS.fullmatch(path), _CONTENT.fullmatch(path)
        if begins is not None and head.method == "POST":
            return (yield from self._post(body, _repository(begins[1]), query))
        if content is not None and content[2] == "manifests" and head.method == "PUT":
            repository = _repository(content[1])
            return (yield from self._put_manifest(head, body, repository, content[3], query))
        if content is not None and head.method == "DELETE":
            delete = self._delete_manifest if content[2] == "manifests" else self._delete_blob
            return delete(_repository(content[1]), content[3])
        if begins is None and content is None:
            raise Refused(404, "UNSUPPORTED", "there is no such endpoint")
        raise Refused(405, "UNSUPPORTED", f"{head.method} is not supported here")

    # --- blobs -----------------------------------------------------------------------------

    def _post(
        self, body: RequestBody, repository: str, query: str
    ) -> Generator[Waits | float, None, ServerResponse]:
        """Begin an upload, mount a blob, or take a whole one."""
        parameters = parse_qs(query, keep_blank_values=True)
        algorithm = parameters.get("digest-algorithm", ["sha256"])[0]
        if algorithm not in HEX_DIGITS:
            raise Refused(400, "UNSUPPORTED", f"the algorithm must be one of {_ALGORITHMS}")
        if "mount" in parameters:
            digest = Digest.parse(parameters["mount"][0])
            if self._mount(repository, digest, parameters.get("from", [""])[0]):
                return _created(repository, digest)
        whole = parameters.get("digest")
        digest_of_body = None if whole is None else Digest.parse(whole[0])
        self._store.uploads.mark(repository)
        if digest_of_body is not None:
            algorithm = digest_of_body.algorithm
        identity, upload = self._store.uploads.begin(repository, algorithm)
        try:
            if digest_of_body is None:
                return _accepted(repository, identity, 0)
            yield from _receive(upload, body)
            return self._finish(upload, repository, digest_of_body)
        finally:
            if digest_of_body is not None:
                # Its client does not know the session.
                upload.remove()
            self._store.uploads.leave(upload)

    def _mount(self, repository: str, digest: Digest, source: str) -> bool:
        """Make a blob one of this repository; from any repository if no source is given.

        Every client may read everything here, so that a digest is all it takes.
        """
        self._claim((digest,))
        if source:
            is_here = is_repository(source) and self.shelf.blob(source, digest) is not None
        else:
            is_here = self.shelf.file(digest) is not None
        if is_here:
            self._store.uploads.mark(repository)
            self._store.uploads.mark(repository, digest)
        return is_here

    def _session(
        self, head: Head, body: RequestBody, repository: str, identity: str, query: str
    ) -> Generator[Waits | float, None, ServerResponse]:
        """Answer a request for an upload."""
        repository = _repository(repository)
        if head.method in ("GET", "HEAD"):
            # A look does not end the request that writes.
            size = self._store.uploads.size(repository, identity)
            if size is not None:
                return _state(204, repository, identity, size)
        upload = self._store.uploads.resume(repository, identity)
        if upload is None:
            raise Refused(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
        try:
            match head.method:
                case "DELETE":
                    upload.remove()
                    return ServerResponse(204, ())
                case "PATCH":
                    upload.begin(_position(head, body, upload, repository, identity))
                    yield from _receive(upload, body)
                    upload.commit()
                    return _accepted(repository, identity, upload.size)
                case "PUT":
                    digest = _digest(query)
                    at = upload.size if not body.length and body.is_over else None
                    if at is None:
                        at = _position(head, body, upload, repository, identity)
                    upload.begin(at, digest.algorithm)
                    yield from _receive(upload, body)
                    return self._finish(upload, repository, digest)
                case _:
                    raise Refused(405, "UNSUPPORTED", f"{head.method} is not supported here")
        finally:
            self._store.uploads.leave(upload)

    def _finish(self, upload: Upload, repository: str, digest: Digest) -> ServerResponse:
        try:
            upload.finish(digest)
        except DigestMismatch as error:
            message = f"the bytes are `{error.actual}`; the upload is removed"
            raise Refused(400, "DIGEST_INVALID", message) from error
        self._store.uploads.mark(repository, digest)
        return _created(repository, digest)

    def _delete_blob(self, repository: str, name: str) -> ServerResponse:
        """Take a blob from a repository; `gc` removes its bytes when nothing needs them."""
        digest = Digest.parse(name)
        if self.shelf.needed_blob(repository, digest) is not None:
            message = "a manifest needs this blob: delete the manifest first"
            raise Refused(405, "UNSUPPORTED", message, ("Allow", "GET, HEAD"))
        if not self._store.uploads.unmark(repository, digest):
            raise Refused(404, "BLOB_UNKNOWN", "there is no such blob in this repository")
        return ServerResponse(202, ())

    # --- manifests -------------------------------------------------------------------------

    def _put_manifest(
        self, head: Head, body: RequestBody, repository: str, name: str, query: str
    ) -> Generator[Waits | float, None, ServerResponse]:
        content = yield from body.read_all(MAX_DOCUMENT)
        if content is None:
            message = f"a manifest may have at most {MAX_DOCUMENT} bytes"
            raise Refused(413, "SIZE_INVALID", message)
        parameters = parse_qs(query)
        # Before the parameter `tag` was specified, clients named the algorithm of a tag like this.
        named = name if ":" in name else parameters.get("digest", [""])[0]
        digest = Digest.parse(named) if named else Digest.of(content)
        if _hex(digest.algorithm, content) != digest.hex:
            message = "the bytes of the manifest have another digest"
            raise Refused(400, "DIGEST_INVALID", message)
        more = parameters.get("tag", []) if ":" in name else [name]
        tags = tuple(dict.fromkeys(more))
        if any(not is_tag(tag) for tag in tags):
            raise Refused(400, "TAG_INVALID", "this is not a tag")
        if len(tags) > _MAX_TAGS:
            raise Refused(414, "UNSUPPORTED", f"a request may have at most {_MAX_TAGS} tags")
        try:
            kind = (head.all("content-type") or [""])[0]
            parsed = parse_document(content, kind, f"`{digest}`")
        except Untrusted as error:
            raise Refused(400, "MANIFEST_INVALID", str(error)) from error
        root = Descriptor(parsed.media_type, digest, len(content))
        expected = _Expected(head.joined("if-match"), head.joined("if-none-match"))
        return self.put(repository, Document(root, content), parsed, tags, expected)

    def put(
        self,
        repository: str,
        document: Document,
        parsed: Index | Manifest,
        tags: Sequence[str],
        expected: Callable[[Digest | None], bool] = lambda _: True,
    ) -> ServerResponse:
        """Keep a manifest, and name it by its tags; by its digest alone if there are none.

        Raises:
            Refused: it needs content that is not here, or a tag points elsewhere than expected.

        """
        root = document.descriptor
        self._claim((root.digest, *(part.digest for part in _parts(parsed))))
        self._refuse_missing(repository, parsed)
        self._store.add_document(document)
        now = int(self._clock.wall())
        entries = tuple(self._entries(root, parsed, 0))
        images = tuple(each for each in entries if isinstance(each, PulledImage))
        attached = tuple(each for each in entries if isinstance(each, Attached))
        names = [f"{HERE}/{repository}:{tag}" for tag in tags]
        for name in names or [f"{HERE}/{repository}@{root.digest}"]:
            expires = 0 if names else self._expiry(now)
            self._name(PulledName(name, root, images, now, attached, expires), expected)
        self._store.uploads.mark(repository)
        headers = [
            ("Location", f"/v2/{repository}/manifests/{root.digest}"),
            ("Docker-Content-Digest", str(root.digest)),
        ]
        if parsed.subject is not None:
            headers.append(("OCI-Subject", str(parsed.subject.digest)))
        if tags:
            headers.append(("OCI-Tag", ", ".join(tags)))
        return ServerResponse(201, tuple(headers))

    def _name(self, record: PulledName, expected: Callable[[Digest | None], bool]) -> None:
        """Record a name; what a tag pointed at before is kept by its digest for a while."""
        before: PulledName | None = None

        def merge(known: PulledName | None, new: PulledName) -> PulledName:
            nonlocal before
            if not expected(None if known is None else known.root.digest):
                raise Refused(412, "DENIED", "the tag does not point at what is expected")
            before = known
            return merged(known, new)

        self._store.name(record, merge=merge)
        if before is not None and before.root.digest != record.root.digest:
            self._keep_untagged(before)

    def _keep_untagged(self, record: PulledName) -> None:
        identity = Reference.parse(record.reference).identity
        now = int(self._clock.wall())
        by_digest = PulledName(
            f"{identity}@{record.root.digest}",
            record.root,
            record.images,
            now,
            record.attached,
            self._expiry(now),
        )
        self._store.name(by_digest)

    def _expiry(self, now: int) -> int:
        return now + max(1, int(self._options.keep_untagged))

    def _refuse_missing(self, repository: str, parsed: Index | Manifest) -> None:
        """Refuse a manifest that names content which its repository does not have."""
        if isinstance(parsed, Index) and self._options.allow_sparse:
            return
        for part in _parts(parsed):
            if not part.urls and not self._has(
                repository, part, is_child=isinstance(parsed, Index)
            ):
                message = f"the repository does not have `{part.digest}` of {part.size} bytes"
                raise Refused(404, "MANIFEST_BLOB_UNKNOWN", message)

    def _has(self, repository: str, part: Descriptor, *, is_child: bool) -> bool:
        if not part.digest.is_verifiable or not self._store.has(part):
            return False
        if is_child and part.media_type in DOCUMENT_TYPES:
            return self.shelf.document(repository, str(part.digest)) is not None
        return self.shelf.blob(repository, part.digest) is not None

    def _entries(
        self, descriptor: Descriptor, parsed: Index | Manifest, depth: int
    ) -> Iterator[PulledImage | Attached]:
        """Yield the images below a document, and what accompanies them, as far as it is here."""
        if isinstance(parsed, Manifest):
            kind = kind_of(descriptor, parsed)
            if kind == "image":
                yield PulledImage(descriptor.platform or self._platform(parsed), descriptor)
            else:
                yield Attached(kind, descriptor, refers_to(descriptor))
            return
        for child in parsed.manifests:
            if not child.digest.is_verifiable or not self._store.has(child):
                continue
            if child.media_type not in DOCUMENT_TYPES:
                yield Attached("artifact", child, refers_to(child))
            elif depth < MAX_DEPTH:
                inner = parse_document(self._store.read(child), None, f"`{child.digest}`")
                yield from self._entries(child, inner, depth + 1)

    def _platform(self, manifest: Manifest) -> Platform | None:
        """Read the platform of an image from its config; None if it states none."""
        if manifest.config is None:
            return None
        try:
            body = self._store.read(manifest.config)
            return parse_config(body, f"`{manifest.config.digest}`", None).platform
        except (ResolverError, ValueError):
            return None

    def _delete_manifest(self, repository: str, name: str) -> ServerResponse:
        prefix = f"{HERE}/{repository}"
        if ":" not in name:
            record = self._store.pulled(f"{prefix}:{name}") if is_tag(name) else None
            if record is None:
                raise Refused(404, "MANIFEST_UNKNOWN", "there is no such tag in this repository")
            self._keep_untagged(record)
            self._store.unname(record.reference)
            return ServerResponse(202, ())
        digest = Digest.parse(name)
        document = self.shelf.document(repository, str(digest))
        if document is None:
            raise Refused(404, "MANIFEST_UNKNOWN", "there is no such manifest in this repository")
        mine = [
            record
            for record in self._store.pulled_names()
            if record.reference.startswith((f"{prefix}:", f"{prefix}@"))
        ]
        if any(digest in self._children(record) for record in mine):
            message = "an index lists this manifest: delete the index first"
            raise Refused(405, "UNSUPPORTED", message, ("Allow", "GET, HEAD, PUT"))
        owned = [record.reference for record in mine if record.root.digest == digest]
        if not owned:
            message = "this manifest belongs to another registry"
            raise Refused(405, "UNSUPPORTED", message, ("Allow", "GET, HEAD, PUT"))
        for reference in owned:
            self._store.unname(reference)
        return ServerResponse(202, ())

    def _children(self, record: PulledName) -> set[Digest]:
        """Return what the index of a name lists, at any depth."""
        found: set[Digest] = set()
        waiting = [record.root]
        while waiting:
            descriptor = waiting.pop()
            body = self._store.load(descriptor.digest) if descriptor.is_index else None
            if body is None:
                continue
            parsed = parse_document(body, None, f"`{descriptor.digest}`")
            for child in parsed.manifests if isinstance(parsed, Index) else ():
                if child.digest not in found and child.digest.is_verifiable:
                    found.add(child.digest)
                    waiting.append(child)
        return found

    def _claim(self, digests: Iterable[Digest]) -> None:
        """Protect content from collection as long as the server runs."""
        with self._guard:
            new = {digest for digest in digests if digest.is_verifiable} - self._claimed
            if new:
                self._lease.add(new)
                self._claimed |= new


@dataclass(frozen=True, slots=True)
class _Expected:
    """The conditions of a push by tag. Source: RFC 9110, 13.1.1 and 13.1.2."""

    if_match: str | None
    if_none_match: str | None

    def __call__(self, current: Digest | None) -> bool:
        """Whether the tag may move from this digest; None where there is no such tag."""
        if current is None:
            return self.if_match is None
        tag = f'"{current}"'
        if self.if_match is not None and not lists_tag(self.if_match, tag, weakly=False):
            return False
        return self.if_none_match is None or not lists_tag(self.if_none_match, tag, weakly=True)


_ALGORITHMS = ", ".join(HEX_DIGITS)


def _repository(name: str) -> str:
    """Check the name of a repository.

    Raises:
        Refused: it is not one, or is too long to be kept.

    """
    try:
        if is_repository(name):
            Reference.parse(f"{HERE}/{name}:latest")
            return name
    except Malformed:
        pass
    raise Refused(400, "NAME_INVALID", "this is not a repository name")


def _digest(query: str) -> Digest:
    found = parse_qs(query).get("digest", [])
    if len(found) != 1:
        raise Refused(400, "DIGEST_INVALID", "the request has no single `digest`")
    return Digest.parse(found[0])


def _hex(algorithm: str, content: bytes) -> str:
    return hashlib.new(algorithm, content).hexdigest()


def _parts(parsed: Index | Manifest) -> tuple[Descriptor, ...]:
    """Return what a document consists of; its subject may be absent."""
    if isinstance(parsed, Index):
        return parsed.manifests
    return (*parsed.layers, *(() if parsed.config is None else (parsed.config,)))


def _receive(upload: Upload, body: RequestBody) -> Generator[Waits, None, None]:
    """Append a body to an upload; what has come stays if the client disconnects."""
    while piece := (yield from body.read()):
        upload.write(piece)


def _position(head: Head, body: RequestBody, upload: Upload, repository: str, identity: str) -> int:
    """Return where the body of a request belongs.

    Without `Content-Range` it follows the last completed request, since the client of one that was
    cut sends it again.

    Raises:
        Refused: it does not follow what is here, or its length is another one.

    """
    text = head.joined("content-range")
    if text is None:
        return upload.committed
    found = _RANGE.fullmatch(text.removeprefix("bytes ").partition("/")[0].strip())
    if found is None:
        raise Refused(400, "BLOB_UPLOAD_INVALID", "`Content-Range` must be `FIRST-LAST`")
    first, last = int(found[1]), int(found[2])
    if body.length is not None and last - first + 1 != body.length:
        message = "`Content-Range` and `Content-Length` state different sizes"
        raise Refused(400, "SIZE_INVALID", message)
    if not upload.committed <= first <= upload.size:
        headers = _state(0, repository, identity, upload.size).headers
        message = f"the next chunk must begin at byte {upload.size}"
        raise Refused(416, "BLOB_UPLOAD_INVALID", message, *headers)
    return first


def _state(status: int, repository: str, identity: str, size: int) -> ServerResponse:
    """Describe an upload. `0-0` also means that nothing has come: there is no other way."""
    return ServerResponse(
        status,
        (
            ("Location", f"/v2/{repository}/blobs/uploads/{identity}"),
            ("Range", f"0-{max(0, size - 1)}"),
            ("Docker-Upload-UUID", identity),
        ),
    )


def _accepted(repository: str, identity: str, size: int) -> ServerResponse:
    return _state(202, repository, identity, size)


def _created(repository: str, digest: Digest) -> ServerResponse:
    location = ("Location", f"/v2/{repository}/blobs/{digest}")
    return ServerResponse(201, (location, ("Docker-Content-Digest", str(digest))))


def refuse_open(host: str, options: WriteOptions) -> None:
    """Refuse to take pushes from other machines without authentication.

    Raises:
        Usage: the address is not on this machine, and there is no file of users.

    """
    if options.htpasswd is not None or host.lower() == "localhost":
        return
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise Usage(
            f"`--writable` on `{host}` would let other machines push without a password",
            "add `--htpasswd FILE`, or listen on `127.0.0.1`",
        )
