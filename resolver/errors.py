"""Every way a question can fail, as one tree.

ResolverError
├── Negative          status 1  found out, and the answer is no
├── Malformed         status 2  the question, or a file of the user's, is wrong
├── NotFound          status 3  the registry answered: there is no such thing
├── Denied            status 4  the registry answered: not with these credentials
├── Unavailable       status 5  nobody could be asked; the same call may pass later
├── Untrusted         status 6  bytes are not what they claim, or go past a limit
├── Offline           status 7  only the store may answer, and it does not know
└── StoreFault        status 8  the local store cannot be read or written

An error is named for what happened. It carries one sentence, its facts as attributes, and the
next thing to type as `hints()`; it never prints and never exits. Text that came from elsewhere is
put into the sentence as it is: the printer escapes it (`render.escape`).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class ErrorKind(Enum):
    """What a failure means for the caller; one exit status each (architecture.md 2.6)."""

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
        """The exit status of a command that ends with this kind."""
        return self.value


class ResolverError(Exception):
    """The root: catch this to catch everything that `resolver` raises on purpose.

    A class exists for each failure that code catches, or that several places raise. Others are
    raised as the class of their exit status, with a code and facts of their own.

    Attributes:
        kind: decides the exit status.
        code: stable, for scripts that need more than the status.
        word: the class of the catalogue (`USAGE`, `NETWORK`, `INTEGRITY`, …), for JSON.

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

    def hints(self) -> tuple[str, ...]:
        """Say what to do next, best advice first; empty when there is nothing useful to say."""
        return self._hints

    def attach(self, others: Sequence[tuple[str, ResolverError]]) -> None:
        """Keep what other places answered before this one did; hints and facts tell it."""
        if others:
            self.others = tuple(f"{place}: {error}" for place, error in others)
            told = (f"before that, `{place}`: {error}" for place, error in others)
            self._hints = (*self._hints, *told)

    def facts(self) -> dict[str, object]:
        """Give the attributes of this failure, for JSON; values print with `str` where needed."""
        own = {"code", "word"}
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_") and name not in own
        }


class Negative(ResolverError):
    """The question was answered, and the answer is no."""

    kind = ErrorKind.NEGATIVE
    code = "negative"
    word = "NEGATIVE"


class Malformed(ResolverError):
    """The question cannot be asked as it stands."""

    kind = ErrorKind.INPUT
    code = "malformed"
    word = "USAGE"


class Usage(Malformed):
    """Options or arguments that do not fit together."""

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
    """A well-formed digest of an algorithm that cannot be checked here."""

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
    """A file of the user's, or a variable, says something that cannot be used.

    The message names place and field and never the value: it may be a secret.
    """

    code = "invalid-configuration"
    word = "CONFIG"

    def __init__(self, place: str, field: str, reason: str) -> None:
        at = f" at `{field}`" if field else ""
        super().__init__(
            f"cannot use `{place}`{at}: {reason}", f"mend or remove `{place}`, then try again"
        )
        self.place = place
        self.field = field
        self.reason = reason


