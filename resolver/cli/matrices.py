"""Telling a matrix: in the form of a CI system, or in one of the shared formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.options import Common

_DEFAULT, _TABLE = "github", "table"


def tell_jobs(
    common: Common,
    reference: str,
    platforms: Sequence[str],
    system: str | None,
    runners: Sequence[str],
    *,
    require_runner: bool,
    index_only: bool,
) -> None:
    """Make the matrix and print it; `--format` is for people, `--for` for a CI system."""
    from resolver.cli.inputs import split_platforms
    from resolver.cli.work import work
    from resolver.render.matrix import tell_matrix

    if system is not None and common.form != _TABLE:
        raise Usage(
            f"`--for {system}` and `--format {common.form}` are two forms of one answer",
            "give one of them",
        )
    wanted = [text for text in split_platforms(list(platforms)) if text != "all"]
    with work(common) as (session, output):
        found = session.matrix(
            reference,
            wanted,
            system=system or _DEFAULT,
            runners=runners,
            require_runner=require_runner,
            index_only=index_only,
        )
        output.warnings(found.warnings)
        if common.form != _TABLE:
            output.tell(found, common.form)
            return
        output.keep(found)
        output.answer(tell_matrix(found))
