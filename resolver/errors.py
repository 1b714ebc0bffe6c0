"""The errors of `resolver`, as one tree.

ResolverError
├── Negative          status 1  the check completed and failed
├── Malformed         status 2  an argument or a file of the user is invalid
├── NotFound          status 3  the registry reports that it does not exist
├── Denied            status 4  the registry refuses these credentials
├── Unavailable       status 5  the registry cannot be reached; a retry may succeed
├── Untrusted         status 6  content fails verification or exceeds a limit
├── Offline           status 7  offline, and the store does not have the content
└── StoreFault        status 8  the local store cannot be read or written

A class is named for what happened. An error has a message of one sentence, facts as attributes,
and the next command to type as `hints()`; it never prints or exits. Remote text goes into the
message unchanged: the printer escapes it (`render.text.escape`).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class ErrorKind(Enum):
    """The kinds of failure; each has an exit status."""

    NEGATIVE = 1
    INPUT = 2
    NOT_FOUND = 3
    DENIED = 4
    UNAVAILABLE = 5
    UNTRUSTED = 6
    OFFLINE = 7
    STORE = 8

    @property
    def status(self) -> int:
        """The exit status of a command that fails with this kind."""
        return self.value


_STEP = 1000.0


def megabytes(count: int) -> str:
    """Format a number of bytes as Docker does: decimal units, three digits.

    Source: docker/go-units, size.go, `HumanSize` (base 1000, four significant digits there).
    """
    if count < _STEP:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= _STEP
        if value < 9.995:  # noqa: PLR2004 - where rounding to two decimals leaves one digit
            return f"{value:.2f} {unit}"
        if value < 99.95:  # noqa: PLR2004 - the same for one decimal
            return f"{value:.1f} {unit}"
        if value < 999.5:  # noqa: PLR2004 - the same for none
            return f"{value:.0f} {unit}"
    return f"{value:.0f} PB"


def size_pair(first: int, second: int) -> tuple[str, str]:
    """Format two sizes that differ; in bytes if they would look the same."""
    words = megabytes(first), megabytes(second)
    return words if words[0] != words[1] else (f"{first} bytes", f"{second} bytes")


class ResolverError(Exception):
    """The base class of all errors that `resolver` raises on purpose.

    A failure has a class of its own when code catches it or several places raise it. Other failures
    are raised as the class of their exit status, with a code and facts of their own.

    Attributes:
        kind: determines the exit status.
        code: a stable name, for scripts that need more than the exit status.
        word: the error class in JSON output: `USAGE`, `NETWORK`, `INTEGRITY`, ….

    """

    kind: ClassVar[ErrorKind]
    code: str
    word: str

    def __init__(
        self, message: str, *hints: str, code: str = "", word: str = "", **facts: object
    ) -> None:
        super().__init__(message)
        self._hints = hints
        if code:
            self.code = code
        if word:
            self.word = word
        vars(self).update(facts)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle message, hints and facts; the arguments of the constructor are not kept."""
        return _unpickled, (type(self), self.args, vars(self))

    def hints(self) -> tuple[str, ...]:
        """Return what to do next, best advice first."""
        return self._hints

    def attach(self, others: Sequence[tuple[str, ResolverError]]) -> None:
        """Record the failures of the places tried before this one, as hints and a fact."""
        if others:
            self.others = tuple(f"{place}: {error}" for place, error in others)
            hints = (f"before that, `{place}`: {error}" for place, error in others)
            self._hints = (*self._hints, *hints)

    def facts(self) -> dict[str, object]:
        """Return the facts of this failure, for JSON; some values need `str` to print."""
        own = {"code", "word"}
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_") and name not in own
        }


def _unpickled(
    kind: type[ResolverError], arguments: tuple[object, ...], state: dict[str, object]
) -> ResolverError:
    error = kind.__new__(kind, *arguments)
    vars(error).update(state)
    return error


class Negative(ResolverError):
    """The check completed, and the answer is no."""

    kind = ErrorKind.NEGATIVE
    code = "negative"
    word = "NEGATIVE"


