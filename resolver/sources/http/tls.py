"""TLS trust: the system's certificate authorities and the user's own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.results.events import Warned
from resolver.errors import InvalidConfiguration
from resolver.files.read import read_regular
from resolver.sources.http.messages import CA_VARIABLES, Trust
from resolver.values import dataclass

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from resolver.core.registry.endpoints import ClientFiles, HostSettings
    from resolver.core.results.events import Observer

_MAX_BUNDLE = 16 * 1024 * 1024
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


def load_trust(
    ca_file: Path | None, environment: Mapping[str, str], observe: Observer, *, skip: bool
) -> Trust:
    """Load the user's own certificate authorities.

    Both engines read `SSL_CERT_FILE` and `SSL_CERT_DIR` of the process themselves. They are read
    here if `environment` has other values.

    Raises:
        InvalidConfiguration: `ca_file` cannot be read or has no certificate.

    """
    extra: list[bytes] = []
    if ca_file is not None:
        extra += _certificates(ca_file)
    for name in CA_VARIABLES:
        value = environment.get(name)
        if not value:
            continue
        places = [Path(part) for part in value.split(os.pathsep if name.endswith("DIR") else "\0")]
        for place in places:
            extra += _named_by_variable(name, place, observe, own=value != os.environ.get(name))
    return Trust(tuple(dict.fromkeys(extra)), skip)


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """Contents of a CA file.

    Attributes:
        certificates: number of certificates.
        ends: earliest expiry, in seconds since 1970; None if unknown.
        ended: number of expired authorities.

    """

    certificates: int
    ends: float | None
    ended: int


def look_into(file: Path, now: float) -> TrustBundle:
    """Return the contents of a CA file.

    Raises:
        InvalidConfiguration: it cannot be read or has no usable certificate.

    """
    import ssl  # noqa: PLC0415 - see `_check`

    blocks = _certificates(file)
    context = _client_context()
    for block in blocks:
        context.load_verify_locations(cadata=block.decode("ascii"))
    # OpenSSL lists only authorities; a server's own certificate is trusted regardless of its date.
    dates = [str(each["notAfter"]) for each in context.get_ca_certs() if "notAfter" in each]
    ends = sorted(map(ssl.cert_time_to_seconds, dates))
    return TrustBundle(len(blocks), ends[0] if ends else None, sum(end <= now for end in ends))


def tls_context(trust: Trust) -> ssl.SSLContext:
    """Build the TLS context for httpx's transport."""
    import ssl  # noqa: PLC0415 - see `_check`

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trust.skip:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for pem in trust.extra:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    if trust.client is not None:
        _load_client(context, trust.client)
    return context


def trust_of_host(usual: Trust, settings: HostSettings) -> Trust:
    """Return the general trust with one host's settings added.

    Raises:
        InvalidConfiguration: a file cannot be read, has no certificate, or lacks its key.

    """
    extra = [*usual.extra]
    for name in settings.ca:
        extra += _certificates(Path(name))
    client = settings.clients[0] if settings.clients else None
    if client is not None:
        # Checked now, since a handshake error would not name the file.
        _load_client(_client_context(), client)
    return Trust(tuple(dict.fromkeys(extra)), usual.skip or settings.skip_verify, client)


def identity(client: ClientFiles) -> bytes:
    """Return key and certificate in PEM form."""
    files = [name for name in (client.key, client.certificate) if name]
    return b"\n".join(_read(Path(name)) for name in files)


def _load_client(context: ssl.SSLContext, client: ClientFiles) -> None:
    import ssl  # noqa: PLC0415 - see `_check`

    place = client.certificate
    for name in (client.certificate, client.key):
        if name:
            _read(Path(name))
    try:
        # A key with a passphrase must not prompt for it.
        context.load_cert_chain(place, client.key or None, password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise InvalidConfiguration(
            place, "", "it is not a client certificate with its key, or the key has a passphrase"
        ) from error


def _named_by_variable(name: str, place: Path, observe: Observer, *, own: bool) -> list[bytes]:
    """Read the certificates that a variable names; a missing file is only a warning."""
    if not place.exists():
        observe(Warned("trust-missing", f"`{name}` names `{place}`, which does not exist"))
        return []
    folder = place.is_dir()
    if not own:
        # OpenSSL reads them itself and would block on a FIFO. The system's folder has hundreds.
        entries = (
            [each.path for each in os.scandir(place) if not each.is_file()] if folder else [place]
        )
        for each in map(Path, entries):
            if not each.is_dir() and not each.is_file() and each.exists():
                raise InvalidConfiguration(str(each), "", "it is not a regular file")
        return []
    found: list[bytes] = []
    for file in sorted(place.iterdir()) if folder else [place]:
        try:
            found += _certificates(file)
        except InvalidConfiguration:
            # A folder of certificates may hold other files too.
            if not folder:
                raise
    return found


def _read(file: Path) -> bytes:
    try:
        content, _ = read_regular(file, _MAX_BUNDLE)
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidConfiguration(str(file), "", reason) from error
    if len(content) > _MAX_BUNDLE:
        raise InvalidConfiguration(str(file), "", f"it is larger than {_MAX_BUNDLE} bytes")
    return content


def _certificates(file: Path) -> list[bytes]:
    content = _read(file)
    blocks: list[bytes] = _BLOCK.findall(content)
    if not blocks:
        raise InvalidConfiguration(str(file), "", "it has no certificate in PEM form")
    for block in blocks:
        _check(file, block)
    return blocks


def _client_context() -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 - see `_check`

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _check(file: Path, block: bytes) -> None:
    import ssl  # noqa: PLC0415 - 7 ms, and pyreqwest brings its own TLS

    try:
        _client_context().load_verify_locations(cadata=block.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidConfiguration(str(file), "", "a certificate in it is damaged") from error
