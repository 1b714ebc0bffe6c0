"""Our own `config.yaml`: mirrors, certificates and limits per registry.

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

Settings of a host are under its own name, also if it is the mirror of another.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.core.registry.endpoints import ClientFiles, HostSettings
from resolver.files import yaml
from resolver.sources.http.urls import BadUrl, is_host
from resolver.sources.mirrors.files import endpoint_at
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.parse.document import FieldReader

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
    hosts = top.fields("hosts").get("hosts")
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
    """Read a URL, or a URL and what else is to be said of it."""
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
    """Read a text, or a list of them."""
    return tuple(one.text() for one in spot.one_or_more()) if spot is not None else ()


def _number(spot: FieldReader | None, most: int) -> int | None:
    if spot is None:
        return None
    value = spot.whole()
    if not 1 <= value <= most:
        spot.fail(f"it must be from 1 to {most}")
    return value