class Malformed(ResolverError):
    """An argument or a file of the user is invalid."""

    kind = ErrorKind.INPUT
    code = "malformed"
    word = "USAGE"


class Usage(Malformed):
    """Invalid or contradictory options and arguments."""

    code = "usage"


class InvalidReference(Malformed):
    """Text that is not an image reference."""

    code = "invalid-reference"

    def __init__(self, text: str, reason: str, *hints: str) -> None:
        super().__init__(f"`{shortened(text)}` is not an image reference: {reason}", *hints)
        self.text = text
        self.reason = reason


class InvalidDigest(Malformed):
    """Text that is not a digest."""

    code = "invalid-digest"

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(
            f"`{shortened(text)}` is not a digest: {reason}",
            "a digest is written `sha256:` and 64 lower-case hex digits",
        )
        self.text = text
        self.reason = reason


class UnsupportedAlgorithm(InvalidDigest):
    """A well-formed digest whose algorithm is not supported."""

    code = "unsupported-algorithm"


class InvalidPlatform(Malformed):
    """Text that is not a platform."""

    code = "invalid-platform"

    def __init__(self, text: str, reason: str, *hints: str) -> None:
        super().__init__(
            f"`{shortened(text)}` is not a platform: {reason}",
            *hints,
            "write `os/arch[/variant][:os.version]`, for example `linux/arm64`, `linux/arm/v7` "
            "or `windows/amd64:10.0.20348`",
        )
        self.text = text
        self.reason = reason


class InvalidConfiguration(Malformed):
    """A configuration file or an environment variable is invalid.

    The message names the place and the field, never the value, which may be a secret.
    """

    code = "invalid-configuration"
    word = "CONFIG"

    def __init__(self, place: str, field: str, reason: str) -> None:
        at = f" at `{field}`" if field else ""
        super().__init__(
            f"cannot use `{place}`{at}: {reason}", f"fix or remove `{place}`, then try again"
        )
        self.place = place
        self.field = field
        self.reason = reason


class BadFile(Malformed):
    """A file of the user is invalid at a known position.

    The message never quotes the file, which may hold a secret.

    Attributes:
        place: the file.
        line, column: both from 1; 0 for the file as a whole.
        field: names and positions from the top, as in `images[2].require[0]`; may be empty.
    """

    code = "bad-file"
    word = "CONFIG"

    def __init__(
        self, place: str, at: tuple[int, int], field: str, reason: str, *hints: str
    ) -> None:
        self.line, self.column = at
        where = f"{place}:{self.line}:{self.column}" if self.line else place
        named = f" {field}:" if field else ""
        super().__init__(f"{where}:{named} {reason}", *hints)
        self.place = place
        self.field = field
        self.reason = reason


class FileLimit(BadFile):
    """A file of the user exceeds a limit: its size, its depth, or what it expands to."""

    code = "file-limit"


class NotFound(ResolverError):
    """The registry, or another place, reports that it does not exist."""

    kind = ErrorKind.NOT_FOUND
    code = "not-found"
    word = "NOT_FOUND"


class RepositoryNotFound(NotFound):
    """The repository does not exist, or is not visible without a login."""

    code = "repository-not-found"

    def __init__(self, repository: str, host: str) -> None:
        super().__init__(
            f"`{host}` has no repository `{repository}`",
            "check the spelling; a private repository may also need a login",
        )
        self.repository = repository
        self.host = host


class ManifestNotFound(NotFound):
    """The place has no manifest for this tag or digest."""

    code = "manifest-not-found"

    def __init__(
        self, reference: str, place: str, detail: str = "", repository: str = "REPOSITORY"
    ) -> None:
        said = f" ({detail})" if detail else ""
        super().__init__(
            f"`{place}` has no manifest for `{reference}`{said}",
            f"list the tags with `resolver tags {repository}`",
        )
        self.reference = reference
        self.place = place
        self.detail = detail


class BlobNotFound(NotFound):
    """The place has no blob of this digest."""

    code = "blob-not-found"

    def __init__(self, digest: str, place: str) -> None:
        super().__init__(
            f"`{place}` has no blob `{digest}`",
            "the image is incomplete there: push it again, or use another registry",
        )
        self.digest = digest
        self.place = place


