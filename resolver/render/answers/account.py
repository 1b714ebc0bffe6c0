"""Logins, search results, quotas and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.registry.tags import Tags
from resolver.core.results.account import Hits, LoggedIn, LoggedOut, Quota, Repositories
from resolver.render.report import Report, ReportTable
from resolver.render.text import escape

if TYPE_CHECKING:
    from resolver.render.to_dict import Plain


def report(answer: object, *, explain: bool, full: bool) -> Report:
    """Turn an answer into a report."""
    del explain, full
    match answer:
        case LoggedIn():
            line = (
                f"Login Succeeded: {answer.username} at {answer.registry}, stored in {answer.place}"
            )
            return Report(answer.registry, (), lines=(line,))
        case LoggedOut():
            return Report(answer.registry, (), lines=_logged_out(answer))
        case Hits():
            return Report(answer.term, (), (_hits(answer),))
        case Repositories():
            rows = tuple((name,) for name in answer.names)
            return Report(answer.registry, (), (ReportTable("repositories", ("name",), rows),))
        case Quota():
            return Report(answer.registry, _quota(answer))
        case Tags():
            rows = tuple((name,) for name in answer.names)
            return Report(answer.repository, (), (ReportTable("tags", ("tag",), rows),))
        case _:
            raise AssertionError(answer)


def _logged_out(answer: LoggedOut) -> tuple[str, ...]:
    if not answer.places:
        return (f"Not logged in to {answer.registry}",)
    return tuple(f"Removed the login for {answer.registry} from {place}" for place in answer.places)


def _hits(answer: Hits) -> ReportTable:
    """List results with the columns of Docker; a catalog has only names."""
    if answer.by == "catalog":
        return ReportTable("repositories", ("name",), tuple((hit.name,) for hit in answer.hits))
    rows = tuple(
        (
            hit.name,
            " ".join(hit.description.split()),
            str(hit.stars) if hit.stars is not None else "-",
            "[OK]" if hit.is_official else "",
        )
        for hit in answer.hits
    )
    columns = ("name", "description", "stars", "official")
    return ReportTable("found", columns, rows, frozenset({"stars"}), whole=frozenset({"name"}))


def _quota(answer: Quota) -> tuple[tuple[str, str], ...]:
    if answer.limit is None and answer.remaining is None:
        return (("registry", answer.registry), ("limit", "not reported"))
    hours = f" in {answer.window / 3600:g} h" if answer.window else ""
    facts = [
        ("registry", answer.registry),
        ("limit", f"{answer.limit if answer.limit is not None else '-'} pulls{hours}"),
        ("left", f"{answer.remaining if answer.remaining is not None else '-'}"),
    ]
    if answer.source:
        facts.append(("counted", f"for {answer.source}"))
    return tuple(facts)


def plain(answer: object) -> Plain:
    """Turn an answer into plain values, without secrets."""
    match answer:
        case LoggedIn():
            return {
                "registry": answer.registry,
                "username": answer.username,
                "place": answer.place,
                "verified": answer.verified,
            }
        case LoggedOut():
            return {"registry": answer.registry, "places": list(answer.places)}
        case Hits():
            return {
                "term": answer.term,
                "registry": answer.registry,
                "by": answer.by,
                "hits": [
                    {
                        "name": hit.name,
                        "description": escape(hit.description),
                        "stars": hit.stars,
                        "official": hit.is_official,
                    }
                    for hit in answer.hits
                ],
            }
        case Repositories():
            return {
                "registry": answer.registry,
                "prefix": answer.prefix or None,
                "repositories": list(answer.names),
            }
        case Quota():
            return {
                "registry": answer.registry,
                "limit": answer.limit,
                "remaining": answer.remaining,
                "window": answer.window,
                "source": answer.source,
            }
        case Tags():
            return {"repository": answer.repository, "tags": list(answer.names)}
        case _:
            raise AssertionError(answer)
