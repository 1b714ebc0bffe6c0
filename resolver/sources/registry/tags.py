"""List tags page by page (docs/wire-protocol.md, "Tag lists")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.parse.json import kind_of, read_array, read_object
from resolver.core.results.events import Warned
from resolver.errors import BadDocument, LimitExceeded, ServerFault
from resolver.sources.http.urls import BadUrl
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.core.results.events import Observer
    from resolver.sources.http.messages import Response

#: ECR refuses more; distribution caps silently and sends a Link.
PAGE_SIZE = 1_000
#: See docs/store-and-reliability.md, "Size limits".
MAX_PAGES, MAX_TAGS = 1_000, 1_000_000
#: Most bytes of all names: a million of 25.
MAX_NAMES = 24 * 1024 * 1024
#: Most consecutive pages without a tag; servers that filter may send some.
MAX_EMPTY_PAGES = 100
#: Most bytes of one page: GCR sends everything in one, with additional maps.
MAX_PAGE = 32 * 1024 * 1024
#: Largest page parsed as a whole, in bytes: a parsed document takes up to forty times its size.
MAX_WHOLE = 1024 * 1024

_TAG = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TARGET = pattern(r"[ \t,]*+(?:<([^<>]*+)>|([^<>;, \t]++))")
_PARAMETER = pattern(
    r'[ \t]*+;[ \t]*+([A-Za-z0-9*_-]*+)(?:[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^;,"]*+)))?'
)
_MAX_LINK = 16_384
_OK, _FIRST_ERROR, _FIRST_FAULT = 200, 400, 500


@dataclass(frozen=True, slots=True)
class TagPages:
    """The tag list of one repository.

    Attributes:
        ask: sends path and query; returns a response of any status.
        refuse: returns the error for an error response.
        api: path prefix of the registry's API.
    """

    name: str
    path: str
    ask: Callable[[str], Response]
    refuse: Callable[[Response], Exception]
    observe: Observer
    api: str = "/v2"

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tags, each once, in the registry's order; pages are requested on demand.

        Raises:
            BadDocument, ServerFault: a page is not a tag list, or links elsewhere.
            LimitExceeded: the list is too long.
        """
        # Keep only hashes: even those of a million tags take a hundred megabytes.
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
            # Artifactory and Nexus link to paths of their own (docs/wire-protocol.md, "Next page
            # links").
            response = self.ask(f"{self.path}?{query}")
        if response.status != _OK:
            raise self.refuse(response)
        return response

    def _tags(self, response: Response) -> Iterator[str]:
        """Parse one page; skip invalid tags with a warning."""
        what = f"the list of tags of `{self.name}`"
        kind = (response.headers.content_type or "").lower()
        if response.headers.encoded is not None:
            raise ServerFault(f"{what} came compressed, which was not asked for")
        if "json" not in kind and not response.body.lstrip().startswith(b"{"):
            raise ServerFault(
                f"`{response.url.authority}` answered with something other than a tag list",
                "it may be a login page or a proxy's page",
            )
        dropped = 0
        for position, tag in enumerate(_listed(response.body, what)):
            if position >= MAX_TAGS:
                raise LimitExceeded(f"the tags of `{self.name}`", MAX_TAGS, position + 1, "tags")
            if tag is not None and not isinstance(tag, str):
                raise BadDocument(what, f"tags[{position}]", f"must be text, not {kind_of(tag)}")
            # Nexus lists null, Artifactory digests.
            if tag is None or not _TAG.fullmatch(tag):
                dropped += 1
            else:
                yield tag
        if dropped:
            self._warn(f"`{self.name}` lists {dropped} invalid tags; they are skipped")

    def _warn(self, message: str) -> None:
        self.observe(Warned("tags", message))


def _listed(body: bytes, what: str) -> Iterable[object]:
    """Return the elements of `tags`, unchecked."""
    if len(body) > MAX_WHOLE:
        return read_array(body, "tags", what)
    tags = read_object(body, what).get("tags")
    if tags is not None and not isinstance(tags, list):
        raise BadDocument(what, "tags", f"must be an array, not {kind_of(tags)}")
    return tags or ()


def next_page(response: Response, what: str, api: str = "/v2") -> str | None:
    """Return path and query of the next page; None at the end.

    Args:
        response: a page of a list.
        what: the list, for messages: "the tags of `ubuntu`".
        api: path prefix of the registry's API.

    Raises:
        ServerFault: it is on another host or outside the registry's API.
    """
    link = next_link(response.headers.all("link"))
    if link is None:
        return None
    try:
        url = response.url.join(link)
    except BadUrl as error:
        raise _bad_link(what, str(error)) from error
    # A redirected list may continue at the redirect target; it is requested here again.
    if url.origin not in (response.registry.origin, response.url.origin):
        raise _bad_link(what, f"it is at `{url.authority}`")
    # HTTP libraries treat `%2e%2e` as `..`.
    segments = url.path.lower().replace("%2e", ".").split("/")
    if not url.path.startswith(f"{api}/") or {".", ".."}.intersection(segments):
        raise _bad_link(what, "it is outside of the registry's API")
    return url.target


def _bad_link(what: str, reason: str) -> ServerFault:
    return ServerFault(
        f"the next page of {what} is not asked for: {reason}",
        "the registry, or a proxy in front of it, sends wrong links",
    )


def next_link(values: Iterable[str]) -> str | None:
    """Find the target of `rel="next"` in `Link` header lines; None when there is none.

    Accepts several links per line, other parameters before `rel`, an unquoted `next`, and a target
    without angle brackets, as old Quay sent it. Grammar: RFC 8288, section 3.
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
