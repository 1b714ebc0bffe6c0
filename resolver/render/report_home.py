"""Reports about this machine: logins, and what it is set up with."""

from __future__ import annotations

from resolver.core.login import LoggedIn, LoggedOut
from resolver.render.report import Report


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
        case _:
            raise AssertionError(answer)


def _logged_out(answer: LoggedOut) -> tuple[str, ...]:
    if not answer.places:
        return (f"Not logged in to {answer.registry}",)
    return tuple(f"Removed the login for {answer.registry} from {place}" for place in answer.places)
