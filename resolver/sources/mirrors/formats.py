"""Read the three file formats that configure mirrors.

Our own `config.yaml`, where settings of a host are under its own name, also if it is the mirror of
another:

    hosts:
      docker.io:
        mirrors:
          - https://mirror.example.com
          - url: https://harbor.example.com/v2/hub
            tags: true
            timeout: 5
        rate: 20
      mirror.example.com:
        ca: corp.pem
        client-certificate: me.pem
        client-key: me.key
        jobs: 4
      registry.lan:5000:
        plain-http: true

containerd's `certs.d/HOST/hosts.toml`: containerd logs a file that it cannot read and continues
without mirrors. That sends traffic to unintended hosts, so it is an error here. See
docs/wire-protocol.md, "hosts.toml". Source: containerd v2, "Registry Configuration";
core/remotes/docker/config/hosts.go.

`registries.conf` version 2, as used by podman, buildah and skopeo: only `[[registry]]` tables are
used. Short names always mean Docker Hub here, so search lists, aliases, `short-name-mode` and
credential helpers are ignored. See docs/wire-protocol.md, "registries.conf". Source:
containers-registries.conf(5); containers/image v5 pkg/sysregistriesv2.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.core.parse.document import FieldReader, parse_toml
from resolver.core.registry.endpoints import (
    EVERYTHING,
    OF_DIGEST,
    USUAL,
    Ability,
    ClientFiles,
    Endpoint,
    HostChoice,
    HostSettings,
    Pulls,
    api_host,
    is_same_registry,
    matches_prefix,
    rewrite,
    upstream,
)
from resolver.core.results.events import Warned
from resolver.errors import InvalidConfiguration
from resolver.files import yaml
from resolver.sources.http.urls import BadUrl, Url, is_host
from resolver.sources.mirrors.files import is_folder, read_certificates, read_file
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from resolver.core.results.events import Observer


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
    """Parse the URL of an endpoint; `https://` is optional.

    `whole_path` uses the path unchanged (`override_path`).

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
    """Move the path after `/v2/` to the repository, as the server does."""
    head, slash, inner = prefix.partition(f"{_ROOT}/")
    if slash and not head and not prefix.endswith(_ROOT):
        return _ROOT, f"{inner}/{repository}"
    return prefix, repository


#: Largest timeout in seconds, rate per second and concurrent requests.
MAX_TIMEOUT, MAX_RATE, MAX_JOBS = 600, 10_000, 256
_HOST = (
    "mirrors",
    "ca",
    "client-certificate",
    "client-key",
    "plain-http",
    "tls-skip-verify",
    "rate",
    "jobs",
    "timeout",
)
_MIRROR: Final = ("url", "tags", "timeout")


@dataclass(frozen=True, slots=True)
class MirrorEntry:
    """One mirror of a registry.

    Attributes:
        tags: whether it may resolve tags; otherwise it serves digests only.
        timeout: in seconds; None for the default.
    """

    url: str
    tags: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class HostEntry:
    """Configuration of one host."""

    mirrors: tuple[MirrorEntry, ...] = ()
    settings: HostSettings = field(default_factory=HostSettings)


def parse_config(body: bytes, path: str) -> dict[str, HostEntry]:
    """Parse a file; file names in it are relative to its folder.

    Raises:
        BadFile: it cannot be used; with line and column.
    """
    top = yaml.parse(body, path)
    if top.is_empty:
        return {}
    hosts = top.fields("hosts", "tier").get("hosts")
    if hosts is None or hosts.is_empty:
        return {}
    folder = Path(path).parent
    found: dict[str, HostEntry] = {}
    for name, spot in hosts.members().items():
        if "@" in name:
            # Reported for the whole table, since the position would show the name.
            hosts.fail("the name of a host carries a user name or password")
        if not is_host(name):
            spot.fail(
                "this is not a host: write `HOST` or `HOST:PORT`, and `docker.io` for Docker Hub"
            )
        found[name] = _host(spot, name, folder)
    return found


def parse_tier(body: bytes, path: str) -> str:
    """Return the URL of a tier in a file; empty if it names none.

    Raises:
        BadFile: it cannot be used.
    """
    top = yaml.parse(body, path)
    spot = None if top.is_empty else top.fields("hosts", "tier").get("tier")
    return spot.text() if spot is not None else ""


