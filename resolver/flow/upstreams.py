"""Which registry a client of the mirror means, and whether it may be asked.

A client says it as containerd does (`?ns=docker.io`), by the first part of the repository
(`/v2/docker.io/library/ubuntu/…`), or not at all, as Docker's `registry-mirrors` do. Only what
somebody allowed is ever asked: a mirror for everything would be a way into the inner network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from resolver.core.reference import HUB_API, Reference
from resolver.core.reference_grammar import HUB, HUB_ALIAS, HUB_NAMESPACE, is_registry
from resolver.errors import Malformed
from resolver.flow.distribution import is_repository
from resolver.flow.shelves import spelled
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

# Source: OCI distribution-spec v1.1.1, "Endpoints".
_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)", re.DOTALL)
_ALIASES = {HUB_ALIAS: HUB, HUB_API: HUB}


class Unclear(Exception):
    """What a client asks for is not asked of anybody; carries status, code and words for it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Question:
    """What a client wants of one repository.

    Attributes:
        repository: with its registry, as a reference that has neither tag nor digest.
        kind: `manifests`, `blobs`, `tags` or `referrers`.
        name: a tag, a digest, or `list`; not checked yet.
        called: the repository as the client spells it.

    """

    repository: Reference
    kind: str
    name: str
    called: str


class Upstreams:
    """The registries that may be asked.

    Args:
        allowed: `host[:port]` each.
        usual: the one that is meant where a client names none; None for none.

    Raises:
        Malformed: one of them is no registry.

    """

    def __init__(self, allowed: Iterable[str], usual: str | None) -> None:
        self.usual = None if usual is None else _known(usual)
        self.allowed = tuple(dict.fromkeys(_known(each) for each in allowed))
        for each in self.allowed:
            Reference(each, f"{HUB_NAMESPACE}/any").check_endpoint()
        # A name on the wire has no colon: `localhost:5000` is written `localhost-5000` there too.
        self._spelled = {each: each for each in self.allowed}
        self._spelled |= {spelled(each): each for each in self.allowed}

    def read(self, path: str, query: str) -> Question:
        """Read the path, percent-decoded, and the query of a request.

        Raises:
            Unclear: it is no question to a repository, or not to one that may be asked.

        """
        route = _ROUTE.fullmatch(path)
        if route is None:
            raise Unclear(404, "UNSUPPORTED", "there is no such endpoint")
        registry, repository = self._registry(route[1], parse_qs(query).get("ns", []))
        if not is_repository(repository):
            raise Unclear(400, "NAME_INVALID", "this is no repository name")
        if registry == HUB and "/" not in repository:
            repository = f"{HUB_NAMESPACE}/{repository}"
        try:
            found = Reference(registry, repository)
        except Malformed as error:
            raise Unclear(400, "NAME_INVALID", "this is no repository name") from error
        return Question(found, route[2], route[3], route[1])

    def _registry(self, name: str, spaces: list[str]) -> tuple[str, str]:
        head, slash, rest = name.partition("/")
        if spaces:
            registry, repository = _known(spaces[0]), name
        elif slash and head in self._spelled:
            registry, repository = self._spelled[head], rest
        elif slash and is_registry(head):
            registry, repository = head, rest
        elif self.usual is None:
            raise Unclear(404, "NAME_UNKNOWN", "say which registry: with `?ns=`, or in the name")
        else:
            registry, repository = self.usual, name
        if registry not in self.allowed:
            raise Unclear(403, "DENIED", "this mirror does not ask that registry")
        return registry, repository


def _known(registry: str) -> str:
    return _ALIASES.get(registry, registry)
