"""containers' `registries.conf`, version 2, as podman, buildah and skopeo use it (13.2).

Only `[[registry]]` counts here. Short names always mean Docker Hub to us, so search lists, aliases
and `short-name-mode` are left alone, as are credential helpers.

Source: containers-registries.conf(5); containers/image v5 pkg/sysregistriesv2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from resolver.core.events import Warned
from resolver.core.hosts import (
    BY_DIGEST,
    EVERYTHING,
    USUAL,
    Ability,
    Endpoint,
    HostChoice,
    HostSettings,
    api_host,
    is_same_registry,
    matches_prefix,
    rewrite,
)
from resolver.errors import InvalidConfiguration
from resolver.sources.conf_files import read_file, speaks_of_registries
from resolver.sources.host_tables import parse_toml
from resolver.sources.urls import is_host
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from resolver.core.events import Observer
    from resolver.sources.host_tables import Table

FORM: Final = "registries.conf"
#: Source: containers-registries.conf(5), `pull-from-mirror`.
_PULLS = {
    "all": EVERYTHING,
    "digest-only": BY_DIGEST,
    "tag-only": frozenset({Ability.RESOLVE}),
}
#: What may go into a path, whatever a file says.
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]{1,255}){0,127}")
_INSECURE = HostSettings(skip_verify=True, plain_too=True)


@dataclass(frozen=True, slots=True)
class MirrorRule:
    """One `[[registry.mirror]]`."""

    location: str
    insecure: bool
    abilities: frozenset[Ability]


@dataclass(frozen=True, slots=True)
class RegistryRule:
    """One `[[registry]]`, and the file it stands in."""

    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[MirrorRule, ...]
    path: str


def read_rules(files: Iterable[Path], observe: Observer) -> tuple[RegistryRule, ...]:
    """Read all files; a later rule with an equal prefix replaces an earlier one whole.

    Raises:
        InvalidConfiguration: a file cannot be used.

    """
    rules: dict[str, RegistryRule] = {}
    for file in files:
        body = read_file(file)
        # A file of aliases alone, as every installation has one, is not parsed.
        if body is not None and speaks_of_registries(body):
            rules |= {rule.prefix: rule for rule in parse_rules(body, str(file), observe)}
    return tuple(rules.values())


def parse_rules(body: bytes, path: str, observe: Observer) -> tuple[RegistryRule, ...]:
    """Read the rules of one file; of two with the same prefix the first counts.

    Raises:
        InvalidConfiguration: it cannot be used, or is in the old format.

    """
    table = parse_toml(body, path)
    if "registries" in table.content:
        reason = "this is version 1 of the format; write `[[registry]]` tables instead"
        raise InvalidConfiguration(path, "registries", reason)
    rules: dict[str, RegistryRule] = {}
    for each in table.tables("registry"):
        rule = _rule(each)
        if rules.setdefault(rule.prefix, rule) is not rule:
            message = f"`{path}` has two tables with prefix `{rule.prefix}`; the first one counts"
            observe(Warned("registries-conf", message))
    return tuple(rules.values())


def choose(rules: Iterable[RegistryRule], registry: str, repository: str) -> HostChoice | None:
    """Apply the rule with the longest matching prefix; None when there is none.

    Raises:
        InvalidConfiguration: where it leads can be no registry.

    """
    name = f"{registry}/{repository}"
    found = [rule for rule in rules if matches_prefix(name, rule.prefix)]
    if not found:
        return None
    rule = max(found, key=lambda each: len(each.prefix))
    mirrors = [
        _endpoint(rule, each.location, name, registry, each.insecure, each.abilities)
        for each in rule.mirrors
    ]
    last = _endpoint(rule, rule.location, name, registry, rule.insecure, EVERYTHING)
    endpoints = (*mirrors, last)
    return HostChoice(registry, repository, endpoints, rule.path, FORM, blocked=rule.blocked)


def _rule(table: Table) -> RegistryRule:
    location = _location(table)
    prefix = table.text("prefix").removesuffix("/") or location
    if not prefix:
        raise table.fault("prefix", "a registry needs a prefix or a location")
    if "*" in prefix and (not prefix.startswith("*.") or "/" in prefix or "*" in prefix[1:]):
        raise table.fault("prefix", "a wildcard is written `*.example.com`, with nothing after it")
    if not location and not prefix.startswith("*."):
        raise table.fault("location", "it is missing")
    by_digest = table.flag("mirror-by-digest-only") or False
    return RegistryRule(
        prefix,
        location,
        table.flag("insecure") or False,
        table.flag("blocked") or False,
        tuple(_mirror(each, by_digest=by_digest) for each in table.tables("mirror")),
        table.path,
    )


def _mirror(table: Table, *, by_digest: bool) -> MirrorRule:
    location = _location(table)
    if not location:
        raise table.fault("location", "it is missing")
    said = table.text("pull-from-mirror")
    if said and by_digest:
        reason = "it does not go together with `mirror-by-digest-only`"
        raise table.fault("pull-from-mirror", reason)
    if said not in ("", *_PULLS):
        known = ", ".join(f"`{each}`" for each in _PULLS)
        raise table.fault("pull-from-mirror", f"it must be one of {known}")
    abilities = _PULLS[said] if said else BY_DIGEST if by_digest else EVERYTHING
    return MirrorRule(location, table.flag("insecure") or False, abilities)


def _location(table: Table) -> str:
    """Read `host[:port][/path]`. Source: sysregistriesv2, parseLocation."""
    text = table.text("location").removesuffix("/")
    if "://" in text:
        raise table.fault("location", "it has no scheme: write `HOST[:PORT][/PATH]`")
    return text


def _endpoint(
    rule: RegistryRule,
    location: str,
    name: str,
    registry: str,
    insecure: bool,  # noqa: FBT001 - as the file has it
    abilities: frozenset[Ability],
) -> Endpoint:
    place = rewrite(name, rule.prefix, location)
    host, _, repository = place.partition("/")
    if not is_host(host) or not _REPOSITORY.fullmatch(repository):
        reason = "where it leads is no repository of a registry"
        raise InvalidConfiguration(rule.path, f"prefix = {rule.prefix}", reason)
    return Endpoint(
        api_host(host),
        repository,
        host,
        abilities=abilities,
        is_upstream=is_same_registry(host, registry),
        settings=_INSECURE if insecure else USUAL,
    )