def _host(spot: FieldReader, name: str, folder: Path) -> HostEntry:
    fields = spot.fields(*_HOST)
    certificate, key = fields.get("client-certificate"), fields.get("client-key")
    if key is not None and certificate is None:
        key.fail("a key needs its `client-certificate`")
    clients: tuple[ClientFiles, ...] = ()
    if certificate is not None:
        file = str(folder / key.text()) if key else ""
        clients = (ClientFiles(str(folder / certificate.text()), file),)
    timeout = _number(fields.get("timeout"), MAX_TIMEOUT)
    settings = HostSettings(
        scheme="http" if _truth(fields.get("plain-http")) else "",
        skip_verify=_truth(fields.get("tls-skip-verify")),
        ca=tuple(str(folder / each) for each in _texts(fields.get("ca"))),
        clients=clients,
        connect_timeout=timeout,
        read_timeout=timeout,
        rate=_number(fields.get("rate"), MAX_RATE),
        jobs=_number(fields.get("jobs"), MAX_JOBS),
    )
    mirrors = fields.get("mirrors")
    given = () if mirrors is None else tuple(_mirror(each, name) for each in mirrors.items())
    return HostEntry(given, settings)


def _mirror(spot: FieldReader, registry: str) -> MirrorEntry:
    if not spot.is_mapping:
        return MirrorEntry(_url(spot, registry))
    fields = spot.fields(*_MIRROR)
    if "url" not in fields:
        spot.fail("a mirror needs its `url`")
    timeout = _number(fields.get("timeout"), MAX_TIMEOUT)
    return MirrorEntry(_url(fields["url"], registry), _truth(fields.get("tags")), timeout)


def _url(spot: FieldReader, registry: str) -> str:
    text = spot.text()
    try:
        endpoint_at(text, registry, "repository")
    except BadUrl as error:
        spot.fail(f"this is not a mirror URL: {error}")
    return text


def _truth(spot: FieldReader | None) -> bool:
    return spot is not None and spot.truth()


def _texts(spot: FieldReader | None) -> tuple[str, ...]:
    return tuple(one.text() for one in spot.one_or_more()) if spot is not None else ()


def _number(spot: FieldReader | None, most: int) -> int | None:
    if spot is None:
        return None
    value = spot.whole()
    if not 1 <= value <= most:
        spot.fail(f"it must be from 1 to {most}")
    return value


_HOSTS_TOML: Final = "hosts.toml"
_PORT = re.compile(r"(.+):([0-9]{1,5})")
_SPELLED_PORT = re.compile(r"(.+)_([0-9]{1,5})_")
#: `push` is accepted and ignored.
_WORDS = {each.value: each for each in Ability} | {"push": None}
#: A duration in Go's format. Source: Go package time, ParseDuration.
_DURATION = re.compile(r"(?:(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:ns|us|µs|ms|s|m|h))+")
_PIECE = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
#: Source: RFC 9110, 5.6.2. A value must not contain a line end, which would start another header.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")


def find_folder(roots: tuple[Path, ...], registry: str) -> Path | None:
    """Return the folder for a registry; folders are never merged."""
    port = _PORT.fullmatch(registry)
    spelled = (f"{port[1]}_{port[2]}_",) if port else ()
    names = (*spelled, registry, "_default")
    folders = (Path(root, name) for root in roots for name in names)
    return next((folder for folder in folders if is_folder(folder)), None)


def host_of_folder(name: str) -> str:
    """Return the registry of a folder name; see `find_folder`."""
    spelled = _SPELLED_PORT.fullmatch(name)
    return f"{spelled[1]}:{spelled[2]}" if spelled else name


def read_hosts(folder: Path, registry: str, repository: str) -> HostChoice:
    """Read the configuration of a registry from a folder."""
    path = folder / "hosts.toml"
    body = read_file(path)
    if body is not None:
        return parse_hosts(body, path, registry, repository)
    ca, clients = read_certificates(folder)
    plain = upstream(registry, repository, HostSettings(ca=ca, clients=clients))
    return HostChoice(registry, repository, (plain,), str(folder), _HOSTS_TOML)


