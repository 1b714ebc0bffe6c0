"""Mirror configuration: the first source that mentions a registry decides alone.

    --mirror  >  config.yaml  >  certs.d/HOST  >  registries.conf  >  the registry itself

Files are read once, before the first network request. See docs/wire-protocol.md, "Mirrors".
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.core.registry.endpoints import (
    BY_DIGEST,
    EVERYTHING,
    Endpoint,
    HostChoice,
    HostSettings,
    upstream,
    used_for,
)
from resolver.errors import InvalidConfiguration, RegistryBlocked
from resolver.sources.http.urls import BadUrl
from resolver.sources.mirrors.files import (
    SYSTEM,
    certificate_folders,
    configuration_files,
    find_certificates,
    is_folder,
    is_in_reach,
    mentions_registries,
    read_file,
)
from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.core.results.events import Observer
    from resolver.sources.mirrors.formats import HostEntry, RegistryRule

OPTION: Final = "option"
CONFIG: Final = "config.yaml"
REGISTRIES_CONF: Final = "registries.conf"
#: Suffix of the URL of a mirror that may resolve tags.
_TAGS = "#tags"
#: A mirror URL with `/v2`: the rest is the start of the repository (Harbor's projects).
_WHOLE_PATH = pattern(r"(?:https?://)?[^/]+/v2(?:/.*)?")


class Hosts:
    """Selects the endpoints of a repository; safe to share between threads."""

    def __init__(
        self,
        environment: Mapping[str, str],
        home: Path | None,
        mirrors: Sequence[str],
        observe: Observer,
        *,
        system: Path = SYSTEM,
    ) -> None:
        self._environment = environment
        self._home = home
        self._mirrors = tuple(mirrors)
        self._observe = observe
        self._system = system
        self._lock = threading.Lock()
        self._config: Mapping[str, HostEntry] | None = None
        self._rules: tuple[RegistryRule, ...] | None = None
        self._folders = certificate_folders(environment, home, system)

    def choose(self, registry: str, repository: str) -> HostChoice:
        """Return the endpoints of a repository in order, and the source that configures them.

        Raises:
            InvalidConfiguration: a source cannot be used.
        """
        with self._lock:
            found = (
                self._by_option(registry, repository)
                or self._by_config(registry, repository)
                or self._by_folder(registry, repository)
                or self._by_rules(registry, repository)
            )
        if found is None:
            found = HostChoice(registry, repository, (upstream(registry, repository),))
        if found.form == "hosts.toml":
            return found
        return replace(found, endpoints=tuple(self._certified(each) for each in found.endpoints))

    def open(self, registry: str, repository: str, *, by_digest: bool | None = None) -> HostChoice:
        """Choose endpoints for requests by digest, by tag, or both (None)."""
        found = self.choose(registry, repository)
        is_left = by_digest is None or used_for(found.endpoints, by_digest=by_digest)
        if found.is_closed or not is_left:
            raise RegistryBlocked(f"{registry}/{repository}", found.source)
        return found

    def of(self, registry: str) -> HostSettings:
        """Return the settings of a registry's own host, for requests that bypass mirrors."""
        endpoints = self.choose(registry, "library/any").endpoints
        return next((each.settings for each in endpoints if each.is_upstream), HostSettings())

    def tier(self) -> str:
        """Return the URL of the tier that `config.yaml` names; empty for none."""
        found = self._config_body()
        if found is None:
            return ""
        from resolver.sources.mirrors.formats import parse_tier  # noqa: PLC0415 - where there is one

        return parse_tier(*found)

    def named(self) -> dict[str, Callable[[], tuple[str, ...]]]:
        """Return per source a function that lists its names; each reads files when called.

        Names are `host[:port]`, a prefix of `registries.conf` (`host/path`, `*.example.com`), or
        `_default`. The functions raise InvalidConfiguration if their source cannot be used.
        """
        return {
            "--mirror": self._in_options,
            CONFIG: self._in_config,
            "certs.d": self._in_folders,
            REGISTRIES_CONF: self._in_rules,
        }

    def _in_options(self) -> tuple[str, ...]:
        return tuple(each.partition("=")[0] for each in self._mirrors)

    def _in_config(self) -> tuple[str, ...]:
        self._entry("")
        return tuple(self._config or ())

    def _in_folders(self) -> tuple[str, ...]:
        from resolver.sources.mirrors.formats import host_of_folder  # noqa: PLC0415 - rarely

        found: list[str] = []
        for root in (*self._roots(), *self._folders):
            if is_folder(root):
                found += (host_of_folder(each.name) for each in root.iterdir() if each.is_dir())
        return tuple(sorted(found))

    def _in_rules(self) -> tuple[str, ...]:
        return tuple(rule.prefix for rule in self._read_rules())

    # --- one source each -------------------------------------------------------------------

    def _by_option(self, registry: str, repository: str) -> HostChoice | None:
        mirrors = [
            self._mirror(url.removesuffix(_TAGS), registry, repository, tags=url.endswith(_TAGS))
            for host, _, url in (each.partition("=") for each in self._mirrors)
            if host == registry
        ]
        if not mirrors:
            return None
        last = upstream(registry, repository, self._settings(registry))
        return HostChoice(registry, repository, (*mirrors, last), "--mirror", OPTION)

    def _by_config(self, registry: str, repository: str) -> HostChoice | None:
        entry = self._entry(registry)
        if entry is None:
            return None
        mirrors = [
            self._mirror(each.url, registry, repository, tags=each.tags, timeout=each.timeout)
            for each in entry.mirrors
        ]
        last = upstream(registry, repository, entry.settings)
        return HostChoice(registry, repository, (*mirrors, last), self._config_path(), CONFIG)

    def _by_folder(self, registry: str, repository: str) -> HostChoice | None:
        roots = tuple(root for root in self._roots() if is_folder(root))
        if not roots:
            return None
        from resolver.sources.mirrors.formats import find_folder, read_hosts  # noqa: PLC0415 - rarely

        folder = find_folder(roots, registry)
        return None if folder is None else read_hosts(folder, registry, repository)

    def _by_rules(self, registry: str, repository: str) -> HostChoice | None:
        rules = self._read_rules()
        if not rules:
            return None
        from resolver.sources.mirrors.formats import choose  # noqa: PLC0415 - loads TOML

        return choose(rules, registry, repository)

    def _mirror(
        self, url: str, registry: str, repository: str, *, tags: bool, timeout: float | None = None
    ) -> Endpoint:
        from resolver.sources.mirrors.formats import endpoint_at  # noqa: PLC0415 - where one is named

        try:
            found = endpoint_at(
                url,
                registry,
                repository,
                abilities=EVERYTHING if tags else BY_DIGEST,
                whole_path=_WHOLE_PATH.fullmatch(url) is not None,
            )
        except BadUrl as error:
            raise InvalidConfiguration("--mirror", registry, f"no mirror URL: {error}") from error
        own = self._settings(found.host)
        settings = replace(
            own,
            scheme=found.settings.scheme,
            connect_timeout=timeout or own.connect_timeout,
            read_timeout=timeout or own.read_timeout,
        )
        return replace(found, settings=settings)

    def _settings(self, host: str) -> HostSettings:
        entry = self._entry(host)
        return HostSettings() if entry is None else entry.settings

    def _certified(self, endpoint: Endpoint) -> Endpoint:
        """Add Docker's or containers' certificates of a host, if none are configured."""
        if endpoint.settings.ca or endpoint.settings.clients:
            return endpoint
        (ca, clients), _ = find_certificates(self._folders, endpoint.credentials)
        if not ca and not clients:
            return endpoint
        return replace(endpoint, settings=replace(endpoint.settings, ca=ca, clients=clients))

    def _config_path(self) -> str:
        return str(config_file(self._environment, self._home)[0])

    # --- files -----------------------------------------------------------------------------

    def _roots(self) -> tuple[Path, ...]:
        named = self._environment.get("RESOLVER_CERTS_D")
        if named:
            return tuple(Path(part) for part in named.split(os.pathsep) if part)
        return (self._system / "containerd/certs.d",)

    def _entry(self, host: str) -> HostEntry | None:
        if self._config is None:
            self._config = self._read_config()
        return self._config.get(host)

    def _read_config(self) -> Mapping[str, HostEntry]:
        found = self._config_body()
        if found is None:
            return {}
        from resolver.sources.mirrors.formats import parse_config  # noqa: PLC0415 - where there is one

        return parse_config(*found)

    def _config_body(self) -> tuple[bytes, str] | None:
        """Read the file, if there is one; with its path."""
        path, is_named = config_file(self._environment, self._home)
        there = path is not None and (is_named or is_in_reach(path))
        body = read_file(path) if path is not None and there else None
        if body is not None:
            return body, str(path)
        if is_named:
            raise InvalidConfiguration("RESOLVER_CONFIG", "", f"there is no file `{path}`")
        return None

    def _read_rules(self) -> tuple[RegistryRule, ...]:
        """Read all files; a later rule replaces an earlier one with the same prefix."""
        if self._rules is None:
            rules: dict[str, RegistryRule] = {}
            for file in configuration_files(self._environment, self._home, self._system):
                body = read_file(file)
                # Files with only aliases, present in every installation, are not parsed.
                if body is not None and mentions_registries(body):
                    from resolver.sources.mirrors.formats import parse_rules  # noqa: PLC0415 - loads TOML

                    parsed = parse_rules(body, str(file), self._observe)
                    rules |= {rule.prefix: rule for rule in parsed}
            self._rules = tuple(rules.values())
        return self._rules


def config_file(environment: Mapping[str, str], home: Path | None) -> tuple[Path | None, bool]:
    """Return the path of our own configuration, and whether it was named explicitly."""
    named = environment.get("RESOLVER_CONFIG")
    if named:
        return Path(named), True
    own = environment.get("XDG_CONFIG_HOME")
    if own and Path(own).is_absolute():
        return Path(own, "resolver", CONFIG), False
    if sys.platform == "linux":
        # The same as platformdirs, without its import (10 ms).
        return (home / ".config/resolver" / CONFIG if home else None), False
    import platformdirs  # noqa: PLC0415 - as above

    return platformdirs.user_config_path("resolver") / CONFIG, False
