"""`registries.conf` version 2, as used by podman, buildah and skopeo.

Only `[[registry]]` tables are used. Short names always mean Docker Hub here, so search lists,
aliases, `short-name-mode` and credential helpers are ignored. See docs/wire-protocol.md,
"registries.conf".

Source: containers-registries.conf(5); containers/image v5 pkg/sysregistriesv2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from resolver.core.parse.document import parse_toml
from resolver.core.registry.endpoints import (
    EVERYTHING,
    OF_DIGEST,
    USUAL,
    Endpoint,
    HostChoice,
    HostSettings,
    Pulls,
    api_host,
    is_same_registry,
    matches_prefix,
    rewrite,
)
from resolver.core.results.events import Warned
from resolver.errors import InvalidConfiguration
from resolver.sources.http.urls import is_host
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.parse.document import FieldReader
    from resolver.core.results.events import Observer

FORM: Final = "registries.conf"
_PULLS = {each.value: each for each in Pulls}
#: Valid repository paths.
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]{1,255}){0,127}")
_INSECURE = HostSettings(skip_verify=True, plain_too=True)


@dataclass(frozen=True, slots=True)
class MirrorRule:
    """One `[[registry.mirror]]`."""

    location: str
    insecure: bool
    pulls: Pulls


@dataclass(frozen=True, slots=True)
class RegistryRule:
    """One `[[registry]]` table and its file."""

    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[MirrorRule, ...]
    path: str


def parse_rules(body: bytes, path: str, observe: Observer) -> tuple[RegistryRule, ...]:
    """Parse the rules of one file; the first of two with the same prefix is used.

    Raises:
        InvalidConfiguration: it cannot be used, or has the old format.

    """
    table = parse_toml(body, path)
    if table.member("registries") is not None:
        table.fail_at(
            "registries", "this is version 1 of the format; write `[[registry]]` tables instead"
        )
    rules: dict[str, RegistryRule] = {}
    for each in table.tables_of("registry"):
        rule = _rule(each)
        if rules.setdefault(rule.prefix, rule) is not rule:
            message = f"`{path}` has two tables with prefix `{rule.prefix}`; the first one counts"
            observe(Warned("registries-conf", message))
    return tuple(rules.values())


def choose(rules: Iterable[RegistryRule], registry: str, repository: str) -> HostChoice | None:
    """Apply the rule with the longest matching prefix; None if there is none.

    A blocked location is not contacted but its mirrors are: OpenShift writes the policy
        `NeverContactSource` of an ImageDigestMirrorSet this way. A mirror with a blocking rule of
        its own is omitted.

    Source: containers/image v5 docker/docker_client.go, newDockerClientFromRef; OpenShift
    "Image configuration resources", `mirrorSourcePolicy`.

    Raises:
        InvalidConfiguration: its location is not a registry.

    """
    rules = tuple(rules)
    name = f"{registry}/{repository}"
    rule = _matching(rules, name)
    if rule is None:
        return None
    endpoints = [
        _endpoint(rule, each.location, name, registry, each.insecure, each.pulls)
        for each in rule.mirrors
        if not _is_blocked(rules, rewrite(name, rule.prefix, each.location), rule)
    ]
    last = _endpoint(rule, rule.location, name, registry, rule.insecure, Pulls.ALL)
    if not rule.blocked:
        endpoints.append(last)
    return HostChoice(registry, repository, tuple(endpoints), rule.path, FORM, blocked=rule.blocked)


def _matching(rules: Iterable[RegistryRule], name: str) -> RegistryRule | None:
    found = [rule for rule in rules if matches_prefix(name, rule.prefix)]
    return max(found, key=lambda each: len(each.prefix), default=None)


def _is_blocked(rules: Iterable[RegistryRule], place: str, unless: RegistryRule) -> bool:
    """Whether a rule blocks a mirror; `unless` is the rule that names it."""
    rule = _matching(rules, place)
    return rule is not None and rule is not unless and rule.blocked


def _rule(table: FieldReader) -> RegistryRule:
    location = _location(table)
    prefix = table.text_of("prefix").removesuffix("/") or location
    _refuse_login(table, "prefix", prefix)
    if not prefix:
        table.fail_at("prefix", "a registry needs a prefix or a location")
    if "*" in prefix and (not prefix.startswith("*.") or "/" in prefix or "*" in prefix[1:]):
        table.fail_at("prefix", "a wildcard is written `*.example.com`, with nothing after it")
    if not location and not prefix.startswith("*."):
        table.fail_at("location", "it is missing")
    by_digest = table.truth_of("mirror-by-digest-only")
    return RegistryRule(
        prefix,
        location,
        table.truth_of("insecure"),
        table.truth_of("blocked"),
        tuple(_mirror(each, by_digest=by_digest) for each in table.tables_of("mirror")),
        table.place,
    )


def _mirror(table: FieldReader, *, by_digest: bool) -> MirrorRule:
    location = _location(table)
    if not location:
        table.fail_at("location", "it is missing")
    said = table.text_of("pull-from-mirror")
    if said and by_digest:
        reason = "it cannot be combined with `mirror-by-digest-only`"
        table.fail_at("pull-from-mirror", reason)
    if said not in ("", *_PULLS):
        known = ", ".join(f"`{each}`" for each in _PULLS)
        table.fail_at("pull-from-mirror", f"it must be one of {known}")
    pulls = _PULLS[said] if said else Pulls.BY_DIGEST if by_digest else Pulls.ALL
    return MirrorRule(location, table.truth_of("insecure"), pulls)


def _location(table: FieldReader) -> str:
    """Read `host[:port][/path]`. Source: sysregistriesv2, parseLocation."""
    text = table.text_of("location").removesuffix("/")
    if "://" in text:
        table.fail_at("location", "it has no scheme: write `HOST[:PORT][/PATH]`")
    _refuse_login(table, "location", text)
    return text


def _refuse_login(table: FieldReader, name: str, text: str) -> None:
    """Refuse `user:password@host` before anything else shows it; a digest stands behind a path."""
    if "@" in text.partition("/")[0]:
        table.fail_at(name, "it carries a user name or password")


def _endpoint(
    rule: RegistryRule,
    location: str,
    name: str,
    registry: str,
    insecure: bool,  # noqa: FBT001 - as the file has it
    pulls: Pulls,
) -> Endpoint:
    place = rewrite(name, rule.prefix, location)
    host, _, repository = place.partition("/")
    if not is_host(host) or not _REPOSITORY.fullmatch(repository):
        reason = "its location is not a repository of a registry"
        raise InvalidConfiguration(rule.path, f"prefix = {rule.prefix}", reason)
    return Endpoint(
        api_host(host),
        repository,
        host,
        # A mirror by digest never resolves tags, not even a tag beside a digest.
        abilities=OF_DIGEST if pulls is Pulls.BY_DIGEST else EVERYTHING,
        pulls=pulls,
        is_upstream=is_same_registry(host, registry),
        settings=_INSECURE if insecure else USUAL,
    )
