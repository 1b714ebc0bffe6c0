"""Translate errors of the HTTP libraries into ours, with hints.

Errors are classified by the text of their innermost causes, because pyreqwest has no classes for
them and httpx's are less precise. The text comes from OpenSSL, rustls, hyper and the operating
system, and never reaches the message: it may contain signed URLs.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from resolver.errors import (
    ConnectionFailed,
    ResolverError,
    ServerFault,
    TimedOut,
    TlsFailed,
    Unavailable,
)
from resolver.sources.http.messages import RetryableFailure
from resolver.sources.http.urls import PORTS
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.sources.http.engine import ConnectionSettings
    from resolver.sources.http.messages import Call
    from resolver.sources.http.urls import Url

_MAX_CAUSES = 16


@dataclass(frozen=True, slots=True)
class FailureReason:
    """One kind of failure.

    Attributes:
        words: any of them, in lower case, identifies it.
        sentence: message with `{host}`.
        transient: it may disappear by itself.
        by_scheme: http sent to a TLS port, or vice versa, can be the cause.

    """

    words: tuple[str, ...]
    error: type[Unavailable]
    sentence: str
    hints: tuple[str, ...] = ()
    transient: bool = False
    by_scheme: bool = False


_TRUST = "give its authority's certificate with `--ca-file FILE`"
_PLAIN = "if it uses plain HTTP, add `--plain-http`"
_TLS = "if it uses TLS, omit `--plain-http`, or use another name"

#: Checked first: texts of certificate errors contain names chosen by the server, which must not
#: match another kind of failure.
_CERTIFICATE_WORDS = ("invalid peer certificate", "certificate verify failed")
_CERTIFICATES = (
    FailureReason(
        ("certificate expired", "certificate has expired"),
        TlsFailed,
        "the certificate of `{host}` has expired",
        ("its owner must renew it; also check this machine's clock",),
    ),
    FailureReason(
        ("not valid yet", "not yet valid"),
        TlsFailed,
        "the certificate of `{host}` is not valid yet",
        ("check this machine's clock",),
    ),
    FailureReason(
        ("not valid for", "hostname mismatch", "ip address mismatch", "notvalidforname"),
        TlsFailed,
        "the certificate of `{host}` is for another host name",
        ("use the name that the certificate was made for",),
    ),
    FailureReason(
        ("causedasendentity",),
        TlsFailed,
        "`{host}` uses the certificate of an authority as its own, which TLS forbids",
        ("make it a certificate of its own, signed by that authority", "see `--ca-file FILE`"),
    ),
    FailureReason(
        (
            "unknownissuer",
            "unable to get local issuer",
            "unable to get issuer",
            "self-signed",
            "self signed",
            "badsignature",
        ),
        TlsFailed,
        "the certificate of `{host}` comes from an authority that is not trusted here",
        (_TRUST,),
    ),
    FailureReason((), TlsFailed, "the certificate of `{host}` is not acceptable", (_TRUST,)),
)

REASONS = (
    FailureReason(
        (
            "invalidcontenttype",
            "wrong version number",
            "wrong_version_number",
            "http request",
            "record layer failure",
        ),
        TlsFailed,
        "`{host}` does not use TLS; it seems to use plain HTTP",
        by_scheme=True,
    ),
    FailureReason(
        ("tls handshake eof", "unexpected_eof_while_reading", "eof occurred in violation"),
        TlsFailed,
        "`{host}` ended the connection during the TLS handshake",
        by_scheme=True,
    ),
    FailureReason(
        (
            "protocolversion",
            "alert protocol version",
            "unsupported protocol",
            "unsupported_protocol",
        ),
        TlsFailed,
        "`{host}` does not support TLS 1.2 or later",
    ),
    FailureReason(
        (
            "fatal alert",
            "sslv3 alert",
            "tlsv1 alert",
            "handshake failure",
            "[ssl:",
            "peer sent",
            "peer is incompatible",
            "peer misbehaved",
            "received corrupt message",
        ),
        TlsFailed,
        "the TLS handshake with `{host}` failed",
    ),
    FailureReason(
        (
            "name or service not known",
            "nodename nor servname",
            "no address associated",
            "name does not resolve",
            "no such host",
            "no record found",
        ),
        ConnectionFailed,
        "there is no host `{host}`",
        ("check the spelling, and the DNS server",),
    ),
    FailureReason(
        ("temporary failure in name resolution", "dns error", "failed to lookup", "try again"),
        ConnectionFailed,
        "cannot find the address of `{host}`: the name server does not answer",
        ("check the network connection",),
        transient=True,
    ),
    FailureReason(
        (
            "proxy authentication required",
            "proxy auth required",
            "proxyauthrequired",
            "proxy authorization required",
            "407 proxy",
        ),
        ConnectionFailed,
        "the proxy for `{host}` requires a login",
        ("put it into the proxy's URL: `HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT`",),
    ),
    FailureReason(
        ("tunnel", "proxy error", "proxyerror"),
        ConnectionFailed,
        "the proxy for `{host}` refuses the connection",
        ("check `HTTPS_PROXY`, or name the host in `NO_PROXY`",),
        transient=True,
    ),
    FailureReason(
        ("connection refused",),
        ConnectionFailed,
        "`{host}` refuses connections",
        ("check that it runs, and the port",),
        transient=True,
    ),
    FailureReason(
        ("network is unreachable", "no route to host", "network unreachable", "host unreachable"),
        ConnectionFailed,
        "there is no route to `{host}`",
        ("check the network connection",),
        transient=True,
    ),
    FailureReason(
        ("message head is too large", "receive buffer too long", "too many headers"),
        ServerFault,
        "`{host}` answered with too many headers",
    ),
    FailureReason(
        (
            "end of file before message length",
            "unexpected eof",
            "without sending complete",
            "incomplete chunked",
            "incompletebody",
            "close_notify",
        ),
        ConnectionFailed,
        "the connection to `{host}` broke before the answer was complete",
        transient=True,
        by_scheme=True,
    ),
    FailureReason(
        (
            "connection closed",
            "disconnected",
            "reset by peer",
            "broken pipe",
            "connection abort",
            "connection reset",
            "canceled",
            "closed before",
        ),
        ConnectionFailed,
        "`{host}` closed the connection without an answer",
        transient=True,
        by_scheme=True,
    ),
    FailureReason(
        (
            "invalid http",
            "illegal",
            "invalid content-length",
            "conflicting content-length",
            "invalid chunk",
            "invalid message",
            "parsed",
            "malformed",
            "invalid uri",
        ),
        ServerFault,
        "`{host}` answered with something that is not HTTP",
        ("check the port; another service may be listening there",),
        by_scheme=True,
    ),
)
_UNKNOWN = FailureReason(
    (), ConnectionFailed, "the connection to `{host}` failed", transient=True, by_scheme=True
)


def timed_out(
    call: Call, settings: ConnectionSettings, seconds: float | None, *, connecting: bool
) -> RetryableFailure:
    """Return the failure of a host that took too long.

    Args:
        call: the request.
        settings: with its timeouts.
        seconds: since it was sent; None once there was a status.
        connecting: the library reports that the connection was not established.

    """
    allowed, host = settings.read_timeout, call.url.authority
    if call.patience is not None:
        allowed = min(allowed, call.patience)
    unconnected = False
    if seconds is None:
        whole = call.patience is not None
        did = "did not finish its answer within" if whole else "has sent nothing more for"
    else:
        # pyreqwest reports "connection timeout" for every wait for response headers: the elapsed
        # time shows which limit was reached.
        unconnected = connecting and seconds < allowed
        did = f"did not {'take the connection' if unconnected else 'answer'} within"
        allowed = settings.connect_timeout if unconnected else allowed
    error = TimedOut(f"`{host}` {did} {allowed:.3g} s", "try again later")
    return RetryableFailure(error, transient=True, unconnected=unconnected)


def translate(
    error: BaseException, url: Url, *, answered: bool = False, plain_http: bool = False
) -> RetryableFailure:
    """Translate an error of an engine other than a timeout.

    Args:
        error: raised by the engine.
        url: of the request.
        answered: the server has answered before, so the scheme is right, or `--plain-http` does not
            apply to it.
        plain_http: http was chosen by `--plain-http`.

    """
    host = url.authority
    reason = find_reason(" | ".join(_words(error)).lower())
    hints = reason.hints
    if reason.by_scheme and not answered:
        if url.scheme == "http" and plain_http:
            hints = (*hints, _TLS)
        elif url.scheme == "https" and reason.error is TlsFailed and not _is_cut(reason, url):
            hints = (*hints, _PLAIN)
    failure = reason.error(reason.sentence.format(host=host), *hints)
    return RetryableFailure(failure, transient=reason.transient)


def _is_cut(reason: FailureReason, url: Url) -> bool:
    """Whether the handshake ended on the https port itself, where plain HTTP is unlikely."""
    return url.port == PORTS["https"] and "tls handshake eof" in reason.words


def find_reason(words: str) -> FailureReason:
    """Return the row for the text of a failure, in lower case."""
    if any(word in words for word in _CERTIFICATE_WORDS):
        return next(
            row
            for row in _CERTIFICATES
            if not row.words or any(word in words for word in row.words)
        )
    for row in REASONS:
        if any(word in words for word in row.words):
            return row
    return _UNKNOWN


def _words(error: BaseException) -> Iterator[str]:
    """Iterate over the texts of an exception and its causes, outermost first."""
    current: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if current is None or isinstance(current, ResolverError):
            return
        details = getattr(current, "details", None)
        if isinstance(details, dict):
            for cause in details.get("causes") or ():
                # The causes of a panic are plain text.
                text = str(cause.get("message", "") if isinstance(cause, dict) else cause)
                # Contains the URL, whose text could match anything.
                if not text.startswith("error sending request"):
                    yield text
        elif isinstance(current, socket.gaierror):
            # Its number is more reliable than its text, which differs between systems.
            known = current.errno in (socket.EAI_AGAIN, socket.EAI_FAIL)
            yield "temporary failure in name resolution" if known else "no such host"
        else:
            yield f"{type(current).__name__}: {current}"
        current = current.__cause__ or current.__context__
