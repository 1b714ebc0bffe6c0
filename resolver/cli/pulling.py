"""What `resolver plan` and `resolver pull` ask for, read from their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import typer

from resolver.cli.amounts import size
from resolver.cli.inputs import split_platforms
from resolver.core.answer import Failure
from resolver.errors import PlanTooLarge, ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.output import Output
    from resolver.core.answer import Resolution
    from resolver.core.plan import Plan
    from resolver.core.pulled import Pulled
    from resolver.session import Session


@dataclass(frozen=True, slots=True)
class Asked:
    """Images and platforms, and where content may come from besides their registries.

    Attributes:
        platforms: as typed, comma lists taken apart; empty where nothing was typed.

    """

    references: tuple[str, ...]
    platforms: tuple[str, ...]
    places: tuple[str, ...]
    exact: bool
    foreign: bool
    attestations: bool = True
    referrers: bool = False

    @classmethod
    def of(
        cls,
        references: list[str],
        platforms: list[str] | None,
        places: list[str] | None,
        *,
        exact: bool,
        foreign: bool,
        attestations: bool = True,
        referrers: bool = False,
    ) -> Self:
        """Read everything that can be read before anybody is asked.

        Raises:
            Malformed: a platform list cannot be read.

        """
        return cls(
            tuple(dict.fromkeys(references)),
            tuple(split_platforms(platforms or [])),
            tuple(places or ()),
            exact,
            foreign,
            attestations,
            referrers,
        )


def make_plan(session: Session, output: Output, asked: Asked, lock_file: str | None = None) -> Plan:
    """Ask the session, or a lock, what is meant, and tell what a person should know."""
    typed = list(asked.platforms)
    if not typed and session.settings.platform:
        typed = split_platforms([session.settings.platform])
    references: Sequence[str | Resolution] = asked.references
    if lock_file is not None:
        references = _locked(session, output, asked, typed, lock_file)
    found = session.plan(
        references,
        typed or (None,),
        exact=asked.exact,
        places=asked.places,
        foreign=asked.foreign,
        attestations=asked.attestations,
        referrers=asked.referrers,
    )
    for image in found.entries:
        output.warnings(image.warnings)
    return found


def _locked(
    session: Session, output: Output, asked: Asked, typed: list[str], lock_file: str
) -> list[Resolution]:
    """Look up in a lock what is meant.

    Raises:
        NotLocked: one of them is not there, or not for a platform.

    """
    found: list[Resolution] = []
    answers = session.by_lock(lock_file)
    for answer in answers.resolve_each(asked.references, typed or (None,), exact=asked.exact):
        if isinstance(answer, Failure):
            raise answer.error
        output.warnings(answer.warnings)
        found.append(answer)
    # `all` is every entry of the index that was locked, whichever answer names it.
    return list({each.reference: each for each in found}.values()) if "all" in typed else found


def tell_failures(output: Output, done: Pulled) -> None:
    """Say which images could not be had; the worst of it is the status."""
    worst = 0
    for failure in done.failures:
        if not isinstance(failure.error, ResolverError):
            raise failure.error
        output.failed(failure.error)
        worst = max(worst, failure.error.kind.status)
    if worst:
        raise typer.Exit(worst)


def limit(max_download: str | None) -> int | None:
    """Read `--max-download`, in bytes.

    Raises:
        Usage: it is no size.

    """
    return size(max_download, "--max-download") if max_download is not None else None


def too_large(found: Plan, most: int | None) -> PlanTooLarge | None:
    """Say that a plan costs more than somebody wants to pay; None if it does not."""
    missing = found.bytes_missing
    return PlanTooLarge(missing, most) if most is not None and missing > most else None


def tell_unpacked(session: Session, output: Output, plan: Plan) -> None:
    """Say what of a plan a Docker engine here has already; in passing, for it changes nothing."""
    from resolver.render.units import megabytes

    layers = session.unpacked(plan)
    if layers:
        size = megabytes(sum(layer.size for layer in layers))
        output.note(
            f"Docker on this machine has {len(layers)} of these layers unpacked ({size}); "
            "it gives none of them back, so they are fetched for the store all the same"
        )
