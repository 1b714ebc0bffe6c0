"""Sources of content, each a `core.oci.content.Source`: registries, layouts, archives, engines."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from resolver.core.results.events import Noted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from resolver.core.oci.content import Source
    from resolver.core.oci.reference import Reference
    from resolver.core.oci.target import LayoutTarget
    from resolver.core.results.events import Observer
    from resolver.settings import Settings
    from resolver.sources.http.client import Transport
    from resolver.sources.http.messages import SchemeMemory, SharedLimits
    from resolver.sources.mirrors.hosts import Hosts

#: Local sources: the prefix of their references, and `module:factory`, where the factory takes a
#: `LayoutTarget`, and that of an engine the environment too. To add one, write its file and add a
#: row: the module is imported on first use, and `tests/contract/test_sources.py` tests each row.
SOURCES: dict[str, str] = {
    "oci": "resolver.sources.local.layout:open_folder",
    "oci-archive": "resolver.sources.local.archive:open_oci_archive",
    "docker-archive": "resolver.sources.local.archive:open_docker_archive",
    "docker-daemon": "resolver.sources.local.docker_engine:open_docker_daemon",
    "containers-storage": "resolver.sources.local.docker_engine:open_containers_storage",
}


def settle(target: LayoutTarget) -> LayoutTarget:
    """Split a target into path and name by the files that exist; see `LayoutTarget.settled`."""
    return target.settled(os.path.exists)


def open_local(target: LayoutTarget, environment: Mapping[str, str] | None = None) -> Source:
    """Open the local source that a reference such as `oci:DIR:TAG` names.

    The target's name, None for the only image, is passed to the source's `resolve`, which takes
    empty text for None. `environment` says where an engine is; by default, that of this process.

    Raises:
        NotFound: the path or the image does not exist.
        Unavailable: no engine answers.
        Untrusted: it is of another kind, or malformed.
    """
    module, _, factory = SOURCES[target.kind].partition(":")
    build: Callable[..., Source] = getattr(import_module(module), factory)
    if target.is_engine:
        return build(target, os.environ if environment is None else environment)
    return build(target)


def open_registry(transport: Transport, reference: Reference, hosts: Hosts) -> Source:
    """Open the repository of a reference; sends no request.

    Raises:
        InvalidConfiguration: a credential file or a mirror file for it cannot be used. This is
            raised before the first request, even if no credentials turn out to be needed.
        RegistryBlocked: the user's configuration blocks it.
    """
    from resolver.core.registry.endpoints import Pulls, used_for  # noqa: PLC0415 - likewise
    from resolver.sources.registry.repository import RegistrySource  # noqa: PLC0415 - when it is needed

    registry, repository = reference.registry, reference.repository
    choice = hosts.open(registry, repository)
    transport.credentials.check(registry, repository)
    if choice.source:
        where = f"`{reference.identity}` is requested as configured in `{choice.source}`"
        transport.observe(Noted(where))
    # A failing mirror is not retried but followed by the next endpoint; the last endpoint for each
    # form of reference is retried (docs/wire-protocol.md, "Mirrors").
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
    from resolver.sources.registry.mirrored import MirroredSource  # noqa: PLC0415 - only with mirrors

    return MirroredSource(
        reference.identity, sources, transport.health, transport.observe, choice.source
    )


def as_given(source: Source, reference: Reference) -> Source:
    """Return the source with only the endpoints for a reference of this form.

    Raises:
        RegistryBlocked: none is left.
    """
    given: Callable[..., Source] | None = getattr(source, "given", None)
    return source if given is None else given(by_digest=reference.digest is not None)


def open_hosts(settings: Settings, observe: Observer) -> Hosts:
    """Return the mirror configuration; files are read on first use."""
    from resolver.sources.mirrors.hosts import Hosts  # noqa: PLC0415 - when a request is to be made

    return Hosts(settings.environment, settings.home, settings.mirrors, observe)


def open_transport(  # noqa: PLR0913 - what one session has
    settings: Settings,
    hosts: frozenset[str],
    observe: Observer,
    *,
    via: str = "",
    client: httpx.Client | None = None,
    schemes: SchemeMemory | None = None,
    shared: SharedLimits | None = None,
    registry: str = "",
) -> Transport:
    """Build the client that all registries of a session share; it connects on first use.

    An explicit user name and password are sent to the registries in `hosts` only. `via` identifies
    the requests of a mirror. `client` sends the requests if it is given, and `schemes` remembers
    whether registries on this machine use https. `shared` are limits that other processes share,
    and `registry` is the first to be requested.
    """
    recalled = schemes.recall_scheme(registry, time.time()) if schemes is not None else ""
    is_plain = settings.plain_http or recalled == "http"
    if client is None and settings.http != "httpx" and not is_plain:
        with suppress(ImportError):
            import_module("resolver.sources.http.pyreqwest_engine").gather_entropy()
    from resolver.sources.credentials.chain import Credential, CredentialChain, Secret  # noqa: PLC0415
    from resolver.sources.http.client import Transport, TransportOptions  # noqa: PLC0415

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
        jobs_per_host=settings.batch_jobs,
        environment=settings.environment,
        engine=settings.http,
        client=client,
        schemes=schemes,
        via=via,
        shared=shared,
    )
    transport = Transport(options, chain, observe)
    transport.redactor.learn(explicit)
    return transport
