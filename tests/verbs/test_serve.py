"""The embedded registry: its responses, all of them read-only."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.demo import Sample, samples
from resolver.demo.builders import build_image, write_json
from resolver.errors import StoreFault, Usage
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import Server, serve
from resolver.verbs.serve.shared_fetch import RegularFile
from tests.kit.serve_client import ask, exchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.oci.content import Document

APP = samples()[0]
LAYER, LAYER_BYTES = max(APP.blobs.items(), key=lambda item: len(item[1]))
UNKNOWN = "sha256:" + "0" * 64
#: In `demo/app`, and not in `demo/single`.
ELSEWHERE = min(set(APP.blobs) - set(samples()[3].blobs))


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(MemoryShelf(samples())) as running:
        yield running


def test_version_check_identifies_a_registry(server: Server) -> None:
    got = ask(server, "/v2/")

    assert (got.status, got.body) == (200, b"{}")


@pytest.mark.parametrize("name", ["1.0", str(APP.root.digest)])
def test_manifest_is_served_by_tag_and_digest(server: Server, name: str) -> None:
    got = ask(server, f"/v2/demo/app/manifests/{name}")

    assert got.status == 200
    assert got.body == APP.documents[APP.root.digest][1]
    assert got.headers["content-type"] == OCI_INDEX
    assert got.headers["docker-content-digest"] == str(APP.root.digest)
    assert got.headers["content-length"] == str(APP.root.size)


def test_head_equals_get_without_content(server: Server) -> None:
    for target in ("/v2/demo/app/manifests/1.0", f"/v2/demo/app/blobs/{LAYER}"):
        got, head = ask(server, target), ask(server, target, "HEAD")

        assert head.status == 200
        assert head.body == b""
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


def test_serve_accepts_a_digest_with_an_escaped_colon(server: Server) -> None:
    escaped = str(APP.root.digest).replace(":", "%3A")

    assert ask(server, f"/v2/demo/app/manifests/{escaped}").status == 200


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, None),
        (f"bytes={len(LAYER_BYTES) - 1}-", len(LAYER_BYTES) - 1, None),
        ("bytes=10-9999999999999999999", 10, None),
        ("bytes=-5", -5, None),
        ("Bytes=-5", -5, None),
        ("bytes=-9999999999999999999", 0, None),
        ("bytes=10-19,", 10, 20),
        (f"bytes=10-19, {len(LAYER_BYTES)}-", 10, 20),
    ],
)
def test_blob_range_is_served(server: Server, asked: str, begin: int, end: int | None) -> None:
    got = ask(server, f"/v2/demo/app/blobs/{LAYER}", headers={"Range": asked})

    wanted = LAYER_BYTES[begin:end]
    assert got.status == 206
    assert got.body == wanted
    first = range(len(LAYER_BYTES))[begin]
    message = f"bytes {first}-{first + len(wanted) - 1}/{len(LAYER_BYTES)}"
    assert got.headers["content-range"] == message


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,3-4",
        "bytes=9-3",
        "bytes=5-6,9-3",
        "bytes=-",
        "bytes=",
        "bytes=,",
        "bytes=5",
        "bytes 0-1",
        "lines=0-1",
        "bytes=٣-٤",
        "bytes=0-" + "9" * 40,
    ],
)
def test_unsupported_range_header_is_ignored(server: Server, asked: str) -> None:
    got = ask(
        server, f"/v2/demo/app/blobs/{LAYER}", headers={"Range": asked.encode().decode("latin-1")}
    )

    assert (got.status, got.body) == (200, LAYER_BYTES)


@pytest.mark.parametrize(
    "beyond",
    [
        f"{len(LAYER_BYTES)}-",
        f"{len(LAYER_BYTES) + 5}-",
        "-0",
        f"{len(LAYER_BYTES)}-,-0",
    ],
)
def test_range_past_the_end_is_unsatisfiable(server: Server, beyond: str) -> None:
    got = ask(server, f"/v2/demo/app/blobs/{LAYER}", headers={"Range": f"bytes={beyond}"})

    assert got.status == 416
    assert got.headers["content-range"] == f"bytes */{len(LAYER_BYTES)}"


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (f'"{LAYER}"', 206),
        (f' "{LAYER}" ', 206),
        (f'W/"{LAYER}"', 200),
        (f'"{UNKNOWN}"', 200),
        (str(LAYER), 200),
        ("Sat, 29 Oct 1994 19:43:31 GMT", 200),
        ("Sat, 29 Oct 2094 19:43:31 GMT", 200),
        ("nonsense", 200),
        ("", 200),
    ],
)
def test_range_applies_only_while_if_range_matches(
    server: Server, condition: str, status: int
) -> None:
    headers = {"Range": "bytes=10-19", "If-Range": condition}
    got = ask(server, f"/v2/demo/app/blobs/{LAYER}", headers=headers)

    assert got.status == status
    assert got.body == (LAYER_BYTES[10:20] if status == 206 else LAYER_BYTES)
    assert got.headers["etag"] == f'"{LAYER}"'


def test_unsatisfiable_range_of_other_content_is_ignored(server: Server) -> None:
    headers = {"Range": f"bytes={len(LAYER_BYTES)}-", "If-Range": f'"{UNKNOWN}"'}
    got = ask(server, f"/v2/demo/app/blobs/{LAYER}", headers=headers)

    assert (got.status, got.body) == (200, LAYER_BYTES)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": '"{tag}"'}, 304),
        ({"If-None-Match": 'W/"{tag}"'}, 304),
        ({"If-None-Match": '"other", "{tag}"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Match": '"{tag}"'}, 200),
        ({"If-Match": 'W/"{tag}"'}, 412),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"', "If-None-Match": '"{tag}"'}, 412),
        ({"If-None-Match": '"{tag}"', "Range": "bytes=0-1"}, 304),
    ],
)
@pytest.mark.parametrize("kind", ["blobs", "manifests"])
def test_entity_tags_decide_whether_content_is_sent(
    server: Server, kind: str, headers: dict[str, str], status: int, method: str
) -> None:
    digest = LAYER if kind == "blobs" else APP.root.digest
    message = {name: value.format(tag=digest) for name, value in headers.items()}
    got = ask(server, f"/v2/demo/app/{kind}/{digest}", method, message)

    assert got.status == status
    if status == 304:
        assert got.body == b""
        assert got.headers["etag"] == f'"{digest}"'


def test_two_range_headers_are_ignored(server: Server) -> None:
    head = f"GET /v2/demo/app/blobs/{LAYER} HTTP/1.1\r\nHost: localhost\r\n"
    answer = exchange(server, f"{head}Range: bytes=0-1\r\nRange: bytes=3-4\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_empty_blob_has_no_range(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with serve(FileShelf(path)) as server:
        for asked, status in (("bytes=-1", 200), ("bytes=0-", 416), ("bytes=-0", 416)):
            got = ask(server, f"/v2/demo/app/blobs/{LAYER}", headers={"Range": asked})
            assert got.status == status


def test_manifest_range_is_ignored(server: Server) -> None:
    got = ask(server, "/v2/demo/app/manifests/1.0", headers={"Range": "bytes=0-1"})

    assert (got.status, len(got.body)) == (200, APP.root.size)


def test_served_tags_are_sorted_and_paged(server: Server) -> None:
    whole = ask(server, "/v2/demo/app/tags/list")
    first = ask(server, "/v2/demo/app/tags/list?n=2")
    link = first.headers["link"]
    second = ask(server, link[1 : link.index(">")])

    assert json.loads(whole.body) == {"name": "demo/app", "tags": ["1.0", "2.0", "latest"]}
    assert "link" not in whole.headers
    assert json.loads(first.body)["tags"] == ["1.0", "2.0"]
    assert link.endswith('; rel="next"')
    assert json.loads(second.body)["tags"] == ["latest"]
    assert "link" not in second.headers


def test_zero_page_size_returns_no_tags_and_no_link(server: Server) -> None:
    got = ask(server, "/v2/demo/app/tags/list?n=0")

    assert json.loads(got.body)["tags"] == []
    assert "link" not in got.headers


@pytest.mark.parametrize("size", ["x", "-1", "1e3", "9" * 5000, "%D9%A3"])
def test_invalid_page_size_is_refused(server: Server, size: str) -> None:
    assert ask(server, f"/v2/demo/app/tags/list?n={size}").code == "PAGINATION_NUMBER_INVALID"


def test_catalog_lists_the_repositories(server: Server) -> None:
    got = ask(server, "/v2/_catalog?n=2")

    assert json.loads(got.body) == {"repositories": ["demo/app", "demo/liar"]}
    assert got.headers["link"] == '</v2/_catalog?n=2&last=demo%2Fliar>; rel="next"'


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v2/demo/none/manifests/1.0", 404, "NAME_UNKNOWN"),
        ("/v2/demo/none/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/demo/app/manifests/9.9", 404, "MANIFEST_UNKNOWN"),
        ("/v2/demo/app/manifests/.hidden", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/demo/app/manifests/{UNKNOWN}", 404, "MANIFEST_UNKNOWN"),
        ("/v2/demo/app/manifests/sha256:short", 400, "DIGEST_INVALID"),
        ("/v2/demo/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"),
        (f"/v2/demo/app/blobs/{UNKNOWN}", 404, "BLOB_UNKNOWN"),
        (f"/v2/demo/single/blobs/{ELSEWHERE}", 404, "BLOB_UNKNOWN"),
        ("/v2/demo/app/blobs/latest", 400, "DIGEST_INVALID"),
        ("/v2/Demo/app/manifests/1.0", 400, "NAME_INVALID"),
        ("/v2/demo/../demo/app/manifests/1.0", 400, "NAME_INVALID"),
        ("/v2/%2e%2e/%2e%2e/etc/manifests/passwd", 400, "NAME_INVALID"),
        ("/v2/demo/app%0a/manifests/1.0", 400, "NAME_INVALID"),
        ("/v2/" + "a" * 256 + "/manifests/1.0", 400, "NAME_INVALID"),
        ("/v2/demo/app/blobs/sha256:..%2f..%2fetc%2fpasswd", 404, "UNSUPPORTED"),
        ("/v2/demo/app/blobs/sha256%2f..%2fpasswd", 404, "UNSUPPORTED"),
        ("/v2/demo/app/blobs/sha256:../manifests/x", 400, "NAME_INVALID"),
        ("/v2/demo/app/tags/other", 404, "UNSUPPORTED"),
        ("/v1/search", 404, "UNSUPPORTED"),
        ("/", 404, "UNSUPPORTED"),
        ("/../../etc/passwd", 404, "UNSUPPORTED"),
    ],
)
def test_missing_content_has_the_specified_error_code(
    server: Server, target: str, status: int, code: str
) -> None:
    got = ask(server, target)

    assert (got.status, got.code) == (status, code)
    assert got.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_serve_refuses_every_write(server: Server, method: str) -> None:
    got = ask(server, "/v2/demo/app/blobs/uploads/", method)

    assert (got.status, got.code) == (405, "UNSUPPORTED")
    assert got.headers["allow"] == "GET, HEAD"


def test_unknown_method_gets_a_json_error(server: Server) -> None:
    got = ask(server, "/v2/", "BREW")

    assert (got.status, got.code) == (501, "UNSUPPORTED")


@pytest.mark.parametrize(
    "request_line", [b"nonsense\r\n\r\n", b"GET /v2/ HTTP/9.x\r\n\r\n", b"\x00\xff\r\n\r\n"]
)
def test_invalid_request_gets_a_complete_answer(server: Server, request_line: bytes) -> None:
    answer = exchange(server, request_line)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"UNSUPPORTED"' in answer


def test_request_body_is_not_read_as_the_next_request(server: Server) -> None:
    inner = b"GET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n"
    outer = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner)

    assert exchange(server, outer + inner).count(b"HTTP/1.1 ") == 1


def test_one_connection_serves_many_requests(server: Server) -> None:
    link = http.client.HTTPConnection(server.address, timeout=5)
    try:
        for target in ("/v2/", "/v2/demo/app/manifests/none", f"/v2/demo/app/blobs/{LAYER}"):
            link.request("GET", target)
            opened = link.sock
            link.getresponse().read()

            assert link.sock is opened
    finally:
        link.close()


SMUGGLED = b"GET /v2/_catalog HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 0", b"Content-Length: 51"],
        [b"Content-Length: 0", b"Content-Length: 0"],
        [b"Content-Length: 51"],
        [b"Content-Length: 0, 0"],
        [b"Content-Length: +0"],
        [b"Content-Length: -1"],
        [b"Content-Length: 0x0"],
        [b"Content-Length: 1_0"],
        [b"Content-Length:"],
        [b"Content-Length : 0"],
        [b"Content-Length: " + b"0" * 40],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding\t: chunked"],
        [b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: Chunked"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"X: 1", b" Transfer-Encoding: chunked"],
        [b"\tfolded: yes"],
        [b" Host: evil.example"],
        [b"X: a\nTransfer-Encoding: chunked"],
        [b"X: a\rTransfer-Encoding: chunked"],
        [b"X: a\x00b"],
        [b"no colon"],
        [b": no name"],
        [b"na me: x"],
        [b"n\xe4me: x"],
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_ambiguous_request_length_is_refused_and_closes(
    server: Server, lines: list[bytes], method: bytes
) -> None:
    head = b"\r\n".join([method + b" /v2/ HTTP/1.1", b"Host: localhost", *lines, b"", b""])
    answer = exchange(server, head + CHUNKED + SMUGGLED)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /v2/ HTTP/1.1", 200),
        (b"GET http://localhost/v2/ HTTP/1.1", 200),
        (b"GET http://evil.example/v2/ HTTP/1.1", 421),
        (b"GET  /v2/ HTTP/1.1", 400),
        (b"GET /v2/\tHTTP/1.1", 400),
        (b"GET /v2/ HTTP/1.1 ", 400),
        (b"GET /v2/ http/1.1", 400),
        (b"GET /v2/\xe4 HTTP/1.1", 400),
        (b"GET /v2/", 400),
        (b"GET /v2/ HTTP/2.0", 505),
        (b"G\x00T /v2/ HTTP/1.1", 400),
        (b"POST /v2/ HTTP/1.1", 405),
    ],
)
def test_request_line_is_parsed_strictly(server: Server, request_line: bytes, status: int) -> None:
    answer = exchange(server, request_line + b"\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    manifest = SMUGGLED.replace(b"/v2/_catalog", b"/v2/demo/app/manifests/1.0")
    closing = SMUGGLED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = exchange(server, b"\r\n" + SMUGGLED + manifest + closing + SMUGGLED)

    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.index(b'"repositories"') < answer.index(b'"manifests"')


@pytest.mark.parametrize(
    ("options", "is_kept"),
    [
        (b"HTTP/1.1\r\n", True),
        (b"HTTP/1.1\r\nConnection: TE, Close\r\n", False),
        (b"HTTP/1.0\r\n", False),
        (b"HTTP/1.0\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_connection_is_kept_when_both_sides_agree(
    server: Server, options: bytes, is_kept: bool
) -> None:
    request = b"GET /v2/ " + options + b"Host: localhost\r\n\r\n"

    assert exchange(server, request * 2).count(b"HTTP/1.1 200 ") == (2 if is_kept else 1)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 40_000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431),
    ],
)
def test_request_header_size_is_limited(server: Server, head: bytes, status: int) -> None:
    answer = exchange(server, head)

    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_client_that_keeps_sending_receives_the_whole_answer(server: Server) -> None:
    head = b"PUT /v2/demo/app/manifests/1 HTTP/1.1\r\nHost: localhost\r\n"
    answer = exchange(server, head + b"Content-Length: 200000\r\n\r\n" + bytes(200_000))

    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"read-only" in answer


class FileShelf(MemoryShelf):
    """Serves one blob from a given file."""

    def __init__(self, path: Path) -> None:
        super().__init__([APP])
        self._path = path

    def blob(self, repository: str, digest: Digest) -> RegularFile:  # type: ignore[override]  # for one test only
        del repository, digest
        return RegularFile(str(self._path.parent), (self._path.name,))


@pytest.mark.parametrize("asked", [None, "bytes=5-9", "bytes=70000-"])
def test_blob_in_a_file_is_sent_from_the_file(tmp_path: Path, asked: str | None) -> None:
    content = os.urandom(200_000)
    path = tmp_path / "blob"
    path.write_bytes(content)
    with serve(FileShelf(path)) as server:
        got = ask(server, f"/v2/demo/app/blobs/{LAYER}", headers={"Range": asked} if asked else {})

    if asked is None:
        assert (got.status, got.body) == (200, content)
    else:
        first, _, last = asked.removeprefix("bytes=").partition("-")
        assert got.status == 206
        assert got.body == content[int(first) : int(last) + 1 if last else None]


def test_only_regular_files_are_served(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    for name, status in (("link", 500), ("pipe", 500), (".", 500), ("gone", 404)):
        with serve(FileShelf(tmp_path / name)) as server:
            got = ask(server, f"/v2/demo/app/blobs/{LAYER}")

        assert got.status == status
        assert b"secret" not in got.body
        assert str(tmp_path).encode() not in got.body


def test_file_that_shrinks_ends_the_response_early(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64_000_000)
    with serve(FileShelf(path)) as server:
        link = http.client.HTTPConnection(server.address, timeout=5)
        link.request("GET", f"/v2/demo/app/blobs/{LAYER}")
        answer = link.getresponse()
        answer.read(10)
        os.truncate(path, 1000)
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        link.close()


class BrokenShelf(MemoryShelf):
    """Fails to read its content."""

    def document(self, repository: str, name: str) -> Document | None:
        raise StoreFault("/private/store", f"{repository}:{name}: input/output error")


def test_catalog_failure_is_reported_without_paths() -> None:
    with serve(BrokenShelf([APP])) as server:
        got = ask(server, "/v2/demo/app/manifests/1.0")
        after = ask(server, "/v2/")

    assert (got.status, got.code) == (500, "UNKNOWN")
    assert b"/private" not in got.body
    assert after.status == 200


def referrer(subject: Digest, **more: object) -> tuple[Digest, tuple[str, bytes]]:
    body = write_json({"schemaVersion": 2, "subject": {"digest": str(subject)}, **more})
    return Digest.of(body), (OCI_MANIFEST, body)


def test_long_referrers_list_is_paged() -> None:
    image = build_image("linux/amd64", [])
    subject = image.root.digest
    made = dict(
        referrer(subject, artifactType="a/b", annotations={"n": str(number)})
        for number in range(1_001)
    )
    documents = {**image.documents, **made}
    with serve(MemoryShelf([Sample("a", "1", image.root, documents, image.blobs)])) as server:
        target, seen = f"/v2/a/referrers/{subject}?artifactType=a%2Fb&ns=x", []
        sizes = []
        while target:
            got = ask(server, target)
            assert got.headers["oci-filters-applied"] == "artifactType"
            page = [entry["digest"] for entry in json.loads(got.body)["manifests"]]
            sizes.append(len(page))
            seen += page
            link = got.headers.get("link", "")
            target = link[1 : link.index(">")] if link else ""
            assert "ns=x" in target or not target

    assert sizes == [1_000, 1]
    assert seen == sorted(str(each) for each in made)


def test_referrers_are_documents_with_the_subject() -> None:
    image = build_image("linux/amd64", [])
    subject = image.root.digest
    sbom = referrer(subject, artifactType="application/spdx+json", annotations={"by": "us"})
    old = referrer(subject, config={"mediaType": "application/old"})
    other = referrer(LAYER)
    broken = (Digest.of(b"{"), (OCI_MANIFEST, b"{"))
    documents = {**image.documents, **dict([sbom, old, other, broken])}
    shelf = MemoryShelf([Sample("a", "1", image.root, documents, image.blobs)])
    with serve(shelf) as server:
        whole = ask(server, f"/v2/a/referrers/{subject}")
        some = ask(server, f"/v2/a/referrers/{subject}?artifactType=application%2Fspdx%2Bjson")
        none = ask(server, f"/v2/a/referrers/{UNKNOWN}")

    assert whole.headers["content-type"] == OCI_INDEX
    assert json.loads(whole.body)["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(sbom[0]),
            "size": len(sbom[1][1]),
            "artifactType": "application/spdx+json",
            "annotations": {"by": "us"},
        },
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(old[0]),
            "size": len(old[1][1]),
            "artifactType": "application/old",
        },
    ]
    assert "oci-filters-applied" not in whole.headers
    assert [entry["digest"] for entry in json.loads(some.body)["manifests"]] == [str(sbom[0])]
    assert some.headers["oci-filters-applied"] == "artifactType"
    assert (none.status, json.loads(none.body)["manifests"]) == (200, [])


def test_media_type_cannot_inject_a_header() -> None:
    body = b"{}"
    hostile = Descriptor("a/b\r\nX-Evil: yes", Digest.of(body), len(body))
    documents = {hostile.digest: (hostile.media_type, body)}
    with serve(MemoryShelf([Sample("a", "1", hostile, documents, {})])) as server:
        got = ask(server, "/v2/a/manifests/1")

    assert got.headers["content-type"] == "application/octet-stream"
    assert "x-evil" not in got.headers


def test_closing_ends_idle_and_busy_connections_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64_000_000)
    before = threading.active_count()
    server = serve(FileShelf(path))
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port))) as idle,
        socket.create_connection((host, int(port))) as busy,
    ):
        busy.sendall(f"GET /v2/demo/app/blobs/{LAYER} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert busy.recv(1) == b"H"
        begin = time.monotonic()
        server.close()

        assert time.monotonic() - begin < 1
        assert idle.recv(1) == b""
    assert threading.active_count() == before
    server.close()


def test_waiting_ends_when_the_server_is_closed() -> None:
    server = serve(MemoryShelf([]))
    closer = threading.Thread(target=server.close)
    closer.start()
    server.wait()
    closer.join()

    with pytest.raises(ConnectionRefusedError):
        ask(server, "/v2/")


def test_port_in_use_is_reported() -> None:
    with serve(MemoryShelf([])) as server:
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(Usage, match=f"cannot listen on `127.0.0.1:{port}`: "):
            serve(MemoryShelf([]), port=port)
    with pytest.raises(Usage, match="cannot listen"):
        serve(MemoryShelf([]), port=70_000)


def test_serve_listens_on_loopback_by_default(server: Server) -> None:
    assert server.address.startswith("127.0.0.1:")


def test_ipv6_address_is_formatted_as_in_references() -> None:
    with serve(MemoryShelf([APP]), host="::1") as server:
        assert server.address.startswith("[::1]:")
        assert ask(server, "/v2/").status == 200


@pytest.mark.real
@pytest.mark.parametrize(
    "sample", samples(), ids=lambda sample: f"{sample.repository}:{sample.tag}"
)
def test_skopeo_copies_every_byte(server: Server, sample: Sample, tmp_path: Path) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    source = f"docker://{server.address}/{sample.repository}:{sample.tag}"
    subprocess.run(
        [
            skopeo,
            "copy",
            "--quiet",
            "--all",
            "--src-tls-verify=false",
            source,
            f"oci:{tmp_path}/out:x",
        ],
        check=True,
        timeout=60,
    )

    blobs = tmp_path / "out" / "blobs" / "sha256"
    copied = {path.name: path.read_bytes() for path in blobs.iterdir()}
    wanted = {digest.hex: body for digest, (_, body) in sample.documents.items()}
    wanted |= {digest.hex: blob for digest, blob in sample.blobs.items()}
    assert copied == wanted


def test_tls_client_gets_an_immediate_answer() -> None:
    with serve(MemoryShelf(samples())) as server:
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=2) as link:
            # The beginning of a handshake, without a line end in it.
            link.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            assert link.recv(4_096).startswith(b"HTTP/1.1 400 ")
            assert link.recv(1) == b""