class PlatformNotOffered(NotFound):
    """The image exists, but not for the requested platform.

    `offered` lists its platforms in index order; `near` the closest ones, each with the reason
    why it does not match.
    """

    code = "platform-not-offered"
    word = "PLATFORM"

    def __init__(
        self,
        reference: str,
        wanted: str | Sequence[str],
        offered: Sequence[str],
        near: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        super().__init__(f"`{reference}` is not offered for `{' or '.join(self.wanted)}`")
        self.reference = reference
        self.offered = tuple(offered)
        self.near = tuple(near)

    def hints(self) -> tuple[str, ...]:
        """Return the near misses with their reasons, then the platforms on offer."""
        if not self.offered:
            return ("it offers no platform",)
        listing = ", ".join(f"`{platform}`" for platform in self.offered)
        misses = tuple(f"`{platform}` does not match: {reason}" for platform, reason in self.near)
        return (*misses, f"it is offered for {listing}")


class PlatformUnknown(NotFound):
    """A platform was requested, and the image does not state its own."""

    code = "platform-unknown"
    word = "PLATFORM"


class Denied(ResolverError):
    """The registry refuses the request with these credentials, or without any."""

    kind = ErrorKind.DENIED
    code = "denied"
    word = "AUTH"


class AuthenticationRequired(Denied):
    """The registry requires credentials, and none are configured."""

    code = "authentication-required"


class AuthenticationFailed(Denied):
    """The registry refuses the configured credentials."""

    code = "authentication-failed"


class UnsupportedChallenge(Denied):
    """The registry sends no usable challenge, or one for an unsupported scheme."""

    code = "unsupported-challenge"


class UnsafeRealm(Denied):
    """The registry names a token server that must not receive credentials."""

    code = "unsafe-realm"


class BadTokenAnswer(Denied):
    """The token server's response has no usable token."""

    code = "bad-token-answer"


class HelperFailed(Denied):
    """A configured credential helper is missing or broken."""

    code = "helper-failed"


class Unavailable(ResolverError):
    """The registry cannot be reached, or fails; a retry may succeed."""

    kind = ErrorKind.UNAVAILABLE
    code = "unavailable"
    word = "NETWORK"


class ConnectionFailed(Unavailable):
    """The connection failed or broke."""

    code = "connection-failed"


class TlsFailed(Unavailable):
    """TLS failed: the certificate is not accepted, or the server does not support TLS."""

    code = "tls-failed"


class TimedOut(Unavailable):
    """No response arrived within the timeout."""

    code = "timed-out"


class ServerFault(Unavailable):
    """The registry responded with a server error, or with an invalid response."""

    code = "server-fault"


class RedirectRefused(Unavailable):
    """The registry redirects to a URL that must not be followed."""

    code = "redirect-refused"


class AddressRefused(Unavailable):
    """A host name resolves to an address that registries must not use."""

    code = "address-refused"


class RateLimited(Unavailable):
    """Too many requests.

    Attributes:
        retry_after: seconds the server asks to wait; None when it does not state any.

    """

    code = "rate-limited"
    word = "RATELIMIT"

    def __init__(self, host: str, retry_after: float | None, detail: str = "") -> None:
        wait = f"; retry after {retry_after:.0f} s" if retry_after is not None else ""
        said = f": {detail}" if detail else ""
        super().__init__(
            f"`{host}` rejects requests for now: too many requests{wait}{said}",
            "wait, log in for a higher limit, or use a mirror",
        )
        self.host = host
        self.retry_after = retry_after
        self.detail = detail


class Untrusted(ResolverError):
    """Content fails verification or exceeds a limit."""

    kind = ErrorKind.UNTRUSTED
    code = "untrusted"
    word = "INTEGRITY"


class DigestMismatch(Untrusted):
    """Content does not match the digest it was requested by."""

    code = "digest-mismatch"

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{what} should be `{expected}`, but its bytes are `{actual}`",
            "the registry, a mirror or a proxy altered it: try again, then use another source",
        )
        self.what = what
        self.expected = expected
        self.actual = actual


