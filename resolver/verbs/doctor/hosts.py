"""Check registries: their endpoints and the file that configures them, and whether they answer."""

from __future__ import annotations

from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from resolver.core.registry.endpoints import Ability, Pulls, upstream
from resolver.errors import Malformed, RegistryBlocked, ResolverError
from resolver.sources.http.tls import Trust, trust_of_host
from resolver.sources.mirrors.hosts import CONFIG, config_file
from resolver.verbs.doctor.machine import failed, note, ok, warning, wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.registry.endpoints import Endpoint, HostChoice
    from resolver.core.results.doctor import CheckupRow, Fact
    from resolver.sources.http.messages import Response
    from resolver.verbs.doctor.machine import MachineReport

_GROUP = "registries"
#: Stands for any repository.
_ANY = "library/any"
#: What a certificate or a token may be off by, in seconds, and still be taken.
MOST_OFF = 60.0
_PROTOCOL = 200, 401, 403


def config(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report whether there is a `config.yaml`, and its path."""
    path, is_named = config_file(machine.environment, machine.settings.home)
    if path is None:
        yield note(_GROUP, CONFIG, "there is no home folder to look for it in")
    elif path.exists():
        with suppress(ResolverError):
            # `choices` reports what is wrong with it.
            count = len(machine.where.named()[CONFIG]())
            found = f"{path}: {count} host{'' if count == 1 else 's'}"
            yield ok(_GROUP, CONFIG, found, path=str(path), exists=True)
    elif not is_named:
        yield ok(_GROUP, CONFIG, f"none ({path})", path=str(path), exists=False)


def choices(machine: MachineReport) -> Iterator[CheckupRow]:
    """Report the endpoints of every registry named here or in a file."""
    names = dict.fromkeys(machine.hosts)
    told: set[str] = set()
    for place, source in machine.where.named().items():
        try:
            names |= dict.fromkeys(source())
        except (ResolverError, OSError) as error:
            told.add(str(error))
            yield failed(_GROUP, place, error)
    for name in names:
        try:
            row = _row(name, _choice(machine, name))
        except (ResolverError, OSError) as error:
            is_told = str(error) in told
            broken = wrong(_GROUP, name, "cannot be used before that is fixed", "")
            row = broken if is_told else failed(_GROUP, name, error)
        yield row
    if not names:
        yield ok(_GROUP, "mirrors", "none; every registry is used directly")


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
        return note(_GROUP, shown, f"{by}: it is blocked", "", **facts)
    for each in choice.endpoints:
        # Now, and not in the middle of a handshake.
        trust_of_host(Trust(), each.settings)
    endpoints = ", then ".join(_endpoint(each, choice.repository) for each in choice.endpoints)
    risky = [each.host for each in choice.endpoints if each.settings.skip_verify]
    if risky:
        hint = f"name its authority instead (`ca`) in {choice.source}"
        found = f"{by}: {endpoints}; certificates are not checked at {', '.join(risky)}"
        return warning(_GROUP, shown, found, hint, **facts)
    plain = upstream(choice.registry, choice.repository)
    if choice.is_plain and choice.endpoints[0] == plain:
        return ok(_GROUP, shown, f"{by}: it is used directly", **facts)
    return ok(_GROUP, shown, f"{by}: {endpoints}", **facts)


def _endpoint(endpoint: Endpoint, repository: str) -> str:
    """Return an endpoint's host, with its restrictions and options."""
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
            yield note(_GROUP, f"{host} answers", "not checked: `--offline`")
            continue
        try:
            yield from _answer(machine.knock, machine.clock, host)
        except RegistryBlocked:
            yield note(_GROUP, f"{host} answers", "not checked: it is blocked")
        except Malformed:
            # The error is reported among the files or the proxies.
            found = "not checked: its configuration cannot be used"
            yield note(_GROUP, f"{host} answers", found)
        except ResolverError as error:
            yield failed(_GROUP, f"{host} answers", error)


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
        yield ok(_GROUP, name, f"from {response.url.authority}{how}", **facts)
    else:
        found = f"status {response.status}, which is not a registry's"
        yield warning(_GROUP, name, found, "check its name and port, and any proxy", **facts)
    yield _clock(host, response.headers.get("date") or "", (before + after) / 2)


def _clock(host: str, date: str, here: float) -> CheckupRow:
    """Compare clocks; half the round trip is lost in the seconds that count."""
    name = f"{host} clock"
    try:
        there = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return note(_GROUP, name, "it sends no time")
    off = here - there
    if abs(off) > MOST_OFF:
        way = "ahead of" if off > 0 else "behind"
        found = f"this machine is {abs(off):.0f} s {way} it: certificates and tokens may fail"
        return warning(_GROUP, name, found, "timedatectl set-ntp true", seconds=round(off))
    return ok(_GROUP, name, f"agrees within {MOST_OFF:.0f} s", seconds=round(off))