class BadFile(Malformed):
    """A file that somebody wrote says something that cannot be used, and where.

    The message never quotes the file: what stands there may be a secret.

    Attributes:
        place: the file.
        line, column: both from 1; 0 when the file as a whole is meant.
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
    """A file that somebody wrote goes past a limit: too large, too deep, or it grows when read."""

    code = "file-limit"


class NotFound(ResolverError):
    """The registry, or the place, answered that there is no such thing."""

    kind = ErrorKind.NOT_FOUND
    code = "not-found"
    word = "NOT_FOUND"


class RepositoryNotFound(NotFound):
    """There is no such repository, or it is not visible."""

    code = "repository-not-found"

    def __init__(self, repository: str, host: str) -> None:
        super().__init__(
            f"`{host}` has no repository `{repository}`",
            "check the spelling; a private repository may also need a login",
        )
        self.repository = repository
        self.host = host


class ManifestNotFound(NotFound):
    """The place answered that it has no manifest of this tag or digest."""

    code = "manifest-not-found"

    def __init__(
        self, reference: str, place: str, detail: str = "", repository: str = "REPOSITORY"
    ) -> None:
        said = f" ({detail})" if detail else ""
        super().__init__(
            f"`{place}` has no manifest for `{reference}`{said}",
            f"list what there is with `resolver tags {repository}`",
        )
        self.reference = reference
        self.place = place
        self.detail = detail


class BlobNotFound(NotFound):
    """The place answered that it has no blob of this digest."""

    code = "blob-not-found"

    def __init__(self, digest: str, place: str) -> None:
        super().__init__(
            f"`{place}` has no blob `{digest}`",
            "the image is incomplete there: push it again, or use another registry",
        )
        self.digest = digest
        self.place = place


class PlatformNotOffered(NotFound):
    """The image exists, but not for the wanted platform.

    `offered` holds the platforms there are, in index order, as text; `near` the relatives and
    why each one lost.
    """

    code = "platform-not-offered"
    word = "PLATFORM"

    def __init__(
        self,
        reference: str,
        wanted: str,
        offered: Sequence[str],
        near: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(f"`{reference}` is not offered for `{wanted}`")
        self.reference = reference
        self.wanted = wanted
        self.offered = tuple(offered)
        self.near = tuple(near)

    def hints(self) -> tuple[str, ...]:
        """List what is offered, and why the near misses are none."""
        if not self.offered:
            return ("it is offered for no platform at all",)
        listing = ", ".join(f"`{platform}`" for platform in self.offered)
        misses = tuple(f"`{platform}` does not do: {reason}" for platform, reason in self.near)
        return (*misses, f"it is offered for {listing}")


class PlatformUnknown(NotFound):
    """A platform was asked for, and the image does not say what it is made for."""

    code = "platform-unknown"
    word = "PLATFORM"


class Denied(ResolverError):
    """The registry answered: not with these credentials, or with none."""

    kind = ErrorKind.DENIED
    code = "denied"
    word = "AUTH"


class AuthenticationRequired(Denied):
    """Nothing was offered, and the registry wants something."""

    code = "authentication-required"


class AuthenticationFailed(Denied):
    """What was offered was refused."""

    code = "authentication-failed"


class UnsupportedChallenge(Denied):
    """The registry asks for a scheme that is not spoken here, or sends no usable challenge."""

    code = "unsupported-challenge"


class UnsafeRealm(Denied):
    """The registry names a token server that must not be given credentials."""

    code = "unsafe-realm"


class BadTokenAnswer(Denied):
    """The token server's answer is not a token."""

    code = "bad-token-answer"


class HelperFailed(Denied):
    """A configured credential helper is missing or broken."""

    code = "helper-failed"


class Unavailable(ResolverError):
    """Nobody could be asked; the same call may pass later."""

    kind = ErrorKind.UNAVAILABLE
    code = "unavailable"
    word = "NETWORK"


class ConnectionFailed(Unavailable):
    """No connection, or it broke."""

    code = "connection-failed"


class TlsFailed(Unavailable):
    """The other end could not prove who it is, or does not speak TLS."""

    code = "tls-failed"


class TimedOut(Unavailable):
    """No answer in the time allowed."""

    code = "timed-out"


class ServerFault(Unavailable):
    """The registry answered with a fault of its own, or with something that is no answer."""

    code = "server-fault"


class RedirectRefused(Unavailable):
    """The registry points somewhere that must not be followed."""

    code = "redirect-refused"


class AddressRefused(Unavailable):
    """A name leads to an address that a registry must not lead to."""

    code = "address-refused"


class RateLimited(Unavailable):
    """Too many requests.

    Attributes:
        retry_after: seconds the server asks to wait; None when it did not say.

    """

    code = "rate-limited"
    word = "RATELIMIT"

    def __init__(self, host: str, retry_after: float | None, detail: str = "") -> None:
        wait = f"; it says to wait {retry_after:.0f} s" if retry_after is not None else ""
        said = f": {detail}" if detail else ""
        super().__init__(
            f"`{host}` refuses for now, too many requests{wait}{said}",
            "wait, log in for a higher limit, or ask a mirror",
        )
        self.host = host
        self.retry_after = retry_after
        self.detail = detail