class SizeMismatch(Untrusted):
    """Content does not have the size, in bytes, that its descriptor states."""

    code = "size-mismatch"

    def __init__(self, what: str, expected: int, actual: int) -> None:
        super().__init__(f"{what} should have {expected} bytes, but has {actual}")
        self.what = what
        self.expected = expected
        self.actual = actual


class ChecksumMismatch(Untrusted):
    """Decompressed content does not match the checksum or length in the compressed stream."""

    code = "checksum-mismatch"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} is damaged: {reason}",
            "fetch it again; if that does not help, report it to its publisher",
        )
        self.what = what
        self.reason = reason


class BadDocument(Untrusted):
    """A document violates its format; `field` is the path to the fault."""

    code = "bad-document"
    word = "FORMAT"

    def __init__(self, what: str, field: str, reason: str) -> None:
        at = f" at `{field}`" if field else ""
        super().__init__(f"{what} is malformed{at}: {reason}")
        self.what = what
        self.field = field
        self.reason = reason


class UnsupportedDocument(Untrusted):
    """A document uses a known format or feature that is not supported."""

    code = "unsupported-document"
    word = "UNSUPPORTED"

    def __init__(self, what: str, field: str, reason: str, *hints: str) -> None:
        at = f" at `{field}`" if field else ""
        super().__init__(f"{what} is not supported{at}: {reason}", *hints)
        self.what = what
        self.field = field
        self.reason = reason


class LimitExceeded(Untrusted):
    """Content exceeds a limit that protects against hostile input."""

    code = "limit-exceeded"
    word = "LIMIT"

    def __init__(
        self, what: str, limit: int, value: int | str, unit: str = "bytes", *hints: str
    ) -> None:
        super().__init__(f"{what} exceeds the limit of {limit} {unit}: {value}", *hints)
        self.what = what
        self.limit = limit
        self.value = value
        self.unit = unit


class Offline(ResolverError):
    """Only local content may be used, and it does not suffice."""

    kind = ErrorKind.OFFLINE
    code = "offline"
    word = "OFFLINE"


class NotInStore(Offline):
    """`--offline` is set, and the store does not have the content."""

    code = "not-in-store"

    def __init__(self, reference: str, what: str, store: str) -> None:
        super().__init__(
            f"the store `{store}` does not hold {what} of `{reference}`, and `--offline` is set",
            "run the same command once without `--offline`",
        )
        self.reference = reference
        self.what = what
        self.store = store


class StoreFault(ResolverError):
    """The local store cannot be read or written."""

    kind = ErrorKind.STORE
    code = "store-fault"
    word = "STORE"

    def __init__(self, path: str, reason: str, *hints: str, **facts: object) -> None:
        super().__init__(f"the store cannot be used at `{path}`: {reason}", *hints)
        vars(self).update(facts)
        self.path = path
        self.reason = reason

    def after(self, come: int, wanted: int) -> None:
        """Add a hint: an interrupted pull keeps `come` of `wanted` blobs and documents."""
        left = (
            f"{come} of {wanted} pieces are kept, and only the rest is fetched"
            if come
            else "the store is unchanged"
        )
        self._hints = (*self._hints, f"then pull again: {left}")


class OutputFault(ResolverError):
    """The output cannot be written to its destination."""

    kind = ErrorKind.STORE
    code = "output-fault"
    word = "STORE"


class RangeRefused(Unavailable):
    """The response to a range request is not the requested range."""

    code = "range-refused"


class StorageRefused(Unavailable):
    """The storage that a registry redirects to refuses the blob; such links expire."""

    code = "storage-refused"


class NotHeld(NotFound):
    """The store does not have an image, or a part of one, because it was not pulled.

    `missing` says which part; empty when nothing of it was pulled.
    """

    code = "not-held"

    def __init__(self, reference: str, missing: str, command: str) -> None:
        what = f"{missing} of `{reference}`" if missing else f"`{reference}`"
        super().__init__(f"the store does not hold {what}", f"fetch it with `{command}`")
        self.reference = reference
        self.missing = missing


