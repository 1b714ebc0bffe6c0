"""Check the network's settings: trusted certificates, proxies, and this machine's clock."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.results.events import Noted
from resolver.sources.http.addresses import ProxySettings
from resolver.sources.http.tls import look_into
from resolver.verbs.doctor.machine import note, ok, warning, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.doctor import CheckupRow, Fact
    from resolver.core.results.events import Event
    from resolver.sources.http.addresses import Proxy
    from resolver.verbs.doctor.machine import MachineReport

_GROUP = "network"
#: No copy of this program is older than this moment.
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
#: Days before its end at which an authority is worth a word.
SOON = 30
_DAY = 86_400
#: Default files of certificate authorities, if OpenSSL names none.
#: Source: golang crypto/x509 root_linux.go, `certFiles`.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_INSTALL = "apt-get install ca-certificates, or the equivalent package of your system"


def authorities(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the trusted certificate authorities, and the variable that replaces them."""
    if machine.settings.tls_skip_verify:
        found = "certificates are not checked (`--tls-skip-verify`, `RESOLVER_TLS_SKIP_VERIFY`)"
        yield warning(_GROUP, "who answers", found, "name the authority instead: `--ca-file FILE`")
    is_named = False
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        value = machine.environment.get(name)
        if value:
            is_named = True
            yield _named(name, value)
    if not is_named:
        yield _system()


def _named(name: str, value: str) -> CheckupRow:
    places = (
        [Path(each) for each in value.split(os.pathsep)] if name.endswith("DIR") else [Path(value)]
    )
    missing = [str(each) for each in places if not each.exists()]
    if missing:
        found = f"names `{', '.join(missing)}`, which does not exist"
        return warning(_GROUP, name, found, f"name an existing one, or unset `{name}`")
    if name.endswith("DIR"):
        return ok(_GROUP, name, value, path=value)
    count = look_into(places[0], 0.0).certificates
    return ok(_GROUP, name, f"{value}: {_counted(count)}", path=value, certificates=count)


def _system() -> CheckupRow:
    paths = ssl.get_default_verify_paths()
    for place in (paths.cafile, *BUNDLES):
        if place and Path(place).is_file():
            count = look_into(Path(place), 0.0).certificates
            found = f"{place}: {_counted(count)}"
            return ok(_GROUP, "authorities", found, path=place, certificates=count)
    if paths.capath and any(Path(paths.capath).glob("*.0")):
        return ok(_GROUP, "authorities", paths.capath, path=paths.capath)
    found = "none were found in the usual places: no registry can be verified"
    return warning(_GROUP, "authorities", found, _INSTALL)


def ca_file(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the user's own file of certificate authorities."""
    path = machine.settings.ca_file
    if path is None:
        return
    now = machine.clock()
    bundle = look_into(path, now)
    facts: dict[str, Fact] = {"path": str(path), "certificates": bundle.certificates}
    found = f"{path}: {_counted(bundle.certificates)}"
    if bundle.ends is None:
        yield ok(_GROUP, "--ca-file", found, **facts)
        return
    day = datetime.fromtimestamp(bundle.ends, UTC).date().isoformat()
    facts["ends"] = day
    if bundle.ended:
        hint = "get a new one from the registry's operator"
        yield warning(
            _GROUP, "--ca-file", f"{found}; {bundle.ended} ended, on {day}", hint, **facts
        )
    elif bundle.ends - now < SOON * _DAY:
        hint = "ask the registry's operator for the next one"
        yield warning(_GROUP, "--ca-file", f"{found}; ends on {day}", hint, **facts)
    else:
        yield ok(_GROUP, "--ca-file", f"{found}, until {day}", **facts)


def proxies(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the proxies, as requests read them from the variables."""
    odd: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Noted):
            odd.append(event.message)

    found = ProxySettings.load(machine.environment, observe)
    for text in odd:
        yield warning(_GROUP, "proxies", text, "set both to the same, or unset one")
    if found.http is None and found.https is None:
        yield ok(_GROUP, "proxies", "none")
        return
    for name, proxy in (("https", found.https), ("http", found.http)):
        shown = _proxy(proxy)
        yield ok(_GROUP, f"proxy for {name}", shown or "none", url=shown)
    yield ok(
        _GROUP,
        "no proxy for",
        ", ".join(("this machine itself", *found.exceptions)),
        exceptions=found.exceptions,
    )


def _proxy(proxy: Proxy | None) -> str:
    """Return the address of a proxy, without its credentials."""
    if proxy is None:
        return ""
    login = "***@" if proxy.username or proxy.password else ""
    return f"{proxy.url.scheme}://{login}{proxy.url.authority}"


def clock(machine: MachineReport) -> Iterator[CheckupRow]:
    """Detect a clock that was never set."""
    now = datetime.fromtimestamp(machine.clock(), UTC)
    shown = now.strftime("%Y-%m-%d %H:%M UTC")
    if now < RELEASED:
        found = f"{shown} is before this program was made: certificates will not be valid"
        yield wrong(_GROUP, "clock", found, "timedatectl set-ntp true")
        return
    yield ok(_GROUP, "clock", shown)


def offline(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report settings that turn off the network or TLS."""
    if machine.settings.offline:
        yield note(_GROUP, "offline", "no requests are sent (`--offline`, `RESOLVER_OFFLINE`)")
    if machine.settings.plain_http:
        found = "every registry is used without TLS (`--plain-http`, `RESOLVER_PLAIN_HTTP`)"
        yield warning(
            _GROUP, "plain http", found, "set it for one host: `plain-http` in config.yaml"
        )


def _counted(count: int) -> str:
    return f"{count} certificate{'' if count == 1 else 's'}"
