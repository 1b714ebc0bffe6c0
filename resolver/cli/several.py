"""One verb, several things, one after the other: each is told, and the worst status is the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from resolver.core.answer import Failure
from resolver.errors import ResolverError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolver.cli.output import Output


def several(output: Output, form: str, items: Sequence[str], act: Callable[[str], object]) -> None:
    """Do it to each; a failure is told in its place, and the others keep their turn."""
    from resolver.cli.output import page_width, presentable
    from resolver.render import renderer, tell, tell_values
    from resolver.render.plain import SCHEMA, cleaned, plain

    collected = []
    worst = 0
    for item in dict.fromkeys(items):
        try:
            answer = act(item)
        except ResolverError as error:
            output.failed(error)
            worst = max(worst, error.kind.status)
            answer = Failure(item, None, error)
        output.keep(answer)
        if renderer(form).draws == "plain" and form != "jsonl":
            collected.append(cleaned(plain(answer), presentable))
        elif form == "jsonl" or not isinstance(answer, Failure):
            output.answer(tell(answer, form, width=page_width(), clean=presentable))
    if collected:
        one = len(items) == 1
        value = collected[0] if one else {"schema": SCHEMA, "results": collected}
        output.answer(tell_values(value, form))
    if worst:
        raise typer.Exit(worst)