class Untrusted(ResolverError):
    """Bytes are not what they claim to be."""

    kind = ErrorKind.UNTRUSTED
    code = "untrusted"
    word = "INTEGRITY"


class DigestMismatch(Untrusted):
    """Content whose hash is not the digest it was asked for by."""

    code = "digest-mismatch"

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{what} should be `{expected}`, but its bytes are `{actual}`",
            "the registry, a mirror or a proxy altered it: try again, then ask another source",
        )
        self.what = what
        self.expected = expected
        self.actual = actual


class SizeMismatch(Untrusted):
    """Content whose length is not the size its descriptor states, both in bytes."""

    code = "size-mismatch"

    def __init__(self, what: str, expected: int, actual: int) -> None:
        super().__init__(f"{what} should have {expected} bytes, but has {actual}")
        self.what = what
        self.expected = expected
        self.actual = actual


class ChecksumMismatch(Untrusted):
    """Compressed content whose own checksum, or own length, is not that of what comes out."""

    code = "checksum-mismatch"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} is damaged: {reason}",
            "fetch it again, or tell its publisher if that is no use",
        )
        self.what = what
        self.reason = reason


class BadDocument(Untrusted):
    """A document that is not what its kind must be; `field` is the path to the fault."""

    code = "bad-document"
    word = "FORMAT"

    def __init__(self, what: str, field: str, reason: str) -> None:
        at = f" at `{field}`" if field else ""
        super().__init__(f"{what} is malformed{at}: {reason}")
        self.what = what
        self.field = field
        self.reason = reason


class UnsupportedDocument(Untrusted):
    """A document of a kind that is known, and not supported."""

    code = "unsupported-document"
    word = "UNSUPPORTED"

    def __init__(self, what: str, field: str, reason: str, *hints: str) -> None:
        at = f" at `{field}`" if field else ""
        super().__init__(f"{what} is not supported{at}: {reason}", *hints)
        self.what = what
        self.field = field
        self.reason = reason


class LimitExceeded(Untrusted):
    """Something goes past a limit that keeps hostile input from hurting."""

    code = "limit-exceeded"
    word = "LIMIT"

    def __init__(
        self, what: str, limit: int, value: int | str, unit: str = "bytes", *hints: str
    ) -> None:
        super().__init__(f"{what} goes past the limit of {limit} {unit}: {value}", *hints)
        self.what = what
        self.limit = limit
        self.value = value
        self.unit = unit


class Offline(ResolverError):
    """Only what is held may answer, and it does not know."""

    kind = ErrorKind.OFFLINE
    code = "offline"
    word = "OFFLINE"


class NotInStore(Offline):
    """`--offline`, and the store does not hold what the answer needs."""

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

    def __init__(self, path: str, reason: str, *hints: str) -> None:
        super().__init__(f"the store cannot be used at `{path}`: {reason}", *hints)
        self.path = path
        self.reason = reason

    def after(self, come: int, wanted: int) -> None:
        """Say what a pull that ends with this leaves: how many pieces came, and of how many."""
        left = (
            f"what came is kept ({come} of {wanted} pieces), and only the rest is fetched"
            if come
            else "what the store holds is as it was"
        )
        self._hints = (*self._hints, f"then pull again: {left}")


class OutputFault(ResolverError):
    """The answer could not be written where it was to go."""

    kind = ErrorKind.STORE
    code = "output-fault"
    word = "STORE"


class RangeRefused(Unavailable):
    """A part of a blob was asked for, and what came is not that part."""

    code = "range-refused"


class StorageRefused(Unavailable):
    """The place that a registry redirects to does not hand the blob out; links to it expire."""

    code = "storage-refused"