def parse_hosts(body: bytes, path: Path, registry: str, repository: str) -> HostChoice:
    """Parse a file, see `read_hosts`; file names in it are relative to its folder."""
    file = _File(path.parent, registry, repository)
    table = parse_toml(body, str(path))
    endpoints = [file.endpoint(host, url) for url, host in _hosts(table)]
    return HostChoice(registry, repository, (*endpoints, file.last(table)), str(path), _HOSTS_TOML)


def _hosts(table: FieldReader) -> Iterator[tuple[str, FieldReader]]:
    hosts = table.member("host")
    for url, host in hosts.members().items() if hosts is not None else ():
        # A URL may carry a password.
        yield url, replace(host, path="host.***") if "@" in url else host


def seconds(text: str) -> float | None:
    """Parse a duration; None if it is not valid."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(text))


@dataclass(frozen=True, slots=True)
class _File:
    folder: Path
    registry: str
    repository: str

    def endpoint(self, table: FieldReader, url: str) -> Endpoint:
        """Read one endpoint."""
        try:
            return endpoint_at(
                url,
                self.registry,
                self.repository,
                abilities=_abilities(table),
                settings=_settings(table, self.folder),
                whole_path=table.truth_of("override_path"),
            )
        except BadUrl as error:
            reason = f"it is not the URL of a registry: {error}"
            raise InvalidConfiguration(table.place, table.path or "server", reason) from error

    def last(self, table: FieldReader) -> Endpoint:
        """Read the settings of the last endpoint, which stand at the top of the file."""
        server = table.text_of("server")
        if server:
            return self.endpoint(table, server)
        settings = _settings(table, self.folder)
        found = upstream(self.registry, self.repository, settings)
        return replace(found, abilities=_abilities(table))


def _settings(table: FieldReader, folder: Path) -> HostSettings:
    timeout = table.text_of("dial_timeout")
    allowed = seconds(timeout) if timeout else None
    if timeout and not allowed:
        table.fail_at("dial_timeout", "it must be a duration, for example `3s` or `500ms`")
    return HostSettings(
        skip_verify=table.truth_of("skip_verify"),
        ca=tuple(str(folder / name) for name in table.texts_of("ca")),
        clients=_clients(table, folder),
        headers=tuple(_headers(table)),
        connect_timeout=allowed,
    )


def _abilities(table: FieldReader) -> frozenset[Ability]:
    said = table.texts_of("capabilities")
    for word in said:
        if word not in _WORDS:
            known = ", ".join(f"`{each}`" for each in _WORDS)
            table.fail_at("capabilities", f"there are only {known}")
    # An empty list means all of them, as in containerd.
    return frozenset(found for word in said if (found := _WORDS[word])) if said else EVERYTHING


def _clients(table: FieldReader, folder: Path) -> tuple[ClientFiles, ...]:
    clients = table.member("client")
    if clients is None:
        return ()
    found: list[ClientFiles] = []
    for client in clients.one_or_more():
        files = list(client.one_or_more())
        is_pair = len(files) == 2  # noqa: PLR2004 - a certificate and its key
        if not all(file.is_text for file in files) or (client.is_list and not is_pair):
            clients.fail("it must be a file, a list of files, or a list of [certificate, key]")
        found.append(ClientFiles(*(str(folder / file.text()) for file in files)))
    return tuple(found)


def _headers(table: FieldReader) -> Iterator[tuple[str, str]]:
    header = table.member("header")
    if header is None:
        return
    for name, value in header.members().items():
        if not _HEADER.fullmatch(name):
            table.fail_at("header", "it has an invalid header name")
        for text in header.texts_of(name):
            if not _VALUE.fullmatch(text):
                value.fail("it contains characters that are invalid in a header")
            yield name, text


_REGISTRIES_CONF: Final = "registries.conf"
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
    """Parse the rules of one file; the first of two with the same prefix is used."""
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
    `NeverContactSource` of an ImageDigestMirrorSet this way. A mirror with a blocking rule of its
    own is omitted.

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
    return HostChoice(
        registry, repository, tuple(endpoints), rule.path, _REGISTRIES_CONF, blocked=rule.blocked
    )


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
        tuple(_mirror_rule(each, by_digest=by_digest) for each in table.tables_of("mirror")),
        table.place,
    )


def _mirror_rule(table: FieldReader, *, by_digest: bool) -> MirrorRule:
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
