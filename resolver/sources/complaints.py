"""What a server says about its refusal, fit to be shown (protocol.md 3, reliability.md R15)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.strict_json import read_object
from resolver.errors import ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.sources.exchange import Headers
    from resolver.sources.redaction import Redactor

#: Characters of remote text that a message repeats.
MAX_SHOWN = 512
_MAX_CODE = 64
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,300})", re.IGNORECASE)
#: Fields in which registries and token servers put their words, best first.
_FIELDS = ("message", "details", "error_description", "error", "detail")


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error's body.

    Attributes:
        codes: upper-case, as far as the distribution API's form was kept.
        text: at most 512 printable characters, without secrets; empty when nothing was said.

    """

    codes: tuple[str, ...] = ()
    text: str = ""


def read_complaint(body: bytes, headers: Headers, redactor: Redactor) -> Complaint:
    """Read the body of an error, whatever it is: JSON of several kinds, HTML, text or nothing."""
    try:
        document = read_object(body, "the error")
    except ResolverError:
        return Complaint(text=_plain(body, headers, redactor))
    entries = document.get("errors")
    errors = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    codes = tuple(
        one["code"][:_MAX_CODE].upper() for one in errors if isinstance(one.get("code"), str)
    )
    texts = [text for one in errors for text in _first_text(one)] or list(_first_text(document))
    return Complaint(
        codes, printable("; ".join(dict.fromkeys(texts)) or "; ".join(codes), redactor)
    )


def is_web_page(body: bytes, headers: Headers) -> bool:
    """Whether somebody answered a program with a page for people: a login, a captive portal.

    The type alone does not tell: there are registries that send JSON as `text/html`.
    """
    kind = (headers.content_type or "").partition(";")[0].strip().lower()
    first = body.lstrip()[:1]
    return first == b"<" or (kind == "text/html" and first != b"{")


def printable(text: str, redactor: Redactor) -> str:
    """Cut remote text to what fits a message: printable, one line, without secrets."""
    words = "".join(sign if sign.isprintable() else " " for sign in redactor.clean(text)).split()
    line = " ".join(words)
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def _first_text(entry: dict[str, object]) -> Iterator[str]:
    for name in _FIELDS:
        value = entry.get(name)
        if isinstance(value, str) and value.strip():
            yield value
            return


def _plain(body: bytes, headers: Headers, redactor: Redactor) -> str:
    text = body.decode("utf-8", "replace")
    if not is_web_page(body, headers):
        return printable(text, redactor)
    title = _TITLE.search(text)
    return printable(f"a web page, “{title[1]}”" if title else "a web page", redactor)
