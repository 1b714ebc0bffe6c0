"""References: the text that names an image, and what it means (protocol.md 1).

The rules are those of Docker's own parser (github.com/distribution/reference v0.6.0,
`ParseNormalizedNamed` and `TagNameOnly`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, Self

from resolver.core.endpoint import endpoint_problem, is_accidental_host
from resolver.core.reference_grammar import (
    HUB,
    HUB_ALIAS,
    HUB_NAMESPACE,
    check_registry,
    check_repository,
    check_tag,
    check_text,
    is_registry,
    read_digest,
    split_registry,
    without_secrets,
)
from resolver.errors import InvalidReference
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.digest import Digest

#: Docker Hub's API is not at the name that everybody writes. Source: protocol.md 1.5.
HUB_API = "registry-1.docker.io"
DEFAULT_TAG = "latest"


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry, a repository in it, and maybe a tag, a digest, or both.

    With both, the digest decides and the tag is only shown. There is no way to hold an invalid
    one; whether its host can exist is checked by `check_endpoint`.

    Attributes:
        registry: host and port as written: an identity, not always where the API is.
        repository: on Docker Hub with its `library/`.
        tag: None when not written; `name` then says `latest`.

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
            refuse(f"`{self.registry}` cannot be told from a repository")
        if self.registry == HUB and "/" not in self.repository:
            refuse(f"on Docker Hub it is `{HUB_NAMESPACE}/{self.repository}`")
        check_registry(self.registry, refuse)
        check_repository(self.repository, refuse)
        if self.tag is not None:
            check_tag(self.tag, refuse)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference as people write it: `ubuntu`, `ghcr.io/owner/image:tag@sha256:…`.

        Raises:
            InvalidReference: with the one reason that fits best, and what to write instead.
                A user name and password in the text are not repeated.
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
        """Write it in full; `:latest` appears only if there is neither tag nor digest."""
        tag = self.tag
        if tag is None and self.digest is None:
            tag = DEFAULT_TAG
        return self.identity + self._suffix(tag)

    @property
    def identity(self) -> str:
        """Registry and repository: what tags and credentials belong to."""
        return f"{self.registry}/{self.repository}"

    @property
    def name(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return str(self.digest) if self.digest else self.tag or DEFAULT_TAG

    @property
    def api_host(self) -> str:
        """Host and port that answer the API of this registry."""
        return HUB_API if self.registry == HUB else self.registry

    @property
    def familiar(self) -> str:
        """Docker's short form, for display; use `str` where it is read again."""
        if self.registry != HUB:
            return self.identity + self._suffix(self.tag)
        namespace, _, rest = self.repository.partition("/")
        official = namespace == HUB_NAMESPACE and "/" not in rest
        return (rest if official else self.repository) + self._suffix(self.tag)

    def with_digest(self, digest: Digest) -> Self:
        """Give the same reference, pinned; the tag stays."""
        return replace(self, digest=digest)

    def with_tag(self, tag: str) -> Self:
        """Give another tag of the same repository; a digest does not stay."""
        return replace(self, tag=tag, digest=None)

    def endpoint_problem(self) -> str | None:
        """Say why there can be no such host or port; None when there can."""
        return endpoint_problem(self.registry)

    def check_endpoint(self) -> None:
        """Check that a request could be sent, before any is.

        Raises:
            InvalidReference: there can be no such host or port.
        """
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
