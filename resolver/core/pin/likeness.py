"""Detect values that look like image references and that no finder has read.

A finder knows the keys of one kind of file. Any other value that looks like an image is reported
with its key, so that a check never silently misses an image.

The rule, for a value that is a reference by Docker's grammar and has a tag:

- below an image key (`image`, `sidecarImage`, `image_name`, items of `images`): an image with any
  tag, also after `docker://`, `docker-image://` or `oci://`;
- with a registry host (`quay.io/org/app:v1`): an image;
- with a path (`org/app:1.2`) or a plain name (`app:1.2`): an image where the tag reads as a version
  (`1.2`, `v3`, `7-alpine`, `alpine3.20`, `latest`; after a path also `1` and `stable`), and the
  name is not a word of another notation (`version:1.2`, `sha256:…`); this excludes ports, times,
  modes and pairs of words;
- the name of an official image of Docker Hub (`redis:7`, `debian:bookworm`): an image, unless the
  tag may be a port.

For `--flag=VALUE` and `KEY=VALUE` the same rule applies to the value, with the name as key.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from resolver.core.oci.reference import Reference
from resolver.core.parse.yaml_tree import Mapping, Node, Sequence, YamlScalar, join, text_at
from resolver.core.pin.edits import ImageSpot, Passed, Stray, means_other, scheme_of, span_of
from resolver.errors import InvalidReference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Words after `image` in keys of a whole reference: `imageName`, `IMAGE_REF`.
_SUFFIXES = frozenset({"name", "ref", "reference", "uri", "url"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ASSIGNED = re.compile(r"-{0,2}([A-Za-z_][A-Za-z0-9_./-]*)=(\S+)")
_LIKELY = re.compile(
    r"[a-z0-9][A-Za-z0-9._/-]*+(?::[0-9]++/[a-z0-9._/-]++)?:[A-Za-z0-9_][A-Za-z0-9_.-]*+"
)
_LETTER = re.compile(r"[a-z]")
_VERSION = re.compile(
    r"v?[0-9]+(?:\.[0-9]+)+(?![0-9]).*|v[0-9]+(?:[._-].*)?|[0-9]+-[a-z].*"
    r"|[a-z]+-?[0-9]+\.[0-9].*|latest"
)
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_PORT = re.compile(r"[0-9]{3,5}|80|53|25|2[0-3]")
#: Official images with major versions of 2 digits: `node:22`, whereas `nginx:80` is a port.
_SERVER_PORT = re.compile(r"[0-9]{3,5}|80")
_DIGITS = re.compile(r"[0-9]+")
#: Usual names of moving tags.
_MOVING = frozenset({"dev", "edge", "lts", "main", "master", "nightly", "stable"})
#: Words of other notations before a colon.
_OTHER_NAMES = frozenset((
    "container", "cpu", "file", "git", "go-version", "host", "http", "https", "key", "level",
    "localhost", "max", "memory", "min", "npm", "pip", "ratio", "sampler", "service",
    "ssl", "system", "target", "tcp", "tls", "udp",
    "unix", "urn", "user", "version", "weight",
))  # fmt: skip
#: Source: github.com/docker-library/official-images, `library/`, the images pulled most.
_OFFICIAL = frozenset((
    "adminer", "alpine", "amazonlinux", "amazoncorretto", "archlinux", "bash", "busybox",
    "caddy", "cassandra", "centos", "composer", "couchdb", "debian", "docker",
    "eclipse-temurin", "elasticsearch", "elixir", "erlang", "fedora", "gcc", "ghost", "golang",
    "gradle", "haproxy", "httpd", "influxdb", "kibana", "kong", "logstash", "mariadb", "maven",
    "memcached", "mongo", "mongo-express", "mysql", "neo4j", "nextcloud", "nginx", "node",
    "openjdk", "oraclelinux", "percona", "perl", "php", "postgres", "python", "rabbitmq",
    "redis", "registry", "rockylinux", "ruby", "rust", "solr", "sonarqube", "swift", "telegraf",
    "tomcat", "traefik", "ubuntu", "vault", "wordpress", "zookeeper",
))  # fmt: skip
#: Keys that name outputs of a build.
_WRITTEN = frozenset((
    "cache-from", "cache-to", "cache_from", "cache_to", "cachefrom", "cacheto", "destination",
    "destinations", "output", "outputs", "tags",
))  # fmt: skip
_OUTPUT = "it names a build output, or a cache"
#: Last words of keys of an image whose tag has a separate key.
_NAMING = frozenset({"image", "img", "name", "path", "repo", "repository"})
_DIGESTS = ("digest", "imageDigest", "image_digest", "sha")
#: Keys of other things with tags.
_SOURCES = frozenset({"chart", "charts", "git", "gitrepository", "source", "sources", "vcs"})
#: Last words of keys below `image` of a whole reference.
_WHOLE = _NAMING | _SUFFIXES | {"default", "full", "value"}
_DIGEST_NAMES = frozenset({"md5", "sha1", "sha256", "sha384", "sha512"})
#: Suffixes of file names.
_FILES = (
    ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".ico", ".iso", ".img", ".qcow2", ".tar",
)  # fmt: skip


def is_image_key(key: str) -> bool:
    """Whether a key is that of an image: `image`, `sidecarImage`, `IMAGE_NAME`."""
    words = [word.lower() for word in _WORDS.findall(key)]
    if len(words) > 1 and words[-1] in _SUFFIXES:
        words.pop()
    return bool(words) and words[-1] in {"image", "img"}


def _holds_images(key: str) -> bool:
    return _last_word(key) in {"image", "images"}


def _last_word(key: str) -> str:
    return next(reversed(_WORDS.findall(key)), "").lower()


def likeness(value: str, key: str = "", *, above: str = "") -> tuple[int, str] | None:
    """Find a reference with a tag that a value looks like.

    Args:
        value: the text of a scalar.
        key: the nearest key above it.
        above: the key above that one.

    Returns:
        Its offset in the value and its text; None without one, or if it has a digest.
    """
    start = 0
    assigned = _ASSIGNED.fullmatch(value)
    if assigned is not None:
        key, start = assigned[1].replace("-", "_"), assigned.start(2)
        if key.lower() in _WRITTEN:
            return None
    scheme = scheme_of(value[start:])
    start += len(scheme)
    words = value[start:]
    if not _LIKELY.fullmatch(words):
        return None
    try:
        reference = Reference.parse(words)
    except InvalidReference:
        return None
    is_digest = words.partition(":")[0] in _DIGEST_NAMES
    if reference.tag is None or is_digest or not _LETTER.search(words):
        return None
    if scheme or _is_below_image(key, above):
        return start, words
    return (start, words) if _is_plain_image(words, reference.tag) else None


def _is_below_image(key: str, above: str) -> bool:
    if is_image_key(key) or _holds_images(key):
        return True
    return _holds_images(above) and (not is_image_key(above) or _last_word(key) in _WHOLE)


def _is_plain_image(words: str, tag: str) -> bool:
    name = words.removesuffix(f":{tag}")
    host, slash, _ = name.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return True
    if _ADDRESS.fullmatch(tag) or name in _OTHER_NAMES:
        return False
    if name in _OFFICIAL:
        return not _SERVER_PORT.fullmatch(tag)
    if slash and (tag in _MOVING or (_DIGITS.fullmatch(tag) and not _PORT.fullmatch(tag))):
        return True
    return bool(_LETTER.search(name)) and _VERSION.fullmatch(tag) is not None


def sweep(
    text: str, document: Node, marks: Iterable[ImageSpot | Stray | Passed], path: str = ""
) -> Iterator[Stray | Passed]:
    """Yield the values of a document that look like images and were not found otherwise."""
    marks = list(marks)
    pairs = [*_pairs(document, path, {mark.start for mark in marks})]
    yield from pairs
    marks += pairs
    starts = sorted({start for mark in marks for start in (mark.start, _named_at(mark))})
    for scalar, keys, where in values(document, path):
        if any(scalar.start <= start <= scalar.end for start in _near(starts, scalar)):
            continue
        key = next((word for word in reversed(keys) if word), "")
        above = keys[-2] if len(keys) > 1 else ""
        found = likeness(scalar.value, key, above=above)
        if found is not None:
            if any(word.lower() in _WRITTEN for word in keys):
                yield Passed(scalar.start, _OUTPUT)
            else:
                offset, words = found
                span = span_of(text, scalar)
                start = span[0] + offset if span is not None else scalar.start
                yield unknown(start, words, where)
        elif where.rpartition(".")[2] == "image" and is_bare_image(scalar):
            if any(word.lower() in _WRITTEN for word in keys):
                yield Passed(scalar.start, _OUTPUT)
            else:
                yield unknown(scalar.start, scalar.value, where)


def _pairs(document: Node, path: str, marked: set[int]) -> Iterator[Stray | Passed]:
    """Yield names of images whose tag has a separate key."""
    for node, keys, where in nodes(document, path):
        if not isinstance(node, Mapping) or {key.lower() for key in keys} & _SOURCES:
            continue
        tag = next((key for key, _ in node.items() if _last_word(key) == "tag"), None)
        held = node.get(tag) if tag is not None else None
        if tag is None or not isinstance(held, YamlScalar) or not held.is_text or "@" in held.value:
            continue
        if any(text_at(node, key) for key in _DIGESTS) or _touches(held, marked):
            continue
        for key, name in node.items():
            if (
                not isinstance(name, YamlScalar)
                or not is_bare_image(name)
                or _touches(name, marked)
            ):
                continue
            words = f"{name.value}:{held.value}"
            if _last_word(key) in _NAMING and likeness(words, "image") is not None:
                is_sure = is_image_key(key) or _holds_images(keys[-1] if keys else "")
                if "/" in name.value or is_sure:
                    yield unknown(held.start, words, join(where, tag))
                    yield Passed(name.start, "its tag has a separate key")
                    break


def _touches(scalar: YamlScalar, marked: set[int]) -> bool:
    return any(place in marked for place in range(scalar.start, scalar.end + 1))


def is_bare_image(scalar: YamlScalar) -> bool:
    """Whether the value of a key `image` is a name without tag, not a boolean, number or file."""
    value = scalar.value
    if not scalar.is_text or means_other(scalar) or not _LETTER.search(value):
        return False
    try:
        reference = Reference.parse(value)
    except InvalidReference:
        return False
    is_file = value.endswith(_FILES)
    return reference.tag is None and reference.digest is None and not is_file


def unknown(start: int, words: str, path: str) -> Stray:
    """Return the report of an image below an unknown key."""
    hint = "pin it by hand, or write `# resolver: ignore` above it if it is not an image"
    return Stray(start, words, path, f"unknown key `{path}`", hint, is_unknown=True)


def _named_at(mark: ImageSpot | Stray | Passed) -> int:
    return mark.slot.start if isinstance(mark, ImageSpot) else mark.start


def _near(starts: list[int], scalar: YamlScalar) -> list[int]:
    return starts[bisect_left(starts, scalar.start) : bisect_right(starts, scalar.end)]


def values(document: Node, path: str = "") -> Iterator[tuple[YamlScalar, tuple[str, ...], str]]:
    """Yield every scalar value with the keys above it and its path, each once."""
    for node, keys, where in nodes(document, path):
        if isinstance(node, YamlScalar):
            yield node, keys, where


def nodes(document: Node, path: str = "") -> Iterator[tuple[Node, tuple[str, ...], str]]:
    """Yield each value once, with its path and the keys above it, of parameters also the name."""
    waiting: list[tuple[Node, tuple[str, ...], str]] = [(document, (), path)]
    seen: set[int] = set()
    while waiting:
        node, keys, where = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node, keys, where
        if isinstance(node, Sequence):
            held = [(item, keys, f"{where}[{index}]") for index, item in enumerate(node.items)]
            waiting += reversed(held)
        elif isinstance(node, Mapping):
            named = text_at(node, "name")
            for name, value in reversed([*node.items()]):
                is_value = name in {"value", "default"} and named
                below = (*keys, name, named) if is_value else (*keys, name)
                waiting.append((value, below, join(where, name)))
