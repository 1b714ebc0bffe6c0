"""Endpoints from the URLs that people write into files and options."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.hosts import (
    EVERYTHING,
    USUAL,
    Ability,
    Endpoint,
    HostSettings,
    api_host,
    is_same_registry,
)
from resolver.sources.urls import BadUrl, Url

if TYPE_CHECKING:
    from collections.abc import Collection

_ROOT = "/v2"


def endpoint_at(
    url: str,
    registry: str,
    repository: str,
    *,
    abilities: Collection[Ability] = EVERYTHING,
    settings: HostSettings = USUAL,
    whole_path: bool = False,
) -> Endpoint:
    """Read the URL of an endpoint; `https://` may be left out.

    Args:
        url: with or without a path; `/v2` is added to a path that does not end in it.
        registry: whom it stands in for.
        repository: as it is called there.
        abilities: what it may be asked for.
        settings: its scheme is replaced by that of the URL.
        whole_path: the path is used as it stands (`override_path`).

    Raises:
        BadUrl: it is no such URL, or carries a query.

    Source: containerd core/remotes/docker/config/hosts.go, parseHostConfig.
    """
    text = url if "://" in url else f"https://{url}"
    if "?" in text or "#" in text:
        raise BadUrl("it has a query or a fragment")
    if not text.startswith(("http://", "https://")):
        raise BadUrl("its scheme is not http or https")
    parsed = Url.parse(text)
    same = is_same_registry(parsed.authority, registry)
    host = api_host(registry) if same else parsed.authority
    prefix, name = _split(_prefix(parsed.target, whole_path=whole_path), repository)
    return Endpoint(
        host,
        name,
        registry if same else host,
        prefix,
        frozenset(abilities),
        namespace="" if same else registry,
        is_upstream=same,
        settings=replace(settings, scheme=parsed.scheme),
    )


def _prefix(path: str, *, whole_path: bool) -> str:
    clean = posixpath.normpath(path)
    clean = "" if clean in ("/", ".", "//") else f"/{clean.lstrip('/')}"
    if whole_path or clean.endswith(_ROOT):
        return clean
    return f"{clean}{_ROOT}"


def _split(prefix: str, repository: str) -> tuple[str, str]:
    """Count what follows `/v2/` to the repository, as whoever answers there does."""
    head, slash, inner = prefix.partition(f"{_ROOT}/")
    if slash and not head and not prefix.endswith(_ROOT):
        return _ROOT, f"{inner}/{repository}"
    return prefix, repository
