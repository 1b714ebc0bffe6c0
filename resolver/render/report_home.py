"""Reports about this machine: logins, and what it is set up with."""

from __future__ import annotations

from resolver.core.found import Hits, Quota
from resolver.core.login import LoggedIn, LoggedOut
from resolver.render.report import Report, Table


def report(answer: object, *, explain: bool, full: bool) -> Report:
    """Turn an answer into a report."""
    del explain, full
    match answer:
        case LoggedIn():
            line = (
                f"Login Succeeded: {answer.username} at {answer.registry}, kept in {answer.place}"
            )
            return Report(answer.registry, (), lines=(line,))
        case LoggedOut():
            return Report(answer.registry, (), lines=_logged_out(answer))
        case Hits():
            return Report(answer.term, (), (_hits(answer),))
        case Quota():
            return Report(answer.registry, _quota(answer))
        case _:
            raise AssertionError(answer)


def _logged_out(answer: LoggedOut) -> tuple[str, ...]:
    if not answer.places:
        return (f"Not logged in to {answer.registry}",)
    return tuple(f"Removed the login for {answer.registry} from {place}" for place in answer.places)


def _hits(answer: Hits) -> Table:
    """Draw Docker's own columns; a catalog knows names alone."""
    if answer.by == "catalog":
        return Table("repositories", ("name",), tuple((hit.name,) for hit in answer.hits))
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
    return Table("found", columns, rows, frozenset({"stars"}), whole=frozenset({"name"}))


def _quota(answer: Quota) -> tuple[tuple[str, str], ...]:
    if answer.limit is None and answer.remaining is None:
        return (("registry", answer.registry), ("limit", "none is said"))
    hours = f" in {answer.window / 3600:g} h" if answer.window else ""
    facts = [
        ("registry", answer.registry),
        ("limit", f"{answer.limit if answer.limit is not None else '-'} pulls{hours}"),
        ("left", f"{answer.remaining if answer.remaining is not None else '-'}"),
    ]
    if answer.source:
        facts.append(("counted", f"for {answer.source}"))
    return tuple(facts)
