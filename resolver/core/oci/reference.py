"""Image references: their grammar and their parts (docs/wire-protocol.md, "Reference grammar").

The rules are those of Docker's own parser (github.com/distribution/reference v0.6.0,
`ParseNormalizedNamed` and `TagNameOnly`).
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import AddressValueError, IPv6Address
from typing import NoReturn, Protocol, Self

from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.errors import InvalidDigest, InvalidReference, UnsupportedAlgorithm
from resolver.values import dataclass, pattern

HUB = "docker.io"
HUB_NAMESPACE = "library"
#: Written by some tools, and the same registry. Other names of Docker Hub's machines are not.
HUB_ALIAS = "index.docker.io"

# Source: docs/store-and-reliability.md, "Size limits"; 255 and 128 are also in the grammar.
MAX_REFERENCE = 4096
MAX_REPOSITORY = 255
MAX_TAG = 128

_IMAGE_ID_DIGITS = 64

# ASCII classes only, and possessive where a part repeats: linear time.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = pattern(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = pattern(r"[a-z0-9]++(?:(?:\.|__?|-++)[a-z0-9]++)*+")
_TAG = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_IMAGE_ID = pattern(r"[0-9a-f]+")
_BLANK = pattern(r"[\x00-\x20\x7f]")
_SCHEME = pattern(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UPPER = pattern(r"[A-Z]")
_DIGITS = pattern(r"[0-9]+")
_LIKE_DIGEST = pattern(r"[A-Za-z0-9+._-]+:[^/@]*")
#: A version, a word that is only ever a tag, or hex digits: what people write after `@` for `:`.
_LIKE_TAG = pattern(
    r"v?[0-9][A-Za-z0-9._+-]*|latest|stable|edge|main|master|nightly|lts|[0-9a-f]{7,128}"
)
_ADDRESS = pattern(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")


class Refuse(Protocol):
    """Raises InvalidReference for the text at hand."""

    def __call__(self, reason: str, *hints: str) -> NoReturn:
        """Raise, with the reason and what to write instead."""
        ...


def is_tag(text: str) -> bool:
    """Whether this is a tag by the grammar."""
    return len(text) <= MAX_TAG and _TAG.fullmatch(text) is not None


def check_text(text: str, refuse: Refuse) -> None:
    """Check the text as a whole, before it is split."""
    if not text:
        refuse("it is empty", "name an image, for example `ubuntu:24.04`")
    if len(text) > MAX_REFERENCE:
        refuse(f"it has {len(text)} characters, at most {MAX_REFERENCE} are allowed")
    if _BLANK.search(text):
        refuse("it contains blanks or control characters", "check the quoting of the command")
    if not text.isascii():
        refuse("it contains characters outside ASCII", "check for a typo, such as a long dash")
    scheme = _SCHEME.match(text)
    if scheme:
        refuse(f"it starts with the scheme `{scheme[0]}`", f"leave out `{scheme[0]}`")
    if len(text) == _IMAGE_ID_DIGITS and _IMAGE_ID.fullmatch(text):
        refuse(
            "64 hex digits alone look like an image ID, which registries do not accept",
            f"for a digest write `REPOSITORY@sha256:{text}`",
        )
    name, _, tail = text.rpartition("@")
    if _lacks_algorithm(name, tail):
        hint = f"write `{name}:{tail}` for a tag"
        if len(tail) in HEX_DIGITS.values() and _IMAGE_ID.fullmatch(tail):
            algorithm = next(name for name, digits in HEX_DIGITS.items() if digits == len(tail))
            hint = f"write `{name}@{algorithm}:{tail}`"
        refuse("what follows `@` is a digest without an algorithm", hint)
    if "@" in name or ("@" in text and not _LIKE_DIGEST.fullmatch(tail)):
        refuse(
            "what follows `@` is not a digest, and a reference cannot contain a user name",
            "leave out the user name, and log in with `resolver login HOST`",
        )


def _lacks_algorithm(name: str, tail: str) -> bool:
    """Distinguish `nginx@1.25` from `user@host`, which is never shown.

    The text before `@` must be a repository name, so it contains no password. The text after it
    must look like a tag or hex digits, not like a host.
    """
    registry, repository = split_registry(name)
    if len(tail) in HEX_DIGITS.values() and _IMAGE_ID.fullmatch(tail):
        # No host label is that long, so the text before it may include a tag.
        path, colon, tag = repository.partition(":")
        repository = path if not colon or is_tag(tag) else repository
    if not _HOST.fullmatch(registry):
        return False
    if not all(map(_COMPONENT.fullmatch, repository.split("/"))):
        return False
    return bool(_LIKE_TAG.fullmatch(tail)) and not _ADDRESS.fullmatch(tail)


def split_registry(text: str) -> tuple[str, str]:
    """Split at the first `/` if the text before it is a registry; otherwise assume Docker Hub."""
    head, slash, rest = text.partition("/")
    if not slash or (head and not is_registry(head)):
        return HUB, text
    return (HUB if head == HUB_ALIAS else head), rest


def is_registry(head: str) -> bool:
    """Whether Docker takes this first component for a registry, not part of a repository."""
    return head == "localhost" or any(mark in head for mark in ".:") or bool(_UPPER.search(head))


def check_registry(registry: str, refuse: Refuse) -> None:
    """Check a host name with an optional port."""
    if not registry:
        refuse("it starts with `/`", "leave out the first `/`")
    if _HOST.fullmatch(registry):
        return
    host, _, port = registry.rpartition(":")
    if _HOST.fullmatch(host) and not _DIGITS.fullmatch(port):
        hint = "write the registry as `HOST` or `HOST:PORT`"
        refuse(f"the port `{_cut(port)}` of the registry is not a number", hint)
    hint = "a host name has letters, digits, `-` and `.`; an IPv6 address is written in `[…]`"
    refuse(f"`{_cut(registry)}` is not the name of a registry host", hint)


def check_repository(path: str, refuse: Refuse, lowered: str = "") -> None:
    """Check a repository name; `lowered` is the whole reference in lower case, for the hint."""
    if not path:
        refuse("the repository name is missing", "write `[REGISTRY/]REPOSITORY[:TAG]`")
    if _UPPER.search(path):
        # Only if lower case makes it valid: `${IMAGE}` needs more than that.
        would_do = all(_COMPONENT.fullmatch(part) for part in path.lower().split("/"))
        hints = (f"write `{lowered or path.lower()}`",) if would_do else ()
        refuse("repository name must be lowercase", *hints)
    for component in path.split("/"):
        if not component:
            refuse("it has an empty component", "remove `//`, or a `/` at the end")
        if not _COMPONENT.fullmatch(component):
            refuse(
                f"`{_cut(component)}` is not a valid component of a repository name",
                "a component has lower-case letters and digits, separated by `.`, `_`, `__` or `-`",
            )
    if len(path) > MAX_REPOSITORY:
        refuse(f"the repository has {len(path)} characters, at most {MAX_REPOSITORY} are allowed")


def check_tag(tag: str, refuse: Refuse) -> None:
    """Check a tag against the grammar."""
    if not tag:
        refuse("the tag after `:` is empty", "write a tag after `:`, or leave out the `:`")
    if "/" in tag:
        hint = "a port follows the registry, before the first `/`"
        refuse(f"the tag `{_cut(tag)}` contains `/`", hint)
    if len(tag) > MAX_TAG:
        refuse(f"the tag has {len(tag)} characters, at most {MAX_TAG} are allowed")
    if not _TAG.fullmatch(tag):
        hint = "a tag has letters, digits, `_`, `.` and `-`, and starts with none of the last two"
        refuse(f"`{tag}` is not a tag", hint)


def read_digest(text: str, refuse: Refuse) -> Digest:
    """Parse the digest after `@`."""
    hint = "a digest is written `sha256:` and 64 lower-case hex digits"
    try:
        return Digest.parse(text)
    except UnsupportedAlgorithm as error:
        refuse(f"digests by {error.reason}", hint)
    except InvalidDigest as error:
        refuse(f"what follows `@` is not a digest: {error.reason}", hint)


def _cut(part: str, limit: int = 60) -> str:
    return part if len(part) <= limit else part[: limit - 1] + "…"


def without_secrets(text: str) -> str:
    """Replace what may be a user name and password with `***`, for messages and attributes."""
    scheme = _SCHEME.match(text)
    start = text[: scheme.end()] if scheme else ""
    rest, end = text[len(start) :], ""
    head, at, tail = rest.rpartition("@")
    if at and tail.partition(":")[0] in HEX_DIGITS:
        rest, end = head, f"@{tail}"
        head, at, tail = rest.rpartition("@")
    if not at or (not start and not end and _lacks_algorithm(head, tail)):
        return text
    if "@" in head or end or not _LIKE_DIGEST.fullmatch(tail):
        return f"{start}***@{tail}{end}"
    # `name:tag@md5:…`, or `user:password@host:5000`: show the part that is never secret.
    name, colon, _ = head.partition(":")
    return f"{start}{name}{':***' if colon else ''}@{tail}"


#: Source: docs/store-and-reliability.md, "Size limits"; the port counts.
MAX_HOST = 255
MAX_PORT = 65_535
#: A longer label cannot be looked up. Source: RFC 1035, 2.3.4.
MAX_LABEL = 63


def endpoint_problem(registry: str) -> str | None:
    """Return why `host[:port]`, valid by the grammar, cannot exist; None when it can."""
    host, colon, port = registry.rpartition(":")
    if not colon or registry.endswith("]"):
        host, port = registry, "1"
    digits = port.lstrip("0")
    if not 0 < len(digits) <= len(str(MAX_PORT)) or int(digits) > MAX_PORT:
        return f"the port `{port[:12]}` is not in 1..{MAX_PORT}"
    if len(registry) > MAX_HOST:
        return f"the registry has {len(registry)} characters, at most {MAX_HOST} are allowed"
    if host.startswith("["):
        try:
            IPv6Address(host[1:-1])
        except AddressValueError:
            return f"`{host[:45]}` is not an IPv6 address"
    elif any(len(label) > MAX_LABEL for label in host.split(".")):
        return f"a part of the host name has more than {MAX_LABEL} characters"
    elif is_accidental_host(registry):
        return f"`{host}` is treated as a registry because of its upper-case letters"
    return None


def is_accidental_host(registry: str) -> bool:
    """Whether only upper-case letters make this a host, as in `Owner/app`, which is a mistake."""
    return "." not in registry and ":" not in registry and _UPPER.search(registry) is not None


#: The host of Docker Hub's API differs from its registry name.
#: Source: docs/wire-protocol.md, "API host".
HUB_API = "registry-1.docker.io"
DEFAULT_TAG = "latest"


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry, a repository, and optionally a tag, a digest, or both.

    With both, the digest decides and the tag is informational. Instances are always valid by the
    grammar; `check_endpoint` checks whether the host can exist.

    Attributes:
        registry: host and port as written; the API may be served by another host.
        repository: with `library/` for official images of Docker Hub.
        tag: None if not written; `name` is then `latest`.

    Raises:
        InvalidReference: a part is not valid.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        def refuse(reason: str, *hints: str) -> NoReturn:
            raise InvalidReference(str(self), reason, *hints)

        if not is_registry(self.registry) or self.registry == HUB_ALIAS:
            refuse(f"`{self.registry}` cannot be distinguished from a repository")
        if self.registry == HUB and "/" not in self.repository:
            refuse(f"on Docker Hub it is `{HUB_NAMESPACE}/{self.repository}`")
        check_registry(self.registry, refuse)
        check_repository(self.repository, refuse)
        if self.tag is not None:
            check_tag(self.tag, refuse)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a reference such as `ubuntu` or `ghcr.io/owner/image:tag@sha256:…`.

        Raises:
            InvalidReference: with the most specific reason, and a correction as hint. A user
                name and password in the text are not repeated.
        """

        def refuse(reason: str, *hints: str) -> NoReturn:
            raise InvalidReference(without_secrets(text), reason, *hints)

        check_text(text, refuse)
        registry, remainder = split_registry(text)
        check_registry(registry, refuse)
        name, at, digits = remainder.partition("@")
        path, colon, tag = name.partition(":")
        start = text[: len(text) - len(remainder)]
        check_repository(path, refuse, start + path.lower() + remainder[len(path) :])
        # Before the tag: with a wrong digest, what looks like a tag may be a password.
        digest = read_digest(digits, refuse) if at else None
        if colon:
            check_tag(tag, refuse)
        if registry == HUB and "/" not in path:
            path = f"{HUB_NAMESPACE}/{path}"
            check_repository(path, refuse)
        return cls(registry, path, tag if colon else None, digest)

    def __str__(self) -> str:
        """Return the full form; `:latest` is added only without a tag and a digest."""
        tag = self.tag
        if tag is None and self.digest is None:
            tag = DEFAULT_TAG
        return self.identity + self._suffix(tag)

    @property
    def identity(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def name(self) -> str:
        """The digest if there is one, else the tag: what is requested from the registry."""
        return str(self.digest) if self.digest else self.tag or DEFAULT_TAG

    @property
    def api_host(self) -> str:
        """Host and port of this registry's API."""
        return HUB_API if self.registry == HUB else self.registry

    @property
    def familiar(self) -> str:
        """Docker's short form, for display only; use `str` for text that is parsed again."""
        if self.registry != HUB:
            return self.identity + self._suffix(self.tag)
        namespace, _, rest = self.repository.partition("/")
        official = namespace == HUB_NAMESPACE and "/" not in rest
        return (rest if official else self.repository) + self._suffix(self.tag)

    def with_digest(self, digest: Digest) -> Self:
        """Return a copy with this digest; the tag is kept."""
        return replace(self, digest=digest)

    def with_tag(self, tag: str) -> Self:
        """Return a copy with this tag and without a digest."""
        return replace(self, tag=tag, digest=None)

    def endpoint_problem(self) -> str | None:
        """Return why the host or port cannot exist; None if it can."""
        return endpoint_problem(self.registry)

    def check_endpoint(self) -> None:
        """Raise `InvalidReference` unless the registry's host and port can exist."""
        problem = endpoint_problem(self.registry)
        if problem is None:
            return
        hint = "write the registry as `HOST` or `HOST:PORT`"
        if is_accidental_host(self.registry):
            spelled = self.registry.lower() + str(self)[len(self.registry) :]
            hint = f"write `{spelled}`, or the full name of the registry"
        raise InvalidReference(str(self), problem, hint)

    def _suffix(self, tag: str | None) -> str:
        return (f":{tag}" if tag else "") + (f"@{self.digest}" if self.digest else "")
