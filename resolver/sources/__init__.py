"""WHERE BYTES COME FROM: registries, layouts, archives. All are `core.content.Source`."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from resolver.core.events import Noted

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.content import Source
    from resolver.core.events import Observer
    from resolver.core.reference import Reference
    from resolver.core.target import LayoutTarget
    from resolver.settings import Settings
    from resolver.sources.hosts import Hosts
    from resolver.sources.transport import Transport

#: Every kind of local place there is: the prefix of its references, and `module:factory`, where
#: the factory takes a `LayoutTarget`. To add one, write its file and add a row: the module is
#: imported when a reference asks for it, and `tests/contract/test_sources.py` runs over the rows.
SOURCES: dict[str, str] = {
    "oci": "resolver.sources.layout:open_folder",
    "oci-archive": "resolver.sources.archive:open_oci_archive",
    "docker-archive": "resolver.sources.archive:open_docker_archive",
}


def settle(target: LayoutTarget) -> LayoutTarget:
    """Split a target into path and name by what exists; see `LayoutTarget.settled`."""
    return target.settled(os.path.exists)


def open_local(target: LayoutTarget) -> Source:
    """Open the local place that a reference such as `oci:DIR:TAG` names.

    The name in the target, None for "the only one there is", is for the source's `resolve`, which
    takes the empty text for None.

    Raises:
        NotFound: there is nothing at the path.
        Unavailable: it cannot be read.
        Untrusted: it is something else, or malformed.

    """
    module, _, factory = SOURCES[target.kind].partition(":")
    build: Callable[[LayoutTarget], Source] = getattr(import_module(module), factory)
    return build(target)


def open_registry(transport: Transport, reference: Reference, hosts: Hosts) -> Source:
    """Open the repository that a reference names; nothing is asked of it yet.

    Raises:
        InvalidConfiguration: a credential file that concerns it, or a file that says where it is
            to be asked, cannot be used. That is said before the first request, also where no
            credentials turn out to be needed.
        RegistryBlocked: the user's own configuration forbids it.
    """
    from resolver.core.hosts import Pulls, used_for  # noqa: PLC0415 - likewise
    from resolver.sources.registry import RegistrySource  # noqa: PLC0415 - when it is needed

    registry, repository = reference.registry, reference.repository
    choice = hosts.open(registry, repository)
    transport.credentials.check(registry, repository)
    if choice.source:
        transport.observe(Noted(f"`{reference.identity}` is asked for as `{choice.source}` says"))
    # What a mirror does not do at once, the next place is asked for (protocol.md 10); of those
    # that are used for one form of reference the last one is tried again.
    used = [used_for(choice.endpoints, by_digest=each) for each in (False, True)]
    lasts = [each[-1] for each in used if each]
    sources = [
        RegistrySource(
            transport,
            registry,
            repository,
            endpoint=endpoint,
            attempts=None if any(endpoint is each for each in lasts) else 1,
        )
        for endpoint in choice.endpoints
    ]
    if len(sources) == 1 and choice.endpoints[0].pulls is Pulls.ALL:
        return sources[0]
    from resolver.sources.mirrored import MirroredSource  # noqa: PLC0415 - only with mirrors

    return MirroredSource(
        reference.identity, sources, transport.health, transport.observe, choice.source
    )


def as_given(source: Source, reference: Reference) -> Source:
    """Leave out the mirrors that are not used for a reference of this form.

    Raises:
        RegistryBlocked: none is left.
    """
    given: Callable[..., Source] | None = getattr(source, "given", None)
    return source if given is None else given(by_digest=reference.digest is not None)


def open_hosts(settings: Settings, observe: Observer) -> Hosts:
    """Make what knows where registries are asked; it reads files when it is first asked."""
    from resolver.sources.hosts import Hosts  # noqa: PLC0415 - when a request is to be made

    return Hosts(settings.environment, settings.home, settings.mirrors, observe)


def open_transport(
    settings: Settings, hosts: frozenset[str], observe: Observer, via: str = ""
) -> Transport:
    """Build the client that all registries of a session share; it connects when first asked.

    `hosts` are the registries that somebody named: an explicit user name and password go there,
    and nowhere else. By `via` a mirror knows its own requests again.
    """
    from resolver.settings import DEFAULT_JOBS  # noqa: PLC0415
    from resolver.sources.credentials import Credential, CredentialChain, Secret  # noqa: PLC0415
    from resolver.sources.questions import JOBS_PER_HOST  # noqa: PLC0415
    from resolver.sources.transport import Transport, TransportOptions  # noqa: PLC0415

    explicit = None
    if settings.username is not None and settings.password is not None:
        explicit = Credential(settings.username, Secret(settings.password))
    chain = CredentialChain(
        settings.environment,
        settings.home,
        explicit=explicit,
        explicit_hosts=hosts,
        anonymous=settings.anonymous,
        auth_file=settings.auth_file,
        observe=observe,
    )
    options = TransportOptions(
        ca_file=settings.ca_file,
        plain_http=settings.plain_http,
        tls_skip_verify=settings.tls_skip_verify,
        # Who asks for more than the default means it; nobody else is to press a registry harder.
        jobs_per_host=settings.jobs if settings.jobs > DEFAULT_JOBS else JOBS_PER_HOST,
        environment=settings.environment,
        via=via,
    )
    return Transport(options, chain, observe)
