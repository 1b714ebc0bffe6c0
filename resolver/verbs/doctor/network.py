"""Check the network's settings, the configured registries, and whether these answer."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.registry.endpoints import Ability, Pulls, upstream
from resolver.core.results.events import Noted
from resolver.errors import Malformed, RegistryBlocked, ResolverError
from resolver.sources.http.addresses import ProxySettings
from resolver.sources.http.messages import Trust
from resolver.sources.http.tls import look_into, trust_of_host
from resolver.sources.mirrors.hosts import CONFIG, config_file
from resolver.verbs.doctor.machine import failed, note, ok, warning, wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.registry.endpoints import Endpoint, HostChoice
    from resolver.core.results.doctor import CheckupRow, Fact
    from resolver.core.results.events import Event
    from resolver.sources.http.addresses import Proxy
    from resolver.sources.http.messages import Response
    from resolver.verbs.doctor.machine import MachineReport


_NETWORK = "network"
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
        yield warning(
            _NETWORK, "who answers", found, "name the authority instead: `--ca-file FILE`"
        )
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
        return warning(_NETWORK, name, found, f"name an existing one, or unset `{name}`")
    if name.endswith("DIR"):
        return ok(_NETWORK, name, value, path=value)
    count = look_into(places[0], 0.0).certificates
    return ok(_NETWORK, name, f"{value}: {_counted(count)}", path=value, certificates=count)


def _system() -> CheckupRow:
    paths = ssl.get_default_verify_paths()
    for place in (paths.cafile, *BUNDLES):
        if place and Path(place).is_file():
            count = look_into(Path(place), 0.0).certificates
            found = f"{place}: {_counted(count)}"
            return ok(_NETWORK, "authorities", found, path=place, certificates=count)
    if paths.capath and any(Path(paths.capath).glob("*.0")):
        return ok(_NETWORK, "authorities", paths.capath, path=paths.capath)
    found = "none were found in the usual places: no registry can be verified"
    return warning(_NETWORK, "authorities", found, _INSTALL)


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
        yield ok(_NETWORK, "--ca-file", found, **facts)
        return
    day = datetime.fromtimestamp(bundle.ends, UTC).date().isoformat()
    facts["ends"] = day
    if bundle.ended:
        hint = "get a new one from the registry's operator"
        yield warning(
            _NETWORK, "--ca-file", f"{found}; {bundle.ended} ended, on {day}", hint, **facts
        )
    elif bundle.ends - now < SOON * _DAY:
        hint = "ask the registry's operator for the next one"
        yield warning(_NETWORK, "--ca-file", f"{found}; ends on {day}", hint, **facts)
    else:
        yield ok(_NETWORK, "--ca-file", f"{found}, until {day}", **facts)


def proxies(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the proxies, as requests read them from the variables."""
    odd: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Noted):
            odd.append(event.message)

    found = ProxySettings.load(machine.environment, observe)
    for text in odd:
        yield warning(_NETWORK, "proxies", text, "set both to the same, or unset one")
    if found.http is None and found.https is None:
        yield ok(_NETWORK, "proxies", "none")
        return
    for name, proxy in (("https", found.https), ("http", found.http)):
        shown = _proxy(proxy)
        yield ok(_NETWORK, f"proxy for {name}", shown or "none", url=shown)
    yield ok(
        _NETWORK,
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
        yield wrong(_NETWORK, "clock", found, "timedatectl set-ntp true")
        return
    yield ok(_NETWORK, "clock", shown)


def offline(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report settings that turn off the network or TLS."""
    if machine.settings.offline:
        yield note(_NETWORK, "offline", "no requests are sent (`--offline`, `RESOLVER_OFFLINE`)")
    if machine.settings.plain_http:
        found = "every registry is used without TLS (`--plain-http`, `RESOLVER_PLAIN_HTTP`)"
        yield warning(
            _NETWORK, "plain http", found, "set it for one host: `plain-http` in config.yaml"
        )


def _counted(count: int) -> str:
    return f"{count} certificate{'' if count == 1 else 's'}"


_REGISTRIES = "registries"
#: Stands for any repository.
_ANY = "library/any"
#: What a certificate or a token may be off by, in seconds, and still be taken.
MOST_OFF = 60.0
_PROTOCOL = 200, 401, 403


def config(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report whether there is a `config.yaml`, and its path."""
    path, is_named = config_file(machine.environment, machine.settings.home)
    if path is None:
        yield note(_REGISTRIES, CONFIG, "there is no home folder to look for it in")
    elif path.exists():
        with suppress(ResolverError):
            # `choices` reports what is wrong with it.
            count = len(machine.where.named()[CONFIG]())
            found = f"{path}: {count} host{'' if count == 1 else 's'}"
            yield ok(_REGISTRIES, CONFIG, found, path=str(path), exists=True)
    elif not is_named:
        yield ok(_REGISTRIES, CONFIG, f"none ({path})", path=str(path), exists=False)


def choices(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the endpoints of every registry named here or in a file."""
    names = dict.fromkeys(machine.hosts)
    told: set[str] = set()
    for place, source in machine.where.named().items():
        try:
            names |= dict.fromkeys(source())
        except (ResolverError, OSError) as error:
            told.add(str(error))
            yield failed(_REGISTRIES, place, error)
    for name in names:
        try:
            row = _row(name, _choice(machine, name))
        except (ResolverError, OSError) as error:
            is_told = str(error) in told
            broken = wrong(_REGISTRIES, name, "cannot be used before that is fixed", "")
            row = broken if is_told else failed(_REGISTRIES, name, error)
        yield row
    if not names:
        yield ok(_REGISTRIES, "mirrors", "none; every registry is used directly")


def _choice(machine: MachineReport, name: str) -> HostChoice:
    """Choose for a registry, a prefix, a wildcard or containerd's `_default`."""
    host, _, path = name.partition("/")
    if host.startswith("*."):
        host = f"any{host[1:]}"
    return machine.where.choose(host, f"{path}/any" if path else _ANY)


def _row(name: str, choice: HostChoice) -> CheckupRow:
    shown = "every other (_default)" if name == "_default" else name
    facts: dict[str, Fact] = {
        "source": choice.source,
        "form": choice.form,
        "blocked": choice.blocked,
        "endpoints": tuple(_endpoint(each, choice.repository) for each in choice.endpoints),
    }
    by = f"{choice.source} decides" if choice.source else "no file configures it"
    if choice.blocked and choice.endpoints:
        by = f"{by}: it is blocked, and its mirrors are used"
    if choice.is_closed:
        return note(_REGISTRIES, shown, f"{by}: it is blocked", "", **facts)
    for each in choice.endpoints:
        # Now, and not in the middle of a handshake.
        trust_of_host(Trust(), each.settings)
    endpoints = ", then ".join(_endpoint(each, choice.repository) for each in choice.endpoints)
    risky = [each.host for each in choice.endpoints if each.settings.skip_verify]
    if risky:
        hint = f"name its authority instead (`ca`) in {choice.source}"
        found = f"{by}: {endpoints}; certificates are not checked at {', '.join(risky)}"
        return warning(_REGISTRIES, shown, found, hint, **facts)
    plain = upstream(choice.registry, choice.repository)
    if choice.is_plain and choice.endpoints[0] == plain:
        return ok(_REGISTRIES, shown, f"{by}: it is used directly", **facts)
    return ok(_REGISTRIES, shown, f"{by}: {endpoints}", **facts)


def _endpoint(endpoint: Endpoint, repository: str) -> str:
    notes = []
    if endpoint.repository != repository:
        notes.append(f"as {endpoint.repository}")
    if Ability.RESOLVE not in endpoint.abilities:
        notes.append("by digest only")
    if Ability.PULL not in endpoint.abilities or endpoint.pulls is Pulls.BY_TAG:
        notes.append("tags only")
    if endpoint.settings.ca:
        notes.append(f"CA {', '.join(endpoint.settings.ca)}")
    if endpoint.settings.clients:
        notes.append("client certificate")
    if endpoint.settings.headers:
        notes.append("headers")
    return f"{endpoint.url} ({', '.join(notes)})" if notes else endpoint.url


def answers(machine: MachineReport) -> Iterator[CheckupRow]:
    """Send each named registry one request, and compare its clock with this machine's."""
    for host in machine.hosts:
        if machine.knock is None:
            yield note(_REGISTRIES, f"{host} answers", "not checked: `--offline`")
            continue
        try:
            yield from _answer(machine.knock, machine.clock, host)
        except RegistryBlocked:
            yield note(_REGISTRIES, f"{host} answers", "not checked: it is blocked")
        except Malformed:
            # The error is reported among the files or the proxies.
            found = "not checked: its configuration cannot be used"
            yield note(_REGISTRIES, f"{host} answers", found)
        except ResolverError as error:
            yield failed(_REGISTRIES, f"{host} answers", error)


def _answer(
    knock: Callable[[str], Response], clock: Callable[[], float], host: str
) -> Iterator[CheckupRow]:
    before = clock()
    response = knock(host)
    after = clock()
    name = f"{host} answers"
    facts: dict[str, Fact] = {"status": response.status, "origin": str(response.registry)}
    if response.status in _PROTOCOL:
        how = "" if response.status == _PROTOCOL[0] else ", and requires a login"
        yield ok(_REGISTRIES, name, f"from {response.url.authority}{how}", **facts)
    else:
        found = f"status {response.status}, which is not a registry's"
        yield warning(_REGISTRIES, name, found, "check its name and port, and any proxy", **facts)
    yield _clock(host, response.headers.get("date") or "", (before + after) / 2)


def _clock(host: str, date: str, here: float) -> CheckupRow:
    """Compare clocks; half the round trip is lost in the seconds that count."""
    name = f"{host} clock"
    try:
        there = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return note(_REGISTRIES, name, "it sends no time")
    off = here - there
    if abs(off) > MOST_OFF:
        way = "ahead of" if off > 0 else "behind"
        found = f"this machine is {abs(off):.0f} s {way} it: certificates and tokens may fail"
        return warning(_REGISTRIES, name, found, "timedatectl set-ntp true", seconds=round(off))
    return ok(_REGISTRIES, name, f"agrees within {MOST_OFF:.0f} s", seconds=round(off))
