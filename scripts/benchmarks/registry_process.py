"""A small registry in a separate process: serves one repository and counts requests.

    python registry_process.py [--bearer] [--busy N --delay MS] [--tls AUTHORITY]

Prints its port on the first line, and behind it a second one for TLS if asked for; the certificate
of the authority that vouches for that one is written to the file AUTHORITY. `GET /_count` answers
`{"requests": …, "tokens": …, "heads": …, "refused": …, "at_once": …}` and starts counting anew.
It is not the registry of the tests: every answer leaves in one write, so that what is measured is
the network and the client.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import ssl
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trustme

REPOSITORY = "bench/app"
#: The number of tags; each is a separate index.
TAGS = 1_000
PLATFORMS = (("linux", "amd64", ""), ("linux", "arm64", "v8"), ("linux", "arm", "v7"))
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
#: Bytes of a request head, at most; our clients send about 400.
HEAD_LIMIT = 65_536
#: The first byte of a TLS connection. Source: RFC 8446, 5.1, "handshake(22)".
TLS_GREETING = b"\x16"


def tags() -> list[str]:
    """Return every tag; the first is used for single references."""
    return [f"t{number:04}" for number in range(TAGS)]


@dataclass
class Registry:
    """Documents by path, and counters."""

    bearer: bool = False
    #: Requests at once above which the answer is 429; 0 = any number.
    busy: int = 0
    #: Seconds that an answer takes.
    delay: float = 0.0
    answers: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    at_once: int = 0

    def __post_init__(self) -> None:
        """Make all images; they differ by one annotation, so no two share a digest."""
        for tag in tags():
            entries = [self._image(tag, *platform) for platform in PLATFORMS]
            index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
            self._document(INDEX_TYPE, index, tag)

    def _image(self, tag: str, system: str, architecture: str, variant: str) -> dict[str, object]:
        platform = {"os": system, "architecture": architecture}
        if variant:
            platform["variant"] = variant
        layers = [self._invented(f"{platform} {number}") for number in range(8)]
        diff_ids = [layer["digest"] for layer in layers]
        config = {**platform, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        body = json.dumps(config).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.answers[f"/v2/{REPOSITORY}/blobs/{digest}"] = ("application/octet-stream", body)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest, "size": len(body)},
            "layers": layers,
            "annotations": {"bench.tag": tag},
        }
        return {**self._document(MANIFEST_TYPE, manifest), "platform": platform}

    def _invented(self, name: str) -> dict[str, object]:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return {"mediaType": LAYER_TYPE, "digest": f"sha256:{digest}", "size": 12_345_678}

    def _document(self, media_type: str, document: object, tag: str = "") -> dict[str, object]:
        body = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        for name in (digest, tag) if tag else (digest,):
            self.answers[f"/v2/{REPOSITORY}/manifests/{name}"] = (media_type, body)
        return {"mediaType": media_type, "digest": digest, "size": len(body)}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until the client closes."""
        try:
            first = await reader.readexactly(1)
            while first != TLS_GREETING:
                head = first + await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer_in_time(head.decode("latin-1")))
                await writer.drain()
                first = await reader.readexactly(1)
            # Answer as a Go server does, so that a client which tries TLS first falls
            # back as fast as with a real registry.
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            await writer.drain()
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def _answer_in_time(self, head: str) -> bytes:
        """Answer after the delay, or with 429 if too many requests are being answered."""
        if self.busy and self.at_once >= self.busy:
            self.counts.update(requests=1, refused=1)
            await asyncio.sleep(self.delay)
            return _reply(429, "application/json", b'{"errors": [{"code": "TOOMANYREQUESTS"}]}')
        self.at_once += 1
        self.counts["at_once"] = max(self.counts["at_once"], self.at_once)
        if self.delay:
            await asyncio.sleep(self.delay)
        self.at_once -= 1
        return self._answer(head)

    def _answer(self, head: str) -> bytes:
        method, target, _ = head.split(" ", 2)
        path = target.partition("?")[0]
        lines = head.split("\r\n")[1:]
        headers = {name.lower(): value.strip() for name, _, value in _pairs(lines)}
        if path == "/_count":
            counts = json.dumps(dict(self.counts)).encode()
            self.counts.clear()
            return _reply(200, "application/json", counts)
        self.counts["tokens" if path == "/token" else "requests"] += 1
        self.counts["heads"] += method == "HEAD"
        if path == "/token":
            return _reply(200, "application/json", b'{"token": "bench", "expires_in": 300}')
        if self.bearer and headers.get("authorization") != "Bearer bench":
            realm = f'Bearer realm="http://{headers.get("host", "")}/token",service="bench"'
            scope = f'{realm},scope="repository:{REPOSITORY}:pull"'
            return _reply(401, "application/json", b"{}", f"WWW-Authenticate: {scope}\r\n")
        if path == "/v2/":
            return _reply(200, "application/json", b"{}")
        if path not in self.answers:
            # Any number of references: further tags repeat the images.
            stem, _, number = path.rpartition("/t")
            if number.isdecimal():
                path = f"{stem}/t{int(number) % TAGS:04}"
        if path not in self.answers:
            return _reply(404, "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        media_type, body = self.answers[path]
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        return _reply(
            200, media_type, body, f"Docker-Content-Digest: {digest}\r\n", silent=method == "HEAD"
        )


def _pairs(lines: list[str]) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in lines if line]


def _reply(
    status: int, media_type: str, body: bytes, more: str = "", *, silent: bool = False
) -> bytes:
    """Build a response; `silent` leaves out the body, for HEAD."""
    head = (
        f"HTTP/1.1 {status} Answer\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + (b"" if silent else body)


def _guard(authority: Path) -> ssl.SSLContext:
    """Make a certificate for this machine, and write that of its authority to a file."""
    maker = trustme.CA()
    maker.cert_pem.write_to_path(str(authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    maker.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bearer", action="store_true", help="require a token, and issue it")
    parser.add_argument("--busy", type=int, default=0, help="requests at once before 429")
    parser.add_argument("--delay", type=float, default=0, help="milliseconds of each answer")
    parser.add_argument("--tls", type=Path, help="serve over TLS too")
    chosen = parser.parse_args()
    registry = Registry(bearer=chosen.bearer, busy=chosen.busy, delay=chosen.delay / 1000)
    guards = [None, *([_guard(chosen.tls)] if chosen.tls else [])]
    servers = [
        await asyncio.start_server(registry.serve, "127.0.0.1", 0, limit=HEAD_LIMIT, ssl=guard)
        for guard in guards
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