class NotHeld(NotFound):
    """The store was asked for an image, or a part of one, that was not pulled.

    `missing` says which part; empty when nothing of it was pulled.
    """

    code = "not-held"

    def __init__(self, reference: str, missing: str, command: str) -> None:
        what = f"{missing} of `{reference}`" if missing else f"`{reference}`"
        super().__init__(f"the store does not hold {what}", f"fetch it with `{command}`")
        self.reference = reference
        self.missing = missing


class ExportFault(OutputFault):
    """An export could not be written where it was to go."""

    code = "export-fault"

    def __init__(self, path: str, reason: str, *hints: str) -> None:
        super().__init__(f"cannot export to `{path}`: {reason}", *hints)
        self.path = path
        self.reason = reason


class ToolMissing(OutputFault):
    """The tool that images were to be handed to is not installed here."""

    code = "tool-missing"

    def __init__(self, tool: str, command: str) -> None:
        super().__init__(
            f"`{tool}` is not on PATH, so nothing was handed over",
            f"export to a file with `--to images.tar`, then run `{command} < images.tar` "
            f"where `{tool}` is",
        )
        self.tool = tool
        self.command = command


class ToolFailed(OutputFault):
    """The tool that images were handed to did not take them.

    `detail` is the end of what it said, as it came.
    """

    code = "tool-failed"

    def __init__(self, command: str, status: int, detail: str) -> None:
        how = f"it ended with status {status}" if status >= 0 else f"signal {-status} ended it"
        said = f": {detail}" if detail else ""
        super().__init__(f"`{command}` did not take the images, {how}{said}")
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
            "list what it holds with `resolver ls`",
        )
        self.target = target
        self.store = store


class RegistryBlocked(Denied):
    """The user's own configuration says that a registry is not to be asked."""

    code = "registry-blocked"

    def __init__(self, name: str, source: str) -> None:
        super().__init__(
            f"`{name}` is blocked by `{source}`",
            f"use another registry, or take `blocked` out of `{source}`",
        )
        self.name = name
        self.source = source


class BadLock(Malformed):
    """A lock file that cannot be used; `field` is the path to the fault."""

    code = "bad-lock"
    word = "FORMAT"

    def __init__(self, place: str, field: str, reason: str, *hints: str) -> None:
        at = f" at `{field}`" if field else ""
        super().__init__(
            f"the lock file `{place}` is malformed{at}: {reason}",
            *(hints or ("take it from version control, or write it anew with `resolver lock`",)),
        )
        self.place = place
        self.field = field
        self.reason = reason


class LockLimit(BadLock):
    """A lock file that goes past a limit; `field` is the path to what does."""

    code = "lock-limit"
    word = "LIMIT"


class NotLocked(Offline):
    """`--locked`, and the lock does not have the reference, or not for the platform."""

    code = "not-locked"

    def __init__(self, reference: str, place: str, wanted: str, *hints: str) -> None:
        what = f"`{reference}` for `{wanted}`" if wanted else f"`{reference}`"
        super().__init__(f"the lock file `{place}` does not have {what}", *hints)
        self.reference = reference
        self.place = place
        self.wanted = wanted


class UnreadableFile(Malformed):
    """A file of the user's that names images cannot be read as what it is; it is left alone."""

    code = "unreadable-file"
    word = "CONFIG"

    def __init__(self, path: str, reason: str, *hints: str, line: int = 1, column: int = 1) -> None:
        where = f" (line {line}, column {column})" if (line, column) != (1, 1) else ""
        super().__init__(f"`{path}` is left alone: {reason}{where}", *hints)
        self.path = path
        self.reason = reason
        self.line = line
        self.column = column


class NotAnImageFile(Malformed):
    """A file of no kind that is known to name images."""

    code = "not-an-image-file"

    def __init__(self, path: str, known: str) -> None:
        super().__init__(
            f"`{path}` is no file that is known to name images", f"there can be named {known}"
        )
        self.path = path
        self.known = known


def shortened(text: str, limit: int = 120) -> str:
    """Cut text from a user or a registry to what fits into one line of a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
