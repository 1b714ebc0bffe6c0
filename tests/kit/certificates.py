"""Certificates for tests: a private CA, and servers with one defect each."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme

#: Names in a valid certificate.
NAMES = ("127.0.0.1", "localhost", "::1")
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """A CA of our own; `with FakeRegistry(tls=authority.good())`."""

    ca: trustme.CA

    def ca_file(self, folder: Path) -> Path:
        """Write the CA certificate as PEM, for `--ca-file` and SSL_CERT_FILE."""
        path = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def good(self) -> ssl.SSLContext:
        """Serve with a valid certificate and require one of the same CA from the client."""
        return self._server()

    def wrong_host(self) -> ssl.SSLContext:
        """Serve with a certificate for `other.example.com` only."""
        return _context(self.ca.issue_cert("other.example.com"))

    def expired(self) -> ssl.SSLContext:
        """Serve with a certificate that ended yesterday."""
        return self._server(begin=-2 * _DAY, end=-_DAY)

    def not_yet_valid(self) -> ssl.SSLContext:
        """Serve with a certificate that begins tomorrow."""
        return self._server(begin=_DAY, end=2 * _DAY)

    def wants_client_certificate(self) -> ssl.SSLContext:
        """Serve with a valid certificate and require one of the same CA from the client."""
        context = self._server()
        context.verify_mode = ssl.CERT_REQUIRED
        self.ca.configure_trust(context)
        return context

    def client_files(self, folder: Path) -> tuple[Path, Path]:
        """Write a client certificate and its key as PEM."""
        leaf = self.ca.issue_cert("client.example.com")
        certificate, key = folder / "client.cert", folder / "client.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key))
        return certificate, key

    def _server(
        self, begin: dt.timedelta = -_DAY, end: dt.timedelta = 365 * _DAY
    ) -> ssl.SSLContext:
        now = dt.datetime.now(dt.UTC)
        leaf = self.ca.issue_cert(*NAMES, not_before=now + begin, not_after=now + end)
        return _context(leaf)


@cache
def authority() -> Authority:
    """Return the CA of this test run."""
    return Authority(trustme.CA())


def unknown_authority() -> Authority:
    """Return a CA that clients do not trust."""
    return Authority(trustme.CA())


def self_signed() -> ssl.SSLContext:
    """Serve with a self-signed certificate.

    It is a CA's own certificate without any host name, so both chain and name are wrong.
    """
    ca = trustme.CA()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "self.pem"
        ca.private_key_pem.write_to_path(str(path))
        ca.cert_pem.write_to_path(str(path), append=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
    return context


def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context