class ExportFault(OutputFault):
    """An export cannot be written to its destination."""

    code = "export-fault"

    def __init__(self, path: str, reason: str, *hints: str) -> None:
        super().__init__(f"cannot export to `{path}`: {reason}", *hints)
        self.path = path
        self.reason = reason


class ToolMissing(OutputFault):
    """The tool to load the images with is not installed."""

    code = "tool-missing"

    def __init__(self, tool: str, command: str) -> None:
        super().__init__(
            f"`{tool}` is not on PATH, so nothing was exported",
            f"export to a file with `--to images.tar`, then run `{command} < images.tar` "
            f"where `{tool}` is",
        )
        self.tool = tool
        self.command = command


class ToolFailed(OutputFault):
    """The tool to load the images with failed.

    `detail` is the end of its output, not escaped.
    """

    code = "tool-failed"

    def __init__(self, command: str, status: int, detail: str, *hints: str) -> None:
        how = f"it ended with status {status}" if status >= 0 else f"signal {-status} ended it"
        said = f": {detail}" if detail else ""
        super().__init__(f"`{command}` could not load the images: {how}{said}", *hints)
        self.command = command
        self.status = status
        self.detail = detail


class ImageNotHeld(NotFound):
    """The store holds no image of this name, id or platform."""

    code = "image-not-held"

    def __init__(self, target: str, store: str, detail: str = "") -> None:
        said = f" {detail}" if detail else ""
        super().__init__(
            f"the store `{store}` does not hold `{shortened(target)}`{said}",
            "list its images with `resolver ls`",
        )
        self.target = target
        self.store = store


class RegistryBlocked(Denied):
    """The user's configuration blocks the registry."""

    code = "registry-blocked"

    def __init__(self, name: str, source: str) -> None:
        super().__init__(
            f"`{name}` is blocked by `{source}`",
            f"use another registry, or remove `blocked` from `{source}`",
        )
        self.name = name
        self.source = source


class BadLock(Malformed):
    """A lock file is invalid; `field` is the path to the fault."""

    code = "bad-lock"
    word = "FORMAT"

    def __init__(self, place: str, field: str, reason: str, *hints: str) -> None:
        at = f" at `{field}`" if field else ""
        super().__init__(
            f"the lock file `{place}` is malformed{at}: {reason}",
            *(
                hints
                or ("restore it from version control, or write it again with `resolver lock`",)
            ),
        )
        self.place = place
        self.field = field
        self.reason = reason


class LockLimit(BadLock):
    """A lock file exceeds a limit; `field` is the path to what does."""

    code = "lock-limit"
    word = "LIMIT"


class NotLocked(Offline):
    """`--locked` is set, and the lock lacks the reference or the platform."""

    code = "not-locked"

    def __init__(self, reference: str, place: str, wanted: str, *hints: str) -> None:
        what = f"`{reference}` for `{wanted}`" if wanted else f"`{reference}`"
        super().__init__(f"the lock file `{place}` does not have {what}", *hints)
        self.reference = reference
        self.place = place
        self.wanted = (wanted,) if wanted else ()


class UnreadableFile(Malformed):
    """A file that names images cannot be parsed; it is left unchanged."""

    code = "unreadable-file"
    word = "CONFIG"

    def __init__(self, path: str, reason: str, *hints: str, line: int = 1, column: int = 1) -> None:
        where = f" (line {line}, column {column})" if (line, column) != (1, 1) else ""
        super().__init__(f"`{path}` is unchanged: {reason}{where}", *hints)
        self.path = path
        self.reason = reason
        self.line = line
        self.column = column


class NotAnImageFile(Malformed):
    """A file has no type that is known to name images."""

    code = "not-an-image-file"

    def __init__(self, path: str, known: str) -> None:
        super().__init__(
            f"`{path}` is not a file type that `pin` supports", f"`pin` supports {known}"
        )
        self.path = path
        self.known = known


def shortened(text: str, limit: int = 120) -> str:
    """Cut text from a user or a registry to fit into one line of a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
