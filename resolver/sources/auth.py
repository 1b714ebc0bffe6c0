"""Proving who asks: from a refusal with a challenge to a request that passes (protocol.md 9).

`RegistryAuth.flow` is a generator in the style of `httpx.Auth`: it yields calls, is sent their
answers, and ends when the last answer stands. `Transport` drives it, because httpx's own driver
reads refusals whole, and shows the answer of a redirect's target as if the registry had given it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from resolver.core.events import Warned
from resolver.sources.addresses import is_loopback
from resolver.sources.conversation import Conversation, Proof
from resolver.sources.tokens import TokenCache

if TYPE_CHECKING:
    from resolver.core.events import Observer
    from resolver.sources.conversation import Flow
    from resolver.sources.credential_values import Credential, Secret
    from resolver.sources.credentials import CredentialChain
    from resolver.sources.exchange import Call
    from resolver.sources.questions import Asker
    from resolver.sources.redaction import Redactor
    from resolver.sources.retry import Clock
    from resolver.sources.tokens import TokenSource


class RegistryAuth:
    """What is known about proving oneself to registries; safe to share between threads."""

    def __init__(
        self, credentials: CredentialChain, redactor: Redactor, observe: Observer, clock: Clock
    ) -> None:
        self.credentials = credentials
        self.redactor = redactor
        self.observe = observe
        self.clock = clock
        self.tokens = TokenCache(clock.monotonic)
        self._lock = threading.Lock()
        self._ways: dict[Asker, TokenSource | Proof] = {}
        self._refreshed: dict[Credential, Secret] = {}
        self._warned: set[str] = set()

    def flow(self, asker: Asker, call: Call) -> Flow:
        """Ask for a resource, proving who asks if and as the registry wants it.

        Raises:
            Denied: there is no way in, or none that is safe.

        """
        return Conversation(self, asker, call).run()

    def way(self, asker: Asker) -> TokenSource | Proof | None:
        """Give what worked for this repository before."""
        with self._lock:
            return self._ways.get(asker)

    def remember(self, asker: Asker, way: TokenSource | Proof) -> None:
        """Note what is about to be used for this repository."""
        with self._lock:
            self._ways[asker] = way

    def has_shown_credentials(self, asker: Asker) -> bool:
        """Whether this repository was asked for with more than nothing."""
        way = self.way(asker)
        if way is None or isinstance(way, Proof):
            return way is not None
        return self.credentials.find(asker.registry, asker.repository).credential is not None

    def refresh_token(self, credential: Credential) -> Secret | None:
        """Give the identity token, or the one that the token server replaced it by."""
        with self._lock:
            return self._refreshed.get(credential, credential.identity_token)

    def replace_refresh_token(self, credential: Credential, token: Secret) -> None:
        """Keep a new identity token, for this process only."""
        self.redactor.learn(token)
        with self._lock:
            self._refreshed[credential] = token

    def warn_in_the_open(self, call: Call) -> None:
        """Say once per host that a secret goes over plain http."""
        url = call.url
        if call.authorization is None or url.scheme != "http" or is_loopback(url.host):
            return
        with self._lock:
            if url.authority in self._warned:
                return
            self._warned.add(url.authority)
        message = f"credentials go to `{url.authority}` over plain http, for anybody to read"
        self.observe(Warned("plain-credentials", message))
