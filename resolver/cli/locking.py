"""What `resolver lock` is to do, and how it is told."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Self

import typer

from resolver.errors import Drifted, ResolverError, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.output import Output
    from resolver.core.answer import Failure
    from resolver.core.drift import LockCheck
    from resolver.core.lock import Locked


class Task(Enum):
    """The things that `lock` does, by the option that asks for it; none adds references."""

    ADD = ""
    CHECK = "--check"
    UPDATE = "--update"
    REMOVE = "--remove"

    @classmethod
    def of(cls, *, check: bool, update: bool, remove: bool) -> Self:
        """Read the options.

        Raises:
            Usage: two of them.

        """
        given = {cls.CHECK: check, cls.UPDATE: update, cls.REMOVE: remove}
        chosen = [task for task, asked in given.items() if asked]
        if len(chosen) > 1:
            words = " and ".join(f"`{task.value}`" for task in chosen)
            raise Usage(f"{words} do not go together", "run one, then the other")
        return chosen[0] if chosen else cls.ADD

    def refuse_without(self, names: Sequence[str]) -> None:
        """Refuse a task that needs a name and has none.

        Raises:
            Usage: as said.

        """
        if not names and self is Task.ADD:
            raise Usage(
                "there is no reference to lock",
                "name one: `resolver lock ubuntu:24.04`; or look all of them up again with "
                "`resolver lock --update`",
            )
        if not names and self is Task.REMOVE:
            raise Usage(
                "there is no reference to take out", "name one: `resolver lock --remove REF`"
            )


def tell_locked(output: Output, form: str, done: Locked, *, full: bool) -> None:
    """Tell what was locked; if a reference could not be looked up, that is the end."""
    from resolver.render import tell

    output.warnings(done.warnings)
    output.answer(tell(done, form, full=full))
    _end_with(output, done.failures)


def tell_check(output: Output, form: str, found: LockCheck, *, full: bool) -> None:
    """Tell what has moved. What could not be found out outweighs what has moved."""
    from resolver.render import tell

    output.warnings(found.warnings)
    if len(found.failures) == 1 and len(found.images) == 1:
        raise found.failures[0].error
    output.answer(tell(found, form, full=full))
    _end_with(output, found.failures)
    if found.drifted:
        moved = sum(getattr(image, "drifted", False) for image in found.images)
        refusal = Drifted(found.path, moved, len(found.images))
        output.failed(refusal)
        raise typer.Exit(refusal.kind.status)


def _end_with(output: Output, failures: Sequence[Failure]) -> None:
    worst = 0
    for failure in failures:
        if not isinstance(failure.error, ResolverError):
            raise failure.error
        output.failed(failure.error)
        worst = max(worst, failure.error.kind.status)
    if worst:
        raise typer.Exit(worst)
