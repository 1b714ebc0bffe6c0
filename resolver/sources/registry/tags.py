"""Listing tags, page by page, from registries that each do it their own way (protocol.md 5)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.parse.json import kind_of, read_array, read_object
from resolver.core.results.events import Warned
from resolver.errors import BadDocument, LimitExceeded, ServerFault
from resolver.sources.http.urls import BadUrl
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.core.results.pull_events import Observer
    from resolver.sources.http.requests import Response

#: ECR refuses more; distribution caps silently and sends a Link (quirks q-018, q-028).
PAGE_SIZE = 1_000
#: Source: reliability.md section 5.
MAX_PAGES, MAX_TAGS = 1_000, 1_000_000
#: Bytes of all names: people and programs keep the list. Ours: a million of 25.
MAX_NAMES = 24 * 1024 * 1024
#: Pages in a row without a tag; servers that filter may send some.
MAX_EMPTY_PAGES = 100
#: Bytes of one page: GCR sends everything in one, with maps beside (quirk q-040).
MAX_PAGE = 32 * 1024 * 1024
#: Bytes of a page that is read as a whole: parsed, a document takes up to forty times its size.
MAX_WHOLE = 1024 * 1024

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TARGET = re.compile(r"[ \t,]*+(?:<([^<>]*+)>|([^<>;, \t]++))")
_PARAMETER = re.compile(
    r'[ \t]*+;[ \t]*+([A-Za-z0-9*_-]*+)(?:[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^;,"]*+)))?'
)
_MAX_LINK = 16_384
_OK, _FIRST_ERROR, _FIRST_FAULT = 200, 400, 500


@dataclass(frozen=True, slots=True)
class TagPages:
    """One repository's list, and how to ask for a page of it.

    Attributes:
        ask: takes path and query, gives an answer of any status.
        refuse: turns an answer that is an error into what to raise.
        api: where the registry's API begins.
    """

    name: str
    path: str
    ask: Callable[[str], Response]
    refuse: Callable[[Response], Exception]
    observe: Observer
    api: str = "/v2"

    def __iter__(self) -> Iterator[str]:
        """Give every tag once, in the registry's order, asking for a page when it is needed.

        Raises:
            BadDocument, ServerFault: a page is no list of tags, or leads somewhere else.
            LimitExceeded: there is no end in sight.
        """
        # Of a tag only its hash is kept: a million of them are a hundred megabytes as it is.
        seen: set[int] = set()
        size = 0
        targets = {target := f"{self.path}?n={PAGE_SIZE}"}
        empty = 0
        for _ in range(MAX_PAGES):
            response = self._page(target)
            count = len(seen)
            for tag in self._tags(response):
                if (mark := hash(tag)) in seen:
                    continue
                seen.add(mark)
                if len(seen) > MAX_TAGS:
                    raise LimitExceeded(f"the tags of `{self.name}`", MAX_TAGS, len(seen), "tags")
                size += len(tag)
                if size > MAX_NAMES:
                    raise LimitExceeded(f"the names of all tags of `{self.name}`", MAX_NAMES, size)
                yield tag
            following = next_page(response, f"the tags of `{self.name}`", self.api)
            if following is None:
                return
            empty = empty + 1 if len(seen) == count else 0
            if following in targets or empty > MAX_EMPTY_PAGES:
                self._warn(f"`{self.name}` has pages of tags that lead in a circle; stopped")
                return
            targets.add(target := following)
        raise LimitExceeded(f"the list of tags of `{self.name}`", MAX_PAGES, "more", "pages")

    def _page(self, target: str) -> Response:
        response = self.ask(target)
        path, _, query = target.partition("?")
        if _FIRST_ERROR <= response.status < _FIRST_FAULT and path != self.path:
            # Artifactory and Nexus write links to paths of their own (quirks q-060, q-066).
            response = self.ask(f"{self.path}?{query}")
        if response.status != _OK:
            raise self.refuse(response)
        return response

    def _tags(self, response: Response) -> Iterator[str]:
        """Read one page; what is no tag is left out, and said."""
        what = f"the list of tags of `{self.name}`"
        kind = (response.headers.content_type or "").lower()
        if response.headers.encoded is not None:
            raise ServerFault(f"{what} came compressed, which was not asked for")
        if "json" not in kind and not response.body.lstrip().startswith(b"{"):
            raise ServerFault(
                f"`{response.url.authority}` answered with something that is no list of tags",
                "it may be the page of a login or of a proxy",
            )
        dropped = 0
        for position, tag in enumerate(_listed(response.body, what)):
            if position >= MAX_TAGS:
                raise LimitExceeded(f"the tags of `{self.name}`", MAX_TAGS, position + 1, "tags")
            if tag is not None and not isinstance(tag, str):
                raise BadDocument(what, f"tags[{position}]", f"must be text, not {kind_of(tag)}")
            # Nexus lists null, Artifactory digests (quirks q-065, q-061).
            if tag is None or not _TAG.fullmatch(tag):
                dropped += 1
            else:
                yield tag
        if dropped:
            self._warn(f"`{self.name}` lists {dropped} names that are no tags; they are left out")

    def _warn(self, message: str) -> None:
        self.observe(Warned("tags", message))


def _listed(body: bytes, what: str) -> Iterable[object]:
    """Give the elements of `tags`, not checked yet.

    Raises:
        BadDocument: the body is no object, or its `tags` no array.
        LimitExceeded: it is nested too deep.
    """
    if len(body) > MAX_WHOLE:
        return read_array(body, "tags", what)
    tags = read_object(body, what).get("tags")
    if tags is not None and not isinstance(tags, list):
        raise BadDocument(what, "tags", f"must be an array, not {kind_of(tags)}")
    return tags or ()


def next_page(response: Response, what: str, api: str = "/v2") -> str | None:
    """Give path and query of the page after this one, the registry's own words; None at the end.

    Args:
        response: a page of a list.
        what: the list, for messages: "the tags of `ubuntu`".
        api: where the registry's API begins.

    Raises:
        ServerFault: it leads to another host, or out of the registry's API.
    """
    link = next_link(response.headers.all("link"))
    if link is None:
        return None
    try:
        url = response.url.join(link)
    except BadUrl as error:
        raise _misled(what, str(error)) from error
    # A redirected list may go on where the redirect led; it is asked for here again.
    if url.origin not in (response.registry.origin, response.url.origin):
        raise _misled(what, f"it is at `{url.authority}`")
    # HTTP libraries take `%2e%2e` for `..`, and go there.
    segments = url.path.lower().replace("%2e", ".").split("/")
    if not url.path.startswith(f"{api}/") or {".", ".."}.intersection(segments):
        raise _misled(what, "it is outside of the registry's API")
    return url.target


def _misled(what: str, reason: str) -> ServerFault:
    return ServerFault(
        f"the next page of {what} is not asked for: {reason}",
        "the registry, or a proxy in front of it, writes wrong links",
    )


def next_link(values: Iterable[str]) -> str | None:
    """Find the target of `rel="next"` in `Link` header lines; None when there is none.

    Takes several links per line, other parameters before `rel`, a `next` without quotes, and a
    target without its angle brackets, as old Quay wrote it. Grammar: RFC 8288, section 3.
    """
    for line in values:
        if len(line) > _MAX_LINK:
            continue
        at = 0
        while found := _TARGET.match(line, at):
            at = found.end()
            relations: list[str] = []
            while parameter := _PARAMETER.match(line, at):
                at = parameter.end()
                value = parameter[2] if parameter[2] is not None else parameter[3] or ""
                if parameter[1].lower() == "rel":
                    relations += value.lower().split()
            if "next" in relations:
                return found[1] if found[1] is not None else found[2]
    return None
