"""How results are told: answer to report to text; answer to plain values to JSON.

To add a format, write `render/<format>.py` and give it a row in `RENDERERS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from resolver.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.render.to_dict import Plain


class Renderer(NamedTuple):
    """One output format.

    Attributes:
        place: `module:function`, imported when this format is asked for.
        draws: `report` (facts and tables), `plain` (values), `word` (a digest, a reference), or
            `answer` (the answer itself).

    """

    name: str
    place: str
    draws: str


#: Every format there is, by its name on the command line.
RENDERERS = {
    row.name: row
    for row in (
        Renderer("table", "resolver.render.text:text", "report"),
        Renderer("markdown", "resolver.render.markdown:markdown", "report"),
        Renderer("html", "resolver.render.html.compare:html", "answer"),
        Renderer("json", "resolver.render.json:json", "plain"),
        Renderer("jsonl", "resolver.render.json:jsonl", "plain"),
        Renderer("yaml", "resolver.render.json:yaml", "plain"),
        Renderer("digest", "resolver.render.words:digest", "word"),
        Renderer("ref", "resolver.render.words:ref", "word"),
    )
}


def renderer(name: str) -> Renderer:
    """Look a format up.

    Raises:
        Usage: there is no such format.

    """
    row = RENDERERS.get(name)
    if row is None:
        raise Usage(f"there is no format `{name}`", f"choose one of {', '.join(RENDERERS)}")
    return row


def prepare(name: str) -> None:
    """Load what a format needs, before anything is asked of anybody.

    A process that may open few files might not be able to load it later.

    Raises:
        Usage: there is no such format.
    """
    row = renderer(name)
    _load(row)
    if row.draws in {"report", "plain"}:
        import_module(
            "resolver.render.report" if row.draws == "report" else "resolver.render.to_dict"
        )


def render(
    answer: object,
    form: str,
    *,
    explain: bool = False,
    full: bool = False,
    width: int | None = None,
    clean: Callable[[str], str] = str,
) -> str:
    """Tell one answer in one format; ends with a line break.

    Tables are fitted to `width` columns, that of a terminal; None shows every cell whole. What
    errors, warnings and tools said goes through `clean`.
    """
    return "".join(tell_pieces(answer, form, explain=explain, full=full, width=width, clean=clean))


def tell_pieces(
    answer: object,
    form: str,
    *,
    explain: bool = False,
    full: bool = False,
    width: int | None = None,
    clean: Callable[[str], str] = str,
) -> Iterator[str]:
    """Tell an answer as `tell` does; a long document comes in pieces, and never is whole."""
    row = renderer(form)
    if row.draws == "plain":
        from resolver.render.json import pieces  # noqa: PLC0415 - for these formats alone
        from resolver.render.to_dict import cleaned, to_dict  # noqa: PLC0415

        yield from pieces(cleaned(to_dict(answer, explain=explain), clean), form)
    elif row.draws == "word":
        yield _load(row)(answer)
    elif row.draws == "answer":
        yield _load(row)(answer, explain=explain, full=full)
    else:
        from resolver.render.report import report  # noqa: PLC0415 - for these formats alone

        drawn = report(answer, explain=explain, full=full or form == "markdown", clean=clean)
        if form == "markdown":
            yield _load(row)(drawn)
        else:
            yield _load(row)(drawn, width=None if full else width)


def render_values(value: Plain, form: str) -> str:
    """Tell plain values in JSON, JSON lines or YAML."""
    return _load(renderer(form))(value)


def _load(row: Renderer) -> Callable[..., str]:
    module, _, function = row.place.partition(":")
    loaded: Callable[..., str] = getattr(import_module(module), function)
    return loaded
